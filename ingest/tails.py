"""Files that only grew: what the ledger keeps while a tail is on its way, and whether a tail may be read by itself.

The attempt at a tail is written ahead like any other, over the fingerprint of what is loaded. That fingerprint goes
along in the header of the row; a tail is one transaction, so as long as the row says `started` nothing of it is
committed, and the row means what it meant before. Opens no file and asks no database.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ingest.model import FileState, Mode
from ingest.rows import FileRow

_KEPT = ("size", "mtime_ns", "ctime_ns", "scanned_ns", "sha256")
"""What a new attempt overwrites, and what tells the old content from any other."""

_ADDING = frozenset((Mode.APPEND, Mode.REPLACE))
"""Modes in which each record is a row of its own."""


def marked(header: str, row: FileRow) -> str:
    """The header of an attempt at what was added to a loaded file, with what the ledger says of that until then."""
    before = {name: getattr(row, name) for name in _KEPT}
    return json.dumps(json.loads(header) | {"grew": before | {"from": row.committed_bytes}})


def begins_at(row: FileRow) -> int | None:
    """Where the last part of the file begins, in the decoded stream, if it was loaded in parts."""
    return _mark(row).get("from")


def as_before(row: FileRow) -> FileRow:
    """The row, or, of a file whose tail was interrupted, the row as it was: loaded, without the tail."""
    mark = _mark(row) if row.state is FileState.STARTED and row.loaded_at is not None else {}
    if not mark or mark["from"] != row.committed_bytes:
        return row
    header = {name: value for name, value in json.loads(row.header or "{}").items() if name != "grew"}
    old = {name: mark[name] for name in _KEPT}
    return replace(row, state=FileState.LOADED, header=json.dumps(header), **old)


def why_not(row: FileRow, header: str, mode: str, usual: dict[str, object]) -> str:
    """Why what was added to a file cannot be read as the rest of it was, or ""; `header` is as it would be kept.

    `usual` are the options at their defaults: one that an older version did not write down had that effect then.
    """
    if row.mode != mode and not {row.mode, mode} <= _ADDING:
        return f"it was loaded with --mode {row.mode}"
    then, now = json.loads(row.header or "{}"), json.loads(header)
    old, new = usual | then.get("options", {}), usual | now.get("options", {})
    changed = [name for name in {**old, **new} if (old.get(name) or None) != (new.get(name) or None)]
    if changed:
        return f"it was loaded with other options ({', '.join(changed)}), and one file would be read in two ways"
    # Lines may end in LF and in CRLF within one file.
    ends = [read.get("line_end") == "\r" for read in (then, now)]
    other = [name for name in then if name in now and name not in ("options", "line_end") and then[name] != now[name]]
    if other or ends[0] != ends[1]:
        told = ", ".join(name.replace("_", " ") for name in other) or "line end"
        return f"with what was added to it, it looks as if it was written another way ({told})"
    return ""


def _mark(row: FileRow) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.header or "{}").get("grew", {})
    return found
