"""What a storm has done, in the lines that docs/reliability.md publishes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PROCESSES = ("worker", "host", "writer", "main", "fork server", "resource tracker")
VICTIMS = (*PROCESSES, "several", "everybody", "group", "main, the others stopped", "backend", "database server")
BESIDES = ("pause", "stopped for longer than its lease", "connections ended")
"""The columns of the figures: who is killed, and what kills nobody."""


@dataclass(slots=True)
class Figures:
    """What a storm has done so far."""

    kills: Counter[str] = field(default_factory=Counter)  #: by victim; one attack counts once
    processes: int = 0  #: that died of these
    others: Counter[str] = field(default_factory=Counter)  #: attacks that killed nobody
    missed: int = 0  #: attacks whose victim, or whose whole run, had ended by then
    rounds: int = 0
    runs: int = 0
    violations: int = 0

    def add(self, other: Figures) -> None:
        """Count what another has counted."""
        self.kills += other.kills
        self.processes += other.processes
        self.others += other.others
        self.missed += other.missed
        self.rounds += other.rounds
        self.runs += other.runs
        self.violations += other.violations

    def told(self, database: str, seed: int, seconds: float) -> str:
        """The lines of docs/reliability.md for this storm, each below its head."""
        rows = {
            "Database": database,
            "Seed": seed,
            "Rounds": self.rounds,
            "Runs": self.runs,
            "Kills": self.kills.total(),
            "Processes killed": self.processes,
            "Too late": self.missed,
            "Violations": self.violations,
            "Time": f"{seconds / 60:.0f} min",
        }
        victims = {"Database": database} | {who: self.kills[who] for who in VICTIMS}
        others = {"Database": database} | {what: self.others[what] for what in BESIDES}
        return "\n\n".join(_lines(each) for each in (rows, victims, others))


def _lines(row: dict[str, Any]) -> str:
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (row.keys(), ["---"] * len(row), row.values()))
