"""What a scan promises: every matching file once, in one order, and a reason for each that is left."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.errors import SourceError, UsageError
from ingest.manifest import identity, same_file, scan, sha256_many, sha256_of
from ingest.model import Codec, Manifest, Reason, TableName


def make(folder: Path, *names: str, content: str = "a,b\n1,2\n") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def found(manifest: Manifest, folder: Path) -> list[str]:
    return [os.path.relpath(source.path, os.path.realpath(folder)) for source in manifest.sources]


def left(manifest: Manifest) -> dict[str, str]:
    return {os.path.basename(item.path): item.code for item in manifest.left_out}


@contextmanager
def without_rights() -> Iterator[Path]:
    """A folder, with the rights of a user whom permissions hold back, which root's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if user == 0:
            os.seteuid(0)
        for path, _, _ in os.walk(folder):
            os.chmod(path, 0o700)
        shutil.rmtree(folder)


# folders


def test_folder_is_searched_to_the_ground_for_csv_names_in_any_case(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "B.CSV", "c.csv.gz", "d.tsv", "e.Tsv.GZ", "deep/down/f.csv")
    make(tmp_path, "README.md", "a.csv.bak", "csv", "x.json", "y.gz")
    assert found(scan([tmp_path]), tmp_path) == ["B.CSV", "a.csv", "c.csv.gz", "d.tsv", "deep/down/f.csv", "e.Tsv.GZ"]


def test_codec_comes_from_the_name(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "b.csv.gz", "c.TSV.GZ")
    assert [s.codec for s in scan([tmp_path]).sources] == [Codec.PLAIN, Codec.GZIP, Codec.GZIP]


def test_hidden_and_unfinished_names_are_left_out_without_a_word(tmp_path: Path) -> None:
    make(tmp_path, ".a.csv", ".git/b.csv", "c.csv.part", "d.csv.tmp", "e.csv.TMP", "f.csv.tmp/g.csv", "taken.csv")
    manifest = scan([tmp_path], include=["*"])
    assert found(manifest, tmp_path) == ["taken.csv"]
    assert manifest.left_out == ()


def test_folder_without_a_csv_is_an_empty_manifest(tmp_path: Path) -> None:
    assert scan([tmp_path]) == Manifest(sources=())


def test_folder_with_a_csv_name_is_searched(tmp_path: Path) -> None:
    make(tmp_path, "orders.csv/part-1.csv")
    manifest = scan([tmp_path])
    assert found(manifest, tmp_path) == ["orders.csv/part-1.csv"]
    assert manifest.left_out == ()


