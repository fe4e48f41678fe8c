"""Find the processes of a run, stop a run in its middle, and kill; everything is waited for by what can be seen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import tools
from oracle import Database, oracle
from servers import alive

T = TypeVar("T")

SECONDS = 120.0
"""A wait that lasts longer has failed: everything waited for here takes a second or two, but machines stand still."""

ENDS = 30.0
"""Within so many seconds of the last fault, or of --file-timeout, a run ends by itself."""


def wait_for(look: Callable[[], T | None], what: str, seconds: float = SECONDS, pause: float = 0.005) -> T:
    """What `look` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of one run, by what they do."""

    main: int
    host: int
    workers: tuple[int, ...]
    writer: int
    helpers: tuple[int, ...]  #: multiprocessing's own: fork servers and the resource tracker

    @property
    def all(self) -> tuple[int, ...]:
        return (self.main, self.host, *self.workers, self.writer, *self.helpers)


def processes(main: int) -> Processes | None:
    """The processes of the run of `main`, if they are all there."""
    try:
        below = psutil.Process(main).children(recursive=True)
        own = os.getsid(main)
        helpers = [p for p in below if _is_helper(p)]
        others = [p for p in below if p not in helpers]
        writers = [p.pid for p in others if os.getsid(p.pid) == own]
        hosts = [p.pid for p in others if os.getsid(p.pid) == p.pid]
        workers = [p.pid for p in others if p.pid not in (*writers, *hosts)]
    except (psutil.Error, ProcessLookupError):
        return None
    if len(writers) != 1 or len(hosts) != 1 or not workers:
        return None
    return Processes(
        main=main,
        host=hosts[0],
        workers=tuple(workers),
        writer=writers[0],
        helpers=tuple(p.pid for p in helpers),
    )


def started(run: subprocess.Popen[str]) -> Processes | None:
    """The processes of a run as soon as they are all there; None if it ended before."""
    wait_for(lambda: processes(run.pid) or run.poll() is not None, "all processes of the run")
    return processes(run.pid)


def _is_helper(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    if "resource_tracker" in line:
        return True
    # What a fork server forks keeps its command line; the fork server of a forked process has another.
    parent = process.parent()
    return "forkserver" in line and parent is not None and line != " ".join(parent.cmdline())


def is_fork_server_of(pid: int, main: int) -> bool:
    """Whether this is the fork server that `main` started."""
    return psutil.Process(pid).ppid() == main and "forkserver" in command(pid)


def command(pid: int) -> str:
    """The command line of a process."""
    return " ".join(psutil.Process(pid).cmdline())


def kill(*pids: int) -> None:
    """`kill -9`; who is gone already is fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_gone(pids: tuple[int, ...], seconds: float = 5.0) -> None:
    """None of the processes is alive after so many seconds, in which this one could look."""
    waited, looked = 0.0, time.monotonic()
    while left := [pid for pid in pids if alive(pid)]:
        assert waited < seconds, f"alive after {seconds:g} s: {left}"
        time.sleep(0.01)
        now = time.monotonic()
        waited += min(now - looked, 0.1)  # what is longer, the machine has stood still for
        looked = now


@contextlib.contextmanager
def held_midway(db: Database, run: subprocess.Popen[str]) -> Iterator[Processes]:
    """A run started with `held`, a part of its own committed and unable to commit more inside the block.

    It stands still until the ledger is locked here, and goes on then.
    """
    database, gate = oracle(db), tools.gate(run)
    try:
        wait_for(lambda: gate.reached() or run.poll() is not None, "the first commit")
        with contextlib.closing(database.connect()) as connection:
            wait_for(lambda: database.held(connection) or run.poll() is not None, "the ledger")
            query = "SELECT sum(committed_bytes), count(NULLIF(state, 'loaded')) FROM ingest_file"
            ((committed, left),) = database.rows(connection, query)[1]
            assert committed, "nothing is committed"
            assert left, "everything is loaded: one order took all of it"
            gate.open()
            found = wait_for(lambda: processes(run.pid), "all processes of the run")
            yield found
    finally:
        gate.open()


def finish(run: subprocess.Popen[str], seconds: float = ENDS) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run that is to end by itself."""
    try:
        out, err = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        out, err = run.communicate()
        raise AssertionError(f"still running after {seconds:g} s\n{out}\n{err}") from None
    return run.returncode, out, err


def read_until(run: subprocess.Popen[str], words: str) -> str:
    """What a run says on stderr, up to the line with these words."""
    assert run.stderr is not None
    read = ""
    while words not in read:
        line = run.stderr.readline()
        assert line, f"it ended without {words!r}: {read}"
        read += line
    return read


def semaphores(found: Processes) -> set[Path]:
    """The named semaphores that the writer and the workers have open."""
    names: set[Path] = set()
    for pid in (found.writer, *found.workers):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            names |= {Path(line[line.index("/dev/shm/") :]) for line in lines if "/dev/shm/sem." in line}
    return names


def spools(folder: Path) -> list[str]:
    """Spool folders below `folder`."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".ingest-")]


def aged(*paths: Path) -> None:
    """Give files an old time stamp: one of this second has to be compared by content."""
    for path in paths:
        os.utime(path, (1_700_000_000, 1_700_000_000))
