"""Our own tables, in SQLAlchemy's words: what the ledger keeps beside the user's data. Asks and changes nothing.

`migrations/` says the same as steps, frozen as they were released; a test proves that both agree. Times are UTC
without a zone, offsets count bytes of the decoded stream from 0, texts named JSON hold one JSON document.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Unicode,
    UnicodeText,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TypeDecorator, TypeEngine

VERSION_TABLE = "ingest_version"

metadata = MetaData()

# SQLite numbers rows by itself only in a column whose type is spelt INTEGER.
_KEY = BigInteger().with_variant(Integer(), "sqlite")

# Where VARCHAR and TEXT are of one code page (SQL Server), Unicode makes columns that hold every character; elsewhere
# the two are the same.

# MySQL's TEXT ends at 64 KiB: a rejected record or the columns of a wide table can be longer. The length makes it a
# LONGTEXT there; the other databases have no limit and refuse a length.
_LONG = UnicodeText().with_variant(Text(2**32 - 1), "mysql", "mariadb")


class _Time(TypeDecorator[datetime]):
    """A moment to the microsecond: MySQL's DATETIME would end at whole seconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects.mysql import DATETIME  # 0.03 s, which other databases need not pay

            return dialect.type_descriptor(DATETIME(fsp=6))
        return super().load_dialect_impl(dialect)


_TIME = _Time()


@compiles(CreateTable, "mysql", "mariadb")
def _create_on_mysql(create: CreateTable, compiler: Any, **options: Any) -> str:
    # The ledger must be transactional, file names may hold any character, names that differ by case or an accent are
    # two, and the longest has its index: on MySQL none of this goes without saying. Said by the tables themselves, with
    # `mysql_engine=`, it would have SQLAlchemy import all that it knows of MySQL wherever there is a ledger.
    statement: str = compiler.visit_create_table(create, **options)
    if create.element.metadata is not metadata or create.element.name == VERSION_TABLE:  # Alembic makes it plain
        return statement
    return f"{statement.rstrip()} ENGINE=InnoDB CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC"


