"""Where the table is in a file: what stands before it, its names, and where its data begins.

Only what is sure is taken for no part of the table, by rules that are stated where they are followed (`opening`,
`_preamble`, `_is_data`; `extras` has those for what comes later); what is not is loaded or refused. What the user says
goes before all of them. Names are given raw, as they stand in the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ingest import charsets, dialects, quoting
from ingest.dialects import Head
from ingest.errors import SourceError
from ingest.model import Dialect, Discard, Discards, Header, Reason, Source, Told
from ingest.opening import UTF8_BOM, encoding_error

PREAMBLE_LINES = 20
"""Lines that can stand before a header without being told of: what has more is not a title."""

PROOF_RECORDS = 5
"""Records below a header, up to a blank line, that must have its width before what is above it is left out."""

_BLANK = re.compile(rb"[\r\n]*+")
LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_NUMBER = re.compile(rb"[+-]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:e[+-]?\d+)?%?", re.IGNORECASE)
_MOMENT = re.compile(rb"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_TRUTH = re.compile(rb"true|false", re.IGNORECASE)
_KINDS = (_NUMBER, _MOMENT, _TRUTH)
_YEAR = re.compile(rb"(?:19|20)\d\d")
_EXCEL = re.compile(rb"sep=([^\w\s]|\t)(?:\r\n|\r|\n|\Z)", re.IGNORECASE)

Cells = list[bytes]


# before the table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What stands at the very beginning of a file and has no part in finding out its dialect."""

    end: int  #: offset after it
    lines: int  #: those of its lines that are not blank
    delimiter: str | None = None  #: what a line of Excel's says


def opening(head: bytes, told: Told, whole: bool) -> Opening | None:
    """What is left out at a file's first byte: a byte order mark, the lines of `--skip-rows`, or a line `sep=;`.

    `sep=` with one character is what Excel writes, and reads, before a file's header; it is taken for that where nobody
    told how many lines to skip. None if more of the file has to be read.
    """
    start = end = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
    if told.skip_rows is None:
        found = _EXCEL.match(head, start)
        if found is None:
            return Opening(end=start, lines=0)
        return Opening(end=found.end(), lines=1, delimiter=found[1].decode("latin-1"))
    lines = 0
    for _ in range(told.skip_rows):
        after = quoting.line_end(head, end, final=whole)
        if after is None:
            return None
        lines += bool(head[end:after].rstrip(quoting.LINE_ENDS))
        end = after
    return Opening(end=end, lines=lines)


def first_text(head: bytes, start: int) -> int:
    """The offset of the first line with anything on it; the end where there is none."""
    blank = _BLANK.match(head, start)
    return blank.end() if blank else start


def without_comments(head: Head, told: Told) -> Head:
    """A head to find out a dialect of: without lines that are comments, and, untold, without `#` lines at its start.

    Where that leaves nothing: of comments that were told of nothing, else the head as it is, for it may be a table.
    """
    data = head.data[head.first :]
    comment = b"#" if told.comment is None else told.comment.encode()
    if not comment or comment not in data or (told.comment is None and not data.startswith(comment)):
        return head
    kept, leading = [], True
    for line in LINE.findall(data):
        leading = leading and line.startswith(comment)
        if not (leading or (told.comment and line.startswith(comment))):
            kept.append(line)
    stripped = b"".join(kept)
    first = first_text(stripped, 0)
    if first < len(stripped) or told.comment:
        return Head(data=stripped, first=first, whole=head.whole)
    return head


# the header -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Record:
    start: int  #: offset in the file
    end: int  #: offset after its line end
    bare: bytes  #: without its line end
    after_blank: bool  #: a blank line stands before it
    dialect: Dialect

    @cached_property
    def cells(self) -> Cells | None:
        """Its fields; None if a quote is not closed as it should be."""
        return quoting.fields(self.bare, self.dialect)

    @property
    def width(self) -> int:
        return len(self.cells or ())

    @property
    def filled(self) -> int:
        """How many fields are filled before the first empty one; 0 where a filled one comes after that."""
        cells = [bool(cell.strip()) for cell in self.cells or ()]
        return sum(cells) if cells == sorted(cells, reverse=True) else 0


