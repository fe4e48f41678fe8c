"""Conversion against an oracle that reads one value at a time with plain Python."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import arrow_type, column_type, convert, convert_table, fit
from ingest.errors import SourceError
from ingest.model import Column, ColumnType, Origin, Reason, Spelling

T = ColumnType
WORDS = {word: n < 5 for n, word in enumerate(["true", "t", "yes", "y", "1", "false", "f", "no", "n", "0"])}

AWKWARD = [
    *(
        "",
        "0",
        "-0",
        "+5",
        "+0",
        "007",
        "-007",
        "+007",
        "0x1F",
        "0X0",
        "-0x1",
        "--1",
        "+-1",
        "-",
        "+",
        ".",
        "-.",
        "٣",
        " 1",
        "1\n",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9" * 5000),
    *(
        "-0.0",
        ".5",
        "5.",
        "-.5",
        "00.5",
        "+1.5",
        "1e5",
        "1.5E-3",
        "1e",
        "e5",
        "1e400",
        "1e-400",
        "-2e-324",
        "3e-324",
        "0e-999",
        "0.000e-999",
        "nan",
        "-inf",
        "Infinity",
    ),
    *("123456789012345", "1234567890123456", "0.1234567890123456", "0.01234567890123", "0." + "0" * 320 + "1"),
    *("12.345", "12.300", "99999.5", "0.25", "0.00", "1.2.3"),
    *("0000-01-01", "0001-01-01", "9999-12-31", "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "2024-13-01"),
    *(
        "2024-00-10",
        "2024-01-00",
        "2024-1-05",
        "20240101",
        "10000-01-01",
        "2024-01-01\n",
        "2024-01-01 10",
        "2024-01-01T24:00",
    ),
    *(
        "2024-01-01 23:59",
        "2024-01-01T23:59:59.999999",
        "2024-01-01 23:60",
        "2024-01-01 23:59:60",
        "2024-01-01 10:00:00.",
    ),
    *(
        "2024-01-01 10:00:00.1234567",
        "2024-01-01 10:00Z",
        "2024-01-01 10:00:00+01:00",
        "2024-02-30 10:00",
        "0000-01-01 10:00",
    ),
    *(
        "00:00",
        "09:30",
        "23:59:59.9",
        "23:59:59.999999",
        "9:30",
        "24:00",
        "12:60",
        "12:00:60",
        "12:00:00.1234567",
        "12:",
    ),
    *(
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
    ),
    *("Yes", "NO", "tRUE", "f", "y", "N", "TRUE", "no ", "true\x00", "é"),
]

values = st.one_of(
    st.text("0123456789-+.eE", max_size=8),
    st.text("0159.-", max_size=24),
    st.integers(-(10**20), 10**20).map(str),
    st.integers(-(2**63) - 2, -(2**63) + 2).map(str),
    st.integers(2**63 - 3, 2**63 + 2).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**14), max_value=10**14).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.from_regex(r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]", fullmatch=True),
    st.from_regex(
        r"2024-02-(28|29|30)[T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,8})?)?(Z|\+01:00)?", fullmatch=True
    ),
    st.times().map(str),
    st.uuids().map(str),
    st.sampled_from(AWKWARD),
)
cells = st.lists(st.none() | values, max_size=12)


def text(items: list[str | None]) -> pa.ChunkedArray:
    """The items behind a slice's offset and in two chunks: what a column looks like in the worst case."""
    cut = len(items) // 2
    padded = pa.array(["7", None, *items[:cut], "8"], pa.string())
    return pa.chunked_array([padded.slice(2, cut), pa.array(items[cut:], pa.string())])


def oracle(value: str | None, column: Column) -> object:
    """The value that a cell becomes, or the Reason why it cannot."""
    if column.type is T.TEXT:
        return value
    if not value:
        return None
    return {
        T.BIGINT: integer,
        T.DOUBLE: number,
        T.BOOLEAN: boolean,
        T.DATE: day,
        T.TIMESTAMP: moment,
        T.DECIMAL: decimal,
        T.TIME: clock,
        T.UUID: uuid,
    }[column.type](value, column)


