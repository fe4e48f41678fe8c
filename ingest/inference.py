"""Say how the values of text columns are written, and which type loses nothing of them.

A profile is taken of each piece of a column, in any process, and merged; `decide` reads the table of design decision
D14 from it. Works on Arrow data in memory. Does not read files, does not convert (`columns.py` does), does not know
databases, and keeps counts, never values. A few values rule out most types, so that only what may still have one is
looked at in full: words cost next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest import spellings
from ingest.cells import (
    FIRST_DAY,
    FIRST_US,
    Cells,
    Integers,
    Mask,
    Numbers,
    contiguous,
    lengths,
    mask_array,
    matches,
    row_array,
)
from ingest.model import PLAIN, Column, ColumnType, Spelling
from ingest.patterns import SHORT, SPELLINGS, is_date, regex
from ingest.profiles import BIGINT_DIGITS, BITS, PADDED, ColumnProfile, merge

SAMPLE = 32
"""Values that are looked at first: enough to meet one word in most columns of words, 0.03 ms a column."""

NUMBER_LIKE = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:nan|inf|infinity))$"
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?$"
DATE_OR_MOMENT = f"{DATE}|{MOMENT}"
# Both for values that match MOMENT.
ZONED = r"[Z+]|:[0-9.:]*-"
TOO_FINE = r"\.[0-9]{7}"

CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?$"
UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
SPELLED = r"[0-9A-Za-z]{1,9}[./ -][0-9A-Za-z]{1,9}(\.|/| |-|, )[0-9]{1,4}( [0-9]{1,2}:[0-9: .]*([AaPp][Mm])?)?"
"""What every spelling of a date or moment looks like that is looked for, and few other texts do."""

_CLOCK, _UUID, _SPELLED = map(re.compile, (CLOCK, UUID, SPELLED))
_NUMBER_LIKE, _DATE_OR_MOMENT, _DATE, _ZONED, _TOO_FINE = map(
    re.compile, (NUMBER_LIKE, DATE_OR_MOMENT, DATE, ZONED, TOO_FINE)
)
_PLAIN_BYTES = np.isin(np.arange(256), list(b"0123456789.-"))


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


def profile(table: Any, columns: Sequence[Column | None] = ()) -> list[ColumnProfile]:
    """One profile for each column of a pa.Table of text; `columns` say how these are written."""
    spelled = [column.spelling if column is not None else PLAIN for column in columns] or [PLAIN] * table.num_columns
    return [profile_column(column, spelling) for column, spelling in zip(table.columns, spelled, strict=True)]


def profile_column(column: Any, spelling: Spelling = PLAIN) -> ColumnProfile:
    """The profile of a pa.Array or pa.ChunkedArray of strings. Null and the empty string are no values."""
    found = ColumnProfile()
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        found = merge(found, _profile(spellings.nulled(contiguous(chunk), spelling), spelling))
        if found.words_only:
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
    if all(map(_SPELLED.fullmatch, values)):
        return _spelled
    if all(map(_CLOCK.fullmatch, values)):
        return _clocks
    if all(map(_UUID.fullmatch, values)):
        return _uuids
    return None


def _profile(array: Any, spelling: Spelling) -> ColumnProfile:
    signed = spellings.signed(spelling)
    if signed:
        plain, misfit = spellings.plain_numbers(array, spelling)
        # As numbers these are read, or not at all: with a decimal comma 1.5 is none.
        signed = bool(misfit.any())
        array = array if signed else plain
    sample = _sample(array)
    look = _kind(sample)
    if look is not None and not (length := lengths(array)).all():
        array = array.filter(mask_array(length > 0))
        look = _kind(_sample(array))
    if len(array) == 0:
        return ColumnProfile()
    if signed and look is _numbers:
        look = None
    return ColumnProfile(**(_WORDS | (look(array) if look else {})))


_WORDS: dict[str, Any] = {
    "seen": True,
    **dict.fromkeys(("number", "boolean", "moment", "clock", "uuid"), False),
    "spellings": 0,
}
"""What is known of values that are words."""


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
        return found | {"dates": True, "spellings": SHORT, "digits": _iso_digits(array)}
    if not odd and to_timestamp(array, strict=True) is not None:
        return found | {"timestamps": True}
    if not matches(array, DATE_OR_MOMENT).all():
        return _spelled(array)
    if not on_the_calendar(array).all():
        return {}
    dates = lengths(array) == len("2024-01-31")
    return found | {
        "spellings": SHORT if dates.all() else 0,
        "digits": _iso_digits(array) if dates.all() else 0,
        "dates": bool(dates.any()),
        "timestamps": not dates.all(),
        "zoned": bool(matches(array, ZONED).any()),
        "too_fine": bool(matches(array, TOO_FINE).any()),
    }


def _iso_digits(array: Any) -> int:
    """As `spellings.digits`, of dates as YYYY-MM-DD."""
    month_and_day = Cells.of(array).data.reshape(-1, len("2024-01-31"))[:, (5, 8)]
    return PADDED * bool((month_and_day == ord("0")).any())


def _spelled(array: Any) -> dict[str, Any]:
    """Which spellings of a date or a moment all values have. No value is null or empty."""
    sample, found = _sample(array), 0
    for bit, pattern in enumerate(SPELLINGS):
        if not all(re.match(regex(pattern), value) for value in sample):
            continue
        kind = ColumnType.DATE if is_date(pattern) else ColumnType.TIMESTAMP
        typed, _ = spellings.moments(array, pattern, kind)
        found |= (not typed.null_count) << bit
    return {"spellings": found, "digits": spellings.digits(array) if found else 0}


def _clocks(array: Any) -> dict[str, Any]:
    if not matches(array, CLOCK).all():
        return {}
    sizes = np.flatnonzero(np.bincount(lengths(array)))
    return {"clock": True, "precisions": sum(1 << int(size) for size in sizes)}


def _uuids(array: Any) -> dict[str, Any]:
    return {"uuid": bool(matches(array, UUID).all())}
