"""Whose turn it is: where a later record takes the place of an earlier one, files are written in their order.

Files of such a table are read and staged in parallel like all others; only their orders wait for those before them,
and the writer gets ready for the one whose turn is next. Where one of them is not loaded, those behind it are held
back: to be loaded after them, it would undo what they did.
"""

from __future__ import annotations

from ingest.checking import Rehearsal
from ingest.jobs import Failure
from ingest.model import Action, Manifest, Reason
from ingest.orders import Apply
from ingest.schema import TableSchema
from ingest.units import Load
from ingest.work import Planned, refuse_work
from ingest.writing import Writing

_HINT = "Mend that one or leave it out, and run the same command again; --newest-by COLUMN does without an order."


class Turns:
    """The files of each table whose order counts, from the one whose turn it is. Gives their orders to the writer."""

    def __init__(self, writing: Writing | Rehearsal) -> None:
        self._writing = writing
        self._lines: dict[str, list[Load]] = {}
        self._held: dict[int, Apply] = {}  # by id() of the load

    def join(self, load: Load) -> None:
        """The next file, or bundle, in the order of files."""
        if load.layout.merge is not None:
            self._lines.setdefault(str(load.shape.table), []).append(load)

    def apart(self, load: Load, parts: list[Load]) -> None:
        """A bundle's files are taken one by one, in its place."""
        line = self._line(load)
        if load in line:
            at = line.index(load)
            line[at : at + 1] = parts

    def order(self, load: Load, order: Apply) -> None:
        """Have a load's order done when it is its turn."""
        line = self._line(load)
        if load not in line:
            self._writing.order(order)
        elif line[0] is load:
            self._give(line, order)
        else:
            self._held[id(load)] = order
            if line[1] is load:
                self._next(line)

    def take(self, load: Load) -> Apply | None:
        """The order that a load had waiting, which is not to be done now."""
        order = self._held.pop(id(load), None)
        if order is not None:
            self._writing.forget(order.order)
        return order

    def leave(self, load: Load, *, stopped: bool) -> list[Load]:
        """This file has come to its end: those to be held back for it. If there are none, it is the next one's turn.

        Nobody's turn comes any more where the run was `stopped`.
        """
        line = self._line(load)
        if load not in line:
            return []
        at, merge = line.index(load), load.layout.merge
        if load.doom is not None and merge is not None and merge.ordered:
            behind = line[at + 1 :]
            del line[at:]  # those before it, of which it did not wait for the end, go on
            return behind
        del line[at]
        if at == 0 and line and not stopped and (order := self._held.pop(id(line[0]), None)):
            self._give(line, order)
        return []

    def _give(self, line: list[Load], order: Apply) -> None:
        self._writing.order(order)
        self._next(line)

    def _next(self, line: list[Load]) -> None:
        """Have the writer get ready for the order behind one that is out, if it has come and only adds rows."""
        order = self._held.get(id(line[1])) if len(line) > 1 and line[0].ended else None
        if order is not None and order.shape is not None and not order.reset:
            self._writing.ahead(order)

    def _line(self, load: Load) -> list[Load]:
        return self._lines.get(str(load.shape.table), [])


def held_back(name: str) -> Failure:
    """Why a file is not loaded that comes behind the file `name`."""
    return Failure(code=Reason.HELD_BACK, message=_sentence(name), hint=_HINT)


def hold_back(planned: Planned, tables: list[TableSchema], found: Manifest) -> list[TableSchema]:
    """Refuse what comes behind a file that the plan refuses already; the tables that have something left to load."""
    place = {source.path: number for number, source in enumerate(found.sources)}
    for table in tables:
        if table.merge is None or not table.merge.ordered:
            continue
        refused = [d.source for d in planned.decisions if d.action is Action.REFUSE and str(d.table) == table.key]
        if not refused:
            continue
        first = min(refused, key=lambda source: place[source.path])
        for one in table.groups:
            for work in [w for w in one.work if place[w.source.path] > place[first.path]]:
                refuse_work(planned, work, Reason.HELD_BACK, _sentence(first.display), _HINT)
                one.work.remove(work)
        table.groups = [one for one in table.groups if one.work]
    return [table for table in tables if table.groups]


def _sentence(name: str) -> str:
    return f"it is held back, for {name} comes before it and was not loaded"
