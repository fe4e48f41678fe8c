"""`--mode replace` (design D19): the table becomes what the files hold, at one moment, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import killing
import ledger_tools
import pytest
from oracle import Database, oracle
from tools import (
    assert_counts_add_up,
    assert_loaded_once,
    expected,
    ingest,
    known,
    load,
    query,
    rejects,
    script,
    start,
    stored,
    told,
    write_csv,
)

from ingest import ledger, preparing
from ingest.errors import FenceError
from ingest.run import plan
from ingest.settings import Budget, Settings
from ingest.targets import target_for

COLUMNS = ("id", "note")
STEPS = {"slice_bytes": 2_000, "commit_bytes": 6_000}


def make(data: Path, word: str, *sizes: int) -> list[Path]:
    """Files whose rows all say `word`."""
    files = [
        write_csv(data / f"t_{number}.csv", COLUMNS, [[number * 10_000 + i, f"{word} {i}"] for i in range(size)])
        for number, size in enumerate(sizes, start=1)
    ]
    killing.aged(*files)
    return files


def assert_is(db: Database, files: list[Path]) -> None:
    """The table holds the files and nothing else, the ledger says so, and nothing is left of the way there."""
    assert_loaded_once(db, "t", files, COLUMNS)
    assert "t_ingest_new" not in oracle(db).tables()
    assert query(db, "SELECT table_name FROM ingest_table") == [("t",)]
    rows = query(db, "SELECT path, table_name, state FROM ingest_file ORDER BY path")
    assert rows == sorted((str(path.resolve()), "t", "loaded") for path in files)
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("made_by", ["us", "the user"])
def test_the_table_becomes_what_the_files_hold(data: Path, db: Database, bulk: str, made_by: str) -> None:
    if made_by == "the user":
        query(db, "CREATE TABLE t (id INTEGER, note TEXT)")
        query(db, "INSERT INTO t VALUES (1, 'before')")
    old = make(data, "old", 1_500, 20, 5)
    assert load(data, db, bulk=bulk).rows == 1_525
    old[2].unlink()
    new = make(data, "new", 20, 1_800)
    report = load(data, db, mode="replace", bulk=bulk, **STEPS)
    assert (report.exit_code, report.rows) == (0, 1_820), report.files
    assert_is(db, new)
    assert query(db, "SELECT DISTINCT mode FROM ingest_file") == [("replace",)]
    # Unchanged, it is a no-op, also where only a time has changed; and a file more or less is none.
    os.utime(new[0])
    again = load(data, db, mode="replace", bulk=bulk)
    assert (again.exit_code, again.rows, again.count("skipped")) == (0, 0, 2)
    new[0].unlink()
    assert load(data, db, mode="replace", bulk=bulk, **STEPS).rows == 1_800
    assert_is(db, new[1:])
    # What is appended afterwards is known as ever.
    assert load(data, db, bulk=bulk).rows == 0
    more = write_csv(data / "t_9.csv", COLUMNS, [[9, "more"]])
    assert load(data, db, bulk=bulk).rows == 1
    assert_loaded_once(db, "t", [new[1], more], COLUMNS)


def test_a_new_table_is_filled_and_other_tables_stay(data: Path, db: Path, bulk: str) -> None:
    other = write_csv(data / "u.csv", COLUMNS, [[1, "u"]])
    load(other, db)
    other.unlink()
    files = make(data, "first", 30, 3)
    assert load(data, db, mode="replace", bulk=bulk).rows == 33
    assert stored(db, "t", COLUMNS) == expected(files, COLUMNS)
    assert query(db, "SELECT count(*) FROM u") == [(1,)]


def test_files_without_records_empty_the_table(data: Path, db: Path) -> None:
    make(data, "old", 5)
    load(data, db)
    write_csv(data / "t_1.csv", COLUMNS, [])
    report = load(data, db, mode="replace")
    assert report.exit_code == 0, report.files
    assert query(db, "SELECT count(*) FROM t") == [(0,)]
    assert load(write_csv(data / "v.csv", COLUMNS, []), db, mode="replace").exit_code == 0


def test_what_hangs_on_the_table_stays(data: Path, db: Path, bulk: str) -> None:
    """Its definition, indexes, views and triggers, and the rows of others that point to it."""
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, note VARCHAR(20) NOT NULL CHECK (note <> ''),"
        ' up INTEGER REFERENCES "T" (id),'
        " twice AS (2 * id), own TEXT DEFAULT 'mine'); CREATE UNIQUE INDEX by_note ON t (note);"
        "CREATE VIEW v AS SELECT count(*) AS n FROM t;"
        "CREATE TABLE child (id INTEGER REFERENCES t (id));"
        "CREATE TABLE log (n); CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END;"
        "INSERT INTO t (id, note) VALUES (1, 'old'), (2, 'gone'); INSERT INTO child VALUES (1); DELETE FROM log",
    )
    before = query(db, "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'ingest%' ORDER BY name")
    path = write_csv(data / "t_1.csv", ["id", "note", "up"], [[1, "new", 3], [3, "third", ""]])
    report = load(data, db, mode="replace", bulk=bulk)
    assert report.exit_code == 0, (report.files, report.warnings)
    assert query(db, "SELECT id, note, up, twice, own FROM t ORDER BY id") == [
        (1, "new", 3, 2, "mine"),
        (3, "third", None, 6, "mine"),
    ]
    after = query(
        db,
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'ingest%' AND tbl_name NOT LIKE 'ingest%'"
        " ORDER BY name",
    )
    assert [row for row in before if row in after] == before
    assert query(db, "SELECT n FROM v") == [(2,)]
    assert query(db, "SELECT n FROM log ORDER BY n") == [(1,), (3,)]
    assert query(db, "PRAGMA foreign_key_check") == []
    # Rows that others need cannot go: the table stays as it was, until they can.
    write_csv(path, ["id", "note", "up"], [[3, "third", ""]])
    report = load(data, db, mode="replace", bulk=bulk)
    assert report.exit_code == 4
    assert "the table t is as it was" in report.warnings[0]
    assert query(db, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]
    query(db, "DELETE FROM child")
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 0
    assert query(db, "SELECT id FROM t") == [(3,)]


def test_numbers_go_on_where_the_files_have_none(data: Path, db: Path, bulk: str) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT);"
        " INSERT INTO t (note) VALUES ('a'), ('b'), ('c')",
    )
    write_csv(data / "t_1.csv", ["note"], [["x"], ["y"]])
    write_csv(data / "t_2.csv", ["id", "note"], [[1, "z"]])
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 0
    assert query(db, "SELECT id, note FROM t ORDER BY id") == [(1, "z"), (4, "x"), (5, "y")]
    query(db, "INSERT INTO t (note) VALUES ('own')")
    assert query(db, "SELECT id FROM t WHERE note = 'own'") == [(6,)]
    # Some of an interrupted attempt have theirs already.
    write_csv(data / "t_1.csv", ["note"], [["v"], ["w"]])
    second = write_csv(data / "t_2.csv", ["id", "note"], [["one", "z"]])
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 4
    write_csv(second, ["note"], [["u"]])
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 0
    assert query(db, "SELECT id, note FROM t ORDER BY id") == [(7, "v"), (8, "w"), (9, "u")]
    assert query(db, "SELECT name FROM sqlite_sequence WHERE name LIKE 't%'") == [("t",)]


def test_rows_of_others_are_not_deleted_along(data: Path, db: Path) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO t VALUES (1, 'a');"
        "CREATE TABLE child (id INTEGER REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (1)",
    )
    write_csv(data / "t_1.csv", COLUMNS, [[1, "b"]])
    report = load(data, db, mode="replace")
    assert told(report) == {"t_1.csv": ("refused", "constraint")}
    assert "child" in report.files[0].sentence
    assert (query(db, "SELECT note FROM t"), query(db, "SELECT id FROM child")) == ([("a",)], [(1,)])


def test_a_record_that_breaks_a_constraint_is_a_reject_with_its_place(data: Path, db: Path, bulk: str) -> None:
    script(db, "CREATE TABLE t (id INTEGER, note TEXT); CREATE UNIQUE INDEX i ON t (id); INSERT INTO t VALUES (1, 'x')")
    write_csv(data / "t_1.csv", COLUMNS, [[1, "a"], [2, "b"], [2, "c"]])
    report = load(data, db, mode="replace", bulk=bulk, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows) == (3, 2)
    assert [(r[0], r[5], r[6]) for r in rejects(db)] == [(4, "2,c", 1)]
    assert query(db, "SELECT id, note FROM t ORDER BY id") == [(1, "a"), (2, "b")]
    assert query(db, "SELECT DISTINCT table_name FROM ingest_reject") == [("t",)]
    assert_counts_add_up(db)


# not all files


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_only_if_every_file_is_loaded_and_the_loaded_ones_are_not_read_again(
    data: Path, db: Database, bulk: str
) -> None:
    old = make(data, "old", 10, 10, 10)
    load(data, db)
    before = stored(db, "t", COLUMNS)
    new = make(data, "new", 900, 8, 8)
    good = new[1].read_bytes()
    new[1].write_bytes(good + b"one field too few\n")
    report = load(data, db, mode="replace", bulk=bulk, **STEPS)
    assert report.exit_code == 4
    assert told(report)["t_2.csv"] == ("refused", "over_budget")
    assert "the table t is as it was: 1 of 3 files" in report.warnings[0]
    assert stored(db, "t", COLUMNS) == before
    assert known_states(db, "t") == ["loaded"] * 3
    shown = ingest("status", "--to", db, cwd=data)
    assert "t_ingest_new" in shown.stdout
    assert "t_2.csv" in shown.stdout
    # In the meantime one that waits has changed, and one has gone.
    new[1].write_bytes(good)
    write_csv(new[0], COLUMNS, [[1, "newer"]])
    new[2].unlink()
    killing.aged(*new[:2])
    report = load(data, db, mode="replace", bulk=bulk, **STEPS)
    assert (report.exit_code, report.rows) == (0, 9), report.files
    assert_is(db, new[:2])
    assert old[2] == new[2]


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_run_that_was_taken_over_drops_no_staging_table(data: Path, db: Database) -> None:
    make(data, "old", 4)
    load(data, db)
    write_csv(data / "t_2.csv", COLUMNS, [[1]])
    assert load(data, db, mode="replace").exit_code == 4  # t_1.csv waits in the staging table
    target = target_for(str(db) if not isinstance(db, Path) else f"sqlite:///{db}")
    try:
        stale = ledger_tools.start(target.engine)
        with target.begin() as connection:
            assert ledger.take_over(connection) == [stale]
        staging = target.table_of("t_ingest_new")
        before = query(db, "SELECT count(*) FROM t_ingest_new"), known_states(db, "t_ingest_new")
        assert len(before[1]) == 2
        with pytest.raises(FenceError):
            preparing.drop_staging(target, stale, staging)
        assert (query(db, "SELECT count(*) FROM t_ingest_new"), known_states(db, "t_ingest_new")) == before
        live = ledger_tools.start(target.engine)
        preparing.drop_staging(target, live, staging)
        assert known_states(db, "t_ingest_new") == []
    finally:
        target.close()


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_file_that_is_equal_to_another_is_left_out(data: Path, db: Database, bulk: str) -> None:
    make(data, "old", 4)
    load(data, db)
    first = write_csv(data / "t_1.csv", COLUMNS, [[1, "new"]])
    second = write_csv(data / "t_2.csv", COLUMNS, [[1, "new"]])
    killing.aged(first, second)
    options = {"mode": "replace", "on_duplicate": "skip", "bulk": bulk}
    report = load(data, db, **options)
    assert (report.exit_code, report.rows) == (0, 1), report.warnings
    assert told(report)["t_2.csv"] == ("skipped", "duplicate")
    assert_is(db, [first])
    report = load(data, db, **options)
    assert (report.exit_code, report.rows) == (0, 0)
    assert told(report) == {"t_1.csv": ("skipped", "loaded"), "t_2.csv": ("skipped", "duplicate")}
    # Where the one that is in the table changes or goes, the other is in it.
    write_csv(first, COLUMNS, [[2, "newer"]])
    killing.aged(first)
    assert load(data, db, **options).exit_code == 0
    assert_is(db, [first, second])


def known_states(db: Database, table: str) -> list[str]:
    return [state for (state,) in query(db, "SELECT state FROM ingest_file WHERE table_name = ?", table)]


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_the_staging_table_is_made_anew_where_the_table_has_changed(data: Path, db: Database, bulk: str) -> None:
    query(db, "CREATE TABLE t (id INTEGER, note TEXT)")
    files = make(data, "new", 4, 4)
    good = files[1].read_bytes()
    files[1].write_bytes(good + b"x\n")
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 4
    query(db, "CREATE UNIQUE INDEX i ON t (id)")
    files[1].write_bytes(good)
    killing.aged(*files)
    report = load(data, db, mode="replace", bulk=bulk)
    assert (report.exit_code, report.rows) == (0, 8)  # the file that waited was read again
    assert_is(db, files)


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_column_more_is_added_to_both(data: Path, db: Database, bulk: str) -> None:
    make(data, "old", 4)
    load(data, db)
    first = write_csv(data / "t_1.csv", COLUMNS, [[1, "new"]])
    second = write_csv(data / "t_2.csv", COLUMNS, [[2]])
    assert load(data, db, mode="replace", bulk=bulk).exit_code == 4
    write_csv(second, [*COLUMNS, "size"], [[2, "new", 38]])
    killing.aged(first, second)
    report = load(data, db, mode="replace", bulk=bulk)
    assert (report.exit_code, report.rows) == (0, 1), report.files
    assert query(db, "SELECT id, note, size FROM t ORDER BY id") == [(1, "new", None), (2, "new", 38)]
    assert known(db, first)["state"] == "loaded"


def test_a_table_in_the_way_is_not_touched(data: Path, db: Path) -> None:
    query(db, "CREATE TABLE t_ingest_new (id INTEGER)")
    query(db, "INSERT INTO t_ingest_new VALUES (7)")
    make(data, "new", 4)
    report = load(data, db, mode="replace")
    assert told(report) == {"t_1.csv": ("refused", "columns")}
    assert query(db, "SELECT id FROM t_ingest_new") == [(7,)]


def test_a_plan_says_what_is_replaced_and_writes_nothing(data: Path, db: Path) -> None:
    make(data, "old", 4)
    load(data, db)
    content = db.read_bytes()
    settings = Settings(to=str(db), workers=2, mode="replace")
    assert [d.action for d in plan([str(data)], settings).decisions] == ["skip"]
    make(data, "new", 4, 4)
    what = plan([str(data)], settings)
    assert [(d.action, d.sentence) for d in what.decisions] == [("load", "it will replace what is in t")] * 2
    assert db.read_bytes() == content


# killed


PLACES = [
    *("after_staging_intent", "after_staging", "after_register", "before_commit", "after_commit"),
    *("before_replace", "before_replace_commit", "after_replace", "before_drop_commit"),
]


OF_MAIN = ("after_staging_intent", "after_staging", "after_register", "before_drop_commit")


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere_readers_see_the_old_rows_or_the_new(
    tmp_path: Path, data: Path, db: Database, place: str
) -> None:
    make(data, "old", 10, 10, 10)
    load(data, db)
    before = stored(db, "t", COLUMNS)
    new = make(data, "new", 900, 8, 8)
    after = expected(new, COLUMNS)
    steps = ("--slice-bytes", "2000", "--commit-bytes", "6000")
    for environment in (
        {"INGEST_FAILPOINT": f"{place}@{tmp_path / 'fired'}"},
        {"INGEST_FAILPOINT": f"{place}@{tmp_path / 'again'}"},
        {},
    ):
        done = ingest("load", data, "--to", db, "--mode", "replace", *steps, cwd=tmp_path, **environment)
        assert stored(db, "t", COLUMNS) in (before, after)
        if place in OF_MAIN and "again" not in str(environment):
            assert done.returncode == (-9 if environment else 0)
    assert (tmp_path / "fired").exists()
    assert_is(db, new)


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_killed_midway_it_goes_on_with_the_same_staging_table(tmp_path: Path, data: Path, db: Database) -> None:
    make(data, "old", 10)
    load(data, db)
    new = make(data, "new", 20_000)
    steps = ("--slice-bytes", "16KiB", "--commit-bytes", "48KiB")
    run = start("load", data, "--to", db, "--mode", "replace", "--progress", "none", *steps, cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        killing.kill(*found.all)
        killing.assert_gone(found.all)
    killing.finish(run)
    [(token,)] = query(db, "SELECT token FROM ingest_table WHERE replaces = 't'")
    [(rows,)] = query(db, "SELECT count(*) FROM t_ingest_new")
    assert 0 < rows < 20_000
    assert query(db, "SELECT count(*) FROM t") == [(10,)]
    done = ingest(
        "load", data, "--to", db, "--mode", "replace", *steps, cwd=tmp_path, INGEST_FAILPOINT="before_replace"
    )
    assert done.returncode == 1
    assert query(db, "SELECT token FROM ingest_table WHERE replaces = 't'") == [(token,)]
    report = load(data, db, mode="replace")
    assert (report.exit_code, report.rows) == (0, 0)  # all of it was there
    assert_is(db, new)
