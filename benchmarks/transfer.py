"""One large blob up and down through the API, behind TLS and plain, beside what cannot be beaten.

    python benchmarks/transfer.py [--megabytes 1000] [--repeats 5] [--json]

Server and client are processes of their own: the API as users run it, with the site's half of the exchange as
its client, and for the floor two Python programs that send or receive 1 MiB at a time over TLS 1.3 and throw
the bytes away. All take turns, and medians are shown. An upload is timed twice: until its last request
begins, which is the transfer, and until the server has checked the digest and synced the blob. A download is
timed as it arrives, and as the site's cache takes it, checked and written. The second floor, for transfers
that end in a file, is a copy of the file with fsync and SHA-256, in one program.
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from processes import READY_S, api_process, cpu_seconds, memory_bytes, migrated_store  # noqa: E402
from table import Line, show  # noqa: E402

from catchment.models.tensors import file_digest  # noqa: E402
from catchment.site.cache import BlobCache  # noqa: E402
from catchment.site.exchange import Exchange  # noqa: E402
from catchment.site.http import Endpoint, tls_context  # noqa: E402
from catchment.site.outbox import REQUEST_BYTES  # noqa: E402
from catchment.store import Store  # noqa: E402
from catchment.store.blobs import keep_staged, new_staged_file  # noqa: E402
from catchment.store.database import Transaction  # noqa: E402
from catchment.store.schema import works  # noqa: E402
from catchment.tls.authority import Authority, Pair  # noqa: E402
from catchment.tls.contexts import server_context  # noqa: E402
from catchment.wire.messages import Blob, Registration, WorkOrder  # noqa: E402

SITE = "bench"
PIECE_BYTES = 1 << 20
SETTLES_S = 3.0
"""A virtual machine gives the memory of deleted files back after a while; the next writer pays for that."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(_client(json.loads(options.client))))
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        lines = measure(Path(folder), options.megabytes * 10**6, options.repeats)
    show(lines, as_json=options.json)


def measure(folder: Path, size: int, repeats: int) -> list[Line]:
    """All transfers, in turn."""
    tls = Authority(folder / "tls")
    tls.create([], [SITE])
    source = folder / "blob"
    taken: dict[str, list[dict[str, float]]] = {}
    with (
        migrated_store(folder) as store,
        api_process(store, tls) as secure,
        api_process(store) as plain,
        raw_server(tls, size) as (port, raw_pid),
    ):
        servers = {"TLS": secure, "plain": plain}
        task = {"size": size, "tls": str(tls.folder), "source": str(source)}
        with _exchange({**task, "url": secure[0]}) as exchange:
            exchange.register(Registration(session="benchmark", address="127.0.0.1:1", runtimes=["pytorch"]))
        weights = _put(store, size)
        _fill(source, size)
        before = {name: memory_bytes(pid) for name, (_, pid) in servers.items()}
        for _ in range(repeats):
            for way in ("down", "keep", "up"):
                bare = {"way": "copy"} if way == "keep" else {"way": way, "port": port}
                taken.setdefault(f"raw {way}", []).append(_run({**task, **bare}, raw_pid))
                for name, (url, pid) in servers.items():
                    order = {"work_id": _offer(store, weights), "digest": weights.digest}
                    if way == "up":
                        order["digest"] = _made_unlike(source)
                    done = _run({**task, **order, "way": way, "url": url}, pid)
                    taken.setdefault(f"{name} {way}", []).append(done)
                    if way == "up":
                        store.blobs.delete(order["digest"])
                    time.sleep(SETTLES_S)
        grown = {name: memory_bytes(pid, peak=True) - before[name] for name, (_, pid) in servers.items()}
    return _lines(taken, grown, size)


