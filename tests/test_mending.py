"""Rejects out, mended, and back again: each is closed once, with its row, or stays open with its reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from killing import finish
from oracle import Database, oracle
from tools import assert_counts_add_up, ingest, known, load, query, start, write_csv

from ingest import rejectfile
from ingest.errors import UsageError
from ingest.history import exported
from ingest.mending import MendReport, mend
from ingest.settings import Budget, Settings, parse_type

Row = list[str]

GOOD = b"id,n,note\n0,0,first\n"
BAD = (
    b'1,x,wrong number\n2,2,too,many\n3,3\n4,4,"said "no" to it"\n5,5,caf\xe9\n6,6,a\0b\n7,y,"two\nlines, ""quoted"""\n'
)
MENDED: dict[str, Row] = {
    "1": ["1", "1", "wrong number"],
    "2": ["2", "2", "too many"],
    "3": ["3", "3"],  # not mended
    '4,4,"said "no" to it"': ['4,4,"said ""no"" to it"'],  # in its one cell, as the file has it
    "5": ["5", "5", "café"],
    "6": ["6", "6", "ab"],
    "7": ["7", "7", 'two\nlines, "quoted"'],
}
LEFT = {(0, 0, "first"), (8, 8, "last")}


@pytest.fixture
def home(tmp_path: Path, db: Database) -> Path:
    """A folder with a file that is loaded, seven of its nine records being rejects."""
    (tmp_path / "t_1.csv").write_bytes(GOOD + BAD + b"8,8,last\n")
    declared = (parse_type("id=bigint"), parse_type("n=bigint"))
    report = load(tmp_path / "t_1.csv", db, lineage="row", declared=declared, max_rejects=Budget(count=7))
    assert report.rejected == 7
    return tmp_path


