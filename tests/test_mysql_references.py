"""Rows that refer to others, on MariaDB: later ones of their file, with a key, and where a table is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oracle
import pymysql
import pytest
import tools
from test_mysql_modes import ONE, PARENTS, script
from tools import assert_counts_add_up, query, write_csv

from ingest.settings import Budget

pytestmark = pytest.mark.parametrize("db", ["mariadb"], indirect=True)


def test_a_row_may_refer_to_a_later_one_of_its_file(data: Path, db: oracle.OnServer, bulk: str) -> None:
    script(
        db,
        f"{PARENTS}CREATE TABLE t (a INTEGER PRIMARY KEY, up INTEGER, p INTEGER, CONSTRAINT mine FOREIGN KEY (up)"
        " REFERENCES t (a), CONSTRAINT other FOREIGN KEY (p) REFERENCES p (a))",
    )
    write_csv(
        data / "t_1.csv", ["a", "up", "p"], [[1, 2, 1], [2, 3, ""], [3, "", 2], [4, 9, 1], [5, 6, 9], [6, "", ""]]
    )
    report = tools.load(data, db, bulk=bulk, max_rejects=Budget(count=2))
    assert (report.exit_code, report.rows, report.rejected) == (3, 4, 2), report.files
    assert [(r[5]) for r in tools.rejects(db)] == ["4,9,1", "5,6,9"]
    assert query(db, "SELECT message FROM ingest_reject ORDER BY record") == [
        ("the table refuses it: FOREIGN KEY mine",),
        ("the table refuses it: FOREIGN KEY other",),
    ]
    write_csv(data / "t_2.csv", ["a", "up", "p"], [[7, 8, 3], [8, "", ""]])
    assert tools.load(data, db, bulk=bulk).rows == 2
    assert query(db, "SELECT a, up, p FROM t WHERE up IS NOT NULL ORDER BY a") == [(1, 2, 1), (2, 3, None), (7, 8, 3)]


@pytest.mark.parametrize("mode", ["upsert", "insert-ignore"])
def test_a_record_with_a_key_may_refer_to_a_later_one(data: Path, db: oracle.OnServer, mode: str, bulk: str) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER, n INTEGER, CONSTRAINT mine FOREIGN KEY (up) REFERENCES"
        " t (id)); INSERT INTO t VALUES (1, NULL, 1), (2, 1, 2)",
    )
    options: dict[str, Any] = {"mode": mode, "key": ("id",), "bulk": bulk}
    upsert = mode == "upsert"
    # An update refers to a new row, a new row to a later one, and what is ignored may refer to anything.
    rows = [[1, 4 if upsert else 99, 10], [3, 5, 30], [5, 3, 50], [4, "", 40], [2, 3, 20]]
    write_csv(data / "t_1.csv", ["id", "up", "n"], rows)
    report = tools.load(data, db, **options)
    counted = (report.exit_code, report.rows, report.ignored)
    assert counted == ((0, 5, 0) if upsert else (0, 3, 2)), report.files
    old = [(1, 4, 10), (2, 3, 20)] if upsert else [(1, None, 1), (2, 1, 2)]
    there = [*old, (3, 5, 30), (4, None, 40), (5, 3, 50)]
    assert query(db, "SELECT id, up, n FROM t ORDER BY id") == there
    # Beside a truly bad one, that one is the reject.
    write_csv(data / "t_2.csv", ["id", "up", "n"], [[6, 8, 1], [7, 99, 2], [8, "", 3]])
    report = tools.load(data, db, max_rejects=ONE, **options)
    assert (report.exit_code, report.rows, report.rejected) == (3, 2, 1), report.files
    assert [(r[2], r[5]) for r in tools.rejects(db)] == [(1, "7,99,2")]
    assert query(db, "SELECT message FROM ingest_reject") == [("the table refuses it: FOREIGN KEY mine",)]
    assert query(db, "SELECT id, up, n FROM t ORDER BY id") == [*there, (6, 8, 1), (8, None, 3)]
    assert_counts_add_up(db)
    with pytest.raises(pymysql.err.IntegrityError):
        query(db, "INSERT INTO t VALUES (9, 99, 0)")


def test_an_update_whose_new_rows_come_unchecked_is_checked_itself(data: Path, db: oracle.OnServer, bulk: str) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER, code INTEGER UNIQUE, CONSTRAINT mine FOREIGN KEY (up)"
        " REFERENCES t (id)); INSERT INTO t VALUES (1, NULL, 10); "
        "CREATE TABLE child (code INTEGER, FOREIGN KEY (code) REFERENCES t (code)); INSERT INTO child VALUES (10)",
    )
    path = write_csv(data / "t_1.csv", ["id", "up", "code"], [[1, 2, 11], [2, 3, 20], [3, "", 30]])
    options: dict[str, Any] = {"mode": "upsert", "key": ("id",), "bulk": bulk}
    assert tools.load(data, db, **options).exit_code == 4
    assert query(db, "SELECT id, up, code FROM t") == [(1, None, 10)]
    write_csv(path, ["id", "up", "code"], [[1, 2, 10], [2, 3, 20], [3, "", 30]])
    assert tools.load(data, db, **options).rows == 3
    assert query(db, "SELECT id, up, code FROM t ORDER BY id") == [(1, 2, 10), (2, 3, 20), (3, None, 30)]


def test_a_record_that_is_ignored_needs_no_parent(data: Path, db: oracle.OnServer, bulk: str) -> None:
    script(db, "CREATE TABLE par (id INTEGER PRIMARY KEY); INSERT INTO par VALUES (1)")
    query(db, "CREATE TABLE p (id INTEGER PRIMARY KEY, par INTEGER REFERENCES par (id), c INTEGER CHECK (c > 0))")
    query(db, "INSERT INTO p VALUES (1, 1, 1)")
    path = write_csv(data / "p.csv", ["id", "par", "c"], [[1, 99, 1], [2, 1, 1], [3, 1, -1]])
    report = tools.load(path, db, mode="insert-ignore", key=("id",), bulk=bulk, max_rejects=Budget(count=5))
    assert (report.exit_code, report.rows, report.ignored, report.rejected) == (3, 1, 1, 1), report.files
    assert [r[5] for r in tools.rejects(db)] == ["3,1,-1"]
    assert query(db, "SELECT id, par FROM p ORDER BY id") == [(1, 1), (2, 1)]


@pytest.mark.parametrize("child", [False, True], ids=["", "child"])
def test_rows_of_a_replaced_table_may_refer_to_each_other(data: Path, db: oracle.OnServer, child: bool) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER, CONSTRAINT mine FOREIGN KEY (up) REFERENCES t (id)); "
        "INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2); CREATE TABLE child (id INTEGER REFERENCES t (id))",
    )
    if child:
        query(db, "INSERT INTO child VALUES (3)")
    path = write_csv(data / "t.csv", ["id", "up"], [[0, 1], [1, 3], [3, ""], [4, 1]])
    assert tools.load(path, db, mode="replace").exit_code == 0
    there = [(0, 1), (1, 3), (3, None), (4, 1)]
    assert query(db, "SELECT id, up FROM t ORDER BY id") == there
    write_csv(path, ["id", "up"], [[3, 7]])
    report = tools.load(path, db, mode="replace")
    assert report.exit_code == 4
    assert "`mine`" in report.warnings[0]
    assert query(db, "SELECT id, up FROM t ORDER BY id") == there
    with pytest.raises(pymysql.err.IntegrityError):
        query(db, "INSERT INTO t VALUES (9, 8)")


def test_keys_are_spelt_anew_in_a_replaced_table_that_others_refer_to(data: Path, db: oracle.OnServer) -> None:
    script(
        db,
        "CREATE TABLE t (k VARCHAR(9) PRIMARY KEY, n INTEGER UNIQUE) COLLATE utf8mb4_general_ci; "
        "CREATE TABLE child (k VARCHAR(9) REFERENCES t (k)) COLLATE utf8mb4_general_ci; "
        "INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3); INSERT INTO child VALUES ('a')",
    )
    write_csv(data / "t.csv", ["k", "n"], [["a", 4], ["B", 2], ["d", 3]])
    report = tools.load(data, db, mode="replace")
    assert (report.exit_code, report.rows) == (0, 3), report.warnings
    assert query(db, "SELECT k, n FROM t ORDER BY k") == [("a", 4), ("B", 2), ("d", 3)]
