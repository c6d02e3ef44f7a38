"""The end of a ModelJob: what it found becomes part of the version, or a version of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, update

from catchment.catalog import audit, content, made, using
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile
from catchment.errors import NotFound, WrongState
from catchment.jobs import namespaces, purge
from catchment.model_jobs import files, rows, states, steps
from catchment.model_jobs.claim import ModelJobClaim, held
from catchment.model_jobs.spec import Spec, tagged
from catchment.models import config as configs
from catchment.models.config import ModelConfig
from catchment.registry.references import Reference
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

Config = dict[str, Any]


@steps.once(states.PUSH)
def push(store: Store, claim: ModelJobClaim) -> tuple[dict[str, Any], str]:
    """Put the result where `desiredTag` says.

    An extraction changes what its version says of itself, or makes a version with the same files; a
    conversion makes a new version, or, where it is asked to, puts its files in the place of the source's.

    Raises:
        NotFound: the target's project is no namespace, or the source was deleted.
        WrongState: the target is there and not the source, or is in use.
    """

    def step(tx: Transaction) -> dict[str, Any]:
        kept = files.made_files(tx, claim.uid)
        purge.hold_blobs(store, tx, [file.digest for file in kept])
        job = held(tx, claim)
        if job.result_id is not None:  # a run that broke off has pushed, and could not say so any more
            return _found(job, job.result_id)
        source = catalog_rows.by_id(tx, job.source_id, lock=True)
        if source.digest != job.steps[states.PULL]["digest"]:
            raise WrongState(f"version {source.version!r} of model {source.name!r} was changed meanwhile")
        return _pushed(tx, job, source, kept)

    old = store.db.read(lambda tx: _files_of_source(tx, claim.uid))
    found = store.db.write(step)
    purge.delete_unreferenced(store, {file.digest for file in old})
    _show(store, found["modelID"])
    return found, f"pushed {found['reference']} as {found['modelID']}"


def _show(store: Store, model_id: str) -> None:
    """Let a version of one file lie where its storage_info says, as uploads and copies do."""
    row, kept = store.db.read(
        lambda tx: (
            catalog_rows.by_id(tx, model_id),
            catalog_rows.files_of(tx, [model_id]).get(model_id, []),
        )
    )
    path = catalog_rows.storage_path(row)
    if path is not None and len(kept) == 1 and kept[0].layer is None:
        store.files.show_file(row.namespace, path, store.blobs.local_path(kept[0].digest))


def _files_of_source(tx: Transaction, uid: str) -> list[VersionFile]:
    job = rows.by_uid(tx, uid)
    return catalog_rows.files_of(tx, [job.source_id]).get(job.source_id, [])


def _pushed(tx: Transaction, job: Row[Any], source: Row[Any], kept: list[VersionFile]) -> dict[str, Any]:
    spec = rows.spec_of(job)
    target = _target(spec)
    namespaces.require(tx, target.project, for_update=True)
    there = catalog_rows.find(tx, target.project, target.name, target.tag, lock=True)
    actor = Actor(f"ModelJob {job.namespace}/{job.name}"[:80], job.created_by.get("login", ""))
    values = _values(job, source, spec)
    if there is None:
        model_id = _new(tx, target, source, kept, values, actor)
    elif there.id == source.id:
        model_id = _changed(tx, job, source, kept, values, actor)
    else:
        raise WrongState(f"{target} is there already and is not the source; give another desiredTag")
    rows.change(tx, job.uid, result_id=model_id)
    return _found(job, model_id)


def _found(job: Row[Any], model_id: str) -> dict[str, Any]:
    target = _target(rows.spec_of(job))
    return {"modelID": model_id, "reference": f"{target.repository}:{target.tag}"}


def _target(spec: Spec) -> Reference:
    return tagged(spec.desired_tag or spec.model, "spec.desiredTag")


def _values(job: Row[Any], source: Row[Any], spec: Spec) -> dict[str, Any]:
    """The columns that the result has: format, config, lineage."""
    extracted, converted = job.steps[states.EXTRACT], job.steps.get(states.CONVERT)
    config = _config(source, extracted, converted is not None)
    lineage: dict[str, Any] = {
        "kind": "conversion" if converted else "extraction",
        "modelJob": {"namespace": job.namespace, "name": job.name, "uid": job.uid},
        "source": {"id": source.id, "reference": spec.model, "digest": source.digest},
        "extracted": {key: extracted[key] for key in ("parameters", "opset", "frameworkVersion", "absent")},
    }
    if converted:
        lineage["equivalence"] = converted["report"]
    return {"format": extracted["format"], "config": config, "lineage": lineage}


def _config(source: Row[Any], extracted: dict[str, Any], converted: bool) -> Config:
    """What the version says of itself now: new layers, and new inputs and outputs where some were found."""
    before = configs.from_tree(source.config) if source.config else ModelConfig()
    written = before.written()
    found = extracted["signature"]
    old = written.get("signature", {})
    signature = {"layers": found["layers"]}
    for key in ("inputs", "outputs"):
        tensors = [
            {name: value for name, value in each.items() if name != "tensorName"} for each in found[key]
        ]
        signature[key] = tensors or ([] if converted else old.get(key, []))
    framework = extracted["framework"] if converted or not before.framework else before.framework
    tree = {**written, "format": extracted["format"], "framework": framework, "signature": signature}
    return configs.from_tree(tree).written()


def _new(
    tx: Transaction,
    target: Reference,
    source: Row[Any],
    kept: list[VersionFile],
    values: dict[str, Any],
    actor: Actor,
) -> str:
    """A version of its own: of the converted files, or of the source's."""
    own = kept or content.require_ready(tx, source)
    return made.insert_ready(
        tx,
        own,
        actor,
        namespace=target.project,
        name=target.name,
        version=target.tag,
        runtime=(values["config"].get("framework") or source.runtime).lower(),
        description=source.description,
        parent=source.id,
        **values,
    )


def _changed(
    tx: Transaction,
    job: Row[Any],
    source: Row[Any],
    kept: list[VersionFile],
    values: dict[str, Any],
    actor: Actor,
) -> str:
    """The source itself: what it says of itself, and with a conversion its files."""
    changes: dict[str, Any] = {"config": values["config"], "format": values["format"], "artifact": None}
    lineage = {**source.lineage, "extraction": values["lineage"]}
    if kept:
        using.refuse_used(tx, [source], but=job.uid)
        if source.form != "files":
            raise NotFound("an artifact that was pushed cannot be replaced in place; give another desiredTag")
        catalog_rows.set_files(tx, source.id, kept)
        lineage = {**values["lineage"], "replaced": {"digest": source.digest, "lineage": source.lineage}}
        changes |= catalog_rows.ready_values(kept)
        changes["file_name"] = kept[0].path if len(kept) == 1 else None
    tx.execute(update(model_versions).where(model_versions.c.id == source.id).values(updated_at=tx.now))
    catalog_rows.change(tx, source.id, lineage=lineage, **changes)
    audit.write(tx, source, "update", actor, by=values["lineage"]["modelJob"]["name"])
    return str(source.id)