def test_source_says_what_the_disk_says(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", content="id\n1\n")
    before = time.time_ns()
    (source,) = scan([tmp_path]).sources
    status = (tmp_path / "a.csv").stat()
    assert source.path == os.path.realpath(tmp_path / "a.csv")
    assert (source.size, source.mtime_ns, source.ctime_ns) == (5, status.st_mtime_ns, status.st_ctime_ns)
    assert before <= source.scanned_ns <= time.time_ns()


@pytest.mark.parametrize(
    ("typed", "display"),
    [
        ("data", "data/in/a.csv"),
        ("data/", "data/in/a.csv"),
        ("./data", "./data/in/a.csv"),
        (".", "data/in/a.csv"),
        ("data/in/a.csv", "data/in/a.csv"),
        ("data/*/a.csv", "data/in/a.csv"),
        ("data/*", "data/in/a.csv"),
        ("**/a.csv", "data/in/a.csv"),
        ("data/../*/in", "data/../data/in/a.csv"),
    ],
)
def test_display_is_what_the_user_would_recognise(
    typed: str, display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "data/in/a.csv")
    monkeypatch.chdir(tmp_path)
    (source,) = scan([typed]).sources
    assert source.display == display
    assert source.path == os.path.realpath(tmp_path / "data/in/a.csv")


def test_order_is_natural_and_by_folders(tmp_path: Path) -> None:
    names = ["a2/x.csv", "a10/x.csv", "a10-b/x.csv", "orders_1.csv", "orders_2.csv", "orders_02.csv", "orders_10.csv"]
    make(tmp_path, *reversed(names))
    expected = ["a2/x.csv", "a10/x.csv", "a10-b/x.csv", "orders_1.csv", "orders_02.csv", "orders_2.csv"]
    assert found(scan([tmp_path]), tmp_path) == [*expected, "orders_10.csv"]


def test_order_does_not_depend_on_how_the_files_were_named(tmp_path: Path) -> None:
    make(tmp_path, *(f"f{i}.csv" for i in range(12)), "1.csv", "01.csv", "001.csv", "x/2.csv", "x1.csv")
    paths = [tmp_path / name for name in os.listdir(tmp_path)]
    whole = found(scan([tmp_path]), tmp_path)
    assert found(scan(paths), tmp_path) == whole
    assert found(scan(paths[::-1]), tmp_path) == whole


def test_names_that_are_not_utf8_or_hold_line_breaks_are_found_and_hashed(tmp_path: Path) -> None:
    for name in (b"caf\xe9.csv", b"two\nlines.csv"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(name)
    manifest = scan([tmp_path])
    assert [os.fsencode(os.path.basename(s.path)) for s in manifest.sources] == [b"caf\xe9.csv", b"two\nlines.csv"]
    assert [sha256_of(s) for s in manifest.sources] == [
        hashlib.sha256(b"caf\xe9.csv").hexdigest(),
        hashlib.sha256(b"two\nlines.csv").hexdigest(),
    ]
    assert len({identity(TableName(name="t"), s.path) for s in manifest.sources}) == 2


# include and exclude


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.txt"], [], ["old/c.txt"]),
        (["a.csv"], [], ["a.csv", "old/a.csv", "old/deep/a.csv"]),
        (["old/*.csv"], [], ["old/a.csv"]),
        (["old/**"], [], ["old/a.csv", "old/c.txt", "old/deep/a.csv"]),
        (["**/deep/*"], [], ["old/deep/a.csv"]),
        (["./*/a.csv"], [], ["old/a.csv"]),
        (["a.csv", "*.txt"], ["a*"], ["old/c.txt"]),
        ([], ["old"], ["a.csv", "b.csv"]),
        ([], ["old/"], ["a.csv", "b.csv"]),
        ([], ["old/deep"], ["a.csv", "b.csv", "old/a.csv"]),
        ([], ["old/*"], ["a.csv", "b.csv"]),
        ([], ["**/a.csv"], ["b.csv"]),
        ([], ["[ac].csv"], ["b.csv"]),
        ([], ["A.csv"], ["a.csv", "b.csv", "old/a.csv", "old/deep/a.csv"]),
    ],
)
def test_include_chooses_and_exclude_wins(
    include: list[str], exclude: list[str], expected: list[str], tmp_path: Path
) -> None:
    make(tmp_path, "a.csv", "b.csv", "old/a.csv", "old/c.txt", "old/deep/a.csv")
    assert found(scan([tmp_path], include=include, exclude=exclude), tmp_path) == expected


# files and patterns


def test_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    names = ["a.txt", "b.csv.part", ".c", "d"]
    make(tmp_path, *names)
    manifest = scan([tmp_path / name for name in names], include=["*.csv"])
    assert sorted(found(manifest, tmp_path)) == sorted(names)


def test_exclude_holds_for_named_files_as_the_shell_may_have_named_them(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "a_old.csv")
    assert found(scan([tmp_path / "a.csv", tmp_path / "a_old.csv"], exclude=["*_old.csv"]), tmp_path) == ["a.csv"]


def test_a_file_of_an_archive_is_told_how_it_is_typed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a/t.csv", "id\n1\n")
        archive.writestr("a/u.csv", "id\n1\n")
    with pytest.raises(UsageError, match=r"z\.zip/a/t\.csv does not exist") as caught:
        scan([tmp_path / "z.zip" / "a" / "t.csv"])
    assert caught.value.hint.endswith(f"ingest load {tmp_path}/z.zip --include t.csv")
    assert found(scan([tmp_path / "z.zip"], include=["t.csv"]), tmp_path) == ["z.zip/a/t.csv"]


def test_missing_path_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    make(tmp_path, "a.csv")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/nope.csv does not exist")):
        scan([tmp_path / "a.csv", tmp_path / "nope.csv"])
    with pytest.raises(UsageError, match="does not exist"):
        scan([f"{tmp_path}/a.csv/"])
    with pytest.raises(UsageError, match="does not exist"):
        scan(["x" * 300])
    with pytest.raises(UsageError, match="not a path"):
        scan(["a\0b"])


