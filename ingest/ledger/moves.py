"""The moves of the ledger: runs, files, rejects and tables step forward, and only from where they were seen last.

Every change of a file that another run could contend for is a conditional update, and raises `FenceError` when it
matches fewer rows than it was meant for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    String,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from ingest import discards
from ingest.errors import FenceError, LedgerError
from ingest.ledger.questions import portions
from ingest.model import FileState, Reject, RunState
from ingest.rows import FileRow, Move, NewFile, TableState, Totals, Touched, path_stored, storable
from ingest.tables import ingest_file, ingest_reject, ingest_run, ingest_table

_UNFINISHED = (FileState.STARTED.value, FileState.UNDOING.value)
_NO_PROGRESS: dict[str, int | None] = dict.fromkeys(
    (
        "committed_bytes",
        "committed_records",
        "rows_loaded",
        "rows_rejected",
        "rows_discarded",
        "rows_superseded",
        "rows_ignored",
    ),
    0,
) | {"discards": None}
_FRESH = {**_NO_PROGRESS, "epoch": 0, "version": 1, "attempts": 1, "deaths": 0}
_REGISTERED = ("size", "mtime_ns", "ctime_ns", "scanned_ns", "sha256", "lineage", "header", "started_at", "mode")
_UNAPPLIED = {"applied": False, "closed_run_id": None, "closed_at": None}
"""Nothing of a file is in the table any more, what was mended of it neither: its rejects are open, and of no use."""
_SETTLED = (FileState.REFUSED, FileState.FAILED, FileState.UNDOING)

_AGAIN = (
    update(ingest_file)
    .where(ingest_file.c.file_id == bindparam("b_file_id"), ingest_file.c.state != FileState.UNDOING.value)
    .values(version=ingest_file.c.version + 1, attempts=ingest_file.c.attempts + 1, error_code=None, error=None)
)


def _after(column: Column[int], step: str) -> ColumnElement[int]:
    """The new count: what was there (or 0, for a reset) and this step's."""
    return column * bindparam("b_keep", type_=BigInteger) + bindparam(step, type_=BigInteger)


# The safety of it all (design D2): offset check, checkpoint, fence and proof of the commit in one statement.
# tests/test_ledger.py::test_a_move_that_does_not_match_is_fenced has a case for each of its conditions.
_ADVANCE = (
    update(ingest_file)
    .where(
        ingest_file.c.file_id == bindparam("b_file_id"),
        ingest_file.c.committed_bytes == bindparam("b_from"),
        ingest_file.c.version == bindparam("b_version"),
        ingest_file.c.epoch == bindparam("b_epoch"),
        ingest_file.c.run_id == bindparam("b_run_id"),
        ingest_file.c.state == FileState.STARTED.value,
    )
    .values(
        committed_bytes=bindparam("b_to"),
        committed_records=_after(ingest_file.c.committed_records, "b_records"),
        rows_loaded=_after(ingest_file.c.rows_loaded, "b_rows"),
        rows_rejected=_after(ingest_file.c.rows_rejected, "b_rejected"),
        rows_discarded=_after(ingest_file.c.rows_discarded, "b_discarded"),
        rows_superseded=_after(ingest_file.c.rows_superseded, "b_superseded"),
        rows_ignored=_after(ingest_file.c.rows_ignored, "b_ignored"),
        discards=bindparam("b_discards", type_=String),
        prefix_sha256=bindparam("b_prefix"),
        sha256=func.coalesce(bindparam("b_sha256", type_=String), ingest_file.c.sha256),
        state=bindparam("b_state"),
        loaded_at=bindparam("b_loaded_at"),
        version=ingest_file.c.version + 1,
        deaths=0,
    )
)


# Runs


def start_run(connection: Connection, *, host: str, pid: int, version: str, options: str) -> int:
    """Write down a new run; its number. `options` is JSON without secrets."""
    values = {
        "state": RunState.RUNNING.value,
        "started_at": _now(),
        "host": host,
        "pid": pid,
        "ingest_version": version,
        "options": options,
    }
    result = connection.execute(insert(ingest_run).values(**values, **asdict(Totals())))
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def finish_run(
    connection: Connection,
    run_id: int,
    *,
    state: RunState,
    exit_code: int,
    totals: Totals,
    error: str | None = None,
) -> None:
    """The run ended by itself. Raises `FenceError` if another run has taken it over."""
    c = ingest_run.c
    statement = update(ingest_run).where(c.run_id == run_id, c.state == RunState.RUNNING.value)
    result = connection.execute(
        statement.values(
            state=state.value,
            finished_at=_now(),
            exit_code=exit_code,
            error=storable(error),
            **asdict(totals),
        )
    )
    if result.rowcount != 1:
        raise _taken_over(run_id)


