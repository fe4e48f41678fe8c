"""The door: every option reaches the settings, every error its exit code, and nothing heavy is paid for at it."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import ingest
from ingest import history, ledger, show
from ingest.cli import EXIT_CODES, EXIT_MEANINGS, _errors, app
from ingest.cli.logfile import logging_to
from ingest.cli.options import LoadOptions, settings_from, spread
from ingest.cli.stopping import signals
from ingest.console import Console, JsonLines
from ingest.errors import DatabaseUnreachable, FenceError, IngestError, LeaseHeld, LedgerError, UsageError
from ingest.model import ColumnType, FileState, Reason, Reject, RunState, Told
from ingest.reports import StopRequest
from ingest.rows import FileRow, Move, NewFile, Totals
from ingest.settings import Budget, DeclaredType, Settings, database_url
from ingest.targets import target_for

GIVEN: dict[str, tuple[list[str], dict[str, Any]]] = {
    "to": (["--to", "x.db"], {"to": "x.db"}),
    "table": (["--table", "{dir}"], {"table": "{dir}"}),
    "include": (["--include", "*.txt", "--include", "*.dat"], {"include": ("*.txt", "*.dat")}),
    "exclude": (["--exclude", "old*"], {"exclude": ("old*",)}),
    "min_age": (["--min-age", "2.5"], {"min_age": 2.5}),
    "workers": (["--workers", "3"], {"workers": 3}),
    "connections": (["--connections", "4"], {"connections": 4}),
    "start_method": (["--start-method", "spawn"], {"start_method": "spawn"}),
    "delimiter": (["--delimiter", "\\t"], {"told": Told(delimiter="\t")}),
    "quote": (["--quote", "none"], {"told": Told(quote="")}),
    "escape": (["--escape", "\\"], {"told": Told(escape="\\")}),
    "slice_bytes": (["--slice-bytes", "1MiB"], {"slice_bytes": 1 << 20}),
    "commit_bytes": (["--commit-bytes", "64k"], {"commit_bytes": 64 << 10}),
    "file_timeout": (["--file-timeout", "5"], {"file_timeout": 5.0}),
    "wait": (["--wait", "7"], {"wait": 7.0}),
    "spool": (["--spool", "/tmp/s"], {"spool": "/tmp/s"}),
    "bulk": (["--bulk", "off"], {"bulk": "off"}),
    "types": (["--types", "text"], {"types": "text"}),
    "sample": (["--sample", "4096"], {"sample": 4096}),
    "type": (
        ["--type", "price=decimal(12,2)", "--type", "zip=text"],
        {
            "declared": (
                DeclaredType(column="price", type=ColumnType.DECIMAL, precision=12, scale=2),
                DeclaredType(column="zip", type=ColumnType.TEXT),
            )
        },
    ),
    "ledger_schema": (["--ledger-schema", "our"], {"ledger_schema": "our"}),
    "header": (["--header", "none"], {"told": Told(header=0)}),
    "skip_rows": (["--skip-rows", "2"], {"told": Told(skip_rows=2)}),
    "comment": (["--comment", "//"], {"told": Told(comment="//")}),
    "rename": (["--rename", "a=b=c"], {"rename": (("a=b", "c"),)}),
    "names": (["--names", "snake"], {"names": "snake"}),
    "null": (["--null", "NA", "--null", "-"], {"null": ("NA", "-")}),
    "decimal": (["--decimal", ","], {"decimal": ","}),
    "thousands": (["--thousands", "'"], {"thousands": "'"}),
    "on_misfit": (["--on-misfit", "widen"], {"on_misfit": "widen"}),
    "new_columns": (["--new-columns", "ignore"], {"new_columns": "ignore"}),
    "ragged": (["--ragged", "pad"], {"ragged": "pad"}),
    "rescue_column": (["--rescue-column", "rest"], {"rescue_column": "rest"}),
    "empty_rows": (["--empty-rows", "discard"], {"empty_rows": "discard"}),
    "max_field": (["--max-field", "1MB"], {"max_field": 1_000_000}),
    "transform": (["--transform", "m:f"], {"transform": "m:f"}),
    "where": (["--where", "amount > 0"], {"where": "amount > 0"}),
    "lineage": (["--lineage", "none"], {"lineage": "none"}),
    "mode": (["--mode", "upsert", "--key", "id"], {"mode": "upsert", "key": ("id",)}),
    "key": (["--mode", "insert-ignore", "--key", "a, b"], {"mode": "insert-ignore", "key": ("a", "b")}),
    "newest_by": (
        ["--mode", "upsert", "--key", "id", "--newest-by", "at"],
        {"mode": "upsert", "key": ("id",), "newest_by": "at"},
    ),
    "max_rejects": (["--max-rejects", "0.5%"], {"max_rejects": Budget(percent=0.5)}),
    "max_rejects_run": (["--max-rejects-run", "9"], {"max_rejects_run": 9}),
    "on_change": (["--on-change", "reload"], {"on_change": "reload"}),
    "on_duplicate": (["--on-duplicate", "load"], {"on_duplicate": "load"}),
    "on_lost": (["--on-lost", "ignore"], {"on_lost": "ignore"}),
    "encoding": (["--encoding", "Latin-1"], {"told": Told(encoding="iso8859-1")}),
    "max_unpacked": (["--max-unpacked", "2GiB"], {"max_unpacked": 2 * 1024**3}),
    "verify_content": (["--verify-content"], {"verify_content": True}),
}
"""Each option as it is typed, and what it makes of the settings."""


def parsed(*arguments: str) -> Settings:
    """The settings that typer and `settings_from` make of a command line."""
    seen: list[Settings] = []

    def command(paths: list[str], options: LoadOptions) -> None:
        seen.append(settings_from(options))

    only = typer.Typer()
    only.command()(spread(command))
    only(["a.csv", *arguments], standalone_mode=False)
    return seen[0]


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "INGEST_DATABASE_URL"} | variables
    environment["PYTHONPATH"] = str(Path(ingest.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        cwd=cwd,
        env=environment | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("option", GIVEN)
def test_each_option_reaches_the_settings(option: str) -> None:
    typed, expected = GIVEN[option]
    assert parsed(*typed) == Settings(**expected)


def test_every_setting_has_an_option_and_a_test() -> None:
    assert set(GIVEN) == {f.name for f in fields(LoadOptions)}
    assert {name for _, made in GIVEN.values() for name in made} == {f.name for f in fields(Settings)}


def test_defaults_of_the_command_line_are_those_of_the_library() -> None:
    assert parsed() == Settings()


@pytest.mark.parametrize(("command", "word"), [("load", "PATH..."), ("forget", "FILE...")])
def test_help_says_that_several_can_be_given(command: str, word: str) -> None:
    assert word in CliRunner().invoke(app, [command, "--help"]).output


def test_exit_codes_are_the_published_ones() -> None:
    assert set(EXIT_MEANINGS) == {0, 1, 2, 3, 4, 10, 75, 130, 143}
    assert set(EXIT_CODES.values()) <= set(EXIT_MEANINGS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DatabaseUnreachable("x"), 10),
        (LeaseHeld("x"), 75),
        (LedgerError("x"), 1),
        (FenceError("x"), 1),
        (IngestError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("a cell's value"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    stderr, stdout = io.StringIO(), io.StringIO()
    with pytest.raises(typer.Exit) as ended, _errors(Console(stderr), JsonLines(stdout), verbose=False):
        raise error
    assert ended.value.exit_code == code
    assert json.loads(stdout.getvalue())["exit_code"] == code
    assert stderr.getvalue().startswith("error: ")
    assert "Traceback" not in stderr.getvalue()
    assert "a cell's value" not in stderr.getvalue() + stdout.getvalue()


def test_message_and_hint_are_told() -> None:
    stderr = io.StringIO()
    with pytest.raises(typer.Exit), _errors(Console(stderr), None, verbose=False):
        raise UsageError("It is\x1b wrong.", hint="Do this.")
    assert stderr.getvalue() == "error: It is\\x1b wrong.\n  Do this.\n"


def test_signals_ask_the_run_to_stop_and_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    with signals(stop, quiet=True):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert (stop.signal, stop.count) == ("SIGTERM", 2)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_log_file_tells_processes_apart_and_keeps_the_traceback(tmp_path: Path) -> None:
    path = tmp_path / "run.log"

    def session() -> None:
        with logging_to(path, verbose=False):
            logging.getLogger("ingest.pool").info("a\nline")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        session()
    text = path.read_text()
    assert re.search(rf"^\S+ \S+ MainProcess\[{os.getpid()}\] INFO a\\nline$", text, re.MULTILINE)
    assert "Traceback" in text


@pytest.mark.parametrize("how", [["--version"], ["--version", "load"]], ids=" ".join)
def test_version_is_told(how: list[str], tmp_path: Path) -> None:
    done = run(*how, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ingest {ingest.__version__}\n")


def test_version_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ingest', '--version']\n"
        "from ingest.__main__ import main; main()\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & {'typer', 'rich', 'sqlalchemy', 'pandas'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ingest {ingest.__version__}\n\n"


COMMANDS = [
    ["load"],
    ["plan"],
    ["status"],
    ["runs"],
    ["rejects", "list"],
    ["rejects", "export"],
    ["rejects", "load"],
    ["forget"],
    ["ledger", "current"],
    ["ledger", "upgrade"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps_and_takes_a_database(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "--to" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option_and_exit_code(tmp_path: Path) -> None:
    told = run("load", "--help", cwd=tmp_path).stdout
    missing = [f.name for f in fields(LoadOptions) if f"--{f.name.replace('_', '-')}" not in told]
    assert missing == []
    assert all(f"--{name}" in told for name in ("json", "progress", "quiet", "verbose", "log-file"))
    epilog = " ".join(run("--help", cwd=tmp_path).stdout.split())
    assert all(f"{code} {meaning}" in epilog for code, meaning in EXIT_MEANINGS.items())


@pytest.mark.parametrize(
    "arguments",
    [
        ["load"],
        ["load", "x", "--no-such-option"],
        ["load", "x", "--bulk", "sometimes"],
        ["load", "x", "--slice-bytes", "much"],
        ["load", "x", "--max-rejects", "-1"],
        ["load", "x", "--type", "price"],
        ["load", "x", "--workers", "-1"],
        ["load", "x", "--connections", "-1"],
        ["load", "x", "--log-file", "no/such/folder/log"],
        ["no-such-command"],
        ["status", "--to", "nope://x"],
        ["status", "--to", "."],
        ["load", "x", "--to", "."],
        ["forget", "x.csv"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "rror" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


READING = [["status"], ["status", "x"], ["runs"], ["runs", "1"], ["rejects", "list"], ["rejects", "export", "r.csv"]]


@pytest.mark.parametrize(
    "command", [*READING, ["forget", "x", "--yes"], ["ledger", "current"], ["ledger", "upgrade"]], ids=" ".join
)
def test_commands_that_read_create_nothing(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INGEST_DATABASE_URL", raising=False)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2, done.stderr
    assert done.stderr.splitlines()[0] == "database: sqlite:///ingest.db"
    assert "there is no database at sqlite:///ingest.db yet" in done.stderr
    assert "ingest load PATH" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_error_is_an_event_with_json(tmp_path: Path) -> None:
    done = run("status", "--json", cwd=tmp_path, INGEST_DATABASE_URL="other.db")
    told = json.loads(done.stdout)
    assert (told["event"], told["kind"], told["exit_code"]) == ("error", "UsageError", 2)
    assert "other.db" in told["message"]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database whose ledger knows a loaded file, a refused one with a reject, and a namesake of the first."""
    target = target_for(database_url(str(tmp_path / "x.db")))
    names = ("a/orders.csv", "b/orders.csv", "b/bad.csv")
    entries = [
        NewFile(
            table_name="orders",
            path=f"/in/{name}",
            path_key=f"{i:064}",
            size=100,
            mtime_ns=1,
            ctime_ns=1,
            scanned_ns=1,
            lineage=True,
        )
        for i, name in enumerate(names)
    ]
    with target.begin() as connection:
        ledger.create(connection)
        run_id = ledger.start_run(connection, host="here", pid=1, version="0", options="{}")
        rows = list(ledger.register(connection, run_id, entries).values())
        moves = [
            Move(
                file_id=row.file_id,
                version=row.version,
                epoch=row.epoch,
                from_bytes=0,
                to_bytes=100,
                records=9,
                rows=9,
                rejected=0,
                discarded=0,
                prefix_sha256=None,
                done=True,
            )
            for row in rows[:2]
        ]
        ledger.advance(connection, run_id, moves)
        bad = rows[2]
        ledger.settle(
            connection,
            run_id,
            file_id=bad.file_id,
            version=bad.version,
            epoch=bad.epoch,
            state=FileState.REFUSED,
            code=Reason.OVER_BUDGET,
            error="It has 1 reject.",
        )
        reject = Reject(
            code=Reason.BAD_NUMBER, message="No number.", line=3, byte=20, record=1, column="p", text="2,\x1b"
        )
        ledger.write_rejects(
            connection, run_id, file_id=bad.file_id, table_name="orders", rejects=[reject], applied=False
        )
        totals = Totals(files_loaded=2, files_refused=1)
        ledger.finish_run(connection, run_id, state=RunState.FINISHED, exit_code=4, totals=totals)
    target.close()
    return tmp_path / "x.db"


