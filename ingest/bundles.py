"""Which small files travel together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ingest.work import Work

BUNDLE_FILES = 500
"""Files of one bundle: large enough that a transaction's fixed cost is nothing, small enough to be redone."""
BUNDLE_BYTES = 4 * 1024 * 1024
"""Bytes of one bundle: it should be staged in about the time of a slice."""
SMALL_BYTES = 256 * 1024
"""Files up to this size travel in bundles: beyond it, what a file costs by itself is little beside its reading."""


def bundles(works: Iterable[Work]) -> Iterator[list[Work]]:
    """The files in their order, small ones next to each other together. All have the same header and table."""
    bundle: list[Work] = []
    size = 0
    for work in works:
        small = _small(work)
        if bundle and (not small or len(bundle) >= BUNDLE_FILES or size + work.source.size > BUNDLE_BYTES):
            yield bundle
            bundle, size = [], 0
        if small:
            bundle.append(work)
            size += work.source.size
        else:
            yield [work]
    if bundle:
        yield bundle


def _small(work: Work) -> bool:
    return (
        work.source.size <= SMALL_BYTES and work.seekable and not work.reset and not work.from_bytes and not work.alone
    )
