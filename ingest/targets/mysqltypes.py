"""What MySQL and MariaDB say of a column in information_schema, in our words. Imports no driver."""

from __future__ import annotations

import re
from typing import Any

from ingest.model import Column, ColumnType, Origin


def is_generated(info: Any) -> bool:
    # DEFAULT_GENERATED is how MySQL marks an expression as default.
    return bool(re.search(r"\b(VIRTUAL|STORED|PERSISTENT) GENERATED\b|\bGENERATED ALWAYS\b", (info[8] or "").upper()))


_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_TYPES = {
    **dict.fromkeys((*_BITS, "bit", "year"), ColumnType.BIGINT),
    **dict.fromkeys(("float", "double"), ColumnType.DOUBLE),
    **dict.fromkeys(("datetime", "timestamp"), ColumnType.TIMESTAMP),
    "decimal": ColumnType.DECIMAL,
    "date": ColumnType.DATE,
}
_NUMERIC = (ColumnType.BIGINT, ColumnType.DOUBLE, ColumnType.DECIMAL)


def column(info: Any) -> Column:
    """A column of information_schema.

    Name, type, full type, nullable, digits, decimals, digits of a second, characters, extra.
    """
    name, word, full, nullable, digits, decimals, fraction, characters, _ = info
    word, full = word.lower(), full.lower()
    kind = _TYPES.get(word, ColumnType.TEXT)
    if full.startswith("tinyint(1)"):
        kind = ColumnType.BOOLEAN  # what BOOLEAN is short for, in both
    precision, scale, bits = None, None, None
    unsigned = word == "bit" or (kind in _NUMERIC and "unsigned" in full)
    if kind is ColumnType.DECIMAL:
        precision, scale = int(digits), int(decimals)
    elif kind is ColumnType.TIMESTAMP or word == "time":
        scale = int(fraction or 0)
    elif kind is ColumnType.DOUBLE:
        bits = 32 if word == "float" else None
        if decimals is not None:  # DOUBLE(5,2), which rounds
            precision, scale = int(digits), int(decimals)
    elif word == "bit":
        bits = int(digits)
    elif word in _BITS and (unsigned or word != "bigint"):
        bits = _BITS[word]
    return Column(
        name=name,
        type=kind,
        origin=Origin.EXISTING,
        nullable=nullable == "YES",
        precision=precision,
        scale=scale,
        bits=bits if kind is not ColumnType.BOOLEAN else None,
        unsigned=unsigned,
        length=int(characters) if word in ("char", "varchar") else None,
        native=full,
    )