def export(path: Path, db: Database) -> list[Row]:
    """Export, and read again as any program does."""
    with exported(str(db)) as what, open(path, "w", encoding="utf-8", newline="") as file:
        rejectfile.write(what.rejects, what.headers, file)
    with open(path, encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    # Two files may be committed in any order.
    return [head, *sorted(rows, key=lambda row: (row[1], int(row[2])))]


def save(path: Path, rows: Iterable[Row]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def mended(path: Path, db: Database, **settings: Any) -> MendReport:
    return mend(path, Settings(to=str(db), spool=_spool(db), **settings), tell=lambda *_: None)


def _spool(db: Database) -> str | None:
    return None if isinstance(db, Path) else str(oracle(db).folder)


def mend_all(rows: list[Row]) -> list[Row]:
    return [rows[0], *([*row[:4], *MENDED[row[4]]] for row in rows[1:])]


def edited(rows: list[Row], change: Callable[[Row], Row]) -> list[Row]:
    return [rows[0], *map(change, rows[1:])]


def loaded(db: Database) -> set[tuple[Any, ...]]:
    """The rows of the file, each once."""
    rows = query(db, "SELECT id, n, note FROM t WHERE _ingest_file_id = 1")
    assert len(rows) == len(set(rows))
    return set(rows)


def closed(db: Database) -> list[tuple[int, int | None]]:
    return query(db, "SELECT reject_id, closed_run_id FROM ingest_reject ORDER BY reject_id")  # type: ignore[return-value]


ALL = LEFT | {(1, 1, "wrong number"), (2, 2, "too many"), (4, 4, 'said "no" to it'), (5, 5, "café"), (6, 6, "ab")}
ALL |= {(7, 7, 'two\nlines, "quoted"')}


@pytest.mark.every_target
def test_rejects_go_out_and_come_back_mended(home: Path, db: Database, bulk: str) -> None:
    """Each record is closed once, linked to its place; what is still bad stays open, and is told with its reason."""
    rows = export(home / "fixed.csv", db)
    assert rows[0] == [*rejectfile.COLUMNS, "id", "n", "note"]
    path = str((home / "t_1.csv").resolve())
    reasons = ["bad_integer", "ragged", "ragged", "broken_quote", "bad_byte", "nul_byte", "bad_integer"]
    assert [row[1:4] for row in rows[1:]] == [[path, str(i + 3), reason] for i, reason in enumerate(reasons)]
    assert [row[4:] for row in rows[1:]] == [
        ["1", "x", "wrong number"],
        ["2", "2", "too", "many"],
        ["3", "3"],
        ['4,4,"said "no" to it"'],
        ["5", "5", "caf\\xe9"],
        ["6", "6", "a\\x00b"],
        ["7", "y", 'two\nlines, "quoted"'],
    ]
    fixed = save(home / "fixed.csv", mend_all(rows))
    report = mended(fixed, db, bulk=bulk)
    assert (report.exit_code, report.loaded, report.refused) == (3, 6, ())
    (bad,) = report.still_bad
    assert (bad.line, bad.reason, bad.message) == (5, "ragged", "has 2 fields, expected 3")
    assert loaded(db) == ALL
    assert [run for _, run in closed(db)] == [2, 2, None, 2, 2, 2, 2]
    # Each row says which record of its file it was.
    numbered = query(db, "SELECT _ingest_record, id FROM t WHERE _ingest_file_id = 1 ORDER BY _ingest_record")
    assert numbered == [(0, 0), (1, 1), (2, 2), *((i, i) for i in range(4, 9))]
    of = known(db, home / "t_1.csv")
    assert (of["rows_loaded"], of["rows_rejected"], of["committed_records"], of["state"]) == (8, 1, 9, "loaded")
    assert_counts_add_up(db)
    # Once more: nothing is loaded or closed twice, and each line is refused by name.
    before = closed(db)
    again = mended(fixed, db, bulk=bulk)
    assert (again.exit_code, again.loaded, len(again.refused), len(again.still_bad)) == (4, 0, 6, 1)
    assert "reject 1 is closed already: run 2" in again.refused[0]
    assert (loaded(db), closed(db)) == (ALL, before)
    # The same file mended further: the rest is closed, too.
    last = save(fixed, [rows[0], [*rows[3][:4], "3", "3", ""]])
    assert mended(last, db, bulk=bulk).exit_code == 3  # an empty cell may be a spreadsheet's
    last.write_text(last.read_text().rstrip() + '""\n')
    assert mended(last, db, bulk=bulk).exit_code == 0
    assert loaded(db) == ALL | {(3, 3, "")}
    assert export(home / "none.csv", db) == [list(rejectfile.COLUMNS)]


@pytest.mark.every_target
def test_empty_fields_beyond_the_last_column_are_cut_off_as_when_the_file_was_loaded(
    tmp_path: Path, db: Database
) -> None:
    """One that was emptied, one typed as `""`, a word for NULL; but no value, and no quoted word."""
    file = tmp_path / "u_1.csv"
    file.write_text('id,n,note\n0,0,first\n1,1,a,more\n2,x,b,""\n3,x,c,NA,\n4,4,d,"NA"\n5,x,e,,5\n')
    declared = (parse_type("id=bigint"), parse_type("n=bigint"))
    assert load(file, db, declared=declared, null=("", "NA"), max_rejects=Budget(count=5)).rejected == 5
    with exported(str(db)) as what, open(tmp_path / "fixed.csv", "w", encoding="utf-8", newline="") as out:
        rejectfile.write(what.rejects, what.headers, out)
    text = (tmp_path / "fixed.csv").read_text().replace("more", "")
    (tmp_path / "fixed.csv").write_text(
        "".join(re.sub(",x,", f",{n},", s) for n, s in enumerate(text.splitlines(True)))
    )
    report = mended(tmp_path / "fixed.csv", db)
    assert (report.loaded, [bad.line for bad in report.still_bad]) == (3, [6, 7])
    assert set(query(db, "SELECT id, n, note FROM u")) == {(0, 0, "first"), (1, 1, "a"), (2, 2, "b"), (3, 3, "c")}
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_an_export_that_nobody_mended_loads_nothing(home: Path, db: Database) -> None:
    export(home / "fixed.csv", db)
    report = mended(home / "fixed.csv", db)
    assert (report.exit_code, report.loaded, len(report.still_bad)) == (3, 0, 7)
    assert loaded(db) == LEFT
    assert {run for _, run in closed(db)} == {None}
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_a_reload_takes_mended_rows_along(home: Path, db: Database) -> None:
    rows = export(home / "fixed.csv", db)
    mended(save(home / "fixed.csv", mend_all(rows)), db)
    path = home / "t_1.csv"
    path.write_text("id,n,note\n9,9,new\n9,x,bad\n")
    assert load(path, db, on_change="reload", max_rejects=Budget(count=1)).exit_code == 3
    assert loaded(db) == {(9, 9, "new")}
    assert [run for _, run in closed(db)] == [None]
    refused = mended(home / "fixed.csv", db)
    assert (refused.exit_code, refused.loaded, len(refused.refused)) == (4, 0, 7)
    assert loaded(db) == {(9, 9, "new")}


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_record_that_the_table_refuses_stays_open(tmp_path: Path, db: Database, bulk: str) -> None:
    """Constraints are found row by row, as in a load; a key that is there is told, the others go in."""
    path = write_csv(tmp_path / "k.csv", ["id", "n"], [[1, 1], [2, 2]])
    load(path, db, mode="upsert", key=("id",))
    more = write_csv(tmp_path / "k_2.csv", ["id", "n"], [[3, 3], [4, "x"], [5, "y"], [6, "z"]])
    assert load(more, db, max_rejects=Budget(count=3)).rejected == 3
    rows = export(tmp_path / "fixed.csv", db)
    for row, values in zip(rows[1:], (["1", "9"], ["5", "5"], ["6", "6"]), strict=True):
        row[4:] = values
    report = mended(save(tmp_path / "fixed.csv", rows), db, bulk=bulk)
    assert (report.exit_code, report.loaded) == (3, 2), report
    assert [(bad.reject_id, bad.reason) for bad in report.still_bad] == [(1, "constraint")]
    assert sorted(query(db, "SELECT id, n FROM k")) == [(1, 1), (2, 2), (3, 3), (5, 5), (6, 6)]
    # What was given is kept, and goes out again.
    assert export(tmp_path / "fixed.csv", db)[1][3:] == ["constraint", "1", "9"]
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", ["upsert", "insert-ignore"])
def test_keys_are_merged_as_the_file_was(tmp_path: Path, db: Database, mode: str) -> None:
    path = write_csv(tmp_path / "k.csv", ["id", "n"], [[1, 1], [2, 2], [1, "x"], [3, "y"]])
    load(write_csv(tmp_path / "k_0.csv", ["id", "n"], [[7, 7]]), db, mode=mode, key=("id",))
    assert load(path, db, mode=mode, key=("id",), max_rejects=Budget(count=2)).exit_code == 3
    rows = export(tmp_path / "fixed.csv", db)
    report = mended(save(tmp_path / "fixed.csv", edited(rows, lambda row: [*row[:5], "9"])), db)
    kept = mode == "upsert"
    assert (report.exit_code, report.loaded, report.ignored) == (0, 2 if kept else 1, 0 if kept else 1)
    assert sorted(query(db, "SELECT id, n FROM k")) == [(1, 9 if kept else 1), (2, 2), (3, 9), (7, 7)]
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("turned", [False, True], ids=["as exported", "turned round"])
@pytest.mark.parametrize("mode", ["upsert", "insert-ignore"])
def test_mended_records_with_one_key_go_in_in_the_order_of_their_file(
    tmp_path: Path, db: Database, mode: str, turned: bool
) -> None:
    """The later of the two is refused in an earlier round than the other, which it supersedes at first."""
    query(db, "CREATE TABLE p (id INTEGER PRIMARY KEY, v VARCHAR(20), n INTEGER, CHECK (n < 100))")
    path = write_csv(tmp_path / "p.csv", ["id", "v", "n"], [[1, "x", 1], [2, "old", 500], [2, "new", 700]])
    assert load(path, db, mode=mode, key=("id",), max_rejects=Budget(count=5)).rejected == 2
    listed = ingest("rejects", "list", "--to", db, cwd=tmp_path).stdout
    assert re.findall(r"p\.csv:(\d)", listed) == ["3", "4"]
    done = ingest("rejects", "export", "fixed.csv", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "fixed.csv", encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert [row[5] for row in rows] == ["old", "new"]
    rows = [[*row[:6], row[6].rstrip("0")] for row in (reversed(rows) if turned else rows)]
    report = mended(save(tmp_path / "fixed.csv", [head, *rows]), db)
    kept = ("new", 7) if mode == "upsert" else ("old", 5)
    assert (report.exit_code, report.loaded, report.superseded + report.ignored) == (0, 1, 1)
    assert query(db, "SELECT id, v, n FROM p ORDER BY id") == [(1, "x", 1), (2, *kept)]
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.parametrize("place", ["before_commit", "after_commit", "after_mending"])
def test_killed_anywhere_every_record_is_loaded_once(home: Path, db: Database, place: str) -> None:
    rows = export(home / "fixed.csv", db)
    save(home / "fixed.csv", mend_all(rows))
    once = f"{place}@{home / 'killed'}"
    run = start("rejects", "load", "fixed.csv", "--to", db, cwd=home, INGEST_FAILPOINT=once)
    code, _, err = finish(run, seconds=60)
    assert (home / "killed").exists()
    if place == "after_mending":
        assert code == -9
        assert len(mended(home / "fixed.csv", db).refused) == 6
    else:
        assert code == 3, err  # another writer did it, or saw that it was done
    assert loaded(db) == ALL
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", ["upsert", "insert-ignore"])
def test_killed_behind_its_commit_it_counts_as_the_ledger_does(tmp_path: Path, db: Database, mode: str) -> None:
    """With a key only the database knows what became of the records: what it counted is asked of the ledger then."""
    path = write_csv(tmp_path / "k.csv", ["id", "n"], [[1, 1], [2, 2], [2, 3], [1, "x"], [3, "y"], [3, "z"]])
    settings = {"mode": mode, "key": ("id",), "declared": (parse_type("n=bigint"),)}
    assert load(path, db, **settings, max_rejects=Budget(count=3)).rejected == 3
    before = known(db, path)
    rows = export(tmp_path / "fixed.csv", db)
    save(tmp_path / "fixed.csv", edited(rows, lambda row: [*row[:5], "9"]))
    once = f"after_commit@{tmp_path / 'killed'}"
    done = ingest("rejects", "load", "fixed.csv", "--to", db, cwd=tmp_path, INGEST_FAILPOINT=once)
    assert (tmp_path / "killed").exists()
    assert done.returncode == 0, done.stderr
    counted = {"rows_loaded": 2, "rows_superseded": 1} if mode == "upsert" else {"rows_loaded": 1, "rows_ignored": 2}
    after = known(db, path)
    assert {name: after[name] - before[name] for name in counted} == counted
    (run,) = oracle(db).records("SELECT * FROM ingest_run WHERE run_id = ?", 2)
    assert {name: run[name] for name in counted} == counted
    for name, count in counted.items():
        assert f"{name.removeprefix('rows_')}: {count} record" in done.stderr
    assert_counts_add_up(db)


def test_what_does_not_fit_is_refused_by_name(home: Path, db: Database) -> None:
    rows = export(home / "fixed.csv", db)
    one = [*rows[1][:4], "1", "1", "ok"]
    wrong = {
        "knows no reject '77'": ["77", *one[1:]],
        "knows no reject 'x'": ["x", *one[1:]],
        "another ledger": [one[0], "/elsewhere/t_1.csv", *one[2:]],
        "not of": [*one[:2], "99", *one[3:]],
    }
    for text, row in wrong.items():
        report = mended(save(home / "fixed.csv", [rows[0], row, [*rows[2][:4], "2", "2", "fine"]]), db)
        assert text in report.refused[0]
        assert "fixed.csv:2: " in report.refused[0]
    assert report.exit_code == 4
    assert (2, 2, "fine") in loaded(db)
    twice = mended(save(home / "fixed.csv", [rows[0], one, one]), db)
    assert (twice.loaded, len(twice.refused)) == (0, 2)
    assert "comes twice" in twice.refused[1]


def test_rejects_of_a_refused_file_are_to_be_mended_there(tmp_path: Path, db: Database) -> None:
    load(write_csv(tmp_path / "t.csv", ["id", "n"], [[0, 0]]), db)
    assert load(write_csv(tmp_path / "t_1.csv", ["id", "n"], [[1, "x"]]), db).exit_code == 4
    rows = export(tmp_path / "fixed.csv", db)
    report = mended(save(tmp_path / "fixed.csv", edited(rows, lambda row: [*row[:5], "1"])), db)
    assert (report.exit_code, report.loaded) == (4, 0)
    assert "was refused, so nothing of it is loaded: mend the file itself" in report.refused[0]
    assert query(db, "SELECT count(*) FROM t") == [(1,)]


def test_rejects_of_a_refused_tail_are_to_be_mended_in_the_file(tmp_path: Path, db: Database) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "n"], [[0, 0], [1, "w"]])
    load(path, db, max_rejects=Budget(count=1), declared=(parse_type("n=bigint"),))
    write_csv(path, ["id", "n"], [[0, 0], [1, "w"], [2, "x"]])
    assert load(path, db, on_change="append-tail").exit_code == 4
    done = ingest("rejects", "export", "fixed.csv", "--to", db, cwd=tmp_path)
    assert "those of 1 file that was refused cannot be loaded back" in done.stderr
    with open(tmp_path / "fixed.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    report = mended(save(tmp_path / "fixed.csv", edited(rows, lambda row: [*row[:5], "5"])), db)
    assert (report.exit_code, report.loaded) == (4, 1)
    assert "what is new in" in report.refused[0]
    assert "its rows of before stay" in report.refused[0]
    assert query(db, "SELECT id, n FROM t ORDER BY id") == [(0, 0), (1, 5)]


def test_a_column_that_the_table_has_lost_is_to_be_added_to_it(tmp_path: Path, db: Database) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "n", "z"], [[6, "x", "h"], [7, 4, "y"]])
    load(path, db, max_rejects=Budget(count=1), declared=(parse_type("n=bigint"),))
    query(db, "ALTER TABLE t DROP COLUMN z")
    rows = export(tmp_path / "fixed.csv", db)
    save(tmp_path / "fixed.csv", edited(rows, lambda row: [*row[:5], "5", row[6]]))
    report = mended(tmp_path / "fixed.csv", db)
    assert (report.exit_code, report.loaded) == (4, 0)
    assert "its column 'z' is not in the table t. Add a column of that name" in report.refused[0]
    assert "--" not in report.refused[0]
    query(db, "ALTER TABLE t ADD COLUMN z TEXT")
    assert mended(tmp_path / "fixed.csv", db).exit_code == 0
    assert query(db, "SELECT n, z FROM t ORDER BY n") == [(4, None), (5, "h")]


