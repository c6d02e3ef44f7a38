"""Requests a second of the API with few and with many stored jobs and model versions, beside a health check.

    python benchmarks/api.py [--jobs 10000] [--connections 16] [--repeats 5] [--json]

Two API processes, as users run them, on databases of one PostgreSQL: one store has 100 jobs and 100 versions
of models, the other as many of both as wanted. One client process keeps all connections busy; stores and
endpoints take turns, and medians of the repeats are shown. The floor of each line is the health check's
figure, and with many stored jobs that with 100.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from sqlalchemy import insert, text

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from processes import api_process  # noqa: E402
from table import Line, show  # noqa: E402

from catchment.catalog import manager  # noqa: E402
from catchment.catalog.audit import Actor  # noqa: E402
from catchment.jobs import lifecycle  # noqa: E402
from catchment.models.tensors import write_tensors  # noqa: E402
from catchment.settings import Settings  # noqa: E402
from catchment.stack.postgres import EmbeddedPostgres  # noqa: E402
from catchment.store import Store, migrate, open_store  # noqa: E402
from catchment.store.schema import jobs, model_versions  # noqa: E402

FEW = 100
LISTED = 100
WINDOW_S = 2.0
JOBS = "/api/v1/namespaces/default/jobs"
FIRST, ANY = f"first {LISTED} of the list", f"any {LISTED} of the list"
MODELS = "/api/v1/namespaces/default/models"
FIRST_VERSIONS, ANY_VERSIONS = f"first {LISTED} versions", f"any {LISTED} versions"
ENDPOINTS = ("health", "one job", FIRST, ANY, "one version", FIRST_VERSIONS, ANY_VERSIONS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        task = json.loads(options.client)
        print(json.dumps(asyncio.run(load(task["url"], task["paths"], task["connections"]))))
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        show(measure(Path(folder), options), as_json=options.json)


def measure(folder: Path, options: argparse.Namespace) -> list[Line]:
    """Both stores, in turn."""
    sizes = (FEW, options.jobs)
    taken: dict[tuple[int, str], list[dict[str, float]]] = {}
    with EmbeddedPostgres(folder / "postgres") as server, ExitStack() as opened:
        urls = {}
        for size in sizes:
            store = opened.enter_context(_store_of(server, folder / f"home-{size}", size))
            urls[size], _ = opened.enter_context(api_process(store))
        for _ in range(options.repeats):
            for size in sizes:
                for endpoint in ENDPOINTS:
                    done = _run(urls[size], _paths(endpoint, size), options.connections)
                    taken.setdefault((size, endpoint), []).append(done)
    return [line for size in sizes for line in _lines(taken, size)]


def _lines(taken: dict[tuple[int, str], list[dict[str, float]]], size: int) -> Iterator[Line]:
    def middle(size: int, endpoint: str, key: str) -> float:
        return statistics.median(run[key] for run in taken[size, endpoint])

    for endpoint in ENDPOINTS:
        for key, unit in (("rate", "requests/s"), ("p50", "ms"), ("p99", "ms")):
            floor = middle(size, "health", key) if size == FEW else middle(FEW, endpoint, key)
            known = None if (size, endpoint) == (FEW, "health") else floor
            yield Line("api", f"{endpoint}, {size} stored: {key}", middle(size, endpoint, key), known, unit)


@contextmanager
def _store_of(server: EmbeddedPostgres, home: Path, size: int) -> Iterator[Store]:
    """A store with so many jobs, as they would have been submitted."""
    settings = Settings(home=home, database_url=server.create_database(f"jobs_{size}"))
    migrate(settings)
    store = open_store(settings)
    try:
        body = {"runtime": "pytorch", "model_path": "initial.safetensors", "task_entry": "digits"}
        namespace = home / "namespaces" / "default"
        namespace.mkdir(parents=True, exist_ok=True)
        write_tensors(namespace / "initial.safetensors", {"w": np.zeros(3, np.float32)})
        lifecycle.create_job(store, "default", {**body, "id": "job-0", "output": "results"})
        first = store.db.read(lambda tx: tx.execute(jobs.select()).one()._asdict())
        rows = [_copy_of(first, number) for number in range(1, size)]
        store.db.write(lambda tx: tx.execute(insert(jobs), rows))
        body = {"name": "net", "version": "v0", "runtime": "pytorch", "file_name": "net.pt"}
        manager.create(store, "default", body, Actor())
        version = store.db.read(lambda tx: tx.execute(model_versions.select()).one()._asdict())
        versions = [_version(version, number) for number in range(1, size)]
        store.db.write(lambda tx: tx.execute(insert(model_versions), versions))
        store.db.write(lambda tx: tx.execute(text("ANALYZE")))
        yield store
    finally:
        store.close()


def _copy_of(first: dict[str, Any], number: int) -> dict[str, Any]:
    job_id = f"job-{number}"
    changed = {"uid": f"{number:032x}", "id": job_id, "spec": {**first["spec"], "id": job_id}}
    state = ("FINISHED", "FAILED", "STOPPED")[number % 3]
    return {**first, **changed, "state": state, "created_at": first["created_at"] + number}


def _version(first: dict[str, Any], number: int) -> dict[str, Any]:
    """A ready version; ten of each model."""
    named = {"id": f"{number:032x}", "name": f"net-{number // 10:05}", "version": f"v{number % 10}"}
    ready = {"state": "ready", "progress": 100, "digest": f"sha256:{number:064x}", "size_bytes": number}
    return {**first, **named, **ready, "created_at": first["created_at"] + number}


def _paths(endpoint: str, size: int) -> list[str]:
    """What is asked for in turn, the same share of the store whatever its size."""
    drawn = random.Random(0)
    if endpoint == "health":
        return ["/api/v1/health"]
    of = MODELS if "version" in endpoint else JOBS
    if endpoint == "one job":
        return [f"{JOBS}/job-{drawn.randrange(size)}" for _ in range(1000)]
    if endpoint == "one version":
        numbers = [drawn.randrange(1, size) for _ in range(1000)]
        return [f"{MODELS}/net-{number // 10:05}?version=v{number % 10}" for number in numbers]
    if endpoint in (FIRST, FIRST_VERSIONS):
        return [f"{of}?limit={LISTED}"]
    return [f"{of}?offset={drawn.randrange(size - LISTED + 1)}&limit={LISTED}" for _ in range(100)]


def _run(url: str, paths: list[str], connections: int) -> dict[str, float]:
    task = json.dumps({"url": url, "paths": paths, "connections": connections})
    command = [sys.executable, __file__, "--client", task]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    return dict(json.loads(done.stdout))


async def load(url: str, paths: list[str], connections: int) -> dict[str, float]:
    """Keep connections busy for a while; requests a second, and percentiles of the answers in ms."""
    parts = urlsplit(url)
    requests = [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode() for path in paths]
    await _ask(parts.hostname, parts.port, requests, 0.2)
    begun = time.perf_counter()
    asked = (
        _ask(parts.hostname, parts.port, requests[n % len(requests) :] + requests, WINDOW_S)
        for n in range(0, 7 * connections, 7)
    )
    answers = [seconds for one in await asyncio.gather(*asked) for seconds in one]
    taken_s = time.perf_counter() - begun
    cuts = statistics.quantiles(answers, n=100)
    return {"rate": len(answers) / taken_s, "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


async def _ask(host: str | None, port: int | None, requests: list[bytes], for_s: float) -> list[float]:
    """Ask on one connection, the next when the last is answered; seconds of each."""
    reader, writer = await asyncio.open_connection(host, port)
    seconds, end = [], time.perf_counter() + for_s
    try:
        while (begun := time.perf_counter()) < end:
            writer.write(requests[len(seconds) % len(requests)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(f"the API answered {head!r}")
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            seconds.append(time.perf_counter() - begun)
    finally:
        writer.close()
    return seconds


if __name__ == "__main__":
    main()
