"""`catchment tls`, and the options that decide how a server is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from catchment.client import Client
from catchment.errors import Refused
from catchment.tls.contexts import server_context
from tests.certificates import authority
from tests.library.client.server import TableServer

Command = Callable[..., Result]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[TableServer]:
    made = authority(tmp_path / "tls")
    running = TableServer(server_context(made.server.certificate, made.server.key))
    running.answers["GET /api/v1/sites"] = (200, {"sites": []})
    yield running
    running.close()


def test_certificates_are_made_added_and_renewed(command: Command, tmp_path: Path) -> None:
    folder = ("--dir", str(tmp_path / "tls"))
    made = command("tls", "init", *folder, "--name", "flock.example", "--site", "site-1")
    assert made.exit_code == 0
    assert "keep" in made.stderr
    assert {path.relative_to(tmp_path / "tls").as_posix() for path in tmp_path.rglob("*.*")} == {
        *("ca.pem", "ca.key", "server.pem", "server.key", "sites/site-1.pem", "sites/site-1.key")
    }
    again = command("tls", "init", *folder)
    assert (again.exit_code, "never replaced" in again.stderr) == (1, True)
    assert command("tls", "site", *folder, "site-2", "site-3").exit_code == 0
    assert "renew it instead" in command("tls", "site", *folder, "site-2").stderr
    before = (tmp_path / "tls" / "server.pem").read_bytes()
    assert command("tls", "renew", *folder, "--server", "--name", "more.example").exit_code == 0
    assert (tmp_path / "tls" / "server.pem").read_bytes() != before
    assert command("tls", "renew", *folder, "--site", "site-2").exit_code == 0
    assert command("tls", "renew", *folder).exit_code == 2
    assert command("tls", "renew", *folder, "--site", "site-2", "--name", "x").exit_code == 2
    assert command("tls", "renew", *folder, "--site", "site-9").exit_code == 3


def test_a_server_is_checked_against_the_given_authority(
    command: Command, secure: TableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATCHMENT_SERVER", secure.url)
    refused = command("sites")
    assert refused.exit_code == 4
    assert "is not who it says it is" in refused.stderr
    ca_file = str(tmp_path / "tls" / "ca.pem")
    assert command("sites", "--ca-file", ca_file).exit_code == 0
    monkeypatch.setenv("CATCHMENT_CA_FILE", ca_file)
    assert command("sites").exit_code == 0
    assert command("sites", "--ca-file", str(tmp_path / "none.pem")).exit_code == 1


def test_a_token_is_not_sent_in_plain_text_to_another_machine(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATCHMENT_TOKEN", "catchment_1_secret")
    refused = command("sites", "--server", "http://192.0.2.1:8080")
    assert refused.exit_code == 1
    assert "would carry the bearer token in plain text" in refused.stderr
    assert "catchment_1_secret" not in refused.stderr
    with pytest.raises(Refused, match="plain text"):
        Client("http://flock.example", "token")
    Client("http://flock.example", "token", insecure_http=True).close()
    Client("http://flock.example").close()
    Client("http://localhost:8080", "token").close()
