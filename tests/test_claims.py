"""Which orders may be under way at once, and which wait for those before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingest.claims import Claims
from ingest.model import FileState, Merge, Mode, Reason, RunState, TableName, TableShape
from ingest.orders import Apply, Finish, Order, Replace, Settle
from ingest.rows import Move, Totals

MERGE = Merge(mode=Mode.UPSERT, key=("id",))


def shape(table: str, **more: Any) -> TableShape:
    return TableShape(table=TableName(name=table), columns=(), **more)


def rows(table: str, *files: int, **more: Any) -> Apply:
    """An order for rows of some files."""
    counts = {"from_bytes": 0, "to_bytes": 9, "records": 1, "rows": 1, "rejected": 0, "discarded": 0}
    moves = tuple(Move(file_id=file, version=1, epoch=0, prefix_sha256=None, **counts) for file in files)
    return replace(
        Apply(order=1, shape=shape(table), batches=(), moves=moves, table_name=table, merge=more.pop("merge", None)),
        **more,
    )


def settle(table: str, file: int) -> Settle:
    """The end of a refused file."""
    return Settle(
        order=2,
        file_id=file,
        table_name=table,
        shape=shape(table),
        state=FileState.REFUSED,
        code=Reason.OVER_BUDGET,
        error="",
    )


REFERRING = rows("t", 1, shape=shape("t", refers=True))
REPLACE = Replace(order=3, shape=shape("z"), staging=shape("z_new"), keys=())
FINISH = Finish(order=4, state=RunState.FINISHED, exit_code=0, totals=Totals())


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (rows("t", 1), rows("t", 2), True),
        (rows("t", 1), rows("u", 2), True),
        (rows("t", 1), rows("t", 1), False),
        (rows("t", 1, 2, 3), rows("t", 3, 4), False),
        (rows("t", 1, shape=None), rows("t", 2), True),
        (rows("t", 1, merge=MERGE), rows("t", 2, merge=MERGE), False),
        (rows("t", 1, merge=MERGE), rows("u", 2, merge=MERGE), True),
        (rows("t", 1, reset=True), rows("t", 2), False),
        (rows("t", 1, reset=True), rows("u", 2, reset=True), True),
        (settle("t", 1), rows("t", 1), False),
        (settle("t", 1), rows("t", 2), False),
        (settle("t", 1), rows("u", 2), True),
        (settle("t", 1), settle("u", 2), False),
        (REFERRING, rows("u", 2), False),
        (REFERRING, settle("u", 2), False),
        (REPLACE, rows("u", 2), False),
        (REPLACE, REPLACE, False),
        (FINISH, settle("u", 2), False),
        (FINISH, rows("u", 2), False),
    ],
)
def test_orders_that_touch_the_same_go_one_after_the_other(one: Order, other: Order, together: bool) -> None:
    assert Claims([one]).allow(other) is together
    assert Claims([other]).allow(one) is together


def test_an_order_waits_for_all_that_come_before_it() -> None:
    before = Claims([rows("t", 1), rows("t", 2)])
    assert before.allow(rows("t", 3))
    before.add(settle("t", 2))  # this one waits itself
    assert not before.allow(rows("t", 3))
    assert before.allow(rows("u", 4))


def test_nothing_touches_nothing() -> None:
    assert all(Claims().allow(order) for order in (rows("t", 1), settle("t", 1), REFERRING, REPLACE, FINISH))
