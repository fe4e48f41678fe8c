"""A scene that dies at counted places: which there are, and a round of deaths and restarts up to the judgement.

The hook that counts, and kills, is `attach/sitecustomize.py`; this is the side of whoever starts the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import servers
import tools
from oracle import KINDS, Database, OnServer, on_server
from scenes import Run, Scene

DATABASES = ("sqlite-rollback", "sqlite-wal", "postgresql", "mariadb")

CALLS = (
    *("pwrite64", "fdatasync", "fsync", "ftruncate"),  # SQLite's, on the database, its journal and its log
    *("unlink", "unlinkat", "rename", "mkdir", "rmdir", "link"),  # journals, spool, locks, semaphores
    *("sendto", "sendmsg"),  # what is said to a server, and file handles that are handed on
)
"""The system calls that change something, or tell a server to; not `write`, which is how processes here talk."""

_CALL = re.compile(r"(?:\d+ )?(\w+)\(")

_IN_SEM_OPEN = re.compile(
    r'link\("(/dev/shm/sem\.\w+)", "(/dev/shm/sem\.mp-\w+)"\) = 0\n(?:\d+ )?unlink\("\1"\) += \?\n'
)
"""The end of a process that was killed within sem_open(3), where glibc gives a semaphore its name."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The n-th call of this name, from 1."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"

    @classmethod
    def parse(cls, text: str) -> Point:
        name, _, count = text.partition(":")
        return cls(name, int(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of a round of deaths."""

    kills: int  #: of those asked for
    runs: int
    logs: tuple[list[Point], ...]  #: the calls of each process that was watched, in their order
    places: tuple[str, ...]
    files: frozenset[str]  #: beside the database, that watched processes touched, by name


class Room:
    """A folder and a database in which one scene is played again and again, from the same beginning."""

    def __init__(self, scene: Scene, database: str, server: servers.Server | None, run: Run = tools.ingest) -> None:
        self.scene = scene
        self._run = run
        self._database = database
        self._server = server
        self._stack = contextlib.ExitStack()
        # Short: multiprocessing puts the names of sockets below it.
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-")))
        self._prepared: Path | None = None
        scene.make(self.folder)

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Database]:
        """The database as it is before the command that is killed."""
        if self._server is None:
            yield self._fresh_file()
            return
        with on_server(self._server, _kind(self._database)) as db:
            self._refill()
            self.scene.prepare(db, self.folder, self._run)
            yield db

    def _fresh_file(self) -> Path:
        home, kept = self.folder / "db", self.folder / "kept"
        shutil.rmtree(home, ignore_errors=True)
        if not kept.exists():
            home.mkdir()
            if self._database == "sqlite-wal":
                with contextlib.closing(sqlite3.connect(home / "test.db")) as connection:
                    assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
            self.scene.prepare(home / "test.db", self.folder, self._run)
            home.rename(kept)
        shutil.copytree(kept, home)
        return home / "test.db"

    def _refill(self) -> None:
        """The files as they are before an earlier load, which `prepare` does again."""
        shutil.rmtree(self.folder / "in")
        self.scene.make(self.folder)

    def play(self, *, role: str = "", when: str = "-", places: str | None = None, judge: bool = True) -> Round:
        """Run until it is done, whoever is killed on the way; then all must be as it must be.

        `when`: the point at which the first process of the role dies, the second, and so on; `places`: the numbers of
        named places, counted over all runs.
        """
        with self.fresh() as db:
            marks = self.folder / "marks"
            shutil.rmtree(marks, ignore_errors=True)
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)
            marks.mkdir()
            (self.folder / "tmp").mkdir()
            environment = self._environment(marks) | (
                {"CRASH_ROLE": role, "CRASH_WHEN": when} if places is None else {"CRASH_PLACES": places}
            )
            wanted = len(when.split(",")) if places is None else len(places.split(","))
            runs = self._until_done(db, environment, wanted)
            if judge:
                self.scene.judge(db, self.folder, self._run)
            logs = [marks / f"calls.{number}" for number in range(wanted)]
            texts = [log.read_text() for log in logs if log.exists()]
            names = (marks / "places").read_text().split() if (marks / "places").exists() else []
            if places is None:
                killed = sum(map(_died_at, when.split(","), texts))
            else:
                killed = sum(1 <= int(number) <= len(names) for number in places.split(","))
            _assert_no_semaphore(texts)
            beside = re.escape(str(self.folder / "db"))
            files = frozenset(name for text in texts for name in re.findall(rf'{beside}/([^/>"]+)', text))
            return Round(kills=killed, runs=runs, logs=tuple(map(_points, texts)), places=tuple(names), files=files)

    def _until_done(self, db: Database, environment: dict[str, str], deaths: int) -> int:
        command = self.scene.command(db, *(("--connections", 1) if self._has_connections() else ()))
        for number in range(1, deaths + 3):
            done = self._run(*command, cwd=self.folder, timeout=900, **environment)
            assert "Traceback" not in done.stderr, done.stderr
            if done.returncode in self.scene.exit_codes:
                return number
            # A writer that died three times in a row ends its run.
            gave_up = done.returncode == 1 and "died 3 times in a row" in done.stderr
            assert done.returncode == -signal.SIGKILL or gave_up, (done.returncode, done.stderr)
        raise AssertionError(f"not done after {deaths + 2} runs:\n{done.stderr}")

    def _has_connections(self) -> bool:
        """Whether the writer could have several threads, of which strace would count one."""
        return self._server is not None and self.scene.words[0] == "load"

    def _environment(self, marks: Path) -> dict[str, str]:
        hook = Path(__file__).parent / "attach"
        before = os.environ.get("PYTHONPATH")
        return {
            "PYTHONPATH": os.pathsep.join([str(hook), *([before] if before else [])]),
            "TMPDIR": str(self.folder / "tmp"),
            "CRASH_FOLDER": str(marks),
            "CRASH_CALLS": ",".join(f"?{name}" for name in CALLS),
        }


def _kind(database: str) -> type[OnServer]:
    return KINDS[database]


def _points(log: str) -> list[Point]:
    """The calls of a log, each with its number among those of its name."""
    seen: Counter[str] = Counter()
    points = []
    for line in log.splitlines():
        match = _CALL.match(line)
        if match is not None and "resumed>" not in line:
            seen[match[1]] += 1
            points.append(Point(match[1], seen[match[1]]))
    return points


def _died_at(point: str, log: str) -> bool:
    """Whether the process died at its point, and of nothing else."""
    return "killed by SIGKILL" in log and [str(last) for last in _points(log)[-1:]] == [point]


def _assert_no_semaphore(logs: list[str]) -> None:
    """The semaphores that watched processes made are gone, or soon: multiprocessing's tracker removes a dead one's.

    But not the one that its maker was just making: nobody has been told its name.
    """
    for untold in (name for log in logs for found in _IN_SEM_OPEN.finditer(log) for name in found.groups()):
        Path(untold).unlink()
    names = {Path(name) for log in logs for name in re.findall(r'"(/dev/shm/sem\.mp-[^"]+)"', log)}
    deadline = time.monotonic() + 20
    while left := [name for name in names if name.exists()]:
        assert time.monotonic() < deadline, f"semaphores are left: {left}"
        time.sleep(0.01)


@contextlib.contextmanager
def server_of(database: str) -> Iterator[servers.Server | None]:
    """The server that a database lies on, if it does."""
    kind = next((kind for kind in servers.KINDS if kind.kind == database), None)
    if kind is None:
        yield None
        return
    with servers.running(kind) as server:
        yield server


def plays_on(scene: Scene, database: str) -> bool:
    """Whether a scene is possible on a database."""
    return database.partition("-")[0] in scene.databases


def repeated(play: Callable[[], Round]) -> Round | str:
    """The round, or what was wrong with it."""
    try:
        return play()
    except (AssertionError, subprocess.TimeoutExpired, sqlite3.Error) as error:
        return f"{type(error).__name__}: {error}"
