"""The steps of a rollout. Each may be run twice: what it found is in its row, and is found again."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import rows as catalog_rows
from catchment.errors import JobStopped, LeaseLost, RolloutFailed, Unreachable, WrongState
from catchment.serving import asking, comparing, resolving, rows, saying, undoing, watching
from catchment.serving.backends import open_backend
from catchment.serving.claim import RolloutClaim, held, stop_watched
from catchment.serving.spec import Canary, ServingSpec
from catchment.serving.states import RolloutPhase, State
from catchment.serving.topics import ENDPOINTS, ROUTES
from catchment.serving.workload import Backend, Observed, Workload
from catchment.store import Store
from catchment.store.database import Transaction

RESOLVE, APPLY, READY, SMOKE, PROMOTE, RETIRE = "resolve", "apply", "ready", "smoke", "promote", "retire"
EVENTS = {RESOLVE: "Resolved", APPLY: "Applied", READY: "Ready", SMOKE: "SmokePassed"} | {
    PROMOTE: "TrafficShifted",
    RETIRE: "Retired",
}
LOOK_S = 1.0
Found = dict[str, Any]


def shift_step(percent: int) -> str:
    """The name of the step that gives the new version so much of the traffic."""
    return f"shift-{percent}"


def done(store: Store, claim: RolloutClaim, step: str) -> Found | None:
    """What a step has found, if it is finished. Raises JobStopped, LeaseLost."""
    found: Found | None = store.db.write(lambda tx: held(tx, claim).steps.get(step))
    return found


def finish(store: Store, claim: RolloutClaim, step: str, found: Found, told: str, **values: Any) -> Found:
    """Write down what a step has found, with its event; `values` are further columns of the rollout."""

    def write(tx: Transaction) -> None:
        row = held(tx, claim)
        if step not in row.steps:
            steps = {**row.steps, step: found}
            rows.change_rollout(tx, claim.uid, claim.number, steps=steps, message=told[:2000], **values)
            rows.event(tx, claim.uid, EVENTS.get(step, "TrafficShifted"), f"rollout {claim.number}: {told}")

    store.db.write(write)
    faults.reach(f"after_{step.partition('-')[0]}")
    return found


def backend_of(store: Store, claim: RolloutClaim) -> Backend:
    """The backend of the claimed rollout's serving."""
    row = store.db.read(lambda tx: rows.by_uid(tx, claim.uid))
    return open_backend(store, row.backend)


def _rollout(store: Store, claim: RolloutClaim) -> tuple[ServingSpec, list[Workload], list[Workload]]:
    """The claimed rollout's spec, its workloads, and the stable ones."""

    def step(tx: Transaction) -> tuple[ServingSpec, list[Workload], list[Workload]]:
        row = held(tx, claim)
        serving = rows.by_uid(tx, claim.uid)
        return rows.spec_of(row), rows.workloads_of(row), rows.stable_workloads(tx, serving)

    return store.db.write(step)


def plan(store: Store, claim: RolloutClaim) -> tuple[int, ...]:
    """The percentages of the traffic that the new version gets one after the other, before all of it."""
    row = store.db.write(lambda tx: held(tx, claim))
    _, _, stable = _rollout(store, claim)
    if not stable or row.kind == "rollback":
        return ()
    return tuple(percent for percent in rows.spec_of(row).canary.steps if percent < 100)


def resolve(store: Store, claim: RolloutClaim) -> Found:
    """Find the versions by digest, and make of them what the backend needs.

    Raises:
        NotFound, WrongState, InvalidField, RolloutFailed: as `resolving.workload_of`; or the new version's
            metric is worse than the stable one's.
    """
    known = done(store, claim, RESOLVE)
    if known is not None:
        return known
    row = store.db.write(lambda tx: held(tx, claim))
    spec, backend = rows.spec_of(row), backend_of(store, claim)
    with stop_watched(store, claim) as stop:
        if row.target is not None:
            made = _restored(store, claim, row.target)
        else:
            made = [
                resolving.workload_of(store, claim, spec, predictor, backend, stop)
                for predictor in spec.predictors
            ]
            _check_metric(store, claim, spec.canary, made)
    found = {"models": {each.key: each.model.reference for each in made}}
    told = ", ".join(f"{each.model.reference} ({each.model.digest[:19]})" for each in made)
    return finish(
        store, claim, RESOLVE, found, f"resolved {told}", workloads=[each.to_json() for each in made]
    )