def integer(value: str, column: Column) -> object:
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        return Reason.BAD_INTEGER
    if column.strict and not re.fullmatch(r"0|-?[1-9][0-9]*", value):
        return Reason.LOSSY
    whole = int(Decimal(value)) if len(value) > 100 else int(value)
    return whole if -(2**63) <= whole < 2**63 else Reason.BAD_INTEGER


def significant(value: str) -> int:
    return len(re.sub(r"[-.]", "", value).lstrip("0"))


def number(value: str, column: Column) -> object:
    if column.strict:
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", value):
            return Reason.BAD_NUMBER
        canonical = re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", value)
        if not canonical or significant(value) > 15 or len(canonical[2] or "") > 301:
            return Reason.LOSSY
    elif not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        return Reason.BAD_NUMBER
    lost = float(value) == 0 and re.search("[1-9]", re.split("[eE]", value)[0])
    return float(value) if math.isfinite(float(value)) and not lost else Reason.BAD_NUMBER


def boolean(value: str, column: Column) -> object:
    return WORDS.get(value.lower(), Reason.BAD_BOOLEAN) if value.isascii() else Reason.BAD_BOOLEAN


def day(value: str, column: Column) -> object:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return Reason.BAD_DATE
    try:
        return date.fromisoformat(value)
    except ValueError:
        return Reason.BAD_DATE


def moment(value: str, column: Column) -> object:
    match = re.fullmatch(
        r"([0-9-]{10})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?(Z|\+01:00)?)?", value
    )
    found = day(match[1], column) if match else Reason.BAD_DATE
    if not isinstance(found, date) or match is None or match[6] or (column.strict and not match[2]):
        return Reason.BAD_TIMESTAMP
    try:
        whole = datetime(found.year, found.month, found.day, int(match[2] or 0), int(match[3] or 0), int(match[4] or 0))
    except ValueError:
        return Reason.BAD_TIMESTAMP
    if len(match[5] or "") > 6:
        return Reason.LOSSY
    return whole.replace(microsecond=int((match[5] or "").ljust(6, "0")))


def decimal(value: str, column: Column) -> object:
    match = re.fullmatch(r"-?([0-9]+)(?:\.([0-9]+))?", value)
    if not match:
        return Reason.BAD_NUMBER
    if column.strict and re.match("0[0-9]", match[1]):
        return Reason.LOSSY
    if column.precision is not None and column.scale is not None:
        number, digits = Decimal(value).normalize(Context(prec=2_000)), column.precision - column.scale
        if number and number.adjusted() >= digits:
            return Reason.BAD_NUMBER
        if number and int(number.as_tuple().exponent) < -column.scale:
            return Reason.LOSSY
    return value


def clock(value: str, column: Column) -> object:
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?", value)
    if not match or int(match[1]) > 23 or int(match[2]) > 59 or int(match[3] or 0) > 59:
        return Reason.BAD_TIME
    return f"{match[1]}:{match[2]}:{match[3] or '00'}.{(match[4] or '').ljust(6, '0')}"


def uuid(value: str, column: Column) -> object:
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value, re.IGNORECASE):
        return Reason.BAD_UUID
    return value.lower() if not column.strict or value == value.lower() else Reason.LOSSY


def same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return type(a) is type(b) and a == b


COLUMNS = [
    Column(name="c", type=kind, strict=strict, precision=precision, scale=scale)
    for kind in T
    for strict in (True, False)
    for precision, scale in (
        [(None, None), (6, 2), (2, 2), (18, 0), (3, -2), (2, 3)] if kind is T.DECIMAL else [(None, None)]
    )
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: f"{c.type}-{c.strict}-{c.precision}-{c.scale}")
@settings(deadline=None, max_examples=60)
@given(items=cells)
def test_a_column_becomes_what_plain_python_reads(column: Column, items: list[str | None]) -> None:
    check(items, column)
    # Alone, a value that fits takes the clean way, which a mixed column hardly ever does.
    for item in items:
        check([item], column)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: f"{c.type}-{c.strict}-{c.precision}")
