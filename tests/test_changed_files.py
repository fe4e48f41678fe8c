"""Files that are not what they were (design D4): nothing is loaded twice, and nothing is skipped in silence."""

from __future__ import annotations

import gzip
import os
import shutil
import textwrap
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from oracle import Database, oracle
from tools import (
    ORDERS,
    assert_counts_add_up,
    assert_loaded_once,
    ingest,
    known,
    load,
    orders,
    query,
    referred_to,
    rejects,
    stored,
    told,
    write_csv,
)

from ingest.run import plan as run_plan
from ingest.settings import Budget, Settings

pytestmark = pytest.mark.every_target

OLD = 1_577_836_800  # 2020-01-01


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def settle_time(*paths: Path) -> None:
    """Give files a time of change that is long past, so that size and time alone may decide."""
    for path in paths:
        os.utime(path, (OLD, OLD))


def rewrite_unseen(path: Path, content: bytes) -> None:
    """Other content with the same size and time of change."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rows(db: Database, table: str = "orders") -> int:
    return int(query(db, f'SELECT count(*) FROM "{table}"')[0][0])


# unchanged


def test_an_unchanged_directory_loads_nothing_and_starts_no_writer(
    data: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [orders(data / "orders_1.csv", 30), orders(data / "orders_2.csv", 40, first=30)]
    write_csv(data / "empty.csv", ["a", "b"], [])
    settle_time(*files, data / "empty.csv")
    assert load(data, db).exit_code == 0
    before = query(db, "SELECT * FROM ingest_file")

    begin = BaseProcess.start

    def start(process: BaseProcess) -> None:
        # The pool's host is started before anything is known.
        assert process.name == "ingest-pool-host", "an unchanged directory needs no writer"
        begin(process)

    monkeypatch.setattr(BaseProcess, "start", start)
    report = load(data, db)
    assert report.exit_code == 0
    assert report.rows == 0
    assert set(told(report).values()) == {("skipped", "loaded")}
    assert_loaded_once(db, "orders", files)
    assert query(db, "SELECT * FROM ingest_file") == before
    assert query(db, "SELECT state, exit_code, files_skipped FROM ingest_run")[1] == ("finished", 0, 3)


def test_the_same_name_in_two_folders_is_two_files(data: Path, db: Database) -> None:
    first, second = orders(data / "1" / "orders.csv", 10), orders(data / "2" / "orders.csv", 10, first=10)
    settle_time(first, second)
    assert load(data / "1", db).rows == 10
    assert load(data / "2", db).rows == 10
    # Another directory to start from changes nothing.
    assert load(data, db).rows == 0
    assert_loaded_once(db, "orders", [first, second])


def test_other_content_of_the_same_size_and_time_is_seen_by_its_change_time(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id"], [[1], [2]])
    settle_time(path)
    load(data, db)
    rewrite_unseen(path, b"id\n1\n3\n")
    assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}
    assert stored(db, "orders", ["id"]) == {("1",): 1, ("2",): 1}


def test_verify_content_does_not_trust_size_and_time(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id"], [[1], [2]])
    settle_time(path)
    load(data, db)
    rewrite_unseen(path, b"id\n1\n3\n")
    # As if the file system kept no time of change of its own.
    query(db, "UPDATE ingest_file SET ctime_ns = ?", path.stat().st_ctime_ns)
    assert told(load(data, db)) == {"orders.csv": ("skipped", "loaded")}
    assert told(load(data, db, verify_content=True)) == {"orders.csv": ("refused", "changed")}


def test_a_file_changed_within_the_grain_of_its_time_is_compared_by_content(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id"], [[1], [2]])
    load(data, db)
    rewrite_unseen(path, b"id\n1\n3\n")
    status = path.stat()
    query(
        db,
        "UPDATE ingest_file SET ctime_ns = ?, scanned_ns = ?",
        status.st_ctime_ns,
        status.st_mtime_ns + 1_900_000_000,
    )
    assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}


def test_a_touched_file_is_skipped_and_remembered_with_its_new_time(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    settle_time(path)
    load(data, db)
    os.utime(path, (OLD + 60, OLD + 60))
    report = load(data, db)
    assert told(report) == {"orders.csv": ("skipped", "same_content")}
    assert report.exit_code == 0
    assert known(db, path)["mtime_ns"] == (OLD + 60) * 10**9
    assert told(load(data, db)) == {"orders.csv": ("skipped", "loaded")}
    assert_loaded_once(db, "orders", [path])


# changed


def test_a_file_that_becomes_the_copy_of_a_new_one_is_loaded_or_that_one(data: Path, db: Database) -> None:
    path = orders(data / "orders_1.csv", 10)
    load(data, db)
    orders(path, 20, first=50)
    other = Path(shutil.copy(path, data / "orders_2.csv"))
    report = load(data, db, on_change="reload", on_duplicate="skip")
    assert {name: state for name, (state, _) in told(report).items()} == {path.name: "loaded", other.name: "skipped"}
    assert_loaded_once(db, "orders", [path])


@pytest.mark.core
def test_a_changed_file_is_refused_until_the_user_chooses(data: Path, db: Database, tmp_path: Path) -> None:
    path, other = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 5, first=100)
    load(data, db)
    old = shutil.copy(path, tmp_path / "old.csv")
    orders(path, 20, first=50)
    orders(data / "orders_3.csv", 7, first=200)

    report = load(data, db)
    assert report.exit_code == 4
    assert told(report)["orders_1.csv"] == ("refused", "changed")
    assert told(report)["orders_3.csv"][0] == "loaded"
    (outcome,) = [o for o in report.files if o.state == "refused"]
    assert "--on-change" in outcome.hint
    row = known(db, path)
    assert (row["state"], row["error_code"], row["rows_loaded"]) == ("loaded", "changed", 10)
    assert_loaded_once(db, "orders", [Path(old), other, data / "orders_3.csv"])

    assert told(load(data, db, on_change="skip"))["orders_1.csv"] == ("skipped", "changed")
    assert load(data, db, on_change="skip").exit_code == 0
    assert_loaded_once(db, "orders", [Path(old), other, data / "orders_3.csv"])

    report = load(data, db, on_change="reload")
    assert told(report)["orders_1.csv"] == ("loaded", "changed")
    assert report.exit_code == 0
    assert_loaded_once(db, "orders", [path, other, data / "orders_3.csv"])
    row = known(db, path)
    assert (row["state"], row["error_code"], row["rows_loaded"], row["error"]) == ("loaded", None, 20, None)
    assert load(data, db).rows == 0


def test_a_changed_file_that_is_put_back_is_as_if_nothing_had_been(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2, 2]])
    good = path.read_bytes()
    load(data, db)
    path.write_bytes(b"id,n\n1,1\n2,x\n")
    load(data, db, on_change="reload")
    assert known(db, path)["error_code"] == "over_budget"
    assert len(rejects(db)) == 1
    path.write_bytes(good)
    assert told(load(data, db)) == {"orders.csv": ("skipped", "same_content")}
    assert known(db, path)["error_code"] is None
    assert rejects(db) == []


@pytest.mark.parametrize("whole", [True, False], ids=["one step", "many steps"])
def test_a_reload_with_rejects_keeps_the_old_rows(data: Path, db: Database, whole: bool, bulk: str) -> None:
    sizes = {} if whole else {"slice_bytes": 2048, "commit_bytes": 4096}
    path = write_csv(data / "orders.csv", ["id", "n"], [[i, i] for i in range(1_000)])
    assert load(data, db, bulk=bulk, **sizes).rows == 1_000
    before = stored(db, "orders", ["id", "n", "_ingest_file_id"])
    new = [[i, i] for i in range(2_000)]
    new[1_900] = [1_900, "x"]
    write_csv(path, ["id", "n"], new)

    report = load(data, db, bulk=bulk, on_change="reload", **sizes)
    assert told(report) == {"orders.csv": ("refused", "over_budget")}
    assert report.exit_code == 4
    assert stored(db, "orders", ["id", "n", "_ingest_file_id"]) == before
    row = known(db, path)
    assert (row["state"], row["error_code"], row["rows_loaded"]) == ("loaded", "over_budget", 1_000)
    ((line, _, record, column, reason, text, applied),) = rejects(db)
    assert (line, record, column, reason, text, applied) == (1902, 1900, "n", "bad_integer", "1900,x", 0)

    assert load(data, db, bulk=bulk, on_change="reload", max_rejects=Budget(count=1), **sizes).exit_code == 3
    assert rows(db) == 1_999
    assert [r[-1] for r in rejects(db)] == [1]
    assert_counts_add_up(db)


def test_a_reload_that_was_killed_is_gone_on_with_and_keeps_the_old_rows(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[i, i] for i in range(10)])
    load(data, db)
    before = stored(db, "orders", ["id", "n"])
    with path.open("a") as file:
        file.write("10,x\n")
    killed = ingest("load", data, "--to", db, "--on-change", "reload", cwd=data, INGEST_FAILPOINT="after_register")
    assert killed.returncode == -9, killed.stderr
    assert known(db, path)["state"] == "started"
    # What was chosen then is done now, and what was loaded stays if it cannot be.
    assert told(load(data, db)) == {"orders.csv": ("refused", "over_budget")}
    assert stored(db, "orders", ["id", "n"]) == before
    row = known(db, path)
    assert (row["state"], row["error_code"], row["rows_loaded"]) == ("loaded", "over_budget", 10)
    assert told(load(data, db)) == {"orders.csv": ("refused", "changed")}
    report = load(data, db, on_change="reload", max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows) == (3, 10)
    assert stored(db, "orders", ["id", "n"]) == before


def test_the_reload_of_an_emptied_file_leaves_none_of_its_rows(data: Path, db: Database) -> None:
    header, nothing = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 10, first=10)
    other = orders(data / "orders_3.csv", 10, first=20)
    load(data, db)
    write_csv(header, list(ORDERS), [])
    nothing.write_bytes(b"")
    assert {told(load(data, db))[p.name] for p in (header, nothing)} == {("refused", "changed")}
    assert rows(db) == 30
    report = load(data, db, on_change="reload")
    assert report.exit_code == 0
    assert_loaded_once(db, "orders", [other])
    assert [known(db, p)["rows_loaded"] for p in (header, nothing)] == [0, 0]
    assert set(told(load(data, db)).values()) <= {("skipped", "loaded"), ("skipped", "same_content")}


def test_an_emptied_file_whose_rows_are_referred_to_is_refused_alone(data: Path, db: Database) -> None:
    path = orders(data / "orders_1.csv", 10)
    load(data, db)
    write_csv(path, list(ORDERS), [])
    orders(data / "orders_2.csv", 10, first=10)
    with referred_to(db, 3):
        for _ in range(2):
            report = load(data, db, on_change="reload")
            assert report.exit_code == 4
            assert told(report)["orders_1.csv"] == ("refused", "constraint")
            assert known(db, path)["state"] == "loaded"
            assert known(db, path)["error_code"] == "constraint"
            assert rows(db) == 20
    assert load(data, db, on_change="reload").exit_code == 0
    assert rows(db) == 10


def test_a_reload_without_lineage_is_refused(data: Path, db: Database) -> None:
    path = orders(data / "orders.csv", 10)
    load(data, db, lineage="none")
    orders(path, 20)
    report = load(data, db, on_change="reload")
    assert told(report) == {"orders.csv": ("refused", "no_lineage")}
    assert "--lineage" in report.files[0].hint
    assert rows(db) == 10


def test_a_loaded_file_that_became_unreadable_keeps_its_rows(data: Path, db: Database) -> None:
    path, other = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 10, first=10)
    load(data, db)
    path.write_bytes("id,größe\n1,2\n".encode("utf-16")[:-1])
    for choice in ("refuse", "reload"):
        report = load(data, db, on_change=choice)
        assert told(report)["orders_1.csv"] == ("refused", "encoding")
        assert known(db, path)["state"] == "loaded"
        assert known(db, path)["error_code"] == "encoding"
    assert rows(db) == 20
    assert told(load(data, db))[other.name][0] == "skipped"


def test_rotated_files_are_reloaded_as_they_are_now(data: Path, db: Database) -> None:
    """logrotate's way: each name gets the content of the one before, and the first a new one."""
    files = [orders(data / f"orders.{i}.csv", 10, first=i * 10) for i in (1, 2)]
    load(data, db)
    files[1].rename(data / "orders.3.csv")
    files[0].rename(data / "orders.2.csv")
    orders(data / "orders.1.csv", 10)
    report = load(data, db, on_change="reload")
    assert report.exit_code == 0, told(report)
    assert_loaded_once(db, "orders", [data / f"orders.{i}.csv" for i in (1, 2, 3)])


