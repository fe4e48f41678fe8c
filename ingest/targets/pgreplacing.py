"""PostgreSQL: the rows of a table that take the place of its old ones, and whose rows would go with these."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.model import TableShape
from ingest.targets.base import GATHERED, Target

_OTHERS = sa.text(
    """
    SELECT CAST(k.conrelid AS regclass)::text FROM pg_catalog.pg_constraint AS k
    WHERE k.contype = 'f' AND k.confrelid = CAST(:oid AS oid) AND k.confdeltype NOT IN ('a', 'r')
        AND k.conrelid <> k.confrelid
        AND k.conrelid NOT IN (SELECT relid FROM pg_catalog.pg_partition_tree(CAST(:oid AS regclass)))
    UNION SELECT CAST(i.inhrelid AS regclass)::text
    FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhparent
    WHERE i.inhparent = CAST(:oid AS oid) AND c.relkind <> 'p'
    ORDER BY 1
    """
)
"""A DELETE is one of the tables that inherit as well; partitions have no rows but those of their table."""

_OWN = sa.text(
    """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint
        WHERE contype = 'f' AND conrelid = CAST(:oid AS oid) AND confrelid = conrelid
            AND confdeltype <> 'a')
    """
)


def others(connection: Connection, oid: int) -> list[str]:
    """The other tables whose rows would be changed or deleted with those of this one, also in other schemas."""
    return list(connection.execute(_OTHERS, {"oid": oid}).scalars())


def replace(target: Target, connection: Connection, shape: TableShape, staging: TableShape, oid: int) -> int:
    """Put the rows of a staging table in the place of those of the table; how many that were."""
    table, source = target.sql_table(shape), target.sql_table(staging)
    names = [column.name for column in shape.columns]
    rows = target.rows_of(*(source.c[name] for name in names))
    if connection.execute(_OWN, {"oid": oid}).scalar():
        # What follows from a row's end, at the end of the statement, would be done to the new rows that refer to its
        # key, too; and RESTRICT would find these, and forbid it.
        connection.execute(table.delete())
    else:
        # One statement, for a foreign key that cannot be deferred looks at the end of each: what other tables refer to
        # is there again. The INSERT needs the number of deleted rows, so it waits for all of them.
        gone = table.delete().returning(sa.literal_column("1")).cte(f"{GATHERED}_gone")
        deleted = sa.select(sa.func.count()).select_from(gone).scalar_subquery()
        rows = rows.where(deleted.is_not(None))
    return target.counted(connection, table.insert().from_select(names, rows))
