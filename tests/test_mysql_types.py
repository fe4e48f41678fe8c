"""Types that only MySQL and MariaDB have: both ways in store what a client would store."""

from __future__ import annotations

from pathlib import Path

import pytest
import tools
from test_mysql import load, query

from ingest.settings import Budget


@pytest.mark.parametrize("native", ["BIGINT UNSIGNED", "BIT(64)"])
@pytest.mark.parametrize("large", [2**64 - 1, 2**63 - 1])
def test_numbers_of_64_bits_without_a_sign_are_stored(
    tmp_path: Path, mariadb: str, bulk: str, native: str, large: int
) -> None:
    query(mariadb, f"CREATE TABLE own (u {native} PRIMARY KEY, w TEXT)")
    rows: list[tuple[object, str]] = [(large, "a"), ("+7", "b"), ("-0", "c"), (-1, "d"), (2**64, "e"), ("x", "f")]
    file = tools.write_csv(tmp_path / "in" / "own_1.csv", ["u", "w"], rows)
    report = load(file, mariadb, bulk=bulk, max_rejects=Budget(count=3))
    assert (report.rows, report.rejected) == (3, 3), report.files
    rejected = query(mariadb, "SELECT line, reason, message FROM ingest_reject ORDER BY line")
    assert [(line, reason) for line, reason, _ in rejected] == [(n, "bad_integer") for n in (5, 6, 7)]
    assert [message.split(" and ")[1] for *_, message in rejected] == [
        "the number is negative",
        "the number does not fit into 64 bits",
        "the value is no whole number",
    ]
    file = tools.write_csv(tmp_path / "in" / "own_2.csv", ["u", "w"], [(large, "new"), (2**63, "more")])
    assert load(file, mariadb, bulk=bulk, mode="upsert", key=("u",)).exit_code == 0
    found = sorted([(0, "c"), (7, "b"), (large, "new"), (2**63, "more")])
    assert query(mariadb, "SELECT u + 0, w FROM own ORDER BY u") == found


def test_years_are_those_that_a_client_would_store(tmp_path: Path, mariadb: str, bulk: str) -> None:
    years = ["0000", "00", "0", "000", "24", "0024", "7", "99", "1901", "2155"]
    query(mariadb, "CREATE TABLE own (n INT, y YEAR)", "CREATE TABLE typed (n INT, y YEAR)")
    query(mariadb, *(f"INSERT INTO typed VALUES ({n}, '{year}')" for n, year in enumerate(years)))
    file = tools.write_csv(tmp_path / "in" / "own.csv", ["n", "y"], [*enumerate(years), (len(years), "")])
    assert load(file, mariadb, bulk=bulk).exit_code == 0
    found = query(mariadb, "SELECT * FROM own ORDER BY n")
    assert found.pop() == (len(years), None)
    assert found == query(mariadb, "SELECT * FROM typed ORDER BY n")
    assert (found[0][1], found[1][1]) == (0, 2000)