def test_a_changed_file_with_the_content_of_another_is_a_duplicate(data: Path, db: Database) -> None:
    first, second = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 20, first=10)
    load(data, db)
    shutil.copy(second, first)
    report = load(data, db, on_change="reload")
    assert told(report)["orders_1.csv"] == ("refused", "duplicate")
    assert rows(db) == 30
    assert load(data, db, on_change="reload", on_duplicate="load").exit_code == 0
    assert rows(db) == 40


# moved, duplicate, vanished


def test_a_moved_file_is_skipped_and_known_under_its_new_path(data: Path, db: Database) -> None:
    path = orders(data / "orders_1.csv", 10)
    load(data, db)
    file_id = known(db, path)["file_id"]
    moved = data / "done" / "orders_1.csv"
    moved.parent.mkdir()
    path.rename(moved)
    report = load(data, db)
    assert told(report) == {"orders_1.csv": ("skipped", "moved")}
    assert report.exit_code == 0
    assert report.vanished == ()
    assert known(db, moved)["file_id"] == file_id
    assert query(db, "SELECT count(*) FROM ingest_file") == [(1,)]
    assert_loaded_once(db, "orders", [moved])
    orders(moved, 12)
    assert load(data, db, on_change="reload").rows == 12
    assert_loaded_once(db, "orders", [moved])


