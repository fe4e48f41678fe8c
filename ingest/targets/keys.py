"""Which columns tell the rows of a table apart, and which refer to other rows: by the database's own catalogue.

SQLAlchemy's words on that do for any database, but not for all of its tables: of MySQL it reads the text of a
definition, in which it misses names with a backquote and warns of every type that is new to it; of PostgreSQL it does
not say which constraints ON CONFLICT cannot go by.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

Keys = dict[frozenset[str], str]
"""Sets of columns of which a table has no two rows with the same values (NULL apart); and what to type before a merge
can go by one, "" where it can as it is."""

_POSTGRESQL = sa.text(
    """
    SELECT i.indexrelid::int8, a.attname, i.indimmediate, pg_catalog.format('%I.%I', n.nspname, c.relname),
        pg_catalog.quote_ident(r.conname), pg_catalog.pg_get_constraintdef(r.oid)
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
    LEFT JOIN pg_catalog.pg_constraint AS r
        ON r.conindid = i.indexrelid AND r.conrelid = c.oid AND r.contype IN ('p', 'u')
    WHERE n.nspname = :schema AND c.relname = :name AND k.place <= i.indnkeyatts
        AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indimmediate DESC, i.indexrelid, k.place
    """
)
"""Without those that are of some rows only, or of more than columns; a column that is INCLUDEd decides nothing."""

_MYSQL = sa.text(
    """
    SELECT index_name, column_name, sub_part FROM information_schema.statistics
    WHERE table_schema = :schema AND table_name = :name AND non_unique = 0
    ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index
    """
)

_MYSQL_FOREIGN = sa.text(
    """
    SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, referenced_column_name
    FROM information_schema.key_column_usage
    WHERE table_schema = :schema AND table_name = :name AND referenced_table_name IS NOT NULL
    ORDER BY constraint_name, ordinal_position
    """
)


class ForeignKey(NamedTuple):
    """Columns that refer to those of another row."""

    name: str  #: "" where it has none
    columns: tuple[str, ...]
    schema: str | None  #: of the table that is referred to; None: where names without one are looked for
    table: str
    referred: tuple[str, ...]


def of_any(connection: Connection, schema: str | None, name: str) -> Keys:
    """Those of a table of any database, in SQLAlchemy's words."""
    seen = sa.inspect(connection)
    found = [seen.get_pk_constraint(name, schema=schema)["constrained_columns"]]
    found += [one["column_names"] for one in seen.get_unique_constraints(name, schema=schema)]
    for index in seen.get_indexes(name, schema=schema):
        partial = any(option.endswith("_where") for option in index.get("dialect_options", {}))
        if index["unique"] and not partial and None not in index["column_names"]:
            found.append([column for column in index["column_names"] if column is not None])
    return {frozenset(key): "" for key in found if key}


def foreign_of_any(connection: Connection, schema: str | None, name: str) -> list[ForeignKey]:
    """The foreign keys of a table of any database, in SQLAlchemy's words."""
    return [
        ForeignKey(
            key["name"] or "",
            tuple(key["constrained_columns"]),
            key["referred_schema"],
            key["referred_table"],
            tuple(key["referred_columns"]),
        )
        for key in sa.inspect(connection).get_foreign_keys(name, schema=schema)
    ]


def of_postgresql(connection: Connection, schema: str | None, name: str) -> Keys:
    """Those of a table of PostgreSQL.

    One that is DEFERRABLE is in the way of ON CONFLICT, even where there is another on the same columns.
    """
    found: Keys = {}
    rows = connection.execute(_POSTGRESQL, {"schema": schema, "name": name})
    for _, index in itertools.groupby(rows, key=lambda row: row[0]):
        columns = list(index)
        _, _, immediate, place, constraint, definition = columns[0]
        key = frozenset(row[1] for row in columns)
        found[key] = "" if immediate else _at_once(place, constraint, definition)
    return found


def _at_once(place: str, constraint: str, definition: str) -> str:
    """What to type to have a constraint checked at once, which cannot be changed in it."""
    same = definition.partition(" DEFERRABLE")[0]
    return f"ALTER TABLE {place} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} {same};"


def of_mysql(connection: Connection, schema: str | None, name: str) -> Keys:
    """Those of a table of MySQL: of whole columns, not of their beginnings or of what is computed."""
    rows = connection.execute(_MYSQL, {"schema": schema, "name": name})
    indexes = [list(index) for _, index in itertools.groupby(rows, key=lambda row: row[0])]
    whole = (index for index in indexes if all(row[1] is not None and row[2] is None for row in index))
    return {frozenset(row[1] for row in index): "" for index in whole}


def foreign_of_mysql(connection: Connection, schema: str | None, name: str) -> list[ForeignKey]:
    """The foreign keys of a table of MySQL."""
    rows = connection.execute(_MYSQL_FOREIGN, {"schema": schema, "name": name})
    found = []
    for constraint, group in itertools.groupby(rows, key=lambda row: row[0]):
        parts = list(group)
        columns, referred = tuple(row[1] for row in parts), tuple(row[4] for row in parts)
        found.append(ForeignKey(constraint, columns, parts[0][2], parts[0][3], referred))
    return found
