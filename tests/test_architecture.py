"""The house keeps its floors: who may import whom, how big a file may be, what a cold process pays for.

The floors themselves are listed once, under `[tool.importlinter]` in pyproject.toml; docs/design.md says why.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ingest"
LONGEST = 620

#: Which rooms (a file's name, or its folder's) may import a library, at the top or inside a function. Each of these
#: is a danger to be kept in few places, or seconds of start-up; `click` is not there at all beside recent typers.
IMPORTERS = {
    "sqlalchemy": {"applying", "writer", "ledger", "tables", "targets"},
    "multiprocessing": {"crew", "launching", "pool", "waker", "writer", "writing"},
    "alembic": {"ledger"},
    "pandas": {"filtering", "transforming"},
    "typer": {"cli"},
    "click": set(),
}

#: Who may write to the terminal.
SPEAKERS = {"__main__", "cli", "console"}

#: What each process may not have loaded once its main module is imported: all of them are slow, few need them.
LIGHT = {
    "ingest": {"sqlalchemy", "pandas", "pyarrow", "numpy", "alembic", "typer", "rich"},
    "ingest.__main__": {"sqlalchemy", "pandas", "pyarrow", "numpy", "alembic", "typer", "rich"},
    "ingest.cli": {"sqlalchemy", "pandas", "pyarrow", "alembic"},
    "ingest.worker": {"sqlalchemy", "pandas", "alembic", "typer", "rich"},
    "ingest.pool": {"sqlalchemy", "pandas", "alembic", "typer", "rich"},
    "ingest.writer": {"pandas", "alembic", "typer", "rich"},
}


def python_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    # Folders that benchmarks and tools fill are not the project's.
    return [path for path in found if not {"data", "out", "__pycache__"} & set(path.relative_to(ROOT).parts)]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The top-level names of everything that a file imports when it runs, anywhere in it."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
        waiting += ast.iter_child_nodes(node)
    return names


def speech(path: Path) -> list[str]:
    """Where a file prints, or takes hold of a standard stream."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"{path.name}:{node.lineno} print")
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
            and node.attr in {"stdout", "stderr", "exit"}
        ):
            found.append(f"{path.name}:{node.lineno} sys.{node.attr}")
    return found


#: Calls that may wait, by their last name: how many arguments make a limit; None: nothing but `timeout` does.
WAITS = {
    "wait": 1,
    "join": 1,
    "get": 1,
    "acquire": 1,
    "poll": 1,
    "communicate": None,
    "result": 1,
    "as_completed": None,
}

#: Calls that may wait and know no limit.
ENDLESS = {"recv", "send", "flock", "lockf", "waitpid", "map", "imap", "imap_unordered", "accept", "getch", "input"}


def endless_waits(path: Path) -> set[str]:
    """What a file calls, or enters, that waits until somebody else does something, for as long as it takes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    locks = {
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.value).startswith(("threading.Lock", "threading.Condition"))
        for target in node.targets
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            entered = {ast.unparse(item.context_expr) for item in node.items}
            found |= {f"with {lock}" for lock in entered & locks}
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called, name = ast.unparse(node.func), node.func.attr
        if name in ENDLESS and not any(isinstance(a, ast.AST) and "LOCK_NB" in ast.unparse(a) for a in node.args):
            found.add(called)
        if name in WAITS and not any(keyword.arg == "timeout" for keyword in node.keywords):
            # Of multiprocessing's own `wait`, the first argument says for what.
            enough = 2 if called.endswith("connection.wait") else WAITS[name]
            if enough is None or len(node.args) < enough:
                found.add(called)
    return found


def test_every_wait_has_a_limit_or_a_watcher() -> None:
    """A wait without a limit is in the table of docs/design.md, which says who ends it."""
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    table = re.search(
        r"^\| Where \| Waits for \| Who sees to its end \|\n\|[-|]+\|\n((?:\|.*\n)+)", design, re.MULTILINE
    )
    assert table, "no table of waits"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()]
    told = {tuple(re.findall(r"`([^`]+)`", where)) for where, what, who in rows if what and who}
    there = {(str(path.relative_to(PACKAGE)), wait) for path in python_files("ingest") for wait in endless_waits(path)}
    assert {(where[0], wait) for where in told for wait in where[1:]} == there


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", IMPORTERS)
def test_only_named_rooms_import(library: str) -> None:
    strangers = {
        str(path.relative_to(ROOT))
        for path in python_files("ingest")
        if library in imported(path) and room(path) not in IMPORTERS[library]
    }
    assert not strangers, f"{library} belongs to {sorted(IMPORTERS[library]) or 'nobody'}"


def test_only_the_door_speaks_or_exits() -> None:
    assert [line for path in python_files("ingest") if room(path) not in SPEAKERS for line in speech(path)] == []


def test_no_file_is_too_long() -> None:
    counted = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("ingest", "migrations", "tests", "bench")
    }
    assert {name: lines for name, lines in counted.items() if lines > LONGEST} == {}


def test_every_file_opens_with_its_job() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files("ingest", "migrations", "tests", "bench")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


@pytest.mark.parametrize("module", LIGHT)
def test_a_process_imports_only_what_it_needs(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not LIGHT[module] & set(done.stdout.split())
