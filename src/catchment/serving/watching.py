"""Looking at what runs: the state of a serving's workloads, and the new version beside the stable one."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from sqlalchemy import select

from catchment.errors import CatchmentError, NotFound, RolloutFailed
from catchment.serving import asking, figures, rows
from catchment.serving.backends import open_backend
from catchment.serving.comparing import Probed, Seen, Verdict, judge
from catchment.serving.figures import Figures
from catchment.serving.spec import Canary
from catchment.serving.states import State
from catchment.serving.workload import Backend, Workload
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import servings

TICK_S = 0.5
PROBE_S = 5.0


def look(store: Store, uid: str) -> None:
    """Write down how a serving's workloads are, and whether it is available. Raises Unreachable."""

    def step(tx: Transaction) -> tuple[Any, list[Workload], list[Workload]]:
        serving = rows.by_uid(tx, uid)
        rolling = rows.rollout(tx, uid, serving.rolling) if serving.rolling is not None else None
        return serving, rows.stable_workloads(tx, serving), rows.workloads_of(rolling) if rolling else []

    serving, stable, rolling = store.db.read(step)
    backend = open_backend(store, serving.backend)
    seen = {each.key: asdict(backend.observe(each)) for each in (*stable, *rolling)}
    state, message = _state_of(serving, [seen[each.key] for each in stable])
    if (seen, state, message) == (serving.observed, serving.state, serving.message):
        return

    def write(tx: Transaction) -> None:
        current = rows.by_uid(tx, uid, lock=True)
        if (current.stable, current.rolling) != (serving.stable, serving.rolling) or current.deleting:
            return
        rows.change(tx, uid, observed=seen, state=state, message=message)
        if state != current.state:
            kind: Literal["Normal", "Warning"] = "Normal" if state == State.AVAILABLE else "Warning"
            rows.event(tx, uid, str(state), message or "all model servers answer", kind)

    store.db.write(write)


def _state_of(serving: Any, stable: list[dict[str, Any]]) -> tuple[str, str]:
    """Available while one replica of each predictor answers; what the rollout said stays said."""
    if serving.stable is None:
        return serving.state, serving.message
    gone = [each for each in stable if not each["ready"]]
    if gone:
        return State.FAILED, next(
            (each["message"] for each in gone if each["message"]), "no model server answers"
        )
    back = serving.state == State.FAILED
    return State.AVAILABLE, "" if back else serving.message


@dataclass
class _Side:
    """One version's workloads while they are watched."""

    workloads: list[Workload]
    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def ask(self, backend: Backend, generator: np.random.Generator) -> None:
        """One inference of each of its workloads."""
        for each in self.workloads:
            try:
                endpoint = backend.endpoints(each)[0]
                with asking.Asker(endpoint, PROBE_S) as asker:
                    answer = asker.infer(asking.sample(each.model, generator, each.server))
            except (CatchmentError, IndexError):
                self.errors += 1
            else:
                self.seconds.append(answer.seconds)

    def seen(self, before: dict[str, Figures], now: dict[str, Figures]) -> Seen:
        """What was seen of it since `before`."""
        live = Figures()
        for each in self.workloads:
            live += now.get(each.key, Figures()) - before.get(each.key, Figures())
        return Seen(live, Probed(tuple(self.seconds), self.errors))


def compare(
    store: Store,
    uid: str,
    backend: Backend,
    canary: Canary,
    stable: list[Workload],
    new: list[Workload],
    stop: threading.Event,
) -> Verdict:
    """Watch both versions for a step's time; back at once when something is against the new one.

    Raises:
        RolloutFailed: too few requests came to judge by, or the new version does not run any more.
    """
    sides = _Side(stable), _Side(new)
    before = store.db.read(lambda tx: figures.read(tx, uid))
    began = time.monotonic()
    every_s = canary.step_s / canary.probes if canary.probes else 0.0
    for tick in itertools.count():
        _probe(backend, canary, sides, tick, began, every_s)
        now = store.db.read(lambda tx: figures.read(tx, uid))
        verdict = judge(canary, *(side.seen(before, now) for side in sides))
        for each in new:
            if (seen := backend.observe(each)).state == "failed":
                raise RolloutFailed(f"{each.key} does not run any more: {seen.message}", verdict.facts)
        enough = verdict.facts["requests"]["new"] >= canary.min_requests
        passed_s = time.monotonic() - began
        if verdict.against or stop.is_set() or (passed_s >= canary.step_s and enough):
            return verdict
        if passed_s >= max(canary.max_step_s, canary.step_s):
            seen_requests = verdict.facts["requests"]["new"]
            raise RolloutFailed(
                f"only {seen_requests} of {canary.min_requests} requests came within {canary.max_step_s:g} s",
                verdict.facts,
            )
        stop.wait(TICK_S)
    raise AssertionError("unreachable")


def _probe(
    backend: Backend,
    canary: Canary,
    sides: tuple[_Side, _Side],
    tick: int,
    began: float,
    every_s: float,
) -> None:
    """Ask both what is due by now; alternately, so that whatever else happens meets both."""
    due = canary.probes if not every_s else min(canary.probes, int((time.monotonic() - began) / every_s) + 1)
    asked = len(sides[1].seconds) + sides[1].errors
    for number in range(asked // max(1, len(sides[1].workloads)), due):
        for side in sides:
            side.ask(backend, np.random.default_rng((tick, number)))


def look_at_all(store: Store) -> list[str]:
    """`look` at every serving; what went wrong, in words."""
    found = []
    for uid in store.db.read(_uids):
        try:
            look(store, uid)
        except NotFound:
            continue  # deleted meanwhile
        except CatchmentError as error:
            found.append(str(error))
    return found


def _uids(tx: Transaction) -> list[str]:
    mine = select(servings.c.uid).where(~servings.c.deleting)
    return list(tx.execute(mine.order_by(servings.c.uid)).scalars())
