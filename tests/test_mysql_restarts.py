"""MariaDB, where DDL commits by itself: what a kill leaves of two statements of it, the next run completes.

What holds on every database, MariaDB among them, is in `test_failpoints.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killing
import oracle
import pytest
import servers
import sqlalchemy as sa
import tools
from alembic import command
from alembic.config import Config

from ingest import ledger
from ingest.targets import target_for


@pytest.fixture
def db(mariadb_server: servers.Server) -> Iterator[oracle.OnServer]:
    with oracle.on_server(mariadb_server) as database:
        yield database


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of orders."""
    made = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 100, first=i * 1_000) for i in (1, 2)]
    killing.aged(*made)
    return made


def assert_all_loaded(db: oracle.OnServer, files: list[Path], columns: tuple[str, ...] = tools.ORDERS) -> None:
    """Every row once, in a table that the ledger knows for ours; and a run after that finds nothing to do."""
    tools.assert_loaded_once(db, "orders", files, columns)
    tools.assert_counts_add_up(db)
    assert tools.query(db, "SELECT token, made_by_us, state FROM ingest_table") == [(db.token("orders"), 1, "ready")]
    report = tools.load(files[0].parent, db)
    assert (report.exit_code, report.rows, report.count("skipped")) == (0, 0, len(files))


@pytest.mark.parametrize("gone", [("ingest_version",), ("ingest_version", "ingest_lease", "ingest_table"), ()])
def test_a_ledger_that_was_half_made_is_completed(
    tmp_path: Path, db: oracle.OnServer, files: list[Path], gone: tuple[str, ...]
) -> None:
    # The ledger's tables are made one after the other, the one with its version last, and then its two rows together.
    assert tools.load(tools.write_csv(tmp_path / "x.csv", ["a"], []), db).exit_code == 0
    for name in ("ingest_file", "ingest_version", "ingest_lease"):
        tools.query(db, f"DELETE FROM {name}")
    for name in gone:
        tools.query(db, f"DROP TABLE {name}")
    assert tools.load(files[0].parent, db).rows == 200
    assert_all_loaded(db, files)


@pytest.mark.parametrize("place", ["after_add_intent", "after_add"])
def test_several_columns_are_added_all_or_none(
    tmp_path: Path, db: oracle.OnServer, files: list[Path], place: str
) -> None:
    assert tools.load(files[0].parent, db).exit_code == 0
    columns = (*tools.ORDERS, "size", "colour")
    row = (1, "c", "2.50", "2024-01-01", "n", 38, "red")
    files.append(tools.write_csv(tmp_path / "in" / "orders_9.csv", columns, [row]))
    assert tools.ingest("load", "in", "--to", db, cwd=tmp_path, INGEST_FAILPOINT=place).returncode == -9
    there = {"size", "colour"} & set(db.columns("orders"))
    assert there == ({"size", "colour"} if place == "after_add" else set())
    assert tools.load(files[0].parent, db).rows == 1
    assert_all_loaded(db, files, columns)


class Stopped(Exception):
    """Ends an upgrade between two of its statements."""


@contextlib.contextmanager
def stopped_before_the_second(engine: sa.Engine) -> Iterator[None]:
    """The first statement of DDL is executed inside the block, and commits by itself; nothing after it that changes."""
    changes: list[str] = []

    def look(*arguments: Any) -> None:
        statement: str = arguments[2]
        if statement.startswith(("ALTER", "UPDATE")):
            if changes:
                raise Stopped
            if statement.startswith("ALTER"):
                changes.append(statement)

    sa.event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", look)


def columns(db: oracle.OnServer) -> int:
    """How many columns the ledger has."""
    query = "SELECT count(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE ?"
    [(count,)] = tools.query(db, query, "ingest%")
    return int(count)


def test_an_upgrade_that_ends_between_any_two_of_its_statements_is_completed(
    db: oracle.OnServer, files: list[Path]
) -> None:
    target = target_for(db.url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    with target.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    counts = [columns(db)]
    while tools.query(db, "SELECT version_num FROM ingest_version") != [(ledger.HEAD,)]:
        with contextlib.suppress(Stopped), stopped_before_the_second(target.engine):
            ledger.upgrade(target.engine)
        counts.append(columns(db))
    target.close()
    # One column after the other, and the version at last.
    assert [count - counts[0] for count in counts] == [*range(11), 10]
    assert tools.load(files[0].parent, db).rows == 200
    assert_all_loaded(db, files)
