"""Comparisons on database servers, which run on the same two cores: what is compared, and what is wanted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import databases
import inputs
from common import INGEST, BenchError, in_turns, note, ratio, scratch, spread, timed
from databases import Database
from servers import MariaDB, PostgreSQL, Server

Row = tuple[str, str, str, str, str]
Contender = Callable[[Database, Path], float]
"""Does one run's work on an empty database, with a folder to write to; returns its seconds."""

QUARTER = 4
"""Files of a quarter of lineitem: what takes pandas a minute."""


def postgres(rounds: int) -> list[Row]:
    r"""The 16 files into a table that exists, against `psql` with `\copy`, in one session and in two at once."""
    folder = inputs.lineitem()
    files, rows = inputs.csv_files(folder), inputs.LINEITEM_ROWS
    seconds = _in_turns(
        PostgreSQL,
        rounds,
        {
            "ours": partial(_into_table, folder, rows),
            "one session": lambda at, out: _peer_into_table(at, rows, lambda: databases.psql(at, files, out)),
            "two sessions": lambda at, out: _peer_into_table(
                at, rows, lambda: databases.psql(at, files, out, sessions=2)
            ),
        },
    )
    what = r"PostgreSQL: 16 files, existing table, against `psql \copy`"
    return [
        _against(f"{what}, one session", seconds, "one session", "at least 1.5, aim 2"),
        _against(f"{what}, two sessions at once", seconds, "two sessions", "at least 1, aim 1.2"),
    ]


def mariadb(rounds: int) -> list[Row]:
    """The 16 files into a table that exists, against LOAD DATA LOCAL INFILE by the server's own client.

    Into lineitem without a key, whose rows all go to the end of one tree, and with its primary key.
    """
    folder = inputs.lineitem()
    files, rows = inputs.csv_files(folder), inputs.LINEITEM_ROWS

    def client(at: Database, out: Path, *, key: bool) -> float:
        return _peer_into_table(at, rows, lambda: databases.mariadb_client(at, files, out), key=key)

    found: list[Row] = []
    for key, table in ((False, "existing table"), (True, "existing table with a primary key")):
        contenders: dict[str, Contender] = {
            "ours": partial(_into_table, folder, rows, key=key),
            "client": partial(client, key=key),
        }
        what = f"MariaDB: 16 files, {table}, against LOAD DATA LOCAL by the `mariadb` client"
        found.append(_against(what, _in_turns(MariaDB, rounds, contenders), "client", "at least 1, aim 1.3"))
    return found


def connections(rounds: int) -> list[Row]:
    """The 16 files into a table that exists, on one, two and three connections: what the default should be."""
    folder = inputs.lineitem()
    found: list[Row] = []
    for kind in (PostgreSQL, MariaDB):
        contenders: dict[str, Contender] = {
            str(n): partial(_into_table, folder, inputs.LINEITEM_ROWS, options=("--connections", str(n)))
            for n in (1, 2, 3)
        }
        seconds = _in_turns(kind, rounds, contenders)
        beside = "; ".join(f"{n}: {spread(seconds[n])}" for n in ("1", "3"))
        times = f"{ratio(seconds['1'], seconds['2']):.2f} times as fast as one"
        found.append(
            (f"{kind.title}: 16 files on two connections", spread(seconds["2"]), beside, times, "the best of them")
        )
    return found


def postgres_peers(rounds: int) -> list[Row]:
    """A quarter of the files into a new table, against pandas, pgloader and dlt."""
    with scratch() as quarter:
        files = inputs.csv_files(inputs.lineitem())[:QUARTER]
        for path in files:
            shutil.copy2(path, quarter)
        rows = inputs.warm(quarter)
        peers: dict[str, Contender] = {
            "to_sql": lambda at, out: databases.to_sql(at, files, out),
            "pgloader": lambda at, out: _peer_into_table(at, rows, lambda: databases.pgloader(at, files, out)),
            "dlt": lambda at, out: databases.dlt(at, files, out),
        }
        with scratch() as out:
            _once_for_dlt(out, files)
        seconds = _in_turns(
            PostgreSQL, rounds, {"ours": partial(_into_new, quarter), **peers}, check=lambda at: at.check_rows(rows)
        )
    what = "PostgreSQL: a quarter of the files, new table, against"
    wanted = {"to_sql": "at least 8", "pgloader": "at least 5", "dlt": "at least 5"}
    names = {"to_sql": "`to_sql(chunksize=50_000)`", "pgloader": "pgloader", "dlt": "dlt, Arrow to COPY"}
    return [_against(f"{what} {names[name]}", seconds, name, wanted[name]) for name in peers]


