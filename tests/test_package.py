"""What is published works: the wheel alone, in a fresh environment, far from the checkout.

Everything is installed from the lock file, so that a warm uv cache is enough and no newer release can break the test.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "data" / "shop"
UV = shutil.which("uv")

# pandas and pyarrow are unpacked anew where the cache is on another file system, and fetched where there is none.
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(UV is None and not os.environ.get("CI"), reason="uv is not installed (in CI it must be)"),
]


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of the environment that the tests run in."""
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "INGEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert UV is not None, "CI needs uv"
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the locked dependencies and the wheel, and no checkout."""
    assert UV is not None
    folder = tmp_path_factory.mktemp("fresh")
    environment = folder / "venv"
    run(UV, "venv", "--python", sys.executable, environment, cwd=folder)
    run(
        *(UV, "sync", "--frozen", "--no-dev", "--no-install-project", "--project", ROOT),
        cwd=folder,
        UV_PROJECT_ENVIRONMENT=str(environment),
    )
    run(UV, "pip", "install", "--offline", "--no-deps", "--python", environment, wheel, cwd=folder)
    return environment / ("Scripts" if os.name == "nt" else "bin")


def records_of(path: Path) -> int:
    """Data records of a file, by Python's own reader."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8-sig")
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) - 1


def rows_in(database: Path) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [name for name in names if not name.startswith(("ingest_", "sqlite_"))]
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables)
    finally:
        connection.close()


def test_wheel_carries_migrations_and_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "ingest/py.typed" in names
    assert "ingest/migrations/env.py" in names
    assert any(name.startswith("ingest/migrations/versions/") and name.endswith(".py") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"ingest"}
    assert not [name for name in names if name.endswith((".pyc", ".csv", ".db"))]


def test_installed_wheel_tells_its_version(scripts: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run(scripts / "ingest", "--version", cwd=tmp_path).stdout.split() == ["ingest", version]
    where = run(scripts / "python", "-c", "import ingest; print(ingest.__file__)", cwd=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(scripts.parent)


def test_installed_wheel_loads_the_sample_data_from_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    files = sorted([*SHOP.rglob("*.csv"), *SHOP.rglob("*.csv.gz")])
    expected = sum(map(records_of, files))
    assert expected > 0
    run(scripts / "ingest", "load", SHOP, cwd=tmp_path)
    assert rows_in(tmp_path / "ingest.db") == expected
    run(scripts / "ingest", "load", SHOP, cwd=tmp_path)
    assert rows_in(tmp_path / "ingest.db") == expected


def test_installed_wheel_finds_its_migrations(scripts: Path, tmp_path: Path) -> None:
    run(scripts / "ingest", "load", SHOP, cwd=tmp_path)
    assert run(scripts / "ingest", "ledger", "current", cwd=tmp_path).stdout.strip()
