"""From a row that a table refused back to its record: line, byte and text, read again from the file.

Rows are staged without their places, for few are ever asked for. Opens files and no database.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from ingest import opening, reader
from ingest.errors import SourceError
from ingest.jobs import Place
from ingest.model import Reason, Reject
from ingest.targets.base import BatchRef


def rejects(refused: Mapping[int, str], batches: Sequence[BatchRef]) -> list[Reject]:
    """A reject for each refused row, in the order of their records; lines, bytes and records count in the file.

    `refused` is by the row's number, from 1 over all batches in their order, and says which constraint it broke.
    Raises SourceError where the file is no longer as it was staged.
    """
    ends = list(accumulate(batch.rows for batch in batches))
    by_batch: dict[int, dict[int, str]] = {}
    for number, constraint in refused.items():
        which = bisect_right(ends, number - 1)
        first = ends[which] - batches[which].rows
        by_batch.setdefault(which, {})[number - 1 - first] = constraint
    found: list[Reject] = []
    for which, rows in sorted(by_batch.items()):
        place = batches[which].place
        assert place is not None
        found += _placed(place, rows)
    return found


def _placed(place: Place, rows: Mapping[int, str]) -> list[Reject]:
    kept = None if place.kept is None else np.load(place.kept)
    records = sorted((row if kept is None else int(kept[row]), why) for row, why in rows.items())
    places = reader.locate(
        _data(place),
        place.dialect,
        [record for record, _ in records],
        exact=place.exact,
        after_broken=place.slice.after_broken,
    )
    return [
        Reject(
            code=Reason.CONSTRAINT,
            message=f"the table refuses it: {why}",
            line=place.first_line + line,
            byte=place.slice.start + byte,
            record=place.first_record + record,
            text=text,
        )
        for (record, why), (line, byte, text) in zip(records, places, strict=True)
    ]


def _data(place: Place) -> bytes:
    """The decoded bytes of the slice. What was spooled of one that cannot be seeked may be gone by now."""
    spooled = place.slice.spooled
    if place.source.seekable(place.dialect.encoding) or (spooled is not None and os.path.exists(spooled)):
        return reader.load_bytes(place.source, place.slice)
    with opening.reading(place.source), opening.open_decoded(place.source, place.dialect.encoding) as stream:
        stream.seek(place.slice.start)
        data: bytes = stream.read(place.slice.length)
    if len(data) != place.slice.length:
        raise SourceError(f"{place.source.display} became shorter while it was read.", code=Reason.CHANGED_WHILE_READ)
    return data
