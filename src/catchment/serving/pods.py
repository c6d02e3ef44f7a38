"""A serving's model servers as the original's clients see them: pods, and their logs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.runs import logs
from catchment.runs.logs import LINES_FROM_END, Selection
from catchment.serving import rows
from catchment.serving.backends import open_backend
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import servings


def pods_of(store: Store, namespace: str) -> list[dict[str, Any]]:
    """The model servers of a namespace's servings, in Kubernetes' shape.

    Raises:
        Unreachable: a backend does not answer.
    """
    return [
        pod
        for serving in _servings(store, namespace)
        for pod in open_backend(store, serving.backend).pods(rows.key_of(serving))
    ]


def log_details(
    store: Store, namespace: str, pod: str, container: str | None, wanted: Selection
) -> dict[str, Any] | None:
    """The lines that are wanted of a model server's log; None where there is no such pod.

    Raises:
        NotFound: it has no such container.
        Unreachable: its backend does not answer.
    """
    for serving in _servings(store, namespace):
        opened = open_backend(store, serving.backend)
        named = {each["metadata"]["name"]: each for each in opened.pods(rows.key_of(serving))}
        if pod in named:
            chosen = container or named[pod]["spec"]["containers"][0]["name"]
            found = opened.log_lines(namespace, pod, chosen, LINES_FROM_END)
            lines = [{"timestamp": time, "content": text} for time, text in found]
            return logs.details(pod, chosen, lines, wanted, truncated=len(lines) >= LINES_FROM_END)
    return None


def _servings(store: Store, namespace: str) -> list[Row[Any]]:
    mine = select(servings).where(servings.c.namespace == namespace).order_by(servings.c.name)

    def step(tx: Transaction) -> list[Row[Any]]:
        return list(tx.execute(mine).all())

    return store.db.read(step)
