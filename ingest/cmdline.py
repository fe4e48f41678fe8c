"""Take a typed password out of what `ps` shows of this process, as the `mysql` client does.

Linux lets a process write over its own command line. What was typed is still seen for the moment that the start takes:
a password is better kept in INGEST_DATABASE_URL, or where the database's own client looks for it (~/.pgpass).
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_IN_URL = re.compile(rb"(://[^:/]*:)(.*)(?=@)", re.DOTALL)
_IN_QUERY = re.compile(rb"([?&][^=&\s]*(?:password|passwd|secret|token|key)[^=&\s]*=)([^&\s]+)", re.IGNORECASE)


def hidden(line: bytes) -> bytes:
    """The command line with an asterisk for each byte of a password; its length stays."""

    def stars(match: re.Match[bytes]) -> bytes:
        return match[1] + b"*" * len(match[2])

    return _IN_QUERY.sub(stars, _IN_URL.sub(stars, line))


def hide_typed_passwords() -> None:
    """Write over the passwords of this process's own command line. Does nothing where that cannot be done."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = Path("/proc/self/cmdline").read_bytes()
        changed = b"\0".join(hidden(word) for word in line.split(b"\0"))
        if changed == line:
            return
        import ctypes  # only those pay for it who typed a password

        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # proc(5): arg_start is field 48, arg_end field 49
        if end - start == len(line) == len(changed):
            ctypes.memmove(start, changed, len(changed))
