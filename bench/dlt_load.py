"""dlt's fastest way from CSV files into PostgreSQL: Arrow tables from pyarrow, loaded as CSV by COPY.

Usage: dlt_load.py URL FOLDER FILE... Started by `databases.py` as a process of its own, in an environment that has dlt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import dlt
from pyarrow import csv


def load(url: str, folder: str, files: list[str]) -> None:
    @dlt.resource(name="lineitem", write_disposition="append")
    def records() -> Iterator[Any]:
        for path in files:
            yield from csv.open_csv(path)

    pipeline = dlt.pipeline(
        "lineitem",
        destination=dlt.destinations.postgres(credentials=url),
        dataset_name="public",
        pipelines_dir=folder,
    )
    pipeline.run(records(), loader_file_format="csv").raise_on_failed_jobs()


if __name__ == "__main__":
    load(sys.argv[1], sys.argv[2], sys.argv[3:])