ingest_file = Table(
    "ingest_file",
    metadata,
    # Number of the file; rows of tables with lineage carry it.
    Column("file_id", _KEY, primary_key=True),
    # Table that the file goes to, with its schema where one was typed.
    Column("table_name", Unicode(255), nullable=False),
    # Absolute, resolved path; a backslash is doubled, a byte that is not UTF-8 stands as \xNN.
    Column("path", UnicodeText, nullable=False),
    # Hash of the table and of the path's bytes: the identity of the file.
    Column("path_key", Unicode(64), nullable=False),
    # Bytes on disk at the last attempt.
    Column("size", BigInteger, nullable=False),
    # Time of its last modification, in nanoseconds since 1970.
    Column("mtime_ns", BigInteger, nullable=False),
    # Time of its last change of name, owner or content, in nanoseconds since 1970.
    Column("ctime_ns", BigInteger, nullable=False),
    # Time at which it was looked at, in nanoseconds since 1970.
    Column("scanned_ns", BigInteger, nullable=False),
    # SHA-256 of its content on disk, in hexadecimal; empty until it is known.
    Column("sha256", Unicode(64)),
    # started, loaded, refused, failed or undoing.
    Column("state", Unicode(16), nullable=False),
    # Bytes of the decoded stream that are in the table, the rejects or the discarded count.
    Column("committed_bytes", BigInteger, nullable=False),
    # Data records in those bytes.
    Column("committed_records", BigInteger, nullable=False),
    # SHA-256 of those bytes; a resume compares it before it goes on.
    Column("prefix_sha256", Unicode(64)),
    # Records of it that became rows of the table.
    Column("rows_loaded", BigInteger, nullable=False),
    # Records of it that were set aside as rejects while the file was loaded.
    Column("rows_rejected", BigInteger, nullable=False),
    # Records and lines of it that were left out: by its user, or for what they are.
    Column("rows_discarded", BigInteger, nullable=False),
    # Whether its rows carry file_id, so that they can be taken back.
    Column("lineage", Boolean, nullable=False),
    # JSON of the dialect and the columns it was read with.
    Column("header", _LONG),
    # Raised when a run is taken over: what the old run still sends no longer matches.
    Column("epoch", Integer, nullable=False),
    # Raised with every change of this row.
    Column("version", BigInteger, nullable=False),
    # How often it was begun.
    Column("attempts", Integer, nullable=False),
    # Workers in a row that died while they read nothing but this file.
    Column("deaths", Integer, nullable=False),
    # Run that changed this row last.
    Column("run_id", BigInteger, nullable=False),
    # Start of the last attempt.
    Column("started_at", _TIME, nullable=False),
    # Commit of its last record, when it was last loaded to its end.
    Column("loaded_at", _TIME),
    # Reason code of the last refusal or failure.
    Column("error_code", Unicode(32)),
    # The same as a sentence.
    Column("error", _LONG),
    # How its records became rows: append, replace, upsert or insert-ignore.
    Column("mode", Unicode(16), nullable=False, server_default="append"),
    # Records that were left out for a newer one with the same key.
    Column("rows_superseded", BigInteger, nullable=False, server_default="0"),
    # Records that were left out for an earlier row with the same key.
    Column("rows_ignored", BigInteger, nullable=False, server_default="0"),
    # JSON of how many of the discarded ones were lines before the header, comments and the like; empty if none were.
    Column("discards", Unicode(255)),
    UniqueConstraint("path_key", name="uq_ingest_file_path_key"),
    Index("ix_ingest_file_table_state", "table_name", "state"),
    Index("ix_ingest_file_sha256", "sha256"),
    # Without it SQLite gives the number of a forgotten file to the next one, whose reload would delete its rows.
    sqlite_autoincrement=True,
)

ingest_table = Table(
    "ingest_table",
    metadata,
    # Number of this row.
    Column("table_id", _KEY, primary_key=True),
    # The table, with its schema where one was typed.
    Column("table_name", Unicode(255), nullable=False),
    # Random word that stands in the definition of a table that we made.
    Column("token", Unicode(32), nullable=False),
    # creating (the intent, before the CREATE) or ready.
    Column("state", Unicode(16), nullable=False),
    # Whether the tool created the table.
    Column("made_by_us", Boolean, nullable=False),
    # JSON list of its columns: name, type, origin, precision, scale, strict; spelling, where dates have one; was, while
    # the type is being changed.
    Column("definition", _LONG, nullable=False),
    # What the database says of the table, to notice another one under the same name.
    Column("identity", _LONG),
    # Run that wrote the intent.
    Column("run_id", BigInteger, nullable=False),
    # When the intent was written.
    Column("created_at", _TIME, nullable=False),
    # When this row changed last.
    Column("changed_at", _TIME, nullable=False),
    # The table whose rows it is to replace, of one that is filled for that.
    Column("replaces", Unicode(255)),
    UniqueConstraint("table_name", name="uq_ingest_table_table_name"),
)

