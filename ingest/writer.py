"""The writer: the one process that writes rows. Does orders, one at a time or some at once, and words what went wrong.

It takes the lock for each transaction, or, with several connections, for each that is not about rows alone. The lock
makes "one writer" true among our own processes; which orders may go at once is main's to say (`claims.py`); what makes
the data right is the conditional update at the end of every transaction (`ledger.advance`), which a second writer,
a stale one, or a repeated order cannot pass.

Messages to the writer: an order (`orders.py`), or `None` to end. It answers each but the last with `Done`,
`Failed` or, where a table refused rows, `Constrained`: nothing of that order was kept, and main, which keeps the
budgets, may send it again without these rows. A transaction that a lost connection or a deadlock has ended is tried
again here, after a look at the ledger; `Delayed` tells of it, before the answer. `Ahead` tells of an order whose turn
is yet to come: a thread with nothing else to do begins with it, and goes on when the order itself comes, or leaves it
at `Forget`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa

from ingest import launching, pool
from ingest.applying import Applying, Changes, Ready, Refused
from ingest.errors import FenceError, IngestError, SourceError, TableError, file_of
from ingest.jobs import Failure
from ingest.model import Reason
from ingest.orders import (
    Again,
    Ahead,
    Answer,
    Apply,
    Constrained,
    Delayed,
    Done,
    Failed,
    Forget,
    Order,
    Replace,
    Settle,
)
from ingest.rows import Move
from ingest.targets import Database
from ingest.targets.base import Target
from ingest.targets.faults import Fault, persist

AHEAD_SECONDS = 30.0
"""How long what was begun before its turn is kept open, half as long as an order waits for a lock.

Who wants to alter the table waits for it; an order before it that begins after that waits behind him; and it waits for
that order.
"""

LOCK_SECONDS = 120.0
"""How long the lock is waited for: longer than the database's own patience, so that its error is the one told."""


def writer(pipe: Pipe, lock: Any, database: Database, run_id: int, connections: int) -> None:
    """The main function of the writer process. With more than one connection each has a thread."""
    pool.ignore_stop_signals()
    launching.quieten()
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        if connections == 1:
            _serve(pipe.recv, pipe.send, lambda _: _locked(lock), database, lambda target: Applying(target, run_id))
        else:
            _share(pipe, lock, database, run_id, connections)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Turn:
    """An order that somebody begins with before its turn, and the word whether it is to be done."""

    def __init__(self, order: Apply) -> None:
        self.order = order
        self.word: bool | None = None  #: None: it has not come
        self._left = False
        self._changed = threading.Condition()

    def say(self, word: bool) -> bool:
        """Whether somebody hears it; nobody does who has waited for too long."""
        with self._changed:
            self.word = word
            self._changed.notify()
            return not self._left

    def come(self) -> bool:
        """Wait for the word, for a time."""
        with self._changed:
            self._left = not self._changed.wait_for(lambda: self.word is not None, AHEAD_SECONDS)
            return self.word is True


def _serve(
    receive: Callable[[], Order | Again | _Turn | None],
    send: Callable[[Answer | Delayed], None],
    guarded: Callable[[Order | Again], contextlib.AbstractContextManager[None]],
    database: Database,
    applying: Callable[[Target], Applying],
) -> None:
    """Do orders, one after the other, on one connection, until there are no more."""
    target = database.target()
    hand = _Writer(target, applying(target), tell=send)
    try:
        while (message := receive()) is not None:
            if isinstance(message, _Turn):
                answer = hand.do_in_turn(message)
            else:
                with guarded(message):
                    answer = hand.do(message)
            if answer is not None:
                send(answer)
    finally:
        target.close()


