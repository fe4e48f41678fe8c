"""What a plan, a check or a run tells: its decisions, its tables, its result, and the events on the way there.

Nouns like those of `model`: frozen, picklable, and without behaviour that needs a library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ingest.model import (
    NONE_FITTED,
    Action,
    ColumnType,
    Discard,
    Discards,
    Fitted,
    Header,
    LeftOut,
    Reason,
    Reject,
    Source,
    TableName,
    TableShape,
)

NO_TABLE = "?"
"""What stands for the table of a file whose name gives none; the ledger does not know such a file."""

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
"""The exit code of a run that was stopped, by the signal's name."""


class Exit:
    """The exit codes of a run that ends by itself."""

    OK, ERROR, REJECTS, INCOMPLETE, UNREACHABLE = 0, 1, 3, 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the plan does with one source, and why."""

    source: Source
    table: TableName
    action: Action
    code: Reason
    sentence: str
    header: Header | None = None
    file_id: int | None = None
    from_bytes: int = 0  #: RESUME: where it goes on, in the decoded stream
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderGroup:
    """Files of one table with the same columns, and how these differ from the table's."""

    files: tuple[str, ...]  #: as `Source.display`
    columns: tuple[str, ...]
    added: tuple[str, ...] = ()  #: columns that the table lacks
    missing: tuple[str, ...] = ()  #: columns of the table that they lack
    renamed: tuple[tuple[str, str], ...] = ()  #: a column, and the missing one that it may be: a guess, not applied
    spelled: tuple[tuple[str, str], ...] = ()  #: a column, and the table's in another case that it goes to
    reordered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedColumn:
    """A new column that has to be text because its values are of different types in different files."""

    name: str
    type: ColumnType  #: what it becomes
    kinds: tuple[tuple[ColumnType, tuple[str, ...]], ...]  #: what it is in which files, as `Source.display`


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """What will be done to one table before its first row."""

    table: TableName
    exists: bool
    shape: TableShape | None  #: None when no file of it has a record and it is not there
    added: tuple[str, ...] = ()  #: columns that will be added to an existing table
    notes: tuple[str, ...] = ()
    headers: tuple[HeaderGroup, ...] = ()  #: the files to be loaded, by their columns
    mixed: tuple[MixedColumn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `load` would do."""

    database: str  #: the URL without its secrets
    new: bool  #: the database does not exist yet
    decisions: tuple[Decision, ...]
    tables: tuple[TablePlan, ...]
    left_out: tuple[LeftOut, ...] = ()
    vanished: tuple[str, ...] = ()  #: loaded once, below the scanned paths, and no longer there


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredColumn:
    """A column as `load` would make it."""

    name: str
    type: str  #: as --type takes it: bigint, decimal(12,2)
    nullable: bool  #: a record has no value there, or nobody looked
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredTable:
    """A table as `load` would make it for these files."""

    table: TableName
    files: int
    columns: tuple[InferredColumn, ...]  #: without our own
    sql: str  #: its CREATE TABLE, for the database that is named
    options: str  #: the same types as options for a shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What the files say of their tables, whatever is loaded already."""

    tables: tuple[InferredTable, ...]
    left_out: tuple[LeftOut, ...] = ()  #: files that say nothing, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """How one file ended in this run."""

    path: str
    display: str
    table: str
    action: Action
    state: str  #: loaded, skipped, refused, failed or unfinished
    code: Reason
    sentence: str
    hint: str = ""
    file_id: int | None = None
    bytes: int = 0
    records: int = 0  #: data records read in this run
    rows: int = 0  #: rows inserted or updated in this run
    rejected: int = 0
    discarded: int = 0
    discards: Discards = field(default_factory=dict)  #: how many of these were left out for what they are
    superseded: int = 0  #: left out for a newer record with the same key
    ignored: int = 0  #: left out for an earlier row with the same key
    fitted: Fitted = NONE_FITTED  #: ragged records that this run made rows of


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, counted from what is committed."""

    phase: str  #: "plan" (types are being inferred), "load" or "check"
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rows: int
    rejected: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One run and its result."""

    run_id: int | None  #: None when nothing was written
    database: str  #: the URL without its secrets
    new: bool  #: the database did not exist before
    exit_code: int
    seconds: float
    files: tuple[FileOutcome, ...]
    left_out: tuple[LeftOut, ...] = ()
    vanished: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stopped_by: str | None = None  #: "SIGINT", "SIGTERM", or None

    def count(self, state: str) -> int:
        """Files that ended in `state`."""
        return sum(1 for f in self.files if f.state == state)

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    @property
    def rejected(self) -> int:
        return sum(f.rejected for f in self.files)

    @property
    def discarded(self) -> int:
        return sum(f.discarded for f in self.files)

    @property
    def discards(self) -> Discards:
        return {kind: n for kind in Discard if (n := sum(f.discards.get(kind, 0) for f in self.files))}

    @property
    def superseded(self) -> int:
        return sum(f.superseded for f in self.files)

    @property
    def ignored(self) -> int:
        return sum(f.ignored for f in self.files)

    @property
    def fitted(self) -> Fitted:
        return sum((f.fitted for f in self.files), NONE_FITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """How one file would end in a load; the names are those of `FileOutcome`."""

    path: str
    display: str
    table: str
    action: Action
    state: str  #: loaded, skipped, refused or failed
    code: Reason
    sentence: str
    hint: str = ""
    bytes: int = 0
    records: int = 0
    rows: int = 0
    rejected: int = 0
    discarded: int = 0
    fitted: Fitted = NONE_FITTED
    rejects: tuple[Reject, ...] = ()  #: the first of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a load would come to, as far as can be told without writing."""

    database: str  #: the URL without its secrets
    new: bool  #: the database does not exist
    exit_code: int  #: of such a load
    seconds: float
    files: tuple[FileCheck, ...]
    tables: tuple[TablePlan, ...]
    left_out: tuple[LeftOut, ...] = ()
    vanished: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell at once: a warning, a death, a restart."""

    level: str  #: "info", "warning" or "error"
    text: str
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The first thing a run tells: which database, and whether it is new."""

    database: str
    new: bool


Event = Opened | FileOutcome | Progress | Notice | RunReport
Listener = Callable[[Event], None]


@dataclass(slots=True)
class StopRequest:
    """Asks a run to stop: set `signal` from a handler; 2 or more in `count` means at once."""

    signal: str | None = None
    count: int = field(default=0)

    def ask(self, name: str) -> None:
        self.signal = self.signal or name
        self.count += 1
