"""The nouns that travel between rooms and processes: frozen, picklable, without behaviour that needs a library.

Imports nothing heavy, so that every process can import it at once. Byte offsets count from 0 in the *decoded*
stream of a source (for a plain file: the file itself, BOM included). Record numbers count data records from 0
within what the field names; line numbers are physical lines of the file and count from 1, as an editor does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LINEAGE_COLUMN = "_ingest_file_id"
"""The column of tables that the tool makes, naming the ledger's file of each row."""

RECORD_COLUMN = "_ingest_record"
"""The column beside it, with `--lineage row`: the number of the row's record within its file, from 0."""

OWN_COLUMNS = frozenset((LINEAGE_COLUMN, RECORD_COLUMN))
"""Columns that no file can have values for."""

POSITION_COLUMN = "_ingest_row"
"""The column of our temporary tables beside those of a file: no column of a file can be called so, either."""

UTF8 = "utf-8"
"""The encoding of the decoded stream, and of most files; by the name that Python's codecs give it."""


class Codec(StrEnum):
    """How the bytes of a file are packed."""

    PLAIN = "plain"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


class ColumnType(StrEnum):
    """The types a column can have for us; a target maps each to its own."""

    TEXT = "text"
    BIGINT = "bigint"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    DECIMAL = "decimal"
    TIME = "time"
    UUID = "uuid"


class Origin(StrEnum):
    """Who decided the type of a column."""

    INFERRED = "inferred"  #: all values (or the sample) were looked at
    DECLARED = "declared"  #: the user, by --type or --types text
    UNDECIDED = "undecided"  #: no value yet: TEXT until values come
    EXISTING = "existing"  #: the table was there before us
    TRANSFORM = "transform"  #: the user's transform returned it
    LINEAGE = "lineage"  #: our own column


class Mode(StrEnum):
    """How the records of a file become rows."""

    APPEND = "append"  #: each is a row of its own
    REPLACE = "replace"  #: each is a row of its own, and the table has no others
    UPSERT = "upsert"  #: it takes the place of the row with the same key
    INSERT_IGNORE = "insert-ignore"  #: it is left out where there is a row with the same key


class FileState(StrEnum):
    """What the ledger says of a file. *Pending* is never stored: it is the scan minus this."""

    STARTED = "started"  #: an attempt began; exactly `committed_bytes` of the file are in the table
    LOADED = "loaded"  #: every record is in the table, the rejects or the discarded count
    REFUSED = "refused"  #: its content or its plan was refused; nothing of it is in the table
    FAILED = "failed"  #: something else stopped it (I/O, a killed worker); nothing of it is in the table
    UNDOING = "undoing"  #: committed rows of it are being taken back; the next run finishes that first


class RunState(StrEnum):
    """What the ledger says of a run."""

    RUNNING = "running"  #: started; not ended, or killed and not yet noticed
    FINISHED = "finished"  #: ended by itself; its exit code tells how
    STOPPED = "stopped"  #: ended by SIGINT or SIGTERM, in order
    ABANDONED = "abandoned"  #: killed; noticed and taken over by a later run


class Action(StrEnum):
    """What a plan decides for a file."""

    LOAD = "load"
    RESUME = "resume"
    RELOAD = "reload"
    SKIP = "skip"
    REFUSE = "refuse"


