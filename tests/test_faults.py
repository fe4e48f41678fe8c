"""What a server does to a transaction: it is tried again after a look at the ledger, and its rows are there once.

The writer is in this process here, with a proxy between it and the server; whole runs: `test_lost_connections.py`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import killing
import ledger_tools
import oracle
import proxy
import psycopg
import pymysql
import pytest
import servers
import sqlalchemy as sa

from ingest.applying import Applying
from ingest.model import FileState, Reason, TableName, TableShape
from ingest.orders import Answer, Apply, Delayed, Done, Failed, Replace, Settle
from ingest.rows import FileRow
from ingest.targets import faults, target_for
from ingest.targets.base import Target
from ingest.targets.faults import Fault
from ingest.writer import _Writer

ROWS = 7
"""Rows of a step, as `ledger_tools.move` counts them."""


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request: pytest.FixtureRequest) -> Iterator[oracle.OnServer]:
    with oracle.on_server(request.getfixturevalue(f"{request.param}_server")) as database:
        yield database


@dataclass(slots=True)
class Bench:
    """A database with a table of ours and a run, seen from this side of a proxy (`own`) and from the other."""

    db: oracle.OnServer
    proxy: proxy.Proxy
    own: Target
    target: Target  #: the writer's
    shape: TableShape
    run_id: int
    folder: Path
    files: int = 0
    steps: int = 0
    delayed: list[Delayed] = field(default_factory=list)
    told: Callable[[], None] = lambda: None

    def do(self, order: Apply | Settle | Replace) -> Answer:
        """Have an order done: where rows are to come, on a new connection, and else on the one that is there."""

        def tell(message: Delayed) -> None:
            self.delayed.append(message)
            self.told()

        if isinstance(order, Apply):
            self.target.disconnect()
        return _Writer(self.target, Applying(self.target, self.run_id), tell=tell).do(order)

    def file(self) -> FileRow:
        """A new file that was registered."""
        self.files += 1
        (row,) = ledger_tools.register(self.own.engine, self.run_id, self.files)
        return row

    def apply(self, row: FileRow, to: int = 50, **changes: object) -> Apply:
        """An order to put one staged batch into the table, and the file forward."""
        self.steps += 1
        ids = [self.steps * 100 + i for i in range(ROWS)]
        order = ledger_tools.staged_order(self.own, self.shape, self.folder, row, number=self.steps, ids=ids, to=to)
        return replace(order, **changes)

    def rows(self, row: FileRow, table: str = "orders") -> list[int]:
        found = self.db.query(f"SELECT id FROM {table} WHERE _ingest_file_id = ? ORDER BY id", row.file_id)
        return [int(number) for (number,) in found]

    def known(self, row: FileRow) -> FileRow:
        return ledger_tools.read(self.own.engine, row.file_id)


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, db: oracle.OnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    bulk = request.getfixturevalue("bulk") if "bulk" in request.fixturenames else "auto"
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)
    with proxy.between(db.server) as between:
        own, target = (target_for(url, bulk=bulk == "auto") for url in (db.url, between.url(db.url)))
        run_id, shape = ledger_tools.begun(own)
        yield Bench(db=db, proxy=between, own=own, target=target, shape=shape, run_id=run_id, folder=tmp_path)
        target.close()
        own.close()


WHOLE = (b"Q", b"S", b"c", b"p", b"Z", b"G", b"")
"""PostgreSQL's messages that end a question or an answer: those before them travel with them."""


def cut_at(number: int, side: proxy.Side, *, kind: str) -> proxy.Rule:
    """Cut the first connection at the message with this number, and none after it."""
    seen = 0

    def rule(message: proxy.Message) -> proxy.Verdict:
        nonlocal seen
        counts = kind != "postgresql" or message.kind in WHOLE or message.is_bulk
        if message.side == side and counts:
            seen += 1
        return "cut" if seen == number and message.side == side and counts else "pass"

    return rule


def cut_everywhere(
    bench: Bench, side: proxy.Side, once: Callable[[], tuple[Apply | Settle | Replace, Callable[[], None]]]
) -> list[Done]:
    """One order after the other, each cut at the message behind that of the last; the answers."""
    answers = []
    while True:
        order, check = once()
        bench.proxy.cuts = 0
        bench.proxy.reset = len(answers) % 2 == 1
        bench.proxy.rule = cut_at(len(answers) + 1, side, kind=bench.db.kind)
        answer = bench.do(order)
        bench.proxy.rule = proxy.let_pass
        assert isinstance(answer, Done), (len(answers), answer)
        check()
        if not bench.proxy.cuts:
            return answers
        answers.append(answer)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.usefixtures("bulk")
