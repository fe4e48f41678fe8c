"""Values that a table of PostgreSQL does not take: rejects, and refusals that quote none of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import servers
import tools
from test_postgres import GIVEN, OWN, load

from ingest.settings import Budget


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("small", "32768", "bad_integer"),
        ("whole", "-2147483649", "bad_integer"),
        ("word", "äöüßéa", "lossy"),
        ("code", "abcde", "lossy"),
        ("exact", "0.00001", "lossy"),
        ("exact", "123456789012345678901234567", "bad_number"),
        ("single", "1e300", "bad_number"),
        ("single", "-1e-300", "bad_number"),
    ],
)
def test_what_a_narrower_type_would_cut_is_a_reject(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, column: str, value: str, reason: str
) -> None:
    query(OWN)
    path = tools.write_csv(tmp_path / "own.csv", [column], [[GIVEN[column]], [value]])
    report = load(path, postgresql, bulk=bulk, max_rejects_run=1)
    assert (report.rows, report.rejected) == (1, 1)
    assert query("SELECT line, column_name, reason FROM ingest_reject") == [(3, column, reason)]


@pytest.mark.parametrize("column", ["a", "b", "c", "d", "e", "f"])
def test_digits_of_a_second_that_a_type_would_round_are_a_reject(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, column: str
) -> None:
    query(
        "CREATE TABLE own (a timestamp(0), b time(1), c timestamptz(2), d timetz(0), e time, f timestamptz,"
        " g interval(1))"
    )
    fits = {
        "a": "2024-12-31 23:59:59.00",
        "b": "10:00:00.90",
        "c": "2024-12-31 23:59:59.990+01:00",
        "d": "10:00:00.0+01",
        "e": "10:00:00.1234560",
        "f": "20241231T235959.1234560Z",
        "g": "1.7 s",
    }
    cut = {
        "a": "2024-12-31 23:59:59.7",
        "b": "10:00:00.95",
        "c": "2024-12-31 23:59:59.995+01:00",
        "d": "10:00:00.9+01",
        "e": "10:00:00.1234567",
        "f": "20241231T235959.1234567Z",
    }
    rows = [list(fits.values()), list((fits | {column: cut[column]}).values()), [""] * len(fits)]
    path = tools.write_csv(tmp_path / "own.csv", list(fits), rows)
    report = load(path, postgresql, bulk=bulk, max_rejects_run=1)
    assert (report.rows, report.rejected) == (2, 1), report.files
    assert query("SELECT line, column_name, reason FROM ingest_reject") == [(3, column, "lossy")]
    assert query("SELECT a::text, b::text, c::text, d::text, e::text, f::text, g::text FROM own ORDER BY a") == [
        (
            "2024-12-31 23:59:59",
            "10:00:00.9",
            "2024-12-31 22:59:59.99+00",
            "10:00:00+01",
            "10:00:00.123456",
            "2024-12-31 23:59:59.123456+00",
            "00:00:01.7",
        ),
        (None,) * 7,
    ]


ODD_SCALES = {
    "h": (
        "numeric(5,-2)",
        ["12300", "-9999900.00", "0", "00100"],
        {"12345": "lossy", "0.5": "lossy", "1e5": "bad_number"},
    ),
    "s": ("numeric(2,4)", ["0.0012", "-0.0099", "0.00"], {"0.01": "bad_number", "1": "bad_number", "0.00123": "lossy"}),
}


def test_digits_left_of_the_point_or_far_behind_it_are_kept_or_are_rejects(
    tmp_path: Path, postgresql: str, query: Any, bulk: str
) -> None:
    if int(query("SHOW server_version_num")[0][0]) < 150_000:
        pytest.skip("scales like these are known from PostgreSQL 15 on")
    query(f"CREATE TABLE q (n int, {', '.join(f'{name} {native}' for name, (native, *_) in ODD_SCALES.items())})")
    cells = [(name, cell, None) for name, (_, kept, _) in ODD_SCALES.items() for cell in kept]
    cells += [(name, cell, code) for name, (*_, bad) in ODD_SCALES.items() for cell, code in bad.items()]
    rows = [(n, *(cell if name == one else "" for one in ODD_SCALES)) for n, (name, cell, _) in enumerate(cells)]
    path = tools.write_csv(tmp_path / "q.csv", ["n", *ODD_SCALES], rows)
    report = load(path, postgresql, bulk=bulk, max_rejects=Budget(count=len(cells)))
    assert (report.exit_code, report.rows) == (3, sum(code is None for *_, code in cells)), report.files
    assert query("SELECT line, column_name, reason FROM ingest_reject ORDER BY line") == [
        (n + 2, name, code) for n, (name, _, code) in enumerate(cells) if code
    ]
    found = [value for (value,) in query("SELECT coalesce(h, s) FROM q ORDER BY n")]
    assert found == [Decimal(cell) for _, cell, code in cells if code is None]


@pytest.mark.parametrize(
    ("column", "value"),
    [("uid", "not-to-be-shown"), ("how", "not-to-be-shown"), ("clock", "not-to-be-shown")],
)
def test_what_the_table_refuses_is_told_without_the_value(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, column: str, value: str
) -> None:
    query(OWN)
    query("INSERT INTO own (small) VALUES (1)")
    path = tools.write_csv(tmp_path / "own.csv", [column], [[value]])
    done = tools.ingest("load", path, "--to", postgresql, "--bulk", bulk, "-v", "--log-file", "log", cwd=tmp_path)
    assert done.returncode == 4
    assert "the table refused a row" in done.stderr
    assert "SQLSTATE" in done.stderr
    told = done.stderr + (tmp_path / "log").read_text() + str(query("SELECT error FROM ingest_file"))
    assert "not-to-be-shown" not in told
    assert query("SELECT count(*) FROM own") == [(1,)]


OF_TYPES = {
    "tsquery": ("v tsquery", "not-shown &"),
    "long tsquery": ("v tsquery", "not-shown" * 300),
    "regclass": ("v regclass", "not-shown"),
    "regtype": ("v regtype", "not-shown"),
    "regproc": ("v regproc", "not-shown"),
    "regrole": ("v regrole", "not-shown"),
    "schema": ("v regclass", "not-shown.x"),
    "jsonpath": ("v jsonpath", "$.not-shown["),
    "check": ("v text CHECK (v::regclass IS NOT NULL)", "not-shown"),
}
OF_EXTENSIONS = {"of hstore": ("v hstore", "not-shown"), "of ltree": ("v ltree", "not shown")}
BY_A_POLICY = {"row security": ("v text", "not-shown")}


@pytest.mark.parametrize("kinds", [OF_TYPES, OF_EXTENSIONS, BY_A_POLICY], ids=["types", "extensions", "policy"])
def test_whatever_number_a_value_is_refused_with_it_is_that_of_its_file_alone(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, kinds: dict[str, tuple[str, str]]
) -> None:
    if kinds is OF_EXTENSIONS:
        for extension in (kind.removeprefix("of ") for kind in kinds):
            if not query(f"SELECT 1 FROM pg_available_extensions WHERE name = '{extension}'"):
                pytest.skip(f"no {extension} on this machine")
            query(f"CREATE EXTENSION {extension}")
    for kind, (column, value) in kinds.items():
        query(f'CREATE TABLE "{kind}" (n int, {column})')
        tools.write_csv(tmp_path / "in" / f"{kind}.csv", ["n", "v"], [[1, value]])
    tools.write_csv(tmp_path / "in" / "other.csv", ["n"], [[1]])
    url = postgresql
    if kinds is BY_A_POLICY:
        query('ALTER TABLE "row security" ENABLE ROW LEVEL SECURITY')
        query('CREATE POLICY p ON "row security" USING (true) WITH CHECK (v IS NULL)')
        query("CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT ALL ON SCHEMA public TO guest")
        query('GRANT ALL ON "row security" TO guest')
        url = postgresql.replace(f"{servers.USER}:{servers.PASSWORD}", "guest:guest")
    options = ("--max-rejects", "5", "--on-duplicate", "load", "--bulk", bulk, "-v", "--log-file", "log", "--json")
    done = tools.ingest("load", "in", "--to", url, *options, cwd=tmp_path)
    try:
        assert done.returncode == 4, done.stderr
        assert done.stdout.count("the table refused a row: ") >= len(kinds), done.stdout
        told = done.stdout + done.stderr + (tmp_path / "log").read_text() + str(query("SELECT error FROM ingest_file"))
        assert "shown" not in told
        assert query("SELECT count(*) FROM other") == [(1,)]
        for kind in kinds:
            assert query(f'SELECT count(*) FROM "{kind}"') == [(0,)], kind
        refused = query("SELECT table_name FROM ingest_file WHERE error LIKE '%the table refused a row: %'")
        assert {name for (name,) in refused} == set(kinds)
    finally:
        if kinds is BY_A_POLICY:
            query("DROP OWNED BY guest; DROP ROLE guest")


NO_TABLE = "undefined table (SQLSTATE 42P01)"
TRIGGERED = {
    "INSERT INTO missing VALUES (NEW.n);": 'function audit(): relation "missing" does not exist (SQLSTATE 42P01)',
    "PERFORM lacking(NEW.n);": "in the function audit(): function lacking(integer) does not exist (SQLSTATE 42883)",
    "EXECUTE 'INSERT INTO ' || NEW.v || ' VALUES (1)';": f"in the function audit(): {NO_TABLE}",
    "NEW.v := query_to_xml('SELECT * FROM ' || NEW.v, true, true, '')::text;": f"in the function audit(): {NO_TABLE}",
    "PERFORM query_to_xml('SELECT * FROM ' || NEW.v, true, true, '');": f"refused a row: {NO_TABLE}",
}


@pytest.mark.parametrize("body", TRIGGERED)
def test_a_trigger_that_cannot_do_its_work_is_told_by_its_function_and_what_that_names(
    tmp_path: Path, postgresql: str, query: Any, body: str
) -> None:
    quoted = f"BEGIN {body} RETURN NEW; END".replace("'", "''")
    query(f"CREATE TABLE q (n int, v text); CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS '{quoted}'")
    query("CREATE TRIGGER audit BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION audit()")
    report = load(tools.write_csv(tmp_path / "q.csv", ["n", "v"], [[1, "not_shown"]]), postgresql)
    assert tools.told(report) == {"q.csv": ("refused", "constraint")}
    assert TRIGGERED[body] in report.files[0].sentence
    assert "shown" not in report.files[0].sentence


def test_what_the_driver_logs_of_a_refused_row_is_not_told(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE TABLE q (n int PRIMARY KEY, v text)")
    for first in range(0, 20_000, 5_000):  # of some, for it is said only now and then
        rows = [(first if i == 2_500 else first + i, "x" * 50) for i in range(5_000)]
        tools.write_csv(tmp_path / "in" / f"q_{first}.csv", ["n", "v"], rows)
    done = tools.ingest("load", "in", "--to", postgresql, "--bulk", "off", "-q", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("error: refused: ") == 4
    assert "psycopg" not in done.stderr


@pytest.mark.parametrize("mode", [(), ("--mode", "upsert", "--key", "n"), ("--mode", "replace")])
def test_a_right_that_is_missing_is_no_fault_of_a_file(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, mode: tuple[str, ...]
) -> None:
    query("CREATE TABLE q (n int PRIMARY KEY, v regclass)")
    query("CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT ALL ON SCHEMA public TO guest; GRANT SELECT ON q TO guest")
    url = postgresql.replace(f"{servers.USER}:{servers.PASSWORD}", "guest:guest")
    path = tools.write_csv(tmp_path / "q.csv", ["n"], [[1]])
    try:
        done = tools.ingest("load", path, "--to", url, "--bulk", bulk, *mode, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "permission denied for table q (SQLSTATE 42501)" in done.stderr
        assert "GRANT this user that right" in done.stderr
    finally:
        query("DROP OWNED BY guest; DROP ROLE guest")


def test_a_domain_of_a_domain_keeps_what_its_type_keeps(tmp_path: Path, postgresql: str, query: Any, bulk: str) -> None:
    query(
        "CREATE DOMAIN a AS numeric(5,2); CREATE DOMAIN n AS a; CREATE DOMAIN b AS timestamp(0); CREATE DOMAIN t AS b"
    )
    query("CREATE DOMAIN c AS int NOT NULL; CREATE DOMAIN r AS c; CREATE TABLE q (n n, t t, r r)")
    rows = [("1.25", "2024-01-01 00:00:00", "1"), ("1.255", "", "1"), ("", "2024-01-01 00:00:00.7", "1"), ("", "", "")]
    path = tools.write_csv(tmp_path / "q.csv", ["n", "t", "r"], rows)
    report = load(path, postgresql, bulk=bulk, max_rejects=Budget(count=3))
    assert (report.rows, report.rejected) == (1, 3), report.files
    assert query("SELECT line, reason FROM ingest_reject ORDER BY line") == [
        (3, "lossy"),
        (4, "lossy"),
        (5, "not_null"),
    ]


def test_a_partition_that_is_elsewhere_is_refused(tmp_path: Path, postgresql: str, query: Any) -> None:
    if not query("SELECT 1 FROM pg_available_extensions WHERE name = 'file_fdw'"):
        pytest.skip("no file_fdw on this machine")
    query("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    query("CREATE TABLE q (n int) PARTITION BY LIST (n); CREATE TABLE r PARTITION OF q DEFAULT PARTITION BY LIST (n)")
    query("CREATE FOREIGN TABLE f PARTITION OF r FOR VALUES IN (1) SERVER files OPTIONS (filename '/dev/null')")
    report = load(tools.write_csv(tmp_path / "q.csv", ["n"], [[1]]), postgresql)
    assert tools.told(report) == {"q.csv": ("refused", "columns")}
    assert "a foreign table among its partitions" in report.files[0].sentence


def test_rows_that_cannot_be_seen_are_not_taken_for_none(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT ALL ON SCHEMA public TO guest")
    try:
        query("CREATE TABLE q (n int); GRANT ALL ON q TO guest; ALTER TABLE q ENABLE ROW LEVEL SECURITY")
        query("CREATE POLICY p ON q FOR INSERT WITH CHECK (true)")
        url = postgresql.replace(f"{servers.USER}:{servers.PASSWORD}", "guest:guest")
        path = tools.write_csv(tmp_path / "q.csv", ["n"], [[1]])
        assert load(path, url).rows == 1
        again = load(path, url, on_lost="reload")
        assert (again.exit_code, again.rows, again.count("skipped")) == (0, 0, 1)
        report = load(path, url, mode="replace")
        assert tools.told(report) == {"q.csv": ("refused", "constraint")}
        assert "row security may hide" in report.files[0].sentence
        assert query("SELECT count(*) FROM q") == [(1,)]
    finally:
        query("DROP OWNED BY guest; DROP ROLE guest")
