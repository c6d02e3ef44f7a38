"""The figures of a process that serves nothing else."""

from __future__ import annotations

import httpx
import pytest

from catchment.errors import SetupError
from catchment.observe.endpoint import Endpoint


def test_it_answers_this_machines_programs_and_nothing_else() -> None:
    with Endpoint(0, lambda: "catchment_x 1\n") as served:
        url = f"http://127.0.0.1:{served.port}"
        answer = httpx.get(f"{url}/metrics", timeout=10)
        assert (answer.status_code, answer.text) == (200, "catchment_x 1\n")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert httpx.get(f"{url}/", timeout=10).status_code == 404
        foreign = httpx.get(f"{url}/metrics", headers={"Host": "evil.example"}, timeout=10)
        assert foreign.status_code == 403
        assert httpx.post(f"{url}/metrics", timeout=10).status_code == 501
        for host in ("localhost", f"localhost:{served.port}", "[::1]:80"):
            assert httpx.get(f"{url}/metrics", headers={"Host": host}, timeout=10).status_code == 200


def test_a_port_that_is_taken_is_told() -> None:
    with Endpoint(0, str) as served, pytest.raises(SetupError, match=str(served.port)):
        Endpoint(served.port, str)


def test_it_is_gone_when_it_is_closed() -> None:
    with Endpoint(0, str) as served:
        pass
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{served.port}/metrics", timeout=5)
