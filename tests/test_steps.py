"""A file larger than `--commit-bytes` is committed in steps; killed between two, it is gone on with, or done anew."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import killing
import pytest
import tools
from oracle import Database

pytestmark = pytest.mark.every_target

ROWS = 12_000
STEPS = ("--slice-bytes", "16KiB", "--commit-bytes", "48KiB")


def make(tmp_path: Path, name: str = "orders_1.csv") -> Path:
    """One file with line ends inside quotes, so that no line end alone can tell where a record ends."""
    header, *rows = ([*tools.ORDERS], *((i, f"c{i}", f"{i}.25", "2024-01-01", f'a "q",\n{i}') for i in range(ROWS)))
    plain = tools.write_csv(tmp_path / "in" / name.removesuffix(".gz"), header, rows)
    if name.endswith(".gz"):
        packed = plain.with_name(name)
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
        plain = packed
    killing.aged(plain)
    return plain


def killed_midway(tmp_path: Path, db: Database) -> tuple[int, int]:
    """A load whose every process is killed between two steps; the bytes and rows that it committed."""
    run = tools.start("load", "in", "--to", db, "--progress", "none", *STEPS, cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        killing.kill(*found.all)
        killing.assert_gone(found.all)
    killing.finish(run)
    [(committed, rows)] = tools.query(db, "SELECT committed_bytes, rows_loaded FROM ingest_file")
    assert 0 < rows < ROWS
    assert tools.query(db, "SELECT count(*) FROM orders") == [(rows,)]
    return committed, rows


def assert_no_op(db: Database, file: Path) -> None:
    report = tools.load(file.parent, db)
    assert (report.exit_code, report.rows) == (0, 0)
    tools.assert_loaded_once(db, "orders", [file])


@pytest.mark.parametrize("name", ["orders_1.csv", "orders_1.csv.gz"])
@pytest.mark.parametrize(
    "settings",
    [
        {"slice_bytes": 7_000, "commit_bytes": 20_000, "workers": 1, "bulk": "off"},
        {"workers": 3, "start_method": "spawn"},
    ],
    ids=["smaller", "larger"],
)
def test_a_file_killed_between_steps_is_resumed_with_other_settings(
    tmp_path: Path, db: Database, name: str, settings: dict[str, object]
) -> None:
    file = make(tmp_path, name)
    _, rows = killed_midway(tmp_path, db)
    report = tools.load(file.parent, db, **settings)
    assert (report.exit_code, report.rows) == (0, ROWS - rows)
    assert report.files[0].action == "resume"
    columns = "state, rows_loaded, committed_records, attempts"
    assert tools.query(db, f"SELECT {columns} FROM ingest_file") == [("loaded", ROWS, ROWS, 2)]
    assert_no_op(db, file)


def test_a_part_loaded_file_starts_again_where_an_option_would_read_the_rest_otherwise(
    tmp_path: Path, db: Database
) -> None:
    file = make(tmp_path)
    killed_midway(tmp_path, db)
    report = tools.load(file.parent, db, null=("c7",))
    assert (report.exit_code, report.rows) == (0, ROWS)
    assert report.files[0].action == "reload"
    assert tools.query(db, "SELECT count(*), count(customer) FROM orders") == [(ROWS, ROWS - 1)]


def grow(file: Path) -> Path:
    with open(file, "ab") as handle:
        handle.write(b"77777,new,1.25,2024-01-02,x\n")
    return file


def change(file: Path) -> Path:
    data = file.read_bytes()
    file.write_bytes(data.replace(b"\n0,c0,", b"\n0,cX,", 1))
    return file


def shorten(file: Path) -> Path:
    header = file.read_bytes().partition(b"\n")[0]
    file.write_bytes(header + b"\n5,c5,5.25,2024-01-01,short\n")
    return file


def move(file: Path) -> Path:
    return Path(shutil.move(file, file.with_name("orders_2.csv")))


def move_and_grow(file: Path) -> Path:
    return grow(move(file))


@pytest.mark.parametrize(
    ("meanwhile", "resumed"),
    [(grow, True), (change, False), (shorten, False), (move, True), (move_and_grow, True)],
)
def test_a_file_killed_between_steps_and_then_touched_is_there_once(
    tmp_path: Path, db: Database, meanwhile: Callable[[Path], Path], resumed: bool
) -> None:
    file = make(tmp_path)
    _, rows = killed_midway(tmp_path, db)
    file = meanwhile(file)
    killing.aged(file)
    report = tools.load(file.parent, db)
    assert report.exit_code == 0, report.files
    all_rows = sum(tools.expected([file], tools.ORDERS).values())
    assert report.rows == (all_rows - rows if resumed else all_rows)
    assert_no_op(db, file)


def test_steps_are_killed_again_and_again_and_loaded_once(tmp_path: Path, db: Database) -> None:
    file = make(tmp_path)
    known = 0
    for _ in range(3):
        committed, _ = killed_midway(tmp_path, db)
        assert committed >= known
        known = committed
    assert tools.load(file.parent, db).exit_code == 0
    assert tools.query(db, "SELECT attempts, state FROM ingest_file") == [(4, "loaded")]
    assert_no_op(db, file)
