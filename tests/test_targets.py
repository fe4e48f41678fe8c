"""Both ways into SQLite give the same table, value by value, and the fast one really copies records."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import tools

from ingest.model import Column, ColumnType, TableName, TableShape
from ingest.settings import Budget
from ingest.targets import target_for
from ingest.targets.base import BatchRef
from ingest.targets.staging import stage

TYPES = {
    "b": ("boolean", sa.Boolean(), ["true", "false", "", "true"]),
    "i": ("bigint", sa.BigInteger(), ["1", "-9223372036854775808", "9223372036854775807", ""]),
    "d": ("double", sa.Double(), ["1.5", "-0.0", "1e300", ""]),
    "n": ("decimal(20,4)", sa.Text(), ["1234567890123456.7890", "-0.0001", "5.0000", ""]),
    "day": ("date", sa.Date(), ["2024-02-29", "0001-01-01", "9999-12-31", ""]),
    "at": (
        "timestamp",
        sa.DateTime(),
        ["2024-02-29 12:30:00", "2024-02-29T23:59:59.999999", "1969-12-31 00:00:00", ""],
    ),
    "t": ("text", sa.Text(), ["plain", 'a "q", é 日本 🙂\nb', '""', "007"]),
}
VALUES: dict[str, list[Any]] = {
    "b": [True, False, None, True],
    "i": [1, -(2**63), 2**63 - 1, None],
    "d": [1.5, -0.0, 1e300, None],
    "n": ["1234567890123456.7890", "-0.0001", "5.0000", None],
    "day": [dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31), None],
    "at": [
        dt.datetime(2024, 2, 29, 12, 30),
        dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
        dt.datetime(1969, 12, 31),
        None,
    ],
    "t": ["plain", 'a "q", é 日本 🙂\nb', "", "007"],
}


def make(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "things.csv"
    path.parent.mkdir()
    quoted = [f'"{v.replace(chr(34), chr(34) * 2)}"' if v != '""' else v for v in TYPES["t"][2]]
    columns = [values if name != "t" else quoted for name, (_, _, values) in TYPES.items()]
    lines = [",".join(TYPES), *(",".join(row) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def declared() -> tuple[Any, ...]:
    from ingest.settings import parse_type

    return tuple(parse_type(f"{name}={word}") for name, (word, _, _) in TYPES.items())


def dump(db: Path) -> list[tuple[Any, ...]]:
    names = ", ".join(f"{name}, typeof({name})" for name in TYPES)
    return tools.query(db, f"SELECT {names} FROM things ORDER BY rowid")


def through_sqlalchemy(db: Path) -> dict[str, list[Any]]:
    table = sa.Table("things", sa.MetaData(), *(sa.Column(name, type_) for name, (_, type_, _) in TYPES.items()))
    engine = sa.create_engine(f"sqlite:///{db}")
    with engine.connect() as connection:
        rows = connection.execute(sa.select(table).order_by(sa.text("rowid"))).all()
    engine.dispose()
    return {name: [row[i] for row in rows] for i, name in enumerate(TYPES)}


OWN = "b BOOLEAN, i BIGINT, d DOUBLE, n DECIMAL(20,4), day DATE, at TIMESTAMP, t TEXT"


def test_both_ways_store_every_type_alike_and_as_sqlalchemy_reads_it(tmp_path: Path) -> None:
    file = make(tmp_path)
    dumps = {}
    for bulk in ("auto", "off"):
        db = tmp_path / f"{bulk}.db"
        report = tools.load(file, db, bulk=bulk, declared=declared())
        assert (report.exit_code, report.rows) == (0, 4), report.files
        assert through_sqlalchemy(db) == VALUES
        dumps[bulk] = dump(db)
    assert dumps["auto"] == dumps["off"]


def test_both_ways_store_every_type_alike_in_a_table_of_the_user(tmp_path: Path) -> None:
    file = make(tmp_path)
    dumps = {}
    for bulk in ("auto", "off"):
        db = tmp_path / f"{bulk}.db"
        tools.query(db, f"CREATE TABLE things ({OWN})")
        report = tools.load(file, db, bulk=bulk, max_rejects=Budget(count=1))
        # The first record has more digits than SQLite keeps in a column of decimals.
        assert (report.rows, report.rejected) == (3, 1), report.files
        dumps[bulk] = dump(db)
    assert dumps["auto"] == dumps["off"]
    found = through_sqlalchemy(tmp_path / "auto.db")
    assert {name: found[name] for name in found if name != "n"} == {n: v[1:] for n, v in VALUES.items() if n != "n"}


UNFIT = {
    "primary key": "CREATE TABLE things (i INTEGER PRIMARY KEY, t TEXT)",
    "without rowid": "CREATE TABLE things (i BIGINT PRIMARY KEY, t TEXT) WITHOUT ROWID",
    "generated column": "CREATE TABLE things (i BIGINT, t TEXT, twice BIGINT AS (2 * i))",
    "collation": "CREATE TABLE things (i BIGINT, t TEXT COLLATE NOCASE)",
    "check": "CREATE TABLE things (i BIGINT CHECK (i < 100), t TEXT)",
    "other column": "CREATE TABLE things (t TEXT, at TEXT DEFAULT 'now', i BIGINT)",
    "unique": "CREATE TABLE things (i BIGINT UNIQUE, t TEXT)",
    "index": "CREATE TABLE things (i BIGINT, t TEXT); CREATE INDEX things_i ON things (i)",
    "trigger": "CREATE TABLE things (i BIGINT, t TEXT); CREATE TABLE seen (i BIGINT);"
    "CREATE TRIGGER g AFTER INSERT ON things BEGIN INSERT INTO seen VALUES (new.i); END",
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_table_of_any_kind_is_filled_alike_on_both_ways(tmp_path: Path, kind: str) -> None:
    file = tools.write_csv(tmp_path / "in" / "things.csv", ["t", "i"], [(f"t{i}", i) for i in range(50)])
    found = {}
    for bulk in ("auto", "off"):
        db = tmp_path / f"{bulk}.db"
        with sqlite3.connect(db) as connection:
            connection.executescript(UNFIT[kind])
        connection.close()
        report = tools.load(file, db, bulk=bulk)
        assert (report.exit_code, report.rows) == (0, 50), report.files
        found[bulk] = tools.query(db, "SELECT * FROM things ORDER BY i")
        assert tools.query(db, "PRAGMA integrity_check") == [("ok",)]
        if kind == "trigger":
            assert tools.query(db, "SELECT count(*) FROM seen") == [(50,)]
    assert found["auto"] == found["off"]
    tools.assert_loaded_once(tmp_path / "auto.db", "things", [file], ["i", "t"])


def shape() -> TableShape:
    columns = [Column(name='a "b"', type=ColumnType.BIGINT), Column(name="at", type=ColumnType.TIMESTAMP)]
    return TableShape(table=TableName(name='odd "name"; --'), columns=tuple(columns))


def staged_copy(tmp_path: Path, extra: str = "") -> tuple[list[str], int]:
    """The opcodes of the statement that the target inserts a staged batch with, and the rows it took."""
    target = target_for(f"sqlite:///{tmp_path / 'target.db'}")
    told: list[str] = []
    try:
        with target.begin() as connection:
            target.create_table(connection, shape(), "0" * 32)
            if extra:
                connection.exec_driver_sql(extra)
            made = target.shape(connection, shape().table)
        assert made is not None
        assert made.bulk
        rows = pa.table({'a "b"': [1, 2, 3], "at": pa.array([dt.datetime(2024, 1, 1)] * 3, pa.timestamp("us"))})
        staged = stage(target.stage_format(made), rows, made, stem=str(tmp_path / "stage"), name="0")
        batches = [BatchRef(staged=staged, rows=3)]
        sa.event.listen(target.engine, "before_cursor_execute", lambda *args: told.append(args[2]))
        with target.transaction(batches) as connection:
            del told[:]
            inserted = target.insert(connection, made, batches)
            [statement] = told
            opcodes = [row[1] for row in connection.exec_driver_sql(f"EXPLAIN {statement}")]
    finally:
        target.close()
    assert tools.query(tmp_path / "target.db", 'SELECT count(*) FROM "odd ""name""; --"') == [(inserted,)]
    return opcodes, inserted


def test_the_bulk_path_copies_records_undecoded(tmp_path: Path) -> None:
    opcodes, inserted = staged_copy(tmp_path)
    assert inserted == 3
    assert "RowData" in opcodes
    assert "MakeRecord" not in opcodes


def test_an_index_costs_the_shortcut_and_this_test_would_see_it(tmp_path: Path) -> None:
    opcodes, inserted = staged_copy(tmp_path, 'CREATE INDEX ix ON "odd ""name""; --" (at)')
    assert inserted == 3
    assert "MakeRecord" in opcodes


def test_nothing_of_a_transaction_stays_that_is_not_committed(tmp_path: Path) -> None:
    target = target_for(f"sqlite:///{tmp_path / 'target.db'}")
    try:
        with contextlib.suppress(ZeroDivisionError), target.begin() as connection:
            target.create_table(connection, shape(), "0" * 32)
            raise ZeroDivisionError
        with target.begin() as connection:
            assert target.shape(connection, shape().table) is None
    finally:
        target.close()


def test_a_transaction_that_ended_by_itself_is_noticed(tmp_path: Path) -> None:
    target = target_for(f"sqlite:///{tmp_path / 'target.db'}")
    try:
        with target.begin() as connection:
            connection.exec_driver_sql("ROLLBACK")
            with pytest.raises(RuntimeError, match="ended the transaction"):
                target.assert_open(connection)
            connection.exec_driver_sql("BEGIN")
    finally:
        target.close()
