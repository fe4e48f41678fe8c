"""Whole runs whose server goes away: they end with exit code 0 all the same, or with one clear line.

Where in a transaction, and every message of it: `test_faults.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import killing
import oracle
import proxy
import pytest
import servers
import tools

from ingest.reports import Event, Notice
from ingest.targets import lease, target_for

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB", "--progress", "none")
SMALL = {"slice_bytes": 32 * 1024, "commit_bytes": 64 * 1024}


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request: pytest.FixtureRequest) -> Iterator[oracle.OnServer]:
    with oracle.on_server(request.getfixturevalue(f"{request.param}_server")) as database:
        yield database


@pytest.fixture
def through(db: oracle.OnServer) -> Iterator[proxy.Proxy]:
    """A way to the server that can be cut."""
    with proxy.between(db.server) as between:
        yield between


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of several steps, and three that travel together."""
    sizes = [5_000, 5_000, 100, 100, 100]
    made = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", rows, first=i * 10_000) for i, rows in enumerate(sizes)]
    killing.aged(*made)
    return made


def load(files: list[Path], db: oracle.OnServer, through: proxy.Proxy, **settings: object) -> tuple[int, list[str]]:
    """Exit code and warnings of a load through the proxy."""
    events: list[Event] = []
    report = tools.load(files[0].parent, through.url(db.url), events=events, spool=str(db.folder), **SMALL, **settings)
    return report.exit_code, [event.text for event in events if isinstance(event, Notice) and event.level == "warning"]


def assert_loaded_once(db: oracle.OnServer, files: list[Path]) -> None:
    """Every row once; the ledger says the same, and a run after that finds nothing to do."""
    tools.assert_loaded_once(db, "orders", files)
    tools.assert_counts_add_up(db)
    assert db.query("SELECT state, count(*) FROM ingest_file GROUP BY state") == [("loaded", len(files))]
    before = db.snapshot()
    assert tools.load(files[0].parent, db).count("skipped") == len(files)
    assert db.snapshot() == before


class At:
    """A rule: cut at the COMMIT of a connection over which something wanted has gone before."""

    def __init__(self, wanted: Callable[[proxy.Message], bool], how: str, times: int = 1) -> None:
        self.wanted, self.how, self.left = wanted, how, times
        self.seen: set[int] = set()
        self.committing: set[int] = set()

    def __call__(self, message: proxy.Message) -> proxy.Verdict:
        if message.side == "client" and self.wanted(message):
            self.seen.add(message.connection)
            if self.how == "at it":
                return self._cut("cut")
        if message.is_commit and message.connection in self.seen:
            if self.how == "before":
                return self._cut("cut")
            if self.how == "sent":
                return self._cut("pass and cut")
            self.committing.add(message.connection)
        if message.side == "server" and message.connection in self.committing:
            return self._cut("cut")  # the answer
        return "pass"

    def _cut(self, verdict: proxy.Verdict) -> proxy.Verdict:
        self.left -= 1
        return verdict if self.left >= 0 else "pass"


def held(through: proxy.Proxy) -> tuple[threading.Event, threading.Event]:
    """Keep the writer's first COMMIT back until the second event; the first one says that it came."""
    came, go = threading.Event(), threading.Event()
    at = At(bulk, "before")

    def rule(message: proxy.Message) -> proxy.Verdict:
        if at(message) == "cut":
            came.set()
            assert go.wait(60)
        return "pass"

    through.rule = rule
    return came, go


def bulk(message: proxy.Message) -> bool:
    return message.is_bulk


def register(message: proxy.Message) -> bool:
    return message.sql.startswith("INSERT INTO ingest_file ")


def finish(message: proxy.Message) -> bool:
    return message.sql.startswith("UPDATE ingest_run") and "finished_at" in message.sql


@pytest.mark.parametrize("how", ["at it", "before", "sent", "answer"])
def test_a_writer_that_is_cut_off_goes_on_in_the_same_run(
    db: oracle.OnServer, through: proxy.Proxy, files: list[Path], how: str
) -> None:
    through.reset = how in ("at it", "answer")
    through.rule = At(bulk, how)
    code, warnings = load(files, db, through)
    assert through.cuts == 1
    assert code == 0
    (warning,) = warnings
    assert warning.startswith("the connection to ")
    assert "was lost" in warning
    assert servers.PASSWORD not in warning
    assert_loaded_once(db, files)


