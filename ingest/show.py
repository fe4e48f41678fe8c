"""Results on stdout: the plan, the ledger's files, runs and rejects, as tables for people or text for other programs.

A terminal gets tables that fit it; anything else gets the same columns aligned with blanks, one line a row. Asks no
ledger; what is shown is handed in.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from ingest.console import printable
from ingest.history import RejectedRecord, RunStory, Status
from ingest.model import UTF8, Action, Column, Decision, Plan
from ingest.rows import FileRow, RunRow

REJECT_COLUMNS = ("file", "line", "byte", "record", "column", "reason", "message", "raw", "applied")


def plan(what: Plan, out: TextIO) -> None:
    """What `load` would do: each file, each table, what was left alone, and the sums."""
    table(out, ("action", "table", "file", "written", "why"), (_decision(d) for d in what.decisions))
    for planned in what.tables:
        added = f"; columns to be added: {', '.join(planned.added)}" if planned.added else ""
        line(out, "")
        line(out, f"{planned.table}: {'a table that exists' if planned.exists else 'a new table'}{added}")
        if planned.shape:
            table(out, ("column", "type", "decided", "note"), (_column(c) for c in planned.shape.columns))
        for note in planned.notes:
            line(out, f"note: {note}")
    if what.left_out:
        line(out, "")
        table(out, ("left alone", "why"), ((left.path, left.sentence) for left in what.left_out))
    if what.vanished:
        line(out, "")
        table(out, ("loaded once and no longer there",), ((path,) for path in what.vanished))
    counts = Counter(decision.action for decision in what.decisions)
    told = ", ".join(f"{action.value} {counts[action]:,}" for action in Action if counts[action])
    line(out, "")
    line(out, f"load would {told or 'do nothing, for there is no file'}")


def _decision(decision: Decision) -> tuple[object, ...]:
    dialect = decision.header.dialect if decision.header else None
    ends = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
    written = f"{_delimiter(dialect.delimiter)} {ends.get(dialect.line_end, '')}" if dialect else ""
    if dialect is not None and dialect.encoding != UTF8:
        written += f" {dialect.encoding}"
    why = f"{decision.sentence} {decision.hint}".rstrip()
    return (decision.action.value, str(decision.table), decision.source.display, written, why)


def _delimiter(text: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}.get(text, text)


def _column(column: Column) -> tuple[object, ...]:
    kind = column.type.value
    if column.precision is not None:
        kind += f"({column.precision},{column.scale or 0})"
    return (column.name, kind, column.origin.value, column.note)


def status(what: Status, out: TextIO) -> None:
    """The tables with their sums, then by name every file that is not loaded, and those that vanished."""
    states = sorted({state for of in what.tables for state in of.files})
    # Most ledgers know no table that was loaded by key.
    keyed = [n for n in ("superseded", "ignored") if any(getattr(of, f"rows_{n}") for of in what.tables)]
    head = ("table", *states, "rows", "rejected", "discarded", *keyed)
    rows = (
        (
            of.table,
            *(of.files.get(s, 0) for s in states),
            *(of.rows_loaded, of.rows_rejected, of.rows_discarded),
            *(getattr(of, f"rows_{n}") for n in keyed),
        )
        for of in what.tables
    )
    table(out, head, rows)
    troubled = [row for row in what.files if row.state != "loaded" or row.error]
    if troubled:
        line(out, "")
        table(out, ("state", "table", "file", "why"), (_trouble(row) for row in troubled))
    if what.vanished:
        line(out, "")
        table(out, ("loaded once and no longer there",), ((path,) for path in what.vanished))
    if not what.tables:
        line(out, "nothing was loaded yet")


def _trouble(row: FileRow) -> tuple[object, ...]:
    why = f"{row.error_code}: {row.error}" if row.error else ""
    return (row.state.value, row.table_name, row.path, why)


def runs(what: Sequence[RunRow], out: TextIO) -> None:
    """The runs, newest first."""
    head = ("run", "started (UTC)", "seconds", "state", "exit", "loaded", "skipped", "refused", "failed", "rows")
    table(out, (*head, "rejected"), (_run(row) for row in what))


def _run(row: RunRow) -> tuple[object, ...]:
    seconds = f"{(row.finished_at - row.started_at).total_seconds():.1f}" if row.finished_at else ""
    return (
        row.run_id,
        f"{row.started_at:%Y-%m-%d %H:%M:%S}",
        seconds,
        row.state.value,
        "" if row.exit_code is None else row.exit_code,
        row.files_loaded,
        row.files_skipped,
        row.files_refused,
        row.files_failed,
        row.rows_loaded,
        row.rows_rejected,
    )


def run(what: RunStory, out: TextIO) -> None:
    """One run, and the files it was the last to touch."""
    runs([what.run], out)
    line(out, "")
    line(out, f"process {what.run.pid} on {what.run.host}, ingest {what.run.ingest_version}, {what.run.options}")
    if what.run.error:
        line(out, f"it ended with: {what.run.error}")
    if what.files:
        line(out, "")
        rows = ((r.state.value, r.table_name, r.rows_loaded, r.rows_rejected, r.path) for r in what.files)
        table(out, ("state", "table", "rows", "rejected", "file"), rows)


def rejects(what: Iterable[RejectedRecord], out: TextIO) -> int:
    """Each reject with its place, as compilers write it, and its text below; how many there were."""
    count = 0
    for count, reject in enumerate(what, start=1):  # noqa: B007
        column = f" column {reject.column}:" if reject.column else ""
        whole = "" if reject.applied else " (the whole file was refused)"
        line(out, f"{reject.file}:{reject.line}:{column} {reject.reason}: {reject.message}{whole}")
        line(out, f"    {reject.raw}")
    return count


def export(what: Iterable[RejectedRecord], out: TextIO) -> int:
    """The rejects as CSV with a header, raw text as it stood in the file; how many there were."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(REJECT_COLUMNS)
    count = 0
    for count, reject in enumerate(what, start=1):  # noqa: B007
        # A name that is not UTF-8 is spelled out; the raw text is as the ledger keeps it.
        file = reject.file.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        values = (getattr(reject, name) for name in REJECT_COLUMNS[1:-1])
        writer.writerow((file, *values, "true" if reject.applied else "false"))
    return count


def line(out: TextIO, text: str) -> None:
    """One line, whatever the names in it hold."""
    out.write(printable(text) + "\n")


def table(out: TextIO, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table: drawn to the width of a terminal, else aligned with blanks; numbers to the right."""
    listed = [tuple(row) for row in rows]
    if not listed:
        return
    numeric = [all(isinstance(row[i], int) for row in listed) for i in range(len(head))]
    if out.isatty():
        _draw(out, head, listed, numeric)
        return
    texts = [tuple(head), *(tuple(printable(str(cell)) for cell in row) for row in listed)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    for row in texts:
        cells = zip(row, widths, numeric, strict=True)
        aligned = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells]
        out.write("  ".join(aligned).rstrip() + "\n")


def _draw(out: TextIO, head: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[bool]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title, right in zip(head, numeric, strict=True):
        drawn.add_column(Text(title), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Text, not str: brackets in a name are no mark-up.
        drawn.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else printable(str(cell))) for cell in row))
    Console(file=out, highlight=False).print(drawn)
