"""Wake processes of ours that somebody has stopped: one that hears no SIGCONT would be waited for without end.

A process that SIGSTOP has reached is not dead. No sentinel tells of it, it keeps its locks and its place in the pool's
queues, and a fork server that is stopped neither starts a process nor tells that one has ended. So a thread of the
main process looks at all of them, and wakes who stays stopped while main is not. A run that is stopped as a whole
(Ctrl-Z, a frozen container) is left alone: this thread is stopped with it. Where the system does not tell (there is no
/proc), nobody is woken.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any

log = logging.getLogger("ingest")

LOOK = 0.5
"""Seconds between two looks."""

PATIENCE = 6
"""Looks in a row that find a process stopped before it is woken: a group that is stopped or woken is so one by one."""

_lock = threading.Lock()
_watched: collections.Counter[int] = collections.Counter()
_thread: threading.Thread | None = None


def watch(*pids: int) -> None:
    """See to it that these processes, and the fork server of this one, are not stopped for long."""
    global _thread  # noqa: PLW0603
    with _lock:
        _watched.update(pids)
        if _thread is None and _watched:
            _thread = threading.Thread(target=_look, name="ingest-waker", daemon=True)
            _thread.start()


def forget(*pids: int) -> None:
    """These have ended, or are no longer ours: their numbers may be given to others."""
    with _lock:
        _watched.subtract(pids)
        for pid in pids:
            if _watched[pid] <= 0:
                del _watched[pid]
        if not _watched:  # they outlive us for a moment, with our terminal or pipe in their hands
            for pid in filter(_is_stopped, _helpers()):
                _wake(pid)


@contextlib.contextmanager
def watching(*pids: int) -> Iterator[None]:
    """`watch` inside the block."""
    watch(*pids)
    try:
        yield
    finally:
        forget(*pids)


def _look() -> None:
    global _thread  # noqa: PLW0603
    stopped: dict[int, int] = {}
    while True:
        time.sleep(LOOK)
        with _lock:
            if not _watched:
                _thread = None
                return
            # Inside the lock, so that none of them is forgotten, and its number another's, before it is woken.
            looks = {pid: stopped.get(pid, 0) + 1 for pid in {*_watched, *_helpers()} if _is_stopped(pid)}
            for pid, count in looks.items():
                if count >= PATIENCE:
                    _wake(pid)
            stopped = {pid: count % PATIENCE for pid, count in looks.items()}


def _wake(pid: int) -> None:
    log.warning("process %d was stopped, and is woken", pid)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGCONT)


def _helpers() -> list[int]:
    """The processes of multiprocessing's own that this one has started."""
    servers: tuple[Any, ...] = (
        getattr(forkserver._forkserver, "_forkserver_pid", None),
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None),
    )
    return [pid for pid in servers if pid is not None]


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped this process; one that a debugger holds is another matter."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return False
    return text[text.rindex(b")") + 2 :][:1] == b"T"  # proc(5): the state follows the name
