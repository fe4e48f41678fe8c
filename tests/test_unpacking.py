"""Packed files: every format is read to its end, and none gives a byte that was not in it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tools import ORDERS, assert_loaded_once, load, orders, query, source_of, told

from ingest import archives, unpacking, worker
from ingest.errors import SourceError
from ingest.feeding import Feeding, _Permits
from ingest.jobs import PROFILE, Job, JobSliced, Layout, Member, Task
from ingest.manifest import scan, sha256_of
from ingest.model import Codec, Column, ColumnType, Dialect, Header, Reason, Source
from ingest.opening import open_decoded
from ingest.slicing import slices
from ingest.sniff import sniff
from ingest.unpacking import LEAST_ALLOWED, PIECE, codec_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"id,name\n" + b"".join(b"%d,n%d\n" % (i, i * 7919 % 100_003) for i in range(40_000))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}
PADDING = {".gz": bytes(512), ".bz2": b"", ".xz": bytes(8), ".zst": b""}
NAMES = [*PACKERS, ".zip"]


def written(folder: Path, data: bytes, name: str, most: int | None = None) -> Source:
    """A file as the scan finds it."""
    path = folder / name
    path.write_bytes(data)
    (source,) = scan([path], most=most).sources
    return source


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def packed(ending: str, data: bytes = TEXT) -> bytes:
    return zipped(("t.csv", data)) if ending == ".zip" else PACKERS[ending](data)


def read(source: Source) -> bytes:
    with open_decoded(source) as stream:
        return stream.read()


def refusal(source: Source) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(source)
    return caught.value


@pytest.mark.parametrize("ending", PACKERS)
def test_several_members_and_padding_are_one_file(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    data = pack(TEXT[:777]) + pack(b"") + pack(TEXT[777:]) + PADDING[ending]
    assert read(written(tmp_path, data, f"t.csv{ending}")) == TEXT


def test_a_skippable_frame_of_zstd_is_skipped(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert read(written(tmp_path, skippable + PACKERS[".zst"](TEXT) + skippable, "t.csv.zst")) == TEXT


@pytest.mark.parametrize("size", [1, 1000, PIECE * 3])
def test_a_stream_is_read_in_parts_of_any_size(tmp_path: Path, size: int) -> None:
    data = TEXT[: 20 * size]
    source = written(tmp_path, gzip.compress(data), "t.csv.gz")
    with open_decoded(source) as stream:
        parts = list(iter(lambda: stream.read(size), b""))
    assert b"".join(parts) == data
    assert {len(part) for part in parts[:-1]} <= {size}
    with open_decoded(source) as stream:
        assert (stream.seek(15), stream.read(5)) == (15, data[15:20])


@pytest.mark.parametrize("damage", ["half", "one byte less", "one bit", "garbage", "another format", "empty"])
@pytest.mark.parametrize("ending", NAMES)
def test_what_is_damaged_is_refused_and_not_quoted(tmp_path: Path, ending: str, damage: str) -> None:
    whole = packed(ending)
    middle = len(whole) // 2
    data = {
        "half": whole[:middle],
        "one byte less": whole[:-1],
        "one bit": whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :],
        "garbage": whole + b"garbage",
        "another format": TEXT,
        "empty": b"",
    }[damage]
    if ending == ".zip" and damage == "garbage":
        data = b"garbage" * 20_000 + whole  # behind its end an archive may have a comment
        assert read(written(tmp_path, data, "t.zip")) == TEXT
        return
    source = written(tmp_path, data, "t.zip" if ending == ".zip" else f"t.csv{ending}")
    error = refusal(source)
    assert error.code == Reason.CORRUPT
    assert error.hint
    assert "garbage" not in error.message
    assert "7919" not in error.message


@pytest.mark.parametrize("ending", NAMES)
def test_a_damaged_file_never_has_a_last_slice(tmp_path: Path, ending: str) -> None:
    whole = packed(ending)
    at = len(whole) - 200 if ending == ".zip" else len(whole) - 8
    data = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
    source = written(tmp_path, data, "t.zip" if ending == ".zip" else f"t.csv{ending}")
    header = Header(dialect=Dialect(), names=("id", "name"), data_start=8)
    seen = []
    with pytest.raises(SourceError) as caught:
        seen.extend(s for s, _ in slices(source, header, slice_bytes=50_000, commit_bytes=None, spool=tmp_path))
    assert caught.value.code == Reason.CORRUPT
    assert not any(s.last for s in seen)


@pytest.mark.parametrize("ending", [*PACKERS, ".csv.gz.zip"])
def test_a_bomb_is_refused_with_what_to_type(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LEAST_ALLOWED", 1000)
    data = b"a,b\n" + b"0,0\n" * 2_000_000
    if ending == ".csv.gz.zip":
        source = written(tmp_path, zipped(("t.csv.gz", gzip.compress(data)), method=zipfile.ZIP_STORED), "t.zip")
    else:
        source = written(tmp_path, PACKERS[ending](data), f"t.csv{ending}")
    assert source.size * 250 < len(data)
    error = refusal(source)
    assert (error.code, "--max-unpacked" in error.hint) == (Reason.UNPACKED, True)
    assert len(read(replace(source, most=len(data)))) == len(data)
    assert refusal(replace(source, most=len(data) - 1)).code == Reason.UNPACKED


def test_small_files_may_unpack_to_anything_and_large_ones_to_a_tebibyte() -> None:
    assert unpacking.allowed(10) == LEAST_ALLOWED
    assert unpacking.allowed(10**8) == 250 * 10**8
    assert unpacking.allowed(10**11) == 1 << 40


def test_xz_that_wants_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "XZ_MEMORY", 1 << 20)
    error = refusal(written(tmp_path, lzma.compress(TEXT, preset=6), "t.csv.xz"))
    assert "more than 1 MiB of memory" in error.message


@pytest.mark.parametrize("ending", NAMES)
def test_a_packed_file_without_its_name_is_not_loaded_as_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(packed(ending))
    with pytest.raises(SourceError) as caught:
        sniff(source_of(path))
    assert caught.value.code == Reason.CONTAINER
    assert f"ends in {ending}" in caught.value.hint


def test_the_end_of_a_name_says_how_a_file_is_packed() -> None:
    names = ["a.csv", "a.csv.GZ", "a.csv.bz2", "a.tsv.xz", "a.csv.zst"]
    assert [codec_of(name) for name in names] == list(Codec)


# zip --------------------------------------------------------------------------------------------------------------


def test_an_archive_is_looked_into_as_a_folder_is(tmp_path: Path) -> None:
    names = ["b.csv", "in/a.csv", "in/c.tsv.gz", "readme.txt", "__MACOSX/._b.csv", ".hidden/x.csv", "d.csv.part"]
    (tmp_path / "x.zip").write_bytes(zipped(*((name, b"a\n1\n") for name in names)))

    def found(*paths: Path, **choice: Sequence[str]) -> list[str]:
        return [s.path.removeprefix(f"{tmp_path}/x.zip/") for s in scan(paths or [tmp_path], **choice).sources]

    assert found() == ["b.csv", "in/a.csv", "in/c.tsv.gz"]
    assert found(tmp_path / "x.zip") == found(tmp_path / "*.zip") == found()
    assert [s.codec for s in scan([tmp_path]).sources] == [Codec.PLAIN, Codec.PLAIN, Codec.GZIP]
    assert found(include=["*.txt"]) == ["readme.txt"]
    assert found(include=["x.zip/in/*.csv"]) == ["in/a.csv"]
    assert found(include=["x.zip"], exclude=["in"]) == ["b.csv"]
    assert found(exclude=["*.zip"]) == []


def test_an_archive_without_a_csv_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(("a.jpg", b"")))
    (left,) = scan([tmp_path]).left_out
    assert (left.path, left.code) == (str(tmp_path / "x.zip"), Reason.CONTAINER)
    assert left.sentence == "No file in it is named like a CSV file; --include takes others."
    (left,) = scan([tmp_path], include=["b.*"]).left_out
    assert left.sentence == "By --include and --exclude no file in it is wanted."


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../t.csv", "leads out"),
        ("a/../../t.csv", "leads out"),
        ("/etc/t.csv", "leads out"),
        ("t.csv", "more than once"),
        ("./t.csv", "more than once"),
    ],
)
def test_names_that_mean_harm_are_refused_and_the_others_are_read(tmp_path: Path, name: str, why: str) -> None:
    again = [("t.csv", b"a\n2\n")] if why == "more than once" else []
    (tmp_path / "x.zip").write_bytes(zipped((name, b"a\n1\n"), ("good.csv", b"a\n3\n"), *again))
    bad, good = sorted(scan([tmp_path]).sources, key=lambda s: s.problem is None)
    assert read(good) == b"a\n3\n"
    error = refusal(bad)
    assert (error.code, why in error.message) == (Reason.CONTAINER, True)
    with pytest.raises(SourceError):
        sha256_of(bad)


def test_what_cannot_be_unpacked_is_refused_by_entry(tmp_path: Path) -> None:
    data = bytearray(zipped(("secret.csv", TEXT)))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = data.find(mark) + (6 if mark[2] == 3 else 8)
        data[at] |= 1
    assert "is encrypted" in refusal(written(tmp_path, bytes(data), "x.zip")).message
    error = refusal(written(tmp_path, zipped(("t.csv", TEXT), method=zipfile.ZIP_LZMA), "y.zip"))
    assert (error.code, "method 14" in error.message) == (Reason.CONTAINER, True)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_entries_are_read_however_they_are_packed(tmp_path: Path, method: int) -> None:
    source = written(tmp_path, zipped(("t.csv", TEXT), method=method), "x.zip")
    assert (read(source), source.size) == (TEXT, len(TEXT))
    header = sniff(source)
    generator = slices(source, header, slice_bytes=100_000, commit_bytes=None, spool=tmp_path)
    first = next(generator)[0]
    assert first.spooled == str(tmp_path / "0.raw")
    rest = [first, *(slice_ for slice_, _ in generator)]
    assert sum(s.length for s in rest) == len(TEXT) - header.data_start
    assert sha256_of(source) == hashlib.sha256(TEXT).hexdigest()


def test_whatever_happens_to_an_archive_it_is_read_as_it_was_or_refused(tmp_path: Path) -> None:
    whole = zipped(("t.csv", TEXT[:500]))
    for at in range(len(whole)):
        data = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        path = tmp_path / f"{at}.zip"
        path.write_bytes(data)
        for source in scan([path]).sources:
            try:
                found = read(source)
            except SourceError as error:
                assert error.code in (Reason.CORRUPT, Reason.CONTAINER, Reason.UNPACKED), at  # noqa: PT017
            else:
                assert found == TEXT[:500], at


def test_entries_that_overlap_or_unpack_to_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb of the other kind: a thousand names for the same bytes."""
    whole = zipped(("t.csv", b"a\n" + b"0\n" * 100_000))
    start = int.from_bytes(whole[-6:-2], "little")
    central = whole[start:-22]
    end = bytearray(whole[-22:])
    end[8:12] = (70).to_bytes(2, "little") * 2
    end[12:16] = (70 * len(central)).to_bytes(4, "little")
    copies = [central.replace(b"t.csv", b"%c.csv" % (48 + i)) for i in range(70)]
    bomb = whole[:start] + b"".join(copies) + bytes(end)
    error = refusal(written(tmp_path, bomb, "x.zip"))
    assert (error.code, "overlap" in error.message) == (Reason.CORRUPT, True)
    monkeypatch.setattr(unpacking, "LEAST_ALLOWED", 1000)
    error = refusal(written(tmp_path, bomb, "y.zip"))
    assert (error.code, "--max-unpacked" in error.hint) == (Reason.UNPACKED, True)


