"""A slice becomes columns of text, and what cannot is set aside with its place; the exact rules against an oracle."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tools import source_of

from ingest import reader
from ingest.errors import SourceError
from ingest.model import LENIENT, Codec, Dialect, Header, Reason, RecordRules, Slice, Source
from ingest.reader import Parsed, Unproven, by_the_book, count_records, load_bytes, locate, read, read_file
from ingest.slicing import slices

COMMA = Dialect()
Row = list[str | None]


def rows(parsed: Parsed) -> list[Row]:
    return [list(row.values()) for row in parsed.table.to_pylist()]


def joined(source: Source, dialect: Dialect, width: int, slice_bytes: int, *, exact: bool) -> list[Row]:
    """All rows of a file without a header, through slices of about `slice_bytes`."""
    header = Header(dialect=dialect, names=("x",) * width, data_start=0)
    found: list[Row] = []
    for slice_, _ in slices(source, header, slice_bytes=slice_bytes, commit_bytes=None, exact=exact):
        data = load_bytes(source, slice_)
        parsed = read(data, width, dialect, exact=exact, after_broken=slice_.after_broken)
        assert parsed.rejects == []
        assert parsed.kept is None
        assert parsed.records == parsed.table.num_rows
        found += rows(parsed)
    return found


# by the book -------------------------------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> list[list[tuple[str, bool]]]:
    """Rows of cells, each with whether to quote it although it need not be."""
    width = draw(st.integers(1, 4))
    cell = st.tuples(st.text(alphabet='ab",;\n\rüé€😀\ufeff\t ', max_size=5), st.booleans())
    return draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=5))


def write(table: list[list[tuple[str, bool]]], delimiter: str, line_ends: list[str]) -> tuple[bytes, list[Row]]:
    """The table by the book, and what has to be read of it."""
    text, expected = "", []
    for number, cells in enumerate(table):
        # A lone empty cell that is not quoted is a blank line, which is no record.
        quoted = [q or any(c in cell for c in f'{delimiter}"\r\n') or len(cells) == 1 for cell, q in cells]
        written = [
            '"' + cell.replace('"', '""') + '"' if q else cell for (cell, _), q in zip(cells, quoted, strict=True)
        ]
        text += delimiter.join(written) + line_ends[number % len(line_ends)]
        expected.append([cell if cell or q else None for (cell, _), q in zip(cells, quoted, strict=True)])
    return text.encode(), expected


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables(),
    st.sampled_from(",;\t|"),
    st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\r\n", "\n"], ["\n\n", "\n"]]),
    st.booleans(),
)
def test_what_is_written_by_the_book_reads_back_equal_at_every_slice_size(
    table: list[list[tuple[str, bool]]], delimiter: str, line_ends: list[str], ended: bool
) -> None:
    data, expected = write(table, delimiter, line_ends)
    data = data if ended else data.rstrip(b"\r\n")
    dialect = Dialect(delimiter=delimiter, line_end="\r" if line_ends == ["\r"] else "\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        source = source_of(path)
        assert count_records(data, dialect) == len(expected)
        for slice_bytes in range(1, len(data) + 2):
            for exact in (False, True):
                assert joined(source, dialect, len(table[0]), slice_bytes, exact=exact) == expected


@settings(deadline=None, max_examples=60)
@given(tables(), st.sampled_from(",;\t|"))
def test_exact_rules_and_pyarrow_agree_by_the_book(table: list[list[tuple[str, bool]]], delimiter: str) -> None:
    data, expected = write(table, delimiter, ["\n"])
    dialect = Dialect(delimiter=delimiter)
    # The broken record makes everything before it go through the exact rules.
    parsed = read(data + b'"x"y\n', len(table[0]), dialect, exact=True)
    assert parsed.exact
    assert rows(parsed) == expected
    assert [r.record for r in parsed.rejects] == [len(expected)]


def oracle(data: bytes, *, after_broken: bool) -> list[tuple[int, int, list[bytes | None] | None]]:
    """Start, end and fields of each record by the exact rules, one byte after the other; no fields if it is broken."""
    found: list[tuple[int, int, list[bytes | None] | None]] = []
    position = 0
    while position < len(data):
        if data[position] in b"\r\n":
            position += 1
            continue
        start, cells, broken = position, [], False
        while True:
            cell, quoted = b"", data[position : position + 1] == b'"'
            if quoted:
                position += 1
                while True:
                    if position >= len(data):
                        broken = True
                        break
                    if data[position : position + 2] == b'""':
                        cell, position = cell + b'"', position + 2
                    elif data[position] == 34:
                        position += 1
                        break
                    else:
                        cell, position = cell + data[position : position + 1], position + 1
                if data[position : position + 1] not in (b",", b"\r", b"\n", b""):
                    broken = True
            else:
                while position < len(data) and data[position] not in b",\r\n":
                    broken = broken or (after_broken and data[position] == 34)
                    cell, position = cell + data[position : position + 1], position + 1
            cells.append(cell if cell or quoted else None)
            if broken or data[position : position + 1] != b",":
                break
            position += 1
        if broken:
            after_broken = True
            position = start
            while position < len(data) and data[position] not in b"\r\n":
                position += 1
        found.append((start, position, None if broken else cells))
    return found


def fit(cells: list[bytes | None], width: int, rules: RecordRules) -> Row | None:
    """The row that these fields are; None: they are a reject."""
    texts = [None if cell is None else cell.decode() for cell in cells]
    if len(cells) <= width:
        return texts + [None] * (width - len(cells)) if len(cells) == width or rules.pad else None
    return texts[:width] if rules.rescue or not any(texts[width:]) else None


MESSY = st.lists(
    st.sampled_from([b'"', b'"', b",", b",", b"\n", b"\n", b"\r", b"a", b"b", b'""', b'","', b'"\n']), max_size=24
).map(b"".join)


@settings(deadline=None, max_examples=400)
@given(MESSY, st.booleans(), st.builds(RecordRules, pad=st.booleans(), rescue=st.booleans()))
@example(b'TV 42",299\n', False, LENIENT)
@example(b'TV 42",299\n', True, LENIENT)
@example(b'"x"y,1\n2,3\n', False, LENIENT)
@example(b'"never,closed\n2,3\n', False, LENIENT)
@example(b'a\n1,2,""\n1,2,,\n1,2,"",3\n,,,\n', False, RecordRules(pad=True, rescue=True))
def test_exact_rules_hold_on_any_bytes(data: bytes, after_broken: bool, rules: RecordRules) -> None:
    width = 2
    expected = [
        (start, end, cells, None if cells is None else fit(cells, width, rules))
        for start, end, cells in oracle(data, after_broken=after_broken)
    ]
    parsed = read(data, width, COMMA, rules=rules, exact=True, after_broken=after_broken)
    assert parsed.records == len(expected)
    good = [(number, row) for number, (_, _, _, row) in enumerate(expected) if row is not None]
    extras = {
        number: {place: cell.decode() for place, cell in enumerate(cells) if place >= width and cell is not None}
        for number, (_, _, cells, row) in enumerate(expected)
        if row is not None and cells is not None and any(cells[width:])
    }
    assert parsed.fit.extras == extras
    assert set(parsed.fit.ways) == {
        number
        for number, (_, _, cells, row) in enumerate(expected)
        if row is not None and cells is not None and len(cells) != width
    }
    assert rows(parsed) == [cells for _, cells in good]
    kept = list(range(parsed.records)) if parsed.kept is None else parsed.kept.tolist()
    assert kept == [number for number, _ in good]
    assert [(r.record, r.byte, r.text, r.code) for r in parsed.rejects] == [
        (number, start, data[start:end].decode(), Reason.BROKEN_QUOTE if cells is None else Reason.RAGGED)
        for number, (start, end, cells, row) in enumerate(expected)
        if row is None
    ]
    lines_before = [
        data[:start].count(b"\n") + data[:start].replace(b"\r\n", b"").count(b"\r") for start, *_ in expected
    ]
    assert [r.line for r in parsed.rejects] == [lines_before[r.record] + 1 for r in parsed.rejects]
    assert parsed.lines == data.count(b"\n") + data.replace(b"\r\n", b"").count(b"\r")
    assert parsed.ends_broken == any(cells is None for _, _, cells, _ in expected)
    places = locate(data, COMMA, range(len(expected)), exact=parsed.exact or after_broken, after_broken=after_broken)
    assert [(byte, text) for _, byte, text in places] == [(s, data[s:e].decode()) for s, e, *_ in expected]


@settings(deadline=None, max_examples=60)
@given(MESSY.filter(lambda data: len(data) > 3))
def test_exact_slices_say_what_the_whole_file_says(data: bytes) -> None:
    header = Header(dialect=COMMA, names=("x", "y"), data_start=0)
    whole = read(data, 2, COMMA, exact=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        source = source_of(path)
        for slice_bytes in range(1, len(data) + 1):
            found: list[Row] = []
            rejects: list[tuple[int, str]] = []
            broken = False
            for slice_, _ in slices(source, header, slice_bytes=slice_bytes, commit_bytes=None, exact=True):
                assert slice_.after_broken == broken
                parsed = read(load_bytes(source, slice_), 2, COMMA, exact=True, after_broken=slice_.after_broken)
                found += rows(parsed)
                rejects += [(slice_.start + r.byte, r.text) for r in parsed.rejects]
                broken = broken or parsed.ends_broken
            assert found == rows(whole)
            assert rejects == [(r.byte, r.text) for r in whole.rejects]


@settings(deadline=None, max_examples=60)
@given(MESSY.filter(lambda data: len(data) > 3))
@example(b'1,2\nTV 42",1\n"a\nb",2\n"x"y,1\nTV 43",1\n5,6\n')
def test_counting_as_far_as_it_is_confirmed_and_then_the_exact_rules_is_as_good_as_these_alone(data: bytes) -> None:
    header = Header(dialect=COMMA, names=("x", "y"), data_start=0)
    whole = read(data, 2, COMMA, exact=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        source = source_of(path)
        for slice_bytes in range(1, len(data) + 1):
            parsed: list[Parsed] = []
            confirmed = 0
            try:
                for slice_, _ in slices(source, header, slice_bytes=slice_bytes, commit_bytes=None):
                    parsed.append(read(load_bytes(source, slice_), 2, COMMA, proven=slice_.first and slice_.last))
                    confirmed = slice_.start + slice_.length
            except Unproven:
                rest = slices(source, header, start=confirmed, slice_bytes=slice_bytes, commit_bytes=None, exact=True)
                for slice_, _ in rest:
                    bytes_ = load_bytes(source, slice_)
                    parsed.append(read(bytes_, 2, COMMA, exact=True, after_broken=slice_.after_broken))
            assert [row for part in parsed for row in rows(part)] == rows(whole)
            assert [r.text for part in parsed for r in part.rejects] == [r.text for r in whole.rejects]
            assert sum(part.records for part in parsed) == whole.records
            assert sum(part.lines for part in parsed) == whole.lines


def plainly_by_the_book(data: bytes) -> bool:
    inside = False
    for position, byte in enumerate(data):
        if byte != 34:
            continue
        before, after = data[position - 1 : position] if position else b"", data[position + 1 : position + 2]
        if inside and after not in (b",", b"\n", b"\r", b"", b'"'):
            return False
        if not inside and before not in (b",", b"\n", b"\r", b"", b'"'):
            return False
        inside = not inside
    return not inside


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(MESSY, st.integers(0, 70)), max_size=6), st.integers(0, 1))
def test_check_of_the_book_sees_across_words_and_blocks(pieces: list[tuple[bytes, int]], at: int) -> None:
    data = b"".join(messy + b"," + b"x" * length + (b"," * at) for messy, length in pieces)
    blocks = reader.BLOCK
    try:
        for reader.BLOCK in (64, 128, blocks):
            assert by_the_book(data, COMMA) == plainly_by_the_book(data)
    finally:
        reader.BLOCK = blocks


@pytest.mark.parametrize("length", [62, 63, 64, 65, 126, 127, 128, 129])
@pytest.mark.parametrize("tail", [b'"a"', b'"a",1\n', b'",1\n', b'"x,1\n', b'"', b'""', b'"""', b'",'])
def test_check_of_the_book_at_each_edge(monkeypatch: pytest.MonkeyPatch, length: int, tail: bytes) -> None:
    monkeypatch.setattr(reader, "BLOCK", 64)
    for data in (b'"' + b"x" * (length - 1) + tail, b"x" * length + tail, b"x" * (length - 1) + b"," + tail):
        assert by_the_book(data, COMMA) == plainly_by_the_book(data)
    for data in (b'"a",' + b"x" * (length - 4) + tail, b'"a",' + b"x" * (length - 5) + b"," + tail):
        assert by_the_book(data, COMMA) == plainly_by_the_book(data)


