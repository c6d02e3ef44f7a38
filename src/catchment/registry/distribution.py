"""Any registry that speaks the OCI distribution API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from catchment.errors import DigestMismatch, NotFound, Refused, TransferError
from catchment.registry.artifacts import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    StoredManifest,
    digest_of,
    media_type_of,
    read_manifest,
)
from catchment.registry.auth import CATALOG, Scopes, repository_scope
from catchment.registry.backend import ArtifactEntry, BlobReader, Progress, Source
from catchment.registry.listing import entry_of, grouped, referrer_of
from catchment.registry.paging import pages
from catchment.registry.reading import RemoteBlob, blob_size
from catchment.registry.references import check_digest, check_repository, check_tag, check_target, is_digest
from catchment.registry.session import Session
from catchment.registry.uploading import Upload

_ACCEPT = ", ".join(MANIFEST_TYPES)
_PAGE = 1000


class DistributionRegistry:
    """A registry behind `/v2/`. Usable by several threads."""

    checks_blobs = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = session.host

    def ping(self) -> None:
        """Ask whether this is a registry that knows us.

        Raises:
            Unauthorized, Forbidden: it is, and it does not.
            Refused: it is none.
        """
        try:
            self.session.request("GET", "/v2/", (), "asking for the registry")
        except NotFound:
            raise Refused(f"{self.name} is no registry: it has no /v2/") from None

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """Media type, digest and size of the manifest that a tag or digest names. Raises NotFound."""
        answer = self.session.request(
            "HEAD", *self._manifest(repository, reference), headers={"Accept": _ACCEPT}
        )
        media_type = _plain_type(answer.header("Content-Type"))
        digest = reference if is_digest(reference) else answer.header("Docker-Content-Digest")
        if answer.length is None or not digest.startswith("sha256:") or media_type not in MANIFEST_TYPES:
            return self.get_manifest(repository, reference).descriptor()
        return Descriptor(media_type, check_digest(digest), answer.length)

    def get_manifest(self, repository: str, reference: str) -> StoredManifest:
        """The manifest that a tag or digest names. Raises NotFound, DigestMismatch."""
        answer = self.session.request(
            "GET",
            *self._manifest(repository, reference),
            headers={"Accept": _ACCEPT},
            most=MAX_MANIFEST_BYTES,
        )
        data = answer.body
        digest = digest_of(data)
        for announced in (reference, answer.header("Docker-Content-Digest")):
            if announced.startswith("sha256:") and announced != digest:
                raise DigestMismatch(announced, digest)
        media_type = _plain_type(answer.header("Content-Type"))
        return StoredManifest(
            data, media_type if media_type in MANIFEST_TYPES else media_type_of(data), digest
        )

    def put_manifest(self, repository: str, data: bytes, media_type: str, reference: str = "") -> Descriptor:
        """Store a manifest, under a tag where `reference` is one; its blobs must be there before it.

        Where the registry does not know referrers, the index under the tag of the manifest's subject is kept
        up instead, as the specification says.

        Raises:
            InvalidField: it is no manifest.
            NotFound, Refused: one of its blobs or manifests is not there.
            DigestMismatch: `reference` is another digest than its own, or the registry computes another one.
        """
        parsed = read_manifest(data, media_type)
        digest = digest_of(data)
        reference = reference or digest
        if is_digest(check_target(reference)) and reference != digest:
            raise DigestMismatch(reference, digest)
        path, _, what = self._manifest(repository, reference)
        answer = self.session.request(
            "PUT",
            path,
            repository_scope(repository, "pull", "push"),
            f"pushing {what}",
            headers={"Content-Type": media_type},
            body=data,
            accept=(200, 201, 202),
        )
        announced = answer.header("Docker-Content-Digest")
        if announced.startswith("sha256:") and announced != digest:
            raise DigestMismatch(digest, announced)
        stored = Descriptor(media_type, digest, len(data))
        if parsed.subject and not answer.header("OCI-Subject"):
            self._add_referrer(repository, parsed.subject.digest, referrer_of(stored, parsed))
        return stored

    def blob_size(self, repository: str, digest: str) -> int:
        """Bytes of a blob. Raises NotFound."""
        return blob_size(self.session, check_repository(repository), check_digest(digest))

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the blob is there, whole."""
        try:
            self.blob_size(repository, digest)
        except NotFound:
            return False
        return True

    @contextmanager
    def read_blob(
        self, repository: str, digest: str, start: int = 0, *, check: bool = True
    ) -> Iterator[BlobReader]:
        """A blob's bytes from an offset; goes on by itself where a connection breaks.

        Raises:
            NotFound: there is no such blob.
            TransferError: it has no byte `start`.
        """
        if start < 0:
            raise TransferError(f"{digest} cannot be read from byte {start}")
        reader = RemoteBlob(
            self.session, check_repository(repository), check_digest(digest), start, check=check
        )
        try:
            yield reader
        finally:
            reader.close()

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
        """Store a blob, unless it is there; the registry checks its digest.

        Raises:
            TransferError: the source gives other bytes than announced.
        """
        if self.has_blob(repository, digest):
            if progress:
                progress(size)
            return
        if mount_from:
            check_repository(mount_from)
        Upload(self.session, repository, digest, size, source, progress).run(mount_from)

    def tags(self, repository: str) -> list[str]:
        """Its tags, sorted. Raises NotFound for an unknown repository."""
        path = f"/v2/{check_repository(repository)}/tags/list?n={_PAGE}"
        scopes = repository_scope(repository, "pull")
        found = pages(self.session, path, scopes, f"the tags of {repository}", "tags")
        return sorted({tag for tag in found if isinstance(tag, str)})

    def repositories(self, project: str = "") -> list[str]:
        """Names of repositories, sorted; of one project where it is given.

        Raises:
            Unauthorized, Forbidden, NotFound: the registry does not show its catalog.
        """
        found = pages(self.session, f"/v2/_catalog?n={_PAGE}", CATALOG, "the repositories", "repositories")
        names = {name for name in found if isinstance(name, str)}
        return sorted(name for name in names if not project or name.startswith(f"{project}/"))

    def artifacts(self, repository: str) -> list[ArtifactEntry]:
        """What a repository's tags name, by digest. Raises NotFound for an unknown repository."""
        tags: dict[str, list[str]] = {}
        for tag in self.tags(repository):
            tags.setdefault(self.resolve(repository, tag).digest, []).append(tag)
        return grouped(entry_of(repository, self.get_manifest(repository, one), tags[one]) for one in tags)

    def delete(self, repository: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags.

        Raises:
            NotFound: there is none.
            Refused: the registry does not delete, or no tags alone.
        """
        path, _, what = self._manifest(repository, reference)
        scopes = repository_scope(repository, "delete", "pull")
        try:
            self.session.request("DELETE", path, scopes, f"deleting {what}", accept=(200, 202, 204))
        except (Refused, TransferError) as error:
            raise Refused(f"{error}; perhaps it deletes nothing, or only by digest") from None

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Manifests whose subject is `digest`; none when nobody refers to it."""
        path = f"/v2/{check_repository(repository)}/referrers/{check_digest(digest)}"
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        what = f"what refers to {digest}"
        try:
            values: list[Any] = pages(
                self.session, path + query, repository_scope(repository, "pull"), what, "manifests"
            )
            index = read_manifest(json.dumps({"manifests": values}).encode())
        except (NotFound, Refused):
            index = self._fallback(repository, digest)
        found = index.manifests if isinstance(index, Index) else ()
        return [each for each in found if artifact_type in ("", each.artifact_type)]

    def _fallback(self, repository: str, digest: str) -> Index:
        """The index under the subject's tag; an empty one where there is none."""
        try:
            found = self.get_manifest(repository, check_tag(digest.replace(":", "-"))).parsed()
        except NotFound:
            return Index(())
        return found if isinstance(found, Index) else Index(())

    def _add_referrer(self, repository: str, subject: str, new: Descriptor) -> None:
        index = self._fallback(repository, subject)
        if new.digest not in {each.digest for each in index.manifests}:
            index = Index((*index.manifests, new), annotations=index.annotations)
            self.put_manifest(repository, index.to_bytes(), INDEX_TYPES[0], subject.replace(":", "-"))

    def _manifest(self, repository: str, reference: str) -> tuple[str, Scopes, str]:
        check_repository(repository)
        path = f"/v2/{repository}/manifests/{check_target(reference)}"
        return path, repository_scope(repository, "pull"), f"manifest {reference} of {repository}"

    def close(self) -> None:
        """Close idle connections."""
        self.session.close()


def _plain_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip()
