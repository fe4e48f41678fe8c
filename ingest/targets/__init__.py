"""The databases we load into: one explicit map from a URL's backend to its target. Importing this imports no driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.errors import UsageError

if TYPE_CHECKING:
    from ingest.targets.base import Target

__all__ = ["Database", "target_for"]


ALIASES = {"postgres": "postgresql"}
"""How people spell it."""

_AFTER_USER = re.compile(r"[\w+]+://[^:/]*(?::[^@]*)?@(.*)", re.DOTALL)
"""What SQLAlchemy reads after a user and a password, which end at the first @ for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What `target_for` is given, as it travels to another process: by a pipe, for it holds the password."""

    url: str = field(repr=False)
    bulk: bool
    ledger_schema: str | None

    def target(self) -> Target:
        return target_for(self.url, bulk=self.bulk, ledger_schema=self.ledger_schema)


def target_for(url: str, *, bulk: bool = True, ledger_schema: str | None = None) -> Target:
    """The target for an SQLAlchemy URL. Opens nothing.

    Raises UsageError for a URL that cannot be read, or a database whose dialect or driver is not installed.
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
    if (rest := _AFTER_USER.match(url)) and "@" in rest[1]:
        # The host and the name that were read may be parts of the password, so they are not repeated.
        raise UsageError(
            "the database URL has more than one @.",
            hint="In a name, password or option write %40 for @, %2F for /, and %3F for ?.",
        )
    dialect = parsed.get_backend_name()
    kind: type[Target]
    match ALIASES.get(dialect, dialect):
        case "sqlite":
            from ingest.targets.sqlite import SQLiteTarget as kind
        case "postgresql":
            from ingest.targets.postgres import PostgresTarget as kind
        case "mysql" | "mariadb":
            from ingest.targets.mysql import MySQLTarget as kind
        case _:
            from ingest.targets.other import OtherTarget as kind
    return kind(parsed, bulk=bulk, ledger_schema=ledger_schema)
