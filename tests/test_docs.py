"""The docs are promises, too: transcripts are typed again, tables compared with the code, queries and examples run."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pytest
import typer

from ingest import inference, naming, tables
from ingest.cli import EXIT_MEANINGS, app
from ingest.cli.options import LoadOptions
from ingest.console import JsonLines
from ingest.history import RejectedRecord, RunStory, Status
from ingest.model import FileState, LeftOut, Reason, RunState, Source
from ingest.reports import Notice, Plan
from ingest.rows import TableState
from tests.tools import environ, ingest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STATES = (ROOT / "docs/states.md").read_text(encoding="utf-8")
EVENTS = (ROOT / "docs/events.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("data/*/README.md"))]
NIGHTLY = [ROOT / "docs/nightly/crontab", ROOT / "docs/nightly/ingest.service"]

PROGRESS = re.compile(r"(looking at values|loading), ")
TIMES = re.compile(r"\d+\\\.\d\\ s,\\ [\d,]+\\ rows/s")
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


# reading the docs ----------------------------------------------------------------------------------------------


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a kind, without their fences."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of every table whose first line begins with `head`."""
    found = []
    for table in re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    assert found, f"no table that begins with {head}"
    return found


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    level, _, _ = title.partition(" ")
    match = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{level} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"no section {title}"
    return match[1]


def codes(cell: str) -> list[str]:
    """What stands between backticks, but for what is in parentheses."""
    return re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", cell))


# transcripts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder as a fresh clone has it, with the README's own Python files."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    for code in blocks(README, "python"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name, "an example begins with the name of its file"
        (tmp_path / name[1]).write_text(code, encoding="utf-8")
    return tmp_path


