"""MySQL and MariaDB: LOAD DATA LOCAL INFILE of what the workers wrote, and tables of InnoDB, for no other rolls back.

DDL commits by itself here: each statement of ours stands alone, after its intent, and says all there is to say (the
token is part of CREATE TABLE, new columns come in one ALTER), so a crash leaves all of it or nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn, CreateTable

from ingest.errors import DatabaseUnreachable, LedgerError, SourceError, TableError
from ingest.jobs import LOAD_DATA
from ingest.model import LINEAGE_COLUMN, Column, ColumnType, Merge, Mode, Reason, TableName, TableShape
from ingest.targets import innodb, keys, mysqldefinitions, mysqlerrors, mysqltypes, updating
from ingest.targets.base import POSITION, BatchRef, Offer, fingerprint_of
from ingest.targets.faults import Fault
from ingest.targets.loaddata import FORMAT
from ingest.targets.server import BUSY_SECONDS, ServerTarget

SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
"""Whatever the server's default: values that do not fit are errors, a 0 stays 0 in an AUTO_INCREMENT column, names are
quoted with backquotes and a backslash escapes."""

_SESSION = (
    # The servers' own patience with another program's hold on a table's definition is a day or more.
    f"lock_wait_timeout = {BUSY_SECONDS}, innodb_lock_wait_timeout = {BUSY_SECONDS}",
    # What guards the user's tables is on, and no limit that is meant for people's queries.
    "foreign_key_checks = 1, unique_checks = 1 /*M!100201 , check_constraint_checks = 1, max_statement_time = 0 */",
    # A moment without a zone means the same on every machine, also in a TIMESTAMP column.
    "time_zone = '+00:00'",
    # Who reads our results may be a person with a pager.
    "net_write_timeout = 3600",
    # For the one table of the ledger whose definition is not ours alone.
    "default_storage_engine = InnoDB",
    # Values that are cut in silence are at least noted, and so that it can be read which constraint a row broke.
    "sql_notes = 1, max_error_count = 64, lc_messages = 'en_US'",
    # Every statement does and returns all that it says: the ledger is read whole, and a COMMIT only commits.
    "sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, completion_type = 0",
    # A definition looks always the same.
    "sql_quote_show_create = 1",
    # A connection is never idle for so long inside a transaction: our machine is gone, and what it locked is released.
    "wait_timeout = 600 /*M!100300 , idle_transaction_timeout = 600 */",
)

INNODB_COLUMNS = 1_017
"""Columns of an InnoDB table at most (the manual's "InnoDB Limits"); a row ends at 8,126 bytes besides."""

_OLD_NAMES = "#mysql50#"

NAME_LENGTH = 64
"""Characters of the name of a table or column (the manual's "Identifier Length Limits")."""

KEY_LENGTH = 255
"""Characters of a text in the key of a table that we make: three of them fit into the 3,072 bytes that InnoDB has for
an index. A LONGTEXT has no index by which it could be found: MariaDB keeps hashes of it, MySQL nothing."""

LOCAL_INFILE_OFF = "the server's local_infile is off"

_OURS = ("charset", "sql_mode", "local_infile", "autocommit", "use_unicode", "conv", "cursorclass", "defer_connect")
"""What a URL may say to the driver, but not to us: values would be altered, or transactions not be ours."""

_IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What a server says of itself."""

    database: str
    folds_names: bool  #: it keeps the names of tables in lower case
    local_infile: bool


class MySQLTarget(ServerTarget):
    """A database of a MySQL or MariaDB server."""

    title = "MySQL"
    dialect = "mysql"  # SQLAlchemy's of this name speaks to both, and finds out which it is
    driver = "pymysql"
    module = "pymysql"
    extra = "mysql"
    reading: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ"}

    transactional_ddl = False
    widens = True
    max_columns = INNODB_COLUMNS
    max_name = NAME_LENGTH

    def __init__(self, url: URL, *, bulk: bool = True, ledger_schema: str | None = None) -> None:
        super().__init__(url.difference_update_query(_OURS), bulk=bulk, ledger_schema=ledger_schema)
        self._known: _Server | None = None
        self.temporary_schema = self.url.database  # without it, it would be made where the ledger is

    # connections -------------------------------------------------------------------------------------------

    def _connect_args(self) -> dict[str, Any]:
        return {"charset": "utf8mb4", "sql_mode": SQL_MODE, "connect_timeout": 15, "program_name": "ingest"}

    def _make_engine(self, **options: Any) -> Engine:
        from ingest.targets.localfiles import LocalFilesConnection

        engine = super()._make_engine(**options)

        @sa.event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, keywords: Any) -> Any:
            del dialect, record
            return LocalFilesConnection(*arguments, **keywords)

        return engine

    def _prepare(self, driver: Any) -> None:
        with driver.cursor() as cursor:
            cursor.execute(f"SET SESSION {', '.join(_SESSION)}")
            cursor.execute("SELECT @@max_allowed_packet")
            driver.largest = int(cursor.fetchone()[0])

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        engine = self._make_engine(poolclass=NullPool)
        sa.event.listen(engine, "connect", _read_only)
        try:
            with self._opened(engine) as connection:
                yield connection.execution_options(**self.reading)
        finally:
            engine.dispose()

    def now(self) -> sa.ColumnElement[Any]:
        return sa.func.utc_timestamp(sa.literal_column("6"), type_=sa.DateTime())

    @contextlib.contextmanager
    def _one_at_a_time(self, connection: Connection) -> Iterator[None]:
        # A lock of the session, for DDL ends transactions; its name is the server's, not the database's.
        name = fingerprint_of(["ingest", self.ledger_schema or self._server(connection).database])
        if connection.execute(sa.select(sa.func.get_lock(name, BUSY_SECONDS))).scalar() != 1:
            raise LedgerError(
                "another run has been making the ledger for a minute.", hint="Run the same command again."
            )
        try:
            yield
            # The transaction's end comes after this block: whoever is next must see the rows, not only the tables.
            _execute(connection, "COMMIT")
        finally:
            if not connection.invalidated:  # else it went with the session
                connection.execute(sa.select(sa.func.release_lock(name)))

    def longest_text(self, connection: Connection) -> int | None:
        driver: Any = connection.connection.driver_connection
        return driver.largest // 4 if driver.largest else None  # each byte may need another before it

    def unreachable(self, error: Exception) -> DatabaseUnreachable:
        code, text = mysqlerrors.answer(error)
        hint = "Look at --to and try again."
        match code:
            case 1044 | 1045 | 1698:
                hint = "Look at the user and the password in --to or INGEST_DATABASE_URL, and what the user may do."
            case 1049:
                name = self._quoted(self.url.database or "")
                hint = f"Create it first: CREATE DATABASE {name} CHARACTER SET utf8mb4;"
            case 2002 | 2003 | 2005:
                hint = "Look whether the server runs, and at host and port in --to."
            case 2061:
                hint = "Install what is missing with: pip install 'ingest[mysql]'"
        return DatabaseUnreachable(
            f"{self.label} cannot be opened: {mysqlerrors.words(code, text) or code}.", hint=hint
        )

    def assert_open(self, connection: Connection) -> None:
        # DDL of a trigger or of a server's own commits, a deadlock rolls back; each answer to a ping says how it is.
        import pymysql

        driver: Any = connection.connection.driver_connection
        try:
            driver.ping()
        except pymysql.Error as error:
            raise self.told(error, gone=not driver.open) from error
        if not driver.server_status & _IN_TRANSACTION:
            raise RuntimeError("the server has ended the transaction by itself")

    def said(self, error: sa.exc.DBAPIError) -> str:
        return mysqlerrors.words(*mysqlerrors.answer(error))

    def said_of_a_value(self, error: sa.exc.DBAPIError) -> str:
        return f"{self.said(error)}, which a trigger needs" if mysqlerrors.lacks(mysqlerrors.answer(error)[0]) else ""

    def fault_of(self, error: Any) -> Fault | None:
        import pymysql

        if not isinstance(error, pymysql.Error):
            return None
        code = mysqlerrors.answer(error)[0]
        # Of a connection that it has closed already, the driver says so with the number 0.
        closed = isinstance(error, pymysql.InterfaceError) and code == 0
        return Fault.LOST if closed else mysqlerrors.fault(code)

    def only_reads(self, error: sa.exc.DBAPIError) -> bool:
        return mysqlerrors.answer(error)[0] in mysqlerrors.READ_ONLY

    def lacks_right(self, error: sa.exc.DBAPIError) -> bool:
        return mysqlerrors.answer(error)[0] in mysqlerrors.NO_RIGHT

    def hint_of_ledger(self, error: sa.exc.DBAPIError) -> str:
        if mysqlerrors.answer(error)[0] == mysqlerrors.TOO_LONG:
            return "An administrator of the server runs SET GLOBAL max_allowed_packet = 16777216;"
        return super().hint_of_ledger(error)

    def refuses_rows(self, error: sa.exc.DBAPIError) -> bool:
        return mysqlerrors.of_a_row(mysqlerrors.answer(error)[0])

    def breaks_constraint(self, error: sa.exc.DBAPIError) -> bool:
        # By its number: to the driver, some of them are operational errors.
        return mysqlerrors.of_a_constraint(mysqlerrors.answer(error)[0])

    def constraint(self, error: sa.exc.DBAPIError) -> str:
        return mysqlerrors.constraint(*mysqlerrors.answer(error))

    # tables ------------------------------------------------------------------------------------------------

    def shape(self, connection: Connection, table: TableName) -> TableShape | None:
        self.check_name(table)
        found = self._row_of(connection, table)
        if found is None:
            if table.schema:
                self._check_database(connection, table.schema)
            return None
        name, kind, engine, _ = found
        spelled = TableName(name=name, schema=table.schema)
        if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
            raise TableError(
                f"{table} is a {kind.lower()}, which takes no rows.",
                code=Reason.COLUMNS,
                hint="Choose a table with --table.",
            )
        if (engine or "").lower() != "innodb":
            raise TableError(
                f"the table {table} is of the engine {engine}, which has no transactions: a load that is interrupted "
                "could not be taken back.",
                code=Reason.COLUMNS,
                hint=f"Change it with: ALTER TABLE {self._format(spelled)} ENGINE=InnoDB;",
            )
        infos = connection.execute(
            sa.text(
                "SELECT column_name, data_type, column_type, is_nullable, numeric_precision, numeric_scale, "
                "datetime_precision, character_maximum_length, extra FROM information_schema.columns "
                "WHERE table_schema = :schema AND table_name = :name ORDER BY ordinal_position"
            ),
            {"schema": table.schema or self._server(connection).database, "name": name},
        ).all()
        generated = tuple(info[0].casefold() for info in infos if mysqltypes.is_generated(info))
        infos = [info for info in infos if not mysqltypes.is_generated(info)]
        why = self._why_not_bulk(connection, infos)
        return TableShape(
            table=spelled,
            columns=tuple(map(mysqltypes.column, infos)),
            generated=generated,
            fingerprint=self.fingerprint(connection, spelled),
            bulk=not why,
            why_not_bulk=why,
            refers=self._refers(connection, spelled),
        )

    def _check_database(self, connection: Connection, name: str) -> None:
        query = sa.text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
        if connection.execute(query, {"name": name}).first() is None:  # nor is one shown that this user may not use
            quoted = self._quoted(name)
            raise TableError(
                f"there is no database {name!r} that this user may use.",
                code=Reason.COLUMNS,
                hint=f"An administrator types: CREATE DATABASE {quoted} CHARACTER SET utf8mb4; "
                f"GRANT ALL ON {quoted}.* TO {self.user(connection)};",
            )

    def _refers(self, connection: Connection, table: TableName) -> bool:
        """Whether the table has foreign keys."""
        query = sa.text(
            "SELECT 1 FROM information_schema.table_constraints "
            "WHERE table_schema = :schema AND table_name = :name AND constraint_type = 'FOREIGN KEY' LIMIT 1"
        )
        place = {"schema": table.schema or self._server(connection).database, "name": table.name}
        return connection.execute(query, place).first() is not None

    def _row_of(self, connection: Connection, table: TableName) -> Any:
        """Name, kind, engine and comment of a table or view; None if there is none."""
        if self.unfit(table.name, "table"):
            return None  # and the server would refuse the question
        server = self._server(connection)
        return connection.execute(
            sa.text(
                "SELECT table_name, table_type, engine, table_comment FROM information_schema.tables "
                "WHERE table_schema = :schema AND table_name = :name"
            ),
            {"schema": table.schema or server.database, "name": self._kept(server, table.name)},
        ).first()

    def _server(self, connection: Connection) -> _Server:
        if self._known is None:
            database, lower, local = connection.execute(
                sa.text("SELECT DATABASE(), @@lower_case_table_names, @@local_infile")
            ).one()
            self._known = _Server(database=database, folds_names=int(lower) == 1, local_infile=bool(local))
        return self._known

    @staticmethod
    def _kept(server: _Server, name: str) -> str:
        return name.lower() if server.folds_names else name

    def canonical(self, connection: Connection, table: TableName) -> TableName:
        server = self._server(connection)
        schema = self._kept(server, table.schema) if table.schema else None
        return super().canonical(connection, TableName(name=self._kept(server, table.name), schema=schema))

    def name_length(self, name: str) -> int:
        return len(name)

    def unfit(self, name: str, what: str) -> str:
        if what == "table" and name.lower().startswith(_OLD_NAMES):
            return f"begins with {_OLD_NAMES}, as the server calls the files of old versions"
        if any(ord(letter) > 0xFFFF for letter in name):
            return "holds a letter beyond U+FFFF (an emoji), which the server's names cannot have"
        return super().unfit(name, what)

    def _why_not_bulk(self, connection: Connection, infos: Sequence[Any]) -> str:
        from ingest.targets.localfiles import GUARDED

        if not self.bulk:
            return "--bulk off"
        if not self._server(connection).local_infile:
            return LOCAL_INFILE_OFF
        if not GUARDED:
            return "this version of PyMySQL cannot be kept from sending other files"
        if any(info[1].lower() == "bit" for info in infos):
            return "it has a column of the type BIT, which LOAD DATA fills with characters"
        return ""

    def advice(self, shapes: Sequence[TableShape]) -> str:
        if all(shape.why_not_bulk != LOCAL_INFILE_OFF for shape in shapes):
            return ""
        return (
            f"{LOCAL_INFILE_OFF}: rows go by INSERT, which takes longer; to change that, an administrator of the "
            "server runs SET GLOBAL local_infile = 1;"
        )

    def hold(self, connection: Connection, table: TableName) -> None:
        # Whoever has read from a table inside a transaction keeps ALTER and DROP waiting until its end.
        with contextlib.suppress(sa.exc.ProgrammingError):  # gone: the fingerprint will tell
            read = sa.table(table.name, schema=self.schema_of(table))
            connection.execute(sa.select(sa.literal(1)).select_from(read).limit(0))

    def comment(self, connection: Connection, table: TableName) -> str | None:
        found = self._row_of(connection, table)
        return found[3] if found else None

    def fingerprint(self, connection: Connection, table: TableName) -> str:
        try:
            text = _execute(connection, f"SHOW CREATE TABLE {self._format(table)}").one()[1]
        except sa.exc.ProgrammingError as error:
            if mysqlerrors.answer(error)[0] not in (1049, 1146):
                raise
            return ""
        # The next number to be given is part of the text, and none of the definition.
        return fingerprint_of(re.sub(r" AUTO_INCREMENT=\d+", "", text))

    def unique_keys(self, connection: Connection, table: TableName) -> keys.Keys:
        return keys.of_mysql(connection, self.schema_of(table), table.name)

    def foreign_keys(self, connection: Connection, table: sa.Table) -> list[keys.ForeignKey]:
        return keys.foreign_of_mysql(connection, table.schema, table.name)

    def new_table(self, shape: TableShape) -> sa.Table:
        table = self.sql_table(replace(shape, columns=tuple(_for_a_key(c, shape.key) for c in shape.columns)))
        options = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_row_format": "DYNAMIC"}
        table.dialect_kwargs.update(options)
        return table

    def create_table(self, connection: Connection, shape: TableShape, token: str) -> None:
        table = self.new_table(shape)
        table.comment = f"ingest {token}"
        collation = connection.execute(
            sa.text("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = :schema"),
            {"schema": shape.table.schema or self._server(connection).database},
        ).scalar()
        if collation and collation.startswith("utf8mb4"):
            # The character set alone would bring its own collation, which does not compare with the other tables'.
            table.dialect_kwargs["mysql_collate"] = collation
        connection.execute(CreateTable(table))

    def create_like(self, connection: Connection, shape: TableShape, staging: TableName, token: str) -> None:
        # Its NOT NULLs, checks, defaults and indexes, in one statement; foreign keys are checked in the end.
        text = _execute(connection, f"SHOW CREATE TABLE {self._format(shape.table)}").one()[1]
        made = mysqldefinitions.like(
            text,
            self._format(staging),
            comment=f"ingest {token}",
            added=None if shape.lineage else LINEAGE_COLUMN,
            names=bool(getattr(connection.dialect, "is_mariadb", False)),
        )
        if made is None:
            raise TableError(f"the definition of {shape.table} cannot be copied.", code=Reason.COLUMNS)
        _execute(connection, made)

    def add_columns(self, connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
        made = self.sql_table(TableShape(table=table, columns=tuple(columns)))
        texts = (str(CreateColumn(column).compile(dialect=connection.dialect)) for column in made.columns)
        added = ", ".join(f"ADD COLUMN {text}" for text in texts)
        # As text of SQLAlchemy's, in which a % stands doubled for a driver that is given parameters.
        name = connection.dialect.identifier_preparer.format_table(made)
        connection.exec_driver_sql(f"ALTER TABLE {name} {added}")

    def change_types(self, connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
        made = self.sql_table(TableShape(table=table, columns=tuple(columns)))
        texts = (str(CreateColumn(column).compile(dialect=connection.dialect)) for column in made.columns)
        name = connection.dialect.identifier_preparer.format_table(made)
        # As text of SQLAlchemy's, in which a % stands doubled for a driver that is given parameters.
        connection.exec_driver_sql(f"ALTER TABLE {name} {', '.join(f'MODIFY COLUMN {text}' for text in texts)}")

    def sql_type(self, column: Column) -> Any:
        match column.type:
            case ColumnType.TEXT if column.length is not None:
                return mysql.VARCHAR(column.length)
            case ColumnType.TEXT:
                return mysql.LONGTEXT()  # TEXT ends at 65,535 bytes
            case ColumnType.TIMESTAMP:
                return mysql.DATETIME(fsp=6)
            case ColumnType.TIME:
                return mysql.TIME(fsp=6)
            case ColumnType.UUID:
                return mysql.CHAR(36)  # MySQL has no such type, and MariaDB only from 10.7 on
            case ColumnType.DECIMAL if column.precision is None:
                # Without digits it would be DECIMAL(10,0). These are the most that both servers take; a value with
                # more is refused, never rounded.
                return mysql.DECIMAL(65, 30)
        return super().sql_type(column)

    # rows --------------------------------------------------------------------------------------------------

    def stage_format(self, shape: TableShape) -> str:
        return LOAD_DATA if shape.bulk else super().stage_format(shape)

    def way(self, shape: TableShape, columns: Sequence[Column]) -> str:
        del columns
        return "by LOAD DATA" if shape.bulk else f"by INSERT: {shape.why_not_bulk}"

    def insert(self, connection: Connection, shape: TableShape, batches: Sequence[BatchRef]) -> int:
        with self._unaltered(connection, shape.table):
            inserted = super().insert(connection, shape, [b for b in batches if b.staged.format != LOAD_DATA])
        files: dict[tuple[str, ...], list[str]] = {}
        for batch in batches:
            if batch.staged.format == LOAD_DATA:
                files.setdefault(batch.staged.columns, []).append(batch.staged.path)
        for columns, paths in files.items():
            inserted += self._load(connection, shape.table, columns, paths)
        return inserted

    def _load(self, connection: Connection, table: TableName, columns: Sequence[str], paths: Sequence[str]) -> int:
        """Staged files by one LOAD DATA; the rows as the server counts."""
        names = ", ".join(map(self._quoted, columns))
        driver: Any = connection.connection.driver_connection
        with self._unaltered(connection, table), driver.offering(paths) as word:
            statement = f"LOAD DATA LOCAL INFILE '{word}' INTO TABLE {self._format(table)} {FORMAT} ({names})"
            return int(_execute(connection, statement).rowcount)

    @contextlib.contextmanager
    def _unaltered(self, connection: Connection, table: object) -> Iterator[None]:
        """Raise if the server has anything to warn of, of what is executed inside the block.

        Even in strict mode LOAD DATA LOCAL alters or drops what does not fit, and INSERT rounds decimals. A constraint
        that LOAD DATA only warns of is raised as the error that INSERT makes of it: in the search that follows, the
        same values go into a table without constraints first, and what alters them there is told.
        """
        driver: Any = connection.connection.driver_connection
        driver.warnings = 0
        yield
        if not driver.warnings:
            return
        found = [(int(row[1]), str(row[2])) for row in connection.exec_driver_sql("SHOW WARNINGS")]
        broken = [one for one in found if mysqlerrors.of_a_constraint(one[0])]
        if broken:
            raise innodb.integrity_error(*broken[0])
        what = mysqlerrors.words(*found[0]) if found else "it gave a warning"
        raise SourceError(f"the table {table} would not take every value as it is: {what}.", code=Reason.CONSTRAINT)

    def counted(self, connection: Connection, statement: Any) -> int:
        with self._unaltered(connection, statement.table.name):
            return super().counted(connection, statement)

    def create_gathered(self, connection: Connection, gathered: sa.Table, source: sa.Table) -> None:
        # Said in one statement: making an index, or dropping a table that is not called temporary, would commit.
        self.discard(connection, gathered)
        number = f"{self._quoted(POSITION)} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY"
        names = ", ".join(self._quoted(column.name) for column in gathered.columns if column.name != POSITION)
        rows = f"SELECT {names} FROM {self._place(source)} WHERE FALSE"  # noqa: S608
        made = f"CREATE TEMPORARY TABLE {self._place(gathered)} ({number}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
        try:
            _execute(connection, f"{made} {rows}")
        except sa.exc.DBAPIError as error:
            if mysqlerrors.too_wide(*mysqlerrors.answer(error)):
                raise self.no_wider_table(source) from error
            if mysqlerrors.answer(error)[0] not in (1044, 1142):
                raise
            database = self._quoted(gathered.schema or "")
            hint = f"An administrator types: GRANT CREATE TEMPORARY TABLES ON {database}.* TO {self.user(connection)};"
            raise self.no_temporary_tables(source, hint) from error

    def index_gathered(self, connection: Connection, gathered: sa.Table) -> None:
        pass  # its numbers are its primary key

    def fill(self, connection: Connection, gathered: sa.Table, batch: BatchRef, first: int) -> int:
        if batch.staged.format != LOAD_DATA:
            with self._unaltered(connection, gathered.name):
                return super().fill(connection, gathered, batch, first)
        if not batch.rows:
            return 0  # the next statement would take the number for its own
        # The server is told the number to begin with, and to count by ones, as it may not do in a cluster.
        connection.exec_driver_sql(
            f"SET SESSION insert_id = {first}, auto_increment_increment = 1, auto_increment_offset = 1"
        )
        try:
            table = TableName(name=gathered.name, schema=gathered.schema)
            return self._load(connection, table, batch.staged.columns, [batch.staged.path])
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql(
                    "SET SESSION auto_increment_increment = DEFAULT, auto_increment_offset = DEFAULT"
                )

    def discard(self, connection: Connection, gathered: sa.Table) -> None:
        _execute(connection, f"DROP TEMPORARY TABLE IF EXISTS {self._place(gathered)}")

    def insert_gathered(
        self, connection: Connection, table: sa.Table, gathered: sa.Table, first: int, last: int
    ) -> int:
        return innodb.insert(self, connection, gathered, table, first=first, last=last)

    def delete_gathered(self, connection: Connection, gathered: sa.Table, numbers: sa.Select[Any]) -> None:
        # By way of a second one: MySQL cannot read a temporary table twice in one statement.
        chosen = sa.Table(f"{gathered.name}_chosen", sa.MetaData(), sa.Column("number"), schema=gathered.schema)
        self.discard(connection, chosen)
        number = "number BIGINT NOT NULL PRIMARY KEY"
        _execute(connection, f"CREATE TEMPORARY TABLE {self._place(chosen)} ({number}) ENGINE=InnoDB")
        connection.execute(chosen.insert().from_select(["number"], numbers))
        connection.execute(gathered.delete().where(gathered.c[POSITION] == chosen.c.number))
        self.discard(connection, chosen)

    @property
    def merges(self) -> bool:
        return True

    def merge_rows(self, connection: Connection, table: sa.Table, merge: Merge, offer: Offer, same: int | None) -> int:
        del same
        (gathered,) = offer.rows.get_final_froms()
        those = offer.rows.whereclause
        assert isinstance(gathered, sa.Table)
        assert those is not None
        written = innodb.put(self, connection, table, gathered, merge=merge, those=those)
        if merge.mode is Mode.UPSERT and merge.newest_by is None:
            offered = connection.execute(sa.select(sa.func.count()).select_from(gathered).where(those)).scalar_one()
            if written < offered:  # another program has put a key in between the two: now all of them are there
                return self.counted(connection, updating.update(table, gathered, merge, those))
        return written

    def replace_rows(self, connection: Connection, shape: TableShape, staging: TableShape) -> int:
        return innodb.replace(self, connection, shape, staging)

    def cascades(self, connection: Connection, table: TableName) -> list[str]:
        query = (
            "SELECT DISTINCT table_name FROM information_schema.referential_constraints"
            " WHERE unique_constraint_schema = :schema AND referenced_table_name = :name"
            " AND NOT (constraint_schema = :schema AND table_name = :name)"
            " AND delete_rule NOT IN ('NO ACTION', 'RESTRICT') ORDER BY 1"
        )
        place = {"schema": self.schema_of(table), "name": table.name}
        return list(connection.execute(sa.text(query), place).scalars())

    @staticmethod
    def _quoted(name: str) -> str:
        doubled = name.replace("`", "``")
        return f"`{doubled}`"

    def _format(self, table: TableName) -> str:
        name = self._quoted(table.name)
        return f"{self._quoted(table.schema)}.{name}" if table.schema else name

    def _place(self, table: sa.Table) -> str:
        return self._format(TableName(name=table.name, schema=table.schema))


def _for_a_key(column: Column, key: Sequence[str]) -> Column:
    """The column of a new table, which an index may be made of."""
    fits = column.name not in key or column.type is not ColumnType.TEXT
    return column if fits else replace(column, length=column.length or KEY_LENGTH)


def _read_only(driver: Any, record: Any) -> None:
    del record
    with driver.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")  # DDL as well


def _execute(connection: Connection, statement: str) -> Any:
    """Execute a statement without parameters, in whose names a % is a %."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
