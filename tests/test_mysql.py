"""MariaDB, as MySQL the same: both ways in give the same table, and what the server would alter in silence is told."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
import servers
import sqlalchemy as sa
import tools
from sqlalchemy.engine import make_url

from ingest import ledger
from ingest.errors import UsageError
from ingest.model import Column, ColumnType, TableName, TableShape
from ingest.reports import Event, Notice, RunReport
from ingest.run import load as run_load
from ingest.settings import Budget, Settings, parse_type
from ingest.targets import target_for


def load(paths: Path, url: str, *, events: list[Event] | None = None, **settings: Any) -> RunReport:
    told: list[Event] = [] if events is None else events
    return run_load([paths], Settings(to=url, workers=2, **settings), on_event=told.append)


def query(url: str, sql: str, *more: str) -> list[tuple[Any, ...]]:
    """The rows of the last of these statements, in a session with the server's own settings."""
    parts = make_url(url)
    connection = pymysql.connect(
        host=parts.host,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.database,
        autocommit=True,
        charset="utf8mb4",
    )
    with connection, connection.cursor() as cursor:
        for statement in (sql, *more):
            cursor.execute(statement)
        return list(cursor.fetchall())


@contextlib.contextmanager
def told_otherwise(server: servers.Server, variable: str, value: str) -> Iterator[None]:
    """A global variable of the server, changed inside the block; connections made there have it."""
    [(before,)] = server.execute(f"SELECT @@GLOBAL.{variable}")
    server.execute(f"SET GLOBAL {variable} = {value}")
    try:
        yield
    finally:
        server.execute(f"SET GLOBAL {variable} = {before!r}")


LONG = "x" * 70_000 + "é🙂"
TYPES = {
    "b": ("boolean", ["true", "false", "", "true", "", ""]),
    "i": ("bigint", ["1", "-9223372036854775808", "9223372036854775807", "", "0", ""]),
    "d": ("double", ["1.5", "-0.0", "1e300", "", "5e-324", "0.1"]),
    "n": ("decimal(20,4)", ["1234567890123456.7890", "-0.0001", "5.0000", "", "0", ""]),
    "w": ("decimal", ["1.10", "-12345678901234567890123456789012345", "0.000000000000000000000000000001", "", "0", ""]),
    "day": ("date", ["2024-02-29", "0001-01-01", "9999-12-31", "", "1000-01-01", ""]),
    "at": (
        "timestamp",
        ["2024-02-29 12:30:00", "2024-02-29T23:59:59.999999", "1969-12-31 00:00:00", "", "0001-01-01 00:00", ""],
    ),
    "t": ("text", ["plain", 'a "q", é 日本 🙂\nb\r\nc', "", "\\N", "\\tab\t\\\\ \\0 'x' %s", LONG]),
}
VALUES: dict[str, list[Any]] = {
    "b": [1, 0, None, 1, None, None],
    "i": [1, -(2**63), 2**63 - 1, None, 0, None],
    "d": [1.5, -0.0, 1e300, None, 5e-324, 0.1],
    "n": [Decimal("1234567890123456.7890"), Decimal("-0.0001"), Decimal("5.0000"), None, Decimal("0.0000"), None],
    "w": [Decimal("1.10"), Decimal("-12345678901234567890123456789012345"), Decimal("1e-30"), None, Decimal(0), None],
    "day": [dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31), None, dt.date(1000, 1, 1), None],
    "at": [
        dt.datetime(2024, 2, 29, 12, 30),
        dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
        dt.datetime(1969, 12, 31),
        None,
        dt.datetime(1, 1, 1),
        None,
    ],
    "t": ["plain", 'a "q", é 日本 🙂\nb\r\nc', "", "\\N", "\\tab\t\\\\ \\0 'x' %s", LONG],
}


def things(folder: Path) -> Path:
    path = folder / "in" / "things.csv"
    path.parent.mkdir()
    rows = zip(*(values for _, values in TYPES.values()), strict=True)
    lines = [",".join(("k", *TYPES))]
    for number, (*values, text) in enumerate(rows):
        quoted = text.replace('"', '""')
        lines.append(",".join((str(number), *values, f'"{quoted}"')))
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("\n".join(lines) + "\n")
    return path


