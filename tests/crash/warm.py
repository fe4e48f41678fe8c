"""Runs of the command line that are forked off a process which has imported the program: most of a small run's time.

For the long runs only, which start the program tens of thousands of times. This is the side of whoever wants a run;
`warmed.py` is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import tools


class Warm:
    """Does what `tools.ingest` does, one run at a time; what is written to stdout is with that of stderr."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(
        self, *arguments: object, cwd: Path, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The command line, as a user's shell would start it. Returns when no process of it is left that could write.

        Raises subprocess.TimeoutExpired.
        """
        words = tools.typed(arguments)
        wanted = {"words": words, "cwd": str(cwd), "environment": tools.environ(**environment)}
        mine, theirs = os.pipe()
        try:
            self._ask(wanted, theirs)
        finally:
            os.close(theirs)
        with open(mine, "rb", buffering=0) as pipe:
            said = bytearray()
            deadline = time.monotonic() + timeout
            while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                part = pipe.read(1 << 16)
                if not part:
                    assert self._socket is not None
                    code = int(self._socket.recv(100))
                    return subprocess.CompletedProcess(words, code, "", said.decode(errors="replace"))
                said += part
        self.close()
        raise subprocess.TimeoutExpired(words, timeout, said)

    def _ask(self, wanted: dict[str, object], output: int) -> None:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("warmed.py")), str(theirs.fileno())],
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            self._socket.settimeout(60)
        data = json.dumps(wanted).encode()
        socket.send_fds(self._socket, [len(data).to_bytes(8, "big")], [output])
        self._socket.sendall(data)

    def close(self) -> None:
        """End the process that is forked."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._socket = self._process = None
