"""Before the first row: look at values through the pool, to infer types and to see what a transform returns."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from ingest import drift, heads, naming, widening
from ingest import schema as schemas
from ingest.bundles import bundles
from ingest.crew import Crew, Lost, renumbered
from ingest.errors import SourceError
from ingest.feeding import permit_cost
from ingest.jobs import PREVIEW, PROFILE, Failure, Job, Member, Result
from ingest.loading import TICK
from ingest.model import Column, ColumnType, Reason
from ingest.profiles import ColumnProfile, merge
from ingest.reports import Listener, Progress
from ingest.schema import Group, TableSchema
from ingest.settings import Settings
from ingest.targets.base import Target
from ingest.units import reading_order, whole_at_once
from ingest.work import Planned, Work, refuse_work

PROFILES, PREVIEWS = 1 << 40, 1 << 41
"""Where the numbers of jobs that look at values begin: a late result of one must not pass for one of a load."""


class Profiling:
    """Decides the columns and types of every table with something to load."""

    def __init__(
        self,
        *,
        planned: Planned,
        crew: Crew,
        settings: Settings,
        target: Target,
        on_event: Listener,
        check_stop: Callable[[], None],
    ) -> None:
        self._planned = planned
        self._crew = crew
        self._settings = settings
        self._target = target
        self._on_event = on_event
        self._check_stop = check_stop
        self._began = time.monotonic()
        self._told = 0.0
        self._jobs: dict[int, tuple[Group, Work | None]] = {}
        self._number = PROFILES
        self._found: dict[int, list[Result]] = {}
        self._files: dict[int, tuple[str, ...]] = {}  # by job: what people call them
        self._values: dict[int, drift.Values] = {}  # by id() of the group
        self._slices: dict[int, int] = {}
        self._bytes_done = self._bytes_total = 0

    def tables(self) -> list[TableSchema]:
        """The tables with something to load; refuses files that cannot be a part of one."""
        settings, planned = self._settings, self._planned
        tables = schemas.group(planned, settings)
        if not settings.transform:
            for table in tables:
                schemas.match(planned, table, settings, self._target)
                table.open = self._open(table)
        wanted = [
            (table, one)
            for table in tables
            if schemas.unknown_types(table, settings)
            for one in table.groups
            if schemas.wants_profile(table, one, settings)
        ]
        profiles = self._profile(wanted) if wanted else {}
        if settings.transform:
            self._preview(tables, profiles)
        else:
            for table in tables if wanted else ():
                merged: dict[str, ColumnProfile] = {}
                for one in table.groups:
                    for name, profile in zip(one.names, profiles.get(id(one), ()), strict=False):
                        column = one.where.get(name)
                        if column is not None:
                            merged[column] = merge(merged[column], profile) if column in merged else profile
                schemas.settle(table, merged)
                widening.look(self._target, table.state, table.columns, table.before)
                table.mixed = drift.mixed(table, self._values)
                table.added = drift.explained(table.added, table.mixed)
                table.filled = self._filled(table)
        for table in tables:
            table.headers = drift.headers(table, self._settings.rescue_column)
        return [table for table in tables if table.groups]

    def _filled(self, table: TableSchema) -> set[str]:
        """The columns that have a value in every record of every file."""
        filled = {column.name for column in table.added}
        for one in table.groups:
            values = self._values.get(id(one))
            given = zip(one.names, values.nulls, strict=False) if values is not None else ()
            filled &= {one.where[name] or name for name, nulls in given if not nulls}
        return filled

    def _open(self, table: TableSchema) -> set[str]:
        """Columns that are there, and of which the values decide: which type they get, or how dates are written."""
        widen = self._settings.on_misfit == "widen" and table.state.made_by_us
        kept = widening.kept(table.columns, table.state, self._target) if widen else {}
        found = {c.name for c in table.columns if widen and c.name not in kept and c.type is not ColumnType.TEXT}
        for one in table.groups:
            asked, header = schemas.unproven(table, one, self._settings), one.work[0].header
            if asked and header is not None and not heads.are_iso(one.work[0].source, header, asked):
                found |= set(asked.values())
        return found

    def _profile(self, wanted: list[tuple[TableSchema, Group]]) -> dict[int, list[ColumnProfile]]:
        """Look at all values (or a sample) of the files that decide a type; profiles by group."""
        settings = self._settings
        for table, one in wanted:
            files = sum(len(g.work) for t, g in wanted if t is table)
            sample = max(64 * 1024, settings.sample // files) if settings.sample else None
            for works in bundles(reading_order(one.work, settings)):
                self._number += 1
                first = works[0]
                assert first.header is not None
                job = Job(
                    job_id=self._number,
                    kind=PROFILE,
                    members=tuple(Member(source=w.source, header=w.header) for w in works if w.header),
                    layout=schemas.profile_layout(table, one, settings),
                    start=first.header.data_start,
                    slice_bytes=settings.slice_bytes,
                    commit_bytes=None,
                    whole=whole_at_once(first, first.header.data_start, settings),
                    guess=first.seekable,
                    sample=sample,
                )
                self._jobs[job.job_id] = (one, first if len(works) == 1 else None)
                self._bytes_total += job.size
                self._crew.submit(job, alone=first.alone)
        self._gather()
        merged: dict[int, list[ColumnProfile]] = {}
        for job_id, results in self._found.items():
            one, _ = self._jobs[job_id]
            profiles = functools.reduce(_merged, (result.profiles for result in results))
            known = merged.get(id(one))
            merged[id(one)] = _merged(known, profiles) if known else profiles
            values = self._values.setdefault(id(one), drift.Values())
            values.seen.append(
                drift.Seen(files=self._files[job_id], profiles=profiles, apart=results[0].apart if results else ())
            )
            nulls = [result.nulls for result in results] + ([tuple(values.nulls)] if values.nulls else [])
            values.nulls = [sum(column) for column in zip(*nulls, strict=True)] if all(nulls) else []
        return merged

    def _gather(self) -> None:
        """Wait for all profiles, by job; a file that cannot be read is refused here and now."""
        crew = self._crew
        crew.resubmit, crew.split = self._again, self._split
        while not crew.idle:
            self._check_stop()
            for event in crew.poll([], TICK)[0]:
                if isinstance(event, Lost):
                    self._refuse(event.job, event.failure)
                    continue
                job, message = event
                if isinstance(message, Result):
                    crew.give(permit_cost(job, message.slice))
                if job.job_id not in self._jobs:
                    continue
                if isinstance(message, Result) and message.split:
                    crew.cancel(job)
                    for part in self._split(job):
                        crew.submit(part)
                elif isinstance(message, Result) and message.unproven:
                    crew.cancel(job)
                    crew.submit(self._again(job, guess=False, exact=not job.guess or job.whole, whole=False))
                elif message.failure is not None:
                    crew.cancel(job)
                    self._refuse(job, message.failure)
                else:
                    if isinstance(message, Result):
                        self._found.setdefault(job.job_id, []).append(message)
                        self._files[job.job_id] = tuple(member.source.display for member in job.members)
                        self._bytes_done += message.slice.length
                    else:
                        self._slices[job.job_id] = message.slices
                    if self._slices.get(job.job_id) == len(self._found.get(job.job_id, ())):
                        crew.finished(job)
            crew.relieve()
            self._progress()

    def _again(self, job: Job, **changes: object) -> Job:
        """The same job from its start, under a new number."""
        self._number += 1
        self._jobs[self._number] = self._jobs.pop(job.job_id)
        self._found.pop(job.job_id, None)
        return renumbered(job, self._number, **changes)

    def _split(self, job: Job) -> list[Job]:
        """A bundle's files one by one."""
        one, _ = self._jobs.pop(job.job_id)
        self._found.pop(job.job_id, None)
        parts = []
        for member in job.members:
            self._number += 1
            work = next(w for w in one.work if w.source == member.source)
            self._jobs[self._number] = (one, work)
            parts.append(renumbered(job, self._number, members=(member,), start=member.header.data_start, whole=True))
        return parts

    def _refuse(self, job: Job, failure: Failure) -> None:
        one, work = self._jobs.pop(job.job_id)
        self._found.pop(job.job_id, None)
        if work is not None and work in one.work:
            one.work.remove(work)
            refuse_work(self._planned, work, failure.code, failure.message, failure.hint)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._told < TICK:
            return
        self._told = now
        self._on_event(
            Progress(
                phase="plan",
                files_done=0,
                files_total=len(self._planned.work),
                bytes_done=min(self._bytes_done, self._bytes_total),
                bytes_total=self._bytes_total,
                rows=0,
                rejected=0,
                seconds=now - self._began,
            )
        )

    def _preview(self, tables: list[TableSchema], profiles: dict[int, list[ColumnProfile]]) -> None:
        """With a transform: see which columns it returns for the head of a file of each kind."""
        jobs: dict[int, tuple[TableSchema, Group, Work]] = {}

        def submit(table: TableSchema, one: Group) -> None:
            # A file that the transform fails for is refused, and tells nothing of the next one.
            work = one.work[0]
            assert work.header is not None
            job = Job(
                job_id=PREVIEWS + len(jobs),
                kind=PREVIEW,
                members=(Member(source=work.source, header=work.header),),
                layout=schemas.preview_layout(one, self._settings),
                start=work.header.data_start,
                slice_bytes=self._settings.slice_bytes,
                commit_bytes=None,
            )
            jobs[job.job_id] = table, one, work
            self._crew.submit(job, alone=work.alone)

        self._crew.resubmit = lambda job: job
        for table in tables:
            for one in table.groups:
                schemas.settle_sources(one, profiles.get(id(one)), self._settings)
                if one.work:
                    submit(table, one)
        while not self._crew.idle:
            self._check_stop()
            for event in self._crew.poll([], TICK)[0]:
                failure: Failure | None
                if isinstance(event, Lost):
                    job, failure = event.job, event.failure
                elif isinstance(event[1], Result):
                    job, failure = event[0], event[1].failure
                    self._crew.finished(job)
                    if failure is None:
                        failure = self._returned(*jobs[job.job_id], event[1].profiles)
                    if failure is None:
                        continue
                else:
                    continue
                table, one, work = jobs[job.job_id]
                one.work.remove(work)
                refuse_work(self._planned, work, failure.code, failure.message, failure.hint)
                if one.work:
                    submit(table, one)
        for table in tables:
            table.groups = [one for one in table.groups if one.work]
            schemas.match(self._planned, table, self._settings, self._target)

    def _returned(self, table: TableSchema, one: Group, work: Work, columns: tuple[Column, ...]) -> Failure | None:
        """Keep which columns the transform returned; or why one that the table lacks cannot be made."""
        if table.is_new or self._settings.new_columns != "ignore":
            there = [column.name for column in table.columns]
            names = [column.name for column in columns]
            transform = self._settings.transform or ""
            try:
                naming.check_returned(transform, names, there, self._target.unfit, work.source.display)
            except SourceError as error:
                return Failure(code=Reason(error.code), message=error.message, hint=error.hint)
        one.returned = columns
        return None


def _merged(some: list[ColumnProfile], others: list[ColumnProfile]) -> list[ColumnProfile]:
    """The profiles of the same columns, together."""
    return [merge(a, b) for a, b in zip(some, others, strict=True)]
