"""Records with a key (design D18): which of two stays, whatever is parallel, killed or refused on the way there."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import killing
import pyarrow as pa
import pytest
from oracle import KINDS, Database
from tools import assert_counts_add_up, ingest, known, load, query, rejects, script, start, told, write_csv

from ingest import worker
from ingest.errors import UsageError
from ingest.model import Action
from ingest.run import plan
from ingest.settings import Budget, Settings

KEYED = ["upsert", "insert-ignore"]
COLUMNS = ("id", "note")
UPSERT = {"mode": "upsert", "key": ("id",)}
SMALL = {"slice_bytes": 2_000, "workers": 3}


def make(data: Path, seed: int = 1) -> list[Path]:
    """Files in natural order: large and small ones, two headers, and few enough keys that all of them overlap."""
    chance = random.Random(seed)
    files = []
    for number, rows in enumerate([900, 5, 5, 300, 1, 7, 700, 4, 4, 4], start=1):
        turned = number % 3 == 0
        records = [[chance.randrange(400), f"{number}.{i}"] for i in range(rows)]
        files.append(
            write_csv(
                data / f"t_{number}.csv",
                ["note", "id"] if turned else ["id", "note"],
                [r[::-1] if turned else r for r in records],
            )
        )
    killing.aged(*files)
    return files


def merged(files: Iterable[Path], mode: str, there: dict[int, str] | None = None) -> dict[int, str]:
    """What the table is to hold, by Python's csv alone."""
    table = dict(there or {})
    for path in files:
        with open(path, newline="", encoding="utf-8") as file:
            for record in csv.DictReader(file):
                key = int(record["id"])
                if mode == "upsert" or key not in table:
                    table[key] = record["note"]
    return table


def table(db: Database) -> dict[int, str]:
    rows = query(db, "SELECT id, note FROM t")
    assert len(rows) == len({row[0] for row in rows})
    return dict(rows)


# which record stays


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", KEYED)
def test_the_order_of_files_and_records_decides_whatever_is_parallel(
    data: Path, db: Database, mode: str, bulk: str
) -> None:
    files = make(data)
    report = load(data, db, mode=mode, key=("id",), bulk=bulk, **SMALL)
    assert (report.exit_code, report.count("loaded")) == (0, len(files)), report.files
    assert table(db) == merged(files, mode)
    assert report.rows + report.superseded + report.ignored == 1_930
    assert (report.superseded > 0, report.ignored > 0) == ((True, False) if mode == "upsert" else (False, True))
    assert_counts_add_up(db)
    again = load(data, db, mode=mode, key=("id",), bulk=bulk)
    assert (again.rows, again.count("skipped")) == (0, len(files))


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", KEYED)
def test_a_later_run_meets_the_rows_that_are_there(data: Path, db: Database, mode: str, bulk: str) -> None:
    files = make(data)
    query(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT, own TEXT DEFAULT 'mine')")
    query(db, "INSERT INTO t VALUES (3, 'old', 'kept'), (1000, 'other', 'kept')")
    there = table(db)
    for portion in (files[4:], files[:4]):  # of runs the order is that in which they are started
        assert load(portion, db, mode=mode, key=("id",), bulk=bulk).exit_code == 0
        there = merged(portion, mode, there)
        assert table(db) == there
    # A column that no file has stays as it is, or gets its default.
    assert query(db, "SELECT DISTINCT own FROM t WHERE id IN (3, 1000)") == [("kept",)]
    assert query(db, "SELECT DISTINCT own FROM t WHERE id NOT IN (3, 1000)") == [("mine",)]
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_every_row_says_which_file_wrote_it_last(data: Path, db: Database, bulk: str) -> None:
    first = write_csv(data / "t_1.csv", ["id", "note"], [[1, "a"], [2, "a"]])
    second = write_csv(data / "t_2.csv", ["id", "note"], [[2, "b"]])
    load(data, db, bulk=bulk, **UPSERT)
    ids = [known(db, path)["file_id"] for path in (first, second)]
    assert query(db, "SELECT id, _ingest_file_id FROM t ORDER BY id") == [(1, ids[0]), (2, ids[1])]


