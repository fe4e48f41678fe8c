"""A few values of a file's first records, to see whether a look at all of them is needed. Reads one block of a file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from itertools import islice

from ingest import opening
from ingest.errors import SourceError
from ingest.model import Header, Source

BLOCK = 64 * 1024
"""Bytes that are read."""

RECORDS = 100
"""Records that are looked at: what is written otherwise is met in the first ones or is the exception."""

_ISO = re.compile(r"\s*|[0-9]{4}-[0-9]{2}-[0-9]{2}.*", re.DOTALL)


def are_iso(source: Source, header: Header, positions: Iterable[int]) -> bool:
    """Whether the first values in these columns begin as dates of ISO 8601; also where they cannot be told."""
    dialect = header.dialect
    try:
        with opening.open_decoded(source, header.dialect.encoding) as stream:
            stream.seek(header.data_start)
            data = stream.read(BLOCK)
        text = data[: data.rfind(dialect.separator) + 1].decode() if len(data) == BLOCK else data.decode()
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote or None)
        wanted = list(positions)
        return all(_ISO.fullmatch(row[at]) for row in islice(rows, RECORDS) for at in wanted if at < len(row))
    except (OSError, SourceError, UnicodeDecodeError, csv.Error, TypeError):
        return True
