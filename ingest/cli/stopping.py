"""SIGINT and SIGTERM: the first asks the run to stop, the second ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ingest.reports import StopRequest

AT_ONCE = 5.0
"""Seconds that an end in order may take after the second signal."""


@contextmanager
def signals(stop: StopRequest, *, quiet: bool) -> Iterator[None]:
    """SIGINT and SIGTERM ask the run to stop; what they did before is put back afterwards."""

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        stop.ask(signal.Signals(number).name)
        if stop.count == 1 and not quiet:
            # Past all buffers and locks: the handler may have interrupted someone who holds them.
            with suppress(OSError):
                os.write(2, b"\nstopping when the open transaction is done; once more stops at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _at_once():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _at_once() -> Iterator[None]:
    """See to it that the second signal ends this process, even in the middle of a call that never returns.

    A handler of Python's runs when such a call is over. What the system's own handler writes is read by a thread.
    """
    ended = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        seen = b""
        while len(seen) < 2 and (more := os.read(reading, 1)):
            seen += more if more[0] in (signal.SIGINT, signal.SIGTERM) else b""
        if len(seen) == 2 and not ended.wait(AT_ONCE):
            os.write(2, b"\nstopped at once; run the same command again to go on where it was\n")
            os._exit(128 + seen[0])
        os.close(reading)

    threading.Thread(target=watch, name="ingest-signals", daemon=True).start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        ended.set()
        os.close(writing)
