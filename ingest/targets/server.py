"""What databases that are servers have in common: a driver to be installed, a lease in a row, schemas, lost names.

A server target names its driver, what each connection is told first, and its clock; the rest is the base's.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import re
import shlex
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import NullPool

from ingest import ledger
from ingest.errors import DatabaseUnreachable, LedgerError, SourceError, TableError, UsageError
from ingest.model import Reason, TableName
from ingest.targets import lease
from ingest.targets.base import Target

# A connection that has gone when it is given back is no news, and would be told on stderr with a traceback.
logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())
# Nor is what was under way when a statement before it failed.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

BUSY_SECONDS = 60
"""How long a statement waits for another session's lock."""

READ_ONLY = "The server, or this user's transactions, are set to read only: name another server, or have that changed."

NO_RIGHT = "Have its owner, or an administrator, GRANT this user that right, and run the same command again."


class ServerTarget(Target):
    """A database server."""

    dialect: ClassVar[str]  #: as SQLAlchemy calls it
    driver: ClassVar[str]  #: as SQLAlchemy calls it
    module: ClassVar[str]  #: as Python imports it
    extra: ClassVar[str]  #: of ours, that installs it
    reading: ClassVar[Mapping[str, Any]]  #: execution options of a connection that cannot write
    clock: ClassVar[str] = "UTC"  #: what people call the time of `now`
    #: what to do where the ledger cannot be made, mostly
    ledger_hint: ClassVar[str] = "Ask for the right to create tables there, or name a schema with --ledger-schema."

    parallel = True
    persists = True

    def __init__(self, url: URL, *, bulk: bool = True, ledger_schema: str | None = None) -> None:
        super().__init__(url, bulk=bulk, ledger_schema=ledger_schema)
        self._typed = url.drivername.partition("+")[0]
        self.url = self._checked(url)

    def _checked(self, url: URL) -> URL:
        """The URL that the engine is made with. Raises UsageError where it cannot be used, or its driver is missing."""
        typed = url.drivername.partition("+")
        if typed[2] not in ("", self.driver):
            raise UsageError(
                f"{self.title} is used through the driver {self.driver}, not {typed[2]!r}.",
                hint=f"Write {typed[0]}://user@host/name.",
            )
        if not url.database:
            raise UsageError("the database URL names no database.", hint=f"Write {typed[0]}://user@host/name.")
        if importlib.util.find_spec(self.module) is None:
            raise UsageError(
                f"{self.title} needs the driver {self.driver}, which is not installed.",
                hint=f"Type: pip install 'ingest[{self.extra}]'",
            )
        return url.set(drivername=f"{self.dialect}+{self.driver}")

    @property
    def label(self) -> str:
        shown = self.url.set(drivername=self._typed, query=dict.fromkeys(self.url.query, "***"))
        return shown.render_as_string(hide_password=True)

    # connections -------------------------------------------------------------------------------------------

    @abstractmethod
    def _connect_args(self) -> dict[str, Any]:
        """What the driver is told for each connection, where the URL does not say otherwise."""

    @abstractmethod
    def _prepare(self, driver: Any) -> None:
        """Tell a new connection of the driver how this session is to be."""

    @abstractmethod
    def now(self) -> sa.ColumnElement[Any]:
        """The server's clock at this very moment, without a zone."""

    @contextlib.contextmanager
    def _one_at_a_time(self, connection: Connection) -> Iterator[None]:
        """Inside the block nobody else makes a ledger in this database."""
        del connection
        yield

    def exists(self) -> bool:
        return True  # a database is made by its administrator; that it is not there is told when it is opened

    def _make_engine(self, **options: Any) -> Engine:
        given = {name: value for name, value in self._connect_args().items() if name not in self.url.query}
        try:
            with self._options_taken():
                engine = sa.create_engine(
                    self.url,
                    connect_args=given,
                    isolation_level="READ COMMITTED",  # a server may be set to another; the fences count on this one
                    hide_parameters=True,  # values of rows must not reach an error text
                    pool_pre_ping=True,  # one that was idle for long may have been ended by the server, or on the way
                    **options,
                )
        except ImportError as error:
            raise UsageError(
                f"the driver {self.driver} cannot be used: {error}.", hint=f"Type: pip install 'ingest[{self.extra}]'"
            ) from None
        # First of all: what SQLAlchemy asks a new server must be answered in full, too.
        sa.event.listen(engine, "connect", lambda driver, record: self._prepare(driver), insert=True)
        if self.ledger_schema is not None:
            # Only statements about the ledger name no schema: the user's tables are always named with theirs.
            engine = engine.execution_options(schema_translate_map={None: self.ledger_schema})
        return engine

    @contextlib.contextmanager
    def _options_taken(self) -> Iterator[None]:
        """Inside the block a driver may refuse the URL's options, by any error, whose text may hold what they say."""
        try:
            yield
        except sa.exc.NoSuchModuleError:
            raise
        except (sa.exc.ArgumentError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            names = sorted(self.url.query)
            if not names:
                raise
            named = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            which = named[1] if named and named[1] in names else names[0] if len(names) == 1 else ""
            what = f"the option {which}" if which else f"one of the options {', '.join(names)}"
            why = getattr(error, "strerror", None) or type(error).__name__
            raise DatabaseUnreachable(
                f"{self.label} cannot be opened: {self.driver} does not take {what} as it is written ({why}).",
                hint="Look at what follows the ? in --to and try again.",
            ) from error

    @contextlib.contextmanager
    def _opened(self, engine: Engine | None = None) -> Iterator[Connection]:
        try:
            with self._options_taken():
                connection = (engine or self.engine).connect()
        except sa.exc.DBAPIError as error:
            raise self.unreachable(error) from error
        with connection:
            yield connection

    def told(self, error: Exception, *, gone: bool) -> BaseException:
        """An error of the driver that went past SQLAlchemy, as it would tell it; `gone`: the connection is."""
        return sa.exc.DBAPIError.instance(
            None,
            None,
            error,
            importlib.import_module(self.module).Error,
            hide_parameters=True,
            connection_invalidated=gone,
            dialect=self.engine.dialect,
        )

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._opened() as connection:
            yield connection.execution_options(**self.reading)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        with self._opened() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def lease(self, wait: float) -> Iterator[None]:
        """A row of the ledger, which is made first where there is none."""
        with self.worded():
            self._make_ledger()
            engine = self._make_engine(poolclass=NullPool)
        try:
            with lease.held(engine, self.now(), self.clock, self.label, wait):
                yield
        finally:
            engine.dispose()

    def _make_ledger(self) -> None:
        with self._opened() as connection:
            if ledger.version(connection) is not None:
                return
        with self.begin() as connection, self._one_at_a_time(connection):
            if ledger.version(connection) is not None:
                return
            self.check_place(connection)
            try:
                self._make_ledger_schema(connection)
                ledger.create(connection)
            except sa.exc.DBAPIError as error:
                if self.fault(error) is not None:
                    raise  # it is not about rights
                raise LedgerError(
                    f"the ledger cannot be made in {self.label}: {self.said(error)}.",
                    hint=self.hint_of_ledger(error),
                ) from error

    def no_temporary_tables(self, source: sa.Table, hint: str) -> SourceError:
        """What is told where rows have to be sorted out, and this user may not make the table for that."""
        return SourceError(
            f"rows of {source.name} have to be sorted out, for which this user may not make a temporary table.",
            code=Reason.DATABASE,
            hint=hint,
        )

    def hint_of_ledger(self, error: sa.exc.DBAPIError) -> str:
        """What to do where the ledger cannot be made."""
        return READ_ONLY if self.only_reads(error) else self.ledger_hint

    def hint_of(self, error: sa.exc.DBAPIError) -> str:
        if self.fault(error) is None and self.only_reads(error):
            return READ_ONLY
        return NO_RIGHT if self.lacks_right(error) else super().hint_of(error)

    def lacks_right(self, error: sa.exc.DBAPIError) -> bool:
        """Whether the error is that this user may not do this."""
        del error
        return False

    def only_reads(self, error: sa.exc.DBAPIError) -> bool:
        """Whether the error is that nobody, or not this user, may write."""
        del error
        return False

    def check_place(self, connection: Connection) -> None:
        others = self.other_ledgers(connection)
        if others and self.ledger_schema is None:
            known = shlex.quote(others[0])
            raise UsageError(
                f"{self.label} has a ledger in the schema {others[0]}, and what it knows would be loaded again.",
                hint=f"Give --ledger-schema {known} to go on with it, or name another schema to begin anew.",
            )

    def other_ledgers(self, connection: Connection) -> list[str]:
        """The schemas of this database that hold a ledger which is not ours."""
        del connection
        return []

    def _make_ledger_schema(self, connection: Connection) -> None:
        # IF NOT EXISTS would ask for the right to make schemas where it has nothing to make.
        if self.ledger_schema is not None and not sa.inspect(connection).has_schema(self.ledger_schema):
            connection.execute(sa.schema.CreateSchema(self.ledger_schema))

    # tables ------------------------------------------------------------------------------------------------

    def schema_of(self, table: TableName) -> str | None:
        return table.schema or self.engine.dialect.default_schema_name

    def canonical(self, connection: Connection, table: TableName) -> TableName:
        if "." in table.name or "." in (table.schema or ""):
            return table  # `check_name` refuses it
        return TableName(name=table.name) if table.schema == connection.dialect.default_schema_name else table

    def check_name(self, table: TableName) -> None:
        """Raise TableError for a name that the ledger could not tell from another's."""
        if "." in table.name or "." in (table.schema or ""):
            raise TableError(
                f"{table} would be a table with a dot in its name, which cannot be told from a schema's.",
                code=Reason.COLUMNS,
                hint="Choose the table's name with --table.",
            )
