"""The client's part for servings: what users do to them, waiting for them, and asking them."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from catchment.client.connection import Connection, answered_error
from catchment.client.reading import reading
from catchment.errors import Refused, RolloutFailed

PAUSE_S = 0.3
ENDED = frozenset({"Promoted", "RolledBack", "Failed"})
ASKS = "AwaitingApproval"


@dataclass(frozen=True)
class Serving:
    """A serving as the server shows it."""

    name: str
    namespace: str
    state: str
    description: str
    replicas: int
    address: str
    traffic: Mapping[str, int]
    """Percent by workload."""
    models: tuple[str, ...]
    """References of the versions that take the traffic."""
    rollout: Mapping[str, Any]
    """The newest, as the server shows it; empty without one."""
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Any) -> Serving:
        """The serving of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("serving"):
            meta, status = document["metadata"], document["status"]
            return cls(
                name=meta["name"],
                namespace=meta["namespace"],
                state=status["state"],
                description=status.get("description") or "",
                replicas=int(status.get("replicas") or 0),
                address=status["address"]["url"],
                traffic=dict(status.get("traffic") or {}),
                models=tuple(each["reference"] for each in status.get("models") or ()),
                rollout=dict(status.get("rollout") or {}),
                document=document,
            )

    @property
    def settled(self) -> bool:
        """Whether no rollout of it is under way."""
        return not self.rollout or self.rollout.get("phase") in ENDED


