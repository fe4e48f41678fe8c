"""Types (design D14): nothing is lost by inference, and what does not fit later is a reject."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from oracle import Database, oracle
from tools import CAUTION, assert_counts_add_up, load, query, rejects, told, write_csv

from ingest.model import ColumnType
from ingest.settings import Budget, DeclaredType, parse_type

pytestmark = pytest.mark.every_target


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def columns(db: Database, table: str = "t") -> dict[str, str]:
    """The table's columns with their declared types, without our own."""
    return oracle(db).columns(table)


def spelled(db: Database, **declared: str) -> dict[str, str]:
    """The same, expected: types as this database spells them."""
    return {name: oracle(db).words.get(word, word) for name, word in declared.items()}


VALUES = {
    "whole": (["1", "-20", "999999999999999999"], "BIGINT", "integer"),
    "zip": (["007", "1", "2"], "TEXT", "text"),
    "phone": (["+49 30 1", "1", "2"], "TEXT", "text"),
    "long": (["1" * 25, "1", "2"], "TEXT", "text"),
    "price": (["1.50", "2.25", "-3.00"], "DOUBLE", "real"),
    "ratio": (["1.5", "2.25", "3.125"], "DOUBLE", "real"),
    "version": (["1.9", "1.10", "1.11"], "TEXT", "text"),
    "exact": (["1234567890.1234567", "1.5", "2.5"], "TEXT", "text"),
    "flag": (["true", "false", "true"], "BOOLEAN", "integer"),
    "yes": (["yes", "no", "no"], "BOOLEAN", "integer"),
    "bits": (["0", "1", "1"], "BIGINT", "integer"),
    "mixed": (["true", "no", "1"], "TEXT", "text"),
    "day": (["2024-02-29", "1999-12-31", "2000-01-01"], "DATE", "text"),
    "no_day": (["2023-02-29", "1999-12-31", "2000-01-01"], "TEXT", "text"),
    "moment": (["2024-01-31 12:00:00", "2024-01-31T12:00:01.5", "2024-01-31 23:59"], "TIMESTAMP", "text"),
    "other": (["31.1.2024", "1.2.2024", "3.4.2024"], "DATE", "text"),
    "either": (["1/2/2024", "2/3/2024", "3/4/2024"], "TEXT", "text"),
    "seen": (["1/31/2024 1:05 PM", "12/1/2024 12:00:01 AM", "2/3/2024 09:00 am"], "TIMESTAMP", "text"),
    "clock": (["09:30", "23:59", "00:00"], "TIME", "text"),
    "uuid": ([f"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{n}" for n in range(3)], "UUID", "text"),
    "capital": ([f"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A1{n}" for n in range(3)], "TEXT", "text"),
    "word": (["NA", "null", "x"], "TEXT", "text"),
}


@pytest.mark.core
def test_types_are_inferred_without_loss(data: Path, db: Database, bulk: str) -> None:
    rows = list(zip(*(values for values, *_ in VALUES.values()), strict=True))
    write_csv(data / "t_1.csv", list(VALUES), rows[:1])
    write_csv(data / "t_2.csv", list(VALUES), [*rows[1:], [""] * len(VALUES)])
    assert load(data, db, bulk=bulk).exit_code == 0
    assert columns(db) == spelled(db, **{name: declared for name, (_, declared, _) in VALUES.items()})
    for name, (values, declared, kind) in VALUES.items():
        found = [value for (value,) in query(db, f'SELECT "{name}" FROM t')]
        assert found.count(None) == 1
        found.remove(None)
        if declared == "TEXT":
            assert sorted(found) == sorted(values)
        elif declared == "UUID":
            assert sorted(map(str, found)) == sorted(values)
        elif declared in ("BIGINT", "DOUBLE"):
            assert sorted(found) == sorted(float(v) if declared == "DOUBLE" else int(v) for v in values)
        if isinstance(db, Path):  # every cell there has a type of its own
            assert query(db, f'SELECT DISTINCT typeof("{name}") FROM t WHERE "{name}" IS NOT NULL') == [(kind,)]


