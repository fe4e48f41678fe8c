"""Run loads, and compare tables with an oracle that reads the files by itself and never asks the tool."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import gzip
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oracle import Database, Oracle, oracle

from ingest.model import Codec, Source
from ingest.reports import Event, RunReport
from ingest.run import load as run_load
from ingest.settings import Settings

Row = tuple[str | None, ...]


class Gate:
    """A file that holds a run at a named place for as long as it is locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("wb")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def reached(self) -> bool:
        """Whether somebody waits here."""
        return self.path.stat().st_size > 0

    def open(self) -> None:
        """Nobody waits here any longer."""
        self.file.close()


_started: list[subprocess.Popen[str]] = []
_gates: dict[int, Gate] = {}

CAUTION = "untested with ingest"
"""What every load into a database of an unknown kind says."""


def load(
    paths: Sequence[Path] | Path, db: Database | str, *, events: list[Event] | None = None, **settings: Any
) -> RunReport:
    """A load in this process (its workers and its writer are processes of their own)."""
    listed = [paths] if isinstance(paths, Path) else list(paths)
    told: list[Event] = [] if events is None else events
    if isinstance(db, Oracle):
        settings.setdefault("spool", str(db.folder))
    return run_load(listed, Settings(to=str(db), workers=settings.pop("workers", 2), **settings), on_event=told.append)


def ingest(*arguments: object, cwd: Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user's shell would start it."""
    return subprocess.run(
        [sys.executable, "-m", "ingest", *typed(arguments)],
        cwd=cwd,
        env=environ(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(*arguments: object, cwd: Path, held: bool | str = False, **environment: str) -> subprocess.Popen[str]:
    """The command line, started and left running, the leader of its own process group.

    A run that is `held` stands still behind its first commit, or at the named place, until its gate is opened.
    """
    gate = Gate(cwd / "gate") if held else None
    if gate is not None:
        place = held if isinstance(held, str) else "after_commit"
        environment["INGEST_HOLDPOINT"] = f"{place}@{gate.path}"
    run = subprocess.Popen(
        [sys.executable, "-m", "ingest", *typed(arguments)],
        cwd=cwd,
        env=environ(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(run)
    if gate is not None:
        _gates[run.pid] = gate
    return run


def gate(run: subprocess.Popen[str]) -> Gate:
    """What holds a run that was started to be held."""
    return _gates.pop(run.pid)


def bury() -> None:
    """Wait for what `start` has started, all of which has ended or was killed, and close its pipes."""
    for run in _started:
        run.wait(60)
        for pipe in (run.stdout, run.stderr):
            assert pipe is not None
            pipe.close()
    _started.clear()


def typed(arguments: Iterable[object]) -> list[str]:
    """The words of a command; a load into a server's database spools where its test looks for what is left."""
    words: list[str] = []
    for argument in arguments:
        words.append(str(argument))
        if isinstance(argument, Oracle) and "load" in words:
            words += ["--spool", str(argument.folder)]
    return words


def environ(**more: str) -> dict[str, str]:
    """Our environment without what a user of this machine may have set for the tool."""
    return {k: v for k, v in os.environ.items() if not k.startswith("INGEST_")} | more


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], **dialect: Any) -> Path:
    """A CSV file as Python's csv writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=dialect.pop("lineterminator", "\n"), **dialect)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def orders(path: Path, count: int, first: int = 0) -> Path:
    """A file of orders whose every row is its own: id, customer, amount, day, note."""
    return write_csv(
        path,
        ["id", "customer", "amount", "day", "note"],
        (
            (i, f"c{i % 97}", f"{i % 1000}.{i % 100:02d}", f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}", f"n{i}" * (i % 5))
            for i in range(first, first + count)
        ),
    )


def expected(paths: Iterable[Path], columns: Sequence[str]) -> Counter[Row]:
    """The multiset of the files' rows, as text, by Python's csv alone; an empty field is None."""
    rows: Counter[Row] = Counter()
    for path in paths:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            for record in csv.DictReader(file):
                rows[tuple((record.get(c) or None) for c in columns)] += 1
    return rows


def stored(db: Database, table: str, columns: Sequence[str]) -> Counter[Row]:
    """The multiset of the table's rows by a plain SELECT; doubles as the shortest text with two decimals or more.

    Empty where there is no such table: one that nothing was loaded into is dropped at the end of the run that made it.
    """
    if table not in oracle(db).tables():
        return Counter()
    names = ", ".join(quoted(c) for c in columns)
    return Counter(tuple(_text(value) for value in row) for row in query(db, f"SELECT {names} FROM {quoted(table)}"))


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def query(db: Database, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Rows of a plain query."""
    return oracle(db).query(sql, *parameters)


def quoted(name: str) -> str:
    """A name as standard SQL quotes it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


ORDERS = ("id", "customer", "amount", "day", "note")


def assert_loaded_once(db: Database, table: str, files: Iterable[Path], columns: Sequence[str] = ORDERS) -> None:
    """Every row of the files is in the table exactly once, and the database passes its own check."""
    assert stored(db, table, columns) == expected(files, columns)
    oracle(db).check()


def told(report: RunReport) -> dict[str, tuple[str, str]]:
    """How each file ended, by its name: state and reason code."""
    return {os.path.basename(outcome.path): (outcome.state, outcome.code.value) for outcome in report.files}


def known(db: Database, path: Path) -> dict[str, Any]:
    """What the ledger has of one file."""
    (row,) = oracle(db).records("SELECT * FROM ingest_file WHERE path = ?", str(path.resolve()))
    return row


def script(db: Path, text: str) -> None:
    """Run statements in an SQLite file."""
    connection = sqlite3.connect(db)
    connection.executescript(text)
    connection.close()


@contextlib.contextmanager
def referred_to(db: Database, number: int) -> Iterator[None]:
    """Meanwhile, the row of `orders` with this `id` cannot be deleted, for another table refers to it."""
    if oracle(db).kind == "plainsqlite":  # which checks no foreign keys by itself
        made, after = f"TRIGGER item BEFORE DELETE ON orders WHEN old.id = {number}", "TRIGGER item"
        query(db, f"CREATE {made} BEGIN SELECT raise(ABORT, 'referred to'); END")
    else:
        after, kind = "TABLE item", "INTEGER" if oracle(db).kind == "sqlite" else "BIGINT"
        query(db, "CREATE UNIQUE INDEX one ON orders (id)")
        query(db, f"CREATE TABLE item (id {kind}, CONSTRAINT part FOREIGN KEY (id) REFERENCES orders (id))")
        query(db, f"INSERT INTO item VALUES ({number})")
    yield
    query(db, f"DROP {after}")


def rejects(db: Database) -> list[tuple[Any, ...]]:
    """The ledger's rejects: line, byte, record, column, reason, raw text, applied."""
    return query(
        db,
        "SELECT line, byte_offset, record, column_name, reason, raw, applied FROM ingest_reject ORDER BY reject_id",
    )


def assert_counts_add_up(db: Database) -> None:
    """Every record of every loaded file is in exactly one place."""
    for path, records, *ends in query(
        db,
        "SELECT path, committed_records, rows_loaded, rows_rejected, rows_discarded, rows_superseded, rows_ignored"
        " FROM ingest_file WHERE state = 'loaded'",
    ):
        assert records == sum(ends), path


def source_of(path: Path, codec: Codec = Codec.PLAIN) -> Source:
    """A file as a scan finds it."""
    stat = path.lstat()
    return Source(
        path=str(path),
        display=path.name,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        ctime_ns=stat.st_ctime_ns,
        scanned_ns=time.time_ns(),
        codec=codec,
    )
