"""A slice of an unusual dialect rewritten into a plain one: one byte separates, and a quote is doubled.

What pyarrow cannot be told (a delimiter of several bytes), or would read otherwise than the rules of `quoting` (an
escape before a character that needs none, at the end of a field, before a line end), is replaced by bytes that the
slice does not have: an escape and its character by two of them, a delimiter by one. The columns get back what it was.
A slice of an ordinary dialect is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest import quoting
from ingest.errors import SourceError
from ingest.model import Dialect, Reason

_STAND_INS = bytes([0x7F, *range(0x01, 0x0A), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x21, 0x7F)])
"""Bytes that may stand for something else, the most unlikely first: of one byte in UTF-8, and no line ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A rewritten slice."""

    data: bytes
    dialect: Dialect  #: without an escape, and with a delimiter of one byte
    put: tuple[tuple[bytes, bytes, bytes], ...]  #: what stands in `data`, what is written there, and what that means
    stretch: int  #: bytes that the delimiter of the slice has more than that of `data`

    def original(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The offsets in the slice of offsets in `data`."""
        if not self.stretch:
            return offsets
        delimiters = np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == ord(self.dialect.delimiter))
        return offsets + self.stretch * np.searchsorted(delimiters, offsets)

    def of(self, text: bytes) -> bytes:
        """Another text that may be found in the slice, as it would be in `data`."""
        for stands, written, _ in self.put:
            text = text.replace(written, stands)
        return text

    def value(self, text: str) -> str:
        """A value that was split from `data`, as it is in the slice."""
        for stands, _, means in self.put:
            text = text.replace(stands.decode(), means.decode())
        return text

    def restored(self, table: pa.Table) -> pa.Table:
        """Columns of text that were split from `data`, as they are in the slice."""
        for stands, _, means in self.put:
            for position, name in enumerate(table.column_names):
                column = table.column(position)
                if pc.any(pc.match_substring(column, stands.decode())).as_py():
                    column = pc.replace_substring(column, stands.decode(), means.decode())
                    table = table.set_column(position, name, column)
        return table


def rewritten(data: bytes, dialect: Dialect) -> Plain | None:
    """A slice in a plain dialect; None if its own is plain already.

    Raises `SourceError` with `CORRUPT` where the slice has every byte that could stand in.
    """
    delimiter, escape = dialect.delimiter.encode(), dialect.escape.encode()
    if not escape and len(delimiter) == 1:
        return None
    put: list[tuple[bytes, bytes, bytes]] = []
    taken = dialect.delimiter + dialect.quote + dialect.escape
    if escape and escape in data:
        if dialect.comment:
            ended = _unused(data, taken)
            taken += ended.decode()
            data = quoting.comments_ended(data, dialect, ended)
            put.append((ended, ended, escape))  # in a comment only, unless that is a line within quotes
        mark = _unused(data, taken)
        taken += mark.decode()
        letters = (bytes([byte]) for byte in b"0123456789abcdef" if chr(byte) not in taken)
        # Of the same length as what they stand for, so that only delimiters shift offsets.
        for letter, each in zip(letters, quoting.escapable(dialect), strict=False):
            stands = mark + letter * (len(escape) + len(each) - 1)
            if escape + each in data:
                data = data.replace(escape + each, stands)
                put.append((stands, escape + each, each))
    if len(delimiter) > 1:
        single = _unused(data, taken)
        if delimiter in data:
            data = data.replace(delimiter, single)
            put.append((single, delimiter, delimiter))
        dialect = replace(dialect, delimiter=single.decode())
    return Plain(data=data, dialect=replace(dialect, escape=""), put=tuple(put), stretch=len(delimiter) - 1)


def _unused(data: bytes, taken: str) -> bytes:
    """A byte that does not occur."""
    for byte in _STAND_INS:
        if byte not in data and chr(byte) not in taken:
            return bytes([byte])
    raise SourceError(
        "a part of the file has every ASCII character, so none can stand for its delimiter or escape.",
        code=Reason.CORRUPT,
        hint="It may not be a CSV file.",
    )
