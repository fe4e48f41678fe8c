"""Make the benchmark's CSV files, once, below `bench/data/`. Measures nothing.

Everything is cut from TPC-H's lineitem, scale 0.5, as `tpchgen-cli` writes it: 16 columns, no newline inside a field,
so that a record is a line.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from common import DATA, note

LINEITEM_ROWS = 2_999_671
COLUMNS = (
    ("l_orderkey", "BIGINT"),
    ("l_partkey", "BIGINT"),
    ("l_suppkey", "BIGINT"),
    ("l_linenumber", "BIGINT"),
    ("l_quantity", "BIGINT"),
    ("l_extendedprice", "DOUBLE"),
    ("l_discount", "DOUBLE"),
    ("l_tax", "DOUBLE"),
    ("l_returnflag", "TEXT"),
    ("l_linestatus", "TEXT"),
    ("l_shipdate", "DATE"),
    ("l_commitdate", "DATE"),
    ("l_receiptdate", "DATE"),
    ("l_shipinstruct", "TEXT"),
    ("l_shipmode", "TEXT"),
    ("l_comment", "TEXT"),
)
"""Lineitem's columns, with the types of the table that exists before the first row."""

BIG_BYTES, SMALL_BYTES, SMALL_FILES = 200_000_000, 2_000_000, 50
TINY_FILES, TINY_ROWS = 10_000, 20
DIRTY_EACH = 100
HUGE_BYTES = 2_000_000_000
ONE_KILOBYTE = 1_000

AGE_SECONDS = 86_400
"""Files are dated back by a day: a loader that distrusts files changed a moment ago must not be measured doing so."""


def lineitem() -> Path:
    """363 MB in 16 files."""
    folder = DATA / "lineitem"
    if not folder.exists():
        note("making 363 MB of lineitem")
        made = DATA / "tpch"
        generator = Path(sys.executable).with_name("tpchgen-cli")
        subprocess.run(
            [generator, "csv", "-s", "0.5", "--tables", "lineitem", "--parts", "16", "--overwrite", "-o", made],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _age(made / "lineitem")
        (made / "lineitem").rename(folder)
        made.rmdir()
    return folder


def quoted() -> Path:
    """The same records with every field in quotes."""
    folder = DATA / "quoted"
    if not folder.exists():
        note("making 16 files with every field quoted")
        with _making(folder) as new:
            for source in csv_files(lineitem()):
                with source.open(newline="") as plain, (new / source.name).open("w", newline="") as out:
                    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(csv.reader(plain))
    return folder


def dirty() -> Path:
    """The same records, one in a hundred of them with a fault: too few fields, too many, a first value that is none."""
    folder = DATA / "dirty"
    if not folder.exists():
        note("making 16 files with faults")
        faults = (lambda line: line.rsplit(b",", 6)[0] + b"\n", lambda line: line[:-1] + b",more\n", b"x".__add__)
        with _making(folder) as new:
            for source in csv_files(lineitem()):
                with source.open("rb") as plain, (new / source.name).open("wb") as out:
                    out.write(next(plain))
                    out.writelines(
                        line if number % DIRTY_EACH else faults[number // DIRTY_EACH % len(faults)](line)
                        for number, line in enumerate(plain, start=1)
                    )
    return folder


def uneven() -> Path:
    """50 files of 2 MB and one of 200 MB, which comes last: the worst place where whole files are shared out."""
    folder = DATA / "uneven"
    if not folder.exists():
        note("making 300 MB in uneven files")
        records = _records()
        with _making(folder) as new:
            for number, size in enumerate([SMALL_BYTES] * SMALL_FILES + [BIG_BYTES], start=1):
                _write(new / f"lineitem.{number:02}.csv", _up_to(records, size))
    return folder


def even() -> Path:
    """The records of `uneven` in as many files of equal numbers of records."""
    folder = DATA / "even"
    if not folder.exists():
        note("making 300 MB in even files")
        count = SMALL_FILES + 1
        total = warm(uneven())
        records = _records()
        with _making(folder) as new:
            for number in range(count):
                share = total * (number + 1) // count - total * number // count
                _write(new / f"lineitem.{number + 1:02}.csv", islice(records, share))
    return folder


def tiny() -> Path:
    """10,000 files of 20 records."""
    folder = DATA / "tiny"
    if not folder.exists():
        note("making 10,000 files of 20 records")
        records = _records()
        with _making(folder) as new:
            for number in range(1, TINY_FILES + 1):
                _write(new / f"lineitem.{number:05}.csv", islice(records, TINY_ROWS))
    return folder


def huge() -> Path:
    """One file of 2 GB: the records of lineitem, over and over."""
    return _single("huge", HUGE_BYTES)


def big() -> Path:
    """One file of 200 MB."""
    return _single("big", BIG_BYTES)


def one_kilobyte() -> Path:
    """One file of 1 KB: what is left of a load when there is nothing to load."""
    return _single("one-kilobyte", ONE_KILOBYTE)


def csv_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def warm(folder: Path) -> int:
    """Read every file once, so that all contenders find it in the page cache; returns the number of records."""
    files = csv_files(folder)
    return sum(map(warm_one, files)) - len(files)


def warm_one(path: Path) -> int:
    """Read a file once; returns the number of its lines."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _single(name: str, size: int) -> Path:
    folder = DATA / name
    if not folder.exists():
        note(f"making one file of {size:,} bytes")
        with _making(folder) as new:
            _write(new / "lineitem.csv", _up_to(_records(), size))
    return folder


def _records() -> Iterator[bytes]:
    """The lines of all parts without their headers, in order, over and over."""
    files = csv_files(lineitem())
    while True:
        for path in files:
            with path.open("rb") as file:
                next(file)
                yield from file


def _up_to(records: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Records until `size` bytes are reached."""
    taken = 0
    while taken < size:
        record = next(records)
        taken += len(record)
        yield record


def _write(path: Path, records: Iterator[bytes]) -> None:
    with csv_files(lineitem())[0].open("rb") as file:
        header = next(file)
    with path.open("wb") as out:
        out.write(header)
        out.writelines(records)


@contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """A folder that gets its name only when it is complete: an interrupted run leaves nothing that looks whole."""
    DATA.mkdir(exist_ok=True)
    new = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    new.mkdir()
    yield new
    _age(new)
    new.rename(folder)


def _age(folder: Path) -> None:
    then = time.time() - AGE_SECONDS
    for path in folder.iterdir():
        os.utime(path, (then, then))
