"""What has no column of its own, as JSON in one column of text: `{"name": "value", …}`.

The names are those of the header; a field beyond the header's last has none, and is called as the header's own unnamed
columns are, `column_N` by its position from 1. Values are the text of the file; those that are NULL are left out, and a
row that has none is NULL.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.cells import Integers, contiguous, flags, mask_array, valid_rows, word, words

UNSAFE = r'["\\\x00-\x1f]'
"""Characters that JSON does not take as they are."""


def column(
    table: Any,
    rescued: Sequence[tuple[int, str]],
    extras: Mapping[int, Mapping[int, str]],
    numbers: Integers | None,
    names: Collection[str],
) -> Any:
    """The rescue column of a table of text.

    `rescued`: positions and names of the columns that go into it. `extras`: values beyond the last column, by record
    and position from 0; `numbers`: the record of each row, None: row i is record i. `names`: all names of the header.
    """
    rows = table.num_rows
    members = [_members(contiguous(table.column(position)), name) for position, name in rescued]
    if extras:
        taken = {name.casefold() for name in names}
        texts = {
            number: ", ".join(f"{_spelled(_unnamed(position, taken))}: {_spelled(v)}" for position, v in values.items())
            for number, values in extras.items()
        }
        members.append(_sparse(texts, numbers, rows))
    if not members:
        return pa.nulls(rows, pa.string())
    joined = members[0]
    for more in members[1:]:
        joined = pc.coalesce(_join(joined, more, between=", "), joined, more)
    return _join("{", joined, "}")


def _members(values: Any, name: str) -> Any:
    """`"name": "value"` of each row; null where that is null."""
    unsafe = flags(pc.match_substring_regex(values, UNSAFE)) & valid_rows(values)
    if unsafe.any():
        rows = np.flatnonzero(unsafe).tolist()
        escaped = words(*(_spelled(values[row].as_py())[1:-1] for row in rows))
        values = pc.replace_with_mask(values, mask_array(unsafe), escaped)
    return _join(f'{_spelled(name)}: "', values, '"')


def _join(*parts: Any, between: str = "") -> Any:
    """Texts and columns of text, row by row; null where one is."""
    return pc.binary_join_element_wise(*(word(p) if isinstance(p, str) else p for p in (*parts, between)))


def _sparse(texts: Mapping[int, str], numbers: Integers | None, rows: int) -> Any:
    """The text of each record at its row; null elsewhere, and of records that are no rows nothing."""
    wanted = np.array(sorted(texts), dtype=np.int64)
    at = wanted if numbers is None else np.searchsorted(numbers, wanted)
    there = [
        (row, texts[number])
        for row, number in zip(at.tolist(), wanted.tolist(), strict=True)
        if row < rows and (numbers is None or numbers[row] == number)
    ]
    valid = np.zeros(rows, dtype=np.bool_)
    valid[[row for row, _ in there]] = True
    data = [text.encode() for _, text in there]
    sizes = np.zeros(rows + 1, dtype=np.int32)
    sizes[1:][valid] = [len(text) for text in data]
    edges = np.cumsum(sizes, dtype=np.int32)
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), rows, [bits, pa.py_buffer(edges), pa.py_buffer(b"".join(data))])


def _spelled(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unnamed(position: int, taken: Collection[str]) -> str:
    name, number = f"column_{position + 1}", 2
    while name.casefold() in taken:
        name, number = f"column_{position + 1}_{number}", number + 1
    return name