def _share(pipe: Pipe, lock: Any, database: Database, run_id: int, connections: int) -> None:
    """Have orders done as they come, by a thread for each connection. Threads share nothing of a target."""
    orders: queue.SimpleQueue[Order | Again | _Turn | None] = queue.SimpleQueue()
    turns: dict[int, _Turn] = {}  # by the order's number
    changes = Changes()
    sending = threading.Lock()

    def send(answer: Answer | Delayed) -> None:
        with sending:
            pipe.send(answer)

    def guarded(message: Order | Again) -> contextlib.AbstractContextManager[None]:
        order = message.message if isinstance(message, Again) else message
        return contextlib.nullcontext() if isinstance(order, Apply) else _locked(lock)

    def work() -> None:
        try:
            _serve(orders.get, send, guarded, database, lambda target: Applying(target, run_id, changes))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # nobody is there to be answered
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # an order that is never answered would be waited for for ever

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    while (message := pipe.recv()) is not None:
        if isinstance(message, Ahead):
            number = message.message.order
            if number not in turns and len(turns) < connections - 1:  # one thread at least is there for the others
                turns[number] = _Turn(message.message)
                orders.put(turns[number])
        elif isinstance(message, Forget):
            if (turn := turns.pop(message.order, None)) is not None:
                turn.say(False)
        elif isinstance(message, Again) or (turn := turns.pop(message.order, None)) is None or not turn.say(True):
            orders.put(message)
    for turn in turns.values():
        turn.say(False)
    for _ in threads:
        orders.put(None)
    for thread in threads:
        thread.join()


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
    def __init__(self, target: Target, applying: Applying, *, tell: Callable[[Delayed], None]) -> None:
        self._target = target
        self._applying = applying
        self._tell = tell

    def do_in_turn(self, turn: _Turn) -> Answer | None:
        """Begin with an order, and carry it out when it is its turn; None: it was not to be done."""
        if turn.word is False:
            return None
        ready = None
        try:
            ready = self._applying.ready(turn.order)
        except Exception:  # whatever it is, the order itself will meet it
            self._target.disconnect()
        if turn.come():
            return self.do(turn.order, ready)
        if ready is not None:
            try:
                ready.drop()
            except Exception:
                self._target.disconnect()
        return None

    def do(self, message: Order | Again, ready: Ready | None = None) -> Answer:
        """Carry out one order. Every failure comes back as a value, after what another try could mend."""
        order, repeated = (message.message, True) if isinstance(message, Again) else (message, False)
        told: list[str] = []

        def wait(fault: Fault, error: Exception, seconds: float) -> None:
            if not told:
                told.append(self._target.worded_fault(fault, error))
                self._tell(Delayed(order=order.order, text=f"{told[0]}; the transaction is tried again"))
            time.sleep(seconds)

        try:
            return persist(
                self._target,
                lambda again: self._try(order, again=again or repeated, ready=None if again else ready),
                wait,
            )
        except Exception as error:
            return self._failed(order.order, error)

    def _try(self, order: Order, *, again: bool, ready: Ready | None) -> Answer:
        """One try; `again` tells that an earlier one may have been committed."""
        began = time.perf_counter()
        if again and self._applying.landed(order):
            moves: tuple[Move, ...] = ()
            if isinstance(order, Apply) and order.merge is not None:
                moves = self._applying.counted(order)
            return Done(order=order.order, seconds=time.perf_counter() - began, landed=True, moves=moves)
        outcome = self._once(order, ready)
        if isinstance(outcome, Constrained):
            return outcome
        return Done(order=order.order, seconds=time.perf_counter() - began, moves=outcome)

    def _once(self, order: Order, ready: Ready | None) -> tuple[Move, ...] | Constrained:
        """Carry out an order, or raise: the moves that only the database could count, or the rows it refused."""
        if isinstance(order, Apply):
            try:
                return self._applying.apply(order, ready)
            except sa.exc.DBAPIError as error:
                broken = self._target.breaks_constraint(error)
                if broken and (refused := self._applying.refused(order, error)) is not None:
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
        if isinstance(error, SourceError | TableError):
            failure = Failure(code=Reason(error.code), message=error.message, hint=error.hint, trace=trace)
            return Failed(order=order, failure=failure, fatal=False)
        if isinstance(error, sa.exc.DBAPIError) and self._target.refuses_rows(error):
            failure = Failure(
                code=Reason.CONSTRAINT, message=f"the table refused a row: {self._target.said(error)}.", trace=trace
            )
            return Failed(order=order, failure=failure, fatal=False)
        fault = self._target.fault(error)
        if isinstance(error, IngestError):
            hint = self._target.hint(fault) if fault else error.hint
            failure = Failure(code=Reason.DATABASE, message=error.message, hint=hint, trace=trace)
        elif isinstance(error, sa.exc.DBAPIError):
            message, hint = f"{self._target.worded_fault(fault, error)}.", self._target.hint_of(error)
            failure = Failure(code=Reason.DATABASE, message=message, hint=hint, trace=trace)
        elif isinstance(error, OSError):
            where = f" ({name})" if (name := file_of(error)) else ""
            failure = Failure(
                code=Reason.SPOOL,
                message=f"the writer cannot read what was staged: {error.strerror or type(error).__name__}{where}.",
                hint="Run the same command again when that is mended: it goes on where it was.",
                trace=trace,
            )
        else:
            failure = Failure(code=Reason.INTERNAL, message=f"{type(error).__name__} in the writer.", trace=trace)
        return Failed(
            order=order, failure=failure, fatal=True, unreachable=fault is Fault.LOST, busy=fault is Fault.BUSY
        )
