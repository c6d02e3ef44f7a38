"""Which model versions a rollout is about, by digest, and what has to be made of them before they can run."""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import content
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.catalog.states import ModelState
from catchment.errors import InvalidField, JobStopped, NotFound, RolloutFailed
from catchment.formats.extract.readers import READERS
from catchment.model_jobs import manager as model_jobs
from catchment.model_jobs import rows as job_rows
from catchment.model_jobs.spec import parse
from catchment.model_jobs.states import ENDED, Phase
from catchment.models import formats
from catchment.serving import saying, seldon
from catchment.serving.claim import RolloutClaim
from catchment.serving.spec import MODEL_ID, Metric, Predictor, ServingSpec
from catchment.serving.workload import Backend, ServedModel, ServingKey, Workload
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

SERVED = "ONNX"
"""What everything is converted to that a backend does not serve as it is."""


def workload_of(
    store: Store,
    claim: RolloutClaim,
    spec: ServingSpec,
    predictor: Predictor,
    backend: Backend,
    stop: threading.Event,
) -> Workload:
    """The workload of a predictor. A signature that is not known yet, and a format that the backend does not
    serve, are ModelJobs of their own, which this waits for.

    Raises:
        NotFound: no such version.
        WrongState: it is not ready.
        InvalidField: the backend cannot run it, and nothing can be made of it that it could.
        RolloutFailed: an extraction or conversion failed, or took too long.
    """
    row = store.db.read(lambda tx: find(tx, predictor))
    if predictor.format and row.format and formats.named(predictor.format).name != row.format:
        raise RolloutFailed(
            f"the serving says that {row.name}:{row.version} is {predictor.format}, it is {row.format}"
        )
    row = with_signature(store, claim, row, predictor, stop)
    made = described(row, claim.serving, claim.number, spec, predictor)
    try:
        backend.check(made)
    except InvalidField as refusal:
        converts = row.format and SERVED in formats.named(row.format).converts_to and row.format != SERVED
        if not converts:
            raise
        row = converted(store, claim, row, predictor, stop, refusal)
        made = described(row, claim.serving, claim.number, spec, predictor)
        backend.check(made)
    return made


def find(tx: Transaction, predictor: Predictor) -> Row[Any]:
    """The ready version that a predictor names. Raises NotFound, WrongState."""
    if MODEL_ID.fullmatch(predictor.model):
        row = catalog_rows.by_id(tx, predictor.model)
    else:
        named = seldon.version_of(predictor.model, "modelUri")
        row = catalog_rows.require(tx, named.project, named.name, named.tag)
    content.require_ready(tx, row)
    return row


def described(
    row: Row[Any], serving: ServingKey, revision: int, spec: ServingSpec, predictor: Predictor
) -> Workload:
    """The workload of a predictor with this version, whether or not a backend can run it."""
    signature = signature_of(row)
    model = ServedModel(
        model_id=row.id,
        reference=f"{row.namespace}/{row.name}:{row.version}",
        digest=row.digest,
        format=formats.named(predictor.format).name if predictor.format and not row.format else row.format,
        inputs=tuple(signature.get("inputs") or ()),
        outputs=tuple(signature.get("outputs") or ()),
        size_bytes=row.size_bytes,
    )
    resources = predictor.resources.model_dump(mode="json")
    return Workload(
        serving=serving,
        revision=revision,
        predictor=predictor.name,
        graph=predictor.graph,
        model=model,
        replicas=predictor.replicas,
        resources={
            kind: {name: str(value) for name, value in each.items()}
            for kind, each in resources.items()
            if each
        },
        env=predictor.env,
        server=spec.server,
        pod=predictor.pod,
        runtime=predictor.runtime,
    )


def signature_of(row: Row[Any]) -> dict[str, Any]:
    """What a version says goes in and comes out; empty while nobody has said it."""
    return (row.config or {}).get("signature") or {}


