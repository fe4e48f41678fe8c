"""Independent vectors: inputs and expected outputs that others wrote, taken from where they are published.

None is copied into this project. csv-spectrum (BSD 2-Clause) and Papa Parse (MIT) are fetched with `npm pack`,
CPython's cases are those of the running interpreter's own `test.test_csv`. Where one cannot be had, it is left out and
said so.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import unittest
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common import DATA, note
from kinds import Hints, Kind, Row

SPECTRUM = "csv-spectrum@2.0.0"
PAPA = "papaparse@5.7.1"


def vectors() -> Iterator[Kind]:
    """All that can be had here."""
    for name, some in (("csv-spectrum", spectrum), ("CPython's test_csv", cpython), ("Papa Parse", papa)):
        try:
            found = list(some())
        except (OSError, subprocess.SubprocessError, ImportError) as error:
            note(f"left out: {name} ({type(error).__name__})")
        else:
            note(f"{name}: {len(found)} vectors")
            yield from found


# csv-spectrum: a file, and its records as JSON -------------------------------------------------------------------


def spectrum() -> Iterator[Kind]:
    """The files of csv-spectrum: each has a header, and its records stand beside it as JSON objects."""
    folder = _package(SPECTRUM)
    for path in sorted((folder / "csvs").glob("*.csv")):
        listed = json.loads((folder / "json" / f"{path.stem}.json").read_text(encoding="utf-8"))
        if isinstance(listed, dict):
            continue  # location_coordinates: the telephone number of its JSON is not the one of its file
        data = path.read_bytes()
        columns = tuple(listed[0])
        rows = tuple(tuple(record.values()) for record in listed)
        yield Kind(name=path.stem, group="csv-spectrum", data=data, columns=columns, rows=rows)


def _package(name: str) -> Path:
    """An npm package, unpacked; fetched once."""
    folder = DATA / "vectors" / name.replace("@", "-")
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("npm is not here")
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [npm, "pack", "--silent", name], cwd=folder.parent, check=True, capture_output=True, text=True, timeout=120
        )
        with tarfile.open(folder.parent / made.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


# CPython: what its tests say of csv.reader ------------------------------------------------------------------------


def cpython() -> Iterator[Kind]:
    """The cases of CPython's test_csv that read: each below a header line, for a table has one.

    Left out are cases that no text of a file can be (a list with wrong types, options of quoting by type), records of
    several widths, and options that no hint can say.
    """
    heard: list[tuple[str, list[str], list[list[Any]], dict[str, Any]]] = []
    tests = importlib.import_module("test.test_csv")
    for name in dir(tests):
        case = getattr(tests, name)
        if isinstance(case, type) and issubclass(case, unittest.TestCase):
            _listen(case, heard)
    taken: set[tuple[str, str]] = set()
    for name, lines, expected, options in heard:
        kind = _case(name, lines, expected, options)
        if kind is not None and (key := (kind.data.decode(), repr(kind.hints))) not in taken:
            taken.add(key)
            yield kind


def _listen(case: type[unittest.TestCase], heard: list[tuple[str, list[str], list[list[Any]], dict[str, Any]]]) -> None:
    """Run the tests of a case that read, and write down what they ask of the reader and what they expect."""

    def reads(self: Any, lines: Any, expected: Any, **options: Any) -> None:
        if isinstance(expected, list) and expected:
            heard.append((self.id().rpartition(".")[2], lines, expected, options))
            return
        raise csv.Error("a case of an error: its test wants one")

    def reads_dialect(self: Any, text: Any, expected: Any) -> None:
        if isinstance(expected, list) and expected:
            dialect = csv.get_dialect(self.dialect) if isinstance(self.dialect, str) else self.dialect
            options = {
                name: getattr(dialect, name)
                for name in ("delimiter", "quotechar", "escapechar", "doublequote", "quoting", "skipinitialspace")
            }
            heard.append((self.id().rpartition(".")[2], text, expected, options))

    for method, hook in (("_read_test", reads), ("readerAssertEqual", reads_dialect)):
        if hasattr(case, method):
            setattr(case, method, hook)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    with contextlib.redirect_stderr(io.StringIO()):
        for test in suite:
            if "read" in test.id().rpartition(".")[2] or hasattr(case, "readerAssertEqual"):
                test.run(unittest.TestResult())


def _case(name: str, lines: Sequence[str], expected: list[list[Any]], options: dict[str, Any]) -> Kind | None:
    if isinstance(lines, str):
        lines = [lines]
    if not all(isinstance(line, str) for line in lines) or "lineterminator" in options:
        return None
    widths = {len(record) for record in expected}
    if len(widths) != 1 or not all(isinstance(value, str) for record in expected for value in record):
        return None
    quoting = options.get("quoting", csv.QUOTE_MINIMAL)
    delimiter = options.get("delimiter", ",")
    if quoting not in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE) or delimiter in '\0"':
        return None
    if "\0" in (options.get("quotechar"), options.get("escapechar")):
        return None  # no shell can type it
    bare = quoting == csv.QUOTE_NONE or options.get("quotechar", '"') is None
    text = "".join(line if line.endswith(("\n", "\r")) else line + "\n" for line in lines)
    try:
        strict = list(csv.reader(io.StringIO(text, newline=""), **{**options, "strict": True}))
    except csv.Error:
        strict = []
    (width,) = widths
    header = delimiter.join(f"col{i}" for i in range(1, width + 1)) + "\n"
    hints = Hints(
        delimiter=delimiter,
        quote="" if bare else options.get("quotechar"),
        escape=options.get("escapechar"),
        blanks=bool(options.get("skipinitialspace")),
        header=1,
        aside=strict != expected or "\0" in text,
    )
    return Kind(
        name=f"{name}: {text!r}" if len(text) < 60 else name,
        group="CPython's test_csv",
        data=(header + text).encode(),
        columns=tuple(header.strip("\n").split(delimiter)),
        rows=tuple(tuple(record) for record in expected),
        # What Python itself refuses when it is strict, and a NUL byte, may be set aside.
        either=strict != expected or "\0" in text,
        also=_kept(text, options),
        untold=_read(text, {"strict": True}, width),
        hints=hints,
    )


def _kept(text: str, options: dict[str, Any]) -> tuple[tuple[Row, ...], ...]:
    """Readings that leave in a value what needs not be there: blanks, or an escape before what needs none."""
    found: tuple[tuple[Row, ...], ...] = ()
    if options.get("skipinitialspace"):
        found += _read(text, {**options, "skipinitialspace": False})
    escape = options.get("escapechar")
    if escape:
        marks = {escape, options.get("delimiter", ","), options.get("quotechar") or '"', "\n", "\r"}
        plain = "".join(f"[^{''.join(map(re.escape, marks))}]")
        found += _read(re.sub(f"{re.escape(escape)}(?={plain})", lambda _: escape * 2, text), options)
    return found


def _read(text: str, options: dict[str, Any], width: int | None = None) -> tuple[tuple[Row, ...], ...]:
    """The one table that Python's csv makes of a text; none if it makes none, or one of another width."""
    try:
        rows = tuple(tuple(record) for record in csv.reader(io.StringIO(text, newline=""), **options) if record)
    except csv.Error:
        return ()
    widths = {len(row) for row in rows}
    return (rows,) if len(widths) == 1 and (width is None or widths == {width}) else ()


