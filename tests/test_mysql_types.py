"""Types that only MySQL and MariaDB have: both ways in store what a client would store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tools
from test_mysql import load, query

from ingest.settings import Budget, parse_type


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


WRITTEN: dict[str, list[str]] = {
    "i": ["+5", "-0", "007", "-0012", "+" + "0" * 300 + "9", "", "-9223372036854775808", "9223372036854775807"],
    "s": ["+5", "-0", "007", "12", "+0065535", "", "0", "65535"],
    "d": [".5", "5.", "-.5", "+00.10", "-0", "", "1234567890.12345", "0.00000000000001"],
    "e": ["0.3", "1e5", "-1E-5", "+.5e+3", "1." + "0" * 400 + "1", "", "9007199254740993", "2.2250738585072011e-308"],
    "f": ["0.1", "16777217", "-0.0", "3.4028234e38", "1e-45", "", "007.50", "5."],
}


@pytest.mark.parametrize("strict", [False, True], ids=["table of the user", "table of ours"])
def test_numbers_however_they_are_written_are_stored_as_what_they_are(
    tmp_path: Path, mariadb: str, bulk: str, strict: bool
) -> None:
    names = [name for name in WRITTEN if not strict or name not in "sf"]
    if not strict:
        query(mariadb, "CREATE TABLE own (k INT, i BIGINT, s SMALLINT UNSIGNED, d DOUBLE, e DOUBLE, f FLOAT)")
    rows = list(enumerate(zip(*(WRITTEN[name] for name in names), strict=True)))
    file = tools.write_csv(tmp_path / "in" / "own.csv", ["k", *names], [(k, *values) for k, values in rows])
    declared = (parse_type("i=bigint"), parse_type("d=double"), parse_type("e=double")) if strict else ()
    report = load(file, mariadb, bulk=bulk, declared=declared)
    assert (report.exit_code, report.rows) == (0, len(rows)), report.files
    for name in names:
        number = int if name in "is" else float
        wanted = [number(text) if text else None for text in WRITTEN[name]]
        shown = f"CAST({name} AS DOUBLE)" if name == "f" else name  # a FLOAT is shown with six digits
        if name == "f":
            wanted = [None if value is None else float(np.float32(value)) for value in wanted]
        found = [value for (value,) in query(mariadb, f"SELECT {shown} FROM own ORDER BY k")]
        assert found == wanted, name


NARROW = {"v": "TIME", "w": "TIME(3)", "d": "DOUBLE(5,2)", "f": "FLOAT(5,2)", "e": "DOUBLE(25,23)", "g": "DOUBLE(20,2)"}
KEPT = {
    "v": ["10:00:00", "-100:00:00.0", "10.000", "101112", "1 10:30"],
    "w": ["10:00:00.7", "10:00:00.1230", "-10.125", "1 10:30.5"],
    "d": ["1.24", "1.2400", "-999.99", "124e-2", "0.29", "1e2"],
    "f": ["1.24", "-999.99", "0.1", "0.070"],
    "e": ["0.1", "-1.5", "1e-23", "100"],
    "g": ["90071992547409.92", "123456789012345.67", "-1e17", "0.07"],
}
CUT = {
    "v": ["10:00:00.7", "10.7", "-0.05", "1 10:30.5", "1000.001", "10:00:00.0000001"],
    "w": ["10:00:00.1239", "10.1239", "12345.0001"],
    "d": ["1.239", "-0.001", "1e-20", "999.994"],
    "f": ["1.239", "0.125"],
    "e": ["1.5e-23"],
    "g": ["12345678.125"],
}
LARGE = {"d": ["999.995", "1000", "-1e300"], "f": ["1000"], "e": ["101"], "g": ["1e19"]}


def test_times_and_numbers_are_kept_as_they_are_or_are_rejects(tmp_path: Path, mariadb: str, bulk: str) -> None:
    columns = ", ".join(f"{name} {native}" for name, native in NARROW.items())
    query(mariadb, f"CREATE TABLE own (n INT, {columns})", f"CREATE TABLE typed (n INT, {columns})")
    codes = ((KEPT, None), (CUT, "lossy"), (LARGE, "bad_number"))
    cells = [(name, cell, code) for cases, code in codes for name, items in cases.items() for cell in items]
    rows = [(n, *(cell if name == one else "" for one in NARROW)) for n, (name, cell, _) in enumerate(cells)]
    file = tools.write_csv(tmp_path / "in" / "own.csv", ["n", *NARROW], rows)
    report = load(file, mariadb, bulk=bulk, max_rejects=Budget(count=len(cells)))
    assert (report.exit_code, report.rows) == (3, sum(map(len, KEPT.values()))), report.files
    rejected = query(mariadb, "SELECT line, column_name, reason FROM ingest_reject ORDER BY line")
    assert rejected == [(n + 2, name, code) for n, (name, _, code) in enumerate(cells) if code]
    kept = [(n, name, cell) for n, (name, cell, code) in enumerate(cells) if not code]
    query(mariadb, *(f"INSERT INTO typed (n, {name}) VALUES ({n}, '{cell}')" for n, name, cell in kept))
    assert query(mariadb, "SELECT * FROM own ORDER BY n") == query(mariadb, "SELECT * FROM typed ORDER BY n")


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT(5,2)", "DECIMAL(5,2)"])
def test_a_negative_number_for_a_type_without_a_sign_is_a_reject(
    tmp_path: Path, mariadb: str, bulk: str, kind: str
) -> None:
    query(mariadb, f"CREATE TABLE own (v {kind} UNSIGNED)")
    file = tools.write_csv(tmp_path / "own.csv", ["v"], [["1.5"], ["-1.5"], ["-0.00"], ["-0.01"]])
    report = load(file, mariadb, bulk=bulk, max_rejects=Budget(count=2))
    assert (report.exit_code, report.rows) == (3, 2), report.files
    rejected = query(mariadb, "SELECT line, column_name, reason, message FROM ingest_reject ORDER BY line")
    assert [one[:3] for one in rejected] == [(line, "v", "bad_number") for line in (3, 5)]
    assert all(message.endswith("and the number is negative") for *_, message in rejected)
    assert query(mariadb, "SELECT v FROM own ORDER BY v") == [(0,), (1.5,)]


WORDS = {
    "e": ("ENUM('a','B''c','1x','é')", ["a", "A ", "b'C", "1X", "é", "E"], ["1", " 1", "+2 ", "01", "-1", "0"]),
    "d": ("ENUM('2','1')", ["1", "2 "], ["01", "3", "", "x"]),
    "s": ("SET('a','b','7')", ["a", "b,A ", "7", "a,7"], ["3", "0", "+1", "a,", "a,,b", "a,x", "07", " "]),
}


def test_a_number_is_not_taken_for_the_place_of_a_word(tmp_path: Path, mariadb: str, bulk: str) -> None:
    columns = ", ".join(f"{name} {native}" for name, (native, *_) in WORDS.items())
    query(mariadb, f"CREATE TABLE own (n INT, {columns})", f"CREATE TABLE typed (n INT, {columns})")
    cells = [(name, cell, True) for name, (_, kept, _) in WORDS.items() for cell in kept]
    cells += [(name, cell, False) for name, (*_, bad) in WORDS.items() for cell in bad]
    lines = [",".join(f'"{cell}"' if name == one else "" for one in WORDS) for name, cell, _ in cells]
    path = tmp_path / "own.csv"
    path.write_text(
        "".join(f"{line}\n" for line in [f"n,{','.join(WORDS)}", *(f"{n},{line}" for n, line in enumerate(lines))])
    )
    report = load(path, mariadb, bulk=bulk, max_rejects=Budget(count=len(cells)))
    kept = [(n, name, cell) for n, (name, cell, fits) in enumerate(cells) if fits]
    assert (report.exit_code, report.rows) == (3, len(kept)), report.files
    assert query(mariadb, "SELECT line, column_name, reason FROM ingest_reject ORDER BY line") == [
        (n + 2, name, "lossy") for n, (name, _, fits) in enumerate(cells) if not fits
    ]
    for n, name, cell in kept:
        quoted = cell.replace("'", "''")
        query(mariadb, f"INSERT INTO typed (n, {name}) VALUES ({n}, '{quoted}')")
    assert query(mariadb, "SELECT * FROM own ORDER BY n") == query(mariadb, "SELECT * FROM typed ORDER BY n")
