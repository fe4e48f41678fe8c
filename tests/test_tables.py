"""Columns and tables: by name and not by position; an existing table is used as it is, one of ours grows."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from oracle import KINDS, Database
from tools import (
    assert_loaded_once,
    expected,
    known,
    load,
    orders,
    query,
    rejects,
    script,
    stored,
    told,
    write_csv,
)

from ingest.errors import UsageError
from ingest.settings import Budget


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def columns(db: Path, table: str = "t") -> dict[str, str]:
    """The table's columns with their declared types, without our own."""
    return {row[1]: row[2] for row in query(db, f'PRAGMA table_info("{table}")') if row[1] != "_ingest_file_id"}


# a table of the user's


def test_columns_go_by_name_and_not_by_position(data: Path, db: Path, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER, b INTEGER, \"C\" TEXT, d TEXT DEFAULT 'none', e REAL)")
    write_csv(data / "t_1.csv", ["b", "a", "c"], [[2, 1, "x"], [4, 3, ""]])
    write_csv(data / "t_2.csv", ["E", "A", "B"], [["0.5", 5, 6]])
    assert load(data, db, bulk=bulk).exit_code == 0
    assert query(db, "SELECT * FROM t ORDER BY a") == [
        (1, 2, "x", "none", None),
        (3, 4, None, "none", None),
        (5, 6, None, "none", 0.5),
    ]
    assert columns(db) == {"a": "INTEGER", "b": "INTEGER", "C": "TEXT", "d": "TEXT", "e": "REAL"}


def test_sqlite_makes_no_number_of_a_text_in_silence(data: Path, db: Path, bulk: str) -> None:
    # By the words of their types these columns store numbers, and not for one of them is that told.
    query(db, "CREATE TABLE t (id INTEGER, zip STRING, doc JSON, price NUMERIC)")
    bad = [[1, "007", "1", "1"], [2, "7", "1.10", "1"], [3, "7", "1", "0.12345678901234567"]]
    write_csv(data / "t.csv", ["id", "zip", "doc", "price"], [*bad, [4, "7", "{}", "1.50"], [5, "a", "0.5", ""]])
    report = load(data, db, max_rejects=Budget(count=3), bulk=bulk)
    assert (report.rows, report.rejected) == (2, 3), report.files
    assert [(r[2], r[3], r[4]) for r in rejects(db)] == [(n, c, "lossy") for n, c in enumerate(["zip", "doc", "price"])]
    assert query(db, "SELECT * FROM t ORDER BY id") == [(4, 7, "{}", 1.5), (5, "a", 0.5, None)]


def test_a_match_that_ignores_case_must_be_the_only_one(data: Path, db: Path) -> None:
    query(db, "CREATE TABLE t (id INTEGER, name TEXT)")
    # Of two spellings the header's own is the first; the second is another column, which the table does not have.
    write_csv(data / "t_1.csv", ["ID", "Id", "name"], [[1, 2, "x"]])
    report = load(data, db)
    assert told(report) == {"t_1.csv": ("refused", "new_columns")}
    assert query(db, "SELECT count(*) FROM t") == [(0,)]


def test_an_unknown_column_is_refused_with_the_nearest_or_left_out_on_demand(data: Path, db: Path) -> None:
    query(db, "CREATE TABLE t (customer TEXT, amount INTEGER)")
    write_csv(data / "t_1.csv", ["custmer", "amount"], [["c", 1]])
    write_csv(data / "t_2.csv", ["customer", "amount"], [["d", 2]])
    report = load(data, db)
    assert told(report) == {"t_1.csv": ("refused", "new_columns"), "t_2.csv": ("loaded", "new")}
    (refused,) = [o for o in report.files if o.state == "refused"]
    assert "'custmer'" in refused.sentence
    assert "'customer'" in refused.sentence
    assert "--rename" in refused.hint
    assert columns(db) == {"customer": "TEXT", "amount": "INTEGER"}
    assert load(data, db, new_columns="ignore").rows == 1
    assert query(db, "SELECT customer, amount FROM t ORDER BY amount") == [(None, 1), ("d", 2)]