def test_status_counts_and_names_what_is_not_loaded(filled: Path) -> None:
    done = run("status", "--to", str(filled), cwd=filled.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"database: sqlite:///{filled}\n"
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:2] == [
        ["table", "loaded", "refused", "rows", "rejected", "discarded"],
        ["orders", "2", "1", "18", "0", "0"],
    ]
    assert "over_budget: It has 1 reject." in done.stdout
    assert "/in/a/orders.csv" in done.stdout.partition("no longer there")[2]


def test_status_tells_the_story_of_one_file(filled: Path) -> None:
    told = history.story(str(filled), "bad.csv")
    assert told[0] == "/in/b/bad.csv was refused: nothing of it is in orders."
    assert "The reason (over_budget): It has 1 reject." in told
    assert any("1 of its records are kept as rejects" in sentence for sentence in told)


def test_status_is_one_json_document(filled: Path) -> None:
    done = run("status", "--json", "--to", str(filled), cwd=filled.parent)
    told = json.loads(done.stdout)
    assert [file["state"] for file in told["files"]] == ["loaded", "loaded", "refused"]
    assert done.stderr == ""


def test_ambiguous_file_is_refused_with_the_choices(filled: Path) -> None:
    with pytest.raises(UsageError, match=r"2 files: /in/a/orders\.csv, /in/b/orders\.csv"):
        history.story(str(filled), "orders.csv")
    assert "/in/a/orders.csv is loaded" in history.story(str(filled), "a/orders.csv")[0]
    assert "/in/a/orders.csv is loaded" in history.story(str(filled), "/in/a/orders.csv")[0]
    with pytest.raises(UsageError, match="knows no file"):
        history.story(str(filled), "rders.csv")