def test_a_key_may_be_of_several_columns_in_another_spelling(data: Path, db: Path, bulk: str) -> None:
    query(db, 'CREATE TABLE t ("Land" TEXT, id INTEGER, note TEXT)')
    query(db, 'CREATE UNIQUE INDEX u ON t (id, "Land")')
    write_csv(data / "t_1.csv", ["land", "ID", "note"], [["d", 1, "x"], ["f", 1, "y"], ["d", 1, "z"]])
    report = load(data, db, mode="upsert", key=("LAND", "Id"), bulk=bulk)
    assert (report.exit_code, report.rows, report.superseded) == (0, 2, 1), report.files
    assert query(db, 'SELECT "Land", note FROM t ORDER BY 1') == [("d", "z"), ("f", "y")]


@pytest.mark.parametrize(("key", "there"), [("idd", "; the nearest is 'id'"), ("zzz", "; it has 'id', 'note'")])
def test_a_key_that_is_no_column_is_told_which_there_are(data: Path, db: Database, key: str, there: str) -> None:
    write_csv(data / "t_1.csv", ["id", "note"], [[1, "x"]])
    (file,) = load(data, db, mode="upsert", key=(key,)).files
    assert (file.state, file.sentence) == ("refused", f"it has no column '{key}', which --mode upsert goes by{there}")


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_table_of_keys_alone_is_filled_once(data: Path, db: Database, bulk: str) -> None:
    write_csv(data / "t_1.csv", ["id"], [[1], [2], [2]])
    write_csv(data / "t_2.csv", ["id"], [[2], [3]])
    report = load(data, db, lineage="none", bulk=bulk, **UPSERT)
    assert (report.rows, report.superseded) == (4, 1)
    assert query(db, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,)]


def test_only_of_numbers_and_dates_a_worker_knows_that_no_two_are_the_same() -> None:
    """`a` and `A` are one key for some databases; 1 and 2 are two for all of them."""
    days = pa.array([0, 1, 1], type=pa.int32()).cast(pa.date32())
    batch = pa.table({"id": [1, 2, 2], "day": days, "other": [1, 2, 3], "name": ["a", "b", "c"]})
    keys = [("id",), ("other",), ("id", "day"), ("day", "other"), ("name",), ("other", "name")]
    assert [key for key in keys if worker.distinct(batch, key)] == [("other",), ("day", "other")]


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_the_newest_stays_whatever_the_order(data: Path, db: Database, bulk: str) -> None:
    header = ["id", "day", "note"]
    write_csv(data / "t_1.csv", header, [[1, "2024-01-03", "new"], [2, "", "none"], [3, "2024-01-01", "a"]])
    write_csv(
        data / "t_2.csv",
        header,
        [
            *([1, "2024-01-02", "old"], [2, "2024-01-01", "some"], [3, "2024-01-01", "b"], [4, "2024-01-09", "new"]),
            *([4, "2024-01-05", "old"], [4, "", "none"], [5, "", "first"], [5, "", "last"]),
        ],
    )
    report = load(data, db, newest_by="day", bulk=bulk, **UPSERT)
    assert report.exit_code == 0, report.files
    assert table(db) == {1: "new", 2: "some", 3: "b", 4: "new", 5: "last"}
    assert (report.rows, report.superseded) == (7, 4)
    assert_counts_add_up(db)
    write_csv(data / "t_3.csv", header, [[2, "", "none"], [3, "2023-01-01", "z"], [5, "2020-01-01", "x"]])
    report = load(data, db, newest_by="day", bulk=bulk, **UPSERT)
    assert (report.rows, report.superseded) == (1, 2)
    assert table(db) == {1: "new", 2: "some", 3: "b", 4: "new", 5: "x"}


