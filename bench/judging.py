"""Whether what a reader made of a file is right, refused or wrong. The rules are in docs/reading.md.

Knows neither the readers nor the files: a table of values against a table of text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from itertools import product

from kinds import Kind, Row


class Verdict(StrEnum):
    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a reader made of a file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    aside: int = 0  #: records that it said are not in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reader said that it cannot read a file, and gave nothing of it."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    verdict: Verdict
    why: str = ""


Way = Callable[[object], str | None]
"""A way to write a value; None where it is no value of that kind."""


def judge(kind: Kind, result: Read | Refusal, told: bool) -> Judged:
    """The verdict on one reading of one file."""
    if isinstance(result, Refusal):
        right = kind.refuse or kind.either
        return Judged(verdict=Verdict.RIGHT if right else Verdict.REFUSED, why=result.why)
    if kind.refuse:
        return Judged(verdict=Verdict.WRONG, why=f"loaded {len(result.rows)} rows of a file that has no table")
    if kind.either and result.aside:
        return Judged(verdict=Verdict.RIGHT, why=f"{result.aside} set aside")
    why = _difference(kind.columns, kind.rows, result)
    if why and any(not _difference(kind.columns, other, result) for other in kind.also + (() if told else kind.untold)):
        return Judged(verdict=Verdict.RIGHT)
    if not why and result.aside < kind.aside:
        why = f"{kind.aside - result.aside} records are nowhere"
    return Judged(verdict=Verdict.WRONG if why else Verdict.RIGHT, why=why)


def _difference(columns: Sequence[str] | None, rows: Sequence[Row], result: Read) -> str:
    """The first difference between a table and what was read of it; empty where there is none."""
    if columns is not None and [name.strip() for name in result.columns] != list(columns):
        return f"columns {list(result.columns)[:8]!r}"
    if len(result.rows) != len(rows):
        return f"{len(result.rows)} rows, not {len(rows)}"
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(result.rows, 1):
        if len(row) != width:
            return f"{len(row)} columns in row {number}, not {width}"
    for position in range(width):
        wanted = [row[position] or "" for row in rows]
        found = [row[position] for row in result.rows]
        if not same(wanted, found):
            shown = [(a, b) for a, b in zip(wanted, found, strict=True) if _plain(b) != a][:2]
            return f"column {position + 1}: {shown!r}"
    return ""


def same(wanted: Sequence[str], found: Sequence[object]) -> bool:
    """Whether one way of writing gives every text of a column back. No value at all is an empty text."""
    if all(_plain(value) == text for text, value in zip(wanted, found, strict=True)):
        return True
    typed = [
        (text, value)
        for text, value in zip(wanted, found, strict=True)
        if _plain(value) != text or not (value is None or isinstance(value, str))
    ]
    if any(value is None or isinstance(value, str) for _, value in typed):
        return False
    return any(all(way(value) == text for text, value in typed) for way in ways())


def _plain(value: object) -> str:
    return "" if value is None else str(value)


# ways of writing ----------------------------------------------------------------------------------------------------

PAIRS = ("true false", "True False", "TRUE FALSE", "t f", "T F", "yes no", "Yes No", "YES NO", "y n", "Y N", "1 0")


@lru_cache(maxsize=1)
def ways() -> tuple[Way, ...]:
    """Every way of writing that a whole column may have been written in."""
    return (*_numbers(), *_pairs(), *_days())


def _numbers() -> Iterator[Way]:
    def number(value: object) -> bool:
        return isinstance(value, int | float | Decimal) and not isinstance(value, bool)

    def shortest(value: object) -> str | None:
        return str(value).removesuffix(".0") if number(value) else None

    def after_blank(value: object) -> str | None:
        return f" {value}" if number(value) else None

    yield shortest
    yield after_blank
    for digits, comma in product(range(19), ("", ",")):

        def fixed(value: object, digits: int = digits, comma: str = comma) -> str | None:
            return f"{value:{comma}.{digits}f}" if number(value) else None

        yield fixed


def _pairs() -> Iterator[Way]:
    for pair in PAIRS:
        yes, no = pair.split()

        def word(value: object, yes: str = yes, no: str = no) -> str | None:
            return (yes if value else no) if isinstance(value, bool) else None

        yield word


def _days() -> Iterator[Way]:
    days = [
        sign.join(parts)
        for parts in (
            ("%d", "%m", "%Y"),
            ("%m", "%d", "%Y"),
            ("%Y", "%m", "%d"),
            ("%d", "%m", "%y"),
            ("%m", "%d", "%y"),
        )
        for sign in "-/."
    ] + ["%Y%m%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y"]
    bare = [day.replace("%d", "%-d").replace("%m", "%-m") for day in days[:15]]
    clocks = ["%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p"]
    moments = [f"{day}{sign}{clock}" for day in days + bare for sign in " T" for clock in clocks]
    zoned = [moment + zone for moment in moments if not moment.endswith("%f") for zone in ZONES]
    for pattern in days + bare:

        def day_(value: object, pattern: str = pattern) -> str | None:
            is_day = isinstance(value, dt.date) and (not isinstance(value, dt.datetime) or value.time() == dt.time())
            return value.strftime(pattern) if is_day else None

        yield day_
    for pattern in moments + zoned + clocks:
        for cut in (0, 3, 5) if pattern.endswith("%f") else (0,):

            def moment(value: object, pattern: str = pattern, cut: int = cut) -> str | None:
                if not isinstance(value, dt.datetime | dt.time):
                    return None
                written = value.strftime(pattern)
                return written[: len(written) - cut]

            yield moment


ZONES = ("Z", "%z", "+00:00", " UTC")