def test_runs_are_listed_and_shown(filled: Path) -> None:
    done = run("runs", "--json", "--to", str(filled), cwd=filled.parent)
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["state"], row["exit_code"], row["files_loaded"]) == ("finished", 4, 2)
    assert row["started_at"].endswith("Z")
    assert "/in/b/bad.csv" in run("runs", "1", "--to", str(filled), cwd=filled.parent).stdout
    missing = run("runs", "7", "--to", str(filled), cwd=filled.parent)
    assert (missing.returncode, "there is no run 7" in missing.stderr) == (2, True)


def test_rejects_are_listed_escaped_and_exported_as_they_are(filled: Path) -> None:
    listed = run("rejects", "list", "bad.csv", "--to", str(filled), cwd=filled.parent)
    assert listed.stdout.splitlines() == [
        "/in/b/bad.csv:3: column p: bad_number: No number. (the whole file was refused)",
        "    2,\\x1b",
    ]
    assert run("rejects", "list", "a/orders.csv", "--to", str(filled), cwd=filled.parent).stdout == "no rejects\n"
    piped = run("rejects", "export", "-", "--to", str(filled), cwd=filled.parent)
    _, row = csv.reader(io.StringIO(piped.stdout))
    assert row == ["1", "/in/b/bad.csv", "3", "bad_number", "2", "\x1b"]
    assert "those of 1 file that was refused cannot be loaded back" in piped.stderr
    done = run("rejects", "export", "out.csv", "--to", str(filled), cwd=filled.parent)
    assert done.returncode == 0, done.stderr
    assert (filled.parent / "out.csv").read_bytes() == piped.stdout.encode()


