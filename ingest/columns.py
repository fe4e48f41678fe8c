"""Turn columns of text into typed columns, and name every cell that does not fit, with its reason.

Works on Arrow data in memory. Does not read files, does not guess types (`inference.py`), does not know databases,
and never puts the value of a cell into a message. A column that is clean costs one cast and a few passes over its
offsets; only where that fails are the culprits looked for (tests/test_columns.py compares both with plain Python).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest import narrowing, spellings
from ingest.cells import (
    DAY_US,
    FIRST_DAY,
    Cells,
    Integers,
    Mask,
    Numbers,
    contiguous,
    flags,
    lengths,
    mask_array,
    matches,
    row_array,
    underflows,
    valid_rows,
    without,
    words,
)
from ingest.errors import SourceError
from ingest.inference import (
    CLOCK,
    DATE,
    MOMENT,
    TOO_FINE,
    UUID,
    ZONED,
    on_the_calendar,
    to_date,
    to_timestamp,
    try_cast,
)
from ingest.model import Column, ColumnType, Origin, Reason, is_year
from ingest.profiles import EXACT_DIGITS
from ingest.spellings import Culprits

LAST_DAY = 2_932_896
"""9999-12-31 in days from 1970-01-01."""

INTEGER = r"^[+-]?[0-9]+$"
CANONICAL_INTEGER = r"^(0|-?[1-9][0-9]*)$"
CANONICAL_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
PLAIN_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"
ANY_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
DECIMAL_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"

_TRUE = words("true", "t", "yes", "y", "1")
_FALSE = words("false", "f", "no", "n", "0")

_ARROW = {
    ColumnType.TEXT: pa.string(),
    ColumnType.BIGINT: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIMESTAMP: pa.timestamp("us"),
    # Text keeps every digit; each target turns it into its own exact type.
    ColumnType.DECIMAL: pa.string(),
    # Texts that read the same everywhere: 09:30:00.000000, and 32 hexadecimal digits in lower case with hyphens.
    ColumnType.TIME: pa.string(),
    ColumnType.UUID: pa.string(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Rows of one column that do not fit it, all for the same reason."""

    rows: Integers  #: row numbers from 0, ascending
    code: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """One typed column; the rows of its faults hold null. No row is in two faults."""

    array: Any  #: pa.Array
    faults: tuple[Fault, ...] = ()

    @property
    def bad(self) -> Mask | None:
        """One flag a row, or None when every row fits."""
        if not self.faults:
            return None
        mask = np.zeros(len(self.array), dtype=np.bool_)
        for fault in self.faults:
            mask[fault.rows] = True
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCell:
    """The first cell of a row that does not fit its column."""

    row: int  #: from 0 within the table that came in
    column: str | None  #: None: it is in none
    code: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A typed table without its bad rows."""

    table: Any  #: pa.Table
    bad: tuple[BadCell, ...] = ()  #: one per bad row, by row
    kept: Integers | None = None  #: numbers of the rows that stayed, from 0 in the table that came in; None: all


def _is_wide(column: Column) -> bool:
    """Whether the numbers need not fit into int64."""
    return column.unsigned and column.bits == 64


def to_bigint(array: Any, column: Column) -> Any:
    """int64, or None where a value does not fit. Arrow also reads hexadecimal, and drops zeros and the sign of -0.

    Of a column that is unsigned and has 64 bits, uint64 where values need it; else a transform can count as ever.
    """
    typed = try_cast(array, pa.int64())
    if typed is None and _is_wide(column):
        typed = try_cast(array, pa.uint64())
    if typed is None:
        return None
    cells = Cells.of(array)
    head = cells.data[cells.starts]
    length = cells.ends - cells.starts
    zero = np.flatnonzero((head == ord("0")) & (length > 1))
    minus = np.flatnonzero(head == ord("-"))
    if column.strict:
        return None if len(zero) or (cells.data[cells.starts[minus] + 1] == ord("0")).any() else typed
    return None if ((cells.data[cells.starts[zero] + 1] | 0x20) == ord("x")).any() else typed


def to_double(array: Any, *, strict: bool) -> Any:
    """float64, or None where a value does not fit."""
    if strict:
        numbers = Numbers.of(Cells.of(array))
        if numbers is None or numbers.padded.any() or numbers.bare.any() or numbers.inexact().any():
            return None
    typed = try_cast(array, pa.float64())
    if typed is None or not pc.all(pc.is_finite(typed), min_count=0).as_py() or underflows(array, typed).any():
        return None
    return typed


def _boolean_words(array: Any) -> tuple[Mask, Mask]:
    """Two flags a row: the value means true; it means true or false. Undefined for null."""
    lower = pc.ascii_lower(array)
    true = flags(pc.is_in(lower, value_set=_TRUE))
    return true, true | flags(pc.is_in(lower, value_set=_FALSE))


def to_boolean(array: Any) -> Any:
    """bool, or None where a value is none of the words."""
    true, known = _boolean_words(array)
    valid = valid_rows(array)
    return without(mask_array(true), ~valid) if known[valid].all() else None


def to_decimal(array: Any, column: Column) -> Any:
    """The text itself, or None where a value does not fit or deserves a closer look."""
    numbers = Numbers.of(Cells.of(array))
    if numbers is None or numbers.bare.any() or (column.strict and numbers.padded.any()):
        return None
    if column.precision is not None:
        scale = column.scale or 0
        if not 0 <= scale <= column.precision:
            return None
        leading = numbers.cells.data[numbers.cells.starts + numbers.negative] == ord("0")
        if (numbers.whole - leading > column.precision - scale).any() or (numbers.decimals > scale).any():
            return None
    return array


def to_time(array: Any) -> Any:
    """Texts as HH:MM:SS.ffffff, or None where a value is no time of the day."""
    return spellings.times(array).cast(pa.string()) if matches(array, CLOCK).all() else None


def to_uuid(array: Any, *, strict: bool) -> Any:
    """Texts in lower case, or None where a value is no UUID."""
    lower = array if strict else pc.ascii_lower(array)
    return lower if matches(lower, UUID).all() else None


def _clean(array: Any, column: Column) -> Any:
    match column.type:
        case ColumnType.BIGINT:
            return to_bigint(array, column)
        case ColumnType.DOUBLE:
            return to_double(array, strict=column.strict)
        case ColumnType.BOOLEAN:
            return to_boolean(array)
        case ColumnType.DATE:
            return to_date(array)
        case ColumnType.TIMESTAMP:
            return to_timestamp(array, strict=column.strict)
        case ColumnType.DECIMAL:
            return to_decimal(array, column)
        case ColumnType.TIME:
            return to_time(array)
        case ColumnType.UUID:
            return to_uuid(array, strict=column.strict)
        case ColumnType.TEXT:
            return array


def _bigint_culprits(array: Any, column: Column) -> Culprits:
    found: Culprits = [(~matches(array, INTEGER), Reason.BAD_INTEGER, "the value is no whole number")]
    if column.strict:
        found.append((~matches(array, CANONICAL_INTEGER), Reason.LOSSY, "its leading zeros or its sign would be lost"))
    if wide := _is_wide(column):
        found.append((matches(array, "^-0*[1-9]") & valid_rows(array), Reason.BAD_INTEGER, "the number is negative"))
    beyond = np.zeros(len(array), dtype=np.bool_)
    # A null matches, but is no number.
    long = np.flatnonzero(matches(array, r"^[+-]?0*[1-9][0-9]{18,}$") & valid_rows(array))
    for row, value in zip(long, array.take(row_array(long)).to_pylist(), strict=True):
        digits = value.lstrip("+-").lstrip("0")
        # Length first: int() refuses thousands of digits.
        beyond[row] = len(digits) > 20 or int(digits) > (2**64 - 1 if wide else 2**63 - (value[0] != "-"))
    found.append((beyond, Reason.BAD_INTEGER, "the number does not fit into 64 bits"))
    return found


def _double_culprits(array: Any, column: Column) -> Culprits:
    if not column.strict:
        misfit = ~matches(array, ANY_NUMBER)
        shaped = without(array, misfit)
        typed = shaped.cast(pa.float64())
        infinite = ~flags(pc.is_finite(typed)) & valid_rows(typed)
        return [
            (misfit, Reason.BAD_NUMBER, "the value is no number"),
            (infinite, Reason.BAD_NUMBER, "the number is too large"),
            (underflows(shaped, typed), Reason.BAD_NUMBER, "the number is too small"),
        ]
    odd = ~matches(array, CANONICAL_NUMBER)
    cells = Cells.of(without(array, odd))
    numbers = Numbers.of(cells)
    inexact = np.zeros(len(cells.starts), dtype=np.bool_) if numbers is None else numbers.inexact()
    return [
        (~matches(array, PLAIN_NUMBER), Reason.BAD_NUMBER, "the value is no plain number"),
        (odd, Reason.LOSSY, "the way the number is written (zeros, plus sign or point) would be lost"),
        (cells.spread(inexact, len(array)), Reason.LOSSY, f"more than {EXACT_DIGITS} digits would be lost"),
    ]


def _boolean_culprits(array: Any, column: Column) -> Culprits:
    del column
    _, known = _boolean_words(array)
    return [(~known & valid_rows(array), Reason.BAD_BOOLEAN, "the value is neither true nor false")]


def _date_culprits(array: Any, column: Column) -> Culprits:
    del column
    misfit = ~matches(array, DATE)
    return [
        (misfit, Reason.BAD_DATE, "the value is no date as YYYY-MM-DD"),
        (~on_the_calendar(without(array, misfit)), Reason.BAD_DATE, "there is no such day"),
    ]


def _timestamp_culprits(array: Any, column: Column) -> Culprits:
    misfit = ~matches(array, MOMENT)
    if not column.strict:
        misfit &= ~matches(array, DATE)
    shaped = without(array, misfit)
    valid = valid_rows(shaped)
    return [
        (misfit, Reason.BAD_TIMESTAMP, "the value is no moment as YYYY-MM-DD HH:MM:SS"),
        (matches(shaped, ZONED) & valid, Reason.BAD_TIMESTAMP, "the value carries a time zone"),
        (~on_the_calendar(shaped), Reason.BAD_TIMESTAMP, "there is no such day or time"),
        (matches(shaped, TOO_FINE) & valid, Reason.LOSSY, "more than 6 digits of a second would be lost"),
    ]


def _decimal_culprits(array: Any, column: Column) -> Culprits:
    misfit = ~matches(array, DECIMAL_NUMBER)
    found: Culprits = [(misfit, Reason.BAD_NUMBER, "the value is no plain decimal number")]
    plain = without(array, misfit)
    valid = valid_rows(plain)
    if column.strict:
        found.append((matches(plain, r"^-?0[0-9]") & valid, Reason.LOSSY, "its leading zeros would be lost"))
    if column.precision is not None:
        scale = column.scale or 0
        # Arrow's regular expressions repeat at most 1,000 times, so the digits are counted, not matched.
        whole = lengths(pc.replace_substring_regex(plain, r"^-?0*([0-9]*).*$", r"\1"))
        decimals = lengths(pc.replace_substring_regex(plain, r"^[^.]*\.?([0-9]*?)0*$", r"\1"))
        large, lossy = whole > column.precision - scale, decimals > scale
        why = f"digits after the first {scale} decimals would be lost"
        if scale > column.precision:  # PostgreSQL's numeric(2,4) ends at 0.0099
            zeros = lengths(pc.replace_substring_regex(plain, r"^-?0*\.(0*)[0-9]*$|^.*$", r"\1"))
            large = (whole > 0) | (decimals > 0) & (zeros < scale - column.precision)
        elif scale < 0:  # and its numeric(2,-3) counts thousands
            zeros = lengths(pc.replace_substring_regex(plain, r"^-?[0-9]*?(0*)(\..*)?$", r"\1"))
            lossy = (decimals > 0) | (whole > 0) & (zeros < -scale)
            why = f"keeps only multiples of 10^{-scale}"
        found += [(large, Reason.BAD_NUMBER, "the number is too large"), (lossy, Reason.LOSSY, why)]
    return found


def _time_culprits(array: Any, column: Column) -> Culprits:
    del column
    return [(~matches(array, CLOCK), Reason.BAD_TIME, "the value is no time of the day as HH:MM:SS")]


def _uuid_culprits(array: Any, column: Column) -> Culprits:
    lower = pc.ascii_lower(array)
    found: Culprits = [(~matches(lower, UUID), Reason.BAD_UUID, "the value is no UUID")]
    if column.strict:
        found.append((~matches(array, UUID), Reason.LOSSY, "its capital letters would be lost"))
    return found


_CULPRITS: dict[ColumnType, Callable[[Any, Column], Culprits]] = {
    ColumnType.BIGINT: _bigint_culprits,
    ColumnType.DOUBLE: _double_culprits,
    ColumnType.BOOLEAN: _boolean_culprits,
    ColumnType.DATE: _date_culprits,
    ColumnType.TIMESTAMP: _timestamp_culprits,
    ColumnType.DECIMAL: _decimal_culprits,
    ColumnType.TIME: _time_culprits,
    ColumnType.UUID: _uuid_culprits,
}

_NUMERIC = (ColumnType.BIGINT, ColumnType.DOUBLE, ColumnType.DECIMAL)


def _finish(array: Any, column: Column, culprits: Culprits) -> Converted:
    """The column with its faults: the first reason of a row counts, then NULL where none may be."""
    faults = []
    taken = np.zeros(len(array), dtype=np.bool_)
    for mask, code, why in culprits:
        fresh = mask & ~taken
        if fresh.any():
            taken |= fresh
            ours = column.origin in (Origin.INFERRED, Origin.DECLARED)
            message = f"column {column.name!r} is {column.type.value if ours else _native(column)} and {why}"
            if ours:
                message += f" (to keep such values: --type {shlex.quote(f'{column.name}=text')})"
            faults.append(Fault(rows=np.flatnonzero(fresh), code=code, message=message))
    array = without(array, taken)
    if not column.nullable and array.null_count:
        rows = np.flatnonzero(~valid_rows(array) & ~taken)
        if len(rows):
            message = f"column {column.name!r} must not be empty (NOT NULL) and the value is missing"
            faults.append(Fault(rows=rows, code=Reason.NOT_NULL, message=message))
    return Converted(array=array, faults=tuple(faults))


def _native(column: Column) -> str:
    """The type as the table has it, where that is known; the many words of an ENUM not to their end."""
    name = column.native or column.type.value
    return name if len(name) <= 60 else f"{name[:59]}…"


def _narrowed(found: Converted, column: Column) -> Converted:
    """The column without what the table's own type, which is narrower than ours, would refuse or cut."""
    array, faults = found.array, list(found.faults)
    for mask, code, why in narrowing.culprits(array, column):
        beyond = mask & valid_rows(array)
        if beyond.any():
            message = f"column {column.name!r} is {_native(column)} and {why}"
            faults.append(Fault(rows=np.flatnonzero(beyond), code=code, message=message))
            array = without(array, beyond)
    return Converted(array=array, faults=tuple(faults))


