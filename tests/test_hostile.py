"""Hostile names and files: whatever a folder, a name, a header or a cell holds is data, and is shown as data.

Names are made up anew, other ones each time, by `FUZZ=300 pytest tests/test_hostile.py -k any_names -o timeout=0`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import shlex
import shutil
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Database, oracle
from tools import Row, assert_counts_add_up, environ, ingest, load, query, quoted, rejects, told, write_csv

from ingest import cli
from ingest.cli import app
from ingest.cli.logfile import logging_to
from ingest.console import Console, printable
from ingest.model import Told
from ingest.settings import Budget

FUZZ = int(os.environ.get("FUZZ", "0"))

on_each_database = pytest.mark.parametrize("db", ["sqlite", "postgresql", "mariadb"], indirect=True)
"""Names are quoted by each database in its own way, so these tests run on all three each time."""

PLAINLY = Told(header=1, delimiter=",", quote='"')

ESCAPE = "\x1b[31m\x1b]0;title\x07\x9b2J"
"""What a terminal acts upon: a colour, the title of its window, and a command of the eighth bit that clears it."""

TABLE = """q"u'o`te; DROP TABLE victim; --%s%(x)s:y?"""
COLUMNS = ["id", "=1+1", "\u202eturned", "per%s", ":x", "[b]{i}", """";'--`""", "back\\"]


def spelled(path: Path | str) -> str:
    """A path as JSON has it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def hostile_folder(home: Path) -> Path:
    """A folder whose own name is hostile, and so is each path below it."""
    folder = home / f"in{ESCAPE}\n"
    folder.mkdir()
    rows = [["1", "=2", "c", "d", "e", "f", "g", "h"], [f"x{ESCAPE}\r\n", "=cmd|'/C calc'!A0", *"cdefgh"]]
    write_csv(folder / f"good{ESCAPE}\n_1.csv", COLUMNS, rows)
    (folder / os.fsdecode(b"caf\xe9.csv")).write_text(",".join(csv_of(COLUMNS)) + "\n" + "3,4,5,6,7,8,9,0\n")
    write_csv(folder / "header.csv", [f"a{ESCAPE}", "b"], [[1, 2]])
    (folder / "broken\x1b.csv.gz").write_bytes(b"\x1f\x8b no gzip")
    os.mkfifo(folder / f"pipe{ESCAPE}.csv")
    (folder / f"out{ESCAPE}.csv").symlink_to(os.devnull)
    return folder


def csv_of(cells: list[str]) -> Iterator[str]:
    return (f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells)


def command(capfd: pytest.CaptureFixture[str], *words: object, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command in this process: what it and its processes wrote, none of which acts upon a terminal."""
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words], prog_name="ingest")
    out, err = capfd.readouterr()
    assert ended.value.code in codes, (words, ended.value.code, out, err)
    for text in (out, err):
        assert "Traceback" not in text, words
        assert "internal error" not in text, words
    assert [printable(line) for line in err.split("\n")] == err.split("\n"), words
    if "sql" in words:  # is to be typed as it stands
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f]", out), words
    elif "-" not in words:
        assert [printable(line) for line in out.split("\n")] == out.split("\n"), words
    return out


def strings(text: str) -> set[str]:
    """All texts in lines of JSON."""
    found: set[str] = set()
    pending: list[Any] = [json.loads(line) for line in text.splitlines()]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, (list, dict)):
            pending += one.values() if isinstance(one, dict) else one
    return found


# every command ------------------------------------------------------------------------------------------------------


