"""The routing table: which servings there are, how their traffic is split, and where their servers answer."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import select

from catchment.store.database import Transaction
from catchment.store.schema import serving_endpoints, serving_workloads, servings

log = logging.getLogger(__name__)
_REVISION = re.compile(r"-r(\d+)$")


class Place(NamedTuple):
    """One model server that is ready."""

    uid: str
    key: str
    replica: int
    host: str
    port: int


@dataclass(frozen=True)
class Target:
    """One workload of a serving.

    Attributes:
        weight: percent of the traffic.
        revision: of the serving that it belongs to.
        predictor: which of the revision's; empty where it is not known.
        places: its servers that are ready, by replica.
    """

    key: str
    weight: int
    revision: int
    predictor: str = ""
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Route:
    """One serving.

    Attributes:
        models: names that its model may be called in addresses.
        targets: by key.
        rolling: whether a rollout is under way.
        why: what a person should know when nobody answers.
    """

    uid: str
    namespace: str
    name: str
    models: frozenset[str]
    targets: tuple[Target, ...]
    rolling: bool = False
    why: str = ""

    @property
    def open(self) -> list[Target]:
        """Targets that take traffic and have a server."""
        return [each for each in self.targets if each.weight > 0 and each.places]

    def silence(self, *, failed: bool) -> str:
        """Why nobody answers. `failed`: servers were asked in vain."""
        name = f"serving {self.namespace}/{self.name}"
        if not any(each.weight > 0 for each in self.targets):
            return f"{name} takes no traffic: {self.why}"
        if failed:
            return f"no model server of {name} answers just now"
        return f"no model server of {name} is ready: {self.why}"

    def of_version(self, version: str) -> Route:
        """The route for a request that names a model version, which is a revision; itself where none fits."""
        fitting = tuple(each for each in self.open if str(each.revision) == version)
        return replace(self, targets=fitting) if fitting else self


@dataclass(frozen=True)
class Table:
    """All servings, as they were when it was read."""

    routes: Mapping[tuple[str, str], Route] = field(default_factory=dict)

    def find(self, namespace: str, name: str) -> Route | None:
        """A serving's route."""
        return self.routes.get((namespace, name))

    def places(self) -> Iterable[Place]:
        """Every server of every serving."""
        for route in self.routes.values():
            for target in route.targets:
                yield from target.places


def read(tx: Transaction) -> Table:
    """The table as the store has it now."""
    told: dict[str, dict[str, Any]] = defaultdict(dict)
    spec = serving_workloads.c.spec
    facts = (spec["revision"].as_integer(), spec["predictor"].as_string(), spec["graph"].as_string())
    for row in tx.execute(select(serving_workloads.c.serving_uid, serving_workloads.c.key, *facts)):
        told[row[0]][row[1]] = tuple(row[2:])
    places: dict[str, dict[str, list[Place]]] = defaultdict(lambda: defaultdict(list))
    waiting: dict[str, list[str]] = defaultdict(list)
    for row in tx.execute(select(serving_endpoints).order_by(serving_endpoints.c.replica)):
        if row.state != "ready":
            waiting[row.serving_uid].append(f"{row.key}: {row.state} {row.message}".strip())
        elif (place := _place(row)) is not None:
            places[row.serving_uid][row.key].append(place)
    routes = {
        (row.namespace, row.name): _route(row, told[row.uid], places[row.uid], waiting[row.uid])
        for row in tx.execute(select(*(getattr(servings.c, each) for each in _COLUMNS)))
    }
    return Table(routes)


_COLUMNS = ("uid", "namespace", "name", "weights", "rolling", "state", "message")


def _route(
    row: Any, told: Mapping[str, Any], places: Mapping[str, list[Place]], waiting: Iterable[str]
) -> Route:
    keys = sorted({*row.weights, *told, *places})
    targets = []
    graphs = {row.name}
    for key in keys:
        revision, predictor, graph = told.get(key) or (revision_of(key), "", "")
        graphs.add(graph or row.name)
        weight = int(row.weights.get(key, 0))
        targets.append(Target(key, weight, revision or 0, predictor or "", tuple(places.get(key, ()))))
    why = "; ".join((f"it is {row.state}", *filter(None, (row.message, *waiting))))
    return Route(
        row.uid,
        row.namespace,
        row.name,
        frozenset(graphs),
        tuple(targets),
        row.rolling is not None,
        why[:500],
    )


def revision_of(key: str) -> int:
    """The revision that a workload's key ends with; 0 where it was too long to say so."""
    found = _REVISION.search(key)
    return int(found[1]) if found else 0


def _place(row: Any) -> Place | None:
    """Where an endpoint answers; None, and a line in the log, for an address of another form."""
    try:
        parts = urlsplit(row.http)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme != "http" or not host or parts.path not in ("", "/"):
        log.warning("workload %s has an address that is not http://host:port: %r", row.key, row.http)
        return None
    return Place(row.serving_uid, row.key, row.replica, host, port)