# what is set aside ---------------------------------------------------------------------------------------------------


def test_ragged_records_are_rejected_with_their_place() -> None:
    data = b'1,"a\nb"\n\n2\r\n3,c\n"4\n",d,e\n5,f'
    parsed = read(data, 2, COMMA)
    assert rows(parsed) == [["1", "a\nb"], ["3", "c"], ["5", "f"]]
    assert parsed.kept is not None
    assert parsed.kept.tolist() == [0, 2, 4]
    assert [(r.code, r.message, r.line, r.byte, r.record, r.text) for r in parsed.rejects] == [
        (Reason.RAGGED, "has 1 field, expected 2 (to fill short records with NULL: --ragged pad)", 4, 9, 1, "2"),
        (Reason.RAGGED, "has 3 fields, expected 2 (to keep such: --rescue-column NAME)", 6, 16, 3, '"4\n",d,e'),
    ]
    assert parsed.lines == 7
    assert parsed.records == 5
    assert not parsed.ends_broken


def test_bytes_that_are_not_utf8_reject_only_their_records() -> None:
    data = b"1,\xc3\xa9\n2,caf\xe9\n3,x\n\xff,1,2\n5,y\n"
    parsed = read(data, 2, COMMA)
    assert rows(parsed) == [["1", "é"], ["3", "x"], ["5", "y"]]
    assert [(r.code, r.line, r.byte, r.record, r.text) for r in parsed.rejects] == [
        (Reason.BAD_BYTE, 2, 5, 1, "2,caf\\xe9"),
        (Reason.BAD_BYTE, 4, 16, 3, "\\xff,1,2"),
    ]
    assert "0xE9, 5 bytes into the record" in parsed.rejects[0].message
    assert rows(read(b"1,a\n2,\xe9\n", 2, COMMA)) == [["1", "a"]]


