"""`--on-misfit`: what becomes of a value that its column does not take."""

from __future__ import annotations

from pathlib import Path

import killing
import pytest
from oracle import Database, oracle
from tools import assert_counts_add_up, ingest, load, query, rejects, told, write_csv

from ingest.errors import UsageError
from ingest.settings import Budget, Settings, parse_type

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
HEAD = ["id", "n", "m", "day", "u", "x"]
WIDENS = ("postgresql", "mariadb")


def first(data: Path, db: Database) -> None:
    write_csv(data / "t_1.csv", HEAD, [(1, 5, 7, "2024-01-31", UUID, "1.50"), (2, -6, "", "", "", "2.25")])
    assert load(data, db).exit_code == 0


def second(data: Path) -> None:
    write_csv(data / "t_2.csv", HEAD, [(3, "007", "2.5", "soon", "none", ""), (4, "8", "9", "2024-02-01", "", "3.50")])


def test_what_widen_cannot_look_at_is_refused() -> None:
    for other in ({"transform": "a:b"}, {"mode": "replace"}, {"sample": 1000}):
        with pytest.raises(UsageError, match="--on-misfit widen"):
            Settings(on_misfit="widen", **other)


@pytest.mark.every_target
def test_widen_changes_a_type_only_where_no_stored_text_changes(tmp_path: Path, db: Database) -> None:
    data = tmp_path / "data"
    first(data, db)
    second(data)
    report = load(data, db, on_misfit="widen", max_rejects=Budget(count=9))
    if oracle(db).kind not in WIDENS:
        assert told(report)["t_2.csv"] == ("refused", "misfit")
        assert "not done in a database of this kind" in next(f.sentence for f in report.files if f.state == "refused")
        assert query(db, "SELECT count(*) FROM t") == [(2,)]
        return
    assert report.exit_code == 0, report.files
    words = oracle(db).words
    kinds = {"n": "TEXT", "m": "DOUBLE", "day": "TEXT", "u": "TEXT"}
    found = oracle(db).columns("t")
    assert {name: found[name] for name in kinds} == {name: words.get(kind, kind) for name, kind in kinds.items()}
    assert query(db, "SELECT n, m, day, u, x FROM t ORDER BY id") == [
        ("5", 7, "2024-01-31", UUID, 1.5),
        ("-6", None, None, None, 2.25),
        ("007", 2.5, "soon", "none", None),
        ("8", 9, "2024-02-01", None, 3.5),
    ]
    # What is stored as a DOUBLE has lost its zeros: it stays one, and the file that does not fit is refused.
    write_csv(data / "t_3.csv", HEAD, [(5, "x", "1", "", "", "many")])
    report = load(data, db, on_misfit="widen", max_rejects=Budget(count=9))
    assert told(report)["t_3.csv"] == ("refused", "misfit")
    assert "a number such as 1.50 is stored as 1.5" in next(f.sentence for f in report.files if f.state == "refused")
    assert [r[3:5] for r in rejects(db)] == [("x", "bad_number")]
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_fail_refuses_the_file_whatever_the_budget(tmp_path: Path, db: Database, bulk: str) -> None:
    data = tmp_path / "data"
    first(data, db)
    second(data)
    write_csv(data / "t_3.csv", HEAD, [(5, "6", "", "", "", "")])
    budget = Budget(count=9)
    report = load(data, db, on_misfit="fail", max_rejects=budget, bulk=bulk)
    assert (report.exit_code, told(report)["t_2.csv"], told(report)["t_3.csv"][0]) == (
        4,
        ("refused", "misfit"),
        "loaded",
    )
    assert query(db, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (5,)]
    assert [r[3:5] for r in rejects(db)] == [("n", "lossy")]
    assert load(data, db, max_rejects=budget, bulk=bulk).exit_code == 3
    assert_counts_add_up(db)


@pytest.mark.every_target
def test_an_integer_of_many_digits_becomes_text_and_no_double(tmp_path: Path, db: Database) -> None:
    if oracle(db).kind not in WIDENS:
        return
    data = tmp_path / "data"
    write_csv(data / "t_1.csv", ["n"], [("-1000000000000001",)])
    load(data, db)
    write_csv(data / "t_2.csv", ["n"], [("1.5",)])
    assert load(data, db, on_misfit="widen").exit_code == 0
    assert sorted(query(db, "SELECT n FROM t")) == [("-1000000000000001",), ("1.5",)]
    write_csv(data / "u_1.csv", ["n"], [("5",)])
    declared = (parse_type("n=bigint"),)
    load(data, db, declared=declared)
    write_csv(data / "u_2.csv", ["n"], [("x",)])
    report = load(data, db, on_misfit="widen", declared=declared)
    assert told(report)["u_2.csv"] == ("refused", "misfit")
    assert "it was declared" in next(f.sentence for f in report.files if f.state == "refused")


@pytest.mark.parametrize("place", ["after_widen_intent", "after_widen"])
@pytest.mark.parametrize("db", WIDENS, indirect=True)
def test_a_run_killed_around_the_change_is_taken_up_by_the_next(tmp_path: Path, db: Database, place: str) -> None:
    data = tmp_path / "data"
    first(data, db)
    second(data)
    killing.aged(*data.iterdir())
    done = ingest(*("load", "data", "--to", db, "--on-misfit", "widen"), cwd=tmp_path, INGEST_FAILPOINT=place)
    assert done.returncode == -9
    if place == "after_widen_intent":
        # As long as the type is the old one, its rules hold.
        report = load(data, db, max_rejects=Budget(count=0))
        assert told(report)["t_2.csv"] == ("refused", "over_budget")
        assert {r[4] for r in rejects(db)} == {"lossy"}
    report = load(data, db, on_misfit="widen")
    assert (report.exit_code, report.rows) == (0, 2)
    assert [(r[0], float(r[1] or 0)) for r in query(db, "SELECT n, m FROM t ORDER BY id")] == [
        *(("5", 7), ("-6", 0), ("007", 2.5), ("8", 9))
    ]
    assert load(data, db).rows == 0