def _restored(store: Store, claim: RolloutClaim, target: int) -> list[Workload]:
    """The workloads of an earlier rollout, to the digest. Raises RolloutFailed."""

    def step(tx: Transaction) -> list[Workload]:
        found = rows.workloads_of(rows.rollout(tx, claim.uid, target))
        for each in found:
            row = catalog_rows.by_id(tx, each.model.model_id)
            if row.digest != each.model.digest:
                raise RolloutFailed(f"{each.model.reference} is not what it was: its digest is {row.digest}")
        return found

    try:
        return store.db.read(step)
    except WrongState as error:
        raise RolloutFailed(f"rollout {target} cannot be returned to: {error}") from error


def _check_metric(store: Store, claim: RolloutClaim, canary: Canary, made: list[Workload]) -> None:
    """Refuse a version whose metric is worse than the stable one's; each predictor with its namesake."""
    metric = canary.metric
    if metric is None:
        return

    def value(tx: Transaction, workload: Workload) -> float | None:
        return resolving.metric_of(catalog_rows.by_id(tx, workload.model.model_id), metric)

    def step(tx: Transaction) -> None:
        before = {each.predictor: each for each in rows.stable_workloads(tx, rows.by_uid(tx, claim.uid))}
        for each in made:
            if each.predictor not in before:
                continue
            old, new = value(tx, before[each.predictor]), value(tx, each)
            if old is None or new is None:
                missing = before[each.predictor] if old is None else each
                raise RolloutFailed(f"{missing.model.reference} has no metric {metric.name!r} to compare")
            if comparing.worse(metric, old, new):
                raise RolloutFailed(
                    f"{metric.name} of {each.model.reference} is {new:g}, of the stable version {old:g}",
                    {"metric": metric.name, "stable": old, "new": new},
                )

    store.db.read(step)


def apply(store: Store, claim: RolloutClaim) -> Found:
    """Have the workloads run; they take no traffic yet. Raises Unreachable."""
    _, new, _ = _rollout(store, claim)
    backend = backend_of(store, claim)
    for each in new:
        backend.apply(each)
    known = done(store, claim, APPLY)
    keys = [each.key for each in new]
    return known or finish(store, claim, APPLY, {"workloads": keys}, f"started {', '.join(keys)}")


def await_ready(store: Store, claim: RolloutClaim) -> Found:
    """Wait until all of them answer.

    Raises:
        RolloutFailed: one cannot run, or is not ready in time.
        JobStopped: the rollout was stopped meanwhile.
    """
    _, new, _ = _rollout(store, claim)
    backend = backend_of(store, claim)
    deadline = time.monotonic() + store.settings.serving_ready_timeout_s
    said = ""
    with stop_watched(store, claim) as stop:
        while True:
            ticket = store.db.signals.ticket(ENDPOINTS)
            seen = {each.key: backend.observe(each) for each in new}
            _refuse_failed(seen)
            if all(each.state == "ready" for each in seen.values()):
                break
            if stop.is_set():
                raise JobStopped("stopped while the model servers were waited for")
            waits = _waits(seen)
            if time.monotonic() >= deadline:
                limit_s = store.settings.serving_ready_timeout_s
                raise RolloutFailed(f"not ready within {limit_s:g} s: {waits}")
            if waits != said:
                said = waits
                saying.say(store, claim, f"waiting for model servers: {waits}")
            store.db.signals.wait(ticket, LOOK_S)
    watching.look(store, claim.uid)
    known = done(store, claim, READY)
    count = sum(each.ready for each in seen.values())
    return known or finish(store, claim, READY, {"replicas": count}, f"{count} model servers are ready")


def _waits(seen: dict[str, Observed]) -> str:
    waiting = (f"{key}: {each.message or each.state}" for key, each in seen.items() if each.state != "ready")
    return "; ".join(waiting)


def _refuse_failed(seen: dict[str, Observed]) -> None:
    failed = [f"{key}: {each.message}" for key, each in seen.items() if each.state == "failed"]
    if failed:
        raise RolloutFailed(f"cannot run: {'; '.join(failed)}")


def smoke(store: Store, claim: RolloutClaim) -> Found:
    """One inference of each model server, made of the stored signature.

    Raises:
        RolloutFailed: what answers is another model, or answers nonsense.
        Unreachable: nothing answers.
    """
    known = done(store, claim, SMOKE)
    if known is not None:
        return known
    _, new, _ = _rollout(store, claim)
    backend = backend_of(store, claim)
    found: dict[str, list[float]] = {}
    silent = [each.key for each in new if not asking.is_asked(each)]
    for each in new:
        for endpoint in backend.endpoints(each) if each.key not in silent else ():
            took = asking.verify(each, endpoint)
            found.setdefault(each.key, []).append(round(took * 1e3, 3))
    if missing := [each.key for each in new if each.key not in (*silent, *found)]:
        raise Unreachable(f"{', '.join(missing)}: nothing answers any more")
    told = ", ".join(f"{key} in {min(times):.1f} ms" for key, times in found.items())
    if silent:
        told += f"; not asked, for it speaks another protocol: {', '.join(silent)}"
    return finish(
        store, claim, SMOKE, {"milliseconds": found, "notAsked": silent}, f"smoke inference: {told}"
    )


