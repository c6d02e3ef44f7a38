"""The client's part for ModelJobs: extractions and conversions of versions of models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from catchment.client.connection import Connection, answered_error
from catchment.client.model_job import ModelJob
from catchment.client.reading import reading
from catchment.errors import Refused, Unreachable

PAUSE_S = 0.5
LINES = 5000
"""The server keeps no more lines for one answer."""


class ModelJobs:
    """Operations on ModelJobs; errors are those of `Client`.

    Args:
        connection: for all of them.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, document: Mapping[str, Any] | bytes, *, namespace: str = "default") -> str:
        """Create a ModelJob from its document, or the bytes of one in YAML or JSON; its name.

        Raises:
            Refused: a field is wrong, or there is one of this name.
        """
        raw = document if isinstance(document, bytes) else json.dumps(document, allow_nan=False).encode()
        kind = "application/yaml" if isinstance(document, bytes) else "application/json"
        path = _jobs(namespace)
        status, headers, content = self._connection.send("POST", path, raw, {"Content-Type": kind})
        if status >= 300:
            raise answered_error(status, content, f"POST {path}")
        name = headers.get("location", "").rpartition("/")[2]
        if not name:
            raise Unreachable("the server does not say what the new ModelJob is called")
        return name

    def get(self, name: str, *, namespace: str = "default") -> ModelJob:
        """The ModelJob as it is now."""
        return ModelJob.parse(self._connection.json("GET", _job(namespace, name)))

    def list(
        self,
        *,
        namespace: str = "default",
        label: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> list[ModelJob]:
        """The ModelJobs of a namespace, by name.

        Args:
            namespace: of the ModelJobs.
            label: that must be "true"; `extract` and `convert` for short.
            offset: how many to leave out at first.
            limit: how many at most.
        """
        wanted = {"filter": label, "start": offset or None, "limit": limit}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        answer = self._connection.json("GET", _jobs(namespace) + (f"?{query}" if query else ""))
        with reading("list of ModelJobs"):
            return [ModelJob.parse(item) for item in answer["items"]]

    def delete(self, name: str, *, namespace: str = "default") -> None:
        """Stop a ModelJob and remove it; what it has pushed stays."""
        self._connection.json("DELETE", _job(namespace, name))

    def events(self, name: str, *, namespace: str = "default") -> tuple[Mapping[str, Any], ...]:
        """What has happened to a ModelJob, oldest first, as Kubernetes' events."""
        answer = self._connection.json("GET", _job(namespace, name) + "/events")
        with reading("list of events"):
            return tuple(dict(item) for item in answer["items"])

    def logs(self, name: str, *, namespace: str = "default") -> tuple[Mapping[str, str], ...]:
        """The last lines of what a ModelJob runs in: `timestamp` and `content`."""
        query = urlencode({"reftimestamp": "newest", "offsetFrom": -LINES, "offsetTo": 1})
        path = f"/api/v1alpha1/namespaces/{_part(namespace)}/pods/{_part(name)}/logs?{query}"
        answer = self._connection.json("GET", path)
        with reading("log"):
            return tuple(dict(line) for line in answer["logs"])

    def wait(
        self,
        name: str,
        *,
        namespace: str = "default",
        timeout_s: float = 600.0,
        changed: Callable[[ModelJob], None] | None = None,
    ) -> ModelJob:
        """The ModelJob when it has ended, or as it is after `timeout_s` seconds: then it has not `ended`.

        Args:
            name: of the ModelJob.
            namespace: of the ModelJob.
            timeout_s: how long to wait at most.
            changed: called with the ModelJob at first, and whenever phase or message are others.
        """
        deadline, before = time.monotonic() + timeout_s, ("", "")
        while True:
            found = self.get(name, namespace=namespace)
            if changed is not None and (found.phase, found.message) != before:
                changed(found)
            before = found.phase, found.message
            left = deadline - time.monotonic()
            if found.ended or left <= 0:
                return found
            time.sleep(min(PAUSE_S, left))

    def backends(self) -> tuple[Mapping[str, Any], ...]:
        """What can convert at the server, and whether it is available there."""
        answer = self._connection.json("GET", "/api/v1/conversion/backends")
        with reading("list of backends"):
            return tuple(dict(item) for item in answer["backends"])


def _jobs(namespace: str) -> str:
    return f"/api/v1alpha1/namespaces/{_part(namespace)}/modeljobs"


def _job(namespace: str, name: str) -> str:
    return f"{_jobs(namespace)}/{_part(name)}"


def _part(name: str) -> str:
    if not name or name in {".", ".."}:
        raise Refused(f"{name!r} is no name")
    return quote(name, safe="")
