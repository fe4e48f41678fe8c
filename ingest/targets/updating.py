"""Gathered rows into a table that has rows with the same keys, by UPDATE and INSERT, where there is no ON CONFLICT.

Only the key decides which rows meet. MySQL's own ON DUPLICATE KEY UPDATE would take a row for the same one by any of
the table's unique keys, and change the wrong one; its INSERT IGNORE leaves rows out for any reason. Here a row that
meets another one by another key breaks that constraint, as it should. Makes statements and executes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ingest.model import Merge
from ingest.targets.base import POSITION
from ingest.targets.keys import ForeignKey


def update(table: sa.Table, gathered: sa.Table, merge: Merge, those: sa.ColumnElement[bool]) -> sa.Update:
    """Update the rows with the keys of those gathered rows, of which no two have the same.

    With `newest_by` only where the gathered row is not older.
    """
    met: list[Any] = [table.c[name] == gathered.c[name] for name in merge.key]
    if merge.newest_by is not None:
        there = table.c[merge.newest_by]
        met.append(there.is_(None) | (gathered.c[merge.newest_by] >= there))
    values = {table.c[c.name]: c for c in gathered.columns if c.name not in (POSITION, *merge.key)}
    # The key is set to what it is where an ON UPDATE CURRENT_TIMESTAMP may change it, and where there is nothing but
    # the key: so the row counts as written.
    key = [table.c[name] for name in merge.key]
    values |= {column: column for column in key if not values or isinstance(column.type, sa.DateTime)}
    return table.update().where(*met, those).values(values)


def insert(table: sa.Table, gathered: sa.Table, merge: Merge, those: sa.ColumnElement[bool]) -> sa.Insert:
    """Insert those gathered rows whose key is not there, in their order; of some with the same key the first."""
    order = gathered.c[POSITION]
    rank = sa.func.row_number().over(partition_by=[gathered.c[name] for name in merge.key], order_by=order)
    ranked = sa.select(*gathered.columns, rank.label("rank")).where(those).subquery("ranked")
    there = table.alias("there")
    met = [there.c[name] == ranked.c[name] for name in merge.key]
    known = sa.exists(sa.select(sa.literal(1)).select_from(there).where(*met).correlate(ranked))
    names = [c.name for c in gathered.columns if c.name != POSITION]
    rows = sa.select(*(ranked.c[name] for name in names)).where(ranked.c["rank"] == 1, ~known)
    return table.insert().from_select(names, rows.order_by(ranked.c[POSITION]))


def orphan(source: sa.Table, key: ForeignKey, those: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """One of those rows without the parent that a foreign key demands. Locks the parents of the others."""
    names = key.referred
    parent = sa.table(key.table, *map(sa.column, names), schema=key.schema).alias("parent")
    mine = [source.c[name] for name in key.columns]
    same = sa.and_(*(parent.c[name] == column for name, column in zip(names, mine, strict=True)))
    found = sa.select(sa.literal(1)).select_from(source.outerjoin(parent, same))
    # A NOT EXISTS would lock nothing.
    found = found.where(those, *(column.is_not(None) for column in mine), parent.c[names[0]].is_(None))
    return found.limit(1).with_for_update(read=True)


def become(table: sa.Table, source: sa.Table, key: Sequence[str]) -> tuple[sa.Delete, sa.Update, sa.Insert]:
    """Make the rows of the table those of the source, which has all its columns, in three statements in this order.

    No row goes whose key is in the source, so none that others may go on to refer to by it.
    """
    names = [c.name for c in table.columns]
    met = [table.c[name] == source.c[name] for name in key]
    stays = sa.exists(sa.select(sa.literal(1)).select_from(source).where(*met).correlate(table))
    known = sa.exists(sa.select(sa.literal(1)).select_from(table).where(*met).correlate(source))
    rows = sa.select(*(source.c[name] for name in names)).where(~known)
    return (
        table.delete().where(~stays),
        table.update().where(*met).values({table.c[name]: source.c[name] for name in names}),
        table.insert().from_select(names, rows),
    )