def test_pattern_without_a_match_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "sub/b.csv")
    for pattern in ("*.txt", "no*/x.csv", "*/c.csv", "a.csv/*", "a*/", "nope/**", "a.csv/**", "[b-z].csv"):
        with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/{pattern}")):
            scan([f"{tmp_path}/{pattern}"])


@pytest.mark.parametrize("uri", ["s3://bucket/a.csv", "https://example.org/a.csv", "file:///tmp/a.csv"])
def test_uri_is_refused_by_name(uri: str) -> None:
    with pytest.raises(UsageError, match=f"{uri} is a URI; those are not supported"):
        scan([uri])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a1.csv", "a2.csv"]),
        ("a?.csv", ["a1.csv", "a2.csv"]),
        ("a[!1].csv", ["a2.csv"]),
        ("**/*.csv", ["a1.csv", "a2.csv", "sub/b.csv", "sub/deep/c.csv"]),
        ("**/c.csv", ["sub/deep/c.csv"]),
        ("s*/**/*.csv", ["sub/b.csv", "sub/deep/c.csv"]),
        ("*/b.csv", ["sub/b.csv"]),
        ("s*", ["sub/b.csv", "sub/deep/c.csv"]),
        ("s*/", ["sub/b.csv", "sub/deep/c.csv"]),
        ("**", ["a1.csv", "a2.csv", "sub/b.csv", "sub/deep/c.csv"]),
        ("*.t*", ["d.txt"]),
        (".h*", [".hidden.csv"]),
    ],
)
def test_pattern_means_what_the_shell_would_make_of_it(pattern: str, expected: list[str], tmp_path: Path) -> None:
    make(tmp_path, "a1.csv", "a2.csv", "sub/b.csv", "sub/deep/c.csv", ".hidden.csv", ".dot/e.csv", "d.txt", "f.tmp")
    assert found(scan([f"{tmp_path}/{pattern}"]), tmp_path) == expected


def test_include_and_exclude_narrow_a_pattern(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "b.txt", "old/a.csv", "old/sub/a.csv", "new/a.csv")
    assert found(scan([f"{tmp_path}/*.*"], include=["*.csv"]), tmp_path) == ["a.csv"]
    assert found(scan([f"{tmp_path}/**/*.csv"], exclude=["old"]), tmp_path) == ["a.csv", "new/a.csv"]
    assert found(scan([f"{tmp_path}/*"], include=["*.csv"], exclude=["old"]), tmp_path) == ["a.csv", "new/a.csv"]


def test_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, "a[1].csv", "a1.csv")
    assert found(scan([tmp_path / "a[1].csv"]), tmp_path) == ["a[1].csv"]


def test_file_reached_in_several_ways_is_one_source(tmp_path: Path) -> None:
    make(tmp_path, "in/a.csv", "in/sub/b.csv")
    (tmp_path / "in/link.csv").symlink_to("a.csv")
    (tmp_path / "alias").symlink_to("in")
    paths = [tmp_path / "in/a.csv", tmp_path / "in", tmp_path / "in/sub/..", f"{tmp_path}/in/*.csv", tmp_path / "alias"]
    manifest = scan(paths)
    assert found(manifest, tmp_path) == ["in/a.csv", "in/sub/b.csv"]
    assert manifest.left_out == ()
    assert manifest.sources[0].display == f"{tmp_path}/in/a.csv"
    backwards = scan(paths[::-1])
    assert found(backwards, tmp_path) == ["in/a.csv", "in/sub/b.csv"]
    assert backwards.sources[0].display == f"{tmp_path}/alias/a.csv", "the first way typed is shown"


# what is not a regular file


def test_things_that_are_no_files_are_left_out_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null.csv").symlink_to(os.devnull)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.csv")
        manifest = scan([tmp_path])
    assert found(manifest, tmp_path) == ["a.csv"]
    assert left(manifest) == dict.fromkeys(("null.csv", "pipe.csv", "socket.csv"), Reason.NOT_REGULAR)
    assert [item.sentence.split(",")[0] for item in manifest.left_out] == [
        "It is a device",
        "It is a pipe",
        "It is a socket",
    ]


def test_a_pipe_is_left_out_of_a_pattern_and_wrong_usage_by_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    manifest = scan([f"{tmp_path}/p*"])
    assert manifest.sources == ()
    assert left(manifest) == {"pipe": Reason.NOT_REGULAR}
    with pytest.raises(UsageError, match="pipe is a pipe, not a regular file"):
        scan([tmp_path / "pipe"])


