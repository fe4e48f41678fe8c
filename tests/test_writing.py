"""Main's side of the writer: what is sent when, seen by a stand-in for the writer process that answers by a script."""

from __future__ import annotations

import multiprocessing.connection
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest import writing
from ingest.jobs import Failure
from ingest.model import Reason
from ingest.orders import Again, Answer, Apply, Delayed, Done, Failed, Order
from ingest.rows import Move
from ingest.writing import Writing


def order(number: int, file: int) -> Apply:
    """An order for a file without records."""
    move = Move(
        file_id=file,
        version=1,
        epoch=0,
        from_bytes=0,
        to_bytes=9,
        records=0,
        rows=0,
        rejected=0,
        discarded=0,
        prefix_sha256=None,
    )
    return Apply(order=number, shape=None, batches=(), moves=(move,), table_name="t")


def failed(number: int, *, busy: bool) -> Failed:
    return Failed(order=number, failure=Failure(code=Reason.DATABASE, message="no"), fatal=busy, busy=busy)


def first_fails(pipe: Any, lock: Any, busy: Any, run_id: int, connections: int) -> None:
    """Takes as many orders as there are connections, and the first of them fails; what comes then is done."""
    del lock, run_id
    first, *others = [pipe.recv() for _ in range(connections)]
    if busy:
        for message in (first, *others):
            pipe.send(Delayed(order=message.order, text="a deadlock"))
    pipe.send(failed(first.order, busy=busy))
    for message in others:
        pipe.send(Done(order=message.order, seconds=0))
    while (message := pipe.recv()) is not None:
        number = message.message.order if isinstance(message, Again) else message.order
        pipe.send(Done(order=number, seconds=0, landed=isinstance(message, Again)))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Writing, list[str]]]]:
    """Starts a stand-in; its main's side, and what that has told."""
    made: list[Writing] = []

    def begin(*, busy: bool, connections: int = 2) -> tuple[Writing, list[str]]:
        monkeypatch.setattr(writing.writer, "writer", first_fails)
        told: list[str] = []
        one = Writing(
            database=busy,  # type: ignore[arg-type]
            run_id=1,
            start_method="forkserver",
            connections=connections,
            tell=lambda level, text: told.append(text),
        )
        made.append(one)
        return one, told

    yield begin
    for one in made:
        one.close(kill=True)


def answers(one: Writing) -> Iterator[tuple[Order, Answer]]:
    """All answers, as they come."""
    while one.busy:
        multiprocessing.connection.wait(one.waitables)
        yield from one.answers()


def waiting(one: Writing) -> list[int]:
    """The orders that were not sent yet; they are taken back and put in again."""
    found = one.withdraw(lambda _: True)
    one._waiting.extend(found)
    return [each.order for each in found]


def test_what_rests_on_an_order_that_failed_is_not_sent_before_its_answer_was_seen(start: Any) -> None:
    one, _ = start(busy=False)
    for each in (order(1, file=1), order(2, file=1), order(3, file=2), order(4, file=3)):
        one.order(each)
    assert waiting(one) == [2, 4]  # 3 has overtaken 2, which rests on 1
    ended = []
    for done, answer in answers(one):
        ended.append((done.order, type(answer)))
        if done.order == 1:
            assert 2 in waiting(one)
            assert [each.order for each in one.withdraw(lambda each: each.order == 2)] == [2]
    assert sorted(ended) == [(1, Failed), (3, Done), (4, Done)]


def test_an_order_that_others_were_in_the_way_of_is_asked_for_again_by_itself(start: Any) -> None:
    one, told = start(busy=True)
    for each in (order(1, file=1), order(2, file=2), order(3, file=3)):
        one.order(each)
    ended = []
    for done, answer in answers(one):
        assert isinstance(answer, Done)
        ended.append((done.order, answer.landed))
        if done.order == 2:
            one.order(order(4, file=4))
            assert waiting(one) == [3, 4]
    assert ended == [(2, False), (1, True), (3, False), (4, False)]
    assert told == ["a deadlock"]


def test_the_only_order_under_way_that_others_were_in_the_way_of_has_failed(start: Any) -> None:
    one, _ = start(busy=True, connections=1)
    one.order(order(1, file=1))
    one.order(order(2, file=2))
    assert [(done.order, type(answer)) for done, answer in answers(one)] == [(1, Failed), (2, Done)]