def take_over(connection: Connection) -> list[int]:
    """Every run that still calls itself running is abandoned, and fenced off: their numbers.

    Raises the epoch of every unfinished file in the same transaction, so that nothing that an old writer still
    sends can match. Who calls it holds the lease and has not started its own run yet.
    """
    c = ingest_run.c
    found = list(connection.execute(select(c.run_id).where(c.state == RunState.RUNNING.value)).scalars())
    connection.execute(
        update(ingest_run).where(c.state == RunState.RUNNING.value).values(state=RunState.ABANDONED.value)
    )
    connection.execute(
        update(ingest_file).where(ingest_file.c.state.in_(_UNFINISHED)).values(epoch=ingest_file.c.epoch + 1)
    )
    return found


def check_run(connection: Connection, run_id: int, *, hold: bool = False) -> None:
    """Raises `FenceError` unless this run is still running; `hold`: nor can it be taken over in this transaction."""
    query = select(ingest_run.c.state).where(ingest_run.c.run_id == run_id)
    state = connection.execute(query.with_for_update() if hold else query).scalar()
    if state != RunState.RUNNING.value:
        raise _taken_over(run_id)


# Files


def register(connection: Connection, run_id: int, entries: Sequence[NewFile]) -> dict[str, FileRow]:
    """The attempt, written ahead: each file is STARTED with its new fingerprint; the rows, by `path_key`.

    What is committed of a file stays as it is: a resume goes on from there, and the first move of a reload resets it.
    Raises `FenceError` if the run was taken over, or a file is being undone (finish that first).
    """
    check_run(connection, run_id)
    keys = [entry.path_key for entry in entries]
    c = ingest_file.c
    known: dict[str, int] = {}
    for portion in portions(keys):
        query = select(c.path_key, c.file_id).where(c.path_key.in_(portion))
        known.update((key, file_id) for key, file_id in connection.execute(query))
    now = _now()
    again: list[dict[str, object]] = []
    fresh: list[dict[str, object]] = []
    for entry in entries:
        values: dict[str, object] = {
            "path": path_stored(entry.path),
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
            "ctime_ns": entry.ctime_ns,
            "scanned_ns": entry.scanned_ns,
            "sha256": entry.sha256,
            "lineage": entry.lineage,
            "header": storable(entry.header),
            "mode": entry.mode,
            "state": FileState.STARTED.value,
            "run_id": run_id,
            "started_at": now,
        }
        if entry.path_key in known:
            again.append({"b_file_id": known[entry.path_key], **values})
        else:
            fresh.append({"path_key": entry.path_key, "table_name": entry.table_name, **values, **_FRESH})
    if fresh:
        connection.execute(insert(ingest_file), fresh)
    if again:
        execute_fenced(connection, _AGAIN, again)
    # This attempt may end before its first move: then the next one finds how *it* reads the file, beside what an
    # earlier one has left of it. Without a hash of that nobody takes the two for parts of the same.
    anew = [known[entry.path_key] for entry in entries if entry.anew and entry.path_key in known]
    for file_ids in portions(anew):
        connection.execute(update(ingest_file).where(c.file_id.in_(file_ids)).values(prefix_sha256=None))
    rows: dict[str, FileRow] = {}
    for portion in portions(keys):
        found = connection.execute(select(ingest_file).where(c.path_key.in_(portion)))
        rows.update((row.path_key, FileRow.from_row(row)) for row in found)
    return rows