def test_an_order_cut_at_any_message_is_done_once(bench: Bench, side: proxy.Side) -> None:
    def once() -> tuple[Apply, Callable[[], None]]:
        row = bench.file()
        order = bench.apply(row)

        def check() -> None:
            assert bench.rows(row) == [bench.steps * 100 + i for i in range(ROWS)]
            known = bench.known(row)
            assert (known.committed_bytes, known.version) == (50, row.version + 1)

        return order, check

    answers = cut_everywhere(bench, side, once)
    landed = [answer.landed for answer in answers]
    # A COMMIT that arrived was carried out, whether or not its answer did: the ledger told that, not a second try.
    assert landed.count(True) == (1 if side == "server" else 0), landed
    # A connection that is cut when it is given back is of no interest to anybody.
    assert len(answers) - 2 <= len(bench.delayed) <= len(answers)
    assert len(answers) > 8


def test_an_order_cut_after_any_number_of_bytes_is_done_once(request: pytest.FixtureRequest, bench: Bench) -> None:
    """In the middle of a message, too; a sample of all numbers, and with --whole every third."""
    assert isinstance(bench.do(bench.apply(bench.file())), Done)  # what is asked only once
    commits: list[int] = []

    def rule(message: proxy.Message) -> proxy.Verdict:
        if message.is_commit:
            commits.append(bench.proxy.bytes)
        return "pass"

    bench.proxy.bytes, bench.proxy.rule = 0, rule
    assert isinstance(bench.do(bench.apply(bench.file())), Done)
    total, bench.proxy.rule = bench.proxy.bytes, proxy.let_pass
    (commit,) = commits
    assert total > 2_000
    step = 3 if request.config.getoption("--whole") else total // 20
    numbers = [*range(0, total, step), *range(commit, min(commit + 60, total), 6)]  # a COMMIT and its answer are short
    landed = 0
    for number in numbers:
        row = bench.file()
        bench.proxy.bytes, bench.proxy.cut_after, bench.proxy.reset = 0, number, number % 2 == 1
        answer = bench.do(bench.apply(row))
        bench.proxy.cut_after = None
        assert isinstance(answer, Done), (number, answer)
        assert bench.rows(row) == [bench.steps * 100 + i for i in range(ROWS)], number
        known = bench.known(row)
        assert (known.committed_bytes, known.version) == (50, row.version + 1), number
        landed += answer.landed
    assert landed >= 1  # the answer to the COMMIT is cut, too
    assert bench.proxy.cuts >= len(numbers) - 3


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_refusal_cut_at_any_message_takes_everything_back_once(bench: Bench, side: proxy.Side) -> None:
    """Two transactions: what is committed is to be taken back, and then it is."""

    def once() -> tuple[Settle, Callable[[], None]]:
        row = bench.file()
        bench.proxy.rule = proxy.let_pass
        assert isinstance(bench.do(bench.apply(row)), Done)
        assert bench.rows(row)
        bench.steps += 1
        order = Settle(
            order=bench.steps,
            file_id=row.file_id,
            table_name="orders",
            shape=bench.shape,
            state=FileState.REFUSED,
            code=Reason.OVER_BUDGET,
            error="too many rejects",
        )

        def check() -> None:
            assert bench.rows(row) == []
            known = bench.known(row)
            assert (known.state, known.committed_bytes, known.rows_loaded) == (FileState.REFUSED, 0, 0)

        return order, check

    answers = cut_everywhere(bench, side, once)
    assert [answer.landed for answer in answers].count(True) == (1 if side == "server" else 0)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_replacement_cut_at_any_message_is_made_once(bench: Bench, side: proxy.Side) -> None:
    if not bench.target.replaces:
        pytest.skip("--mode replace cannot be had there")
    staging = TableName(name="orders_new")
    with bench.own.begin() as connection:
        bench.own.create_like(connection, bench.shape, staging, "1" * 32)
    with bench.own.begin() as connection:
        shape = bench.own.shape(connection, staging)
    assert shape is not None

    def once() -> tuple[Replace, Callable[[], None]]:
        bench.files += 1
        (row,) = ledger_tools.register(bench.own.engine, bench.run_id, bench.files, table_name="orders_new")
        bench.proxy.rule = proxy.let_pass
        bench.db.query("DELETE FROM orders_new")
        order = bench.apply(row, shape=shape, table_name="orders_new")
        order = replace(order, moves=(replace(order.moves[0], done=True),))
        assert isinstance(bench.do(order), Done)
        key = f"{bench.files + 1_000_000:064x}"

        def check() -> None:
            assert bench.rows(row) == [order.order * 100 + i for i in range(ROWS)]
            assert bench.db.query("SELECT count(*) FROM orders") == [(ROWS,)]
            assert bench.db.query("SELECT path_key FROM ingest_file WHERE table_name = 'orders'") == [(key,)]

        new = Replace(order=bench.steps, shape=bench.shape, staging=shape, keys=((row.path_key, key),))
        return new, check

    answers = cut_everywhere(bench, side, once)
    assert [answer.landed for answer in answers].count(True) == (1 if side == "server" else 0)


