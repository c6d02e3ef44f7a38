"""Runs of the flow `retrain`: making them, showing them, and letting lost ones go on."""

from __future__ import annotations

import hashlib
import logging
import uuid
from dataclasses import dataclass
from typing import Any

from catchment.errors import CatchmentError, NotFound, WrongState
from catchment.jobs.launcher import RunSeen, RunsLauncher
from catchment.retraining import alive, checking, outcome, stopping
from catchment.retraining.plan import RetrainPlan, parse
from catchment.runs.leases import BEGIN_S
from catchment.store import Store

log = logging.getLogger(__name__)
DEPLOYMENT = "retrain/retrain"
FORGOTTEN_S = 7 * 86_400.0
"""A run that has moved so long ago is not gone on with: somebody would wonder."""


@dataclass(frozen=True)
class RetrainStart:
    """A retraining for which a flow run is to be made (jobs.launcher.Launchable)."""

    key: str
    plan: RetrainPlan

    @property
    def namespace(self) -> str:
        """As jobs.launcher.Launchable says."""
        return self.plan.namespace

    @property
    def deployment(self) -> str:
        """The flow `retrain`."""
        return DEPLOYMENT

    @property
    def run_name(self) -> str:
        """After the model."""
        return f"retrain {self.plan.register_as.name}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The flow's."""
        return {"plan": self.plan.model_dump(mode="json", exclude_defaults=True) | _named(self.plan)}


def _named(plan: RetrainPlan) -> dict[str, Any]:
    return {"namespace": plan.namespace}


def start(
    store: Store, launcher: RunsLauncher, namespace: str, body: object, key: str | None
) -> dict[str, Any]:
    """Make a run of a plan, or find the one that was made with the same key; how it is.

    Raises:
        InvalidField: a field is wrong, or names what is not there.
        NotFound: no such namespace.
        WrongState: the key was used for another plan.
        Unreachable: Prefect does not answer.
    """
    plan = parse(body, namespace)
    checking.check(store, plan)
    wanted = RetrainStart(_key(namespace, key), plan)
    run = launcher.launch(wanted)
    seen = launcher.find(run, DEPLOYMENT)
    if seen is None:
        raise NotFound(f"run {run} was deleted in Prefect")
    if _plan(seen) != plan:
        raise WrongState(
            f"the Idempotency-Key {key!r} was used for another plan, of run {run}; use another one"
        )
    return view(store, seen)


def _key(namespace: str, key: str | None) -> str:
    """What names the start: equal for equal keys of a namespace, else new."""
    if key is None:
        return f"retrain-{uuid.uuid4().hex}"
    return f"retrain-{hashlib.sha256(f'{namespace}/{key}'.encode()).hexdigest()[:40]}"


def get(store: Store, launcher: RunsLauncher, namespace: str, run: str) -> dict[str, Any]:
    """How a run is. Raises NotFound, Unreachable."""
    return view(store, _require(launcher, namespace, run))


def stop(store: Store, launcher: RunsLauncher, namespace: str, run: str) -> None:
    """Stop a run and what it works on; one that has ended stays as it is. Raises NotFound, Unreachable."""
    seen = _require(launcher, namespace, run)
    launcher.cancel(seen.id)
    stopping.stop_children(store, seen.id)


def _require(launcher: RunsLauncher, namespace: str, run: str) -> RunSeen:
    seen = launcher.find(run, DEPLOYMENT)
    if seen is None or _plan(seen).namespace != namespace:
        raise NotFound(f"there is no retraining {run!r} in namespace {namespace!r}")
    return seen


def _plan(seen: RunSeen) -> RetrainPlan:
    return RetrainPlan.model_validate(seen.parameters["plan"])


def view(store: Store, seen: RunSeen) -> dict[str, Any]:
    """A run as the API shows it: Prefect's words on it, and what it has made, by the store."""
    plan = _plan(seen)
    return {
        "id": seen.id,
        "namespace": plan.namespace,
        "state": seen.state,
        "message": seen.message,
        "attempts": seen.attempts,
        "created": seen.created,
        "started": seen.started,
        "ended": seen.ended,
        "plan": plan.model_dump(mode="json", exclude_defaults=True),
        "steps": outcome.steps_of(store, plan, seen.id),
    }


def look_after(store: Store, launcher: RunsLauncher) -> None:
    """Let runs go on whose process was lost. Raises Unreachable."""
    for seen in launcher.unfinished(DEPLOYMENT, FORGOTTEN_S):
        begins = seen.state == "running" and seen.since_s < BEGIN_S
        if begins or seen.attempts > store.settings.max_resumes or alive.is_driven(store, seen.id):
            continue
        try:
            launcher.resume(seen.id)
        except CatchmentError as error:
            log.warning("retrain=%s not resumed: %s", seen.id, error)
        else:
            log.warning("retrain=%s flow process lost (%s), resumed", seen.id, seen.state)
