"""The spool's folders: whose run is dead they are removed by the next one, at whatever moment it died."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import tools

from ingest import spool


def test_folders_of_dead_runs_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    base = tmp_path / "spool"
    dead = {
        ".ingest-making-empty": [],  # killed before it had an owner
        ".ingest-making-owned": ["owner"],
        ".ingest-spool-whole": ["owner", "batch"],
        ".ingest-making-partly": ["batch"],  # killed while it was removed
    }
    others = {
        ".ingest-spool-alive": ["owner", "batch"],
        ".ingest-spool-robbed": ["batch"],  # its owner went as an old file
        "mine": ["owner", "batch"],
    }
    for name, files in (dead | others).items():
        (base / name).mkdir(parents=True)
        for file in files:
            (base / name / file).touch()
    (base / ".ingest-spool-link").symlink_to(base / "mine")
    tools.write_csv(tmp_path / "in" / "a.csv", ["a"], [[1]])
    with open(base / ".ingest-spool-alive" / "owner") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        done = tools.ingest("load", "in", "--to", tmp_path / "test.db", "--spool", base, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in base.iterdir()} == {*others, ".ingest-spool-link"}
    for name, files in others.items():
        assert sorted(path.name for path in (base / name).iterdir()) == sorted(files)


MANY = """
import sys
from pathlib import Path
from ingest.spool import run_folder

for _ in range(300):
    with run_folder(Path(sys.argv[1])) as folder:
        (folder / "batch").touch()
"""


def test_runs_that_begin_at_once_leave_each_other_their_folders(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(run.communicate(timeout=100)[1], run.returncode) for run in runs] == [("", 0)] * 4
    spool.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []
