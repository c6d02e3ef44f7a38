"""A registry in a folder: an OCI image layout, which other tools read and write too."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from catchment.errors import DigestMismatch, InvalidField, NotFound, TransferError
from catchment.registry.artifacts import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    StoredManifest,
    digest_of,
    media_type_of,
    read_manifest,
)
from catchment.registry.backend import (
    CHUNK_BYTES,
    ArtifactEntry,
    BlobReader,
    Chunk,
    Progress,
    Source,
    bytes_source,
)
from catchment.registry.layout_index import LayoutIndex, place, tagged, with_entry
from catchment.registry.layout_prune import prune_blobs
from catchment.registry.listing import entry_of, grouped, referrer_of
from catchment.registry.partial import receive
from catchment.registry.references import check_digest, check_repository, check_target, is_digest


class LayoutRegistry:
    """Blobs under `blobs/sha256/`, manifests among them, tags in `index.json`.

    Safe for several threads and processes. Blobs are not kept apart by repository: who knows a digest can
    read it.
    """

    checks_blobs = True

    def __init__(self, folder: Path) -> None:
        """Open the layout, or make one of an empty folder.

        Raises:
            InvalidField: the folder is full of other things.
        """
        self.name = f"oci:{folder}"
        self.folder = folder
        self._index = LayoutIndex(folder)
        self._index.ensure()

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """Media type, digest and size of the manifest that a tag or digest names. Raises NotFound."""
        check_repository(repository)
        wanted = check_target(reference)
        for entry in self._index.entries(repository):
            if wanted in (entry.digest, place(entry)[1]):
                return Descriptor(entry.media_type, entry.digest, entry.size)
        if not is_digest(wanted):
            raise NotFound(f"{self.name} has no {repository}:{wanted}")
        return self._manifest_of_an_index(repository, wanted).descriptor()

    def get_manifest(self, repository: str, reference: str) -> StoredManifest:
        """The manifest that a tag or digest names. Raises NotFound, DigestMismatch."""
        found = self.resolve(repository, reference)
        data = self._read_small(found.digest)
        return StoredManifest(data, found.media_type, found.digest)

    def _manifest_of_an_index(self, repository: str, digest: str) -> StoredManifest:
        """A manifest that only an index names: other tools give those no entry."""
        for entry in self._index.entries(repository):
            parent = read_manifest(self._read_small(entry.digest), entry.media_type)
            if isinstance(parent, Index) and digest in {each.digest for each in parent.manifests}:
                data = self._read_small(digest)
                return StoredManifest(data, media_type_of(data), digest)
        raise NotFound(f"{self.name} has no manifest {digest} in {repository}")

    def _read_small(self, digest: str) -> bytes:
        path = self._path(digest)
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InvalidField("manifest", f"{digest} has more than {MAX_MANIFEST_BYTES} bytes")
        data = path.read_bytes()
        actual = digest_of(data)
        if actual != digest:
            raise DigestMismatch(digest, actual)
        return data

    def put_manifest(self, repository: str, data: bytes, media_type: str, reference: str = "") -> Descriptor:
        """Store a manifest, under a tag where `reference` is one; its blobs must be there before it.

        Raises:
            InvalidField: it is no manifest.
            NotFound: one of its blobs or manifests is not there.
            DigestMismatch: `reference` is another digest than its own.
        """
        check_repository(repository)
        tag, digest = _tag_and_digest(reference, data)
        parsed = read_manifest(data, media_type)
        needed = parsed.blobs() if isinstance(parsed, Manifest) else parsed.manifests
        entry = Descriptor(media_type, digest, len(data), artifact_type=parsed.artifact_type)
        self.write_blob(repository, digest, len(data), bytes_source(data))

        def with_it(entries: list[Descriptor]) -> list[Descriptor]:
            for each in needed:
                self._path(each.digest)
            return with_entry(entries, tagged(entry, repository, tag))

        self._index.change(with_it)
        return Descriptor(media_type, digest, len(data))

    def blob_size(self, repository: str, digest: str) -> int:
        """Bytes of a blob. Raises NotFound."""
        check_repository(repository)
        return self._path(digest).stat().st_size

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the blob is there, whole."""
        check_repository(repository)
        return self._place(digest).is_file()

    @contextmanager
    def read_blob(
        self, repository: str, digest: str, start: int = 0, *, check: bool = True
    ) -> Iterator[BlobReader]:
        """A blob's bytes from an offset; their digest is checked at the end when they are read from 0.

        Raises:
            NotFound: there is no such blob.
            TransferError: it has no byte `start`.
        """
        size = self.blob_size(repository, digest)
        if not 0 <= start <= size:
            raise TransferError(f"{digest} has {size} bytes and cannot be read from byte {start}")
        with self._path(digest).open("rb", buffering=0) as file:
            file.seek(start)
            yield _FileReader(file, size, digest if check and not start else "")

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
        """Store a blob, unless it is there; a transfer that was cut off is gone on with.

        Raises:
            DigestMismatch, TransferError: the source gives other bytes than announced.
        """
        if not self.has_blob(repository, digest):
            receive(self._place(digest), self.folder / "ingest", digest, size, source, progress)
        else:
            # As new as one that was just written: `prune` leaves it alone until a manifest names it.
            os.utime(self._place(digest))
            if progress:
                progress(size)

    def tags(self, repository: str) -> list[str]:
        """Its tags, sorted. Raises NotFound for an unknown repository."""
        return sorted({tag for entry in self._entries(repository) if (tag := place(entry)[1])})

    def repositories(self, project: str = "") -> list[str]:
        """Names of repositories, sorted; of one project where it is given."""
        found = {place(entry)[0] for entry in self._index.entries()} - {""}
        return sorted(name for name in found if not project or name.partition("/")[0] == project)

    def artifacts(self, repository: str) -> list[ArtifactEntry]:
        """What a repository holds, by digest. Raises NotFound for an unknown repository."""
        tags: dict[str, list[str]] = {}
        for entry in self._entries(repository):
            tags.setdefault(entry.digest, []).append(place(entry)[1])
        return grouped(entry_of(repository, self.get_manifest(repository, one), tags[one]) for one in tags)

    def _entries(self, repository: str) -> list[Descriptor]:
        if not (found := self._index.entries(check_repository(repository))):
            raise NotFound(f"{self.name} has no repository {repository}")
        return found

    def delete(self, repository: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags. Blobs stay. Raises NotFound."""
        check_repository(repository)
        wanted = check_target(reference)

        def without(entries: list[Descriptor]) -> list[Descriptor]:
            hit = [e for e in entries if place(e)[0] == repository and wanted in (e.digest, place(e)[1])]
            if not hit:
                raise NotFound(f"{self.name} has no {repository} {wanted}")
            left = [entry for entry in entries if entry not in hit]
            return left if is_digest(wanted) else with_entry(left, tagged(hit[0], repository))

        self._index.change(without)

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Manifests whose subject is `digest`; none when nobody refers to it."""
        check_digest(digest)
        found = {}
        for entry in self._index.entries(check_repository(repository)):
            parsed = read_manifest(self._read_small(entry.digest), entry.media_type)
            if parsed.subject and parsed.subject.digest == digest:
                found[entry.digest] = referrer_of(entry, parsed)
        return [each for each in found.values() if artifact_type in ("", each.artifact_type)]

    def close(self) -> None:
        """Nothing is open."""

    def prune(self, unused_s: float = 24 * 3600.0) -> int:
        """Remove blobs that no manifest names any more, and what broken transfers have left; the bytes freed.

        Args:
            unused_s: how old they must be: whoever pushes writes blobs before the manifest.
        """
        with self._index.locked():
            return prune_blobs(self.folder, self._index.entries(), unused_s)

    def _place(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / check_digest(digest).removeprefix("sha256:")

    def _path(self, digest: str) -> Path:
        path = self._place(digest)
        if not path.is_file():
            raise NotFound(f"{self.name} has no blob {digest}")
        return path


class _FileReader:
    """A blob's file, read into one buffer again and again."""

    def __init__(self, file: BinaryIO, size: int, digest: str) -> None:
        self.size = size
        self._file = file
        self._digest = digest

    def __iter__(self) -> Iterator[Chunk]:
        view = memoryview(bytearray(CHUNK_BYTES))
        sha256 = hashlib.sha256()
        while count := self._file.readinto(view):  # type: ignore[attr-defined]
            chunk = view[:count]
            if self._digest:
                sha256.update(chunk)
            yield chunk
        if self._digest and (actual := f"sha256:{sha256.hexdigest()}") != self._digest:
            raise DigestMismatch(self._digest, actual)


def _tag_and_digest(reference: str, data: bytes) -> tuple[str, str]:
    digest = digest_of(data)
    if not reference or not is_digest(check_target(reference)):
        return reference, digest
    if reference != digest:
        raise DigestMismatch(reference, digest)
    return "", digest
