"""Where two rules of reading meet in one file: what one of them leaves out must not hide what another one says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import known, load, query, told

from ingest.model import ColumnType, Told
from ingest.settings import Budget, DeclaredType


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("between", "comment"), [(b'"id","name"', None), (b'# a 5" pipe', "#")], ids=["header", "comment"]
)
def test_what_breaks_a_quote_breaks_it_in_a_bundle_too(
    tmp_path: Path, db: Path, between: bytes, comment: str | None
) -> None:
    data = tmp_path / "data"
    put(data / "t_1.csv", b'"id","name"\n1,"x\n' + between + b'\n2,y"\n3,z\n')
    put(data / "t_2.csv", b'"id","name"\n7,q\n')
    report = load(data, db, told=Told(comment=comment))
    assert {name: state for name, (state, _) in told(report).items()} == {"t_1.csv": "refused", "t_2.csv": "loaded"}
    assert query(db, "SELECT id, name FROM t") == [(7, "q")]


@pytest.mark.parametrize("above", [b"", b"# made in C:\\\n"], ids=["among", "above"])
def test_a_comment_ends_where_its_line_does_also_behind_an_escape(tmp_path: Path, db: Path, above: bytes) -> None:
    path = put(tmp_path / "t.csv", above + b'id,name\n1,"say \\"hi\\""\n# path C:\\temp\\\n2,b\n3,c\n')
    report = load(path, db, told=Told(comment="#"))
    assert (report.rows, report.discarded) == (3, 1 + bool(above))
    assert query(db, "SELECT id, name FROM t ORDER BY id") == [(1, 'say "hi"'), (2, "b"), (3, "c")]


def test_records_below_a_preamble_have_their_numbers_when_the_file_grows(tmp_path: Path, db: Path) -> None:
    path = put(tmp_path / "t.csv", b"# one\n# two\nid,n\n1,10\n2,20\n")
    assert load(path, db, lineage="row").discarded == 2
    path.write_bytes(path.read_bytes() + b"3,30\n")
    assert told(load(path, db, lineage="row", on_change="append-tail")) == {"t.csv": ("loaded", "grown")}
    assert query(db, "SELECT id, _ingest_record FROM t ORDER BY id") == [(1, 0), (2, 1), (3, 2)]


def test_the_first_line_of_two_files_says_nothing_of_their_headers(tmp_path: Path, db: Path) -> None:
    put(tmp_path / "in" / "a.csv", b"sep=,\n17,foo\n3,bar\n")
    put(tmp_path / "in" / "b.csv", b"sep=,\nid,name\n1,5\n2,6\n")
    load(tmp_path / "in", db, table="{stem}")
    assert query(db, "SELECT id, name FROM b ORDER BY id") == [(1, 5), (2, 6)]


def test_comments_between_a_title_and_the_header_are_counted(tmp_path: Path, db: Path) -> None:
    path = put(tmp_path / "t.csv", b"Title of it\n# c1\n\na,b,c\n1,2,3\n4,5,6\n")
    report = load(path, db, told=Told(comment="#"))
    assert (report.rows, report.discarded) == (2, 2)
    assert known(db, path)["committed_records"] == 4


def test_a_repeated_header_of_a_word_for_null_is_one(tmp_path: Path, db: Path) -> None:
    path = put(tmp_path / "t.csv", b"id,NA\n1,x\nid,NA\n2,y\n")
    report = load(path, db, null=("NA",), types="text")
    assert (report.rows, report.discarded) == (2, 1)


def test_a_footer_decides_no_type_of_a_sample(tmp_path: Path, db: Path) -> None:
    rows = b"".join(b"%d,%d\n" % (i, 2 * i) for i in range(20_000))
    path = put(tmp_path / "t.csv", b"id,n\n" + rows + b"\nTotal rows counted\n")
    assert load(path, db, sample=64 * 1024, ragged="pad").rows == 20_000
    assert query(db, "SELECT typeof(id) FROM t LIMIT 1") == [("integer",)]


def test_a_file_is_read_with_one_order_of_day_and_month(tmp_path: Path, db: Path) -> None:
    """What is said of the dates of one run's files is not said of another file's, which grew."""
    first = put(tmp_path / "t_1.csv", b"id,day\n1,31/01/2026\n2,05/06/2026\n")
    load(first, db)
    american = DeclaredType(column="day", type=ColumnType.DATE, spelling="%m/%d/%Y")
    load(put(tmp_path / "t_2.csv", b"id,day\n9,12/31/2026\n"), db, declared=(american,))
    first.write_bytes(first.read_bytes() + b"3,07/08/2026\n")
    assert told(load(first, db, on_change="append-tail")) == {"t_1.csv": ("loaded", "grown")}
    assert query(db, "SELECT id, day FROM t ORDER BY id") == [
        *((1, "2026-01-31"), (2, "2026-06-05"), (3, "2026-08-07"), (9, "2026-12-31"))
    ]


def test_bad_bytes_behind_a_long_delimiter_are_named_each_in_its_record(tmp_path: Path, db: Path) -> None:
    path = put(tmp_path / "t.csv", b"id||n\n1||a\n2||b\xff\n3||c\n4||\xfe\n")
    load(path, db, max_rejects=Budget(count=2))
    found = query(db, "SELECT line, byte_offset, message FROM ingest_reject ORDER BY line")
    assert [(line, byte) for line, byte, _ in found] == [(3, 11), (5, 22)]
    assert ["0xFF" in found[0][2], "0xFE" in found[1][2]] == [True, True]
