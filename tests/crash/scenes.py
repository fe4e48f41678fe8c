"""What is killed: small loads of every kind, each with what must be there in the end, known from its input alone.

A scene holds its files as bytes, and what has to become of each record: nobody asks the tool, or reads the files again.
`make` writes the files, `prepare` does what comes before the command that is killed (an earlier load, a table of the
user's, a change of the files), `words` are that command, and `judge` compares what the database holds.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import killing
import tools
from oracle import Database, oracle
from tools import ORDERS

Row = tuple[str | None, ...]
Record = tuple[str, ...]
Run = Callable[..., subprocess.CompletedProcess[str]]
"""How a command line is run: `tools.ingest`, or something that does the same."""

STEPS = ("--slice-bytes", "1KiB", "--commit-bytes", "3KiB", "--progress", "none")
"""So small that a file of a few hundred records is committed in several steps."""

SERVERS = frozenset({"postgresql", "mariadb"})
EVERYWHERE = SERVERS | {"sqlite"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the database must hold in the end."""

    rows: dict[str, Counter[Row]]  #: by table, its columns in the order of `Scene.columns`
    files: dict[str, str]  #: the state of each file that the ledger knows, by name
    #: By file, raw text, and whether it was `set aside`, is shown of a `refused` file, or was `closed`.
    rejects: Counter[tuple[str, str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A load to be killed."""

    name: str
    files: dict[str, bytes]  #: below `in/`
    words: tuple[str, ...]  #: what is killed and repeated, without `--to`
    truth: Truth
    columns: dict[str, Sequence[str]]  #: by table
    exit_codes: frozenset[int] = frozenset({0})  #: of a run that came to its end
    again: int = 0  #: the exit code once there is nothing left to do
    databases: frozenset[str] = EVERYWHERE
    sql: tuple[str, ...] = ()  #: statements that come first, as a user's own
    before: tuple[str, ...] = ()  #: a load that comes before
    sql_after: tuple[str, ...] = ()  #: statements after that load
    changed: dict[str, bytes | None] = field(default_factory=dict)  #: after that load; None: the file is removed
    moved: dict[str, str] = field(default_factory=dict)  #: after that load
    mends: Callable[[Path], None] | None = None  #: mends what that load has rejected, in its exported file

    def make(self, folder: Path) -> None:
        """Write the files, all of an old time."""
        for name, content in self.files.items():
            _write(folder / "in" / name, content)

    def prepare(self, db: Database, folder: Path, run: Run = tools.ingest) -> None:
        """What comes before the command that is killed: after `make`, into an empty database."""
        for statement in self.sql:
            tools.query(db, statement)
        if not self.before:
            return
        done = run(*self.before, "--to", db, cwd=folder)
        assert done.returncode in (0, 3), done.stderr
        for name, content in self.changed.items():
            if content is None:
                (folder / "in" / name).unlink()
            else:
                _write(folder / "in" / name, content)
        for old, new in self.moved.items():
            (folder / "in" / old).rename(folder / "in" / new)
        for statement in self.sql_after:
            tools.query(db, statement)
        if self.mends is not None:
            (folder / "fixed.csv").unlink(missing_ok=True)  # of an earlier round
            done = run("rejects", "export", "fixed.csv", "--to", db, cwd=folder)
            assert done.returncode == 0, done.stderr
            self.mends(folder / "fixed.csv")

    def command(self, db: Database, *more: object, workers: int = 1) -> tuple[object, ...]:
        """The words of the command that is killed, for `tools.start` and `tools.ingest`, in the scene's folder."""
        many = ("--workers", workers) if self.words[0] == "load" else ()
        return (*self.words, "--to", db, *many, *more)

    def start(
        self, db: Database, folder: Path, *more: object, workers: int = 1, **environment: str
    ) -> subprocess.Popen[str]:
        """The command, started."""
        return tools.start(*self.command(db, *more, workers=workers), cwd=folder, **environment)

    def judge(self, db: Database, folder: Path, run: Run = tools.ingest, *, workers: int = 1) -> None:
        """After a run that came to its end: all is as it must be, and the same command once more changes nothing."""
        self.judge_content(db)
        self._judge_rest(db)
        if self.words[0] == "load":
            before = tools.query(db, "SELECT run_id FROM ingest_run ORDER BY run_id")
        done = run(*self.command(db, workers=workers), cwd=folder)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == self.again, (done.returncode, done.stderr)
        if self.words[0] == "load":
            runs = tools.query(db, "SELECT run_id, files_loaded, rows_loaded FROM ingest_run ORDER BY run_id")
            assert [run[:1] for run in runs[:-1]] == before  # a server that was killed may leave numbers out
            assert runs[-1][1:] == (0, 0), "the run after the last one found something to load"
        self.judge_content(db)
        self._judge_rest(db)
        oracle(db).check()

    def judge_content(self, db: Database) -> None:
        """Every record of every file is in exactly one place."""
        for table, wanted in self.truth.rows.items():
            _assert_same(tools.stored(db, table, self.columns[table]), wanted, f"rows of {table}")
        assert oracle(db).tables() == set(self.truth.rows)
        found = tools.query(db, "SELECT path, state FROM ingest_file")
        states = [(os.path.basename(path), state) for path, state in found]
        assert sorted(states) == sorted(self.truth.files.items())
        rejects = tools.query(
            db,
            "SELECT f.path, r.raw, r.applied, r.closed_run_id"
            " FROM ingest_reject r LEFT JOIN ingest_file f ON f.file_id = r.file_id",
        )
        places = Counter(
            (os.path.basename(path or "?"), raw, "closed" if closed else "set aside" if applied else "refused")
            for path, raw, applied, closed in rejects
        )
        _assert_same(places, self.truth.rejects, "rejects")
        tools.assert_counts_add_up(db)

    def _judge_rest(self, db: Database) -> None:
        """Nothing is left of the way there."""
        of = oracle(db)
        if of.kind == "sqlite":
            assert not of.leased()
        else:  # a server that was killed as the lease was given back has kept it: the next run takes it from the dead
            leases = tools.query(db, "SELECT pid FROM ingest_lease WHERE holder IS NOT NULL")
            assert not [pid for (pid,) in leases if killing.alive(pid)]
        assert killing.spools(of.folder) == [], f"left: {killing.spools(of.folder)}"
        assert tools.query(db, "SELECT table_name FROM ingest_table WHERE state <> 'ready'") == []
        assert tools.query(db, "SELECT run_id FROM ingest_run WHERE state = 'running'") == []
        if of.kind == "sqlite":
            assert isinstance(db, Path)
            assert [path.name for path in db.parent.iterdir()] == [db.name]


def _assert_same(found: Counter[tuple[str, ...]] | Counter[Row], wanted: object, what: str) -> None:
    """Two multisets are equal; else what is too much and what is missing, not all of both."""
    assert isinstance(wanted, Counter)
    more, less = found - wanted, wanted - found
    told = f"{what}: {more.total()} too many, as {list(more)[:3]}; {less.total()} missing, as {list(less)[:3]}"
    assert more.total() + less.total() == 0, told


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    killing.aged(path)


# content -------------------------------------------------------------------------------------------------------


def records(first: int, count: int) -> list[Record]:
    """Orders, each another one: id, customer, amount, day, note."""
    return [
        (
            str(i),
            f"c{i % 97}",
            f"{i % 800}.{i % 100:02d}",
            f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}",
            f"n{i}" * (i % 5),
        )
        for i in range(first, first + count)
    ]


def text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def turned(by: int, rows: Sequence[Record]) -> str:
    """A file of orders whose columns stand in another order, so that it travels alone."""
    return text(ORDERS[by:] + ORDERS[:by], [row[by:] + row[:by] for row in rows])


def as_rows(found: Iterable[Sequence[str]]) -> Counter[Row]:
    """The same as rows of a table: what is empty is NULL."""
    return Counter(tuple(value or None for value in record) for record in found)


DECLARED = ("--type", "id=bigint", "--type", "amount=double", "--type", "day=date")


def append(scale: int = 1) -> Scene:
    """Every kind of file: of several steps, a bundle, packed, UTF-16, with rejects, refused after some steps."""
    parts = {
        1: records(1_000, 150 * scale),
        2: records(20_000, 4 * scale),
        3: records(30_000, 3 * scale),
        4: records(40_000, 2 * scale),
        5: records(50_000, 90 * scale),
        6: records(60_000, 40 * scale),
        7: records(70_000, 40 * scale),
    }
    half = len(parts[1]) // 2
    steps = turned(2, parts[1][:half]) + turned(2, parts[1][half:])  # the header comes again, and is left out
    bad = ["2024-01-01,no number,x70,c,1.00", "70001,too,few"]
    lines = turned(3, parts[7]).splitlines(keepends=True)
    lines[11:11] = [line + "\n" for line in bad]
    too_many = [f"8,{i},too few" for i in range(5)]
    refused = turned(4, records(80_000, 150 * scale)) + "".join(f"{line}\n" for line in too_many)
    files = {
        "orders_1.csv": steps.encode(),
        **{f"orders_{i}.csv": text(ORDERS, parts[i]).encode() for i in (2, 3, 4)},
        "orders_5.csv.gz": gzip.compress(text(ORDERS, parts[5]).encode(), mtime=0),
        "orders_6.csv": text(ORDERS, parts[6]).encode("utf-16"),
        "orders_7.csv": "".join(lines).encode(),
        "orders_8.csv": refused.encode(),
        "days.csv": text(["day", "name"], [("1", "one"), ("2", "two")]).encode(),
    }
    return Scene(
        name="append",
        files=files,
        words=("load", "in", *STEPS, *DECLARED[:4], "--max-rejects", "3"),
        exit_codes=frozenset({4}),
        again=4,
        columns={"orders": ORDERS, "days": ("day", "name")},
        truth=Truth(
            rows={
                "orders": as_rows(row for part in parts.values() for row in part),
                "days": as_rows([("1", "one"), ("2", "two")]),
            },
            files={name: "refused" if name == "orders_8.csv" else "loaded" for name in files},
            rejects=Counter(
                {("orders_7.csv", line, "set aside"): 1 for line in bad}
                | {("orders_8.csv", line, "refused"): 1 for line in too_many}
            ),
        ),
    )


def existing(scale: int = 1) -> Scene:
    """A table of the user's, with a key and a CHECK: it has no lineage, and what it refuses is found by savepoints."""
    there = records(5, 2)
    parts = {1: records(1_000, 120 * scale), 2: records(20_000, 5), 3: records(30_000, 5)}
    bad: dict[int, list[Record]] = {
        1: [
            (parts[1][3][0], "again", "1.00", "2024-01-01", "a key that is there"),
            ("1", "dear", "950.00", "2024-01-01", "more than the CHECK allows"),
        ],
        2: [(there[0][0], "again", "2.00", "2024-01-02", "a key that the user has")],
        3: [],
    }
    made = {1: turned(1, [*parts[1][:60], *bad[1], *parts[1][60:]])}
    made |= {i: text(ORDERS, [*parts[i][:2], *bad[i], *parts[i][2:]]) for i in (2, 3)}
    raw = {1: [",".join(row[1:] + row[:1]) for row in bad[1]], 2: [",".join(row) for row in bad[2]], 3: []}
    return Scene(
        name="append-existing",
        files={f"orders_{i}.csv": content.encode() for i, content in made.items()},
        words=("load", "in", *STEPS, "--max-rejects", "3"),
        exit_codes=frozenset({0, 3}),
        sql=(
            "CREATE TABLE orders (note VARCHAR(99), id INTEGER NOT NULL PRIMARY KEY, customer VARCHAR(20),"
            " amount DOUBLE PRECISION, day DATE, CONSTRAINT cheap CHECK (amount < 900))",
            *(
                f"INSERT INTO orders (id, customer, amount, day, note) VALUES ({i}, '{c}', {a}, '{d}', '{n}')"
                for i, c, a, d, n in there
            ),
        ),
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows([*there, *(row for part in parts.values() for row in part)])},
            files={f"orders_{i}.csv": "loaded" for i in made},
            rejects=Counter((f"orders_{i}.csv", line, "set aside") for i, lines in raw.items() for line in lines),
        ),
    )


