"""Two runs on one database: one loads, the other waits or leaves, and nothing is loaded twice.

`TOGETHER=50 pytest tests/test_two_runs.py -k started_together -o timeout=0` starts two so often on each database.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import killing
import pytest
import tools
from oracle import Database, OnServer, on_server, oracle

from ingest import history, run
from ingest.errors import LeaseHeld
from ingest.mending import mend
from ingest.model import FileState
from ingest.settings import Budget, Settings, parse_type

TOGETHER = int(os.environ.get("TOGETHER", "2"))
"""How often two are started together on each database."""

on_each_database = pytest.mark.parametrize("db", ["sqlite", "postgresql", "mariadb"], indirect=True)

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB", "--progress", "none")


def make(tmp_path: Path) -> list[Path]:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 9_000, first=i * 10_000) for i in range(1, 6)]
    killing.aged(*files)
    return files


@pytest.mark.every_target
def test_a_second_run_leaves_with_its_own_exit_code(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
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


@pytest.mark.every_target
def test_a_second_run_that_waits_finds_everything_loaded(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, first):
        second = tools.start("load", "in", "--to", db, "--wait", "30", *STEPS, cwd=tmp_path)
    assert killing.finish(first)[0] == 0
    code, _, err = killing.finish(second)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)
    runs = tools.query(db, "SELECT state, rows_loaded, files_skipped FROM ingest_run ORDER BY run_id")
    assert runs == [("finished", 45_000, 0), ("finished", 0, 5)]


@pytest.mark.every_target
@pytest.mark.core
def test_a_killed_run_leaves_no_lease_behind(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, first) as found:
        second = tools.start("load", "in", "--to", db, "--wait", "30", *STEPS, cwd=tmp_path)
        killing.kill(found.main)
    killing.finish(first)
    code, _, err = killing.finish(second)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)


@pytest.mark.every_target
def test_databases_beside_each_other_are_loaded_at_the_same_time(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    if not isinstance(db, Path):
        pytest.skip("the lease of a server's database is a row in it")
    other = db.with_name("other.db")
    first = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, first):
        assert tools.load(files[0].parent, other).exit_code == 0
    assert killing.finish(first)[0] == 0
    for loaded in (db, other):
        tools.assert_loaded_once(loaded, "orders", files)


@contextlib.contextmanager
def another(db: Database, number: int) -> Iterator[Database]:
    """A database of the same kind that nobody has seen yet."""
    if isinstance(db, OnServer):
        with on_server(db.server, type(db)) as new:
            yield new
    else:
        assert isinstance(db, Path)
        yield db.with_name(f"{number}.db")


@on_each_database
def test_two_that_are_started_together_load_each_row_once(tmp_path: Path, db: Database) -> None:
    """The first runs of a database, so both find no ledger and no table: each is made once, and each row is there once.

    In turn: one leaves, or waits for the other and finds nothing to do, or has a folder of its own for the same table.
    """
    folders = [
        [tools.orders(tmp_path / f"in{f}" / f"orders_{i}.csv", 400, first=4_000 * f + 400 * i) for i in range(4)]
        for f in range(2)
    ]
    killing.aged(*folders[0], *folders[1])
    first = ["sqlite", "postgresql", "mariadb"].index(oracle(db).kind)  # so that two of each do each way twice
    for number in range(TOGETHER):
        way = ("leaves", "waits", "has its own")[(first + number) % 3]
        wait = () if way == "leaves" else ("--wait", "60")
        with another(db, number) as new:
            typed = [
                ("load", f"in{f}", "--to", new, *wait, "--progress", "none") for f in (0, int(way == "has its own"))
            ]
            both = [tools.start(*words, cwd=tmp_path) for words in typed]
            ended = [killing.finish(one, seconds=100) for one in both]
            codes = sorted(code for code, _, _ in ended)
            assert codes == [0, 0] or (codes == [0, 75] and way == "leaves"), (number, ended)
            for code, out, err in ended:
                assert "Traceback" not in out + err, (number, ended)
                assert code == 0 or "another run is loading" in err
            tools.assert_loaded_once(new, "orders", [*folders[0], *(folders[1] if way == "has its own" else [])])
            runs = tools.query(
                new, "SELECT state, rows_loaded, files_loaded, files_skipped FROM ingest_run ORDER BY 1, 2 DESC"
            )
            second = [("finished", 1_600, 4, 0)] if way == "has its own" else [("finished", 0, 0, 4)]
            assert runs == [("finished", 1_600, 4, 0), *(second if codes == [0, 0] else [])], (number, ended)
            assert tools.query(new, "SELECT table_name FROM ingest_table") == [("orders",)]
            assert oracle(new).tables() == {"orders"}
            assert not oracle(new).leased()
            assert killing.spools(oracle(new).folder) == []


@pytest.mark.every_target
def test_beside_a_load_others_may_look_and_nobody_changes(tmp_path: Path, db: Database) -> None:
    files = make(tmp_path)
    bad = tools.write_csv(tmp_path / "bad.csv", ["id"], [[1], ["x"]])
    tools.load(bad, db, table="t", declared=(parse_type("id=bigint"),), max_rejects=Budget(count=1))
    done = tools.ingest("rejects", "export", "fixed.csv", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fixed = tmp_path / "fixed.csv"
    fixed.write_text(fixed.read_text().replace(",x", ",2"))
    to, spool = str(db), str(oracle(db).folder)
    loading = tools.start("load", "in", "--to", db, *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, loading):
        shown = {Path(row.path).name: row.state.value for row in history.status(to).files}
        assert shown["bad.csv"] == "loaded"
        [begun, *_] = [row.path for row in history.status(to).files if row.state is FileState.STARTED]
        assert any("is at it, or was killed" in sentence for sentence in history.story(to, begun))
        assert [row.state.value for row in history.runs(to)] == ["running", "finished"]
        assert len(list(history.rejects(to))) == 1
        planned = run.plan([str(tmp_path / "in"), str(bad)], Settings(to=to), on_event=lambda event: None)
        assert len(planned.decisions) == len(files) + 1
        assert history.ledger_version(to)[0] is not None
        for change in (
            lambda: history.forget(to, [str(bad)]),
            lambda: mend(fixed, Settings(to=to, spool=spool), tell=lambda *_: None),
            lambda: history.ledger_upgrade(to),
        ):
            with pytest.raises(LeaseHeld):
                change()
        waiting = tools.start("rejects", "load", fixed, "--to", db, "--wait", "60", cwd=tmp_path)
    assert killing.finish(loading)[0] == 0
    code, _, err = killing.finish(waiting, seconds=90)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)
    assert tools.query(db, "SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    tools.assert_counts_add_up(db)