def test_ragged_records_beside_wrong_bytes_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    parsed = read(b"\xff\n1\n2,3\n", 2, COMMA)
    assert [r.code for r in parsed.rejects] == [Reason.BAD_BYTE, Reason.RAGGED]
    assert capfd.readouterr().err == ""


def test_nul_bytes_reject_only_their_records() -> None:
    parsed = read(b'1,a\n2,"\0\n"\n3,c\n', 2, COMMA)
    assert rows(parsed) == [["1", "a"], ["3", "c"]]
    assert [(r.code, r.line, r.text) for r in parsed.rejects] == [(Reason.NUL_BYTE, 2, '2,"\0\n"')]


def test_unclosed_quote_costs_its_line_and_not_the_file() -> None:
    parsed = read(b'1,a\n2,"b\n3,c\n4,d\n', 2, COMMA, proven=True)
    assert rows(parsed) == [["1", "a"], ["3", "c"], ["4", "d"]]
    assert [(r.code, r.line, r.text) for r in parsed.rejects] == [(Reason.BROKEN_QUOTE, 2, '2,"b')]
    assert parsed.ends_broken
    assert parsed.exact


def test_stray_quote_is_literal_before_a_broken_one_and_a_reject_after_it() -> None:
    parsed = read(b'TV 42",1\n"x"y,2\nTV 43",3\nok,4\n', 2, COMMA, proven=True)
    assert rows(parsed) == [['TV 42"', "1"], ["ok", "4"]]
    assert [r.line for r in parsed.rejects] == [2, 3]


