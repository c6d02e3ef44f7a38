"""What containers do when the fake kubelet starts them."""

from __future__ import annotations

import fnmatch
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.kubernetes_double.objects import Object

Kind = Literal[
    "ends",
    "runs",
    "never ready",
    "pull",
    "invalid image",
    "unschedulable",
    "evicted",
    "crash loop",
    "creating",
    "process",
]
Start = Callable[[Object, Object], "subprocess.Popen[str]"]
"""(pod, container) -> the process, with stdout as a text pipe and stderr in it."""


@dataclass(frozen=True)
class Outcome:
    """One container's fate; made by the functions below."""

    kind: Kind
    code: int = 0
    reason: str = ""
    message: str = ""
    log: str = ""
    start: Start | None = None
    ready: Callable[[Object], bool] | None = None


def succeeds(log: str = "") -> Outcome:
    """Ends with 0."""
    return Outcome("ends", 0, "Completed", log=log)


def fails(code: int, log: str = "") -> Outcome:
    """Ends with a code."""
    return Outcome("ends", code, "Error", log=log)


def out_of_memory(log: str = "") -> Outcome:
    """The kernel kills it at its memory limit."""
    return Outcome("ends", 137, "OOMKilled", log=log)


def runs(log: str = "") -> Outcome:
    """Runs on, and is ready."""
    return Outcome("runs", log=log)


def never_ready(log: str = "") -> Outcome:
    """Runs on; its readiness probe never passes."""
    return Outcome("never ready", log=log)


def image_pull_back_off(message: str = "") -> Outcome:
    """Its image cannot be had."""
    return Outcome("pull", message=message)


def invalid_image() -> Outcome:
    """Its image's name is none."""
    return Outcome("invalid image")


def creating() -> Outcome:
    """It stays being created, as with a volume that is not there."""
    return Outcome("creating")


def unschedulable(message: str = "0/1 nodes are available: 1 Insufficient memory.") -> Outcome:
    """Its pod finds no node."""
    return Outcome("unschedulable", message=message)


def evicted(message: str = "The node was low on resource: ephemeral-storage. ") -> Outcome:
    """Its pod is evicted once it runs."""
    return Outcome("evicted", message=message)


def crash_loop(code: int = 1, log: str = "") -> Outcome:
    """It ends and is restarted, again and again."""
    return Outcome("crash loop", code, "Error", log=log)


def process(start: Start, ready: Callable[[Object], bool] | None = None) -> Outcome:
    """It is a real process of this machine; `ready(pod)` is asked until it is true (None: at once)."""
    return Outcome("process", start=start, ready=ready)


@dataclass
class _Line:
    outcome: Outcome
    image: str
    labels: Mapping[str, str]
    container: str
    times: int | None


@dataclass
class Script:
    """Which outcome which container has: the last line that fits and is not used up."""

    lines: list[_Line] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        outcome: Outcome,
        image: str,
        labels: Mapping[str, str] | None,
        container: str,
        times: int | None,
    ) -> None:
        """From now on, for pods that are not started yet."""
        with self.lock:
            self.lines.append(_Line(outcome, image, labels or {}, container, times))

    def take(self, pod: Object, container: Object) -> Outcome:
        """A container's outcome; asked once for each start of a pod."""
        labels = pod["metadata"].get("labels") or {}
        with self.lock:
            for line in reversed(self.lines):
                fits = fnmatch.fnmatchcase(container["image"], line.image) and line.container in (
                    "",
                    container["name"],
                )
                if (
                    fits
                    and line.times != 0
                    and all(labels.get(key) == value for key, value in line.labels.items())
                ):
                    line.times = None if line.times is None else line.times - 1
                    return line.outcome
        return runs() if pod["spec"].get("restartPolicy", "Always") == "Always" else succeeds()
