"""The peers' ways to read a file: with what they do by themselves, or told what `Hints` say, everything as text.

What each is told is what its documentation offers for that hint; what it has no option for it is not told. Does not
judge.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from judging import Read, Refusal
from kinds import Hints

SAMPLE = 64 * 1024
"""Characters that sniffers look at. csv.Sniffer's documentation shows 1,024; clevercsv looks at all if it is not told,
which takes minutes for some of the files."""

Reader = Callable[[Path, Hints | None], Read | Refusal]


def refused(error: BaseException) -> Refusal:
    return Refusal(why=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


# csv and clevercsv: records are lists ------------------------------------------------------------------------------


def _opened(path: Path, encoding: str) -> str:
    """The text of a file that the user has unpacked for a reader of lines, as Python's own modules do it."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
    elif path.name.endswith(".bz2"):
        data = bz2.decompress(data)
    elif path.name.endswith(".xz"):
        data = lzma.decompress(data)
    elif path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(archive.namelist()[0])
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="").read()


def _tabular(records: Sequence[Sequence[str]], hints: Hints) -> Read:
    """Lists of fields as a table, the first being the header. One of another length is there to be seen: set aside."""
    records = [list(record) for record in records if record]
    if hints.footer:
        records = records[: -hints.footer]
    if not records:
        return Read(columns=(), rows=())
    rows = hints.header if hints.header is not None else 1
    body = records[rows:]
    names = records[rows - 1] if rows else [str(i) for i in range(max(map(len, records)))]
    fitting = [record for record in body if len(record) == len(names)]
    if hints.pad:
        fitting = [record + [""] * (len(names) - len(record)) for record in body if len(record) <= len(names)]
    aside = len(body) - len(fitting) + hints.footer
    return Read(columns=tuple(names), rows=tuple(map(tuple, fitting)), aside=aside)


def _lines(text: str, hints: Hints) -> list[str]:
    # Not `splitlines`, which ends lines at characters that end no line of a file.
    lines = io.StringIO(text, newline="").readlines()[hints.skip_rows or 0 :]
    return [line for line in lines if not hints.comment or not line.startswith(hints.comment)]


def sniffer(path: Path, hints: Hints | None) -> Read | Refusal:
    """`csv.Sniffer` and `csv.reader`; told: `csv.reader(strict=True)` of what Python has unpacked."""
    csv.field_size_limit(2**31 - 1 if hints and hints.big else 131_072)
    try:
        if hints is None:
            with open(path, newline="", encoding="utf-8") as file:
                sample = file.read(SAMPLE)
                file.seek(0)
                return _tabular(list(csv.reader(file, csv.Sniffer().sniff(sample))), Hints())
        text = _opened(path, hints.encoding or "utf-8-sig")
        reader = csv.reader(_lines(text, hints), strict=True, **_csv_options(hints))
        return _tabular(list(reader), hints)
    except Exception as error:
        return refused(error)


def _csv_options(hints: Hints) -> dict[str, Any]:
    options: dict[str, Any] = {"delimiter": hints.delimiter or ",", "skipinitialspace": hints.blanks}
    if hints.quote == "":
        options["quoting"] = csv.QUOTE_NONE
    elif hints.quote:
        options["quotechar"] = hints.quote
    if hints.escape:
        options |= {"escapechar": hints.escape, "doublequote": False}
    return options


def clevercsv(path: Path, hints: Hints | None) -> Read | Refusal:
    """`clevercsv.read_table`; told: `clevercsv.reader` of what Python has unpacked.

    Not `strict`: then it refuses doubled quotes.
    """
    import clevercsv as clever

    clever.field_size_limit(2**31 - 1 if hints and hints.big else 131_072)
    try:
        if hints is None:
            return _tabular(clever.read_table(path, num_chars=SAMPLE), Hints())
        text = _opened(path, hints.encoding or "utf-8-sig")
        options = _csv_options(hints)
        quote = "" if hints.quote == "" else hints.quote or '"'
        dialect = clever.dialect.SimpleDialect(options["delimiter"], quote, hints.escape or "")
        return _tabular(list(clever.reader(_lines(text, hints), dialect)), hints)
    except Exception as error:
        return refused(error)


# pandas -------------------------------------------------------------------------------------------------------------


