"""What a server can do to a transaction that is no fault of ours, and how often the transaction is tried again.

Knows no database: which fault an error is, each target tells, by SQLSTATE or error number and never by text. Nothing
here is shared: who repeats one piece of work does not wait for the failures of another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from ingest.errors import DatabaseUnreachable

if TYPE_CHECKING:
    from ingest.targets.base import Target

T = TypeVar("T")

OUTAGE_SECONDS = 60.0
"""How long a server that cannot be reached is waited for: a restart takes seconds, the recovery after a crash more."""

TRIES = 5
"""How often one transaction may fail on a server that can be reached: what ends it each time will end the next, too."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the second try, and at most; in between each pause is twice the last. A deadlock is over at once."""


class Fault(StrEnum):
    """What is wrong with the database, not with the work."""

    LOST = "lost"  #: the connection has gone, or the server; a COMMIT may have been carried out
    BUSY = "busy"  #: a deadlock, or a lock that was not given in time; the transaction was rolled back
    FULL = "full"  #: its disk is full


@dataclass(slots=True)
class Patience:
    """How often one piece of work is still to be tried."""

    failures: int = 0  #: of tries that had reached the server
    pauses: int = 0  #: since the server was last reached
    silent: float | None = None  #: since when it cannot be reached, by the monotonic clock

    def pause(self, fault: Fault | None, *, reached: bool) -> float | None:
        """How many seconds to wait before the next try; None: enough."""
        if fault not in (Fault.LOST, Fault.BUSY):
            return None
        if reached:
            self.failures += 1
            self.silent, self.pauses = None, 0
            if self.failures >= TRIES:
                return None
            step = self.failures - 1
        else:
            now = time.monotonic()
            self.silent = now if self.silent is None else self.silent
            if now - self.silent >= OUTAGE_SECONDS:
                return None
            step, self.pauses = self.pauses, self.pauses + 1
        # Those that were in each other's way should not meet again.
        return min(FIRST_PAUSE * 2.0**step, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311


def persist(target: Target, work: Callable[[bool], T], wait: Callable[[Fault, Exception, float], None]) -> T:
    """`work(False)`; after a fault that may pass, `work(True)`, on a new connection, until it is done.

    `work(True)` must first ask the database what became of the try before it: its COMMIT may have been carried out,
    and may be under way still. `wait` is told why, and for how many seconds it is to wait; what it raises ends it all.
    Raises what the last try raised.
    """
    patience = Patience()
    again = False
    while True:
        try:
            return work(again)
        except Exception as error:
            fault = target.fault(error) if target.persists else None
            pause = patience.pause(fault, reached=not isinstance(error, DatabaseUnreachable))
            if fault is None or pause is None:
                raise
            why = error
        target.disconnect()
        wait(fault, why, pause)
        again = True
