"""The main process's side of the pool: hosts come and go, jobs stay until they have all their results.

Knows who died and whose fault it was; does not know what a result is for.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ingest import launching, pool, spool, waker
from ingest.errors import UsageError
from ingest.feeding import permit_cost
from ingest.jobs import Failure, Job, JobSliced, Result
from ingest.model import Reason
from ingest.settings import workers_default

log = logging.getLogger("ingest")

DEATHS_ALONE = 3
"""A file whose worker died this often in a row, while nothing else ran, is set aside."""

RESTARTS = 20
"""Hosts that may end one after the other without any result before the run gives up: something else is wrong."""

GONE_SECONDS = 30.0
"""How long the end of a process that was killed is waited for: at most a moment, unless its file system hangs."""

LONGEST_LOOK = 1.0
"""Seconds between two looks at the workers that count, at most: if this process was stopped, so were they, perhaps."""

FILES, FILES_A_WORKER = 64, 4
"""Files that one process of ours may have open at once, and how many more for each worker: twice what was seen."""

START_PAUSES = (0.01, 0.1, 1.0)
"""Seconds to wait for another try where the fork server was just killed: until it is seen to be dead, and replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A job cannot be done: it killed its workers, or took too long."""

    job: Job
    failure: Failure
    deaths: int = 0


_NOTE = re.compile(rb"([SD]) (\d+) (\d+) \d+")
"""A line of the journal: a slice began or is done, the worker, the job, the slice."""

Event = tuple[Job, Result | JobSliced] | Lost


class Crew:
    """Runs jobs through pool hosts. `resubmit` gives the job to go on with for one whose host died."""

    def __init__(
        self,
        *,
        folder: Path,
        workers: int,
        start_method: str,
        budget: int,
        file_timeout: float,
        tell: Callable[[str, str], None],
        first: Host | None = None,
    ) -> None:
        self._first = first
        self._folder = folder
        self._workers = workers
        self._start_method = start_method
        self._file_timeout = file_timeout
        self._tell = tell
        self.budget = budget
        self.held = 0  #: spool bytes of results that the owner still keeps
        self.resubmit: Callable[[Job], Job | None] = lambda job: job
        self.split: Callable[[Job], Sequence[Job]] = lambda job: [job]
        self._jobs: dict[int, Job] = {}  # submitted, and not all results are in
        self._alone: collections.deque[Job] = collections.deque()
        self._alone_now: Job | None = None
        self._deaths: dict[str, int] = {}
        self._host: Host | None = None
        self._lives = 0
        self._fruitless = 0

    # jobs --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a host before the first job is there: it takes a while."""
        if self._host is None:
            self._start_host(self._workers)

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """Do a job; `alone`: while nothing else runs, and a single death of its worker is the last one."""
        self._jobs[job.job_id] = job
        if alone:
            self._deaths[_key(job)] = DEATHS_ALONE - 1
            self._alone.append(job)
        elif self._host is not None and self._alone_now is None:
            self._host.send(job)
        # else: the next host gets it

    def finished(self, job: Job) -> None:
        """All results of this job are in, or it needs no more of them."""
        self._jobs.pop(job.job_id, None)
        if self._alone_now is not None and self._alone_now.job_id == job.job_id:
            self._deaths.pop(_key(job), None)
            self._next_alone()

    def cancel(self, job: Job) -> None:
        """No more of this job: what still comes of it is dropped here."""
        if self._host is not None:
            self._host.send(pool.Cancel(job_id=job.job_id))
        self.finished(job)

    def give(self, bytes_: int) -> None:
        """Spool bytes are free again."""
        self.held -= bytes_
        if self._host is not None and bytes_:
            self._host.starving = None  # if it still starves, it says so again
            self._host.send(pool.Grant(bytes=bytes_))

    def allow(self, bytes_: int) -> None:
        """Raise the budget to so many bytes, for a unit that needs them."""
        more, self.budget = max(bytes_ - self.budget, 0), max(bytes_, self.budget)
        if self._host is not None and more:
            self._host.send(pool.Grant(bytes=more))

    def relieve(self) -> None:
        """Lend bytes to a host that waits for some while nothing that could give them back is under way.

        For units that are larger than the budget, of which nobody could know before (a compressed file).
        """
        host = self._host
        if host is not None and host.starving is not None and host.starving.issued <= host.received:
            host.send(pool.Grant(bytes=host.starving.bytes))
            host.starving = None

    @property
    def idle(self) -> bool:
        return not self._jobs

    def close(self) -> None:
        """Kill the host, if there is one; forget the jobs."""
        self._jobs.clear()
        self._alone.clear()
        self._alone_now = None
        if self._host is not None:
            self._host.kill()
            self._host = None

    # events ------------------------------------------------------------------------------------------------

    def poll(self, others: Sequence[Any], timeout: float) -> tuple[list[Event], list[Any]]:
        """Wait for something to happen; what it was, and which of `others` can be read."""
        if self._host is None and self._jobs:
            self._start_host(1 if self._alone else self._workers)
            self._feed()
        elif self._host is not None and self._alone and self._alone_now is None:
            self._host.kill()
            self._host = None
            return [], []
        elif self._host is not None and self._host.spent:  # what it said before has been taken
            return self._bury(self._host), []
        host = self._host
        if host is None:
            return [], list(connection.wait(others, timeout))
        ready = connection.wait([host.pipe, host.process.sentinel, *others], timeout)
        events: list[Event] = []
        if host.pipe in ready or host.process.sentinel in ready:
            events = [event for message in host.drain() for event in self._event(host, message)]
            if host.ended:
                events += self._bury(host)
        if self._host is not None:
            events += self._overdue(self._host)
        return events, [other for other in others if other in ready]

    def _event(self, host: Host, message: object) -> list[Event]:
        if not isinstance(message, (Result, JobSliced)):
            return []
        job = self._jobs.get(message.job_id)
        if isinstance(message, JobSliced):
            return [(job, message)] if job is not None else []
        self._fruitless = 0
        if message.spent:
            host.spent = host.killed_by_us = True
            if job is not None and self._alone_now is not job:
                # Whose fault it is will be seen when this job runs by itself, in a new worker.
                self._tell("info", f"a worker (pid {message.pid}) failed as none should, and is replaced")
                host.guilty.append(job.job_id)
                discard(message)
                return []
        if job is not None:
            self.held += permit_cost(job, message.slice)
            return [(job, message)]
        # Of a job that was cancelled, or given up for a new one: what it took is given back.
        discard(message)
        self.held += (cost := permit_cost(host.given[message.job_id], message.slice))
        self.give(cost)
        return []

    def _start_host(self, workers: int) -> None:
        self._lives += 1
        folder = self._folder / f"life-{self._lives}"
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise spool.unmade(self._folder, error) from error
        first, self._first = self._first, None
        if first is not None and workers != self._workers:
            first.kill()
            first = None
        self._host = first or Host(workers, self._start_method)
        self._host.begin(str(folder), max(self.budget - self.held, 0))

    def _feed(self) -> None:
        """Give a new host what is to be done: one job alone, or all that are left."""
        assert self._host is not None
        if self._alone:
            self._next_alone()
            return
        for job in sorted(self._jobs.values(), key=lambda j: j.job_id):
            self._host.send(job)

    def _next_alone(self) -> None:
        self._alone_now = None
        while self._alone:
            job = self._alone.popleft()
            if job.job_id in self._jobs:
                self._alone_now = job
                if self._host is not None:
                    self._host.send(job)
                return
        # Back to normal: a host with all its workers takes what is left.
        if self._host is not None:
            self._host.kill()
            self._host = None

    # deaths ------------------------------------------------------------------------------------------------

    def _bury(self, host: Host) -> list[Event]:
        """A host has ended: find out why, and let the next one go on."""
        host.kill()
        self._host = None
        alone, self._alone_now = self._alone_now, None
        events: list[Event] = []
        self._fruitless += 1
        died = host.died
        suspects = host.suspects() if died is not None and not host.killed_by_us else host.guilty
        if died is not None:
            how = exit_words(died.exitcode)
            self._tell("warning" if not host.killed_by_us else "info", f"a worker (pid {died.pid}) ended: {how}")
        elif not host.killed_by_us:
            self._tell("warning", f"the pool host (pid {host.pid}) ended: {exit_words(host.exitcode)}")
        if self._fruitless > RESTARTS:
            failure = Failure(code=Reason.INTERNAL, message="the pool ended again and again without doing anything.")
            lost = [Lost(job=job, failure=failure) for job in self._jobs.values()]
            self._jobs.clear()
            self._alone.clear()
            return list(lost)
        for job in list(self._jobs.values()):
            if job.job_id not in host.given:
                continue
            del self._jobs[job.job_id]
            guilty = job.job_id in suspects
            if guilty and alone is not None and alone.job_id == job.job_id and died is not None:
                deaths = self._deaths[_key(job)] = self._deaths.get(_key(job), 0) + 1
                if deaths >= DEATHS_ALONE:
                    failure = Failure(
                        code=Reason.QUARANTINED,
                        message=f"it ended its worker {deaths} times while nothing else ran: "
                        f"{exit_words(died.exitcode)}.",
                        hint="The next run tries it once more, by itself.",
                    )
                    events.append(Lost(job=job, failure=failure, deaths=deaths))
                    self._fruitless = 0  # one file fewer to do: that is something, too
                    continue
            again = self.resubmit(job)
            if again is None:
                continue
            for part in self.split(again) if guilty and again.bundle else [again]:
                self._jobs[part.job_id] = part
                if guilty:
                    self._alone.append(part)
        return events

    def _overdue(self, host: Host) -> list[Event]:
        """End a worker that is at one slice for too long; its file is reported, the others go on."""
        at_work = host.at_work()
        for pid, (job_id, since) in at_work.items():
            job = self._jobs.get(job_id)
            if host.clock - since <= self._file_timeout or host.killed_by_us:
                continue
            host.killed_by_us = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if job is None:  # cancelled or failed meanwhile: nobody waits for the slice, but others for the worker
                return []
            parts = self.split(job) if job.bundle else []
            self._jobs.pop(job_id, None)
            if parts:
                for part in parts:
                    self._jobs[part.job_id] = part
                return []
            failure = Failure(
                code=Reason.TIMEOUT,
                message=f"a worker was at one slice of it for more than {self._file_timeout:g} seconds.",
                hint="Give --file-timeout more seconds if it is only slow.",
            )
            return [Lost(job=job, failure=failure)]
        return []


