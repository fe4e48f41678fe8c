"""The databases we load into: one explicit map from a URL's backend to its target. Importing this imports no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.errors import UsageError

if TYPE_CHECKING:
    from ingest.targets.base import Target

__all__ = ["target_for"]


def target_for(url: str, *, bulk: bool = True) -> Target:
    """The target for an SQLAlchemy URL. Opens nothing.

    Raises UsageError for a URL that cannot be read, or a database that is not supported.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise UsageError(
            "the database URL cannot be read.", hint="Write dialect://user@host/name, or a file name for SQLite."
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            from ingest.targets.sqlite import SQLiteTarget

            return SQLiteTarget(parsed, bulk=bulk)
        case "mysql" | "mariadb":
            from ingest.targets.mysql import MySQLTarget

            return MySQLTarget(parsed, bulk=bulk)
        case name:
            raise UsageError(
                f"databases of the kind {name!r} are not supported by this version.",
                hint="Supported: sqlite, mysql, mariadb.",
            )
