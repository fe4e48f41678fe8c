"""The rules by which a CSV is split into records, exactly and in pure Python, for `sniff`, `slicing` and `reader`.

The rules are RFC 4180's, with a stated answer where it has none. A field that starts with the quote is quoted up to
a quote that is not doubled; after that must come a delimiter, a line end or the end, else the record is *broken*.
A quote inside an unquoted field is a literal character, but after a broken record it breaks its own record, too: what
it belongs to cannot be known any more. A broken record ends at its first physical line end. Line ends are LF, CRLF
and lone CR; blank lines are no records. A line that begins as a comment of the dialect does ends
where it ends. Of several characters that separate fields, the leftmost place counts.

Without a quote in the dialect every quote is a character like any other (though `"` may be escaped, as Python's csv
does), and nothing can be broken.

With an escape, it makes a plain character of the quote, the delimiter's first character, the line end (one byte of it)
or the escape after it, inside quotes and outside, as Python's csv writes them; a doubled quote still counts for one.
Before anything else, and at the end, the escape itself is a plain character: `C:\new` stays what it is. So escapes are
found without looking at quotes, and `masked` data, where each is covered, follows the rules without an escape.

Does not read files, and loads neither numpy nor pyarrow: the process that slices does without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ingest.model import Dialect

RECORD_BYTES = 64 * 1024 * 1024
"""A quoted record over several lines that is longer than this is taken for one whose quote never closes.

Without a limit one stray quote in a large file would pull the rest of that file into memory.
"""

LINE_ENDS = b"\r\n"

Data = TypeVar("Data", bytes, bytearray)


class Rules(NamedTuple):
    """The rules of one dialect as patterns. All of them are possessive: none can take more than linear time."""

    field: re.Pattern[bytes]  #: one cell, with its quotes
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
    """The patterns for a dialect with a quote, for `masked` data."""
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    opened = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q, q)
    lenient = rb"(?:%b%b|(?!%b)%b)" % (opened, q, q, _up_to(delimiter.encode(), rb"\r\n"))
    strict = rb"(?:%b%b|%b)" % (opened, q, _up_to(delimiter.encode(), q + rb"\r\n"))
    record = rb"%b(?:%b%b)*+(?:\r\n?|\n|\Z)"
    unclosed = rb"(?:%b%b)*+%b\Z"
    return Rules(
        re.compile(lenient),
        re.compile(record % (lenient, d, lenient)),
        re.compile(record % (strict, d, strict)),
        re.compile(unclosed % (lenient, d, opened)),
        re.compile(unclosed % (strict, d, opened)),
    )


@lru_cache(maxsize=64)
def by_the_book(delimiter: str, quote: str) -> re.Pattern[bytes]:
    """A pattern for `masked` data, not too large, that begins unquoted and whose every quote encloses a field."""
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    field = rb"(?:(?<=%b)|(?<=[\r\n]))%b[^%b]*+(?:%b%b[^%b]*+)*+%b(?=%b|[\r\n]|\Z)" % (d, q, q, q, q, q, q, d)
    return re.compile(rb"[^%b]*+(?:%b[^%b]*+)*+" % (q, field, q))


def _up_to(delimiter: bytes, stops: bytes) -> bytes:
    """A pattern for everything before the next delimiter or one of some bytes."""
    first = re.escape(delimiter[:1])
    run = rb"[^%b%b]*+" % (first, stops)
    if len(delimiter) == 1:
        return run
    return rb"%b(?:(?!%b)%b%b)*+" % (run, re.escape(delimiter), first, run)


@lru_cache(maxsize=64)
def escapable(dialect: Dialect) -> tuple[bytes, ...]:
    """What the dialect's escape makes plain characters of; the escape itself comes first, as pairs of it have to."""
    found = (dialect.escape, dialect.quote or '"', dialect.delimiter[0], "\n", "\r")
    return tuple(dict.fromkeys(each.encode() for each in found if each))


