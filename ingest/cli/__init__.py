"""The command line: flags to settings, errors to stderr and an exit code; nothing else.

Each command is a thin cover over one library function. What takes long to import is imported by the command that
needs it, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.cli.logfile import inert, logging_to
from ingest.cli.options import (
    Bulk,
    File,
    Json,
    LedgerSchema,
    LoadOptions,
    LogFile,
    Paths,
    Spool,
    To,
    Verbose,
    Wait,
    settings_from,
    spread,
)
from ingest.cli.stdout import Spelled, piped, stdout
from ingest.cli.stopping import signals
from ingest.console import Console, JsonLines, as_json, counted, printable
from ingest.errors import DatabaseUnreachable, IngestError, LeaseHeld, UsageError, file_of
from ingest.reports import Event, FileOutcome, Listener, Notice, Opened, RunReport, StopRequest
from ingest.settings import Settings

EXIT_CODES: dict[type[BaseException], int] = {
    UsageError: 2,
    DatabaseUnreachable: 10,
    LeaseHeld: 75,
    IngestError: 1,
    KeyboardInterrupt: 130,
}
"""The exit code of a command that an error ended: the first class that fits. The report of a run has its own."""

UNEXPECTED = 1

NOT_WANTED = 1
"""As of a question that was left with Ctrl-C: what the command is for was not done."""

EXIT_MEANINGS: dict[int, str] = {
    0: "everything is loaded, or there was nothing to do",
    1: "unexpected error, or a question answered with no",
    2: "wrong usage",
    3: "loaded, with rejects inside the budget",
    4: "some files failed or were refused; the others are loaded",
    10: "the database cannot be reached, or was lost and did not come back",
    75: "another run is active on the database",
    130: "stopped by SIGINT, after the open transaction was finished or rolled back",
    143: "stopped by SIGTERM, after the open transaction was finished or rolled back",
}

log = logging.getLogger("ingest.cli")

app = typer.Typer(
    name="ingest",
    help="Load CSV files into a database, resumably. Every record ends in the table or in the rejects.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_MEANINGS.items()) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)
rejects_app = typer.Typer(help="The records that could not be loaded.", no_args_is_help=True)
ledger_app = typer.Typer(help="The ledger's own tables.", no_args_is_help=True)
app.add_typer(rejects_app, name="rejects")
app.add_typer(ledger_app, name="ledger")


def _show_version(wanted: bool) -> None:
    if wanted:
        from ingest import __version__

        print(f"ingest {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    del version


@app.command()
@spread
def load(
    paths: Paths,
    options: LoadOptions,
    *,
    json: Annotated[bool, typer.Option("--json", help="Write events to stdout, a JSON object a line.")] = False,
    progress: Annotated[
        Literal["auto", "bar", "plain", "none"],
        typer.Option(help="How progress is shown on stderr: a bar on a terminal, a line now and then elsewhere."),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing if all is loaded.")] = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
) -> None:
    """Load files into the database; run it again after anything, and it goes on where it was."""
    lines = JsonLines(sys.stdout) if json else None
    console = Console(
        sys.stderr,
        to=options.to,
        ledger_schema=options.ledger_schema,
        quiet=quiet or json,
        verbose=verbose,
        progress=progress,
    )
    stop = StopRequest()
    with _errors(console, lines, verbose), console, logging_to(log_file, verbose) as log_of_run:
        settings = settings_from(options)
        with signals(stop, quiet=quiet):
            from ingest import run

            tell = _listeners(console, lines)

            def on_event(event: Event) -> None:
                if not isinstance(event, RunReport):  # told below, when everything of the run is closed
                    tell(event)

            report = run.load(paths, settings, on_event=on_event, stop=stop)
            tell(report)
    untold = {"stdout": lines.lost if lines else "", "stderr": console.lost, f"--log-file {log_file}": log_of_run.lost}
    raise typer.Exit(_told(report.exit_code, untold, console))


def _told(code: int, untold: dict[str, str], console: Console) -> int:
    """The exit code of a load that could not be told of in full: not that of one where all is well."""
    for place, why in untold.items():
        if why:
            console.error(
                f"{place} cannot be written: {why}. The load went on without it.",
                f"See what it did with: {console.command('ingest runs')}",
            )
    return UNEXPECTED if any(untold.values()) and code in (0, 3) else code


@app.command()
@spread
def plan(paths: Paths, options: LoadOptions, json: Json = False, verbose: Verbose = False) -> None:
    """Say what load would do, file by file, with the reason, the columns and the table. Writes nothing."""
    console = Console(sys.stderr, to=options.to, ledger_schema=options.ledger_schema, verbose=verbose)
    with _errors(console, JsonLines(sys.stdout) if json else None, verbose), piped():
        settings = settings_from(options)
        from ingest import run, show

        with console:
            what = run.plan(paths, settings, on_event=console)
        console(Opened(database=what.database, new=what.new))
        if json:
            print(as_json(what))
        else:
            show.plan(what, stdout())


@app.command()
@spread
def check(paths: Paths, options: LoadOptions, json: Json = False, verbose: Verbose = False) -> None:
    """Read and type everything as load would, and say what would come of it. Writes nothing."""
    console = Console(sys.stderr, to=options.to, ledger_schema=options.ledger_schema, verbose=verbose)
    with _errors(console, JsonLines(sys.stdout) if json else None, verbose), piped():
        settings = settings_from(options)
        from ingest import run, show

        with console:
            # What becomes of the files is the result, and told on stdout.
            what = run.check(paths, settings, on_event=lambda e: None if isinstance(e, FileOutcome) else console(e))
        console(Opened(database=what.database, new=what.new))
        if json:
            print(as_json(what))
        else:
            show.check(what, stdout())
    raise typer.Exit(what.exit_code)


@app.command()
@spread
def schema(
    paths: Paths,
    options: LoadOptions,
    form: Annotated[
        Literal["table", "sql", "options"],
        typer.Option("--as", help="A table of columns and reasons, CREATE TABLE for the database of --to, or --type."),
    ] = "table",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the tables that load would make of these files, and why each column has its type. Opens no database."""
    console = Console(sys.stderr, to=options.to, ledger_schema=options.ledger_schema, verbose=verbose)
    with _errors(console, JsonLines(sys.stdout) if json else None, verbose), piped():
        settings = settings_from(options)
        from ingest import run, show

        with console:
            what = run.schema(paths, settings, on_event=console)
        for left in what.left_out:
            console(Notice(level="warning", text=left.sentence, path=left.path))
        if json:
            print(as_json(what))
        else:
            show.schema(what, form, stdout())


