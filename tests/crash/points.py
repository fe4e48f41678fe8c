"""Kill a process at each of its system calls that change something, and once more while that is made up for.

With one worker a process makes the same calls in each run. They are counted once; then, for each of them, the process
is killed before that call, and the one that takes up its work before another, which a seed chooses.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import deaths
import servers
from deaths import DATABASES, Point, Room, Round
from scenes import SCENES
from warm import Warm

ROLES = ("writer", "main")


@dataclass(slots=True, kw_only=True)
class Line:
    """A line of the table that a long run prints."""

    database: str
    scene: str
    what: str
    points: int
    rounds: int = 0
    kills: int = 0
    asked: int = 0  #: kills that were asked for
    strayed: int = 0  #: rounds in which the calls before the first kill were others than those counted
    violations: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.database:<16} {self.scene:<16} {self.what:<7} {self.points:>6} {self.rounds:>6} {self.kills:>6}"
            f" {self.asked - self.kills:>7} {self.strayed:>7} {self.violations:>10} {self.seconds:>7.0f}"
        )


HEAD = (
    "database         scene            who     points rounds  kills  missed strayed violations seconds\n"
    "(missed: a kill that was asked for, at a call that was not made; strayed: rounds with other calls before it)"
)


def arguments(parser: argparse.ArgumentParser, *, roles: bool = True) -> None:
    """What can be typed."""
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    parser.add_argument("--scene", choices=sorted(SCENES), action="append", help="repeatable; without it all of them")
    if roles:
        parser.add_argument("--role", choices=ROLES, action="append", help="without it both, one after the other")
        parser.add_argument("--calls", help="only these system calls, as fdatasync,fsync; without it all")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th point")
    parser.add_argument("--seed", type=int, default=1, help="chooses the second kill of each round")
    parser.add_argument("--jobs", type=int, default=1, help="so many rounds at a time")
    parser.add_argument("--only", metavar="POINTS", help="one round, as a violation names it")


def main(options: argparse.Namespace) -> int:
    """All points of the scenes and roles that were asked for; 1 where the promise was broken."""
    print(f"{HEAD}\nseed {options.seed}", flush=True)
    broken = 0
    with deaths.server_of(options.database) as server:
        for scene in asked_scenes(options):
            for role in options.role or ROLES:
                broken += _kill_everywhere(options, scene, role, server)
    return 1 if broken else 0


def asked_scenes(options: argparse.Namespace) -> Iterator[str]:
    """The scenes that were asked for, and are possible there."""
    for name in options.scene or SCENES:
        if deaths.plays_on(SCENES[name], options.database):
            yield name


def _kill_everywhere(options: argparse.Namespace, scene: str, role: str, server: servers.Server | None) -> int:
    began = time.monotonic()
    with Warm() as warm, Room(SCENES[scene], options.database, server, warm.ingest) as room:
        [counted] = room.play(role=role, judge=False).logs
    names = set(options.calls.split(",")) if options.calls else set(deaths.CALLS)
    wanted = [point for point in counted if point.name in names][:: options.every]
    rounds = [f"{point},{_second(options.seed, scene, role, point, counted)}" for point in wanted]
    line = Line(database=options.database, scene=scene, what=role, points=len(counted))

    def strayed(_: str, outcome: Round) -> bool:
        return bool(outcome.logs) and outcome.logs[0] != counted[: len(outcome.logs[0])]

    play_all(
        options,
        line,
        server,
        [options.only] if options.only else rounds,
        lambda room, when: room.play(role=role, when=when),
        strayed,
        ("points", "--role", role),
    )
    line.seconds = time.monotonic() - began
    print(line, flush=True)
    return line.violations


def _second(seed: int, scene: str, role: str, first: Point, counted: Sequence[Point]) -> Point:
    """Where the next one is killed: at any call that the first one could have reached."""
    return random.Random(f"{seed} {scene} {role} {first}").choice(counted)


def play_all(
    options: argparse.Namespace,
    line: Line,
    server: servers.Server | None,
    rounds: Sequence[str],
    play: Callable[[Room, str], Round],
    strayed: Callable[[str, Round], bool],
    command: Sequence[str],
) -> None:
    """Play the rounds, some at a time, and count what came of them; each violation says what to type."""
    rooms: SimpleQueue[Room] = SimpleQueue()

    def one(when: str) -> tuple[str, Round | str]:
        room = rooms.get()
        try:
            outcome = deaths.repeated(lambda: play(room, when))
            if isinstance(outcome, str):
                kept = tempfile.mkdtemp(prefix="crash-violation-")
                shutil.copytree(room.folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tmp"))
                outcome += f"\n  files, and an SQLite database, as they were then: {kept}"
            return when, outcome
        finally:
            rooms.put(room)

    with contextlib.ExitStack() as stack:
        for _ in range(options.jobs):
            warm = stack.enter_context(Warm())
            rooms.put(stack.enter_context(Room(SCENES[line.scene], line.database, server, warm.ingest)))
        with ThreadPoolExecutor(options.jobs) as pool:
            for when, outcome in pool.map(one, rounds):
                line.rounds += 1
                line.asked += len(when.split(","))
                if isinstance(outcome, Round):
                    line.kills += outcome.kills
                    line.strayed += strayed(when, outcome)
                    continue
                line.violations += 1
                typed = (*command, "--database", line.database, "--scene", line.scene, "--only", when)
                print(f"VIOLATION: {outcome}\n  again: python tests/crash/run.py {shlex.join(typed)}", flush=True)
