"""How values are written: dates and numbers in other spellings than ISO 8601 and a point, and words for NULL."""

from __future__ import annotations

import functools
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from oracle import Database, oracle
from tools import assert_counts_add_up, ingest, load, query, rejects, told, write_csv

from ingest.columns import convert
from ingest.errors import UsageError
from ingest.inference import profile_column
from ingest.model import Column, ColumnType, Reason, Spelling
from ingest.profiles import merge
from ingest.settings import Budget, Settings, parse_type

T = ColumnType


def read(kind: ColumnType, pattern: str, *values: str | None) -> list[object]:
    """What a column with this pattern makes of values: each one's value, or the reason why it has none."""
    column = Column(name="c", type=kind, spelling=Spelling(moment=pattern))
    found = convert(pa.array(["x", *values], pa.string()).slice(1), column)
    reasons = {int(row): fault.code for fault in found.faults for row in fault.rows}
    return [reasons.get(row, value) for row, value in enumerate(found.array.to_pylist())]


def test_a_pattern_reads_its_dates_and_nothing_else() -> None:
    assert read(T.DATE, "%d.%m.%Y", "1.2.2024", "29.02.2024", "29.02.2023", "31.04.2024", "1.2.24", "", None) == [
        *(date(2024, 2, 1), date(2024, 2, 29), Reason.BAD_DATE, Reason.BAD_DATE, Reason.BAD_DATE, None, None)
    ]
    assert read(T.DATE, "%Y%m%d", "20240131", "2024131", "00000101") == [
        date(2024, 1, 31),
        Reason.BAD_DATE,
        Reason.BAD_DATE,
    ]
    assert read(T.DATE, "%d-%b-%y", "5-Sep-68", "05-SEPTEMBER-69", "5-Sept-00", "5-Foo-00") == [
        *(date(2068, 9, 5), date(1969, 9, 5), date(2000, 9, 5), Reason.BAD_DATE)
    ]
    assert read(
        T.TIMESTAMP, "%m/%d/%Y %I:%M[:%S] %p", "1/31/2024 12:05 AM", "1/31/2024 12:05:09 pm", "1/31/2024 13:05 PM"
    ) == [*(datetime(2024, 1, 31, 0, 5), datetime(2024, 1, 31, 12, 5, 9), Reason.BAD_TIMESTAMP)]
    assert read(T.TIMESTAMP, "%d.%m.%Y[ %H:%M[:%S[.%f]]]", "1.2.2024", "1.2.2024 24:00", "9.12.1969 23:59:59.5") == [
        *(datetime(2024, 2, 1), Reason.BAD_TIMESTAMP, datetime(1969, 12, 9, 23, 59, 59, 500_000))
    ]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("date(%d.%m)", "it needs a year"),
        ("date(%d.%m.%Y %H:%M)", "a date has no time"),
        ("date(%d.%m.%Y.%d)", "%d comes twice"),
        ("date(%d.%m.%Y[)", "no other half"),
        ("date(%d.%m.%Y])", "no other half"),
        ("date(%Q)", "%Q is not known"),
        ("timestamp(%d.%m.%Y %I:%M)", "needs an hour"),
        ("timestamp(%d.%m.%Y %H:%S)", "part of the time is missing"),
        ("dobule", "there is no type 'dobule'"),
        ("bigint(3)", "is not COLUMN=TYPE"),
        ("time(%H)", "is not COLUMN=TYPE"),
    ],
)
def test_a_pattern_that_says_too_little_is_refused(word: str, why: str) -> None:
    with pytest.raises(UsageError, match="--type") as caught:
        parse_type(f"day={word}")
    assert why in caught.value.message


def decide(spelling: Spelling, *values: str) -> tuple[ColumnType, str]:
    verdict = profile_column(pa.array(values), spelling).decide()
    return verdict.type, verdict.spelling


def test_signs_of_numbers_are_taken_from_the_options_alone() -> None:
    european = Spelling(decimal=",", thousands=".")
    assert decide(european, "1.234,50", "5,25") == (T.DOUBLE, "")
    assert decide(european, "1.234", "5") == (T.BIGINT, "")
    assert decide(european, "1.23", "5")[0] is T.TEXT
    assert decide(european, "1.5", "2.5")[0] is T.TEXT
    assert decide(european, "31.01.2024") == (T.DATE, "%d.%m.%Y")
    assert decide(Spelling(), "1,5", "2,5")[0] is T.TEXT
    assert decide(Spelling(null=("NA",)), "NA", "5") == (T.BIGINT, "")
    column = Column(name="c", type=T.DECIMAL, precision=8, scale=2, spelling=european)
    found = convert(pa.array(["1.234,50", "12.34,5", "1.5", "-7", "1,005", "", None]), column)
    assert found.array.to_pylist() == ["1234.50", None, None, "-7", None, None, None]
    assert [(f.code, f.rows.tolist()) for f in found.faults] == [(Reason.BAD_NUMBER, [1, 2]), (Reason.LOSSY, [4])]


@pytest.mark.parametrize(("decimal", "thousands"), [(",", ","), ("", "."), ("5", ""), (",", "'.")])
def test_signs_that_cannot_be_are_refused(decimal: str, thousands: str) -> None:
    with pytest.raises(UsageError):
        Settings(decimal=decimal, thousands=thousands)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["31.01.2024", "01.02.2024"], T.DATE),
        (["31.1.2024", "1.12.2024"], T.DATE),
        (["31.01.2024", "1.2.2024"], T.TEXT),
        (["2024-1-5", "2024-12-31"], T.DATE),
        (["2024-1-5", "2024-01-06"], T.TEXT),
        (["5-Jan-2024", "15-Jan-2024"], T.DATE),
    ],
)
def test_dates_with_and_without_leading_zeros_stay_text(texts: list[str], kind: ColumnType) -> None:
    """In any grouping: each may be in a slice of its own."""
    together = profile_column(pa.chunked_array([texts]))
    apart = functools.reduce(merge, (profile_column(pa.chunked_array([[text]])) for text in texts))
    assert [together.decide().type, apart.decide().type] == [kind, kind]


