"""A process that has imported the program, and is forked for each run of it. `warm.py` tells it what to run.

What `multiprocessing` would start with `exec` is forked here, too, with nothing of its parent but the modules; from
there on all is as in any other run.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

ATTACH = Path(__file__).parent / "attach" / "sitecustomize.py"


def _serve(requests: socket.socket) -> None:
    """Fork for each request, and answer with the exit code, until nobody is there to ask."""
    while True:
        try:
            head, outputs, _, _ = socket.recv_fds(requests, 8, 1)
        except ConnectionResetError:
            return
        if not head:
            return
        data = b""
        while len(data) < int.from_bytes(head, "big"):
            data += requests.recv(1 << 20)
        wanted = json.loads(data)
        pid = os.fork()
        if not pid:
            requests.close()
            _run(wanted["words"], wanted["cwd"], wanted["environment"], outputs[0])
        os.close(outputs[0])
        _, status = os.waitpid(pid, 0)
        requests.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _run(words: list[str], cwd: str, environment: dict[str, str], output: int) -> None:
    """Become a process that was started with this command. Does not return."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8", errors=errors, write_through=True)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ingest", *words]
    sys.orig_argv = [sys.executable, "-m", "ingest", *words]
    code: object = 1
    try:
        multiprocessing.util.spawnv_passfds = _forked  # type: ignore[attr-defined]
        if "CRASH_FOLDER" in environment:
            _attach()
        runpy.run_module("ingest", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        _leave(code)


def _attach() -> None:
    """What the interpreter does as it starts; and names that modules have imported from `failpoints` are put right."""
    from ingest import failpoints

    before = failpoints.failpoint
    runpy.run_path(str(ATTACH), run_name="sitecustomize")
    for module in list(sys.modules.values()):
        if getattr(module, "failpoint", None) is before:
            module.failpoint = failpoints.failpoint  # type: ignore[attr-defined]


def _forked(path: bytes, arguments: Sequence[bytes | str], kept: Sequence[int]) -> int:
    """What stands for `multiprocessing.util.spawnv_passfds`: its Python code is done by a fork of this process."""
    del path
    code = os.fsdecode(arguments[list(map(os.fsdecode, arguments)).index("-c") + 1])
    parents = _open_files()
    pid = os.fork()
    if pid:
        return pid
    status: object = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for number, what in _open_files().items():
            if number > 2 and number not in kept and parents.get(number) == what:  # Arrow opens a pipe in each fork
                os.close(number)
        # Their locks are held by whoever has called us.
        for module in (multiprocessing.resource_tracker, multiprocessing.forkserver):
            importlib.reload(module)
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as left:
        status = left.code
    finally:
        _leave(status)
    raise AssertionError("not reached")


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _leave(code: object) -> None:
    """End this process, and leave to its parent what the parent is to do when it ends itself."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    for _name in ("cli", "session", "mending", "show", "worker", "writer", "targets.sqlite", "targets.postgres"):
        importlib.import_module(f"ingest.{_name}")
    for _name in ("targets.mysql", "targets.staging", "targets.stagefile", "targets.copying", "targets.loaddata"):
        importlib.import_module(f"ingest.{_name}")
    for _name in ("psycopg", "pymysql", "pgpq"):
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
