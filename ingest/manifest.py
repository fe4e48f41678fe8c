"""Find the CSV files; look at their size and time; hash them.

Opens no database, reads no CSV, and opens a file only to hash it, or to list an archive. Paths are text as
`os.fsdecode` makes it, so names that are not UTF-8 or hold a line break work like any other. Meant for POSIX systems.

What decides whether a file is taken:

- a file named by its path is taken whatever it is called (only `exclude` can still leave it out, by its name);
- below a folder, `include` chooses (default: *.csv and *.tsv, also as .gz, .bz2, .xz and .zst, in any case),
  `exclude` wins over it and also closes whole folders; dot-files, dot-folders, *.part and *.tmp are left out without a
  word;
- a glob pattern means what the shell would have made of it, without dot-files, *.part and *.tmp, and narrowed by
  `include` where one is given; folders that it matches are searched like folders typed;
- in `include` and `exclude`, a pattern without `/` is matched against the name, one with `/` against the path below the
  scanned folder, where `*` stays within one folder and `**` is any number of them;
- a zip archive, *.zip, is looked into as a folder is: each file in it is a source of its own, under the archive's path,
  a slash, and its name in there. Nothing is unpacked to where such a name leads.

A link is followed if it leads to something below a scanned folder; a file that several ways lead to is one source.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ingest import archives, opening, unpacking
from ingest.errors import SourceError, UsageError
from ingest.model import LeftOut, Manifest, Problem, Reason, Source, TableName
from ingest.settings import workers_default

_ENDINGS = tuple(kind + packed for kind in (".csv", ".tsv") for packed in ("", *unpacking.ENDINGS))
_UNFINISHED = (".part", ".tmp")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAGIC = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"([0-9]+)")

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says of a path with nothing behind it; anything else may hide a file."""

_BLOCK = 1 << 20
"""Bytes read at a time while hashing: large enough that the GIL is free nearly all the time."""

_GROUP_FILES = 256
_GROUP_BYTES = 8 * _BLOCK
"""Files hashed by one task, until either is reached: a task for each tiny file costs more than the hash of it."""

_HASH_THREADS = 4
"""Threads that hash, at most: one core does 1.7 GB/s, so more would only queue for the disk."""

_Match = Callable[[str, str], bool]
_Key = tuple[tuple[str | int, ...], ...]


def scan(
    paths: Sequence[str | os.PathLike[str]],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_age: float = 0.0,
    most: int | None = None,
) -> Manifest:
    """The sources that files, folders and glob patterns lead to, in natural order of their resolved paths.

    `min_age` is in seconds: files changed since then are left out, to be taken by a later run. `most` is in bytes: what
    a packed file may unpack to, if not what is usual for its size. Things that match but
    cannot be taken (pipes, devices, links out of the folder, unreadable folders) are in `left_out`, with a sentence.
    Raises UsageError for a path that does not exist or is a pipe or a device itself, for a pattern without a match, and
    for a URI.
    """
    search = _Search(_Filter(include, exclude), min_age, most)
    for path in paths:
        search.path(os.fsdecode(path))
    search.follow_links()
    return search.manifest()


def same_file(source: Source) -> bool:
    """A second look: are size, mtime and ctime as scanned? False when the file is gone."""
    try:
        status = os.stat(source.file)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == (
        source.size_on_disk,
        source.mtime_ns,
        source.ctime_ns,
    )


def sha256_of(source: Source) -> str:
    """SHA-256, in hex, of the file's bytes as they lie on disk, or in their archive, unpacked from that.

    Raises SourceError if they cannot be read.
    """
    digest = hashlib.sha256()
    if source.entry is not None or source.problem is not None:
        with opening.reading(source), opening.open_own(source) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()
    try:
        # Not blocking: a pipe may have taken the file's place since the scan, and opening one waits for a writer.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceError(
                    f"{source.display} is no longer a regular file.",
                    code=Reason.NOT_REGULAR,
                    hint="Put the file back, then run the same command again.",
                )
            size = min(source.size + 1, _BLOCK)
            while block := os.read(descriptor, size):
                digest.update(block)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceError(
            f"{source.display} cannot be read: {error.strerror or error}.",
            code=Reason.UNREADABLE,
            hint="Check that it is there and may be read, then run the same command again.",
        ) from error
    return digest.hexdigest()


