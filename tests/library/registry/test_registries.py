"""What every registry does, whatever it is kept in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from catchment.errors import DigestMismatch, InvalidField, NotFound, Refused, TransferError
from catchment.registry.artifacts import OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest, digest_of
from catchment.registry.backend import Registry, bytes_source, file_source
from tests.library.registry.making import CONFIG_TYPE, put_artifact, put_blob, read_blob

MISSING = "sha256:" + "0" * 64


def test_a_blob_is_there_after_it_was_written(registry: Registry, repository: str) -> None:
    data = os.urandom(3 * 2**20 + 7)
    digest = digest_of(data)
    assert not registry.has_blob(repository, digest)
    told: list[int] = []
    registry.write_blob(repository, digest, len(data), bytes_source(data), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(data)
    assert registry.has_blob(repository, digest)
    assert registry.blob_size(repository, digest) == len(data)
    assert read_blob(registry, repository, digest) == data


def test_a_blob_is_read_from_any_offset(registry: Registry, repository: str) -> None:
    data = os.urandom(100_000)
    digest = put_blob(registry, repository, data).digest
    for start in (1, 99_999, 100_000):
        with registry.read_blob(repository, digest, start) as reader:
            assert reader.size == len(data)
            assert b"".join(bytes(chunk) for chunk in reader) == data[start:]
    for start in (100_001, -1):
        with (
            pytest.raises(TransferError, match="cannot be read"),
            registry.read_blob(repository, digest, start),
        ):
            pass


def test_an_empty_blob_is_a_blob(registry: Registry, repository: str) -> None:
    digest = put_blob(registry, repository, b"").digest
    assert registry.blob_size(repository, digest) == 0
    assert read_blob(registry, repository, digest) == b""


def test_a_blob_comes_from_a_file(registry: Registry, repository: str, tmp_path: Path) -> None:
    data = os.urandom(2**21 + 1)
    (tmp_path / "file").write_bytes(data)
    registry.write_blob(repository, digest_of(data), len(data), file_source(tmp_path / "file"))
    assert read_blob(registry, repository, digest_of(data)) == data


def test_a_blob_that_is_there_is_not_sent_again(registry: Registry, repository: str) -> None:
    digest = put_blob(registry, repository, b"once").digest

    def refuse(_offset: int) -> object:
        raise AssertionError("opened")

    told: list[int] = []
    registry.write_blob(repository, digest, 4, refuse, progress=told.append)  # type: ignore[arg-type]
    assert told == [4]


@pytest.mark.parametrize("given", [b"others", b"more than announced", b"less"])
def test_bytes_that_are_others_than_announced_are_no_blob(
    registry: Registry, repository: str, given: bytes
) -> None:
    digest = digest_of(b"wanted")
    with pytest.raises(TransferError):
        registry.write_blob(repository, digest, 6, bytes_source(given))
    assert not registry.has_blob(repository, digest)
    registry.write_blob(repository, digest, 6, bytes_source(b"wanted"))
    assert read_blob(registry, repository, digest) == b"wanted"


def test_a_missing_blob_is_not_found(registry: Registry, repository: str) -> None:
    put_blob(registry, repository, b"another")
    with pytest.raises(NotFound):
        registry.blob_size(repository, MISSING)
    with pytest.raises(NotFound), registry.read_blob(repository, MISSING):
        pass


def test_a_manifest_keeps_its_bytes_and_its_type(registry: Registry, repository: str) -> None:
    config = put_blob(registry, repository, b"{}", CONFIG_TYPE)
    made = Manifest(config, (put_blob(registry, repository, b"layer"),)).to_bytes()
    # Bytes that we would write in another way have another digest; they must come back as they are.
    odd = made.replace(b'{"schemaVersion":2,', b'{ "schemaVersion": 2,\n')
    for tag, data in (("v1", made), ("odd", odd)):
        stored = registry.put_manifest(repository, data, OCI_MANIFEST, tag)
        assert stored == Descriptor(OCI_MANIFEST, digest_of(data), len(data))
        assert registry.resolve(repository, tag) == stored
        for reference in (tag, stored.digest):
            found = registry.get_manifest(repository, reference)
            assert (found.data, found.media_type, found.digest) == (data, OCI_MANIFEST, stored.digest)
    assert registry.tags(repository) == ["odd", "v1"]


def test_a_manifest_without_its_blobs_is_refused(registry: Registry, repository: str) -> None:
    config = put_blob(registry, repository, b"{}", CONFIG_TYPE)
    made = Manifest(config, (Descriptor("application/tar+gzip", MISSING, 3),)).to_bytes()
    with pytest.raises((NotFound, Refused)):
        registry.put_manifest(repository, made, OCI_MANIFEST, "v1")
    with pytest.raises(NotFound):
        registry.resolve(repository, "v1")


def test_a_manifest_under_another_digest_is_refused(registry: Registry, repository: str) -> None:
    stored = put_artifact(registry, repository)
    data = registry.get_manifest(repository, stored.digest).data
    with pytest.raises(DigestMismatch):
        registry.put_manifest(repository, data, OCI_MANIFEST, MISSING)


def test_a_tag_moves_and_what_it_named_stays(registry: Registry, repository: str) -> None:
    first = put_artifact(registry, repository, "latest", (b"one",))
    second = put_artifact(registry, repository, "latest", (b"two",))
    assert registry.resolve(repository, "latest") == second
    assert registry.get_manifest(repository, first.digest).digest == first.digest
    assert registry.tags(repository) == ["latest"]


def test_an_index_names_manifests(registry: Registry, repository: str) -> None:
    children = tuple(
        registry.put_manifest(
            repository,
            Manifest(
                put_blob(registry, repository, b"{}", CONFIG_TYPE), (put_blob(registry, repository, data),)
            ).to_bytes(),
            OCI_MANIFEST,
        )
        for data in (b"cpu", b"gpu")
    )
    stored = registry.put_manifest(repository, Index(children).to_bytes(), OCI_INDEX, "v1")
    found = registry.get_manifest(repository, "v1")
    assert (found.media_type, found.digest) == (OCI_INDEX, stored.digest)
    parsed = found.parsed()
    assert isinstance(parsed, Index)
    assert parsed.manifests == children
    assert registry.get_manifest(repository, children[1].digest).descriptor() == children[1]


def test_lists_show_what_is_there(registry: Registry, repository: str) -> None:
    stored = put_artifact(registry, repository, "v1", (b"layer one",))
    put_artifact(registry, repository, "same", (b"layer one",))
    other = put_artifact(registry, repository, "v2", (b"layer two!",))
    project = repository.partition("/")[0]
    assert registry.repositories(project) == [repository]
    assert repository in registry.repositories()
    assert registry.repositories("nobody-has-this") == []
    found = registry.artifacts(repository)
    assert [(one.digest, one.tags) for one in found] == [
        (stored.digest, ("same", "v1")),
        (other.digest, ("v2",)),
    ]
    assert found[0].artifact_type == CONFIG_TYPE
    assert found[0].size == stored.size + len(b'{"format":"ONNX"}') + len(b"layer one")


def test_a_manifest_is_deleted_with_its_tags(registry: Registry, repository: str) -> None:
    stored = put_artifact(registry, repository, "v1")
    kept = put_artifact(registry, repository, "v2", (b"other",))
    registry.delete(repository, stored.digest)
    for reference in ("v1", stored.digest):
        with pytest.raises(NotFound):
            registry.resolve(repository, reference)
    assert registry.resolve(repository, "v2") == kept
    with pytest.raises(NotFound):
        registry.delete(repository, stored.digest)


def test_referrers_are_found_by_their_subject(registry: Registry, repository: str) -> None:
    subject = put_artifact(registry, repository, "v1")
    assert registry.referrers(repository, subject.digest) == []
    kinds = ("application/vnd.test.signature", "application/vnd.test.sbom")
    made = [
        put_artifact(registry, repository, "", (kind.encode(),), subject=subject, artifact_type=kind)
        for kind in kinds
    ]
    found = registry.referrers(repository, subject.digest)
    assert {(one.digest, one.artifact_type) for one in found} == {
        (one.digest, kind) for one, kind in zip(made, kinds, strict=True)
    }
    (only,) = registry.referrers(repository, subject.digest, kinds[1])
    assert only.digest == made[1].digest


def test_what_is_not_there_is_not_found(registry: Registry, repository: str) -> None:
    for missing in ("v1", MISSING):
        with pytest.raises(NotFound):
            registry.resolve(repository, missing)
        with pytest.raises(NotFound):
            registry.get_manifest(repository, missing)
    with pytest.raises(NotFound):
        registry.tags(repository)
    with pytest.raises(NotFound):
        registry.artifacts(repository)


@pytest.mark.parametrize("bad", ["../../etc", "Upper/x", "a/b?c", "a//b", "", "a/b\r\nX: y"])
def test_names_that_are_none_never_reach_the_registry(registry: Registry, bad: str) -> None:
    for ask in (
        lambda: registry.resolve(bad, "v1"),
        lambda: registry.tags(bad),
        lambda: registry.has_blob(bad, MISSING),
        lambda: registry.put_manifest(bad, b"{}", OCI_MANIFEST, "v1"),
        lambda: registry.referrers(bad, MISSING),
        lambda: registry.delete(bad, "v1"),
    ):
        with pytest.raises(InvalidField):
            ask()


@pytest.mark.parametrize("bad", ["", "..", "a b", "v1/../x", "sha256:123", "x" * 129])
def test_tags_and_digests_that_are_none_never_reach_the_registry(
    registry: Registry, repository: str, bad: str
) -> None:
    with pytest.raises(InvalidField):
        registry.resolve(repository, bad)
    with pytest.raises(InvalidField):
        registry.has_blob(repository, bad)


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"no json", b'{"config":{}}', b'{"schemaVersion":2,"config":{"digest":"x","size":1}}']
)
def test_what_is_no_manifest_is_refused(registry: Registry, repository: str, bad: bytes) -> None:
    with pytest.raises(InvalidField):
        registry.put_manifest(repository, bad, OCI_MANIFEST, "v1")
