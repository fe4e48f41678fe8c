"""The pool survives its workers: files that kill, hang or break them are set aside by name, and only they."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import killing
import pytest
import tools

POISON = """
import ctypes, os, resource, signal, sys, threading
from pathlib import Path
import numpy, pyarrow


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def hurt(frame):
    for kind in set(frame["customer"]) & set(KINDS):
        with open("log", "a") as log:
            log.write(f"{kind}\\n")
        KINDS[kind]()
    return frame


def hurt_slices(frame):
    # Not the head of a whole file, on which a transform is tried.
    return hurt(frame) if len(frame) < 2_000 else frame


def unpicklable():
    raise Unpicklable("a", "b")


def limited(work):
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, limits[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def starve():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))


def main():
    # The command, where processes are spawned: it started the host that started us.
    return int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])


def stop():
    os.kill(main(), signal.SIGSTOP)
    raise ValueError


def stick():
    os.kill(main(), signal.SIGCONT)
    threading.Event().wait()


KINDS = {
    "stop": stop,
    "stick": stick,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "leave": lambda: os._exit(7),
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: signal.default_int_handler(signal.SIGINT, None),
    "unpicklable": unpicklable,
    "memory": lambda: limited(lambda: bytearray(1 << 33)),
    "numpy": lambda: limited(lambda: numpy.zeros(1 << 33, numpy.uint8)),
    "arrow": lambda: limited(lambda: pyarrow.allocate_buffer(1 << 33)),
    "starve": starve,
    "hang": lambda: threading.Event().wait(),
}
"""
SMALL, LARGE = 50, 8_000
"""Records of a file that travels in a bundle, and of one that travels alone."""


def make(tmp_path: Path, kinds: dict[int, str], *, count: int = 6, rows: int = SMALL) -> dict[int, Path]:
    """Files of orders; one customer of some of them is a poison."""
    (tmp_path / "poison.py").write_text(POISON)
    files = {n: tools.orders(tmp_path / "in" / f"orders_{n}.csv", rows, first=n * 10_000) for n in range(1, count + 1)}
    for number, kind in kinds.items():
        text = files[number].read_text()
        files[number].write_text(re.sub(r"(\n\d+,)c\d+,", rf"\1{kind},", text, count=1))
    killing.aged(*files.values())
    return files


def load(tmp_path: Path, db: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return tools.ingest("load", "in", "--to", db, "--transform", "poison:hurt", *more, cwd=tmp_path, timeout=250)


PATIENCE = ("--file-timeout", "8")
"""A new worker imports pandas at its first file, which may take some seconds on a busy machine."""


def log(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().split()


def states(db: Path) -> dict[int, tuple[str, str | None]]:
    rows = tools.query(db, "SELECT path, state, error_code FROM ingest_file")
    return {int(re.search(r"_(\d+)\.csv", path)[1]): (state, code) for path, state, code in rows}  # type: ignore[index]


def mend(tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text("def hurt(frame):\n    return frame\n")


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["bundled", "alone"])
def test_a_file_that_kills_its_worker_is_quarantined_and_the_others_are_loaded(
    tmp_path: Path, db: Path, rows: int
) -> None:
    files = make(tmp_path, {4: "kill"}, rows=rows)
    innocent = [file for number, file in files.items() if number != 4]
    done = load(tmp_path, db)
    assert done.returncode == 4, done.stderr
    assert states(db) == {n: ("failed", "quarantined") if n == 4 else ("loaded", None) for n in files}
    assert "SIGKILL" in done.stderr
    assert "orders_4.csv" in done.stderr
    tools.assert_loaded_once(db, "orders", innocent)
    # Once with others around it, which proves nothing, and three times alone.
    assert log(tmp_path) == ["kill"] * 4


def test_a_quarantined_file_gets_one_more_try_a_run_and_is_loaded_when_it_is_mended(tmp_path: Path, db: Path) -> None:
    files = make(tmp_path, {4: "kill"}, count=4)
    innocent = [file for number, file in files.items() if number != 4]
    assert load(tmp_path, db).returncode == 4
    assert log(tmp_path) == ["kill"] * 4
    assert load(tmp_path, db).returncode == 4
    assert log(tmp_path) == ["kill"] * 5
    assert states(db)[4] == ("failed", "quarantined")
    tools.assert_loaded_once(db, "orders", innocent)
    mend(tmp_path)
    assert load(tmp_path, db).returncode == 0
    tools.assert_loaded_once(db, "orders", files.values())


def test_segfaults_and_exits_beside_each_other_are_told_apart(tmp_path: Path, db: Path) -> None:
    files = make(tmp_path, {2: "segfault", 5: "leave"})
    done = load(tmp_path, db)
    assert done.returncode == 4, done.stderr
    bad = {2, 5}
    assert states(db) == {n: ("failed", "quarantined") if n in bad else ("loaded", None) for n in files}
    assert re.search(r"orders_2.csv.*SIGSEGV", done.stderr)
    assert re.search(r"orders_5.csv.*exit code 7", done.stderr)
    tools.assert_loaded_once(db, "orders", [file for number, file in files.items() if number not in bad])


def test_what_a_transform_may_raise_fails_its_file_and_kills_nobody(tmp_path: Path, db: Path) -> None:
    kinds = {2: "exit", 3: "interrupt", 4: "unpicklable", 5: "memory", 7: "numpy", 8: "arrow"}
    files = make(tmp_path, kinds, count=8)
    done = load(tmp_path, db)
    assert done.returncode == 4, done.stderr
    assert states(db) == {n: ("failed", "transform") if n in kinds else ("loaded", None) for n in files}
    assert "warning" not in done.stderr
    for word in ("SystemExit", "KeyboardInterrupt", "Unpicklable"):
        assert word in done.stderr
    assert done.stderr.count("MemoryError") == 3
    tools.assert_loaded_once(db, "orders", [files[1], files[6]])
    mend(tmp_path)
    assert load(tmp_path, db).returncode == 0
    tools.assert_loaded_once(db, "orders", files.values())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_without_memory_spoils_no_other_file(tmp_path: Path, db: Path, workers: int) -> None:
    """What a transform has taken for good is given back with its worker; what becomes of its own file is chance."""
    files = make(tmp_path, {3: "starve"})
    done = load(tmp_path, db, "--workers", str(workers), "--file-timeout", "20")
    found = states(db)
    assert (done.returncode, found.pop(3)[0]) in ((0, "loaded"), (4, "failed")), done.stderr
    assert found == {n: ("loaded", None) for n in files if n != 3}
    assert "Traceback" not in done.stderr
    loaded = [file for number, file in files.items() if number != 3 or done.returncode == 0]
    tools.assert_loaded_once(db, "orders", loaded)


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["bundled", "alone"])
def test_a_worker_that_is_stuck_is_ended_and_its_file_reported(tmp_path: Path, db: Path, rows: int) -> None:
    files = make(tmp_path, {3: "hang"}, rows=rows)
    done = load(tmp_path, db, *PATIENCE)
    assert done.returncode == 4, done.stderr
    assert states(db) == {n: ("failed", "timeout") if n == 3 else ("loaded", None) for n in files}
    assert re.search(r"orders_3.csv.* 8 seconds", done.stderr)
    assert "--file-timeout" in done.stderr
    tools.assert_loaded_once(db, "orders", [file for number, file in files.items() if number != 3])


def test_a_worker_that_is_stuck_at_a_slice_of_a_file_that_failed_meanwhile_is_ended(tmp_path: Path, db: Path) -> None:
    """The command learns that one slice failed when the next, which nobody wants any more, has begun."""
    files = make(tmp_path, {1: "stop"}, count=2, rows=LARGE)
    files[1].write_text(re.sub(r"(\n12000,)c\d+,", r"\1stick,", files[1].read_text()))
    killing.aged(files[1])
    sizes = ("--slice-bytes", "32KiB", "--workers", "1", "--start-method", "spawn", "--file-timeout", "10")
    done = load(tmp_path, db, *sizes, "--transform", "poison:hurt_slices")
    assert done.returncode == 4, done.stderr
    assert log(tmp_path) == ["stop", "stick"]
    assert states(db) == {1: ("failed", "transform"), 2: ("loaded", None)}
    tools.assert_loaded_once(db, "orders", [files[2]])


@pytest.mark.parametrize("kind", ["kill", "exit", "hang"])
def test_a_poisoned_first_file_does_not_take_the_others_with_it(tmp_path: Path, db: Path, kind: str) -> None:
    files = make(tmp_path, {1: kind})
    done = load(tmp_path, db, *(PATIENCE if kind == "hang" else ()))
    assert done.returncode == 4, done.stderr
    found = states(db)
    assert {n: state for n, (state, _) in found.items()} == {n: "failed" if n == 1 else "loaded" for n in files}
    assert found[1][1] == {"kill": "quarantined", "exit": "transform", "hang": "timeout"}[kind]
    tools.assert_loaded_once(db, "orders", [file for number, file in files.items() if number != 1])


def test_many_poisoned_files_are_all_set_aside_and_nothing_else(tmp_path: Path, db: Path) -> None:
    bad = range(2, 9)
    files = make(tmp_path, dict.fromkeys(bad, "leave"), count=9)
    done = load(tmp_path, db)
    assert done.returncode == 4, done.stderr
    assert states(db) == {n: ("failed", "quarantined") if n in bad else ("loaded", None) for n in files}
    tools.assert_loaded_once(db, "orders", [files[1], files[9]])