def sha256_many(sources: Sequence[Source]) -> dict[str, str | SourceError]:
    """The SHA-256 of each source by its path, or the error that kept it from being read."""
    results: dict[str, str | SourceError] = {}
    groups = list(_groups(sources))
    threads = min(_HASH_THREADS, workers_default(), len(groups))
    if threads <= 1:
        for group in groups:
            results.update(_hash_group(group))
        return results
    # Not at the top: it imports logging, which most runs of a command never need.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="ingest-hash") as pool:
        for found in pool.map(_hash_group, groups):
            results.update(found)
    return results


def identity(table: TableName, path: str) -> str:
    """The ledger's unique key of a file in a table: 64 hex digits.

    Each part goes in with its length before it, so that no two different triples run together into the same bytes.
    """
    digest = hashlib.sha256()
    for part in (table.schema or "", table.name):
        raw = part.encode()
        digest.update(b"%d:%b" % (len(raw), raw))
    digest.update(os.fsencode(path))
    return digest.hexdigest()


def _groups(sources: Sequence[Source]) -> Iterator[list[Source]]:
    group: list[Source] = []
    size = 0
    for source in sources:
        group.append(source)
        size += source.size
        if len(group) >= _GROUP_FILES or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _hash_group(sources: list[Source]) -> dict[str, str | SourceError]:
    results: dict[str, str | SourceError] = {}
    for source in sources:
        try:
            results[source.path] = sha256_of(source)
        except SourceError as error:
            results[source.path] = error
    return results


class _Filter:
    """What the names of files and folders decide."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self.include = _matcher(include) if include else None
        self.exclude = _matcher(exclude) if exclude else None

    @property
    def none_in_archive(self) -> str:
        """What is told of an archive of which no file is wanted."""
        if self.include is None and self.exclude is None:
            return "No file in it is named like a CSV file; --include takes others."
        return "By --include and --exclude no file in it is wanted."

    def takes(self, name: str, below: str) -> bool:
        """Whether a file found below a folder is wanted; `below` is its path from there."""
        wanted = name.lower().endswith(_ENDINGS) if self.include is None else self.include(name, below)
        return (wanted or _is_archive(name)) and not self.excludes(name, below)

    def takes_entry(self, archive: str, name: str) -> bool:
        """Whether a file of an archive is wanted; `archive` is the archive's own path below the scanned folder."""
        parts = name.split("/")
        if any(part.startswith(".") and part != ".." for part in parts) or name.lower().endswith(_UNFINISHED):
            return False
        below = f"{archive}/{name}"
        if self.include is None or self.include(os.path.basename(archive), archive):
            wanted = name.lower().endswith(_ENDINGS)
        else:
            wanted = self.include(parts[-1], below)
        return wanted and not self.excludes_any(below)

    def excludes(self, name: str, below: str) -> bool:
        return self.exclude is not None and self.exclude(name, below)

    def excludes_any(self, below: str) -> bool:
        """Whether a path or a folder on the way to it is excluded."""
        parts = below.split("/")
        return any(self.excludes(part, "/".join(parts[: i + 1])) for i, part in enumerate(parts))


def _matcher(globs: Sequence[str]) -> _Match:
    names = "|".join(fnmatch.translate(g.rstrip("/")) for g in globs if "/" not in g.rstrip("/"))
    match_name = re.compile(names).match if names else None
    in_paths = [[p for p in g.split("/") if p not in ("", ".")] for g in globs if "/" in g.rstrip("/")]

    def matches(name: str, below: str) -> bool:
        if match_name is not None and match_name(name):
            return True
        if not in_paths:
            return False
        parts = below.split("/")
        return any(_parts_match(parts, pattern) for pattern in in_paths)

    return matches