def test_values_read_back_through_sqlalchemy_are_pythons_own(data: Path, db: Database, bulk: str) -> None:
    write_csv(
        data / "t_1.csv",
        ["flag", "day", "moment", "n", "x"],
        [
            ["true", "2024-02-29", "2024-01-31 12:00:00", 1, "0.1"],
            ["false", "0001-01-01", "2024-01-31T12:00:01.000250", -(10**17), "-2.5"],
            ["", "", "", "", ""],
        ],
    )
    assert load(data, db, bulk=bulk).exit_code == 0
    engine = sa.create_engine(
        f"sqlite:///{db}" if isinstance(db, Path) else str(db).replace("mariadb:", "mariadb+pymysql:")
    )
    table = sa.Table("t", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        found = connection.execute(sa.select(*(table.c[n] for n in ("flag", "day", "moment", "n", "x")))).all()
    engine.dispose()
    # A reflected DOUBLE of MariaDB's gives a Decimal of what it has read.
    assert [(*row[:4], row.x and float(row.x)) for row in found] == [
        (True, date(2024, 2, 29), datetime(2024, 1, 31, 12), 1, 0.1),
        (False, date(1, 1, 1), datetime(2024, 1, 31, 12, 0, 1, 250), -(10**17), -2.5),
        (None, None, None, None, None),
    ]


def test_what_does_not_fit_later_is_a_reject_and_never_changed(data: Path, db: Database, bulk: str) -> None:
    write_csv(data / "t_1.csv", ["id", "x", "day"], [[1, "1.5", "2024-01-01"]])
    load(data, db)
    odd = [["007", "1.5", ""], ["+7", "1.5", ""], ["1.0", "1.5", ""], [8, "1.50000000000000001", ""], [9, "1e3", ""]]
    odd += [[10, "1.5", "01.02.2024"], [11, "1.5", "2024-02-30"], ["1" * 20, "1.5", ""]]
    write_csv(data / "t_2.csv", ["id", "x", "day"], [*odd, [12, "2.5", "2024-01-02"]])
    report = load(data, db, max_rejects=Budget(count=8), bulk=bulk)
    assert report.exit_code == 3
    assert [(r[3], r[4]) for r in rejects(db)] == [
        ("id", "lossy"),
        ("id", "lossy"),
        ("id", "bad_integer"),
        ("x", "lossy"),
        ("x", "bad_number"),
        ("day", "bad_date"),
        ("day", "bad_date"),
        ("id", "bad_integer"),
    ]
    assert all("--type" in message for (message,) in query(db, "SELECT message FROM ingest_reject"))
    found = query(db, "SELECT id, x, CAST(day AS CHAR(10)) FROM t ORDER BY id")
    assert found == [(1, 1.5, "2024-01-01"), (12, 2.5, "2024-01-02")]
    assert columns(db) == spelled(db, id="BIGINT", x="DOUBLE", day="DATE")
    assert_counts_add_up(db)


@pytest.mark.core
def test_a_number_so_small_that_it_would_be_0_is_a_reject(data: Path, db: Database, bulk: str) -> None:
    query(db, "CREATE TABLE t (n INTEGER, d DOUBLE PRECISION)")
    small = ["1e-400", "-4.9E-999", "0." + "0" * 400 + "1"]
    zero = ["0e-999", "0.000000000", "-0"]
    write_csv(data / "t.csv", ["n", "d"], [*enumerate([*small, *zero, "1e-300"])])
    report = load(data, db, max_rejects=Budget(count=3), bulk=bulk)
    assert (report.rows, report.rejected) == (4, 3), report.files
    assert [(r[2], r[3], r[4]) for r in rejects(db)] == [(n, "d", "bad_number") for n in range(3)]
    assert query(db, "SELECT n, d FROM t ORDER BY n") == [(3, 0), (4, 0), (5, 0), (6, 1e-300)]


def test_types_text_takes_everything_as_it_stands(data: Path, db: Database, bulk: str) -> None:
    write_csv(data / "t_1.csv", ["a", "b"], [["1", "2024-01-01"], ["007", "true"], ["", "x"]])
    assert load(data, db, types="text", bulk=bulk).exit_code == 0
    assert columns(db) == spelled(db, a="TEXT", b="TEXT")
    assert query(db, "SELECT a, b FROM t") == [("1", "2024-01-01"), ("007", "true"), (None, "x")]


@pytest.mark.core
def test_a_declared_type_decides(data: Path, db: Database, bulk: str) -> None:
    rows = [["7", "12345678.10", "1", "5", "2024-01-01"], ["8", "0.05", "0", "6", "2024-01-02 10:00:00"]]
    bad = ["9", "1.005", "2", "x", "nonsense"]
    write_csv(data / "t_1.csv", ["code", "price", "flag", "n", "at"], rows)
    for i in range(1, 5):
        write_csv(
            data / f"t_{i + 1}.csv", ["code", "price", "flag", "n", "at"], [[*rows[0][:i], bad[i], *rows[0][i + 1 :]]]
        )
    declared = tuple(map(parse_type, ("code=text", "price=decimal(12,2)", "flag=boolean", "n=bigint", "at=timestamp")))
    report = load(data, db, declared=declared, bulk=bulk)
    ended = told(report)
    assert ended.pop("t_1.csv") == ("loaded", "new")
    assert set(ended.values()) == {("refused", "over_budget")}
    # One of each file, and files end in any order.
    assert {(r[3], r[4]) for r in rejects(db)} == {
        ("price", "lossy"),
        ("flag", "bad_boolean"),
        ("n", "bad_integer"),
        ("at", "bad_timestamp"),
    }
    # SQLite has no exact decimals: there the digits are kept as they are.
    assert columns(db) == spelled(db, code="TEXT", price="DECIMAL(12,2)", flag="BOOLEAN", n="BIGINT", at="TIMESTAMP")
    found = [(code, str(price), flag, n) for code, price, flag, n in query(db, "SELECT code, price, flag, n FROM t")]
    assert found == [("7", "12345678.10", 1, 5), ("8", "0.05", 0, 6)]


def test_a_column_without_a_value_is_undecided_and_keeps_what_comes(data: Path, db: Database) -> None:
    write_csv(data / "t_1.csv", ["a", "b"], [[1, ""], [2, ""]])
    load(data, db)
    ((definition,),) = query(db, "SELECT definition FROM ingest_table")
    assert [column["origin"] for column in json.loads(definition)] == ["inferred", "undecided"]
    write_csv(data / "t_2.csv", ["a", "b"], [[3, "007"], [4, "x"]])
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT b FROM t ORDER BY a") == [(None,), (None,), ("007",), ("x",)]


def test_an_empty_field_is_null_and_a_quoted_one_an_empty_text(data: Path, db: Database, bulk: str) -> None:
    (data / "t_1.csv").write_bytes(b'a,n\nx,1\n"",""\n,\nN/A,-\nNULL,NULL\n"N/A",3\n')
    assert load(data, db, null=("N/A", "-"), max_rejects=Budget(count=1), bulk=bulk).exit_code == 0
    assert query(db, "SELECT a, n FROM t") == [
        ("x", "1"),
        ("", ""),
        (None, None),
        (None, None),
        ("NULL", "NULL"),
        ("N/A", "3"),
    ]
    (data / "u_1.csv").write_bytes(b'a,n\nx,1\n"",""\nN/A,-\n')
    assert load(data, db, null=("N/A", "-"), bulk=bulk).exit_code == 0
    assert query(db, "SELECT a, n FROM u") == [("x", 1), ("", None), (None, None)]


def test_a_sample_decides_less_and_the_rest_is_rejected_not_changed(data: Path, db: Database) -> None:
    rows: list[list[object]] = [[i, "word"] for i in range(60_000)]
    rows[31_234] = ["odd", "word"]
    path = write_csv(data / "t_1.csv", ["n", "w"], rows)
    assert path.stat().st_size > 3 * 128 * 1024
    report = load(data, db, sample=128 * 1024, max_rejects=Budget(count=1))
    assert report.exit_code == 3
    assert columns(db) == spelled(db, n="BIGINT", w="TEXT")
    assert [(r[2], r[5]) for r in rejects(db)] == [(31_234, "odd,word")]
    assert report.rows == 59_999
    # All values say otherwise.
    assert load(data, db, table="u").exit_code == 0
    assert columns(db, "u") == spelled(db, n="TEXT", w="TEXT")


def test_declared_types_can_be_given_in_python(data: Path, db: Database) -> None:
    write_csv(data / "t_1.csv", ["zip"], [[1], [2]])
    assert load(data, db, declared=(DeclaredType(column="zip", type=ColumnType.TEXT),)).exit_code == 0
    assert columns(db) == spelled(db, zip="TEXT")


@pytest.mark.parametrize("slice_bytes", [60, 200, 1000])
def test_line_ends_within_quotes_do_not_mislead_the_look_at_values(data: Path, db: Database, slice_bytes: int) -> None:
    # Read from the middle of the text, its lines look like records with other types.
    text = "\n" + "\n".join(f"not a number,{n},007" for n in range(9)) + "\n"
    rows = [(n, text if n % 3 else "short", n + 0.5) for n in range(60)]
    write_csv(data / "t.csv", ["n", "text", "q"], rows)
    report = load(data, db, slice_bytes=slice_bytes)
    assert (report.exit_code, report.rows) == (0, 60)
    assert columns(db) == spelled(db, n="BIGINT", text="TEXT", q="DOUBLE")
    assert query(db, "SELECT n, text, q FROM t ORDER BY n") == rows


def warned(data: Path, db: Database, **settings: object) -> list[str]:
    return [sentence for sentence in load(data, db, **settings).warnings if CAUTION not in sentence]


def test_an_option_that_names_no_column_is_said(data: Path, db: Database) -> None:
    write_csv(data / "t.csv", ["price", "day"], [("1.50", "2024-01-31")])
    options = {
        "declared": (parse_type("prize=text"), parse_type("cost=text")),
        "rename": (("prise", "cost"), ("day", "on")),
    }
    assert warned(data, db, **options) == [
        "--type prize=text changes nothing: no file has a column 'prize'; the nearest is 'price'.",
        "--type cost=text changes nothing: no file has a column 'cost'.",
        "--rename prise=cost changes nothing: no file has a column 'prise'; the nearest is 'price'.",
    ]
    # A file that is loaded already may be the one that has it.
    write_csv(data / "t_2.csv", ["price", "on"], [("2.50", "2024-02-01")])
    assert warned(data, db, **options) == []


def test_a_type_for_a_column_that_is_there_is_said(data: Path, db: Database) -> None:
    write_csv(data / "t_1.csv", ["price"], [("1.50",)])
    assert warned(data, db, declared=(parse_type("price=decimal(9,2)"),)) == []
    write_csv(data / "t_2.csv", ["price"], [("2.50",)])
    assert warned(data, db, declared=(parse_type("price=decimal(9,2)"),)) == []
    write_csv(data / "t_3.csv", ["price"], [("3.50",)])
    assert warned(data, db, declared=(parse_type("price=double"),)) == [
        "--type price=double changes nothing: the table t has that column already, as decimal."
    ]
