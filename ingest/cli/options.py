"""What can be typed: the options of the commands, each with its help and default, and the settings they make.

Touches no file and no database.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ingest.settings import (
    COMMIT_BYTES,
    FILE_TIMEOUT,
    MAX_FIELD,
    MIB,
    SLICE_BYTES,
    Settings,
    parse_budget,
    parse_key,
    parse_rename,
    parse_size,
    parse_told,
    parse_type,
)

To = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The database: an SQLAlchemy URL, or the path of an SQLite file. Default: the environment's "
        "INGEST_DATABASE_URL, else sqlite:///ingest.db.",
        show_default=False,
    ),
]
LedgerSchema = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The schema of the ledger's own tables; a load makes it if it is not there. Default: the user's first "
        "one. Not on SQLite.",
        show_default=False,
    ),
]
Wait = Annotated[float, typer.Option(metavar="SECONDS", help="Wait so long for another run to end before giving up.")]
Spool = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Where staged batches lie until they are committed. Default: beside an SQLite file, else /var/tmp.",
        show_default=False,
    ),
]
Bulk = Annotated[
    Literal["auto", "off"], typer.Option(help="Use the database's own bulk path where it has one, or never.")
]
Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="CSV files, folders or globs.", show_default=False)]
File = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="One file: its path, or the end of it.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Tell more; of an unexpected error the traceback, which can hold values."),
]
LogFile = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Append everything to this file, with times and processes.", show_default=False),
]


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What `load`, `plan` and `check` can be told, as it is typed; each field is an option of all three."""

    to: To = None
    table: Annotated[
        str, typer.Option(metavar="TEMPLATE", help="The table: a name, or a template of {name}, {stem} and {dir}.")
    ] = "{name}"
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Of folders, archives and globs, take only files that match; repeatable. Default: *.csv and *.tsv, "
            "packed ones, too, and those in *.zip.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out files and folders that match; repeatable.")
    ] = None
    min_age: Annotated[
        float, typer.Option(metavar="SECONDS", help="Leave files alone that changed less than so long ago.")
    ] = 0.0
    workers: Annotated[int, typer.Option(metavar="N", help="Worker processes; 0 is one a core.")] = 0
    connections: Annotated[
        int,
        typer.Option(metavar="N", help="Files that are put into a server's database at once; 0 is the default, two."),
    ] = 0
    start_method: Annotated[Literal["forkserver", "spawn"], typer.Option(help="How processes are started.")] = (
        "forkserver"
    )
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What separates fields: ; || tab space \\x1f. Default: found out.", show_default=False
        ),
    ] = None
    quote: Annotated[
        str | None,
        typer.Option(metavar="CHAR|none", help="What encloses fields. Default: found out.", show_default=False),
    ] = None
    escape: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR|none",
            help="What makes a plain character of the quote, delimiter or line end after it; none: a quote in a value "
            "is doubled. Default: found out.",
            show_default=False,
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How characters are written: cp1252, utf-16. Default: UTF-8, or what a byte order mark or zeros tell.",
            show_default=False,
        ),
    ] = None
    header: Annotated[
        str | None,
        typer.Option(
            metavar="N|none",
            help="How many rows the header has (their names are joined with a blank); none: it has none. Default: one "
            "row, or what the records tell.",
            show_default=False,
        ),
    ] = None
    skip_rows: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Leave out so many lines before the header. Default: titles and comments are found out.",
            show_default=False,
        ),
    ] = None
    comment: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|none",
            help="Leave out lines that begin with TEXT; none: leave out none, not even # lines before the header.",
            show_default=False,
        ),
    ] = None
    max_unpacked: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What a packed file may unpack to. Default: 250 times its size, 256 MiB at least and 1 TiB at most.",
            show_default=False,
        ),
    ] = None
    slice_bytes: Annotated[str, typer.Option(metavar="SIZE", help="How much of a file one worker takes at a time.")] = (
        f"{SLICE_BYTES // MIB}MiB"
    )
    commit_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="Files up to this size are one transaction, larger ones go in steps.")
    ] = f"{COMMIT_BYTES // MIB}MiB"
    file_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="End a worker that needs longer for one slice; its file fails.")
    ] = FILE_TIMEOUT
    wait: Wait = 0.0
    spool: Spool = None
    ledger_schema: LedgerSchema = None
    bulk: Bulk = "auto"
    types: Annotated[
        Literal["infer", "text"],
        typer.Option(help="Infer types from all values, so that nothing is lost; or make every new column text."),
    ] = "infer"
    sample: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Infer from so much of a table's files. Default: all.", show_default=False),
    ] = None
    type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=TYPE", help="Declare a type: price=decimal(12,2), day=date(%d.%m.%Y); repeatable."
        ),
    ] = None
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Load a column under another name; repeatable.")
    ] = None
    names: Annotated[
        Literal["keep", "snake"], typer.Option(help="Keep column names as the header has them, or make snake_case.")
    ] = "keep"
    null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN|COLUMN=TOKEN",
            help="Take this unquoted word for NULL, too; or, in one column, quoted or not; repeatable.",
        ),
    ] = None
    decimal: Annotated[str, typer.Option(metavar="SIGN", help="The decimal sign of the numbers in the files.")] = "."
    thousands: Annotated[
        str, typer.Option(metavar="SIGN", help="What stands between groups of three digits.", show_default=False)
    ] = ""
    on_misfit: Annotated[
        Literal["reject", "fail", "widen"],
        typer.Option(
            help="A value that its column does not take: reject the record, refuse the file, change the type."
        ),
    ] = "reject"
    new_columns: Annotated[
        Literal["add", "refuse", "ignore", "rescue"],
        typer.Option(
            help="A column that the table lacks: add it (tables made by ingest), refuse the file, ignore it, or keep "
            "its values in the rescue column."
        ),
    ] = "add"
    ragged: Annotated[
        Literal["reject", "pad"],
        typer.Option(help="Records with fewer fields than the header: rejects, or filled up with NULL."),
    ] = "reject"
    rescue_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Keep values beyond the last column as JSON in this column.", show_default=False
        ),
    ] = None
    empty_rows: Annotated[
        Literal["load", "discard"], typer.Option(help="Records without any value: rows of NULLs, or left out.")
    ] = "load"
    max_field: Annotated[
        str, typer.Option(metavar="SIZE", help="The longest field; a record with a longer one is a reject.")
    ] = f"{MAX_FIELD // MIB}MiB"
    transform: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A function that gets each batch as a pandas DataFrame and returns one.",
            show_default=False,
        ),
    ] = None
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            help="Load only records for which this is true, as amount > 0; the others are discarded.",
            show_default=False,
        ),
    ] = None
    lineage: Annotated[
        Literal["none", "file", "row"],
        typer.Option(help="Give new tables a column with each row's file, or two, with its record as well."),
    ] = "file"
    mode: Annotated[
        Literal["append", "replace", "upsert", "insert-ignore"],
        typer.Option(
            help="Add all records; make the table exactly what these files hold; update the rows with the same key; or "
            "leave out records whose key is there."
        ),
    ] = "append"
    key: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="The key of upsert and insert-ignore: id or id,day.", show_default=False),
    ] = None
    newest_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="With upsert, of two records with one key the one with the greater value stays, not the later one.",
            show_default=False,
        ),
    ] = None
    max_rejects: Annotated[
        str | None,
        typer.Option(
            metavar="N|N%",
            help="Rejects that a file may have, as a number or a share of its records. Default: 0, or no limit if only "
            "--max-rejects-run is given.",
            show_default=False,
        ),
    ] = None
    max_rejects_run: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Rejects that all files of a run together may have. Default: no limit.",
            show_default=False,
        ),
    ] = None
    on_change: Annotated[
        Literal["refuse", "reload", "append-tail", "skip"],
        typer.Option(help="A loaded file that changed: refuse it, replace its rows, load what was added, or skip it."),
    ] = "refuse"
    on_duplicate: Annotated[
        Literal["refuse", "skip", "load"], typer.Option(help="A file with the content of another one.")
    ] = "refuse"
    on_lost: Annotated[
        Literal["refuse", "reload", "ignore"],
        typer.Option(
            help="A table that was dropped, made anew or emptied: refuse its files, load them again, or ignore it."
        ),
    ] = "refuse"
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Compare the content of all loaded files, not only size and times.")
    ] = False


