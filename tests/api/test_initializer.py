"""A pod's initializer takes models out of this API's own registry, by the digest that the store has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catchment.catalog import made
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile, by_id
from catchment.errors import DigestMismatch
from catchment.registry.opening import Access
from catchment.serving.initializer.fetching import install
from catchment.serving.initializer.sources import parse_source
from catchment.settings import Settings
from catchment.store import open_store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from tests.api.serving import api_process
from tests.conftest import free_port

ONE = {"net.onnx": b"a model" * 100}
SEVERAL = {"net.onnx": b"a model" * 100, "net.weights": b"w" * 5000, "parts/more.bin": b""}


def register(home: Path, files: dict[str, bytes]) -> str:
    """A ready version `default/net:v1` with these files; its digest in the store."""
    store = open_store(Settings(home=home))
    listed = [VersionFile(name, put_bytes(store.blobs, data), len(data)) for name, data in files.items()]

    def step(tx: Transaction) -> Any:
        about = {"runtime": "onnx", "format": "ONNX", "lineage": {}}
        names = {"namespace": "default", "name": "net", "version": "v1"}
        return by_id(tx, made.insert_ready(tx, listed, Actor(), **names, **about))

    digest = str(store.db.write(step).digest)
    store.close()
    return digest


@pytest.mark.parametrize("files", [ONE, SEVERAL], ids=["one file", "several"])
def test_what_the_store_has_is_what_the_pod_gets(home: Path, tmp_path: Path, files: dict[str, bytes]) -> None:
    digest = register(home, files)
    port = free_port()
    named = f"catchment://127.0.0.1:{port}/default/net:v1?digest={digest}&layout=files&name=digits"
    with api_process(home, port):
        assert install(parse_source(named), tmp_path / "mnt", Access(), {})
        for name, data in files.items():
            assert (tmp_path / "mnt/model" / name).read_bytes() == data
        other = parse_source(named.replace(digest, "sha256:" + "0" * 64))
        with pytest.raises(DigestMismatch):
            install(other, tmp_path / "other", Access(), {})
