"""Text of CSV to cells and back, in plain Python: for the few records that people mend by hand, not for files.

The rules are those of `quoting`. Beside its text a cell keeps whether it was quoted, for an empty field and an empty
text are two values. Reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ingest.model import Dialect


class Cell(NamedTuple):
    """One field of a record."""

    text: str
    quoted: bool = False


EMPTY = Cell("")


class Line(NamedTuple):
    """One record, and where it starts."""

    number: int  #: physical line, from 1
    cells: list[Cell] | None  #: None: a quote in it is not closed, or not followed by a delimiter; reading ends here


@lru_cache(maxsize=64)
def _pattern(delimiter: str, quote: str, escape: str) -> re.Pattern[str]:
    """One cell: group 1 is what a quoted one holds, group 2 an unquoted one. Possessive: linear in time."""
    d, q, e = map(re.escape, (delimiter, quote, escape))
    escaped = f"{e}.|" if escape else ""
    unquoted = rf"((?:{escaped}(?!{d})[^\r\n])*+)"
    if not quote:
        return re.compile(f"(?!)()|{unquoted}", re.DOTALL)
    return re.compile(f"{q}((?:{escaped}{q}{q}|[^{q}{e}])*+){q}|(?!{q}){unquoted}", re.DOTALL)


_LINE_END = re.compile(r"\r\n?|\n")


def read(text: str, dialect: Dialect) -> Iterator[Line]:
    """The records of a text; a blank line is none."""
    delimiter, quote, escape = dialect.delimiter, dialect.quote, dialect.escape
    pattern = _pattern(delimiter, quote, escape)
    position, number = 0, 1
    while position < len(text):
        start, cells = position, []
        while True:
            match = pattern.match(text, position)
            if match is None:
                yield Line(number, None)
                return
            cells.append(_cell(match, quote, escape))
            position = match.end()
            if not text.startswith(delimiter, position):
                break
            position += len(delimiter)
        end = _LINE_END.match(text, position)
        if end is None and position < len(text):
            yield Line(number, None)
            return
        if cells != [EMPTY]:
            yield Line(number, cells)
        position = end.end() if end else position
        number += sum(1 for _ in _LINE_END.finditer(text, start, position))


def _cell(match: re.Match[str], quote: str, escape: str) -> Cell:
    quoted = match[1] is not None
    text = match[1] if quoted else match[2]
    if escape and escape in text:
        doubled = f"|{re.escape(quote) * 2}" if quoted else ""
        text = re.sub(f"{re.escape(escape)}(.){doubled}", lambda m: m[1] or quote, text, flags=re.DOTALL)
    elif quoted:
        text = text.replace(quote * 2, quote)
    return Cell(text, quoted)


def record(text: str, dialect: Dialect) -> list[Cell] | None:
    """The cells of a text that is one record; None if it is broken, or not one."""
    lines = list(read(text, dialect))
    return lines[0].cells if len(lines) == 1 else None


PLAIN = Dialect()
"""Comma, double quotes, doubled within."""


def written(cells: Iterable[Cell], dialect: Dialect = PLAIN) -> str:
    """A record without a line end. What was quoted stays so."""
    return dialect.delimiter.join(_written(cell, dialect) for cell in cells)


def has_to_be_quoted(text: str, dialect: Dialect = PLAIN) -> bool:
    """Whether a text would be another, or several, if it stood there as it is."""
    return any(character in text for character in f"{dialect.delimiter}{dialect.quote}{dialect.escape}\r\n")


def _written(cell: Cell, dialect: Dialect) -> str:
    quote, escape = dialect.quote, dialect.escape
    if not cell.quoted and not has_to_be_quoted(cell.text, dialect):
        return cell.text
    text = cell.text.replace(escape, escape * 2) if escape else cell.text
    return f"{quote}{text.replace(quote, (escape or quote) + quote) if quote else text}{quote}"


def is_bare(cells: Sequence[Cell]) -> bool:
    """Whether there is nothing in them, not even an empty text."""
    return all(cell == EMPTY for cell in cells)
