"""What a run writes before its first row: the ledger, the run, the tables, and every attempt ahead of itself.

All DDL of ours is here, each after an intent in the ledger that a crash cannot take back.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ingest import ledger, manifest, parts, tails
from ingest import schema as schemas
from ingest.errors import LedgerError, TableError
from ingest.failpoints import failpoint
from ingest.model import FileState, Reason, Source, TableName, TableShape
from ingest.rows import FileRow, NewFile, Touched
from ingest.schema import TableSchema
from ingest.settings import Settings, typed
from ingest.targets.base import Target
from ingest.units import state_of
from ingest.work import Planned, TableState, Work, refuse_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def open_ledger(
    target: Target, settings: Settings, paths: Sequence[str | os.PathLike[str]], tell: Callable[[str, str], None]
) -> tuple[int, dict[int, TableError]]:
    """The ledger, made or upgraded; the runs that were killed, fenced off; this run, written down.

    Returns its number, and why some files cannot be loaded now: of these, rows are still to be taken back.
    """
    with target.begin() as connection:
        have = ledger.version(connection)
        if have is None:
            ledger.create(connection)
    if have not in (None, ledger.HEAD):
        ledger.upgrade(target.engine)
    failpoint("after_ledger")
    with target.begin() as connection:
        for abandoned in ledger.take_over(connection):
            tell("info", f"run {abandoned} was killed; going on where it was")
        run_id = ledger.start_run(
            connection,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=_version(),
            options=_options(settings, paths),
        )
    stuck = _mend(target, settings, run_id, tell)
    _drop_emptied(target, run_id)
    failpoint("after_start_run")
    return run_id, stuck


def _mend(target: Target, settings: Settings, run_id: int, tell: Callable[[str, str], None]) -> dict[int, TableError]:
    """Finish what a killed run was taking back, and forget the tails that it had begun: nothing of them is there.

    A file whose rows cannot be taken back stays as it is, and is told of: why, by `file_id`. The others go on.
    """
    stuck: dict[int, TableError] = {}
    with target.begin() as connection:
        rows = ledger.files(connection)
        for row in rows:
            before = tails.as_before(row)
            if before is not row:
                ledger.withdraw(
                    connection, run_id, before=before, version=row.version, epoch=row.epoch, code=None, error=None
                )
    for row in rows:
        if row.state is not FileState.UNDOING or not row.sound:
            continue
        if (error := _finish_undo(target, settings, run_id, row)) is not None:
            stuck[row.file_id] = error
            tell("warning", f"{row.path}: {error.message}")
    return stuck


def _finish_undo(target: Target, settings: Settings, run_id: int, row: FileRow) -> TableError | None:
    """Take back what is left of one file; or why that cannot be done."""
    table = target.table_of(row.table_name)
    try:
        with target.worded(table), target.begin() as connection:
            shape = target.shape(connection, table)
            if shape is not None and shape.lineage:
                target.delete_rows(connection, shape, row.file_id, known=row.rows_loaded)
            elif shape is not None and row.rows_loaded and target.has_rows(connection, table):
                forget = typed(f"ingest forget {shlex.quote(row.path)}", settings.to, target.label)
                raise TableError(
                    f"its rows in {table} cannot be told from others.",
                    code=Reason.NO_LINEAGE,
                    hint=f"Delete its rows yourself; then type: {forget}, and the same command again.",
                )
            undone = {"file_id": row.file_id, "version": row.version, "epoch": row.epoch}
            ledger.finish_undo(connection, run_id, **undone, state=FileState.REFUSED)
    except TableError as error:
        if target.fault(error) is not None:
            raise  # it may pass, or is not about this file
        why = f"what was loaded of it could not be taken back: {error.message}"
        return TableError(why, code=error.code, hint=error.hint)
    return None


def _drop_emptied(target: Target, run_id: int) -> None:
    """Staging tables whose rows are where they were to go, or that nothing was loaded into."""
    with target.begin() as connection:
        names = [row.table_name for row in ledger.tables(connection).values() if row.replaces]
        held = {row.table_name for row in ledger.files(connection, tables=names)} if names else set()
    for name in names:
        if name not in held:
            drop_staging(target, run_id, target.table_of(name))


def drop_staging(target: Target, run_id: int, staging: TableName) -> None:
    """Drop a staging table, if it is ours, and the ledger's memory of it and of files in it.

    Raises `FenceError` if the run was taken over: what has the name now is the other run's.
    """
    with target.begin() as connection:
        ledger.check_run(connection, run_id, hold=True)
        row = ledger.tables(connection).get(str(staging))
        if row is not None and target.shape(connection, staging) and target.token(connection, staging) == row.token:
            target.drop_table(connection, staging)
            failpoint("before_drop_commit")
            ledger.check_run(connection, run_id, hold=True)  # where DDL commits, the lock went with it
        ledger.forget(connection, [file.file_id for file in ledger.files(connection, tables=[str(staging)])])
        ledger.forget_table(connection, str(staging))


def make_staging(
    target: Target, run_id: int, planned: Planned, tables: list[TableSchema], shapes: dict[str, TableShape]
) -> dict[str, TableShape]:
    """The staging tables of the tables that are to be replaced, by the name of these."""
    staged: dict[str, TableShape] = {}
    for key, state in planned.tables.items():
        if state.staging is None:
            continue
        if key not in shapes:  # no file has a record, and there is no table: nothing to replace
            state.staging = None
            for work in planned.work:
                if str(work.table) == key:
                    work.staging, work.row = None, None
                    work.path_key = manifest.identity(work.table, work.source.path)
            continue
        try:
            staged[key] = _make_staging(target, run_id, state, state.staging, shapes[key])
        except TableError as error:
            refuse_table(planned, key, error)
            state.staging = None
            for table in tables:
                table.groups = [] if table.key == key else table.groups
    return staged


def _make_staging(target: Target, run_id: int, state: TableState, staging: TableName, shape: TableShape) -> TableShape:
    name = str(staging)
    if state.staged is None:
        drop_staging(target, run_id, staging)
        with target.begin() as connection:
            if target.shape(connection, staging) is not None:
                raise TableError(
                    f"the table {name} is in the way: what is to replace {shape.table} is collected under that name.",
                    code=Reason.COLUMNS,
                    hint="Rename it, or drop it.",
                )
            token, definition = secrets.token_hex(16), schemas.definition(shape.columns)
            ledger.intend_table(
                connection,
                run_id,
                table_name=name,
                token=token,
                definition=definition,
                made_by_us=True,
                replaces=str(shape.table),
            )
        failpoint("after_staging_intent")
        with target.worded(staging), target.begin() as connection:
            target.create_like(connection, shape, staging, token)
        failpoint("after_staging")
    with target.begin() as connection:
        made = target.shape(connection, staging)
        missing = [c for c in shape.columns if made is not None and made.column(c.name) is None]
        if missing:
            target.add_columns(connection, staging, missing)
            made = target.shape(connection, staging)
        if made is None:
            raise LedgerError(f"the table {name} was dropped while it was made.")
        ledger.settle_table(connection, name, identity=made.fingerprint)
    return made


def make_tables(
    target: Target, settings: Settings, run_id: int, planned: Planned, tables: list[TableSchema]
) -> dict[str, TableShape]:
    """All DDL of the run: each table's intent first, then the table, then the ledger's word that it is there."""
    shapes: dict[str, TableShape] = {}
    if planned.lost:
        with target.begin() as connection:
            for key, (code, sentence) in planned.lost.items():
                ledger.lose(connection, run_id, key, code=code, error=sentence)
        failpoint("after_lose")
    for key, state in planned.tables.items():
        if state.shape is not None:
            shapes[key] = state.shape
    for table in tables:
        try:
            shapes[table.key] = _make_table(target, settings, run_id, table)
        except TableError as error:
            refuse_table(planned, table.key, error)
            table.groups = []
    return shapes


def _make_table(target: Target, settings: Settings, run_id: int, table: TableSchema) -> TableShape:
    state = table.state
    columns = (*table.columns, *table.added)
    definition = schemas.definition(columns, state=state)
    name = str(state.table)
    if table.is_new:
        token = secrets.token_hex(16)
        with target.begin() as connection:
            ledger.forget_table(connection, name)
            ledger.intend_table(
                connection, run_id, table_name=name, token=token, definition=definition, made_by_us=True
            )
        failpoint("after_intent")
        with target.worded(state.table), target.begin() as connection:
            target.create_table(connection, schemas.new_shape(table, settings), token)
            failpoint("before_create_commit")
        failpoint("after_create")
    elif state.row is None or state.row.made_by_us != state.made_by_us:
        with target.begin() as connection:
            ledger.forget_table(connection, name)  # of our own table, where somebody made another by hand
            ledger.intend_table(connection, run_id, table_name=name, token="", definition=definition, made_by_us=False)
    if table.before:
        # Until the type is changed, the definition says both; which of them holds, the database tells.
        intent = schemas.definition(columns, table.before, state=state)
        with target.begin() as connection:
            ledger.settle_table(connection, name, identity="", definition=intent)
        failpoint("after_widen_intent")
        with target.worded(state.table), target.begin() as connection:
            changed = [column for column in table.columns if column.name in table.before]
            target.change_types(connection, state.table, changed)
        failpoint("after_widen")
        definition = schemas.definition(columns, state=state)
    if table.added and not table.is_new:
        with target.begin() as connection:
            ledger.settle_table(connection, name, identity="", definition=definition)
        failpoint("after_add_intent")
        with target.worded(state.table), target.begin() as connection:
            target.add_columns(connection, state.table, table.added)
        failpoint("after_add")
    with target.begin() as connection:
        shape = target.shape(connection, state.table)
        if shape is None:
            raise LedgerError(f"the table {name} was dropped while it was made.")
        ledger.settle_table(connection, name, identity=shape.fingerprint, definition=definition)
    return shape


def drop_unused(target: Target, run_id: int, table: TableName, again: bool) -> None:
    """Drop a table that this run has made, if nothing was loaded into it: another attempt may see other columns."""
    del again  # it may have been done already, and is not done twice
    with target.begin() as connection:
        ledger.check_run(connection, run_id, hold=True)
        idle = (FileState.REFUSED, FileState.FAILED)
        known = ledger.tables(connection).get(str(table))
        if known is None or any(row.state not in idle for row in ledger.files(connection, tables=[str(table)])):
            return
        if target.token(connection, table) == known.token and not target.has_rows(connection, table):
            target.drop_table(connection, table)
            ledger.forget_table(connection, str(table))


def check(target: Target, run_id: int) -> None:
    """The database can be reached, and the run is still the one that loads."""
    with target.begin() as connection:
        ledger.check_run(connection, run_id)


def register(
    target: Target, settings: Settings, run_id: int, planned: Planned, shapes: Mapping[str, TableShape]
) -> dict[str, FileRow]:
    """The attempt, written ahead of it; and what the plan found out about the other files.

    `shapes` are the tables that files go into now, by the name of the table that they are for.
    """
    with target.begin() as connection:
        # Of an earlier try that lost its connection, the COMMIT may still be under way: it is waited for.
        ledger.check_run(connection, run_id, hold=True)
        for row, code, sentence in planned.undone:
            _give_up(connection, run_id, row, code, sentence)
        for row, source, key, sha256 in planned.moved:
            ledger.rename(connection, path=source.path, path_key=key, touched=_touched(row, source, sha256))
        ledger.touch(connection, [_touched(*one) for one in planned.touched])
        for row, *_ in planned.touched:
            if row.error_code:
                ledger.drop_rejects(connection, row.file_id, applied=False)
        for work in planned.work:
            if work.tail and work.row is not None and work.row.error_code:
                ledger.drop_rejects(connection, work.row.file_id, applied=False)
        for row, code, sentence in planned.notes:
            ledger.note(connection, row.file_id, code=code, error=sentence)
        _record_refused(connection, run_id, planned)
        rows = ledger.register(connection, run_id, [_new_file(w, planned, settings, shapes) for w in planned.work])
        failpoint("before_register_commit")
    failpoint("after_register")
    return rows


def _give_up(connection: Connection, run_id: int, row: FileRow, code: Reason, sentence: str) -> None:
    """A file that is loaded in part will not be gone on with: what is there of it is to be taken back."""
    now = ledger.file(connection, row.file_id)
    if now is None or now.state is not FileState.STARTED:
        return  # an earlier try, whose COMMIT was carried out after all
    known = {"file_id": row.file_id, "version": now.version, "epoch": now.epoch}
    ledger.settle(connection, run_id, **known, state=FileState.UNDOING, code=code, error=sentence)
    ledger.drop_rejects(connection, row.file_id)


def take_back(target: Target, settings: Settings, run_id: int, planned: Planned) -> list[tuple[str, str]]:
    """Of files that are loaded in part and will not be gone on with, nothing is left; path and sentence of each."""
    told = []
    for row, _, sentence in planned.undone:
        with target.begin() as connection:
            now = ledger.file(connection, row.file_id)
        failpoint("before_undo")
        error = None
        if now is not None and now.state is FileState.UNDOING:  # not by an earlier try
            error = _finish_undo(target, settings, run_id, now)
        told.append((row.path, sentence if error is None else error.message))
    return told


def _record_refused(connection: Connection, run_id: int, planned: Planned) -> None:
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


def _new_file(work: Work, planned: Planned, settings: Settings, shapes: Mapping[str, TableShape]) -> NewFile:
    source = work.source
    state = planned.tables[str(work.table)]
    lineage = state.shape.lineage if state.shape is not None else settings.lineage != "none"
    lineage = lineage or work.staging is not None
    # Only of a file that takes several transactions a part may be there when the next attempt begins.
    several = lineage and (work.from_bytes or not work.seekable or source.size > settings.commit_bytes)
    shape = shapes.get(str(work.table)) if several else None
    header = parts.header_json(work.header, settings, shape) if work.header else None
    if header is not None and work.tail and work.row is not None:
        header = tails.marked(header, work.row)
    return NewFile(
        table_name=work.home,
        path=source.path,
        path_key=work.path_key,
        size=source.size,
        mtime_ns=source.mtime_ns,
        ctime_ns=source.ctime_ns,
        scanned_ns=source.scanned_ns,
        lineage=lineage,
        sha256=work.sha256,
        header=header,
        mode=settings.mode,
        anew=work.reset and not work.in_one,
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


def _options(settings: Settings, paths: Sequence[str | os.PathLike[str]]) -> str:
    """The run's options for the ledger, without the database's URL and its secrets."""
    options = {key: value for key, value in asdict(settings).items() if key != "to"}
    return json.dumps({"paths": [os.fspath(p) for p in paths], **options}, default=str)


def _version() -> str:
    try:
        return version("ingest")
    except PackageNotFoundError:
        return "unknown"
