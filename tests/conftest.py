"""What every test may use: the ways into a database, servers, and a check that no process is left behind."""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import oracle
import psutil
import pytest
import servers
import tools

# Each load starts a writer, which imports a third of a second: for those of this process its fork server does, once.
multiprocessing.set_forkserver_preload(["ingest.pool", "ingest.writer"])

SHARE = 16
"""Of the tests that run on every target, one in so many runs on a server each time; `--whole` runs them all.

On databases that the tool does not know, those marked `core` run each time.
"""

SAMPLE = 12
"""Of the tests marked `sampled`, which are many of a kind, one in so many runs each time; `--whole` runs them all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--whole`."""
    parser.addoption("--whole", action="store_true", help="run every test on every server, for more than an hour")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, of what runs on servers, all but a share: always the same one."""
    if config.getoption("--whole") or len(items) < 200:
        return
    left_out = [item for item in items if _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def _is_left_out(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    if "db" not in item.fixturenames:
        # What is about one server runs on its bulk path each time, and by plain `insert()` every other time.
        return _params(item).get("bulk") == "off" and _number(item) % 2 > 0
    if item.get_closest_marker("every_target") is None:
        return False
    if item.get_closest_marker("sampled") is not None and _number(item) // SHARE % SAMPLE > 0:
        return True
    kind = _params(item).get("db")
    if kind in oracle.PLAIN:  # which know of no bulk path
        return item.get_closest_marker("core") is None or _params(item).get("bulk") == "auto"
    return kind in oracle.KINDS and _number(item) % SHARE > 0


def _params(item: pytest.Function) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _number(item: pytest.Item) -> int:
    return zlib.crc32(item.nodeid.encode())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has written may quote names that are not UTF-8, and reports travel between processes as UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_report_header() -> str:
    """Which database servers the tests will find."""
    return servers.report()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    """A PostgreSQL server, for all tests that ask for one."""
    with servers.running(servers.PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    """A MariaDB server, for all tests that ask for one."""
    with servers.running(servers.MariaDB) as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: servers.Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture
def plainpg(postgresql_server: servers.Server) -> Iterator[oracle.OnServer]:
    """An empty PostgreSQL database, as one that the tool does not know."""
    with oracle.on_server(postgresql_server, oracle.PlainPostgreSQL) as database:
        yield database


@pytest.fixture
def query(postgresql_server: servers.Server, postgresql: str) -> Any:
    """Run SQL in the test's PostgreSQL database; the rows of it."""
    name = urlsplit(postgresql).path[1:]
    return lambda sql: postgresql_server.execute(sql, name)


@pytest.fixture
def mariadb(mariadb_server: servers.Server) -> Iterator[str]:
    """The URL of an empty MariaDB database of the test's own."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(params=["auto", "off"], ids=["bulk", "insert"])
def bulk(request: pytest.FixtureRequest) -> str:
    """`--bulk`: the suite holds on the bulk path and on plain `insert()`."""
    value: str = request.param
    return value


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `every_target` runs once for each kind of database."""
    mark = metafunc.definition.get_closest_marker
    if "db" in metafunc.fixturenames and mark("every_target"):
        plain = () if mark("known_kinds") else oracle.PLAIN
        metafunc.parametrize("db", ["sqlite", *oracle.KINDS, *plain], indirect=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a test's files are to be."""
    return tmp_path / "data"


@pytest.fixture
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[oracle.Database]:
    """A test's database: where its SQLite file is to be, or an empty database on a server."""
    kind = getattr(request, "param", "sqlite")
    if "sqlite" in kind:
        folder = tmp_path / "db"
        folder.mkdir()
        path = folder / "test.db"
        yield path if kind == "sqlite" else oracle.PlainSQLite(path)
        return
    of = oracle.PlainPostgreSQL if kind == "plainpg" else None
    with oracle.on_server(request.getfixturevalue(f"{'postgresql' if of else kind}_server"), of) as database:
        yield database


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """After each test, none of the processes it started for a load is alive."""
    yield
    own = psutil.Process(os.getpid())
    left = [p for p in own.children(recursive=True) if _is_ours(p)]
    _, alive = psutil.wait_procs(left, timeout=60)
    for process in alive:
        process.kill()  # a test that failed, or ran out of time, should not leave them to the next
    tools.bury()
    assert not alive, f"still running: {alive}"


def _is_ours(process: psutil.Process) -> bool:
    # multiprocessing's own forkserver and resource tracker of this pytest process live as long as it does, and so do
    # the database servers.
    try:
        if servers.is_server(process):
            return False
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "forkserver" not in line and "resource_tracker" not in line
