"""`plan` says what `load` would do, and leaves no byte behind: not in the database, not beside it, not in the data."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from killing import assert_gone, finish, held_midway, kill
from tools import expected, ingest, load, orders, query, start, stored, told, write_csv

from ingest.errors import LeaseHeld
from ingest.reports import Plan
from ingest.run import plan as run_plan
from ingest.settings import Settings
from ingest.targets import target_for


def plan(paths: Path | list[Path], db: Path, **settings: object) -> Plan:
    listed = [paths] if isinstance(paths, Path) else paths
    return run_plan(listed, Settings(to=str(db), workers=2, **settings))  # type: ignore[arg-type]


def picture(*folders: Path) -> dict[str, tuple[str, int, int]]:
    """Every file below: its content, its inode and its time."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            found[str(path)] = (digest, status.st_ino, status.st_mtime_ns)
    return found


def decided(what: Plan) -> dict[str, tuple[str, str]]:
    return {os.path.basename(d.source.path): (d.action.value, d.code.value) for d in what.decisions}


WORDS = {"loaded": ("load", "reload", "resume"), "skipped": ("skip",), "refused": ("refuse",), "failed": ("refuse",)}


def assert_load_does(what: Plan, folder: Path, db: Path, **settings: object) -> None:
    """A load of the same ends as the plan said."""
    ended = told(load(folder, db, **settings))
    planned = decided(what)
    assert {name: code for name, (_, code) in ended.items()} == {name: code for name, (_, code) in planned.items()}
    for name, (state, _) in ended.items():
        assert planned[name][0] in WORDS[state], name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_the_plan_of_a_new_database_makes_none(data: Path, db: Path) -> None:
    orders(data / "orders_1.csv", 10)
    write_csv(data / "empty.csv", ["a"], [])
    (data / "bad.csv").write_bytes("a,b\n1,ä\n".encode("utf-16")[:-1])
    before = picture(data, db.parent)
    what = plan(data, db)
    assert picture(data, db.parent) == before
    assert what.new
    assert decided(what) == {
        "bad.csv": ("refuse", "encoding"),
        "empty.csv": ("load", "no_records"),
        "orders_1.csv": ("load", "new"),
    }
    tables = {str(t.table): t for t in what.tables}
    assert all(tables[name].shape is None for name in ("empty", "bad"))  # for a load makes none of them
    shape = tables["orders"].shape
    assert shape is not None
    assert not tables["orders"].exists
    assert [(c.name, c.type.value) for c in shape.columns] == [
        ("id", "bigint"),
        ("customer", "text"),
        ("amount", "double"),
        ("day", "date"),
        ("note", "text"),
        ("_ingest_file_id", "bigint"),
    ]
    assert_load_does(what, data, db)


def test_every_decision_is_planned_as_it_is_done_and_nothing_is_written(data: Path, db: Path) -> None:
    names = ("same", "touched", "changed", "moved", "emptied", "unreadable", "vanished", "mended", "old", "grown")
    for i, name in enumerate(names):
        write_csv(data / f"{name}.csv", ["id", "n"], [[i * 10 + k, k] for k in range(3)])
    write_csv(data / "mended.csv", ["id", "n"], [[1, 1], [2]])
    write_csv(data / "lost" / "lost.csv", ["id", "n"], [[1, 1]])
    query(db, "CREATE TABLE their (id INTEGER, n INTEGER)")
    load(data, db, table="t", exclude=("lost",))
    load(data / "lost", db)
    query(db, "DROP TABLE lost")
    os.utime(data / "touched.csv", (1_600_000_000, 1_600_000_000))
    write_csv(data / "changed.csv", ["id", "n"], [[500, 1]])
    with (data / "grown.csv").open("a") as file:
        file.write("900,1\n")
    (data / "moved.csv").rename(data / "renamed.csv")
    (data / "emptied.csv").write_bytes(b"")
    (data / "unreadable.csv").write_bytes(b"\xff\xfei\0d")
    (data / "vanished.csv").unlink()
    write_csv(data / "mended.csv", ["id", "n"], [[1, 1], [2, 2]])
    shutil.copy(data / "old.csv", data / "copy.csv")
    write_csv(data / "new.csv", ["id", "n", "more"], [[600, 1, "x"]])
    write_csv(data / "strange.csv", ["x", "y"], [[1, 2]])
    for settings in (
        {"exclude": ("lost",), "table": "t"},
        {"exclude": ("lost",), "table": "t", "on_change": "skip", "on_duplicate": "skip"},
        {"exclude": ("lost",), "table": "t", "on_change": "reload", "on_duplicate": "load", "new_columns": "ignore"},
        {"exclude": ("lost",), "table": "t", "on_change": "append-tail"},
        {"include": ("lost/*.csv",)},
        {"include": ("lost/*.csv",), "on_lost": "reload"},
        {"include": ("new.csv",), "table": "their"},
        {"exclude": ("lost",), "table": "t", "min_age": 3600.0},
    ):
        copy = db.with_name("copy.db")
        shutil.copy(db, copy)
        before = picture(data, db.parent)
        what = plan(data, copy, **settings)
        assert picture(data, db.parent) == before
        assert_load_does(what, data, copy, **settings)
        copy.unlink()
    tails = plan(data, db, exclude=("lost",), table="t", on_change="append-tail")
    assert decided(tails)["grown.csv"] == ("resume", "grown")
    assert decided(tails)["changed.csv"] == ("refuse", "changed")
    assert set(decided(plan(data, db, exclude=("lost",), table="t")).values()) >= {
        ("skip", "same_content"),
        ("refuse", "changed"),
        ("skip", "moved"),
        ("refuse", "encoding"),
        ("load", "retry"),
        ("refuse", "duplicate"),
        ("load", "new"),
        ("refuse", "columns"),
    }


