"""Whatever changes while files are read, or between a run that was killed and the next: no row is wrong or there twice.

Files that change, options that change, tables and the ledger changed by hand: what a run says it has loaded is in the
table as it is in the file, once; everything else is refused, with exit code 4 and what to type. The full product of
changes, moments and kinds of file takes `--whole`; a share of it runs each time.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import os
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import killing
import pytest
import tools
from oracle import Database, OnServer, oracle

from ingest import parts
from ingest.settings import Settings

pytestmark = pytest.mark.every_target

ROWS = 8_000
STEPS = ("--slice-bytes", "16KiB", "--commit-bytes", "48KiB")
Rows = list[list[str]]


def rows_of(first: int, count: int, note: str = 'a "q",\n') -> Rows:
    """Records with line ends inside quotes, so that no line end alone can tell where one ends."""
    return [[str(i), f"c{i}", f"{i}.25", "2024-01-01", f"{note}{i}"] for i in range(first, first + count)]


def text_of(rows: Rows, header: Iterable[str] = tools.ORDERS) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def counted(*files: Rows) -> Counter[tools.Row]:
    return Counter(tuple(field or None for field in row) for rows in files for row in rows)


def stored(db: Database) -> Counter[tools.Row]:
    if "orders" not in oracle(db).tables():
        return Counter()
    return tools.stored(db, "orders", tools.ORDERS)


# kinds of file: each writes a text to its path, in place


def _plain(path: Path, text: str) -> None:
    _over(path, text.encode())


def _packed(path: Path, text: str) -> None:
    # Stored, not compressed: other content of the same length takes as many bytes.
    _over(path, gzip.compress(text.encode(), compresslevel=0, mtime=0))


def _encoded(path: Path, text: str) -> None:
    _over(path, text.encode("utf-16"))


def _archived(path: Path, text: str) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("orders_1.csv"), text)
    _over(path, made.getvalue())


def _over(path: Path, data: bytes) -> None:
    """Over what is there, in the file that is there."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(data)
        file.truncate()


Write = Callable[[Path, str], None]
KINDS: dict[str, tuple[str, Write]] = {
    "plain": ("orders_1.csv", _plain),
    "gzip": ("orders_1.csv.gz", _packed),
    "utf-16": ("orders_1.csv", _encoded),
    "zip": ("all.zip", _archived),
}

BIG, SMALL = rows_of(0, ROWS), rows_of(90_000, 20)


# changes: each makes another file of the one that is there, and returns the rows of it; None: there is none


def append(path: Path, write: Write) -> Rows | None:
    write(path, text_of(rows := BIG + rows_of(50_000, 300)))
    return rows


