"""The writer's orders, one by one, in this process: what is applied, what is fenced, and what a second one finds."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tools
from ledger_tools import begun, read, register, reject, staged_order

from ingest import ledger, writer
from ingest.applying import Applying
from ingest.model import FileState, Reason, TableShape
from ingest.orders import Again, Apply, Delayed, Done, Failed, RejectsRef, Settle
from ingest.rows import FileRow
from ingest.targets import Database, target_for
from ingest.targets.base import Target
from ingest.writer import _Writer

ROWS = 7
"""Rows of a step, as `ledger_tools.move` counts them."""


@dataclass(slots=True)
class Bench:
    """A database with a table of ours, a run, and a file that was registered."""

    target: Target
    shape: TableShape
    run_id: int
    folder: Path
    steps: int = 0
    delayed: list[Delayed] = field(default_factory=list)

    @property
    def writer(self) -> _Writer:
        return _Writer(self.target, Applying(self.target, self.run_id), tell=self.delayed.append)

    def apply(self, row: FileRow, to: int, **changes: object) -> Apply:
        """An order to put one staged batch into the table, and the file forward."""
        self.steps += 1
        ids = list(range(ROWS))
        order = staged_order(self.target, self.shape, self.folder, row, number=self.steps, ids=ids, to=to)
        return replace(order, **changes)

    def rows(self) -> int:
        [(count,)] = tools.query(self.folder / "test.db", "SELECT count(*) FROM orders")
        return int(count)

    def file(self, row: FileRow) -> FileRow:
        return read(self.target.engine, row.file_id)


@pytest.fixture
def bench(tmp_path: Path, bulk: str) -> Iterator[Bench]:
    target = target_for(f"sqlite:///{tmp_path / 'test.db'}", bulk=bulk == "auto")
    run_id, shape = begun(target)
    yield Bench(target=target, shape=shape, run_id=run_id, folder=tmp_path)
    target.close()


def test_an_order_repeated_is_fenced_and_its_rows_are_there_once(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 40)
    assert isinstance(bench.writer.do(order), Done)
    again = bench.writer.do(order)
    assert isinstance(again, Failed)
    assert again.fenced
    assert again.fatal
    assert bench.rows() == ROWS
    assert bench.file(row).rows_loaded == ROWS


def test_a_writer_that_wakes_up_after_a_take_over_is_fenced(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 40)
    with bench.target.begin() as connection:
        assert ledger.take_over(connection) == [bench.run_id]
    answer = bench.writer.do(order)
    assert isinstance(answer, Failed)
    assert answer.fenced
    assert bench.rows() == 0


def test_an_order_whose_writer_died_after_its_commit_is_known_to_have_landed(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 40)
    bench.writer.do(order)
    answer = bench.writer.do(Again(message=order))
    assert isinstance(answer, Done)
    assert answer.landed
    assert bench.rows() == ROWS


def test_an_order_whose_writer_died_before_its_commit_is_done_again(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    answer = bench.writer.do(Again(message=bench.apply(row, 40)))
    assert isinstance(answer, Done)
    assert not answer.landed
    assert bench.rows() == ROWS


def test_a_batch_with_fewer_rows_than_were_told_is_not_kept(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 40)
    order = replace(order, batches=(replace(order.batches[0], rows=ROWS + 1),))
    answer = bench.writer.do(order)
    assert isinstance(answer, Failed)
    assert (answer.failure.code, answer.fatal) == (Reason.COUNTS, False)
    assert bench.rows() == 0
    assert bench.file(row).committed_bytes == 0


def test_a_table_that_was_changed_since_is_not_written_to(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 40)
    tools.query(bench.folder / "test.db", "ALTER TABLE orders ADD COLUMN more TEXT")
    answer = bench.writer.do(order)
    assert isinstance(answer, Failed)
    assert (answer.failure.code, answer.fatal) == (Reason.TABLE_LOST, False)
    assert bench.rows() == 0


def test_rejects_of_an_order_that_is_not_kept_are_not_kept(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    path = bench.folder / "rejects"
    path.write_text(json.dumps(asdict(reject(3))) + "\n")
    order = bench.apply(row, 40, rejects=(RejectsRef(path=str(path), first_line=0, first_record=0),))
    broken = replace(order, batches=(replace(order.batches[0], rows=ROWS + 1),))
    assert isinstance(bench.writer.do(broken), Failed)
    assert tools.rejects(bench.folder / "test.db") == []
    assert isinstance(bench.writer.do(order), Done)
    assert len(tools.rejects(bench.folder / "test.db")) == 1


def test_the_ledger_does_not_move_where_the_transaction_has_ended_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk may end it: what came next would be committed alone."""
    [row] = register(bench.target.engine, bench.run_id)
    insert = bench.target.insert

    def rolled_back(connection: Any, *rest: Any) -> int:
        inserted = insert(connection, *rest)
        connection.connection.driver_connection.execute("ROLLBACK")
        return inserted

    monkeypatch.setattr(bench.target, "insert", rolled_back)
    answer = bench.writer.do(bench.apply(row, 40))
    assert isinstance(answer, Failed)
    assert answer.fatal
    assert bench.rows() == 0
    assert bench.file(row).committed_bytes == 0


