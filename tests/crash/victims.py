"""The processes of a run by what they do, at any moment of it; and their deaths, each of which is proved.

`killing.processes` knows a run only when all of it is up. Here it is looked at as it is, also while it starts or ends.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0
"""A killed process that is there after so long cannot be killed; on a busy machine it takes a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, told from another one that has its number by when it started."""

    pid: int
    born: int  #: in ticks since the start of the machine
    role: str
    group: int

    @property
    def state(self) -> str:
        """As in proc(5); `X` where it is gone, also if its number was given to another."""
        found = _stat(self.pid)
        return found[0] if found is not None and int(found[19]) == self.born else "X"

    @property
    def parent(self) -> int:
        found = _stat(self.pid)
        return int(found[1]) if found is not None else 0

    @property
    def alive(self) -> bool:
        return self.state not in "XZ"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def family(main: int) -> list[Process]:
    """The processes of the run of `main` that are there, `main` first: nothing if it is gone."""
    stats = _stats()
    if main not in stats or stats[main][0] in "XZ":
        return []
    below = _below(main, stats)
    parents = {pid: int(stats[pid][1]) for pid in below}
    commands = {pid: _command(pid) for pid in (main, *below)}
    helpers = {pid: word for pid in below if (word := _helper(commands[pid], commands[parents[pid]]))}
    # Who has asked for a process of a fork server is the parent of that.
    owners = {pid: parents[parents[pid]] if parents[pid] in helpers else parents[pid] for pid in below}
    own = [pid for pid in below if pid not in helpers and owners[pid] == main]
    hosts = [pid for pid in own if int(stats[pid][3]) == pid]
    rest = sorted((pid for pid in own if pid not in hosts), key=lambda pid: int(stats[pid][19]))
    # A host is started before the writer, and has no session of its own yet in its first moments.
    writers = rest[:1] if hosts else rest[1:2]
    roles = dict.fromkeys(below, "worker") | dict.fromkeys(own, "host") | dict.fromkeys(writers, "writer")
    roles |= helpers | {main: "main"}
    return [_process(pid, stats[pid], roles[pid]) for pid in (main, *below) if stats[pid][0] not in "XZ"]


def _stats() -> dict[int, list[str]]:
    numbers = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return {pid: found for pid in numbers if (found := _stat(pid)) is not None}


def _below(pid: int, stats: dict[int, list[str]]) -> list[int]:
    """All descendants of a process, parents first."""
    below: list[int] = []
    level = [pid]
    while level:
        level = [child for child, found in stats.items() if int(found[1]) in level]
        below += level
    return below


def _process(pid: int, stat: list[str], role: str) -> Process:
    return Process(pid=pid, born=int(stat[19]), role=role, group=int(stat[2]))


def _helper(command: str, of_parent: str) -> str:
    """What multiprocessing itself has started, or nothing."""
    if "resource_tracker" in command:
        return "resource tracker"
    # What a fork server forks keeps its command line; the fork server of a forked process has another.
    return "fork server" if "forkserver" in command and command != of_parent else ""


def frozen(processes: Iterable[Process]) -> list[Process]:
    """Stop the processes; those that have stopped, and so were alive."""
    asked = [process for process in processes if process.alive]
    for process in asked:
        _send(process, signal.SIGSTOP)
    end = time.monotonic() + SECONDS
    while unstopped := [process.pid for process in asked if process.state not in "TXZ"]:
        assert time.monotonic() < end, "a process cannot be stopped"
        # One that is about to start a program (`vfork`) stops only when its child, stopped or not, has begun that.
        children = [process for process in asked if process.state == "T" and process.parent in unstopped]
        go_on(children)
        time.sleep(0.001)
        for process in children:
            _send(process, signal.SIGSTOP)
    return [process for process in asked if process.state == "T"]


def halted(main: int) -> list[Process]:
    """Stop a whole run, `main` first; also what it had just begun to start."""
    stopped: list[Process] = []
    while fresh := [process for process in family(main) if process.state != "T"]:
        stopped += frozen(fresh)
    return stopped


def go_on(processes: Iterable[Process]) -> None:
    """Let stopped processes go on."""
    for process in processes:
        _send(process, signal.SIGCONT)


def slain(processes: Iterable[Process]) -> list[Process]:
    """Kill the processes, all at one moment; those that were alive, and died of it.

    They are stopped first. What stands still does nothing before it dies, least of all end by itself.
    """
    victims = frozen(processes)
    for process in victims:
        _send(process, signal.SIGKILL)
    left = surviving(victims, SECONDS)
    assert not left, f"these processes outlive a SIGKILL: {left}"
    return victims


def surviving(processes: Sequence[Process], seconds: float) -> list[Process]:
    """Who is still alive after so many seconds."""
    end = time.monotonic() + seconds
    while (left := [process for process in processes if process.alive]) and time.monotonic() < end:
        time.sleep(0.005)
    return left


def _send(process: Process, number: signal.Signals) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        pass


def marked(word: str) -> list[Process]:
    """All living processes in whose environment this text is, whoever has started them."""
    found = []
    for pid, stat in _stats().items():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if word.encode() in environment and stat[0] not in "XZ":
            found.append(_process(pid, stat, "left behind"))
    return found


def backend(pid: int) -> Process | None:
    """A server's process for one connection."""
    stat = _stat(pid)
    return None if stat is None else _process(pid, stat, "backend")
