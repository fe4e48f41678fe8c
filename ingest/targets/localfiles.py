"""A PyMySQL connection that sends a file only where it was offered, and counts what the server warned of.

`LOAD DATA LOCAL INFILE` lets the *server* name the file that the client sends, in answer to any statement: PyMySQL
would send whatever it can read. Here the name in the statement is a word that stands for the offered files, and a
request for anything else ends the connection with nothing sent. Imports the driver; does not know SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from pymysql.connections import Connection, LoadLocalPacketWrapper, MySQLResult
from pymysql.constants import CR, ER
from pymysql.err import DataError, OperationalError

CHUNK = 256 * 1024
"""Bytes of one packet: PyMySQL's own 16 KiB cost a third more of our time, 1 MiB is no faster."""

_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 120_000}
"""By these our side notices within two minutes that the server's machine is gone; some systems lack one of them."""

GUARDED = all(
    callable(getattr(of, name, None))
    for of, name in ((Connection, "_read_query_result"), (MySQLResult, "_read_load_local_packet"))
)
"""Whether this PyMySQL asks the methods overridden here; where it does not, no connection offers to send files."""


class _Result(MySQLResult):  # type: ignore[misc]
    """What the server answers to one statement."""

    connection: Any

    def _read_load_local_packet(self, first_packet: Any) -> None:
        connection: LocalFilesConnection = self.connection
        asked = LoadLocalPacketWrapper(first_packet).filename
        if asked is None or asked != connection.offered:
            connection._force_close()
            raise OperationalError(
                CR.CR_SERVER_LOST, "the server asked for a file that it was not offered; nothing was sent"
            )
        try:
            connection.send_offered()
        finally:
            if connection.open:  # else what has ended it is the error to be told
                connection.write_packet(b"")
                answer = connection._read_packet()
        self._read_ok_packet(answer)


class LocalFilesConnection(Connection):  # type: ignore[misc]
    """A connection for one writer. Its `warnings` are those of all statements since they were last set to 0."""

    offered: bytes | None = None
    warnings = 0
    largest = 0  #: bytes of a statement that the server takes (its max_allowed_packet); 0: not known
    _paths: Sequence[str] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        options["local_infile"] = GUARDED
        if isinstance(options.get("password"), str):
            options["password"] = options["password"].encode()  # PyMySQL would take it for Latin-1
        try:
            super().__init__(*args, **options)
        except RuntimeError as error:
            # MySQL 8 wants the password encrypted where there is no TLS, for which PyMySQL needs another package.
            if "cryptography" not in str(error):
                raise
            raise OperationalError(CR.CR_AUTH_PLUGIN_ERR, "the package cryptography is missing") from None

    def connect(self, sock: Any = None) -> None:
        super().connect(sock)
        for name, value in _KEEPALIVE.items():
            with contextlib.suppress(AttributeError, OSError):  # a socket of the file system has no such thing
                self._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    @contextlib.contextmanager
    def offering(self, paths: Sequence[str]) -> Iterator[str]:
        """The word by which one `LOAD DATA LOCAL INFILE` inside the block gets the content of these files."""
        word = f"ingest-{secrets.token_hex(16)}"
        self.offered, self._paths = word.encode(), paths
        try:
            yield word
        finally:
            self.offered, self._paths = None, ()

    def send_offered(self) -> None:
        """Send the offered files, once, in their order."""
        self.offered = None
        for path in self._paths:
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    self.write_packet(chunk)

    def query(self, sql: Any, unbuffered: bool = False) -> Any:
        statement = sql.encode(self.encoding) if isinstance(sql, str) else sql
        if 0 < self.largest <= len(statement):
            # The server would close the connection, which looks like a failure that another try may mend.
            said = (
                f"a statement of {len(statement)} bytes is longer than the server's max_allowed_packet, {self.largest}"
            )
            raise DataError(ER.NET_PACKET_TOO_LARGE, said)
        return super().query(statement, unbuffered)

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        self._result = None
        result = _Result(self)
        if unbuffered:
            result.init_unbuffered_query()
        else:
            result.read()
        self._result = result
        if result.server_status is not None:
            self.server_status = result.server_status
        self.warnings += result.warning_count
        return result.affected_rows
