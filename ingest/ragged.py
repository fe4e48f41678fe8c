"""Ragged records, with fewer or more fields than the header: which of them are rows all the same, and which rows.

Looks only at records that the parser set aside, and has them parsed again by the number of their fields. A value beyond
the last column is either kept or makes its record a reject; only empty fields are cut off there. Knows no names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.cells import Integers, lengths, mask_array, row_array, valid_rows, words
from ingest.model import Dialect, Fitted, RecordRules

Parse = Callable[[bytes, int], Any]
"""Bytes of records that all have so many fields, to a pa.Table of text, a column a field."""


class Way(StrEnum):
    """How a ragged record was made to fit; the counts of `Fitted`."""

    PADDED = "padded"
    TRIMMED = "trimmed"
    RESCUED = "rescued"


@dataclass(slots=True, kw_only=True)
class Fit:
    """The ragged records that are rows."""

    tables: list[Any] = field(default_factory=list)  #: pa.Tables of the header's width
    numbers: list[int] = field(default_factory=list)  #: the record of each of their rows
    ways: dict[int, Way] = field(default_factory=dict)  #: by record; not of one that only discarding made fit
    extras: dict[int, dict[int, str]] = field(default_factory=dict)
    """By record: values beyond the last column, by their position from 0; those that are NULL are left out."""


def fit(
    ragged: Sequence[tuple[int, int]],
    text: Callable[[int], bytes],
    parse: Parse,
    *,
    width: int,
    dialect: Dialect,
    rules: RecordRules,
    null: Sequence[str],
) -> Fit:
    """The rows of those ragged records that can be some. `ragged`: their numbers, and how many fields each has.

    `text` gives a record without its line end. What is in no field of `Fit` is a reject.
    """
    ends = tuple(end.encode() for end in (dialect.delimiter, dialect.quote, *null) if end)
    groups: dict[int, list[int]] = {}
    for number, actual in ragged:
        if actual < width:
            wanted = rules.pad or (rules.discard_empty and not text(number).strip(dialect.delimiter.encode()))
        else:
            wanted = rules.rescue or text(number).endswith(ends)  # else its last field is none that can be cut off
        if wanted:
            groups.setdefault(actual, []).append(number)
    found = Fit()
    for actual, numbers in groups.items():
        table = parse(b"".join(text(number) + dialect.separator for number in numbers), actual)
        if table.num_rows != len(numbers):
            raise AssertionError("ragged records were split into another number of records")
        if actual < width:
            _pad(found, table, numbers, width, rules)
        else:
            _cut(found, table, numbers, width, rules)
    return found


def restored(fitted: Fit, restore: Callable[[Any], Any]) -> Fit:
    """The same, its values beyond the last column as `restore` makes them, which gets and returns a pa.Table of text.

    For data that was rewritten before it was split; the rows are restored with all others.
    """
    places = [(number, position) for number, values in fitted.extras.items() for position in values]
    if not places:
        return fitted
    texts = pa.table({"0": words(*(fitted.extras[number][position] for number, position in places))})
    extras: dict[int, dict[int, str]] = {}
    for (number, position), value in zip(places, restore(texts).column(0).to_pylist(), strict=True):
        extras.setdefault(number, {})[position] = value
    return replace(fitted, extras=extras)


def count(ways: Mapping[int, Way], kept: Integers | None) -> Fitted:
    """How many of these records were fitted in each way; `kept`: the records that are rows in the end, None: all."""
    numbers = np.fromiter(ways, dtype=np.int64, count=len(ways))
    if kept is not None:
        numbers = numbers[np.isin(numbers, kept)]
    counts = Counter(ways[number] for number in numbers.tolist())
    return Fitted(**{way.value: counts[way] for way in Way})


def _pad(found: Fit, table: Any, numbers: list[int], width: int, rules: RecordRules) -> None:
    for position in range(table.num_columns, width):
        table = table.append_column(str(position), pa.nulls(table.num_rows, pa.string()))
    found.tables.append(table)
    found.numbers += numbers
    if rules.pad:
        found.ways.update(dict.fromkeys(numbers, Way.PADDED))


def _cut(found: Fit, table: Any, numbers: list[int], width: int, rules: RecordRules) -> None:
    beyond = [column.combine_chunks() for column in table.columns[width:]]
    empty = np.ones(len(numbers), dtype=np.bool_)
    for column in beyond:
        empty &= ~valid_rows(column) | (lengths(column) == 0)
    table = table.select(range(width))
    if not rules.rescue:
        table = table.filter(mask_array(empty))
        numbers = [number for number, fits in zip(numbers, empty.tolist(), strict=True) if fits]
        empty = empty[empty]
    found.tables.append(table)
    found.numbers += numbers
    found.ways.update(
        (number, Way.TRIMMED if cut else Way.RESCUED) for number, cut in zip(numbers, empty.tolist(), strict=True)
    )
    for position, column in enumerate(beyond if not empty.all() else (), start=width):
        for row, value in enumerate(column.to_pylist()):
            if value is not None and not empty[row]:
                found.extras.setdefault(numbers[row], {})[position] = value


def merge(table: Any, numbers: Integers, fitted: Fit) -> tuple[Any, Integers]:
    """The rows of a table, whose records have these ascending numbers, and the fitted ones, in the order of records."""
    if not fitted.numbers:
        return table, numbers
    both = np.concatenate([numbers, np.array(fitted.numbers, dtype=np.int64)])
    order = np.argsort(both, kind="stable")
    joined = pa.concat_tables([table, *fitted.tables]).combine_chunks()
    return joined.take(row_array(order)), both[order]
