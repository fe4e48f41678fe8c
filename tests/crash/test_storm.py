"""A storm on each database, always the same draws: a sample of what `run.py storm` does at length."""

from __future__ import annotations

import pytest
import servers
import storm

SEED = 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("database", "kills"), [("sqlite", 20), ("postgresql", 15), ("mariadb", 15)])
def test_a_storm_of_kills_loads_every_record_once(database: str, kills: int) -> None:
    if database in storm.SERVERS:
        servers.require(storm.SERVERS[database])
    played = storm.Storm(database=database, seed=SEED, kills=kills)
    figures = played.run()
    print(figures.told(database, SEED, 0))
    assert figures.violations == 0  # each is printed, with its seed, its round and all that is left of it
    assert figures.kills.total() >= kills