def postgres_upsert(rounds: int) -> list[Row]:
    """The 16 files over themselves by their key, against an append into the same table while it is empty."""
    folder = inputs.lineitem()
    files, rows = inputs.csv_files(folder), inputs.LINEITEM_ROWS

    def upsert(at: Database, out: Path) -> float:
        at.make_table(key=True)
        databases.psql(at, files, out)
        at.rest()
        seconds = _load(folder, at, out, "--mode", "upsert", "--key", ",".join(databases.KEY))
        at.check_rows(rows)
        return seconds

    contenders: dict[str, Contender] = {
        "ours": upsert,
        "append": lambda at, out: _into_table(folder, rows, at, out),
        "append with key": lambda at, out: _into_table(folder, rows, at, out, key=True),
    }
    seconds = _in_turns(PostgreSQL, rounds, contenders)
    what = "PostgreSQL: upsert of 16 files over themselves, against append into"
    return [
        _against(f"{what} an empty table without the key", seconds, "append", "at least 0.5"),
        _against(f"{what} an empty table with the key", seconds, "append with key", "beside it"),
    ]


def postgres_tiny(rounds: int) -> list[Row]:
    """10,000 files of 20 records; the time of a load of 1 KB, taken in the same round, is subtracted."""
    many, kilobyte = inputs.tiny(), inputs.one_kilobyte()
    inputs.warm(many), inputs.warm(kilobyte)
    seconds = _in_turns(PostgreSQL, rounds, {"ours": partial(_into_new, many), "1 KB": partial(_into_new, kilobyte)})
    net = [a - b for a, b in zip(seconds["ours"], seconds["1 KB"], strict=True)]
    rates = [inputs.TINY_FILES / value for value in net]
    return [
        (
            "PostgreSQL: 10,000 files of 20 rows",
            spread(seconds["ours"]),
            f"1 KB: {spread(seconds['1 KB'])}",
            spread(rates, "files/s", 0),
            "at least 1,000",
        )
    ]


def _in_turns(
    kind: type[Server],
    rounds: int,
    contenders: dict[str, Contender],
    check: Callable[[Database], None] = lambda at: None,
) -> dict[str, list[float]]:
    running: dict[str, Server] = {}

    def run(contender: Contender, out: Path) -> float:
        with databases.empty(kind, running) as at:
            at.rest()
            seconds = contender(at, out)
            check(at)
            return seconds

    try:
        return in_turns(rounds, {name: partial(run, one) for name, one in contenders.items()})
    finally:
        databases.remove(running)


def _load(source: Path, at: Database, out: Path, *options: str) -> float:
    return timed([*INGEST, "load", str(source), "--to", at.url, "-q", *options], out)


def _into_new(source: Path, at: Database, out: Path) -> float:
    return _load(source, at, out)


def _into_table(
    source: Path, rows: int, at: Database, out: Path, *, key: bool = False, options: Sequence[str] = ()
) -> float:
    at.make_table(key=key)
    seconds = _load(source, at, out, *options)
    at.check_rows(rows)
    return seconds


def _peer_into_table(at: Database, rows: int, load: Callable[[], float], *, key: bool = False) -> float:
    at.make_table(key=key)
    seconds = load()
    at.check_rows(rows)
    return seconds


def _once_for_dlt(out: Path, files: Sequence[Path]) -> None:
    """Its packages are fetched before the clock starts."""
    running: dict[str, Server] = {}
    try:
        with databases.empty(PostgreSQL, running) as at:
            seconds = databases.dlt(at, list(files[:1]), out)
            note(f"dlt is there: one file took {seconds:.1f} s")
    except BenchError as error:
        raise BenchError(f"dlt does not run here: {error}") from error
    finally:
        databases.remove(running)


def _against(what: str, seconds: dict[str, list[float]], peer: str, wanted: str) -> Row:
    times = f"{ratio(seconds[peer], seconds['ours']):.2f} times as fast"
    return what, spread(seconds["ours"]), spread(seconds[peer]), times, wanted


COMPARISONS: dict[str, Callable[[int], list[Row]]] = {
    "postgres": postgres,
    "postgres-peers": postgres_peers,
    "postgres-upsert": postgres_upsert,
    "postgres-tiny": postgres_tiny,
    "mariadb": mariadb,
    "connections": connections,
}
