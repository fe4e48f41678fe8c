"""How the characters of a file are written: found by its first bytes or told, decoded to UTF-8, offered in a refusal.

Nothing is guessed in silence: what neither is UTF-8, nor has a byte order mark, nor shows two or four bytes a character
by its zeros, is refused, and what it looks like is only offered.
"""

from __future__ import annotations

import codecs
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ingest.errors import SourceError
from ingest.model import UTF8, Reason, Source

UTF8_BOM = b"\xef\xbb\xbf"
# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (UTF8_BOM, UTF8),
)
_WIDE = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""Encodings whose byte order the file tells by its mark or its zeros; where it does not: that of most machines."""


class Undecodable(Exception):
    """A byte that is not of the encoding: how many come before it, and which it is."""

    def __init__(self, at: int, byte: int | None) -> None:
        super().__init__(at, byte)
        self.at = at
        self.byte = byte  #: None: the file ends in the middle of a character


# finding ----------------------------------------------------------------------------------------------------------


def find(source: Source, head: bytes, told: str | None) -> str:
    """The encoding of a file by its first bytes, or the one told, with the byte order where there are two.

    Raises `SourceError` with `ENCODING` where a byte order mark contradicts what was told.
    """
    mark = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if told is None:
        return mark or _by_zeros(head) or UTF8
    if told in _WIDE and (mark is None or mark.startswith(told)):
        found = mark or _by_zeros(head)
        return found if found is not None and found.startswith(told) else _WIDE[told]
    if mark is not None and mark != told and not (mark == "utf-32-le" and told == "utf-16-le"):
        raise SourceError(
            f"{source.display} begins with the byte order mark of {mark}, but --encoding says {told}.",
            code=Reason.ENCODING,
            hint="Load it by itself, without --encoding.",
        )
    return told


def _by_zeros(head: bytes) -> str | None:
    """The encoding with two or four bytes a character that explains the NUL bytes; None if there is none."""
    zeros = head.count(0)
    if not zeros:
        return None
    # Hardly anything else can be read as one of these: half of each character is zeros.
    for name in ("utf-32-le", "utf-32-be"):
        if _decodes(head, name):
            return name
    even = head[::2].count(0)
    name, stray = ("utf-16-be", zeros - even) if even * 2 > zeros else ("utf-16-le", even)
    if stray * 20 > zeros or not _decodes(head, name):
        return None
    # A NUL in a value of a UTF-8 file is for the reader; in these, each line end has one beside it.
    text = head.decode(name, "replace")
    ends, wide_ends = head.count(b"\n") + head.count(b"\r"), text.count("\n") + text.count("\r")
    explained = 0 < ends <= wide_ends * 1.1
    return name if explained or zeros * 10 > len(head) else None


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether a head, which may end within a character, is text of this encoding, without control characters."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(char < " " and char not in "\t\r\n" for char in text)


# decoding ---------------------------------------------------------------------------------------------------------


def decode_head(source: Source, head: bytes, encoding: str, *, whole: bool) -> bytes:
    """A head as UTF-8, without the part of a character at its end. Raises `SourceError` with `ENCODING`."""
    try:
        return b"".join(transcoded([head], encoding, whole=whole))
    except Undecodable as error:
        raise refusal(source, error, encoding, [head]) from None


def transcoded(blocks: Iterable[bytes], encoding: str, *, whole: bool = True) -> Iterator[bytes]:
    """Blocks of another encoding as UTF-8. `whole`: the last one is the end. Raises `Undecodable`."""
    decoder = codecs.getincrementaldecoder(encoding)()
    fed = 0
    try:
        for block in blocks:
            fed += len(block)
            yield decoder.decode(block).encode()
        if whole:
            yield decoder.decode(b"", True).encode()
    except UnicodeDecodeError as error:
        # What the decoder was at: the block, and before it what it had kept of the last one.
        at = fed - len(error.object) + error.start
        # At the end, or where the rest of a character is missing, it is not the byte that is wrong.
        cut_off = error.end == len(error.object) and ("end of" in error.reason or "truncated" in error.reason)
        raise Undecodable(at, None if cut_off else error.object[error.start]) from None
    except UnicodeError:
        # Half a pair of surrogates, which few decoders let through, or an escape of ISO-2022 that never ends.
        raise Undecodable(fed, None) from None


def refusal(source: Source, error: Undecodable, encoding: str, blocks: Iterable[bytes]) -> SourceError:
    """The error for a byte that does not decode; `blocks` are those of the file from its start, once more."""
    line, tail = _line(blocks, encoding, error.at)
    what = "a character is cut off" if error.byte is None else f"byte 0x{error.byte:02X} is not {spoken(encoding)}"
    offers = [name for name in offered(tail) if name != encoding]
    return SourceError(
        f"{source.display}: {what}, at offset {error.at}, in line {line}.",
        code=Reason.ENCODING,
        hint=offer(source, offers),
    )


def _line(blocks: Iterable[bytes], encoding: str, at: int) -> tuple[int, bytes]:
    """The physical line, from 1, of the byte with the offset `at`; and some bytes from a little before it on."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    lines, returned, left, near = 1, False, at, b""
    for block in blocks:
        part = block[:left]
        left -= len(part)
        try:
            text = decoder.decode(part)
        except UnicodeError:
            text = ""
        lines += text.count("\n") + text.count("\r") - text.count("\r\n") - (returned and text.startswith("\n"))
        returned = text.endswith("\r") if text else returned
        near = near[-1024:] + part
        if not left:
            near = near[-1024:] + block[len(part) : len(part) + _SAMPLE]
            break
    return lines, near


