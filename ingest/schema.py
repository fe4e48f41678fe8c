"""From headers to tables: which column of a file goes where, and what a new table or column becomes.

Decides before the first row is written. Touches neither files nor database: it is given headers, the tables as
they are, and what the values looked like.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ingest import filtering, keying, naming, widening
from ingest.errors import SourceError, TableError
from ingest.jobs import Layout
from ingest.model import (
    LINEAGE_COLUMN,
    OWN_COLUMNS,
    PLAIN,
    RECORD_COLUMN,
    Column,
    ColumnType,
    Dialect,
    Merge,
    Mode,
    Origin,
    Reason,
    Spelling,
    TableShape,
)
from ingest.reports import HeaderGroup, MixedColumn, TablePlan
from ingest.settings import Settings
from ingest.targets.base import Target
from ingest.work import Planned, TableState, Work, refuse_table, refuse_work


@dataclass(slots=True, kw_only=True)
class Group:
    """The files of a table that have the same header, written the same way."""

    names: tuple[str, ...]  #: the columns, cleaned
    dialect: Dialect
    work: list[Work] = field(default_factory=list)
    where: dict[str, str | None] = field(default_factory=dict)  #: column of the file to column of the table
    source_types: tuple[Column, ...] = ()  #: with a transform: what it is given
    returned: tuple[Column, ...] = ()  #: with a transform: what it gave for the head of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What files have for their table, before any of them is refused for it."""

    where: dict[str, str | None]  #: column of the files to column of the table, None where that has none yet
    files: tuple[str, ...]  #: as `Source.display`


@dataclass(slots=True, kw_only=True)
class TableSchema:
    """One table: its files by header, its columns as they are and as they will be."""

    state: TableState
    groups: list[Group] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)  #: as they are, in our words; without lineage
    added: list[Column] = field(default_factory=list)  #: to be made; their types are decided by `settle`
    open: set[str] = field(default_factory=set)  #: columns that are there, and whose values are looked at all the same
    before: dict[str, Column] = field(default_factory=dict)  #: those whose type is to be changed, as they are now
    notes: list[str] = field(default_factory=list)
    offered: list[Offered] = field(default_factory=list)
    headers: tuple[HeaderGroup, ...] = ()  #: how those differ from the table
    mixed: tuple[MixedColumn, ...] = ()
    filled: set[str] = field(default_factory=set)  #: columns that were seen to have a value in every record
    merge: Merge | None = None  #: how records meet rows with the same key; None: they are added

    @property
    def key(self) -> str:
        return self.state.key

    @property
    def is_new(self) -> bool:
        return self.state.shape is None

    def column(self, name: str) -> Column | None:
        return next((c for c in (*self.columns, *self.added) if c.name == name), None)


def group(planned: Planned, settings: Settings) -> list[TableSchema]:
    """The files to be loaded, by table and header. Refuses files whose header cannot be used."""
    schemas: dict[str, TableSchema] = {}
    for work in list(planned.work):
        header = work.header
        if header is None or not header.has_data:
            continue
        schema = schemas.setdefault(str(work.table), TableSchema(state=planned.tables[str(work.table)]))
        try:
            names = naming.column_names(header.names, names=settings.names, rename=settings.rename)
            names = _with_rescue(names, settings)
        except SourceError as error:
            refuse_work(planned, work, Reason(error.code), f"{work.source.display}: {error.message}", error.hint)
            continue
        for known in schema.groups:
            if known.names == names and known.dialect == header.dialect:
                known.work.append(work)
                break
        else:
            schema.groups.append(Group(names=names, dialect=header.dialect, work=[work]))
    for schema in schemas.values():
        schema.columns = _known_columns(schema.state, settings)
    return [schema for schema in schemas.values() if schema.groups]


