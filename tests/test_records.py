"""Records that are not as the header says: rows in their place, rejects with theirs, or counted; and never less."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import assert_gone, finish, held_midway, kill
from oracle import Database
from tools import assert_counts_add_up, known, load, query, rejects, start, told, write_csv

from ingest import ragged, rescuing
from ingest.errors import UsageError
from ingest.model import ColumnType, Dialect, Fitted, Reason, RecordRules
from ingest.ragged import Fit
from ingest.reader import read
from ingest.settings import Budget, DeclaredType, Settings
from ingest.sifting import sift

COMMA = Dialect()


def text(*columns: list[str | None]) -> pa.Table:
    """A table of text, its columns named as the reader names them."""
    return pa.table({str(i): pa.array(column, pa.string()) for i, column in enumerate(columns)})


# the rescue column -------------------------------------------------------------------------------------------------

CELL = st.none() | st.text(alphabet='ab"\\\n\t\x01\x7f/é😀{', max_size=4)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 4).flatmap(lambda n: st.tuples(*[st.lists(CELL, min_size=n, max_size=n)] * 3)),
    st.dictionaries(st.integers(0, 3), st.dictionaries(st.integers(3, 5), CELL.filter(bool), min_size=1), max_size=3),
)
def test_rescue_column_is_json_that_says_what_was_there(
    columns: tuple[list[str | None], ...], extras: dict[int, dict[int, str]]
) -> None:
    table = text(*columns)
    extras = {row: values for row, values in extras.items() if row < table.num_rows}
    found = rescuing.column(table, ((0, "a"), (2, 'c"')), extras, None, ["a", "b", 'c"']).to_pylist()
    expected = []
    for row, (first, _, third) in enumerate(zip(*columns, strict=True)):
        values = {"a": first, 'c"': third} | {f"column_{at + 1}": v for at, v in extras.get(row, {}).items()}
        expected.append({name: value for name, value in values.items() if value is not None} or None)
    assert [None if one is None else json.loads(one) for one in found] == expected


def test_field_beyond_the_header_is_not_mistaken_for_a_column_of_its_name() -> None:
    (found,) = rescuing.column(text(["x"]), ((0, "column_2"),), {7: {1: "y"}}, pa.array([7]).to_numpy(), ["Column_2"])
    assert json.loads(found.as_py()) == {"column_2": "x", "column_2_2": "y"}


def test_values_of_records_that_are_no_rows_are_left_out_of_the_rescue_column() -> None:
    numbers = pa.array([2, 9]).to_numpy()
    found = rescuing.column(text(["x", "y"]), (), {1: {1: "a"}, 9: {1: "b"}, 12: {1: "c"}}, numbers, ["a"])
    assert found.to_pylist() == [None, '{"column_2": "b"}']


def test_nothing_to_rescue_is_null() -> None:
    assert rescuing.column(text(["x"]), (), {}, None, ["a"]).to_pylist() == [None]


# rows that are none ------------------------------------------------------------------------------------------------


def test_field_that_is_too_long_rejects_its_record_and_names_the_column() -> None:
    table = text(["a", "é" * 50, "b", None], ["x" * 100, "y", "x" * 101, "x" * 300])
    found = sift(table, ["p", "q"], RecordRules(max_field=100), None, Fit())
    assert found.table.to_pylist() == [{"0": "a", "1": "x" * 100}, {"0": "é" * 50, "1": "y"}]
    assert [(c.row, c.column, c.code, c.message) for c in found.bad] == [
        (2, "q", Reason.TOO_LONG, "a field of 101 bytes in column 'q'; --max-field allows 100"),
        (3, "q", Reason.TOO_LONG, "a field of 300 bytes in column 'q'; --max-field allows 100"),
    ]
    assert found.kept is not None
    assert found.kept.tolist() == [0, 1]


def test_value_beyond_the_last_column_can_be_too_long() -> None:
    parsed = read(b"1,2\n3\n4,5,666,7\n8,9,1\n", 2, COMMA, rules=RecordRules(rescue=True))
    found = sift(parsed.table, ["p", "q"], RecordRules(max_field=2), parsed.kept, parsed.fit)
    assert [(c.row, c.column, c.code) for c in found.bad] == [(1, None, Reason.TOO_LONG)]
    assert found.table.to_pylist() == [{"0": "1", "1": "2"}, {"0": "8", "1": "9"}]


def test_what_is_as_it_should_be_is_left_alone() -> None:
    table = text(["a", None], ["b", "c"])
    found = sift(table, ["p", "q"], RecordRules(max_field=1, discard_empty=True), None, Fit())
    assert found.table is table
    assert (found.kept, found.bad, found.discarded) == (None, (), 0)


@pytest.mark.parametrize(("rules", "rows"), [(RecordRules(), 4), (RecordRules(discard_empty=True), 2)])
def test_records_without_a_value_are_discarded_only_if_asked(rules: RecordRules, rows: int) -> None:
    """Whatever the number of their delimiters: what is short is filled up only to be left out."""
    parsed = read(b'1,2,3\n,,\n"",,\n,,,,\n,\n', 3, COMMA, rules=rules)
    found = sift(parsed.table, ["p", "q", "r"], rules, parsed.kept, parsed.fit)
    assert found.table.num_rows == rows
    assert found.discarded == (3 if rules.discard_empty else 0)
    assert len(parsed.rejects) == (0 if rules.discard_empty else 1)


def test_record_with_nothing_but_a_rescued_value_has_one() -> None:
    rules = RecordRules(rescue=True, discard_empty=True)
    parsed = read(b"1,2\n,,x\n,\n", 2, COMMA, rules=rules)
    found = sift(parsed.table, ["p", "q"], rules, parsed.kept, parsed.fit)
    assert (found.table.num_rows, found.discarded) == (2, 1)


def test_records_are_fitted_counted_and_put_where_they_were() -> None:
    data = b"0,a\n1\n2,b,,\n3,c,x\n\n4,d\n5,e,\n6\n"
    parsed = read(data, 2, COMMA, rules=RecordRules(pad=True))
    assert parsed.table.column(0).to_pylist() == ["0", "1", "2", "4", "5", "6"]
    assert parsed.kept is not None
    assert parsed.kept.tolist() == [0, 1, 2, 4, 5, 6]
    assert ragged.count(parsed.fit.ways, None) == Fitted(padded=2, trimmed=2)
    assert ragged.count(parsed.fit.ways, parsed.kept[:3]) == Fitted(padded=1, trimmed=1)


def test_values_beyond_the_last_column_can_be_given_back_what_stood_for_something_else() -> None:
    fitted = read(b"1,2,a~\n3,4\n5,6,~,,b\n", 2, COMMA, rules=RecordRules(rescue=True)).fit

    def restore(table: pa.Table) -> pa.Table:
        return table.set_column(0, "0", pc.replace_substring(table.column(0), "~", ";"))

    assert ragged.restored(fitted, restore).extras == {0: {2: "a;"}, 2: {2: ";", 4: "b"}}
    assert fitted.extras == {0: {2: "a~"}, 2: {2: "~", 4: "b"}}


def test_token_for_null_is_no_value_beyond_the_last_column() -> None:
    parsed = read(b'1,2,NA\n3,4,"NA"\n', 2, COMMA, null=["NA"])
    assert parsed.table.num_rows == 1
    assert [r.record for r in parsed.rejects] == [1]


def test_dirt_does_not_import_pandas() -> None:
    code = """