# what a server does -------------------------------------------------------------------------------------------


def waits(db: oracle.OnServer) -> bool:
    """Whether somebody waits for another's lock on a row."""
    if db.kind == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    else:
        # What information_schema tells is kept for a while by those who ask often.
        query = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
    return int(db.query(query)[0][-1]) > 0


def assert_done_once(bench: Bench, row: FileRow, order: Apply, answer: Answer, *, landed: bool = False) -> None:
    assert isinstance(answer, Done), answer
    assert answer.landed is landed
    assert bench.rows(row) == [order.order * 100 + i for i in range(ROWS)]
    assert bench.known(row).version == row.version + 1


def test_a_commit_that_the_server_has_yet_to_carry_out_is_waited_for(bench: Bench) -> None:
    """The connection is lost at COMMIT, which reaches the server only after the next try has begun."""
    row = bench.file()
    order = bench.apply(row)
    bench.proxy.rule = lambda message: "keep" if message.is_commit and not bench.proxy.kept.is_set() else "pass"
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(bench.do(order)))
    worker.start()
    killing.wait_for(lambda: waits(bench.db), "the next try to wait for the first one's locks")
    assert bench.rows(row) == []
    bench.proxy.release()
    worker.join(60)
    assert_done_once(bench, row, order, answers[0], landed=True)


def test_a_transaction_that_is_cut_each_time_is_given_up(bench: Bench) -> None:
    row = bench.file()
    bench.proxy.rule = lambda message: "cut" if message.is_commit else "pass"
    answer = bench.do(bench.apply(row))
    assert isinstance(answer, Failed)
    assert answer.fatal
    assert answer.unreachable
    assert bench.proxy.cuts == faults.TRIES
    assert "was lost" in answer.failure.message
    assert answer.failure.hint == "Run the same command again when the server is back: it goes on where it was."
    assert bench.rows(row) == []
    assert bench.known(row) == row
    assert len(bench.delayed) == 1  # it is told once, not at each try


def test_a_server_that_is_away_is_waited_for(bench: Bench) -> None:
    row = bench.file()
    order = bench.apply(row)
    bench.proxy.down()
    bench.told = bench.proxy.up
    assert_done_once(bench, row, order, bench.do(order))
    (delayed,) = bench.delayed
    assert "cannot be opened" in delayed.text
    assert servers.PASSWORD not in delayed.text


def test_a_server_that_does_not_come_back_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "OUTAGE_SECONDS", 0.05)
    row = bench.file()
    order = bench.apply(row)
    bench.proxy.down()
    answer = bench.do(order)
    assert isinstance(answer, Failed)
    assert answer.unreachable
    assert "cannot be opened" in answer.failure.message
    assert len(bench.delayed) == 1
    bench.proxy.up()
    assert_done_once(bench, row, order, bench.do(order))


def holding(bench: Bench, wanted: Callable[[proxy.Message], bool]) -> tuple[threading.Event, threading.Event]:
    """Have the first message that is wanted wait for the second event; the first event says that it came."""
    came, go = threading.Event(), threading.Event()

    def rule(message: proxy.Message) -> proxy.Verdict:
        if not came.is_set() and wanted(message):
            came.set()
            assert go.wait(60)
        return "pass"

    bench.proxy.rule = rule
    return came, go


def test_the_victim_of_a_deadlock_is_tried_again(bench: Bench) -> None:
    """We have a row of the table and want the ledger's; another session has this one and wants ours."""
    sql = bench.db.query
    sql("ALTER TABLE orders ADD PRIMARY KEY (id)")
    with bench.own.begin() as connection:
        shape = bench.own.shape(connection, ledger_tools.ORDERS)
    assert shape is not None
    bench.shape = shape
    row = bench.file()
    order = bench.apply(row)
    came, go = holding(bench, lambda message: message.sql.startswith("UPDATE ingest_file"))
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(bench.do(order)))
    other = bench.db.connect()
    run = other.cursor().execute
    if bench.db.kind == "postgresql":
        run("SET deadlock_timeout = '1h'")  # it does not look, so it is not the one that is sacrificed
    else:
        # InnoDB takes the one that has changed less.
        sql("CREATE TABLE ballast (id INTEGER PRIMARY KEY)")
    run("BEGIN")
    if bench.db.kind == "mariadb":
        run(f"INSERT INTO ballast VALUES {', '.join(f'({i})' for i in range(500))}")
    run(f"UPDATE ingest_file SET error = 'x' WHERE file_id = {row.file_id}")
    worker.start()
    assert came.wait(60)
    theirs = threading.Thread(target=run, args=(f"INSERT INTO orders (id) VALUES ({order.order * 100})",))
    theirs.start()
    killing.wait_for(lambda: waits(bench.db), "the other session to wait for us")

    def make_way() -> None:
        theirs.join(60)  # it got what it wanted when our transaction was ended
        other.rollback()

    bench.told = make_way
    go.set()
    worker.join(60)
    other.close()
    assert_done_once(bench, row, order, answers[0])
    (delayed,) = bench.delayed
    assert "eadlock" in delayed.text


