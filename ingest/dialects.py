"""The head of a file to its `Dialect`: delimiter, quote, escape, line end; and to its records under a dialect.

What the user tells is believed. The rest is decided by these rules, over the first `RECORDS_COMPARED` records without
those that look like comments:

1.  A delimiter explains a file as far as its records have the same number of fields, two or more: its *fit* is the
    share of the records that have the most frequent number. Titles, comments, footers and ragged records cost each
    delimiter the same. One that splits less than half of what lies between the first and the last record that it
    splits explains nothing: it belongs to a text.
2.  Of comma, semicolon, tab, bar and control characters that wins which fits best, where a record with another of
    them in a field counts for less: half if that is a tab or a control character, which are hardly ever part of a
    value, three quarters otherwise. A number (`1,5`), a date and a quoted field may hold anything, and a comma with a
    blank after it is almost nothing. One that does not split the first record as the others counts for three fifths.
    Among equals: more fields, then the order of `COMMON`.
3.  Several characters (`||`, `, `) win over one of them where no field is left with any of these in it.
4.  `^ ~ # ¦ §`, colon and blank occur in ordinary values, and need stronger evidence: every record (up to a third may
    be in front) has the same number of fields, and no other delimiter says so, too. For colon, blank and `#`, besides,
    half of the columns hold nothing but numbers, dates or times below the first record (a colon or `#` that makes four
    fields or more needs no such columns), no record is one such value by itself (`10:30`, `2024-01-31 10:30`), no field
    has a common delimiter in it, and none is empty where blanks separate.
5.  The quote is `"`, and a quote in it is doubled, if that breaks no record. If it does: a backslash escapes if fewer
    are broken with it; there is no quote at all if more records are broken (two or more) than fields are quoted well.
    `'` is the quote where no field begins with `"`, two or more begin and end with `'`, and nothing is broken by that.
    On a backslash and on `'` all records of the head decide.
6.  Where nothing is known, it is a comma and `"`.

All this is proved later, when every record of the file is split.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from ingest import quoting
from ingest.model import Dialect, Told

RECORDS_COMPARED = 100
"""Records whose fields decide."""

SWALLOWED = 50
"""Lines that must be records without quotes before a quote that seems to enclose them is taken for a stray one."""

COMMON = (",", ";", "\t", "|", "\x01", "\x1f", "\x02", "\x03", "\x07", "\x1c", "\x1d", "\x1e")
"""Characters that separate fields more often than they are part of one, the most frequent first."""

LONG = (
    *("||", "::", ";;", "~~", "^^", "##", "$$", "|~|", "~|~", "|^|", "^|^", "|;|", ";|;", "|#|", "#|#", "|@|", "@|@"),
    *("<|>", "{|}", "[|]", "~^~", "^~^", " | ", " ; ", " , ", ", ", "; "),
)
"""Several characters that are in use, longer ones before what they begin with."""

RARE = ("^", "~", "¦", "§", "#", ":", " ")
"""Characters that are part of ordinary values, too."""

_UNSURE = ("#", ":", " ")

VALUE = re.compile(
    rb"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?%?"
    rb"|\d{1,4}([-/.])\d\d?\1\d{1,4}(?:[T ]\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    rb"|\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?"
    rb"|true|false",
    re.IGNORECASE,
)
"""A number, date, time or truth value, as files write them."""

HEADLESS = 0.6
"""What a delimiter is worth that does not split the first record as the others: where another one does, this one is
mostly a character of some values, like a tab in a text."""

_SINGLE = rb"(?:\A|%b)'(?:[^'\\\r\n]|''|\\.)*+'(?=%b|\Z)"
_CONTROL = re.compile(rb"[\t\x01-\x08\x1c-\x1f]")
_OTHER = re.compile(rb"[;|]|,(?! )")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is read of a file to decide."""

    data: bytes  #: from the file's first byte, decoded
    first: int  #: offset of the first line with anything on it, after a byte order mark
    whole: bool  #: nothing comes after it


