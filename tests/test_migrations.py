"""Migrating makes the same ledger as `tables.py` says, and never harms one that it does not know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import ledger_tools
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, Table, inspect
from sqlalchemy.exc import OperationalError

from ingest import ledger
from ingest.errors import LedgerError
from ingest.model import Reason, Reject
from ingest.tables import VERSION_TABLE, metadata
from ingest.targets import target_for


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    opened: list[Engine] = []

    def open_one(name: str) -> Engine:
        engine = ledger_tools.open_engine(tmp_path / name)
        opened.append(engine)
        return engine

    yield open_one
    for engine in opened:
        engine.dispose()


def created(engine: Engine) -> Engine:
    with engine.begin() as connection:
        ledger.create(connection)
    return engine


def upgraded(engine: Engine) -> Engine:
    ledger.upgrade(engine)
    return engine


def shape(engine: Engine) -> dict[str, object]:
    """Everything that a reflection tells of our tables; constraints and indexes sorted by name."""
    seen = inspect(engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in seen.get_columns(name)],
            seen.get_pk_constraint(name)["constrained_columns"],
            sorted((c["name"], c["column_names"]) for c in seen.get_unique_constraints(name)),
            sorted((i["name"], i["column_names"], i["unique"]) for i in seen.get_indexes(name)),
        )
        for name in seen.get_table_names()
    }


@pytest.mark.parametrize("make", [created, upgraded])
def test_the_ledger_is_what_tables_say(open_engine: Callable[[str], Engine], make: Callable[[Engine], Engine]) -> None:
    with make(open_engine("a.db")).connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        assert ledger.version(connection) == ledger.HEAD


def test_creating_and_migrating_make_the_same(open_engine: Callable[[str], Engine]) -> None:
    made, migrated = shape(created(open_engine("made.db"))), shape(upgraded(open_engine("migrated.db")))
    assert set(made) == {
        "ingest_file",
        "ingest_table",
        "ingest_run",
        "ingest_reject",
        "ingest_lease",
        "ingest_version",
    }
    assert made == migrated


def test_migrated_numbers_are_never_given_again(open_engine: Callable[[str], Engine]) -> None:
    query = "SELECT name FROM sqlite_schema WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name"
    for engine in (created(open_engine("made.db")), upgraded(open_engine("migrated.db"))):
        with engine.connect() as connection:
            assert connection.exec_driver_sql(query).scalars().all() == ["ingest_file", "ingest_reject", "ingest_run"]


def test_head_is_the_newest_migration() -> None:
    folder = Path(__file__).parent.parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [ledger.HEAD]


def test_a_database_without_a_ledger_has_no_version(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    with engine.connect() as connection:
        assert ledger.version(connection) is None
    assert inspect(engine).get_table_names() == []


def test_no_ledger_is_upgraded_to_a_new_one_and_then_left_alone(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    assert ledger.upgrade(engine) == (None, ledger.HEAD)
    assert ledger.upgrade(engine) == (ledger.HEAD, ledger.HEAD)


def test_a_version_table_without_a_version_is_upgraded(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    with engine.begin() as connection:
        metadata.tables[VERSION_TABLE].create(connection)
        assert ledger.version(connection) is None
    assert ledger.upgrade(engine) == (None, ledger.HEAD)
    with engine.connect() as connection:
        assert ledger.version(connection) == ledger.HEAD


def test_creating_twice_keeps_what_is_there(open_engine: Callable[[str], Engine]) -> None:
    engine = created(open_engine("a.db"))
    with engine.begin() as connection:
        run_id = ledger.start_run(connection, host="here", pid=1, version="0.1", options="{}")
    created(engine)
    upgraded(engine)
    with engine.connect() as connection:
        assert [row.run_id for row in ledger.runs(connection)] == [run_id]
        assert ledger.version(connection) == ledger.HEAD


def test_creating_is_in_the_transaction_of_the_caller(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    with engine.connect() as connection:
        ledger.create(connection)
        connection.rollback()
    assert inspect(engine).get_table_names() == []


def test_a_newer_ledger_is_refused_and_left_as_it_is(open_engine: Callable[[str], Engine]) -> None:
    engine = created(open_engine("a.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(LedgerError, match="Upgrade ingest"):
        ledger.upgrade(engine)
    with pytest.raises(LedgerError, match="9999"):
        created(engine)
    with engine.connect() as connection:
        assert ledger.version(connection) == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE ingest_reject (theirs INTEGER)")
    with pytest.raises(OperationalError):
        ledger.upgrade(engine)
    assert inspect(engine).get_table_names() == ["ingest_reject"]


def test_upgrading_says_nothing_and_sets_up_no_logging(
    open_engine: Callable[[str], Engine], capfd: pytest.CaptureFixture[str]
) -> None:
    before = (list(logging.getLogger().handlers), logging.getLogger("alembic").level)
    upgraded(open_engine("a.db"))
    assert (list(logging.getLogger().handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")


def test_what_an_older_ledger_knows_is_kept(open_engine: Callable[[str], Engine]) -> None:
    """Its files were appended, and no record of them was left out for another."""
    engine = open_engine("a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        there = Table("ingest_file", MetaData(), autoload_with=connection)
        texts = {"state": "loaded", "path": "/a", "path_key": "k", "table_name": "t", "rows_loaded": 7}
        given = {c.name: 0 for c in there.columns if not c.nullable and c.name != "file_id"} | texts
        connection.execute(there.insert().values(given | {"started_at": datetime(2024, 1, 1)}))
    assert ledger.upgrade(engine) == ("0001", ledger.HEAD)
    with engine.connect() as connection:
        (row,) = ledger.files(connection)
    assert (row.mode, row.merged, row.rows_loaded, row.rows_superseded, row.rows_ignored) == ("append", False, 7, 0, 0)


def test_rejects_of_an_older_ledger_are_open(open_engine: Callable[[str], Engine]) -> None:
    engine = open_engine("a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        there = Table("ingest_reject", MetaData(), autoload_with=connection)
        texts = {"table_name": "t", "reason": "ragged", "message": "m", "raw": "1,2", "applied": True}
        given = {c.name: 0 for c in there.columns if not c.nullable} | texts
        connection.execute(there.insert().values(given | {"reject_id": 7}))
    assert ledger.upgrade(engine) == ("0003", ledger.HEAD)
    with engine.begin() as connection:
        (row,) = ledger.rejects(connection, still_open=True)
        assert (row.reject_id, row.raw, row.closed_run_id, row.closed_at, row.mended) == (7, "1,2", None, None, None)
        ledger.drop_rejects(connection, row.file_id)
        reject = Reject(code=Reason.RAGGED, message="m", line=1, byte=0, record=0)
        ledger.write_rejects(connection, 1, file_id=0, table_name="t", rejects=[reject], applied=True)
        # A number that a mended file may have is never another record's.
        assert [row.reject_id for row in ledger.rejects(connection)] == [8]


def test_an_upgrade_that_was_killed_is_gone_on_with(mariadb: str) -> None:
    """Each column is there for good as soon as it was added."""
    engine = target_for(mariadb).engine
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.exec_driver_sql("ALTER TABLE ingest_reject ADD COLUMN closed_run_id BIGINT")
    assert ledger.upgrade(engine) == ("0003", ledger.HEAD)
    with engine.connect() as connection:
        names = [column["name"] for column in inspect(connection).get_columns("ingest_reject")]
        assert list(ledger.rejects(connection)) == []
    assert names == list(metadata.tables["ingest_reject"].columns.keys())
    engine.dispose()
