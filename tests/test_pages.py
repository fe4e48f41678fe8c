"""Pages that are written without SQLite are what SQLite itself would have written: it reads them and finds no fault."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.targets import pages

DEFINITION = "CREATE TABLE t (i BIGINT, b BOOLEAN, d DOUBLE, day DATE, at TIMESTAMP, x TEXT, y VARCHAR(9))"
RENAME = 'ALTER TABLE "t" RENAME TO b0'
TYPES = {
    "i": pa.int64(),
    "b": pa.bool_(),
    "d": pa.float64(),
    "day": pa.date32(),
    "at": pa.timestamp("us"),
    "x": pa.string(),
    "y": pa.string(),
}

EDGES = [
    0,
    1,
    -1,
    2,
    *(sign * (1 << bits) + off for bits in (7, 15, 23, 31, 47, 62) for sign in (1, -1) for off in (-1, 0, 1)),
]
integers = st.sampled_from([*EDGES, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.integers(50, 9000).map(
    lambda n: "é" * (n // 2)
)
rows = st.lists(
    st.tuples(
        st.none() | integers,
        st.none() | st.booleans(),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.dates(),
        st.none() | st.datetimes(dt.datetime(1, 1, 1)),
        st.none() | texts,
        st.none() | texts.filter(lambda text: len(text) < 100),
    ),
    min_size=1,
    max_size=40,
)


def table(values: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*values, strict=True)
    return pa.table(
        {name: pa.array(column, type_) for (name, type_), column in zip(TYPES.items(), columns, strict=True)}
    )


def append(path: Path, batch: pa.Table, definition: str = DEFINITION, name: str = "b0") -> None:
    pages.append(str(path), definition, f'ALTER TABLE "t" RENAME TO {name}', name, batch)


def stored(path: Path, name: str = "b0") -> list[tuple[Any, ...]]:
    """Rowid, value and storage class of everything, from a file that SQLite finds sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        columns = [info[1] for info in connection.execute(f"PRAGMA table_info({name})")]
        return connection.execute(
            f"SELECT rowid, {', '.join(f'{c}, typeof({c})' for c in columns)} FROM {name} ORDER BY rowid"
        ).fetchall()


def inserted(path: Path, values: list[tuple[Any, ...]], definition: str = DEFINITION) -> list[tuple[Any, ...]]:
    """The same by SQLite's own insert."""

    def plain(value: Any) -> Any:
        if isinstance(value, dt.datetime):
            return f"{value.isoformat(' ', 'microseconds'):0>26}"
        return value.isoformat() if isinstance(value, dt.date) else value

    with closing(sqlite3.connect(path)) as connection:
        connection.execute(definition)
        marks = ", ".join("?" * len(values[0]))
        connection.executemany(f"INSERT INTO t VALUES ({marks})", [tuple(map(plain, row)) for row in values])
        connection.commit()
    return stored(path, "t")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows, st.integers(1, 7))
def test_reads_as_what_sqlite_inserts(tmp_path_factory: pytest.TempPathFactory, values: list[Any], chunk: int) -> None:
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "CHUNK", chunk)
        append(folder / "ours.db", table(values))
    assert stored(folder / "ours.db") == inserted(folder / "theirs.db", values)


