"""`--where`: what it drops is discarded, and nothing but a condition gets through."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import Database
from tools import assert_counts_add_up, ingest, known, load, query, write_csv

from ingest import filtering
from ingest.errors import UsageError
from ingest.model import Column, ColumnType
from ingest.settings import Budget

COLUMNS = [
    Column(name="amount", type=ColumnType.DOUBLE),
    Column(name="unit price", type=ColumnType.DECIMAL, precision=12, scale=2),
    Column(name="day", type=ColumnType.DATE),
    Column(name="at", type=ColumnType.TIMESTAMP),
    Column(name="index", type=ColumnType.TEXT),
    Column(name="ok", type=ColumnType.BOOLEAN),
    Column(name="absent", type=ColumnType.BIGINT),
]


def table() -> object:
    import pyarrow as pa

    return pa.table(
        {
            "amount": pa.array([1.5, None, 3.0]),
            "unit price": pa.array(["1.20", None, "-7.00"]),
            "day": pa.array(["2024-01-01", None, "2025-01-01"]),  # as it is staged for SQLite
            "at": pa.array([0, None, 10**15], pa.timestamp("us")),
            "index": pa.array(["a`b", None, "@x"]),
            "ok": pa.array([True, None, False]),
        }
    )


@pytest.mark.parametrize(
    ("typed", "rows"),
    [
        ("amount > 0", [0, 2]),
        ("amount > 1 and `unit price` > 0.5", [0]),
        ("`unit price` < 0 or ok", [0, 2]),
        ("not ok", [2]),
        ("0 < amount < 2", [0]),
        ("amount > 1 & amount < 2", [0]),
        ("day >= '2024-06-01'", [2]),
        ("at < '1970-01-02 00:00'", [0]),
        ("index == 'a`b'", [0]),
        ('index in ["@x", "y"]', [2]),
        ("index.str.startswith('a')", [0]),
        ("index.isnull()", [1]),
        ("amount * 2 - 1 == 2", [0]),
        ("absent > 0", []),
        ("absent.isnull()", [0, 1, 2]),
    ],
)
def test_a_condition_is_asked_of_typed_values(typed: str, rows: list[int]) -> None:
    where = filtering.parse(typed)
    filtering.check(where, COLUMNS, "it")
    assert filtering.kept(where, table(), COLUMNS).tolist() == rows


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "amount >",
        "1 > 0",
        "@amount > 0",
        "amount > @limit",
        "__import__('os').system('x') == 0",
        "amount.__class__ == 1",
        "amount.to_csv('x') == 1",
        "amount.map(print) == 1",
        "index.str.__init__('x')",
        "index.str.startswith(index)",
        "(lambda: 1)() > amount",
        "[amount for amount in ok]",
        "amount ** 9 ** 9 > 0",
        "f'{amount}' == 'x'",
        "amount == None",
        "amount := 3",
        "amount > 0; ok",
        "amount > 0 # more",
        "ok if amount else ok",
        "amount[0] > 1",
    ],
)
def test_what_is_no_condition_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        filtering.parse(typed)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("amont > 0", "it has no column 'amont'"),
        ("amount > 'x'", "amount is double"),
        ("amount + 1", "neither true nor false"),
        ("index > 5", "index is text"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_refused(typed: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        filtering.check(filtering.parse(typed), COLUMNS, "it")


@pytest.mark.every_target
def test_what_a_condition_drops_is_discarded(tmp_path: Path, db: Database, bulk: str) -> None:
    """In a bundle, over slices, and beside rejects; rows keep the number of their record."""
    where = {"where": "amount > 0 and day >= '2024-01-02'", "lineage": "row", "bulk": bulk}
    for name in ("t_1.csv", "t_2.csv"):
        write_csv(tmp_path / name, ["id", "amount", "day"], [[1, 5, "2024-01-01"], [2, 5, "2024-01-02"], [3, 0, ""]])
    report = load([tmp_path / "t_1.csv", tmp_path / "t_2.csv"], db, on_duplicate="load", **where)
    assert (report.exit_code, report.rows, report.discarded) == (0, 2, 4)
    big = write_csv(
        tmp_path / "t_3.csv",
        ["id", "amount", "day"],
        [[i, "x" if i == 50 else i % 2, "2024-01-03"] for i in range(100)],
    )
    report = load(big, db, slice_bytes=300, max_rejects=Budget(count=1), **where)
    assert (report.exit_code, report.rows, report.discarded, report.rejected) == (3, 50, 49, 1)
    rows = query(db, "SELECT _ingest_record, id FROM t WHERE _ingest_file_id = 3 ORDER BY id")
    assert rows == [(i, i) for i in range(1, 100, 2)]
    assert_counts_add_up(db)


def test_a_wrong_condition_is_one_error_before_any_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["id", "amount"], [[1, 5]])
    done = ingest("load", "t.csv", "--where", "amount > @x", cwd=tmp_path)
    assert (done.returncode, "is no condition" in done.stderr, list(tmp_path.glob("*.db"))) == (2, True, [])
    done = ingest("load", "t.csv", "--where", "amont > 0", cwd=tmp_path)
    assert (done.returncode, "the table t has no column 'amont'" in done.stderr) == (2, True)
    assert query(tmp_path / "ingest.db", "SELECT count(*) FROM sqlite_schema WHERE name = 't'") == [(0,)]
    assert query(tmp_path / "ingest.db", "SELECT count(*) FROM ingest_file") == [(0,)]


def test_a_transform_gets_what_the_condition_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, db: Database
) -> None:
    (tmp_path / "fn.py").write_text(
        "def f(frame):\n    assert (frame['n'] > 1).all()\n    return frame.assign(n=frame['n'] - 5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = write_csv(tmp_path / "t.csv", ["n"], [[1], [2], [3]])
    report = load(path, db, where="n > 1", transform="fn:f", start_method="spawn")
    assert (report.exit_code, report.rows, report.discarded) == (0, 2, 1), report.files
    assert query(db, "SELECT n FROM t ORDER BY n") == [(-3,), (-2,)]
    assert "where" in known(db, path)["header"]