class Host:
    """One life of the pool host."""

    @classmethod
    @contextlib.contextmanager
    def early(cls, workers: int, start_method: str) -> Iterator[Host]:
        """A host before there is anything to do: it takes a while to start. Killed at the end, used or not.

        Raises UsageError where the system lets us open too few files.
        """
        workers = workers or workers_default()
        allow_files(workers)
        host = cls(workers, start_method)
        try:
            yield host
        finally:
            host.kill()

    def __init__(self, workers: int, start_method: str) -> None:
        own_temporary_folder()
        context: Any = multiprocessing.get_context(start_method)
        launching.quieten()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=pool.host, args=(theirs, workers, start_method), name="ingest-pool-host", daemon=False
        )
        start_process(self.process)
        theirs.close()
        self.pid: int = self.process.pid
        self.given: dict[int, Job] = {}
        self.received = 0
        self.starving: pool.Starving | None = None
        self.died: pool.Died | None = None
        self.ended = False
        self.killed_by_us = False
        self.spent = False  #: a worker of it is not to be given more to do
        self.guilty: list[int] = []  #: the jobs at which that was found
        self.exitcode: int | None = None
        self._semaphores: tuple[str, ...] = ()
        self._journal: Path | None = None
        self._killed = False
        self._read = 0
        self._partial = b""
        self._at: dict[int, tuple[int, float]] = {}
        self._watched: list[int] = [self.pid]
        waker.watch(self.pid)
        self.clock = 0.0  #: seconds for which its workers were watched
        self._looked = time.monotonic()

    def begin(self, folder: str, bytes_: int) -> None:
        """Tell it where the spool is and how much of it there is."""
        self._journal = pool.journal_path(folder)
        self.send(pool.Begin(folder=folder, bytes=bytes_))

    def send(self, message: object) -> None:
        if isinstance(message, Job):
            self.given[message.job_id] = message
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)  # a host that is gone is found by its sentinel

    def drain(self) -> list[object]:
        """All that it has said; `ended` when it will say no more."""
        messages: list[object] = []
        try:
            while self.pipe.poll(0):
                message = self.pipe.recv()
                if isinstance(message, pool.Ready):
                    self._semaphores = message.semaphores
                    self._watched += message.pids
                    waker.watch(*message.pids)
                elif isinstance(message, pool.Starving):
                    self.starving = message
                elif isinstance(message, pool.Died):
                    self.died = message
                elif isinstance(message, pool.Broken):
                    log.error("a thread of the pool host (pid %d) ended\n%s", self.pid, message.trace)
                else:
                    self.received += isinstance(message, Result)
                    messages.append(message)
        except (EOFError, OSError):
            self.ended = True
        else:
            self.ended = self.process.exitcode is not None and not self.pipe.poll(0)
        return messages

    def at_work(self) -> dict[int, tuple[int, float]]:
        """Which worker is at which job, and since when we know it, by `clock`."""
        now = time.monotonic()
        self.clock += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        if self._journal is None:
            return self._at
        with contextlib.suppress(OSError), open(self._journal, "rb") as file:
            file.seek(self._read)
            fresh = file.read()
            self._read += len(fresh)
            *lines, self._partial = (self._partial + fresh).split(b"\n")
            for line in lines:
                match = _NOTE.fullmatch(line)
                if match is None:
                    continue  # the end of a line may be missing where the disk is full
                mark, pid, job_id = match[1], int(match[2]), int(match[3])
                if mark == b"S":
                    self._at[pid] = (job_id, self.clock)
                else:
                    self._at.pop(pid, None)
        return self._at

    def suspects(self) -> list[int]:
        """The job that the dead worker was at."""
        at = self.at_work()
        return [at[self.died.pid][0]] if self.died is not None and self.died.pid in at else []

    def kill(self) -> None:
        """End the whole group, and remove what a killed process cannot."""
        if self._killed:
            return
        self._killed = True
        self.drain()
        # The group exists once the host has made it; before that, it is the process alone.
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)
        self.process.join(GONE_SECONDS)
        waker.forget(*self._watched)
        self.exitcode = self.process.exitcode
        self.drain()
        pool.remove_semaphores(self._semaphores)
        self._semaphores = ()
        self.pipe.close()
        close_process(self.process)


