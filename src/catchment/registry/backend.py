"""What every registry can do, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from catchment.registry.artifacts import Descriptor, StoredManifest

CHUNK_BYTES = 2**20

Chunk = bytes | memoryview
Progress = Callable[[int], None]
"""Told how many bytes of a blob are done; goes back when a transfer has to begin anew."""


class BlobReader(Protocol):
    """A blob's bytes, in order. A chunk is valid until the next one is asked for.

    Attributes:
        size: bytes of the whole blob, whatever offset reading began at.
    """

    size: int

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks.

        Raises:
            DigestMismatch: all came, and they have another digest; only where that is checked.
            TransferError, Unreachable: the rest does not come.
        """


Source = Callable[[int], AbstractContextManager[Iterator[Chunk]]]
"""Opens the bytes of a blob at an offset; may be called again, when a transfer goes on after a fault."""


@dataclass(frozen=True)
class ArtifactEntry:
    """One line of a list of artifacts.

    Attributes:
        repository: `project/name`.
        digest: of the manifest.
        media_type: of the manifest.
        artifact_type: what it is: the manifest's artifact type, else its config's media type.
        size: bytes of manifest, config and layers; 0 for an index.
        tags: sorted; none for a manifest that only its digest names.
        pushed: when it came, where the registry says it.
    """

    repository: str
    digest: str
    media_type: str
    artifact_type: str
    size: int
    tags: tuple[str, ...] = ()
    pushed: datetime | None = field(default=None, compare=False)


class Registry(Protocol):
    """Artifacts by repository and tag, blobs by digest. Usable by several threads.

    All operations raise InvalidField for names that are none, Unauthorized, Forbidden and Unreachable as the
    registry answers, beside what each one says.
    """

    name: str
    """What messages call it; no secret is in it."""
    checks_blobs: bool
    """Whether `write_blob` compares the digest on this machine, so that a reader need not."""

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """Media type, digest and size of the manifest that a tag or digest names. Raises NotFound."""

    def get_manifest(self, repository: str, reference: str) -> StoredManifest:
        """The manifest that a tag or digest names. Raises NotFound, DigestMismatch."""

    def put_manifest(self, repository: str, data: bytes, media_type: str, reference: str = "") -> Descriptor:
        """Store a manifest, under a tag where `reference` is one; its blobs must be there before it.

        Raises:
            InvalidField: it is no manifest.
            NotFound: one of its blobs or manifests is not there.
            DigestMismatch: `reference` is another digest than its own.
        """

    def blob_size(self, repository: str, digest: str) -> int:
        """Bytes of a blob. Raises NotFound."""

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the blob is there, whole."""

    def read_blob(
        self, repository: str, digest: str, start: int = 0, *, check: bool = True
    ) -> AbstractContextManager[BlobReader]:
        """A blob's bytes from an offset; their digest is checked at the end when they are read from 0.

        Raises:
            NotFound: there is no such blob.
            TransferError: it has no byte `start`.
        """

    def write_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        source: Source,
        *,
        progress: Progress | None = None,
        mount_from: str = "",
    ) -> None:
        """Store a blob, unless it is there; it is there whole afterwards, or not at all.

        Args:
            repository: where it is needed.
            digest: what its bytes must have.
            size: how many they are.
            source: opens them.
            progress: told how far it is.
            mount_from: another repository of the same registry that has it, perhaps.

        Raises:
            DigestMismatch, TransferError: the source gives other bytes than announced.
        """

    def tags(self, repository: str) -> list[str]:
        """Its tags, sorted. Raises NotFound for an unknown repository."""

    def repositories(self, project: str = "") -> list[str]:
        """Names of repositories, sorted; of one project where it is given."""

    def artifacts(self, repository: str) -> list[ArtifactEntry]:
        """What a repository holds, by digest. Raises NotFound for an unknown repository."""

    def delete(self, repository: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags. Raises NotFound."""

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Manifests whose subject is `digest`; none when nobody refers to it."""

    def close(self) -> None:
        """Give connections back."""


def bytes_source(data: bytes) -> Source:
    """A source of bytes that are there."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        view = memoryview(data)
        yield (view[at : at + CHUNK_BYTES] for at in range(offset, len(data), CHUNK_BYTES))

    return opened


def file_source(path: Path) -> Source:
    """A source of a file's bytes, read into one buffer again and again."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            yield _pieces(file.readinto)

    return opened


def blob_source(registry: Registry, repository: str, digest: str, *, check: bool = True) -> Source:
    """A source of a blob in a registry."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        with registry.read_blob(repository, digest, offset, check=check) as reader:
            yield iter(reader)

    return opened


def _pieces(readinto: Callable[[bytearray], int | None]) -> Iterator[Chunk]:
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    while count := readinto(buffer):
        yield view[:count]
