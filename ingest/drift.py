"""How the headers and the values of the files of one table differ: from the table, and from each other.

All files of a plan are compared, before the first row. Decides nothing and applies nothing: what a column goes to is
`schema`'s job. Opens no file and asks no database.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ingest import schema as schemas
from ingest.model import Column, ColumnType, Origin
from ingest.profiles import ColumnProfile
from ingest.reports import HeaderGroup, InferredColumn, InferredTable, MixedColumn, TablePlan
from ingest.schema import TableSchema
from ingest.settings import Settings
from ingest.targets.base import Target

TOLD = 3
"""Kinds of headers of one table that a load tells of; `plan` shows all."""


def headers(schema: TableSchema, rescue: str | None) -> tuple[HeaderGroup, ...]:
    """The files of a table by their columns, and what these lack or have beside the table's.

    `rescue`, a column that we fill, is no part of any header, wherever it stands in the table.

    The columns of a new table are those of all its files together; of two that may be one, the guess is then for the
    one that more files have.
    """
    filled = [rescue.casefold()] if rescue is not None else []
    columns = schema.added if schema.is_new else schema.columns
    table = [column.name for column in columns if column.name.casefold() not in filled]
    files: dict[tuple[str, ...], list[str]] = {}
    where: dict[tuple[str, ...], dict[str, str | None]] = {}
    for offered in schema.offered:
        names = tuple(name for name in offered.where if name.casefold() not in filled)
        files.setdefault(names, []).extend(offered.files)
        where[names] = offered.where
    common = {name: (sum(len(files[names]) for names in files if name in names), -at) for at, name in enumerate(table)}
    groups = []
    for names, alike in files.items():
        goes_to = {name: where[names][name] or name for name in names}
        added = tuple(name for name in names if goes_to[name] not in table)
        missing = tuple(name for name in table if name not in goes_to.values())
        renamed = _renamed(names if schema.is_new else added, missing)
        if schema.is_new:
            renamed = tuple((name, column) for name, column in renamed if common[column] > common.get(name, (0, 0)))
        shared = [table.index(column) for column in goes_to.values() if column in table]
        groups.append(
            HeaderGroup(
                files=tuple(alike),
                columns=names,
                added=added,
                missing=missing,
                renamed=renamed,
                spelled=tuple((name, column) for name, column in goes_to.items() if name != column),
                reordered=shared != sorted(shared),
            )
        )
    return tuple(groups)


def _renamed(names: Iterable[str], missing: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Names that are missing ones but for case, blanks and punctuation; none where that can be said of two."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for side, listed in enumerate((names, missing)):
        for name in listed:
            key = "".join(char for char in name.casefold() if char.isalnum())
            found.setdefault(key, ([], []))[side].append(name)
    pairs = ((theirs, ours) for key, (theirs, ours) in found.items() if key)
    return tuple((theirs[0], ours[0]) for theirs, ours in pairs if len(theirs) == len(ours) == 1)


def difference(group: HeaderGroup) -> str:
    """What a group's header has beside the table's columns, and what it lacks; "" if nothing."""
    hinted = {name for pair in group.renamed for name in pair}
    return ", ".join(
        [
            *(f"+ {name}" for name in group.added if name not in hinted),
            *(f"- {name}" for name in group.missing if name not in hinted),
            *(f"{name!r} for {column!r}?" for name, column in group.renamed),
            *(f"{name!r} as {column!r}" for name, column in group.spelled),
            *(["in another order"] if group.reordered else []),
        ]
    )


def counted(files: Sequence[str]) -> str:
    """How many files, and the name of the first."""
    return f"1 file ({files[0]})" if len(files) == 1 else f"{len(files):,} files ({files[0]} …)"


def number_of(files: int) -> str:
    """How many files."""
    return "1 file" if files == 1 else f"{files:,} files"


def told(planned: TablePlan) -> list[str]:
    """What a plan says of one table: which files have other columns, and which columns other values in some files."""
    groups = [(group.files, difference(group)) for group in planned.headers]
    lines = [mixture(column) for column in planned.mixed]
    if any(differs for _, differs in groups):
        parts = (
            f"{counted(files)}: {text}" if text else f"{number_of(len(files))} as the table" for files, text in groups
        )
        lines.insert(0, "; ".join(parts))
    return lines


def mixture(column: MixedColumn) -> str:
    """Of which type a column is in which files."""
    parts = [f"{kind.value} in {counted(files)}" for kind, files in column.kinds]
    return f"{column.name} is {' and '.join(parts)}: it becomes {column.type.value}"


def notices(schema: TableSchema) -> list[tuple[str, str]]:
    """What a load tells of one table: levels and sentences.

    Nothing is lost by another order. That files lack a column is usual where the table is the user's own, for it may
    have a default; and where it is new, for then its columns are those of the latest files.
    """
    found = [("warning", f"{schema.key}: {mixture(column)}") for column in schema.mixed]
    different = [group for group in schema.headers if difference(group)]
    ours = schema.state.made_by_us
    grave = [group for group in different if group.renamed or (ours and (group.added or group.missing))]
    total = sum(len(group.files) for group in schema.headers)
    for level, groups in (("warning", grave), ("info", [group for group in different if group not in grave])):
        if groups:
            parts = "; ".join(f"{counted(group.files)}: {difference(group)}" for group in groups[:TOLD])
            more = f"; and {len(groups) - TOLD} more kinds of headers (see: ingest plan)" if len(groups) > TOLD else ""
            of = f"of {total:,} files, some differ" if total > 1 else "the file differs"
            found.append((level, f"{schema.key}: {of} from the table: {parts}{more}"))
    pairs = dict.fromkeys(pair for group in grave for pair in group.renamed)
    if pairs:
        options = " ".join(f"--rename {shlex.quote(f'{name}={column}')}" for name, column in pairs)
        found.append(("warning", f"{schema.key}: columns go by their names; if these are the same, give {options}"))
    return found


# types --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was seen of the values of one file, or of the files of one bundle."""

    files: tuple[str, ...]
    profiles: list[ColumnProfile]
    apart: tuple[dict[ColumnType, tuple[int, ...]], ...] = ()  #: by column: members that alone would not be text


