"""Say how the values of text columns are written, and which type loses nothing of them.

A profile is taken of each piece of a column, in any process, and merged; `decide` reads the table of design decision
D14 from it. Works on Arrow data in memory. Does not read files, does not convert (`columns.py` does), does not know
databases, and keeps counts, never values. A few values rule out most types, so that only what may still have one is
looked at in full: words cost next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.profiles import BIGINT_DIGITS, BITS, EXACT_DIGITS, ColumnProfile, merge

Mask = NDArray[np.bool_]
Integers = NDArray[np.signedinteger[Any]]

EXACT_DECIMALS = 300
"""Digits after the point that keep a number of 15 digits out of the subnormals (below 1e-307), which lose digits."""

FIRST_DAY = -719_162
"""0001-01-01 in days from 1970-01-01: the first day that Python and the databases have; Arrow also reads year 0."""

DAY_US = 86_400_000_000
FIRST_US = FIRST_DAY * DAY_US

SAMPLE = 32
"""Values that are looked at first: enough to meet one word in most columns of words, 0.03 ms a column."""

NUMBER_LIKE = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:nan|inf|infinity))$"
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?$"
DATE_OR_MOMENT = f"{DATE}|{MOMENT}"
# Both for values that match MOMENT.
ZONED = r"[Z+]|:[0-9.:]*-"
TOO_FINE = r"\.[0-9]{7}"

_NUMBER_LIKE, _DATE_OR_MOMENT, _DATE, _ZONED, _TOO_FINE = map(
    re.compile, (NUMBER_LIKE, DATE_OR_MOMENT, DATE, ZONED, TOO_FINE)
)
_PLAIN_BYTES = np.isin(np.arange(256), list(b"0123456789.-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The bytes of a column's values, nulls and empty ones left out, one after the other."""

    data: NDArray[np.uint8]
    starts: Integers  #: offset of each value's first byte in `data`
    ends: Integers
    rows: Integers | None  #: row number of each value, None when no row was left out

    @classmethod
    def of(cls, array: Any) -> Cells:
        """The cells of a pa.StringArray, which may be a slice of a larger one."""
        rows = None
        if array.null_count:
            rows = np.flatnonzero(valid_rows(array))
            # The bytes under a null need not be empty.
            array = array.drop_null()
        edges = _offsets(array)
        data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)[edges[0] : edges[-1]]
        if edges[0]:
            edges = edges - edges[0]
        starts, ends = edges[:-1], edges[1:]
        full = ends > starts
        if not full.all():
            rows = np.flatnonzero(full) if rows is None else rows[full]
            starts, ends = starts[full], ends[full]
        return cls(data=data, starts=starts, ends=ends, rows=rows)

    def spread(self, mask: Mask, count: int) -> Mask:
        """A flag a value as a flag a row, of `count` rows."""
        if self.rows is None:
            return mask
        spread = np.zeros(count, dtype=np.bool_)
        spread[self.rows] = mask
        return spread


@dataclass(frozen=True, slots=True)
class Numbers:
    """How plain numbers are written, one entry a value: an optional minus, digits, at most one point."""

    cells: Cells
    points: Integers  #: offset of the point; the value's end where there is none
    negative: Mask
    whole: Integers  #: digits before the point
    decimals: Integers  #: digits after it
    padded: Mask  #: has leading zeros: 007, 00.5
    bare: Mask  #: begins or ends with a point: .5, 5.

    @classmethod
    def of(cls, cells: Cells) -> Numbers | None:
        """None unless every value is a plain number."""
        data, starts, ends = cells.data, cells.starts, cells.ends
        # Unsigned bytes wrap: all but the ten digits end above 9.
        marks = np.flatnonzero((data - np.uint8(ord("0"))) > 9)
        points_at = marks[data[marks] == ord(".")].astype(starts.dtype)
        negative = data[starts] == ord("-")
        if len(points_at) + np.count_nonzero(negative) != len(marks):
            return None
        points = ends
        if len(points_at) == len(ends) and bool(((points_at >= starts) & (points_at < ends)).all()):
            points = points_at
        elif len(points_at):
            owners = np.searchsorted(starts, points_at, side="right") - 1
            if (owners[1:] == owners[:-1]).any():
                return None
            points = ends.copy()
            points[owners] = points_at
        first = starts + negative if len(marks) > len(points_at) else starts
        whole = points - first
        bare = whole == 0
        decimals = np.zeros_like(whole)
        if len(points_at):
            pointed = points < ends
            decimals = ends - points - pointed
            bare |= pointed & (decimals == 0)
        if bare.any() and (whole + decimals == 0).any():
            return None
        padded = (data[first] == ord("0")) & (whole > 1)
        return cls(cells, points, negative, whole, decimals, padded, bare)

    def inexact(self) -> Mask:
        """Values that a double may not give back: over 15 significant digits, or so small that digits are lost."""
        mask: Mask = self.decimals > EXACT_DECIMALS
        long = np.flatnonzero(self.whole + self.decimals > EXACT_DIGITS)
        if len(long):
            data, starts, ends, points = (
                self.cells.data,
                self.cells.starts[long],
                self.cells.ends[long],
                self.points[long],
            )
            nonzero = np.append(np.flatnonzero((data > ord("0")) & (data <= ord("9"))), len(data))
            first = nonzero[np.searchsorted(nonzero, starts)]
            significant = ends - first - ((first < points) & (points < ends))
            mask[long] |= significant > EXACT_DIGITS
        return mask

    def negative_zero(self) -> Mask:
        """-0, without decimals."""
        mask: Mask = self.negative & (self.whole == 1) & (self.decimals == 0)
        mask[mask] = self.cells.data[self.cells.ends[mask] - 1] == ord("0")
        return mask

    def ends_in_zero(self) -> Mask:
        """Values whose last decimal is a zero: 1.10."""
        mask: Mask = (self.decimals > 0) & (self.cells.data[self.cells.ends - 1] == ord("0"))
        return mask


