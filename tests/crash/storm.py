"""Storms: whole loads whose processes are killed at random moments, over and over, until nothing is left to do.

A storm is many rounds. A round takes one scene (`scenes.py`), an empty database and random options, and runs the
scene's command again and again while a random choice of its processes is killed at random moments, also while it takes
up what the run before it left. When a run has come to its end, the scene judges from its input alone what the database
holds, and runs the command once more, which must find nothing to do.

What is drawn depends on the seed and the number of the round. When a kill strikes in the end is for the machine to say,
so a violation keeps the files, the database and what each run wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import itertools
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import killing
import oracle
import scenes
import servers
import tools
import victims
from figures import PROCESSES, Figures
from victims import Process
from warm import Warm

DATABASES = ("sqlite", "sqlite-wal", "postgresql", "mariadb")
SERVERS: dict[str, type[servers.Server]] = {kind.kind: kind for kind in servers.KINDS}

CHOICES = {
    "writer": 6,
    "main": 4,
    "worker": 4,
    "host": 3,
    "several": 3,  # two or three of them, at one moment
    "everybody": 3,  # as if the machine went down
    "group": 1,  # the process group of the terminal: the host's is another
    "fork server": 2,
    "resource tracker": 1,
    "zombie": 3,  # the others stand still while main is killed, and go on in the middle of the next run
    "pause": 2,  # one stands still for a while
}
"""What happens to a run, and how often among these. If there is no such process at its moment, a later one is drawn."""

ON_SERVERS = {
    "connection": 3,  # ended by an administrator
    "server": 1,  # all processes of the database server, which is started again
    "stale": 2,  # the whole run stands still until its lease has run out, and goes on in the middle of the next one
}
ON_POSTGRESQL = {"backend": 1}  # the server's process for a connection; the server ends all others, and recovers

ATTACKED = 12
"""Runs of one round that are attacked; those after them are left alone."""

HANG = 300.0
"""A run that has not ended by itself so many seconds after the last attack never will: it needs one or two."""

LEAVING = 60.0
"""The processes of a run that ended are gone in so many seconds; a quiet machine needs a tenth of one."""

REMEASURED = 25
"""After so many rounds it is measured again how long a run takes: other programs may have come or gone."""

MOST_VIOLATIONS = 5
"""A storm that has seen so many is over."""

TRY_AGAIN = ("Run the same command again", "run the same command again", "was lost")
SUSPECTED = ("ended its worker", "ended again and again")
"""What is said of a file that is left for the next run, because its workers or the pool were killed too often."""


class Violation(Exception):
    """The promise was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Something that is done to a run."""

    what: str
    moment: float  #: as a share of the length of a run that nobody touches
    seed: float  #: of whatever else is drawn


class Lane:
    """One round after the other on one database server, or in one folder."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.server = SERVERS[database]() if database in SERVERS else None
        self.length = 0.0  #: seconds of a run that nobody touches
        self.warm = Warm()  #: for the runs before and after those that are attacked
        if self.server is not None:
            self.server.start()

    def close(self) -> None:
        """Remove the server."""
        self.warm.close()
        if self.server is not None:
            self.server.remove()

    @contextlib.contextmanager
    def empty(self, folder: Path) -> Iterator[oracle.Database]:
        """A new database for one round."""
        if self.server is not None:
            with oracle.on_server(self.server) as made:
                yield made
            return
        (folder / "db").mkdir()
        path = folder / "db" / "test.db"
        if self.database == "sqlite-wal":
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        yield path

    @contextlib.contextmanager
    def place(self) -> Iterator[tuple[Path, oracle.Database]]:
        """A folder for one round, and its new database."""
        with tempfile.TemporaryDirectory(prefix="round-", dir=self.folder) as name:
            folder = Path(name)
            (folder / "tmp").mkdir()
            with self.empty(folder) as db:
                yield folder, db

    def measure(self) -> None:
        """How long a run takes that nobody touches: kills are spread over as long."""
        scene = scenes.SCENES["append"]
        with self.place() as (folder, db):
            scene.make(folder)
            began = time.monotonic()
            done = tools.ingest(*scene.command(db, workers=2), cwd=folder, timeout=HANG)
            self.length = time.monotonic() - began
            assert done.returncode in scene.exit_codes, done.stderr

    @property
    def choices(self) -> dict[str, int]:
        """What may happen to a run, and how often."""
        more = ON_SERVERS if self.server is not None else {}
        return CHOICES | more | (ON_POSTGRESQL if self.database == "postgresql" else {})


