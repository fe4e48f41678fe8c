"""Any table in any dialect comes back equal, however it is sliced; any bytes end somewhere, and none is lost.

Few examples and always the same ones, unless FUZZ says how many of each test to make up, other ones each time:
`FUZZ=2000 pytest tests/test_fuzz_reading.py -o timeout=0` takes about half an hour.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from rooms import Outcome, Row, bundled, through
from tools import assert_counts_add_up, ingest, query, quoted, source_of

from ingest.errors import SourceError
from ingest.model import UNTOLD, Codec, Dialect, Header, Source, Told
from ingest.sniff import Sniffer

BUSY = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
FUZZ = int(os.environ.get("FUZZ", "0"))


def examples(count: int) -> Any:
    """So many examples, always the same ones; or as many others as FUZZ says."""
    if FUZZ:
        return settings(deadline=None, max_examples=FUZZ, suppress_health_check=BUSY)
    return settings(deadline=None, max_examples=count, derandomize=True, database=None, suppress_health_check=BUSY)


# tables that Python's csv writes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A table, and how it is written."""

    rows: tuple[tuple[str, ...], ...]
    delimiter: str
    quotechar: str | None
    escapechar: str | None
    doublequote: bool
    quoting: int
    lineterminator: str
    ended: bool  #: a line end comes after the last record

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"name{i}" for i, _ in enumerate(self.rows[0]))

    @property
    def options(self) -> dict[str, Any]:
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quotechar,
            "escapechar": self.escapechar,
            "doublequote": self.doublequote,
            "quoting": self.quoting,
            "lineterminator": self.lineterminator,
        }

    @property
    def text(self) -> str:
        sink = io.StringIO(newline="")
        csv.writer(sink, **self.options).writerows([self.names, *self.rows])
        return sink.getvalue() if self.ended else sink.getvalue().removesuffix(self.lineterminator)

    @property
    def told(self) -> Told:
        return Told(
            delimiter=self.delimiter,
            quote="" if self.quoting == csv.QUOTE_NONE else self.quotechar,
            escape=self.escapechar or "",
            encoding="utf-8",
            header=1,
            skip_rows=0,
            comment="",
        )


FAMILIES: dict[str, dict[str, Any]] = {
    "usual": {"delimiter": ",;\t|", "quotechar": '"'},
    "delimiters": {"delimiter": ":^~ \x01\x1f", "quotechar": '"'},
    "single quotes": {"delimiter": ",;\t|:", "quotechar": "'"},
    "escapes": {"delimiter": ",;\t|", "quotechar": "\"'", "escapechar": "\\", "doublequote": False},
    "no quotes": {"delimiter": ",;\t|", "quotechar": [None], "escapechar": "\\", "quoting": [csv.QUOTE_NONE]},
    # Python's csv escapes quotes where none encloses a field, too.
    "escaped quotes": {"delimiter": ",;\t|", "quotechar": '"', "escapechar": "\\", "quoting": [csv.QUOTE_NONE]},
}

LEVELS = [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]

CELLS = st.text(alphabet="ab17.,;:|^~#\t \"'\\\n\r\x0b\x85\u2028üé€😀\ufeff", max_size=6)


@st.composite
def written(draw: st.DrawFn, family: str) -> Written:
    """A table in a dialect of a family that Python's own reader reads back from its file."""
    of = FAMILIES[family]
    width = draw(st.integers(1, 4))
    row = st.tuples(*[CELLS] * width)
    table = Written(
        rows=tuple(draw(st.lists(row, min_size=1, max_size=6))),
        delimiter=draw(st.sampled_from(of["delimiter"])),
        quotechar=draw(st.sampled_from(of["quotechar"])),
        escapechar=of.get("escapechar"),
        doublequote=of.get("doublequote", True),
        quoting=draw(st.sampled_from(of.get("quoting", LEVELS))),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        ended=draw(st.booleans()),
    )
    assume(_is_readable(table))
    return table


def _is_readable(table: Written) -> bool:
    """Whether the file says what the table is: Python's csv, too, writes some that nobody can read back."""
    options = table.options | {"strict": True}
    del options["lineterminator"]
    try:
        text = table.text
        records = list(csv.reader(io.StringIO(text, newline=""), **options))
    except csv.Error:
        return False
    # A record whose only field is empty and not quoted is a blank line, and a file that begins with a mark has one.
    return records == [list(table.names), *map(list, table.rows)] and all(records)


