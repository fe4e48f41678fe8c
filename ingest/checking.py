"""A load without a writer: every order is done at once, and nothing of it is kept but the rejects.

Files are cut, read, typed and judged by `loading` as ever, so what it says of each is what a load would say; only what
the database itself would find when it is given the rows is not known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ingest.applying import read_rejects
from ingest.model import FileState, Reason, Reject
from ingest.orders import Answer, Apply, Done, Order, RejectsRef, Settle
from ingest.reports import FileCheck, FileOutcome
from ingest.rows import FileRow
from ingest.settings import REJECTS_SHOWN
from ingest.work import Work

NOTHING_LOADED = re.compile(r" Nothing of (it|what was added to it) was loaded\.$")
"""What a load says of a refusal, and what goes without saying where nothing is loaded at all."""


class Rehearsal:
    """In the place of `writing.Writing`."""

    dry = True
    delayed = False

    def __init__(self) -> None:
        self._numbers = 0
        self._waiting: list[Order] = []
        self._rejects: dict[int, list[Reject]] = {}  # by file_id, the first of each file
        # Something to wait on that is always there to be read, for answers are never waited for.
        self._ready, write = os.pipe()
        os.write(write, b".")
        os.close(write)

    @property
    def waitables(self) -> list[Any]:
        return [self._ready] if self._waiting else []

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    under_way = busy

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def order(self, order: Order, *, first: bool = False) -> None:
        """Keep the rejects of an order, and have it done."""
        if isinstance(order, Apply) and order.rejects:
            self._keep(order.moves[0].file_id, order.rejects)
        elif isinstance(order, Settle):
            self._rejects.pop(order.file_id, None)  # those of its committed steps are told again
            self._keep(order.file_id, order.rejects)
        self._waiting.insert(0 if first else len(self._waiting), order)

    def ahead(self, order: Apply) -> None:
        """Nothing is written, so there is nothing to get ready."""

    def forget(self, order: int) -> None:
        """Nothing was got ready."""

    def withdraw(self, wanted: Callable[[Order], bool]) -> list[Order]:
        taken = [order for order in self._waiting if wanted(order)]
        self._waiting = [order for order in self._waiting if not wanted(order)]
        return taken

    def answers(self) -> Iterator[tuple[Order, Answer]]:
        while self._waiting:
            order = self._waiting.pop(0)
            yield order, Done(order=order.order, seconds=0.0)

    def close(self, *, kill: bool = False) -> None:
        del kill
        os.close(self._ready)

    def _keep(self, file_id: int, refs: tuple[RejectsRef, ...]) -> None:
        kept = self._rejects.setdefault(file_id, [])
        for ref in refs:
            for reject in read_rejects(ref):
                if len(kept) == REJECTS_SHOWN:
                    return
                kept.append(reject)

    def checked(self, outcome: FileOutcome) -> FileCheck:
        """A file's end with its rejects, in the words for one that nobody loaded."""
        rejects = self._rejects.get(outcome.file_id, []) if outcome.file_id is not None else []
        return FileCheck(
            path=outcome.path,
            display=outcome.display,
            table=outcome.table,
            action=outcome.action,
            state=outcome.state,
            code=outcome.code,
            sentence=NOTHING_LOADED.sub("", outcome.sentence),
            hint="" if outcome.code is Reason.OVER_BUDGET else outcome.hint,  # it names a command for the ledger
            bytes=outcome.bytes,
            records=outcome.records,
            rows=outcome.rows,
            rejected=outcome.rejected,
            discarded=outcome.discarded,
            fitted=outcome.fitted,
            rejects=tuple(rejects),
        )


def rows(works: list[Work]) -> dict[str, FileRow]:
    """What the ledger would have of each file when its loading began, by `path_key`."""
    return {work.path_key: _row(work, number) for number, work in enumerate(works, start=1)}


def _row(work: Work, number: int) -> FileRow:
    known = work.row if work.from_bytes else None
    source = work.source
    return FileRow(
        file_id=number,
        table_name=work.home,
        path=source.path,
        path_key=work.path_key,
        size=source.size,
        mtime_ns=source.mtime_ns,
        ctime_ns=source.ctime_ns,
        scanned_ns=source.scanned_ns,
        sha256=work.sha256,
        state=FileState.STARTED,
        committed_bytes=work.from_bytes,
        committed_records=known.committed_records if known else 0,
        prefix_sha256=known.prefix_sha256 if known else None,
        rows_loaded=known.rows_loaded if known else 0,
        rows_rejected=known.rows_rejected if known else 0,
        rows_discarded=known.rows_discarded if known else 0,
        discards=known.discards if known else {},
        lineage=False,
        header=None,
        epoch=0,
        version=0,
        attempts=1,
        deaths=0,
        run_id=0,
        started_at=datetime.min,
        loaded_at=None,
        error_code=None,
        error=None,
        mode="",
        rows_superseded=0,
        rows_ignored=0,
    )
