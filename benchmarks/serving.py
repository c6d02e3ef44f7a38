"""The gateway beside the direct way to a model server, and a switch of versions under load.

    python benchmarks/serving.py [--seconds 2] [--repeats 3] [--json]

The API as users run it, with PostgreSQL, before `python -m api.model_server` with a small MLP (64-64-10),
asked over REST with JSON. The floor of a time is that of the direct way, taken in turns: what the gateway
adds is the difference. With 16 connections all processors are busy, and times are those of queues: read CPU
there, which is that of the API's process alone. Clients run on the same machine and share its processors.
"""

from __future__ import annotations

import argparse
import http.client
import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

from model_server import SHAPES, make_models, running  # noqa: E402
from model_server_load import load_rest, rest_json, values_of  # noqa: E402
from processes import api_process, cpu_seconds, migrated_store  # noqa: E402
from table import Line, show  # noqa: E402

from catchment.serving.topics import ENDPOINTS, ROUTES  # noqa: E402
from catchment.store import Store  # noqa: E402
from catchment.store.schema import serving_endpoints, servings  # noqa: E402

BASE = b"/serving/default/m"
KNOWN_S = 10.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="each measurement takes so long")
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as name:
        folder = Path(name)
        make_models(folder)
        with migrated_store(folder) as store, api_process(store) as (url, pid):
            api = int(url.rsplit(":", 1)[1]), pid
            show(added_cost(store, api, folder, options), as_json=options.json)
            show(switch(store, api[0], folder, options.seconds), as_json=options.json)


def added_cost(
    store: Store, api: tuple[int, int], folder: Path, options: argparse.Namespace
) -> Iterator[Line]:
    """Through the gateway and past it, in turns."""
    direct = rest_json(values_of(SHAPES["mlp"]))
    through = direct.replace(b"/v2/", BASE + b"/v2/", 1).replace(b"Host: bench", b"Host: localhost", 1)
    found: dict[int, list[tuple[float, ...]]] = {}
    with running("catchment", folder / "mlp", None) as (_, (port, _)):
        uid = _serve(store, {"one": port}, {"one": 100})
        _until_known(api[0])
        for _ in range(options.repeats):
            for connections in (1, 16):
                load_rest(api[0], through, connections, options.seconds / 5)
                alone = load_rest(port, direct, connections, options.seconds)
                before, began = cpu_seconds(api[1]), time.perf_counter()
                both = load_rest(api[0], through, connections, options.seconds)
                cpu, took = cpu_seconds(api[1]) - before, time.perf_counter() - began
                row = _at(both, 0.5), _at(alone, 0.5), _at(both, 0.99), _at(alone, 0.99)
                row += cpu / len(both) * 1e3, len(both) / took, len(alone) / options.seconds
                found.setdefault(connections, []).append(row)
    _forget(store, uid)
    for connections, rows in found.items():
        p50, d50, p99, d99, cpu, rate, floor = (statistics.median(each) for each in zip(*rows, strict=True))
        added = statistics.median(row[0] - row[1] for row in rows)
        what = f"{connections} connection{'s' * (connections > 1)}"
        yield Line("gateway", f"{what}: p50", p50, d50, "ms")
        yield Line("gateway", f"{what}: p50 added", added, None, "ms")
        yield Line("gateway", f"{what}: p99", p99, d99, "ms")
        yield Line("gateway", f"{what}: CPU of the API a request", cpu, None, "ms")
        yield Line("gateway", f"{what}: rate", rate, floor, "requests/s")


def switch(store: Store, api: int, folder: Path, seconds: float) -> Iterator[Line]:
    """Sixteen connections while the traffic goes to another version and the first one ends."""
    body = rest_json(values_of(SHAPES["mlp"])).partition(b"\r\n\r\n")[2]
    counts: dict[str, int] = {"answered": 0, "failed": 0}
    lock, over = threading.Lock(), threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", api, timeout=30)
        while not over.is_set():
            try:
                connection.request("POST", f"{BASE.decode()}/v2/models/m/infer", body)
                answer = connection.getresponse()
                answer.read()
                good = answer.status == 200
            except (OSError, http.client.HTTPException):
                good = False
                connection.close()
            with lock:
                counts["answered" if good else "failed"] += 1

    with running("catchment", folder / "mlp", None) as (_, (second, _)):
        with running("catchment", folder / "mlp", None) as (first_pid, (first, _)):
            uid = _serve(store, {"one": first, "two": second}, {"one": 100})
            _until_known(api)
            threads = [threading.Thread(target=ask) for _ in range(16)]
            for each in threads:
                each.start()
            time.sleep(seconds / 2)
            _route(store, uid, {"two": 100})
            os.kill(first_pid, 15)
        time.sleep(seconds / 2)
        over.set()
        for each in threads:
            each.join()
    _forget(store, uid)
    yield Line(
        "gateway", "switch of versions, 16 connections: answered", counts["answered"], None, "requests"
    )
    yield Line("gateway", "switch of versions, 16 connections: failed", counts["failed"], None, "requests")


def _at(sorted_s: list[float], share: float) -> float:
    return sorted_s[int(len(sorted_s) * share)] * 1e3


def _serve(store: Store, ports: dict[str, int], weights: dict[str, int]) -> str:
    uid = secrets.token_hex(16)
    empty: dict[str, Any] = {
        key: {} for key in ("labels", "annotations", "body", "spec", "created_by", "observed")
    }
    names = {"uid": uid, "namespace": "default", "name": "m", "backend": "local", "state": "Available"}
    row = {**empty, **names, "created_at": 0.0, "updated_at": 0.0, "weights": weights}

    def write(tx: Any) -> None:
        tx.execute(insert(servings).values(**row))
        for key, port in ports.items():
            place = {"serving_uid": uid, "key": key, "replica": 0, "state": "ready", "updated_at": 0.0}
            tx.execute(insert(serving_endpoints).values(**place, http=f"http://127.0.0.1:{port}"))
        tx.notify(ROUTES, ENDPOINTS)

    store.db.write(write)
    return uid


def _route(store: Store, uid: str, weights: dict[str, int]) -> None:
    def write(tx: Any) -> None:
        tx.execute(update(servings).where(servings.c.uid == uid).values(weights=weights))
        tx.notify(ROUTES)

    store.db.write(write)


def _forget(store: Store, uid: str) -> None:
    def write(tx: Any) -> None:
        tx.execute(servings.delete().where(servings.c.uid == uid))
        tx.execute(serving_endpoints.delete().where(serving_endpoints.c.serving_uid == uid))
        tx.notify(ROUTES, ENDPOINTS)

    store.db.write(write)


def _until_known(api: int) -> None:
    end = time.monotonic() + KNOWN_S
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", api, timeout=10)
        connection.request("GET", f"{BASE.decode()}/v2/health/ready")
        if connection.getresponse().status == 200:
            return
        connection.close()
        time.sleep(0.05)
    raise TimeoutError(f"the gateway did not know the serving within {KNOWN_S:g} s")


if __name__ == "__main__":
    main()