def masked(data: Data, dialect: Dialect) -> Data:
    """Data of the same length that has no escapes: each, with what it stands before, is covered by NUL bytes.

    `data` does not start within an escape. One at its end, before more data to come, is not one yet.
    """
    escape = dialect.escape.encode()
    if not escape or escape not in data:
        return data
    data = comments_ended(data, dialect, b"\0")
    for each in escapable(dialect):
        data = data.replace(escape + each, b"\0" * (len(escape) + len(each)))
    return data


def comments_ended(data: Data, dialect: Dialect, by: bytes) -> Data:
    """The data with another byte for an escape that is the last one of a comment: the line ends there all the same."""
    comment, escape = dialect.comment.encode(), dialect.escape.encode()
    if not comment or comment not in data:
        return data
    ends = rb"((?:\A|(?<=[\r\n]))%b[^\r\n]*+(?<=%b))(?=[\r\n])" % (re.escape(comment), re.escape(escape))
    return type(data)(re.sub(ends, lambda found: found[1][:-1] + by, data))


def cells(record: bytes, dialect: Dialect) -> list[bytes] | None:
    """The fields of one record without its line end, as they stand there; None if the record is broken."""
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    covered = masked(record, dialect)
    if covered is record and not (quote and quote in record):
        return record.split(delimiter)
    if quote and quote in covered:
        lengths = _lengths(covered, delimiter, rules(dialect.delimiter, dialect.quote).field)
        if lengths is None:
            return None
    else:
        lengths = [len(cell) for cell in covered.split(delimiter)]
    found: list[bytes] = []
    position = 0
    for length in lengths:
        found.append(record[position : position + length])
        position += length + len(delimiter)
    return found


def _lengths(covered: bytes, delimiter: bytes, pattern: re.Pattern[bytes]) -> list[int] | None:
    """The lengths of the fields of a record with quotes; None if it is broken."""
    found: list[int] = []
    position = 0
    while True:
        match = pattern.match(covered, position)
        if match is None:
            return None
        found.append(match.end() - position)
        position = match.end()
        if position == len(covered):
            return found
        if not covered.startswith(delimiter, position):
            return None
        position += len(delimiter)


def fields(record: bytes, dialect: Dialect) -> list[bytes] | None:
    """The values of one record without its line end, without quotes and escapes; None if the record is broken."""
    found = cells(record, dialect)
    quote = dialect.quote.encode()
    if found is None or not ((quote and quote in record) or (dialect.escape and dialect.escape.encode() in record)):
        return found
    return [value(cell, dialect) for cell in found]


def value(cell: bytes, dialect: Dialect) -> bytes:
    """What one of the `cells` stands for."""
    quote = dialect.quote.encode()
    quoted = bool(quote) and cell.startswith(quote)
    if quoted:
        cell = cell[1:-1]
    if dialect.escape:
        return _escapes(dialect, quoted).sub(lambda match: match[1] or quote, cell)
    return cell.replace(quote + quote, quote) if quoted else cell


@lru_cache(maxsize=64)
def _escapes(dialect: Dialect, quoted: bool) -> re.Pattern[bytes]:
    """One escape with what it stands before as its group, or, in a quoted field, a doubled quote without one."""
    pattern = rb"%b(%b)" % (re.escape(dialect.escape.encode()), b"|".join(map(re.escape, escapable(dialect))))
    quote = re.escape(dialect.quote.encode())
    return re.compile(rb"%b|%b%b()" % (pattern, quote, quote) if quoted else pattern)


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
    """The records with a quote, in order; every line between them is a record (or blank).

    `data` is `masked`, and starts at a record.

    Unless `final`, more data may follow; a record that this could change is yielded with `end=None`, as the last.
    """
    if not dialect.quote:
        return
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

    True where quotes are used by the book; whoever reads the slice has to check that they are. `data` is `masked`.
    """
    quote, separator = dialect.quote.encode(), dialect.separator
    position = at - 1
    if not quote:
        found = data.find(separator, position)
        return None if found < 0 else line_end(data, found, final=final)
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
    """The end of the first record that ends at or after `at` (1 or more), and whether a broken one came up to there.

    `data` is `masked`.
    """
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