DECLARED = tuple(parse_type(f"{name}={word}") for name, (word, _) in TYPES.items())
OWN = "k INT, b TINYINT(1), i BIGINT, d DOUBLE, n DECIMAL(20,4), w DECIMAL(65,30), day DATE, at DATETIME(6), t LONGTEXT"


def dump(url: str) -> list[tuple[Any, ...]]:
    names = ", ".join(f"CAST({n} AS CHAR), HEX({n})" if n == "t" else f"CAST({n} AS CHAR)" for n in TYPES)
    return query(url, f"SELECT {names} FROM things ORDER BY k")


def values(url: str) -> dict[str, list[Any]]:
    rows = query(url, f"SELECT {', '.join(TYPES)} FROM things ORDER BY k")
    return {name: [row[i] for row in rows] for i, name in enumerate(TYPES)}


@pytest.mark.parametrize("own", [False, True], ids=["made", "of the user"])
def test_both_ways_store_every_type_alike_and_exactly(
    tmp_path: Path, mariadb_server: servers.Server, own: bool
) -> None:
    file = things(tmp_path)
    dumps = {}
    for bulk in ("auto", "off"):
        with mariadb_server.database() as url:
            if own:
                query(url, f"CREATE TABLE things ({OWN}) CHARACTER SET utf8mb4")
            report = load(file, url, bulk=bulk, declared=() if own else DECLARED)
            assert (report.exit_code, report.rows) == (0, 6), report.files
            assert values(url) == VALUES
            dumps[bulk] = dump(url)
    assert dumps["auto"] == dumps["off"]


