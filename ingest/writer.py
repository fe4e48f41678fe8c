"""The writer: the one process that writes rows. Applies staged batches, rejects and ledger in one transaction.

It takes the lock for each transaction. The lock makes "one writer" true among our own processes; what makes the
data right is the conditional update at the end of every transaction (`ledger.advance`), which a second writer,
a stale one, or a repeated order cannot pass.

Messages to the writer: `Apply`, `Settle`, `Finish`, or `None` to end. It answers each but the last with `Done`,
`Failed` or, where a table refused rows, `Constrained`: nothing of that order was kept, and main, which keeps the
budgets, may send it again without these rows.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest import ledger, pool
from ingest.errors import FenceError, IngestError, SourceError, TableError
from ingest.failpoints import failpoint
from ingest.jobs import Failure
from ingest.model import FileState, Merge, Mode, Reason, Reject, RunState, TableShape
from ingest.rows import FileRow, Move, Totals
from ingest.settings import REJECTS_SHOWN
from ingest.targets import Database, merging, refusals
from ingest.targets.base import POSITION, BatchRef, Target

LOCK_SECONDS = 120.0
"""How long the lock is waited for: longer than the database's own patience, so that its error is the one told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectsRef:
    """Rejects of one slice in the spool; its lines and records count from the slice's start."""

    path: str
    first_line: int  #: physical line ends before the slice
    first_record: int  #: records of the file before the slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Put batches into a table and move their files forward, in one transaction."""

    order: int
    shape: TableShape | None  #: None where no batch has a row
    batches: tuple[BatchRef, ...]
    moves: tuple[Move, ...]
    table_name: str
    reset: bool = False  #: first delete the rows of the (one) file: a reload
    stale: tuple[int, ...] = ()  #: files with rejects of an earlier, refused attempt
    rejects: tuple[RejectsRef, ...] = ()
    left_out: tuple[int, ...] | None = None  #: numbers of refused rows, from 1 over all batches; None: none known yet
    merge: Merge | None = None  #: how rows meet those with the same key; the moves' counts are the writer's then
    reject_limit: int | None = None  #: refused rows to look for; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Refuse or fail one file: take back what is committed of it, and keep its rejects for people to read."""

    order: int
    file_id: int
    table_name: str
    shape: TableShape | None
    state: FileState
    code: Reason
    error: str
    rejects: tuple[RejectsRef, ...] = ()
    deaths: int | None = None
    version: int = 0  #: of the file's row when this run began with it
    before: FileRow | None = None  #: of a reload: the old content stays loaded if nothing of the new was committed


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Put the rows of a staging table in the place of a table's, and its files in the place of that one's."""

    order: int
    shape: TableShape
    staging: TableShape
    keys: tuple[tuple[str, str], ...]  #: `path_key` of each file that is to be in it, as it is and as it will be


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The run has ended."""

    order: int
    state: RunState
    exit_code: int
    totals: Totals
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The order is committed."""

    order: int
    seconds: float
    landed: bool = False  #: an earlier writer had committed it already
    moves: tuple[Move, ...] = ()  #: of an order with a merge: what became of its records


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The order was rolled back. `fatal` tells that no other order would fare better."""

    order: int
    failure: Failure
    fatal: bool
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Constrained:
    """The order was rolled back: the table refused these of its rows."""

    order: int
    rows: tuple[int, ...]  #: by their numbers, from 1 over all batches; none where only their order was wrong
    rejects: RejectsRef | None  #: the same as records
    complete: bool  #: False: there may be more


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """An order whose first writer died: it may have been committed."""

    message: Apply | Settle | Replace | Finish


def writer(pipe: Pipe, lock: Any, database: Database, run_id: int) -> None:
    """The main function of the writer process."""
    pool.ignore_stop_signals()
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    target = database.target()
    hand = _Writer(target, run_id)
    try:
        while (message := pipe.recv()) is not None:
            with _locked(lock):
                answer = hand.do(message)
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        target.close()