def test_slice_that_is_not_by_the_book_proves_nothing_by_itself() -> None:
    for data in (b'TV 42",1\n', b'"x"y,1\n', b'1,"a\n', b'"a" ,b\n'):
        with pytest.raises(Unproven):
            read(data, 2, COMMA)


def test_everything_rejected_leaves_an_empty_table() -> None:
    parsed = read(b"\xff", 2, COMMA)
    assert parsed.table.num_rows == 0
    assert parsed.table.column_names == ["0", "1"]
    assert parsed.records == 1


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n", b"\r"])
def test_blank_lines_are_no_records(data: bytes) -> None:
    for exact in (False, True):
        parsed = read(data, 2, COMMA, exact=exact)
        assert (parsed.records, parsed.table.num_rows, parsed.rejects) == (0, 0, [])
        assert parsed.lines == len(data.splitlines())
    assert count_records(data, COMMA) == 0


@pytest.mark.parametrize("broken", [b"", b'"x"y,1\n'])
def test_null_is_unquoted_only(broken: bytes) -> None:
    data = b'NA,"NA"\n,""\n na,N\n' + broken
    parsed = read(data, 2, COMMA, null=["NA"], exact=True)
    assert rows(parsed) == [[None, "NA"], [None, ""], [" na", "N"]]
    assert all(field.type == pa.string() for field in parsed.table.schema)


def test_mark_of_a_value_is_not_taken_for_that_of_the_file() -> None:
    assert rows(read("\ufeffa,b\n".encode(), 2, COMMA)) == [["\ufeffa", "b"]]


def test_large_fields_are_whole(tmp_path: Path) -> None:
    large = "x" * 500_000 + '"\n,' + "y" * 500_000
    quoted = '"' + large.replace('"', '""') + '"'
    path = tmp_path / "a.csv"
    path.write_text(f"1,2\n3,{quoted}\n5,6\n", newline="")
    for exact in (False, True):
        for slice_bytes in (2, 10_000, 2_000_000):
            found = joined(source_of(path), COMMA, 2, slice_bytes, exact=exact)
            assert found == [["1", "2"], ["3", large], ["5", "6"]]
    parsed = read(path.read_bytes() + b'"x"y\n', 2, COMMA, exact=True)
    assert rows(parsed)[1] == ["3", large]
    assert parsed.rejects[0].line == 5


