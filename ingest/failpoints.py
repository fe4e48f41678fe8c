"""Named places where the tests can kill a process: between two statements, where no signal could be timed.

Off unless the environment names one: `INGEST_FAILPOINT=name` kills whoever comes by, `INGEST_FAILPOINT=name@FILE`
only the first, who leaves FILE behind.
"""

from __future__ import annotations

import os
import signal

_ARMED, _, _ONCE = os.environ.get("INGEST_FAILPOINT", "").partition("@")


def failpoint(name: str) -> None:
    """Die here, as by `kill -9`, if the environment says so."""
    if name != _ARMED:
        return
    if _ONCE:
        try:
            os.close(os.open(_ONCE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
