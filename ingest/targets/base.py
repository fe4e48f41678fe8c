"""A database in plain SQLAlchemy: the way that is always correct, and the questions every target answers.

A target never commits on its own: whoever opens `begin()` or `transaction()` ends it. What a database does in
its own way is an overridden method or a named fact; nothing else in the code asks which database it is.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, CreateTableAs

from ingest import model
from ingest.errors import SourceError, TableError
from ingest.jobs import ARROW, Place, Staged
from ingest.model import LINEAGE_COLUMN, Column, ColumnType, Merge, Mode, Origin, Reason, TableName, TableShape
from ingest.targets import keys
from ingest.targets.answers import Answers

POSITION = model.POSITION_COLUMN
"""The column of gathered rows that counts them from 1, in the order of their batches."""

GATHERED = "ingest_gathered"

INSERT_ROWS = 5_000
"""Rows an `insert()` is given at once: 1,000 was 4 % slower on SQLite, 50,000 no faster and ten times the memory."""

_TOKEN = re.compile(r"\bingest ([0-9a-f]{32})\b")

LINEAGE = Column(name=LINEAGE_COLUMN, type=ColumnType.BIGINT, origin=Origin.LINEAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRef:
    """One staged batch as the writer needs it."""

    staged: Staged
    rows: int
    place: Place | None = None  #: None: nobody has to find its records again


class Offer(NamedTuple):
    """Gathered rows for a table."""

    names: list[str]  #: of their columns but for the numbers
    rows: sa.Select[Any]


class Target(Answers, ABC):
    """A database we load into. Holds a URL; opens a connection only when asked."""

    title: ClassVar[str]  #: as people call it
    transactional_ddl = False  #: DDL can be rolled back together with rows
    savepoints = True  #: a part of a transaction can be rolled back
    numbers_cost: bool = False  #: to number gathered rows takes the database time worth saving
    temporary_schema: str | None = None  #: where a temporary table is, if a statement has to say so
    conflict_insert: Callable[[sa.Table], Any] | None = None  #: its dialect's insert(), if that knows ON CONFLICT
    parallel = False  #: several transactions can write at once
    replaces = True  #: --mode replace can be had
    widens = False  #: the type of a column with values in it can be changed
    persists = False  #: a transaction that a fault ended is worth another try
    schemas = True  #: a table's name can be qualified with a schema
    quote: bool | None = True  #: names are quoted; None: where SQLAlchemy finds that they have to be
    add_column = "ADD COLUMN"  #: what its ALTER TABLE calls that
    max_columns: int | None = None
    max_name: int | None = None  #: the longest name of a table or column, as `name_length` counts
    stage_slots: int | None = None  #: stage files one transaction can take; None: any number

    def __init__(self, url: URL, *, bulk: bool = True, ledger_schema: str | None = None) -> None:
        self.url = url
        self.bulk = bulk
        self.ledger_schema = ledger_schema
        self._engine: Engine | None = None

    @property
    def caution(self) -> str:
        """What the user is told of this kind of database before anything is done in it; "" if nothing."""
        return ""

    # connections -------------------------------------------------------------------------------------------

    @abstractmethod
    def exists(self) -> bool:
        """Whether the database is there. Creates nothing."""

    @abstractmethod
    def _make_engine(self) -> Engine:
        """An engine whose `begin()` starts a transaction that may write."""

    @abstractmethod
    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection that reads, and can neither write nor create."""

    @abstractmethod
    @contextlib.contextmanager
    def lease(self, wait: float) -> Iterator[None]:
        """Be the only run on this database; raises LeaseHeld after `wait` seconds."""

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def close(self) -> None:
        """Close every connection; the target can be used again."""
        self.disconnect()
        self._engine = None

    def disconnect(self) -> None:
        """Close the connections that nobody uses: the next transaction begins on a new one."""
        if self._engine is not None:
            self._engine.dispose()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """One writing transaction: committed at the end of the block, rolled back by an exception."""
        try:
            connection = self.engine.connect()
        except sa.exc.OperationalError as error:
            raise self.unreachable(error) from error
        with connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def transaction(self, batches: Sequence[BatchRef]) -> Iterator[Connection]:
        """`begin()` for a transaction that will `insert` these batches."""
        del batches
        with self.begin() as connection:
            yield connection

    def longest_text(self, connection: Connection) -> int | None:
        """Bytes of a text that one statement can surely bring; None: any number."""
        del connection
        return None

    def advice(self, shapes: Sequence[TableShape]) -> str:
        """What the user could change for these tables to be loaded faster; "" if nothing."""
        del shapes
        return ""

    def assert_open(self, connection: Connection) -> None:
        """Raise if the transaction has ended behind our back (an error may roll it back by itself)."""
        if not connection.in_transaction():
            raise RuntimeError("the transaction ended before its ledger update")

    def spool_base(self) -> Path:
        """The folder under which spool folders are made by default."""
        return Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108

    def check_place(self, connection: Connection) -> None:
        """Where there is no ledger: raise UsageError if the user must have meant one elsewhere in the database."""
        del connection

    def user(self, connection: Connection) -> str:
        """Who we are to the database, as its GRANT takes the name."""
        del connection
        return self.url.username or getpass.getuser()  # drivers take that name where the URL has none

    # tables ------------------------------------------------------------------------------------------------

    @abstractmethod
    def shape(self, connection: Connection, table: TableName) -> TableShape | None:
        """The table as it is now, or None."""

    def table_of(self, text: str) -> TableName:
        """The table behind its name as the ledger keeps it."""
        schema, dot, name = text.partition(".")
        return TableName(name=name, schema=schema) if dot and self.schemas else TableName(name=text)

    def canonical(self, connection: Connection, table: TableName) -> TableName:
        """The one name of a table that can be typed in several ways: it is a part of every file's identity."""
        del connection
        return table

    def schema_of(self, table: TableName) -> str | None:
        """The schema that statements name: where a name without one could mean two tables, the real one."""
        return table.schema

    def name_length(self, name: str) -> int:
        """The length of a name, as the database limits it."""
        return len(name.encode())

    def unfit(self, name: str, what: str) -> str:
        """Why no table or no column (`what`) can have this name, to follow it in a sentence; "" if it can."""
        too_long = self.max_name is not None and self.name_length(name) > self.max_name
        return f"is longer than the {self.max_name} that the database takes" if too_long else ""

    def fitting(self, name: str, suffix: str = "") -> str:
        """The name with a suffix; where that is too long, its beginning and a hash of it with that suffix."""
        if self.max_name is None or self.name_length(name + suffix) <= self.max_name:
            return name + suffix
        end = f"_{fingerprint_of(name)[:8]}{suffix}"
        while self.name_length(name + end) > self.max_name:
            name = name[:-1]
        return name + end

    def hold(self, connection: Connection, table: TableName) -> None:
        """Keep others from changing the table's definition until the transaction ends, where that can be."""
        del connection, table

    def token(self, connection: Connection, table: TableName) -> str | None:
        """The token in the table's own definition, if the tool made it."""
        match = _TOKEN.search(self.comment(connection, table) or "")
        return match[1] if match else None

    def comment(self, connection: Connection, table: TableName) -> str | None:
        """The table's comment, which holds the token unless the target keeps it elsewhere."""
        raise NotImplementedError

    def fingerprint(self, connection: Connection, table: TableName) -> str:
        """Changes whenever the names, order, types or constraints of the table's columns do; "" without a table."""
        shape = self.shape(connection, table)
        return shape.fingerprint if shape else ""

    def has_rows(self, connection: Connection, table: TableName) -> bool:
        """Whether the table has any row."""
        statement = sa.select(sa.literal(1)).select_from(sa.table(table.name, schema=self.schema_of(table))).limit(1)
        return connection.execute(statement).first() is not None

    def hides_rows(self, connection: Connection, table: TableName) -> bool:
        """Whether the table may have rows that this user cannot see."""
        del connection, table
        return False

    def obstacle(self, connection: Connection, table: TableName, mode: str) -> TableError | None:
        """Why no rows get into a table that is there in this mode, if that can be seen beforehand."""
        del connection, table, mode
        return None

    def count_rows(self, connection: Connection, table: TableName) -> int:
        """How many rows the table has."""
        place = sa.table(table.name, schema=self.schema_of(table))
        return int(connection.execute(sa.select(sa.func.count()).select_from(place)).scalar_one())

    def has_beyond(self, connection: Connection, shape: TableShape, column: str, limit: int) -> bool:
        """Whether a column of numbers holds one of `limit` or more, of either sign."""
        table = self.sql_table(shape)
        value = table.c[column]
        beyond = sa.select(sa.literal(1)).select_from(table).where((value >= limit) | (value <= -limit)).limit(1)
        return connection.execute(beyond).first() is not None

    def create_table(self, connection: Connection, shape: TableShape, token: str) -> None:
        """Create the table, its token in its definition."""
        connection.execute(CreateTable(self.new_table(shape)))
        self.set_token(connection, shape.table, token)

    def new_table(self, shape: TableShape) -> sa.Table:
        """A table that is to be made, in SQLAlchemy's words."""
        return self.sql_table(shape)

    def create_sql(self, shape: TableShape) -> str:
        """What to type to make the table, as a load would. Needs no connection."""
        return str(CreateTable(self.new_table(shape)).compile(dialect=self._writing())).strip() + ";"

    def _writing(self) -> sa.Dialect:
        """The dialect of text for people: a % in a name stands there once, for no driver reads it."""
        kind: Any = self.url.get_dialect()
        dialect: sa.Dialect = kind(paramstyle="named")
        return dialect

    def set_token(self, connection: Connection, table: TableName, token: str) -> None:
        """Write the token into the table's comment."""
        commented = sa.Table(
            table.name,
            sa.MetaData(),
            schema=self.schema_of(table),
            quote=self.quote,
            quote_schema=self.quote,
            comment=f"ingest {token}",
        )
        connection.execute(sa.schema.SetTableComment(commented))

    def unique_keys(self, connection: Connection, table: TableName) -> keys.Keys:
        """What tells the rows of the table apart."""
        return keys.of_any(connection, table.schema, table.name)

    def foreign_keys(self, connection: Connection, table: sa.Table) -> list[keys.ForeignKey]:
        """What rows of the table refer to."""
        return keys.foreign_of_any(connection, table.schema, table.name)

    def unique_index_sql(self, table: TableName, key: Sequence[str]) -> str:
        """What to type to give the table a unique index on these columns."""
        made = sa.Table(table.name, sa.MetaData(), *(sa.Column(name, quote=True) for name in key), quote=True)
        made.schema = table.schema
        index = sa.Index(self.fitting("_".join((table.name, *key))), *made.columns, unique=True, quote=True)
        return str(CreateIndex(index).compile(dialect=self._writing()))

    def add_columns(self, connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
        """Add columns, all nullable, at the end of the table."""
        preparer = connection.dialect.identifier_preparer
        made = self.sql_table(TableShape(table=table, columns=tuple(columns)))
        for column in made.columns:
            text = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(made)} {self.add_column} {text}")

    def change_types(self, connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
        """Change the types of columns, with what is stored in them, by one statement. Only where `widens`."""
        raise NotImplementedError

    def sql_type(self, column: Column) -> Any:
        """The SQLAlchemy type a new column gets, and values are bound with."""
        match column.type:
            case ColumnType.BIGINT:
                return sa.BigInteger()
            case ColumnType.DOUBLE:
                return sa.Double()
            case ColumnType.BOOLEAN:
                return sa.Boolean(create_constraint=False)
            case ColumnType.DATE:
                return sa.Date()
            case ColumnType.TIMESTAMP:
                return sa.DateTime()
            case ColumnType.DECIMAL:
                return sa.Numeric(column.precision, column.scale)
            case ColumnType.TEXT | ColumnType.TIME | ColumnType.UUID:
                return sa.Text()

    def sql_table(self, shape: TableShape) -> sa.Table:
        """The table in SQLAlchemy's words."""
        return sa.Table(
            shape.table.name,
            sa.MetaData(),
            *(sa.Column(c.name, self.sql_type(c), nullable=c.nullable, quote=self.quote) for c in shape.columns),
            *([sa.UniqueConstraint(*shape.key)] if shape.key else []),
            info={"fixed": {c.name for c in shape.columns if c.fixed}},
            schema=self.schema_of(shape.table),
            quote=self.quote,
            quote_schema=self.quote,
        )

    # rows --------------------------------------------------------------------------------------------------

    def stage_format(self, shape: TableShape) -> str:
        """How workers stage batches for this table: a stage format."""
        del shape
        return ARROW

    def way(self, shape: TableShape, columns: Sequence[Column]) -> str:
        """How rows with these columns get into the table, for people; "" where there is nothing to tell."""
        del shape, columns
        return ""

    def insert(self, connection: Connection, shape: TableShape, batches: Sequence[BatchRef]) -> int:
        """Insert staged batches in order; returns how many rows the database says it took."""
        from ingest.targets.staging import read_arrow  # Arrow, which only this way of writing needs

        table = self.sql_table(shape)
        inserted = 0
        for batch in batches:
            for rows in read_arrow(batch.staged.path, INSERT_ROWS):
                if rows:
                    # Names of columns can hold what a driver's placeholders are made of.
                    statement = self.insert_statement(table, list(rows[0]))
                    values = [{f"v{i}": v for i, v in enumerate(row.values())} for row in rows]
                    result = connection.execute(statement, values)
                    # Some drivers do not count an executemany; then the rows sent are the rows taken or an error.
                    inserted += result.rowcount if result.rowcount >= 0 else len(rows)
        return inserted

    def rows_of(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """A SELECT whose rows are inserted with all their values: identity columns take them as well."""
        return sa.select(*columns)

    def insert_statement(self, table: sa.Table, names: Sequence[str]) -> Any:
        """What inserts one row into these columns of the table; its values are bound as `v0`, `v1` and so on."""
        return table.insert().values({name: sa.bindparam(f"v{i}") for i, name in enumerate(names)})

    def gather(
        self,
        connection: Connection,
        shape: TableShape,
        batches: Sequence[BatchRef],
        *,
        indexed: bool,
        numbered: bool = True,
    ) -> sa.Table:
        """A temporary table that holds the rows of the batches, numbered by `POSITION`; `discard` it in the end.

        It has the columns that the batches have, with the table's types and without its constraints; `indexed`: with
        an index on the numbers, for who asks for a part of them. Not `numbered`: numbers may be missing, for none is
        going to be asked for; with as little work as the target can.
        """
        everything = [c.name for c in shape.columns]
        names = list(dict.fromkeys(n for batch in batches for n in batch.staged.columns or everything))
        source = self.sql_table(shape)
        gathered = sa.Table(
            GATHERED,
            sa.MetaData(),
            *(sa.Column(name, source.c[name].type, quote=True) for name in names),
            *([sa.Column(POSITION, sa.BigInteger())] if numbered or not self.numbers_cost else []),
            schema=self.temporary_schema,
        )
        if self.max_columns is not None and len(gathered.columns) > self.max_columns:
            raise self.no_wider_table(source)
        self.create_gathered(connection, gathered, source)
        first = 1
        for batch in batches:
            filled = self.fill(connection, gathered, batch, first)
            if filled != batch.rows:
                raise SourceError(
                    f"the database took {filled} of {batch.rows} rows; nothing of them was kept.", code=Reason.COUNTS
                )
            first += batch.rows
        if indexed:
            self.index_gathered(connection, gathered)
        return gathered

    def no_wider_table(self, source: sa.Table) -> SourceError:
        """What is told where rows have to be sorted out, and all columns of the table come with them."""
        return SourceError(
            f"rows of {source.name} have to be sorted out in a temporary table with one column more, and the database "
            "makes none so wide.",
            code=Reason.DATABASE,
            hint="Leave a column out of the file, or take one out of the table.",
        )

    def create_gathered(self, connection: Connection, gathered: sa.Table, source: sa.Table) -> None:
        """Create the temporary table of `gather`, its columns as those of the same names in the source."""
        number = sa.cast(sa.literal_column("0"), sa.BigInteger).label(POSITION)
        columns = (number if column.name == POSITION else source.c[column.name] for column in gathered.columns)
        nothing = sa.select(*columns).where(sa.false())
        connection.execute(CreateTableAs(nothing, gathered.name, temporary=True, schema=gathered.schema))

    def index_gathered(self, connection: Connection, gathered: sa.Table) -> None:
        """Make the rows of a filled table of `gather` quick to find by their numbers."""
        sa.Index(f"ix{POSITION}", gathered.c[POSITION]).create(connection)

    def fill(self, connection: Connection, gathered: sa.Table, batch: BatchRef, first: int) -> int:
        """Put one batch into the table made by `gather`, its rows numbered from `first`; how many there were."""
        from ingest.targets.staging import read_arrow

        filled = 0
        for rows in read_arrow(batch.staged.path, INSERT_ROWS):
            if rows:
                names = [*rows[0].keys(), *([POSITION] if POSITION in gathered.c else [])]
                statement = gathered.insert().values({n: sa.bindparam(f"v{i}") for i, n in enumerate(names)})
                numbered = ([*row.values(), number] for number, row in enumerate(rows, start=first + filled))
                connection.execute(statement, [{f"v{i}": row[i] for i in range(len(names))} for row in numbered])
                filled += len(rows)
        return filled

    def discard(self, connection: Connection, gathered: sa.Table) -> None:
        """Drop what `gather` made."""
        gathered.drop(connection)

    def gathered_rows(self, gathered: sa.Table, first: int, last: int) -> Offer:
        """The rows from one number to another, in their order; all in any order where they have no numbers."""
        names = [c.name for c in gathered.columns if c.name != POSITION]
        rows = self.rows_of(*(gathered.c[name] for name in names))
        if POSITION in gathered.c:
            rows = rows.where(gathered.c[POSITION].between(first, last)).order_by(gathered.c[POSITION])
        return Offer(names, rows)

    def insert_gathered(
        self, connection: Connection, table: sa.Table, gathered: sa.Table, first: int, last: int
    ) -> int:
        """Insert the gathered rows with these numbers into the table, in their order; how many it took."""
        return self.counted(connection, table.insert().from_select(*self.gathered_rows(gathered, first, last)))

    def delete_gathered(self, connection: Connection, gathered: sa.Table, numbers: sa.Select[Any]) -> None:
        """Delete the gathered rows whose numbers a query over the same table finds."""
        connection.execute(gathered.delete().where(gathered.c[POSITION].in_(numbers)))

    @property
    def merges(self) -> bool:
        """Whether upsert and insert-ignore can be had."""
        return self.conflict_insert is not None

    def same_rows(self, connection: Connection, table: sa.Table, merge: Merge, offer: Offer) -> int | None:
        """How many of the rows the table has already, value for value; None where that is not worth asking."""
        del connection, table, merge, offer
        return None

    def merge_rows(self, connection: Connection, table: sa.Table, merge: Merge, offer: Offer, same: int | None) -> int:
        """Put gathered rows into the table in their order; returns how many were written.

        Of upsert, no two of them have the same key; those that the table has already, as many as `same_rows` says, may
        be counted instead of written.
        """
        del same
        return self.counted(connection, self.merge_statement(table, merge, offer))

    def merge_statement(
        self,
        table: sa.Table,
        merge: Merge,
        offer: Offer,
        unless: Callable[[Any], sa.ColumnElement[bool]] | None = None,
    ) -> Any:
        """INSERT ... ON CONFLICT of these rows; no update where `unless` is true of the row that was offered."""
        assert self.conflict_insert is not None
        statement = self.conflict_insert(table).from_select(*offer)
        if merge.mode is Mode.INSERT_IGNORE:
            return statement.on_conflict_do_nothing(index_elements=merge.key)
        wanted = None if unless is None else ~unless(statement.excluded)
        if merge.newest_by is not None:
            there, offered = table.c[merge.newest_by], statement.excluded[merge.newest_by]
            wanted = there.is_(None) | (offered >= there)
        # Where there is nothing but the key, it is set to what it is: so the row counts as written.
        changed = [name for name in offer.names if name not in merge.key]
        changed = changed or [name for name in merge.key if name not in table.info.get("fixed", ())][:1]
        values = {name: statement.excluded[name] for name in changed}
        return statement.on_conflict_do_update(index_elements=merge.key, set_=values, where=wanted)

    def counted(self, connection: Connection, statement: Any) -> int:
        """Execute an INSERT … SELECT or an UPDATE; how many rows the database says it wrote."""
        # Of an INSERT … SELECT, SQLAlchemy keeps no count unless it is told to.
        return int(connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount)

    def create_like(self, connection: Connection, shape: TableShape, staging: TableName, token: str) -> None:
        """Create an empty table with the columns and keys of another, and with lineage."""
        nothing = sa.select(self.sql_table(shape)).where(sa.false())
        connection.execute(CreateTableAs(nothing, staging.name, schema=self.schema_of(staging)))
        for number, key in enumerate(self.unique_keys(connection, shape.table)):
            made = sa.Table(staging.name, sa.MetaData(), *(sa.Column(name, quote=True) for name in sorted(key)))
            made.schema = self.schema_of(staging)
            sa.Index(f"{staging.name}_{number}", *made.columns, unique=True).create(connection)
        if not shape.lineage:
            self.add_columns(connection, staging, [LINEAGE])
        self.set_token(connection, staging, token)

    def drop_table(self, connection: Connection, table: TableName) -> None:
        """Drop a table of ours, if it is there."""
        schema = self.schema_of(table)
        named = sa.Table(table.name, sa.MetaData(), schema=schema, quote=self.quote, quote_schema=self.quote)
        named.drop(connection, checkfirst=True)

    def replace_rows(self, connection: Connection, shape: TableShape, staging: TableShape) -> int:
        """Put the rows of a staging table in the place of all those of the table; how many that were."""
        table, source = self.sql_table(shape), self.sql_table(staging)
        names = [c.name for c in shape.columns]
        connection.execute(table.delete())
        rows = self.rows_of(*(source.c[name] for name in names))
        return self.counted(connection, table.insert().from_select(names, rows))

    def cascades(self, connection: Connection, table: TableName) -> list[str]:
        """The other tables whose rows would be changed or deleted with those of this one."""
        raise NotImplementedError  # asked only of who `replaces`

    def defer_foreign_keys(self, connection: Connection) -> None:
        """Have foreign keys checked at the end of the transaction only, where the database can do that."""
        del connection

    def delete_rows(self, connection: Connection, shape: TableShape, file_id: int, *, known: int) -> None:
        """Delete the rows of one file, by lineage. Raises TableError if some are there still.

        `known`: how many there are by the ledger. Where as many are gone the table is not looked through once more.
        """
        table = sa.table(shape.table.name, sa.column(LINEAGE_COLUMN), schema=self.schema_of(shape.table))
        mine = table.c[LINEAGE_COLUMN] == file_id
        gone = connection.execute(table.delete().where(mine)).rowcount
        left = sa.select(sa.literal(1)).select_from(table).where(mine).limit(1)
        if gone < known and connection.execute(left).first() is not None:
            raise TableError(
                f"its rows stay in {shape.table}, whatever is deleted: a trigger or a rule of the table keeps them.",
                code=Reason.CONSTRAINT,
                hint="Switch off what is done on DELETE, and run the same command again.",
            )


def fingerprint_of(parts: object) -> str:
    """A short stable hash of anything JSON can write."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]
