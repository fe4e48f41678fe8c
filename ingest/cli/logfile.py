"""The log file: a line a record, whatever the names in it hold; one that cannot be written ends nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.console import printable
from ingest.errors import IngestError, UsageError

log = logging.getLogger("ingest")


class _OneLine(logging.Formatter):
    """A line a record, whatever the names in it hold; only a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return inert(super().format(record))


def inert(text: str) -> str:
    """Several lines in which nothing acts upon a terminal: an error may quote a name."""
    return "\n".join(map(printable, text.split("\n")))


class LogFile(logging.FileHandler):
    """The log file. One that cannot be written, on a full disk, ends nothing and fills no terminal."""

    lost = ""  #: why not all of it could be written, in the system's words

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.lost = error.strerror or type(error).__name__
        else:
            super().handleError(record)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:  # there was something left to be written
            self.lost = error.strerror or type(error).__name__


class NoLog(logging.NullHandler):
    """In the place of a log file that nobody asked for."""

    lost = ""


@contextmanager
def logging_to(path: Path | None, verbose: bool) -> Iterator[LogFile | NoLog]:
    """The log file, if one was asked for; without one the library's log goes nowhere."""
    ours, root = logging.getLogger("ingest"), logging.getLogger()
    handler: LogFile | NoLog = NoLog()
    if path is not None:
        try:
            handler = LogFile(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"--log-file {path} cannot be written: {error.strerror}.") from error
        handler.setFormatter(_OneLine("%(asctime)s %(processName)s[%(process)d] %(levelname)s %(message)s"))
        # Only our own logger is opened up: at this level others would write SQL with its values.
        ours.setLevel(logging.DEBUG if verbose else logging.INFO)
        logging.captureWarnings(True)
    root.addHandler(handler)
    try:
        yield handler
    except IngestError as error:
        log.error("%s", error)
        raise
    except BaseException:
        log.critical("the run ended with an error that nobody expected", exc_info=True)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
        logging.captureWarnings(False)