def test_export_of_a_missing_ledger_leaves_the_old_export_alone(tmp_path: Path) -> None:
    old = tmp_path / "out.csv"
    old.write_text("precious")
    assert run("rejects", "export", "out.csv", cwd=tmp_path).returncode == 2
    assert old.read_text() == "precious"


def test_an_export_writes_over_nothing(filled: Path) -> None:
    """What was mended in it would be lost; a name that holds nothing yet, or is a device, is as good as a new one."""
    here, to = filled.parent, ("--to", str(filled))
    (here / "empty.csv").touch()
    (here / "link.csv").symlink_to("behind.csv")
    for name in ("new.csv", "empty.csv", "link.csv", "/dev/null"):
        assert run("rejects", "export", name, *to, cwd=here).returncode == 0
    assert (here / "behind.csv").read_bytes() == (here / "new.csv").read_bytes() == (here / "empty.csv").read_bytes()
    assert (there := run("rejects", "export", "/dev/stdout", *to, cwd=here)).returncode == 0
    assert there.stdout.encode() == (here / "new.csv").read_bytes()
    (here / "new.csv").write_text("mended")
    again = run("rejects", "export", "new.csv", *to, cwd=here)
    assert (again.returncode, "new.csv exists" in again.stderr, "another name" in again.stderr) == (2, True, True)
    assert (here / "new.csv").read_text() == "mended"