def pandas(path: Path, hints: Hints | None) -> Read | Refusal:
    """`pandas.read_csv`; told: `dtype=str`, no words for nothing, and what it has options for."""
    import pandas as pd

    options: dict[str, Any] = {}
    aside = hints.footer if hints else 0

    def set_aside(record: list[str]) -> None:
        nonlocal aside
        aside += 1

    if hints is not None:
        options = {"dtype": str, "keep_default_na": False, "header": 0, **_pandas_options(hints)}
        if hints.aside:
            options |= {"on_bad_lines": set_aside, "engine": "python"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                frame = pd.read_csv(path, **options)
            except pd.errors.EmptyDataError:
                return Read(columns=(), rows=())
    except Exception as error:
        return refused(error)
    columns = []
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        columns.append(
            [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
        )
    names = [str(name) for name in frame.columns]
    if not isinstance(frame.index, pd.RangeIndex):
        # A column that became the index is there to be seen.
        columns.insert(0, list(frame.index))
        names.insert(0, str(frame.index.name or ""))
    return Read(columns=tuple(names), rows=tuple(zip(*columns, strict=True)), aside=aside)


def _pandas_options(hints: Hints) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if hints.delimiter:
        several = len(hints.delimiter) > 1
        options |= {"sep": hints.delimiter.replace("|", r"\|") if several else hints.delimiter}
        options |= {"engine": "python"} if several else {}
    if hints.quote == "":
        options["quoting"] = csv.QUOTE_NONE
    elif hints.quote:
        options["quotechar"] = hints.quote
    if hints.escape:
        options |= {"escapechar": hints.escape, "doublequote": False}
    if hints.encoding:
        options["encoding"] = hints.encoding
    if hints.header is not None:
        options["header"] = hints.header - 1 if hints.header else None
    if hints.skip_rows:
        options["skiprows"] = hints.skip_rows
    if hints.comment:
        options["comment"] = hints.comment
    if hints.footer:
        options |= {"skipfooter": hints.footer, "engine": "python"}
    if hints.blanks:
        options["skipinitialspace"] = True
    return options


# DuckDB -------------------------------------------------------------------------------------------------------------


DUCKDB = {
    "threads": 1,
    "TimeZone": "UTC",
    # As it is installed: what it would fetch from the network (for some encodings) is not to be waited for.
    "autoinstall_known_extensions": False,
}


def duckdb(path: Path, hints: Hints | None) -> Read | Refusal:
    """`read_csv` with auto-detection; told: `all_varchar`, and what it has options for, the rest detected."""
    import duckdb as duck

    options = [] if hints is None else ["all_varchar = true", *_duckdb_options(hints.complete())]
    try:
        with duck.connect(config=DUCKDB) as connection:
            name = str(path).replace("'", "''")
            connection.execute(f"CREATE TABLE found AS FROM read_csv({', '.join([repr_sql(name), *options])})")
            described = connection.execute("DESCRIBE found").fetchall()
            # A moment with a zone needs another library to become Python's own: as text it says the same.
            zoned = "replace(CAST(#{0} AS VARCHAR), '+00', '+00:00')"
            wanted = [zoned.format(i) if "ZONE" in kind else f"#{i}" for i, (_, kind, *_) in enumerate(described, 1)]
            rows = connection.execute(f"SELECT {', '.join(wanted)} FROM found").fetchall()
            aside = 0
            if hints is not None and hints.aside:
                (aside,) = connection.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchone()
    except Exception as error:
        return refused(error)
    found = [
        tuple(_moment(value) if "ZONE" in kind else value for value, (_, kind, *_) in zip(row, described, strict=True))
        for row in rows
    ]
    return Read(columns=tuple(name for name, *_ in described), rows=tuple(found), aside=aside)


def repr_sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _moment(value: Any) -> Any:
    import datetime as dt

    return None if value is None else dt.datetime.fromisoformat(value)


def _duckdb_options(hints: Hints) -> list[str]:
    options: dict[str, str] = {}
    if hints.delimiter:
        options["delim"] = repr_sql(hints.delimiter)
    if hints.quote is not None:
        options["quote"] = repr_sql(hints.quote)
    if hints.escape or hints.quote:
        options["escape"] = repr_sql(hints.escape or hints.quote or "")
    if hints.mixed:
        options["strict_mode"] = "false"
    if hints.encoding:
        options["encoding"] = repr_sql(hints.encoding)
    if hints.header is not None:
        options["header"] = "true" if hints.header else "false"
        if hints.header > 1:
            options["skip"] = str((hints.skip_rows or 0) + hints.header - 1)
    if hints.skip_rows:
        options.setdefault("skip", str(hints.skip_rows))
    if hints.comment:
        options["comment"] = repr_sql(hints.comment)
    if hints.pad:
        options["null_padding"] = "true"
    if hints.aside:
        options["store_rejects"] = "true"
    if hints.big:
        options["max_line_size"] = "16000000"
        options["buffer_size"] = "64000000"
    return [f"{name} = {value}" for name, value in options.items()]


READERS: dict[str, Reader] = {
    "DuckDB": duckdb,
    "pandas": pandas,
    "csv.Sniffer": sniffer,
    "clevercsv": clevercsv,
}