def frame(source: Source, head: Head, dialect: Dialect, told: Told, skipped: int = 0) -> Header | None:
    """The header of a file; None if it goes on after the head. `skipped` lines before `head.first` are left out, too.

    `--header N` is believed: N records are the header, whatever is in them. Told nothing, the first record that is no
    preamble is the header, unless it is one of the data (`_is_data`); or the first two are, if that is one of groups
    (`_is_of_groups`). Raises `SourceError` with `NO_HEADER`.
    """
    dialect = replace(dialect, comment=told.comment or "")
    found: list[_Record] = []
    comments: list[int] = []
    for record in _records(head, dialect, told.header or 1):
        if dialect.comment and record.bare.startswith(dialect.comment.encode()):
            comments.append(record.start)
        else:
            found.append(record)
    if not found:
        return None
    at = _preamble(found, told)
    count = told.header or (2 if told.header is None and _is_of_groups(found[at:]) else 1)
    rows = found[at : at + count]
    headless = told.header == 0 or (told.header is None and _is_data(found[at:]))
    if not headless and len(rows) < count:
        if not head.whole:
            return None
        raise no_header(source, f"it has {len(rows)} of the {count} rows that its header is said to have")
    end = rows[0].start if headless else rows[-1].end
    left_out = skipped + at + sum(start < end for start in comments)
    discards: Discards = {Discard.PREAMBLE: left_out} if left_out else {}
    data = not head.whole or has_data(head.data, end)
    if data and head.whole and dialect.comment and (below := _only_comments(head.data[end:], dialect)):
        data, discards = False, {**discards, Discard.COMMENT: below}
    return Header(
        dialect=dialect,
        names=_numbered(found[at:])
        if headless
        else _names(source, rows, dialect, believed=told.header is not None or count > 1),
        data_start=end,
        has_data=data,
        rows=() if headless else tuple(row.bare.decode() for row in rows if _is_known_again(row, row is rows[-1])),
        guessed=headless and told.header is None,
        discards=discards,
    )


def nothing(head: Head, skipped: int, encoding: str) -> Header:
    """The header of a file that holds no record: nothing at all, or `skipped` lines and others that are comments."""
    left_out = skipped + sum(map(bool, head.data[head.first :].splitlines()))
    discards: Discards = {Discard.PREAMBLE: left_out} if left_out else {}
    dialect = Dialect(encoding=encoding)
    return Header(dialect=dialect, names=(), data_start=len(head.data), has_data=False, discards=discards)


def _records(head: Head, dialect: Dialect, rows: int) -> list[_Record]:
    """The records at the beginning of a file, so many that a header of `rows` rows can be told."""
    found: list[_Record] = []
    position = head.first
    records = dialects.records(head, dialect)
    if not (dialect.comment or records[:1] == [] or records[0].startswith(b"#")):
        # More of them decide nothing.
        records = records[: rows + PREAMBLE_LINES + dialects.RECORDS_COMPARED]
    for record in records:
        start = first_text(head.data, position) if head.data[position] in quoting.LINE_ENDS else position
        end = start + len(record)
        bare = record.rstrip(quoting.LINE_ENDS)
        # What lies between the line end of one record and the next record are blank lines.
        found.append(_Record(start=start, end=end, bare=bare, after_blank=start > position, dialect=dialect))
        position = end
    return found


def _preamble(found: Sequence[_Record], told: Told) -> int:
    """How many records at the beginning are no part of the table.

    Lines that begin with `#`: each that has not as many fields as the record below them. One that has as many is the
    header, and so is everything after it, unless it is the last one and the next record shows by the values below it
    that it is the header. `--comment none` switches this off.

    Titles: up to 20 records that all have fewer fields than the next one, if that one can be a header (of values it
    has none but years and numbers in equal steps) and the five records below it have as many fields (or fewer records,
    at least one, where a blank line or the end comes before). None of the titles is a single value, and no two that
    follow each other have the same width of two or more, for that would be a table. And a blank line stands between
    the last of them and the header, or the values below prove the header, or the titles are of one field and the table
    has three columns or more: a header that lacks the name of one column is no title. Or: all of them have the width of
    the table, but nothing in its second half, and the values below prove the header, which has a name for each column.

    Neither is looked for where `--skip-rows` is given, titles not with `--header none`.
    """
    if told.skip_rows is not None:
        return 0
    at = 0
    if told.comment is None:
        at = _marked(found)
    if told.header == 0:
        return at
    same = len(found) > at + 1 and found[at].width == found[at + 1].width > 1 and not found[at + 1].after_blank
    if same and found[at].filled * 2 > found[at].width:
        return at  # as nearly all files begin
    for end in range(at + 1, min(at + 1 + PREAMBLE_LINES, len(found) - 1)):
        header, body = found[end], found[end + 1 :]
        if header.width > max(found[at].width, 1) and _proven(header.width, body):
            return end if _are_titles(found[at:end], header, body) else at
        if _are_filled_up(found[at:end], header) and _proven(header.width, body) and _is_header(header, body):
            return end
    return at


def _are_filled_up(lines: Sequence[_Record], header: _Record) -> bool:
    """Whether titles were given the width of the table by empty fields behind them, as spreadsheets do."""
    if any(line.width != header.width or line.filled * 2 > line.width for line in lines):
        return False
    gaps = any(not line.filled and line.bare.strip(line.dialect.delimiter.encode()) for line in lines)
    return lines[0].filled > 0 and not gaps and header.filled == header.width