def test_a_part_loaded_file_is_planned_to_be_resumed(data: Path, db: Path, tmp_path: Path) -> None:
    path = orders(data / "orders_1.csv", 12_000)
    sizes = ("--slice-bytes", "16KiB", "--commit-bytes", "32KiB")
    run = start("load", data, "--to", db, "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with held_midway(db, run) as found:
        kill(*found.all)
        assert_gone(found.all)
    finish(run)
    before = picture(data, db.parent)
    what = plan(data, db)
    assert picture(data, db.parent) == before
    assert decided(what) == {"orders_1.csv": ("resume", "part_loaded")}
    (committed,) = query(db, "SELECT committed_bytes FROM ingest_file")
    assert what.decisions[0].from_bytes == committed[0]
    assert_load_does(what, data, db)
    assert stored(db, "orders", ["id"]) == expected([path], ["id"])


def test_a_hot_journal_stays_as_it_is(data: Path, db: Path) -> None:
    """What a crash left is for the next load to mend: a plan sees the database as that will, and mends nothing."""
    path = orders(data / "orders_1.csv", 2_000)
    load(data, db)
    hot = _with_hot_journal(db)
    before = picture(hot.parent, data)
    what = plan(data, hot)
    assert decided(what) == {"orders_1.csv": ("skip", "same_content")}
    shown = ingest("status", "--to", hot, cwd=data)
    assert shown.returncode == 0, shown.stderr
    assert "orders" in shown.stdout
    assert picture(hot.parent, data) == before
    assert load(data, hot).exit_code == 0
    assert stored(hot, "orders", ["id"]) == expected([path], ["id"])


def _with_hot_journal(db: Path) -> Path:
    """A copy of the database as a process that was killed while it committed leaves it."""
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA cache_size = 5")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE orders SET note = 'half', customer = 'half'")
    folder = db.parent.with_name("hot")
    folder.mkdir()
    hot = Path(shutil.copy(db, folder / "test.db"))
    shutil.copy(f"{db}-journal", f"{hot}-journal")
    connection.execute("ROLLBACK")
    connection.close()
    assert hot.read_bytes() != db.read_bytes()
    return hot


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE theirs (a)")
connection.execute("INSERT INTO theirs VALUES (1)")
print("ready", flush=True)
sys.stdin.read()
connection.close()
"""


@pytest.mark.parametrize("state", ["closed", "open", "killed"])
def test_a_database_in_wal_mode_stays_as_it_is(data: Path, db: Path, state: str) -> None:
    orders(data / "orders_1.csv", 100)
    load(data, db)
    # Not in this process: reading the file would take the locks of its own connections away.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    if state == "killed":
        holder.kill()
    if state != "open":
        holder.communicate()
    # The index of the log is SQLite's scratch paper: what counts is that it is there before and after, or neither.
    scratch = f"{db}-shm"
    before = picture(db.parent, data)
    assert decided(plan(data, db)) == {"orders_1.csv": ("skip", "same_content")}
    assert ingest("status", "--to", db, cwd=data).returncode == 0
    after = picture(db.parent, data)
    assert (scratch in before) == (scratch in after) == (state != "closed")
    before.pop(scratch, None)
    after.pop(scratch, None)
    assert after == before
    if state == "open":
        holder.communicate()
    assert query(db, "SELECT a FROM theirs") == [(1,)]


def test_a_plan_can_be_made_while_a_run_is_active(data: Path, db: Path) -> None:
    orders(data / "orders_1.csv", 10)
    load(data, db)
    orders(data / "orders_2.csv", 10, first=10)
    with target_for(f"sqlite:///{db}").lease(0):
        assert decided(plan(data, db))["orders_2.csv"] == ("load", "new")
        with pytest.raises(LeaseHeld):
            load(data, db)


def test_the_plan_shows_what_would_become_of_a_table(data: Path, db: Path) -> None:
    query(db, "CREATE TABLE their (a INTEGER PRIMARY KEY, b TEXT)")
    write_csv(data / "ours_1.csv", ["a", "b"], [[1, "007"]])
    load(data, db)
    write_csv(data / "ours_2.csv", ["a", "c"], [[2, "1.50"], [3, "2.25"]])
    write_csv(data / "their_1.csv", ["a"], [[1]])
    tables = {str(t.table): t for t in plan(data, db).tables}
    assert tables["ours"].added == ("c",)
    ours = tables["ours"].shape
    assert ours is not None
    assert [(c.name, c.type.value) for c in ours.columns][:3] == [("a", "bigint"), ("b", "text"), ("c", "double")]
    assert any("one transaction" in note for note in tables["their"].notes)
    assert any("primary key" in note for note in tables["their"].notes)


def test_the_plan_of_nothing_is_empty(data: Path, db: Path) -> None:
    what = plan(data, db)
    assert (what.decisions, what.tables, what.new) == ((), (), True)
    assert not db.exists()
