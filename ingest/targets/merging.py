"""Gathered rows into a table that has rows with the same keys: upsert and insert-ignore, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.model import Merge, Mode
from ingest.targets.base import POSITION, Target


@dataclass(frozen=True, slots=True)
class Merging:
    """Rows on their way, inside the caller's transaction; every method is about those from one number to another."""

    connection: Connection
    target: Target
    table: sa.Table
    gathered: sa.Table
    merge: Merge

    def supersede(self, first: int, last: int) -> None:
        """Delete the rows that a newer one stands for; of insert-ignore none, for there the first one stays."""
        if self.merge.mode is not Mode.UPSERT or POSITION not in self.gathered.c:
            return
        columns, position = self.gathered.c, self.gathered.c[POSITION]
        newest: list[Any] = [position.desc()]
        if self.merge.newest_by is not None:
            value = columns[self.merge.newest_by]
            newest = [value.is_(None), value.desc(), *newest]
        rank = sa.func.row_number().over(partition_by=[columns[name] for name in self.merge.key], order_by=newest)
        ranked = sa.select(position.label("number"), rank.label("rank")).where(position.between(first, last)).subquery()
        old = sa.select(ranked.c.number).where(ranked.c.rank > 1)
        self.target.delete_gathered(self.connection, self.gathered, old)

    def same(self, first: int, last: int) -> int | None:
        """For how many of the rows the table has the very same one; None where it is not worth asking."""
        offer = self.target.gathered_rows(self.gathered, first, last)
        return self.target.same_rows(self.connection, self.table, self.merge, offer)

    def put_others(self, first: int, last: int) -> int:
        """Insert or update what is not the same already; how many rows were written, or are the same."""
        return self.put(first, last, self.same(first, last))

    def put(self, first: int, last: int, same: int | None) -> int:
        """Insert or update; how many rows were written, or are the `same`."""
        offer = self.target.gathered_rows(self.gathered, first, last)
        return self.target.merge_rows(self.connection, self.table, self.merge, offer, same)

    def offered(self, first: int, last: int) -> int:
        """How many rows with these numbers are left."""
        return self._count(*self._numbered(first, last))

    def present(self, first: int, last: int) -> int:
        """For how many of the rows the table has one with the same key."""
        same = [self.table.c[name] == self.gathered.c[name] for name in self.merge.key]
        there = sa.exists(sa.select(sa.literal(1)).select_from(self.table).where(*same).correlate(self.gathered))
        return self._count(*self._numbered(first, last), there)

    def _numbered(self, first: int, last: int) -> list[Any]:
        """Rows without numbers are all meant: no two of them have the same key."""
        return [self.gathered.c[POSITION].between(first, last)] if POSITION in self.gathered.c else []

    def _count(self, *conditions: Any) -> int:
        query = sa.select(sa.func.count()).select_from(self.gathered).where(*conditions)
        return int(self.connection.execute(query).scalar_one())
