"""`load`, `plan` and `check`, behind the command line and the Python API alike; `schema`, for the command line.

Starts the pool's first host before it imports what a run needs: the two take a third of a second each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ingest.crew import Host
from ingest.reports import Check, Inferred, Listener, Plan, RunReport, StopRequest
from ingest.settings import Settings

# A program that has set up no logging is told by events alone; without a handler Python writes warnings to its stderr.
logging.getLogger("ingest").addHandler(logging.NullHandler())


def load(
    paths: Sequence[str | os.PathLike[str]],
    settings: Settings,
    *,
    on_event: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunReport:
    """Load every CSV file below `paths`; returns when each has ended or a stop was asked for.

    Trouble with a file is in the report. Raises UsageError, DatabaseUnreachable, LeaseHeld or LedgerError when
    the run as a whole cannot go on; what was committed before stays, and the next run goes on from there.
    """
    with Host.early(settings.workers, settings.start_method) as host:
        from ingest.session import Session

        return Session(paths, settings, on_event or _deaf, stop or StopRequest(), host).load()


def plan(paths: Sequence[str | os.PathLike[str]], settings: Settings, *, on_event: Listener | None = None) -> Plan:
    """What `load` would do with the same arguments. Writes nothing, not even a new database."""
    with Host.early(settings.workers, settings.start_method) as host:
        from ingest.session import Session

        return Session(paths, settings, on_event or _deaf, StopRequest(), host).plan()


def check(paths: Sequence[str | os.PathLike[str]], settings: Settings, *, on_event: Listener | None = None) -> Check:
    """What `load` would come to with the same arguments: reads and types everything, and writes nothing."""
    with Host.early(settings.workers, settings.start_method) as host:
        from ingest.session import Session

        return Session(paths, settings, on_event or _deaf, StopRequest(), host).check()


def schema(
    paths: Sequence[str | os.PathLike[str]], settings: Settings, *, on_event: Listener | None = None
) -> Inferred:
    """The tables that a load would make of these files, if there were none. Opens no database, and writes nothing."""
    with Host.early(settings.workers, settings.start_method) as host:
        from ingest.session import Session

        return Session(paths, settings, on_event or _deaf, StopRequest(), host).schema()


def _deaf(event: object) -> None:
    del event
