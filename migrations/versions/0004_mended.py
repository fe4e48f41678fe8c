"""Rejects that were mended and loaded back: by which run and when, and the record as it was given."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LONG = sa.Text().with_variant(sa.Text(2**32 - 1), "mysql", "mariadb")
TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Made anew, in this transaction, for what only a new table can have: numbers that are never given again.
        with op.batch_alter_table(
            "ingest_reject", recreate="always", table_kwargs={"sqlite_autoincrement": True}
        ) as table:
            for column in _columns():
                table.add_column(column)
        return
    # The connection translates the schema of whole tables, and not that of a column's.
    schema = op.get_bind().schema_for_object(sa.Table("ingest_reject", sa.MetaData()))
    for column in _columns():
        _add(column, schema)


def _columns() -> list[sa.Column[Any]]:
    return [sa.Column("closed_run_id", sa.BigInteger), sa.Column("closed_at", TIME), sa.Column("mended", LONG)]


def _add(column: sa.Column[Any], schema: str | None) -> None:
    """Add a column, unless an upgrade that was killed has done so: on MySQL each statement commits by itself."""
    there = sa.inspect(op.get_bind()).get_columns("ingest_reject", schema=schema)
    if all(one["name"] != column.name for one in there):
        op.add_column("ingest_reject", column, schema=schema)
