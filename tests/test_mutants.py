"""The script that tests the tests cannot rot: what it takes away is there, and a few safeties are taken away here."""

from __future__ import annotations

import re
from pathlib import Path

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_safety_is_where_its_mutant_takes_it_away(mutant: mutants.Mutant) -> None:
    path = mutants.ROOT / "ingest" / mutant.file
    before = path.read_text(encoding="utf-8")
    after = mutant.applied(before)
    assert after != before
    compile(after, str(path), "exec")
    for name in mutant.tests:
        file, _, test = name.partition("::")
        text = (mutants.ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test.partition('[')[0]}\(" if test else "^def test_", text, re.MULTILINE), name


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS) >= 20


def test_a_safety_that_is_not_where_it_was_is_told() -> None:
    gone = mutants.Mutant(name="gone", what="nothing", file="claims.py", edits=(("no such line", ""),), tests=())
    with pytest.raises(ValueError, match=r"gone: .* has 0 times"):
        gone.applied("some text")


@pytest.mark.parametrize("name", ["advance-epoch", "landed", "stat-read"])
def test_without_a_safety_a_test_fails(name: str) -> None:
    (mutant,) = mutants.named([name])
    assert mutants.killer(mutant).partition("[")[0] == mutant.tests[0].partition("[")[0]


def test_without_a_change_no_test_fails(tmp_path: Path) -> None:
    """Else every mutant would seem to be killed."""
    (mutant,) = mutants.named(["landed"])
    mutants.copy(tmp_path)
    assert mutants.failed(tmp_path, mutant.tests) == ""