@pytest.mark.parametrize("db", ["sqlite", *KINDS], indirect=True)
def test_a_column_that_the_database_generates_is_said_to_be_one(data: Path, db: Database) -> None:
    query(db, "CREATE TABLE t (n INTEGER, v INTEGER GENERATED ALWAYS AS (n * 2) STORED)")
    write_csv(data / "t_1.csv", ["n", "V"], [[1, 2]])
    report = load(data, db)
    assert told(report) == {"t_1.csv": ("refused", "new_columns")}
    assert "its column 'V' is one whose values the database generates in the table t" in report.files[0].sentence
    assert "--new-columns ignore" in report.files[0].hint
    assert load(data, db, new_columns="ignore").rows == 1
    assert query(db, "SELECT n, v FROM t") == [(1, 2)]


def test_a_column_is_renamed_on_demand(data: Path, db: Path) -> None:
    query(db, "CREATE TABLE t (customer TEXT, amount INTEGER)")
    write_csv(data / "t_1.csv", ["custmer", "amount"], [["c", 1]])
    assert load(data, db, rename=(("custmer", "customer"),)).exit_code == 0
    assert query(db, "SELECT customer, amount FROM t") == [("c", 1)]


def test_a_missing_value_for_not_null_is_a_reject_and_a_missing_column_refuses_the_file(
    data: Path, db: Path, bulk: str
) -> None:
    query(db, "CREATE TABLE t (a INTEGER NOT NULL, b TEXT NOT NULL DEFAULT 'b', c TEXT)")
    write_csv(data / "t_1.csv", ["a", "c"], [[1, "x"], ["", "y"]])
    write_csv(data / "t_2.csv", ["b", "c"], [["q", "z"]])
    report = load(data, db, max_rejects=Budget(count=1), bulk=bulk)
    assert told(report) == {"t_1.csv": ("loaded", "new"), "t_2.csv": ("refused", "constraint")}
    assert query(db, "SELECT * FROM t") == [(1, "b", "x")]
    assert [(r[0], r[3], r[4]) for r in rejects(db)] == [(3, "a", "not_null")]
    assert "no column 'a'" in next(o.sentence for o in report.files if o.state == "refused")


@pytest.mark.parametrize("within", [True, False], ids=["within a file", "against the table"])
def test_a_broken_constraint_refuses_its_file_and_keeps_nothing_of_it(
    data: Path, db: Path, bulk: str, within: bool
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    query(db, "INSERT INTO t VALUES (7, 'there')")
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "x"], [2, "y"], [2 if within else 7, "z"]])
    write_csv(data / "t_2.csv", ["a", "b"], [[8, "x"]])
    report = load(data, db, bulk=bulk)
    assert told(report) == {"t_1.csv": ("refused", "over_budget"), "t_2.csv": ("loaded", "new")}
    assert query(db, "SELECT * FROM t ORDER BY a") == [(7, "there"), (8, "x")]
    (sentence,) = [o.sentence for o in report.files if o.state == "refused"]
    assert [(r[0], r[4]) for r in rejects(db)] == [(4, "constraint")]
    assert known(db, data / "t_1.csv")["error"] == sentence
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "x"], [2, "y"], [3, "z"]])
    assert load(data, db, bulk=bulk).rows == 3


SHAPES = {
    "integer primary key": "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)",
    "primary key": "CREATE TABLE t (a INTEGER, b TEXT, PRIMARY KEY (b, a))",
    "without rowid": "CREATE TABLE t (a INTEGER, b TEXT PRIMARY KEY) WITHOUT ROWID",
    "index": "CREATE TABLE t (a INTEGER, b TEXT); CREATE UNIQUE INDEX i ON t (b)",
    "collation": "CREATE TABLE t (a INTEGER, b TEXT COLLATE NOCASE)",
    "generated": "CREATE TABLE t (a INTEGER, c INTEGER GENERATED ALWAYS AS (a * 2) STORED, b TEXT)",
    "strict": "CREATE TABLE t (a INTEGER, b TEXT) STRICT",
    "trigger": "CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE log (n);"
    " CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END",
    "check": "CREATE TABLE t (a INTEGER CHECK (a > 0), b TEXT)",
    "foreign key": "CREATE TABLE p (b TEXT PRIMARY KEY); INSERT INTO p VALUES ('x'), ('y'), ('z');"
    " CREATE TABLE t (a INTEGER, b TEXT REFERENCES p (b))",
    "comment": "CREATE TABLE t (a INTEGER, -- the key, of course\n b TEXT)",
    "quoted": 'CREATE TABLE "t" ("a" INTEGER, [b] TEXT)',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_kind_of_table_is_loaded_as_it_is(data: Path, db: Path, shape: str) -> None:
    script(db, SHAPES[shape])
    write_csv(data / "t_1.csv", ["b", "a"], [["x", 1], ["y", 2]])
    assert load(data, db).exit_code == 0
    write_csv(data / "t_2.csv", ["a", "b"], [[3, "z"]])
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(1, "x"), (2, "y"), (3, "z")]
    if shape == "trigger":
        assert query(db, "SELECT n FROM log ORDER BY n") == [(1,), (2,), (3,)]
    if shape == "generated":
        assert query(db, "SELECT c FROM t ORDER BY a") == [(2,), (4,), (6,)]