def spoken(encoding: str) -> str:
    """The name of an encoding in a sentence."""
    return "UTF-8" if encoding == UTF8 else encoding


# offering ---------------------------------------------------------------------------------------------------------

_SAMPLE = 64 * 1024
"""Bytes that an offer is made from."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    script: str  #: what the names of its letters begin with
    cased: bool = False


CANDIDATES = (
    _Candidate("cp1252", "LATIN", True),
    _Candidate("cp1250", "LATIN", True),
    _Candidate("cp1254", "LATIN", True),
    _Candidate("mac_roman", "LATIN", True),
    _Candidate("cp850", "LATIN", True),
    _Candidate("cp1251", "CYRILLIC", True),
    _Candidate("koi8-r", "CYRILLIC", True),
    _Candidate("cp866", "CYRILLIC", True),
    _Candidate("cp1253", "GREEK", True),
    _Candidate("cp1255", "HEBREW"),
    _Candidate("cp1256", "ARABIC"),
    _Candidate("cp932", "JAPANESE"),
    _Candidate("cp949", "HANGUL"),
    _Candidate("euc_jp", "JAPANESE"),
    _Candidate("gb18030", "CHINESE"),
    _Candidate("big5", "CHINESE"),
)
"""What is offered for a file that is not UTF-8: of those that read all of a sample, the one that makes the fewest odd
characters of it, and of equal ones the first. charset-normalizer takes French in cp1252 for cp1250."""

_SIGNS = frozenset("€£¥§©®°±²³µ·¹º»«¼½¾¿¡ªƒ…–—‘’“”„‚•™‰\xa0№")


def offered(data: bytes) -> list[str]:
    """The encodings that text which is not UTF-8 may be in, likeliest first; at most two, none if none is likely."""
    sample = data[:_SAMPLE]
    if b"\0" in sample:
        return []
    scores: list[tuple[float, int, str]] = []
    for order, candidate in enumerate(CANDIDATES):
        try:
            text = codecs.getincrementaldecoder(candidate.name)().decode(sample)
        except UnicodeDecodeError:
            continue
        odd, all_ = _odd(text, candidate)
        if all_ and odd * 4 <= all_:
            scores.append((odd / all_, order, candidate.name))
    scores.sort()
    return [name for odd, _, name in scores if odd <= scores[0][0] + 0.05][:2]


def _odd(text: str, candidate: _Candidate) -> tuple[float, int]:
    """How many characters beyond ASCII are not what one would expect in words of a script, and how many there are."""
    odd, count = 0.0, 0
    strange = 0  # letters of the script one after the other
    for i, char in enumerate(text):
        if char.isascii():
            strange = 0
            continue
        count += 1
        if char in _SIGNS:
            # Not odd by itself, but within a word it is.
            odd += text[i - 1 : i].isalpha() and text[i + 1 : i + 2].isalpha() and char not in "’·\xa0–"
            strange = 0
            continue
        if not char.isalpha() or not _of_script(char, candidate):
            odd += 1
            continue
        strange += 1
        previous, following = text[i - 1 : i], text[i + 1 : i + 2]
        if candidate.script == "LATIN":
            # Words of nothing but accents, and capitals behind small letters.
            odd += strange == 3
            odd += 0.5 * (strange > 3)
            odd += char.isupper() and previous.islower()
        elif previous.isascii() and previous.isalpha():
            odd += 1
        elif candidate.cased:
            odd += char.isupper() and previous.islower()
        elif following.isascii() and following.isalpha():
            odd += 1
    return odd, count


def _of_script(char: str, candidate: _Candidate) -> bool:
    if candidate.script in ("JAPANESE", "CHINESE", "HANGUL"):
        return _common(char, candidate.name)
    return unicodedata.name(char, "").startswith(candidate.script)


def _common(char: str, encoding: str) -> bool:
    """Whether a character of East Asia is one of the usual ones of a script: most of any table are rare."""
    if encoding == "cp949":
        return "가" <= char <= "힣"
    if "ぁ" <= char <= "ヿ":
        return encoding in ("cp932", "euc_jp")
    table, low, high = {
        "gb18030": ("gb2312", 0xB0, 0xD7),
        "big5": ("big5", 0xA4, 0xC6),
    }.get(encoding, ("euc_jp", 0xB0, 0xCF))
    try:
        return low <= char.encode(table)[0] <= high
    except UnicodeEncodeError:
        return False


def offer(source: Source, names: Sequence[str]) -> str:
    """What to type next."""
    if not names:
        return f"See what it is with: file {shlex.quote(source.file)}; then give its --encoding."
    first = f"It looks like {names[0]}; if it is, give --encoding {names[0]}"
    return first + (f" (or {names[1]})." if len(names) > 1 else ".")
