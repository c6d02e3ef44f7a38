"""A manifest that is put into a repository becomes a version, or what is attached to one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, select, update

from catchment import faults
from catchment.catalog import artifact_rows, audit, made, manager, rows, using
from catchment.catalog import pushed as reading
from catchment.catalog.audit import Actor
from catchment.catalog.pushed import Manifest, Pushed
from catchment.catalog.repositories import MANIFESTS
from catchment.catalog.spec import CHECKPOINT, check_version
from catchment.catalog.states import ModelState
from catchment.errors import BadArtifact, DigestMismatch, NotFound, WrongState
from catchment.jobs import namespaces, purge
from catchment.models.files import Limits
from catchment.registry.artifacts import OCI_MANIFEST
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from catchment.store.schema import model_files, model_versions

FORMS = ("ormb", "modelpack")


def put_manifest(
    store: Store, repository: tuple[str, str], reference: str, data: bytes, media_type: str, actor: Actor
) -> Manifest:
    """Make a model's artifact a version, ready, under its tag; or attach something to an artifact.

    The same artifact under the same tag again changes nothing. Another artifact replaces a version that was
    pushed, unless that is in use: the tag's version is a new one then, with an id of its own.

    Args:
        store: the store.
        repository: namespace and name of the model.
        reference: a tag, or the manifest's own digest for what is attached.
        data: the manifest.
        media_type: as it was announced; may be empty.
        actor: who pushes.

    Raises:
        BadArtifact: it is no model, or not as its form wants it.
        BlobsMissing: the repository does not have all the blobs that it names.
        DigestMismatch: `reference` is another digest.
        NotFound: no such namespace, or nothing to attach it to.
        WrongState: the tag is a version that cannot be replaced.
    """
    manifest = reading.read_manifest(data, media_type)
    found = reading.find_blobs(store, repository, manifest.parts)
    if ":" in reference:
        if reference != manifest.digest:
            raise DigestMismatch(reference, manifest.digest)
        _put_by_digest(store, repository, manifest)
        return manifest
    if CHECKPOINT.fullmatch(check_version(reference, "tag")):
        raise WrongState(f"the tag {reference!r} is kept for the checkpoints of jobs; push under another one")
    limits = Limits(max_bytes=store.settings.max_model_bytes)
    pushed = reading.read_pushed(store, manifest, found, limits)
    gone = store.db.write(lambda tx: _put_version(store, tx, repository, reference, pushed, actor))
    purge.delete_unreferenced(store, gone)
    return manifest


def _put_version(
    store: Store, tx: Transaction, repository: tuple[str, str], tag: str, pushed: Pushed, actor: Actor
) -> set[str]:
    """Insert the version; digests that nothing may refer to any more."""
    manifest = pushed.manifest
    _hold(store, tx, manifest, pushed)
    faults.reach("before_ready")
    namespaces.require(tx, repository[0], for_update=True)
    gone: set[str] = set()
    old = rows.find(tx, *repository, tag, lock=True)
    if old is not None:
        if old.state == ModelState.READY and old.manifest == manifest.digest:
            return gone
        _refuse_kept(tx, old)
        gone = _without_artifact(tx, old, actor, manifest.digest)
    told: dict[str, Any] = {"blobs": sorted(_digests(manifest))}
    if pushed.layer is not None:
        told["layer"] = pushed.layer
    model_id = made.insert_ready(
        tx,
        pushed.files,
        actor,
        namespace=repository[0],
        name=repository[1],
        version=tag,
        file_name=None,  # nothing is shown in the namespace's folder
        artifact=told,
        lineage={"kind": "push", "form": manifest.form, "manifest": manifest.digest},
        **reading.columns_of(pushed),
    )
    _put_rows(tx, repository, manifest, model_id, "manifest", made_layer=pushed.layer)
    replaced = {"replaced": old.id} if old is not None else {}
    audit.write(tx, rows.by_id(tx, model_id), "push", actor, manifest=manifest.digest, **replaced)
    if manifest.subject is not None:
        _attach(tx, repository, manifest)
    if old is not None:
        gone |= artifact_rows.drop(tx, [old])
    return gone


def _hold(store: Store, tx: Transaction, manifest: Manifest, pushed: Pushed | None) -> None:
    """Keep the manifest, and hold the blobs that are stored."""
    made_here = {pushed.layer["digest"]} if pushed is not None and pushed.layer is not None else set()
    held = _digests(manifest) - made_here
    held |= {file.digest for file in pushed.files if file.layer is None} if pushed is not None else set()
    purge.lock_blobs(tx, held, shared=True)
    put_bytes(store.blobs, manifest.data)
    purge.hold_blobs(store, tx, held)


def _digests(manifest: Manifest) -> set[str]:
    parts = manifest.parts
    return {manifest.digest, parts.config.digest, *(layer.digest for layer in parts.layers)}


def _put_rows(
    tx: Transaction,
    repository: tuple[str, str],
    manifest: Manifest,
    version_id: str,
    kind: artifact_rows.Kind,
    *,
    made_layer: dict[str, Any] | None = None,
) -> None:
    parts = manifest.parts
    named: list[tuple[artifact_rows.Kind, Any]] = [("config", parts.config)]
    named += [("layer", layer) for layer in parts.layers]
    for part, blob in named:
        stored = made_layer is None or blob.digest != made_layer["digest"]
        more = {"media_type": blob.media_type, "version_id": version_id, "stored": stored}
        artifact_rows.put(tx, repository, blob.digest, blob.size, part, **more)
    more = {"media_type": OCI_MANIFEST, "version_id": version_id}
    artifact_rows.put(tx, repository, manifest.digest, len(manifest.data), kind, **more)


def _refuse_kept(tx: Transaction, old: Row[Any]) -> None:
    """Refuse to replace what must stay. Raises WrongState."""
    named = f"version {old.version!r} of model {old.name!r}"
    if old.form not in FORMS:
        raise WrongState(
            f"{named} did not come in by a push, so no push replaces it; push under another tag, or delete it"
        )
    if old.state != ModelState.READY:
        raise WrongState(f"{named} is {old.state}; push again when it is gone, or under another tag")
    using.refuse_used(tx, [old])


def _without_artifact(tx: Transaction, old: Row[Any], actor: Actor, manifest: str) -> set[str]:
    """Remove a version whose tag moves, but for its blobs' rows; digests of its files."""
    files = rows.files_of(tx, [old.id]).get(old.id, [])
    audit.write(tx, old, "delete", actor, digest=old.digest, manifest=old.manifest, replaced_by=manifest)
    tx.execute(delete(model_files).where(model_files.c.version_id == old.id))
    tx.execute(delete(model_versions).where(model_versions.c.id == old.id))
    tx.notify(rows.topic(old.id))
    return {file.layer or file.digest for file in files}


