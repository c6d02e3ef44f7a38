"""The API in this process for pure routing, and as the process that users run."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from api.app import create_app
from api.deps import Context
from catchment.errors import CatchmentError
from catchment.jobs.launcher import RunSeen, RunState
from catchment.jobs.starting import Start
from catchment.settings import Settings
from catchment.tls.authority import Authority

ROOT = Path(__file__).resolve().parents[2]


class RecordingLauncher:
    """Remembers what it was asked for; `failure` makes every call raise."""

    def __init__(self) -> None:
        self.launched: list[Start] = []
        self.cancelled: list[str] = []
        self.failure: CatchmentError | None = None

    def launch(self, start: Start) -> str:
        self._fail()
        self.launched.append(start)
        return self.run_of(start)

    def run_of(self, start: Start) -> str:
        """The id of a start's run."""
        return f"run-of-{start.key}"

    def relaunch(self, start: Start, flow_run_id: str) -> str:
        self._fail()
        return flow_run_id

    def cancel(self, flow_run_id: str) -> None:
        self._fail()
        self.cancelled.append(flow_run_id)

    def state(self, flow_run_id: str) -> RunState:
        self._fail()
        return "cancelled" if flow_run_id in self.cancelled else "waiting"

    def find(self, flow_run_id: str, deployment: str) -> RunSeen | None:
        self._fail()
        for start in self.launched:
            if (self.run_of(start), start.deployment) == (flow_run_id, deployment):
                return RunSeen(flow_run_id, self.state(flow_run_id), "", start.parameters, 0, 0.0)
        return None

    def unfinished(self, deployment: str, newest_s: float) -> list[RunSeen]:
        self._fail()
        return []

    def resume(self, flow_run_id: str) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class InProcess:
    """Requests to an application of this process."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient, context: Context) -> None:
        self._portal = portal
        self._client = client
        self.context = context
        self.store = context.store

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._portal.call(partial(self._client.request, method, path, **request))

    def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """An async function's result, from the application's loop."""
        return self._portal.call(function, *arguments)

    def send_json(self, method: str, path: str, text: str | bytes) -> httpx.Response:
        """A body as it stands, announced as JSON."""
        return self(method, path, content=text, headers={"Content-Type": "application/json"})


@contextmanager
def in_process(settings: Settings, launcher: RecordingLauncher) -> Iterator[InProcess]:
    app = create_app(settings, launcher)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_alive(app)):
        try:
            yield InProcess(portal, client, app.state.context)
        finally:
            portal.call(client.aclose)


def _alive(app: Any) -> Any:
    return app.router.lifespan_context(app)


class ApiProcess:
    """`python -m api`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def rss_mib(self) -> float:
        """Memory that the process holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    def terminate(self, timeout_s: float) -> tuple[int, float]:
        """Exit code and seconds from SIGTERM to the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s), time.monotonic() - began


@contextmanager
def api_process(
    home: Path, port: int, *, tls: Authority | None = None, **environment: str
) -> Iterator[ApiProcess]:
    """A running process that answers, with `tls` over HTTPS; ended by force if it has not ended before."""
    url, log_file = f"{'https' if tls else 'http'}://127.0.0.1:{port}", home / "api.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port), *_tls_options(tls)],
            cwd=ROOT,
            env=api_environment(home, **environment),
            stdout=log,
            stderr=log,
        )
        try:
            _await_health(process, url, log_file, _unverified() if tls else None)
            yield ApiProcess(process, url, log_file)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)


def api_environment(home: Path, **more: str) -> dict[str, str]:
    """Surroundings of an API process whose Prefect server does not answer."""
    own = {"CATCHMENT_HOME": str(home), "CATCHMENT_SUPERVISE_S": "0.2", "PREFECT_HOME": str(home / "prefect")}
    return {**os.environ, **own, "PREFECT_API_URL": "http://127.0.0.1:9/api", **more}


def _tls_options(tls: Authority | None) -> list[str]:
    if tls is None:
        return []
    server, ca = tls.server, tls.ca.certificate
    return [
        *("--tls-cert", str(server.certificate), "--tls-key", str(server.key)),
        *("--tls-client-ca", str(ca)),
    ]


def _unverified() -> ssl.SSLContext:
    """For the question whether a server is up; some tests give it certificates that nobody should accept."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _await_health(
    process: subprocess.Popen[bytes], url: str, log: Path, context: ssl.SSLContext | None
) -> None:
    deadline = time.monotonic() + 60
    while not _answers(f"{url}/api/v1/health", context):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _answers(url: str, context: ssl.SSLContext | None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
