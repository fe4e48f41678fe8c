"""Compare what `ingest` and its peers make of files of dirt, and print a markdown table: right, refused or wrong.

Usage: uv run --group bench bench/reading.py [--into docs/reading.md] [--only TEXT] [--group NAME] [--details]
The files are in `dirt.py`, `dirt_records.py` and `vectors.py`, the readers in `readers.py` and `ours.py`, the rules of
judging in `judging.py` and docs/reading.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import dirt
import dirt_records
import ours
import readers
import vectors
from common import note, row, scratch
from judging import Judged, Read, Refusal, Verdict, judge
from kinds import Hints, Kind

OURS = "ingest"
NAMES = (OURS, *readers.READERS)
LIMIT = 120
"""Seconds that a peer has for one file."""

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

Verdicts = dict[tuple[str, bool], Judged]
"""By reader, and whether it was told."""

DIRT: tuple[Callable[[], Iterator[Kind]], ...] = (
    dirt.delimiters,
    dirt.quotes,
    dirt.line_ends,
    dirt.encodings,
    dirt.containers,
    dirt_records.frames,
    dirt_records.records,
    dirt_records.values,
)


def kinds(only: str | None, group: str | None) -> list[Kind]:
    """All files, or those whose name or group has a text in it."""
    found = [kind for make in (*DIRT, vectors.vectors) for kind in make()]
    return [k for k in found if (not only or only in k.name) and (not group or group in k.group)]


def measured(listed: Sequence[Kind], folder: Path, names: Iterable[str]) -> list[Verdicts]:
    """The verdicts on each file, of each reader, untold and told."""
    paths = []
    for number, kind in enumerate(listed):
        slug = re.sub(r"[^a-z0-9]+", "_", kind.name.lower())[:40].strip("_")
        path = folder / f"f{number:03d}_{slug}x{kind.suffix}"
        path.write_bytes(kind.data)
        paths.append(path)
    found: list[Verdicts] = [{} for _ in listed]
    for name in names:
        began = time.perf_counter()
        for told in (False, True):
            results = _ours(listed, paths, folder, told) if name == OURS else _peer(name, listed, paths, told)
            for verdicts, kind, result in zip(found, listed, results, strict=True):
                verdicts[name, told] = judge(kind, result, told)
        note(f"{name}: {time.perf_counter() - began:.0f} s")
    return found


def _ours(listed: Sequence[Kind], paths: Sequence[Path], folder: Path, told: bool) -> list[Read | Refusal]:
    work = folder / ("told" if told else "untold")
    work.mkdir()
    if not told:
        results = ours.read(paths, (), work / "0")
        return [results[path] for path in paths]
    results = {}
    groups = ours.grouped(zip(paths, (kind.hints for kind in listed), strict=True))
    for number, (words, some) in enumerate(groups.items()):
        results |= ours.read(some, words, work / str(number))
    return [results[path] for path in paths]


def _peer(name: str, listed: Sequence[Kind], paths: Sequence[Path], told: bool) -> list[Read | Refusal]:
    read = readers.READERS[name]
    return [_limited(read, path, kind.hints if told else None) for kind, path in zip(listed, paths, strict=True)]


def _limited(read: readers.Reader, path: Path, hints: Hints | None) -> Read | Refusal:
    def late(signal_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {LIMIT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        return read(path, hints)
    except TimeoutError as error:
        return readers.refused(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# output -------------------------------------------------------------------------------------------------------------


def page(listed: Sequence[Kind], found: Sequence[Verdicts], names: Sequence[str]) -> Iterator[str]:
    """The tables in Markdown: sums, groups, and each file."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("duckdb", "pandas", "clevercsv")]
    machine = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}"
    yield f"{machine}, {', '.join(versions)}; {len(listed)} files.\n"
    yield "Right, refused, wrong; in sum:\n"
    yield row("", *names)
    yield row("---", *["---"] * len(names))
    for told, label in ((False, "with defaults"), (True, "told")):
        yield row(label, *(_sum(found, name, told) for name in names))
    yield "\nRight with defaults / right when told, by group (and wrong, where there are any):\n"
    yield row("Group", "Files", *names)
    yield row("---", "---", *["---"] * len(names))
    for group in dict.fromkeys(kind.group for kind in listed):
        some = [verdicts for kind, verdicts in zip(listed, found, strict=True) if kind.group == group]
        yield row(group, str(len(some)), *(_group(some, name) for name in names))
    yield "\nFile by file, with defaults / told: ✓ right, – refused, ✗ wrong.\n"
    yield row("Group", "File", *names)
    yield row("---", "---", *["---"] * len(names))
    for kind, verdicts in zip(listed, found, strict=True):
        yield row(kind.group, _shown(kind.name), *(_marks(verdicts, name) for name in names))


MARKS = {Verdict.RIGHT: "✓", Verdict.REFUSED: "–", Verdict.WRONG: "✗"}


def _marks(verdicts: Verdicts, name: str) -> str:
    return " / ".join(MARKS[verdicts[name, told].verdict] for told in (False, True))


def _sum(found: Sequence[Verdicts], name: str, told: bool) -> str:
    counted = Counter(verdicts[name, told].verdict for verdicts in found)
    return ", ".join(str(counted[verdict]) for verdict in Verdict)


def _group(found: Sequence[Verdicts], name: str) -> str:
    right = [sum(v[name, told].verdict is Verdict.RIGHT for v in found) for told in (False, True)]
    wrong = [sum(v[name, told].verdict is Verdict.WRONG for v in found) for told in (False, True)]
    return f"{right[0]} / {right[1]}" + (f" (wrong {wrong[0]} / {wrong[1]})" if any(wrong) else "")


def _shown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")


def main() -> int:
    parser = argparse.ArgumentParser(description="What ingest and its peers make of files of dirt.")
    parser.add_argument("--into", type=Path, help="a Markdown file whose measured section is replaced")
    parser.add_argument("--only", help="files whose name has this in it")
    parser.add_argument("--group", help="files of groups that have this in their name")
    parser.add_argument("--reader", action="append", choices=NAMES, help="repeatable; default: all")
    parser.add_argument("--details", action="store_true", help="why, for each verdict but right")
    parser.add_argument("--keep", type=Path, help="an empty folder for the files, which stay there")
    asked = parser.parse_args()
    names = tuple(asked.reader or NAMES)
    listed = kinds(asked.only, asked.group)
    with scratch() as folder:
        found = measured(listed, asked.keep or folder, names)
    if asked.details:
        for kind, verdicts in zip(listed, found, strict=True):
            for (name, told), judged in verdicts.items():
                if judged.verdict is not Verdict.RIGHT:
                    note(f"{judged.verdict}: {name}{' told' if told else ''}: {kind!r}: {judged.why[:300]}")
    text = "\n".join(page(listed, found, names)) + "\n"
    if asked.into is None:
        print(text)
    else:
        whole = asked.into.read_text(encoding="utf-8")
        before, _, rest = whole.partition(BEGIN)
        _, _, after = rest.partition(END)
        asked.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    ours_wrong = sum(judged.verdict is Verdict.WRONG for v in found for (name, _), judged in v.items() if name == OURS)
    return 1 if ours_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
