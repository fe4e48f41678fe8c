"""The transactions of the writer: staged batches, rejects and ledger, all of an order or nothing of it.

What makes the data right is the conditional update at the end of every transaction (`ledger.advance`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest import ledger
from ingest.errors import FenceError, TableError
from ingest.failpoints import failpoint
from ingest.model import FileState, Merge, Mode, Reason, Reject, TableName, TableShape
from ingest.orders import Apply, Constrained, Finish, Order, RejectsRef, Replace, Settle
from ingest.rows import Closing, FileRow, Move
from ingest.settings import REJECTS_SHOWN
from ingest.targets import merging, refusals
from ingest.targets.base import POSITION, Target


class Changes:
    """What merges have done to tables, as the threads of the writer tell each other."""

    def __init__(self) -> None:
        self._numbers: Counter[TableName] = Counter()
        self._idle: set[TableName] = set()

    def told(self, table: TableName, *, changed: bool) -> None:
        """One was committed, or may have been. Not to be told before. Of one table by one thread at a time."""
        self._numbers[table] += changed
        (self._idle.discard if changed else self._idle.add)(table)

    def number(self, table: TableName) -> int:
        """How many have changed something."""
        return self._numbers[table]

    def idle(self, table: TableName) -> bool:
        """Whether the last one found every row there already, as the next one may."""
        return table in self._idle


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The open transaction of a merge whose turn has not come: its rows are gathered, and nothing is written yet."""

    connection: Connection
    transaction: contextlib.ExitStack
    gathered: sa.Table
    same: int | None  #: of its rows, those that the table had already; None: not asked
    number: int  #: what `Changes` said then

    def drop(self) -> None:
        """Roll it back."""
        with contextlib.suppress(_Undone), self.transaction:
            raise _Undone