def _keyed(mode: str, scale: int) -> Scene:
    """Files that have keys in common with each other and with those of an earlier load."""
    old = {1: records(0, 40 * scale)}
    new = {
        2: [(*row[:4], "of 2") for row in records(20, 60 * scale)],
        3: [(*row[:4], "of 3") for row in records(70, 6)],
        4: [(*row[:4], "of 4") for row in [*records(72, 5), *records(72, 5)]],
    }
    merged: dict[str, Record] = {}
    for row in (row for part in (old, new) for rows in part.values() for row in rows):
        if mode == "upsert" or row[0] not in merged:
            merged[row[0]] = row
    words = ("load", "in", *STEPS, "--mode", mode, "--key", "id")
    made = {1: text(ORDERS, old[1]), 2: turned(3, new[2]), 3: text(ORDERS, new[3]), 4: text(ORDERS, new[4])}
    files = {f"orders_{i}.csv": content.encode() for i, content in made.items()}
    return Scene(
        name="upsert" if mode == "upsert" else "ignore",
        files={"orders_1.csv": files["orders_1.csv"]},
        before=words,
        changed={name: content for name, content in files.items() if name != "orders_1.csv"},
        words=words,
        columns={"orders": ORDERS},
        truth=Truth(rows={"orders": as_rows(merged.values())}, files=dict.fromkeys(files, "loaded")),
    )


