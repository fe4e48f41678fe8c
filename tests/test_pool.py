"""The pool and its permits: every start method and slice size loads the same rows, and no budget is too small.

Workers that die of their file are in test_poison.py, and kills from outside in test_kill.py.
"""

from __future__ import annotations

import gzip
import signal
import time
from pathlib import Path

import killing
import pytest
import tools

from ingest.crew import Crew, exit_words

KIB = 1024


def quoted(path: Path, rows: int, first: int = 0) -> Path:
    """Orders with line ends, delimiters and doubled quotes inside quotes."""
    texts = ["plain", "two\nlines", 'a "quoted", part', '\n\n"\n', "x" * 200, ""]
    return tools.write_csv(
        path,
        tools.ORDERS,
        ((i, f"c{i}", f"{i}.25", "2024-01-01", texts[i % len(texts)]) for i in range(first, first + rows)),
    )


def own_table(db: Path) -> None:
    """A table without lineage: a file of it is one transaction, whatever its size."""
    tools.query(db, "CREATE TABLE orders (id INTEGER, customer TEXT, amount DOUBLE, day DATE, note TEXT)")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_every_start_method_loads_slices_of_a_kilobyte_exactly(
    tmp_path: Path, db: Path, start_method: str, workers: int
) -> None:
    files = [quoted(tmp_path / "in" / f"orders_{i}.csv", 1_500, first=i * 10_000) for i in (1, 2)]
    report = tools.load(
        tmp_path / "in",
        db,
        start_method=start_method,
        workers=workers,
        slice_bytes=KIB,
        commit_bytes=16 * KIB,
    )
    assert (report.exit_code, report.rows) == (0, 3_000)
    tools.assert_loaded_once(db, "orders", files)


@pytest.mark.parametrize("lineage", [True, False], ids=["steps", "whole"])
@pytest.mark.parametrize("kind", ["plain", "gzip", "record"])
def test_a_unit_larger_than_the_budget_does_not_hang(tmp_path: Path, db: Path, kind: str, lineage: bool) -> None:
    if not lineage:
        own_table(db)
    file = quoted(tmp_path / "in" / "orders_1.csv", 4_000)
    if kind == "gzip":
        packed = file.with_name("orders_1.csv.gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        file = packed
    if kind == "record":
        with open(file, "a", encoding="utf-8") as handle:
            handle.write('99999,big,1.25,2024-01-01,"' + "many\nlines " * 9_000 + '"\n')
            handle.write("99998,last,1.25,2024-01-01,\n")
    report = tools.load(tmp_path / "in", db, slice_bytes=2 * KIB, commit_bytes=4 * KIB)
    assert report.exit_code == 0, report.files
    tools.assert_loaded_once(db, "orders", [file])


def test_staging_stops_when_the_writer_does_not_keep_up(tmp_path: Path, db: Path) -> None:
    file = quoted(tmp_path / "in" / "orders_1.csv", 20_000)
    killing.aged(file)
    slice_bytes, commit_bytes, workers = 8 * KIB, 32 * KIB, 2
    budget = commit_bytes + (workers + 1) * slice_bytes * 3 // 2
    sizes = (
        "--slice-bytes",
        str(slice_bytes),
        "--commit-bytes",
        str(commit_bytes),
        "--workers",
        str(workers),
        "--types",
        "text",
    )
    run = tools.start("load", "in", "--to", db, "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with killing.held_midway(db, run):
        [(committed,)] = tools.query(db, "SELECT committed_bytes FROM ingest_file")

        def staged() -> int:
            [journal] = db.parent.glob(".ingest-spool-*/life-*/journal")
            return journal.read_text().count("S ")

        most = (committed + budget) // (slice_bytes * 3 // 4)  # what is left of a step is divided evenly
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert staged() <= most
            time.sleep(0.02)
        assert most < file.stat().st_size // slice_bytes // 2, "the file is too small for this test"
    assert killing.finish(run)[0] == 0
    tools.assert_loaded_once(db, "orders", [file])


def test_what_is_committed_gives_its_room_in_the_spool_back(
    tmp_path: Path, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of many times the budget, in a run that is lent nothing."""
    monkeypatch.setattr(Crew, "relieve", lambda crew: None)
    file = quoted(tmp_path / "in" / "orders_1.csv", 6_000)
    report = tools.load(tmp_path / "in", db, slice_bytes=8 * KIB, commit_bytes=32 * KIB)
    assert report.exit_code == 0
    assert file.stat().st_size > 5 * (32 + 3 * 12) * KIB
    tools.assert_loaded_once(db, "orders", [file])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed by SIGKILL (exit code -9)"),
        (-signal.SIGSEGV, "killed by SIGSEGV (exit code -11)"),
        (-63, "killed by signal 63 (exit code -63)"),
        (1, "exit code 1"),
        (None, "exit code unknown"),
    ],
)
def test_exit_codes_are_told_by_number_and_signal_name(code: int | None, words: str) -> None:
    assert exit_words(code) == words
