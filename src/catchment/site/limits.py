"""Limits that a training script's process takes upon itself before its first line (standard library only)."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

MB = 1_000_000
MAX_PROCESSES = 512
"""So many processes may one worker have at a time; more is a fork bomb and not a data loader."""


@dataclass(frozen=True)
class Limits:
    """What one worker may use.

    Attributes:
        memory_mb: resident memory of the worker's whole tree, held by the keeper's watch.
        data_mb: private writable memory that may be *reserved* (RLIMIT_DATA), 0 for no limit.
        file_mb: largest file that may be written.
        threads: threads of a numerical library.
        cores: processor numbers that it is bound to; empty: not bound.
        cgroup: folder of a cgroup v2 that it moves into, "" for none.
    """

    memory_mb: int
    data_mb: int
    file_mb: int
    threads: int
    cores: tuple[int, ...] = ()
    cgroup: str = ""


def data_limit_mb(memory_mb: int, gpu: int) -> int:
    """RLIMIT_DATA for a worker that may use `memory_mb`, in MB; 0 when there can be none.

    Reserved memory is more than used memory: thread stacks, arenas, and half a gigabyte of a framework that
    is imported and hardly touched. So the limit is wide; it stops the one huge allocation that would hurt the
    machine before the watch on resident memory, which is exact, looks again. Drivers of GPUs reserve
    address space by the terabyte, hence no limit with them.
    """
    return 0 if gpu else 2 * memory_mb + 1000


def apply(limits: Limits) -> None:
    """Take the limits upon this process and all that it will start."""
    if limits.cgroup:
        with open(os.path.join(limits.cgroup, "cgroup.procs"), "w") as procs:  # noqa: PTH118, PTH123
            procs.write("0")
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * MB)
    if limits.data_mb:
        _lower(resource.RLIMIT_DATA, limits.data_mb * MB)
    if limits.cores:
        os.sched_setaffinity(0, limits.cores)


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that numerical libraries read their number of threads from."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def _lower(what: int, value: int) -> None:
    """Set both limits, never above the hard limit that holds already."""
    hard = resource.getrlimit(what)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (limit, limit))


def file_limit_mb(weights_bytes: int) -> int:
    """RLIMIT_FSIZE in MB: room for updates and optimizer states of any kind, not for filling a disk."""
    return 16_000 + 8 * weights_bytes // MB
