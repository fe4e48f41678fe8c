"""What was left out of files, in numbers and in words. Finds nothing of it itself: `framing` and `reader` do."""

from __future__ import annotations

import json

from ingest.model import Discard, Discards

_WORDS = {
    Discard.PREAMBLE: ("line before the header", "lines before the header"),
    Discard.COMMENT: ("comment line", "comment lines"),
    Discard.HEADER: ("repeated header", "repeated headers"),
    Discard.TABLE: ("line of a second table", "lines of a second table"),
    Discard.FOOTER: ("line of a footer", "lines of a footer"),
}


def together(*parts: Discards) -> Discards:
    """The sums of what several places left out."""
    if not any(parts):
        return {}  # as of nearly every file, of which there may be many
    return {kind: count for kind in Discard if (count := sum(part.get(kind, 0) for part in parts))}


def told(discarded: int, discards: Discards) -> str:
    """`3 lines before the header, 1 repeated header`; what is in no kind was left out at the user's request."""
    kinds = together(discards)  # in the order in which they come in a file
    words = [f"{count:,} {_WORDS[kind][count != 1]}" for kind, count in kinds.items()]
    if own := discarded - sum(kinds.values()):
        words.append(f"{own:,} {'record' if own == 1 else 'records'} at your request")
    return ", ".join(words)


def written(discards: Discards) -> str | None:
    """As the ledger keeps it: JSON, NULL where nothing was left out."""
    return json.dumps(together(discards)) if discards else None


def read(text: str | None) -> Discards:
    """As the ledger has it; a kind that this program does not know is left out."""
    if not text:
        return {}
    known = {kind.value: kind for kind in Discard}
    return {known[name]: count for name, count in json.loads(text).items() if name in known}
