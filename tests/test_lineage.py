"""`--lineage row`: each row says which record of its file it was, however the file was read (design D7)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from killing import assert_gone, finish, held_midway, kill
from oracle import Database
from tools import load, query, start, write_csv

from ingest.settings import Budget

pytestmark = pytest.mark.every_target

SIZES = {"slice_bytes": 700, "commit_bytes": 2000}


def numbered(db: Database, table: str = "t") -> list[tuple[int, int, int]]:
    """File, record and value of every row."""
    sql = f"SELECT _ingest_file_id, _ingest_record, id FROM {table} ORDER BY _ingest_file_id, _ingest_record"
    return [tuple(map(int, row)) for row in query(db, sql)]  # type: ignore[misc]


def records(start: int, count: int, *, odd: bool) -> bytes:
    """Records that count from `start`; line breaks within quotes and blank lines between are no records."""
    lines = []
    for i in range(start, start + count):
        lines.append(f'{i},"note\n{i}"\n' if odd and i % 3 == 0 else f"{i},note {i}\n")
        lines.append("\n" if odd and i % 7 == 0 else "")
    return "".join(lines).encode()


@pytest.mark.parametrize(("kind", "bulk"), [("plain", "auto"), ("gzip", "off"), ("exact", "auto")])
def test_rows_are_numbered_over_slices_and_steps(tmp_path: Path, db: Database, kind: str, bulk: str) -> None:
    """Rejects keep their number, so those after them keep theirs, too."""
    data = b"id,note\n" + records(0, 200, odd=True)
    gone = [200]
    # The exact rules take over in the middle of the file.
    data += b'200,"open "here" and there"\n' if kind == "exact" else b"x,y,z\n"
    data += records(201, 200, odd=kind != "exact")
    path = tmp_path / ("t.csv.gz" if kind == "gzip" else "t.csv")
    path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
    report = load(path, db, lineage="row", bulk=bulk, max_rejects=Budget(count=1), **SIZES)
    assert report.exit_code == 3, report.files
    assert numbered(db) == [(1, i, i) for i in range(401) if i not in gone]
    assert query(db, "SELECT record FROM ingest_reject") == [(200,)]


def test_rows_of_a_bundle_are_numbered_by_file(tmp_path: Path, db: Database) -> None:
    for number in range(5):
        write_csv(
            tmp_path / "in" / f"t_{number}.csv", ["id", "note"], [[number * 10 + i, "x"] for i in range(number + 1)]
        )
    assert load(tmp_path / "in", db, lineage="row").exit_code == 0
    assert numbered(db) == [(number + 1, i, number * 10 + i) for number in range(5) for i in range(number + 1)]


def test_rows_are_numbered_on_after_a_restart(tmp_path: Path, db: Database) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,note\n" + records(0, 4000, odd=True))
    sizes = ("--slice-bytes", "4KiB", "--commit-bytes", "12KiB")
    run = start("load", path, "--to", db, "--lineage", "row", "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with held_midway(db, run) as found:
        kill(*found.all)
        assert_gone(found.all)
    finish(run)
    before = len(numbered(db))
    assert 0 < before < 4000
    report = load(path, db, slice_bytes=3000, commit_bytes=9000)
    assert report.files[0].code.value == "part_loaded"
    assert numbered(db) == [(1, i, i) for i in range(4000)]


def test_a_table_that_is_there_stays_as_it_is(tmp_path: Path, db: Database) -> None:
    load(write_csv(tmp_path / "t_1.csv", ["id"], [[1]]), db)
    assert load(write_csv(tmp_path / "t_2.csv", ["id"], [[2]]), db, lineage="row").exit_code == 0
    assert query(db, "SELECT id, _ingest_file_id FROM t ORDER BY id") == [(1, 1), (2, 2)]
    assert load(write_csv(tmp_path / "u.csv", ["_ingest_record"], [[2]]), db).files[0].code.value == "header"


@pytest.mark.known_kinds
@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_rows_are_numbered_in_every_mode(tmp_path: Path, db: Database, mode: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "note"], [[1, "a"], [2, "b"]])
    more = {"mode": mode, "key": ("id",)} if mode == "upsert" else {"mode": mode}
    assert load(path, db, lineage="row", **more).exit_code == 0
    again = write_csv(tmp_path / "t2" / "t.csv", ["id", "note"], [[3, "c"], [2, "B"]])
    assert load(again, db, lineage="row", **more).exit_code == 0
    rows = {(record, id_) for _, record, id_ in numbered(db)}
    assert rows == ({(0, 3), (1, 2)} if mode == "replace" else {(0, 1), (0, 3), (1, 2)})
