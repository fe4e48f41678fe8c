"""Files of dirt, first half: how a file is written and packed. Dialects, quotes, line ends, encodings, containers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Iterator

import pyarrow as pa
from kinds import BASE, MANY, PEOPLE, PLAIN, Hints, Kind, many, table, text


def delimiters() -> Iterator[Kind]:
    """What separates fields."""

    def kind(name: str, data: str, hints: Hints, rows: object = BASE, columns: tuple[str, ...] = PEOPLE) -> Kind:
        wanted = table(rows)  # type: ignore[arg-type]
        return Kind(name=name, group="delimiter", data=data.encode(), columns=columns, rows=wanted, hints=hints)

    for name, delimiter in (
        ("comma", ","),
        ("semicolon", ";"),
        ("tab", "\t"),
        ("bar", "|"),
        ("colon", ":"),
        ("caret", "^"),
        ("tilde", "~"),
        ("control A", "\x01"),
        ("unit separator", "\x1f"),
        ("two bars", "||"),
        ("two colons", "::"),
    ):
        yield kind(name, text(BASE, delimiter=delimiter), Hints(delimiter=delimiter))
    yield kind("space, texts quoted", text(PLAIN, delimiter=" ", every=True), Hints(delimiter=" "), PLAIN)
    amounts = [(str(i), f"{i},{i:02d}", f"{i * 7},5") for i in range(1, 9)]
    columns = ("id", "price", "weight")
    data = text(amounts, columns=columns, delimiter=";")
    yield kind("semicolon, decimal commas", data, Hints(delimiter=";"), amounts, columns)
    data = "sep=;\n" + text(BASE, delimiter=";")
    yield kind("a line sep=;", data, Hints(delimiter=";", skip_rows=1))
    spread = [(str(i), "", "", f"n{i}" if i % 2 else "") for i in range(1, 9)]
    yield kind("tab, mostly empty", text(spread, delimiter="\t"), Hints(delimiter="\t"), spread)
    listed = [(str(i), f"{i}; {i + 1}; {i + 2}; {i + 3}", "x") for i in range(1, 9)]
    columns = ("id", "list", "mark")
    yield kind("comma, more semicolons", text(listed, columns=columns), Hints(delimiter=","), listed, columns)
    single = [(f"value {i}",) for i in range(1, 9)]
    yield kind("one column", text(single, columns=("name",)), Hints(delimiter=","), single, ("name",))
    blank = "id, name, city\n1, Ada, London\n2, Carl, Leipzig\n3, Emmy, Erlangen\n"
    rows = [("1", "Ada", "London"), ("2", "Carl", "Leipzig"), ("3", "Emmy", "Erlangen")]
    kept = table([(a, " " + b, " " + c) for a, b, c in rows])
    yield Kind(
        name="comma and blank",
        group="delimiter",
        data=blank.encode(),
        columns=("id", "name", "city"),
        rows=table(rows),
        also=(kept,),
        hints=Hints(delimiter=",", blanks=True),
    )


def quotes() -> Iterator[Kind]:
    """What encloses fields, and what stands before a quote that belongs to a value."""

    def kind(
        name: str,
        data: str,
        rows: object,
        columns: tuple[str, ...] = PEOPLE,
        *,
        aside: int = 0,
        hints: Hints | None = None,
    ) -> Kind:
        return Kind(
            name=name,
            group="quote",
            data=data.encode(),
            columns=columns,
            rows=table(rows),  # type: ignore[arg-type]
            aside=aside,
            hints=hints or Hints(),
        )

    yield kind("every field quoted", text(BASE, every=True), BASE)
    yield kind("single quotes", text(BASE, quote="'", every=True), BASE, hints=Hints(quote="'"))
    where = [(str(i), f"it's {i}, here", "O'Hara") for i in range(1, 8)]
    columns = ("id", "where", "who")
    data = text(where, columns=columns, quote="'")
    yield kind("single quotes where needed", data, where, columns, hints=Hints(quote="'"))
    yield kind("apostrophes in text", text(where, columns=columns), where, columns)
    slashed = text(BASE, escape="\\", every=True)
    yield kind("backslash before a quote", slashed, BASE, hints=Hints(escape="\\"))
    escaped = [(str(i), f"a,{i}", "b" if i % 2 else 'c"d') for i in range(1, 9)]
    columns = ("id", "pair", "mark")
    data = text(escaped, columns=columns, quote="", escape="\\")
    yield kind("backslash before a delimiter", data, escaped, columns, hints=Hints(quote="", escape="\\"))
    paths = [(str(i), f"C:\\in\\{i}, new\\", "x") for i in range(1, 9)]
    columns = ("id", "path", "mark")
    yield kind("backslash before the closing quote", text(paths, columns=columns), paths, columns)
    inches = [(str(i), f'{i}" pipe', 'say "yes"') for i in range(1, 9)]
    columns = ("id", "what", "note")
    data = text(inches, columns=columns, quote="")
    yield kind("quotes inside unquoted fields", data, inches, columns, hints=Hints(quote=""))
    starts = [(str(i), f'"{i}', "x") for i in range(1, 9)]
    data = text(starts, columns=columns, delimiter="\t", quote="")
    hints = Hints(delimiter="\t", quote="")
    yield kind("a quote begins each value, none closes", data, starts, columns, hints=hints)
    lines = [(str(i), f"line one\nline {i},\n\nend", "x") for i in range(1, 9)]
    columns = ("id", "text", "mark")
    yield kind("line ends inside quotes", text(lines, columns=columns), lines, columns)
    yield kind(
        "header with a line end",
        text(where, columns=("id", "where\nexactly", "who")),
        where,
        ("id", "where\nexactly", "who"),
    )
    late = many()
    late[MANY - 10] = (str(MANY - 9), "two\nlines, here", "city", 'the "end"')
    yield kind("first quotes after 39,990 records", text(late), late)
    empty = [("1", "", "x"), ("2", "", ""), ("3", "y", ""), ("4", "z", "z")]
    data = 'id,a,b\n1,"",x\n2,"",""\n3,y,""\n4,z,z\n'
    yield kind("quoted and empty", data, empty, ("id", "a", "b"))
    data = "id,name,city\n" + "".join(f'{i}, "name, {i}", "x"\n' for i in range(1, 9))
    rows = [(str(i), f"name, {i}", "x") for i in range(1, 9)]
    yield kind("a blank before each quote", data, rows, ("id", "name", "city"), hints=Hints(blanks=True))
    good = BASE[:2] + BASE[3:]
    for name, bad in (
        ("text after a closing quote", '3,"Carl" Friedrich,Leipzig,third'),
        ("quote never closed, in the middle", '3,"Carl,Leipzig,third'),
        ("a stray quote after a quoted field", '3,"Carl"",Leipzig,third'),
    ):
        lines_ = text(BASE).splitlines(keepends=True)
        lines_[3] = bad + "\n"
        yield kind(name, "".join(lines_), good, aside=1, hints=Hints(aside=True))
    data = text(BASE)[: -len("end\n")] + '"six'
    yield kind("quote never closed, at the end", data, BASE[:-1], aside=1, hints=Hints(aside=True))
    late = [(number, name, f"{city}, there", note) for number, name, city, note in many()]
    lines_ = text(late).splitlines(keepends=True)
    lines_[MANY - 10] = f'{MANY - 10},"name,city,n\n'
    data = "".join(lines_)
    rest = tuple(late[: MANY - 11] + late[MANY - 10 :])
    yield kind("quote never closed, after 39,989 records", data, rest, aside=1, hints=Hints(aside=True))


def line_ends() -> Iterator[Kind]:
    """What ends a record."""

    def kind(name: str, data: str | bytes, rows: object = PLAIN, columns: tuple[str, ...] = PEOPLE) -> Kind:
        hints = Hints(mixed="mixed" in name or "from record" in name)
        return Kind(
            hints=hints,
            name=name,
            group="line end",
            data=data.encode() if isinstance(data, str) else data,
            columns=columns,
            rows=table(rows),  # type: ignore[arg-type]
        )

    plain = text(PLAIN)
    yield kind("CRLF", text(PLAIN, end="\r\n"))
    yield kind("CR", text(PLAIN, end="\r"))
    lines = plain.splitlines()
    yield kind("LF and CRLF mixed", "".join(line + ("\n", "\r\n")[i % 2] for i, line in enumerate(lines)))
    yield kind("LF, CRLF and CR mixed", "".join(line + ("\n", "\r\n", "\r")[i % 3] for i, line in enumerate(lines)))
    yield kind("none after the last record", plain.rstrip("\n"))
    yield kind("CRLF, and two at the end", text(PLAIN, end="\r\n") + "\r\n\r\n")
    notes = [(str(i), f"one\ntwo {i}", "x") for i in range(1, 8)]
    columns = ("id", "text", "mark")
    yield kind("CRLF, LF inside quotes", text(notes, columns=columns, end="\r\n"), notes, columns)
    notes = [(str(i), f"one\r\ntwo {i}", "x") for i in range(1, 8)]
    yield kind("LF, CRLF inside quotes", text(notes, columns=columns), notes, columns)
    odd = [(str(i), f"a\x0bb\x0c{i}\x1cd\x85e\u2028f", "x") for i in range(1, 8)]
    yield kind("other line separators in values", text(odd, columns=columns), odd, columns)
    late = many()
    data = text(late[:-5]) + text(late[-5:], columns=None, end="\r\n")
    yield kind("CRLF from record 39,996 on", data, late)
    yield kind("blank lines before, between and after", "\n\n" + plain.replace("\n", "\n\n", 3) + "\n\n")


def encodings() -> Iterator[Kind]:
    """How characters are written."""
    rows = (("1", "Zoë", "Genève", "naïve"), ("2", "Jürgen", "Köln", "groß"), ("3", "Łukasz", "Łódź", "żółw"))
    west = (
        ("1", "Zoë", "Genève", "naïve"),
        ("2", "Jürgen", "Köln", "groß"),
        ("3", "Siân", "Saint-Étienne", "5 € – “ok”"),
    )

    def kind(name: str, data: bytes, wanted: object, hints: Hints | None = None, **more: int) -> Kind:
        return Kind(
            name=name,
            group="encoding",
            data=data,
            columns=PEOPLE,
            rows=table(wanted),  # type: ignore[arg-type]
            hints=hints or Hints(),
            **more,  # type: ignore[arg-type]
        )

    plain = text(rows)
    yield kind("UTF-8", plain.encode(), rows)
    yield kind("UTF-8 with a mark", plain.encode("utf-8-sig"), rows)
    yield kind("UTF-8 with a mark, first name quoted", b"\xef\xbb\xbf" + text(rows, every=True).encode(), rows)
    yield kind(
        "UTF-16, little end first, mark", b"\xff\xfe" + plain.encode("utf-16-le"), rows, Hints(encoding="utf-16")
    )
    yield kind("UTF-16, big end first, mark", b"\xfe\xff" + plain.encode("utf-16-be"), rows, Hints(encoding="utf-16"))
    yield kind("UTF-16, no mark", plain.encode("utf-16-le"), rows, Hints(encoding="utf-16-le"))
    data = text(rows, end="\r\n", delimiter="\t").encode("utf-16-le")
    yield kind("UTF-16, tabs, as a spreadsheet", b"\xff\xfe" + data, rows, Hints(encoding="utf-16", delimiter="\t"))
    yield kind("UTF-32, mark", b"\xff\xfe\0\0" + plain.encode("utf-32-le"), rows, Hints(encoding="utf-32"))
    western = text(west)
    yield kind("cp1252", western.encode("cp1252"), west, Hints(encoding="cp1252"))
    yield kind("latin-1", text(west[:2]).encode("latin-1"), west[:2], Hints(encoding="latin-1"))
    yield kind("cp1250", plain.encode("cp1250", "replace"), _as(rows, "cp1250"), Hints(encoding="cp1250"))
    cyrillic = (("1", "Анна", "Москва", "первая запись"), ("2", "Борис", "Казань", "вторая запись"))
    yield kind("cp1251", text(cyrillic).encode("cp1251"), cyrillic, Hints(encoding="cp1251"))
    japanese = (("1", "山田太郎", "東京都", "ソース能力"), ("2", "鈴木花子", "大阪市", "表示する"))
    yield kind("Shift JIS", text(japanese).encode("shift_jis"), japanese, Hints(encoding="shift_jis"))
    chinese = (("1", "张伟", "北京市", "第一条记录"), ("2", "王芳", "上海市", "第二条记录"))
    yield kind("GB18030", text(chinese).encode("gb18030"), chinese, Hints(encoding="gb18030"))
    late = many()
    late[-3] = (str(MANY - 2), "Zoë", "Genève", "5 €")
    yield kind("cp1252 from record 39,998 on", text(late).encode("cp1252"), late, Hints(encoding="cp1252"))
    lines = text(BASE).encode().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"Erlangen", b"Erl\xffangen")
    good = BASE[:3] + BASE[4:]
    yield kind("one byte that is not UTF-8", b"".join(lines), good, Hints(encoding="utf-8", aside=True), aside=1)
    marked = (("1", "\ufeffAda", "London", "first"), ("2", "Carl", "Leipzig", "\ufeff"), *PLAIN[2:])
    yield kind("marks inside values", text(marked).encode(), marked)


def _as(rows: tuple[tuple[str, ...], ...], encoding: str) -> list[tuple[str, ...]]:
    """What is left of the values in an encoding that has not all their characters."""
    return [tuple(value.encode(encoding, "replace").decode(encoding) for value in row) for row in rows]


def containers() -> Iterator[Kind]:
    """What a file is packed in."""
    plain = text(BASE).encode()
    long = text(many(3000)).encode()

    def kind(name: str, data: bytes, suffix: str, rows: object = BASE, *, refuse: bool = False) -> Kind:
        return Kind(
            name=name,
            group="container",
            data=data,
            suffix=suffix,
            columns=PEOPLE,
            rows=table(rows),  # type: ignore[arg-type]
            refuse=refuse,
        )

    yield kind("gzip", gzip.compress(plain), ".csv.gz")
    half = plain.index(b"4,Emmy")
    yield kind("gzip, two members", gzip.compress(plain[:half]) + gzip.compress(plain[half:]), ".csv.gz")
    yield kind("gzip, cut off", gzip.compress(long)[:-400], ".csv.gz", refuse=True)
    packed = bytearray(gzip.compress(long))
    packed[-6] ^= 0xFF
    yield kind("gzip, wrong checksum", bytes(packed), ".csv.gz", refuse=True)
    yield kind("gzip, something else behind it", gzip.compress(plain) + b"<html>oops", ".csv.gz", refuse=True)
    yield kind("gzip, called .csv", gzip.compress(plain), ".csv")
    yield kind("plain, called .csv.gz", plain, ".csv.gz")
    yield kind("bzip2", bz2.compress(plain), ".csv.bz2")
    yield kind("xz", lzma.compress(plain), ".csv.xz")
    yield kind("xz, cut off", lzma.compress(long)[:-400], ".csv.xz", refuse=True)
    yield kind("zstd", _zstd(plain), ".csv.zst")
    yield kind("zstd, cut off", _zstd(long)[:-400], ".csv.zst", refuse=True)
    yield kind("zip, one file", _zipped({"people.csv": plain}), ".zip")
    broken = bytearray(_zipped({"people.csv": long}))
    broken[2000] ^= 0xFF
    yield kind("zip, damaged", bytes(broken), ".zip", refuse=True)


def _zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


def _zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()
