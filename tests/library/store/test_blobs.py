"""One contract for blobs, whether a folder or an object store keeps them."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import DigestMismatch, NotFound, PathRefused, Unreachable
from catchment.store import Store
from catchment.store.blobs import FolderBlobs, RemoteBlobs, keep_staged, new_staged_file, put_bytes

OpenStorage = Callable[[], Store]
HOSTILE = [
    "",
    "sha256:",
    "sha256:../../../../etc/passwd",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 64 + "\n",
    "sha256:" + "a" * 62 + "/x",
    "md5:" + "a" * 64,
    "a" * 64,
    "sha256:" + "０" * 64,
    "\x00",
]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def staged(store: Store, data: bytes) -> Path:
    path = new_staged_file(store.blobs)
    path.write_bytes(data)
    return path


def left_over(store: Store) -> list[Path]:
    return list(store.blobs.staging_folder.glob("*"))


def test_what_is_put_is_there_under_its_digest(open_storage: OpenStorage) -> None:
    store = open_storage()
    source = staged(store, b"weights")
    digest = digest_of(b"weights")
    store.blobs.put_file(source, digest)
    assert not source.exists()
    assert store.blobs.exists(digest)
    assert store.blobs.size(digest) == 7
    assert store.blobs.local_path(digest).read_bytes() == b"weights"
    assert left_over(store) == []


def test_another_process_sees_it(open_storage: OpenStorage) -> None:
    first, second = open_storage(), open_storage()
    digest = digest_of(b"from the first")
    assert not second.blobs.exists(digest)
    with pytest.raises(NotFound):
        second.blobs.local_path(digest)
    assert put_bytes(first.blobs, b"from the first") == digest
    assert second.blobs.exists(digest)
    assert second.blobs.size(digest) == 14
    assert second.blobs.local_path(digest).read_bytes() == b"from the first"


def test_putting_twice_is_harmless_and_takes_the_file_both_times(open_storage: OpenStorage) -> None:
    store = open_storage()
    for _ in range(2):
        source = staged(store, b"same")
        store.blobs.put_file(source, digest_of(b"same"))
        assert not source.exists()
    assert put_bytes(store.blobs, b"same") == digest_of(b"same")
    assert store.blobs.local_path(digest_of(b"same")).read_bytes() == b"same"
    assert left_over(store) == []


def test_many_threads_may_put_and_read_one_blob(open_storage: OpenStorage) -> None:
    store = open_storage()
    data, failures = os.urandom(200_000), []

    def work() -> None:
        try:
            digest = put_bytes(store.blobs, data)
            assert store.blobs.local_path(digest).read_bytes() == data
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert left_over(store) == []


def test_an_empty_blob_is_a_blob(open_storage: OpenStorage) -> None:
    store = open_storage()
    digest = put_bytes(store.blobs, b"")
    assert store.blobs.size(digest) == 0
    assert open_storage().blobs.local_path(digest).read_bytes() == b""


def test_what_is_not_there_is_not_found(open_storage: OpenStorage) -> None:
    store = open_storage()
    missing = digest_of(b"nobody has put this")
    assert not store.blobs.exists(missing)
    for look in (store.blobs.local_path, store.blobs.size):
        with pytest.raises(NotFound, match=missing):
            look(missing)
    store.blobs.delete(missing)
    assert left_over(store) == []


def test_deleted_is_gone_everywhere_but_from_other_caches(open_storage: OpenStorage) -> None:
    store = open_storage()
    digest = put_bytes(store.blobs, b"short-lived")
    store.blobs.delete(digest)
    assert not store.blobs.exists(digest)
    with pytest.raises(NotFound):
        store.blobs.local_path(digest)
    with pytest.raises(NotFound):
        open_storage().blobs.local_path(digest)
    assert put_bytes(store.blobs, b"short-lived") == digest
    assert store.blobs.exists(digest)


@pytest.mark.parametrize("digest", HOSTILE)
def test_a_hostile_digest_is_refused_and_touches_nothing(open_storage: OpenStorage, digest: str) -> None:
    store = open_storage()
    source = staged(store, b"x")
    for operation in (
        store.blobs.exists,
        store.blobs.size,
        store.blobs.local_path,
        store.blobs.delete,
        lambda name: store.blobs.put_file(source, name),
    ):
        with pytest.raises(PathRefused):
            operation(digest)
    assert source.read_bytes() == b"x"


def test_staged_files_have_names_of_their_own(open_storage: OpenStorage) -> None:
    store = open_storage()
    names = {new_staged_file(store.blobs) for _ in range(100)}
    assert len(names) == 100
    assert {name.parent for name in names} == {store.blobs.staging_folder}


def test_keep_staged_leaves_nothing_behind_whatever_happens(
    open_storage: OpenStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_storage()
    digest = keep_staged(store.blobs, staged(store, b"kept"))
    assert store.blobs.local_path(digest).read_bytes() == b"kept"

    def broken(source: Path, digest: str, *, durable: bool = True) -> None:
        raise Unreachable("the storage is away")

    monkeypatch.setattr(store.blobs, "put_file", broken)
    with pytest.raises(Unreachable):
        keep_staged(store.blobs, staged(store, b"lost"))
    assert left_over(store) == []


# A folder's own


def test_a_blob_in_a_folder_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    assert blobs.local_path(put_bytes(blobs, b"x")).stat().st_mode & 0o222 == 0


def test_nothing_is_visible_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = digest_of(b"half")
    seen: list[bool] = []
    sync = os.fsync

    def watching(descriptor: int) -> None:
        seen.append(blobs.exists(digest))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    put_bytes(blobs, b"half")
    assert seen == [False, True], "synced, then renamed, then the folder is synced"


def test_a_file_of_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    source = tmp_path / "elsewhere"
    source.write_bytes(b"far")
    replace = Path.replace

    def crossing(self: Path, target: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crossing)
    blobs.put_file(source, digest_of(b"far"))
    assert not source.exists()
    assert blobs.local_path(digest_of(b"far")).read_bytes() == b"far"
    assert list(blobs.staging_folder.glob("*")) == []


def test_a_full_disk_is_said_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path)
    source = tmp_path / "new"
    source.write_bytes(b"x")

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        blobs.put_file(source, digest_of(b"x"))
    assert source.exists()
    assert not blobs.exists(digest_of(b"x"))


# An object store's own


@pytest.fixture
def remote(s3_bucket: str, s3_endpoint: str, tmp_path: Path) -> RemoteBlobs:
    import fsspec

    files = fsspec.filesystem("s3", client_kwargs={"endpoint_url": s3_endpoint}, use_listings_cache=False)
    return RemoteBlobs(files, f"{s3_bucket}/{tmp_path.name}", tmp_path / "cache")


def objects(remote: RemoteBlobs) -> list[str]:
    return list(remote._files.find(remote._root))


def test_a_corrupt_object_is_noticed_and_not_kept(remote: RemoteBlobs, tmp_path: Path) -> None:
    digest = put_bytes(remote, b"right")
    remote._files.pipe_file(objects(remote)[0], b"wrong")
    fresh = RemoteBlobs(remote._files, remote._root, tmp_path / "another cache")
    for _ in range(2):
        with pytest.raises(DigestMismatch) as raised:
            fresh.local_path(digest)
        assert raised.value.expected == digest
        assert raised.value.actual == digest_of(b"wrong")
    assert [path for path in (tmp_path / "another cache").rglob("*") if path.is_file()] == []
    assert remote.local_path(digest).read_bytes() == b"right", "the verified copy is still good"


def test_the_second_read_needs_no_server(remote: RemoteBlobs, tmp_path: Path) -> None:
    digest = put_bytes(remote, b"read often")
    fresh = RemoteBlobs(remote._files, remote._root, tmp_path / "another cache")
    fresh.local_path(digest)
    remote._files.rm_file(objects(remote)[0])
    assert fresh.local_path(digest).read_bytes() == b"read often"
    assert not fresh.exists(digest), "the cache alone does not count"


def test_a_blob_that_only_the_cache_has_is_uploaded_again(remote: RemoteBlobs) -> None:
    digest = put_bytes(remote, b"again")
    remote._files.rm_file(objects(remote)[0])
    assert put_bytes(remote, b"again") == digest
    assert remote.exists(digest)


def test_a_server_that_does_not_answer_is_unreachable_and_loses_nothing(
    tmp_path: Path, s3_endpoint: str
) -> None:
    import fsspec

    from tests.conftest import free_port

    silent = fsspec.filesystem(
        "s3",
        client_kwargs={"endpoint_url": f"http://127.0.0.1:{free_port()}"},
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1},
        use_listings_cache=False,
    )
    silent.retries = 1
    blobs = RemoteBlobs(silent, "bucket/prefix", tmp_path / "cache")
    source = new_staged_file(blobs)
    source.write_bytes(b"x")
    with pytest.raises(Unreachable):
        blobs.put_file(source, digest_of(b"x"))
    assert source.read_bytes() == b"x"
    with pytest.raises(Unreachable):
        blobs.local_path(digest_of(b"x"))
