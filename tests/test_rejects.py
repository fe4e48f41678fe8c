"""Records that cannot be loaded (design D13): set aside with their exact place, or their file refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from killing import assert_gone, finish, held_midway, kill
from oracle import Database
from tools import assert_counts_add_up, expected, ingest, known, load, query, rejects, start, stored, told, write_csv

from ingest.settings import REJECTS_SHOWN, Budget

pytestmark = pytest.mark.every_target

HEADER = b"id,n,note\n"
BAD = {
    "ragged": b"3,3",
    "bad_integer": b"3,x,fine",
    "broken_quote": b'3,3,"said "no" to it"',
    "bad_byte": b"3,3,caf\xe9",
    "nul_byte": b"3,3,a\0b",
}
TEXTS = {reason: text.decode("ascii", "backslashreplace") for reason, text in BAD.items()} | {"nul_byte": "3,3,a\\x00b"}


def several(count: int, start: int = 0, quoted: bool = True) -> bytes:
    """Records by the book; every third has a line break within quotes."""
    lines = [
        f'{i},{i},"note\n{i}"' if quoted and i % 3 == 0 else f"{i},{i},note {i}" for i in range(start, start + count)
    ]
    return "".join(line + "\n" for line in lines).encode()


@pytest.fixture
def table(tmp_path: Path, db: Database) -> Path:
    """A folder, and in the database a table of ours: id and n are whole numbers."""
    folder = tmp_path / "data"
    write_csv(folder / "t_0.csv", ["id", "n", "note"], [[0, 0, "first"]])
    load(folder, db)
    return folder


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_record_is_set_aside_with_its_place_and_text(table: Path, db: Database, reason: str, bulk: str) -> None:
    before = several(7)
    path = table / "t_1.csv"
    path.write_bytes(HEADER + before + BAD[reason] + b"\n" + several(4, 7, quoted=False))
    report = load(path, db, max_rejects=Budget(count=1), bulk=bulk)
    assert report.exit_code == 3, report.files
    assert (report.rows, report.rejected) == (11, 1)
    ((line, byte, record, column, code, text, applied),) = rejects(db)
    assert line == 1 + before.count(b"\n") + 1
    assert byte == len(HEADER) + len(before)
    assert record == 7
    assert (code, column, applied) == (reason, "n" if reason == "bad_integer" else None, 1)
    assert text == TEXTS[reason]
    assert_counts_add_up(db)


def test_rejects_of_later_slices_are_placed_in_the_file(table: Path, db: Database) -> None:
    """Lines, bytes and records go on counting over slices and commit steps, also of a compressed file."""
    data, places = HEADER, []
    for part in range(12):
        data += several(20, part * 20)
        places.append((data.count(b"\n") + 1, len(data), part * 21 + 20))
        data += BAD["bad_integer"] + b"\n"
    (table / "t_1.csv").write_bytes(data)
    with gzip.open(table / "t_2.csv.gz", "wb") as file:
        file.write(data)
    sizes = {"slice_bytes": 1024, "commit_bytes": 2048}
    report = load(table, db, max_rejects=Budget(count=12), **sizes)
    assert report.exit_code == 3
    assert [o.rejected for o in report.files] == [0, 12, 12]
    for name in ("t_1.csv", "t_2.csv.gz"):
        file_id = known(db, table / name)["file_id"]
        found = query(
            db, "SELECT line, byte_offset, record FROM ingest_reject WHERE file_id = ? ORDER BY reject_id", file_id
        )
        assert found == places
    assert_counts_add_up(db)


def test_rejects_after_a_broken_quote_are_placed_in_the_file(table: Path, db: Database) -> None:
    """Behind a broken quote the borders are found by the exact rules, and the counting goes on."""
    data = HEADER + several(60)
    places = [(data.count(b"\n") + 1, len(data), 60, "broken_quote")]
    data += b'60,60,"open "here" and there"\n' + several(60, 61, quoted=False)
    places.append((data.count(b"\n") + 1, len(data), 121, "bad_integer"))
    data += b"x,1,end\n"
    (table / "t_1.csv").write_bytes(data)
    report = load(table / "t_1.csv", db, max_rejects=Budget(count=2), slice_bytes=1024, commit_bytes=1500)
    assert report.exit_code == 3, report.files
    assert [(r[0], r[1], r[2], r[4]) for r in rejects(db)] == places
    assert report.rows == 120
    assert_counts_add_up(db)


@pytest.mark.parametrize("budget", [Budget(count=20), Budget(count=19)], ids=["in budget", "over budget"])
def test_rejects_after_a_resume_are_placed_in_the_file(
    tmp_path: Path, table: Path, db: Database, budget: Budget
) -> None:
    data, places = HEADER, []
    for part in range(20):
        data += several(300, part * 300)
        places.append((data.count(b"\n") + 1, len(data), part * 301 + 300))
        data += BAD["bad_integer"] + b"\n"
    path = table / "t_1.csv"
    path.write_bytes(data)
    sizes = ("--slice-bytes", "4KiB", "--commit-bytes", "12KiB", "--max-rejects", "20")
    run = start("load", path, "--to", db, "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with held_midway(db, run) as found:
        kill(*found.all)
        assert_gone(found.all)
    finish(run)
    committed = len(rejects(db))
    assert 0 < committed < 20
    report = load(path, db, max_rejects=budget, slice_bytes=4096, commit_bytes=8192)
    loaded = budget.count == 20
    assert (report.files[0].action, report.files[0].state) == ("resume", "loaded" if loaded else "refused")
    # A refusal takes the rows back, but the first run's rejects are not forgotten with them.
    assert [(r[0], r[1], r[2]) for r in rejects(db)] == places
    assert {r[6] for r in rejects(db)} == {int(loaded)}
    assert query(db, "SELECT count(*) FROM t") == [(6001 if loaded else 1,)]
    assert_counts_add_up(db)


# the budget


@pytest.mark.core
def test_by_default_one_bad_record_refuses_its_file_and_no_other(table: Path, db: Database) -> None:
    path = table / "t_1.csv"
    path.write_bytes(HEADER + several(5) + b"x,1,bad\n")
    good = write_csv(table / "t_2.csv", ["id", "n", "note"], [[70, 1, "good"]])
    report = load(table, db)
    assert report.exit_code == 4
    assert told(report)["t_1.csv"] == ("refused", "over_budget")
    assert told(report)["t_2.csv"] == ("loaded", "new")
    assert stored(db, "t", ["id", "n", "note"]) == expected([table / "t_0.csv", good], ["id", "n", "note"])
    assert [(r[0], r[5], r[6]) for r in rejects(db)] == [(9, "x,1,bad", 0)]
    row = known(db, path)
    assert (row["state"], row["rows_loaded"], row["committed_bytes"]) == ("refused", 0, 0)
    shown = ingest("rejects", "list", "t_1.csv", "--to", db, cwd=table)
    assert "t_1.csv:9:" in shown.stdout
    assert "x,1,bad" in shown.stdout


def test_a_file_over_its_budget_is_read_to_its_end_slice_by_slice(table: Path, db: Database) -> None:
    """What is staged of it meanwhile goes into files that others of its slices may be written to."""
    rows = [["x", 1, "bad"], *([i, i, "good"] for i in range(600)), ["y", 1, "bad"]]
    write_csv(table / "t_1.csv", ["id", "n", "note"], rows)
    report = load(table, db, slice_bytes=64, max_rejects=Budget(count=0))
    assert told(report)["t_1.csv"] == ("refused", "over_budget")
    assert [r[0] for r in rejects(db)] == [2, 603]


def test_a_refused_file_keeps_its_first_thousand_rejects(table: Path, db: Database) -> None:
    path = write_csv(table / "t_1.csv", ["id", "n", "note"], [["x", 1, f"bad {i}"] for i in range(3_000)])
    report = load(table, db, slice_bytes=16 * 1024)
    assert told(report)["t_1.csv"] == ("refused", "over_budget")
    found = rejects(db)
    assert len(found) == REJECTS_SHOWN
    assert [r[2] for r in found] == list(range(REJECTS_SHOWN))
    assert [r[0] for r in found] == list(range(2, REJECTS_SHOWN + 2))
    assert not any(r[6] for r in found)
    assert known(db, path)["state"] == "refused"


@pytest.mark.parametrize(
    ("budget", "state"),
    [
        (Budget(count=3), "loaded"),
        (Budget(count=2), "refused"),
        (Budget(percent=3.0), "loaded"),
        (Budget(percent=2.9), "refused"),
        (Budget(percent=0.0), "refused"),
        (Budget(percent=100.0), "loaded"),
    ],
    ids=["3", "2", "3%", "2.9%", "0%", "100%"],
)
def test_a_budget_is_kept_to_the_record(table: Path, db: Database, budget: Budget, state: str) -> None:
    rows = [["x" if i in (10, 50, 90) else i, 1, "note"] for i in range(100)]
    path = write_csv(table / "t_1.csv", ["id", "n", "note"], rows)
    report = load(path, db, max_rejects=budget)
    assert report.files[0].state == state
    assert report.exit_code == (3 if state == "loaded" else 4)
    assert query(db, "SELECT count(*) FROM t") == [(98 if state == "loaded" else 1,)]
    assert [(r[2], r[6]) for r in rejects(db)] == [(i, int(state == "loaded")) for i in (10, 50, 90)]
    assert_counts_add_up(db)


def test_the_budget_of_a_run_is_shared_by_its_files(table: Path, db: Database) -> None:
    for number in (1, 2, 3):
        write_csv(table / f"t_{number}.csv", ["id", "n", "note"], [[1, number, "a"], ["x", number, "b"]])
    report = load(table, db, max_rejects_run=2)
    ended = told(report)
    assert sorted(state for state, _ in ended.values()) == ["loaded", "loaded", "refused", "skipped"]
    assert report.exit_code == 4
    assert query(db, "SELECT count(*) FROM ingest_reject WHERE applied") == [(2,)]
    refused = next(o for o in report.files if o.state == "refused")
    assert "--max-rejects-run" in refused.sentence
    assert load(table, db, max_rejects_run=1).exit_code == 3


@pytest.mark.parametrize("budget", [Budget(count=2), Budget(percent=0.3)], ids=["count", "percent"])
def test_over_budget_after_committed_steps_takes_all_of_the_file_back(
    table: Path, db: Database, budget: Budget, bulk: str
) -> None:
    rows = [["x" if i in (10, 500, 700, 990) else i, 1, f"note {i}"] for i in range(1_000)]
    path = write_csv(table / "t_1.csv", ["id", "n", "note"], rows)
    report = load(path, db, max_rejects=budget, slice_bytes=1024, commit_bytes=2048, bulk=bulk)
    assert told(report) == {"t_1.csv": ("refused", "over_budget")}
    row = known(db, path)
    assert (row["state"], row["committed_bytes"], row["rows_loaded"], row["rows_rejected"]) == ("refused", 0, 0, 0)
    assert row["version"] > 4  # steps were committed before
    assert query(db, "SELECT count(*) FROM t") == [(1,)]
    found = rejects(db)
    assert [(r[2], r[6]) for r in found] == [(i, 0) for i in (10, 500, 700, 990)]
    assert load(path, db, max_rejects=Budget(count=4), slice_bytes=1024, commit_bytes=2048, bulk=bulk).exit_code == 3
    assert query(db, "SELECT count(*) FROM t") == [(997,)]
    assert [(r[2], r[6]) for r in rejects(db)] == [(i, 1) for i in (10, 500, 700, 990)]
    assert_counts_add_up(db)


def test_one_bad_file_among_two_hundred_is_refused_alone(tmp_path: Path, db: Database, bulk: str) -> None:
    folder = tmp_path / "data"
    files = [write_csv(folder / f"t_{i}.csv", ["id", "n"], [[i, j] for j in range(3)]) for i in range(200)]
    load(files[0], db)
    files[77].write_bytes(b"id,n\n77,0\n77\n77,2\n")
    files[78].write_bytes(b'id,n\n78,0\n78,"1\n78,2\n')
    report = load(folder, db, bulk=bulk)
    ended = told(report)
    assert {name for name, (state, _) in ended.items() if state == "refused"} == {"t_77.csv", "t_78.csv"}
    assert report.exit_code == 4
    good = [f for f in files if f.name not in ("t_77.csv", "t_78.csv")]
    assert stored(db, "t", ["id", "n"]) == expected(good, ["id", "n"])
    assert {(r[4], r[0]) for r in rejects(db)} == {("ragged", 3), ("broken_quote", 3)}
    assert_counts_add_up(db)


def test_a_message_about_a_record_never_holds_its_values(table: Path, db: Database) -> None:
    secret = "hunter2"
    lines = [f"{secret},1,a", f'1,"{secret}"{secret},b', f"1,{secret}", f"1,1,{secret}\\xff"]
    data = "\n".join(lines).encode().replace(b"\\xff", b"\xff")
    (table / "t_1.csv").write_bytes(HEADER + data + b"\n")
    report = load(table, db, max_rejects=Budget(count=10))
    assert report.rejected == 4
    assert not any(secret in message for (message,) in query(db, "SELECT message FROM ingest_reject"))
    assert not any(secret in o.sentence + o.hint for o in report.files)
    assert all(secret in text for (text,) in query(db, "SELECT raw FROM ingest_reject"))
