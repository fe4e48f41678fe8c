"""Records with a key: whether a table that is there tells its rows apart by it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ingest.errors import TableError
from ingest.model import Column, Reason
from ingest.targets.base import Target
from ingest.work import Planned, TableState, Work, refuse_work


def settable(
    planned: Planned, work: list[Work], columns: Iterable[Column], updated: Collection[str | None]
) -> list[Work]:
    """These files, if an upsert can set the columns that it has to; else they are refused, and none of them is left."""
    fixed = next((column for column in columns if column.fixed and column.name in updated), None)
    if fixed is None:
        return work
    for one in work:
        sentence = f"its column {fixed.name!r} would be updated, but the table {one.table} always numbers that itself"
        refuse_work(planned, one, Reason.KEY, sentence, f"Leave the column out, or type: {fixed.fixed}")
    return []


def check_index(state: TableState, key: Sequence[str], mode: str, target: Target) -> None:
    """Raise TableError for a table without a unique index on the key, or with one that a merge cannot go by."""
    first = state.unique.get(frozenset(key))
    if first:
        raise TableError(
            f"{', '.join(key)} of the table {state.key} is unique at the end of a transaction only (DEFERRABLE), and "
            f"--mode {mode} cannot go by that.",
            code=Reason.KEY,
            hint=f"Have it checked at once: {first}",
        )
    if first is None:
        raise TableError(
            f"the table {state.key} has no unique index on {', '.join(key)}, and --mode {mode} goes by one.",
            code=Reason.KEY,
            hint=f"Make one: {target.unique_index_sql(state.table, key)};",
        )
