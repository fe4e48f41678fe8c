"""Records that break a constraint, and write modes, on PostgreSQL: its own errors, savepoints and ON CONFLICT."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import servers
import tools
from tools import write_csv

from ingest.model import Mode
from ingest.settings import Budget

ONE = Budget(count=1)

TABLES = {
    "unique": ("CREATE TABLE t (a INTEGER UNIQUE, b TEXT)", 2, "UNIQUE constraint t_a_key"),
    "unique index": (
        "CREATE TABLE t (a INTEGER, b TEXT); CREATE UNIQUE INDEX once ON t (a)",
        2,
        "UNIQUE constraint once",
    ),
    "primary key": ("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", 2, "UNIQUE constraint t_pkey"),
    "deferred unique": ("CREATE TABLE t (a INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED, b TEXT)", 2, None),
    "check": ("CREATE TABLE t (a INTEGER CONSTRAINT low CHECK (a < 100), b TEXT)", 100, "CHECK constraint low"),
    "foreign key": (
        "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3);"
        "CREATE TABLE t (a INTEGER CONSTRAINT parent REFERENCES p (a), b TEXT)",
        100,
        "FOREIGN KEY parent",
    ),
    "partition": (
        "CREATE TABLE t (a INTEGER, b TEXT) PARTITION BY RANGE (a);"
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)",
        100,
        "no partition takes it",
    ),
    "deferred foreign key": (
        "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3);"
        "CREATE TABLE t (a INTEGER CONSTRAINT parent REFERENCES p (a) DEFERRABLE INITIALLY DEFERRED, b TEXT)",
        100,
        "FOREIGN KEY constraint failed: parent",
    ),
}


def load(path: Path, url: str, **settings: Any) -> Any:
    return tools.load(path, url, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "ledger_schema"),
    [("unique", "books"), *((kind, None) for kind, (_, _, said) in TABLES.items() if said)],
)
def test_a_record_that_breaks_a_constraint_is_a_reject_with_its_name_and_place(
    tmp_path: Path, postgresql: str, query: Any, kind: str, ledger_schema: str | None, bulk: str
) -> None:
    definition, bad, said = TABLES[kind]
    for statement in definition.split(";"):
        query(statement)
    path = write_csv(tmp_path / "t.csv", ["a", "b"], [[1, "one\nline"], [2, "two"], [bad, "three"], [3, "four"]])
    report = load(path, postgresql, bulk=bulk, ledger_schema=ledger_schema)
    assert (report.exit_code, report.rows) == (4, 0)
    assert query("SELECT count(*) FROM t") == [(0,)]
    report = load(path, postgresql, bulk=bulk, ledger_schema=ledger_schema, max_rejects=ONE)
    assert (report.exit_code, report.rows, report.rejected) == (3, 3, 1), report.files
    place = f"{ledger_schema or 'public'}.ingest_reject"
    assert query(f"SELECT line, byte_offset, record, reason, message, raw FROM {place} WHERE applied") == [
        (5, 23, 2, "constraint", f"the table refuses it: {said}", f"{bad},three")
    ]
    assert query("SELECT a, b FROM t ORDER BY a") == [(1, "one\nline"), (2, "two"), (3, "four")]
    assert query("SELECT count(*) FROM pg_class WHERE relname = 'ingest_gathered'") == [(0,)]
    assert load(path, postgresql, bulk=bulk, ledger_schema=ledger_schema).count("skipped") == 1


PARENTS = "CREATE TABLE par (id TEXT PRIMARY KEY); INSERT INTO par VALUES ('A'), ('1')"
UPPER = """
    CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.par = upper(NEW.par); RETURN NEW; END';
    CREATE TRIGGER up BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION up()
