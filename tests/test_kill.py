"""Kill -9 of any process of a run, in its middle; the same command at once, and every row is there once.

The other places where a run can die, between two statements, are in test_failpoints.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import killing
import pytest
import tools
from oracle import Database, oracle

pytestmark = pytest.mark.every_target

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB")
"""So small that the larger files are committed in several steps, where the table has lineage."""


def make(tmp_path: Path) -> list[Path]:
    """Four files that are several slices each, and six that travel as a bundle."""
    sizes = [9_000] * 4 + [200] * 6
    files = [
        tools.orders(tmp_path / "in" / f"orders_{i}.csv", rows, first=i * 10_000) for i, rows in enumerate(sizes, 1)
    ]
    killing.aged(*files)
    return files


def existing(db: Database) -> None:
    """The user's own table, of other types and in another order than the files."""
    columns = "note VARCHAR(99), id INTEGER, customer TEXT, amount DOUBLE PRECISION, day DATE"
    tools.query(db, f"CREATE TABLE orders ({columns})")


def assert_third_run_is_a_no_op(db: Database, files: list[Path]) -> None:
    before = oracle(db).snapshot()
    report = tools.load(files[0].parent, db)
    assert report.exit_code == 0
    assert report.rows == 0
    assert report.count("skipped") == len(files)
    tools.assert_loaded_once(db, "orders", files)
    assert oracle(db).snapshot() == before


def start(tmp_path: Path, db: Database, *more: str, held: bool = False, **environment: str) -> subprocess.Popen[str]:
    return tools.start(
        "load", "in", "--to", db, "--progress", "none", *STEPS, *more, cwd=tmp_path, held=held, **environment
    )


def assert_quiet(stderr: str, *warnings: str) -> None:
    """Nothing but the first line, the summary and these warnings."""
    lines = [line for line in stderr.splitlines() if line]
    talk = ("database: ", "loaded: ", "skipped: ")
    other = [line for line in lines if not line.startswith(talk) and tools.CAUTION not in line]
    assert len(other) == len(warnings), stderr
    for line, warning in zip(other, warnings, strict=True):
        assert line.startswith("warning: ")
        assert warning in line


def _replaced(before: killing.Processes, main: int) -> killing.Processes | None:
    """The processes, once there is a host or a writer that was not there before, and all have their semaphores.

    Asked anew each time: the host that tries a suspect by itself is replaced in its turn.
    """
    now = killing.processes(main)
    if now is None or (now.host, now.writer) == (before.host, before.writer):
        return None
    return now if len(killing.semaphores(now)) == 5 else None


VARIANTS = [("auto", "new"), ("off", "existing")]


@pytest.mark.parametrize(("bulk", "table"), VARIANTS)
@pytest.mark.parametrize("victim", ["worker", "host", "writer"])
def test_a_killed_helper_is_replaced_and_the_same_run_loads_every_row_once(
    tmp_path: Path, db: Database, victim: str, bulk: str, table: str
) -> None:
    files = make(tmp_path)
    if table == "existing":
        existing(db)
    run = start(tmp_path, db, "--bulk", bulk, held=True)
    with killing.held_midway(db, run) as found:
        pid = {"worker": found.workers[0], "host": found.host, "writer": found.writer}[victim]
        killing.wait_for(lambda: len(killing.semaphores(found)) == 5, "its semaphores")
        semaphores = killing.semaphores(found)
        killing.kill(pid)
        killing.assert_gone((pid,))
        replaced = killing.wait_for(lambda: _replaced(found, run.pid), "another one, with its semaphores")
        semaphores |= killing.semaphores(replaced)
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert_quiet(err, f"(pid {pid}) ended: killed by SIGKILL (exit code -9)")
    tools.assert_loaded_once(db, "orders", files)
    killing.assert_gone((*found.all, *replaced.all))
    assert len(semaphores) >= 6
    assert not [path for path in semaphores if path.exists()]
    assert killing.spools(oracle(db).folder) == []
    assert_third_run_is_a_no_op(db, files)


@pytest.mark.parametrize(("bulk", "table"), VARIANTS)
@pytest.mark.parametrize("victim", ["main", "all", "session"])
def test_a_killed_run_is_gone_in_five_seconds_and_the_next_goes_on(
    tmp_path: Path, db: Database, victim: str, bulk: str, table: str
) -> None:
    files = make(tmp_path)
    if table == "existing":
        existing(db)
    run = start(tmp_path, db, "--bulk", bulk, held=True)
    with killing.held_midway(db, run) as found:
        killing.wait_for(lambda: len(killing.semaphores(found)) == 5, "its semaphores")
        semaphores = killing.semaphores(found)
        if victim == "main":
            killing.kill(found.main)
        elif victim == "session":
            os.killpg(found.main, signal.SIGKILL)
        else:
            killing.kill(*found.all)
        assert killing.finish(run)[0] == -signal.SIGKILL
        killing.assert_gone(found.all)
    committed = tools.query(db, "SELECT sum(rows_loaded), count(NULLIF(state, 'loaded')) FROM ingest_file")[0]
    assert committed[1] > 0
    assert tools.query(db, "SELECT count(*) FROM orders")[0] == committed[:1]
    again = start(tmp_path, db, "--bulk", bulk)
    code, _, err = killing.finish(again)
    assert code == 0, err
    assert_quiet(err)
    tools.assert_loaded_once(db, "orders", files)
    assert tools.query(db, "SELECT state, exit_code FROM ingest_run ORDER BY run_id") == [
        ("abandoned", None),
        ("finished", 0),
    ]
    assert killing.spools(oracle(db).folder) == []
    if victim == "main":  # the resource tracker, which removes them, was left alive
        killing.wait_for(lambda: not [path for path in semaphores if path.exists()], "the semaphores to be removed")
    assert_third_run_is_a_no_op(db, files)


def test_a_killed_fork_server_takes_nothing_with_it(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        server = next(pid for pid in found.helpers if killing.is_fork_server_of(pid, found.main))
        killing.kill(server)
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert err.count("warning: ") - err.count(tools.CAUTION) == 2
    killing.assert_gone(found.all)
    tools.assert_loaded_once(db, "orders", files)
    assert_third_run_is_a_no_op(db, files)
