"""Any other database that SQLAlchemy speaks to: in SQLAlchemy's own words, with nothing that some of them lack.

What can be known of such a database only by trying is tried before the ledger is made in it: that it takes a
transaction back, and gives values back as they were. Savepoints, DDL that can be rolled back, ON CONFLICT and schemas
are not used, and what would need them is refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.mssql import DATETIME2
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.schema import CreateTable

from ingest import ledger
from ingest.errors import DatabaseUnreachable, LedgerError, TableError, UsageError
from ingest.model import Column, ColumnType, Origin, Reason, TableName, TableShape
from ingest.targets.base import fingerprint_of
from ingest.targets.server import ServerTarget

PACKAGES = {
    "bigquery": "sqlalchemy-bigquery",
    "cockroachdb": "sqlalchemy-cockroachdb",
    "db2": "ibm-db-sa",
    "duckdb": "duckdb-engine",
    "firebird": "sqlalchemy-firebird",
    "hana": "sqlalchemy-hana",
    "redshift": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
}
"""What brings a dialect that is no part of SQLAlchemy."""

TRIAL = "ingest_trial"
"""How the table begins that is made and dropped again, to see what the database does with rows and values."""

# Two values of each type that some databases alter: to NULL, to question marks, to fewer digits.
_TRIED: tuple[tuple[Column, Any, Any], ...] = (
    (Column(name="c0", type=ColumnType.TEXT), "é 日本 🙂 'a' \"b\" \\n %s :x ?\n", ""),
    (Column(name="c1", type=ColumnType.BIGINT), 2**63 - 1, -(2**63)),
    (Column(name="c2", type=ColumnType.DOUBLE), 0.1234567890123456, -1e300),
    (Column(name="c3", type=ColumnType.BOOLEAN), True, False),
    (Column(name="c4", type=ColumnType.DATE), dt.date(2024, 2, 29), dt.date(9999, 12, 31)),
    (
        Column(name="c5", type=ColumnType.TIMESTAMP),
        dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
        dt.datetime(1969, 12, 31),
    ),
    (Column(name="c6", type=ColumnType.DECIMAL, precision=18, scale=4), "12345678901234.5678", "-0.0001"),
)

_datetime2: Any = DATETIME2  # which has no types of its own

_TOKEN = re.compile(r"ingest_([0-9a-f]{32})")


class OtherTarget(ServerTarget):
    """A database that nothing is known of but its SQLAlchemy dialect."""

    reading: ClassVar[Mapping[str, Any]] = {}

    clock: ClassVar[str] = "by its own clock"
    ledger_hint: ClassVar[str] = "Either this user may not create tables there, or its dialect is not up to a ledger."

    transactional_ddl = False
    savepoints = False
    replaces = False
    schemas = False
    parallel = False  # how its locks meet is not known
    add_column = "ADD"  # the standard's COLUMN is not known everywhere
    quote = None  # a name that the dialect takes for its own may be one that its database spells otherwise

    def _checked(self, url: URL) -> URL:
        kind, self._typed = url.get_backend_name(), url.drivername  # the driver is the user's choice
        if self.ledger_schema is not None:
            raise UsageError(f"--ledger-schema is not for databases of the kind {kind!r}.", hint="Leave it out.")
        try:
            engine = self.engine  # which loads the driver, and opens nothing
        except sa.exc.NoSuchModuleError:
            install = f"Type: pip install {PACKAGES[kind]}" if kind in PACKAGES else ""
            raise UsageError(
                f"SQLAlchemy has no dialect {url.drivername!r} here.",
                hint=install or "Look at how --to begins, or install what brings it.",
            ) from None
        except sa.exc.ArgumentError:  # whose text may repeat a part of the URL
            raise UsageError(f"the dialect {url.drivername!r} cannot use this URL.", hint="Look at --to.") from None
        except ImportError as error:
            module = (error.name or "").partition(".")[0]
            raise UsageError(
                f"databases of the kind {kind!r} need a driver that is not installed: {module or error}.",
                hint=f"Type: pip install {module}" if module else "",
            ) from None
        if engine.dialect.is_async:
            raise UsageError(f"the driver of {url.drivername!r} is asynchronous.", hint="Name another one in --to.")
        return url

    @property
    def caution(self) -> str:
        return (
            f"databases of the kind {self.url.get_backend_name()!r} are untested with ingest: rows go in by plain "
            "INSERT, and a record that breaks a constraint refuses its file"
        )

    # connections -------------------------------------------------------------------------------------------

    def _connect_args(self) -> dict[str, Any]:
        return {}

    def _prepare(self, driver: Any) -> None:
        del driver

    def now(self) -> sa.ColumnElement[Any]:
        return sa.func.current_timestamp(type_=_Clock())

    def exists(self) -> bool:
        # Of a server its administrator made it; a file is what has no host, and a name like one.
        name = self.url.database or ""
        is_file = not self.url.host and (os.sep in name or "." in name)
        return os.path.exists(name) if is_file else True

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        if not self.exists():
            raise DatabaseUnreachable(f"{self.label} does not exist.")  # to connect might be to make it
        with super().connect() as connection:
            yield connection

    def _make_engine(self, **options: Any) -> Engine:
        return sa.create_engine(
            self.url,
            pool_pre_ping=True,  # nobody knows for how long it lets a connection be idle
            hide_parameters=True,  # values of rows must not reach an error text
            **options,
        )

    def said(self, error: sa.exc.DBAPIError) -> str:
        if error.statement is not None and not error.params:
            return " ".join(str(error.orig).split())
        # Nobody knows which of its sentences quote a value, and this statement had some, or it is a COMMIT.
        words = type(error.orig).__name__
        for name in ("sqlstate", "pgcode", "sqlite_errorname"):
            if code := getattr(error.orig, name, None):
                return f"{words} ({code})"
        first = next(iter(getattr(error.orig, "args", ())), None)
        return f"{words} ({first})" if isinstance(first, int) else words

    def _make_ledger(self) -> None:
        with self._opened() as connection:
            there = ledger.version(connection) is not None
        if not there:
            self._try_out()
            super()._make_ledger()

    def _try_out(self) -> None:
        """Write into a table of its own, and look. Raises `LedgerError` if the database cannot keep the promise."""
        columns = [sa.Column(column.name, self.sql_type(column)) for column, _, _ in _TRIED]
        table = sa.Table(f"{TRIAL}_{secrets.token_hex(4)}", sa.MetaData(), *columns)
        rows = [{column.name: pair[number] for column, *pair in _TRIED} for number in (0, 1)]
        with self.begin() as connection:
            table.create(connection)
        try:
            with self._opened() as connection, connection.begin() as transaction:
                connection.execute(table.insert(), rows)
                transaction.rollback()
            with self.begin() as connection:
                kept = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
                connection.execute(table.delete())
                connection.execute(table.insert(), rows)
            with self._opened() as connection:
                found = connection.execute(sa.select(table)).all()
        finally:
            with self.begin() as connection:
                table.drop(connection)
        if kept:
            raise LedgerError(
                f"{self.label} keeps rows that were rolled back: it has no transactions, or commits by itself.",
                hint="What is loaded there could be neither taken back nor counted. Choose another database.",
            )
        for column, *pair in _TRIED:
            back = [row._mapping[column.name] for row in found]
            as_it_was = Decimal if column.type is ColumnType.DECIMAL else lambda value: value
            if not {as_it_was(value) for value in pair} <= {as_it_was(value) for value in back if value is not None}:
                raise LedgerError(
                    f"{self.label} does not give back every {column.type} as it was stored.",
                    hint="Rows would be altered in silence. Choose another database, or another driver for this one.",
                )

    # tables ------------------------------------------------------------------------------------------------

    def canonical(self, connection: Connection, table: TableName) -> TableName:
        del connection
        return table

    def schema_of(self, table: TableName) -> str | None:
        del table
        return None

    def shape(self, connection: Connection, table: TableName) -> TableShape | None:
        if table.schema is not None:
            raise UsageError(
                f"schemas are not used in databases of the kind {self.url.get_backend_name()!r}, so {table} cannot be "
                "a table.",
                hint="Give --table a name without a dot.",
            )
        name = self._spelled(connection, table.name)
        if name is None:
            return None
        seen = sa.inspect(connection)
        found = seen.get_columns(name)
        parts: list[object] = [
            [c["name"], repr(c["type"]), c["nullable"], c.get("default"), c.get("computed")] for c in found
        ]
        for constraints in (seen.get_pk_constraint, seen.get_unique_constraints, seen.get_check_constraints):
            with contextlib.suppress(NotImplementedError):
                parts.append(constraints(name))
        return TableShape(
            table=TableName(name=name),
            columns=tuple(_column(table, column) for column in found if not column.get("computed")),
            fingerprint=fingerprint_of(parts),
        )

    def _spelled(self, connection: Connection, name: str) -> str | None:
        """The table of that very name, else the only one of that name in another case."""
        seen = sa.inspect(connection)
        names = seen.get_table_names()
        if name in names:
            return name
        alike = [other for other in names if other.casefold() == name.casefold()]
        if len(alike) > 1:
            raise TableError(
                f"{name} can be {len(alike)} tables, whose names differ only by case.",
                code=Reason.COLUMNS,
                hint=f"Name one with --table: {', '.join(alike)}.",
            )
        if not alike and seen.has_table(name):
            raise TableError(
                f"{name} is a view, or no table of this user's.",
                code=Reason.COLUMNS,
                hint="Choose a table with --table.",
            )
        return alike[0] if alike else None

    def hold(self, connection: Connection, table: TableName) -> None:
        # Most databases keep ALTER and DROP waiting for whoever has read from a table inside a transaction.
        try:
            connection.execute(sa.select(sa.literal(1)).select_from(sa.table(table.name)).where(sa.false()))
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise TableError(f"the table {table} is gone.", code=Reason.TABLE_LOST) from error

    def token(self, connection: Connection, table: TableName) -> str | None:
        if connection.dialect.supports_comments:
            return super().token(connection, table)
        with contextlib.suppress(NotImplementedError, sa.exc.NoSuchTableError):
            for check in sa.inspect(connection).get_check_constraints(table.name):
                if match := _TOKEN.fullmatch(check["name"] or ""):
                    return match[1]
        return None

    def comment(self, connection: Connection, table: TableName) -> str | None:
        with contextlib.suppress(NotImplementedError, sa.exc.NoSuchTableError):
            return sa.inspect(connection).get_table_comment(table.name)["text"]
        return None

    def create_table(self, connection: Connection, shape: TableShape, token: str) -> None:
        table = self.sql_table(shape)
        if not connection.dialect.supports_comments:
            # A name that stands in the definition and forbids nothing.
            table.append_constraint(sa.CheckConstraint("1 = 1", name=f"ingest_{token}"))
            connection.execute(CreateTable(table))
        elif connection.dialect.inline_comments:
            table.comment = f"ingest {token}"
            connection.execute(CreateTable(table))
        else:
            super().create_table(connection, shape, token)
        if self.token(connection, shape.table) != token:
            # A later run would take it for another's, and its files for lost.
            self.drop_table(connection, shape.table)
            raise TableError(
                f"a table that ingest makes in {self.label} would not be known again: it keeps neither comments nor "
                "the names of constraints.",
                code=Reason.COLUMNS,
                hint=f"Create the table {shape.table} yourself.",
            )

    def sql_type(self, column: Column) -> Any:
        match column.type:
            case ColumnType.TEXT | ColumnType.TIME | ColumnType.UUID:
                return sa.UnicodeText()  # TEXT is of one code page in some
            case ColumnType.TIMESTAMP:
                return sa.DateTime().with_variant(_datetime2(6), "mssql")  # whose DATETIME ends at 3 milliseconds
            case ColumnType.DECIMAL:
                decimal, dialect = super().sql_type(column), self.engine.dialect
                # Where SQLAlchemy would make a binary fraction of it, it stays the text that it is.
                exact = decimal.dialect_impl(dialect).bind_processor(dialect) is None
                return decimal if exact else sa.UnicodeText()
        return super().sql_type(column)


class _Clock(sa.types.TypeDecorator[dt.datetime]):
    """A moment of the database's clock, in whatever zone its sessions have: it is only compared with others of it."""

    impl = sa.DateTime
    cache_ok = True

    def process_result_value(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        del dialect
        return value.replace(tzinfo=None) if value is not None else None


_TYPES: tuple[tuple[type[Any], ColumnType], ...] = (
    (sa.Boolean, ColumnType.BOOLEAN),
    (sa.Integer, ColumnType.BIGINT),
    (sa.Float, ColumnType.DOUBLE),
    (sa.Numeric, ColumnType.DECIMAL),
    (sa.DateTime, ColumnType.TIMESTAMP),
    (sa.Date, ColumnType.DATE),
    (sa.String, ColumnType.TEXT),
)


def _column(table: TableName, found: ReflectedColumn) -> Column:
    """A column as SQLAlchemy's inspector has it."""
    type_: Any = found["type"]
    kind = next((ours for theirs, ours in _TYPES if isinstance(type_, theirs)), None)
    if kind is None or isinstance(type_, sa.Enum) or getattr(type_, "timezone", False):
        raise TableError(
            f"the column {found['name']!r} of {table} is of the type {type_!r}, which is not filled in a database of "
            "this kind.",
            code=Reason.COLUMNS,
            hint="Load into a table without it, and fill it from there.",
        )
    counts = bool(found.get("autoincrement") is True or found.get("identity"))
    return Column(
        name=found["name"],
        type=kind,
        origin=Origin.EXISTING,
        nullable=bool(found["nullable"]),
        precision=type_.precision if kind is ColumnType.DECIMAL else None,
        scale=(type_.scale or 0) if kind is ColumnType.DECIMAL and type_.precision is not None else None,
        bits=_bits(type_) if kind is ColumnType.BIGINT else None,
        length=type_.length if kind is ColumnType.TEXT else None,
        required=not found["nullable"] and found.get("default") is None and not counts,
    )


def _bits(type_: Any) -> int | None:
    """Of an integer type, as the standard's are where their sizes are told."""
    if isinstance(type_, sa.BigInteger):
        return None
    return 16 if isinstance(type_, sa.SmallInteger) else 32
