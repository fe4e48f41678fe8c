"""Whole loads under random kills, one after the other."""

from __future__ import annotations

import random
import time
from pathlib import Path

import killing
import pytest
from oracle import Database, oracle
from test_kill import assert_third_run_is_a_no_op, make, start

pytestmark = pytest.mark.every_target


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_kills_at_any_moment_loads_every_row_once(tmp_path: Path, db: Database, seed: int) -> None:
    """Random victims at random moments, until so many are dead; whoever is left of the last run ends by himself."""
    chance = random.Random(seed)
    files = make(tmp_path)
    run = start(tmp_path, db)
    for _ in range(8):
        found = killing.started(run)
        if found is not None:
            time.sleep(chance.uniform(0, 0.4))
            victim = chance.choice(["main", "host", "writer", "worker"])
            pid = {"main": found.main, "host": found.host, "writer": found.writer, "worker": found.workers[0]}[victim]
            killing.kill(pid)
            killing.assert_gone((pid,))
            if victim == "main":
                run.wait(killing.SECONDS)  # the thread of its heartbeat may take a moment longer than it
        if run.poll() is not None:
            killing.finish(run)
            run = start(tmp_path, db)
    code, _, err = killing.finish(run)
    if code == 1:  # its writer was killed three times in a row
        assert "same command again" in err
        run = start(tmp_path, db)
        code, _, err = killing.finish(run)
    assert code == 0, err
    assert "Traceback" not in err
    assert_third_run_is_a_no_op(db, files)
    assert killing.spools(oracle(db).folder) == []
