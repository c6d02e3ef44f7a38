"""Control groups v2, where the host lets the agent make them: exact limits on memory, cores and processes.

systemd gives them to a unit with `Delegate=yes`. Everywhere else the rlimits and the keeper's watch hold.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from catchment.site.limits import MAX_PROCESSES, MB
from catchment.wire.messages import Resource

logger = logging.getLogger(__name__)

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("memory", "cpu", "pids")
_PERIOD_US = 100_000


@dataclass(frozen=True)
class Cgroup:
    """The control group of one work."""

    folder: Path

    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed something in it because the memory was used up."""
        lines = (self.folder / "memory.events").read_text().splitlines()
        return any(line.startswith("oom_kill ") and not line.endswith(" 0") for line in lines)

    def remove(self) -> None:
        """Kill what is left in it and remove it."""
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        try:
            self.folder.rmdir()
        except OSError as error:
            logger.warning("control group stays folder=%s error=%s", self.folder, error)


class Cgroups:
    """The part of the tree of control groups that this agent may use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def delegated(cls, root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> Cgroups | None:
        """The agent's own group with its controllers switched on for subgroups; None where that may not be.

        A group with subgroups has no processes of its own: the agent moves into a subgroup `agent`. Where
        other processes are in the group the kernel refuses, and everything is left as it was.
        """
        try:
            own = root / _own_path(membership)
            there = (own / "cgroup.controllers").read_text().split()
            if not set(_CONTROLLERS) <= set(there) or not os.access(own / "cgroup.subtree_control", os.W_OK):
                return None
        except OSError:
            return None
        agent = own / "agent"
        try:
            agent.mkdir()
            (agent / "cgroup.procs").write_text(str(os.getpid()))
            (own / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
        except OSError as error:
            logger.info("control groups are not used folder=%s error=%s", own, error)
            with suppress(OSError):
                (own / "cgroup.procs").write_text(str(os.getpid()))
            with suppress(OSError):
                agent.rmdir()
            return None
        return cls(own)

    def create(self, name: str, resource: Resource, memory_mb: int) -> Cgroup:
        """A group for all workers of one work.

        Raises:
            OSError: the kernel does not take it.
        """
        group = Cgroup(self.folder / f"work-{name}")
        group.folder.mkdir()
        workers = resource.worker_num
        limits = {
            "memory.max": str(memory_mb * MB * workers),
            "memory.oom.group": "1",
            "cpu.max": f"{max(1000, int(resource.cpu * workers * _PERIOD_US))} {_PERIOD_US}",
            "pids.max": str(MAX_PROCESSES * workers * 4),
        }
        try:
            for file, value in limits.items():
                (group.folder / file).write_text(value)
        except OSError:
            group.remove()
            raise
        return group


def _own_path(membership: Path) -> str:
    """Path of this process's group in the unified tree, relative to its root.

    Raises:
        OSError: there is no unified tree.
    """
    for line in membership.read_text().splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").strip("/")
    raise FileNotFoundError("no cgroup v2")
