"""One file, or one bundle, on its way: what has been read of it, and the moves that come of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest import charsets
from ingest.discards import together
from ingest.jobs import Failure, Job, JobSliced, Layout, MemberCount, Place, Result, Undecoded
from ingest.model import NONE_FITTED, Discards, FileState, Fitted, Reason, TableShape
from ingest.orders import Apply, RejectsRef, Settle
from ingest.reports import FileOutcome
from ingest.rows import FileRow, Move
from ingest.settings import Settings
from ingest.targets.base import BatchRef
from ingest.work import Work

WHOLE = 1.5
"""A file of up to so many slices is read as one: no border has to be proven, and no byte is read twice."""


@dataclass(slots=True)
class Step:
    """What one transaction will hold of a file."""

    batches: list[BatchRef] = field(default_factory=list)
    rejects: list[RejectsRef] = field(default_factory=list)
    records: int = 0
    rows: int = 0
    rejected: int = 0
    discarded: int = 0
    discards: Discards = field(default_factory=dict)
    held: int = 0
    end: int = 0
    prefix: str | None = None
    sha256: str | None = None

    @property
    def paths(self) -> set[str]:
        """Its files in the spool, the rejects' not counted."""
        kept = {batch.place.kept for batch in self.batches if batch.place is not None and batch.place.kept is not None}
        return kept | {batch.staged.path for batch in self.batches}


