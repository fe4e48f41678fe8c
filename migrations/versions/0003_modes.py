"""Write modes: how the records of a file became rows, and those left out for others with the same key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ingest_file", sa.Column("mode", sa.String(16), nullable=False, server_default="append"))
    op.add_column("ingest_table", sa.Column("replaces", sa.String(255)))
    for table in ("ingest_file", "ingest_run"):
        for name in ("rows_superseded", "rows_ignored"):
            op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
