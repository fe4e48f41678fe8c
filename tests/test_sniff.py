"""What the head of a file tells, and what is refused by it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from tools import source_of

from ingest.errors import SourceError
from ingest.model import Codec, Header, Reason, Source
from ingest.opening import open_decoded
from ingest.sniff import HEAD_BYTES, HEADER_BYTES, Sniffer, sniff


def written(tmp_path: Path, data: bytes, name: str = "a.csv") -> Source:
    path = tmp_path / name
    path.write_bytes(data)
    return source_of(path, Codec.GZIP if name.endswith(".gz") else Codec.PLAIN)


def sniffed(tmp_path: Path, data: bytes) -> Header:
    return sniff(written(tmp_path, data))


def refusal(source: Source) -> SourceError:
    with pytest.raises(SourceError) as caught:
        sniff(source)
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_each_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    header = sniffed(tmp_path, "id,name,note\n1,x,y\n".replace(",", delimiter).encode())
    assert header.dialect.delimiter == delimiter
    assert header.names == ("id", "name", "note")
    assert header.data_start == 13
    assert header.has_data


def test_delimiter_inside_quotes_does_not_count(tmp_path: Path) -> None:
    data = b'a;b\n"1,2,3";x\n"4,5,6";y\n"7,8\n,9";z\n'
    assert sniffed(tmp_path, data).dialect.delimiter == ";"
    data = b'"a;b;c",d\n"1;2;3",x\n'
    assert sniffed(tmp_path, data).names == ("a;b;c", "d")


def test_decimal_commas_do_not_win_over_the_delimiter(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"name, first;x;y\n" + b"M;1,5;2,5\n" * 30)
    assert header.dialect.delimiter == ";"


def test_ragged_records_do_not_change_the_delimiter(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"a;b;c\n" + b"1;2;3\n1;2\n1;2;3;4\n" * 10)
    assert header.dialect.delimiter == ";"
    header = sniffed(tmp_path, b"a;b;c\n" + b"1;2;3;\n" * 10)
    assert header.dialect.delimiter == ";"


def test_single_column_has_a_comma(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"note; or remark\nhello\nworld\n")
    assert header.dialect.delimiter == ","
    assert header.names == ("note; or remark",)


def test_comma_wins_a_tie(tmp_path: Path) -> None:
    assert sniffed(tmp_path, b"a,b;c\nx,y;z\n").names == ("a", "b;c")


@pytest.mark.parametrize(
    ("data", "line_end"),
    [
        (b"a,b\n1,2\n", "\n"),
        (b"a,b\r\n1,2\r\n", "\r\n"),
        (b"a,b\r1,2\r", "\r"),
        (b"a,b\r\n1,2\n", "\n"),
        (b'a,b\r"1\n",2\r', "\r"),
        (b"a,b", "\n"),
    ],
)
def test_line_end_is_that_of_the_records(tmp_path: Path, data: bytes, line_end: str) -> None:
    assert sniffed(tmp_path, data).dialect.line_end == line_end


def test_bom_is_skipped_and_counted(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b'\xef\xbb\xbf"a",b\n1,2\n')
    assert header.names == ("a", "b")
    assert header.data_start == 9


def test_quoted_header_with_a_line_break_is_one_record(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b'"a\nb","say ""x"""\n1,2\n')
    assert header.names == ("a\nb", 'say "x"')
    assert header.data_start == 18


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n\n"])
def test_empty_files_have_no_names_and_no_data(tmp_path: Path, data: bytes) -> None:
    header = sniffed(tmp_path, data)
    assert (header.names, header.data_start, header.has_data) == ((), len(data), False)


@pytest.mark.parametrize("data", [b"a,b", b"a,b\n", b"a,b\r\n\r\n\n"])
def test_header_alone_has_names_and_no_data(tmp_path: Path, data: bytes) -> None:
    header = sniffed(tmp_path, data)
    assert (header.names, header.has_data) == (("a", "b"), False)


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    header = sniffed(tmp_path, b"\n\r\na,b\n1,2\n")
    assert (header.names, header.data_start) == (("a", "b"), 7)


def test_header_longer_than_the_head_is_read(tmp_path: Path) -> None:
    names = tuple(f"column_{i}" for i in range(20_000))
    line = ",".join(names).encode() + b"\r\n"
    assert len(line) > HEAD_BYTES
    header = sniffed(tmp_path, line + b"1\r\n")
    assert header.names == names
    assert header.data_start == len(line)


