"""A table that becomes what the files of a scan hold: the staging table beside it, and whether there is anything to do.

The files are loaded into the staging table as into any other, with everything that belongs to it; when all of them are
in it, one transaction puts its rows in the place of the table's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest import manifest
from ingest.errors import SourceError, TableError
from ingest.model import OWN_COLUMNS, FileState, Mode, Reason, Source, TableName, TableShape
from ingest.rows import FileRow, TableRow
from ingest.targets.base import Target
from ingest.work import TableState

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

SUFFIX = "_ingest_new"


def staging_name(target: Target, table: TableName) -> TableName:
    """The table that is filled in the place of this one; always the same, for a run finds what another has left."""
    return replace(table, name=target.fitting(table.name, SUFFIX))


def staged(target: Target, connection: Connection, state: TableState, row: TableRow) -> TableShape | None:
    """The staging table of an earlier attempt, if it is ours and as the table is now (columns may have been added)."""
    assert state.staging is not None
    shape = target.shape(connection, state.staging)
    if shape is None or state.shape is None or target.token(connection, state.staging) != row.token:
        return None
    mine = [c for c in shape.columns if c.name not in OWN_COLUMNS]
    theirs = [c for c in state.shape.columns if c.name not in OWN_COLUMNS]
    same = mine == theirs[: len(mine)] and all(c.nullable for c in theirs[len(mine) :])
    keys = (set(target.unique_keys(connection, table)) for table in (state.table, state.staging))
    return shape if same and next(keys) == next(keys) else None


def unsafe(target: Target, connection: Connection | None, table: TableName) -> TableError | None:
    """Why the rows of a table cannot be replaced; without a connection, or the table, as far as that tells."""
    if not target.replaces:
        return TableError(
            f"--mode {Mode.REPLACE} is not there yet for {target.label}.",
            code=Reason.COLUMNS,
            hint="Load into a table of another name, and rename both.",
        )
    if connection is not None and target.hides_rows(connection, table):
        return TableError(
            f"the rows of {table} cannot be replaced: row security may hide some of them from this user.",
            code=Reason.CONSTRAINT,
            hint="Load as the table's owner (without FORCE ROW LEVEL SECURITY) or as a role with BYPASSRLS.",
        )
    others = target.cascades(connection, table) if connection is not None else []
    if not others:
        return None
    return TableError(
        f"the rows of {table} cannot be replaced: rows of {', '.join(others)} would go with them, or be changed.",
        code=Reason.CONSTRAINT,
        hint="A foreign key (ON DELETE) or INHERITS says so; without that, the rows stay and are checked at the end.",
    )


def is_as_the_files_are(
    state: TableState,
    sources: Sequence[Source],
    rows: Mapping[str, FileRow],
    unchanged: Callable[[Source, FileRow], bool],
    *,
    skip_equal: bool,
) -> bool:
    """Whether just these files are in the table, with their present content. Reads a file whose times have changed.

    `skip_equal`: a file with the content of one that is in the table need not be in it as well.
    """
    if state.lost or state.shape is None:
        return False
    loaded = {r.path: r for r in rows.values() if r.table_name == state.key and r.state is FileState.LOADED}
    if not set(loaded) <= {source.path for source in sources}:
        return False
    pairs = [(source, loaded[source.path]) for source in sources if source.path in loaded]
    others = [source for source in sources if source.path not in loaded]
    if others and not (skip_equal and {source.size for source in others} <= {row.size for row in loaded.values()}):
        return False
    modes = {row.mode for row in loaded.values()}
    # Other rows may have been there before what was appended, unless the table is ours.
    if modes != {Mode.REPLACE} and not (state.made_by_us and modes <= {Mode.APPEND, Mode.REPLACE}):
        return False
    if any(source.size != row.size for source, row in pairs):
        return False
    touched = [source for source, row in pairs if not unchanged(source, row)]
    hashes = manifest.sha256_many([*touched, *others])
    known = {row.sha256 for row in loaded.values()}
    if any(isinstance(found := hashes[source.path], SourceError) or found not in known for source in others):
        return False
    return all(
        not isinstance(found := hashes[source.path], SourceError) and found == loaded[source.path].sha256
        for source in touched
    )