def convert(text: Any, column: Column, *, as_written: Collection[ColumnType] = ()) -> Converted:
    """One column of text (pa.Array or pa.ChunkedArray of strings) as `column` says.

    Null stays null; the empty string stays in TEXT and is null elsewhere. A column of the types `as_written` comes as
    the text that was checked, for a database that reads text, where every database would read the same value.
    """
    found = _narrowed(_convert(text, column), column)
    if column.type not in as_written:
        return found
    return Converted(array=spellings.as_written(contiguous(text), found.array, column), faults=found.faults)


def _convert(text: Any, column: Column) -> Converted:
    array = spellings.nulled(contiguous(text), column.spelling)
    strange: Culprits = []
    if column.spelling.moment and column.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
        typed, strange = spellings.moments(array, column.spelling.moment, column.type)
        return _finish(typed, column, strange)
    if column.type in _NUMERIC and spellings.signed(column.spelling):
        array, misfit = spellings.plain_numbers(array, column.spelling)
        strange = [(misfit, Reason.BAD_NUMBER, f"the value is no number with {column.spelling.decimal} for decimals")]
    if is_year(column):
        array = spellings.years(array)
    typed = _clean(array, column)
    if typed is not None and column.type is not ColumnType.DECIMAL:
        return _finish(typed, column, strange)
    array = without(array, lengths(array) == 0)
    if typed is not None:
        return _finish(array, column, strange)
    culprits = [*strange, *_CULPRITS[column.type](array, column)]
    found = _finish(array, column, culprits)
    if column.type is ColumnType.DECIMAL:
        return found
    rest = found.array
    if column.type is ColumnType.BIGINT:
        rest = pc.ascii_ltrim(rest, characters="+-" if _is_wide(column) else "+")  # -0 is no unsigned number to Arrow
    typed = _clean(rest, column)
    if typed is None:
        raise AssertionError(f"{column.type}: a value is refused by the cast and by no rule")
    return Converted(array=typed, faults=found.faults)


