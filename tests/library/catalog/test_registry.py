"""Artifacts over the store: described, pushed, replaced, collected, killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from catchment.catalog import artifacts, blob_uploads, content, manager, pushing, repositories
from catchment.errors import (
    BadArtifact,
    BlobsMissing,
    DigestMismatch,
    InvalidField,
    NotFound,
    OffsetMismatch,
    WrongState,
)
from catchment.faults import FOLDER_VARIABLE
from catchment.jobs import lifecycle, purge
from catchment.registry.stored_layer import StoredLayer
from catchment.store import Store
from catchment.store.receiving import stored_bytes
from catchment.store.schema import artifact_blobs
from tests.api.registry_client import Artifact, digest_of, modelpack, ormb, unpacked
from tests.conftest import ROOT
from tests.library.catalog.conftest import ANNA, Make, put, settle
from tests.library.catalog.test_jobs import TWO_ROUNDS
from tests.runs import begin, drive
from tests.thread_sites import Site, job

NET = ("default", "net")
FILES = {"model/net.onnx": b"weights" * 1000, "model/labels.txt": b"cat\ndog\n"}


def send(store: Store, data: bytes, repository: tuple[str, str] = NET) -> str:
    """Push a blob in one piece."""

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    upload = blob_uploads.begin(store, *repository)
    asyncio.run(blob_uploads.finish(store, repository, upload, digest_of(data), pieces()))
    return digest_of(data)


def push(store: Store, artifact: Artifact, tag: str = "v1", repository: tuple[str, str] = NET) -> None:
    for blob in artifact.blobs:
        send(store, blob, repository)
    pushing.put_manifest(store, repository, tag, artifact.manifest, "", ANNA)


def version(store: Store, name: str = "net", tag: str = "v1") -> dict[str, Any]:
    (found,) = manager.get_versions(store, "default", name, tag)
    return found


def blob_files(store: Store) -> set[str]:
    root = store.blobs.staging_folder.parent / "sha256"
    return {f"sha256:{path.parent.name}{path.name}" for path in root.glob("??/*")}


def rows_of(store: Store) -> dict[str, str]:
    found = store.db.read(lambda tx: tx.execute(select(artifact_blobs)).all())
    return {row.digest: row.kind for row in found}


def make_old(store: Store) -> None:
    """A day and more goes by for all blobs."""
    store.db.write(
        lambda tx: tx.execute(update(artifact_blobs).values(created_at=tx.now - blob_uploads.KEPT_S - 9))
    )


def test_a_pushed_artifact_is_a_version_and_goes_without_a_trace(store: Store) -> None:
    before = blob_files(store)
    artifact = ormb(FILES, metrics={"test": [{"name": "accuracy", "value": "0.9"}]})
    push(store, artifact)
    found = version(store)
    for name, data in FILES.items():
        file = content.file_of(store, found["id"], name.removeprefix("model/"))
        assert (file.digest, file.layer) == (digest_of(data), digest_of(artifact.blobs[1]))
        with content.opened(store, file) as path:
            assert (path.name, path.read_bytes()) == (name.rpartition("/")[2], data)
    assert not list(store.blobs.staging_folder.iterdir())
    manager.delete_by_id(store, found["id"], ANNA)
    assert (blob_files(store), rows_of(store)) == (before, {})


def test_packed_files_are_read_in_any_range_and_made_into_other_archives(store: Store) -> None:
    push(store, ormb(FILES))
    row = repositories.version_of_tag(store, *NET, "v1")
    files = store.db.read(lambda tx: content.require_ready(tx, row))
    travelling = artifacts.model_files(store, row, files, 0)
    assert [file.name for file in travelling] == sorted(FILES)
    for file in travelling:
        data = FILES[file.name]
        for start, stop in ((0, len(data)), (3, 5), (len(data) - 1, len(data)), (4, 4)):
            assert b"".join(file.source.read(start, stop)) == data[start:stop]
        with pytest.raises(BadArtifact, match="were announced"):
            list(file.source.read(0, len(data) + 1))
    assert unpacked(b"".join(StoredLayer(travelling).read())) == FILES


def test_a_layer_that_is_known_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    push(store, ormb(FILES), "v1")

    def never(*_: object) -> None:
        raise AssertionError("the layer was read")

    monkeypatch.setattr("catchment.catalog.pushed.read_layer", never)
    push(store, ormb(FILES, description="other words"), "v2")
    assert version(store, tag="v2")["digest"] == version(store)["digest"]


def test_a_checkpoint_and_a_copy_are_described_as_artifacts(store: Store, copied: Make) -> None:
    made = copied()
    found = artifacts.Describing().begin(store, made["id"]).result(30)
    manifest = repositories.manifest_of(store, found)
    assert digest_of(manifest.data) == manifest.digest == found.manifest
    layer = repositories.find_blob(store, *NET, found.artifact["layer"]["digest"])
    assert isinstance(layer.bytes_of, StoredLayer)
    packed = b"".join(layer.bytes_of.read())
    assert (digest_of(packed), len(packed)) == (layer.digest, layer.size)
    ((name, data),) = unpacked(packed).items()
    assert (name, digest_of(data)) == ("model/init.safetensors", made["digest"])
    assert artifacts.describe(store, made["id"]).manifest == found.manifest
    manager.delete_by_id(store, made["id"], ANNA)
    assert (rows_of(store), blob_files(store)) == ({}, set())


def test_a_version_that_waits_for_its_bytes_has_no_artifact(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    with pytest.raises(NotFound, match="unready"):
        repositories.version_of_tag(store, *NET, "v1")
    with pytest.raises(WrongState):
        artifacts.describe(store, made["id"])
    with pytest.raises(WrongState):
        push(store, ormb(FILES))


def test_a_version_in_use_is_not_replaced(store: Store, tmp_path: Path, create: Make) -> None:
    with store.files.fetched("default", "models/init.safetensors") as source:
        weights = source.read_bytes()
    push(store, ormb({"model/w.safetensors": weights}, format="Safetensors", framework="PyTorch"))
    body = {k: v for k, v in job(model_path=None, model_id=version(store)["id"]).items() if v is not None}
    lifecycle.create_job(store, "default", body)
    lifecycle.request_start(store, "default", body["id"])
    with pytest.raises(WrongState, match="is used by job"):
        push(store, ormb(FILES))
    with pytest.raises(WrongState, match="is used by job"):
        pushing.delete_manifest(store, NET, "v1", ANNA)
    assert version(store)["state"] == "ready"
    other = create(version="by-file", file_name="x.safetensors")
    put(store, other, weights, tmp_path)
    manager.update_by_id(store, other["id"], {"progress": 100}, ANNA)
    settle(store)
    assert version(store, tag="by-file")["digest"] == version(store)["digest"]


def test_blobs_that_no_manifest_names_are_collected_after_a_day(store: Store) -> None:
    before = blob_files(store)
    artifact = ormb(FILES)
    push(store, artifact)
    kept = blob_files(store)
    lone = send(store, b"nobody names this")
    assert blob_uploads.collect(store) == 0
    assert lone in blob_files(store)
    make_old(store)
    blob_uploads.touch(store, NET, lone)
    assert blob_uploads.collect(store) == 0, "somebody has just seen that it is there"
    make_old(store)
    assert blob_uploads.collect(store) == 1
    assert blob_files(store) == kept > before
    assert "blob" not in rows_of(store).values()
    with pytest.raises(NotFound):
        repositories.find_blob(store, *NET, lone)


def test_an_upload_that_rests_for_a_day_is_removed(store: Store) -> None:
    rests, goes_on = blob_uploads.begin(store, *NET), blob_uploads.begin(store, *NET)
    (path,) = store.blobs.staging_folder.glob(f"oci-*-{rests}")
    os.utime(path, (0, 0))
    assert blob_uploads.collect(store) == 1
    assert blob_uploads.offset(store, *NET, goes_on) == 0
    with pytest.raises(NotFound):
        blob_uploads.offset(store, *NET, rests)


def test_uploads_are_continued_only_where_they_are(store: Store) -> None:
    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        yield data

    upload = blob_uploads.begin(store, *NET)

    def append(data: bytes, **more: int) -> int:
        return asyncio.run(blob_uploads.append(store, NET, upload, pieces(data), **more))

    assert append(b"abc") == 3
    with pytest.raises(OffsetMismatch) as refused:
        append(b"c", start=2)
    assert refused.value.offset == 3
    with pytest.raises(InvalidField, match="size"):
        append(b"", length=2**60)
    assert append(b"de", start=3) == 5
    with pytest.raises(DigestMismatch):
        asyncio.run(blob_uploads.finish(store, NET, upload, digest_of(b"other"), pieces(b"")))
    with pytest.raises(NotFound):
        append(b"x")


def test_a_manifest_before_its_blobs_names_what_is_missing(store: Store) -> None:
    artifact = modelpack({"net.onnx": b"w"})
    send(store, artifact.blobs[0])
    with pytest.raises(BlobsMissing) as missing:
        pushing.put_manifest(store, NET, "v1", artifact.manifest, "", ANNA)
    assert missing.value.digests == [digest_of(b"w")]


KILLED = """
import asyncio, sys
from pathlib import Path
from catchment.catalog import blob_uploads, pushing
from catchment.catalog.audit import Actor
from catchment.settings import Settings
from catchment.store import open_store