@pytest.mark.parametrize("mode", KEYED)
@pytest.mark.parametrize(
    ("kind", "same"),
    [
        ("TEXT PRIMARY KEY COLLATE NOCASE", "A"),
        ("TEXT COLLATE RTRIM UNIQUE", "a  "),
        ("TEXT COLLATE nocase, PRIMARY KEY (id)) WITHOUT ROWID; CREATE TABLE other (n", "A"),
    ],
)
def test_keys_are_the_same_if_their_column_takes_them_for_the_same(
    data: Path, db: Path, mode: str, kind: str, same: str
) -> None:
    script(db, f'CREATE TABLE t (note TEXT, id {kind}, "COLLATE")')
    write_csv(data / "t_1.csv", COLUMNS, [["a", "007"], [same, "y"], ["b", "z"]])
    report = load(data, db, mode=mode, key=("id",))
    left = report.superseded if mode == "upsert" else report.ignored
    assert (report.exit_code, report.rows, left) == (0, 2, 1), report.files
    assert query(db, "SELECT note FROM t ORDER BY id") == [("y" if mode == "upsert" else "007",), ("z",)]
    more = write_csv(data / "t_2.csv", COLUMNS, [["B", "new"], ["c", "new"], ["b   ", "new"]])
    report = load(more, db, mode=mode, key=("id",))
    left = report.superseded if mode == "upsert" else report.ignored
    assert (report.exit_code, report.rows + left) == (0, 3), report.files
    [(there,)] = query(db, "SELECT count(*) FROM t")
    assert there == 4  # one of the two is another spelling of `b`
    assert_counts_add_up(db)


def test_an_index_that_takes_other_keys_for_the_same_than_the_column_is_no_key(data: Path, db: Path) -> None:
    script(db, "CREATE TABLE t (id TEXT PRIMARY KEY, note TEXT); CREATE UNIQUE INDEX i ON t (id COLLATE NOCASE)")
    write_csv(data / "t_1.csv", COLUMNS, [["a", "x"], ["A", "y"]])
    upsert = {"mode": "upsert", "key": ("id",)}
    report = load(data, db, **upsert)
    assert told(report) == {"t_1.csv": ("refused", "key")}
    assert report.files[0].hint is not None
    query(db, report.files[0].hint.partition(": ")[2].rstrip(";"))
    report = load(data, db, max_rejects=Budget(count=1), **upsert)
    assert (report.exit_code, report.rows, report.rejected) == (3, 1, 1), report.files
    assert query(db, "SELECT id, note FROM t") == [("a", "x")]
    assert_counts_add_up(db)


# rejects


@pytest.mark.parametrize("mode", KEYED)
def test_no_value_in_the_key_is_a_reject(data: Path, db: Path, mode: str, bulk: str) -> None:
    write_csv(data / "t_1.csv", ["id", "note"], [[1, "a"], ["", "b"], [2, "c"]])
    report = load(data, db, mode=mode, key=("id",), bulk=bulk, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows) == (3, 2)
    assert [(r[0], r[3], r[4]) for r in rejects(db)] == [(3, "id", "not_null")]
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.known_kinds
def test_a_record_that_breaks_another_constraint_supersedes_nothing(data: Path, db: Database, bulk: str) -> None:
    query(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT CHECK (note <> 'bad'), other INTEGER UNIQUE)")
    write_csv(
        data / "t_1.csv",
        ["id", "note", "other"],
        [[1, "a", 1], [1, "bad", 2], [2, "b", 3], [3, "c", 3], [2, "d", 4], [4, "bad", 9]],
    )
    report = load(data, db, bulk=bulk, max_rejects=Budget(count=9), **UPSERT)
    # (3, c, 3) is no reject: (2, b, 3) gave way to (2, d, 4).
    assert table(db) == {1: "a", 2: "d", 3: "c"}
    assert (report.rows, report.superseded, report.rejected) == (3, 1, 2)
    assert [r[5] for r in rejects(db)] == ["1,bad,2", "4,bad,9"]
    assert_counts_add_up(db)


# what is refused


