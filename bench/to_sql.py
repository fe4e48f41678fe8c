"""The peer that most people write themselves: pandas.read_csv in chunks, DataFrame.to_sql through SQLAlchemy.

Usage: to_sql.py URL FILE... Started as a process of its own.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
import sqlalchemy as sa

CHUNK_ROWS = 50_000


def load(url: str, files: list[str]) -> None:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def durable(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    for path in files:
        with engine.begin() as connection:
            for chunk in pd.read_csv(path, chunksize=CHUNK_ROWS):
                chunk.to_sql("lineitem", connection, if_exists="append", index=False)
    engine.dispose()


if __name__ == "__main__":
    load(sys.argv[1], sys.argv[2:])
