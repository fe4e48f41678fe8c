"""Stage a typed batch as PostgreSQL's COPY reads it. The workers' side: imports no SQLAlchemy and no driver.

Binary COPY trusts its sender: an integer that is sent into a NUMERIC column is silently another number. So values are
encoded for the types of the *table*, and a batch with a column whose type, or with a value whose spelling, is not
known here goes as text, which the server itself reads. `tests/test_copy.py` compares both with a plain `insert()`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest import spellings
from ingest.cells import matches, word
from ingest.inference import CLOCK, UUID
from ingest.jobs import POSTGRES_BINARY, POSTGRES_TEXT, Staged
from ingest.model import Column, TableShape
from ingest.targets.pgtypes import TEXTS, bare, encodable

_FIXED = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "time without time zone": pa.time64("us"),
    "uuid": pa.binary(),  # of 16 bytes: what comes after the length is the same
    "bytea": pa.binary(),
    "text": pa.string(),
    "character varying": pa.string(),
    "character": pa.string(),
}
"""What a value of these types is encoded from."""

ENCODED_ROWS = 8_192
"""Rows that are encoded at once: all of a batch in one piece costs twice the time, for memory that is new each time."""

_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ZONE = r"(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)$"
"""Others the server refuses, which reads them."""

_ZERO = pa.Array.from_buffers(pa.float32(), 1, [None, pa.py_buffer(bytes(4))])[0]
_NOTHING, _TAB, _NEWLINE, _NULL = map(word, ("", "\t", "\n", "\\N"))


class _AsText(Exception):
    """This batch cannot be encoded, and can be written out."""


def _arrow_type(column: Column) -> Any:
    if not encodable(column):
        return None
    native = bare(column.native)
    return pa.decimal128(column.precision, column.scale) if native == "numeric" else _FIXED[native]


def stage(batch: pa.Table, shape: TableShape, *, path: str) -> Staged:
    """Write `batch`, its columns named as the table's, to the file at `path`."""
    columns = [column for name in batch.column_names if (column := shape.column(name)) is not None]
    assert len(columns) == batch.num_columns
    whole = batch.combine_chunks()
    arrays = [_meant(_array(whole, i), column) for i, column in enumerate(columns)]
    format_ = POSTGRES_BINARY
    parts: Iterable[bytes]
    try:
        parts = _binary([_encodable(array, column) for array, column in zip(arrays, columns, strict=True)])
    except _AsText:
        format_, parts = POSTGRES_TEXT, [_text(arrays)]
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
    return Staged(format=format_, path=path, columns=tuple(batch.column_names))


def _array(table: pa.Table, position: int) -> Any:
    column = table.column(position)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _meant(array: Any, column: Column) -> Any:
    """The values; an empty text is none for a type that is no text."""
    if pa.types.is_string(array.type) and bare(column.native) not in TEXTS:
        return pc.if_else(pc.equal(array, _NOTHING), _none(pa.string()), array)
    return array


def _encodable(array: Any, column: Column) -> Any:
    """The values as the type that they are encoded from; raises `_AsText` where only the server can read them."""
    wanted = _arrow_type(column)
    if wanted is None:
        raise _AsText
    if array.type.equals(wanted):
        return array
    if pa.types.is_string(array.type) and pa.types.is_timestamp(wanted):
        return _moments(array, wanted)
    if pa.types.is_string(array.type) and pa.types.is_time(wanted):
        if not matches(array, CLOCK).all():
            raise _AsText
        return spellings.times(array)
    if pa.types.is_string(array.type) and bare(column.native) == "uuid":
        return _uuids(array)
    if pa.types.is_string(array.type) and pa.types.is_binary(wanted):
        return _bytes(array)
    try:
        typed = array.cast(wanted)
    except pa.ArrowInvalid:
        raise _AsText from None  # the server finds the words for it
    # A number may be too large, or too small, for the narrower type: the server refuses both, Arrow does not.
    if wanted == pa.float32() and not pc.all(_same_kind(typed, array), min_count=0).as_py():
        raise _AsText
    return typed


def _same_kind(narrow: Any, wide: Any) -> Any:
    return pc.and_(pc.is_finite(narrow), pc.equal(pc.equal(narrow, _ZERO), pc.equal(wide, _ZERO)))


def _moments(array: Any, wanted: Any) -> Any:
    """Texts of moments, as those of a TIMESTAMP WITH TIME ZONE column are; one without a zone is in UTC, as we say."""
    zoned = pc.match_substring_regex(array, _MOMENT + _ZONE)
    plain = pc.match_substring_regex(array, _MOMENT + "$")
    if not pc.all(pc.or_(zoned, plain), min_count=0).as_py():
        raise _AsText
    none = _none(pa.string())
    try:
        with_zone = pc.if_else(zoned, array, none).cast(wanted)
        without = pc.if_else(plain, array, none).cast(pa.timestamp("us")).cast(wanted)
    except pa.ArrowInvalid:
        raise _AsText from None
    return pc.coalesce(with_zone, without)


def _none(kind: Any) -> Any:
    """NULL, as an Arrow scalar; `pa.scalar` would import pandas."""
    return pa.nulls(1, kind)[0]


def _bytes(array: Any) -> Any:
    r"""Texts of bytes in hexadecimal, as PostgreSQL itself writes them: \x00ff."""
    if not pc.all(pc.match_substring_regex(array, r"^\\x([0-9A-Fa-f]{2})*$"), min_count=0).as_py():
        raise _AsText
    return _unhexed(array, pc.utf8_slice_codeunits(array, 2))


def _uuids(array: Any) -> Any:
    """Texts of UUIDs as RFC 9562 writes them; the server reads other forms, too."""
    if not matches(pc.ascii_lower(array), UUID).all():
        raise _AsText
    return _unhexed(array, pc.replace_substring(array, "-", ""))


def _unhexed(array: Any, digits: Any) -> Any:
    """The bytes behind hexadecimal digits, null where the array is."""
    hexadecimal = pc.fill_null(digits, _NOTHING)
    _, edges, data = hexadecimal.buffers()
    assert hexadecimal.offset == 0
    ends = np.frombuffer(edges, dtype=np.int32)[: len(array) + 1]
    values = binascii.unhexlify(memoryview(data)[: ends[-1]]) if ends[-1] else b""
    plain = pa.Array.from_buffers(
        pa.binary(), len(array), [None, pa.py_buffer((ends // 2).astype(np.int32)), pa.py_buffer(values)]
    )
    return pc.if_else(pc.is_valid(array), plain, _none(pa.binary()))


def _binary(arrays: list[Any]) -> Iterator[bytes]:
    import pgpq  # only workers of a load into PostgreSQL need it

    table = pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    yield encoder.write_header()
    for batch in table.to_batches(max_chunksize=ENCODED_ROWS):
        yield encoder.write_batch(batch)
    yield encoder.finish()


def _text(arrays: list[Any]) -> bytes:
    r"""The rows as lines of COPY's text format: a tab between values, \N for NULL, a backslash for what is special."""
    lines = pc.binary_join_element_wise(*map(_spelled, arrays), _TAB)
    lines = pc.binary_join_element_wise(lines, _NOTHING, _NEWLINE)
    edges = np.frombuffer(lines.buffers()[1], dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return bytes(memoryview(lines.buffers()[2])[edges[0] : edges[-1]])


def _spelled(array: Any) -> Any:
    if pa.types.is_string(array.type):
        text = array
        for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
            if pc.any(pc.match_substring(text, character), min_count=0).as_py():
                text = pc.replace_substring(text, character, escape)
    else:
        text = array.cast(pa.string())
    return pc.fill_null(text, _NULL)
