"""Where the table is in a file: the column names, and where the data begins.

Names are given raw, as they stand in the file.
"""

from __future__ import annotations

import re

from ingest import charsets, dialects, quoting
from ingest.dialects import Head
from ingest.errors import SourceError
from ingest.model import Dialect, Header, Reason, Source, Told
from ingest.opening import encoding_error

_BLANK = re.compile(rb"[\r\n]*+")
_VALUE = re.compile(
    rb"[+-]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:e[+-]?\d+)?%?"
    rb"|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    rb"|true|false",
    re.IGNORECASE,
)


def frame(source: Source, head: Head, dialect: Dialect, told: Told) -> Header | None:
    """The header of a file; None if its record goes on after the head. Raises `SourceError` with `NO_HEADER`."""
    found = dialects.records(head, dialect)
    if not found:
        return None
    end = head.first + len(found[0])
    return Header(
        dialect=dialect,
        names=_names(source, found[0].rstrip(quoting.LINE_ENDS), head.first, dialect),
        data_start=end,
        has_data=not head.whole or has_data(head.data, end),
    )


def first_text(head: bytes, start: int) -> int:
    """The offset of the first line with anything on it; the end where there is none."""
    blank = _BLANK.match(head, start)
    return blank.end() if blank else start


def _names(source: Source, bare: bytes, first: int, dialect: Dialect) -> tuple[str, ...]:
    """The names in a header record without its line end; `first` is its offset in the file."""
    if b"\0" in bare:
        raise encoding_error(source, f"{source.display} has NUL bytes in its first record: it is no text.")
    try:
        bare.decode()
    except UnicodeDecodeError as error:
        byte = bare[error.start]
        raise encoding_error(
            source,
            f"{source.display}: byte 0x{byte:02X} at offset {first + error.start} is not UTF-8.",
            charsets.offered(bare),
        ) from None
    cells = quoting.fields(bare, dialect)
    if cells is None:
        raise no_header(source, "the first record has a quote that is not closed as it should be")
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled:
        raise no_header(source, "the first record has only empty names")
    if all(_VALUE.fullmatch(cell) for cell in filled):
        raise no_header(source, "the first record looks like data, not like column names")
    return tuple(cell.decode() for cell in cells)


def has_data(head: bytes, position: int) -> bool:
    blank = _BLANK.match(head, position)
    return blank is not None and blank.end() < len(head)


def no_header(source: Source, why: str) -> SourceError:
    return SourceError(
        f"{source.display} has no header: {why}.",
        code=Reason.NO_HEADER,
        hint="Put a line with the column names first.",
    )
