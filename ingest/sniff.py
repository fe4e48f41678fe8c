"""The head of a file to its `Header`: dialect, column names, and where the data begins.

Reads only the head: what it decides is proved later, when every record of the file is split.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ingest import charsets, dialects, framing, quoting, unpacking
from ingest.dialects import Head
from ingest.errors import SourceError
from ingest.model import UNTOLD, UTF8, Codec, Header, Reason, Source, Told
from ingest.opening import open_decoded, open_descriptor, reading

HEAD_BYTES = 64 * 1024
"""What is read of a file to decide: one read, some hundred records of ordinary width, and still in the cache."""

HEADER_BYTES = 4 * 1024 * 1024
"""A header record that is longer is none: SQLite's 2,000 columns with names of 2,000 bytes would still fit."""


def sniff(source: Source, told: Told = UNTOLD) -> Header:
    """Open a source, read its head, decide.

    Raises `SourceError` with `UNREADABLE`, `NOT_REGULAR`, `CORRUPT`, `CONTAINER`, `UNPACKED`, `ENCODING` or
    `NO_HEADER`.
    """
    for size in (HEAD_BYTES, HEADER_BYTES):
        with reading(source), open_decoded(source) as stream:
            head = stream.read(size + 1)
        whole = len(head) <= size
        header = _decide(source, head, told, whole)
        if header is not None:
            return header
    raise framing.no_header(source, f"its first record is longer than {HEADER_BYTES // 1024**2} MiB")


class Sniffer:
    """Sniffs many files, and remembers: a first line seen before is not taken apart again."""

    def __init__(self, told: Told = UNTOLD) -> None:
        self._told = told
        self._known: dict[bytes, Header] = {}

    def header(self, source: Source) -> Header:
        """As `sniff`, about five times as fast where the first line is byte for byte that of an earlier file."""
        if source.packed:
            return sniff(source, self._told)
        with reading(source):
            descriptor = open_descriptor(source)
            try:
                head = os.read(descriptor, HEAD_BYTES + 1)
            finally:
                os.close(descriptor)
        whole = len(head) <= HEAD_BYTES
        end = head.find(b"\n") + 1
        line = head[:end]
        known = self._known.get(line)
        if known is not None and self._holds(Head(data=head, first=0, whole=whole), end, known):
            return known if not whole or framing.has_data(head, end) else replace(known, has_data=False)
        header = _decide(source, head, self._told, whole) or sniff(source, self._told)
        # Without a record there was nothing to compare; a header with quotes may go on after its first line; and one
        # with a value in it may be a record, or with a gap be above another one, which only the others tell.
        plain = header.has_data and header.data_start == end and b'"' not in line and all(header.names)
        plain = plain and framing.of_words(header.names) and not (header.discards or header.guessed)
        if plain and header.dialect.encoding == UTF8 and dialects.lasts(line, header.dialect):
            self._known[line] = header
        return header

    def _holds(self, head: Head, end: int, known: Header) -> bool:
        """Whether a file that begins with the line of a known one, up to `end`, is written as that one is."""
        return _goes_on(head.data, end, known) and dialects.holds(head, known.dialect, self._told)


def _decide(source: Source, head: bytes, told: Told, whole: bool) -> Header | None:
    """What the head says; None if the header record goes on after it."""
    if source.codec is Codec.PLAIN:
        unpacking.refuse_packed(source, head)
    encoding = charsets.find(source, head, told.encoding)
    if encoding != UTF8:
        head = charsets.decode_head(source, head, encoding, whole=whole)
    opening = framing.opening(head, told, whole)
    if opening is None:
        return None
    if opening.delimiter is not None and told.delimiter is None:
        told = replace(told, delimiter=opening.delimiter)
    beginning = Head(data=head, first=framing.first_text(head, opening.end), whole=whole)
    uncommented = framing.without_comments(beginning, told)
    if uncommented.first == len(uncommented.data):
        return framing.nothing(beginning, opening.lines, encoding) if whole else None
    dialect = dialects.find(uncommented, told)
    if dialect is None:
        return None
    if told.comment and len(dialect.delimiter) > 1 and dialect.delimiter.startswith(told.comment):
        # A record whose first field is empty would be a comment, or not, by how its file is sliced.
        raise SourceError(
            f"{source.display} seems to be separated by {dialect.delimiter!r}, which begins as "
            f"--comment {told.comment!r} does.",
            code=Reason.NO_HEADER,
            hint="Load it without --comment, and with --skip-rows N if there are comments above its header.",
        )
    return framing.frame(source, beginning, replace(dialect, encoding=encoding), told, opening.lines)


def _goes_on(head: bytes, end: int, known: Header) -> bool:
    """Whether the next line has as many fields as a known first one, which else may be a title this time."""
    following = head[end : head.find(b"\n", end) + 1].rstrip(quoting.LINE_ENDS)
    cells = quoting.fields(following, known.dialect)
    return cells is not None and len(cells) == len(known.names)
