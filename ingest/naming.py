"""Names: from file names to table names, from headers to column names.

Looks at names only: opens no file and asks no database. Quoting and length limits are the target's business.
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from ingest import unpacking
from ingest.errors import SourceError, UsageError
from ingest.model import OWN_COLUMNS, POSITION_COLUMN, Reason, Source, TableName

OUR_TABLES = frozenset(
    ("ingest_file", "ingest_table", "ingest_run", "ingest_reject", "ingest_lease", "ingest_version"),
)
"""Tables that keep the ledger: no data is loaded into them, whatever schema is named."""

TOLD = 10
"""So many of a list of names are shown."""

_SEPARATORS = r"[-_. ]+"
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = "(?:" + "|".join(rf"{_YEAR}{s}{_MONTH}{s}{_DAY}" for s in ("-", "_", r"\.", "")) + rf"|{_YEAR}[-_.]?{_MONTH})"
_HOUR = r"(?:[01]\d|2[0-3])"
_CLOCK = r"[0-5]\d(?:[-:_.]?[0-5]\d(?:[.,]\d+)?)?(?:Z|[-+]\d\d:?\d\d)?"
# A time after a mere separator must not be the next date: 2024-01-03_2024-01-04 is no 20:24.
_TIME = rf"(?:T{_HOUR}(?:[-:_.]?{_CLOCK})?|[-_. ](?!{_DATE}){_HOUR}[-:_.]?{_CLOCK})"
_LEADING = re.compile(rf"{_DATE}{_TIME}?(?:{_SEPARATORS}|\Z)", re.ASCII)
_TRAILING = re.compile(rf"{_SEPARATORS}(?:{_DATE}{_TIME}?|\d+|\(\d+\))\Z", re.ASCII)
_NUMBER = re.compile(r"\d+|\(\d+\)", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def table_name(source: Source, template: str = "{name}") -> TableName:
    """The table that a file is loaded into.

    The template may hold `{stem}`, `{dir}` and `{name}`; a dot typed in it separates schema and table, one that comes
    out of a file's name never does. All are taken from the resolved path, so a table does not depend on how the file
    was reached.

    - `{stem}`: the file's name without `.gz`, `.bz2`, `.xz` or `.zst` and then without `.csv` or `.tsv` (other names:
      their last extension).
    - `{dir}`: the name of the folder that the file lies in; right below a zip archive, the archive's own stem.
    - `{name}`: the stem, again and again without a `-`, `_`, `.` or blank followed by a date, timestamp, number or
      `(n)` at its end, and without a date or timestamp followed by one of those at its start. If nothing but a number
      is left, `{dir}`. So `orders_2024-01-01.csv`, `orders-20240102.csv`, `20240103_orders.csv` and `orders (2).csv`
      are all `orders`, and `sales/2024-01.csv` is `sales`. `covid19.csv` stays `covid19`: no separator, so the number
      is part of the name. `top_500.csv` becomes `top`, for exports in numbered parts are the common case: `--table
      top_500` or `--table {stem}` say otherwise.

    Raises UsageError for a template that cannot be used and for a typed name of our own tables; SourceError (`columns`)
    where the name of a file makes one of those, or one that no database takes, because it holds control characters or
    bytes that are not UTF-8.
    """
    folder, file_name = os.path.split(source.path)
    below = os.path.basename(folder)
    if source.entry is not None and folder == source.entry.archive:
        below = _stem(below)
    values = {"stem": _stem(file_name), "dir": below}
    values["name"] = _bare(values["stem"])
    parts = []
    for part in _template(template):
        text = _PLACEHOLDER.sub(lambda m: values[m[1]] or values["dir"], part).strip()
        text = text or values["dir"].strip() or "table"
        if _unprintable(text):
            raise SourceError(
                f"{source.display} would be loaded into a table named {text!r}, which holds characters that a table's "
                "name cannot hold.",
                code=Reason.COLUMNS,
                hint="Choose the table's name with --table.",
            )
        parts.append(text)
    table = TableName(name=parts[-1], schema=parts[0] if len(parts) == 2 else None)
    folded = table.name.casefold()
    if folded in OUR_TABLES or folded.startswith("sqlite_"):
        message = f"{source.display} would be loaded into {table}, a name that is kept for the ledger or the database."
        hint = "Choose another name with --table."
        if _PLACEHOLDER.search(_template(template)[-1]) is None:
            raise UsageError(message, hint=hint)
        raise SourceError(message, code=Reason.COLUMNS, hint=hint)  # one file's name does not keep the others out
    return table


@lru_cache(maxsize=64)
def _template(template: str) -> tuple[str, ...]:
    """The template's table, or its schema and table, each still with placeholders."""
    unknown = [word for word in _PLACEHOLDER.findall(template) if word not in ("name", "stem", "dir")]
    rest = _PLACEHOLDER.sub("", template)
    if unknown or "{" in rest or "}" in rest:
        raise UsageError(
            f"--table {template!r} cannot be understood" + (f": {{{unknown[0]}}} is unknown." if unknown else "."),
            hint="Write a name, with {name}, {stem} or {dir} where they are wanted: sales.{name}.",
        )
    parts = tuple(part.strip() for part in template.split("."))
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"--table {template!r} is not a table's name.", hint="Write TABLE or SCHEMA.TABLE.")
    return parts


