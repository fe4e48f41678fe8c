"""What was left out of a file for what it is: lines before the header, comments, repeated headers and the like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The connection translates the schema of whole tables, and not that of a column's.
    schema = op.get_bind().schema_for_object(sa.Table("ingest_file", sa.MetaData()))
    there = sa.inspect(op.get_bind()).get_columns("ingest_file", schema=schema)
    if all(column["name"] != "discards" for column in there):  # not of an upgrade that was killed, on MySQL
        op.add_column("ingest_file", sa.Column("discards", sa.String(255)), schema=schema)
