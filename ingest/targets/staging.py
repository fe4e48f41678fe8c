"""Stage a typed batch in a target's own bulk format, into the spool. The workers' side: imports no SQLAlchemy.

What a stage holds must read back through SQLAlchemy equal to what a plain `insert()` of the same values gives;
`tests/test_targets.py` compares the two for every type.
"""

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
from ingest.jobs import ARROW, LOAD_DATA, POSTGRES, SQLITE, Staged
from ingest.model import Reason, TableShape
from ingest.targets import pages


def stage(format_: str, batch: pa.Table, shape: TableShape, *, stem: str, name: str) -> Staged:
    """Write `batch`, its columns named as the table's, to a file whose path starts with `stem`.

    `name` tells the batches of one stem apart. Raises `SourceError` where a row breaks a constraint of the table's
    own definition.
    """
    if format_ == SQLITE:
        return _stage_sqlite(batch, shape, path=f"{stem}.db", table=f"b{name}")
    if format_ == LOAD_DATA:
        from ingest.targets import loaddata

        path = f"{stem}-{name}.txt"
        loaddata.write(batch, path)
        return Staged(format=LOAD_DATA, path=path, columns=tuple(batch.column_names))
    if format_ == POSTGRES:
        from ingest.targets import copying  # its own way, which others need not load

        return copying.stage(batch, shape, path=f"{stem}-{name}.copy")
    path = f"{stem}-{name}.arrow"
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch)
    return Staged(format=ARROW, path=path)


def read_arrow(path: str, rows: int) -> Iterator[list[dict[str, Any]]]:
    """The batches of a staged Arrow file as lists of `rows` dictionaries."""
    with pa.memory_map(path) as source:
        table = pa.ipc.open_file(source).read_all()
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows).to_pylist()


def _stage_sqlite(batch: pa.Table, shape: TableShape, *, path: str, table: str) -> Staged:
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
            _query(adbc, connection, f"PRAGMA {pragma}")
        _update(adbc, connection, shape.definition)
        _update(adbc, connection, rename)
        statement = adbc.AdbcStatement(connection)
        try:
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
            statement.close()
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


def _query(adbc: Any, connection: Any, sql: str) -> None:
    statement = adbc.AdbcStatement(connection)
    try:
        statement.set_sql_query(sql)
        statement.execute_query()
    finally:
        statement.close()


def _update(adbc: Any, connection: Any, sql: str) -> None:
    statement = adbc.AdbcStatement(connection)
    try:
        statement.set_sql_query(sql)
        statement.execute_update()
    finally:
        statement.close()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
