"""A client of the REST API, with nothing but the standard library behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from catchment.client.connection import Connection
from catchment.client.events import EventStream, LogPage
from catchment.client.model_jobs import ModelJobs
from catchment.client.models import Models
from catchment.client.results import Job, Namespace, Round, Site, Version, listed
from catchment.client.retraining import Retraining
from catchment.client.servings import Servings
from catchment.errors import NotFound, Refused, Unreachable

LOG_PAGE = 1000
TRANSFER_S = 120.0
"""How long a transfer may stand still; the server checks a large file before it answers its last part."""
QUIET_S = 45.0
"""A stream that is silent for so long is dead: the server says something three times as often."""
PAGE = 500
"""Jobs per request while a list is read."""


class Client:
    """All operations of the API on one server; a context manager that closes its connection.

    Every method raises `Unreachable` when the server does not answer, `Unauthorized` without a
    valid token where one is needed, `NotFound` and `Refused` with the server's own reason.

    Args:
        server: address such as "http://127.0.0.1:8080".
        token: bearer token; None where the server asks for none.
        timeout_s: how long one answer may take.
        ca_file: certificates (PEM) that the server's is checked against; None: the system's.
        insecure_http: send the token to another machine also without TLS.

    Raises:
        Refused: the address is none, or the token would travel in plain text to another machine.
        SetupError: `ca_file` cannot be used.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        ca_file: Path | None = None,
        insecure_http: bool = False,
    ) -> None:
        self._connection = Connection(server, token, timeout_s, ca_file=ca_file, insecure_http=insecure_http)
        self._connect = partial(Connection, server, token, ca_file=ca_file, insecure_http=insecure_http)
        self.server = self._connection.server
        self.models = Models(self._connection, partial(self._connect, TRANSFER_S))
        """Models: create, push, pull, list, look at, update and delete their versions."""
        self.model_jobs = ModelJobs(self._connection)
        """ModelJobs: create, list, look at, wait for and delete them; which backends convert."""
        self.servings = Servings(self._connection)
        """Servings: create, change, watch, roll back and ask them."""
        self.retraining = Retraining(self._connection)
        """Retraining: start it, see how it goes, stop it."""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # Jobs

    def create_job(self, namespace: str, job: Mapping[str, Any], *, start: bool = False) -> None:
        """Create the job, and start it when `start` is set."""
        query = "?start=true" if start else ""
        try:
            self._connection.json("POST", _jobs(namespace) + query, dict(job))
        except Refused as error:
            # The document has one status for all refusals of this operation.
            self._raise_not_found(f"/api/v1/namespaces/{_part(namespace)}", error)
            raise

    def update_job(self, namespace: str, job_id: str, job: Mapping[str, Any]) -> None:
        """Replace the job's specification; refused while it runs."""
        self._change("PUT", namespace, job_id, dict(job))

    def start_job(self, namespace: str, job_id: str, *, fresh: bool = False) -> None:
        """Start the job: at its last committed round after a failure or a stop; nothing when it runs.

        With `fresh` it starts over, in a new run.
        """
        self._change("PUT", namespace, job_id, action=":start?fresh=true" if fresh else ":start")

    def stop_job(self, namespace: str, job_id: str) -> None:
        """Ask the job to stop; it is STOPPED a moment later."""
        self._change("PUT", namespace, job_id, action=":stop")

    def delete_job(self, namespace: str, job_id: str) -> None:
        """Stop the job and remove it with all that it made; fine when it is not there."""
        self._connection.json("DELETE", _job(namespace, job_id))

    def get_job(self, namespace: str, job_id: str) -> Job:
        """The job as it is now."""
        return Job.parse(self._connection.json("GET", _job(namespace, job_id)))

    def list_jobs(
        self, namespace: str, *, state: str | None = None, offset: int = 0, limit: int | None = None
    ) -> list[Job]:
        """Jobs of the namespace in the server's order, one request."""
        query = _query({"state": state, "offset": offset or None, "limit": limit})
        answer = self._connection.json("GET", _jobs(namespace) + query)
        return [Job.parse(item) for item in listed(answer, "jobs")]

    def all_jobs(self, namespace: str, *, state: str | None = None) -> Iterator[Job]:
        """All jobs of the namespace, read page by page."""
        offset = 0
        while True:
            page = self.list_jobs(namespace, state=state, offset=offset, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            offset += len(page)

    def rounds(self, namespace: str, job_id: str, *, run: int | None = None) -> list[Round]:
        """All attempts at the rounds of one run, oldest first; `run` None: the latest run."""
        query = f"?run={run}" if run is not None else ""
        answer = self._connection.json("GET", _job(namespace, job_id) + f"/rounds{query}")
        return [Round.parse(item) for item in listed(answer, "rounds")]

    def job_logs(
        self,
        namespace: str,
        job_id: str,
        *,
        after: int | None = None,
        limit: int = LOG_PAGE,
        round_number: int | None = None,
        site: str | None = None,
    ) -> LogPage:
        """Lines of the job's log, newest last: the newest ones, or the next ones after a number."""
        wanted = {"after": after, "limit": limit, "round": round_number, "site": site}
        answer = self._connection.json("GET", _job(namespace, job_id) + "/logs" + _query(wanted))
        return LogPage.parse(answer)

    def log_events(
        self,
        namespace: str,
        job_id: str,
        *,
        after: int = 0,
        round_number: int | None = None,
        site: str | None = None,
    ) -> EventStream:
        """The job's log as a stream on a connection of its own; to be closed."""
        query = _query({"round": round_number, "site": site})
        path = _job(namespace, job_id) + "/logs" + query
        return EventStream(self._connect(QUIET_S), path, after)

    # Namespaces

    def create_namespace(self, name: str) -> None:
        """Create the namespace; fine when it is there."""
        self._connection.json("PUT", f"/api/v1/namespaces/{_part(name)}")

    def list_namespaces(self) -> list[Namespace]:
        """All namespaces."""
        answer = self._connection.json("GET", "/api/v1/namespaces")
        return [Namespace.parse(item) for item in listed(answer, "namespaces")]

    def get_namespace(self, name: str) -> Namespace:
        """The namespace."""
        return Namespace.parse(self._connection.json("GET", f"/api/v1/namespaces/{_part(name)}"))

    def delete_namespace(self, name: str) -> None:
        """Delete the namespace; refused while it has jobs."""
        self._connection.json("DELETE", f"/api/v1/namespaces/{_part(name)}")

    # The system

    def list_sites(self) -> list[Site]:
        """All sites that have registered, by name."""
        sites = [Site.parse(item) for item in listed(self._connection.json("GET", "/api/v1/sites"), "sites")]
        return sorted(sites, key=lambda site: site.name)

    def version(self) -> Version:
        """What runs at the server."""
        answer = self._connection.json("GET", "/api/v1/version")
        if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
            raise Unreachable(f"{self.server} names no version; is that a Catchment server?")
        return Version(answer["version"], str(answer.get("prefect_ui") or ""), answer)

    def healthy(self) -> bool:
        """Whether the server's process answers; False instead of an error."""
        return self._says_yes("/api/v1/health")

    def ready(self) -> bool:
        """Whether the server and what it needs answer; False instead of an error."""
        return self._says_yes("/readyz")

    def _says_yes(self, path: str) -> bool:
        try:
            status, _ = self._connection.request("GET", path)
        except Unreachable:
            return False
        return status == 200

    def _change(
        self, method: str, namespace: str, job_id: str, body: object = None, *, action: str = ""
    ) -> None:
        path = _job(namespace, job_id)
        try:
            self._connection.json(method, path + action, body)
        except Refused as error:
            self._raise_not_found(path, error)
            raise

    def _raise_not_found(self, path: str, refused: Refused) -> None:
        """Turn the document's 403 for things that are not there into what it is."""
        status, _ = self._connection.request("GET", path)
        if status == 404:
            raise NotFound(str(refused)) from None


def _query(wanted: Mapping[str, str | int | None]) -> str:
    given = urlencode({key: value for key, value in wanted.items() if value is not None})
    return f"?{given}" if given else ""


def _part(name: str) -> str:
    """A name as one segment of a path; a dot alone would be taken for a folder."""
    if not name or name in {".", ".."}:
        raise Refused(f"{name!r} is no name")
    return quote(name, safe="")


def _jobs(namespace: str) -> str:
    return f"/api/v1/namespaces/{_part(namespace)}/jobs"


def _job(namespace: str, job_id: str) -> str:
    return f"{_jobs(namespace)}/{_part(job_id)}"
