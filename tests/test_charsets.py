"""How characters are written: found, told, decoded without a loss, and offered where neither is so."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pytest
from test_sniff import refusal, written
from tools import assert_counts_add_up, load, query, rejects, source_of, told

from ingest import charsets
from ingest.charsets import CANDIDATES, Undecodable, offered, transcoded
from ingest.errors import SourceError, UsageError
from ingest.model import Codec, Reason, Told
from ingest.opening import open_decoded
from ingest.settings import Budget, parse_encoding
from ingest.sniff import HEAD_BYTES, Sniffer, sniff

TEXT = "id,name\r\n1,Zoë €\r\n2,Łódź 😀\n3,\n"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("mark", [True, False], ids=["mark", "zeros"])
@pytest.mark.parametrize("encoding", WIDE)
def test_two_and_four_bytes_a_character_are_found(tmp_path: Path, encoding: str, mark: bool) -> None:
    text = ("\ufeff" if mark else "") + TEXT
    source = written(tmp_path, text.encode(encoding))
    header = sniff(source)
    assert (header.dialect.encoding, header.names) == (encoding, ("id", "name"))
    assert header.data_start == len(text[: text.index("1,")].encode())
    with open_decoded(source, encoding) as stream:
        assert stream.read() == text.encode()


@pytest.mark.parametrize("name", ["имя,город\n" + "Анна,Казань\n" * 50, "姓名,城市\n" + "王小明,北京\n" * 50])
@pytest.mark.parametrize("encoding", WIDE)
def test_text_with_few_zeros_is_found_too(tmp_path: Path, name: str, encoding: str) -> None:
    assert sniff(written(tmp_path, name.encode(encoding))).dialect.encoding == encoding


def test_a_stray_nul_makes_no_other_encoding(tmp_path: Path) -> None:
    for data in (b"id,name\n1,\0\n2,x\n", b"id,name\n" + b"1,\0b\n" * 9, b"a,b\n1,\xc3\xa9\0\n", b"a,b\n1,\xe9x\0\n"):
        assert sniff(written(tmp_path, data)).dialect.encoding == "utf-8"


@pytest.mark.parametrize(
    ("told", "data", "found"),
    [
        ("cp1252", "id,größe\n1,2\n".encode("cp1252"), "cp1252"),
        ("utf-16", "\ufeffid,größe\n1,2\n".encode("utf-16-be"), "utf-16-be"),
        ("utf-16", "id,größe\n1,2\n".encode("utf-16-be"), "utf-16-be"),
        ("utf-16", "größe\né\n".encode("utf-16-le"), "utf-16-le"),
        ("utf-32", "\ufeffgröße\n1\n".encode("utf-32-le"), "utf-32-le"),
        ("utf-8", "\ufeffgröße\n1\n".encode(), "utf-8"),
        ("gb18030", "größe,名\n1,2\n".encode("gb18030"), "gb18030"),
    ],
)
def test_what_is_told_is_believed(tmp_path: Path, told: str, data: bytes, found: str) -> None:
    header = sniff(written(tmp_path, data), Told(encoding=told))
    assert header.dialect.encoding == found
    assert "größe" in header.names


@pytest.mark.parametrize(
    ("told", "data"), [("cp1252", "\ufeffa\n1\n".encode()), ("utf-8", "\ufeffa\n".encode("utf-16-le"))]
)
def test_a_mark_that_contradicts_what_is_told_is_refused(tmp_path: Path, told: str, data: bytes) -> None:
    with pytest.raises(SourceError, match="byte order mark") as caught:
        sniff(written(tmp_path, data), Told(encoding=told))
    assert caught.value.code == Reason.ENCODING


def test_a_told_encoding_goes_for_files_whose_first_line_was_seen_before(tmp_path: Path) -> None:
    sniffer = Sniffer(Told(encoding="cp1252"))
    for name in ("a.csv", "b.csv"):
        assert sniffer.header(written(tmp_path, b"a,b\n1,\xe9\n", name)).dialect.encoding == "cp1252"


@pytest.mark.parametrize("name", ["rot13", "zip", "base64", "idna", "unicode_escape", "undefined", "klingon", "a\0b"])
def test_what_is_no_encoding_of_files_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not known"):
        parse_encoding(name)


def test_names_of_encodings_are_those_of_python() -> None:
    assert [parse_encoding(n) for n in ("UTF8", "utf-8-sig", "Latin-1", "windows-1252", "sjis")] == [
        "utf-8",
        "utf-8",
        "iso8859-1",
        "cp1252",
        "shift_jis",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("encoding", [*WIDE, "utf-16", "utf-7", "gb18030", "iso2022_jp_2", "utf-8-sig"])
def test_blocks_of_any_size_decode_to_the_same(encoding: str, size: int) -> None:
    text = TEXT.replace("😀", "").replace("Ł", "L") if encoding.startswith("iso") else TEXT
    text = text.encode(encoding, "ignore").decode(encoding)
    data = text.encode(encoding)
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert b"".join(transcoded(blocks, encoding)) == text.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("encoding", "data", "at", "byte"),
    [
        ("cp1252", b"ab\x81c", 2, 0x81),
        ("ascii", b"abc\xe9", 3, 0xE9),
        ("utf-16-le", b"a\0\x00\xd8b\0", 2, 0x00),
        ("utf-16-le", b"a\0b", 2, None),
        ("shift_jis", b"ab\x82\xff", 2, 0x82),
        ("utf-32-le", b"a\0\0\0\0\0\x11\0", 4, 0x00),
    ],
)
def test_a_byte_that_does_not_decode_is_named_where_it_lies(
    encoding: str, data: bytes, at: int, byte: int | None, size: int
) -> None:
    with pytest.raises(Undecodable) as caught:
        list(transcoded([data[i : i + size] for i in range(0, len(data), size)], encoding))
    assert (caught.value.at, caught.value.byte) == (at, byte)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_escape_that_never_ends_is_an_error_too(tmp_path: Path, size: int) -> None:
    data = b"{\x1b$\x81{\xe9+1\n\x81a\n$\xe91{\n{a,a\x1b\r${\x1b1\x81"
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    with pytest.raises(Undecodable) as caught:
        list(transcoded(blocks, "iso2022_jp"))
    error = charsets.refusal(written(tmp_path, data), caught.value, "iso2022_jp", blocks)
    assert error.code == Reason.ENCODING


def test_cp1252_is_not_latin_1(tmp_path: Path) -> None:
    """Five bytes mean nothing in cp1252: an error with its place, on disk, not a control character."""
    data = b"id,name\n" + b"1,\x80uro\r\n2,caf\xe9\r3,x\n" * 20_000 + b"4,\x81\n"
    source = written(tmp_path, data)
    with pytest.raises(SourceError) as caught, open_decoded(source, "cp1252") as stream:
        stream.read()
    assert caught.value.code == Reason.ENCODING
    assert f"byte 0x81 is not cp1252, at offset {len(data) - 2}, in line 60002" in caught.value.message
    with open_decoded(source, "iso8859-1") as stream:
        assert stream.read() == data.decode("latin-1").encode()


def test_a_bad_byte_in_the_head_of_a_told_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"0x81 is not cp1252, at offset 7, in line 2\."):
        sniff(written(tmp_path, b"a,b\r\n1,\x81\r\n"), Told(encoding="cp1252"))


def test_a_head_that_ends_within_a_character_is_no_error(tmp_path: Path) -> None:
    text = "a,b\n" + "é" * HEAD_BYTES + ",1\n"
    assert sniff(written(tmp_path, b"x" + text.encode("utf-8")), Told(encoding="utf-8")).names == ("xa", "b")
    assert sniff(written(tmp_path, text.encode("gb18030")), Told(encoding="gb18030")).names == ("a", "b")


OFFERS = {
    "cp1252": ["nom,prénom\nLefèvre,Hélène\nDupont,François\n", "id,price\n1,5 €\n", "t\n20 °C\n", "größe\nStraße\n"],
    "mac_roman": ["nom,prénom\nLefèvre,Hélène\n", "Straße,Größe\nKöln,groß\n"],
    "cp1250": ["imię,miasto\nŁukasz Żółkiewski,Kraków\n"],
    "cp1251": ["имя,город\nАнна,Казань\n"],
    "koi8-r": ["имя,город\nАнна,Казань\n"],
    "cp1253": ["όνομα,πόλη\nΓιώργος,Αθήνα\n"],
    "cp932": ["名前,都市\nさくら,ヨコハマ\n"],
    "gb18030": ["姓名,城市\n王小明,北京\n"],
    "cp949": ["이름,도시\n김철수,서울\n"],
}


@pytest.mark.parametrize("encoding", OFFERS)
def test_what_is_not_utf8_is_offered_as_what_it_looks_like(encoding: str) -> None:
    for text in OFFERS[encoding]:
        assert offered(text.encode(encoding))[:1] == [encoding], text


def test_every_offer_can_be_typed_and_binary_data_has_none() -> None:
    assert {parse_encoding(c.name) for c in CANDIDATES} == {codecs.lookup(c.name).name for c in CANDIDATES}
    assert offered(bytes(range(256))) == []


def test_a_refusal_says_what_to_type(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "id,größe\n1,2\n".encode("cp1252")))
    assert "give --encoding cp1252" in error.hint
    packed = written(tmp_path, gzip.compress("id,größe\n1,2\n".encode("cp1252")), "a.csv.gz")
    with pytest.raises(SourceError, match="0xF6"):
        sniff(source_of(Path(packed.path), Codec.GZIP))


def test_files_of_every_encoding_are_loaded_in_slices_and_steps(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    text = "id,name,note\n" + "".join(f'{i},Zoë {i},"é, ""{i}""\n"\n' for i in range(2000))
    for name in (*WIDE, "utf-16", "utf-8-sig"):
        (data / f"wide {name}.csv").write_bytes(text.encode(name))
    sizes = {"slice_bytes": 4096, "commit_bytes": 20_000, "table": "t", "on_duplicate": "load"}
    assert load(data, db, **sizes).exit_code == 0
    (data / "told.csv").write_bytes(text.encode("cp1252"))
    assert load(data / "told.csv", db, told=Told(encoding="cp1252"), **sizes).exit_code == 0
    assert query(db, "SELECT count(*), count(DISTINCT name), count(DISTINCT note) FROM t") == [(14_000, 2000, 2000)]
    assert query(db, "SELECT name, note FROM t WHERE id = 7 GROUP BY 1, 2") == [("Zoë 7", 'é, "7"\n')]
    assert_counts_add_up(db)


def test_a_bad_byte_in_a_later_step_takes_the_whole_file_back(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "t.csv").write_bytes(b"id,name\n" + b"1,caf\xe9\n" * 5000 + b"2,\x81\n")
    query(db, "CREATE TABLE t (id INTEGER, name TEXT, _ingest_file_id INTEGER)")
    report = load(data, db, told=Told(encoding="cp1252"), slice_bytes=4096, commit_bytes=8192)
    assert told(report) == {"t.csv": ("refused", "encoding")}
    assert "in line 5002" in report.files[0].sentence
    assert query(db, "SELECT count(*) FROM t") == [(0,)]


def test_a_file_whose_values_are_not_utf8_is_refused_with_an_offer(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = b"".join(b"%d,Smith\n" % i for i in range(3000))
    (data / "t.csv").write_bytes(b"id,name\n" + rows + b"3000,Ren\xe9e\n")
    report = load(data, db, slice_bytes=8192)
    assert told(report) == {"t.csv": ("refused", "over_budget")}
    assert f"in line 3002, in the record at byte {8 + len(rows)}. It looks like cp1252" in report.files[0].hint
    assert load(data, db, max_rejects=Budget(count=1)).rows == 3000


def test_lines_of_rejects_are_exact_in_a_decoded_file(tmp_path: Path, db: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "t.csv").write_bytes("\ufeffa,b\r\né,1\r\nü\r\n".encode("utf-16-le"))
    assert load(data, db, max_rejects=Budget(count=1)).exit_code == 3
    assert [(r[0], r[1], r[4], r[5]) for r in rejects(db)] == [(3, 14, "ragged", "ü")]
