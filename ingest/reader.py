"""A slice's bytes to columns of text, and the records that could not be split.

pyarrow splits; what it would misread in silence is looked for first, and cut out of what it is given: records with NUL
bytes, with bytes that are not UTF-8, with broken quotes. Whether quotes are used by the book (and so whether the
borders that `slicing` counted are true) is checked for every slice; where they are not, the records are walked with
the exact rules of `quoting`. A dialect that pyarrow reads otherwise, or not at all, is rewritten first (`plain`); below
that nothing knows of escapes, nor of delimiters that are not one byte. Knows no types, and no names of columns.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ingest import extras, plain, quoting, ragged
from ingest.errors import SourceError
from ingest.model import LENIENT, Dialect, Discard, Discards, Reason, RecordRules, Reject, Slice, Source
from ingest.opening import UTF8_BOM, open_raw, reading

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

BLOCK = 1024 * 1024
"""Bytes whose quotes are checked at a time: the bit sets fit the cache. 64 KiB took twice as long (the calls), all at
once three times as long (the memory)."""

_SHIFTS = tuple(np.uint64(1 << power) for power in range(6))
_ONE, _TOP = np.uint64(1), np.uint64(63)
_LINE_FEED, _CARRIAGE_RETURN = 10, 13


class Unproven(Exception):
    """The slice is not by the book, so its borders, which were found by counting quotes, prove nothing."""


@dataclass(slots=True, kw_only=True)
class Parsed:
    """What became of a slice."""

    table: pa.Table  #: columns of strings named "0", "1", …
    records: int  #: all records, rejects included
    rejects: list[Reject]  #: line, byte and record count from the slice's start
    kept: Numbers | None  #: the record number of each row of the table; None: row i is record i
    lines: int  #: physical line ends
    ends_broken: bool  #: a broken quote occurred
    exact: bool  #: it was not by the book, and was split by the exact rules
    fit: ragged.Fit = field(default_factory=ragged.Fit)  #: of ragged records that are rows
    discards: Discards = field(default_factory=dict)  #: records that were left out, of `records`
    split: Records | None = None  #: where its records are, where that had to be found out


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Where the records of a slice are."""

    starts: Numbers  #: offset of the first byte of each
    ends: Numbers  #: offset after its last byte, the line end not counted
    line_ends: Numbers  #: offset of the last byte of each physical line end, within quotes, too
    broken: Numbers  #: numbers of the records with a broken quote


# bytes ------------------------------------------------------------------------------------------------------------


def load_bytes(source: Source, slice_: Slice) -> bytes:
    """The bytes of a slice. Raises `SourceError` with `CHANGED_WHILE_READ` if they are not those that were sliced."""
    if slice_.spooled is None:
        data = _load(source, slice_.start, slice_.length)
    else:
        with reading(source), open(slice_.spooled, "rb") as file:
            data = file.read()
    if len(data) != slice_.length or (slice_.checksum is not None and zlib.crc32(data) != slice_.checksum):
        raise _changed(source)
    return data


def read_file(source: Source) -> bytes:
    """All bytes of a plain source, if it is still as the scan saw it."""
    data = _load(source, 0, source.size)
    if len(data) != source.size:
        raise _changed(source)
    return data


def _load(source: Source, start: int, length: int) -> bytes:
    with open_raw(source) as file, reading(source):
        now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns) != (source.size, source.mtime_ns):
            raise _changed(source)
        file.seek(start)
        data = file.read(length)
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
    return data


def _changed(source: Source) -> SourceError:
    return SourceError(
        f"{source.display} changed while it was read.",
        code=Reason.CHANGED_WHILE_READ,
        hint="Run the same command again when it is complete; --min-age SECONDS waits for that.",
    )


# quotes -----------------------------------------------------------------------------------------------------------


