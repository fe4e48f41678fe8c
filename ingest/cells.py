"""The bytes of Arrow's texts, for numpy: how many, where each begins and ends, and how plain numbers are written.

Works on Arrow data in memory. Decides nothing. Arrow's own ways to and from numpy and Python scalars import pandas
where it is installed, 0.3 s of CPU a process, so there are others here (test_conversion_does_not_import_pandas).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.profiles import EXACT_DIGITS

Mask = NDArray[np.bool_]
Integers = NDArray[np.signedinteger[Any]]

EXACT_DECIMALS = 300
"""Digits after the point that keep a number of 15 digits out of the subnormals (below 1e-307), which lose digits."""

FIRST_DAY = -719_162
"""0001-01-01 in days from 1970-01-01: the first day that Python and the databases have; Arrow also reads year 0."""

DAY_US = 86_400_000_000
FIRST_US = FIRST_DAY * DAY_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The bytes of a column's values, nulls and empty ones left out, one after the other."""

    data: NDArray[np.uint8]
    starts: Integers  #: offset of each value's first byte in `data`
    ends: Integers
    rows: Integers | None  #: row number of each value, None when no row was left out

    @classmethod
    def of(cls, array: Any) -> Cells:
        """The cells of a pa.StringArray, which may be a slice of a larger one."""
        rows = None
        if array.null_count:
            rows = np.flatnonzero(valid_rows(array))
            # The bytes under a null need not be empty.
            array = array.drop_null()
        edges = offsets(array)
        data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)[edges[0] : edges[-1]]
        if edges[0]:
            edges = edges - edges[0]
        starts, ends = edges[:-1], edges[1:]
        full = ends > starts
        if not full.all():
            rows = np.flatnonzero(full) if rows is None else rows[full]
            starts, ends = starts[full], ends[full]
        return cls(data=data, starts=starts, ends=ends, rows=rows)

    def spread(self, mask: Mask, count: int) -> Mask:
        """A flag a value as a flag a row, of `count` rows."""
        if self.rows is None:
            return mask
        spread = np.zeros(count, dtype=np.bool_)
        spread[self.rows] = mask
        return spread


@dataclass(frozen=True, slots=True)
class Numbers:
    """How plain numbers are written, one entry a value: an optional minus, digits, at most one point."""

    cells: Cells
    points: Integers  #: offset of the point; the value's end where there is none
    negative: Mask
    whole: Integers  #: digits before the point
    decimals: Integers  #: digits after it
    padded: Mask  #: has leading zeros: 007, 00.5
    bare: Mask  #: begins or ends with a point: .5, 5.

    @classmethod
    def of(cls, cells: Cells) -> Numbers | None:
        """None unless every value is a plain number."""
        data, starts, ends = cells.data, cells.starts, cells.ends
        # Unsigned bytes wrap: all but the ten digits end above 9.
        marks = np.flatnonzero((data - np.uint8(ord("0"))) > 9)
        points_at = marks[data[marks] == ord(".")].astype(starts.dtype)
        negative = data[starts] == ord("-")
        if len(points_at) + np.count_nonzero(negative) != len(marks):
            return None
        points = ends
        if len(points_at) == len(ends) and bool(((points_at >= starts) & (points_at < ends)).all()):
            points = points_at
        elif len(points_at):
            owners = np.searchsorted(starts, points_at, side="right") - 1
            if (owners[1:] == owners[:-1]).any():
                return None
            points = ends.copy()
            points[owners] = points_at
        first = starts + negative if len(marks) > len(points_at) else starts
        whole = points - first
        bare = whole == 0
        decimals = np.zeros_like(whole)
        if len(points_at):
            pointed = points < ends
            decimals = ends - points - pointed
            bare |= pointed & (decimals == 0)
        if bare.any() and (whole + decimals == 0).any():
            return None
        padded = (data[first] == ord("0")) & (whole > 1)
        return cls(cells, points, negative, whole, decimals, padded, bare)

    def inexact(self) -> Mask:
        """Values that a double may not give back: over 15 significant digits, or so small that digits are lost."""
        mask: Mask = self.decimals > EXACT_DECIMALS
        long = np.flatnonzero(self.whole + self.decimals > EXACT_DIGITS)
        if len(long):
            data, starts, ends, points = (
                self.cells.data,
                self.cells.starts[long],
                self.cells.ends[long],
                self.points[long],
            )
            nonzero = np.append(np.flatnonzero((data > ord("0")) & (data <= ord("9"))), len(data))
            first = nonzero[np.searchsorted(nonzero, starts)]
            significant = ends - first - ((first < points) & (points < ends))
            mask[long] |= significant > EXACT_DIGITS
        return mask

    def negative_zero(self) -> Mask:
        """-0, without decimals."""
        mask: Mask = self.negative & (self.whole == 1) & (self.decimals == 0)
        mask[mask] = self.cells.data[self.cells.ends[mask] - 1] == ord("0")
        return mask

    def ends_in_zero(self) -> Mask:
        """Values whose last decimal is a zero: 1.10."""
        mask: Mask = (self.decimals > 0) & (self.cells.data[self.cells.ends - 1] == ord("0"))
        return mask