KINDS = {
    "key": "CREATE TABLE things (i INT PRIMARY KEY, t VARCHAR(20))",
    "number of its own": "CREATE TABLE things (id INT AUTO_INCREMENT PRIMARY KEY, i INT, t TEXT)",
    "zero": "CREATE TABLE things (i INT AUTO_INCREMENT PRIMARY KEY, t TEXT)",
    "generated column": "CREATE TABLE things (i INT, t TEXT, twice INT AS (2 * i) STORED, more INT AS (i + 1))",
    "defaults": "CREATE TABLE things (a TIMESTAMP DEFAULT NOW(), t TEXT, b INT NOT NULL DEFAULT 7, i INT UNSIGNED)",
    "bits": "CREATE TABLE things (i BIT(8), t TEXT)",
    "words": "CREATE TABLE things (t ENUM('t1', 't0', 'x'), i FLOAT)",
    "one of each": "CREATE TABLE things (i SMALLINT CHECK (i < 100), t VARBINARY(10), UNIQUE (t), INDEX (i))",
    "latin1": "CREATE TABLE things (i DECIMAL(5,1), t CHAR(5)) CHARACTER SET latin1",
    "parts": "CREATE TABLE things (i INT, t TEXT) PARTITION BY RANGE (i) (PARTITION a VALUES LESS THAN (1),"
    " PARTITION b VALUES LESS THAN MAXVALUE)",
    "sequence": "CREATE TABLE things (i INT, t TEXT) COMMENT 'a \"comment\", it''s AUTO_INCREMENT=3'",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_any_kind_is_filled_alike_on_both_ways(tmp_path: Path, mariadb: str, kind: str) -> None:
    file = tools.write_csv(tmp_path / "in" / "things.csv", ["t", "i"], [(f"t{i}", i) for i in range(2)])
    found = {}
    for bulk in ("auto", "off"):
        query(mariadb, "DROP TABLE IF EXISTS things", KINDS[kind])
        report = load(file, mariadb, bulk=bulk, on_duplicate="load", on_lost="reload")
        assert (report.exit_code, report.rows) == (0, 2), report.files
        shown = "i + 0 AS i" if kind == "bits" else "i"
        found[bulk] = query(mariadb, f"SELECT t, {shown} FROM things ORDER BY 2")
        shutil.move(file, file.with_name(f"things_{len(found)}.csv"))
        file = tools.write_csv(file, ["t", "i"], [(f"t{i}", i) for i in range(2)])
    assert [(str(t, "ascii") if isinstance(t, bytes) else t, int(i)) for t, i in found["auto"]] == [
        ("t0", 0),
        ("t1", 1),
    ]
    assert found["auto"] == found["off"]


def orders(folder: Path, name: str, rows: list[tuple[object, ...]]) -> Path:
    return tools.write_csv(folder / "in" / name, ["id", "word", "at"], rows)


MISFITS = {
    "too long": ("word VARCHAR(3)", (2, "abcd", ""), "lossy"),
    "too long by a blank": ("word VARCHAR(3)", (2, "abc ", ""), "lossy"),
    "too fine": ("at DATETIME", (2, "w", "2024-01-01 00:00:00.5"), "lossy"),
    "too fine by a little": ("at TIMESTAMP(3) NULL", (2, "w", "2024-01-01 00:00:00.0001"), "lossy"),
    "out of range": ("id MEDIUMINT", (2**23, "w", ""), "bad_integer"),
    "too large": ("id FLOAT", ("1e39", "w", ""), "bad_number"),
    "too small": ("id FLOAT", ("-1e-46", "w", ""), "bad_number"),
    "out of a larger range": ("id TINYINT UNSIGNED", (256, "w", ""), "bad_integer"),
    "below zero": ("id INT UNSIGNED", (-3, "w", ""), "bad_integer"),
    "far below zero": ("id BIGINT UNSIGNED", (-(2**63) - 1, "w", ""), "bad_integer"),
}


def test_what_a_column_cannot_keep_is_a_reject_with_its_place(tmp_path: Path, mariadb: str, bulk: str) -> None:
    for kind, (column, row, _) in MISFITS.items():
        rest = {"id": "id INT", "word": "word TEXT", "at": "at DATETIME(6)"} | {column.split()[0]: column}
        query(mariadb, f"CREATE TABLE `{kind}` ({', '.join(rest.values())})")
        orders(tmp_path, f"{kind}.csv", [(1, "äöü", "2024-01-01 00:00:00"), row, (3, "", "")])
    report = load(tmp_path / "in", mariadb, bulk=bulk, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.rejected) == (3, 2 * len(MISFITS), len(MISFITS)), report.files
    found = query(
        mariadb,
        "SELECT ingest_file.table_name, line, column_name, reason FROM ingest_reject JOIN ingest_file USING (file_id)",
    )
    assert set(found) == {(kind, 3, column.split()[0], code) for kind, (column, _, code) in MISFITS.items()}
    for kind in MISFITS:
        assert query(mariadb, f"SELECT id, word FROM `{kind}` ORDER BY id") == [(1, "äöü"), (3, None)], kind


REFUSED = {
    "duplicate": ("id INT PRIMARY KEY, word TEXT, at DATETIME(6)", (1, "secret", "")),
    "duplicate word": ("id INT, word VARCHAR(20) UNIQUE, at DATETIME(6)", (2, "fine", "")),
    "wrong letters": ("id INT, word VARCHAR(20) CHARACTER SET latin1, at DATETIME(6)", (2, "日本 secret", "")),
    "check": ("id INT, word TEXT CHECK (length(word) < 5), at DATETIME(6)", (2, "secret", "")),
    "no json": ("id INT, word JSON, at DATETIME(6)", (2, "secret", "")),
    "no such word": ("id INT, word ENUM ('fine', 'gütig'), at DATETIME(6)", (2, "secret", "")),
    "no time": ("id INT, word TIME, at DATETIME(6)", (2, "secret", "")),
    "beyond its end": ("id INT, word TEXT, at TIMESTAMP NULL", (2, "w", "2200-01-01 00:00:00")),
    "missing": ("id INT, word TEXT, at DATETIME(6), more INT NOT NULL", (2, "w", "")),
    "blanks": ("id INT, word CHAR(4) CHARACTER SET latin1, at DATE", (2, "é🙂", "2024-01-01")),
    "foreign key": ("id INT, word TEXT, at DATETIME(6), FOREIGN KEY (id) REFERENCES known (id)", (2, "w", "")),
    "trigger": ("id INT, word TEXT, at DATETIME(6)", (2, "secret", "")),
    "trigger's number": ("id INT, word TEXT, at DATETIME(6)", (2, "secret", "")),
    "trigger's high number": ("id INT, word TEXT, at DATETIME(6)", (2, "secret", "")),
    "server's number": ("id INT, word TEXT, at DATETIME(6)", (2, "secret", "")),
    "sum": ("id INT, word DECIMAL(3,1), at DATETIME(6), s INT AS (1 / (word - 12)) STORED", (2, "12", "")),
}


NUMBERS = {"trigger": "", "trigger's number": 30001, "trigger's high number": 50001, "server's number": 1146}

OF_A_CONSTRAINT = ("duplicate", "duplicate word", "check", "no json", "foreign key", *NUMBERS)


def test_a_file_with_a_row_that_the_server_would_alter_or_drop_is_refused_and_the_others_are_loaded(
    tmp_path: Path, mariadb: str, bulk: str
) -> None:
    query(mariadb, "CREATE TABLE known (id INT PRIMARY KEY)", "INSERT INTO known VALUES (1)")
    for kind, (columns, row) in REFUSED.items():
        query(mariadb, f"CREATE TABLE `{kind}` ({columns})")
        if kind in NUMBERS:
            number = f"MYSQL_ERRNO = {NUMBERS[kind]}, " if NUMBERS[kind] else ""
            query(
                mariadb,
                f"CREATE TRIGGER `no {kind}` BEFORE INSERT ON `{kind}` FOR EACH ROW IF NEW.id = 2 THEN"
                f" SIGNAL SQLSTATE '45000' SET {number}MESSAGE_TEXT = 'the word is secret'; END IF",
            )
        first: tuple[object, ...] = (1, {"no json": "{}", "no time": "10:00", "sum": "1"}.get(kind, "fine"), "")
        orders(tmp_path, f"{kind}_1.csv", [first, row])
        if kind != "missing":
            orders(tmp_path, f"{kind}_2.csv", [first])
    events: list[Event] = []
    report = load(tmp_path / "in", mariadb, bulk=bulk, events=events, on_duplicate="load")
    ended = tools.told(report)
    for kind in REFUSED:
        # The record that breaks a constraint is known; what else is wrong with a value, the server says of a file.
        code = "over_budget" if kind in OF_A_CONSTRAINT else "constraint"
        assert ended.pop(f"{kind}_1.csv") == ("refused", code), report.files
        assert ended.get(f"{kind}_2.csv", ("loaded", "new")) == ("loaded", "new"), report.files
        assert query(mariadb, f"SELECT count(*) FROM `{kind}`") == [(int(kind != "missing"),)], kind
    assert len(ended) == len(REFUSED) - 1
    told = repr(events) + repr(query(mariadb, "SELECT * FROM ingest_file")) + repr(report)
    assert "secret" not in told.replace(str(tmp_path), "")


def test_a_sql_mode_that_lets_everything_pass_is_not_ours(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server, bulk: str
) -> None:
    query(mariadb, "CREATE TABLE orders (id INT, word TEXT, at TIMESTAMP NULL)")
    bad = orders(tmp_path, "orders_1.csv", [(3, "w", "2200-01-01 00:00:00")])
    with told_otherwise(mariadb_server, "sql_mode", "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'"):
        assert tools.told(load(bad.parent, mariadb, bulk=bulk)) == {"orders_1.csv": ("refused", "constraint")}
        orders(tmp_path, "orders_1.csv", [(1, "back\\slash", "")])
        assert load(bad.parent, mariadb, bulk=bulk).exit_code == 0
    assert query(mariadb, "SELECT id, word FROM orders") == [(1, "back\\slash")]


def test_a_server_without_local_infile_gets_inserts_and_it_is_said_once(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    for name in ("a", "b", "c"):
        tools.orders(tmp_path / "in" / f"{name}.csv", 50)
    with told_otherwise(mariadb_server, "local_infile", "0"):
        events: list[Event] = []
        report = load(tmp_path / "in", mariadb, events=events, on_duplicate="load")
        assert (report.exit_code, report.rows) == (0, 150)
        warnings = [event.text for event in events if isinstance(event, Notice) and event.level == "warning"]
        assert len(warnings) == 1
        assert "SET GLOBAL local_infile = 1" in warnings[0]
        assert load(tmp_path / "in", mariadb, on_duplicate="load").warnings == ()  # nothing was to be done
        tools.orders(tmp_path / "in" / "d.csv", 50)
        assert load(tmp_path / "in", mariadb, bulk="off", on_duplicate="load").warnings == ()
    tools.orders(tmp_path / "in" / "e.csv", 50)
    assert load(tmp_path / "in", mariadb, on_duplicate="load").warnings == ()
    assert query(mariadb, "SELECT count(*) FROM a") == [(50,)]


@pytest.mark.parametrize("engine", ["Aria", "MyISAM"])
def test_a_table_without_transactions_is_refused_with_the_sql_to_type(
    tmp_path: Path, mariadb: str, engine: str
) -> None:
    query(mariadb, f"CREATE TABLE `odd``name` (id INT, word TEXT, at DATETIME(6)) ENGINE={engine}")
    bad, _ = orders(tmp_path, "odd`name.csv", [(1, "w", "")]), tools.orders(tmp_path / "in" / "other.csv", 3)
    report = load(bad.parent, mariadb)
    assert tools.told(report) == {"odd`name.csv": ("refused", "columns"), "other.csv": ("loaded", "new")}
    [outcome] = [f for f in report.files if f.state == "refused"]
    assert engine in outcome.sentence
    query(mariadb, outcome.hint[outcome.hint.index("ALTER") :])
    assert load(bad.parent, mariadb).exit_code == 0


def test_a_view_is_refused(tmp_path: Path, mariadb: str) -> None:
    query(mariadb, "CREATE TABLE real_orders (id INT, word TEXT, at DATETIME)")
    query(mariadb, "CREATE VIEW orders AS SELECT * FROM real_orders")
    report = load(orders(tmp_path, "orders.csv", [(1, "w", "")]), mariadb)
    assert tools.told(report) == {"orders.csv": ("refused", "columns")}


def test_names_with_any_sign_in_them_are_only_names(tmp_path: Path, mariadb: str, bulk: str) -> None:
    names = ["a`b", "50%", "%s", "%(v0)s", 'q"q', "VALUES (%s)", "a.b", "\\n", "-- ;", "é"]
    file = tools.write_csv(tmp_path / "in" / "x.csv", names, [range(len(names))])
    for table in ("t`%s", "select", "Mixed Case", 'q"; DROP TABLE x; --'):
        assert load(file, mariadb, bulk=bulk, table=table).exit_code == 0
        doubled = table.replace("`", "``")
        assert query(mariadb, f"SELECT * FROM `{doubled}`") == [
            (*range(len(names)), query(mariadb, "SELECT max(file_id) FROM ingest_file")[0][0])
        ]
    more = tools.write_csv(tmp_path / "in" / "y.csv", [*names, "new `%s`"], [(*range(len(names)), 9)])
    assert load(more, mariadb, bulk=bulk, table="t`%s").exit_code == 0
    assert query(mariadb, "SELECT `new ``%s``` FROM `t``%s` ORDER BY 1") == [(None,), (9,)]


def test_names_that_the_server_does_not_take_are_refused_before(tmp_path: Path, mariadb: str) -> None:
    tools.write_csv(tmp_path / "in" / f"{'t' * 65}.csv", ["a"], [[1]])
    tools.write_csv(tmp_path / "in" / "long.csv", ["c" * 65], [[1]])
    tools.write_csv(tmp_path / "in" / "smile.csv", ["🙂"], [[1]])
    tools.write_csv(tmp_path / "in" / f"{'é' * 64}.csv", ["é" * 64], [[1]])
    report = load(tmp_path / "in", mariadb)
    ended = tools.told(report)
    assert ended.pop(f"{'é' * 64}.csv") == ("loaded", "new")
    assert set(ended.values()) == {("refused", "columns")}
    assert all("--table" in f.hint or "--rename" in f.hint for f in report.files if f.state == "refused")
    assert load(tmp_path / "in" / "long.csv", mariadb, rename=(("c" * 65, "c"),)).exit_code == 0
    assert load(tmp_path / "in" / "smile.csv", mariadb, rename=(("🙂", "smile"),)).exit_code == 0


def test_a_table_wider_than_a_page_is_refused_with_what_the_server_said(tmp_path: Path, mariadb: str) -> None:
    tools.write_csv(tmp_path / "in" / "wide.csv", [f"c{i}" for i in range(1_000)], [["x"] * 1_000])
    tools.write_csv(tmp_path / "in" / "wider.csv", [f"c{i}" for i in range(1_017)], [["x"] * 1_017])
    tools.orders(tmp_path / "in" / "orders.csv", 3)
    report = load(tmp_path / "in", mariadb)
    assert tools.told(report) == {
        "wide.csv": ("failed", "database"),
        "wider.csv": ("refused", "columns"),
        "orders.csv": ("loaded", "new"),
    }
    assert any("Row size too large" in f.sentence for f in report.files)
    assert load(tmp_path / "in" / "orders.csv", mariadb).exit_code == 0


def test_a_database_in_another_character_set_takes_every_name_and_value(tmp_path: Path, mariadb: str) -> None:
    query(mariadb, "ALTER DATABASE CHARACTER SET latin1")
    for name in ("bücher", "bucher", "日本", "büchér"):
        tools.write_csv(tmp_path / "in" / f"{name}.csv", ["ключ", "w"], [[1, "🙂 日本 é"]])
    assert load(tmp_path / "in", mariadb, on_duplicate="load").exit_code == 0
    assert query(mariadb, "SELECT table_name FROM ingest_table ORDER BY table_id") == [
        ("bucher",),
        ("bücher",),
        ("büchér",),
        ("日本",),
    ]
    for name in ("bücher", "bucher", "日本"):
        assert query(mariadb, f"SELECT ключ, w FROM {name}") == [(1, "🙂 日本 é")]
    assert load(tmp_path / "in", mariadb, on_duplicate="load").count("skipped") == 4


def test_tables_have_the_collation_of_their_database(tmp_path: Path, mariadb: str) -> None:
    query(mariadb, "ALTER DATABASE CHARACTER SET utf8mb4 COLLATE utf8mb4_german2_ci")
    load(orders(tmp_path, "orders.csv", [(1, "w", "")]), mariadb)
    query(mariadb, "CREATE TABLE others (word VARCHAR(9))")
    assert query(mariadb, "SELECT count(*) FROM orders o JOIN others USING (word)") == [(0,)]
    collations = "SELECT DISTINCT table_collation FROM information_schema.tables WHERE table_schema = DATABASE()"
    assert query(mariadb, f"{collations} AND table_name = 'orders'") == [("utf8mb4_german2_ci",)]
    assert query(mariadb, f"{collations} AND table_name IN ('ingest_file', 'ingest_table')") == [("utf8mb4_bin",)]


def test_a_table_of_another_database_of_the_server(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server, bulk: str
) -> None:
    file = orders(tmp_path, "orders.csv", [(1, "w", ""), (2, "v", "")])
    with mariadb_server.database() as other:
        name = make_url(other).database
        assert load(file, mariadb, bulk=bulk, table=f"{name}.{{name}}").exit_code == 0
        assert query(other, "SELECT count(*) FROM orders") == [(2,)]
        orders(tmp_path, "orders.csv", [(3, "w", "")])
        assert load(file, mariadb, bulk=bulk, table=f"{name}.{{name}}", on_change="reload").exit_code == 0
        assert query(other, "SELECT id FROM orders") == [(3,)]
        assert query(mariadb, "SHOW TABLES LIKE 'orders'") == []


def test_a_database_that_is_not_there_is_named(tmp_path: Path, mariadb: str) -> None:
    report = load(tools.orders(tmp_path / "orders.csv", 5), mariadb, table="no`where.orders")
    assert tools.told(report) == {"orders.csv": ("refused", "columns")}
    assert report.files[0].sentence == "there is no database 'no`where' that this user may use."
    assert "CREATE DATABASE `no``where` CHARACTER SET utf8mb4;" in report.files[0].hint


def test_our_tables_can_be_kept_in_another_database(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    name = f"{make_url(mariadb).database}_ledger"
    file = orders(tmp_path, "orders.csv", [(1, "w", "")])
    try:
        assert load(file, mariadb, ledger_schema=name).rows == 1
        assert load(file, mariadb, ledger_schema=name).count("skipped") == 1
        assert query(mariadb, "SHOW TABLES") == [("orders",)]
    finally:
        mariadb_server.execute(f"DROP DATABASE {name}")


def test_rows_that_the_table_numbers_itself_do_not_make_it_another_table(tmp_path: Path, mariadb: str) -> None:
    query(mariadb, "CREATE TABLE orders (n INT AUTO_INCREMENT PRIMARY KEY, id INT, word TEXT, at DATETIME(6))")
    for number in (1, 2, 3):
        orders(tmp_path, f"orders_{number}.csv", [(number, "w", "")])
        assert load(tmp_path / "in", mariadb).exit_code == 0
    assert query(mariadb, "SELECT n, id FROM orders ORDER BY n") == [(1, 1), (2, 2), (3, 3)]


class FoldingMariaDB(servers.MariaDB):
    """A server that keeps the names of tables in lower case, as on Windows."""

    def _command(self, data: Path) -> list[str]:
        return [*super()._command(data), "--lower-case-table-names=1"]


def test_a_server_that_folds_names_knows_its_tables_again(tmp_path: Path) -> None:
    with servers.running(FoldingMariaDB) as server, server.database() as url:
        file = orders(tmp_path, "Orders.csv", [(1, "w", "")])
        assert load(file, url).rows == 1
        assert load(file, url).count("skipped") == 1
        orders(tmp_path, "ORDERS_2.csv", [(2, "w", "")])
        assert load(tmp_path / "in", url).rows == 1
        assert query(url, "SELECT table_name, made_by_us, state FROM ingest_table") == [("orders", 1, "ready")]
        assert query(url, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]


def shape() -> TableShape:
    return TableShape(table=TableName(name="t"), columns=(Column(name="a", type=ColumnType.BIGINT),))


def test_what_reads_cannot_write(mariadb: str) -> None:
    target = target_for(mariadb)
    for statement in ("CREATE TABLE t (a INT)", "INSERT INTO known VALUES (1)", "DROP TABLE known"):
        query(mariadb, "CREATE TABLE IF NOT EXISTS known (id INT)")
        with target.connect() as connection, pytest.raises(sa.exc.OperationalError, match="READ ONLY"):
            connection.exec_driver_sql(statement)


def test_a_transaction_that_ended_by_itself_is_noticed(mariadb: str) -> None:
    target = target_for(mariadb)
    try:
        with target.begin() as connection:
            connection.exec_driver_sql("SELECT 1 FROM information_schema.tables LIMIT 1")
            target.create_table(connection, shape(), "0" * 32)
            with pytest.raises(RuntimeError, match="ended the transaction"):
                target.assert_open(connection)
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            target.assert_open(connection)
    finally:
        target.close()
    assert query(mariadb, "SELECT a FROM t") == [(1,)]


WRONG = {
    "password": (lambda url: url.set(password="wrong-secret"), "Access denied", "password"),
    "user": (lambda url: url.set(username="nobody"), "Access denied", "password"),
    "host": (lambda url: url.set(host="no-such-host.invalid"), "Can't connect", "host"),
    "port": (lambda url: url.set(port=1), "Can't connect", "port"),
    "database": (lambda url: url.set(database="no`where"), "Unknown database", "CREATE DATABASE `no``where`"),
    "no database": (lambda url: url._replace(database=None), "names no database", "mariadb://user@host/name"),
    "driver": (lambda url: url.set(drivername="mysql+mysqldb"), "not 'mysqldb'", "mysql://user@host/name"),
    "letters": (lambda url: url.set(password="wrong-secret-日本"), "Access denied", "password"),
}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *(("load", kind) for kind in WRONG),
        *((other, kind) for other in ("plan", "status") for kind in list(WRONG)[::5]),
    ],
)
def test_what_is_wrong_with_the_url_is_two_lines_and_no_password(
    tmp_path: Path, mariadb: str, kind: str, command: str
) -> None:
    change, message, hint = WRONG[kind]
    url = change(make_url(mariadb)).render_as_string(hide_password=False)
    file = orders(tmp_path, "orders.csv", [(1, "w", "")])
    done = tools.ingest(command, *([file] if command != "status" else []), "--to", url, cwd=tmp_path)
    said = [line for line in done.stderr.splitlines() if not line.startswith("database: ")]
    assert done.returncode == (2 if kind in ("no database", "driver") else 10), done.stderr
    assert len(said) == 2, done.stderr
    assert message in said[0]
    assert hint in said[1]
    for word in ("wrong-secret", servers.PASSWORD, "Traceback"):
        assert word not in done.stdout + done.stderr


def test_the_password_is_in_no_output_and_no_process_list(tmp_path: Path, mariadb: str) -> None:
    for number in range(20):
        orders(tmp_path, f"orders_{number}.csv", [(number, "w", "")])
    parts = make_url(mariadb)
    in_query = parts.set(password=None).update_query_dict({"password": servers.PASSWORD})
    for url, environment in (
        (parts, {}),
        (in_query, {}),
        (None, {"INGEST_DATABASE_URL": parts.render_as_string(hide_password=False)}),
    ):
        flag = ["--to", url.render_as_string(hide_password=False)] if url is not None else []
        done = tools.ingest(
            "load", "in", *flag, "-v", "--log-file", "log", "--on-change", "reload", cwd=tmp_path, **environment
        )
        assert done.returncode == 0, done.stderr
        told = done.stdout + done.stderr + (tmp_path / "log").read_text()
        assert servers.PASSWORD not in told + repr(query(mariadb, "SELECT options, error FROM ingest_run"))


def test_a_password_may_hold_any_letter(tmp_path: Path, mariadb: str, mariadb_server: servers.Server) -> None:
    parts = make_url(mariadb)
    mariadb_server.execute("CREATE USER 'jürgen'@'%' IDENTIFIED BY 'pä:ß/@日'")
    try:
        mariadb_server.execute(f"GRANT ALL ON {parts.database}.* TO 'jürgen'@'%'")
        url = parts.set(username="jürgen", password="pä:ß/@日").render_as_string(hide_password=False)
        assert load(orders(tmp_path, "orders.csv", [(1, "w", "")]), url).exit_code == 0
    finally:
        mariadb_server.execute("DROP USER 'jürgen'@'%'")


def test_nobody_changes_a_table_while_rows_go_in(mariadb: str) -> None:
    query(mariadb, "CREATE TABLE t (a BIGINT)")
    target = target_for(mariadb)
    try:
        with target.begin() as connection:
            target.hold(connection, TableName(name="gone"))
            target.hold(connection, TableName(name="t"))
            with pytest.raises(pymysql.err.OperationalError, match="timeout"):
                query(mariadb, "SET lock_wait_timeout = 0", "ALTER TABLE t ADD COLUMN b INT")
        query(mariadb, "ALTER TABLE t ADD COLUMN b INT")
    finally:
        target.close()


def test_a_missing_driver_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['pymysql'] = None")
    file = orders(tmp_path, "orders.csv", [(1, "w", "")])
    path = str(tmp_path / "hidden")
    done = tools.ingest("load", file, "--to", "mysql://u@127.0.0.1/d", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 2
    assert "pip install 'ingest[mysql]'" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_large_values_arrive_whole(tmp_path: Path, mariadb: str) -> None:
    large = "é" * 2_000_000
    file = orders(tmp_path, "orders.csv", [(1, large, ""), (2, "\\" * 1_000_000, "")])
    assert load(file, mariadb, slice_bytes=64 << 20).exit_code == 0
    assert query(mariadb, "SELECT word FROM orders ORDER BY id") == [(large,), ("\\" * 1_000_000,)]


def test_a_value_that_no_statement_can_hold_goes_in_by_load_data_and_is_refused_by_insert(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    large = "x" * (3 << 20)
    files = orders(tmp_path, "large.csv", [(1, large, "")]).parent
    orders(tmp_path, "small.csv", [(1, "x", "")])
    with told_otherwise(mariadb_server, "max_allowed_packet", str(2 << 20)):
        report = load(files, mariadb, bulk="off")
        assert tools.told(report) == {"large.csv": ("refused", "constraint"), "small.csv": ("loaded", "new")}
        assert "max_allowed_packet" in next(f.sentence for f in report.files if f.state == "refused")
        assert load(files, mariadb).rows == 1
    assert query(mariadb, "SELECT word FROM large") == [(large,)]


def test_mysql_is_not_asked_before_the_url_is_read() -> None:
    assert "://u:***@h/d" in target_for("mysql://u:p@h/d").label
    with pytest.raises(UsageError, match="names no database"):
        target_for("mariadb://u:p@h/")
    assert sys.modules.get("MySQLdb") is None


def test_creating_and_migrating_make_the_same_ledger(mariadb_server: servers.Server) -> None:
    found = []
    for make in ("create", "upgrade"):
        with mariadb_server.database() as url:
            target = target_for(url)
            if make == "create":
                with target.begin() as connection:
                    ledger.create(connection)
            else:
                assert ledger.upgrade(target.engine) == (None, ledger.HEAD)
            target.close()
            tables = {name: query(url, f"SHOW CREATE TABLE {name}")[0][1] for (name,) in query(url, "SHOW TABLES")}
            assert query(url, "SELECT version_num FROM ingest_version") == [(ledger.HEAD,)]
            assert query(url, "SELECT lease_id FROM ingest_lease") == [(1,)]
            found.append({name: set(re.split(r",?\n", text)) for name, text in tables.items()})
    assert found[0] == found[1]
    assert all("ENGINE=InnoDB" in " ".join(lines) for lines in found[0].values())
