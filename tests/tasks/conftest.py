"""A store on an S3 server that a test can hold up, used by the flows of this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import tasks.store
from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.s3_server import S3Server, new_bucket, running_s3
from tests.thread_sites import INITIAL

STEP_TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server that the storage lies on."""
    with running_s3(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def store(
    s3: S3Server, tmp_path: Path, prefect_server: str, request: pytest.FixtureRequest
) -> Iterator[Store]:
    """The store of the test and of this process's tasks, with short deadlines."""
    given = {
        "home": str(tmp_path / "home"),
        "database_url": str(request.getfixturevalue("new_database")()),
        "storage_url": f"s3://{new_bucket(s3.url)}/store",
        "s3_endpoint_url": s3.url,
        "site_lease_s": "5",
        "step_timeout_s": str(STEP_TIMEOUT_S),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(f"CATCHMENT_{name.upper()}", value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        migrate(Settings())
        opened = open_store(Settings())
        write_tensors(tmp_path / "init.safetensors", INITIAL)
        opened.files.write_file("default", "models/init.safetensors", tmp_path / "init.safetensors")
        tasks.store.process_store.cache_clear()
        yield opened
        s3.wake()
        tasks.store.process_store().close()
        tasks.store.process_store.cache_clear()
        opened.close()
