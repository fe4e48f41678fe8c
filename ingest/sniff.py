"""The head of a file to its `Header`: dialect, column names, and where the data begins.

Reads only the head: what it decides is proved later, when every record of the file is split. Names are given raw, as
they stand in the file. Also holds the way a source is opened, for `slicing` and `reader`.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shlex
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, cast

from ingest import quoting
from ingest.errors import SourceError
from ingest.model import Codec, Dialect, Header, Reason, Source

HEAD_BYTES = 64 * 1024
"""What is read of a file to decide: one read, some hundred records of ordinary width, and still in the cache."""

HEADER_BYTES = 4 * 1024 * 1024
"""A header record that is longer is none: SQLite's 2,000 columns with names of 2,000 bytes would still fit."""

RECORDS_COMPARED = 50
"""Records whose field counts decide on the delimiter."""

DELIMITERS = (",", ";", "\t", "|")

UTF8_BOM = b"\xef\xbb\xbf"
# UTF-32 first: its little-endian mark begins with UTF-16's.
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)

_BLANK = re.compile(rb"[\r\n]*+")
_VALUE = re.compile(
    rb"[+-]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:e[+-]?\d+)?%?"
    rb"|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    rb"|true|false",
    re.IGNORECASE,
)


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turn what can go wrong while a source is opened or read into a `SourceError` with a sentence."""
    try:
        yield
    except gzip.BadGzipFile as error:
        # The library's text would quote bytes of the file.
        what = "a checksum is wrong" if "check" in str(error) else "there are bytes that are not gzip"
        raise _corrupt(source, what) from error
    except EOFError as error:
        raise _corrupt(source, "it ends too early, as a transfer that was cut off does") from error
    except zlib.error as error:
        raise _corrupt(source, "its compressed data cannot be decoded") from error
    except OSError as error:
        raise SourceError(
            f"{source.display} cannot be read: {error.strerror or type(error).__name__}.",
            code=Reason.UNREADABLE,
            hint="Make it readable for this user, then run the same command again.",
        ) from error


def _corrupt(source: Source, what: str) -> SourceError:
    return SourceError(
        f"{source.display} is not a whole gzip file: {what}.",
        code=Reason.CORRUPT,
        hint=f"Look at it with: gzip -t {shlex.quote(source.path)}",
    )


def open_raw(source: Source) -> io.FileIO:
    """The bytes on disk. Never waits for the other end of a pipe, and takes nothing but a regular file."""
    with reading(source):
        descriptor = _open(source)
    return io.FileIO(descriptor, "rb")


def _open(source: Source) -> int:
    descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SourceError(
        f"{source.display} is not a regular file.",
        code=Reason.NOT_REGULAR,
        hint="Write it to a file first, then load that.",
    )


class _Gunzip(gzip.GzipFile):
    """A decoder that closes the file below it, too."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def open_decoded(source: Source) -> BinaryIO:
    """The decoded stream of a source. Errors while it is read are for `reading` to translate."""
    raw = open_raw(source)
    return cast(BinaryIO, _Gunzip(raw) if source.codec is Codec.GZIP else raw)


def sniff(source: Source) -> Header:
    """Open a source, read its head, decide.

    Raises `SourceError` with `UNREADABLE`, `NOT_REGULAR`, `CORRUPT`, `ENCODING` or `NO_HEADER`.
    """
    for size in (HEAD_BYTES, HEADER_BYTES):
        with reading(source), open_decoded(source) as stream:
            head = stream.read(size + 1)
        whole = len(head) <= size
        header = _decide(source, head, whole)
        if header is not None:
            return header
    raise _no_header(source, f"its first record is longer than {HEADER_BYTES // 1024**2} MiB")


class Sniffer:
    """Sniffs many files, and remembers: a first line seen before is not taken apart again."""

    def __init__(self) -> None:
        self._known: dict[bytes, Header] = {}

    def header(self, source: Source) -> Header:
        """As `sniff`, about five times as fast where the first line is byte for byte that of an earlier file."""
        if source.codec is not Codec.PLAIN:
            return sniff(source)
        with reading(source):
            descriptor = _open(source)
            try:
                head = os.read(descriptor, HEAD_BYTES + 1)
            finally:
                os.close(descriptor)
        whole = len(head) <= HEAD_BYTES
        end = head.find(b"\n") + 1
        line = head[:end]
        known = self._known.get(line)
        if known is not None:
            return known if not whole or _has_data(head, end) else replace(known, has_data=False)
        header = _decide(source, head, whole) or sniff(source)
        # Without a record there was nothing to compare; a header with quotes may go on after its first line.
        if header.has_data and header.data_start == end and b'"' not in line:
            self._known[line] = header
        return header


