"""The table of types (design decision D14): never lossy, mergeable, and the same as plain Python would decide."""

from __future__ import annotations

import contextlib
import pickle
import re
from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import convert
from ingest.inference import profile, profile_column
from ingest.model import Column, ColumnType, Origin, Spelling
from ingest.patterns import DATES, MONTHS, SPELLINGS
from ingest.profiles import ColumnProfile, merge

T = ColumnType

# Narrow pools: most columns drawn from one of them have a type, most drawn from several do not.
integers = st.integers(-(10**18), 10**18).map(str) | st.sampled_from(["0", "7", "-7", "9" * 18, "9" * 19])
decimals = st.tuples(st.integers(-999, 999), st.integers(0, 99)).map(lambda n: f"{n[0]}.{n[1]:02}")
versions = st.sampled_from(
    ["1.9", "1.10", "1.1", "2", "2.0", "-0.00", "-0", "0.5", "0." + "0" * 16 + "1", "1234567890.123456"]
)
numbers = st.sampled_from(
    ["007", "00.5", "+5", ".5", "5.", "1e5", "nan", "-Inf", "1.2.3", "1-2", "-", ".", "-.5", "00.", "+", "e"]
)
words = st.sampled_from(
    ["true", "false", "True", "False", "TRUE", "t", "f", "T", "F", "yes", "no", "Yes", "No", "NO", "tRUE"]
)
days = st.dates().map(str) | st.sampled_from(["2024-02-30", "0000-01-01", "2024-02-29"])
moments = st.datetimes().map(str) | st.sampled_from(
    ["2024-01-01T10:00", "2024-01-01 10", "2024-01-01 25:00", "2024-01-01 10:00:00Z", "2024-01-01 10:00:00.1234567+01"]
)
junk = st.text(max_size=4) | st.text("0123456789.-+eE", max_size=6)
nothing = st.none() | st.just("")
clocks = st.times().map(str) | st.sampled_from(["09:30", "9:30", "23:59", "24:00", "10:00:60"])
uuids = st.uuids().map(str) | st.sampled_from(["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"])
spelled = st.one_of(
    st.dates(date(1900, 1, 1)).flatmap(
        lambda d: st.sampled_from([d.strftime(p) for p in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y")])
    ),
    st.sampled_from(
        ["1/2/2024", "31/1/2024", "1/31/2024", "30/2/2024", "0/1/2024", "2024-1-5", "1 Sept 2024", "1/2/24"]
    ),
    st.sampled_from(["31/01/2024 10:30", "31/01/2024 10:30:01.5", "1/31/2024 1:05 PM", "1/31/2024 13:05 PM"]),
)
pools = [clocks, uuids, spelled, integers, decimals, versions, numbers, words, days, moments, junk]
columns = st.one_of(
    *[st.lists(pool | nothing if gaps else pool, max_size=8) for pool in pools for gaps in (True, False)],
    st.lists(st.one_of(*pools, nothing), max_size=8),
)


def text(items: list[str | None]) -> pa.Array:
    return pa.array(items, pa.string())


def decide(*items: str | None) -> tuple[ColumnType, str]:
    verdict = profile_column(text(list(items))).decide()
    return verdict.type, verdict.note


def is_day(value: str) -> bool:
    try:
        return bool(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)) and bool(date.fromisoformat(value))
    except ValueError:
        return False


def is_moment(value: str) -> bool:
    match = re.fullmatch(r"([0-9-]{10})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,6})?)?", value)
    if not match or not is_day(match[1]):
        return False
    return int(match[2]) < 24 and int(match[3]) < 60 and int(match[4] or 0) < 60


def is_clock(value: str) -> bool:
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,6})?)?", value)
    return bool(match) and int(match[1]) < 24 and int(match[2]) < 60 and int(match[3] or 0) < 60


def read(value: str, pattern: str) -> datetime | None:
    """What Python's own strptime makes of a value, in any of the forms that the brackets allow."""
    forms = {pattern}
    while any("[" in form for form in forms):
        forms = {re.sub(r"\[([^[\]]*)\]", by, f, count=1) for f in forms for by in (r"\1", "")}
    short = {month[:3]: month[:3] for month in MONTHS} | {month: month[:3] for month in MONTHS} | {"sept": "sep"}
    value = re.sub(r"[A-Za-z]{3,}", lambda m: short.get(m[0].lower(), m[0]), value)
    for form in forms:
        # strptime takes any number of blanks, and fewer digits of a minute or a second.
        text = re.sub(r"%([a-zA-Z])", lambda m: DIGITS[m[1]], form.replace(".", r"\."))
        if re.fullmatch(text, value):
            with contextlib.suppress(ValueError):
                return datetime.strptime(value, form)
    return None


