"""An S3 server that answers 5xx, or nothing: what passes is waited out, what stays has a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import catchment.store
from catchment.errors import Unreachable
from catchment.settings import Settings
from catchment.store import Store
from catchment.store.blobs import new_staged_file, put_bytes
from tests.s3_server import Proxy, new_bucket

DATA = b"weights" * 1000


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    made = Proxy(s3_endpoint)
    yield made
    made.close()


@pytest.fixture
def open_here(
    proxy: Proxy, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Opens the storage behind the proxy; options replace those of botocore."""
    opened: list[Store] = []
    bucket = new_bucket(s3_endpoint)

    def make(**patience: Any) -> Store:
        monkeypatch.setattr(catchment.store, "S3_PATIENCE", {**catchment.store.S3_PATIENCE, **patience})
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        settings = Settings(
            home=tmp_path / "home",
            database_url=f"sqlite:///{tmp_path / 'unused.db'}",
            cache_dir=tmp_path / f"cache-{len(opened)}",
            storage_url=f"s3://{bucket}/store",
            s3_endpoint_url=proxy.url,
        )
        opened.append(Store(settings))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.mark.parametrize("status", [500, 503])
def test_each_request_may_fail_twice(open_here: Any, proxy: Proxy, status: int) -> None:
    proxy.answer = lambda _method, _path, before: status if before % 3 < 2 else 0
    digest = put_bytes(open_here().blobs, DATA)
    assert open_here().blobs.local_path(digest).read_bytes() == DATA
    store = open_here()
    store.files.write_bytes("default", "a/b.json", b"{}")
    with store.files.fetched("default", "a/b.json") as file:
        assert file.read_bytes() == b"{}"


def test_a_server_that_stays_broken_is_named_and_nothing_is_half_there(
    open_here: Any, proxy: Proxy, tmp_path: Path
) -> None:
    store = open_here(retries={"mode": "standard", "total_max_attempts": 2})
    known = put_bytes(store.blobs, DATA)
    proxy.answer = lambda _method, _path, _before: 503
    proxy.requests.clear()
    fresh = open_here()
    source = new_staged_file(fresh.blobs)
    source.write_bytes(b"new")
    digest = "sha256:" + "ab" * 32
    for operation in (
        lambda: fresh.blobs.put_file(source, digest),
        lambda: fresh.blobs.local_path(known),
        lambda: fresh.files.write_bytes("default", "x", b""),
        lambda: fresh.files.list_files("default", "scripts"),
    ):
        with pytest.raises(Unreachable, match="the storage does not answer for"):
            operation()
    assert source.read_bytes() == b"new", "who has the file can try again"
    assert len(proxy.requests) <= 4 * 2 * catchment.store.S3_ROUNDS
    proxy.answer = lambda _method, _path, _before: 0
    assert not fresh.blobs.exists(digest)
    assert fresh.blobs.local_path(known).read_bytes() == DATA


def test_a_server_that_says_nothing_is_asked_again(open_here: Any, proxy: Proxy) -> None:
    digest = put_bytes(open_here().blobs, DATA)
    fresh = open_here(read_timeout=1)
    proxy.requests.clear()
    proxy.answer = lambda method, _path, before: None if method == "GET" and before == 0 else 0
    begun = time.monotonic()
    assert fresh.blobs.local_path(digest).read_bytes() == DATA
    assert time.monotonic() - begun < 20
    assert sum(method == "GET" for method, _path in proxy.requests) == 2


def test_a_server_that_goes_on_saying_nothing_is_unreachable(open_here: Any, proxy: Proxy) -> None:
    store = open_here(read_timeout=1, retries={"mode": "standard", "total_max_attempts": 2})
    proxy.answer = lambda _method, _path, _before: None
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="the storage does not answer"):
        store.blobs.exists("sha256:" + "00" * 32)
    assert time.monotonic() - begun < 30


def test_the_patience_is_bounded(open_here: Any) -> None:
    """Whole requests that hang, all of them: below the time of a step, with its second try."""
    patience = catchment.store.S3_PATIENCE
    requests = patience["retries"]["total_max_attempts"] * catchment.store.S3_ROUNDS
    worst_s = requests * (patience["connect_timeout"] + patience["read_timeout"] + 20)
    assert worst_s < Settings().step_timeout_s
