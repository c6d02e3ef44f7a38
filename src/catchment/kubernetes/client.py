"""A cluster's API: apply, get, list, delete, watch, logs; with deadlines, and errors of Catchment's."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlencode

from catchment.errors import InvalidField, NotFound, Unreachable, WrongState
from catchment.kubernetes import answers
from catchment.kubernetes.kinds import POD, Kind, kind_of
from catchment.kubernetes.opening import LONGEST_CONNECT_S, configuration
from catchment.settings import Settings

FIELD_MANAGER = "catchment"
DEADLINE_S = 15.0
PAGE = 500
LOG_BYTES = 2 << 20
Manifest = Mapping[str, Any]
Found = dict[str, Any]
All = list[Found]
Lines = list[tuple[str, str]]
Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True)
class Change:
    """What a watch tells: "ADDED", "MODIFIED" or "DELETED", and the object as it is, or was last."""

    kind: str
    found: Found


class Cluster:
    """One cluster. Safe from several threads.

    Every method takes `deadline_s`, seconds that the call may take, and raises

    * Unreachable: the cluster does not answer, not in time, or not now (429, 5xx);
    * ClusterRefused: Catchment lacks a login or a right there; it names verb and kind;
    * NotFound: there is no such object, or the cluster does not know its kind;
    * InvalidField: the cluster finds the object wrong, in its own words;
    * WrongState: somebody else owns a field, or was faster.

    Args:
        settings: name the way to the cluster.
        using: a `kubernetes.client.Configuration` instead of the one that the settings name.
    """

    def __init__(self, settings: Settings, using: Any = None) -> None:
        self._configuration = configuration(settings) if using is None else using
        from kubernetes.client import ApiClient

        self._client = ApiClient(self._configuration)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def apply(
        self, manifest: Manifest, namespace: str, *, force: bool = False, deadline_s: float = DEADLINE_S
    ) -> Found:
        """Have the object be as the manifest says, by server-side apply; what others have set stays.

        Fields that an earlier apply named and this one does not are removed.

        Args:
            manifest: with apiVersion, kind and metadata.name; no field that is nobody's business of ours.
            namespace: that it is in.
            force: take over fields of the manifest that somebody else has set to other values.
            deadline_s: see the class.
        """
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        return self._ask(
            "PATCH",
            kind,
            namespace,
            name,
            query=query,
            body=manifest,
            content="application/apply-patch+yaml",
            deadline_s=deadline_s,
        )

    def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Manifest,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> Found:
        """Change parts of an object's status by strategic merge: conditions are merged by their type."""
        answer = self._send(
            "PATCH",
            kind,
            namespace,
            name,
            "status",
            body={"status": status},
            content="application/strategic-merge-patch+json",
            deadline_s=deadline_s,
            verb="patch the status of",
        )
        return dict(answers.status(_read(answer)))

    def create(self, manifest: Manifest, namespace: str, *, deadline_s: float = DEADLINE_S) -> Found:
        """A new object. Raises AlreadyExists besides."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._ask(
            "POST", kind_of(manifest), namespace, query=query, body=manifest, deadline_s=deadline_s
        )

    def get(self, kind: Kind, namespace: str, name: str, *, deadline_s: float = DEADLINE_S) -> Found:
        """An object, or NotFound."""
        return self._ask("GET", kind, namespace, name, deadline_s=deadline_s)

    def find(self, kind: Kind, namespace: str, name: str, *, deadline_s: float = DEADLINE_S) -> Found | None:
        """An object, or None."""
        try:
            return self.get(kind, namespace, name, deadline_s=deadline_s)
        except NotFound:
            return None

    def list(self, kind: Kind, namespace: str, labels: str = "", *, deadline_s: float = DEADLINE_S) -> All:
        """All objects of a kind that a label selector fits, in pages."""
        return self.list_with_version(kind, namespace, labels, deadline_s=deadline_s)[0]

    def list_with_version(
        self, kind: Kind, namespace: str, labels: str = "", *, deadline_s: float = DEADLINE_S
    ) -> tuple[All, str]:
        """The same, and the resourceVersion that a watch goes on from."""
        until = time.monotonic() + deadline_s
        query = {"labelSelector": labels, "limit": str(PAGE)}
        found: All = []
        while True:
            left_s = max(until - time.monotonic(), 0.001)
            page = self._ask("GET", kind, namespace, query=query, deadline_s=left_s, verb="list")
            found += page["items"]
            going_on = page["metadata"].get("continue")
            if not going_on:
                # Items of a list carry neither; as objects they do.
                named = {"apiVersion": kind.api_version, "kind": kind.kind}
                return [{**named, **each} for each in found], page["metadata"]["resourceVersion"]
            query["continue"] = going_on

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        propagation: Propagation = "Background",
        *,
        uid: str = "",
        version: str = "",
        deadline_s: float = DEADLINE_S,
    ) -> bool:
        """Delete an object and what belongs to it; False when it was not there.

        Args:
            kind, namespace, name, propagation: what is deleted, and how.
            uid: of the one that is meant; another one that was made under its name since then stays, and
                the one that is meant is not there.
            version: the resourceVersion that it must still have; WrongState where it has another.
            deadline_s: see the class.
        """
        wanted = {"uid": uid, "resourceVersion": version}
        wanted = {key: value for key, value in wanted.items() if value}
        body = {"propagationPolicy": propagation} | ({"preconditions": wanted} if wanted else {})
        try:
            self._ask("DELETE", kind, namespace, name, body=body, deadline_s=deadline_s)
        except NotFound:
            return False
        except WrongState:
            if version or not uid:
                raise
            return False
        return True

    def watch(
        self, kind: Kind, namespace: str, labels: str = "", *, since: str = "", deadline_s: float
    ) -> Iterator[Change]:
        """What changes, until the deadline; then, or when `since` is too old, the iterator ends: list again.

        Args:
            kind, namespace, labels: what is watched.
            since: a resourceVersion; empty: what is there comes first, as ADDED.
            deadline_s: see the class.
        """
        until = time.monotonic() + deadline_s
        seconds = str(max(1, int(deadline_s)))
        query = {
            "watch": "true",
            "labelSelector": labels,
            "resourceVersion": since,
            "timeoutSeconds": seconds,
        }
        answer = self._send("GET", kind, namespace, query=query, deadline_s=deadline_s + 2, verb="watch")
        buffered = b""
        try:
            for piece in answer.stream(65536):
                *lines, buffered = (buffered + piece).split(b"\n")
                for line in filter(None, lines):
                    told = json.loads(line)
                    if told["type"] == "ERROR":
                        return
                    if told["type"] != "BOOKMARK":
                        yield Change(told["type"], told["object"])
                if time.monotonic() > until:
                    return
        except Exception as problem:
            if not _is_transport(problem):
                raise
            if time.monotonic() < until:
                raise Unreachable(f"the watch of {kind.words} broke: {problem}") from problem
        finally:
            answer.close()

    def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        tail: int | None = None,
        previous: bool = False,
        deadline_s: float = DEADLINE_S,
    ) -> Lines:
        """The last lines of a container's log as (RFC 3339 time, text), oldest first; [] before it started.

        Raises:
            NotFound: no such pod, or no such container in it.
        """
        query = {"container": container, "timestamps": "true", "limitBytes": str(LOG_BYTES)}
        query |= {"previous": "true"} if previous else {}
        query |= {} if tail is None else {"tailLines": str(tail)}
        try:
            answer = self._send(
                "GET", POD, namespace, pod, "log", query=query, deadline_s=deadline_s, verb="get the log of"
            )
            text = _read(answer)
        except InvalidField as problem:
            if "waiting to start" in problem.problem or "previous terminated" in problem.problem:
                return []
            raise NotFound(problem.problem) from problem
        lines = [line.partition(" ") for line in text.decode(errors="replace").splitlines()]
        return [(at, line) for at, _, line in lines]

    def _ask(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        *,
        deadline_s: float,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        verb: str = "",
    ) -> Found:
        answer = self._send(
            method,
            kind,
            namespace,
            name,
            query=query,
            body=body,
            content=content,
            deadline_s=deadline_s,
            verb=verb,
        )
        data = _read(answer)
        told = answers.status(data)
        if not told:
            raise Unreachable(f"the cluster's answer is no JSON object: {data[:100]!r}")
        return dict(told)

    def _send(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        subresource: str = "",
        *,
        deadline_s: float,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        verb: str = "",
    ) -> Any:
        """The answer, its body unread. Raises the errors of every method."""
        asked = verb or answers.VERBS[method]
        kept = {key: value for key, value in (query or {}).items() if value}
        path = kind.path(namespace, name, subresource) + (f"?{urlencode(kept)}" if kept else "")
        headers = {"Accept": "application/json", "User-Agent": "catchment"}
        if method not in ("GET",):
            headers["Content-Type"] = content
        # Asked anew each time: tokens of pods are renewed in their files.
        headers |= {each["key"]: each["value"] for each in self._configuration.auth_settings().values()}
        limits = (min(LONGEST_CONNECT_S, deadline_s), deadline_s)
        try:
            answer = self._client.call_api(
                method, self._configuration.host + path, headers, body, _request_timeout=limits
            ).response
            if 200 <= answer.status < 300:
                return answer
            data = _read(answer)
        except Exception as problem:
            if not _is_transport(problem):
                raise
            raise Unreachable(f"the cluster does not answer to {asked} {kind.words}: {problem}") from problem
        raise answers.error(answer.status, data, asked, kind, namespace)


def _read(answer: Any) -> bytes:
    with contextlib.closing(answer):
        try:
            return bytes(answer.data)
        except Exception as problem:
            if not _is_transport(problem):
                raise
            raise Unreachable(f"the cluster's answer broke off: {problem}") from problem


def _is_transport(problem: Exception) -> bool:
    """Whether the connection is what failed, in the words of the package's transport."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    return isinstance(problem, (HTTPError, OSError, ApiException))