class Round:
    """One scene, killed until it is through."""

    def __init__(self, lane: Lane, folder: Path, seed: int, number: int, names: Sequence[str]) -> None:
        self._lane = lane
        self._folder = folder
        self._chance = random.Random(f"{seed} {lane.database} {number}")
        kind = lane.database.partition("-")[0]
        fit = [scene for scene in scenes.SCENES.values() if kind in scene.databases and scene.name in names]
        self.scene = self._chance.choice(fit)
        self.figures = Figures()
        self.story: list[str] = []  #: what was done, for whoever looks for a fault
        self._semaphores: set[Path] = set()
        self._untracked = False  #: nobody was left to remove semaphores
        self._frozen: list[Process] = []  #: of a run that has ended, or is to be replaced
        self._stale: subprocess.Popen[bytes] | None = None  #: that run, if it is only stopped
        self._shaken = False  #: the server, or connections to it, were attacked in this run
        self._late = False  #: there was a run that stood still when this one began

    def play(self, db: oracle.Database) -> None:
        """All of it. Raises `Violation`."""
        self.scene.make(self._folder)
        self.scene.prepare(db, self._folder, self._lane.warm.ingest)
        try:
            self._storm(db)
            self._judge(db)
        finally:
            victims.slain(victims.marked(str(self._folder)))
            if self._stale is not None:
                self._stale.wait()

    def _storm(self, db: oracle.Database) -> None:
        for attempt in itertools.count(1):
            attacks = self._drawn() if attempt <= ATTACKED else []
            ended, code, said = self._run(db, attempt, attacks)
            if ended and code in self.scene.exit_codes and not any(words in said for words in SUSPECTED):
                return
            if attempt > ATTACKED + 3:
                raise Violation(f"four runs that nobody touched did not come to an end: {code}\n{said}")

    def _drawn(self) -> list[Attack]:
        chance = self._chance
        names, weights = zip(*self._lane.choices.items(), strict=True)
        if chance.random() < 0.5:  # from the first millisecond to the last
            moments = [chance.uniform(0, 1) for _ in range(chance.randint(2, 5))]
        else:  # when most processes are up
            moments = [chance.uniform(0.4, 1.05) for _ in range(chance.randint(1, 3))]
        chosen = chance.choices(names, weights, k=len(moments))
        drawn = [
            Attack(what=what, moment=moment, seed=chance.random()) for what, moment in zip(chosen, moments, strict=True)
        ]
        return sorted(drawn, key=lambda attack: attack.moment)

    def _options(self) -> tuple[list[object], int]:
        """Other ones for each run, and the number of workers."""
        chance = self._chance
        words: list[object] = ["--bulk", chance.choice(["auto", "auto", "off"])]
        if self.scene.words[0] == "load":
            words += ["--slice-bytes", chance.choice(["1KiB", "4KiB", "64KiB"])]
            words += ["--commit-bytes", chance.choice(["1KiB", "3KiB", "16KiB", "1MiB"])]
            words += ["--start-method", chance.choice(["forkserver"] * 7 + ["spawn"])]
            if self._lane.server is not None:
                words += ["--connections", chance.randint(1, 3)]
        return words, chance.randint(1, 4)

    # one run -----------------------------------------------------------------------------------------------

    def _run(self, db: oracle.Database, attempt: int, attacks: Sequence[Attack]) -> tuple[bool, int, str]:
        """Whether it ended by itself and was not in anybody's way, its exit code, and what it wrote."""
        words, workers = self._options()
        carried, wake = self._frozen, self._chance.uniform(0, 1.2)
        self._late, self._shaken = self._stale is not None, False
        output = self._folder / f"run_{attempt}"
        began = time.monotonic()
        with open(output, "wb") as out:
            run = subprocess.Popen(
                [sys.executable, "-m", "ingest", *tools.typed(self.scene.command(db, *words, workers=workers))],
                cwd=self._folder,
                env=tools.environ(TMPDIR=str(self._folder / "tmp")),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.figures.runs += 1
        self.story.append(f"run {attempt}: {' '.join(map(str, words))} --workers {workers}")
        struck: list[str] = []
        schedule: list[tuple[float, Attack | None]] = [(attack.moment, attack) for attack in attacks]
        if carried:
            schedule.append((wake, None))
        while schedule:
            schedule.sort(key=lambda item: item[0])
            moment, attack = schedule.pop(0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(max(0.0, began + moment * self._lane.length - time.monotonic()))
            if attack is None:
                self._wake()
                continue
            found = victims.family(run.pid) if run.poll() is None else []
            absent = attack.what in PROCESSES and all(process.role != attack.what for process in found)
            if found and absent and moment < 1:  # not yet, or not any more
                later = random.Random(attack.seed).uniform(moment, 1.1)
                schedule.append((later, dataclasses.replace(attack, moment=later)))
                continue
            hit = self._strike(attack, db, run, found) if found else ""
            if hit:
                struck.append(hit)
                self.story.append(f"  {time.monotonic() - began:.3f} s: {hit}")
            else:
                self.figures.missed += 1
            if self._stale is run:
                break
        try:
            code = run.wait(HANG) if self._stale is not run else -signal.SIGSTOP
        except subprocess.TimeoutExpired:
            raise Violation(f"a run hangs after {struck or 'nothing'}") from None
        if not struck and attempt == 1:
            self._lane.length = (self._lane.length + time.monotonic() - began) / 2
        if self._frozen and self._frozen is carried:
            self._wake()
        self._look_for_leavings()
        said = output.read_text(errors="replace")
        self.story.append(f"  exit code {code}")
        self._check(code, said, struck)
        return code >= 0 and not self._frozen, code, said

    def _check(self, code: int, said: str, struck: Sequence[str]) -> None:
        """What a run says and how it ends, whatever happened to it."""
        _check_words(said)
        fit = set(self.scene.exit_codes)
        if any(hit.startswith(("main", "zombie")) for hit in struck):
            fit.add(-signal.SIGKILL)
        if any(hit.startswith("stale") for hit in struck):
            fit.add(-signal.SIGSTOP)
        if self._shaken:
            fit.add(10)
        if self._late:  # the run that it had taken for dead may have taken the lease back
            fit.add(75)
        if struck and any(words in said for words in SUSPECTED):
            fit.add(4)
        if (struck or self._late) and any(words in said for words in TRY_AGAIN):
            fit.add(1)
        if code not in fit:
            raise Violation(f"exit code {code} after {list(struck) or 'nothing'}:\n{said}")

    def _look_for_leavings(self) -> None:
        """No process outlives its run, but those that were stopped for that."""
        stopped = {process.pid for process in self._frozen}
        left = [process for process in victims.marked(str(self._folder)) if process.pid not in stopped]
        if left := victims.surviving(left, LEAVING):
            raise Violation(f"processes outlive their run: {left}")

    # attacks -----------------------------------------------------------------------------------------------

    def _strike(self, attack: Attack, db: oracle.Database, run: subprocess.Popen[bytes], found: list[Process]) -> str:
        """Do it; whom it hit, if anybody."""
        chance = random.Random(attack.seed)
        what = attack.what
        if what in ("connection", "server", "backend"):
            assert isinstance(db, oracle.OnServer)
            return self._strike_server(what, db, chance)
        if what == "pause":
            return self._pause(chance, found)
        self._note_semaphores(found)
        if what in ("zombie", "stale") and not self._frozen:
            return self._leave_behind(what, db, run, found)
        chosen = self._chosen(what, chance, found)
        dead = victims.slain(chosen)
        if not dead:
            return ""
        self._untracked |= any(process.role == "resource tracker" for process in dead)
        if len(dead) == 1:
            what = dead[0].role
        elif what in ("zombie", "stale"):  # there is one already
            what = "everybody"
        self.figures.kills[what] += 1
        self.figures.processes += len(dead)
        return f"{'main' if any(process.role == 'main' for process in dead) else what}: {_named(dead)}"

    @staticmethod
    def _chosen(what: str, chance: random.Random, found: list[Process]) -> list[Process]:
        if what in ("everybody", "zombie", "stale"):
            return found
        if what == "group":
            return [process for process in found if process.group == found[0].pid]
        if what == "several":
            return chance.sample(found, min(len(found), chance.randint(2, 3)))
        wanted = [process for process in found if process.role == what]
        return [chance.choice(wanted)] if wanted else []

    def _pause(self, chance: random.Random, found: list[Process]) -> str:
        stopped = victims.frozen([chance.choice(found)])
        time.sleep(chance.uniform(0.02, 0.5))
        victims.go_on(stopped)
        self.figures.others["pause"] += len(stopped)
        return f"pause: {_named(stopped)}" if stopped else ""

    def _leave_behind(self, what: str, db: oracle.Database, run: subprocess.Popen[bytes], found: list[Process]) -> str:
        """Have a run stand still that the next one takes for dead: without its main process, or as a whole."""
        main, stopped = found[0], victims.halted(run.pid)
        if what == "zombie":
            dead = victims.slain([main])
            self._frozen = [process for process in stopped if process != main]
            self.figures.kills["main, the others stopped"] += len(dead)
            self.figures.processes += len(dead)
            return f"zombie: {_named(dead)}, stopped: {_named(self._frozen)}" if dead else ""
        assert isinstance(db, oracle.OnServer)
        # Whose fork server was killed is nobody's descendant, and as long as main stands still nobody ends it.
        stopped += victims.frozen(p for p in victims.marked(str(self._folder)) if p.state not in "TXZ")
        if main in stopped and _aged(db):
            self._frozen, self._stale = stopped, run
            self.figures.others["stopped for longer than its lease"] += 1
            return f"stale: {_named(stopped)}"
        victims.go_on(stopped)
        return ""

    def _wake(self) -> None:
        """Those who stood still go on, find that they are too late, and end."""
        victims.go_on(self._frozen)
        stale, self._stale = self._stale, None
        if stale is not None:
            self.story.append("  the stopped run goes on")
            try:
                code = stale.wait(HANG)
            except subprocess.TimeoutExpired:
                raise Violation("a run that lost its lease hangs") from None
            self.story.append(f"  it ends with exit code {code}")
            if code not in self.scene.exit_codes | {1, 10, 75}:
                raise Violation(f"exit code {code} of a run that lost its lease")
        left = victims.surviving(self._frozen, LEAVING)
        if left:
            raise Violation(f"processes outlive their run, which they stood still for: {left}")
        self._frozen = []

    def _strike_server(self, what: str, db: oracle.OnServer, chance: random.Random) -> str:
        self._shaken = True
        if what == "server":
            db.server.kill()
            self.figures.kills["database server"] += 1
            time.sleep(chance.uniform(0, 1))
            db.server.start()
            return "server"
        sessions = sorted(_sessions(db))
        if not sessions:
            return ""
        chosen = chance.sample(sessions, chance.randint(1, len(sessions)))
        if what == "connection":
            ended = sum(_ended(db, session) for session in chosen)
            self.figures.others["connections ended"] += ended
            return f"connection: {ended}" if ended else ""
        process = victims.backend(chosen[0])
        dead = victims.slain([process] if process else [])
        killing.wait_for(lambda: _answers(db), "the server to recover", victims.SECONDS)
        self.figures.kills["backend"] += len(dead)
        return f"backend: {chosen[0]}" if dead else ""

    # the end -----------------------------------------------------------------------------------------------

    def _note_semaphores(self, found: Sequence[Process]) -> None:
        for process in found:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
                names = {line[line.index("/dev/shm/") :] for line in lines if "/dev/shm/sem." in line}
                self._semaphores |= {Path(name) for name in names if not name.endswith("(deleted)")}

    def _judge(self, db: oracle.Database) -> None:
        try:
            self.scene.judge(db, self._folder, self._lane.warm.ingest)
        except AssertionError as error:
            raise Violation(str(error) or traceback.format_exc()) from error
        for output in self._folder.glob("run_*"):  # also of those that went on after their time
            _check_words(output.read_text(errors="replace"))
        left = [path for path in self._semaphores if path.exists()]
        for path in left:
            path.unlink(missing_ok=True)
        if left and not self._untracked:
            raise Violation(f"semaphores are left: {left}")


def _check_words(said: str) -> None:
    """What no run may ever say."""
    for word in ("Traceback", servers.PASSWORD):
        if word in said:
            raise Violation(f"it says {word}:\n{said}")


def _answers(db: oracle.OnServer) -> bool:
    try:
        return db.query("SELECT 1") == [(1,)]
    except Exception:
        return False


def _named(processes: Sequence[Process]) -> str:
    return ", ".join(f"{process.role} {process.pid}" for process in processes)


def _sessions(db: oracle.OnServer) -> set[int]:
    """The tool's connections to this database."""
    if db.kind == "postgresql":
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ingest' AND datname = current_database()"
    else:
        query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    return {number for (number,) in db.query(query)}


def _ended(db: oracle.OnServer, session: int) -> bool:
    """End a connection, as an administrator does."""
    if db.kind == "postgresql":
        return db.query("SELECT pg_terminate_backend(?)", session) == [(True,)]
    import pymysql

    try:
        db.query(f"KILL {session}")
    except pymysql.err.OperationalError:  # it has gone by itself
        return False
    return True


def _aged(db: oracle.OnServer) -> bool:
    """Put the last sign of life of whoever has the lease back by more than a lease lasts: no need to wait so long."""
    import psycopg
    import pymysql

    patience = "SET lock_timeout = 500" if db.kind == "postgresql" else "SET innodb_lock_wait_timeout = 1"
    with contextlib.closing(db.connect()) as connection:
        db.rows(connection, patience)
        try:
            db.rows(connection, "UPDATE ingest_lease SET heartbeat_at = heartbeat_at - INTERVAL '90' SECOND")
            return bool(db.rows(connection, "SELECT 1 FROM ingest_lease WHERE holder IS NOT NULL")[1])
        except (psycopg.Error, pymysql.err.MySQLError):  # no ledger yet, or the stopped run has a lock on it
            return False


# a storm of rounds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What is to be done."""

    database: str
    seed: int
    kills: int  #: so many at least: the last rounds are played to their end
    jobs: int = 1
    rounds: tuple[int, ...] = ()  #: these, whatever they come to
    scenes: tuple[str, ...] = tuple(scenes.SCENES)  #: those that may be chosen

    def repeat(self, number: int) -> str:
        """The command that plays a round once more."""
        only = "".join(f" --scene {name}" for name in self.scenes) if len(self.scenes) < len(scenes.SCENES) else ""
        return f"python tests/crash/run.py storm --database {self.database} --seed {self.seed} --round {number}{only}"

    def run(self) -> Figures:
        """All rounds; violations are printed, each with all that is needed to look into it."""
        total, lock, stopped = Figures(), threading.Lock(), threading.Event()
        numbers = iter(self.rounds or itertools.count(1))

        def wanted() -> int | None:
            with lock:
                enough = not self.rounds and total.kills.total() >= self.kills
                return (
                    None if enough or stopped.is_set() or total.violations >= MOST_VIOLATIONS else next(numbers, None)
                )

        def done(figures: Figures) -> None:
            with lock:
                total.add(figures)

        if self.jobs == 1:
            self._lane(wanted, done)
            return total
        with ThreadPoolExecutor(self.jobs) as threads:
            lanes = [threads.submit(self._lane, wanted, done) for _ in range(self.jobs)]
            try:
                for lane in lanes:
                    lane.result()
            except BaseException:  # Ctrl-C, too: the others end with the round that they are at
                stopped.set()
                raise
        return total

    def _lane(self, wanted: Callable[[], int | None], done: Callable[[Figures], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="ingest-storm-") as name:
            lane = Lane(self.database, Path(name))
            try:
                while (number := wanted()) is not None:
                    if (number - 1) % (REMEASURED * self.jobs) < self.jobs or not lane.length:
                        lane.measure()
                    done(self._play(lane, number))
            finally:
                lane.close()

    def _play(self, lane: Lane, number: int) -> Figures:
        with lane.place() as (folder, db):
            played = Round(lane, folder, self.seed, number, self.scenes)
            played.figures.rounds = 1
            try:
                played.play(db)
            except Exception as error:
                played.figures.violations = 1
                kept = _kept(folder, db)
                text = str(error) if isinstance(error, Violation) else traceback.format_exc()
                story = "\n".join([f"round {number}: {played.scene.name}", *played.story, text])
                (kept / "story").write_text(story)
                print(f"VIOLATION\n{story}\nall of it is in {kept}\nonce more: {self.repeat(number)}", flush=True)
            figures = played.figures
            print(
                f"round {number}: {played.scene.name}, {figures.runs} runs, {figures.kills.total()} kills",
                file=sys.stderr,
                flush=True,
            )
            return figures


def _kept(folder: Path, db: oracle.Database) -> Path:
    """A copy of all that a round has left."""
    kept = Path(tempfile.mkdtemp(prefix="ingest-violation-"))
    shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("listener-*"))
    of = oracle.oracle(db)
    if of.kind != "sqlite":
        with contextlib.suppress(Exception):
            everything = {*of.tables(), *(f"ingest_{name}" for name in ("file", "table", "run", "reject", "lease"))}
            for table in everything:
                records = of.records(f"SELECT * FROM {tools.quoted(table)}")
                with open(kept / f"{table}.txt", "w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(records[0] if records else [])
                    writer.writerows(record.values() for record in records)
    return kept


# the command ---------------------------------------------------------------------------------------------------


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--database", choices=DATABASES, required=True)
    parser.add_argument("--kills", type=int, default=1000, help="end when so many kills have hit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rounds at once, on servers each with a server of its own")
    parser.add_argument("--scene", choices=sorted(scenes.SCENES), action="append", help="repeatable; without it all")
    parser.add_argument("--round", type=int, action="append", default=[], help="play this round only; repeatable")


def main(options: argparse.Namespace) -> int:
    """The command; exit code 1 where the promise was broken."""
    storm = Storm(
        database=options.database,
        seed=options.seed,
        kills=options.kills,
        jobs=options.jobs,
        rounds=tuple(options.round),
        scenes=tuple(options.scene or scenes.SCENES),
    )
    print(servers.report(), flush=True)
    began = time.monotonic()
    figures = storm.run()
    print(figures.told(options.database, options.seed, time.monotonic() - began))
    return 1 if figures.violations else 0