def cut(path: Path, write: Write) -> Rows | None:
    write(path, text_of(rows := BIG[: ROWS // 2]))
    return rows


def cut_short(path: Path, write: Write) -> Rows | None:
    """To less than the first step."""
    write(path, text_of(rows := BIG[:10]))
    return rows


def empty(path: Path, write: Write) -> Rows | None:
    write(path, text_of([]))
    return []


def replace(path: Path, write: Write) -> Rows | None:
    other = path.with_name(f"being-written.{path.name}.tmp")
    write(other, text_of(rows := rows_of(0, ROWS, note="other ")))
    other.rename(path)
    return rows


def rewrite(path: Path, write: Write, number: int) -> Rows | None:
    """One value, with the same size and time of change."""
    before = path.stat()
    rows = [list(row) for row in BIG]
    rows[number][1] = "X" * len(rows[number][1])
    write(path, text_of(rows))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    return rows


def rewrite_head(path: Path, write: Write) -> Rows | None:
    return rewrite(path, write, 0)


def rewrite_end(path: Path, write: Write) -> Rows | None:
    return rewrite(path, write, ROWS - 1)


def delete(path: Path, write: Write) -> Rows | None:
    path.unlink()
    return None


def move_and_change(path: Path, write: Write) -> Rows | None:
    rows = rewrite_head(path, write)
    name = path.name
    path.rename(path.with_name("moved.zip" if name.endswith("zip") else name.replace("_1", "_2")))
    return rows


def touch(path: Path, write: Write) -> Rows | None:
    os.utime(path, (1_800_000_000, 1_800_000_000))
    return BIG


CHANGES = (
    *(append, cut, cut_short, empty, replace, rewrite_head, rewrite_end),
    *(delete, move_and_change, touch),
)


def folder_of(tmp_path: Path, kind: str = "plain") -> Path:
    """A folder with one file of many steps, and a small one of the same table; the path of the first."""
    name, write = KINDS[kind]
    path = tmp_path / "in" / name
    write(path, text_of(BIG))
    (small := path.with_name("orders_0.csv")).write_text(text_of(SMALL))
    killing.aged(path, small)
    return path


def midway(
    tmp_path: Path, db: Database, *options: str, then: Callable[[], object] = lambda: None, kill: bool = True
) -> int:
    """A run that is held when a part is committed, and killed, or let go on; its exit code."""
    run = tools.start("load", "in", "--to", db, "--progress", "none", *STEPS, *options, cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        if kill:
            killing.kill(*found.all)
            killing.assert_gone(found.all)
        then()
    code, _, said = killing.finish(run)
    assert "Traceback" not in said
    return code


def load(tmp_path: Path, db: Database, **settings: Any) -> Any:
    return tools.load(tmp_path / "in", db, **settings)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["while it is read", "between two attempts"])
def test_a_file_that_changes_is_loaded_as_it_is_or_refused(
    tmp_path: Path, db: Database, moment: str, change: Callable[[Path, Write], Rows | None], kind: str
) -> None:
    path, write = folder_of(tmp_path, kind), KINDS[kind][1]
    new: list[Rows | None] = []
    if moment == "while it is read":
        code = midway(tmp_path, db, kill=False, then=lambda: new.append(change(path, write)))
    else:
        midway(tmp_path, db)
        new.append(change(path, write))
        code = load(tmp_path, db).exit_code
    now, old, was = counted(SMALL, new[0] or []), counted(SMALL, BIG), stored(db)
    if code == 0:
        # What changes after it was read is loaded as it was; that is seen by the next run.
        assert was in ((now, old) if moment == "while it is read" else (now,))
    else:
        assert (code, was) == (4, counted(SMALL))
    report = load(tmp_path, db, on_change="reload")
    assert report.exit_code == 0, report.files
    assert stored(db) == (was if new[0] is None else now)
    oracle(db).check()


# what a killed run leaves, and another command


def test_another_attempt_that_was_killed_before_its_first_move_leaves_no_mixture(tmp_path: Path, db: Database) -> None:
    folder_of(tmp_path)
    midway(tmp_path, db)
    null = ("--null", "c7", "--null", f"c{ROWS - 1}")
    again = tools.ingest("load", "in", "--to", db, *null, cwd=tmp_path, INGEST_FAILPOINT="after_register")
    assert again.returncode == -9
    # It had written its options down, over those that the part in the table was read with.
    assert load(tmp_path, db, null=("c7", f"c{ROWS - 1}")).exit_code == 0
    rows = [[*row[:1], "" if row[1] in ("c7", f"c{ROWS - 1}") else row[1], *row[2:]] for row in BIG]
    assert stored(db) == counted(SMALL, rows)


@pytest.mark.parametrize("choice", ["refuse", "skip"])
def test_a_copy_is_not_loaded_beside_what_is_gone_on_with(tmp_path: Path, db: Database, choice: str) -> None:
    path = folder_of(tmp_path)
    shutil.copy2(path, path.with_name("orders_2.csv"))
    midway(tmp_path, db)
    report = load(tmp_path, db, on_duplicate=choice)
    assert report.exit_code == (4 if choice == "refuse" else 0)
    assert stored(db) == counted(SMALL, BIG)
    ended = {tools.told(report)[name] for name in ("orders_1.csv", "orders_2.csv")}
    assert ended == {("loaded", "part_loaded"), ("refused" if choice == "refuse" else "skipped", "duplicate")}


@pytest.mark.parametrize("choice", ["refuse", "skip"])
def test_what_is_there_of_a_file_that_became_the_copy_of_another_is_taken_back(
    tmp_path: Path, db: Database, choice: str
) -> None:
    path = folder_of(tmp_path)
    assert load(tmp_path, db, include=("orders_0.csv",)).exit_code == 0
    midway(tmp_path, db)
    shutil.copy(path.with_name("orders_0.csv"), path)
    report = load(tmp_path, db, on_duplicate=choice)
    assert report.exit_code == (4 if choice == "refuse" else 0)
    assert stored(db) == counted(SMALL)
    assert tools.known(db, path)["rows_loaded"] == 0
    assert load(tmp_path, db, on_duplicate="load").exit_code == 0
    assert stored(db) == counted(SMALL, SMALL)


def test_what_is_there_of_a_file_that_is_gone_is_taken_back_and_told(tmp_path: Path, db: Database) -> None:
    path = folder_of(tmp_path)
    data = path.read_bytes()
    midway(tmp_path, db)
    path.unlink()
    os.mkfifo(path)  # which is no file either
    report = load(tmp_path, db)
    assert report.exit_code == 0
    assert any("no longer there" in text and str(path) in text for text in report.warnings)
    assert report.vanished == (str(path),)
    assert stored(db) == counted(SMALL)
    assert tools.known(db, path)["state"] == "refused"
    path.unlink()
    path.write_bytes(data)
    assert load(tmp_path, db).exit_code == 0
    assert stored(db) == counted(SMALL, BIG)


def test_rows_of_a_gone_file_that_stay_are_told_of_each_time_and_stop_no_other_file(
    tmp_path: Path, db: Database
) -> None:
    """The run that begins to take them back is killed; another table refers to them then."""
    path = folder_of(tmp_path)
    midway(tmp_path, db)
    path.unlink()
    words = ("load", "in", "--to", db, "--progress", "none")
    assert tools.ingest(*words, cwd=tmp_path, INGEST_FAILPOINT="before_undo").returncode == -signal.SIGKILL
    assert tools.known(db, path)["state"] == "undoing"
    assert (begun := len(stored(db))) > 0
    with tools.referred_to(db, 3):
        for _ in range(2):
            report = load(tmp_path, db)
            assert report.exit_code == 0
            assert [text for text in report.warnings if str(path) in text and "could not be taken back" in text]
            assert len(stored(db)) == begun + len(SMALL)
    assert load(tmp_path, db).exit_code == 0
    assert stored(db) == counted(SMALL)
    assert tools.known(db, path)["state"] == "refused"


def test_a_gone_file_whose_rows_the_database_keeps_stops_no_other_file(tmp_path: Path, db: Database) -> None:
    path = folder_of(tmp_path)
    midway(tmp_path, db)
    path.unlink()
    with tools.referred_to(db, 3):
        tools.orders(tmp_path / "in" / "orders_3.csv", 10, first=95_000)
        report = load(tmp_path, db)
        assert report.exit_code == 0
        assert [text for text in report.warnings if str(path) in text and "could not be taken back" in text]
        assert tools.known(db, path)["state"] == "undoing"
    assert load(tmp_path, db).exit_code == 0
    assert len(stored(db)) == len(SMALL) + 10


def without(*names: str) -> Callable[[Rows], Rows]:
    gone = [tools.ORDERS.index(name) for name in names]
    return lambda rows: [["" if i in gone else field for i, field in enumerate(row)] for row in rows]


OPTIONS: dict[str, tuple[dict[str, Any], Callable[[Rows], Rows] | None]] = {
    "where": ({"where": "id >= 100"}, lambda rows: [row for row in rows if int(row[0]) >= 100]),
    "transform": ({"transform": "mine:upper"}, lambda rows: [[*row[:1], row[1].upper(), *row[2:]] for row in rows]),
    "rename": ({"rename": (("note", "remark"),)}, without("note")),
    "names": ({"names": "snake"}, lambda rows: rows),
    "ragged": ({"ragged": "pad"}, lambda rows: rows),
    "types": ({"types": "text", "bulk": "off", "start_method": "spawn", "workers": 1}, lambda rows: rows),
    "lineage": ({"lineage": "none", "new_columns": "ignore"}, lambda rows: rows),
    "encoding": ({"told": {"encoding": "iso8859-1"}}, lambda rows: rows),
    "decimal": ({"decimal": ",", "types": "text"}, None),
    "delimiter": ({"told": {"delimiter": ";"}}, None),
    "header": ({"told": {"header": 0}}, None),
    "quote": ({"told": {"quote": ""}}, None),
    "mode": ({"mode": "upsert", "key": ("id",)}, None),
}
"""Options of a second attempt, and what becomes of the rows with them; None: it is refused."""


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIONS)
def test_a_part_is_never_gone_on_with_in_another_way(
    tmp_path: Path, db: Database, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("def upper(f):\n    return f.assign(customer=f['customer'].str.upper())\n")
    monkeypatch.chdir(tmp_path)
    settings, becomes = OPTIONS[name]
    if "told" in settings:
        settings = settings | {"told": dataclasses.replace(Settings().told, **settings["told"])}
    folder_of(tmp_path)
    midway(tmp_path, db)
    before = stored(db)
    report = load(tmp_path, db, on_change="reload", **settings)
    ended = tools.told(report)["orders_1.csv"][0]
    if becomes is None:
        assert (report.exit_code, ended) == (4, "refused"), report.files
        assert stored(db) in (before, counted(SMALL), counted())
    else:
        assert (report.exit_code, ended) == (0, "loaded"), report.files
        small = SMALL if tools.told(report)["orders_0.csv"][0] == "skipped" else becomes(SMALL)
        assert stored(db) == counted(small, becomes(BIG))


def test_a_part_is_not_gone_on_with_by_another_transform_of_the_same_name(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("def change(f):\n    return f.assign(customer=f['customer'].str.upper())\n")
    folder_of(tmp_path)
    midway(tmp_path, db, "--transform", "mine:change", "--include", "orders_1.csv")
    (tmp_path / "mine.py").write_text("def change(f):\n    return f.assign(note=f['customer'])\n")
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, db, include=("orders_1.csv",), transform="mine:change").exit_code == 0
    assert stored(db) == counted([[*row[:4], row[1]] for row in BIG])


def test_every_setting_is_known_to_change_what_is_read_or_not_to() -> None:
    """Whoever adds an option has to say here whether a file may be gone on with under another value of it."""
    another_way = {*parts.OPTIONS_OF_RECORDS, "told", "declared", "mode"}
    as_before = {
        *("to", "include", "exclude", "min_age", "ledger_schema", "table"),  # which files, and where to
        *("workers", "connections", "start_method", "slice_bytes", "commit_bytes", "file_timeout", "wait", "spool"),
        *("max_unpacked", "bulk", "sample", "types", "lineage"),  # the table is there, and it decides
        *("on_misfit", "max_rejects", "max_rejects_run", "on_change", "on_duplicate", "on_lost", "verify_content"),
        *("key", "newest_by"),  # of modes that have no parts
    }
    assert another_way.isdisjoint(as_before)
    assert another_way | as_before == {field.name for field in dataclasses.fields(Settings)}


# the ledger, changed by hand

EDITS = {
    "too little committed": "UPDATE ingest_file SET committed_bytes = committed_bytes - 5",
    "nothing committed": "UPDATE ingest_file SET committed_bytes = 0",
    "too much committed": "UPDATE ingest_file SET committed_bytes = committed_bytes + 45",
    "more than the file": "UPDATE ingest_file SET committed_bytes = 99999999",
    "less than nothing": "UPDATE ingest_file SET committed_bytes = -1",
    "other counts": "UPDATE ingest_file SET rows_loaded = 0",
    "refused": "UPDATE ingest_file SET state = 'refused'",
    "refused before": "UPDATE ingest_file SET state = 'refused', committed_bytes = 0",
    "started": "UPDATE ingest_file SET state = 'started'",
    "loaded": "UPDATE ingest_file SET state = 'loaded'",
    "undoing": "UPDATE ingest_file SET state = 'undoing'",
    "hash of the part": "UPDATE ingest_file SET prefix_sha256 = 'ab'",
    "hash": "UPDATE ingest_file SET sha256 = 'ab'",
    "no hash": "UPDATE ingest_file SET prefix_sha256 = NULL, sha256 = NULL",
    "version": "UPDATE ingest_file SET version = version + 7, epoch = epoch + 3",
    "other times": "UPDATE ingest_file SET mtime_ns = 1, scanned_ns = 1, size = 1",
    "no header": "UPDATE ingest_file SET header = NULL",
    "run": "DELETE FROM ingest_run",
    "table": "DELETE FROM ingest_table",
    "token": "UPDATE ingest_table SET token = 'ab'",
    "rejects": "DELETE FROM ingest_reject",
}


@pytest.mark.sampled
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("of", ["a part", "a file", "a file of a table without lineage"])
def test_a_ledger_changed_by_hand_is_noticed_or_harmless(tmp_path: Path, db: Database, of: str, edit: str) -> None:
    path = folder_of(tmp_path)
    if of == "a part":
        midway(tmp_path, db)
    else:
        assert load(tmp_path, db, lineage="none" if "without" in of else "file").exit_code == 0
    before = stored(db)
    tools.query(db, EDITS[edit])
    report = load(tmp_path, db)
    if report.exit_code == 0:
        assert stored(db) == counted(SMALL, BIG)
    else:
        assert report.exit_code == 4
        assert stored(db) == before
        assert all(outcome.hint for outcome in report.files if outcome.state == "refused")
    os.utime(path)
    report = load(tmp_path, db)
    assert stored(db) == (counted(SMALL, BIG) if report.exit_code == 0 else before)


def test_a_file_without_rows_is_loaded_again_where_rows_cannot_be_told_apart(tmp_path: Path, db: Database) -> None:
    path = folder_of(tmp_path)
    path.unlink()
    assert load(tmp_path, db, lineage="none").exit_code == 0
    empty(path, _plain)
    assert load(tmp_path, db).exit_code == 0
    _plain(path, text_of(rows := rows_of(0, 20)))
    assert load(tmp_path, db, on_change="reload").exit_code == 0
    assert stored(db) == counted(SMALL, rows)


def test_a_table_of_ours_that_no_ledger_knows_is_not_filled_a_second_time(tmp_path: Path, db: Database) -> None:
    folder_of(tmp_path)
    assert load(tmp_path, db).exit_code == 0
    for table in ("file", "reject", "run", "table", "lease", "version"):
        tools.query(db, f"DROP TABLE ingest_{table}")
    report = load(tmp_path, db)
    assert set(tools.told(report).values()) == {("refused", "table_lost")}
    assert all("--on-lost ignore" in outcome.hint for outcome in report.files)
    assert stored(db) == counted(SMALL, BIG)
    assert load(tmp_path, db, on_lost="reload").exit_code == 4
    assert stored(db) == counted(SMALL, BIG)
    tools.query(db, "DELETE FROM orders")
    assert load(tmp_path, db).exit_code == 0
    assert stored(db) == counted(SMALL, BIG)


# tables, changed by hand


@pytest.mark.parametrize("how", ["dropped column", "renamed column", "other type"])
def test_a_part_in_a_table_whose_columns_have_changed_begins_anew(tmp_path: Path, db: Database, how: str) -> None:
    folder_of(tmp_path)
    midway(tmp_path, db)
    tools.query(db, f"DELETE FROM orders WHERE id >= {SMALL[0][0]}")
    tools.query(db, "DELETE FROM ingest_file WHERE path LIKE '%0.csv'")
    if how == "dropped column":
        tools.query(db, "ALTER TABLE orders DROP COLUMN note")
    elif how == "renamed column":
        tools.query(db, "ALTER TABLE orders RENAME COLUMN note TO remark")
    else:
        _change_type(db)
    report = load(tmp_path, db)
    assert (report.exit_code, tools.told(report)["orders_1.csv"]) == (0, ("loaded", "changed"))
    assert stored(db) == counted(SMALL, BIG)


def _change_type(db: Database) -> None:
    if isinstance(db, OnServer):
        sql = "MODIFY customer VARCHAR(50)" if db.kind == "mariadb" else "ALTER COLUMN customer TYPE VARCHAR(50)"
        tools.query(db, f"ALTER TABLE orders {sql}")
        return
    tools.query(db, "ALTER TABLE orders DROP COLUMN customer")
    tools.query(db, "ALTER TABLE orders ADD COLUMN customer INTEGER")


@pytest.mark.parametrize("how", ["dropped", "emptied"])
@pytest.mark.parametrize("choice", ["refuse", "ignore"])
def test_a_part_in_a_table_that_was_lost_is_not_gone_on_with(
    tmp_path: Path, db: Database, choice: str, how: str
) -> None:
    folder_of(tmp_path)
    midway(tmp_path, db, "--include", "orders_1.csv")
    tools.query(db, "DROP TABLE orders" if how == "dropped" else "DELETE FROM orders")
    report = load(tmp_path, db, on_lost=choice)
    assert report.exit_code == (4 if choice == "refuse" else 0)
    assert stored(db) == (counted() if choice == "refuse" else counted(SMALL, BIG))


@pytest.mark.parametrize("how", ["emptied", "dropped", "made again"])
def test_a_table_that_is_changed_while_a_file_is_put_into_it(tmp_path: Path, db: Database, how: str) -> None:
    """The transform is called for each slice: it waits for the first step to be committed, and changes the table."""
    path = folder_of(tmp_path)
    path.with_name("orders_0.csv").unlink()
    kind = oracle(db).kind
    like = {
        "mariadb": "LIKE orders_as_it_was",
        "postgresql": "(LIKE orders_as_it_was)",
        "plainpg": "(LIKE orders_as_it_was)",
    }
    locks = {
        "mariadb": (["LOCK TABLES orders WRITE"], ["UNLOCK TABLES"]),
        "postgresql": (["LOCK TABLE orders"], []),
        "plainpg": (["LOCK TABLE orders"], []),
    }
    before, after = locks.get(kind, ([], []))
    statements = {
        "emptied": [
            *before,  # what is open there is not seen
            "DELETE FROM orders",
            *after,
        ],
        "dropped": ["DROP TABLE orders"],
        # On servers nobody could tell it from ours but by its token.
        "made again": [
            "ALTER TABLE orders RENAME TO orders_as_it_was",
            f"CREATE TABLE orders {like.get(kind, 'AS SELECT * FROM orders_as_it_was WHERE 1 = 0')}",
        ],
    }[how]
    (tmp_path / "changing.py").write_text(
        "import os, time\n"
        "from ingest.targets import target_for\n"
        f"URL = {f'sqlite:///{db}' if isinstance(db, Path) else str(db)!r}\n"
        f"CHANGED = {str(tmp_path / 'changed')!r}\n"
        "def change(frame):\n"
        f"    if os.path.exists(CHANGED) or len(frame) == {ROWS} or int(frame['id'].min()) < {ROWS // 2}:\n"
        "        return frame\n"
        "    target = target_for(URL)  # with our driver\n"
        "    committed, end = 0, time.monotonic() + 60\n"
        "    while not committed and time.monotonic() < end:\n"
        "        with target.connect() as connection:\n"
        "            committed = connection.exec_driver_sql('SELECT sum(rows_loaded) FROM ingest_file').scalar()\n"
        "    with target.begin() as connection:\n"
        f"        for statement in {statements!r}:\n"
        "            connection.exec_driver_sql(statement)\n"
        "    target.close()\n"
        "    open(CHANGED, 'w').close()\n"
        "    return frame\n"
    )
    words = ("--transform", "changing:change", "--workers", "1", "--slice-bytes", "8KiB", "--commit-bytes", "24KiB")
    done = tools.ingest("load", "in", "--to", db, *words, cwd=tmp_path, timeout=100)
    assert (tmp_path / "changed").exists(), done.stderr
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert stored(db) == counted()
    assert tools.known(db, path)["error_code"] in ("table_emptied", "table_lost")
