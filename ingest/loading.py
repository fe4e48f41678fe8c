"""From staged slices to committed files: the loop of the main process while a run loads.

Results come in any order; each file is put together again in its own, in steps that the writer commits whole.
Everything it reports is committed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ingest import manifest, spool
from ingest.bundles import BUNDLE_FILES, bundles
from ingest.crew import Crew, Lost, discard, renumbered
from ingest.errors import LedgerError
from ingest.jobs import STAGE, Failure, Job, JobSliced, Layout, Member, MemberCount, Result
from ingest.model import Codec, FileOutcome, FileState, Progress, Reason, StopRequest, TableShape
from ingest.rows import FileRow, Move
from ingest.settings import REJECTS_SHOWN, Settings
from ingest.targets.base import BatchRef
from ingest.work import Work
from ingest.writer import Apply, Done, Failed, Finish, RejectsRef, Settle
from ingest.writing import Order, Writing

log = logging.getLogger("ingest")

WHOLE = 1.5
"""A file of up to so many slices is read as one: no border has to be proven, and no byte is read twice."""
TICK = 0.2
"""Seconds between two looks at the clock, for progress, time-outs and a stop."""


@dataclass(slots=True)
class _Step:
    """What one transaction will hold of a file."""

    batches: list[BatchRef] = field(default_factory=list)
    rejects: list[RejectsRef] = field(default_factory=list)
    records: int = 0
    rows: int = 0
    rejected: int = 0
    discarded: int = 0
    held: int = 0
    end: int = 0
    prefix: str | None = None
    sha256: str | None = None


@dataclass(slots=True, kw_only=True)
class Load:
    """One file, or one bundle, on its way."""

    works: list[Work]
    rows: list[FileRow]
    layout: Layout
    shape: TableShape
    job: Job
    version: int = 0
    committed: int = 0  #: what the ledger says when all queued orders are done
    reset: bool = False  #: its old rows are still to be deleted
    position: int = 0  #: end of the last step that was put together
    prefix: str | None = None  #: hash of the decoded bytes up to there
    broken: bool = False  #: a broken quote came before what is read next
    broken_at: bool = False  #: and before `position`
    results: dict[int, Result] = field(default_factory=dict)
    next: int = 0
    sliced: JobSliced | None = None
    step: _Step = field(default_factory=_Step)
    lines: int = 0
    records: int = 0  #: of the whole file so far
    records_at: int = 0  #: of the whole file, up to `position`
    rejected: int = 0  #: of the whole file so far
    rejected_at: int = 0
    rejects: list[RejectsRef] = field(default_factory=list)  #: all of this attempt, for a refusal
    rejects_at: int = 0  #: how many of them are of records before `position`
    texts: int = 0
    doom: Failure | None = None
    ended: bool = False
    members: tuple[MemberCount, ...] = ()  #: of a bundle
    read: int = 0  #: records read in this run
    inserted: int = 0  #: rows committed in this run
    discarded: int = 0

    @property
    def single(self) -> bool:
        return len(self.works) == 1

    @property
    def name(self) -> str:
        first = self.works[0].source.display
        return first if self.single else f"{first} and {len(self.works) - 1} more"


class Loading:
    """Loads what `add` was given; `run` returns when all of it has ended, or a stop was asked for."""

    def __init__(
        self,
        *,
        crew: Crew,
        writing: Writing,
        settings: Settings,
        stop: StopRequest,
        on_outcome: Callable[[FileOutcome], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._crew = crew
        self._writing = writing
        self._settings = settings
        self._stop = stop
        self._on_outcome = on_outcome
        self._on_progress = on_progress
        self._loads: dict[int, Load] = {}  # by job
        self._orders: dict[int, tuple[Load | None, _Step]] = {}
        self._empty: dict[int, list[Work]] = {}
        self._unfinished: dict[int, Load] = {}  # by id(): every load that has no outcome yet
        self._jobs = 0
        self._run_rejected = 0
        self._files_done = self._files_total = self._bytes_done = self._bytes_total = 0
        self._rows = self._rejected = 0
        self._began = time.monotonic()
        self._told = 0.0
        crew.resubmit = self._resubmit
        crew.split = self._split_job

    # what to load ------------------------------------------------------------------------------------------

    def add_empty(self, works: Sequence[Work], rows: dict[str, FileRow], shapes: dict[str, TableShape]) -> None:
        """Files without a record: nothing to read, but the ledger has to know them."""
        for work in works:
            self._count(work)
        plain = [work for work in works if not work.reset]
        groups = [plain[i : i + BUNDLE_FILES] for i in range(0, len(plain), BUNDLE_FILES)]
        for group in [*groups, *([work] for work in works if work.reset)]:
            moves = tuple(_empty_move(work, rows[work.path_key]) for work in group)
            number = self._writing.number()
            self._orders[number] = (None, _Step())
            self._empty[number] = list(group)
            self._writing.order(
                Apply(
                    order=number,
                    shape=shapes.get(str(group[0].table)) if group[0].reset else None,
                    batches=(),
                    moves=moves,
                    table_name=str(group[0].table),
                    reset=group[0].reset,
                    stale=tuple(m.file_id for m, w in zip(moves, group, strict=True) if w.row is not None),
                )
            )

    def add(self, works: Sequence[Work], rows: dict[str, FileRow], layout: Layout) -> None:
        """Files of one table with the same header, in the order in which they are to be read."""
        for bundle in bundles(works):
            for work in bundle:
                self._count(work)
            self._submit(self._load(bundle, rows, layout))

    def _submit(self, load: Load) -> None:
        self._crew.submit(load.job, alone=load.works[0].alone)

    def _count(self, work: Work) -> None:
        self._files_total += 1
        self._bytes_total += work.source.size - (work.from_bytes if work.source.codec is Codec.PLAIN else 0)

    def _load(self, works: list[Work], by_key: dict[str, FileRow], layout: Layout) -> Load:
        rows = [by_key[work.path_key] for work in works]
        first, row = works[0], rows[0]
        assert first.header is not None
        assert layout.shape is not None
        start = first.from_bytes or first.header.data_start
        self._jobs += 1
        plain = first.source.codec is Codec.PLAIN
        whole = plain and not first.from_bytes and first.source.size - start <= WHOLE * self._settings.slice_bytes
        lineage = layout.shape.lineage
        budget = self._settings.max_rejects
        job = Job(
            job_id=self._jobs,
            kind=STAGE,
            members=tuple(
                Member(source=work.source, header=work.header, file_id=r.file_id)
                for work, r in zip(works, rows, strict=True)
                if work.header is not None
            ),
            layout=layout,
            start=start,
            slice_bytes=self._settings.slice_bytes,
            commit_bytes=self._settings.commit_bytes if lineage and not first.in_one else None,
            whole=whole,
            after_broken=first.after_broken,
            expect_prefix=row.prefix_sha256 if first.from_bytes else None,
            lineage=lineage,
            reject_limit=max(budget.count, REJECTS_SHOWN) if budget and budget.count is not None else None,
        )
        if budget is None and self._settings.max_rejects_run is None:
            job = renumbered(job, job.job_id, reject_limit=REJECTS_SHOWN)
        load = Load(works=works, rows=rows, layout=layout, shape=layout.shape, job=job)
        load.version, load.committed, load.reset = row.version, row.committed_bytes, first.reset
        load.position, load.prefix, load.broken = start, job.expect_prefix, first.after_broken
        if first.from_bytes:
            load.records = load.records_at = row.committed_records
            load.rejected = load.rejected_at = row.rows_rejected
        self._loads[job.job_id] = load
        self._unfinished[id(load)] = load
        return load

    # the loop ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Load; returns when everything has ended, or as soon as a stop leaves no transaction open.

        Raises LedgerError when the database or the ledger lets nothing more be written.
        """
        while self._unfinished or self._writing.busy:
            if self._stop.count:
                self._wind_up()
                return
            events, ready = self._crew.poll(self._writing.waitables, TICK)
            for event in events:
                if isinstance(event, Lost):
                    self._lost(event)
                else:
                    self._event(*event)
            if ready:
                for order, answer in self._writing.answers():
                    self._answer(order, answer)
            if not self._writing.busy:
                self._crew.relieve()
            self._progress()
        self._progress(last=True)

    def _wind_up(self) -> None:
        """A stop: no more reading; the open transaction is finished, unless the stop is asked for again."""
        self._crew.close()
        self._writing.withdraw(lambda order: not isinstance(order, Finish))
        while self._writing.under_way and self._stop.count < 2:
            self._crew.poll(self._writing.waitables, TICK)
            for order, answer in self._writing.answers():
                self._answer(order, answer)
            self._writing.withdraw(lambda order: not isinstance(order, Finish))
        if self._writing.under_way:
            self._writing.close(kill=True)

    @property
    def unfinished(self) -> Iterable[Work]:
        """Files that a stop left without an outcome."""
        empty = [work for works in self._empty.values() for work in works]
        return [work for load in self._unfinished.values() for work in load.works] + empty

    def _event(self, job: Job, message: Result | JobSliced) -> None:
        load = self._loads.get(job.job_id)
        if load is None or load.ended:
            if isinstance(message, Result):
                self._drop(message)
            return
        if isinstance(message, JobSliced):
            load.sliced = message
            if message.failure is not None:
                self._fail(load, message.failure)
                return
        elif message.split:
            self._drop(message)
            self._apart(load)
            return
        elif message.failure is not None:
            self._log(message)
            self._drop(message)
            self._fail(load, message.failure)
            return
        else:
            self._log(message)
            load.results[message.slice.index] = message
        self._advance(load)

    def _advance(self, load: Load) -> None:
        """Take the results that are next in the file's own order."""
        while (result := load.results.pop(load.next, None)) is not None:
            if result.unproven:
                self._exact(load, result)
                return
            load.next += 1
            self._take(load, result)
            if load.ended:
                return
        if load.sliced is not None and load.next == load.sliced.slices:
            self._all_in(load)

    def _take(self, load: Load, result: Result) -> None:
        step = load.step
        if result.slice.index == 0:
            load.lines = result.base_lines
        if result.rejects_path is not None:
            ref = RejectsRef(path=result.rejects_path, first_line=load.lines, first_record=load.records)
            step.rejects.append(ref)
            load.rejects.append(ref)
            load.texts += result.rejected
        load.lines += result.lines
        load.records += result.records
        load.read += result.records
        load.rejected += result.rejected
        load.broken = load.broken or result.broken
        step.records += result.records
        step.rows += result.rows
        step.rejected += result.rejected
        step.discarded += result.discarded
        step.held += result.slice.length
        if result.staged is not None:
            step.batches.append(BatchRef(staged=result.staged, rows=result.rows))
        step.end = result.slice.start + result.slice.length
        step.prefix = result.prefix_sha256 or None
        if len(result.members) == 1 and result.members[0].sha256:
            step.sha256 = step.prefix = result.members[0].sha256
        if load.doom is None and (why := self._over_budget(load, at_end=False)) is not None:
            load.doom = why
        if load.doom is not None:
            self._drop_step(load)
            if load.texts >= REJECTS_SHOWN:
                self._settle(load)
        elif result.slice.ends_step and not result.slice.last:
            self._commit(load, done=False)
        load.members = result.members

    def _all_in(self, load: Load) -> None:
        """All of a file has been read."""
        self._crew.finished(load.job)
        if load.doom is None:
            load.doom = self._over_budget(load, at_end=True)
        if load.doom is None and not all(manifest.same_file(work.source) for work in load.works):
            if not load.single:
                self._apart(load)
                return
            load.doom = Failure(
                code=Reason.CHANGED_WHILE_READ,
                message="it was changed while it was read.",
                hint="Run the same command again when it is complete; --min-age SECONDS waits for that.",
            )
        if load.doom is not None:
            self._settle(load)
            return
        self._run_rejected += load.rejected
        if load.sliced is not None and load.sliced.sha256:
            load.step.sha256 = load.sliced.sha256
        self._commit(load, done=True)

    def _over_budget(self, load: Load, *, at_end: bool) -> Failure | None:
        budget, run = self._settings.max_rejects, self._settings.max_rejects_run
        found = load.rejected
        if not found:
            return None
        allowed: float | None = None
        if budget is None:
            allowed = 0 if run is None else None
        elif budget.count is not None:
            allowed = budget.count
        elif at_end and budget.percent is not None:
            allowed = budget.percent * load.records / 100
        if allowed is not None and found > allowed:
            more = "" if at_end else " or more"
            said = f"{budget.percent:g}% of {load.records}" if budget and budget.percent is not None else f"{allowed:g}"
            return Failure(
                code=Reason.OVER_BUDGET,
                message=f"records that cannot be loaded: {found}{more}, where {said} may be. "
                "Nothing of the file was loaded.",
                hint=f"See them with: ingest rejects list {load.works[0].source.display} "
                "(or allow some: --max-rejects N)",
            )
        if run is not None and self._run_rejected + found > run:
            return Failure(
                code=Reason.OVER_BUDGET,
                message=f"{found} records cannot be loaded; with {self._run_rejected} of other files that is more than "
                f"--max-rejects-run {run}. Nothing of the file was loaded.",
                hint=f"See them with: ingest rejects list {load.works[0].source.display}",
            )
        return None

    # orders ------------------------------------------------------------------------------------------------

    def _commit(self, load: Load, *, done: bool) -> None:
        step, load.step = load.step, _Step()
        moves = self._bundle_moves(load) if not load.single else (self._move(load, step, done=done),)
        number = self._writing.number()
        self._orders[number] = (load, step)
        order = Apply(
            order=number,
            shape=load.shape if step.batches or load.reset else None,
            batches=tuple(step.batches),
            moves=moves,
            table_name=str(load.works[0].table),
            reset=load.reset,
            rejects=tuple(step.rejects),
            stale=tuple(
                row.file_id
                for work, row in zip(load.works, load.rows, strict=True)
                if work.row is not None and load.committed == 0
            )
            or ((load.rows[0].file_id,) if load.reset else ()),
        )
        load.reset = False
        load.version += 1
        load.committed = load.position = step.end
        load.prefix = step.prefix
        load.records_at, load.rejected_at = load.records, load.rejected
        load.rejects_at, load.broken_at = len(load.rejects), load.broken
        load.ended = done
        self._writing.order(order)

    def _move(self, load: Load, step: _Step, *, done: bool) -> Move:
        row = load.rows[0]
        end = step.end or load.position
        return Move(
            file_id=row.file_id,
            version=load.version,
            epoch=row.epoch,
            from_bytes=load.committed,
            to_bytes=max(end, load.committed) if not load.reset else end,
            records=step.records,
            rows=step.rows,
            rejected=step.rejected,
            discarded=step.discarded,
            prefix_sha256=step.prefix or load.prefix,
            sha256=step.sha256 if done else None,
            done=done,
            reset=load.reset,
        )

    def _bundle_moves(self, load: Load) -> tuple[Move, ...]:
        return tuple(
            Move(
                file_id=row.file_id,
                version=row.version,
                epoch=row.epoch,
                from_bytes=0,
                to_bytes=work.source.size,
                records=member.records,
                rows=member.rows,
                rejected=0,
                discarded=member.records - member.rows,
                prefix_sha256=member.sha256,
                sha256=member.sha256,
                done=True,
            )
            for work, row, member in zip(load.works, load.rows, load.members, strict=True)
        )

    def _answer(self, order: Order, answer: Done | Failed) -> None:
        load, step = self._orders.pop(order.order, (None, _Step()))
        if isinstance(answer, Failed) and answer.fatal:
            log.debug("order %d failed\n%s", order.order, answer.failure.trace)
            raise LedgerError(answer.failure.message, hint=answer.failure.hint)
        if isinstance(order, Apply):
            for path in {batch.staged.path for batch in step.batches}:
                if isinstance(answer, Done):
                    spool.remove(path)
            self._crew.give(step.held)
            if load is None:
                self._empty_done(order, answer)
            elif isinstance(answer, Done):
                self._committed(load, order, step)
            elif load.single:
                load.doom = answer.failure
                load.ended = False
                self._settle(load)
            else:
                self._apart(load)
        elif isinstance(order, Settle) and load is not None:
            self._settled(load, answer)

    def _committed(self, load: Load, order: Apply, step: _Step) -> None:
        load.inserted += sum(move.rows for move in order.moves)
        load.discarded += sum(move.discarded for move in order.moves)
        self._rows += sum(move.rows for move in order.moves)
        self._rejected += step.rejected
        self._bytes_done += _bytes_on_disk(load, order)
        if not order.moves[0].done:
            return
        self._finished(load)
        for work, move, row in zip(load.works, order.moves, load.rows, strict=True):
            self._on_outcome(
                FileOutcome(
                    path=work.source.path,
                    display=work.source.display,
                    table=str(work.table),
                    action=work.action,
                    state="loaded",
                    code=work.code,
                    sentence=work.sentence,
                    file_id=row.file_id,
                    bytes=work.source.size,
                    records=load.read if load.single else move.records,
                    rows=load.inserted if load.single else move.rows,
                    rejected=load.rejected if load.single else 0,
                    discarded=load.discarded if load.single else move.discarded,
                )
            )

    def _empty_done(self, order: Apply, answer: Done | Failed) -> None:
        works = self._empty.pop(order.order, [])
        if isinstance(answer, Failed):
            raise LedgerError(answer.failure.message, hint=answer.failure.hint)
        for work, move in zip(works, order.moves, strict=True):
            self._files_done += 1
            self._bytes_done += work.source.size
            self._on_outcome(
                FileOutcome(
                    path=work.source.path,
                    display=work.source.display,
                    table=str(work.table),
                    action=work.action,
                    state="loaded",
                    code=work.code,
                    sentence=work.sentence,
                    file_id=move.file_id,
                    bytes=work.source.size,
                )
            )

    def _finished(self, load: Load) -> None:
        load.ended = True
        self._loads.pop(load.job.job_id, None)
        self._unfinished.pop(id(load), None)
        self._files_done += len(load.works)
        for ref in load.rejects:  # not before: a refusal tells those of committed steps again
            spool.remove(ref.path)

    # refusals ----------------------------------------------------------------------------------------------

    def _fail(self, load: Load, failure: Failure, deaths: int | None = None) -> None:
        """This file cannot be loaded; a bundle is taken apart to find out which."""
        if failure.trace:
            log.debug("%s: %s\n%s", load.name, failure.message, failure.trace)
        if not load.single:
            self._apart(load)
            return
        load.doom = failure
        self._settle(load, deaths)

    def _settle(self, load: Load, deaths: int | None = None) -> None:
        """Refuse a file: its queued steps are taken back, its committed ones are undone by the writer."""
        assert load.doom is not None
        if load.ended:
            return
        load.ended = True
        self._crew.cancel(load.job)
        self._drop_results(load)
        self._drop_step(load)
        taken = self._writing.withdraw(
            lambda order: isinstance(order, Apply) and self._orders.get(order.order, (None,))[0] is load
        )
        for order in taken:
            _, step = self._orders.pop(order.order)
            self._crew.give(step.held)
            for path in {batch.staged.path for batch in step.batches}:
                spool.remove(path)
        work, row = load.works[0], load.rows[0]
        number = self._writing.number()
        self._orders[number] = (load, _Step())
        self._writing.order(
            Settle(
                order=number,
                file_id=row.file_id,
                table_name=str(work.table),
                shape=load.shape,
                state=state_of(load.doom.code),
                code=load.doom.code,
                error=load.doom.message,
                rejects=tuple(load.rejects),
                deaths=deaths,
                before=work.row if work.in_one else None,
                version=row.version,
            )
        )

    def _settled(self, load: Load, answer: Done | Failed) -> None:
        assert load.doom is not None
        if isinstance(answer, Failed):
            raise LedgerError(answer.failure.message, hint=answer.failure.hint)
        self._finished(load)
        work = load.works[0]
        self._bytes_done += work.source.size
        self._on_outcome(
            FileOutcome(
                path=work.source.path,
                display=work.source.display,
                table=str(work.table),
                action=work.action,
                state=state_of(load.doom.code).value,
                code=load.doom.code,
                sentence=load.doom.message,
                hint=load.doom.hint,
                file_id=load.rows[0].file_id,
                bytes=work.source.size,
                records=load.read,
                rejected=load.rejected,
            )
        )

    def _lost(self, lost: Lost) -> None:
        load = self._loads.get(lost.job.job_id)
        if load is not None and not load.ended:
            self._fail(load, lost.failure, lost.deaths)

    # starting over -----------------------------------------------------------------------------------------

    def _apart(self, load: Load) -> None:
        """A bundle with something in it: its files one by one."""
        for job in self._parts(load):
            self._crew.submit(job)

    def _parts(self, load: Load) -> list[Job]:
        self._crew.cancel(load.job)
        self._drop_results(load)
        self._drop_step(load)
        load.ended = True
        self._loads.pop(load.job.job_id, None)
        self._unfinished.pop(id(load), None)
        return [
            self._load([work], {work.path_key: row}, load.layout).job
            for work, row in zip(load.works, load.rows, strict=True)
        ]

    def _split_job(self, job: Job) -> list[Job]:
        load = self._loads.get(job.job_id)
        return self._parts(load) if load is not None else []

    def _resubmit(self, job: Job) -> Job | None:
        """The host died: go on from the last step that was put together."""
        load = self._loads.get(job.job_id)
        if load is None or load.ended:
            return None
        if load.doom is not None:
            self._settle(load)
            return None
        return self._again(load)

    def _exact(self, load: Load, result: Result) -> None:
        """A border was not proven: read on by the parser's own rules, from the last one that was."""
        self._drop(result)
        self._crew.cancel(load.job)
        log.info("%s: quotes are not by the book; reading it by the exact rules", load.name)
        self._crew.submit(self._again(load, exact=True))

    def _again(self, load: Load, *, exact: bool = False) -> Job:
        self._drop_results(load)
        self._drop_step(load)
        load.read -= load.records - load.records_at
        load.records, load.rejected = load.records_at, load.rejected_at
        del load.rejects[load.rejects_at :]
        load.texts = min(load.texts, load.rejected)
        load.broken = load.broken_at
        load.next, load.sliced = 0, None
        self._loads.pop(load.job.job_id, None)
        self._jobs += 1
        header = load.job.members[0].header
        load.job = renumbered(
            load.job,
            self._jobs,
            start=load.position,
            whole=load.job.whole and not exact,
            exact=load.job.exact or exact,
            after_broken=load.broken,
            expect_prefix=load.prefix if load.position > header.data_start else None,
        )
        self._loads[load.job.job_id] = load
        return load.job

    # the spool ---------------------------------------------------------------------------------------------

    def _drop(self, result: Result) -> None:
        self._crew.give(result.slice.length)
        discard(result)

    def _drop_results(self, load: Load) -> None:
        for result in load.results.values():
            self._drop(result)
        load.results.clear()

    def _drop_step(self, load: Load) -> None:
        """Forget what was put together of the step; the rejects' texts stay for a refusal."""
        step, load.step = load.step, _Step()
        self._crew.give(step.held)
        for path in {batch.staged.path for batch in step.batches}:
            spool.remove(path)

    # telling -----------------------------------------------------------------------------------------------

    def _log(self, result: Result) -> None:
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

    def _progress(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if now - self._told < TICK and not last:
            return
        self._told = now
        with contextlib.suppress(BrokenPipeError):
            self._on_progress(
                Progress(
                    phase="load",
                    files_done=self._files_done,
                    files_total=self._files_total,
                    bytes_done=min(self._bytes_done, self._bytes_total),
                    bytes_total=self._bytes_total,
                    rows=self._rows,
                    rejected=self._rejected,
                    seconds=now - self._began,
                )
            )


def _empty_move(work: Work, row: FileRow) -> Move:
    return Move(
        file_id=row.file_id,
        version=row.version,
        epoch=row.epoch,
        from_bytes=row.committed_bytes,
        to_bytes=work.source.size,
        records=0,
        rows=0,
        rejected=0,
        discarded=0,
        prefix_sha256=work.sha256,
        sha256=work.sha256,
        done=True,
        reset=work.reset,
    )


def _bytes_on_disk(load: Load, order: Apply) -> int:
    """How much of the files on disk an order has dealt with: for a compressed file, all of it at its end."""
    if not load.single:
        return sum(work.source.size for work in load.works)
    move, source = order.moves[0], load.works[0].source
    if source.codec is not Codec.PLAIN:
        return source.size if move.done else 0
    return move.to_bytes - (0 if move.reset else move.from_bytes)


def state_of(code: Reason) -> FileState:
    """REFUSED is about the file's content; FAILED about what happened to it."""
    failed = (
        Reason.QUARANTINED,
        Reason.TIMEOUT,
        Reason.SPOOL,
        Reason.INTERNAL,
        Reason.UNREADABLE,
        Reason.DATABASE,
        Reason.TRANSFORM,
    )
    return FileState.FAILED if code in failed else FileState.REFUSED