@pytest.mark.parametrize("runs", [1, 2], ids=["in one run", "in two runs"])
def test_a_file_delivered_twice_is_not_loaded_twice_unless_wanted(data: Path, db: Database, runs: int) -> None:
    path, other = orders(data / "orders_1.csv", 10), orders(data / "orders_3.csv", 5, first=50)
    if runs == 2:
        load(data, db)
    copy = Path(shutil.copy(path, data / "orders_2.csv"))
    report = load(data, db)
    assert told(report)["orders_2.csv"] == ("refused", "duplicate")
    assert report.exit_code == 4
    assert "orders_1.csv" in next(o.sentence for o in report.files if o.state == "refused")
    assert_loaded_once(db, "orders", [path, other])
    report = load(data, db, on_duplicate="skip")
    assert told(report)["orders_2.csv"] == ("skipped", "duplicate")
    assert report.exit_code == 0
    assert_loaded_once(db, "orders", [path, other])
    assert load(data, db, on_duplicate="load").rows == 10
    assert_loaded_once(db, "orders", [path, copy, other])
    assert load(data, db).rows == 0


def test_the_same_content_in_another_table_is_no_duplicate(data: Path, db: Database) -> None:
    orders(data / "orders.csv", 10)
    shutil.copy(data / "orders.csv", data / "sales.csv")
    assert load(data, db).exit_code == 0
    assert (rows(db, "orders"), rows(db, "sales")) == (10, 10)


