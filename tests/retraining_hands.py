"""What flows of others do for a retraining, in a thread: its job's rounds, its ModelJob, its rollout.

The job and the ModelJob are worked off by the library's own steps. Of a rollout only its end is written: the
model servers that it would start are tested where they are.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import select

from catchment.catalog import manager as catalog
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.errors import CatchmentError
from catchment.jobs.states import JobState
from catchment.model_jobs import pushing, steps
from catchment.model_jobs.claim import claim as claim_model_job
from catchment.model_jobs.states import Phase as JobPhase
from catchment.rounds import prepare
from catchment.rounds.claim import claim_job, lease_kept
from catchment.serving import rows as serving_rows
from catchment.serving.resolving import find
from catchment.serving.states import RolloutPhase, State
from catchment.serving.steps import PROMOTE
from catchment.serving.workload import ServedModel, ServingKey, Workload
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, model_jobs
from tests.library.catalog.test_uploads import send
from tests.onnx_graphs import linear_onnx
from tests.runs import drive

PLAN: dict[str, Any] = {
    "job": {"template": "template"},
    "register_as": {"name": "net", "version": "count"},
    "convert": {"graph": "default/net:graph", "keep": ["b"]},
    "serving": {"name": "net"},
}
"""For the jobs of tests.thread_sites, whose weights are `w` [2, 3] and a counter."""


def push_graph(store: Store, folder: Path) -> str:
    """A ready version `default/net:graph` whose initializer `w` takes the weights; its id."""
    data = linear_onnx(folder / "net.onnx", 3, 2, names=("w", "b")).read_bytes()
    body = {"name": "net", "version": "graph", "runtime": "onnx", "file_name": "net.onnx"}
    made = catalog.create(store, "default", body, Actor())
    send(store, made["id"], data)
    return str(made["id"])


class Hands:
    """A thread that does what waits, until `close`; `hold_rollouts` leaves rollouts under way."""

    def __init__(self, store: Store, *, hold_rollouts: bool = False) -> None:
        self.store, self.hold_rollouts = store, hold_rollouts
        self.trouble: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="hands", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert self.trouble == []

    def _run(self) -> None:
        while not self.over.wait(0.05):
            try:
                for row in self._of(select(jobs).where(jobs.c.state == JobState.STARTING)):
                    self._job(row)
                for row in self._of(select(model_jobs).where(model_jobs.c.phase == JobPhase.PENDING)):
                    self._model_job(row)
                for row in [] if self.hold_rollouts else self.store.db.read(serving_rows.live_rollouts):
                    self.store.db.write(lambda tx, row=row: promote(tx, row))
            except CatchmentError as error:
                if type(error).__name__ != "JobStopped":
                    self.trouble.append(f"{type(error).__name__}: {error}")

    def _of(self, statement: Any) -> list[Any]:
        return list(self.store.db.read(lambda tx: tx.execute(statement).all()))

    def _job(self, row: Any) -> None:
        claim = claim_job(self.store, row.namespace, row.id, flow_run_id=f"run-{row.id}", attempt=1)
        with lease_kept(self.store, claim):
            prepare.prepare_run(self.store, claim)
            drive(self.store, claim)

    def _model_job(self, row: Any) -> None:
        claim = claim_model_job(self.store, row.namespace, row.name, flow_run_id="run", attempt=1)
        steps.pull(self.store, claim)
        steps.extract(self.store, claim)
        pushing.push(self.store, claim)
        steps.succeed(self.store, claim)


def promote(tx: Transaction, row: Any) -> None:
    """End a rollout as its flow would: its workload takes all the traffic."""
    serving = serving_rows.by_uid(tx, row.serving_uid, lock=True)
    (predictor,) = serving_rows.spec_of(row).predictors
    version = find(tx, predictor)
    signature = (version.config or {}).get("signature") or {}
    model = ServedModel(
        model_id=version.id,
        reference=f"{version.namespace}/{version.name}:{version.version}",
        digest=version.digest,
        format=version.format,
        inputs=tuple(signature.get("inputs") or ()),
        outputs=tuple(signature.get("outputs") or ()),
        size_bytes=version.size_bytes,
    )
    made = Workload(
        serving=ServingKey(serving.namespace, serving.name, serving.uid),
        revision=row.number,
        predictor=predictor.name,
        graph=predictor.graph,
        model=model,
        replicas=1,
    )
    found = {PROMOTE: {"retires": [], "before": serving.stable}}
    serving_rows.change_rollout(tx, serving.uid, row.number, workloads=[made.to_json()], steps=found)
    serving_rows.change(tx, serving.uid, stable=row.number, state=State.AVAILABLE, message="")
    serving_rows.end_rollout(tx, serving.uid, row.number, RolloutPhase.PROMOTED, "takes all the traffic")


def version_of(store: Store, name: str, version: str) -> Any:
    """A version's row."""
    return store.db.read(lambda tx: catalog_rows.require(tx, "default", name, version))
