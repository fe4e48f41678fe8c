"""The command line from end to end on the sample data: what it loads, says, writes and returns."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

import ingest as package
from tests.tools import expected, ingest, query, stored

ROOT = Path(__file__).parent.parent
SHOP_ROWS = {"customers": 12, "order_items": 60, "orders": 27, "products": 8}
READING = ("data/awkward", "--table", "reading", "--type", "celsius=double")


def counts(db: Path) -> dict[str, int]:
    with sqlite3.connect(db) as connection:
        found = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in SHOP_ROWS}
    connection.close()
    return found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the sample data, so that files can be changed."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the shop was loaded once into `ingest.db`."""
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(ROOT / "data", folder / "data")
    done = ingest("load", "data/shop", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the awkward files were loaded once, with no reject allowed."""
    folder = tmp_path_factory.mktemp("awkward")
    shutil.copytree(ROOT / "data", folder / "data")
    assert ingest("load", *READING, cwd=folder).returncode == 4
    return folder


# load ----------------------------------------------------------------------------------------------------------


def test_load_says_which_database_and_what_was_loaded(tmp_path: Path) -> None:
    done = ingest("load", ROOT / "data/shop", "--to", "shop.db", "--progress", "none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    first, last = done.stderr.splitlines()
    assert first == "database: sqlite:///shop.db (new)"
    assert re.fullmatch(r"loaded: 10 files, 107 rows in \d+\.\d s, [\d,]+ rows/s", last)
    assert counts(tmp_path / "shop.db") == SHOP_ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


def test_every_order_is_in_the_table_once(shop: Path) -> None:
    columns = ("order_id", "customer_id", "note")
    files = sorted(shop.glob("data/shop/orders_*.csv"))
    assert stored(shop / "ingest.db", "orders", columns) == expected(files, columns)


def test_second_load_has_nothing_to_load(shop: Path) -> None:
    done = ingest("load", "data/shop", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "database: sqlite:///ingest.db",
        "nothing to load: 10 files are loaded already",
    ]
    assert counts(shop / "ingest.db") == SHOP_ROWS


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_load_says_nothing_when_all_is_loaded(flag: str, tmp_path: Path) -> None:
    done = ingest("load", ROOT / "data/shop", flag, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert counts(tmp_path / "ingest.db") == SHOP_ROWS


def test_quiet_load_speaks_when_something_is_left(tmp_path: Path) -> None:
    done = ingest("load", *READING, "-q", "--to", tmp_path / "x.db", cwd=ROOT)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "refused: data/awkward/ragged_record.csv" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("refused: 4 files")


def test_json_is_all_that_stdout_holds(tmp_path: Path) -> None:
    done = ingest("load", ROOT / "data/shop", "--json", cwd=tmp_path)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert [event["event"] for event in events if event["event"] not in ("progress", "notice")] == [
        "opened",
        *["file"] * 10,
        "summary",
    ]
    assert (events[-1]["exit_code"], events[-1]["rows"], events[-1]["files"]) == (0, 107, {"loaded": 10})


def test_log_file_has_every_file_and_is_added_to(tmp_path: Path) -> None:
    for _ in range(2):
        ingest("load", ROOT / "data/shop", "-q", "--log-file", "run.log", cwd=tmp_path)
    lines = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \S+\[\d+\] [A-Z]+ ", line) for line in lines)
    for path in (ROOT / "data/shop").glob("*.csv*"):
        assert any(f"{path}: loaded" in line for line in lines), path
        assert any(f"{path}: skipped" in line for line in lines), path


def test_refused_files_are_exit_code_4_and_the_others_are_loaded(awkward: Path) -> None:
    done = ingest("load", *READING, cwd=awkward)
    assert done.returncode == 4
    told = done.stderr.splitlines()
    for name in ("broken_quote", "ragged_record", "text_in_number_column", "wrong_byte"):
        assert sum(line.startswith(f"error: refused: data/awkward/{name}.csv: ") for line in told) == 1
    assert told[-1].startswith("refused: 4 files")
    assert "caf" not in done.stderr  # the text of a record is told by `rejects list` alone
    assert query(awkward / "ingest.db", "SELECT count(*) FROM reading") == [(5,)]


def test_rejects_inside_the_budget_are_exit_code_3(tmp_path: Path) -> None:
    db = tmp_path / "x.db"
    done = ingest("load", *READING, "--max-rejects", "2", "--to", db, cwd=ROOT)
    assert done.returncode == 3, done.stderr
    assert f"rejected: 5 records of loaded files, inside the budget; see: ingest rejects list --to sqlite:///{db}" in (
        done.stderr.splitlines()
    )
    assert query(db, "SELECT count(*) FROM reading") == [(16,)]
    assert query(db, "SELECT count(*), min(applied) FROM ingest_reject") == [(5, 1)]
    again = ingest("load", *READING, "--to", db, cwd=ROOT)
    assert (again.returncode, query(db, "SELECT count(*) FROM reading")) == (0, [(16,)])


def test_path_that_is_not_there_is_exit_code_2_and_makes_no_database(tmp_path: Path) -> None:
    done = ingest("load", "data/shpo", cwd=tmp_path)
    assert done.returncode == 2
    assert "data/shpo does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_without_a_file_is_a_warning_and_makes_no_database(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("a,b\n1,2\n")
    done = ingest("load", "empty", cwd=tmp_path)
    assert done.returncode == 0
    assert "warning: no file to load was found" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_database_without_its_driver_is_refused_without_its_password(tmp_path: Path) -> None:
    done = ingest("load", ROOT / "data/shop", cwd=tmp_path, INGEST_DATABASE_URL="oracle://me:secret@host/db")
    assert done.returncode == 2
    assert "secret" not in done.stderr
    assert "need a driver that is not installed" in done.stderr


def test_database_that_cannot_be_opened_is_exit_code_10(tmp_path: Path) -> None:
    done = ingest("load", ROOT / "data/shop", "--to", "no/such/folder/x.db", cwd=tmp_path)
    assert done.returncode == 10
    (tmp_path / "text.db").write_text("this is no database, and it is long enough to be taken for one\n" * 20)
    spoilt = ingest("load", ROOT / "data/shop", "--to", "text.db", cwd=tmp_path)
    assert spoilt.returncode == 10, spoilt.stderr
    assert "Traceback" not in spoilt.stderr


# plan ----------------------------------------------------------------------------------------------------------


def test_plan_tells_tables_and_types_and_writes_nothing(here: Path) -> None:
    done = ingest("plan", "data/shop", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "database: sqlite:///ingest.db (new)"
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[-1] == ["load", "would", "load", "10"]
    assert ["load", "customers", "data/shop/customers_2026-03-02.csv", "semicolon", "LF", "it", "is", "new"] in lines
    assert ["postcode", "text", "inferred", "10", "values", "have", "leading", "zeros"] in lines
    assert ["ordered_at", "timestamp", "inferred"] in lines
    assert [path.name for path in here.iterdir()] == ["data"]


def test_plan_after_the_load_skips_everything(shop: Path) -> None:
    before = (shop / "ingest.db").read_bytes()
    done = ingest("plan", "data/shop", "--json", cwd=shop)
    told = json.loads(done.stdout)
    assert [decision["action"] for decision in told["decisions"]] == ["skip"] * 10
    assert (shop / "ingest.db").read_bytes() == before


def test_plan_and_load_refuse_the_same_changed_file(here: Path) -> None:
    assert ingest("load", "data/shop", "-q", cwd=here).returncode == 0
    with open(here / "data/shop/products.csv", "a", encoding="utf-8") as file:
        file.write("P09,One more,1.50\n")
    planned = json.loads(ingest("plan", "data/shop", "--json", cwd=here).stdout)
    refused = [decision for decision in planned["decisions"] if decision["action"] == "refuse"]
    assert [(d["source"]["display"], d["code"]) for d in refused] == [("data/shop/products.csv", "changed")]
    done = ingest("load", "data/shop", cwd=here)
    assert done.returncode == 4
    assert refused[0]["hint"] in done.stderr
    assert counts(here / "ingest.db") == SHOP_ROWS
    assert ingest("load", "data/shop", "-q", "--on-change", "reload", cwd=here).returncode == 0
    assert counts(here / "ingest.db") == SHOP_ROWS | {"products": 9}


# the ledger ----------------------------------------------------------------------------------------------------


def test_status_adds_up_what_was_loaded(shop: Path) -> None:
    done = ingest("status", cwd=shop)
    told = [line.split() for line in done.stdout.splitlines()]
    assert told[0] == ["table", "loaded", "rows", "rejected", "discarded"]
    assert {row[0]: int(row[2]) for row in told[1:]} == SHOP_ROWS


def test_status_says_why_files_are_not_loaded(awkward: Path) -> None:
    done = ingest("status", cwd=awkward)
    assert done.returncode == 0
    assert len(re.findall(r"^refused +reading +/\S+\.csv +over_budget: ", done.stdout, re.MULTILINE)) == 4
    story = ingest("status", "wrong_byte.csv", cwd=awkward).stdout
    assert "was refused: nothing of it is in reading." in story
    assert "1 of its records are kept as rejects" in story


def test_runs_tell_what_each_did(here: Path) -> None:
    ingest("load", "data/shop", "-q", cwd=here)
    ingest("load", "data/shop", "-q", cwd=here)
    rows = [json.loads(line) for line in ingest("runs", "--json", cwd=here).stdout.splitlines()]
    seen = [
        (row["run_id"], row["state"], row["files_loaded"], row["files_skipped"], row["rows_loaded"]) for row in rows
    ]
    assert seen == [(2, "finished", 0, 10, 0), (1, "finished", 10, 0, 107)]
    assert rows[0]["ingest_version"] == package.__version__
    one = ingest("runs", "1", cwd=here).stdout
    assert all(path.name in one for path in (here / "data/shop").glob("*.csv*"))


def test_rejects_have_place_reason_and_text(awkward: Path) -> None:
    done = ingest("rejects", "list", "--json", cwd=awkward)
    told = {(Path(r["file"]).name, r["line"]): r for r in map(json.loads, done.stdout.splitlines())}
    assert {place: (r["reason"], r["column"], r["raw"]) for place, r in told.items()} == {
        ("broken_quote.csv", 3): ("broken_quote", None, '2,"south,7.0'),
        ("ragged_record.csv", 3): ("ragged", None, "2,south,7.0,extra"),
        ("ragged_record.csv", 4): ("ragged", None, "3,east"),
        ("text_in_number_column.csv", 3): ("bad_number", "celsius", "2,south,broken sensor"),
        ("wrong_byte.csv", 3): ("bad_byte", None, "2,caf\\xe9,7.0"),
    }
    assert {r["applied"] for r in told.values()} == {False}
    one = ingest("rejects", "list", "ragged_record.csv", cwd=awkward).stdout
    assert [line.strip() for line in one.splitlines()[1::2]] == ["2,south,7.0,extra", "3,east"]


def test_exported_rejects_are_a_csv_file(awkward: Path) -> None:
    done = ingest("rejects", "export", "out.csv", cwd=awkward)
    assert done.returncode == 0
    assert "5 rejects written to out.csv" in done.stderr
    with open(awkward / "out.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head[4:] == ["reading_id", "station", "celsius"]
    assert sorted(row[4:] for row in rows) == [
        ["2", "caf\\xe9", "7.0"],
        ["2", "south", "7.0", "extra"],
        ["2", "south", "broken sensor"],
        ['2,"south,7.0'],
        ["3", "east"],
    ]


def test_forgotten_file_is_loaded_again_and_its_rows_stay(here: Path) -> None:
    ingest("load", "data/shop", "-q", cwd=here)
    asked = ingest("forget", "products.csv", cwd=here)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert ingest("forget", "products.csv", "--yes", cwd=here).returncode == 0
    assert counts(here / "ingest.db") == SHOP_ROWS
    done = ingest("load", "data/shop", cwd=here)
    assert (done.returncode, "loaded: 1 file, 8 rows" in done.stderr) == (0, True)
    assert counts(here / "ingest.db") == SHOP_ROWS | {"products": 16}


def test_ledger_is_up_to_date(shop: Path) -> None:
    assert "up to date" in ingest("ledger", "current", cwd=shop).stdout
    assert "nothing to do" in ingest("ledger", "upgrade", cwd=shop).stdout