import sys
from ingest import reader, rescuing, sifting
from ingest.model import Dialect, RecordRules
rules = RecordRules(pad=True, rescue=True, discard_empty=True, max_field=3)
parsed = reader.read(b'a,b\\n1\\n2,3,"x\\n",,y\\n,\\n4444,5\\n6,7,\\n8,"9', 2, Dialect(), rules=rules, proven=True)
sifted = sifting.sift(parsed.table, ["a", "b"], rules, parsed.kept, parsed.fit)
rescuing.column(sifted.table, ((0, "a"),), parsed.fit.extras, parsed.kept[sifted.kept], ["a", "b"])
assert sifted.bad and sifted.discarded and parsed.rejects
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# loads -------------------------------------------------------------------------------------------------------------

HEADER = b"id,n,note\n"


def dirty(count: int, first: int = 0) -> tuple[bytes, Counter[tuple[object, ...]], Fitted]:
    """Records, every fifth of them ragged; the rows that they are; and in which ways."""
    lines, rows = [], Counter[tuple[object, ...]]()
    for i in range(first, first + count):
        line, note, more = [
            (f'{i},{i},"a\nb"', "a\nb", None),
            (f"{i},{i},x", "x", None),
            (f"{i},{i}", None, None),
            (f"{i},{i},x,,", "x", None),
            (f'{i},{i},x,,"é,"', "x", '{"column_5": "é,"}'),
        ][i % 15 % 5 if i % 3 == 0 else 1]
        lines.append(line + "\n")
        rows[i, i, note, more] += 1
    kinds = [i % 15 % 5 if i % 3 == 0 else 1 for i in range(first, first + count)]
    ways = Fitted(padded=kinds.count(2), trimmed=kinds.count(3), rescued=kinds.count(4))
    return "".join(lines).encode(), rows, ways


