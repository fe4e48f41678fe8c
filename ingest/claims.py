"""Which orders may be under way at once: what each of them touches, alone or beside others. Does nothing itself.

An order may overtake, or be done beside, those before it if it touches nothing that one of them has for itself, and
wants nothing for itself that one of them touches.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ingest.orders import Finish, Order, Replace, Settle

EVERYTHING = "everything"
"""What every order touches, so that one that has it for itself is the only one."""

_SETTLING = "settling"


class Claims:
    """What some orders touch; files are numbers, tables are `("table", name)`."""

    def __init__(self, orders: Iterable[Order] = ()) -> None:
        self.alone: set[Hashable] = set()
        self.shared: set[Hashable] = set()
        for order in orders:
            self.add(order)

    def add(self, order: Order) -> None:
        """Claim what the order touches, too."""
        alone, shared = _touched(order)
        self.alone |= alone
        self.shared |= shared

    def allow(self, order: Order) -> bool:
        """Whether an order may go that comes after these."""
        alone, shared = _touched(order)
        return alone.isdisjoint(self.alone | self.shared) and shared.isdisjoint(self.alone)


def _touched(order: Order) -> tuple[set[Hashable], set[Hashable]]:
    """What an order has to touch alone, and what others may touch at the same time."""
    if isinstance(order, Replace | Finish):
        return {EVERYTHING}, set()
    table = ("table", order.table_name)
    if isinstance(order, Settle):
        # It may take rows back: InnoDB waits at each row that another transaction has put into the table. And only one
        # order at a time asks for the writer's lock.
        return {order.file_id, table, _SETTLING}, {EVERYTHING}
    if order.shape is not None and order.shape.refers:
        # Its rows may refer to any row that comes before them, and that has to be committed to be seen.
        return {EVERYTHING}, set()
    files: set[Hashable] = {move.file_id for move in order.moves}  # each step rests on the one before it
    if order.merge is not None or order.reset:
        # Which of two records stays is decided by their order; a reload takes rows back as above.
        return files | {table}, {EVERYTHING}
    return files, {table, EVERYTHING}
