"""Records that meet rows with their key, on PostgreSQL: which of them are there already. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.model import LINEAGE_COLUMN, OWN_COLUMNS, FileState, Mode
from ingest.tables import ingest_file
from ingest.targets.base import Offer

_PLAIN = (sa.BigInteger, sa.Boolean, sa.Date, sa.DateTime, sa.Text)
"""What two values of are equal only if they are the same; of text, in the order of "C"."""


def same_values(table: sa.Table, offered: Any, names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether a row holds these very values, byte by byte: there are types without an `=`, and 1.0 equals 1.00.

    That another file brought them is no difference, unless its rows may yet be taken back: this one would go along.
    """
    own = [name for name in names if name not in OWN_COLUMNS]
    # Where `=` means just that, it is quicker; of text, that of "C" does.
    plain = [name for name in own if isinstance(table.c[name].type, _PLAIN)]
    same = [_comparable(table.c[name]).is_not_distinct_from(_comparable(offered[name])) for name in plain]
    if rest := [name for name in own if name not in plain]:
        there, new = (sa.func.row(*(columns[name] for name in rest)) for columns in (table.c, offered))
        same.append(sa.func.record_image_eq(there, new, type_=sa.Boolean()))
    if LINEAGE_COLUMN in names:
        kept = ingest_file.c.mode.in_((Mode.UPSERT, Mode.INSERT_IGNORE)) & (ingest_file.c.state == FileState.LOADED)
        taken_back = sa.select(ingest_file.c.file_id).where(~kept)
        same.append(sa.func.coalesce(table.c[LINEAGE_COLUMN], 0).not_in(taken_back))
    return sa.and_(*same)


def count(connection: Connection, offer: Offer, *those: sa.ColumnElement[bool]) -> int:
    """How many of the rows there are, or of those of them."""
    (gathered,) = offer.rows.get_final_froms()
    wanted = [*those, *([offer.rows.whereclause] if offer.rows.whereclause is not None else [])]
    return int(connection.execute(sa.select(sa.func.count()).select_from(gathered).where(*wanted)).scalar_one())


def _comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    # By another name (citext), a text has an `=` of its own.
    return sa.cast(column, sa.Text).collate("C") if isinstance(column.type, sa.Text) else column
