"""What `catchment up` looks at before it starts anything: home, database, ports, project, environment."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.errors import SetupError
from catchment.stack import environment
from catchment.stack.home import choose_database, locked, make_home, record_database, store_settings
from catchment.stack.options import StackOptions, is_loopback, site_label
from catchment.stack.ports import claim_port
from catchment.stack.postgres import running_url
from catchment.stack.project import find_project


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server.getsockname()[1]


def make_project(folder: Path) -> Path:
    for name in ("api", "flows"):
        (folder / name).mkdir(parents=True)
    (folder / "prefect.yaml").touch()
    return folder


def test_the_home_is_ours_alone(tmp_path: Path) -> None:
    home = make_home(tmp_path / "a" / "b")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made"):
        make_home(tmp_path / "file" / "home")


def test_one_home_has_one_holder_at_a_time(tmp_path: Path) -> None:
    import os

    with (
        locked(tmp_path),
        pytest.raises(SetupError, match=rf"process {os.getpid()}\) runs on"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_a_new_home_gets_postgres_unless_sqlite_is_asked_for(tmp_path: Path) -> None:
    assert choose_database(tmp_path, sqlite=False) == "postgres"
    assert choose_database(tmp_path, sqlite=True) == "sqlite"


def test_a_home_keeps_its_database(tmp_path: Path) -> None:
    record_database(tmp_path, "sqlite")
    assert choose_database(tmp_path, sqlite=False) == "sqlite"
    record_database(tmp_path, "postgres")
    with pytest.raises(SetupError, match="are in its PostgreSQL"):
        choose_database(tmp_path, sqlite=True)


def test_the_homes_postgres_runs_for_as_long_as_its_settings_are_used(tmp_path: Path) -> None:
    with store_settings(tmp_path) as settings:
        assert running_url(tmp_path / "postgres", "catchment") == settings.database_url
        with store_settings(tmp_path) as again:
            assert again.database_url == settings.database_url
    assert running_url(tmp_path / "postgres", "catchment") is None


def test_a_given_database_is_used_as_it_is(tmp_path: Path) -> None:
    with store_settings(tmp_path, "sqlite:////somewhere/store.db") as settings:
        assert settings.database_url == "sqlite:////somewhere/store.db"


def test_a_taken_port_is_refused_by_the_name_of_its_option(listening: int) -> None:
    with pytest.raises(SetupError, match=rf"port {listening} of 127.0.0.1 is taken.*--api-port"):
        claim_port("127.0.0.1", listening, "--api-port")


def test_port_zero_gives_a_free_one_that_differs(listening: int) -> None:
    first = claim_port("127.0.0.1", 0, "--api-port")
    assert first not in {0, listening}
    assert claim_port("127.0.0.1", 0, "--prefect-port", but=first) != first


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_foreign_address_is_refused(host: str) -> None:
    with pytest.raises(SetupError, match="is no address of this machine"):
        claim_port(host, 0, "--api-port")


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_what_counts_as_this_machine_only(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_addresses_for_others_and_for_ourselves() -> None:
    everywhere = StackOptions(home=Path("/h"), host="0.0.0.0", api_port=1234)
    assert (everywhere.api_url, everywhere.local_api_url) == ("http://0.0.0.0:1234", "http://127.0.0.1:1234")
    six = StackOptions(home=Path("/h"), host="::1", api_port=1)
    assert six.api_url == "http://[::1]:1"
    assert site_label(1) == "127.0.0.1:55051"


def test_the_project_is_found_from_a_folder_inside(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    (project / "docs" / "deep").mkdir(parents=True)
    assert find_project(project / "docs" / "deep", {}) == project


def test_the_project_can_be_named(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    assert find_project(tmp_path, {"CATCHMENT_PROJECT": str(project)}) == project
    with pytest.raises(SetupError, match="CATCHMENT_PROJECT is"):
        find_project(project, {"CATCHMENT_PROJECT": str(tmp_path)})


def test_the_checkout_of_the_package_itself_is_the_last_resort(tmp_path: Path) -> None:
    assert (find_project(tmp_path, {}) / "src" / "catchment").is_dir()


def test_no_process_gets_what_is_not_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {"CATCHMENT_TOKEN": "t", "PREFECT_API_KEY": "k", "PREFECT_API_URL": "http://elsewhere/api"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CATCHMENT_DATABASE_URL", "postgresql://secret@host/db")
    options = StackOptions(home=tmp_path)
    coordinator = environment.for_coordinator(options, tmp_path / "project", "sqlite:///x")
    assert "CATCHMENT_TOKEN" not in coordinator
    assert "PREFECT_API_KEY" not in coordinator
    assert coordinator["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert coordinator["CATCHMENT_DATABASE_URL"] == "sqlite:///x"
    assert coordinator["PYTHONPATH"].split(":")[0] == str(tmp_path / "project")
    assert not [name for name in environment.for_site() if name.startswith(("CATCHMENT_", "PREFECT_"))]


def test_prefect_tells_nobody_and_an_own_database_of_it_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = StackOptions(home=tmp_path, prefect_port=4321)
    server = environment.for_prefect_server(options, "sqlite+aiosqlite:///x")
    assert server["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert server["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4321/api"
    assert server["PREFECT_API_DATABASE_CONNECTION_URL"] == "sqlite+aiosqlite:///x"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://own")
    server = environment.for_prefect_server(options, "sqlite+aiosqlite:///x")
    assert server["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://own"
