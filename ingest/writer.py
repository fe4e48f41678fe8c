"""The writer: the one process that writes rows. Applies staged batches, rejects and ledger in one transaction.

It takes the lock for each transaction. The lock makes "one writer" true among our own processes; what makes the
data right is the conditional update at the end of every transaction (`ledger.advance`), which a second writer,
a stale one, or a repeated order cannot pass.

Messages to the writer: `Apply`, `Settle`, `Finish`, or `None` to end. It answers each but the last with `Done`
or `Failed`.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest import ledger, pool
from ingest.errors import FenceError, IngestError, SourceError, TableError
from ingest.failpoints import failpoint
from ingest.jobs import Failure
from ingest.model import FileState, Reason, Reject, RunState, TableShape
from ingest.rows import FileRow, Move, Totals
from ingest.settings import REJECTS_SHOWN
from ingest.targets import Database
from ingest.targets.base import BatchRef, Target

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The order was rolled back. `fatal` tells that no other order would fare better."""

    order: int
    failure: Failure
    fatal: bool
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """An order whose first writer died: it may have been committed."""

    message: Apply | Settle | Finish


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

    def do(self, message: Apply | Settle | Finish | Again) -> Done | Failed:
        """Carry out one order. Every failure comes back as a value."""
        began = time.perf_counter()
        again = isinstance(message, Again)
        order = message.message if isinstance(message, Again) else message
        try:
            if again and self._landed(order):
                return Done(order=order.order, seconds=time.perf_counter() - began, landed=True)
            if isinstance(order, Apply):
                self._apply(order)
            elif isinstance(order, Settle):
                self._settle(order)
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
            return _failed(self._target, order.order, error)
        return Done(order=order.order, seconds=time.perf_counter() - began)

    def _landed(self, order: Apply | Settle | Finish) -> bool:
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
            run = ledger.run(connection, self._run_id)
            return run is not None and run.state == order.state

    def _apply(self, order: Apply) -> None:
        with self._target.transaction(order.batches) as connection:
            ledger.check_run(connection, self._run_id)
            expected = sum(batch.rows for batch in order.batches)
            if order.shape is not None:
                self._same_table(connection, order.shape)
                if order.reset:
                    self._target.delete_rows(connection, order.shape, order.moves[0].file_id)
                inserted = self._target.insert(connection, order.shape, order.batches)
                if inserted != expected:
                    raise _Refused(
                        Reason.COUNTS, f"the database took {inserted} of {expected} rows; nothing of them was kept."
                    )
            for file_id in order.stale:
                ledger.drop_rejects(connection, file_id)
            self._write_rejects(connection, order.moves[0].file_id, order.table_name, order.rejects, applied=True)
            failpoint("before_advance")
            self._target.assert_open(connection)
            ledger.advance(connection, self._run_id, order.moves)
            failpoint("before_commit")
        failpoint("after_commit")

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


class _Refused(Exception):
    """The order cannot be applied; its files are refused for this reason."""

    def __init__(self, code: Reason, message: str) -> None:
        super().__init__(message)
        self.code = code


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


def _failed(target: Target, order: int, error: Exception) -> Failed:
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
    if isinstance(error, sa.exc.DBAPIError) and target.refuses_rows(error):
        message = f"the table refused a row: {target.said(error)}."
        return Failed(order=order, failure=Failure(code=Reason.CONSTRAINT, message=message, trace=trace), fatal=False)
    if isinstance(error, IngestError):
        failure = Failure(code=Reason.DATABASE, message=error.message, hint=error.hint, trace=trace)
    elif isinstance(error, sa.exc.DBAPIError):
        message = f"the database answered: {target.said(error)}."
        failure = Failure(code=Reason.DATABASE, message=message, hint=_hint(error), trace=trace)
    else:
        failure = Failure(code=Reason.INTERNAL, message=f"{type(error).__name__} in the writer.", trace=trace)
    return Failed(order=order, failure=failure, fatal=True)


def _hint(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig)
    if "full" in text:
        return "Free some space and run the same command again: it goes on where it was."
    if "locked" in text:
        return "Another program holds the database; run the same command again when it has ended."
    return "Run the same command again when that is mended: it goes on where it was."