def contiguous(text: Any) -> Any:
    """One pa.StringArray of a pa.Array or pa.ChunkedArray of any kind of string."""
    if isinstance(text, pa.ChunkedArray):
        text = text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()
    return text if text.type == pa.string() else text.cast(pa.string())


def flags(array: Any) -> Mask:
    """The bits of a pa.BooleanArray; what stands under a null is undefined."""
    bits = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)].view(np.bool_)


def valid_rows(array: Any) -> Mask:
    """One flag a row: the value is not null."""
    return flags(array.is_valid())


def mask_array(mask: Mask) -> Any:
    """The mask as a pa.BooleanArray."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(np.packbits(mask, bitorder="little"))])


def row_array(rows: Integers) -> Any:
    """Row numbers as a pa.Int64Array."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def without(array: Any, mask: Mask) -> Any:
    """The array with null where the mask is set."""
    return pc.if_else(mask_array(mask), pa.nulls(1, array.type)[0], array) if mask.any() else array


def lengths(array: Any) -> Integers:
    """Bytes of each value of a pa.StringArray; 0 for null."""
    return np.diff(offsets(array)) * valid_rows(array) if array.null_count else np.diff(offsets(array))


def offsets(array: Any) -> Integers:
    if len(array) == 0:
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array) + 1, offset=4 * array.offset)


def matches(array: Any, pattern: str) -> Mask:
    """One flag a row: the value matches; null does."""
    found = flags(pc.match_substring_regex(array, pattern))
    return found | ~valid_rows(array) if array.null_count else found


def underflows(array: Any, typed: Any) -> Mask:
    """Numbers that became 0, and are none."""
    mask: Mask = behind(typed, np.float64) == 0
    if mask.any():
        mask &= lengths(array) >= len("1e-324")  # no shorter one does
        rows = np.flatnonzero(mask)
        mask[rows] = matches(array.take(row_array(rows)), "^[^eE]*[1-9]")
    return mask


def behind(array: Any, kind: type[Any]) -> NDArray[Any]:
    """The numbers of a column as they lie in memory; what stands under a null is undefined."""
    return np.frombuffer(array.buffers()[1] or b"", dtype=kind)[array.offset : array.offset + len(array)]


def words(*texts: str) -> Any:
    """A pa.StringArray of these."""
    data = [text.encode() for text in texts]
    edges = np.cumsum([0, *map(len, data)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(edges), pa.py_buffer(b"".join(data))])


def word(text: str) -> Any:
    """A pa.StringScalar: a Python string in its place would import pandas."""
    return words(text)[0]
