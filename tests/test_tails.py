"""Files that grow: with `--on-change append-tail` what was added is loaded, once, and what is loaded stays as it is."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from oracle import Database
from tools import (
    ORDERS,
    assert_counts_add_up,
    assert_loaded_once,
    expected,
    ingest,
    known,
    load,
    orders,
    query,
    rejects,
    stored,
    told,
    write_csv,
)

from ingest.model import Told
from ingest.settings import Budget


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def append(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    """Add records to the end of a file."""
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def more_orders(path: Path, count: int, first: int) -> Path:
    other = orders(path.with_name("other"), count, first)
    lines = other.read_text().splitlines(keepends=True)[1:]
    other.unlink()
    with open(path, "a") as file:
        file.writelines(lines)
    return path


def tail(data: Path, db: Database, **settings: object) -> dict[str, tuple[str, str]]:
    return told(load(data, db, on_change="append-tail", **settings))


def marked(db: Database) -> list[tuple[object, ...]]:
    """Rows that were changed by hand after they had been loaded: a tail does not touch them."""
    return query(db, "SELECT id, note FROM orders WHERE note LIKE 'by hand%' ORDER BY id")


@pytest.mark.every_target
@pytest.mark.core
def test_what_was_added_is_loaded_and_what_is_loaded_is_not_touched(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    load(data, db)
    before = known(db, path)
    query(db, "UPDATE orders SET note = 'by hand' WHERE id < 3")
    for first, count in ((10, 5), (15, 200)):
        more_orders(path, count, first)
        report = load(data, db, on_change="append-tail")
        assert told(report) == {"orders.csv": ("loaded", "grown")}
        assert (report.exit_code, report.rows, report.files[0].records) == (0, count, count)
        row = known(db, path)
        assert (row["file_id"], row["state"], row["error_code"]) == (before["file_id"], "loaded", None)
        assert (row["rows_loaded"], row["committed_records"]) == (first + count, first + count)
        assert row["committed_bytes"] == row["size"] == path.stat().st_size
    assert marked(db) == [(0, "by hand"), (1, "by hand"), (2, "by hand")]
    assert stored(db, "orders", ["id"]) == expected([path], ["id"])
    assert_counts_add_up(db)
    assert load(data, db, verify_content=True).count("skipped") == 1
    # All of it is one file still: it can be reloaded as a whole, and by default a change is refused.
    path.write_text("id,customer,amount,day,note\n1,a,1.00,2024-01-01,b\n")
    assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}
    assert load(data, db, on_change="reload").rows == 1
    assert_loaded_once(db, "orders", [path])


@pytest.mark.every_target
@pytest.mark.core
@pytest.mark.parametrize("place", ["after_register", "before_commit", "after_commit"])
def test_a_tail_that_was_killed_is_neither_lost_nor_doubled(data: Path, db: Database, place: str) -> None:
    path = orders(data / "orders.csv", 10)
    load(data, db)
    before = known(db, path)
    more_orders(path, 20, 10)
    # A writer that is killed is replaced: two of three times the run itself goes on, and ends in the third.
    killed = ingest("load", data, "--to", db, "--on-change", "append-tail", cwd=data, INGEST_FAILPOINT=place)
    assert killed.returncode == {"after_register": -9, "before_commit": 1, "after_commit": 0}[place], killed.stderr
    if place != "after_commit":
        shown = ingest("status", "orders.csv", "--to", db, cwd=data)
        assert "began at" in shown.stdout
        assert "Nothing of it is in the table" in shown.stdout
        # Without the option it is a changed file, of which all is there that was.
        assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}
        row = known(db, path)
        assert [row[name] for name in ("state", "rows_loaded", "size", "sha256", "mtime_ns")] == [
            *("loaded", 10),
            *(before[name] for name in ("size", "sha256", "mtime_ns")),
        ]
        assert tail(data, db) == {"orders.csv": ("loaded", "grown")}
    assert_loaded_once(db, "orders", [path])
    assert known(db, path)["rows_loaded"] == 30
    assert_counts_add_up(db)
    assert load(data, db).rows == 0


def test_an_interrupted_tail_of_a_file_that_is_put_back_is_forgotten(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    old = path.read_bytes()
    load(data, db)
    more_orders(path, 20, 10)
    arguments = ("load", data, "--to", db, "--on-change", "append-tail")
    assert ingest(*arguments, cwd=data, INGEST_FAILPOINT="after_register").returncode == -9
    path.write_bytes(old)
    assert told(load(data, db)) == {"orders.csv": ("skipped", "same_content")}
    assert (known(db, path)["state"], known(db, path)["error_code"]) == ("loaded", None)
    assert_loaded_once(db, "orders", [path])


def _shorter(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))


def _rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"2024-", b"2023-"))


def _changed_and_grown(path: Path) -> None:
    _rewritten(path)
    more_orders(path, 5, 10)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def test_a_file_that_did_not_only_grow_is_refused_with_the_choices(data: Path, db: Database) -> None:
    changes = {
        _shorter: "it is shorter now",
        _rewritten: "bytes, which are loaded, have changed",
        _changed_and_grown: "bytes, which are loaded, have changed",
        _emptied: "it is shorter now: 0 of",
    }
    paths = [orders(data / f"orders_{number}.csv", 10, first=number * 100) for number in range(len(changes) + 1)]
    load(data, db)
    before = stored(db, "orders", ORDERS)
    for path, change in zip(paths, changes, strict=False):
        change(path)
    report = load(data, db, on_change="append-tail")
    assert [told(report)[path.name] for path in paths] == [("refused", "changed")] * 4 + [("skipped", "same_content")]
    for outcome, why in zip(report.files, changes.values(), strict=False):
        assert why in outcome.sentence
        assert "--on-change reload" in outcome.hint
        assert "skip" in outcome.hint
    assert stored(db, "orders", ORDERS) == before
    assert {(row["state"], row["error_code"], row["rows_loaded"]) for row in (known(db, path) for path in paths)} == {
        ("loaded", "changed", 10),
        ("loaded", None, 10),
    }
    assert load(data, db, on_change="reload").exit_code == 0
    assert_loaded_once(db, "orders", [path for path in paths if path.stat().st_size])


def test_a_last_record_without_a_line_end_may_have_been_a_part_of_one(data: Path, db: Database) -> None:
    path = data / "orders.csv"
    path.write_bytes(b"id,n\n1,10\n2,20")
    load(data, db)
    path.write_bytes(b"id,n\n1,10\n2,200\n3,30\n")
    report = load(data, db, on_change="append-tail")
    assert told(report) == {"orders.csv": ("refused", "changed")}
    assert "no line end" in report.files[0].sentence
    assert stored(db, "orders", ["n"]) == {("10",): 1, ("20",): 1}


def test_what_was_added_must_be_written_and_read_as_the_rest(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id;x", "n"], [["1;1", 1], ["2;2", 2]])
    load(data, db)
    old = path.read_bytes()
    append(path, [["3", 4]])
    report = load(data, db, on_change="append-tail", null=("4",))
    assert told(report) == {"orders.csv": ("refused", "changed")}
    assert "with other options (null)" in report.files[0].sentence
    path.write_bytes(old + b"3;1,2\n")
    report = load(data, db, on_change="append-tail", told=Told(delimiter=";"))
    assert told(report) == {"orders.csv": ("refused", "changed")}
    assert "with other options (told)" in report.files[0].sentence
    assert query(db, "SELECT count(*) FROM orders") == [(2,)]


def test_lines_may_end_another_way_in_what_was_added(data: Path, db: Database) -> None:
    path = data / "orders.csv"
    path.write_bytes(b"id,n\r\n1,10\r\n2,20\r\n")
    load(data, db)
    append(path, [[3, 30]])
    assert tail(data, db) == {"orders.csv": ("loaded", "grown")}
    assert stored(db, "orders", ["id", "n"]) == {("1", "10"): 1, ("2", "20"): 1, ("3", "30"): 1}


@pytest.mark.every_target
def test_rejects_of_a_tail_count_with_those_of_before(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2, 2], [3, 3]])
    load(data, db)
    append(path, [[4, "x"], [5, 5]])
    report = load(data, db, on_change="append-tail")
    assert told(report) == {"orders.csv": ("refused", "over_budget")}
    assert "Nothing of what was added to it was loaded." in report.files[0].sentence
    row = known(db, path)
    assert (row["state"], row["error_code"], row["rows_loaded"]) == ("loaded", "over_budget", 3)
    assert rejects(db) == [(5, 17, 3, "n", "bad_integer", "4,x", 0)]

    report = load(data, db, on_change="append-tail", max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.rejected) == (3, 1, 1)
    assert rejects(db) == [(5, 17, 3, "n", "bad_integer", "4,x", 1)]
    # A tail without one is nothing to refuse it for, whatever the budget; with one, the file has two.
    append(path, [[6, 6]])
    report = load(data, db, on_change="append-tail")
    assert (report.exit_code, report.rows, report.rejected) == (0, 1, 0)
    append(path, [[7, "y"]])
    report = load(data, db, on_change="append-tail", max_rejects=Budget(count=1))
    assert told(report) == {"orders.csv": ("refused", "over_budget")}
    assert "2 records (1 of before)" in report.files[0].sentence
    report = load(data, db, on_change="append-tail", max_rejects_run=1)
    assert (report.exit_code, report.rows, report.rejected) == (3, 0, 1)
    assert [(line, record, text, applied) for line, _, record, _, _, text, applied in rejects(db)] == [
        (5, 3, "4,x", 1),
        (8, 6, "7,y", 1),
    ]
    row = known(db, path)
    assert (row["committed_records"], row["rows_loaded"], row["rows_rejected"]) == (7, 5, 2)
    assert_counts_add_up(db)


@pytest.mark.every_target
@pytest.mark.parametrize("bad", [False, True])
def test_a_tail_of_many_steps_is_one_transaction(data: Path, db: Database, bad: bool) -> None:
    sizes = {"slice_bytes": 2048, "commit_bytes": 4096}
    path = write_csv(data / "orders.csv", ["id", "n"], [[i, i] for i in range(2_000)])
    load(data, db, **sizes)
    append(path, [[i, i] for i in range(2_000, 5_000)] + [[5_000, "x" if bad else 1]])
    report = load(data, db, on_change="append-tail", **sizes)
    if bad:
        assert told(report) == {"orders.csv": ("refused", "over_budget")}
        assert query(db, "SELECT count(*), sum(n) FROM orders") == [(2_000, 1_999_000)]
        assert known(db, path)["rows_loaded"] == 2_000
        assert [r[0] for r in rejects(db)] == [5_002]
    else:
        assert (report.exit_code, report.rows) == (0, 3_001)
        assert_loaded_once(db, "orders", [path], ["id", "n"])
        assert known(db, path)["version"] > 2
    assert_counts_add_up(db)


def _pack(path: Path, text: str, level: int) -> Path:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=level, mtime=level) as file:
        file.write(text.encode())
    path.write_bytes(packed.getvalue())
    return path


def test_of_a_compressed_file_the_decoded_content_counts(data: Path, db: Database) -> None:
    text = "id,n\n" + "".join(f"{i},{i * i}\n" for i in range(500))
    path = _pack(data / "orders.csv.gz", text, 1)
    load(data, db)
    _pack(path, text, 9)
    assert tail(data, db) == {"orders.csv.gz": ("skipped", "same_content")}
    assert tail(data, db)["orders.csv.gz"][0] == "skipped"
    _pack(path, text + "500,1\n501,2\n", 9)
    report = load(data, db, on_change="append-tail")
    assert (told(report), report.rows) == ({"orders.csv.gz": ("loaded", "grown")}, 2)
    assert_loaded_once(db, "orders", [path], ["id", "n"])
    _pack(path, text.replace("3,9\n", "3,8\n") + "500,1\n501,2\n502,3\n", 9)
    assert tail(data, db) == {"orders.csv.gz": ("refused", "changed")}
    path.write_bytes(path.read_bytes()[:-20])
    assert tail(data, db) == {"orders.csv.gz": ("refused", "corrupt")}
    assert query(db, "SELECT count(*) FROM orders") == [(502,)]


@pytest.mark.every_target
def test_a_table_without_lineage_takes_tails(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    load(data, db, lineage="none")
    more_orders(path, 5, 10)
    assert tail(data, db) == {"orders.csv": ("loaded", "grown")}
    assert_loaded_once(db, "orders", [path])


def test_a_file_that_had_no_records_is_loaded_whole(data: Path, db: Database) -> None:
    header, nothing = write_csv(data / "orders_1.csv", ["a", "b"], []), data / "orders_2.csv"
    nothing.write_bytes(b"")
    load(data, db)
    append(header, [[1, 2]])
    append(nothing, [["a", "b"], [3, 4]])
    assert set(tail(data, db).values()) == {("loaded", "changed")}
    assert stored(db, "orders", ["a", "b"]) == {("1", "2"): 1, ("3", "4"): 1}
    append(header, [[5, 6]])
    assert tail(data, db)["orders_1.csv"] == ("loaded", "grown")
    assert_loaded_once(db, "orders", [header, nothing], ["a", "b"])


@pytest.mark.every_target
def test_by_key_the_records_of_a_tail_meet_the_rows_as_any(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2, 2]])
    report = load(data, db, mode="upsert", key=("id",))
    if report.exit_code:
        assert "ON CONFLICT" in report.files[0].sentence  # of a database that is not known
        return
    append(path, [[2, 20], [3, 30], [3, 31]])
    assert tail(data, db) == {"orders.csv": ("refused", "changed")}  # in another mode
    report = load(data, db, mode="upsert", key=("id",), on_change="append-tail")
    assert (told(report), report.rows, report.superseded) == ({"orders.csv": ("loaded", "grown")}, 2, 1)
    assert stored(db, "orders", ["id", "n"]) == {("1", "1"): 1, ("2", "20"): 1, ("3", "31"): 1}
    row = known(db, path)
    assert (row["rows_loaded"], row["rows_superseded"], row["committed_records"]) == (4, 1, 5)
    append(path, [[4, 4]])
    more = ("--mode", "upsert", "--key", "id", "--on-change", "append-tail", "--json")
    done = ingest("load", data, "--to", db, *more, cwd=data, INGEST_FAILPOINT=f"after_commit@{data.parent / 'fired'}")
    assert (data.parent / "fired").exists()
    assert done.returncode == 0, done.stderr
    assert '"rows": 1, "rejected": 0' in done.stdout
    assert known(db, path)["rows_loaded"] == 5


def test_what_a_file_grew_to_is_compared_with_the_others(data: Path, db: Database, tmp_path: Path) -> None:
    path, other = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 20)
    load(data, db)
    old = shutil.copy(path, tmp_path / "old.csv")
    more_orders(path, 10, 10)
    assert path.read_bytes() == other.read_bytes()
    assert tail(data, db)["orders_1.csv"] == ("refused", "duplicate")
    assert_loaded_once(db, "orders", [Path(old), other])
    more_orders(path, 1, 90)
    assert tail(data, db)["orders_1.csv"] == ("loaded", "grown")
    path.rename(data / "orders_3.csv")
    assert tail(data, db)["orders_3.csv"] == ("skipped", "moved")
    assert_loaded_once(db, "orders", [data / "orders_3.csv", other])


def test_a_quote_left_open_is_not_closed_by_what_was_added(data: Path, db: Database) -> None:
    path = data / "orders.csv"
    path.write_bytes(b'id,note\n1,a\n2,"b\n3,c\n')
    budget = Budget(count=5)
    load(data, db, max_rejects=budget)
    first = known(db, path)
    path.write_bytes(path.read_bytes() + b'4,d\n5,e"\n6,f\n')
    assert tail(data, db, max_rejects=budget)["orders.csv"] == ("loaded", "grown")
    row = known(db, path)
    assert (first["rows_rejected"], row["rows_rejected"]) == (1, 2)
    assert [text for *_, text, _ in rejects(db)] == ['2,"b', '5,e"']
    assert stored(db, "orders", ["id"]) == {("1",): 1, ("3",): 1, ("4",): 1, ("6",): 1}
    assert_counts_add_up(db)


def test_the_story_of_a_file_tells_of_its_tail(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    size = path.stat().st_size
    load(data, db)
    more_orders(path, 5, 10)
    tail(data, db)
    shown = ingest("status", "orders.csv", "--to", db, cwd=data)
    assert f"It has grown: what follows its first {size:,} bytes was loaded at" in shown.stdout
    assert "15 rows" in shown.stdout


@pytest.mark.every_target
@pytest.mark.parametrize("change", ["append-tail", "reload"])
def test_what_is_told_of_a_refusal_is_that_the_rows_of_before_stay(data: Path, db: Database, change: str) -> None:
    """Neither the list of rejects nor the story of the file takes the refused part, or its run, for the whole."""
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2, 2]])
    load(data, db)
    append(path, [[3, "x"]])
    assert told(load(data, db, on_change=change)) == {"orders.csv": ("refused", "over_budget")}
    listed = ingest("rejects", "list", "--to", db, cwd=data).stdout
    assert "(what is new in the file was refused; its rows of before stay)" in listed
    assert "whole file" not in listed
    shown = ingest("status", "orders.csv", "--to", db, cwd=data).stdout
    assert "2 rows, 0 rejected" in shown
    assert " by run 1.\n" in shown  # without the attempt, for the last one was the refused one
    assert "by run 2" not in shown
    assert load(data, db, on_change=change, max_rejects=Budget(count=1)).exit_code == 3
    assert "by run 3, in attempt 3." in ingest("status", "orders.csv", "--to", db, cwd=data).stdout
    assert "refused" not in ingest("rejects", "list", "--to", db, cwd=data).stdout


def test_a_tail_that_is_taken_back_did_not_load_the_file(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    load(data, db)
    more_orders(path, 20, 10)
    arguments = ("load", data, "--to", db, "--on-change", "append-tail")
    assert ingest(*arguments, cwd=data, INGEST_FAILPOINT="after_register").returncode == -9
    assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}
    assert " by run 1.\n" in ingest("status", "orders.csv", "--to", db, cwd=data).stdout
