"""What the tests of the ledger share: an engine as the tool opens it, and short ways to a file in a given state."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from sqlalchemy import Connection, Engine, create_engine, event

from ingest import ledger
from ingest.model import LINEAGE_COLUMN, Column, ColumnType, FileState, Reason, Reject, TableName, TableShape
from ingest.orders import Apply
from ingest.rows import FileRow, Move, NewFile
from ingest.targets.base import BatchRef, Target
from ingest.targets.staging import stage


def open_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


ORDERS = TableName(name="orders")


def begun(target: Target) -> tuple[int, TableShape]:
    """A new ledger, a run, and an empty table of ours with one column, `id`: the run's number, the table's shape."""
    columns = (Column(name="id", type=ColumnType.BIGINT), Column(name=LINEAGE_COLUMN, type=ColumnType.BIGINT))
    with target.begin() as connection:
        ledger.create(connection)
        target.create_table(connection, TableShape(table=ORDERS, columns=columns), "0" * 32)
    with target.begin() as connection:
        shape = target.shape(connection, ORDERS)
    assert shape is not None
    return start(target.engine), shape


def start(engine: Engine) -> int:
    with engine.begin() as connection:
        return ledger.start_run(connection, host="here", pid=7, version="0.1", options="{}")


def new_file(number: int = 1, **changes: object) -> NewFile:
    entry = NewFile(
        table_name="orders",
        path=f"/data/orders_{number}.csv",
        path_key=f"{number:064x}",
        size=100,
        mtime_ns=1,
        ctime_ns=2,
        scanned_ns=3,
        lineage=True,
        sha256="aa",
        header="{}",
    )
    return replace(entry, **changes)


def register(engine: Engine, run_id: int, *numbers: int, **changes: object) -> list[FileRow]:
    with engine.begin() as connection:
        entries = [new_file(number, **changes) for number in numbers or (1,)]
        rows = ledger.register(connection, run_id, entries)
        return [rows[entry.path_key] for entry in entries]


def move(row: FileRow, to: int, **changes: object) -> Move:
    return replace(
        Move(
            file_id=row.file_id,
            version=row.version,
            epoch=row.epoch,
            from_bytes=row.committed_bytes,
            to_bytes=to,
            records=10,
            rows=7,
            rejected=2,
            discarded=1,
            prefix_sha256=f"prefix{to}",
        ),
        **changes,
    )


def advance(engine: Engine, run_id: int, *moves: Move) -> None:
    with engine.begin() as connection:
        ledger.advance(connection, run_id, moves)


def read(engine: Engine, file_id: int) -> FileRow:
    with engine.begin() as connection:
        row = ledger.file(connection, file_id)
    assert row is not None
    return row


def counts(row: FileRow) -> tuple[int, int, int, int, int]:
    return (row.committed_bytes, row.committed_records, row.rows_loaded, row.rows_rejected, row.rows_discarded)


def reject(record: int, **changes: object) -> Reject:
    base = Reject(code=Reason.RAGGED, message="9 fields, expected 8", line=record + 2, byte=record * 10, record=record)
    return replace(base, **{"text": "1,2,3"} | changes)


def settle(engine: Engine, run_id: int, row: FileRow, state: FileState, **changes: int) -> None:
    named = {"file_id": row.file_id, "version": row.version, "epoch": row.epoch} | changes
    with engine.begin() as connection:
        ledger.settle(connection, run_id, **named, state=state, code=Reason.OVER_BUDGET, error="11 rejects, 10 allowed")


def staged_order(
    target: Target, shape: TableShape, folder: Path, row: FileRow, *, number: int, ids: list[int], to: int
) -> Apply:
    """An order to put rows with these ids into the table, as one staged batch, and the file forward."""
    batch = pa.table({"id": ids, LINEAGE_COLUMN: [row.file_id] * len(ids)})
    staged = stage(target.stage_format(shape), batch, shape, stem=str(folder / f"s{number}"), name="0")
    return Apply(
        order=number,
        shape=shape,
        batches=(BatchRef(staged=staged, rows=len(ids)),),
        moves=(move(row, to),),
        table_name=str(shape.table),
    )
