"""Rejects that people mended, put into the tables they were meant for: one run over one mended file.

Each reject is closed once. The records of one origin file are one order of the writer: their rows carry the number of
that file, and its counts go from the rejected ones to the loaded ones, in the transaction that closes the rejects. So
what was killed is repeated, and what was committed is known by its closed rejects. Records are read with the options
of the run that rejected them, and typed for the table as it is now. What the run's result is; not how rows are typed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest import ledger, planning, preparing, rejectfile, slicing, spool, worker
from ingest import schema as schemas
from ingest.errors import DatabaseUnreachable, TableError, UsageError
from ingest.failpoints import failpoint
from ingest.jobs import STAGE, Job, Layout, Member, Place, Result, Task
from ingest.model import Action, ColumnType, FileState, Header, Mode, Reason, RunState, Source
from ingest.orders import Apply, Constrained, Done, Failed
from ingest.recordtext import PLAIN, Cell, written
from ingest.reports import SIGNALS, Exit, StopRequest
from ingest.rows import Closing, FileRow, Move, RejectRow, RunRow, StillBad, TableRow, Totals
from ingest.settings import DeclaredType, Settings, database_url
from ingest.targets import Database
from ingest.targets.base import BatchRef, Target
from ingest.work import Planned, TableState, Work
from ingest.writing import Writing

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

log = logging.getLogger("ingest")

READ_WITH = (
    *("null", "decimal", "thousands", "rename", "names", "new_columns", "rescue_column", "max_field"),
    *("ragged", "empty_rows"),
    *("transform", "where", "mode", "key", "newest_by", "on_lost"),
)
"""Options of the run that rejected a record that it is read with again."""

LACKING = "Add a column of that name that takes values to the table, and run the same command again."
"""What to do about a column that the table has no longer: what a load hints at are options that only that has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmended:
    """A reject that stays open, though a record was given for it."""

    reject_id: int
    file: str
    line: int  #: of that file
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MendReport:
    """What became of a mended file."""

    run_id: int | None  #: None: there was nothing in it
    loaded: int
    discarded: int
    superseded: int
    ignored: int
    still_bad: tuple[Unmended, ...]
    refused: tuple[str, ...]  #: lines that nothing was done with, as sentences
    stopped_by: str | None
    exit_code: int


