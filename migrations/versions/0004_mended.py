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
    # The connection translates the schema of whole tables, and not that of a column's.
    schema = op.get_bind().schema_for_object(sa.Table("ingest_reject", sa.MetaData()))
    _add(sa.Column("closed_run_id", sa.BigInteger), schema)
    _add(sa.Column("closed_at", TIME), schema)
    _add(sa.Column("mended", LONG), schema)


def _add(column: sa.Column[Any], schema: str | None) -> None:
    """Add a column, unless an upgrade that was killed has done so: on MySQL each statement commits by itself."""
    there = sa.inspect(op.get_bind()).get_columns("ingest_reject", schema=schema)
    if all(one["name"] != column.name for one in there):
        op.add_column("ingest_reject", column, schema=schema)
