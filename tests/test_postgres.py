"""What is PostgreSQL's own: its URLs, schemas, types and names as users have them, and errors without their values."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import killing
import psutil
import pytest
import servers
import tools

from ingest.cmdline import hidden
from ingest.errors import UsageError
from ingest.targets import target_for


def load(path: Path, url: str, **settings: Any) -> Any:
    return tools.load(path, url, **settings)  # type: ignore[arg-type]


# URLs and drivers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["postgres", "postgresql", "postgresql+psycopg"])
def test_urls_as_people_type_them(tmp_path: Path, postgresql: str, query: Any, typed: str) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    done = tools.ingest("load", ".", "--to", postgresql.replace("postgresql", typed, 1), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert query("SELECT count(*) FROM orders") == [(5,)]
    assert done.stderr.startswith(f"database: {typed.partition('+')[0]}://loader:***@127.0.0.1:")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg2://u:secret@h/d", "psycopg2"),
        ("postgresql://u:sec@ret@h/d", "more than one @"),
        ("postgresql://u:sec@ret/word@h/d", "more than one @"),
        ("postgresql://u:secret@h", "names no database"),
        ("oracle://u:secret@h/d", "'oracle' need a driver that is not installed"),
    ],
)
def test_urls_that_cannot_be_used_are_refused_without_their_secret(tmp_path: Path, url: str, said: str) -> None:
    done = tools.ingest("status", "--to", url, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "ret" not in done.stderr.replace("secret-free", "")
    assert "Traceback" not in done.stderr
    assert tools.ingest("status", cwd=tmp_path, INGEST_DATABASE_URL=url).stderr == done.stderr


@pytest.mark.parametrize("dialect", ["postgres", "mariadb", "oracle"])
@pytest.mark.parametrize("password", ["sec@ret", "sec@ret/word", "sec@ret/word?mode=x", "sec?a@ret/word"])
def test_a_password_that_would_be_taken_for_a_host_and_a_name_is_not_repeated(dialect: str, password: str) -> None:
    with pytest.raises(UsageError, match="more than one @") as caught:
        target_for(f"{dialect}://u:{password}@h/d")
    assert "ret" not in str(caught.value)


def test_limits_of_the_server_that_are_meant_for_queries_do_not_hold_for_a_load(postgresql: str, query: Any) -> None:
    limits = [
        name for (name,) in query("SELECT name FROM pg_settings WHERE name ~ '^(statement|transaction)_timeout$'")
    ]
    for name in limits:  # the second is known since PostgreSQL 17
        query(f"ALTER ROLE CURRENT_USER SET {name} = '1min'")
    try:
        assert query("SHOW statement_timeout") == [("1min",)]
        target = target_for(postgresql)
        with target.begin() as connection:
            seen = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in limits}
        target.close()
    finally:
        query("ALTER ROLE CURRENT_USER RESET ALL")
    assert seen == dict.fromkeys(limits, "0")


def test_an_at_sign_where_it_can_be_understood_is_let_through() -> None:
    for url, label in {
        "postgresql://me@org:p%40ss%2Fw@h/d": "postgresql://me%40org:***@h/d",
        "postgresql://h/d@e": "postgresql://h/d%40e",
        "sqlite:////a@b/c@d.db": "sqlite:////a%40b/c%40d.db",
    }.items():
        assert target_for(url).label == label


def test_a_missing_driver_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        target_for("postgres://h/d")
    assert str(caught.value) == (
        "PostgreSQL needs the driver psycopg, which is not installed. Type: pip install 'ingest[postgres]'"
    )


def test_a_server_that_is_not_there_and_a_database_that_is_not_there(tmp_path: Path, postgresql: str) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    for url, said in (
        (postgresql.replace(f":{urlsplit(postgresql).port}/", ":1/"), "refused"),
        (postgresql + "_not", "does not exist"),
        (postgresql.replace(servers.PASSWORD, "wrong-word"), "password authentication failed"),
        (postgresql + "?sslrootcert=/no/where&sslmode=verify-full", "cannot be opened"),
    ):
        for command in ("load", "plan"):
            done = tools.ingest(command, ".", "--to", url, cwd=tmp_path)
            assert done.returncode == 10, done.stderr
            assert said in done.stderr
            assert "Traceback" not in done.stderr
            assert "wrong-word" not in done.stderr
            assert servers.PASSWORD not in done.stderr


@pytest.mark.parametrize("way", ["flag", "environment", "query"])
def test_the_password_is_in_no_output_and_no_process_list(
    tmp_path: Path, postgresql: str, query: Any, way: str
) -> None:
    files = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", 9_000, first=i * 10_000) for i in range(3)]
    url = postgresql
    if way == "query":
        url = postgresql.replace(f":{servers.PASSWORD}@", "@") + f"?password={servers.PASSWORD}"
    query("CREATE TABLE held (a integer)")
    arguments = ["load", "in", "-v", "--log-file", "log", "--transform", "waits:wait", "--json"]
    (tmp_path / "waits.py").write_text(
        "import os, time\n"
        "def wait(frame):\n"
        "    open('waiting', 'w').close()\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
        "    return frame\n"
    )
    if way == "environment":
        run = tools.start(*arguments, cwd=tmp_path, INGEST_DATABASE_URL=url)
    else:
        run = tools.start(*arguments, "--to", url, cwd=tmp_path)
    killing.wait_for((tmp_path / "waiting").exists, "a worker")
    own = psutil.Process(run.pid)
    lines = [" ".join(process.cmdline()) for process in (own, *own.children(recursive=True))]
    (tmp_path / "go").touch()
    code, out, err = killing.finish(run)
    assert code == 0, err
    assert len(lines) > 3
    for text in (*lines, out, err, (tmp_path / "log").read_text()):
        assert servers.PASSWORD not in text
    assert query("SELECT count(*) FROM orders") == [(27_000,)]
    assert servers.PASSWORD not in str(query("SELECT * FROM ingest_run"))
    assert all(file.exists() for file in files)


def test_passwords_are_found_in_a_command_line() -> None:
    for typed, shown in {
        b"postgres://u:pa:s/s@h/d": b"postgres://u:******@h/d",
        b"postgres://u:p@ss@h/d": b"postgres://u:****@h/d",
        b"postgres://u:p@ss/w0rd@h/d": b"postgres://u:*********@h/d",
        b"postgres://u:p ss@h/d": b"postgres://u:****@h/d",
        b"postgres://me@org:pass@h/d": b"postgres://me@org:****@h/d",
        b"--to=mysql://u:p@h/d?ssl_key=k&charset=utf8": b"--to=mysql://u:*@h/d?ssl_key=*&charset=utf8",
        b"postgres://u@h/d?password=abc&x=y": b"postgres://u@h/d?password=***&x=y",
        b"a:b@c": b"a:b@c",
        b"https://h:80/d": b"https://h:80/d",
    }.items():
        assert hidden(typed) == shown


# schemas -------------------------------------------------------------------------------------------------------


def test_a_table_in_a_schema_and_the_same_table_typed_in_both_ways(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    killing.aged(path)
    query('CREATE SCHEMA "Sales dept"')
    assert load(path, postgresql, table="Sales dept.orders", bulk=bulk).exit_code == 0
    assert query('SELECT count(*) FROM "Sales dept".orders') == [(5,)]
    assert load(path, postgresql, table="Sales dept.orders", bulk=bulk).count("skipped") == 1
    assert load(path, postgresql, table="public.orders", bulk=bulk).count("loaded") == 1
    assert load(path, postgresql, table="orders", bulk=bulk).count("skipped") == 1
    assert query("SELECT table_name FROM ingest_table ORDER BY 1") == [("Sales dept.orders",), ("orders",)]


def test_a_schema_that_is_not_there_is_named(tmp_path: Path, postgresql: str) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    report = load(path, postgresql, table="sales.orders")
    assert report.exit_code == 4
    assert report.files[0].sentence == "there is no schema 'sales'."
    assert report.files[0].hint == 'Make it first: CREATE SCHEMA "sales"'


def test_the_ledger_in_a_schema_of_its_own(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    killing.aged(path)
    assert load(path, postgresql, ledger_schema="Our books", bulk=bulk).exit_code == 0
    assert query("SELECT schemaname, count(*) FROM pg_tables WHERE tablename LIKE 'ingest%' GROUP BY 1") == [
        ("Our books", 6)
    ]
    assert query("SELECT count(*) FROM public.orders") == [(5,)]
    assert load(path, postgresql, ledger_schema="Our books", bulk=bulk).count("skipped") == 1
    done = tools.ingest("status", "--to", postgresql, "--ledger-schema", "Our books", cwd=tmp_path)
    assert "orders       1     5" in done.stdout
    # Without the flag there would be a second ledger, which knows nothing: every file would be loaded again.
    for command in (("load", path), ("plan", path), ("status",)):
        forgotten = tools.ingest(*command, "--to", postgresql, cwd=tmp_path)
        assert forgotten.returncode == 2
        assert "--ledger-schema 'Our books'" in forgotten.stderr
    broken = tools.write_csv(tmp_path / "orders_2.csv", ["id"], [["x"]])
    done = tools.ingest("load", broken, "--to", postgresql, "--ledger-schema", "Our books", cwd=tmp_path)
    assert done.returncode == 4
    assert "--ledger-schema 'Our books' FILE" in done.stderr
    assert query("SELECT count(*) FROM public.orders") == [(5,)]


def test_looking_writes_nothing(tmp_path: Path, postgresql: str, query: Any) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    planned = tools.ingest("plan", path, "--to", postgresql, cwd=tmp_path)
    assert (planned.returncode, "load" in planned.stdout) == (0, True), planned.stderr
    for words in (["status"], ["runs"], ["rejects", "list"], ["forget", "orders.csv", "--yes"]):
        asked = tools.ingest(*words, "--to", postgresql, cwd=tmp_path)
        assert asked.returncode == 2
        assert "holds no ledger" in asked.stderr
    assert query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    target = target_for(postgresql)
    with target.connect() as connection, pytest.raises(Exception, match="read-only transaction"):
        connection.exec_driver_sql("CREATE TABLE t (a integer)")
    target.close()


def test_an_upgrade_of_a_ledger_in_a_schema(tmp_path: Path, postgresql: str, query: Any) -> None:
    path = tools.orders(tmp_path / "orders.csv", 5)
    killing.aged(path)
    assert load(path, postgresql, ledger_schema="books").exit_code == 0
    query("DROP TABLE books.ingest_lease; UPDATE books.ingest_version SET version_num = '0001'")
    query("ALTER TABLE books.ingest_file DROP mode, DROP rows_superseded, DROP rows_ignored")
    query("ALTER TABLE books.ingest_table DROP replaces")
    query("ALTER TABLE books.ingest_run DROP rows_superseded, DROP rows_ignored")
    target = target_for(postgresql, ledger_schema="books")
    from ingest import ledger

    assert ledger.upgrade(target.engine) == ("0001", ledger.HEAD)
    target.close()
    assert query("SELECT lease_id, epoch FROM books.ingest_lease") == [(1, 0)]
    assert query("SELECT schemaname FROM pg_tables WHERE tablename = 'ingest_version'") == [("books",)]
    assert load(path, postgresql, ledger_schema="books").count("skipped") == 1


def test_a_user_without_the_right_to_make_tables_is_told_so(tmp_path: Path, postgresql: str, query: Any) -> None:
    tools.orders(tmp_path / "orders.csv", 5)
    query("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    query("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = postgresql.replace(f"{servers.USER}:{servers.PASSWORD}", "guest:guest")
    done = tools.ingest("load", ".", "--to", url, cwd=tmp_path)
    assert done.returncode == 1
    assert "the ledger cannot be made" in done.stderr
    assert "permission denied for schema public" in done.stderr
    assert "--ledger-schema" in done.stderr
    query("CREATE SCHEMA books AUTHORIZATION guest")
    done = tools.ingest("load", ".", "--to", url, "--ledger-schema", "books", cwd=tmp_path)
    assert done.returncode == 4
    assert "the database refused the table orders: permission denied for schema public" in done.stderr
    query("DROP OWNED BY guest")
    query("DROP ROLE guest")


@pytest.mark.parametrize("made", [False, True], ids=["", "a ledger is there"])
def test_a_user_who_only_reads_is_not_told_to_lack_a_right(
    tmp_path: Path, postgresql: str, query: Any, made: bool
) -> None:
    if made:
        assert load(tools.orders(tmp_path / "orders.csv", 3), postgresql).rows == 3
    tools.orders(tmp_path / "orders.csv", 5)
    query(f"ALTER DATABASE {urlsplit(postgresql).path[1:]} SET default_transaction_read_only = on")
    done = tools.ingest("load", ".", "--to", postgresql, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert ("the ledger cannot be made" in done.stderr) is not made
    assert "set to read only" in done.stderr
    assert "--ledger-schema" not in done.stderr


# tables as users have them -------------------------------------------------------------------------------------

OWN = """
CREATE TYPE mood AS ENUM ('fine', 'bad');
CREATE TABLE own (
    key serial PRIMARY KEY,
    id integer GENERATED ALWAYS AS IDENTITY,
    twice bigint GENERATED ALWAYS AS (small * 2) STORED,
    small smallint, whole integer, big bigint, single real, double double precision,
    exact numeric(30,4), free numeric, flag boolean, day date, at timestamp, moment timestamptz, clock time,
    span interval, code char(4), word varchar(5), body text, uid uuid, doc jsonb, bytes bytea, how mood, list integer[],
    stamped timestamptz NOT NULL DEFAULT '2020-01-01', ip inet
)
"""
GIVEN = {
    "small": "-32768",
    "whole": "2147483647",
    "big": "-9223372036854775808",
    "single": "0.1",
    "double": "1e300",
    "exact": "12345678901234567890123456.7890",
    "free": "0.000000000000000000000000000001",
    "flag": "yes",
    "day": "0001-01-01",
    "at": "9999-12-31 23:59:59.999999",
    "moment": "2024-07-01 12:00:00.5+02:00",
    "clock": "12:34:56.789",
    "span": "1 day 02:00:00",
    "code": "ab",
    "word": "äöüßé",
    "body": 'a\tb\\N "q"\n日本',
    "uid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "doc": '{"a": [1, null]}',
    "bytes": "\\x00ff10",
    "how": "fine",
    "list": "{1,NULL,3}",
    "ip": "10.0.0.0/8",
}
STORED = {
    "small": -32768,
    "whole": 2147483647,
    "big": -(2**63),
    "single": 0.1,
    "double": 1e300,
    "exact": Decimal("12345678901234567890123456.7890"),
    "free": Decimal("0.000000000000000000000000000001"),
    "flag": True,
    "day": dt.date(1, 1, 1),
    "at": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
    "moment": dt.datetime(2024, 7, 1, 10, 0, 0, 500000, dt.UTC),
    "clock": dt.time(12, 34, 56, 789000),
    "span": dt.timedelta(days=1, hours=2),
    "code": "ab  ",
    "word": "äöüßé",
    "body": 'a\tb\\N "q"\n日本',
    "doc": {"a": [1, None]},
    "bytes": b"\x00\xff\x10",
    "how": "fine",
    "list": [1, None, 3],
}


def test_an_existing_table_keeps_its_types_and_what_it_makes_by_itself(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    query(OWN)
    empty = dict.fromkeys(GIVEN, "") | {"small": "1"}
    path = tools.write_csv(tmp_path / "own.csv", list(GIVEN), [list(GIVEN.values()), list(empty.values())])
    report = load(path, postgresql, bulk=bulk)
    assert report.exit_code == 0, report.files
    names = ", ".join(f'"{name}"' for name in STORED)
    rows = query(f"SELECT {names} FROM own ORDER BY key")
    assert dict(zip(STORED, rows[0], strict=True)) == STORED
    assert rows[1] == (1, *[None] * (len(STORED) - 1))
    assert query("SELECT key, id, twice, stamped::date, uid::text, host(ip) FROM own ORDER BY key") == [
        (1, 1, -65536, dt.date(2020, 1, 1), GIVEN["uid"], "10.0.0.0"),
        (2, 2, 2, dt.date(2020, 1, 1), None, None),
    ]


def test_values_of_the_file_go_into_an_identity_column(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query('CREATE TABLE own (id integer GENERATED ALWAYS AS IDENTITY, "a:b%(c)s" text)')
    path = tools.write_csv(tmp_path / "own.csv", ["a:b%(c)s", "id"], [["x", 7], ["y", 8]])
    assert load(path, postgresql, bulk=bulk).exit_code == 0
    assert query("SELECT * FROM own ORDER BY id") == [(7, "x"), (8, "y")]


def test_domains_are_read_as_what_they_stand_for(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query("CREATE DOMAIN word AS varchar(9) CHECK (VALUE <> 'not-shown')")
    query("CREATE DOMAIN more AS integer NOT NULL CHECK (VALUE > 0)")
    there = query("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'")
    query("CREATE EXTENSION citext" if there else "CREATE DOMAIN citext AS text")
    query("CREATE TABLE own (w word, m more, c citext)")
    path = tmp_path / "own.csv"
    path.write_text('w,m,c\n"",1,""\nabc,2,Abc\nabc,x,\nabc,,\nabcdefghij,3,\n,4,\n')
    report = load(path, postgresql, bulk=bulk, max_rejects_run=3)
    assert query("SELECT reason FROM ingest_reject ORDER BY line") == [("bad_integer",), ("not_null",), ("lossy",)]
    assert query("SELECT w, m, c FROM own ORDER BY m") == [("", 1, ""), ("abc", 2, "Abc"), (None, 4, None)]
    for number, line in enumerate(("not-shown,5,", "abc,0,")):
        path = tmp_path / f"own_{number}.csv"
        path.write_text(f"w,m,c\n{line}\n")
        report = load(path, postgresql, bulk=bulk)
        assert tools.told(report) == {path.name: ("refused", "constraint")}
        assert "check constraint" in report.files[0].sentence
        assert "not-shown" not in report.files[0].sentence


def test_names_in_mixed_case_and_with_quotes(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    names = ["Id", 'a "b"', "c'd; --", "%s", "ü", "select", "100% :new"]
    table = "Odd 10% Nämes:x"
    for number in (1, 2):
        path = tools.write_csv(tmp_path / f"{number}.csv", names[: 5 + number], [[number, *"abcdef"[: 4 + number]]])
        assert load(path, postgresql, table=table, bulk=bulk).exit_code == 0
    columns = ", ".join(tools.quoted(name) for name in names)
    assert query(f'SELECT {columns} FROM "{table}" ORDER BY 1') == [(1, *"abcde", None), (2, *"abcdef")]


def test_a_table_is_found_whatever_the_case_of_the_file(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query("CREATE TABLE orders (id integer, customer text, amount numeric(10,2), day date, note text)")
    path = tools.orders(tmp_path / "Orders.csv", 5)
    killing.aged(path)
    assert load(path, postgresql, bulk=bulk).rows == 5
    assert query("SELECT count(*) FROM orders") == [(5,)]
    assert load(path, postgresql, bulk=bulk).count("skipped") == 1
    query('CREATE TABLE "ORDERS" (id integer)')
    other = tools.orders(tmp_path / "in" / "Orders_2.csv", 7)
    assert tools.told(load(other, postgresql, bulk=bulk)) == {"Orders_2.csv": ("loaded", "new")}


def test_names_that_the_server_would_cut_are_refused(tmp_path: Path, postgresql: str, query: Any) -> None:
    path = tools.write_csv(tmp_path / "own.csv", ["a", "ä" * 32], [[1, 2]])
    report = load(path, postgresql)
    assert report.exit_code == 4
    assert "longer than the 63" in report.files[0].sentence
    assert "--rename" in report.files[0].hint


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_takes_no_rows(tmp_path: Path, postgresql: str, query: Any, kind: str) -> None:
    query(f"CREATE {kind} orders AS SELECT 1 AS id")
    report = load(tools.orders(tmp_path / "orders.csv", 5), postgresql)
    assert tools.told(report) == {"orders.csv": ("refused", "columns")}


def test_a_partitioned_table_takes_rows(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query(
        "CREATE TABLE orders (id bigint, customer text, amount numeric, day date, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (3);"
        "CREATE TABLE high PARTITION OF orders DEFAULT"
    )
    assert load(tools.orders(tmp_path / "orders.csv", 5), postgresql, bulk=bulk).exit_code == 0
    assert query("SELECT (SELECT count(*) FROM low), (SELECT count(*) FROM high)") == [(3, 2)]


def test_rows_that_a_trigger_swallows_are_missed(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query(
        "CREATE TABLE orders (id bigint, customer text, amount numeric, day date, note text);"
        "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION drop_it()"
    )
    report = load(tools.orders(tmp_path / "orders.csv", 5), postgresql, bulk=bulk)
    assert tools.told(report) == {"orders.csv": ("refused", "counts")}
    assert query("SELECT count(*) FROM orders") == [(0,)]


def test_moments_mean_the_same_whatever_the_zone_of_server_and_client(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    name = urlsplit(postgresql).path[1:]
    query(f"ALTER DATABASE {name} SET timezone = 'America/New_York'")
    query(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
    query("CREATE TABLE own (moment timestamptz, at timestamp, day date)")
    path = tools.write_csv(
        tmp_path / "own.csv", ["moment", "at", "day"], [["2024-01-02 03:04:05", "2024-01-02 03:04:05", "2024-01-02"]]
    )
    done = tools.ingest(
        "load", path, "--to", postgresql, "--bulk", bulk, cwd=tmp_path, PGTZ="Asia/Tokyo", TZ="Asia/Tokyo"
    )
    assert done.returncode == 0, done.stderr
    moment = dt.datetime(2024, 1, 2, 3, 4, 5)
    ((found, at, day),) = query("SELECT moment AT TIME ZONE 'UTC', at, day FROM own")
    assert (found, at, day) == (moment, moment, moment.date())
    (started,) = query("SELECT started_at FROM ingest_run")[0]
    assert abs(started - dt.datetime.now(dt.UTC).replace(tzinfo=None)) < dt.timedelta(hours=1)


def test_url_options_of_the_driver_are_kept(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE SCHEMA app")
    path = tools.orders(tmp_path / "orders.csv", 5)
    url = f"{postgresql}?options={quote('-csearch_path=app')}&application_name=mine"
    assert load(path, url).exit_code == 0
    assert query("SELECT schemaname FROM pg_tables WHERE tablename IN ('orders', 'ingest_file')") == [
        ("app",),
        ("app",),
    ]