def contiguous(text: Any) -> Any:
    """One pa.StringArray of a pa.Array or pa.ChunkedArray of any kind of string."""
    if isinstance(text, pa.ChunkedArray):
        text = text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()
    return text if text.type == pa.string() else text.cast(pa.string())


# Arrow's own ways to and from numpy and Python scalars import pandas where it is installed: 0.3 s of CPU a process
# (test_conversion_does_not_import_pandas).


def flags(array: Any) -> Mask:
    """The bits of a pa.BooleanArray; what stands under a null is undefined."""
    bits = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)].view(np.bool_)


def valid_rows(array: Any) -> Mask:
    """One flag a row: the value is not null."""
    return flags(array.is_valid())


def mask_array(mask: Mask) -> Any:
    """The mask as a pa.BooleanArray."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(np.packbits(mask, bitorder="little"))])


def row_array(rows: Integers) -> Any:
    """Row numbers as a pa.Int64Array."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def without(array: Any, mask: Mask) -> Any:
    """The array with null where the mask is set."""
    return pc.if_else(mask_array(mask), pa.nulls(1, array.type)[0], array) if mask.any() else array


def lengths(array: Any) -> Integers:
    """Bytes of each value of a pa.StringArray; 0 for null."""
    return np.diff(_offsets(array)) * valid_rows(array) if array.null_count else np.diff(_offsets(array))


def _offsets(array: Any) -> Integers:
    if len(array) == 0:
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array) + 1, offset=4 * array.offset)


def matches(array: Any, pattern: str) -> Mask:
    """One flag a row: the value matches; null does."""
    found = flags(pc.match_substring_regex(array, pattern))
    return found | ~valid_rows(array) if array.null_count else found


def on_the_calendar(array: Any) -> Mask:
    """One flag a row: there is such a day (from year 1) and time. Every value matches DATE or MOMENT, or is null."""
    cells = Cells.of(array)

    def number(at: int, digits: int, starts: Integers = cells.starts) -> Integers:
        total = np.zeros(len(starts), dtype=np.int64)
        for k in range(at, at + digits):
            total = total * 10 + (cells.data[starts + k] - np.uint8(ord("0")))
        return total

    year, month, day = number(0, 4), number(5, 2), number(8, 2)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[np.minimum(month, 12)]
    days = days + (leap & (month == 2))
    fits: Mask = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    for at, limit in ((11, 24), (14, 60), (17, 60)):
        there = np.flatnonzero(cells.ends - cells.starts >= at + 2)
        if at == 17:
            there = there[cells.data[cells.starts[there] + 16] == ord(":")]
        fits[there] &= number(at, 2, cells.starts[there]) < limit
    return ~cells.spread(~fits, len(array))


def try_cast(array: Any, kind: Any) -> Any:
    """The array as `kind`, or None where a value does not fit."""
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        return None


def to_date(array: Any) -> Any:
    """date32, or None where a value is no YYYY-MM-DD from year 1 on."""
    typed = try_cast(array, pa.date32())
    first = None if typed is None else pc.min(typed.cast(pa.int32())).as_py()
    return None if first is not None and first < FIRST_DAY else typed


def to_timestamp(array: Any, *, strict: bool) -> Any:
    """timestamp('us'), or None where a value does not fit. Arrow reads a date alone, too, and hours without minutes."""
    typed = try_cast(array, pa.timestamp("us"))
    if typed is None:
        return None
    first = pc.min(typed.cast(pa.int64())).as_py()
    if first is not None and first < FIRST_US:
        return None
    length = lengths(array)
    short = (length > 0) & (length < len("2024-01-31 23:59"))
    if not strict:
        short &= length != len("2024-01-31")
    return None if short.any() else typed


def profile(table: Any) -> list[ColumnProfile]:
    """One profile for each column of a pa.Table of text."""
    return [profile_column(column) for column in table.columns]


