"""The first ledger: files, tables, runs and rejects. Frozen once released: a later change is a migration of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LONG = sa.Text().with_variant(sa.Text(2**32 - 1), "mysql", "mariadb")
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
    op.create_table(
        "ingest_file",
        sa.Column("file_id", KEY, primary_key=True),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("path_key", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("scanned_ns", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("committed_bytes", sa.BigInteger, nullable=False),
        sa.Column("committed_records", sa.BigInteger, nullable=False),
        sa.Column("prefix_sha256", sa.String(64)),
        sa.Column("rows_loaded", sa.BigInteger, nullable=False),
        sa.Column("rows_rejected", sa.BigInteger, nullable=False),
        sa.Column("rows_discarded", sa.BigInteger, nullable=False),
        sa.Column("lineage", sa.Boolean, nullable=False),
        sa.Column("header", LONG),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("loaded_at", TIME),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error", LONG),
        sa.UniqueConstraint("path_key", name="uq_ingest_file_path_key"),
        sqlite_autoincrement=True,
        **MYSQL,
    )
    op.create_index("ix_ingest_file_table_state", "ingest_file", ["table_name", "state"])
    op.create_index("ix_ingest_file_sha256", "ingest_file", ["sha256"])

    op.create_table(
        "ingest_table",
        sa.Column("table_id", KEY, primary_key=True),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("made_by_us", sa.Boolean, nullable=False),
        sa.Column("definition", LONG, nullable=False),
        sa.Column("identity", LONG),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.UniqueConstraint("table_name", name="uq_ingest_table_table_name"),
        **MYSQL,
    )

    op.create_table(
        "ingest_run",
        sa.Column("run_id", KEY, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("ingest_version", sa.String(32), nullable=False),
        sa.Column("options", LONG, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("files_loaded", sa.BigInteger, nullable=False),
        sa.Column("files_skipped", sa.BigInteger, nullable=False),
        sa.Column("files_refused", sa.BigInteger, nullable=False),
        sa.Column("files_failed", sa.BigInteger, nullable=False),
        sa.Column("rows_loaded", sa.BigInteger, nullable=False),
        sa.Column("rows_rejected", sa.BigInteger, nullable=False),
        sa.Column("rows_discarded", sa.BigInteger, nullable=False),
        sa.Column("bytes_read", sa.BigInteger, nullable=False),
        sa.Column("error", LONG),
        sqlite_autoincrement=True,
        **MYSQL,
    )

    op.create_table(
        "ingest_reject",
        sa.Column("reject_id", KEY, primary_key=True),
        sa.Column("file_id", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.Column("byte_offset", sa.BigInteger, nullable=False),
        sa.Column("record", sa.BigInteger, nullable=False),
        sa.Column("column_name", sa.Text),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("message", LONG, nullable=False),
        sa.Column("raw", LONG, nullable=False),
        sa.Column("applied", sa.Boolean, nullable=False),
        **MYSQL,
    )
    op.create_index("ix_ingest_reject_file_id", "ingest_reject", ["file_id"])
