"""What a user can set, with defaults and the reasons for the numbers. Parses words; touches nothing else."""

from __future__ import annotations

import codecs
import math
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest import filtering, patterns
from ingest.errors import UsageError
from ingest.model import LINEAGE_COLUMN, UNTOLD, UTF8, ColumnType, Mode, RecordRules, Spelling, Told

KIB = 1024
MIB = 1024 * KIB

DEFAULT_DATABASE = "sqlite:///ingest.db"
DATABASE_VARIABLE = "INGEST_DATABASE_URL"

_MISTYPED = re.compile(
    r"(sqlite|postgres(?:ql)?|mysql|mariadb|oracle|mssql|duckdb|snowflake)(?:\+\w+)?(?::|//)|[^/\\:@]+:[^/\\][^@]*@",
    re.IGNORECASE,
)
"""What begins like a URL and is none: by its first word, or by a user and a password."""

SLICE_BYTES = 16 * MIB
"""Bytes of a slice. bench/ has the sweep that this number came from (docs/performance.md)."""

COMMIT_BYTES = 256 * MIB
"""A file up to this size is one transaction; a larger one goes in steps of it, where a step can be undone."""

FILE_TIMEOUT = 600.0
"""Seconds a worker may spend on one slice: a 16 MiB slice takes under a second, the slow exact reader under 30."""

CONNECTIONS = 2
"""Files that the writer puts into a server's database at once."""

