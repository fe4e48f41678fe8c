"""Files in the ledger: nothing is counted twice, and no move passes that does not fit what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from ledger_tools import advance, counts, move, open_engine, read, register, reject, settle, start
from sqlalchemy import Engine, select, update

from ingest import ledger
from ingest.errors import FenceError
from ingest.model import FileState, Reason
from ingest.rows import FileRow, path_stored
from ingest.tables import ingest_file


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path / "ledger.db")
    with engine.begin() as connection:
        ledger.create(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def run_id(engine: Engine) -> int:
    return start(engine)


# Attempts


def test_an_attempt_is_written_ahead_with_nothing_committed(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    assert row == read(engine, row.file_id)
    assert row.state is FileState.STARTED
    assert counts(row) == (0, 0, 0, 0, 0)
    assert (row.attempts, row.run_id, row.path, row.sha256, row.lineage) == (
        1,
        run_id,
        "/data/orders_1.csv",
        "aa",
        True,
    )


def test_a_second_attempt_is_the_same_file_with_the_new_fingerprint(engine: Engine, run_id: int) -> None:
    (first,) = register(engine, run_id)
    with engine.begin() as connection:
        ledger.note(connection, first.file_id, code=Reason.CHANGED, error="it changed")
    (second,) = register(engine, run_id, size=200, mtime_ns=9, sha256="bb")
    assert second.file_id == first.file_id
    assert (second.attempts, second.version) == (2, first.version + 1)
    assert (second.size, second.mtime_ns, second.sha256) == (200, 9, "bb")
    assert (second.error_code, second.error) == (None, None)


def test_a_resumed_attempt_keeps_what_is_committed(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 40))
    (again,) = register(engine, run_id)
    assert counts(again) == (40, 10, 7, 2, 1)
    assert again.prefix_sha256 == "prefix40"


def test_old_and_new_files_are_registered_together_in_more_than_one_portion(engine: Engine, run_id: int) -> None:
    register(engine, run_id, *range(0, 1_200, 2))
    rows = register(engine, run_id, *range(1_200))
    assert [row.attempts for row in rows] == [2, 1] * 600
    assert len({row.file_id for row in rows}) == 1_200


def test_a_file_that_is_being_undone_cannot_be_attempted(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    settle(engine, run_id, row, FileState.UNDOING)
    with pytest.raises(FenceError):
        register(engine, run_id)
    assert read(engine, row.file_id).state is FileState.UNDOING


def test_a_path_that_is_not_utf8_comes_back_as_it_was(engine: Engine, run_id: int) -> None:
    path = os.fsdecode(b"/data/caf\xe9 \\xe9 \\ \xc3\xa9.csv")
    (row,) = register(engine, run_id, path=path)
    assert read(engine, row.file_id).path == path
    with engine.begin() as connection:
        stored = connection.execute(select(ingest_file.c.path)).scalar_one()
    assert stored == r"/data/caf\xe9 \\xe9 \\ é.csv"


@examples(deadline=None, max_examples=200)
@given(name=st.binary().filter(lambda name: b"\0" not in name))
def test_every_path_is_storable_and_reversible(name: bytes) -> None:
    row = [None] * len(ingest_file.c)
    row[list(ingest_file.c.keys()).index("path")] = path_stored(os.fsdecode(name))
    row[list(ingest_file.c.keys()).index("state")] = "started"
    found = FileRow.from_row(row)
    assert os.fsencode(found.path) == name


def test_a_number_is_never_given_again(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    with engine.begin() as connection:
        ledger.forget(connection, [row.file_id])
    (other,) = register(engine, run_id, 2)
    assert other.file_id > row.file_id


# Moves


def test_steps_add_up_until_the_file_is_loaded(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id, sha256=None)
    advance(engine, run_id, move(row, 40))
    half = read(engine, row.file_id)
    assert (half.state, half.loaded_at, half.sha256) == (FileState.STARTED, None, None)
    advance(engine, run_id, move(half, 100, done=True, sha256="cc"))
    whole = read(engine, row.file_id)
    assert counts(whole) == (100, 20, 14, 4, 2)
    assert (whole.state, whole.prefix_sha256, whole.sha256) == (FileState.LOADED, "prefix100", "cc")
    assert whole.loaded_at is not None


@pytest.mark.parametrize(
    "wrong", ["file_id", "from_bytes", "too_far", "version", "epoch", "run_id", "loaded", "undoing", "failed"]
)
def test_a_move_that_does_not_match_is_fenced(engine: Engine, run_id: int, wrong: str) -> None:
    (row,) = register(engine, run_id)
    good = move(row, 40)
    mine = run_id
    match wrong:
        case "file_id":
            good = replace(good, file_id=row.file_id + 1)
        case "from_bytes":
            good = replace(good, from_bytes=39)
        case "too_far":
            with engine.begin() as connection:
                connection.execute(update(ingest_file).values(committed_bytes=40))
        case "version":
            good = replace(good, version=row.version - 1)
        case "epoch":
            good = replace(good, epoch=row.epoch - 1)
        case "run_id":
            mine = start(engine)
        case state:
            with engine.begin() as connection:
                connection.execute(update(ingest_file).values(state=state))
    before = read(engine, row.file_id)
    with pytest.raises(FenceError):
        advance(engine, mine, good)
    assert read(engine, row.file_id) == before


def test_the_same_move_twice_is_fenced(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 40))
    with pytest.raises(FenceError):
        advance(engine, run_id, move(row, 40))
    assert counts(read(engine, row.file_id)) == (40, 10, 7, 2, 1)


def test_of_two_connections_only_one_advances(engine: Engine, run_id: int, tmp_path: Path) -> None:
    (row,) = register(engine, run_id)
    other = open_engine(tmp_path / "ledger.db")
    with other.begin() as connection:
        seen = ledger.file(connection, row.file_id)
    assert seen == row
    advance(other, run_id, move(row, 40))
    with pytest.raises(FenceError):
        advance(engine, run_id, move(row, 40))
    other.dispose()
    assert counts(read(engine, row.file_id)) == (40, 10, 7, 2, 1)


@pytest.mark.parametrize("multi", [True, False])
def test_a_bundle_moves_as_one(engine: Engine, run_id: int, multi: bool) -> None:
    engine.dialect.supports_sane_multi_rowcount = multi
    rows = register(engine, run_id, *range(20))
    moves = [move(row, 50, rows=number, done=True) for number, row in enumerate(rows)]
    advance(engine, run_id, *moves)
    with engine.begin() as connection:
        found = ledger.files(connection)
    assert [row.rows_loaded for row in found] == list(range(20))
    assert {row.state for row in found} == {FileState.LOADED}


@pytest.mark.parametrize("multi", [True, False])
def test_one_file_out_of_step_stops_the_bundle(engine: Engine, run_id: int, multi: bool) -> None:
    engine.dialect.supports_sane_multi_rowcount = multi
    rows = register(engine, run_id, *range(5))
    moves = [move(row, 50) for row in rows]
    moves[3] = replace(moves[3], version=99)
    with pytest.raises(FenceError, match="4 of 5"):
        advance(engine, run_id, *moves)
    with engine.begin() as connection:
        assert ledger.files(connection) == rows


def test_a_reload_sets_the_counts_instead_of_adding(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 100, done=True))
    (again,) = register(engine, run_id, size=60, sha256="bb")
    assert (again.state, again.committed_bytes) == (FileState.STARTED, 100)
    advance(engine, run_id, move(again, 60, records=3, rows=3, rejected=0, discarded=0, reset=True, done=True))
    loaded = read(engine, row.file_id)
    assert counts(loaded) == (60, 3, 3, 0, 0)
    assert (loaded.state, loaded.sha256) == (FileState.LOADED, "bb")


def test_moving_nothing_is_no_error(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id)
    assert read(engine, row.file_id) == row


# Refusals, failures, undo


@pytest.mark.parametrize("state", [FileState.REFUSED, FileState.FAILED])
def test_a_file_is_settled_with_its_reason(engine: Engine, run_id: int, state: FileState) -> None:
    (row,) = register(engine, run_id)
    settle(engine, run_id, row, state, deaths=3)
    found = read(engine, row.file_id)
    assert (found.state, found.error_code, found.deaths) == (state, "over_budget", 3)
    assert found.error == "11 rejects, 10 allowed"


@pytest.mark.parametrize("wrong", ["version", "epoch", "loaded"])
def test_a_settlement_that_does_not_match_is_fenced(engine: Engine, run_id: int, wrong: str) -> None:
    (row,) = register(engine, run_id)
    if wrong == "loaded":
        advance(engine, run_id, move(row, 0, done=True))
        row = read(engine, row.file_id)
    before = read(engine, row.file_id)
    with pytest.raises(FenceError):
        settle(engine, run_id, row, FileState.FAILED, **{} if wrong == "loaded" else {wrong: 99})
    assert read(engine, row.file_id) == before


def test_a_file_with_committed_rows_is_not_refused_before_they_are_undone(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 40))
    with pytest.raises(FenceError):
        settle(engine, run_id, read(engine, row.file_id), FileState.REFUSED)
    settle(engine, run_id, read(engine, row.file_id), FileState.UNDOING)
    undoing = read(engine, row.file_id)
    assert (undoing.state, counts(undoing)) == (FileState.UNDOING, (40, 10, 7, 2, 1))


def test_the_next_run_finishes_an_undo(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 40))
    with engine.begin() as connection:
        for applied in (True, False):
            ledger.write_rejects(
                connection, run_id, file_id=row.file_id, table_name="orders", rejects=[reject(1)], applied=applied
            )
    settle(engine, run_id, read(engine, row.file_id), FileState.UNDOING)
    stale = read(engine, row.file_id)
    with engine.begin() as connection:
        ledger.take_over(connection)
    later = start(engine)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.finish_undo(
            connection, run_id, file_id=row.file_id, version=stale.version, epoch=stale.epoch, state=FileState.REFUSED
        )
    now = read(engine, row.file_id)
    with engine.begin() as connection:
        ledger.finish_undo(
            connection, later, file_id=row.file_id, version=now.version, epoch=now.epoch, state=FileState.REFUSED
        )
        left = list(ledger.rejects(connection))
    undone = read(engine, row.file_id)
    assert (undone.state, counts(undone), undone.prefix_sha256) == (FileState.REFUSED, (0, 0, 0, 0, 0), None)
    assert (undone.error_code, undone.run_id) == ("over_budget", later)
    assert [row.applied for row in left] == [False, False]


def test_an_undo_that_did_not_begin_cannot_be_finished(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.finish_undo(
            connection, run_id, file_id=row.file_id, version=row.version, epoch=row.epoch, state=FileState.FAILED
        )


def test_a_reload_that_gave_up_leaves_the_file_loaded_as_it_was(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 100, done=True))
    before = read(engine, row.file_id)
    (again,) = register(engine, run_id, size=60, sha256="bb", header="[]")
    with engine.begin() as connection:
        ledger.withdraw(
            connection,
            run_id,
            before=before,
            version=again.version,
            epoch=again.epoch,
            code=Reason.CORRUPT,
            error="truncated",
        )
    after = read(engine, row.file_id)
    expected = replace(
        before, version=after.version, attempts=after.attempts, error_code="corrupt", error="truncated", run_id=run_id
    )
    assert after == expected
    assert after.version > again.version


def test_a_reload_that_began_cannot_be_withdrawn(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 100, done=True))
    before = read(engine, row.file_id)
    (again,) = register(engine, run_id, size=60)
    advance(engine, run_id, move(again, 30, reset=True))
    begun = read(engine, row.file_id)
    with pytest.raises(FenceError), engine.begin() as connection:
        ledger.withdraw(
            connection, run_id, before=before, version=begun.version, epoch=begun.epoch, code="corrupt", error=""
        )


def test_a_loaded_file_that_is_refused_stays_loaded(engine: Engine, run_id: int) -> None:
    (row,) = register(engine, run_id)
    advance(engine, run_id, move(row, 100, done=True))
    before = read(engine, row.file_id)
    with engine.begin() as connection:
        ledger.note(connection, row.file_id, code=Reason.CHANGED, error="it changed since it was loaded")
    assert read(engine, row.file_id) == replace(before, error_code="changed", error="it changed since it was loaded")
