"""Manifest minus ledger, with reasons: what is to be done with each file. Reads; writes nothing.

Decides by identity and content only; what the columns are and which types they get is `schema`'s job.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ingest import archives, ledger, manifest, naming, parts, replacing, sniff, tails
from ingest.errors import SourceError, TableError
from ingest.model import Action, Discard, FileState, Manifest, Mode, Reason, Source, TableName
from ingest.reports import NO_TABLE, Decision
from ingest.rows import FileRow, TableRow
from ingest.settings import Settings, typed
from ingest.targets.base import Target
from ingest.work import Planned, TableState, Work, refuse

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

RACY_NS = 2_000_000_000
"""A file changed this shortly before it was looked at may have changed again within the same time stamp."""


def decide(
    target: Target,
    opened: AbstractContextManager[Connection | None],
    found: Manifest,
    settings: Settings,
    *,
    folders: Sequence[str] = (),
    stuck: Mapping[int, TableError] = MappingProxyType({}),
    on_pending: Callable[[], None] = lambda: None,
) -> Planned:
    """The plan for what a scan found; `folders` are the resolved ones that it searched, `stuck` says by `file_id`
    what cannot be loaded, for rows of an earlier attempt are still to be taken back.

    `opened` gives a connection, or None where there is no database yet; it is closed before any file is read.
    `on_pending` is called when there is at least one file that the ledger alone does not settle.
    """
    planner = _Planner(target, settings, stuck)
    with opened as connection:
        named = planner.read(connection, found.sources)
    return planner.plan(found, named, folders, on_pending)


def table_state(target: Target, connection: Connection | None, table: TableName, row: TableRow | None) -> TableState:
    """The table as it is now, and whether the ledger's knowledge of it still holds (`lost` is left to the caller)."""
    shape = target.shape(connection, table) if connection is not None else None
    ours = False
    if shape is not None and connection is not None and row is not None and row.made_by_us:
        ours = target.token(connection, shape.table) == row.token
    return TableState(table=shape.table if shape else table, shape=shape, row=row, made_by_us=ours)


