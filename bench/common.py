"""Run commands under equal conditions, time them, weigh their memory, and print rows of a table.

Knows neither what is compared (`run.py`) nor the data (`inputs.py`) nor the peers (`peers.py`).
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
OUT = HERE / "out"

CORES = 2
"""The targets are stated for two cores; a bigger machine is held to two by its CPU affinity."""

SAMPLE_SECONDS = 0.1
"""Between two looks at the memory. A slice lives for several tenths of a second, so its peak is seen."""

INGEST = (sys.executable, "-m", "ingest")

Timing = Callable[[Path], float]
"""Does one round's work in an empty folder and returns its seconds."""


class BenchError(Exception):
    """A contender failed or loaded something else than it was given: its time means nothing."""


def environment() -> dict[str, str]:
    """What every contender gets: bytecode may be used and written, and nothing of ours is set behind our back."""
    hidden = ("PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME", "INGEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def prepare() -> str:
    """Hold us and our children to two cores, compile all bytecode, and say under what conditions we measure."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:CORES]))
    folders = [sysconfig.get_path("purelib"), str(HERE.parent / "ingest"), str(HERE.parent / "migrations")]
    # Some packages ship files for other Python versions that do not compile: the exit code says nothing.
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-q", "-j", "0", *folders],
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=False,
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {cores} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {_shell_version()}; "
        "bytecode compiled, PYTHONDONTWRITEBYTECODE unset, input in the page cache."
    )


def _shell_version() -> str:
    shell = shutil.which("sqlite3")
    if shell is None:
        return "no sqlite3 shell"
    said = subprocess.run([shell, "--version"], capture_output=True, text=True, check=True).stdout
    return f"sqlite3 shell {said.split()[0]} (Python's SQLite: {sqlite3.sqlite_version})"


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for one run, removed afterwards: databases, WAL files and spool lie in it."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        yield Path(folder)


def timed(command: list[str], folder: Path, *, stdin: str = "") -> float:
    """Seconds from start to exit. What others left to be written goes to the disk first, so that nobody pays for it."""
    os.sync()
    began = time.perf_counter()
    done = subprocess.run(
        command, input=stdin, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0 or (stdin and done.stderr):
        raise BenchError(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def ingest_load(source: Path, database: Path) -> list[str]:
    """The command line that is measured: all defaults, and quiet."""
    return [*INGEST, "load", str(source), "--to", f"sqlite:///{database}", "-q"]


def check_rows(database: Path, rows: int, table: str = "lineitem") -> None:
    """A fast load of something else is no load."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        found = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
    finally:
        connection.close()
    if found != rows:
        raise BenchError(f"{database.name}: {table} has {found:,} rows, expected {rows:,}.")


def in_turns(rounds: int, contenders: dict[str, Timing]) -> dict[str, list[float]]:
    """Seconds of each contender, one run a round. Who goes first changes each round: the machine's mood hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders) if number % 2 == 0 else list(reversed(contenders))
        for name in names:
            with scratch() as folder:
                seconds[name].append(contenders[name](folder))
            note(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s")
    return seconds


def ratio(a: list[float], b: list[float]) -> float:
    """How many times the median of `b` that of `a` is."""
    return statistics.median(a) / statistics.median(b)


def weighed(command: list[str], folder: Path) -> tuple[float, int]:
    """Seconds, and the highest sum of the PSS of all processes of `command`, in bytes (Linux only)."""
    os.sync()
    log = folder / "output.txt"
    peak = 0
    known: set[tuple[int, str]] = set()
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
        while process.poll() is None:
            known = _family(process.pid, known)
            peak = max(peak, sum(_pss(pid) for pid, _ in known))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise BenchError(f"{' '.join(command)[:200]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return seconds, peak


def worked(command: list[str], folder: Path, *, code: int = 0) -> float:
    """CPU seconds of all processes of `command`, sampled (Linux only): on a busy machine they tell more than time."""
    os.sync()
    spent: dict[tuple[int, str], float] = {}
    known: set[tuple[int, str]] = set()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
        while process.poll() is None:
            known = _family(process.pid, known)
            spent |= {each: max(_cpu(each[0]), spent.get(each, 0.0)) for each in known}
            time.sleep(SAMPLE_SECONDS / 4)
    if process.returncode != code:
        raise BenchError(f"{' '.join(command)[:200]} ended with {process.returncode}")
    return sum(spent.values())


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family(root: int, known: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """`root`, its descendants, its session, and who was one of them before: an orphan changes its parent only."""
    alive: dict[int, tuple[int, int, str]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                # The name, in brackets, may hold blanks and brackets itself: split behind the last one.
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            alive[int(entry.name)] = (int(fields[1]), int(fields[3]), fields[19])
    family = {pid for pid, (_, session, start) in alive.items() if session == root or (pid, start) in known}
    while True:
        more = {pid for pid, (parent, _, _) in alive.items() if parent in family} - family
        if not more:
            return {(pid, alive[pid][2]) for pid in family}
        family |= more


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended while we looked
    return 0


def note(text: str) -> None:
    """Progress goes to stderr: stdout is the table."""
    print(text, file=sys.stderr, flush=True)


def spread(values: list[float], unit: str = "s", digits: int = 2) -> str:
    """Median, and in brackets the lowest and the highest."""
    return f"{statistics.median(values):,.{digits}f} {unit} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def row(*cells: str) -> str:
    """One row of a markdown table."""
    return "| " + " | ".join(cells) + " |"
