"""Tables that are not what the ledger filled (design D5): told, not guessed, and the other tables go on."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from oracle import Database, oracle
from tools import assert_counts_add_up, assert_loaded_once, ingest, known, load, orders, query, rejects, told, write_csv

pytestmark = pytest.mark.every_target


@pytest.fixture
def data(tmp_path: Path, db: Database) -> Path:
    """Two tables of ours, loaded: three files of orders, one of them of another folder, and one of refunds."""
    folder = tmp_path / "data"
    orders(folder / "orders_1.csv", 10)
    orders(folder / "orders_2.csv", 10, first=10)
    orders(tmp_path / "archive" / "orders_0.csv", 10, first=90)
    write_csv(folder / "refunds.csv", ["id"], [[1], [2]])
    write_csv(folder / "orders_9.csv", ["id", "customer", "amount", "day", "note"], [])
    for path in tmp_path.rglob("*.csv"):
        os.utime(path, (1_577_836_800, 1_577_836_800))  # long ago: size and time alone decide
    assert load([folder, tmp_path / "archive"], db).exit_code == 0
    return folder


def drop(db: Database) -> None:
    query(db, "DROP TABLE orders")


def empty(db: Database) -> None:
    query(db, "DELETE FROM orders")


def make_again(db: Database) -> None:
    """By hand, with the same columns: nobody could tell it from ours without the token."""
    oracle(db).make_again("orders")


LOSSES = {
    "dropped": (drop, "table_lost"),
    "emptied": (empty, "table_emptied"),
    "made again": (make_again, "table_lost"),
}


@pytest.fixture(params=["dropped", "emptied", pytest.param("made again", marks=pytest.mark.core)])
def loss(request: pytest.FixtureRequest, data: Path, db: Database) -> str:
    lose, code = LOSSES[request.param]
    lose(db)
    return code


def test_a_lost_table_is_refused_and_other_tables_go_on(data: Path, db: Database, loss: str) -> None:
    orders(data / "orders_3.csv", 5, first=20)  # a new file alone would make the table look well again
    write_csv(data / "refunds_2.csv", ["id"], [[3]])
    report = load(data, db)
    assert report.exit_code == 4
    assert told(report) == {
        "orders_1.csv": ("refused", loss),
        "orders_2.csv": ("refused", loss),
        "orders_3.csv": ("refused", loss),
        "orders_9.csv": ("skipped", "loaded"),
        "refunds.csv": ("skipped", "loaded"),
        "refunds_2.csv": ("loaded", "new"),
    }
    assert all("--on-lost" in o.hint for o in report.files if o.state == "refused")
    row = known(db, data / "orders_1.csv")
    assert (row["state"], row["error_code"], row["rows_loaded"]) == ("loaded", loss, 10)
    assert known(db, data / "orders_3.csv")["state"] == "refused"
    if "orders" in oracle(db).tables():
        assert query(db, "SELECT count(*) FROM orders") == [(0,)]
    # As long as nobody chooses, it is said again.
    assert told(load(data, db))["orders_1.csv"] == ("refused", loss)


def test_a_lost_table_is_filled_again_on_demand(data: Path, db: Database, loss: str, tmp_path: Path) -> None:
    orders(data / "orders_3.csv", 5, first=20)
    load(data, db)
    report = load(data, db, on_lost="reload")
    assert report.exit_code == 0
    assert told(report)["orders_1.csv"] == ("loaded", loss)
    assert told(report)["orders_3.csv"] == ("loaded", "retry")
    files = [data / f"orders_{i}.csv" for i in (1, 2, 3)]
    assert_loaded_once(db, "orders", files)
    assert load(data, db).rows == 0
    # What this run did not see is not taken for loaded: a later one brings it back.
    archived = tmp_path / "archive" / "orders_0.csv"
    assert (known(db, archived)["state"], known(db, archived)["rows_loaded"]) == ("refused", 0)
    assert told(load(tmp_path / "archive", db)) == {"orders_0.csv": ("loaded", loss)}
    assert_loaded_once(db, "orders", [*files, archived])
    assert load([data, tmp_path / "archive"], db).rows == 0


def test_rows_of_a_lost_table_whose_files_are_gone_are_not_given_up_in_silence(
    data: Path, db: Database, loss: str, tmp_path: Path
) -> None:
    gone, renamed, archived = data / "orders_1.csv", data / "orders_2.csv", tmp_path / "archive" / "orders_0.csv"
    gone.unlink()
    renamed.rename(data / "orders_4.csv")  # its content is there: nothing of it is lost
    refusing = ingest("load", data, "--to", db, cwd=tmp_path)
    assert refusing.returncode == 4
    assert "vanished: 2 files" in refusing.stderr
    assert "rows stay" not in refusing.stderr
    orders(data / "orders_3.csv", 5, first=20)
    report = load(data, db, on_lost="reload")
    [warning] = [text for text in report.warnings if "lost" in text]
    assert str(gone) in warning
    assert str(renamed) not in warning
    assert str(archived) not in warning  # it is there, and a run over its folder brings it back
    assert report.vanished == (str(gone), str(renamed))
    assert report.exit_code == 0
    assert_loaded_once(db, "orders", [data / "orders_3.csv", data / "orders_4.csv"])
    assert (known(db, gone)["state"], known(db, gone)["error_code"]) == ("refused", loss)


def test_a_lost_table_that_is_ignored_takes_new_files_only(data: Path, db: Database, loss: str) -> None:
    new = orders(data / "orders_3.csv", 5, first=20)
    report = load(data, db, on_lost="ignore")
    assert report.exit_code == 0
    assert told(report)["orders_1.csv"] == ("skipped", "loaded")
    assert_loaded_once(db, "orders", [new])
    # It has rows again, and what was ignored is not brought up any more.
    assert load(data, db).exit_code == 0
    orders(data / "orders_1.csv", 3, first=500)
    assert load(data, db, on_change="reload").rows == 3
    assert_loaded_once(db, "orders", [new, data / "orders_1.csv"])


@pytest.mark.parametrize("where", ["after_lose", "after_create", "after_register", "before_commit"])
def test_a_refill_that_was_killed_is_finished_by_the_next_run(data: Path, db: Database, where: str) -> None:
    drop(db)
    killed = ingest(
        "load", data, "--to", db, "--on-lost", "reload", cwd=data.parent, INGEST_FAILPOINT=f"{where}@{data.parent}/once"
    )
    # The writer is started anew; whoever kills the main process ends the run.
    assert killed.returncode == (0 if where == "before_commit" else -9), killed.stderr
    assert load(data, db).exit_code == 0
    assert_loaded_once(db, "orders", [data / "orders_1.csv", data / "orders_2.csv"])


def test_a_refused_refill_is_not_taken_for_loaded(data: Path, db: Database) -> None:
    empty(db)
    path = write_csv(data / "orders_1.csv", ["id", "customer", "amount", "day", "note"], [["x", "c", 1, 1, 1]])
    report = load(data, db, on_lost="reload")
    assert told(report)["orders_1.csv"] == ("refused", "over_budget")
    assert (known(db, path)["state"], known(db, path)["rows_loaded"]) == ("refused", 0)
    assert len(rejects(db)) == 1
    assert_loaded_once(db, "orders", [data / "orders_2.csv"])
    orders(path, 4)
    assert load(data, db).rows == 4


def test_a_table_that_is_changed_while_a_file_over_budget_is_read(tmp_path: Path, db: Database) -> None:
    """Two reasons to refuse the same file, one found by the readers and one by the writer: it is refused once."""
    folder = tmp_path / "data"
    assert load(write_csv(folder / "t_0.csv", ["id", "n"], [[0, 0]]), db).exit_code == 0
    bad = write_csv(folder / "t_1.csv", ["id", "n"], [["x" if i in (10, 500, 990) else i, 1] for i in range(1_000)])
    good = write_csv(folder / "u_1.csv", ["id"], [[1]])
    (tmp_path / "changing.py").write_text(
        "import os\n"
        "from ingest.targets import target_for\n"
        f"URL = {f'sqlite:///{db}' if isinstance(db, Path) else str(db)!r}\n"
        "def change(frame):\n"
        "    if len(frame) in (1, 1_000):  # the other file, or the look at the head of this one\n"
        "        return frame\n"
        "    try:\n"
        f"        os.close(os.open({str(tmp_path / 'changed')!r}, os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError:\n"
        "        return frame\n"
        "    target = target_for(URL)  # with our driver\n"
        "    with target.begin() as connection:\n"
        "        connection.exec_driver_sql('ALTER TABLE t ADD COLUMN more INTEGER')\n"
        "    target.close()\n"
        "    return frame\n"
    )
    sizes = ("--slice-bytes", "1KiB", "--commit-bytes", "2KiB", "--workers", "1", "--max-rejects", "1")
    done = ingest("load", bad, good, "--to", db, "--transform", "changing:change", *sizes, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert known(db, bad)["state"] == "refused"
    assert known(db, good)["state"] == "loaded"
    assert query(db, "SELECT count(*) FROM t") == [(1,)]


# a table of the user's


@pytest.fixture
def theirs(tmp_path: Path, db: Database) -> Path:
    """A table that was there before us, without lineage, loaded from two files."""
    query(db, "CREATE TABLE orders (id INTEGER, customer TEXT, amount REAL, day TEXT, note TEXT, extra TEXT)")
    folder = tmp_path / "data"
    orders(folder / "orders_1.csv", 10)
    orders(folder / "orders_2.csv", 10, first=10)
    assert load(folder, db).exit_code == 0
    return folder


def test_a_table_of_the_users_that_loses_a_column_is_lost(theirs: Path, db: Database) -> None:
    if isinstance(db, Path) and sqlite3.sqlite_version_info < (3, 35):
        pytest.skip("this SQLite cannot drop a column")
    query(db, "ALTER TABLE orders DROP COLUMN extra")
    orders(theirs / "orders_3.csv", 5, first=20)
    assert set(told(load(theirs, db)).values()) == {("refused", "table_lost")}
    # Its rows are still there and cannot be told apart: filling it again would double them.
    report = load(theirs, db, on_lost="reload")
    assert set(told(report).values()) == {("refused", "table_lost")}
    assert "rows" in report.files[0].sentence
    assert query(db, "SELECT count(*) FROM orders") == [(20,)]
    assert load(theirs, db, on_lost="ignore").rows == 5
    assert load(theirs, db).exit_code == 0
    assert_loaded_once(db, "orders", [theirs / f"orders_{i}.csv" for i in (1, 2, 3)])


def test_a_table_of_the_users_that_was_emptied_is_filled_again_on_demand(theirs: Path, db: Database) -> None:
    query(db, "DELETE FROM orders")
    assert set(told(load(theirs, db)).values()) == {("refused", "table_emptied")}
    assert load(theirs, db, on_lost="reload").rows == 20
    assert_loaded_once(db, "orders", [theirs / f"orders_{i}.csv" for i in (1, 2)])
    query(db, "DROP TABLE orders")
    assert set(told(load(theirs, db)).values()) == {("refused", "table_lost")}
    assert load(theirs, db, on_lost="reload").rows == 20
    assert_loaded_once(db, "orders", [theirs / f"orders_{i}.csv" for i in (1, 2)])
    # It is ours now, with lineage: a file can be replaced.
    orders(theirs / "orders_1.csv", 3, first=500)
    assert load(theirs, db, on_change="reload").rows == 3


def test_a_table_that_only_gained_a_column_is_the_same_one(theirs: Path, db: Database) -> None:
    query(db, "ALTER TABLE orders ADD COLUMN more TEXT")
    orders(theirs / "orders_3.csv", 5, first=20)
    assert load(theirs, db).exit_code == 0
    assert_loaded_once(db, "orders", [theirs / f"orders_{i}.csv" for i in (1, 2, 3)])


# nothing loaded ---------------------------------------------------------------------------------------------------


@pytest.mark.every_target
def test_a_table_that_nothing_was_loaded_into_is_not_there_for_the_next_attempt(tmp_path: Path, db: Database) -> None:
    path = tmp_path / "in" / "t.csv"
    write_csv(path, ["id", "amount"], [["1", "1.5"], ["2", "oops"], ["3", "3.5", "too many"]])
    assert told(load(path.parent, db)) == {"t.csv": ("refused", "over_budget")}
    assert oracle(db).tables() == set()
    assert query(db, "SELECT table_name FROM ingest_table") == []
    write_csv(path, ["id", "price"], [["1", "1.5"], ["2", "2.5"], ["3", "3.5"]])
    assert told(load(path.parent, db)) == {"t.csv": ("loaded", "retry")}
    assert list(oracle(db).columns("t")) == ["id", "price"]
    assert not oracle(db).columns("t")["price"].startswith(("TEXT", "LONGTEXT", "VARCHAR"))
    assert query(db, "SELECT id, price FROM t ORDER BY id") == [(1, 1.5), (2, 2.5), (3, 3.5)]
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_a_table_that_was_there_or_got_a_file_stays(tmp_path: Path, db: Database) -> None:
    query(db, "CREATE TABLE mine (id INTEGER)")
    for name, cell in (("mine", "no number"), ("one_1", "too,many"), ("one_2", "1")):
        write_csv(tmp_path / "in" / f"{name}.csv", ["id"], [["1"], cell.split(",")] if "," in cell else [[cell]])
    report = load(tmp_path / "in", db)
    assert {name: state for name, (state, _) in told(report).items()} == {
        "mine.csv": "refused",
        "one_1.csv": "refused",
        "one_2.csv": "loaded",
    }
    assert oracle(db).tables() == {"mine", "one"}
    assert query(db, "SELECT id FROM one") == [(1,)]