@on_each_database
def test_every_command_shows_names_and_cells_as_data(
    tmp_path: Path, db: Database, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INGEST_DATABASE_URL", raising=False)
    query(db, "CREATE TABLE victim (a integer)")
    folder, good = hostile_folder(tmp_path), f"good{ESCAPE}\n_1.csv"
    log = tmp_path / "log"
    to = ("--to", db)
    # A file that cannot be read gets no name for its table, so one is told.
    of = (folder, *to, "--table", TABLE, "--type", "id=bigint", "--max-rejects", "1")
    spool = ("--spool", oracle(db).folder)
    if isinstance(db, Path):  # the same on each, for no row is written
        command(capfd, "check", *of, codes=(4,))
        for form in ("table", "sql", "options"):
            command(capfd, "schema", *of, "--as", form)
    command(capfd, "plan", *of)
    for line in command(capfd, "plan", *of, "--json").splitlines():
        assert {one["source"]["path"] for one in json.loads(line)["decisions"]} >= {spelled(folder / good)}
    command(capfd, "load", *of, *spool, "-v", "--progress", "plain", "--log-file", log, codes=(4,))
    assert query(db, "SELECT count(*) FROM ingest_reject") == [(1,)]
    for line in log.read_text().splitlines():
        assert printable(line) == line
        assert re.match(r"\d{4}-\d\d-\d\d ", line), "a name has begun a line of its own"
    events = command(capfd, "load", *of, *spool, "--json", codes=(4,)).splitlines()
    files = {event["path"]: event for event in map(json.loads, events) if event["event"] == "file"}
    assert files[spelled(folder / good)]["state"] == "skipped"
    assert files[spelled(folder / os.fsdecode(b"caf\xe9.csv"))]["state"] == "skipped"
    assert [event["event"] for event in map(json.loads, events)][-1] == "summary"
    for words in (["status"], ["runs"], ["rejects", "list"], ["ledger", "current"]):
        command(capfd, *words, *to)
    for words in (["status"], ["rejects", "list"]):
        for file in (good, folder / good):
            command(capfd, *words, file, *to)
        assert spelled(folder / good) in strings(command(capfd, *words, "--json", *to))
    command(capfd, "status", os.fsdecode(b"caf\xe9.csv"), "--json", *to)
    command(capfd, "status", f"no{ESCAPE}", *to, codes=(2,))
    command(capfd, "runs", "1", *to)
    command(capfd, "runs", "--json", *to)
    command(capfd, "load", f"no{ESCAPE}", *to, codes=(2,))
    command(capfd, "load", f"--no{ESCAPE}", *to, codes=(2,))
    command(capfd, "rejects", "export", f"fixed{ESCAPE}.csv", "--escape-formulas", *to)
    command(capfd, "rejects", "export", "-", *to)
    mended = Path(f"fixed{ESCAPE}.csv").read_text().replace(f"x{ESCAPE}", "7")
    Path(f"fixed{ESCAPE}.csv").write_text(mended.replace("'" + '"7', '"7').replace('"7\n"', "7"))
    command(capfd, "rejects", "load", f"fixed{ESCAPE}.csv", *to, *spool)
    command(capfd, "rejects", "load", f"fixed{ESCAPE}.csv", *to, *spool, codes=(4,))
    command(capfd, "forget", folder / good, "--yes", *to)
    command(capfd, "forget", folder / good, "--yes", *to, codes=(2,))
    (table,) = oracle(db).tables() - {"victim"}
    names = ", ".join(map(quoted, COLUMNS))
    assert sorted(query(db, f"SELECT {names} FROM {quoted(table)} ORDER BY 1")) == [
        (1, "=2", "c", "d", "e", "f", "g", "h"),
        (3, "4", "5", "6", "7", "8", "9", "0"),
        (7, "=cmd|'/C calc'!A0", "c", "d", "e", "f", "g", "h"),
    ]
    assert query(db, "SELECT count(*) FROM victim") == [(0,)]


# any names ----------------------------------------------------------------------------------------------------------

SIGNS = "\"'`;-%:?{}[]()\\/$@#&<>|=+*~^,.! \t\u00a0\u202e\u200d\u2028\x1b\x00\x7f\x9f\n\r"
WORDS = [
    *("--", "/*", "*/", "%s", "%(a)s", ":x", "::", "??", "{x}", "$1", "\\'", "\\n", "DROP TABLE victim", "select"),
    *("NULL", "rowid", "xmin", "oid", "_ingest_row", "_ingest_file_id", "é", "e\u0301", "ß", "ss", "ı", "I", "i", "Å"),
    *("日本", "🙂", "\udce9", "x" * 70),
]
PIECES = st.sampled_from([*SIGNS, *WORDS])
NAMES = st.one_of(
    st.lists(PIECES, min_size=1, max_size=4).map("".join),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    st.sampled_from("abcdefg"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file whose table and columns have made-up names."""

    stem: str
    header: tuple[str, ...]

    @property
    def row(self) -> Row:
        return tuple(f"v{i}" for i, _ in enumerate(self.header))

    def may_be_refused(self, database: str) -> bool:
        """Whether the database may not take these names."""
        if database != "sqlite" and "." in self.stem:
            return True  # the ledger could not tell it from a schema's
        names = (self.stem, *self.header)
        text = "".join(names)
        odd = any(unicodedata.category(char) in ("Cc", "Cs") or ord(char) > 0xFFFF for char in text)
        kept = re.search("_ingest_|xmin|sqlite_", text, re.IGNORECASE)
        return odd or bool(kept) or any(len(name.encode(errors="replace")) > 60 for name in names)


@on_each_database
def test_any_names_come_back_as_data_or_are_refused_by_name(tmp_path: Path, db: Database) -> None:
    query(db, "CREATE TABLE victim (a integer)")
    made: dict[str, Made] = {}
    many = {"max_examples": FUZZ} if FUZZ else {"max_examples": 40, "derandomize": True}

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **many)
    @given(stem=NAMES, header=st.lists(NAMES, min_size=1, max_size=6))
    def make(stem: str, header: list[str]) -> None:
        # Each is a table of its own, whatever the database takes for equal: the number is never all that differs.
        stem = f"t{len(made)}{stem}x".replace("/", "").replace("\0", "")
        if len(os.fsencode(f"{stem}.csv")) < 256 and all(name.strip() for name in header):
            made[f"{stem}.csv"] = Made(stem=stem, header=tuple(header))

    make()
    folder = tmp_path / "in"
    folder.mkdir()
    for name, one in made.items():
        with open(folder / name, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([one.header, one.row])
    options: dict[str, Any] = {"table": "{stem}", "told": PLAINLY, "on_duplicate": "load", "types": "text"}
    report = load(folder, db, **options)
    assert len(report.files) == len(made)
    tables = oracle(db).tables()
    assert "victim" in tables
    loaded = 0
    for outcome in report.files:
        one = made[os.path.basename(outcome.path)]
        if outcome.state != "loaded":
            assert outcome.state == "refused", outcome.sentence
            assert one.may_be_refused(oracle(db).kind), (one, outcome.sentence)
            assert outcome.sentence
            assert "\n" not in printable(outcome.sentence + outcome.hint)
            continue
        loaded += 1
        (table,) = tables & {one.stem.strip()}
        with contextlib.closing(oracle(db).connect()) as connection:
            names, rows = oracle(db).rows(connection, f"SELECT * FROM {quoted(table)}")
        assert [row[: len(one.header)] for row in rows] == [one.row]
        assert names[len(one.header) :] == ["_ingest_file_id"]
        folded = [name.strip().casefold() for name in one.header]
        # What differs in case only is numbered; all others are as they were written.
        for name, column in zip(one.header, names, strict=False):
            assert column == name.strip() or folded.count(name.strip().casefold()) > 1, (one, names)
    assert loaded > len(made) / 4
    assert len(tables) == loaded + 1
    assert query(db, "SELECT count(*) FROM victim") == [(0,)]
    again = load(folder, db, **options)
    assert again.rows == 0
    assert again.count("skipped") == loaded


# names that mean something inside -----------------------------------------------------------------------------------


@pytest.mark.every_target
def test_columns_called_like_the_numbers_of_rows_decide_nothing(tmp_path: Path, db: Database, bulk: str) -> None:
    """Of two records with one key the last one stays, whatever a column says that is called as SQLite's row numbers."""
    made = {"t0": ["id", "rowid"], "t1": ["id", "ROWID", "_rowid_"], "t2": ["id", "oid", "rowid", "_rowid_"]}
    rows = {
        name: [[key, *[value] * (len(names) - 1)] for key, value in ("a9", "b5", "a1")] for name, names in made.items()
    }
    for name, names in made.items():
        write_csv(tmp_path / "in" / f"{name}.csv", names, rows[name])
        typed = ", ".join(f"{quoted(column)} varchar(9)" for column in names)
        query(db, f'CREATE TABLE "u{name}" ({typed}, UNIQUE ("id"))')
    options: dict[str, Any] = {"types": "text", "bulk": bulk, "on_duplicate": "load"}
    assert load(tmp_path / "in", db, table="{stem}", mode="upsert", key=("id",), **options).exit_code == 0
    # And a row that the table refuses is the record that it is.
    assert load(tmp_path / "in", db, table="u{stem}", max_rejects=Budget(count=5), **options).rejected == 3
    assert [row[:3:2] for row in rejects(db)] == [(4, 2)] * 3
    for name, names in made.items():
        columns = ", ".join(map(quoted, names))
        first, second, third = map(tuple, rows[name])
        assert query(db, f'SELECT {columns} FROM "{name}" ORDER BY "id"') == [third, second]
        assert query(db, f'SELECT {columns} FROM "u{name}" ORDER BY "id"') == [first, second]


@on_each_database
def test_names_that_a_database_keeps_for_itself_are_refused_before_the_first_row(tmp_path: Path, db: Database) -> None:
    kept = {"xmin": "postgresql", "ctid": "postgresql", "_ingest_row": "", "_INGEST_FILE_ID": ""}
    for name in kept:
        write_csv(tmp_path / "in" / f"{name.strip('_')}.csv", [name, "b"], [[1, 2]])
    write_csv(tmp_path / "in" / "#mysql50#t.csv", ["a"], [[3]])
    write_csv(tmp_path / "in" / "🙂.csv", ["a"], [[4]])
    write_csv(tmp_path / "in" / "Übersicht Отчёт.csv", ["a"], [[5]])
    report = load(tmp_path / "in", db, table="{stem}", on_duplicate="load")
    kind = oracle(db).kind
    for name, by in kept.items():
        (outcome,) = [one for one in report.files if Path(one.path).stem == name.strip("_")]
        assert outcome.state == ("refused" if by in ("", kind) else "loaded"), outcome
        assert by not in ("", kind) or (name in outcome.sentence and "--rename" in outcome.hint)
    for stem in ("#mysql50#t", "🙂"):
        (outcome,) = [one for one in report.files if Path(one.path).stem == stem]
        assert outcome.state == ("refused" if kind == "mariadb" else "loaded"), outcome
        assert kind != "mariadb" or "--table" in outcome.hint
    assert query(db, 'SELECT a FROM "Übersicht Отчёт"') == [(5,)]
    renamed = (("xmin", "x"), ("ctid", "c"), ("_ingest_row", "r"), ("_INGEST_FILE_ID", "f"))
    again = load(tmp_path / "in", db, rename=renamed, table="{stem}", exclude=("#*", "🙂*"), on_duplicate="load")
    assert (again.exit_code, again.count("loaded")) == (0, 4 if kind == "postgresql" else 2)


def test_a_file_that_is_called_as_a_table_of_the_ledger_keeps_no_other_out(tmp_path: Path) -> None:
    for name in ("ingest_file", "INGEST_RUN", "sqlite_master", "t"):
        write_csv(tmp_path / "in" / f"{name}.csv", ["a"], [[name]])
    assert told(load(tmp_path / "in", tmp_path / "x.db")) == {
        **dict.fromkeys(("ingest_file.csv", "INGEST_RUN.csv", "sqlite_master.csv"), ("refused", "columns")),
        "t.csv": ("loaded", "new"),
    }
    again = ingest("load", "in", "--to", "x.db", cwd=tmp_path)
    assert again.returncode == 4
    # `ingest status` would not know them.
    assert again.stderr.splitlines()[-1] == "refused: 3 files, nothing of them was loaded by this run"


@on_each_database
def test_too_many_and_too_long_names_are_refused_in_one_clear_line(tmp_path: Path, db: Database) -> None:
    limit = {"sqlite": 2_000, "postgresql": 1_600, "mariadb": 1_017}[oracle(db).kind]
    folder = tmp_path / "in"
    for width in (limit, 2_001, 5_000):
        write_csv(folder / f"w{width}.csv", [f"c{i}" for i in range(width)], [["1"] * width] * 2)
    write_csv(folder / "long.csv", ["x" * 10_000, "b"], [[1, 2]])
    write_csv(folder / "longer.csv", ["y" * 10_000, "y" * 10_000], [[1, 2]])
    done = ingest("load", folder, "--to", db, "--table", "{stem}", "--on-duplicate", "load", cwd=tmp_path, timeout=250)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    refused = [line for line in done.stderr.splitlines() if line.startswith("error: refused: ")]
    wide = [line for line in refused if f"the database takes {limit}." in line]
    assert len(wide) == 3
    names = [line for line in refused if "is longer than the" in line]
    # SQLite has no limit but that of a statement, of a million bytes.
    assert len(names) == (0 if oracle(db).kind == "sqlite" else 2)
    assert all(len(line) < 400 for line in refused)
    assert oracle(db).tables() == ({"long", "longer"} if oracle(db).kind == "sqlite" else set())


# files that are none, or not ours to read ---------------------------------------------------------------------------


def test_nothing_is_opened_that_is_no_file_of_the_folder(tmp_path: Path) -> None:
    """The whole command over what has no end, waits for ever or lies elsewhere: it ends, and loads the two files."""
    folder, secret = tmp_path / "in", write_csv(tmp_path / "elsewhere" / "secret.csv", ["id"], [[666]])
    write_csv(folder / "t_1.csv", ["id"], [[1]])
    write_csv(folder / "called.csv" / "t_2.csv", ["id"], [[2]])
    os.mkfifo(folder / "pipe.csv")
    (folder / "zeros.csv").symlink_to("/dev/zero")
    (folder / "terminal.csv.gz").symlink_to("/dev/tty")
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "round.csv").symlink_to("tripped.csv")
    (folder / "tripped.csv").symlink_to("round.csv")
    (folder / "up.csv").symlink_to("..")
    (folder / "self").symlink_to(".")
    (folder / "out.csv").symlink_to(secret)
    (folder / "far.csv").symlink_to("../../" * 40 + str(secret).lstrip("/"))
    (folder / "hard.zip").symlink_to("../elsewhere")
    with socket.socket(socket.AF_UNIX) as server:
        bound = tmp_path / "s"  # a socket's path is short
        server.bind(str(bound))
        bound.rename(folder / "socket.csv")
        with contextlib.suppress(PermissionError):
            os.mknod(folder / "device.csv", 0o600 | 0o20000, os.makedev(1, 5))
        there = {path for path in folder.iterdir() if path.is_symlink() or path.suffix == ".csv"}
        done = ingest("load", "in", "--to", "x.db", "--table", "t", "-v", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "x.db", "SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    left = {line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("left alone: /")}
    assert left == {str(path) for path in there if path.name not in ("t_1.csv", "called.csv", "self")}
    for special in ("in/pipe.csv", "in/zeros.csv", "in/socket.csv", "/dev/stdin", "/dev/zero"):
        done = ingest("load", special, "--to", "y.db", cwd=tmp_path)
        assert (done.returncode, "not a regular file" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "y.db").exists()


def test_what_may_not_be_read_is_named_and_the_rest_is_loaded(tmp_path: Path) -> None:
    """As root everything may be read, so root gives that up for the command."""
    files = [write_csv(tmp_path / "in" / f"t_{i}.csv", ["id"], [[i]]) for i in range(3)]
    files.append(write_csv(tmp_path / "in" / "shut" / "t_3.csv", ["id"], [[3]]))
    files[1].chmod(0)
    files[3].parent.chmod(0)
    words = [sys.executable, "-m", "ingest", "load", "in", "--to", "x.db", "--table", "t"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is not installed")
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
    try:
        done = subprocess.run(
            words, cwd=tmp_path, env=environ(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr
        assert f"{files[1].relative_to(tmp_path)} cannot be read: Permission denied" in done.stderr
        assert "left alone: 1 path" in done.stderr
        assert query(tmp_path / "x.db", "SELECT id FROM t ORDER BY id") == [(0,), (2,)]
    finally:
        files[3].parent.chmod(0o700)
    assert ingest("load", "in", "--to", "x.db", "--table", "t", cwd=tmp_path).returncode == 0
    assert query(tmp_path / "x.db", "SELECT id FROM t ORDER BY id") == [(0,), (1,), (2,), (3,)]


# what people see, and type or open ----------------------------------------------------------------------------------


def test_no_escape_of_a_file_reaches_a_terminal(tmp_path: Path) -> None:
    """A real one, without colours, so that every escape would be a file's own."""
    folder = hostile_folder(tmp_path)
    environment = environ(TERM="dumb", NO_COLOR="1", COLUMNS="200")
    of = ("--table", TABLE, "--type", "id=bigint", "--max-rejects", "1")

    def seen(*words: object) -> str:
        ours, theirs = pty.openpty()
        typed = [sys.executable, "-m", "ingest", *map(str, words), "--to", "x.db"]
        run = subprocess.Popen(typed, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # the other end was closed
            while block := os.read(ours, 1 << 16):
                text += block
        os.close(ours)
        run.wait(60)
        assert not re.search(rb"[\0-\x09\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae", text), (words, text)
        return text.decode()

    assert r"\x1b[31m" in seen("load", folder, *of, "-v")
    for words in (["status"], ["rejects", "list"], ["rejects", "export", "-"], ["schema", folder, *of, "--as", "sql"]):
        assert r"\x1b" in seen(*words) or words[0] == "schema"


def test_a_traceback_quotes_no_escape(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What nobody expected, with -v and in the log."""
    with pytest.raises(typer.Exit), cli._errors(Console(sys.stderr), None, True), logging_to(tmp_path / "log", True):
        raise ValueError(f"no such name: {ESCAPE}")
    for text in (capfd.readouterr().err, (tmp_path / "log").read_text()):
        assert "Traceback" in text
        assert [printable(line) for line in text.split("\n")] == text.split("\n")


def test_hints_can_be_typed_whatever_the_names_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    column, name = "a'; touch pwned; '", "x'$(touch pwned); `touch pwned` &.csv"
    query(tmp_path / "x.db", "CREATE TABLE t (id INTEGER)")
    write_csv(tmp_path / name, ["id", column], [[1, 2]])
    (refused,) = load(Path(name), tmp_path / "x.db", table="t").files
    assert f"{column}=COLUMN" in shlex.split(refused.hint.replace(",", " "))
    write_csv(tmp_path / name, ["id"], [["no number"]])
    (refused,) = load(Path(name), tmp_path / "x.db", table="t").files
    assert name in shlex.split(refused.hint[refused.hint.index("ingest rejects list") :])
    # And the command that is told of finds them.
    assert "no number" in ingest("rejects", "list", name, "--to", "x.db", cwd=tmp_path).stdout


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'=1",
    "''-1",
    "'",
    "",
    "a=1",
    " =1",
    "'x",
]


@on_each_database
def test_formulas_are_stored_as_they_are_and_exported_so_that_none_is_run(tmp_path: Path, db: Database) -> None:
    """Mended in a spreadsheet or not, what is loaded back is what the file has, to the letter."""
    head = ["id", "=name()", *(f"f{i}" for i in range(len(FORMULAS)))]
    records = [[first, "@a", *FORMULAS] for first in ("1", "-x", "'=y")]
    path = write_csv(tmp_path / "t.csv", head, records, lineterminator="\r\n")
    options = ("--type", "id=bigint", "--types", "text", "--max-rejects", "5", "--null=-1")
    assert ingest("load", path, "--to", db, *options, cwd=tmp_path).returncode == 3
    done = ingest("rejects", "export", "fixed.csv", "--escape-formulas", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "fixed.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [cell for row in rows for cell in row if re.match(r"[=+\-@\t\r\n＝]", cell)] == []
    assert rows[0][3:6] == ["_ingest_reason_escaped", "id", "'=name()"]
    assert [row[4:] for row in rows[1:]] == [
        [f"'{cell}" if re.match(r"'*[=+\-@\t\r\n＝]", cell) else cell for cell in (first, "@a", *FORMULAS)]
        for first in ("-x", "'=y")
    ]
    for number, row in enumerate(rows[1:], start=2):
        row[4] = str(number)
    with open(tmp_path / "fixed.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    done = ingest("rejects", "load", "fixed.csv", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = query(db, f"SELECT {', '.join(map(quoted, head))} FROM t ORDER BY id")
    cells = tuple(None if cell in ("", "-1") else cell for cell in FORMULAS)
    assert found == [(number, "@a", *cells) for number in (1, 2, 3)]
    assert_counts_add_up(db)
