"""Records that break a constraint, and write modes, on MariaDB: its own errors and warnings, and no ON CONFLICT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
import servers
import tools
from test_mysql import told_otherwise
from tools import assert_counts_add_up, query, write_csv

from ingest.settings import Budget
from ingest.targets import mysqlerrors
from ingest.targets.mysqldefinitions import like

ONE = Budget(count=1)

PARENTS = "CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3); "
TABLES = {
    "unique": ("CREATE TABLE t (a INTEGER UNIQUE, b TEXT)", 2, "UNIQUE constraint a"),
    "primary key": ("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", 2, "UNIQUE constraint PRIMARY"),
    "odd name": (
        'CREATE TABLE t (a INTEGER, b TEXT, UNIQUE "it\'s % `here`" (a))',
        2,
        "UNIQUE constraint it's % `here`",
    ),
    "check": ("CREATE TABLE t (a INTEGER, b TEXT, CONSTRAINT low CHECK (a < 100))", 100, "CHECK constraint low"),
    "column check": ("CREATE TABLE t (a INTEGER CHECK (a < 100), b TEXT)", 100, "CHECK constraint t.a"),
    "foreign key": (
        f"{PARENTS}CREATE TABLE t (a INTEGER, b TEXT, CONSTRAINT parent FOREIGN KEY (a) REFERENCES p (a))",
        100,
        "FOREIGN KEY parent",
    ),
    "generated": (
        "CREATE TABLE t (a INTEGER, b TEXT, c INTEGER AS (NULLIF(a, 100)) STORED CHECK (c IS NOT NULL))",
        100,
        "CHECK constraint t.c",
    ),
    "partition": (
        "CREATE TABLE t (a INTEGER, b TEXT) PARTITION BY RANGE (a) (PARTITION low VALUES LESS THAN (100))",
        100,
        "no partition takes it",
    ),
    "trigger": (
        "CREATE TABLE t (a INTEGER, b TEXT); CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW"
        " IF NEW.a = 100 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'hunter2'; END IF",
        100,
        "a trigger of the table",
    ),
}


@pytest.fixture
def db(mariadb_server: servers.Server) -> Iterator[oracle.OnServer]:
    with oracle.on_server(mariadb_server) as database:
        yield database


def script(db: oracle.OnServer, text: str) -> None:
    for statement in text.split("; "):
        if not statement.startswith("END IF"):
            query(db, statement + ("; END IF" if "SIGNAL" in statement else ""))


@pytest.mark.parametrize("kind", TABLES)
def test_a_record_that_breaks_a_constraint_is_a_reject_with_its_name_and_place(
    data: Path, db: oracle.OnServer, kind: str, bulk: str
) -> None:
    definition, bad, said = TABLES[kind]
    script(db, definition)
    path = write_csv(data / "t.csv", ["a", "b"], [[1, "one\nline"], [2, "two"], [bad, "three"], [3, "four"]])
    report = tools.load(path, db, bulk=bulk)
    assert (report.exit_code, report.rows) == (4, 0)
    assert tools.told(report) == {"t.csv": ("refused", "over_budget")}
    assert query(db, "SELECT count(*) FROM t") == [(0,)]
    report = tools.load(path, db, bulk=bulk, max_rejects=ONE)
    assert (report.exit_code, report.rows, report.rejected) == (3, 3, 1), report.files
    assert query(db, "SELECT line, byte_offset, record, reason, message, raw FROM ingest_reject WHERE applied") == [
        (5, 23, 2, "constraint", f"the table refuses it: {said}", f"{bad},three")
    ]
    assert query(db, "SELECT a, b FROM t ORDER BY a") == [(1, "one\nline"), (2, "two"), (3, "four")]
    assert_counts_add_up(db)
    assert tools.load(path, db, bulk=bulk).count("skipped") == 1


@pytest.mark.parametrize("ledger", [False, True], ids=["beside", "elsewhere"])
def test_of_many_slices_the_records_are_the_right_ones_and_every_value_is_kept(
    data: Path, db: oracle.OnServer, mariadb_server: servers.Server, ledger: bool, bulk: str
) -> None:
    """Sorted out in a temporary table that has the columns' types, and numbers that no server's setting changes."""
    script(
        db,
        'CREATE TABLE t (own INTEGER AUTO_INCREMENT PRIMARY KEY, "a %s" INTEGER NOT NULL UNIQUE, b VARCHAR(20)'
        " COLLATE utf8mb4_bin NOT NULL, c DECIMAL(20,4) DEFAULT 7, d DATETIME(3), e ENUM('x', 'y'), f DOUBLE,"
        " g INTEGER AS (2 * f), h TIMESTAMP NULL, CHECK (json_valid(concat('[', f, ']'))))",
    )
    rows = [
        [
            i - 400 if i in (700, 701, 1_500) else i,
            f"n {i}\t\\é",
            f"{i}.0001",
            f"2024-01-01 00:00:00.{i % 1000:03}",
            "xy"[i % 2],
        ]
        for i in range(2_000)
    ]
    header = ["a %s", "b", "c", "d", "e", "f", "h"]
    path = write_csv(data / "t.csv", header, [[*row, 0.1 + row[0], "2024-06-01 12:00:00"] for row in rows])
    more: dict[str, Any] = {"ledger_schema": f"{db.name}_ledger"} if ledger else {}
    place = f'"{db.name}_ledger".ingest_reject' if ledger else "ingest_reject"
    try:
        with (
            told_otherwise(mariadb_server, "auto_increment_increment", "3"),
            told_otherwise(mariadb_server, "auto_increment_offset", "2"),
        ):
            report = tools.load(path, db, bulk=bulk, slice_bytes=16 * 1024, max_rejects=Budget(count=3), **more)
        assert (report.exit_code, report.rows) == (3, 1_997), report.files
        assert query(db, f"SELECT record, line FROM {place} ORDER BY 1") == [(i, i + 2) for i in (700, 701, 1_500)]
    finally:
        query(db, f'DROP DATABASE IF EXISTS "{db.name}_ledger"')
    found = query(db, 'SELECT "a %s", b, CAST(c AS CHAR), CAST(d AS CHAR), e, f, g, CAST(h AS CHAR) FROM t')
    assert sorted(found) == sorted(
        (a, b, c, d, e, 0.1 + a, round(2 * (0.1 + a)), "2024-06-01 12:00:00")
        for i, (a, b, c, d, e) in enumerate(rows)
        if i not in (700, 701, 1_500)
    )
    # The table's own numbers are as the server counts them.
    assert query(db, "SELECT DISTINCT own % 3 FROM t") == [(2,)]


def test_one_record_among_bundled_files_refuses_its_file_alone(data: Path, db: oracle.OnServer, bulk: str) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    for number in range(20):
        rows = [[number * 10 + i, "x"] for i in range(3)]
        write_csv(data / f"t_{number}.csv", ["a", "b"], [*rows, rows[1]] if number == 13 else rows)
    report = tools.load(data, db, bulk=bulk)
    assert {name for name, (state, _) in tools.told(report).items() if state != "loaded"} == {"t_13.csv"}
    assert [r[0] for r in tools.rejects(db)] == [5]
    assert query(db, "SELECT count(*) FROM t") == [(57,)]


def test_with_a_trigger_rows_are_checked_as_they_come(data: Path, db: oracle.OnServer, bulk: str) -> None:
    """What the trigger writes is nothing that we could look up afterwards."""
    script(
        db,
        f"{PARENTS}CREATE TABLE audit (a INTEGER, FOREIGN KEY (a) REFERENCES p (a)); "
        "CREATE TABLE t (a INTEGER PRIMARY KEY, up INTEGER, CONSTRAINT mine FOREIGN KEY (up) REFERENCES t (a)); "
        "CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW INSERT INTO audit VALUES (NEW.a)",
    )
    write_csv(data / "t.csv", ["a", "up"], [[1, 2], [2, ""], [9, ""]])
    report = tools.load(data, db, bulk=bulk, max_rejects=Budget(count=3))
    assert tools.told(report) == {"t.csv": ("refused", "constraint")}
    assert query(db, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM audit)") == [(0, 0)]


def test_a_rejected_record_may_be_longer_than_a_statement_of_the_server(data: Path, db: oracle.OnServer) -> None:
    query(db, "CREATE TABLE t (a INTEGER, b LONGTEXT)")
    ((before,),) = query(db, "SELECT @@GLOBAL.max_allowed_packet")
    query(db, f"SET GLOBAL max_allowed_packet = {1 << 20}")
    try:
        write_csv(data / "t.csv", ["a", "b"], [[1, "x"], ["one", "é" * (1 << 20)]])
        report = tools.load(data, db, max_rejects=Budget(count=0))
        assert tools.told(report) == {"t.csv": ("refused", "over_budget")}
        report = tools.load(data, db, max_rejects=Budget(count=1))
        assert (report.exit_code, report.rows, report.rejected) == (3, 1, 1), report.files
    finally:
        query(db, f"SET GLOBAL max_allowed_packet = {before}")
    [(start, end)] = query(db, "SELECT left(raw, 5), right(raw, 17) FROM ingest_reject")
    assert (start, end) == ("one,é", "… (2,097,156 bytes)"[-17:])


def test_a_value_that_the_server_would_alter_refuses_the_file_also_beside_a_constraint(
    data: Path, db: oracle.OnServer, bulk: str
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b VARCHAR(9) CHARACTER SET latin1)")
    write_csv(data / "t.csv", ["a", "b"], [[1, "x"], [1, "y"], [2, "日本"]])
    report = tools.load(data, db, bulk=bulk, max_rejects=Budget(count=3))
    assert tools.told(report) == {"t.csv": ("refused", "constraint")}
    assert query(db, "SELECT count(*) FROM t") == [(0,)]


def test_a_user_who_may_not_make_temporary_tables_is_told_what_to_type(
    data: Path, db: oracle.OnServer, mariadb_server: servers.Server
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    write_csv(data / "t_1.csv", ["a", "b"], [[1, "x"], [1, "y"]])
    write_csv(data / "u_1.csv", ["a", "b"], [[1, "x"]])
    rights = "CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE, INDEX"
    mariadb_server.execute("CREATE USER clerk IDENTIFIED BY 'pass'")
    try:
        mariadb_server.execute(f"GRANT {rights} ON {db.name}.* TO clerk")
        url = f"mariadb://clerk:pass@127.0.0.1:{mariadb_server.port}/{db.name}"
        report = tools.load(data, url, spool=str(db.folder))  # type: ignore[arg-type]
        assert tools.told(report) == {"t_1.csv": ("failed", "database"), "u_1.csv": ("loaded", "new")}
        hint = report.files[0].hint or report.files[1].hint
        mariadb_server.execute(hint[hint.index("GRANT") : hint.index(";")])
        report = tools.load(data, url, spool=str(db.folder), max_rejects=ONE)  # type: ignore[arg-type]
        assert (report.exit_code, report.rejected) == (3, 1)
    finally:
        mariadb_server.execute("DROP USER clerk")


def test_a_table_that_rows_refer_to_is_read_only_where_it_has_to_be(
    data: Path, db: oracle.OnServer, mariadb_server: servers.Server
) -> None:
    """Where rows refer to later ones of their file, for these go in unchecked."""
    rights = "CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE, INDEX, CREATE TEMPORARY TABLES"
    other = f"{db.name}_par"
    columns = f"a INTEGER PRIMARY KEY, par INTEGER REFERENCES {other}.par (id), c INTEGER CHECK (c > 0)"
    script(db, f"CREATE DATABASE {other}; CREATE TABLE {other}.par (id INTEGER PRIMARY KEY)")
    script(db, f"INSERT INTO {other}.par VALUES (1); CREATE TABLE t ({columns})")
    query(db, f"CREATE TABLE tree ({columns}, up INTEGER REFERENCES tree (a))")
    script(db, f"CREATE USER clerk IDENTIFIED BY 'pass'; GRANT {rights} ON {db.name}.* TO clerk")
    try:
        url = f"mariadb://clerk:pass@127.0.0.1:{mariadb_server.port}/{db.name}"
        options: dict[str, Any] = {"spool": str(db.folder), "max_rejects": Budget(count=5)}
        write_csv(data / "t.csv", ["a", "par", "c"], [[1, 1, 1], [2, 1, -1], [3, 9, 1]])
        path = write_csv(data / "tree.csv", ["a", "par", "c", "up"], [[1, 1, 1, 2], [2, 1, 1, ""], [3, 9, 1, 1]])
        report = tools.load(data, url, **options)  # type: ignore[arg-type]
        assert tools.told(report) == {"t.csv": ("loaded", "new"), "tree.csv": ("failed", "database")}, report.files
        messages = [message for (message,) in query(db, "SELECT message FROM ingest_reject ORDER BY line")]
        assert messages[0] == "the table refuses it: CHECK constraint t.c"
        assert messages[1] in ("the table refuses it: FOREIGN KEY t_ibfk_1", "the table refuses it: a constraint")
        assert query(db, "SELECT a FROM t") == [(1,)]
        (hint,) = [one.hint for one in report.files if one.hint]
        assert "GRANT SELECT ON " in hint
        mariadb_server.execute(hint[hint.index("GRANT") : hint.index(";")])
        assert tools.load(path, url, **options).rejected == 1  # type: ignore[arg-type]
        assert query(db, "SELECT a, up FROM tree ORDER BY a") == [(1, 2), (2, None)]
    finally:
        script(db, f"DROP USER clerk; DROP TABLE t; DROP TABLE tree; DROP DATABASE {other}")


def test_a_writer_killed_over_refused_rows_loads_the_others_once(
    tmp_path: Path, data: Path, db: oracle.OnServer
) -> None:
    query(db, "CREATE TABLE t (a INTEGER UNIQUE, b TEXT)")
    write_csv(data / "t_1.csv", ["a", "b"], [[1 if i == 77 else i, "x"] for i in range(200)])
    done = tools.ingest(
        *("load", data, "--to", db, "--max-rejects", "1"),
        cwd=tmp_path,
        INGEST_FAILPOINT=f"after_search@{tmp_path / 'fired'}",
    )
    assert (tmp_path / "fired").exists()
    assert done.returncode == 3, done.stderr
    assert query(db, "SELECT count(*) FROM t") == [(199,)]
    assert [r[2] for r in tools.rejects(db)] == [77]
    assert_counts_add_up(db)


def test_what_is_told_of_a_refused_row_never_holds_its_values(tmp_path: Path, data: Path, db: oracle.OnServer) -> None:
    script(
        db,
        "CREATE TABLE t (a VARCHAR(30) UNIQUE, b INTEGER); "
        + TABLES["trigger"][0].partition("; ")[2].replace("NEW.a", "NEW.b"),
    )
    write_csv(data / "t_1.csv", ["a", "b"], [["hunter2", 1], ["hunter2", 2], ["' for key 'hunter2", 3]] * 2)
    log = tmp_path / "log"
    done = tools.ingest("load", data, "--to", db, "--log-file", log, "-v", "--max-rejects", "9", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "hunter2" not in done.stderr + done.stdout + log.read_text()
    assert query(db, "SELECT DISTINCT message FROM ingest_reject") == [("the table refuses it: UNIQUE constraint a",)]


# records with a key

THERE = "INSERT INTO t VALUES (1, 'a', 'old'), (2, 'b', 'old'), (9, 'z', 'stays')"


@pytest.mark.parametrize("mode", ["upsert", "insert-ignore"])
def test_a_record_that_meets_a_row_by_another_unique_key_is_a_reject_and_changes_nothing(
    data: Path, db: oracle.OnServer, mode: str, bulk: str
) -> None:
    script(db, f"CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9) UNIQUE, note TEXT); {THERE}")
    rows = [[3, "b", "wrong"], [1, "c", "new"], [2, "z", "wrong, too"], [4, "d", "new"], [4, "e", "newer"]]
    write_csv(data / "t.csv", ["id", "code", "note"], rows)
    options: dict[str, Any] = {"mode": mode, "key": ("id",), "bulk": bulk, "max_rejects": Budget(count=2)}
    report = tools.load(data, db, **options)
    assert report.exit_code == 3, report.files
    found = query(db, "SELECT id, code, note FROM t ORDER BY id")
    places = [(r[2], r[4], r[5]) for r in tools.rejects(db)]
    if mode == "upsert":
        assert found == [(1, "c", "new"), (2, "b", "old"), (4, "e", "newer"), (9, "z", "stays")]
        assert places == [(0, "constraint", "3,b,wrong"), (2, "constraint", '2,z,"wrong, too"')]
        assert (report.rows, report.superseded, report.rejected) == (2, 1, 2)
    else:  # of the records that have the key of a row, nothing else is asked
        assert found == [(1, "a", "old"), (2, "b", "old"), (4, "d", "new"), (9, "z", "stays")]
        assert places == [(0, "constraint", "3,b,wrong")]
        assert (report.rows, report.ignored, report.rejected) == (1, 3, 1)
    assert query(db, "SELECT DISTINCT message FROM ingest_reject") == [
        ("the table refuses it: UNIQUE constraint code",)
    ]
    assert_counts_add_up(db)


@pytest.mark.parametrize(
    ("collation", "keys", "ignored"),
    [
        ("utf8mb4_unicode_ci", {"a ": 5, "straße": 6}, 3),
        ("utf8mb4_bin", {"A": 1, "a ": 4, "ä": 5, "straße": 6}, 1),  # which pads with blanks
        ("utf8mb4_nopad_bin", {"A": 1, "a": 2, "a ": 4, "ä": 5, "straße": 6}, 0),
    ],
)
def test_keys_are_the_same_if_their_column_takes_them_for_the_same(
    data: Path, db: oracle.OnServer, collation: str, keys: dict[str, int], ignored: int, bulk: str
) -> None:
    query(db, f"CREATE TABLE t (k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE {collation} UNIQUE, n INTEGER)")
    write_csv(data / "t_1.csv", ["k", "n"], [["A", 1], ["a", 2], ["a ", 4]])
    write_csv(data / "t_2.csv", ["k", "n"], [["ä", 5], ["straße", 6]])
    report = tools.load(data, db, mode="upsert", key=("k",), bulk=bulk)
    assert report.exit_code == 0, report.files
    assert report.rows + report.superseded == 5
    assert dict(query(db, "SELECT k, n FROM t")) == keys  # a row keeps its own spelling
    more = write_csv(data / "t_3.csv", ["k", "n"], [["STRASSE", 7], ["A ", 8], ["new", 9], ["NEW", 10]])
    report = tools.load(more, db, mode="insert-ignore", key=("k",), bulk=bulk)
    assert (report.exit_code, report.ignored) == (0, ignored), report.files
    assert query(db, "SELECT n FROM t WHERE k = 'new' COLLATE utf8mb4_bin") == [(9,)]
    assert_counts_add_up(db)


def test_a_key_that_the_server_would_change_by_itself_stays(data: Path, db: oracle.OnServer, bulk: str) -> None:
    query(
        db,
        "CREATE TABLE t (ts TIMESTAMP NOT NULL DEFAULT '2024-01-01' ON UPDATE CURRENT_TIMESTAMP PRIMARY KEY,"
        " n INTEGER, at TIMESTAMP NOT NULL DEFAULT '2024-01-01' ON UPDATE CURRENT_TIMESTAMP)",
    )
    query(db, "INSERT INTO t (ts, n) VALUES ('2024-06-01', 1), ('2024-06-02', 2)")
    rows = [["2024-06-01 00:00:00", 10], ["2024-06-03 00:00:00", 30]]
    write_csv(data / "t.csv", ["ts", "n"], rows)
    report = tools.load(data, db, mode="upsert", key=("ts",), bulk=bulk)
    assert (report.exit_code, report.rows) == (0, 2), report.files
    assert query(db, "SELECT day(ts), n, at > '2024-01-01' FROM t ORDER BY ts") == [(1, 10, 1), (2, 2, 0), (3, 30, 0)]
    write_csv(data / "u.csv", ["ts", "n"], rows)
    report = tools.load(data / "u.csv", db, mode="upsert", key=("ts",), bulk=bulk, table="t", on_duplicate="load")
    assert (report.exit_code, report.rows) == (0, 2), report.files


def test_a_new_table_has_a_key_by_which_its_rows_are_found(data: Path, db: oracle.OnServer, bulk: str) -> None:
    keyed: dict[str, Any] = {"mode": "upsert", "key": ("land", "at", "city"), "bulk": bulk}
    header = ["land", "at", "city", "note"]
    write_csv(data / "t_1.csv", header, [["d", "2024-01-01", "x" * 255, "é" * 300], ["d", "2024-01-01", "y", "b"]])
    assert tools.load(data, db, **keyed).exit_code == 0
    assert db.columns("t") == {
        "land": "VARCHAR(255)",
        "at": "DATE",
        "city": "VARCHAR(255)",
        "note": "LONGTEXT",
    }
    [(kind,)] = query(db, "SELECT DISTINCT index_type FROM information_schema.statistics WHERE table_name = 't'")
    assert kind == "BTREE"
    # A key that is too long for it is a reject, and is not cut.
    write_csv(data / "t_2.csv", header, [["d", "2024-01-01", "x" * 256, "c"], ["d", "2024-01-01", "y", "d"]])
    report = tools.load(data, db, max_rejects=ONE, **keyed)
    assert (report.exit_code, report.rows, report.rejected) == (3, 1, 1)
    assert query(db, "SELECT note FROM t ORDER BY note") == [("d",), ("é" * 300,)]


def test_a_table_without_the_key_is_refused_with_the_sql_to_type(data: Path, db: oracle.OnServer) -> None:
    query(db, 'CREATE TABLE t ("the id" INTEGER, note TEXT)')
    write_csv(data / "t_1.csv", ["the id", "note"], [[1, "a"], [1, "b"]])
    report = tools.load(data, db, mode="upsert", key=("the id",))
    assert tools.told(report) == {"t_1.csv": ("refused", "key")}
    hint = report.files[0].hint
    db.server.execute(hint[hint.index("CREATE UNIQUE INDEX") :], db.name)
    assert tools.load(data, db, mode="upsert", key=("the id",)).rows == 1


def test_a_key_is_found_whatever_its_column_is_called(data: Path, db: oracle.OnServer, bulk: str) -> None:
    write_csv(data / "t_1.csv", ["a`b", "c%", "v"], [[1, 1, "x"], [2, 1, "y"]])
    options: dict[str, Any] = {"mode": "upsert", "key": ("a`b", "c%"), "bulk": bulk}
    assert tools.load(data, db, **options).rows == 2
    write_csv(data / "t_2.csv", ["a`b", "c%", "v"], [[2, 1, "z"], [3, 1, "new"]])
    report = tools.load(data, db, **options)
    assert (report.exit_code, report.rows) == (0, 2), report.files
    assert query(db, "SELECT v FROM t ORDER BY v") == [("new",), ("x",), ("z",)]


def test_an_index_on_the_beginning_of_a_column_is_no_key(data: Path, db: oracle.OnServer) -> None:
    query(db, "CREATE TABLE t (k VARCHAR(20), v TEXT, UNIQUE (k(2)))")
    write_csv(data / "t.csv", ["k", "v"], [["one", "x"]])
    assert tools.told(tools.load(data, db, mode="upsert", key=("k",))) == {"t.csv": ("refused", "key")}


@pytest.mark.parametrize("options", [("upsert", "--key", "id"), ("replace",)], ids=["upsert", "replace"])
def test_nothing_is_said_of_types_that_only_the_server_knows(
    data: Path, db: oracle.OnServer, options: tuple[str, ...]
) -> None:
    query(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER REFERENCES t (id), a INET6, u UUID)")
    path = write_csv(data / "t.csv", ["id", "up", "a", "u"], [[1, 1, "::1", ""]])
    done = tools.ingest("load", path, "--to", db, "--mode", *options, cwd=data)
    assert (done.returncode, query(db, "SELECT CAST(a AS CHAR) FROM t")) == (0, [("::1",)]), done.stderr
    assert "arning" not in done.stderr


def test_the_index_to_type_has_a_name_that_fits(data: Path, db: oracle.OnServer) -> None:
    table, key = "t" * 40, "é" * 40
    query(db, f"CREATE TABLE {table} ({key} INTEGER)")
    path = write_csv(data / f"{table}.csv", [key], [[1]])
    hint = tools.load(path, db, mode="upsert", key=(key,)).files[0].hint
    db.server.execute(hint[hint.index("CREATE UNIQUE INDEX") :], db.name)
    assert tools.load(path, db, mode="upsert", key=(key,)).rows == 1


# a table that is replaced


@pytest.mark.parametrize("length", [53, 54, 64])
def test_a_table_of_any_name_is_replaced(data: Path, db: oracle.OnServer, length: int) -> None:
    name = "é" * length
    for word in ("old", "new"):
        path = write_csv(data / f"{name}.csv", ["id", "note"], [[1, word]])
        report = tools.load(path, db, mode="replace")
        assert (report.exit_code, report.rows) == (0, 1), (report.files, report.warnings)
        assert query(db, f"SELECT note FROM {name}") == [(word,)]
    assert name in oracle.oracle(db).tables()
    assert not [table for table in oracle.oracle(db).tables() if "ingest_new" in table]


@pytest.mark.parametrize("parts", [False, True], ids=["", "partitions"])
def test_what_hangs_on_a_replaced_table_stays(data: Path, db: oracle.OnServer, parts: bool, bulk: str) -> None:
    by = "PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (1000), PARTITION high VALUES LESS THAN MAXVALUE)"
    script(
        db,
        "CREATE TABLE log (n INTEGER); CREATE TABLE p (a INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2); "
        'CREATE TABLE "t%s`" (id INTEGER, note VARCHAR(20) CHARACTER SET latin1 NOT NULL'
        " DEFAULT 'a,\n)' COMMENT 'it''s, \\n`x`\n) ENGINE', up INTEGER,"
        " twice INTEGER AS (2 * id) STORED, own TEXT DEFAULT 'mine, )',"
        " at TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP,"
        ' PRIMARY KEY (id), UNIQUE "by, note" (id, note), INDEX (up),'
        " CONSTRAINT low CHECK (note <> 'x,\n)')) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_german2_ci"
        f" COMMENT='DEFAULT CHARSET=latin1' {by if parts else ''}; "
        'CREATE VIEW v AS SELECT count(*) AS n FROM "t%s`"; '
        'CREATE TRIGGER g AFTER INSERT ON "t%s`" FOR EACH ROW INSERT INTO log VALUES (new.id); '
        "INSERT INTO \"t%s`\" (id, note) VALUES (1, 'old'), (2, 'gone'); DELETE FROM log",
    )
    if not parts:
        query(db, 'ALTER TABLE "t%s`" ADD CONSTRAINT par FOREIGN KEY (up) REFERENCES p (a)')
        query(db, 'CREATE TABLE child (id INTEGER, FOREIGN KEY (id) REFERENCES "t%s`" (id))')
        query(db, "INSERT INTO child VALUES (1)")
    before = query(db, 'SHOW CREATE TABLE "t%s`"')
    path = write_csv(data / "t.csv", ["id", "note", "up"], [[1, "new", 2], [3, "x,\n)", 2], [4, "fourth", ""]])
    options: dict[str, Any] = {"mode": "replace", "bulk": bulk, "table": "t%s`"}
    report = tools.load(data, db, max_rejects=ONE, **options)
    assert (report.exit_code, report.rows) == (3, 2), (report.files, report.warnings)
    names = "id, note, up, twice, own, CAST(at AS CHAR)"
    assert query(db, f'SELECT {names} FROM "t%s`" ORDER BY id') == [
        (1, "new", 2, 2, "mine, )", "2024-01-01 00:00:00"),
        (4, "fourth", None, 8, "mine, )", "2024-01-01 00:00:00"),
    ]
    assert query(db, "SELECT message FROM ingest_reject") == [("the table refuses it: CHECK constraint low",)]
    assert query(db, 'SHOW CREATE TABLE "t%s`"') == before
    assert query(db, "SELECT n FROM v") == [(2,)]
    # Rows that others refer to are changed where they are.
    assert query(db, "SELECT n FROM log ORDER BY n") == ([(1,), (4,)] if parts else [(4,)])
    assert db.tables() == {"t%s`", "log", "p", "v"} | (set() if parts else {"child"})
    assert tools.load(data, db, max_rejects=ONE, **options).count("skipped") == 1
    if parts:
        return
    # Rows that others need cannot go, and neither can some without a parent come: the table stays as it was.
    for row, why in (([4, "fourth", ""], "FOREIGN KEY (`id`)"), ([1, "new", 7], "`par`")):
        write_csv(path, ["id", "note", "up"], [row])
        report = tools.load(data, db, **options)
        assert report.exit_code == 4
        assert "the table t%s` is as it was" in report.warnings[0]
        assert why in report.warnings[0]
        assert query(db, 'SELECT id FROM "t%s`" ORDER BY id') == [(1,), (4,)]
    query(db, "DELETE FROM child")
    write_csv(path, ["id", "note", "up"], [[4, "fourth", ""]])
    assert tools.load(data, db, **options).exit_code == 0
    assert query(db, 'SELECT id FROM "t%s`"') == [(4,)]


def test_numbers_go_on_where_the_files_have_none(data: Path, db: oracle.OnServer, bulk: str) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER AUTO_INCREMENT PRIMARY KEY, v TEXT) COMMENT ' AUTO_INCREMENT=900 DEFAULT CHARSET=';"
        " INSERT INTO t (v) VALUES ('a'), ('b'), ('c')",
    )
    write_csv(data / "t_1.csv", ["v"], [["x"], ["y"]])
    write_csv(data / "t_2.csv", ["id", "v"], [[1, "z"]])
    assert tools.load(data, db, mode="replace", bulk=bulk).exit_code == 0
    assert query(db, "SELECT id, v FROM t ORDER BY id") == [(1, "z"), (4, "x"), (5, "y")]
    # Some of an interrupted attempt have theirs already.
    write_csv(data / "t_1.csv", ["v"], [["v"], ["w"]])
    second = write_csv(data / "t_2.csv", ["id", "v"], [["one", "z"]])
    assert tools.load(data, db, mode="replace", bulk=bulk).exit_code == 4
    write_csv(second, ["v"], [["u"]])
    assert tools.load(data, db, mode="replace", bulk=bulk).exit_code == 0
    query(db, "INSERT INTO t (v) VALUES ('own')")
    found = query(db, "SELECT v, id FROM t ORDER BY id")  # the server gives out more numbers than are used
    assert [v for v, _ in found] == ["v", "w", "u", "own"]
    assert found[0][1] > 5


def test_rows_of_others_are_not_deleted_along(data: Path, db: oracle.OnServer) -> None:
    script(
        db,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO t VALUES (1, 'a'); "
        "CREATE TABLE child (id INTEGER, FOREIGN KEY (id) REFERENCES t (id) ON DELETE CASCADE); "
        "INSERT INTO child VALUES (1)",
    )
    write_csv(data / "t_1.csv", ["id", "note"], [[1, "b"]])
    report = tools.load(data, db, mode="replace")
    assert tools.told(report) == {"t_1.csv": ("refused", "constraint")}
    assert "child" in report.files[0].sentence
    assert (query(db, "SELECT note FROM t"), query(db, "SELECT id FROM child")) == ([("a",)], [(1,)])


DEFINITION = """CREATE TABLE `t` (
  `a` int(11) NOT NULL,
  PRIMARY KEY (`a`),
  CONSTRAINT `up``` FOREIGN KEY (`a`) REFERENCES `t` (`a`),
  CONSTRAINT `low` CHECK (`a` < 9)
) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_bin COMMENT='x'
 PARTITION BY HASH (`a`)"""


def test_a_definition_is_copied_without_what_only_one_table_can_have() -> None:
    made = like(DEFINITION, "`n`", comment="ingest 1", added="_ingest_file_id", names=False)
    assert made == (
        "CREATE TABLE `n` (\n  `a` int(11) NOT NULL,\n  PRIMARY KEY (`a`),\n  CHECK (`a` < 9),\n"
        "  `_ingest_file_id` bigint\n"
        ") ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_bin ROW_FORMAT=DYNAMIC COMMENT='ingest 1'"
    )
    assert "CONSTRAINT `low` CHECK" in (like(DEFINITION, "`n`", comment="", added=None, names=True) or "")
    # A line that is no part of its own: nothing is guessed.
    for broken in (DEFINITION.replace("int(11)", "int(11) DEFAULT 'x\ny'"), DEFINITION.replace(" DEFAULT CHARSET", "")):
        assert like(broken, "`n`", comment="", added=None, names=True) is None


# what the server says


def test_numbers_of_the_servers_errors_are_told_without_values() -> None:
    for code, text, said in (
        (1062, "Duplicate entry 'a secret' for key 'b' for key 'PRIMARY'", "duplicate entry for key 'PRIMARY'"),
        (
            1366,
            "Incorrect integer value: 'a secret' for column `d`.`t`.`a` at row 7",
            "incorrect value for column `d`.`t`.`a`",
        ),
        (1292, "Truncated incorrect DOUBLE value: 'a secret'", "error 1292"),
        (1526, "Table has no partition for value a secret", "no partition of the table takes a value"),
        (1406, "Data too long for column 'a' at row 3", "Data too long for column 'a'"),
    ):
        assert mysqlerrors.words(code, text) == said


def test_the_name_of_a_constraint_is_told_without_values() -> None:
    for code, text, said in (
        (1062, "Duplicate entry 'a secret' for key 'b' for key 'it's'", "UNIQUE constraint it's"),
        (1048, "Column 'a' cannot be null", "NOT NULL of the column a"),
        (3819, "Check constraint 'low' is violated.", "CHECK constraint low"),
        (4025, "CONSTRAINT `t.a` failed for `d`.`t`", "CHECK constraint t.a"),
        (1526, "Table has no partition for value a secret", "no partition takes it"),
        (1644, "a secret", "a trigger of the table"),
        (1001, "a secret", "a trigger of the table"),
        (30001, "a secret", "a trigger of the table"),
        (50001 - 65536, "a secret", "a trigger of the table"),
        (1216, "Cannot add or update a child row: a foreign key constraint fails", ""),
    ):
        assert mysqlerrors.constraint(code, text) == said


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_of_a_table_as_wide_as_can_be_only_the_file_is_refused_whose_rows_have_to_be_sorted_out(
    data: Path, db: oracle.OnServer, mode: str
) -> None:
    names = [f"c{i}" for i in range(1_017)]
    query(db, f"CREATE TABLE t ({names[0]} INTEGER PRIMARY KEY, {' INTEGER, '.join(names[1:])} INTEGER)")
    write_csv(data / "t_1.csv", names, [range(1_017)] * (1 + (mode == "append")))
    write_csv(data / "u_1.csv", ["c0"], [[1]])
    report = tools.load(data, db, mode=mode, key=() if mode == "append" else ("c0",))
    assert tools.told(report) == {"t_1.csv": ("failed", "database"), "u_1.csv": ("loaded", "new")}, report.files
    assert any("one column more" in file.sentence for file in report.files), report.files


def test_rows_that_the_table_takes_are_sorted_out_whatever_format_rows_have_by_default(
    data: Path, db: oracle.OnServer, mariadb_server: servers.Server
) -> None:
    names = [f"c{i}" for i in range(20)]
    query(db, f"CREATE TABLE t (a INTEGER PRIMARY KEY, {' TEXT, '.join(names)} TEXT) ROW_FORMAT=DYNAMIC")
    path = write_csv(data / "t.csv", ["a", *names], [[1, *["x" * 1_000] * 20]])
    with told_otherwise(mariadb_server, "innodb_default_row_format", "compact"):
        report = tools.load(path, db, mode="upsert", key=("a",))
    assert (report.exit_code, report.rows) == (0, 1), report.files
