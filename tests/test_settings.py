"""Settings that cannot be are refused before anything is done."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from ingest.errors import UsageError
from ingest.settings import Settings


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in ("min_age", "wait", "file_timeout") for value in (nan, -1.0)),
        {"min_age": inf},
        *({name: -1} for name in ("workers", "connections", "max_rejects_run", "sample", "slice_bytes")),
    ],
    ids=str,
)
def test_a_number_that_cannot_be_is_wrong_usage(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must"):
        Settings(**wrong)


def test_who_waits_for_ever_may() -> None:
    assert Settings(wait=inf, file_timeout=inf).wait == inf