"""


def test_of_foreign_keys_only_what_the_table_refused_is_a_reject(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    """A trigger may have mended the others."""
    query(f"{PARENTS}; CREATE TABLE p (id INT PRIMARY KEY, par TEXT REFERENCES par (id), c INT CHECK (c > 0)); {UPPER}")
    path = write_csv(tmp_path / "p.csv", ["id", "par", "c"], [[1, "a", 1], [2, "a", 1], [3, "a", -1], [4, "b", 1]])
    report = load(path, postgresql, bulk=bulk, max_rejects=Budget(count=5))
    assert (report.exit_code, report.rows, report.rejected) == (3, 2, 2), report.files
    assert query("SELECT line, message FROM ingest_reject ORDER BY line") == [
        (4, "the table refuses it: CHECK constraint p_c_check"),
        (5, "the table refuses it: FOREIGN KEY p_par_fkey"),
    ]
    assert query("SELECT id, par FROM p ORDER BY id") == [(1, "A"), (2, "A")]


@pytest.mark.parametrize("late", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["at once", "deferred"])
def test_a_record_that_is_ignored_needs_no_parent(
    tmp_path: Path, postgresql: str, query: Any, late: str, bulk: str
) -> None:
    query(f"{PARENTS}; CREATE TABLE p (id INT PRIMARY KEY, par TEXT REFERENCES par (id) {late}, c INT CHECK (c > 0))")
    query("INSERT INTO p VALUES (1, '1', 1)")
    path = write_csv(tmp_path / "p.csv", ["id", "par", "c"], [[1, 99, 1], [2, 1, 1], [3, 1, -1], [4, 77, 1], [4, 1, 1]])
    report = load(path, postgresql, bulk=bulk, mode=Mode.INSERT_IGNORE, key=("id",), max_rejects=Budget(count=5))
    assert (report.exit_code, report.rows, report.ignored, report.rejected) == (3, 2, 1, 2), report.files
    assert query("SELECT raw FROM ingest_reject ORDER BY line") == [("3,1,-1",), ("4,77,1",)]
    assert query("SELECT id, par FROM p ORDER BY id") == [(1, "1"), (2, "1"), (4, "1")]


def test_a_table_that_rows_refer_to_is_read_only_where_the_server_does_not_tell_them(
    tmp_path: Path, postgresql: str, postgresql_server: servers.Server, query: Any
) -> None:
    name, role = urlsplit(postgresql).path[1:], f"clerk_{urlsplit(postgresql).path[1:]}"
    late = "DEFERRABLE INITIALLY DEFERRED"
    query(f"{PARENTS}; CREATE TABLE p (par TEXT REFERENCES par (id), c INT CHECK (c > 0))")
    query(f"CREATE TABLE late (par TEXT REFERENCES par (id) {late}, c INT CHECK (c > 0))")
    query(f"CREATE ROLE {role} LOGIN PASSWORD 'clerk'")
    try:
        query(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT SELECT, INSERT, UPDATE ON p, late TO {role}")
        url = f"postgresql://{role}:clerk@127.0.0.1:{postgresql_server.port}/{name}"
        for table, rejected in (("p", 2), ("late", 1)):
            rows = [["A", 1], ["A", -1], *([["B", 1]] if table == "p" else [])]
            path = write_csv(tmp_path / f"{table}.csv", ["par", "c"], rows)
            report = load(path, url, table=table, max_rejects=Budget(count=5))
            assert (report.exit_code, report.rows, report.rejected) == (3, 1, rejected), report.files
        path = write_csv(tmp_path / "late_2.csv", ["par", "c"], [["B", 1], ["A", 2], ["A", -2]])
        write_csv(tmp_path / "in" / "late_3.csv", ["par", "c"], [["A", 3]])
        report = load([path, tmp_path / "in"], url, table="late", max_rejects=Budget(count=5))  # type: ignore[arg-type]
        assert tools.told(report) == {"late_2.csv": ("failed", "database"), "late_3.csv": ("loaded", "new")}
        (hint,) = [one.hint for one in report.files if one.hint]
        assert hint.endswith(f'GRANT SELECT ON "public".par TO {role};')
        query(hint[hint.index("GRANT") :])
        assert load(path, url, table="late", max_rejects=Budget(count=5)).rejected == 2
        assert query("SELECT c FROM late ORDER BY c") == [(1,), (2,), (3,)]
    finally:
        query(f"DROP OWNED BY {role} CASCADE")
        query(f"DROP ROLE {role}")


@pytest.mark.parametrize("number", ["", "USING ERRCODE = 'U0001'"], ids=["none", "its own"])
@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.UPSERT])
def test_a_record_that_a_trigger_refuses_is_a_reject(
    tmp_path: Path, postgresql: str, query: Any, number: str, mode: Mode, bulk: str
) -> None:
    query("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    query(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.a > 99 THEN RAISE EXCEPTION 'not %', NEW.b {number}; END IF; RETURN NEW; END $$"
    )
    query("CREATE TRIGGER early BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()")
    path = write_csv(tmp_path / "t.csv", ["a", "b"], [[1, "x"], [100, "hunter2"], [3, "z"]])
    key = ("a",) if mode is Mode.UPSERT else ()
    report = load(path, postgresql, bulk=bulk, mode=mode, key=key, max_rejects=ONE)
    assert (report.exit_code, report.rows, report.rejected) == (3, 2, 1), report.files
    said = "the table refuses it: a trigger of the table"
    assert query("SELECT line, reason, message FROM ingest_reject") == [(3, "constraint", said)]
    assert query("SELECT a FROM t ORDER BY a") == [(1,), (3,)]


def test_a_constraint_that_is_only_checked_at_the_end_refuses_the_file(
    tmp_path: Path, postgresql: str, query: Any
) -> None:
    query(TABLES["deferred unique"][0])
    path = write_csv(tmp_path / "t.csv", ["a", "b"], [[1, "x"], [1, "y"]])
    report = load(path, postgresql, max_rejects=ONE)
    assert (report.exit_code, report.rows) == (4, 0)
    assert "t_a_key" in report.files[0].sentence
    assert query("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("ledger_schema", [None, "books"])
def test_upsert_and_insert_ignore(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, ledger_schema: str | None
) -> None:
    query('CREATE TABLE "T" (a INTEGER, "B b" TEXT, n INTEGER, UNIQUE (a))')
    query("""INSERT INTO "T" VALUES (1, 'old', 7), (9, 'stays', 9)""")
    folder = tmp_path / "in"
    write_csv(folder / "T_1.csv", ["a", "B b"], [[1, "x"], [2, "y"], [2, "z"]])
    write_csv(folder / "T_2.csv", ["a", "B b"], [[2, "last"], [3, "new"]])
    options: dict[str, Any] = {"bulk": bulk, "key": ("a",), "ledger_schema": ledger_schema}
    report = load(folder, postgresql, mode=Mode.INSERT_IGNORE, **options)
    assert (report.exit_code, report.rows) == (0, 2), report.files
    assert query('SELECT * FROM "T" ORDER BY a') == [(1, "old", 7), (2, "y", None), (3, "new", None), (9, "stays", 9)]
    write_csv(folder / "T_3.csv", ["a", "B b"], [[1, "p"], [1, "q"], [4, "four"]])
    write_csv(folder / "T_4.csv", ["a", "B b"], [[4, "vier"]])
    report = load(folder, postgresql, mode=Mode.UPSERT, **options)
    assert report.exit_code == 0, report.files
    assert query('SELECT a, "B b", n FROM "T" ORDER BY a') == [
        *[(1, "q", 7), (2, "y", None), (3, "new", None), (4, "vier", None), (9, "stays", 9)]
    ]
    place = f"{ledger_schema or 'public'}.ingest_file"
    assert query(f"SELECT rows_loaded, rows_superseded, rows_ignored FROM {place} ORDER BY path") == [
        *[(1, 0, 2), (1, 0, 1), (2, 1, 0), (1, 0, 0)]
    ]
    assert load(folder, postgresql, mode=Mode.UPSERT, **options).count("skipped") == 4


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.INSERT_IGNORE])
@pytest.mark.parametrize(
    "index",
    [
        "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE",
        'ALTER TABLE t ADD CONSTRAINT "the % "" key" PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED',
        "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE, ADD PRIMARY KEY (id)",
        "CREATE UNIQUE INDEX part ON t (id) WHERE v IS NULL",
        "CREATE UNIQUE INDEX half ON t (id, lower(v))",
        "CREATE UNIQUE INDEX pair ON t (id, v)",
    ],
)
def test_an_index_that_on_conflict_cannot_go_by_is_no_key(
    tmp_path: Path, postgresql: str, query: Any, mode: Mode, index: str
) -> None:
    query("CREATE TABLE t (id INTEGER, v TEXT)")
    query(index)
    path = write_csv(tmp_path / "t.csv", ["id", "v"], [[1, "x"]])
    report = load(path, postgresql, mode=mode, key=("id",))
    assert tools.told(report) == {"t.csv": ("refused", "key")}
    hint = report.files[0].hint
    query(hint[hint.index(":") + 1 :])
    assert load(path, postgresql, mode=mode, key=("id",)).rows == 1


def test_a_key_may_be_of_an_index_that_holds_more(tmp_path: Path, postgresql: str, query: Any) -> None:
    query('CREATE TABLE t ("i%d" INTEGER, v TEXT, a INET, p POINT)')
    query('CREATE UNIQUE INDEX more ON t ("i%d") INCLUDE (v)')
    path = write_csv(tmp_path / "t.csv", ["i%d", "v"], [[1, "x"]])
    assert load(path, postgresql, mode=Mode.UPSERT, key=("i%d",)).rows == 1


def test_a_number_that_no_update_can_set_refuses_its_file_with_the_sql_to_type(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    query('CREATE TABLE t ("i%d" INTEGER GENERATED ALWAYS AS IDENTITY, code TEXT UNIQUE, v TEXT)')
    query("INSERT INTO t (code, v) VALUES ('a', 'old')")
    options: dict[str, Any] = {"mode": Mode.UPSERT, "key": ("code",), "bulk": bulk}
    write_csv(tmp_path / "in" / "t_1.csv", ["code", "v"], [["a", "new"]])
    assert load(tmp_path / "in", postgresql, **options).rows == 1
    write_csv(tmp_path / "in" / "t_2.csv", ["i%d", "code", "v"], [[7, "a", "newer"], [8, "b", "x"]])
    report = load(tmp_path / "in", postgresql, **options)
    assert tools.told(report)["t_2.csv"] == ("refused", "key"), report.files
    hint = next(one.hint for one in report.files if one.hint)
    query(hint[hint.index("ALTER TABLE") :])
    assert load(tmp_path / "in", postgresql, **options).exit_code == 0
    assert query("SELECT * FROM t ORDER BY code") == [(7, "a", "newer"), (8, "b", "x")]


@pytest.mark.parametrize(
    ("columns", "header", "rows"),
    [
        ("id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ["id"], [[1], [2]]),
        ("id INTEGER GENERATED ALWAYS AS IDENTITY, k TEXT, UNIQUE (id, k)", ["id", "k"], [[1, "x"], [2, "y"]]),
    ],
)
def test_a_key_that_no_update_can_set_is_counted(
    tmp_path: Path, postgresql: str, query: Any, columns: str, header: list[str], rows: list[Any], bulk: str
) -> None:
    query(f"CREATE TABLE t ({columns})")
    options: dict[str, Any] = {"mode": Mode.UPSERT, "key": tuple(header), "bulk": bulk}
    assert load(write_csv(tmp_path / "t_1.csv", header, rows[:1]), postgresql, **options).rows == 1
    report = load(write_csv(tmp_path / "t_2.csv", header, rows), postgresql, **options)
    assert (report.exit_code, report.rows) == (0, 2), report.files
    assert query(f"SELECT {', '.join(header)} FROM t ORDER BY 1") == [tuple(row) for row in rows]


@pytest.mark.parametrize("length", [52, 53, 63])
def test_a_table_of_any_name_is_replaced(tmp_path: Path, postgresql: str, query: Any, length: int) -> None:
    names = ["ä" * 20 + "x" * (length - 41) + end for end in "ab"]
    for word in ("old", "new"):
        for name in names:
            write_csv(tmp_path / f"{name}.csv", ["id", "note"], [[1, f"{word} {name[-1]}"], [2, word]])
        report = load(tmp_path, postgresql, mode=Mode.REPLACE)
        assert (report.exit_code, report.rows) == (0, 4), (report.files, report.warnings)
    for name in names:
        assert query(f'SELECT note FROM "{name}" ORDER BY id') == [(f"new {name[-1]}",), ("new",)]
    assert query("SELECT count(*) FROM pg_class WHERE relname LIKE '%ingest_new%'") == [(0,)]


def test_the_index_to_type_has_a_name_that_fits(tmp_path: Path, postgresql: str, query: Any) -> None:
    query(f"CREATE TABLE {'t' * 40} ({'k' * 30}a INTEGER, {'k' * 30}b INTEGER)")
    for key in ("k" * 30 + "a", "k" * 30 + "b"):
        path = write_csv(tmp_path / key / f"{'t' * 40}.csv", [key], [[1]])
        hint = load(path, postgresql, mode=Mode.UPSERT, key=(key,)).files[0].hint
        query(hint[hint.index("CREATE UNIQUE INDEX") :])
        assert load(path, postgresql, mode=Mode.UPSERT, key=(key,)).rows == 1


def test_a_user_who_may_not_make_temporary_tables_is_told_what_to_type(
    tmp_path: Path, postgresql: str, postgresql_server: servers.Server, query: Any
) -> None:
    name, role = urlsplit(postgresql).path[1:], f'"Clerk_{urlsplit(postgresql).path[1:]}"'
    query("CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    query(f"CREATE ROLE {role} LOGIN PASSWORD 'clerk'; REVOKE TEMPORARY ON DATABASE \"{name}\" FROM PUBLIC")
    try:
        query(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT ALL ON t TO {role}")
        user = role.strip('"')
        url = f"postgresql://127.0.0.1:{postgresql_server.port}/{name}?user={user}&password=clerk"
        write_csv(tmp_path / "t_1.csv", ["a", "b"], [[1, "x"], [1, "y"]])
        write_csv(tmp_path / "u_1.csv", ["a", "b"], [[1, "x"]])
        report = load(tmp_path, url)
        assert tools.told(report) == {"t_1.csv": ("failed", "database"), "u_1.csv": ("loaded", "new")}
        hint = report.files[0].hint or report.files[1].hint
        query(hint[hint.index("GRANT") :])
        report = load(tmp_path, url, max_rejects=ONE)
        assert (report.exit_code, report.rejected) == (3, 1)
    finally:
        query(f"DROP OWNED BY {role} CASCADE")
        query(f"DROP ROLE {role}")


@pytest.mark.parametrize("ledger_schema", [None, "books"])
def test_replace_keeps_what_hangs_on_the_table(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, ledger_schema: str | None
) -> None:
    query("""CREATE TABLE "T%" (id INTEGER PRIMARY KEY, note VARCHAR(9) NOT NULL DEFAULT 'none', at TIMESTAMPTZ)""")
    query("""CREATE VIEW notes AS SELECT note FROM "T%" """)
    query("""GRANT SELECT ON "T%" TO PUBLIC""")
    query("""INSERT INTO "T%" VALUES (1, 'before', now())""")
    folder = tmp_path / "in"
    first = write_csv(folder / "a_1.csv", ["id", "note", "at"], [[1, "a", "2024-01-31 12:00:00+02"], [2, "b", ""]])
    options: dict[str, Any] = {"mode": Mode.REPLACE, "bulk": bulk, "ledger_schema": ledger_schema, "table": "T%"}
    assert load(folder, postgresql, **options).exit_code == 0
    wanted = [(1, "a", "2024-01-31 10:00:00+00"), (2, "b", None)]
    assert query("""SELECT id, note, CAST(at AT TIME ZONE 'UTC' AS TEXT) || '+00' FROM "T%" ORDER BY id""") == wanted
    assert load(folder, postgresql, **options).count("skipped") == 1
    # A file that is not loaded leaves everything as it was, and the next run goes on with what the first has staged.
    bad = write_csv(folder / "a_2.csv", ["id", "note", "at"], [[3, "c", ""], [3, "too", ""]])
    report = load(folder, postgresql, **options)
    assert report.exit_code == 4, report.files
    assert query("SELECT note FROM notes ORDER BY 1") == [("a",), ("b",)]
    write_csv(bad, ["id", "note", "at"], [[3, "c", ""]])
    report = load(folder, postgresql, **options)
    assert report.exit_code == 0, report.files
    assert query("SELECT note FROM notes ORDER BY 1") == [("a",), ("b",), ("c",)]
    first.unlink()
    assert load(folder, postgresql, **options).exit_code == 0
    assert query("SELECT note FROM notes ORDER BY 1") == [("c",)]
    assert query("SELECT has_table_privilege('public', '\"T%\"', 'SELECT')") == [(True,)]
    assert query("SELECT count(*) FROM pg_class WHERE relname LIKE '%ingest_new%'") == [(0,)]


NUMBERED = """
    CREATE TABLE t (id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, serial SERIAL, "a %b" TEXT NOT NULL UNIQUE,
        twice TEXT GENERATED ALWAYS AS ("a %b" || "a %b") STORED, moment TIMESTAMPTZ NOT NULL DEFAULT now());
    CREATE TABLE line (t INTEGER NOT NULL REFERENCES t, id INTEGER);
    CREATE TABLE tree (t INTEGER REFERENCES t DEFERRABLE);
    CREATE VIEW doubled AS SELECT id, twice FROM t;
    CREATE TABLE seen (id INTEGER, what TEXT);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO seen VALUES (coalesce(new.id, old.id), tg_op); RETURN NULL; END';
    CREATE TRIGGER noted AFTER INSERT OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
    GRANT SELECT ON t TO PUBLIC;
    INSERT INTO t ("a %b") VALUES ('old'), ('older');
    INSERT INTO line VALUES (1, 1)
