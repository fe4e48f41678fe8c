"""A table's definition, in the words of SHOW CREATE TABLE, for another table. Knows no connection and no driver."""

from __future__ import annotations

import re

_FOREIGN_KEY = re.compile(r"  CONSTRAINT `(?:[^`]|``)*` FOREIGN KEY ")
_NAMED_CHECK = re.compile(r"  CONSTRAINT `(?:[^`]|``)*` CHECK ")
_OPTIONS = re.compile(r"(?: AUTO_INCREMENT=\d+)? DEFAULT CHARSET=\w+(?: COLLATE=\w+)?")
"""The next number to be given, and the letters."""

_BOUNDS = re.compile(r"(?:/\*!\d+)? PARTITION BY (?:RANGE|LIST)\b(?!(?s:.*) DIRECTORY = )")
"""Partitions that need not take every row, and lie where the server would put them."""


def like(definition: str, place: str, *, comment: str, added: str | None, names: bool) -> str | None:
    """The statement that creates a table like this one under another name; None where that is not sure to be right.

    Without its foreign keys and its comment, for which it gets another, and with the column `added` for a BIGINT; of
    partitions with those that a row has to fit into. `names` says whether two tables may have a CHECK of the same
    name: MySQL's are unique in a database.
    """
    _, *lines = definition.split("\n")
    end = next((number for number, line in enumerate(lines) if line.startswith(")")), 0)
    parts, options = lines[:end], _OPTIONS.search(lines[end])
    # One part a line: a line break inside a value would be written with a backslash.
    if not parts or options is None or any(line.endswith(",") != (line is not parts[-1]) for line in parts):
        return None
    kept = [line.removesuffix(",") for line in parts if not _FOREIGN_KEY.match(line)]
    if not names:
        kept = [_NAMED_CHECK.sub("  CHECK ", line) for line in kept]
    if added is not None:
        kept.append(f"  `{added}` bigint")
    body = ",\n".join(kept)
    made = f"CREATE TABLE {place} (\n{body}\n) ENGINE=InnoDB{options[0]} ROW_FORMAT=DYNAMIC COMMENT='{comment}'"
    bounds = "\n".join(lines[end + 1 :])
    return f"{made}\n{bounds}" if _BOUNDS.match(bounds) else made
