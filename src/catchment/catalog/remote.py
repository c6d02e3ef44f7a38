"""Versions whose bytes another registry keeps: pushed to it through Catchment, known here by their row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete

from catchment.catalog import artifact_rows, audit, made, rows, using
from catchment.catalog import pushed as reading
from catchment.catalog.audit import Actor
from catchment.catalog.pushed import Manifest, Pushed
from catchment.catalog.spec import check_name, check_version
from catchment.catalog.states import ModelState
from catchment.errors import BadArtifact, WrongState
from catchment.jobs import namespaces
from catchment.registry import modelpack, ormb
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions


def record(
    store: Store,
    repository: str,
    tag: str,
    manifest: Manifest,
    config_blob: bytes,
    registry: str,
    actor: Actor,
) -> bool:
    """Write down that a model's artifact was pushed to a registry; False when that is known already.

    Args:
        store: the store.
        repository: `<namespace>/<name>`, the same there and here.
        tag: the version.
        manifest: what was pushed.
        config_blob: what its manifest names as config.
        registry: host that keeps the bytes.
        actor: who pushed.

    Raises:
        BadArtifact, DigestMismatch: it is no model's.
        InvalidField: the repository is none of two parts, or a name of it is none of a model.
        NotFound: no such namespace.
        WrongState: the version came another way, or is in use.
    """
    reading.require_model(manifest)
    namespace, slash, name = repository.partition("/")
    if not slash or "/" in name:
        raise BadArtifact(f"{repository[:200]!a} is not of the form <namespace>/<model's name>")
    check_name(name)
    check_version(tag, "tag")
    read = ormb.read_artifact if manifest.form == "ormb" else modelpack.read_artifact
    pushed = Pushed(manifest, read(manifest.data, config_blob).config, [])
    return store.db.write(lambda tx: _put(tx, (namespace, name), tag, pushed, registry, actor))


def _put(
    tx: Transaction, repository: tuple[str, str], tag: str, pushed: Pushed, registry: str, actor: Actor
) -> bool:
    manifest = pushed.manifest
    namespaces.require(tx, repository[0], for_update=True)
    old = rows.find(tx, *repository, tag, lock=True)
    told: dict[str, Any] = {"manifest": manifest.digest}
    if old is not None:
        if old.state == ModelState.READY and old.manifest == manifest.digest:
            return False
        if not (old.artifact or {}).get("held"):
            raise WrongState(f"there is a version {tag!r} of model {repository[1]!r} that came another way")
        using.refuse_used(tx, [old])
        audit.write(tx, old, "delete", actor, manifest=old.manifest, replaced_by=manifest.digest)
        tx.execute(delete(model_versions).where(model_versions.c.id == old.id))
        artifact_rows.drop(tx, [old])
        told["replaced"] = old.id
    model_id = made.insert_ready(
        tx,
        [],
        actor,
        namespace=repository[0],
        name=repository[1],
        version=tag,
        digest=manifest.digest,
        size_bytes=sum(layer.size for layer in manifest.parts.layers),
        artifact={"held": registry},
        lineage={"kind": "push", "form": manifest.form, "manifest": manifest.digest, "registry": registry},
        **reading.columns_of(pushed),
    )
    audit.write(tx, rows.by_id(tx, model_id), "push", actor, **told)
    return True