def test_awkward_values_become_what_plain_python_reads(column: Column) -> None:
    check(AWKWARD, column)
    for value in AWKWARD:
        check([value], column)


def check(items: list[str | None], column: Column) -> None:
    converted = convert(text(items), column)
    reasons = {row: fault.code for fault in converted.faults for row in fault.rows.tolist()}
    assert sum(len(fault.rows) for fault in converted.faults) == len(reasons)
    assert converted.array.type == arrow_type(column)
    expected = [oracle(item, column) for item in items]
    got = [reasons.get(row, value) for row, value in enumerate(converted.array.to_pylist())]
    assert all(same(a, b) for a, b in zip(got, expected, strict=True)), (items, got, expected)
    bad = converted.bad
    assert (bad is None and not reasons) or sorted(reasons) == np.flatnonzero(bad).tolist()


def test_empty_string_stays_in_text_and_is_null_elsewhere() -> None:
    for kind in T:
        column = Column(name="c", type=kind, strict=True)
        assert convert(text(["", None]), column).array.to_pylist() == ["" if kind is T.TEXT else None, None]


def test_missing_value_of_a_not_null_column_is_rejected_once() -> None:
    column = Column(name="n", type=T.BIGINT, nullable=False)
    converted = convert(text(["1", None, "", "x"]), column)
    found = sorted((row, fault.code) for fault in converted.faults for row in fault.rows.tolist())
    assert found == [(1, Reason.NOT_NULL), (2, Reason.NOT_NULL), (3, Reason.BAD_INTEGER)]
    clean = convert(text(["a", None]), Column(name="n", type=T.TEXT, nullable=False))
    assert [fault.rows.tolist() for fault in clean.faults] == [[1]]


def test_message_names_column_and_next_step_but_never_the_value() -> None:
    ours = Column(name="unit price", type=T.DOUBLE, origin=Origin.INFERRED, strict=True)
    (fault,) = convert(text(["1.5", "SECRET"]), ours).faults
    assert "'unit price' is double" in fault.message
    assert "--type 'unit price=text'" in fault.message
    assert "SECRET" not in fault.message
    theirs = Column(name="price", type=T.DOUBLE)
    assert "--type" not in convert(text(["SECRET"]), theirs).faults[0].message


@pytest.mark.parametrize(
    ("native", "origin", "shown"),
    [
        ("smallint", Origin.EXISTING, "smallint"),
        ("", Origin.EXISTING, "bigint"),
        ("int(11)", Origin.INFERRED, "bigint"),
        ("x" * 70, Origin.EXISTING, "x" * 59 + "…"),
    ],
)
def test_message_names_the_type_as_its_reader_knows_it(native: str, origin: Origin, shown: str) -> None:
    (fault,) = convert(text(["x"]), Column(name="c", type=T.BIGINT, native=native, origin=origin)).faults
    assert f"column 'c' is {shown} and the value is no whole number" in fault.message


def test_bytes_hidden_under_a_null_are_not_read() -> None:
    full = pa.array(["007", "x", "1.5"])
    hidden = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x04"), *full.buffers()[1:]])
    assert hidden.to_pylist() == [None, None, "1.5"]
    for strict in (True, False):
        converted = convert(hidden, Column(name="c", type=T.DOUBLE, strict=strict))
        assert converted.array.to_pylist() == [None, None, 1.5]
        assert not converted.faults


def test_bad_rows_leave_the_table_and_each_is_told_once() -> None:
    table = pa.table({"x": ["1", "a", "3", "b", None], "y": ["2024-01-01", "2024-02-30", "x", "2024-01-02", ""]})
    columns = [Column(name="n", type=T.BIGINT), Column(name="d", type=T.DATE)]
    typed = convert_table(table, columns)
    assert typed.table.to_pydict() == {"n": [1, None], "d": [date(2024, 1, 1), None]}
    assert [(b.row, b.column, b.code) for b in typed.bad] == [
        (1, "n", Reason.BAD_INTEGER),
        (2, "d", Reason.BAD_DATE),
        (3, "n", Reason.BAD_INTEGER),
    ]
    assert typed.kept is not None
    assert typed.kept.tolist() == [0, 4]


