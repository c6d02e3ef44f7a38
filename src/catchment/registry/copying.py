"""Copies of artifacts from any registry to any other, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from catchment.errors import InvalidField, NotFound
from catchment.registry.artifacts import Descriptor, Manifest, StoredManifest
from catchment.registry.backend import Chunk, Registry, Source
from catchment.registry.moving import THREADS, Meter, MoveProgress, in_parallel

MAX_DEPTH = 4
"""How deep indexes, and referrers of referrers, may be nested."""


@dataclass(frozen=True)
class Place:
    """A repository of a registry."""

    registry: Registry
    repository: str


@dataclass
class _Plan:
    """What has to be copied, children before whoever names them."""

    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All bytes."""
        small = sum(len(each.data) for each in self.manifests.values())
        return small + sum(blob.size for blob in self.blobs.values())


def copy_artifact(
    source: Place,
    reference: str,
    target: Place,
    tag: str = "",
    *,
    referrers: bool = False,
    threads: int = THREADS,
    progress: MoveProgress | None = None,
) -> Descriptor:
    """Copy an artifact; what the target has is skipped, so a copy that was cut off goes on.

    The manifest comes last, and with it its tag: whoever sees the tag finds all that it names.

    Args:
        source: where it is.
        reference: its tag or digest.
        target: where it goes.
        tag: its tag there; none: it is found by its digest only.
        referrers: whether what refers to it (signatures, for example) comes too.
        threads: blobs at a time.
        progress: told how far it is.

    Returns:
        The manifest's descriptor, the same in both places.

    Raises:
        NotFound: there is no such artifact, or a part of it is missing.
        DigestMismatch, TransferError: the source gives other bytes than its manifest names.
        Unauthorized, Forbidden, RateLimited, Unreachable: a registry does not let us, or does not answer.
    """
    plan = _Plan()
    root = source.registry.get_manifest(source.repository, reference)
    _collect(source, root, plan, MAX_DEPTH)
    children = [each for each in plan.manifests.values() if each.digest != root.digest]
    later = _Plan(dict(plan.manifests), dict(plan.blobs))
    if referrers:
        _collect_referrers(source, list(plan.manifests.values()), later, MAX_DEPTH)
    meter = Meter(later.size, progress)
    largest_first = sorted(later.blobs.values(), key=lambda blob: -blob.size)
    in_parallel([partial(_copy_blob, source, target, blob, meter) for blob in largest_first], threads, meter)
    for each in children:
        _put(target, each, "", meter)
    found = _put(target, root, tag, meter)
    for each in later.manifests.values():
        if each.digest not in plan.manifests:
            _put(target, each, "", meter)
    return found


def _put(target: Place, stored: StoredManifest, tag: str, meter: Meter) -> Descriptor:
    reference = tag or stored.digest
    found = target.registry.put_manifest(target.repository, stored.data, stored.media_type, reference)
    meter.done(stored.digest, len(stored.data))
    return found


def _collect(source: Place, stored: StoredManifest, plan: _Plan, depth: int) -> None:
    """Put a manifest and all that it names into the plan, itself last."""
    if stored.digest in plan.manifests:
        return
    if not depth:
        raise InvalidField("manifest", f"indexes are nested more than {MAX_DEPTH} deep")
    parsed = stored.parsed()
    if isinstance(parsed, Manifest):
        plan.blobs |= {blob.digest: blob for blob in parsed.blobs()}
    else:
        for each in parsed.manifests:
            child = source.registry.get_manifest(source.repository, each.digest)
            _collect(source, child, plan, depth - 1)
    plan.manifests[stored.digest] = stored


def _collect_referrers(source: Place, subjects: list[StoredManifest], plan: _Plan, depth: int) -> None:
    for subject in subjects:
        for each in source.registry.referrers(source.repository, subject.digest):
            if each.digest in plan.manifests:
                continue
            found = source.registry.get_manifest(source.repository, each.digest)
            _collect(source, found, plan, MAX_DEPTH)
            if depth > 1:
                _collect_referrers(source, [found], plan, depth - 1)


def _copy_blob(source: Place, target: Place, blob: Descriptor, meter: Meter) -> None:
    meter.check()
    same = source.registry is target.registry
    target.registry.write_blob(
        target.repository,
        blob.digest,
        blob.size,
        _opener(source, blob.digest, check=not target.registry.checks_blobs),
        progress=lambda done: meter.done(blob.digest, done),
        mount_from=source.repository if same and source.repository != target.repository else "",
    )
    meter.done(blob.digest, blob.size)


def _opener(source: Place, digest: str, *, check: bool) -> Source:
    """A source whose missing blobs are told apart from a target that is not there."""

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(
                    source.registry.read_blob(source.repository, digest, offset, check=check)
                )
            except NotFound as error:
                raise NotFound(f"a part of {source.repository} is missing: {error}") from None
            yield iter(reader)

    return opened