def _lines(taken: dict[str, list[dict[str, float]]], memory: dict[str, int], size: int) -> list[Line]:
    def middle(what: str, key: str) -> float:
        return statistics.median(run[key] for run in taken[what])

    lines, copied = [], middle("raw keep", "rate")
    for name in ("TLS", "plain"):
        down, up = (middle(f"raw {way}", "rate") for way in ("down", "up"))
        cpu = {way: middle(f"raw {way}", "cpu") for way in ("down", "up")}
        lines += [
            Line("transfer", f"{name}, down", middle(f"{name} down", "rate"), down, "GB/s"),
            Line("transfer", f"{name}, up, received and stored", middle(f"{name} up", "rate"), up, "GB/s"),
            Line(
                "transfer", f"{name}, up, checked and synced too", middle(f"{name} up", "whole"), up, "GB/s"
            ),
            Line(
                "transfer",
                f"{name}, up, the same beside a copy",
                middle(f"{name} up", "whole"),
                copied,
                "GB/s",
            ),
            Line(
                "transfer",
                f"{name}, down, checked and written",
                middle(f"{name} keep", "rate"),
                copied,
                "GB/s",
            ),
            *(
                Line(
                    "transfer",
                    f"{name}, {way}, CPU of the server",
                    middle(f"{name} {way}", "cpu"),
                    floor,
                    "s/GB",
                )
                for way, floor in cpu.items()
            ),
            Line("transfer", f"{name}, memory of the server over idle", memory[name] / 2**20, None, "MiB"),
        ]
    grown = max(run["grown"] for name, runs in taken.items() if "raw" not in name for run in runs)
    lines.append(Line("transfer", "memory of the client over idle, most", grown / 2**20, size / 2**20, "MiB"))
    return lines


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, PIECE_BYTES):
            file.write(os.urandom(min(PIECE_BYTES, size - start)))


def _made_unlike(source: Path) -> str:
    """Change the file, so that the store does not know it yet; its digest."""
    with source.open("r+b") as file:
        file.write(secrets.token_bytes(16))
    return file_digest(source)


def _put(store: Store, size: int) -> Blob:
    staged = new_staged_file(store.blobs)
    _fill(staged, size)
    return Blob(digest=keep_staged(store.blobs, staged), size_bytes=size)


def _offer(store: Store, weights: Blob) -> str:
    """Offer the site a work with these weights; its id."""
    work_id = secrets.token_hex(8)
    facts: dict[str, Any] = {"run": 1, "round": 1, "attempt": 0, "kind": "train"}
    order = WorkOrder(
        work_id=work_id,
        namespace="default",
        job_id="bench",
        runtime="pytorch",
        weights=weights,
        task_entry="bench",
        seed=1,
        timeout_s=3600,
        **facts,
    )
    values = {**facts, "id": work_id, "job_uid": work_id, "site": SITE, "state": "offered", "created_at": 1.0}

    def step(tx: Transaction) -> None:
        known = {"order": order.model_dump(mode="json"), "deadline": tx.now + 3600}
        tx.execute(insert(works).values(**values, **known))

    store.db.write(step)
    return work_id