def test_a_lock_that_is_not_given_in_time_is_asked_for_again(bench: Bench) -> None:
    row = bench.file()
    order = bench.apply(row)
    impatient = {"postgresql": "SET lock_timeout = '200ms'", "mariadb": "SET innodb_lock_wait_timeout = 1"}
    sa.event.listen(bench.target.engine, "connect", lambda driver, _: driver.cursor().execute(impatient[bench.db.kind]))
    other = bench.db.connect()
    run = other.cursor().execute
    try:
        run("BEGIN")
        run(f"UPDATE ingest_file SET error = 'x' WHERE file_id = {row.file_id}")
        bench.told = other.rollback
        answer = bench.do(order)
    finally:
        other.close()
    assert_done_once(bench, row, order, answer)
    (delayed,) = bench.delayed
    assert "lock" in delayed.text.lower()


def test_a_machine_that_vanishes_is_noticed_in_two_minutes(bench: Bench) -> None:
    """Seen by what the system is told of the connection: no machine can be made to vanish here."""
    with bench.target.begin() as connection:
        driver: Any = connection.connection.driver_connection
        number = driver.fileno() if bench.db.kind == "postgresql" else driver._sock.fileno()
        with socket.socket(fileno=os.dup(number)) as seen:
            assert seen.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            found = {name: seen.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE}
    assert found == KEEPALIVE


KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 120_000}


# numbers -------------------------------------------------------------------------------------------------------

POSTGRESQL = {
    **dict.fromkeys(("08000", "08003", "08006", "53300", "57P01", "57P02", "57P03", "57P05", "25P03"), Fault.LOST),
    **dict.fromkeys(("40001", "40P01", "55P03"), Fault.BUSY),
    "53100": Fault.FULL,
    **dict.fromkeys(("23505", "22P02", "42P01", "57014", "28P01", "53200"), None),
}

MARIADB = {
    **dict.fromkeys((1040, 1053, 1927, 2002, 2003, 2006, 2013, 2055, 4031), Fault.LOST),
    **dict.fromkeys((1020, 1205, 1213), Fault.BUSY),
    **dict.fromkeys((1021, 1114), Fault.FULL),
    **dict.fromkeys((1045, 1049, 1062, 1146, 1317), None),
}


@pytest.mark.parametrize(("state", "fault"), POSTGRESQL.items())
def test_postgresql_is_understood_by_sqlstate(state: str, fault: Fault | None) -> None:
    target = target_for("postgresql://h/d")
    error = psycopg.errors.lookup(state)("deadlock, lost, disk full: the text does not matter")
    assert target.fault(sa.exc.DBAPIError("", {}, error)) is fault
    assert target.fault(target.unreachable(error)) is None  # what has no cause is no fault of a server


@pytest.mark.parametrize(("number", "fault"), MARIADB.items())
def test_mariadb_is_understood_by_number(number: int, fault: Fault | None) -> None:
    target = target_for("mariadb://h/d")
    error = pymysql.err.OperationalError(number, "deadlock, lost, disk full: the text does not matter")
    assert target.fault(sa.exc.DBAPIError("", {}, error)) is fault


def test_drivers_have_no_number_for_a_connection_that_they_have_closed() -> None:
    for url, error in (
        ("postgresql://h/d", psycopg.OperationalError("the connection is closed")),
        ("mariadb://h/d", pymysql.err.InterfaceError(0, "")),
    ):
        assert target_for(url).fault(sa.exc.DBAPIError("", {}, error)) is Fault.LOST
    for url, other in (
        ("postgresql://h/d", psycopg.ProgrammingError("the query has 0 placeholders")),
        ("mariadb://h/d", pymysql.err.ProgrammingError("no number")),
    ):
        assert target_for(url).fault(sa.exc.DBAPIError("", {}, other)) is None


def test_pauses_grow_and_end() -> None:
    patience = faults.Patience()
    pauses = [patience.pause(Fault.BUSY, reached=True) for _ in range(faults.TRIES)]
    assert pauses[-1] is None
    waited: list[Any] = pauses[:-1]
    assert all(0.05 * 2**i <= pause <= 0.1 * 2**i for i, pause in enumerate(waited))
    for fault in (Fault.FULL, None):
        assert faults.Patience().pause(fault, reached=True) is None