@pytest.mark.every_target
def test_dates_and_numbers_as_they_are_written_become_values(tmp_path: Path, db: Database, bulk: str) -> None:
    data = tmp_path / "data"
    head = ["id", "day", "seen", "price", "code", "at"]
    rows = [
        (1, "31.1.2024", "31/01/24 09:05", "1.234,50", "-", "09:30"),
        (2, "1.2.2024", "01/02/24 23:59", "7,00", "NA", "23:59"),
        (3, "", "NA", "NA", "x", ""),
    ]
    write_csv(data / "t_1.csv", head, rows, delimiter=";", quoting=1)
    options = {
        "declared": (parse_type("seen=timestamp(%d/%m/%y %H:%M)"), parse_type("price=decimal(12,2)")),
        "null": ("seen=NA", "price=NA", "code=-"),
        "decimal": ",",
        "thousands": ".",
        "bulk": bulk,
    }
    report = load(data, db, **options)
    assert report.exit_code == 0, report.files
    found = query(db, "SELECT id, CAST(day AS CHAR(10)), CAST(seen AS CHAR(26)), code FROM t ORDER BY id")
    assert [(n, day, seen and seen[:16], code) for n, day, seen, code in found] == [
        (1, "2024-01-31", "2024-01-31 09:05", None),
        (2, "2024-02-01", "2024-02-01 23:59", "NA"),
        (3, None, None, "x"),
    ]
    assert [p and float(p) for (p,) in query(db, "SELECT price FROM t ORDER BY id")] == [1234.5, 7, None]
    assert [t and str(t)[:5].removesuffix(":") for (t,) in query(db, "SELECT at FROM t ORDER BY id")] == [
        *("9:30" if "mariadb" in str(db) else "09:30", "23:59", None)
    ]
    # Later values go by what was proven then; another spelling may be declared for other files.
    write_csv(data / "t_2.csv", head, [(4, "13.3.2024", "", "", "", ""), (5, "2024-03-13", "", "", "", "")])
    assert load(data, db, max_rejects=Budget(count=1), **options).exit_code == 3
    assert [r[3:5] for r in rejects(db)] == [("day", "bad_date")]
    write_csv(data / "t_3.csv", head, [(6, "3/13/2024", "", "", "", "")])
    more = {"declared": (*options["declared"], parse_type("day=date(%m/%d/%Y)"))}
    assert load(data, db, **(options | more)).exit_code == 0
    assert query(db, "SELECT CAST(day AS CHAR(10)) FROM t WHERE id > 3 ORDER BY id") == [
        ("2024-03-13",),
        ("2024-03-13",),
    ]
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_a_table_of_others_gets_dates_whose_order_is_proven(tmp_path: Path, db: Database) -> None:
    oracle(db).query("CREATE TABLE own (id INTEGER, day DATE)")
    write_csv(tmp_path / "own.csv", ["id", "day"], [(n, f"{n}/{n % 12 + 1}/2024") for n in range(1, 29)])
    report = load(tmp_path / "own.csv", db)
    assert report.exit_code == 0, report.files
    # What was proven holds for a file that proves nothing by itself.
    write_csv(tmp_path / "own_2.csv", ["id", "day"], [(40, "1/2/2024")])
    assert load(tmp_path / "own_2.csv", db, table="own").exit_code == 0
    found = query(db, "SELECT CAST(day AS CHAR(10)) FROM own WHERE id IN (1, 13, 28, 40) ORDER BY id")
    assert [day for (day,) in found] == ["2024-02-01", "2024-02-13", "2024-05-28", "2024-02-01"]
    oracle(db).query("CREATE TABLE other (day DATE)")
    write_csv(tmp_path / "other.csv", ["day"], [("1/2/2024",), ("3/4/2024",)])
    assert told(load(tmp_path / "other.csv", db)) == {"other.csv": ("refused", "over_budget")}


def test_the_plan_says_how_dates_are_written_and_which_are_not_told(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a", "b", "c"], [("13/2/2024", "1/2/2024", "1/2/24")])
    done = ingest("plan", "t.csv", cwd=tmp_path)
    assert "written as %d/%m/%Y" in done.stdout
    assert "dates as %d/%m/%Y or %m/%d/%Y: no value tells which; declare one with --type" in done.stdout
    assert "the century is not told" in done.stdout


def test_a_word_for_null_may_hold_an_equals_sign(tmp_path: Path) -> None:
    settings = Settings(null=("NA", "=a=b", "price=n/a", "price=-=-"))
    assert settings.nulls == ("NA", "a=b")
    assert settings.nulls_of == {"price": ("n/a", "-=-")}
    write_csv(tmp_path / "t.csv", ["n"], [("a=b",), ("5",)])
    report = load(tmp_path / "t.csv", tmp_path / "x.db", null=("=a=b", "m=5"))
    assert [w for w in report.warnings if "--null" in w] == ["--null m=5 changes nothing: no file has a column 'm'."]
    assert query(tmp_path / "x.db", "SELECT n FROM t") == [(None,), (5,)]
