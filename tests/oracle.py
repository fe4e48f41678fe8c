"""What a database holds, asked without the tool: one small object a database, the same questions of each.

A test that says `db` gets the path of an SQLite file, or, marked `every_target`, also a database on each server. The
functions here and in `tools` take either. SQL is written once, with `?` for parameters and "double quotes" for names.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import plain  # noqa: F401 - installs the dialects that URLs name below
import servers

Row = tuple[Any, ...]


class Oracle(ABC):
    """A database, as somebody sees it who is not the tool. `str()` of it is what is typed after `--to`."""

    kind: str
    #: What our types are called there; those that are not named are called the same.
    words: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where spool folders of its loads are."""

    @abstractmethod
    def connect(self) -> Any:
        """A connection of its driver, in autocommit."""

    def exists(self) -> bool:
        return True

    def rows(self, connection: Any, sql: str, *parameters: object) -> tuple[list[str], list[Row]]:
        """Names of the columns and rows of one statement."""
        cursor = connection.cursor()
        if parameters:
            cursor.execute(self.sql(sql), parameters)
        else:
            cursor.execute(sql)
        if cursor.description is None:
            return [], []
        return [column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()]

    def sql(self, text: str) -> str:
        """A statement with `?` for its parameters, as the driver wants it."""
        return text.replace("%", "%%").replace("?", "%s")

    def query(self, sql: str, *parameters: object) -> list[Row]:
        """Rows of one statement, which is committed."""
        with contextlib.closing(self.connect()) as connection:
            return self.rows(connection, sql, *parameters)[1]

    def records(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """The same, each row a dictionary."""
        with contextlib.closing(self.connect()) as connection:
            names, rows = self.rows(connection, sql, *parameters)
            return [dict(zip(names, row, strict=True)) for row in rows]

    @abstractmethod
    def tables(self) -> set[str]:
        """The tables that are no part of the ledger."""

    @abstractmethod
    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table, in their order, each with its type as the database spells it; without our own."""

    @abstractmethod
    def token(self, table: str) -> str | None:
        """The token in the table's own definition."""

    @abstractmethod
    def make_again(self, table: str) -> None:
        """Drop a table of the tool's, and make one that is the same but for the token."""

    def check(self) -> None:
        """The database's own check of itself, if it has one."""
        assert self.exists()

    def snapshot(self) -> object:
        """Something that changes with every change of rows, rejects or files."""
        rejects = self.query("SELECT count(*) FROM ingest_reject")
        return self.query("SELECT * FROM ingest_file ORDER BY file_id"), rejects

    @abstractmethod
    def held(self, connection: Any) -> bool:
        """Begin a transaction that lets nobody else commit a move of the ledger, if that can be had at once."""

    @abstractmethod
    def leased(self) -> bool:
        """Whether a run holds the lease."""

    missing: tuple[type[Exception], ...]  #: what asking for a table that is not there raises


class SQLite(Oracle):
    """An SQLite file."""

    kind = "sqlite"
    missing = (sqlite3.OperationalError,)
    words = MappingProxyType({"DECIMAL(12,2)": "TEXT", "TIMESTAMP": "DATETIME", "UUID": "TEXT"})

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def exists(self) -> bool:
        return self.path.exists()

    def connect(self) -> Any:
        # Without patience of its own for `held`: SQLite's waits ever longer between two attempts.
        return sqlite3.connect(self.path, isolation_level=None)

    def sql(self, text: str) -> str:
        return text

    def tables(self) -> set[str]:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return {name for (name,) in self.query(query) if not name.startswith(("ingest_", "sqlite_"))}

    def columns(self, table: str) -> dict[str, str]:
        found = self.query(f'PRAGMA table_info("{table}")')
        return {row[1]: row[2] for row in found if row[1] != "_ingest_file_id"}

    def token(self, table: str) -> str | None:
        ((sql,),) = self.query("SELECT sql FROM sqlite_master WHERE name = ?", table)
        return sql.partition("/* ingest ")[2].partition(" */")[0] or None

    def make_again(self, table: str) -> None:
        ((sql,),) = self.query("SELECT sql FROM sqlite_master WHERE name = ?", table)
        self.query(f'DROP TABLE "{table}"')
        self.query(sql[: sql.index("/*")] + sql[sql.index("*/") + 2 :])

    def check(self) -> None:
        assert self.query("PRAGMA integrity_check") == [("ok",)]

    def snapshot(self) -> object:
        return self.path.stat().st_size

    def held(self, connection: Any) -> bool:
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True

    def leased(self) -> bool:
        return self.path.with_name(f"{self.path.name}-ingest-lock").exists()


class PlainSQLite(SQLite):
    """An SQLite file, as a database that the tool does not know."""

    kind = "plainsqlite"
    words = MappingProxyType({**SQLite.words, "TIME": "TEXT"})

    def __str__(self) -> str:
        return f"plainsqlite:///{self.path}?timeout=60"

    def token(self, table: str) -> str | None:
        ((sql,),) = self.query("SELECT sql FROM sqlite_master WHERE name = ?", table)
        match = re.search(r"\bCONSTRAINT ingest_([0-9a-f]{32}) CHECK \(1 = 1\)", sql)
        return match[1] if match else None

    def make_again(self, table: str) -> None:
        ((sql,),) = self.query("SELECT sql FROM sqlite_master WHERE name = ?", table)
        self.query(f'DROP TABLE "{table}"')
        self.query(re.sub(r"CONSTRAINT ingest_\w+ ", "", sql))

    def leased(self) -> bool:
        return _has_holder(self)


class OnServer(Oracle):
    """A database on a server."""

    def __init__(self, server: servers.Server, url: str) -> None:
        self.server = server
        self.url = url
        self.name = urlsplit(url).path[1:]
        self._folder = tempfile.TemporaryDirectory(prefix="ingest-test-spool-")

    def __str__(self) -> str:
        return self.url

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def close(self) -> None:
        self._folder.cleanup()

    def connect(self) -> Any:
        return self.server.connect(self.name)

    @contextlib.contextmanager
    def shut(self, *tables: str) -> Iterator[None]:
        """Inside the block these tables can be read, and whoever writes to one of them waits."""
        with contextlib.closing(self.connect()) as connection:
            for statement in self._shutting(tables):
                self.rows(connection, statement)
            yield

    @abstractmethod
    def _shutting(self, tables: Sequence[str]) -> list[str]:
        """What keeps others from writing to the tables, until the session ends."""

    @abstractmethod
    def waiting(self) -> set[int]:
        """The sessions that wait for a table that is `shut`."""

    def leased(self) -> bool:
        return _has_holder(self)


class PostgreSQL(OnServer):
    """A database on a PostgreSQL server."""

    kind = "postgresql"
    words = MappingProxyType(
        {
            "DOUBLE": "DOUBLE PRECISION",
            "TIMESTAMP": "TIMESTAMP WITHOUT TIME ZONE",
            "DECIMAL(12,2)": "NUMERIC(12,2)",
            "TIME": "TIME WITHOUT TIME ZONE",
        }
    )

    @property
    def missing(self) -> tuple[type[Exception], ...]:  # type: ignore[override]
        import psycopg

        return (psycopg.errors.UndefinedTable,)

    def tables(self) -> set[str]:
        found = self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in found if not name.startswith("ingest_")}

    def columns(self, table: str) -> dict[str, str]:
        found = self.query(
            "SELECT attname, upper(format_type(atttypid, atttypmod)) FROM pg_attribute"
            " WHERE attrelid = CAST(? AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            f'"{table}"',
        )
        return {name: word for name, word in found if name != "_ingest_file_id"}

    def token(self, table: str) -> str | None:
        ((comment,),) = self.query("SELECT obj_description(CAST(? AS regclass), 'pg_class')", f'"{table}"')
        return (comment or "").removeprefix("ingest ") or None

    def make_again(self, table: str) -> None:
        self.query(f'ALTER TABLE "{table}" RENAME TO "before"')
        self.query(f'CREATE TABLE "{table}" (LIKE "before")')
        self.query('DROP TABLE "before"')

    def _shutting(self, tables: Sequence[str]) -> list[str]:
        names = ", ".join(f'"{table}"' for table in tables)
        return ["BEGIN", f"LOCK TABLE {names} IN SHARE MODE"]

    def waiting(self) -> set[int]:
        query = "SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE NOT l.granted"
        return {pid for (pid,) in self.query(f"{query} AND c.relname NOT LIKE 'ingest%'")}

    def held(self, connection: Any) -> bool:
        import psycopg

        connection.execute("BEGIN")
        try:
            connection.execute("LOCK TABLE ingest_file IN EXCLUSIVE MODE NOWAIT")
        except (psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable):
            connection.execute("ROLLBACK")
            return False
        return True


