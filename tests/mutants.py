"""The tests are tested: take one safety out of the program at a time, and see that a test notices.

    python tests/mutants.py             all of them, for some minutes; --jobs 2: two at a time
    python tests/mutants.py NAME …      only these
    python tests/mutants.py --list      their names, and what each takes away

Each mutant is a copy of the checkout in which a few lines of `ingest/` are others, and names the tests that must fail
there; first they must pass on a copy without a change. Exits with 1 if a mutant survived: then a test is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("ingest", "migrations", "tests", "pyproject.toml", "README.md")
SECONDS = 1_200
"""How long the tests of one mutant may take: a slow machine needs a minute for most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One safety, and how to take it away."""

    name: str
    what: str  #: what is no longer so
    file: str  #: below `ingest/`
    edits: tuple[tuple[str, str], ...]  #: what stands there exactly once, and what is put in its place
    tests: tuple[str, ...]  #: pytest's names of those of which at least one must fail

    def applied(self, text: str) -> str:
        """The file without the safety. Raises ValueError unless what is to be replaced is there exactly once."""
        for old, new in self.edits:
            if (found := text.count(old)) != 1:
                raise ValueError(f"{self.name}: ingest/{self.file} has {found} times, and not once:\n{old}")
            text = text.replace(old, new)
        return text


_LEDGER = "tests/test_ledger.py::"
_RUNS = "tests/test_ledger_runs.py::"
_WRITER = "tests/test_writer.py::"
_POINTS = "tests/test_failpoints.py::"
_STEPS = "tests/test_steps.py::"
_CHANGED = "tests/test_changed_files.py::"
_READER = "tests/test_reader.py::"
_SLICING = "tests/test_slicing.py::"
_TURNS = "tests/test_turns.py::"
_TWO = "tests/test_two_runs.py::"

_APART = """            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
"""
_BEGIN = """        with self._begun(order, ready) as connection:
            if order.shape is not None and order.merge"""
_ADVANCE = "            if order.closing is None:\n                ledger.advance(connection, self._run_id, moves)\n"
_REJECTS = (
    "            self._write_rejects("
    "connection, order.moves[0].file_id, order.table_name, order.rejects, applied=True)\n"
)
_INTEND = """        with target.begin() as connection:
            ledger.forget_table(connection, name)
            ledger.intend_table(
                connection, run_id, table_name=name, token=token, definition=definition, made_by_us=True
            )
