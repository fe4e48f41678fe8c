"""Which rows a table refuses, and by which constraint: savepoints and halving, inside a transaction of the caller's.

Inserts what the table takes and leaves it there: who only wants to know rolls the transaction back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.errors import SourceError
from ingest.model import Reason
from ingest.targets.base import POSITION, Target
from ingest.targets.keys import ForeignKey


@dataclass(slots=True)
class Refused:
    """The rows of a gathered table that cannot be inserted."""

    rows: dict[int, str] = field(default_factory=dict)  #: the constraint of each, by its number
    complete: bool = True  #: False: the search ended at its limit


def find(
    connection: Connection,
    target: Target,
    table: sa.Table,
    gathered: sa.Table,
    *,
    insert: Callable[[int, int], object],
    last: int,
    limit: int | None,
    merged_by: Sequence[str] = (),
    late: str | None = None,
) -> Refused:
    """Insert rows 1 to `last` but for those that break a constraint; at most `limit` of them are looked for.

    Of two rows that cannot both be there the first one stays. `insert(a, b)` inserts the rows a to b, or raises what
    the target knows for a broken constraint; `merged_by` is the key by which it meets the rows that are there. `late`:
    the constraint that the last attempt broke, "" where the database does not tell; None where rows that this search
    would have found may have been in it.
    """
    found = Refused()
    keys = target.foreign_keys(connection, table)
    pending = [(1, last)]
    while pending:
        if limit is not None and len(found.rows) >= limit:
            found.complete = False
            break
        low, high = pending.pop()
        why = _attempt(connection, target, insert, low, high)
        if why is None:
            continue
        if low == high:
            found.rows[low] = why
        else:
            middle = (low + high) // 2
            pending += [(middle + 1, high), (low, middle)]
    if found.complete:
        if any(_refers_to(key, table) for key in keys):
            _again(connection, target, insert, found)
        if late is not None and not found.rows:
            # A key that is checked at the end of the transaction only has let them in. No other is looked up, for a
            # trigger may have changed the values, and the user may not be allowed to read the other table.
            broken = [key for key in keys if late in ("", f"FOREIGN KEY {key.name}")]
            found.rows = _orphans(connection, target, gathered, broken, put=(table, merged_by))
    _name_foreign_keys(connection, target, gathered, keys, found)
    return found


def _attempt(
    connection: Connection, target: Target, insert: Callable[[int, int], object], low: int, high: int
) -> str | None:
    """Insert some rows, or none of them: the constraint that one of them breaks."""
    savepoint = connection.begin_nested()
    try:
        insert(low, high)
    except sa.exc.DBAPIError as error:
        if not target.breaks_constraint(error):
            raise  # not back to the savepoint: a deadlock has ended the transaction, and that would hide it
        why = target.constraint(error)
        try:
            savepoint.rollback()
        except sa.exc.DBAPIError as lost:
            if target.fault(lost) is not None:
                raise
            # It has gone with the transaction: of SQLite a trigger can say so, of this table or of one that it changes.
            raise SourceError(
                f"a row of it ends the transaction that its rows share with the ledger: {why or 'a constraint'}.",
                code=Reason.CONSTRAINT,
                hint="Where it is a trigger that says ROLLBACK, make that anew with ABORT.",
            ) from error
        return why
    savepoint.commit()
    return None


def _again(connection: Connection, target: Target, insert: Callable[[int, int], object], found: Refused) -> None:
    """Rows that refer to others of their table may have come before them: now all that can be there is."""
    healed = True
    while healed:
        healed = False
        for row in list(found.rows):
            why = _attempt(connection, target, insert, row, row)
            if why is not None:
                found.rows[row] = why
                continue
            del found.rows[row]
            healed = True


def _refers_to(key: ForeignKey, table: sa.Table) -> bool:
    return key.table == table.name and key.schema in (None, table.schema)


def _orphans(
    connection: Connection,
    target: Target,
    gathered: sa.Table,
    keys: Sequence[ForeignKey],
    *,
    rows: Collection[int] | None = None,
    put: tuple[sa.Table, Sequence[str]] | None = None,
) -> dict[int, str]:
    """The rows (all, or these) without the parent that a foreign key demands, by their number.

    `put`: only those that were put into this table, by this key: others were left out for a row that is there.
    """
    found: dict[int, str] = {}
    there = {c.name for c in gathered.columns}
    for key in keys:
        if not set(key.columns) <= there:
            continue  # the file has no such column, so what is in it is the table's own default
        parent = sa.table(key.table, *map(sa.column, key.referred), schema=key.schema).alias("parent")
        mine = [gathered.c[name] for name in key.columns]
        same: list[Any] = [parent.c[other] == column for other, column in zip(key.referred, mine, strict=True)]
        query = sa.select(gathered.c[POSITION]).where(
            *(column.is_not(None) for column in mine),
            ~sa.exists(sa.select(sa.literal(1)).select_from(parent).where(*same)),
        )
        if put is not None and put[1]:
            into = put[0].alias("put_into")
            met = [into.c[name] == gathered.c[name] for name in {*put[1], *key.columns}]
            query = query.where(sa.exists(sa.select(sa.literal(1)).select_from(into).where(*met)))
        name = key.name or f"({', '.join(key.columns)}) REFERENCES {key.table} ({', '.join(key.referred)})"
        with reading_parents(connection, target, key.table, key.schema):
            numbers = connection.execute(query).scalars().all()
        for row in numbers:
            if rows is None or row in rows:
                found.setdefault(row, f"FOREIGN KEY constraint failed: {name}")
    return found


@contextlib.contextmanager
def reading_parents(connection: Connection, target: Target, name: str, schema: str | None) -> Iterator[None]:
    """Inside the block the table that a foreign key refers to is read, which this user may not be allowed to."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if target.fault(error) is not None:
            raise
        parent = sa.table(name, schema=schema)
        place = connection.dialect.identifier_preparer.format_table(parent)
        raise SourceError(
            f"the records that break a foreign key to {parent.name} cannot be found: {target.said(error)}.",
            code=Reason.DATABASE,
            hint=f"Its owner can type: GRANT SELECT ON {place} TO {target.user(connection)};",
        ) from error


def _name_foreign_keys(
    connection: Connection,
    target: Target,
    gathered: sa.Table,
    keys: Sequence[ForeignKey],
    found: Refused,
) -> None:
    """Some databases say that a foreign key was broken, and not which; where it cannot be looked up, it stays so."""
    nameless = {row for row, why in found.rows.items() if not why}
    named: dict[int, str] = {}
    if nameless:
        savepoint = connection.begin_nested()
        try:
            named = _orphans(connection, target, gathered, keys, rows=nameless)
        except SourceError:
            savepoint.rollback()
        else:
            savepoint.commit()
    for row in nameless:
        found.rows[row] = named.get(row, "a constraint")
