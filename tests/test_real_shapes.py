"""Files as they come: packed, with a mark, with every kind of line end and delimiter, and cut off in the middle."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest
from tools import assert_counts_add_up, assert_loaded_once, known, load, orders, query, rejects, stored, told, write_csv

from ingest.settings import Budget

COLUMNS = ("id", "name", "note")
ROWS = [(i, f"näme {i}", f'a "quoted" word,\nand {i}; more\t|' if i % 4 == 0 else "") for i in range(1, 200)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def written(delimiter: str = ",", end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(COLUMNS)
    writer.writerows(ROWS)
    return file.getvalue().encode()


WANTED = Counter((str(i), name, note or None) for i, name, note in ROWS)
PLAIN = written()
MEMBERS = [PLAIN[start : start + 1000] for start in range(0, len(PLAIN), 1000)]
SHAPES = {
    "comma.csv": PLAIN,
    "semicolon.csv": written(";"),
    "tab.tsv": written("\t"),
    "pipe.csv": written("|"),
    "crlf.csv": written(end="\r\n"),
    "cr.csv": written(end="\r"),
    "bom.csv": b"\xef\xbb\xbf" + PLAIN,
    "bom_semicolon_crlf.csv": b"\xef\xbb\xbf" + written(";", "\r\n"),
    "all_quoted.csv": written(quoting=csv.QUOTE_NONNUMERIC),
    "no_end.csv": PLAIN.rstrip(b"\n"),
    "blank_lines.csv": b"\n\n" + PLAIN.replace(b"\n199,", b"\n\n\n199,") + b"\n\n",
    "mixed_ends.csv": PLAIN.replace(b"\n7,", b"\r\n7,").replace(b"\n11,", b"\r\n11,"),
    "packed.csv.gz": gzip.compress(PLAIN),
    "members.csv.gz": b"".join(map(gzip.compress, MEMBERS)),
    "packed_bom.tsv.gz": gzip.compress(b"\xef\xbb\xbf" + written("\t", "\r\n")),
    "UPPER.CSV": PLAIN,
}


@pytest.mark.parametrize("sizes", [{}, {"slice_bytes": 1024, "commit_bytes": 4096}], ids=["whole", "sliced"])
def test_every_way_of_writing_gives_the_same_rows(data: Path, db: Path, sizes: dict[str, int], bulk: str) -> None:
    for name, content in SHAPES.items():
        (data / name).write_bytes(content)
    report = load(data, db, table="{stem}", on_duplicate="load", bulk=bulk, **sizes)
    assert report.exit_code == 0, [(o.display, o.sentence) for o in report.files if o.state != "loaded"]
    for name in SHAPES:
        table = name.split(".")[0]
        assert stored(db, table, COLUMNS) == WANTED, name
        assert {row[1] for row in query(db, f'PRAGMA table_info("{table}")')} == {*COLUMNS, "_ingest_file_id"}
        assert known(db, data / name)["committed_records"] == len(ROWS)
    assert_counts_add_up(db)
    assert load(data, db, table="{stem}", on_duplicate="load").rows == 0


def test_files_written_in_different_ways_share_a_table(data: Path, db: Path) -> None:
    (data / "t_1.csv").write_bytes(b"\xef\xbb\xbfid;name\r\n1;a\r\n")
    (data / "t_2.csv").write_bytes(b"name,id\nb,2\n")
    (data / "t_3.csv.gz").write_bytes(gzip.compress(b"id\tname\n3\tc\n"))
    (data / "t_4.csv").write_bytes(b"id|name\r4|d\r")
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT id, name FROM t ORDER BY id") == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


PACKED = gzip.compress(PLAIN * 20, mtime=0)
DAMAGE = {
    "truncated": PACKED[: len(PACKED) // 2],
    "without_its_end": PACKED[:-8],
    "wrong_checksum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "garbage_after": PACKED + b"garbage at the end",
    "not_gzip": PLAIN,
    "half_a_header": PACKED[:6],
}


def test_a_damaged_gzip_is_refused_and_nothing_of_it_stays(data: Path, db: Path) -> None:
    """It may show at the very end, when rows are committed already: they are taken back."""
    for name, content in DAMAGE.items():
        (data / f"{name}.csv.gz").write_bytes(content)
    good = orders(data / "orders.csv", 10)
    # The table is there: no look at the values finds the damage first.
    for name in DAMAGE:
        query(db, f'CREATE TABLE "{name}" (id INTEGER, name TEXT, note TEXT, _ingest_file_id INTEGER)')
    report = load(data, db, slice_bytes=4096, commit_bytes=8192, table="{stem}")
    ended = told(report)
    assert ended.pop("orders.csv")[0] == "loaded"
    assert {code for _, code in ended.values()} == {"corrupt"}
    assert {state for state, _ in ended.values()} == {"refused"}
    for name in DAMAGE:
        assert query(db, f'SELECT count(*) FROM "{name}"') == [(0,)], name
        assert known(db, data / f"{name}.csv.gz")["committed_bytes"] == 0
    assert report.exit_code == 4
    assert_loaded_once(db, "orders", [good])
    for name in DAMAGE:
        (data / f"{name}.csv.gz").write_bytes(gzip.compress(PLAIN))
    assert load(data, db, table="{stem}", on_duplicate="load").exit_code == 0
    assert stored(db, "truncated", COLUMNS) == WANTED


NO_TABLES = {
    "utf16.csv": ("id,n\n1,ä\n".encode("utf-16")[:-1], "encoding"),
    "latin1_header.csv": ("id,größe\n1,2\n".encode("latin-1"), "encoding"),
    "binary.csv": (bytes(range(256)) * 20, "encoding"),
    "numbers.csv": (b"1,2\n3,4\n", "no_header"),
    "nameless.csv": (b",,\n1,2,3\n", "no_header"),
    "control.csv": (b"id,a\x07b\n1,2\n", "header"),
    "lineage.csv": (b"id,_ingest_file_id\n1,2\n", "header"),
}


def test_what_cannot_be_read_is_an_error_of_that_file_and_never_a_wrong_table(data: Path, db: Path) -> None:
    for name, (content, _) in NO_TABLES.items():
        (data / name).write_bytes(content)
    good = orders(data / "orders.csv", 10)
    report = load(data, db)
    assert told(report) == {name: ("refused", code) for name, (_, code) in NO_TABLES.items()} | {
        "orders.csv": ("loaded", "new")
    }
    assert report.exit_code == 4
    assert all(o.hint for o in report.files if o.state == "refused")
    tables = {name for (name,) in query(db, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {t for t in tables if not t.startswith(("ingest_", "sqlite_"))} == {"orders"}
    assert_loaded_once(db, "orders", [good])


def test_an_unclosed_quote_swallows_nothing(data: Path, db: Path, bulk: str) -> None:
    lines = [f"{i},word {i}" for i in range(500)]
    lines[250] = '250,"open'
    path = data / "t.csv"
    path.write_text("id,name\n" + "\n".join(lines) + "\n")
    sizes = {"slice_bytes": 1024, "commit_bytes": 2048, "bulk": bulk}
    assert told(load(data, db, **sizes)) == {"t.csv": ("refused", "over_budget")}
    assert stored(db, "t", ["id", "name"]) == Counter()
    report = load(data, db, max_rejects=Budget(count=1), **sizes)
    assert report.exit_code == 3
    assert [(r[0], r[2], r[4], r[5], r[6]) for r in rejects(db)] == [(252, 250, "broken_quote", '250,"open', 1)]
    assert query(db, "SELECT count(*), count(DISTINCT id) FROM t") == [(499, 499)]
    assert_counts_add_up(db)


def test_empty_rows_are_records_like_others_and_a_stray_header_is_left_out(data: Path, db: Path) -> None:
    """Empty rows (`,,`) are rows; a header that is like the second one but for a blank is a row of text."""
    (data / "t.csv").write_bytes(b"id,name\n1,a\n,\nid,name\n2,b\n")
    assert load(data, db).exit_code == 0
    assert query(db, "SELECT id, name FROM t") == [(1, "a"), (None, None), (2, "b")]
    assert_counts_add_up(db)
    (data / "t.csv").write_bytes(b"id,name\n1,a\nid, name\n2,b\n")
    typed = db.with_name("typed.db")
    query(typed, "CREATE TABLE t (id INTEGER, name TEXT)")
    assert load(data, typed, max_rejects=Budget(count=1)).exit_code == 3
    assert query(typed, "SELECT id, name FROM t") == [(1, "a"), (2, "b")]
    assert [(r[0], r[3]) for r in rejects(typed)] == [(3, "id")]


def test_short_and_long_rows_are_never_padded_or_cut(data: Path, db: Path) -> None:
    (data / "t.csv").write_bytes(b"a,b,c\n1,2,3\n1,2\n1,2,3,4\n1,2,\n")
    report = load(data, db, max_rejects=Budget(percent=50))
    assert report.exit_code == 3
    assert query(db, "SELECT a, b, c FROM t") == [(1, 2, 3), (1, 2, None)]
    assert [(r[0], r[4], r[5]) for r in rejects(db)] == [(3, "ragged", "1,2"), (4, "ragged", "1,2,3,4")]


def test_one_column_and_very_long_fields_are_read(data: Path, db: Path) -> None:
    long = "x" * 3_000_000
    write_csv(data / "one.csv", ["word"], [["a"], ["b,c"], [long]])
    write_csv(data / "two.csv", ["id", "word"], [[1, long + "\n,"], [2, "b"]])
    assert load(data, db, slice_bytes=64 * 1024).exit_code == 0
    assert query(db, "SELECT length(word) FROM one ORDER BY 1") == [(1,), (3,), (3_000_000,)]
    assert query(db, "SELECT id, length(word) FROM two ORDER BY id") == [(1, 3_000_002), (2, 1)]
