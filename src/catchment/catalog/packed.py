"""Files of a version that lie inside a packed layer, as an artifact was pushed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catchment.catalog.rows import VersionFile
from catchment.errors import BadArtifact, DigestMismatch
from catchment.models.files import MODEL_FOLDER, Limits
from catchment.models.spans import FileSource
from catchment.registry.layer_reading import Member, read_layer
from catchment.store import Store


@dataclass(frozen=True)
class PackedSource:
    """A file inside of a packed layer. Reading it unpacks all that stands before it, each time anew."""

    store: Store
    file: VersionFile

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """As models.spans.Source.read says; also NotFound when the layer is gone."""
        place = 0
        for piece in _member(self.store, self.file).read():
            first, last = max(start - place, 0), min(stop - place, len(piece))
            if first < last:
                yield piece[first:last]
            place += len(piece)
            if place >= stop:
                return
        raise BadArtifact(f"{self.file.path!a} holds {place} bytes, {stop} were announced")


def unpack(store: Store, file: VersionFile, target: Path) -> None:
    """Write a packed file to the new file `target`, its digest checked.

    Raises:
        NotFound: the storage has lost the layer.
        DigestMismatch: the layer holds other bytes.
    """
    sha = hashlib.sha256()
    with target.open("xb") as out:
        for piece in _member(store, file).read():
            sha.update(piece)
            out.write(piece)
    actual = f"sha256:{sha.hexdigest()}"
    if actual != file.digest:
        raise DigestMismatch(file.digest, actual)


def _member(store: Store, file: VersionFile) -> Member:
    assert file.layer is not None  # noqa: S101 - the caller has looked
    path = store.blobs.local_path(file.layer)
    # What was taken in was held against the limits then; the same bytes need it no more.
    limits = Limits(max_bytes=2**60, max_ratio=float("inf"))
    names = (f"{MODEL_FOLDER}/{file.path}", file.path)
    for member in read_layer(FileSource(path).read(0, path.stat().st_size), limits):
        if member.name in names and member.size == file.size_bytes:
            return member
    raise BadArtifact(f"the layer {file.layer} holds no file {file.path!a}")
