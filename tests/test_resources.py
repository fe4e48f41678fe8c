"""What a load needs and may be refused: room on a disk, files to be open, rights, a server, somewhere to be told of.

Each time: an exit code and one line that says what, where and what to do; no traceback and nothing half done; and when
the reason is gone, the same command loads every row once. Servers whose disk is full: `test_lost_connections.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import killing
import oracle
import proxy
import pytest
import servers
import tools

ONE = ("--workers", "1", "--progress", "none")
STEPS = ("--slice-bytes", "32KiB", "--commit-bytes", "64KiB", "--progress", "none")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A file of several steps, and two that travel together."""
    sizes = [12_000, 100, 100]
    made = [tools.orders(tmp_path / "in" / f"orders_{i}.csv", rows, first=i * 10_000) for i, rows in enumerate(sizes)]
    killing.aged(*made)
    return made


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=False).returncode:
        folder.rmdir()
        pytest.skip("this machine lets us mount nothing, so no disk can be filled")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def change_disk(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def assert_told(run: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """It ended with this code and one error, which says all of this."""
    assert run.returncode == code, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr
    assert run.stderr.count("error: ") == 1, run.stderr
    for words in said:
        assert words in run.stderr


def assert_loads(db: oracle.Database, files: list[Path], *options: object) -> None:
    """The same command loads every row once, and after that finds nothing to do."""
    folder = files[0].parent
    for words in ("loaded: ", "nothing to load: "):
        run = tools.ingest("load", folder, "--to", db, *ONE, *options, cwd=folder.parent)
        assert run.returncode == 0, run.stderr
        assert words in run.stderr
    tools.assert_loaded_once(db, "orders", files)
    tools.assert_counts_add_up(db)


# disks ------------------------------------------------------------------------------------------------------------


def traced(*options: str, cwd: Path, load: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    """A load whose system calls are refused as strace is told."""
    servers.require_strace()
    command = ["strace", "-f", "-qq", "-o", os.devnull, *options, sys.executable, "-m", "ingest", *map(str, load)]
    return subprocess.run(
        command, cwd=cwd, env=tools.environ(), capture_output=True, text=True, timeout=180, check=False
    )


SAID = {"ENOSPC": "database or disk is full", "EIO": "disk I/O error"}
"""What SQLite makes of a system call's error."""


WHOLE = (("pwrite64", "ENOSPC", 60), ("pwrite64", "EIO", 60), ("fdatasync", "EIO", 16))
"""With `--whole`: which calls fail, how, and up to the how many-th."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A fault of each kind at a few calls of the way; with `--whole` at all of them."""
    if "fault" in metafunc.fixturenames:
        whole = metafunc.config.getoption("--whole")
        faults = [
            ("delete", "pwrite64", "ENOSPC", 8),
            ("wal", "pwrite64", "ENOSPC", 30),
            ("delete", "fdatasync", "EIO", 5),
        ]
        if whole:
            faults = [
                (mode, call, error, number)
                for mode in ("delete", "wal")
                for call, error, last in WHOLE
                for number in range(1, last)
            ]
        metafunc.parametrize("fault", faults, ids=lambda fault: "-".join(map(str, fault)))


def test_a_disk_that_refuses_from_some_call_on_ends_the_run_and_the_next_one_loads(
    request: pytest.FixtureRequest, tmp_path: Path, db: Path, files: list[Path], fault: tuple[str, str, str, int]
) -> None:
    mode, call, error, number = fault
    tools.script(db, f"PRAGMA journal_mode = {mode}")
    paths = [word for end in ("", "-journal", "-wal") for word in ("-P", f"{db}{end}")]
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}+")
    run = traced(*inject, *paths, cwd=tmp_path, load=("load", "in", "--to", db, *STEPS, "--workers", "1"))
    if run.returncode:
        assert_told(run, run.returncode)
        assert run.returncode in (1, 10)
        assert SAID[error] in run.stderr
        if error == "ENOSPC":
            assert "Free some space and run the same command again" in run.stderr
        assert_loads(db, files)
    else:
        assert request.config.getoption("--whole"), "what CI tries is a call that is made"
        tools.assert_loaded_once(db, "orders", files)


@pytest.mark.parametrize(
    ("which", "call", "error", "number", "said"),
    [
        ("files", "openat", "EMFILE", 3, "cannot be read: Too many open files"),
        ("files", "openat", "EMFILE", 6, "cannot be read: Too many open files"),
        ("files", "read", "EIO", 5, "cannot be read: Input/output error"),
        ("database", "openat", "EMFILE", 3, "unable to open database file"),
        ("database", "openat", "EMFILE", 6, "unable to open database file"),
        ("database", "pread64", "EIO", 12, ""),  # SQLite's words depend on what it wanted to read
    ],
)
def test_a_file_that_cannot_be_opened_or_read_under_way_is_told_and_the_next_run_loads(
    tmp_path: Path, db: Path, files: list[Path], which: str, call: str, error: str, number: int, said: str
) -> None:
    touched = files if which == "files" else [db, Path(f"{db}-journal")]
    paths = [word for path in touched for word in ("-P", str(path))]
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}+")
    run = traced(*inject, *paths, cwd=tmp_path, load=("load", "in", "--to", db, *STEPS, "--workers", "1"))
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr
    assert run.returncode in ((4,) if which == "files" else (1, 10)), run.stderr
    assert "error: " in run.stderr
    assert said in run.stderr
    assert_loads(db, files)


def test_a_full_disk_under_the_database(tmp_path: Path, files: list[Path]) -> None:
    with small_disk(tmp_path / "small", "160k") as disk:
        db = disk / "test.db"
        spool = ("--spool", tmp_path)
        told = tools.ingest("load", "in", "--to", db, *ONE, *spool, cwd=tmp_path)
        assert_told(told, 1, f"{db} answered: database or disk is full.", "Free some space and run the same command")
        change_disk(disk, "size=64m")
        assert_loads(db, files, *spool)


@pytest.mark.parametrize("bulk", ["auto", "off"])
def test_a_full_disk_under_the_spool_fails_the_files_that_were_staged(tmp_path: Path, db: Path, bulk: str) -> None:
    """What is staged is larger than what can be known before: small numbers, each a record of its own."""
    large = tools.write_csv(tmp_path / "in" / "large_1.csv", ["a", "b"], ((i % 10, i % 7) for i in range(60_000)))
    small = tools.write_csv(tmp_path / "in" / "small_1.csv", ["a"], [[1]])
    killing.aged(large, small)
    with small_disk(tmp_path / "spool", "500k") as disk:
        load = ("load", "in", "--to", db, *ONE, "--spool", disk, "--bulk", bulk)
        told = tools.ingest(*load, cwd=tmp_path)
        assert told.returncode == 4, told.stderr
        errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
        assert "failed: in/large_1.csv" in errors[0]
        for line in errors:  # there may have been no room for the other one, too
            assert f"cannot be written to the spool in {disk}" in line
            assert line.endswith(": No space left on device.")
        assert "Free some space, or choose another place with --spool DIR." in told.stderr
        assert tools.stored(db, "large", ["a", "b"]) == Counter()
        assert list(disk.iterdir()) == []
        change_disk(disk, "size=64m")
        assert tools.ingest(*load, cwd=tmp_path).returncode == 0
        assert "nothing to load" in tools.ingest(*load, cwd=tmp_path).stderr
    tools.assert_loaded_once(db, "large", [large], ["a", "b"])
    tools.assert_loaded_once(db, "small", [small], ["a"])


def test_a_full_disk_under_what_is_unpacked(tmp_path: Path, db: Path) -> None:
    rows = tools.write_csv(tmp_path / "rows.csv", ["a", "b"], ((i % 10, i % 7) for i in range(200_000)))
    packed = tmp_path / "in" / "large_1.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    killing.aged(packed)
    with small_disk(tmp_path / "spool", "500k") as disk:
        told = tools.ingest("load", "in", "--to", db, *ONE, "--spool", disk, cwd=tmp_path)
        assert_told(told, 4, "its decoded bytes cannot be written", "No space left on device", "--spool DIR")
        assert list(disk.iterdir()) == []
    assert tools.load(packed, db).exit_code == 0
    tools.assert_loaded_once(db, "large", [packed], ["a", "b"])


def test_a_spool_that_cannot_be_made_is_told_by_each_command(tmp_path: Path, db: Path, files: list[Path]) -> None:
    with small_disk(tmp_path / "spool", "64k") as disk:
        change_disk(disk, "ro")
        for command in ("load", "plan", "check"):
            told = tools.ingest(command, "in", "--to", db, "--spool", disk, cwd=tmp_path)
            assert_told(told, 2, f"the spool folder cannot be made in {disk}: Read-only file system.", "--spool DIR")
    assert_loads(db, files)


def test_a_spool_that_is_removed_under_way_is_told_and_the_next_run_loads(
    tmp_path: Path, db: Path, files: list[Path]
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    run = tools.start("load", "in", "--to", db, "--spool", spool, *STEPS, "--workers", "1", cwd=tmp_path, held=True)
    with killing.held_midway(db, run):
        spool.rename(tmp_path / "gone")  # at one moment, and not while somebody puts something into it
    code, out, err = killing.finish(run)
    assert code in (1, 4), err
    assert "Traceback" not in err
    assert "internal error" not in err
    assert str(spool) in err
    assert "No such file or directory" in err
    assert out == ""
    assert_loads(db, files)


# read-only --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_read_only_database_can_be_looked_at(tmp_path: Path, files: list[Path], mode: str) -> None:
    """In WAL mode SQLite would write beside it to read it."""
    with small_disk(tmp_path / "small", "8m") as disk:
        db = disk / "test.db"
        assert tools.load(files[:1], db, spool=str(tmp_path)).exit_code == 0
        tools.script(db, f"PRAGMA journal_mode = {mode}")
        change_disk(disk, "ro")
        to = ("--to", db)
        why = f"{db} cannot be written: Read-only file system"
        assert_told(tools.ingest("load", "in", *to, "--spool", tmp_path, cwd=tmp_path), 10, why)
        assert_told(tools.ingest("forget", "orders_0.csv", "--yes", *to, cwd=tmp_path), 10, why)
        told = tools.ingest("status", *to, cwd=tmp_path)
        assert (told.returncode, told.stdout.split()[-4:]) == (0, ["1", "12000", "0", "0"]), told.stderr
        told = tools.ingest("plan", "in", *to, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert "load would load 2, skip 1" in told.stdout
        change_disk(disk, "rw")
        assert_loads(db, files, "--spool", tmp_path)


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> servers.Server:
    found: servers.Server = request.getfixturevalue(f"{request.param}_server")
    return found


def test_a_server_that_lets_nobody_write_is_told(tmp_path: Path, server: servers.Server, files: list[Path]) -> None:
    """PostgreSQL's sessions that are read-only by default, as on a standby; MariaDB's users who may only read."""
    with oracle.on_server(server) as db:
        url = str(db)
        if server.kind == "postgresql":
            server.execute(f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")
        else:
            db.query(f"CREATE USER reader IDENTIFIED BY '{servers.PASSWORD}'")
            db.query(f"GRANT SELECT ON {db.name}.* TO reader")
            url = url.replace(servers.USER, "reader")
        told = tools.ingest("load", "in", "--to", url, *ONE, "--spool", db.folder, cwd=tmp_path)
        word = "read-only transaction" if server.kind == "postgresql" else "denied"
        assert_told(told, 1, word, "\n  ")
        assert servers.PASSWORD not in told.stderr
        if server.kind == "postgresql":
            server.execute(f"ALTER DATABASE {db.name} SET default_transaction_read_only = off")
        else:
            db.query(f"GRANT ALL ON {db.name}.* TO reader")
        assert tools.load(files, url, spool=str(db.folder)).exit_code == 0
        tools.assert_loaded_once(db, "orders", files)
        if server.kind == "postgresql":
            server.execute(f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")
        else:
            db.query("DROP USER reader")
            db.query(f"CREATE USER reader IDENTIFIED BY '{servers.PASSWORD}'")
            db.query(f"GRANT SELECT ON {db.name}.* TO reader")
        told = tools.ingest("status", "--to", url, cwd=tmp_path)
        assert (told.returncode, told.stdout.split()[-4:]) == (0, ["3", "12200", "0", "0"]), told.stderr
        if server.kind == "mariadb":
            db.query("DROP USER reader")


# files that may be open -------------------------------------------------------------------------------------------


def limited(command: tuple[object, ...], soft: int, hard: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that may have so many files open."""
    return subprocess.run(
        [sys.executable, "-m", "ingest", *map(str, command)],
        cwd=cwd,
        env=tools.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )


def test_too_few_open_files_are_told_before_anything_is_done(tmp_path: Path, db: Path, files: list[Path]) -> None:
    load = ("load", "in", "--to", db, "--workers", 2, *STEPS)
    told = limited(load, 71, 71, tmp_path)
    assert_told(told, 2, "may have 71 files open here, and a run with 2 workers needs 72.", "ulimit -n 72")
    assert not db.exists()
    # What is needed is enough, and what may be had for the asking is asked for.
    told = limited(load, 16, 72, tmp_path)
    assert told.returncode == 0, told.stderr
    tools.assert_loaded_once(db, "orders", files)


# servers and leases -----------------------------------------------------------------------------------------------


def held(through: proxy.Proxy, where: str) -> tuple[threading.Event, threading.Event]:
    """Keep rows (`copy`) or the answer to their COMMIT back until the second event; the first says that they came.

    `commit`: nothing is kept; the COMMIT goes on its way to a server that is being killed.
    """
    came, go = threading.Event(), threading.Event()
    rows: set[int] = set()  # connections that sent some
    ended: set[int] = set()  # and their COMMIT

    def rule(message: proxy.Message) -> proxy.Verdict:
        here = message.is_bulk if where == "copy" else message.side == "server" and message.connection in ended
        if here and where != "commit" and not came.is_set():
            came.set()
            assert go.wait(90)
        if where == "commit" and came.is_set() and message.is_bulk:
            assert go.wait(90)  # the rest of the run is not to be over before the kill
        if message.is_bulk:
            rows.add(message.connection)
        if message.is_commit and message.connection in rows:
            ended.add(message.connection)
            if where == "commit":
                came.set()
        return "pass"

    through.rule = rule
    return came, go


@pytest.mark.parametrize("kind", [servers.PostgreSQL, servers.MariaDB])
def test_a_server_that_is_killed_in_a_copy_or_a_commit_finds_the_run_where_it_was(
    tmp_path: Path, kind: type[servers.Server], files: list[Path]
) -> None:
    """`kill -9` of all its processes; a COMMIT may have been carried out, and its answer have been lost or not."""
    with servers.running(kind) as server:
        for where in ("copy", "commit", "answer"):
            with oracle.on_server(server) as db, proxy.between(server) as through:
                came, go = held(through, where)
                run = tools.start("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
                assert came.wait(90)
                server.kill()
                go.set()
                read = killing.read_until(run, "tried again")
                server.start()
                code, _, err = killing.finish(run, seconds=90)
                assert code == 0, (where, read + err)
                assert "Traceback" not in read + err
                tools.assert_loaded_once(db, "orders", files)
                tools.assert_counts_add_up(db)
                assert tools.load(files, db).count("skipped") == len(files)


def test_a_lock_file_that_is_removed_lets_one_run_commit_and_not_two(
    tmp_path: Path, db: Path, files: list[Path]
) -> None:
    """On SQLite the lease is a lock on a file; the ledger fences off who lost it."""
    run = tools.start("load", "in", "--to", db, *STEPS, "--workers", "1", cwd=tmp_path, held=True)
    with killing.held_midway(db, run) as found:
        os.kill(found.main, signal.SIGSTOP)
        os.unlink(f"{db}-ingest-lock")
    assert tools.load(files, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", files)
    os.kill(found.main, signal.SIGCONT)
    code, _, err = killing.finish(run)
    assert code == 1, err
    assert "another run has taken over" in err.lower()
    assert "Traceback" not in err
    tools.assert_loaded_once(db, "orders", files)


def test_a_lease_whose_row_is_deleted_is_told_with_what_mends_it(
    tmp_path: Path, server: servers.Server, files: list[Path]
) -> None:
    with oracle.on_server(server) as db, proxy.between(server) as through:
        came, go = held(through, "copy")
        run = tools.start("load", "in", "--to", through.url(db.url), "--spool", db.folder, *STEPS, cwd=tmp_path)
        assert came.wait(90)
        db.query("DELETE FROM ingest_lease")
        go.set()
        code, _, err = killing.finish(run, seconds=90)
        assert code == 0, err  # nobody else can begin meanwhile
        tools.assert_loaded_once(db, "orders", files)
        told = tools.ingest("load", "in", "--to", db, *ONE, cwd=tmp_path)
        assert_told(told, 1, "the ledger has lost the row of its lease.", "INSERT INTO ingest_lease")
        (statement,) = [line.strip() for line in told.stderr.splitlines() if "INSERT INTO" in line]
        db.query(statement)
        assert tools.load(files, db).count("skipped") == len(files)


def test_a_folder_that_vanishes_under_the_database_is_told(tmp_path: Path, db: Path, files: list[Path]) -> None:
    run = tools.start("load", "in", "--to", db, *STEPS, "--workers", "1", cwd=tmp_path, held=True)
    with killing.held_midway(db, run):
        db.parent.rename(tmp_path / "gone")
    code, _, err = killing.finish(run)
    assert code in (1, 10), err
    assert err.count("error: ") == 1, err
    assert "Traceback" not in err
    assert "internal error" not in err
    assert not db.parent.exists()
    told = tools.ingest("load", "in", "--to", db, *ONE, cwd=tmp_path)
    assert_told(told, 10, f"the folder {db.parent} does not exist.", "Create it first.")
    db.parent.mkdir()
    assert_loads(db, files)


# somewhere to be told of ------------------------------------------------------------------------------------------


def into_full(cwd: Path, *command: object, out: bool = False, err: bool = False) -> subprocess.CompletedProcess[str]:
    """A command whose stdout or stderr is a file on a full disk."""
    with open("/dev/full", "wb") as full:
        return subprocess.run(
            [sys.executable, "-m", "ingest", *map(str, command)],
            cwd=cwd,
            env=tools.environ(),
            stdout=full if out else subprocess.PIPE,
            stderr=full if err else subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )


def test_a_load_that_cannot_be_told_of_goes_on_and_its_exit_code_says_so(
    tmp_path: Path, db: Path, files: list[Path]
) -> None:
    load = ("load", "in", "--to", db)
    assert into_full(tmp_path, "load", files[0], "--to", db, "--json", out=True, err=True).returncode == 1
    tools.assert_loaded_once(db, "orders", files[:1])
    assert into_full(tmp_path, "load", files[1], "--to", db, err=True).returncode == 1
    tools.assert_loaded_once(db, "orders", files[:2])
    told = into_full(tmp_path, *load, "--json", out=True)
    assert_told(told, 1, "stdout cannot be written: No space left on device. The load went on", "ingest runs")
    tools.assert_loaded_once(db, "orders", files)
    # What is not said cannot be missed.
    assert into_full(tmp_path, *load, "--quiet", err=True).returncode == 0
    told = into_full(tmp_path, *load, "--quiet", "--log-file", "/dev/full")
    assert_told(told, 1, "--log-file /dev/full cannot be written: No space left on device.")
    # The load itself went well, and the ledger says so.
    assert tools.query(db, "SELECT DISTINCT state, exit_code FROM ingest_run") == [("finished", 0)]


def test_what_is_asked_for_and_cannot_be_written_is_one_line(tmp_path: Path, db: Path, files: list[Path]) -> None:
    assert tools.load(files[1:], db).exit_code == 0
    for words in (["status"], ["runs", "--json"], ["plan", "in"], ["rejects", "list"]):
        assert_told(into_full(tmp_path, *words, "--to", db, out=True), 1, "stdout cannot be written: No space left")


def test_an_export_on_a_full_disk_is_told_to_be_no_whole_one(tmp_path: Path, db: Path) -> None:
    bad = tools.write_csv(tmp_path / "in" / "t_1.csv", ["a", "b"], [[i, "x" * 60, "more"] for i in range(900)])
    killing.aged(bad)
    load = ("load", "in", "--to", db, "--max-rejects", 1_000)
    assert tools.ingest(*load, cwd=tmp_path).returncode == 3
    with small_disk(tmp_path / "small", "16k") as disk:
        path = disk / "rejects.csv"
        told = tools.ingest("rejects", "export", path, "--to", db, cwd=tmp_path)
        assert_told(told, 2, f"{path} cannot be written: No space left on device.", "no whole export")
        change_disk(disk, "size=8m")
        path.unlink()
        assert tools.ingest("rejects", "export", path, "--to", db, cwd=tmp_path).returncode == 0
        assert len(path.read_text().splitlines()) == 901
