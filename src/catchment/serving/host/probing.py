"""Questions to a model server: is it ready, does it live."""

from __future__ import annotations

import http.client

from catchment.serving.host.launching import HOST


def answers(port: int, path: str, timeout_s: float) -> bool:
    """Whether GET of `path` is answered 200 in time. A redirect, a reset or silence is a no."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_ready(port: int, timeout_s: float) -> bool:
    """Whether it takes inferences."""
    return answers(port, "/v2/health/ready", timeout_s)


def is_live(port: int, timeout_s: float) -> bool:
    """Whether its event loop turns."""
    return answers(port, "/v2/health/live", timeout_s)
