"""Stage a batch for SQLite, in a file that the writer attaches: as pages of our own, or else by SQLite itself."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import SourceError
from ingest.jobs import SQLITE, Staged
from ingest.model import Reason, TableShape
from ingest.targets import pages


def stage(batch: pa.Table, shape: TableShape, *, path: str, table: str) -> Staged:
    """Write `batch` to a table of that file, which may have others.

    Raises `SourceError` where a row breaks a constraint of the table's own definition.
    """
    rename = f"ALTER TABLE {_quoted(shape.table.name)} RENAME TO {table}"
    with _only_one(path):
        try:
            pages.append(path, shape.definition, rename, table, batch)
        except pages.Unsuited:
            _let_sqlite(batch, shape, rename, path=path, table=table)
    return Staged(format=SQLITE, path=path, table=table)


def _let_sqlite(batch: pa.Table, shape: TableShape, rename: str, *, path: str, table: str) -> None:
    """Stage value by value, through SQLite's own insert."""
    # ADBC's `dbapi` module would import pandas; its low-level half starts in a twentieth of the time.
    import adbc_driver_manager as adbc
    import adbc_driver_sqlite

    new = not os.path.exists(path)
    database = adbc.AdbcDatabase(driver=adbc_driver_sqlite._driver_path(), uri=path)
    connection = adbc.AdbcConnection(database)
    try:
        # A stage that a crash leaves behind is never read, so nothing here is worth an fsync.
        pragmas = [f"page_size={pages.PAGE}"] if new else []
        for pragma in (*pragmas, "journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            with _statement(adbc, connection, f"PRAGMA {pragma}") as statement:
                statement.execute_query()
        for ddl in (shape.definition, rename):
            with _statement(adbc, connection, ddl) as statement:
                statement.execute_update()
        with _statement(adbc, connection) as statement:
            statement.set_options(**{"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append"})
            statement.bind_stream(_storable(batch).to_reader())
            statement.execute_update()
    except adbc.DatabaseError as error:
        # SQLite's sentence names the columns, and no value.
        broken = re.search(r"[A-Z ]+ constraint failed: .*", str(error))
        if broken is None:
            raise
        said = broken[0].strip().replace(f"{table}.", f"{shape.table.name}.")
        raise SourceError(f"the table refused a row: {said}.", code=Reason.CONSTRAINT) from error
    finally:
        connection.close()
        database.close()


@contextmanager
def _only_one(path: str) -> Iterator[None]:
    # With more workers than a transaction takes stage files, two workers share one: they take turns.
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _storable(batch: pa.Table) -> pa.Table:
    """The batch in the four storage classes of SQLite, as SQLAlchemy's SQLite types write them."""

    def storable(column: Any) -> Any:
        if pa.types.is_boolean(column.type):
            return pc.cast(column, pa.int64())
        if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
            return pc.cast(column, pa.string())
        return column

    return pa.table([storable(column) for column in batch.columns], names=batch.column_names)


@contextmanager
def _statement(adbc: Any, connection: Any, sql: str | None = None) -> Iterator[Any]:
    statement = adbc.AdbcStatement(connection)
    try:
        if sql is not None:
            statement.set_sql_query(sql)
        yield statement
    finally:
        statement.close()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