def _end_with(sentinel: int) -> None:
    """End this process when main has ended, at once: it may be waiting for a lock on the database for a minute.

    The open transaction is rolled back by whoever opens the database next.
    """
    mp_connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _locked(lock: Any) -> Iterator[None]:
    """The lock, unless its holder was killed: a killed holder never gives it back, so no wait is without end."""
    if not lock.acquire(timeout=LOCK_SECONDS):
        raise RuntimeError("the writer's lock was not given back")
    try:
        yield
    finally:
        lock.release()


class _Writer:
    def __init__(self, target: Target, run_id: int) -> None:
        self._target = target
        self._run_id = run_id

    def do(self, message: Apply | Settle | Replace | Finish | Again) -> Done | Failed | Constrained:
        """Carry out one order. Every failure comes back as a value."""
        began = time.perf_counter()
        again = isinstance(message, Again)
        order = message.message if isinstance(message, Again) else message
        try:
            moves: tuple[Move, ...] = ()
            if again and self._landed(order):
                moves = self._counted(order) if isinstance(order, Apply) and order.merge is not None else ()
                return Done(order=order.order, seconds=time.perf_counter() - began, landed=True, moves=moves)
            if isinstance(order, Apply):
                try:
                    moves = self._apply(order)
                except sa.exc.IntegrityError:
                    if (refused := self._refusals(order)) is not None:
                        return refused
                    raise
            elif isinstance(order, Settle):
                self._settle(order)
            elif isinstance(order, Replace):
                self._replace(order)
            else:
                with self._target.begin() as connection:
                    ledger.finish_run(
                        connection,
                        self._run_id,
                        state=order.state,
                        exit_code=order.exit_code,
                        totals=order.totals,
                        error=order.error,
                    )
        except Exception as error:
            return self._failed(order.order, error)
        return Done(order=order.order, seconds=time.perf_counter() - began, moves=moves)

    def _landed(self, order: Apply | Settle | Replace | Finish) -> bool:
        """Whether the transaction of a writer that died was committed: the file rows tell."""
        with self._target.begin() as connection:
            if isinstance(order, Apply):
                # A server may still be at the commit of the one that died: its rows are waited for.
                rows = [ledger.file(connection, move.file_id, lock=True) for move in order.moves]
                return all(
                    row is not None
                    and row.version == move.version + 1
                    and row.committed_bytes == move.to_bytes
                    and row.run_id == self._run_id
                    for row, move in zip(rows, order.moves, strict=True)
                )
            if isinstance(order, Settle):
                row = ledger.file(connection, order.file_id, lock=True)
                # A first transaction that only says UNDOING is gone on with, not landed.
                return row is not None and row.state not in (FileState.STARTED, FileState.UNDOING)
            if isinstance(order, Replace):
                here = {row.path_key for row in ledger.files(connection, tables=[str(order.shape.table)])}
                return all(key in here for _, key in order.keys) and not self._staged(connection, order)
            run = ledger.run(connection, self._run_id)
            return run is not None and run.state == order.state

    @staticmethod
    def _staged(connection: Connection, order: Replace) -> list[FileRow]:
        return ledger.files(connection, tables=[str(order.staging.table)])

    def _replace(self, order: Replace) -> None:
        wanted = dict(order.keys)
        with self._target.begin() as connection:
            ledger.check_run(connection, self._run_id)
            self._same_table(connection, order.shape)
            self._same_table(connection, order.staging)
            rows = self._staged(connection, order)
            for row in rows:
                if row.path_key not in wanted:  # of an earlier attempt, and no longer there
                    self._target.delete_rows(connection, order.staging, row.file_id)
                    ledger.forget(connection, [row.file_id])
            kept = [row for row in rows if row.path_key in wanted]
            if len(kept) != len(wanted) or any(row.state is not FileState.LOADED for row in kept):
                raise _Refused(Reason.COUNTS, f"not every file is in {order.staging.table}; {order.shape.table} stays.")
            self._target.defer_foreign_keys(connection)
            inserted = self._target.replace_rows(connection, order.shape, order.staging)
            expected = sum(row.rows_loaded for row in kept)
            if inserted != expected:
                raise _Refused(
                    Reason.COUNTS,
                    f"{order.staging.table} has {inserted} of {expected} rows; {order.shape.table} stays as it was.",
                )
            failpoint("before_replace")
            self._target.assert_open(connection)
            files = [(row, wanted[row.path_key]) for row in kept]
            ledger.replace(connection, self._run_id, table_name=str(order.shape.table), files=files)
            failpoint("before_replace_commit")
        failpoint("after_replace")

    def _apply(self, order: Apply) -> tuple[Move, ...]:
        """One transaction: rows, rejects and ledger. The moves as they were made, where the database had to tell."""
        moves = order.moves
        with self._target.transaction(order.batches) as connection:
            self._begin_apply(connection, order)
            if order.shape is not None and order.merge is not None:
                moves = self._merge(connection, order, order.shape, order.merge)
            elif order.shape is not None:
                expected = _rows(order) - len(order.left_out or ())
                inserted = self._insert(connection, order, order.shape)
                if inserted != expected:
                    raise _Refused(
                        Reason.COUNTS, f"the database took {inserted} of {expected} rows; nothing of them was kept."
                    )
            for file_id in order.stale:
                ledger.drop_rejects(connection, file_id)
            self._write_rejects(connection, order.moves[0].file_id, order.table_name, order.rejects, applied=True)
            failpoint("before_advance")
            self._target.assert_open(connection)
            ledger.advance(connection, self._run_id, moves)
            failpoint("before_commit")
        failpoint("after_commit")
        return moves if order.merge is not None else ()

    def _begin_apply(self, connection: Connection, order: Apply) -> None:
        """What comes before the rows."""
        ledger.check_run(connection, self._run_id)
        if order.shape is not None:
            self._same_table(connection, order.shape)
            if order.reset:
                self._target.delete_rows(connection, order.shape, order.moves[0].file_id)

    def _insert(self, connection: Connection, order: Apply, shape: TableShape) -> int:
        """Insert the rows of an order, but for those to be left out; how many the database took."""
        if order.left_out is None:
            return self._target.insert(connection, shape, order.batches)
        gathered = self._gather(connection, order, shape)
        inserted = refusals.put(connection, self._target.sql_table(shape), gathered, 1, _rows(order))
        self._target.discard(connection, gathered)
        return inserted

    def _merge(self, connection: Connection, order: Apply, shape: TableShape, merge: Merge) -> tuple[Move, ...]:
        """Merge the rows of each file, in their order, and count what became of them."""
        table, gathered = self._target.sql_table(shape), self._gather(connection, order, shape)
        rows = merging.Merging(connection, self._target, table, gathered, merge)
        moves, last = [], 0
        for move in order.moves:
            first, last = last + 1, last + move.rows if len(order.moves) > 1 else _rows(order)
            rows.supersede(first, last)
            offered, written = rows.offered(first, last), rows.put(first, last)
            failpoint("after_merge")
            there = rows.present(first, last)
            # Of insert-ignore, and with --newest-by, rows may be left out; but only where there is one with their key.
            exact = merge.mode is Mode.UPSERT and merge.newest_by is None
            if there != offered or written > offered or (exact and written != offered):
                raise _Refused(
                    Reason.COUNTS,
                    f"the database took {written} of {offered} rows and has {there} of their keys; nothing was kept.",
                )
            left = move.rows - written
            ignored = left if merge.mode is Mode.INSERT_IGNORE else 0
            moves.append(replace(move, rows=written, superseded=left - ignored, ignored=ignored))
        self._target.discard(connection, gathered)
        return tuple(moves)

    def _counted(self, order: Apply) -> tuple[Move, ...]:
        """The moves of an order that landed; with a merge, a file is one move."""
        with self._target.begin() as connection:
            rows = [_row(connection, move.file_id) for move in order.moves]
        return tuple(
            replace(move, rows=row.rows_loaded, superseded=row.rows_superseded, ignored=row.rows_ignored)
            for move, row in zip(order.moves, rows, strict=True)
        )

    def _gather(self, connection: Connection, order: Apply, shape: TableShape) -> sa.Table:
        gathered = self._target.gather(connection, shape, order.batches)
        if order.left_out:
            number = gathered.c[POSITION] == sa.bindparam("number")
            connection.execute(gathered.delete().where(number), [{"number": row} for row in order.left_out])
        return gathered

    def _refusals(self, order: Apply) -> Constrained | None:
        """Which rows of an order the table refuses; None where that is not to be known, or no new ones are found.

        A bundle is not searched: its files are done again one by one. Changes nothing in the database.
        """
        shape = order.shape
        if shape is None or not self._target.savepoints or len(order.moves) > 1:
            return None
        if not order.batches or any(batch.place is None for batch in order.batches):
            return None
        found = refusals.Refused()
        with contextlib.suppress(_Undone), self._target.transaction(order.batches) as connection:
            self._begin_apply(connection, order)
            gathered = self._gather(connection, order, shape)
            table = self._target.sql_table(shape)
            insert: Callable[[int, int], int] = functools.partial(refusals.put, connection, table, gathered)
            if order.merge is not None:
                rows = merging.Merging(connection, self._target, table, gathered, order.merge)
                rows.supersede(1, _rows(order))
                insert = rows.put
            found = refusals.find(
                connection,
                self._target,
                table,
                gathered,
                insert=insert,
                last=_rows(order),
                limit=order.reject_limit,
            )
            failpoint("after_search")
            raise _Undone
        if not found.rows:
            # Rows that refer to later ones of their file can go in with one statement, if not one after the other.
            again = order.left_out is None  # the second time it is something that only the end of the transaction tells
            return Constrained(order=order.order, rows=(), rejects=None, complete=True) if again else None
        from ingest import placing  # Arrow, which a writer seldom needs

        path = f"{order.batches[0].staged.path}.{order.order}.rejects"
        with open(path, "w", encoding="ascii") as file:
            for reject in placing.rejects(found.rows, order.batches):
                file.write(json.dumps(asdict(reject)) + "\n")
        return Constrained(
            order=order.order,
            rows=tuple(found.rows),
            rejects=RejectsRef(path=path, first_line=0, first_record=0),
            complete=found.complete,
        )

    def _same_table(self, connection: Connection, shape: TableShape) -> None:
        """`SELECT *` copies by position: the table must be the very one that the batch was staged for."""
        try:
            self._target.hold(connection, shape.table)
            same = self._target.fingerprint(connection, shape.table) == shape.fingerprint
        except TableError:
            same = False
        if not same:
            raise _Refused(Reason.TABLE_LOST, f"the table {shape.table} was changed while its files were read.")

    def _settle(self, order: Settle) -> None:
        with self._target.begin() as connection:
            ledger.check_run(connection, self._run_id)
            row = _row(connection, order.file_id)
            if order.before is not None and row.state is FileState.STARTED and row.version == order.version:
                ledger.withdraw(
                    connection,
                    self._run_id,
                    before=order.before,
                    version=row.version,
                    epoch=row.epoch,
                    code=order.code,
                    error=order.error,
                )
                ledger.drop_rejects(connection, order.file_id, applied=False)
                self._keep_rejects(connection, order)
                return
            undo = row.committed_bytes > 0 and row.state is FileState.STARTED
            if row.state is not FileState.UNDOING:
                ledger.settle(
                    connection,
                    self._run_id,
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    state=FileState.UNDOING if undo else order.state,
                    code=order.code,
                    error=order.error,
                    deaths=order.deaths,
                )
            else:
                undo = True
            if not undo:
                ledger.drop_rejects(connection, order.file_id)
                self._keep_rejects(connection, order)
        if undo:
            failpoint("before_undo")
            with self._target.begin() as connection:
                ledger.check_run(connection, self._run_id)
                row = _row(connection, order.file_id)
                if order.shape is not None:
                    self._target.delete_rows(connection, order.shape, order.file_id)
                ledger.finish_undo(
                    connection,
                    self._run_id,
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    state=order.state,
                )
                # Those of steps that an earlier run committed are nowhere else.
                ledger.drop_rejects(connection, order.file_id, run_id=self._run_id)
                self._keep_rejects(connection, order)

    def _keep_rejects(self, connection: Connection, order: Settle) -> None:
        self._write_rejects(
            connection, order.file_id, order.table_name, order.rejects, applied=False, limit=REJECTS_SHOWN
        )

    def _write_rejects(
        self,
        connection: Connection,
        file_id: int,
        table_name: str,
        refs: Sequence[RejectsRef],
        *,
        applied: bool,
        limit: int | None = None,
    ) -> None:
        if not refs:
            return
        rejects = _limited((reject for ref in refs for reject in _read_rejects(ref)), limit)
        ledger.write_rejects(
            connection, self._run_id, file_id=file_id, table_name=table_name, rejects=rejects, applied=applied
        )

    def _failed(self, order: int, error: Exception) -> Failed:
        """An exception as a value."""
        trace = "".join(traceback.format_tb(error.__traceback__))
        if isinstance(error, FenceError):
            failure = Failure(code=Reason.DATABASE, message=error.message, hint=error.hint, trace=trace)
            return Failed(order=order, failure=failure, fatal=True, fenced=True)
        if isinstance(error, _Refused):
            return Failed(order=order, failure=Failure(code=error.code, message=str(error)), fatal=False)
        if isinstance(error, SourceError):
            failure = Failure(code=Reason(error.code), message=error.message, hint=error.hint, trace=trace)
            return Failed(order=order, failure=failure, fatal=False)
        if isinstance(error, sa.exc.DBAPIError) and self._target.refuses_rows(error):
            failure = Failure(
                code=Reason.CONSTRAINT, message=f"the table refused a row: {self._target.said(error)}.", trace=trace
            )
            return Failed(order=order, failure=failure, fatal=False)
        if isinstance(error, IngestError):
            failure = Failure(code=Reason.DATABASE, message=error.message, hint=error.hint, trace=trace)
        elif isinstance(error, sa.exc.DBAPIError):
            message = f"the database answered: {self._target.said(error)}."
            failure = Failure(code=Reason.DATABASE, message=message, hint=_hint(error), trace=trace)
        else:
            failure = Failure(code=Reason.INTERNAL, message=f"{type(error).__name__} in the writer.", trace=trace)
        return Failed(order=order, failure=failure, fatal=True)


