"""What a run says while it goes on: progress, errors as they happen and the summary; or JSON lines.

Turns events into text for people or programs. Does not decide what a run does, nor its exit code; the tables of
`plan`, `status` and the like are drawn by `show`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from ingest import discards
from ingest.model import Fitted, LeftOut, Reason
from ingest.reports import NO_TABLE, Event, FileOutcome, Notice, Opened, Progress, RunReport

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

EQUAL_SHOWN = 10
"""Errors of one reason that are told one by one: a folder of a wrong kind would fill the screen with its last."""

PLAIN_SECONDS = 5.0
"""At most so long without a line where there is no terminal: a log stays readable, and a person sees life."""

PLAIN_SHARE = 0.1
"""A line for each tenth as well, but not more often than once a second."""

STYLES = {"error": "bold red", "warning": "yellow"}

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LOADED_ALREADY = (Reason.LOADED, Reason.SAME_CONTENT, Reason.MOVED)
_LOST = (Reason.TABLE_LOST, Reason.TABLE_EMPTIED)


def printable(text: str) -> str:
    """The text with every character spelled out that a terminal would act upon, or that has no shape.

    Names come from files: they may hold line ends, escape sequences, marks that turn the reading direction around,
    or bytes that are not UTF-8 (surrogate escapes).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(char) if unicodedata.category(char) in _UNPRINTABLE else char for char in text)


def _spelled(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that os.fsdecode hid in it
    return _SHORT.get(char) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def as_plain(value: Any) -> Any:
    """Dataclasses, enums and times as what JSON has; times are UTC, bytes of names that are no UTF-8 are `\\xNN`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


def as_json(value: Any) -> str:
    """One line of ASCII."""
    return json.dumps(as_plain(value))


def give_up(stream: TextIO) -> None:
    """Let what is still written to the stream go nowhere: Python would try again at its end, and complain."""
    with contextlib.suppress(OSError):  # one without a descriptor has nobody who would try
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class JsonLines:
    """A listener that writes one JSON object a line; docs/events.md says what each holds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self.lost = ""  #: why not all of it could be written, in the system's words; a reader that left is no reason

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunReport):
            self._write({"event": "summary"} | _summary_of(event))
            return
        kinds: dict[type, str] = {Opened: "opened", FileOutcome: "file", Progress: "progress", Notice: "notice"}
        self._write({"event": kinds[type(event)]} | as_plain(event))

    def error(self, kind: str, message: str, hint: str, exit_code: int) -> None:
        """What ended the command before its summary."""
        self._write({"event": "error", "kind": kind, "message": message, "hint": hint, "exit_code": exit_code})

    def _write(self, value: dict[str, Any]) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(as_json(value) + "\n")
            self._stream.flush()
        except OSError as error:
            # Who read has gone, or the disk is full. The load is worth more than its story, so it goes on.
            give_up(self._stream)
            self._stream = None
            self.lost = "" if isinstance(error, BrokenPipeError) else error.strerror or type(error).__name__


def _summary_of(report: RunReport) -> dict[str, Any]:
    """The report without its files, which were told one by one."""
    told: dict[str, Any] = {f.name: as_plain(getattr(report, f.name)) for f in fields(report) if f.name != "files"}
    counts = Counter(outcome.state for outcome in report.files)
    return told | {
        "files": dict(sorted(counts.items())),
        "rows": report.rows,
        "rejected": report.rejected,
        "discarded": report.discarded,
        "discards": as_plain(report.discards),
        "superseded": report.superseded,
        "ignored": report.ignored,
        "fitted": as_plain(report.fitted),
    }