@st.composite
def clear(draw: st.DrawFn) -> Written:
    """A table whose dialect can be seen: words in three columns or more, and numbers."""
    word = st.text(alphabet="abcdeé", min_size=1, max_size=5)
    number = st.integers(0, 9999).map(str)
    quoted = st.sampled_from(["it, is", "a; b", 'so "it" is', "two\nlines", "", "x|y"])
    kinds = draw(st.lists(st.sampled_from([word, number]), min_size=2, max_size=4))
    row = st.tuples(*kinds, st.one_of(word, quoted))
    table = Written(
        rows=tuple(draw(st.lists(row, min_size=3, max_size=12))),
        delimiter=draw(st.sampled_from(",;\t|")),
        quotechar='"',
        escapechar=None,
        doublequote=True,
        quoting=draw(st.sampled_from(LEVELS)),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        ended=draw(st.booleans()),
    )
    assume(_is_readable(table))  # a CSV writer may leave a line feed without quotes where CR ends a line
    return table


def sniffed(source: Source, told: Told) -> Header:
    return Sniffer(told).header(source)


def texts(rows: list[Row]) -> list[tuple[str, ...]]:
    """Rows with NULL as the empty text: csv knows no difference."""
    return [tuple(value or "" for value in row) for row in rows]


PACKERS: dict[Codec, Callable[[bytes], bytes]] = {
    Codec.PLAIN: bytes,
    Codec.GZIP: gzip.compress,
    Codec.BZIP2: bz2.compress,
    Codec.XZ: lzma.compress,
}


def check_read_back(
    table: Written, told: Told, sizes: list[int | None], codec: Codec = Codec.PLAIN, encoding: str = "utf-8"
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, "spool")
        spool.mkdir()
        path = Path(folder, "a.csv")
        path.write_bytes(PACKERS[codec](table.text.encode(encoding)))
        source = source_of(path, codec)
        header = sniffed(source, told)
        assert header.names == table.names
        for size in sizes:
            outcome = through(source, header, spool, slice_bytes=size)
            assert outcome.rejects == []
            assert texts(outcome.rows) == list(table.rows), f"slices of {size} bytes, {header}"
            assert outcome.refused is None
            assert (outcome.records, outcome.discarded) == (len(table.rows), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_table_in_a_told_dialect_comes_back_equal_at_any_slice_size(family: str) -> None:
    @examples(15)
    @given(table=written(family), size=st.integers(1, 40), codec=st.sampled_from(sorted(PACKERS)))
    def check(table: Written, size: int, codec: Codec) -> None:
        check_read_back(table, table.told, [None, size], codec)

    check()


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "iso8859-15", "shift_jis", "gb18030"]


@examples(15)
@given(
    table=written("usual"),
    size=st.integers(1, 40),
    encoding=st.sampled_from(ENCODINGS),
    codec=st.sampled_from(sorted(PACKERS)),
)
def test_any_table_in_a_told_encoding_comes_back_equal_at_any_slice_size(
    table: Written, size: int, encoding: str, codec: Codec
) -> None:
    try:
        assume(table.text.encode(encoding).decode(encoding) == table.text)
    except UnicodeEncodeError:
        assume(False)
    told = replace(table.told, encoding=codecs.lookup(encoding.removesuffix("-sig")).name)
    check_read_back(table, told, [None, size], codec, encoding)


@examples(3)
@given(table=written("usual"))
def test_a_table_comes_back_equal_at_every_slice_size(table: Written) -> None:
    sizes = range(1, len(table.text.encode()) + 2)
    check_read_back(table, table.told, [*sizes])


@examples(20)
@given(table=clear(), size=st.integers(1, 60))
def test_a_table_whose_dialect_can_be_seen_comes_back_equal_untold(table: Written, size: int) -> None:
    check_read_back(table, UNTOLD, [None, size])


@examples(12)
@given(tables=st.lists(clear(), min_size=2, max_size=4))
def test_files_of_a_bundle_come_back_equal_each_by_itself(tables: list[Written]) -> None:
    # What travels together has the same header: the first table's dialect and names, and each its own rows.
    first = tables[0]
    width = len(first.names)
    rows = [tuple((row * width)[:width] for row in table.rows) for table in tables]
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, "spool")
        spool.mkdir()
        sources = []
        for number, some in enumerate(rows):
            sink = io.StringIO(newline="")
            csv.writer(sink, **first.options).writerows([first.names, *some])
            path = Path(folder, f"{number}.csv")
            path.write_bytes(sink.getvalue().encode())
            sources.append(source_of(path))
        sniffer = Sniffer(first.told)
        headers = [sniffer.header(source) for source in sources]
        assume(all(header == headers[0] for header in headers))
        found = bundled(sources, headers[0], spool)
        assert found is not None, "nothing in them is unusual"
        assert [texts(some) for some in found] == [list(some) for some in rows]


# any bytes ----------------------------------------------------------------------------------------------------------

PIECES = [b'"', b'""', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\n\n", b"\\", b"#", b" ", b"-", b"\0"]
PIECES += [b"a", b"b,c", b'"d,e"', b"1,2", b"2024-01-31", b"name,city\n", b",,\n", "é€".encode(), b"\xff", b"\xe9"]
PIECES += [b"\x80", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"\x1f\x8b\x08", b"\x1a", b"x" * 50]

BODY = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
ANY = st.one_of(
    BODY,
    # What begins with a header is mostly read to its end.
    st.builds(bytes.__add__, st.sampled_from([b"name,city\n1,2\n", b"name;city;x\n1;2;3\nAda;b;c\n"]), BODY),
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda text: text.encode("utf-16")),
)


