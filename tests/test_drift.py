"""Headers and values that differ between the files of a table are told before the first row, and nothing is guessed."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from oracle import Database, oracle
from tools import ingest, load, query, told, write_csv

from ingest import apart, inference, reader, show
from ingest.model import ColumnType, Dialect
from ingest.reports import Event, Notice, Plan, TablePlan
from ingest.run import plan as run_plan
from ingest.settings import Settings


def plan(data: Path, db: Path, **settings: object) -> Plan:
    return run_plan([data], Settings(to=str(db), workers=2, **settings))  # type: ignore[arg-type]


def one_table(what: Plan) -> TablePlan:
    (table,) = what.tables
    return table


def shown(what: Plan) -> str:
    out = io.StringIO()
    show.plan(what, out)
    return out.getvalue()


def warned(data: Path, db: Path, **settings: object) -> list[tuple[str, str]]:
    """What a load tells of a table, without its beginning."""
    events: list[Event] = []
    load(data, db, events=events, **settings)
    return [(event.level, event.text) for event in events if isinstance(event, Notice) and "orders: " in event.text]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number in (1, 2):
        write_csv(folder / f"orders_{number}.csv", ["id", "day", "unit_price", "note"], [[number, 9, 1.5, "a"]])
    return folder


def test_headers_are_compared_with_the_table_before_the_first_row(data: Path, db: Path) -> None:
    load(data, db)
    write_csv(data / "orders_3.csv", ["id", "day", "unit_price", "note"], [[3, 9, 2.5, "b"]])
    write_csv(data / "orders_4.csv", ["note", "ID", "day", "unit_price"], [["c", 4, 9, 2.5]])
    for number in (5, 6):
        write_csv(data / f"orders_{number}.csv", ["id", "day", "Unit price", "discount"], [[number, 9, 1.5, 1]])
    what = plan(data, db)
    first, second, third = one_table(what).headers
    assert [Path(name).name for name in first.files] == ["orders_3.csv"]
    assert (first.added, first.missing, first.renamed, first.spelled, first.reordered) == ((), (), (), (), False)
    assert (second.added, second.missing, second.spelled, second.reordered) == ((), (), (("ID", "id"),), True)
    assert len(third.files) == 2
    assert (third.added, third.missing) == (("Unit price", "discount"), ("unit_price", "note"))
    assert third.renamed == (("Unit price", "unit_price"),)
    lines = shown(what)
    assert "1 file as the table; 1 file (" in lines
    assert "orders_5.csv …): + discount, - note, 'Unit price' for 'unit_price'?" in lines
    assert "orders_4.csv): 'ID' as 'id', in another order" in lines

    (_, differ), (_, order), (_, hint) = notices = warned(data, db)
    assert [level for level, _ in notices] == ["warning", "info", "warning"]
    assert "of 4 files, some differ from the table: 2 files (" in differ
    assert "'ID' as 'id'" in order
    assert "--rename 'Unit price=unit_price'" in hint
    # A guess is not applied: the column is a new one.
    assert query(db, 'SELECT id, unit_price, "Unit price" FROM orders WHERE id = 5') == [(5, None, 1.5)]


def test_the_rescue_column_is_no_part_of_a_header(data: Path, db: Path) -> None:
    """It stands behind the columns of each file, and in the table before those that were added later."""
    (before,) = one_table(plan(data, db, rescue_column="rest")).headers
    load(data, db)
    write_csv(data / "orders_3.csv", ["id", "day", "unit_price", "note"], [[3, 9, 2.5, "b"]])
    (made,) = one_table(plan(data, db, rescue_column="Rest")).headers
    for group in (before, made):
        assert group.columns == ("id", "day", "unit_price", "note")
        assert (group.added, group.missing, group.reordered) == ((), (), False)
    load(data, db, rescue_column="rest")
    write_csv(data / "orders_4.csv", ["id", "day", "unit_price", "note", "discount"], [[4, 9, 2.5, "b", 1]])
    what = plan(data, db, rescue_column="rest")
    (further,) = one_table(what).headers
    assert further.columns == ("id", "day", "unit_price", "note", "discount")
    assert (further.added, further.missing, further.reordered) == (("discount",), (), False)
    assert "orders_4.csv): + discount\n" in shown(what)


def test_of_a_single_file_it_is_not_said_that_some_differ(data: Path, db: Path) -> None:
    load(data, db)
    write_csv(data / "orders_3.csv", ["id", "day", "unit_price", "note", "discount"], [[3, 9, 2.5, "b", 1]])
    ((_, text),) = warned(data, db)
    assert text.startswith("orders: the file differs from the table: 1 file (")
    assert text.endswith("orders_3.csv): + discount")


def test_what_is_refused_is_compared_too(data: Path, db: Path) -> None:
    load(data, db)
    write_csv(data / "orders_3.csv", ["id", "day", "Unit_Price ", "note", "extra"], [[3, 9, 2.5, "b", 1]])
    what = plan(data, db, new_columns="refuse")
    assert [d.action.value for d in what.decisions] == ["skip", "skip", "refuse"]
    write_csv(data / "orders_4.csv", ["id", "day", "unit_price", "note"], [[4, 9, 2.5, "b"]])
    refused, usual = one_table(plan(data, db, new_columns="refuse")).headers
    assert (refused.added, refused.spelled, usual.added) == (("extra",), (("Unit_Price", "unit_price"),), ())


def test_files_of_a_new_table_are_compared_with_all_columns_together(data: Path, db: Path) -> None:
    write_csv(data / "orders_3.csv", ["id", "day", "unit-price", "discount"], [[3, 9, 1.5, 1]])
    first, second = one_table(plan(data, db)).headers
    assert (first.missing, first.renamed) == (("unit-price", "discount"), ())
    # Of two names for one column, the one that more files have is taken for the right one.
    assert (second.missing, second.renamed) == (("unit_price", "note"), (("unit-price", "unit_price"),))
    assert [level for level, _ in warned(data, db)] == ["warning", "info", "warning"]


def test_older_files_of_a_new_table_are_no_reason_for_a_warning(data: Path, db: Path) -> None:
    write_csv(data / "orders_3.csv", ["id", "day", "unit_price", "note", "newsletter"], [[3, 9, 1.5, "x", 1]])
    ((level, text),) = warned(data, db)
    assert level == "info"
    assert "- newsletter" in text
    write_csv(data / "orders_4.csv", ["id", "day", "unit_price", "note"], [[4, 9, 1.5, "x"]])
    ((level, _),) = warned(data, db)
    assert level == "warning"


def test_files_that_are_alike_are_told_of_by_nobody(data: Path, db: Path) -> None:
    what = plan(data, db)
    assert "as the table" not in shown(what)
    assert [len(group.files) for group in one_table(what).headers] == [2]
    assert warned(data, db) == []


def test_names_that_may_be_two_columns_are_not_guessed(data: Path, db: Path) -> None:
    load(data, db)
    write_csv(data / "orders_3.csv", ["id", "day", "Unit price", "unit-price", "note"], [[3, 9, 1, 2, "x"]])
    (group,) = one_table(plan(data, db)).headers
    assert group.renamed == ()


def test_a_column_of_different_types_is_told_with_its_files(data: Path, db: Path) -> None:
    """Small files travel together, large ones by themselves: both are told one from the other."""
    write_csv(data / "orders_3.csv", ["id", "day", "unit_price", "note"], [["x1", 9, 2, "7"]])
    write_csv(
        data / "orders_4.csv", ["id", "day", "unit_price", "note"], [[i, 9, 1.25, "b" * 20] for i in range(10_000)]
    )
    column, note = one_table(plan(data, db)).mixed
    assert (column.name, column.type) == ("id", ColumnType.TEXT)
    kinds = {kind: sorted(Path(name).name for name in files) for kind, files in column.kinds}
    assert kinds == {
        ColumnType.BIGINT: ["orders_1.csv", "orders_2.csv", "orders_4.csv"],
        ColumnType.TEXT: ["orders_3.csv"],
    }
    assert note.name == "note"
    (level, text), _ = warned(data, db)
    assert level == "warning"
    assert "id is bigint in 3 files (" in text
    assert "text in 1 file (" in text


def test_a_bundle_is_told_apart_as_its_files_would_be_alone() -> None:
    words = random.Random(1)
    files = [
        "".join(words.choice(["7\n", "1.5\n", "x\n", '""\n', "007\n", "2024-01-01\n", "yes\n", "no\n"]) for _ in "ab")
        for _ in range(20)
    ]
    dialect = Dialect()
    together = reader.read("".join(files).encode(), 1, dialect, proven=True).table
    (found,) = apart.kinds(together, inference.profile(together), [2] * len(files), [None])
    for number, text in enumerate(files):
        (alone,) = inference.profile(reader.read(text.encode(), 1, dialect, proven=True).table)
        kind = next((kind for kind, members in found.items() if number in members), ColumnType.TEXT)
        assert kind == alone.decide().type, text


# ingest schema -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write_csv(folder / "t.csv", ["id", "zip", "Unit price %", 'a "b"', "none"], [[1, "01234", "1.50", "x", ""]] * 3)
    write_csv(folder / "t_2.csv", ["id", "zip", "Unit price %"], [[2, "99999", "2.25"]])
    return folder


def test_the_schema_of_files_is_shown_with_reasons(mixed: Path, tmp_path: Path) -> None:
    done = ingest("schema", mixed, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert lines[0] == ["t:", "2", "files"]
    assert lines[1] == ["column", "type", "nullable", "reason"]
    assert ["id", "bigint", "no", "whole numbers of at most 18 digits"] in lines
    zip_ = next(line for line in done.stdout.splitlines() if line.startswith("zip"))
    assert "text" in zip_
    assert "have leading zeros" in zip_
    assert "bigint in 1 file" in zip_
    assert next(line for line in done.stdout.splitlines() if line.startswith("none")).endswith("no value yet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"], "a database was made"
    found = json.loads(ingest("schema", mixed, "--json", cwd=tmp_path).stdout)
    (table,) = found["tables"]
    assert [(c["name"], c["type"], c["nullable"]) for c in table["columns"]] == [
        ("id", "bigint", False),
        ("zip", "text", False),
        ("Unit price %", "double", False),
        ('a "b"', "text", True),
        ("none", "text", True),
    ]


def test_the_schema_as_options_makes_the_same_table(mixed: Path, db: Path, tmp_path: Path) -> None:
    done = ingest("schema", mixed, "--as", "options", cwd=tmp_path)
    (tmp_path / "load.sh").write_text(f"{sys.executable} -m ingest load in --to {db} -q {done.stdout}")
    subprocess.run(["sh", "load.sh"], cwd=tmp_path, check=True)
    other = db.with_name("other.db")
    load(mixed, other)
    (made,), (inferred,) = (query(d, "SELECT sql FROM sqlite_master WHERE name = 't'") for d in (db, other))
    assert made[0][made[0].index("*/") :] == inferred[0][inferred[0].index("*/") :]


@pytest.mark.every_target
def test_the_schema_as_sql_makes_the_table_that_a_load_makes(mixed: Path, db: Database, tmp_path: Path) -> None:
    load(write_csv(tmp_path / "u.csv", ["x"], [[1]]), db)  # so that there is a database
    done = ingest("schema", mixed, "--as", "sql", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    query(db, done.stdout)
    by_hand = oracle(db).columns("t")
    query(db, 'DROP TABLE "t"')
    assert told(load(mixed, db))["t.csv"] == ("loaded", "new")
    assert oracle(db).columns("t") == by_hand


def test_the_schema_needs_no_database(mixed: Path, tmp_path: Path) -> None:
    for url, word in (("postgresql://u@127.0.0.1:1/x", "DOUBLE PRECISION"), ("mysql://u@127.0.0.1:1/x", "LONGTEXT")):
        done = ingest("schema", mixed, "--as", "sql", "--to", url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert word in done.stdout
        assert "Unit price %" in done.stdout
        assert "%%" not in done.stdout


def test_files_that_say_nothing_of_a_schema_are_named(mixed: Path, tmp_path: Path) -> None:
    (mixed / "wide.csv").write_bytes("a,b\n1,2\n".encode("utf-16")[:-1])
    done = ingest("schema", mixed, "--json", cwd=tmp_path)
    assert "wide.csv" in done.stderr
    assert [left["code"] for left in json.loads(done.stdout)["left_out"]] == ["encoding"]
