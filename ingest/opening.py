"""The way a source is opened: its bytes on disk, and the decoded stream.

The decoded stream is unpacked UTF-8 whatever the file is: what is packed is unpacked, what is written in another
encoding is decoded, both strictly and in bounded memory. What can go wrong while a source is opened or read becomes a
`SourceError` with a sentence, here and in the two rooms for that.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Protocol, cast

from ingest import charsets, unpacking
from ingest.charsets import UTF8_BOM as UTF8_BOM  # noqa: PLC0414
from ingest.errors import SourceError
from ingest.model import UTF8, Codec, Reason, Source

PREFIX_READ = 1024 * 1024
"""Bytes read at a time on the way to a slice: what comes before a resumed one may be larger than the memory."""


class Tap(Protocol):
    """Something that is shown bytes: a hash."""

    def update(self, data: bytes, /) -> None: ...


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turn what can go wrong while a source is opened or read into a `SourceError` with a sentence."""
    try:
        yield
    except OSError as error:
        hint = "Run the same command again when that is mended."
        if isinstance(error, PermissionError):
            hint = "Make it readable for this user, then run the same command again."
        raise SourceError(
            f"{source.display} cannot be read: {error.strerror or type(error).__name__}.",
            code=Reason.UNREADABLE,
            hint=hint,
        ) from error


def open_raw(source: Source) -> io.FileIO:
    """The bytes on disk. Never waits for the other end of a pipe, and takes nothing but a regular file."""
    with reading(source):
        descriptor = open_descriptor(source)
    return io.FileIO(descriptor, "rb")


def open_descriptor(source: Source) -> int:
    """As `open_raw`, without an object around it. Raises OSError for `reading` to translate."""
    if source.problem is not None:
        raise SourceError(source.problem.sentence, code=source.problem.code, hint=source.problem.hint)
    descriptor = os.open(source.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SourceError(
        f"{source.display} is not a regular file.",
        code=Reason.NOT_REGULAR,
        hint="Write it to a file first, then load that.",
    )


def encoding_error(source: Source, message: str, offers: Sequence[str] = ()) -> SourceError:
    """The refusal of a file whose characters cannot be read, with the encodings that it may be in."""
    return SourceError(message, code=Reason.ENCODING, hint=charsets.offer(source, offers))


class Decoded:
    """A stream that is made block by block, read forwards like a file."""

    def __init__(self, raw: io.FileIO, blocks: Iterator[bytes]) -> None:
        self._raw = raw
        self._blocks = blocks
        self._rest = b""
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or all that are left; fewer only at the end."""
        size = sys.maxsize if size < 0 else size
        parts = [self._rest]
        have = len(self._rest)
        while have < size and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            have += len(block)
        data = b"".join(parts)
        if have > size:
            data, self._rest = data[:size], data[size:]
        else:
            self._rest = b""
        self._position += len(data)
        return data

    def seek(self, offset: int) -> int:
        """Go forwards to an offset, by reading what is before it."""
        if offset < self._position:
            raise ValueError("a decoded stream goes forwards only")
        while (left := offset - self._position) and self.read(min(left, unpacking.PIECE)):
            pass
        return self._position

    def fileno(self) -> int:
        """Of the file on disk."""
        return self._raw.fileno()

    def close(self) -> None:
        """Close the file on disk."""
        self._raw.close()

    def __enter__(self) -> Decoded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_decoded(source: Source, encoding: str = UTF8, tap: Tap | None = None) -> BinaryIO:
    """The decoded stream of a source in this encoding; `tap` is shown the file's own bytes, before they are decoded.

    Errors of the system while it is read are for `reading` to translate; those of the content are `SourceError` with
    `CORRUPT`, `UNPACKED` or `ENCODING`, and may come as late as with the last byte.
    """
    raw = open_raw(source)
    if source.seekable(encoding) and tap is None:
        return cast(BinaryIO, raw)
    return cast(BinaryIO, Decoded(raw, _decoded(source, raw, encoding, tap)))


def open_own(source: Source) -> BinaryIO:
    """The file's own bytes, as its content is compared: on disk, or unpacked from its archive, and not decoded."""
    raw = open_raw(source)
    return cast(BinaryIO, raw if source.entry is None else Decoded(raw, _own(source, raw)))


def _own(source: Source, raw: io.FileIO) -> Iterator[bytes]:
    if source.entry is None:
        yield from unpacking.blocks(raw)
        return
    now = os.fstat(raw.fileno())
    if (now.st_size, now.st_mtime_ns) != (source.size_on_disk, source.mtime_ns):
        # What the archive's directory said of the entry is no longer so.
        raise SourceError(
            f"{source.display} changed while it was read.",
            code=Reason.CHANGED_WHILE_READ,
            hint="Run the same command again when it is complete; --min-age SECONDS waits for that.",
        )
    yield from unpacking.entry(source, raw)


def _unpacked(source: Source, raw: io.FileIO, tap: Tap | None = None) -> Iterator[bytes]:
    own = _own(source, raw)
    if tap is not None:
        own = _shown(own, tap)
    return own if source.codec is Codec.PLAIN else unpacking.unpacked(source, own)


def _decoded(source: Source, raw: io.FileIO, encoding: str, tap: Tap | None) -> Iterator[bytes]:
    blocks = _unpacked(source, raw, tap)
    return blocks if encoding == UTF8 else _transcoded(source, blocks, encoding)


def _shown(blocks: Iterator[bytes], tap: Tap) -> Iterator[bytes]:
    for block in blocks:
        tap.update(block)
        yield block


def _transcoded(source: Source, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    try:
        yield from charsets.transcoded(blocks, encoding)
    except charsets.Undecodable as error:
        # Read once more, for its line: to count lines all along would cost every file that is right.
        with open_raw(source) as again:
            raise charsets.refusal(source, error, encoding, _unpacked(source, again)) from None


def before(source: Source, encoding: str, end: int) -> tuple[hashlib._Hash, int]:
    """Hash and physical line ends of the decoded bytes before `end`: the header, and on a resume what was committed."""
    digest, lines, returned, left = hashlib.sha256(), 0, False, end
    with reading(source), open_decoded(source, encoding) as stream:
        while left and (block := stream.read(min(left, PREFIX_READ))):
            digest.update(block)
            left -= len(block)
            # A line ends with CR, LF or both; the two may fall into different blocks.
            lines += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
            lines -= returned and block.startswith(b"\n")
            returned = block.endswith(b"\r")
    if left:
        raise SourceError(f"{source.display} became shorter while it was read.", code=Reason.CHANGED_WHILE_READ)
    return digest, lines
