"""The servers that the tests run on are real ones with their own defaults, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import killing
import psutil
import pytest
import servers

HERE = Path(__file__).parent


def test_postgresql_keeps_its_defaults_for_what_makes_a_commit_safe(
    postgresql_server: servers.Server, postgresql: str
) -> None:
    name = urlsplit(postgresql).path[1:]
    query = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
    assert dict(postgresql_server.execute(query, name)) == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
    }


def test_mariadb_keeps_its_defaults_for_what_makes_a_commit_safe(mariadb_server: servers.Server, mariadb: str) -> None:
    name = urlsplit(mariadb).path[1:]
    query = "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@default_storage_engine, database()"
    assert mariadb_server.execute(query, name) == [(1, 1, "InnoDB", name)]


@pytest.mark.parametrize("kind", servers.KINDS, ids=lambda kind: kind.kind)
def test_each_database_is_empty_and_gone_afterwards(kind: type[servers.Server], request: pytest.FixtureRequest) -> None:
    server: servers.Server = request.getfixturevalue(f"{kind.kind}_server")
    with server.database() as url:
        name = urlsplit(url).path[1:]
        assert urlsplit(url).hostname == "127.0.0.1"
        server.execute("CREATE TABLE t (a integer)", name)
        with server.database() as other:
            tables = "SELECT table_name FROM information_schema.tables WHERE table_name = 't' AND table_schema = "
            own = "'public'" if kind is servers.PostgreSQL else "database()"
            assert server.execute(tables + own, urlsplit(other).path[1:]) == []
    with pytest.raises(Exception, match=name):
        server.connect(name)


@pytest.mark.parametrize("kind", servers.KINDS, ids=lambda kind: kind.kind)
def test_a_server_ends_with_the_tests_that_started_it(kind: type[servers.Server]) -> None:
    servers.require(kind)
    code = "import servers, time; s = servers.%s(); s.start(); print(s.pid, s.folder, flush=True); time.sleep(600)"
    tests = subprocess.Popen(
        [sys.executable, "-c", code % kind.__name__], cwd=HERE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert tests.stdout is not None
    words = tests.stdout.readline().split()
    tests.stdout.close()
    server = psutil.Process(int(words[0]))
    try:
        own = (server.pid, *(child.pid for child in server.children(recursive=True)))
        tests.kill()
        tests.wait()
        killing.assert_gone(own)
    finally:
        killing.kill(int(words[0]))
        shutil.rmtree(words[1], ignore_errors=True)


@pytest.mark.parametrize(("ci", "word"), [("true", "failed"), ("", "skipped")])
def test_a_missing_server_is_named_and_fails_in_ci(tmp_path: Path, ci: str, word: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "import servers\n"
        "servers.PostgreSQL.binaries = classmethod(lambda cls: None)\n"
        "from importlib import util\n"
        f"spec = util.spec_from_file_location('own', {str(HERE / 'conftest.py')!r})\n"
        "module = util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "globals().update({k: v for k, v in vars(module).items() if not k.startswith('__')})\n"
    )
    (tmp_path / "test_it.py").write_text("def test_it(postgresql):\n    pass\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PostgreSQL is MISSING (apt-get install postgresql)" in run.stdout
    assert f"1 {word}" in run.stdout.replace("1 error", "1 failed")
