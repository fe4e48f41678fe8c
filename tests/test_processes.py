"""Every process of a run is stopped, woken, killed, or given a signal of its own: the run ends by itself, and rightly.

Kills of workers, host, writer and main, each with what its successor does, are in test_kill.py; files that hurt their
workers in test_poison.py, signals for the run as a whole in test_signals.py, take-overs of a server's lease in
test_lease.py.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import killing
import psutil
import pytest
import tools
from oracle import Database, oracle
from test_kill import assert_quiet, assert_third_run_is_a_no_op, make, start

from ingest.crew import Host

WAITING = """
import os, time

def hurt(frame):
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    return frame
"""
"""A transform that keeps its worker at its slice until it is told to go on."""

SPY = """
import sys

class Spy:
    def find_spec(self, name, path=None, target=None):
        with open({seen!r}, "a") as seen:
            seen.write(name + "\\n")

sys.meta_path.insert(0, Spy())
"""
"""A `sitecustomize` that writes down what each process of a run looks for to import, also in vain."""


def named(found: killing.Processes, who: str) -> tuple[int, ...]:
    """The processes of one part."""
    trackers = tuple(pid for pid in found.helpers if "resource_tracker" in killing.command(pid))
    servers = tuple(pid for pid in found.helpers if pid not in trackers)
    of_main = tuple(pid for pid in servers if killing.is_fork_server_of(pid, found.main))
    return {
        "a worker": found.workers[:1],
        "the host": (found.host,),
        "the writer": (found.writer,),
        "the fork server of main": of_main,
        "the fork server of the host": tuple(set(servers) - set(of_main)),
        "the resource tracker": trackers,
        "all but main": found.all[1:],
    }[who]


def waiting(tmp_path: Path, db: Database, *more: str) -> tuple[subprocess.Popen[str], killing.Processes, list[Path]]:
    """A run with a worker that is at its slice until there is a file `go`."""
    files = [tools.orders(tmp_path / "in" / f"orders_{n}.csv", 8_000, first=n * 10_000) for n in (1, 2)]
    killing.aged(*files)
    (tmp_path / "waiting.py").write_text(WAITING)
    assert tools.load(files[0], db).exit_code == 0  # the table is there: nothing is asked of the transform before
    run = tools.start(
        "load", "in", "--to", db, "--progress", "none", "--transform", "waiting:hurt", *more, cwd=tmp_path
    )
    killing.wait_for(lambda: (tmp_path / "begun").exists() or run.poll() is not None, "the transform")
    found = killing.wait_for(lambda: killing.processes(run.pid), "all processes of the run")
    return run, found, files


@pytest.mark.parametrize(
    "who",
    [
        "a worker",
        "the host",
        "the writer",
        "the fork server of main",
        "the fork server of the host",
        "the resource tracker",
    ],
)
def test_a_process_that_was_stopped_is_woken_and_the_run_ends(tmp_path: Path, db: Path, who: str) -> None:
    """Stopped while main is not: no sentinel tells of it, and it keeps what it has locked."""
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        for pid in named(found, who):
            os.kill(pid, signal.SIGSTOP)
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert_quiet(err)
    killing.assert_gone(found.all)
    tools.assert_loaded_once(db, "orders", files)


def test_a_killed_writer_is_replaced_while_the_fork_server_is_stopped(tmp_path: Path, db: Path) -> None:
    """It would neither tell of the writer's end nor start another."""
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        os.kill(*named(found, "the fork server of main"), signal.SIGSTOP)
        killing.kill(found.writer, found.host)
    code, _, err = killing.finish(run)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)


def test_a_run_that_is_stopped_as_a_whole_keeps_its_lease_and_blames_no_file(tmp_path: Path, db: Path) -> None:
    """For longer than a worker may be at a slice: this time counts against nobody."""
    run, found, files = waiting(tmp_path, db, "--file-timeout", "8")
    for pid in found.all:
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    second = tools.ingest("load", "in", "--to", db, cwd=tmp_path)
    assert second.returncode == 75, second.stderr
    while time.monotonic() < stopped + 9:  # the time is what this is about
        time.sleep(0.05)
    (tmp_path / "go").touch()
    for pid in found.all:
        os.kill(pid, signal.SIGCONT)
    code, _, err = killing.finish(run)
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)


