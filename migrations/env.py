"""Runs the migrations on the connection that `ingest.ledger.upgrade` hands over. Opens, commits and logs nothing."""

from __future__ import annotations

from alembic import context

from ingest.tables import VERSION_TABLE, ingest_version, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=connection.schema_for_object(ingest_version),
)
# The caller's transaction is open, so this neither begins nor commits; it is how alembic wants to be asked.
with context.begin_transaction():
    context.run_migrations()
