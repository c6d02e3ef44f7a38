"""From a job's weights to a model that can be served: put into a graph, read or converted by a ModelJob."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import content, made
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.catalog.content import Arrived
from catchment.catalog.rows import VersionFile
from catchment.catalog.states import ModelState
from catchment.errors import InvalidField, JobStopped, NotFound, RetrainingFailed, SetupError
from catchment.jobs import purge
from catchment.model_jobs import manager as model_jobs
from catchment.model_jobs import rows as model_job_rows
from catchment.model_jobs.executing import executor
from catchment.model_jobs.spec import parse
from catchment.model_jobs.states import ENDED, STOPPED, Phase
from catchment.models import config as configs
from catchment.models.config import ModelConfig
from catchment.models.tensors import file_digest
from catchment.retraining import metrics, model_job, naming
from catchment.retraining.graft_running import run_graft
from catchment.retraining.model_job import ONNX
from catchment.retraining.plan import RetrainPlan, Servable
from catchment.retraining.waiting import Say, wait_for
from catchment.serving import seldon
from catchment.serving.spec import MODEL_ID
from catchment.store import Store
from catchment.store.blobs import new_staged_file
from catchment.store.database import Transaction


def check(store: Store, plan: RetrainPlan) -> None:
    """Refuse a plan whose weights would find no graph, or whose ModelJob nothing could run.

    Raises:
        InvalidField: in the plan's words.
    """
    if plan.convert is None:
        return
    try:
        _only_file(store, store.db.read(lambda tx: graph_of(tx, plan)), ".onnx")
        executor(store)
    except RetrainingFailed as error:
        raise InvalidField("convert.graph", str(error)) from None
    except SetupError as error:
        raise InvalidField("convert", f"this server cannot run ModelJobs: {error}") from None


def graft(store: Store, plan: RetrainPlan, run: str, model_id: str) -> str:
    """Register the run's weights in their graph, unless that was done; the version's id.

    Raises:
        InvalidField: there is no graph for them.
        BadArtifact, TensorMismatch: the graph is none, or is that of another model.
        NotFound: a version was deleted meanwhile.
    """
    convert = _wanted(plan)
    weights, graph, known = store.db.read(lambda tx: _sources(tx, plan, convert, model_id))
    if known is not None:
        return known
    staged = new_staged_file(store.blobs)
    source, inside = _only_file(store, graph, ".onnx"), _only_file(store, weights, ".safetensors")
    try:
        with content.opened(store, source) as model, content.opened(store, inside) as tensors:
            run_graft(model.resolve(), tensors.resolve(), staged, convert.keep)
        kept = VersionFile(f"{weights.name}.onnx", file_digest(staged), staged.stat().st_size)
        store.blobs.prepare(staged, kept.digest)
        found = _registered(store, plan, run, Arrived(kept, staged), (weights, graph))
    finally:
        staged.unlink(missing_ok=True)
    faults.reach("after_graft")
    return found


def _wanted(plan: RetrainPlan) -> Servable:
    if plan.convert is None:
        raise InvalidField("convert", "is not wanted")
    return plan.convert


def _sources(
    tx: Transaction, plan: RetrainPlan, convert: Servable, model_id: str
) -> tuple[Row[Any], Row[Any], str | None]:
    """The weights, the graph, and the version that was made of both, if it was."""
    weights = catalog_rows.by_id(tx, model_id)
    version = naming.grafted_version(weights.version, further=model_job.converts_further(convert))
    there = catalog_rows.find(tx, weights.namespace, weights.name, version)
    if there is not None:
        if there.parent != weights.id:
            raise RetrainingFailed(f"version {there.version!r} of model {there.name!r} is there already")
        return weights, there, str(there.id)
    return weights, graph_of(tx, plan), None


def graph_of(tx: Transaction, plan: RetrainPlan) -> Row[Any]:
    """The ready ONNX version whose graph takes the weights. Raises InvalidField."""
    field, said = "convert.graph", _wanted(plan).graph
    if said is None:
        found = metrics.serving_version(tx, plan)
        if found is None:
            raise InvalidField(
                field, "is required while nothing serves: an ONNX version, project/name:version"
            )
    else:
        try:
            found = _named(tx, said, field)
        except NotFound as error:
            raise InvalidField(field, str(error)) from None
    if found.state != ModelState.READY or found.format != ONNX:
        shown = f"{found.namespace}/{found.name}:{found.version}"
        raise InvalidField(
            field, f"{shown} is {found.state} and {found.format or 'of no format'}, not a ready ONNX"
        )
    return found


def _named(tx: Transaction, said: str, field: str) -> Row[Any]:
    if MODEL_ID.fullmatch(said):
        return catalog_rows.by_id(tx, said)
    named = seldon.version_of(said, field)
    return catalog_rows.require(tx, named.project, named.name, named.tag)


def _only_file(store: Store, row: Row[Any], suffix: str) -> VersionFile:
    files = store.db.read(lambda tx: content.require_ready(tx, row))
    found = [file for file in files if file.path.endswith(suffix)]
    if len(found) != 1:
        raise RetrainingFailed(
            f"version {row.version!r} of model {row.name!r} has {len(found)} files like *{suffix}, not one"
        )
    return found[0]


def _registered(
    store: Store, plan: RetrainPlan, run: str, arrived: Arrived, sources: tuple[Row[Any], Row[Any]]
) -> str:
    """The version of the grafted file, written in one transaction with its blob."""
    weights, graph = sources
    convert = _wanted(plan)
    config = _config(graph, weights, plan, store)

    def step(tx: Transaction) -> str:
        purge.lock_blobs(tx, [arrived.file.digest], shared=True)
        if arrived.staged.exists():
            store.blobs.put_file(arrived.staged, arrived.file.digest)
        purge.hold_blobs(store, tx, [arrived.file.digest])
        source = catalog_rows.by_id(tx, weights.id, lock=True)
        version = naming.grafted_version(source.version, further=model_job.converts_further(convert))
        if (there := catalog_rows.find(tx, source.namespace, source.name, version)) is not None:
            return str(there.id)  # another attempt of the run was quicker
        return made.insert_ready(
            tx,
            [arrived.file],
            Actor(naming.child(run)),
            namespace=source.namespace,
            name=source.name,
            version=version,
            runtime=ONNX.lower(),
            format=ONNX,
            description=f"weights of {source.version} in the graph of {graph.name}:{graph.version}",
            config=config,
            lineage={
                "kind": "graft",
                "source": {"id": source.id, "digest": source.digest},
                "graph": {"id": graph.id, "digest": graph.digest},
                "run": run,
            },
            parent=source.id,
        )

    return store.db.write(step)


def _config(graph: Row[Any], weights: Row[Any], plan: RetrainPlan, store: Store) -> dict[str, Any]:
    """What the version says of itself: the graph's words, with what federated evaluation has said."""
    before = configs.from_tree(graph.config) if graph.config else ModelConfig()
    written = before.written()
    value = store.db.read(lambda tx: metrics.evaluated(tx, weights, plan.gate))
    said: dict[str, Any] = (
        {} if value is None else {"federated": [{"name": plan.gate.metric, "value": repr(value)}]}
    )
    return configs.from_tree({**written, "format": ONNX, "metrics": said}).written()


