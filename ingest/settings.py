"""What a user can set, with defaults and the reasons for the numbers. Parses words; touches nothing else."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import UsageError
from ingest.model import UNTOLD, UTF8, ColumnType, Mode, Told

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

DEFAULT_DATABASE = "sqlite:///ingest.db"
DATABASE_VARIABLE = "INGEST_DATABASE_URL"

SLICE_BYTES = 16 * MIB
"""Bytes of a slice. bench/ has the sweep that this number came from (docs/performance.md)."""

COMMIT_BYTES = 256 * MIB
"""A file up to this size is one transaction; a larger one goes in steps of it, where a step can be undone."""

FILE_TIMEOUT = 600.0
"""Seconds a worker may spend on one slice: a 16 MiB slice takes under a second, the slow exact reader under 30."""

CONNECTIONS = 2
"""Files that the writer puts into a server's database at once."""

REJECTS_SHOWN = 1_000
"""Rejects kept of a file that is refused; reading goes on until there are so many."""


def workers_default() -> int:
    """One worker a core that this process may use, at least one."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS
        return max(1, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many rejects a file may have: a count, or a share of its records in percent."""

    count: int | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredType:
    """A `--type COLUMN=TYPE`."""

    column: str
    type: ColumnType
    precision: int | None = None
    scale: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `load` can be told. Sizes are bytes, times seconds."""

    to: str | None = None
    table: str = "{name}"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_age: float = 0.0
    workers: int = 0  #: 0: one a core
    connections: int = 0  #: 0: the target's default
    start_method: str = "forkserver"
    told: Told = UNTOLD
    max_unpacked: int | None = None  #: bytes that a packed file may unpack to; None: what is usual for its size
    slice_bytes: int = SLICE_BYTES
    commit_bytes: int = COMMIT_BYTES
    file_timeout: float = FILE_TIMEOUT
    wait: float = 0.0
    spool: str | None = None
    ledger_schema: str | None = None
    bulk: str = "auto"
    types: str = "infer"
    sample: int | None = None  #: bytes a table to infer from; None: all
    declared: tuple[DeclaredType, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    names: str = "keep"
    null: tuple[str, ...] = ()
    new_columns: str = "add"
    transform: str | None = None
    lineage: str = "file"
    mode: str = "append"
    key: tuple[str, ...] = ()
    newest_by: str | None = None
    max_rejects: Budget | None = None  #: None: 0, or without limit where only max_rejects_run is given
    max_rejects_run: int | None = None
    on_change: str = "refuse"
    on_duplicate: str = "refuse"
    on_lost: str = "refuse"
    verify_content: bool = False

    def __post_init__(self) -> None:
        _one_of("start_method", self.start_method, "forkserver", "spawn")
        _one_of("bulk", self.bulk, "auto", "off")
        _one_of("types", self.types, "infer", "text")
        _one_of("names", self.names, "keep", "snake")
        _one_of("new_columns", self.new_columns, "add", "refuse", "ignore")
        _one_of("lineage", self.lineage, "none", "file")
        _one_of("mode", self.mode, *Mode)
        _check_key(self.mode, self.key, self.newest_by)
        _one_of("on_change", self.on_change, "refuse", "reload", "skip")
        _one_of("on_duplicate", self.on_duplicate, "refuse", "skip", "load")
        _one_of("on_lost", self.on_lost, "refuse", "reload", "ignore")
        for name in ("slice_bytes", "commit_bytes", "file_timeout", "max_unpacked"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be greater than 0.")
        for name in ("workers", "connections", "min_age", "wait"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} must not be negative.")


def _check_key(mode: str, key: tuple[str, ...], newest_by: str | None) -> None:
    keyed = (Mode.UPSERT, Mode.INSERT_IGNORE)
    if mode in keyed and not key:
        raise UsageError(f"--mode {mode} needs a key.", hint="Write --key COLUMN, or --key COLUMN,COLUMN.")
    if key and mode not in keyed:
        raise UsageError(f"--key is for --mode {' and '.join(keyed)}, and the mode is {mode}.")
    if len(set(key)) < len(key) or not all(key):
        raise UsageError(f"--key {','.join(key)!r} has an empty or a repeated column.")
    if newest_by is not None and mode != Mode.UPSERT:
        raise UsageError(f"--newest-by is for --mode {Mode.UPSERT}, and the mode is {mode}.")
    if newest_by in key:
        raise UsageError("--newest-by names a column of the --key: of equal keys none is newer.")


def _one_of(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise UsageError(f"--{name.replace('_', '-')} is {value!r}; it must be one of {', '.join(choices)}.")


def parse_size(text: str) -> int:
    """Bytes of `16MiB`, `200MB`, `64k` or `4096`. KiB, MiB and GiB count by 1024, KB, MB and GB by 1000."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b?|b)?\s*", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"{text!r} is not a size.", hint="Write bytes, or a number with KiB, MiB or GiB: 16MiB.")
    number, unit = float(match[1]), (match[2] or "b").lower()
    base = 1000 if unit in ("kb", "mb", "gb") else 1024
    return int(number * base ** " kmg".index(unit[0])) if unit != "b" else int(number)


