"""MariaDB, as MySQL the same: what a server is set to for people's queries changes nothing of a load."""

from __future__ import annotations

from pathlib import Path

import killing
import pytest
import servers
import tools
from test_mysql import load, query, told_otherwise

from ingest.model import Mode
from ingest.settings import Budget

LIMITS = {
    "sql_select_limit": ("0", "1", "3"),
    "sql_safe_updates": ("1",),
    "max_join_size": ("1",),
    "completion_type": ("2",),
    "max_error_count": ("0",),
    "lc_messages": ("'de_DE'",),
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, values in LIMITS.items() for value in values])
def test_a_server_set_for_people_does_and_says_all_the_same(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server, variable: str, value: str
) -> None:
    query(mariadb, "CREATE TABLE words (id INT, word VARCHAR(9) UNIQUE)")
    for number in range(5):
        tools.write_csv(tmp_path / "in" / f"t_{number}.csv", ["id"], [[number]])
    words = tools.write_csv(tmp_path / "in" / "words.csv", ["id", "word"], [(1, "secret"), (2, "secret"), (3, "w")])
    killing.aged(*words.parent.iterdir())
    with told_otherwise(mariadb_server, variable, value):
        report = load(words.parent, mariadb, max_rejects=Budget(count=1))
        assert (report.exit_code, report.rows, report.rejected) == (3, 7, 1), report.files
        again = load(words.parent, mariadb)
        assert (again.exit_code, again.count("skipped")) == (0, 6), again.files
    [(message,)] = query(mariadb, "SELECT message FROM ingest_reject")
    assert "UNIQUE constraint word" in message
    tools.write_csv(tmp_path / "in" / "t_9.csv", ["id"], [[9]])
    assert load(words.parent, mariadb).rows == 1


def test_a_definition_is_read_alike_whether_or_not_the_server_quotes_names(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    query(mariadb, "CREATE TABLE known (id INT PRIMARY KEY)", "INSERT INTO known VALUES (1)")
    query(mariadb, "CREATE TABLE words (id INT, CONSTRAINT of_id FOREIGN KEY (id) REFERENCES known (id))")
    words = tools.write_csv(tmp_path / "words.csv", ["id"], [[1]])
    with told_otherwise(mariadb_server, "sql_quote_show_create", "0"):
        report = load(words, mariadb, mode=Mode.REPLACE)
    assert (report.exit_code, report.rows) == (0, 1), report.files


def test_the_ledger_is_made_whatever_format_rows_have_by_default(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    path = tools.write_csv(tmp_path / "t.csv", ["id"], [[1]])
    with told_otherwise(mariadb_server, "innodb_default_row_format", "redundant"):
        assert load(path, mariadb).rows == 1
    formats = "SELECT DISTINCT row_format FROM information_schema.tables WHERE table_schema = DATABASE()"
    assert query(mariadb, f"{formats} AND table_name NOT IN ('ingest_version')") == [("Dynamic",)]


@pytest.mark.parametrize("made", [False, True], ids=["", "a ledger is there"])
def test_a_server_that_only_reads_is_not_told_to_lack_a_right(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server, made: bool
) -> None:
    if made:
        assert load(tools.write_csv(tmp_path / "t.csv", ["id"], [[2]]), mariadb).rows == 1
    path = tools.write_csv(tmp_path / "t.csv", ["id"], [[1]])
    with told_otherwise(mariadb_server, "tx_read_only", "1"):
        done = tools.ingest("load", path, "--to", mariadb, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert ("the ledger cannot be made in" in done.stderr) is not made
    assert "set to read only" in done.stderr
    assert "--ledger-schema" not in done.stderr


def test_a_server_that_takes_only_short_statements_is_not_told_to_lack_a_right(
    tmp_path: Path, mariadb: str, mariadb_server: servers.Server
) -> None:
    path = tools.write_csv(tmp_path / "t.csv", ["id"], [[1]])
    with told_otherwise(mariadb_server, "max_allowed_packet", "1024"):
        done = tools.ingest("load", path, "--to", mariadb, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the ledger cannot be made in" in done.stderr
    assert "SET GLOBAL max_allowed_packet = " in " ".join(done.stderr.split())
    assert "--ledger-schema" not in done.stderr
