"""What we are compared with, each doing the same work with the same durability. Knows nothing of us.

WAL, and `synchronous=FULL`: one fsync a commit, as our own default is. One transaction a file, as ours are.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

from common import HERE, BenchError, check_rows, timed
from inputs import COLUMNS

TABLE = f"CREATE TABLE lineitem ({', '.join(map(' '.join, COLUMNS))})"
"""The table that exists before the first row, for both sides: made by hand, without any column of ours."""


def make_table(database: Path) -> None:
    """A database in WAL mode with the empty table. Not timed, for either side."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(TABLE)
        connection.commit()
    finally:
        connection.close()


def shell_import(files: list[Path], folder: Path, rows: int, *, exists: bool) -> float:
    """Seconds of one session of the shell that imports every file; a new table is made from the first header."""
    shell = shutil.which("sqlite3")
    if shell is None:
        raise BenchError("The sqlite3 shell is missing: install the package sqlite3.")
    database = folder / "peer.db"
    if exists:
        make_table(database)
    lines = ["PRAGMA journal_mode=WAL;", "PRAGMA synchronous=FULL;"]
    for number, path in enumerate(files):
        skip = "--skip 1 " if exists or number else ""
        lines.append(f'.import --csv {skip}"{path}" lineitem')
    seconds = timed([shell, "-bail", str(database)], folder, stdin="\n".join(lines) + "\n")
    check_rows(database, rows)
    return seconds


def pandas_to_sql(files: list[Path], folder: Path, rows: int) -> float:
    """Seconds of a Python process that reads with pandas in chunks and writes with `to_sql`."""
    database = folder / "peer.db"
    seconds = timed([sys.executable, str(HERE / "to_sql.py"), f"sqlite:///{database}", *map(str, files)], folder)
    check_rows(database, rows)
    return seconds