def profile_column(column: Any) -> ColumnProfile:
    """The profile of a pa.Array or pa.ChunkedArray of strings. Null and the empty string are no values."""
    found = ColumnProfile()
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        found = merge(found, _profile(contiguous(chunk)))
        if not (found.number or found.boolean or found.moment):
            break
    return found


def _sample(array: Any) -> list[str]:
    """A few values, spread over the array, without nulls and empty ones."""
    if len(array) > SAMPLE:
        array = array.take(row_array(np.linspace(0, len(array) - 1, SAMPLE).astype(np.int64)))
    return [value for value in array.to_pylist() if value]


def _kind(values: Sequence[str]) -> Callable[[Any], dict[str, Any]] | None:
    """What to look at in full when these are some of the values; None: they are words."""
    if all(map(_NUMBER_LIKE.fullmatch, values)):
        return _numbers
    if all(value in BITS for value in values):
        return _booleans
    if all(_DATE_OR_MOMENT.fullmatch(value) for value in values):
        return _moments
    return None


def _profile(array: Any) -> ColumnProfile:
    sample = _sample(array)
    look = _kind(sample)
    if look is not None and not (length := lengths(array)).all():
        array = array.filter(mask_array(length > 0))
        look = _kind(_sample(array))
    if len(array) == 0:
        return ColumnProfile()
    found: dict[str, Any] = {"seen": True, "number": False, "boolean": False, "moment": False}
    return ColumnProfile(**(found | (look(array) if look else {})))


def _numbers(array: Any) -> dict[str, Any]:
    """The counts of a column of numbers; {} when a value is none. No value is null or empty."""
    found: dict[str, Any] = {"number": True}
    numbers = Numbers.of(cells := Cells.of(array))
    if numbers is None:
        strange = np.flatnonzero(~_PLAIN_BYTES[cells.data])[:SAMPLE]
        # Without a letter or a plus sign it is no number at all; with one, the first few tell most words.
        owners = np.unique(np.searchsorted(cells.starts, strange, side="right") - 1)
        if not len(owners) or _kind(array.take(row_array(owners)).to_pylist()) is not _numbers:
            return {}
        if not matches(array, NUMBER_LIKE).all():
            return {}
        special, exponent = matches(array, "[nN]"), matches(array, "[eE]")
        plus = matches(array, "^[+]") & ~special & ~exponent
        for name, mask in (("special", special), ("exponent", exponent), ("plus", plus)):
            found[name] = int(np.count_nonzero(mask))
        array = array.filter(mask_array(~(special | exponent | plus)))
        numbers = Numbers.of(Cells.of(array))
        if numbers is None or not len(numbers.whole):
            return found
    odd = numbers.bare | numbers.padded
    found["bare"] = int(np.count_nonzero(numbers.bare))
    found["padded"] = int(np.count_nonzero(odd)) - found["bare"]
    if found["bare"] + found["padded"]:
        numbers = Numbers.of(Cells.of(array.filter(mask_array(~odd))))
        if numbers is None or not len(numbers.whole):
            return found
    found["fewest"], found["most"] = int(numbers.decimals.min()), int(numbers.decimals.max())
    found["inexact"] = int(np.count_nonzero(numbers.inexact()))
    found["long"] = int(np.count_nonzero((numbers.whole > BIGINT_DIGITS) & (numbers.decimals == 0)))
    found["negative_zero"] = int(np.count_nonzero(numbers.negative_zero()))
    found["fractional"] = int(np.count_nonzero(numbers.decimals))
    found["ends_in_zero"] = int(np.count_nonzero(numbers.ends_in_zero()))
    return found


def _booleans(array: Any) -> dict[str, Any]:
    words = pc.unique(array)
    # Only the words themselves can be so few: this keeps a column of words out of Python.
    if len(words) > len(BITS) or _kind(words.to_pylist()) is not _booleans:
        return {}
    return {"boolean": True, "words": sum(BITS[word] for word in words.to_pylist())}


def _moments(array: Any) -> dict[str, Any]:
    found = {"moment": True}
    # A cast that fails everywhere takes 20 times as long as one that succeeds: the sample tells which to try.
    sample = _sample(array)
    only_dates = all(map(_DATE.fullmatch, sample))
    odd = only_dates or any(_ZONED.search(value) or _TOO_FINE.search(value) for value in sample)
    if only_dates and to_date(array) is not None:
        return found | {"dates": True}
    if not odd and to_timestamp(array, strict=True) is not None:
        return found | {"timestamps": True}
    if not matches(array, DATE_OR_MOMENT).all() or not on_the_calendar(array).all():
        return {}
    dates = lengths(array) == len("2024-01-31")
    return found | {
        "dates": bool(dates.any()),
        "timestamps": not dates.all(),
        "zoned": bool(matches(array, ZONED).any()),
        "too_fine": bool(matches(array, TOO_FINE).any()),
    }
