"""From staged slices to committed files: the loop of the main process while a run loads.

Results come in any order; each file is put together again in its own, in steps that the writer commits whole.
Everything it reports is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ingest import manifest, spool, units
from ingest.bundles import BUNDLE_FILES, bundles
from ingest.checking import Rehearsal
from ingest.crew import Crew, Lost, discard, log_result, renumbered
from ingest.discards import together
from ingest.jobs import STAGE, Failure, Job, JobSliced, Layout, Member, Result
from ingest.model import Discard, Reason, TableShape
from ingest.orders import Answer, Apply, Constrained, Done, Failed, Finish, Order, RejectsRef, Settle
from ingest.reports import FileOutcome, Progress, StopRequest
from ingest.rows import FileRow
from ingest.settings import REJECTS_SHOWN, Settings
from ingest.tally import Tally
from ingest.targets.base import BatchRef
from ingest.turns import Turns, held_back
from ingest.units import Load, Step, bytes_on_disk, empty_move, loaded, state_of, whole_at_once
from ingest.work import Work
from ingest.writing import Writing

log = logging.getLogger("ingest")

TICK = 0.2
"""Seconds between two looks at the clock, for progress, time-outs and a stop."""

_MISNUMBERED = Failure(
    code=Reason.COUNTS,
    message="the records before a slice were counted twice, with two results.",
    hint="Nothing of it was loaded. This is an error of this program: please report it.",
)


class Loading:
    """Loads what `add` was given; `run` returns when all of it has ended, or a stop was asked for."""

    def __init__(
        self,
        *,
        crew: Crew,
        writing: Writing | Rehearsal,
        settings: Settings,
        stop: StopRequest,
        on_outcome: Callable[[FileOutcome], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._crew = crew
        self._writing = writing
        self._dry = writing.dry
        self._settings = settings
        self._stop = stop
        self._on_outcome = on_outcome
        self._tally = Tally(on_progress, TICK, "check" if writing.dry else "load")
        self._turns = Turns(writing)
        self._loads: dict[int, Load] = {}  # by job
        self._orders: dict[int, tuple[Load | None, Step]] = {}
        self._empty: dict[int, list[Work]] = {}
        self._unfinished: dict[int, Load] = {}  # by id(): every load that has no outcome yet
        self._jobs = 0
        self._run_rejected = 0
        crew.resubmit = self._resubmit
        crew.split = self._split_job

    # what to load ------------------------------------------------------------------------------------------

    def add_empty(self, works: Sequence[Work], rows: dict[str, FileRow], shapes: dict[str, TableShape]) -> None:
        """Files without a record: nothing to read, but the ledger has to know them."""
        for work in works:
            self._tally.expect(work)
        plain = [work for work in works if not work.reset]
        groups = [plain[i : i + BUNDLE_FILES] for i in range(0, len(plain), BUNDLE_FILES)]
        for group in [*groups, *([work] for work in works if work.reset)]:
            moves = tuple(empty_move(work, rows[work.path_key]) for work in group)
            number = self._writing.number()
            self._orders[number] = (None, Step())
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
                self._tally.expect(work)
            load = self._load(bundle, rows, layout)
            self._turns.join(load)
            self._crew.submit(load.job, alone=load.works[0].alone)

    def _load(self, works: list[Work], by_key: dict[str, FileRow], layout: Layout) -> Load:
        rows = [by_key[work.path_key] for work in works]
        first, row = works[0], rows[0]
        assert first.header is not None
        assert layout.shape is not None
        start = first.from_bytes or first.header.data_start
        self._jobs += 1
        whole = not first.from_bytes and whole_at_once(first, start, self._settings)
        lineage = layout.shape.lineage
        in_one = layout.merge is not None or first.in_one or not lineage
        budget = self._settings.max_rejects
        # What stands before the data is counted with the records, but has none of their numbers.
        unnumbered = row.discards.get(Discard.PREAMBLE, 0)
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
            # What is not written needs no one transaction, and no room to wait for it.
            commit_bytes=None if in_one and not self._dry else self._settings.commit_bytes,
            whole=whole,
            after_broken=first.after_broken,
            expect_prefix=row.prefix_sha256 if first.from_bytes else None,
            lineage=lineage,
            dry=self._dry,
            numbered=layout.shape.numbered,
            first_record=row.committed_records - unnumbered if first.from_bytes else 0,
            reject_limit=max(budget.count, REJECTS_SHOWN) if budget and budget.count is not None else None,
        )
        if budget is None and self._settings.max_rejects_run is None:
            job = renumbered(job, job.job_id, reject_limit=REJECTS_SHOWN)
        load = Load(works=works, rows=rows, layout=layout, shape=layout.shape, job=job)
        load.version, load.committed, load.reset = row.version, row.committed_bytes, first.reset
        load.position, load.prefix = start, job.expect_prefix
        load.broken = load.broken_at = first.after_broken
        if first.from_bytes:
            load.known_discards = row.discards
            load.records = load.records_at = row.committed_records - unnumbered
            load.rejected = load.rejected_at = row.rows_rejected
            load.kept = row.rows_rejected if first.tail else 0
        self._loads[job.job_id] = load
        self._unfinished[id(load)] = load
        return load

    # the loop ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Load; returns when everything has ended, or as soon as a stop leaves no transaction open.

        Raises LedgerError when the database or the ledger lets nothing more be written, and DatabaseUnreachable when
        the server has gone and does not come back.
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
            self._tally.tell()
        self._tally.tell(last=True)

    def _wind_up(self) -> None:
        """A stop: no more reading; the open transaction is finished, unless the stop is asked for again.

        One that waits for its server is not: nobody knows for how long. If it was committed, the next run finds that.
        """
        self._crew.close()
        self._writing.withdraw(lambda order: not isinstance(order, Finish))
        while self._writing.under_way and not self._writing.delayed and self._stop.count < 2:
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
            log_result(message)
            self._drop(message)
            self._fail(load, message.failure)
            return
        else:
            log_result(message)
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
        if load.job.numbered and load.single and result.slice.first_record != load.records:
            self._drop(result)
            self._fail(load, _MISNUMBERED)
            return
        step = load.step
        if result.slice.index == 0:
            load.lines = result.base_lines
        place = load.place(result)
        if result.rejects_path is not None:
            ref = RejectsRef(path=result.rejects_path, first_line=load.lines, first_record=load.records)
            step.rejects.append(ref)
            load.rejects.append(ref)
            load.texts += result.rejected
        if result.undecoded is not None and load.undecoded is None:
            load.undecoded = replace(result.undecoded, line=load.lines + result.undecoded.line)
        load.lines += result.lines
        load.records += result.records
        load.read += result.records
        load.rejected += result.rejected
        load.fitted += result.members[0].fitted
        load.broken = load.broken or result.broken
        load.advice = load.advice or result.advice
        step.records += result.records
        step.rows += result.rows
        step.rejected += result.rejected
        step.discarded += result.discarded
        step.discards = together(step.discards, result.discards)
        step.held += result.slice.length
        if result.staged is not None:
            step.batches.append(BatchRef(staged=result.staged, rows=result.rows, place=place))
        step.end = result.slice.start + result.slice.length
        step.prefix = result.prefix_sha256 or None
        if len(result.members) == 1 and result.members[0].sha256:
            step.sha256 = step.prefix = result.members[0].sha256
        if load.doom is None and result.misfits and self._settings.on_misfit != "reject":
            load.doom = load.misfit(self._settings, sorted(result.misfits))
        if (
            load.doom is None
            and (why := load.over_budget(self._settings, self._run_rejected, at_end=False)) is not None
        ):
            load.doom = why
        if load.doom is not None:
            self._crew.give(step.held)
            step.held = 0
            if result.slice.ends_step:  # not before: workers may be adding to its files
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
            load.doom = load.over_budget(self._settings, self._run_rejected, at_end=True)
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
        self._run_rejected += load.fresh
        load.counted = True
        if load.sliced is not None and load.sliced.sha256:
            load.step.sha256 = load.sliced.sha256
        self._commit(load, done=True)

    # orders ------------------------------------------------------------------------------------------------

    def _commit(self, load: Load, *, done: bool) -> None:
        load.begin_step()
        step, load.step = load.step, Step()
        moves = load.bundle_moves() if not load.single else (load.move(step, done=done),)
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
            stale=load.stale,
            merge=load.layout.merge,
            # One more than may be: it decides.
            reject_limit=None if load.job.reject_limit is None else load.job.reject_limit + 1,
        )
        load.reset = False
        load.version += 1
        load.committed = load.position = step.end
        load.prefix = step.prefix
        load.known_discards = together(load.known_discards, step.discards)
        load.records_at, load.rejected_at = load.records, load.rejected
        load.rejects_at, load.broken_at, load.fitted_at = len(load.rejects), load.broken, load.fitted
        load.ended = done
        self._turns.order(load, order)

    def _answer(self, order: Order, answer: Answer) -> None:
        load, step = self._orders.pop(order.order, (None, Step()))
        if isinstance(answer, Constrained):
            assert isinstance(order, Apply)
            assert load is not None
            self._constrained(load, step, order, answer)
            return
        if isinstance(answer, Failed) and answer.fatal:
            log.debug("order %d failed\n%s", order.order, answer.failure.trace)
            raise answer.error
        if isinstance(order, Apply):
            self._free(step)
            if isinstance(answer, Done) and answer.moves:
                order = replace(order, moves=load.added(answer.moves) if load and answer.landed else answer.moves)
            if load is None:
                self._empty_done(order, answer)
            elif isinstance(answer, Done):
                self._committed(load, order, step)
            else:
                self._refuse(load, answer.failure)
        elif isinstance(order, Settle) and load is not None:
            self._settled(load, answer)
        elif isinstance(order, Settle):
            self._empty_refused(order, answer)

    def _constrained(self, load: Load, step: Step, order: Apply, answer: Constrained) -> None:
        """The table refused rows: they are rejects as others are, and the rest of them is tried again without."""
        if load.settling:
            self._free(step)
            return
        found = len(answer.rows)
        load.more = not answer.complete
        load.rejected += found
        load.rejected_at += found
        load.texts += found
        if answer.rejects is not None:
            load.rejects.insert(load.rejects_at, answer.rejects)
            load.rejects_at += 1
        self._run_rejected += found if load.counted else 0
        own = load.fresh if load.counted else 0
        (move,) = order.moves
        why = load.over_budget(self._settings, self._run_rejected - own, at_end=load.counted)
        if why is not None:
            self._free(step)
            self._refuse(load, why)
            return
        step.rows -= found
        step.rejected += found
        number = self._writing.number()
        self._orders[number] = (load, step)
        again = replace(
            order,
            order=number,
            left_out=(*(order.left_out or ()), *answer.rows),
            moves=(replace(move, rows=move.rows - found, rejected=move.rejected + found),),
            rejects=order.rejects if answer.rejects is None else (*order.rejects, answer.rejects),
        )
        self._writing.order(again, first=True)

    def _committed(self, load: Load, order: Apply, step: Step) -> None:
        load.inserted += sum(move.rows for move in order.moves)
        load.discarded += sum(move.discarded for move in order.moves)
        load.discards = together(load.discards, step.discards)
        rows = sum(move.rows for move in order.moves)
        self._tally.add(bytes_=bytes_on_disk(load, order), rows=rows, rejected=step.rejected)
        if not order.moves[0].done:
            return
        self._finished(load)
        for number, move in enumerate(order.moves):
            self._on_outcome(load.outcome(number, move))

    def _empty_done(self, order: Apply, answer: Done | Failed) -> None:
        works = self._empty.pop(order.order, [])
        if isinstance(answer, Failed):
            for work, move in zip(works, order.moves, strict=True):
                number = self._writing.number()
                self._orders[number], self._empty[number] = (None, Step()), [work]
                self._writing.order(units.empty_settle(number, work, move, order.shape, answer.failure))
            return
        for work, move in zip(works, order.moves, strict=True):
            self._tally.add(files=1, bytes_=work.source.size)
            counts = {"records": move.records, "discarded": move.discarded, "discards": move.discards}
            self._on_outcome(loaded(work, move.file_id, **counts))

    def _empty_refused(self, order: Settle, answer: Answer) -> None:
        for work in self._empty.pop(order.order, []):
            self._tally.add(files=1, bytes_=work.source.size)
            why = Failure(code=Reason(order.code), message=order.error)
            why = units.not_undone(why, answer.failure) if isinstance(answer, Failed) else why
            self._on_outcome(units.refused(work, order.file_id, why))

    def _finished(self, load: Load) -> None:
        self._loads.pop(load.job.job_id, None)
        self._unfinished.pop(id(load), None)
        self._tally.add(files=len(load.works))
        for ref in load.rejects:  # not before: a refusal tells those of committed steps again
            spool.remove(ref.path)
        for other in self._turns.leave(load, stopped=bool(self._stop.count)):
            self._hold_back(other, load.name)

    # refusals ----------------------------------------------------------------------------------------------

    def _hold_back(self, load: Load, name: str) -> None:
        """Refuse what comes behind a file that was not loaded, whether it is read already or not."""
        if order := self._turns.take(load):
            self._free(self._orders.pop(order.order)[1])
        for part in [load] if load.single else self._parts(load):
            part.ended = False
            self._refuse(part, held_back(name))

    def _fail(self, load: Load, failure: Failure, deaths: int | None = None) -> None:
        """This file cannot be loaded; a bundle is taken apart to find out which."""
        if failure.trace:
            log.debug("%s: %s\n%s", load.name, failure.message, failure.trace)
        if not load.single:
            self._apart(load)
            return
        load.doom = failure
        self._settle(load, deaths)

    def _refuse(self, load: Load, failure: Failure) -> None:
        """An order of this load cannot be done, though all of it may have been read."""
        if load.settling:
            return
        if not load.single:
            self._apart(load)
            return
        load.doom = failure
        load.ended = False
        if load.counted:
            self._run_rejected -= load.fresh
            load.counted = False
        self._settle(load)

    def _settle(self, load: Load, deaths: int | None = None) -> None:
        """Refuse a file: its queued steps are taken back, its committed ones are undone by the writer."""
        assert load.doom is not None
        if load.ended:
            return
        load.settling = True
        if load.doom.code is Reason.OVER_BUDGET:  # more may have been found since
            load.doom = load.over_budget(self._settings, self._run_rejected, at_end=False) or load.doom
        load.ended = True
        self._crew.cancel(load.job)
        self._drop_results(load)
        self._drop_step(load)
        taken = self._writing.withdraw(
            lambda order: isinstance(order, Apply) and self._orders.get(order.order, (None,))[0] is load
        )
        for order in taken:
            self._free(self._orders.pop(order.order)[1])
        work, row = load.works[0], load.rows[0]
        number = self._writing.number()
        self._orders[number] = (load, Step())
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
        if isinstance(answer, Failed):  # the next run tries it first of all
            load.doom = units.not_undone(load.doom, answer.failure)
        self._finished(load)
        self._tally.add(bytes_=load.works[0].source.size)
        self._on_outcome(load.refusal())

    def _lost(self, lost: Lost) -> None:
        load = self._loads.get(lost.job.job_id)
        if load is not None and not load.ended:
            self._fail(load, lost.failure, lost.deaths)

    # starting over -----------------------------------------------------------------------------------------

    def _apart(self, load: Load) -> None:
        """A bundle with something in it: its files one by one."""
        for part in self._parts(load):
            self._crew.submit(part.job)

    def _parts(self, load: Load) -> list[Load]:
        self._crew.cancel(load.job)
        self._drop_results(load)
        self._drop_step(load)
        load.ended = True
        self._loads.pop(load.job.job_id, None)
        self._unfinished.pop(id(load), None)
        parts = [
            self._load([work], {work.path_key: row}, load.layout)
            for work, row in zip(load.works, load.rows, strict=True)
        ]
        self._turns.apart(load, parts)
        return parts

    def _split_job(self, job: Job) -> list[Job]:
        load = self._loads.get(job.job_id)
        return [part.job for part in self._parts(load)] if load is not None else []

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
        load.broken, load.fitted = load.broken_at, load.fitted_at
        load.next, load.sliced = 0, None
        self._loads.pop(load.job.job_id, None)
        self._jobs += 1
        header = load.job.members[0].header
        load.job = renumbered(
            load.job,
            self._jobs,
            start=load.position,
            first_record=load.records_at,
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
        step, load.step = load.step, Step()
        self._free(step)

    def _free(self, step: Step) -> None:
        """Give back what a step has in the spool."""
        self._crew.give(step.held)
        for path in step.paths:
            spool.remove(path)
