"""Kill whoever comes by a named place of the code, each time that a scene comes by one, and once more after that."""

from __future__ import annotations

import argparse
import ast
import random
import time
from pathlib import Path

import deaths
import points
import servers
from deaths import Room, Round
from scenes import SCENES
from warm import Warm

PACKAGE = Path(__file__).resolve().parent.parent.parent / "ingest"

NOT_THERE = {"sqlite": {"after_widen_intent", "after_widen"}}
"""Places that a kind of database never comes to."""


def named() -> set[str]:
    """The names of all places in the code."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                [argument] = node.args
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: a place has one name"
                found.add(str(argument.value))
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    points.arguments(parser, roles=False)


def main(options: argparse.Namespace) -> int:
    """Every time that a scene comes by a place; 1 where the promise was broken, or a place was never come by."""
    print(f"{points.HEAD}\nseed {options.seed}", flush=True)
    broken, reached = 0, set()
    with deaths.server_of(options.database) as server:
        for scene in points.asked_scenes(options):
            names = counted(scene, options.database, server)
            reached |= set(names)
            broken += _kill_everywhere(options, scene, names, server)
    missed = named() - reached - NOT_THERE.get(options.database.partition("-")[0], set())
    if missed and not options.scene:
        print(f"NEVER REACHED: {', '.join(sorted(missed))}")
        return 1
    return 1 if broken else 0


def counted(scene: str, database: str, server: servers.Server | None) -> tuple[str, ...]:
    """The places that a scene comes by, in their order."""
    with Warm() as warm, Room(SCENES[scene], database, server, warm.ingest) as room:
        return room.play(places="0", judge=False).places


def rounds(seed: int, scene: str, names: tuple[str, ...], every: int = 1) -> list[str]:
    """Two kills each: at a time that the scene comes by, and at one of those that follow."""
    chance = [random.Random(f"{seed} {scene} {number}") for number in range(len(names))]
    found = [f"{number},{number + rng.randint(1, len(names))}" for number, rng in enumerate(chance, start=1)]
    return found[::every]


def _kill_everywhere(
    options: argparse.Namespace, scene: str, names: tuple[str, ...], server: servers.Server | None
) -> int:
    began = time.monotonic()

    def strayed(when: str, outcome: Round) -> bool:
        first = int(when.partition(",")[0])
        return outcome.places[:first] != names[:first]

    line = points.Line(database=options.database, scene=scene, what="anyone", points=len(names))
    points.play_all(
        options,
        line,
        server,
        [options.only] if options.only else rounds(options.seed, scene, names, options.every),
        lambda room, when: room.play(places=when),
        strayed,
        ("failpoints",),
    )
    line.seconds = time.monotonic() - began
    print(line, flush=True)
    return line.violations