@pytest.mark.parametrize(
    ("shape", "row", "said"),
    [
        ("check", [-1, "x"], "CHECK"),
        ("integer primary key", [5, "x"], "UNIQUE"),
        ("without rowid", [9, "there"], "UNIQUE"),
        ("index", [9, "there"], "UNIQUE"),
        ("foreign key", [1, "nobody"], "FOREIGN KEY"),
    ],
)
def test_every_constraint_of_a_table_holds(data: Path, db: Path, shape: str, row: list[object], said: str) -> None:
    script(
        db,
        SHAPES[shape] + "; INSERT INTO t (a, b) VALUES (5, " + ("'x'" if shape == "foreign key" else "'there'") + ")",
    )
    write_csv(data / "t_1.csv", ["a", "b"], [[6, "y"], row])
    report = load(data, db)
    assert told(report) == {"t_1.csv": ("refused", "over_budget")}
    [(line, message)] = query(db, "SELECT line, message FROM ingest_reject")
    assert line == 3
    assert said in message
    assert query(db, "SELECT a FROM t") == [(5,)]


def test_a_view_is_refused_and_other_tables_go_on(data: Path, db: Path) -> None:
    script(db, "CREATE TABLE base (a INTEGER); CREATE VIEW t AS SELECT a FROM base")
    write_csv(data / "t_1.csv", ["a"], [[1]])
    write_csv(data / "u.csv", ["a"], [[1]])
    report = load(data, db)
    assert told(report) == {"t_1.csv": ("refused", "columns"), "u.csv": ("loaded", "new")}
    assert "view" in next(o.sentence for o in report.files if o.state == "refused")


def test_a_table_of_another_spelling_is_the_same_table(data: Path, db: Path) -> None:
    query(db, 'CREATE TABLE "Orders" (id INTEGER, customer TEXT, amount REAL, day TEXT, note TEXT)')
    first = orders(data / "orders_1.csv", 10)
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT DISTINCT table_name FROM ingest_file") == [("Orders",)]
    assert load(data, db).rows == 0
    second = orders(data / "ORDERS_2.csv", 10, first=10)
    write_csv(data / "orders_3.csv", ["id", "nonsense"], [[1, 2]])
    report = load(data, db)
    assert told(report)["ORDERS_2.csv"] == ("loaded", "new")
    assert told(report)["orders_3.csv"] == ("refused", "new_columns")
    assert_loaded_once(db, "Orders", [first, second])


def test_one_table_of_ours_is_known_by_one_spelling(data: Path, db: Path) -> None:
    first = orders(data / "Orders.csv", 10)
    assert load(data, db).exit_code == 0
    second = orders(data / "sub" / "orders.csv", 10, first=10)
    assert load(data / "sub", db).rows == 10
    assert load(data, db).rows == 0
    assert_loaded_once(db, "Orders", [first, second])
    orders(second, 5, first=50)
    assert load(data / "sub", db, on_change="reload").rows == 5


def test_a_name_with_a_dot_is_no_schema(data: Path, db: Path) -> None:
    path = orders(data / "sales.v2_1.csv", 10)
    assert load(data, db).exit_code == 0
    assert_loaded_once(db, "sales.v2", [path])
    with pytest.raises(UsageError, match="schema"):
        load(data, db, table="main.t")