"""
_CREATED = """        failpoint("after_create")
"""
_RELOAD_WITHDRAWN = "order.before is not None and row.state is FileState.STARTED and row.version == order.version"
_LANDED = """                return all(
                    row is not None
                    and row.version == move.version + 1"""


def _condition(column: str, parameter: str, case: str) -> Mutant:
    """A condition of the conditional update that always holds. Its parameter has to be used all the same."""
    one = f'ingest_file.c.{column} == bindparam("{parameter}")'
    return Mutant(
        name=f"advance-{column}",
        what=f"a move of a file does not ask for its {column}",
        file="ledger/moves.py",
        edits=((f"        {one},\n", f"        ({one}) | (ingest_file.c.file_id > 0),\n"),),
        tests=(f"{_LEDGER}test_a_move_that_does_not_match_is_fenced[{case}]",),
    )


def _first(what: str) -> str:
    """The transaction of an order, with more at its beginning, and that committed by itself."""
    before, _, after = _BEGIN.rpartition("            if ")
    return f"{before}{what}{_APART}            if {after}"


MUTANTS: tuple[Mutant, ...] = (
    # what makes the data right: the conditional update, in the transaction of the rows
    _condition("committed_bytes", "b_from", "from_bytes"),
    _condition("version", "b_version", "version"),
    _condition("epoch", "b_epoch", "epoch"),
    _condition("run_id", "b_run_id", "run_id"),
    Mutant(
        name="advance-state",
        what="a move of a file does not ask for its state",
        file="ledger/moves.py",
        edits=(("        ingest_file.c.state == FileState.STARTED.value,\n", ""),),
        tests=(f"{_LEDGER}test_a_move_that_does_not_match_is_fenced[loaded]",),
    ),
    Mutant(
        name="advance-rowcount",
        what="nobody looks whether the conditional update matched",
        file="ledger/moves.py",
        edits=(("    if matched != len(parameters):\n", "    if False:\n"),),
        tests=(f"{_LEDGER}test_the_same_move_twice_is_fenced", f"{_LEDGER}test_one_file_out_of_step_stops_the_bundle"),
    ),
    Mutant(
        name="change-rowcount",
        what="nobody looks whether a file was refused, undone or withdrawn as it was read",
        file="ledger/moves.py",
        edits=(("    if result.rowcount != 1:\n        raise _moved_on(", "    if False:\n        raise _moved_on("),),
        tests=(f"{_LEDGER}test_a_settlement_that_does_not_match_is_fenced",),
    ),
    Mutant(
        name="loaded-at-the-end",
        what="a file is loaded with its first step",
        file="ledger/moves.py",
        edits=(("(FileState.LOADED if move.done else FileState.STARTED).value", "FileState.LOADED.value"),),
        tests=(f"{_LEDGER}test_steps_add_up_until_the_file_is_loaded",),
    ),
    Mutant(
        name="rows-first",
        what="rows are committed before the ledger moves",
        file="applying.py",
        edits=((_ADVANCE, _APART + _ADVANCE),),
        tests=(f"{_WRITER}test_an_order_repeated_is_fenced_and_its_rows_are_there_once[bulk]",),
    ),
    Mutant(
        name="ledger-first",
        what="the ledger moves, and is committed, before the rows",
        file="applying.py",
        edits=(
            (_BEGIN, _first("            ledger.advance(connection, self._run_id, moves)\n")),
            (_ADVANCE, "            if order.closing is None:\n                pass\n"),
        ),
        tests=(f"{_WRITER}test_a_batch_with_fewer_rows_than_were_told_is_not_kept[bulk]",),
    ),
    Mutant(
        name="rejects-first",
        what="rejects are committed before the rows of their file",
        file="applying.py",
        edits=((_REJECTS, ""), (_BEGIN, _first(_REJECTS))),
        tests=(f"{_WRITER}test_rejects_of_an_order_that_is_not_kept_are_not_kept[bulk]",),
    ),
    Mutant(
        name="count",
        what="nobody counts whether the database took every row of a batch",
        file="applying.py",
        edits=(("                if inserted != expected:\n", "                if False:\n"),),
        tests=(f"{_WRITER}test_a_batch_with_fewer_rows_than_were_told_is_not_kept[bulk]",),
    ),
    Mutant(
        name="open",
        what="the ledger moves though the transaction of the rows has ended by itself",
        file="applying.py",
        edits=(("            self._target.assert_open(connection)\n            if order", "            if order"),),
        tests=(f"{_WRITER}test_the_ledger_does_not_move_where_the_transaction_has_ended_by_itself[bulk]",),
    ),
    Mutant(
        name="same-table",
        what="rows are put into a table that is not the one they were staged for",
        file="applying.py",
        edits=(("        if not same:\n", "        if False:\n"),),
        tests=(f"{_WRITER}test_a_table_that_was_changed_since_is_not_written_to[insert]",),
    ),
    # fences
    Mutant(
        name="epoch",
        what="who takes over leaves the epoch of unfinished files as it is",
        file="ledger/moves.py",
        edits=(("values(epoch=ingest_file.c.epoch + 1)", "values(epoch=ingest_file.c.epoch)"),),
        tests=(f"{_RUNS}test_a_taken_over_run_can_do_nothing_more",),
    ),
    Mutant(
        name="check-run",
        what="a run that was taken over registers files",
        file="ledger/moves.py",
        edits=(("    if state != RunState.RUNNING.value:\n", "    if False:\n"),),
        tests=(f"{_RUNS}test_a_taken_over_run_can_do_nothing_more",),
    ),
    Mutant(
        name="lease",
        what="two runs load into one database at the same time",
        file="targets/sqlite.py",
        edits=(("                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "                pass\n"),),
        tests=(f"{_TWO}test_a_second_run_leaves_with_its_own_exit_code[sqlite]",),
    ),
    Mutant(
        name="writers-lock",
        what="the writer works while the main process holds its lock",
        file="writer.py",
        edits=(("            with guarded(message):\n", "            with contextlib.nullcontext():\n"),),
        tests=(f"{_WRITER}test_no_order_is_done_while_main_holds_the_lock[bulk]",),
    ),
    Mutant(
        name="claims",
        what="orders for the same file go at once",
        file="claims.py",
        edits=(
            (
                "        return alone.isdisjoint(self.alone | self.shared) and shared.isdisjoint(self.alone)\n",
                "        return True\n",
            ),
        ),
        tests=("tests/test_claims.py",),
    ),
    # what became of an order
    Mutant(
        name="landed",
        what="nobody asks the ledger whether an order was committed before it is done again",
        file="applying.py",
        edits=((_LANDED, _LANDED.replace("return all(", "return False and all(")),),
        tests=(f"{_WRITER}test_an_order_whose_writer_died_after_its_commit_is_known_to_have_landed[bulk]",),
    ),
    Mutant(
        name="landed-always",
        what="an order that was sent once is taken for committed",
        file="applying.py",
        edits=((_LANDED, _LANDED.replace("return all(", "return True or all(")),),
        tests=(f"{_WRITER}test_an_order_whose_writer_died_before_its_commit_is_done_again[bulk]",),
    ),
    Mutant(
        name="landed-later",
        what="a COMMIT that is still on its way is not waited for",
        file="applying.py",
        edits=(("ledger.file(connection, move.file_id, lock=True)", "ledger.file(connection, move.file_id)"),),
        tests=("tests/test_faults.py::test_a_commit_that_the_server_has_yet_to_carry_out_is_waited_for[postgresql]",),
    ),
    Mutant(
        name="again",
        what="a new writer is not told that the order of a dead one may have been committed",
        file="writing.py",
        edits=(("        self._again.extendleft(reversed(", "        self._waiting.extendleft(reversed("),),
        tests=(f"{_POINTS}test_a_writer_killed_around_its_commit_loads_once[sqlite-after_commit-auto]",),
    ),
    # what is begun before its turn
    Mutant(
        name="ahead-same",
        what="what the table had before a file's turn is believed in its turn",
        file="applying.py",
        edits=(("ready.number == self._changes.number(shape.table)", "ready.same is not None"),),
        tests=(f"{_TURNS}test_what_was_the_same_before_its_turn_is_looked_at_again_in_it[postgresql]",),
    ),
    Mutant(
        name="ahead-forgotten",
        what="an order that was got ready is done whatever becomes of the one before it",
        file="writer.py",
        edits=(("        if turn.come():\n", "        if turn.come() or ready is not None:\n"),),
        tests=(f"{_TURNS}test_an_order_that_is_forgotten_leaves_its_connection_to_the_next[postgresql]",),
    ),
    # what is written ahead
    Mutant(
        name="attempt",
        what="a new attempt at a file does not say before which content it is of",
        file="ledger/moves.py",
        edits=(
            (
                'again.append({"b_file_id": known[entry.path_key], **values})',
                'again.append({"b_file_id": known[entry.path_key], "state": values["state"], "run_id": run_id})',
            ),
        ),
        tests=(f"{_LEDGER}test_a_second_attempt_is_the_same_file_with_the_new_fingerprint",),
    ),
    Mutant(
        name="attempt-options",
        what="what a file is read with is not written down before its first step",
        file="parts.py",
        edits=(("    return row.mode == settings.mode and same\n", "    return True\n"),),
        tests=(f"{_STEPS}test_a_part_loaded_file_starts_again_where_an_option_would_read_the_rest_otherwise[sqlite]",),
    ),
    Mutant(
        name="intent",
        what="a table is made before the ledger knows of it",
        file="preparing.py",
        edits=((_INTEND, ""), (_CREATED, _CREATED + _INTEND)),
        tests=(f"{_POINTS}test_a_run_killed_while_it_prepares_is_taken_up_by_the_next[sqlite-after_create]",),
    ),
    # taking back
    Mutant(
        name="undo",
        what="a file is refused without a look at what is committed of it",
        file="applying.py",
        edits=(("undo = row.committed_bytes > 0 and row.state is FileState.STARTED", "undo = False"),),
        tests=(f"{_WRITER}test_a_refused_file_takes_its_committed_steps_back[bulk]",),
    ),
    Mutant(
        name="undo-rows",
        what="the rows of a refused file stay",
        file="applying.py",
        edits=(("self._target.delete_rows(connection, order.shape, order.file_id, known=row.rows_loaded)", "pass"),),
        tests=(f"{_WRITER}test_a_refused_file_takes_its_committed_steps_back[bulk]",),
    ),
    Mutant(
        name="undo-ahead",
        what="the ledger lets a file be refused that has committed rows",
        file="ledger/moves.py",
        edits=(("    if state is not FileState.UNDOING:\n        conditions", "    if False:\n        conditions"),),
        tests=(f"{_LEDGER}test_a_file_with_committed_rows_is_not_refused_before_they_are_undone",),
    ),
    Mutant(
        name="undo-later",
        what="nobody finishes what a killed run was taking back",
        file="preparing.py",
        edits=(("        if row.state is not FileState.UNDOING or not row.sound:\n", "        if True:\n"),),
        tests=(f"{_POINTS}test_a_killed_undo_is_finished_by_the_next_run[sqlite]",),
    ),
    Mutant(
        name="undo-whose",
        what="rows of a killed run that cannot be told from others are taken for gone",
        file="preparing.py",
        edits=(("elif shape is not None and row.rows_loaded and target.has_rows(", "elif 0 and bool("),),
        tests=(f"{_POINTS}test_rows_of_a_killed_undo_that_cannot_be_told_from_others_refuse_their_file[sqlite]",),
    ),
    Mutant(
        name="undo-alone",
        what="what the database does not let go ends every run",
        file="preparing.py",
        edits=(("        if target.fault(error) is not None:\n", "        if True:\n"),),
        tests=(f"{_POINTS}test_what_the_database_does_not_let_go_stops_no_other_file[sqlite]",),
    ),
    Mutant(
        name="replace-held",
        what="a run can be taken over while it replaces a table",
        file="ledger/moves.py",
        edits=(("query.with_for_update() if hold else query", "query"),),
        tests=("tests/test_lease.py::test_a_replacement_that_is_open_holds_a_take_over_back[postgresql]",),
    ),
    Mutant(
        name="reload-kept",
        what="rows that a trigger keeps are taken for deleted",
        file="targets/base.py",
        edits=((".where(mine).limit(1)", ".where(sa.false()).limit(1)"),),
        tests=(
            "tests/test_postgres_replace.py::test_a_file_whose_old_rows_stay_is_not_loaded_again_beside_them[rule]",
        ),
    ),
    Mutant(
        name="reload-rows",
        what="a reload leaves the old rows",
        file="applying.py",
        edits=(("self._target.delete_rows(connection, order.shape, order.moves[0].file_id, known=known)", "pass"),),
        tests=(f"{_WRITER}test_a_reload_that_is_refused_after_its_first_step_leaves_nothing[bulk]",),
    ),
    Mutant(
        name="reload-withdrawn",
        what="a reload that is refused before its first step takes the old rows along",
        file="applying.py",
        edits=((f"            if {_RELOAD_WITHDRAWN}:\n", "            if False:\n"),),
        tests=(f"{_WRITER}test_a_reload_that_is_refused_before_its_first_step_keeps_the_old_rows[bulk]",),
    ),
    Mutant(
        name="reload-begun",
        what="a reload that is refused after its first step is taken for one that changed nothing",
        file="applying.py",
        edits=((_RELOAD_WITHDRAWN, _RELOAD_WITHDRAWN.replace(" and row.version == order.version", "")),),
        tests=(f"{_WRITER}test_a_reload_that_is_refused_after_its_first_step_leaves_nothing[bulk]",),
    ),
    Mutant(
        name="tail",
        what="a file whose tail was killed is taken for one that is loaded in part",
        file="tails.py",
        edits=(('    if not mark or mark["from"] != row.committed_bytes:\n', "    if True:\n"),),
        tests=("tests/test_tails.py::test_an_interrupted_tail_of_a_file_that_is_put_back_is_forgotten",),
    ),
    # what a file is
    Mutant(
        name="proof",
        what="a slice that is not by the book is believed to begin and end where a record does",
        file="reader.py",
        edits=(("    if walked and not (exact or proven):\n", "    if False:\n"),),
        tests=(f"{_READER}test_slice_that_is_not_by_the_book_proves_nothing_by_itself",),
    ),
    Mutant(
        name="borders",
        what="any line end is a border between slices, within quotes, too",
        file="slicing.py",
        edits=(
            (
                "border = quoting.counted_border(data, at, dialect, final=final)",
                "border = quoting.line_end(data, at - 1, final=final)",
            ),
        ),
        tests=(f"{_SLICING}test_slices_cover_the_data_once_and_end_behind_records",),
    ),
    Mutant(
        name="prefix-planned",
        what="a part-loaded file is gone on with whatever became of that part",
        file="parts.py",
        edits=(
            (
                "        return not not_grown(beginning(source, header, row.committed_bytes), row)\n",
                "        return True\n",
            ),
        ),
        tests=(f"{_STEPS}test_a_file_killed_between_steps_and_then_touched_is_there_once[sqlite-change-False]",),
    ),
    Mutant(
        name="prefix-read",
        what="nobody looks whether what is skipped of a file is what was loaded of it",
        file="slicing.py",
        edits=(
            ("        if expect is not None and self.decoded.copy().hexdigest() != expect:\n", "        if False:\n"),
        ),
        tests=(f"{_SLICING}test_resume_goes_on_at_the_border_of_a_proven_prefix",),
    ),
    Mutant(
        name="stat-sliced",
        what="a file that changes while it is sliced is loaded",
        file="slicing.py",
        edits=(("        if found != expected or now.st_mtime_ns != self.source.mtime_ns:\n", "        if False:\n"),),
        tests=(f"{_SLICING}test_file_that_changes_while_it_is_sliced_never_has_a_last_slice",),
    ),
    Mutant(
        name="stat-read",
        what="a file that is not the one that was found is read",
        file="reader.py",
        edits=(
            ("        if (now.st_size, now.st_mtime_ns) != (source.size, source.mtime_ns):\n", "        if False:\n"),
        ),
        tests=(f"{_READER}test_file_that_is_not_the_scanned_one_is_not_read",),
    ),
    Mutant(
        name="stat-at-the-end",
        what="nobody looks at a file again when all of it has been read",
        file="loading.py",
        edits=(
            ("if load.doom is None and not all(manifest.same_file(work.source) for work in load.works):", "if False:"),
        ),
        tests=(f"{_CHANGED}test_a_file_that_grows_while_it_is_read_is_refused_and_loaded_when_complete[sqlite-alone]",),
    ),
    Mutant(
        name="slice-hash",
        what="a slice may be read with other bytes than it was cut with",
        file="reader.py",
        edits=((" or (slice_.checksum is not None and zlib.crc32(data) != slice_.checksum):", ":"),),
        tests=(f"{_READER}test_file_that_changes_between_slicing_and_reading_is_caught",),
    ),
    Mutant(
        name="spool-hash",
        what="a decoded slice may be read with other bytes than were spooled",
        file="reader.py",
        edits=(("(slice_.checksum is not None and", "(slice_.checksum is not None and slice_.spooled is None and"),),
        tests=(f"{_READER}test_decoded_bytes_that_change_in_the_spool_are_caught",),
    ),
    Mutant(
        name="grain",
        what="a time stamp is trusted that may be older than the last change",
        file="planning.py",
        edits=(("RACY_NS = 2_000_000_000\n", "RACY_NS = -1\n"),),
        tests=(f"{_CHANGED}test_a_file_changed_within_the_grain_of_its_time_is_compared_by_content[sqlite]",),
    ),
    Mutant(
        name="change-time",
        what="size and time of a file tell that it is the same",
        file="planning.py",
        edits=(
            (
                "(source.size, source.mtime_ns, source.ctime_ns) == (row.size, row.mtime_ns, row.ctime_ns)",
                "(source.size, source.mtime_ns) == (row.size, row.mtime_ns)",
            ),
        ),
        tests=(f"{_CHANGED}test_other_content_of_the_same_size_and_time_is_seen_by_its_change_time[sqlite]",),
    ),
    Mutant(
        name="duplicates",
        what="a file is loaded though one with the same content is loaded already",
        file="planning.py",
        edits=(("        if twin is None:\n", "        if True:\n"),),
        tests=(f"{_CHANGED}test_a_file_delivered_twice_is_not_loaded_twice_unless_wanted[sqlite-in two runs]",),
    ),
    Mutant(
        name="duplicates-at-once",
        what="a file is loaded though one with the same content is loaded beside it",
        file="planning.py",
        edits=(("            if first is work.source:\n", "            if True:\n"),),
        tests=(f"{_CHANGED}test_a_file_delivered_twice_is_not_loaded_twice_unless_wanted[sqlite-in one run]",),
    ),
    # processes and room
    Mutant(
        name="death-watch",
        what="the writer does not end with its main process while it waits for a lock",
        file="writer.py",
        edits=(
            (
                "    mp_connection.wait([sentinel])\n    os.kill(",
                "    mp_connection.wait([sentinel, sentinel])\n    id(",
            ),
        ),
        tests=(
            "tests/test_kill.py::test_a_killed_run_is_gone_in_five_seconds_and_the_next_goes_on[sqlite-main-auto-new]",
        ),
    ),
    Mutant(
        name="permits",
        what="files take the room that the first of them will need",
        file="feeding.py",
        edits=(("self._free - kept < amount", "self._free < amount"),),
        tests=("tests/test_unpacking.py::test_the_first_file_takes_what_it_needs_and_the_others_what_it_leaves",),
    ),
    Mutant(
        name="spool-lock",
        what="a run removes the spool folders of runs that are alive",
        file="spool.py",
        edits=(("        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", ""),),
        tests=(f"{_TWO}test_databases_beside_each_other_are_loaded_at_the_same_time[sqlite]",),
    ),
)


# running them --------------------------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """The tests did not run, so they tell nothing."""


def copy(to: Path, mutant: Mutant | None = None) -> None:
    """What the tests need, in a folder of its own."""
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, to / name)
    if mutant is not None:
        path = to / "ingest" / mutant.file
        path.write_text(mutant.applied(path.read_text(encoding="utf-8")), encoding="utf-8")


def failed(folder: Path, tests: Sequence[str], jobs: int = 0) -> str:
    """Run tests in a copy, some at a time; the name of the first that failed, or "". Raises NoAnswer."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    where = [sys.executable, "-c", "import ingest; print(ingest.__file__)"]
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    if not Path(found.strip()).is_relative_to(folder.resolve()):
        raise NoAnswer(f"the copy is not what is imported, but {found}")
    options = ("-x", "-q", "--tb=short", "-rfE", "-p", "no:cacheprovider", "-n", str(jobs))
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"still running after {SECONDS} s: {' '.join(tests)}") from None
    if done.returncode == 0 and not re.search(r"\d passed", done.stdout):
        raise NoAnswer(f"nothing of it was run:\n{done.stdout}")
    if done.returncode not in (0, 1):
        raise NoAnswer(f"{done.stdout}\n{done.stderr}")
    if done.returncode == 0:
        return ""
    first = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if first is None:
        raise NoAnswer(done.stdout)
    return first[1]


