"""A bundle's files one by one: in which of them a column that is text in all would be something else by itself.

It costs a look at one value a file, and little more where columns are words. Works on Arrow data in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ingest import inference
from ingest.model import PLAIN, Column, ColumnType, Origin, Spelling
from ingest.profiles import BITS, ColumnProfile

LOOKED_AT = 20
"""Files of a bundle that are looked at for one column: which of 500 are named is not worth more."""


def kinds(
    table: Any, profiles: Sequence[ColumnProfile], records: Sequence[int], columns: Sequence[Column | None]
) -> tuple[dict[ColumnType, tuple[int, ...]], ...]:
    """By column: which of the files are of another type than text; `records` says how many rows each of them has, and
    `columns` how its values are written.
    """
    starts = [end - count for end, count in zip(accumulate(records), records, strict=True)]
    return tuple(
        _kinds(text, starts, records, column.spelling if column is not None else PLAIN) if _is_text(profile) else {}
        for text, profile, column in zip(table.columns, profiles, columns, strict=False)
    )


def _is_text(profile: ColumnProfile) -> bool:
    verdict = profile.decide()
    return verdict.type is ColumnType.TEXT and verdict.origin is Origin.INFERRED


def _kinds(
    column: Any, starts: Sequence[int], records: Sequence[int], spelling: Spelling
) -> dict[ColumnType, tuple[int, ...]]:
    found: dict[ColumnType, list[int]] = {}
    looked = 0
    for number, (start, count) in enumerate(zip(starts, records, strict=True)):
        if not count or not _may_be_none(column[start].as_py()):
            continue
        verdict = inference.profile_column(column.slice(start, count), spelling).decide()
        if verdict.origin is Origin.INFERRED and verdict.type is not ColumnType.TEXT:
            found.setdefault(verdict.type, []).append(number)
        looked += 1
        if looked == LOOKED_AT:
            break
    return {kind: tuple(members) for kind, members in found.items()}


def _may_be_none(first: str | None) -> bool:
    """Whether a file that begins with this value may have a column that is not text: no word begins it."""
    return not first or first in BITS or not first[0].isalpha()