# a table of ours


def test_a_table_of_ours_grows_with_its_files(data: Path, db: Path, bulk: str) -> None:
    """A column appears later, disappears, and moves: in one run and day by day the same comes of it."""
    days = {
        "t_2021-01-13.csv": (["day", "n"], [["2021-01-13", 1]]),
        "t_2021-01-14.csv": (["n", "day"], [[2, "2021-01-14"]]),
        "t_2021-01-15.csv": (["day", "extra", "n"], [["2021-01-15", "0.5", 3]]),
        "t_2021-01-16.csv": (["day", "extra", "Note"], [["2021-01-16", "1.5", "n"]]),
        "t_2021-01-17.csv": (["NOTE", "n"], [["m", 5]]),
    }
    for name, (header, rows) in days.items():
        write_csv(data / name, header, rows)
        assert load(data, db, bulk=bulk).exit_code == 0
    together = db.with_name("together.db")
    assert load(data, together, bulk=bulk).exit_code == 0
    for loaded in (db, together):
        assert columns(loaded) == {"day": "DATE", "n": "BIGINT", "extra": "DOUBLE", "Note": "TEXT"}
        assert query(loaded, "SELECT day, n, extra, Note FROM t ORDER BY day, n DESC") == [
            (None, 5, None, "m"),
            ("2021-01-13", 1, None, None),
            ("2021-01-14", 2, None, None),
            ("2021-01-15", 3, 0.5, None),
            ("2021-01-16", None, 1.5, "n"),
        ]


def test_a_new_column_is_refused_or_left_out_on_demand(data: Path, db: Path) -> None:
    write_csv(data / "t_1.csv", ["a", "b"], [[1, 2]])
    load(data, db, new_columns="refuse")
    write_csv(data / "t_2.csv", ["a", "b", "c"], [[3, 4, 5]])
    report = load(data, db, new_columns="refuse")
    assert told(report)["t_2.csv"] == ("refused", "new_columns")
    assert load(data, db, new_columns="ignore").rows == 1
    assert columns(db) == {"a": "BIGINT", "b": "BIGINT"}
    assert stored(db, "t", ["a", "b"]) == expected([data / "t_1.csv", data / "t_2.csv"], ["a", "b"])


def test_files_with_little_in_common_do_not_become_one_table(data: Path, db: Path) -> None:
    write_csv(data / "t_1.csv", ["a", "b", "c"], [[1, 2, 3]])
    write_csv(data / "t_2.csv", ["x", "y", "c"], [[1, 2, 3]])
    report = load(data, db)
    assert set(told(report).values()) == {("refused", "columns")}
    assert "--table" in report.files[0].hint
    assert not columns(db)
    assert load(data / "t_1.csv", db).exit_code == 0
    # Into the table that is there goes what belongs to it.
    write_csv(data / "t_3.csv", ["a", "b", "d"], [[4, 5, 6]])
    ended = told(load(data, db))
    assert (ended["t_2.csv"], ended["t_3.csv"][0]) == (("refused", "columns"), "loaded")
    assert list(columns(db)) == ["a", "b", "c", "d"]


def test_an_unreadable_file_adds_no_column_and_makes_no_table(data: Path, db: Path) -> None:
    write_csv(data / "t_1.csv", ["a", "b"], [[1, 2]])
    load(data, db)
    packed = gzip.compress(b"a,b,c\n" + b"1,2,3\n" * 1000)
    (data / "t_2.csv.gz").write_bytes(packed[:-9])
    (data / "u.csv.gz").write_bytes(packed[:-9])
    ended = told(load(data, db))
    assert (ended["t_2.csv.gz"], ended["u.csv.gz"]) == (("refused", "corrupt"), ("refused", "corrupt"))
    assert columns(db) == {"a": "BIGINT", "b": "BIGINT"}
    assert not columns(db, "u")


# names from files are data


