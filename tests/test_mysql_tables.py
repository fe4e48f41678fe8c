"""What belongs to a table of MariaDB beside its columns: partitions that do not take every row, triggers that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import tools
from test_mysql import load, query
from test_mysql_modes import ONE

BOUNDS = {
    "list": "PARTITION BY LIST (id) (PARTITION a VALUES IN (1, 2), PARTITION b VALUES IN (70))",
    "range": "PARTITION BY RANGE COLUMNS (id, v) (PARTITION a VALUES LESS THAN (100, 'x\ny'))",
}


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_record_that_no_partition_takes_is_a_reject_where_a_table_is_replaced(
    tmp_path: Path, mariadb: str, kind: str
) -> None:
    query(mariadb, f"CREATE TABLE own (id INT, v VARCHAR(9)) {BOUNDS[kind]}", "INSERT INTO own VALUES (2, 'old')")
    file = tools.write_csv(tmp_path / "own.csv", ["id", "v"], [[1, "a"], [100, "z"], [70, "b"]])
    report = load(file, mariadb, mode="replace", max_rejects=ONE)
    assert (report.exit_code, report.rows, report.rejected) == (3, 2, 1), (report.files, report.warnings)
    found = query(mariadb, "SELECT line, message FROM ingest_reject")
    assert found == [(3, "the table refuses it: no partition takes it")]
    assert query(mariadb, "SELECT * FROM own ORDER BY id") == [(1, "a"), (70, "b")]


def test_a_trigger_that_lacks_something_is_told_by_that_and_refuses_its_file_alone(
    tmp_path: Path, mariadb: str, bulk: str
) -> None:
    query(mariadb, "CREATE TABLE own (id INT)", "CREATE TABLE missing (id INT)")
    query(mariadb, "CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW INSERT INTO missing VALUES (NEW.id)")
    query(mariadb, "DROP TABLE missing")
    tools.write_csv(tmp_path / "in" / "own.csv", ["id"], [[1]])
    tools.write_csv(tmp_path / "in" / "other.csv", ["id"], [[1]])
    report = load(tmp_path / "in", mariadb, bulk=bulk)
    assert tools.told(report) == {"own.csv": ("refused", "constraint"), "other.csv": ("loaded", "new")}
    assert ".missing' doesn't exist, which a trigger needs." in " ".join(one.sentence for one in report.files)