def by_the_book(data: bytes, dialect: Dialect) -> bool:
    """Whether every quote of `data` stands where RFC 4180 wants it, if `data` starts outside quotes and is plain.

    An opening quote follows a delimiter, a line end, the start, or (doubled) a closing one; a closing quote precedes a
    delimiter, a line end, the end, or (doubled) an opening one; and the last quote is a closing one. Where the dialect
    has no quote, everything is by the book.
    """
    quote = dialect.quote.encode()
    if not quote or quote not in data:
        return True
    carriage_returns = b"\r" in data
    separator = ord(dialect.delimiter)
    whole = np.frombuffer(data, dtype=np.uint8)
    inside = False
    after_edge = True  # the byte before this block is one that an opening quote may follow
    before_edge = False  # the byte before this block is a closing quote, and what follows it was not yet seen
    for start in range(0, len(data), BLOCK):
        end = min(start + BLOCK, len(data))
        if not before_edge and data.find(quote, start, end) < 0:
            after_edge = data[end - 1] in (separator, _LINE_FEED, _CARRIAGE_RETURN)
            continue
        block = whole[start:end]
        if len(block) % 64:
            # Line ends as padding: the end of the data is as good as one.
            block = np.concatenate([block, np.full(64 - len(block) % 64, _LINE_FEED, dtype=np.uint8)])
        quotes = _bits(block == ord(quote))
        edges = block == separator
        edges |= block == _LINE_FEED
        if carriage_returns:
            edges |= block == _CARRIAGE_RETURN
        separators = _bits(edges)
        states, inside = _inside(quotes, inside)
        opening, closing = quotes & states, quotes & ~states
        may_open, may_close = separators | closing, separators | opening
        before = may_open << _ONE
        before[1:] |= may_open[:-1] >> _TOP
        before[0] |= np.uint64(after_edge)
        after = may_close >> _ONE
        after[:-1] |= may_close[1:] << _TOP
        stray_close = closing & ~after
        # What follows the block's last byte is seen with the next block.
        waiting = bool(stray_close[-1] >> _TOP)
        stray_close[-1] &= ~(_ONE << _TOP)
        if (opening & ~before).any() or stray_close.any() or (before_edge and not may_close[0] & _ONE):
            return False
        after_edge, before_edge = bool(may_open[-1] >> _TOP), waiting
    return not inside


def _bits(flags: npt.NDArray[np.bool_]) -> Words:
    """Flags, a multiple of 64, as bits: flag i is bit i % 64 of word i // 64."""
    return np.packbits(flags, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def _inside(quotes: Words, inside: bool) -> tuple[Words, bool]:
    """For each bit whether an odd number of quotes came up to and with it, `inside` saying so for before the first."""
    states = quotes.copy()
    for shift in _SHIFTS:
        states ^= states << shift
    odd = np.bitwise_xor.accumulate((states >> _TOP).astype(np.uint8))
    carried = np.concatenate([np.array([inside], dtype=np.uint8), odd[:-1] ^ np.uint8(inside)])
    states ^= np.uint64(0) - carried.astype(np.uint64)
    return states, bool(odd[-1]) != inside


def split(data: bytes, dialect: Dialect, *, exact: bool, after_broken: bool = False) -> Records:
    """Where the records are. Unless `exact`, `data` has to be by the book."""
    rewritten = plain.rewritten(data, dialect)
    if rewritten is None:
        return _split(data, dialect, exact=exact, after_broken=after_broken)
    found = _split(rewritten.data, rewritten.dialect, exact=exact, after_broken=after_broken)
    return Records(
        starts=rewritten.original(found.starts),
        ends=rewritten.original(found.ends),
        line_ends=_line_ends(np.frombuffer(data, dtype=np.uint8))[1],
        broken=found.broken,
    )


def _split(data: bytes, dialect: Dialect, *, exact: bool, after_broken: bool) -> Records:
    """As `split`, of plain data."""
    codes = np.frombuffer(data, dtype=np.uint8)
    breaks, line_ends = _line_ends(codes)
    broken: list[int] = []
    if exact:
        spans: list[tuple[int, int]] = []
        for record in quoting.walk(data, dialect, after_broken=after_broken):
            assert record.end is not None
            if record.broken:
                broken.append(record.start)
            else:
                spans.append((record.start, record.end - _line_end_length(data, record.end)))
        if spans:
            bounds = np.array(spans, dtype=np.int64)
            span = np.searchsorted(bounds[:, 0], breaks, side="right") - 1
            breaks = breaks[(span < 0) | (breaks >= bounds[span, 1])]
    elif dialect.quote and dialect.quote.encode() in data:
        quotes = np.flatnonzero(codes == ord(dialect.quote))
        breaks = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), breaks + 1])
    ends = np.append(breaks, len(data))
    filled = ends > starts
    starts = starts[filled]
    return Records(
        starts=starts,
        ends=ends[filled],
        line_ends=line_ends,
        broken=np.searchsorted(starts, np.array(broken, dtype=np.int64)),
    )