@pytest.mark.parametrize("data", [b"x" * (HEADER_BYTES + 10), b'"' + b"x,\n" * (HEADER_BYTES // 3 + 10)])
def test_endless_header_is_refused(tmp_path: Path, data: bytes) -> None:
    error = refusal(written(tmp_path, data))
    assert error.code == Reason.NO_HEADER
    assert "4 MiB" in error.message


def test_unclosed_header_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, b'"a,b\n1,2\n')).code == Reason.NO_HEADER


@pytest.mark.parametrize("data", [b"1,2\n", b"2024-01-01,,TRUE\n", b'"2024-01-01 10:00:00","1e5"\n', b",,\n1,2,3\n"])
def test_data_in_the_first_record_is_no_header(tmp_path: Path, data: bytes) -> None:
    error = refusal(written(tmp_path, data))
    assert error.code == Reason.NO_HEADER
    assert error.hint


@pytest.mark.parametrize("data", [b"country,2019,2020\nx,1,2\n", b"t,y\n1,2\n", b"no\n1\n"])
def test_headers_that_are_partly_like_data_are_taken(tmp_path: Path, data: bytes) -> None:
    assert sniffed(tmp_path, data).has_data


def test_header_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, b"id,caf\xe9\n1,2\n"))
    assert error.code == Reason.ENCODING
    assert "0xE9 at offset 6" in error.message
    assert "--encoding cp1252" in error.hint


def test_nul_in_the_header_is_refused_and_one_in_the_data_is_left_to_the_reader(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, b"id,na\0me\n1,2\n")).code == Reason.ENCODING
    assert sniffed(tmp_path, b"id,name\n1,\0\n2,x\n").names == ("id", "name")


def test_gzip_is_read_through_its_decoder(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfa;b\n1;2\n"
    source = written(tmp_path, gzip.compress(data[:5]) + gzip.compress(data[5:]), "a.csv.gz")
    header = sniff(source)
    assert (header.names, header.data_start, header.has_data) == (("a", "b"), 7, True)
    with open_decoded(source) as stream:
        assert stream.read() == data


@pytest.mark.parametrize("damage", ["not gzip", "truncated", "checksum", "garbage"])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    data = gzip.compress(b"a,b\n1,2\n" * 50)
    data = {
        "not gzip": b"a,b\n1,2\n",
        "truncated": data[:-12],
        "checksum": data[:-8] + b"\0\1\2\3" + data[-4:],
        "garbage": data + b"hello",
    }[damage]
    error = refusal(written(tmp_path, data, "a.csv.gz"))
    assert error.code == Reason.CORRUPT
    assert "hello" not in error.message


def test_pipe_and_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert refusal(source_of(tmp_path / "pipe.csv")).code == Reason.NOT_REGULAR
    assert refusal(source_of(tmp_path)).code == Reason.NOT_REGULAR


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    source = written(tmp_path, b"a\n1\n")
    os.unlink(source.path)
    assert refusal(source).code == Reason.UNREADABLE
    with pytest.raises(SourceError) as caught:
        Sniffer().header(source)
    assert caught.value.code == Reason.UNREADABLE


@pytest.mark.parametrize(
    "data",
    [
        b"a;b\r\n1;2\r\n",
        b"a;b\r\n",
        b"a;b\r\n\r\n",
        b"a;b\r\n" + b"1;2\r\n" * 20_000,
        b"a;b",
        b"",
        b'"a;b\n";c\n1;2\n',
        b"a;b\r1;2\r",
        b"\xef\xbb\xbfa;b\r\n1;2\r\n",
    ],
)
def test_sniffer_says_the_same_the_second_time(tmp_path: Path, data: bytes) -> None:
    source = written(tmp_path, data)
    sniffer = Sniffer()
    assert sniffer.header(source) == sniff(source)
    assert sniffer.header(source) == sniff(source)


def test_sniffer_looks_at_the_data_again(tmp_path: Path) -> None:
    sniffer = Sniffer()
    assert sniffer.header(written(tmp_path, b"a,b\n1,2\n")).has_data
    assert not sniffer.header(written(tmp_path, b"a,b\n\n", "b.csv")).has_data


def test_sniffer_learns_no_delimiter_from_a_file_without_records(tmp_path: Path) -> None:
    sniffer = Sniffer()
    assert sniffer.header(written(tmp_path, b"a, b;c\n")).dialect.delimiter == ","
    assert sniffer.header(written(tmp_path, b"a, b;c\nx;1\n", "b.csv")).dialect.delimiter == ";"
