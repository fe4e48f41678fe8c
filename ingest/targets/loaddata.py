"""Stage a typed batch as the text that `LOAD DATA` of MySQL and MariaDB reads: tabs, backslashes, `\\N` for NULL.

The workers' side: imports no SQLAlchemy and no driver. What the server makes of the text must equal what a plain
`insert()` of the same values gives; `tests/test_mysql.py` compares the two for every type.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.cells import word
from ingest.model import TableShape, is_year

PORTION_BYTES = 64 * 1024 * 1024
"""About how much of a batch is made text at a time: Arrow's strings end at 2 GiB, and several copies are alive."""

FORMAT = r"CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'"
"""How `write` writes, in the words of LOAD DATA. Needs an sql_mode without NO_BACKSLASH_ESCAPES."""


_NOTHING, _TAB, _NEWLINE = map(word, ("", "\t", "\n"))
_NULLS: dict[str, Any] = {"null_handling": "replace", "null_replacement": "\\N"}
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0"))


def write(batch: pa.Table, shape: TableShape, path: str) -> None:
    """Write the batch's rows to a new file, one line each, its columns, named as the table's, in their order."""
    for i, name in enumerate(batch.column_names):
        if (column := shape.column(name)) is not None and is_year(column):
            # As text, 0 is the year 2000.
            years = pc.replace_substring_regex(batch.column(i).cast(pa.string()), "^0$", "0000")
            batch = batch.set_column(i, name, years)
    rows = batch.num_rows
    portion = max(1, min(rows, rows * PORTION_BYTES // max(1, batch.nbytes)))
    with open(path, "wb") as file:
        for start in range(0, rows, portion):
            file.write(_lines(batch.slice(start, portion)))


def _lines(batch: pa.Table) -> memoryview:
    texts = [_text(column.combine_chunks()) for column in batch.columns]
    # The last column brings the line's end: joined to a column of its own, the line would end in an empty field.
    texts[-1] = pc.binary_join_element_wise(texts[-1], _NEWLINE, _NOTHING, **_NULLS)
    lines = pc.binary_join_element_wise(*texts, _TAB, **_NULLS)
    _, offsets, data = lines.buffers()
    end = int.from_bytes(memoryview(offsets)[4 * len(lines) : 4 * len(lines) + 4], "little")
    return memoryview(data)[:end]


def _text(array: Any) -> Any:
    """The values as the server's own literals; a moment with six digits of a second, a number with all of its."""
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8()).cast(pa.string())
    if not pa.types.is_string(array.type):
        return array.cast(pa.string())
    data = array.buffers()[2]
    if data is None:
        return array
    held = data.to_pybytes()  # a copy costs less than a search value by value; what a slice leaves out does no harm
    for plain, escaped in _ESCAPES:
        if plain.encode() in held:
            array = pc.replace_substring(array, plain, escaped)
    return array