"""


@pytest.fixture
def numbered(query: Any) -> None:
    """A table that numbers its rows, with all that can hang on one; a line of another table refers to its row 1."""
    query(NUMBERED)


@pytest.mark.usefixtures("numbered")
def test_replace_gives_the_next_numbers_where_the_files_have_none(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    query("DELETE FROM line")
    path = write_csv(tmp_path / "t.csv", ["a %b"], [["x"], ["y"]])
    report = load(path, postgresql, mode=Mode.REPLACE, bulk=bulk)
    assert (report.exit_code, report.rows) == (0, 2), (report.files, report.warnings)
    assert query('SELECT id, serial, "a %b" FROM t ORDER BY id') == [(3, 3, "x"), (4, 4, "y")]
    assert query("SELECT * FROM doubled ORDER BY id") == [(3, "xx"), (4, "yy")]
    # What others insert later collides with nothing.
    assert query("INSERT INTO t (\"a %b\") VALUES ('z') RETURNING id, serial") == [(5, 5)]
    assert query("SELECT id FROM seen WHERE what = 'DELETE' ORDER BY id") == [(1,), (2,)]
    assert query("SELECT id FROM seen WHERE what = 'INSERT' ORDER BY id") == [(1,), (2,), (3,), (4,), (5,)]
    assert query("SELECT has_table_privilege('public', 't', 'SELECT')") == [(True,)]


@pytest.mark.usefixtures("numbered")
def test_replace_keeps_the_numbers_of_the_files_and_rows_that_others_refer_to(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "a %b"], [[1, "new"], [7, "old"]])
    report = load(path, postgresql, mode=Mode.REPLACE, bulk=bulk)
    assert (report.exit_code, report.rows) == (0, 2), (report.files, report.warnings)
    assert query('SELECT id, "a %b", twice FROM t ORDER BY id') == [(1, "new", "newnew"), (7, "old", "oldold")]
    # Without row 1 the line would refer to nothing.
    write_csv(path, ["id", "a %b"], [[7, "old"], [8, "eight"]])
    report = load(path, postgresql, mode=Mode.REPLACE, bulk=bulk)
    assert (report.exit_code, len(report.warnings)) == (4, 1)
    assert "line_t_fkey" in report.warnings[0]
    assert query("SELECT id FROM t ORDER BY id") == [(1,), (7,)]
    query("DELETE FROM line")
    assert load(path, postgresql, mode=Mode.REPLACE, bulk=bulk).exit_code == 0
    assert query("SELECT id FROM t ORDER BY id") == [(7,), (8,)]


@pytest.mark.usefixtures("numbered")
@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.REPLACE, Mode.UPSERT])
def test_records_that_a_numbered_table_refuses_are_found(
    tmp_path: Path, postgresql: str, query: Any, mode: Mode
) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "a %b"], [[11, "x"], [12, "x"], [13, "y"], [1, "new"]])
    rows = 3 if mode is not Mode.APPEND else 2  # there the row 1 is in the way of the last one
    options: dict[str, Any] = {"mode": mode, "max_rejects": Budget(count=2)}
    options |= {"key": ("id",)} if mode is Mode.UPSERT else {}
    report = load(path, postgresql, **options)
    assert (report.exit_code, report.rows, report.rejected) == (3, rows, 4 - rows), (report.files, report.warnings)
    messages = [("the table refuses it: UNIQUE constraint t_a %b_key",)]
    messages += [("the table refuses it: UNIQUE constraint t_pkey",)] if mode is Mode.APPEND else []
    # Of a table that is replaced, it is its staging table that refuses them.
    staged = "replace(message, '_ingest_new', '')"
    assert query(f"SELECT {staged} FROM ingest_reject WHERE applied ORDER BY line") == messages
    assert query("SELECT id FROM t WHERE id > 2 ORDER BY id") == [(11,), (13,)]


@pytest.mark.usefixtures("numbered")
def test_replace_says_whose_numbers_it_may_not_take(
    tmp_path: Path, postgresql: str, postgresql_server: servers.Server, query: Any
) -> None:
    name, role = urlsplit(postgresql).path[1:], f"clerk_{urlsplit(postgresql).path[1:]}"
    query(f"CREATE ROLE {role} LOGIN PASSWORD 'clerk'")
    try:
        query("DELETE FROM line")
        query(f"GRANT CREATE ON SCHEMA public TO {role}")
        query(f"GRANT SELECT, INSERT, DELETE ON t TO {role}")
        query(f"GRANT USAGE ON t_serial_seq TO {role}")
        query(f"GRANT INSERT ON seen TO {role}")
        url = f"postgresql://{role}:clerk@127.0.0.1:{postgresql_server.port}/{name}"
        path = write_csv(tmp_path / "t.csv", ["a %b"], [["x"]])
        report = load(path, url, mode=Mode.REPLACE)
        assert report.exit_code == 4
        assert report.files[0].hint.endswith(f"GRANT USAGE ON SEQUENCE public.t_id_seq TO {role}"), report.files
        query(f"GRANT USAGE ON SEQUENCE public.t_id_seq TO {role}")
        report = load(path, url, mode=Mode.REPLACE)
        assert report.exit_code == 0, (report.files, report.warnings)
        assert query("SELECT id FROM t") == [(3,)]
    finally:
        query(f"DROP OWNED BY {role} CASCADE")
        query(f"DROP ROLE {role}")


def test_upsert_does_not_write_a_row_again_that_is_there_already(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    """Value for value as they are kept: there are types without an `=`, and 1.0 equals 1.00."""
    query("CREATE TABLE t (a INTEGER, v NUMERIC, j JSON, n TEXT, k TEXT DEFAULT 'own', PRIMARY KEY (a))")
    folder = tmp_path / "in"
    rows = [[1, "1.0", "{}", "x"], [2, "2.0", "{}", ""], [3, "3.0", "{}", "z"]]
    write_csv(folder / "t_1.csv", ["a", "v", "j", "n"], rows)
    assert load(folder, postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",)).rows == 3
    before = dict(query("SELECT a, xmin || ' ' || ctid FROM t"))
    write_csv(folder / "t_2.csv", ["a", "v", "j", "n"], [rows[0], [2, "2.00", "{}", ""], rows[2], [4, "4", "{}", ""]])
    report = load(folder, postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",))
    assert (report.exit_code, report.rows) == (0, 4), report.files
    assert query("SELECT a, CAST(v AS TEXT), n, k FROM t ORDER BY a") == [
        *[(1, "1.0", "x", "own"), (2, "2.00", None, "own"), (3, "3.0", "z", "own"), (4, "4", None, "own")]
    ]
    after = dict(query("SELECT a, xmin || ' ' || ctid FROM t"))
    assert [a for a in before if after[a] == before[a]] == [1, 3]
    # Nothing new at all, and in a column more.
    write_csv(folder / "t_3.csv", ["a", "n"], [[1, "x"], [3, "z"]])
    assert load(folder, postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",)).rows == 2
    write_csv(folder / "t_4.csv", ["a"], [[1], [3]])
    assert load(folder, postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",)).rows == 2
    assert dict(query("SELECT a, xmin || ' ' || ctid FROM t")) == after


def test_upsert_tells_values_apart_that_are_equal_and_not_the_same(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    """Minus zero equals zero, and a collation may take "A" for "a"; the later load wins all the same."""
    loose = ""
    if query("SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1"):  # the server knows ICU
        query("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        loose = "COLLATE loose"
    query(f"CREATE TABLE t (a INTEGER PRIMARY KEY, d DOUBLE PRECISION, x TEXT {loose}, n DATE, b BOOLEAN)")
    names = ["a", "d", "x", "n", "b"]
    rows = [[a, "0", "a", "", "true"] for a in range(1, 7)]
    later = [
        [1, "-0", "a", "", "true"],
        [2, "0", "A", "", "true"],
        [3, "0", "", "", "true"],
        [4, "0", "a", "2026-01-02", "true"],
        [5, "0", "a", "", "false"],
        rows[5],
    ]
    write_csv(tmp_path / "in" / "t_1.csv", names, rows)
    assert load(tmp_path / "in", postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",)).rows == 6
    before = dict(query("SELECT a, xmin || ' ' || ctid FROM t"))
    write_csv(tmp_path / "in" / "t_2.csv", names, later)
    assert load(tmp_path / "in", postgresql, bulk=bulk, mode=Mode.UPSERT, key=("a",)).rows == 6
    assert query("SELECT a, CAST(d AS TEXT), x, CAST(n AS TEXT), b FROM t ORDER BY a") == [
        (1, "-0", "a", None, True),
        (2, "0", "A", None, True),
        (3, "0", None, None, True),
        (4, "0", "a", "2026-01-02", True),
        (5, "0", "a", None, False),
        (6, "0", "a", None, True),
    ]
    after = dict(query("SELECT a, xmin || ' ' || ctid FROM t"))
    assert [a for a in before if after[a] == before[a]] == [6]


@pytest.mark.parametrize("key", ["INTEGER", "TEXT"])
def test_a_key_that_an_inheriting_table_has_as_well_hides_no_record(
    tmp_path: Path, postgresql: str, query: Any, key: str
) -> None:
    """The row of the child is found along with the parent's own, and must not be counted for another record."""
    query(f"CREATE TABLE t (a {key} PRIMARY KEY, b TEXT); CREATE TABLE child () INHERITS (t)")
    query("INSERT INTO t VALUES ('1', 'x'), ('2', 'y'); INSERT INTO child VALUES ('1', 'x')")
    write_csv(tmp_path / "t.csv", ["a", "b"], [["1", "x"], ["3", "z"]])
    report = load(tmp_path / "t.csv", postgresql, mode=Mode.UPSERT, key=("a",))
    assert (report.exit_code, report.rows) == (0, 2), report.files
    assert query("SELECT CAST(a AS TEXT), b FROM ONLY t ORDER BY a") == [("1", "x"), ("2", "y"), ("3", "z")]