DIGITS = dict.fromkeys("mdHI", "[0-9]{1,2}") | dict.fromkeys("yMS", "[0-9]{2}")
DIGITS |= {"Y": "[0-9]{4}", "f": "[0-9]{1,6}", "b": "[A-Za-z]+", "p": "[AaPp][Mm]"}


def is_double(values: list[str]) -> bool:
    matches = [re.fullmatch(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?", value) for value in values]
    if any(m is None or len(re.sub(r"[-.]", "", m[0]).lstrip("0")) > 15 for m in matches):
        return False
    places = [(m[2] or "") for m in matches if m]
    same_length = len({len(p) for p in places}) == 1
    return any(places) and (same_length or not any(p.endswith("0") for p in places))


def oracle(items: list[str | None]) -> tuple[ColumnType, Origin]:
    values = [item for item in items if item]
    pairs = [
        (case(y), case(n))
        for y, n in (("true", "false"), ("t", "f"), ("yes", "no"))
        for case in (str.lower, str.title, str.upper)
    ]
    if not values:
        return T.TEXT, Origin.UNDECIDED
    kind = T.TEXT
    if all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", v) for v in values):
        kind = T.BIGINT
    elif is_double(values):
        kind = T.DOUBLE
    elif any(set(values) == {*p} or (len(p[0]) == 4 and set(values) <= {*p}) for p in pairs):
        kind = T.BOOLEAN
    elif all(map(is_day, values)):
        kind = T.DATE
    elif all(map(is_moment, values)):
        kind = T.TIMESTAMP
    elif len(fits := [p for p in SPELLINGS if all(read(v, p) for v in values)]) == 1 and "%y" not in fits[0]:
        kind = T.DATE if fits[0] in DATES else T.TIMESTAMP
        days = [re.split(r"[ T]\d+:", v)[0] for v in values]
        if all(any(re.search(rf"(?<![0-9]){digits}(?![0-9])", d) for d in days) for digits in ("0[0-9]", "[1-9]")):
            kind = T.TEXT
    elif len({len(v) for v in values}) == 1 and all(map(is_clock, values)):
        kind = T.TIME
    elif all(v == v.lower() and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", v) for v in values):
        kind = T.UUID
    return kind, Origin.INFERRED


@settings(deadline=None, max_examples=600)
@given(columns)
def test_the_type_is_what_plain_python_decides(items: list[str | None]) -> None:
    verdict = profile_column(text(items)).decide()
    assert (verdict.type, verdict.origin) == oracle(items), items


@settings(deadline=None, max_examples=300)
@given(columns, columns, columns)
def test_profiles_of_pieces_merge_to_the_profile_of_the_whole(a: list, b: list, c: list) -> None:
    one, two, three = (profile_column(text(items)) for items in (a, b, c))
    whole = profile_column(text(a + b + c))
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) == merge(three, merge(two, one)) == whole
    assert profile_column(pa.chunked_array([text(a), text(b), text(c)])) == whole
    assert pickle.loads(pickle.dumps(whole)) == whole


@settings(deadline=None, max_examples=300)
@given(columns, st.integers(0, 3))
def test_values_of_an_inferred_column_convert_strictly_and_read_back(items: list[str | None], skip: int) -> None:
    array = text(["x"] * skip + items).slice(skip)
    verdict = profile_column(array).decide()
    spelling = Spelling(moment=verdict.spelling)
    converted = convert(array, Column(name="c", type=verdict.type, strict=True, spelling=spelling))
    assert not converted.faults
    for before, after in zip(items, converted.array.to_pylist(), strict=True):
        if verdict.type is T.TEXT or not before:
            assert after == (before if verdict.type is T.TEXT else None)
        elif verdict.type is T.BIGINT:
            assert str(after) == before
        elif verdict.type is T.DOUBLE:
            places = len(before.partition(".")[2])
            assert f"{after:.{places}f}" == before
            assert Decimal(repr(after)) == Decimal(before)
        elif verdict.type is T.BOOLEAN:
            assert after is (before[0] in "tTyY")
        elif verdict.type is T.TIME:
            assert time.fromisoformat(after) == time.fromisoformat(before)
            assert len(after) == len("09:30:00.000000")
        elif verdict.type is T.UUID:
            assert after == before
        elif verdict.spelling:
            moment = read(before, verdict.spelling)
            assert moment is not None
            assert after == (moment.date() if verdict.type is T.DATE else moment)
        else:
            kind = date if verdict.type is T.DATE else datetime
            assert after == kind.fromisoformat(before)


def test_no_value_at_all_is_undecided() -> None:
    for items in ([], [None], ["", None, ""], [""] * 100):
        verdict = profile_column(text(items)).decide()
        assert (verdict.type, verdict.origin) == (T.TEXT, Origin.UNDECIDED)
    assert profile_column(pa.chunked_array([], pa.string())) == ColumnProfile()


@pytest.mark.parametrize(
    ("items", "note"),
    [
        (["007", "1", "01"], "2 values have leading zeros"),
        (["007"] * 1204, "1,204 values have leading zeros"),
        (["1" * 19, "5"], "1 value has more than 18 digits"),
        (["1.9", "1.10"], "decimals of varying length with trailing zeros (like version numbers)"),
        (["1234567890.1234567", "0.1"], "1 value has more than 15 significant digits"),
        (["true", "False"], "2 spellings of true/false"),
        (["2024-01-01T10:00:00Z"], "values carry a time zone"),
        (["2024-01-01T10:00:00.1234567"], "values have more than 6 digits of a second"),
        (["2024-01-01", "2024-01-01 10:00"], "dates and timestamps are mixed"),
        (["1e5", "1"], "1 value has an exponent"),
        (["+5", "1"], "1 value has a plus sign"),
        ([".5", "5.", "1"], "2 values begin or end with the point"),
        (["nan", "1.5"], "1 value is nan or infinite"),
        (["1/2/2024", "3/4/2024"], "dates as %d/%m/%Y or %m/%d/%Y: no value tells which; declare one with --type"),
        (["1/2/24", "13/4/24"], "dates as %d/%m/%y: the century is not told; declare it with --type"),
        (["13/2/2024", "2/13/2024"], ""),
        (["09:30", "09:30:00"], "times with and without seconds or their decimals"),
        (["-0", "3"], "1 value is -0"),
        (["007", "+5"], "1 value has leading zeros; 1 value has a plus sign"),
        (["007", "word"], ""),
        (["1e5"] * 40 + ["NA"], ""),
        (["1e5", *["1"] * 400, *["1e5"] * 40, "NA"], ""),
        (["0." + "0" * 320 + "1", "0.5"], "1 value has more than 15 significant digits"),
        (["1.2.3"], ""),
        (["no", "no"], ""),
        (["2024-02-30"], ""),
        (["1234-5"], ""),
    ],
)
def test_note_says_what_a_narrower_type_would_have_lost(items: list[str], note: str) -> None:
    assert decide(*items) == (T.TEXT, note)


def test_the_one_strange_value_among_many_is_found() -> None:
    for clean, strange in (
        ("12", "0x1F"),
        ("1.5", "1.50"),
        ("1", "NA"),
        ("2024-01-01", "2024-02-30"),
        ("t", "T"),
        ("true", "x"),
        ("1e5", "NA"),
        ("5", "05"),
    ):
        for at in (1, 500, 998):
            items = [clean] * 1000
            items[at] = strange
            kind, note = decide(*items)
            assert kind is T.TEXT, (clean, strange, at)
            assert strange not in ("x", "NA") or note == ""
            if clean != "1e5":
                assert decide(*items[:at], *items[at + 1 :], "f" if clean == "t" else clean)[0] is not T.TEXT


def test_one_value_among_many_empty_ones_decides() -> None:
    items: list[str | None] = [None, ""] * 500
    items[501] = "12"
    assert decide(*items) == (T.BIGINT, "")
    items[777] = "word"
    assert decide(*items) == (T.TEXT, "")


def test_bytes_hidden_under_a_null_do_not_count() -> None:
    full = text(["word", "1", "2"])
    hidden = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x06"), *full.buffers()[1:]])
    assert profile_column(hidden).decide().type is T.BIGINT


def test_a_table_has_a_profile_for_each_column() -> None:
    table = pa.table({"n": ["1", ""], "s": ["a", "b"], "d": ["2024-01-01", None]})
    assert [p.decide().type for p in profile(table)] == [T.BIGINT, T.TEXT, T.DATE]
