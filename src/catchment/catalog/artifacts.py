"""Versions that came as files, as artifacts: described when somebody asks for them, never packed.

The layer is a function of the files (registry.stored_layer): what is remembered are its digest, its size and
its CRC-32, and every range of it is given from the files' blobs.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, update

from catchment.catalog import artifact_rows, content, rows
from catchment.catalog.describing import config_of, travelling
from catchment.catalog.rows import VersionFile
from catchment.errors import NotFound
from catchment.jobs import purge
from catchment.models.files import ModelFile, in_order
from catchment.registry import ormb
from catchment.registry.artifacts import OCI_MANIFEST, digest_of
from catchment.registry.layer import LAYER_TYPE
from catchment.registry.stored_layer import StoredLayer
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

AT_ONCE = 2
"""So many layers are read at a time to learn their digests."""


def model_files(store: Store, row: Row[Any], files: list[VersionFile], mtime: int) -> list[ModelFile]:
    """A version's files as an artifact has them: named `model/<path>`, in the layer's order."""
    return in_order(replace(file, mtime=mtime) for file in travelling(store, row, files))


def layer_of(store: Store, row: Row[Any], files: list[VersionFile]) -> StoredLayer:
    """The layer of a version that is described, from its files."""
    facts = row.artifact["layer"]
    return StoredLayer(model_files(store, row, files, facts["mtime"]), crc32=facts["crc32"])


def describe(store: Store, model_id: str) -> Row[Any]:
    """Make the artifact of a ready version that came as files, where there is none or its config changed.

    Reads all its bytes the first time. The version's row as it is then.

    Raises:
        NotFound: it is gone.
        WrongState: it is not ready.
        BadArtifact: a file has a name that cannot travel.
    """

    def look(tx: Transaction) -> tuple[Row[Any], list[VersionFile]]:
        row = rows.by_id(tx, model_id)
        return row, content.require_ready(tx, row)

    row, files = store.db.read(look)
    if row.form != "files":
        return row
    facts = (row.artifact or {}).get("layer") or _layer_facts(store, row, files)
    named = model_files(store, row, files, facts["mtime"])
    artifact = ormb.make_artifact(config_of(row), named, facts["digest"], facts["size"])
    if row.manifest != artifact.digest:
        return store.db.write(lambda tx: _remember(store, tx, row, artifact, facts))
    return row


def is_described(row: Row[Any]) -> bool:
    """Whether asking for a version's artifact reads none of its files."""
    return row.form != "files" or bool((row.artifact or {}).get("layer"))


def _layer_facts(store: Store, row: Row[Any], files: list[VersionFile]) -> dict[str, Any]:
    mtime = int(row.created_at)
    layer = StoredLayer(model_files(store, row, files, mtime))
    return {"digest": layer.digest(), "size": layer.size, "crc32": layer.tar_crc32(), "mtime": mtime}


def _remember(
    store: Store, tx: Transaction, seen: Row[Any], artifact: ormb.OrmbArtifact, facts: dict[str, Any]
) -> Row[Any]:
    config = artifact.config_blob
    made = [digest_of(config), artifact.digest]
    purge.lock_blobs(tx, made, shared=True)
    for data in (config, artifact.manifest):
        put_bytes(store.blobs, data)
    purge.hold_blobs(store, tx, made)
    row = rows.by_id(tx, seen.id, lock=True)
    if row.digest != seen.digest or row.state != seen.state:
        raise NotFound(f"version {row.version!r} of model {row.name!r} was removed meanwhile")
    repository = row.namespace, row.name
    parts: list[tuple[str, int, artifact_rows.Kind, str, bool]] = [
        (made[0], len(config), "config", ormb.CONFIG_TYPE, True),
        (facts["digest"], facts["size"], "layer", LAYER_TYPE, False),
        (made[1], len(artifact.manifest), "manifest", OCI_MANIFEST, True),
    ]
    for digest, size, kind, media_type, stored in parts:
        artifact_rows.put(
            tx, repository, digest, size, kind, media_type=media_type, version_id=row.id, stored=stored
        )
    # What it was before stays, by its digest, as long as the version does.
    told = dict(row.artifact or {})
    told |= {"layer": facts, "blobs": sorted({*told.get("blobs", []), *made, facts["digest"]})}
    mine = model_versions.c.id == row.id
    tx.execute(update(model_versions).where(mine).values(manifest=made[1], artifact=told))
    return rows.by_id(tx, row.id)


class Describing:
    """Descriptions in progress: a version is read once, whoever waits for it, and few at a time.

    In threads of their own: who asked may go away, and what was learnt is there for the next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Semaphore(AT_ONCE)
        self._running: dict[str, Future[Row[Any]]] = {}

    def begin(self, store: Store, model_id: str) -> Future[Row[Any]]:
        """The description of a version, begun now or before."""
        with self._lock:
            found = self._running.get(model_id)
            if found is None:
                found = self._running[model_id] = Future()
                work = threading.Thread(
                    target=self._work, args=(store, model_id, found), name="describing", daemon=True
                )
                work.start()
            return found

    def _work(self, store: Store, model_id: str, told: Future[Row[Any]]) -> None:
        try:
            with self._room:
                made = describe(store, model_id)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            outcome: Any = error
        else:
            outcome = None
        with self._lock:
            self._running.pop(model_id, None)
        if outcome is None:
            told.set_result(made)
        else:
            told.set_exception(outcome)