def test_an_archive_that_changes_after_the_scan_is_not_read(tmp_path: Path) -> None:
    source = written(tmp_path, zipped(("t.csv", TEXT)), "x.zip")
    (tmp_path / "x.zip").write_bytes(zipped(("u.csv", TEXT), ("t.csv", TEXT)))
    assert refusal(source).code == Reason.CHANGED_WHILE_READ


def test_a_member_is_there_as_long_as_it_is_in_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(zipped(("in/a.csv", b"a\n1\n")))
    assert archives.there(f"{archive}/in/a.csv")
    assert not archives.there(f"{archive}/a.csv")
    assert not archives.there(f"{tmp_path}/y.zip/in/a.csv")
    archive.write_bytes(b"no archive now")
    assert archives.there(f"{archive}/in/a.csv")


def test_members_are_skipped_moved_and_changed_each_by_itself(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    archive = data / "x.zip"
    one, two, three = (b"id,n\n" + b"%d,%d\n" % (i, i) * 9 for i in (1, 2, 3))
    archive.write_bytes(zipped(("t_1.csv", one), ("t_2.csv", two)))
    assert told(load(data, db)) == {"t_1.csv": ("loaded", "new"), "t_2.csv": ("loaded", "new")}
    assert load(data, db).rows == 0
    # Written anew: one stays, one has another place in there, one is new.
    archive.write_bytes(zipped(("t_1.csv", one), ("sub/t_2.csv", two), ("t_3.csv", three)))
    assert told(load(data, db)) == {
        "t_1.csv": ("skipped", "same_content"),
        "t_2.csv": ("skipped", "moved"),
        "t_3.csv": ("loaded", "new"),
    }
    archive.write_bytes(zipped(("t_1.csv", three), ("sub/t_2.csv", two), ("t_3.csv", three)))
    (data / "copy_of_t.csv").write_bytes(two)
    assert told(load(data, db, table="t")) == {
        "t_1.csv": ("refused", "changed"),
        "t_2.csv": ("skipped", "same_content"),
        "t_3.csv": ("skipped", "same_content"),
        "copy_of_t.csv": ("refused", "duplicate"),
    }
    assert query(db, "SELECT id, count(*) FROM t GROUP BY id") == [(1, 9), (2, 9), (3, 9)]
    archive.write_bytes(zipped(("t_1.csv", one)))
    report = load(data, db, table="t")
    assert told(report)["copy_of_t.csv"] == ("skipped", "moved")
    assert report.vanished == (f"{archive}/t_3.csv",)


# whole runs -------------------------------------------------------------------------------------------------------


def test_packed_files_are_loaded_in_steps_several_at_a_time(tmp_path: Path, db: Path) -> None:
    plain = [orders(tmp_path / f"orders_{i}.csv", 3000, first=3000 * i) for i in range(5)]
    data = tmp_path / "data"
    data.mkdir()
    for path, ending in zip(plain, NAMES, strict=True):
        name = f"{path.stem}.zip" if ending == ".zip" else f"{path.name}{ending}"
        content = path.read_bytes()
        (data / name).write_bytes(zipped((path.name, content)) if ending == ".zip" else PACKERS[ending](content))
    assert load(data, db, slice_bytes=8192, commit_bytes=30_000).exit_code == 0
    assert_loaded_once(db, "orders", plain, ORDERS)
    assert load(data, db).rows == 0


def test_damage_in_a_later_step_takes_the_whole_file_back(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for ending in NAMES:
        whole = packed(ending)
        at = whole.find(b"PK\x01\x02") + 16 if ending == ".zip" else len(whole) - 6
        bad = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        (data / ("t.zip" if ending == ".zip" else f"t.csv{ending}")).write_bytes(bad)
    query(db, "CREATE TABLE t (id INTEGER, name TEXT, _ingest_file_id INTEGER)")
    report = load(data, db, slice_bytes=50_000, commit_bytes=100_000, table="t")
    assert {code for _, code in told(report).values()} == {"corrupt"}
    assert query(db, "SELECT count(*) FROM t") == [(0,)]


# in parallel ------------------------------------------------------------------------------------------------------


def test_several_files_are_decoded_at_once_within_their_room(tmp_path: Path) -> None:
    """With no room but for a slice, the first file alone goes on; those behind it wait for what it leaves."""
    sent: list[object] = []
    feeding = Feeding(2, sent.append, lambda made, cost: None)
    spool = tmp_path / "spool"
    spool.mkdir()
    jobs = []
    for number in (1, 2):
        source = written(tmp_path, gzip.compress(TEXT), f"t_{number}.csv.gz")
        member = Member(source=source, header=sniff(source))
        start = member.header.data_start
        layout = Layout(columns=tuple(Column(name=name, type=ColumnType.TEXT) for name in member.header.names))
        jobs.append(
            Job(job_id=number, kind=PROFILE, members=(member,), layout=layout, start=start, slice_bytes=100_000)
        )
        feeding.add(jobs[-1])
    feeding.add(None)
    feeding.begin(str(spool), 150_000)
    tasks: list[Task] = []
    records = Counter[int]()
    for task in feeding.tasks():
        tasks.append(task)
        assert len(os.listdir(spool)) <= 4  # one that has room, and one that waits for it, of each file
        assert task.slice.spooled is not None
        result = worker.run(task)
        assert (result.failure, result.unproven) == (None, False)
        records[task.job.job_id] += result.records
        assert not os.path.exists(task.slice.spooled)
        feeding.give(task.slice.length)
    assert records == {1: 40_000, 2: 40_000}
    for job in jobs:
        mine = [task.slice for task in tasks if task.job is job]
        assert [s.index for s in mine] == list(range(len(mine)))
        assert sum(s.length for s in mine) == len(TEXT) - job.start
    assert sorted(m.job_id for m in sent if isinstance(m, JobSliced)) == [1, 2]
    assert os.listdir(spool) == []


def test_the_first_file_takes_what_it_needs_and_the_others_what_it_leaves() -> None:
    permits = _Permits()
    permits.give(100)
    permits.join(1, 80)
    permits.join(2, 80)
    assert permits.take(2, 30) is not None
    assert permits.take(2, 20) is None
    assert permits.take(1, 50) is None
    assert permits.take(2, 1) is not None  # 30 are left, and the first file wants 30 more
    assert permits.take(1, 40) is not None
    permits.give(10)  # lent to the first one, which waits, and to nobody else
    assert permits.take(2, 1) is not None
    assert permits.take(1, 40) is None
    permits.give(20)
    assert permits.take(2, 1) is None
    assert (permits.is_first(1), permits.is_first(2)) == (True, False)
    permits.leave(1)
    assert permits.is_first(2)
    assert permits.take(2, 19) is None