def typed(block: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a transcript, each with the lines that are to follow it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def pattern(lines: list[str]) -> str:
    """The lines as a regular expression; a line of one … is any number of lines, in a line it is any text."""
    text = ""
    for line in lines:
        escaped = TIMES.sub(r"\\d+\\.\\d s, [\\d,]+ rows/s", re.escape(line))
        text += r"(?:.*\n)*?" if line == "…" else escaped.replace("…", ".*") + r"\n"
    return text


def test_transcripts_of_the_readme_are_true(bench: Path) -> None:
    shims = bench / "shims"
    shims.mkdir()
    for name, body in {
        "ingest": f'exec {shlex.quote(sys.executable)} -m ingest "$@"',
        "python": f'exec {shlex.quote(sys.executable)} "$@"',
        "uv": 'shift; exec "$@"',
    }.items():
        (shims / name).write_text(f"#!/bin/sh\n{body}\n")
        (shims / name).chmod(0o755)
    environment = environ(PYTHONPATH=str(ROOT)) | {"PATH": f"{shims}:{os.environ['PATH']}"}
    session = [pair for block in blocks(README, "console") for pair in typed(block)]
    assert len(session) > 5
    script = "".join(f"{command}\ncode=$?; echo '@@@'; (exit $code)\n" for command, _ in session)
    done = subprocess.run(
        ["bash"], input=script, cwd=bench, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    answers = done.stdout.split("@@@\n")
    assert len(answers) == len(session) + 1
    for (command, lines), answer in zip(session, answers, strict=False):
        told = "".join(line for line in answer.splitlines(keepends=True) if not PROGRESS.match(line))
        assert re.fullmatch(pattern(lines), told), f"$ {command}\n{told}"


def test_the_two_commands_are_the_first_that_are_shown() -> None:
    assert [block.strip() for block in blocks(README, "sh")][:2] == [
        "pip install uv && uv run ingest load data/shop",
        "pip install uv && uv run pytest",
    ]


# what can be typed ---------------------------------------------------------------------------------------------


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def flags(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("-")}


LOAD_OPTIONS = {f"--{field.name.replace('_', '-')}": field for field in fields(LoadOptions)}


def command_lines() -> list[str]:
    """Everything in the docs that begins with `ingest` and one of its commands, as it is to be typed."""
    first = "|".join(sorted({words[0] for words in COMMANDS}))
    found = []
    for page in [*PAGES, *NIGHTLY]:
        text = page.read_text(encoding="utf-8")
        code = [*re.findall(r"`([^`\n]+)`", text), *blocks(text, r"\w+"), *re.findall(r"^    .*$", text, re.MULTILINE)]
        for part in [text] if page in NIGHTLY else code:
            found += re.findall(rf"(?:^|[\s/])ingest ((?:{first})\b.*)", part)
    return sorted(set(found))


def test_every_command_line_of_the_docs_can_be_typed() -> None:
    lines = command_lines()
    assert len(lines) > 15
    for line in lines:
        words = shlex.split(line, comments=True)
        name = tuple(words[: 2 if words[0] in ("rejects", "ledger") else 1])
        assert name in COMMANDS, line
        arguments = ["1" if re.fullmatch(r"\[?RUN\]?|N|SECONDS", word) else word for word in words[len(name) :]]
        if arguments:
            COMMANDS[name].make_context("ingest", arguments)


def test_every_command_and_its_options_are_in_the_readme() -> None:
    told: dict[tuple[str, ...], set[str]] = {}
    for command, _, options in rows(README, "Command"):
        words = tuple(word for word in command.strip("`").split()[1:] if word.islower() and word[0] != "[")
        told[words] = set(FLAG.findall(options))
    root = typer.main.get_command(app)
    assert told.pop(()) == flags(root) | {"--help"}
    load = {row[0] for row in rows(section(README, "## Commands and options"), "Option")}
    told["load",] = {flag for cell in load for flag in FLAG.findall(cell.partition(" ")[0] + cell.partition(",")[2])}
    for name in ("plan", "schema"):
        told[name,] = told[name,] | set(LOAD_OPTIONS)
    told["check",] = told["plan",]  # "those of plan"
    assert told == {words: flags(command) for words, command in COMMANDS.items()}


def test_options_are_told_with_their_words_and_defaults() -> None:
    hints, noted = get_type_hints(LoadOptions), get_type_hints(LoadOptions, include_extras=True)
    seen = set()
    for option, default, _ in rows(README, "Option"):
        flag, _, value = option.strip("`").replace("\\|", "|").partition(" ")
        field = LOAD_OPTIONS.get(flag)
        if field is None:
            continue
        seen.add(flag)
        if get_origin(hints[field.name]) is Literal:
            assert value == "|".join(get_args(hints[field.name])), flag
        elif hints[field.name] is not bool:
            (metavar,) = (getattr(note, "metavar", None) for note in noted[field.name].__metadata__)
            assert value == metavar, flag
        told = field.default
        told = f"{told:g}" if isinstance(told, float) else "" if told is None or told is False else str(told)
        assert default.strip("`") == told, flag
    assert seen == set(LOAD_OPTIONS)


def test_no_page_names_an_option_that_is_not_there() -> None:
    known = {flag for command in COMMANDS.values() for flag in flags(command)} | flags(typer.main.get_command(app))
    others = {"--help", "--user", "--now"}  # of systemctl
    for path in (ROOT / "tests/crash").glob("*.py"):
        others |= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    for page in [*PAGES, *NIGHTLY]:
        named = {flag for flag in FLAG.findall(page.read_text(encoding="utf-8")) if flag.startswith("--")}
        assert named <= known | others, page


def test_exit_codes_are_in_the_readme() -> None:
    assert {int(code): meaning for code, meaning in rows(README, "Exit code")} == EXIT_MEANINGS


def test_tests_that_the_docs_name_are_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in written} == set()


# what becomes of names and values ------------------------------------------------------------------------------


def test_files_go_to_the_tables_that_the_readme_names() -> None:
    for names, table in rows(README, "File"):
        for name in codes(names) if "(2)" not in names else re.findall(r"`([^`]+)`", names):
            path = f"/data/{name}"
            source = Source(path=path, display=name, size=0, mtime_ns=0, ctime_ns=0, scanned_ns=0)
            assert str(naming.table_name(source)) == codes(table)[0], name


def test_values_become_the_types_that_the_readme_names() -> None:
    for values, verdict in rows(README, "Values of a column"):
        (profile,) = inference.profile(pa.table({"column": pa.array(codes(values), pa.string())}))
        assert profile.decide().type == codes(verdict)[0], values


# the ledger ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_of_our_tables_is_documented(table: Any) -> None:
    documented = rows(section(STATES, f"## `{table.name}`"), "Column")
    assert [name for cell, _ in documented for name in codes(cell)] == list(table.c.keys())


@pytest.mark.parametrize(
    ("head", "states"),
    [("State of a file", FileState), ("State of a table", TableState), ("State of a run", RunState), ("Code", Reason)],
)
def test_every_state_and_reason_is_documented(head: str, states: Any) -> None:
    documented = [name for cell, *_ in rows(STATES, head) for name in codes(cell)]
    assert sorted(documented) == sorted(state.value for state in states)


def test_queries_of_the_docs_answer(tmp_path: Path) -> None:
    arguments = ("data/shop", "data/awkward", "--to", tmp_path / "x.db", "--type", "celsius=double", "-q")
    assert ingest("load", *arguments, cwd=ROOT).returncode == 4
    with sqlite3.connect(tmp_path / "x.db") as connection:
        by_file, not_loaded, unaccounted, by_reason = (
            connection.execute(query).fetchall() for query in blocks(STATES, "sql")
        )
    connection.close()
    assert sum(count for _, count in by_file) == 27
    assert {Path(path).name for path, *_ in not_loaded} == {path.name for path in ROOT.glob("data/awkward/*_*.csv")}
    assert unaccounted == []
    assert ("ragged_record", "ragged", None, 2) in by_reason


def test_sample_data_is_what_its_pages_say() -> None:
    shop = rows((ROOT / "data/shop/README.md").read_text(encoding="utf-8"), "File")
    assert {name.strip("`") for name, *_ in shop} == {path.name for path in ROOT.glob("data/shop/*.csv*")}
    for name, count, _ in shop:
        path = ROOT / "data/shop" / name.strip("`")
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        records = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
        assert len(records) - 1 == int(count), name
    awkward = rows((ROOT / "data/awkward/README.md").read_text(encoding="utf-8"), "File")
    assert {name.strip("`") for name, *_ in awkward} == {path.name for path in ROOT.glob("data/awkward/*.csv")}


# events --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A database, and the events of its load."""
    db = tmp_path_factory.mktemp("events") / "x.db"
    arguments = ("--to", db, "--json", "--table", "reading", "--type", "celsius=double")
    done = ingest("load", "data/awkward", *arguments, cwd=ROOT)
    return db, [json.loads(line) for line in done.stdout.splitlines()]


def documented_events() -> dict[str, set[str]]:
    found = {codes(event)[0]: set(codes(names)) for event, _, names in rows(EVENTS, "`event`")}
    for name in ("file", "summary"):
        found[name] = {field for cell, _ in rows(section(EVENTS, f"## `{name}`"), "Field") for field in codes(cell)}
    return found


def test_events_have_the_documented_fields(loaded: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    _, events = loaded
    failed = ingest("load", "no/such/path", "--to", tmp_path / "x.db", "--json", cwd=ROOT)
    events = [*events, *map(json.loads, failed.stdout.splitlines())]
    out = io.StringIO()
    JsonLines(out)(Notice(level="info", text="x"))
    events.append(json.loads(out.getvalue()))
    documented = documented_events()
    assert {event["event"] for event in events} == set(documented)
    for event in events:
        assert set(event) - {"event"} == documented[event["event"]], event["event"]


def test_events_come_in_the_documented_order(loaded: tuple[Path, list[dict[str, Any]]]) -> None:
    _, events = loaded
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("opened", "summary")
    assert (kinds.count("opened"), kinds.count("summary"), kinds.count("file")) == (1, 1, 5)
    assert events[-1]["files"] == {"loaded": 1, "refused": 4}
    assert events[-1]["exit_code"] == 4


def test_states_of_a_file_event_are_documented(loaded: tuple[Path, list[dict[str, Any]]]) -> None:
    _, events = loaded
    means = {codes(cell)[0]: meaning for cell, meaning in rows(section(EVENTS, "## `file`"), "Field")}
    for event in events:
        if event["event"] == "file":
            assert f"`{event['state']}`" in means["state"]
            assert f"`{event['action']}`" in means["action"]


def test_documents_of_the_other_commands_have_the_documented_fields(
    loaded: tuple[Path, list[dict[str, Any]]],
) -> None:
    db, _ = loaded
    documented = {command.strip("`"): set(codes(names)) for command, _, names in rows(EVENTS, "Command")}
    assert documented["plan"] - {"ingest.Plan"} == {field.name for field in fields(Plan)}
    assert documented["status"] == {field.name for field in fields(Status)}
    assert documented["runs"] == {"ingest_run"}
    assert documented["runs RUN"] == {field.name for field in fields(RunStory)}
    assert documented["rejects list"] - {"ingest_reject"} == {field.name for field in fields(RejectedRecord)}
    status = json.loads(ingest("status", "--to", db, "--json", cwd=ROOT).stdout)
    assert set(status["files"][0]) == set(tables.ingest_file.c.keys())
    story = json.loads(ingest("status", "good.csv", "--to", db, "--json", cwd=ROOT).stdout)
    assert set(story) == documented["status FILE"]
    means = {codes(cell)[0]: meaning for cell, meaning in rows(section(EVENTS, "## `summary`"), "Field")}
    assert set(codes(means["left_out"])) == {field.name for field in fields(LeftOut)}


# links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
