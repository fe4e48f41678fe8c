"""Files of dirt, second half: where the table is in a file, its records, and values that types destroy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kinds import MANY, PEOPLE, PLAIN, Hints, Kind, Row, many, table, text

Rows = Sequence[Sequence[str | None]]


def frames() -> Iterator[Kind]:
    """What stands before, between and after the records."""

    def kind(
        name: str,
        data: str | bytes,
        hints: Hints | None = None,
        rows: Rows = PLAIN,
        columns: tuple[str, ...] | None = PEOPLE,
        *,
        aside: int = 0,
        also: tuple[Rows, ...] = (),
        untold: tuple[Rows, ...] = (),
        refuse: bool = False,
        either: bool = False,
    ) -> Kind:
        return Kind(
            name=name,
            group="frame",
            data=data.encode() if isinstance(data, str) else data,
            columns=columns,
            rows=table(rows),
            aside=aside,
            also=tuple(table(other) for other in also),
            untold=tuple(table(other) for other in untold),
            refuse=refuse,
            either=either,
            hints=hints or Hints(),
        )

    plain = text(PLAIN)
    numbers = [(str(i), f"{i * 3}.5", str(100 - i)) for i in range(1, 9)]
    yield kind("no header, numbers", text(numbers, columns=None), Hints(header=0), numbers, None)
    yield kind("no header, texts and numbers", text(PLAIN, columns=None), Hints(header=0), PLAIN, None)
    words = [(name, city, note) for _, name, city, note in PLAIN]
    data = text(words, columns=None)
    yield kind("no header, only texts", data, Hints(header=0), words, None, untold=(words[1:],))
    yield kind(
        "header of texts, values of texts",
        text(words, columns=("name", "city", "note")),
        None,
        words,
        ("name", "city", "note"),
    )
    years = [("A", "1", "2"), ("B", "3", "4"), ("C", "5", "6")]
    columns = ("land", "2023", "2024")
    yield kind("header with years", text(years, columns=columns), Hints(header=1), years, columns)
    yield kind("a title before the header", "Members of the club\n" + plain, Hints(skip_rows=1))
    title = "Members of the club\nas of 2024-05-01\n\n"
    yield kind("two titles and a blank line before the header", title + plain, Hints(skip_rows=3))
    facts = "Club:,Members\nDate:,2024-05-01\nBy:,Ada\n"
    yield kind("facts in two columns before the header", facts + plain, Hints(skip_rows=3))
    facts = "Club,Members,,\nDate,2024-05-01,,\n,,,\n"
    yield kind("facts filled up with commas before the header", facts + plain, Hints(skip_rows=3))
    yield kind("comments before the header", "# made by a tool\n# 2024, all rights\n" + plain, Hints(comment="#"))
    lines = plain.splitlines(keepends=True)
    between = "".join([*lines[:3], "# checked, up to here\n", *lines[3:], "# end\n"])
    yield kind("comments between the records", between, Hints(comment="#"))
    tags = [(str(i), f"#{i:06x}", "x") for i in range(1, 9)]
    columns = ("id", "colour", "mark")
    yield kind("a mark of comments in values", text(tags, columns=columns), None, tags, columns)
    tagged = [(f"#{i}", f"Ada {i}", "x") for i in range(1, 9)]
    yield kind(
        "a mark of comments begins each record",
        text(tagged, columns=("tag", "name", "mark")),
        None,
        tagged,
        ("tag", "name", "mark"),
    )
    two = [(str(i), str(i * 2), str(i * 3)) for i in range(1, 9)]
    data = ",first half,second half\nid,sum,sum\n" + text(two, columns=None)
    kept = [("id", "sum", "sum"), *two]
    yield kind("a header of two rows", data, Hints(header=2), two, None, untold=(kept,))
    units = "id,length,mass\n,m,kg\n" + text(two, columns=None)
    kept = [("", "m", "kg"), *two]
    yield kind("a row of units below the header", units, Hints(header=2), two, None, untold=(kept,))
    again = "".join([*lines[:4], lines[0], *lines[4:]])
    yield kind("the header again between the records", again)
    ruler = lines[0] + "--,----,----,----\n" + "".join(lines[1:])
    kept = [("--", "----", "----", "----"), *PLAIN]
    yield kind("a ruler below the header", ruler, None, PLAIN, also=(kept,))
    total = [*PLAIN, ("Total", "", "", "6")]
    yield kind("a total as the last record", plain + "Total,,,6\n", Hints(footer=1), also=(total,))
    yield kind("a count behind the records", plain + "(6 rows)\n", Hints(footer=1, aside=True), aside=1)
    foot = plain + "\nSource: the club's own list, 2024\n"
    yield kind("a blank line and a source behind the records", foot, Hints(footer=1, aside=True), aside=1)
    second = plain + "\ncity,people,area\nLondon,8,1\nParis,2,3\n"
    yield kind("a second table below", second, Hints(aside=True), aside=3)
    beside = plain + "\ncode,city,land,x\nL,London,UK,1\nP,Paris,F,2\n"
    kept = [*PLAIN, ("code", "city", "land", "x"), ("L", "London", "UK", "1"), ("P", "Paris", "F", "2")]
    yield kind("a second table of the same width below", beside, None, either=True, also=(kept,))
    yield kind("only a header", "id,name,city,note\n", None, (), None)
    yield kind("only a header, no line end", "id,name,city,note", None, (), None)
    yield kind("no bytes at all", "", None, (), None, refuse=False, either=True)
    yield kind("only blank lines", "\n\n\r\n\n", None, (), None, either=True)
    yield kind("one record", text(PLAIN[:1]), None, PLAIN[:1])
    yield kind("names twice", text(PLAIN, columns=("id", "name", "name", "note")), None, PLAIN, None)
    yield kind("names that differ in case only", text(PLAIN, columns=("id", "Name", "name", "note")), None, PLAIN, None)
    yield kind("empty names", text(PLAIN, columns=("id", "", "", "note")), None, PLAIN, None)
    ended = plain.replace("\n", ",\n")
    longer = [(*row, "") for row in PLAIN]
    yield kind("a comma ends every line", ended, None, longer, None, also=(PLAIN,))
    row_names = "name,city,note\n" + text(PLAIN, columns=None)
    yield kind("row names without a name of their own", row_names, None, PLAIN, None, either=True)
    yield kind(
        "a page of HTML",
        "<!DOCTYPE html>\n<html><body>\n<p>Not found, sorry</p>\n</body></html>\n",
        None,
        (),
        refuse=True,
    )
    yield kind(
        "a picture",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x06" + b"\0\x01\xfe,\n\x7f" * 60,
        None,
        (),
        refuse=True,
    )


def records() -> Iterator[Kind]:
    """Records that are not as the header wants them."""

    def kind(
        name: str,
        lines: Sequence[str] | str,
        rows: Rows = PLAIN,
        hints: Hints | None = None,
        columns: tuple[str, ...] | None = PEOPLE,
        *,
        aside: int = 0,
        also: tuple[Rows, ...] = (),
    ) -> Kind:
        return Kind(
            name=name,
            group="record",
            data="".join(lines).encode(),
            columns=columns,
            rows=table(rows),
            aside=aside,
            also=tuple(table(other) for other in also),
            hints=hints or Hints(),
        )

    def changed(number: int, line: str, of: Sequence[Sequence[str]] = PLAIN) -> list[str]:
        lines = text(of).splitlines(keepends=True)
        lines[number] = line + "\n"
        return lines

    aside, pad = Hints(aside=True), Hints(pad=True)
    without = PLAIN[:2] + PLAIN[3:]
    short: list[Row] = [*PLAIN[:2], ("3", "Carl", None, None), *PLAIN[3:]]
    yield kind("a short record, to be set aside", changed(3, "3,Carl"), without, aside, aside=1)
    yield kind("a short record, to be filled", changed(3, "3,Carl"), short, pad)
    yield kind("a long record", changed(3, "3,Carl,Leipzig,third,more,and more"), without, aside, aside=1)
    yield kind("a long record whose rest is empty", changed(3, "3,Carl,Leipzig,third,,"), PLAIN)
    lines = [line.replace("\n", ",\n") if i else line for i, line in enumerate(text(PLAIN).splitlines(keepends=True))]
    yield kind("a comma ends every record, not the header", lines, PLAIN)
    yield kind("a comma that was not quoted", changed(3, "3,Carl,Leipzig, Saxony,third"), without, aside, aside=1)
    yield kind("a record with another delimiter", changed(3, "3;Carl;Leipzig;third"), without, aside, aside=1)
    broken = changed(3, "3,Carl,Leipzig\nin Saxony,third")
    yield kind("a line end that was not quoted", broken, without, aside, aside=2)
    base = many()
    rest = base[: MANY - 6] + base[MANY - 5 :]
    lines = changed(MANY - 5, f"{MANY - 5},a,b,c,d", base)
    yield kind("a long record after 39,994 others", lines, rest, aside, aside=1)
    yield kind("a short record after 39,994 others", changed(MANY - 5, f"{MANY - 5},a", base), rest, aside, aside=1)
    first = changed(1, "1,Ada,London,first,more,and more,of it")
    yield kind("the first record is longer than the rest", first, PLAIN[1:], aside, aside=1)
    half = [(*row, "a", "b") for row in PLAIN[3:]]
    mixed = [*text(PLAIN[:3]).splitlines(keepends=True), *text(half, columns=None).splitlines(keepends=True)]
    yield kind("half of the records are longer", mixed, PLAIN[:3], aside, aside=3)
    empty = [*PLAIN[:2], (None,) * 4, *PLAIN[2:]]
    lines = text(PLAIN).splitlines(keepends=True)
    yield kind("a record of empty fields", [*lines[:3], ",,,\n", *lines[3:]], empty, also=(PLAIN,))
    at_end = [*lines, ",,,\n", ",,,\n"]
    yield kind("records of empty fields at the end", at_end, [*PLAIN, (None,) * 4, (None,) * 4], also=(PLAIN,))
    yield kind("a line of blanks", [*lines[:3], "   \n", *lines[3:]], PLAIN, aside)
    blank = [("a",), ("",), ("b",), ("c",)]
    yield kind("one column, a quoted empty value", 'name\na\n""\nb\nc\n', blank, None, ("name",))
    big = [*PLAIN[:2], ("3", "Carl", "Leipzig", "x" * 200_000), *PLAIN[3:]]
    yield kind("a field of 200 KB", text(big), big, Hints(big=True))
    big = [*PLAIN[:2], ("3", "Carl", "Leipzig", 'y, "' * 750_000), *PLAIN[3:]]
    yield kind("a field of 3 MB, quoted", text(big), big, Hints(big=True))
    wide = [tuple(f"{i}-{j}" for j in range(1500)) for i in range(3)]
    names = tuple(f"c{j}" for j in range(1500))
    yield kind("1,500 columns", text(wide, columns=names), wide, None, names)
    yield kind("a NUL byte in a value", changed(3, "3,Ca\0rl,Leipzig,third"), without, aside, aside=1, also=(_nul(),))
    yield kind("NUL bytes behind the last record", text(PLAIN) + "\0" * 512, PLAIN, aside, aside=1)
    yield kind("control Z behind the last record", text(PLAIN) + "\x1a", PLAIN, aside, aside=1)
    spaced = [(f" {a}", f"{b} ", f"  {c}  ", d) for a, b, c, d in PLAIN]
    yield kind("blanks around values", text(spaced), spaced)
    tab = [*PLAIN[:2], ("3", "Ca\trl", "Leip\tzig", "third"), *PLAIN[3:]]
    yield kind("tabs in values", text(tab), tab)
    braces = [(str(i), f'{{"a": [{i}, 2], "b": "x"}}', "j") for i in range(1, 9)]
    columns = ("id", "json", "mark")
    yield kind("JSON in values", text(braces, columns=columns), braces, None, columns)
    formula = [(str(i), f"=SUM(A{i},B{i})", "+1") for i in range(1, 9)]
    yield kind("formulas in values", text(formula, columns=columns), formula, None, columns)


def _nul() -> Rows:
    return (*PLAIN[:2], ("3", "Ca\0rl", "Leipzig", "third"), *PLAIN[3:])


def values() -> Iterator[Kind]:
    """Values that become others, or nothing, when a reader takes them for numbers, dates or a missing value."""

    def kind(name: str, column: Sequence[str]) -> Kind:
        rows = [(f"k{i}", value) for i, value in enumerate(column)]
        return Kind(
            name=name,
            group="value",
            data=text(rows, columns=("key", "value")).encode(),
            columns=("key", "value"),
            rows=table(rows),
        )

    yield kind("leading zeros", ["007", "010", "123"])
    yield kind("leading zeros, the first after 39,999 records", [*map(str, range(10, MANY)), "007"])
    yield kind("plus signs", ["+4930123", "+4940456", "+1555"])
    yield kind("exponents", ["1e5", "12E3", "7e0", "3E2"])
    yield kind("words for nothing", ["NA", "null", "None", "nan", "N/A", "NULL", "-", "x"])
    yield kind("a country called NA", ["DE", "FR", "NA", "US"])
    yield kind("numbers and NA", ["1", "2", "NA", "4"])
    yield kind("integers and nothing", ["9007199254740993", "", "9007199254740995"])
    yield kind("integers of 19 digits", ["9223372036854775807", "9223372036854775808", "1234567890123456789"])
    yield kind("integers of 25 digits", ["1234567890123456789012345", "2234567890123456789012345"])
    yield kind("decimals with trailing zeros", ["1.9", "1.10", "1.100"])
    yield kind("decimals of two digits", ["1.50", "20.25", "3.00"])
    yield kind("decimals of 20 digits", ["0.12345678901234567891", "3.14159265358979323846"])
    yield kind("integers and decimals", ["1", "1.0", "2.50", "3"])
    yield kind("a decimal after 39,999 integers", [*map(str, range(1, MANY)), "2.5"])
    yield kind("a word after 39,999 integers", [*map(str, range(1, MANY)), "none yet"])
    yield kind("thousands", ["1,234", "12,345,678", "1,000,000"])
    yield kind("thousands, some without", ["1,234", "999", "1000"])
    yield kind("decimal commas", ["1,5", "20,25", "3,125"])
    yield kind("currency", ["$1,200.00", "$15.50", "$0.99"])
    yield kind("percent", ["5%", "10.5%", "100%"])
    yield kind("minus zero", ["-0", "0", "-0.0"])
    yield kind("hexadecimal", ["0x1F", "0x20", "0xFF"])
    yield kind("underscores", ["1_000", "2_000", "10"])
    yield kind("infinity", ["inf", "-inf", "Infinity", "1.5"])
    yield kind("booleans of two spellings", ["true", "FALSE", "True", "no"])
    yield kind("booleans", ["true", "false", "true"])
    yield kind("Y and N", ["Y", "N", "Y", "Y"])
    yield kind("ISO dates", ["2024-01-31", "2024-02-29", "1999-12-31"])
    yield kind("dates d/m/Y", ["31/01/2024", "28/02/2024", "01/12/2024"])
    yield kind("dates m/d/Y", ["01/31/2024", "02/28/2024", "12/01/2024"])
    yield kind("dates of two orders", ["31/01/2024", "02/28/2024", "05/06/2024"])
    yield kind(
        "dates d/m/Y, shown after 39,999 others",
        [*(f"0{i % 9 + 1}/0{i % 7 + 1}/2024" for i in range(MANY)), "31/01/2024"],
    )
    yield kind("dates of two lengths", ["2024-1-5", "2024-01-05", "2024-11-30"])
    yield kind("dates that are none", ["2024-02-30", "2024-13-01", "2024-01-01"])
    yield kind("timestamps", ["2024-01-31 09:30:00", "2024-02-29 23:59:59", "2024-01-01 00:00:00"])
    yield kind("timestamps with a T", ["2024-01-31T09:30", "2024-02-29T23:59", "2024-01-01T00:00"])
    yield kind("timestamps with a zone", ["2024-01-31T09:30:00Z", "2024-02-29T23:59:59Z"])
    yield kind("timestamps with two zones", ["2024-01-31T09:30:00+01:00", "2024-07-31T09:30:00+02:00"])
    yield kind("timestamps of nine digits", ["2024-01-31T09:30:00.123456789", "2024-01-31T09:30:01.000000001"])
    yield kind("times", ["09:30", "23:59", "00:00"])
    yield kind("times beyond a day", ["25:10:00", "09:30:00", "48:00:00"])
    yield kind("UUIDs of two cases", ["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174001"])
    yield kind("blanks around numbers", [" 1", "2 ", " 3 "])
    yield kind("one number with a comma after 39,999 integers", [*map(str, range(1, MANY)), "1,234"])
    yield kind("numbers in quotes of their own", ['"1"', "2", "3"])