@dataclass(slots=True, kw_only=True, eq=False)
class Load:
    """One file, or one bundle, on its way."""

    works: list[Work]
    rows: list[FileRow]
    layout: Layout
    shape: TableShape
    job: Job
    version: int = 0
    committed: int = 0  #: what the ledger says when all queued orders are done
    reset: bool = False  #: its old rows are still to be deleted
    position: int = 0  #: end of the last step that was put together
    prefix: str | None = None  #: hash of the decoded bytes up to there
    broken: bool = False  #: a broken quote came before what is read next
    broken_at: bool = False  #: and before `position`
    undecoded: Undecoded | None = None  #: its first record that is not UTF-8
    results: dict[int, Result] = field(default_factory=dict)
    next: int = 0
    sliced: JobSliced | None = None
    step: Step = field(default_factory=Step)
    lines: int = 0
    records: int = 0  #: of the whole file so far
    records_at: int = 0  #: of the whole file, up to `position`
    rejected: int = 0  #: of the whole file so far
    rejected_at: int = 0
    kept: int = 0  #: of these, those of a part that is loaded whatever becomes of the rest
    rejects: list[RejectsRef] = field(default_factory=list)  #: all of this attempt, for a refusal
    rejects_at: int = 0  #: how many of them are of records before `position`
    texts: int = 0
    advice: str = ""  #: an option with which one of its rejects would not be one
    more: bool = False  #: the table may refuse more of it than is known
    counted: bool = False  #: all of it is read, and its rejects are among those of the run
    settling: bool = False  #: its end is ordered: it is refused or failed
    doom: Failure | None = None
    ended: bool = False
    members: tuple[MemberCount, ...] = ()  #: of a bundle
    read: int = 0  #: records read in this run
    inserted: int = 0  #: rows committed in this run
    discarded: int = 0
    fitted: Fitted = NONE_FITTED  #: in this run so far; of a bundle its members tell
    fitted_at: Fitted = NONE_FITTED  #: in this run, up to `position`
    discards: Discards = field(default_factory=dict)
    known_discards: Discards = field(default_factory=dict)  #: of the whole file, up to `position`

    @property
    def single(self) -> bool:
        return len(self.works) == 1

    def begin_step(self) -> None:
        """Count what is left out before the data with the step that commits the file's first bytes."""
        header = self.works[0].header
        if not self.single or header is None or not header.discards or (self.committed and not self.reset):
            return
        count = sum(header.discards.values())
        self.step.records += count
        self.step.discarded += count
        self.step.discards = together(header.discards, self.step.discards)
        self.read += count

    @property
    def name(self) -> str:
        first = self.works[0].source.display
        return first if self.single else f"{first} and {len(self.works) - 1} more"

    @property
    def stale(self) -> tuple[int, ...]:
        """The files whose rejects of an earlier attempt go with the next order."""
        if self.reset:
            return (self.rows[0].file_id,)
        pairs = zip(self.works, self.rows, strict=True)
        return tuple(row.file_id for work, row in pairs if work.row is not None and self.committed == 0)

    @property
    def fresh(self) -> int:
        """The rejects that are this run's to judge."""
        return self.rejected - self.kept

    def added(self, moves: tuple[Move, ...]) -> tuple[Move, ...]:
        """What this run did, where the moves tell what the ledger has of the file in all."""
        if not self.works[0].tail:
            return moves
        (move,) = moves
        return (move.since(self.rows[0]),)

    def place(self, result: Result) -> Place:
        """Where the rows of the next result stand in the file."""
        return Place(
            source=self.works[0].source,
            slice=result.slice,
            dialect=self.job.members[0].header.dialect,
            exact=result.slice.exact or result.exact,
            kept=result.kept,
            first_line=self.lines,
            first_record=self.records,
        )

    def over_budget(self, settings: Settings, run_rejected: int, *, at_end: bool) -> Failure | None:
        """Why its rejects are too many, if they are; `run_rejected` are those of the files that are loaded."""
        budget, run = settings.max_rejects, settings.max_rejects_run
        found, nothing = self.rejected, "Nothing of what was added to it" if self.works[0].tail else "Nothing of it"
        if not self.fresh:
            return None
        allowed: float | None = None
        if budget is None:
            allowed = 0 if run is None else None
        elif budget.count is not None:
            allowed = budget.count
        elif at_end and budget.percent is not None:
            allowed = budget.percent * self.records / 100
        if allowed is not None and found > allowed:
            percent = budget.percent if budget is not None else None
            said = f"{allowed:,}" if percent is None else f"{percent:g}% of {self.records:,}"
            return Failure(
                code=Reason.OVER_BUDGET,
                message=f"{self._found()} cannot be loaded, and --max-rejects allows {said}. {nothing} was loaded.",
                hint=f"{self.advice} {self._offer()}See them with: {self._listing(settings)}".lstrip(),
            )
        if run is not None and run_rejected + self.fresh > run:
            return Failure(
                code=Reason.OVER_BUDGET,
                message=f"{self._found()} cannot be loaded; with {run_rejected} of other files that is more than "
                f"--max-rejects-run {run}. {nothing} was loaded.",
                hint=f"{self.advice} {self._offer()}See them with: {self._listing(settings)}".lstrip(),
            )
        return None

    def misfit(self, settings: Settings, columns: Sequence[str]) -> Failure:
        """Why it is refused for values that their columns do not take."""
        name = columns[0]
        kept = self.layout.kept.get(name)
        why = f", whose type cannot be changed: {kept}" if kept else ""
        return Failure(
            code=Reason.MISFIT,
            message=f"the column {name!r} does not take a value of it{why} (--on-misfit {settings.on_misfit}). "
            "Nothing of it was loaded.",
            hint=f"See the record with: {self._listing(settings)}",
        )

    def _offer(self) -> str:
        """Where it is first seen not to be UTF-8, and what it may be."""
        if self.undecoded is None:
            return ""
        where = f"It is not UTF-8 in line {self.undecoded.line}, in the record at byte {self.undecoded.byte}."
        return f"{where} {charsets.offer(self.works[0].source, charsets.offered(self.undecoded.sample))} "

    def _found(self) -> str:
        """How many rejects there are: all of them once the file was read to its end."""
        complete = self.sliced is not None and self.next == self.sliced.slices and not self.more
        words = "1 record" if self.rejected == 1 else f"{self.rejected:,} records"
        words += f" ({self.kept:,} of before)" if self.kept else ""
        return words if complete else f"at least {words}"

    def _listing(self, settings: Settings) -> str:
        """The command that shows the rejects; a URL that may hold a password is not repeated."""
        to = f" --to {shlex.quote(settings.to)}" if settings.to and not set("@?") & set(settings.to) else ""
        return f"ingest rejects list {shlex.quote(self.works[0].source.display)}{to}"

    def move(self, step: Step, *, done: bool) -> Move:
        """The ledger's step for one file."""
        row = self.rows[0]
        end = step.end or self.position
        return Move(
            file_id=row.file_id,
            version=self.version,
            epoch=row.epoch,
            from_bytes=self.committed,
            to_bytes=max(end, self.committed) if not self.reset else end,
            records=step.records,
            rows=step.rows,
            rejected=step.rejected,
            discarded=step.discarded,
            prefix_sha256=step.prefix or self.prefix,
            sha256=step.sha256 if done else None,
            done=done,
            reset=self.reset,
            discards=together(self.known_discards, step.discards),
        )

    def bundle_moves(self) -> tuple[Move, ...]:
        """The ledger's steps for the files of a bundle."""
        moves = []
        for work, row, member in zip(self.works, self.rows, self.members, strict=True):
            discards = together(work.header.discards if work.header else {}, member.discards)
            records = member.records + sum(discards.values())
            moves.append(
                Move(
                    file_id=row.file_id,
                    version=row.version,
                    epoch=row.epoch,
                    from_bytes=0,
                    to_bytes=work.source.size,
                    records=records,
                    rows=member.rows,
                    rejected=0,
                    discarded=records - member.rows,
                    prefix_sha256=member.sha256,
                    sha256=member.sha256,
                    done=True,
                    discards=discards,
                )
            )
        return tuple(moves)

    def outcome(self, number: int, move: Move) -> FileOutcome:
        """How the file of this number in the bundle was loaded."""
        one = self.single
        return loaded(
            self.works[number],
            self.rows[number].file_id,
            records=self.read if one else move.records,
            rows=self.inserted if one else move.rows,
            rejected=self.fresh if one else 0,
            discarded=self.discarded if one else move.discarded,
            discards=self.discards if one else move.discards,
            superseded=move.superseded,  # where there are any, a file is one move
            ignored=move.ignored,
            fitted=self.fitted if one else self.members[number].fitted,
        )

    def refusal(self) -> FileOutcome:
        """How the file was refused, or failed."""
        assert self.doom is not None
        return refused(self.works[0], self.rows[0].file_id, self.doom, records=self.read, rejected=self.fresh)


