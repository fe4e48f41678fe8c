"""Two runs on one database: one loads, the other waits or leaves, and nothing is loaded twice."""

from __future__ import annotations

from pathlib import Path

import killing
import pytest
import tools
from oracle import Database

from ingest.errors import LeaseHeld

pytestmark = pytest.mark.every_target

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB", "--progress", "none")


def make(tmp_path: Path) -> list[Path]:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 9_000, first=i * 10_000) for i in range(1, 6)]
    killing.aged(*files)
    return files


def test_a_second_run_leaves_with_its_own_exit_code(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path)
    with killing.held_midway(db, first):
        second = tools.ingest("load", "in", "--to", db, cwd=tmp_path)
        assert second.returncode == 75
        assert "another run is loading" in second.stderr
        assert "--wait" in second.stderr
        with pytest.raises(LeaseHeld):
            tools.load(files[0].parent, db)
    assert killing.finish(first)[0] == 0
    tools.assert_loaded_once(db, "orders", files)
    assert tools.query(db, "SELECT count(*) FROM ingest_run") == [(1,)]


def test_a_second_run_that_waits_finds_everything_loaded(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path)
    with killing.held_midway(db, first):
        second = tools.start("load", "in", "--to", db, "--wait", "30", *STEPS, cwd=tmp_path)
    assert killing.finish(first)[0] == 0
    code, _, err = killing.finish(second)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)
    runs = tools.query(db, "SELECT state, rows_loaded, files_skipped FROM ingest_run ORDER BY run_id")
    assert runs == [("finished", 45_000, 0), ("finished", 0, 5)]


@pytest.mark.core
def test_a_killed_run_leaves_no_lease_behind(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path)
    with killing.held_midway(db, first) as found:
        second = tools.start("load", "in", "--to", db, "--wait", "30", *STEPS, cwd=tmp_path)
        killing.kill(found.main)
    killing.finish(first)
    code, _, err = killing.finish(second)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)


def test_databases_beside_each_other_are_loaded_at_the_same_time(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    if not isinstance(db, Path):
        pytest.skip("the lease of a server's database is a row in it")
    other = db.with_name("other.db")
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path)
    with killing.held_midway(db, first):
        assert tools.load(files[0].parent, other).exit_code == 0
    assert killing.finish(first)[0] == 0
    for loaded in (db, other):
        tools.assert_loaded_once(loaded, "orders", files)