class _Reading:
    """How the first records of a head look in a dialect: so many of them, or all."""

    def __init__(self, head: Head, dialect: Dialect, comment: str | None, most: int | None) -> None:
        self.dialect = dialect
        found = list(islice(_walked(head, dialect), most))
        #: a quote is open for most of the head, as if it never closed
        self.swallowed = not head.whole and len(found) < RECORDS_COMPARED and sum(map(len, found)) * 2 < len(head.data)
        self.records = _without_comments([record.rstrip(quoting.LINE_ENDS) for record in found], comment)
        self.cells = [quoting.cells(record, dialect) for record in self.records]
        self.counts = [len(cells or ()) for cells in self.cells]
        self.broken = self.counts.count(0)
        widths = Counter(count for count in self.counts if count > 1).most_common(1)
        self.width, self.fitting = widths[0] if widths else (1, 0)

    @property
    def fit(self) -> float:
        return self.fitting / len(self.records)

    @property
    def splits(self) -> bool:
        """Whether the delimiter explains anything."""
        split = [number for number, count in enumerate(self.counts) if count > 1]
        if len(split) < min(2, len(self.counts)):
            return False
        return len(split) * 2 >= split[-1] - split[0] + 1 and len(split) * 5 >= len(self.counts)

    @property
    def quoted(self) -> int:
        """Fields that are quoted."""
        quote = self.dialect.quote.encode()
        return sum(cell.startswith(quote) for cells in self.cells for cell in cells or ()) if quote else 0

    def score(self) -> tuple[float, int, int]:
        """How well a common delimiter explains the records, by rule 2."""
        preferred = -COMMON.index(self.dialect.delimiter)
        if len(self.records) == 1:
            return 1.0, self.width, preferred
        doubt = sum(map(self._doubt, self.cells)) / len(self.records)
        headed = 1.0 if self.counts[0] == self.width else HEADLESS
        return self.fit * (1 - doubt) * headed, self.width, preferred

    def _is_value(self, cell: bytes) -> bool:
        """Whether it is no word of a sentence: a number or the like, or quoted."""
        quote = self.dialect.quote.encode()
        return bool(VALUE.fullmatch(cell)) or bool(quote and cell.startswith(quote))

    def _doubt(self, cells: list[bytes] | None) -> float:
        worst = 0.0
        for cell in self._unquoted(cells):
            if _CONTROL.search(cell):
                return 0.5
            if worst < 0.25 and (b"," in cell or b";" in cell or b"|" in cell) and not VALUE.fullmatch(cell):
                worst = 0.25 if _OTHER.search(cell) else 0.1
        return worst

    def _unquoted(self, cells: list[bytes] | None) -> Iterator[bytes]:
        quote = self.dialect.quote.encode()
        return (cell for cell in cells or () if not (quote and cell.startswith(quote)))

    def leaves_nothing(self) -> bool:
        """Whether a delimiter of several characters leaves none of them in a field, by rule 3."""
        least = 2 if " " in self.dialect.delimiter else min(2, len(self.counts))
        if self.fit < 0.9 or sum(count > 1 for count in self.counts) < least:
            return False
        own = [character.encode() for character in set(self.dialect.delimiter) - {" "}]
        return not any(character in cell for cells in self.cells for cell in self._unquoted(cells) for character in own)

    def is_sure(self) -> bool:
        """Whether a rare delimiter has the evidence it needs, by rule 4."""
        if self.width < 2 or len(self.records) < 2:
            return False
        before = self.counts.index(self.width)
        table = [cells for cells in self.cells[before:] if cells is not None]
        if self.fitting != len(self.records) - before or before * 3 > len(self.records) or len(table) < 2:
            return False
        if self.dialect.delimiter not in _UNSURE:
            return True
        below = self.records[before + 1 :]
        if any(VALUE.fullmatch(record) for record in below):
            return False
        if self.dialect.delimiter == " " and any(b"" in cells for cells in table):
            return False
        columns = list(zip(*table, strict=True))
        typed = sum(all(map(self._is_value, column[1:])) for column in columns)
        if before and typed * 2 < self.width:
            return False
        if before and max(self.counts[:before]) < 2 and any(VALUE.fullmatch(cell) for cell in table[0]):
            return False  # the record in front may be the name of one column, and this the first of its values
        if typed * 2 < self.width and (self.dialect.delimiter == " " or self.width < 4):
            return False
        return not any(self._doubt(cells) >= 0.25 for cells in table)


def _without_comments(records: list[bytes], comment: str | None) -> list[bytes]:
    """Records that do not look like comments; all of them where most do."""
    mark = b"#" if comment is None else comment.encode()
    if not mark:
        return records
    found = [record for record in records if not record.startswith(mark)]
    return found if comment is not None or len(found) * 2 > len(records) else records


