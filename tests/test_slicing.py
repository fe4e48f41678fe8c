"""Slices cover a file once, end behind records, and say when the file is not what it was."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import time
import zlib
from pathlib import Path

import pytest
from tools import source_of

from ingest import quoting, slicing
from ingest.errors import SourceError
from ingest.model import Codec, Dialect, Header, Reason, Slice, Source
from ingest.reader import by_the_book, load_bytes
from ingest.slicing import Sliced, guessed, slices, whole
from ingest.sniff import sniff

LINES = b"".join(b'%d,"some text, with\na line break",%d\n' % (i, i * i) for i in range(200))
DATA = b"a,b,c\n" + LINES


def written(tmp_path: Path, data: bytes, name: str = "a.csv") -> Source:
    path = tmp_path / name
    path.write_bytes(data)
    return source_of(path, Codec.GZIP if name.endswith(".gz") else Codec.PLAIN)


def cut(
    source: Source,
    header: Header | None = None,
    *,
    slice_bytes: int = 1000,
    commit_bytes: int | None = None,
    start: int | None = None,
    exact: bool = False,
    after_broken: bool = False,
    expect_prefix: str | None = None,
    spool: Path | None = None,
) -> tuple[list[tuple[Slice, str]], Sliced]:
    found = []
    generator = slices(
        source,
        header or sniff(source),
        start=start,
        slice_bytes=slice_bytes,
        commit_bytes=commit_bytes,
        exact=exact,
        after_broken=after_broken,
        expect_prefix=expect_prefix,
        spool=spool,
        prefix="t-",
    )
    while True:
        try:
            found.append(next(generator))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("slice_bytes", [1, 37, 1000, 4096, 1_000_000])
def test_slices_cover_the_data_once_and_end_behind_records(tmp_path: Path, slice_bytes: int, exact: bool) -> None:
    source = written(tmp_path, DATA)
    found, sliced = cut(source, slice_bytes=slice_bytes, exact=exact)
    parts = [load_bytes(source, slice_) for slice_, _ in found]
    assert b"".join(parts) == LINES
    assert all(part.endswith(b"\n") and part.count(b'"') % 2 == 0 for part in parts)
    assert [s.index for s, _ in found] == list(range(len(found)))
    assert [s.first for s, _ in found] == [True] + [False] * (len(found) - 1)
    assert [s.last for s, _ in found] == [False] * (len(found) - 1) + [True]
    assert [s.checksum for s, _ in found] == [zlib.crc32(part) for part in parts]
    assert {s.exact for s, _ in found} == {exact}
    assert sliced.end == len(DATA)
    assert sliced.sha256 == sliced.prefix_sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("slice_bytes", [1, 37, 400, 4096, 1_000_000])
def test_guessed_slices_that_are_all_by_the_book_end_behind_records(
    tmp_path: Path, slice_bytes: int, line_end: bytes
) -> None:
    plain = line_end.join([b"a,b", *(b"%d,x" % n for n in range(300)), b""])
    quoted = plain.replace(b"7,x", b'7,"one%btwo"' % line_end)
    for data, certain in ((plain, True), (quoted, False)):
        source = written(tmp_path, data)
        header = sniff(source)
        found = list(guessed(source, header, slice_bytes=slice_bytes))
        parts = [load_bytes(source, slice_) for slice_ in found]
        assert b"".join(parts) == data[header.data_start :]
        assert [s.index for s in found] == list(range(len(found)))
        assert [(s.first, s.last) for s in found] == [(i == 0, i == len(found) - 1) for i in range(len(found))]
        proven = all(by_the_book(part, header.dialect) for part in parts)
        outside = all(b"".join(parts[:n]).count(b'"') % 2 == 0 for n in range(len(parts)))
        assert proven == outside
        assert proven or not certain
        assert all(part.endswith((b"\n", b"\r")) for part in parts)


@pytest.mark.parametrize("below", [b"\n(3 rows)\nmade today\n", b"\nkind,total\na,1\nb,2\n\nend\n"])
def test_guessed_slices_do_not_end_within_what_is_below_the_table(tmp_path: Path, below: bytes) -> None:
    table = b"a,b,c\n" + b"1,2,3\n" * 10
    source = written(tmp_path, table + below)
    header = sniff(source)
    for slice_bytes in range(1, source.size):
        found = list(guessed(source, header, slice_bytes=slice_bytes))
        assert found[-1].start <= len(table) < source.size == found[-1].start + found[-1].length
        assert sum(slice_.length for slice_ in found) == source.size - header.data_start
    # Of a long file, of which only the end is looked at.
    source = written(tmp_path, b"a,b,c\n" + b"1,2,3\n" * 20_000 + below)
    found = list(guessed(source, header, slice_bytes=100))
    assert len(found) > 1_000
    assert found[-1].start + found[-1].length == source.size
    assert found[-1].length >= len(below)


def test_a_file_that_became_shorter_is_guessed_to_an_end(tmp_path: Path) -> None:
    source = written(tmp_path, DATA)
    header = sniff(source)
    (tmp_path / "a.csv").write_bytes(DATA[:100])
    found = list(guessed(source, header, slice_bytes=1000))
    with pytest.raises(SourceError) as caught:
        load_bytes(source, found[0])
    assert caught.value.code == Reason.CHANGED_WHILE_READ


@pytest.mark.parametrize(("looked", "name"), [(True, "a.csv"), (False, "a.csv"), (False, "a.csv.gz")])
def test_an_endless_line_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: bool, name: str
) -> None:
    monkeypatch.setattr("ingest.quoting.RECORD_BYTES", 200_000)
    before, line = b"a,b\n" + b"1,2\n" * 2000, b"x" * 1_000_000
    data = before + line + b"\n3,4\n"
    source = written(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)
    header = sniff(source)
    way = (
        guessed(source, header, slice_bytes=1000)
        if looked
        else slices(source, header, slice_bytes=1000, commit_bytes=None, spool=tmp_path)
    )
    with pytest.raises(SourceError, match="has a line of more than") as caught:
        list(way)
    assert caught.value.code == Reason.CORRUPT
    at = int(re.search(r"the one with byte (\d+);", caught.value.message)[1])  # type: ignore[index]
    assert len(before) <= at < len(before) + len(line)
    assert f"--exclude {name}." in caught.value.hint


def test_slices_are_even(tmp_path: Path) -> None:
    source = written(tmp_path, b"a,b\n" + b"1,2345\n" * 3000)
    lengths = [s.length for s, _ in cut(source, slice_bytes=10_000)[0]]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 7
    assert len(cut(source, slice_bytes=14_001)[0]) == 1


def test_steps_end_at_borders_and_carry_the_prefix_hash(tmp_path: Path) -> None:
    source = written(tmp_path, DATA)
    found, sliced = cut(source, slice_bytes=300, commit_bytes=1000)
    assert len({s.step for s, _ in found}) > 3
    for slice_, digest in found:
        end = slice_.start + slice_.length
        assert digest == (hashlib.sha256(DATA[:end]).hexdigest() if slice_.ends_step else "")
    for step in range(found[-1][0].step):
        inside = [s for s, _ in found if s.step == step]
        assert [s.ends_step for s in inside] == [False] * (len(inside) - 1) + [True]
        length = sum(s.length for s in inside)
        assert 1000 <= length < 1000 + 45
    assert found[-1][0].ends_step
    assert found[-1][1] == sliced.prefix_sha256


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_resume_goes_on_at_the_border_of_a_proven_prefix(tmp_path: Path, name: str) -> None:
    source = written(tmp_path, gzip.compress(DATA) if name.endswith("gz") else DATA, name)
    found, _ = cut(source, commit_bytes=2000, spool=tmp_path)
    border, digest = next((s.start + s.length, d) for s, d in found if s.ends_step)
    rest, sliced = cut(source, start=border, expect_prefix=digest, spool=tmp_path)
    assert b"".join(load_bytes(source, s) for s, _ in rest) == DATA[border:]
    assert not rest[0][0].first
    assert sliced.prefix_sha256 == hashlib.sha256(DATA).hexdigest()
    with pytest.raises(SourceError) as caught:
        cut(source, start=border, expect_prefix=hashlib.sha256(b"other").hexdigest(), spool=tmp_path)
    assert caught.value.code == Reason.CHANGED


def test_resume_of_a_file_that_became_shorter_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, DATA[:500])
    with pytest.raises(SourceError) as caught:
        cut(source, start=1000, expect_prefix="x")
    assert caught.value.code == Reason.CHANGED


def test_no_data_gives_no_slices(tmp_path: Path) -> None:
    found, sliced = cut(written(tmp_path, b"a,b\n"))
    assert found == []
    assert sliced.end == 4
    assert sliced.sha256 == hashlib.sha256(b"a,b\n").hexdigest()
    source = written(tmp_path, DATA)
    assert cut(source, start=len(DATA), expect_prefix=hashlib.sha256(DATA).hexdigest())[0] == []


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_last_slice_ends_at_the_end_without_a_line_end(tmp_path: Path, line_end: bytes, exact: bool) -> None:
    lines = b"a,b\n1,2\n3,4\n5,6".replace(b"\n", line_end)
    source = written(tmp_path, lines)
    found, _ = cut(source, slice_bytes=1, exact=exact)
    parts = [load_bytes(source, s) for s, _ in found]
    assert parts == [b"1,2" + line_end, b"3,4" + line_end, b"5,6"]


def test_a_line_end_of_two_bytes_is_not_cut_apart_in_a_file_of_lone_ones(tmp_path: Path) -> None:
    source = written(tmp_path, b"a,b\r1,2\r" + b"3,4\r\n" * 3)
    header = Header(dialect=Dialect(line_end="\r"), names=("a", "b"), data_start=4)
    for exact in (False, True):
        parts = [load_bytes(source, s) for s, _ in cut(source, header, slice_bytes=1, exact=exact)[0]]
        assert parts == [b"1,2\r"] + [b"3,4\r\n"] * 3


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("lookahead", [1, 2, 3])
def test_borders_do_not_depend_on_where_a_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lookahead: int, exact: bool
) -> None:
    monkeypatch.setattr(slicing, "LOOKAHEAD", lookahead)
    records = [b"1,2\r\n", b'"a\r\n""",2\r\n', b"3,4\r", b'"\r",""\r', b"5,6\r\n"]
    data = b"".join(records)
    source = written(tmp_path, data)
    header = Header(dialect=Dialect(line_end="\r"), names=("a", "b"), data_start=0)
    borders = {sum(map(len, records[:count])) for count in range(1, len(records) + 1)}
    for slice_bytes in range(1, len(data) + 1):
        found, _ = cut(source, header, slice_bytes=slice_bytes, exact=exact)
        assert b"".join(load_bytes(source, s) for s, _ in found) == data
        assert {s.start + s.length for s, _ in found} <= borders
        assert [s.last for s, _ in found] == [False] * (len(found) - 1) + [True]


