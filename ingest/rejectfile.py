"""The CSV file in which rejects travel: written by an export, mended by people, read again to be loaded.

Its first four columns say which reject a line is; behind them is the record, its fields under the columns of its file.
Files with other headers share the columns of the same name. What cannot be put so stands whole, as its file has it, in
the first cell behind the four: a record that cannot be split, or that does not go with its header where the columns are
not those of its file from the first on. Opens no database.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ingest.errors import UsageError
from ingest.model import Dialect, Reason
from ingest.recordtext import PLAIN, Cell, has_to_be_quoted, is_bare, read, record, written
from ingest.rows import FileRow, RejectRow

COLUMNS = ("_ingest_reject_id", "_ingest_file", "_ingest_line", "_ingest_reason")
ESCAPED = "_escaped"
"""The end of the fourth name where formulas are escaped."""

_HEADER = re.compile(
    r'"?{}"?(?P<delimiter>.)"?{}"?(?P=delimiter)"?{}"?(?P=delimiter)"?{}(?P<escaped>{})?"?'.format(*COLUMNS, ESCAPED)
)
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""What begins a formula by CWE-1236 and OWASP, and the same with apostrophes, so that there is one way back."""

_CUT = re.compile(r"… \([0-9,]+ bytes\)$")
_SPELLED = re.compile(r"\\x(?:00|[89a-f][0-9a-f])")
_SPELLING = (Reason.BAD_BYTE, Reason.NUL_BYTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How the file of a reject is written, as the ledger keeps it."""

    names: tuple[str, ...]
    dialect: Dialect
    null: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: str | None) -> Written:
        """From the JSON of `ingest_file.header`."""
        kept = json.loads(header or "{}")
        told = {name: kept[name] for name in ("delimiter", "quote", "escape") if name in kept}
        null = kept.get("options", {}).get("null", ())
        return cls(
            names=tuple(kept.get("names", ())), dialect=Dialect(**told), null=tuple(n for n in null if type(n) is str)
        )

    def shown(self, cells: Iterable[Cell]) -> list[Cell]:
        """Cells as they are exported: what stands for NULL unquoted would not if it had to be quoted here."""
        hidden = {word for word in self.null if has_to_be_quoted(word)}
        return [Cell("") if not c.quoted and c.text in hidden else c for c in cells]


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A reject that can be mended."""

    reject_id: int
    file: str  #: the path of its file, as `spelled`
    line: int
    reason: str
    raw: str  #: the record as it stands in the file
    mended: str | None  #: as it was last loaded back in vain
    written: Written

    @property
    def original(self) -> list[Cell] | None:
        """The fields that its file has; None where it cannot be split."""
        if _CUT.search(self.raw) or self.reason == Reason.BROKEN_QUOTE:
            return None
        return record(self.raw, self.written.dialect)

    @property
    def latest(self) -> list[Cell] | None:
        """The same of what was last loaded back in vain, if anything was."""
        return self.original if self.mended is None else record(self.mended, PLAIN)

    def is_whole(self, cells: list[Cell] | None, columns: Sequence[str]) -> bool:
        """Whether such fields stand whole in the first cell of a file with these columns behind the four."""
        names = self.written.names
        return cells is None or (len(cells) != len(names) and tuple(columns[: len(names)]) != names)

    def given(self, cells: list[Cell], columns: Sequence[str], width: int) -> list[Cell] | str:
        """The record that a line has for it, as fields of its file; or a sentence why it has none.

        `width` is how many cells the header has behind the four, without names, too: a spreadsheet fills up all lines.
        """
        names = self.written.names
        known = None if self.original is None else {cell.text for cell in self.original}
        spelled = (cell.text for cell in cells if _SPELLED.search(cell.text))
        if self.reason in _SPELLING and any(known is None or text in known for text in spelled):
            return "it has a byte that is spelled as \\xNN; write the character that is meant, or nothing"
        if cells and is_bare(cells[1:]) and any(self.is_whole(c, columns) for c in (self.original, self.latest)):
            # Which of the two was exported is not known: the same file may be mended, and loaded, again and again.
            found = None if _CUT.search(cells[0].text) else record(cells[0].text, self.written.dialect)
            return found if found is not None else "a quote in it is not closed, or its text is cut, still"
        latest = self.latest
        if latest is not None and len(latest) < len(names) and _is_filled_up(self.written.shown(latest), cells):
            return latest
        if tuple(columns[: len(names)]) == names:
            end = len(cells) if len(cells) > width else max(len(names), _filled(cells))
            return cells[:end]
        places = [columns.index(name) for name in names]
        others = [cell for place, cell in enumerate(cells) if place not in places]
        own = [cells[place] for place in places if place < len(cells)]
        return own + [cell for cell in others if cell != Cell("")]


def _is_filled_up(exported: Sequence[Cell], cells: Sequence[Cell]) -> bool:
    """Whether a line has a record as it was exported: empty cells behind it, or quotes that are gone, mend nothing."""
    own = [cell.text for cell in cells[: len(exported)]]
    own += [""] * (len(exported) - len(own))
    return own == [cell.text for cell in exported] and is_bare(cells[len(exported) :])


def _filled(cells: Sequence[Cell]) -> int:
    """How many cells there are up to the last that is not empty."""
    return next((n for n in range(len(cells), 0, -1) if cells[n - 1] != Cell("")), 0)


def opened(reject: RejectRow, row: FileRow) -> Open:
    """A reject of the ledger, and its file, as one to be mended."""
    return Open(
        reject_id=reject.reject_id,
        file=spelled(row.path),
        line=reject.line,
        reason=reject.reason,
        raw=reject.raw,
        mended=reject.mended,
        written=Written.of(row.header),
    )


def spelled(path: str) -> str:
    """A path as the file has it: bytes that are not UTF-8 are spelled out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def create(path: Path) -> int:
    """A descriptor of a new file for an export, or of one that is empty, a pipe or a device.

    Raises UsageError where a file with anything in it has the name, for that may be hours of mending; and where none
    can be made there.
    """
    try:
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            found = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)  # to be made where a link leads nowhere
    except OSError as error:
        folder = path.parent
        if isinstance(error, FileNotFoundError) and not folder.exists():
            raise UsageError(
                f"{path} cannot be written: the folder {folder} does not exist.", hint="Create it first."
            ) from error
        raise UsageError(f"{path} cannot be written: {error.strerror}.", hint="Write another path.") from error
    about = os.fstat(found)
    if stat.S_ISREG(about.st_mode) and about.st_size:
        os.close(found)
        raise UsageError(
            f"{path} exists, and may hold what was mended: it is not written over.",
            hint="Write another name, or remove it first.",
        )
    return found


def write(rejects: Iterable[Open], headers: Iterable[Written], out: TextIO, *, escape_formulas: bool = False) -> int:
    """Write rejects of files with these headers; how many there were."""
    columns = list(dict.fromkeys(name for header in headers for name in header.names))
    escape = _inert if escape_formulas else Cell._make
    told = COLUMNS[-1] + ESCAPED * escape_formulas
    out.write(written(map(escape, map(Cell, (*COLUMNS[:-1], told, *columns)))) + "\n")
    count = 0
    for count, one in enumerate(rejects, start=1):  # noqa: B007
        about = (str(one.reject_id), one.file, str(one.line), one.reason)
        out.write(written(map(escape, (*map(Cell, about), *_record(one, columns)))) + "\n")
    return count


def _inert(cell: Cell) -> Cell:
    """The cell as one that no spreadsheet takes for a formula."""
    return cell._replace(text=f"'{cell.text}") if _FORMULA.match(cell.text) else cell


def _as_it_was(cell: Cell) -> Cell:
    """What `_inert` was given."""
    return cell._replace(text=cell.text[1:]) if cell.text[:1] == "'" and _FORMULA.match(cell.text) else cell


def _record(one: Open, columns: list[str]) -> list[Cell]:
    cells = one.latest
    if cells is None or one.is_whole(cells, columns):
        return [Cell(one.raw if cells is None else written(cells, one.written.dialect))]
    cells = one.written.shown(cells)
    names = one.written.names
    if tuple(columns[: len(names)]) == names:
        return cells
    by_name = dict(zip(names, cells, strict=True))
    last = max(columns.index(name) for name in names)
    return [by_name.get(name, Cell("")) for name in columns[: last + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One line of a mended file."""

    line: int  #: physical line, from 1
    reject_id: str
    file: str
    of_line: str  #: of the reject's own file
    cells: list[Cell]

    @property
    def number(self) -> int | None:
        """What can be the number of a reject."""
        return int(self.reject_id) if self.reject_id.isdecimal() and len(self.reject_id) < 19 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A mended file."""

    columns: tuple[str, ...]  #: behind the four, without the empty ones at the end
    width: int  #: with those
    lines: tuple[Given, ...]


def read_mended(path: Path) -> Mended:
    """Read a mended file. Raises UsageError where it is none, is not UTF-8, or has a broken quote."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02X} at {error.start:,}.",
            hint="Save it as CSV in UTF-8, as it was exported.",
        ) from error
    match = _HEADER.match(text)
    if match is None:
        raise UsageError(
            f"{path} does not begin with the columns {', '.join(COLUMNS)}.",
            hint="Mend what this writes: ingest rejects export PATH.csv",
        )
    lines = _lines(path, text, Dialect(delimiter=match["delimiter"]), escaped=match["escaped"] is not None)
    _, head = next(lines)
    names = [cell.text for cell in head[len(COLUMNS) :]]
    width = len(names)
    while names and not names[-1]:
        names.pop()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path} has the column {twice!r} twice.", hint="Leave its header as it was exported.")
    return Mended(columns=tuple(names), width=width, lines=tuple(_given(number, cells) for number, cells in lines))


def _lines(path: Path, text: str, dialect: Dialect, *, escaped: bool) -> Iterator[tuple[int, list[Cell]]]:
    for line in read(text, dialect):
        if line.cells is None:
            raise UsageError(
                f"{path}:{line.number}: a quote is not closed, or not followed by a delimiter; nothing was loaded."
            )
        if not is_bare(line.cells):
            yield line.number, [_as_it_was(cell) for cell in line.cells] if escaped else line.cells


def _given(number: int, cells: list[Cell]) -> Given:
    about = [cell.text.strip() for cell in cells[: len(COLUMNS)]]
    about += [""] * (len(COLUMNS) - len(about))
    return Given(line=number, reject_id=about[0], file=about[1], of_line=about[2], cells=cells[len(COLUMNS) :])
