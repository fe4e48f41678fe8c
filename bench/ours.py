"""Our own way to read a file: the command line into SQLite, the table and the ledger read back by plain SQL.

Files that are told the same are loaded by one command, each into a table of its own.
"""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from common import INGEST, environment
from judging import Read, Refusal
from kinds import Hints

TIMEOUT = 600.0
"""Seconds of one command: all files at once take a tenth of it."""

DONE = (0, 3, 4)
"""Exit codes after which every file has its answer."""


def options(hints: Hints) -> tuple[str, ...]:
    """What is typed to tell what the hints say."""
    words: list[str] = ["--types", "text"]
    hints = hints.complete()
    if hints.delimiter is not None:
        words += ["--delimiter", hints.delimiter]
    if hints.quote is not None:
        words += ["--quote", hints.quote or "none"]
    if hints.escape is not None:
        words += ["--escape", hints.escape or "none"]
    if hints.encoding is not None:
        words += ["--encoding", hints.encoding]
    if hints.header is not None:
        words += ["--header", str(hints.header or "none")]
    if hints.skip_rows is not None:
        words += ["--skip-rows", str(hints.skip_rows)]
    if hints.comment is not None:
        words += ["--comment", hints.comment]
    if hints.pad:
        words += ["--ragged", "pad"]
    if hints.aside:
        words += ["--max-rejects", "100"]
    if hints.big:
        words += ["--max-field", "16MiB"]
    return tuple(words)


def read(files: Sequence[Path], words: Sequence[str], folder: Path) -> dict[Path, Read | Refusal]:
    """Load files with the same options, each into the table of its stem; what became of each."""
    folder.mkdir()
    database = folder / "ours.db"
    paths = list(map(str, files))
    command = [*INGEST, "load", *paths, "--to", str(database), "--table", "{stem}", "--on-duplicate", "load", *words]
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(files, Refusal(why="no end after ten minutes"))
    finished = done.returncode in DONE
    if not finished and len(files) > 1:
        # One that stops the command must not speak for the others.
        found: dict[Path, Read | Refusal] = {}
        for number, file in enumerate(files):
            found |= read([file], words, folder / str(number))
        return found
    why = " ".join(done.stderr.split())[-200:]
    if not finished:
        return dict.fromkeys(files, Refusal(why=f"exit code {done.returncode}: {why}"))
    with closing(sqlite3.connect(database)) as connection:
        outcome = {file: _outcome(connection, file, why) for file in files}
    shutil.rmtree(folder)
    return outcome


def _outcome(connection: sqlite3.Connection, file: Path, why: str) -> Read | Refusal:
    # The members of an archive are known by a name that begins with its own.
    names = "path = ? OR path LIKE ? ESCAPE '!'"
    like = str(file.resolve()).replace("!", "!!").replace("_", "!_").replace("%", "!%") + "%"
    known = connection.execute(
        "SELECT file_id, state, table_name, rows_rejected, rows_discarded, error_code, error FROM ingest_file"
        f" WHERE {names} ORDER BY file_id",
        (str(file.resolve()), like),
    ).fetchall()
    if not known:
        return Refusal(why=why or "the ledger does not know the file")
    for _, state, *_, code, error in known:
        if state != "loaded":
            return Refusal(why=f"{code}: {error}")
    columns: tuple[str, ...] = ()
    rows: list[tuple[object, ...]] = []
    for file_id, _, table, *_ in known:
        columns, some = _rows(connection, table, file_id)
        rows += some
    return Read(columns=columns, rows=tuple(rows), aside=sum(rejected + left for _, _, _, rejected, left, *_ in known))


def _rows(connection: sqlite3.Connection, table: str, file_id: int) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    quoted = '"' + table.replace('"', '""') + '"'
    described = [(name, kind) for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({quoted})")]
    shown = [(name, kind) for name, kind in described if not name.startswith("_ingest_")]
    if not shown:
        return (), []
    names = ", ".join('"' + name.replace('"', '""') + '"' for name, _ in shown)
    found = connection.execute(f"SELECT {names} FROM {quoted} WHERE _ingest_file_id = ? ORDER BY rowid", (file_id,))
    kinds = [kind for _, kind in shown]
    rows = [tuple(_value(value, kind) for value, kind in zip(row, kinds, strict=True)) for row in found]
    return tuple(name for name, _ in shown), rows


def _value(value: Any, kind: str) -> object:
    """What a value of SQLite means in a column of one of our types: dates are text there, booleans numbers."""
    if value is None:
        return None
    kind = kind.upper()
    if kind == "BOOLEAN":
        return bool(value)
    if kind == "DATE":
        return dt.date.fromisoformat(value)
    if kind.startswith(("TIMESTAMP", "DATETIME")):
        return dt.datetime.fromisoformat(value)
    if kind.startswith("TIME"):
        return dt.time.fromisoformat(value)
    return value


def grouped(hints: Iterable[tuple[Path, Hints]]) -> dict[tuple[str, ...], list[Path]]:
    """The files by what is typed for them."""
    found: dict[tuple[str, ...], list[Path]] = {}
    for path, hint in hints:
        found.setdefault(options(hint), []).append(path)
    return found
