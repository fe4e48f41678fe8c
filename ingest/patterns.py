"""The patterns by which dates and moments are written, as `strptime` has them. Imports no Arrow.

%Y, %m, %d, %H, %M, %S, %f (a fraction of a second, up to 6 digits), %y (two digits: 69 to 99 are of the 20th century,
00 to 68 of the 21st, as POSIX has it), %b (an English month, short or in full), %I with %p (AM or PM). What stands in
[brackets] may be missing. %d, %m, %H and %I may have one digit, unless another number touches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from ingest.model import ColumnType

PIVOT = 69
"""Years of two digits from here on are of the 20th century: POSIX, and Python's own `strptime`."""

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)

_FIELDS = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "[0-9]{1,2}",
    "b": "[A-Za-z]{3,9}",
    "d": "[0-9]{1,2}",
    "H": "[0-9]{1,2}",
    "I": "[0-9]{1,2}",
    "M": "[0-9]{2}",
    "S": "[0-9]{2}",
    "f": "[0-9]{1,6}",
    "p": "[AaPp][Mm]",
}
_PART = re.compile(r"%([^%])|(\[)|(\])|(%%|.)", re.DOTALL)

DATES = (
    *("%d.%m.%Y", "%m.%d.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%b %d %Y"),
    *("%d.%m.%y", "%m.%d.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%y"),
)
"""What is looked for in the values of a column. Where both orders of day and month fit all values, neither is taken; of
years with two digits nobody but the user can tell the century."""

TIMES = (" %H:%M[:%S[.%f]]", " %I:%M[:%S][ ]%p")

SPELLINGS = (*DATES, *(day + time for time in TIMES for day in DATES))
"""All spellings that are looked for, by their bit in a profile."""

SHORT = 1 << DATES.index("%Y-%m-%d")
"""The bit of ISO dates whose months and days may have one digit: dates by the book fit it as well."""


@cache
def regex(pattern: str) -> str:
    """The pattern as a regular expression (of RE2 and Python) whose groups are named after the directives.

    Raises ValueError, with what is wrong, for what is no pattern.
    """
    text, depth, seen, touches = "^", 0, set(), False
    parts = [part.groups() for part in _PART.finditer(pattern)]
    for number, (directive, opening, closing, literal) in enumerate(parts):
        # Brackets do not keep digits apart.
        after = next((d for d, o, c, _ in parts[number + 1 :] if not (o or c)), None)
        if directive is not None:
            if directive not in _FIELDS:
                raise ValueError(f"%{directive} is not known")
            if directive in seen:
                raise ValueError(f"%{directive} comes twice")
            seen.add(directive)
            field = _FIELDS[directive]
            if touches or after not in (None, "b", "p"):
                field = field.replace("{1,2}", "{2}")
            text += f"(?P<{directive}>{field})"
        elif opening:
            depth += 1
            text += "(?:"
        elif closing:
            depth -= 1
            if depth < 0:
                break
            text += ")?"
        else:
            text += re.escape(literal[-1])
        if not opening and not closing:
            touches = directive is not None and directive not in "bp"
    if depth:
        raise ValueError("a bracket has no other half")
    return f"{text}$"


def check(pattern: str, kind: ColumnType) -> None:
    """Raise ValueError unless the pattern says all that a value of this kind is made of."""
    found = set(re.findall(r"\(\?P<(.)>", regex(pattern)))
    if len(found & {"Y", "y"}) != 1 or len(found & {"m", "b"}) != 1 or "d" not in found:
        raise ValueError("it needs a year (%Y or %y), a month (%m or %b) and a day (%d)")
    times = found & set("HIMSfp")
    if kind is ColumnType.DATE and times:
        raise ValueError("a date has no time of the day")
    if times and (len(found & {"H", "I"}) != 1 or ("I" in found) != ("p" in found)):
        raise ValueError("a time needs an hour: %H, or %I with %p")
    if ("f" in found and "S" not in found) or ("S" in found and "M" not in found):
        raise ValueError("a part of the time is missing")


def named(bits: int) -> Iterator[str]:
    """The spellings that a profile's bits stand for."""
    return (spelling for bit, spelling in enumerate(SPELLINGS) if bits >> bit & 1)


def is_date(pattern: str) -> bool:
    """Whether it is a date without a time."""
    return pattern in DATES