def _line_ends(codes: npt.NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
    """The offsets of all line feeds and carriage returns, and of those that are the last byte of a line end."""
    returns = codes == _CARRIAGE_RETURN
    breaks = codes == _LINE_FEED
    if not returns.any():
        feeds = np.flatnonzero(breaks)
        return feeds, feeds
    found = np.flatnonzero(breaks | returns)
    following = np.append(found[1:], -1)
    in_crlf = returns[found] & (following == found + 1)
    in_crlf[in_crlf] = breaks[following[in_crlf]]
    return found, found[~in_crlf]


def _line_end_length(data: bytes, end: int) -> int:
    if data[end - 1] not in quoting.LINE_ENDS:
        return 0
    return 2 if data[end - 2 : end] == b"\r\n" else 1


# reading ----------------------------------------------------------------------------------------------------------


def read(
    data: bytes,
    header_width: int,
    dialect: Dialect,
    *,
    null: Sequence[str] = (),
    rules: RecordRules = LENIENT,
    exact: bool = False,
    after_broken: bool = False,
    proven: bool = False,
    rows: Sequence[str] = (),
) -> Parsed:
    """Split a slice into `header_width` columns of text, and set aside the records that cannot be.

    An unquoted field that is empty or one of `null` is NULL; a quoted one never is. `rules` decide which ragged records
    are rows. `exact`: the slice's borders were found by the exact rules; `proven`: they are those of the file's data.
    Raises `Unproven` where neither is so and the slice is not by the book. Records that begin as the dialect's comments
    do, or are one of `rows` (of the header, raw), are left out; they count as records.
    """
    rewritten = plain.rewritten(data, dialect)
    if rewritten is None:
        return _read(
            data,
            header_width,
            dialect,
            null=null,
            rules=rules,
            exact=exact,
            after_broken=after_broken,
            proven=proven,
            rows=rows,
        )
    if not (exact or proven) and data[-1:] in (b"\n", b"\r") and rewritten.data[-1:] not in (b"\n", b"\r"):
        raise Unproven  # it was cut at a line end that is escaped
    parsed = _read(
        rewritten.data,
        header_width,
        rewritten.dialect,
        null=null,
        rules=rules,
        exact=exact,
        after_broken=after_broken,
        proven=proven,
        rows=[rewritten.of(row.encode()).decode() for row in rows],
    )
    rejects: list[Reject] = []
    if parsed.rejects:
        found = split(data, dialect, exact=parsed.exact, after_broken=after_broken)
        for reject, place in zip(parsed.rejects, _places(data, found, [r.record for r in parsed.rejects]), strict=True):
            line, byte, text = place
            message = reject.message
            if reject.code is Reason.BAD_BYTE:
                message = _wrong_byte(data[byte : found.ends[reject.record]])
            rejects.append(replace(reject, line=line, byte=byte, text=text, message=message))
    return replace(
        parsed,
        table=rewritten.restored(parsed.table),
        fit=ragged.restored(parsed.fit, rewritten.restored),
        rejects=rejects,
        lines=_count_lines(data),
        split=None,  # it is of the rewritten data
    )


def _read(
    data: bytes,
    header_width: int,
    dialect: Dialect,
    *,
    null: Sequence[str],
    rules: RecordRules,
    exact: bool,
    after_broken: bool,
    proven: bool,
    rows: Sequence[str],
) -> Parsed:
    """As `read`, of plain data."""
    # Quotes of a comment count for nothing, so where there is one only the exact rules tell what is a record.
    walked = extras.has_comment(data, dialect) or not by_the_book(data, dialect)
    if walked and not (exact or proven):
        raise Unproven
    if not walked and b"\0" not in data:
        try:
            table = _parse(data, header_width, dialect, null)
        except pa.ArrowInvalid:
            table = None  # a ragged record or a byte that is not UTF-8: found out below, at a price that few pay
        if table is not None and not _repeats(table, data, dialect, rows=rows, null=null):
            lines = _count_lines(data)
            _check_rows(data, dialect, table.num_rows, lines)
            return Parsed(
                table=table,
                records=table.num_rows,
                rejects=[],
                kept=None,
                lines=lines,
                ends_broken=False,
                exact=False,
            )
    records = split(data, dialect, exact=walked, after_broken=after_broken)
    total = len(records.starts)
    found = _unparsable(data, records)
    left_out = _left_out(data, records, dialect, rows)
    found = {number: why for number, why in found.items() if number not in left_out}
    cut = np.array(sorted({*found, *left_out}), dtype=np.int64)
    left = np.delete(np.arange(total, dtype=np.int64), cut)
    odd: list[tuple[int, int]] = []

    def set_aside(row: Any) -> str:
        odd.append((int(left[row.number - 1]), row.actual_columns))
        return "skip"

    table = _parse(_without(data, records, cut), header_width, dialect, null, set_aside)
    if table.num_rows + len(odd) != len(left):
        raise _miscounted(table.num_rows + len(odd) + len(cut), total)
    numbers = np.setdiff1d(left, np.array([number for number, _ in odd], dtype=np.int64), assume_unique=True)
    fitted = ragged.fit(
        odd,
        lambda number: data[records.starts[number] : records.ends[number]],
        lambda part, width: _parse(part, width, dialect, null),
        width=header_width,
        dialect=dialect,
        rules=rules,
        null=null,
    )
    table, numbers = ragged.merge(table, numbers, fitted)
    fits = set(fitted.numbers)
    found |= {number: _ragged(actual, header_width) for number, actual in odd if number not in fits}
    bad = sorted(found)
    rejects = [
        Reject(code=found[number][0], message=found[number][1], line=line, byte=byte, record=number, text=text)
        for number, (line, byte, text) in zip(bad, _places(data, records, bad), strict=True)
    ]
    return Parsed(
        table=table,
        records=total,
        rejects=rejects,
        kept=numbers if bad or left_out else None,
        lines=len(records.line_ends),
        ends_broken=len(records.broken) > 0,
        exact=walked,
        fit=fitted,
        discards=_counted(left_out),
        split=records,
    )


def _unparsable(data: bytes, records: Records) -> dict[int, tuple[Reason, str]]:
    """The numbers of the records that the parser must not see, and why."""
    found = {int(number): (Reason.BROKEN_QUOTE, _BROKEN) for number in records.broken}
    for number in _records_at(records, np.frombuffer(data, dtype=np.uint8) == 0) if b"\0" in data else ():
        found.setdefault(number, (Reason.NUL_BYTE, "has a NUL byte"))
    for number, message in _undecodable(data, records):
        found.setdefault(number, (Reason.BAD_BYTE, message))
    return found


def _ragged(actual: int, width: int) -> tuple[Reason, str]:
    fields = "1 field" if actual == 1 else f"{actual} fields"
    how = "to fill short records with NULL: --ragged pad" if actual < width else "to keep such: --rescue-column NAME"
    return Reason.RAGGED, f"has {fields}, expected {width} ({how})"


def _repeats(table: pa.Table, data: bytes, dialect: Dialect, *, rows: Sequence[str], null: Sequence[str]) -> bool:
    """Whether a row of the table may be one of the header's: it has a cell of it. 0.4 ms for 16 MiB of lineitem."""
    nothing = {b"", *(word.encode() for word in null)}
    for row in rows:
        cells = quoting.fields(row.encode(), dialect) or []
        if not any(cell not in nothing for cell in cells[1:]):
            if row.encode() in data:
                return True
            continue
        # Not the first, which may have a byte order mark before it; the longest name is the least like a value.
        at = max(range(1, len(cells)), key=lambda i: (cells[i] not in nothing, len(cells[i])))
        if at < table.num_columns and pc.index(table.column(at), _text(cells[at])).as_py() >= 0:
            return True
    return False


def _text(cell: bytes) -> Any:
    """An Arrow scalar of text; `pa.scalar` would import pandas."""
    offsets = pa.py_buffer(np.array([0, len(cell)], dtype=np.int32))
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(cell)])[0]


