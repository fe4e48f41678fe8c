"""Records that were split well and are no rows all the same: a field is too long, or there is no value at all.

Looks at columns of text in memory, and at their offsets and counts only: what is as it should be costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingest.cells import Integers, contiguous, lengths, mask_array, valid_rows
from ingest.columns import BadCell
from ingest.model import Reason, RecordRules
from ingest.ragged import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """What is left."""

    table: Any  #: pa.Table
    kept: Integers | None = None  #: numbers of its rows in the table that came in; None: all
    bad: tuple[BadCell, ...] = ()  #: with a field that is too long, by row
    discarded: int = 0  #: rows without a value that are to be left out


def sift(table: Any, names: Sequence[str], rules: RecordRules, numbers: Integers | None, fit: Fit) -> Sifted:
    """A table of text without the rows that are none; `names` of its columns are for messages.

    `numbers` are the records of its rows (None: row i is record i), by which `fit` has values beyond the columns.
    """
    bad = _too_long(table, names, rules, numbers, fit)
    drop = np.zeros(table.num_rows, dtype=np.bool_)
    if rules.discard_empty:
        drop = _empty(table)
        if fit.extras:
            drop[_rows(numbers, list(fit.extras))] = False
    discarded = int(np.count_nonzero(drop))
    if not bad and not discarded:
        return Sifted(table=table)
    drop[[cell.row for cell in bad]] = True
    kept = ~drop
    return Sifted(table=table.filter(mask_array(kept)), kept=np.flatnonzero(kept), bad=bad, discarded=discarded)


def _too_long(
    table: Any, names: Sequence[str], rules: RecordRules, numbers: Integers | None, fit: Fit
) -> tuple[BadCell, ...]:
    limit = rules.max_field
    if limit is None:
        return ()
    found: dict[int, BadCell] = {}
    for name, column in zip(names, table.columns, strict=True):
        if _size(column) <= limit:
            continue  # nothing in it can be longer
        counted = lengths(contiguous(column))
        for row in np.flatnonzero(counted > limit).tolist():
            message = f"a field of {counted[row]:,} bytes in column {name!r}; --max-field allows {limit:,}"
            found.setdefault(row, BadCell(row=row, column=name, code=Reason.TOO_LONG, message=message))
    for number, extras in fit.extras.items():
        longest = max(len(value.encode()) for value in extras.values())
        if longest > limit:
            row = int(_rows(numbers, [number])[0])
            message = f"a field of {longest:,} bytes beyond the last column; --max-field allows {limit:,}"
            found.setdefault(row, BadCell(row=row, column=None, code=Reason.TOO_LONG, message=message))
    return tuple(found[row] for row in sorted(found))


def _size(column: Any) -> int:
    """Bytes of all values of a column: no more than those that its first and last offset enclose."""
    size = 0
    for chunk in column.chunks:
        if len(chunk):
            edges = np.frombuffer(chunk.buffers()[1], dtype=np.int32, count=len(chunk) + 1, offset=4 * chunk.offset)
            size += int(edges[-1] - edges[0])
    return size


def _empty(table: Any) -> Any:
    """One flag a row: all of it is NULL."""
    empty = np.ones(table.num_rows, dtype=np.bool_)
    for column in sorted(table.columns, key=lambda one: one.null_count):
        if not column.null_count or not empty.any():
            return np.zeros(table.num_rows, dtype=np.bool_)
        empty &= ~valid_rows(contiguous(column))
    return empty


def _rows(numbers: Integers | None, records: Sequence[int]) -> Any:
    """The rows of these records."""
    wanted = np.array(records, dtype=np.int64)
    return wanted if numbers is None else np.searchsorted(numbers, wanted)
