"""The lease: who is loading into a database server, where a lock on a file cannot tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"}


def upgrade() -> None:
    lease = op.create_table(
        "ingest_lease",
        sa.Column("lease_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(32)),
        sa.Column("host", sa.String(255)),
        sa.Column("boot_id", sa.String(128)),
        sa.Column("pid", sa.BigInteger),
        sa.Column("pid_started", sa.BigInteger),
        sa.Column("taken_at", sa.DateTime),
        sa.Column("heartbeat_at", sa.DateTime),
        **MYSQL,
    )
    op.bulk_insert(lease, [{"lease_id": 1, "epoch": 0}])
