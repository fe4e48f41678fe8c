"""What the table's own type of a column, which is narrower than ours, would refuse, cut or round.

Works on Arrow data in memory, on typed columns. Servers do much of this in silence, so it is looked for beforehand.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.cells import Mask, behind, flags, matches, valid_rows, words
from ingest.model import Column, ColumnType, Reason, is_duration
from ingest.profiles import EXACT_DIGITS
from ingest.spellings import Culprits

_SECOND = "(:[0-9]{1,2}|(^|[^0-9])[0-9]{6})"
"""What stands before the fraction of a second, in every way that a database may read: 10:00:05.5 and T100005.5."""

_NEGATIVE = "the number is negative"

_NUMBER = r"^[ \t-\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t-\r]*$"
"""A text that SQLite takes for a number, in a column of NUMERIC affinity."""

_CANONICAL = r"^(0|-?[1-9][0-9]*|-?(0|[1-9][0-9]*)\.[0-9]*[1-9])$"
"""A number as it comes back from there."""

_PLACE = r"^[ \t\n\v\f\r]*[+-]?[0-9]+ *$"
"""A text that MySQL takes for the place of a word, or for the bits of several, if it is no word."""


def culprits(array: Any, column: Column) -> Culprits:
    """Which values of a typed column do not fit into the table's own type, with the reason; undefined for null."""
    match column.type:
        case ColumnType.BIGINT if column.bits is not None:
            return _beyond_bits(array, column, column.bits)
        case ColumnType.DOUBLE:
            return _double_culprits(array, column)
        case ColumnType.TEXT | ColumnType.DECIMAL if column.numeric:
            return _numeric_culprits(array, column)
        case ColumnType.DECIMAL if column.unsigned:
            return [(matches(array, "^-.*[1-9]"), Reason.BAD_NUMBER, _NEGATIVE)]
        case ColumnType.TEXT if known := _words_of(column):
            return _no_words(array, known, several=column.native.startswith("set("))
        case ColumnType.TEXT if column.length is not None:
            longer = flags(pc.greater(pc.utf8_length(array), column.length))
            return [(longer, Reason.LOSSY, f"takes {column.length} characters, and the rest would be lost")]
        case ColumnType.TIMESTAMP if column.scale is not None and column.scale < 6:
            finer = behind(array, np.int64) % 10 ** (6 - column.scale) != 0
        case ColumnType.TEXT if column.scale is not None:
            # A time that is no time of the day may be a number of seconds, 10.5; to others 2024.001 is a day.
            before = "[0-9]" if is_duration(column) else _SECOND
            finer = flags(pc.match_substring_regex(array, f"{before}[.][0-9]{{{column.scale}}}[0-9]*[1-9]"))
        case _:
            return []
    return [(finer, Reason.LOSSY, f"keeps {column.scale} digits of a second, and others would be lost")]


def _words_of(column: Column) -> set[str]:
    """The words of an ENUM or SET of MySQL's, in lower case; none of any other type."""
    if not column.native.startswith(("enum('", "set('")):
        return set()
    return {word.replace("''", "'") for word in re.findall(r"'((?:[^']|'')*)'", column.native)}


def _no_words(array: Any, known: set[str], *, several: bool) -> Culprits:
    """Texts that are surely none of the words of an ENUM, and no list of those of a SET (`several`).

    Which letters are the same is up to the column's collation: where a text or a word has others than those of ASCII,
    and where it is about capitals, the server decides.
    """
    plain = all(word.isascii() and "\\" not in word for word in known)
    found = []
    for text in pc.unique(array.drop_null()).to_pylist():
        parts = text.rstrip(" ").lower().split(",") if several else [text.rstrip(" ").lower()]
        fits = known.issuperset(parts) or (several and not text)
        if not fits and (re.fullmatch(_PLACE, text) or (plain and text.isascii())):
            found.append(text)
    mask = flags(pc.is_in(array, value_set=words(*found)))
    return [(mask, Reason.LOSSY, f"the value is {'no list' if several else 'none'} of its words")]


def _beyond_bits(array: Any, column: Column, bits: int) -> Culprits:
    numbers = behind(array, np.uint64 if pa.types.is_uint64(array.type) else np.int64)
    below = 0 if column.unsigned else 2 ** (bits - 1)
    beyond = f"the number does not fit into {bits} bits"
    return [
        (numbers < -below, Reason.BAD_INTEGER, _NEGATIVE if column.unsigned else beyond),
        (numbers >= 2**bits - below, Reason.BAD_INTEGER, beyond),
    ]


def _double_culprits(array: Any, column: Column) -> Culprits:
    found: Culprits = []
    if column.unsigned:
        found.append((behind(array, np.float64) < 0, Reason.BAD_NUMBER, _NEGATIVE))
    if column.bits is not None:
        numbers = behind(array, np.float64)
        with np.errstate(all="ignore"):
            narrow = numbers.astype(np.float32)
        found += [
            (np.isinf(narrow), Reason.BAD_NUMBER, "the number is too large"),
            ((narrow == 0) & (numbers != 0), Reason.BAD_NUMBER, "the number is too small"),
        ]
    if column.precision is not None and column.scale is not None:
        numbers, scale = behind(array, np.float64), column.scale
        with np.errstate(all="ignore"):
            kept = np.rint(numbers * 10.0**scale) / 10.0**scale
        # As the server counts: DOUBLE(5,2) ends at 999.99.
        large = np.abs(kept) > 10.0 ** (column.precision - scale) - 10.0**-scale
        lossy = _with_more_decimals(numbers, (kept != numbers) & ~large & valid_rows(array), scale)
        found += [
            (large, Reason.BAD_NUMBER, "the number is too large"),
            (lossy, Reason.LOSSY, f"digits after the first {scale} decimals would be lost"),
        ]
    return found


def _numeric_culprits(array: Any, column: Column) -> Culprits:
    """Numbers, by SQLite's rule for text (datatype3.html, 3), of which it would store another text or value."""
    found: Culprits = []
    suspects = flags(pc.greater(pc.binary_length(array), EXACT_DIGITS)) & valid_rows(array)
    if suspects.any():
        suspects &= flags(pc.match_substring_regex(array, f"([0-9][.]?){{{EXACT_DIGITS + 1}}}"))
    if column.type is ColumnType.TEXT:
        canonical = flags(pc.match_substring_regex(array, _CANONICAL))
        written = flags(pc.match_substring_regex(array, _NUMBER)) & ~canonical
        found.append((written, Reason.LOSSY, "the way the number is written would be lost"))
        suspects &= canonical
    for row in np.flatnonzero(suspects).tolist():
        text = array[row].as_py()
        whole = "." not in text and len(text) <= 20 and -(2**63) <= int(text) < 2**63
        suspects[row] = not whole and Decimal(repr(float(text))) != Decimal(text)
    return [*found, (suspects, Reason.LOSSY, f"more than {EXACT_DIGITS} digits would be lost")]


def _with_more_decimals(numbers: NDArray[np.float64], suspects: Mask, scale: int) -> Mask:
    """Of the suspects, those with digits behind the first decimals: counting with doubles also errs by itself."""
    found = np.zeros(len(numbers), dtype=np.bool_)
    for row in np.flatnonzero(suspects).tolist():
        exponent = Decimal(repr(float(numbers[row]))).normalize().as_tuple().exponent
        found[row] = isinstance(exponent, int) and -exponent > scale
    return found