def upsert(scale: int = 1) -> Scene:
    """Records that take the place of rows."""
    return _keyed("upsert", scale)


def ignore(scale: int = 1) -> Scene:
    """Records that are left out for rows."""
    return _keyed("insert-ignore", scale)


def replace(scale: int = 1) -> Scene:
    """A table that is filled anew, beside the old one."""
    parts = {1: records(1_000, 120 * scale), 2: records(20_000, 4), 3: records(30_000, 4)}
    made = {1: turned(2, parts[1]), 2: text(ORDERS, parts[2]), 3: text(ORDERS, parts[3])}
    files = {f"orders_{i}.csv": content.encode() for i, content in made.items()}
    return Scene(
        name="replace",
        files={"orders_1.csv": text(ORDERS, records(500, 30)).encode(), "orders_9.csv": b"id,note\n9,old\n"},
        before=("load", "in", *STEPS, *DECLARED),
        changed={**files, "orders_9.csv": None},
        words=("load", "in", *STEPS, "--mode", "replace"),
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows(row for part in parts.values() for row in part)},
            files=dict.fromkeys(files, "loaded"),
        ),
    )


def reload(scale: int = 1) -> Scene:
    """Files that changed; beside them one that was moved, one that was only touched, and a new one."""
    old = {1: records(1_000, 60 * scale), 2: records(20_000, 4), 3: records(30_000, 4), 4: records(40_000, 4)}
    new = {1: records(1_030, 120 * scale), 2: records(20_002, 4), 5: records(50_000, 4)}
    made = {1: turned(1, old[1])} | {i: text(ORDERS, old[i]) for i in (2, 3, 4)}
    later = {1: turned(1, new[1])} | {i: text(ORDERS, new[i]) for i in (2, 5)}
    return Scene(
        name="reload",
        files={f"orders_{i}.csv": content.encode() for i, content in made.items()},
        before=("load", "in", *STEPS),
        changed={f"orders_{i}.csv": content.encode() for i, content in later.items()},
        moved={"orders_3.csv": "orders_33.csv"},
        words=("load", "in", *STEPS, "--on-change", "reload", "--verify-content"),
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows(row for part in (*new.values(), old[3], old[4]) for row in part)},
            files={f"orders_{i}.csv": "loaded" for i in ("1", "2", "33", "4", "5")},
        ),
    )


