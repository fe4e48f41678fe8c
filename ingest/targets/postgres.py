"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles

from ingest.errors import TableError
from ingest.jobs import POSTGRES, POSTGRES_BINARY, POSTGRES_TEXT
from ingest.model import (
    Column,
    ColumnType,
    Merge,
    Mode,
    Origin,
    Reason,
    TableName,
    TableShape,
)
from ingest.targets import keys, pgerrors, pgmerging, pgobstacles, pgreplacing
from ingest.targets.base import LINEAGE, POSITION, BatchRef, Offer, fingerprint_of
from ingest.targets.faults import Fault
from ingest.targets.pgtypes import TEXTS, bare, digits_of_a_second, why_text
from ingest.targets.server import BUSY_SECONDS, ServerTarget

MAKING_LEDGER = 0x696E67657374
"""The number of the advisory lock under which a ledger is made: "ingest", as bytes."""

_SYSTEM_COLUMNS = frozenset(("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"))
"""What no column of a table can be called (PostgreSQL's manual, "System Columns")."""

COPY_BYTES = 64 * 1024
"""Bytes of a staged file that are handed to the driver at once: 1 MiB is no faster, and costs more for being copied."""

_SESSION = (
    f"SET lock_timeout = '{BUSY_SECONDS}s'",
    # A server's limits are meant for people's queries, not for a COPY of a large file, and to compile the merge of one
    # takes longer than it saves. Not every version knows them all: to SET one would leave an error in its log.
    "SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings "
    "WHERE name IN ('statement_timeout', 'transaction_timeout', 'jit')",
    "SET idle_in_transaction_session_timeout = '10min'",
    # A server notices by these within two minutes that our machine is gone, instead of after two hours.
    "SET tcp_keepalives_idle = 60",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 6",
    "SET TimeZone = 'UTC'",  # a moment without a zone means the same on every machine
    "SET DateStyle = 'ISO, YMD'",
    "SET IntervalStyle = 'postgres'",
)

_TYPES = {
    "smallint": ColumnType.BIGINT,
    "integer": ColumnType.BIGINT,
    "bigint": ColumnType.BIGINT,
    "real": ColumnType.DOUBLE,
    "double precision": ColumnType.DOUBLE,
    "boolean": ColumnType.BOOLEAN,
    "date": ColumnType.DATE,
    "timestamp without time zone": ColumnType.TIMESTAMP,
    "numeric": ColumnType.DECIMAL,
    "text": ColumnType.TEXT,
    "character varying": ColumnType.TEXT,
    "character": ColumnType.TEXT,
}

_TABLE = sa.text(
    """
    SELECT c.oid, c.relname, c.relkind, c.relhasrules, c.relrowsecurity,
        has_schema_privilege(n.oid, 'USAGE') AS usable, c.relkind = 'p' AND EXISTS (
            SELECT FROM pg_catalog.pg_partition_tree(c.oid) AS p
            JOIN pg_catalog.pg_class AS part ON part.oid = p.relid WHERE part.relkind = 'f'
        ) AS elsewhere
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND (c.relname = :name OR lower(CAST(c.relname AS text) COLLATE "default") = lower(:name))
    ORDER BY c.relname = :name DESC, c.relname
    """
)
"""A name has the collation "C", in which letters beyond ASCII have no lower case; a text that is given has another."""

_COLUMNS = sa.text(
    """
    SELECT a.attname, base.required AS attnotnull, a.attidentity, a.attgenerated, t.typcategory,
        pg_catalog.format_type(base.type, base.typmod) AS type,
        a.atttypid::int8 AS typid, a.atttypmod, a.attcollation::int8 AS collation, a.attnum,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (
        WITH RECURSIVE domains AS (
            SELECT a.atttypid AS type, a.atttypmod AS typmod, a.attnotnull AS required
            UNION ALL
            SELECT d.typbasetype, d.typtypmod, domains.required OR d.typnotnull
            FROM domains JOIN pg_catalog.pg_type AS d ON d.oid = domains.type AND d.typtype = 'd'
        )
        SELECT domains.* FROM domains JOIN pg_catalog.pg_type AS d ON d.oid = domains.type AND d.typtype <> 'd'
    ) AS base
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = CAST(:oid AS oid) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    """
)
_CONSTRAINTS = sa.text(
    """
    SELECT conname, pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
    WHERE conrelid = CAST(:oid AS oid) ORDER BY conname
    """
)

