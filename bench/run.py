"""Compare `ingest` with its peers, or with itself, and print a markdown table of medians and ratios.

Usage: uv run bench/run.py COMPARISON... [--rounds N]. Says what is compared and what is wanted; how to run, what to
run on and whom to run against is in `common.py`, `inputs.py` and `peers.py`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import inputs
import peers
import server_runs
from common import (
    INGEST,
    BenchError,
    Timing,
    check_rows,
    in_turns,
    ingest_load,
    note,
    prepare,
    ratio,
    row,
    scratch,
    spread,
    timed,
    weighed,
    worked,
)

import ingest

LEAST_ROUNDS = 3
MEGABYTE = 1_000_000

Row = tuple[str, str, str, str, str]
"""What, ours, the other, the result, and what is wanted."""


def existing(rounds: int) -> list[Row]:
    """The 16 files into a table that exists, against the shell's `.import` of them in one session."""
    folder = inputs.lineitem()
    rows = _lineitem_rows(folder)

    def ours(out: Path) -> float:
        peers.make_table(out / "ours.db")
        return _load(folder, out, rows)

    def shell(out: Path) -> float:
        return peers.shell_import(inputs.csv_files(folder), out, rows, exists=True)

    return [_against("16 files, existing table, against `.import`", rounds, ours, shell, "at least 1.6, aim 2")]


def new(rounds: int) -> list[Row]:
    """The same into a new table, its types inferred from all values."""
    return [_new_table("16 files, new table, against `.import`", rounds, inputs.lineitem())]


def quoted(rounds: int) -> list[Row]:
    """The same with every field in quotes."""
    return [_new_table("16 files, every field quoted, new table, against `.import`", rounds, inputs.quoted())]


def _new_table(what: str, rounds: int, folder: Path) -> Row:
    rows = _lineitem_rows(folder)

    def shell(out: Path) -> float:
        return peers.shell_import(inputs.csv_files(folder), out, rows, exists=False)

    return _against(what, rounds, lambda out: _load(folder, out, rows), shell, "at least 1.3")


