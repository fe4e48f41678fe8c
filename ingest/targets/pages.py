"""Write a batch as b-tree pages of an SQLite file, without SQLite: the rules are few, and numpy follows them by column.

SQLite takes each value by a call of its own, 3 million for a file of 24 MB; pages built here cost a third of that
(docs/performance.md). The rules are those of SQLite's file format (fileformat2.html: 1.6 b-tree pages, 2.1 record
format) and of its column affinity (datatype3.html, 3.1). Whatever needs more than they say is `Unsuited`, and left
to SQLite: an index, a default, a value that the column's affinity would change, a record larger than its page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.cells import Cells, behind, flags, lengths, valid_rows, word

PAGE = 16_384
"""Bytes of a page: 10 % faster to copy from than the default of 4 KiB; 64 KiB are no faster."""

LOCK_PAGE = 2**30 // PAGE + 1
"""The page of byte 2^30 is SQLite's for its locks, and never used."""

LARGEST_RECORD = PAGE - 35
"""A larger record goes on in overflow pages."""

CHUNK = 16_384
"""Rows built at once: what is touched again and again stays in the processor's cache."""

LEAF, LEAF_HEAD = 0x0D, 8
INTERIOR, INTERIOR_HEAD = 0x05, 12

# Serial types (2.1): what a record's header says of a value.
NULL, DOUBLE, ZERO, TEXT = 0, 7, 8, 13
WIDTHS = np.array([0, 1, 2, 3, 4, 6, 8])
"""Bytes of a whole number by its serial type."""
LIMITS = (1 << 7, 1 << 15, 1 << 23, 1 << 31, 1 << 47)
"""From here on a whole number takes the next serial type."""

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class Unsuited(Exception):
    """Only SQLite itself may write this."""


Narrow = tuple[Bytes, NDArray[np.bool_] | None]
"""A few bytes a row: a matrix, and which of its places are used (None: all)."""


_NOTHING = word("").cast(pa.binary())


@dataclass(frozen=True, slots=True)
class _Values:
    """A column as records hold it: the serial type and the size of each value, and their bytes."""

    serials: Numbers
    sizes: Numbers
    part: Narrow | Any  #: Narrow, or a pa.BinaryArray


def append(path: str, definition: str, rename: str, name: str, batch: pa.Table) -> None:
    """Add a table with the rows of `batch`, in their order, to the SQLite file at `path`, which is made if need be.

    The table is made by the statements `definition` and `rename`, which gives it its `name`; the columns of `batch`
    are named as its own. Raises `Unsuited`, and leaves the file as it was, where SQLite itself has to do it.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A file that a crash leaves behind is never read, so nothing here is worth an fsync.
        for pragma in (f"page_size = {PAGE}", "journal_mode = MEMORY", "synchronous = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.execute(definition)
        connection.execute(rename)
        arrays = _arrays(connection, name, batch)
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute("COMMIT")
    with open(path, "r+b") as file:
        tree = _Tree(file, pages)
        for start in range(0, batch.num_rows, CHUNK):
            tree.add(_cells([array.slice(start, CHUNK) for array in arrays], start + 1), start + 1)
        tree.finish(root)


# what can be written ----------------------------------------------------------------------------------------------


def affinity(declared: str) -> str:
    """The affinity of a column by its declared type."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in declared or not declared:
        return "BLOB"
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _arrays(connection: sqlite3.Connection, name: str, batch: pa.Table) -> list[Any]:
    """The batch's columns in the order of the table's, each int64, float64, bool or string."""
    if connection.execute("SELECT 1 FROM pragma_index_list(?)", (name,)).fetchone():
        raise Unsuited("an index")
    if connection.execute("PRAGMA page_size").fetchone()[0] != PAGE:
        raise Unsuited("another page size")
    infos = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (name,)
    )
    arrays, known, largest = [], set(), np.zeros(batch.num_rows, dtype=np.int64)
    for column, declared, not_null, default, key, hidden in infos:
        known.add(column)
        there = column in batch.column_names
        array = _storable(batch.column(column), affinity(declared)) if there else pa.nulls(batch.num_rows, pa.int64())
        if key or hidden or (default is not None and not there) or (not_null and array.null_count):
            raise Unsuited("a key, a generated column, a default, or NULL where none may be")
        # At most so many bytes in the header and the body.
        largest += lengths(array) + 3 if pa.types.is_string(array.type) else 9
        arrays.append(array)
    if set(batch.column_names) != known & set(batch.column_names):
        raise Unsuited("a column that the table does not have by this very name")
    if len(largest) and largest.max() + 3 > LARGEST_RECORD:
        raise Unsuited("a record larger than a page")
    return arrays