def impatient(*arguments: Any) -> None:
    """A writer that does not wait for its lock for long."""
    writer.LOCK_SECONDS = 0.01
    writer.writer(*arguments)


def test_no_order_is_done_while_main_holds_the_lock(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    lock = context.Lock()
    database = Database(url=f"sqlite:///{bench.folder / 'test.db'}", bulk=True, ledger_schema=None)
    process = context.Process(target=impatient, args=(theirs, lock, database, bench.run_id, 1), daemon=True)
    with lock:
        process.start()
        theirs.close()
        try:
            ours.send(bench.apply(row, 40))
            with pytest.raises(EOFError):
                ours.recv()
        finally:
            process.kill()
            process.join()
    assert bench.rows() == 0


def settle(bench: Bench, row: FileRow, before: FileRow | None = None) -> Settle:
    return Settle(
        order=99,
        file_id=row.file_id,
        table_name="orders",
        shape=bench.shape,
        state=FileState.REFUSED,
        code=Reason.OVER_BUDGET,
        error="too many rejects",
        version=row.version,
        before=before,
    )


def test_a_refused_file_takes_its_committed_steps_back(bench: Bench) -> None:
    [row] = register(bench.target.engine, bench.run_id)
    bench.writer.do(bench.apply(row, 40))
    assert bench.rows() == ROWS
    assert isinstance(bench.writer.do(settle(bench, row)), Done)
    assert bench.rows() == 0
    found = bench.file(row)
    assert (found.state, found.committed_bytes, found.error_code) == (FileState.REFUSED, 0, Reason.OVER_BUDGET)
    landed = bench.writer.do(Again(message=settle(bench, row)))
    assert isinstance(landed, Done)
    assert landed.landed


def loaded(bench: Bench) -> tuple[FileRow, FileRow]:
    """A file that is loaded, as it was then, and as a reload registered it again."""
    [row] = register(bench.target.engine, bench.run_id)
    order = bench.apply(row, 100)
    bench.writer.do(replace(order, moves=(replace(order.moves[0], done=True),)))
    before = bench.file(row)
    assert before.state is FileState.LOADED
    [again] = register(bench.target.engine, bench.run_id, size=200, sha256="bb")
    return before, again


def test_a_reload_that_is_refused_before_its_first_step_keeps_the_old_rows(bench: Bench) -> None:
    before, row = loaded(bench)
    # A step was tried, and rolled back.
    order = bench.apply(row, 200, reset=True)
    broken = replace(order, batches=(replace(order.batches[0], rows=ROWS + 1),))
    assert isinstance(bench.writer.do(broken), Failed)
    assert isinstance(bench.writer.do(settle(bench, row, before)), Done)
    found = bench.file(row)
    assert (found.state, found.size, found.rows_loaded) == (FileState.LOADED, 100, ROWS)
    assert bench.rows() == ROWS


def test_a_reload_that_is_refused_after_its_first_step_leaves_nothing(bench: Bench) -> None:
    before, row = loaded(bench)
    order = bench.apply(row, 120, reset=True)
    step = replace(order, moves=(replace(order.moves[0], reset=True),))
    assert isinstance(bench.writer.do(step), Done)
    assert bench.rows() == ROWS
    assert isinstance(bench.writer.do(settle(bench, row, before)), Done)
    found = bench.file(row)
    assert (found.state, found.committed_bytes, found.rows_loaded) == (FileState.REFUSED, 0, 0)
    assert bench.rows() == 0