def dirty(rounds: int) -> list[Row]:
    """The 16 files with a fault in each hundredth record, all of them in the budget, against the files without."""
    clean, faulty = inputs.lineitem(), inputs.dirty()
    rows = _lineitem_rows(clean)
    bad = sum((inputs.warm_one(path) - 1) // inputs.DIRTY_EACH for path in inputs.csv_files(faulty))
    options = ["--type", "l_orderkey=bigint", "--max-rejects", "2%"]

    def load(folder: Path, expected: int, code: int) -> Timing:
        def once(out: Path) -> float:
            seconds = worked([*ingest_load(folder, out / "ours.db"), *options], out, code=code)
            check_rows(out / "ours.db", expected)
            return seconds

        return once

    seconds = in_turns(rounds, {"dirty": load(faulty, rows - bad, 3), "clean": load(clean, rows, 0)})
    times = f"{ratio(seconds['dirty'], seconds['clean']):.2f} times the CPU time"
    what = "16 files with 1 % of rejects, new table, against none, CPU"
    return [(what, spread(seconds["dirty"]), spread(seconds["clean"]), times, "at most 1.5")]


def to_sql(rounds: int) -> list[Row]:
    """The 16 files against pandas' `read_csv` and `to_sql`; what is left of ours without data stands beside it."""
    folder = inputs.lineitem()
    rows = _lineitem_rows(folder)
    kilobyte = inputs.one_kilobyte()
    records = inputs.warm(kilobyte)
    seconds = in_turns(
        rounds,
        {
            "ours": lambda out: _load(folder, out, rows),
            "pandas": lambda out: peers.pandas_to_sql(inputs.csv_files(folder), out, rows),
            "ours, 1 KB": lambda out: _load(kilobyte, out, records),
        },
    )
    ours = f"{spread(seconds['ours'])}; of a 1 KB load {statistics.median(seconds['ours, 1 KB']):.2f} s"
    times = f"{ratio(seconds['pandas'], seconds['ours']):.2f} times as fast"
    return [
        ("16 files, new table, against `read_csv` and `to_sql`", ours, spread(seconds["pandas"]), times, "at least 8")
    ]


def uneven(rounds: int) -> list[Row]:
    """One file of 200 MB and 50 of 2 MB against the same records in 51 even files; ours against ours."""
    lopsided, balanced = inputs.uneven(), inputs.even()
    rows = inputs.warm(lopsided)
    if inputs.warm(balanced) != rows:
        raise BenchError("bench/data/uneven and bench/data/even hold different numbers of records: remove both.")
    seconds = in_turns(
        rounds,
        {"uneven": lambda out: _load(lopsided, out, rows), "even": lambda out: _load(balanced, out, rows)},
    )
    slower = (ratio(seconds["uneven"], seconds["even"]) - 1) * 100
    return [
        (
            "1 file of 200 MB and 50 of 2 MB, against 51 even files",
            spread(seconds["uneven"]),
            spread(seconds["even"]),
            f"{slower:+.1f} % of time",
            "within 10 %",
        )
    ]


def tiny(rounds: int) -> list[Row]:
    """10,000 files of 20 records: a first run, and a second one with nothing changed.

    From each the same run over one file of 1 KB is subtracted, taken in the same round: start-up is measured by
    `startup`. The unchanged run gets the unchanged 1 KB run, which is less than a 1 KB load.
    """
    many, kilobyte = inputs.tiny(), inputs.one_kilobyte()
    rows, records = inputs.warm(many), inputs.warm(kilobyte)
    seconds: dict[str, list[float]] = {"first": [], "second": [], "first, 1 KB": [], "second, 1 KB": []}
    for number in range(rounds):
        for suffix, folder, expected in ((", 1 KB", kilobyte, records), ("", many, rows)):
            with scratch() as out:
                seconds["first" + suffix].append(_load(folder, out, expected))
                seconds["second" + suffix].append(_load(folder, out, expected))
        note(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()))
    found = []
    for name, wanted in (("first", "at least 1,000"), ("second", "at least 5,000")):
        net = [a - b for a, b in zip(seconds[name], seconds[name + ", 1 KB"], strict=True)]
        # A difference of two noisy times can be nothing at all; a hundredth of a second is what we can tell.
        rates = [inputs.TINY_FILES / max(value, 0.01) for value in net]
        what = f"10,000 files of 20 rows, {name} run" + (", unchanged" if name == "second" else "")
        beside = f"1 KB: {spread(seconds[name + ', 1 KB'])}"
        found.append((what, spread(seconds[name]), beside, spread(rates, "files/s", 0), wanted))
    return found


def memory(rounds: int) -> list[Row]:
    """The peak of the sum of all our processes' PSS, sampled, for one file of 2 GB and one of 200 MB."""
    found: list[Row] = []
    for what, folder in (("one file of 2 GB", inputs.huge()), ("one file of 200 MB", inputs.big())):
        rows = inputs.warm(folder)
        seconds, peaks = [], []
        for number in range(rounds):
            with scratch() as out:
                spent, peak = weighed(ingest_load(folder, out / "ours.db"), out)
                check_rows(out / "ours.db", rows)
            seconds.append(spent)
            peaks.append(peak / MEGABYTE)
            note(f"round {number + 1}: {what} {spent:.2f} s, {peaks[-1]:.0f} MB")
        wanted = "at most 700 MB, and the same for both"
        found.append((f"{what}, peak memory", spread(seconds), "", spread(peaks, "MB", 0), wanted))
    return found


