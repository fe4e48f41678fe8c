"""Databases without a target of their own: told as untested, tried before use, and refused where they fall short.

That loads into them keep the promise is proved by the tests for every target, on `plainsqlite` and `plainpg`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import plain  # noqa: F401 - installs the dialects
import pytest
import tools
from oracle import PlainPostgreSQL, PlainSQLite, oracle
from sqlalchemy.dialects import mssql
from sqlalchemy.schema import CreateTable

from ingest.errors import LedgerError, UsageError
from ingest.model import Column, ColumnType, Mode, TableName, TableShape
from ingest.settings import Budget
from ingest.targets import target_for


@pytest.fixture
def lite(tmp_path: Path) -> PlainSQLite:
    """An SQLite file, as a database that the tool does not know."""
    return PlainSQLite(tmp_path / "plain.db")


# which databases ------------------------------------------------------------------------------------------------


def test_a_kind_of_database_without_a_target_is_told_to_be_untested(tmp_path: Path, lite: PlainSQLite) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    done = tools.ingest("load", ".", "--to", lite, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "untested" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: databases of the kind 'plainsqlite' are untested with ingest")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("plainless://u:secret@h/d", "SQLAlchemy has no dialect 'plainless' here. Look at how --to begins"),
        ("firebird://u:secret@h/d", "SQLAlchemy has no dialect 'firebird' here. Type: pip install sqlalchemy-firebird"),
        ("plainpg+not://u:secret@h/d", "SQLAlchemy has no dialect 'plainpg+not' here."),
        ("oracle+cx_oracle://u:secret@h/d", "not installed: cx_Oracle. Type: pip install cx_Oracle"),
    ],
)
def test_what_is_not_installed_is_one_line_that_says_so(tmp_path: Path, url: str, said: str) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    for command in (("load", "."), ("status",)):
        done = tools.ingest(*command, "--to", url, cwd=tmp_path)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr


def test_the_driver_is_told_as_it_was_typed() -> None:
    target = target_for("plainpg://u:secret@h/d?sslpassword=secret")
    assert target.label == "plainpg://u:***@h/d?sslpassword=%2A%2A%2A"
    target = target_for("plainsqlite+pysqlite:///x.db")
    assert target.label == "plainsqlite+pysqlite:///x.db"


def test_postgresql_with_another_driver_is_refused_as_before() -> None:
    with pytest.raises(UsageError, match="PostgreSQL is used through the driver psycopg, not 'pg8000'"):
        target_for("postgresql+pg8000://u@h/d")


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("committing", "keeps rows that were rolled back"),
        ("coarse", "does not give back every timestamp as it was stored"),
    ],
)
def test_a_database_that_cannot_keep_the_promise_is_found_out_before_anything_is_in_it(
    tmp_path: Path, dialect: str, said: str
) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    db = tmp_path / "x.db"
    with pytest.raises(LedgerError, match=said):
        tools.load(path, f"{dialect}:///{db}")
    assert tools.query(db, "SELECT * FROM sqlite_master") == []


def test_a_file_that_is_not_there_is_not_made_by_who_only_reads(tmp_path: Path, lite: PlainSQLite) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    assert tools.ingest("plan", ".", "--to", lite, cwd=tmp_path).returncode == 0
    done = tools.ingest("status", "--to", lite, cwd=tmp_path)
    assert done.returncode == 2
    assert "Load something first" in done.stderr
    assert not lite.exists()


# what is not used -----------------------------------------------------------------------------------------------


def test_what_such_a_database_may_lack_is_refused_in_one_sentence(tmp_path: Path, lite: PlainSQLite) -> None:
    path = tools.write_csv(tmp_path / "t.csv", ["a"], [[1]])
    for options, said in (
        ({"mode": Mode.UPSERT, "key": ("a",)}, "--mode upsert needs a database that knows INSERT … ON CONFLICT"),
        ({"mode": Mode.REPLACE}, "--mode replace is not there yet"),
    ):
        report = tools.load(path, lite, **options)
        assert report.exit_code == 4
        assert said in report.files[0].sentence
    for options, said in (
        ({"table": "sales.t"}, "schemas are not used in databases of the kind 'plainsqlite'"),
        ({"ledger_schema": "books"}, "--ledger-schema is not for databases of the kind 'plainsqlite'"),
    ):
        with pytest.raises(UsageError, match=said):
            tools.load(path, lite, **options)
    assert lite.tables() == set()


@pytest.mark.parametrize("kind", ["plainsqlite", "plainpg"])
def test_a_broken_constraint_refuses_its_file_and_quotes_no_value(
    tmp_path: Path, lite: PlainSQLite, request: pytest.FixtureRequest, kind: str
) -> None:
    db: Any = lite if kind == "plainsqlite" else request.getfixturevalue("plainpg")
    db.query("CREATE TABLE t (a BIGINT UNIQUE, b VARCHAR(9))")
    bad = tools.write_csv(tmp_path / "in" / "t_1.csv", ["a", "b"], [[4711, "x"], [4711, "x"]])
    good = tools.write_csv(tmp_path / "in" / "t_2.csv", ["a", "b"], [[1, "x"], [2, "y"]])
    long = tools.write_csv(tmp_path / "in" / "t_3.csv", ["a", "b"], [[3, "much too long"]])
    report = tools.load(bad.parent, db, max_rejects=Budget(count=5))
    assert tools.told(report)["t_1.csv"] == ("refused", "constraint")
    [sentence] = [one.sentence for one in report.files if one.state == "refused"]
    assert "IntegrityError (SQLITE_CONSTRAINT_UNIQUE)" in sentence or "UniqueViolation (23505)" in sentence
    assert "4711" not in str(report.files)
    # A text that a column would cut or refuse is a reject, as everywhere.
    assert tools.told(report)["t_3.csv"] == ("loaded", "new"), long
    assert report.rejected == 1
    tools.assert_loaded_once(db, "t", [good], ["a", "b"])


def test_a_column_whose_type_is_not_ours_is_refused_by_its_name(tmp_path: Path, plainpg: PlainPostgreSQL) -> None:
    plainpg.query("CREATE TABLE t (a BIGINT, many INTEGER[])")
    plainpg.query("CREATE VIEW v AS SELECT a FROM t")
    folder = tmp_path / "in"
    for name in ("t", "v"):
        tools.write_csv(folder / f"{name}.csv", ["a"], [[1]])
    report = tools.load(folder, plainpg)
    assert report.exit_code == 4
    sentences = {one.table: one.sentence for one in report.files}
    assert "the column 'many' of t is of the type ARRAY" in sentences["t"]
    assert "v is a view" in sentences["v"]


def test_a_table_of_the_users_keeps_its_types_and_fills_its_own_columns(
    tmp_path: Path, plainpg: PlainPostgreSQL
) -> None:
    plainpg.query(
        'CREATE TABLE "T" (id SERIAL PRIMARY KEY, a SMALLINT NOT NULL, "b %c" NUMERIC(6,2), on_ TIMESTAMP,'
        " twice BIGINT GENERATED ALWAYS AS (2 * a) STORED, word VARCHAR(3) DEFAULT 'new')"
    )
    header = ["A", "b %c", "on_"]
    path = tools.write_csv(tmp_path / "T.csv", header, [[1, "1.50", "2024-01-31 12:00:00.5"], [40_000, "", ""]])
    report = tools.load(path, plainpg, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.rejected) == (3, 1, 1), report.files
    found = plainpg.query('SELECT id, a, CAST("b %c" AS TEXT), CAST(on_ AS TEXT), twice, word FROM "T"')
    assert found == [(1, 1, "1.50", "2024-01-31 12:00:00.5", 2, "new")]


def test_two_that_want_the_lease_at_once_do_not_both_get_it(tmp_path: Path, lite: PlainSQLite) -> None:
    """SQLite knows of no SELECT FOR UPDATE: the epoch tells that somebody was quicker."""
    from ingest import ledger
    from ingest.targets.lease import this_process

    target = target_for(str(lite))
    now: Any = target.now()  # type: ignore[attr-defined]
    path = tools.orders(tmp_path / "orders.csv", 5)
    assert tools.load(path, lite).exit_code == 0
    one, other = this_process(), this_process()
    asked = []

    def meanwhile(_: ledger.Held) -> bool:
        """Asked about a dead holder: before we have answered, somebody else takes the lease."""
        asked.append(True)
        connection = sqlite3.connect(lite.path)
        connection.execute("UPDATE ingest_lease SET epoch = epoch + 1, holder = ?", (other.holder,))
        connection.commit()
        connection.close()
        return True

    with target.begin() as connection:
        assert ledger.take_lease(connection, one, now, gone=lambda _: False) is None
    with target.begin() as connection:
        found = ledger.take_lease(connection, one, now, gone=meanwhile)
    assert found is not None
    assert found.by.holder == other.holder
    assert asked == [True]
    assert oracle(lite.path).query("SELECT holder FROM ingest_lease") == [(other.holder,)]
    target.close()


def test_moments_and_texts_keep_all_of_themselves_on_sql_server() -> None:
    """Its DATETIME ends at 3 milliseconds, and its VARCHAR is of one code page."""
    target = target_for("plainsqlite:///never.db")
    columns = (Column(name="at", type=ColumnType.TIMESTAMP), Column(name="t", type=ColumnType.TEXT))
    table = target.sql_table(TableShape(table=TableName(name="x"), columns=columns))
    text = str(CreateTable(table).compile(dialect=mssql.dialect()))  # type: ignore[no-untyped-call]
    assert "at DATETIME2(6)" in text
    assert "t NVARCHAR(max)" in text or "t NTEXT" in text
    target.close()


def test_what_a_commit_says_is_told_without_its_values(tmp_path: Path, plainpg: PlainPostgreSQL) -> None:
    plainpg.query("CREATE TABLE p (a TEXT PRIMARY KEY)")
    plainpg.query("CREATE TABLE t (up TEXT REFERENCES p (a) DEFERRABLE INITIALLY DEFERRED)")
    path = tools.write_csv(tmp_path / "t.csv", ["up"], [["cell-4711"]])
    report = tools.load(path, plainpg)
    assert report.exit_code == 4
    assert "ForeignKeyViolation (23503)" in report.files[0].sentence
    assert "cell-4711" not in str(report.files)