def convert(store: Store, plan: RetrainPlan, run: str, grafted_id: str, say: Say) -> str:
    """Have a ModelJob read the grafted model, or convert it further; the id of the version to serve.

    Raises:
        RetrainingFailed: the ModelJob failed, was deleted, or took too long.
        JobStopped: it was stopped.
    """
    name = naming.child(run)
    row = store.db.read(lambda tx: model_job_rows.find(tx, plan.namespace, name))
    if row is None:
        row = _made(store, plan, name, grafted_id)
    uid = row.uid

    def look() -> Row[Any] | str:
        try:
            seen = store.db.read(lambda tx: model_job_rows.by_uid(tx, uid))
        except NotFound:
            raise RetrainingFailed(f"ModelJob {name} was deleted") from None
        if seen.phase in ENDED:
            return seen
        return f"{seen.phase}: {seen.message}"

    ended = wait_for(store, model_job_rows.topic(uid), look, _wanted(plan).wait_s, f"ModelJob {name}", say)
    if ended.phase != Phase.SUCCEEDED:
        if ended.message == STOPPED:
            raise JobStopped(f"ModelJob {name} was stopped")
        raise RetrainingFailed(f"ModelJob {name} failed: {ended.message}")
    faults.reach("after_converted")
    return str(ended.result_id)


def _made(store: Store, plan: RetrainPlan, name: str, grafted_id: str) -> Row[Any]:
    grafted = store.db.read(lambda tx: catalog_rows.by_id(tx, grafted_id))
    reference = f"{grafted.namespace}/{grafted.name}:{grafted.version}"
    body = model_job.body(_wanted(plan), name, reference)

    def step(tx: Transaction) -> Row[Any]:
        there = model_job_rows.find(tx, plan.namespace, name, lock=True)
        if there is None:
            new = parse(body, plan.namespace)
            model_jobs.insert_new(tx, plan.namespace, new, Actor(name))
            there = model_job_rows.require(tx, plan.namespace, name)
        return there

    return store.db.write(step)