class _Undone(Exception):
    """Rolls a transaction back that was only to find something out."""


class _Refused(Exception):
    """The order cannot be applied; its files are refused for this reason."""

    def __init__(self, code: Reason, message: str) -> None:
        super().__init__(message)
        self.code = code


def _rows(order: Apply) -> int:
    return sum(batch.rows for batch in order.batches)


def _row(connection: Connection, file_id: int) -> FileRow:
    row = ledger.file(connection, file_id)
    if row is None:
        raise FenceError("a file was forgotten while it was loaded.", hint="Run the same command again.")
    return row


def _read_rejects(ref: RejectsRef) -> Iterator[Reject]:
    with open(ref.path, encoding="ascii") as file:
        for line in file:
            fields = json.loads(line)
            fields["code"] = Reason(fields["code"])
            fields["line"] += ref.first_line
            fields["record"] += ref.first_record
            yield Reject(**fields)


def _limited(rejects: Iterator[Reject], limit: int | None) -> Iterator[Reject]:
    for number, reject in enumerate(rejects):
        if limit is not None and number >= limit:
            return
        yield reject


def _hint(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig)
    if "full" in text:
        return "Free some space and run the same command again: it goes on where it was."
    if "locked" in text:
        return "Another program holds the database; run the same command again when it has ended."
    return "Run the same command again when that is mended: it goes on where it was."