def test_link_below_the_folder_is_followed_to_its_one_real_file(tmp_path: Path) -> None:
    make(tmp_path, ".store/v5.csv", "real.csv")
    (tmp_path / "current.csv").symlink_to(".store/v5.csv")
    (tmp_path / "again.csv").symlink_to(tmp_path / "real.csv")
    manifest = scan([tmp_path])
    assert found(manifest, tmp_path) == [".store/v5.csv", "real.csv"]
    assert [os.path.basename(s.display) for s in manifest.sources] == ["current.csv", "real.csv"]
    assert manifest.left_out == ()


def test_links_out_of_the_folder_are_left_out_with_the_remedy(tmp_path: Path) -> None:
    make(tmp_path, "in/a.csv", "out/b.csv")
    (tmp_path / "in/link.csv").symlink_to("../out/b.csv")
    (tmp_path / "in/folder").symlink_to("../out")
    (tmp_path / "in/notes.txt").symlink_to("../out/b.csv")
    manifest = scan([tmp_path / "in"])
    assert found(manifest, tmp_path) == ["in/a.csv"]
    assert left(manifest) == {"folder": Reason.NOT_REGULAR, "link.csv": Reason.NOT_REGULAR}
    assert "name the folder itself" in manifest.left_out[0].sentence
    assert "name the file itself" in manifest.left_out[1].sentence
    assert found(scan([tmp_path / "in/link.csv"]), tmp_path) == ["out/b.csv"]


def test_link_between_two_scanned_folders_is_no_link_out(tmp_path: Path) -> None:
    make(tmp_path, "one/a.csv", "two/b.csv", "two-more/c.csv")
    (tmp_path / "one/b.csv").symlink_to("../two/b.csv")
    (tmp_path / "one/c.csv").symlink_to("../two-more/c.csv")
    (tmp_path / "one/all").symlink_to("../two")
    for paths in ([tmp_path / "one", tmp_path / "two"], [tmp_path / "two", tmp_path / "one"]):
        manifest = scan(paths)
        assert found(manifest, tmp_path) == ["one/a.csv", "two/b.csv"]
        assert left(manifest) == {"c.csv": Reason.NOT_REGULAR}


def test_broken_and_circular_links_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere.csv")
    (tmp_path / "dangling.txt").symlink_to("nowhere.txt")
    (tmp_path / "ping.csv").symlink_to("pong.csv")
    (tmp_path / "pong.csv").symlink_to("ping.csv")
    for path in (str(tmp_path), f"{tmp_path}/*.csv"):
        manifest = scan([path])
        assert found(manifest, tmp_path) == ["a.csv"]
        assert left(manifest) == dict.fromkeys(("dangling.csv", "ping.csv", "pong.csv"), Reason.NOT_REGULAR)
    with pytest.raises(UsageError, match="link that leads nowhere"):
        scan([tmp_path / "ping.csv"])


def test_folders_linked_in_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "a/x.csv", "b/y.csv", ".hidden/z.csv")
    for name, target in (("a/up", ".."), ("a/b", "../b"), ("b/a", "../a"), ("b/self", "."), ("b/h", "../.hidden")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / ".hidden/back").symlink_to("../a")
    assert found(scan([tmp_path]), tmp_path) == [".hidden/z.csv", "a/x.csv", "b/y.csv"]
    assert found(scan([tmp_path / "a", tmp_path / "b"]), tmp_path) == ["a/x.csv", "b/y.csv"]
    assert found(scan([f"{tmp_path}/**/*.csv"]), tmp_path) == ["a/x.csv", "b/y.csv"]


def test_unreadable_folder_is_left_out_by_name() -> None:
    with without_rights() as folder:
        make(folder, "a.csv", "shut/b.csv", "blind/c.csv")
        (folder / "shut").chmod(0o000)
        (folder / "blind").chmod(0o444)  # may be listed, not entered
        (folder / "link").symlink_to("shut/b.csv")
        manifest = scan([folder])
        by_pattern = scan([f"{folder}/*/*.csv"])
        by_name = scan([folder / "shut/b.csv"])
    assert found(manifest, folder) == ["a.csv"]
    assert left(manifest) == dict.fromkeys(("shut", "c.csv", "link"), Reason.UNREADABLE)
    assert by_pattern.sources == ()
    assert {"shut", "c.csv"} <= left(by_pattern).keys()
    assert left(by_name) == {"b.csv": Reason.UNREADABLE}