@pytest.mark.parametrize("how", ["before", "answer"])
@pytest.mark.parametrize("wanted", [register, finish], ids=["register", "finish"])
def test_a_main_process_that_is_cut_off_goes_on_in_the_same_run(
    db: oracle.OnServer, through: proxy.Proxy, files: list[Path], wanted: Callable[[proxy.Message], bool], how: str
) -> None:
    through.rule = At(wanted, how)
    code, warnings = load(files, db, through)
    assert through.cuts == 1
    assert code == 0
    assert len(warnings) == 1
    assert db.query("SELECT state, exit_code FROM ingest_run") == [("finished", 0)]
    assert_loaded_once(db, files)


@pytest.mark.parametrize("table", ["orders", "ingest_file"])
def test_a_connection_lost_while_tables_are_made_ends_the_run_in_one_line(
    tmp_path: Path, db: oracle.OnServer, through: proxy.Proxy, files: list[Path], table: str
) -> None:
    through.rule = At(lambda message: "CREATE TABLE" in message.sql and table in message.sql, "at it")
    run = tools.ingest("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
    assert run.returncode == 10, run.stderr
    assert through.cuts == 1
    assert "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert "was lost" in line
    assert "Run the same command again when the server is back" in run.stderr
    assert load(files, db, through)[0] == 0
    assert_loaded_once(db, files)


def test_a_writer_that_is_cut_off_each_time_ends_the_run_and_the_next_one_loads(
    tmp_path: Path, db: oracle.OnServer, through: proxy.Proxy, files: list[Path]
) -> None:
    through.rule = At(bulk, "before", times=1_000)
    run = tools.ingest("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
    assert run.returncode == 10, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.count("error: ") == 1
    assert servers.PASSWORD not in run.stderr
    assert db.query("SELECT state, exit_code FROM ingest_run") == [("finished", 10)]
    assert tools.query(db, "SELECT count(*) FROM orders") == [(0,)]
    through.rule = proxy.let_pass
    assert load(files, db, through)[0] == 0
    assert_loaded_once(db, files)


def test_a_connection_ended_by_an_administrator_is_replaced(
    tmp_path: Path, db: oracle.OnServer, through: proxy.Proxy, files: list[Path]
) -> None:
    came, go = held(through)
    # Several would be told that they have ended in several ways.
    words = ("--to", through.url(db.url), "--spool", db.folder, "--connections", "1", *STEPS)
    run = tools.start("load", "in", *words, cwd=tmp_path)
    assert came.wait(60)
    assert ended(db) > 0
    go.set()
    code, _, err = killing.finish(run, seconds=90)
    assert code == 0, err
    assert err.count("warning: ") == 1
    assert "was lost" in err
    assert_loaded_once(db, files)


def ended(db: oracle.OnServer) -> int:
    """End all connections of the tool to this database; how many there were."""
    if db.kind == "postgresql":
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ingest'"
        return len(db.query(f"{query} AND datname = current_database()"))
    query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    ids = [number for (number,) in db.query(query)]
    for number in ids:
        db.query(f"KILL {number}")
    return len(ids)


@pytest.mark.parametrize("kind", [servers.PostgreSQL, servers.MariaDB])
def test_a_server_that_is_restarted_finds_the_run_where_it_was(
    tmp_path: Path, kind: type[servers.Server], files: list[Path]
) -> None:
    """Killed between the last statement of a transaction and its COMMIT, and gone for as long as its start takes."""
    with servers.running(kind) as server, oracle.on_server(server) as db, proxy.between(server) as through:
        came, go = held(through)
        run = tools.start("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
        assert came.wait(60)
        # PostgreSQL's own word for it is "immediate": a kill of its first process would leave the others.
        server.stop(signal.SIGQUIT if server.kind == "postgresql" else signal.SIGKILL)
        go.set()
        server.start()
        code, _, err = killing.finish(run, seconds=90)
        assert code == 0, err
        assert "was lost" in err
        assert_loaded_once(db, files)


def assert_full(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert "warning: " not in run.stderr  # it is not tried again
    assert run.stderr.count("error: ") == 1
    assert "Free some space and run the same command again" in run.stderr


@contextlib.contextmanager
def small_disk(server: servers.Server) -> Iterator[Path]:
    """A file system of 400 KiB of the server's own."""
    place = server.folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k,mode=777", "none", place]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        place.rmdir()
        pytest.skip("this machine lets us mount nothing, so no disk can be filled")
    try:
        shutil.chown(place, server.account)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def test_a_full_disk_of_postgresql_ends_the_run_and_the_next_one_loads(
    tmp_path: Path, postgresql_server: servers.Server, files: list[Path]
) -> None:
    with oracle.on_server(postgresql_server) as db, small_disk(postgresql_server) as place:
        db.query(f"CREATE TABLESPACE small LOCATION '{place}'")
        try:
            columns = "id INTEGER, customer TEXT, amount DOUBLE PRECISION, day DATE, note TEXT"
            db.query(f"CREATE TABLE orders ({columns}) TABLESPACE small")
            assert_full(tools.ingest("load", "in", "--to", db, "--progress", "none", cwd=tmp_path))
            subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
            assert tools.load(files[0].parent, db).exit_code == 0
            assert_loaded_once(db, files)
        finally:
            db.query("DROP TABLE IF EXISTS orders")
            db.query("DROP TABLESPACE small")


class SmallMariaDB(servers.MariaDB):
    """A server whose tables are all in one file, which may not grow. A really full disk ends MariaDB 10.11 itself."""

    room = "12M"

    def _command(self, data: Path) -> list[str]:
        size = f"--innodb-data-file-path=ibdata1:5M:autoextend:max:{self.room}"
        return [*super()._command(data), "--innodb-file-per-table=0", size]


def test_a_full_tablespace_of_mariadb_ends_the_run_and_the_next_one_loads(tmp_path: Path) -> None:
    path = tools.orders(tmp_path / "in" / "orders_1.csv", 150_000)
    killing.aged(path)
    with servers.running(SmallMariaDB) as server, oracle.on_server(server) as db:
        assert_full(tools.ingest("load", "in", "--to", db, "--progress", "none", cwd=tmp_path))
        assert isinstance(server, SmallMariaDB)
        server.stop()
        server.room = "1G"
        server.start()
        assert tools.load(path, db).exit_code == 0
        assert_loaded_once(db, [path])


def test_a_stop_ends_a_run_that_waits_for_its_server(
    tmp_path: Path, db: oracle.OnServer, through: proxy.Proxy, files: list[Path]
) -> None:
    at = At(bulk, "before")
    cut = threading.Event()

    def rule(message: proxy.Message) -> proxy.Verdict:
        if cut.is_set():  # and there is no way back before the server is away
            return "cut"
        verdict = at(message)
        if verdict == "cut":
            cut.set()
        return verdict

    through.rule = rule
    run = tools.start("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
    assert cut.wait(60)
    through.down()
    read = killing.read_until(run, "warning: ")
    os.kill(run.pid, signal.SIGINT)
    code, _, err = killing.finish(run)  # the server would be waited for twice as long
    assert code == 130, read + err
    assert "Traceback" not in err
    assert "left for the next one to note" in err
    through.up()
    through.rule = proxy.let_pass
    assert load(files, db, through)[0] == 0
    assert_loaded_once(db, files)
    assert db.query("SELECT state FROM ingest_run ORDER BY run_id")[:2] == [("abandoned",), ("finished",)]


def test_a_heart_that_cannot_reach_the_server_beats_on_when_it_can(
    db: oracle.OnServer, through: proxy.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    target = target_for(through.url(db.url))
    beats = "SELECT heartbeat_at FROM ingest_lease"
    with contextlib.closing(target), target.lease(0):
        first = db.query(beats)
        killing.wait_for(lambda: db.query(beats) != first, "a heartbeat")
        messages = itertools.count()
        through.rule = lambda message: "cut" if message.side == "client" and next(messages) % 11 == 10 else "pass"
        killing.wait_for(lambda: through.cuts > 20, "heartbeats to fail")
        through.down()
        through.rule = proxy.let_pass
        through.up()
        for _ in range(2):  # the first may be one that was under way
            last = db.query(beats)
            killing.wait_for(lambda seen=last: db.query(beats) != seen, "a heartbeat")
        assert db.leased()
    assert not db.leased()
