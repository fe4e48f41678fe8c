"""The lease: who is loading into a database server, where a lock on a file cannot tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
MYSQL = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
        ("row_format", "DYNAMIC"),
    )
}


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
        sa.Column("taken_at", TIME),
        sa.Column("heartbeat_at", TIME),
        **MYSQL,
    )
    op.bulk_insert(lease, [{"lease_id": 1, "epoch": 0}])
