"""The client's part for retraining: start a run, see how it goes, stop it, wait for its end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from catchment.client.connection import Connection, answered_error
from catchment.client.reading import reading
from catchment.errors import Refused, Unreachable

PAUSE_S = 0.5
ENDED = frozenset({"completed", "failed", "crashed", "cancelled"})


class Retraining:
    """Operations on runs of retraining; errors are those of `Client`.

    Args:
        connection: for all requests.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, plan: Mapping[str, Any], *, namespace: str = "default", key: str | None = None) -> str:
        """Start a run; its id. The same `key` again gives the same run and makes no other."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key} if key is not None else {}
        body = json.dumps(dict(plan), allow_nan=False).encode()
        status, _, content = self._connection.send("POST", _all(namespace), body, headers)
        if status >= 300:
            raise answered_error(status, content, f"POST {_all(namespace)}")
        with reading("run"):
            return str(json.loads(content)["id"])

    def get(self, run: str, *, namespace: str = "default") -> dict[str, Any]:
        """How a run goes, or went: `state`, `message`, and what it has made so far in `steps`."""
        with reading("run"):
            return dict(self._connection.json("GET", _one(namespace, run)))

    def stop(self, run: str, *, namespace: str = "default") -> None:
        """Stop a run, and what it works on just now."""
        self._connection.json("PUT", f"{_one(namespace, run)}:stop")

    def wait(self, run: str, *, namespace: str = "default", timeout_s: float = 86_400.0) -> dict[str, Any]:
        """A run once it has ended.

        Raises:
            Unreachable: it goes on after this time; the message says where it stands.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self.get(run, namespace=namespace))["state"] not in ENDED:
            if (left_s := deadline - time.monotonic()) <= 0:
                told = found.get("message") or found["state"]
                raise Unreachable(f"run {run} goes on after {timeout_s:g} s: {told}")
            time.sleep(min(PAUSE_S, left_s))
        return found


def _part(name: str) -> str:
    if not name or name in {".", ".."}:
        raise Refused(f"{name!r} is no name")
    return quote(name, safe="")


def _all(namespace: str) -> str:
    return f"/api/v1/namespaces/{_part(namespace)}/retrain"


def _one(namespace: str, run: str) -> str:
    return f"{_all(namespace)}/{_part(run)}"
