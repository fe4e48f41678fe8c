"""What the ledger is asked. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select

from ingest.model import FileState, Reason
from ingest.rows import FileRow, RejectRow, RunRow, TableRow, TableSums
from ingest.tables import ingest_file, ingest_reject, ingest_run, ingest_table

PORTION = 500
"""Keys of one IN list: SQLite before 3.32 takes 999 parameters in a statement."""

T = TypeVar("T")


def files(connection: Connection, *, tables: Sequence[str] | None = None, lock: bool = False) -> list[FileRow]:
    """All files, or those of these tables, in the order in which they were first seen; `lock` as for `file`."""
    query = select(ingest_file).order_by(ingest_file.c.file_id)
    query = query.with_for_update() if lock else query
    if tables is None:
        return [FileRow.from_row(row) for row in connection.execute(query)]
    found: list[FileRow] = []
    for names in portions(tables):
        found += map(FileRow.from_row, connection.execute(query.where(ingest_file.c.table_name.in_(names))))
    return sorted(found, key=lambda row: row.file_id)


def file(connection: Connection, file_id: int, *, lock: bool = False) -> FileRow | None:
    """One file, by its number; with `lock` as it is when every other transaction that changed it has ended."""
    query = select(ingest_file).where(ingest_file.c.file_id == file_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return FileRow.from_row(row) if row is not None else None


def runs(connection: Connection, limit: int | None = None) -> list[RunRow]:
    """The runs, newest first."""
    query = select(ingest_run).order_by(ingest_run.c.run_id.desc()).limit(limit)
    return [RunRow.from_row(row) for row in connection.execute(query)]


def run(connection: Connection, run_id: int, *, lock: bool = False) -> RunRow | None:
    """One run, by its number; `lock` as for `file`."""
    query = select(ingest_run).where(ingest_run.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return RunRow.from_row(row) if row is not None else None


def rejects(
    connection: Connection, *, file_id: int | None = None, limit: int | None = None, still_open: bool = False
) -> Iterator[RejectRow]:
    """The rejects of one file or of all, in the order of the files and of their records; read as they are asked for.

    `still_open`: without those that were mended and loaded back.
    """
    c = ingest_reject.c  # those that a table refuses are found late, and in no order: their numbers tell none
    query = select(ingest_reject).order_by(c.file_id, c.record, c.reject_id).limit(limit)
    if file_id is not None:
        query = query.where(ingest_reject.c.file_id == file_id)
    if still_open:
        query = query.where(ingest_reject.c.closed_run_id.is_(None))
    for row in connection.execute(query.execution_options(yield_per=1_000)):
        yield RejectRow.from_row(row)


def rejected_for(connection: Connection, reason: Reason) -> set[int]:
    """The numbers of files of which a record was set aside for this reason, and the rest was loaded."""
    c = ingest_reject.c
    query = select(c.file_id).where(c.reason == reason.value, c.applied).distinct()
    return set(connection.execute(query).scalars())


def rejects_by_id(connection: Connection, ids: Sequence[int]) -> dict[int, RejectRow]:
    """Those of these rejects that the ledger knows."""
    found: dict[int, RejectRow] = {}
    for portion in portions(ids):
        rows = connection.execute(select(ingest_reject).where(ingest_reject.c.reject_id.in_(portion)))
        found.update((row.reject_id, RejectRow.from_row(row)) for row in rows)
    return found


def files_with_open_rejects(connection: Connection) -> dict[int, bool]:
    """The numbers of the files that have rejects which were not loaded back, and whether all of these can be.

    Those of a refusal cannot.
    """
    c = ingest_reject.c
    found: dict[int, bool] = {}
    still_open = select(c.file_id, c.applied).where(c.closed_run_id.is_(None)).distinct()
    for file_id, applied in connection.execute(still_open):
        found[file_id] = applied and found.get(file_id, True)
    return found


def tables(connection: Connection) -> dict[str, TableRow]:
    """The tables that the ledger knows, by name."""
    return {row.table_name: TableRow.from_row(row) for row in connection.execute(select(ingest_table))}


def sums(connection: Connection) -> dict[str, TableSums]:
    """For every table that a file was meant for: what its files add up to."""
    c = ingest_file.c
    counted = (c.rows_loaded, c.rows_rejected, c.rows_discarded, c.rows_superseded, c.rows_ignored)
    query = select(c.table_name, c.state, func.count(), *map(func.sum, counted)).group_by(c.table_name, c.state)
    grouped: dict[str, list[Sequence[Any]]] = {}
    for name, *rest in connection.execute(query.order_by(c.table_name, c.state)):
        grouped.setdefault(name, []).append(rest)
    return {
        name: TableSums(
            files={FileState(row[0]): int(row[1]) for row in rows},
            rows_loaded=sum(int(row[2]) for row in rows),
            rows_rejected=sum(int(row[3]) for row in rows),
            rows_discarded=sum(int(row[4]) for row in rows),
            rows_superseded=sum(int(row[5]) for row in rows),
            rows_ignored=sum(int(row[6]) for row in rows),
        )
        for name, rows in grouped.items()
    }


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in pieces that fit an IN list."""
    return (items[start : start + PORTION] for start in range(0, len(items), PORTION))
