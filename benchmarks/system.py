"""The system under measurement: `catchment up` on free ports, and what its processes use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
GROUPS = ("agents", "scripts", "api", "flow", "runner", "prefect", "postgres: store", "postgres: prefect")
"""What processes are counted by; `scripts` with the fork servers that they come from."""


@contextmanager
def system(home: Path, sites: int, *, sqlite: bool) -> Iterator[str]:
    """`catchment up` on free ports; the API's address."""
    command = [sys.executable, "-m", "catchment.cli", "up", "--home", str(home), "--sites", str(sites)]
    command += ["--api-port", "0", "--prefect-port", "0", *(["--sqlite"] if sqlite else [])]
    up = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit("the system did not start")
        yield line.split()[1]
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)


@dataclass(frozen=True)
class Process:
    """One process of the system.

    Attributes:
        own_s: CPU seconds that it used itself.
        waited_s: CPU seconds of children that have ended.
    """

    pid: int
    parent: int
    title: str
    own_s: float
    waited_s: float


def processes() -> dict[int, Process]:
    """All living descendants of this process, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it ended while we looked
        own, waited = (sum(map(int, fields[first : first + 2])) / TICKS for first in (11, 13))
        found[int(entry.name)] = Process(int(entry.name), int(fields[1]), title, own, waited)
    family = {os.getpid()}
    while more := {process.pid for process in found.values() if process.parent in family} - family:
        family |= more
    return {pid: found[pid] for pid in family if pid in found and pid != os.getpid()}


def group_of(process: Process, everybody: dict[int, Process]) -> str:
    """Which of GROUPS a process belongs to; "other" for the rest (`catchment up`, PostgreSQL's own)."""
    line, ancestor = process.title, everybody.get(process.parent)
    if line.startswith("postgres:"):
        words = line.split()
        named = words[2] if len(words) > 2 and words[1] == "catchment" else ""
        return {"catchment": GROUPS[6], "prefect": GROUPS[7]}.get(named, "other")
    while (
        "catchment.site.warm" not in line
        and ancestor is not None
        and "catchment.cli up" not in ancestor.title
    ):
        if "flows.runner" in line and "flows.runner" in ancestor.title:
            return "flow"
        line, ancestor = ancestor.title, everybody.get(ancestor.parent)
    for part, group in (
        ("catchment.site.warm", "scripts"),
        ("catchment.cli site start", "agents"),
        ("-m api ", "api"),
        ("flows.runner", "runner"),
        ("prefect server", "prefect"),
    ):
        if part in line:
            return group
    return "other"


def cpu_seconds() -> dict[str, float]:
    """CPU seconds used so far, by group."""
    everybody, used = processes(), defaultdict(float)
    for process in everybody.values():
        group = group_of(process, everybody)
        # What a site's agent or the runner has waited for is counted where it ran.
        used[group] += process.own_s + (0.0 if group in ("agents", "runner", "other") else process.waited_s)
    return dict(used)


@dataclass
class Peaks:
    """The most memory that the API process and the flow process had, seen ten times a second.

    Attributes:
        resident: by group, bytes of the resident set; pages of mapped files count as well.
        private: by group, bytes that are the process's own (anonymous memory).
        before: `private` at the first look.
    """

    resident: dict[str, int] = field(default_factory=dict)
    private: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)


@contextmanager
def watched_memory() -> Iterator[Peaks]:
    """Look at the memory of the API and the flow process for the time of a `with` block."""
    peaks, over = Peaks(), threading.Event()

    def look() -> None:
        watched: dict[int, str] = {}
        while not over.wait(0.1):
            if set(watched.values()) != {"api", "flow"}:
                watched = _servers()
            for pid, group in list(watched.items()):
                memory = _memory(pid)
                if memory is None:
                    del watched[pid]
                    continue
                peaks.before.setdefault(group, memory[1])
                peaks.resident[group] = max(peaks.resident.get(group, 0), memory[0])
                peaks.private[group] = max(peaks.private.get(group, 0), memory[1])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _servers() -> dict[int, str]:
    """The API process, and the process that runs the flow: the one below the warm process."""
    everybody = processes()
    found = {}
    for process in everybody.values():
        group, parent = group_of(process, everybody), everybody.get(process.parent)
        below = group == "flow" and parent is not None and group_of(parent, everybody) == "flow"
        if group == "api" or below:
            found[process.pid] = group
    return found


def _memory(pid: int) -> tuple[int, int] | None:
    """Peak resident bytes and present anonymous bytes of a process; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = [int(status.split(f"{name}:")[1].split()[0]) for name in ("VmHWM", "RssAnon")]
    except (OSError, IndexError):
        return None
    return kilobytes[0] * 1024, kilobytes[1] * 1024