def advance(connection: Connection, run_id: int, moves: Sequence[Move]) -> None:
    """The conditional update that ends every apply. Raises `FenceError` unless each move matched its row."""
    if not moves:
        return
    now = _now()
    parameters = [
        {
            "b_file_id": move.file_id,
            "b_from": move.from_bytes,
            "b_version": move.version,
            "b_epoch": move.epoch,
            "b_run_id": run_id,
            "b_to": move.to_bytes,
            "b_keep": 0 if move.reset else 1,
            "b_records": move.records,
            "b_rows": move.rows,
            "b_rejected": move.rejected,
            "b_discarded": move.discarded,
            "b_superseded": move.superseded,
            "b_ignored": move.ignored,
            "b_discards": discards.written(move.discards),
            "b_prefix": move.prefix_sha256,
            "b_sha256": move.sha256,
            "b_state": (FileState.LOADED if move.done else FileState.STARTED).value,
            "b_loaded_at": now if move.done else None,
        }
        for move in moves
    ]
    execute_fenced(connection, _ADVANCE, parameters)


def settle(
    connection: Connection,
    run_id: int,
    *,
    file_id: int,
    version: int,
    epoch: int,
    state: FileState,
    code: str,
    error: str,
    deaths: int | None = None,
) -> None:
    """An unfinished file is REFUSED or FAILED, or is to be undone; `deaths` None keeps their number.

    REFUSED and FAILED promise that nothing of the file is in the table, so they need a row with nothing committed:
    what is committed goes by UNDOING and `finish_undo`, or stays by `withdraw`. Raises `FenceError` otherwise.
    """
    if state not in _SETTLED:
        raise ValueError(f"a file is not settled as {state}")
    conditions: list[ColumnElement[bool]] = [ingest_file.c.state.in_(_UNFINISHED)]
    if state is not FileState.UNDOING:
        conditions.append(ingest_file.c.committed_bytes == 0)
    values: dict[str, object] = {"state": state.value, "error_code": str(code), "error": storable(error)}
    if deaths is not None:
        values["deaths"] = deaths
    change_file(connection, run_id, file_id=file_id, version=version, epoch=epoch, conditions=conditions, values=values)


def finish_undo(
    connection: Connection, run_id: int, *, file_id: int, version: int, epoch: int, state: FileState
) -> None:
    """In the transaction that deletes its rows: nothing is committed any more, the file is REFUSED or FAILED.

    Its rejects are those of a refused file now; the reason that `settle` gave stays. Any run may finish what another
    began.
    """
    if state not in (FileState.REFUSED, FileState.FAILED):
        raise ValueError(f"an undone file is not {state}")
    conditions = [ingest_file.c.state == FileState.UNDOING.value]
    values: dict[str, object] = {"state": state.value, "prefix_sha256": None, **_NO_PROGRESS}
    change_file(connection, run_id, file_id=file_id, version=version, epoch=epoch, conditions=conditions, values=values)
    connection.execute(update(ingest_reject).where(ingest_reject.c.file_id == file_id).values(_UNAPPLIED))


def lose(connection: Connection, run_id: int, table_name: str, *, code: str, error: str) -> None:
    """A table has lost all its rows, and its files are to be loaded again: nothing of any of them is committed now.

    Also of those that this run does not see: they are loaded when a later one does.
    """
    check_run(connection, run_id, hold=True)
    c = ingest_file.c
    lost = (c.table_name == table_name, c.rows_loaded > 0, c.state != FileState.UNDOING.value)
    ids = select(c.file_id).where(*lost)
    connection.execute(update(ingest_reject).where(ingest_reject.c.file_id.in_(ids)).values(_UNAPPLIED))
    values = {"state": FileState.REFUSED.value, "error_code": str(code), "error": error, "prefix_sha256": None}
    connection.execute(
        update(ingest_file).where(*lost).values({**values, **_NO_PROGRESS, "run_id": run_id, "version": c.version + 1})
    )


def withdraw(
    connection: Connection,
    run_id: int,
    *,
    before: FileRow,
    version: int,
    epoch: int,
    code: str | None,
    error: str | None,
) -> None:
    """A reload, or a tail, gave up before its first move: the row says again what it said `before`, with the reason.

    The table still holds the old content, so the old fingerprint is the true one. Raises `FenceError` if anything
    was committed since.
    """
    c = ingest_file.c
    conditions = [c.state == FileState.STARTED.value, c.committed_bytes == before.committed_bytes]
    values: dict[str, object] = {name: getattr(before, name) for name in _REGISTERED}
    values |= {"state": before.state.value, "error_code": None if code is None else str(code), "error": storable(error)}
    change_file(
        connection, run_id, file_id=before.file_id, version=version, epoch=epoch, conditions=conditions, values=values
    )


