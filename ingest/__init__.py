"""Load CSV files into a database, resumably: every record ends in the table, the rejects or the discarded count.

    import ingest

    if __name__ == "__main__":
        report = ingest.load("data/shop", to="shop.db")
        print(report.rows, "rows;", report.count("refused"), "files refused")

The work is done by processes that import the main module again, so a script needs the `if __name__` line above.
Nothing is printed, no logging is set up and the process is never ended. Importing this package is cheap: it imports
what it needs when it is first used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing import Unpack

    from ingest.errors import DatabaseUnreachable, IngestError, LeaseHeld, LedgerError, UsageError
    from ingest.model import Action, ColumnType, Reason, Told
    from ingest.reports import (
        Check,
        Decision,
        Event,
        FileCheck,
        FileOutcome,
        Listener,
        Notice,
        Opened,
        Plan,
        Progress,
        RunReport,
        StopRequest,
        TablePlan,
    )
    from ingest.settings import Budget, DeclaredType, Settings

    __version__: str

__all__ = [
    "Action",
    "Budget",
    "Check",
    "ColumnType",
    "DatabaseUnreachable",
    "Decision",
    "DeclaredType",
    "Event",
    "FileCheck",
    "FileOutcome",
    "IngestError",
    "LeaseHeld",
    "LedgerError",
    "Listener",
    "Notice",
    "Opened",
    "Options",
    "Plan",
    "Progress",
    "Reason",
    "RunReport",
    "Settings",
    "StopRequest",
    "TablePlan",
    "Told",
    "UsageError",
    "__version__",
    "check",
    "load",
    "plan",
]

_HOMES = {
    "ingest.errors": ("DatabaseUnreachable", "IngestError", "LeaseHeld", "LedgerError", "UsageError"),
    "ingest.settings": ("Budget", "DeclaredType", "Settings"),
    "ingest.model": ("Action", "ColumnType", "Reason", "Told"),
    "ingest.reports": (
        "Check",
        "Decision",
        "Event",
        "FileCheck",
        "FileOutcome",
        "Listener",
        "Notice",
        "Opened",
        "Plan",
        "Progress",
        "RunReport",
        "StopRequest",
        "TablePlan",
    ),
}


class Options(TypedDict, total=False):
    """What `load`, `plan` and `check` can be told: the fields of `Settings`, in the command line's words if you like.

    Sizes are bytes or text (`16 * 1024**2`, `"16MiB"`), times seconds.
    """

    table: str
    include: str | Sequence[str]
    exclude: str | Sequence[str]
    min_age: float
    workers: int
    connections: int
    start_method: str
    told: Told | Mapping[str, str | int | None]  #: `{"delimiter": ";", "quote": "none", "header": "2"}`
    max_unpacked: int | str | None
    slice_bytes: int | str
    commit_bytes: int | str
    file_timeout: float
    wait: float
    spool: str | os.PathLike[str] | None
    ledger_schema: str | None
    bulk: str
    types: str
    sample: int | str | None
    declared: Mapping[str, str] | Sequence[DeclaredType]  #: `{"price": "decimal(12,2)", "day": "date(%d.%m.%Y)"}`
    rename: Mapping[str, str] | Sequence[tuple[str, str]]  #: `{"Old name": "new_name"}`
    names: str
    null: str | Sequence[str]  #: `"NA"`, or `"amount=NA"` for one column
    decimal: str
    thousands: str
    on_misfit: str
    new_columns: str
    ragged: str
    rescue_column: str | None
    empty_rows: str
    max_field: int | str
    transform: str | None  #: `"module:function"`, importable by the workers
    where: str | None  #: `"amount > 0"`
    lineage: str
    mode: str
    key: str | Sequence[str]  #: `"id"`, `"country,id"` or `("country", "id")`
    newest_by: str | None
    max_rejects: int | str | Budget | None  #: `10` records or `"1%"` of the records of a file
    max_rejects_run: int | None
    on_change: str
    on_duplicate: str
    on_lost: str
    verify_content: bool


def load(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    to: str | os.PathLike[str] | None = None,
    on_event: Listener | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[Options],
) -> RunReport:
    """Load files, folders and globs into the database `to`; a second call goes on where the first one ended.

    `to` is an SQLAlchemy URL or the path of an SQLite file; without it the environment's INGEST_DATABASE_URL, else
    `ingest.db`. `on_event` is called in this process with each `Opened`, `Progress`, `Notice`, `FileOutcome` and at
    the end the `RunReport`. `stop.ask("SIGTERM")`, from a signal handler or another thread, ends the run in order.

    Trouble with a file is in the report, not raised: look at `report.exit_code` (0 and 3 mean that every file is
    loaded) or at `report.files`. Raises, before anything is done, `UsageError` for a path that is not there or an
    option that cannot be, `DatabaseUnreachable`, `LeaseHeld` when another run is active, and `LedgerError`.
    """
    from ingest import run

    return run.load(_listed(paths), _settings(to, options), on_event=on_event, stop=stop)


def plan(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    to: str | os.PathLike[str] | None = None,
    on_event: Listener | None = None,
    **options: Unpack[Options],
) -> Plan:
    """What `load` would do with the same arguments, file by file, with the reasons. Writes nothing.

    Raises what `load` raises.
    """
    from ingest import run

    return run.plan(_listed(paths), _settings(to, options), on_event=on_event)


def check(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    to: str | os.PathLike[str] | None = None,
    on_event: Listener | None = None,
    **options: Unpack[Options],
) -> Check:
    """What `load` would come to with the same arguments: every record read and typed, and nothing written.

    What only the database knows, as a key that is there already, it cannot tell. Raises what `load` raises.
    """
    from ingest import run

    return run.check(_listed(paths), _settings(to, options), on_event=on_event)


def _listed(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else [os.fspath(p) for p in paths]


def _settings(to: str | os.PathLike[str] | None, options: Options) -> Settings:
    """The frozen settings for what a caller wrote."""
    from dataclasses import fields

    from ingest.settings import TOLD, Budget, Settings, parse_budget, parse_key, parse_size, parse_told, parse_type

    given: dict[str, Any] = dict(options)
    for name in given.keys() - {field.name for field in fields(Settings)}:
        place = "declared={COLUMN: TYPE}" if name == "type" else f"told={{{name!r}: …}}" if name in TOLD else ""
        raise TypeError(f"there is no option {name!r}{f'; write {place}' if place else ''}")
    for name in ("max_unpacked", "slice_bytes", "commit_bytes", "sample", "max_field"):
        if isinstance(given.get(name), str):
            given[name] = parse_size(given[name])
    for name in ("include", "exclude", "null"):
        if name in given:
            given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
    if isinstance(given.get("told"), Mapping):
        words = {**TOLD, **given["told"]}
        for name in words.keys() - TOLD.keys():
            raise TypeError(f"told has no {name!r}; it has {', '.join(TOLD)}")
        given["told"] = parse_told(**words)
    if "key" in given:
        given["key"] = parse_key(given["key"]) if isinstance(given["key"], str) else tuple(given["key"])
    if not isinstance(given.get("max_rejects"), (Budget, type(None))):
        given["max_rejects"] = parse_budget(str(given["max_rejects"]))
    if isinstance(given.get("declared"), Mapping):
        given["declared"] = [parse_type(f"{column}={word}") for column, word in given["declared"].items()]
    if isinstance(given.get("rename"), Mapping):
        given["rename"] = given["rename"].items()
    for name in ("declared", "rename"):
        if name in given:
            given[name] = tuple(given[name])
    if given.get("spool") is not None:
        given["spool"] = os.fspath(given["spool"])
    return Settings(to=None if to is None else os.fspath(to), **given)


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("ingest")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
