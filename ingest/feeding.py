"""Jobs to tasks: files are cut into slices in their order, each slice when there is room for it in the spool.

What has to be decoded on the way, for it cannot be seeked, is decoded several files at a time: the libraries let other
threads run meanwhile. The file that is first in order takes what it needs; those behind it take what it leaves, so that
what is committed next never waits for room that a later file has. Starts no process.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from ingest import slicing, spool
from ingest.errors import SourceError
from ingest.jobs import PREVIEW, STAGE, Failure, Job, JobSliced, Task
from ingest.model import Reason, Slice

DECODED_AT_ONCE = 4
"""Files that are decoded at once, at most, and one a worker: each holds up to two slices in memory."""

UNPACKS_TO = 16
"""How many times its size a packed file is taken to be before it is read, to leave room for it."""


def decoded_at_once(workers: int) -> int:
    """How many files are decoded at the same time."""
    return min(workers, DECODED_AT_ONCE)


def permit_cost(job: Job, slice_: Slice) -> int:
    """Spool bytes that a slice counts for: its length where it is staged (which the spool's is close to) or decoded."""
    return slice_.length if job.kind == STAGE or slice_.spooled is not None else 0


class Feeding:
    """Makes tasks of the jobs that it is given; `send` takes a `JobSliced` for each.

    `starving` is called when the first file waits: with the number of tasks made so far, and the bytes it waits for.
    """

    def __init__(self, workers: int, send: Callable[[object], None], starving: Callable[[int, int], None]) -> None:
        self._send = send
        self._starving = starving
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._decoders = threading.Semaphore(decoded_at_once(workers))
        self._cancelled: set[int] = set()
        self._permits = _Permits()
        self._folder = ""
        self._making = threading.Lock()
        self._made = 0

    def begin(self, folder: str, bytes_: int) -> None:
        """Where the spool is, and how many bytes of slices may be out at once."""
        self._folder = folder
        self._permits.give(bytes_)

    def give(self, bytes_: int) -> None:
        """So many bytes are free again, or lent."""
        self._permits.give(bytes_)

    def add(self, job: Job | None) -> None:
        """Slice this; None: no more will come."""
        self._jobs.put(job)

    def cancel(self, job_id: int) -> None:
        """Slice no more of this job."""
        self._cancelled.add(job_id)
        self._permits.give(0)  # if it waits for room, it is woken

    def tasks(self) -> Iterator[Task]:
        """The tasks, as they are made; ends after the last job."""
        threading.Thread(target=self._feed, daemon=True).start()
        while (task := self._ready.get()) is not None:
            yield task

    def _feed(self) -> None:
        decoding: list[threading.Thread] = []
        turn = 0
        while (job := self._jobs.get()) is not None:
            turn += 1
            self._permits.join(turn, _step(job))
            if not _is_decoded(job):
                self._slice(job, turn)
                continue
            self._decoders.acquire()  # released by the thread
            thread = threading.Thread(target=self._decode, args=(job, turn), daemon=True)
            thread.start()
            decoding = [t for t in decoding if t.is_alive()] + [thread]
        for thread in decoding:
            thread.join()
        self._ready.put(None)

    def _decode(self, job: Job, turn: int) -> None:
        try:
            self._slice(job, turn)
        finally:
            self._decoders.release()

    def _slice(self, job: Job, turn: int) -> None:
        """Make tasks of one job."""
        count, sha256, failure = 0, None, None
        try:
            slices = self._slices(job)
            while job.job_id not in self._cancelled:
                try:
                    slice_, prefix = next(slices)
                except StopIteration as stop:
                    sha256 = stop.value
                    break
                if not self._acquire(job, turn, slice_):
                    break
                count += 1
                self._make(
                    Task(
                        job=job,
                        slice=slice_,
                        prefix_sha256=prefix,
                        stem=os.path.join(self._folder, f"j{job.job_id}"),
                    )
                )
        except SourceError as error:
            failure = Failure(code=Reason(error.code), message=error.message, hint=error.hint)
        except OSError as error:
            failure = Failure(
                code=Reason.UNREADABLE, message=f"{job.source.display}: {error.strerror or type(error).__name__}."
            )
        except Exception as error:
            failure = Failure(
                code=Reason.INTERNAL,
                message=f"{job.source.display}: {type(error).__name__} while it was sliced.",
                trace=traceback.format_exc(),
            )
        self._permits.leave(turn)
        self._send(JobSliced(job_id=job.job_id, slices=count, sha256=sha256, failure=failure))

    def _make(self, task: Task) -> None:
        with self._making:
            self._made += 1
            self._ready.put(task)

    def _slices(self, job: Job) -> Generator[tuple[Slice, str], None, str | None]:
        header = job.members[0].header
        if job.bundle or job.kind == PREVIEW or job.sample is not None:
            # The worker reads what it wants of the files; the slice only carries the size.
            yield Slice(index=0, start=job.start, length=job.size, ends_step=True, first=True, last=True), ""
            return None
        if job.whole:
            yield slicing.whole(job.source, header), ""
            return None
        if job.guess:
            yield from ((slice_, "") for slice_ in slicing.guessed(job.source, header, slice_bytes=job.slice_bytes))
            return None
        sliced = yield from slicing.slices(
            job.source,
            header,
            start=job.start,
            slice_bytes=job.slice_bytes,
            commit_bytes=job.commit_bytes,
            exact=job.exact,
            after_broken=job.after_broken,
            expect_prefix=job.expect_prefix,
            spool=Path(self._folder),
            prefix=f"j{job.job_id}-",
            hashed=job.kind == STAGE,
            first_record=job.first_record if job.numbered else None,
        )
        return sliced.sha256

    def _acquire(self, job: Job, turn: int, slice_: Slice) -> bool:
        """Wait for room for a slice. Returns False if the job was cancelled meanwhile."""
        cost = permit_cost(job, slice_)
        while (seen := self._permits.take(turn, cost)) is not None:
            if job.job_id in self._cancelled:
                if slice_.spooled is not None:
                    spool.remove(slice_.spooled)
                return False
            if self._permits.is_first(turn):
                self._starving(self._made, cost)
            self._permits.wait(seen)
        if slice_.ends_step:
            self._permits.want(turn, _step(job))
        return True


def _is_decoded(job: Job) -> bool:
    """Whether slicing a job means to decode it here."""
    read_by_worker = job.bundle or job.kind == PREVIEW or job.sample is not None
    return not read_by_worker and not job.source.seekable(job.encoding)


def _step(job: Job) -> int:
    """Spool bytes that a job takes, as far as is known, before a commit gives some back."""
    if job.kind != STAGE:
        return 0
    size = job.size * (UNPACKS_TO if job.source.packed else 1)
    return size if job.commit_bytes is None else min(size, job.commit_bytes)


class _Permits:
    """A count of bytes that can be taken and given back, by files in turns: what the first of them wants is kept."""

    def __init__(self) -> None:
        self._free = 0
        self._gifts = 0
        self._wants: dict[int, int] = {}
        self._first_waits = False  # what comes now, lent or given back, is for the first file
        self._changed = threading.Condition()

    def join(self, turn: int, want: int) -> None:
        """A file begins to take; it wants so many bytes before others."""
        with self._changed:
            self._wants[turn] = want

    def want(self, turn: int, bytes_: int) -> None:
        """A file begins a step."""
        with self._changed:
            self._wants[turn] = bytes_

    def leave(self, turn: int) -> None:
        """A file takes no more: the next one is the first."""
        with self._changed:
            if turn == min(self._wants):
                self._first_waits = False
            del self._wants[turn]
            self._wake()

    def is_first(self, turn: int) -> bool:
        """Whether no earlier file is still taking."""
        with self._changed:
            return turn == min(self._wants)

    def give(self, amount: int) -> None:
        """So many are free again."""
        with self._changed:
            self._free += amount
            self._wake()

    def _wake(self) -> None:
        self._gifts += 1
        self._changed.notify_all()

    def take(self, turn: int, amount: int) -> int | None:
        """Take so many, and return None; or, where there are too few, the number of changes so far."""
        with self._changed:
            first = min(self._wants)
            kept = 0 if turn == first else self._wants[first]
            if amount and (self._free - kept < amount or (self._first_waits and turn != first)):
                self._first_waits = self._first_waits or turn == first
                return self._gifts
            self._first_waits = self._first_waits and turn != first
            self._free -= amount
            self._wants[turn] = max(0, self._wants[turn] - amount)
            return None

    def wait(self, seen: int) -> None:
        """Wait for a change after the first `seen`. Main's end is noticed elsewhere, by the end of this process."""
        with self._changed:
            while self._gifts == seen:
                self._changed.wait()