@app.command()
def status(
    file: File = None, to: To = None, ledger_schema: LedgerSchema = None, json: Json = False, verbose: Verbose = False
) -> None:
    """Show files by state, rows and rejects; of one file its whole story."""
    with _reading(to, ledger_schema, json, verbose):
        from ingest import history, show

        if file is not None:
            sentences = history.story(to, file, ledger_schema=ledger_schema)
            if json:
                print(as_json({"file": file, "story": sentences}))
            else:
                for sentence in sentences:
                    show.line(stdout(), sentence)
            return
        what = history.status(to, ledger_schema=ledger_schema)
        if json:
            print(as_json(what))
        else:
            show.status(what, stdout())


@app.command()
def runs(
    run: Annotated[int | None, typer.Argument(metavar="RUN", help="The number of one run.", show_default=False)] = None,
    to: To = None,
    ledger_schema: LedgerSchema = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show past runs, newest first, and what each did."""
    with _reading(to, ledger_schema, json, verbose):
        from ingest import history, show

        if run is not None:
            story = history.run(to, run, ledger_schema=ledger_schema)
            if json:
                print(as_json(story))
            else:
                show.run(story, stdout())
            return
        what = history.runs(to, ledger_schema=ledger_schema)
        if json:
            for row in what:
                print(as_json(row))
        else:
            show.runs(what, stdout())


@rejects_app.command("list")
def rejects_list(
    file: File = None,
    to: To = None,
    ledger_schema: LedgerSchema = None,
    *,
    closed: Annotated[bool, typer.Option("--all", help="Those too that were mended and loaded back.")] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the rejects of one file, or of all: where they are, why, and their text."""
    with _reading(to, ledger_schema, json, verbose):
        from ingest import history, show

        found = history.rejects(to, file, ledger_schema=ledger_schema, closed=closed)
        if json:
            for reject in found:
                print(as_json(reject))
        elif not show.rejects(found, stdout()):
            print("no rejects")


@rejects_app.command("export")
def rejects_export(
    path: Annotated[
        Path, typer.Argument(metavar="PATH.csv", help="The CSV file to be written; - is stdout.", allow_dash=True)
    ],
    to: To = None,
    ledger_schema: LedgerSchema = None,
    *,
    escape_formulas: Annotated[
        bool,
        typer.Option("--escape-formulas", help="Put ' before what a spreadsheet would run; loading takes it off."),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Write the open rejects to a CSV file, each record in its fields, to be mended and loaded back."""
    with _reading(to, ledger_schema, False, verbose):
        from ingest import history, rejectfile

        # No file is made for a ledger that cannot be read.
        with history.exported(to, ledger_schema=ledger_schema) as what:
            to_stdout = str(path) == "-"
            try:
                target = os.dup(sys.stdout.fileno()) if to_stdout else rejectfile.create(path)
                with open(target, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
                    out = Spelled(file) if file.isatty() else file
                    count = rejectfile.write(what.rejects, what.headers, out, escape_formulas=escape_formulas)
            except BrokenPipeError:
                raise
            except OSError as error:
                place = "stdout" if to_stdout else path
                hint = "What is there is no whole export" + (
                    "." if to_stdout else ": remove it, and type the command again."
                )
                raise UsageError(f"{place} cannot be written: {error.strerror}.", hint=hint) from error
        if not to_stdout:
            print(f"{counted(count, 'reject')} written to {printable(str(path))}", file=sys.stderr)
        if what.refused:
            files = "1 file that was" if what.refused == 1 else f"{what.refused:,} files that were"
            print(f"those of {files} refused cannot be loaded back: mend the file itself, and load it", file=sys.stderr)


@rejects_app.command("load")
def rejects_load(
    path: Annotated[Path, typer.Argument(metavar="PATH.csv", help="An export whose records were mended.")],
    to: To = None,
    ledger_schema: LedgerSchema = None,
    *,
    bulk: Bulk = "auto",
    wait: Wait = 0.0,
    spool: Spool = None,
    verbose: Verbose = False,
) -> None:
    """Load mended rejects into the tables they were meant for; each is closed once. Lines that are gone stay open."""
    with _reading(to, ledger_schema, False, verbose) as console:
        settings = Settings(to=to, ledger_schema=ledger_schema, bulk=bulk, wait=wait, spool=spool)
        stop = StopRequest()
        with signals(stop, quiet=False):
            from ingest import mending, show

            def tell(level: str, text: str) -> None:
                console(Notice(level=level, text=text))

            report = mending.mend(path, settings, tell=tell, stop=stop)
            show.mended(report, str(path), sys.stderr)
    raise typer.Exit(report.exit_code)


@app.command()
def forget(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Paths of loaded files, or the end of them.")],
    to: To = None,
    ledger_schema: LedgerSchema = None,
    *,
    wait: Wait = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    verbose: Verbose = False,
) -> None:
    """Drop the ledger's memory of files and their rejects. Their rows stay: a later load doubles them."""
    with _reading(to, ledger_schema, False, verbose):
        from ingest import history, show

        if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("forget asks before it forgets, and there is no terminal.", hint="Add --yes.")
        rows = history.meant(to, files, ledger_schema=ledger_schema)
        count = show.forgotten(rows, sys.stderr)
        if not yes and not typer.confirm(f"Forget {count}? What is in the table of it stays.", err=True):
            print("nothing was forgotten", file=sys.stderr)
            raise typer.Exit(NOT_WANTED)
        history.forget(to, [row.path for row in rows], ledger_schema=ledger_schema, wait=wait)
        print(f"forgotten: {count}; what is in the table of it stays", file=sys.stderr)


@ledger_app.command("current")
def ledger_current(to: To = None, ledger_schema: LedgerSchema = None, verbose: Verbose = False) -> None:
    """Show the version of the ledger, and the one that this program writes."""
    with _reading(to, ledger_schema, False, verbose) as console:
        from ingest import history

        have, head = history.ledger_version(to, ledger_schema=ledger_schema)
        note = "up to date" if have == head else f"run: {console.command('ingest ledger upgrade')}"
        print(f"{have or 'none'} (this program writes {head}: {note})")


@ledger_app.command("upgrade")
def ledger_upgrade(
    to: To = None, ledger_schema: LedgerSchema = None, wait: Wait = 0.0, verbose: Verbose = False
) -> None:
    """Bring an older ledger to the version of this program. A load does so by itself."""
    with _reading(to, ledger_schema, False, verbose):
        from ingest import history

        before, after = history.ledger_upgrade(to, ledger_schema=ledger_schema, wait=wait)
        print(f"{after}, nothing to do" if before == after else f"upgraded from {before or 'none'} to {after}")


@contextmanager
def _reading(to: str | None, ledger_schema: str | None, json: bool, verbose: bool) -> Iterator[Console]:
    """A command that reads the ledger: which database first, and its errors as everywhere."""
    console = Console(sys.stderr, to=to, ledger_schema=ledger_schema, quiet=json, verbose=verbose)
    with _errors(console, JsonLines(sys.stdout) if json else None, verbose), piped():
        from ingest import history

        console(Opened(database=history.database_label(to, ledger_schema=ledger_schema), new=False))
        yield console


@contextmanager
def _errors(console: Console, lines: JsonLines | None, verbose: bool) -> Iterator[None]:
    """Turn every error into one message and its exit code, here and nowhere else."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except (KeyboardInterrupt, Exception) as error:
        code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), UNEXPECTED)
        message, hint = _worded(error)
        if lines is not None:
            lines.error(type(error).__name__, message, hint, code)
        console.error(message, hint)
        if verbose and not isinstance(error, (IngestError, KeyboardInterrupt)):
            with suppress(OSError):
                sys.stderr.write(inert("".join(traceback.format_exception(error))))
        raise typer.Exit(code) from error


def _worded(error: BaseException) -> tuple[str, str]:
    if isinstance(error, IngestError):
        return error.message, error.hint
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT", "Run the same command again to go on where it was."
    # The error's own text is left out: drivers put rows and passwords into theirs.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({name})" if (name := file_of(error)) else ""
        told = f"the system said: {error.strerror}{where}{place}. Nothing that was committed is lost."
        return told, "Run the same command again when that is mended."
    told = f"internal error: {type(error).__name__}{place}. Nothing that was committed is lost."
    return told, "Run it again with -v for the traceback, and report it."


def _listeners(console: Console, lines: JsonLines | None) -> Listener:
    def tell(event: Event) -> None:
        _log_event(event)
        if lines is not None:
            lines(event)
        console(event)

    return tell


def _log_event(event: Event) -> None:
    """What the library tells, but does not log by itself."""
    match event:
        case Opened():
            log.info("database %s%s", event.database, " (new)" if event.new else "")
        case RunReport():
            log.info("exit code %d, %d rows, %.1f s", event.exit_code, event.rows, event.seconds)
