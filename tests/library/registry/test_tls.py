"""TLS to registries: one's own authority, and nothing without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import SetupError, Unreachable
from catchment.registry.session import Session
from tests.library.registry.conftest import IMPATIENT
from tests.registry_servers import Server

needs_registry = pytest.mark.needs("docker-registry")


@needs_registry
def test_a_certificate_of_an_unknown_authority_is_refused(start_server: Callable[[str], Server]) -> None:
    session = Session(start_server("tls").host, patience=IMPATIENT)
    with pytest.raises(Unreachable, match=r"is not who it says it is.*--ca-file"):
        session.request("GET", "/v2/", (), "asking")
    session.close()


@needs_registry
def test_tls_is_not_left_for_http(start_server: Callable[[str], Server]) -> None:
    server = start_server("tls")
    session = Session(server.host, ca_file=server.ca_file, patience=IMPATIENT)
    assert session.base() == f"https://{server.host}"
    # As a registry says it that does not know of the proxy before it.
    assert session.absolute(f"http://{server.host}/v2/x") == f"https://{server.host}/v2/x"
    assert session.absolute("http://elsewhere.example.org/x") == "http://elsewhere.example.org/x"
    session.close()


def test_an_authority_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SetupError, match=r"ca\.pem"):
        Session("registry.example.org", ca_file=tmp_path / "ca.pem")