def test_bom_belongs_to_no_slice(tmp_path: Path) -> None:
    source = written(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")
    found, sliced = cut(source)
    assert [(s.start, s.length, s.first) for s, _ in found] == [(7, 4, True)]
    assert sliced.end == 11


def test_characters_of_several_bytes_stay_whole(tmp_path: Path) -> None:
    source = written(tmp_path, b"a,b\n" + "é€😀,ü\n".encode() * 50)
    for slice_bytes in range(1, 40):
        parts = [load_bytes(source, s) for s, _ in cut(source, slice_bytes=slice_bytes)[0]]
        assert "".join(part.decode() for part in parts) == "é€😀,ü\n" * 50


@pytest.mark.parametrize("exact", [False, True])
def test_field_much_longer_than_a_slice_stays_whole(tmp_path: Path, exact: bool) -> None:
    field = b'"' + b'line ""x""\n' * 100_000 + b'"'
    source = written(tmp_path, b"a,b\n1,23456\n3," + field + b"\n5,6\n")
    parts = [load_bytes(source, s) for s, _ in cut(source, slice_bytes=4, exact=exact)[0]]
    assert parts == [b"1,23456\n", b"3," + field + b"\n", b"5,6\n"]


def test_whole_is_one_slice(tmp_path: Path) -> None:
    source = written(tmp_path, DATA)
    slice_ = whole(source, sniff(source))
    assert slice_.first
    assert slice_.last
    assert slice_.ends_step
    assert load_bytes(source, slice_) == LINES


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("slice_bytes", [100, 1000, 100_000])
def test_gzip_of_several_members_is_sliced_into_the_spool(tmp_path: Path, slice_bytes: int, exact: bool) -> None:
    packed = gzip.compress(DATA[:777]) + gzip.compress(b"") + gzip.compress(DATA[777:]) + b"\0" * 512
    source = written(tmp_path, packed, "a.csv.gz")
    spool = tmp_path / "spool"
    spool.mkdir()
    found, sliced = cut(source, slice_bytes=slice_bytes, exact=exact, spool=spool)
    assert b"".join(load_bytes(source, s) for s, _ in found) == LINES
    assert [s.spooled for s, _ in found] == [str(spool / f"t-{i}.raw") for i in range(len(found))]
    assert found[-1][0].last
    assert sliced.end == len(DATA)
    assert sliced.sha256 == hashlib.sha256(packed).hexdigest()
    assert sliced.prefix_sha256 == hashlib.sha256(DATA).hexdigest()


BIG = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 100_003) for i in range(40_000))
PACKED = gzip.compress(BIG)