class Reason(StrEnum):
    """Why: one code per decision, refusal, failure or reject. The sentence beside it is for people."""

    # decisions
    NEW = "new"
    RETRY = "retry"
    PART_LOADED = "part_loaded"
    LOADED = "loaded"
    SAME_CONTENT = "same_content"
    CHANGED = "changed"
    GROWN = "grown"
    MOVED = "moved"
    DUPLICATE = "duplicate"
    TABLE_LOST = "table_lost"
    TABLE_EMPTIED = "table_emptied"
    TOO_YOUNG = "too_young"
    NO_RECORDS = "no_records"
    # refusals of a file
    UNREADABLE = "unreadable"
    NOT_REGULAR = "not_regular"
    ENCODING = "encoding"
    NO_HEADER = "no_header"
    HEADER = "header"
    CORRUPT = "corrupt"
    CONTAINER = "container"
    UNPACKED = "unpacked"
    COLUMNS = "columns"
    NEW_COLUMNS = "new_columns"
    NO_LINEAGE = "no_lineage"
    OVER_BUDGET = "over_budget"
    MISFIT = "misfit"
    KEY = "key"
    MERGED = "merged"
    HELD_BACK = "held_back"
    TRANSFORM = "transform"
    CONSTRAINT = "constraint"
    COUNTS = "counts"
    CHANGED_WHILE_READ = "changed_while_read"
    QUARANTINED = "quarantined"
    TIMEOUT = "timeout"
    SPOOL = "spool"
    DATABASE = "database"
    INTERNAL = "internal"
    # rejects of a record
    RAGGED = "ragged"
    TOO_LONG = "too_long"
    BROKEN_QUOTE = "broken_quote"
    BAD_BYTE = "bad_byte"
    NUL_BYTE = "nul_byte"
    NOT_NULL = "not_null"
    BAD_INTEGER = "bad_integer"
    BAD_NUMBER = "bad_number"
    BAD_BOOLEAN = "bad_boolean"
    BAD_DATE = "bad_date"
    BAD_TIMESTAMP = "bad_timestamp"
    BAD_TIME = "bad_time"
    BAD_UUID = "bad_uuid"
    LOSSY = "lossy"


class Discard(StrEnum):
    """What is left out of a file for what it is; what its user left out has no kind of its own."""

    PREAMBLE = "preamble"  #: lines before the header
    COMMENT = "comment"  #: comment lines among the records
    HEADER = "repeated_header"  #: records that are the header again, byte for byte
    TABLE = "second_table"  #: lines of another table below
    FOOTER = "footer"  #: lines of text below the last record


Discards = Mapping[Discard, int]
"""How many lines or records of each kind; a kind without any is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where in a zip archive a file lies."""

    archive: str  #: path of the archive, absolute and resolved
    archive_size: int  #: bytes on disk
    offset: int  #: of the entry's own header in the archive
    length: int  #: bytes that it takes there, packed
    method: int  #: as the format numbers the ways of packing
    crc: int  #: CRC-32 of the unpacked bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why the scan already knows that a source cannot be opened."""

    code: Reason
    sentence: str
    hint: str = ""


# Without slots, as it is sent by the thousand: Python pickles those of a frozen dataclass by a loop of its own.
@dataclass(frozen=True, kw_only=True)
class Source:
    """One CSV file as a scan found it."""

    path: str  #: absolute and resolved; undecodable bytes are surrogate escapes, as os.fsdecode makes them
    display: str  #: the path below what was typed, for people
    size: int  #: bytes on disk; of an entry: as it is unpacked from its archive
    mtime_ns: int
    ctime_ns: int
    scanned_ns: int  #: time.time_ns() when it was looked at
    codec: Codec = Codec.PLAIN
    entry: Entry | None = None  #: of a zip archive, whose path and a slash `path` begins with; the times are its
    most: int | None = None  #: bytes that it may unpack to; None: what is usual for its size
    problem: Problem | None = None

    @property
    def file(self) -> str:
        """The path of what is on disk."""
        return self.path if self.entry is None else self.entry.archive

    @property
    def size_on_disk(self) -> int:
        return self.size if self.entry is None else self.entry.archive_size

    @property
    def packed(self) -> bool:
        """Whether its bytes have to be unpacked, from its first one on."""
        return self.codec is not Codec.PLAIN or self.entry is not None

    def seekable(self, encoding: str) -> bool:
        """Whether the decoded stream is the file on disk itself: any part of it can be read without what is before."""
        return encoding == UTF8 and not self.packed


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A path that the scan or the plan left alone, and why."""

    path: str
    code: Reason
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The ordered sources that a scan found."""

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableName:
    """A table, with its schema where one was typed."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the user says of how the files are written; None is to be found out."""

    delimiter: str | None = None  #: one character or several
    quote: str | None = None  #: "": there is none
    escape: str | None = None  #: "": a quote is doubled
    encoding: str | None = None  #: as Python names it
    header: int | None = None  #: rows of the header; 0: there is none
    skip_rows: int | None = None  #: physical lines before the header
    comment: str | None = None  #: what lines begin with that are no records; "": none are