def with_signature(
    store: Store, claim: RolloutClaim, row: Row[Any], predictor: Predictor, stop: threading.Event
) -> Row[Any]:
    """The version with its signature, which an extraction finds where nobody has said it."""
    if signature_of(row).get("inputs"):
        return row
    format_ = row.format or predictor.format or ""
    if format_ not in READERS:
        raise RolloutFailed(
            f"{row.namespace}/{row.name}:{row.version} has no signature, and none can be read from "
            f"{format_ or 'its files'}; say its inputs and outputs when it is uploaded"
        )
    job = _run(store, claim, f"{predictor.name}-extract", _extraction(row, format_), stop)
    if job.phase != Phase.SUCCEEDED:
        raise RolloutFailed(f"no signature of {row.name}:{row.version}: {job.message} (ModelJob {job.name})")
    found = store.db.read(lambda tx: catalog_rows.by_id(tx, row.id))
    if not signature_of(found).get("inputs"):
        raise RolloutFailed(
            f"the files of {row.name}:{row.version} do not say what goes in; say it when it is uploaded"
        )
    return found


def converted(
    store: Store,
    claim: RolloutClaim,
    row: Row[Any],
    predictor: Predictor,
    stop: threading.Event,
    why: InvalidField,
) -> Row[Any]:
    """A version made of this one that is ONNX: the newest there is, else one that is made now."""
    known = store.db.read(lambda tx: _made_of(tx, row.id))
    if known is not None:
        return known
    target = f"{row.namespace}/{row.name}:{row.version}-onnx"
    job = _run(store, claim, f"{predictor.name}-onnx", _conversion(row, target), stop)
    if job.phase != Phase.SUCCEEDED:
        raise RolloutFailed(
            f"{why}; and the conversion to {SERVED} failed: {job.message} (ModelJob {job.name})"
        )
    return store.db.read(lambda tx: catalog_rows.by_id(tx, job.result_id))


def _made_of(tx: Transaction, model_id: str) -> Row[Any] | None:
    mine = (
        (model_versions.c.parent == model_id)
        & (model_versions.c.format == SERVED)
        & (model_versions.c.state == ModelState.READY)
    )
    newest = select(model_versions).where(mine).order_by(model_versions.c.created_at.desc())
    return next((row for row in tx.execute(newest) if signature_of(row).get("inputs")), None)


def _extraction(row: Row[Any], format_: str) -> dict[str, Any]:
    return {"model": f"{row.namespace}/{row.name}:{row.version}", "extraction": {"format": format_}}


def _conversion(row: Row[Any], target: str) -> dict[str, Any]:
    pair = {"from": row.format, "to": SERVED}
    source = f"{row.namespace}/{row.name}:{row.version}"
    return {"model": source, "desiredTag": target, "conversion": {"mmdnn": pair}}


def _run(
    store: Store, claim: RolloutClaim, suffix: str, spec: dict[str, Any], stop: threading.Event
) -> Row[Any]:
    """The ended ModelJob of this rollout with this suffix; made where it is not there: it runs once."""
    name = f"serving-{claim.name}-r{claim.number}-{suffix}"
    new = parse(
        {"metadata": {"name": name, "labels": {"serving": claim.name}}, "spec": spec}, claim.namespace
    )

    def step(tx: Transaction) -> str:
        row = job_rows.find(tx, claim.namespace, name, lock=True)
        return row.uid if row is not None else model_jobs.insert_new(tx, claim.namespace, new, Actor())

    uid = store.db.write(step)
    saying.say(store, claim, f"waiting for ModelJob {name}")
    limit_s = store.settings.serving_conversion_timeout_s
    deadline = time.monotonic() + limit_s
    while not stop.is_set():
        ticket = store.db.signals.ticket(job_rows.topic(uid))
        try:
            row = store.db.read(lambda tx: job_rows.by_uid(tx, uid))
        except NotFound:
            raise RolloutFailed(f"ModelJob {name} was deleted") from None
        if row.phase in ENDED:
            return row
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise RolloutFailed(f"ModelJob {name} took longer than {limit_s:g} s")
        store.db.signals.wait(ticket, min(left_s, 5.0))
    raise JobStopped("stopped while a ModelJob was waited for")


def metric_of(row: Row[Any], metric: Metric) -> float | None:
    """A metric of a version by its name, of any group; None where it has none that is a number."""
    for group in ((row.config or {}).get("metrics") or {}).values():
        for measure in group:
            if measure.get("name") == metric.name:
                try:
                    return float(measure.get("value"))
                except ValueError:
                    return None
    return None
