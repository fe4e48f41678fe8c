"""Write modes: how the records of a file became rows, and those left out for others with the same key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The connection translates the schema of whole tables, and not that of a column's.
    schema = op.get_bind().schema_for_object(sa.Table("ingest_file", sa.MetaData()))
    _add("ingest_file", sa.Column("mode", sa.String(16), nullable=False, server_default="append"), schema)
    _add("ingest_table", sa.Column("replaces", sa.String(255)), schema)
    for table in ("ingest_file", "ingest_run"):
        for name in ("rows_superseded", "rows_ignored"):
            _add(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"), schema)


def _add(table: str, column: sa.Column[Any], schema: str | None) -> None:
    """Add a column, unless an upgrade that was killed has done so: on MySQL each statement commits by itself."""
    there = sa.inspect(op.get_bind()).get_columns(table, schema=schema)
    if all(one["name"] != column.name for one in there):
        op.add_column(table, column, schema=schema)
