"""Records that break a constraint of the table: rejects as others are, found before anything of their file is kept."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import killing
import pytest
from tools import assert_counts_add_up, ingest, known, load, query, rejects, script, told, write_csv

from ingest.settings import REJECTS_SHOWN, Budget

ANY = Budget(percent=100.0)

TABLES = {
    "unique": "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)",
    "unique index": "CREATE TABLE t (a INTEGER, b TEXT); CREATE UNIQUE INDEX t_a ON t (a)",
    "primary key": "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)",
    "without rowid": "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) WITHOUT ROWID",
    "check": "CREATE TABLE t (a INTEGER CONSTRAINT low CHECK (a < 100), b TEXT)",
    "foreign key": "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3);"
    "CREATE TABLE t (a INTEGER REFERENCES p (a), b TEXT)",
    "deferred foreign key": "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3);"
    "CREATE TABLE t (a INTEGER REFERENCES p (a) DEFERRABLE INITIALLY DEFERRED, b TEXT)",
    "trigger": "CREATE TABLE t (a INTEGER, b TEXT); CREATE TRIGGER g BEFORE INSERT ON t WHEN new.a > 99"
    " BEGIN SELECT raise(ABORT, 'too much'); END",
}
SAID = {
    "unique": "UNIQUE constraint failed: t.a",
    "unique index": "UNIQUE constraint failed: t.a",
    "primary key": "UNIQUE constraint failed: t.a",
    "without rowid": "UNIQUE constraint failed: t.a",
    "check": "CHECK constraint failed: low",
    "foreign key": "FOREIGN KEY constraint failed: (a) REFERENCES p (a)",
    "deferred foreign key": "FOREIGN KEY constraint failed: (a) REFERENCES p (a)",
    "trigger": "a trigger of the table",
}


UNCOUNTED = {
    "unique": "CREATE TABLE t (a INTEGER UNIQUE ON CONFLICT REPLACE, b TEXT)",
    "primary key": "CREATE TABLE t (a INTEGER PRIMARY KEY DESC on/* */conflict -- ;\n replace, b TEXT)",
    "of the table": "CREATE TABLE t (a INTEGER CHECK (a NOT NULL), b TEXT, UNIQUE (a) ON CONFLICT REPLACE)",
    "rollback": "CREATE TABLE t (a INTEGER, b TEXT, UNIQUE (a) ON CONFLICT ROLLBACK)",
    "trigger": "CREATE TABLE t (a INTEGER, b TEXT); CREATE TRIGGER g BEFORE INSERT ON T WHEN new.a > 99"
    " BEGIN SELECT raise(ROLLBACK, 'too much'); END",
}
COUNTED = {
    "other ways": "CREATE TABLE t (a INTEGER UNIQUE ON CONFLICT FAIL, b TEXT)",
    "a default": "CREATE TABLE t (a INTEGER UNIQUE, b TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'UNIQUE')",
    "names": 'CREATE TABLE t (a INTEGER UNIQUE /* ON CONFLICT REPLACE */, b TEXT, "UNIQUE ON CONFLICT REPLACE",'
    " replace, conflict, UNIQUE (a, replace, conflict) -- ON CONFLICT REPLACE\n)",
    "a guard": "CREATE TABLE t (a INTEGER, b TEXT); CREATE TRIGGER g BEFORE DELETE ON t"
    " BEGIN SELECT raise(ROLLBACK, 'no'); END; CREATE TRIGGER h BEFORE INSERT ON t WHEN new.a > 99"
    " BEGIN SELECT raise(ABORT, 'no ROLLBACK'); END",
}


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_a_table_whose_rows_would_go_uncounted_or_end_the_transaction_takes_none(
    data: Path, db: Path, bulk: str, kind: str
) -> None:
    script(db, UNCOUNTED[kind])
    query(db, "INSERT INTO t VALUES (1, 'old')")
    path = write_csv(data / "t.csv", ["a", "b"], [[1, "x"], [2, "y"], [2, "z"]])
    report = load(path, db, bulk=bulk)
    assert told(report) == {"t.csv": ("refused", "columns")}, report.files
    assert ("ROLLBACK" if kind in ("rollback", "trigger") else "ON CONFLICT REPLACE") in report.files[0].sentence
    assert query(db, "SELECT a, b FROM t") == [(1, "old")]


ENDING = {
    "of an upsert": "CREATE TRIGGER g BEFORE UPDATE ON t BEGIN SELECT raise(ROLLBACK, 'no'); END",
    "of another table": "CREATE TABLE s (n INTEGER); INSERT INTO s VALUES (0);"
    " CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE s SET n = new.a; END;"
    " CREATE TRIGGER h BEFORE UPDATE ON s WHEN new.n = 2 BEGIN SELECT raise(ROLLBACK, 'no'); END",
}


@pytest.mark.parametrize("kind", ENDING)
def test_a_trigger_that_ends_the_transaction_refuses_its_file_and_not_the_run(
    data: Path, db: Path, bulk: str, kind: str
) -> None:
    script(db, f"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); {ENDING[kind]}")
    query(db, "INSERT INTO t VALUES (1, 'old')")
    write_csv(data / "t_1.csv", ["a", "b"], [[2 if "another" in kind else 1, "x"]])
    write_csv(data / "t_2.csv", ["a", "b"], [[3, "y"]])
    way: dict[str, Any] = {"mode": "upsert", "key": ("a",), "newest_by": "b"} if "upsert" in kind else {}
    report = load(data, db, bulk=bulk, max_rejects=Budget(count=5), **way)
    assert told(report) == {"t_1.csv": ("refused", "constraint"), "t_2.csv": ("loaded", "new")}
    assert "ends the transaction" in next(file.sentence for file in report.files if file.state == "refused")
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(1, "old"), (3, "y")]
    assert_counts_add_up(db)


@pytest.mark.parametrize("kind", COUNTED)
def test_a_table_that_only_seems_to_replace_its_rows_is_loaded(data: Path, db: Path, bulk: str, kind: str) -> None:
    script(db, COUNTED[kind])
    path = write_csv(data / "t.csv", ["a", "b"], [[1, "x"], [2, "y"]])
    assert told(load(path, db, bulk=bulk)) == {"t.csv": ("loaded", "new")}
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("kind", TABLES)
def test_a_record_that_breaks_a_constraint_is_a_reject_with_its_name_and_place(
    data: Path, db: Path, kind: str, bulk: str
) -> None:
    script(db, TABLES[kind])
    bad = 2 if SAID[kind].startswith("UNIQUE") else 100
    path = write_csv(data / "t_1.csv", ["a", "b"], [[1, "one\nline"], [2, "two"], [bad, "three"], [3, "four"]])
    write_csv(data / "t_2.csv", ["a", "b"], [[3 if bad == 100 else 9, "other"]])
    report = load(data, db, bulk=bulk)
    assert told(report) == {"t_1.csv": ("refused", "over_budget"), "t_2.csv": ("loaded", "new")}
    assert "1 record cannot be loaded" in report.files[-1].sentence + report.files[0].sentence
    [place] = rejects(db)
    assert place == (5, 23, 2, None, "constraint", f"{bad},three", 0)
    assert query(db, "SELECT count(*) FROM t") == [(1,)]
    report = load(path, db, bulk=bulk, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.rejected) == (3, 3, 1)
    assert rejects(db) == [(5, 23, 2, None, "constraint", f"{bad},three", 1)]
    assert query(db, "SELECT message FROM ingest_reject") == [(f"the table refuses it: {SAID[kind]}",)]
    assert query(db, "SELECT a, b FROM t WHERE b <> 'other' ORDER BY a") == [(1, "one\nline"), (2, "two"), (3, "four")]
    assert_counts_add_up(db)
    assert load(path, db, bulk=bulk).count("skipped") == 1


def numbered(rows: Sequence[Sequence[object]]) -> tuple[bytes, list[tuple[int, int, int, str]]]:
    """A file of these rows (a line break in every third), and where the rows are whose number is there already."""
    data, places, seen = b"a,b\n", [], set()
    for number, (a, b) in enumerate(rows):
        text = f'{a},"{b}\n{b}"' if number % 3 == 0 else f"{a},{b}"
        reason = "bad_integer" if not isinstance(a, int) else "constraint" if a in seen else ""
        if reason:
            places.append((data.count(b"\n") + 1, len(data), number, reason))
        seen.add(a)
        data += text.encode() + b"\n"
    return data, places


@pytest.mark.parametrize("name", ["t_1.csv", "t_1.csv.gz"])
def test_refused_rows_of_many_slices_are_placed_in_the_file(data: Path, db: Path, bulk: str, name: str) -> None:
    """Beside rejects that were never staged, in slices of which some have records that are not staged."""
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    rows = [["x" if i % 97 == 5 else i - 400 if i in (700, 701, 1500) else i, f"note {i}"] for i in range(2_000)]
    content, places = numbered(rows)
    data.mkdir()
    (data / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    report = load(data, db, bulk=bulk, slice_bytes=4096, max_rejects=ANY)
    assert report.exit_code == 3, report.files
    assert sorted((r[0], r[1], r[2], r[4]) for r in rejects(db)) == places
    assert len([p for p in places if p[3] == "constraint"]) == 3
    assert query(db, "SELECT count(*) FROM t") == [(2_000 - len(places),)]
    assert_counts_add_up(db)


def test_refused_rows_that_a_transform_reordered_are_the_right_records(
    tmp_path: Path, data: Path, db: Path, bulk: str
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    (tmp_path / "turn.py").write_text("def turn(frame):\n    return frame[frame['a'] != 3].iloc[::-1]\n")
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "first"], [2, "x"], [3, "gone"], [1, "second"]])
    done = ingest(
        *("load", data, "--to", db, "--bulk", bulk, "--max-rejects", "1", "--transform", "turn:turn"), cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    # The transform turned them round, so the record that comes first in the file came second.
    assert rejects(db) == [(2, 4, 0, None, "constraint", "1,first", 1)]
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(1, "second"), (2, "x")]
    assert_counts_add_up(db)


def test_of_two_records_with_one_key_the_second_is_the_reject(data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER, b TEXT, PRIMARY KEY (a, b))")
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "x"], [1, "y"], [1, "x"], [1, "x"]])
    assert load(data, db, bulk=bulk, max_rejects=Budget(count=2)).rows == 2
    assert [r[0] for r in rejects(db)] == [4, 5]
    assert query(db, "SELECT a, b FROM t ORDER BY b") == [(1, "x"), (1, "y")]


def test_one_record_among_bundled_files_refuses_its_file_alone(data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    for number in range(60):
        rows = [[number * 10 + i, "x"] for i in range(3)]
        write_csv(data / f"t_{number}.csv", ["a", "b"], [*rows, rows[1]] if number == 33 else rows)
    report = load(data, db, bulk=bulk)
    assert {name for name, (state, _) in told(report).items() if state != "loaded"} == {"t_33.csv"}
    assert [r[0] for r in rejects(db)] == [5]
    assert query(db, "SELECT count(*) FROM t WHERE a NOT BETWEEN 330 AND 339") == [(177,)]
    assert query(db, "SELECT count(*) FROM t") == [(177,)]


def test_committed_rows_that_the_table_keeps_refuse_their_file_alone(data: Path, db: Path) -> None:
    """A file is over its budget after its first step, and what is there of it cannot be taken back."""
    assert load(write_csv(data / "t_1.csv", ["a", "b"], [[0, "x"]]), db).exit_code == 0
    script(db, "CREATE TRIGGER kept BEFORE DELETE ON t BEGIN SELECT raise(ABORT, 'kept'); END")
    rows = [[i, "x" * 20] for i in range(1, 20_000)]
    path = write_csv(data / "t_2.csv", ["a", "b"], [*rows, ["none", "x"]])
    write_csv(data / "t_3.csv", ["a", "b"], [[30_000, "x"]])
    killing.aged(path)
    report = load(data, db, slice_bytes=1 << 15, commit_bytes=1 << 16)
    states = told(report)
    assert (report.exit_code, states["t_2.csv"], states["t_3.csv"][0]) == (4, ("refused", "over_budget"), "loaded")
    [refused] = [outcome for outcome in report.files if outcome.path == str(path)]
    assert "could not be taken back" in refused.sentence
    assert known(db, path)["state"] == "undoing"
    script(db, "DROP TRIGGER kept")
    write_csv(path, ["a", "b"], rows)
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT count(*), count(DISTINCT a) FROM t") == [(20_001, 20_001)]


def test_a_row_may_refer_to_a_later_one_of_its_file(data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER PRIMARY KEY, up INTEGER REFERENCES t (a))")
    write_csv(data / "t_1.csv", ["a", "up"], [[1, 2], [2, 3], [3, ""], [4, 9]])
    report = load(data, db, bulk=bulk, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.rejected) == (3, 3, 1)
    assert [r[5] for r in rejects(db)] == ["4,9"]
    write_csv(data / "t_2.csv", ["a", "up"], [[5, 6], [6, ""]])
    assert load(data, db, bulk=bulk).rows == 2
    assert query(db, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("late", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["at once", "deferred"])
def test_a_record_that_is_ignored_needs_no_parent(data: Path, db: Path, bulk: str, late: str) -> None:
    script(db, "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1)")
    query(db, f"CREATE TABLE t (a INTEGER PRIMARY KEY, p INTEGER REFERENCES p (a) {late}, c INTEGER CHECK (c > 0))")
    query(db, "INSERT INTO t VALUES (1, 1, 1)")
    path = write_csv(data / "t.csv", ["a", "p", "c"], [[1, 99, 1], [2, 1, 1], [3, 1, -1], [4, 77, 1], [4, 1, 1]])
    report = load(path, db, bulk=bulk, mode="insert-ignore", key=("a",), max_rejects=Budget(count=5))
    assert (report.exit_code, report.rows, report.ignored) == (3, 2, 1), report.files
    assert sorted(r[5] for r in rejects(db)) == ["3,1,-1", "4,77,1"]
    assert query(db, "SELECT a, p FROM t ORDER BY a") == [(1, 1), (2, 1), (4, 1)]
    assert_counts_add_up(db)


@pytest.mark.parametrize(
    ("budget", "state"),
    [
        ({"max_rejects": Budget(count=5)}, "loaded"),
        ({"max_rejects": Budget(count=4)}, "refused"),
        ({"max_rejects": Budget(percent=25.0)}, "loaded"),
        ({"max_rejects": Budget(percent=24.0)}, "refused"),
        ({"max_rejects_run": 5}, "loaded"),
        ({"max_rejects_run": 4}, "refused"),
    ],
    ids=str,
)
def test_the_budget_counts_refused_rows_with_all_others(
    data: Path, db: Path, bulk: str, budget: dict[str, object], state: str
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    rows = [["x" if i in (3, 4) else i // 2 if i in (10, 12, 14) else i, "note"] for i in range(20)]
    write_csv(data / "t_1.csv", ["a", "b"], [["y" if i == 3 else a, b] for i, (a, b) in enumerate(rows)])
    report = load(data, db, bulk=bulk, **budget)
    assert report.files[0].state == state
    assert report.files[0].rejected == 5
    assert query(db, "SELECT count(*) FROM t") == [(15 if state == "loaded" else 0,)]
    assert len(rejects(db)) == 5
    assert {r[6] for r in rejects(db)} == {int(state == "loaded")}
    assert_counts_add_up(db)


def test_the_first_thousand_refused_rows_of_a_refused_file_are_kept(data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    query(db, "INSERT INTO t VALUES (-1, 'there')")
    write_csv(data / "t_1.csv", ["a", "b"], [[-1 if i % 2 else i, "x"] for i in range(2_400)])
    report = load(data, db, bulk=bulk)
    assert report.files[0].sentence.startswith("at least 1,001 records cannot be loaded")
    found = rejects(db)
    assert [r[2] for r in found] == list(range(1, 2 * REJECTS_SHOWN, 2))
    report = load(data, db, bulk=bulk, max_rejects=Budget(count=1_200))
    assert (report.rows, report.rejected) == (1_200, 1_200)
    assert_counts_add_up(db)


@pytest.mark.parametrize("allowed", [0, 1], ids=["over budget", "in budget"])
def test_a_refused_row_after_committed_steps(data: Path, db: Path, bulk: str, allowed: int) -> None:
    """Of a table of ours that somebody gave a key: over budget, all of the file is taken back."""
    path = write_csv(data / "t_1.csv", ["a", "b"], [[i, f"note {i}"] for i in range(3)])
    load(path, db)
    query(db, "CREATE UNIQUE INDEX t_a ON t (a)")
    path = write_csv(data / "t_2.csv", ["a", "b"], [[1 if i == 1_500 else i, f"note {i}"] for i in range(10, 2_000)])
    report = load(path, db, bulk=bulk, slice_bytes=1024, commit_bytes=4096, max_rejects=Budget(count=allowed))
    row = known(db, path)
    assert row["state"] == ("loaded" if allowed else "refused")
    assert row["version"] > 4  # steps were committed before
    assert query(db, "SELECT count(*) FROM t") == [(1_992 if allowed else 3,)]
    assert [(r[2], r[6]) for r in rejects(db)] == [(1_490, allowed)]
    assert report.rows == (1_989 if allowed else 0)
    assert_counts_add_up(db)


@pytest.mark.parametrize(("percent", "state"), [(0.3, "loaded"), (0.2, "refused")])
def test_a_share_is_kept_to_the_record_over_steps(data: Path, db: Path, percent: float, state: str) -> None:
    """However much of the file is read, and ordered, when its first step turns out to hold refused rows."""
    path = write_csv(data / "t_1.csv", ["a", "b"], [[i, "there"] for i in range(5)])
    load(path, db)
    query(db, "CREATE UNIQUE INDEX t_a ON t (a)")
    path = write_csv(data / "t_2.csv", ["a", "b"], [[i, "note"] for i in range(2_000)])
    report = load(path, db, slice_bytes=1024, commit_bytes=4096, max_rejects=Budget(percent=percent))
    assert report.files[0].state == state
    assert query(db, "SELECT count(*) FROM t") == [(2_000 if state == "loaded" else 5,)]
    assert [(r[2], r[6]) for r in rejects(db)] == [(i, int(state == "loaded")) for i in range(5)]
    assert_counts_add_up(db)


def test_a_reload_that_breaks_a_constraint_leaves_the_old_rows(data: Path, db: Path, bulk: str) -> None:
    path = write_csv(data / "t_1.csv", ["a", "b"], [[i, "old"] for i in range(3)])
    killing.aged(path)
    load(path, db)
    query(db, "CREATE UNIQUE INDEX t_a ON t (a)")
    write_csv(path, ["a", "b"], [[0, "new"], [7, "new"], [7, "new"]])
    report = load(path, db, bulk=bulk, on_change="reload")
    assert told(report) == {"t_1.csv": ("refused", "over_budget")}
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(i, "old") for i in range(3)]
    report = load(path, db, bulk=bulk, on_change="reload", max_rejects=Budget(count=1))
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(0, "new"), (7, "new")]
    assert [r[5] for r in rejects(db)] == ["7,new"]
    assert_counts_add_up(db)


@pytest.mark.parametrize("place", ["after_search", "before_advance", "before_commit", "after_commit"])
def test_a_writer_killed_over_refused_rows_loads_the_others_once(
    tmp_path: Path, data: Path, db: Path, bulk: str, place: str
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    write_csv(data / "t_1.csv", ["a", "b"], [[1 if i == 77 else i, "x"] for i in range(200)])
    done = ingest(
        *("load", data, "--to", db, "--bulk", bulk, "--max-rejects", "1"),
        cwd=tmp_path,
        INGEST_FAILPOINT=f"{place}@{tmp_path / 'fired'}",
    )
    assert (tmp_path / "fired").exists()
    assert done.returncode == 3, done.stderr
    assert query(db, "SELECT count(*) FROM t") == [(199,)]
    assert [r[2] for r in rejects(db)] == [77]
    assert_counts_add_up(db)


def test_what_is_told_of_a_refused_row_never_holds_its_values(tmp_path: Path, data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a TEXT UNIQUE, b TEXT CHECK (b <> 'hunter2'))")
    write_csv(data / "t_1.csv", ["a", "b"], [["hunter2", "x"], ["hunter2", "y"], ["z", "hunter2"]])
    log = tmp_path / "log"
    done = ingest("load", data, "--to", db, "--bulk", bulk, "--log-file", log, "-v", cwd=tmp_path)
    assert done.returncode == 4
    assert "hunter2" not in done.stderr + done.stdout + log.read_text()
    # The CHECK's own text, which SQLite gives as its name, is the table's and not the file's.
    assert query(db, "SELECT count(*) FROM ingest_reject WHERE raw LIKE '%hunter2%'") == [(2,)]
    assert query(db, "SELECT message FROM ingest_reject WHERE record = 1") == [
        ("the table refuses it: UNIQUE constraint failed: t.a",)
    ]
