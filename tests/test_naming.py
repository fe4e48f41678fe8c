"""What names promise: tables by a rule that fits in a sentence; columns that are unique, stable and never empty."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import SourceError, UsageError
from ingest.model import Reason, Source, TableName
from ingest.naming import OUR_TABLES, check_returned, column_names, match_columns, nearest, table_name


def source(path: str) -> Source:
    return Source(path=path, display=path, size=0, mtime_ns=0, ctime_ns=0, scanned_ns=0)


def table(path: str, template: str = "{name}") -> str:
    return table_name(source(f"/data/{path}"), template).name


# tables


@pytest.mark.parametrize(
    "name",
    [
        "orders.csv",
        "orders.CSV.GZ",
        "orders.tsv",
        "orders.txt",
        "orders",
        "orders_2024-01-01.csv",
        "orders-20240102.csv.gz",
        "orders_2024.csv",
        "orders_2024-01.csv",
        "orders.2024.01.csv",
        "orders 31.12.2024.csv",
        "orders_2024-01-01T10-30-00.csv",
        "orders_2024-01-01T10:30:00.123Z.csv",
        "orders_2024-01-01T10:30:00+01:00.csv",
        "orders_20240101T103000Z.csv",
        "orders_20240101_103000.csv",
        "orders_2024-01-01 10.30.csv",
        "orders_1704067200.csv",
        "orders.1.csv",
        "orders-00007.csv",
        "orders (2).csv",
        "orders_2024-01-01 (3).csv",
        "orders - 2024.csv",
        "orders__2024__01.csv",
        "20240103_orders.csv",
        "2024-01-03 orders.csv",
        "2024-01_orders.csv",
        "202401-orders.csv",
        "20240103_103000_orders.csv",
        "2024-01-03T10-30-00_orders_7.csv",
        "2024-01-03_2024-01-04_orders.csv",
        "2024-01-01/orders.csv",
    ],
)
def test_dates_and_numbers_around_a_file_name_do_not_make_tables(name: str) -> None:
    assert table(name) == "orders"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lineitem.1.csv", "lineitem"),
        ("dpc-covid19-ita-province-20201201.csv", "dpc-covid19-ita-province"),
        ("covid19.csv", "covid19"),
        ("covid19_2020.csv", "covid19"),
        ("top_500.csv", "top"),
        ("500_top.csv", "500_top"),
        ("2024_orders.csv", "2024_orders"),
        ("orders(1).csv", "orders(1)"),
        ("20249999_orders.csv", "20249999_orders"),
        ("20240103orders.csv", "20240103orders"),
        ("2010-2011_season.csv", "2010-2011_season"),
        ("orders_v2.csv", "orders_v2"),
        ("Order Lines.csv", "Order Lines"),
        ("a.b.csv", "a.b"),
        (" orders .csv", "orders"),
        ("日本_2024.csv", "日本"),
        ("orders_٣.csv", "orders_٣"),
        ('we"ird; drop.csv', 'we"ird; drop'),
    ],
)
def test_the_rest_of_a_file_name_is_kept_as_it_is(name: str, expected: str) -> None:
    assert table(name) == expected


@pytest.mark.parametrize(
    "name", ["2024-01-01.csv", "20240101.csv", "2024-01.csv", "2024.csv", "7.csv", "(1).csv", "_2024.csv", ".csv"]
)
def test_nothing_but_a_date_or_number_takes_the_folders_name(name: str) -> None:
    assert table(f"sales/{name}") == "sales"


def test_name_of_last_resort() -> None:
    assert table_name(source("/2024.csv")) == TableName(name="table")
    assert table_name(source("/x.csv"), "{dir}") == TableName(name="table")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{name}", TableName(name="a.b")),
        ("{stem}", TableName(name="a.b.2024-01-01")),
        ("{dir}", TableName(name="v1.sales")),
        ("{dir}_{name}", TableName(name="v1.sales_a.b")),
        ("raw_{stem}", TableName(name="raw_a.b.2024-01-01")),
        ("orders", TableName(name="orders")),
        ("sales.{name}", TableName(name="a.b", schema="sales")),
        ("{dir}.{name}", TableName(name="a.b", schema="v1.sales")),
        (" sales . orders ", TableName(name="orders", schema="sales")),
    ],
)
def test_only_a_typed_dot_separates_a_schema(template: str, expected: TableName) -> None:
    assert table_name(source("/data/v1.sales/a.b.2024-01-01.csv.gz"), template) == expected


@pytest.mark.parametrize("template", ["{nam}", "{}", "{name", "name}", "{{name}}", "{name!r}", "{name.x}", "{ name }"])
def test_unknown_braces_are_a_usage_error(template: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(template))) as caught:
        table("x.csv", template)
    assert "{stem}" in caught.value.hint


@pytest.mark.parametrize("template", ["", " ", ".", "a.", ".{name}", "a.b.c", "a..b"])
def test_template_without_a_table_is_a_usage_error(template: str) -> None:
    with pytest.raises(UsageError, match="is not a table's name"):
        table("x.csv", template)


@pytest.mark.parametrize("path", ["new\nline.csv", "caf\udce9.csv", "a\x1bb.csv", "new\nline/2024.csv"])
def test_names_that_no_database_takes_refuse_the_file_and_say_how_to_go_on(path: str) -> None:
    with pytest.raises(SourceError) as caught:
        table(path)
    assert caught.value.code == Reason.COLUMNS
    assert "--table" in caught.value.hint
    assert table(path, "orders") == "orders"


@pytest.mark.parametrize("name", [*sorted(OUR_TABLES), "Ingest_File", "sqlite_master", "SQLite_x"])
def test_data_is_never_loaded_into_the_ledger(name: str) -> None:
    for template in (name, f"main.{name}"):
        with pytest.raises(UsageError) as caught:
            table("a.csv", template)
        assert "--table" in caught.value.hint
    for template in ("{name}", "main.{stem}"):
        with pytest.raises(SourceError) as refused:
            table(f"{name}.csv", template)
        assert (refused.value.code, "--table" in refused.value.hint) == (Reason.COLUMNS, True)


def test_other_names_may_begin_like_the_ledgers() -> None:
    assert table("ingest_files.csv") == "ingest_files"
    assert table("ingest.csv") == "ingest"
    assert table("sqlite.csv") == "sqlite"


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=("C",), exclude_characters="/"), min_size=1, max_size=30))
def test_every_file_name_makes_a_table_that_is_not_empty(name: str) -> None:
    try:
        made = table(f"folder/{name}")
    except UsageError:
        assert name.casefold().startswith(("ingest_", "sqlite_"))
    else:
        assert made == made.strip() != ""
        assert made == "folder" or made in name


# columns


def test_header_is_kept_but_for_surrounding_blanks() -> None:
    names = ("id", "Order ID", "Straße", "価格", 'a"b', "a.b", "NA", "007", "select")
    assert column_names([f" \t{n}\u00a0" for n in names]) == names


def test_empty_names_are_called_by_their_position() -> None:
    assert column_names(["", "a", "  "]) == ("column_1", "a", "column_3")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["a", "a", "a"], ("a", "a_2", "a_3")),
        (["a", "A", "b", "B"], ("a", "A_2", "b", "B_2")),
        (["a", "a", "a_2"], ("a", "a_3", "a_2")),
        (["a", "a", "A_2", "a", "a_3"], ("a", "a_4", "A_2", "a_5", "a_3")),
        (["a_2", "a_2", "a"], ("a_2", "a_2_2", "a")),
        (["", "column_1"], ("column_1_2", "column_1")),
        (["column_2", ""], ("column_2", "column_2_2")),
        (["Straße", "STRASSE"], ("Straße", "STRASSE_2")),
    ],
)
def test_duplicates_are_numbered_around_the_names_that_are_there(raw: list[str], expected: tuple[str, ...]) -> None:
    assert column_names(raw) == expected


def test_many_duplicates_are_numbered_in_no_time() -> None:
    names = column_names(["x"] * 100_000)
    assert names[-1] == "x_100000"
    assert len(set(names)) == 100_000


def test_renames_are_exact_and_come_before_numbering() -> None:
    rename = [("Old", "new"), ("column_3", " third ")]
    assert column_names([" Old ", "old", "", "new"], rename=rename) == ("new", "old", "third", "new_2")
    assert column_names(["a", "b"], rename=[("a", "b"), ("b", "a")]) == ("b", "a")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("OrderID", "order_id"),
        ("orderDate", "order_date"),
        ("HTTPServer", "http_server"),
        ("Unit Price (€)", "unit_price"),
        ("already_snake", "already_snake"),
        ("a--b..c", "a_b_c"),
        ("_id", "id"),
        ("2nd", "_2nd"),
        ("2ND Place", "_2nd_place"),
        ("Q1Sales", "q1_sales"),
        ("sha256", "sha256"),
        ("A1B2", "a1b2"),
        ("multi\nline", "multi_line"),
        ("Größe (cm)", "größe_cm"),
        ("ЦенаТовара", "цена_товара"),
        ("価格", "価格"),
        ("नमस्ते", "नमस्ते"),
        ("€ %", "column_1"),
        ("", "column_1"),
    ],
)
def test_snake_names_can_be_typed_without_quotes(raw: str, expected: str) -> None:
    assert column_names([raw], names="snake") == (expected,)
    assert column_names([expected], names="snake") == (expected,)


def test_snake_leaves_renamed_columns_as_typed_and_numbers_what_becomes_equal() -> None:
    raw = ["Order ID", "OrderID", "Total"]
    assert column_names(raw, names="snake", rename=[("Total", "TotalSum")]) == ("order_id", "order_id_2", "TotalSum")


@pytest.mark.parametrize("name", ["a\0b", "two\nlines", "a\x1b[2J", "a\x7f", "a\x85b", "caf\udce9"])
def test_control_characters_in_a_header_refuse_the_file(name: str) -> None:
    with pytest.raises(SourceError, match="Column 2 of the header") as caught:
        column_names(["id", name])
    assert caught.value.code == Reason.HEADER
    assert name not in str(caught.value)
    assert column_names(["id", name], rename=[(name, "fine")]) == ("id", "fine")


@pytest.mark.parametrize("name", ["_ingest_file_id", " _INGEST_File_ID "])
def test_header_may_not_name_our_own_column(name: str) -> None:
    with pytest.raises(SourceError) as caught:
        column_names(["id", name])
    assert caught.value.code == Reason.HEADER
    assert f"--rename {name.strip()}=" in caught.value.hint
    assert column_names(["id", name], rename=[(name.strip(), "x")]) == ("id", "x")
    with pytest.raises(SourceError):
        column_names(["id"], rename=[("id", "_ingest_file_id")])


header_names = st.one_of(
    st.sampled_from(["", " ", "a", "A", "a_2", "A_2", "a_3", "a_2_2", "column_1", "column_2", "Column_2_2", "ß", "SS"]),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(header_names, max_size=12), st.sampled_from(["keep", "snake"]))
def test_column_names_are_unique_stable_and_never_empty(raw: list[str], names: str) -> None:
    made = column_names(raw, names=names)
    assert len(made) == len(raw)
    assert all(name and name == name.strip() for name in made)
    assert len({name.casefold() for name in made}) == len(made)
    assert column_names(raw, names=names) == made
    assert column_names(made) == made
    if names == "keep":
        first = {name.strip().casefold(): i for i, name in reversed(list(enumerate(raw))) if name.strip()}
        assert all(made[i] == raw[i].strip() for i in first.values()), "a name that is there already was changed"


# matching


def test_columns_match_exactly_then_by_the_only_one_that_differs_in_case() -> None:
    columns = ["id", "Name", "Zip", "ZIP", "STRASSE"]
    assert match_columns(["ID", "Name", "zip", "straße", "new"], columns) == {
        "ID": "id",
        "Name": "Name",
        "zip": None,
        "straße": "STRASSE",
        "new": None,
    }
    assert match_columns(["Zip", "zip"], columns) == {"Zip": "Zip", "zip": None}


def test_two_names_of_a_header_never_lead_to_one_column() -> None:
    assert match_columns(["id", "Id"], ["id"]) == {"id": "id", "Id": None}
    assert match_columns(["Id", "iD"], ["ID"]) == {"Id": None, "iD": None}


@pytest.mark.parametrize(
    ("returned", "there", "why"),
    [
        (["id", "n"], [], None),
        (["id", "ID"], ["ID", "id"], None),  # as the table has them
        (["ID", ""], ["id", ""], None),
        (["id", "ID"], ["id"], "'ID', whose name differs at most in case from that of the column 'id'"),
        (["id", "Id"], [], "'Id', whose name differs at most in case from that of the column 'id'"),
        (["id", " "], [], "' ', whose name is empty"),
        (["_INGEST_ROW"], [], "is kept for a column of ours"),
        (["id", "a\nb"], ["id"], r"'a\\nb', whose name holds characters"),
        (["x" * 101], [], "x…', whose name is too long"),
    ],
)
def test_names_that_a_transform_returns_are_those_of_the_table_or_can_be_made(
    returned: list[str], there: list[str], why: str | None
) -> None:
    def unfit(name: str, what: str) -> str:
        return "is too long" if what == "column" and len(name) > 100 else ""

    if why is None:
        check_returned("m:f", returned, there, unfit, "t.csv")
        return
    with pytest.raises(SourceError, match=why) as caught:
        check_returned("m:f", returned, there, unfit, "t.csv")
    assert caught.value.code == Reason.TRANSFORM


def test_nearest_name_is_told_as_it_is_spelled() -> None:
    assert nearest("custmer_id", ["id", "Customer_ID", "name"]) == "Customer_ID"
    assert nearest("NAME", ["id", "name"]) == "name"
    assert nearest("xyz", ["id", "name"]) is None
    assert nearest("x", []) is None
