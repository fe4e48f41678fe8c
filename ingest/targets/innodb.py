"""InnoDB checks the foreign keys of each row as it comes: rows that refer to later ones, rows that others refer to.

The checks are turned off for rows that come in, and the keys of these looked up when all are in. They stay on for rows
that go: there may be tables that refer to them and that this user cannot see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.model import Merge, Mode, TableShape
from ingest.targets import mysqlerrors, refusals, updating
from ingest.targets.base import POSITION, Target
from ingest.targets.keys import ForeignKey


def insert(target: Target, connection: Connection, gathered: sa.Table, into: sa.Table, *, first: int, last: int) -> int:
    """Insert gathered rows, of which some may refer to later ones; how many the table took."""
    statement = into.insert().from_select(*target.gathered_rows(gathered, first, last))
    try:
        return target.counted(connection, statement)
    except sa.exc.DBAPIError as error:
        if not (keys := _keys_if_no_parent(error, target, connection, into, gathered)):
            raise
    with _looked_up_later(connection, target, keys, gathered, gathered.c[POSITION].between(first, last)):
        return target.counted(connection, statement)


def put(
    target: Target,
    connection: Connection,
    table: sa.Table,
    gathered: sa.Table,
    *,
    merge: Merge,
    those: sa.ColumnElement[bool],
) -> int:
    """Update rows by their key if the mode says so, and insert the others; how many were written."""
    update = updating.update(table, gathered, merge, those) if merge.mode is Mode.UPSERT else None
    insert = updating.insert(table, gathered, merge, those)
    try:
        updated = 0 if update is None else target.counted(connection, update)
        return updated + target.counted(connection, insert)
    except sa.exc.DBAPIError as error:
        if not (keys := _keys_if_no_parent(error, target, connection, table, table)):
            raise
    # The new rows come first, so that an update, too, may refer to them; it stays checked, for rows of others may refer
    # to what it changes. Of what was left out for a row that is there, nothing is asked: parents are those of the row.
    met = [table.c[name] == gathered.c[name] for name in merge.key]
    with _looked_up_later(connection, target, keys, table, sa.and_(*met, those)):
        inserted = target.counted(connection, insert)
    return inserted if update is None else target.counted(connection, update)  # by now it meets the inserted ones, too


def replace(target: Target, connection: Connection, shape: TableShape, staging: TableShape) -> int:
    """Put the rows of a staging table in the place of those of the table; how many that were."""
    table, source = target.sql_table(shape), target.sql_table(staging)
    keys = _keys_if_to_itself(target, connection, table, table)
    own = {name for key in keys if _is_to_itself(key, table) for name in key.columns}
    free = {column: None for column in table.columns if column.name in own and column.nullable}
    if free:  # else no row could go before those that refer to it
        connection.execute(table.update().values(free))
    names = [c.name for c in table.columns]  # those of the staging table, but for the lineage that it may have besides
    rows = sa.select(*(source.c[name] for name in names))
    statements: Sequence[Any] = [table.insert().from_select(names, rows)]
    try:
        connection.execute(table.delete())
    except sa.exc.DBAPIError as error:
        if mysqlerrors.answer(error)[0] not in mysqlerrors.NEEDED_BY_OTHERS:
            raise
        if (lasting := _lasting_key(target, connection, shape)) is None:
            raise
        # What others refer to cannot go, not even until the end of the transaction: what stays is changed.
        gone, *statements = updating.become(table, source, lasting)
        connection.execute(gone)
    with _looked_up_later(connection, target, keys, table, sa.true()):
        return sum(target.counted(connection, statement) for statement in statements)


def _keys_if_no_parent(
    error: sa.exc.DBAPIError, target: Target, connection: Connection, table: sa.Table, rows: sa.Table
) -> list[ForeignKey]:
    """Those of `_keys_if_to_itself` where the error is that a row refers to one that is not there; else none."""
    if mysqlerrors.answer(error)[0] not in mysqlerrors.NO_PARENT:
        return []  # first: there may be no connection left to ask anything
    return _keys_if_to_itself(target, connection, table, rows)


def _keys_if_to_itself(target: Target, connection: Connection, table: sa.Table, rows: sa.Table) -> list[ForeignKey]:
    """The foreign keys of a table that refers to itself, if all can be looked up for these rows; of others none.

    A trigger may write to other tables, or change what is looked up: with one, the checks stay on.
    """
    query = (
        "SELECT 1 FROM information_schema.triggers WHERE event_object_schema = :schema AND event_object_table = :name"
    )
    place = {"schema": table.schema, "name": table.name}
    if connection.execute(sa.text(query), place).first() is not None:
        return []
    keys = target.foreign_keys(connection, table)
    there = {column.name for column in rows.columns}
    known = all(set(key.columns) <= there for key in keys)
    return keys if known and any(_is_to_itself(key, table) for key in keys) else []


def _is_to_itself(key: ForeignKey, table: sa.Table) -> bool:
    return (key.schema, key.table) == (table.schema, table.name)


@contextlib.contextmanager
def _looked_up_later(
    connection: Connection,
    target: Target,
    keys: Sequence[ForeignKey],
    rows: sa.Table,
    those: sa.ColumnElement[bool],
) -> Iterator[None]:
    """Inside the block these keys are not checked; at its end their parents are looked for, and locked."""
    if not keys:
        yield
        return
    connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("SET SESSION foreign_key_checks = 1")
    for key in keys:
        with refusals.reading_parents(connection, target, key.table, key.schema):
            orphan = connection.execute(updating.orphan(rows, key, those)).first()
        if orphan is not None:
            name = key.name.replace("`", "``")
            raise integrity_error(1452, f"a row refers to one that is not there, CONSTRAINT `{name}` FOREIGN KEY")


def _lasting_key(target: Target, connection: Connection, shape: TableShape) -> tuple[str, ...] | None:
    """A key that tells every row from the others, and in which is all that rows of others refer to."""
    query = (
        "SELECT DISTINCT referenced_column_name FROM information_schema.key_column_usage"
        " WHERE referenced_table_schema = :schema AND referenced_table_name = :name"
    )
    place = {"schema": target.schema_of(shape.table), "name": shape.table.name}
    referred = set(connection.execute(sa.text(query), place).scalars())
    sure = {column.name for column in shape.columns if not column.nullable}
    keys = target.unique_keys(connection, shape.table)
    return next((tuple(sorted(key)) for key in keys if referred <= key <= sure), None)


def integrity_error(code: int, text: str) -> sa.exc.IntegrityError:
    """An error as the driver and SQLAlchemy raise it."""
    from pymysql.err import IntegrityError

    return sa.exc.IntegrityError(None, None, IntegrityError(code, text), hide_parameters=True)