def note(connection: Connection, file_id: int, *, code: str | None, error: str | None) -> None:
    """Why a file that stays as it is was refused this time (changed, its table lost); None and None clear it."""
    values = {"error_code": None if code is None else str(code), "error": storable(error)}
    connection.execute(update(ingest_file).where(ingest_file.c.file_id == file_id).values(values))


_TOUCH = (
    update(ingest_file)
    .where(ingest_file.c.file_id == bindparam("b_file_id"))
    .values(
        size=bindparam("b_size"),
        mtime_ns=bindparam("b_mtime_ns"),
        ctime_ns=bindparam("b_ctime_ns"),
        scanned_ns=bindparam("b_scanned_ns"),
        sha256=func.coalesce(bindparam("b_sha256", type_=String), ingest_file.c.sha256),
        error_code=None,
        error=None,
        version=ingest_file.c.version + 1,
    )
)


def touch(connection: Connection, touched: Sequence[Touched]) -> None:
    """The same content under a new fingerprint; what was said of an earlier refusal no longer holds."""
    if touched:
        connection.execute(_TOUCH, [{f"b_{name}": value for name, value in asdict(one).items()} for one in touched])


def rename(connection: Connection, *, path: str, path_key: str, touched: Touched) -> None:
    """The file was moved: the same content under another path.

    A row that an earlier attempt left under that path without committing anything makes way.
    """
    c, file_id = ingest_file.c, touched.file_id
    idle = [FileState.STARTED.value, FileState.REFUSED.value, FileState.FAILED.value]
    query = select(c.file_id).where(c.path_key == path_key, c.file_id != file_id)
    forget(connection, list(connection.execute(query.where(c.state.in_(idle), c.committed_bytes == 0)).scalars()))
    values = {"path": path_stored(path), "path_key": path_key}
    connection.execute(update(ingest_file).where(c.file_id == file_id).values(values))
    touch(connection, [touched])


def forget(connection: Connection, file_ids: Sequence[int]) -> int:
    """Drop the memory of these files and their rejects, whatever their state; how many there were. Rows stay."""
    forgotten = 0
    for portion in portions(file_ids):
        connection.execute(delete(ingest_reject).where(ingest_reject.c.file_id.in_(portion)))
        forgotten += connection.execute(delete(ingest_file).where(ingest_file.c.file_id.in_(portion))).rowcount
    return forgotten


def replace(connection: Connection, run_id: int, *, table_name: str, files: Sequence[tuple[FileRow, str]]) -> None:
    """In the transaction that replaces the rows of a table: its files are these, with their new keys, and no others.

    Raises `FenceError` unless each is loaded and as it was read.
    """
    check_run(connection, run_id, hold=True)  # of its files, which are all loaded, a take-over changes nothing
    c = ingest_file.c
    old = list(connection.execute(select(c.file_id).where(c.table_name == table_name)).scalars())
    forget(connection, old)
    statement = (
        update(ingest_file)
        .where(
            c.file_id == bindparam("b_file_id"),
            c.version == bindparam("b_version"),
            c.epoch == bindparam("b_epoch"),
            c.state == FileState.LOADED.value,
        )
        .values(table_name=table_name, path_key=bindparam("b_key"), run_id=run_id, version=c.version + 1)
    )
    parameters = [
        {"b_file_id": row.file_id, "b_version": row.version, "b_epoch": row.epoch, "b_key": key} for row, key in files
    ]
    if parameters:
        execute_fenced(connection, statement, parameters)
    for portion in portions([row.file_id for row, _ in files]):
        rejects = update(ingest_reject).where(ingest_reject.c.file_id.in_(portion))
        connection.execute(rejects.values(table_name=table_name))


# Rejects


def write_rejects(
    connection: Connection, run_id: int, *, file_id: int, table_name: str, rejects: Iterable[Reject], applied: bool
) -> None:
    """Add rejects of a file; `applied` says that the file is loaded without them."""
    values = (
        {
            "file_id": file_id,
            "run_id": run_id,
            "table_name": table_name,
            "line": reject.line,
            "byte_offset": reject.byte,
            "record": reject.record,
            "column_name": storable(reject.column),
            "reason": reject.code.value,
            "message": storable(reject.message),
            "raw": storable(reject.text),
            "applied": applied,
        }
        for reject in rejects
    )
    while portion := list(islice(values, 1_000)):
        connection.execute(insert(ingest_reject), portion)


