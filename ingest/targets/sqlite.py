"""SQLite: one file, one writer, and a bulk path that copies staged records undecoded."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from ingest import spool
from ingest.errors import DatabaseUnreachable, LeaseHeld, TableError, UsageError
from ingest.jobs import SQLITE
from ingest.model import LINEAGE_COLUMN, Column, ColumnType, Origin, Reason, TableName, TableShape
from ingest.targets.base import POSITION, BatchRef, Target, fingerprint_of
from ingest.targets.faults import Fault
from ingest.targets.keys import Keys

BUSY_SECONDS = 60
"""How long a statement waits for another program's lock on the file."""

_BROKEN = re.compile(r"(?:UNIQUE|NOT NULL|CHECK) constraint failed: .*", re.DOTALL)

_TOKEN = re.compile(r"/\* ingest ([0-9a-f]{32}) \*/")

_ROWIDS = ("rowid", "_rowid_", "oid")
"""What the number of a row is called, unless a column is called so (sqlite.org/rowidtable.html)."""


_WORD = r""""(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s("'`\[]+"""


_BARE = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|(\w+|[()])", re.DOTALL
)
"""Comments, texts and quoted names of an SQL text; or, as a group, a bare word or a parenthesis."""


class SQLiteTarget(Target):
    """An SQLite database file."""

    title = "SQLite"
    transactional_ddl = True
    schemas = False
    max_columns = 2_000  # SQLITE_MAX_COLUMN of every common build
    conflict_insert = staticmethod(sqlite_insert)
    stage_slots = 8  # at most 10 databases can be attached, and none detached before the transaction ends

    def __init__(self, url: URL, *, bulk: bool = True, ledger_schema: str | None = None) -> None:
        super().__init__(url, bulk=bulk)
        if ledger_schema is not None:
            raise UsageError("SQLite has no schemas.", hint="Leave --ledger-schema out.")
        if url.get_driver_name() not in ("pysqlite", ""):
            raise UsageError(f"SQLite is used through Python's own driver, not {url.get_driver_name()!r}.")
        name = url.database or ""
        if url.host:
            meant = f"{url.host}/{name}" if name else url.host
            raise UsageError(
                f"{self.label} names a server {url.host!r}, and SQLite has none.",
                hint=f"Write --to {shlex.quote(meant)}, or {shlex.quote(f'sqlite:///{meant}')}",
            )
        if name in ("", ":memory:") or name.startswith("file:"):
            raise UsageError(
                "an SQLite database must be a file, for several processes share it.", hint="Write --to loaded.db"
            )
        self.path = os.path.abspath(name)
        if os.path.isdir(self.path):
            raise UsageError(
                f"{self.label} is a folder, and an SQLite database is a file.",
                hint=f"Write --to {shlex.quote(os.path.join(name, 'ingest.db'))}",
            )

    # connections -------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        return os.path.exists(self.path)

    def _require_folder(self) -> None:
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise DatabaseUnreachable(f"{self.label}: the folder {folder} does not exist.", hint="Create it first.")

    def _make_engine(self) -> Engine:
        self._require_folder()
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=self.path),
            connect_args={"timeout": BUSY_SECONDS},
            hide_parameters=True,  # values of rows must not reach an error text
        )
        # Python's sqlite3 would begin transactions by rules of its own, without DDL; and a deferred transaction
        # that read first cannot start to write when another has written. IMMEDIATE has neither fault.
        sa.event.listen(engine, "connect", _own_transactions)
        sa.event.listen(engine, "begin", _begin_immediate)
        return engine

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        if not self.exists():
            raise DatabaseUnreachable(f"{self.label} does not exist.")
        # What a crash left beside the database is for the next writer to mend: who may not write sees what that one
        # will see. Without such a file, a read-only connection would leave the two files of WAL mode behind.
        left = any(os.path.exists(self.path + end) for end in ("-journal", "-wal"))
        mode = "ro" if left or not os.access(self.path, os.W_OK) else "rw"
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(_reading(self.path, mode))
            except sa.exc.DatabaseError as error:
                # In WAL mode reading wants to write beside the file, which a read-only disk does not let it.
                closed = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN
                if "locked" in str(error.orig) or not (left or closed):
                    raise self.unreachable(error) from error
                try:
                    connection = stack.enter_context(_reading(stack.enter_context(_mended_copy(self.path)), "rw"))
                except (sa.exc.DatabaseError, OSError, UsageError) as worse:
                    raise self.unreachable(worse) from worse
            yield connection

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        try:
            connection = self.engine.connect()
        except sa.exc.DatabaseError as error:
            raise self.unreachable(error) from error
        with connection:
            try:
                transaction = connection.begin()
            except sa.exc.DatabaseError as error:
                if self.fault(error) is Fault.FULL:
                    raise  # a new file's first page had no room
                raise self.unreachable(error) from error
            with transaction:
                yield connection

    @contextlib.contextmanager
    def lease(self, wait: float) -> Iterator[None]:
        """An flock on a file beside the database, which the system releases when its holder is killed."""
        path = f"{self.path}-ingest-lock"
        deadline = time.monotonic() + wait
        self._require_folder()
        while True:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise DatabaseUnreachable(f"{self.label} cannot be written: {error.strerror} ({path}).") from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                if time.monotonic() >= deadline:
                    raise LeaseHeld(
                        f"another run is loading into {self.label}.",
                        hint="Wait for it, or give --wait SECONDS to wait here.",
                    ) from None
                time.sleep(0.1)
                continue
            # The last holder removed the file it had locked: what we hold may be no longer the one on disk.
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == os.fstat(handle).st_ino:
                    break
            os.close(handle)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
            os.close(handle)

    @contextlib.contextmanager
    def transaction(self, batches: Sequence[BatchRef]) -> Iterator[Connection]:
        """Attach the stage files, which a transaction cannot; detach them when it has ended."""
        files = sorted({b.staged.path for b in batches if b.staged.format == SQLITE})
        connection = self.engine.connect()
        with connection:
            driver: Any = connection.connection.driver_connection
            attached = []
            try:
                for number, path in enumerate(files):
                    os.stat(path)  # ATTACH would make one that has gone, and be told that it has no table
                    driver.execute(f"ATTACH DATABASE ? AS stage{number}", (path,))
                    attached.append(number)
                    # It is only read; but BEGIN IMMEDIATE begins to write in all of them, and a commit of several that
                    # have journals goes by a file of its own (`-mj`), which nobody removes after a kill.
                    driver.execute(f"PRAGMA stage{number}.journal_mode = OFF")
                self._attached = {path: f"stage{number}" for number, path in enumerate(files)}
                with connection.begin():
                    yield connection
            finally:
                for number in attached:
                    driver.execute(f"DETACH DATABASE stage{number}")

    def assert_open(self, connection: Connection) -> None:
        # A full disk or an I/O error rolls an SQLite transaction back by itself: what came next would be alone.
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            raise RuntimeError("SQLite has ended the transaction by itself")

    def fault_of(self, error: Any) -> Fault | None:
        # Its own wait for another program's lock was the other try.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # what is above says more of the same
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Fault.BUSY
        return Fault.FULL if code == sqlite3.SQLITE_FULL else None

    def spool_base(self) -> Path:
        return Path(os.path.dirname(self.path))

    # tables ------------------------------------------------------------------------------------------------

    def shape(self, connection: Connection, table: TableName) -> TableShape | None:
        if table.schema is not None:
            raise UsageError(
                f"SQLite has no schemas, so {table} cannot be a table.", hint="Give --table a name without a dot."
            )
        found = connection.exec_driver_sql(
            "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
            (table.name,),
        ).first()
        if found is None:
            return None
        name, kind, sql = found
        if kind == "view":
            raise TableError(
                f"{table} is a view, which takes no rows.", code=Reason.COLUMNS, hint="Choose a table with --table."
            )
        triggers = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE", (name,)
        )
        bodies = triggers.scalars().all()
        _check_conflicts(table, sql or "", bodies)
        infos = connection.exec_driver_sql(f"PRAGMA table_xinfo({_quoted(name)})").all()
        columns = tuple(_column(info) for info in infos if info[6] == 0)
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar_one()
        why = _why_not_bulk(sql or "", infos, len(bodies), encoding)
        if not self.bulk:
            why = "--bulk off"
        return TableShape(
            table=TableName(name=name),
            columns=columns,
            generated=tuple(info[1].casefold() for info in infos if info[6] in (2, 3)),
            definition=_stage_definition(name, sql or "", infos),
            fingerprint=fingerprint_of(sql),
            bulk=not why,
            why_not_bulk=why,
        )

    def fingerprint(self, connection: Connection, table: TableName) -> str:
        sql = self._definition(connection, table)
        return fingerprint_of(sql) if sql else ""

    def token(self, connection: Connection, table: TableName) -> str | None:
        match = _TOKEN.search(self._definition(connection, table) or "")
        return match[1] if match else None

    def _definition(self, connection: Connection, table: TableName) -> str | None:
        """The CREATE TABLE as SQLite keeps it."""
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
        found: str | None = connection.exec_driver_sql(query, (table.name,)).scalar()
        return found

    def unique_keys(self, connection: Connection, table: TableName) -> Keys:
        own = self._collations(connection, table)
        keys: dict[frozenset[str], bool] = {}
        for _, index, unique, _, partial in connection.exec_driver_sql(f"PRAGMA index_list({_quoted(table.name)})"):
            found = connection.exec_driver_sql(f"PRAGMA index_xinfo({_quoted(index)})").all()
            columns = {row[2]: row[4] for row in found if row[5]}
            if unique and not partial and None not in columns:
                # One that takes other values for the same than its columns do is no key. ON CONFLICT goes by the first
                # index on the same columns, whatever it compares by.
                same = all(own.get(name, "BINARY") == collation.upper() for name, collation in columns.items())
                keys.setdefault(frozenset(columns), same)
        infos = connection.exec_driver_sql(f"PRAGMA table_info({_quoted(table.name)})")
        keys.setdefault(frozenset(info[1] for info in infos if info[5]), True)  # one that is the rowid has no index
        return {key: "" for key, same in keys.items() if key and same}

    def _collations(self, connection: Connection, table: TableName) -> dict[str, str]:
        """By what columns are compared, where it is not said otherwise of some."""
        sql = self._definition(connection, table) or ""
        words = _bare(sql)
        if words[:2] != ["CREATE", "TABLE"] or "COLLATE" not in words:
            return {}
        # Only of an index it is told.
        with contextlib.closing(sqlite3.connect(":memory:")) as memory, contextlib.suppress(sqlite3.Error):
            memory.execute(sql)  # fails where it needs functions that we have not, so that it takes no rows
            infos = memory.execute(f"PRAGMA table_info({_quoted(table.name)})").fetchall()
            names = ", ".join(_quoted(info[1]) for info in infos)
            memory.execute(f"CREATE INDEX ingest_all ON {_quoted(table.name)} ({names})")
            return {row[2]: row[4].upper() for row in memory.execute("PRAGMA index_xinfo(ingest_all)") if row[5]}
        return {}

    def create_table(self, connection: Connection, shape: TableShape, token: str) -> None:
        # SQLite keeps the text of CREATE TABLE, comments included, through every ALTER TABLE.
        table = self.sql_table(shape)
        head = f"CREATE TABLE {connection.dialect.identifier_preparer.format_table(table)} ("
        text = str(CreateTable(table).compile(dialect=connection.dialect)).strip()
        if not text.startswith(head):
            raise RuntimeError("SQLAlchemy writes CREATE TABLE in another way than expected")
        connection.exec_driver_sql(f"{head}/* ingest {token} */{text[len(head) :]}")

    def create_like(self, connection: Connection, shape: TableShape, staging: TableName, token: str) -> None:
        # From the table's own words, so that its types and all its constraints hold for the rows on their way, too.
        sql = self._definition(connection, shape.table) or ""
        head = re.match(rf"\s*CREATE\s+TABLE\s+(?:{_WORD})\s*\(", sql, re.IGNORECASE)
        if head is None:
            raise TableError(f"the definition of {shape.table} cannot be copied.", code=Reason.COLUMNS)

        def own(match: re.Match[str]) -> str:
            to_itself = match[2].strip("\"'`[]").casefold() == shape.table.name.casefold()
            return f"{match[1]}{_quoted(staging.name)}" if to_itself else match[0]

        body = re.sub(rf"(\bREFERENCES\s+)({_WORD})", own, _TOKEN.sub("", sql[head.end() :]), flags=re.IGNORECASE)
        connection.exec_driver_sql(f"CREATE TABLE {_quoted(staging.name)} (/* ingest {token} */{body}")
        if "AUTOINCREMENT" in _bare(sql):  # it goes on with the table's numbers
            connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, seq FROM sqlite_sequence WHERE name = ?",
                (staging.name, shape.table.name),
            )
        if not shape.lineage:
            # INTEGER is what a STRICT table takes.
            lineage = f"ADD COLUMN {_quoted(LINEAGE_COLUMN)} INTEGER"
            connection.exec_driver_sql(f"ALTER TABLE {_quoted(staging.name)} {lineage}")
        indexes = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL",
            (shape.table.name,),
        )
        for number, index in enumerate(indexes.scalars().all()):
            unique = re.match(rf"\s*CREATE\s+UNIQUE\s+INDEX\s+(?:{_WORD})\s+ON\s+(?:{_WORD})", index, re.IGNORECASE)
            if unique is not None:
                name = _quoted(f"{staging.name}_{number}")
                on = f"CREATE UNIQUE INDEX {name} ON {_quoted(staging.name)}"
                connection.exec_driver_sql(on + index[unique.end() :])

    def cascades(self, connection: Connection, table: TableName) -> list[str]:
        query = (
            "SELECT DISTINCT m.name FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS k"
            " WHERE m.type = 'table' AND k.\"table\" = ? COLLATE NOCASE AND m.name <> ? COLLATE NOCASE"
            " AND k.on_delete NOT IN ('NO ACTION', 'RESTRICT') ORDER BY 1"
        )
        return list(connection.exec_driver_sql(query, (table.name, table.name)).scalars())

    def defer_foreign_keys(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")  # until the transaction's end

    def sql_type(self, column: Column) -> Any:
        # SQLite has no exact decimals: NUMERIC keeps 15 digits. Bound as text, a value is kept as it is in our own
        # TEXT columns, and becomes a number by SQLite's own rule in a user's NUMERIC column (`narrowing`: or a reject).
        if column.type is ColumnType.TIME:
            return _Time()
        return sa.Text() if column.type is ColumnType.DECIMAL else super().sql_type(column)

    # rows --------------------------------------------------------------------------------------------------

    def stage_format(self, shape: TableShape) -> str:
        return SQLITE if shape.bulk else super().stage_format(shape)

    def insert(self, connection: Connection, shape: TableShape, batches: Sequence[BatchRef]) -> int:
        inserted = 0
        for batch in batches:
            if batch.staged.format != SQLITE:
                inserted += super().insert(connection, shape, [batch])
                continue
            # Only these very words copy records undecoded: a column list on either side doubles the cost.
            # `*` is by position; the fingerprint compared before makes the positions the same.
            stage = self._attached[batch.staged.path]
            result = connection.exec_driver_sql(
                f"INSERT INTO main.{_quoted(shape.table.name)} SELECT * FROM {stage}.{_quoted(batch.staged.table)}"  # noqa: S608
            )
            inserted += result.rowcount
        return inserted

    def create_gathered(self, connection: Connection, gathered: sa.Table, source: sa.Table) -> None:
        super().create_gathered(connection, gathered, source)
        if collations := self._collations(connection, TableName(name=source.name)):
            # They are lost on this way, and by them the table tells which keys are the same.
            infos = connection.exec_driver_sql(f"PRAGMA temp.table_info({_quoted(gathered.name)})").all()
            columns = (f"{_quoted(i[1])} {i[2]} COLLATE {collations.get(i[1], 'BINARY')}" for i in infos)
            self.discard(connection, gathered)
            connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {_quoted(gathered.name)} ({', '.join(columns)})")

    def fill(self, connection: Connection, gathered: sa.Table, batch: BatchRef, first: int) -> int:
        if batch.staged.format != SQLITE:
            return super().fill(connection, gathered, batch, first)
        names = [c.name for c in gathered.columns if c.name != POSITION]
        stage = sa.table(batch.staged.table, *map(sa.column, names), schema=self._attached[batch.staged.path])
        # A stage's rows were written in their order, so their rowids count from 1. A column may have taken that name.
        taken = {name.casefold() for name in names}  # `lower` leaves a name alone that SQLAlchemy quotes
        free = next((name for name in _ROWIDS if name not in taken), None)
        rowid = sa.func.row_number().over() if free is None else sa.literal_column(free, sa.BigInteger)
        position = rowid + (first - 1)
        rows = sa.select(*(stage.c[name] for name in names), position)
        return self.counted(connection, gathered.insert().from_select([*names, POSITION], rows))

    def said(self, error: sa.exc.DBAPIError) -> str:
        if isinstance(error, sa.exc.IntegrityError):
            return self.constraint(error) or "it breaks a constraint"
        return super().said(error)

    def constraint(self, error: sa.exc.DBAPIError) -> str:
        # Its sentences name the columns or the CHECK, and no value. Of a foreign key there is no name, and a trigger
        # says what it likes.
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
            return "a trigger of the table"
        match = _BROKEN.fullmatch(str(error.orig))
        return match[0] if match else ""


class _Time(sa.types.UserDefinedType[str]):
    """A time of the day as SQLAlchemy's own type stores and reads it: the text HH:MM:SS.ffffff."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TIME"


@contextlib.contextmanager
def _reading(path: str, mode: str) -> Iterator[Connection]:
    """A connection that can be read from, and that writes nothing of its own."""
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"

    def creator() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA query_only = ON")
        return connection

    engine = sa.create_engine("sqlite://", creator=creator, poolclass=NullPool, hide_parameters=True)
    sa.event.listen(engine, "begin", _begin_deferred)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM sqlite_master"))
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def _mended_copy(path: str) -> Iterator[str]:
    """The path of a copy, for SQLite to roll back or forward there what a crash left half done."""
    with spool.run_folder(None) as folder:
        copy = os.path.join(folder, "copy.db")
        for end in ("", "-journal", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path + end, copy + end)
        yield copy


def _own_transactions(driver: Any, record: object) -> None:
    del record
    driver.isolation_level = None
    # Of a new database: it is the writer's system calls that count. One that is there keeps its own.
    driver.execute("PRAGMA page_size = 16384")
    driver.execute("PRAGMA synchronous = FULL")
    driver.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _column(info: Any) -> Column:
    """A column of `PRAGMA table_xinfo`: cid, name, declared type, notnull, default, pk, hidden."""
    declared = (info[2] or "").upper()
    match = re.search(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", declared)
    kind = _type(declared)
    decimal = kind is ColumnType.DECIMAL and match is not None
    numeric = kind is ColumnType.DECIMAL or (kind is ColumnType.TEXT and not _keeps_text(declared))
    # A NOT NULL column with a default still refuses a NULL that is given to it.
    return Column(
        name=info[1],
        type=kind,
        origin=Origin.EXISTING,
        nullable=not info[3],
        precision=int(match[1]) if decimal and match else None,
        scale=int(match[2] or 0) if decimal and match else None,
        numeric=numeric,
        native=declared if numeric else "",
        # A rowid by its own name is numbered by SQLite; any other column without a default has nothing.
        required=bool(info[3]) and info[4] is None and not (info[5] and declared == "INTEGER"),
    )


def _type(declared: str) -> ColumnType:
    """The declared type, where it is one of ours; else by SQLite's rules of affinity (datatype3.html, 3.1)."""
    if declared.startswith("BOOL"):
        return ColumnType.BOOLEAN
    if declared.startswith(("DATETIME", "TIMESTAMP")):
        return ColumnType.TIMESTAMP
    if declared == "DATE":
        return ColumnType.DATE
    if "INT" in declared:
        return ColumnType.BIGINT
    if _keeps_text(declared):
        return ColumnType.TEXT
    if any(word in declared for word in ("REAL", "FLOA", "DOUB")):
        return ColumnType.DOUBLE
    if declared.startswith(("NUMERIC", "DECIMAL", "NUMBER", "MONEY")):
        return ColumnType.DECIMAL
    return ColumnType.TEXT


def _keeps_text(declared: str) -> bool:
    """Whether a column that is not for whole numbers keeps texts as they are: by any other word, one is a number."""
    return not declared or any(word in declared for word in ("CHAR", "CLOB", "TEXT", "BLOB"))


def _check_conflicts(table: TableName, sql: str, triggers: Sequence[str]) -> None:
    """Raise TableError for a definition by which rows that are there would go uncounted, or a transaction would end."""
    way = _conflict_of_a_key(sql)
    if way == "REPLACE":
        raise TableError(
            f"{table} has a key with ON CONFLICT REPLACE, by which rows that are there would go uncounted.",
            code=Reason.COLUMNS,
            hint="Make the table anew without these words; --mode upsert with --key updates rows by their key.",
        )
    if way or any(map(_rolls_back, triggers)):
        what = f"a key with ON CONFLICT {way}" if way else "a trigger with ROLLBACK"
        raise TableError(
            f"{table} has {what}, which would end the transaction that its rows share with the ledger.",
            code=Reason.COLUMNS,
            hint="Make it anew with ABORT in the place of ROLLBACK.",
        )


def _conflict_of_a_key(sql: str) -> str:
    """REPLACE or ROLLBACK where a CREATE TABLE says so of a PRIMARY KEY or a UNIQUE; else ""."""
    outer: list[str] = []
    constraint = ""  # that was last begun, between these parentheses
    words = _bare(sql)
    for at, word in enumerate(words):
        if word == "(":
            outer.append(constraint)
        elif word == ")":
            constraint = outer.pop() if outer else ""
        elif word in ("UNIQUE", "PRIMARY", "NOT", "CHECK"):
            constraint = word
        elif words[max(at - 2, 0) : at] != ["ON", "CONFLICT"] or constraint not in ("UNIQUE", "PRIMARY"):
            continue
        elif word in ("REPLACE", "ROLLBACK"):
            return word
    return ""


def _rolls_back(trigger: str) -> bool:
    """Whether a CREATE TRIGGER is for inserted rows, and says ROLLBACK."""
    words = _bare(trigger)
    event = next((word for word in words if word in ("INSERT", "UPDATE", "DELETE")), "")
    return event == "INSERT" and "ROLLBACK" in words


def _bare(sql: str) -> list[str]:
    """The words and parentheses of an SQL text that stand in no quotes and in no comment, in upper case."""
    return [match[1].upper() for match in _BARE.finditer(sql) if match[1]]


def _why_not_bulk(sql: str, infos: Sequence[Any], triggers: int, encoding: str) -> str:
    """Why staged records cannot be copied into this table, "" if they can."""
    if not re.match(r"\s*CREATE\s+TABLE\b", sql, re.IGNORECASE):
        return "it is a virtual table"
    if any(info[6] != 0 for info in infos):
        return "it has generated columns"
    if any(info[5] for info in infos):
        # A stage would number its own rows from 1, and give them to the table as its keys.
        return "it has a primary key"
    if triggers:
        return "it has triggers"
    if encoding != "UTF-8":
        return f"the database is in {encoding}"
    if re.search(r"\bWITHOUT\s+ROWID\b|\bCOLLATE\b|\bREFERENCES\b|\bCHECK\b", sql, re.IGNORECASE):
        return "its definition has a collation or a constraint that a stage cannot check"
    return ""


def _stage_definition(table: str, sql: str, infos: Sequence[Any]) -> str:
    """The table that a batch is staged in: the same columns, without what compares one row with another.

    Rows that break a UNIQUE are found out by the writer, who can tell which records they are.
    """
    if not re.search(r"\bUNIQUE\b", sql, re.IGNORECASE):
        return sql
    columns = (
        f"{_quoted(name)} {declared}{' NOT NULL' if notnull else ''}{f' DEFAULT ({default})' if default else ''}"
        for _, name, declared, notnull, default, _, hidden in infos
        if hidden == 0
    )
    strict = " STRICT" if re.search(r"\)\s*STRICT\s*$", sql, re.IGNORECASE) else ""
    return f"CREATE TABLE {_quoted(table)} ({', '.join(columns)}){strict}"


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
