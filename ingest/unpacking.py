"""Packed bytes to the file's own: gzip, bzip2, xz, zstd and entries of zip archives, in blocks and bounded memory.

Whatever is wrong with what is packed becomes a `SourceError`: it may show only behind the last byte, so nothing is
known to be right before the last block was asked for.
"""

from __future__ import annotations

import bz2
import io
import lzma
import shlex
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from ingest.errors import SourceError
from ingest.model import Codec, Entry, Reason, Source

BLOCK = 128 * 1024
"""Bytes read at a time: the calls cost nothing beside what is done with them, and two blocks fit the cache."""

PIECE = 1024 * 1024
"""Bytes unpacked at a time, at most: of a block of zeros there are thousands of times as many."""

RATIO = 250
"""A packed file may unpack to so many times its size: tables of repeated values were seen to come to 100, gzip's format
ends at 1,030, the others' do not end."""

LEAST_ALLOWED = 256 * 1024 * 1024
"""Bytes that any packed file may unpack to, however small it is: they harm nobody."""

MOST_ALLOWED = 1 << 40
"""Bytes that no packed file may unpack to unless the user says so: a tebibyte in one file is more likely an attack."""

XZ_MEMORY = 256 * 1024 * 1024
"""Bytes that the decoder of an xz file may take: `xz -9` needs 65 MiB, and a file can demand 4 GiB."""

ENDINGS = {".gz": Codec.GZIP, ".bz2": Codec.BZIP2, ".xz": Codec.XZ, ".zst": Codec.ZSTD}
"""What the end of a file's name says of how it is packed."""

ARCHIVE = ".zip"