def _left_out(data: bytes, records: Records, dialect: Dialect, rows: Sequence[str]) -> dict[int, Discard]:
    """The numbers of the records that are comments, or the header again."""
    found: dict[int, Discard] = {}
    marks = extras.marks(data, dialect, rows)
    offsets = np.array(sorted(marks), dtype=np.int64)
    for number, offset in zip(np.searchsorted(records.starts, offsets).tolist(), offsets.tolist(), strict=True):
        if number < len(records.starts) and records.starts[number] == offset:
            end, kind = marks[offset]
            if end is None or records.ends[number] == end:
                found[number] = kind
    return found


def _counted(left_out: Mapping[int, Discard]) -> Discards:
    return {kind: count for kind in Discard if (count := list(left_out.values()).count(kind))}


def without_extras(data: bytes, dialect: Dialect, rows: Sequence[str]) -> tuple[bytes, Discards]:
    """All the data of a file without its comments and repeated headers, whose line ends stay; how many there were.

    Raises `Unproven` where a quote is broken.
    """
    if not extras.marks(data, dialect, rows):
        return data, {}
    records = split(data, dialect, exact=True)
    if len(records.broken):
        raise Unproven  # without what breaks a quote, its record would look whole
    left_out = _left_out(data, records, dialect, rows)
    return _without(data, records, np.array(sorted(left_out), dtype=np.int64)), _counted(left_out)


