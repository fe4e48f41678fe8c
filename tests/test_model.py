"""Files come, change and go, runs load them and die: the table always is what a dict of files says it is.

The state machine makes up stories: files are added, rewritten, appended to, cut short, renamed, copied and removed;
between that, runs with any options, some of which are killed at one of the places that `ingest.failpoints` names. The
model is a dictionary: of each file, what of it is in the table. It knows the rules of docs/design.md for files that
changed, and nothing of how they are kept. After a run that ended, table, rejects and ledger must be what the model
says; after one that was killed, the ledger may say either of two things, and the table must agree with it.

Few stories and always the same ones, unless MODEL says how many to make up, other ones each time, and MODEL_ON where
(sqlite, postgresql or mariadb): `MODEL=200 MODEL_ON=postgresql pytest tests/test_model.py -o timeout=0`.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import itertools
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import killing
import oracle
import pytest
import tools
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import ingest
from ingest.reports import FileOutcome
from ingest.settings import Budget, parse_told, parse_type

MODEL = int(os.environ.get("MODEL", "0"))
MODEL_ON = os.environ.get("MODEL_ON", "sqlite")

TABLE = "t"
OF_TABLE = f"WHERE ingest_file.table_name = '{TABLE}'"
NAMES = [f"f{number}.csv" for number in range(5)]
OLD = 1_577_836_800  # 2020-01-01

Row = tuple[str | None, ...]


ELSEWHERE = frozenset(
    ("after_mending", "after_merge", "after_search", "after_lose", "after_widen_intent", "after_widen")
)
"""Failpoints that no run of these stories comes by: test_failpoints.py and others have them."""

REPLACING = frozenset(
    (
        "after_staging_intent",
        "after_staging",
        "before_replace",
        "before_replace_commit",
        "after_replace",
        "before_drop_commit",
    )
)
"""Failpoints that only a run comes by that replaces a table."""


def failpoints(files: str = "*.py") -> list[str]:
    """The names of all failpoints in the code, as they stand there."""
    names: list[str] = []
    for path in sorted(Path(ingest.__file__).parent.rglob(files)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                (name,) = node.args
                assert isinstance(name, ast.Constant)
                assert isinstance(name.value, str)
                names.append(name.value)
    return names


PLACES = [name for name in failpoints() + 2 * failpoints("applying.py") if name not in ELSEWHERE]
"""Where runs die; those that each order comes by more often, for the others are come by once in a story."""


# what files hold -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a file, in full: no two are equal."""

    text: str
    row: Row | None  #: id, note, extra; None: it is a reject
    reason: str = ""

    @property
    def data(self) -> bytes:
        return self.text.encode(errors="surrogateescape")


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    records: tuple[Record, ...]
    extra: bool = False  #: it has a column more
    ended: bool = True  #: a line end comes after the last record

    @functools.cached_property
    def data(self) -> bytes:
        data = b"\n".join([self.header, *(record.data for record in self.records)])
        return data + b"\n" if self.ended else data

    @property
    def header(self) -> bytes:
        return b"id,note,extra" if self.extra else b"id,note"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def within(self, length: int) -> list[tuple[int, Record]]:
        """The records that are in so many bytes at the beginning, each with its first line."""
        end, line, found = len(self.header) + 1, 2, []
        for record in self.records:
            end += len(record.data) + 1
            if min(end, len(self.data)) > length:
                break
            found.append((line, record))
            line += 1 + record.text.count("\n")
        return found

    def rows(self, length: int | None = None) -> Counter[Row]:
        found = self.within(len(self.data) if length is None else length)
        return Counter(record.row for _, record in found if record.row is not None)

    def rejects(self, length: int | None = None) -> Counter[tuple[int, str]]:
        """Line and reason of each."""
        found = self.within(len(self.data) if length is None else length)
        return Counter((line, record.reason) for line, record in found if record.row is None)

    def begins_with(self, other: Content, length: int) -> bool:
        """Whether so many bytes of another one, which end a line, are its beginning."""
        beginning = other.data[:length]
        return len(beginning) == length and self.data[:length] == beginning and beginning.endswith(b"\n")