def tail(scale: int = 1) -> Scene:
    """Files that grew, a packed one among them; one of them with a reject in its tail."""
    old = {1: records(1_000, 30), 2: records(20_000, 4), 3: records(30_000, 10)}
    new = {1: records(1_030, 120 * scale), 2: records(20_004, 5), 3: records(30_010, 60 * scale)}
    bad = "2x,not,a,number"
    made = {i: turned(i, rows) for i, rows in old.items()}
    grown = {i: turned(i, old[i] + new[i]) for i in old}
    grown[2] += bad + "\n"

    def files(of: dict[int, str]) -> dict[str, bytes]:
        plain = {f"orders_{i}.csv": content.encode() for i, content in of.items() if i != 3}
        return plain | {"orders_3.csv.gz": gzip.compress(of[3].encode(), mtime=0)}

    return Scene(
        name="tail",
        files=files(made),
        before=("load", "in", *STEPS, "--max-rejects", "2"),
        changed=dict(files(grown)),
        words=("load", "in", *STEPS, "--max-rejects", "2", "--on-change", "append-tail"),
        exit_codes=frozenset({0, 3}),
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows(row for part in (*old.values(), *new.values()) for row in part)},
            files=dict.fromkeys(files(made), "loaded"),
            rejects=Counter({("orders_2.csv", bad, "set aside"): 1}),
        ),
    )