def settings_from(options: LoadOptions) -> Settings:
    """The settings for what was typed. Raises UsageError for what cannot be read."""
    return Settings(
        to=options.to,
        table=options.table,
        include=tuple(options.include or ()),
        exclude=tuple(options.exclude or ()),
        min_age=options.min_age,
        workers=options.workers,
        connections=options.connections,
        start_method=options.start_method,
        told=parse_told(
            delimiter=options.delimiter,
            quote=options.quote,
            escape=options.escape,
            encoding=options.encoding,
            header=options.header,
            skip_rows=options.skip_rows,
            comment=options.comment,
        ),
        max_unpacked=None if options.max_unpacked is None else parse_size(options.max_unpacked),
        slice_bytes=parse_size(options.slice_bytes),
        commit_bytes=parse_size(options.commit_bytes),
        file_timeout=options.file_timeout,
        wait=options.wait,
        spool=options.spool,
        ledger_schema=options.ledger_schema,
        bulk=options.bulk,
        types=options.types,
        sample=None if options.sample is None else parse_size(options.sample),
        declared=tuple(parse_type(text) for text in options.type or ()),
        rename=tuple(parse_rename(text) for text in options.rename or ()),
        names=options.names,
        null=tuple(options.null or ()),
        decimal=options.decimal,
        thousands=options.thousands,
        on_misfit=options.on_misfit,
        new_columns=options.new_columns,
        ragged=options.ragged,
        rescue_column=options.rescue_column,
        empty_rows=options.empty_rows,
        max_field=parse_size(options.max_field),
        transform=options.transform,
        where=options.where,
        lineage=options.lineage,
        mode=options.mode,
        key=() if options.key is None else parse_key(options.key),
        newest_by=options.newest_by,
        max_rejects=None if options.max_rejects is None else parse_budget(options.max_rejects),
        max_rejects_run=options.max_rejects_run,
        on_change=options.on_change,
        on_duplicate=options.on_duplicate,
        on_lost=options.on_lost,
        verify_content=options.verify_content,
    )


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `options: LoadOptions` each of its fields as a parameter, as typer reads them."""
    names = [field.name for field in fields(LoadOptions)]
    hints = get_type_hints(LoadOptions, include_extras=True)
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(LoadOptions)
    ]

    def call(**given: Any) -> None:
        command(options=LoadOptions(**{name: given.pop(name) for name in names}), **given)

    own = inspect.signature(command, eval_str=True)
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "options"]
    merged = [*kept[:1], *options, *kept[1:]]  # the paths first, as --help lists them
    call.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in merged}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call