@pytest.mark.parametrize(
    "number",
    [
        "U0001",
        "foreign_key_violation",
        "insufficient_privilege",
        "check_violation' , CONSTRAINT = NEW.a, COLUMN = 'cell-4711",
    ],
    ids=["its own", "a constraint's", "the server's", "with a name"],
)
def test_a_trigger_s_own_words_are_not_told_under_whatever_number(
    tmp_path: Path, postgresql: str, query: Any, number: str, bulk: str
) -> None:
    query("CREATE TABLE t (a TEXT)")
    query(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.a <> 'fine' THEN RAISE EXCEPTION 'not %', NEW.a USING ERRCODE = '{number}'; END IF; RETURN NEW; END $$"
    )
    query("CREATE TRIGGER early BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()")
    write_csv(tmp_path / "t_1.csv", ["a"], [["cell-4711"]])
    write_csv(tmp_path / "t_2.csv", ["a"], [["fine"]])
    events: list[Any] = []
    report = load(tmp_path, postgresql, bulk=bulk, table="t", events=events)
    ended = {name: state for name, (state, _) in tools.told(report).items()}
    assert ended == {"t_1.csv": "refused", "t_2.csv": "loaded"}, report.files
    assert query("SELECT a FROM t") == [("fine",)]
    assert "cell-4711" not in repr(events) + repr(report) + repr(query("SELECT * FROM ingest_file"))