def allow_files(workers: int) -> None:
    """Have the system let our processes open what a run with so many workers needs, as far as it may be asked.

    What runs out of them under way ends in places that no sentence explains, multiprocessing's own among them.
    """
    need = FILES + FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < need:
        raise UsageError(
            f"a process may have {hard} files open here, and a run with {workers} workers needs {need}.",
            hint=f"Allow more, with ulimit -n {need} where you may, or give fewer --workers.",
        )
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def start_process(process: Any) -> None:
    """Start a process that a Ctrl-C or SIGTERM for all of us does not end before it can ignore it.

    What is blocked here is blocked in it, and in multiprocessing's fork server, which a SIGTERM would end (and
    with it all knowledge of its children's ends). A signal that comes meanwhile is delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, pool.STOP_SIGNALS)
    launching.quiet_fork_server()
    try:
        with waker.watching(os.getpid()):  # for its sake the fork server is looked at, which answers with a number
            for pause in (*START_PAUSES, None):
                try:
                    with launching.safe_path():
                        process.start()
                    break
                except (EOFError, ConnectionError):
                    if pause is None:
                        raise
                    time.sleep(pause)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def close_process(process: Any) -> None:
    """Forget a process that was killed; one that the system does not let die is left to it."""
    with contextlib.suppress(ValueError):
        process.close()


def own_temporary_folder() -> None:
    """Give multiprocessing's sockets, ours and those of the processes we start, a folder that somebody removes.

    Each process would make one of its own, and who is killed, as every pool host is, leaves it for ever.
    """
    config: dict[str, Any] = getattr(multiprocessing.current_process(), "_config", {})
    if config.get("tempdir") is None and (folder := spool.own_folder()) is not None:
        config["tempdir"] = folder


def exit_words(code: int | None) -> str:
    """An exit code by number, and by the signal's name."""
    if code is None:
        return "exit code unknown"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name} (exit code {code})"
        except ValueError:
            return f"killed by signal {-code} (exit code {code})"
    return f"exit code {code}"


def _key(job: Job) -> str:
    return job.source.path


def discard(result: Result) -> None:
    """Remove what a result left in the spool."""
    for path in (result.rejects_path, result.kept, result.staged.path if result.staged else None):
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)


def renumbered(job: Job, job_id: int, **changes: Any) -> Job:
    """The same work as a new job: results of the old number are dropped."""
    return dataclasses.replace(job, job_id=job_id, **changes)


def log_result(result: Result) -> None:
    """A worker's result in the log, as if the worker had written it."""
    record = logging.makeLogRecord(
        {
            "name": "ingest",
            "levelno": logging.DEBUG,
            "levelname": "DEBUG",
            "process": result.pid,
            "processName": result.process,
            "msg": f"job {result.job_id} slice {result.slice.index}: {result.records} records, {result.rows} rows, "
            f"{result.rejected} rejects in {result.seconds:.3f} s",
        }
    )
    if log.isEnabledFor(logging.DEBUG):
        log.handle(record)
