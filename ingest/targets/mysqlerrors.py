"""What MySQL and MariaDB answer to a statement that fails: by number, and in words that quote no cell.

Numbers are those of the servers' error reference (1004 to 4999, and from 6000 on), of their files (1 to 999) and of the
client library (2000 to 2999); a trigger can give any other to its own words. Knows no connection and imports no
driver.
"""

from __future__ import annotations

import re

from ingest.targets.faults import Fault

_SIGNALLED = 1644
"""The number of a SIGNAL that names none."""

_LOST = frozenset((1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2012, 2013, 2027, 2055, 4031))
_NOT_REACHED = frozenset((1040, 1042, 1043, 1203, 2002, 2003))
"""Too many connections, of all or of this user; no answer, or none that could be understood."""

_BUSY = frozenset((1020, 1205, 1213))
"""A row was changed since the snapshot; a lock was not given in time; a deadlock."""

_FULL = frozenset((20, 1021, 1114))
"""The disk, twice; a table, or the space it lies in."""

READ_ONLY = frozenset((1290, 1792, 1836))
"""An option of the server forbids it (read_only); the transaction only reads; the server does."""

NO_RIGHT = frozenset((1044, 1142, 1143, 1227, 1370))
"""This user may not: in the database, with the table, its column, at all, with the procedure."""

_OF_A_VALUE = frozenset((1264, 1265, 1292, 1365, 1366, 1406, 1411, 1416, 1525, 1690, 3140))
_OF_A_CONSTRAINT = frozenset((1048, 1062, 1216, 1217, 1451, 1452, 1526, 1586, 1748, 3819, 4025))
"""A row breaks a constraint of its table, and another one need not."""

NO_PARENT = frozenset((1216, 1452))
"""The row refers to one that is not there."""

NEEDED_BY_OTHERS = frozenset((1217, 1451))
"""Rows of another table refer to the row, or others of its own."""

TOO_LONG = 1153
"""A statement is longer than max_allowed_packet."""

_OF_A_ROW = _OF_A_VALUE | _OF_A_CONSTRAINT | {1118, TOO_LONG, 1364}

_QUOTES_A_VALUE = frozenset((1062, 1292, 1300, 1366, 1367, 1411, 1525, 1526, 1586, 1690, 3140))
_WORDS = {
    1300: "invalid characters in a value",
    1526: "no partition of the table takes a value",
    3140: "a value is no valid JSON",
}


def answer(error: Exception) -> tuple[int, str]:
    """Number and text of a driver's error, or of SQLAlchemy's around it."""
    arguments = getattr(error, "orig", error)
    values = arguments.args if isinstance(arguments, BaseException) else ()
    if len(values) >= 2 and isinstance(values[0], int):
        # A SIGNAL may take a number of the server's; the driver tells its SQLSTATE, whose class 45 is people's own.
        signalled = (getattr(arguments, "sqlstate", None) or "").startswith("45")
        return _SIGNALLED if signalled else values[0], str(values[1])
    return 0, str(values[0]) if values else type(arguments).__name__


def of_a_trigger(code: int) -> bool:
    """Whether the words are a trigger's or a procedure's own: SIGNAL without a number, or with one of no server's."""
    # The client reads the number with a sign. Of 1000 to 1003, which people take for examples, no error is sent.
    return code == _SIGNALLED or code < 0 or 1000 <= code <= 1003 or 5000 <= code <= 5999 or code >= 7000


def of_a_constraint(code: int) -> bool:
    """Whether a row breaks a constraint of its table, and another one need not; a trigger's own error counts as one."""
    return code in _OF_A_CONSTRAINT or of_a_trigger(code)


def of_a_row(code: int) -> bool:
    """Whether something is wrong with a value or a row: another file may fare better."""
    return code in _OF_A_ROW or of_a_trigger(code)


def lacks(code: int) -> bool:
    """Whether a table or a column is missing; the table's own are looked at first, so a trigger names it."""
    return code in (1054, 1146)


def too_wide(code: int, text: str) -> bool:
    """Whether a table is not made because its columns are too many, or too long in all; InnoDB has its own number."""
    return code in (1117, 1118) or (code == 1005 and "errno: 185 " in text)


def fault(code: int) -> Fault | None:
    """What of the server made it answer so."""
    if code in _LOST or code in _NOT_REACHED:
        return Fault.LOST
    if code in _BUSY:
        return Fault.BUSY
    return Fault.FULL if code in _FULL else None


_CONSTRAINTS = {
    **dict.fromkeys((1216, 1452), (re.compile(r" CONSTRAINT `((?:[^`]|``)*)` FOREIGN KEY"), "FOREIGN KEY {}")),
    **dict.fromkeys((1217, 1451), (re.compile(r" CONSTRAINT `((?:[^`]|``)*)` FOREIGN KEY"), "FOREIGN KEY {} to it")),
    1048: (re.compile(r"^Column '(.*)' cannot be null$"), "NOT NULL of the column {}"),
    3819: (re.compile(r"^Check constraint '(.*)' is violated"), "CHECK constraint {}"),
    4025: (re.compile(r"^CONSTRAINT `(.*)` failed for "), "CHECK constraint {}"),
}


def constraint(code: int, text: str) -> str:
    """The constraint that a row broke, by its name; "" where the server does not tell."""
    if of_a_trigger(code):
        return "a trigger of the table"
    match code:
        case 1062 | 1586:
            # The sentence quotes the values first, and they may hold any words.
            _, before, key = text.rpartition(" for key ")
            name = key.strip().strip("'")
            return f"UNIQUE constraint {name}" if before else ""
        case 1526 | 1748:
            return "no partition takes it"
    pattern, said = _CONSTRAINTS.get(code, (None, ""))
    found = pattern.search(text) if pattern else None
    return said.format(found[1].replace("``", "`")) if found else ""


def words(code: int, text: str) -> str:
    """The server's sentence without the values that some sentences quote, and without the row, which it counts anew."""
    if of_a_trigger(code):
        return "a trigger or procedure refused the row"
    if code in _QUOTES_A_VALUE:
        _, key, name = text.rpartition(" for key ")
        if key:
            return f"duplicate entry for key {name}"
        _, column, rest = text.rpartition(" for column ")
        if column:
            return f"incorrect value for column {_without_row(rest)}"
        return _WORDS.get(code, f"error {code}")
    return _without_row(text)


def _without_row(text: str) -> str:
    return re.sub(r" at row \d+$", "", text.strip())
