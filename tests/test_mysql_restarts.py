"""MariaDB, where DDL commits by itself: killed between any two statements, a load goes on, and no row is twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import killing
import pytest
import tools
from test_mysql import load, query

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One file of some steps, and two that travel as a bundle."""
    sizes = [9_000, 100, 100]
    made = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", rows, first=i * 10_000) for i, rows in enumerate(sizes)]
    killing.aged(*made)
    return made


def assert_loaded_once(url: str, files: list[Path]) -> None:
    found = query(url, f"SELECT {', '.join(tools.ORDERS)} FROM orders")
    text = (
        tuple(None if v in (None, "") else f"{v:.2f}" if isinstance(v, float) else str(v) for v in r) for r in found
    )
    assert Counter(text) == tools.expected(files, tools.ORDERS)
    [(token, made, state)] = query(url, "SELECT token, made_by_us, state FROM ingest_table")
    assert (made, state) == (1, "ready")
    comment = "SELECT table_comment FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name ="
    assert query(url, f"{comment} 'orders'") == [(f"ingest {token}",)]
    for records, rows, rejected, discarded in query(
        url, "SELECT committed_records, rows_loaded, rows_rejected, rows_discarded FROM ingest_file"
    ):
        assert records == rows + rejected + discarded
    report = load(files[0].parent, url)
    assert (report.exit_code, report.rows, report.count("skipped")) == (0, 0, len(files))


PREPARING = (
    "after_ledger",
    "after_start_run",
    "after_intent",
    "before_create_commit",
    "after_create",
    "before_register_commit",
    "after_register",
)


@pytest.mark.parametrize("place", PREPARING)
def test_a_run_killed_while_it_prepares_is_taken_up_by_the_next(
    tmp_path: Path, mariadb: str, files: list[Path], place: str
) -> None:
    done = tools.ingest("load", "in", "--to", mariadb, *STEPS, cwd=tmp_path, INGEST_FAILPOINT=place)
    assert done.returncode == -9
    assert load(files[0].parent, mariadb).rows == 9_200
    assert_loaded_once(mariadb, files)


@pytest.mark.parametrize("gone", [("ingest_version",), ("ingest_version", "ingest_lease", "ingest_table"), ()])
def test_a_ledger_that_was_half_made_is_finished(
    tmp_path: Path, mariadb: str, files: list[Path], gone: tuple[str, ...]
) -> None:
    # The ledger's tables are made one after the other, the one with its version last, and then its two rows together.
    empty = tools.ingest("load", tools.write_csv(tmp_path / "x.csv", ["a"], []), "--to", mariadb, cwd=tmp_path)
    assert empty.returncode == 0, empty.stderr
    query(mariadb, "DELETE FROM ingest_file", "DELETE FROM ingest_version", "DELETE FROM ingest_lease")
    for name in gone:
        query(mariadb, f"DROP TABLE {name}")
    assert load(files[0].parent, mariadb).rows == 9_200
    assert_loaded_once(mariadb, files)


@pytest.mark.parametrize("place", ["after_add_intent", "after_add"])
def test_a_run_killed_while_it_adds_columns_is_taken_up_by_the_next(
    tmp_path: Path, mariadb: str, files: list[Path], place: str
) -> None:
    assert load(files[0].parent, mariadb).exit_code == 0
    columns = [*tools.ORDERS, "size", "colour"]
    files.append(
        tools.write_csv(tmp_path / "in" / "orders_9.csv", columns, [(1, "c", "2.50", "2024-01-01", "n", 38, "red")])
    )
    done = tools.ingest("load", "in", "--to", mariadb, *STEPS, cwd=tmp_path, INGEST_FAILPOINT=place)
    assert done.returncode == -9
    assert load(files[0].parent, mariadb).rows == 1
    assert query(mariadb, "SELECT size, colour, count(*) FROM orders GROUP BY 1, 2 ORDER BY 1") == [
        (None, None, 9_200),
        (38, "red", 1),
    ]
    assert_loaded_once(mariadb, files)


@pytest.mark.parametrize("place", ["before_advance", "before_commit", "after_commit"])
def test_a_writer_killed_around_its_commit_loads_once(
    tmp_path: Path, mariadb: str, files: list[Path], place: str, bulk: str
) -> None:
    at = f"{place}@{tmp_path / 'fired'}"
    done = tools.ingest("load", "in", "--to", mariadb, *STEPS, "--bulk", bulk, cwd=tmp_path, INGEST_FAILPOINT=at)
    assert (tmp_path / "fired").exists()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert_loaded_once(mariadb, files)


@pytest.mark.parametrize("place", ["before_advance", "before_commit", "after_commit"])
def test_a_run_whose_writer_dies_each_time_is_taken_up_by_the_next(
    tmp_path: Path, mariadb: str, files: list[Path], place: str
) -> None:
    done = tools.ingest("load", "in", "--to", mariadb, *STEPS, cwd=tmp_path, INGEST_FAILPOINT=place)
    assert done.returncode == (0 if place == "after_commit" else 1), done.stderr
    assert load(files[0].parent, mariadb).exit_code == 0
    assert_loaded_once(mariadb, files)


def test_a_killed_undo_is_finished_by_the_next_run(tmp_path: Path, mariadb: str, files: list[Path]) -> None:
    good = files[0].read_bytes()
    files[0].write_bytes(good + b"one field too few,,,\n")
    done = tools.ingest("load", "in", "--to", mariadb, *STEPS, cwd=tmp_path, INGEST_FAILPOINT="before_undo")
    assert done.returncode == 1
    assert query(mariadb, "SELECT state FROM ingest_file WHERE path LIKE '%orders_0.csv'") == [("undoing",)]
    files[0].write_bytes(good)
    killing.aged(files[0])
    assert load(files[0].parent, mariadb).exit_code == 0
    assert_loaded_once(mariadb, files)
