"""Read dates and numbers that are not written as ISO 8601 and as plain numbers, by a stated spelling.

Works on Arrow data in memory, column by column. Does not guess: which spelling a column has is `inference.py`'s job.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.cells import DAY_US, Mask, flags, lengths, matches, offsets, valid_rows, without, words
from ingest.model import Column, ColumnType, Reason, Spelling, is_year
from ingest.patterns import MONTHS, PIVOT, regex
from ingest.profiles import BARE, PADDED

Numbers = NDArray[np.int64]
Culprits = list[tuple[Mask, Reason, str]]

_MONTHS = words(*MONTHS, *(month[:3] for month in MONTHS), "sept")
_NUMBER_OF_MONTH = np.array([*range(1, 13), *range(1, 13), 9])
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
"""Days of a common year before each month."""


def moments(array: Any, pattern: str, kind: ColumnType) -> tuple[Any, Culprits]:
    """The texts as DATE or TIMESTAMP, null where one does not fit; and which do not, with the reason."""
    found = pc.extract_regex(array, regex(pattern))
    shaped = valid_rows(found)
    # Nothing reads what stands under a null, so those are as good as any other number.
    at = {field.name: found.field(number) for number, field in enumerate(found.type)}
    days, there = _days(at)
    ticks = days if kind is ColumnType.DATE else days * DAY_US + _time(at, there)
    valid = valid_rows(array) & (lengths(array) > 0)
    fits = shaped & there & valid
    bits = pa.py_buffer(np.packbits(fits, bitorder="little"))
    arrow = pa.date32() if kind is ColumnType.DATE else pa.timestamp("us")
    numbers = ticks.astype(np.int32) if kind is ColumnType.DATE else ticks
    typed = pa.Array.from_buffers(arrow, len(array), [bits, pa.py_buffer(numbers)])
    code, word = (Reason.BAD_DATE, "date") if kind is ColumnType.DATE else (Reason.BAD_TIMESTAMP, "moment")
    return typed, [
        (valid & ~shaped, code, f"the value is no {word} as {pattern}"),
        (valid & shaped & ~there, code, "there is no such day or time"),
    ]


def _days(at: dict[str, Any]) -> tuple[Numbers, Mask]:
    """Days from 1970-01-01, and whether there is such a day, from year 1 on."""
    if "Y" in at:
        year = _whole(at["Y"])
    else:
        short = _whole(at["y"])
        year = short + np.where(short < PIVOT, 2000, 1900)
    month, day = _month(at), _whole(at["d"])
    known = (month >= 1) & (month <= 12)
    month = np.where(known, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    there: Mask = known & (year >= 1) & (day >= 1) & (day <= _DAYS[month] + (leap & (month == 2)))
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 + _BEFORE[month] + (leap & (month > 2)) + day - 1
    return days - 719_162, there  # of 1970-01-01


def _month(at: dict[str, Any]) -> Numbers:
    if "m" in at:
        return _whole(at["m"])
    found = pc.index_in(pc.ascii_lower(at["b"]), value_set=_MONTHS)
    position = np.frombuffer(found.buffers()[1], dtype=np.int32, count=len(found), offset=4 * found.offset)
    known = valid_rows(found)
    return np.where(known, _NUMBER_OF_MONTH[np.where(known, position, 0)], 0)


def _time(at: dict[str, Any], there: Mask) -> Numbers:
    """Microseconds of the day; clears the flags of what is no time."""
    count = len(there)
    hour, minute, second, fraction = np.zeros((4, count), dtype=np.int64)
    if "I" in at:
        twelve, said = _whole(at["I"]), pc.ascii_lower(at["p"])
        there &= (twelve >= 1) & (twelve <= 12) | (lengths(at["I"]) == 0)
        hour = twelve % 12 + 12 * flags(pc.starts_with(said, "pm"))
    elif "H" in at:
        hour = _whole(at["H"])
    if "M" in at:
        minute = _whole(at["M"])
    if "S" in at:
        second = _whole(at["S"])
    if "f" in at:
        fraction = _whole(at["f"]) * 10 ** (6 - lengths(at["f"]).astype(np.int64))
    there &= (hour < 24) & (minute < 60) & (second < 60)
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction


def _whole(field: Any) -> Numbers:
    """The digits of each text as a number; 0 where there are none."""
    edges = offsets(field)
    starts, sizes = edges[:-1].astype(np.int64), np.diff(edges)
    data = np.frombuffer(field.buffers()[2] or b"0", dtype=np.uint8)
    total = np.zeros(len(starts), dtype=np.int64)
    for digit in range(int(sizes.max(initial=0))):
        there = sizes > digit
        value = data[np.minimum(starts + digit, len(data) - 1)].astype(np.int64) - ord("0")
        total = np.where(there, total * 10 + value, total)
    return total


def digits(array: Any) -> int:
    """How days and months below 10 are written in texts that are dates, as the flags of `profiles`."""
    padded = bool(matches(array, r"^([^ T]*[^0-9 T])?0[0-9]([^0-9]|$)").any())
    bare = bool(matches(array, r"^([^ T]*[^0-9 T])?[1-9]([^0-9]|$)").any())
    return PADDED * padded | BARE * bare


def years(array: Any) -> Any:
    """The texts of a YEAR with 2000 for 0 and 00, as MySQL reads them: the number 0 is its year 0000."""
    return pc.replace_substring_regex(array, r"^[+-]?(0{1,3}|0{5,})$", "2000")


def signed(spelling: Spelling) -> bool:
    """Whether numbers have other signs than a point."""
    return spelling.decimal != "." or spelling.thousands != ""


def plain_numbers(array: Any, spelling: Spelling) -> tuple[Any, Mask]:
    """The texts with a point for the decimal sign and nothing between thousands, and which are not written so.

    What is written so need not be a number. Null and the empty text stay.
    """
    decimal, thousands = re.escape(spelling.decimal), re.escape(spelling.thousands)
    whole = rf"[0-9]{{1,3}}({thousands}[0-9]{{3}})+|[0-9]*" if thousands else "[0-9]*"
    misfit = ~matches(array, rf"^[+-]?({whole})({decimal}[0-9]*)?([eE][+-]?[0-9]+)?$")
    array = without(array, misfit)
    if thousands:
        array = pc.replace_substring(array, spelling.thousands, "")
    if spelling.decimal != ".":
        array = pc.replace_substring(array, spelling.decimal, ".")
    return array, misfit


SHORT_NUMBER = 16
"""Bytes of a number without an exponent that can have only one double: at most 15 digits, by a power of ten."""


def as_written(array: Any, typed: Any, column: Column) -> Any:
    """The texts of the typed values, where every database reads them as these; else the typed values.

    Which those are is told for dates, whole numbers and doubles.
    """
    spelling = column.spelling
    if spelling.moment or signed(spelling) or is_year(column) or (column.unsigned and column.bits == 64):
        return typed
    if column.type is ColumnType.DOUBLE and not _short(array):
        return typed
    return array if typed.null_count == array.null_count else without(array, ~valid_rows(typed))


def _short(array: Any) -> bool:
    """Whether all are so short, and without exponents, that there is nothing to round twice."""
    edges = offsets(array)
    held = memoryview(array.buffers()[2] or b"")[edges[0] : edges[-1]].tobytes().lower()
    return int(np.diff(edges).max(initial=0)) <= SHORT_NUMBER and b"e" not in held


def nulled(array: Any, spelling: Spelling) -> Any:
    """The texts with null for the words that are none in this column."""
    if not spelling.null:
        return array
    return without(array, flags(pc.is_in(array, value_set=words(*spelling.null))) & valid_rows(array))


_MIDNIGHT, _NOTHING = (words(text)[0] for text in ("1970-01-01 ", ""))


def times(array: Any) -> Any:
    """time64("us") of texts as HH:MM, HH:MM:SS or with a fraction of a second; the empty text is null."""
    array = without(array, lengths(array) == 0)
    return pc.binary_join_element_wise(_MIDNIGHT, array, _NOTHING).cast(pa.timestamp("us")).cast(pa.time64("us"))
