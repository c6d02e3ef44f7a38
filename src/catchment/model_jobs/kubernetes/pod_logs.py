"""What the containers of a step's pod print, as lines of their ModelJob."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from catchment.errors import CatchmentError, Unreachable
from catchment.jobs.times import rfc3339
from catchment.kubernetes.client import Cluster
from catchment.model_jobs import rows
from catchment.store import Store
from catchment.store.schema import model_job_lines

log = logging.getLogger(__name__)
LINES_AT_ONCE = 1000
EVERY_S = 3.0
"""So often is asked for what a container that runs has printed; at its end it is asked once more."""


class PodLogs:
    """Remembers how far each container was read.

    Args:
        store, uid: of the ModelJob that gets the lines.
        cluster, namespace: where the pods are.
        adopted: an earlier run has begun to read; what is older than the job's last line is known.
    """

    def __init__(self, store: Store, uid: str, cluster: Cluster, namespace: str, *, adopted: bool) -> None:
        self._store, self._uid = store, uid
        self._cluster, self._namespace = cluster, namespace
        self._known = self._last_line() if adopted else ""
        self._seen: dict[tuple[str, str], str] = {}
        self._over: set[tuple[str, str]] = set()
        self._asked: dict[tuple[str, str], float] = {}

    def follow(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Write down what is new. Logs that cannot be read now are read the next time."""
        for pod in pods:
            for container, over in _begun(pod):
                key = (str(pod["metadata"]["name"]), container)
                due = over or time.monotonic() - self._asked.get(key, -EVERY_S) >= EVERY_S
                if key not in self._over and due:
                    self._asked[key] = time.monotonic()
                    self._read(key, over)

    def _read(self, key: tuple[str, str], over: bool) -> None:
        try:
            lines = self._cluster.log(self._namespace, *key, tail=LINES_AT_ONCE, deadline_s=4.0)
        except Unreachable as error:
            log.info("modeljob log of %s: %s", key, error)
            return
        except CatchmentError as error:
            # Without the right to read logs, or on a node that is gone, the job itself goes on.
            lines = [("9", f"the log of container {key[1]} cannot be read: {error}")]
            over = True
        seen = self._seen.get(key, self._known)
        new = [f"{key[1]}: {text}" for at, text in lines if _later(at, seen)]
        if lines:
            self._seen[key] = max(lines[-1][0], seen)
        if over:
            self._over.add(key)
        if new:
            self._store.db.write(lambda tx: rows.line(tx, self._uid, *new))

    def _last_line(self) -> str:
        mine = select(func.max(model_job_lines.c.at)).where(model_job_lines.c.job_uid == self._uid)
        at = self._store.db.read(lambda tx: tx.execute(mine).scalar())
        return "" if at is None else rfc3339(at)


def _later(at: str, seen: str) -> bool:
    """Whether a line is newer; times have fractions of different lengths."""
    return at.rstrip("Z") > seen.rstrip("Z")


def _begun(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The containers that have started, and whether they have ended."""
    status = pod.get("status") or {}
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part) or []:
            state = container.get("state") or {}
            if "running" in state or "terminated" in state:
                yield str(container["name"]), "terminated" in state
