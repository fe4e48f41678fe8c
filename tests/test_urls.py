"""Database URLs that people mistype, or whose options a driver does not take: one line that says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
import servers
import tools

from ingest.settings import database_url
from ingest.targets import target_for
from ingest.targets.sqlite import SQLiteTarget

OPTIONS = {
    "mariadb": (
        "nonsense=1",
        "ssl_ca=/none",
        "ssl=true",
        "connect_timeout=0",
        "connect_timeout=abc",
        "read_timeout=0",
        "client_flag=abc",
    ),
    "postgresql": ("nonsense=1", "prepare_threshold=x", "row_factory=x"),
}


@pytest.mark.parametrize(("kind", "option"), [(kind, one) for kind, options in OPTIONS.items() for one in options])
def test_an_option_that_the_driver_does_not_take_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, option: str
) -> None:
    tools.orders(tmp_path / "orders.csv", 3)
    for command in ("load", "plan"):
        url = f"{request.getfixturevalue(kind)}?{option}"
        done = tools.ingest(command, "orders.csv", "--to", url, cwd=tmp_path)
        assert done.returncode == 10, done.stderr
        name, _, value = option.partition("=")
        assert "cannot be opened: " in done.stderr
        assert name in done.stderr.partition("cannot be opened: ")[2]
        assert "internal error" not in done.stderr
        assert servers.PASSWORD not in done.stderr
        assert len(value) == 1 or value not in done.stderr


def test_options_that_do_not_go_together_are_named(tmp_path: Path, postgresql: str) -> None:
    done = tools.ingest("status", "--to", f"{postgresql}?host=h1&host=h2&port=1&port=2", cwd=tmp_path)
    assert done.returncode == 10
    assert "psycopg does not take one of the options host, port as it is written" in done.stderr
    assert servers.PASSWORD not in done.stderr


def test_an_option_not_to_connect_is_not_for_us(tmp_path: Path, mariadb: str) -> None:
    tools.orders(tmp_path / "orders.csv", 3)
    done = tools.ingest("load", "orders.csv", "--to", f"{mariadb}?defer_connect=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


MISTYPED = {
    "postgresql:/u:secret@h/d": "postgresql://user:password@host/database",
    "postgresql//u:secret@h/d": "postgresql://user:password@host/database",
    "postgresql:u:secret@h/d": "postgresql://user:password@host/database",
    "postgresql+psycopg:/u:secret@h/d": "postgresql://user:password@host/database",
    "MariaDB:/u:secret@h/d": "mariadb://user:password@host/database",
    "u:secret@h/d": "postgresql://user:password@host/database",
    "u:secret@h": "postgresql://user:password@host/database",
    "sqlite:/secret.db": "sqlite:///loaded.db",
}


@pytest.mark.parametrize("url", MISTYPED)
def test_a_url_with_too_few_slashes_is_not_taken_for_a_file(tmp_path: Path, url: str) -> None:
    tools.orders(tmp_path / "orders.csv", 3)
    done = tools.ingest("plan", "orders.csv", "--to", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"Write {MISTYPED[url]}, or ./NAME" in done.stderr
    assert "secret" not in done.stderr
    assert tools.ingest("plan", "orders.csv", cwd=tmp_path, INGEST_DATABASE_URL=url).stderr == done.stderr


@pytest.mark.parametrize("name", ["mysql.db", "a@b.db", "12:30.db", "./u:pw@h.db", "to/a:b@c.db", "there:x@y.db"])
def test_a_file_of_an_odd_name_is_one_all_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "there:x@y.db").touch()
    tools.orders(tmp_path / "orders.csv", 3)
    assert tools.ingest("load", "orders.csv", "--to", name, cwd=tmp_path).returncode == 0
    assert tools.query(tmp_path / name, "SELECT count(*) FROM orders") == [(3,)]


def test_a_server_that_is_down_is_told_in_one_line(tmp_path: Path) -> None:
    for url in ("postgresql://u:secret@127.0.0.1:1/d", "mariadb://u:secret@127.0.0.1:1/d"):
        done = tools.ingest("status", "--to", url, cwd=tmp_path)
        assert done.returncode == 10
        assert "Connection refused" in done.stderr
        assert "\\" not in done.stderr
        assert "\t" not in done.stderr
        assert "secret" not in done.stderr


@pytest.mark.parametrize("name", ["a?b.db", "a%20b.db", "a%.db", "a#b c.db", "ü@x.db"])
def test_a_path_is_the_file_of_that_name(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    target = target_for(database_url(path))
    assert isinstance(target, SQLiteTarget)
    assert target.path == path
    again = target_for(database_url(target.label))  # as hints write it
    assert isinstance(again, SQLiteTarget)
    assert again.path == path