@contextmanager
def raw_server(tls: Authority, size: int) -> Iterator[tuple[int, int]]:
    """A process that sends or takes `size` bytes over bare TLS; its port and process id."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_raw, args=(theirs, tls.server, tls.ca.certificate, size))
    process.start()
    theirs.close()
    try:
        if not ours.poll(READY_S):
            raise SystemExit("the bare socket's server did not start")
        yield ours.recv(), process.pid or 0
    finally:
        process.terminate()
        process.join(10)


def _serve_raw(told: Any, pair: Pair, ca: Path, size: int) -> None:
    context = server_context(pair.certificate, pair.key, ca)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told.send(listening.getsockname()[1])
        while True:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                if connection.recv(1) == b"d":
                    _send_raw(connection, memoryview(bytes(PIECE_BYTES)), size)
                else:
                    _take_raw(connection, size)
                    connection.sendall(b"k")


def _send_raw(connection: socket.socket, piece: memoryview, size: int) -> None:
    for start in range(0, size, PIECE_BYTES):
        connection.sendall(piece[: size - start])


def _take_raw(connection: socket.socket, size: int) -> None:
    buffer, left = bytearray(PIECE_BYTES), size
    while left:
        count = connection.recv_into(buffer)
        if not count:
            raise SystemExit("the other side of the bare socket went away")
        left -= count


def _run(task: dict[str, Any], server: int) -> dict[str, float]:
    """One transfer by a client in a process of its own, and the server's CPU seconds for each GB."""
    before = cpu_seconds(server)
    command = [sys.executable, __file__, "--client", json.dumps(task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    return {**json.loads(done.stdout), "cpu": (cpu_seconds(server) - before) / task["size"] * 1e9}


def _client(task: dict[str, Any]) -> dict[str, float]:
    """What that process does: GB a second, for an upload also to its very end, and its memory's growth."""
    steps = {"down": _fetch, "keep": _keep, "up": _push, "copy": _copy}
    step = _raw if "port" in task else steps[task["way"]]
    idle = memory_bytes(peak=True)
    transferred_s, whole_s = step(task)
    size = task["size"] / 1e9
    return {
        "rate": size / transferred_s,
        "whole": size / whole_s,
        "grown": memory_bytes(peak=True) - idle,
    }


def _exchange(task: dict[str, Any]) -> Exchange:
    tls = Authority(Path(task["tls"]))
    pair = tls.site(SITE)
    context = tls_context(str(tls.ca.certificate), str(pair.certificate), str(pair.key))
    return Exchange(Endpoint(task["url"], tls=context if task["url"].startswith("https") else None), SITE)


def _fetch(task: dict[str, Any]) -> tuple[float, float]:
    with _exchange(task) as exchange:
        exchange.upload_offset(task["work_id"], "update")  # connects
        begun = time.perf_counter()
        got = sum(map(len, exchange.read_blob(Blob(digest=task["digest"], size_bytes=task["size"]), 0)))
        taken_s = time.perf_counter() - begun
    if got != task["size"]:
        raise SystemExit(f"{got} bytes came of {task['size']}")
    return taken_s, taken_s


def _keep(task: dict[str, Any]) -> tuple[float, float]:
    """As the site's cache does it."""
    blob = Blob(digest=task["digest"], size_bytes=task["size"])
    with _exchange(task) as exchange, tempfile.TemporaryDirectory(dir=Path(task["source"]).parent) as folder:
        exchange.upload_offset(task["work_id"], "update")  # connects
        begun = time.perf_counter()
        BlobCache(Path(folder), 2 * task["size"]).link(blob, Path(folder) / "kept", exchange.read_blob)
        taken_s = time.perf_counter() - begun
    return taken_s, taken_s


def _copy(task: dict[str, Any]) -> tuple[float, float]:
    """What an upload comes to where there is no network."""
    source = Path(task["source"])
    copy = source.with_name("copy")
    begun = time.perf_counter()
    shutil.copyfile(source, copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    file_digest(copy)
    taken_s = time.perf_counter() - begun
    copy.unlink()
    return taken_s, taken_s


def _push(task: dict[str, Any]) -> tuple[float, float]:
    """As the site's outbox does it."""
    blob = Blob(digest=task["digest"], size_bytes=task["size"])
    with _exchange(task) as exchange, Path(task["source"]).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(mapped)
        offset = last = exchange.upload_offset(task["work_id"], "update")
        begun = last_begun = time.perf_counter()
        while offset < blob.size_bytes:
            last, last_begun = offset, time.perf_counter()
            chunk = data[offset : offset + REQUEST_BYTES]
            offset = exchange.put_chunk(task["work_id"], "update", blob, chunk, offset)
            mapped.madvise(mmap.MADV_DONTNEED)
        whole_s = time.perf_counter() - begun
    return (last_begun - begun) * blob.size_bytes / last, whole_s


def _raw(task: dict[str, Any]) -> tuple[float, float]:
    tls = Authority(Path(task["tls"]))
    pair = tls.site(SITE)
    context = tls_context(str(tls.ca.certificate), str(pair.certificate), str(pair.key))
    plain = socket.create_connection(("127.0.0.1", task["port"]))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        begun = time.perf_counter()
        if task["way"] == "down":
            connection.sendall(b"d")
            _take_raw(connection, task["size"])
        else:
            with Path(task["source"]).open("rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                connection.sendall(b"u")
                for start in range(0, task["size"], PIECE_BYTES):
                    connection.sendall(data[start : start + PIECE_BYTES])
            connection.recv(1)
        taken_s = time.perf_counter() - begun
    return taken_s, taken_s


if __name__ == "__main__":
    main()