def whole_at_once(work: Work, start: int, settings: Settings) -> bool:
    """Whether the file from `start` on is one slice."""
    source = work.source
    return work.seekable and source.size - start <= WHOLE * settings.slice_bytes


def reading_order(works: Iterable[Work], settings: Settings) -> list[Work]:
    """Files of many slices first: small ones fill the gaps that they leave at the end, and one commits while others
    are staged."""
    return sorted(works, key=lambda work: whole_at_once(work, 0, settings))


def loaded(work: Work, file_id: int, **counts: Any) -> FileOutcome:
    """A file that is loaded; `counts` are those of a `FileOutcome`."""
    return FileOutcome(
        path=work.source.path,
        display=work.source.display,
        table=str(work.table),
        action=work.action,
        state="loaded",
        code=work.code,
        sentence=work.sentence,
        file_id=file_id,
        bytes=work.source.size,
        **counts,
    )


def refused(work: Work, file_id: int, failure: Failure, **counts: Any) -> FileOutcome:
    """A file that was refused, or failed; `counts` are those of a `FileOutcome`."""
    return FileOutcome(
        path=work.source.path,
        display=work.source.display,
        table=str(work.table),
        action=work.action,
        state=state_of(failure.code).value,
        code=failure.code,
        sentence=failure.message,
        hint=failure.hint,
        file_id=file_id,
        bytes=work.source.size,
        **counts,
    )


def not_undone(doom: Failure, failure: Failure) -> Failure:
    """Why a file is refused of which the database keeps what was committed, whatever was said of that before."""
    return Failure(
        code=doom.code,
        message=f"it is refused ({doom.code}), but what is there of it could not be taken back: {failure.message}",
        hint="The next run tries that again, before it loads anything.",
    )


def empty_move(work: Work, row: FileRow) -> Move:
    """The ledger's step for a file without a record; lines that are left out of it count."""
    discards = work.header.discards if work.header else {}
    count = sum(discards.values())
    return Move(
        file_id=row.file_id,
        version=row.version,
        epoch=row.epoch,
        from_bytes=row.committed_bytes,
        to_bytes=work.source.size,
        records=count,
        rows=0,
        rejected=0,
        discarded=count,
        prefix_sha256=work.sha256,
        sha256=work.sha256,
        done=True,
        reset=work.reset,
        discards=discards,
    )


def empty_settle(order: int, work: Work, move: Move, shape: TableShape | None, failure: Failure) -> Settle:
    """The refusal of a file without a record: the rows of its earlier content stay, or are taken back as they can."""
    return Settle(
        order=order,
        file_id=move.file_id,
        table_name=str(work.table),
        shape=shape,
        state=state_of(failure.code),
        code=failure.code,
        error=failure.message,
        before=work.row if work.in_one else None,
        version=move.version,
    )


def bytes_on_disk(load: Load, order: Apply) -> int:
    """How much of the files on disk an order has dealt with: for a compressed file, all of it at its end."""
    if not load.single:
        return sum(work.source.size for work in load.works)
    move, source = order.moves[0], load.works[0].source
    if not load.works[0].seekable:
        return source.size if move.done else 0
    return move.to_bytes - (0 if move.reset else move.from_bytes)


def state_of(code: Reason) -> FileState:
    """REFUSED is about the file's content; FAILED about what happened to it."""
    failed = (
        Reason.QUARANTINED,
        Reason.TIMEOUT,
        Reason.SPOOL,
        Reason.INTERNAL,
        Reason.UNREADABLE,
        Reason.DATABASE,
        Reason.TRANSFORM,
    )
    return FileState.FAILED if code in failed else FileState.REFUSED