# Papa Parse: cases of its core parser ------------------------------------------------------------------------------

SCRIPT = """
const chai = {assert: {}};
const describe = () => {}, it = () => {};
const source = require('fs').readFileSync(process.argv[1], 'utf8').replace(/require\\('chai'\\)/, '{assert: {}}')
  .replace(/require\\('..\\/papaparse.js'\\)/, '{}');
const cut = source.slice(0, source.indexOf('var PARSE_TESTS'));
const found = new Function('module', 'require', 'describe', 'it', cut + ';return CORE_PARSER_TESTS')(
  {exports: {}}, require, describe, it);
console.log(JSON.stringify(found.filter(t => !t.disabled).map(t => ({
  name: t.description, input: t.input, config: t.config || {}, data: t.expected.data,
  errors: (t.expected.errors || []).length}))));
"""


def papa() -> Iterator[Kind]:
    """The cases of Papa Parse's core parser, each below a header line, under the same rule as CPython's."""
    path = _package(PAPA) / "tests" / "test-cases.js"
    node = shutil.which("node")
    if node is None:
        raise OSError("node is not here")
    made = subprocess.run([node, "-e", SCRIPT, str(path)], check=True, capture_output=True, text=True, timeout=60)
    for case in json.loads(made.stdout):
        kind = _papa(case)
        if kind is not None:
            yield kind


def _papa(case: dict[str, Any]) -> Kind | None:
    config: dict[str, Any] = case["config"]
    known = {"delimiter", "quoteChar", "escapeChar", "comments", "newline"}
    # An empty line is a record with one empty field to Papa Parse; it is none to most.
    data = [record for record in case["data"] if record != [""]]
    text: Any = case["input"]
    if set(config) - known or not data or not isinstance(text, str):
        return None
    delimiter = config.get("delimiter", ",")
    comment = {True: "#", False: None}.get(config.get("comments"), config.get("comments"))  # type: ignore[arg-type]
    if not isinstance(delimiter, str) or delimiter in ("", '"') or not isinstance(comment, str | None):
        return None
    widths = {len(record) for record in data}
    if len(widths) != 1 or "\n" in delimiter:
        return None
    (width,) = widths
    end = "\r\n" if "\r\n" in text else ("\r" if "\r" in text and "\n" not in text else "\n")
    header = delimiter.join(f"col{i}" for i in range(1, width + 1)) + end
    quote, escape = config.get("quoteChar", '"'), config.get("escapeChar")
    malformed = bool(case["errors"]) or "\0" in text or _strictly(text, delimiter, quote, escape) != data
    return Kind(
        name=case["name"],
        group="Papa Parse",
        data=(header + text).encode(),
        columns=tuple(header.rstrip("\r\n").split(delimiter)),
        rows=tuple(tuple(record) for record in data),
        either=malformed,
        untold=_read(text, {"strict": True}, width),
        hints=Hints(
            delimiter=delimiter,
            quote=quote if quote != '"' else None,
            escape=escape if escape != quote else None,
            comment=comment,
            header=1,
            aside=malformed,
        ),
    )


def _strictly(text: str, delimiter: str, quote: str | None, escape: str | None) -> list[list[str]] | None:
    """What Python's csv, when it is strict, makes of a text; None if it cannot say."""
    options: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    if escape and escape != quote:
        options |= {"escapechar": escape, "doublequote": False}
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, **options))
    except (csv.Error, TypeError):
        return None
    return [record for record in records if record]


Source = Callable[[], Iterator[Kind]]
