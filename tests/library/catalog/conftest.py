"""Versions of models in a store, made the short way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catchment.catalog import manager
from catchment.catalog.audit import Actor
from catchment.catalog.care import look_after
from catchment.store import Store

ANNA = Actor("user token 0123", "lab/anna")
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def create(store: Store) -> Make:
    """Creates a version; what is given replaces the body's fields."""

    def make(name: str = "net", version: str | None = "v1", **changes: Any) -> dict[str, Any]:
        body = {"name": name, "version": version, "runtime": "pytorch", **changes}
        given = {key: value for key, value in body.items() if value is not None}
        return manager.create(store, "default", given, ANNA)

    return make


@pytest.fixture
def copied(store: Store, create: Make) -> Make:
    """Creates a version whose bytes are copied from the namespace's folder, and waits for them."""

    def make(name: str = "net", version: str | None = "v1", **changes: Any) -> dict[str, Any]:
        made = create(name, version, model_path="models/init.safetensors", **changes)
        settle(store)
        return manager.get_by_id(store, made["id"])

    return make


def settle(store: Store) -> None:
    """Look after the versions until there is nothing left to do."""
    for _ in range(20):
        if not look_after(store):
            return
    raise AssertionError("there is always something left to do")


def put(store: Store, detail: dict[str, Any], data: bytes, folder: Path) -> None:
    """Put a file where the version's storage_info says, as somebody with access to the storage does."""
    (folder / "mine").write_bytes(data)
    namespace, path = detail["storage_info"]
    store.files.write_file(namespace, path, folder / "mine")
