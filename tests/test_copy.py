"""COPY into PostgreSQL gives what a plain `insert()` gives, for every type: binary where we know how, else text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tools

from ingest.jobs import ARROW, POSTGRES, POSTGRES_BINARY, POSTGRES_TEXT
from ingest.model import TableName
from ingest.targets import target_for
from ingest.targets.base import BatchRef
from ingest.targets.staging import stage

WORDS = ["", "plain", "\\N", "\\", "a\tb", "a\nb\r\nc", '"q"', "é 日本 🙂", "\\.", "NULL", " blank ", "x" * 10_000]

VALUES: dict[str, tuple[str, Any, list[Any]]] = {
    "smallint": ("smallint", pa.int64(), [-(2**15), 2**15 - 1, 0, None]),
    "integer": ("integer", pa.int64(), [-(2**31), 2**31 - 1, 0, None]),
    "bigint": ("bigint", pa.int64(), [-(2**63), 2**63 - 1, 0, None]),
    "real": ("real", pa.float64(), [0.1, -3.4e38, 1e-37, 16777217.0, -0.0, None]),
    "double": ("double precision", pa.float64(), [0.1, -1.7976931348623157e308, 5e-324, -0.0, 1e22, None]),
    "boolean": ("boolean", pa.bool_(), [True, False, None]),
    "date": ("date", pa.date32(), [-719162, 2932896, 0, 10957, None]),  # 0001-01-01, 9999-12-31, 1970, 2000
    "timestamp": (
        "timestamp",
        pa.timestamp("us"),
        [-62135596800000000, 253402300799999999, 0, -1, 946684800000000, None],
    ),
    "timestamp(0)": ("timestamp(0)", pa.timestamp("us"), [1500000, 2500000, -1500000, 499999, None]),
    "timestamptz": (
        "timestamptz",
        pa.string(),
        [
            "2024-07-01 12:00:00.5+02:00",
            "2024-07-01T12:00:00Z",
            "2024-07-01 12:00:00-0330",
            "2024-07-01 12:00:00+15:59",
            "2024-07-01 12:00",
            "0001-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999Z",
            "",
            None,
        ],
    ),
    "timestamptz odd": ("timestamptz", pa.string(), ["July 1, 2024 15:00 Europe/Berlin", "2024-07-01", None]),
    "numeric(38,10)": (
        "numeric(38,10)",
        pa.string(),
        ["1234567890123456789012345678.0123456789", "-0.0000000001", "0", "-00.50000000000000", "5", None],
    ),
    "numeric(4,0)": ("numeric(4,0)", pa.string(), ["9999", "-1", "10.00", "0", None]),
    "numeric(3,3)": ("numeric(3,3)", pa.string(), ["0.999", "-.001", None]),
    "numeric(60,30)": ("numeric(60,30)", pa.string(), ["1" * 30 + "." + "2" * 30, None]),
    "numeric": ("numeric", pa.string(), ["1.50", "1.5", "1" * 200, "0." + "0" * 200 + "1", None]),
    "text": ("text", pa.string(), [*WORDS, None]),
    "varchar(20)": ("varchar(20)", pa.string(), [*WORDS[:-1], "y" * 20, None]),
    "char(3)": ("char(3)", pa.string(), ["", "a", "äöü", " b ", None]),
    "uuid": (
        "uuid",
        pa.string(),
        ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None, "", "A0EEBC99-9c0b-4ef8-bb6d-000000000000"],
    ),
    "uuid odd": ("uuid", pa.string(), ["{a0eebc999c0b4ef8bb6d6bb9bd380a11}", None]),
    "time": ("time", pa.string(), ["09:30", "", "23:59:59.999999", "00:00:00", None]),
    "time odd": ("time", pa.string(), ["24:00:00", "09:30 PM", None]),
    "jsonb": ("jsonb", pa.string(), ['{"a\\n": "\\u00e9\\\\"}', "[1, 2]", "", None]),
    "bytea": ("bytea", pa.string(), ["\\x00ff", "\\x", None, "\\xABcd" + "ef" * 500, ""]),
    "bytea odd": ("bytea", pa.string(), ["\\x00ff", "abc\\\\000", "", None]),
    "inet": ("inet", pa.string(), ["10.0.0.1/8", "", None]),
    "interval": ("interval", pa.string(), ["1 day 02:00", "P1Y2M", None]),
    "integer[]": ("integer[]", pa.string(), ["{1,NULL}", "", None]),
    "money": ("money", pa.string(), ["12.50", None]),
}
AS_TEXT = {
    "timestamptz odd",
    "numeric(60,30)",
    "numeric",
    "uuid odd",
    "time odd",
    "jsonb",
    "bytea odd",
    "inet",
    "interval",
    "integer[]",
    "money",
}


def put(url: str, table: str, batch: pa.Table, path: Path, format_: str) -> str:
    """Stage a batch and insert it; the format that it was staged in."""
    target = target_for(url)
    try:
        with target.connect() as connection:
            shape = target.shape(connection, TableName(name=table))
        assert shape is not None
        staged = stage(format_, batch, shape, stem=str(path / f"{table}-{format_}"), name="0")
        batches = [BatchRef(staged=staged, rows=batch.num_rows)]
        with target.transaction(batches) as connection:
            assert target.insert(connection, shape, batches) == batch.num_rows
        return staged.format
    finally:
        target.close()


@pytest.mark.parametrize("case", VALUES)
def test_copy_gives_what_insert_gives(tmp_path: Path, postgresql: str, query: Any, case: str) -> None:
    native, arrow, values = VALUES[case]
    array = pa.array(range(len(values)), pa.int64())
    column = pa.array(
        values, pa.int64() if pa.types.is_timestamp(arrow) else pa.int32() if arrow == pa.date32() else arrow
    )
    batch = pa.table({"n": array, "v": column.cast(arrow)})
    for table in ("copied", "inserted"):
        query(f"CREATE TABLE {table} (n integer, v {native})")
    used = put(postgresql, "copied", batch, tmp_path, POSTGRES)
    put(postgresql, "inserted", batch, tmp_path, ARROW)
    assert used == (POSTGRES_TEXT if case in AS_TEXT else POSTGRES_BINARY)
    assert query("SELECT count(*), count(v) FROM copied") == query("SELECT count(*), count(v) FROM inserted")
    # As the server writes it, to the last digit and blank: equal values may be written differently (1.5 and 1.50).
    shown = "SELECT n, v::text, octet_length(v::text) FROM {} ORDER BY n"
    assert query(shown.format("copied")) == query(shown.format("inserted"))


@pytest.mark.parametrize("seed", range(3))
def test_random_numbers_arrive_to_the_last_digit(tmp_path: Path, postgresql: str, query: Any, seed: int) -> None:
    chance = random.Random(seed)
    rows = []
    for _ in range(500):
        digits = str(chance.randrange(10 ** chance.randint(1, 24)))
        whole = digits[:-6] or "0"
        exact = f"{chance.choice(['', '-'])}{whole}.{digits[-6:]}"
        rows.append((exact, repr(chance.uniform(-1, 1) * 10.0 ** chance.randint(-300, 300))))
    batch = pa.table({"e": pa.array([e for e, _ in rows]), "d": pa.array([float(d) for _, d in rows])})
    for table, format_ in (("copied", POSTGRES), ("inserted", ARROW)):
        query(f"CREATE TABLE {table} (n serial, e numeric(30,8), d double precision)")
        put(postgresql, table, batch, tmp_path, format_)
    assert query("SELECT * FROM copied ORDER BY n") == query("SELECT * FROM inserted ORDER BY n")


@pytest.mark.parametrize(
    ("native", "value", "state"),
    [
        ("timestamptz", "2024-13-01 00:00:00Z", "datetime field overflow"),
        ("timestamptz", "2024-02-29 12:30:45+16:00", "invalid time zone displacement value"),
        ("timestamptz", "2024-02-29 12:30:45-23:59", "invalid time zone displacement value"),
        ("timestamptz", "2024-02-29 12:30:45+1560", "invalid time zone displacement value"),
        ("uuid", "secret", "invalid text representation"),
    ],
)
def test_what_the_server_refuses_is_refused_in_its_words(
    tmp_path: Path, postgresql: str, query: Any, native: str, value: Any, state: str
) -> None:
    query(f"CREATE TABLE own (v {native})")
    path = tools.write_csv(tmp_path / "own.csv", ["v"], [[value]])
    report = tools.load(path, postgresql)
    assert (report.files[0].state, report.files[0].code) == ("refused", "constraint")
    assert state in report.files[0].sentence
    assert "secret" not in report.files[0].sentence
    assert query("SELECT count(*) FROM own") == [(0,)]


def test_the_way_is_told_with_v(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE TABLE own (id integer, address inet DEFAULT '10.0.0.1')")
    first = tools.write_csv(tmp_path / "1.csv", ["id"], [[1]])
    second = tools.write_csv(tmp_path / "2.csv", ["id", "address"], [[2, "10.0.0.2"]])
    for path, more, said in (
        (first, (), "rows go into own by binary COPY"),
        (second, (), "rows go into own by COPY as text: the column 'address' is of type inet"),
        (second, ("--on-duplicate", "load", "--verify-content", "--bulk", "off"), ""),
    ):
        done = tools.ingest("load", path, "--table", "own", "--to", postgresql, "-v", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
    third = tools.write_csv(tmp_path / "3.csv", ["id"], [[3]])
    done = tools.ingest("load", third, "--table", "own", "--to", postgresql, "-v", "--bulk", "off", cwd=tmp_path)
    assert "rows go into own by INSERT: --bulk off" in done.stderr
    assert query("SELECT id FROM own ORDER BY id") == [(1,), (2,), (3,)]


def test_a_batch_that_misses_rows_is_taken_back(tmp_path: Path, postgresql: str, query: Any) -> None:
    """The server's own count of a COPY is compared with the rows that were staged."""
    query("CREATE TABLE own (v integer)")
    query("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    query("CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW WHEN (NEW.v = 2) EXECUTE FUNCTION f()")
    report = tools.load(tools.write_csv(tmp_path / "own.csv", ["v"], [[1], [2], [3]]), postgresql)
    assert tools.told(report) == {"own.csv": ("refused", "counts")}
    assert query("SELECT count(*) FROM own") == [(0,)]