class Servings:
    """Operations on servings; errors are those of `Client`.

    Args:
        connection: for all requests.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, body: Mapping[str, Any], *, namespace: str = "default") -> str:
        """Create a serving of a SeldonDeployment or the short form; its name."""
        status, headers, content = self._connection.send("POST", _all(namespace), *_as_json(dict(body)))
        if status >= 300:
            raise answered_error(status, content, f"POST {_all(namespace)}")
        return headers.get("location", "").rpartition("/")[2]

    def get(self, name: str, *, namespace: str = "default") -> Serving:
        """A serving as it is now."""
        return Serving.parse(self._connection.json("GET", _one(namespace, name)))

    def list(
        self, *, namespace: str = "default", start: int = 0, limit: int | None = None
    ) -> builtins.list[Serving]:
        """Servings of the namespace, by name."""
        answer = self._connection.json("GET", _all(namespace) + _page(start, limit))
        with reading("list of servings"):
            return [Serving.parse(item) for item in answer["items"]]

    def update(self, name: str, body: Mapping[str, Any], *, namespace: str = "default") -> Serving:
        """Change a serving: another model, or anything else that runs, is rolled out step by step."""
        return Serving.parse(self._connection.json("PUT", _one(namespace, name), dict(body)))

    def delete(self, name: str, *, namespace: str = "default") -> None:
        """Take a serving out of service and remove it."""
        self._connection.json("DELETE", _one(namespace, name))

    def events(
        self, name: str, *, namespace: str = "default", start: int = 0, limit: int | None = None
    ) -> builtins.list[dict[str, Any]]:
        """Its events, oldest first."""
        path = f"{_one(namespace, name)}/events{_page(start, limit)}"
        with reading("list of events"):
            return [dict(each) for each in self._connection.json("GET", path)["items"]]

    def rollouts(
        self, name: str, *, namespace: str = "default", start: int = 0, limit: int | None = None
    ) -> builtins.list[dict[str, Any]]:
        """Its rollouts, newest first."""
        path = f"{_one(namespace, name)}/rollouts{_page(start, limit)}"
        with reading("list of rollouts"):
            return [dict(each) for each in self._connection.json("GET", path)["items"]]

    def rollback(self, name: str, *, to: int | None = None, namespace: str = "default") -> Serving:
        """End the rollout under way, or return to the state of an earlier one (by default the one before)."""
        return self._act(namespace, name, "rollback" + (f"?to={to}" if to is not None else ""))

    def approve(self, name: str, *, namespace: str = "default") -> Serving:
        """Let the rollout that waits for approval go on."""
        return self._act(namespace, name, "approve")

    def reject(self, name: str, *, namespace: str = "default") -> Serving:
        """Roll back the rollout that waits for approval."""
        return self._act(namespace, name, "reject")

    def stop(self, name: str, *, namespace: str = "default") -> Serving:
        """Stop the rollout that is under way; it is rolled back."""
        return self._act(namespace, name, "stop")

    def pods(self, name: str, *, namespace: str = "default") -> builtins.list[dict[str, Any]]:
        """Its model servers as Kubernetes' pods."""
        wanted = urlencode({"filterBy": f"catchment.io/serving={name}"})
        with reading("list of pods"):
            return [
                dict(each) for each in self._connection.json("GET", f"{_pods(namespace)}?{wanted}")["items"]
            ]

    def logs(
        self, pod: str, *, namespace: str = "default", container: str = "", tail: int = 100
    ) -> builtins.list[dict[str, str]]:
        """The last lines of a model server's log as `timestamp` and `content`, oldest first."""
        query: dict[str, str | int] = {"offsetFrom": -max(tail - 1, 0), "offsetTo": 1}
        query |= {"containerID": container} if container else {}
        path = f"{_pods(namespace)}/{_part(pod)}/logs?{urlencode(query)}"
        with reading("log"):
            return list(self._connection.json("GET", path)["logs"])

    def wait(
        self, name: str, *, namespace: str = "default", timeout_s: float = 600.0, approval: bool = False
    ) -> Serving:
        """The serving once no rollout of it is under way and its model servers answer.

        Args:
            name: of the serving.
            namespace: of the serving.
            timeout_s: how long to wait.
            approval: come back also when the rollout waits for a person's word.

        Raises:
            RolloutFailed: the rollout was rolled back or failed, or the time is over; the message says
                where it stands.
            NotFound: there is no such serving, or it was deleted meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.get(name, namespace=namespace)
            phase, told = found.rollout.get("phase", ""), found.rollout.get("message", "")
            if approval and phase == ASKS:
                return found
            if phase in ENDED - {"Promoted"}:
                raise RolloutFailed(f"rollout {found.rollout['number']} of {name} is {phase}: {told}")
            if found.settled and found.state in ("Available", "Failed"):
                if found.state == "Available":
                    return found
                raise RolloutFailed(f"serving {name} is Failed: {found.description}")
            if (left_s := deadline - time.monotonic()) <= 0:
                where = f"its rollout is {phase}: {told}" if phase else f"it is {found.state}"
                raise RolloutFailed(f"serving {name} is not ready after {timeout_s:g} s; {where}")
            time.sleep(min(PAUSE_S, left_s))

    def metadata(self, name: str, *, namespace: str = "default") -> dict[str, Any]:
        """What goes into the served model and what comes out, as the Open Inference Protocol says it."""
        with reading("model's metadata"):
            return dict(self._connection.json("GET", _model(namespace, name)))

    def infer(
        self, name: str, body: bytes, *, json_bytes: int | None = None, namespace: str = "default"
    ) -> dict[str, Any]:
        """One inference through the gateway; the answer's JSON.

        Args:
            name: of the serving.
            body: a request of the Open Inference Protocol.
            json_bytes: where raw tensors follow the JSON in the body: how long that is.
            namespace: of the serving.
        """
        kind = {"Content-Type": "application/json"}
        if json_bytes is not None:
            kind = {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(json_bytes),
            }
        path = _model(namespace, name) + "/infer"
        status, _, content = self._connection.send("POST", path, body, kind)
        if status >= 300:
            raise answered_error(status, content, f"POST {path}")
        with reading("inference"):
            return dict(json.loads(content))

    def _act(self, namespace: str, name: str, action: str) -> Serving:
        return Serving.parse(self._connection.json("PUT", f"{_one(namespace, name)}:{action}"))


def _as_json(body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    content = json.dumps(body, allow_nan=False).encode()
    return content, {"Content-Type": "application/json"}


def _part(name: str) -> str:
    if not name or name in {".", ".."}:
        raise Refused(f"{name!r} is no name")
    return quote(name, safe="")


def _page(start: int, limit: int | None) -> str:
    wanted = {"start": start or None, "limit": limit}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    return f"?{query}" if query else ""


def _all(namespace: str) -> str:
    return f"/api/v1alpha1/namespaces/{_part(namespace)}/servings"


def _one(namespace: str, name: str) -> str:
    return f"{_all(namespace)}/{_part(name)}"


def _pods(namespace: str) -> str:
    return f"/api/v1alpha1/namespaces/{_part(namespace)}/pods"


def _model(namespace: str, name: str) -> str:
    return f"/seldon/{_part(namespace)}/{_part(name)}/v2/models/{_part(name)}"
