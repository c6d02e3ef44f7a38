"""The few requests to Kubernetes that a site's agent needs: make a Job, look at its pod, delete it.

With the agent's own HTTP connection and the files that Kubernetes mounts: a site needs no further package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from catchment.errors import NotFound, SetupError, SiteError, Unreachable
from catchment.site.http import Connection, Endpoint
from catchment.tls.contexts import client_context

Found = dict[str, Any]
MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWERS_S = 10.0
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ClusterAccess:
    """Where the cluster's API is, and how the agent shows who it is.

    Attributes:
        url: https://host:port.
        folder: with `token`, which Kubernetes renews, `ca.crt` and `namespace`.
    """

    url: str
    folder: Path = MOUNTED

    @classmethod
    def of_this_pod(
        cls, folder: Path | None = None, environ: Mapping[str, str] = os.environ
    ) -> ClusterAccess:
        """What a pod finds in itself.

        Raises:
            SetupError: it is no pod, or has no service account's token.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        access = cls(
            f"https://[{host}]:{port}" if host and ":" in host else f"https://{host}:{port}",
            folder or MOUNTED,
        )
        missing = [name for name in ("token", "ca.crt", "namespace") if not (access.folder / name).is_file()]
        if not host or not port or missing:
            raise SetupError(
                "--executor kubernetes works in a pod whose service account's token is mounted: "
                f"KUBERNETES_SERVICE_HOST and _PORT, and {access.folder} with token, ca.crt and namespace"
            )
        return access

    @property
    def namespace(self) -> str:
        """The agent's own namespace, which the pods are in, too."""
        return (self.folder / "namespace").read_text().strip()


class Jobs:
    """The Jobs of the agent's namespace. Methods raise Unreachable when the cluster does not answer within
    seconds, and SiteError, in the cluster's words, when it refuses."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        space = access.namespace
        self._jobs = f"/apis/batch/v1/namespaces/{space}/jobs"
        self._pods = f"/api/v1/namespaces/{space}/pods"
        self._tls = client_context(access.folder / "ca.crt")

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Make a Job. One of that name that is there already comes from a request whose answer was lost."""
        query = urlencode({"fieldManager": "catchment-site", "fieldValidation": "Strict"})
        self._ask("POST", f"{self._jobs}?{query}", manifest, allowed=(409,))

    def pod(self, job: str) -> Found | None:
        """The Job's pod as it is now; None when there is none."""
        query = urlencode({"labelSelector": f"batch.kubernetes.io/job-name={job}"})
        items = self._ask("GET", f"{self._pods}?{query}")["items"]
        return dict(items[0]) if items else None

    def named(self, labels: Mapping[str, str]) -> list[str]:
        """Names of the Jobs with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        items = self._ask("GET", f"{self._jobs}?{urlencode({'labelSelector': selector})}")["items"]
        return [str(item["metadata"]["name"]) for item in items]

    def delete(self, job: str) -> None:
        """Delete a Job with its pod, whose processes get SIGTERM first; one that is gone is no error."""
        self._ask("DELETE", f"{self._jobs}/{job}", {"propagationPolicy": "Background"}, allowed=(404,))

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> Found:
        token = (self._access.folder / "token").read_text().strip()
        connection = Connection(Endpoint(self._access.url, token, self._tls))
        try:
            data = b"" if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"} if data else {}
            response = connection.request(method, path, data, headers, timeout_s=ANSWERS_S)
            answer = _read(response.read(_MOST_BYTES))
        finally:
            connection.close()
        if response.status < 300 or response.status in allowed:
            return answer
        words = (
            f"the cluster answers {response.status} to {method} of {path.partition('?')[0]}: {_said(answer)}"
        )
        if response.status == 429 or response.status >= 500:
            raise Unreachable(words)
        raise NotFound(words) if response.status == 404 else SiteError(words)


def _read(data: bytes) -> Found:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {"message": data[:500].decode(errors="replace")}
    return found if isinstance(found, dict) else {}


def _said(answer: Found) -> str:
    return str(answer.get("message", "nothing more is said"))[:500]
