"""Named places where the tests can kill or hold a process: between two statements, where no signal could be timed.

Off unless the environment names one: `INGEST_FAILPOINT=name` kills whoever comes by, `INGEST_FAILPOINT=name@FILE`
only the first, who leaves FILE behind. `INGEST_HOLDPOINT=name@FILE` has whoever comes by write a byte to FILE, and wait
while somebody else has it locked.
"""

from __future__ import annotations

import fcntl
import os
import signal

_ARMED, _, _ONCE = os.environ.get("INGEST_FAILPOINT", "").partition("@")
_HELD, _, _GATE = os.environ.get("INGEST_HOLDPOINT", "").partition("@")


def failpoint(name: str) -> None:
    """Die here, as by `kill -9`, or wait, if the environment says so."""
    if name == _HELD:
        with open(_GATE, "ab", buffering=0) as gate:
            gate.write(b".")
            fcntl.flock(gate, fcntl.LOCK_SH)
    if name != _ARMED:
        return
    if _ONCE:
        try:
            os.close(os.open(_ONCE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
