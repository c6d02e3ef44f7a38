"""A model's folder as an artifact in a registry: read twice and sent, never packed into another file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from catchment.errors import Refused
from catchment.models.aside import writing
from catchment.models.config import ModelConfig
from catchment.models.files import ModelFile, with_checksums
from catchment.models.folders import read_folder
from catchment.registry import modelpack, ormb
from catchment.registry.artifacts import OCI_MANIFEST, Descriptor, digest_of
from catchment.registry.backend import CHUNK_BYTES, Chunk, Source, bytes_source
from catchment.registry.copying import Place
from catchment.registry.layer import write_layer
from catchment.registry.moving import THREADS, Meter, MoveProgress, in_parallel
from catchment.registry.stored_layer import StoredLayer

Form = Literal["ormb", "modelpack"]
FORMS: tuple[Form, ...] = ("ormb", "modelpack")


@dataclass(frozen=True)
class _Blob:
    digest: str
    size: int
    source: Source


@dataclass(frozen=True)
class _Artifact:
    """A manifest and what it names, not yet sent."""

    manifest: bytes
    blobs: tuple[_Blob, ...]

    @property
    def size(self) -> int:
        """All bytes."""
        return len(self.manifest) + sum(each.size for each in self.blobs)


def check_pushable(folder: Path, form: Form, *, deflate: bool) -> None:
    """Refuse before anything is made at the target what could not be pushed.

    Raises:
        BadArtifact, FormatMismatch, Refused: as push_folder.
    """
    if deflate and form != "ormb":
        raise Refused(f"the form {form} holds each file as it is; only ORMB's layer can be deflated")
    read_folder(folder)


def push_folder(
    folder: Path,
    target: Place,
    tag: str,
    *,
    form: Form = "ormb",
    deflate: bool = False,
    threads: int = THREADS,
    progress: MoveProgress | None = None,
) -> Descriptor:
    """Push a model's folder: `model/`, and `ormbfile.yaml` where there is one.

    The files are read once for their digests, and once more while they are sent. What the target has is not
    sent again; the manifest comes last, and with it the tag, which may have named another artifact before.
    The same folder gives the same artifact, but for a deflated layer.

    Args:
        folder: is only read.
        target: where it goes.
        tag: its tag there.
        form: ORMB, a config and one layer, as the original client has it; or ModelPack, a layer a file.
        deflate: ORMB only: make the layer smaller. It is written to a temporary file without a name first.
        threads: blobs at a time.
        progress: told how far it is.

    Returns:
        The manifest's descriptor.

    Raises:
        BadArtifact: there is no `model/` in it, or something that cannot travel.
        FormatMismatch: the files are not what the format asks for.
        TransferError: a file was changed meanwhile.
        Refused: ModelPack has no deflated layers.
        Unauthorized, Forbidden, RateLimited, Unreachable: the registry does not let us, or does not answer.
    """
    check_pushable(folder, form, deflate=deflate)
    config, files = read_folder(folder)
    with ExitStack() as stack:
        if form == "modelpack":
            artifact = _modelpack(config, files, target.repository, tag, threads)
        elif deflate:
            artifact = _deflated(config, files, stack.enter_context(tempfile.TemporaryFile()))
        else:
            artifact = _stored(config, files)
        meter = Meter(artifact.size, progress)
        largest_first = sorted(artifact.blobs, key=lambda blob: -blob.size)
        in_parallel([partial(_send, target, blob, meter) for blob in largest_first], threads, meter)
        made = target.registry.put_manifest(target.repository, artifact.manifest, OCI_MANIFEST, tag)
        meter.done(made.digest, made.size)
        return made


def _send(target: Place, blob: _Blob, meter: Meter) -> None:
    meter.check()
    target.registry.write_blob(
        target.repository,
        blob.digest,
        blob.size,
        blob.source,
        progress=lambda done: meter.done(blob.digest, done),
    )
    meter.done(blob.digest, blob.size)


def _stored(config: ModelConfig, files: list[ModelFile]) -> _Artifact:
    layer = StoredLayer(files)
    return _ormb(config, files, _Blob(layer.digest(), layer.size, _range_source(layer, layer.size)))


def _deflated(config: ModelConfig, files: list[ModelFile], scratch: BinaryIO) -> _Artifact:
    with writing(tempfile.gettempdir()):
        written = write_layer(files, scratch)
        scratch.flush()
    return _ormb(config, files, _Blob(written.digest, written.size, _open_file_source(scratch)))


def _ormb(config: ModelConfig, files: list[ModelFile], layer: _Blob) -> _Artifact:
    made = ormb.make_artifact(config, files, layer.digest, layer.size)
    return _Artifact(made.manifest, (_small(made.config_blob), layer))


def _modelpack(
    config: ModelConfig, files: list[ModelFile], repository: str, tag: str, threads: int
) -> _Artifact:
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="digest") as pool:
        packed = modelpack.pack_files(config, pool.map(with_checksums, files))
    made = modelpack.make_artifact(config, packed, name=repository.rpartition("/")[2], version=tag)
    blobs = {
        each.digest: _Blob(each.digest, each.size, _range_source(each.source, each.size)) for each in packed
    }
    return _Artifact(made.manifest, (_small(made.config_blob), *blobs.values()))


def _small(data: bytes) -> _Blob:
    return _Blob(digest_of(data), len(data), bytes_source(data))


class _Ranges(Protocol):
    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`."""


def _range_source(ranges: _Ranges, size: int) -> Source:
    """A source of what can be read from any place."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        yield ranges.read(offset, size)

    return opened


def _open_file_source(file: BinaryIO) -> Source:
    """A source of a file that has no name."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        def pieces(at: int) -> Iterator[Chunk]:
            while piece := os.pread(file.fileno(), CHUNK_BYTES, at):
                yield piece
                at += len(piece)

        yield pieces(offset)

    return opened