def _with_rescue(names: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """The columns of a file, the rescue column as the last where there is to be one."""
    rescue = settings.rescue_column
    if rescue is None:
        return names
    if rescue.casefold() in {name.casefold() for name in names}:
        raise SourceError(
            f"it has a column {rescue!r} of its own, and --rescue-column is to be another.",
            code=Reason.HEADER,
            hint="Give --rescue-column another name.",
        )
    return (*names, rescue)


def match(planned: Planned, schema: TableSchema, settings: Settings, target: Target) -> None:
    """Find the table's column for each column of each header; the others are new. Refuses files by the settings."""
    try:
        if schema.is_new or schema.state.made_by_us:
            _alike(planned, schema, settings)
        for one in schema.groups:
            _match_group(planned, schema, one, settings)
        schema.groups = [one for one in schema.groups if one.work]
        if settings.key:
            schema.merge = _merge(planned, schema, settings, target)
        _fits_target(schema, settings, target)
    except TableError as error:
        refuse_table(planned, schema.key, error)
        schema.groups = []


def _offered(one: Group, settings: Settings) -> list[str]:
    """The columns that the files of a group have for the table."""
    return [c.name for c in one.returned] if settings.transform else list(one.names)


def _alike(planned: Planned, schema: TableSchema, settings: Settings) -> None:
    """Files that share less than half their columns do not belong into one table of ours.

    Into a new one none of them is loaded, for nobody knows which was meant; into one that is there, the others are.
    """
    if not schema.groups:
        return
    first = schema.groups[0]
    there = f"the table {schema.key}" if not schema.is_new else first.work[0].source.display
    columns = [c.name for c in schema.columns] if not schema.is_new else _offered(first, settings)
    rescue = {(settings.rescue_column or "").casefold()}  # which every file has
    known = {name.casefold() for name in columns} - rescue
    for one in schema.groups:
        names = {name.casefold() for name in _offered(one, settings)} - rescue
        fewer = min(len(names), len(known))
        if 2 * len(names & known) >= fewer:
            continue
        what = f"would become one table, {schema.key}" if schema.is_new else "do not look like one table"
        error = TableError(
            f"{one.work[0].source.display} and {there} share {len(names & known)} of {fewer} columns, and {what}.",
            code=Reason.COLUMNS,
            hint="Give each its own with --table '{stem}' or --table NAME, or leave files out with --exclude.",
        )
        if schema.is_new:
            raise error
        for work in one.work:
            refuse_work(planned, work, Reason.COLUMNS, error.message, error.hint)
        one.work = []
    schema.groups = [one for one in schema.groups if one.work]


def _match_group(planned: Planned, schema: TableSchema, one: Group, settings: Settings) -> None:
    there = [c.name for c in (*schema.columns, *schema.added)]
    one.where = dict(naming.match_columns(_offered(one, settings), there))
    schema.offered.append(Offered(where=dict(one.where), files=tuple(work.source.display for work in one.work)))
    given = set(one.where.values())
    demanded = next((c.name for c in schema.columns if c.required and c.name not in given), None)
    if demanded is not None:
        sentence = f"it has no column {demanded!r}, which the table {schema.key} demands (NOT NULL without a default)"
        for work in list(one.work):
            refuse_work(planned, work, Reason.CONSTRAINT, sentence, "Give the column a default, or the file a value.")
        one.work.clear()
        return
    unknown = [name for name, column in one.where.items() if column is None]
    if not schema.is_new and _match_rescue(schema, one, settings):
        unknown.remove(settings.rescue_column or "")
    if not unknown:
        return
    shape = schema.state.shape
    generated = [name for name in unknown if shape is not None and name.casefold() in shape.generated]
    if schema.is_new or (settings.new_columns == "add" and schema.state.made_by_us and not generated):
        for name in unknown:
            returned = next((c for c in one.returned if c.name == name), None)
            schema.added.append(_new_column(name, settings, returned))
            one.where[name] = name
        return
    if settings.new_columns == "ignore":
        schema.notes.append(f"left out at your request: {', '.join(repr(n) for n in unknown)}")
        return
    if settings.new_columns == "rescue":
        schema.notes.append(f"kept in {settings.rescue_column}: {', '.join(repr(n) for n in unknown)}")
        return
    others = not schema.state.made_by_us and settings.new_columns == "add"
    more = "; columns are only added to tables that ingest made" if others else ""
    sentence, hint = naming.no_place(unknown, generated, there, schema.key, more)
    for work in list(one.work):
        refuse_work(planned, work, Reason.NEW_COLUMNS, sentence, hint)
    one.work.clear()


def _match_rescue(schema: TableSchema, one: Group, settings: Settings) -> bool:
    """See to the rescue column of a table that is there: whether it is made now. It has to be text."""
    name = settings.rescue_column
    if name is None or name not in one.where:  # a transform may have dropped it
        return False
    where = one.where[name]
    if where is None and schema.state.made_by_us:
        schema.added.append(_new_column(name, settings, None))
        one.where[name] = name
        return True
    column = schema.column(where) if where is not None else None
    if column is None or column.type is not ColumnType.TEXT:
        what = f"; it is {column.type.value}" if column is not None else ""
        raise TableError(
            f"the table {schema.key} has no column {name!r} of text, which --rescue-column names{what}.",
            code=Reason.COLUMNS,
            hint="Make a column of text for it (ALTER TABLE … ADD COLUMN), or name another one.",
        )
    return False


def _merge(planned: Planned, schema: TableSchema, settings: Settings, target: Target) -> Merge:
    """The key in the table's own spelling. Refuses files without it, and a table whose rows it does not tell apart."""
    if not target.merges:
        raise TableError(
            f"--mode {settings.mode} needs a database that knows INSERT … ON CONFLICT, and {target.label} does not.",
            code=Reason.KEY,
        )
    named = [*settings.key, *([settings.newest_by] if settings.newest_by else [])]
    found = naming.match_columns(named, [c.name for c in (*schema.columns, *schema.added)])
    columns = [found[name] for name in named]
    for one in schema.groups:
        given = set(one.where.values())
        lacking = next((n for n, c in zip(named, columns, strict=True) if c is None or c not in given), None)
        if lacking is not None:
            there = naming.instead(lacking, [name for name in given if name is not None])
            for work in list(one.work):
                sentence = f"it has no column {lacking!r}, which --mode {settings.mode} goes by{there}"
                refuse_work(planned, work, Reason.KEY, sentence, "Name its columns with --key and --newest-by.")
            one.work.clear()
    schema.groups = [one for one in schema.groups if one.work]
    known = [column for column in columns if column is not None]
    key = tuple(known[: len(settings.key)])
    if schema.groups and not schema.is_new:
        keying.check_index(schema.state, key, settings.mode, target)
        for one in schema.groups if settings.mode == Mode.UPSERT else ():
            one.work = keying.settable(planned, one.work, schema.columns, set(one.where.values()) - set(key))
        schema.groups = [one for one in schema.groups if one.work]
    return Merge(mode=Mode(settings.mode), key=key, newest_by=known[-1] if settings.newest_by and known else None)


def _fits_target(schema: TableSchema, settings: Settings, target: Target) -> None:
    shape = schema.state.shape
    own = _own_columns(settings) if shape is None else [c for c in shape.columns if c.name in OWN_COLUMNS]
    staged = settings.mode == Mode.REPLACE and shape is not None and not shape.lineage  # with lineage beside it
    total = len(schema.columns) + len(schema.added) + len(own) + staged
    if target.max_columns is not None and total > target.max_columns:
        raise TableError(
            f"{'what is to replace ' if staged else ''}the table {schema.key} would have {total} columns; "
            f"the database takes {target.max_columns}.",
            code=Reason.COLUMNS,
            hint="Leave columns out with a --transform, or split the files.",
        )
    names = [(schema.state.table.name, "table", "--table")] if shape is None else []
    for name, what, option in names + [(c.name, "column", "--rename") for c in schema.added]:
        if why := target.unfit(name, what):
            shown = name if len(name) <= 100 else f"{name[:60]}…"
            sentence = f"the name of the {what} {shown!r} {why}."
            raise TableError(sentence, code=Reason.COLUMNS, hint=f"Give it another one with {option}.")


def _new_column(name: str, settings: Settings, returned: Column | None) -> Column:
    if name == settings.rescue_column:
        return Column(name=name, type=ColumnType.TEXT, origin=Origin.DECLARED, note="what has no column, as JSON")
    for declared in settings.declared:
        if declared.column == name:
            return Column(
                name=name,
                type=declared.type,
                origin=Origin.DECLARED,
                precision=declared.precision,
                scale=declared.scale,
                note="declared by --type",
                reason="declared by --type",
                spelling=Spelling(moment=declared.spelling),
            )
    if returned is not None:
        return returned
    if settings.types == "text":
        return Column(
            name=name, type=ColumnType.TEXT, origin=Origin.DECLARED, note="--types text", reason="--types text"
        )
    return Column(name=name, type=ColumnType.TEXT, origin=Origin.UNDECIDED)


def unknown_types(schema: TableSchema, settings: Settings) -> bool:
    """Whether values have to be looked at before the table can be made."""
    if settings.transform:
        return settings.types == "infer"
    return bool(schema.open) or any(c.origin is Origin.UNDECIDED for c in schema.added)


def wants_profile(schema: TableSchema, one: Group, settings: Settings) -> bool:
    """Whether the values of this group's files decide a type."""
    if settings.transform:
        return settings.types == "infer"
    open_ = schema.open | {c.name for c in schema.added if c.origin is Origin.UNDECIDED}
    return any(column in open_ for column in one.where.values())


def unproven(schema: TableSchema, one: Group, settings: Settings) -> dict[int, str]:
    """Columns of a table of others that take dates, of which nobody has said how they are written, by position."""
    if schema.is_new or schema.state.made_by_us or settings.transform:
        return {}
    said = {declared.column for declared in settings.declared}
    dates = {c.name for c in schema.columns if c.type in _MOMENTS and not c.spelling.moment and c.name not in said}
    found = ((position, one.where.get(name)) for position, name in enumerate(one.names))
    return {position: column for position, column in found if column in dates}


def profile_layout(schema: TableSchema, one: Group, settings: Settings) -> Layout:
    """How a file is read to look at its values: all columns, as text; those to be widened, as what they are."""
    columns = []
    for name in one.names:
        there = schema.column(one.where.get(name) or name)
        if there is None or there.name not in schema.open or settings.on_misfit != "widen":
            there = Column(name=there.name if there is not None else name, type=ColumnType.TEXT)
        columns.append(_written(there, settings))
    return Layout(columns=tuple(columns), null=settings.nulls, rules=settings.rules)


def _written(column: Column, settings: Settings) -> Column:
    """A column with what the user says of how its values are written."""
    return replace(column, spelling=settings.spelling(column.name, column.spelling.moment))


def preview_layout(one: Group, settings: Settings) -> Layout:
    """How the head of a file is read for the transform."""
    return Layout(
        columns=one.source_types,
        null=settings.nulls,
        transform=settings.transform,
        where=settings.where,
        rules=settings.rules,
    )


def settle(schema: TableSchema, profiles: Mapping[str, Any]) -> None:
    """Decide the types of new columns by what their values look like; `profiles` is by column of the table."""
    schema.groups = [one for one in schema.groups if one.work]
    wanted = {column for one in schema.groups for column in one.where.values()}
    decided = []
    for column in schema.added:
        if column.name not in wanted:
            continue  # only files that turned out to be unreadable had it
        profile = profiles.get(column.name)
        decided.append(
            _decided(column.name, profile) if column.origin is Origin.UNDECIDED and profile is not None else column
        )
    schema.added = decided
    for number, column in enumerate(schema.columns):
        profile = profiles.get(column.name)
        if column.name not in schema.open or profile is None:
            continue
        verdict = profile.decide()
        if schema.state.made_by_us:
            if profile.misfits:
                wider = widening.wider(column, verdict)
                schema.before[column.name], schema.columns[number] = column, wider
                schema.notes.append(f"the type of {column.name!r} will be changed: {column.type} to {wider.type}")
        elif verdict.spelling and (verdict.type is column.type or column.type is ColumnType.TIMESTAMP):
            schema.columns[number] = replace(column, spelling=Spelling(moment=verdict.spelling))
            schema.notes.append(f"the values of {column.name!r} are written as {verdict.spelling}")
        elif verdict.note:
            schema.notes.append(f"the values of {column.name!r}: {verdict.note}")


def settle_sources(one: Group, profiles: Sequence[Any] | None, settings: Settings) -> None:
    """With a transform: decide the types of the columns that it is given."""
    columns = []
    for position, name in enumerate(one.names):
        column = _new_column(name, settings, None)
        if column.origin is Origin.UNDECIDED and profiles is not None:
            column = _decided(name, profiles[position])
        columns.append(_written(column, settings))
    one.source_types = tuple(columns)


def _decided(name: str, profile: Any) -> Column:
    verdict = profile.decide()
    return Column(
        name=name,
        type=verdict.type,
        origin=verdict.origin,
        strict=verdict.origin is Origin.INFERRED and verdict.type is not ColumnType.TEXT,
        note=verdict.note or (f"written as {verdict.spelling}" if verdict.spelling else ""),
        reason=verdict.reason,
        spelling=Spelling(moment=verdict.spelling),
    )


_MOMENTS = (ColumnType.DATE, ColumnType.TIMESTAMP)


def new_shape(schema: TableSchema, settings: Settings) -> TableShape:
    """The table as it will be made."""
    columns = [*schema.added, *_own_columns(settings)]
    key = schema.merge.key if schema.merge is not None else ()
    return TableShape(table=schema.state.table, columns=tuple(columns), key=key)


def _own_columns(settings: Settings) -> list[Column]:
    """The columns that say where a row is from, as a new table gets them."""
    names = {"none": (), "file": (LINEAGE_COLUMN,), "row": (LINEAGE_COLUMN, RECORD_COLUMN)}[settings.lineage]
    return [Column(name=name, type=ColumnType.BIGINT, origin=Origin.LINEAGE) for name in names]


def definition(
    columns: Sequence[Column], before: Mapping[str, Column] | None = None, *, state: TableState | None = None
) -> str:
    """What the ledger keeps of a table's columns: what the database itself does not say.

    `before`: those whose type is about to be changed, as they are until then. How the dates of a column of `state` are
    written stays as it is kept: what is said otherwise is said of the files of one run.
    """
    row = state.row if state is not None else None
    known = {entry["name"]: entry for entry in json.loads(row.definition or "[]")} if row is not None else {}
    entries = []
    for column in columns:
        entry = _entry(column)
        kept = known.get(column.name, {})
        if kept.get("type") == entry["type"] and (kept.get("spelling") or (state is not None and state.made_by_us)):
            entry.pop("spelling", None)
            entry |= {"spelling": kept["spelling"]} if kept.get("spelling") else {}
        if before and column.name in before:
            was = before[column.name]
            entry["was"] = _entry(was) | {"native": was.native}
        if column.name not in OWN_COLUMNS:
            entries.append(entry)
    return json.dumps(entries)


def _entry(column: Column) -> dict[str, Any]:
    names = ("name", "type", "origin", "precision", "scale", "strict")
    spelling = {"spelling": column.spelling.moment} if column.spelling.moment else {}
    return {name: getattr(column, name) for name in names} | spelling


def _known_columns(state: TableState, settings: Settings) -> list[Column]:
    """The columns of a table as it is; of our own tables, with what the ledger knows of them."""
    if state.shape is None:
        return []
    kept: dict[str, Any] = {}
    if state.row is not None:
        kept = {entry["name"]: entry for entry in json.loads(state.row.definition or "[]")}
    declared = {one.column: one for one in settings.declared if one.spelling}
    columns = []
    for column in state.shape.columns:
        if column.name in OWN_COLUMNS:
            continue
        entry = kept.get(column.name)
        if entry is not None and state.made_by_us:
            was = entry.get("was")
            if was is not None and was["native"] == column.native:
                entry = was  # a run was killed before it had changed the type
            column = replace(  # noqa: PLW2901
                column,
                type=ColumnType(entry["type"]),
                origin=Origin(entry["origin"]),
                precision=entry["precision"],
                scale=entry["scale"],
                strict=entry["strict"],
            )
        spelling = entry.get("spelling", "") if entry is not None and entry["type"] == column.type else ""
        if column.name in declared and declared[column.name].type is column.type:
            spelling = declared[column.name].spelling
        columns.append(replace(column, spelling=Spelling(moment=spelling)) if spelling else column)
    return columns


def load_layout(schema: TableSchema, one: Group, shape: TableShape, settings: Settings, target: Target) -> Layout:
    """How the files of a group are typed and staged for the table as it is now."""
    known = {c.name: c for c in (*schema.columns, *schema.added)}
    for name in schema.merge.key if schema.merge is not None else ():
        known[name] = replace(known[name], nullable=False)  # a NULL is equal to nothing, not even to another
    # What a transform returns is not written any way.
    final = replace(shape, columns=tuple(_as_made(known[c.name], c) if c.name in known else c for c in shape.columns))
    if settings.transform:
        columns: tuple[Column | None, ...] = one.source_types  # the key is looked at in what is returned
    else:
        columns = tuple(
            _written(known[where], settings) if (where := one.where[name]) is not None else None for name in one.names
        )
    kept = widening.kept(schema.columns, schema.state, target) if settings.on_misfit == "widen" else {}
    rescue = settings.new_columns == "rescue"
    return Layout(
        columns=columns,
        null=settings.nulls,
        kept=kept,
        shape=final,
        stage_format=target.stage_format(shape),
        transform=settings.transform,
        where=settings.where,
        ignore_new=settings.new_columns == "ignore",
        rules=settings.rules,
        rescued=tuple((i, name) for i, name in enumerate(one.names) if rescue and one.where[name] is None),
        merge=schema.merge,
    )


def _as_made(wanted: Column, found: Column) -> Column:
    """A column as we know it, with what the database says of it."""
    return replace(wanted, native=found.native, spelling=PLAIN)


def _merge_note(merge: Merge) -> str:
    key = ", ".join(merge.key)
    if merge.mode is Mode.INSERT_IGNORE:
        return f"a record is left out where there is a row with its {key}; every file is one transaction"
    which = "the later one" if merge.newest_by is None else f"the one with the greater {merge.newest_by}"
    return f"of records and rows with the same {key}, {which} stays; every file is one transaction"


def table_plan(schema: TableSchema, settings: Settings) -> TablePlan:
    """The table as the plan shows it."""
    if schema.is_new:
        shape = new_shape(schema, settings)
    else:
        assert schema.state.shape is not None
        lineage = [c for c in schema.state.shape.columns if c.name in OWN_COLUMNS]
        shape = replace(schema.state.shape, columns=(*schema.columns, *schema.added, *lineage))
    notes = list(schema.notes)
    if (told := settings.told.delimiter) and any(len(group.names) == 1 for group in schema.groups):
        notes.append(f"there are files with one column, for --delimiter {told!r} is not in their header")
    if schema.merge is not None:
        notes.append(_merge_note(schema.merge))
    if not schema.is_new and not shape.lineage:
        notes.append(f"without the column {LINEAGE_COLUMN} every file is one transaction, whatever its size")
    if not schema.is_new and shape.why_not_bulk and shape.why_not_bulk != "--bulk off":
        notes.append(f"rows are inserted one by one: {shape.why_not_bulk}")
    return TablePlan(
        table=schema.state.table,
        exists=not schema.is_new,
        shape=shape,
        added=() if schema.is_new else tuple(c.name for c in schema.added),
        notes=tuple(notes),
        headers=schema.headers,
        mixed=schema.mixed,
    )


def check_where(tables: Sequence[TableSchema], settings: Settings) -> None:
    """Raise UsageError if `--where` cannot be asked of the records of each table. Costs the import of pandas."""
    if settings.where is None:
        return
    where = filtering.parse(settings.where)
    for table in tables:
        if not settings.transform:
            filtering.check(where, [*table.columns, *table.added], f"the table {table.key}")
            continue
        for one in table.groups:
            filtering.check(where, one.source_types, one.work[0].source.display)


def idle_options(tables: Sequence[TableSchema], settings: Settings, *, all_files: bool) -> list[str]:
    """What is wrong with the columns that `--type` and `--rename` name, as sentences.

    That a column is in no file is only known where `all_files` were read: one that is loaded already may have it.
    """
    groups = [one for table in tables for one in table.groups]
    found = []
    for declared in settings.declared:
        name, wanted = declared.column, declared.type.value
        found += [
            f"--type {name}={wanted} changes nothing: the table {table.key} has that column already, "
            f"as {there.type.value}."
            for table in tables
            for there in table.columns
            if there.name == name and there.type is not declared.type
        ]
        columns = {column for one in groups for column in _offered(one, settings)}
        if all_files and name not in columns | {n for one in groups for n in one.names}:
            found.append(_idle(f"--type {name}={wanted}", name, columns))
    if all_files:
        columns = {column for one in groups for column in _offered(one, settings)}
        found += [
            _idle(f"--null {name}={token}", name, columns)
            for name, tokens in settings.nulls_of.items()
            for token in tokens
            if name not in columns | {n for one in groups for n in one.names}
        ]
    headers = {name for one in groups for work in one.work if work.header for name in work.header.names}
    found += [
        _idle(f"--rename {old}={new}", old, headers)
        for old, new in settings.rename
        if all_files and old.strip() not in headers
    ]
    return found


def _idle(option: str, name: str, columns: Collection[str]) -> str:
    near = naming.nearest(name, sorted(columns))
    return f"{option} changes nothing: no file has a column {name!r}" + (f"; the nearest is {near!r}." if near else ".")
