"""The state tables' questions and moves.

Every function takes a connection and neither begins nor commits: whoever opened the transaction ends it, so rows,
rejects and ledger live or die together (only `upgrade` takes an engine and is a transaction of its own). A
`FenceError` means that the transaction must be rolled back. Does not read files, touch the user's tables, or decide.
"""

from __future__ import annotations

from ingest.ledger.leases import Held, Holder, beat, give_lease, take_lease
from ingest.ledger.mends import mend
from ingest.ledger.moves import (
    advance,
    check_run,
    drop_rejects,
    finish_run,
    finish_undo,
    forget,
    forget_table,
    intend_table,
    lose,
    note,
    register,
    rename,
    replace,
    settle,
    settle_table,
    start_run,
    take_over,
    touch,
    withdraw,
    write_rejects,
)
from ingest.ledger.questions import (
    file,
    files,
    files_with_open_rejects,
    rejected_for,
    rejects,
    rejects_by_id,
    run,
    runs,
    sums,
    tables,
)
from ingest.ledger.versions import HEAD, UPGRADE, create, is_there, upgrade, version

__all__ = [
    "HEAD",
    "UPGRADE",
    "Held",
    "Holder",
    "advance",
    "beat",
    "check_run",
    "create",
    "drop_rejects",
    "file",
    "files",
    "files_with_open_rejects",
    "finish_run",
    "finish_undo",
    "forget",
    "forget_table",
    "give_lease",
    "intend_table",
    "is_there",
    "lose",
    "mend",
    "note",
    "register",
    "rejected_for",
    "rejects",
    "rejects_by_id",
    "rename",
    "replace",
    "run",
    "runs",
    "settle",
    "settle_table",
    "start_run",
    "sums",
    "tables",
    "take_lease",
    "take_over",
    "touch",
    "upgrade",
    "version",
    "withdraw",
    "write_rejects",
]