@pytest.mark.parametrize("count", [1, 2, 127, 128, 16_383, 16_384, 16_385, 40_000])
def test_any_number_of_rows_and_all_of_the_batch_s_chunks(tmp_path: Path, count: int) -> None:
    batch = pa.table({"n": pa.chunked_array([list(range(count // 3)), list(range(count // 3, count))], pa.int64())})
    append(tmp_path / "x.db", batch, "CREATE TABLE t (n BIGINT)")
    assert stored(tmp_path / "x.db") == [(n + 1, n, "integer") for n in range(count)]


def test_a_tree_of_three_levels(tmp_path: Path) -> None:
    # Two records a page, and at most 1,091 pages below one: 1,500 leaves need pages between them and the root.
    texts_ = [f"{number:05}" + "x" * 8_000 for number in range(3_000)]
    append(tmp_path / "x.db", pa.table({"t": texts_}), "CREATE TABLE t (t TEXT)")
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert [text for (text,) in connection.execute("SELECT t FROM b0")] == texts_
        assert connection.execute("SELECT substr(t, 1, 5) FROM b0 WHERE rowid = 2345").fetchone() == ("02344",)


@pytest.mark.parametrize("leaves", [2, 1_091, 1_092, 1_093, 2_182, 2_183])
def test_no_page_is_above_a_single_one(tmp_path: Path, leaves: int) -> None:
    # A record a page; at most 1,091 pages below one.
    texts_ = [f"{number:05}" + "x" * 9_000 for number in range(leaves)]
    append(tmp_path / "x.db", pa.table({"t": texts_}), "CREATE TABLE t (t TEXT)")
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), max(t) FROM b0").fetchone() == (leaves, texts_[-1])


def test_many_columns(tmp_path: Path) -> None:
    # Their header is longer than 127 bytes, and says so in two.
    names = [f"c{number}" for number in range(300)]
    batch = pa.table({name: pa.array([number, None, 1 << 40]) for number, name in enumerate(names)})
    append(tmp_path / "x.db", batch, f"CREATE TABLE t ({', '.join(f'{name} BIGINT' for name in names)})")
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT * FROM b0").fetchall() == [tuple(range(300)), (None,) * 300, (1 << 40,) * 300]


def test_several_tables_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    for number in range(3):
        append(
            path,
            pa.table({"n": np.arange(number * 5_000)[:5_000] if number else np.array([7])}),
            "CREATE TABLE t (n BIGINT)",
            f"b{number}",
        )
    assert [len(stored(path, f"b{number}")) for number in range(3)] == [1, 5_000, 5_000]
    with closing(sqlite3.connect(path)) as connection:  # SQLite goes on where we stopped
        connection.execute("CREATE TABLE more AS SELECT * FROM b1")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (5_000,)


def test_the_page_of_sqlite_s_locks_is_left_out(tmp_path: Path) -> None:
    # A file of just under 1 GiB, nearly all of it a hole.
    path = tmp_path / "x.db"
    append(path, pa.table({"n": [1]}), "CREATE TABLE t (n BIGINT)")
    count = pages.LOCK_PAGE - 4
    with path.open("r+b") as file:
        file.truncate(count * pages.PAGE)
        file.seek(28)
        file.write(count.to_bytes(4, "big"))
    texts_ = [f"{number}" + "x" * 8_000 for number in range(40)]
    append(path, pa.table({"t": texts_}), "CREATE TABLE t (t TEXT)", "b1")
    with closing(sqlite3.connect(path)) as connection:
        assert [text for (text,) in connection.execute("SELECT t FROM b1")] == texts_
        last = connection.execute("PRAGMA page_count").fetchone()[0]
    assert last > pages.LOCK_PAGE
    with path.open("rb") as file:
        file.seek((pages.LOCK_PAGE - 1) * pages.PAGE)
        assert file.read(pages.PAGE) == bytes(pages.PAGE)


def test_numbers_take_as_few_bytes_as_sqlite_s_own(tmp_path: Path) -> None:
    values = [(number,) for number in EDGES * 400]
    append(tmp_path / "ours.db", pa.table({"i": [row[0] for row in values]}), "CREATE TABLE t (i BIGINT)")
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute(f"PRAGMA page_size = {pages.PAGE}")
        connection.execute("CREATE TABLE t (i BIGINT)")
        connection.executemany("INSERT INTO t VALUES (?)", values)
        connection.commit()
    ours, theirs = ((tmp_path / name).stat().st_size for name in ("ours.db", "theirs.db"))
    assert abs(ours - theirs) <= pages.PAGE


@pytest.mark.parametrize(
    ("definition", "batch"),
    [
        ("CREATE TABLE t (a TEXT UNIQUE)", {"a": ["x"]}),
        ("CREATE TABLE t (a INTEGER PRIMARY KEY)", {"a": [1]}),
        ("CREATE TABLE t (a TEXT, b TEXT DEFAULT 'none')", {"a": ["x"]}),
        ("CREATE TABLE t (a TEXT NOT NULL)", {"a": ["x", None]}),
        ("CREATE TABLE t (a DECIMAL(10, 2))", {"a": ["1.50"]}),
        ("CREATE TABLE t (a DATE)", {"a": ["2024-01-31", "123e-00005"]}),
        ("CREATE TABLE t (a STRING)", {"a": ["7"]}),
        ("CREATE TABLE t (a TEXT)", {"a": [1]}),
        ("CREATE TABLE t (a DOUBLE)", {"a": [1]}),
        ("CREATE TABLE t (a BIGINT)", {"a": [1.0]}),
        ("CREATE TABLE t (a DOUBLE)", {"a": [float("inf")]}),
        ("CREATE TABLE t (a TEXT)", {"a": ["x", "y" * pages.PAGE]}),
        ("CREATE TABLE t (a TEXT)", {"A": ["x"]}),
        ("CREATE TABLE t (a TEXT, b TEXT AS (a || '!'))", {"a": ["x"]}),
    ],
)
def test_the_rest_is_left_to_sqlite(tmp_path: Path, definition: str, batch: dict[str, list[Any]]) -> None:
    path = tmp_path / "x.db"
    append(path, pa.table({"n": [1]}), "CREATE TABLE t (n BIGINT)")
    before = path.read_bytes()
    with pytest.raises(pages.Unsuited):
        append(path, pa.table(batch), definition, "b1")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_largest_record_that_fits(tmp_path: Path) -> None:
    definition, largest = "CREATE TABLE t (a TEXT)", pages.LARGEST_RECORD - 6
    append(tmp_path / "x.db", pa.table({"a": ["x" * largest, "y" * (largest - 1), "z"]}), definition)
    assert [len(text) for _, text, _ in stored(tmp_path / "x.db")] == [largest, largest - 1, 1]
