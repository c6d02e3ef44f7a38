"""Lines of a list of artifacts, from their manifests."""

from __future__ import annotations

from collections.abc import Iterable

from catchment.registry.artifacts import Descriptor, Index, Manifest, StoredManifest
from catchment.registry.backend import ArtifactEntry


def entry_of(repository: str, stored: StoredManifest, tags: Iterable[str]) -> ArtifactEntry:
    """The line of a manifest. Raises InvalidField when it is none."""
    parsed = stored.parsed()
    size = len(stored.data)
    if isinstance(parsed, Manifest):
        size += sum(blob.size for blob in parsed.blobs())
    return ArtifactEntry(
        repository,
        stored.digest,
        stored.media_type,
        kind_of(parsed),
        size,
        tuple(sorted(tag for tag in tags if tag)),
    )


def kind_of(parsed: Manifest | Index) -> str:
    """What an artifact is: its type, else its config's media type."""
    return parsed.artifact_type or (parsed.config.media_type if isinstance(parsed, Manifest) else "")


def referrer_of(stored: Descriptor, parsed: Manifest | Index) -> Descriptor:
    """How a manifest is listed among the referrers of its subject."""
    return Descriptor(stored.media_type, stored.digest, stored.size, parsed.annotations, kind_of(parsed))


def grouped(entries: Iterable[ArtifactEntry]) -> list[ArtifactEntry]:
    """Tagged ones first, by their tags; then the others, by digest."""
    return sorted(entries, key=lambda entry: (not entry.tags, entry.tags, entry.digest))
