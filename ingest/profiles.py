"""What the values of a column look like, as counts that can be added up; and the type that loses nothing of them.

Imports no Arrow: the main process merges what the workers counted (`inference.py`) and has no other use for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from ingest.model import ColumnType, Origin
from ingest.patterns import SPELLINGS, is_date, named

EXACT_DIGITS = 15
"""Significant digits that every double gives back as they were written (DBL_DIG of IEEE 754 binary64)."""

BIGINT_DIGITS = 18
"""Digits of a whole number that always fit into 64 bits; of 19 some do, and ids with so many tend to grow."""

PADDED, BARE = 1, 2
"""How a day or a month below 10 is written: 05, 5."""

PAIRS = (
    *(("true", "false"), ("True", "False"), ("TRUE", "FALSE"), ("t", "f"), ("T", "F")),
    *(("yes", "no"), ("Yes", "No"), ("YES", "NO")),
)
BITS = {word: 1 << bit for bit, word in enumerate(word for pair in PAIRS for word in pair)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The type that loses nothing, who decided it, and what another would have lost ("" if nothing)."""

    type: ColumnType
    origin: Origin
    note: str = ""
    reason: str = ""  #: why this type; the note, where there is one
    spelling: str = ""  #: DATE and TIMESTAMP: the pattern that all values have; "": ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """What is known of some values of a column. Counts and flags hold only while their kind (`number`, …) does."""

    seen: bool = False  #: there is a value: neither null nor empty
    number: bool = True  #: every value is a number in some notation
    special: int = 0  #: nan, inf
    exponent: int = 0
    plus: int = 0
    bare: int = 0  #: .5 or 5.
    padded: int = 0  #: leading zeros
    negative_zero: int = 0  #: -0 without decimals
    long: int = 0  #: whole numbers of more than BIGINT_DIGITS digits
    inexact: int = 0  #: a double may not give it back
    fractional: int = 0  #: has decimals
    ends_in_zero: int = 0  #: its last decimal is a zero
    fewest: int = sys.maxsize  #: decimals, of any value
    most: int = -1
    boolean: bool = True  #: every value is one of the words of `PAIRS`
    words: int = 0  #: which of them, a bit each
    moment: bool = True  #: every value is an ISO date or timestamp
    dates: bool = False
    timestamps: bool = False
    zoned: bool = False
    too_fine: bool = False
    spellings: int = (1 << len(SPELLINGS)) - 1  #: which spellings of a date or moment all values have, a bit each
    digits: int = 0  #: days or months below 10 were seen with a zero before them (1), without one (2)
    clock: bool = True  #: every value is a time of the day
    precisions: int = 0  #: the lengths of these, a bit each
    uuid: bool = True  #: every value is a UUID as RFC 9562 writes it, in lower case
    misfits: int = 0  #: values that do not fit the column that is there, where that was asked

    @property
    def words_only(self) -> bool:
        """Whether nothing but text is left."""
        return not (self.number or self.boolean or self.moment or self.spellings or self.clock or self.uuid)

    def decide(self) -> Verdict:
        """The type for the column, by the table of D14."""
        if not self.seen:
            return Verdict(type=ColumnType.TEXT, origin=Origin.UNDECIDED, reason="no value yet")
        ways = (
            (self.number, self._number),
            (self.boolean, self._boolean),
            (self.moment, self._moment),
            (self.spellings, self._spelled),
            (self.clock, self._clock),
            (self.uuid, lambda: (ColumnType.UUID, "")),
        )
        kind, note = next((way() for holds, way in ways if holds), (ColumnType.TEXT, ""))
        spelling = ""
        if kind in (ColumnType.DATE, ColumnType.TIMESTAMP) and not self.moment:
            (spelling,) = named(self.spellings)
        return Verdict(
            type=kind,
            origin=Origin.INFERRED,
            note=note,
            reason=note or (f"all values are written as {spelling}" if spelling else _REASONS[kind]),
            spelling=spelling,
        )

    def _number(self) -> tuple[ColumnType, str]:
        if self.fractional == 0:
            odd = _count(self.negative_zero, "is -0", "are -0") + _count(self.long, *_more_than(BIGINT_DIGITS))
            kind = ColumnType.BIGINT
        else:
            odd = _count(self.inexact, *_more_than(EXACT_DIGITS, "significant "))
            kind = ColumnType.DOUBLE
            if self.fewest != self.most and self.ends_in_zero:
                odd.append("decimals of varying length with trailing zeros (like version numbers)")
        notes = [
            *_count(self.padded, "has leading zeros", "have leading zeros"),
            *_count(self.plus, "has a plus sign", "have a plus sign"),
            *_count(self.bare, "begins or ends with the point", "begin or end with the point"),
            *_count(self.exponent, "has an exponent", "have an exponent"),
            *_count(self.special, "is nan or infinite", "are nan or infinite"),
            *odd,
        ]
        return (ColumnType.TEXT, "; ".join(notes)) if notes else (kind, "")

    def _boolean(self) -> tuple[ColumnType, str]:
        used = [pair for pair in PAIRS if self.words & (BITS[pair[0]] | BITS[pair[1]])]
        if len(used) > 1:
            return ColumnType.TEXT, f"{len(used)} spellings of true/false"
        both = self.words == BITS[used[0][0]] | BITS[used[0][1]]
        # A column of "no" alone may be Norway's.
        alone = used[0][0].lower() == "true"
        return (ColumnType.BOOLEAN if both or alone else ColumnType.TEXT), ""

    def _moment(self) -> tuple[ColumnType, str]:
        mixed = self.dates and self.timestamps
        notes = ["values carry a time zone"] * self.zoned
        notes += ["values have more than 6 digits of a second"] * self.too_fine
        notes += ["dates and timestamps are mixed"] * mixed
        if notes:
            return ColumnType.TEXT, "; ".join(notes)
        return (ColumnType.DATE if self.dates else ColumnType.TIMESTAMP), ""

    def _spelled(self) -> tuple[ColumnType, str]:
        spellings = list(named(self.spellings))
        if "%y" in spellings[0]:
            return (
                ColumnType.TEXT,
                f"dates as {' or '.join(spellings)}: the century is not told; declare it with --type",
            )
        if len(spellings) > 1:
            return ColumnType.TEXT, f"dates as {' or '.join(spellings)}: no value tells which; declare one with --type"
        if self.digits == PADDED | BARE:
            return ColumnType.TEXT, f"dates as {spellings[0]}, some with leading zeros and some without"
        return (ColumnType.DATE if is_date(spellings[0]) else ColumnType.TIMESTAMP), ""

    def _clock(self) -> tuple[ColumnType, str]:
        if self.precisions & (self.precisions - 1):
            return ColumnType.TEXT, "times with and without seconds or their decimals"
        return ColumnType.TIME, ""


