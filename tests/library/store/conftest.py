"""An S3 server for the session, and the two kinds of storage behind one name."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from catchment.settings import Settings
from catchment.store import Store
from tests.conftest import answers, free_port, wait_until
from tests.library.store.fresh import migrated

__all__ = ["migrated"]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a moto server; credentials for it are in the environment meanwhile."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        (tmp_path_factory.mktemp("moto") / "server.log").open("wb") as log,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env=dict(os.environ),
        )
        try:
            wait_until(lambda: answers(f"{url}/moto-api/data.json"), timeout_s=60, what="the moto server")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


@pytest.fixture(scope="session")
def s3_bucket(s3_endpoint: str) -> str:
    """An empty bucket's name."""
    import boto3

    name = f"test-{secrets.token_hex(6)}"
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket=name)
    client.close()
    return name


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
