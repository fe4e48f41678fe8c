"""What is written to stdout: into a pipe whose reader may go, onto a disk that may be full, to a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from ingest.console import give_up, printable
from ingest.errors import IngestError


@contextmanager
def piped() -> Iterator[None]:
    """End in silence when the reader of our pipe has gone, as `| head` does; in one line where the disk is full."""
    stream = sys.stdout
    out: Any = _Stdout(stream)
    sys.stdout = out
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        give_up(stream)
        raise typer.Exit(1) from None
    finally:
        sys.stdout = stream


class _Stdout:
    """stdout, whose failures can be told from those of all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._worded():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._worded():
            self._stream.flush()

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            give_up(self._stream)
            raise IngestError(f"stdout cannot be written: {error.strerror}.") from error


class Spelled(io.StringIO):
    """A terminal that is shown the lines of a file for programs: as everywhere, nothing in them acts upon it."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, text: str) -> int:
        return self._terminal.write(printable(text.removesuffix("\n")) + "\n")


def stdout() -> TextIO:
    """stdout, which shows what its encoding lacks as escapes instead of failing."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return sys.stdout