def _typed(columns: Sequence[Column], converted: Sequence[Converted], count: int) -> Typed:
    """The converted columns as one table of `count` rows, less the bad ones."""
    bad: dict[int, BadCell] = {}
    for column, one in zip(columns, converted, strict=True):
        for fault in one.faults:
            for row in fault.rows.tolist():
                # Columns come in order, so the first one stays.
                bad.setdefault(row, BadCell(row=row, column=column.name, code=fault.code, message=fault.message))
    table = pa.Table.from_arrays([one.array for one in converted], names=[c.name for c in columns])
    if not bad:
        return Typed(table=table)
    keep = np.ones(count, dtype=np.bool_)
    keep[list(bad)] = False
    return Typed(
        table=table.filter(mask_array(keep)), bad=tuple(bad[row] for row in sorted(bad)), kept=np.flatnonzero(keep)
    )


def convert_table(text: Any, columns: Sequence[Column], *, as_written: Collection[ColumnType] = ()) -> Typed:
    """A pa.Table of text as typed columns named after `columns`, which go with its columns by position."""
    converted = [convert(one, column, as_written=as_written) for one, column in zip(text.columns, columns, strict=True)]
    return _typed(columns, converted, text.num_rows)


def arrow_type(column: Column) -> Any:
    """The pa.DataType that a converted column has."""
    return _ARROW[column.type]