@dataclass(frozen=True, slots=True)
class Held:
    """What the table has of one file."""

    state: str  #: loaded; part: of steps; pending: its reload was killed before its first step; undoing
    content: Content
    committed: int = 0  #: bytes of `content`, where it is not loaded

    @property
    def length(self) -> int | None:
        return self.committed if self.state == "part" else None


@dataclass(frozen=True, slots=True)
class End:
    """One way in which a run may end for a file."""

    state: str  #: as the report has it
    held: Held | None


# what a run is to do -------------------------------------------------------------------------------------------------


class Prediction:
    """What a run that ends must have done with each file: the planner's rules, told again in terms of a dictionary."""

    def __init__(
        self, disk: dict[str, Content], held: dict[str, Held], options: dict[str, Any], *, begun: bool, ids: list[str]
    ) -> None:
        """`begun`: an earlier run began to replace the table, and did not end it; `ids`: in the order of the ledger."""
        self.disk = disk
        held = {name: held[name] for name in sorted(held, key=ids.index)}
        self.options = options
        self.budget: int = options["max_rejects"]
        self.held = {name: one for name, one in held.items() if one.state != "undoing" or not disk}
        self.before = dict(self.held)
        self.ends: dict[str, list[End]] = {}
        self.fits = True
        self.wholes: list[dict[str, Held]] = []  #: what the table may hold in the end, if not file by file
        if options["mode"] == "replace" and disk:
            self._replace(begun=begun)
            return
        self.first: dict[bytes, str] = {}
        changed = [n for n in sorted(disk) if self._is(n, "loaded") and not self._same(n)]
        self.replaced = set(changed) if options["on_change"] == "reload" else set()
        new = [n for n in sorted(disk) if not (self._is(n, "loaded") or self._is(n, "part") or self._is(n, "pending"))]
        for name in sorted(disk):
            if self._is(name, "part") or self._is(name, "pending"):
                self._part(name, self.held[name])
            elif self._is(name, "loaded") and self._same(name):
                self._ends(name, End("skipped", self.held[name]))
        for name in changed:
            self._changed(name, self.held[name])
        for name in new:
            self._new(name)

    def _replace(self, *, begun: bool) -> None:
        self.fits = all(content.rejects().total() <= self.budget for content in self.disk.values())
        there = {name: one.content.data for name, one in self.held.items()}
        # Where nothing is to be done, what was begun stays as it is.
        self.begun = begun and there == {name: content.data for name, content in self.disk.items()}
        if not self.fits:
            self.wholes.append(self.held)
        if self.fits or begun:  # what was collected before is not judged again
            self.wholes.append({name: Held("loaded", content) for name, content in self.disk.items()})

    def _is(self, name: str, state: str) -> bool:
        one = self.before.get(name)
        return one is not None and one.state == state and (state == "loaded" or one.committed > 0)

    def _same(self, name: str) -> bool:
        return self.before[name].content.data == self.disk[name].data

    def _ends(self, name: str, *ends: End) -> None:
        self.ends[name] = list(ends)

    def _loads(self, name: str, *, refused: tuple[Held | None, ...], behind: int = 0) -> None:
        """It is loaded, from a byte on, unless it has too many rejects: then one of `refused` is left of it."""
        content = self.disk[name]
        many = content.rejects().total()
        if many > self.budget and many > content.rejects(behind).total():
            self._ends(name, *(End("refused", left) for left in refused))
        else:
            self._ends(name, End("loaded", Held("loaded", content)))

    def _part(self, name: str, one: Held) -> None:
        if one.state == "pending":
            self.first.setdefault(self.disk[name].data, name)
            self._loads(name, refused=(Held("loaded", one.content), None))
        elif self._is_original(name, None):
            behind = one.committed if self.disk[name].begins_with(one.content, one.committed) else 0
            self._loads(name, refused=(None,), behind=behind)

    def _changed(self, name: str, one: Held) -> None:
        how, content = self.options["on_change"], self.disk[name]
        if how == "append-tail" and not one.content.records:
            how = "reload"
        if how == "skip":
            self._ends(name, End("skipped", one))
        elif how == "refuse":
            self._ends(name, End("refused", one))
        elif how == "reload":
            if self._is_original(name, one):
                self._loads(name, refused=(one, None))
        elif not content.begins_with(one.content, len(one.content.data)):
            self._ends(name, End("refused", one))
        elif self._is_original(name, one):
            self._loads(name, refused=(one,), behind=len(one.content.data))

    def _is_original(self, name: str, left: Held | None) -> bool:
        """Whether it is no duplicate of what is loaded, or will be, or may be one; else how it ends."""
        content = self.disk[name]
        if not content.records:
            return True
        loaded = [n for n, one in self.before.items() if one.state == "loaded" and one.content.data == content.data]
        if any(n != name and n not in self.replaced for n in loaded):
            twin = True
        else:
            twin = self.first.setdefault(content.data, name) != name
        if twin and self.options["on_duplicate"] != "load":
            self._ends(name, End("skipped" if self.options["on_duplicate"] == "skip" else "refused", left))
            return False
        return True

    def _new(self, name: str) -> None:
        content = self.disk[name]
        gone = [(other, one) for other, one in self.before.items() if other not in self.disk and other in self.held]
        if content.records:
            for other, one in gone:
                if one.state == "loaded" and one.content.data == content.data:
                    self._ends(name, End("skipped", self.held.pop(other)))
                    return
            for other, one in gone:
                if one.state != "loaded" and one.committed and content.begins_with(one.content, one.committed):
                    left = Held("loaded", one.content) if one.state == "pending" else None
                    del self.held[other]
                    self._loads(name, refused=(None, left), behind=one.committed)
                    return
        if self._is_original(name, None):
            self._loads(name, refused=(None,))