def columns(scale: int = 1) -> Scene:
    """A file with two columns more than the table: they are added to it first."""
    old, new = records(1_000, 20), records(2_000, 100 * scale)
    wide = [(*row, str(i), "y" * (i % 3)) for i, row in enumerate(new)]
    files = {"orders_2.csv": text([*ORDERS, "size", "kind"], wide).encode()}
    return Scene(
        name="columns",
        files={"orders_1.csv": text(ORDERS, old).encode()},
        before=("load", "in", *STEPS),
        changed=dict(files),
        words=("load", "in", *STEPS),
        columns={"orders": (*ORDERS, "size", "kind")},
        truth=Truth(
            rows={"orders": as_rows([*((*row, "", "") for row in old), *wide])},
            files={"orders_1.csv": "loaded", "orders_2.csv": "loaded"},
        ),
    )


def widen(scale: int = 1) -> Scene:
    """Values that their columns do not take: the columns' types are changed first."""
    old = [(str(i), str(i)) for i in range(20)]
    new = [(str(i), f"{i:05d}") for i in range(20, 20 + 100 * scale)]
    return Scene(
        name="widen",
        databases=SERVERS,
        files={"t_1.csv": text(["id", "n"], old).encode()},
        before=("load", "in", *STEPS),
        changed={"t_2.csv": text(["id", "n"], new).encode()},
        words=("load", "in", *STEPS, "--on-misfit", "widen"),
        columns={"t": ("id", "n")},
        truth=Truth(rows={"t": as_rows(old + new)}, files={"t_1.csv": "loaded", "t_2.csv": "loaded"}),
    )


def lost(scale: int = 1) -> Scene:
    """A table that somebody has dropped: its files are loaded again."""
    parts = {1: records(1_000, 100 * scale), 2: records(20_000, 4), 3: records(30_000, 4)}
    made = {1: turned(1, parts[1])} | {i: text(ORDERS, parts[i]) for i in (2, 3)}
    return Scene(
        name="lost",
        files={f"orders_{i}.csv": content.encode() for i, content in made.items()},
        before=("load", "in", *STEPS),
        sql_after=("DROP TABLE orders",),
        words=("load", "in", *STEPS, "--on-lost", "reload"),
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows(row for part in parts.values() for row in part)},
            files={f"orders_{i}.csv": "loaded" for i in made},
        ),
    )


def mend(scale: int = 1) -> Scene:
    """Rejects that were mended, and are loaded into the table that they were meant for."""
    rows = records(1_000, 30 * scale)
    good, bad, hopeless = rows[8:], rows[:8], "99,still,bad"
    broken = [",".join(("x" + row[0], *row[1:])) for row in bad]
    content = text(ORDERS, good) + "".join(f"{line}\n" for line in [*broken, hopeless])

    def mended(path: Path) -> None:
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = csv.reader(file)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *([*line[:4], line[4].removeprefix("x"), *line[5:]] for line in lines)])

    return Scene(
        name="mend",
        files={"orders_1.csv": content.encode()},
        before=("load", "in", *STEPS, *DECLARED, "--max-rejects", "20"),
        mends=mended,
        words=("rejects", "load", "fixed.csv"),
        exit_codes=frozenset({3, 4}),  # 4: of what was closed before it was killed, each line is refused by name
        again=4,
        columns={"orders": ORDERS},
        truth=Truth(
            rows={"orders": as_rows(rows)},
            files={"orders_1.csv": "loaded"},
            rejects=Counter(
                {("orders_1.csv", hopeless, "set aside"): 1} | {("orders_1.csv", line, "closed"): 1 for line in broken}
            ),
        ),
    )


MAKERS: tuple[Callable[[int], Scene], ...] = (
    append,
    existing,
    upsert,
    ignore,
    replace,
    reload,
    tail,
    columns,
    widen,
    lost,
    mend,
)

SCENES: dict[str, Scene] = {scene.name: scene for scene in (make(1) for make in MAKERS)}
"""Every scene, by its name, as small as it can be."""


def scene(name: str, scale: int = 1) -> Scene:
    """A scene by its name; `scale`: with so many times the records."""
    return next(made for made in (make(scale) for make in MAKERS) if made.name == name)