def column_type(arrow: Any) -> ColumnType:
    """The type for a column that a transform returned. Raises SourceError for what no column can hold."""
    kinds = pa.types
    if kinds.is_dictionary(arrow):
        return column_type(arrow.value_type)
    for test, kind in (
        (kinds.is_boolean, ColumnType.BOOLEAN),
        (kinds.is_integer, ColumnType.BIGINT),
        (kinds.is_floating, ColumnType.DOUBLE),
        (kinds.is_decimal, ColumnType.DECIMAL),
        (kinds.is_date, ColumnType.DATE),
        # A zone cannot be kept in a TIMESTAMP, but it can be written.
        (lambda t: kinds.is_timestamp(t) and t.tz is None, ColumnType.TIMESTAMP),
        (kinds.is_timestamp, ColumnType.TEXT),
        (kinds.is_string, ColumnType.TEXT),
        (kinds.is_large_string, ColumnType.TEXT),
        (kinds.is_string_view, ColumnType.TEXT),
        (kinds.is_null, ColumnType.TEXT),
    ):
        if test(arrow):
            return kind
    raise SourceError(
        f"the transform returned a column of type {arrow}, which no table can hold.",
        code=Reason.TRANSFORM,
        hint="Return numbers, booleans, dates, timestamps or strings.",
    )


