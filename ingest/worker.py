"""Slice in, staged batch out: a pure function of (slice, layout, target format), run by the workers of the pool.

Opens no database, holds nothing between two tasks, and returns every failure as a value: an exception that
left a task could hang the pool for ever (one that does not unpickle, a SystemExit).
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import sqlite3
import time
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest import (
    apart,
    dialects,
    extras,
    inference,
    opening,
    ragged,
    reader,
    rescuing,
    sifting,
    spool,
    transforming,
)
from ingest import columns as typing_
from ingest.discards import together
from ingest.errors import SourceError, file_of
from ingest.jobs import (
    LOAD_DATA,
    PREVIEW,
    PROFILE,
    SQLITE,
    STAGE,
    Failure,
    Job,
    Layout,
    MemberCount,
    Result,
    Task,
    Undecoded,
)
from ingest.model import LINEAGE_COLUMN, RECORD_COLUMN, Column, ColumnType, Origin, Reason, Reject
from ingest.profiles import ColumnProfile, merge
from ingest.targets import staging

PREVIEW_BYTES = 4 * 1024 * 1024
"""How much of a file's head the transform is tried on, to see which columns it returns."""

UNDECODED_SAMPLE = 4096
"""Bytes from a record that is not UTF-8 on: enough to tell one encoding from others."""

STAGES = 8
"""Stage files of one step: SQLite attaches at most 10 databases to a transaction."""


class _Split(Exception):
    """Something unusual in a bundle: its files must be done one by one."""


def run(task: Task, worker: int = 0) -> Result:
    """Do one task as the worker of this number. Never raises."""
    began = time.perf_counter()
    try:
        result = _profile(task) if task.job.kind in (PROFILE, PREVIEW) else _stage(task, worker)
    except reader.Unproven:
        result = _result(task, unproven=not task.job.bundle, split=task.job.bundle)
    except _Split:
        result = _result(task, split=True)
    except SourceError as error:
        # One bad file in a bundle must not take the others with it.
        failure = Failure(code=Reason(error.code), message=error.message, hint=error.hint)
        result = _result(task, split=True) if task.job.bundle else _result(task, failure=failure)
        result = dataclasses.replace(result, spent=_exhausted(error.__cause__))
    except BaseException as error:
        result = _result(task, split=True) if task.job.bundle else _result(task, failure=_unexpected(task, error))
        # The want of memory shows in many ways: modules that cannot be loaded, threads that cannot be started.
        result = dataclasses.replace(result, spent=not isinstance(error, OSError) or _exhausted(error))
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


def _result(task: Task, **fields: Any) -> Result:
    return Result(job_id=task.job.job_id, slice=task.slice, prefix_sha256=task.prefix_sha256, **fields)


def _exhausted(error: BaseException | None) -> bool:
    """Whether this process lacks something that only its end gives back."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.EMFILE, errno.ENOMEM)
    return isinstance(error, MemoryError)


def _unexpected(task: Task, error: BaseException) -> Failure:
    # The text of an exception may quote a cell; its type and place may not.
    place = traceback.extract_tb(error.__traceback__)[-1]
    trace = "".join(traceback.format_tb(error.__traceback__))
    folder = os.path.dirname(task.stem)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # of a stage for SQLite
    full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
    unwritable = full or code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    # Arrow and SQLite put sentences of their own in the place of the system's.
    why = os.strerror(errno.ENOSPC if full else getattr(error, "errno", None) or errno.EIO)
    if unwritable or (isinstance(error, OSError) and _in_spool(error, folder)):
        return Failure(
            code=Reason.SPOOL,
            message=f"{task.job.source.display}: its rows cannot be written to the spool in {folder}: {why}.",
            hint=f"{'Free some space' if full else 'Mend that'}, or choose another place with --spool DIR.",
            trace=trace,
        )
    if isinstance(error, OSError):
        return Failure(code=Reason.UNREADABLE, message=f"{task.job.source.display}: {why}.", trace=trace)
    kind = "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    return Failure(
        code=Reason.CONSTRAINT if "Integrity" in kind else Reason.INTERNAL,
        message=f"{task.job.source.display}: {kind} in {os.path.basename(place.filename)}, {place.name}.",
        trace=trace,
    )


def _in_spool(error: OSError, folder: str) -> bool:
    """Whether it is about a file of the spool, or about the spool, which somebody has removed."""
    return file_of(error).startswith(folder) or not os.path.isdir(folder)


# reading --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Text:
    """The text of a task."""

    parsed: reader.Parsed
    data: bytes
    members: tuple[MemberCount, ...]
    rows: _Rows
    base_lines: int = 0


@dataclasses.dataclass(slots=True)
class _Rows:
    """The records of a task that are rows, as text, and what became of others that were split well."""

    table: pa.Table  #: with the rescue column as the last, where there is one
    numbers: npt.NDArray[np.int64] | None  #: the record of each row; None: row i is record i
    bad: list[tuple[int, Any]]  #: records that are not to be loaded, and why
    discarded: int


def _read(task: Task) -> _Text:
    job, slice_ = task.job, task.slice
    first = job.members[0]
    width, rules = job.layout.width, job.layout.rules
    if job.bundle:
        data, members = _read_bundle(job)
        parsed = reader.read(data, width, first.header.dialect, null=job.layout.null, rules=rules)
        if parsed.rejects or parsed.records != sum(m.records for m in members):
            raise _Split
        return _Text(parsed=parsed, data=data, members=members, rows=_rows(job, parsed))
    data = reader.load_bytes(job.source, slice_)
    if slice_.spooled is not None:
        spool.remove(slice_.spooled)  # whoever wants it again has the file decoded again
    sha256, base_lines = None, 0
    if slice_.index == 0:
        digest, base_lines = opening.before(job.source, job.encoding, slice_.start)
        if job.kind == STAGE and job.whole:
            digest.update(data)
            sha256 = digest.hexdigest()
    below = extras.tail(data, first.header) if slice_.last else None
    if below is not None:
        data = data[: below.start]
    parsed = reader.read(
        data,
        width,
        first.header.dialect,
        null=job.layout.null,
        rules=rules,
        exact=slice_.exact,
        after_broken=slice_.after_broken,
        proven=slice_.first and slice_.last,
        rows=first.header.rows,
    )
    if below is not None:
        parsed.records += sum(below.discards.values())
        parsed.lines += below.lines
        parsed.discards = together(parsed.discards, below.discards)
    members = (MemberCount(file_id=first.file_id, records=parsed.records, rows=parsed.table.num_rows, sha256=sha256),)
    return _Text(parsed=parsed, data=data, members=members, rows=_rows(job, parsed), base_lines=base_lines)


def _rows(job: Job, parsed: reader.Parsed) -> _Rows:
    """The rows of what was split: without those that are none, and with the rescue column."""
    layout = job.layout
    raw = job.members[0].header.names
    names = [raw[i] if (column := layout.columns[i]) is None else column.name for i in range(layout.width)]
    sifted = sifting.sift(parsed.table, names, layout.rules, parsed.kept, parsed.fit)
    numbers, table = _kept(parsed.kept, sifted.kept), sifted.table
    if layout.rules.rescue:
        column = rescuing.column(table, layout.rescued, parsed.fit.extras, numbers, names)
        table = table.append_column(str(layout.width), column)
    bad = _bad_records(sifted.bad, parsed.kept)
    return _Rows(table=table, numbers=numbers, bad=bad, discarded=sifted.discarded)


def _read_bundle(job: Job) -> tuple[bytes, tuple[MemberCount, ...]]:
    """The data of several small files with the same header as one buffer, and how many records each has."""
    parts: list[bytes] = []
    members: list[MemberCount] = []
    dialect = job.members[0].header.dialect
    end = dialect.separator
    special = [each.encode() for each in (dialect.quote, dialect.escape, "\r") if each]
    for member in job.members:
        whole = reader.read_file(member.source)
        data = whole[member.header.data_start :]
        if dialect.escape and data.endswith(dialect.escape.encode()):
            raise _Split  # what is put behind it would be escaped
        below = extras.tail(data, member.header)
        data, among = reader.without_extras(data[: below.start] if below else data, dialect, member.header.rows)
        if job.numbered and among:
            raise _Split  # what is left out has a number, too
        if not data.endswith(end):
            data += end
        if any(each in data for each in special) or data.startswith(end) or end * 2 in data:
            count = reader.count_records(data, dialect)
            if count is None:
                raise _Split
        else:
            count = data.count(end)
        parts.append(data)
        sha256 = hashlib.sha256(whole).hexdigest()
        discards = together(among, below.discards if below else {})
        members.append(MemberCount(file_id=member.file_id, records=count, rows=count, sha256=sha256, discards=discards))
    return b"".join(parts), tuple(members)


# profiles -------------------------------------------------------------------------------------------------------


def _profile(task: Task) -> Result:
    job = task.job
    if job.kind == PREVIEW:
        return _result(task, profiles=_preview(task))
    if job.sample is not None:
        return _result(task, profiles=_profile_sample(job))
    text = _read(task)
    profiles = _profiles(text.rows.table, job.layout)
    return _result(
        task,
        records=text.parsed.records,
        profiles=profiles,
        nulls=tuple(column.null_count for column in text.parsed.table.columns),
        apart=apart.kinds(text.parsed.table, profiles, [m.records for m in text.members], job.layout.columns)
        if job.bundle
        else (),
        broken=text.parsed.ends_broken,
    )


def _profiles(table: pa.Table, layout: Layout) -> list[ColumnProfile]:
    """What the values look like, and how many do not fit the columns that are there."""
    profiles = inference.profile(table, layout.columns)
    for number, column in enumerate(layout.columns):
        if column is not None and column.type is not ColumnType.TEXT:
            faults = typing_.convert(table.column(number), column).faults
            misfits = sum(len(fault.rows) for fault in faults if fault.code is not Reason.NOT_NULL)
            profiles[number] = dataclasses.replace(profiles[number], misfits=misfits)
    return profiles


def _profile_sample(job: Job) -> list[Any]:
    """Profiles of `job.sample` bytes of a file: its head, its tail, and places between them.

    A window inside the file starts after a line end, which may lie in a quoted field: what is misread there
    makes a type wider or a later value a reject, never a wrong row.
    """
    header, sample = job.members[0].header, job.sample or 0
    width = job.layout.width
    separator = header.dialect.separator
    profiles = [ColumnProfile() for _ in range(width)]
    with opening.open_decoded(job.source, job.encoding) as stream:
        data_bytes = job.source.size - header.data_start
        seekable = job.source.seekable(job.encoding) and data_bytes > sample
        windows = max(2, min(16, sample // (64 * 1024))) if seekable else 1
        window = sample // windows
        for number in range(windows):
            offset = header.data_start
            if number:
                offset += (data_bytes - window) * number // (windows - 1)
            stream.seek(offset)
            data = stream.read(window)
            if number:
                data = data[data.find(separator) + 1 :]
            if offset + window < job.source.size or not seekable:
                data = data[: data.rfind(separator) + 1] or data
            elif (below := extras.tail(data, header)) is not None:
                data = data[: below.start]
            if not data:
                continue
            parsed = reader.read(
                data,
                width,
                header.dialect,
                null=job.layout.null,
                rules=job.layout.rules,
                exact=True,
                rows=header.rows,
            )
            found = _profiles(_rows(job, parsed).table, job.layout)
            profiles = [merge(a, b) for a, b in zip(profiles, found, strict=True)]
    return profiles


def _preview(task: Task) -> tuple[Column, ...]:
    """The columns that the transform returns for the head of a file."""
    job = task.job
    header = job.members[0].header
    with opening.open_decoded(job.source, job.encoding) as stream:
        stream.seek(header.data_start)
        data = stream.read(PREVIEW_BYTES)
    if len(data) == PREVIEW_BYTES:
        data = data[: data.rfind(header.dialect.separator) + 1] or data
    elif (below := extras.tail(data, header)) is not None:
        data = data[: below.start]
    layout = job.layout
    parsed = reader.read(
        data, layout.width, header.dialect, null=layout.null, rules=layout.rules, exact=True, rows=header.rows
    )
    typed = _typed(_rows(job, parsed).table, layout)
    table, _ = transforming.transformed(task, transforming.filtered(job, typed.table)[0])
    return tuple(
        Column(
            name=str(name),
            type=typing_.column_type(table.schema.field(i).type),
            origin=Origin.UNDECIDED if table.column(i).null_count == table.num_rows else Origin.TRANSFORM,
        )
        for i, name in enumerate(table.column_names)
    )


# staging --------------------------------------------------------------------------------------------------------


def _typed(text: pa.Table, layout: Layout) -> typing_.Typed:
    wanted = [i for i, column in enumerate(layout.columns) if column is not None]
    chosen = [column for column in layout.columns if column is not None]
    return typing_.convert_table(text.select(wanted), chosen, as_written=_as_written(layout))


def _as_written(layout: Layout) -> frozenset[ColumnType]:
    """The types whose values are staged as text anyway, and are looked at by nobody before."""
    if layout.transform is not None or layout.stage_format not in (SQLITE, LOAD_DATA):
        return frozenset()
    if layout.stage_format == SQLITE or layout.where is not None or layout.merge is not None:
        return frozenset({ColumnType.DATE})  # conditions are taught to read those
    return frozenset({ColumnType.DATE, ColumnType.BIGINT, ColumnType.DOUBLE})


def _stage(task: Task, worker: int) -> Result:
    job, slice_, layout = task.job, task.slice, task.job.layout
    text = _read(task)
    parsed = text.parsed
    rejects = list(parsed.rejects)
    # `numbers` holds the record number of each row of `batch`, None while row i is record i.
    numbers = text.rows.numbers
    typed = _typed(text.rows.table, layout)
    bad = text.rows.bad + _bad_records(typed.bad, numbers)
    numbers = _kept(numbers, typed.kept)
    batch = typed.table
    discarded = text.rows.discarded + sum(parsed.discards.values())
    if layout.where is not None:
        taken = batch.num_rows
        batch, positions = transforming.filtered(job, batch)
        numbers = _kept(numbers, positions)
        discarded += taken - batch.num_rows
    if layout.transform is not None:
        returned, positions = transforming.transformed(task, batch)
        discarded += batch.num_rows - len(positions)
        numbers = _kept(numbers, positions)
        fitted = transforming.to_table(returned, layout)
        bad += _bad_records(fitted.bad, numbers)
        numbers = _kept(numbers, fitted.kept)
        batch = fitted.table
    if job.bundle and (bad or rejects):
        raise _Split
    rejected = len(rejects) + len(bad)
    rejects = sorted(rejects + _placed(task, text, bad), key=lambda r: r.record)
    rows = batch.num_rows
    if parsed.records != rows + rejected + discarded:
        raise SourceError(
            f"{job.source.display}: {parsed.records} records became {rows} rows, {rejected} rejects and "
            f"{discarded} discarded.",
            code=Reason.COUNTS,
            hint="Nothing of it was loaded. This is an error of this program: please report it.",
        )
    ids = np.array([m.file_id for m in text.members], dtype=np.int64)
    which = np.repeat(np.arange(len(ids)), [m.records for m in text.members])
    which = which if numbers is None else which[numbers]
    members = text.members
    if job.bundle:
        per_file = np.bincount(which, minlength=len(ids))
        members = tuple(dataclasses.replace(m, rows=int(n)) for m, n in zip(members, per_file, strict=True))
    else:
        members = (dataclasses.replace(members[0], rows=rows),)
    if parsed.fit.ways:
        members = _with_fitted(members, parsed.fit, numbers)
    staged, size = None, 0
    if rows and not job.dry:
        assert layout.shape is not None
        if job.lineage:
            batch = batch.append_column(
                LINEAGE_COLUMN, transforming.bigints(ids[which] if job.bundle else np.full(rows, ids[0]))
            )
        if job.numbered:
            batch = batch.append_column(RECORD_COLUMN, transforming.bigints(_record_numbers(task, text, numbers)))
        staged = staging.stage(
            layout.stage_format, batch, layout.shape, stem=_stem(task, worker), name=str(slice_.index)
        )
        apart = layout.merge is not None and distinct(batch, layout.merge.key)
        staged = dataclasses.replace(staged, columns=tuple(batch.column_names), distinct=apart)
        size = batch.nbytes
    return _result(
        task,
        records=parsed.records,
        rows=rows,
        discarded=discarded,
        discards=parsed.discards,
        rejected=rejected,
        misfits=tuple({cell.column for _, cell in bad if cell.code is not Reason.NOT_NULL}),
        lines=parsed.lines,
        base_lines=text.base_lines,
        broken=parsed.ends_broken,
        exact=parsed.exact,
        undecoded=_undecoded(task, text),
        kept=_write_kept(task, numbers) if staged is not None and numbers is not None else None,
        members=members,
        staged=staged,
        staged_bytes=size,
        rejects_path=_write_rejects(task, rejects) if rejects else None,
        advice=_advice(task, parsed.rejects),
    )


def distinct(batch: pa.Table, key: tuple[str, ...]) -> bool:
    """Whether no two rows have the same key, as far as can be told here: of texts each database has its own idea."""
    columns = batch.select(list(key))
    if not all(pa.types.is_integer(column.type) or pa.types.is_date(column.type) for column in columns.itercolumns()):
        return False
    return bool(columns.group_by(list(key), use_threads=False).aggregate([]).num_rows == batch.num_rows)


def _with_fitted(
    members: tuple[MemberCount, ...], fitted: ragged.Fit, numbers: npt.NDArray[np.int64] | None
) -> tuple[MemberCount, ...]:
    """How many of the rows of each member were made of ragged records."""
    counted, end = [], 0
    for member in members:
        start, end = end, end + member.records
        ways = {number: way for number, way in fitted.ways.items() if start <= number < end}
        counted.append(dataclasses.replace(member, fitted=ragged.count(ways, numbers)))
    return tuple(counted)


def _undecoded(task: Task, text: _Text) -> Undecoded | None:
    first = next((reject for reject in text.parsed.rejects if reject.code is Reason.BAD_BYTE), None)
    if first is None:
        return None
    sample = text.data[first.byte : first.byte + UNDECODED_SAMPLE]
    return Undecoded(line=first.line, byte=task.slice.start + first.byte, sample=sample)


def _record_numbers(task: Task, text: _Text, numbers: Any) -> npt.NDArray[np.int64]:
    """The number of each row's record within its own file."""
    if task.job.record_numbers:
        own = np.array(task.job.record_numbers, dtype=np.int64)
        return own if numbers is None else own[numbers]
    counts = [member.records for member in text.members]
    ends = np.cumsum(counts)
    own = np.arange(ends[-1], dtype=np.int64) - np.repeat(ends - counts, counts) + task.slice.first_record
    return own if numbers is None else own[numbers]


def _stem(task: Task, worker: int) -> str:
    """One stage a (job, step, worker): a worker appends to its own, and a transaction attaches few."""
    return f"{task.stem}-s{task.slice.step}-w{worker % STAGES}"


def _kept(numbers: Any, kept: Any) -> Any:
    if kept is None:
        return numbers
    return kept if numbers is None else numbers[kept]


def _bad_records(bad: Sequence[Any], numbers: Any) -> list[tuple[int, Any]]:
    return [(cell.row if numbers is None else int(numbers[cell.row]), cell) for cell in bad]


def _placed(task: Task, text: _Text, bad: list[tuple[int, Any]]) -> list[Reject]:
    """Rejects for records whose values do not fit, with their place and text looked up."""
    if not bad:
        return []
    bad = sorted(bad, key=lambda pair: pair[0])
    limit = task.job.reject_limit
    dialect = task.job.members[0].header.dialect
    plain = not dialect.escape and len(dialect.delimiter) == 1  # what was split are the bytes of the slice themselves
    places = reader.locate(
        text.data,
        dialect,
        [record for record, _ in bad[:limit]],
        exact=task.slice.exact or text.parsed.exact,
        after_broken=task.slice.after_broken,
        known=text.parsed.split if plain else None,
    )
    return [
        Reject(
            code=cell.code,
            message=cell.message,
            line=line,
            byte=byte,
            record=record,
            column=cell.column,
            text=raw,
        )
        for (record, cell), (line, byte, raw) in zip(bad, places, strict=False)
    ]


def _advice(task: Task, rejects: Sequence[Reject]) -> str:
    """What to type where records do not split as the dialect says, and some would in another."""
    dialect, width = task.job.members[0].header.dialect, len(task.job.layout.columns)
    torn = [reject for reject in rejects if reject.code in (Reason.BROKEN_QUOTE, Reason.RAGGED)]
    advised = (dialects.advice(reject.text.encode(), dialect, width) for reject in torn[:20])
    return next(filter(None, advised), "")


def _write_rejects(task: Task, rejects: list[Reject]) -> str:
    """One JSON object a line; lines and records still count from the slice's start, bytes from the file's."""
    path = f"{task.stem}-{task.slice.index}.rejects"
    with open(path, "w", encoding="ascii") as file:
        for reject in rejects:
            fields = {name: getattr(reject, name) for name in Reject.__slots__}  # `asdict` copies: five times as long
            fields["byte"] += task.slice.start
            file.write(json.dumps(fields) + "\n")
    return path


def _write_kept(task: Task, numbers: npt.NDArray[np.int64]) -> str:
    """The record number of each staged row, for whoever has to tell which record a row was."""
    path = f"{task.stem}-{task.slice.index}.kept.npy"
    np.save(path, numbers)
    return path
