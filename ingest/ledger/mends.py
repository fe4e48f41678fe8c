"""Rejects that were given back, mended: the move that closes them, of a file that is loaded."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, case, or_, update

from ingest.ledger.moves import change_file, execute_fenced
from ingest.model import FileState, Reason
from ingest.rows import Closing, Move, storable
from ingest.tables import ingest_file, ingest_reject

_OF_A_REJECT = (
    ingest_reject.c.reject_id == bindparam("b_reject_id"),
    ingest_reject.c.file_id == bindparam("b_file_id"),
    ingest_reject.c.applied,
    ingest_reject.c.closed_run_id.is_(None),
)
_CLOSE = (
    update(ingest_reject)
    .where(*_OF_A_REJECT)
    .values(closed_run_id=bindparam("b_run_id"), closed_at=bindparam("b_now"), mended=bindparam("b_mended"))
)
_LASTS = or_(
    *(ingest_reject.c.reason == code.value for code in (Reason.BROKEN_QUOTE, Reason.BAD_BYTE, Reason.NUL_BYTE))
)
_KEEP_OPEN = (
    update(ingest_reject)
    .where(*_OF_A_REJECT)
    .values(
        # What is broken in the file stays known: how it is exported, and how the file is gone on with, rest on it.
        reason=case((_LASTS, ingest_reject.c.reason), else_=bindparam("b_reason")),
        message=bindparam("b_message"),
        column_name=bindparam("b_column"),
        mended=bindparam("b_mended"),
    )
)


def mend(connection: Connection, run_id: int, move: Move, closing: Closing) -> None:
    """In the transaction that puts mended records of a loaded file into its table: close their rejects, each once.

    The move's counts go from the rejected ones to the others, so that all of them still add up to the file's records;
    its offsets stay where they are. Raises `FenceError` unless the file is as it was read and every reject still open.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    closed = [
        {"b_reject_id": one, "b_file_id": move.file_id, "b_run_id": run_id, "b_now": now, "b_mended": storable(text)}
        for one, text in closing.closed
    ]
    kept = [
        {
            "b_reject_id": one.reject_id,
            "b_file_id": move.file_id,
            "b_reason": one.code,
            "b_message": storable(one.message),
            "b_column": storable(one.column),
            "b_mended": storable(one.mended),
        }
        for one in closing.still_bad
    ]
    for statement, parameters in ((_CLOSE, closed), (_KEEP_OPEN, kept)):
        if parameters:
            execute_fenced(connection, statement, parameters)
    c = ingest_file.c
    change_file(
        connection,
        run_id,
        file_id=move.file_id,
        version=move.version,
        epoch=move.epoch,
        conditions=[c.state == FileState.LOADED.value, c.committed_bytes == move.from_bytes],
        values={
            "rows_loaded": c.rows_loaded + move.rows,
            "rows_rejected": c.rows_rejected + move.rejected,
            "rows_discarded": c.rows_discarded + move.discarded,
            "rows_superseded": c.rows_superseded + move.superseded,
            "rows_ignored": c.rows_ignored + move.ignored,
        },
    )
