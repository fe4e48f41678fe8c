"""Manifest minus ledger, with reasons: what is to be done with each file. Reads; writes nothing.

Decides by identity and content only; what the columns are and which types they get is `schema`'s job.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from ingest import ledger, manifest, naming, sniff
from ingest.errors import SourceError, TableError
from ingest.model import Action, Decision, FileState, Header, Manifest, Reason, Source, TableName, TableShape
from ingest.rows import FileRow, TableRow
from ingest.settings import Settings
from ingest.targets.base import Target

RACY_NS = 2_000_000_000
"""A file changed this shortly before it was looked at may have changed again within the same time stamp."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One file that is to be loaded."""

    source: Source
    table: TableName
    path_key: str
    action: Action
    code: Reason
    sentence: str
    row: FileRow | None = None
    header: Header | None = None
    sha256: str | None = None
    from_bytes: int = 0
    reset: bool = False  #: rows of an earlier content go first
    alone: bool = False  #: it killed its workers before: by itself, and once


@dataclass(slots=True, kw_only=True)
class TableState:
    """One table of the plan, as it is now."""

    table: TableName
    shape: TableShape | None
    row: TableRow | None
    made_by_us: bool
    lost: Reason | None = None  #: TABLE_LOST or TABLE_EMPTIED

    @property
    def key(self) -> str:
        return str(self.table)


@dataclass(slots=True, kw_only=True)
class Planned:
    """What the ledger and the files say together."""

    decisions: list[Decision] = field(default_factory=list)  #: skipped, refused, waiting: nothing to load
    work: list[Work] = field(default_factory=list)
    tables: dict[str, TableState] = field(default_factory=dict)
    touched: list[tuple[FileRow, Source, str]] = field(default_factory=list)  #: same content, new fingerprint
    moved: list[tuple[FileRow, Source, str, str | None]] = field(default_factory=list)  #: with the new key
    notes: list[tuple[FileRow, Reason, str]] = field(default_factory=list)  #: loaded, but refused this time
    refused: list[tuple[Source, TableName, str, Reason, str]] = field(default_factory=list)  #: never loaded
    vanished: list[str] = field(default_factory=list)


def decide(
    target: Target,
    opened: AbstractContextManager[Connection | None],
    found: Manifest,
    settings: Settings,
    on_pending: Callable[[], None] = lambda: None,
) -> Planned:
    """The plan for what a scan found.

    `opened` gives a connection, or None where there is no database yet; it is closed before any file is read.
    `on_pending` is called when there is at least one file that the ledger alone does not settle.
    """
    planner = _Planner(target, settings)
    named = planner.named(found.sources)
    with opened as connection:
        planner.read(connection, named)
    return planner.plan(found, named, on_pending)


def table_state(target: Target, connection: Connection | None, table: TableName, row: TableRow | None) -> TableState:
    """The table as it is now, and whether the ledger's knowledge of it still holds (`lost` is left to the caller)."""
    shape = target.shape(connection, table) if connection is not None else None
    ours = False
    if shape is not None and connection is not None and row is not None and row.made_by_us:
        ours = target.token(connection, shape.table) == row.token
    return TableState(table=shape.table if shape else table, shape=shape, row=row, made_by_us=ours)