_IDENTITIES = sa.text(
    """
    SELECT a.attname, s.name, has_sequence_privilege(s.name, 'USAGE')
    FROM pg_catalog.pg_attribute AS a,
        LATERAL (SELECT pg_catalog.pg_get_serial_sequence(:name, a.attname) AS name) AS s
    WHERE a.attrelid = CAST(:name AS regclass) AND a.attidentity <> '' AND NOT a.attisdropped ORDER BY a.attnum
    """
)


_BOUNDS = sa.text(
    """
    SELECT string_agg(pg_catalog.pg_get_partition_constraintdef(relid), ' OR ')
    FROM pg_catalog.pg_partition_tree(CAST(:name AS regclass)) WHERE isleaf
    HAVING bool_and(pg_catalog.pg_get_partition_constraintdef(relid) IS NOT NULL) AND count(*) <= 32
    """
)
"""What a row must be for a partition to take it; nothing where one takes all. Asked for very many it would be slow."""


class PostgresTarget(ServerTarget):
    """A PostgreSQL database."""

    title = "PostgreSQL"
    dialect = "postgresql"
    driver = "psycopg"
    module = "psycopg"
    extra = "postgres"
    reading: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    transactional_ddl = True
    numbers_cost = True
    widens = True
    temporary_schema = "pg_temp"  # else it would be looked for beside the ledger
    conflict_insert = staticmethod(postgresql_insert)
    max_columns = 1_600  # MaxHeapAttributeNumber of every build
    max_name = 63  # NAMEDATALEN less its end; the server would cut a longer name without an error

    # connections -------------------------------------------------------------------------------------------

    def _connect_args(self) -> dict[str, Any]:
        return {
            "client_encoding": "utf8",
            "application_name": "ingest",
            "connect_timeout": 15,
            # Our side notices within two minutes that the server's machine is gone.
            "keepalives_idle": 60,
            "keepalives_interval": 10,
            "keepalives_count": 6,
            "tcp_user_timeout": 120_000,  # milliseconds; also while it owes us the receipt of what we sent
        }

    def _prepare(self, driver: Any) -> None:
        import psycopg

        before, driver.autocommit = driver.autocommit, True
        try:
            with driver.cursor() as cursor:
                cursor.execute("; ".join(_SESSION))
                # A killed client's statement ends by itself, and with it what it has locked. Servers before 14 do not
                # know of it, and those on some systems cannot.
                with contextlib.suppress(psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):
                    cursor.execute("SET client_connection_check_interval = '5s'")
        except psycopg.Error as error:
            raise self.told(error, gone=True) from error
        driver.autocommit = before

    def now(self) -> sa.ColumnElement[Any]:
        return sa.func.timezone("UTC", sa.func.clock_timestamp(), type_=sa.DateTime())

    @contextlib.contextmanager
    def _one_at_a_time(self, connection: Connection) -> Iterator[None]:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MAKING_LEDGER)))
        yield

    def other_ledgers(self, connection: Connection) -> list[str]:
        query = "SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = 'ingest_lease' ORDER BY schemaname"
        own = self.ledger_schema or connection.dialect.default_schema_name
        return [name for name in connection.exec_driver_sql(query).scalars() if name != own]

    def said(self, error: sa.exc.DBAPIError) -> str:
        return pgerrors.words(error)

    def said_of_a_value(self, error: sa.exc.DBAPIError) -> str:
        return pgerrors.words_of_a_value(error)

    def constraint(self, error: sa.exc.DBAPIError) -> str:
        return pgerrors.constraint(error)

    def fault_of(self, error: Any) -> Fault | None:
        return pgerrors.fault(error)

    def user(self, connection: Connection) -> str:
        return connection.dialect.identifier_preparer.quote(_info(connection).user)

    def only_reads(self, error: sa.exc.DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) == "25006"

    def lacks_right(self, error: sa.exc.DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) == "42501"

    def refuses_rows(self, error: sa.exc.DBAPIError) -> bool:
        return pgerrors.of_a_row(error)

    def breaks_constraint(self, error: sa.exc.DBAPIError) -> bool:
        return super().breaks_constraint(error) or pgerrors.of_a_trigger(error)

    # tables ------------------------------------------------------------------------------------------------

    def unfit(self, name: str, what: str) -> str:
        if what == "column" and name in _SYSTEM_COLUMNS:
            return "is that of a column which PostgreSQL keeps in every table"
        return super().unfit(name, what)

    def shape(self, connection: Connection, table: TableName) -> TableShape | None:
        self.check_name(table)
        found = self._find(connection, table)
        if found is None:
            return None
        rows = connection.execute(_COLUMNS, {"oid": found.oid}).all()
        place = _place(self.schema_of(table), found.relname)
        why = ""
        if found.relhasrules:
            why = "it has rules, which COPY does not follow"
        elif found.relrowsecurity:
            why = "it has row security, which COPY does not follow"
        if not self.bulk:
            why = "--bulk off"
        return TableShape(
            table=TableName(name=found.relname, schema=table.schema),
            columns=tuple(_column(row, place) for row in rows if not row.attgenerated),
            generated=tuple(row.attname.casefold() for row in rows if row.attgenerated),
            fingerprint=self._fingerprint(connection, found.oid, rows),
            bulk=not why,
            why_not_bulk=why,
            refers=any(
                definition.startswith("FOREIGN KEY") for _, definition in self._constraints(connection, found.oid)
            ),
        )

    def _find(self, connection: Connection, table: TableName) -> Any:
        """The table of that very name, else the only one of that name in another case."""
        schema = table.schema or connection.dialect.default_schema_name
        if schema is None:
            raise TableError(
                "the search_path of this user names no schema that is there.",
                code=Reason.COLUMNS,
                hint="Name one: --table SCHEMA.TABLE",
            )
        found = connection.execute(_TABLE, {"schema": schema, "name": table.name}).all()
        if not found:
            self._check_schema(connection, schema)
            return None
        if len(found) > 1 and found[0].relname != table.name:
            raise TableError(
                f"{table} can be {len(found)} tables, whose names differ only by case.",
                code=Reason.COLUMNS,
                hint=f"Name one with --table: {', '.join(row.relname for row in found)}.",
            )
        kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(found[0].relkind)
        if found[0].elsewhere:
            kind = "a table with a foreign table among its partitions"
        if kind is not None:
            raise TableError(
                f"{table} is {kind}, which takes no rows in one transaction with ours.",
                code=Reason.COLUMNS,
                hint="Choose a table with --table.",
            )
        return found[0]

    def _check_schema(self, connection: Connection, schema: str) -> None:
        query = sa.text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = :name")
        usable = connection.execute(query, {"name": schema}).scalar()
        name = _quoted(schema)
        if usable is None:
            raise TableError(
                f"there is no schema {schema!r}.", code=Reason.COLUMNS, hint=f"Make it first: CREATE SCHEMA {name}"
            )
        if not usable:
            raise TableError(
                f"this user may not use the schema {schema!r}.",
                code=Reason.DATABASE,
                hint=f"Its owner can type: GRANT USAGE ON SCHEMA {name} TO {self.user(connection)}",
            )

    def _fingerprint(self, connection: Connection, oid: int, rows: Sequence[Any]) -> str:
        return fingerprint_of([[list(row) for row in rows], [list(row) for row in self._constraints(connection, oid)]])

    @staticmethod
    def _constraints(connection: Connection, oid: int) -> Sequence[Any]:
        """Names and definitions of a table's constraints."""
        return connection.execute(_CONSTRAINTS, {"oid": oid}).all()

    def fingerprint(self, connection: Connection, table: TableName) -> str:
        found = self._find(connection, table)
        if found is None:
            return ""
        return self._fingerprint(connection, found.oid, connection.execute(_COLUMNS, {"oid": found.oid}).all())

    def hold(self, connection: Connection, table: TableName) -> None:
        # The weakest lock that ALTER and DROP wait for; a role that may only read and insert can take it.
        name = f"{_quoted(self.schema_of(table) or '')}.{_quoted(table.name)}".replace(":", r"\:")
        try:
            connection.execute(sa.text(f"LOCK TABLE {name} IN ACCESS SHARE MODE"))
        except sa.exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in ("42P01", "3F000"):  # no such table; no such schema
                raise
            raise TableError(f"the table {table} is gone.", code=Reason.TABLE_LOST) from error

    def hides_rows(self, connection: Connection, table: TableName) -> bool:
        found = self._find(connection, table)
        query = sa.text("SELECT pg_catalog.row_security_active(CAST(:oid AS oid))")
        return found is not None and bool(connection.execute(query, {"oid": found.oid}).scalar())

    def obstacle(self, connection: Connection, table: TableName, mode: str) -> TableError | None:
        found = self._find(connection, table)
        if found is None:
            return None
        rule = pgobstacles.rule(connection, found.oid, table, mode) if found.relhasrules else None
        return rule or (pgobstacles.restricted(connection, found.oid, table) if mode == Mode.REPLACE else None)

    def has_rows(self, connection: Connection, table: TableName) -> bool:
        # What cannot be seen is not taken for empty: it would be loaded once more beside it.
        return super().has_rows(connection, table) or self.hides_rows(connection, table)

    def comment(self, connection: Connection, table: TableName) -> str | None:
        found = self._find(connection, table)
        if found is None:
            return None
        query = sa.text("SELECT pg_catalog.obj_description(CAST(:oid AS oid), 'pg_class')")
        return connection.execute(query, {"oid": found.oid}).scalar()

    def unique_keys(self, connection: Connection, table: TableName) -> keys.Keys:
        return keys.of_postgresql(connection, self.schema_of(table), table.name)

    def sql_type(self, column: Column) -> Any:
        if column.type is ColumnType.TEXT and column.native and not _is_text(column.native):
            return _AsText()
        if column.type in (ColumnType.TIME, ColumnType.UUID):
            return _AsText(column.type.value.upper())
        return super().sql_type(column)

    def change_types(self, connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
        made = self.sql_table(TableShape(table=table, columns=tuple(columns)))
        changes = []
        for column in made.columns:
            name, kind = _quoted(column.name), column.type.compile(dialect=connection.dialect)
            changes.append(f"ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}")
        _ddl(connection, f"ALTER TABLE {_place(self.schema_of(table), table.name)} {', '.join(changes)}")

    # rows --------------------------------------------------------------------------------------------------

    def stage_format(self, shape: TableShape) -> str:
        return POSTGRES if shape.bulk else super().stage_format(shape)

    def way(self, shape: TableShape, columns: Sequence[Column]) -> str:
        if not shape.bulk:
            return f"by INSERT: {shape.why_not_bulk}"
        found = [one for column in columns if (one := shape.column(column.name)) is not None]
        why = why_text(found)
        return f"by COPY as text: {why}" if why else "by binary COPY"

    def insert(self, connection: Connection, shape: TableShape, batches: Sequence[BatchRef]) -> int:
        inserted = 0
        for batch in batches:
            if batch.staged.format in (POSTGRES_BINARY, POSTGRES_TEXT):
                inserted += self._copy(connection, _place(self.schema_of(shape.table), shape.table.name), batch)
            else:
                inserted += super().insert(connection, shape, [batch])
        return inserted

    def create_like(self, connection: Connection, shape: TableShape, staging: TableName, token: str) -> None:
        # With its NOT NULLs, checks, defaults and indexes; foreign keys are not copied, and are checked in the end.
        like = _place(self.schema_of(shape.table), shape.table.name)
        made = _place(self.schema_of(staging), staging.name)
        _ddl(connection, f"CREATE TABLE {made} (LIKE {like} INCLUDING ALL EXCLUDING IDENTITY)")
        # Where a file has no value for an identity column, the table's own numbers go on, as those of a serial do.
        for column, sequence, usable in connection.execute(_IDENTITIES, {"name": like}):
            if not usable:
                raise TableError(
                    f"this user may not take numbers from {sequence}, for the column {column!r} of {shape.table}.",
                    code=Reason.DATABASE,
                    hint=f"Its owner can type: GRANT USAGE ON SEQUENCE {sequence} TO {self.user(connection)}",
                )
            literal = str(sequence).replace("'", "''")
            _ddl(connection, f"ALTER TABLE {made} ALTER {_quoted(column)} SET DEFAULT nextval('{literal}')")
        if bounds := connection.execute(_BOUNDS, {"name": like}).scalar():
            _ddl(connection, f"ALTER TABLE {made} ADD CONSTRAINT bounds_of_its_partition CHECK ({bounds})")
        if not shape.lineage:
            self.add_columns(connection, staging, [LINEAGE])
        self.set_token(connection, staging, token)

    def replace_rows(self, connection: Connection, shape: TableShape, staging: TableShape) -> int:
        return pgreplacing.replace(self, connection, shape, staging, self._find(connection, shape.table).oid)

    def cascades(self, connection: Connection, table: TableName) -> list[str]:
        found = self._find(connection, table)
        return pgreplacing.others(connection, found.oid) if found is not None else []

    def defer_foreign_keys(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")

    def create_gathered(self, connection: Connection, gathered: sa.Table, source: sa.Table) -> None:
        # COPY gives each row in its turn what the column has by default: here its number.
        try:
            super().create_gathered(connection, gathered, source)
        except sa.exc.ProgrammingError as error:
            # By the place in the server: its number is that of every right that is lacking.
            if getattr(getattr(error.orig, "diag", None), "source_function", None) != "InitTempTableNamespace":
                raise
            database = _quoted(_info(connection).dbname)
            hint = f"The database's owner can type: GRANT TEMPORARY ON DATABASE {database} TO {self.user(connection)};"
            raise self.no_temporary_tables(source, hint) from error
        if POSITION not in gathered.c:
            return
        place, numbers = _place(gathered.schema, gathered.name), _numbers(gathered)
        _ddl(connection, f"CREATE TEMPORARY SEQUENCE {numbers} OWNED BY {place}.{POSITION}")
        _ddl(connection, f"ALTER TABLE {place} ALTER {POSITION} SET DEFAULT nextval('{numbers}')")

    def same_rows(self, connection: Connection, table: sa.Table, merge: Merge, offer: Offer) -> int | None:
        if merge.mode is not Mode.UPSERT or merge.newest_by is not None:
            return None
        # To write a row that is there already takes three times as long as to find that out, and space besides.
        (gathered,) = offer.rows.get_final_froms()
        met = [table.c[name] == gathered.c[name] for name in merge.key]
        same = sa.exists().where(*met, pgmerging.same_values(table, gathered.c, offer.names)).correlate(gathered)
        # Key by key, each by the index: the planner would read all of a large table for a few rows.
        for way in ("hashjoin", "mergejoin"):
            _ddl(connection, f"SET LOCAL enable_{way} = off")
        there = pgmerging.count(connection, offer, same)
        for way in ("hashjoin", "mergejoin"):
            _ddl(connection, f"SET LOCAL enable_{way} TO DEFAULT")
        return there

    def merge_rows(self, connection: Connection, table: sa.Table, merge: Merge, offer: Offer, same: int | None) -> int:
        if merge.mode is Mode.UPSERT and set(offer.names) <= table.info["fixed"]:
            # There is nothing to update: an identity column must not even be set to what it is.
            self.counted(connection, self.merge_statement(table, replace(merge, mode=Mode.INSERT_IGNORE), offer))
            return self.same_rows(connection, table, replace(merge, newest_by=None), offer) or 0
        if same:
            others = self.merge_statement(
                table, merge, offer, lambda row: pgmerging.same_values(table, row, offer.names)
            )
            offered = pgmerging.count(connection, offer)
            if self.counted(connection, others) + same == offered:
                return offered
            # Another program has written to the table in between.
        return super().merge_rows(connection, table, merge, offer, None)

    def fill(self, connection: Connection, gathered: sa.Table, batch: BatchRef, first: int) -> int:
        if batch.staged.format not in (POSTGRES_BINARY, POSTGRES_TEXT):
            return super().fill(connection, gathered, batch, first)
        if POSITION in gathered.c:
            connection.execute(sa.select(sa.func.setval(_numbers(gathered), first, False)))
        return self._copy(connection, _place(gathered.schema, gathered.name), batch)

    def _copy(self, connection: Connection, place: str, batch: BatchRef) -> int:
        """One batch by COPY, on SQLAlchemy's own connection and in its transaction; the rows as the server counts."""
        import psycopg

        columns = ", ".join(map(_quoted, batch.staged.columns))
        format_ = "binary" if batch.staged.format == POSTGRES_BINARY else "text"
        statement = f"COPY {place} ({columns}) FROM STDIN (FORMAT {format_})"
        driver: Any = connection.connection.driver_connection
        try:
            with driver.cursor() as cursor, open(batch.staged.path, "rb") as file:
                with cursor.copy(statement.encode()) as copy:
                    while data := file.read(COPY_BYTES):
                        copy.write(data)
                return int(cursor.rowcount)
        except psycopg.Error as error:
            # Past SQLAlchemy, so it is told as SQLAlchemy tells it; a connection that is gone is not used again.
            if driver.closed:
                connection.invalidate(error)
            raise self.told(error, gone=driver.closed) from error

    def rows_of(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return _Overriding(*columns)

    def insert_statement(self, table: sa.Table, names: Sequence[str]) -> Any:
        # A value of the file for a column that is GENERATED ALWAYS AS IDENTITY is stored, as COPY does. SQLAlchemy has
        # no words for that; a colon in a name would be taken for a parameter.
        columns = ", ".join(map(_quoted, names))
        values = ", ".join(f":v{i}" for i in range(len(names)))
        place = _place(table.schema, table.name)
        head = f"INSERT INTO {place} ({columns}) OVERRIDING SYSTEM VALUE"
        return sa.text(head.replace(":", r"\:") + f" VALUES ({values})").bindparams(
            *(sa.bindparam(f"v{i}", type_=table.c[name].type) for i, name in enumerate(names))
        )


class _Overriding(sa.Select[Any]):
    """Rows for a table whose identity columns are GENERATED ALWAYS, too: their values are stored, as COPY does."""

    inherit_cache = True


@compiles(_Overriding)
def _compile_overriding(rows: _Overriding, compiler: Any, **options: Any) -> str:
    # What comes between the columns of an INSERT and its SELECT, for which SQLAlchemy has no words.
    return f"OVERRIDING SYSTEM VALUE {compiler.visit_select(rows, **options)}"


class _AsText(sa.types.UserDefinedType[str]):
    """A value that the server reads as the column's own type: no cast of ours. As elsewhere, "" is NULL but in text."""

    cache_ok = True

    def __init__(self, spec: str = "text") -> None:
        self.spec = spec

    def get_col_spec(self, **_: Any) -> str:
        return self.spec

    def bind_processor(self, dialect: Any) -> Any:
        del dialect
        return lambda value: value or None


def _column(row: Any, place: str) -> Column:
    """A column of a table as the catalogue has it."""
    # What is text by another name (citext, most domains) is written like it; "char" and name are the catalogue's own.
    native = row.type
    if row.typcategory == "S" and bare(native) not in (*TEXTS, '"char"', "name"):
        native = "text"
    _, _, arguments = native.partition("(")
    kind = _TYPES.get(bare(native), ColumnType.TEXT)
    precision, scale = None, digits_of_a_second(native)
    if kind is ColumnType.DECIMAL and arguments:
        digits = [int(part) for part in arguments.rstrip(")").split(",")]
        precision, scale = digits[0], digits[1]
    length = None
    if arguments and bare(native).startswith("character"):
        length = int(arguments.partition(")")[0])
    return Column(
        name=row.attname,
        type=kind,
        origin=Origin.EXISTING,
        nullable=not row.attnotnull,
        precision=precision,
        scale=scale,
        bits={"smallint": 16, "integer": 32, "real": 32}.get(native),
        length=length,
        native=native,
        fixed=f"ALTER TABLE {place} ALTER {_quoted(row.attname)} SET GENERATED BY DEFAULT;"
        if row.attidentity == "a"
        else "",
    )


def _info(connection: Connection) -> Any:
    """What the driver knows of a connection, whatever of it was said in the URL."""
    driver: Any = connection.connection.driver_connection
    return driver.info


def _quoted(name: str) -> str:
    # Not SQLAlchemy's: it doubles a percent sign, for statements that are given parameters.
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _ddl(connection: Connection, statement: str) -> None:
    """Execute a statement without parameters, in whose names a % is a %."""
    connection.exec_driver_sql(statement.replace("%", "%%"))


def _numbers(gathered: sa.Table) -> str:
    """The sequence that numbers the rows of a gathered table."""
    return _place(gathered.schema, f"{gathered.name}_numbers")


def _place(schema: str | None, name: str) -> str:
    return f"{_quoted(schema or '')}.{_quoted(name)}"


def _is_text(native: str) -> bool:
    return bare(native) in TEXTS
