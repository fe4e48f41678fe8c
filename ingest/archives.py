"""What is in a zip archive: its files, where they lie, and which of them cannot be taken.

Reads the archive's directory and nothing else. Names in it are data: they lead nowhere, and what they lead to in other
hands (`../`, an absolute path) is refused.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ingest import unpacking
from ingest.model import Entry, Problem, Reason

if TYPE_CHECKING:
    import zipfile  # which imports much, for something that few commands meet

_ENCRYPTED = 0x1 | 0x40 | 0x2000


class _Damaged(Exception):
    """The directory of an archive cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One file of an archive."""

    name: str  #: with `/` between folders, as it stands there but for `.` and doubled slashes
    size: int  #: bytes, unpacked
    entry: Entry
    problem: Problem | None = None


def listed(path: str, display: str, status: os.stat_result, most: int | None) -> list[Listed] | Problem:
    """The files of an archive, or why it cannot be read. `most`: bytes that all of it may unpack to, if not the usual.

    Raises OSError if the system does not let us read it.
    """
    try:
        found = _read(path, status.st_size, status.st_mtime_ns)
    except _Damaged:
        return Problem(
            code=Reason.CORRUPT,
            sentence=f"{display} is not a whole zip archive: its directory cannot be read.",
            hint="Transfer it again; unzip -t looks at it.",
        )
    limit = most if most is not None else unpacking.allowed(status.st_size)
    if sum(one.size for one in found) > limit:
        sentence, hint = unpacking.too_large(display, limit)
        return Problem(code=Reason.UNPACKED, sentence=sentence, hint=hint)
    if sum(one.entry.length for one in found) > status.st_size:
        return Problem(
            code=Reason.CORRUPT,
            sentence=f"{display} is not a whole zip archive: its entries overlap.",
            hint="It may be made to harm. Unpack it elsewhere, and load the files.",
        )
    return found


@lru_cache(maxsize=16)
def _read(path: str, size: int, mtime_ns: int) -> list[Listed]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not _is_special(info)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, zlib.error, EOFError) as error:
        raise _Damaged from error
    names = [_normal(info.filename) for info in infos]
    known: set[str] = set()
    repeated = {name for name in names if name in known or known.add(name)}  # type: ignore[func-returns-value]
    found: dict[str, Listed] = {}
    for info, name in zip(infos, names, strict=True):
        entry = Entry(
            archive=path,
            archive_size=size,
            offset=info.header_offset,
            length=info.compress_size,
            method=info.compress_type,
            crc=info.CRC,
        )
        problem = _problem(path, name, info, repeated)
        if name not in found:
            found[name] = Listed(name=name, size=info.file_size, entry=entry, problem=problem)
    return list(found.values())


def _is_special(info: zipfile.ZipInfo) -> bool:
    """Whether it is a link, a pipe or a device, as archives made on Unix may hold."""
    mode = info.external_attr >> 16
    return info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG)


def _normal(name: str) -> str:
    start = "/" if name.startswith("/") else ""
    return start + "/".join(part for part in name.split("/") if part not in ("", "."))


def _problem(path: str, name: str, info: zipfile.ZipInfo, repeated: Collection[str]) -> Problem | None:
    elsewhere = "Unpack it, and load the files."
    if name.startswith("/") or ".." in name.split("/") or not name:
        what, hint = "has a name that leads out of the archive", "Make the archive anew, with names below a folder."
    elif name in repeated:
        what, hint = "is in the archive more than once", "Make the archive anew, with one file of each name."
    elif info.flag_bits & _ENCRYPTED:
        what, hint = "is encrypted", elsewhere
    elif info.compress_type not in unpacking.METHODS:
        what, hint = f"is packed in a way that is not read (method {info.compress_type})", elsewhere
    else:
        return None
    return Problem(code=Reason.CONTAINER, sentence=f"{os.path.basename(path)}/{name} {what}.", hint=hint)


def gone(path: str) -> bool:
    """Whether there is no file any more at the path of one."""
    return not there(path) or (os.path.lexists(path) and not os.path.isfile(path))


def there(path: str) -> bool:
    """Whether there is something at a source's path: on disk, or in the archive that the path begins with.

    What is in an archive that cannot be read now is taken to be still there.
    """
    if os.path.lexists(path):
        return True
    at = path.lower().find(f"{unpacking.ARCHIVE}/")
    while at >= 0:
        archive, name = path[: at + len(unpacking.ARCHIVE)], path[at + len(unpacking.ARCHIVE) + 1 :]
        try:
            status = os.stat(archive)
            if stat.S_ISREG(status.st_mode):
                return name in {one.name for one in _read(archive, status.st_size, status.st_mtime_ns)}
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, _Damaged):
            return True
        at = path.lower().find(f"{unpacking.ARCHIVE}/", at + 1)
    return False