def _decide(source: Source, head: bytes, whole: bool) -> Header | None:
    """What the head says; None if the header record goes on after it."""
    start = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
    _refuse_wide(source, head)
    blank = _BLANK.match(head, start)
    first = blank.end() if blank else start
    if first == len(head):
        return Header(dialect=Dialect(), names=(), data_start=len(head), has_data=False) if whole else None
    records_of = _plain_records if b'"' not in head else _quoted_records
    best: tuple[tuple[float, int, bool], Dialect, list[bytes]] | None = None
    fallback: list[bytes] | None = None
    for delimiter in DELIMITERS:
        if delimiter != "," and delimiter.encode() not in head:
            continue
        dialect = Dialect(delimiter=delimiter)
        records = records_of(head, first, dialect, whole)
        if not records:
            continue
        if delimiter == ",":
            fallback = records
        score = _score(records[: RECORDS_COMPARED + 1], dialect)
        if score is not None and (best is None or score > best[0]):
            best = (score, dialect, records)
    if best is None and fallback is None:
        return None
    dialect, records = (best[1], best[2]) if best else (Dialect(), fallback or [])
    end = first + len(records[0])
    return Header(
        dialect=replace(dialect, line_end=_line_end(records)),
        names=_names(source, records[0].rstrip(quoting.LINE_ENDS), first, dialect),
        data_start=end,
        has_data=not whole or _has_data(head, end),
    )


def _names(source: Source, bare: bytes, first: int, dialect: Dialect) -> tuple[str, ...]:
    """The names in a header record without its line end; `first` is its offset in the file."""
    if b"\0" in bare:
        raise _encoding(source, f"{source.display} has NUL bytes in its first record: it is no text.")
    try:
        bare.decode()
    except UnicodeDecodeError as error:
        byte = bare[error.start]
        raise _encoding(
            source, f"{source.display}: byte 0x{byte:02X} at offset {first + error.start} is not UTF-8.", "CP1252"
        ) from None
    cells = quoting.fields(bare, dialect)
    if cells is None:
        raise _no_header(source, "the first record has a quote that is not closed as it should be")
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled:
        raise _no_header(source, "the first record has only empty names")
    if all(_VALUE.fullmatch(cell) for cell in filled):
        raise _no_header(source, "the first record looks like data, not like column names")
    return tuple(cell.decode() for cell in cells)


def _has_data(head: bytes, position: int) -> bool:
    blank = _BLANK.match(head, position)
    return blank is not None and blank.end() < len(head)


def _plain_records(head: bytes, first: int, dialect: Dialect, whole: bool) -> list[bytes]:
    """The complete records of a head without a quote, with their line ends, without blank lines."""
    lines = head[first:].splitlines(keepends=True)
    if not whole and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [line for line in lines if line.rstrip(quoting.LINE_ENDS)]


def _quoted_records(head: bytes, first: int, dialect: Dialect, whole: bool) -> list[bytes]:
    """The complete records of a head by the exact rules, with their line ends, without blank lines."""
    data = head[first:]
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


def _refuse_wide(source: Source, head: bytes) -> None:
    """Refuse what has two or four bytes a character. A single NUL in a data record is for the reader to reject."""
    name = next((name for mark, name in _WIDE_MARKS if head.startswith(mark)), None)
    if name is None and b"\0" in head and head.count(b"\0") * 10 > len(head):
        even = head[::2].count(b"\0")
        name = "UTF-16BE" if even * 2 > head.count(b"\0") else "UTF-16LE"
    if name is not None:
        raise _encoding(source, f"{source.display} looks like {name}; files have to be UTF-8.", name)


def _encoding(source: Source, message: str, name: str | None = None) -> SourceError:
    path = shlex.quote(source.path)
    hint = f"Convert it, for example with: iconv -f {name} -t UTF-8 {path} > converted.csv" if name else ""
    return SourceError(message, code=Reason.ENCODING, hint=hint or f"See what it is with: file {path}")


def _no_header(source: Source, why: str) -> SourceError:
    return SourceError(
        f"{source.display} has no header: {why}.",
        code=Reason.NO_HEADER,
        hint="Put a line with the column names first.",
    )
