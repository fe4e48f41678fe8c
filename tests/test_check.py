"""`check` says what `load` would come to, to the record, and leaves no byte behind."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from oracle import Database
from test_plan import picture
from tools import ingest, load, query, rejects, write_csv

from ingest.reports import Check, RunReport
from ingest.run import check as run_check
from ingest.settings import REJECTS_SHOWN, Budget, DeclaredType, Settings, parse_type

COLUMNS = ["id", "n", "note"]


def check(paths: Path | list[Path], db: Database, **settings: Any) -> Check:
    listed = [paths] if isinstance(paths, Path) else paths
    return run_check(listed, Settings(to=str(db), workers=2, **settings))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of one table: good, packed, empty, with all kinds of bad records, with none that is read by the book."""
    folder = tmp_path / "data"
    good = [[i, i, f"n{i}"] for i in range(500)]
    write_csv(folder / "t_1.csv", COLUMNS, good)
    (folder / "t_2.csv.gz").write_bytes(gzip.compress(b"id,n,note\n" + b"".join(b"%d,2,x\n" % i for i in range(400))))
    (folder / "t_3.csv").write_bytes(b"id,n,note\n")
    bad = b'1,1,a\n2,"b\nc",d\n3,3\n4,4,e,,\n,,\n5,5,f,g\n6,\0,h\n7,7,\xff\n'
    (folder / "t_4.csv").write_bytes(b"id,n,note\n" + bad * 30)
    (folder / "t_5.csv").write_bytes(b"id,n,note\n" + b'1,1,a\n2,2,5" disk\n' * 200 + b'3,3,"open\n4,4,b\n')
    (folder / "t_6.csv").write_bytes(b"\xff\xfei\0d\0\n")
    return folder


def assert_same(found: Check, report: RunReport) -> None:
    """What was said of each file is what became of it."""
    fields = ("state", "code", "action", "records", "rows", "rejected", "discarded", "fitted", "bytes")
    said = {file.path: tuple(getattr(file, name) for name in fields) for file in found.files}
    assert said == {file.path: tuple(getattr(file, name) for name in fields) for file in report.files}
    assert found.exit_code == report.exit_code


TYPES: tuple[DeclaredType, ...] = tuple(map(parse_type, ("id=bigint", "n=bigint")))


@pytest.mark.every_target
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_rejects": Budget(count=200), "ragged": "pad", "empty_rows": "discard"},
        {"max_rejects": Budget(percent=70), "slice_bytes": 300, "commit_bytes": 1000, "rescue_column": "rest"},
    ],
    ids=["refused", "rejected", "sliced"],
)
def test_check_says_what_load_does(data: Path, db: Database, settings: dict[str, Any]) -> None:
    found = check(data, db, declared=TYPES, **settings)
    report = load(data, db, declared=TYPES, **settings)
    assert_same(found, report)
    kept = [
        (r.line, r.byte, r.record, r.column, r.code.value, r.text.replace("\0", "\\x00"), int(file.state == "loaded"))
        for file in found.files
        for r in file.rejects
    ]
    assert sorted(kept, key=repr) == sorted(rejects(db), key=repr)
    # The table is there now, and nothing is left to do; or the same as before.
    again = check(data, db, declared=TYPES, **settings)
    assert {f.state for f in again.files} <= {"skipped", "refused"}
    assert again.exit_code == (4 if report.count("refused") else 0)


def test_nothing_is_written(data: Path, db: Path) -> None:
    before = picture(data)
    assert check(data, db, max_rejects=Budget(count=200)).new
    assert list(db.parent.iterdir()) == []
    write_csv(data.parent / "first" / "t_0.csv", COLUMNS, [[1, 1, "a"]])
    load(data.parent / "first", db)
    with_first = picture(db.parent)
    found = check(data, db, max_rejects=Budget(count=200))
    assert found.exit_code == 4
    assert not found.new
    assert sum(file.rows for file in found.files) > 900
    assert picture(db.parent) == with_first
    assert picture(data) == before


def test_check_goes_by_the_table_that_is_there(tmp_path: Path, db: Database) -> None:
    """Its types and NOT NULLs, and not its constraints: they are said to be unknown."""
    query(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
    write_csv(tmp_path / "t.csv", ["id", "n"], [[1, 1], [1, 2], ["x", 3], [4, None]])
    (file,) = check(tmp_path, db, max_rejects=Budget(count=2)).files
    assert (file.state, file.rows) == ("loaded", 2)
    assert [(r.line, r.column, r.code.value) for r in file.rejects] == [(4, "id", "bad_integer"), (5, "n", "not_null")]
    assert query(db, "SELECT count(*) FROM t") == [(0,)]


def test_check_of_upserts_replacements_and_transforms(tmp_path: Path, db: Database, monkeypatch: Any) -> None:
    (tmp_path / "clean.py").write_text("def half(frame):\n    return frame[frame['n'] > 1]\n")
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "t.csv", ["id", "n"], [[i, i % 4] for i in range(40)])
    load(write_csv(tmp_path / "first" / "t.csv", ["id", "n"], [[1, 1]]), db, mode="upsert", key=("id",))
    for settings in ({"mode": "upsert", "key": ("id",)}, {"mode": "replace"}, {"transform": "clean:half"}):
        (file,) = check(path, db, **settings).files
        left = 20 if "transform" in settings else 0
        assert (file.state, file.rows, file.discarded) == ("loaded", 40 - left, left)
    assert query(db, "SELECT count(*) FROM t") == [(1,)]


def test_a_refused_file_tells_its_first_thousand_rejects(tmp_path: Path, db: Database) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "n"], [[i, i] if i % 2 else [i] for i in range(4 * REJECTS_SHOWN)])
    (file,) = check(path, db, slice_bytes=4096).files
    assert (file.state, file.code.value, file.hint) == ("refused", "over_budget", "")
    assert [r.record for r in file.rejects] == list(range(0, 2 * REJECTS_SHOWN, 2))


def test_the_command_shows_places_and_ends_as_load_would(data: Path, tmp_path: Path) -> None:
    def run(*more: str) -> Any:
        return ingest("check", data, "--to", "x.db", "--type", "n=bigint", *more, cwd=tmp_path)

    told = run()
    assert (told.returncode, told.stderr.splitlines()[0]) == (4, "database: sqlite:///x.db (new)")
    assert "error" not in told.stderr
    assert f"{data}/t_4.csv:5: ragged: has 2 fields, expected 3" in told.stdout
    assert "column n: bad_integer" in told.stdout
    assert "load would load 4, refuse 2" not in told.stdout
    assert "load would load 3, refuse 3: 900 rows" in told.stdout
    assert "not checked: keys" in told.stdout
    good = ingest("check", data / "t_1.csv", "--to", "x.db", cwd=tmp_path)
    assert (good.returncode, good.stdout.splitlines()[-2]) == (0, "load would load 1: 500 rows")
    some = run("--json", "--max-rejects", "200", "--exclude", "t_6.csv")
    what = json.loads(some.stdout)
    assert (some.returncode, what["exit_code"]) == (3, 3)
    assert {"line", "byte", "record", "column", "code", "message", "text"} == set(what["files"][3]["rejects"][0])
    assert what["files"][3]["fitted"] == {"padded": 0, "trimmed": 30, "rescued": 0}
    assert not (tmp_path / "x.db").exists()