def startup(rounds: int) -> list[Row]:
    """`ingest --version`, and a load of 1 KB; an empty Python program stands beside them."""
    kilobyte = inputs.one_kilobyte()
    records = inputs.warm(kilobyte)
    contenders: dict[str, Timing] = {
        "`ingest --version`": lambda out: timed([*INGEST, "--version"], out),
        "a load of 1 KB": lambda out: _load(kilobyte, out, records),
    }
    python: Timing = lambda out: timed([sys.executable, "-c", "pass"], out)  # noqa: E731
    # The first run fills the page cache with the libraries.
    in_turns(1, contenders)
    seconds = in_turns(rounds, contenders | {"python": python})
    beside = f"`python -c pass`: {spread(seconds['python'])}"
    limits = dict(zip(contenders, (0.4, 2.0), strict=True))
    return [
        (name, spread(seconds[name]), beside, f"{statistics.median(seconds[name]):.2f} s", f"at most {limit} s")
        for name, limit in limits.items()
    ]


def failpoints(rounds: int) -> list[Row]:
    """The 16 files, against a copy of the package in which every call of a named place to die is deleted."""
    folder = inputs.lineitem()
    rows = _lineitem_rows(folder)

    def load(without: bool) -> Timing:
        def once(out: Path) -> float:
            copy = out / "ingest"  # in the working directory, it comes before the package that is installed
            shutil.copytree(Path(ingest.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
            deleted = 0
            for path in copy.rglob("*.py") if without else ():
                text, count = re.subn(r'^( +)failpoint\("\w+"\)$', r"\1pass", path.read_text(), flags=re.MULTILINE)
                path.write_text(text)
                deleted += count
            if without and deleted < 20:
                raise BenchError(f"only {deleted} failpoints were found to be deleted")
            subprocess.run([sys.executable, "-m", "compileall", "-q", copy], check=True)
            seconds = worked(ingest_load(folder, out / "ours.db"), out)
            check_rows(out / "ours.db", rows)
            return seconds

        return once

    seconds = in_turns(rounds, {"as it is": load(False), "without": load(True)})
    times = f"{ratio(seconds['as it is'], seconds['without']):.3f} times the CPU time"
    what = "16 files, new table, against no failpoints in the code, CPU"
    return [(what, spread(seconds["as it is"]), spread(seconds["without"]), times, "no difference")]


def _lineitem_rows(folder: Path) -> int:
    rows = inputs.warm(folder)
    if rows != inputs.LINEITEM_ROWS:
        raise BenchError(f"{folder} holds {rows:,} records, not {inputs.LINEITEM_ROWS:,}: remove it and start again.")
    return rows


def _load(source: Path, out: Path, rows: int) -> float:
    seconds = timed(ingest_load(source, out / "ours.db"), out)
    check_rows(out / "ours.db", rows)
    return seconds


def _against(what: str, rounds: int, ours: Timing, peer: Timing, wanted: str) -> Row:
    seconds = in_turns(rounds, {"ours": ours, "peer": peer})
    times = f"{ratio(seconds['peer'], seconds['ours']):.2f} times as fast"
    return what, spread(seconds["ours"]), spread(seconds["peer"]), times, wanted


COMPARISONS: dict[str, Callable[[int], list[Row]]] = {
    "existing": existing,
    "new": new,
    "quoted": quoted,
    "dirty": dirty,
    "to-sql": to_sql,
    "uneven": uneven,
    "tiny": tiny,
    "memory": memory,
    "startup": startup,
    "failpoints": failpoints,
    **server_runs.COMPARISONS,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure ingest against its peers.")
    parser.add_argument("comparison", nargs="+", choices=COMPARISONS)
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="at least 3, the default")
    asked = parser.parse_args()
    if asked.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS}: a median of fewer says nothing.")
    print(prepare(), end="\n\n")
    print(row("Work", "Ours: median (range)", "Beside it: median (range)", "Result", "Wanted", "Repeat with"))
    print(row(*["---"] * 6), flush=True)
    for name in asked.comparison:
        note(f"{name}:")
        command = f"`uv run bench/run.py {name} --rounds {asked.rounds}`"
        try:
            for cells in COMPARISONS[name](asked.rounds):
                print(row(*cells, command), flush=True)
        except BenchError as error:
            note(f"{name}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
