"""A version's file arrives in chunks: resumed, refused, checked."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.catalog import manager, uploads
from catchment.errors import (
    CatchmentError,
    DigestMismatch,
    InvalidField,
    NotFound,
    OffsetMismatch,
    TransferError,
    WrongState,
)
from catchment.store import Store
from tests.library.catalog.conftest import ANNA, Make

DATA = bytes(range(256)) * 40


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def send(
    store: Store,
    model_id: str,
    data: bytes = DATA,
    start: int = 0,
    stop: int | None = None,
    *,
    digest: str | None = None,
    cut: int | None = None,
    **more: Any,
) -> tuple[dict[str, Any], int]:
    """Send bytes `start` to `stop` of `data`; with `cut` the connection ends after so many of them."""
    stop = len(data) if stop is None else stop

    async def pieces() -> AsyncIterator[bytes]:
        yield data[start : stop if cut is None else start + cut]
        if cut is not None:
            raise TransferError("the connection ended")

    return asyncio.run(
        uploads.receive(
            store, model_id, ANNA, start=start, total=len(data), digest=digest, pieces=pieces(), **more
        )
    )


def test_a_whole_file_makes_the_version_ready(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    detail, stored = send(store, made["id"], digest=sha(DATA))
    assert (detail["state"], detail["digest"], stored) == ("ready", sha(DATA), len(DATA))
    with store.files.fetched(*detail["storage_info"]) as shown:
        assert shown.read_bytes() == DATA
    assert uploads.offset(store, made["id"]) == len(DATA)
    assert [e["action"] for e in manager.lineage(store, made["id"])["events"]] == ["create", "ready"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(DATA) - 1), max_size=4, unique=True).map(sorted))
def test_any_cut_into_parts_gives_the_same_version(store: Store, create: Make, cuts: list[int]) -> None:
    made = create(file_name="net.pt")
    ends = [0, *cuts, len(DATA)]
    for start, stop in itertools.pairwise(ends):
        detail, stored = send(store, made["id"], start=start, stop=stop, digest=sha(DATA))
        assert stored == stop == uploads.offset(store, made["id"])
        assert detail["state"] == ("ready" if stop == len(DATA) else "unready")
    assert detail["digest"] == sha(DATA)
    manager.delete_by_id(store, made["id"], ANNA)


def test_a_broken_connection_keeps_what_came_and_the_rest_completes_it(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    with pytest.raises(TransferError):
        send(store, made["id"], cut=1000)
    assert uploads.offset(store, made["id"]) == 1000
    detail, _ = send(store, made["id"], start=1000)
    assert (detail["state"], detail["digest"]) == ("ready", sha(DATA))


@pytest.mark.parametrize("start", [1, 999, 1001, len(DATA) - 1])
def test_a_part_that_does_not_continue_what_is_there_is_refused_with_the_right_offset(
    store: Store, create: Make, start: int
) -> None:
    made = create(file_name="net.pt")
    send(store, made["id"], stop=1000)
    with pytest.raises(OffsetMismatch) as refused:
        send(store, made["id"], start=start)
    assert refused.value.offset == 1000


def test_wrong_bytes_make_an_error_and_the_right_ones_make_it_good(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    with pytest.raises(DigestMismatch):
        send(store, made["id"], digest=sha(b"other"))
    found = manager.get_by_id(store, made["id"])
    assert found["state"] == "error"
    assert sha(b"other") in found["error_msg"]
    assert uploads.offset(store, made["id"]) == 0
    detail, _ = send(store, made["id"], digest=sha(DATA))
    assert (detail["state"], detail["error_msg"]) == ("ready", None)


def test_a_finished_version_takes_the_same_again_and_nothing_else(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    send(store, made["id"], digest=sha(DATA))
    detail, stored = send(store, made["id"], digest=sha(DATA))
    assert (detail["state"], stored) == ("ready", len(DATA))
    with pytest.raises(WrongState, match="upload a new version"):
        send(store, made["id"], data=b"other")
    assert manager.get_by_id(store, made["id"])["digest"] == sha(DATA)


@pytest.mark.parametrize(
    ("changes", "asked", "error"),
    [
        ({"model_path": "models/init.safetensors"}, {}, WrongState),
        ({}, {}, InvalidField),
        ({}, {"file_name": "a/b"}, InvalidField),
        ({"file_name": "net.pt"}, {"file_name": "other.pt"}, InvalidField),
        ({"file_name": "net.pt"}, {"data": b""}, InvalidField),
    ],
    ids=["copied", "no name", "a path", "another name", "nothing"],
)
def test_what_cannot_be_the_versions_file_is_refused(
    store: Store, create: Make, changes: dict[str, Any], asked: dict[str, Any], error: type[CatchmentError]
) -> None:
    made = create(**changes)
    with pytest.raises(error):
        send(store, made["id"], **asked)


def test_a_version_without_a_file_name_takes_the_uploads(store: Store, create: Make) -> None:
    made = create()
    detail, _ = send(store, made["id"], file_name="net.onnx")
    assert (detail["state"], detail["file_name"]) == ("ready", "net.onnx")


def test_a_version_that_is_too_large_or_unknown_is_refused(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    small = store.settings.model_copy(update={"max_model_bytes": 100})
    object.__setattr__(store, "settings", small)
    with pytest.raises(InvalidField, match="1 to 100 bytes"):
        send(store, made["id"])
    with pytest.raises(NotFound):
        send(store, "0" * 32, data=b"x")


def test_a_deleted_version_takes_its_half_upload_with_it(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    send(store, made["id"], stop=1000)
    manager.delete_by_id(store, made["id"], ANNA)
    assert list(store.blobs.staging_folder.iterdir()) == []
