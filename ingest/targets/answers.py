"""What a database's answers mean: which error is a fault of its own, which a broken constraint, and what is said of it.

By SQLSTATE or error number, never by text; what is said holds no value of a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from ingest.errors import DatabaseUnreachable, IngestError, LedgerError, TableError
from ingest.model import Reason, TableName
from ingest.targets.faults import Fault


class Answers:
    """How the errors of a database are understood; the half of a target that needs no connection."""

    url: URL

    @property
    def label(self) -> str:
        """The URL as it may be shown: without its password, and without the values of its query part."""
        shown = self.url.set(query=dict.fromkeys(self.url.query, "***"))
        return shown.render_as_string(hide_password=True)

    def unreachable(self, error: Exception) -> DatabaseUnreachable:
        """The driver's error in our words; its text is kept, for it names hosts and files, not rows."""
        text = " ".join(str(getattr(error, "orig", error)).split()).rstrip(".?") or type(error).__name__
        return DatabaseUnreachable(f"{self.label} cannot be opened: {text}.", hint="Look at --to and try again.")

    def said(self, error: sa.exc.DBAPIError) -> str:
        """What the database said, without a value of a row: it is shown, logged and kept in the ledger."""
        return str(error.orig)

    def fault(self, error: Exception) -> Fault | None:
        """What of the database, not of the work, made this error; None: nothing that is known."""
        while isinstance(error, IngestError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        found = self.fault_of(getattr(error, "orig", None) or error)
        gone = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
        return found or (Fault.LOST if gone else None)

    def fault_of(self, error: Any) -> Fault | None:
        """The same of an error of the driver, by its number."""
        del error
        return None

    def hint(self, fault: Fault | None) -> str:
        """What helps when a fault has ended a run."""
        match fault:
            case Fault.LOST:
                return "Run the same command again when the server is back: it goes on where it was."
            case Fault.BUSY:
                return "Another program holds the database; run the same command again when it has ended."
            case Fault.FULL:
                return "Free some space and run the same command again: it goes on where it was."
        return "Run the same command again when that is mended: it goes on where it was."

    def hint_of(self, error: sa.exc.DBAPIError) -> str:
        """The same, of what the database answered."""
        return self.hint(self.fault(error))

    def worded_fault(self, fault: Fault | None, error: Exception) -> str:
        """What happened, for people, without the end of a sentence."""
        if isinstance(error, IngestError):  # it cannot be reached
            return error.message.removesuffix(".")
        said = self.said(error) if isinstance(error, sa.exc.DBAPIError) else type(error).__name__
        if fault is Fault.LOST:
            return f"the connection to {self.label} was lost ({said})"
        return f"{self.label} answered: {said}"

    def refuses_rows(self, error: sa.exc.DBAPIError) -> bool:
        """Whether the error is about the rows of these files, so that others may fare better."""
        return isinstance(error, sa.exc.IntegrityError | sa.exc.DataError)

    def said_of_a_value(self, error: sa.exc.DBAPIError) -> str:
        """What the database said to rows on their way in, if they are to blame though `refuses_rows` cannot tell."""
        del error
        return ""

    def breaks_constraint(self, error: sa.exc.DBAPIError) -> bool:
        """Whether the error is that a row breaks a constraint of its table, so that other rows can be inserted."""
        return isinstance(error, sa.exc.IntegrityError)

    @contextlib.contextmanager
    def worded(self, table: TableName | None = None) -> Iterator[None]:
        """Turn what the database refuses inside the block into an error that a person can act on, of `table` alone."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            if table is not None and self.fault(error) is not Fault.LOST:
                raise TableError(
                    f"the database refused the table {table}: {self.said(error)}.",
                    code=Reason.DATABASE,
                    hint=self.hint_of(error),
                ) from error
            fault = self.fault(error)
            kind = DatabaseUnreachable if fault is Fault.LOST else LedgerError
            raise kind(f"{self.worded_fault(fault, error)}.", hint=self.hint_of(error)) from error

    def constraint(self, error: sa.exc.DBAPIError) -> str:
        """The constraint that a row broke, by the name or the columns that the database tells, and without a value.

        "" where it does not say. The driver's own text may quote the row.
        """
        del error
        return ""