ingest_run = Table(
    "ingest_run",
    metadata,
    # Number of the run.
    Column("run_id", _KEY, primary_key=True),
    # running, finished, stopped or abandoned.
    Column("state", Unicode(16), nullable=False),
    # When it started.
    Column("started_at", _TIME, nullable=False),
    # When it ended by itself; empty for a run that was killed.
    Column("finished_at", _TIME),
    # Name of the machine it ran on.
    Column("host", Unicode(255), nullable=False),
    # Number of its main process there.
    Column("pid", BigInteger, nullable=False),
    # Version of ingest.
    Column("ingest_version", Unicode(32), nullable=False),
    # JSON of its options, without secrets.
    Column("options", _LONG, nullable=False),
    # Exit code, when it ended by itself.
    Column("exit_code", Integer),
    # Files that it loaded.
    Column("files_loaded", BigInteger, nullable=False),
    # Files that were loaded already.
    Column("files_skipped", BigInteger, nullable=False),
    # Files that it refused.
    Column("files_refused", BigInteger, nullable=False),
    # Files that failed for another reason than their content.
    Column("files_failed", BigInteger, nullable=False),
    # Rows that it inserted.
    Column("rows_loaded", BigInteger, nullable=False),
    # Records that it set aside.
    Column("rows_rejected", BigInteger, nullable=False),
    # Records that it left out at the user's request.
    Column("rows_discarded", BigInteger, nullable=False),
    # Bytes of the decoded streams that it read and committed.
    Column("bytes_read", BigInteger, nullable=False),
    # What stopped it, as a sentence.
    Column("error", _LONG),
    # Records that it left out for newer ones.
    Column("rows_superseded", BigInteger, nullable=False, server_default="0"),
    # Records that it left out for earlier rows.
    Column("rows_ignored", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,  # a number tells one run from another for ever: it fences what an old run still sends
)

ingest_reject = Table(
    "ingest_reject",
    metadata,
    # Number of this row.
    Column("reject_id", _KEY, primary_key=True),
    # File that the record stands in.
    Column("file_id", BigInteger, nullable=False),
    # Run that read it.
    Column("run_id", BigInteger, nullable=False),
    # Table that it was meant for.
    Column("table_name", Unicode(255), nullable=False),
    # Line of the file where the record starts, from 1.
    Column("line", BigInteger, nullable=False),
    # Offset of its first byte in the decoded stream.
    Column("byte_offset", BigInteger, nullable=False),
    # Number of the record within the file, from 0.
    Column("record", BigInteger, nullable=False),
    # Column that did not fit, if it was one.
    Column("column_name", UnicodeText),
    # Reason code.
    Column("reason", Unicode(32), nullable=False),
    # The reason as a sentence.
    Column("message", _LONG, nullable=False),
    # The record as it stands in the file; a byte that does not decode as \xNN.
    Column("raw", _LONG, nullable=False),
    # Whether the file was loaded without this record; if not, the file was refused.
    Column("applied", Boolean, nullable=False),
    # Run that loaded the record back, mended; empty while it is open.
    Column("closed_run_id", BigInteger),
    # When that was.
    Column("closed_at", _TIME),
    # The record as it was last given back, as CSV with commas: loaded so if closed, else refused for the reason above.
    Column("mended", _LONG),
    Index("ix_ingest_reject_file_id", "file_id"),
    sqlite_autoincrement=True,  # people have the number in a file that they mend: it must not become another record's
)

ingest_lease = Table(
    "ingest_lease",
    metadata,
    # Always 1: it is made with the ledger, so that two that want it first meet at the same row.
    Column("lease_id", Integer, primary_key=True, autoincrement=False),
    # Raised whenever somebody takes the lease.
    Column("epoch", BigInteger, nullable=False),
    # Random word of the run that holds it; empty while nobody does.
    Column("holder", Unicode(32)),
    # Name of the machine it runs on.
    Column("host", Unicode(255)),
    # What tells this start of that machine, and the room its process numbers count in, from any other.
    Column("boot_id", Unicode(128)),
    # Number of its main process there.
    Column("pid", BigInteger),
    # When that process started, as the machine counts, for numbers are given again.
    Column("pid_started", BigInteger),
    # When it was taken, by the clock of the database.
    Column("taken_at", _TIME),
    # When its holder was last heard of, by the same clock.
    Column("heartbeat_at", _TIME),
)

# The table that alembic keeps, spelt as alembic makes it: a new ledger is created whole and stamped without it.
ingest_version = Table(
    VERSION_TABLE,
    metadata,
    Column("version_num", Unicode(32), primary_key=True, nullable=False),
)
