"""The Python API: the words of the command line, as Python has them, and nothing said but to whoever listens."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ingest
from ingest.errors import UsageError
from ingest.model import ColumnType, Told
from ingest.settings import Budget, DeclaredType, Settings


def test_api_takes_the_words_of_the_command_line() -> None:
    made = ingest._settings(
        Path("x.db"),
        {
            "max_rejects": "1%",
            "declared": {"price": "decimal(12,2)"},
            "rename": {"a": "b"},
            "slice_bytes": "16MiB",
            "null": "NA",
            "include": ["*.txt"],
            "spool": Path("/tmp/s"),
            "told": {"delimiter": "tab", "quote": "none"},
        },
    )
    assert made == Settings(
        to="x.db",
        max_rejects=Budget(percent=1.0),
        declared=(DeclaredType(column="price", type=ColumnType.DECIMAL, precision=12, scale=2),),
        rename=(("a", "b"),),
        slice_bytes=16 << 20,
        null=("NA",),
        include=("*.txt",),
        spool="/tmp/s",
        told=Told(delimiter="\t", quote=""),
    )
    assert ingest._settings(None, {"max_rejects": 5}).max_rejects == Budget(count=5)
    # Numbers in either way, as their type says.
    for numbers in ({"header": 2, "skip_rows": 3}, {"header": "2", "skip_rows": "3"}):
        assert ingest._settings(None, {"told": numbers}).told == Told(header=2, skip_rows=3)


def test_api_options_are_the_settings() -> None:
    assert set(ingest.Options.__annotations__) == {f.name for f in fields(Settings)} - {"to"}
    with pytest.raises(TypeError, match="no_such_option"):
        ingest._settings(None, {"no_such_option": 1})  # type: ignore[typeddict-unknown-key]
    for wrong, instead in (
        ({"delimiter": ";"}, "told={'delimiter': …}"),
        ({"type": {"a": "text"}}, "declared={COLUMN: TYPE}"),
        ({"told": {"delimeter": ";"}}, "it has delimiter, quote"),
    ):
        with pytest.raises(TypeError, match=re.escape(instead)):
            ingest._settings(None, wrong)  # type: ignore[arg-type]
    assert ingest._settings(None, {"told": {"header": 2}}).told.header == 2
    with pytest.raises(UsageError, match=r"--max-rejects is '0\.5'"):
        ingest._settings(None, {"max_rejects": 0.5})  # type: ignore[typeddict-item]


def test_api_prints_nothing_where_no_logging_is_set_up(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id\n1\n")
    call = "ingest.plan('t.csv', to='t.db', workers=1, rename={'nothing': 'so'}, on_event=told.append)"
    code = f"import ingest; told = []; {call}; assert 'changes nothing' in str(told)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_public_name_is_there() -> None:
    for name in ingest.__all__:
        assert getattr(ingest, name) is not None
    with pytest.raises(AttributeError):
        _ = ingest.no_such_name  # type: ignore[attr-defined]


def test_no_module_takes_the_place_of_a_public_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(ingest.__path__)}
    assert not modules & set(ingest.__all__)
