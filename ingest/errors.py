"""Every error that `ingest` raises on purpose, as one tree; the type says what to do.

    IngestError                 something a person can act on
    ├── UsageError              what was asked cannot be done as asked        exit code 2
    ├── DatabaseUnreachable     the database cannot be opened                 exit code 10
    ├── LeaseHeld               another run is active on the same database    exit code 75
    ├── LedgerError             the ledger is newer, damaged or moved on      exit code 1
    │   └── FenceError          a conditional update did not match: roll back
    ├── TableError              the files of one table are refused, others go on
    └── SourceError             one file is refused or failed, the others go on

Does not know exit codes (`cli`) and does not print.
"""

from __future__ import annotations

import os


class IngestError(Exception):
    """Base of all. `message` says what, where and why; `hint` says what to type next ("" if nothing helps)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments pickle but do not unpickle; ours may cross a process border.
        return (_rebuild, (type(self), self.__dict__))

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


def _rebuild(cls: type[IngestError], state: dict[str, object]) -> IngestError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class UsageError(IngestError):
    """What was asked cannot be done as asked: a path that is not there, a wrong option value."""


class DatabaseUnreachable(IngestError):
    """The database cannot be opened or answered no connection."""


class LeaseHeld(IngestError):
    """Another run is active on the same database."""


class LedgerError(IngestError):
    """The ledger cannot be used as it is: made by a newer version, or changed while we ran."""


class FenceError(LedgerError):
    """The conditional update of the ledger did not match: the transaction must be rolled back."""


class TableError(IngestError):
    """The files of one table cannot be loaded; `code` is a reason code of `model.Reason`."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SourceError(IngestError):
    """One file cannot be loaded; `code` is a reason code of `model.Reason`."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


def file_of(error: OSError) -> str:
    """The path that an error of the system is about; "" where it names none."""
    return os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
