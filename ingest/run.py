"""One run from manifest to report: `load` and `plan`, behind the command line and the Python API alike."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import ledger, manifest, planning, spool
from ingest import schema as schemas
from ingest.bundles import bundles
from ingest.crew import Crew, Lost, renumbered
from ingest.errors import IngestError, LedgerError, TableError, UsageError
from ingest.failpoints import failpoint
from ingest.jobs import PREVIEW, PROFILE, Failure, Job, Member, Result
from ingest.loading import WHOLE, Loading, state_of
from ingest.model import (
    Action,
    Codec,
    Decision,
    FileOutcome,
    FileState,
    Listener,
    Manifest,
    Notice,
    Opened,
    Plan,
    Progress,
    RunReport,
    RunState,
    Source,
    StopRequest,
    TablePlan,
    TableShape,
)
from ingest.planning import Planned, Work
from ingest.rows import FileRow, NewFile, Totals, Touched
from ingest.schema import Group, TableSchema
from ingest.settings import Settings, database_url, workers_default
from ingest.targets import target_for
from ingest.targets.base import Target
from ingest.writing import Writing

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ingest.inference import ColumnProfile

log = logging.getLogger("ingest")

EXIT_OK, EXIT_REJECTS, EXIT_INCOMPLETE = 0, 3, 4
PROFILES, PREVIEWS = 1 << 40, 1 << 41
"""Where the numbers of jobs that look at values begin: a late result of one must not pass for one of a load."""
SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def load(
    paths: Sequence[str | os.PathLike[str]],
    settings: Settings,
    *,
    on_event: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunReport:
    """Load every CSV file below `paths`; returns when each has ended or a stop was asked for.

    Trouble with a file is in the report. Raises UsageError, DatabaseUnreachable, LeaseHeld or LedgerError when
    the run as a whole cannot go on; what was committed before stays, and the next run goes on from there.
    """
    return _Run(paths, settings, on_event or (lambda event: None), stop or StopRequest()).load()


def plan(paths: Sequence[str | os.PathLike[str]], settings: Settings, *, on_event: Listener | None = None) -> Plan:
    """What `load` would do with the same arguments. Writes nothing, not even a new database."""
    return _Run(paths, settings, on_event or (lambda event: None), StopRequest()).plan()


class _Stopped(Exception):
    """A stop was asked for before loading began."""


class _Run:
    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        settings: Settings,
        on_event: Listener,
        stop: StopRequest,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._on_event = on_event
        self._stop = stop
        self._began = time.monotonic()
        self._target: Target = target_for(database_url(settings.to), bulk=settings.bulk == "auto")
        self._outcomes: list[FileOutcome] = []
        self._warnings: list[str] = []
        self._crew: Crew | None = None
        self._writing: Writing | None = None
        self._workers = settings.workers or workers_default()

    # telling -----------------------------------------------------------------------------------------------

    def _tell(self, level: str, text: str, path: str = "") -> None:
        log.log({"info": logging.INFO, "warning": logging.WARNING}.get(level, logging.ERROR), "%s", text)
        if level == "warning":
            self._warnings.append(text)
        self._on_event(Notice(level=level, text=text, path=path))

    def _outcome(self, outcome: FileOutcome) -> None:
        log.info("%s: %s, %s", outcome.display, outcome.state, outcome.sentence)
        self._outcomes.append(outcome)
        self._on_event(outcome)

    # plan --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        found = self._scan()
        new = not self._target.exists()
        self._on_event(Opened(database=self._target.label, new=new))
        reading = self._target.connect() if not new else contextlib.nullcontext(None)
        with tempfile.TemporaryDirectory(prefix="ingest-plan-") as folder, self._new_crew(Path(folder)) as crew:
            planned = planning.decide(
                self._target, reading, found, self._settings, folders=self._folders(), on_pending=crew.start
            )
            tables = self._schemas(planned, crew)
        return Plan(
            database=self._target.label,
            new=new,
            decisions=self._decisions(planned, found),
            tables=tuple(schemas.table_plan(table, self._settings) for table in tables)
            + self._other_tables(planned, tables),
            left_out=found.left_out,
            vanished=tuple(planned.vanished),
        )

    def _scan(self) -> Manifest:
        settings = self._settings
        return manifest.scan(self._paths, include=settings.include, exclude=settings.exclude, min_age=settings.min_age)

    def _folders(self) -> list[str]:
        return [os.path.realpath(path) for path in self._paths if os.path.isdir(path)]

    @staticmethod
    def _decisions(planned: Planned, found: Manifest) -> tuple[Decision, ...]:
        order = {source.path: number for number, source in enumerate(found.sources)}
        decisions = [*planned.decisions, *map(planning.decision_of, planned.work)]
        return tuple(sorted(decisions, key=lambda d: order.get(d.source.path, 0)))

    @staticmethod
    def _other_tables(planned: Planned, tables: Sequence[TableSchema]) -> tuple[TablePlan, ...]:
        shown = {table.key for table in tables}
        return tuple(
            TablePlan(table=state.table, exists=state.shape is not None, shape=state.shape)
            for key, state in planned.tables.items()
            if key not in shown
        )

    @contextlib.contextmanager
    def _new_crew(self, folder: Path, held: int = 0) -> Iterator[Crew]:
        settings = self._settings
        budget = settings.commit_bytes + (self._workers + 1) * int(WHOLE * settings.slice_bytes) + held
        crew = Crew(
            folder=folder,
            workers=self._workers,
            start_method=settings.start_method,
            budget=budget,
            file_timeout=settings.file_timeout,
            tell=self._tell,
        )
        try:
            yield crew
        finally:
            crew.close()

    # schemas -----------------------------------------------------------------------------------------------

    def _schemas(self, planned: Planned, crew: Crew) -> list[TableSchema]:
        """Columns and types of every table with something to load."""
        settings = self._settings
        tables = schemas.group(planned, settings)
        if not settings.transform:
            for table in tables:
                schemas.match(planned, table, settings, self._target)
        wanted = [
            (table, one)
            for table in tables
            if schemas.unknown_types(table, settings)
            for one in table.groups
            if schemas.wants_profile(table, one, settings)
        ]
        profiles = self._profile(planned, crew, wanted) if wanted else {}
        if settings.transform:
            self._preview(planned, crew, tables, profiles)
        else:
            from ingest.inference import merge  # Arrow: while the workers are at it, and only if they are

            for table in tables if wanted else ():
                merged: dict[str, ColumnProfile] = {}
                for one in table.groups:
                    for name, profile in zip(one.names, profiles.get(id(one), ()), strict=False):
                        column = one.where.get(name)
                        if column is not None:
                            merged[column] = merge(merged[column], profile) if column in merged else profile
                schemas.settle(table, merged)
        return [table for table in tables if table.groups]

    def _profile(
        self, planned: Planned, crew: Crew, wanted: list[tuple[TableSchema, Group]]
    ) -> dict[int, list[ColumnProfile]]:
        """Look at all values (or a sample) of the files that decide a type; profiles by group."""
        settings = self._settings
        jobs: dict[int, tuple[Group, Work | None]] = {}
        number = PROFILES
        total = 0
        for table, one in wanted:
            files = sum(len(g.work) for t, g in wanted if t is table)
            sample = max(64 * 1024, settings.sample // files) if settings.sample else None
            for works in bundles(one.work):
                number += 1
                first = works[0]
                assert first.header is not None
                size = first.source.size - first.header.data_start
                job = Job(
                    job_id=number,
                    kind=PROFILE,
                    members=tuple(Member(source=w.source, header=w.header) for w in works if w.header),
                    layout=schemas.profile_layout(one, settings),
                    start=first.header.data_start,
                    slice_bytes=settings.slice_bytes,
                    commit_bytes=None,
                    whole=first.source.codec is Codec.PLAIN and size <= WHOLE * settings.slice_bytes,
                    sample=sample,
                )
                jobs[number] = (one, first if len(works) == 1 else None)
                total += job.size
                crew.submit(job, alone=first.alone)
        found = self._gather(planned, crew, jobs, number, total)
        from ingest.inference import merge

        merged: dict[int, list[ColumnProfile]] = {}
        for job_id, results in found.items():
            one = jobs[job_id][0]
            for profiles in results:
                known = merged.get(id(one))
                merged[id(one)] = [merge(a, b) for a, b in zip(known, profiles, strict=True)] if known else profiles
        return merged

    def _gather(
        self, planned: Planned, crew: Crew, jobs: dict[int, tuple[Group, Work | None]], number: int, total: int
    ) -> dict[int, list[list[ColumnProfile]]]:
        """Wait for all profiles, by job; a file that cannot be read is refused here and now."""
        found: dict[int, list[list[ColumnProfile]]] = {}
        slices: dict[int, int] = {}
        bytes_done = 0

        def again(job: Job, **changes: object) -> Job:
            nonlocal number
            number += 1
            jobs[number] = jobs.pop(job.job_id)
            found.pop(job.job_id, None)
            return renumbered(job, number, **changes)

        def split(job: Job) -> list[Job]:
            nonlocal number
            one, _ = jobs.pop(job.job_id)
            found.pop(job.job_id, None)
            parts = []
            for member in job.members:
                number += 1
                work = next(w for w in one.work if w.source is member.source or w.source == member.source)
                jobs[number] = (one, work)
                parts.append(renumbered(job, number, members=(member,), start=member.header.data_start, whole=True))
            return parts

        crew.resubmit, crew.split = again, split
        while not crew.idle:
            self._check_stop()
            events, _ = crew.poll([], 0.2)
            for event in events:
                if isinstance(event, Lost):
                    one, work = jobs.pop(event.job.job_id)
                    if work is not None:
                        one.work.remove(work)
                        planning.refuse_work(
                            planned, work, event.failure.code, event.failure.message, event.failure.hint
                        )
                    continue
                job, message = event
                if job.job_id not in jobs:
                    continue
                if isinstance(message, Result):
                    if message.split:
                        crew.cancel(job)
                        for part in split(job):
                            crew.submit(part)
                        continue
                    if message.unproven:
                        crew.cancel(job)
                        crew.submit(again(job, exact=True, whole=False))
                        continue
                failure = message.failure
                if failure is not None:
                    crew.cancel(job)
                    one, work = jobs.pop(job.job_id)
                    found.pop(job.job_id, None)
                    if work is not None and work in one.work:
                        one.work.remove(work)
                        planning.refuse_work(planned, work, failure.code, failure.message, failure.hint)
                    continue
                if isinstance(message, Result):
                    found.setdefault(job.job_id, []).append(message.profiles)
                    bytes_done += message.slice.length
                else:
                    slices[job.job_id] = message.slices
                if slices.get(job.job_id) == len(found.get(job.job_id, ())):
                    crew.finished(job)
            self._on_event(
                Progress(
                    phase="plan",
                    files_done=0,
                    files_total=len(planned.work),
                    bytes_done=min(bytes_done, total),
                    bytes_total=total,
                    rows=0,
                    rejected=0,
                    seconds=time.monotonic() - self._began,
                )
            )
        return {job_id: profiles for job_id, profiles in found.items() if job_id in jobs}

    def _preview(
        self,
        planned: Planned,
        crew: Crew,
        tables: list[TableSchema],
        profiles: dict[int, list[ColumnProfile]],
    ) -> None:
        """With a transform: see which columns it returns for the head of a file of each kind."""
        jobs: dict[int, tuple[Group, Work]] = {}

        def submit(one: Group) -> None:
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
            jobs[job.job_id] = one, work
            crew.submit(job, alone=work.alone)

        crew.resubmit = lambda job: job
        for table in tables:
            for one in table.groups:
                schemas.settle_sources(one, profiles.get(id(one)), self._settings)
                if one.work:
                    submit(one)
        while not crew.idle:
            self._check_stop()
            for event in crew.poll([], 0.2)[0]:
                failure: Failure | None
                if isinstance(event, Lost):
                    job, failure = event.job, event.failure
                elif isinstance(event[1], Result):
                    job, failure = event[0], event[1].failure
                    crew.finished(job)
                    if failure is None:
                        jobs[job.job_id][0].returned = event[1].profiles
                        continue
                else:
                    continue
                one, work = jobs[job.job_id]
                one.work.remove(work)
                planning.refuse_work(planned, work, failure.code, failure.message, failure.hint)
                if one.work:
                    submit(one)
        for table in tables:
            table.groups = [one for one in table.groups if one.work]
            schemas.match(planned, table, self._settings, self._target)

    def _check_stop(self) -> None:
        if self._stop.count:
            raise _Stopped

    # load --------------------------------------------------------------------------------------------------

    def load(self) -> RunReport:
        found = self._scan()
        new = not self._target.exists()
        self._on_event(Opened(database=self._target.label, new=new))
        if not found.sources:
            return self._report(None, new, found, [], EXIT_OK)
        with self._target.lease(self._settings.wait):
            try:
                return self._leased(found, new)
            finally:
                self._target.close()

    def _leased(self, found: Manifest, new: bool) -> RunReport:
        run_id = self._open_ledger()
        base = Path(self._settings.spool) if self._settings.spool else self._target.spool_base()
        try:
            with spool.run_folder(base) as folder, self._new_crew(folder) as crew:
                self._crew = crew
                return self._loaded(run_id, found, new, crew, folder)
        except BaseException as error:
            with contextlib.suppress(Exception):
                self._finish(run_id, RunState.FINISHED, 1, _error_text(error))
            raise
        finally:
            if self._writing is not None:
                self._writing.close(kill=self._stop.count > 1)

    def _open_ledger(self) -> int:
        """The ledger, made or upgraded; the runs that were killed, fenced off; this run, written down."""
        with self._target.begin() as connection:
            have = ledger.version(connection)
            if have is None:
                ledger.create(connection)
        if have not in (None, ledger.HEAD):
            ledger.upgrade(self._target.engine)
        failpoint("after_ledger")
        with self._target.begin() as connection:
            for abandoned in ledger.take_over(connection):
                self._tell("info", f"run {abandoned} was killed; going on where it was")
            run_id = ledger.start_run(
                connection,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=_version(),
                options=_options(self._settings, self._paths),
            )
        self._undo(run_id)
        failpoint("after_start_run")
        return run_id

    def _undo(self, run_id: int) -> None:
        """Finish what a killed run was taking back."""
        with self._target.begin() as connection:
            for row in ledger.files(connection):
                if row.state is not FileState.UNDOING:
                    continue
                shape = self._target.shape(connection, self._target.table_of(row.table_name))
                if shape is not None and shape.lineage:
                    self._target.delete_rows(connection, shape, row.file_id)
                ledger.finish_undo(
                    connection,
                    run_id,
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    state=FileState.REFUSED,
                )

    def _start_processes(self, run_id: int, crew: Crew) -> None:
        crew.start()
        self._writing = Writing(
            url=self._target.url.render_as_string(hide_password=False),
            bulk=self._settings.bulk == "auto",
            run_id=run_id,
            start_method=self._settings.start_method,
            tell=self._tell,
        )
        self._writing.start()

    def _loaded(self, run_id: int, found: Manifest, new: bool, crew: Crew, folder: Path) -> RunReport:
        stopped = False
        planned = Planned()
        unfinished: list[Work] = []
        try:
            planned = planning.decide(
                self._target,
                self._target.connect(),
                found,
                self._settings,
                folders=self._folders(),
                on_pending=lambda: self._start_processes(run_id, crew),
            )
            tables = self._schemas(planned, crew)
            self._check_stop()
            shapes = self._make_tables(run_id, planned, tables)
            rows = self._register(run_id, planned)
            self._target.close()
            for decision in planned.decisions:
                self._outcome(_outcome_of(decision))
            if planned.work:
                self._check_space(crew, planned, shapes, folder)
                unfinished = self._run_loading(crew, planned, tables, shapes, rows)
                stopped = bool(self._stop.count)
        except _Stopped:
            stopped = True
            unfinished = planned.work
        for work in unfinished:
            self._outcome(_unfinished(work))
        code = SIGNALS.get(self._stop.signal or "", 130) if stopped else self._exit_code()
        self._finish(run_id, RunState.STOPPED if stopped else RunState.FINISHED, code)
        return self._report(run_id, new, found, planned.vanished, code, stopped=stopped)

    def _run_loading(
        self,
        crew: Crew,
        planned: Planned,
        tables: list[TableSchema],
        shapes: dict[str, TableShape],
        rows: dict[str, FileRow],
    ) -> list[Work]:
        assert self._writing is not None
        loading = Loading(
            crew=crew,
            writing=self._writing,
            settings=self._settings,
            stop=self._stop,
            on_outcome=self._outcome,
            on_progress=self._on_event,
        )
        loading.add_empty([w for w in planned.work if w.header and not w.header.has_data], rows, shapes)
        for table in tables:
            shape = shapes[table.key]
            for one in table.groups:
                layout = schemas.load_layout(table, one, shape, self._settings, self._target)
                loading.add(one.work, rows, layout)
        loading.run()
        return list(loading.unfinished)

    def _check_space(self, crew: Crew, planned: Planned, shapes: dict[str, TableShape], folder: Path) -> None:
        """Say that the spool cannot hold what it must before anything is written."""
        settings = self._settings
        largest = max(
            (
                work.source.size
                if (shape := shapes.get(str(work.table))) is None or not shape.lineage or work.in_one
                else min(work.source.size, settings.commit_bytes + int(WHOLE * settings.slice_bytes))
            )
            for work in planned.work
        )
        crew.budget = max(crew.budget, largest)
        need = min(crew.budget, sum(work.source.size for work in planned.work)) * 3 // 2
        free = spool.free_bytes(folder)
        if free < need:
            raise UsageError(
                f"the spool in {folder.parent} needs about {need // 10**6} MB, and {free // 10**6} MB are free.",
                hint="Give --spool a folder with more room, or smaller --commit-bytes.",
            )

    # tables and files in the ledger --------------------------------------------------------------------------

    def _make_tables(self, run_id: int, planned: Planned, tables: list[TableSchema]) -> dict[str, TableShape]:
        """All DDL of the run: each table's intent first, then the table, then the ledger's word that it is there."""
        shapes: dict[str, TableShape] = {}
        if planned.lost:
            with self._target.begin() as connection:
                for key, (code, sentence) in planned.lost.items():
                    ledger.lose(connection, run_id, key, code=code, error=sentence)
            failpoint("after_lose")
        for key, state in planned.tables.items():
            if state.shape is not None:
                shapes[key] = state.shape
        for table in tables:
            try:
                shapes[table.key] = self._make_table(run_id, table)
            except TableError as error:
                planning.refuse_table(planned, table.key, error)
                table.groups = []
        return shapes

    def _make_table(self, run_id: int, table: TableSchema) -> TableShape:
        target, state = self._target, table.state
        columns = (*table.columns, *table.added)
        definition = schemas.definition(columns)
        name = str(state.table)
        if table.is_new:
            token = secrets.token_hex(16)
            with target.begin() as connection:
                ledger.forget_table(connection, name)
                ledger.intend_table(
                    connection, run_id, table_name=name, token=token, definition=definition, made_by_us=True
                )
            failpoint("after_intent")
            with target.begin() as connection:
                target.create_table(connection, schemas.new_shape(table, self._settings), token)
                failpoint("before_create_commit")
            failpoint("after_create")
        elif state.row is None or state.row.made_by_us != state.made_by_us:
            with target.begin() as connection:
                ledger.forget_table(connection, name)  # of our own table, where somebody made another by hand
                ledger.intend_table(
                    connection, run_id, table_name=name, token="", definition=definition, made_by_us=False
                )
        if table.added and not table.is_new:
            with target.begin() as connection:
                ledger.settle_table(connection, name, identity="", definition=definition)
            failpoint("after_add_intent")
            with target.begin() as connection:
                target.add_columns(connection, state.table, table.added)
            failpoint("after_add")
        with target.begin() as connection:
            shape = target.shape(connection, state.table)
            if shape is None:
                raise LedgerError(f"the table {name} was dropped while it was made.")
            ledger.settle_table(connection, name, identity=shape.fingerprint, definition=definition)
        return shape

    def _register(self, run_id: int, planned: Planned) -> dict[str, FileRow]:
        """The attempt, written ahead of it; and what the plan found out about the other files."""
        with self._target.begin() as connection:
            for row, source, key, sha256 in planned.moved:
                ledger.rename(connection, path=source.path, path_key=key, touched=_touched(row, source, sha256))
            ledger.touch(connection, [_touched(*one) for one in planned.touched])
            for row, *_ in planned.touched:
                if row.error_code:
                    ledger.drop_rejects(connection, row.file_id, applied=False)
            for row, code, sentence in planned.notes:
                ledger.note(connection, row.file_id, code=code, error=sentence)
            self._record_refused(connection, run_id, planned)
            rows = ledger.register(connection, run_id, [self._new_file(w, planned) for w in planned.work])
            failpoint("before_register_commit")
        failpoint("after_register")
        return rows

    def _record_refused(self, connection: Connection, run_id: int, planned: Planned) -> None:
        entries = [
            NewFile(
                table_name=str(table),
                path=source.path,
                path_key=key,
                size=source.size,
                mtime_ns=source.mtime_ns,
                ctime_ns=source.ctime_ns,
                scanned_ns=source.scanned_ns,
                lineage=False,
            )
            for source, table, key, _, _ in planned.refused
        ]
        if not entries:
            return
        rows = ledger.register(connection, run_id, entries)
        for _, _, key, code, sentence in planned.refused:
            row = rows[key]
            if row.attempts > 1:
                ledger.drop_rejects(connection, row.file_id)
            ledger.settle(
                connection,
                run_id,
                file_id=row.file_id,
                version=row.version,
                epoch=row.epoch,
                state=state_of(code),
                code=code,
                error=sentence,
            )

    def _new_file(self, work: Work, planned: Planned) -> NewFile:
        source = work.source
        state = planned.tables[str(work.table)]
        lineage = state.shape.lineage if state.shape is not None else self._settings.lineage == "file"
        return NewFile(
            table_name=str(work.table),
            path=source.path,
            path_key=work.path_key,
            size=source.size,
            mtime_ns=source.mtime_ns,
            ctime_ns=source.ctime_ns,
            scanned_ns=source.scanned_ns,
            lineage=lineage,
            sha256=work.sha256,
            header=planning.header_json(work.header) if work.header else None,
        )

    # the end -----------------------------------------------------------------------------------------------

    def _exit_code(self) -> int:
        states = {outcome.state for outcome in self._outcomes}
        if states & {"refused", "failed", "unfinished"}:
            return EXIT_INCOMPLETE
        return EXIT_REJECTS if any(outcome.rejected for outcome in self._outcomes) else EXIT_OK

    def _finish(self, run_id: int, state: RunState, code: int, error: str | None = None) -> None:
        counted = [outcome.state for outcome in self._outcomes]
        totals = Totals(
            files_loaded=counted.count("loaded"),
            files_skipped=counted.count("skipped"),
            files_refused=counted.count("refused"),
            files_failed=counted.count("failed"),
            rows_loaded=sum(o.rows for o in self._outcomes),
            rows_rejected=sum(o.rejected for o in self._outcomes),
            rows_discarded=sum(o.discarded for o in self._outcomes),
            bytes_read=sum(o.bytes for o in self._outcomes if o.state == "loaded"),
        )
        if self._writing is not None:
            self._writing.close(kill=self._stop.count > 1)
            self._writing = None
        if self._stop.count > 1:
            return  # at once: no waiting for a lock on the database; the next run writes down that this one has gone
        with self._target.begin() as connection:
            ledger.finish_run(connection, run_id, state=state, exit_code=code, totals=totals, error=error)

    def _report(
        self,
        run_id: int | None,
        new: bool,
        found: Manifest,
        vanished: Sequence[str],
        code: int,
        *,
        stopped: bool = False,
    ) -> RunReport:
        report = RunReport(
            run_id=run_id,
            database=self._target.label,
            new=new,
            exit_code=code,
            seconds=time.monotonic() - self._began,
            files=tuple(self._outcomes),
            left_out=found.left_out,
            vanished=tuple(vanished),
            warnings=tuple(self._warnings),
            stopped_by=self._stop.signal if stopped else None,
        )
        self._on_event(report)
        return report


def _outcome_of(decision: Decision) -> FileOutcome:
    """What became of a file that the plan did not load."""
    source = decision.source
    return FileOutcome(
        path=source.path,
        display=source.display,
        table=str(decision.table),
        action=decision.action,
        state={Action.SKIP: "skipped", Action.WAIT: "waiting"}.get(decision.action) or state_of(decision.code).value,
        code=decision.code,
        sentence=decision.sentence,
        hint=decision.hint,
        bytes=source.size,
    )


def _unfinished(work: Work) -> FileOutcome:
    return FileOutcome(
        path=work.source.path,
        display=work.source.display,
        table=str(work.table),
        action=work.action,
        state="unfinished",
        code=work.code,
        sentence="the run was stopped before it was loaded",
        bytes=work.source.size,
    )


def _touched(row: FileRow, source: Source, sha256: str | None) -> Touched:
    return Touched(
        file_id=row.file_id,
        size=source.size,
        mtime_ns=source.mtime_ns,
        ctime_ns=source.ctime_ns,
        scanned_ns=source.scanned_ns,
        sha256=sha256 or None,
    )


def _error_text(error: BaseException) -> str:
    """What the ledger keeps of an error: our own words, or no more than its kind."""
    return str(error) if isinstance(error, IngestError) else type(error).__name__


def _options(settings: Settings, paths: Sequence[str | os.PathLike[str]]) -> str:
    """The run's options for the ledger, without the database's URL and its secrets."""
    options = {key: value for key, value in asdict(settings).items() if key != "to"}
    return json.dumps({"paths": [os.fspath(p) for p in paths], **options}, default=str)


def _version() -> str:
    try:
        return version("ingest")
    except PackageNotFoundError:
        return "unknown"
