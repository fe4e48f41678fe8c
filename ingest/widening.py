"""Which type of a column can be changed to a wider one: only where no stored value changes its text.

Decides, and asks the database what is stored; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.model import PLAIN, Column, ColumnType, Origin
from ingest.profiles import EXACT_DIGITS, Verdict
from ingest.targets.base import Target
from ingest.work import TableState

_LOST = {
    ColumnType.DOUBLE: "a number such as 1.50 is stored as 1.5",
    ColumnType.BOOLEAN: "the words for true and false are not stored",
    ColumnType.TIMESTAMP: "a moment is not stored as it was written",
    ColumnType.TIME: "a time is not stored as it was written",
    ColumnType.DECIMAL: "zeros at the end of a number are not stored as they were written",
}

_DECIDED = {Origin.DECLARED: "it was declared", Origin.TRANSFORM: "a transform returned it"}


def kept(columns: Sequence[Column], state: TableState, target: Target) -> dict[str, str]:
    """The columns whose type cannot be changed, each with the reason."""
    found = {}
    for column in columns:
        if not target.widens:
            why = "that is not done in a database of this kind"
        elif not state.made_by_us:
            why = "the table is not one that ingest made"
        elif column.type is ColumnType.TEXT:
            why = "it is text that an index is made of"
        elif column.origin is not Origin.INFERRED or not column.strict:
            why = _DECIDED.get(column.origin, "it was not inferred from values")
        elif column.spelling.moment:
            why = f"its dates were written as {column.spelling.moment}"
        else:
            why = _LOST.get(column.type, "")
        if why:
            found[column.name] = why
    return found


def wider(column: Column, verdict: Verdict) -> Column:
    """The column, of those that are not `kept`, with a type that takes what it holds and the new values as well."""
    whole = column.type is ColumnType.BIGINT and verdict.type is ColumnType.DOUBLE
    kind = ColumnType.DOUBLE if whole else ColumnType.TEXT
    return _retyped(column, kind)


def _retyped(column: Column, kind: ColumnType) -> Column:
    return Column(
        name=column.name,
        type=kind,
        origin=Origin.INFERRED,
        nullable=column.nullable,
        strict=kind is not ColumnType.TEXT,
        spelling=PLAIN,
        note=f"was {column.type}",
        reason=f"was {column.type}, which does not take all new values",
    )


def look(target: Target, state: TableState, columns: list[Column], before: Mapping[str, Column]) -> None:
    """Make those text that were to become DOUBLE, and hold a number of more digits than that gives back."""
    asked = [number for number, c in enumerate(columns) if c.name in before and c.type is ColumnType.DOUBLE]
    if not asked or state.shape is None:
        return
    with target.connect() as connection:
        for number in asked:
            if target.has_beyond(connection, state.shape, columns[number].name, 10**EXACT_DIGITS):
                columns[number] = _retyped(before[columns[number].name], ColumnType.TEXT)
