"""What PostgreSQL's names of types tell: which we encode for binary COPY, and which are text. Imports no library."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ingest.model import Column

TEXTS = ("text", "character varying", "character")

ENCODED = (
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "boolean",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "uuid",
    "bytea",
    *TEXTS,
)
"""Types whose binary form depends on nothing but the value; `numeric` has a rule of its own."""

_CLOCKS = tuple(f"{kind} {zone} time zone" for kind in ("timestamp", "time") for zone in ("with", "without"))

DIGITS = 38
"""Of a decimal number that Arrow holds."""


def bare(native: str) -> str:
    """A type without its length: `timestamp(3) without time zone` and `character varying(20)` have theirs inside."""
    return re.sub(r"\(.*?\)", "", native).strip()


def digits_of_a_second(native: str) -> int | None:
    """How many a type keeps of a moment or a time of the day; None: it is another type, or an array of them."""
    if bare(native) not in _CLOCKS:
        return None
    found = re.search(r"\((\d)\)", native)
    return int(found[1]) if found else 6


def encodable(column: Column) -> bool:
    """Whether values of this column can be encoded, whatever they are."""
    if bare(column.native) == "numeric":
        # Without a scale every value keeps its own, and Arrow has one for all of a column.
        precision, scale = column.precision, column.scale
        return precision is not None and scale is not None and 0 <= scale <= precision <= DIGITS
    return bare(column.native) in ENCODED


def why_text(columns: Iterable[Column]) -> str:
    """Why batches with these columns are not encoded, "" if they are."""
    for column in columns:
        if not encodable(column):
            return f"the column {column.name!r} is of type {column.native}"
    return ""
