"""What PostgreSQL answers to a statement that fails: by SQLSTATE, and in words that quote no cell.

Knows no connection, and imports no driver but to tell its errors apart.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from ingest.targets.faults import Fault

_CONSTRAINED = {
    "23503": "FOREIGN KEY",
    "23505": "UNIQUE constraint",
    "23514": "CHECK constraint",
    "23P01": "EXCLUDE constraint",
}

_PARTITIONS = {"ExecFindPartition": "no partition takes it", "ExecPartitionCheckEmitError": "its partition does not"}
"""Of a row that no partition takes, the number is that of a CHECK: what happened is told by the place in the server."""

_BUSY = frozenset(("40001", "40P01", "55P03"))
"""A serialization failure, a deadlock, a lock that was not given in time."""

_LOST = frozenset(("53300", "57P01", "57P02", "57P03", "57P05", "25P03"))
"""Besides class 08: no connection left; the server is told to stop, has crashed, does not take connections yet; it has
ended an idle session."""

_VALUES_NAMED = {"22", "38", "39"}
"""Classes of SQLSTATE whose sentence can hold a value of a row: what does not fit its type, and people's own words."""

_OF_THE_SERVER = re.compile("08|25|2[68D]|3[4B]|40|5[3578]|72|F0|XX00[12]|42501")
"""What is no fault of a value, wherever it happens: of the connection, the transaction, the system, or a right."""

_SIZES_ONLY = re.compile("row is too big: |index row ")
"""The sentences of class 54 that quote nothing but sizes and the name of an index."""

_FUNCTION = re.compile(r"PL/pgSQL function (.+) line \d+ at (.+)")
"""Where an error arose, as its context begins: while a statement is carried out, its text comes first, and may hold
cells."""

_SERVERS_OWN = re.compile("0[012389ABFLPZ]|10|2[0-8BDF]|3[489BDF]|4[024]|5[34578]|72|F0|HV|XX")
"""The classes of SQLSTATE that the server gives numbers in (the manual's "PostgreSQL Error Codes"), but for P0, that of
PL/pgSQL's functions; a trigger can take any other."""


def fault(error: Any) -> Fault | None:
    """What of the server made it answer so, or of the connection."""
    import psycopg

    state = getattr(error, "sqlstate", None)
    if state is None:  # of the driver: what it says of connections that fail, or are no more, has no number
        return Fault.LOST if isinstance(error, psycopg.OperationalError) else None
    if state in _BUSY:
        return Fault.BUSY
    if state == "53100":
        return Fault.FULL
    return Fault.LOST if state in _LOST or state.startswith("08") else None


def words(error: sa.exc.DBAPIError) -> str:
    """The server's sentence, or, where that can hold a value of a row, what its number means."""
    diag = getattr(error.orig, "diag", None)
    state = getattr(error.orig, "sqlstate", None)
    if diag is None or state is None:
        # Of a connection, whose words name hosts and users; the driver's own words of a value are left out.
        known = isinstance(error, sa.exc.OperationalError)
        return " ".join(str(error.orig).split()) if known else type(error.orig).__name__
    # A function in another language may take any number for its own words; the server's name what was broken.
    own = state[:2] == "23" and not (diag.constraint_name or diag.column_name)
    quoting = state[:2] == "54" and not _SIZES_ONLY.match(diag.message_primary or "")
    if _by_a_function(error) or own or quoting or state[:2] in _VALUES_NAMED:
        return _meaning(error)
    return f"{diag.message_primary} (SQLSTATE {state})"


def _meaning(error: Any) -> str:
    """What the number of an error means, and the column."""
    diag, state = error.orig.diag, error.orig.sqlstate
    context = (diag.context or "").partition("\n")[0]
    column = f' in the column "{diag.column_name}"' if diag.column_name and not _by_a_function(error) else ""
    if not column and (match := re.search(r", column (.+?)(?::|$)", context)):
        column = f' in the column "{match[1]}"'
    meaning = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error.orig).__name__.rstrip("_")).lower()
    function = _FUNCTION.match(context)
    if function and state[:2] == "42" and function[2] in ("SQL statement", "PERFORM"):
        meaning = diag.message_primary  # of a statement that is part of the function, and could not begin
    return f"{f'in the function {function[1]}: ' if function else ''}{meaning}{column} (SQLSTATE {state})"


def words_of_a_value(error: Any) -> str:
    """What to say of an error that rows have met on their way in, if no more than that tells that they are to blame."""
    state = getattr(error.orig, "sqlstate", None)
    if state == "42501" and error.orig.diag.source_function == "ExecWithCheckOptions":
        return words(error)  # row security, by the name of the table
    # A type's own way to read a value may raise anything, and quote it: an unknown table, a syntax error.
    return "" if state is None or _OF_THE_SERVER.match(state) else _meaning(error)


def of_a_row(error: sa.exc.DBAPIError) -> bool:
    """Whether a value or a row is wrong, whatever the statement was."""
    # 22: it does not fit its type; 23: a constraint; 44: a view's check; 54: the row is too long for a page;
    # 38: a trigger's own words.
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, sa.exc.DataError)
    return state[:2] in ("22", "23", "38", "44", "54") or _by_a_function(error)


def constraint(error: sa.exc.DBAPIError) -> str:
    """The constraint that a row broke, by its name or column; "" where the server does not tell."""
    diag: Any = getattr(error.orig, "diag", None)
    if diag is None:
        return ""
    if _by_a_function(error):
        return "a trigger of the table"
    if diag.source_function in _PARTITIONS:
        return _PARTITIONS[diag.source_function]
    if diag.constraint_name:
        return f"{_CONSTRAINED.get(diag.sqlstate, 'constraint')} {diag.constraint_name}"
    return f"NOT NULL of the column {diag.column_name}" if diag.column_name else ""


def of_a_trigger(error: sa.exc.DBAPIError) -> bool:
    """Whether a trigger refuses a row; with the number of a fault (a deadlock, say) it means that it may come again."""
    return _by_a_function(error) and fault(error.orig) is None


def _by_a_function(error: sa.exc.DBAPIError) -> bool:
    """Whether a function of the user's has raised this error, and not the server: it may hold a cell in every part."""
    diag: Any = getattr(error.orig, "diag", None)
    state = getattr(error.orig, "sqlstate", None)
    # A RAISE can take a number of the server's, too; it is told by the place in the server that answers.
    return state is not None and (not _SERVERS_OWN.match(state) or diag.source_function == "exec_stmt_raise")
