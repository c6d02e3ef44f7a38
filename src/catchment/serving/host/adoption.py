"""Model servers that an earlier host has left: which of them go on as replicas, and which are ended."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row

from catchment.serving.host import launching, logs
from catchment.serving.host.launching import MODULE, Ports, Surroundings
from catchment.serving.host.places import Places
from catchment.serving.host.process import ServerProcess, command_line, commands, start_time
from catchment.serving.host.replica import Running
from catchment.serving.workload import Workload

log = logging.getLogger(__name__)


def running(row: Row[Any], workload: Workload, places: Places) -> Running | None:
    """The model server that an endpoint's row speaks of, when it runs and is what the workload asks for now.

    Its number, its start and its command line must be those of the row: nothing else is taken for it.
    """
    if row.pid is None or row.pid_start is None or not (row.http and row.grpc):
        return None
    ports = Ports(urlsplit(row.http).port or 0, int(row.grpc.rpartition(":")[2]))
    expected = launching.command(workload, places.model(workload.model.digest), ports)
    if command_line(row.pid)[1:] != expected[1:]:
        return None
    process = ServerProcess.found(row.pid, row.pid_start)
    if process is None:
        return None
    log_start = logs.size(places.log(workload.serving.uid, workload.key, row.replica))
    return Running(process, ports, log_start, row.state == "ready")


def end_strays(places: Places, kept: Iterable[int], surroundings: Surroundings, within_s: float) -> None:
    """End model servers of this home that belong to no replica; in threads of their own, they may drain."""
    known = set(kept)
    for pid, argv in commands().items():
        started = start_time(pid)
        if pid in known or started is None or not _is_ours(argv, places.models):
            continue
        process = ServerProcess.found(pid, started)
        if process is not None:
            log.info("process %d serves a model that nobody asks for; ended", pid)
            work = (process, surroundings, within_s)
            threading.Thread(target=_end, args=work, name=f"stray-{pid}", daemon=True).start()


def _is_ours(argv: list[str], models: Path) -> bool:
    """Whether it is a model server, or about to become one, of a model of this home."""
    if MODULE not in argv or "--model" not in argv[:-1]:
        return False
    return Path(argv[argv.index("--model") + 1]).parent == models


def _end(process: ServerProcess, surroundings: Surroundings, within_s: float) -> None:
    process.signal(signal.SIGTERM)
    if process.wait(within_s) != "ended":
        process.kill()
        process.wait(within_s)
    process.close()
    launching.forget(surroundings, process)