def _proven(width: int, body: Sequence[_Record]) -> bool:
    """Whether the records below one have its width; those after a blank line may be another table's."""
    for number, record in enumerate(body[:PROOF_RECORDS]):
        if record.after_blank and number:
            break
        if record.width != width:
            return False
    return bool(body)


def _are_titles(lines: Sequence[_Record], header: _Record, body: Sequence[_Record]) -> bool:
    """The rule for titles, `_preamble` has it."""
    if any(line.cells is None or line.width >= header.width or kind_of(line.bare) for line in lines):
        return False
    if any(a.width == b.width > 1 and not b.after_blank for a, b in pairwise(lines)):
        return False
    cells = header.cells or []
    stepping = _in_steps(cells)
    values = [at for at, cell in enumerate(cells) if kind_of(cell)]
    if len(values) == len(cells) or any(at not in stepping and not _YEAR.fullmatch(cells[at].strip()) for at in values):
        return False
    short = header.width > 2 and all(line.width == 1 for line in lines)
    return header.after_blank or short or _is_header(header, body)


def _marked(found: Sequence[_Record]) -> int:
    """How many `#` lines at the beginning are comments."""
    end = next((i for i, record in enumerate(found) if not record.bare.startswith(b"#")), len(found))
    if end in (0, len(found)):
        return 0
    width, body = found[end].width, found[end + 1 :]
    if width < 2 or (body and not _proven(width, body)):
        return 0
    for at in range(end):
        if found[at].width == width and not (at == end - 1 and _is_header(found[end], body)):
            return at
    return end


def _is_header(first: _Record, body: Sequence[_Record]) -> bool:
    """Whether the values below a record prove that it is the header: words over them, and nothing like data."""
    words, values = _votes(first, body)
    return words > 0 and values == 0


def _is_data(found: Sequence[_Record]) -> bool:
    """Whether the first record is one of the data, so that there is no header.

    Asked are the columns whose values below are all numbers, or all dates, or all truth values. One speaks against a
    header if the first record has such a value there, too; for one if it has a word. It says nothing if it is empty
    there, or has what people name columns by: a year (unless all values below are years), numbers in equal steps from
    one column to the next (`1,2,3`, `10,20,30`; two columns only in steps of 1), or a whole number over decimals. No
    header: none speaks for one, and at least as many speak against as say nothing. All-text files have a header.
    """
    first, body = found[0], found[1:]
    if not any(map(kind_of, first.cells or ())):
        return False
    columns = _typed(first, body)
    words, values = _votes(first, body)
    return words == 0 and values > 0 and 2 * values >= len(columns)


def _is_of_groups(found: Sequence[_Record]) -> bool:
    """Whether the first record names groups of columns, as merged cells above a header are exported: `,2019,,2020,`.

    It has the width of the next one, two names or more that are words or years, and a gap before the last of them; and
    the next record, with a name for each column, is the header by the values below it.
    """
    if len(found) < 3 or found[0].width != found[1].width or found[1].after_blank:
        return False
    first, second = ([cell.strip() for cell in record.cells or ()] for record in found[:2])
    named = [at for at, cell in enumerate(first) if cell]
    if len(named) < 2 or len(named) == named[-1] + 1 or not all(second):
        return False
    if any(kind_of(first[at]) and not _YEAR.fullmatch(first[at]) for at in named):
        return False
    return _is_header(found[1], found[2:])


def _votes(first: _Record, body: Sequence[_Record]) -> tuple[int, int]:
    """Columns of values over which the record has a word, and those over which it has such a value itself."""
    cells = first.cells or []
    words = values = 0
    stepping = _in_steps(cells)
    for at, (kind, below) in _typed(first, body).items():
        cell = cells[at].strip()
        mine = kind_of(cell)
        if mine is None:
            words += 1
        elif mine is kind:
            named = kind is _NUMBER and (
                at in stepping
                or (_YEAR.fullmatch(cell) and not all(map(_YEAR.fullmatch, below)))
                or (cell.isdigit() and any(b"." in value or b"," in value for value in below))
            )
            values += not named
    return words, values


def _typed(first: _Record, body: Sequence[_Record]) -> dict[int, tuple[re.Pattern[bytes], Cells]]:
    """The columns in which the first record has something and all values below are of one kind; with those values."""
    cells = first.cells or []
    rows = [r.cells for r in body[: dialects.RECORDS_COMPARED] if r.cells is not None and len(r.cells) == len(cells)]
    found: dict[int, tuple[re.Pattern[bytes], Cells]] = {}
    for at, cell in enumerate(cells):
        below = [value for row in rows if (value := row[at].strip())]
        if cell.strip() and below and (kind := kind_of(below[0])) and all(map(kind.fullmatch, below)):
            found[at] = kind, below
    return found