def test_a_key_without_a_unique_index_is_refused_with_the_sql_to_type(data: Path, db: Path, bulk: str) -> None:
    query(db, 'CREATE TABLE t ("the id" INTEGER, note TEXT)')
    query(db, 'CREATE UNIQUE INDEX part ON t ("the id") WHERE note IS NULL')
    query(db, 'CREATE UNIQUE INDEX more ON t ("the id", note)')
    path = write_csv(data / "t_1.csv", ["the id", "note"], [[1, "a"], [1, "b"]])
    report = load(data, db, mode="upsert", key=("the id",), bulk=bulk)
    assert told(report) == {"t_1.csv": ("refused", "key")}
    sql = re.search(r"CREATE UNIQUE INDEX .*;", report.files[0].hint)
    assert sql is not None
    query(db, sql[0])
    assert load(data, db, mode="upsert", key=("the id",), bulk=bulk).rows == 1
    assert known(db, path)["rows_superseded"] == 1


def test_a_file_without_the_key_is_refused_and_holds_back_the_next(data: Path, db: Path) -> None:
    write_csv(data / "t_1.csv", ["id", "note"], [[1, "a"]])
    write_csv(data / "t_2.csv", ["number", "note"], [[1, "b"]])
    write_csv(data / "t_3.csv", ["id", "note"], [[1, "c"]])
    write_csv(data / "u_1.csv", ["id", "note"], [[1, "a"]])
    assert told(load(data, db, **UPSERT)) == {
        "t_1.csv": ("loaded", "new"),
        "t_2.csv": ("refused", "key"),
        "t_3.csv": ("refused", "held_back"),
        "u_1.csv": ("loaded", "new"),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "upsert"},
        {"mode": "append", "key": ("id",)},
        {"mode": "insert-ignore", "key": ("id",), "newest_by": "day"},
        {"mode": "upsert", "key": ("id", "id")},
        {"mode": "upsert", "key": ("id", "")},
        {"mode": "upsert", "key": ("id",), "newest_by": "id"},
        {"mode": "truncate"},
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_wrong_usage(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


@pytest.mark.parametrize("db", ["sqlite", *KINDS], indirect=True)
def test_a_row_that_two_files_hold_outlives_the_older_one(data: Path, db: Database, bulk: str) -> None:
    """Whether or not the merge had to write it: what is taken back with a file is what no other has brought since."""
    path = write_csv(data / "t_1.csv", ["id", "note"], [[1, "a"], [2, "b"]])
    load(data, db, bulk=bulk)
    query(db, "CREATE UNIQUE INDEX t_id ON t (id)")
    write_csv(data / "t_2.csv", ["id", "note"], [[1, "a"]])
    assert load(data, db, **UPSERT, bulk=bulk).rows == 1
    write_csv(path, ["id", "note"], [[2, "b"], [3, "c"]])
    assert load(data, db, on_change="reload", bulk=bulk).exit_code == 0
    assert table(db) == {1: "a", 2: "b", 3: "c"}


@pytest.mark.parametrize("db", ["sqlite", *KINDS], indirect=True)
def test_a_row_of_a_file_that_is_merged_anew_is_not_there_for_others(data: Path, db: Database, bulk: str) -> None:
    """Its old rows go in its turn, which comes after that of the others."""
    path = write_csv(data / "t_2.csv", ["id", "note"], [[1, "a"], [2, "b"]])
    load(data, db, bulk=bulk)
    query(db, "CREATE UNIQUE INDEX t_id ON t (id)")
    write_csv(data / "t_1.csv", ["note", "id"], [["a", 1]])
    write_csv(path, ["id", "note"], [[2, "b"], [3, "c"]])
    assert load(data, db, **UPSERT, on_change="reload", bulk=bulk).exit_code == 0
    assert table(db) == {1: "a", 2: "b", 3: "c"}


@pytest.mark.parametrize("mode", KEYED)
def test_a_changed_file_cannot_be_reloaded_but_forgotten_and_merged(data: Path, db: Path, mode: str) -> None:
    path = write_csv(data / "t_1.csv", ["id", "note"], [[1, "a"], [2, "a"]])
    killing.aged(path)
    load(data, db, mode=mode, key=("id",))
    write_csv(path, ["id", "note"], [[2, "changed"], [3, "c"]])
    for settings in ({"mode": mode, "key": ("id",)}, {}):
        report = load(data, db, on_change="reload", **settings)
        assert told(report) == {"t_1.csv": ("refused", "merged")}
        assert "ingest forget" in report.files[0].hint
        assert table(db) == {1: "a", 2: "a"}
    assert ingest("forget", "t_1.csv", "--yes", "--to", db, cwd=data).returncode == 0
    assert load(data, db, mode=mode, key=("id",)).exit_code == 0
    assert table(db) == {1: "a", 2: "changed" if mode == "upsert" else "a", 3: "c"}


# a file that fails


def spoil(path: Path) -> bytes:
    """Give the file a record with a field too few; what it was before."""
    before = path.read_bytes()
    path.write_bytes(before + b"7\n")
    return before


@pytest.mark.parametrize("mode", KEYED)
@pytest.mark.parametrize("number", [1, 3, 4, 7], ids=["large, first", "small", "middle", "large"])
def test_a_failed_file_holds_back_the_later_ones_of_its_table(
    data: Path, db: Path, mode: str, number: int, bulk: str
) -> None:
    files = make(data)
    other = write_csv(data / "u_1.csv", ["id", "note"], [[1, "x"]])
    good = spoil(files[number - 1])
    report = load(data, db, mode=mode, key=("id",), bulk=bulk, **SMALL)
    ended = told(report)
    assert report.exit_code == 4
    assert {name for name, (state, _) in ended.items() if state == "loaded"} == {
        *(f.name for f in files[: number - 1]),
        other.name,
    }
    assert ended[files[number - 1].name] == ("refused", "over_budget")
    assert {ended[f.name] for f in files[number:]} <= {("refused", "held_back")}
    if number > 1:
        assert table(db) == merged(files[: number - 1], mode)
    files[number - 1].write_bytes(good)
    killing.aged(files[number - 1])
    report = load(data, db, mode=mode, key=("id",), bulk=bulk, **SMALL)
    assert report.exit_code == 0, report.files
    assert table(db) == merged(files, mode)
    assert_counts_add_up(db)


def test_a_file_that_the_plan_refuses_holds_back_and_the_plan_says_so(data: Path, db: Path) -> None:
    files = make(data)
    files[2].write_bytes(b"\xff\xfe\x00\xd8")
    settings = Settings(to=str(db), workers=2, **UPSERT)
    decided = {Path(d.source.path).name: (d.action, d.code) for d in plan([str(data)], settings).decisions}
    assert [decided[f.name][0] for f in files] == [Action.LOAD] * 2 + [Action.REFUSE] * 8
    assert {decided[f.name][1] for f in files[3:]} == {"held_back"}
    assert not db.exists()
    report = load(data, db, **UPSERT)
    assert [o.state for o in report.files if o.path != str(files[2])].count("loaded") == 2
    assert table(db) == merged(files[:2], "upsert")


def test_the_newest_wins_without_waiting_for_a_failed_file(data: Path, db: Path, bulk: str) -> None:
    header = ["id", "day", "note"]
    first = write_csv(data / "t_1.csv", header, [[1, "2024-01-01", "old"]])
    write_csv(data / "t_2.csv", header, [[1, "2024-01-02", "new"]])
    good = spoil(first)
    report = load(data, db, newest_by="day", bulk=bulk, **UPSERT)
    assert told(report) == {"t_1.csv": ("refused", "over_budget"), "t_2.csv": ("loaded", "new")}
    first.write_bytes(good)
    assert load(data, db, newest_by="day", bulk=bulk, **UPSERT).superseded == 1
    assert table(db) == {1: "new"}


# killed


@pytest.mark.every_target
@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", KEYED)
@pytest.mark.parametrize("place", ["after_merge", "before_advance", "before_commit", "after_commit"])
def test_a_writer_killed_while_it_merges_merges_once(
    tmp_path: Path, data: Path, db: Database, mode: str, place: str, bulk: str
) -> None:
    files = make(data)
    options = ("--mode", mode, "--key", "id", "--bulk", bulk, "--slice-bytes", "2000")
    done = ingest("load", data, "--to", db, *options, cwd=tmp_path, INGEST_FAILPOINT=f"{place}@{tmp_path / 'fired'}")
    assert (tmp_path / "fired").exists()
    assert done.returncode == 0, done.stderr
    assert table(db) == merged(files, mode)
    assert query(db, "SELECT sum(committed_records) FROM ingest_file") == [(1_930,)]
    assert_counts_add_up(db)
    # What the summary says of a commit that nobody answered is what the ledger says.
    [(left,)] = query(db, "SELECT sum(rows_superseded + rows_ignored) FROM ingest_file")
    assert f"{left:,} records" in done.stderr


@pytest.mark.parametrize("mode", KEYED)
def test_runs_killed_again_and_again_end_with_the_same_table(tmp_path: Path, data: Path, db: Path, mode: str) -> None:
    files = make(data)
    options = ("--mode", mode, "--key", "id", "--slice-bytes", "2000")
    for place in ("after_intent", "after_create", "after_register", "after_merge", "before_commit", "after_commit"):
        ingest("load", data, "--to", db, *options, cwd=tmp_path, INGEST_FAILPOINT=place)
    assert load(data, db, mode=mode, key=("id",), **SMALL).exit_code == 0
    assert table(db) == merged(files, mode)
    assert_counts_add_up(db)


def test_a_file_is_one_transaction_whatever_its_size(data: Path, db: Path, bulk: str) -> None:
    path = write_csv(data / "t_1.csv", ["id", "note"], [[i % 500, f"n{i}"] for i in range(3_000)])
    load(data, db, slice_bytes=1_000, commit_bytes=4_000, bulk=bulk, **UPSERT)
    row = known(db, path)
    assert (row["version"], row["rows_loaded"], row["rows_superseded"], row["mode"]) == (2, 500, 2_500, "upsert")
    assert table(db) == merged([path], "upsert")


def test_a_part_loaded_file_starts_again_when_its_records_are_to_be_merged(tmp_path: Path, db: Path) -> None:
    rows = [[i % 3_000, f"note {i}"] for i in range(24_000)]
    path = write_csv(tmp_path / "in" / "t_1.csv", ["id", "note"], rows)
    query(db, "CREATE TABLE t (id INTEGER, note TEXT, _ingest_file_id BIGINT)")
    killing.aged(path)
    sizes = ("--slice-bytes", "16KiB", "--commit-bytes", "48KiB")
    run = start("load", "in", "--to", db, "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        killing.kill(*found.all)
        killing.assert_gone(found.all)
    killing.finish(run)
    query(db, "DELETE FROM t WHERE rowid NOT IN (SELECT max(rowid) FROM t GROUP BY id)")
    query(db, "CREATE UNIQUE INDEX t_id ON t (id)")
    report = load(path, db, **UPSERT)
    assert (report.exit_code, report.files[0].action) == (0, "reload"), report.files
    assert table(db) == merged([path], "upsert")
    assert_counts_add_up(db)


@pytest.mark.parametrize("mode", KEYED)
@pytest.mark.parametrize("change", ["reload", "append-tail"])
def test_a_file_that_had_no_records_may_get_some_of_which_none_becomes_a_row(
    data: Path, tmp_path: Path, mode: str, change: str
) -> None:
    options: dict[str, Any] = {"mode": mode, "key": ("id",), "on_change": change, "max_rejects": Budget(count=3)}
    url = f"sqlite:///{tmp_path / 'loaded.db'}"
    write_csv(data / "t_1.csv", COLUMNS, [[1, 5]])
    grown = write_csv(data / "t_2.csv", COLUMNS, [])
    killing.aged(grown)
    assert load(data, url, **options).exit_code == 0
    with grown.open("a") as file:
        file.write("x,5\n")
    report = load(data, url, **options)
    assert (report.exit_code, report.rows, report.rejected) == (3, 0, 1), report.files
    assert load(data, url, **options).exit_code == 0