def test_a_trigger_s_own_words_are_not_told_when_it_is_late(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE TABLE t (a TEXT)")
    query(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'not %', NEW.a USING ERRCODE = 'foreign_key_violation'; END $$"
    )
    query(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION no()"
    )
    path = write_csv(tmp_path / "t.csv", ["a"], [["cell-4711"]])
    report = load(path, postgresql, max_rejects=ONE)
    assert report.exit_code == 4
    assert "SQLSTATE 23503" in report.files[0].sentence
    assert "cell-4711" not in str(report.files)


def test_a_text_that_its_type_calls_equal_is_written(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query("CREATE EXTENSION citext")
    query("CREATE DOMAIN word AS citext")
    query("CREATE TABLE t (id INTEGER PRIMARY KEY, a citext, b word)")
    query("INSERT INTO t VALUES (1, 'abc', 'abc')")
    path = write_csv(tmp_path / "t.csv", ["id", "a", "b"], [[1, "ABC", "Abc"]])
    assert load(path, postgresql, mode="upsert", key=("id",), bulk=bulk).exit_code == 0
    assert query("SELECT a, b FROM t") == [("ABC", "Abc")]


def test_a_table_that_is_as_wide_as_can_be_takes_files_as_they_are_and_says_why_no_others(
    tmp_path: Path, postgresql: str, query: Any
) -> None:
    names = [f"c{i}" for i in range(1_599)]
    query(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {', '.join(f'{name} INTEGER' for name in names)})")
    path = write_csv(tmp_path / "t.csv", ["id", *names], [[1] * 1_600] * 2)
    report = load(path, postgresql, mode="upsert", key=("id",))
    assert tools.told(report) == {"t.csv": ("failed", "database")}
    assert "in a temporary table with one column more" in report.files[0].sentence
    report = load(path, postgresql, mode="replace")
    assert tools.told(report) == {"t.csv": ("refused", "columns")}
    assert "what is to replace the table t would have 1601 columns; the database takes 1600" in report.files[0].sentence
    write_csv(path, ["id", *names], [[1] * 1_600])
    assert load(path, postgresql, mode="upsert", key=("id",)).rows == 1
