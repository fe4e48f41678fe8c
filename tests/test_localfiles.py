"""A server may ask the client for any file: it gets what was just offered, and nothing else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymysql.err import OperationalError

from ingest.targets.localfiles import GUARDED, LocalFilesConnection

SECRET = b"a line that must not leave this machine\n"

OK = b"\x00\x00\x00\x02\x00\x00\x00"


class Hostile:
    """A server that answers every statement that holds the word LOAD, or all of them, by asking for a file."""

    def __init__(self, wish: bytes | None, answers: str = "LOAD") -> None:
        self.wish = wish  #: None: the file that the statement names
        self.answers = answers
        self.got = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        self._listening.close()
        with connection, connection.makefile("rb") as stream:
            greeting = b"\x0a8.0.0\x00" + struct.pack("<I", 1) + b"12345678\x00"
            greeting += struct.pack("<HBHHB", 0xF7FF & ~0x0800, 45, 2, 0x0008, 21) + bytes(10) + b"123456789012\x00"
            greeting += b"mysql_native_password\x00"
            self._send(connection, 0, greeting)
            self._receive(stream)
            self._send(connection, 2, OK)
            while (packet := self._receive(stream)) is not None and packet[:1] != b"\x01":
                statement = packet[1:].decode()
                if self.answers not in statement:
                    self._send(connection, 1, OK)
                    continue
                wish = statement.split("'")[1].encode() if self.wish is None else self.wish
                self._send(connection, 1, b"\xfb" + wish)
                number = 2
                while chunk := self._receive(stream):
                    self.got += chunk
                    number += 1
                self._send(connection, (number + 1) % 256, OK)

    @staticmethod
    def _send(connection: socket.socket, number: int, payload: bytes) -> None:
        connection.sendall(struct.pack("<I", len(payload))[:3] + bytes([number]) + payload)

    @staticmethod
    def _receive(stream: object) -> bytes | None:
        head = stream.read(4)  # type: ignore[attr-defined]
        if len(head) < 4:
            return None
        return bytes(stream.read(int.from_bytes(head[:3], "little")))  # type: ignore[attr-defined]


@contextmanager
def connected(server: Hostile) -> Iterator[LocalFilesConnection]:
    connection = LocalFilesConnection(host="127.0.0.1", port=server.port, user="u", password="p", ssl_disabled=True)
    try:
        yield connection
    finally:
        if connection.open:
            connection.close()
        server.thread.join(10)
        assert not server.thread.is_alive()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "1.txt").write_bytes(b"1\n")
    (tmp_path / "2.txt").write_bytes(b"2\n")
    return [str(tmp_path / name) for name in ("1.txt", "2.txt")]


def test_the_driver_still_asks_what_is_overridden() -> None:
    assert GUARDED


def test_what_was_offered_is_sent_in_its_order(files: list[str]) -> None:
    server = Hostile(None)
    with connected(server) as connection, connection.offering(files) as word:
        connection.query(f"LOAD DATA LOCAL INFILE '{word}' INTO TABLE t")
    assert server.got == b"1\n2\n"


@pytest.mark.parametrize("offered", [True, False])
def test_another_file_is_not_sent(tmp_path: Path, files: list[str], offered: bool) -> None:
    server = Hostile(str(tmp_path / "secret").encode())
    with connected(server) as connection:
        if offered:
            with connection.offering(files) as word, pytest.raises(OperationalError, match="nothing was sent"):
                connection.query(f"LOAD DATA LOCAL INFILE '{word}' INTO TABLE t")
        else:
            with pytest.raises(OperationalError, match="nothing was sent"):
                connection.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
        assert not connection.open
    assert server.got == b""


def test_not_even_an_offered_file_by_its_path(files: list[str]) -> None:
    server = Hostile(files[0].encode())
    refused = pytest.raises(OperationalError, match="nothing was sent")
    with connected(server) as connection, connection.offering(files), refused:
        connection.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
    assert server.got == b""


def test_no_file_is_sent_in_answer_to_another_statement(tmp_path: Path) -> None:
    server = Hostile(str(tmp_path / "secret").encode(), answers="SELECT")
    (tmp_path / "secret").write_bytes(SECRET)
    with connected(server) as connection, pytest.raises(OperationalError, match="nothing was sent"):
        connection.query("SELECT 1")
    assert server.got == b""


def test_an_offer_holds_for_one_statement(files: list[str]) -> None:
    server = Hostile(None)
    with connected(server) as connection, connection.offering(files) as word:
        connection.query(f"LOAD DATA LOCAL INFILE '{word}' INTO TABLE t")
        with pytest.raises(OperationalError, match="nothing was sent"):
            connection.query(f"LOAD DATA LOCAL INFILE '{word}' INTO TABLE t")
    assert server.got == b"1\n2\n"
