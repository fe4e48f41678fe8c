"""A TCP proxy between the tool and a database server, which cuts connections at a message that a test names, or a byte.

It knows of both protocols where a message begins and ends, and what is asked: PostgreSQL's "Message Formats" (a type
byte and a length, but for what comes before a session), and MySQL's packets (three bytes of length, one of sequence).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import servers

Verdict = Literal["pass", "cut", "pass and cut", "keep"]
"""Of the last two, for what a client sends, its half is cut first: it gets no answer, however quick the server is.

`keep`: the server gets the message when `release` is called.
"""

Side = Literal["client", "server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message on its way."""

    connection: int  #: its number, from 1
    side: Side  #: who sent it
    kind: bytes  #: PostgreSQL's type byte, MySQL's command byte; b"" before there is a session, or for file content
    sql: str  #: of a query, else ""
    wrote: bool = False  #: the client has sent rows, or an UPDATE, since it last ended a transaction

    @property
    def is_commit(self) -> bool:
        """A COMMIT of something: new sessions of MySQL begin with one of nothing."""
        return self.wrote and self.side == "client" and self.sql.strip().upper() == "COMMIT"

    @property
    def is_bulk(self) -> bool:
        """Content of a COPY or of a file for LOAD DATA."""
        return self.side == "client" and self.kind in (b"d", b"file")


Rule = Callable[[Message], Verdict]


def let_pass(message: Message) -> Verdict:
    """Nothing is cut."""
    del message
    return "pass"


@dataclass(slots=True, kw_only=True)
class _Link:
    """One connection through the proxy."""

    number: int
    client: socket.socket
    server: socket.socket
    reset: bool
    greetings: int = 0  #: single bytes that a PostgreSQL server still owes: its answers to a wish for encryption
    session: bool = False  #: the client has said who it is
    wrote: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cut(self, *halves: socket.socket) -> None:
        """End both halves, or these: as one whose machine forgot it (RST), or as one that was closed (FIN)."""
        with self.lock:
            for end in halves or (self.client, self.server):
                with contextlib.suppress(OSError):
                    if self.reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # wakes up who is reading from it
                with contextlib.suppress(OSError):
                    end.close()


class Proxy:
    """Listens on a free port of this machine; `rule` is asked about every message."""

    def __init__(self, server: servers.Server) -> None:
        self.rule: Rule = let_pass
        self.reset = False  #: cut by RST instead of FIN
        self.cuts = 0
        self.bytes = 0  #: that came to be forwarded, both ways, since a test last set it
        self.cut_after: int | None = None  #: cut when so many bytes were forwarded, once
        self.kept = threading.Event()  #: a message is kept
        self._released = threading.Event()
        self._server = server
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._listening: socket.socket | None = None
        self.port = 0

    def url(self, url: str) -> str:
        """The URL of the server, through here."""
        return url.replace(f":{self._server.port}/", f":{self.port}/")

    # life --------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Take connections, on the same port as before."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen()
        self.port = listening.getsockname()[1]
        self._listening = listening
        self._run(self._accept, listening)

    def down(self) -> None:
        """End all connections, and refuse new ones."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes up `accept`
            listening.close()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def release(self) -> None:
        """Give the server what was kept."""
        self._released.set()

    def close(self) -> None:
        """End everything."""
        self.release()
        self.down()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server.port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                link = _Link(number=len(self._links) + 1, client=client, server=server, reset=self.reset)
                self._links.append(link)
            self._run(self._forward, link, "client", client, server)
            self._run(self._forward, link, "server", server, client)

    # messages ----------------------------------------------------------------------------------------------

    def _forward(self, link: _Link, side: Side, source: socket.socket, sink: socket.socket) -> None:
        framed = _postgresql if self._server.kind == "postgresql" else _mysql
        try:
            for data, message in framed(link, side, lambda size: _read(source, size)):
                word = message.sql.lstrip().partition(" ")[0].upper()
                if word in ("INSERT", "UPDATE", "DELETE", "COPY", "LOAD"):
                    link.wrote = True
                with self._lock:
                    verdict = self.rule(replace(message, wrote=link.wrote))
                    room = -1 if self.cut_after is None else self.cut_after - self.bytes
                    self.bytes += len(data)
                    if 0 <= room < len(data):
                        sink.sendall(data[:room])
                        verdict = "cut"
                    self.cuts += verdict != "pass"
                if word in ("COMMIT", "ROLLBACK"):
                    link.wrote = False
                if verdict in ("keep", "pass and cut"):
                    link.cut(link.client)
                if verdict == "keep":
                    self.kept.set()
                    self._released.wait()
                if verdict != "cut":
                    sink.sendall(data)
                if verdict == "keep":
                    return  # the server's answer finds nobody, and ends its half
                if verdict != "pass":
                    break
        except OSError:
            pass
        link.cut()


Read = Callable[[int], bytes]


def _read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise ConnectionError("the other side has ended the connection")
        data += more
    return data


def _postgresql(link: _Link, side: Side, read: Read) -> Iterator[tuple[bytes, Message]]:
    while True:
        if side == "server" and link.greetings:
            link.greetings -= 1
            yield read(1), Message(connection=link.number, side=side, kind=b"", sql="")
            continue
        kind = b"" if side == "client" and not link.session else read(1)
        if side == "server" and kind in (b"N", b"S") and link.greetings:  # read before the wish was seen
            link.greetings -= 1
            yield kind, Message(connection=link.number, side=side, kind=b"", sql="")
            continue
        length = read(4)
        body = read(int.from_bytes(length, "big") - 4)
        if side == "client" and not link.session:
            wish = int.from_bytes(body[:4], "big") in (80877103, 80877104)  # SSLRequest, GSSENCRequest
            link.greetings += wish
            link.session = not wish
        sql = ""
        if side == "client" and kind == b"Q":
            sql = body.rstrip(b"\0").decode()
        elif side == "client" and kind == b"P":  # Parse: the statement's name, its text, its types
            sql = body.split(b"\0", 2)[1].decode()
        yield kind + length + body, Message(connection=link.number, side=side, kind=kind, sql=sql)


def _mysql(link: _Link, side: Side, read: Read) -> Iterator[tuple[bytes, Message]]:
    while True:
        head = read(4)
        body = read(int.from_bytes(head[:3], "little"))
        kind, sql = b"", ""
        if side == "client" and head[3] == 0:  # a command; what goes on in a sequence is no command
            kind = body[:1]
            sql = body[1:].decode(errors="replace") if kind == b"\x03" else ""
        elif side == "client" and link.session:
            kind = b"file"
        link.session = link.session or bool(side == "client" and head[3] == 0)
        yield head + body, Message(connection=link.number, side=side, kind=kind, sql=sql)


@contextlib.contextmanager
def between(server: servers.Server) -> Iterator[Proxy]:
    """A proxy inside the block."""
    proxy = Proxy(server)
    proxy.up()
    try:
        yield proxy
    finally:
        proxy.close()