@pytest.mark.parametrize(
    "packed",
    [PACKED[:-10], PACKED[: len(PACKED) // 2], PACKED[:-8] + b"\0\1\2\3" + PACKED[-4:], PACKED + b"hello"],
    ids=["truncated by ten bytes", "half", "wrong checksum", "trailing garbage"],
)
def test_damaged_gzip_never_has_a_last_slice(tmp_path: Path, packed: bytes) -> None:
    source = written(tmp_path, packed, "a.csv.gz")
    generator = slices(source, sniff(source), slice_bytes=100_000, commit_bytes=None, spool=tmp_path)
    seen: list[Slice] = []
    with pytest.raises(SourceError) as caught:
        seen.extend(s for s, _ in generator)
    assert caught.value.code == Reason.CORRUPT
    assert "hello" not in caught.value.message
    assert not any(s.last for s in seen)


def test_full_spool_is_told(tmp_path: Path) -> None:
    source = written(tmp_path, PACKED, "a.csv.gz")
    with pytest.raises(SourceError) as caught:
        cut(source, spool=tmp_path / "not there")
    assert caught.value.code == Reason.SPOOL


@pytest.mark.parametrize("change", ["grown", "shrunk", "touched", "rewritten"])
def test_file_that_changes_while_it_is_sliced_never_has_a_last_slice(tmp_path: Path, change: str) -> None:
    source = written(tmp_path, BIG)
    generator = slices(source, sniff(source), slice_bytes=100_000, commit_bytes=None)
    seen = [next(generator)[0]]
    path = Path(source.path)
    if change == "grown":
        with path.open("ab") as file:
            file.write(b"1,2\n")
    elif change == "shrunk":
        os.truncate(path, 200_000)
    elif change == "touched":
        os.utime(path, ns=(source.mtime_ns + 1000, source.mtime_ns + 1000))
    else:
        path.write_bytes(BIG.replace(b"1", b"2"))
        os.utime(path, ns=(source.mtime_ns + 1000, source.mtime_ns + 1000))
    with pytest.raises(SourceError) as caught:
        seen.extend(s for s, _ in generator)
    assert caught.value.code == Reason.CHANGED_WHILE_READ
    assert not any(s.last for s in seen)


def test_stray_quote_does_not_pull_the_rest_of_a_file_into_one_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quoting, "RECORD_BYTES", 70_000)
    source = written(tmp_path, b'a,b\nTV 42",299\n' + b"1,2\n" * 200_000)
    for exact in (False, True):
        found, _ = cut(source, slice_bytes=20_000, exact=exact)
        assert max(s.length for s, _ in found) < 300_000
        assert sum(s.length for s, _ in found) == source.size - 4


def test_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoting, "RECORD_BYTES", 70_000)
    source = written(tmp_path, b"a,b\n1,2\n" + b"x" * 400_000 + b"\n")
    for exact in (False, True):
        with pytest.raises(SourceError) as caught:
            cut(source, slice_bytes=1000, exact=exact)
        assert caught.value.code == Reason.CORRUPT


@pytest.mark.parametrize(
    "data",
    [
        b'"a\n' * 100_000,
        b'"' + b'""a\n' * 100_000,
        b'1,"a\nb","c\n' * 50_000 + b'"x"y\n',
        b'x","y\n' * 100_000,
        b'"' + b'""' * 300_000,
        b'"' + b"\n" * 300_000,
    ],
)
def test_exact_rules_take_linear_time(tmp_path: Path, data: bytes) -> None:
    source = written(tmp_path, b"a,b\n" + data)
    header = Header(dialect=Dialect(), names=("a", "b"), data_start=4)
    began = time.process_time()
    found, _ = cut(source, header, slice_bytes=50_000, exact=True)
    assert sum(s.length for s, _ in found) == len(data)
    assert time.process_time() - began < 5
