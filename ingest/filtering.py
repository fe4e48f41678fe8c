"""`--where`: which records are taken, by a condition on their typed values that pandas evaluates.

It is data, not code: of pandas' language it may use columns, numbers, texts, comparisons, arithmetic, `and`, `or`,
`not`, `in`, and a few methods by name. No other attribute, call or variable gets as far as pandas, which would run it.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.errors import UsageError
from ingest.model import Column, ColumnType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

METHODS: tuple[str, ...] = ("isnull", "notnull")
TEXT_METHODS: tuple[str, ...] = ("startswith", "endswith", "contains", "len", "lower", "upper")

ALLOWED = "columns (with blanks: `unit price`), numbers, texts, < <= == != > >=, + - * /, and or not, in [...], " + (
    f"{', '.join(f'.{name}()' for name in METHODS)}, {', '.join(f'.str.{name}()' for name in TEXT_METHODS)}"
)

_NODES = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.Invert),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.BitAnd, ast.BitOr),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *(ast.Name, ast.Load, ast.List, ast.Tuple),
)
_WORDS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]*)`""", re.DOTALL)


_HIDDEN = "_ingest_quoted_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A condition that was let through."""

    typed: str
    text: str  #: for pandas: its columns are called as `columns` says
    columns: Mapping[str, str]  #: by name, what they are called in `text`


def parse(typed: str) -> Where:
    """The condition that was typed. Raises UsageError for what is not one, or could do more than look."""
    quoted: list[str] = []

    def hide(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        quoted.append(match[1])
        return f"{_HIDDEN}{len(quoted) - 1}"

    columns: dict[str, str] = {}
    words: list[str] = []
    try:
        text = _WORDS.sub(hide, typed.strip())
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            word = token.string
            if token.type == tokenize.COMMENT:
                raise _refused(typed, "a comment is none")
            if token.type == tokenize.NAME and not keyword.iskeyword(word) and words[-1:] != ["."]:
                name = quoted[int(word.removeprefix(_HIDDEN))] if word.startswith(_HIDDEN) else word
                word = columns.setdefault(name, f"c{len(columns)}")
            words.append(word)
        text = " ".join(words).strip()
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, tokenize.TokenError, ValueError, IndexError, RecursionError, MemoryError) as error:
        raise _refused(typed, "it cannot be read") from error
    _check(typed, tree.body)
    if not columns:
        raise _refused(typed, "it names no column")
    return Where(typed=typed, text=text, columns=columns)


def _refused(typed: str, why: str) -> UsageError:
    return UsageError(f"--where {typed!r} is no condition: {why}.", hint=f"It may use {ALLOWED}.")


def _check(typed: str, node: ast.AST) -> None:
    if isinstance(node, ast.Constant):
        if type(node.value) not in (bool, int, float, str):
            raise _refused(typed, f"{node.value!r} is neither a number nor a text")
        return
    if isinstance(node, ast.Call):
        _check_call(typed, node)
        return
    if not isinstance(node, _NODES):
        kind = {"MatMult": "@", "Mod": "%", "Pow": "**"}.get(type(node).__name__, type(node).__name__.lower())
        raise _refused(typed, f"{kind} is not allowed")
    for child in ast.iter_child_nodes(node):
        _check(typed, child)


def _check_call(typed: str, node: ast.Call) -> None:
    called = node.func
    if isinstance(called, ast.Attribute):
        of, methods = called.value, METHODS
        if isinstance(of, ast.Attribute) and of.attr == "str":
            of, methods = of.value, TEXT_METHODS
        if isinstance(of, ast.Name) and called.attr in methods and not node.keywords:
            if all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in node.args):
                return
            raise _refused(typed, f"{called.attr}() is given something else than a text")
    raise _refused(typed, f"{ast.unparse(called)}() is not allowed")


def check(where: Where, columns: Sequence[Column], of: str) -> None:
    """Raise UsageError unless the condition can be asked of records with these columns."""
    import pandas as pd
    import pyarrow as pa

    known = {column.name: column for column in columns}
    lacking = next((name for name in where.columns if name not in known), None)
    if lacking is not None:
        raise UsageError(
            f"--where {where.typed!r}: {of} has no column {lacking!r}.", hint=f"It has {', '.join(known)}."
        )
    names = [column.name for column in columns if column.name in where.columns]
    # Of no row at all, pandas lets pass what it would refuse of any.
    sample = pa.table({name: _sample(known[name]) for name in names})
    try:
        found = _frame(where, sample, known).eval(where.text, engine="python", local_dict={}, global_dict={})
    except Exception as error:
        types = ", ".join(f"{name} is {known[name].type.value}" for name in names)
        raise UsageError(
            f"--where {where.typed!r} cannot be asked of {of}: {type(error).__name__} ({types}).",
            hint="Compare numbers with numbers, and texts and dates with 'texts'.",
        ) from error
    if not isinstance(found, pd.Series) or not pd.api.types.is_bool_dtype(found.dtype):
        raise _refused(where.typed, "it is neither true nor false")


def kept(where: Where, table: Any, columns: Sequence[Column]) -> npt.NDArray[np.int64]:
    """The rows of a pa.Table, whose columns are among these, for which the condition is true."""
    import numpy as np

    frame = _frame(where, table, {column.name: column for column in columns})
    return np.asarray(frame.query(where.text, engine="python", local_dict={}, global_dict={}).index, dtype=np.int64)


def _frame(where: Where, table: Any, known: Mapping[str, Column]) -> Any:
    """The columns that a condition names, under the names that it has for them; one that a file lacks is NULL."""
    import pandas as pd
    import pyarrow as pa

    arrays = {
        called: _comparable(table.column(name), known[name])
        if name in table.column_names
        else _nulls(known[name], table.num_rows)
        for name, called in where.columns.items()
    }
    frame = pa.table(arrays).to_pandas(types_mapper=pd.ArrowDtype)
    frame.index = pd.RangeIndex(len(frame))
    return frame


def _sample(column: Column) -> Any:
    """A value of a column, and none."""
    import pyarrow as pa

    text = {ColumnType.BOOLEAN: "true", ColumnType.DATE: "2000-01-01", ColumnType.TIMESTAMP: "2000-01-01"}
    return pa.array([text.get(column.type, "1"), None], pa.string()).cast(_nulls(column, 0).type)


def _nulls(column: Column, count: int) -> Any:
    import pyarrow as pa

    arrow = {
        ColumnType.BIGINT: pa.int64(),
        ColumnType.DOUBLE: pa.float64(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.DATE: pa.timestamp("us"),
        ColumnType.TIMESTAMP: pa.timestamp("us"),
        ColumnType.DECIMAL: pa.decimal128(38, 10),
    }
    return pa.nulls(count, arrow.get(column.type, pa.string()))


def _comparable(array: Any, column: Column) -> Any:
    """Dates as moments, which can be compared with texts of them, and decimals, which travel as text, as numbers."""
    import pyarrow as pa

    if column.type is ColumnType.DATE:
        return array.cast(pa.date32()).cast(pa.timestamp("us"))
    if column.type is ColumnType.DECIMAL and pa.types.is_string(array.type):
        try:
            return array.cast(pa.decimal128(38, 10))
        except pa.ArrowInvalid:
            return array.cast(pa.float64())
    return array