def test_files_without_a_record_are_loaded_and_never_duplicates(data: Path, db: Database) -> None:
    for name in ("new_1", "new_2", "new_3"):
        write_csv(data / f"{name}.csv", ["a", "b"], [])
    for name in ("zero_1", "zero_2"):
        (data / f"{name}.csv").write_bytes(b"")
    (data / "blank_1.csv").write_bytes(b"\xef\xbb\xbf\r\n\r\n")
    with gzip.open(data / "packed_1.csv.gz", "wb") as file:
        file.write(b"a,b\n")
    report = load(data, db)
    assert report.exit_code == 0
    assert set(told(report).values()) == {("loaded", "no_records")}
    assert len(report.files) == 7
    assert query(db, "SELECT DISTINCT state, rows_loaded FROM ingest_file") == [("loaded", 0)]
    tables = oracle(db).tables()
    assert not tables & {"new", "zero", "blank", "packed"}
    assert {state for state, _ in told(load(data, db)).values()} == {"skipped"}
    # A header alone decides no type: what comes later does.
    write_csv(data / "new_4.csv", ["a", "b"], [[1, "x"]])
    assert load(data, db).rows == 1
    words = oracle(db).words
    assert oracle(db).columns("new") == {"a": words.get("BIGINT", "BIGINT"), "b": words.get("TEXT", "TEXT")}