def _to_text(array: Any, *, plain: bool) -> Any:
    """Any supported values as strings; with `plain`, numbers without exponents."""
    text = array.cast(pa.string())
    if plain and (pa.types.is_decimal(array.type) or pa.types.is_floating(array.type)):
        exponent = pc.match_substring_regex(text, "[eE]")
        if pc.any(exponent, min_count=0).as_py():
            spelled = [format(Decimal(value), "f") for value in text.filter(exponent).to_pylist()]
            text = pc.replace_with_mask(text, pc.fill_null(exponent, False), pa.array(spelled))
    return text


def _numpy(array: Any) -> NDArray[Any]:
    """Numbers with 0 for null: 0 fits everywhere."""
    return np.asarray(pc.fill_null(array, 0).to_numpy(zero_copy_only=False))


def _moment_culprits(values: Any, column: Column) -> Culprits:
    unit = {"date32[day]": "D", "date64[ms]": "ms"}.get(str(values.type)) or values.type.unit
    day = {"D": 1, "s": 86_400, "ms": 86_400_000, "us": DAY_US, "ns": DAY_US * 1000}[unit]
    ticks = _numpy(values.cast(pa.int32() if unit == "D" else pa.int64())).astype(np.int64)
    # Nanoseconds end long before year 1 and year 9999.
    low, high = max(FIRST_DAY * day, -(2**63)), min((LAST_DAY + 1) * day - 1, 2**63 - 1)
    code = Reason.BAD_DATE if column.type is ColumnType.DATE else Reason.BAD_TIMESTAMP
    found: Culprits = [((ticks < low) | (ticks > high), code, "the year is not from 1 to 9999")]
    if column.type is ColumnType.DATE:
        found.append((ticks % day != 0, Reason.LOSSY, "the time of the day would be lost"))
    elif unit == "ns":
        found.append((ticks % 1000 != 0, Reason.LOSSY, "more than 6 digits of a second would be lost"))
    return found