# the state machine ---------------------------------------------------------------------------------------------------

WORDS = ("", "a", "ü€", "a,b", 'so "it" is', "two\nlines", '",\n"', "x" * 60)
KINDS = ("good",) * 8 + ("ragged", "misfit", "bad_byte")
CHANGES = ("write", "append", "append", "cut", "write many", "rename", "copy", "remove", "touch")
MIB = 1 << 20
OPTIONS: dict[str, tuple[Any, ...]] = {
    "workers": (1, 2),
    "slice_bytes": (16 * MIB, 1_000, 150, 40),
    "commit_bytes": (256 * MIB, 1_500, 300, 1),
    "mode": ("append",) * 5 + ("replace",),
    "bulk": ("auto", "off"),
    "on_change": ("reload", "append-tail", "refuse", "skip"),
    "on_duplicate": ("refuse", "skip", "load"),
    "max_rejects": (100, 3, 1, 0),
    "verify_content": (False, True),
}
SEEDS = st.integers(0, 2**32 - 1)
"""Of a step: what it does is made of it by hand, for a step takes a second, and small ones would not be worth it."""
TOLD = {"delimiter": ",", "quote": '"', "escape": "none", "encoding": "utf-8", "header": "1", "comment": "none"}


class Model(RuleBasedStateMachine):
    """One database, one folder."""

    make: Callable[[], contextlib.AbstractContextManager[oracle.Database]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.db = self.stack.enter_context(type(self).make())
        self.place = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest-model-")))
        self.folder = self.place / "data"
        self.folder.mkdir()
        self.disk: dict[str, Content] = {}
        self.held: dict[str, Held] = {}
        self.numbers = itertools.count(1)
        self.runs = 0
        self.chance = random.Random(0)
        self.begun = False

    def teardown(self) -> None:
        self.stack.close()

    # files

    def record(self, kind: str, word: str, extra: bool) -> Record:
        number = next(self.numbers)
        first = f"x{number}" if kind == "misfit" else f"{number}"
        cell = f"\udcff{number}" if kind == "bad_byte" else '"' + word.replace('"', '""') + '"' if word else ""
        cells = [first, cell, *([f"e{number}"] if extra else []), *(["more"] if kind == "ragged" else [])]
        text = ",".join(cells)
        if kind != "good":
            return Record(text, None, {"misfit": "bad_integer"}.get(kind, kind))
        return Record(text, (f"{number}", word or None, f"e{number}" if extra else None))

    def records(self, count: int, extra: bool, kinds: tuple[str, ...] = KINDS) -> tuple[Record, ...]:
        return tuple(
            self.record(self.chance.choice(kinds), self.chance.choice(WORDS), extra)
            for _ in range(self.chance.randint(0, count))
        )

    def write(self, name: str, content: Content, *, unseen: bool = False) -> None:
        """`unseen`: with a time of change that is long past, and the same one each time."""
        path = self.folder / name
        path.write_bytes(content.data)
        if unseen:
            os.utime(path, (OLD, OLD))
        self.disk[name] = content

    def change(self) -> None:
        """Do something to a file; what cannot be done to it is left out."""
        what, flag = self.chance.choice(CHANGES), self.chance.random() < 0.3
        name, other = self.chance.choice(NAMES), self.chance.choice(NAMES)
        old = self.disk.get(name)
        note(f"{what} {name} {other} {flag}")
        if what == "write":
            extra = self.chance.random() < 0.2
            self.write(name, Content(self.records(12, extra), extra, not flag), unseen=flag)
        elif what == "write many":
            good = self.records(80, False, ("good",))
            self.write(name, Content(good + self.records(2, False)))
        elif old is None:
            return
        elif what == "append":
            more = self.records(20, old.extra, ("good",) if flag else KINDS)
            self.write(name, replace(old, records=old.records + more, ended=True))
        elif what == "cut":
            kept = old.records[: self.chance.randint(0, len(old.records))]
            self.write(name, replace(old, records=kept, ended=not flag), unseen=True)
        elif what == "remove":
            (self.folder / name).unlink()
            del self.disk[name]
        elif what == "rename":
            (self.folder / name).rename(self.folder / other)
            self.disk[other] = self.disk.pop(name)
        elif what == "copy" and name != other:
            shutil.copyfile(self.folder / name, self.folder / other)
            self.disk[other] = old
        elif what == "touch":
            (self.folder / name).touch()

    # runs

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        """Some files, and one of them is of many steps."""
        self.chance = random.Random(seed)
        for name, kinds, most in zip(NAMES, (("good",), KINDS, KINDS), (80, 12, 12), strict=False):
            self.write(name, Content(self.records(most, False, kinds)))

    def predict(self, options: dict[str, Any]) -> Prediction:
        """What is wanted of the next run."""
        if options["mode"] == "replace":
            options["on_duplicate"] = "load"  # which of two is taken rests on what was collected before
        wanted = Prediction(self.disk, self.held, options, begun=self.begun, ids=list(self.ledger()))
        self.begun = self.begun or options["mode"] == "replace"
        return wanted

    @rule(seed=SEEDS)
    def step(self, seed: int) -> None:
        """Some files change, and then there is a run; two of three are meant to be killed."""
        self.runs += 1
        self.chance = random.Random(f"{seed} {self.runs}")
        for _ in range(self.chance.randint(0, 3)):
            self.change()
        options = {name: self.chance.choice(of) for name, of in OPTIONS.items()}
        if self.chance.random() < 0.65:
            self.run_and_die(options)
        else:
            self.run(options)

    def run(self, options: dict[str, Any]) -> None:
        """A run in this process."""
        wanted = self.predict(options)
        note(f"{options}")
        budget, types = Budget(count=options["max_rejects"]), (parse_type("id=bigint"),)
        options |= {"max_rejects": budget, "declared": types, "told": parse_told(**TOLD, skip_rows=None)}
        report = tools.load(self.folder, self.db, table=TABLE, **options)
        self.check_ended(wanted, {os.path.basename(outcome.path): outcome for outcome in report.files})
        assert report.rows == 0 or report.count("skipped") < len(report.files)

    def run_and_die(self, options: dict[str, Any]) -> None:
        """A run in processes of its own; whoever comes by a place is killed, or only who is the first."""
        place, once = self.chance.choice(PLACES), self.chance.random() < 0.5
        if place in REPLACING:
            options["mode"] = "replace"
        wanted = self.predict(options)
        note(f"{place} {once} {options}")
        words: list[str] = []
        for name, value in {**options, **TOLD}.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag] * value if isinstance(value, bool) else [flag, str(value)]
        armed = f"{place}@{self.place / f'fired{self.runs}'}" if once else place
        command = ["load", "data", "--to", self.db, "--table", TABLE, "--type", "id=bigint", *words]
        done = tools.ingest(*command, cwd=self.place, timeout=120, INGEST_FAILPOINT=armed)
        note(f"exit code {done.returncode}\n{done.stderr}")
        assert ("Traceback" in done.stderr, done.returncode in (0, 1, 3, 4, -9)) == (False, True)
        if done.returncode in (0, 3, 4):
            self.check_ended(wanted)
        else:
            self.check_killed(wanted)

    # what must hold

    def check_ended(self, wanted: Prediction, told: dict[str, FileOutcome] | None = None) -> None:
        """The run ended: the table is what the model says, in one of the ways that it allows for a file."""
        rows = self.rows_by_file()
        self.held = {name: one for name, one in wanted.held.items() if name not in wanted.ends}
        if wanted.wholes:
            self.held = next((held for held in wanted.wholes if self.fits(held)), wanted.wholes[-1])
            self.begun = len(wanted.wholes) > 1 or not wanted.fits or wanted.begun
        for name, ends in wanted.ends.items():
            if told is not None:
                assert {end.state for end in ends} == {told[name].state}, (ends, told[name])
            there = rows.get(name, Counter())
            fitting = [end.held for end in ends if there == (end.held.content.rows() if end.held else Counter())]
            assert fitting, (name, there, ends)
            if fitting[0] is not None:
                self.held[name] = fitting[0]
        self.check_all()
        assert killing.spools(oracle.oracle(self.db).folder) == []
        if self.disk:
            assert self.loaded() == {name for name, one in self.held.items() if one.state == "loaded"}
            tools.assert_counts_add_up(self.db)

    def fits(self, held: dict[str, Held]) -> bool:
        """Whether the table may be that of such a model."""
        rows = {name: found for name, one in held.items() if (found := one.content.rows(one.length))}
        loaded = {name for name, one in held.items() if one.state == "loaded"}
        return self.rows_by_file() == rows and self.loaded() == loaded

    def check_killed(self, wanted: Prediction) -> None:
        """The run was killed: of each file the ledger says where it is, and the table agrees."""
        before, self.held = self.held, {}
        for name, row in self.ledger().items():
            known = [end.held for end in wanted.ends.get(name, ()) if end.held] + [
                one for other, one in before.items() if other == name or other not in self.disk
            ]
            contents = [one.content for one in known] + ([self.disk[name]] if name in self.disk else [])
            one = self.as_told(row, contents)
            if one is not None:
                self.held[name] = one
        self.check_all()

    def as_told(self, row: dict[str, Any], contents: list[Content]) -> Held | None:
        """What the ledger says is in the table of a file, which must be a content that may be there."""
        state, committed, sha256 = row["state"], row["committed_bytes"], row["sha256"]
        grew = json.loads(row["header"] or "{}").get("grew")
        if state == "started" and row["loaded_at"] is not None and grew and grew["from"] == committed:
            state, sha256 = "loaded", grew["sha256"]  # a tail that was killed changes nothing
        if state == "undoing":
            return Held("undoing", contents[0])
        if state != "loaded" and (state != "started" or not committed):
            return None
        if state == "loaded":
            kind, fitting = "loaded", [one for one in contents if one.sha256 == sha256]
        else:
            there = self.rows_by_file().get(row["path"], Counter())
            kind = "part" if row["loaded_at"] is None else "pending"
            length = committed if kind == "part" else None
            fitting = [one for one in contents if one.rows(length) == there]
        assert fitting, (row, contents)
        return Held(kind, fitting[0], committed)

    def check_all(self) -> None:
        """Table and rejects are what the model says, and every row has its file."""
        rows = self.rows_by_file()
        assert sum(rows.values(), Counter()) == self.in_table()
        rejects = self.rejects_by_file()
        undoing = {name for name, one in self.held.items() if one.state == "undoing"}
        for name in {*rows, *rejects, *self.held} - undoing:
            one = self.held.get(name)
            assert rows.get(name, Counter()) == (one.content.rows(one.length) if one else Counter()), name
            assert rejects.get(name, Counter()) == (one.content.rejects(one.length) if one else Counter()), name
        oracle.oracle(self.db).check()

    # what is there

    def ask(self, sql: str) -> list[dict[str, Any]]:
        database = oracle.oracle(self.db)
        return database.records(sql) if database.exists() and self.has_ledger() else []

    def has_ledger(self) -> bool:
        try:
            tools.query(self.db, "SELECT count(*) FROM ingest_reject")
        except oracle.oracle(self.db).missing:
            return False
        return True

    def ledger(self) -> dict[str, dict[str, Any]]:
        names = "path, state, committed_bytes, sha256, loaded_at, header"
        rows = self.ask(f"SELECT {names} FROM ingest_file {OF_TABLE} ORDER BY file_id")
        return {os.path.basename(row["path"]): row | {"path": os.path.basename(row["path"])} for row in rows}

    def loaded(self) -> set[str]:
        return {name for name, row in self.ledger().items() if row["state"] == "loaded"}

    def columns(self) -> list[str]:
        database = oracle.oracle(self.db)
        if not database.exists() or TABLE not in database.tables():
            return []
        there = database.columns(TABLE)
        return [name if name in there else "NULL" for name in ("id", "note", "extra")]

    def in_table(self) -> Counter[Row]:
        names = self.columns()
        rows = tools.query(self.db, f"SELECT {', '.join(names)} FROM {TABLE}") if names else []
        return Counter(tuple(None if value is None else str(value) for value in row) for row in rows)

    def rows_by_file(self) -> dict[str, Counter[Row]]:
        names = self.columns()
        found: dict[str, Counter[Row]] = {}
        if names and self.has_ledger():
            sql = f"SELECT path, {', '.join(names)} FROM {TABLE} JOIN ingest_file ON file_id = _ingest_file_id"
            for path, *values in tools.query(self.db, sql):
                row = tuple(None if value is None else str(value) for value in values)
                found.setdefault(os.path.basename(path), Counter())[row] += 1
        return found

    def rejects_by_file(self) -> dict[str, Counter[tuple[int, str]]]:
        """Line and reason of those of what is loaded."""
        found: dict[str, Counter[tuple[int, str]]] = {}
        joined = "ingest_reject JOIN ingest_file ON ingest_reject.file_id = ingest_file.file_id"
        for row in self.ask(f"SELECT path, line, ingest_reject.reason, applied FROM {joined} {OF_TABLE}"):
            if row["applied"]:
                found.setdefault(os.path.basename(row["path"]), Counter())[(row["line"], row["reason"])] += 1
        return found


# tests ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def on_sqlite() -> Any:
    """A new SQLite file."""
    with tempfile.TemporaryDirectory(prefix="ingest-model-db-") as folder:
        yield Path(folder) / "test.db"


BUSY = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def test_the_places_are_those_of_the_code() -> None:
    assert set(failpoints()) > ELSEWHERE | REPLACING


@pytest.mark.timeout(0 if MODEL else 900)
def test_the_table_is_what_the_model_says(request: pytest.FixtureRequest) -> None:
    server = None if MODEL_ON == "sqlite" else request.getfixturevalue(f"{MODEL_ON}_server")

    def make() -> Any:
        return on_sqlite() if server is None else oracle.on_server(server)

    kind = type("Model", (Model,), {"make": staticmethod(make)})
    few = settings(
        max_examples=MODEL or 4,
        stateful_step_count=12,
        derandomize=not MODEL,
        database=None,
        deadline=None,
        suppress_health_check=BUSY,
        print_blob=True,
        phases=[Phase.generate],  # a step takes a second, and to make a story shorter takes hundreds
    )
    run_state_machine_as_test(kind, settings=few)
