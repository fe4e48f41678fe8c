"""The rules by which a CSV is split into records, exactly and in pure Python, for `sniff`, `slicing` and `reader`.

The rules are RFC 4180's, with a stated answer where it has none. A field that starts with the quote is quoted up to
a quote that is not doubled; after that must come a delimiter, a line end or the end, else the record is *broken*.
A quote inside an unquoted field is a literal character, but after a broken record it breaks its own record, too: what
it belongs to cannot be known any more. A broken record ends at its first physical line end. Line ends are LF, CRLF
and lone CR; blank lines are no records. A line that begins as a comment of the dialect does ends where it ends.

Does not read files, and loads neither numpy nor pyarrow: the process that slices does without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ingest.model import Dialect

RECORD_BYTES = 64 * 1024 * 1024
"""A quoted record over several lines that is longer than this is taken for one whose quote never closes.

Without a limit one stray quote in a large file would pull the rest of that file into memory.
"""

LINE_ENDS = b"\r\n"


class Rules(NamedTuple):
    """The rules of one dialect as patterns. All of them are possessive: none can take more than linear time."""

    field: re.Pattern[bytes]  #: one field, with its quotes
    record: re.Pattern[bytes]  #: one record with its line end, where no broken record came before
    strict: re.Pattern[bytes]  #: the same after a broken record
    unclosed: re.Pattern[bytes]  #: a record whose last quote is still open at the end of the data
    strict_unclosed: re.Pattern[bytes]


class Quoted(NamedTuple):
    """A record that has a quote in its first line."""

    start: int  #: offset of its first byte
    end: int | None  #: offset after its line end; None: more data is needed to tell
    broken: bool


@lru_cache(maxsize=64)
def rules(delimiter: str, quote: str) -> Rules:
    """The patterns for a dialect."""
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    opened = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q, q)
    lenient = rb"(?:%b%b|(?!%b)[^%b\r\n]*+)" % (opened, q, q, d)
    strict = rb"(?:%b%b|[^%b%b\r\n]*+)" % (opened, q, q, d)
    record = rb"%b(?:%b%b)*+(?:\r\n?|\n|\Z)"
    unclosed = rb"(?:%b%b)*+%b\Z"
    return Rules(
        re.compile(lenient),
        re.compile(record % (lenient, d, lenient)),
        re.compile(record % (strict, d, strict)),
        re.compile(unclosed % (lenient, d, opened)),
        re.compile(unclosed % (strict, d, opened)),
    )


def fields(record: bytes, dialect: Dialect) -> list[bytes] | None:
    """The fields of one record without its line end, unquoted; None if the record is broken."""
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    if quote not in record:
        return record.split(delimiter)
    pattern = rules(dialect.delimiter, dialect.quote).field
    found: list[bytes] = []
    position = 0
    while True:
        match = pattern.match(record, position)
        if match is None:
            return None
        cell = match[0]
        found.append(cell[1:-1].replace(quote + quote, quote) if cell.startswith(quote) else cell)
        position = match.end()
        if position == len(record):
            return found
        if record[position : position + 1] != delimiter:
            return None
        position += 1


def line_end(data: bytes | bytearray, position: int, *, final: bool = True) -> int | None:
    """The offset after the first physical line end at or after `position`.

    Where there is none: the end of the data if that is `final`, else None, also for a CR whose LF may be still to come.
    """
    feed = data.find(b"\n", position)
    carriage = data.find(b"\r", position, feed if feed >= 0 else len(data))
    if carriage < 0:
        return feed + 1 if feed >= 0 else (len(data) if final else None)
    if carriage + 1 == len(data):
        return len(data) if final else None
    return carriage + 2 if carriage + 1 == feed else carriage + 1


def walk(
    data: bytes | bytearray, dialect: Dialect, *, after_broken: bool = False, final: bool = True
) -> Iterator[Quoted]:
    """The records with a quote, in order; every line between them is a record (or blank). `data` starts at a record.

    Unless `final`, more data may follow; a record that this could change is yielded with `end=None`, as the last.
    """
    patterns = rules(dialect.delimiter, dialect.quote)
    pattern, unclosed = patterns.record, patterns.unclosed
    if after_broken:
        pattern, unclosed = patterns.strict, patterns.strict_unclosed
    quote, comment = dialect.quote.encode(), dialect.comment.encode()
    position = 0
    while (found := data.find(quote, position)) >= 0:
        line = max(data.rfind(b"\n", position, found), data.rfind(b"\r", position, found))
        start = line + 1 if line >= 0 else position
        if comment and data.startswith(comment, start):  # a line like any other, whatever quotes it has
            after = line_end(data, start, final=final)
            if after is None:
                yield Quoted(start, None, False)
                return
            position = after
            continue
        match = pattern.match(data, start)
        end: int | None
        if match is not None and not _too_long(data, start, match.end()):
            end = match.end()
            if not final and end == len(data) and data[end - 1] != 10:
                yield Quoted(start, None, False)
                return
            yield Quoted(start, end, False)
        else:
            end = line_end(data, start, final=final)
            waiting = match is None and not final and len(data) - start <= RECORD_BYTES
            if end is None or (waiting and unclosed.match(data, start)):
                yield Quoted(start, None, False)
                return
            yield Quoted(start, end, True)
            pattern, unclosed = patterns.strict, patterns.strict_unclosed
        position = end


def _too_long(data: bytes | bytearray, start: int, end: int) -> bool:
    """Whether a record of several lines is over the limit."""
    return end - start > RECORD_BYTES and (line_end(data, start) or end) < end


def counted_border(data: bytes | bytearray, at: int, dialect: Dialect, *, final: bool) -> int | None:
    """The first offset at or after `at` (1 or more) behind a separator outside quotes, as counting them tells.

    True where quotes are used by the book; whoever reads the slice has to check that they are.
    """
    quote, separator = dialect.quote.encode(), dialect.separator
    position = at - 1
    inside = data.count(quote, 0, position) % 2 == 1
    found = -1
    while True:
        if inside:
            closing = data.find(quote, position)
            if closing < 0:
                return None
            position, inside = closing + 1, False
        if found < position:
            found = data.find(separator, position)
        opening = data.find(quote, position, found if found >= 0 else len(data))
        if opening >= 0:
            position, inside = opening + 1, True
        elif found < 0:
            return None
        else:
            return line_end(data, found, final=final)


def exact_border(
    data: bytes | bytearray, at: int, dialect: Dialect, *, after_broken: bool, final: bool
) -> tuple[int | None, bool]:
    """The end of the first record that ends at or after `at` (1 or more), and whether a broken one came up to there."""
    broken = after_broken
    for record in walk(data, dialect, after_broken=after_broken, final=final):
        if record.start >= at:
            break
        if record.end is None:
            return None, broken
        broken = broken or record.broken
        if record.end >= at:
            return record.end, broken
    return line_end(data, at - 1, final=final), broken