def find(head: Head, told: Told) -> Dialect | None:
    """The dialect of a file; None if its first record goes on after the head."""
    best = _best(head, told) if told.delimiter is None else _quoted_best(head, told.delimiter, told)
    if best is None or not best.records:
        return None
    return replace(best.dialect, line_end=_line_end(records(head, best.dialect)))


def _best(head: Head, told: Told) -> _Reading | None:
    common = [d for d in COMMON if d == "," or d.encode() in head.data]
    readings = [reading for d in common if (reading := _quoted_best(head, d, told)) is not None and reading.records]
    explaining = [reading for reading in readings if reading.splits]
    best = max(explaining, key=_Reading.score) if len(explaining) > 1 else next(iter(explaining), None)
    for long in LONG:
        single = best is None or best.dialect.delimiter in long
        if single and long.encode() in head.data:
            reading = _quoted_best(head, long, told)
            if reading is not None and reading.splits and reading.leaves_nothing():
                return reading
    if best is None or best.fit < 1:
        for rare in RARE:
            if rare.encode() not in head.data:
                continue
            reading = _quoted_best(head, rare, told)
            if reading is not None and reading.is_sure() and (best is None or reading.fit > best.fit):
                return reading
    return best or next((reading for reading in readings if reading.dialect.delimiter == ","), None)


def _quoted_best(head: Head, delimiter: str, told: Told) -> _Reading | None:
    """A delimiter with the quote and the escape that fit it best, by rule 5. None: no record ends in the head."""

    def reading(quote: str, escape: str, most: int | None = RECORDS_COMPARED) -> _Reading:
        dialect = Dialect(delimiter=delimiter, quote=quote, escape="" if escape == quote else escape)
        return _Reading(head, dialect, told.comment, most)

    usual = reading('"' if told.quote is None else told.quote, told.escape or "")
    if _is_escaped(usual.dialect, head, told, reading):
        usual = reading(usual.dialect.quote, "\\")
    best = usual
    if told.quote is None:
        swallowed = best.swallowed and not best.quoted
        if best.records and (swallowed or best.broken > max(1, best.quoted)):
            bare = reading("", told.escape or "")
            # A field of many lines, or a long one, is no reason: what it seems to swallow has to be records for sure.
            sure = not swallowed or (len(bare.records) >= SWALLOWED and bare.width == best.width)
            best = bare if sure and bare.fit >= best.fit else best
        if b"'" in head.data and not best.quoted and _single_quotes(head, delimiter) > 1:
            single = Dialect(delimiter=delimiter, quote="'", escape=told.escape or "")
            escape = "\\" if _is_escaped(single, head, told, reading) else single.escape
            all_single, all_usual = reading("'", escape, None), reading('"', told.escape or "", None)
            if not all_single.broken and all_single.quoted > 1 and all_single.fit >= all_usual.fit:
                best = reading("'", escape)
    return best if best.records else None


def _is_escaped(usual: Dialect, head: Head, told: Told, reading: Callable[[str, str, int | None], _Reading]) -> bool:
    """Whether a backslash breaks fewer of all records in the head than a dialect without it."""
    settled = told.escape is not None or not usual.quote or "\\" in usual.delimiter
    if settled or f"\\{usual.quote}".encode() not in head.data:
        return False
    plain, escaped = (reading(usual.quote, escape, None) for escape in ("", "\\"))
    # Where a quote is taken for open to the end of the head, there are fewer records, and none of them broken.
    better = (escaped.broken, -len(escaped.records), -escaped.fit) < (plain.broken, -len(plain.records), -plain.fit)
    return bool(escaped.records) and better


def _single_quotes(head: Head, delimiter: str) -> int:
    """How many fields seem to be enclosed by `'`; more than two are not counted."""
    if not any(before + b"'" in head.data for before in (delimiter.encode(), b"\n", b"\r")):
        return 0
    edge = rb"%b|[\r\n]" % re.escape(delimiter.encode())
    return sum(1 for _ in islice(re.finditer(_SINGLE % (edge, edge), head.data), 2))


# records --------------------------------------------------------------------------------------------------------


def records(head: Head, dialect: Dialect) -> list[bytes]:
    """The complete records of a head, with their line ends, without blank lines."""
    return list(_walked(head, dialect))


