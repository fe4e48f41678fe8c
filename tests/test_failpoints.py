"""A run that dies between two of its own statements; the next one takes up what it left, and doubles nothing.

Each test arms one of the named places of `ingest.failpoints`, where whoever comes by is killed as by `kill -9`.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import killing
import pytest
import tools
from oracle import Database, oracle

pytestmark = pytest.mark.every_target

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB")


def make(tmp_path: Path) -> list[Path]:
    """One file of some steps, and three that travel as a bundle."""
    sizes = [9_000, 100, 100, 100]
    files = [
        tools.orders(tmp_path / "in" / f"orders_{i}.csv", rows, first=i * 10_000) for i, rows in enumerate(sizes, 1)
    ]
    killing.aged(*files)
    return files


def load(tmp_path: Path, db: Database, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return tools.ingest("load", "in", "--to", db, *STEPS, *more, cwd=tmp_path, **environment)


def assert_all_loaded(db: Database, files: list[Path]) -> None:
    """Every row once; and a run after that finds nothing to do."""
    tools.assert_loaded_once(db, "orders", files)
    report = tools.load(files[0].parent, db)
    assert (report.exit_code, report.rows, report.count("skipped")) == (0, 0, len(files))
    tools.assert_loaded_once(db, "orders", files)


def assert_table_is_ours(db: Database) -> None:
    """The ledger's word, and the token in the table's own definition, say that we made it."""
    [(made_by_us, state, token)] = tools.query(db, "SELECT made_by_us, state, token FROM ingest_table")
    assert (made_by_us, state) == (1, "ready")
    assert oracle(db).token("orders") == token


@pytest.mark.parametrize("bulk", ["auto", "off"])
@pytest.mark.parametrize(
    "place",
    [
        "before_advance",
        pytest.param("before_commit", marks=pytest.mark.core),
        pytest.param("after_commit", marks=pytest.mark.core),
    ],
)
def test_a_writer_killed_around_its_commit_loads_once(tmp_path: Path, db: Database, place: str, bulk: str) -> None:
    files = make(tmp_path)
    done = load(tmp_path, db, "--bulk", bulk, INGEST_FAILPOINT=f"{place}@{tmp_path / 'fired'}")
    assert (tmp_path / "fired").exists()
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: the writer \(pid \d+\) ended: killed by SIGKILL \(exit code -9\)", done.stderr)
    assert done.stderr.count("warning: ") - done.stderr.count(tools.CAUTION) == 1
    assert_all_loaded(db, files)


def test_every_commit_may_be_the_last_of_its_writer(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    done = load(tmp_path, db, "--commit-bytes", "128KiB", INGEST_FAILPOINT="after_commit")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: the writer") >= 3
    assert_all_loaded(db, files)


def test_a_writer_that_dies_each_time_ends_the_run_and_the_next_one_loads(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    done = load(tmp_path, db, INGEST_FAILPOINT="before_commit")
    assert done.returncode == 1
    assert "the writer died 3 times in a row" in done.stderr
    assert "Run the same command again" in done.stderr
    assert tools.query(db, "SELECT count(*) FROM orders") == [(0,)]
    assert load(tmp_path, db).returncode == 0
    assert_all_loaded(db, files)


@pytest.mark.parametrize(
    "place",
    [
        "after_ledger",
        "after_start_run",
        "after_intent",
        "before_create_commit",
        "after_create",
        "before_register_commit",
        "after_register",
    ],
)
def test_a_run_killed_while_it_prepares_is_taken_up_by_the_next(tmp_path: Path, db: Database, place: str) -> None:
    files = make(tmp_path)
    assert load(tmp_path, db, INGEST_FAILPOINT=place).returncode == -9
    report = tools.load(files[0].parent, db)
    assert report.exit_code == 0
    assert report.rows == 9_300
    assert_table_is_ours(db)
    assert_all_loaded(db, files)


@pytest.mark.parametrize("place", ["after_add_intent", "after_add"])
def test_a_run_killed_while_it_adds_a_column_is_taken_up_by_the_next(tmp_path: Path, db: Database, place: str) -> None:
    files = make(tmp_path)
    assert tools.load(files[0].parent, db).exit_code == 0
    files.append(
        tools.write_csv(
            tmp_path / "in" / "orders_9.csv", [*tools.ORDERS, "size"], [(1, "c1", "2.50", "2024-01-01", "n", 38)]
        )
    )
    assert load(tmp_path, db, INGEST_FAILPOINT=place).returncode == -9
    report = tools.load(files[0].parent, db)
    assert (report.exit_code, report.rows) == (0, 1)
    assert_table_is_ours(db)
    columns = (*tools.ORDERS, "size")
    tools.assert_loaded_once(db, "orders", files, columns)
    assert tools.query(db, "SELECT count(size), sum(size), count(*) FROM orders") == [(1, 38, 9_301)]
    assert tools.load(files[0].parent, db).rows == 0


def test_a_killed_undo_is_finished_by_the_next_run(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    good = files[0].read_bytes()
    files[0].write_bytes(good + b"one field too few,,,\n")
    done = load(tmp_path, db, INGEST_FAILPOINT="before_undo")
    assert done.returncode == 1
    [(state, committed)] = tools.query(db, "SELECT state, committed_bytes FROM ingest_file WHERE path LIKE '%_1.csv'")
    assert state == "undoing"
    assert 0 < committed < len(good)
    files[0].write_bytes(good)
    killing.aged(files[0])
    assert tools.load(files[0].parent, db).exit_code == 0
    assert_all_loaded(db, files)


def killed_before_an_undo(tmp_path: Path, db: Database) -> list[Path]:
    """A file of several steps, of which some are committed, and which is over its budget; mended since."""
    files = make(tmp_path)
    good = files[0].read_bytes()
    files[0].write_bytes(good + b"one field too few,,,\n")
    assert load(tmp_path, db, INGEST_FAILPOINT="before_undo").returncode == 1
    files[0].write_bytes(good)
    killing.aged(files[0])
    return files


def test_rows_of_a_killed_undo_that_cannot_be_told_from_others_refuse_their_file(tmp_path: Path, db: Database) -> None:
    files = killed_before_an_undo(tmp_path, db)
    tools.query(db, "ALTER TABLE orders DROP COLUMN _ingest_file_id")
    [(before,)] = tools.query(db, "SELECT count(*) FROM orders WHERE id < 20000")
    assert before
    for _ in range(2):
        report = tools.load(files[0].parent, db)
        assert (report.exit_code, tools.told(report)[files[0].name]) == (4, ("refused", "no_lineage"))
        assert tools.query(db, "SELECT count(*) FROM orders WHERE id < 20000") == [(before,)]
        assert any(files[0].name in warning for warning in report.warnings)
    tools.query(db, "DELETE FROM orders WHERE id < 20000")
    done = tools.ingest("forget", files[0], "--to", db, "--yes", cwd=tmp_path)
    assert f"{before:,} rows of it stay in orders; a load would take them back" in done.stderr
    assert tools.load(files[0].parent, db).rows == 9_000
    tools.assert_loaded_once(db, "orders", files)


def test_what_the_database_does_not_let_go_stops_no_other_file(tmp_path: Path, db: Database) -> None:
    """Neither in the run that refuses its file, nor in those after it."""
    first = tools.orders(tmp_path / "in" / "orders_0.csv", 10)
    killing.aged(first)
    assert tools.load(first, db).exit_code == 0
    files = killed_before_an_undo(tmp_path, db)
    other = tools.orders(tmp_path / "other.csv", 10)
    with tools.referred_to(db, 10_000):
        report = tools.load(other, db)
        assert (report.exit_code, report.rows) == (0, 10)
        assert any(files[0].name in warning for warning in report.warnings)
        report = tools.load(files[0].parent, db)
        stuck, *others = (tools.told(report)[file.name][0] for file in (files[0], *files[1:], first))
        assert report.exit_code == 4
        assert stuck in {"refused", "failed"}
        assert set(others) <= {"loaded", "skipped"}
        assert tools.known(db, files[0])["state"] == "undoing"
    assert tools.load(files[0].parent, db).exit_code == 0
    assert_all_loaded(db, [first, *files])


def test_a_writer_killed_before_an_undo_is_replaced_and_the_file_is_refused(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    with open(files[0], "ab") as file:
        file.write(b"one field too few,,,\n")
    done = load(tmp_path, db, INGEST_FAILPOINT=f"before_undo@{tmp_path / 'fired'}")
    assert (tmp_path / "fired").exists()
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("warning: the writer") == 1
    tools.assert_loaded_once(db, "orders", files[1:])
    columns = "state, committed_bytes, rows_loaded, error_code"
    assert tools.query(db, f"SELECT {columns} FROM ingest_file WHERE path LIKE '%_1.csv'") == [
        ("refused", 0, 0, "over_budget")
    ]
    assert tools.query(db, "SELECT line, applied FROM ingest_reject") == [(9_002, 0)]
