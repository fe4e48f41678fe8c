"""`--mode replace` on PostgreSQL: what hangs on the rows that go, and rows that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tools
from test_postgres_modes import ONE, load
from tools import write_csv


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "RESTRICT"])
def test_what_follows_from_the_end_of_old_rows_is_not_done_to_the_new_ones(
    tmp_path: Path, postgresql: str, query: Any, bulk: str, action: str
) -> None:
    query(f"CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER REFERENCES t ON DELETE {action})")
    query("INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2)")
    path = write_csv(tmp_path / "t.csv", ["id", "up"], [[1, ""], [2, 1]])
    assert load(path, postgresql, mode="replace", bulk=bulk).exit_code == 0
    assert query("SELECT up FROM t ORDER BY id") == [(None,), (1,)]


OTHERS = {
    "of another schema": "CREATE SCHEMA far; CREATE TABLE far.child (id INTEGER REFERENCES t ON DELETE SET NULL)",
    "that inherits": "CREATE TABLE child () INHERITS (t)",
    "of a partition's": "CREATE TABLE child (id INTEGER REFERENCES t ON DELETE CASCADE) PARTITION BY LIST (id);"
    "CREATE TABLE one PARTITION OF child FOR VALUES IN (1)",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_rows_of_other_tables_are_not_deleted_along(tmp_path: Path, postgresql: str, query: Any, kind: str) -> None:
    for statement in ["CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)", *OTHERS[kind].split(";")]:
        query(statement)
    child = "far.child" if "far" in OTHERS[kind] else "child"
    query(f"INSERT INTO {child} VALUES (1)")
    report = load(write_csv(tmp_path / "t.csv", ["id"], [[1]]), postgresql, mode="replace")
    assert tools.told(report) == {"t.csv": ("refused", "constraint")}
    assert child in report.files[0].sentence
    assert "wait in" not in report.warnings[0]
    assert query(f"SELECT id FROM {child}") == [(1,)]


def test_a_table_of_the_same_name_in_another_schema_is_another_one(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE SCHEMA far")
    query("CREATE TABLE far.t (id INTEGER PRIMARY KEY)")
    query("CREATE TABLE child (id INTEGER REFERENCES far.t ON DELETE CASCADE)")
    query("CREATE TABLE t (id INTEGER) PARTITION BY LIST (id)")
    query("CREATE TABLE one PARTITION OF t DEFAULT")
    report = load(write_csv(tmp_path / "t.csv", ["id"], [[7]]), postgresql, mode="replace")
    assert (report.exit_code, query("SELECT id FROM t")) == (0, [(7,)])


def test_a_table_whose_old_rows_stay_is_as_it_was(tmp_path: Path, postgresql: str, query: Any) -> None:
    query("CREATE TABLE t (id INTEGER)")
    query("INSERT INTO t VALUES (1)")
    query("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    query("CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()")
    report = load(write_csv(tmp_path / "t.csv", ["id"], [[2], [3]]), postgresql, mode="replace")
    assert report.exit_code == 4
    assert "t would have 3 rows instead of 2" in report.warnings[0]
    assert query("SELECT id FROM t") == [(1,)]


def test_rows_that_must_not_go_for_a_moment_are_told_before_anything_is_loaded(
    tmp_path: Path, postgresql: str, query: Any
) -> None:
    query('CREATE TABLE t (a INTEGER, "b %" INTEGER, PRIMARY KEY (a, "b %")); INSERT INTO t VALUES (1, 2)')
    query("CREATE SCHEMA far; CREATE TABLE far.child (y INTEGER, x INTEGER)")
    query('ALTER TABLE far.child ADD CONSTRAINT "%up" FOREIGN KEY (x, y) REFERENCES t ON DELETE RESTRICT')
    path = write_csv(tmp_path / "t.csv", ["a", "b %"], [[1, 2], [3, 4]])
    assert load(path, postgresql, mode="replace").exit_code == 0  # nothing refers to the row
    query("INSERT INTO far.child VALUES (2, 1)")
    assert load(path, postgresql, mode="replace").exit_code == 0  # nothing is to be done
    write_csv(path, ["a", "b %"], [[1, 2], [5, 6]])
    report = load(path, postgresql, mode="replace")
    assert tools.told(report) == {"t.csv": ("refused", "constraint")}
    assert "rows of far.child refer to them ON DELETE RESTRICT" in report.files[0].sentence
    query(report.files[0].hint.partition(": ")[2])
    assert load(path, postgresql, mode="replace").exit_code == 0
    assert query("SELECT a FROM t ORDER BY a") == [(1,), (5,)]


PARTITIONS = {
    "a partition": "CREATE TABLE whole (id INTEGER) PARTITION BY RANGE (id);"
    "CREATE TABLE t PARTITION OF whole FOR VALUES FROM (0) TO (100)",
    "partitioned": "CREATE TABLE t (id INTEGER) PARTITION BY RANGE (id); CREATE TABLE b PARTITION OF t FOR VALUES FROM"
    " (50) TO (100) PARTITION BY LIST (id); CREATE TABLE c PARTITION OF b FOR VALUES IN (70);"
    "CREATE TABLE a PARTITION OF t FOR VALUES FROM (0) TO (50)",
}


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_record_that_no_partition_takes_is_a_reject_with_its_place(
    tmp_path: Path, postgresql: str, query: Any, kind: str
) -> None:
    query(PARTITIONS[kind])
    path = write_csv(tmp_path / "t.csv", ["id"], [[1], [100], [70]])
    report = load(path, postgresql, mode="replace", max_rejects=ONE)
    assert (report.exit_code, report.rows, report.rejected) == (3, 2, 1), (report.files, report.warnings)
    assert query("SELECT line, message FROM ingest_reject") == [
        (3, "the table refuses it: CHECK constraint bounds_of_its_partition")
    ]
    assert query("SELECT id FROM t ORDER BY id") == [(1,), (70,)]


RULES = {
    ("INSERT", "DO INSTEAD INSERT INTO other VALUES (NEW.id)"): ("append", "upsert", "replace"),
    ("INSERT", "WHERE NEW.id > 1 DO INSTEAD NOTHING"): ("append",),
    ("INSERT", "DO ALSO INSERT INTO other VALUES (NEW.id)"): ("insert-ignore", "replace"),
    ("UPDATE", "DO ALSO INSERT INTO other VALUES (OLD.id)"): ("upsert",),
    ("DELETE", "DO INSTEAD NOTHING"): ("replace",),
}


@pytest.mark.parametrize(("event", "action"), RULES)
def test_a_rule_that_is_in_the_way_is_told_before_anything_is_loaded(
    tmp_path: Path, postgresql: str, query: Any, event: str, action: str
) -> None:
    query('CREATE TABLE "T" (id INTEGER PRIMARY KEY); INSERT INTO "T" VALUES (7); CREATE TABLE other (id INTEGER)')
    where, _, what = action.rpartition("DO ")
    query(f'CREATE RULE "a %" AS ON {event} TO "T" {where} DO {what}')
    path = write_csv(tmp_path / "T.csv", ["id"], [[1], [2]])
    hint = ""
    for mode in ("append", "upsert", "insert-ignore", "replace"):
        key = ("id",) if mode in ("upsert", "insert-ignore") else ()
        if mode in RULES[event, action]:
            report = load(path, postgresql, mode=mode, key=key)
            assert tools.told(report) == {"T.csv": ("refused", "constraint")}, mode
            assert f"the table T has the rule 'a %' ON {event} DO" in report.files[0].sentence
            hint = report.files[0].hint.partition(": ")[2]
    assert query('SELECT id FROM "T" UNION ALL SELECT id FROM other') == [(7,)]
    query(hint)
    assert load(path, postgresql).exit_code == 0


KEEPING = {
    "rule": "CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING",
    "trigger": "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    "CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
}


@pytest.mark.parametrize("kind", KEEPING)
def test_a_file_whose_old_rows_stay_is_not_loaded_again_beside_them(
    tmp_path: Path, postgresql: str, query: Any, kind: str
) -> None:
    path = write_csv(tmp_path / "t.csv", ["id"], [[1], [2]])
    assert load(path, postgresql).rows == 2
    query(KEEPING[kind])
    write_csv(path, ["id"], [[1], [3], [4]])
    other = write_csv(tmp_path / "u.csv", ["id"], [[1]])
    report = load([path, other], postgresql, on_change="reload")  # type: ignore[arg-type]
    assert tools.told(report) == {"t.csv": ("refused", "constraint"), "u.csv": ("loaded", "new")}
    assert "a trigger or a rule of the table keeps them" in report.files[0].sentence + report.files[1].sentence
    assert query("SELECT id FROM t ORDER BY id") == [(1,), (2,)]
