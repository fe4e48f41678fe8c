"""Imported by multiprocessing's fork servers, for one whose parent is killed while it asks for a process.

Python would have it write a traceback to the user's terminal, as its last words.
"""

from __future__ import annotations

import sys
from types import TracebackType


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly
