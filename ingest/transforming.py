"""What the user does with a batch before it is staged: the condition of `--where`, and the transform.

Their errors become a sentence that quotes no cell.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest import columns as typing_
from ingest import filtering, naming, opening
from ingest.errors import SourceError
from ingest.jobs import Job, Layout, Task
from ingest.model import OWN_COLUMNS, Reason


def bigints(numbers: npt.NDArray[np.int64]) -> Any:
    """An Arrow column of these; `pa.array` would import pandas, 0.2 s in every worker."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(np.ascontiguousarray(numbers))])


def filtered(job: Job, batch: pa.Table) -> tuple[pa.Table, npt.NDArray[np.int64] | None]:
    """The rows of a batch for which `--where` is true, and which these are; None: all of them."""
    layout = job.layout
    if layout.where is None:
        return batch, None
    if layout.transform is not None or layout.shape is None:
        columns = [column for column in layout.columns if column is not None]
    else:
        columns = list(layout.shape.columns)
    try:
        kept = filtering.kept(filtering.parse(layout.where), batch, columns)
    except Exception as error:  # its text may quote a cell
        raise SourceError(
            f"--where {layout.where!r} cannot be asked of {job.source.display}: {type(error).__name__}.",
            code=Reason.TRANSFORM,
            hint="Nothing of the file was loaded.",
        ) from error
    return (batch, None) if len(kept) == batch.num_rows else (batch.take(bigints(kept)), kept)


def transformed(task: Task, batch: pa.Table) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """What the transform made of a batch, and which of its rows that are."""
    import pandas as pd

    name = task.job.layout.transform or ""
    frame = batch.to_pandas(types_mapper=pd.ArrowDtype)
    # From 1: an index that was thrown away and made anew starts from 0, and is found out.
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    function = load_transform(name)
    try:
        result = function(frame)
    except BaseException as error:
        # Only texts that name attributes or variables are repeated: others may quote a cell, a KeyError, too.
        text = f" ({error})" if isinstance(error, (AttributeError, NameError)) else ""
        raise _broken(task, batch, f"raised {type(error).__name__}{text}{_place(function, error)}") from error
    if not isinstance(result, pd.DataFrame):
        raise _broken(task, batch, f"returned {type(result).__name__}, not a DataFrame")
    positions = _positions(result.index, batch.num_rows)
    if positions is None:
        raise _broken(
            task,
            batch,
            "returned rows whose index is not that of its input",
            "Keep the frame's index: a row may be changed or dropped, not added (no reset_index, no explode).",
        )
    if len(result) and not len(result.columns):
        raise _broken(task, batch, "returned rows without a column", "To drop rows, return none of them.")
    try:
        table = pa.Table.from_pandas(result, preserve_index=False)
        if len(set(table.column_names)) < table.num_columns:  # 1 and "1" are two names to pandas
            raise ValueError
    except (pa.ArrowException, TypeError, ValueError) as error:  # their texts quote cells
        raise _broken(
            task, batch, "returned a column that mixes types or repeats a name", "Give each column one type."
        ) from error
    except OverflowError as error:
        hint = "Return it as text, as a float or as a Decimal."
        raise _broken(task, batch, "returned an integer beyond 64 bits", hint) from error
    return table, positions


def _broken(task: Task, batch: pa.Table, what: str, hint: str = "Mend the function.") -> SourceError:
    _, before = opening.before(task.job.source, task.job.encoding, task.slice.start)
    where = f"{task.job.source.display}, the {batch.num_rows} records from line {before + 1} on"
    return SourceError(
        f"the transform {task.job.layout.transform} {what}, for {where}.",
        code=Reason.TRANSFORM,
        hint=f"{hint} Nothing of the file was loaded; run the same command again when that is done.",
    )


def _place(function: Any, error: BaseException) -> str:
    """The line of the user's own module that an exception came through, not the library's below it."""
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    places = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    return f" at line {places[-1].lineno} of {os.path.basename(places[-1].filename)}" if places else ""


def load_transform(name: str) -> Any:
    """The function behind MODULE:FUNCTION. The working directory can be imported from, as with `python -m`."""
    module, _, function = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"the transform {name} cannot be imported: {type(error).__name__}, {error}.",
            code=Reason.TRANSFORM,
            hint="Write --transform MODULE:FUNCTION, the module importable from the working directory.",
        ) from error


def _positions(index: Any, rows: int) -> npt.NDArray[np.int64] | None:
    """Which rows of the batch the transform kept, by the index of what it returned; None if that is another."""
    if index.dtype.kind not in "iu":
        return None if len(index) else np.zeros(0, dtype=np.int64)
    positions: npt.NDArray[np.int64] = index.to_numpy().astype(np.int64) - 1
    fits = index.is_unique and (not len(positions) or 0 <= positions.min() <= positions.max() < rows)
    return positions if fits else None


def to_table(returned: pa.Table, layout: Layout) -> typing_.Typed:
    """What the transform returned, in the table's columns and types."""
    assert layout.shape is not None
    known = {c.name: c for c in layout.shape.columns if c.name not in OWN_COLUMNS}
    names = naming.match_columns(returned.column_names, list(known))
    unknown = [name for name, column in names.items() if column is None]
    if unknown and not layout.ignore_new:
        raise SourceError(
            f"the transform {layout.transform} returned the column {unknown[0]!r}, which the table "
            f"{layout.shape.table} does not have and the first batch did not show.",
            code=Reason.TRANSFORM,
            hint="Return the same columns for every batch.",
        )
    chosen = {name: column for name, column in names.items() if column is not None}
    renamed = returned.select(list(chosen)).rename_columns(list(chosen.values()))
    return typing_.fit(renamed, [known[column] for column in chosen.values()])