def test_vanished_files_below_the_folder_are_reported_and_nothing_else(
    data: Path, db: Database, tmp_path: Path
) -> None:
    here, elsewhere = orders(data / "orders_1.csv", 10), orders(tmp_path / "other" / "orders_2.csv", 5, first=10)
    load([data, elsewhere.parent], db)
    here.unlink()
    elsewhere.unlink()
    orders(data / "orders_3.csv", 1, first=90)
    report = load(data, db)
    assert report.vanished == (str(here),)
    assert report.exit_code == 0
    assert rows(db) == 16
    assert known(db, here)["state"] == "loaded"


# still growing


def test_a_file_younger_than_min_age_waits(data: Path, db: Database) -> None:
    young, old = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 10, first=10)
    settle_time(old)
    report = load(data, db, min_age=3600)
    assert [(Path(left.path), left.code.value) for left in report.left_out] == [(young, "too_young")]
    assert report.exit_code == 0
    assert_loaded_once(db, "orders", [old])
    settle_time(young)
    load(data, db, min_age=3600)
    assert_loaded_once(db, "orders", [young, old])


@pytest.mark.parametrize("count", [1, 3], ids=["alone", "in a bundle"])
def test_a_file_that_grows_while_it_is_read_is_refused_and_loaded_when_complete(
    data: Path, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    files = [orders(data / f"orders_{i}.csv", 10, first=i * 10) for i in range(count)]
    (tmp_path / "growing.py").write_text(
        textwrap.dedent(f"""
        import os

        def grow(frame):
            # Only while rows are staged: a preview comes before it, and a second reading after it.
            flag = {str(tmp_path / "seen")!r}
            calls = len(open(flag).read()) if os.path.exists(flag) else 0
            with open(flag, "a") as file:
                file.write(".")
            if calls == 1:
                with open({str(files[0])!r}, "a") as file:
                    file.write("999,c1,1.00,2024-01-01,late\\n")
            return frame
        """)
    )
    monkeypatch.chdir(tmp_path)
    report = load(data, db, transform="growing:grow", workers=1)
    ended = told(report)
    assert ended["orders_0.csv"] == ("refused", "changed_while_read")
    assert all(ended[f.name][0] == "loaded" for f in files[1:])
    assert report.exit_code == 4
    assert_loaded_once(db, "orders", files[1:])
    assert load(data, db, transform="growing:grow", workers=1).exit_code == 0
    assert_loaded_once(db, "orders", files)


# refused before


def test_a_mended_file_is_loaded_and_its_old_rejects_are_gone(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2], [3, 3]])
    write_csv(data / "ragged.csv", ["id", "n"], [[1, 1, 1], [3, 3]])
    assert load(data, db).exit_code == 4
    assert known(db, path)["state"] == "refused"
    assert len(rejects(db)) == 2
    write_csv(path, ["id", "n"], [[1, 1], [2, 2], [3, 3]])
    report = load(data, db)
    assert told(report)["orders.csv"] == ("loaded", "retry")
    assert [r[5] for r in rejects(db)] == ["1,1,1"]
    row = known(db, path)
    assert (row["state"], row["error_code"], row["attempts"], row["rows_loaded"]) == ("loaded", None, 2, 3)


def test_a_refused_file_that_is_refused_for_another_reason_has_no_old_rejects(data: Path, db: Database) -> None:
    path = write_csv(data / "orders.csv", ["id", "n"], [[1, 1], [2], [3, 3]])
    load(data, db)
    assert len(rejects(db)) == 1
    path.write_bytes(b"\xff\xfei\0d")
    assert told(load(data, db)) == {"orders.csv": ("refused", "encoding")}
    assert rejects(db) == []


def test_what_is_decided_is_told_the_same_way_by_plan(data: Path, db: Database) -> None:
    moved, same = orders(data / "orders_1.csv", 10), orders(data / "orders_2.csv", 10, first=10)
    changed = orders(data / "orders_3.csv", 10, first=20)
    settle_time(same)
    load(data, db)
    moved.rename(data / "orders_9.csv")
    orders(changed, 11, first=30)
    shutil.copy(same, data / "orders_5.csv")
    orders(data / "orders_6.csv", 3, first=300)
    planned = run_plan([data], Settings(to=str(db), workers=1))
    decided = {Path(d.source.path).name: (d.action.value, d.code.value) for d in planned.decisions}
    report = load(data, db)
    words = {"loaded": "load", "skipped": "skip", "refused": "refuse"}
    assert {name: (words[state], code) for name, (state, code) in told(report).items()} == decided
