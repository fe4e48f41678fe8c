"""What is no part of a table is left out, counted once, and told: by ledger, plan, summary and events."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import killing
import pytest
import tools
from oracle import Database
from tools import assert_counts_add_up, ingest, known, load, query, rejects, told

from ingest import history
from ingest.reports import Event, FileOutcome, Notice
from ingest.run import plan as run_plan
from ingest.settings import Budget, Settings, parse_told

NAMES = b"id,name,amount\n"
ABOVE = b"Orders of March\nall of them\n\n"
BELOW = b"\n(3 rows)\n"


def said(**options: str | int) -> object:
    words = dict.fromkeys(("delimiter", "quote", "escape", "encoding", "header", "skip_rows", "comment"))
    return parse_told(**(words | options))  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def dirty(first: int) -> bytes:
    rows = [b"%d,n%d,%d.5\n" % (i, i, i) for i in range(first, first + 3)]
    return ABOVE + NAMES + rows[0] + rows[1] + NAMES + rows[2] + BELOW


KINDS = {"preamble": 2, "repeated_header": 1, "footer": 1}


@pytest.mark.every_target
@pytest.mark.core
def test_what_was_left_out_is_counted_and_told(data: Path, db: Database) -> None:
    (data / "t_1.csv").write_bytes(dirty(1))
    (data / "t_2.csv.gz").write_bytes(gzip.compress(dirty(4)))
    (data / "t_3.csv").write_bytes(b"Orders\n\n" + NAMES + b"7,n7,7.5\n8,n8,8.5\n")
    # A file without a record is known by its content alone; what stands above its header counts all the same.
    (data / "t_4.csv").write_bytes(b"sep=,\n" + NAMES)
    events: list[Event] = []
    report = load(data, db, events=events)
    assert report.exit_code == 0, told(report)
    assert (report.rows, report.discarded) == (8, 10)
    assert report.discards == {"preamble": 6, "repeated_header": 2, "footer": 2}
    outcomes = {Path(e.path).name: e for e in events if isinstance(e, FileOutcome)}
    assert all(o.records == o.rows + o.discarded for o in outcomes.values())
    assert outcomes["t_1.csv"].discards == KINDS
    assert query(db, "SELECT id, name FROM t ORDER BY id") == [(i, f"n{i}") for i in range(1, 9)]
    for name, kinds in {"t_1.csv": KINDS, "t_2.csv.gz": KINDS, "t_3.csv": {"preamble": 1}}.items():
        row = known(db, data / name)
        assert json.loads(row["discards"]) == kinds
        assert row["rows_discarded"] == sum(kinds.values())
    assert known(db, data / "t_4.csv")["rows_discarded"] == 1
    assert_counts_add_up(db)
    assert "Discarded: 2 lines before the header, 1 repeated header, 1 line of a footer." in history.story(
        str(db), "t_1.csv"
    )
    assert load(data, db).rows == 0


def test_many_small_files_travel_together_with_what_is_left_out_of_each(data: Path, db: Path, bulk: str) -> None:
    for number in range(40):
        content = dirty(number * 3)
        if number % 2:
            content = content.removeprefix(ABOVE).replace(b"\n(3 rows)", b"# no\n\n(3 rows)")
        (data / f"t_{number}.csv").write_bytes(content)
    report = load(data, db, told=said(comment="#"), bulk=bulk)
    assert report.exit_code == 0, told(report)
    assert (report.rows, report.discarded) == (120, 20 * 4 + 20 * 3)
    assert json.loads(known(db, data / "t_0.csv")["discards"]) == KINDS
    odd = {"comment": 1, "repeated_header": 1, "footer": 1}
    assert json.loads(known(db, data / "t_1.csv")["discards"]) == odd
    owners = "SELECT count(*), count(DISTINCT _ingest_file_id), count(DISTINCT id) FROM t"
    assert query(db, owners) == [(120, 40, 120)]
    assert_counts_add_up(db)


def test_a_look_at_the_values_leaves_out_what_is_below_the_table(data: Path, db: Path) -> None:
    """Filled up, the lines of a second table would be records of this one, and their names make text of its numbers."""
    below = b"\nkind,total\n" + b"".join(b"k%d,%d\n" % (i, i) for i in range(20))
    for number, slice_bytes in enumerate((24, 40, 100)):
        (data / f"t{number}.csv").write_bytes(b"id,n,m\n" + b"".join(b"%d,1,2\n" % i for i in range(30)) + below)
        report = load(data / f"t{number}.csv", db, slice_bytes=slice_bytes, ragged="pad")
        assert (report.rows, report.discards) == (30, {"second_table": 21})
        assert query(db, f"SELECT DISTINCT typeof(id), typeof(n), typeof(m) FROM t{number}") == [("integer",) * 3]


@pytest.mark.parametrize("slice_bytes", [16, 64, 1 << 20])
def test_places_of_rejects_are_those_of_the_file(data: Path, db: Path, slice_bytes: int) -> None:
    query(db, "CREATE TABLE t (id INTEGER, name TEXT, amount REAL UNIQUE)")
    lines = [
        *[b"Title\r\n", b"\r\n", b"id,name,amount\r\n", b'1,"a\n# b",1\r\n', b"# it's \"\r\n", b"2,b\r\n"],
        *[b"id,name,amount\r\n", b"x,c,3\r\n", b"4,d,4\r\n", b"5,e,4\r\n", b"\r\n", b"end\r\n"],
    ]
    (data / "t.csv").write_bytes(b"".join(lines))
    settings = {"slice_bytes": slice_bytes, "told": said(comment="#", skip_rows=1)}
    report = load(data, db, max_rejects=Budget(count=3), **settings)
    assert report.exit_code == 3, told(report)
    assert query(db, "SELECT id, name FROM t") == [(1, "a\n# b"), (4, "d")]

    def start(line: int) -> int:
        return len(b"".join(lines[:line]))

    found = sorted((line, byte, record, reason, raw) for line, byte, record, _, reason, raw, _ in rejects(db))
    assert found == [
        (7, start(5), 2, "ragged", "2,b"),
        (9, start(7), 4, "bad_integer", "x,c,3"),
        (11, start(9), 6, "constraint", "5,e,4"),
    ]
    assert json.loads(known(db, data / "t.csv")["discards"]) == {
        "preamble": 1,
        "comment": 1,
        "repeated_header": 1,
        "footer": 1,
    }
    assert_counts_add_up(db)


def test_a_file_killed_between_two_steps_counts_everything_once(tmp_path: Path, db: Path) -> None:
    rows = 12_000
    body = b"".join(b"%d,n%d,%d.5\n" % (i, i, i) + (NAMES if i % 1_000 == 500 else b"") for i in range(rows))
    path = tmp_path / "in" / "t.csv"
    path.parent.mkdir()
    path.write_bytes(ABOVE + NAMES + body + b"x,late,1\n" + BELOW)
    killing.aged(path)
    steps = ("--slice-bytes", "8KiB", "--commit-bytes", "24KiB")
    query(db, "CREATE TABLE t (id INTEGER, name TEXT, amount REAL, _ingest_file_id INTEGER)")
    run = tools.start(
        "load", "in", "--to", db, "--progress", "none", "--max-rejects", 1, *steps, cwd=tmp_path, held=True
    )
    with killing.held_midway(db, run) as found:
        killing.kill(*found.all)
        killing.assert_gone(found.all)
    killing.finish(run)
    [(loaded, discarded, kinds)] = query(db, "SELECT rows_loaded, rows_discarded, discards FROM ingest_file")
    assert 0 < loaded < rows
    assert discarded == sum(json.loads(kinds).values())
    assert json.loads(kinds)["preamble"] == 2
    report = load(path.parent, db, slice_bytes=9_000, commit_bytes=20_000, max_rejects=Budget(count=1))
    assert (report.exit_code, report.rows, report.discarded) == (3, rows - loaded, 2 + 12 + 1 - discarded)
    assert query(db, "SELECT count(*), count(DISTINCT id) FROM t") == [(rows, rows)]
    row = known(db, path)
    assert json.loads(row["discards"]) == {"preamble": 2, "repeated_header": 12, "footer": 1}
    assert row["rows_discarded"] == 15
    # What stands before the data has no number among its records, also after a restart.
    assert [(r[0], r[2]) for r in rejects(db)] == [(4 + rows + 12 + 1, rows + 12)]
    assert_counts_add_up(db)


def test_a_file_without_a_header_is_loaded_and_told_of(data: Path, db: Path) -> None:
    (data / "t_1.csv").write_bytes(b"alice,30\nbob,25\n")
    (data / "t_2.csv").write_bytes(b"carol,41\ndave,52\n")
    events: list[Event] = []
    assert load(data, db, events=events).exit_code == 0
    assert query(db, "SELECT column_1, column_2 FROM t ORDER BY 2") == [
        ("bob", 25),
        ("alice", 30),
        ("carol", 41),
        ("dave", 52),
    ]
    (warning,) = [e.text for e in events if isinstance(e, Notice) and e.level == "warning"]
    assert "t_1.csv and 1 more files of t have no header" in warning
    assert "alice" not in warning
    named = db.with_name("named.db")
    events.clear()
    report = load(data, named, events=events, told=said(header="none"), rename=(("column_1", "who"),))
    assert (report.rows, report.warnings) == (4, ())
    assert query(named, "SELECT count(who), sum(column_2) FROM t") == [(4, 148)]
    believed = db.with_name("believed.db")
    assert load(data / "t_1.csv", believed, told=said(header="1")).rows == 1
    assert query(believed, 'SELECT "alice", "30" FROM t') == [("bob", 25)]


def test_plan_summary_and_story_name_what_was_left_out(data: Path, db: Path) -> None:
    (data / "t.csv").write_bytes(dirty(1))
    planned = ingest("plan", "in", "--to", db, cwd=data.parent)
    assert "it is new; left out: 2 lines before the header" in planned.stdout
    decision = json.loads(ingest("plan", "in", "--to", db, "--json", cwd=data.parent).stdout)["decisions"][0]
    assert decision["header"]["discards"] == {"preamble": 2}
    ended = ingest("load", "in", "--to", db, cwd=data.parent)
    assert "discarded: 2 lines before the header, 1 repeated header, 1 line of a footer\n" in ended.stderr


def test_what_is_unsure_refuses_the_file_with_its_line(data: Path, db: Path) -> None:
    (data / "t.csv").write_bytes(NAMES + b"1,a,2\n\nid,day\n1,2024-01-01\n")
    assert told(load(data, db)) == {"t.csv": ("refused", "over_budget")}
    assert [(r[0], r[4], r[5]) for r in rejects(db)] == [(4, "ragged", "id,day"), (5, "ragged", "1,2024-01-01")]


def test_the_options_decide_whether_a_part_loaded_file_goes_on(data: Path, db: Path) -> None:
    path = data / "t.csv"
    path.write_bytes(NAMES + b"".join(b"%d,n%d,%d.5\n" % (i, i, i) for i in range(3_000)))
    killing.aged(path)
    run = tools.start(
        "load", "in", "--to", db, "--slice-bytes", 2048, "--commit-bytes", 4096, cwd=data.parent, held=True
    )
    with killing.held_midway(db, run) as found:
        killing.kill(*found.all)
    killing.finish(run)
    (decision,) = run_plan([data], Settings(to=str(db))).decisions
    assert decision.action == "resume"
    (decision,) = run_plan([data], Settings(to=str(db), told=said(comment="#"))).decisions  # type: ignore[arg-type]
    assert (decision.action, decision.code) == ("reload", "changed")
