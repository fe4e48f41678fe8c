"""How multiprocessing starts processes of its own: they say nothing to a terminal, and import nothing from its folder.

Its fork servers fork our processes; its resource trackers remove what killed ones leave.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker, util
from typing import Any

SAFE_PATH, OURS = "PYTHONSAFEPATH", "ingest"
"""Python's variable that keeps the current folder off its path (any text does), and what we set it to."""

_TRACKER = "from multiprocessing.resource_tracker import "  # what it tells `python -c`
_SPAWNED = "from multiprocessing.spawn import "


def quiet_fork_server() -> None:
    """Have a fork server that is yet to start tell nobody's terminal that its parent was killed."""
    preloaded: list[str] = getattr(forkserver._forkserver, "_preload_modules", [])
    if "ingest.forked" not in preloaded:
        preloaded.append("ingest.forked")


def quieten() -> None:
    """Have what multiprocessing starts from this process say nothing of killed processes to the user's terminal.

    Its resource trackers would tell of each; and one that is started after another was killed, which may be whenever
    a semaphore is made, would show a traceback for all that only that one was told of. What is spawned would show one
    if its parent was killed before it had said what is to be done.
    """
    starts: Any = util
    if not isinstance(starts.spawnv_passfds, _Quietly):
        starts.spawnv_passfds = _Quietly(starts.spawnv_passfds)
        warnings.filterwarnings("ignore", message="resource_tracker: process died", category=UserWarning)
    resource_tracker.ensure_running()  # where it is started with a process, that one is left with no signal blocked


class _Quietly:
    """In the place of the function with which multiprocessing starts its own processes, and those that it spawns."""

    def __init__(self, start: Callable[[Any, Any, Any], int]) -> None:
        self._start = start

    def __call__(self, path: Any, arguments: Any, kept: Any) -> int:
        arguments = [_ended_quietly(os.fsdecode(argument)) for argument in arguments]
        if not any(argument.startswith(_TRACKER) for argument in arguments):
            return self._start(path, arguments, kept)
        with safe_path(), contextlib.ExitStack() as undo:
            with contextlib.suppress(OSError):  # it may be closed
                saved = os.dup(2)
                undo.callback(os.close, saved)
                undo.callback(os.dup2, saved, 2)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                os.close(null)
            return self._start(path, arguments, kept)


def _ended_quietly(argument: str) -> str:
    """What is told to Python; for a process that is spawned, with an end where nobody tells it what to do.

    What it raises while it does that, it shows itself.
    """
    if not argument.startswith(_SPAWNED):
        return argument
    return f"try:\n {argument}\nexcept (EOFError, __import__('pickle').UnpicklingError):\n raise SystemExit(1)"


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Have what is started not import from the current folder, where a `numpy.py` may be somebody's data.

    Python looks there first for what multiprocessing starts by `python -c`, though not for our own command. What a
    worker takes for its path is main's.
    """
    if os.environ.get(SAFE_PATH):
        yield
        return
    os.environ[SAFE_PATH] = OURS
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]
