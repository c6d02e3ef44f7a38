"""An S3 server for the session, and the two kinds of storage behind one name."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from catchment.settings import Settings
from catchment.store import Store
from tests.library.store.fresh import migrated
from tests.s3_server import new_bucket, running_s3

__all__ = ["migrated"]


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a moto server; credentials for it are in the environment meanwhile."""
    with running_s3(tmp_path_factory.mktemp("moto")) as server:
        yield server.url


@pytest.fixture(scope="session")
def s3_bucket(s3_endpoint: str) -> str:
    """An empty bucket's name."""
    return new_bucket(s3_endpoint)


@pytest.fixture(params=["folder", "s3"])
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same storage, as one more process with a cache of its own would."""
    where = {}
    if request.param == "s3":
        bucket = request.getfixturevalue("s3_bucket")
        where = {
            "storage_url": f"s3://{bucket}/{secrets.token_hex(6)}",
            "s3_endpoint_url": request.getfixturevalue("s3_endpoint"),
        }
    opened: list[Store] = []

    def make() -> Store:
        # fsspec keeps one file system for equal settings; another process has another.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        settings = Settings(
            home=tmp_path / "home",
            database_url=f"sqlite:///{tmp_path / 'unused.db'}",
            cache_dir=tmp_path / f"cache-{len(opened)}",
            **where,
        )
        opened.append(Store(settings))
        return opened[-1]

    yield make
    for store in opened:
        store.close()
