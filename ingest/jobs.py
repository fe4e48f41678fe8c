"""What the main process asks the pool for, and what comes back: small values that cross process borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.model import (
    LENIENT,
    NONE_FITTED,
    Column,
    ColumnType,
    Dialect,
    Discards,
    Fitted,
    Header,
    Merge,
    Reason,
    RecordRules,
    Slice,
    Source,
    TableShape,
)

PROFILE = "profile"  #: look at the values, to infer types
PREVIEW = "preview"  #: run the transform on the head, to see its columns
STAGE = "stage"  #: type and stage, to be loaded

ARROW = "arrow"
"""A stage format: an Arrow IPC file a batch, for targets that insert rows through SQLAlchemy."""
SQLITE = "sqlite"
"""A stage format: a small SQLite database with a table a batch, made from the target table's own definition."""
LOAD_DATA = "load_data"
"""A stage format: text for LOAD DATA of MySQL and MariaDB, a file a batch."""
POSTGRES = "postgres"
"""A stage format: a file a batch for PostgreSQL's COPY, in one of the next two."""
POSTGRES_BINARY = "postgres-binary"
"""How such a batch was staged: encoded for the types of the table."""
POSTGRES_TEXT = "postgres-text"
"""How such a batch was staged: as text, for the server to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Where a batch was staged."""

    format: str
    path: str
    table: str = ""  #: SQLITE: its table in the file
    columns: tuple[str, ...] = ()  #: the table's columns that it has values for; (): all of them
    distinct: bool = False  #: to be merged, and no two rows have the same key


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the rows of a batch stand in their file: enough to find any of them again."""

    source: Source
    slice: Slice
    dialect: Dialect
    exact: bool  #: the slice was split by the exact rules
    kept: str | None  #: spool file with the record number of each row; None: row i is record i
    first_line: int  #: physical line ends before the slice
    first_record: int  #: records of the file before the slice


# Without slots, as it is sent by the thousand: Python pickles those of a frozen dataclass by a loop of its own.
@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a job."""

    source: Source
    header: Header
    file_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the columns of a file go."""

    columns: tuple[Column | None, ...]  #: by position in the file; None: left out at the user's request
    null: tuple[str, ...] = ()
    shape: TableShape | None = None  #: STAGE: the table
    stage_format: str = ""  #: STAGE: a stage format
    transform: str | None = None  #: MODULE:FUNCTION
    where: str | None = None  #: which records are taken, before the transform
    merge: Merge | None = None  #: how records meet rows with the same key; None: they are added
    kept: Mapping[str, str] = field(default_factory=dict)  #: with --on-misfit widen: why a column keeps its type
    ignore_new: bool = False  #: columns that the transform returns and the table lacks are left out
    rules: RecordRules = LENIENT
    rescued: tuple[tuple[int, str], ...] = ()  #: positions and names of columns that go into the rescue column

    @property
    def width(self) -> int:
        """Fields of a record as the header has them: the rescue column, the last where there is one, is none."""
        return len(self.columns) - self.rules.rescue


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to be sliced, or several small ones (a bundle) that travel as one slice."""

    job_id: int
    kind: str
    members: tuple[Member, ...]
    layout: Layout
    start: int  #: where slicing begins, in the decoded stream
    slice_bytes: int
    commit_bytes: int | None = None  #: None: the whole rest is one step
    whole: bool = False  #: one slice, without looking for borders
    exact: bool = False
    after_broken: bool = False
    expect_prefix: str | None = None
    guess: bool = False  #: PROFILE: slices that end at some line end, to be proven by reading them all
    sample: int | None = None  #: PROFILE: bytes to look at; None: all
    lineage: bool = False  #: STAGE: rows carry their file_id
    dry: bool = False  #: STAGE: to the point where a batch would be staged, and no further
    numbered: bool = False  #: STAGE: and the number of their record
    first_record: int = 0  #: records of the file before `start`
    record_numbers: tuple[int, ...] = ()  #: where they do not count on: the number of each record
    reject_limit: int | None = None  #: rejects of a slice to keep the text of; None: all

    @property
    def source(self) -> Source:
        return self.members[0].source

    @property
    def encoding(self) -> str:
        """Of all members."""
        return self.members[0].header.dialect.encoding

    @property
    def bundle(self) -> bool:
        return len(self.members) > 1

    @property
    def size(self) -> int:
        """Bytes on disk of all members."""
        return sum(m.source.size for m in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One slice of a job, for one worker."""

    job: Job
    slice: Slice
    prefix_sha256: str  #: of the decoded bytes up to the slice's end, where it ends a step
    stem: str  #: start of the paths of whatever the worker writes to the spool


# Without slots, as it is sent by the thousand: Python pickles those of a frozen dataclass by a loop of its own.
@dataclass(frozen=True, kw_only=True)
class MemberCount:
    """What one member of a job had in a slice."""

    file_id: int
    records: int
    rows: int
    sha256: str | None  #: of the file's bytes on disk, where the worker read all of them
    fitted: Fitted = NONE_FITTED
    discards: Discards = field(default_factory=dict)  #: of a bundle: what was left out, beside `records`


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a value."""

    code: Reason
    message: str
    hint: str = ""
    trace: str = ""  #: an unexpected error's traceback, for the log file


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecoded:
    """A record that is not UTF-8."""

    line: int  #: physical line where it starts, from 1; within a slice until it is added up
    byte: int  #: offset of the record's first byte in the file
    sample: bytes  #: of what is there, to tell which encoding it may be in


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a worker made of a task. Every task gives exactly one, whatever happens in it."""

    job_id: int
    slice: Slice
    prefix_sha256: str = ""
    failure: Failure | None = None
    unproven: bool = False  #: the slice is not by the book, and its borders are not proven
    split: bool = False  #: a bundle with something unusual in it: do its files one by one
    records: int = 0
    rows: int = 0
    discarded: int = 0
    discards: Discards = field(default_factory=dict)  #: how many of these were left out for what they are
    rejected: int = 0
    misfits: tuple[str, ...] = ()  #: the columns that did not take a value
    lines: int = 0  #: physical line ends in the slice
    base_lines: int = 0  #: physical line ends before the job's first slice
    broken: bool = False  #: a broken quote occurred
    exact: bool = False  #: it was split by the exact rules
    undecoded: Undecoded | None = None  #: the first record that is not UTF-8
    kept: str | None = None  #: spool file with the record number of each staged row; None: row i is record i
    members: tuple[MemberCount, ...] = ()
    staged: Staged | None = None
    staged_bytes: int = 0
    rejects_path: str | None = None
    spent: bool = False  #: it failed as nothing should: its worker may lack memory, and fail at whatever comes next
    advice: str = ""  #: an option with which one of the rejects would not be one
    profiles: Any = None  #: PROFILE: one per column; PREVIEW: the columns of the transform's result
    nulls: tuple[int, ...] = ()  #: PROFILE: by column, records without a value
    apart: tuple[dict[ColumnType, tuple[int, ...]], ...] = ()  #: PROFILE of a bundle, as `apart.kinds` has it
    seconds: float = 0.0
    pid: int = 0
    process: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSliced:
    """All slices of a job have gone out."""

    job_id: int
    slices: int
    sha256: str | None = None  #: of the file's bytes on disk
    failure: Failure | None = None
