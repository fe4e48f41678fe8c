"""What is said of one file on its way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ingest.settings import Budget, Settings
from ingest.units import Load


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [(Budget(count=1_234_567), "1,234,567"), (Budget(count=3), "3"), (Budget(percent=0.5), "0.5% of 9,000,000")],
    ids=["many", "few", "a share"],
)
def test_a_budget_is_told_to_the_record(budget: Budget, allowed: str) -> None:
    source = SimpleNamespace(display="a.csv")
    works: list[Any] = [SimpleNamespace(source=source, tail=False)]
    nothing: Any = None
    load = Load(works=works, rows=[], layout=nothing, shape=nothing, job=nothing)
    load.records, load.rejected = 9_000_000, 2_000_000
    why = load.over_budget(Settings(max_rejects=budget), 0, at_end=True)
    assert why is not None
    assert f"--max-rejects allows {allowed}. Nothing of it was loaded." in why.message