MAX_FIELD = 16 * MIB
"""Bytes of the longest field that is loaded. What MySQL and MariaDB are sent at once is at most 16 MiB by default, so a
longer one goes into few databases; it is a slice, so for most slices the limit costs nothing to keep."""

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
    spelling: str = ""  #: DATE and TIMESTAMP: a pattern (`patterns.py`); "": ISO 8601


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
    null: tuple[str, ...] = ()  #: TOKEN, or COLUMN=TOKEN; =TOKEN is one that holds an equals sign
    decimal: str = "."
    thousands: str = ""
    on_misfit: str = "reject"
    new_columns: str = "add"
    ragged: str = "reject"
    rescue_column: str | None = None
    empty_rows: str = "load"
    max_field: int = MAX_FIELD  #: bytes
    transform: str | None = None
    where: str | None = None
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
        _check_signs(self.decimal, self.thousands)
        _one_of("on_misfit", self.on_misfit, "reject", "fail", "widen")
        if self.on_misfit == "widen" and (self.transform or self.mode == Mode.REPLACE or self.sample):
            what = "--transform" if self.transform else "--mode replace" if self.mode == Mode.REPLACE else "--sample"
            raise UsageError(f"--on-misfit widen looks at all values of the files, and cannot with {what}.")
        _one_of("new_columns", self.new_columns, "add", "refuse", "ignore", "rescue")
        _one_of("ragged", self.ragged, "reject", "pad")
        _one_of("empty_rows", self.empty_rows, "load", "discard")
        _check_rescue(self)
        _one_of("lineage", self.lineage, "none", "file", "row")
        _one_of("mode", self.mode, *Mode)
        _check_key(self.mode, self.key, self.newest_by)
        if self.where is not None:
            filtering.parse(self.where)
        _one_of("on_change", self.on_change, "refuse", "reload", "append-tail", "skip")
        _one_of("on_duplicate", self.on_duplicate, "refuse", "skip", "load")
        _one_of("on_lost", self.on_lost, "refuse", "reload", "ignore")
        for name in ("min_age", "wait", "file_timeout"):
            seconds = getattr(self, name)
            if math.isnan(seconds) or (name == "min_age" and math.isinf(seconds)):
                raise UsageError(f"--{name.replace('_', '-')} must be a number of seconds, not {seconds}.")
        for name in ("slice_bytes", "commit_bytes", "file_timeout", "max_field", "max_unpacked"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be greater than 0.")
        for name in ("workers", "connections", "min_age", "wait", "sample", "max_rejects_run"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} must not be negative.")

    @property
    def nulls(self) -> tuple[str, ...]:
        """The words that are NULL in every column where they are not quoted."""
        named = (text.partition("=") for text in self.null)
        return tuple(token if equals else column for column, equals, token in named if not column or not equals)

    @property
    def nulls_of(self) -> dict[str, tuple[str, ...]]:
        """The words that are NULL in one column, quoted or not, by its name."""
        found: dict[str, tuple[str, ...]] = {}
        for column, equals, token in (text.partition("=") for text in self.null):
            if column and equals:
                found[column] = (*found.get(column, ()), token)
        return found

    def spelling(self, column: str, moment: str = "") -> Spelling:
        """How the values of a column are written, as far as the user says; `moment` as it is known otherwise."""
        return Spelling(
            moment=moment, decimal=self.decimal, thousands=self.thousands, null=self.nulls_of.get(column, ())
        )

    @property
    def rules(self) -> RecordRules:
        """What becomes of records that are not as the header says."""
        return RecordRules(
            pad=self.ragged == "pad",
            rescue=self.rescue_column is not None,
            discard_empty=self.empty_rows == "discard",
            max_field=self.max_field,
        )


def _check_signs(decimal: str, thousands: str) -> None:
    for name, sign in (("decimal", decimal), ("thousands", thousands)):
        if (len(sign) != 1 and (sign or name == "decimal")) or sign.isalnum() or sign in tuple('+-"\r\n\0'):
            raise UsageError(f"--{name} {sign!r} is not one sign.", hint=f"Write it as it is: --{name} ','")
    if decimal == thousands:
        raise UsageError(f"--decimal and --thousands are both {decimal!r}.")


def _check_rescue(settings: Settings) -> None:
    name = settings.rescue_column
    if settings.new_columns == "rescue" and name is None:
        raise UsageError("--new-columns rescue needs a column to put them in.", hint="Add --rescue-column NAME.")
    if settings.new_columns == "rescue" and settings.transform is not None:
        raise UsageError(
            "--new-columns rescue does not go with --transform: what your function returns is what is loaded.",
            hint="Let the function drop the columns, or put them where they belong.",
        )
    if name is not None and (not name.strip() or not name.isprintable() or name.casefold() == LINEAGE_COLUMN):
        raise UsageError(f"--rescue-column {name!r} cannot be the name of that column.")


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


_TYPE = re.compile(r"\s*([a-z]+)\s*(?:\((.*)\))?\s*", re.IGNORECASE | re.DOTALL)


def parse_type(text: str) -> DeclaredType:
    """`price=decimal(12,2)`, `zip=text` or `day=date(%d.%m.%Y)`."""
    column, _, word = text.rpartition("=")
    match = _TYPE.fullmatch(word)
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
    said = match[2] if match else None
    digits = re.fullmatch(r"\s*(\d+)\s*(?:,\s*(\d+)\s*)?", said or "")
    spelled = kind in (ColumnType.DATE, ColumnType.TIMESTAMP) and said is not None
    if column and match and kind is None:
        raise UsageError(
            f"--type {text!r}: there is no type {match[1]!r}.",
            hint=f"TYPE is one of {', '.join(t.value for t in ColumnType)}.",
        )
    if (
        not column
        or kind is None
        or (said is not None and not spelled and (kind is not ColumnType.DECIMAL or not digits))
    ):
        raise UsageError(
            f"--type {text!r} is not COLUMN=TYPE.",
            hint=f"TYPE is one of {', '.join(t.value for t in ColumnType)}.",
        )
    if spelled and said is not None:
        try:
            patterns.check(said, kind)
        except ValueError as error:
            raise UsageError(
                f"--type {text!r} has no usable pattern: {error}.", hint="Write it as strptime has it: date(%d.%m.%Y)"
            ) from None
    return DeclaredType(
        column=column,
        type=kind,
        precision=int(digits[1]) if digits else None,
        scale=int(digits[2] or 0) if digits else None,
        spelling=said if spelled and said else "",
    )


TOLD: dict[str, Any] = dict.fromkeys(("delimiter", "quote", "escape", "encoding", "header", "skip_rows", "comment"))
"""What `parse_told` takes where nothing is told."""


def parse_told(
    *,
    delimiter: str | None,
    quote: str | None,
    escape: str | None,
    encoding: str | None,
    header: str | int | None,
    skip_rows: str | int | None,
    comment: str | None,
) -> Told:
    """What was typed of how the files are written. Raises UsageError for what cannot be, or contradicts itself."""
    if skip_rows is not None and not str(skip_rows).isdecimal():
        raise UsageError(f"--skip-rows {str(skip_rows)!r} is not a number of lines.")
    separator = None if delimiter is None else parse_delimiter(delimiter)
    quoting = None if quote is None else parse_character("quote", quote)
    escaping = None if escape is None else parse_character("escape", escape)
    # An untold quote is never found to be anything that the delimiter is told to have.
    for option, character in (("quote", quoting), ("escape", escaping)):
        if character and character in (separator or ""):
            raise UsageError(f"--{option} {character!r} is a part of --delimiter {delimiter!r}.")
    if comment and separator and len(separator) > 1 and separator.startswith(comment):
        raise UsageError(f"--delimiter {delimiter!r} begins as --comment {comment!r} does.")
    if quoting is None and set(separator or "") & set("\"'"):
        raise UsageError(f"--delimiter {delimiter!r} is a quote.", hint="Say what encloses fields, too: --quote none.")
    return Told(
        delimiter=separator,
        quote=quoting,
        escape=escaping,
        encoding=None if encoding is None else parse_encoding(encoding),
        header=None if header is None else parse_header(str(header)),
        skip_rows=None if skip_rows is None else int(skip_rows),
        comment=None if comment is None else parse_comment(comment),
    )


def parse_delimiter(text: str) -> str:
    """`;`, `||`, `tab`, `space`; `\\t` for a tab and `\\x1f` for any other control character."""
    delimiter = {"tab": "\t", "space": " "}.get(text, text).replace("\\t", "\t")
    delimiter = re.sub(r"\\x([0-7][0-9a-fA-F])", lambda match: chr(int(match[1], 16)), delimiter)
    if not delimiter or re.search("[\r\n\0\ud800-\udfff]", delimiter):
        raise UsageError(
            f"--delimiter {text!r} cannot separate fields.", hint=r"Write it as it is: ';', '||', '\t', '\x1f'."
        )
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


def parse_comment(text: str) -> str:
    """`#`, `//`, or `none`."""
    if not text or set(text) & set("\r\n\0\"'"):
        raise UsageError(f"--comment {text!r} is nothing that a comment begins with.", hint="Write it as it is: '#'.")
    return "" if text == "none" else text


def parse_rename(text: str) -> tuple[str, str]:
    """`Old name=new_name`."""
    old, equals, new = text.rpartition("=")
    if not equals or not old or not new.strip():
        raise UsageError(f"--rename {text!r} is not OLD=NEW.")
    return old, new.strip()


def parse_key(text: str) -> tuple[str, ...]:
    """`id` or `country,id`."""
    return tuple(name.strip() for name in text.split(","))


def typed(command: str, to: str | None, label: str) -> str:
    """A command as it is typed for the same database: `to` is what was given, `label` its URL as it may be shown."""
    return command if to is None else f"{command} --to {shlex.quote(label)}"


def database_url(to: str | None) -> str:
    """The SQLAlchemy URL for what was typed: a URL, a bare path (SQLite), the environment's, or the default."""
    text = to or os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE
    if "://" in text:
        return text
    if (url := _MISTYPED.match(text)) and not os.path.exists(text):
        # It is not repeated, for it may hold a password.
        kind = (url[1] or "postgresql").lower()
        right = "sqlite:///loaded.db" if kind == "sqlite" else f"{kind}://user:password@host/database"
        raise UsageError(
            "the database URL has no ://, and would be taken for the name of a file.",
            hint=f"Write {right}, or ./NAME for a file of such a name.",
        )
    path = str(Path(text)).replace("%", "%25").replace("?", "%3F")  # in a path they are letters like others
    return f"sqlite:///{path}"