def letters(text: str, dialect: Dialect) -> Counter[str]:
    """The characters that belong to values, whatever the quotes around them: each has to be somewhere in the end."""
    marks = {*"\r\n\ufeff", *dialect.delimiter, dialect.quote, dialect.escape, '"'}
    return Counter(character for character in text if character not in marks)


def seen(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def assert_nothing_is_lost(data: bytes, header: Header, outcome: Outcome) -> None:
    """Each character of the data is in a row, a reject's text, or in a record that was counted as discarded."""
    assert outcome.records == len(outcome.rows) + len(outcome.rejects) + outcome.discarded
    if header.dialect.encoding == "utf-8":
        assert outcome.read == data[header.data_start :], "every byte was read"
    there = letters(seen(outcome.read), header.dialect)
    kept = letters("".join(value or "" for row in outcome.rows for value in row), header.dialect)
    aside = letters("".join(reject["text"] for reject in outcome.rejects), header.dialect)
    if outcome.discarded:
        assert kept + aside <= there
    else:
        assert kept + aside == there
    for reject in outcome.rejects:
        raw = data[reject["byte"] :] if header.dialect.encoding == "utf-8" else b""
        assert not raw or seen(raw).startswith(reject["text"]), "the place of a reject is where its text is"


@examples(100)
@given(data=ANY, size=st.integers(1, 50))
@example(data=b"", size=1)
@example(data=b"name,city\n1,2\n3\n4,5,6\n", size=3)
@example(data=b'name,city\n1,"2\n3,4\n', size=2)
@example(data=b"name,city\n1,\xff\n3,\0\n", size=4)
@example(data=b"name,city\r1,2\r\n3,4\n\n\r5,6", size=5)
@example(data=b"name,city\n1,2\n\rend\n", size=1)  # LF and a lone CR: a blank line between
@example(data=b"\x01\x02\n\x01\n\r\x02\n", size=1)
def test_any_bytes_are_refused_or_end_in_rows_and_rejects_and_none_is_lost(data: bytes, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, "spool")
        spool.mkdir()
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        source = source_of(path)
        try:
            header = sniffed(source, UNTOLD)
        except SourceError:
            return
        if not header.names:
            assert not data[header.data_start :].strip(b"\r\n")
            return
        if not header.has_data:
            return
        whole = through(source, header, spool)
        if whole.refused is not None:
            return
        assert_nothing_is_lost(data, header, whole)
        sliced = through(source, header, spool, slice_bytes=size)
        assert sliced.refused is None
        assert (sliced.rows, sliced.records, sliced.discarded) == (whole.rows, whole.records, whole.discarded)
        assert [(r["byte"], r["code"], r["text"]) for r in sliced.rejects] == [
            (r["byte"], r["code"], r["text"]) for r in whole.rejects
        ]


# the whole command --------------------------------------------------------------------------------------------------


def test_one_command_loads_every_table_and_accounts_for_any_bytes(tmp_path: Path) -> None:
    folder, tables, others = tmp_path / "in", {}, {}
    folder.mkdir()

    # Each is a table of its own: not more of them than a command loads in some seconds.
    @settings(examples(20), max_examples=20)
    @given(table=clear(), data=ANY)
    def make(table: Written, data: bytes) -> None:
        tables[f"t{len(tables)}x"] = table
        others[f"b{len(others)}x"] = data

    make()
    for name, table in tables.items():
        (folder / f"{name}.csv").write_bytes(table.text.encode())
    for name, data in others.items():
        (folder / f"{name}.csv").write_bytes(data)
    done = ingest(
        *("load", folder, "--to", tmp_path / "x.db", "--table", "{stem}", "--types", "text", "--slice-bytes", "64"),
        *("--on-duplicate", "load", "--max-rejects", "100%"),
        cwd=tmp_path,
    )
    assert done.returncode in (0, 3, 4), done.stderr
    assert "Traceback" not in done.stderr
    for name, table in tables.items():
        names = ", ".join(map(quoted, table.names))
        rows = query(tmp_path / "x.db", f"SELECT {names} FROM {quoted(name)} ORDER BY rowid")
        assert texts(rows) == list(table.rows), table.text
    known = {Path(path).name: state for path, state in query(tmp_path / "x.db", "SELECT path, state FROM ingest_file")}
    assert set(known.values()) <= {"loaded", "refused"}, known
    assert all(known.get(f"{name}.csv") == "loaded" for name in tables)
    # What never got as far as the ledger is named with its reason.
    assert all(f"{name}.csv" in known or f"{name}.csv" in done.stderr for name in others)
    assert_counts_add_up(tmp_path / "x.db")