def test_a_stopped_writer_that_wakes_after_a_take_over_commits_nothing(tmp_path: Path, db: Path) -> None:
    """Its main process is dead, the next run has loaded everything, and its order is still in its pipe."""
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        os.kill(found.writer, signal.SIGSTOP)
        killing.kill(found.main)
        killing.assert_gone((found.main,))
    done = tools.ingest("load", "in", "--to", db, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tools.assert_loaded_once(db, "orders", files)
    os.kill(found.writer, signal.SIGCONT)
    killing.assert_gone(found.all)
    run.communicate()
    assert_third_run_is_a_no_op(db, files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_the_helpers_alone_is_not_for_them(tmp_path: Path, db: Path, number: signal.Signals) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        for pid in named(found, "all but main"):
            os.kill(pid, number)
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert_quiet(err)
    tools.assert_loaded_once(db, "orders", files)


@pytest.mark.parametrize("who", ["the fork server of the host", "the resource tracker"])
def test_a_killed_helper_of_multiprocessing_is_replaced(tmp_path: Path, db: Path, who: str) -> None:
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        killing.wait_for(lambda: len(killing.semaphores(found)) == 5, "its semaphores")
        semaphores = killing.semaphores(found)
        killing.kill(*named(found, who))
    code, _, err = killing.finish(run)
    assert code == 0, err
    # With its fork server, the host loses all knowledge of its workers: of one it hears first, or cannot start another.
    assert_quiet(err, *([") ended: "] if "fork server" in who else []))
    killing.assert_gone(found.all)
    killing.wait_for(lambda: not [path for path in semaphores if path.exists()], "the semaphores to be removed")
    tools.assert_loaded_once(db, "orders", files)


def test_a_tracker_that_is_killed_with_those_it_was_told_of_leaves_no_traceback(tmp_path: Path, db: Path) -> None:
    """The next one hears of the end of what only the one before had heard of."""
    files = make(tmp_path)
    run = start(tmp_path, db, held=True)
    with killing.held_midway(db, run) as found:
        killing.wait_for(lambda: len(killing.semaphores(found)) == 5, "its semaphores")
        killing.kill(*named(found, "the resource tracker"), *named(found, "the fork server of main"), found.host)
    code, _, err = killing.finish(run)
    assert code == 0, err
    assert "resource_tracker" not in err
    assert "Traceback" not in err
    tools.assert_loaded_once(db, "orders", files)


RELAUNCHED = """
import os
import signal
from multiprocessing import resource_tracker

from ingest import launching

{quiet}
resource_tracker.ensure_running()
pid = resource_tracker._resource_tracker._pid
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
resource_tracker.unregister("/never-heard-of", "semaphore")
"""
"""A tracker that follows a killed one, whenever a process needs it, and is told of what only that one was told of."""

ORPHANED = """
import os
from multiprocessing import spawn, util

from ingest import launching

{quiet}
theirs, ours = os.pipe()
os.write(ours, {said})
os.close(ours)
command = spawn.get_command_line(tracker_fd=theirs, pipe_handle=theirs)
pid = util.spawnv_passfds(spawn.get_executable(), command, [theirs])
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
"""
"""A process that is spawned, and whose parent is killed before it has said what is to be done."""


@pytest.mark.parametrize(
    ("code", "trace"),
    [
        (RELAUNCHED, "KeyError"),
        (ORPHANED.replace("{said}", "b''"), "EOFError"),
        (ORPHANED.replace("{said}", "b'\\x80\\x04\\x95\\xff'"), "UnpicklingError"),
    ],
)
def test_what_multiprocessing_starts_says_nothing_of_those_that_were_killed(
    tmp_path: Path, code: str, trace: str
) -> None:
    said = []
    for quiet in ("", "launching.quieten()"):
        words = [sys.executable, "-c", code.format(quiet=quiet)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert trace in said[0]
    assert said[1] == ""


def test_workers_whose_host_and_main_are_gone_end_in_the_middle_of_a_slice(tmp_path: Path, db: Path) -> None:
    run, found, _ = waiting(tmp_path, db)
    killing.kill(found.main, found.host)
    run.communicate()
    killing.assert_gone(found.all)


def test_a_host_that_has_lost_a_thread_ends(tmp_path: Path) -> None:
    """Without it, it would wait for ever, and main for it."""
    with Host.early(1, "forkserver") as host:
        killing.wait_for(lambda: (host.drain(), host._semaphores)[1], "the host to be ready")
        host.begin(str(tmp_path), 1 << 20)
        host.send("not a job")
        killing.wait_for(lambda: (host.drain(), host.ended)[1], "its end")
    assert host.exitcode == -signal.SIGKILL


def test_no_run_leaves_anything_in_the_folder_for_temporary_files(tmp_path: Path, db: Path) -> None:
    """Multiprocessing's sockets lie there; who is killed, as every host is, removes nothing."""
    files = make(tmp_path)
    with tempfile.TemporaryDirectory() as name:  # pytest's are too long for a socket
        temporary = Path(name)
        run = start(tmp_path, db, TMPDIR=name, held=True)
        with killing.held_midway(db, run) as found:
            assert len(list(temporary.iterdir())) == 1
            killing.kill(*found.all)
        run.communicate()
        assert len(list(temporary.iterdir())) == 1
        code, _, err = killing.finish(start(tmp_path, db, TMPDIR=name))
        assert code == 0, err
        tools.assert_loaded_once(db, "orders", files)
        assert list(temporary.iterdir()) == []


def test_what_a_killed_check_leaves_is_removed_by_the_next_command(tmp_path: Path, db: Path) -> None:
    make(tmp_path)
    (tmp_path / "hold.py").write_text(WAITING)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        words = ("in", "--to", db, "--transform", "hold:hurt")
        run = tools.start("check", *words, cwd=tmp_path, TMPDIR=name)
        killing.wait_for(lambda: (tmp_path / "begun").exists() or run.poll() is not None, "a worker at its slice")
        killing.kill(run.pid, *(process.pid for process in psutil.Process(run.pid).children(recursive=True)))
        run.communicate()
        assert list(temporary.iterdir()) != []
        (tmp_path / "go").touch()
        done = tools.ingest("plan", *words, cwd=tmp_path, TMPDIR=name)
        assert done.returncode == 0, done.stderr
        assert list(temporary.iterdir()) == []


def test_a_long_path_of_the_folder_for_temporary_files_is_no_error(tmp_path: Path, db: Path) -> None:
    temporary = tmp_path / ("long" * 40)
    temporary.mkdir()
    files = make(tmp_path)
    code, _, err = killing.finish(start(tmp_path, db, TMPDIR=str(temporary)))
    assert code == 0, err
    tools.assert_loaded_once(db, "orders", files)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("mebibytes", [80, 400])
def test_a_run_that_gets_too_little_memory_ends_by_itself(tmp_path: Path, db: Path, mebibytes: int) -> None:
    """Whether or not it is enough is the machine's to say; some of its processes die where they please."""
    files = [tools.orders(tmp_path / "in" / "orders_1.csv", 1_000)]
    killing.aged(*files)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    done = subprocess.run(
        [sys.executable, "-m", "ingest", "load", "in", "--to", str(db), "--progress", "none"],
        cwd=tmp_path,
        env=tools.environ(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode in (0, 1, 4), done.stderr
    assert done.returncode == 0 or "error: " in done.stderr
    assert tools.load(files, db).exit_code == 0
    tools.assert_loaded_once(db, "orders", files)


@pytest.mark.every_target
@pytest.mark.core
def test_a_load_imports_nothing_that_it_does_not_need(tmp_path: Path, db: Database) -> None:
    (tmp_path / "in").mkdir()
    good = 'b,2.50,true,2024-02-29,2024-02-29 10:00:00,"x\ny"\n,,,,,\n'
    (tmp_path / "in" / "a.csv").write_text(f"text,money,flag,day,moment,note\n{good * 40}too,few\n")
    (tmp_path / "spy").mkdir()
    seen = tmp_path / "seen"
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY.format(seen=str(seen)))
    words = ("load", "in", "--to", db, "--max-rejects", "1", "--workers", 1)
    # Databases of an unknown kind are brought by a module on that path.
    path = os.pathsep.join(filter(None, (str(tmp_path / "spy"), os.environ.get("PYTHONPATH"))))
    for _ in range(2):
        done = tools.ingest(*words, cwd=tmp_path, PYTHONPATH=path)
        assert done.returncode in (0, 3), done.stderr
    assert tools.query(db, "SELECT rows_loaded, rows_rejected FROM ingest_file") == [(80, 1)]
    looked_for = set(seen.read_text().split())
    assert {"sqlalchemy", "pyarrow.compute"} <= looked_for  # it is seen
    # Arrow and SQLAlchemy would import these by the way, and each costs a tenth of a small load's time, or a half.
    assert not {"pandas", "alembic", "rich"} & looked_for
    if oracle(db).kind != "mariadb":
        assert "sqlalchemy.dialects.mysql" not in looked_for


LEFT = """
import os, socket
from multiprocessing import forkserver, get_context
from ingest import crew

if __name__ == "__main__":
    process = get_context("forkserver").Process(target=print)
    crew.start_process(process)
    process.join()
    server = forkserver._forkserver
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(server._forkserver_address)
    os.waitpid(server._forkserver_pid, 0)
"""


def test_a_fork_server_whose_parent_dies_while_it_asks_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text(LEFT)
    done = subprocess.run([sys.executable, "left.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")