class _Planner:
    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._out = Planned()
        self._rows: dict[str, FileRow] = {}
        self._by_hash: dict[tuple[str, str], list[FileRow]] = {}
        self._orphans: list[FileRow] = []  # loaded in part, and no longer where they were
        self._sniffer = sniff.Sniffer()

    def read(self, connection: Connection | None, named: list[tuple[Source, TableName]]) -> None:
        """All that the database is asked."""
        known: dict[str, TableRow] = {}
        rows: list[FileRow] = []
        if connection is not None and ledger.version(connection) is not None:
            known, rows = ledger.tables(connection), ledger.files(connection)
        tables = {str(table): table for _, table in named}
        for name in sorted(tables, key=str.casefold):
            self._out.tables[name] = self._table(connection, tables[name], known.get(name), rows)
        rows = [row for row in rows if row.table_name in tables]
        self._rows = {row.path_key: row for row in rows}
        self._orphans = [
            row
            for row in rows
            if row.state is FileState.STARTED and row.committed_bytes and not os.path.lexists(row.path)
        ]
        for row in rows:
            if row.sha256 is not None:
                self._by_hash.setdefault((row.table_name, row.sha256), []).append(row)

    def plan(self, found: Manifest, named: list[tuple[Source, TableName]], on_pending: Callable[[], None]) -> Planned:
        """Decide for every source."""
        pending = self._quick(named)
        if pending:
            on_pending()
            self._slow(pending)
        paths = {source.path for source in found.sources}
        moved_away = {row.path for row, *_ in self._out.moved}
        self._out.vanished = sorted(
            row.path
            for row in self._rows.values()
            if row.state is FileState.LOADED
            and row.path not in paths
            and row.path not in moved_away
            and not os.path.lexists(row.path)
        )
        order = {source.path: number for number, source in enumerate(found.sources)}
        self._out.work.sort(key=lambda work: order[work.source.path])
        self._out.decisions.sort(key=lambda decision: order[decision.source.path])
        return self._out

    def named(self, sources: Sequence[Source]) -> list[tuple[Source, TableName]]:
        """Each source with its table; names that differ only by case are one table."""
        named: list[tuple[Source, TableName]] = []
        spelled: dict[str, TableName] = {}
        for source in sources:
            try:
                table = naming.table_name(source, self._settings.table)
            except SourceError as error:
                self._no(source, TableName(name="?"), Reason(error.code), error.message, error.hint)
                continue
            named.append((source, spelled.setdefault(str(table).casefold(), table)))
        return named

    def _table(
        self, connection: Connection | None, table: TableName, row: TableRow | None, rows: list[FileRow]
    ) -> TableState:
        state = table_state(self._target, connection, table, row)
        filled = sum(r.rows_loaded for r in rows if r.table_name == str(table))
        if not filled:
            return state
        if state.shape is None or (row is not None and row.made_by_us and not state.made_by_us):
            state.lost = Reason.TABLE_LOST
        elif connection is not None and not self._target.has_rows(connection, state.table):
            state.lost = Reason.TABLE_EMPTIED
        elif row is not None and not row.made_by_us and not _columns_of(row) <= {c.name for c in state.shape.columns}:
            state.lost = Reason.TABLE_LOST
        return state

    # decisions ---------------------------------------------------------------------------------------------

    def _quick(self, named: list[tuple[Source, TableName]]) -> list[Work]:
        """Decide what size and time alone can decide; the rest comes back."""
        pending = []
        for source, table in named:
            key = manifest.identity(table, source.path)
            row = self._rows.get(key)
            work = Work(
                source=source,
                table=table,
                path_key=key,
                action=Action.LOAD,
                code=Reason.NEW,
                sentence="it is new",
                row=row,
            )
            lost = self._out.tables[str(table)].lost
            if row is not None and row.rows_loaded and lost and self._settings.on_lost != "ignore":
                self._lost(work, lost)
            elif row is not None and row.state is FileState.LOADED and self._unchanged(source, row):
                self._skip(source, table, Reason.LOADED, "it is loaded already")
                if row.error_code:
                    self._out.touched.append((row, source, row.sha256 or ""))
            else:
                pending.append(work)
        return pending

    def _unchanged(self, source: Source, row: FileRow) -> bool:
        return (
            not self._settings.verify_content
            and (source.size, source.mtime_ns, source.ctime_ns) == (row.size, row.mtime_ns, row.ctime_ns)
            and abs(row.scanned_ns - row.mtime_ns) > RACY_NS
        )

    def _slow(self, pending: list[Work]) -> None:
        """Decide what the content has to decide."""
        pending = self._hash([work for work in pending if self._sniff(work)])
        originals: dict[tuple[str, str], Source] = {}
        for work in pending:
            row = work.row
            if row is not None and row.state is FileState.LOADED:
                self._loaded_before(work, row)
            elif row is not None and row.committed_bytes > 0:
                self._part_loaded(work, row)
            else:
                self._new(work, originals)

    def _sniff(self, work: Work) -> bool:
        """Read the head of a file. Whether it can be gone on with."""
        row = work.row
        try:
            work.header = self._sniffer.header(work.source)
        except SourceError as error:
            if row is not None and row.state is FileState.LOADED:
                # What it was is loaded; what it became cannot be read. Same content was unreadable before, too.
                self._changed(work, row, error.message)
            else:
                self._refuse(work, Reason(error.code), error.message, error.hint)
            return False
        return True

    def _hash(self, pending: list[Work]) -> list[Work]:
        """Content hashes, but only where a size gives a reason to compare."""
        sizes: dict[tuple[str, int], int] = {}
        for row in self._rows.values():
            sizes[(row.table_name, row.size)] = sizes.get((row.table_name, row.size), 0) + 1
        for work in pending:
            if work.row is None or work.row.state is not FileState.LOADED:
                place = (str(work.table), work.source.size)
                sizes[place] = sizes.get(place, 0) + 1
        wanted = [
            work
            for work in pending
            if (work.row is not None and work.row.state is FileState.LOADED)
            or sizes.get((str(work.table), work.source.size), 0) > 1
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

    def _loaded_before(self, work: Work, row: FileRow) -> None:
        if work.sha256 == row.sha256:
            self._skip(work.source, work.table, Reason.SAME_CONTENT, "it is loaded already, with the same content")
            self._out.touched.append((row, work.source, work.sha256 or ""))
        else:
            self._changed(work, row, "its content is not what was loaded")

    def _changed(self, work: Work, row: FileRow, why: str) -> None:
        choice = self._settings.on_change
        state = self._out.tables[str(work.table)]
        if choice == "skip":
            self._skip(work.source, work.table, Reason.CHANGED, f"{why}; --on-change skip leaves it so")
        elif choice == "reload" and work.header is not None:
            if row.rows_loaded and not (row.lineage and state.shape is not None and state.shape.lineage):
                self._no(
                    work.source,
                    work.table,
                    Reason.NO_LINEAGE,
                    f"{why}, and its old rows in {work.table} cannot be told from others",
                    "Only tables that ingest made with --lineage file know which file a row came from.",
                )
                self._out.notes.append((row, Reason.NO_LINEAGE, why))
                return
            work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
            work.sentence = f"{why}; its {row.rows_loaded} old rows are replaced"
            self._out.work.append(work)
        else:
            sentence = f"{why}; what was loaded is still there"
            self._no(
                work.source,
                work.table,
                Reason.CHANGED,
                sentence,
                "Give --on-change reload to replace its rows, or --on-change skip to leave them.",
            )
            self._out.notes.append((row, Reason.CHANGED, sentence))

    def _lost(self, work: Work, lost: Reason) -> None:
        row = work.row
        assert row is not None
        what = "is gone or was made anew" if lost is Reason.TABLE_LOST else "is empty"
        sentence = f"the table {work.table} {what}, but the ledger says that this file is in it"
        if self._settings.on_lost == "reload":
            if self._sniff(work):
                work.action, work.code, work.reset = Action.RELOAD, lost, True
                work.sentence = f"{sentence}; it is loaded again"
                self._out.work.append(work)
            return
        self._no(
            work.source,
            work.table,
            lost,
            sentence,
            "Give --on-lost reload to load its files again, or --on-lost ignore if it was emptied on purpose.",
        )
        self._out.notes.append((row, lost, sentence))

    def _part_loaded(self, work: Work, row: FileRow) -> None:
        """A big file was interrupted between two steps: go on, if what was read is still what is there."""
        assert work.header is not None
        if _prefix_holds(work.source, work.header, row):
            work.action, work.code, work.from_bytes = Action.RESUME, Reason.PART_LOADED, row.committed_bytes
            work.sentence = f"{row.committed_bytes} bytes of it are loaded already"
        else:
            work.action, work.code, work.reset = Action.RELOAD, Reason.CHANGED, True
            work.sentence = "it was loaded in part, and its content has changed since; it starts again"
        self._out.work.append(work)

    def _new(self, work: Work, originals: dict[tuple[str, str], Source]) -> None:
        row, header = work.row, work.header
        assert header is not None
        if row is not None:
            work.code, work.sentence = Reason.RETRY, f"an earlier attempt ended: {row.error or 'it was interrupted'}"
            work.alone = row.error_code == Reason.QUARANTINED
        if not header.has_data:
            work.code, work.sentence = Reason.NO_RECORDS, "it has no records"
            self._out.work.append(work)
            return
        if self._moved(work):
            return
        place = (str(work.table), work.sha256 or "")
        original = originals.get(place) if work.sha256 else None
        loaded = self._by_hash.get(place, []) if work.sha256 else []
        same = next((r.path for r in loaded if r.state is FileState.LOADED and r.path_key != work.path_key), None)
        twin = same or (original.display if original else None)
        if twin is None:
            if work.sha256:
                originals[place] = work.source
            self._out.work.append(work)
            return
        sentence = f"it has the same content as {twin}"
        match self._settings.on_duplicate:
            case "load":
                work.code, work.sentence = Reason.DUPLICATE, f"{sentence}; --on-duplicate load takes it, too"
                self._out.work.append(work)
            case "skip":
                self._skip(work.source, work.table, Reason.DUPLICATE, f"{sentence}; --on-duplicate skip")
            case _:
                self._refuse(
                    work,
                    Reason.DUPLICATE,
                    sentence,
                    "Give --on-duplicate skip to leave it out, or --on-duplicate load to have its rows twice.",
                )

    def _moved(self, work: Work) -> bool:
        """Whether this is a file that the ledger knows under a path where it no longer is."""
        assert work.header is not None
        place = (str(work.table), work.sha256 or "")
        for row in self._by_hash.get(place, []) if work.sha256 else []:
            if row.state is FileState.LOADED and not os.path.lexists(row.path) and not self._taken(row):
                self._out.moved.append((row, work.source, work.path_key, work.sha256))
                self._skip(
                    work.source, work.table, Reason.MOVED, f"it is loaded already, and was moved here from {row.path}"
                )
                return True
        for row in self._orphans:
            if (
                row.table_name == str(work.table)
                and row.size == work.source.size
                and not self._taken(row)
                and _prefix_holds(work.source, work.header, row)
            ):
                self._out.moved.append((row, work.source, work.path_key, work.sha256))
                work.row = row
                work.action, work.code, work.from_bytes = Action.RESUME, Reason.MOVED, row.committed_bytes
                work.sentence = f"it was moved here from {row.path}; {row.committed_bytes} bytes are loaded already"
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

    def _no(self, source: Source, table: TableName, code: Reason, sentence: str, hint: str = "") -> None:
        self._out.decisions.append(
            Decision(source=source, table=table, action=Action.REFUSE, code=code, sentence=sentence, hint=hint)
        )

    def _refuse(self, work: Work, code: Reason, sentence: str, hint: str) -> None:
        """Refuse a file that is not loaded, so that `status` shows it."""
        self._no(work.source, work.table, code, sentence, hint)
        self._out.refused.append((work.source, work.table, work.path_key, code, sentence))


def refuse_table(planned: Planned, key: str, error: TableError) -> None:
    """Refuse what was to be loaded into one table; the other tables go on."""
    for work in [w for w in planned.work if str(w.table) == key]:
        refuse_work(planned, work, Reason(error.code), error.message, error.hint)


def refuse_work(planned: Planned, work: Work, code: Reason, sentence: str, hint: str) -> None:
    """Turn one file's loading into a refusal, before anything of it was read."""
    planned.work.remove(work)
    planned.decisions.append(
        Decision(
            source=work.source,
            table=work.table,
            action=Action.REFUSE,
            code=code,
            sentence=sentence,
            hint=hint,
            header=work.header,
        )
    )
    if work.row is not None and (work.row.state is FileState.LOADED or work.row.committed_bytes):
        planned.notes.append((work.row, code, sentence))
    else:
        planned.refused.append((work.source, work.table, work.path_key, code, sentence))


def decision_of(work: Work) -> Decision:
    """A file to be loaded, as the plan shows it."""
    return Decision(
        source=work.source,
        table=work.table,
        action=work.action,
        code=work.code,
        sentence=work.sentence,
        header=work.header,
        file_id=work.row.file_id if work.row else None,
        from_bytes=work.from_bytes,
    )


def header_json(header: Header) -> str:
    """What the ledger keeps of a header."""
    return json.dumps(
        {
            "delimiter": header.dialect.delimiter,
            "line_end": header.dialect.line_end,
            "data_start": header.data_start,
            "names": header.names,
        }
    )


def _columns_of(row: TableRow) -> set[str]:
    return {column["name"] for column in json.loads(row.definition or "[]")}


def _prefix_holds(source: Source, header: Header, row: FileRow) -> bool:
    """Whether the committed part of a file is unchanged, and ends where a record does."""
    if row.prefix_sha256 is None:
        return False
    digest, left, last = hashlib.sha256(), row.committed_bytes, b""
    try:
        with sniff.open_decoded(source) as stream:
            while left and (block := stream.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
                last = block[-1:]
    except (OSError, SourceError):
        return False
    return not left and last == header.dialect.separator and digest.hexdigest() == row.prefix_sha256