UNTOLD = Told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a CSV is written."""

    delimiter: str = ","  #: one character or several
    quote: str = '"'  #: "": none, every quote is a character like any other
    escape: str = ""  #: makes a plain character of the one after it; "": a quote is doubled inside quoted fields
    encoding: str = UTF8  #: of the bytes on disk; the decoded stream is UTF-8
    comment: str = ""  #: what lines begin with that are no records
    line_end: str = "\n"  #: "\n", "\r\n" or "\r"; a mix of the first two counts as "\n"

    @property
    def separator(self) -> bytes:
        """The byte at which slices may end: carriage return only where no line feed ends a line."""
        return b"\r" if self.line_end == "\r" else b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """What the user wants to become of records that are not as the header says."""

    pad: bool = False  #: short ones are filled up with NULL; else they are rejects
    rescue: bool = False  #: values beyond the last column are kept; else their records are rejects
    discard_empty: bool = False  #: records without any value are discarded; else they are rows of NULLs
    max_field: int | None = None  #: bytes of the longest field, unquoted; records with a longer one are rejects


LENIENT = RecordRules()
"""No limit, and nothing done that was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """How many ragged records were made to fit, and are rows."""

    padded: int = 0  #: short ones, filled up with NULL
    trimmed: int = 0  #: long ones with nothing but empty fields beyond the last column
    rescued: int = 0  #: long ones whose values beyond the last column are in the rescue column

    def __add__(self, other: Fitted) -> Fitted:
        return Fitted(
            padded=self.padded + other.padded,
            trimmed=self.trimmed + other.trimmed,
            rescued=self.rescued + other.rescued,
        )

    def __bool__(self) -> bool:
        return bool(self.padded or self.trimmed or self.rescued)


NONE_FITTED = Fitted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the head of a file says: its dialect, its columns, and where its data begins."""

    dialect: Dialect
    names: tuple[str, ...]  #: trimmed, empty ones named, duplicates numbered
    data_start: int  #: offset of the first byte after the header record
    has_data: bool = True  #: False when nothing but the header (or nothing at all) is there
    rows: tuple[str, ...] = ()  #: its records as they stand in the file, to be known again; (): there are none
    guessed: bool = False  #: nobody said that it has none: the records below did
    discards: Discards = field(default_factory=dict)  #: what is left out before the data


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How the values of a column are written in the files."""

    moment: str = ""  #: DATE and TIMESTAMP: a pattern (`spellings.py`); "": ISO 8601
    decimal: str = "."  #: the decimal sign of numbers
    thousands: str = ""  #: what may stand between groups of three digits; "": nothing
    null: tuple[str, ...] = ()  #: words that are NULL in this column, quoted or not


