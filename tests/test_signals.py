"""SIGINT and SIGTERM end a run in order, however they arrive; the same command loads the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import killing
import psutil
import pytest
import tools

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def make(tmp_path: Path) -> list[Path]:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 9_000, first=i * 10_000) for i in range(1, 6)]
    killing.aged(*files)
    return files


def start(tmp_path: Path, db: Path, *more: str, held: bool | str = False) -> subprocess.Popen[str]:
    return tools.start("load", "in", "--to", db, "--progress", "none", *STEPS, *more, cwd=tmp_path, held=held)


def assert_stopped_in_order(db: Path, files: list[Path], code: int, err: str, number: signal.Signals) -> None:
    """Its own exit code, nothing but what has to be said, and a ledger that agrees with the table."""
    assert code == CODES[number], err
    assert "warning: " not in err
    assert "Traceback" not in err
    assert "same command again" in err
    [(rows, left)] = tools.query(db, "SELECT sum(rows_loaded), sum(state <> 'loaded') FROM ingest_file")
    assert left > 0
    assert tools.query(db, "SELECT count(*) FROM orders") == [(rows,)]
    assert tools.query(db, "SELECT state, exit_code FROM ingest_run") == [("stopped", code)]
    assert killing.spools(db.parent) == []


def assert_the_rest_is_loaded(db: Path, files: list[Path]) -> None:
    assert tools.load(files[0].parent, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", files)
    assert tools.load(files[0].parent, db).rows == 0


@pytest.mark.parametrize(
    ("to", "start_method", "number"),
    [
        ("main", "forkserver", signal.SIGINT),
        ("main", "forkserver", signal.SIGTERM),
        ("group", "forkserver", signal.SIGINT),
        ("group", "forkserver", signal.SIGTERM),
        ("group", "spawn", signal.SIGTERM),
        ("everyone", "forkserver", signal.SIGTERM),
        ("everyone", "spawn", signal.SIGINT),
    ],
)
def test_a_signal_finishes_the_open_transaction_and_the_next_run_loads_the_rest(
    tmp_path: Path, db: Path, number: signal.Signals, to: str, start_method: str
) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, "--start-method", start_method, held=True)
    with killing.held_midway(db, run) as found:
        if to == "main":
            run.send_signal(number)
        elif to == "group":  # Ctrl-C in a terminal
            os.killpg(run.pid, number)
        else:  # a service manager
            for pid in reversed(found.all):  # main last: it ends the others
                os.kill(pid, number)
        killing.wait_for(lambda: not killing.alive(found.host), "the end of all reading")
    code, _, err = killing.finish(run)
    assert_stopped_in_order(db, files, code, err, number)
    killing.assert_gone(found.all)
    assert_the_rest_is_loaded(db, files)


def reads_rows(writer: int) -> bool:
    """Whether the writer has an order: a staged file is open."""
    return any("/.ingest-spool-" in file.path for file in psutil.Process(writer).open_files())


def test_a_second_signal_stops_at_once(tmp_path: Path, db: Path) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        rows = tools.query(db, "SELECT count(*) FROM orders")
        killing.wait_for(lambda: reads_rows(found.writer), "the writer to have an order")
        run.send_signal(signal.SIGTERM)
        killing.wait_for(lambda: not killing.alive(found.host), "the first signal to be noticed")
        run.send_signal(signal.SIGTERM)
        code, _, err = killing.finish(run)  # the database is still held
        assert code == 143, err
        killing.assert_gone(found.all)
    assert tools.query(db, "SELECT count(*) FROM orders") == rows
    assert killing.spools(db.parent) == []
    assert_the_rest_is_loaded(db, files)


def test_a_signal_while_the_plan_is_made_stops_before_the_first_row(tmp_path: Path, db: Path) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, held="after_ledger")
    gate = tools.gate(run)
    killing.wait_for(lambda: gate.reached() or run.poll() is not None, "the run to begin")
    run.send_signal(signal.SIGTERM)
    gate.open()
    code, _, err = killing.finish(run)
    assert code == 143, err
    assert "Traceback" not in err
    assert_the_rest_is_loaded(db, files)


def test_a_second_signal_ends_a_main_process_that_waits_for_the_database_itself(tmp_path: Path, db: Path) -> None:
    """In the middle of a call that comes back after a minute; no handler of Python's runs before."""
    files = make(tmp_path)
    assert tools.load(files[0], db).exit_code == 0
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        run = start(tmp_path, db)
        killing.wait_for(db.with_name(f"{db.name}-ingest-lock").exists, "the run to begin")
        found = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGTERM)
        code, _, err = killing.finish(run)
        assert code in CODES.values(), err
        assert "same command again" in err
        killing.assert_gone(tuple(process.pid for process in found))
    assert_the_rest_is_loaded(db, files)
