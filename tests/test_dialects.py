"""Delimiter, quote, escape and line end: found out by the head, told, and the same on every way through the reader."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tools
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_reader import Row, rows
from tools import source_of

from ingest import plain, quoting, run
from ingest.dialects import Head, advice, find, records
from ingest.errors import SourceError, UsageError
from ingest.model import UNTOLD, Dialect, Header, Reason, Told
from ingest.parts import header_json, same_options
from ingest.reader import Unproven, count_records, load_bytes, locate, read
from ingest.settings import TOLD, Settings, parse_delimiter, parse_told
from ingest.show import _decision
from ingest.slicing import guessed, slices
from ingest.sniff import Sniffer, sniff

BACKSLASH = Dialect(escape="\\")
BARE = Dialect(quote="")


def found(text: str, told: Told = UNTOLD, *, whole: bool = True) -> tuple[str, str, str]:
    """Delimiter, quote and escape."""
    dialect = find(Head(data=text.encode(), first=0, whole=whole), told)
    assert dialect is not None
    return dialect.delimiter, dialect.quote, dialect.escape


# found out -----------------------------------------------------------------------------------------------------------

DELIMITERS = [*",;\t|", "\x01", "\x1f", *" :^~#¦§", "||", "::", ";;", "|~|", "~^~", ", "]
CELLS = [("id", "name", "price"), ("1", "{}", "2.5"), ("2", "{}", "3.5"), ("3", "cy", "4.5")]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_each_delimiter_is_found_with_each_way_to_quote(delimiter: str, line_end: str) -> None:
    ways = {
        ('"', ""): ("ann", "bob"),
        ('"', " "): (f'"a{delimiter}n"', '"b ""x"" b"'),
        ("'", ""): (f"'a{delimiter}n'", "'b ''x'' b'"),
        ('"', "\\"): (f'"a{delimiter}n"', '"b \\"x\\" b"'),
    }
    for (quote, escape), values in ways.items():
        lines = [delimiter.join(cells) for cells in CELLS]
        lines[1:3] = [line.format(value) for line, value in zip(lines[1:3], values, strict=True)]
        text = "".join(line + line_end for line in lines)
        assert found(text) == (delimiter, quote, escape.strip())
        dialect = find(Head(data=text.encode(), first=0, whole=True), UNTOLD)
        assert dialect is not None
        assert dialect.line_end == line_end


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        # a decimal comma, grouped digits, times: with a header, and without
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
        ("1,5;2,5\n3,5;4,5\n", ";"),
        ("a;b\n1,234,567;2,345,678\n2,234,567;3,345,678\n", ";"),
        ("10:30:00,5\n11:30:00,6\n", ","),
        ("Name;Betrag;Text\nA;1.234,56;Hallo, Welt\nB;2,5;foo\nC;3,0;a, b, c\n", ";"),
        # a list in a field
        ("movieId,title,genres\n1,A,Adventure|Animation\n2,B,Comedy|Drama\n", ","),
        ("1,Toy Story,a;b\n2,Jumanji,c;d\n", ","),
        ("id\tlist\n" + "1\ta,b,c,d,e,f\n" * 9, "\t"),
        ("city, state\tpop\nAustin, TX\t5\nBoston, MA\t6\n", "\t"),
        # one column: nothing separates
        ("note; or remark\nhello\nworld\n", ","),
        ("full name\nJohn Smith\nJane Doe\nBob Roe\n", ","),
        ("a long story\nof very few words here\nand more\n", ","),
        ("time\n10:30:00\n11:00:00\n12:00:00\n", ","),
        ("10:30:00\n11:00:00\n12:00:00\n", ","),
        ("2024-01-01 10:30\n2024-01-02 10:30\n", ","),
        ("mac\naa:bb:cc:dd:ee:ff\naa:bb:cc:dd:ee:00\n", ","),
        ("http://a.b\nhttp://c.d\n", ","),
        ("street and number\nMain street 5\nOak street 7\n", ","),
        # a blank and a colon with the evidence that they need
        ("name age\nann 5\nbob 7\n", " "),
        ('"a" "b"\n"x" 1 2\n"y" 3 4\n"z" 5 6\n', " "),  # as R writes the names of rows
        ("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/nologin\n", ":"),
        # lines in front that do not fit, and behind
        ("Sales, by region, 2024\n\nprinted today\nid;name;v\n1;x;1,5\n2;y;2,5\n3;z;3,5\n4;z;3,5\n", ";"),
        ("Report\nMade by: me, on 2024-01-01\n\nid,name\n1,x\n2,y\n3,z\n4,k\nTotal: 5\n", ","),
        ("# a, b, c\n# another; one\n# third, x\nid\tv\n1\t2\n2\t3\n", "\t"),
        ("Report\na:b:c\n1:2:3\n4:5:6\n7:8:9\n", ":"),
        # several characters only where none of them is left over
        ("a|b|c\n1||3\n2||4\n", "|"),
        ("a, b, c\n1, 2, 3\n4,5,6\n", ","),
    ],
)
def test_ambiguous_heads_are_decided_by_the_stated_rules(text: str, delimiter: str) -> None:
    assert found(text)[0] == delimiter
    assert found(text.replace("\n", "\r\n"))[0] == delimiter


@pytest.mark.parametrize(
    ("text", "quote", "escape"),
    [
        ('id,name\n1,"Foo" Fighters\n2,"Bar" Tenders\n3,x\n', "", ""),
        ('id,name\n1,5" pipe\n2,7" pipe\n', '"', ""),
        ('id,path\n1,"C:\\dir\\"\n2,"D:\\x\\"\n', '"', ""),
        ("id,name\n1,'tis\n2,o'clock\n3,'n\n", '"', ""),
        ('id,name\n1,"a ""b"" c"\n2,"d"e"\n', '"', ""),  # one that is broken is a reject, not another dialect
        ('id,doc\n1,"{\\"a\\": 1, \\"b\\": 2}"\n2,"{}"\n', '"', "\\"),
        ('id,doc\n1,"{""a"": 1, ""b"": 2}"\n2,"{}"\n', '"', ""),
    ],
)
def test_quote_and_escape_are_those_that_break_least(text: str, quote: str, escape: str) -> None:
    assert found(text) == (",", quote, escape)


def test_all_of_the_head_decides_on_the_escape_and_on_single_quotes() -> None:
    lines = [f"{i},some text\n" for i in range(1000)]
    for late, quote, escape in (('"say \\"hi\\""', '"', "\\"), ("'a'\n1,'b'", "'", ""), ("'a'\n1,'tis", '"', "")):
        text = "id,name\n" + "".join([*lines, f"1000,{late}\n", *lines])
        assert found(text) == (",", quote, escape)


def test_a_quote_that_swallows_the_head_is_none() -> None:
    text = "id,name\n" + "".join(f"{i},some text\n" for i in range(6000))
    assert found(text.replace("1,some", '1,"some', 1)[: 64 * 1024], whole=False) == (",", "", "")


@pytest.mark.parametrize("value", ["x" * 100_000, "some text\n" * 10_000, "some, text\n" * 20, "a,b,c\n" * 20_000])
def test_a_field_longer_than_the_head_is_no_stray_quote(value: str) -> None:
    text = f'id,name\n1,"{value}"\n2,b\n'
    assert found(text[: 64 * 1024], whole=len(text) <= 64 * 1024) == (",", '"', "")


def test_escaped_line_ends_end_no_record_of_the_head() -> None:
    dialect = replace(BACKSLASH, quote="")
    data = b"a,b\n1,x\\\ny\n2,z\\\\\n3,w\n"
    found = records(Head(data=data, first=0, whole=True), dialect)
    assert found == [b"a,b\n", b"1,x\\\ny\n", b"2,z\\\\\n", b"3,w\n"]


# told ----------------------------------------------------------------------------------------------------------------


def test_what_is_told_is_believed() -> None:
    text = 'a,b;c\n1,"2;3\n'
    assert found(text, Told(delimiter=";")) == (";", '"', "")
    assert found(text, Told(quote="")) == (",", "", "")
    assert found(text, Told(quote="'", escape="^")) == (",", "'", "^")
    assert found(text, Told(delimiter="@@")) == ("@@", '"', "")
    assert found('a\n"x \\"y\\""\n', Told(escape="")) == (",", '"', "")
    assert found("a\n'b'\n'c'\n", Told(escape="'")) == (",", "'", "")


@pytest.mark.parametrize(
    ("typed", "delimiter"),
    [(";", ";"), ("||", "||"), ("tab", "\t"), ("\\t", "\t"), ("space", " "), ("\\x1f", "\x1f"), ("§", "§")],
)
def test_delimiters_are_typed_as_they_are_or_by_name(typed: str, delimiter: str) -> None:
    assert parse_delimiter(typed) == delimiter


@pytest.mark.parametrize(
    "words",
    [
        {"delimiter": ""},
        {"delimiter": "\n"},
        {"delimiter": "\\x00"},
        {"delimiter": '"'},
        {"delimiter": "a'", "quote": "'"},
        {"delimiter": "a|", "escape": "|"},
        {"quote": "ab"},
        {"escape": "é"},
    ],
)
def test_what_cannot_be_a_dialect_is_a_usage_error(words: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        parse_told(**{**TOLD, **words})


def test_a_sniffer_takes_no_quote_from_a_file_with_the_same_first_line(tmp_path: Path) -> None:
    contents = [
        b'id,name\n1,"x"\n2,y\n',
        b'id,name\n1,"a \\"b\\" c"\n2,"d"\n',
        b"id,name\n1,'a,b'\n2,'c'\n",
        b'id,name\n1,"Foo" x\n2,"Bar" y\n3,z\n',
        b"id,name\n1,C:\\\\x\n2,it's\n",
    ]
    for first in contents:
        sniffer = Sniffer()
        for number, data in enumerate([first, *contents]):
            path = tmp_path / f"{number}.csv"
            path.write_bytes(data)
            assert sniffer.header(source_of(path)) == sniff(source_of(path))


# read ----------------------------------------------------------------------------------------------------------------

ESCAPES = ("", "\\", "^")
DIALECTS = [
    Dialect(delimiter=delimiter, quote=quote, escape=escape)
    for delimiter in (",", ";", " ", "\x01", "||", "|~|", ", ", "§")
    for quote in ('"', "'", "")
    for escape in ESCAPES
]
Expected = list[tuple[int, int, Row | None]]


def reference(data: bytes, dialect: Dialect) -> Expected:
    """Start, end and fields of each record, one character after the other; no fields if it is broken."""
    delimiter, quote, escape = dialect.delimiter.encode(), dialect.quote.encode(), dialect.escape.encode()
    after_escape = [each for each in (escape, quote or b'"', dialect.delimiter[0].encode(), b"\n", b"\r") if each]
    after_broken = False

    def escaped(position: int) -> bytes:
        if not escape or not data.startswith(escape, position):
            return b""
        return next((each for each in after_escape if data.startswith(each, position + 1)), b"")

    def field(position: int) -> tuple[int, bytes | None, bool]:
        value, broken = b"", False
        quoted = bool(quote) and data.startswith(quote, position)
        position += quoted
        while True:
            rest = data[position:]
            if taken := escaped(position):
                value, position = value + taken, position + 1 + len(taken)
            elif not rest:
                return position, value if value or quoted else None, broken or quoted
            elif quoted and rest.startswith(quote + quote):
                value, position = value + quote, position + 2
            elif quoted and rest.startswith(quote):
                after = rest[1:]
                return position + 1, value, bool(after) and not after.startswith((delimiter, b"\r", b"\n"))
            elif not quoted and rest.startswith((delimiter, b"\r", b"\n")):
                return position, value or None, broken
            else:
                broken = broken or (not quoted and after_broken and bool(quote) and rest.startswith(quote))
                value, position = value + rest[:1], position + 1

    def line_end(position: int) -> int:
        while position < len(data) and data[position] not in b"\r\n":
            position += 1 + len(escaped(position))
        return position

    found: Expected = []
    position = 0
    while position < len(data):
        if data[position] in b"\r\n":
            position += 1
            continue
        start, cells = position, []
        while True:
            position, value, broken = field(position)
            cells.append(value)
            if broken or not data.startswith(delimiter, position):
                break
            position += len(delimiter)
        if broken:
            after_broken, position = True, line_end(start)
        found.append((start, position, None if broken else [None if c is None else c.decode() for c in cells]))
    return found


@st.composite
def messes(draw: st.DrawFn) -> tuple[Dialect, bytes, int]:
    """A dialect, bytes made of what matters in it, and the size of a slice."""
    dialect = draw(st.sampled_from(DIALECTS))
    own = [dialect.delimiter, dialect.quote or '"', dialect.escape or "\\"]
    token = st.sampled_from([*own, *own, "\n", "\n", "\r", "\r\n", "a", "é", "0", "\x7f", "\x01", "|", " ", "'", '"'])
    data = "".join(draw(st.lists(token, min_size=1, max_size=20))).encode()
    return dialect, data, draw(st.integers(1, len(data)))


def sliced(path: Path, dialect: Dialect, size: int, way: str) -> tuple[list[Row], list[tuple[int, str]]]:
    """Rows and rejects of a file of two columns, through slices."""
    source, header = source_of(path), Header(dialect=dialect, names=("x", "y"), data_start=0)
    got: list[Row] = []
    rejects: list[tuple[int, str]] = []
    confirmed = 0

    def take(parts: Iterator[tuple[object, ...]]) -> None:
        nonlocal confirmed
        for slice_, *_ in parts:
            options = {"exact": slice_.exact, "after_broken": slice_.after_broken}
            parsed = read(load_bytes(source, slice_), 2, dialect, proven=slice_.first and slice_.last, **options)
            got.extend(rows(parsed))
            rejects.extend((slice_.start + reject.byte, reject.text) for reject in parsed.rejects)
            confirmed = slice_.start + slice_.length

    if way == "guessed":
        take((slice_,) for slice_ in guessed(source, header, slice_bytes=size))
        return got, rejects
    try:
        take(slices(source, header, slice_bytes=size, commit_bytes=None, exact=way == "exact"))
    except Unproven:
        take(slices(source, header, start=confirmed, slice_bytes=size, commit_bytes=None, exact=True))
    return got, rejects


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(messes())
@example((BACKSLASH, b'1,"a\\"b\\\\"\n2,C:\\new\n3,x\\', 5))
@example((replace(BACKSLASH, quote=""), b"1,a\\\nb\n2,\\,\n", 1))
@example((Dialect(delimiter="||"), b'1|||2\n"a||b"||c|\n||\n3', 3))
def test_all_ways_through_the_reader_say_what_the_reference_says(mess: tuple[Dialect, bytes, int]) -> None:
    dialect, data, size = mess
    expected = reference(data, dialect)
    # Empty fields beyond the last column are cut off.
    expected = [(a, b, cells[:2] if cells and not any(cells[2:]) else cells) for a, b, cells in expected]
    bad = [n for n, (_, _, cells) in enumerate(expected) if cells is None or len(cells) != 2]
    parsed = read(data, 2, dialect, exact=True)
    assert parsed.records == len(expected)
    assert rows(parsed) == [cells for n, (_, _, cells) in enumerate(expected) if n not in bad]
    assert [reject.record for reject in parsed.rejects] == bad
    places = [(start, data[start:end].decode()) for start, end, _ in expected]
    assert [(reject.byte, reject.text) for reject in parsed.rejects] == [places[n] for n in bad]
    line_ends = [data[:start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") for start, _ in places]
    assert [reject.line for reject in parsed.rejects] == [line_ends[n] + 1 for n in bad]
    assert [(byte, text) for _, byte, text in locate(data, dialect, range(len(expected)), exact=True)] == places
    assert count_records(data, dialect) in (None, len(expected))
    for start, end, cells in expected:
        fields = quoting.fields(data[start:end], dialect)
        assert cells is None or (fields or [])[: len(cells)] == [(cell or "").encode() for cell in cells]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        whole = rows(parsed), [(reject.byte, reject.text) for reject in parsed.rejects]
        assert sliced(path, dialect, size, "exact") == whole
        assert sliced(path, dialect, size, "counted") == whole
        try:
            assert sliced(path, dialect, size, "guessed") == whole
        except Unproven:
            pass


CELL = st.text(alphabet="ab\"',;|\\ \né\x1f\x7f", max_size=5)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4),
    st.sampled_from(",;\t| :^\x1f"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["", "\\"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_pythons_csv_writes_comes_back(
    table: list[tuple[str, str]], delimiter: str, quotes: Any, escape: str, line_end: str
) -> None:
    # Python quotes no line end but its own.
    table = [(first.replace("\n", line_end), second.replace("\n", line_end)) for first, second in table]
    bare = quotes == csv.QUOTE_NONE
    escape = "\\" if bare else escape
    out = io.StringIO()
    csv.writer(
        out,
        delimiter=delimiter,
        quoting=quotes,
        doublequote=not escape,
        escapechar=escape or None,
        lineterminator=line_end,
    ).writerows(table)
    for quote in ('"', "") if bare else ('"',):
        parsed = read(out.getvalue().encode(), 2, Dialect(delimiter=delimiter, quote=quote, escape=escape), exact=True)
        assert parsed.rejects == []
        assert [[cell or "" for cell in row] for row in rows(parsed)] == [list(row) for row in table]


def test_null_is_unquoted_in_every_dialect() -> None:
    parsed = read(b'NA||""\n\\N||"NA"\n||\\\\N\n', 2, Dialect(delimiter="||", escape="\\"), null=["NA", "\\N"])
    assert rows(parsed) == [[None, ""], [None, "NA"], [None, "\\N"]]


def test_a_byte_that_is_not_utf8_is_counted_from_the_record_as_it_stands() -> None:
    parsed = read(b"1||2\na||\xe9\n", 2, Dialect(delimiter="||"))
    assert [(r.code, r.byte, r.text) for r in parsed.rejects] == [(Reason.BAD_BYTE, 5, "a||\\xe9")]
    assert "0xE9, 3 bytes into the record" in parsed.rejects[0].message


def test_texts_go_into_a_rewritten_slice_and_values_come_out_of_it() -> None:
    dialect = Dialect(delimiter="||", escape="\\")
    row = b'"a \\"b\\" \\\\"||c||d\\|'
    rewritten = plain.rewritten(row + b"\n", dialect)
    assert rewritten is not None
    assert rewritten.data == rewritten.of(row) + b"\n"
    cells = quoting.fields(rewritten.of(row), rewritten.dialect)
    assert cells is not None
    assert [rewritten.value(cell.decode()) for cell in cells] == ['a "b" \\', "c", "d|"]
    assert [cell.decode() for cell in quoting.fields(row, dialect) or ()] == ['a "b" \\', "c", "d|"]


def test_a_slice_without_a_byte_to_spare_is_refused() -> None:
    data = bytes(byte for byte in range(1, 128) if byte not in b"\r\n") + b"||x\n"
    with pytest.raises(SourceError, match="every ASCII character") as caught:
        read(data, 2, Dialect(delimiter="||"), proven=True)
    assert caught.value.code == Reason.CORRUPT


# a contradiction, and what to type -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "dialect", "typed"),
    [
        ('1,"say \\"hi\\""', Dialect(), "--escape '\\'"),
        ('1,"C:\\"', BACKSLASH, "--escape none"),
        ('1,"Foo" Fighters', Dialect(), "--quote none"),
        ("1,'a, b'", Dialect(), '--quote "\'"'),
        ("1;2", Dialect(), "--delimiter ';'"),
        ("1,2", Dialect(delimiter=", "), "--delimiter ,"),
        ("1\x1f2", Dialect(), "--delimiter '\\x1f'"),
        ("1,2,3", Dialect(), ""),
    ],
)
def test_a_record_that_does_not_split_says_what_to_type(record: str, dialect: Dialect, typed: str) -> None:
    told = advice(record.encode(), dialect, 2)
    assert typed in told
    assert bool(typed) == bool(told)
    assert "--delimiter '\\x01'" in advice(b"Hello, world", Dialect(), 1)


def test_an_escape_that_shows_late_refuses_the_file_and_loads_when_told(tmp_path: Path, db: Path) -> None:
    file = tmp_path / "notes.csv"
    lines = [f'{i},"text number {i}"\n' for i in range(5000)] + ['5000,"say \\"hi\\""\n']
    file.write_text("id,note\n" + "".join(lines))
    refused = tools.load(file, db)
    assert tools.told(refused) == {"notes.csv": ("refused", "over_budget")}
    assert "--escape '\\'" in refused.files[0].hint
    assert tools.load(file, db, told=Told(escape="\\")).exit_code == 0
    assert tools.query(db, "SELECT count(*), max(note) FROM notes WHERE id = 5000") == [(1, 'say "hi"')]


def test_small_files_of_unusual_dialects_travel_together(tmp_path: Path, db: Path) -> None:
    texts = ["1||x\n2||y\n", "3||z", '4||"p||q"\n', "5||back\\\\slash\\"]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.csv").write_text(f"id||note\n{text}")
    told = Told(escape="\\")
    assert tools.load(tmp_path, db, table="t", told=told).exit_code == 0
    expected = [(1, "x"), (2, "y"), (3, "z"), (4, "p||q"), (5, "back\\slash\\")]
    assert tools.query(db, "SELECT id, note FROM t ORDER BY id") == expected


def test_a_part_loaded_file_is_gone_on_with_only_if_its_rest_is_read_the_same_way() -> None:
    settings = Settings(to="x")
    header = Header(dialect=Dialect(), names=("a", "b"), data_start=4)
    text = header_json(header, settings)

    def same(text: str, header: Header) -> bool:
        return same_options(SimpleNamespace(header=text, mode=settings.mode), header, settings)  # type: ignore[arg-type]

    assert same(text, header)
    assert same(text, replace(header, dialect=Dialect(line_end="\r\n")))
    for other in (Dialect(escape="\\"), BARE, Dialect(delimiter=";")):
        assert not same(text, replace(header, dialect=other))
    assert not same(text, replace(header, names=("a", "c")))
    older = json.loads(text)
    del older["quote"], older["escape"]
    assert same(json.dumps(older), header)
    assert not same(json.dumps(older), replace(header, dialect=BACKSLASH))


def test_a_delimiter_that_does_not_occur_makes_one_column_and_the_plan_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,note\n1,x\n")
    for told, notes in ((";", 1), (",", 0)):
        options = Settings(to=str(tmp_path / "x.db"), workers=1, told=Told(delimiter=told))
        (table,) = run.plan([file], options).tables
        assert len(table.notes) == notes
        assert table.shape is not None
        assert table.shape.columns[0].name == ("id,note" if notes else "id")


def test_the_plan_names_what_is_unusual(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id:note\n1:'a'\n2:'b\\'c'\n")
    (decision,) = run.plan([file], Settings(to=str(tmp_path / "x.db"), workers=1)).decisions
    assert _decision(decision)[3] == "colon quote ' escape \\ LF"


def test_a_tab_in_each_text_is_no_delimiter_where_the_header_has_none() -> None:
    data = b"id,text,n\n" + b"".join(b"%d,n %d\t\\x,%d.5\n" % (i, i, i) for i in range(200))
    found = find(Head(data=data, first=0, whole=True), UNTOLD)
    assert found is not None
    assert found.delimiter == ","