class Applying:
    """Orders of one run on one database. Every method is an order's transaction, or a question about one."""

    def __init__(self, target: Target, run_id: int, changes: Changes | None = None) -> None:
        self._target = target
        self._run_id = run_id
        self._changes = changes or Changes()
        self._changed = True  # whether the merge under way changes its table, as far as is known

    def landed(self, order: Order) -> bool:
        """Whether an earlier try at the order was committed: the file rows tell.

        A server may still be at the COMMIT of a connection that is gone: what it has locked is waited for.
        """
        with self._target.begin() as connection:
            if isinstance(order, Apply):
                rows = [ledger.file(connection, move.file_id, lock=True) for move in order.moves]
                return all(
                    row is not None
                    and row.version == move.version + 1
                    and row.committed_bytes == move.to_bytes
                    and row.run_id == self._run_id
                    for row, move in zip(rows, order.moves, strict=True)
                )
            if isinstance(order, Settle):
                row = ledger.file(connection, order.file_id, lock=True)
                # A first transaction that only says UNDOING is gone on with, not landed.
                return row is not None and row.state not in (FileState.STARTED, FileState.UNDOING)
            if isinstance(order, Replace):
                if ledger.files(connection, tables=[str(order.staging.table)], lock=True):
                    return False
                here = {row.path_key for row in ledger.files(connection, tables=[str(order.shape.table)])}
                return all(key in here for _, key in order.keys)
            run = ledger.run(connection, self._run_id, lock=True)
            return run is not None and run.state == order.state

    def finish(self, order: Finish) -> None:
        """End the run."""
        with self._target.begin() as connection:
            ledger.finish_run(
                connection,
                self._run_id,
                state=order.state,
                exit_code=order.exit_code,
                totals=order.totals,
                error=order.error,
            )

    def replace(self, order: Replace) -> None:
        """Put a staging table's rows and files in the place of a table's."""
        wanted = dict(order.keys)
        with self._target.begin() as connection:
            ledger.check_run(connection, self._run_id)
            self._same_table(connection, order.shape)
            self._same_table(connection, order.staging)
            rows = ledger.files(connection, tables=[str(order.staging.table)])
            for row in rows:
                if row.path_key not in wanted:  # of an earlier attempt, and no longer there
                    self._target.delete_rows(connection, order.staging, row.file_id, known=row.rows_loaded)
                    ledger.forget(connection, [row.file_id])
            kept = [row for row in rows if row.path_key in wanted]
            if len(kept) != len(wanted) or any(row.state is not FileState.LOADED for row in kept):
                raise Refused(Reason.COUNTS, f"not every file is in {order.staging.table}; {order.shape.table} stays.")
            self._target.defer_foreign_keys(connection)
            with self._putting():
                inserted = self._target.replace_rows(connection, order.shape, order.staging)
            expected = sum(row.rows_loaded for row in kept)
            if inserted != expected:
                raise Refused(
                    Reason.COUNTS,
                    f"{order.staging.table} has {inserted} of {expected} rows; {order.shape.table} stays as it was.",
                )
            if (found := self._target.count_rows(connection, order.shape.table)) != expected:
                raise Refused(
                    Reason.COUNTS,
                    f"{order.shape.table} would have {found} rows instead of {expected}: a trigger, a rule or another "
                    "program keeps or adds some; it stays as it was.",
                )
            failpoint("before_replace")
            self._target.assert_open(connection)
            files = [(row, wanted[row.path_key]) for row in kept]
            ledger.replace(connection, self._run_id, table_name=str(order.shape.table), files=files)
            failpoint("before_replace_commit")
        failpoint("after_replace")

    def ready(self, order: Apply) -> Ready:
        """Begin with an order that merges rows before its turn: all of it that neither writes nor depends on others."""
        shape, merge = order.shape, order.merge
        assert shape is not None
        assert merge is not None
        assert not order.reset
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(self._target.transaction(order.batches))
            self._begin_apply(connection, order)
            gathered = self._gather_to_merge(connection, order, shape)
            number, same = self._changes.number(shape.table), None
            if self._changes.idle(shape.table) and len(order.moves) == 1:
                rows = merging.Merging(connection, self._target, self._target.sql_table(shape), gathered, merge)
                rows.supersede(1, order.rows)
                same = rows.same(1, order.rows)
            return Ready(connection, stack.pop_all(), gathered, same, number)

    def apply(self, order: Apply, ready: Ready | None = None) -> tuple[Move, ...]:
        """One transaction: rows, rejects and ledger. The moves as they were made, where the database had to tell."""
        moves = order.moves
        with self._begun(order, ready) as connection:
            if order.shape is not None and order.merge is not None and order.batches:
                with self._putting():
                    moves = self._merge(connection, order, order.shape, order.merge, ready)
            elif order.shape is not None:
                expected = order.rows - len(order.left_out or ())
                with self._putting():
                    inserted = self._insert(connection, order, order.shape)
                if inserted != expected:
                    raise Refused(
                        Reason.COUNTS, f"the database took {inserted} of {expected} rows; nothing of them was kept."
                    )
            for file_id in order.stale:
                ledger.drop_rejects(connection, file_id)
            self._write_rejects(connection, order.moves[0].file_id, order.table_name, order.rejects, applied=True)
            failpoint("before_advance")
            self._target.assert_open(connection)
            if order.closing is None:
                ledger.advance(connection, self._run_id, moves)
            else:
                closing = _sendable(order.closing, self._target.longest_text(connection))
                ledger.mend(connection, self._run_id, moves[0], closing)
            failpoint("before_commit")
        failpoint("after_commit")
        return moves if order.merge is not None else ()

    @contextlib.contextmanager
    def _putting(self) -> Iterator[None]:
        """Inside the block rows are on their way in: what only they can have caused refuses them."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            if self._target.refuses_rows(error) or not (said := self._target.said_of_a_value(error)):
                raise
            raise Refused(Reason.CONSTRAINT, f"the table refused a row: {said}.") from error

    @contextlib.contextmanager
    def _begun(self, order: Apply, ready: Ready | None) -> Iterator[Connection]:
        """The transaction of an order, begun here if it was not before its turn."""
        self._changed = True
        try:
            if ready is not None:
                with ready.transaction:
                    yield ready.connection
            else:
                with self._target.transaction(order.batches) as connection:
                    self._begin_apply(connection, order)
                    yield connection
        finally:
            if order.shape is not None and order.merge is not None:
                self._changes.told(order.shape.table, changed=self._changed)

    def _begin_apply(self, connection: Connection, order: Apply) -> None:
        """What comes before the rows."""
        ledger.check_run(connection, self._run_id)
        if order.shape is not None:
            self._same_table(connection, order.shape)
            if order.reset and order.shape.lineage:  # without lineage only what has no rows is loaded again
                known = _row(connection, order.moves[0].file_id).rows_loaded
                self._target.delete_rows(connection, order.shape, order.moves[0].file_id, known=known)
            elif order.moves[0].from_bytes and not order.reset:
                self._still_there(connection, order.shape, order.moves[0].file_id)

    def _insert(self, connection: Connection, order: Apply, shape: TableShape) -> int:
        """Insert the rows of an order, but for those to be left out; how many the database took."""
        if order.left_out is None:
            return self._target.insert(connection, shape, order.batches)
        gathered = self._gather(connection, order, shape, parts=False)
        inserted = self._target.insert_gathered(connection, self._target.sql_table(shape), gathered, 1, order.rows)
        self._target.discard(connection, gathered)
        return inserted

    def _gather_to_merge(self, connection: Connection, order: Apply, shape: TableShape) -> sa.Table:
        # Rows that are put in as they are, each for another key, need no numbers.
        return self._gather(connection, order, shape, parts=len(order.moves) > 1, numbered=not _distinct(order))

    def _merge(
        self, connection: Connection, order: Apply, shape: TableShape, merge: Merge, ready: Ready | None
    ) -> tuple[Move, ...]:
        """Merge the rows of each file, in their order, and count what became of them."""
        table = self._target.sql_table(shape)
        gathered = ready.gathered if ready is not None else self._gather_to_merge(connection, order, shape)
        rows = merging.Merging(connection, self._target, table, gathered, merge)
        known = None  # of a ready one that is no bundle, it may be
        if ready is not None and ready.number == self._changes.number(shape.table):
            known = ready.same
        moves, last, changed = [], 0, False
        for move in order.moves:
            first, last = last + 1, last + move.rows if len(order.moves) > 1 else order.rows
            if (same := known) is None:
                rows.supersede(first, last)
                same = rows.same(first, last)
            offered = order.rows if _distinct(order) else rows.offered(first, last)
            written = offered if same == offered else rows.put(first, last, same)
            changed = changed or same != offered
            failpoint("after_merge")
            # Of insert-ignore, and with --newest-by, rows may be left out; but only where there is one with their key.
            exact = merge.mode is Mode.UPSERT and merge.newest_by is None
            there = offered if exact else rows.present(first, last)
            if there != offered or written > offered or (exact and written != offered):
                raise Refused(
                    Reason.COUNTS,
                    f"the database took {written} of {offered} rows and has {there} of their keys; nothing was kept.",
                )
            left = move.rows - written
            ignored = left if merge.mode is Mode.INSERT_IGNORE else 0
            moves.append(dataclasses.replace(move, rows=written, superseded=left - ignored, ignored=ignored))
        self._target.discard(connection, gathered)
        self._changed = changed
        return tuple(moves)

    def counted(self, order: Apply) -> tuple[Move, ...]:
        """The moves of an order that landed, with what the ledger has of each file in all; with a merge, a file is one
        move.

        Of a tail, and of mended records, that is more than the order did: `Move.since` tells what.
        """
        with self._target.begin() as connection:
            rows = [_row(connection, move.file_id) for move in order.moves]
        return tuple(
            dataclasses.replace(move, rows=row.rows_loaded, superseded=row.rows_superseded, ignored=row.rows_ignored)
            for move, row in zip(order.moves, rows, strict=True)
        )

    def _gather(
        self, connection: Connection, order: Apply, shape: TableShape, *, parts: bool, numbered: bool = True
    ) -> sa.Table:
        """The rows of an order but for those to be left out; `parts`: they will be asked for part by part."""
        indexed = parts or bool(order.left_out)
        gathered = self._target.gather(connection, shape, order.batches, indexed=indexed, numbered=numbered)
        if order.left_out:
            number = gathered.c[POSITION] == sa.bindparam("number")
            connection.execute(gathered.delete().where(number), [{"number": row} for row in order.left_out])
        return gathered

    def refused(self, order: Apply, error: sa.exc.DBAPIError) -> Constrained | None:
        """Which rows of an order the table refuses; None where that is not to be known, or no new ones are found.

        `error` is what the database said to the order.

        A bundle is not searched: its files are done again one by one. Changes nothing in the database.
        """
        shape = order.shape
        if shape is None or not self._target.savepoints or len(order.moves) > 1:
            return None
        if not order.batches or any(batch.place is None for batch in order.batches):
            return None
        found = refusals.Refused()
        with contextlib.suppress(_Undone), self._target.transaction(order.batches) as connection:
            self._begin_apply(connection, order)
            with self._putting():
                gathered = self._gather(connection, order, shape, parts=True)
                table = self._target.sql_table(shape)
                insert: Callable[[int, int], int] = functools.partial(
                    self._target.insert_gathered, connection, table, gathered
                )
                if order.merge is not None:
                    rows = merging.Merging(connection, self._target, table, gathered, order.merge)
                    rows.supersede(1, order.rows)
                    insert = rows.put_others
                found = refusals.find(
                    connection,
                    self._target,
                    table,
                    gathered,
                    insert=insert,
                    last=order.rows,
                    limit=order.reject_limit,
                    merged_by=order.merge.key if order.merge is not None else (),
                    late=None if order.left_out is None else self._target.constraint(error),
                )
            failpoint("after_search")
            raise _Undone
        if not found.rows:
            # Rows that refer to later ones of their file can go in with one statement, if not one after the other.
            again = order.left_out is None  # the second time it is something that only the end of the transaction tells
            return Constrained(order=order.order, rows=(), rejects=None, complete=True) if again else None
        from ingest import placing  # Arrow, which a writer seldom needs

        path = f"{order.batches[0].staged.path}.{order.order}.rejects"
        with open(path, "w", encoding="ascii") as file:
            for reject in placing.rejects(found.rows, order.batches):
                file.write(json.dumps(dataclasses.asdict(reject)) + "\n")
        return Constrained(
            order=order.order,
            rows=tuple(found.rows),
            rejects=RejectsRef(path=path, first_line=0, first_record=0),
            complete=found.complete,
        )

    def _same_table(self, connection: Connection, shape: TableShape) -> None:
        """`SELECT *` copies by position: the table must be the very one that the batch was staged for."""
        try:
            self._target.hold(connection, shape.table)
            same = self._target.fingerprint(connection, shape.table) == shape.fingerprint
        except TableError:
            same = False
        if not same:
            raise Refused(Reason.TABLE_LOST, f"the table {shape.table} was changed while its files were read.")

    def _still_there(self, connection: Connection, shape: TableShape, file_id: int) -> None:
        """What is put behind the part of a file that is in the table needs that part: the table may be emptied."""
        if _row(connection, file_id).rows_loaded and not self._target.has_rows(connection, shape.table):
            raise Refused(Reason.TABLE_EMPTIED, f"the table {shape.table} was emptied while its files were read.")

    def settle(self, order: Settle) -> None:
        """Refuse a file; what is committed of it is taken back in a second transaction."""
        with self._target.begin() as connection:
            ledger.check_run(connection, self._run_id)
            row = _row(connection, order.file_id)
            if order.before is not None and row.state is FileState.STARTED and row.version == order.version:
                ledger.withdraw(
                    connection,
                    self._run_id,
                    before=order.before,
                    version=row.version,
                    epoch=row.epoch,
                    code=order.code,
                    error=order.error,
                )
                ledger.drop_rejects(connection, order.file_id, applied=False)
                self._keep_rejects(connection, order)
                return
            undo = row.committed_bytes > 0 and row.state is FileState.STARTED
            if row.state is not FileState.UNDOING:
                ledger.settle(
                    connection,
                    self._run_id,
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    state=FileState.UNDOING if undo else order.state,
                    code=order.code,
                    error=order.error,
                    deaths=order.deaths,
                )
            else:
                undo = True
            if not undo:
                ledger.drop_rejects(connection, order.file_id)
                self._keep_rejects(connection, order)
        if undo:
            failpoint("before_undo")
            with self._target.begin() as connection:
                ledger.check_run(connection, self._run_id)
                row = _row(connection, order.file_id)
                # Somebody may have dropped the table: that is the reason then, and there is nothing to delete.
                if order.shape is not None and self._target.shape(connection, order.shape.table) is not None:
                    self._target.delete_rows(connection, order.shape, order.file_id, known=row.rows_loaded)
                ledger.finish_undo(
                    connection,
                    self._run_id,
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    state=order.state,
                )
                # Those of steps that an earlier run committed are nowhere else.
                ledger.drop_rejects(connection, order.file_id, run_id=self._run_id)
                self._keep_rejects(connection, order)

    def _keep_rejects(self, connection: Connection, order: Settle) -> None:
        self._write_rejects(
            connection, order.file_id, order.table_name, order.rejects, applied=False, limit=REJECTS_SHOWN
        )

    def _write_rejects(
        self,
        connection: Connection,
        file_id: int,
        table_name: str,
        refs: Sequence[RejectsRef],
        *,
        applied: bool,
        limit: int | None = None,
    ) -> None:
        if not refs:
            return
        longest = self._target.longest_text(connection)
        read = _limited(chain.from_iterable(map(read_rejects, refs)), limit)
        rejects = (_shortened(reject, longest) for reject in read)
        ledger.write_rejects(
            connection, self._run_id, file_id=file_id, table_name=table_name, rejects=rejects, applied=applied
        )


class _Undone(Exception):
    """Rolls a transaction back that was only to find something out."""


class Refused(Exception):
    """The order cannot be applied; its files are refused for this reason."""

    def __init__(self, code: Reason, message: str) -> None:
        super().__init__(message)
        self.code = code


def _distinct(order: Apply) -> bool:
    """Whether its rows are merged as they are, no two of them with the same key, as its worker has found out."""
    told = [batch.staged.distinct for batch in order.batches] == [True]
    ordered = order.merge is not None and order.merge.ordered
    return told and ordered and not order.left_out and len(order.moves) == 1


def _row(connection: Connection, file_id: int) -> FileRow:
    row = ledger.file(connection, file_id)
    if row is None:
        raise FenceError("a file was forgotten while it was loaded.", hint="Run the same command again.")
    return row


def read_rejects(ref: RejectsRef) -> Iterator[Reject]:
    """Rejects out of the spool, their lines and records counted in the file."""
    with open(ref.path, encoding="ascii") as file:
        for line in file:
            fields = json.loads(line)
            fields["code"] = Reason(fields["code"])
            fields["line"] += ref.first_line
            fields["record"] += ref.first_record
            yield Reject(**fields)


def _shortened(reject: Reject, longest: int | None) -> Reject:
    """The reject, its text cut if the database could not be sent all of it: the file has it, at its line and byte."""
    if longest is None or len(reject.text) * 4 <= longest or len(data := reject.text.encode()) <= longest:
        return reject
    kept = data[:longest].decode(errors="ignore")
    return dataclasses.replace(reject, text=f"{kept}… ({len(data):,} bytes)")


def _sendable(closing: Closing, longest: int | None) -> Closing:
    """Without the text of records that the database could not be sent: whoever mended them has it."""
    if longest is None:
        return closing
    closed = tuple(
        (one, text if text is not None and len(text) * 4 <= longest else None) for one, text in closing.closed
    )
    kept = (
        s if s.mended is not None and len(s.mended) * 4 <= longest else dataclasses.replace(s, mended=None)
        for s in closing.still_bad
    )
    return Closing(closed=closed, still_bad=tuple(kept))


def _limited(rejects: Iterator[Reject], limit: int | None) -> Iterator[Reject]:
    for number, reject in enumerate(rejects):
        if limit is not None and number >= limit:
            return
        yield reject
