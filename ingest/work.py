"""What a plan is made of: the files to be loaded, the tables they go to, and what was said of the others.

Decides nothing, reads nothing and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.errors import TableError
from ingest.model import Action, FileState, Header, Reason, Source, TableName, TableShape
from ingest.reports import Decision
from ingest.rows import FileRow, TableRow


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
    tail: bool = False  #: it is loaded but for what was added to it since
    after_broken: bool = False  #: what is loaded of it had a broken quote
    alone: bool = False  #: it killed its workers before: by itself, and once
    staging: TableName | None = None  #: it goes into this table first, whose rows then replace those of `table`

    @property
    def in_one(self) -> bool:
        """Whether it is one transaction whatever its size: what is loaded of it stays if the new content is refused."""
        return self.tail or (self.reset and self.row is not None and self.row.state is FileState.LOADED)

    @property
    def bytes_left(self) -> int:
        """How much of the file on disk is to be read."""
        return self.source.size - (self.from_bytes if self.seekable else 0)

    @property
    def seekable(self) -> bool:
        """Whether any part of it can be read by its offset, without what is before."""
        return self.header is not None and self.source.seekable(self.header.dialect.encoding)

    @property
    def home(self) -> str:
        """The table under which the ledger has it."""
        return str(self.staging or self.table)


@dataclass(slots=True, kw_only=True)
class TableState:
    """One table of the plan, as it is now."""

    table: TableName
    shape: TableShape | None
    row: TableRow | None
    made_by_us: bool
    lost: Reason | None = None  #: TABLE_LOST or TABLE_EMPTIED
    unknown: bool = False  #: lost, for we made it, and the ledger knows nothing of it
    empty: bool = False  #: it is not there or has no row; asked only where the ledger knows of rows
    unusable: TableError | None = None  #: nothing can be loaded into it
    staging: TableName | None = None  #: to be replaced: the table that is filled for it
    staged: TableShape | None = None  #: the same, if it is there already and can be gone on with
    unique: dict[frozenset[str], str] = field(default_factory=dict)  #: with --key: `Target.unique_keys`

    @property
    def key(self) -> str:
        return str(self.table)

    def can_replace(self, row: FileRow) -> bool:
        """Whether the rows of this file can be taken out, for others to take their place."""
        there = self.shape is not None and not self.empty
        lineage = row.lineage and self.shape is not None and self.shape.lineage
        return not row.rows_loaded or not there or (lineage and not row.merged)


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
    lost: dict[str, tuple[Reason, str]] = field(default_factory=dict)  #: tables to be filled again
    undone: list[tuple[FileRow, Reason, str]] = field(default_factory=list)  #: loaded in part, to be taken back
    vanished: list[str] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)  #: which rows of tables in `lost` cannot be loaded again


def refuse_table(planned: Planned, key: str, error: TableError) -> None:
    """Refuse what was to be loaded into one table; the other tables go on."""
    for work in [w for w in planned.work if str(w.table) == key]:
        refuse_work(planned, work, Reason(error.code), error.message, error.hint)


def refuse_work(planned: Planned, work: Work, code: Reason, sentence: str, hint: str) -> None:
    """Turn one file's loading into a refusal, before anything of it was read."""
    planned.work.remove(work)
    refuse(planned, work, code, sentence, hint)


def refuse(planned: Planned, work: Work, code: Reason, sentence: str, hint: str) -> None:
    """Refuse a file that is not among the work; the ledger will say why."""
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
    row = work.row
    kept = (FileState.LOADED, FileState.UNDOING)
    if row is not None and (row.state in kept or row.committed_bytes or not row.sound):
        planned.notes.append((row, code, sentence))
    else:
        planned.refused.append((work.source, work.staging or work.table, work.path_key, code, sentence))


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