def shift(store: Store, claim: RolloutClaim, percent: int) -> Found:
    """Give the new version so much of the traffic, and watch it beside the stable one.

    Raises:
        RolloutFailed: it does worse, or stopped running.
        JobStopped: the rollout was stopped meanwhile.
    """
    step = shift_step(percent)
    known = done(store, claim, step)
    if known is not None:
        return known
    spec, new, stable = _rollout(store, claim)
    backend = backend_of(store, claim)
    route(store, claim, backend, percent)
    with stop_watched(store, claim) as stop:
        verdict = watching.compare(store, claim.uid, backend, spec.canary, stable, new, stop)
    if stop.is_set():
        raise JobStopped(f"stopped at {percent} % of the traffic")
    if verdict.against:
        raise RolloutFailed(f"at {percent} % of the traffic {'; '.join(verdict.against)}", verdict.facts)
    requests = verdict.facts["requests"]["new"]
    told = f"{percent} % of the traffic: {requests} requests, nothing against the new version"
    return finish(store, claim, step, verdict.facts, told)


def route(store: Store, claim: RolloutClaim, backend: Backend, percent: int) -> None:
    """Give the rollout's workloads so much of the traffic, the stable ones the rest."""

    def step(tx: Transaction) -> tuple[Row[Any], dict[str, int]]:
        row = held(tx, claim)
        serving = rows.by_uid(tx, claim.uid)
        return serving, undoing.weights_at(tx, serving, row, percent)

    serving, weights = store.db.write(step)
    undoing.route(store, serving, backend, weights)
    try:
        store.db.write(lambda tx: held(tx, claim))
    except (JobStopped, LeaseLost):
        # This process stood still before it set the route, and somebody has ended the rollout meanwhile.
        undoing.route_as_ended(store, claim.uid, claim.number, backend)
        raise


def ask_approval(store: Store, claim: RolloutClaim) -> bool:
    """Put the rollout aside until a person agrees; False when nobody need be asked, or they have agreed.

    A serving's first rollout takes nobody's place, so nobody is asked.
    """

    def step(tx: Transaction) -> bool:
        row = held(tx, claim)
        first = rows.by_uid(tx, claim.uid).stable is None
        if first or not rows.spec_of(row).canary.approval or row.approval == "approved":
            return False
        rows.change_rollout(
            tx,
            claim.uid,
            claim.number,
            phase=RolloutPhase.AWAITING_APPROVAL,
            approval="asked",
            message="waits for approval",
            lease_owner=None,
            lease_until=0.0,
        )
        rows.event(tx, claim.uid, "ApprovalAsked", f"rollout {claim.number} waits for approval")
        return True

    return store.db.write(step)


def promote(store: Store, claim: RolloutClaim) -> Found:
    """Give the new version all the traffic and make it the stable one; from here on it only goes on."""
    known = done(store, claim, PROMOTE)
    if known is not None:
        return known
    route(store, claim, backend_of(store, claim), 100)

    def step(tx: Transaction) -> None:
        serving = rows.by_uid(tx, claim.uid, lock=True)
        row = held(tx, claim)
        old = [each.key for each in rows.stable_workloads(tx, serving)]
        found = {"retires": old, "before": serving.stable}
        rows.change_rollout(tx, claim.uid, claim.number, steps={**row.steps, PROMOTE: found})
        rows.change(tx, claim.uid, stable=claim.number, state=State.AVAILABLE, message="")
        rows.event(tx, claim.uid, EVENTS[PROMOTE], f"rollout {claim.number}: takes all the traffic")
        tx.notify(ROUTES)

    store.db.write(step)
    faults.reach(f"after_{PROMOTE}")
    return done(store, claim, PROMOTE) or {}


def retire(store: Store, claim: RolloutClaim) -> Found:
    """Drain and end what was there before, and end the rollout as Promoted."""
    undoing.complete(store, claim.uid, claim.number)
    return {}


def roll_back(store: Store, claim: RolloutClaim, why: str) -> None:
    """Everything as it was before the rollout, unless somebody else drives it now. Raises Unreachable."""
    undoing.undo(store, claim.uid, claim.number, why, owner=claim.owner)
