"""The pool host: a process of its own that has files sliced and feeds the slices to `Pool.imap_unordered`.

`multiprocessing.Pool` waits for ever when a worker is killed, and then even `terminate()` can deadlock. So the
pool lives in a process that can be thrown away: it leads its own process group, and whoever finds it broken
kills the group and starts another. It ends only by a kill: the interpreter's exit handlers would join the pool.

Messages to the host: `Begin` first, then `Job`, `Cancel`, `Grant`, or `None` for "no more jobs". From the host:
`Ready`, `Result`, `JobSliced`, `Starving`, `Died`, `Broken`, and `None` when all tasks are done.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import connection, context, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ingest import launching
from ingest.feeding import Feeding
from ingest.jobs import Result, Task

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_exit_code = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Spool bytes given back (or lent, to a host that starves)."""

    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Slice no more of this job; its results will be dropped."""

    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The pool is up: its workers and its fork server. The names are its semaphores', to be removed after a kill."""

    pids: tuple[int, ...]
    semaphores: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starving:
    """The next slice waits for spool bytes; `issued` tasks have gone out so far."""

    issued: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A worker ended. Nothing the pool says after this can be trusted."""

    pid: int
    exitcode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A thread of the host, or of the pool, ended by an exception: without it nothing would go on, or ever end."""

    trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Where this host's own folder in the spool is, and how many bytes of slices may be out at once."""

    folder: str
    bytes: int


# processes whose exit code is read under a lock: the pool's handler thread and our watch read it at the same
# time, and with forkserver the second reader of the pipe would get 255 for the real code.


# Their names end in a number: Pool counts its processes.


class _Worker(BaseProcess):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = f"ingest-worker-{self._identity[-1]}"

    @property
    def exitcode(self) -> int | None:
        with _exit_code:
            return super().exitcode

    def run(self) -> None:
        try:
            super().run()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os.killpg(0, signal.SIGKILL)  # the host is gone: no story about it on the user's terminal


class _ForkServerWorker(_Worker, context.ForkServerProcess):
    pass


class _SpawnWorker(_Worker, context.SpawnProcess):
    pass


class _ForkServerContext(context.ForkServerContext):
    Process = _ForkServerWorker


class _SpawnContext(context.SpawnContext):
    Process = _SpawnWorker


def journal_path(folder: str) -> Path:
    """Where the workers of a host write which slice they are at."""
    return Path(folder) / "journal"


def ignore_stop_signals() -> None:
    """Ctrl-C in a terminal and a service manager's SIGTERM reach every process: what to do is for main to say."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # main started us with them blocked


def host(pipe: Connection, workers: int, start_method: str) -> None:
    """The main function of the host process. Does not return."""
    os.setsid()
    ignore_stop_signals()
    launching.quieten()
    try:
        _Host(pipe, workers).run(workers, start_method)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        pass  # main is gone
    finally:
        os.killpg(0, signal.SIGKILL)


KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MIMALLOC_PURGE_DELAY": "10000",
}
"""What has the C library and Arrow's allocator keep the memory of one slice for the next.

