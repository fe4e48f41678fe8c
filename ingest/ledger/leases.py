"""The moves of the lease: take it, say that its holder is alive, give it back.

Only servers need it: on SQLite a lock on a file tells the same, and the row stays as it was made. `now` is the
database's own clock, without a zone, so that no two machines have to agree on the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from ingest.errors import LedgerError
from ingest.tables import ingest_lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds the lease, or wants it."""

    holder: str  #: random word, its own for each time it asks
    host: str
    boot_id: str
    pid: int
    pid_started: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The lease in somebody's hands."""

    by: Holder
    taken_at: datetime
    silent: float  #: seconds since its holder was last heard of


def take_lease(
    connection: Connection, me: Holder, now: ColumnElement[Any], *, gone: Callable[[Held], bool]
) -> Held | None:
    """Take the lease, and raise its epoch, unless somebody has it who is not `gone`: then whoever that is.

    Locks the row until the transaction ends, where that can be. Raises `LedgerError` where there is none.
    """
    c = ingest_lease.c
    looking = select(ingest_lease, now.label("now")).with_for_update()
    row = connection.execute(looking).first()
    if row is None:
        raise LedgerError(
            "the ledger has lost the row of its lease.", hint="INSERT INTO ingest_lease (lease_id, epoch) VALUES (1, 0)"
        )
    if row.holder is not None and not gone(held := _held(row)):
        return held
    taken = connection.execute(
        # Some databases know of no FOR UPDATE: there another may have taken it since.
        update(ingest_lease)
        .where(c.epoch == row.epoch)
        .values(
            epoch=c.epoch + 1,
            holder=me.holder,
            host=me.host,
            boot_id=me.boot_id,
            pid=me.pid,
            pid_started=me.pid_started,
            taken_at=now,
            heartbeat_at=now,
        )
    )
    return None if taken.rowcount == 1 else _held(connection.execute(looking).one())


def _held(row: Row[Any]) -> Held:
    return Held(
        by=Holder(holder=row.holder, host=row.host, boot_id=row.boot_id, pid=row.pid, pid_started=row.pid_started),
        taken_at=row.taken_at,
        silent=(row.now - row.heartbeat_at).total_seconds(),
    )


def beat(connection: Connection, holder: str, now: ColumnElement[Any]) -> bool:
    """Say that the holder is alive. Whether it still holds the lease."""
    c = ingest_lease.c
    return connection.execute(update(ingest_lease).where(c.holder == holder).values(heartbeat_at=now)).rowcount == 1


def give_lease(connection: Connection, holder: str) -> None:
    """Give the lease back; somebody who has taken it over keeps it."""
    connection.execute(update(ingest_lease).where(ingest_lease.c.holder == holder).values(holder=None))
