"""The main process's side of the writer: one order at a time, and another writer when one dies."""

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

from ingest import writer
from ingest.crew import exit_words, quiet_resource_tracker, start_process
from ingest.errors import LedgerError
from ingest.orders import Again, Answer, Delayed, Done, Order
from ingest.targets import Database

log = logging.getLogger("ingest")

UNKNOWN_EXIT = 255
"""What multiprocessing says of every process of a fork server that died; they themselves may be alive."""

DEATHS = 3
"""Writers that may die one after the other at the same order before the run gives up."""

LOOK = 0.2
"""Seconds between two looks whether a stop was asked for."""


@dataclass(slots=True, kw_only=True)
class _Life:
    process: Any
    pipe: Any
    lock: Any


class Writing:
    """Sends orders to the writer process in their order; survives its death."""

    def __init__(
        self,
        *,
        database: Database,
        run_id: int,
        start_method: str,
        tell: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._start_method = start_method
        self._tell = tell
        self._waiting: collections.deque[Order] = collections.deque()
        self._out: Order | None = None
        self._deaths = 0
        self._delayed: set[int] = set()  # orders that are tried again
        self._numbers = 0
        self._life: _Life | None = None

    def start(self) -> None:
        """Start a writer, with a lock of its own: a lock dies with the process that was killed holding it."""
        if self._life is not None:
            return
        quiet_resource_tracker()
        context: Any = multiprocessing.get_context(self._start_method)
        pipe, theirs = context.Pipe()
        lock = context.Lock()
        process = context.Process(
            target=writer.writer,
            args=(theirs, lock, self._database, self._run_id),
            name="ingest-writer",
            daemon=True,
        )
        start_process(process)
        theirs.close()
        self._life = _Life(process=process, pipe=pipe, lock=lock)

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
        return self._out is not None or bool(self._waiting)

    @property
    def under_way(self) -> bool:
        return self._out is not None

    @property
    def delayed(self) -> bool:
        """Whether an order under way waits for its server, or for somebody's lock."""
        return bool(self._delayed)

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
        self._send_next()

    def do(self, order: Order, *, stopped: Callable[[], bool]) -> Answer | None:
        """Have one order done while no other waits; its answer. None where it is delayed, and we were `stopped`."""
        self.order(order)
        while True:
            multiprocessing.connection.wait(self.waitables, LOOK)
            for _, answer in self.answers():
                return answer
            if self._delayed and stopped():
                return None

    def withdraw(self, wanted: Callable[[Order], bool]) -> list[Order]:
        """Take back the orders that were not sent yet and that are `wanted`."""
        taken = [order for order in self._waiting if wanted(order)]
        self._waiting = collections.deque(order for order in self._waiting if not wanted(order))
        return taken

    def answers(self) -> Iterator[tuple[Order, Answer]]:
        """What the writer has answered since; starts another one if it died.

        After an order that was not done, the next one is sent only when the caller has looked at the answer: the
        orders that wait may rest on it.
        """
        life = self._life
        if life is None:
            return
        gone = False
        try:
            while life.pipe.poll(0):
                answer = life.pipe.recv()
                if isinstance(answer, Delayed):
                    self._delayed.add(answer.order)
                    self._tell("warning", answer.text)
                    continue
                order, self._out = self._out, None
                assert order is not None
                self._delayed.discard(order.order)
                self._deaths = 0
                if isinstance(answer, Done):
                    self._send_next()
                yield order, answer
                self._send_next()
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
            life.process.join(timeout=writer.LOCK_SECONDS)
            if life.process.is_alive():
                life.process.kill()
        life.process.join()
        life.pipe.close()
        life.process.close()

    def _send_next(self) -> None:
        if self._out is None and self._waiting:
            self.start()
            assert self._life is not None
            self._out = self._waiting.popleft()
            with contextlib.suppress(OSError):  # one that is gone is found by its sentinel
                self._life.pipe.send(self._out)

    def _bury(self, life: _Life) -> None:
        """The writer died: its transaction is gone or was committed; the next one asks the ledger which."""
        life.process.join()
        if life.process.exitcode == UNKNOWN_EXIT:
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.process.pid, signal.SIGKILL)
        self._tell("warning", f"the writer (pid {life.process.pid}) ended: {exit_words(life.process.exitcode)}")
        life.pipe.close()
        life.process.close()
        self._life = None
        self._delayed.clear()
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise LedgerError(
                f"the writer died {self._deaths} times in a row; what was committed stays.",
                hint="Run the same command again to go on.",
            )
        self.start()
        assert self._life is not None
        if self._out is not None:
            with contextlib.suppress(OSError):
                self._life.pipe.send(Again(message=self._out))
