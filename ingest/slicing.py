"""A source to slices on proven boundaries.

Reads a source once, from its first byte, hashes it on the way, and cuts it behind records. A border is proved by the
number of quotes before it, which holds where quotes are used by the book (`reader` checks that, slice by slice), or,
where that failed, by walking the records with the exact rules. Sources that are packed, or in another encoding than
UTF-8, are decoded into the spool, for they cannot be seeked. Does not split records into fields, and decides nothing
about them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

from ingest import extras, quoting
from ingest.errors import SourceError
from ingest.model import Header, Reason, Slice, Source
from ingest.opening import open_decoded, open_raw, reading

READ = 1024 * 1024
"""Bytes read at a time: enough for the hash's full speed, little enough for the processor's cache."""

LOOKAHEAD = 64 * 1024
"""Bytes read beyond where a slice should end, so that its last record is nearly always there at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliced:
    """What is known of a source once it was read to its end."""

    end: int  #: bytes of the decoded stream
    sha256: str  #: of the bytes on disk
    prefix_sha256: str  #: of all decoded bytes


def whole(source: Source, header: Header) -> Slice:
    """A plain source as one slice, without looking at it."""
    return Slice(
        index=0,
        start=header.data_start,
        length=source.size - header.data_start,
        ends_step=True,
        first=True,
        last=True,
    )


def guessed(source: Source, header: Header, *, slice_bytes: int) -> Iterator[Slice]:
    """A plain source in slices that end at some line end, without reading what is between: for a look at the values.

    A line end may lie within quotes (or be escaped, which `reader` sees). But if each slice is by the book when it is
    read as one that starts outside of them, then each ends outside of them, so that the next one starts there: all of
    them together prove the borders. None ends within what stands below the table.

    Raises `SourceError` with `UNREADABLE`.
    """
    position, index = header.data_start, 0
    with open_raw(source) as file, reading(source):
        while position < source.size:
            rest = source.size - position
            end = position + _share(rest, slice_bytes)
            if end < source.size:
                file.seek(end - 1)
                data = b""
                border = None
                while border is None:
                    if len(data) > quoting.RECORD_BYTES:
                        raise _too_long(source, end)
                    data += (more := file.read(len(data) + LOOKAHEAD))
                    border = quoting.line_end(data, 0, final=not more)
                end = end - 1 + border if data else source.size  # its reader finds out what became of the rest
                if source.size - end <= extras.TAIL_BYTES:
                    begin = max(position, source.size - extras.TAIL_BYTES - 1)
                    file.seek(begin)
                    if extras.cuts_tail(file.read(source.size - begin), end - begin, header):
                        end = source.size
            yield Slice(
                index=index,
                start=position,
                length=end - position,
                ends_step=end == source.size,
                first=index == 0,
                last=end == source.size,
            )
            position, index = end, index + 1


