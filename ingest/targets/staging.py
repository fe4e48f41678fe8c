"""Stage a typed batch in a target's own bulk format, into the spool. The workers' side: imports no SQLAlchemy.

What a stage holds must read back through SQLAlchemy equal to what a plain `insert()` of the same values gives;
`tests/test_targets.py` compares the two for every type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ingest.jobs import ARROW, LOAD_DATA, POSTGRES, SQLITE, Staged
from ingest.model import TableShape


def stage(format_: str, batch: pa.Table, shape: TableShape, *, stem: str, name: str) -> Staged:
    """Write `batch`, its columns named as the table's, to a file whose path starts with `stem`.

    `name` tells the batches of one stem apart. Raises `SourceError` where a row breaks a constraint of the table's
    own definition.
    """
    # Each its own way, with the libraries that others need not load.
    if format_ == SQLITE:
        from ingest.targets import stagefile

        return stagefile.stage(batch, shape, path=f"{stem}.db", table=f"b{name}")
    if format_ == LOAD_DATA:
        from ingest.targets import loaddata

        path = f"{stem}-{name}.txt"
        loaddata.write(batch, shape, path)
        return Staged(format=LOAD_DATA, path=path, columns=tuple(batch.column_names))
    if format_ == POSTGRES:
        from ingest.targets import copying

        return copying.stage(batch, shape, path=f"{stem}-{name}.copy")
    path = f"{stem}-{name}.arrow"
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch)
    return Staged(format=ARROW, path=path)


def read_arrow(path: str, rows: int) -> Iterator[list[dict[str, Any]]]:
    """The batches of a staged Arrow file as lists of `rows` dictionaries."""
    with pa.memory_map(path) as source:
        table = pa.ipc.open_file(source).read_all()
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows).to_pylist()
