"""The serving host: compares what the store wants to run with what runs, and makes the one the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from catchment.errors import CatchmentError
from catchment.serving.host import adoption, launching, rows
from catchment.serving.host.launching import Ports, Surroundings
from catchment.serving.host.lock import HostLock
from catchment.serving.host.places import Models, Places
from catchment.serving.host.replica import Pace, Replica, Seen
from catchment.serving.host.rows import ReplicaId, Wanted
from catchment.serving.host.topics import TOPIC
from catchment.store import Store
from catchment.store.database import Transaction

log = logging.getLogger(__name__)
READY = "serving host ready"
LOOK_S = 5.0
"""The store is looked at so often even without a signal."""
STANDBY_S = 1.0
"""So soon a host that waits takes over from one that has ended."""


@dataclass(frozen=True)
class Terms:
    """How a host works.

    Attributes:
        name: of this machine, in the rows of endpoints.
        stop_s: a stop of the host gives all its model servers so long to drain.
        ports: chooses the ports of a model server.
    """

    name: str
    surroundings: Surroundings
    pace: Pace = field(default_factory=Pace)
    stop_s: float = 10.0
    ports: Callable[[], Ports] = launching.free_ports


class Host:
    """Runs until it is stopped. Replicas go on while the database does not answer."""

    def __init__(self, store: Store, terms: Terms) -> None:
        self._store = store
        self._terms = terms
        self._places = Places(store.settings.home)
        self._places.make()
        self._models = Models(store, self._places)
        self._lock = HostLock(store, self._places.root)
        self._replicas: dict[ReplicaId, Replica] = {}
        self._written: dict[ReplicaId, Seen] = {}
        self._stale: set[ReplicaId] = set()
        self._leads = False
        self._told_ready = False
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have `run` end: all model servers are drained and ended."""
        self._stopping.set()
        self._wake()

    def run(self) -> None:
        """Keep the store's workloads running until `stop`."""
        try:
            while not self._stopping.is_set():
                ticket = self._store.db.signals.ticket(TOPIC)
                pause_s = self._look_in_peace()
                if not self._stopping.is_set():
                    self._store.db.signals.wait(ticket, pause_s)
            # Only here: when the host itself breaks, the next one takes the model servers over.
            self._end_all()
        finally:
            self._lock.close()

    def _look_in_peace(self) -> float:
        """Look, whether the database answers or not; seconds until the next look."""
        try:
            self._look()
        except CatchmentError as error:
            log.warning("what is to run cannot be read or written: %s", error)
            return STANDBY_S
        return LOOK_S if self._leads else STANDBY_S

    def _look(self) -> None:
        """One comparison; it changes nothing where all is as it should be."""
        if not self._lock.hold():
            self._stand_by()
            return
        found = self._store.db.read(rows.workloads)
        if not self._leads:
            self._adopt(found)
            self._leads = True
        wanted = {
            (*each.id, number): each
            for each in found
            if not each.removing
            for number in range(each.workload.replicas)
        }
        self._report()
        for name, replica in self._replicas.items():
            asked = wanted.get(name)
            if asked is None or not _alike(asked, replica):
                replica.stop()
        for name in wanted.keys() - self._replicas.keys():
            self._begin(wanted[name], name)
        self._report()
        self._clear_stale()
        self._forget_removed(found)
        self._say_ready()

    def _say_ready(self) -> None:
        if not self._told_ready:
            self._told_ready = True
            log.info("%s", READY)

    def _stand_by(self) -> None:
        """Another host has the lock: what runs here is its to start, and not ours any more."""
        if self._leads or not self._told_ready:
            log.info("another serving host works for this store; waiting until it ends")
        if self._leads:
            self._end_all(write=False)  # the rows are the other's by now
        self._leads = False
        self._say_ready()

    def _adopt(self, found: list[Wanted]) -> None:
        """Take over what an earlier host has left, and clear away what it has not."""
        asked = {each.id: each for each in found}
        left = self._store.db.read(rows.endpoints)
        for row in left:
            name = (row.serving_uid, row.key, row.replica)
            wanted = asked.get(name[:2])
            running = None if wanted is None else adoption.running(row, wanted.workload, self._places)
            if wanted is None or running is None:
                self._stale.add(name)
                continue
            log.info("%s-%d goes on as process %d", row.key, row.replica, running.process.pid)
            replica = self._replicas[name] = self._replica(wanted, row.replica)
            replica.start(running, row.restarts)
            self._written[name] = replica.seen
        pids = [replica.seen.pid or 0 for replica in self._replicas.values()]
        adoption.end_strays(self._places, pids, self._terms.surroundings, self._terms.stop_s)
        self._models.sweep({each.workload.model.digest for each in found})

    def _clear_stale(self) -> None:
        """Remove the rows of processes that an earlier host had and that are no more."""
        stale = self._stale - self._replicas.keys()
        if stale:
            self._store.db.write(lambda tx: rows.delete_endpoints(tx, stale))
        self._stale.clear()

    def _replica(self, wanted: Wanted, number: int) -> Replica:
        return Replica(
            wanted.workload,
            number,
            places=self._places,
            models=self._models,
            surroundings=self._terms.surroundings,
            report=self._wake,
            pace=self._terms.pace,
            ports=self._terms.ports,
        )

    def _begin(self, wanted: Wanted, name: ReplicaId) -> None:
        replica = self._replicas[name] = self._replica(wanted, name[2])
        replica.start()

    def _wake(self) -> None:
        self._store.db.signals.arrived({TOPIC})

    def _report(self) -> None:
        """Write down what has changed, and let go of replicas that are gone."""
        now = {name: replica.seen for name, replica in self._replicas.items()}
        changed = {name: seen for name, seen in now.items() if self._written.get(name) != seen}
        if changed:
            self._store.db.write(lambda tx: rows.write_endpoints(tx, self._terms.name, changed))
        for name, seen in changed.items():
            self._written[name] = seen
            self._replicas[name].told(seen)
            if seen.state == "gone" and self._replicas[name].join(1.0):
                self._replicas.pop(name).close()
                del self._written[name]

    def _forget_removed(self, found: list[Wanted]) -> None:
        """Remove the workloads that are to be removed and of which nothing is left."""
        busy = {name[:2] for name in self._replicas}
        for each in found:
            if each.removing and each.id not in busy:
                uid, key = each.id

                def step(tx: Transaction, uid: str = uid, key: str = key) -> bool:
                    return rows.forget_workload(tx, uid, key)

                if self._store.db.write(step):
                    self._places.forget(uid, key)
                    used = {other.workload.model.digest for other in self._store.db.read(rows.workloads)}
                    self._models.sweep(used)

    def _end_all(self, *, write: bool = True) -> None:
        """Drain and end every model server; rows of what is gone go, too, where the database answers."""
        deadline = time.monotonic() + self._terms.stop_s + self._terms.pace.margin
        for replica in self._replicas.values():
            replica.stop(self._terms.stop_s)
        while write and self._replicas and time.monotonic() < deadline:
            ticket = self._store.db.signals.ticket(TOPIC)
            try:
                self._report()
            except CatchmentError as error:
                log.warning("what has ended cannot be written down: %s", error)
                break
            if self._replicas:
                self._store.db.signals.wait(ticket, STANDBY_S)
        for replica in self._replicas.values():
            if not replica.join(deadline - time.monotonic()):
                log.error("%s-%d is left running", replica.workload.key, replica.number)
        self._replicas.clear()
        self._written.clear()


def _alike(wanted: Wanted, replica: Replica) -> bool:
    """Whether a replica runs what is wanted now; how many there are does not matter."""
    return wanted.workload.scaled(0) == replica.workload.scaled(0)
