"""The main process's side of the writer: orders go out when nothing under way touches the same, and none is lost.

A writer that dies is replaced. What it had under way may have been committed: it is asked for again, one order at a
time, so that of one that kills its writer it is known which. So is an order that others were in the way of.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ingest import launching, waker, writer
from ingest.claims import Claims
from ingest.crew import (
    GONE_SECONDS,
    close_process,
    exit_words,
    own_temporary_folder,
    start_process,
)
from ingest.errors import LedgerError
from ingest.orders import Again, Ahead, Answer, Apply, Delayed, Done, Failed, Forget, Order
from ingest.targets import Database

log = logging.getLogger("ingest")

UNKNOWN_EXIT = 255
"""What multiprocessing says of every process of a fork server that died; they themselves may be alive."""

DEATHS = 3
"""Writers that may die one after the other at the same order before the run gives up."""

LOOK_AHEAD = 50
"""Orders that wait which are looked at for one that can go: looking at more would cost time for each answer."""

LOOK = 0.2
"""Seconds between two looks whether a stop was asked for."""

_IDLE = 0
"""In the place of an order's number: writers that died with nothing to do."""


@dataclass(slots=True, kw_only=True)
class _Life:
    process: Any
    pipe: Any
    lock: Any


class Writing:
    """Sends orders to the writer process, up to `connections` at once; survives its death."""

    dry = False  #: `checking.Rehearsal` writes nothing

    def __init__(
        self,
        *,
        database: Database,
        run_id: int,
        start_method: str,
        connections: int,
        tell: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._start_method = start_method
        self._connections = connections
        self._tell = tell
        self._waiting: collections.deque[Order] = collections.deque()
        self._out: dict[int, Order] = {}  # by number, from the first that was sent
        self._again: collections.deque[Order] = collections.deque()  # to be asked for again, each by itself
        self._alone: int | None = None  # the one of them that is under way
        self._deaths: collections.Counter[int] = collections.Counter()  # by number, since it was sent
        self._delayed: dict[int, str] = {}  # orders that are tried again, and why
        self._told: set[int] = set()  # numbers of orders that the writer gets ready for
        self._numbers = 0
        self._life: _Life | None = None

    def start(self) -> None:
        """Start a writer, with a lock of its own: a lock dies with the process that was killed holding it."""
        if self._life is not None:
            return
        own_temporary_folder()
        context: Any = multiprocessing.get_context(self._start_method)
        pipe, theirs = context.Pipe()
        launching.quieten()
        lock = context.Lock()
        process = context.Process(
            target=writer.writer,
            args=(theirs, lock, self._database, self._run_id, self._connections),
            name="ingest-writer",
            daemon=True,
        )
        start_process(process)
        theirs.close()
        self._life = _Life(process=process, pipe=pipe, lock=lock)
        waker.watch(process.pid)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The writer's lock, for what the main process writes itself before the first order."""
        self.start()
        assert self._life is not None
        if not self._life.lock.acquire(timeout=writer.LOCK_SECONDS):
            raise LedgerError("the writer's lock was not given back.", hint="Run the same command again.")
        try:
            yield
        finally:
            self._life.lock.release()

    @property
    def waitables(self) -> list[Any]:
        """What to wait on for its answers."""
        return [self._life.pipe, self._life.process.sentinel] if self._life is not None else []

    @property
    def busy(self) -> bool:
        """Whether an order waits or is under way."""
        return self.under_way or bool(self._waiting)

    @property
    def under_way(self) -> bool:
        """Whether an order was sent, so that it may have been committed, and has no answer yet."""
        return bool(self._out or self._again)

    @property
    def delayed(self) -> bool:
        """Whether all that is under way waits for its server, or for somebody's lock."""
        return bool(self._out) and self._out.keys() <= self._delayed.keys()

    def number(self) -> int:
        """A number for a new order."""
        self._numbers += 1
        return self._numbers

    def order(self, order: Order, *, first: bool = False) -> None:
        """Queue an order; `first`: before those that wait."""
        if first:
            self._waiting.appendleft(order)
        else:
            self._waiting.append(order)
        self._send()

    def ahead(self, order: Apply) -> None:
        """Have the writer get ready for an order whose turn is yet to come, if it has a connection to spare."""
        if self._connections == 1 or self._waiting or self._again or self._alone is not None:
            return
        if len(self._out) + len(self._told) < self._connections:
            self._told.add(order.order)
            self._say(Ahead(message=order))

    def forget(self, order: int) -> None:
        """The turn of this order will not come, or others need its connection."""
        if order in self._told:
            self._told.remove(order)
            self._say(Forget(order=order))

    def _say(self, message: Order | Again | Ahead | Forget) -> None:
        if self._life is not None:
            with contextlib.suppress(OSError):  # one that is gone is found by its sentinel
                self._life.pipe.send(message)

    def do(self, order: Order, *, stopped: Callable[[], bool]) -> Answer | None:
        """Have one order done while no other waits; its answer. None where it is delayed, and we were `stopped`."""
        self.order(order)
        while True:
            multiprocessing.connection.wait(self.waitables, LOOK)
            for _, answer in self.answers():
                return answer
            if self.delayed and stopped():
                return None

    def withdraw(self, wanted: Callable[[Order], bool]) -> list[Order]:
        """Take back the orders that were not sent yet and that are `wanted`."""
        taken = [order for order in self._waiting if wanted(order)]
        self._waiting = collections.deque(order for order in self._waiting if not wanted(order))
        return taken

    def answers(self) -> Iterator[tuple[Order, Answer]]:
        """What the writer has answered since; starts another one if it died.

        After an order that was not done, those that touch the same are sent only when the caller has looked at the
        answer: they may rest on it.
        """
        life = self._life
        if life is None:
            return
        gone = False
        try:
            while life.pipe.poll(0):
                answer = life.pipe.recv()
                if isinstance(answer, Delayed):
                    if answer.text not in self._delayed.values():
                        self._tell("warning", answer.text)
                    self._delayed[answer.order] = answer.text
                    continue
                order = self._out[answer.order]
                self._delayed.pop(order.order, None)
                del self._deaths[order.order], self._deaths[_IDLE]
                alone, self._alone = self._alone == order.order or self._connections == 1, None
                if isinstance(answer, Failed) and answer.busy and not alone:
                    # Orders of ours can be in each other's way; by itself it will be done.
                    self._again.append(self._out.pop(order.order))
                    self._send()
                    continue
                if isinstance(answer, Done):
                    del self._out[order.order]
                    self._send()
                try:
                    yield order, answer
                finally:
                    self._out.pop(order.order, None)
                self._send()
        except (EOFError, OSError):
            gone = True
        if gone or not life.process.is_alive():
            self._bury(life)

    def close(self, *, kill: bool = False) -> None:
        """End the writer: after what it is doing, or at once, as one that waits for its server."""
        life, self._life = self._life, None
        if life is None:
            return
        if kill or self._delayed:
            life.process.kill()
        else:
            with contextlib.suppress(OSError):
                life.pipe.send(None)
            # With nothing under way, it is at what it begins with before its turn, of which nothing can be lost.
            life.process.join(timeout=writer.LOCK_SECONDS if self.under_way else GONE_SECONDS)
            if life.process.is_alive():
                life.process.kill()
        self._close(life)

    @staticmethod
    def _close(life: _Life) -> None:
        """Forget a writer that has ended or was killed."""
        pid = life.process.pid
        life.process.join(GONE_SECONDS)
        waker.forget(pid)
        life.lock = None  # which the tracker hears of
        life.pipe.close()
        close_process(life.process)

    def _send(self) -> None:
        """Send what can go now: of the orders that wait, those that touch nothing of what is before them."""
        if self._again or self._alone is not None:
            if not self._out:
                order = self._again.popleft()
                self._alone = order.order
                self._give(order, Again(message=order))
            return
        if len(self._out) >= self._connections:
            return
        before = Claims(self._out.values())
        index = 0
        while index < min(len(self._waiting), LOOK_AHEAD) and len(self._out) < self._connections:
            order = self._waiting[index]
            if before.allow(order):
                del self._waiting[index]
                self._give(order, order)
            else:
                index += 1
            before.add(order)

    def _give(self, order: Order, message: Order | Again) -> None:
        self.start()
        self._out[order.order] = order
        self._told.discard(order.order)
        while self._told and len(self._out) + len(self._told) > self._connections:
            self.forget(next(iter(self._told)))
        self._say(message)

    def _bury(self, life: _Life) -> None:
        """The writer died: each of its transactions is gone or was committed; the next one asks the ledger which."""
        life.process.join(GONE_SECONDS)
        if life.process.exitcode == UNKNOWN_EXIT:
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.process.pid, signal.SIGKILL)
        self._tell("warning", f"the writer (pid {life.process.pid}) ended: {exit_words(life.process.exitcode)}")
        self._close(life)
        self._life = None
        self._told.clear()
        self._alone = None
        self._delayed.clear()
        self._deaths.update(list(self._out) or [_IDLE])
        if max(self._deaths.values()) >= DEATHS:
            raise LedgerError(
                f"the writer died {DEATHS} times in a row; what was committed stays.",
                hint="Run the same command again to go on.",
            )
        self._again.extendleft(reversed(self._out.values()))
        self._out.clear()
        self.start()
        self._send()