def test_clean_table_keeps_every_row_and_takes_the_columns_names() -> None:
    typed = convert_table(
        pa.table({"x": ["1"], "y": ["a"]}), [Column(name="n", type=T.BIGINT), Column(name="t", type=T.TEXT)]
    )
    assert (typed.table.to_pydict(), typed.bad, typed.kept) == ({"n": [1], "t": ["a"]}, (), None)
    empty = convert_table(pa.table({"x": pa.chunked_array([], pa.string())}), [Column(name="n", type=T.DECIMAL)])
    assert (empty.table.num_rows, empty.bad) == (0, ())


def test_conversion_does_not_import_pandas() -> None:
    code = """
import sys, io
import pyarrow as pa, pyarrow.csv as pv
from ingest.columns import convert_table
from ingest.inference import profile
from ingest.model import Column, ColumnType, Spelling
data = b"a,b,c,d,e,f,g,h,i,j\\n1,1.5,t,2024-01-01,2024-01-01 10:00,1.25,10:00,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,"
data += b"31/Jan/24,1.2\\nx,x,x,x,x,x,x,x,x,x\\n,,,,,,,,,\\n007,.5,f,2024-02-30,2024-01-01,1.1234,1:00,A,30/Feb/24,2\\n"
kinds = [k for k in ColumnType if k is not ColumnType.TEXT]
names = pa.schema([(n, pa.string()) for n in "abcdefghij"])
table = pv.read_csv(io.BytesIO(data), convert_options=pv.ConvertOptions(column_types=names))
for strict in (True, False):
    columns = [Column(name=k.value, type=k, strict=strict, precision=4, scale=2) for k in kinds]
    spelling = Spelling(moment="%d/%b/%y", decimal=",", thousands=".", null=("x",))
    columns += [Column(name=k.value, type=k, spelling=spelling) for k in (ColumnType.DATE, ColumnType.BIGINT)]
    for rows in (table, table.slice(0, 1)):
        convert_table(rows, columns)
        [p.decide() for p in profile(rows) + profile(rows, columns)]
assert "pandas" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int8(), T.BIGINT),
        (pa.uint64(), T.BIGINT),
        (pa.float32(), T.DOUBLE),
        (pa.decimal128(10, 2), T.DECIMAL),
        (pa.bool_(), T.BOOLEAN),
        (pa.date32(), T.DATE),
        (pa.date64(), T.DATE),
        (pa.timestamp("ns"), T.TIMESTAMP),
        (pa.timestamp("us", "UTC"), T.TEXT),
        (pa.large_string(), T.TEXT),
        (pa.dictionary(pa.int8(), pa.string()), T.TEXT),
        (pa.null(), T.TEXT),
    ],
)
def test_types_of_a_transform_have_a_column_type(arrow: pa.DataType, kind: ColumnType) -> None:
    assert column_type(arrow) is kind


@pytest.mark.parametrize("arrow", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.binary(), pa.time64("us")])
def test_types_that_no_table_holds_are_refused(arrow: pa.DataType) -> None:
    with pytest.raises(SourceError) as caught:
        fit(pa.table({"c": pa.nulls(1, arrow)}), [Column(name="c", type=T.TEXT)])
    assert caught.value.code == Reason.TRANSFORM
    assert "'c'" in caught.value.message


NOON = datetime(2024, 1, 1, 12)


@pytest.mark.parametrize(
    ("given_values", "kind", "expected"),
    [
        (pa.array([1, None], pa.int8()), T.BIGINT, [1, None]),
        (pa.array([1, 2**63], pa.uint64()), T.BIGINT, [1, Reason.BAD_INTEGER]),
        (
            pa.array([1.0, 1.5, 2.0**63, math.nan, math.inf]),
            T.BIGINT,
            [1, Reason.LOSSY, Reason.BAD_INTEGER, None, Reason.BAD_INTEGER],
        ),
        (pa.array([Decimal("5.00"), Decimal("5.10"), None]), T.BIGINT, [5, Reason.BAD_INTEGER, None]),
        (pa.array(["1", "x"]), T.BIGINT, [1, Reason.BAD_INTEGER]),
        (pa.array([True]), T.BIGINT, [Reason.BAD_INTEGER]),
        (pa.array([1, 2**53, 2**53 + 1, -(2**63)]), T.DOUBLE, [1.0, 2.0**53, Reason.LOSSY, Reason.LOSSY]),
        (pa.array([2**64 - 1], pa.uint64()), T.DOUBLE, [Reason.LOSSY]),
        (pa.array([0.5, math.nan, math.inf]), T.DOUBLE, [0.5, None, Reason.BAD_NUMBER]),
        (pa.array([0.5], pa.float32()), T.DOUBLE, [0.5]),
        (pa.array([Decimal("1.5")]), T.DOUBLE, [1.5]),
        (pa.array([1, 0, 2]), T.BOOLEAN, [True, False, Reason.BAD_BOOLEAN]),
        (pa.array([True, None]), T.BOOLEAN, [True, None]),
        (pa.array([date(2024, 1, 1)]), T.TIMESTAMP, [datetime(2024, 1, 1)]),
        (pa.array([datetime(2024, 1, 1), NOON]), T.DATE, [date(2024, 1, 1), Reason.LOSSY]),
        (pa.array([date(2024, 1, 1), None], pa.date64()), T.DATE, [date(2024, 1, 1), None]),
        (pa.array([10**12, 10**15], pa.timestamp("s")), T.TIMESTAMP, [Reason.BAD_TIMESTAMP, Reason.BAD_TIMESTAMP]),
        (pa.array([NOON], pa.timestamp("s")), T.TIMESTAMP, [NOON]),
        (pa.array([1000, 1001], pa.timestamp("ns")), T.TIMESTAMP, [datetime(1970, 1, 1, 0, 0, 0, 1), Reason.LOSSY]),
        (pa.array([3, None]), T.DATE, [Reason.BAD_DATE, None]),
        (pa.array([NOON.replace(tzinfo=UTC)], pa.timestamp("s", "UTC")), T.TEXT, ["2024-01-01 12:00:00Z"]),
        (pa.array([1, None]), T.TEXT, ["1", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), T.TEXT, ["a", "b", "a"]),
        (pa.array([Decimal("1E-10"), None, Decimal(7)]), T.DECIMAL, ["0.0000000001", None, "7.0000000000"]),
        (pa.array([1e22, 0.25, math.inf]), T.DECIMAL, ["10000000000000000000000", "0.25", Reason.BAD_NUMBER]),
        (pa.nulls(1), T.BIGINT, [None]),
    ],
)
def test_what_a_transform_returns_fits_or_is_rejected(
    given_values: pa.Array, kind: ColumnType, expected: list[object]
) -> None:
    column = Column(name="c", type=kind)
    typed = fit(pa.table({"c": given_values}), [column])
    assert {b.row: b.code for b in typed.bad} == {n: e for n, e in enumerate(expected) if isinstance(e, Reason)}
    assert typed.table.column("c").type == arrow_type(column)
    assert typed.table.column("c").to_pylist() == [e for e in expected if not isinstance(e, Reason)]


def test_what_sqlite_would_make_another_number_of_does_not_fit_its_numeric_columns() -> None:
    word = ["007", "1.10", " 5", "1e3", "+1", "5.", "12345678901234567890", "0.1234567890123456789"]
    kept = ["7", "-1.5", "0.30000000000000004", "9223372036854775807", "x1", "09:30", "", None]
    column = Column(name="c", type=T.TEXT, native="JSON", numeric=True)
    typed = convert_table(pa.table({"c": text([*word, *kept])}), [column])
    assert [(bad.row, bad.code) for bad in typed.bad] == [(n, Reason.LOSSY) for n, _ in enumerate(word)]
    assert typed.table.column("c").to_pylist() == kept
    column = Column(name="c", type=T.DECIMAL, native="NUMERIC", numeric=True)
    values = ["007", "1.10", "-9223372036854775808", "100000000000000000000", "12345678901234567890", None]
    (bad,) = convert_table(pa.table({"c": text(values)}), [column]).bad
    assert (bad.row, bad.code) == (4, Reason.LOSSY)
    assert bad.message == "column 'c' is NUMERIC and more than 15 digits would be lost"


def test_a_transform_may_return_unsigned_numbers() -> None:
    column = Column(name="c", type=T.BIGINT, bits=64, unsigned=True)
    for numbers, kind in (([2**64 - 1, None], pa.uint64()), ([5, None], pa.int64()), ([5, None], pa.float64())):
        typed = fit(pa.table({"c": pa.array(numbers, kind)}), [column])
        assert (typed.table.column("c").to_pylist(), typed.bad) == (numbers, ())
    (bad,) = fit(pa.table({"c": pa.array([-1], pa.int8())}), [column]).bad
    assert (bad.code, "negative" in bad.message) == (Reason.BAD_INTEGER, True)


def test_transform_columns_go_by_name_and_missing_ones_are_null() -> None:
    columns = [Column(name="a", type=T.BIGINT), Column(name="b", type=T.TEXT), Column(name="m", type=T.DATE)]
    typed = fit(pa.table({"b": ["x"], "a": [1]}), columns)
    assert typed.table.to_pydict() == {"a": [1], "b": ["x"], "m": [None]}


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a"]])
def test_transform_columns_without_a_place_are_refused(names: list[str]) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=names)
    with pytest.raises(SourceError, match="transform"):
        fit(table, [Column(name="a", type=T.BIGINT)])


EVERY = frozenset({T.DATE, T.BIGINT, T.DOUBLE})


@pytest.mark.parametrize(
    ("kind", "items", "kept"),
    [
        (T.BIGINT, ["+7", "-0", "007"], True),
        (T.DATE, ["2024-02-29", "0001-01-01"], True),
        (T.DOUBLE, [".5", "-1.25", "1234567890.12345"], True),
        (T.DOUBLE, ["1", "1234567890.123456"], False),  # 16 digits
        (T.DOUBLE, ["1", "1e5"], False),
        (T.DOUBLE, ["1", "1E5"], False),
    ],
)
def test_what_is_staged_as_text_stays_what_was_written_where_nobody_can_read_it_otherwise(
    kind: ColumnType, items: list[str], kept: bool
) -> None:
    column = Column(name="c", type=kind, spelling=Spelling(null=("NULL",)))
    array = text(["1e9", *items, "", None, "NULL", "XYZ"]).slice(1)
    typed, written = convert(array, column), convert(array, column, as_written=EVERY)
    assert [fault.rows.tolist() for fault in written.faults] == [[len(items) + 3]]
    assert written.array.to_pylist() == ([*items, *[None] * 4] if kept else typed.array.to_pylist())
    assert written.array.type == (pa.string() if kept else typed.array.type)
    assert convert(array, column, as_written=EVERY - {kind}).array.type == typed.array.type


@pytest.mark.parametrize(
    ("native", "cut"),
    [
        ("time", ["10:00:05.5", "10:00.5", "10.5", "2024.001"]),
        ("timestamp(0) with time zone", ["10:00:05.5", "10:00.5"]),  # to which 2024.001 is a day
    ],
)
def test_a_fraction_of_a_second_is_told_from_dates_with_points(native: str, cut: list[str]) -> None:
    items = ["10:00:05.5", "10:00.5", "10.5", "2024.001", "10:00:05.000", "10:00"]
    if native != "time":
        items += ["01.02.2024 10:00:00+01"]
    found = convert(text(items), Column(name="c", type=T.TEXT, scale=0, native=native))
    assert [items[row] for fault in found.faults for row in fault.rows] == cut