def killer(mutant: Mutant) -> str:
    """The test that notices that a safety is gone, or ""."""
    with tempfile.TemporaryDirectory(prefix="ingest-mutant-") as name:
        copy(Path(name), mutant)
        return failed(Path(name), mutant.tests)


def named(names: Iterable[str]) -> list[Mutant]:
    """The mutants of these names, or all. Raises KeyError."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    return [known[name] for name in names] or list(MUTANTS)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Take one safety out at a time, and see that a test notices.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    given = parser.parse_args()
    try:
        mutants = named(given.names)
    except KeyError as error:
        parser.error(f"there is no mutant {error}; --list tells them all")
    width = max(len(mutant.name) for mutant in mutants)
    if given.list:
        for mutant in mutants:
            print(f"{mutant.name:{width}}  {mutant.what}")
        return 0
    with tempfile.TemporaryDirectory(prefix="ingest-mutant-") as name:
        copy(Path(name))
        if broken := failed(Path(name), sorted({test for mutant in mutants for test in mutant.tests}), given.jobs):
            print(f"{broken} fails without a mutant: nothing can be told.")
            return 1
    survived = 0

    def timed(mutant: Mutant) -> tuple[str, float]:
        began = time.monotonic()
        return killer(mutant), time.monotonic() - began

    with ThreadPoolExecutor(given.jobs) as pool:
        for mutant, (found, seconds) in zip(mutants, pool.map(timed, mutants), strict=True):
            survived += not found
            print(f"{mutant.name:{width}}  {seconds:6.1f} s  {found or 'SURVIVED'}", flush=True)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants were killed.")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
