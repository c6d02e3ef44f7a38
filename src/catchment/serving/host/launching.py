"""How a replica's model server is started: its command line, its surroundings, its limits, its ports."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from catchment.model_server.config import available_cpus
from catchment.serving.host import logs
from catchment.serving.host.process import ServerProcess
from catchment.serving.quantities import read_quantity
from catchment.serving.workload import Workload
from catchment.stack import guard

HOST = "127.0.0.1"
MODULE = "api.model_server"
INHERITED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ"),
    *("PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
)
"""Of the host's own variables. No other: its database's URL holds a password."""
GIVEN = frozenset({"TZ", "LANG", "LC_ALL", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"})
"""Of a workload's variables. Others mean nothing to this server; some (LD_PRELOAD) would run code in it."""
LOG_LIMIT_BYTES = 16 * logs.MOST_BYTES
"""A model server writes no file but its log; one that floods it between two looks cannot fill the disk."""
RESERVABLE = 2, 1 << 30
"""Private memory that may be reserved: so many times the limit on what is used, and so many bytes more.
Stacks and arenas of threads reserve far more than they use: no tighter limit, and none on address space."""


@dataclass(frozen=True)
class Ports:
    """Where a model server listens on loopback."""

    http: int
    grpc: int


@dataclass(frozen=True)
class Surroundings:
    """What all model servers of a host have in common.

    Attributes:
        project: the folder that holds `api/`.
        guard: descriptor on which processes announce themselves to the guard of `catchment up`, if it runs.
    """

    project: Path
    guard: int | None = None


def free_ports() -> Ports:
    """Two ports that nobody listens on now; somebody may before the server does."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind((HOST, 0))
        return Ports(first.getsockname()[1], second.getsockname()[1])


def command(workload: Workload, folder: Path, ports: Ports) -> list[str]:
    """The command line of a replica; equal ones run equal servers."""
    named = ["--model", str(folder), "--name", workload.serving.name, "--version", str(workload.revision)]
    listening = ["--host", HOST, "--http-port", str(ports.http), "--grpc-port", str(ports.grpc)]
    bounds = ["--config", json.dumps(config(workload), sort_keys=True)]
    return [sys.executable, "-m", MODULE, *named, *listening, *bounds]


def config(workload: Workload) -> dict[str, object]:
    """The model server's bounds: what was asked for, and no more inferences at a time than processors."""
    cpu = workload.resources.get("limits", {}).get("cpu")
    bounds = dict(workload.server)
    if cpu is not None and "concurrency" not in bounds:
        asked = read_quantity(cpu, "resources.limits.cpu") / max(1, int(bounds.get("threads", 1)))
        bounds["concurrency"] = max(1, min(round(asked), available_cpus()))
    return bounds


def memory_limit(workload: Workload) -> int | None:
    """Bytes that a replica may hold for itself; None without a limit."""
    limit = workload.resources.get("limits", {}).get("memory")
    return None if limit is None else int(read_quantity(limit, "resources.limits.memory"))


def start(argv: list[str], workload: Workload, surroundings: Surroundings, log: Path) -> ServerProcess:
    """Start a model server in a session of its own, which outlives the host.

    Raises:
        OSError: the machine cannot start another process, or the log cannot be written.
    """
    descriptors = () if surroundings.guard is None else (surroundings.guard,)
    if surroundings.guard is not None:
        argv = guard.announced(surroundings.guard, argv, signal.SIGTERM)
    output = logs.open_log(log)
    try:
        child = subprocess.Popen(
            argv,
            cwd=surroundings.project,
            env=environment(workload, surroundings.project),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=descriptors,
        )
    finally:
        os.close(output)
    with contextlib.suppress(ProcessLookupError):  # it ended at once; whoever waits for it will see
        _limit(child.pid, memory_limit(workload))
    return ServerProcess.of_child(child)


def environment(workload: Workload, project: Path, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A model server's variables: few of ours, and those of the workload that are known to be harmless."""
    kept = {name: own[name] for name in INHERITED if name in own}
    given = {name: value for name, value in workload.env.items() if name in GIVEN}
    path = os.pathsep.join([str(project), *filter(None, [own.get("PYTHONPATH")])])
    return {**kept, **given, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _limit(pid: int, memory_bytes: int | None) -> None:
    """The kernel's limits on a process that has just begun; what it becomes keeps them."""
    _lower(pid, resource.RLIMIT_CORE, 0)
    _lower(pid, resource.RLIMIT_FSIZE, LOG_LIMIT_BYTES)
    if memory_bytes is not None:
        times, more = RESERVABLE
        _lower(pid, resource.RLIMIT_DATA, times * memory_bytes + more)


def _lower(pid: int, what: int, value: int) -> None:
    """Set both limits, never above the hard limit that holds already."""
    hard = resource.prlimit(pid, what)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.prlimit(pid, what, (limit, limit))


def forget(surroundings: Surroundings, process: ServerProcess) -> None:
    """Tell the guard that a process has ended."""
    if surroundings.guard is not None:
        guard.forget(surroundings.guard, process.pid)