_MAGIC = {
    b"\x1f\x8b\x08": ("a gzip file", ".gz"),
    b"BZh91AY&SY": ("a bzip2 file", ".bz2"),
    b"\xfd7zXZ\0": ("an xz file", ".xz"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", ".zst"),
    b"PK\x03\x04": ("a zip archive or an Office document", ARCHIVE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Office document", ""),
}

_STORED, _DEFLATED, _BZIPPED, _ZSTD, _XZ = 0, 8, 12, 93, 95
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 1


class _Decoder(Protocol):
    """What the decoders of Python's libraries have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflate:
    """zlib's decoder with the manners of the others."""

    def __init__(self, wbits: int) -> None:
        self._decoder = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        tail = self._decoder.unconsumed_tail
        out = self._decoder.decompress(tail + data if tail else data, max_length)
        # A full measure may have more behind it, even when all input is taken.
        self.needs_input = not self._decoder.unconsumed_tail and len(out) < max_length
        return out


def _zstd() -> _Decoder:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor()


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


_DECODERS: dict[Codec, Callable[[], _Decoder]] = {
    Codec.GZIP: lambda: _Inflate(16 + zlib.MAX_WBITS),
    Codec.BZIP2: bz2.BZ2Decompressor,
    Codec.XZ: _xz,
    Codec.ZSTD: _zstd,
}
_PADDED = (Codec.GZIP, Codec.XZ)
"""Formats that may have zeros behind their end, to fill a block of a tape."""

METHODS: dict[int, Callable[[], _Decoder] | None] = {
    _STORED: None,
    _DEFLATED: lambda: _Inflate(-zlib.MAX_WBITS),
    _BZIPPED: bz2.BZ2Decompressor,
    _ZSTD: _zstd,
    _XZ: _xz,
}
"""The ways of packing an entry of a zip archive that can be read, by their numbers in the format."""


def codec_of(name: str) -> Codec:
    """How a file of this name is packed."""
    _, dot, end = name.rpartition(".")
    return ENDINGS.get(dot + end.lower(), Codec.PLAIN)


def refuse_packed(source: Source, head: bytes) -> None:
    """Refuse a file that by its first bytes is packed, though its name says that it is not."""
    for magic, (what, ending) in _MAGIC.items():
        if head.startswith(magic):
            raise SourceError(
                f"{source.display} is {what}, not text, though its name does not say so.",
                code=Reason.CONTAINER,
                hint=f"Give it a name that ends in {ending}." if ending else "Save it as CSV.",
            )


def allowed(packed: int) -> int:
    """Bytes that a file of so many packed ones may unpack to, if the user says nothing else."""
    return min(MOST_ALLOWED, max(LEAST_ALLOWED, RATIO * packed))


def too_large(display: str, limit: int) -> tuple[str, str]:
    """What to say, and what to type next, of something that unpacks to more than `limit` bytes."""
    return (
        f"{display} unpacks to more than {limit:,} bytes, which is suspicious for its size.",
        "If it is what it should be, give --max-unpacked a larger SIZE.",
    )


def blocks(file: io.FileIO) -> Iterator[bytes]:
    """The bytes on disk from where the file is, in blocks."""
    while block := file.read(BLOCK):
        yield block


def unpacked(source: Source, packed: Iterator[bytes]) -> Iterator[bytes]:
    """The unpacked bytes of a source whose `codec` is not plain; several members follow each other.

    Raises `SourceError` with `CORRUPT` (not that format, cut off, a wrong checksum, garbage behind its end) or
    `UNPACKED` (more than it may unpack to).
    """
    codec, display = source.codec, source.display
    limit = source.most if source.most is not None else allowed(source.size)
    made = 0
    for piece in _decode(source, packed, _DECODERS[codec], codec.value, padded=codec in _PADDED):
        made += len(piece)
        if made > limit:
            message, hint = too_large(display, limit)
            raise SourceError(message, code=Reason.UNPACKED, hint=hint)
        yield piece


def entry(source: Source, file: io.FileIO) -> Iterator[bytes]:
    """The unpacked bytes of an entry, from the open archive. Raises `SourceError` with `CORRUPT`."""
    assert source.entry is not None
    where = source.entry
    make = METHODS[where.method]
    packed = _packed_entry(source, where, file)
    pieces = packed if make is None else _decode(source, packed, make, "zip", several=False)
    made = crc = 0
    for piece in pieces:
        made += len(piece)
        crc = zlib.crc32(piece, crc)
        if made > source.size:
            break
        yield piece
    if made != source.size:
        raise _corrupt(source, "zip", "it has another size than the archive's directory says")
    if crc != where.crc:
        raise _corrupt(source, "zip", "a checksum is wrong")


def _packed_entry(source: Source, where: Entry, file: io.FileIO) -> Iterator[bytes]:
    file.seek(max(0, where.offset))  # a damaged directory says anything
    head = file.read(_LOCAL.size) if where.offset >= 0 else b""
    if len(head) < _LOCAL.size:
        raise _corrupt(source, "zip", "it ends too early, as a transfer that was cut off does")
    magic, _, flags, method, *_, name, extra = _LOCAL.unpack(head)
    if magic != b"PK\x03\x04" or method != where.method or flags & _ENCRYPTED:
        raise _corrupt(source, "zip", "the archive's directory and its content contradict each other")
    file.seek(where.offset + _LOCAL.size + name + extra)
    left = where.length
    while left:
        block = file.read(min(left, BLOCK))
        if not block:
            raise _corrupt(source, "zip", "it ends too early, as a transfer that was cut off does")
        left -= len(block)
        yield block


def _decode(
    source: Source,
    packed: Iterator[bytes],
    make: Callable[[], _Decoder],
    name: str,
    *,
    several: bool = True,
    padded: bool = False,
) -> Iterator[bytes]:
    """What decoders made by `make` make of the blocks, one after the other where there are several members."""
    decoder: _Decoder | None = None
    members = 0
    begun = False  # this member has given something
    data = b""
    while True:
        if decoder is None:
            data = _next_member(packed, data, padded=padded and members > 0)
            if not data and members:
                return
            if not data:
                raise _corrupt(source, name, "it is empty")
            if members and not several:
                raise _corrupt(source, name, "there are bytes behind its end")
            decoder, begun = make(), False
        try:
            piece = decoder.decompress(data, PIECE)
        except MemoryError:
            raise
        except Exception as error:  # each library has its own, bz2's is an OSError; the texts may quote bytes
            raise _corrupt(source, name, _damage(str(error), name, members, begun)) from None
        if piece:
            begun = True
            yield piece
        data = b""
        if decoder.eof:
            members, data, decoder = members + 1, decoder.unused_data, None
        elif decoder.needs_input and not (data := next(packed, b"")):
            raise _corrupt(source, name, "it ends too early, as a transfer that was cut off does")


def _next_member(packed: Iterator[bytes], data: bytes, *, padded: bool) -> bytes:
    """The first bytes of the next member, b"" where there is none."""
    while True:
        if padded:
            data = data.lstrip(b"\0")
        if data:
            return data
        data = next(packed, b"")
        if not data:
            return data


def _damage(error: str, name: str, members: int, begun: bool) -> str:
    if "checksum" in error or "data check" in error or "length check" in error:
        return "a checksum is wrong"
    if "emory" in error:
        return f"unpacking it would take more than {XZ_MEMORY // 1024**2} MiB of memory"
    if begun:
        return "its compressed data cannot be decoded"
    return f"there are bytes behind its end that are not {name}" if members else f"there are bytes that are not {name}"


def _corrupt(source: Source, name: str, what: str) -> SourceError:
    test = {"bzip2": "bzip2 -t", "zip": "unzip -t"}.get(name, f"{name} -t")
    whole = f"a whole {name} file" if name != "xz" else "a whole xz file"
    whole = "whole in its archive" if name == "zip" else f"a whole {name} file"
    return SourceError(
        f"{source.display} is not {whole}: {what}.",
        code=Reason.CORRUPT,
        hint=f"Look at it with: {test} {shlex.quote(source.file)}",
    )
