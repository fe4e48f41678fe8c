"""How far a run is, counted from what is committed, and told now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ingest.reports import Progress
from ingest.work import Work


class Tally:
    """Adds up what was done of the files that it was given, and tells it at most every `every` seconds."""

    def __init__(self, on_progress: Callable[[Progress], None], every: float, phase: str) -> None:
        self._on_progress = on_progress
        self._phase = phase
        self._every = every
        self._files = self._files_done = self._bytes = self._bytes_done = self._rows = self._rejected = 0
        self._began = time.monotonic()
        self._told = 0.0

    def expect(self, work: Work) -> None:
        """A file that is to be loaded."""
        self._files += 1
        self._bytes += work.bytes_left

    def add(self, *, files: int = 0, bytes_: int = 0, rows: int = 0, rejected: int = 0) -> None:
        """What was done: files that have come to their end, bytes on disk, rows and rejects that are committed."""
        self._files_done += files
        self._bytes_done += bytes_
        self._rows += rows
        self._rejected += rejected

    def tell(self, *, last: bool = False) -> None:
        """Tell it, if it is time to, or the last time."""
        now = time.monotonic()
        if now - self._told < self._every and not last:
            return
        self._told = now
        with contextlib.suppress(BrokenPipeError):
            self._on_progress(
                Progress(
                    phase=self._phase,
                    files_done=self._files_done,
                    files_total=self._files,
                    bytes_done=min(self._bytes_done, self._bytes),
                    bytes_total=self._bytes,
                    rows=self._rows,
                    rejected=self._rejected,
                    seconds=now - self._began,
                )
            )