def slices(
    source: Source,
    header: Header,
    *,
    start: int | None = None,
    slice_bytes: int,
    commit_bytes: int | None,
    exact: bool = False,
    after_broken: bool = False,
    expect_prefix: str | None = None,
    spool: Path | None = None,
    prefix: str = "",
    hashed: bool = True,
    first_record: int | None = None,
) -> Generator[tuple[Slice, str], None, Sliced]:
    """Yield slices of about `slice_bytes` from `start` on; with one that ends a step, the hash of all before its end.

    `start` is a border between records (default: where the data starts) and `expect_prefix` the SHA-256, in hex, of the
    decoded bytes before it. A step ends at the first border `commit_bytes` or more after the step's start; None: at the
    end of the file only. What cannot be seeked needs `spool`: slice i is written to `prefix` + "i.raw" in it.
    Not `hashed`, for a look at the values only: no hashes and no checksums, which are half of the work.
    `first_record`: records before `start`; each slice is told how many come before it. None: nobody asks.
    Holds at most two slices, or one and the longest record allowed.

    Raises `SourceError` with `CHANGED` (the prefix is another), `CHANGED_WHILE_READ`, `CORRUPT`, `UNPACKED`,
    `ENCODING`, `UNREADABLE`, `SPOOL`.
    """
    begin = header.data_start if start is None else start
    exact = exact or bool(header.dialect.comment)  # whose quotes count for nothing
    with _Stream(source, header.dialect.encoding, hashed) as stream:
        stream.skip(begin, expect_prefix)
        position = step_start = begin
        index = step = 0
        broken = after_broken
        while True:
            at = _aim(stream, position, step_start, slice_bytes, commit_bytes)
            if not stream.buffer:
                break
            length, broken_here = _cut(stream, at, header, exact, broken)
            stream.want(length + extras.TAIL_BYTES + 1)
            if stream.ended and extras.cuts_tail(stream.buffer, length, header):
                length = len(stream.buffer)  # what is below a table is only known as a whole
            last = length == len(stream.buffer)
            if last:
                stream.check_unchanged(position + length)
            ends_step = last or (commit_bytes is not None and position + length - step_start >= commit_bytes)
            spooled = None
            with memoryview(stream.buffer)[:length] as data:
                if not stream.seekable:
                    spooled = _write(spool, f"{prefix}{index}.raw", data, source)
                checksum = zlib.crc32(data) if hashed else None
                count = None if first_record is None else _records(bytes(data), header, exact, broken)
            stream.take(length)
            found = Slice(
                index=index,
                start=position,
                length=length,
                step=step,
                ends_step=ends_step,
                first=position == header.data_start,
                last=last,
                exact=exact,
                after_broken=broken,
                checksum=checksum,
                spooled=spooled,
                first_record=first_record or 0,
            )
            yield found, stream.decoded.copy().hexdigest() if ends_step else ""
            position += length
            index += 1
            broken = broken_here
            first_record = None if first_record is None or count is None else first_record + count
            if ends_step:
                step, step_start = step + 1, position
        stream.check_unchanged(position)
        return Sliced(end=position, sha256=stream.on_disk.hexdigest(), prefix_sha256=stream.decoded.hexdigest())


def _records(data: bytes, header: Header, exact: bool, after_broken: bool) -> int:
    """How many records a slice holds. One that is not by the book, though it should be, is found out by its reader."""
    from ingest import reader  # Arrow, which slicing does without where nobody asks for numbers

    return len(reader.split(data, header.dialect, exact=exact, after_broken=after_broken).starts)


