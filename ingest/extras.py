"""What is among or below the records of a table and is none of them: comments, the header again, footers, other tables.

Works on bytes of a slice, before they are split. Only what is sure is left out; the rules stand at `marks` and `tail`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest import quoting
from ingest.framing import LINE, Cells, kind_of
from ingest.model import Dialect, Discard, Discards, Header
from ingest.opening import UTF8_BOM

TAIL_BYTES = 32 * 1024
"""Where a footer or a second table is looked for, from the end of a file: more than what people write below a table."""


def marks(data: bytes, dialect: Dialect, rows: Sequence[str]) -> dict[int, tuple[int | None, Discard]]:
    """Offsets at which a line begins as a comment or as a row of the header does; where that row would have to end.

    A line may lie within quotes: that a record begins (and ends) there is for others to find out.
    """
    found: dict[int, tuple[int | None, Discard]] = {}
    for row in rows:
        needle = row.encode()
        if needle not in data:
            continue
        for text in (needle, UTF8_BOM + needle):  # as where files with byte order marks were put together
            for at in _line_starts(data, text):
                end = at + len(text)
                if data[end : end + 1] in (b"", b"\n", b"\r"):
                    found[at] = end, Discard.HEADER
    if dialect.comment:
        found.update((at, (None, Discard.COMMENT)) for at in _line_starts(data, dialect.comment.encode()))
    return found


def has_comment(data: bytes, dialect: Dialect) -> bool:
    """Whether a line begins as a comment does."""
    return bool(dialect.comment) and any(True for _ in _line_starts(data, dialect.comment.encode()))


def _line_starts(data: bytes, text: bytes) -> Iterator[int]:
    """Where lines begin with a text."""
    if data.startswith(text):
        yield 0
    for line_end in (b"\n", b"\r"):
        at = data.find(line_end + text)
        while at >= 0:
            yield at + 1
            at = data.find(line_end + text, at + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What comes below a table."""

    start: int  #: offset after the last record
    lines: int  #: physical lines, the blank ones included
    discards: Discards


def tail(data: bytes | bytearray, header: Header) -> Tail | None:
    """What stands below the table, if `data` ends where its file does; None: nothing, or nothing that is sure.

    Below a blank line, and to the end of the file, there are only

    - lines of a *footer*: text in one field, no number, date or truth value, with a line end (a record that was cut
      off has none); a table of one column has no footer;
    - or a *second table*: two lines or more, up to a blank line, of one width that is not the table's, whose first
      line has only names, all of them different and none of them a column of the table.

    A line with a quote that is not the first or the last character of its field, or with an escape character, makes it
    unsure. Looks at the last `TAIL_BYTES` only, and finds the same there wherever `data` begins, if that is not within
    what it finds: so no slice may end there.
    """
    width = len(header.names)
    window = bytes(data[-TAIL_BYTES:])
    if width < 2 or not (b"\n\n" in window or b"\n\r" in window or b"\r\r" in window or window[:1] in (b"\n", b"\r")):
        return None
    if window[-1:] not in (b"\n", b"\r"):
        return None
    skip = 0
    if len(window) < len(data):
        skip = quoting.line_end(window, 0) or 0  # what is left of a line
    lines = LINE.findall(window[skip:])[:-1]
    at, start, found = len(lines), None, dict[Discard, int]()
    position = len(data)
    while at:
        end = at
        while end and not lines[end - 1].rstrip(quoting.LINE_ENDS):
            end -= 1
        begin = end
        while begin and lines[begin - 1].rstrip(quoting.LINE_ENDS):
            begin -= 1
        if begin in (0, end):
            break  # no blank line before it, or nothing after the blank lines
        block = _below([line.rstrip(quoting.LINE_ENDS) for line in lines[begin:end]], header)
        if block is None:
            break
        for kind, count in block.items():
            found[kind] = found.get(kind, 0) + count
        while begin and not lines[begin - 1].rstrip(quoting.LINE_ENDS):
            begin -= 1
        position -= sum(map(len, lines[begin:at]))
        at, start = begin, position
    if start is None:
        return None
    return Tail(start=start, lines=len(lines) - at, discards=found)


def _below(lines: Sequence[bytes], header: Header) -> Discards | None:
    """What the lines between two blank ones are, if they are surely no part of the table."""
    dialect = header.dialect
    comment = dialect.comment.encode()
    rows: list[Cells] = []
    for line in lines:
        if comment and line.startswith(comment) and not (dialect.quote and dialect.quote.encode() in line):
            continue
        cells = _plain(line, dialect)
        if cells is None:
            return None
        rows.append(cells)
    comments = {Discard.COMMENT: len(lines) - len(rows)} if len(rows) < len(lines) else {}
    if all(len(cells) == 1 and cells[0].strip() and kind_of(cells[0]) is None for cells in rows):
        return {**comments, **({Discard.FOOTER: len(rows)} if rows else {})}
    width = len(rows[0])
    if width < 2 or width == len(header.names) or len(rows) < 2 or any(len(cells) != width for cells in rows):
        return None
    names = {cell.strip().lower() for cell in rows[0]}
    ours = {name.strip().encode().lower() for name in header.names}
    named = len(names) == width and b"" not in names and not any(map(kind_of, names))
    return {**comments, Discard.TABLE: len(rows)} if named and not names & ours else None


def _plain(line: bytes, dialect: Dialect) -> Cells | None:
    """The fields of a line that is a record by itself; None where a quote or an escape could make it something else."""
    if dialect.escape and dialect.escape.encode() in line:
        return None
    quote = dialect.quote.encode()
    if not quote or quote not in line:
        return line.split(dialect.delimiter.encode())
    cells = quoting.fields(line, dialect)
    return None if cells is None or any(quote in cell for cell in cells) else cells


def cuts_tail(data: bytes | bytearray, at: int, header: Header) -> bool:
    """Whether `at` lies within what stands below the table; `data` ends where its file does."""
    if len(data) - at > TAIL_BYTES:
        return False
    below = tail(data, header)
    return below is not None and below.start < at
