"""Figures of any process, under the names that Prometheus' own clients give them, and of its disk."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from catchment.observe.registry import Family, Registry

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
FREE = Family("catchment_disk_free_bytes", "gauge", "Free bytes where the home folder or the store lies.")
SIZE = Family("catchment_disk_size_bytes", "gauge", "All bytes there.")


def add_process(registry: Registry) -> None:
    """Add processor time, memory, open files and start time of this process."""
    cpu = Family("process_cpu_seconds_total", "counter", "Processor seconds, user and system.")
    registry.measured(cpu, lambda: {(): _cpu_s()})
    registry.now("process_resident_memory_bytes", "Resident memory.", _resident)
    registry.now("process_open_fds", "Open file descriptors.", _open_files)
    began = _began()
    registry.now(
        "process_start_time_seconds", "Start of the process, seconds since the epoch.", lambda: began
    )


def disk_of(registry: Registry, folder: Path) -> None:
    """Add what is free where a folder lies."""
    registry.measured(FREE, lambda: {(): float(shutil.disk_usage(folder).free)})
    registry.measured(SIZE, lambda: {(): float(shutil.disk_usage(folder).total)})


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _began() -> float:
    after_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / _TICKS
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return float(booted.split()[1]) + after_boot
