"""Runs in the ledger, and what stands beside its files: rejects, tables, sums. No old run is let in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_tools import advance, counts, move, new_file, open_engine, read, register, reject, settle, start
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from ingest import ledger
from ingest.errors import FenceError, LedgerError
from ingest.model import FileState, RunState
from ingest.rows import FileRow, TableState, Totals, Touched
from ingest.tables import ingest_run


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path / "ledger.db")
    with engine.begin() as connection:
        ledger.create(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def run_id(engine: Engine) -> int:
    return start(engine)


# Runs


def test_a_taken_over_run_can_do_nothing_more(engine: Engine, run_id: int) -> None:
    rows = register(engine, run_id, 1, 2, 3)
    advance(engine, run_id, move(rows[2], 100, done=True))
    settle(engine, run_id, rows[1], FileState.UNDOING)
    with engine.begin() as connection:
        assert ledger.take_over(connection) == [run_id]
    with pytest.raises(FenceError):
        advance(engine, run_id, move(rows[0], 40))
    with pytest.raises(FenceError):
        settle(engine, run_id, rows[0], FileState.FAILED)
    with pytest.raises(FenceError):
        register(engine, run_id, 4)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.intend_table(connection, run_id, table_name="t", token="x", definition="[]", made_by_us=True)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.check_run(connection, run_id)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.finish_run(connection, run_id, state=RunState.FINISHED, exit_code=0, totals=Totals())
    assert [read(engine, row.file_id).epoch for row in rows] == [1, 1, 0]
    with engine.begin() as connection:
        found = ledger.run(connection, run_id)
    assert found is not None
    assert (found.state, found.finished_at, found.exit_code) == (RunState.ABANDONED, None, None)


def test_a_take_over_that_is_rolled_back_fences_nobody(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    with engine.connect() as connection:
        ledger.take_over(connection)
        connection.rollback()
    advance(engine, run_id, move(row, 40))
    assert read(engine, row.file_id).committed_bytes == 40


def test_the_next_run_goes_on_after_a_take_over(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 40))
    with engine.begin() as connection:
        ledger.take_over(connection)
    later = start(engine)
    (again,) = register(engine, later)
    advance(engine, later, move(again, 100, done=True))
    assert counts(read(engine, row.file_id)) == (100, 20, 14, 4, 2)


def test_a_run_ends_with_its_totals(engine: Engine, run_id: int) -> None:
    other = start(engine)
    totals = Totals(files_loaded=1, files_skipped=2, files_refused=3, files_failed=4, rows_loaded=5, bytes_read=6)
    with engine.begin() as connection:
        ledger.check_run(connection, run_id)
        ledger.finish_run(connection, run_id, state=RunState.STOPPED, exit_code=130, totals=totals, error="SIGINT")
        done = ledger.run(connection, run_id)
        assert [row.run_id for row in ledger.runs(connection)] == [other, run_id]
        assert [row.run_id for row in ledger.runs(connection, 1)] == [other]
        assert ledger.run(connection, 99) is None
    assert done is not None
    assert (done.state, done.exit_code, done.error) == (RunState.STOPPED, 130, "SIGINT")
    assert (done.files_loaded, done.files_skipped, done.files_refused, done.files_failed) == (1, 2, 3, 4)
    assert (done.rows_loaded, done.rows_rejected, done.bytes_read) == (5, 0, 6)
    assert done.finished_at is not None
    assert done.finished_at >= done.started_at


# What changes beside a load


def test_a_touched_file_keeps_its_state_and_the_hash_that_is_known(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 100, done=True))
    with engine.begin() as connection:
        touched = Touched(file_id=row.file_id, size=100, mtime_ns=11, ctime_ns=12, scanned_ns=13)
        ledger.touch(connection, [touched])
    found = read(engine, row.file_id)
    assert (found.state, found.mtime_ns, found.ctime_ns, found.scanned_ns) == (FileState.LOADED, 11, 12, 13)
    assert (found.sha256, counts(found)) == ("aa", (100, 10, 7, 2, 1))


def rename(engine: Engine, row: FileRow, number: int) -> None:
    entry = new_file(number)
    with engine.begin() as connection:
        touched = Touched(file_id=row.file_id, size=1, mtime_ns=2, ctime_ns=3, scanned_ns=4, sha256="dd")
        ledger.rename(connection, path=entry.path, path_key=entry.path_key, touched=touched)


def test_a_moved_file_takes_the_place_of_an_attempt_that_left_nothing(engine: Engine, run_id: int) -> None:
    moved, refused = register(engine, run_id, 1, 2)
    advance(engine, run_id, move(moved, 100, done=True))
    settle(engine, run_id, refused, FileState.REFUSED)
    rename(engine, moved, 2)
    with engine.begin() as connection:
        (found,) = ledger.files(connection)
    assert (found.file_id, found.path, found.path_key) == (moved.file_id, refused.path, refused.path_key)
    assert (found.state, found.sha256, found.rows_loaded) == (FileState.LOADED, "dd", 7)


def test_a_moved_file_does_not_replace_one_that_has_rows(engine: Engine, run_id: int) -> None:
    moved, there = register(engine, run_id, 1, 2)
    advance(engine, run_id, move(there, 40))
    with pytest.raises(IntegrityError):
        rename(engine, moved, 2)
    assert read(engine, there.file_id).committed_bytes == 40


def test_forgetting_drops_the_file_and_its_rejects_only(engine: Engine, run_id: int) -> None:
    rows = register(engine, run_id, 1, 2)
    with engine.begin() as connection:
        for row in rows:
            ledger.write_rejects(
                connection, run_id, file_id=row.file_id, table_name="orders", rejects=[reject(0)], applied=True
            )
        assert ledger.forget(connection, [rows[0].file_id, 99]) == 1
        assert [row.file_id for row in ledger.files(connection)] == [rows[1].file_id]
        assert [row.file_id for row in ledger.rejects(connection)] == [rows[1].file_id]


# Rejects


def test_rejects_come_back_in_order_with_their_place(engine: Engine, run_id: int) -> None:
    rows = register(engine, run_id, 1, 2)
    with engine.begin() as connection:
        for row in rows:
            many = (reject(record, column="price", text=f"{record},\0\udcff") for record in range(1_500))
            ledger.write_rejects(
                connection, run_id, file_id=row.file_id, table_name="orders", rejects=many, applied=True
            )
        found = list(ledger.rejects(connection, file_id=rows[1].file_id))
        assert len(list(ledger.rejects(connection))) == 3_000
        assert len(list(ledger.rejects(connection, limit=2))) == 2
    assert [row.record for row in found] == list(range(1_500))
    last = found[-1]
    assert (last.line, last.byte_offset, last.column_name, last.reason) == (1_501, 14_990, "price", "ragged")
    assert (last.raw, last.run_id, last.applied) == ("1499,\\x00\\udcff", run_id, True)


@pytest.mark.parametrize(("applied", "left"), [(True, [False]), (False, [True]), (None, [])])
def test_rejects_are_dropped_by_what_became_of_the_file(
    engine: Engine, run_id: int, applied: bool | None, left: list[bool]
) -> None:
    row, other = register(engine, run_id, 1, 2)
    with engine.begin() as connection:
        for kind in (True, False):
            ledger.write_rejects(
                connection, run_id, file_id=row.file_id, table_name="orders", rejects=[reject(0)], applied=kind
            )
        ledger.write_rejects(
            connection, run_id, file_id=other.file_id, table_name="orders", rejects=[reject(0)], applied=True
        )
        ledger.drop_rejects(connection, row.file_id, applied=applied)
        assert [found.applied for found in ledger.rejects(connection, file_id=row.file_id)] == left
        assert len(list(ledger.rejects(connection, file_id=other.file_id))) == 1


# Tables


def test_an_intent_is_replaced_until_the_table_is_there(engine: Engine, run_id: int) -> None:
    with engine.begin() as connection:
        ledger.intend_table(connection, run_id, table_name="orders", token="t1", definition="[1]", made_by_us=True)
        ledger.intend_table(connection, run_id, table_name="orders", token="t2", definition="[2]", made_by_us=True)
        intent = ledger.tables(connection)["orders"]
        assert (intent.state, intent.token, intent.identity) == (TableState.CREATING, "t2", None)
        ledger.settle_table(connection, "orders", identity="CREATE TABLE orders (a)")
        ready = ledger.tables(connection)["orders"]
        assert (ready.state, ready.identity, ready.definition) == (TableState.READY, "CREATE TABLE orders (a)", "[2]")
        assert (ready.made_by_us, ready.run_id) == (True, run_id)
        with pytest.raises(LedgerError):
            ledger.intend_table(connection, run_id, table_name="orders", token="t3", definition="[]", made_by_us=True)
        ledger.settle_table(connection, "orders", identity="CREATE TABLE orders (a, b)", definition="[3]")
        assert ledger.tables(connection)["orders"].definition == "[3]"
        ledger.forget_table(connection, "orders")
        assert ledger.tables(connection) == {}


def test_a_table_without_an_intent_cannot_be_settled(engine: Engine) -> None:
    with pytest.raises(LedgerError), engine.begin() as connection:
        ledger.settle_table(connection, "orders", identity="x")


def test_sums_are_per_table_and_state(engine: Engine, run_id: int) -> None:
    orders = register(engine, run_id, 1, 2, 3)
    (item,) = register(engine, run_id, 4, table_name="main.items")
    advance(engine, run_id, move(orders[0], 100, done=True), move(orders[1], 100, done=True), move(item, 40))
    with engine.begin() as connection:
        found = ledger.sums(connection)
        chosen = [row.file_id for row in ledger.files(connection, tables=["main.items", "nothing"])]
        assert ledger.files(connection, tables=[]) == []
    assert list(found) == ["main.items", "orders"]
    assert (found["orders"].rows_loaded, found["orders"].rows_rejected, found["orders"].rows_discarded) == (14, 4, 2)
    assert found["orders"].files == {FileState.LOADED: 2, FileState.STARTED: 1}
    assert found["main.items"].files == {FileState.STARTED: 1}
    assert chosen == [item.file_id]


# Its place among the others


def test_no_function_ends_the_transaction_of_its_caller(engine: Engine, run_id: int) -> None:
    with engine.connect() as connection:
        later = ledger.start_run(connection, host="here", pid=8, version="0.1", options="{}")
        row = ledger.register(connection, later, [new_file()])[new_file().path_key]
        ledger.advance(connection, later, [move(row, 100, done=True)])
        ledger.write_rejects(
            connection, later, file_id=row.file_id, table_name="orders", rejects=[reject(0)], applied=True
        )
        ledger.intend_table(connection, later, table_name="orders", token="t", definition="[]", made_by_us=True)
        ledger.settle_table(connection, "orders", identity="x")
        connection.rollback()
        assert ledger.files(connection) == []
        assert list(ledger.rejects(connection)) == []
        assert ledger.tables(connection) == {}
        assert connection.execute(select(ingest_run.c.run_id)).scalars().all() == [run_id]


def test_the_ledger_is_there_without_alembic() -> None:
    code = "import sys, ingest.ledger; sys.exit('alembic' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