@dataclass(slots=True, kw_only=True)
class _Record:
    """A line of the mended file with the reject that it is for."""

    given: rejectfile.Given
    reject: RejectRow
    file: str
    cells: list[Cell] = field(default_factory=list)

    @property
    def text(self) -> str:
        return written(self.cells)

    def bad(self, code: str, message: str, column: str | None = None) -> StillBad:
        return StillBad(reject_id=self.reject.reject_id, code=code, message=message, column=column, mended=self.text)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The records of one origin file."""

    row: FileRow
    state: TableState
    settings: Settings
    written: rejectfile.Written
    records: list[_Record] = field(default_factory=list)
    still_bad: list[tuple[_Record, StillBad]] = field(default_factory=list)


class _Refused(Exception):
    """The records of one file cannot be loaded; the text says why."""


def mend(
    path: Path, settings: Settings, *, tell: Callable[[str, str], None], stop: StopRequest | None = None
) -> MendReport:
    """Load a mended file of rejects back. `tell` is given a level and a text.

    What is wrong with a line is in the report. Raises UsageError for a file that no export wrote, or where there is no
    database or ledger, and DatabaseUnreachable, LeaseHeld or LedgerError as a load does.
    """
    return _Mending(path, settings, tell, stop or StopRequest()).run()


class _Mending:
    def __init__(self, path: Path, settings: Settings, tell: Callable[[str, str], None], stop: StopRequest) -> None:
        self._path = path
        self._settings = settings
        self._tell = tell
        self._stop = stop
        self._database = Database(
            url=database_url(settings.to), bulk=settings.bulk == "auto", ledger_schema=settings.ledger_schema
        )
        self._target: Target = self._database.target()
        self._writing: Writing | None = None
        self._refused: list[tuple[int, str]] = []
        self._unmended: list[Unmended] = []
        self._counts: Counter[str] = Counter()

    def run(self) -> MendReport:
        mended = rejectfile.read_mended(self._path)
        target = self._target
        with contextlib.closing(target), target.worded():
            if not target.exists():
                raise UsageError(f"there is no database at {target.label} yet.", hint="Name another one with --to.")
            with target.connect() as connection:
                if ledger.version(connection) is None:
                    target.check_place(connection)
                    raise UsageError(f"{target.label} holds no ledger.", hint="Name another database with --to.")
            if target.caution:
                self._tell("warning", target.caution)
            if not mended.lines:
                return self._report(None, Exit.OK)
            with target.lease(self._settings.wait):
                return self._leased(mended)

    def _leased(self, mended: rejectfile.Mended) -> MendReport:
        run_id, _ = preparing.open_ledger(self._target, self._settings, [self._path], self._tell)
        base = Path(self._settings.spool) if self._settings.spool else self._target.spool_base()
        try:
            with spool.run_folder(base) as folder:
                with self._target.connect() as connection:
                    batches = self._batches(connection, mended)
                self._target.close()
                for number, batch in enumerate(batches):
                    if self._stop.count:
                        break
                    self._load(run_id, batch, str(folder / f"m{number}"))
            failpoint("after_mending")
            code = SIGNALS.get(self._stop.signal or "", 130) if self._stop.count else self._exit_code()
            self._finish(run_id, RunState.STOPPED if self._stop.count else RunState.FINISHED, code)
        except BaseException as error:
            with contextlib.suppress(Exception):
                code = Exit.UNREACHABLE if isinstance(error, DatabaseUnreachable) else Exit.ERROR
                self._finish(run_id, RunState.FINISHED, code, type(error).__name__)
            raise
        finally:
            if self._writing is not None:
                self._writing.close(kill=True)
        return self._report(run_id, code)

    # which records are for which rejects -------------------------------------------------------------------

    def _batches(self, connection: Connection, mended: rejectfile.Mended) -> list[_Batch]:
        """The records by their origin files, in the order of these; refuses lines by name."""
        numbers = [number for given in mended.lines if (number := given.number) is not None]
        rejects = ledger.rejects_by_id(connection, sorted(set(numbers)))
        rows = {row.file_id: row for row in ledger.files(connection)}
        tables = ledger.tables(connection)
        twice = {number for number, count in Counter(numbers).items() if count > 1}
        batches: dict[int, _Batch | str] = {}
        for given in mended.lines:
            reject = rejects.get(given.number or 0)
            row = rows.get(reject.file_id) if reject is not None else None
            if reject is None or row is None:
                self._refuse(given, f"the ledger knows no reject {given.reject_id!r}; export the rejects again")
                continue
            why = _unfit(given, reject, row, twice)
            if why:
                self._refuse(given, why)
                continue
            if row.file_id not in batches:
                batches[row.file_id] = self._batch(connection, row, tables.get(row.table_name), reject)
            batch = batches[row.file_id]
            if isinstance(batch, str):
                self._refuse(given, batch)
            else:
                self._take(batch, mended, given, reject)
        return [batch for _, batch in sorted(batches.items()) if isinstance(batch, _Batch) and batch.records]

    def _batch(self, connection: Connection, row: FileRow, known: TableRow | None, reject: RejectRow) -> _Batch | str:
        """A file that rejects are of, and its table; or why nothing can be loaded into that."""
        settings = _as_it_was(self._settings, ledger.run(connection, reject.run_id))
        if settings.transform:
            return (
                f"{row.path} was loaded by --transform {settings.transform}, and with which types that was called is "
                "not kept: mend the file itself, and load it with --on-change reload"
            )
        try:
            state = planning.table_state(self._target, connection, self._target.table_of(row.table_name), known)
        except TableError as error:
            return error.message
        lost = state.shape is None or (known is not None and known.made_by_us and not state.made_by_us)
        if not lost and settings.on_lost != "ignore" and row.rows_loaded:
            lost = not self._target.has_rows(connection, state.table)
        if lost:
            return f"the table {row.table_name} was dropped, made anew or emptied since; ingest load tells what to do"
        if settings.key:
            state.unique = self._target.unique_keys(connection, state.table)
        return _Batch(row=row, state=state, settings=settings, written=rejectfile.Written.of(row.header))

    def _take(self, batch: _Batch, mended: rejectfile.Mended, given: rejectfile.Given, reject: RejectRow) -> None:
        """One record of a file: whether it has the right number of fields can be told at once."""
        names = batch.written.names
        lacking = next((name for name in names if name not in mended.columns), None)
        if lacking is not None:
            self._refuse(given, f"the column {lacking!r} of {batch.row.path} is not in its header")
            return
        record = _Record(given=given, reject=reject, file=batch.row.path)
        cells = rejectfile.opened(reject, batch.row).given(given.cells, mended.columns, mended.width)
        if isinstance(cells, str):
            self._still(record, reject.reason, cells)
            return
        record.cells = cells
        batch.records.append(record)
        count = 0 if cells == [Cell("")] else len(cells)
        # Empty fields beyond the last column are cut off when it is read, as they were when the file was loaded.
        beyond = (c for c in cells[len(names) :] if c.text and (c.quoted or c.text not in batch.written.null))
        fitted = batch.settings.rules.pad if count < len(names) else batch.settings.rules.rescue or not any(beyond)
        if count != len(names) and not (fitted and count):
            fields = "1 field" if count == 1 else f"{count} fields"
            why = record.bad(Reason.RAGGED, f"has {fields}, expected {len(names)}")
            batch.still_bad.append((record, why))

    def _refuse(self, given: rejectfile.Given, why: str) -> None:
        self._refused.append((given.line, f"{self._path}:{given.line}: {why}"))

    def _still(self, record: _Record, code: str, message: str) -> None:
        self._unmended.append(
            Unmended(
                reject_id=record.reject.reject_id,
                file=record.file,
                line=record.reject.line,
                reason=str(code),
                message=message,
            )
        )

    # one origin file ---------------------------------------------------------------------------------------

    def _load(self, run_id: int, batch: _Batch, stem: str) -> None:
        bad = {id(record) for record, _ in batch.still_bad}
        # However the lines of the mended file are sorted: which of two records with one key stays, their file tells.
        batch.records.sort(key=lambda record: record.reject.record)
        records = [record for record in batch.records if id(record) not in bad]
        try:
            order, rows = self._staged(batch, records, stem)
            self._do(run_id, batch, order, rows)
        except _Refused as refused:
            for record in batch.records:
                self._refuse(record.given, str(refused))

    def _staged(self, batch: _Batch, records: list[_Record], stem: str) -> tuple[Apply, list[_Record]]:
        """The order for these records, typed and staged; and the record of each row."""
        row = batch.row
        result, shape, layout, place = None, None, None, None
        if records:
            source = _spooled(f"{stem}.csv", row.path, records)
            layout = self._layout(batch, source)
            shape = layout.shape
            assert shape is not None
            job = Job(
                job_id=1,
                kind=STAGE,
                members=(Member(source=source, header=_header(batch.written.names), file_id=row.file_id),),
                layout=layout,
                start=0,
                slice_bytes=source.size,
                whole=True,
                lineage=shape.lineage,
                numbered=shape.numbered,
                record_numbers=tuple(record.reject.record for record in records),
            )
            task = Task(job=job, slice=slicing.whole(source, job.members[0].header), prefix_sha256="", stem=stem)
            result = worker.run(task)
            if result.failure is not None:
                log.debug("%s\n%s", result.failure.message, result.failure.trace)
                raise _Refused(f"{result.failure.message} {result.failure.hint}".rstrip())
            if result.records != len(records):
                raise _Refused(f"{len(records)} records were read as {result.records}; please report it")
            place = Place(
                source=source,
                slice=task.slice,
                dialect=PLAIN,
                exact=result.exact,
                kept=result.kept,
                first_line=0,
                first_record=0,
            )
            batch.still_bad += [
                (records[one["record"]], records[one["record"]].bad(one["code"], one["message"], one["column"]))
                for one in _told(result.rejects_path)
            ]
        rows = _rows(records, result)
        loaded = len(rows)
        discarded = result.discarded if result is not None else 0
        bad = {id(record) for record, _ in batch.still_bad}
        move = Move(
            file_id=row.file_id,
            version=row.version,
            epoch=row.epoch,
            from_bytes=row.committed_bytes,
            to_bytes=row.committed_bytes,
            records=0,
            rows=loaded,
            rejected=-(loaded + discarded),
            discarded=discarded,
            prefix_sha256=row.prefix_sha256,
            done=True,
        )
        batches: tuple[BatchRef, ...] = ()
        if result is not None and result.staged is not None:
            batches = (BatchRef(staged=result.staged, rows=result.rows, place=place),)
        order = Apply(
            order=0,
            shape=shape if batches else None,
            batches=batches,
            moves=(move,),
            table_name=row.table_name,
            merge=layout.merge if layout is not None else None,
            closing=Closing(
                closed=tuple((r.reject.reject_id, r.text) for r in records if id(r) not in bad),
                still_bad=tuple(one for _, one in batch.still_bad),
            ),
        )
        return order, rows

    def _layout(self, batch: _Batch, source: Source) -> Layout:
        """Where the columns go, as for any file of this table."""
        row, state = batch.row, batch.state
        work = Work(
            source=source,
            table=state.table,
            path_key=row.path_key,
            action=Action.LOAD,
            code=Reason.NEW,
            sentence="",
            header=_header(batch.written.names),
        )
        planned = Planned(work=[work], tables={state.key: state})
        groups = schemas.group(planned, batch.settings)
        for table in groups:
            schemas.match(planned, table, batch.settings, self._target)
        if planned.decisions or not groups or not groups[0].groups:
            decision = planned.decisions[0]
            hint = LACKING if decision.code == Reason.NEW_COLUMNS else decision.hint
            raise _Refused(f"{decision.sentence}. {hint}".rstrip())
        shape = state.shape
        assert shape is not None
        return schemas.load_layout(groups[0], groups[0].groups[0], shape, batch.settings, self._target)

    def _do(self, run_id: int, batch: _Batch, order: Apply, rows: list[_Record]) -> None:
        """Have the order done; again without the rows that the table refuses, which stay open."""
        writing = self._writer(run_id)
        order = dataclasses.replace(order, order=writing.number())
        while True:
            answer = writing.do(order, stopped=lambda: bool(self._stop.count))
            if answer is None:
                return  # stopped while the server was away: the rejects say what was committed
            if not isinstance(answer, Constrained):
                break
            order = self._without(batch, order, answer, rows)
            order = dataclasses.replace(order, order=writing.number())
        if isinstance(answer, Failed):
            if answer.fatal:
                raise answer.error
            raise _Refused(f"{answer.failure.message} {answer.failure.hint}".rstrip())
        assert isinstance(answer, Done)
        (move,) = answer.moves or order.moves
        if answer.landed and answer.moves:
            move = move.since(batch.row)
        self._counts.update(
            loaded=move.rows, discarded=move.discarded, superseded=move.superseded, ignored=move.ignored
        )
        for record, bad in batch.still_bad:
            self._still(record, bad.code, bad.message)

    @staticmethod
    def _without(batch: _Batch, order: Apply, answer: Constrained, rows: list[_Record]) -> Apply:
        """The order without the rows that the table has refused."""
        assert order.closing is not None
        told = list(_told(answer.rejects.path if answer.rejects is not None else None))
        refused = [rows[number - 1] for number in sorted(answer.rows)]  # both in the order of the records
        found = [
            (record, record.bad(one["code"], one["message"], one["column"]))
            for record, one in zip(refused, told, strict=True)
        ]
        batch.still_bad += found
        gone = {record.reject.reject_id for record in refused}
        closing = Closing(
            closed=tuple(one for one in order.closing.closed if one[0] not in gone),
            still_bad=(*order.closing.still_bad, *(bad for _, bad in found)),
        )
        (move,) = order.moves
        return dataclasses.replace(
            order,
            left_out=(*(order.left_out or ()), *answer.rows),
            moves=(dataclasses.replace(move, rows=move.rows - len(gone), rejected=move.rejected + len(gone)),),
            closing=closing,
        )

    def _writer(self, run_id: int) -> Writing:
        if self._writing is None:
            self._writing = Writing(
                database=self._database,
                run_id=run_id,
                start_method=self._settings.start_method,
                connections=1,
                tell=self._tell,
            )
        return self._writing

    # the end -----------------------------------------------------------------------------------------------

    def _exit_code(self) -> int:
        if self._refused:
            return Exit.INCOMPLETE
        return Exit.REJECTS if self._unmended else Exit.OK

    def _finish(self, run_id: int, state: RunState, code: int, error: str | None = None) -> None:
        if self._writing is not None:
            self._writing.close(kill=self._stop.count > 1)
            self._writing = None
        totals = Totals(
            rows_loaded=self._counts["loaded"],
            rows_rejected=len(self._unmended),
            rows_discarded=self._counts["discarded"],
            rows_superseded=self._counts["superseded"],
            rows_ignored=self._counts["ignored"],
        )
        with self._target.begin() as connection:
            ledger.finish_run(connection, run_id, state=state, exit_code=code, totals=totals, error=error)

    def _report(self, run_id: int | None, code: int) -> MendReport:
        return MendReport(
            run_id=run_id,
            loaded=self._counts["loaded"],
            discarded=self._counts["discarded"],
            superseded=self._counts["superseded"],
            ignored=self._counts["ignored"],
            still_bad=tuple(self._unmended),
            refused=tuple(text for _, text in sorted(self._refused)),
            stopped_by=self._stop.signal if self._stop.count else None,
            exit_code=code,
        )


def _unfit(given: rejectfile.Given, reject: RejectRow, row: FileRow, twice: set[int]) -> str:
    """Why nothing can be loaded for a reject; "" if it can."""
    number, path = reject.reject_id, rejectfile.spelled(row.path)
    if number in twice:
        return f"reject {number} comes twice, and one record can be loaded for it"
    if (given.file, given.of_line) != (path, str(reject.line)):
        return (
            f"reject {number} is of {path}:{reject.line} here, not of {given.file}:{given.of_line}: it is of another "
            "ledger, or its file was moved or loaded again since; export the rejects again"
        )
    if reject.closed_run_id is not None:
        return f"reject {number} is closed already: run {reject.closed_run_id} loaded a record for it"
    if row.state in (FileState.STARTED, FileState.UNDOING):
        return f"{row.path} is not loaded to its end; run its load again first"
    if not reject.applied and row.state is FileState.LOADED:
        return (
            f"what is new in {path} was refused, and its rows of before stay: mend the file itself, and load it with "
            "the same --on-change"
        )
    if row.state is not FileState.LOADED:
        return f"{row.path} was refused, so nothing of it is loaded: mend the file itself, and load it"
    return ""


def _as_it_was(settings: Settings, run: RunRow | None) -> Settings:
    """The settings with what decided how a record was read; columns that the table has lost are not made again."""
    kept: dict[str, Any] = json.loads(run.options) if run is not None else {}
    given = {name: _frozen(kept[name]) for name in READ_WITH if name in kept}
    # Of declared types only how dates were written: the table's own types may have changed since.
    spelled = [one for one in kept.get("declared") or [] if isinstance(one, dict) and one.get("spelling")]
    given["declared"] = tuple(DeclaredType(**one | {"type": ColumnType(one["type"])}) for one in spelled)
    if given.get("new_columns", "add") == "add":
        given["new_columns"] = "refuse"
    if given.get("mode") == Mode.REPLACE:
        given["mode"] = Mode.APPEND.value
    return dataclasses.replace(settings, **given)


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _header(names: tuple[str, ...]) -> Header:
    return Header(dialect=PLAIN, names=names, data_start=0)


def _spooled(path: str, of: str, records: Sequence[_Record]) -> Source:
    """The records as a file of their own, which is called as the one that they are of."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.writelines(f"{record.text}\n" for record in records)
    found = os.stat(path)
    return Source(
        path=path,
        display=of,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        scanned_ns=time.time_ns(),
    )


def _told(path: str | None) -> Iterator[Mapping[str, Any]]:
    """Rejects that were written to the spool."""
    if path is not None:
        with open(path, encoding="ascii") as file:
            yield from map(json.loads, file)


def _rows(records: list[_Record], result: Result | None) -> list[_Record]:
    """The record of each staged row."""
    if result is None or not result.rows:
        return []
    return records if result.kept is None else [records[number] for number in np.load(result.kept).tolist()]
