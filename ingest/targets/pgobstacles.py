"""PostgreSQL: what others have hung on a table that no row gets by, as far as it can be seen before one is sent."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ingest.errors import TableError
from ingest.model import Mode, Reason, TableName

_EVENTS = {"2": "UPDATE", "3": "INSERT", "4": "DELETE"}

_RULES = sa.text(
    """
    SELECT rulename, CAST(ev_type AS text), is_instead, CAST(ev_class AS regclass)::text, quote_ident(rulename)
    FROM pg_catalog.pg_rewrite
    WHERE ev_class = CAST(:oid AS oid) AND ev_type <> '1' AND ev_enabled IN ('O', 'A') ORDER BY ev_type, rulename
    """
)

_RESTRICTING = sa.text(
    """
    SELECT CAST(k.conrelid AS regclass)::text, CAST(k.confrelid AS regclass)::text, quote_ident(k.conname),
        pg_catalog.pg_get_constraintdef(k.oid), (
            SELECT pg_catalog.string_agg(pg_catalog.format('child.%I = mine.%I', a.attname, b.attname), ' AND ')
            FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) AS pair (child, mine)
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = pair.child
            JOIN pg_catalog.pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = pair.mine
        )
    FROM pg_catalog.pg_constraint AS k
    WHERE k.contype = 'f' AND k.confrelid = CAST(:oid AS oid) AND k.confdeltype = 'r' AND k.conrelid <> k.confrelid
        AND has_table_privilege(k.conrelid, 'SELECT') AND has_table_privilege(k.confrelid, 'SELECT')
    ORDER BY k.conparentid, 1, 3
    """
)


def rule(connection: Connection, oid: int, table: TableName, mode: str) -> TableError | None:
    """Why a rule of the table keeps rows from getting there in this mode."""
    for name, number, instead, place, quoted in connection.execute(_RULES, {"oid": oid}):
        event = _EVENTS[number]
        if event == "INSERT" and instead:
            why = "rows would go elsewhere, or nowhere"
        elif mode in (Mode.UPSERT, Mode.INSERT_IGNORE) and event != "DELETE":
            why = f"the server has no ON CONFLICT beside it, which --mode {mode} goes by"
        elif mode == Mode.REPLACE and event != "UPDATE":
            why = "beside it the server does not put rows in the place of others in one statement"
        else:
            continue
        return TableError(
            f"the table {table} has the rule {name!r} ON {event} DO {'INSTEAD' if instead else 'ALSO'}: {why}.",
            code=Reason.CONSTRAINT,
            hint=f"Make a trigger of it, or its owner can type: ALTER TABLE {place} DISABLE RULE {quoted};",
        )
    return None


def restricted(connection: Connection, oid: int, table: TableName) -> TableError | None:
    """Why the rows of the table cannot go, not even for others with the same keys to come."""
    for child, parent, name, definition, met in connection.execute(_RESTRICTING, {"oid": oid}).all():
        referring = f"SELECT EXISTS (SELECT FROM {child} AS child JOIN {parent} AS mine ON {met})"  # noqa: S608
        if not connection.exec_driver_sql(referring.replace("%", "%%")).scalar():
            continue
        before, _, after = definition.rpartition(" ON DELETE RESTRICT")
        return TableError(
            f"the rows of {table} cannot be replaced: rows of {child} refer to them ON DELETE RESTRICT, which does not "
            "wait for the new ones.",
            code=Reason.CONSTRAINT,
            hint="Without that word it does: "
            f"ALTER TABLE {child} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {before}{after};",
        )
    return None
