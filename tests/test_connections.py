"""`--connections N`: files that are put into a server's database at the same time, and those that must not be."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from pathlib import Path

import killing
import pytest
import tools
from oracle import KINDS, OnServer

on_servers = pytest.mark.parametrize("db", KINDS, indirect=True)

STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB")


def make_table(db: OnServer, name: str, more: str = "") -> None:
    """A table as files of orders need it."""
    columns = "id BIGINT, customer VARCHAR(20), amount DOUBLE PRECISION, day DATE, note VARCHAR(80)"
    db.query(f"CREATE TABLE {name} ({columns}{more})")


def load(tmp_path: Path, db: OnServer, connections: int, *more: str) -> subprocess.Popen[str]:
    options = ("--connections", connections, "--progress", "none", *more)
    return tools.start("load", "in", "--to", db, *options, cwd=tmp_path)


def loaded(db: OnServer) -> set[str]:
    """The names of the files that are committed to their end."""
    try:
        found = db.query("SELECT path FROM ingest_file WHERE state = 'loaded'")
    except db.missing:
        return set()
    return {os.path.basename(path) for (path,) in found}


@on_servers
def test_two_files_are_put_in_at_once_while_the_third_waits_for_one_of_them(tmp_path: Path, db: OnServer) -> None:
    files = {name: tools.orders(tmp_path / "in" / f"{name}.csv", 50) for name in ("a", "b", "c")}
    for name in files:
        make_table(db, name)
    with db.shut("a"):
        with db.shut("b"):
            run = load(tmp_path, db, 2, "--workers", "1")
            killing.wait_for(lambda: len(db.waiting()) == 2, "two orders at once")
            assert loaded(db) == set()
        killing.wait_for(lambda: loaded(db) == {"b.csv", "c.csv"}, "the files of the open tables")
        assert len(db.waiting()) == 1
    code, _, err = killing.finish(run)
    assert code == 0, err
    for name, file in files.items():
        tools.assert_loaded_once(db, name, [file])


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
def test_files_of_a_table_with_a_key_are_put_in_one_after_the_other(tmp_path: Path, db: OnServer) -> None:
    folder = tmp_path / "in"
    # With another order of columns, so that they are no bundle.
    tools.write_csv(folder / "a_1.csv", ["id", "note"], [(1, "old"), (2, "two")])
    tools.write_csv(folder / "a_2.csv", ["note", "id"], [("new", 1)])
    tools.write_csv(folder / "b.csv", ["id", "note"], [(1, "one")])
    for name in ("a", "b"):
        db.query(f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, note TEXT)")
    with db.shut("a"):
        run = load(tmp_path, db, 3, "--workers", "1", "--mode", "upsert", "--key", "id")
        killing.wait_for(lambda: loaded(db) == {"b.csv"}, "the file behind them")
        killing.wait_for(lambda: len(db.waiting()) >= 1, "the first of the others")
        assert len(db.waiting()) == 1
    code, _, err = killing.finish(run)
    assert (code, "--connections" in err) == (0, False), err
    assert tools.stored(db, "a", ("id", "note")) == Counter([("1", "new"), ("2", "two")])


@on_servers
def test_rows_find_the_rows_that_they_refer_to_in_the_files_before_them(tmp_path: Path, db: OnServer) -> None:
    folder, count = tmp_path / "in", 400
    tools.write_csv(folder / "a.csv", ["id"], [(i,) for i in range(count)])
    tools.write_csv(folder / "b_1.csv", ["id", "a"], [(i, i) for i in range(count)])
    tools.write_csv(folder / "b_2.csv", ["a", "id", "b"], [(i, count + i, i) for i in range(count)])
    tools.write_csv(folder / "c.csv", ["id", "b"], [(i, count + i) for i in range(count)])
    db.query("CREATE TABLE a (id BIGINT PRIMARY KEY)")
    db.query(
        "CREATE TABLE b (id BIGINT PRIMARY KEY, a BIGINT, b BIGINT,"
        " FOREIGN KEY (a) REFERENCES a (id), FOREIGN KEY (b) REFERENCES b (id))"
    )
    db.query("CREATE TABLE c (id BIGINT, b BIGINT, FOREIGN KEY (b) REFERENCES b (id))")
    report = tools.load(folder, db, connections=3, workers=1)
    assert (report.exit_code, report.rows) == (0, 4 * count), report.files
    assert db.query("SELECT count(*) FROM c JOIN b ON b.id = c.b JOIN a ON a.id = b.a") == [(count,)]


@on_servers
@pytest.mark.parametrize("victim", ["writer", "main"])
def test_a_death_with_three_orders_under_way_loses_and_doubles_nothing(
    tmp_path: Path, db: OnServer, victim: str
) -> None:
    tables = ("a", "b", "c", "d")
    files = {name: tools.orders(tmp_path / "in" / f"{name}.csv", 1_500) for name in tables}
    killing.aged(*files.values())
    for name in tables:
        make_table(db, name, ", _ingest_file_id BIGINT")
    with db.shut("a", "b", "c"):
        run = load(tmp_path, db, 3, "--workers", "1", *STEPS)
        killing.wait_for(lambda: len(db.waiting()) == 3, "three orders at once")
        found = killing.started(run)
        assert found is not None
        killing.kill(found.writer if victim == "writer" else found.main)
        killing.assert_gone((found.writer,) if victim == "writer" else found.all)
    code, _, err = killing.finish(run, 60)
    if victim == "writer":
        assert code == 0, err
        assert err.count("warning: ") == 1
    report = tools.load(tmp_path / "in", db)
    assert (report.exit_code, report.rows > 0) == (0, victim == "main"), report.files
    for name, file in files.items():
        tools.assert_loaded_once(db, name, [file])
    tools.assert_counts_add_up(db)


@on_servers
@pytest.mark.parametrize("place", ["before_advance", "after_commit"])
def test_a_writer_that_dies_among_many_steps_and_refusals_loses_and_doubles_nothing(
    tmp_path: Path, db: OnServer, place: str
) -> None:
    folder = tmp_path / "in"
    good = [tools.orders(folder / f"orders_{i}.csv", 2_500, first=i * 10_000) for i in range(6)]
    bad = tools.orders(folder / "orders_9.csv", 2_500, first=90_000)
    with open(bad, "a") as file:
        file.write("one field too few,,,\n")
    fired = tmp_path / "fired"
    run = tools.ingest(
        *("load", "in", "--to", db, "--connections", 3, "--progress", "none", *STEPS),
        cwd=tmp_path,
        INGEST_FAILPOINT=f"{place}@{fired}",
    )
    assert (run.returncode, fired.exists()) == (4, True), run.stderr
    assert run.stderr.count("warning: the writer") == 1
    assert loaded(db) == {file.name for file in good}
    tools.assert_loaded_once(db, "orders", good)
    tools.assert_counts_add_up(db)
    states = db.query("SELECT state, committed_bytes, rows_loaded FROM ingest_file WHERE path LIKE '%_9.csv'")
    assert states == [("refused", 0, 0)]


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
def test_a_writer_that_dies_at_every_commit_is_replaced_and_not_given_up(tmp_path: Path, db: OnServer) -> None:
    files = {name: tools.orders(tmp_path / "in" / f"{name}.csv", 20) for name in ("a", "b", "c", "d")}
    run = tools.ingest(
        *("load", "in", "--to", db, "--connections", 3, "--progress", "none"),
        cwd=tmp_path,
        INGEST_FAILPOINT="after_commit",
    )
    assert run.returncode == 0, run.stderr
    for name, file in files.items():
        tools.assert_loaded_once(db, name, [file])


@pytest.mark.parametrize("db", ["mariadb"], indirect=True)
def test_an_order_that_kills_its_writer_is_not_excused_by_those_beside_it(tmp_path: Path, db: OnServer) -> None:
    folder = tmp_path / "in"
    good = [tools.orders(folder / f"{name}.csv", 2_500) for name in ("b", "c", "d", "e", "f")]
    bad = tools.orders(folder / "a.csv", 2_500)
    with open(bad, "a") as file:
        file.write("one field too few,,,\n")
    run = tools.ingest(
        *("load", "in", "--to", db, "--connections", 3, "--progress", "none", *STEPS),
        cwd=tmp_path,
        INGEST_FAILPOINT="before_undo",
    )
    assert (run.returncode, run.stderr.count("warning: the writer")) == (1, 3), run.stderr
    assert "the writer died 3 times in a row" in run.stderr
    report = tools.load(folder, db)
    assert report.exit_code == 4
    assert loaded(db) == {file.name for file in good}
    for file in good:
        tools.assert_loaded_once(db, file.stem, [file])
    assert db.query("SELECT count(*) FROM a") == [(0,)]


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
def test_a_key_that_two_files_hold_is_there_once_and_rejected_once(tmp_path: Path, db: OnServer) -> None:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 1_200, first=i * 1_000) for i in range(4)]
    make_table(db, "orders", ", PRIMARY KEY (id)")
    report = tools.load(tmp_path / "in", db, connections=3, max_rejects_run=600, slice_bytes=32 * 1024)
    assert (report.exit_code, report.rows, report.count("loaded")) == (3, 4_200, 4), report.files
    assert db.query("SELECT count(*), count(DISTINCT id) FROM orders") == [(4_200, 4_200)]
    found = db.query("SELECT count(*), count(DISTINCT raw) FROM ingest_reject WHERE applied")
    assert found == [(600, 600)]
    everything = tools.expected(files, ("id",))
    assert {row for row, times in everything.items() if times > 1} == {
        (str(i),) for i in range(1_000, 4_000) if i % 1_000 < 200
    }
    tools.assert_counts_add_up(db)


SLOW = {
    # Of a row whose note is "wait", as of one after the other, until the test lets them go on.
    "postgresql": (
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_lock_shared(7); PERFORM pg_advisory_unlock_shared(7); RETURN NEW; END'",
        "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.note = 'wait') EXECUTE FUNCTION slow()",
    ),
    "mariadb": (
        "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW IF NEW.note = 'wait' THEN"
        " DO GET_LOCK('slow', 60); DO RELEASE_LOCK('slow'); END IF",
    ),
}
HOLD = {"postgresql": "SELECT pg_advisory_lock(7)", "mariadb": "SELECT GET_LOCK('slow', 60)"}
HELD_BACK = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock'",
}


@on_servers
def test_two_files_that_wait_for_each_other_are_tried_again_and_not_lost(tmp_path: Path, db: OnServer) -> None:
    make_table(db, "orders", ", PRIMARY KEY (id)")
    for statement in SLOW[db.kind]:
        db.query(statement)
    # Each has inserted one key when the other one comes to it. They are no bundle, for their columns differ.
    files = [
        tools.write_csv(tmp_path / "in" / "orders_1.csv", ["id", "note"], [(1, ""), (3, "wait"), (2, "")]),
        tools.write_csv(tmp_path / "in" / "orders_2.csv", ["note", "id"], [("", 2), ("wait", 4), ("", 1)]),
    ]
    with contextlib.closing(db.connect()) as connection:
        db.rows(connection, HOLD[db.kind])
        run = load(tmp_path, db, 2, "--workers", "1", "--max-rejects", "2")
        killing.wait_for(lambda: db.query(HELD_BACK[db.kind]) == [(2,)], "both files")
    code, _, err = killing.finish(run, 60)
    assert err.count("warning: ") == 1, err
    assert "deadlock" in err.lower()
    assert code == 3, err
    assert loaded(db) == {file.name for file in files}
    assert db.query("SELECT count(*) FROM ingest_reject WHERE applied") == [(2,)]
    assert db.query("SELECT id FROM orders ORDER BY id") == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("options", [(), ("--mode", "upsert", "--key", "id")], ids=["append", "upsert"])
def test_on_sqlite_more_connections_change_nothing_and_that_is_said(tmp_path: Path, options: tuple[str, ...]) -> None:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 20, first=i * 100) for i in range(2)]
    run = tools.ingest("load", "in", "--to", "x.db", "--connections", 4, *options, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "warning: --connections 4 changes nothing: SQLite has one writer at a time" in run.stderr
    tools.assert_loaded_once(tmp_path / "x.db", "orders", files)


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
def test_with_a_key_and_one_table_more_connections_change_nothing_and_that_is_said(
    tmp_path: Path, db: OnServer
) -> None:
    tools.orders(tmp_path / "in" / "orders.csv", 20)
    options = ("--connections", 4, "--mode", "upsert", "--key", "id")
    run = tools.ingest("load", "in", "--to", db, *options, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "warning: --connections 4 changes nothing: with --mode upsert" in run.stderr
    assert db.query("SELECT count(*) FROM orders") == [(20,)]