def _stem(file_name: str) -> str:
    for ending in (*unpacking.ENDINGS, unpacking.ARCHIVE):
        if file_name.lower().endswith(ending):
            file_name = file_name[: -len(ending)]
            break
    stem, dot, _ = file_name.rpartition(".")
    return stem if dot else file_name


def _bare(stem: str) -> str:
    """The stem without the dates and numbers around it, or "" if there is nothing else in it."""
    name = stem.strip()
    while True:
        shorter = _TRAILING.sub("", _LEADING.sub("", name, count=1) if _LEADING.match(name) else name)
        if shorter == name:
            return "" if _NUMBER.fullmatch(name) else name
        name = shorter


def column_names(
    raw: Sequence[str],
    *,
    names: str = "keep",
    rename: Sequence[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """The names of a header's columns: trimmed, not empty, and unique even where case is ignored.

    In this order:

    1. Surrounding blanks go; an empty name becomes `column_N`, where N is its position from 1.
    2. `rename` gives (old, new) for names as they are now, exactly spelled. A new name stays as typed.
    3. With `names="snake"`: lower case, words joined by `_`: `OrderID` is `order_id`, `Unit Price (€)` is `unit_price`,
       `2nd` is `_2nd`, so that it can be typed without quotes. Letters of other scripts are kept; a name of nothing
       but signs becomes `column_N`.
    4. Of names that differ at most in case, the first stays and the others get `_2`, `_3` …, leaving out those that
       the header has already. A name that the header spells out goes before one made in step 1.

    Raises SourceError (`header`) for control characters in a name, and for the name of our own column.
    """
    return _column_names(tuple(raw), names, tuple((old, new) for old, new in rename))


@lru_cache  # of thousands of files most have one of a few headers
def _column_names(raw: tuple[str, ...], names: str, rename: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    renamed = {old.strip(): new.strip() for old, new in rename}
    written: list[bool] = []
    wanted: list[str] = []
    for position, text in enumerate(raw, start=1):
        name = text.strip()
        if (name or f"column_{position}") in renamed:
            name = renamed[name or f"column_{position}"]
        elif names == "snake":
            name = _snake(name)
        _check_column(name, position)
        written.append(bool(name))
        wanted.append(name or f"column_{position}")
    return _unique(wanted, written)


def _check_column(name: str, position: int) -> None:
    if _unprintable(name):
        raise SourceError(
            f"Column {position} of the header is named {name!r}, which holds characters that a column's name cannot "
            "hold.",
            code=Reason.HEADER,
            hint="Give it another name with --rename, or correct the file.",
        )
    if _is_ours(name):
        raise SourceError(
            f"Column {position} of the header is named {name}, as a column of ours that says where a row is from.",
            code=Reason.HEADER,
            hint=f"Give it another name: {rename_option(name, 'source' + name.removeprefix('_ingest'))}",
        )


def check_returned(
    transform: str, returned: Sequence[str], there: Sequence[str], unfit: Callable[[str, str], str], display: str
) -> None:
    """Raise SourceError (`transform`) for a name that no column can be made with, or that two columns would share.

    Of names that a transform gave: they are kept as they are, for the function is easily mended. What the table has
    already under the same name passes. `unfit` says what the database does not take, as `Target.unfit` does.
    """
    matches = match_columns(returned, there)
    made = {name for name, column in matches.items() if column is None}
    spelled: dict[str, str] = {name.casefold(): name for name in there}
    for name in returned:
        other = spelled.get(name.casefold())
        if other is not None and (name in made or other in made):
            why = f"differs at most in case from that of the column {other!r}"
        elif name not in made:
            why = ""
        elif not name.strip():
            why = "is empty"
        elif _unprintable(name):
            why = "holds characters that a column's name cannot hold"
        elif _is_ours(name):
            why = "is kept for a column of ours that says where a row is from"
        else:
            why = unfit(name, "column")
        if why:
            shown = name if len(name) <= 100 else f"{name[:60]}…"
            raise SourceError(
                f"the transform {transform} returned the column {shown!r}, whose name {why}, for {display}.",
                code=Reason.TRANSFORM,
                hint="Give the column another name in the function. Nothing of the file was loaded; run the same "
                "command again when that is done.",
            )
        spelled[name.casefold()] = name


def _unique(wanted: list[str], written: list[bool]) -> tuple[str, ...]:
    names: list[str | None] = [None] * len(wanted)
    taken: set[str] = set()
    for places in ([i for i, w in enumerate(written) if w], [i for i, w in enumerate(written) if not w]):
        for i in places:
            folded = wanted[i].casefold()
            if folded not in taken:
                taken.add(folded)
                names[i] = wanted[i]
    counts: Counter[str] = Counter()
    for i, name in enumerate(wanted):
        if names[i] is None:
            folded = name.casefold()
            number = max(counts[folded] + 1, 2)
            while f"{folded}_{number}" in taken:
                number += 1
            counts[folded] = number
            taken.add(f"{folded}_{number}")
            names[i] = f"{name}_{number}"
    return tuple(name for name in names if name is not None)


def _snake(name: str) -> str:
    words: list[str] = []
    word = ""
    for i, char in enumerate(name):
        if unicodedata.category(char)[0] not in "LMN":
            words.append(word)
            word = ""
            continue
        before, after = name[i - 1 : i], name[i + 1 : i + 2]
        if word and char.isupper() and (before.islower() or after.islower()):
            words.append(word)
            word = ""
        word += char
    words.append(word)
    joined = "_".join(w.lower() for w in words if w)
    return f"_{joined}" if joined[:1].isdecimal() else joined


def match_columns(header: Sequence[str], table_columns: Sequence[str]) -> dict[str, str | None]:
    """The table's column of each header name: the same name, else the only one that differs in case, else None.

    Two names of the header never lead to one column: a column whose own name is in the header goes to that one, and
    what is ambiguous on either side is None.
    """
    exact = set(table_columns) & set(header)
    columns: dict[str, list[str]] = {}
    for column in table_columns:
        columns.setdefault(column.casefold(), []).append(column)
    spellings = Counter(name.casefold() for name in header)
    matches: dict[str, str | None] = {}
    for name in header:
        folded = name.casefold()
        candidates = columns.get(folded, [])
        if name in exact:
            matches[name] = name
        elif len(candidates) == 1 and spellings[folded] == 1:
            matches[name] = candidates[0]
        else:
            matches[name] = None
    return matches


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate most like the name, whatever its case; None if none is like it. For error messages."""
    # Not at the top: needed only where something is wrong already.
    from difflib import get_close_matches

    spelled: dict[str, str] = {}
    for candidate in candidates:
        spelled.setdefault(candidate.casefold(), candidate)
    found = get_close_matches(name.casefold(), list(spelled), n=1)
    return spelled[found[0]] if found else None


def instead(name: str, candidates: Collection[str]) -> str:
    """What there is in the place of a name that there is not, to follow it in a sentence: the nearest, or the first."""
    listed = sorted(candidates)
    if near := nearest(name, listed):
        return f"; the nearest is {near!r}"
    return f"; it has {some(list(map(repr, listed)))}" if listed else ""


def some(names: Sequence[str], shown: int = TOLD) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def no_place(
    unknown: Sequence[str], generated: Sequence[str], there: Sequence[str], table: str, more: str
) -> tuple[str, str]:
    """Why columns of a file have no place in a table, as a part of a sentence, and what to do about the first."""
    if generated:
        sentence = f"its column {generated[0]!r} is one whose values the database generates in the table {table}"
        return sentence, "Leave the column out of the file, or give --new-columns ignore."
    near = nearest(unknown[0], there)
    sentence = (
        f"its column {unknown[0]!r} is not in the table {table}{f'; the nearest is {near!r}' if near else ''}{more}"
    )
    rename = rename_option(unknown[0], near or "COLUMN")
    return sentence, f"Give {rename}, or --new-columns ignore, or add the column to the table."


def rename_option(old: str, new: str) -> str:
    """The option that renames a column, to be typed in a shell whatever the names hold."""
    return f"--rename {shlex.quote(f'{old}={new}')}"


def _is_ours(name: str) -> bool:
    """Whether it is the name of a column that we fill ourselves, which databases compare without case."""
    return name.casefold() in (*OWN_COLUMNS, POSITION_COLUMN)


def _unprintable(name: str) -> bool:
    """Whether it holds control characters, or bytes that were not UTF-8 (os.fsdecode makes lone surrogates of them)."""
    return not name.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs") for char in name)
