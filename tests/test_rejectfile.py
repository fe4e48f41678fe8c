"""The CSV that rejects travel in: cells are split by the same rules as files, and come back as they were written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import quoting
from ingest.model import Dialect, Reason
from ingest.recordtext import EMPTY, PLAIN, Cell, is_bare, read, record, written
from ingest.rejectfile import Open, Written, write

DIALECTS = [PLAIN, Dialect(delimiter="||"), Dialect(delimiter=";", escape="\\"), Dialect(quote="'", delimiter="\t")]
CELLS = st.lists(st.builds(Cell, st.text("ab,;|\"'\\\t\r\n ", max_size=6), st.booleans()), min_size=1, max_size=5)


@settings(deadline=None)
@given(CELLS, st.sampled_from(DIALECTS))
def test_cells_come_back_as_they_were_written(cells: list[Cell], dialect: Dialect) -> None:
    if cells == [EMPTY]:
        return  # a blank line is no record
    found = record(written(cells, dialect), dialect)
    assert found is not None
    assert [cell.text for cell in found] == [cell.text for cell in cells]
    assert all(after.quoted >= before.quoted for after, before in zip(found, cells, strict=True))


@settings(deadline=None)
@given(st.text('ab,"', min_size=1))
def test_a_record_has_the_fields_that_a_file_would_have(text: str) -> None:
    cells, fields = record(text, PLAIN), quoting.fields(text.encode(), PLAIN)
    assert (cells is None) == (fields is None)
    assert cells is None or [cell.text.encode() for cell in cells] == fields


@settings(deadline=None)
@given(st.lists(CELLS, max_size=4))
def test_what_is_written_is_read_by_other_programs(rows: list[list[Cell]]) -> None:
    rows = [row for row in rows if not is_bare(row)]
    text = "".join(written(row) + "\n" for row in rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [[cell.text for cell in row] for row in rows]
    numbers = [line.number for line in read(text, PLAIN)]
    ends = [0, *(len(written(row).replace("\r\n", "\n").replace("\r", "\n").split("\n")) for row in rows)]
    assert numbers == [1 + sum(ends[: n + 1]) for n in range(len(rows))]


def reject(raw: str, reason: str = Reason.BAD_INTEGER, names: str = "ab", mended: str | None = None) -> Open:
    header = Written(names=tuple(names), dialect=Dialect(delimiter=";"), null=("N,A",))
    return Open(reject_id=1, file="f", line=2, reason=reason, raw=raw, mended=mended, written=header)


@pytest.mark.parametrize(
    ("one", "columns", "cells"),
    [
        (reject("1;x"), "ab", "1,x"),
        (reject("1;x"), "ba", "x,1"),
        (reject("1"), "ab", "1"),
        (reject("1;2;3"), "abc", "1,2,3"),
        (reject("1;2;3"), "ba", "1;2;3"),
        (reject('1;"x'), "ab", '"1;""x"'),
        (reject("1;ab… (70 bytes)"), "ab", "1;ab… (70 bytes)"),
        (reject('N,A;"N,A"'), "ab", ',"N,A"'),  # quoted, it would be no NULL
        (reject("1;x", mended='"7,5",'), "ab", '"7,5",'),
        (reject("1;x", mended="1,2;,3"), "ba", '"1;""2;"";3"'),
    ],
)
def test_a_reject_is_written_in_its_own_fields_or_whole(one: Open, columns: str, cells: str) -> None:
    out = io.StringIO()
    first = Written(names=tuple(columns), dialect=PLAIN)
    assert write([one], [first, one.written], out) == 1
    assert out.getvalue().splitlines()[1] == f"1,f,2,bad_integer,{cells}"


@pytest.mark.parametrize(
    ("one", "given", "columns", "width", "found"),
    [
        (reject("1;x"), "1,2", "ab", 2, "1,2"),
        (reject("1;x"), "1,2,,", "ab", 4, "1,2"),
        (reject("1;x"), "1,2,,", "ab", 2, "1,2,,"),
        (reject("1;x"), "1,2,,3", "ab", 4, "1,2,,3"),
        (reject("1;x"), "2,,1", "bca", 3, "1,2"),
        (reject("1;x"), "2,3,1", "bca", 3, "1,2,3"),
        (reject("1;x"), "1", "ab", 2, "1"),
        # A spreadsheet fills up lines with empty cells, and drops quotes: there are too few fields still.
        (reject("1;", names="abc"), "1,,", "abc", 3, "1,"),
        (reject('"";N,A', names="abc"), ",,", "abc", 3, '"","N,A"'),
        (reject("1;", names="abc"), '1,,""', "abc", 3, '1,,""'),
        (reject("1"), '"1;2",,', "ba", 4, "1,2"),
        (reject("1", mended="1,2"), '"1;2"', "ba", 2, "1,2"),
        (reject('1;"x', Reason.BROKEN_QUOTE), '"1;""x"""', "ab", 2, '1,"x"'),
        (reject('1;"x', Reason.BROKEN_QUOTE), "1,x", "ab", 2, "1,x"),
        (reject('1;"x', Reason.BROKEN_QUOTE), '"1;""x"', "ab", 2, None),
        (reject("1;ab… (70 bytes)"), "1;ab… (70 bytes)", "ab", 2, None),
        (reject("1;\\xe9", Reason.BAD_BYTE), "1,\\xe9", "ab", 2, None),
        (reject("1;\\x00", Reason.NUL_BYTE), "1,\\x00", "ab", 2, None),
        (reject("1;\\xe9"), "1,\\xe9", "ab", 2, "1,\\xe9"),
    ],
)
def test_what_is_given_for_a_reject(one: Open, given: str, columns: str, width: int, found: str | None) -> None:
    cells = record(given, PLAIN)
    assert cells is not None
    told = one.given(cells, tuple(columns), width)
    assert isinstance(told, str) if found is None else (not isinstance(told, str) and written(told) == found)