def test_an_export_into_a_folder_that_is_not_there_says_so(filled: Path) -> None:
    done = run("rejects", "export", "nope/out.csv", "--to", str(filled), cwd=filled.parent)
    assert (done.returncode, "the folder nope does not exist" in done.stderr) == (2, True)
    assert "no whole export" not in done.stderr


def test_forget_needs_yes_and_forgets_only_what_is_named(filled: Path) -> None:
    to = ("--to", str(filled))
    assert run("forget", "bad.csv", *to, cwd=filled.parent).returncode == 2
    assert run("forget", "bad.csv", "unknown.csv", "--yes", *to, cwd=filled.parent).returncode == 2
    assert len(history.status(str(filled)).files) == 3
    done = run("forget", "bad.csv", "--yes", *to, cwd=filled.parent)
    assert done.returncode == 0, done.stderr
    assert [row.path for row in history.status(str(filled)).files] == ["/in/a/orders.csv", "/in/b/orders.csv"]
    assert list(history.rejects(str(filled))) == []


def test_forget_waits_for_no_run(filled: Path) -> None:
    with target_for(database_url(str(filled))).lease(0):
        done = run("forget", "bad.csv", "--yes", "--to", str(filled), cwd=filled.parent)
    assert done.returncode == 75
    assert len(history.status(str(filled)).files) == 3


