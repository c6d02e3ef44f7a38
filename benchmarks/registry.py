"""One large blob to and from a registry, beside a bare http.client and, where it is there, python-oras.

    python benchmarks/registry.py [--megabytes 1000] [--repeats 5] [--oras PYTHON] [--json]

The registry is Debian's docker-registry, a process of its own on loopback, open, without TLS. Each transfer
runs in a fresh process, all take turns, and medians are shown. The floor sends or receives the same bytes in
pieces of 1 MiB with one request and computes their SHA-256. A push sends a blob that the registry has not,
from a file. A pull is timed twice: into nothing, and into an image layout; the floor writes and syncs a file.
oras always writes a file, which it does not sync, and computes no digest when it pulls a blob.
CPU seconds are those of the client.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

PIECE_BYTES = 1 << 20
REPOSITORY = "bench/model"
Task = dict[str, str]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5, help="medians are taken of so many")
    parser.add_argument("--oras", help="Python interpreter that has the package oras, to measure it too")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_timed(json.loads(options.child))))
        return
    from table import show

    if shutil.which("docker-registry") is None:
        print("docker-registry is not installed: nothing is measured", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        taken = measure(Path(folder), options.megabytes * 10**6, options.repeats, options.oras)
    show(_lines(taken, options.megabytes / 1000), as_json=options.json)


def measure(folder: Path, size: int, repeats: int, oras: str | None) -> dict[str, list[dict[str, float]]]:
    """All transfers, in turn; what each took."""
    from tests.registry_servers import docker_registry

    source = folder / "blob"
    with source.open("wb") as file:
        for start in range(0, size, PIECE_BYTES):
            file.write(os.urandom(min(PIECE_BYTES, size - start)))
    taken: dict[str, list[dict[str, float]]] = {}
    with docker_registry(folder / "registry") as server:
        names = ["floor", "ours", *(["oras"] if oras else [])]
        for _ in range(repeats):
            pushed: dict[str, str] = {}
            for name in names:
                pushed[name] = made_unlike(source)
                task = {"host": server.host, "source": str(source), "digest": pushed[name], "who": name}
                taken.setdefault(f"{name} push", []).append(_run({**task, "way": "push"}, oras))
            for name in names:
                for way in ("pull", "keep") if name != "oras" else ("pull",):
                    task = {"host": server.host, "digest": pushed["floor"], "who": name, "way": way}
                    with tempfile.TemporaryDirectory(dir=folder) as target:
                        taken.setdefault(f"{name} {way}", []).append(_run({**task, "target": target}, oras))
            subprocess.run(["rm", "-rf", str(folder / "registry" / "data")], check=True)
    return taken


def _lines(taken: dict[str, list[dict[str, float]]], gigabytes: float) -> list[object]:
    from table import Line

    def middle(what: str, key: str) -> float:
        return statistics.median(run[key] for run in taken[what])

    words = {"push": "push from a file", "pull": "pull", "keep": "pull into a layout or file, synced"}
    lines: list[object] = []
    for way, meaning in words.items():
        for name in ("ours", "oras"):
            if f"{name} {way}" not in taken:
                continue
            rate, floor = (gigabytes / middle(f"{one} {way}", "s") for one in (name, "floor"))
            lines.append(Line("registry", f"{name}, {meaning}", rate, floor, "GB/s"))
            cpu, floor = (middle(f"{one} {way}", "cpu") / gigabytes for one in (name, "floor"))
            lines.append(Line("registry", f"{name}, {meaning}, CPU of the client", cpu, floor, "s/GB"))
            memory, floor = (middle(f"{one} {way}", "memory") for one in (name, "floor"))
            lines.append(Line("registry", f"{name}, {meaning}, memory grown", memory, floor, "MiB"))
    return lines


def _run(task: Task, oras: str | None) -> dict[str, float]:
    python = oras if task["who"] == "oras" and oras else sys.executable
    done = subprocess.run(
        [python, __file__, "--child", json.dumps(task)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _timed(task: Task) -> dict[str, float]:
    """Do it; seconds, CPU seconds and MiB by which the process has grown at most."""
    transfer = {"floor": floor_of, "ours": _ours, "oras": _oras}[task["who"]](task)
    before = memory_mib("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    transfer()
    took = {"s": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    return {**took, "memory": memory_mib("VmHWM") - before}


def memory_mib(which: str) -> float:
    """MiB of this process: VmRSS now, or VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    return float(status.split(f"{which}:")[1].split()[0]) / 1024


def made_unlike(source: Path) -> str:
    """Change the file, so that the registry does not know it yet; its digest."""
    with source.open("r+b") as file:
        file.write(secrets.token_bytes(16))
    with source.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def floor_of(task: Task) -> Callable[[], None]:
    connection = http.client.HTTPConnection(task["host"], timeout=600)
    connection.connect()

    def push() -> None:
        connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        parts = urlsplit(answer.headers["Location"])
        connection.putrequest("PUT", f"{parts.path}?{parts.query}&digest={task['digest']}")
        connection.putheader("Content-Length", str(Path(task["source"]).stat().st_size))
        connection.endheaders()
        sha256, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
        with Path(task["source"]).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                sha256.update(buffer[:count])
                connection.send(buffer[:count])
        assert connection.getresponse().status == 201
        assert f"sha256:{sha256.hexdigest()}" == task["digest"]

    def pull() -> None:
        connection.request("GET", f"/v2/{REPOSITORY}/blobs/{task['digest']}")
        answer = connection.getresponse()
        sha256, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
        where = Path(task["target"]) / "blob" if task["way"] == "keep" else Path(os.devnull)
        with where.open("wb", buffering=0) as file:
            while count := answer.readinto(buffer):
                sha256.update(buffer[:count])
                file.write(buffer[:count])
            with suppress(OSError):  # the null device cannot be synced
                os.fsync(file.fileno())
        assert f"sha256:{sha256.hexdigest()}" == task["digest"]

    return push if task["way"] == "push" else pull


def _ours(task: Task) -> Callable[[], None]:
    from catchment.registry.backend import blob_source, file_source
    from catchment.registry.distribution import DistributionRegistry
    from catchment.registry.layout import LayoutRegistry
    from catchment.registry.session import Session

    registry = DistributionRegistry(Session(task["host"]))
    digest = task["digest"]

    def push() -> None:
        source = Path(task["source"])
        registry.write_blob(REPOSITORY, digest, source.stat().st_size, file_source(source))

    def pull() -> None:
        with registry.read_blob(REPOSITORY, digest) as reader:
            for _ in reader:
                pass

    def keep() -> None:
        layout = LayoutRegistry(Path(task["target"]) / "layout")
        size = registry.blob_size(REPOSITORY, digest)
        layout.write_blob(REPOSITORY, digest, size, blob_source(registry, REPOSITORY, digest, check=False))

    return {"push": push, "pull": pull, "keep": keep}[task["way"]]


def _oras(task: Task) -> Callable[[], None]:
    import oras.client  # type: ignore[import-not-found]

    client = oras.client.OrasClient(hostname=task["host"], insecure=True, auth_backend="basic")
    container = client.get_container(f"{task['host']}/{REPOSITORY}:v1")

    def push() -> None:
        size = Path(task["source"]).stat().st_size
        layer = {"digest": task["digest"], "size": size, "mediaType": "application/tar+gzip"}
        assert client.upload_blob(task["source"], container, layer).status_code == 201

    def pull() -> None:
        client.download_blob(container, task["digest"], str(Path(task["target"]) / "blob"))

    return push if task["way"] == "push" else pull


if __name__ == "__main__":
    main()