class _Planner:
    def __init__(self, target: Target, settings: Settings, stuck: Mapping[int, TableError]) -> None:
        self._target = target
        self._settings = settings
        self._stuck = stuck
        self._out = Planned()
        self._rows: dict[str, FileRow] = {}
        self._by_hash: dict[tuple[str, str], list[FileRow]] = {}
        self._orphans: list[FileRow] = []  # loaded in part, and no longer where they were
        self._lost_rows: list[FileRow] = []  # as they were, of the tables that are to be filled again
        self._replaced: set[int] = set()  # file_ids whose content in the table gives way to another in this run
        self._first: dict[tuple[str, str], Source] = {}  # by table and content: the file that is loaded in this run
        self._here: set[str] = set()  # the paths that the scan found
        self._broken: set[int] = set()  # file_ids loaded in part, with a broken quote in that part
        self._void: set[int] = set()  # file_ids whose rows are in a staging table that cannot be gone on with
        self._known: dict[str, TableRow] = {}
        self._sniffer = sniff.Sniffer(settings.told)

    def read(self, connection: Connection | None, sources: Sequence[Source]) -> list[tuple[Source, TableName]]:
        """All that the database is asked; each source with its table."""
        rows: list[FileRow] = []
        upgrade = typed(ledger.UPGRADE, self._settings.to, self._target.label)
        if connection is not None and ledger.is_there(connection, self._target.label, upgrade):
            self._known, rows = ledger.tables(connection), ledger.files(connection)
        elif connection is not None:
            self._target.check_place(connection)
        known = self._known
        named = self._named(connection, sources, {*known, *(row.table_name for row in rows)})
        spelled: dict[str, TableName] = {}
        for table in sorted({str(table): table for _, table in named}.values(), key=str):
            state = self._table(connection, table, known.get(str(table)), rows)
            self._out.tables[state.key] = state
            spelled[str(table)] = state.table
        self._broken = self._broken_parts(connection, rows)
        for row in rows:
            if row.file_id in self._void:
                continue
            self._rows[row.path_key] = row = self._as_it_is(row)  # noqa: PLW2901
            if row.sha256 is not None:
                self._by_hash.setdefault((row.table_name, row.sha256), []).append(row)
            if row.state is FileState.STARTED and row.committed_bytes and archives.gone(row.path):
                self._orphans.append(row)
        return [(source, spelled[str(table)]) for source, table in named]

    def _broken_parts(self, connection: Connection | None, rows: Sequence[FileRow]) -> set[int]:
        """The files with a broken quote in what is loaded of them, where a run may go on behind it."""
        tails_too = self._settings.on_change == "append-tail"
        going_on = (row.committed_bytes and (tails_too or row.state is FileState.STARTED) for row in rows)
        if connection is None or not any(going_on):
            return set()
        return ledger.rejected_for(connection, Reason.BROKEN_QUOTE)

    def _named(
        self, connection: Connection | None, sources: Sequence[Source], known: Collection[str]
    ) -> list[tuple[Source, TableName]]:
        """Each source with its table; names that differ only by case are one table, spelled as the ledger has it."""
        named: list[tuple[Source, TableName]] = []
        spelled = {name.casefold(): name for name in known}
        for source in sources:
            try:
                table = naming.table_name(source, self._settings.table)
            except SourceError as error:
                decision = Decision(
                    source=source,
                    table=TableName(name=NO_TABLE),
                    action=Action.REFUSE,
                    code=Reason(error.code),
                    sentence=error.message,
                    hint=error.hint,
                )
                self._out.decisions.append(decision)
                continue
            if connection is not None:
                table = self._target.canonical(connection, table)
            name = spelled.setdefault(str(table).casefold(), str(table))
            if name != str(table):
                schema, name = name.split(".", 1) if table.schema else (None, name)
                table = TableName(name=name, schema=schema)
            named.append((source, table))
        return named

    def _table(
        self, connection: Connection | None, table: TableName, row: TableRow | None, rows: list[FileRow]
    ) -> TableState:
        try:
            state = table_state(self._target, connection, table, row)
        except TableError as error:
            return TableState(table=table, shape=None, row=row, made_by_us=False, unusable=error)
        if connection is not None and state.shape is not None:
            state.unusable = self._target.obstacle(connection, state.table, self._settings.mode)
        if self._settings.key and state.shape is not None and connection is not None:
            state.unique = self._target.unique_keys(connection, state.table)
        if self._settings.mode == Mode.REPLACE:
            self._look_at_staging(connection, state, rows)
        if row is None and state.staging is None and connection is not None and state.shape is not None:
            ours = self._target.token(connection, state.table) is not None
            if ours and self._target.has_rows(connection, state.table):
                state.lost, state.unknown = Reason.TABLE_LOST, True
                return state
        if not any(r.rows_loaded for r in rows if r.table_name == state.key):
            return state
        state.empty = connection is None or state.shape is None or not self._target.has_rows(connection, state.table)
        if state.shape is None or (row is not None and row.made_by_us and not state.made_by_us):
            state.lost = Reason.TABLE_LOST
        elif state.empty:
            state.lost = Reason.TABLE_EMPTIED
        elif row is not None and not row.made_by_us and not _columns_of(row) <= {c.name for c in state.shape.columns}:
            state.lost = Reason.TABLE_LOST
        if state.lost and state.empty and self._settings.on_lost == "reload" and state.staging is None:
            self._out.lost[state.key] = state.lost, _lost_sentence(state)
        return state

    def _look_at_staging(self, connection: Connection | None, state: TableState, rows: list[FileRow]) -> None:
        """The table that is filled in the place of another; and whether what is in it can be gone on with."""
        state.staging = replacing.staging_name(self._target, state.table)
        there = connection if state.shape is not None else None
        state.unusable = state.unusable or replacing.unsafe(self._target, there, state.table)
        row = next((row for row in self._known.values() if row.table_name == str(state.staging)), None)
        if connection is not None and row is not None:
            state.staged = replacing.staged(self._target, connection, state, row)
        if state.staged is None:
            self._void |= {r.file_id for r in rows if r.table_name == str(state.staging)}

    def _as_it_is(self, row: FileRow) -> FileRow:
        """The row, or what the run will make of it first: of a table to be filled again, or of an interrupted tail."""
        row = tails.as_before(row)
        if row.table_name not in self._out.lost or not row.rows_loaded or row.file_id in self._stuck:
            return row
        self._lost_rows.append(row)
        code, sentence = self._out.lost[row.table_name]
        row = replace(row, state=FileState.REFUSED, error_code=code, error=sentence)
        row = replace(row, committed_bytes=0, committed_records=0, rows_loaded=0, rows_rejected=0)
        return replace(row, rows_discarded=0, rows_superseded=0, rows_ignored=0)

    def plan(
        self,
        found: Manifest,
        named: list[tuple[Source, TableName]],
        folders: Sequence[str],
        on_pending: Callable[[], None],
    ) -> Planned:
        """Decide for every source."""
        self._here = {source.path for source in found.sources}
        skip = self._settings.on_duplicate == "skip"
        for state in self._out.tables.values():
            mine = [source for source, table in named if str(table) == state.key]
            as_files = functools.partial(replacing.is_as_the_files_are, rows=self._rows, unchanged=self._unchanged)
            if state.staging is not None and as_files(state, mine, skip_equal=skip):
                state.staging = state.unusable = None
        pending = self._quick(named)
        if pending:
            on_pending()
            self._slow(pending)
        self._gone(folders)
        self._out.vanished = self._vanished(folders)
        self._out.unfilled = self._unfilled()
        order = {source.path: number for number, source in enumerate(found.sources)}
        self._out.work.sort(key=lambda work: order[work.source.path])
        self._out.decisions.sort(key=lambda decision: order[decision.source.path])
        return self._out

    def _gone(self, folders: Sequence[str]) -> None:
        """What was loaded in part, of a file that is no longer there, has to go: nobody can load the rest."""
        below = tuple(os.path.join(folder, "") for folder in folders)
        tables = {key for key, state in self._out.tables.items() if state.staging is None}
        for row in self._orphans:
            ours = row.table_name in tables or row.path.startswith(below)
            if ours and row.lineage and row.loaded_at is None and row.path not in self._here and not self._taken(row):
                why = f"it was loaded in part, and is no longer there; its {row.rows_loaded:,} rows are taken back"
                self._out.undone.append((row, Reason.CHANGED, why))

    def _vanished(self, folders: Sequence[str]) -> list[str]:
        """What was loaded out of these folders once, and is no longer there."""
        known = self._here | {row.path for row, *_ in self._out.moved}
        undone = {row.file_id for row, *_ in self._out.undone}
        below = tuple(os.path.join(folder, "") for folder in folders)
        going = {key for key, state in self._out.tables.items() if state.staging is not None}
        rows = (
            row
            for row in (*self._rows.values(), *self._lost_rows)
            if (row.state is FileState.LOADED or row.file_id in undone)
            and row.path.startswith(below)
            and row.table_name not in going
        )
        return sorted({row.path for row in rows if row.path not in known and archives.gone(row.path)})

    def _unfilled(self) -> list[str]:
        """Of each table that is to be filled again: the files whose rows cannot come back, for they are gone."""
        never = (work for work in self._out.work if work.row is None or work.row.loaded_at is None)
        renamed = {(work.home, work.sha256) for work in never if work.sha256}
        of: dict[str, list[str]] = {}
        for row in self._lost_rows:
            if row.path not in self._here and (row.table_name, row.sha256) not in renamed and archives.gone(row.path):
                of.setdefault(row.table_name, []).append(row.path)
        told = []
        for table, paths in sorted(of.items()):
            named = naming.some(sorted(paths))  # `status` has all of them
            told.append(f"rows of the table {table} are lost for good, for their files are gone: {named}")
        return told

    # decisions ---------------------------------------------------------------------------------------------

    def _quick(self, named: list[tuple[Source, TableName]]) -> list[Work]:
        """Decide what size and time alone can decide; the rest comes back."""
        pending = []
        for source, table in named:
            state = self._out.tables[str(table)]
            key = manifest.identity(state.staging or table, source.path)
            row = self._rows.get(key)
            work = Work(
                source=source,
                table=table,
                path_key=key,
                action=Action.LOAD,
                code=Reason.NEW,
                sentence="it is new" if state.staging is None else f"it will replace what is in {table}",
                row=row,
                staging=state.staging,
            )
            unchanged = row is not None and row.state is FileState.LOADED and row.sound and self._unchanged(source, row)
            if state.unusable is not None:
                self._refuse(work, Reason(state.unusable.code), state.unusable.message, state.unusable.hint)
            elif row is not None and (stuck := self._stuck.get(row.file_id)) is not None:
                self._refuse(work, Reason(stuck.code), stuck.message, stuck.hint)
            elif state.lost and self._stands(state) and not (unchanged and row is not None and not row.rows_loaded):
                self._lost(work, state, state.lost)
            elif row is not None and unchanged:
                self._skip(source, table, Reason.LOADED, "it is loaded already")
                if row.error_code:
                    self._out.touched.append((row, source, row.sha256 or ""))
            else:
                pending.append(work)
        return pending

    def _stands(self, state: TableState) -> bool:
        """Whether the loss of a table is still to be told: it is not to be ignored, and cannot be made good."""
        return self._settings.on_lost != "ignore" and state.key not in self._out.lost and state.staging is None

    def _unchanged(self, source: Source, row: FileRow) -> bool:
        return (
            not self._settings.verify_content
            and (source.size, source.mtime_ns, source.ctime_ns) == (row.size, row.mtime_ns, row.ctime_ns)
            and abs(row.scanned_ns - row.mtime_ns) > RACY_NS
        )

    def _slow(self, pending: list[Work]) -> None:
        """Decide what the content has to decide; first of what is loaded, for new files may be compared with it."""
        pending = self._hash([work for work in pending if self._sniff(work)])
        changed: list[tuple[Work, FileRow]] = []
        new: list[Work] = []
        for work in pending:
            row = work.row
            if row is not None and not row.sound:
                self._doubtful(work, row)
            elif row is None or not (row.state is FileState.LOADED or row.committed_bytes):
                new.append(work)
            elif row.state is not FileState.LOADED:
                self._part_loaded(work, row)
            elif work.sha256 == row.sha256:
                self._skip(work.source, work.table, Reason.SAME_CONTENT, "it is loaded already, with the same content")
                self._out.touched.append((row, work.source, work.sha256 or ""))
            else:
                changed.append((work, row))
        tables = self._out.tables
        self._replaced = {
            row.file_id
            for w, row in changed
            if w.staging or (self._settings.on_change == "reload" and tables[str(w.table)].can_replace(row))
        }
        for work, row in changed:
            self._changed(work, row)
        for work in new:
            self._new(work)

    def _sniff(self, work: Work) -> bool:
        """Read the head of a file. Whether it can be gone on with."""
        try:
            work.header = self._sniffer.header(work.source)
        except SourceError as error:
            self._refuse(work, Reason(error.code), error.message, error.hint)
            return False
        return True

    def _hash(self, pending: list[Work]) -> list[Work]:
        """Content hashes, but only where a size gives a reason to compare."""
        sizes = Counter((row.table_name, row.size) for row in self._rows.values())
        sizes.update((work.home, work.source.size) for work in pending)
        wanted = [
            work
            for work in pending
            if (work.row is not None and work.row.state is FileState.LOADED)
            or sizes[(work.home, work.source.size)] > 1
            or (work.header is not None and not work.header.has_data)
        ]
        hashes = manifest.sha256_many([work.source for work in wanted])
        unreadable = set()
        for work in wanted:
            found = hashes[work.source.path]
            if isinstance(found, SourceError):
                self._refuse(work, Reason(found.code), found.message, found.hint)
                unreadable.add(id(work))
            else:
                work.sha256 = found
        return [work for work in pending if id(work) not in unreadable]

    def _changed(self, work: Work, row: FileRow) -> None:
        why = "its content is not what was loaded"
        if work.staging:
            if self._original(work):
                self._reload(work, why, row)
        elif self._settings.on_change == "skip":
            self._skip(work.source, work.table, Reason.CHANGED, f"{why}; --on-change skip leaves it so")
        elif self._settings.on_change == "append-tail":
            self._tail(work, row)
        elif row.merged:
            self._refuse(
                work,
                Reason.MERGED,
                f"{why}, and that cannot be taken back: its records were merged with rows of others ({row.mode})",
                self._merge_again(work),
            )
        elif self._settings.on_change == "refuse":
            self._refuse(
                work,
                Reason.CHANGED,
                f"{why}; what was loaded is still there",
                "Give --on-change reload to replace its rows, or --on-change skip to leave them; if it only grew, "
                "--on-change append-tail loads what was added.",
            )
        elif not self._out.tables[str(work.table)].can_replace(row):
            self._refuse(
                work,
                Reason.NO_LINEAGE,
                f"{why}, and its old rows in {work.table} cannot be told from others",
                "Only tables that ingest made with --lineage file know which file a row came from.",
            )
        elif self._original(work):
            self._reload(work, why, row)

    def _merge_again(self, work: Work) -> str:
        forget = self._forget(work)
        return f"To merge the new content as well: {forget}, and the same command again. To leave it: --on-change skip."

    def _forget(self, work: Work) -> str:
        return typed(f"ingest forget {shlex.quote(work.source.path)}", self._settings.to, self._target.label)

    def _reload(self, work: Work, why: str, row: FileRow) -> None:
        work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
        work.sentence = f"{why}; its {row.rows_loaded:,} old rows are replaced"
        self._out.work.append(work)

    def _tail(self, work: Work, row: FileRow) -> None:
        """Load what was added to a file, if it only grew."""
        assert work.header is not None
        if row.committed_records == row.discards.get(Discard.PREAMBLE, 0):
            if self._original(work):
                self._reload(work, "it had no record when it was loaded, and has some now", row)
            return
        try:
            beginning = parts.beginning(work.source, work.header, row.committed_bytes)
        except SourceError as error:
            self._refuse(work, Reason(error.code), error.message, error.hint)
            return
        why = parts.not_grown(beginning, row)
        if {Discard.FOOTER, Discard.TABLE} & row.discards.keys():
            why = why or "what was below its records was left out as a footer or another table, and is among them now"
        why = why or tails.why_not(
            row, parts.header_json(work.header, self._settings), self._settings.mode, parts.usual_options()
        )
        if why:
            hint = (
                self._merge_again(work)
                if row.merged
                else "Give --on-change reload to replace its rows, or skip to leave them."
            )
            self._refuse(work, Reason.CHANGED, f"only what was added to it was to be loaded, but {why}", hint)
        elif not beginning.more:
            self._skip(
                work.source, work.table, Reason.SAME_CONTENT, "it is loaded already, with the same content packed anew"
            )
            self._out.touched.append((row, work.source, work.sha256 or ""))
        elif self._original(work):
            work.action, work.code, work.tail, work.from_bytes = Action.RESUME, Reason.GROWN, True, row.committed_bytes
            work.sentence = f"it grew, and its first {row.committed_bytes:,} bytes are those that are loaded"
            work.after_broken = row.file_id in self._broken
            self._out.work.append(work)

    def _lost(self, work: Work, state: TableState, lost: Reason) -> None:
        if self._settings.on_lost == "reload":
            hint = "Empty the table first, or give --on-lost ignore to go on with it as it is."
            what = "; it cannot be filled again, for it has rows that cannot be told from those of its files"
        else:
            hint = "Give --on-lost reload to load its files again, or --on-lost ignore if that was on purpose."
            what = ""
        self._refuse(work, lost, _lost_sentence(state) + what, hint)

    def _doubtful(self, work: Work, row: FileRow) -> None:
        """What the ledger says of a file cannot be true: all of it goes, where that can be told, and comes again."""
        shape = self._out.tables[str(work.table)].shape
        why = "what the ledger says of it does not add up, so somebody must have changed that by hand"
        if row.mode in (Mode.UPSERT, Mode.INSERT_IGNORE) or (shape is not None and not (row.lineage and shape.lineage)):
            self._refuse(
                work,
                Reason.COUNTS,
                f"{why}; and its rows in {work.table} cannot be told from others",
                f"Put its row in ingest_file right; or delete its rows yourself, and then: {self._forget(work)}",
            )
        elif self._original(work):
            work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
            work.sentence = f"{why}; it is loaded again, in the place of all that is there of it"
            self._out.work.append(work)

    def _part_loaded(self, work: Work, row: FileRow) -> None:
        """A big file was interrupted between two steps: go on, if what was read is still what is there."""
        state = self._out.tables[str(work.table)]
        shape = state.staged if work.staging else state.shape
        if row.rows_loaded and (row.merged or (shape is not None and not shape.lineage)):
            # Neither is left by a kill: the table, or what the ledger says of the file, was changed by hand.
            self._refuse(
                work,
                Reason.NO_LINEAGE,
                f"an attempt at it was interrupted, and its old rows in {work.table} cannot be told from others",
                f"Delete its rows yourself; then type: {self._forget(work)}, and the same command again.",
            )
            return
        if row.loaded_at is not None:
            # A reload that was killed before its first move: all of the old content is in the table, and stays there
            # if the new one is refused. Of the old fingerprint only the hash is still known.
            work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
            work.sentence = "its content has changed, and a reload of it was interrupted; it starts again"
            work.row = replace(row, state=FileState.LOADED, sha256=row.prefix_sha256, mtime_ns=0)
            if work.sha256:
                self._first.setdefault((work.home, work.sha256), work.source)
        elif not self._original(work):
            self._out.undone.append((row, Reason.DUPLICATE, "it was loaded in part, and is the copy of another file"))
            return
        elif why := self._why_anew(work, row):
            work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
            work.sentence = f"it was loaded in part, {why}; it starts again"
        else:
            work.action, work.code, work.from_bytes = Action.RESUME, Reason.PART_LOADED, row.committed_bytes
            work.sentence = f"{row.committed_bytes:,} bytes of it are loaded already"
            work.after_broken = row.file_id in self._broken
        self._out.work.append(work)

    def _why_anew(self, work: Work, row: FileRow) -> str:
        """Why a file that is loaded in part cannot be gone on with, or ""."""
        assert work.header is not None
        state = self._out.tables[str(work.table)]
        if state.lost and not work.staging:
            return f"and {_lost_sentence(state)}"
        if not parts.same_options(row, work.header, self._settings):
            return "with other options"
        if not parts.same_code(row, self._settings):
            return f"and the module of --transform {self._settings.transform} has changed since"
        if not parts.same_columns(row, state.staged if work.staging else state.shape):
            return f"and the columns of {work.home} are others now"
        return "" if parts.prefix_holds(work.source, work.header, row) else "and its content has changed since"

    def _new(self, work: Work) -> None:
        row, header = work.row, work.header
        assert header is not None
        if row is not None:
            work.code, work.sentence = Reason.RETRY, f"an earlier attempt ended: {row.error or 'it was interrupted'}"
            work.alone = row.error_code == Reason.QUARANTINED
            if row.loaded_at is not None and row.error_code in (Reason.TABLE_LOST, Reason.TABLE_EMPTIED):
                work.action, work.code = Action.RELOAD, Reason(row.error_code)
                work.sentence = f"{row.error}; it is loaded again"
        if not header.has_data:
            work.code, work.sentence = Reason.NO_RECORDS, "it has no records"
            self._out.work.append(work)
        elif not self._moved(work) and self._original(work):
            self._out.work.append(work)

    def _original(self, work: Work) -> bool:
        """Whether this content is to be loaded: it is the only one of its kind, or duplicates are wanted."""
        assert work.header is not None
        if not work.sha256 or not work.header.has_data:
            return True
        place = (work.home, work.sha256)
        known = [r for r in self._by_hash.get(place, ()) if r.state is FileState.LOADED]
        if work.staging:  # what was collected of other files is not among what replaces the table
            known = [r for r in known if r.path in self._here]
        twin = next((r.path for r in known if r.path_key != work.path_key and r.file_id not in self._replaced), None)
        if twin is None:
            first = self._first.setdefault(place, work.source)
            if first is work.source:
                return True
            twin = first.display
        sentence = f"it has the same content as {twin}"
        if self._settings.on_duplicate == "load":
            work.code, work.sentence = Reason.DUPLICATE, f"{sentence}; --on-duplicate load takes it, too"
            return True
        if self._settings.on_duplicate == "skip":
            self._skip(work.source, work.table, Reason.DUPLICATE, f"{sentence}; --on-duplicate skip")
        else:
            self._refuse(
                work,
                Reason.DUPLICATE,
                sentence,
                "Give --on-duplicate skip to leave it out, or --on-duplicate load to have its rows twice.",
            )
        return False

    def _moved(self, work: Work) -> bool:
        """Whether this is a file that the ledger knows under a path where it no longer is."""
        assert work.header is not None
        place = (work.home, work.sha256 or "")
        for row in self._by_hash.get(place, []) if work.sha256 else []:
            if row.state is FileState.LOADED and not archives.there(row.path) and not self._taken(row):
                self._out.moved.append((row, work.source, work.path_key, work.sha256))
                self._skip(
                    work.source, work.table, Reason.MOVED, f"it is loaded already, and was moved here from {row.path}"
                )
                return True
        for row in self._orphans:
            if row.table_name == work.home and not self._taken(row) and not self._why_anew(work, row):
                if not self._original(work):
                    return True
                self._out.moved.append((row, work.source, work.path_key, work.sha256))
                work.row = row
                work.action, work.code, work.from_bytes = Action.RESUME, Reason.MOVED, row.committed_bytes
                work.sentence = f"it was moved here from {row.path}; {row.committed_bytes:,} bytes are loaded already"
                self._out.work.append(work)
                return True
        return False

    def _taken(self, row: FileRow) -> bool:
        return any(moved.file_id == row.file_id for moved, *_ in self._out.moved)

    # what comes of it --------------------------------------------------------------------------------------

    def _skip(self, source: Source, table: TableName, code: Reason, sentence: str) -> None:
        self._out.decisions.append(
            Decision(source=source, table=table, action=Action.SKIP, code=code, sentence=sentence)
        )

    def _refuse(self, work: Work, code: Reason, sentence: str, hint: str) -> None:
        """Refuse a file, so that `status` shows why."""
        refuse(self._out, work, code, sentence, hint)


def _lost_sentence(state: TableState) -> str:
    if state.unknown:
        return (
            f"ingest made the table {state.table} and put rows into it, but the ledger does not know it: "
            "its memory was deleted, or is another one's"
        )
    what = "is empty" if state.lost is Reason.TABLE_EMPTIED else "is gone or is another one now"
    return f"the table {state.table} {what}, but the ledger says that files are in it"


def _columns_of(row: TableRow) -> set[str]:
    return {column["name"] for column in json.loads(row.definition or "[]")}
