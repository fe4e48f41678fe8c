"""Results on stdout: the plan, the ledger's files, runs and rejects, as tables for people or text for other programs.

A terminal gets tables that fit it; anything else gets the same columns aligned with blanks, one line a row. Asks no
ledger; what is shown is handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from ingest import discards, drift, tails
from ingest.console import counted, fitted_lines, printable
from ingest.history import RejectedRecord, RunStory, Status
from ingest.model import UTF8, Action, Column, Dialect, FileState, Fitted, Header, Reject
from ingest.reports import Check, Decision, FileCheck, Inferred, Plan
from ingest.rows import FileRow, RunRow

if TYPE_CHECKING:
    from ingest.mending import MendReport

REJECTS_OF_A_FILE = 20
"""Rejects of each file that `check` shows: more are for `--json`, or for a load and its ledger."""

FORGOTTEN = 10
"""Files that `forget` names."""


def plan(what: Plan, out: TextIO) -> None:
    """What `load` would do: each file, each table, what was left alone, and the sums."""
    table(out, ("action", "table", "file", "written", "why"), (_decision(d) for d in what.decisions))
    for planned in what.tables:
        added = f"; columns to be added: {', '.join(planned.added)}" if planned.added else ""
        line(out, "")
        # A load that has no row for a table makes none.
        new = "a new table" if planned.shape else "no table, for there is no record to make it from"
        line(out, f"{planned.table}: {'a table that exists' if planned.exists else new}{added}")
        if planned.shape:
            table(out, ("column", "type", "decided", "note"), (_column(c) for c in planned.shape.columns))
        for told in drift.told(planned):
            line(out, told)
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
    written = f"{_delimiter(dialect.delimiter)}{_quote(dialect)} {ends.get(dialect.line_end, '')}" if dialect else ""
    if dialect is not None and dialect.encoding != UTF8:
        written += f" {dialect.encoding}"
    notes = "".join(f"; {note}" for note in _framed(decision.header)) if decision.header else ""
    why = _hinted(f"{decision.sentence}{notes}", decision.hint)
    return (decision.action.value, str(decision.table), decision.source.display, written, why)


def _hinted(sentence: str, hint: str) -> str:
    """Both in one cell, the second as a sentence of its own."""
    ended = f"{sentence}." if sentence and hint and not sentence.endswith((".", "?", "!")) else sentence
    return f"{ended} {hint}".strip()


def _framed(header: Header) -> Iterator[str]:
    """What the head of a file has beside the header and the data, and what it lacks."""
    if header.discards:
        yield f"left out: {discards.told(sum(header.discards.values()), header.discards)}"
    if header.guessed:
        yield "it has no header, by its records; --header 1 takes the first for one"


def _delimiter(text: str) -> str:
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank", ":": "colon"}
    return names.get(text, text.strip() if text.isprintable() else ascii(text)[1:-1])


def _quote(dialect: Dialect) -> str:
    """How it quotes, where that is not the usual way."""
    quote = {'"': "", "": " no quotes"}.get(dialect.quote, f" quote {dialect.quote}")
    return f"{quote} escape {dialect.escape}" if dialect.escape else quote


def _column(column: Column) -> tuple[object, ...]:
    return (column.name, column.typed, column.origin.value, column.note)


def check(what: Check, out: TextIO) -> None:
    """What would become of each file, the first of its rejects as `rejects` shows them, and the sums."""
    ends = {"loaded": "load", "skipped": "skip", "refused": "refuse", "failed": "fail"}
    head = ("would", "table", "file", "records", "rows", "rejected", "discarded", "why")
    rows = (
        (ends[f.state], f.table, f.display, *(f.records, f.rows, f.rejected, f.discarded), _hinted(f.sentence, f.hint))
        for f in what.files
    )
    table(out, head, rows)
    for file in what.files:
        shown = (_rejected(file, reject) for reject in file.rejects[:REJECTS_OF_A_FILE])
        if file.rejects:
            line(out, "")
            rejects(shown, out)
        if file.rejected > REJECTS_OF_A_FILE:
            line(out, f"and {file.rejected - REJECTS_OF_A_FILE:,} more of {file.display}")
    counts = Counter(file.state for file in what.files)
    told = ", ".join(f"{word} {counts[state]:,}" for state, word in ends.items() if counts[state])
    rows_told = sum(file.rows for file in what.files)
    line(out, "")
    line(out, f"load would {told or 'do nothing, for there is no file'}" + (f": {rows_told:,} rows" if told else ""))
    if fitted := fitted_lines(sum((file.fitted for file in what.files), Fitted())):
        for text in fitted:
            line(out, text)
    if any(file.rows for file in what.files):
        line(out, "not checked: keys, CHECKs, foreign keys and what else only the database knows")


def _rejected(file: FileCheck, reject: Reject) -> RejectedRecord:
    return RejectedRecord(
        reject_id=0,  # it is in no ledger
        file=file.path,
        line=reject.line,
        byte=reject.byte,
        record=reject.record,
        column=reject.column,
        reason=reject.code.value,
        message=reject.message,
        raw=reject.text,
        applied=True,  # what becomes of the whole file was told above
    )


def forgotten(what: Sequence[FileRow], out: TextIO) -> str:
    """Which files are meant, the first of them by name, and what is in the table of those half loaded; how many."""
    paths = list(dict.fromkeys(row.path for row in what))
    for path in paths[:FORGOTTEN]:
        line(out, f"  {path}")
        for row in what:
            undoing = row.state is FileState.UNDOING
            if row.path == path and (undoing or row.state is FileState.STARTED) and tails.as_before(row) is row:
                rows = "1 row of it stays" if row.rows_loaded == 1 else f"{row.rows_loaded:,} rows of it stay"
                load = "take them back" if undoing else "go on with it as it is"
                line(out, f"    half loaded: {rows} in {row.table_name}; a load would {load}")
    if len(paths) > FORGOTTEN:
        line(out, f"  and {len(paths) - FORGOTTEN:,} more")
    return counted(len(paths), "file")


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
        whole = " (what is new in the file was refused; its rows of before stay)" if reject.before_stays else ""
        whole = whole if reject.applied or whole else " (the whole file was refused)"
        whole = whole if reject.closed_run_id is None else f" (mended, and loaded by run {reject.closed_run_id})"
        line(out, f"{reject.file}:{reject.line}:{column} {reject.reason}: {reject.message}{whole}")
        line(out, f"    {reject.raw}")
    return count


def mended(what: MendReport, path: str, out: TextIO) -> None:
    """What became of a mended file: each line that was not loaded by name, then the sums."""
    for sentence in what.refused:
        line(out, f"error: refused: {sentence}")
    for one in what.still_bad:
        line(out, f"still open: reject {one.reject_id}, {one.file}:{one.line}: {one.reason}: {one.message}")
    line(out, f"loaded: {counted(what.loaded, 'record')} of {path}")
    for name in ("discarded", "superseded", "ignored"):
        if count := getattr(what, name):
            line(out, f"{name}: {counted(count, 'record')}")
    if what.still_bad:
        line(out, f"still open: {counted(len(what.still_bad), 'record')}; mend {path} further, and load it again")


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


def schema(what: Inferred, form: str, out: TextIO) -> None:
    """The tables that the files make: as tables of columns, as `sql`, or as `options` of a load."""
    for number, found in enumerate(what.tables):
        if number:
            line(out, "")
        if form == "sql":
            for text in found.sql.split("\n"):
                out.write((printable(text.expandtabs(4)) if out.isatty() else text) + "\n")  # else as it is to be typed
            continue
        if form == "table" or len(what.tables) > 1:
            line(out, f"{'# ' if form == 'options' else ''}{found.table}: {drift.number_of(found.files)}")
        if form == "options":
            line(out, found.options)
        else:
            rows = ((c.name, c.type, "yes" if c.nullable else "no", c.reason) for c in found.columns)
            table(out, ("column", "type", "nullable", "reason"), rows)
