"""The writer: the one process that writes rows. Does one order after the other, and words what went wrong.

It takes the lock for each transaction. The lock makes "one writer" true among our own processes; what makes the
data right is the conditional update at the end of every transaction (`ledger.advance`), which a second writer,
a stale one, or a repeated order cannot pass.

Messages to the writer: an order (`orders.py`), or `None` to end. It answers each but the last with `Done`,
`Failed` or, where a table refused rows, `Constrained`: nothing of that order was kept, and main, which keeps the
budgets, may send it again without these rows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa

from ingest import pool
from ingest.applying import Applying, Refused
from ingest.errors import FenceError, IngestError, SourceError
from ingest.jobs import Failure
from ingest.model import Reason
from ingest.orders import Again, Answer, Apply, Constrained, Done, Failed, Order, Replace, Settle
from ingest.rows import Move
from ingest.targets import Database
from ingest.targets.base import Target

LOCK_SECONDS = 120.0
"""How long the lock is waited for: longer than the database's own patience, so that its error is the one told."""


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
        self._applying = Applying(target, run_id)

    def do(self, message: Order | Again) -> Answer:
        """Carry out one order. Every failure comes back as a value."""
        began = time.perf_counter()
        again = isinstance(message, Again)
        order = message.message if isinstance(message, Again) else message
        try:
            if again and self._applying.landed(order):
                moves = self._applying.counted(order) if isinstance(order, Apply) and order.merge is not None else ()
                return Done(order=order.order, seconds=time.perf_counter() - began, landed=True, moves=moves)
            outcome = self._once(order)
        except Exception as error:
            return self._failed(order.order, error)
        if isinstance(outcome, Constrained):
            return outcome
        return Done(order=order.order, seconds=time.perf_counter() - began, moves=outcome)

    def _once(self, order: Order) -> tuple[Move, ...] | Constrained:
        """Carry out an order, or raise: the moves that only the database could count, or the rows it refused."""
        if isinstance(order, Apply):
            try:
                return self._applying.apply(order)
            except sa.exc.DBAPIError as error:
                broken = self._target.breaks_constraint(error)
                if broken and (refused := self._applying.refused(order)) is not None:
                    return refused
                raise
        if isinstance(order, Settle):
            self._applying.settle(order)
        elif isinstance(order, Replace):
            self._applying.replace(order)
        else:
            self._applying.finish(order)
        return ()

    def _failed(self, order: int, error: Exception) -> Failed:
        """An exception as a value."""
        trace = "".join(traceback.format_tb(error.__traceback__))
        if isinstance(error, FenceError):
            failure = Failure(code=Reason.DATABASE, message=error.message, hint=error.hint, trace=trace)
            return Failed(order=order, failure=failure, fatal=True, fenced=True)
        if isinstance(error, Refused):
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


def _hint(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig)
    if "full" in text:
        return "Free some space and run the same command again: it goes on where it was."
    if "locked" in text:
        return "Another program holds the database; run the same command again when it has ended."
    return "Run the same command again when that is mended: it goes on where it was."