class PlainPostgreSQL(PostgreSQL):
    """A database on a PostgreSQL server, as one that the tool does not know."""

    kind = "plainpg"
    words = MappingProxyType({**PostgreSQL.words, "TIME": "TEXT", "UUID": "TEXT"})

    def __str__(self) -> str:
        return self.url.replace("postgresql", "plainpg", 1)


class MariaDB(OnServer):
    """A database on a MariaDB server."""

    kind = "mariadb"
    words = MappingProxyType(
        {
            "BIGINT": "BIGINT(20)",
            "TEXT": "LONGTEXT",
            "BOOLEAN": "TINYINT(1)",
            "TIMESTAMP": "DATETIME(6)",
            "TIME": "TIME(6)",
            "UUID": "CHAR(36)",
        }
    )

    @property
    def missing(self) -> tuple[type[Exception], ...]:  # type: ignore[override]
        import pymysql

        return (pymysql.err.ProgrammingError,)

    def connect(self) -> Any:
        connection = super().connect()
        connection.query("SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')")
        return connection

    def tables(self) -> set[str]:
        return {name for (name,) in self.query("SHOW TABLES") if not name.startswith("ingest_")}

    def columns(self, table: str) -> dict[str, str]:
        found = self.query(
            "SELECT column_name, upper(column_type) FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
            table,
        )
        return {name: word for name, word in found if name != "_ingest_file_id"}

    def token(self, table: str) -> str | None:
        query = "SELECT table_comment FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
        ((comment,),) = self.query(query, table)
        return comment.removeprefix("ingest ") or None

    def make_again(self, table: str) -> None:
        self.query(f'CREATE TABLE "after" LIKE "{table}"')
        self.query("ALTER TABLE \"after\" COMMENT = ''")
        self.query(f'DROP TABLE "{table}"')
        self.query(f'ALTER TABLE "after" RENAME TO "{table}"')

    def _shutting(self, tables: Sequence[str]) -> list[str]:
        return ["LOCK TABLES " + ", ".join(f'"{table}" READ' for table in tables)]

    def waiting(self) -> set[int]:
        query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE ?"
        return {number for (number,) in self.query(query, "Waiting for table%lock")}

    def held(self, connection: Any) -> bool:
        import pymysql

        connection.query("BEGIN")
        try:
            connection.query("SELECT * FROM ingest_file FOR UPDATE NOWAIT")
        except (pymysql.err.ProgrammingError, pymysql.err.OperationalError):  # not there, or somebody's
            connection.query("ROLLBACK")
            return False
        return True


def _has_holder(db: Oracle) -> bool:
    try:
        return db.query("SELECT holder IS NOT NULL FROM ingest_lease") == [(True,)]
    except db.missing:
        return False


Database = Path | Oracle
"""What a test's `db` is."""

KINDS: dict[str, type[OnServer]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
"""The servers that tests marked `every_target` run on, beside SQLite."""

PLAIN: dict[str, type[Oracle]] = {"plainsqlite": PlainSQLite, "plainpg": PlainPostgreSQL}
"""The same databases under names that the tool does not know."""


def oracle(db: Database) -> Oracle:
    """The one to ask."""
    return SQLite(db) if isinstance(db, Path) else db


@contextlib.contextmanager
def on_server(server: servers.Server, kind: type[OnServer] | None = None) -> Iterator[OnServer]:
    """A new database on a server."""
    with server.database() as url:
        found = (kind or KINDS[server.kind])(server, url)
        try:
            yield found
        finally:
            found.close()