COLUMNS = "SELECT id, n, note, more FROM t"
KEEP: dict[str, object] = {"ragged": "pad", "rescue_column": "more"}


@pytest.mark.every_target
@pytest.mark.parametrize(("way", "bulk"), [("whole", "auto"), ("slices", "off"), ("exact", "auto"), ("gzip", "off")])
def test_ragged_records_are_rows_on_every_path(tmp_path: Path, db: Database, way: str, bulk: str) -> None:
    """And the rejects among them keep their lines, bytes and numbers."""
    data, rows, ways = dirty(300)
    more, later, others = dirty(300, 300)
    bad = b'x,1,"lo\nst"\n'
    if way == "exact":
        bad = b'7,7,"said "no" to it"\n' + bad
    path = tmp_path / ("t_1.csv.gz" if way == "gzip" else "t_1.csv")
    whole = HEADER + data + bad + more
    path.write_bytes(gzip.compress(whole) if way == "gzip" else whole)
    sizes = {} if way == "whole" else {"slice_bytes": 700, "commit_bytes": 2000}
    options = {"declared": (DeclaredType(column="id", type=ColumnType.BIGINT),), "max_rejects": Budget(count=2)}
    report = load(path, db, bulk=bulk, **options, **KEEP, **sizes)
    assert report.exit_code == 3, report.files
    assert Counter(query(db, COLUMNS)) == rows + later
    assert report.fitted == ways + others
    line, byte, record = 2 + data.count(b"\n"), len(HEADER) + len(data), 300
    expected = [(line, byte, record, "id", "bad_integer", 'x,1,"lo\nst"')]
    if way == "exact":
        quoted = (line, byte, record, None, "broken_quote", '7,7,"said "no" to it"')
        expected = [quoted, (line + 1, byte + 22, record + 1, *expected[0][3:])]
    assert [row[:6] for row in rejects(db)] == expected
    assert_counts_add_up(db)


def test_ragged_records_travel_in_bundles(tmp_path: Path, db: Database) -> None:
    folder, rows, ways = tmp_path / "data", Counter[tuple[object, ...]](), []
    folder.mkdir()
    for number in range(4):
        data, some, fitted = dirty(20, number * 20)
        (folder / f"t_{number}.csv").write_bytes(HEADER + data)
        rows += some
        ways.append(fitted)
    report = load(folder, db, **KEEP, empty_rows="discard")
    assert report.exit_code == 0, report.files
    assert [outcome.fitted for outcome in report.files] == ways
    assert Counter(query(db, COLUMNS)) == rows
    assert_counts_add_up(db)