def test_mixed_line_ends_are_all_line_ends() -> None:
    parsed = read(b"1,a\n2,b\r\n3,c\r4,d\n\r5,e", 2, COMMA)
    assert [row[0] for row in rows(parsed)] == ["1", "2", "3", "4", "5"]
    assert parsed.lines == 5


def test_stray_quotes_over_many_slices_are_read_exactly_from_the_last_confirmed_border(tmp_path: Path) -> None:
    good = b"".join(b'%d,"x\n%d"\n' % (i, i) for i in range(50))
    stray = b"".join(b'TV 4%d",%d\n' % (i % 10, i) for i in range(51)) + b"end,1\n" * 60
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + good + stray)
    source = source_of(path)
    header = Header(dialect=COMMA, names=("a", "b"), data_start=4)
    confirmed, found = 4, []
    with pytest.raises(Unproven):  # noqa: PT012
        for slice_, _ in slices(source, header, slice_bytes=100, commit_bytes=None):
            found += rows(read(load_bytes(source, slice_), 2, COMMA))
            confirmed = slice_.start + slice_.length
    assert 0 < len(found) <= 50
    for slice_, _ in slices(source, header, start=confirmed, slice_bytes=100, commit_bytes=None, exact=True):
        parsed = read(load_bytes(source, slice_), 2, COMMA, exact=True, after_broken=slice_.after_broken)
        assert parsed.rejects == []
        found += rows(parsed)
    expected: list[Row] = [[str(i), f"x\n{i}"] for i in range(50)]
    expected += [[f'TV 4{i % 10}"', str(i)] for i in range(51)]
    assert found == expected + [["end", "1"]] * 60


def test_locate_finds_lines_of_any_records() -> None:
    data = b'1,"a\n\nb"\n\n2,\xff\r\n3,c'
    assert locate(data, COMMA, [2, 0, 1]) == [(6, 15, "3,c"), (1, 0, '1,"a\n\nb"'), (5, 10, "2,\\xff")]
    assert locate(data, COMMA, []) == []


# loading -------------------------------------------------------------------------------------------------------------


def test_file_that_changes_between_slicing_and_reading_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n" * 100)
    source = source_of(path)
    header = Header(dialect=COMMA, names=("a", "b"), data_start=0)
    slice_ = next(s for s, _ in slices(source, header, slice_bytes=100, commit_bytes=None))
    assert load_bytes(source, slice_) == b"1,2\n" * (slice_.length // 4)
    # The same size and time, as a file system with coarse times may show: only the checksum tells.
    path.write_bytes(b"1,3\n" * 100)
    os.utime(path, ns=(source.mtime_ns, source.mtime_ns))
    with pytest.raises(SourceError) as caught:
        load_bytes(source, slice_)
    assert caught.value.code == Reason.CHANGED_WHILE_READ


def test_decoded_bytes_that_change_in_the_spool_are_caught(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 100))
    source = source_of(path, Codec.GZIP)
    header = Header(dialect=COMMA, names=("a", "b"), data_start=0)
    slice_ = next(s for s, _ in slices(source, header, slice_bytes=100, commit_bytes=None, spool=tmp_path))
    assert slice_.spooled is not None
    assert load_bytes(source, slice_) == b"1,2\n" * (slice_.length // 4)
    Path(slice_.spooled).write_bytes(b"1,3\n" * (slice_.length // 4))
    with pytest.raises(SourceError) as caught:
        load_bytes(source, slice_)
    assert caught.value.code == Reason.CHANGED_WHILE_READ


@pytest.mark.parametrize("data", [b"1,2\n", b"1,2\n3,4\n5,6\n", b"1,2\n3,5\n"])
def test_file_that_is_not_the_scanned_one_is_not_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n3,4\n")
    source = source_of(path)
    assert read_file(source) == b"1,2\n3,4\n"
    path.write_bytes(data)
    os.utime(path, ns=(source.mtime_ns + 5_000, source.mtime_ns + 5_000))
    slice_ = Slice(index=0, start=0, length=8, first=True, last=True)
    for load in (lambda: load_bytes(source, slice_), lambda: read_file(source)):
        with pytest.raises(SourceError) as caught:
            load()
        assert caught.value.code == Reason.CHANGED_WHILE_READ