def test_a_spreadsheet_may_fill_up_and_separate_as_it_likes(home: Path, db: Database) -> None:
    """Semicolons, a mark of the byte order, CRLF, and as many cells in every line."""
    rows = [[*row, *[""] * (9 - len(row))] for row in mend_all(export(home / "fixed.csv", db))]
    with open(home / "fixed.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    report = mended(home / "fixed.csv", db)
    # An empty cell is nothing: what was too short still is, for nobody may have looked at it.
    assert (report.exit_code, [bad.reject_id for bad in report.still_bad]) == (3, [3])
    assert loaded(db) == ALL


def test_files_with_other_headers_share_columns(tmp_path: Path, db: Database) -> None:
    """What does not go with its header stands whole where the columns are not those of its file from the first on."""
    write_csv(tmp_path / "in" / "t_1.csv", ["id", "n"], [[0, 0]])
    write_csv(tmp_path / "in" / "u_1.csv", ["n", "id", "x"], [[0, 0, 0]], delimiter=";")
    load(tmp_path / "in", db)
    write_csv(tmp_path / "in" / "t_2.csv", ["id", "n"], [[1, "a"], [2, 2, 2]])
    write_csv(tmp_path / "in" / "u_2.csv", ["n", "id", "x"], [["b", 3, 3], [4, 4], ["", "5", "c"]], delimiter=";")
    assert load(tmp_path / "in", db, max_rejects=Budget(count=3)).rejected == 5
    rows = export(tmp_path / "fixed.csv", db)
    assert [row[4:] for row in rows] == [
        ["id", "n", "x"],
        ["1", "a"],
        ["2", "2", "2"],
        ["3", "b", "3"],
        ["4;4"],
        ["5", "", "c"],
    ]
    assert mended(tmp_path / "fixed.csv", db).loaded == 0
    values = (["1", "1"], ["2", "2"], ["3", "3", "3"], ["4;4;4"], ["5", "", "5"])
    for row, new in zip(rows[1:], values, strict=True):
        row[4:] = new
    assert mended(save(tmp_path / "fixed.csv", rows), db).exit_code == 0
    assert sorted(query(db, "SELECT id, n FROM t")) == [(0, 0), (1, 1), (2, 2)]
    assert sorted(query(db, "SELECT id, n, x FROM u")) == [(0, 0, 0), (3, 3, 3), (4, 4, 4), (5, None, 5)]


def test_null_and_the_empty_text_stay_two_things(tmp_path: Path, db: Database) -> None:
    """Options that decide what a value means are those of the run that rejected it."""
    (tmp_path / "t.csv").write_text("Id,a,b\n1,x,y\n")
    load(tmp_path / "t.csv", db, names="snake", null=("NA",))
    (tmp_path / "t_2.csv").write_text('Id,a,b\nx,"",NA\ny,,"NA"\n')
    load(tmp_path / "t_2.csv", db, names="snake", null=("NA",), max_rejects=Budget(count=2))
    export(tmp_path / "fixed.csv", db)
    text = (tmp_path / "fixed.csv").read_text()
    assert [line.split(",", 4)[4] for line in text.splitlines()] == ["Id,a,b", 'x,"",NA', 'y,,"NA"']
    (tmp_path / "fixed.csv").write_text(text.replace("x,", "2,").replace("y,", "3,"))
    assert mended(tmp_path / "fixed.csv", db).exit_code == 0
    assert query(db, "SELECT id, a, b FROM t ORDER BY id") == [(1, "x", "y"), (2, "", None), (3, None, "NA")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"id,n\n1,2\n", "does not begin with"),
        (b"", "does not begin with"),
        (",".join(rejectfile.COLUMNS).encode() + b",note\n1,f,2,r,caf\xe9\n", "is not UTF-8: byte 0xE9"),
        (",".join(rejectfile.COLUMNS).encode() + b',note\n1,f,2,r,"open\n', ":2: a quote is not closed"),
        (",".join(rejectfile.COLUMNS).encode() + b",a,a\n", "the column 'a' twice"),
    ],
)
def test_a_file_that_no_export_wrote_is_wrong_usage(tmp_path: Path, text: bytes, why: str) -> None:
    (tmp_path / "fixed.csv").write_bytes(text)
    with pytest.raises(UsageError, match=why):
        rejectfile.read_mended(tmp_path / "fixed.csv")


def test_the_commands_say_what_they_did(home: Path, db: Database) -> None:
    done = ingest("rejects", "export", "fixed.csv", "--to", db, cwd=home)
    assert (done.returncode, "7 rejects written to fixed.csv" in done.stderr) == (0, True)
    with open(home / "fixed.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    save(home / "fixed.csv", mend_all(rows)[:4])  # the last four are left for later
    done = ingest("rejects", "load", "fixed.csv", "--to", db, cwd=home)
    assert done.returncode == 3, done.stderr
    assert "t_1.csv:5: ragged: has 2 fields, expected 3" in done.stderr
    assert "loaded: 2 records of fixed.csv" in done.stderr
    listed = ingest("rejects", "list", "--to", db, cwd=home).stdout
    assert listed.count("t_1.csv:") == 5
    every = ingest("rejects", "list", "--all", "--to", db, cwd=home).stdout
    assert every.count("(mended, and loaded by run 2)") == 2
    story = ingest("status", "t_1.csv", "--to", db, cwd=home).stdout
    assert "2 of its records were rejects first, and loaded when mended, last by run 2." in story
    assert ingest("rejects", "load", "fixed.csv", "--to", "none.db", cwd=home).returncode == 2