def test_files_that_vanish_while_listing_are_no_error(tmp_path: Path) -> None:
    make(tmp_path, "stays.csv")
    end = threading.Event()

    def churn() -> None:
        while not end.is_set():
            make(tmp_path, *(f"d{i}/{i}.csv" for i in range(20)))
            for i in range(20):
                shutil.rmtree(tmp_path / f"d{i}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(100):
            manifest = scan([tmp_path])
            assert "stays.csv" in found(manifest, tmp_path)
            assert manifest.left_out == ()
    finally:
        end.set()
        thread.join()


# age


def test_young_files_wait_and_are_told_when(tmp_path: Path) -> None:
    make(tmp_path, "old.csv", "young.csv", "future.csv")
    now = time.time()
    os.utime(tmp_path / "old.csv", (now - 100, now - 100))
    os.utime(tmp_path / "future.csv", (now + 1000, now + 1000))
    manifest = scan([tmp_path], min_age=60)
    assert found(manifest, tmp_path) == ["old.csv"]
    assert left(manifest) == {"young.csv": Reason.TOO_YOUNG, "future.csv": Reason.TOO_YOUNG}
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((tmp_path / "young.csv").stat().st_mtime + 60))
    assert f"a run after {when} takes it" in manifest.left_out[1].sentence
    assert len(scan([tmp_path]).sources) == 3


# the second look, and hashes


def test_second_look_sees_every_kind_of_change(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "b.csv", "c.csv", "d.csv")
    sources = scan([tmp_path]).sources
    assert all(same_file(s) for s in sources)
    a, b, c, _ = sources
    with open(a.path, "a") as file:
        file.write("3,4\n")
    os.utime(b.path, ns=(b.mtime_ns, b.mtime_ns))  # another ctime only
    os.unlink(c.path)
    assert [same_file(s) for s in sources] == [False, False, False, True]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_hash_is_of_the_bytes_on_disk(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "a.csv.gz").write_bytes(data)
    (source,) = scan([tmp_path]).sources
    assert sha256_of(source) == hashlib.sha256(data).hexdigest()


def test_hash_of_a_grown_file_is_of_all_of_it(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", content="id\n")
    (source,) = scan([tmp_path]).sources
    (tmp_path / "a.csv").write_bytes(b"id\n" * 100)
    assert sha256_of(source) == hashlib.sha256(b"id\n" * 100).hexdigest()


def test_many_hashes_are_the_same_as_one_by_one(tmp_path: Path) -> None:
    for i in range(600):
        (tmp_path / f"{i}.csv").write_bytes(b"%d\n" % i * (i % 7))
    (tmp_path / "big.csv").write_bytes(os.urandom(9 << 20))
    sources = scan([tmp_path]).sources
    hashes = sha256_many(sources)
    assert hashes == {s.path: hashlib.sha256(Path(s.path).read_bytes()).hexdigest() for s in sources}
    assert sha256_many([]) == {}


def test_file_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "gone.csv", "pipe.csv")
    sources = scan([tmp_path]).sources
    for name in ("gone.csv", "pipe.csv"):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "pipe.csv")  # would block for ever if it were opened the plain way
    a, gone, pipe = (sha256_many(sources)[s.path] for s in sources)
    assert a == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert isinstance(gone, SourceError)
    assert gone.code == Reason.UNREADABLE
    assert isinstance(pipe, SourceError)
    assert pipe.code == Reason.NOT_REGULAR
    with pytest.raises(SourceError, match=r"gone\.csv cannot be read: No such file"):
        sha256_of(sources[1])


# identity


def test_identity_tells_tables_schemas_and_paths_apart() -> None:
    keys = [
        identity(table, path)
        for table in (
            TableName(name="b", schema="a"),
            TableName(name="a.b"),
            TableName(name="ab"),
            TableName(name="b"),
            TableName(name="", schema="ab"),
            TableName(name="b/x", schema="a"),
        )
        for path in ("/x", "/x/x", "/caf\udce9", "/café")
    ]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


def test_identity_never_changes_between_versions() -> None:
    expected = hashlib.sha256(b"5:sales6:orders/data/caf\xe9.csv").hexdigest()
    assert identity(TableName(name="orders", schema="sales"), "/data/caf\udce9.csv") == expected
