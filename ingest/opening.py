"""The way a source is opened: its bytes on disk, and the decoded stream.

What can go wrong while it is opened or read becomes a `SourceError` with a sentence, here and nowhere else.
"""

from __future__ import annotations

import gzip
import io
import os
import shlex
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from ingest.errors import SourceError
from ingest.model import Codec, Reason, Source

UTF8_BOM = b"\xef\xbb\xbf"
# UTF-32 first: its little-endian mark begins with UTF-16's.
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turn what can go wrong while a source is opened or read into a `SourceError` with a sentence."""
    try:
        yield
    except gzip.BadGzipFile as error:
        # The library's text would quote bytes of the file.
        what = "a checksum is wrong" if "check" in str(error) else "there are bytes that are not gzip"
        raise _corrupt(source, what) from error
    except EOFError as error:
        raise _corrupt(source, "it ends too early, as a transfer that was cut off does") from error
    except zlib.error as error:
        raise _corrupt(source, "its compressed data cannot be decoded") from error
    except OSError as error:
        raise SourceError(
            f"{source.display} cannot be read: {error.strerror or type(error).__name__}.",
            code=Reason.UNREADABLE,
            hint="Make it readable for this user, then run the same command again.",
        ) from error


def _corrupt(source: Source, what: str) -> SourceError:
    return SourceError(
        f"{source.display} is not a whole gzip file: {what}.",
        code=Reason.CORRUPT,
        hint=f"Look at it with: gzip -t {shlex.quote(source.path)}",
    )


def open_raw(source: Source) -> io.FileIO:
    """The bytes on disk. Never waits for the other end of a pipe, and takes nothing but a regular file."""
    with reading(source):
        descriptor = open_descriptor(source)
    return io.FileIO(descriptor, "rb")


def open_descriptor(source: Source) -> int:
    """As `open_raw`, without an object around it. Raises OSError for `reading` to translate."""
    descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SourceError(
        f"{source.display} is not a regular file.",
        code=Reason.NOT_REGULAR,
        hint="Write it to a file first, then load that.",
    )


class _Gunzip(gzip.GzipFile):
    """A decoder that closes the file below it, too."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def open_decoded(source: Source) -> BinaryIO:
    """The decoded stream of a source. Errors while it is read are for `reading` to translate."""
    raw = open_raw(source)
    return cast(BinaryIO, _Gunzip(raw) if source.codec is Codec.GZIP else raw)


def refuse_wide(source: Source, head: bytes) -> None:
    """Refuse what has two or four bytes a character. A single NUL in a data record is for the reader to reject."""
    name = next((name for mark, name in _WIDE_MARKS if head.startswith(mark)), None)
    if name is None and b"\0" in head and head.count(b"\0") * 10 > len(head):
        even = head[::2].count(b"\0")
        name = "UTF-16BE" if even * 2 > head.count(b"\0") else "UTF-16LE"
    if name is not None:
        raise encoding_error(source, f"{source.display} looks like {name}; files have to be UTF-8.", name)


def encoding_error(source: Source, message: str, name: str | None = None) -> SourceError:
    path = shlex.quote(source.path)
    hint = f"Convert it, for example with: iconv -f {name} -t UTF-8 {path} > converted.csv" if name else ""
    return SourceError(message, code=Reason.ENCODING, hint=hint or f"See what it is with: file {path}")