PLAIN = Spelling()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: ColumnType
    origin: Origin = Origin.EXISTING
    nullable: bool = True
    precision: int | None = None  #: DECIMAL, and a DOUBLE that rounds: digits in all
    #: DECIMAL, and a DOUBLE that rounds: digits after the point; TIMESTAMP, and TEXT for a moment or time: of a second
    scale: int | None = None
    strict: bool = False  #: leading zeros, plus signs and the like are rejects, for they would be lost
    bits: int | None = None  #: BIGINT, DOUBLE: of the table's own type, if narrower or unsigned
    unsigned: bool = False  #: the table's own type takes no negative number
    length: int | None = None  #: TEXT: characters that the table's own type takes
    numeric: bool = False  #: TEXT, DECIMAL: SQLite stores a number in the place of each text that looks like one
    required: bool = False  #: the database has nothing to put there where a file lacks the column
    note: str = ""  #: what another type would have lost, for people
    reason: str = ""  #: why this type, of every column whose values were looked at, for people
    spelling: Spelling = PLAIN
    native: str = ""  #: the type as the database itself spells it, where the target needs to know
    #: what to type before an UPDATE can set it; "": nothing. A table like this one need not share it
    fixed: str = field(default="", compare=False)

    @property
    def typed(self) -> str:
        """The type as --type takes it."""
        if self.spelling.moment:
            return f"{self.type.value}({self.spelling.moment})"
        digits = self.type is ColumnType.DECIMAL and self.precision is not None
        return self.type.value + (f"({self.precision},{self.scale or 0})" if digits else "")


def is_year(column: Column) -> bool:
    """Whether it is a YEAR of MySQL's, to which 0000 is one year and 0 another."""
    return column.type is ColumnType.BIGINT and column.native.startswith("year")


def is_duration(column: Column) -> bool:
    """Whether it is a TIME of MySQL's, to which a plain number is one, too; PostgreSQL's speak of time zones."""
    return column.type is ColumnType.TEXT and column.native.startswith("time") and "zone" not in column.native


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """A table as it is, or as it will be made."""

    table: TableName
    columns: tuple[Column, ...]  #: in the table's own order, the lineage column included where there is one
    definition: str = ""  #: the target's own text for what a batch is staged in (SQLite: a CREATE TABLE)
    fingerprint: str = ""  #: hash of names, order, types, collations and constraints, by the target
    key: tuple[str, ...] = ()  #: of a table that is to be made: columns that are unique together
    bulk: bool = False  #: the target's fast path may be used for it
    why_not_bulk: str = ""
    generated: tuple[str, ...] = ()  #: columns whose values it makes itself, in lower case; not in `columns`
    refers: bool = False  #: it has foreign keys: a row needs others, of this table or another, to be there

    @property
    def lineage(self) -> bool:
        return any(c.name == LINEAGE_COLUMN for c in self.columns)

    @property
    def numbered(self) -> bool:
        """Whether its rows carry the number of their record."""
        return self.lineage and any(c.name == RECORD_COLUMN for c in self.columns)

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How records meet the rows with the same key; the columns as the table spells them."""

    mode: Mode
    key: tuple[str, ...]  #: a unique index of the table
    newest_by: str | None = None  #: UPSERT: of two, the one with the greater value stays, not the later one

    @property
    def ordered(self) -> bool:
        """Whether the order of the files decides which of two records stays."""
        return self.newest_by is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A byte range of a source that starts and ends on a record boundary: the unit of parallel work."""

    index: int  #: counts from 0 within the job
    start: int  #: offset of its first byte in the decoded stream
    length: int  #: bytes
    step: int = 0  #: the commit step it belongs to, from 0 within the job
    ends_step: bool = False
    first: bool = False  #: starts where the file's data starts
    last: bool = False  #: ends at the end of the file
    exact: bool = False  #: its border was found by the parser's own rules; read it by them, too
    after_broken: bool = False  #: a broken quote came before: a stray quote is a reject from here on
    checksum: int | None = None  #: zlib.crc32 of its bytes as the slicer saw them; None: not looked at
    spooled: str | None = None  #: file with its decoded bytes, where the source itself cannot be seeked
    first_record: int = 0  #: records of the file before it; counted only where rows carry their number


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One record that could not be loaded."""

    code: Reason
    message: str  #: a sentence without the value itself
    line: int  #: physical line where the record starts, from 1; within a slice until the run adds the rest
    byte: int  #: offset of the record's first byte, in the decoded stream
    record: int  #: number of the record, from 0 within its slice until the run adds the rest
    column: str | None = None
    text: str = ""  #: the record as it stands in the file; bytes that do not decode as \\xNN
