"""The local backend: model servers of this machine, which a serving host runs as the store's rows say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, select, update

from catchment.errors import InvalidField, NotFound
from catchment.model_server.config import read_config
from catchment.models.formats import FORMATS
from catchment.serving.backends.local_pods import pod_of
from catchment.serving.host import lock, logs, rows
from catchment.serving.host.places import Places, files_to_serve
from catchment.serving.quantities import read_quantity
from catchment.serving.topics import ROUTES, WORKLOADS
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import servings

FORMAT = "ONNX"
RUNTIME = "onnxruntime"
MOST_REPLICAS = 32
"""More processes of one model than any machine has use for."""
RESOURCES = {"cpu", "memory", "ephemeral-storage"}


class LocalBackend:
    """Writes what is to run, and reads what does; a serving host does the rest (docs/serving-local.md)."""

    name = "local"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places = Places(store.settings.home)

    def check(self, workload: Workload) -> None:
        """Whether a model server of this machine can run it.

        Raises:
            InvalidField: no ONNX, another runtime, resources or bounds that it does not have.
        """
        _check_format(workload)
        if workload.runtime not in ("", RUNTIME):
            raise InvalidField(
                "runtime", f"{workload.runtime!r} does not run on this machine; leave it out or say {RUNTIME}"
            )
        if not 0 <= workload.replicas <= MOST_REPLICAS:
            raise InvalidField("replicas", f"must be 0 to {MOST_REPLICAS} on this machine")
        for kind in ("requests", "limits"):
            for name, amount in workload.resources.get(kind, {}).items():
                _check_resource(f"resources.{kind}.{name}", name, amount)
        try:
            read_config({**workload.server, "name": workload.serving.name})
        except InvalidField as error:
            raise InvalidField(f"server.{error.field}", error.problem) from None

    def apply(self, workload: Workload) -> None:
        """Have it run; its version is not deleted while it does.

        Raises:
            NotFound, WrongState: its version is gone, or is not what it was.
        """
        self.check(workload)

        def step(tx: Transaction) -> None:
            files_to_serve(tx, workload.model, lock=True)
            rows.put_workload(tx, workload)
            tx.notify(WORKLOADS)

        self._store.db.write(step)

    def observe(self, workload: Workload) -> Observed:
        """How its replicas are."""
        uid, key = workload.serving.uid, workload.key

        def step(tx: Transaction) -> tuple[rows.Wanted | None, list[Row[Any]]]:
            return rows.workload(tx, uid, key), rows.endpoints(tx, uid, key)

        wanted, found = self._store.db.read(step)
        if wanted is None:
            return Observed("absent")
        replicas = wanted.workload.replicas
        mine = [row for row in found if row.replica < replicas]
        if wanted.removing:
            return Observed("starting", 0, replicas, "it is being removed")
        ready = sum(row.state == "ready" for row in mine)
        if ready >= replicas:
            return Observed("ready", ready, replicas)
        if failed := [row.message for row in mine if row.state == "failed"]:
            return Observed("failed", ready, replicas, failed[0])
        return Observed("starting", ready, replicas, self._waiting_for(mine, ready, replicas))

    def _waiting_for(self, mine: list[Row[Any]], ready: int, replicas: int) -> str:
        if not lock.is_running(self._store):
            return (
                "no serving host works for this store; 'catchment up' runs one where the extra 'serving' is "
                "installed, and so does 'python -m catchment.serving.host'"
            )
        said = next((row.message for row in mine if row.message), "")
        return f"{ready} of {replicas} replicas are ready" + (f"; {said}" if said else "")

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """Where its ready replicas answer, on loopback."""
        uid, key = workload.serving.uid, workload.key
        found = self._store.db.read(lambda tx: rows.endpoints(tx, uid, key))
        name = workload.serving.name
        return [Endpoint(row.http, row.grpc, name) for row in found if row.state == "ready"]

    def route(self, serving: ServingKey, weights: Mapping[str, int]) -> None:
        """Split the serving's traffic; gateways hear of it when the transaction commits.

        Raises:
            InvalidField: the weights are not 100 together.
            NotFound: no such serving.
        """
        given = dict(weights)
        if given and (sum(given.values()) != 100 or min(given.values()) < 0):
            raise InvalidField("weights", f"must be percentages, 100 together, not {given}")
        if not self._store.db.write(lambda tx: _set_weights(tx, serving.uid, given)) and given:
            raise NotFound(f"serving {serving.name!r} does not exist in namespace {serving.namespace!r}")

    def routed(self, serving: ServingKey) -> dict[str, int]:
        """How its traffic is split."""
        mine = select(servings.c.weights).where(servings.c.uid == serving.uid)
        return dict(self._store.db.read(lambda tx: tx.execute(mine).scalar()) or {})

    def remove(self, serving: ServingKey, keys: Iterable[str]) -> None:
        """Drain and end these workloads."""
        named = list(keys)

        def step(tx: Transaction) -> None:
            rows.remove_workloads(tx, serving.uid, named)
            tx.notify(WORKLOADS)

        self._store.db.write(step)

    def remove_all(self, serving: ServingKey) -> bool:
        """Drain and end all of a serving; whether it is gone."""

        def step(tx: Transaction) -> bool:
            _set_weights(tx, serving.uid, {})
            rows.remove_workloads(tx, serving.uid)
            tx.notify(WORKLOADS)
            return not rows.workloads(tx, serving.uid) and not rows.endpoints(tx, serving.uid)

        return self._store.db.write(step)

    def pods(self, serving: ServingKey) -> list[dict[str, Any]]:
        """Its replicas as pods."""

        def step(tx: Transaction) -> tuple[list[rows.Wanted], list[Row[Any]]]:
            return rows.workloads(tx, serving.uid), rows.endpoints(tx, serving.uid)

        wanted, found = self._store.db.read(step)
        seen = {(row.key, row.replica): row for row in found}
        pods = []
        for each in wanted:
            key = each.workload.key
            numbers = {row.replica for row in found if row.key == key}
            numbers |= set() if each.removing else set(range(each.workload.replicas))
            pods += [pod_of(each, number, seen.get((key, number))) for number in sorted(numbers)]
        return pods

    def log_lines(self, namespace: str, pod: str, container: str, most: int) -> list[tuple[str, str]]:
        """The last lines of a replica's log.

        Raises:
            NotFound: no such pod, or no such container in it.
        """
        key, _, number = pod.rpartition("-")
        for each in self._store.db.read(rows.workloads):
            workload = each.workload
            if workload.serving.namespace != namespace or workload.key != key or not number.isdecimal():
                continue
            if container not in ("", workload.graph):
                raise NotFound(f"pod {pod!r} has no container {container!r}, only {workload.graph!r}")
            return logs.last_lines(self._places.log(workload.serving.uid, key, int(number)), most)
        raise NotFound(f"pod {pod!r} does not exist in namespace {namespace!r}")


def _check_format(workload: Workload) -> None:
    if workload.model.format == FORMAT:
        return
    known = FORMATS.get(workload.model.format)
    named = f"{workload.model.reference} is {workload.model.format or 'of no known format'}"
    if known is not None and FORMAT in known.converts_to:
        way = f"convert it to {FORMAT} with a ModelJob, and serve what that makes"
    else:
        able = ", ".join(each.name for each in FORMATS.values() if FORMAT in each.converts_to)
        way = f"nor can it be converted to it, as can {able}"
    raise InvalidField("model", f"{named}, and this machine serves {FORMAT} only; {way}")


def _check_resource(field: str, name: str, amount: str) -> None:
    if name not in RESOURCES:
        raise InvalidField(
            field,
            "is not to be had on this machine, which serves on its processors; leave it out, "
            "or serve on Kubernetes",
        )
    if read_quantity(amount, field) <= 0:
        raise InvalidField(field, "must be more than 0")


def _set_weights(tx: Transaction, uid: str, weights: dict[str, int]) -> bool:
    tx.notify(ROUTES)
    changed = tx.execute(update(servings).where(servings.c.uid == uid).values(weights=weights))
    return bool(changed.rowcount)
