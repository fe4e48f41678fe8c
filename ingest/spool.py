"""The spool: one private folder a run, where staged batches wait for the writer.

Nothing in it outlives its run or is ever used again, so nothing in it is fsynced. The main process holds an
flock on the folder's owner file; a later run removes every folder whose lock is free.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import UsageError

_LIVE = ".ingest-spool-"
_MAKING = ".ingest-making-"  # also of one that is being removed
_OWNER = "owner"

_SOCKETS = 103 - len("/.ingest-spool-12345678/listener-12345678")
"""Bytes that the path of a folder may have, for multiprocessing's sockets to fit below it: macOS has 104 for a path."""


@contextlib.contextmanager
def run_folder(base: str | Path | None) -> Iterator[Path]:
    """A new folder for one run or command, removed at the end; those of dead ones are removed first.

    Under `base`, or among the system's temporary ones. Raises UsageError if it cannot be made.
    """
    base = Path(base or tempfile.gettempdir())
    clean(base)
    try:
        folder, owner = _made(base)
    except OSError as error:
        raise unmade(base, error) from error
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(owner)


def own_folder() -> str | None:
    """A new folder of this process for sockets, for as long as it lives; None if none can be made.

    In the system's temporary one, wherever the spool is, for the path of a socket may not be long.
    """
    places = (tempfile.gettempdir(), "/tmp")  # noqa: S108
    base = next((place for place in places if len(os.fsencode(place)) <= _SOCKETS), None)
    if base is None:
        return None
    folder = contextlib.ExitStack()
    try:
        made = folder.enter_context(run_folder(base))
    except (UsageError, OSError):
        return None
    atexit.register(folder.close)
    return str(made)


def _made(base: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor of its owner file, which is locked."""
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=base))
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, making, ignore_errors=True)
        try:
            owner = os.open(making / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, owner)
            fcntl.flock(owner, fcntl.LOCK_EX)
            # Locked before it has the name of one that is used: from here on no other run takes it for a dead one's.
            folder = base / making.name.replace(_MAKING, _LIVE)
            making.rename(folder)
        except FileNotFoundError:  # until then one may have
            return _made(base)
        undo.pop_all()
    return folder, owner


def unmade(base: Path, error: OSError) -> UsageError:
    """That there cannot be a spool under `base`, and why."""
    return UsageError(
        f"the spool folder cannot be made in {base}: {error.strerror}.", hint="Give another with --spool DIR."
    )


def clean(base: Path) -> None:
    """Remove the folders of dead runs under `base`."""
    with contextlib.suppress(OSError):
        for name in os.listdir(base):  # among very many others, maybe
            folder = base / name
            if not name.startswith((_LIVE, _MAKING)) or folder.is_symlink():
                continue
            with contextlib.suppress(OSError):
                _remove_dead(folder)


def _remove_dead(folder: Path) -> None:
    """Remove a folder; raises OSError where its run is alive."""
    try:
        owner = os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if not folder.name.startswith(_MAKING):
            return  # somebody has taken the owner away; who knows whether the run is alive
        try:
            folder.rmdir()  # its run was killed before it had an owner, or will find that it needs another folder
        except OSError:
            if not (folder / _OWNER).exists():  # one that is made has nothing before it has that
                _remove(folder)
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    finally:
        os.close(owner)


def _remove(folder: Path) -> None:
    """Remove a folder that is no longer used; if we are killed meanwhile, somebody else can, whatever is left of it."""
    ending = folder.with_name(folder.name.replace(_LIVE, _MAKING))
    with contextlib.suppress(OSError):
        folder.rename(ending)
    shutil.rmtree(ending, ignore_errors=True)


def free_bytes(folder: Path) -> int:
    """Bytes that the file system of `folder` has left for us."""
    return shutil.disk_usage(folder).free


def remove(path: str) -> None:
    """Remove a staged file; one that is gone is fine."""
    with contextlib.suppress(OSError):
        os.unlink(path)
