"""Which version of the ledger is there; making a new one and bringing up an old one. Does not read what it holds."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select

from ingest.errors import LedgerError
from ingest.tables import VERSION_TABLE, ingest_lease, ingest_version, metadata

HEAD = "0005"
"""The version of the ledger that this code reads and writes: the newest file of migrations/versions."""


def version(connection: Connection) -> str | None:
    """The version of the ledger in this database, or None where there is none. Writes nothing."""
    schema = connection.schema_for_object(ingest_version)
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    return connection.execute(select(ingest_version.c.version_num)).scalar()


UPGRADE = "ingest ledger upgrade"


def is_there(connection: Connection, label: str, upgrade: str = UPGRADE) -> bool:
    """Whether the database, called `label`, has a ledger.

    Raises `LedgerError` for one of another version, with the command to `upgrade` it.
    """
    found = version(connection)
    if found not in (None, HEAD):
        raise LedgerError(
            f"the ledger of {label} has version {found}; this program reads {HEAD}.", hint=f"Run: {upgrade}"
        )
    return found is not None


def create(connection: Connection) -> None:
    """Make a new ledger whole, at HEAD. Does nothing where it is there; an older one is for `upgrade`."""
    found = version(connection)
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(ingest_version).values(version_num=HEAD))
        connection.execute(insert(ingest_lease).values(lease_id=1, epoch=0))
    elif found != HEAD:
        raise LedgerError(
            f"The ledger of this database has version {found}, not {HEAD}.", hint="Run: ingest ledger upgrade"
        )


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring an older ledger, or none, to HEAD in one transaction of its own; the versions before and after.

    Takes no lease: who calls it holds one. Raises `LedgerError` for a version that this code does not know.
    """
    with engine.begin() as connection:
        before = version(connection)
        if before == HEAD:
            return before, HEAD
        from alembic import command  # 1.8 s cold: only an old ledger may cost that
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if before is not None and before not in known:
            raise LedgerError(
                f"The ledger of this database has version {before}, made by a newer ingest; this one knows {HEAD}.",
                hint="Upgrade ingest and run the same command again.",
            )
        command.upgrade(config, HEAD)
    return before, HEAD


def _migrations() -> Path:
    """In the wheel they lie inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