class Console:
    """A listener that talks to a person on `stream`.

    `to` is what was typed as --to, if anything: hints repeat it without its secrets. `progress` is auto, bar, plain
    or none; auto is a bar on a terminal and a line now and then elsewhere. With `quiet`, a run that ends with exit
    code 0 says nothing.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        to: str | None = None,
        ledger_schema: str | None = None,
        quiet: bool = False,
        verbose: bool = False,
        progress: str = "auto",
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._verbose = verbose
        self._named = to is not None
        self._ledger_schema = ledger_schema
        self._database = ""
        self._rich: RichConsole | None = None
        if stream.isatty():
            from rich.console import Console as RichConsole

            self._rich = RichConsole(file=stream, highlight=False, soft_wrap=True)
        if progress == "auto":
            dumb = os.environ.get("TERM") in ("dumb", "unknown")
            progress = "none" if quiet else "bar" if self._rich and not dumb else "plain"
        # A bar cannot move where there is no terminal; and without one rich would take stdout, of JSON perhaps.
        self._progress = "plain" if progress == "bar" and self._rich is None else progress
        self._bar: tuple[Bar, TaskID] | None = None
        self._line: tuple[float, float] = (0.0, 0.0)  #: seconds and share at the last plain line
        self._held: list[Callable[[], None]] = []  #: what a quiet run says only if it does not end well
        self._errors: Counter[tuple[str, str]] = Counter()
        self._hints: set[str] = set()
        self._warned: set[str] = set()
        self.lost = ""  #: as of `JsonLines`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop_bar()

    def __call__(self, event: Event) -> None:
        match event:
            case Opened():
                known, self._database = self._database, event.database
                if not known and not self._quiet:
                    self._say("", f"database: {event.database}{' (new)' if event.new else ''}")
            case Progress():
                self._show_progress(event)
            case FileOutcome():
                self._show_file(event)
            case Notice():
                self._show_notice(event)
            case RunReport():
                self._show_summary(event)

    def error(self, message: str, hint: str = "") -> None:
        """What ended the command, last."""
        self._stop_bar()
        self._say("error", message, hint)

    # single lines

    def _say(self, label: str, text: str, hint: str = "") -> None:
        """One line, its label in colour on a terminal, and the hint below it."""
        lines = [(label, printable(text))] + ([("", f"  {printable(hint)}")] if hint else [])
        try:
            for head, body in lines:
                if self._rich is not None:
                    from rich.text import Text

                    parts = [(f"{head}: ", STYLES.get(head, ""))] if head else []
                    self._rich.print(Text.assemble(*parts, body))
                else:
                    self._stream.write((f"{head}: " if head else "") + body + "\n")
            self._stream.flush()
        except OSError as error:
            # The terminal was closed, or a disk is full. The load goes on; its log file, ledger and exit code tell.
            give_up(self._stream)
            self._quiet, self._progress = True, "none"
            self.lost = "" if isinstance(error, BrokenPipeError) else error.strerror or type(error).__name__

    def _show_file(self, outcome: FileOutcome) -> None:
        name = outcome.display or outcome.path
        if outcome.state in ("refused", "failed"):
            kind = (outcome.state, outcome.code.value)
            self._errors[kind] += 1
            if self._errors[kind] <= EQUAL_SHOWN:
                hint = "" if outcome.hint in self._hints else outcome.hint
                self._hints.add(outcome.hint)
                told = outcome.sentence if name in outcome.sentence else f"{name}: {outcome.sentence}"
                self._say("error", f"{outcome.state}: {told}", hint)
        elif self._verbose:
            counts = f" ({outcome.rows:,} rows into {outcome.table})" if outcome.state == "loaded" else ""
            self._say("", f"{outcome.state}: {name}{counts}" + (f": {outcome.sentence}" if outcome.sentence else ""))

    def _show_notice(self, notice: Notice) -> None:
        if notice.level == "info" and not self._verbose:
            return
        self._warn(notice.text, notice.path, label="" if notice.level == "info" else notice.level)

    def _warn(self, text: str, path: str = "", label: str = "warning") -> None:
        told = f"{path}: {text}" if path and path not in text else text
        if told in self._warned:
            return
        self._warned.add(told)
        if self._quiet and label != "error":
            self._held.append(lambda: self._say(label, told))
        else:
            self._say(label, told)

    # progress

    def _show_progress(self, now: Progress) -> None:
        if self._progress == "none":
            return
        share = now.bytes_done / now.bytes_total if now.bytes_total else 0.0
        if self._progress == "bar":
            self._move_bar(now)
            return
        seconds, before = self._line
        if share < before or now.seconds < seconds:  # another phase began
            seconds, before = min(seconds, now.seconds), 0.0
        since = now.seconds - seconds
        if since < 1 or (since < PLAIN_SECONDS and share - before < PLAIN_SHARE):
            return
        self._line = (now.seconds, share)
        self._say(
            "", f"{_doing(now)}: {share:.0%}, {_size(now.bytes_done)} of {_size(now.bytes_total)}, {_detail(now)}"
        )

    def _move_bar(self, now: Progress) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                TimeRemainingColumn(),
                console=self._rich,
                transient=True,
                redirect_stdout=False,  # stdout may be a stream of JSON
                redirect_stderr=False,
            )
            bar.start()
            self._bar = bar, bar.add_task("", total=None, detail="")
        bar, task = self._bar
        bar.update(
            task,
            description=_doing(now),
            completed=now.bytes_done,
            total=now.bytes_total or None,
            detail=f"{_size(now.bytes_done)}, {_detail(now)}",
        )

    def _stop_bar(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal was closed
                self._bar[0].stop()
            self._bar = None

    # the end

    def _show_summary(self, report: RunReport) -> None:
        self._stop_bar()
        for text in report.warnings:
            self._warn(text)
        if not report.files:
            self._warn("no file to load was found." + _first_left_out(report.left_out))
        if report.exit_code == 0 and self._quiet:
            return
        for told in self._held:
            told()
        for (state, code), count in self._errors.items():
            if count > EQUAL_SHOWN:
                more = f"and {count - EQUAL_SHOWN:,} more files {state} for the same reason ({code});"
                self._say("", f"{more} see: {self.command('ingest status')}")
        if self._verbose:
            for left in report.left_out:
                self._say("", f"left alone: {left.path}: {left.sentence}")
        for line in self._summary(report):
            self._say("", line)

    def _summary(self, report: RunReport) -> list[str]:
        self._database = self._database or report.database
        of = report.count
        loaded = [outcome for outcome in report.files if outcome.state == "loaded"]
        lines: list[str] = []
        if loaded or of("unfinished") or of("refused") or of("failed"):
            rate = f", {report.rows / report.seconds:,.0f} rows/s" if report.seconds > 0 and report.rows else ""
            lines.append(
                f"loaded: {_files(len(loaded))}, {counted(report.rows, 'row')} in {report.seconds:.1f} s{rate}"
            )
        skipped = Counter(outcome.code for outcome in report.files if outcome.state == "skipped")
        if skipped:
            known = sum(skipped.pop(code, 0) for code in _LOADED_ALREADY)
            parts = [f"{_files(known)} {'is' if known == 1 else 'are'} loaded already"] if known else []
            parts += [f"{_files(count)} skipped ({code.value})" for code, count in sorted(skipped.items())]
            lines.append(f"{'skipped' if lines else 'nothing to load'}: {', '.join(parts)}")
        if rejected := sum(outcome.rejected for outcome in loaded):
            told = f"rejected: {counted(rejected, 'record')} of loaded files, inside the budget"
            lines.append(f"{told}; see: {self.command('ingest rejects list')}")
        if report.discarded:
            lines.append(f"discarded: {discards.told(report.discarded, report.discards)}")
        if report.superseded:
            lines.append(f"superseded: {counted(report.superseded, 'record')}, for newer ones with the same key")
        if report.ignored:
            lines.append(f"ignored: {counted(report.ignored, 'record')}, for rows with the same key")
        lines += fitted_lines(report.fitted)
        if report.left_out and report.files:
            lines.append(f"left alone: {counted(len(report.left_out), 'path')}; -v names them")
        if report.vanished:
            were, are = ("was", "is") if len(report.vanished) == 1 else ("were", "are")
            told = f"vanished: {_files(len(report.vanished))} that {were} loaded {are} no longer there"
            # Where they do not, a warning has said so.
            if not report.warnings and not any(outcome.code in _LOST for outcome in report.files):
                told += "; their rows stay"
            lines.append(f"{told}; see: {self.command('ingest status')}")
        lines += self._left_over(report)
        return lines

    def _left_over(self, report: RunReport) -> list[str]:
        """What is not loaded, and what to type next."""
        lines = []
        for state in ("refused", "failed"):
            outcomes = [outcome for outcome in report.files if outcome.state == state]
            if outcomes:
                bad = any(outcome.rejected for outcome in outcomes)
                see = self.command("ingest rejects list" if bad else "ingest status", "FILE")
                verb = "of it" if len(outcomes) == 1 else "of them"
                # Not "is in the table": of a changed file, what was loaded before still is.
                told = f"{state}: {_files(len(outcomes))}, nothing {verb} was loaded by this run"
                # The ledger has a file only with its table.
                known = any(outcome.table != NO_TABLE for outcome in outcomes)
                lines.append(f"{told}; see: {see}" if known else told)
        if unfinished := report.count("unfinished"):
            lines.append(f"unfinished: {_files(unfinished)}")
        if report.stopped_by:
            lines.append(f"stopped by {report.stopped_by}; run the same command again to go on where it was")
        return lines

    def command(self, command: str, file: str = "") -> str:
        """A command that can be typed as it stands (but for its FILE), on the same database."""
        to = f" --to {shlex.quote(self._database)}" if self._named and self._database else ""
        schema = f" --ledger-schema {shlex.quote(self._ledger_schema)}" if self._ledger_schema else ""
        return f"{command}{to}{schema}{f' {file}' if file else ''}"


def _first_left_out(left_out: tuple[LeftOut, ...]) -> str:
    """Why nothing was found, by the first few paths that were left alone."""
    told = "; ".join(f"{left.path}: {left.sentence}" for left in left_out[:3])
    more = f"; and {len(left_out) - 3:,} more" if len(left_out) > 3 else ""
    usual = " A scan takes *.csv and *.tsv, packed as .gz, .bz2, .xz, .zst or in a .zip, too, or what --include says."
    return f" Left alone: {told}{more}" if told else usual


def _doing(now: Progress) -> str:
    done = f"{now.files_done:,}/{now.files_total:,} files"
    doing = {"plan": "looking at values", "check": "checking"}.get(now.phase, "loading")
    return f"{doing}, {done}"


def _detail(now: Progress) -> str:
    if now.phase == "plan":
        return f"{now.seconds:.0f} s"
    rate = now.rows / now.seconds if now.seconds > 0 else 0.0
    rejected = f", {counted(now.rejected, 'reject')}" if now.rejected else ""
    return f"{counted(now.rows, 'row')}, {rate:,.0f} rows/s{rejected}"


def fitted_lines(fitted: Fitted) -> list[str]:
    """Ragged records that are rows: nobody is to find out by himself."""
    told = (
        ("padded", fitted.padded, "with too few fields, filled up with NULL"),
        ("trimmed", fitted.trimmed, "with nothing but empty fields beyond the last column"),
        ("rescued", fitted.rescued, "with values beyond the last column, which are in the rescue column"),
    )
    return [f"{word}: {counted(count, 'record')} {what}" for word, count, what in told if count]


def _size(count: int) -> str:
    """Bytes for people, by 1024 as the options have it."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """So many of something, whose plural ends in s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _files(count: int) -> str:
    return counted(count, "file")