def test_what_is_to_be_typed_goes_to_the_same_database(filled: Path, tmp_path: Path) -> None:
    """And to the usual one where none was named."""
    named = f"--to sqlite:///{filled}\n"
    for command in (["status", "no.csv"], ["rejects", "list", "no.csv"], ["forget", "no.csv", "--yes"], ["runs", "9"]):
        assert run(*command, "--to", str(filled), cwd=tmp_path).stderr.endswith(named), command
    usual = run("status", "no.csv", cwd=tmp_path, INGEST_DATABASE_URL=str(filled)).stderr
    assert usual.endswith("See the files with: ingest status --json\n")
    story = history.story(str(filled), "bad.csv")
    assert any(line.endswith(f"ingest rejects list /in/b/bad.csv {named.rstrip()}") for line in story)


@pytest.mark.parametrize("command", [["forget", "bad.csv", "--yes"], ["ledger", "upgrade"]], ids=" ".join)
def test_who_is_told_to_wait_can(filled: Path, command: list[str]) -> None:
    words = [sys.executable, "-m", "ingest", *command, "--to", str(filled), "--wait", "60"]
    environment = os.environ | {"PYTHONPATH": str(Path(ingest.__file__).parent.parent)}
    with target_for(database_url(str(filled))).lease(0):
        waiting = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("database: ")
    with waiting:  # `communicate` would not see what `readline` has read too much
        assert waiting.stderr.read() == (FORGOTTEN if command[0] == "forget" else "")
    assert waiting.returncode == 0


@pytest.mark.parametrize(("url", "path"), [("sqlite://a.db", "a.db"), ("sqlite://data/a.db", "data/a.db")])
def test_an_sqlite_url_that_names_a_server_is_told_what_was_meant(tmp_path: Path, url: str, path: str) -> None:
    done = run("runs", "--to", url, cwd=tmp_path)
    assert (done.returncode, f"Write --to {path}, or sqlite:///{path}\n" in done.stderr) == (2, True)


FORGOTTEN = "  /in/b/bad.csv\nforgotten: 1 file; what is in the table of it stays\n"


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 3), ("y", 0, 2)])
def test_forget_names_what_it_means_and_asks(filled: Path, answer: str, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(Path(ingest.__file__).parent.parent)}
    words = [sys.executable, "-m", "ingest", "forget", "bad.csv", "--to", str(filled)]
    asking = subprocess.Popen(words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1024)
    assert b"  /in/b/bad.csv\r\nForget 1 file?" in said
    os.write(ours, f"{answer}\n".encode())
    with suppress(OSError):  # Linux's way to say that the other side is closed
        while more := os.read(ours, 1024):
            said += more
    os.close(ours)
    assert asking.wait() == code
    assert (b"nothing was forgotten" in said, b"error" in said) == (answer == "n", False)
    assert len(history.status(str(filled)).files) == left


def test_what_is_half_loaded_is_said_when_it_is_forgotten() -> None:
    base = {f.name: None for f in fields(FileRow)} | {"state": FileState.STARTED, "table_name": "t", "header": "{}"}
    rows = [FileRow(**base | {"file_id": n, "path": f"/in/{n:02}.csv", "rows_loaded": n}) for n in range(12)]  # type: ignore[arg-type]
    out = io.StringIO()
    assert show.forgotten(rows, out) == "12 files"
    told = out.getvalue().splitlines()
    assert told[3] == "    half loaded: 1 row of it stays in t; a load would go on with it as it is"
    assert (told[18], told[20], len(told)) == ("  /in/09.csv", "  and 2 more", 21)


def test_ledger_version_is_told(filled: Path) -> None:
    done = run("ledger", "current", "--to", str(filled), cwd=filled.parent)
    assert done.stdout.startswith(f"{ledger.HEAD} (this program writes {ledger.HEAD}")
    assert history.ledger_upgrade(str(filled)) == (ledger.HEAD, ledger.HEAD)


def test_reader_of_a_pipe_may_leave(filled: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONPATH": str(Path(ingest.__file__).parent.parent)}
    command = [sys.executable, "-m", "ingest", "status", "--to", str(filled)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert done.stderr == f"database: sqlite:///{filled}\n"