def _walked(head: Head, dialect: Dialect) -> Iterator[bytes]:
    data = head.data[head.first :]
    covered = quoting.masked(data, dialect)
    position = 0
    for line in _whole_lines(covered, dialect, head.whole):
        record = data[position : position + len(line)]
        position += len(line)
        if record.rstrip(quoting.LINE_ENDS):
            yield record


def _whole_lines(covered: bytes, dialect: Dialect, whole: bool) -> Iterable[bytes]:
    """Records and blank lines with their line ends; not the last one if more may come of it."""
    if not (dialect.quote and dialect.quote.encode() in covered):
        lines = covered.splitlines(keepends=True)
        if not whole and lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        return lines
    return _with_quotes(covered, dialect, whole)


def _with_quotes(covered: bytes, dialect: Dialect, whole: bool) -> Iterator[bytes]:
    position = 0
    for record in quoting.walk(covered, dialect, final=whole):
        yield from covered[position : record.start].splitlines(keepends=True)
        if record.end is None:
            return
        yield covered[record.start : record.end]
        position = record.end
    rest = covered[position:].splitlines(keepends=True)
    if rest and not whole and not rest[-1].endswith(b"\n"):
        rest.pop()
    yield from rest


def lasts(line: bytes, dialect: Dialect) -> bool:
    """Whether other files with the same first line have this dialect, too, if it `holds` for them."""
    delimiter = dialect.delimiter.encode()
    return delimiter in line and not any(long.encode() in line for long in LONG if dialect.delimiter in long)


def holds(head: Head, dialect: Dialect, told: Told) -> bool:
    """Whether nothing in a head asks for another quote or escape than an earlier file had."""
    if (told.quote is None and dialect.quote != '"') or (told.escape is None and dialect.escape):
        return False
    if told.quote is None and b"'" in head.data and _single_quotes(head, dialect.delimiter):
        return False
    if not dialect.quote or dialect.quote.encode() not in head.data:
        return True
    covered = quoting.masked(head.data[head.first :], dialect)
    if quoting.by_the_book(dialect.delimiter, dialect.quote).fullmatch(covered):
        return True  # all in one go, where nothing is cut off
    return not any(record.broken for record in quoting.walk(covered, dialect, final=head.whole))


def advice(record: bytes, dialect: Dialect, width: int) -> str:
    """What to type for a record that does not split into `width` fields in this dialect, and does in another."""
    if width == 1 and dialect.delimiter.encode() in record:
        return f"If it has one column, name a delimiter that it does not have: --delimiter {_typed(chr(1))}."
    others = [
        *({"escape": ""} for _ in dialect.escape),
        *({"escape": "\\"} for _ in dialect.quote if not dialect.escape),
        *({"quote": quote} for quote in "\"'" if quote != dialect.quote and record.count(quote.encode()) > 1),
        *({"quote": ""} for _ in dialect.quote if dialect.quote.encode() in record),
        *({"delimiter": each} for each in dict.fromkeys((*dialect.delimiter, *COMMON)) if each != dialect.delimiter),
    ]
    for other in others:
        found = quoting.fields(record, replace(dialect, **other))
        if width > 1 and found is not None and len(found) == width:
            return _advised(*other.popitem(), dialect)
    return ""


def _advised(option: str, character: str, dialect: Dialect) -> str:
    typed = f"--{option} {_typed(character)}"
    if not character:
        what = "a quote" if option == "quote" else f"the character {dialect.escape}"
        return f"If {what} is like any other in this file, give {typed}."
    if option == "escape":
        return f"It seems to have a backslash before quotes that belong to values: {typed}."
    return f"It seems to be {'quoted' if option == 'quote' else 'separated'} otherwise: {typed}."


def _typed(character: str) -> str:
    """A character as the options take it."""
    if not character:
        return "none"
    if character == "'":
        return '"\'"'  # shlex would write it in five characters
    return shlex.quote(character if character.isprintable() else f"\\x{ord(character):02x}")


def _line_end(records: list[bytes]) -> str:
    feeds = [record for record in records if record.endswith(b"\n")]
    if feeds:
        return "\r\n" if all(record.endswith(b"\r\n") for record in feeds) else "\n"
    return "\r" if records[0].endswith(b"\r") else "\n"