_BROKEN = "has a quote that is not closed, or not followed by a delimiter or the line's end"


def locate(
    data: bytes,
    dialect: Dialect,
    records: Sequence[int],
    *,
    exact: bool = False,
    after_broken: bool = False,
    known: Records | None = None,
) -> list[tuple[int, int, str]]:
    """Line (from 1), first byte (from 0) and raw text of records, given by their numbers, within a slice.

    `exact` and `after_broken` as the slice was read (`Parsed.exact`, `Slice.after_broken`); `known` spares the search.
    """
    return _places(data, known or split(data, dialect, exact=exact, after_broken=after_broken), records)


def count_records(data: bytes, dialect: Dialect) -> int | None:
    """The number of records, None if the data is not by the book. For small data."""
    rewritten = plain.rewritten(data, dialect)
    if rewritten is not None:
        data, dialect = rewritten.data, rewritten.dialect
    if not by_the_book(data, dialect):
        return None
    if dialect.quote:
        quote = re.escape(dialect.quote.encode())
        data = re.sub(rb"%b[^%b]*+%b" % (quote, quote, quote), b"x", data)
    return sum(map(bool, data.splitlines()))


def _parse(
    data: bytes, width: int, dialect: Dialect, null: Sequence[str], on_ragged: Callable[[Any], str] | None = None
) -> pa.Table:
    names = [str(position) for position in range(width)]
    if not data:
        return pa.table({name: pa.array([], type=pa.string()) for name in names})
    if data.startswith(UTF8_BOM):
        # pyarrow would take a value's own U+FEFF for the file's mark; the blank line hides it and counts nowhere.
        data = b"\n" + data
    if data.endswith(dialect.delimiter.encode()):
        # pyarrow takes an empty field at the very end for quoted if the one before it was (so "" and not NULL).
        data += b"\n"
    return csv.read_csv(
        pa.BufferReader(data),
        # One block: records are numbered within it, and a field may be as long as it.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote or False,
            newlines_in_values=True,
            invalid_row_handler=on_ragged,
        ),
        convert_options=csv.ConvertOptions(
            # 15 % of the parse, for what a glance tells.
            check_utf8=not data.isascii(),
            column_types=dict.fromkeys(names, pa.string()),
            null_values=["", *null],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _count_lines(data: bytes) -> int:
    codes = np.frombuffer(data, dtype=np.uint8)
    # By blocks: flags of all bytes at once would be as much memory again as the slice is.
    lines = sum(np.count_nonzero(codes[i : i + BLOCK] == _LINE_FEED) for i in range(0, len(codes), BLOCK))
    if b"\r" in data:
        returns = codes == _CARRIAGE_RETURN
        lines += np.count_nonzero(returns) - np.count_nonzero(returns[:-1] & (codes[1:] == _LINE_FEED))
    return int(lines)


def _check_rows(data: bytes, dialect: Dialect, rows: int, lines: int) -> None:
    """Count again what pyarrow counted, where that is cheap: one line a record, unless there are quotes or blanks."""
    most = lines + (data[-1:] not in (b"\n", b"\r", b""))
    if rows == most or (rows < most and dialect.quote and dialect.quote.encode() in data):
        return
    filled = sum(map(bool, data.splitlines()))
    if rows != filled:
        raise _miscounted(rows, filled)


def _miscounted(found: int, counted: int) -> SourceError:
    return SourceError(
        f"a slice was split into {found} records, but {counted} were counted in it.",
        code=Reason.COUNTS,
        hint="This is an error of this program: please report it.",
    )


def _records_at(records: Records, flags: npt.NDArray[np.bool_]) -> list[int]:
    """The numbers of the records that hold a flagged byte."""
    if not len(records.starts):
        return []
    found = np.searchsorted(records.starts, np.flatnonzero(flags), side="right") - 1
    return [int(number) for number in np.unique(found)]


def _undecodable(data: bytes, records: Records) -> list[tuple[int, str]]:
    """The numbers of the records that are not UTF-8, and which of their bytes is not."""
    if data.isascii():
        return []
    try:
        pa.array([data], type=pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        pass
    else:
        return []
    bad: list[tuple[int, str]] = []
    for number in _records_at(records, np.frombuffer(data, dtype=np.uint8) >= 0x80):
        message = _wrong_byte(data[records.starts[number] : records.ends[number]])
        if message:
            bad.append((number, message))
    return bad


def _wrong_byte(record: bytes) -> str:
    """Which byte of a record is not UTF-8; "" where all are."""
    try:
        record.decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{record[error.start]:02X}, {error.start} bytes into the record, is not UTF-8"
    return ""


def _without(data: bytes, records: Records, cut: Numbers) -> bytes:
    """The data without some of its records; their line ends stay as blank lines, which count nowhere."""
    if not len(cut):
        return data
    view = memoryview(data)
    borders = [0, *np.column_stack([records.starts[cut], records.ends[cut]]).ravel().tolist(), len(data)]
    return b"".join([view[a:b] for a, b in zip(borders[::2], borders[1::2], strict=True)])


def _places(data: bytes, records: Records, numbers: Sequence[int]) -> list[tuple[int, int, str]]:
    chosen = np.array(numbers, dtype=np.int64)
    starts, ends = records.starts[chosen], records.ends[chosen]
    lines = np.searchsorted(records.line_ends, starts) + 1
    return [
        (line, start, data[start:end].decode("utf-8", "backslashreplace"))
        for line, start, end in zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