_REASONS = {
    ColumnType.TEXT: "values are words, or of several kinds",
    ColumnType.BIGINT: f"whole numbers of at most {BIGINT_DIGITS} digits",
    ColumnType.DOUBLE: f"decimals of at most {EXACT_DIGITS} significant digits",
    ColumnType.BOOLEAN: "one pair of words for true and false",
    ColumnType.DATE: "dates as YYYY-MM-DD",
    ColumnType.TIMESTAMP: "moments as YYYY-MM-DD HH:MM:SS",
    ColumnType.TIME: "times of the day, all as precise",
    ColumnType.UUID: "UUIDs in lower case",
}

_COUNTS = (
    *("special", "exponent", "plus", "bare", "padded", "negative_zero"),
    *("long", "inexact", "fractional", "ends_in_zero"),
)


def merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """The profile of the values of both; the same in any order and grouping."""
    values: dict[str, Any] = {"seen": a.seen or b.seen, "misfits": a.misfits + b.misfits}
    kinds = ("number", "boolean", "moment", "clock", "uuid")
    values |= {kind: getattr(a, kind) and getattr(b, kind) for kind in kinds}
    values["spellings"] = a.spellings & b.spellings
    if values["spellings"]:
        values["digits"] = a.digits | b.digits
    if values["clock"]:
        values["precisions"] = a.precisions | b.precisions
    if values["number"]:
        values |= {name: getattr(a, name) + getattr(b, name) for name in _COUNTS}
        values |= {"fewest": min(a.fewest, b.fewest), "most": max(a.most, b.most)}
    if values["boolean"]:
        values["words"] = a.words | b.words
    if values["moment"]:
        values |= {name: getattr(a, name) or getattr(b, name) for name in ("dates", "timestamps", "zoned", "too_fine")}
    return ColumnProfile(**values)


def _more_than(digits: int, kind: str = "") -> tuple[str, str]:
    return f"has more than {digits} {kind}digits", f"have more than {digits} {kind}digits"


def _count(count: int, one: str, many: str) -> list[str]:
    if count == 0:
        return []
    return [f"1 value {one}"] if count == 1 else [f"{count:,} values {many}"]