def test_columns_that_the_table_lacks_are_rescued(tmp_path: Path, db: Database) -> None:
    """The rescue column is made as any new one; types are those that the table has, and the new columns get none."""
    write_csv(tmp_path / "t_1.csv", ["id", "n"], [[1, 2]])
    load(tmp_path / "t_1.csv", db)
    path = tmp_path / "t_2.csv"
    path.write_bytes(b'id,extra,n,"say ""so"""\n2,x,3,\n3,,4,"a\nb"\n4,,5,\n5,y,6,z,more\n')
    report = load(path, db, new_columns="rescue", rescue_column="rest")
    assert report.exit_code == 0, report.files
    found = query(db, "SELECT id, n, rest FROM t ORDER BY id")
    assert [(i, n, json.loads(rest) if rest else None) for i, n, rest in found] == [
        (1, 2, None),
        (2, 3, {"extra": "x"}),
        (3, 4, {'say "so"': "a\nb"}),
        (4, 5, None),
        (5, 6, {"extra": "y", 'say "so"': "z", "column_5": "more"}),
    ]
    assert known(db, path)["state"] == "loaded"


@pytest.mark.every_target
@pytest.mark.parametrize("rest", ["", ", rest integer", ", rest varchar(40)"])
def test_rescue_column_of_a_table_of_others_has_to_be_there_as_text(tmp_path: Path, db: Database, rest: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "n"], [[1, 2], [3, 4, "x"]])
    query(db, f"CREATE TABLE t (id integer, n integer{rest})")
    report = load(path, db, rescue_column="rest")
    if "varchar" in rest:
        assert report.exit_code == 0, report.files
        assert sorted(query(db, "SELECT id, n, rest FROM t")) == [(1, 2, None), (3, 4, '{"column_3": "x"}')]
    else:
        assert told(report) == {"t.csv": ("refused", "columns")}
        assert "rest" in report.files[0].sentence


def test_rescue_column_is_none_of_the_file(tmp_path: Path, db: Database) -> None:
    path = write_csv(tmp_path / "t.csv", ["id", "Rest"], [[1, 2]])
    assert told(load(path, db, rescue_column="rest")) == {"t.csv": ("refused", "header")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"new_columns": "rescue"},
        {"new_columns": "rescue", "rescue_column": "r", "transform": "m:f"},
        {"rescue_column": " "},
        {"rescue_column": "_ingest_file_id"},
        {"ragged": "fill"},
        {"empty_rows": "no"},
        {"max_field": 0},
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_long_fields_and_empty_records_end_where_they_are_told_to(tmp_path: Path, db: Database) -> None:
    """A record that is a reject decides no type: the column stays one of numbers."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,n\n1,2\n,\n3," + b"4" * 2000 + b"\n5,6\n,,,\n")
    options = {"max_field": 1000, "empty_rows": "discard", "max_rejects": Budget(count=1)}
    report = load(path, db, **options)
    assert report.exit_code == 3, report.files
    assert (report.rows, report.rejected, report.discarded) == (2, 1, 2)
    assert query(db, "SELECT id, n FROM t ORDER BY id") == [(1, 2), (5, 6)]
    ((line, byte, record, column, code, raw, applied),) = rejects(db)
    assert (line, byte, record, column, code, applied) == (4, 11, 2, "n", "too_long", 1)
    assert raw == "3," + "4" * 2000
    assert_counts_add_up(db)


@pytest.mark.parametrize(
    "more", [("--ragged", "pad"), ("--rescue-column", "more"), ()], ids=["ragged", "rescue", "same"]
)
def test_part_loaded_file_starts_again_when_its_records_are_to_become_others(
    tmp_path: Path, db: Database, more: tuple[str, ...]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HEADER + b"".join(b"%d,%d,note\n%d,%d,note,\n" % (i, i, i, i) for i in range(3000)))
    sizes = ("--slice-bytes", "4KiB", "--commit-bytes", "12KiB")
    run = start("load", path, "--to", db, "--progress", "none", *sizes, cwd=tmp_path, held=True)
    with held_midway(db, run) as found:
        kill(*found.all)
        assert_gone(found.all)
    finish(run)
    options = {more[0].lstrip("-").replace("-", "_"): more[1]} if more else {}
    report = load(path, db, **options)
    assert report.exit_code == 0, report.files
    assert report.files[0].action == ("reload" if more else "resume")
    assert query(db, "SELECT count(*), count(DISTINCT id) FROM t") == [(6000, 3000)]
    assert report.fitted.trimmed == 3000 if more else report.fitted.trimmed < 3000
