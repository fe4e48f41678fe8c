"""What a run says: on a terminal, in a log, as JSON; and that no name from a file can act on a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import show
from ingest.console import EQUAL_SHOWN, Console, JsonLines, as_json, printable
from ingest.history import RejectedRecord, Status, TableStatus
from ingest.model import (
    Action,
    Column,
    ColumnType,
    Dialect,
    Header,
    LeftOut,
    Origin,
    Reason,
    Source,
    TableName,
    TableShape,
)
from ingest.reports import Decision, Event, FileOutcome, Notice, Opened, Plan, Progress, RunReport, TablePlan

HOSTILE = "a\x1b[31m\nb\u202e\r[red]c[/red]\udce9.csv"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def outcome(state: str, code: Reason, name: str = "orders_1.csv", **more: object) -> FileOutcome:
    base: dict[str, object] = {"path": f"/data/{name}", "display": name, "table": "orders", "sentence": "It is so."}
    actions = {"skipped": Action.SKIP, "refused": Action.REFUSE}
    return FileOutcome(action=actions.get(state, Action.LOAD), state=state, code=code, **(base | more))  # type: ignore[arg-type]


def report(files: Iterable[FileOutcome], exit_code: int = 0, **more: object) -> RunReport:
    base: dict[str, object] = {"run_id": 1, "database": "sqlite:///x.db", "new": True, "seconds": 2.0}
    return RunReport(exit_code=exit_code, files=tuple(files), **(base | more))  # type: ignore[arg-type]


def progress(seconds: float, done: int, phase: str = "load", **more: int) -> Progress:
    base = {"files_done": 1, "files_total": 4, "bytes_total": 1000, "rows": 10, "rejected": 0}
    return Progress(phase=phase, seconds=seconds, bytes_done=done, **(base | more))


def said(*events: Event, stream: io.StringIO | None = None, **options: object) -> str:
    stream = stream or io.StringIO()
    with Console(stream, **options) as console:  # type: ignore[arg-type]
        for event in events:
            console(event)
    return stream.getvalue()


OPENED = Opened(database="sqlite:///x.db", new=True)
LOADED = outcome("loaded", Reason.NEW, rows=20, records=20)


def test_first_line_names_the_database_and_whether_it_is_new() -> None:
    assert said(OPENED).splitlines()[0] == "database: sqlite:///x.db (new)"


def test_summary_is_last_and_counts() -> None:
    lines = said(OPENED, LOADED, report([LOADED])).splitlines()
    assert lines[-1] == "loaded: 1 file, 20 rows in 2.0 s, 10 rows/s"


def test_nothing_to_load_is_said() -> None:
    skipped = [outcome("skipped", Reason.LOADED, f"{i}.csv") for i in range(90)]
    assert said(*skipped, report(skipped)).splitlines() == ["nothing to load: 90 files are loaded already"]


def test_files_that_are_gone_are_counted_in_a_sentence() -> None:
    one = said(report([LOADED], vanished=("/data/a.csv",)))
    assert "vanished: 1 file that was loaded is no longer there; their rows stay; see: ingest status" in one
    two = said(report([LOADED], vanished=("/data/a.csv", "/data/b.csv")))
    assert "vanished: 2 files that were loaded are no longer there; their rows stay" in two


def test_no_file_found_is_a_warning() -> None:
    left = LeftOut(path="/data/x.tmp", code=Reason.TOO_YOUNG, sentence="It ends in .tmp.")
    assert said(report([])).startswith("warning: no file to load was found.")
    assert "/data/x.tmp: It ends in .tmp." in said(report([], left_out=(left,)))


def test_quiet_success_says_nothing_at_all() -> None:
    notice = Notice(level="warning", text="The spool is on a slow disk.")
    assert said(OPENED, progress(9, 500), notice, LOADED, report([LOADED]), quiet=True) == ""
    assert said(report([]), quiet=True) == ""


def test_quiet_trouble_is_told_with_the_warnings_before_it() -> None:
    notice = Notice(level="warning", text="The spool is on a slow disk.")
    refused = outcome("refused", Reason.CHANGED, hint="Choose: --on-change reload")
    text = said(OPENED, notice, refused, report([refused], 4), quiet=True)
    assert "warning: The spool is on a slow disk." in text
    assert "error: refused: orders_1.csv: It is so.\n  Choose: --on-change reload\n" in text
    assert text.splitlines()[-1].startswith("refused: 1 file, nothing of it was loaded by this run")


def test_refused_files_are_told_as_they_happen_with_their_hint() -> None:
    stream = io.StringIO()
    Console(stream)(outcome("refused", Reason.CHANGED, hint="Choose: --on-change reload"))
    assert stream.getvalue() == "error: refused: orders_1.csv: It is so.\n  Choose: --on-change reload\n"


def test_equal_errors_are_grouped() -> None:
    refused = [outcome("refused", Reason.CHANGED, f"o{i}.csv", hint="Choose.") for i in range(45)]
    text = said(OPENED, *refused, report(refused, 4))
    assert text.count("error: ") == EQUAL_SHOWN
    assert text.count("Choose.") == 1
    assert "and 35 more files refused for the same reason (changed); see: ingest status" in text


def test_next_step_repeats_the_database_that_was_named() -> None:
    bad = outcome("refused", Reason.OVER_BUDGET, rejected=3)
    assert "see: ingest rejects list --to sqlite:///x.db FILE" in said(OPENED, bad, report([bad], 4), to="x.db")
    assert "see: ingest rejects list FILE" in said(OPENED, bad, report([bad], 4))


def test_next_step_never_repeats_a_typed_password() -> None:
    opened = Opened(database="postgresql://me:***@host/db", new=False)
    bad = outcome("refused", Reason.OVER_BUDGET, rejected=3)
    assert "secret" not in said(opened, bad, report([bad], 4), to="postgresql://me:secret@host/db")


def test_stopped_run_says_how_to_go_on() -> None:
    text = said(LOADED, report([LOADED, outcome("unfinished", Reason.NEW)], 130, stopped_by="SIGINT"))
    assert text.splitlines()[-2:] == [
        "unfinished: 1 file",
        "stopped by SIGINT; run the same command again to go on where it was",
    ]


def test_rejects_inside_the_budget_are_told() -> None:
    text = said(report([outcome("loaded", Reason.NEW, rows=8, rejected=2)], 3))
    assert "rejected: 2 records of loaded files, inside the budget; see: ingest rejects list" in text


def test_a_warning_is_told_once() -> None:
    notice = Notice(level="warning", text="Once.")
    assert said(notice, notice, LOADED, report([LOADED], warnings=("Once.",))).count("Once.") == 1


def test_info_and_single_files_are_only_for_verbose() -> None:
    events = (Notice(level="info", text="A worker started."), LOADED)
    assert said(*events) == ""
    text = said(*events, verbose=True)
    assert "A worker started." in text
    assert "loaded: orders_1.csv (20 rows into orders)" in text


def test_plain_progress_is_a_line_now_and_then() -> None:
    steps = [progress(i / 10, i) for i in range(1, 101)]  # 10 s, 10 % of the bytes
    lines = said(*steps).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("loading, 1/4 files: 5%")


def test_plain_progress_starts_again_with_a_new_phase() -> None:
    lines = said(progress(20, 900, "plan"), progress(30, 10)).splitlines()
    assert [line.split(",")[0] for line in lines] == ["looking at values", "loading"]


@pytest.mark.parametrize("how", ["none", "auto"])
def test_no_progress_where_none_is_wanted(how: str) -> None:
    assert said(progress(9, 500), progress=how, quiet=how == "auto") == ""


def test_terminal_gets_a_bar_and_the_summary_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    text = said(OPENED, progress(1, 500), progress(2, 900), LOADED, report([LOADED]), stream=stream)
    assert "1/4 files" in text
    assert text.rstrip().endswith("loaded: 1 file, 20 rows in 2.0 s, 10 rows/s")


def test_a_bar_that_has_no_terminal_is_lines_and_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(OPENED, progress(6, 500), LOADED, report([LOADED]), progress="bar")
    assert "loading, 1/4 files: 50%" in text
    assert capsys.readouterr() == ("", "")


def test_dumb_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = said(progress(6, 500), stream=Terminal())
    assert "\x1b" not in text
    assert text.startswith("loading, 1/4 files: 50%")


def test_closed_terminal_does_not_end_the_load() -> None:
    assert said(OPENED, LOADED, report([LOADED]), stream=Closed()) == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hostile_names_are_inert(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    refused = outcome("refused", Reason.HEADER, HOSTILE, hint=f"Look at {HOSTILE}")
    lines = said(refused, Notice(level="warning", text="odd", path=HOSTILE), stream=stream()).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "\x1b" not in line
        assert "\u202e" not in line
        assert "a\\x1b[31m\\nb\\u202e\\r[red]c[/red]\\xe9.csv" in line


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_printable_is_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.replace(" ", "").isprintable() or all(c.isspace() for c in shown if not c.isprintable())
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_printable_leaves_ordinary_names_alone() -> None:
    assert printable("Zoë's Łódź 2026 [1] – 東京.csv") == "Zoë's Łódź 2026 [1] – 東京.csv"


def test_json_is_one_object_a_line_and_ends_with_the_summary() -> None:
    stream = io.StringIO()
    listener = JsonLines(stream)
    refused = outcome("refused", Reason.HEADER, HOSTILE)
    for event in (OPENED, progress(1, 5), Notice(level="info", text="x"), refused, report([LOADED, refused], 4)):
        listener(event)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in told] == ["opened", "progress", "notice", "file", "summary"]
    assert stream.getvalue().isascii()
    assert told[3]["display"] == HOSTILE.replace("\udce9", "\\xe9")
    assert told[3]["code"] == "header"
    assert told[4]["files"] == {"loaded": 1, "refused": 1}
    assert (told[4]["rows"], told[4]["exit_code"], told[4]["stopped_by"]) == (20, 4, None)


def test_json_error_says_kind_hint_and_exit_code() -> None:
    stream = io.StringIO()
    JsonLines(stream).error("LeaseHeld", "busy", "wait", 75)
    told = {"event": "error", "kind": "LeaseHeld", "message": "busy", "hint": "wait", "exit_code": 75}
    assert json.loads(stream.getvalue()) == told


def test_json_reader_that_has_gone_does_not_end_the_load() -> None:
    listener = JsonLines(Closed())
    listener(OPENED)
    listener(report([LOADED]))


def test_times_are_utc_in_json() -> None:
    assert as_json({"at": datetime(2026, 3, 1, 12, 0)}) == '{"at": "2026-03-01T12:00:00Z"}'


def a_plan() -> Plan:
    source = Source(path=f"/d/{HOSTILE}", display=HOSTILE, size=10, mtime_ns=0, ctime_ns=0, scanned_ns=0)
    header = Header(dialect=Dialect(delimiter="\t", line_end="\r\n"), names=("id", "pri\nce"), data_start=9)
    table = TableName(name="orders")
    columns = (
        Column(name="id", type=ColumnType.BIGINT, origin=Origin.INFERRED),
        Column(name="pri\nce", type=ColumnType.DECIMAL, origin=Origin.DECLARED, precision=12, scale=2),
    )
    return Plan(
        database="sqlite:///x.db",
        new=True,
        decisions=(
            Decision(
                source=source,
                table=table,
                action=Action.LOAD,
                code=Reason.NEW,
                sentence="It is new.",
                header=header,
            ),
        ),
        tables=(TablePlan(table=table, exists=False, shape=TableShape(table=table, columns=columns), notes=("A.",)),),
        vanished=("/d/gone.csv",),
    )


def test_plan_shows_reason_dialect_schema_and_table() -> None:
    out = io.StringIO()
    show.plan(a_plan(), out)
    text = out.getvalue()
    assert "tab CRLF" in text
    assert "It is new." in text
    assert "orders: a new table" in text
    assert "decimal(12,2)" in text
    assert "/d/gone.csv" in text
    assert text.splitlines()[-1] == "load would load 1"
    assert "\x1b" not in text
    assert "pri\\nce" in text


def test_plan_promises_no_table_that_load_does_not_make() -> None:
    table = TableName(name="orders")
    out = io.StringIO()
    show.plan(replace(a_plan(), tables=(TablePlan(table=table, exists=False, shape=None),)), out)
    assert "orders: no table, for there is no record to make it from" in out.getvalue()


def test_a_reason_and_what_to_type_are_two_sentences() -> None:
    plan = a_plan()
    out = io.StringIO()
    for sentence in ("It changed", "It changed."):
        show.plan(replace(plan, decisions=(replace(plan.decisions[0], sentence=sentence, hint="Give it."),)), out)
    assert out.getvalue().count("It changed. Give it.") == 2


def test_plan_on_a_terminal_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    show.plan(a_plan(), out)
    assert "[red]c[/red]\\xe9.csv" in out.getvalue()


def test_plan_is_a_json_document() -> None:
    told = json.loads(as_json(a_plan()))
    assert told["decisions"][0]["action"] == "load"
    assert told["tables"][0]["shape"]["columns"][1]["scale"] == 2


def test_piped_tables_align_and_hold_plain_numbers() -> None:
    one = TableStatus(
        table="orders", made_by_us=True, files={"loaded": 1200}, rows_loaded=1234567, rows_rejected=1, rows_discarded=0
    )
    out = io.StringIO()
    show.status(Status(database="x", tables=(one,), files=(), vanished=()), out)
    assert out.getvalue().splitlines() == [
        "table   loaded     rows  rejected  discarded",
        "orders    1200  1234567         1          0",
    ]


REJECT = RejectedRecord(
    file=f"/d/{HOSTILE}",
    line=7,
    byte=120,
    record=5,
    column="price",
    reason="bad_number",
    message="It is no number.",
    raw='7,"x\ny",\x1b[2J\u202e',
    applied=False,
    reject_id=1,
)


def test_listed_rejects_are_escaped() -> None:
    out = io.StringIO()
    assert show.rejects([REJECT], out) == 1
    place, raw = out.getvalue().splitlines()
    assert place.endswith(".csv:7: column price: bad_number: It is no number. (the whole file was refused)")
    assert raw == '    7,"x\\ny",\\x1b[2J\\u202e'
