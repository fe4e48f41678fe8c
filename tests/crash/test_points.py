"""Death at counted places: of the long runs of `run.py points` and `run.py failpoints`, every fsync and a sample.

In the long runs each point has a round of its own. Here the deaths of a staircase share one: each process of the role
dies a little later than the one before it, with what that one left, until all had their turn.
"""

from __future__ import annotations

import random
from collections import Counter

import deaths
import places
import pytest
import servers
from deaths import Point, Room
from scenes import SCENES

SEED = 20
"""Another one takes another sample."""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> servers.Server | None:
    """The server of the test's database, if it lies on one."""
    database = request.node.callspec.params.get("database", "sqlite-rollback")
    if database.startswith("sqlite"):
        return None
    found: servers.Server = request.getfixturevalue(f"{database}_server")
    return found


@pytest.fixture
def _strace() -> None:
    servers.require_strace()


counted_calls = pytest.mark.usefixtures("_strace")


@counted_calls
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("database", "first"),
    [*(("sqlite-rollback", first) for first in (5, 6)), ("sqlite-wal", 2)],
)
def test_no_writer_lives_to_its_next_fsync_but_one(database: str, first: int) -> None:
    """Each writer dies at the same fsync of its life: in its second transaction, or when that is made up for."""
    with Room(SCENES["append"], database, None) as room:
        done = room.play(role="writer", when=",".join([f"fdatasync:{first}"] * 24))
    assert done.kills >= 10, f"{done.kills} kills in {done.runs} runs"
    # A commit goes by no other file: one that a kill leaves behind is known to nobody.
    assert done.files <= {"test.db", "test.db-journal", "test.db-wal", "test.db-shm", "test.db-ingest-lock"}


@counted_calls
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite-rollback", "sqlite-wal"])
def test_each_run_dies_one_fsync_later(database: str) -> None:
    with Room(SCENES["replace"], database, None) as room:
        [counted] = room.play(role="main", judge=False).logs
        syncs = [point for point in counted if point.name == "fdatasync"]
        done = room.play(role="main", when=",".join(map(str, syncs)))
    assert len(syncs) >= 8
    assert done.kills >= len(syncs) / 2, f"{done.kills} kills in {done.runs} runs"


@counted_calls
@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", ["writer", "main"])
@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_conversation_with_a_server_is_broken_off_at_its_next_words(
    database: str, role: str, server: servers.Server | None
) -> None:
    chance = random.Random(f"{SEED} {database} {role}")
    scene = chance.choice(["upsert", "reload"])
    counts = sorted(chance.sample(range(2, 60), 8))
    with Room(SCENES[scene], database, server) as room:
        done = room.play(role=role, when=",".join(f"sendto:{count}" for count in counts))
    assert done.kills >= 3, f"{scene}, {counts}: {done.kills} kills in {done.runs} runs"


@counted_calls
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite-rollback", "sqlite-wal"])
@pytest.mark.parametrize("role", ["writer", "main"])
def test_a_sample_of_all_points_is_survived(database: str, role: str) -> None:
    chance = random.Random(f"{SEED} {database} {role}")
    name = chance.choice(["append-existing", "upsert", "reload", "tail", "columns", "lost", "mend"])
    with Room(SCENES[name], database, None) as room:
        [counted] = room.play(role=role, judge=False).logs
        when = ",".join(map(str, (chance.choice(counted), chance.choice(counted))))
        done = room.play(role=role, when=when)
    first = done.logs[0]
    assert first == counted[: len(first)], f"{name}, {when}: the calls before the kill were others"
    assert done.kills >= 1, f"{name}, {when}: nobody was killed"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", ["append-existing", "replace", "lost", "mend"])
def test_whoever_comes_by_a_named_place_may_die_there(scene: str) -> None:
    names = places.counted(scene, "sqlite-rollback", None)
    when = random.Random(f"{SEED} {scene}").choice(places.rounds(SEED, scene, names))
    with Room(SCENES[scene], "sqlite-rollback", None) as room:
        done = room.play(places=when)
    assert done.kills >= 1, when


def test_points_are_numbered_among_those_of_their_name() -> None:
    log = 'pwrite64(3</db>, ""..., 8, 0) = 8\nfdatasync(3</db>) = 0\npwrite64(3</db>, ""..., 8, 8) = ?\n'
    assert deaths._points(log) == [Point("pwrite64", 1), Point("fdatasync", 1), Point("pwrite64", 2)]
    assert Point.parse("pwrite64:2") == Point("pwrite64", 2)
    assert Counter(place for place in places.named())["before_commit"] == 1