def _storable(column: Any, affinity_: str) -> Any:
    """The column as SQLite stores it, given that the table's column changes none of its values."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = column.cast(kind := pa.string())
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_string(kind) and (affinity_ in ("TEXT", "BLOB") or _never_numbers(array)):
        return array
    if (pa.types.is_int64(kind) or pa.types.is_boolean(kind)) and affinity_ in ("INTEGER", "NUMERIC", "BLOB"):
        return array
    if pa.types.is_float64(kind) and affinity_ in ("REAL", "BLOB") and pc.all(pc.is_finite(array), min_count=0).as_py():
        return array
    raise Unsuited(f"{kind} in a column of {affinity_} affinity")


def _never_numbers(array: Any) -> bool:
    """Whether every text goes on after a fourth digit with a hyphen, or after a second with a colon, as dates and times
    do and numbers never."""
    cells = Cells.of(array)
    data, starts = cells.data, cells.starts
    if len(starts) and (cells.ends - starts).min() < 5:
        return False
    if len(starts) and data[starts[0] + 2] == ord(":"):
        return bool((data[starts + 2] == ord(":")).all() and (data[starts + 1] - np.uint8(ord("0")) <= 9).all())
    return bool((data[starts + 4] == ord("-")).all() and (data[starts + 3] - np.uint8(ord("0")) <= 9).all())


# records ----------------------------------------------------------------------------------------------------------


def _binary(sizes: Numbers, data: Bytes) -> Any:
    """A pa.BinaryArray of values of these sizes, one after the other in `data`."""
    offsets = np.zeros(len(sizes) + 1, dtype=np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _values(array: Any) -> _Values:
    valid = valid_rows(array) if array.null_count else None
    if pa.types.is_string(array.type):
        return _texts(array, valid)
    if pa.types.is_float64(array.type):
        return _doubles(array, valid)
    truth = pa.types.is_boolean(array.type)
    return _integers(flags(array).astype(np.int64) if truth else behind(array, np.int64), valid)


def _texts(array: Any, valid: NDArray[np.bool_] | None) -> _Values:
    sizes = lengths(array).astype(np.int64)
    serials = 2 * sizes + TEXT
    if valid is not None:
        serials[~valid] = NULL
    elif (width := int(sizes[0])) == sizes.min() == sizes.max():
        start = int(np.frombuffer(array.buffers()[1], dtype=np.int32, count=1, offset=4 * array.offset)[0])
        data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8, count=width * len(array), offset=start)
        return _Values(serials, sizes, (data.reshape(len(array), width), None))
    return _Values(serials, sizes, array.cast(pa.binary()))


def _doubles(array: Any, valid: NDArray[np.bool_] | None) -> _Values:
    data = behind(array, np.float64).astype(">f8").view(np.uint8).reshape(-1, 8)
    if valid is None:
        return _Values(np.full(len(data), DOUBLE), np.full(len(data), 8), (data, None))
    used = np.repeat(valid[:, None], 8, axis=1)
    return _Values(np.where(valid, DOUBLE, NULL), np.where(valid, 8, 0), (data, used))


def _integers(numbers: Numbers, valid: NDArray[np.bool_] | None) -> _Values:
    """Each in as few bytes as SQLite would take: 0 and 1 have serial types of their own, and no bytes."""
    magnitude = numbers ^ (numbers >> 63)
    serials = np.ones(len(numbers), dtype=np.int64)
    most = magnitude.max()
    for limit in LIMITS:
        if most >= limit:
            serials += magnitude >= limit
    sizes = WIDTHS[serials]
    small = (numbers | 1) == 1
    if small.any():
        serials = np.where(small, ZERO + numbers, serials)
        sizes = np.where(small, 0, sizes)
    if valid is not None:
        serials, sizes = np.where(valid, serials, NULL), np.where(valid, sizes, 0)
    least, width = int(sizes.min()), int(sizes.max())
    data = numbers.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
    used = None if least == width else np.arange(width) >= (width - sizes)[:, None]
    return _Values(serials, sizes, (data, used))


def _varints(numbers: Numbers) -> Narrow:
    """Each number as a varint (1.6)."""
    most = int(numbers.max())
    if most < 0x80:
        return numbers.astype(np.uint8)[:, None], None
    shifts = np.arange(7 * ((most.bit_length() - 1) // 7), -1, -7)
    places = numbers[:, None] >> shifts
    data = (places & 0x7F | 0x80).astype(np.uint8)
    data[:, -1] &= 0x7F
    used = places > 0
    used[:, -1] = True
    return data, None if used.all() else used


def _varint(number: int) -> bytes:
    data = [number & 0x7F]
    while number := number >> 7:
        data.append(number & 0x7F | 0x80)
    return bytes(reversed(data))


def _width(part: Narrow) -> Any:
    """Bytes of each row."""
    data, used = part
    return data.shape[1] if used is None else used.sum(axis=1)


def _joined(parts: Sequence[Narrow | Any]) -> Any:
    """The bytes of all parts, row by row, as a pa.BinaryArray. To join costs by the part: narrow ones go together."""
    wide: list[Any] = []
    for kind, run in groupby(
        parts, lambda part: (isinstance(part, tuple), isinstance(part, tuple) and part[1] is None)
    ):
        if not kind[0]:
            wide += run
            continue
        data, used = zip(*run, strict=True)
        matrix = np.concatenate(data, axis=1)
        if kind[1]:
            wide.append(_binary(np.full(len(matrix), matrix.shape[1]), matrix))
        else:
            mask = np.concatenate(used, axis=1)
            wide.append(_binary(mask.sum(axis=1), matrix[mask]))
    return pc.binary_join_element_wise(*wide, _NOTHING, null_handling="replace", null_replacement=b"")


def _cells(arrays: Sequence[Any], rowid: int) -> Any:
    """The cells of table leaf pages, one a row, as a pa.BinaryArray: size, rowid and record, from `rowid` on."""
    columns = [_values(array) for array in arrays]
    count = len(columns[0].sizes)
    serials = [_varints(column.serials) for column in columns]
    head = np.ones(count, dtype=np.int64) + sum(map(_width, serials))
    head += head > 127  # the header counts its own length
    size = head + sum(column.sizes for column in columns)
    before = [_varints(size), _varints(np.arange(rowid, rowid + count)), _varints(head)]
    return _joined([*before, *serials, *(column.part for column in columns)])


# pages ------------------------------------------------------------------------------------------------------------


class _Tree:
    """A table's b-tree on its way into a file that has `pages` pages: leaves as they come, what is above them last."""

    def __init__(self, file: BinaryIO, pages: int) -> None:
        self._file = file
        self._pages = pages
        self._leaves: list[tuple[int, int]] = []  # page and last rowid of each

    def add(self, cells: Any, rowid: int) -> None:
        """Leaves of these cells, of the rows from `rowid` on."""
        edges = np.frombuffer(cells.buffers()[1], dtype=np.int32, count=len(cells) + 1, offset=4 * cells.offset)
        data = np.frombuffer(cells.buffers()[2], dtype=np.uint8)
        edges = edges.astype(np.int64)
        room = edges + 2 * np.arange(len(edges))  # a cell, and two bytes that point to it
        ends = [0]
        while ends[-1] < len(cells):
            ends.append(int(np.searchsorted(room, room[ends[-1]] + PAGE - LEAF_HEAD, side="right")) - 1)
        pages = np.zeros((len(ends) - 1, PAGE), dtype=np.uint8)
        for page, start, end in zip(pages, ends, ends[1:], strict=False):
            content = PAGE - int(edges[end] - edges[start])
            page[:LEAF_HEAD] = _head(LEAF, end - start, content)
            pointers = (edges[start:end] + (content - edges[start])).astype(">u2").view(np.uint8)
            page[LEAF_HEAD : LEAF_HEAD + len(pointers)] = pointers
            page[content:] = data[edges[start] : edges[end]]
        last = (rowid - 1 + end for end in ends[1:])
        self._leaves += zip(self._write(pages), last, strict=True)

    def finish(self, root: int) -> None:
        """The pages above the leaves, up to the root, which has its place; and the file's own count of its pages."""
        level = self._leaves
        fits = (PAGE - INTERIOR_HEAD) // 15  # four bytes, a varint of up to nine, and two bytes that point to it
        while len(level) > fits:
            # Evenly: a page above a single one has no cell, and SQLite calls that malformed.
            count = -(-len(level) // fits)
            edges = [len(level) * number // count for number in range(count + 1)]
            groups = [level[start:end] for start, end in pairwise(edges)]
            numbers = self._write(np.stack([_interior(group) for group in groups]))
            level = [(number, group[-1][1]) for number, group in zip(numbers, groups, strict=True)]
        self._put(root, self._take_back() if len(level) == 1 else _interior(level))
        self._file.seek(28)
        self._file.write(self._pages.to_bytes(4, "big"))

    def _take_back(self) -> Bytes:
        """The last page, off the file: a single leaf is the root itself."""
        self._pages -= 1
        self._file.seek(self._pages * PAGE)
        page = np.frombuffer(self._file.read(PAGE), np.uint8)
        self._file.truncate(self._pages * PAGE)
        return page

    def _write(self, pages: Bytes) -> list[int]:
        """Write pages at the file's end; their numbers."""
        first = self._pages + 1
        before = LOCK_PAGE - first if first <= LOCK_PAGE < first + len(pages) else len(pages)
        self._put(first, pages[:before])
        self._put(LOCK_PAGE + 1, pages[before:])
        self._pages = first + before - 1 if before == len(pages) else LOCK_PAGE + len(pages) - before
        return [*range(first, first + before), *range(LOCK_PAGE + 1, LOCK_PAGE + 1 + len(pages) - before)]

    def _put(self, number: int, pages: Bytes) -> None:
        if len(pages):
            self._file.seek((number - 1) * PAGE)
            self._file.write(pages.data)


def _head(kind: int, cells: int, content: int) -> Bytes:
    return np.frombuffer(bytes([kind, 0, 0, *cells.to_bytes(2, "big"), *content.to_bytes(2, "big"), 0]), np.uint8)


def _interior(children: Sequence[tuple[int, int]]) -> Bytes:
    """The page above these pages, given with the last rowid of each; the last page needs no rowid."""
    cells = [number.to_bytes(4, "big") + _varint(rowid) for number, rowid in children[:-1]]
    content = PAGE - sum(map(len, cells))
    pointers = content + np.cumsum([0, *map(len, cells)])[:-1]
    head = _head(INTERIOR, len(cells), content).tobytes() + children[-1][0].to_bytes(4, "big")
    head += pointers.astype(">u2").tobytes()
    return np.frombuffer(head.ljust(content, b"\0") + b"".join(cells), np.uint8)