def _in_steps(cells: Sequence[bytes]) -> set[int]:
    """The places of whole numbers that go in equal steps from one column to the next."""
    places: set[int] = set()
    numbers = [int(cell) if (cell := raw.strip()).isdigit() and len(cell) < 10 else None for raw in cells]
    run: list[int] = []
    for at, number in enumerate([*numbers, None]):
        last = numbers[run[-1]] if run else None
        if number is not None and last is not None:
            step = number - last
            before = numbers[run[-2]] if len(run) > 1 else None
            if step and (before is None or last - before == step):
                run.append(at)
                continue
        if len(run) > 2 or (len(run) == 2 and abs((numbers[run[1]] or 0) - (numbers[run[0]] or 0)) == 1):
            places.update(run)
        run = [] if number is None else [at]
    return places


def kind_of(cell: bytes) -> re.Pattern[bytes] | None:
    """Number, date or truth value; None: a word, or nothing."""
    return next((kind for kind in _KINDS if kind.fullmatch(cell.strip())), None)


def _is_known_again(row: _Record, last: bool) -> bool:
    """Whether a record equal to this row can only be the header again: two fields or more, not of values alone.

    A row above another may be of values, but then with gaps, as a row of groups has them.
    """
    filled = [cell for cell in row.cells or () if cell.strip()]
    groups = not last and 1 < len(filled) < row.width
    return row.width > 1 and (groups or not all(map(kind_of, filled)))


def of_words(names: Sequence[str]) -> bool:
    """Whether no name could be a value: then only its width can tell that the record of these names is no header."""
    return not any(kind_of(name.encode()) for name in names)


def _only_comments(data: bytes, dialect: Dialect) -> int:
    """How many comment lines there are, if there is nothing else; else 0."""
    lines = [line for line in data.splitlines() if line]
    return len(lines) if all(line.startswith(dialect.comment.encode()) for line in lines) else 0


def _numbered(found: Sequence[_Record]) -> tuple[str, ...]:
    """Names for a file without a header: as many as most of its first records have fields."""
    widths = [record.width for record in found[: dialects.RECORDS_COMPARED] if record.width]
    width = max(widths, key=widths.count) if widths else 1
    return tuple(f"column_{number}" for number in range(1, width + 1))


def _names(source: Source, rows: Sequence[_Record], dialect: Dialect, *, believed: bool) -> tuple[str, ...]:
    """The names in the rows of a header."""
    texts: list[list[str]] = []
    for row in rows:
        _decode(source, row)
        if row.cells is None:
            raise no_header(source, "the first record has a quote that is not closed as it should be")
        texts.append([cell.decode() for cell in row.cells])
    if not believed:
        filled = [cell.strip() for cell in rows[0].cells or () if cell.strip()]
        if not filled:
            raise no_header(source, "the first record has only empty names")
        if all(map(kind_of, filled)):
            raise no_header(source, "the first record looks like data, not like column names")
    return tuple(texts[0]) if len(texts) == 1 else joined(texts)


def joined(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names of a header of several rows: what its rows have for a column, from top to bottom, with blanks between.

    In all rows but the last, an empty cell takes the text of the one to its left, as a merged cell of a spreadsheet
    is written; but not across the border of a group above it. A text that only repeats the one above counts once.
    """
    width = max(map(len, rows))
    padded = [[cell.strip() for cell in row] + [""] * (width - len(row)) for row in rows]
    begins = [False] * width  # where a group begins, of this row or one above
    for row in padded[:-1]:
        begins = [above or bool(cell) for above, cell in zip(begins, row, strict=True)]
        for at in range(1, width):
            if not row[at] and not begins[at]:
                row[at] = row[at - 1]
    names = []
    for column in zip(*padded, strict=True):
        parts: list[str] = []
        for text in column:
            if text and text not in parts[-1:]:
                parts.append(text)
        names.append(" ".join(parts))
    return tuple(names)


def _decode(source: Source, row: _Record) -> None:
    if b"\0" in row.bare:
        raise encoding_error(source, f"{source.display} has NUL bytes in its first record: it is no text.")
    try:
        row.bare.decode()
    except UnicodeDecodeError as error:
        byte = row.bare[error.start]
        raise encoding_error(
            source,
            f"{source.display}: byte 0x{byte:02X} at offset {row.start + error.start} is not UTF-8.",
            charsets.offered(row.bare),
        ) from None


def has_data(head: bytes, position: int) -> bool:
    return first_text(head, position) < len(head)


def no_header(source: Source, why: str) -> SourceError:
    return SourceError(
        f"{source.display} has no header: {why}.",
        code=Reason.NO_HEADER,
        hint="Put a line with the column names first, or say what is there: --header none, --header N, --skip-rows N.",
    )
