"""Be the only run on a database server: a row in the ledger, kept alive by a heartbeat on a connection of its own.

A killed holder leaves its row behind. On this machine its process tells that it is gone, and the lease is taken at
once; of another machine only its silence tells. That it may yet be alive costs nothing but its run: who takes over
raises the epoch of every unfinished file, so nothing that the old holder still sends is committed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from ingest import ledger
from ingest.errors import LeaseHeld

log = logging.getLogger("ingest")

HEARTBEAT = 10.0
"""Seconds between two heartbeats."""

SILENCE = 60.0
"""Seconds after which a holder that nobody has heard of is taken for dead: five heartbeats may fail."""

LOOK = 0.2
"""Seconds between two looks at a lease that is waited for."""


@contextlib.contextmanager
def held(engine: Engine, now: sa.ColumnElement[Any], clock: str, label: str, wait: float) -> Iterator[None]:
    """Hold the lease inside the block. Raises `LeaseHeld` if somebody has it for longer than `wait` seconds.

    `clock` is what people call the time of `now`.
    """
    me = this_process()
    deadline = time.monotonic() + wait
    while True:
        with engine.begin() as connection:
            found = ledger.take_lease(connection, me, now, gone=lambda seen: _gone(seen, me))
        if found is None:
            break
        if time.monotonic() >= deadline:
            raise LeaseHeld(
                f"another run is loading into {label}: process {found.by.pid} on {found.by.host}, since "
                f"{found.taken_at:%Y-%m-%d %H:%M:%S} {clock}.",
                hint="Wait for it, or give --wait SECONDS to wait here.",
            )
        time.sleep(LOOK)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(engine, now, me.holder, ended), name="ingest-lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join(HEARTBEAT)  # it may be waiting for a server that does not answer
        # Who cannot say so is found out: by his process here, by his silence elsewhere.
        with contextlib.suppress(sa.exc.DBAPIError), engine.begin() as connection:
            ledger.give_lease(connection, me.holder)


def _beat(engine: Engine, now: sa.ColumnElement[Any], holder: str, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        try:
            with engine.begin() as connection:
                if not ledger.beat(connection, holder, now):
                    log.warning("another run has taken the lease: what this one still commits is refused")
                    return
        except Exception as error:  # whatever it was: a run that still holds its lease goes on
            log.info(
                "no heartbeat: %s", type(getattr(error, "orig", error)).__name__
            )  # the next one tries again, on a new connection


def _gone(held_: ledger.Held, me: ledger.Holder) -> bool:
    """Whether the holder is dead, or silent for so long that it is taken for dead."""
    by = held_.by
    here = (by.host, by.boot_id) == (me.host, me.boot_id)
    # 0: somebody has that number, and who it is was not told: only silence tells.
    return held_.silent > SILENCE or (here and process_started(by.pid) not in (0, by.pid_started))


def this_process() -> ledger.Holder:
    """Who we are, for others to find out whether we are still there."""
    return ledger.Holder(
        holder=secrets.token_hex(16),
        host=socket.gethostname()[:255],
        boot_id=_boot_id(),
        pid=os.getpid(),
        pid_started=process_started(os.getpid()) or 0,
    )


def process_started(pid: int) -> int | None:
    """When a process of this machine started, in ticks since its boot; None if it is gone or only waits to be buried.

    0 where the system does not tell, of any process (macOS) or of other people's (Linux, where /proc is mounted with
    `hidepid`, or a service has `ProtectProc`): there the number of a process is all that is known.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, PermissionError):
        return _alive(pid)  # what is hidden is not there to be read, or not allowed (proc(5), hidepid)
    except ProcessLookupError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold blanks and parentheses
    return None if fields[0] in "ZX" else int(fields[19])  # proc(5): state is field 3, starttime field 22


def _alive(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def _boot_id() -> str:
    """This start of this machine, and the room that process numbers count in: containers share only the first."""
    parts: list[str] = []
    reads: tuple[Callable[[], str], ...] = (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    )
    for read in reads:
        with contextlib.suppress(OSError):
            parts.append(read())
    return " ".join(parts)
