"""A model's artifact as a folder: fetched aside, resumable, and there at once when all of it is right."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from catchment.errors import BadArtifact
from catchment.models import documents
from catchment.models.aside import appear, check_free, workplace, writing
from catchment.models.config import ModelConfig
from catchment.models.files import Limits
from catchment.models.folders import inside_model
from catchment.models.spans import FileSource
from catchment.models.unfolding import Tree
from catchment.registry import modelpack, ormb
from catchment.registry.artifacts import Descriptor, StoredManifest, read_model_manifest
from catchment.registry.backend import blob_source
from catchment.registry.copying import Place
from catchment.registry.layer_reading import read_layer
from catchment.registry.modelpack_layers import PackLayer
from catchment.registry.moving import THREADS, Meter, MoveProgress, in_parallel
from catchment.registry.partial import receive


@dataclass(frozen=True)
class _Contents:
    """What an artifact of any form holds.

    Attributes:
        form: "ormb" or "modelpack".
        config: what it says of itself.
        layers: that are fetched.
    """

    form: str
    config: ModelConfig
    layers: tuple[PackLayer, ...]


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        folder: where it is now.
        digest: `sha256:<hex>` of the manifest.
        form: "ormb" or "modelpack".
    """

    folder: Path
    digest: str
    form: str


def pull_folder(
    source: Place,
    reference: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    threads: int = THREADS,
    progress: MoveProgress | None = None,
) -> Pulled:
    """Pull a model's artifact, ORMB or ModelPack, into a folder with `ormbfile.yaml` and `model/`.

    All is made in a hidden folder beside it and renamed at last. What a pull that broke off has fetched lies
    there, and the next pull of the same artifact to the same folder goes on with it.

    Args:
        source: where it is.
        reference: its tag or digest.
        folder: must not be there, or be empty.
        limits: what it may unfold to.
        threads: blobs at a time.
        progress: told how far it is.

    Raises:
        AlreadyExists: there is something in the folder.
        Refused: the folder cannot be replaced, or another pull to it is at work.
        NotFound: there is no such artifact, or a part of it is missing.
        BadArtifact: it is no model, or holds what is not safe; nothing of it stays.
        DigestMismatch, TransferError: the registry gives other bytes than the manifest names.
        Unauthorized, Forbidden, RateLimited, Unreachable: the registry does not let us, or does not answer;
            Unreachable also when the disk is full.
    """
    folder, limits = folder.resolve(), limits or Limits()
    check_free(folder)
    stored = source.registry.get_manifest(source.repository, reference)
    contents = _contents(source, stored)
    size = sum({each.blob.digest: each.blob.size for each in contents.layers}.values())
    if size > limits.max_bytes:
        raise BadArtifact(f"the artifact has {size} bytes, {limits.max_bytes} are allowed")
    with workplace(folder, stored.digest.removeprefix("sha256:")[:16]) as work:
        meter = Meter(size, progress)
        blobs = {each.blob.digest: each.blob for each in contents.layers}
        fetch = [partial(_fetch, source, blob, work, meter) for blob in blobs.values()]
        in_parallel(fetch, threads, meter)
        with writing(work):
            _unfold(contents, work, limits)
            appear(work / "tree", folder)
    return Pulled(folder, stored.digest, contents.form)


def _contents(source: Place, stored: StoredManifest) -> _Contents:
    """What the manifest and its config say. Raises BadArtifact for what is no model."""
    manifest = read_model_manifest(stored.data)
    if modelpack.is_modelpack(manifest):
        pack = modelpack.read_artifact(stored.data, _small(source, manifest.config))
        return _Contents("modelpack", pack.config, pack.layers)
    if not ormb.is_ormb(manifest):
        raise BadArtifact(
            f"the config is {manifest.config.media_type[:100]!a}; models are "
            f"ORMB's ({ormb.CONFIG_TYPE}) or CNCF ModelPack's ({modelpack.CONFIG_TYPE})"
        )
    made = ormb.read_artifact(stored.data, _small(source, manifest.config))
    return _Contents("ormb", made.config, (PackLayer(made.layer, "weight", "gzip", ""),))


def _small(source: Place, blob: Descriptor) -> bytes:
    """The bytes of a config. Raises BadArtifact when they are more than a config has."""
    data = bytearray()
    with source.registry.read_blob(source.repository, blob.digest) as reader:
        if max(blob.size, reader.size) > documents.MAX_JSON_BYTES:
            raise BadArtifact(f"the config has {blob.size} bytes, {documents.MAX_JSON_BYTES} are allowed")
        for chunk in reader:
            data += chunk
    return bytes(data)


def _fetch(source: Place, blob: Descriptor, work: Path, meter: Meter) -> None:
    meter.check()
    path = _blob_path(work, blob.digest)
    if not path.is_file():
        opened = blob_source(source.registry, source.repository, blob.digest, check=False)
        told = partial(meter.done, blob.digest)
        receive(path, work / "blobs", blob.digest, blob.size, opened, told)
    meter.done(blob.digest, blob.size)


def _blob_path(work: Path, digest: str) -> Path:
    """Where a blob lies that was fetched whole."""
    return work / "blobs" / digest.removeprefix("sha256:")


def _unfold(contents: _Contents, work: Path, limits: Limits) -> None:
    """Make the tree: packed layers first, whose blobs stay; then files, which are moved."""
    shutil.rmtree(work / "tree", ignore_errors=True)
    tree = Tree(work / "tree", limits)
    named = modelpack.model_name if contents.form == "modelpack" else _below_model
    for layer in contents.layers:
        if layer.packing:
            packed = FileSource(_blob_path(work, layer.blob.digest)).read(0, layer.blob.size)
            for member in read_layer(packed, limits, layer.packing):
                if name := named(member.name):
                    tree.add(member, name)
    raw = [layer for layer in contents.layers if not layer.packing]
    last = {layer.blob.digest: layer for layer in raw}
    for layer in raw:
        name, blob = modelpack.model_name(layer.path), _blob_path(work, layer.blob.digest)
        tree.place(name, blob, layer.mode, layer.mtime, move=last[layer.blob.digest] is layer)
    tree.finish(contents.config)


def _below_model(name: str) -> str:
    """The original client packs nothing beside `model/`; from others it is passed over, as by our server."""
    return name if inside_model(name) else ""
