"""What stands before, among and below the records of a table: what is left out, and what is not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import source_of

from ingest import extras, framing, worker
from ingest.discards import told
from ingest.errors import SourceError, UsageError
from ingest.jobs import PROFILE, Job, Layout, Member, Task
from ingest.model import Codec, Column, ColumnType, Dialect, Discard, Header, Reason, Slice, Source, Told
from ingest.settings import parse_told
from ingest.slicing import slices, whole
from ingest.sniff import Sniffer, sniff

PREAMBLE, COMMENT, HEADER = Discard.PREAMBLE, Discard.COMMENT, Discard.HEADER
TABLE, FOOTER = Discard.TABLE, Discard.FOOTER


def written(tmp_path: Path, data: bytes, name: str = "a.csv") -> Source:
    path = tmp_path / name
    path.write_bytes(data)
    return source_of(path, Codec.GZIP if name.endswith(".gz") else Codec.PLAIN)


def sniffed(tmp_path: Path, data: bytes, **said: str | int | None) -> Header:
    words = dict.fromkeys(("delimiter", "quote", "escape", "encoding", "header", "skip_rows", "comment")) | said
    return sniff(written(tmp_path, data), parse_told(**words))  # type: ignore[arg-type]


# before the header ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "lines"),
    [
        (b"Sales report\n", 1),
        (b"Sales report\n\n", 1),
        (b"Sales report\nby region\r\n\r\n", 2),
        (b"\xef\xbb\xbfSales report\n\n\n", 1),
        (b"Report, of March\n\n", 1),
        (b"sep=,\n", 1),
        (b"\xef\xbb\xbfsep=,\r\nSales report\n\n", 2),
        (b"# made by hand\n", 1),
        (b"# made by hand, 2024, again, or so\n# and, not twice\n", 2),
        (b"#\n\n# made by hand\n\nSales report\n\n", 3),
        (b'"Source","World"\n\n"Updated","2024-01-01"\n\n', 2),
        (b"", 0),
    ],
)
def test_what_stands_above_the_header_is_left_out_and_counted(tmp_path: Path, above: bytes, lines: int) -> None:
    header = sniffed(tmp_path, above + b"id,name,price\n1,x,2.5\n2,y,3.5\n")
    assert header.names == ("id", "name", "price")
    assert header.data_start == len(above) + len(b"id,name,price\n")
    assert header.discards == ({PREAMBLE: lines} if lines else {})
    assert header.rows == ("id,name,price",)
    assert header.has_data


@pytest.mark.parametrize(
    "data",
    [
        b"a\nr1,x\nr2,y\n",  # a header that lacks the name of its first column
        b"a,b\nr1,x,y\nr2,z,w\n",
        b"a,b\nr1,1,y\nr2,2,w\n",
        b"Station,Graz\nHeight,353\n\nid,name,price\n1,x,2\n",  # two lines of one width are a table
        b"Title\n\n1,2,3\n4,5,6\n",  # nothing that could be the header
        b"Title\nid,name,price\n1,x\n",
        b"Title\nid,name,price\n",  # nothing below it
        b"# only,one\n#foo,2\n#bar,3\n",  # tags
        b"#tag,count\n#foo,5\nbar,7\n",
        b"#id,name\n1,x\n",
        b"# a,b\nx,y\nz,w\n",  # perhaps a title, perhaps the header
        b"Title\n" * 21 + b"id,name,price\n1,x,2\n",
    ],
)
def test_what_is_not_sure_stays_as_it_stands(tmp_path: Path, data: bytes) -> None:
    header = sniffed(tmp_path, data)
    assert header.discards == {}
    assert header.data_start == data.index(b"\n") + 1


def test_header_that_the_values_prove_is_found_below_a_line_of_its_own_width(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"# by x, 2024\nid,name\n1,foo\n2,bar\n")
    assert (header.names, header.discards) == (("id", "name"), {PREAMBLE: 1})
    header = sniffed(tmp_path, b"My list\nid,n\nx,1\ny,2\n")
    assert (header.names, header.discards) == (("id", "n"), {PREAMBLE: 1})


def test_years_name_columns_below_a_title(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"Population\n\ncountry,2019,2020,2021\nA,1,2,3\nB,4,5,6\n")
    assert (header.names, header.discards) == (("country", "2019", "2020", "2021"), {PREAMBLE: 1})


def test_excels_line_tells_the_delimiter(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"sep=;\r\na;b\r\n1,5;2\r\n")
    assert (header.dialect.delimiter, header.names) == (";", ("a", "b"))
    assert sniffed(tmp_path, b"sep=x,b\n1,2\n").names == ("sep=x", "b")


def test_skipped_lines_are_those_of_an_editor_and_nothing_more_is_guessed(tmp_path: Path) -> None:
    data = b"Title\n\nid,name,price\n1,x,2\n"
    header = sniffed(tmp_path, data, skip_rows=2)
    assert (header.names, header.discards) == (("id", "name", "price"), {PREAMBLE: 1})
    assert sniffed(tmp_path, data, skip_rows=0).names == ("Title",)
    assert sniffed(tmp_path, b"a\rb\r\nc\nid,n\n1,2\n", skip_rows=3).names == ("id", "n")
    empty = sniffed(tmp_path, data, skip_rows=9)
    assert (empty.names, empty.has_data, empty.discards) == ((), False, {PREAMBLE: 3})
    with pytest.raises(UsageError):
        sniffed(tmp_path, data, skip_rows=-1)


def test_told_comments_are_no_records_wherever_they_stand(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"// x,\n//\nid,name\n// y\n1,2\n", comment="//")
    assert (header.names, header.discards) == (("id", "name"), {PREAMBLE: 2})
    assert header.dialect.comment == "//"
    header = sniffed(tmp_path, b"id,name\n// y\n\n//", comment="//")
    assert (header.has_data, header.discards) == (False, {COMMENT: 2})
    header = sniffed(tmp_path, b"%only\n%comments\n", comment="%")
    assert (header.names, header.has_data, header.discards) == ((), False, {PREAMBLE: 2})
    assert sniffed(tmp_path, b"# x\nid,name\ny,z\n").names == ("id", "name")
    assert sniffed(tmp_path, b"# x\nid,name\ny,z\n", comment="none").names == ("# x",)
    for bad in ("", '"', "a\nb"):
        with pytest.raises(UsageError):
            sniffed(tmp_path, b"a\n", comment=bad)


def test_a_delimiter_that_begins_as_a_told_comment_is_refused_whether_told_or_found(tmp_path: Path) -> None:
    """A record without a first value would be a comment in one way of reading, and a record in another."""
    data = b"id#|#n#|#t\n1#|#2#|#x\n#|#3#|#y\n"
    with pytest.raises(UsageError, match="begins as --comment '#' does"):
        sniffed(tmp_path, data, comment="#", delimiter="#|#")
    with pytest.raises(SourceError, match="begins as --comment '#' does") as caught:
        sniffed(tmp_path, data, comment="#")
    assert caught.value.code == Reason.NO_HEADER
    assert sniffed(tmp_path, data).dialect.delimiter == "#|#"
    assert sniffed(tmp_path, data, comment="##").dialect.delimiter == "#|#"


# header or none ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"1,2.5,-3\n1,2,3\n",
        b"alice,30\nbob,25\n",
        b"5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n",
        b"2024-01-01,x,y\n2024-01-02,z,\n",
        b"alice,1985\nbob,1990\n",
        b"1\n2\n3\n",
        b"true,x\nfalse,y\n",
        b'"39","State-gov","77516"\n"50","Private","83311"\n',
        b"# data of x\n1,a\n2,b\n",
    ],
)
def test_first_record_like_those_below_is_no_header(tmp_path: Path, data: bytes) -> None:
    header = sniffed(tmp_path, data)
    assert header.guessed
    assert header.names == tuple(f"column_{i + 1}" for i in range(len(header.names)))
    assert data[header.data_start :] == data[data.startswith(b"#") and data.index(b"\n") + 1 :]
    assert header.rows == ()
    assert header.has_data


@pytest.mark.parametrize(
    "data",
    [
        b"country,2019,2020\nx,1,2\n",
        b"store,1,2,3,4\nx,5,6,7,8\n",
        b"dose,10,20,30\nx,55,66,77\n",
        b"size,10,50\nx,0.5,0.7\n",
        b"sku,2024-01-01,2024-02-01\nx,5,6\n",
        b"id,7\n1,2\n",
        b"a,b\nx,y\nz,w\n",
        b"t,y\n1,2\n",
        b"no\n1\n",
        b"alice,30\nbob,unknown\n",
        b"alice,30\n",
    ],
)
def test_first_record_that_may_be_a_header_is_one(tmp_path: Path, data: bytes) -> None:
    header = sniffed(tmp_path, data)
    assert not header.guessed
    assert header.names == tuple(data[: data.index(b"\n")].decode().split(","))


@pytest.mark.parametrize(
    "data",
    [
        b"2024-01-01,,TRUE\n",
        b"2019,2020\n5,6\n",
        b"0,1,2\n5.5,x,7.5\n",
        b",,\n1,2,3\n",
        b",0,1\n0,5,6\n1,7,8\n",
        b"7\nid,name,price\n1,x,2\n",  # a record that was cut off
    ],
)
def test_neither_proven_is_refused_with_what_to_type(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        sniffed(tmp_path, data)
    assert caught.value.code == Reason.NO_HEADER
    assert "--header none" in caught.value.hint


def test_what_is_said_of_the_header_is_believed(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"1,2\n3,4\n", header="1")
    assert (header.names, header.data_start, header.guessed) == (("1", "2"), 4, False)
    assert header.rows == ()  # a record 1,2 may be one of the data
    header = sniffed(tmp_path, b"id,name\nx\n1,2\n", header="none")
    assert (header.names, header.data_start, header.guessed) == (("column_1", "column_2"), 0, False)
    with pytest.raises(SourceError) as caught:
        sniffed(tmp_path, b"a,b\n", header="3")
    assert "1 of the 3 rows" in caught.value.message


def test_rows_of_a_header_are_joined_and_groups_filled_to_the_right(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b",2019,,2020,\nid,jan,feb,jan,feb\n1,2,3,4,5\n", header="2")
    assert header.names == ("id", "2019 jan", "2019 feb", "2020 jan", "2020 feb")
    assert header.rows == (",2019,,2020,", "id,jan,feb,jan,feb")
    assert header.data_start == 32
    assert framing.joined([["A", "", "B", ""], ["x", "", "", "y"], ["1", "2", "3", "4"]]) == (
        "A x 1",
        "A x 2",
        "B 3",  # the group x ends where A does
        "B y 4",
    )
    assert framing.joined([["id", "n"], ["id", ""], ["", "kg", "extra"]]) == ("id", "n kg", "n extra")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b",2019,,2020,\nid,jan,feb,jan,feb\n1,2,3,4,5\n", ("id", "2019 jan", "2019 feb", "2020 jan", "2020 feb")),
        (
            b"Item,,Sales,\nno,name,north,south\n1,a,2,3\n2,b,4,5\n",
            ("Item no", "Item name", "Sales north", "Sales south"),
        ),
        (b"id,,note\n1,x,y\n2,z,w\n", ("id", "", "note")),
        (b"a,,b,\nx,y,z,w\np,q,r,s\n", ("a", "", "b", "")),  # texts below show nothing
        (b"a,7,b,\nid,n,m,o\n1,2,3,4\n", ("a", "7", "b", "")),
    ],
)
def test_a_row_of_groups_above_the_header_is_a_part_of_it(tmp_path: Path, data: bytes, names: tuple[str, ...]) -> None:
    header = sniffed(tmp_path, data)
    assert header.names == names
    again = Sniffer()
    assert [again.header(written(tmp_path, data, name)).names for name in ("b.csv", "c.csv")] == [names, names]


def test_sniffer_does_not_take_the_title_of_a_table_for_the_header_it_saw(tmp_path: Path) -> None:
    sniffer = Sniffer()
    assert sniffer.header(written(tmp_path, b"list\nfoo\nbar\n")).names == ("list",)
    second = written(tmp_path, b"list\na,b,c\n1,2,3\n", "b.csv")
    assert sniffer.header(second) == sniff(second)
    assert sniffer.header(second).names == ("a", "b", "c")
    assert sniffer.header(written(tmp_path, b"x,30\ny,z\n", "c.csv")).names == ("x", "30")
    assert sniffer.header(written(tmp_path, b"x,30\ny,25\n", "d.csv")).guessed


# below the table -----------------------------------------------------------------------------------------------------

THREE = Header(dialect=Dialect(), names=("id", "name", "price"), data_start=0)


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        (b"\nTotal: 5\n", {FOOTER: 1}),
        (b"\n\n(5 rows)\n\n", {FOOTER: 1}),
        (b"\r\nTotal: 5\r\nSource: me\r\n\r\nthe end\r\n", {FOOTER: 3}),
        (b'\n"Source: World, 2020"\n', {FOOTER: 1}),
        (b"\nday,temperature\n2024-01-01,5\n2024-01-02,6\n", {TABLE: 3}),
        (b"\nWeather\n\nday,temperature\n2024-01-01,5\n\nTotal: 1\n", {TABLE: 2, FOOTER: 2}),
    ],
)
def test_what_is_surely_below_a_table_is_found(below: bytes, expected: dict[Discard, int]) -> None:
    data = b"1,x,2\n2,y,3\n"
    found = extras.tail(data + below, THREE)
    assert found is not None
    assert (found.start, dict(found.discards)) == (len(data), expected)
    assert found.lines == below.count(b"\n")


@pytest.mark.parametrize(
    "below",
    [
        b"",
        b"\n\n",
        b"Total: 5\n",  # no blank line
        b"\nTotal: 5",  # a record that was cut off?
        b"\n5\n",
        b"\n2024-01-01\n",
        b"\n3,z,4\n",
        b"\nTotal,5\n",
        b"\nid,day\n1,2024-01-01\n",  # it has a column of the table
        b"\n1,2\n3,4\n",  # no names
        b"\nday,day\n1,2\n",
        b"\nday,temperature\n1\n",
        b"\nday,temperature\n1,2\n3,z,4\n",
        b'\nTotal: "5"\n',
        b'\nTotal"\n',
        b'"4,"x\n\nTotal: 5"\n',
    ],
)
def test_what_is_unsure_below_a_table_is_left_to_the_reader(below: bytes) -> None:
    assert extras.tail(b"1,x,2\n2,y,3\n" + below, THREE) is None


def test_table_of_one_column_has_no_footer_and_a_far_one_is_not_looked_for() -> None:
    one = Header(dialect=Dialect(), names=("note",), data_start=0)
    assert extras.tail(b"a\n\nTotal: 5\n", one) is None
    long = b"1,x,2\n\n" + b"some words\n" * (extras.TAIL_BYTES // 11 + 1)
    assert extras.tail(long, THREE) is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([b"\n", b"\n", b"1,x,2\n", b"ab\n", b"d,e\n", b'"', b"q,5\n", b"\r\n"]), max_size=14))
def test_tail_is_the_same_from_wherever_it_is_looked_for(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found = extras.tail(data, THREE)
    start = len(data) if found is None else found.start
    for at in range(len(data) + 1):
        if (at == 0 or data[at - 1 : at] == b"\n") and at <= start:
            again = extras.tail(data[at:], THREE)
            assert (again.start + at if again else len(data)) == start


# on every path --------------------------------------------------------------------------------------------------------


def read(
    source: Source, header: Header, cut: list[Slice]
) -> tuple[list[list[str | None]], dict[Discard, int], int, list[object]]:
    """Rows, what was left out, records and rejects of a file through these slices, as the workers read them."""
    columns = tuple(Column(name=name, type=ColumnType.TEXT) for name in header.names)
    job = Job(
        job_id=1,
        kind=PROFILE,
        members=(Member(source=source, header=header),),
        layout=Layout(columns=columns),
        start=header.data_start,
        slice_bytes=1,
    )
    rows: list[list[str | None]] = []
    left_out: dict[Discard, int] = {}
    rejects: list[object] = []
    records = lines = 0
    for slice_ in cut:
        text = worker._read(Task(job=job, slice=slice_, prefix_sha256="", stem=""))
        lines += text.base_lines
        parsed = text.parsed
        rows += [list(row.values()) for row in parsed.table.to_pylist()]
        rejects += [(r.code, records + r.record, lines + r.line, slice_.start + r.byte, r.text) for r in parsed.rejects]
        for kind, count in parsed.discards.items():
            left_out[kind] = left_out.get(kind, 0) + count
        records += parsed.records
        lines += parsed.lines
    return rows, left_out, records, rejects


DIRTY = (
    b"Report\n\nid,name,price\r\n"
    b"0,x,1\n0,x,1\n0,x,1\n"
    b'1,"a\nid,name,price\n",2\n'
    b"# don't, count \"me\n"
    b"id,name,price\n"
    b"2,b\n"
    b"#\r\n"
    b"\xef\xbb\xbfid,name,price\r\n"
    b"xid,name,price\n"
    b"id,name,price2\n"
    b"3,c,#4\n"
    b"id,name,price\n"
    b"\n"
    b"Total: 3\n"
    b"# the end\n"
    b"\n"
    b"k,v\n"
    b"a,b\n"
)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_same_is_left_out_at_every_slice_size(tmp_path: Path, name: str) -> None:
    source = written(tmp_path, gzip.compress(DIRTY) if name.endswith(".gz") else DIRTY, name)
    header = sniff(source, Told(comment="#"))
    assert header.discards == {PREAMBLE: 1}
    expected = [
        *[["0", "x", "1"]] * 3,
        ["1", "a\nid,name,price\n", "2"],
        ["xid", "name", "price"],
        ["id", "name", "price2"],
        ["3", "c", "#4"],
    ]
    ragged = [(Reason.RAGGED, 6, 12, DIRTY.index(b"2,b\n"), "2,b")]
    for slice_bytes in range(1, len(DIRTY) + 2):
        cut = [s for s, _ in slices(source, header, slice_bytes=slice_bytes, commit_bytes=None, spool=tmp_path)]
        rows, left_out, records, rejects = read(source, header, cut)
        assert rows == expected, slice_bytes
        assert left_out == {HEADER: 3, COMMENT: 3, FOOTER: 1, TABLE: 2}
        assert rejects == ragged
        assert records == len(rows) + sum(left_out.values()) + 1
    if source.codec is Codec.PLAIN:
        assert read(source, header, [whole(source, header)])[:2] == (expected, left_out)


def test_a_repeated_header_of_several_rows_is_left_out_at_every_slice_size(tmp_path: Path) -> None:
    data = b"g,,h\na,b,c\n1,2,3\ng,,h\na,b,c\n4,5,6\na,b,c\n"
    source = written(tmp_path, data)
    header = sniff(source, Told(header=2))
    for slice_bytes in range(1, len(data)):
        cut = [s for s, _ in slices(source, header, slice_bytes=slice_bytes, commit_bytes=None)]
        assert read(source, header, cut)[:3] == ([["1", "2", "3"], ["4", "5", "6"]], {HEADER: 3}, 5)


def test_a_value_that_is_a_name_is_no_repeated_header(tmp_path: Path) -> None:
    source = written(tmp_path, b"id,name\n1,name\nid,x\n id,name\nid,name,x\n")
    header = sniff(source)
    rows, left_out, records, rejects = read(source, header, [whole(source, header)])
    assert (rows, left_out, records, len(rejects)) == ([["1", "name"], ["id", "x"], [" id", "name"]], {}, 4, 1)
    one = written(tmp_path, b"name\nx\nname\n", "b.csv")
    assert read(one, sniff(one), [whole(one, sniff(one))])[:2] == ([["x"], ["name"]], {})


def test_what_was_left_out_is_told_in_words() -> None:
    assert told(5, {FOOTER: 1, PREAMBLE: 3, HEADER: 1}) == (
        "3 lines before the header, 1 repeated header, 1 line of a footer"
    )
    assert told(1_001, {COMMENT: 1}) == "1 comment line, 1,000 records at your request"
    assert told(1, {}) == "1 record at your request"