def _parts_match(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_parts_match(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _parts_match(parts[1:], pattern[1:])


class _Search:
    """Collects sources from several paths. Links wait until all folders are done, so that real names come first."""

    def __init__(self, names: _Filter, min_age: float, most: int | None) -> None:
        self._names = names
        self._min_age = min_age
        self._most = most
        self._sources: dict[str, Source] = {}
        self._archives: set[str] = set()
        self._left_out: dict[str, LeftOut] = {}
        self._links: list[tuple[set[str], str, str, str]] = []
        self._roots: list[str] = []

    def manifest(self) -> Manifest:
        key = _sort_key()
        return Manifest(
            sources=tuple(sorted(self._sources.values(), key=lambda s: key(s.path))),
            left_out=tuple(sorted(self._left_out.values(), key=lambda x: key(x.path))),
        )

    def path(self, typed: str) -> None:
        """Take what was typed: a file, a folder or a pattern."""
        if _URI.match(typed):
            raise UsageError(f"{typed} is a URI; those are not supported.", hint="Give a file or folder by its path.")
        if "\0" in typed:
            raise UsageError(f"{typed!r} is not a path.", hint="Give a file or folder by its path.")
        looked_ns = time.time_ns()
        try:
            status = os.stat(typed)
        except OSError as error:
            if error.errno not in (*_MISSING, errno.ENAMETOOLONG):
                self._unseen(os.path.abspath(typed), error)
                return
            if os.path.islink(typed):
                raise UsageError(f"{typed} is a link that leads nowhere.", hint="Repair it or name a file.") from error
            if not _MAGIC.search(typed):
                raise UsageError(f"{typed} does not exist.", hint=_where(typed)) from error
            self._pattern(typed)
        else:
            if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                # Of a folder such things are left out; what was named is what somebody wants to have loaded.
                raise UsageError(
                    f"{typed} is {_kind(status.st_mode)}, not a regular file.",
                    hint="Write its content to a file and load that.",
                )
            self._take(typed, status, looked_ns, below=os.path.basename(typed))

    def _take(self, typed: str, status: os.stat_result, looked_ns: int, *, below: str) -> None:
        if stat.S_ISDIR(status.st_mode):
            root = os.path.realpath(typed)
            self._roots.append(root)
            self._walk(set(), root, "" if typed == "." else _slashed(typed), "")
        elif not self._names.excludes(os.path.basename(typed), below) and self._regular(typed, status):
            self._add(os.path.realpath(typed), typed, below, status, looked_ns)

    def _pattern(self, pattern: str) -> None:
        known = len(self._left_out)
        matches = sorted(self._expand(pattern))
        if not matches and len(self._left_out) == known:
            hint = f"Check the pattern; we are in {os.getcwd()}."
            raise UsageError(f"Nothing matches the pattern {pattern}.", hint=hint)
        for path, below in matches:
            name = os.path.basename(path)
            if below and (name.lower().endswith(_UNFINISHED) or self._names.excludes_any(below)):
                continue
            looked_ns = time.time_ns()
            try:
                status = os.stat(path)
            except OSError as error:
                self._unseen(os.path.abspath(path), error)
                continue
            include = self._names.include
            if include is None or stat.S_ISDIR(status.st_mode) or _is_archive(name) or include(name, below):
                self._take(path, status, looked_ns, below=below)

    def _expand(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Paths that match, each with its path below the pattern's last folder without a wildcard.

        Unlike `glob.glob`, `**` does not go through links, so that links in a circle cannot multiply the matches.
        """
        parts = [p for p in pattern.split("/") if p not in ("", ".")]
        folders_only = pattern.endswith("/")
        while parts and parts[-1] == "**":  # folders are searched to the ground anyway
            parts.pop()
            folders_only = True
        fixed = next((i for i, p in enumerate(parts) if _MAGIC.search(p)), len(parts))
        base = ("/" if pattern.startswith("/") else "") + "/".join(parts[:fixed])
        pending = [(base, "", tuple(parts[fixed:]))]
        while pending:
            path, below, rest = pending.pop()
            if not rest:
                if self._there(path or ".", folder=folders_only):
                    yield path or ".", below
                continue
            part, after = rest[0], rest[1:]
            if part == "**":
                pending.append((path, below, after))
            elif not _MAGIC.search(part):
                if self._there(_slashed(path) + part):
                    pending.append((_slashed(path) + part, _slashed(below) + part, after))
                continue
            match = re.compile(fnmatch.translate(part)).match
            for entry in self._list(path or "."):
                name = entry.name
                if not match(name) or (name[0] == "." and part[0] != "."):
                    continue
                into = _slashed(path) + name, _slashed(below) + name
                if part == "**":
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((*into, rest))
                elif not after or self._there(into[0], folder=True):
                    pending.append((*into, after))

    def _there(self, path: str, *, folder: bool = False) -> bool:
        try:
            status = os.stat(path) if folder else os.lstat(path)
        except OSError as error:
            if error.errno not in _MISSING:
                self._unseen(os.path.abspath(path), error)
            return False
        return not folder or stat.S_ISDIR(status.st_mode)

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            sentence = f"The folder cannot be read, so nothing below it was seen: {error.strerror}."
            self._leave(os.path.abspath(folder), Reason.UNREADABLE, sentence)
            return []

    def _walk(self, seen: set[str], folder: str, display: str, below: str) -> None:
        """Search a folder. `folder` is resolved, and its subfolders are then, too: no link is followed here.

        `seen` are the folders looked at for the same typed one; another's may have been looked at for other paths.
        """
        takes, excludes, now = self._names.takes, self._names.excludes, time.time_ns
        pending = [(folder, display, below)]
        while pending:
            folder, display, below = pending.pop()
            if folder in seen:
                continue
            seen.add(folder)
            prefix = _slashed(folder)
            for entry in self._list(folder):
                name = entry.name
                if name[0] == "." or name.lower().endswith(_UNFINISHED):
                    continue
                path, inner = prefix + name, below + name
                try:
                    if entry.is_symlink():
                        self._links.append((seen, path, display + name, inner))
                    elif entry.is_dir(follow_symlinks=False):
                        if not excludes(name, inner):
                            pending.append((path, f"{display}{name}/", f"{inner}/"))
                    elif takes(name, inner):
                        looked_ns = now()
                        status = entry.stat(follow_symlinks=False)
                        if self._regular(path, status):
                            self._add(path, display + name, inner, status, looked_ns)
                except OSError as error:
                    self._unseen(path, error)

    def follow_links(self) -> None:
        """Look at the links that were met, in a stable order; a folder behind one may hold more of them."""
        key = _sort_key()
        while self._links:
            links = sorted(self._links, key=lambda link: key(link[1]))
            self._links = []
            for seen, path, display, below in links:
                self._follow(seen, path, display, below)

    def _follow(self, seen: set[str], path: str, display: str, below: str) -> None:
        name = os.path.basename(path)
        try:
            target = os.path.realpath(path, strict=True)
            looked_ns = time.time_ns()
            status = os.stat(target)
        except OSError as error:
            # What a broken link meant to be is unknown; behind one that may not be followed can be a folder.
            if error.errno not in _MISSING or self._names.takes(name, below):
                self._unseen(path, error)
            return
        inside = any(target == r or target.startswith(_slashed(r)) for r in self._roots)
        if stat.S_ISDIR(status.st_mode):
            if self._names.excludes(name, below):
                return
            if inside:
                self._walk(seen, target, f"{display}/", f"{below}/")
            else:
                sentence = "It is a link to a folder outside the scanned one; to load that, name the folder itself."
                self._leave(path, Reason.NOT_REGULAR, sentence)
        elif self._names.takes(name, below) and target not in self._sources and self._regular(path, status):
            if inside:
                self._add(target, display, below, status, looked_ns)
            else:
                sentence = "It is a link to a file outside the scanned folder; to load that, name the file itself."
                self._leave(path, Reason.NOT_REGULAR, sentence)

    def _add(self, path: str, display: str, below: str, status: os.stat_result, looked_ns: int) -> None:
        """Take a regular file, unless it is too young. `looked_ns` is from before its status was asked for."""
        if path in self._sources or path in self._archives:
            return
        if self._min_age > 0:
            ripe = status.st_mtime_ns / 1e9 + self._min_age
            if looked_ns / 1e9 < ripe:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ripe))
                sentence = f"It changed less than {self._min_age:g} s ago; a run after {when} takes it."
                self._leave(path, Reason.TOO_YOUNG, sentence)
                return
        if _is_archive(path):
            self._archives.add(path)
            self._add_entries(path, display, below, status, looked_ns)
            return
        self._sources[path] = Source(
            path=path,
            display=display,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            scanned_ns=looked_ns,
            codec=unpacking.codec_of(path),
            most=self._most,
        )

    def _add_entries(self, path: str, display: str, below: str, status: os.stat_result, looked_ns: int) -> None:
        """Take the files of an archive, or the archive itself as one that cannot be read."""
        try:
            found = archives.listed(path, display, status, self._most)
        except OSError as error:
            self._unseen(path, error)
            return
        whole = Source(
            path=path,
            display=display,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            scanned_ns=looked_ns,
            most=self._most,
        )
        if isinstance(found, Problem):
            self._sources[path] = replace(whole, problem=found)
            return
        wanted = [one for one in found if self._names.takes_entry(below, one.name)]
        if not wanted:
            self._leave(path, Reason.CONTAINER, self._names.none_in_archive)
        for one in wanted:
            inside = f"{path}/{one.name}"
            self._sources[inside] = replace(
                whole,
                path=inside,
                display=f"{display}/{one.name}",
                size=one.size,
                codec=unpacking.codec_of(one.name),
                entry=one.entry,
                problem=one.problem,
            )

    def _regular(self, path: str, status: os.stat_result) -> bool:
        if stat.S_ISREG(status.st_mode):
            return True
        sentence = f"It is {_kind(status.st_mode)}, not a regular file; write its content to one and load that."
        self._leave(os.path.abspath(path), Reason.NOT_REGULAR, sentence)
        return False

    def _unseen(self, path: str, error: OSError) -> None:
        """Leave out what could not be looked at, unless it is simply gone."""
        if error.errno not in _MISSING:
            self._leave(path, Reason.UNREADABLE, f"It cannot be looked at: {error.strerror}.")
        elif os.path.islink(path):
            self._leave(path, Reason.NOT_REGULAR, f"It is a link that leads nowhere: {error.strerror}.")

    def _leave(self, path: str, code: Reason, sentence: str) -> None:
        self._left_out.setdefault(path, LeftOut(path=path, code=code, sentence=sentence))


def _where(typed: str) -> str:
    """What to do about a path that is not there: messages show a file of an archive as if that were a folder."""
    archive, name = os.path.split(typed)
    while archive and not os.path.lexists(archive):
        archive = os.path.dirname(archive)
    if _is_archive(archive) and os.path.isfile(archive) and name:
        return f"Of an archive, type: ingest load {shlex.quote(archive)} --include {shlex.quote(name)}"
    return f"Check the path; we are in {os.getcwd()}."


def _is_archive(name: str) -> bool:
    return name.lower().endswith(unpacking.ARCHIVE)


def _slashed(path: str) -> str:
    """The path as the beginning of a longer one."""
    return path if not path or path.endswith("/") else path + "/"


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _sort_key() -> Callable[[str], tuple[_Key, str]]:
    """A key for natural order, folder by folder: orders_2 before orders_10. Each folder's part is made once."""
    folders: dict[str, _Key] = {}

    def of(path: str) -> tuple[_Key, str]:
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = tuple(map(_natural, folder.split("/")))
        # The path itself decides between names like 1.csv and 01.csv.
        return (*folders[folder], _natural(name)), path

    return of


def _natural(name: str) -> tuple[str | int, ...]:
    # Text and numbers take turns, starting with text: two keys never compare a number with text.
    parts: list[str | int] = list(_DIGITS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts)
