"""What the ledger says, for `status`, `runs`, `rejects`, `forget` and `ledger`.

Opens the database to read and never creates one; only `forget` and `ledger_upgrade` write, under the lease. Decides
nothing about files and prints nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingest import archives, discards, ledger, naming, rejectfile, tails
from ingest.errors import UsageError
from ingest.model import FileState, Mode, RunState
from ingest.rows import FileRow, RejectRow, RunRow
from ingest.settings import database_url, typed
from ingest.targets import target_for

if TYPE_CHECKING:
    from ingest.targets.base import Target


_FILES = "ingest status --json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """What the files of one table add up to."""

    table: str
    made_by_us: bool | None  #: None: the ledger knows files for it, but not yet the table
    files: dict[str, int]  #: how many files are in each state
    rows_loaded: int
    rows_rejected: int
    rows_discarded: int
    rows_superseded: int = 0
    rows_ignored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that was ever loaded into one database, or refused."""

    database: str  #: the URL without its secrets
    tables: tuple[TableStatus, ...]
    files: tuple[FileRow, ...]
    vanished: tuple[str, ...]  #: loaded once, and no longer where they were


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """One run, and the files that no later run has touched since."""

    run: RunRow
    files: tuple[FileRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRecord:
    """One record that was set aside, with the path of its file."""

    file: str
    line: int  #: physical line where it starts, from 1
    byte: int  #: offset of its first byte, in the decoded stream
    record: int  #: from 0 within the file
    column: str | None
    reason: str
    message: str
    raw: str
    applied: bool  #: True: its file was loaded without it; False: its file was refused
    reject_id: int
    closed_run_id: int | None = None  #: the run that loaded it back, mended; None: it is open
    before_stays: bool = False  #: what was refused had been added to its file, or changed: the rows of before stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Rejects to be mended."""

    headers: Sequence[rejectfile.Written]  #: of their files
    rejects: Iterator[rejectfile.Open]
    refused: int  #: how many of the files, or of what was added to them, were refused: to be mended themselves


def database_label(to: str | None, *, ledger_schema: str | None = None) -> str:
    """The URL as it may be shown. Opens nothing."""
    return target_for(database_url(to), ledger_schema=ledger_schema).label


def status(to: str | None, *, ledger_schema: str | None = None) -> Status:
    """Files, tables and what has vanished."""
    with _reading(to, ledger_schema) as (target, connection):
        files = ledger.files(connection)
        made = {name: row.made_by_us for name, row in ledger.tables(connection).items()}
        sums = ledger.sums(connection)
    return Status(
        database=target.label,
        tables=tuple(
            TableStatus(
                table=name,
                made_by_us=made.get(name),
                files={state.value: count for state, count in of.files.items()},
                rows_loaded=of.rows_loaded,
                rows_rejected=of.rows_rejected,
                rows_discarded=of.rows_discarded,
                rows_superseded=of.rows_superseded,
                rows_ignored=of.rows_ignored,
            )
            for name, of in sorted(sums.items())
        ),
        files=tuple(files),
        vanished=tuple(row.path for row in files if row.state is FileState.LOADED and not archives.there(row.path)),
    )


def story(to: str | None, file: str, *, ledger_schema: str | None = None) -> list[str]:
    """What happened to one file, in sentences; to each of its tables, if it was loaded into several."""
    with _reading(to, ledger_schema) as (target, connection):
        rows = _named(ledger.files(connection), file, typed(_FILES, to, target.label))
        kept = {row.file_id: list(ledger.rejects(connection, file_id=row.file_id)) for row in rows}
        past = ledger.runs(connection)
    return [sentence for row in rows for sentence in _tell(row, kept[row.file_id], past, to, target.label)]


def runs(to: str | None, *, ledger_schema: str | None = None) -> list[RunRow]:
    """The past runs, newest first."""
    with _reading(to, ledger_schema) as (_, connection):
        return ledger.runs(connection)


def run(to: str | None, run_id: int, *, ledger_schema: str | None = None) -> RunStory:
    """One run. Raises UsageError if there was none of that number."""
    with _reading(to, ledger_schema) as (target, connection):
        row = ledger.run(connection, run_id)
        if row is None:
            see = typed("ingest runs", to, target.label)
            raise UsageError(f"there is no run {run_id} in {target.label}.", hint=f"See them with: {see}")
        return RunStory(run=row, files=tuple(f for f in ledger.files(connection) if f.run_id == run_id))


def rejects(
    to: str | None, file: str | None = None, *, ledger_schema: str | None = None, closed: bool = False
) -> Iterator[RejectedRecord]:
    """The rejects of one file, or of all, as the ledger keeps them; reads them as they are asked for.

    `closed`: those too that were mended and loaded back.
    """
    with _reading(to, ledger_schema) as (target, connection):
        rows = ledger.files(connection)
        see = typed(_FILES, to, target.label)
        files = {row.file_id: row for row in rows}
        wanted: list[int | None] = [None] if file is None else [row.file_id for row in _named(rows, file, see)]
        for file_id in wanted:
            for reject in ledger.rejects(connection, file_id=file_id, still_open=not closed):
                yield _rejected(files.get(reject.file_id), reject)


@contextmanager
def exported(to: str | None, *, ledger_schema: str | None = None) -> Iterator[Export]:
    """The open rejects of all files, to be written out and mended; read as they are asked for, within the block."""
    with _reading(to, ledger_schema) as (_, connection):
        rows = {row.file_id: row for row in ledger.files(connection)}
        given = ledger.files_with_open_rejects(connection)
        of = sorted(given.keys() & rows.keys())
        found = (reject for reject in ledger.rejects(connection, still_open=True) if reject.file_id in rows)
        yield Export(
            headers=[rejectfile.Written.of(rows[file_id].header) for file_id in of],
            rejects=(rejectfile.opened(reject, rows[reject.file_id]) for reject in found),
            refused=sum(1 for file_id in of if rows[file_id].state is not FileState.LOADED or not given[file_id]),
        )


def meant(to: str | None, files: Sequence[str], *, ledger_schema: str | None = None) -> list[FileRow]:
    """What `forget` would drop of these files, by path: a row for each table that one is in. Raises as it does."""
    with _reading(to, ledger_schema) as (target, connection):
        rows, see = ledger.files(connection), typed(_FILES, to, target.label)
        found = {row.file_id: row for file in files for row in _named(rows, file, see)}
    return sorted(found.values(), key=lambda row: (row.path, row.table_name))


def forget(to: str | None, files: Sequence[str], *, ledger_schema: str | None = None, wait: float = 0) -> int:
    """Drop the ledger's memory of these files, and their rejects; their rows stay. How many were forgotten.

    Raises UsageError, and forgets none, if one of them is unknown or ambiguous; LeaseHeld if a run is active for
    longer than `wait` seconds.
    """
    target = _existing(to, ledger_schema)
    with closing(target), target.worded():
        with target.connect() as connection:
            _check_ledger(target, connection, to)  # before the lease, for which a server's ledger would be made
        with target.lease(wait), target.begin() as connection:
            _check_ledger(target, connection, to)
            rows, see = ledger.files(connection), typed(_FILES, to, target.label)
            ids = {row.file_id for file in files for row in _named(rows, file, see)}
            return ledger.forget(connection, sorted(ids))


def ledger_version(to: str | None, *, ledger_schema: str | None = None) -> tuple[str | None, str]:
    """The version of the ledger that is there (None: none), and the one that this program writes."""
    target = _existing(to, ledger_schema)
    with closing(target), target.worded(), target.connect() as connection:
        return ledger.version(connection), ledger.HEAD


def ledger_upgrade(to: str | None, *, ledger_schema: str | None = None, wait: float = 0) -> tuple[str | None, str]:
    """Bring the ledger to this program's version; the versions before and after. As `forget`, waits for the lease."""
    target = _existing(to, ledger_schema)
    with closing(target), target.worded():
        with target.connect() as connection:
            before = ledger.version(connection)  # a server's ledger is made for the lease, where there is none
        with target.lease(wait):
            return before, ledger.upgrade(target.engine)[1]


def _existing(to: str | None, ledger_schema: str | None) -> Target:
    target = target_for(database_url(to), ledger_schema=ledger_schema)
    if not target.exists():
        raise UsageError(
            f"there is no database at {target.label} yet.",
            hint="Load something first: ingest load PATH, or name another database with --to.",
        )
    return target


@contextmanager
def _reading(to: str | None, ledger_schema: str | None) -> Iterator[tuple[Target, Any]]:
    target = _existing(to, ledger_schema)
    with closing(target), target.worded(), target.connect() as connection:
        _check_ledger(target, connection, to)
        yield target, connection


def _check_ledger(target: Target, connection: Any, to: str | None) -> None:
    if not ledger.is_there(connection, target.label, typed(ledger.UPGRADE, to, target.label)):
        target.check_place(connection)
        raise UsageError(
            f"{target.label} holds no ledger: nothing was loaded into it by ingest.",
            hint="Load something first: ingest load PATH, or name another database with --to.",
        )


def _named(rows: Sequence[FileRow], file: str, see: str) -> list[FileRow]:
    """The rows of the one file that is meant: its exact path, or below the current folder, or a path's unique end.

    `see` is the command that shows them all.
    """
    for path in (file, os.path.abspath(file), os.path.realpath(file)):
        found = [row for row in rows if row.path == path]
        if found:
            return found
    end = "/" + file.removeprefix("./").lstrip("/")
    found = [row for row in rows if row.path.endswith(end)]
    paths = sorted({row.path for row in found})
    if not paths:
        raise UsageError(f"the ledger knows no file {file}.", hint=f"See the files with: {see}")
    if len(paths) > 1:
        raise UsageError(f"{file} can be {len(paths)} files: {naming.some(paths)}.", hint="Write more of the path.")
    return found


def _rejected(row: FileRow | None, reject: RejectRow) -> RejectedRecord:
    return RejectedRecord(
        file=row.path if row is not None else f"file {reject.file_id}",
        line=reject.line,
        byte=reject.byte_offset,
        record=reject.record,
        column=reject.column_name,
        reason=reject.reason,
        message=reject.message,
        raw=reject.raw,
        applied=reject.applied,
        reject_id=reject.reject_id,
        closed_run_id=reject.closed_run_id,
        before_stays=not reject.applied and row is not None and row.state is FileState.LOADED,
    )


def _tell(
    row: FileRow, rejects: Sequence[RejectRow], past: Sequence[RunRow], to: str | None, label: str
) -> Iterator[str]:
    closed = [one.closed_run_id for one in rejects if one.closed_run_id is not None]
    records = f"{row.rows_loaded:,} rows, {row.rows_rejected:,} rejected, {row.rows_discarded:,} discarded"
    if row.mode in (Mode.UPSERT, Mode.INSERT_IGNORE):
        records += f", {row.rows_superseded:,} superseded, {row.rows_ignored:,} ignored (--mode {row.mode})"
    left_out = f"Discarded: {discards.told(row.rows_discarded, row.discards)}." if row.rows_discarded else ""
    running = any(one.run_id == row.run_id and one.state is RunState.RUNNING for one in past)
    open_still = "and is at it, or was killed" if running else "and did not end it"
    match row.state:
        case FileState.LOADED:
            when = _time(row.loaded_at) if row.loaded_at else "an unknown time"
            yield f"{row.path} is loaded into {row.table_name}: {records}."
            # The row's own run may be a later one, that mended rejects, or loaded nothing of what it found changed.
            loader = next((one.run_id for one in past if row.loaded_at and one.started_at <= row.loaded_at), None)
            by = f" by run {loader}" if loader is not None else ""
            by += f", in attempt {row.attempts}" if loader == row.run_id else ""
            tail = tails.begins_at(row)
            what = "It was" if tail is None else f"It has grown: what follows its first {tail:,} bytes was"
            yield f"{what} loaded at {when}{by}."
            if closed:
                told = f"{len(closed):,} of its records were rejects first, and loaded when mended"
                yield f"{told}, last by run {max(closed)}."
        case FileState.STARTED if tails.as_before(row) is not row:
            yield f"{row.path} is loaded into {row.table_name}: {records}."
            yield f"Run {row.run_id} began at {_time(row.started_at)} to load what was added to it, {open_still}."
            yield "Nothing of it is in the table; the next load with --on-change append-tail does it."
        case FileState.STARTED:
            yield f"{row.path} is partly loaded into {row.table_name}: {records}, {row.committed_bytes:,} bytes of it."
            yield f"Run {row.run_id} began attempt {row.attempts} at {_time(row.started_at)}, {open_still}."
            yield "The next load goes on from there."
        case FileState.REFUSED | FileState.FAILED:
            yield f"{row.path} was {row.state.value}: nothing of it is in {row.table_name}."
            yield f"That was attempt {row.attempts}, by run {row.run_id}, begun at {_time(row.started_at)}."
            yield "The next load tries it again."
        case FileState.UNDOING:
            yield f"{row.path} is being taken out of {row.table_name} again; the next load finishes that first."
    if left_out:
        yield left_out
    if row.error:
        told = "The last attempt to load it again said" if row.state is FileState.LOADED else "The reason"
        yield f"{told} ({row.error_code or 'unknown'}): {row.error}"
    if row.deaths:
        yield f"Workers that read it died, {row.deaths} in a row."
    if kept := len(rejects) - len(closed):
        see = typed(f"ingest rejects list {shlex.quote(row.path)}", to, label)
        yield f"{kept:,} of its records are kept as rejects; see them with: {see}"
    yield f"The ledger knows it with {row.size:,} bytes" + (f" and SHA-256 {row.sha256}." if row.sha256 else ".")
    if not archives.there(row.path):
        yield "It is no longer there."
    elif os.path.exists(row.path):
        size = os.stat(row.path).st_size
        if size != row.size:
            yield f"On disk it has {size:,} bytes now: the next load treats it as a changed file."


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