def test_names_are_kept_or_made_plain_on_demand(data: Path, db: Path) -> None:
    write_csv(data / "t_1.csv", [" OrderID ", "Unit Price (€)", "", "Note", "note"], [[1, 2, 3, 4, 5]])
    assert load(data, db).exit_code == 0
    assert list(columns(db)) == ["OrderID", "Unit Price (€)", "column_3", "Note", "note_2"]
    snake = db.with_name("snake.db")
    assert load(data, snake, names="snake", rename=(("Note", "Remark"),)).exit_code == 0
    assert list(columns(snake)) == ["order_id", "unit_price", "column_3", "Remark", "note"]
    assert load(data, snake, names="snake", rename=(("Note", "Remark"),)).rows == 0


NASTY = [
    'quo"te',
    "semi;--",
    "per%s",
    "%(x)s",
    ":colon",
    "two words",
    "größe",
    "col?umn",
    "[b]",
    "tab`tick",
    "'",
    "select",
]


def test_hostile_names_are_only_names(data: Path, db: Path, bulk: str) -> None:
    victim = query(db, "CREATE TABLE victim (a)")
    assert victim == []
    for number, name in enumerate(NASTY):
        write_csv(data / f"{name}; drop table victim;.csv", NASTY, [[f"{number}-{i}" for i in range(len(NASTY))]])
    files = sorted(data.iterdir())
    assert load(data, db, bulk=bulk).exit_code == 0
    for path in files:
        table = path.name.removesuffix(".csv")
        assert list(columns(db, table.replace('"', '""'))) == NASTY
        assert stored(db, table, NASTY) == expected([path], NASTY)
    assert query(db, "SELECT count(*) FROM victim") == [(0,)]
    assert load(data, db, bulk=bulk).rows == 0


def test_file_names_of_any_bytes_are_loaded_and_remembered(data: Path, db: Path) -> None:
    names = [
        b"line\nbreak_1.csv",
        b'quo"te_1.csv',
        b"back\\slash_1.csv",
        b"caf\xe9_1.csv",
        b" blank _1.csv",
        b"100%s_1.csv",
    ]
    for number, name in enumerate(names):
        path = Path(os.fsdecode(bytes(data) + b"/" + name))
        path.write_text(f"a\n{number}\n")
    report = load(data, db, table="t")
    assert report.exit_code == 0, [o.sentence for o in report.files]
    assert query(db, "SELECT a FROM t ORDER BY a") == [(i,) for i in range(len(names))]
    again = load(data, db, table="t")
    assert {state for state, _ in told(again).values()} == {"skipped"}
    # As a table's name, what no name can hold refuses its file alone.
    named = load(data, db.with_name("named.db"))
    assert sorted(state for state, _ in told(named).values()) == ["loaded"] * 4 + ["refused"] * 2


def test_wide_tables_are_loaded_up_to_what_the_database_takes(data: Path, db: Path, bulk: str) -> None:
    for width, table in ((200, "wide"), (1_999, "widest"), (2_000, "over")):
        write_csv(data / f"{table}.csv", [f"c{i}" for i in range(width)], [range(width), range(1, width + 1)])
    report = load(data, db, bulk=bulk)
    assert told(report) == {
        "wide.csv": ("loaded", "new"),
        "widest.csv": ("loaded", "new"),
        "over.csv": ("refused", "columns"),
    }
    assert "2000" in next(o.sentence for o in report.files if o.state == "refused").replace(",", "")
    assert query(db, "SELECT c0, c199 FROM wide") == [(0, 199), (1, 200)]
    assert query(db, "SELECT c0, c1998 FROM widest") == [(0, 1998), (1, 1999)]
    # The lineage column is one of them.
    assert load(data / "over.csv", db, lineage="none", bulk=bulk).exit_code == 0
    assert query(db, "SELECT c1999 FROM over") == [(1999,), (2000,)]


def test_of_a_table_as_wide_as_can_be_only_the_file_fails_whose_rows_have_to_be_sorted_out(
    data: Path, db: Path
) -> None:
    write_csv(data / "t.csv", [f"c{i}" for i in range(1_999)], [range(1_999)])
    write_csv(data / "u.csv", ["c0"], [[1]])
    report = load(data, db, mode="upsert", key=("c0",))
    assert told(report) == {"t.csv": ("failed", "database"), "u.csv": ("loaded", "new")}, report.files
    assert any("one column more, and the database makes none so wide" in file.sentence for file in report.files)
