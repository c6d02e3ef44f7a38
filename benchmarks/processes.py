"""The API as users run it, with PostgreSQL, for benchmarks of its requests."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from catchment.tls.authority import Authority
from catchment.tls.contexts import client_context

ROOT = Path(__file__).resolve().parent.parent
READY_S = 60.0


@contextmanager
def migrated_store(folder: Path) -> Iterator[Store]:
    """A store in `folder` on a PostgreSQL of its own, which syncs as in production."""
    with EmbeddedPostgres(folder / "postgres") as server:
        settings = Settings(home=folder / "home", database_url=server.create_database("catchment"))
        migrate(settings)
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def api_process(store: Store, tls: Authority | None = None) -> Iterator[tuple[str, int]]:
    """`python -m api` over the store, with `tls` behind mutual TLS; its address and process id."""
    port = free_port()
    options: list[str] = []
    if tls is not None:
        options += ["--tls-cert", str(tls.server.certificate), "--tls-key", str(tls.server.key)]
        options += ["--tls-client-ca", str(tls.ca.certificate)]
    own = {
        "CATCHMENT_HOME": str(store.settings.home),
        "CATCHMENT_DATABASE_URL": str(store.settings.database_url),
        "PREFECT_HOME": str(store.settings.home / "prefect"),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # nothing here starts runs
    }
    log = store.settings.home / f"api-{port}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port), *options],
            cwd=ROOT,
            env={**os.environ, **own},
            stdout=written,
            stderr=written,
        )
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        _await_health(process, url, log, client_context(tls.ca.certificate) if tls else None)
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_bytes(pid: int | str = "self", *, peak: bool = False) -> int:
    """Memory that a process holds, or the most that it has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _await_health(
    process: subprocess.Popen[bytes], url: str, log: Path, context: ssl.SSLContext | None
) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/v1/health", timeout=5, context=context):
                return
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the API did not start: {log.read_text()[-2000:]}") from error
        time.sleep(0.05)