def _put_by_digest(store: Store, repository: tuple[str, str], manifest: Manifest) -> None:
    known = store.db.read(lambda tx: artifact_rows.find(tx, *repository, manifest.digest))
    if known is not None and known.kind in MANIFESTS:
        return
    if manifest.subject is None:
        raise BadArtifact(
            "push it under a tag, which becomes the version's name; without one only what has "
            "a subject is taken, to be attached to it"
        )

    def step(tx: Transaction) -> None:
        _hold(store, tx, manifest, None)
        namespaces.require(tx, repository[0], for_update=True)
        owner = _attach(tx, repository, manifest)
        _put_rows(tx, repository, manifest, owner, "referrer")

    store.db.write(step)


def _attach(tx: Transaction, repository: tuple[str, str], manifest: Manifest) -> str:
    """Write a manifest down with the version that its subject is of; that version's id."""
    subject = artifact_rows.find(tx, *repository, manifest.subject or "")
    if subject is None or subject.kind not in MANIFESTS:
        raise NotFound(
            f"the repository {'/'.join(repository)} has no manifest {manifest.subject}, which this is to be "
            "attached to; push that first"
        )
    version = rows.by_id(tx, subject.version_id, lock=True)
    told = dict(version.artifact or {})
    entry = {
        "digest": manifest.digest,
        "subject": manifest.subject,
        "descriptor": reading.descriptor(manifest),
        "blobs": sorted(_digests(manifest)),
    }
    others = [each for each in told.get("referrers", []) if each["digest"] != manifest.digest]
    told["referrers"] = [*others, entry]
    _set_artifact(tx, version.id, told)
    return str(version.id)


def _set_artifact(tx: Transaction, version_id: str, artifact: dict[str, Any]) -> None:
    tx.execute(update(model_versions).where(model_versions.c.id == version_id).values(artifact=artifact))


def delete_manifest(store: Store, repository: tuple[str, str], reference: str, actor: Actor) -> None:
    """Delete the version of a tag, or all with this manifest, or what is attached.

    Raises:
        NotFound: there is none.
        WrongState: a version is in use.
    """
    namespace, name = repository
    if ":" not in reference:
        manager.delete(store, namespace, name, reference, actor)
        return
    table = model_versions.c
    mine = (table.namespace == namespace) & (table.name == name) & (table.manifest == reference)
    found = select(table.version).where(mine, table.state != ModelState.DELETING)
    versions = store.db.read(lambda tx: tx.execute(found).scalars().all())
    for version in versions:
        manager.delete(store, namespace, name, version, actor)
    if not versions:
        purge.delete_unreferenced(store, store.db.write(lambda tx: _detach(tx, repository, reference)))


def _detach(tx: Transaction, repository: tuple[str, str], digest: str) -> set[str]:
    row = artifact_rows.find(tx, *repository, digest, lock=True)
    if row is None or row.kind != "referrer":
        raise NotFound(f"the repository {'/'.join(repository)} has no manifest {digest}")
    version = rows.by_id(tx, row.version_id, lock=True)
    told = dict(version.artifact or {})
    gone = {part for each in told.get("referrers", []) if each["digest"] == digest for part in each["blobs"]}
    told["referrers"] = [each for each in told.get("referrers", []) if each["digest"] != digest]
    _set_artifact(tx, version.id, told)
    still = artifact_rows.digests_of(rows.by_id(tx, version.id))
    for part in gone - still:
        artifact_rows.remove(tx, *repository, part)
    return gone - still
