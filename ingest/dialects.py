"""The head of a file to its `Dialect`: delimiter, quote, line end; and to its records under a dialect.

What is decided here is proved later, when every record of the file is split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest import quoting
from ingest.model import Dialect, Told

RECORDS_COMPARED = 50
"""Records whose field counts decide on the delimiter."""

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is read of a file to decide."""

    data: bytes  #: from the file's first byte, decoded
    first: int  #: offset of the first line with anything on it, after a byte order mark
    whole: bool  #: nothing comes after it


def find(head: Head, told: Told) -> Dialect | None:
    """The dialect of a file; None if its first record goes on after the head."""
    best: tuple[tuple[float, int, bool], Dialect] | None = None
    complete: list[bytes] = []
    for delimiter in DELIMITERS:
        if delimiter != "," and delimiter.encode() not in head.data:
            continue
        dialect = Dialect(delimiter=delimiter)
        found = records(head, dialect)
        if not found:
            continue
        if delimiter == ",":
            complete = found
        score = _score(found[: RECORDS_COMPARED + 1], dialect)
        dialect = replace(dialect, line_end=_line_end(found))
        if score is not None and (best is None or score > best[0]):
            best = (score, dialect)
    if best is not None:
        return best[1]
    return Dialect(line_end=_line_end(complete)) if complete else None


def records(head: Head, dialect: Dialect) -> list[bytes]:
    """The complete records of a head, with their line ends, without blank lines."""
    data = head.data[head.first :]
    return _quoted_records(data, dialect, head.whole) if b'"' in data else _plain_records(data, head.whole)


def _plain_records(data: bytes, whole: bool) -> list[bytes]:
    """The complete records of a head without a quote, with their line ends, without blank lines."""
    lines = data.splitlines(keepends=True)
    if not whole and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [line for line in lines if line.rstrip(quoting.LINE_ENDS)]


def _quoted_records(data: bytes, dialect: Dialect, whole: bool) -> list[bytes]:
    """The complete records of a head by the exact rules, with their line ends, without blank lines."""
    found: list[bytes] = []
    position = 0
    for record in quoting.walk(data, dialect, final=whole):
        found += data[position : record.start].splitlines(keepends=True)
        if record.end is None:
            position = len(data)
            break
        found.append(data[record.start : record.end])
        position = record.end
    rest = data[position:].splitlines(keepends=True)
    if rest and not whole and not rest[-1].endswith(b"\n"):
        rest.pop()
    return [record for record in found + rest if record.rstrip(quoting.LINE_ENDS)]


def _score(records: list[bytes], dialect: Dialect) -> tuple[float, int, bool] | None:
    """How well a delimiter explains the records: the share with as many fields as the header, and how many those are.

    None where it explains nothing: one field in the header, or hardly a record that is split by it at all.
    """
    counts = [len(quoting.fields(record.rstrip(quoting.LINE_ENDS), dialect) or ()) for record in records]
    width, body = counts[0], counts[1:]
    if width < 2:
        return None
    if not body:
        return 1.0, width, dialect.delimiter == ","
    same = sum(count == width for count in body) / len(body)
    split = sum(count > 1 for count in body) / len(body)
    return (same, width, dialect.delimiter == ",") if split >= 0.5 else None


def _line_end(records: list[bytes]) -> str:
    feeds = [record for record in records if record.endswith(b"\n")]
    if feeds:
        return "\r\n" if all(record.endswith(b"\r\n") for record in feeds) else "\n"
    return "\r" if records[0].endswith(b"\r") else "\n"
