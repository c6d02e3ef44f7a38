"""The command lines of the stack's processes, and how each says that it is ready."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from catchment.client import Client
from catchment.errors import CatchmentError
from catchment.serving.topics import HOST_READY
from catchment.stack import environment
from catchment.stack.options import StackOptions, site_label, site_name
from catchment.stack.postgres import EmbeddedPostgres
from catchment.stack.service import Probe, Service
from catchment.stack.tls import api_tls, site_tls

RUNNER_READY = "runner ready"
PROBE_TIMEOUT_S = 3.0
"""The stop timeouts below add up to 15 s, the longest that a stop of the whole may take: the runner and the
serving host stop together."""
SERVERS_STOP_S = 2.0
"""Of the serving host's time its model servers may drain so long."""


def postgres_service(server: EmbeddedPostgres) -> Service:
    """The embedded PostgreSQL, which was prepared."""
    return Service(
        name="postgres",
        argv=server.command(),
        environment=environment.inherited(),
        folder=server.folder,
        log=server.log,
        ready=server.answers,
        stop_signal=signal.SIGINT,
        stop_timeout_s=2.5,
    )


def prefect_service(options: StackOptions, database_url: str) -> Service:
    """The Prefect server, on loopback."""
    port = str(options.prefect_port)
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    return Service(
        name="prefect",
        argv=[sys.executable, *command],
        environment=environment.for_prefect_server(options, database_url),
        folder=options.home / "prefect",
        log=options.home / "logs" / "prefect.log",
        ready=_answers(options.prefect_url, "/api/health"),
        stop_timeout_s=2.5,
    )


def api_service(options: StackOptions, project: Path, database_url: str) -> Service:
    """The REST API with the sites' exchange."""
    return Service(
        name="api",
        argv=[
            *(sys.executable, "-m", "api", "--host", options.host, "--port", str(options.api_port)),
            *api_tls(options),
        ],
        environment=environment.for_coordinator(options, project, database_url),
        folder=project,
        log=options.home / "logs" / "api.log",
        ready=_answers(options.local_api_url, "/readyz", options.ca_file),
        stop_timeout_s=3.0,
    )


def runner_service(options: StackOptions, project: Path, database_url: str) -> Service:
    """The process that runs flows."""
    log = options.home / "logs" / "runner.log"
    return Service(
        name="runner",
        argv=[sys.executable, "-m", "flows.runner", "--pool", "catchment"],
        environment=environment.for_coordinator(options, project, database_url),
        folder=project,
        log=log,
        ready=lambda: RUNNER_READY in _text(log),
        stop_timeout_s=3.0,
    )


def host_service(options: StackOptions, project: Path, database_url: str, announcements: int) -> Service:
    """The serving host, which keeps model servers running; they announce themselves to the guard."""
    log = options.home / "logs" / "serving.log"
    stop = ["--stop-s", str(SERVERS_STOP_S), "--guard", str(announcements)]
    return Service(
        name="serving",
        argv=[sys.executable, "-m", "catchment.serving.host", *stop],
        environment=environment.for_coordinator(options, project, database_url),
        folder=project,
        log=log,
        ready=lambda: HOST_READY in _text(log),
        stop_timeout_s=3.0,
        descriptors=(announcements,),
    )


def site_service(options: StackOptions, index: int, *, site_token: Path | None, token: str | None) -> Service:
    """A local site; `site_token` is the file of its own token, `token` ours to look whether it is online."""
    name = site_name(index)
    home = options.home / "sites" / name
    command = ["-m", "catchment.cli", "site", "start", "--name", name, "--server", options.local_api_url]
    places = ["--home", home, "--datasets", home / "datasets.json", "--entries", home / "entries"]
    policy = ["--address", site_label(index), "--allow-scripts", "always", "--max-task-parallelism", "2"]
    authority = [*(["--token-file", site_token] if site_token else []), *site_tls(options, name)]
    return Service(
        name=name,
        argv=[sys.executable, *command, *map(str, [*places, *policy, *authority])],
        environment=environment.for_site(),
        folder=home,
        log=options.home / "logs" / f"{name}.log",
        ready=_is_online(options, token, name),
        stop_timeout_s=4.0,
    )


def _answers(server: str, path: str, ca_file: Path | None = None) -> Probe:
    """Whether GET is answered 200; plain http.client, since a server on its way up may answer anything."""
    import http.client

    from catchment.tls.contexts import client_context

    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port

    def probe() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT_S)
        if parts.scheme == "https":
            context = client_context(ca_file)
            connection = http.client.HTTPSConnection(host, port, timeout=PROBE_TIMEOUT_S, context=context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe


def _is_online(options: StackOptions, token: str | None, name: str) -> Probe:
    def probe() -> bool:
        try:
            with Client(
                options.local_api_url,
                token,
                timeout_s=PROBE_TIMEOUT_S,
                ca_file=options.ca_file,
                insecure_http=options.insecure_http,
            ) as client:
                return any(site.name == name and site.online for site in client.list_sites())
        except CatchmentError:
            return False

    return probe


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
