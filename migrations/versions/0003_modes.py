"""Write modes: how the records of a file became rows, and those left out for others with the same key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The connection translates the schema of whole tables, and not that of a column's.
    schema = op.get_bind().schema_for_object(sa.Table("ingest_file", sa.MetaData()))
    mode = sa.Column("mode", sa.String(16), nullable=False, server_default="append")
    op.add_column("ingest_file", mode, schema=schema)
    op.add_column("ingest_table", sa.Column("replaces", sa.String(255)), schema=schema)
    for table in ("ingest_file", "ingest_run"):
        for name in ("rows_superseded", "rows_ignored"):
            count = sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            op.add_column(table, count, schema=schema)