@dataclass(slots=True, kw_only=True)
class Values:
    """What was seen of the values of all files with the same header."""

    seen: list[Seen] = field(default_factory=list)
    nulls: list[int] = field(default_factory=list)  #: by column: records without a value


def mixed(schema: TableSchema, values: dict[int, Values]) -> tuple[MixedColumn, ...]:
    """The new columns that become text though some files alone would make them something else; `values` by group.

    Only these: that a number has decimals in one file and none in another changes no value.
    """
    found = []
    for column in schema.added:
        if column.type is not ColumnType.TEXT or column.origin is not Origin.INFERRED:
            continue
        kinds: dict[ColumnType, list[str]] = {}
        for one in schema.groups:
            for position, name in enumerate(one.names):
                if one.where.get(name) == column.name and id(one) in values:
                    for seen in values[id(one)].seen:
                        _add(kinds, seen, position)
        if len(kinds) > 1:
            listed = tuple((kind, tuple(files)) for kind, files in sorted(kinds.items()))
            found.append(MixedColumn(name=column.name, type=column.type, kinds=listed))
    return tuple(found)


def _add(kinds: dict[ColumnType, list[str]], seen: Seen, position: int) -> None:
    verdict = seen.profiles[position].decide()
    if verdict.origin is Origin.UNDECIDED:
        return
    others: set[int] = set()
    for kind, members in seen.apart[position].items() if seen.apart else ():
        kinds.setdefault(kind, []).extend(seen.files[member] for member in members)
        others.update(members)
    rest = [file for member, file in enumerate(seen.files) if member not in others]
    if rest:
        kinds.setdefault(verdict.type, []).extend(rest)


def explained(columns: Iterable[Column], found: Iterable[MixedColumn]) -> list[Column]:
    """The columns, those of `found` with the files beside the reason for their type."""
    notes = {
        column.name: ", ".join(f"{kind.value} in {counted(files)}" for kind, files in column.kinds) for column in found
    }
    return [
        replace(column, note="; ".join(note for note in (column.note, notes.get(column.name, "")) if note))
        for column in columns
    ]


# what the files make of a table ---------------------------------------------------------------------------------------


def inferred(schema: TableSchema, settings: Settings, target: Target) -> InferredTable:
    """A new table as it would be made, with the reason for each type."""
    shape = schemas.new_shape(schema, settings)
    columns = tuple(
        InferredColumn(
            name=column.name,
            type=column.typed,
            nullable=column.name not in schema.filled,
            reason=_reason(column),
        )
        for column in schema.added
    )
    return InferredTable(
        table=schema.state.table,
        files=sum(len(offered.files) for offered in schema.offered),
        columns=columns,
        sql=target.create_sql(shape),
        options=" ".join(f"--type {shlex.quote(f'{column.name}={column.type}')}" for column in columns),
    )


def _reason(column: Column) -> str:
    if column.origin is Origin.UNDECIDED:
        return "no value yet"
    if column.origin is Origin.TRANSFORM:
        return "what the transform returns"
    return column.note or column.reason or ("declared" if column.origin is Origin.DECLARED else "")
