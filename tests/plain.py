"""Dialects that the tool knows nothing of: PostgreSQL and SQLite under other names, and two that nobody should use.

Importing this installs them the way a package of pip's does it: by entry points, in a folder that this process, those
that it forks and those that it starts look for packages in. `plainpg` and `plainsqlite` are SQLAlchemy's own: nothing
but the name in the URL tells the tool which target to use.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.dialects.sqlite import DATETIME
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.types import DateTime

_FOLDER = Path(tempfile.mkdtemp(prefix="ingest-test-dialects-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

_PACKAGE = _FOLDER / "plain_dialects-1.0.dist-info"
_PACKAGE.mkdir()
(_PACKAGE / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-dialects\nVersion: 1.0\n")
(_PACKAGE / "entry_points.txt").write_text(
    "[sqlalchemy.dialects]\n"
    "plainpg = sqlalchemy.dialects.postgresql.psycopg:PGDialect_psycopg\n"
    "plainsqlite = sqlalchemy.dialects.sqlite.pysqlite:SQLiteDialect_pysqlite\n"
    "plainsqlite.pysqlite = sqlalchemy.dialects.sqlite.pysqlite:SQLiteDialect_pysqlite\n"
    "committing = plain:CommittingDialect\n"
    "coarse = plain:CoarseDialect\n"
)
for _place in (str(_FOLDER), str(Path(__file__).parent)):
    if _place not in sys.path:
        sys.path.append(_place)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(_FOLDER)]))


class CommittingDialect(SQLiteDialect_pysqlite):
    """SQLite, each statement a transaction of its own."""

    supports_statement_cache = True

    def on_connect(self) -> Callable[[Any], None]:
        before = super().on_connect()

        def connected(driver: Any) -> None:
            if before is not None:
                before(driver)
            driver.isolation_level = None

        return connected


class _Seconds(DATETIME):
    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(truncate_microseconds=True)


class CoarseDialect(SQLiteDialect_pysqlite):
    """SQLite, where a moment has no more than seconds."""

    supports_statement_cache = True
    colspecs = {**SQLiteDialect_pysqlite.colspecs, DateTime: _Seconds}  # noqa: RUF012 - as SQLAlchemy spells it
