"""The lease of a server's database: one run at a time, and a run that died or fell silent does not keep it.

What holds on every database is in test_two_runs.py; here the row is looked at, and written as another machine would.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killing
import ledger_tools
import pytest
import sqlalchemy as sa
import tools
from oracle import KINDS, OnServer, on_server

from ingest import ledger
from ingest.errors import FenceError, LeaseHeld
from ingest.targets import lease, target_for

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB", "--progress", "none")


@pytest.fixture(params=KINDS)
def db(request: pytest.FixtureRequest) -> Iterator[OnServer]:
    """A database on each server."""
    with on_server(request.getfixturevalue(f"{request.param}_server")) as database:
        yield database


def make(tmp_path: Path) -> list[Path]:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 9_000, first=i * 10_000) for i in range(1, 4)]
    killing.aged(*files)
    return files


def hold(db: OnServer, *, host: str, boot_id: str, pid: int, pid_started: int, silent: int) -> None:
    """The row as a run of that machine has left it, last heard of so many seconds ago."""
    target = target_for(str(db))
    with target.begin() as connection:
        found = ledger.take_lease(
            connection,
            ledger.Holder(holder="x" * 32, host=host, boot_id=boot_id, pid=pid, pid_started=pid_started),
            target.now(),  # type: ignore[attr-defined]
            gone=lambda held: True,
        )
    target.close()
    assert found is None
    moment = "heartbeat_at - interval '{} seconds'" if db.kind == "postgresql" else "heartbeat_at - INTERVAL {} SECOND"
    db.query(f"UPDATE ingest_lease SET heartbeat_at = {moment.format(silent)}")


def is_idle(db: OnServer) -> bool:
    """Whether nobody else has a transaction in this database."""
    if db.kind == "postgresql":
        open_ = (
            "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
    else:
        open_ = "information_schema.innodb_trx"
    return db.query(f"SELECT count(*) FROM {open_}") == [(0,)]


@pytest.fixture
def loaded(tmp_path: Path, db: OnServer) -> list[Path]:
    files = make(tmp_path)
    assert tools.load(files[0], db).exit_code == 0
    return files


def test_a_silent_run_of_another_machine_is_waited_for_and_then_taken_over(loaded: list[Path], db: OnServer) -> None:
    hold(db, host="elsewhere", boot_id="b", pid=1, pid_started=1, silent=20)
    with pytest.raises(LeaseHeld, match=r"process 1 on elsewhere, since \d{4}-"):
        tools.load(loaded, db)
    db.query("UPDATE ingest_lease SET heartbeat_at = taken_at")
    hold(db, host="elsewhere", boot_id="b", pid=1, pid_started=1, silent=61)
    assert tools.load(loaded, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", loaded)
    assert db.query("SELECT holder FROM ingest_lease") == [(None,)]


def test_a_dead_run_of_this_machine_is_taken_over_at_once(loaded: list[Path], db: OnServer) -> None:
    here = lease.this_process()
    # The number of a process that lives, but started at another time: it was given again.
    hold(db, host=here.host, boot_id=here.boot_id, pid=here.pid, pid_started=here.pid_started + 1, silent=0)
    assert tools.load(loaded[:2], db).exit_code == 0
    # Another start of this machine, or another container on it: what its numbers mean cannot be known.
    hold(db, host=here.host, boot_id="another", pid=here.pid, pid_started=here.pid_started + 1, silent=0)
    with pytest.raises(LeaseHeld):
        tools.load(loaded, db)
    db.query("UPDATE ingest_lease SET holder = NULL")
    assert tools.load(loaded, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", loaded)


def test_a_living_run_of_this_machine_keeps_the_lease(loaded: list[Path], db: OnServer) -> None:
    here = lease.this_process()
    hold(db, host=here.host, boot_id=here.boot_id, pid=os.getpid(), pid_started=here.pid_started, silent=0)
    with pytest.raises(LeaseHeld, match=socket.gethostname()):
        tools.load(loaded, db)


ASK = """
import datetime as dt, os, sys
from ingest import ledger
from ingest.targets import lease
me = lease.this_process()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    seen = bool(open(f"/proc/{sys.argv[1]}/stat").read())
except OSError:
    seen = False
def gone(pid):
    by = ledger.Holder(holder="x", host=me.host, boot_id=me.boot_id, pid=int(pid), pid_started=7)
    return lease._gone(ledger.Held(by=by, taken_at=dt.datetime(2024, 1, 1), silent=0), me)
print(seen, *map(gone, sys.argv[1:]))
"""


@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_run_of_another_user_whose_process_is_hidden_is_not_taken_for_dead(hidepid: int) -> None:
    """With `hidepid` another's process cannot be looked at, though somebody has its number."""
    mounted = ["unshare", "--mount", "sh", "-c", f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a mount of /proc with hidepid takes root")
    with subprocess.Popen(["true"]) as ended:
        pass
    asked = [*mounted, sys.executable, "-c", ASK, str(os.getpid()), str(ended.pid)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=tools.environ())
    assert done.stdout.split() == ["False", "False", "True"], done.stderr


@pytest.mark.parametrize("who", ["main", "all"])
def test_a_run_that_was_stopped_and_taken_over_commits_nothing_more(tmp_path: Path, db: OnServer, who: str) -> None:
    """A zombie: stopped for so long that it is taken for dead, while its writer waits with an open transaction."""
    files = make(tmp_path)
    run = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        os.kill(found.main, signal.SIGSTOP)
    # The lock is gone: its writer may commit what it was at, and not more, for nobody gives it another order.
    if who == "all":
        # InnoDB tells of its transactions what it knew at the last look that came 0.1 s after the one before.
        killing.wait_for(lambda: is_idle(db), "the end of its transactions", pause=0.2)
        for pid in found.all[1:]:
            os.kill(pid, signal.SIGSTOP)
    moment = "heartbeat_at - interval '61 seconds'" if db.kind == "postgresql" else "heartbeat_at - INTERVAL 61 SECOND"
    db.query(f"UPDATE ingest_lease SET heartbeat_at = {moment}")
    assert tools.load(files, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", files)
    for pid in found.all if who == "all" else [found.main]:
        os.kill(pid, signal.SIGCONT)
    code, _, err = killing.finish(run)
    assert code == 1, err
    # Which of the fences it met first depends on what its writer was at.
    assert "another run has taken over" in err.lower()
    assert "Traceback" not in err
    killing.assert_gone(found.all)
    tools.assert_loaded_once(db, "orders", files)
    assert [state for (state,) in db.query("SELECT state FROM ingest_run ORDER BY run_id")] == ["abandoned", "finished"]


def test_a_transaction_that_is_open_at_the_take_over_cannot_be_committed(tmp_path: Path, db: OnServer) -> None:
    """Of two transactions at the same time: the zombie has looked already whether its run is still running."""
    path = tools.orders(tmp_path / "orders.csv", 5)
    assert tools.load(path, db).exit_code == 0
    target = target_for(str(db))
    run_id = ledger_tools.start(target.engine)
    (row,) = ledger_tools.register(target.engine, run_id)

    def zombie() -> None:
        with target.begin() as connection:
            ledger.check_run(connection, run_id)
            connection.exec_driver_sql("INSERT INTO orders (id) VALUES (77)")
            with target.begin() as other:
                assert ledger.take_over(other) == [run_id]
            ledger.advance(connection, run_id, [ledger_tools.move(row, 50)])

    with pytest.raises(FenceError):
        zombie()
    target.close()
    assert db.query("SELECT count(*) FROM orders") == [(5,)]
    assert db.query("SELECT committed_bytes, epoch FROM ingest_file ORDER BY file_id DESC")[0] == (0, 1)


def test_a_replacement_that_is_open_holds_a_take_over_back(tmp_path: Path, db: OnServer) -> None:
    """What it changes belongs to no unfinished file: no epoch would keep it from being committed after that."""
    assert tools.load(tools.orders(tmp_path / "orders.csv", 5), db).exit_code == 0
    target = target_for(str(db))
    run_id = ledger_tools.start(target.engine)
    short = "SET lock_timeout = '100ms'" if db.kind == "postgresql" else "SET innodb_lock_wait_timeout = 1"

    def take_over() -> None:
        with target.begin() as other:
            other.exec_driver_sql(short)
            ledger.take_over(other)

    with target.begin() as connection:
        ledger.replace(connection, run_id, table_name="orders", files=[])
        with pytest.raises(sa.exc.OperationalError):
            take_over()
    target.disconnect()
    with target.begin() as other:
        assert ledger.take_over(other) == [run_id]
    target.close()


def test_the_heart_beats_while_a_run_lasts(db: OnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    target = target_for(str(db))
    with target.lease(0):
        first = db.query("SELECT heartbeat_at FROM ingest_lease")
        killing.wait_for(lambda: db.query("SELECT heartbeat_at FROM ingest_lease") != first, "a heartbeat")
        assert db.query("SELECT holder IS NOT NULL FROM ingest_lease") == [(1,)]
    assert db.query("SELECT holder IS NOT NULL, epoch FROM ingest_lease") == [(0, 1)]
    target.close()


def test_two_that_begin_at_once_make_one_ledger(tmp_path: Path, db: OnServer) -> None:
    files = make(tmp_path)
    runs = [tools.start("load", "in", "--to", db, "--wait", "60", *STEPS, cwd=tmp_path) for _ in range(3)]
    ended = [killing.finish(run, seconds=90) for run in runs]
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    tools.assert_loaded_once(db, "orders", files)
    assert db.query("SELECT epoch FROM ingest_lease") == [(3,)]


def test_a_new_ledger_is_there_in_full_before_the_next_may_look(db: OnServer) -> None:
    """Where DDL commits by itself the tables are seen at once, and their rows only with the transaction's end."""
    found = []

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "release_lock" in statement:
            with target_for(str(db)).begin() as other:
                found.append(ledger.version(other))

    target = target_for(str(db))
    sa.event.listen(target.engine, "before_cursor_execute", look)
    with target.lease(0):
        pass
    target.close()
    assert found == ([ledger.HEAD] if db.kind == "mariadb" else [])  # PostgreSQL gives it back with the commit itself


def test_only_one_of_many_threads_gets_it(db: OnServer) -> None:
    inside, most, errors = [0], [0], []

    def take() -> None:
        target = target_for(str(db))
        try:
            with target.lease(30):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                db.query("SELECT 1")
                inside[0] -= 1
        except Exception as error:
            errors.append(error)
        finally:
            target.close()

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert most == [1]
    assert db.query("SELECT epoch FROM ingest_lease") == [(5,)]
