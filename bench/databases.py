"""The database servers that benchmarks load into, and the peers that load into them. Knows nothing of us.

A server is the one the tests start: in a temporary folder, with the settings it has by default. It is started again
before each run, so that nobody pays for pages that another left to be written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import HERE, BenchError, environment, timed
from inputs import COLUMNS

sys.path.append(str(HERE.parent / "tests"))
import servers

TYPES = {
    "postgresql": {"DOUBLE": "DOUBLE PRECISION", "TEXT": "TEXT"},
    "mariadb": {"DOUBLE": "DOUBLE", "TEXT": "VARCHAR(100)"},
}
KEY = ("l_orderkey", "l_linenumber")


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of a server, for one run."""

    server: servers.Server
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def execute(self, sql: str) -> list[tuple[object, ...]]:
        return self.server.execute(sql, self.name)

    def make_table(self, *, key: bool = False) -> None:
        """The empty table for both sides, with typed columns and none of ours; with its primary key if asked."""
        types = TYPES[self.server.kind]
        columns = [f"{name} {types.get(kind, kind)}" for name, kind in COLUMNS]
        if key:
            columns.append(f"PRIMARY KEY ({', '.join(KEY)})")
        self.execute(f"CREATE TABLE lineitem ({', '.join(columns)})")

    def check_rows(self, rows: int, table: str = "lineitem") -> None:
        found = self.execute(f"SELECT count(*) FROM {table}")[0][0]
        if found != rows:
            raise BenchError(f"{self.server.title}: {table} has {found} rows, expected {rows:,}.")

    def rest(self) -> None:
        """Start the server again: what it had in memory is on the disk."""
        self.server.stop()
        self.server.start()


@contextmanager
def empty(kind: type[servers.Server], running: dict[str, servers.Server]) -> Iterator[Database]:
    """A new database of a server just started; the server stays in `running` for the next one."""
    server = running.get(kind.kind)
    if server is None:
        if kind.binaries() is None:
            raise BenchError(f"There is no {kind.title} here: install the package {kind.package}.")
        server = running[kind.kind] = kind()
        server.start()
    with server.database() as url:
        database = Database(server, url.rpartition("/")[2])
        yield database


def remove(running: dict[str, servers.Server]) -> None:
    """End all servers and remove what they wrote."""
    while running:
        running.popitem()[1].remove()


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"The program {name} is missing: install the package {package}.")
    return found


def _secret() -> None:
    """The password for the clients, which none of them is to take from a command line that anybody can read."""
    os.environ["PGPASSWORD"] = os.environ["MYSQL_PWD"] = servers.PASSWORD


def psql(database: Database, files: list[Path], folder: Path, *, sessions: int = 1) -> float:
    r"""Seconds of `psql` with `\copy` for file after file; of several at once, each with its share."""
    command = [_program("psql", "postgresql-client"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    command += ["-h", "127.0.0.1", "-p", str(database.server.port), "-U", servers.USER, "-d", database.name]
    _secret()
    scripts = []
    for number in range(sessions):
        script = folder / f"copy.{number}.sql"
        share = files[number::sessions]
        script.write_text("".join(f"\\copy lineitem from '{path}' with (format csv, header)\n" for path in share))
        scripts.append([*command, "-f", str(script)])
    if sessions == 1:
        return timed(scripts[0], folder)
    os.sync()
    began = time.perf_counter()
    processes = [subprocess.Popen(one, cwd=folder, env=environment()) for one in scripts]
    codes = [process.wait() for process in processes]
    seconds = time.perf_counter() - began
    if any(codes):
        raise BenchError(f"psql ended with {codes}")
    return seconds


def mariadb_client(database: Database, files: list[Path], folder: Path) -> float:
    """Seconds of one session of the `mariadb` client with LOAD DATA LOCAL INFILE for file after file."""
    command = [_program("mariadb", "mariadb-client"), "--no-defaults", "--local-infile=1", "--protocol=tcp"]
    command += ["-h", "127.0.0.1", "-P", str(database.server.port), "-u", servers.USER, database.name]
    _secret()
    lines = [
        f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE lineitem CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' "
        "OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' IGNORE 1 LINES;"
        for path in files
    ]
    return timed(command, folder, stdin="\n".join(lines) + "\n")


def to_sql(database: Database, files: list[Path], folder: Path) -> float:
    """Seconds of a Python process that reads with pandas in chunks and writes with `to_sql`."""
    url = database.url.replace("postgresql://", "postgresql+psycopg://")
    return timed([sys.executable, str(HERE / "to_sql.py"), url, *map(str, files)], folder)


def pgloader(database: Database, files: list[Path], folder: Path) -> float:
    """Seconds of pgloader with one LOAD CSV for all the files."""
    script = folder / "lineitem.load"
    linked = folder / "csv"
    linked.mkdir()
    for path in files:
        (linked / path.name).symlink_to(path)
    script.write_text(
        f"LOAD CSV FROM ALL FILENAMES MATCHING ~/csv$/ IN DIRECTORY '{linked}' "
        f"HAVING FIELDS ({', '.join(name for name, _ in COLUMNS)}) "
        f"INTO {database.url} TARGET TABLE public.lineitem "
        "WITH skip header = 1, fields optionally enclosed by '\"', fields terminated by ',';\n"
    )
    return timed([_program("pgloader", "pgloader"), "--quiet", str(script)], folder)


def dlt(database: Database, files: list[Path], folder: Path) -> float:
    """Seconds of a dlt pipeline that takes Arrow tables and loads them by COPY, its fastest way."""
    command = [_program("uv", "uv"), "run", "--no-project", "--with", "dlt[postgres]", "--with", "pyarrow", "--quiet"]
    return timed([*command, str(HERE / "dlt_load.py"), database.url, str(folder / "work"), *map(str, files)], folder)
