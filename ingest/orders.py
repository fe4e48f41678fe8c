"""What main asks the writer for, and what comes back: small values that cross a process border.

Every order is one transaction, or two (`Settle`), whose last statement a second writer, a stale one, or a repeated
order cannot pass (`ledger.advance`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.errors import DatabaseUnreachable, IngestError, LedgerError
from ingest.jobs import Failure
from ingest.model import FileState, Merge, Reason, RunState, TableShape
from ingest.rows import Closing, FileRow, Move, Totals
from ingest.targets.base import BatchRef


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectsRef:
    """Rejects of one slice in the spool; its lines and records count from the slice's start."""

    path: str
    first_line: int  #: physical line ends before the slice
    first_record: int  #: records of the file before the slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Put batches into a table and move their files forward, in one transaction."""

    order: int
    shape: TableShape | None  #: None where no batch has a row
    batches: tuple[BatchRef, ...]
    moves: tuple[Move, ...]
    table_name: str
    reset: bool = False  #: first delete the rows of the (one) file: a reload
    stale: tuple[int, ...] = ()  #: files with rejects of an earlier, refused attempt
    rejects: tuple[RejectsRef, ...] = ()
    left_out: tuple[int, ...] | None = None  #: numbers of refused rows, from 1 over all batches; None: none known yet
    merge: Merge | None = None  #: how rows meet those with the same key; the moves' counts are the writer's then
    reject_limit: int | None = None  #: refused rows to look for; None: all
    closing: Closing | None = None  #: they are mended records of the (one) file, which is loaded; its offsets stay

    @property
    def rows(self) -> int:
        """Rows that were staged for it."""
        return sum(batch.rows for batch in self.batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Refuse or fail one file: take back what is committed of it, and keep its rejects for people to read."""

    order: int
    file_id: int
    table_name: str
    shape: TableShape | None
    state: FileState
    code: Reason
    error: str
    rejects: tuple[RejectsRef, ...] = ()
    deaths: int | None = None
    version: int = 0  #: of the file's row when this run began with it
    before: FileRow | None = None  #: of a reload: the old content stays loaded if nothing of the new was committed


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Put the rows of a staging table in the place of a table's, and its files in the place of that one's."""

    order: int
    shape: TableShape
    staging: TableShape
    keys: tuple[tuple[str, str], ...]  #: `path_key` of each file that is to be in it, as it is and as it will be


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The run has ended."""

    order: int
    state: RunState
    exit_code: int
    totals: Totals
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The order is committed."""

    order: int
    seconds: float
    landed: bool = False  #: an earlier writer had committed it already
    moves: tuple[Move, ...] = ()  #: of an order with a merge: what became of its records


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The order was rolled back. `fatal` tells that no other order would fare better."""

    order: int
    failure: Failure
    fatal: bool
    fenced: bool = False
    unreachable: bool = False  #: the server has gone, and has not come back in time
    busy: bool = False  #: others were in its way each time

    @property
    def error(self) -> IngestError:
        """What a fatal failure ends the run with."""
        kind = DatabaseUnreachable if self.unreachable else LedgerError
        return kind(self.failure.message, hint=self.failure.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delayed:
    """No answer yet: the database was in the way of the order, which is tried again."""

    order: int
    text: str  #: why, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Constrained:
    """The order was rolled back: the table refused these of its rows."""

    order: int
    rows: tuple[int, ...]  #: by their numbers, from 1 over all batches; none where only their order was wrong
    rejects: RejectsRef | None  #: the same as records
    complete: bool  #: False: there may be more


Order = Apply | Settle | Replace | Finish
Answer = Done | Failed | Constrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """An order whose turn comes after one that is not done yet, to get ready for; or never, and then `Forget` comes."""

    message: Apply


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The turn of this order, of which `Ahead` told, will not come."""

    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """An order whose first writer died: it may have been committed."""

    message: Order