def _fit_culprits(values: Any, kind: ColumnType, column: Column) -> Culprits | None:
    """Values that do not survive the cast to the column's type; None: the way goes through text."""
    moments = (ColumnType.DATE, ColumnType.TIMESTAMP)
    if kind in moments and column.type in moments:
        return _moment_culprits(values, column)
    match kind, column.type:
        case ColumnType.BOOLEAN, ColumnType.BOOLEAN:
            return []
        case ColumnType.BIGINT, ColumnType.BIGINT:
            fits = _is_wide(column) or not pa.types.is_uint64(values.type)
            beyond = None if fits else _numpy(values) > np.uint64(2**63 - 1)
            return [] if beyond is None else [(beyond, Reason.BAD_INTEGER, "the number does not fit into 64 bits")]
        case ColumnType.BIGINT, ColumnType.DOUBLE:
            integers = _numpy(values)
            beyond = integers > 2**53
            if integers.dtype.kind == "i":
                beyond |= integers < -(2**53)
            return [(beyond, Reason.LOSSY, "digits of the whole number would be lost")]
        case ColumnType.DOUBLE, ColumnType.DOUBLE:
            return [(~np.isfinite(_numpy(values)), Reason.BAD_NUMBER, "the number is infinite")]
        case ColumnType.DOUBLE, ColumnType.BIGINT:
            numbers = _numpy(values).astype(np.float64)
            inside = (numbers >= -(2.0**63)) & (numbers < 2.0**63)
            return [
                (~inside, Reason.BAD_INTEGER, "the number does not fit into 64 bits"),
                (numbers != np.floor(numbers), Reason.LOSSY, "its decimals would be lost"),
            ]
    return None


def _fit(values: Any, column: Column) -> Converted:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    while pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = column_type(values.type)
    if kind is ColumnType.DOUBLE:
        # NaN is how pandas writes a missing number.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    culprits = _fit_culprits(values, kind, column)
    if culprits is not None:
        found = _finish(values, column, culprits)
        wide = _is_wide(column) and pa.types.is_uint64(values.type)
        return Converted(array=found.array.cast(values.type if wide else arrow_type(column)), faults=found.faults)
    text = _to_text(values, plain=column.type is not ColumnType.TEXT)
    if kind is ColumnType.DECIMAL and column.type is ColumnType.BIGINT:
        text = pc.replace_substring_regex(text, r"\.0*$", "")
    return convert(text, column)


def fit(table: Any, columns: Sequence[Column]) -> Typed:
    """The pa.Table that a transform returned, as `columns` by name; a column it lacks is null.

    A value stays only if the column gives it back unchanged; NaN is null. Raises SourceError for columns that are not
    among `columns` or come twice, and for types that no column can hold.
    """
    names = table.column_names
    for name in names:
        if names.count(name) > 1 or all(c.name != name for c in columns):
            why = "twice" if names.count(name) > 1 else "but the table has none of that name"
            raise SourceError(
                f"the transform returned a column {name!r}, {why}.",
                code=Reason.TRANSFORM,
                hint="Drop or rename it in the transform.",
            )
    converted = []
    for column in columns:
        values = table.column(column.name) if column.name in names else pa.nulls(table.num_rows, arrow_type(column))
        try:
            converted.append(_narrowed(_fit(values, column), column))
        except SourceError as error:
            raise SourceError(f"column {column.name!r}: {error.message}", code=error.code, hint=error.hint) from error
    return _typed(columns, converted, table.num_rows)