home, url, step, first, second = sys.argv[1:]
store = open_store(Settings(home=Path(home), database_url=url))
data = Path(second).read_bytes()
if step == "manifest":
    pushing.put_manifest(store, ("default", "net"), "v1", data, "", Actor())
else:
    async def pieces():
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]
            await asyncio.sleep(0)
            if start > 4_000_000:
                Path(first, "mid_upload").touch()
    asyncio.run(blob_uploads.append(store, ("default", "net"), step, pieces()))
"""


def killed(store: Store, step: str, folder: Path, data: bytes) -> None:
    """Do a step in a process of its own, which is killed in the middle."""
    (folder / "faults").mkdir()
    if step == "manifest":
        (folder / "faults" / "before_ready").touch()
    (folder / "data").write_bytes(data)
    settings = store.settings
    command = [sys.executable, "-c", KILLED, str(settings.home), settings.effective_database_url, step]
    done = subprocess.run(
        [*command, str(folder / "faults"), str(folder / "data")],
        env={**os.environ, FOLDER_VARIABLE: str(folder / "faults"), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        timeout=60,
        check=False,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr.decode()


def test_a_kill_while_a_manifest_is_put_leaves_no_half_version(store: Store, tmp_path: Path) -> None:
    artifact = ormb(FILES)
    for blob in artifact.blobs:
        send(store, blob)
    killed(store, "manifest", tmp_path, artifact.manifest)
    with pytest.raises(NotFound):
        version(store)
    assert set(rows_of(store).values()) == {"blob"}
    pushing.put_manifest(store, NET, "v1", artifact.manifest, "", ANNA)
    assert version(store)["state"] == "ready"


def test_an_upload_goes_on_after_a_kill(store: Store, tmp_path: Path) -> None:
    data = os.urandom(9_000_000)
    upload = blob_uploads.begin(store, *NET)
    killed(store, upload, tmp_path, data)
    stored = blob_uploads.offset(store, *NET, upload)
    assert 0 < stored < len(data)
    (path,) = store.blobs.staging_folder.glob(f"oci-*-{upload}")
    assert stored_bytes(path) == stored

    async def rest() -> AsyncIterator[bytes]:
        yield data[stored:]

    asyncio.run(blob_uploads.finish(store, NET, upload, digest_of(data), rest(), start=stored))
    found = repositories.find_blob(store, *NET, digest_of(data))
    assert isinstance(found.bytes_of, Path)
    assert found.bytes_of.read_bytes() == data


def test_a_jobs_checkpoints_take_their_artifacts_along(store: Store, make_site: Callable[..., Site]) -> None:
    make_site("a")
    claim = begin(store, job(hyper_parameters=TWO_ROUNDS))
    drive(store, claim)
    made = manager.get_versions(store, "default", job()["id"], None)
    for each in made:
        row = artifacts.describe(store, each["id"])
        config = repositories.find_blob(store, "default", row.name, ormb_config(store, row))
        assert isinstance(config.bytes_of, Path)
        assert b'"format":"Safetensors"' in config.bytes_of.read_bytes()
    assert set(rows_of(store).values()) == {"config", "layer", "manifest"}
    lifecycle.request_delete(store, "default", job()["id"])
    purge.purge_job(store, claim.uid)
    assert (rows_of(store), blob_files(store)) == ({}, set())


def ormb_config(store: Store, row: Any) -> str:
    return str(json.loads(repositories.manifest_of(store, row).data)["config"]["digest"])
