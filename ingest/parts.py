"""Files that are loaded in part: how the part was read, and whether the rest can be read so and put behind it.

What the ledger keeps of an attempt for that question is written here, too. Asks no database.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass

from ingest import opening
from ingest.errors import SourceError
from ingest.model import UTF8, Header, Source, TableShape
from ingest.rows import FileRow
from ingest.settings import Settings

OPTIONS_OF_RECORDS = (
    "null",
    "decimal",
    "thousands",
    "rename",
    "names",
    "new_columns",
    "transform",
    "where",
    "ragged",
    "rescue_column",
    "empty_rows",
    "max_field",
)
"""The settings that decide what becomes of a record: a file that is loaded in part goes on with the same ones only."""


def header_json(header: Header, settings: Settings, shape: TableShape | None = None) -> str:
    """What the ledger keeps of how a file is read: its header, and the options that decide what becomes of a record.

    `shape`: the table as it is while a file is loaded into it that may stay there in part.
    """
    kept = {
        **_dialect(header.dialect),
        "data_start": header.data_start,
        "names": header.names,
        "options": _options(settings),
    }
    if shape is not None:
        kept["columns"] = _columns(shape)
        if settings.transform:
            kept["code"] = _code(settings.transform)
    return json.dumps(kept)


def _code(transform: str) -> str | None:
    """A hash of the module that MODULE:FUNCTION is in, without importing it; None if it is no file of its own."""
    path = transform.partition(":")[0].replace(".", os.sep)
    for folder in (os.getcwd(), *sys.path):
        for name in (f"{path}.py", os.path.join(path, "__init__.py")):
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    return hashlib.sha256(file.read()).hexdigest()
            except OSError:
                continue
    return None


def _columns(shape: TableShape) -> list[list[object]]:
    return [[column.name, column.typed, column.length, column.native] for column in shape.columns]


# Asked for each of thousands of files, and most of them have the same.
_dialect = functools.lru_cache(maxsize=64)(asdict)


@functools.lru_cache(maxsize=4)
def _options(settings: Settings) -> dict[str, object]:
    options = {name: getattr(settings, name) for name in OPTIONS_OF_RECORDS}
    options["spelled"] = [[one.column, one.spelling] for one in settings.declared if one.spelling]
    if told := {name: value for name, value in asdict(settings.told).items() if value is not None}:
        options["told"] = told
    return options


def usual_options() -> dict[str, object]:
    """What the ledger would keep of options at their defaults: an older version did not write all of them down."""
    found: dict[str, object] = json.loads(json.dumps(_options(Settings())))
    return found


def same_options(row: FileRow, header: Header, settings: Settings) -> bool:
    """Whether the rest of a file would be read as its committed part was."""
    kept, now = json.loads(row.header or "{}"), json.loads(header_json(header, settings))
    usual = {"quote": '"', "escape": "", "encoding": UTF8}  # earlier versions knew no other
    kept["options"] = usual_options() | kept.get("options", {})
    same = all(kept.get(key, usual.get(key)) == of for key, of in now.items() if key != "line_end")
    return row.mode == settings.mode and same


def same_code(row: FileRow, settings: Settings) -> bool:
    """Whether the transform's module is the one that a part of a file was given to."""
    kept = json.loads(row.header or "{}").get("code")
    return kept is None or settings.transform is None or kept == _code(settings.transform)


def same_columns(row: FileRow, shape: TableShape | None) -> bool:
    """Whether the table has the columns that it had when a part of a file was put into it."""
    kept = json.loads(row.header or "{}").get("columns")  # earlier versions did not write them down
    return kept is None or shape is None or kept == _columns(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The first bytes of a file, as many as are committed of it, or all it has."""

    length: int
    sha256: str
    ended: bool  #: they end where a line does
    more: bool  #: there are others behind them


def beginning(source: Source, header: Header, length: int) -> Beginning:
    """Read it, of the decoded stream. Raises SourceError."""
    digest, left, last = hashlib.sha256(), length, b""
    with opening.reading(source), opening.open_decoded(source, header.dialect.encoding) as stream:
        while left and (block := stream.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
            last = block[-1:]
        more = bool(stream.read(1))
    ended = last == header.dialect.separator
    return Beginning(length=length - left, sha256=digest.hexdigest(), ended=ended, more=more)


def prefix_holds(source: Source, header: Header, row: FileRow) -> bool:
    """Whether the committed part of a file is unchanged, and ends where a record does."""
    try:
        return not not_grown(beginning(source, header, row.committed_bytes), row)
    except SourceError:
        return False


def not_grown(beginning: Beginning, row: FileRow) -> str:
    """Why what is committed of a file is not the beginning of what it is now, ended by a line end; "" if it is."""
    if beginning.length < row.committed_bytes:
        return f"it is shorter now: {beginning.length:,} of the {row.committed_bytes:,} bytes that are loaded"
    if row.prefix_sha256 is None:
        return "the ledger does not know the hash of what is loaded of it"
    if beginning.sha256 != row.prefix_sha256:
        return f"the first {row.committed_bytes:,} bytes, which are loaded, have changed"
    if not beginning.ended:
        return "what is loaded of it has no line end at its end, so its last record may have been but a part of one"
    return ""