def parse_budget(text: str) -> Budget:
    """A budget of `10` records or `0.5%` of the records."""
    try:
        if text.strip().endswith("%"):
            percent = float(text.strip()[:-1])
            if 0 <= percent <= 100:
                return Budget(percent=percent)
        elif int(text) >= 0:
            return Budget(count=int(text))
    except ValueError:
        pass
    raise UsageError(f"--max-rejects is {text!r}.", hint="Write a number of records (10) or a share (0.5%).")


def parse_type(text: str) -> DeclaredType:
    """`price=decimal(12,2)` or `zip=text`."""
    column, equals, word = text.rpartition("=")
    match = re.fullmatch(r"\s*([a-z]+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*", word, re.IGNORECASE)
    names = {t.value: t for t in ColumnType} | {
        "integer": ColumnType.BIGINT,
        "int": ColumnType.BIGINT,
        "float": ColumnType.DOUBLE,
        "numeric": ColumnType.DECIMAL,
        "bool": ColumnType.BOOLEAN,
        "string": ColumnType.TEXT,
        "datetime": ColumnType.TIMESTAMP,
    }
    kind = names.get(match[1].lower()) if match else None
    if not equals or not column or match is None or kind is None or (match[2] and kind is not ColumnType.DECIMAL):
        raise UsageError(
            f"--type {text!r} is not COLUMN=TYPE.",
            hint=f"TYPE is one of {', '.join(t.value for t in ColumnType)}.",
        )
    return DeclaredType(
        column=column,
        type=kind,
        precision=int(match[2]) if match[2] else None,
        scale=int(match[3] or 0) if match[2] else None,
    )


def parse_told(
    *,
    delimiter: str | None,
    quote: str | None,
    escape: str | None,
    encoding: str | None,
    header: str | None,
    skip_rows: int | None,
    comment: str | None,
) -> Told:
    """What was typed of how the files are written."""
    return Told(
        delimiter=None if delimiter is None else parse_delimiter(delimiter),
        quote=None if quote is None else parse_character("quote", quote),
        escape=None if escape is None else parse_character("escape", escape),
        encoding=None if encoding is None else parse_encoding(encoding),
        header=None if header is None else parse_header(header),
        skip_rows=skip_rows,
        comment="" if comment == "none" else comment,
    )


def parse_delimiter(text: str) -> str:
    """`;`, `||`, or `\\t` and `tab` for a tab."""
    delimiter = {"\\t": "\t", "tab": "\t", "space": " "}.get(text, text)
    if not delimiter or set(delimiter) & set('\r\n"\0'):
        raise UsageError(f"--delimiter {text!r} cannot separate fields.", hint=r"Write it as it is: ';', '||', '\t'.")
    return delimiter


def parse_character(option: str, text: str) -> str:
    """One ASCII character, or `none`."""
    if text == "none":
        return ""
    if len(text) != 1 or not text.isascii() or text in "\r\n\0":
        raise UsageError(
            f"--{option} {text!r} is not one ASCII character.", hint=f"Write it as it is, or --{option} none."
        )
    return text


def parse_encoding(text: str) -> str:
    """The name of an encoding, as Python's codecs have it. A byte order mark is no part of one."""
    try:
        found = codecs.lookup(text)
    except (LookupError, ValueError):
        found = None
    # The same look at a private attribute as `str.encode` takes: it tells text from base64, zip and the like.
    if found is None or not found._is_text_encoding or found.name in _NO_ENCODINGS:
        raise UsageError(f"--encoding {text!r} is not known.", hint="Write utf-8, cp1252, utf-16, iso8859-1, …")
    return {"utf-8-sig": UTF8}.get(found.name, found.name)


_NO_ENCODINGS = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""What Python can do with text beside writing it down: no file is written so."""


def parse_header(text: str) -> int:
    """`2`, or `none`."""
    if text == "none":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--header {text!r} is not a number of rows.", hint="Write --header 1, or --header none.")
    return int(text)


def parse_rename(text: str) -> tuple[str, str]:
    """`Old name=new_name`."""
    old, equals, new = text.rpartition("=")
    if not equals or not old or not new.strip():
        raise UsageError(f"--rename {text!r} is not OLD=NEW.")
    return old, new.strip()


def parse_key(text: str) -> tuple[str, ...]:
    """`id` or `country,id`."""
    return tuple(name.strip() for name in text.split(","))


def database_url(to: str | None) -> str:
    """The SQLAlchemy URL for what was typed: a URL, a bare path (SQLite), the environment's, or the default."""
    text = to or os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE
    if "://" in text:
        return text
    return f"sqlite:///{Path(text)}"
