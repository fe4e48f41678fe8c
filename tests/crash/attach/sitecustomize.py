"""Imported by every Python process of a run that is to be killed at a counted place, before anything else.

`CRASH_ROLE` names the process whose system calls strace is to count, and `CRASH_WHEN` the call at which the first such
process is killed, the second, and so on (`pwrite64:17,fdatasync:3`; `-` lets one live); from then on they are left
alone. `CRASH_PLACES` counts the named places of `ingest.failpoints` in all processes together and kills whoever comes
by at these numbers. All is kept in the folder `CRASH_FOLDER`: what was counted, and who is dead already.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from multiprocessing import process
from pathlib import Path

_FOLDER = Path(os.environ["CRASH_FOLDER"])
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


def _turn(count: int) -> int | None:
    """The number of this process among those whose turn it is; None if so many had theirs."""
    for number in range(count):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(_FOLDER / f"turn.{number}", os.O_CREAT | os.O_EXCL))
            return number
    return None


def _watched() -> None:
    """Have strace count the calls of this thread from here on, if it is the turn of this process."""
    turns = os.environ["CRASH_WHEN"].split(",")
    number = _turn(len(turns))
    if number is None:
        return
    name, _, count = turns[number].partition(":")
    kill = ["-e", f"inject={name}:signal=SIGKILL:when={count}"] if count else []
    own = str(os.getpid())
    log = str(_FOLDER / f"calls.{number}")
    # Where only a parent may trace (Yama), this process lets its child do it.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    strace = subprocess.Popen(
        ["strace", "-qq", "-y", "-s", "0", "-o", log, "-e", f"trace={os.environ['CRASH_CALLS']}", *kill, "-p", own],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("CRASH_")},
    )
    globals()["_strace"] = strace  # one that is forgotten would be warned of
    while "\nTracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if strace.poll() is not None:
            raise RuntimeError("strace could not attach")
        time.sleep(0.001)


def _counted(name: str) -> None:
    """What stands for `failpoint`: the next line of the log, and the end of whoever wrote one that is named."""
    with open(_FOLDER / "places", "a+", encoding="utf-8") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(f"{name}\n")
        log.flush()
        log.seek(0)
        count = len(log.readlines())
    if str(count) in os.environ["CRASH_PLACES"].split(","):
        os.kill(os.getpid(), signal.SIGKILL)


_role = os.environ.get("CRASH_ROLE")
if "CRASH_PLACES" in os.environ:
    from ingest import failpoints

    failpoints.failpoint = _counted
elif _role == "main" and sys.orig_argv[1:3] == ["-m", "ingest"]:
    _watched()
elif _role == "writer":
    _run = process.BaseProcess.run

    def _watched_run(self: process.BaseProcess) -> None:
        if self.name == "ingest-writer":
            _watched()
        _run(self)

    process.BaseProcess.run = _watched_run  # type: ignore[method-assign]
