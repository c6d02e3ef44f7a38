"""Processes by descriptor: waited for without polling, and never mistaken for another of the same number."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Literal

Woken = Literal["ended", "rung", "time"]
_PROC = Path("/proc")
_START_TIME = 19
"""Of the fields after a process's name in its stat: its start in clock ticks since boot."""


class Alarm:
    """Rung once from any thread; whoever waits for a process hears it too."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Wake all who wait, and whoever waits later."""
        os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was rung, before or within the time."""
        return bool(_readable([self.descriptor], timeout_s))

    def close(self) -> None:
        """Give the descriptor back; nobody may wait any more."""
        os.close(self.descriptor)


class ServerProcess:
    """A running process: a child of ours, or one that an earlier host has left.

    Attributes:
        pid: its number.
        started: its start in clock ticks since boot; with the number it names one process only.
    """

    def __init__(
        self, pid: int, descriptor: int, started: int, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.pid = pid
        self.started = started
        self._descriptor = descriptor
        self._child = child

    @classmethod
    def of_child(cls, child: subprocess.Popen[bytes]) -> ServerProcess:
        """A child that was just started; it is not reaped before `close`, so its number stays its own."""
        return cls(child.pid, os.pidfd_open(child.pid), start_time(child.pid) or 0, child)

    @classmethod
    def found(cls, pid: int, started: int) -> ServerProcess | None:
        """The process that has this number and began at this time; None when it has ended."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        if start_time(pid) == started and not _readable([descriptor], 0):
            return cls(pid, descriptor, started, None)
        os.close(descriptor)
        return None

    def wait(self, timeout_s: float, alarm: Alarm | None = None) -> Woken:
        """Sleep until it ends, the alarm rings, or the time is over."""
        watched = [self._descriptor, *([alarm.descriptor] if alarm else [])]
        ready = _readable(watched, timeout_s)
        if self._descriptor in ready:
            return "ended"
        return "rung" if ready else "time"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """Kill it, with all that it started."""
        self.signal(signal.SIGKILL)
        if self._child is not None:  # not reaped: the group's number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int | None:
        """Reap it after its end; its exit code, minus a signal's number, None for one that is no child."""
        os.close(self._descriptor)
        return None if self._child is None else self._child.wait()

    def private_bytes(self) -> int:
        """Memory that it holds for itself: without the files that it has mapped. 0 when it has ended."""
        try:
            lines = (_PROC / str(self.pid) / "status").read_text().splitlines()
        except OSError:
            return 0
        return sum(
            int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:"))
        )


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none."""
    try:
        # The name stands in parentheses and may hold anything, even ")".
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[_START_TIME])


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; none when it has ended."""
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def commands() -> dict[int, list[str]]:
    """The command lines of our user's processes, by their numbers."""
    found = {}
    for folder in _PROC.iterdir():
        try:
            if folder.name.isdigit() and folder.stat().st_uid == os.getuid():
                found[int(folder.name)] = command_line(int(folder.name))
        except OSError:
            continue  # it ended while we looked
    return found


def _readable(descriptors: list[int], timeout_s: float) -> set[int]:
    watch = select.poll()
    for descriptor in descriptors:
        watch.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in watch.poll(max(0.0, timeout_s) * 1000)}