Given back and taken anew, every page of it is cleared by the system first, a tenth of a worker's time.
"""


class _Host:
    def __init__(self, pipe: Connection, workers: int) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._feeding = Feeding(workers, self._send, lambda made, cost: self._send(Starving(issued=made, bytes=cost)))

    def run(self, workers: int, start_method: str) -> None:
        threading.excepthook = self._broken
        names = _record_semaphores()
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
        # A process a core is all there is to do in parallel; the threads that numpy's BLAS would start wait busily.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        for name, value in KEPT_MEMORY.items():
            os.environ.setdefault(name, value)
        if start_method == "forkserver":
            ctx: Any = _ForkServerContext()
            ctx.set_forkserver_preload(["ingest.worker"])
            launching.quiet_fork_server()
        else:
            ctx = _SpawnContext()
        pool = ctx.Pool(workers, _start_worker)
        started = list(multiprocessing.active_children())
        server = getattr(forkserver._forkserver, "_forkserver_pid", None)
        pids = (*(w.pid for w in started), server)
        self._send(Ready(pids=tuple(pid for pid in pids if pid), semaphores=tuple(names)))
        threading.Thread(target=self._watch, args=(started,), daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()
        for result in pool.imap_unordered(_task, self._feeding.tasks()):
            self._send(result)
        self._send(None)
        # Main kills the group when it has read this; if it is gone, `_die_with` does.
        threading.Event().wait()

    def _send(self, message: object) -> None:
        with self._sending:
            self._pipe.send(message)

    def _listen(self) -> None:
        """Take main's messages until it is gone."""
        try:
            while True:
                message = self._pipe.recv()
                if isinstance(message, Begin):
                    self._feeding.begin(message.folder, message.bytes)
                elif isinstance(message, Grant):
                    self._feeding.give(message.bytes)
                elif isinstance(message, Cancel):
                    self._feeding.cancel(message.job_id)
                else:
                    self._feeding.add(message)
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    def _broken(self, ended: threading.ExceptHookArgs) -> None:
        """A thread has ended that should not: the next host has all its threads."""
        try:
            self._send(Broken(trace="".join(traceback.format_tb(ended.exc_traceback)) + ended.exc_type.__name__))
        finally:
            os.killpg(0, signal.SIGKILL)

    def _watch(self, workers: list[Any]) -> None:
        """When a worker ends, the pool may hang: say which, and end the whole group."""
        connection.wait([w.sentinel for w in workers])
        dead = [w for w in workers if w.exitcode is not None]
        with contextlib.suppress(OSError):
            for worker in dead[:1]:
                self._send(Died(pid=worker.pid or 0, exitcode=worker.exitcode or 0))
        os.killpg(0, signal.SIGKILL)


def _record_semaphores() -> list[str]:
    """The names of the semaphores made from here on: a killed process leaves them for somebody to remove."""
    names: list[str] = []
    register: Any = resource_tracker.register

    def recording(name: str, kind: str) -> None:
        if kind == "semaphore":
            names.append(name)
        register(name, kind)

    resource_tracker.register = recording  # type: ignore[assignment]
    return names


def remove_semaphores(names: tuple[str, ...]) -> None:
    """Remove semaphores of a killed host, and what the resource tracker remembers of them."""
    import _multiprocessing  # type: ignore[import-not-found]

    for name in names:
        with contextlib.suppress(OSError):
            _multiprocessing.sem_unlink(name)
            resource_tracker.unregister(name, "semaphore")


# in the workers ---------------------------------------------------------------------------------------------------

_journal: collections.deque[int] = collections.deque(maxlen=1)
_spent = threading.Event()


def _start_worker() -> None:
    ignore_stop_signals()
    launching.quieten()
    if os.environ.get(launching.SAFE_PATH) == launching.OURS:
        del os.environ[launching.SAFE_PATH]  # what a transform starts is its own affair
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _task(task: Task) -> Result:
    from ingest import worker

    if _spent.is_set():
        threading.Event().wait()  # for main, which has read that, to end this worker: no other file is to suffer for it
    name = multiprocessing.current_process().name
    _note("S", task)
    result = worker.run(task, int(name.rpartition("-")[2]))
    _note("D", task)
    if result.spent:
        _spent.set()
    return dataclasses.replace(result, pid=os.getpid(), process=name)


def _note(mark: str, task: Task) -> None:
    # One O_APPEND write a line: no lock that could die with us. A spool that takes none is told of by the task itself.
    with contextlib.suppress(OSError):
        if not _journal:
            path = journal_path(os.path.dirname(task.stem))
            _journal.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.write(_journal[0], f"{mark} {os.getpid()} {task.job.job_id} {task.slice.index}\n".encode())


def _die_with(sentinel: int) -> None:
    """End this process's group when the process behind the sentinel has ended, however it ended."""
    connection.wait([sentinel])
    os.killpg(0, signal.SIGKILL)
