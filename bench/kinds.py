"""A kind of dirt: a file, the table that is in it, and what a person who looked at it would tell a reader.

Knows neither a reader nor how a result is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What can be told of a file, whoever reads it; None and False are nothing to tell."""

    delimiter: str | None = None
    quote: str | None = None  #: "": there is none
    escape: str | None = None  #: "": a quote is doubled
    encoding: str | None = None  #: as Python names it
    header: int | None = None  #: rows of the header; 0: there is none
    skip_rows: int | None = None  #: physical lines before the header
    comment: str | None = None
    footer: int = 0  #: records at the end that are none
    blanks: bool = False  #: blanks after a delimiter are no part of the value
    pad: bool = False  #: what a short record lacks is empty
    aside: bool = False  #: records that cannot be read are to be set aside
    big: bool = False  #: fields are longer than 128 KiB
    mixed: bool = False  #: line ends are of several kinds

    def complete(self) -> Hints:
        """With what is usual where nothing is said: whoever tells of a file tells of all its dialect."""
        return replace(
            self,
            delimiter=self.delimiter or ",",
            quote='"' if self.quote is None else self.quote,
            escape=self.escape or "",
            header=1 if self.header is None else self.header,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One file, and what is right."""

    name: str
    group: str
    data: bytes
    columns: tuple[str, ...] | None  #: None: the reader may name them
    rows: tuple[Row, ...]  #: as text; an empty value and none are the same to whoever judges
    suffix: str = ".csv"
    aside: int = 0  #: records that can be no row: each is to be set aside, and said so
    refuse: bool = False  #: nothing of it can be loaded, so that only a refusal is right
    either: bool = False  #: a refusal, or a record set aside, is as right as the table
    also: tuple[tuple[Row, ...], ...] = ()  #: other tables that are right, too
    untold: tuple[tuple[Row, ...], ...] = ()  #: tables that are right as long as a reader is told nothing
    hints: Hints = field(default_factory=Hints)

    def __repr__(self) -> str:
        return f"{self.group}: {self.name}"


PEOPLE = ("id", "name", "city", "note")
"""The columns of most files."""

BASE: tuple[tuple[str, ...], ...] = (
    ("1", "Ada", "London", "first"),
    ("2", "Blaise", "Paris", "a, b"),
    ("3", "Carl", "Göttingen", "x; y"),
    ("4", "Emmy", "Erlangen", "none | some"),
    ("5", "Grace", "New York", 'said "no"'),
    ("6", "Haskell", "Millis", "end"),
)
"""The records of most files: with other delimiters in their values, quotes, and a letter that is not ASCII."""

PLAIN: tuple[tuple[str, ...], ...] = tuple(
    (number, name, city, note)
    for number, name, city, note in (
        ("1", "Ada", "London", "first"),
        ("2", "Blaise", "Paris", "second"),
        ("3", "Carl", "Leipzig", "third"),
        ("4", "Emmy", "Erlangen", "fourth"),
        ("5", "Grace", "Arlington", "fifth"),
        ("6", "Haskell", "Millis", "sixth"),
    )
)
"""The same without anything that has to be quoted, for files whose dirt is elsewhere."""

MANY = 40_000
"""Records of a file that is longer than what any reader looks at before it decides (DuckDB: 20,480 records)."""


def text(
    rows: Sequence[Sequence[str]],
    *,
    columns: Sequence[str] | None = PEOPLE,
    delimiter: str = ",",
    quote: str = '"',
    escape: str = "",
    end: str = "\n",
    every: bool = False,
) -> str:
    """A table as it is written by the book; `every` field is quoted, or those that have to be."""

    def cell(value: str) -> str:
        special = any(mark and mark in value for mark in (delimiter, quote, escape, "\n", "\r"))
        if not quote or not (every or special):
            return value if not (escape and special) else _escaped(value, delimiter, quote, escape)
        inner = _escaped(value, "", quote, escape) if escape else value.replace(quote, quote * 2)
        return quote + inner + quote

    records = [columns, *rows] if columns is not None else list(rows)
    return "".join(delimiter.join(map(cell, record)) + end for record in records)


def _escaped(value: str, delimiter: str, quote: str, escape: str) -> str:
    for mark in (escape, quote, delimiter):
        if mark:
            value = value.replace(mark, escape + mark)
    return value


def many(count: int = MANY) -> list[tuple[str, ...]]:
    """Records without anything unusual, each its own."""
    return [(str(i), f"name{i}", f"city {i % 97}", f"n{i}") for i in range(1, count + 1)]


def table(rows: Sequence[Sequence[str | None]]) -> tuple[Row, ...]:
    return tuple(tuple(row) for row in rows)
