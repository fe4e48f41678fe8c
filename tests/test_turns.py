"""Files of a table with a key on a server: while one is written, a second connection gets the next one ready."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import killing
import ledger_tools
import pytest
import tools
from oracle import KINDS, OnServer

from ingest import writer
from ingest.applying import Applying, Ready
from ingest.model import Merge, Mode
from ingest.orders import Ahead, Apply, Done, Forget
from ingest.targets import Database, target_for

on_servers = pytest.mark.parametrize("db", KINDS, indirect=True)
on_postgresql = pytest.mark.parametrize("db", ["postgresql"], indirect=True)

READY = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND state = 'idle in transaction' AND (query LIKE 'COPY %' OR query LIKE 'SET LOCAL % TO DEFAULT')",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
    " ON id = trx_mysql_thread_id WHERE db = database() AND command = 'Sleep'",
}
"""Sessions that have gathered rows, and wait for the word to go on."""

ASKED = f"{READY['postgresql']} AND query LIKE 'SET %'"
"""Of them those that have asked which of these rows are there already."""


def make(tmp_path: Path, *files: list[tuple[int, str]]) -> Path:
    """Files of the table `t`, each with another order of columns than the one before it, so that they are no bundle."""
    for number, rows in enumerate(files):
        turned = number % 2
        names = ["note", "id"] if turned else ["id", "note"]
        path = tmp_path / "in" / f"t_{number}.csv"
        tools.write_csv(path, names, [row[::-1] if turned else row for row in rows])
        killing.aged(path)
    return tmp_path / "in"


def load(tmp_path: Path, db: OnServer) -> subprocess.Popen[str]:
    options = ("--mode", "upsert", "--key", "id", "--workers", "1", "--progress", "none")
    return tools.start("load", "in", "--to", db, *options, cwd=tmp_path)


def stored(db: OnServer) -> Counter[tuple[str, ...]]:
    return tools.stored(db, "t", ("id", "note"))


@pytest.fixture
def table(db: OnServer) -> OnServer:
    """The database with a table that has a row already, and takes no bad note."""
    db.query("CREATE TABLE t (id BIGINT PRIMARY KEY, note VARCHAR(20) CHECK (note <> 'bad'))")
    db.query("INSERT INTO t VALUES (1, 'old')")
    return db


def wait_until_ready(db: OnServer) -> None:
    """One file is at its rows, and cannot write them; the next one is ready."""
    killing.wait_for(lambda: len(db.waiting()) == 1, "the first file's rows")
    killing.wait_for(lambda: db.query(READY[db.kind]) == [(1,)], "the second file")


@on_servers
def test_the_next_file_is_ready_before_its_turn_and_written_in_it(tmp_path: Path, table: OnServer) -> None:
    make(tmp_path, [(1, "one"), (2, "two")], [(1, "ONE"), (3, "three")], [(3, "THREE")])
    with table.shut("t"):
        run = load(tmp_path, table)
        wait_until_ready(table)
        assert stored(table) == Counter([("1", "old")])
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert stored(table) == Counter([("1", "ONE"), ("2", "two"), ("3", "THREE")])
    counted = table.query("SELECT rows_loaded, rows_superseded FROM ingest_file ORDER BY path")
    assert counted == [(2, 0), (2, 0), (1, 0)]


@on_postgresql
def test_what_was_the_same_before_its_turn_is_looked_at_again_in_it(tmp_path: Path, table: OnServer) -> None:
    """The third file finds its row in the table as it is, before the second one changes that row."""
    make(tmp_path, [(5, "five")], [(1, "new")], [(5, "five"), (1, "old")])
    table.query("INSERT INTO t VALUES (5, 'five')")
    with table.shut("t"):
        run = load(tmp_path, table)
        killing.wait_for(lambda: len(table.waiting()) == 1, "the second file's row")  # the first has none to write
        killing.wait_for(lambda: table.query(ASKED) == [(1,)], "the third file")
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert stored(table) == Counter([("1", "old"), ("5", "five")])


@on_servers
def test_a_file_that_is_ready_is_held_back_with_the_others_and_leaves_nothing(tmp_path: Path, table: OnServer) -> None:
    make(tmp_path, [(1, "bad")], [(2, "two")], [(3, "three")])
    with table.shut("t"):
        run = load(tmp_path, table)
        wait_until_ready(table)
    code, _, err = killing.finish(run)
    assert code == 4, err
    assert stored(table) == Counter([("1", "old")])
    codes = table.query("SELECT state, error_code FROM ingest_file ORDER BY path")
    assert codes == [("refused", "over_budget"), *[("refused", "held_back")] * 2]
    killing.wait_for(lambda: table.query(READY[table.kind]) == [(0,)], "the end of all transactions")


@on_servers
def test_a_writer_that_dies_with_a_file_ready_is_replaced_and_loads_each_once(tmp_path: Path, table: OnServer) -> None:
    make(tmp_path, [(1, "one")], [(1, "ONE"), (2, "two")], [(2, "TWO")])
    with table.shut("t"):
        run = load(tmp_path, table)
        wait_until_ready(table)
        found = killing.started(run)
        assert found is not None
        killing.kill(found.writer)
        killing.assert_gone((found.writer,))
    code, _, err = killing.finish(run, 60)
    assert code == 0, err
    assert stored(table) == Counter([("1", "ONE"), ("2", "TWO")])
    tools.assert_counts_add_up(table)


@on_servers
def test_a_stop_ends_the_file_whose_turn_it_is_and_not_the_one_that_is_ready(tmp_path: Path, table: OnServer) -> None:
    folder = make(tmp_path, [(1, "one")], [(1, "ONE"), (2, "two")])
    with table.shut("t"):
        run = load(tmp_path, table)
        wait_until_ready(table)
        run.send_signal(signal.SIGINT)
        killing.read_until(run, "stop")
    code, _, err = killing.finish(run)
    assert code == 130, err
    assert stored(table) == Counter([("1", "one")])
    report = tools.load(folder, table, mode="upsert", key=("id",))
    assert (report.exit_code, report.rows) == (0, 2)
    assert stored(table) == Counter([("1", "ONE"), ("2", "two")])


# the writer's side, in this process ---------------------------------------------------------------------------------


class Share:
    """The threads of a writer with two connections, and a table with a key."""

    def __init__(self, db: OnServer, folder: Path) -> None:
        self.db = db
        self.folder = folder
        self.target = target_for(str(db))
        self.run_id, shape = ledger_tools.begun(self.target)
        with self.target.begin() as connection:
            connection.exec_driver_sql("CREATE UNIQUE INDEX orders_id ON orders (id)")
            indexed = self.target.shape(connection, shape.table)
        assert indexed is not None
        self.shape = indexed
        self.ours, theirs = Pipe()
        work = (theirs, threading.Lock(), Database(url=str(db), bulk=True, ledger_schema=None), self.run_id, 2)
        self.thread = threading.Thread(target=writer._share, args=work, daemon=True)
        self.thread.start()

    def order(self, number: int) -> Apply:
        """One that merges two rows."""
        (row,) = ledger_tools.register(self.target.engine, self.run_id, number)
        ids = [number * 10, number * 10 + 1]
        made = ledger_tools.staged_order(self.target, self.shape, self.folder, row, number=number, ids=ids, to=9)
        merge = Merge(mode=Mode.UPSERT, key=("id",))
        return replace(made, moves=(replace(made.moves[0], rows=2),), merge=merge)

    def do(self, order: Apply) -> None:
        """Have an order done."""
        self.ours.send(order)
        assert self.ours.poll(60)
        answer = self.ours.recv()
        assert isinstance(answer, Done), answer
        assert answer.order == order.order

    def wait_ready(self, count: int) -> None:
        killing.wait_for(lambda: self.db.query(READY[self.db.kind]) == [(count,)], f"{count} that are ready")

    def ids(self) -> list[int]:
        return [number for (number,) in self.db.query("SELECT id FROM orders ORDER BY id")]


@pytest.fixture
def share(db: OnServer, tmp_path: Path) -> Iterator[Share]:
    made = Share(db, tmp_path)
    yield made
    made.ours.send(None)
    made.thread.join(60)
    assert not made.thread.is_alive()
    made.target.close()
    made.ours.close()


@on_postgresql
def test_an_order_goes_on_in_the_transaction_in_which_it_was_got_ready(share: Share) -> None:
    order = share.order(1)
    share.ours.send(Ahead(message=order))
    share.wait_ready(1)
    assert share.ids() == []
    for batch in order.batches:
        Path(batch.staged.path).unlink()  # so that nobody can begin anew
    share.do(order)
    assert share.ids() == [10, 11]


@on_postgresql
def test_one_connection_is_left_for_the_orders_before_it(share: Share) -> None:
    orders = [share.order(number) for number in (1, 2, 3)]
    share.ours.send(Ahead(message=orders[1]))
    share.wait_ready(1)
    share.ours.send(Ahead(message=orders[2]))
    share.do(orders[0])
    share.do(orders[1])
    share.do(orders[2])
    assert share.ids() == [10, 11, 20, 21, 30, 31]


@on_postgresql
def test_an_order_that_is_forgotten_leaves_its_connection_to_the_next(share: Share) -> None:
    orders = [share.order(number) for number in (1, 2)]
    for order in orders:
        share.ours.send(Ahead(message=order))
        share.wait_ready(1)
        share.ours.send(Forget(order=order.order))
        share.wait_ready(0)
    share.ours.send(Forget(order=7))
    share.do(orders[1])
    assert share.ids() == [20, 21]


@on_postgresql
def test_an_order_that_could_not_be_got_ready_is_done_in_its_turn(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = share.order(1)
    tried, ready = threading.Event(), Applying.ready

    def try_it(applying: Applying, order: Apply) -> Ready:
        try:
            return ready(applying, order)
        finally:
            tried.set()

    monkeypatch.setattr(Applying, "ready", try_it)
    hidden = share.folder / "hidden"
    path = Path(order.batches[0].staged.path)
    path.rename(hidden)
    share.ours.send(Ahead(message=order))
    share.ours.send(Ahead(message=order))  # of which only one is listened to
    assert tried.wait(60)
    hidden.rename(path)
    share.do(order)
    assert share.ids() == [10, 11]


@on_postgresql
def test_what_waits_for_its_turn_too_long_is_left_and_done_when_it_comes(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who wants to alter the table waits for it, and its forerunner for him."""
    monkeypatch.setattr(writer, "AHEAD_SECONDS", 0.3)
    order = share.order(1)
    share.ours.send(Ahead(message=order))
    share.wait_ready(1)
    share.db.query("ALTER TABLE orders OWNER TO CURRENT_USER")
    share.do(order)
    assert share.ids() == [10, 11]