def _share(left: int, slice_bytes: int) -> int:
    """Bytes of the next of even slices: the nearest number of them, at least one. Up to one and a half are one."""
    return -(-left // max(1, -(-(2 * left - slice_bytes) // (2 * slice_bytes))))


def _aim(stream: _Stream, position: int, step_start: int, slice_bytes: int, commit_bytes: int | None) -> int:
    """How long the next slice should be; fills the buffer that far.

    What is left of the step or the file is divided evenly, so that no worker gets a crumb while another has its fill.
    For a decoded file what is left is known only once the end was seen.
    """
    left = None if commit_bytes is None else max(1, step_start + commit_bytes - position)
    size = stream.decoded_size
    if size is None:
        stream.want(slice_bytes * 3 // 2 + 1)
        if stream.ended:
            size = position + len(stream.buffer)
    if size is not None:
        rest = max(1, size - position)
        left = rest if left is None else min(left, rest)
    at = slice_bytes if left is None else _share(left, slice_bytes)
    stream.want(at + LOOKAHEAD)
    return at


def _cut(stream: _Stream, at: int, header: Header, exact: bool, after_broken: bool) -> tuple[int, bool]:
    """The first border at or after `at` in the stream's buffer, and whether a broken record came before it."""
    dialect = header.dialect
    while at < len(stream.buffer):
        final = stream.ended
        broken = after_broken
        data = quoting.masked(stream.buffer, dialect)
        if exact:
            border, broken = quoting.exact_border(data, at, dialect, after_broken=after_broken, final=final)
        else:
            border = quoting.counted_border(data, at, dialect, final=final)
        if border is not None:
            return border, broken
        if len(stream.buffer) - at > quoting.RECORD_BYTES:
            # Counting lost its way, or nothing ends here at all. Any line end will do: the reader of an odd number of
            # quotes finds out, and the exact rules, under which a record cannot be longer, go on from there.
            border = quoting.line_end(data, at - 1, final=False)
            if border is None:
                raise _too_long(stream.source, stream.taken + at)
            return border, broken
        if final:
            break
        stream.want(2 * len(stream.buffer))
    return len(stream.buffer), after_broken


def _too_long(source: Source, at: int) -> SourceError:
    """For the line at byte `at` of the decoded stream."""
    limit = f"{quoting.RECORD_BYTES // 1024**2} MiB"
    name = shlex.quote(os.path.basename(source.display))
    return SourceError(
        f"{source.display} has a line of more than {limit}, the one with byte {at}; it is read in slices that end "
        "behind a line, and no line may be longer.",
        code=Reason.CORRUPT,
        hint=f"If it is no CSV file, leave it out: --exclude {name}. Else take that line out of it, or shorten it, and "
        f"run the same command again; a record of more than {limit} cannot be loaded.",
    )


def _write(spool: Path | None, name: str, data: memoryview, source: Source) -> str:
    if spool is None:
        raise ValueError("a source that cannot be seeked needs a spool")
    path = spool / name
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SourceError(
            f"{source.display}: its decoded bytes cannot be written to {path}: {error.strerror}.",
            code=Reason.SPOOL,
            hint="Make room there, or choose another place with --spool DIR.",
        ) from error
    return str(path)


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> _Hash: ...


class _NoHash:
    """In the place of a hash that nobody asked for."""

    def update(self, data: bytes | memoryview, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""

    def copy(self) -> _Hash:
        return self


class _Stream:
    """A source's decoded bytes, in order, through a buffer that grows as is asked; both hashes are kept."""

    def __init__(self, source: Source, encoding: str, hashed: bool) -> None:
        self.source = source
        self.buffer = bytearray()  #: decoded bytes read and not yet taken
        self.ended = False  #: nothing comes after the buffer
        self.taken = 0  #: decoded bytes that were before the buffer
        self.decoded: _Hash = hashlib.sha256() if hashed else _NoHash()  #: of what was taken
        self.seekable = source.seekable(encoding)
        if self.seekable:
            self.on_disk = self.decoded
            self.decoded_size: int | None = source.size
            self._file = cast(BinaryIO, open_raw(source))
        else:
            self.on_disk = hashlib.sha256() if hashed else _NoHash()
            self.decoded_size = None
            self._file = open_decoded(source, encoding, tap=self.on_disk)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def want(self, count: int) -> None:
        """Fill the buffer to `count` bytes, or to the end of the file."""
        if self.ended or len(self.buffer) >= count:
            return
        missing = count - len(self.buffer)
        with reading(self.source):
            while missing > 0 and (part := self._file.read(min(missing, READ))):
                self.buffer += part
                missing -= len(part)
        self.ended = missing > 0

    def take(self, count: int) -> None:
        """Remove `count` bytes from the buffer's front, and hash them."""
        with memoryview(self.buffer)[:count] as data:
            self.decoded.update(data)
        del self.buffer[:count]
        self.taken += count

    def skip(self, to: int, expect: str | None) -> None:
        """Go to a border found earlier, hashing what is before it."""
        done = 0
        while done < to:
            self.want(min(READ, to - done))
            if not self.buffer:
                if expect is None:
                    raise self._changed(Reason.CHANGED_WHILE_READ, "became shorter while it was read")
                raise self._changed(Reason.CHANGED, "is shorter than when a part of it was loaded")
            done += len(self.buffer)
            self.take(len(self.buffer))
        if expect is not None and self.decoded.copy().hexdigest() != expect:
            raise self._changed(Reason.CHANGED, "is not what it was when a part of it was loaded")

    def check_unchanged(self, end: int) -> None:
        """Refuse a source that is not the one the scan saw. `end` counts the decoded bytes up to its end."""
        with reading(self.source):
            now = os.fstat(self._file.fileno())
        size = end if self.seekable else self.source.size
        found, expected = (size, now.st_size), (self.source.size, self.source.size_on_disk)
        if found != expected or now.st_mtime_ns != self.source.mtime_ns:
            raise self._changed(Reason.CHANGED_WHILE_READ, "changed while it was read")

    def _changed(self, code: Reason, what: str) -> SourceError:
        if code is Reason.CHANGED:
            hint = "Choose with --on-change reload or --on-change skip."
        else:
            hint = "Run the same command again when it is complete; --min-age SECONDS waits for that."
        return SourceError(f"{self.source.display} {what}.", code=code, hint=hint)
