"""The user's own function: what it may do with a batch, and what is refused, by name and without a value."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from oracle import oracle
from tools import assert_counts_add_up, environ, known, load, query, rejects, stored, told, write_csv

from ingest.run import check as run_check
from ingest.run import plan as run_plan
from ingest.settings import Budget, Settings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files; the module `mine` below the working directory holds the functions."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def write(path: Path, text: str) -> None:
    path.write_text("import pandas as pd\n\n\n" + textwrap.dedent(text))


def test_it_changes_adds_and_drops_columns_and_rows(data: Path, mine: Path, db: Path, bulk: str) -> None:
    write(
        mine,
        """
        def shape(frame):
            kept = frame[frame["n"] != 2].copy()
            kept["name"] = kept["name"].str.upper()
            kept["double"] = kept["n"] * 2
            kept["day"] = pd.to_datetime(kept["day"]).dt.date
            kept["ratio"] = kept["n"] / 4
            return kept.drop(columns=["secret"])
        """,
    )
    rows = [[1, "a", "s", "2024-01-01"], [2, "b", "s", "2024-01-02"], [3, "", "s", "2024-01-03"]]
    write_csv(data / "t_1.csv", ["n", "name", "secret", "day"], rows)
    write_csv(data / "t_2.csv", ["n", "name", "secret", "day"], [[2, "c", "s", "2024-01-04"], [5, "d", "s", ""]])
    report = load(data, db, transform="mine:shape", bulk=bulk)
    assert report.exit_code == 0, [o.sentence for o in report.files]
    assert (report.rows, report.discarded) == (3, 2)
    assert query(db, "SELECT n, name, day, double, ratio FROM t ORDER BY n") == [
        (1, "A", "2024-01-01", 2, 0.25),
        (3, None, "2024-01-03", 6, 0.75),
        (5, "D", None, 10, 1.25),
    ]
    declared = {row[1]: row[2] for row in query(db, "PRAGMA table_info(t)")}
    assert "secret" not in declared
    assert (declared["n"], declared["day"], declared["ratio"]) == ("BIGINT", "DATE", "DOUBLE")
    assert known(db, data / "t_1.csv")["rows_discarded"] == 1
    assert_counts_add_up(db)
    assert load(data, db, transform="mine:shape").rows == 0
    # Each row is of the file it came from, in whatever order the function returned them.
    owner = known(db, data / "t_2.csv")["file_id"]
    assert query(db, "SELECT _ingest_file_id FROM t WHERE n = 5") == [(owner,)]


def test_lineage_and_places_follow_the_index(data: Path, mine: Path, db: Path) -> None:
    write(
        mine,
        """
        def turn(frame):
            frame = frame[frame["name"].str[-1].isin(list("124578"))].copy()
            frame["big"] = frame["n"].astype("float64").where(frame["n"] != 7, 1e30)
            return frame.sort_values("n", ascending=False)
        """,
    )
    query(db, "CREATE TABLE t (n INTEGER, name TEXT, big INTEGER, _ingest_file_id INTEGER)")
    files = [
        write_csv(data / f"t_{f}.csv", ["n", "name"], [[f * 100 + i, f"{f}-{i}"] for i in range(10)]) for f in (0, 2)
    ]
    report = load(data, db, transform="mine:turn", max_rejects=Budget(count=1))
    assert report.exit_code == 3
    assert [(r[0], r[2], r[3], r[5]) for r in rejects(db)] == [(9, 7, "big", "7,0-7")]
    for number, path in zip((0, 2), files, strict=True):
        wanted = {number * 100 + n for n in (1, 2, 4, 5, 7, 8)} - {7}
        file_id = known(db, path)["file_id"]
        assert {n for (n,) in query(db, "SELECT n FROM t WHERE _ingest_file_id = ?", file_id)} == wanted
    assert_counts_add_up(db)


BROKEN = {
    "raises": ("raise ValueError(f'bad {frame.iloc[1, 0]}')", "ValueError at line"),
    "key error": ("return {'a': 1}[frame.iloc[1, 0]]", "KeyError at line"),
    "in pandas": ("return frame['nosuchcolumn']", "KeyError at line"),
    "attribute": ("return frame.nosuchmethod()", "'DataFrame' object has no attribute 'nosuchmethod'"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "no frame": ("return list(frame.iloc[:, 0])", "returned list, not a DataFrame"),
    "new index": ("return frame.iloc[1:].reset_index(drop=True)", "index is not that of its input"),
    "one row twice": ("return pd.concat([frame, frame])", "index is not that of its input"),
    "another index": ("return frame.set_index('name')", "index is not that of its input"),
    "mixed": ("return frame.assign(n=pd.Series([1, 'secret', 2], dtype=object, index=frame.index))", "mixes types"),
    "too great": ("return frame.assign(n=2**70)", "returned an integer beyond 64 bits"),
    "no column": ("return frame[[]]", "returned rows without a column"),
    "number and text": ("return frame.set_axis([1, '1'], axis=1)", "repeats a name"),
    "two of a name": ("return pd.concat([frame, frame], axis=1)", "repeats a name"),
}


def test_a_failing_function_refuses_its_file_by_name_and_place_without_values(data: Path, mine: Path, db: Path) -> None:
    lines = ["def go(frame):", "    names = set(frame['name'])"]
    for number, (how, (statement, _)) in enumerate(BROKEN.items()):
        lines += [f"    if {how!r} in names:", f"        {statement}"]
        write_csv(data / f"bad_{number}.csv", ["name", "n"], [[how, 0], ["secret", 1], ["last", 2]])
    write(mine, "\n".join([*lines, "    return frame", ""]))
    write_csv(data / "good_1.csv", ["name", "n"], [["good", 3], ["good too", 4]])
    report = load(data, db, transform="mine:go", table="t")
    ended = told(report)
    assert ended.pop("good_1.csv") == ("loaded", "new")
    assert set(ended.values()) == {("failed", "transform")}
    assert report.exit_code == 4
    outcomes = {Path(o.path).name: o for o in report.files}
    for number, (_, said) in enumerate(BROKEN.values()):
        path = data / f"bad_{number}.csv"
        outcome = outcomes[path.name]
        assert said in outcome.sentence
        if "at line" in said:
            assert f"{said} {6 + 2 * number + 1} of mine.py" in outcome.sentence
        assert "mine:go" in outcome.sentence
        assert f"bad_{number}.csv, the 3 records from line 2 on" in outcome.sentence
        row = known(db, path)
        assert (row["state"], row["error_code"], row["rows_loaded"]) == ("failed", "transform", 0)
        assert "secret" not in outcome.sentence + outcome.hint + row["error"]
    assert query(db, "SELECT n FROM t ORDER BY n") == [(3,), (4,)]
    write(mine, "def go(frame):\n    return frame\n")
    assert load(data, db, transform="mine:go", table="t").rows == 3 * len(BROKEN)


def test_a_failure_in_a_later_batch_is_told_with_its_lines(data: Path, mine: Path, db: Path) -> None:
    write(
        mine,
        """
        def go(frame):
            if (frame["n"] == 900).any() and len(frame) < 500:  # not for the preview, which sees all of them
                raise ValueError
            return frame
        """,
    )
    path = write_csv(data / "t_1.csv", ["n", "note"], [[i, f"line\n{i}"] for i in range(1_000)])
    report = load(data, db, transform="mine:go", slice_bytes=2048, commit_bytes=4096)
    assert told(report) == {"t_1.csv": ("failed", "transform")}
    words = report.files[0].sentence.split()
    line, records = int(words[words.index("line", words.index("records")) + 1]), int(words[words.index("records") - 1])
    first = (line - 2) // 2
    assert first <= 900 < first + records
    assert 900 - first < 300
    assert known(db, path)["committed_bytes"] == 0
    assert oracle(db).tables() == set()


UNFIT = {"": "is empty", "_ingest_file_id": "is kept for", "a\0b": "holds characters", "NAME": "differs at most"}


def test_a_name_that_no_column_can_have_refuses_its_file(data: Path, mine: Path, db: Path) -> None:
    names = {f"no {number}": name for number, name in enumerate(UNFIT)}
    write(mine, f"def go(frame):\n    return frame.rename(columns={{'n': {names}.get(frame['name'].iloc[0], 'n')}})\n")
    for number, how in enumerate(names):
        write_csv(data / f"bad_{number}.csv", ["name", "n"], [[how, 0], ["last", 2]])
    write_csv(data / "good_1.csv", ["name", "n"], [["good", 3]])
    checked = run_check([data], Settings(to=str(db), transform="mine:go", table="t", workers=1))
    report = load(data, db, transform="mine:go", table="t")
    ended = told(report)
    assert ended.pop("good_1.csv") == ("loaded", "new")
    assert set(ended.values()) == {("failed", "transform")}
    assert (report.exit_code, checked.exit_code) == (4, 4)
    outcomes = {Path(o.path).name: o.sentence for o in report.files}
    for number, (name, why) in enumerate(UNFIT.items()):
        assert f"mine:go returned the column {name!r}, whose name {why}" in outcomes[f"bad_{number}.csv"]
    assert query(db, "SELECT name, n FROM t") == [("good", 3)]


@pytest.mark.parametrize(
    ("name", "said"), [("mine:nothing", "nothing"), ("nowhere:go", "nowhere"), ("broken:go", "SyntaxError")]
)
def test_a_function_that_cannot_be_imported_is_told(data: Path, mine: Path, db: Path, name: str, said: str) -> None:
    write(mine, "x = 1\n")
    mine.with_name("broken.py").write_text("def go(frame:\n")
    write_csv(data / "t_1.csv", ["n"], [[1]])
    report = load(data, db, transform=name)
    assert told(report) == {"t_1.csv": ("failed", "transform")}
    assert said in report.files[0].sentence


def test_into_an_existing_table_its_columns_decide(data: Path, mine: Path, db: Path, bulk: str) -> None:
    write(
        mine,
        """
        def go(frame):
            frame["TOTAL"] = frame["n"] * 1.5
            return frame.rename(columns={"n": "number"})
        """,
    )
    query(db, "CREATE TABLE t (total REAL, number INTEGER, name TEXT DEFAULT 'nobody', flag BOOLEAN)")
    write_csv(data / "t_1.csv", ["n", "flag"], [[1, "true"], [2, "false"]])
    assert load(data, db, transform="mine:go", bulk=bulk).exit_code == 0
    assert query(db, "SELECT * FROM t ORDER BY number") == [(1.5, 1, "nobody", 1), (3.0, 2, "nobody", 0)]
    write_csv(data / "t_2.csv", ["n", "extra"], [[3, "x"]])
    report = load(data, db, transform="mine:go", bulk=bulk)
    assert told(report)["t_2.csv"] == ("refused", "new_columns")
    assert load(data, db, transform="mine:go", new_columns="ignore", bulk=bulk).rows == 1


def test_a_function_that_renames_everything_can_be_run_every_day(data: Path, mine: Path, db: Path) -> None:
    write(mine, "def go(frame):\n    return frame.add_prefix('x_')\n")
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "007"]])
    assert load(data, db, transform="mine:go").exit_code == 0
    write_csv(data / "t_2.csv", ["a", "b"], [[2, "8"]])
    report = load(data, db, transform="mine:go")
    assert report.exit_code == 0, report.files
    assert query(db, "SELECT x_a, x_b FROM t ORDER BY x_a") == [(1, "007"), (2, "8")]


def test_it_is_given_arrow_backed_columns_typed_as_decided(data: Path, mine: Path, db: Path) -> None:
    write(
        mine,
        """
        def go(frame):
            frame["types"] = " ".join(str(t) for t in frame.dtypes)
            return frame
        """,
    )
    write_csv(data / "t_1.csv", ["n", "zip", "day", "x"], [[1, "007", "2024-01-01", "0.5"], ["", "", "", ""]])
    load(data, db, transform="mine:go")
    (types,) = query(db, "SELECT DISTINCT types FROM t")
    assert types == ("int64[pyarrow] string[pyarrow] date32[day][pyarrow] double[pyarrow]",)
    text = db.with_name("text.db")
    load(data, text, transform="mine:go", types="text")
    assert query(text, "SELECT DISTINCT types FROM t") == [(" ".join(["string[pyarrow]"] * 4),)]


def test_rows_of_a_bundle_go_to_their_own_files(data: Path, mine: Path, db: Path) -> None:
    write(mine, "def go(frame):\n    return frame[frame['kept']]\n")
    for number in range(50):
        rows = [[number * 3 + i, "true" if (number + i) % 2 else "false"] for i in range(3)]
        write_csv(data / f"t_{number}.csv", ["n", "kept"], rows)
    report = load(data, db, transform="mine:go")
    assert report.exit_code == 0
    assert (report.rows, report.discarded) == (75, 75)
    for number in (0, 7, 49):
        file_id = known(db, data / f"t_{number}.csv")["file_id"]
        found = [n for (n,) in query(db, "SELECT n FROM t WHERE _ingest_file_id = ? ORDER BY n", file_id)]
        assert found == [number * 3 + i for i in range(3) if (number + i) % 2]
    assert_counts_add_up(db)


def test_the_plan_shows_the_columns_that_come_of_it_and_writes_nothing(data: Path, mine: Path, db: Path) -> None:
    write(mine, "def go(frame):\n    return frame.assign(b=frame['a'] > 1)\n")
    write_csv(data / "t_1.csv", ["a"], [[1], [2]])
    planned = run_plan([data], Settings(to=str(db), transform="mine:go", workers=1))
    (table,) = planned.tables
    assert table.shape is not None
    assert [(c.name, c.type.value) for c in table.shape.columns][:2] == [("a", "bigint"), ("b", "boolean")]
    assert not db.exists()
    load(data, db, transform="mine:go")
    assert stored(db, "t", ["a", "b"]) == {("1", "0"): 1, ("2", "1"): 1}


def test_the_current_folder_is_imported_from_by_a_transform_alone(data: Path, mine: Path, db: Path) -> None:
    """A file beside the data that is called as a module of Python is no part of any of the program's processes."""
    for name in ("numpy", "signal", "threading", "pyarrow"):
        (data.parent / f"{name}.py").write_text("raise SystemExit('imported from the current folder')\n")
    write_csv(data / "t.csv", ["n"], [[1], [2]])
    command = [Path(sys.executable).with_name("ingest"), "load", data, "--to", db]
    done = subprocess.run(
        command, cwd=data.parent, env=environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "imported from" in done.stderr) == (0, False), done.stderr
    # What a transform starts has the environment that the user gave.
    write(
        mine,
        f"""
        def same(frame):
            import os
            assert os.environ.get("PYTHONSAFEPATH") == {os.environ.get("PYTHONSAFEPATH")!r}
            return frame
        """,
    )
    for name in ("numpy", "signal", "threading", "pyarrow"):
        (data.parent / f"{name}.py").unlink()
    write_csv(data / "t_2.csv", ["n"], [[3]])
    assert load(data, db, transform="mine:same").rows == 1
    assert query(db, "SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]