def drop_rejects(
    connection: Connection, file_id: int, *, applied: bool | None = None, run_id: int | None = None
) -> None:
    """Delete the rejects of a file: the applied ones, those of a refusal, or (None) all; of one run, or of all."""
    statement = delete(ingest_reject).where(ingest_reject.c.file_id == file_id)
    if applied is not None:
        statement = statement.where(ingest_reject.c.applied == applied)
    if run_id is not None:
        statement = statement.where(ingest_reject.c.run_id == run_id)
    connection.execute(statement)


# Tables


def intend_table(
    connection: Connection,
    run_id: int,
    *,
    table_name: str,
    token: str,
    definition: str,
    made_by_us: bool,
    replaces: str | None = None,
) -> None:
    """Before the first DDL: what we mean to make, so that a crash before `settle_table` is not taken for the user's.

    Replaces an intent that came to nothing. Raises `LedgerError` for a table that is ready: `forget_table` first.
    """
    check_run(connection, run_id)
    c = ingest_table.c
    stale = (c.table_name == table_name, c.state == TableState.CREATING.value)
    connection.execute(delete(ingest_table).where(*stale))
    if connection.execute(select(c.table_id).where(c.table_name == table_name)).first() is not None:
        raise LedgerError(f"The ledger already has the table {table_name!r}; it cannot be made again.")
    now = _now()
    connection.execute(
        insert(ingest_table).values(
            table_name=table_name,
            token=token,
            state=TableState.CREATING.value,
            made_by_us=made_by_us,
            definition=definition,
            run_id=run_id,
            created_at=now,
            changed_at=now,
            replaces=replaces,
        )
    )


def settle_table(connection: Connection, table_name: str, *, identity: str, definition: str | None = None) -> None:
    """After the DDL: the table is there. `definition` None keeps the intent's. Raises `LedgerError` without one."""
    values: dict[str, object] = {"state": TableState.READY.value, "identity": identity, "changed_at": _now()}
    if definition is not None:
        values["definition"] = definition
    statement = update(ingest_table).where(ingest_table.c.table_name == table_name)
    if connection.execute(statement.values(values)).rowcount != 1:
        raise LedgerError(f"The ledger has no table {table_name!r}; it was forgotten while this run used it.")


def forget_table(connection: Connection, table_name: str) -> None:
    """Drop the memory of a table. The table and the memory of its files stay."""
    connection.execute(delete(ingest_table).where(ingest_table.c.table_name == table_name))


# Below the surface


def change_file(
    connection: Connection,
    run_id: int,
    *,
    file_id: int,
    version: int,
    epoch: int,
    conditions: Sequence[ColumnElement[bool]],
    values: Mapping[str, object],
) -> None:
    """Change one row that is still as it was read, and make it this run's."""
    c = ingest_file.c
    statement = update(ingest_file).where(c.file_id == file_id, c.version == version, c.epoch == epoch, *conditions)
    result = connection.execute(statement.values({**values, "run_id": run_id, "version": c.version + 1}))
    if result.rowcount != 1:
        raise _moved_on(1, result.rowcount)


def execute_fenced(connection: Connection, statement: Update, parameters: Sequence[Mapping[str, object]]) -> None:
    """Run a conditional update for every set of parameters; each must match exactly one row."""
    if connection.dialect.supports_sane_multi_rowcount:
        matched = connection.execute(statement, parameters).rowcount
    else:
        matched = sum(connection.execute(statement, one).rowcount for one in parameters)
    if matched != len(parameters):
        raise _moved_on(len(parameters), matched)


def _moved_on(expected: int, matched: int) -> FenceError:
    return FenceError(
        f"The ledger moved on: {matched} of {expected} file rows were still as this run had read them.",
        hint="Another run has taken over, or a file was forgotten meanwhile; run the same command again.",
    )


def _taken_over(run_id: int) -> FenceError:
    return FenceError(
        f"Run {run_id} is not running any more: another run has taken over.", hint="See it with: ingest status"
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
