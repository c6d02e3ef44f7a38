"""The figures of a site's agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import catchment
from catchment.observe.process import add_process, disk_of
from catchment.observe.registry import LONG_BUCKETS_S, Registry

KEEP_S = 5.0
"""The cache's folder is gone through at most so often."""


class SiteFigures:
    """What one agent has done since it began; used by all its threads."""

    def __init__(self) -> None:
        self.registry = registry = Registry()
        built = registry.gauge(
            "catchment_build_info", "Always 1; its labels say what runs.", "part", "version"
        )
        built.set(1, "site", catchment.__version__)
        self.works = registry.counter(
            "catchment_site_works_total", "Works that ended, by kind and outcome.", "kind", "outcome"
        )
        self.script_seconds = registry.histogram(
            "catchment_site_script_seconds",
            "How long training scripts ran, by the kind of work.",
            "kind",
            bounds=LONG_BUCKETS_S,
        )
        self.work_seconds = registry.histogram(
            "catchment_site_work_seconds",
            "From the order to the result, by the kind of work.",
            "kind",
            bounds=LONG_BUCKETS_S,
        )
        self.moved = registry.counter(
            "catchment_site_bytes_total", "Bytes exchanged with the coordinator, without heads.", "direction"
        )
        self.cache = registry.counter(
            "catchment_site_cache_lookups_total", "Blobs that works asked for: hit, or miss.", "outcome"
        )
        self.connected = registry.gauge(
            "catchment_site_coordinator_up", "1 while the coordinator answers the site's polls."
        )
        self.connected.set(0)
        add_process(registry)

    def watch(self, outbox: Callable[[], int], held: Callable[[], int], cache: Path, home: Path) -> None:
        """Tell what lies there, too, whenever somebody asks.

        Args:
            outbox: how many results are not delivered.
            held: how many works are not done.
            cache: the folder of downloaded blobs.
            home: the agent's.
        """
        registry, kept = self.registry, _Kept(lambda: _size(cache))
        registry.now("catchment_site_outbox_works", "Finished works that are not delivered yet.", outbox)
        registry.now("catchment_site_held_works", "Works that are not finished yet.", held)
        registry.now("catchment_site_cache_bytes", "Bytes of downloaded blobs on disk.", kept)
        disk_of(registry, home)


class _Kept:
    """A number that is looked up again after some seconds only."""

    def __init__(self, look: Callable[[], float]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._value, self._until = 0.0, 0.0

    def __call__(self) -> float:
        with self._lock:
            if time.monotonic() >= self._until:
                self._value, self._until = self._look(), time.monotonic() + KEEP_S
            return self._value


def _size(folder: Path) -> float:
    total = 0
    for path in folder.glob("*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # removed meanwhile
    return total
