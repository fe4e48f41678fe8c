"""Records with a key: whether a table that is there tells its rows apart by it."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.errors import TableError
from ingest.model import Reason
from ingest.targets.base import Target
from ingest.work import TableState


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
