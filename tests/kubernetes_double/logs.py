"""Logs of containers, as the kubelet keeps them: the present run, and the one before it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.kubernetes_double.objects import Object
from tests.kubernetes_double.problems import Problem

Run = tuple[str, str]
"""The pod's uid, the container's name."""


@dataclass
class Logs:
    """Lines of all containers. Safe from several threads."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    _lines: dict[Run, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    _previous: dict[Run, list[tuple[str, str]]] = field(default_factory=dict)
    _begun: set[Run] = field(default_factory=set)
    _ended: set[Run] = field(default_factory=set)

    def begin(self, uid: str, container: str) -> None:
        """A container starts: what an earlier run of it said is the previous log now."""
        with self.changed:
            run = (uid, container)
            if run in self._begun:
                self._previous[run] = self._lines.pop(run, [])
            self._begun.add(run)
            self._ended.discard(run)
            self.changed.notify_all()

    def end(self, uid: str, container: str) -> None:
        """The container has ended; whoever follows its log is done."""
        with self.changed:
            self._ended.add((uid, container))
            self.changed.notify_all()

    def say(self, uid: str, container: str, text: str) -> None:
        """Add lines."""
        with self.changed:
            for line in text.splitlines():
                at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                self._lines[(uid, container)].append((at, line))
            self.changed.notify_all()

    def read(self, pod: Object, query: dict[str, str]) -> str:
        """What GET …/log answers. Problem 400 as the kubelet words it; before there is one, nothing."""
        run = self._run(pod, query)
        if not pod["spec"].get("nodeName"):
            return ""
        with self.changed:
            if query.get("previous", "").lower() in ("true", "1"):
                if run not in self._previous:
                    name = pod["metadata"]["name"]
                    raise Problem(400, f'previous terminated container "{run[1]}" in pod "{name}" not found')
                lines = self._previous[run]
            else:
                lines = list(self._lines.get(run, []))
        if query.get("tailLines"):
            count = int(query["tailLines"])
            lines = lines[-count:] if count else []
        stamped = query.get("timestamps", "").lower() in ("true", "1")
        text = "".join(f"{at} {line}\n" if stamped else f"{line}\n" for at, line in lines)
        return text[: int(query["limitBytes"])] if query.get("limitBytes") else text

    def wait(self, pod: Object, query: dict[str, str], known: int, wait_s: float) -> bool:
        """Wait for more than `known` characters; whether the container has ended."""
        run, deadline = self._run(pod, query), time.monotonic() + wait_s
        with self.changed:
            while run not in self._ended and len(self.read(pod, query)) <= known:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self.changed.wait(left_s)
            return run in self._ended

    def _run(self, pod: Object, query: dict[str, str]) -> Run:
        spec, name = pod["spec"], pod["metadata"]["name"]
        names = [each["name"] for each in spec["containers"]]
        every = names + [each["name"] for each in spec.get("initContainers") or []]
        container = query.get("container") or (names[0] if len(names) == 1 else "")
        if not container:
            raise Problem(400, f"a container name must be specified for pod {name}, choose one of: {names}")
        if container not in every:
            raise Problem(400, f"container {container} is not valid for pod {name}")
        run = (pod["metadata"]["uid"], container)
        if run not in self._begun and pod["spec"].get("nodeName"):
            waiting: dict[str, Any] = {}
            for part in ("initContainerStatuses", "containerStatuses"):
                for each in pod.get("status", {}).get(part, []):
                    if each["name"] == container:
                        waiting = each["state"].get("waiting", {})
            reason = waiting.get("reason", "ContainerCreating")
            raise Problem(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        return run
