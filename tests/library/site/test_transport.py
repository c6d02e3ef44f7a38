"""How an agent may reach its coordinator: refused before it dials."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from catchment.cli.site import site
from catchment.site.http import Endpoint
from catchment.tls.authority import Authority
from tests.certificates import authority

TOKEN = "catchment_1_secret"


@pytest.fixture
def tls(tmp_path: Path) -> Authority:
    return authority(tmp_path / "tls", "site-1")


def start(tmp_path: Path, server: str, *more: str, token: bool = True) -> str:
    """What is said when the agent does not start; its address cannot be dialled."""
    (tmp_path / "token").write_text(TOKEN)
    home = ["--name", "site-1", "--server", server, "--home", str(tmp_path / "home")]
    credential = ["--token-file", str(tmp_path / "token")] if token else []
    # Two option values that are refused last: the agent never runs here.
    done = CliRunner().invoke(site, ["start", *home, *credential, *more, "--gpu", "1000"])
    assert done.exit_code == 2
    return done.output


@pytest.mark.parametrize(
    "server", ["http://10.0.0.1:8080", "http://coordinator.example", "http://[fd00::1]:80"]
)
def test_a_token_is_not_sent_in_plain_text_to_another_machine(tmp_path: Path, server: str) -> None:
    said = start(tmp_path, server)
    assert "would carry the bearer token in plain text" in said
    assert TOKEN not in said
    assert "this machine shows" in start(tmp_path, server, "--insecure-http")
    assert "this machine shows" in start(tmp_path, server, token=False)
    assert "this machine shows" in start(tmp_path, server.replace("http:", "https:"))


@pytest.mark.parametrize("server", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"])
def test_on_this_machine_it_may_be(tmp_path: Path, server: str) -> None:
    assert "this machine shows" in start(tmp_path, server)


def test_certificates_are_checked_at_the_start(tmp_path: Path, tls: Authority) -> None:
    pair, url = tls.site("site-1"), "https://coordinator.example"
    cert, key, ca = str(pair.certificate), str(pair.key), str(tls.ca.certificate)
    good = ("--client-cert", cert, "--client-key", key)
    assert "this machine shows" in start(tmp_path, url, *good, "--ca-file", ca)
    assert "need each other" in start(tmp_path, url, "--client-cert", cert)
    assert "need each other" in start(tmp_path, url, "--client-key", key)
    assert "over http nobody asks for it" in start(tmp_path, "http://127.0.0.1", *good)
    said = start(tmp_path, url, "--client-cert", cert, "--client-key", str(tls.server.key))
    assert "cannot use the certificate and key in" in said
    assert "cannot use the certificates in" in start(tmp_path, url, "--ca-file", key)


def test_an_endpoint_without_files_uses_the_systems_roots() -> None:
    assert Endpoint("https://coordinator.example").context() is None
