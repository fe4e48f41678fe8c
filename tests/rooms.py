"""The way of a file through the rooms, in this process: sniffed, sliced, read, typed as text, staged. No database.

What the pool, the crew and the writer do between the rooms is done here in the simplest way that is right: slices one
after the other, by the exact rules from the last confirmed border on where counting quotes proved nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest import worker
from ingest.jobs import ARROW, STAGE, Job, Layout, Member, Result, Task
from ingest.model import LINEAGE_COLUMN, Codec, Column, ColumnType, Header, Reason, Slice, Source, TableName, TableShape
from ingest.slicing import slices, whole

Row = tuple[str | None, ...]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a file's data."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)  #: as the worker writes them
    records: int = 0
    discarded: int = 0
    read: bytes = b""  #: the decoded bytes of all slices, in order
    refused: Reason | None = None


def through(source: Source, header: Header, spool: Path, *, slice_bytes: int | None = None) -> Outcome:
    """A file in slices of about `slice_bytes`, or in one. `spool` is left empty."""
    outcome = Outcome()
    layout = _layout(header)
    job = Job(
        job_id=0,
        kind=STAGE,
        members=(Member(source=source, header=header, file_id=1),),
        layout=layout,
        start=header.data_start,
        slice_bytes=slice_bytes or max(1, source.size),
        whole=slice_bytes is None and source.codec is Codec.PLAIN and header.dialect.encoding == "utf-8",
    )
    if job.whole:
        slice_ = whole(source, header)
        data = _bytes(job, slice_)
        result = _staged(job, slice_, spool)
        if not result.unproven:
            _take(outcome, job, result, data)
            return outcome
        job = replace(job, whole=False, exact=True)
    start, broken = header.data_start, False
    while True:
        confirmed = start
        for slice_, _ in slices(
            source,
            header,
            start=start,
            slice_bytes=job.slice_bytes,
            commit_bytes=None,
            exact=job.exact,
            after_broken=broken,
            spool=spool,
        ):
            data = _bytes(job, slice_)  # before the worker, which may clear away what was spooled
            result = _staged(job, slice_, spool)
            if result.unproven:
                assert not job.exact, "the exact rules prove every border"
                job = replace(job, exact=True)
                break
            _take(outcome, job, result, data)
            confirmed += slice_.length
            broken = broken or result.broken
            if outcome.refused is not None:
                return outcome
        else:
            _empty(spool)
            return outcome
        start = confirmed


def bundled(sources: Sequence[Source], header: Header, spool: Path) -> list[list[Row]] | None:
    """Small files as one bundle: the rows of each; None if they have to be done one by one."""
    members = tuple(Member(source=source, header=header, file_id=i) for i, source in enumerate(sources))
    job = Job(
        job_id=0,
        kind=STAGE,
        members=members,
        layout=_layout(header),
        start=0,
        slice_bytes=1,
        lineage=True,
    )
    slice_ = Slice(index=0, start=0, length=job.size, ends_step=True, first=True, last=True)
    result = _staged(job, slice_, spool)
    assert result.failure is None, result.failure
    if result.split:
        _empty(spool)
        return None
    found: list[list[Row]] = [[] for _ in sources]
    for *row, number in _rows(result):
        found[int(number or 0)].append(tuple(row))
    assert [member.rows for member in result.members] == list(map(len, found))
    _empty(spool)
    return found


def _layout(header: Header) -> Layout:
    columns = tuple(Column(name=f"c{i}", type=ColumnType.TEXT) for i, _ in enumerate(header.names))
    lineage = Column(name=LINEAGE_COLUMN, type=ColumnType.BIGINT)
    shape = TableShape(table=TableName(name="t"), columns=(*columns, lineage))
    return Layout(columns=columns, shape=shape, stage_format=ARROW)


def _staged(job: Job, slice_: Slice, spool: Path) -> Result:
    return worker.run(Task(job=job, slice=slice_, prefix_sha256="", stem=str(spool / "stage")))


def _bytes(job: Job, slice_: Slice) -> bytes:
    """The decoded bytes of a slice."""
    if slice_.spooled is not None:
        return Path(slice_.spooled).read_bytes()
    return Path(job.source.path).read_bytes()[slice_.start : slice_.start + slice_.length]


def _take(outcome: Outcome, job: Job, result: Result, data: bytes) -> None:
    """Add what became of a slice with these bytes."""
    if result.failure is not None:
        assert result.failure.code is not Reason.INTERNAL, (result.failure.message, result.failure.trace)
        outcome.refused = result.failure.code
        return
    assert result.slice.start == job.start + len(outcome.read), "slices cover the data without a gap"
    outcome.read += data
    outcome.rows += _rows(result)
    if result.rejects_path is not None:
        lines = Path(result.rejects_path).read_text(encoding="ascii").splitlines()
        outcome.rejects += [json.loads(line) for line in lines]
    outcome.records += result.records
    outcome.discarded += result.discarded


def _rows(result: Result) -> list[Row]:
    if result.staged is None:
        return []
    with pa.OSFile(result.staged.path) as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    return [tuple(row.values()) for row in table.to_pylist()]


def _empty(spool: Path) -> None:
    for path in spool.iterdir():
        path.unlink()
