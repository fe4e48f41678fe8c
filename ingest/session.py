"""One run over one database: scan, plan, prepare, load, report. What the run's result is; not how rows move."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ingest import checking, drift, ledger, manifest, planning, preparing, spool, turns
from ingest import schema as schemas
from ingest.checking import Rehearsal
from ingest.crew import Crew, Host
from ingest.errors import DatabaseUnreachable, IngestError, TableError, UsageError
from ingest.feeding import decoded_at_once
from ingest.jobs import Layout
from ingest.loading import Loading
from ingest.model import Action, LeftOut, Manifest, Reason, RunState, TableName, TableShape
from ingest.orders import Failed, Replace
from ingest.profiling import Profiling
from ingest.reports import (
    SIGNALS,
    Check,
    Decision,
    Exit,
    FileOutcome,
    Inferred,
    Listener,
    Notice,
    Opened,
    Plan,
    RunReport,
    StopRequest,
    TablePlan,
)
from ingest.rows import FileRow, Totals
from ingest.schema import TableSchema
from ingest.settings import CONNECTIONS, Settings, database_url, workers_default
from ingest.targets import Database
from ingest.targets.base import Target
from ingest.targets.faults import Fault, persist
from ingest.units import WHOLE, reading_order, state_of
from ingest.work import Planned, Work, decision_of
from ingest.writing import LOOK, Writing

log = logging.getLogger("ingest")

T = TypeVar("T")


class _Stopped(Exception):
    """A stop was asked for before loading began."""


class Session:
    """One run over one database."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        settings: Settings,
        on_event: Listener,
        stop: StopRequest,
        host: Host | None = None,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._on_event = on_event
        self._stop = stop
        self._began = time.monotonic()
        self._database = Database(
            url=database_url(settings.to), bulk=settings.bulk == "auto", ledger_schema=settings.ledger_schema
        )
        self._target: Target = self._database.target()
        self._outcomes: list[FileOutcome] = []
        self._warnings: list[str] = []
        self._host = host
        self._incomplete = False  # a table could not be replaced
        self._stuck: dict[int, TableError] = {}  # files with rows that could not be taken back
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

    def _opened(self, new: bool) -> None:
        self._on_event(Opened(database=self._target.label, new=new))
        if self._target.caution:
            self._tell("warning", self._target.caution)

    # plan --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What would be done. Writes nothing."""
        with self._closing(), self._target.worded():
            return self._plan()

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._target.close()

    def _plan(self) -> Plan:
        with self._planned() as (found, new, _, planned, tables):
            return Plan(
                database=self._target.label,
                new=new,
                decisions=self._decisions(planned, found),
                tables=self._table_plans(planned, tables),
                left_out=found.left_out,
                vanished=tuple(planned.vanished),
            )

    @contextlib.contextmanager
    def _planned(self) -> Iterator[tuple[Manifest, bool, Crew, Planned, list[TableSchema]]]:
        """What a scan and the ledger say, and a crew; nothing is written but into a folder of our own."""
        found = self._scan()
        new = not self._target.exists()
        self._opened(new)
        reading = self._target.connect() if not new else contextlib.nullcontext(None)
        with spool.run_folder(self._settings.spool) as folder, self._new_crew(folder) as crew:
            planned = planning.decide(
                self._target, reading, found, self._settings, folders=self._folders(), on_pending=crew.start
            )
            yield found, new, crew, planned, self._tables(planned, crew, found)

    def _table_plans(self, planned: Planned, tables: Sequence[TableSchema]) -> tuple[TablePlan, ...]:
        shown = tuple(schemas.table_plan(table, self._settings) for table in tables)
        return shown + self._other_tables(planned, tables)

    def check(self) -> Check:
        """What a load would come to: all of it but the writing."""
        with self._closing(), self._target.worded(), self._planned() as (found, new, crew, planned, tables):
            for decision in planned.decisions:
                self._outcome(_outcome_of(decision))
            rehearsal = Rehearsal()
            with contextlib.closing(rehearsal):
                shapes = {table.key: shape for table in tables if (shape := self._shape(table)) is not None}
                rows = checking.rows(planned.work)
                self._run_loading(crew, planned, tables, shapes, rows, writing=rehearsal)
            order = {source.path: number for number, source in enumerate(found.sources)}
            return Check(
                database=self._target.label,
                new=new,
                exit_code=self._exit_code(),
                seconds=time.monotonic() - self._began,
                files=tuple(map(rehearsal.checked, sorted(self._outcomes, key=lambda o: order[o.path]))),
                tables=self._table_plans(planned, tables),
                left_out=found.left_out,
                vanished=tuple(planned.vanished),
                warnings=tuple(self._warnings),
            )

    def _shape(self, table: TableSchema) -> TableShape | None:
        return schemas.table_plan(table, self._settings).shape

    def schema(self) -> Inferred:
        """What the files would make of their tables in a database without any. Opens no database."""
        with self._closing():
            return self._inferred()

    def _inferred(self) -> Inferred:
        found, nothing = self._scan(), contextlib.nullcontext(None)
        with spool.run_folder(self._settings.spool) as folder, self._new_crew(folder) as crew:
            planned = planning.decide(self._target, nothing, found, self._settings, on_pending=crew.start)
            tables = self._tables(planned, crew, found)
        refused = (decision for decision in planned.decisions if decision.action is Action.REFUSE)
        return Inferred(
            tables=tuple(drift.inferred(table, self._settings, self._target) for table in tables),
            left_out=found.left_out
            + tuple(LeftOut(path=d.source.display, code=d.code, sentence=d.sentence) for d in refused),
        )

    def _scan(self) -> Manifest:
        settings = self._settings
        return manifest.scan(
            self._paths,
            include=settings.include,
            exclude=settings.exclude,
            min_age=settings.min_age,
            most=settings.max_unpacked,
        )

    def _folders(self) -> list[str]:
        return [os.path.realpath(path) for path in self._paths if os.path.isdir(path)]

    @staticmethod
    def _decisions(planned: Planned, found: Manifest) -> tuple[Decision, ...]:
        order = {source.path: number for number, source in enumerate(found.sources)}
        decisions = [*planned.decisions, *map(decision_of, planned.work)]
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
    def _new_crew(self, folder: Path) -> Iterator[Crew]:
        settings = self._settings
        # A step for each that is being committed, and what the workers stage meanwhile.
        budget = self._connections * settings.commit_bytes + (self._workers + 1) * int(WHOLE * settings.slice_bytes)
        crew = Crew(
            folder=folder,
            workers=self._workers,
            start_method=settings.start_method,
            budget=budget,
            file_timeout=settings.file_timeout,
            tell=self._tell,
            first=self._host,
        )
        try:
            yield crew
        finally:
            crew.close()

    def _tables(self, planned: Planned, crew: Crew, found: Manifest) -> list[TableSchema]:
        tables = Profiling(
            planned=planned,
            crew=crew,
            settings=self._settings,
            target=self._target,
            on_event=self._on_event,
            check_stop=self._check_stop,
        ).tables()
        schemas.check_where(tables, self._settings)
        self._tell_of_connections(tables)
        self._tell_of_headers(tables)
        for sentence in planned.unfilled:
            self._tell("warning", sentence)
        for sentence in schemas.idle_options(tables, self._settings, all_files=bool(tables) and not planned.decisions):
            self._tell("warning", sentence)
        return turns.hold_back(planned, tables, found)

    @property
    def _connections(self) -> int:
        return (self._settings.connections or CONNECTIONS) if self._target.parallel else 1

    def _tell_of_connections(self, tables: Sequence[TableSchema]) -> None:
        """Say why files are put in one at a time, where more were asked for."""
        asked = f"--connections {self._settings.connections} changes nothing"
        if self._settings.connections > 1 and not self._target.parallel:
            self._tell("warning", f"{asked}: {self._target.title} has one writer at a time")
        elif self._settings.connections > 1 and self._settings.key and len(tables) == 1:
            self._tell(
                "warning", f"{asked}: with --mode {self._settings.mode} the files of a table go one after the other"
            )
        for table in tables:
            if self._connections > 1 and table.state.shape is not None and table.state.shape.refers:
                self._tell("info", f"{table.key} has foreign keys, so its files are put in one after the other")

    def _tell_of_headers(self, tables: Sequence[TableSchema]) -> None:
        """Say for which tables records decided that there is no header: nobody named their columns."""
        for table in tables:
            files = [w.source.display for one in table.groups for w in one.work if w.header and w.header.guessed]
            if files:
                more = f" and {len(files) - 1} more files of {table.key} have" if files[1:] else " has"
                self._tell(
                    "warning",
                    f"{files[0]}{more} no header, by the records: columns are called column_1, column_2, …; "
                    "--header 1 takes the first record for one, --header none says that it is right",
                )

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """The writer's lock, for what the main process writes while there is a writer."""
        return self._writing.locked() if self._writing is not None else contextlib.nullcontext()

    def _persist(self, work: Callable[[bool], T]) -> T:
        """Do what this process itself writes; again, if the server was in the way, as long as nobody stops us."""
        told: list[str] = []

        def wait(fault: Fault, error: Exception, seconds: float) -> None:
            self._check_stop()
            if not told:
                told.append(self._target.worded_fault(fault, error))
                self._tell("warning", f"{told[0]}; trying again")
            end = time.monotonic() + seconds
            while not self._stop.count and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, LOOK))
            self._check_stop()

        with self._target.worded():
            return persist(self._target, work, wait)

    def _check_stop(self) -> None:
        if self._stop.count:
            raise _Stopped

    # load --------------------------------------------------------------------------------------------------

    def load(self) -> RunReport:
        """Do it."""
        found = self._scan()
        new = not self._target.exists()
        self._opened(new)
        if not found.sources:
            return self._report(None, new, found, [], Exit.OK)
        with self._closing(), self._target.worded(), self._target.lease(self._settings.wait):
            return self._leased(found, new)

    def _leased(self, found: Manifest, new: bool) -> RunReport:
        run_id, self._stuck = preparing.open_ledger(self._target, self._settings, self._paths, self._tell)
        base = Path(self._settings.spool) if self._settings.spool else self._target.spool_base()
        try:
            with spool.run_folder(base) as folder, self._new_crew(folder) as crew:
                return self._loaded(run_id, found, new, crew, folder)
        except BaseException as error:
            with contextlib.suppress(Exception):
                code = Exit.UNREACHABLE if isinstance(error, DatabaseUnreachable) else Exit.ERROR
                self._finish(run_id, RunState.FINISHED, code, _error_text(error))
            raise
        finally:
            if self._writing is not None:
                self._writing.close(kill=self._stop.count > 1)

    def _start_processes(self, run_id: int, crew: Crew) -> None:
        crew.start()
        self._start_writing(run_id)

    def _start_writing(self, run_id: int) -> None:
        if self._writing is not None:
            return
        self._writing = Writing(
            database=self._database,
            run_id=run_id,
            start_method=self._settings.start_method,
            connections=self._connections,
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
                stuck=self._stuck,
                on_pending=lambda: self._start_processes(run_id, crew),
            )
            tables = self._tables(planned, crew, found)
            for table in tables:
                for level, sentence in drift.notices(table):
                    self._tell(level, sentence)
            self._check_stop()
            # Files may have been looked at for long, and the server been restarted meanwhile.
            self._persist(lambda again: preparing.check(self._target, run_id))
            with self._alone():
                shapes = preparing.make_tables(self._target, self._settings, run_id, planned, tables)
                staged = preparing.make_staging(self._target, run_id, planned, tables, shapes)
                into = shapes | staged
                known = (self._target, self._settings, run_id, planned)
                rows = self._persist(lambda again: preparing.register(*known, into))
                undone = self._persist(lambda again: preparing.take_back(*known))
            for path, sentence in undone:
                self._tell("warning", f"{path}: {sentence}", path)
            if planned.work and (advice := self._target.advice(list(shapes.values()))):
                self._tell("warning", advice)
            self._target.close()
            for decision in planned.decisions:
                self._outcome(_outcome_of(decision))
            if planned.work:
                self._check_space(crew, planned, shapes | staged, folder)
                assert self._writing is not None
                unfinished = self._run_loading(crew, planned, tables, shapes | staged, rows, writing=self._writing)
                stopped = bool(self._stop.count)
            if not stopped:
                self._replace(run_id, planned, found, shapes, staged)
                used = {*staged, *(outcome.table for outcome in self._outcomes if outcome.state == "loaded")}
                for unused in [t.state.table for t in tables if t.is_new and t.key in shapes and t.key not in used]:
                    with self._alone():
                        self._persist(functools.partial(preparing.drop_unused, self._target, run_id, unused))
        except _Stopped:
            stopped = True
            ended = {outcome.path for outcome in self._outcomes}
            unfinished = [work for work in planned.work if work.source.path not in ended]
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
        *,
        writing: Writing | Rehearsal,
    ) -> list[Work]:
        loading = Loading(
            crew=crew,
            writing=writing,
            settings=self._settings,
            stop=self._stop,
            on_outcome=self._outcome,
            on_progress=self._on_event,
        )
        loading.add_empty([w for w in planned.work if w.header and not w.header.has_data], rows, shapes)
        for table in tables:
            if not table.groups:
                continue  # it was refused while it was made
            shape = shapes[table.key]
            for work, layout in self._in_turn(planned, table, shape):
                way = "" if writing.dry else self._target.way(shape, [c for c in layout.columns if c is not None])
                if way:
                    self._tell("info", f"rows go into {shape.table} {way}")
                loading.add(work, rows, layout)
        loading.run()
        return list(loading.unfinished)

    def _in_turn(self, planned: Planned, table: TableSchema, shape: TableShape) -> Iterator[tuple[list[Work], Layout]]:
        """The files of a table in the order in which they are to be read, as long as they have the same header."""
        layouts = [schemas.load_layout(table, one, shape, self._settings, self._target) for one in table.groups]
        if table.merge is None:
            for one, layout in zip(table.groups, layouts, strict=True):
                yield reading_order(one.work, self._settings), layout
            return
        of = {w.path_key: layout for one, layout in zip(table.groups, layouts, strict=True) for w in one.work}
        mine = [work for work in planned.work if work.path_key in of]
        for layout, works in itertools.groupby(mine, key=lambda w: of[w.path_key]):
            yield list(works), layout

    def _replace(
        self,
        run_id: int,
        planned: Planned,
        found: Manifest,
        shapes: dict[str, TableShape],
        staged: dict[str, TableShape],
    ) -> None:
        """Tables that were filled anew take the place of the old ones, each if all its files are in it."""
        for key, staging in staged.items():
            table = planned.tables[key].table
            mine = [outcome for outcome in self._outcomes if outcome.table == key]
            missing = [outcome for outcome in mine if outcome.state not in ("loaded", "skipped")]
            if missing:
                self._incomplete = True
                self._tell(
                    "warning",
                    f"the table {key} is as it was: {len(missing)} of {len(mine)} files could not be loaded"
                    + (f"; the others wait in {staging.table}" if len(missing) < len(mine) else ""),
                )
                continue
            # What another file holds as well, and was left out, is in no table.
            held = {o.path for o in mine if (o.state, o.code) != ("skipped", Reason.DUPLICATE)}
            paths = [source.path for source in found.sources if source.path in held]
            keys = tuple((manifest.identity(staging.table, path), manifest.identity(table, path)) for path in paths)
            self._start_writing(run_id)
            assert self._writing is not None
            order = Replace(order=self._writing.number(), shape=shapes[key], staging=staging, keys=keys)
            answer = self._writing.do(order, stopped=lambda: bool(self._stop.count))
            if answer is None:
                raise _Stopped
            if not isinstance(answer, Failed):
                with self._alone():
                    self._drop_staging(run_id, staging.table)
            elif answer.fatal:
                raise answer.error
            else:
                self._incomplete = True
                why = " ".join(filter(None, (answer.failure.message, answer.failure.hint)))
                self._tell("warning", f"the table {key} is as it was: {why}")

    def _drop_staging(self, run_id: int, staging: TableName) -> None:
        self._persist(lambda again: preparing.drop_staging(self._target, run_id, staging))

    def _check_space(self, crew: Crew, planned: Planned, shapes: dict[str, TableShape], folder: Path) -> None:
        """Say that the spool cannot hold what it must before anything is written."""
        settings = self._settings
        largest = max(
            (
                work.bytes_left
                if settings.key or (shape := shapes.get(str(work.table))) is None or not shape.lineage or work.in_one
                else min(work.bytes_left, settings.commit_bytes + int(WHOLE * settings.slice_bytes))
            )
            for work in planned.work
        )
        crew.allow(largest)
        # A step for each of the files that are decoded at once.
        decoded = min(decoded_at_once(self._workers), sum(not work.seekable for work in planned.work))
        crew.allow(crew.budget + max(0, decoded - 1) * settings.commit_bytes)
        need = min(crew.budget, sum(work.bytes_left for work in planned.work)) * 3 // 2
        free = spool.free_bytes(folder)
        if free < need:
            raise UsageError(
                f"the spool in {folder.parent} needs about {need // 10**6 + 1} MB, and {free // 10**6} MB are free.",
                hint="Give --spool a folder with more room, or smaller --commit-bytes.",
            )

    # the end -----------------------------------------------------------------------------------------------

    def _exit_code(self) -> int:
        states = {outcome.state for outcome in self._outcomes}
        if self._incomplete or states & {"refused", "failed", "unfinished"}:
            return Exit.INCOMPLETE
        return Exit.REJECTS if any(outcome.rejected for outcome in self._outcomes) else Exit.OK

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
            rows_superseded=sum(o.superseded for o in self._outcomes),
            rows_ignored=sum(o.ignored for o in self._outcomes),
            bytes_read=sum(o.bytes for o in self._outcomes if o.state == "loaded"),
        )
        if self._writing is not None:
            self._writing.close(kill=self._stop.count > 1)
            self._writing = None
        if self._stop.count > 1:
            return  # at once: no waiting for a lock on the database; the next run writes down that this one has gone

        def finish(again: bool) -> None:
            with self._target.begin() as connection:
                run = ledger.run(connection, run_id, lock=True) if again else None
                if run is None or run.state is not state:
                    ledger.finish_run(connection, run_id, state=state, exit_code=code, totals=totals, error=error)

        if error is not None:
            finish(False)
            return
        try:
            self._persist(finish)
        except (DatabaseUnreachable, _Stopped):
            if not self._stop.count:
                raise
            self._tell("warning", "the server is away: that this run was stopped is left for the next one to note")

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
        state="skipped" if decision.action is Action.SKIP else state_of(decision.code).value,
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


def _error_text(error: BaseException) -> str:
    """What the ledger keeps of an error: our own words, or no more than its kind."""
    return str(error) if isinstance(error, IngestError) else type(error).__name__
