"""Copies, hashing in place, stalled uploads and removals, and what happens when a process dies within."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from catchment.catalog import care, manager
from catchment.catalog.care import look_after
from catchment.errors import Unreachable
from catchment.faults import FOLDER_VARIABLE, MODEL_POINTS
from catchment.store import Store
from catchment.store.schema import model_versions
from tests.library.catalog.conftest import ANNA, Make, put, settle


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_copy_is_ready_with_the_digest_of_its_bytes_and_lies_where_it_says(
    store: Store, copied: Make
) -> None:
    made = copied()
    with store.files.fetched("default", "models/init.safetensors") as source:
        data = source.read_bytes()
    assert (made["state"], made["progress"], made["size_bytes"]) == ("ready", 100, len(data))
    assert made["digest"] == sha(data)
    with store.files.fetched(*made["storage_info"]) as shown:
        assert shown.read_bytes() == data
        assert shown.samefile(store.blobs.local_path(made["digest"]))


@pytest.mark.parametrize(
    ("path", "words"), [("nothing.pt", "no file in namespace"), ("empty.pt", "is an empty file")]
)
def test_a_source_that_is_not_there_or_empty_makes_the_version_an_error(
    store: Store, create: Make, path: str, words: str
) -> None:
    store.files.write_bytes("default", "empty.pt", b"")
    made = create(model_path=path)
    settle(store)
    found = manager.get_by_id(store, made["id"])
    assert found["state"] == "error"
    assert words in found["error_msg"]


def test_a_storage_that_is_away_is_asked_again_later(
    store: Store, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(model_path="models/init.safetensors")

    def away(*_: object) -> None:
        raise Unreachable("the storage does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(store.blobs, "prepare", away)
        assert look_after(store)
    found = manager.get_by_id(store, made["id"])
    assert (found["state"], found["error_msg"]) == (
        "unready",
        "tried again soon: the storage does not answer",
    )
    assert not look_after(store)  # its lease runs on
    lapse(store)
    settle(store)
    found = manager.get_by_id(store, made["id"])
    assert (found["state"], found["error_msg"]) == ("ready", None)


def lapse(store: Store) -> None:
    """Let all leases be over, as if their owners had died long ago."""
    store.db.write(lambda tx: tx.execute(update(model_versions).values(lease_until=tx.now - 1)))


def test_what_a_user_has_put_into_the_storage_is_hashed_before_it_is_ready(
    store: Store, create: Make, tmp_path: Path
) -> None:
    made = create(file_name="net.pt")
    put(store, made, b"weights", tmp_path)
    reported = manager.update_by_id(store, made["id"], {"state": "uploading", "progress": 40}, ANNA)
    assert (reported["state"], reported["progress"]) == ("unready", 40)
    assert not look_after(store)
    reported = manager.update_by_id(store, made["id"], {"progress": 100}, ANNA)
    assert (reported["state"], reported["progress"]) == ("unready", 99)
    settle(store)
    found = manager.get_by_id(store, made["id"])
    assert (found["state"], found["progress"], found["digest"]) == ("ready", 100, sha(b"weights"))
    with store.files.fetched(*found["storage_info"]) as shown:
        assert shown.read_bytes() == b"weights"


def test_a_report_without_a_file_is_an_error_and_can_be_made_good(
    store: Store, create: Make, tmp_path: Path
) -> None:
    made = create(file_name="net.pt")
    manager.update_by_id(store, made["id"], {"state": "ready"}, ANNA)
    settle(store)
    assert manager.get_by_id(store, made["id"])["state"] == "error"
    put(store, made, b"late", tmp_path)
    manager.update_by_id(store, made["id"], {"progress": 100}, ANNA)
    settle(store)
    assert manager.get_by_id(store, made["id"])["digest"] == sha(b"late")


def test_a_reported_failure_is_kept_with_its_words(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    body = {"state": "failed", "error_msg": "the disk of my laptop is full"}
    found = manager.update_by_id(store, made["id"], body, ANNA)
    assert (found["state"], found["error_msg"]) == ("error", "the disk of my laptop is full")


def test_an_upload_that_nothing_is_heard_of_becomes_an_error(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    manager.update_by_id(store, made["id"], {"progress": 30}, ANNA)
    assert not look_after(store)
    long_ago = -2 * store.settings.upload_stall_s
    store.db.write(lambda tx: tx.execute(update(model_versions).values(touched_at=tx.now + long_ago)))
    look_after(store)
    found = manager.get_by_id(store, made["id"])
    assert found["state"] == "error"
    assert "stalled" in found["error_msg"]
    assert "30 % had arrived" in found["error_msg"]


def test_two_who_look_at_once_do_not_copy_twice(store: Store, create: Make) -> None:
    create(model_path="models/init.safetensors")
    first = store.db.write(lambda tx: care._claimed(tx, "one"))
    assert first is not None
    assert store.db.write(lambda tx: care._claimed(tx, "two")) is None


@pytest.mark.parametrize("point", MODEL_POINTS)
@pytest.mark.parametrize("reported", [False, True], ids=["copied", "put there"])
def test_a_process_that_is_killed_in_the_middle_leaves_nothing_that_looks_ready(
    store: Store, create: Make, tmp_path: Path, reported: bool, point: str
) -> None:
    armed = tmp_path / "faults"
    armed.mkdir()
    (armed / point).touch()
    if reported:
        made = create(file_name="net.pt")
        put(store, made, b"weights", tmp_path)
        manager.update_by_id(store, made["id"], {"progress": 100}, ANNA)
    else:
        made = create(model_path="models/init.safetensors")
    script = (
        "import sys; from catchment.settings import Settings; from catchment.store import open_store; "
        "from catchment.catalog.care import look_after; "
        "look_after(open_store(Settings(home=sys.argv[1], database_url=sys.argv[2])))"
    )
    arguments = [str(store.settings.home), store.settings.effective_database_url]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, FOLDER_VARIABLE: str(armed)},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -9
    assert manager.get_by_id(store, made["id"])["state"] == "unready"
    lapse(store)
    settle(store)
    assert manager.get_by_id(store, made["id"])["state"] == "ready"
    left = [path.name for path in store.blobs.staging_folder.iterdir()]
    assert left == []


def test_a_deletion_that_was_cut_short_is_finished(store: Store, copied: Make) -> None:
    made = copied()
    values = {"state": "deleting"}
    store.db.write(lambda tx: tx.execute(update(model_versions).values(**values)))
    look_after(store)
    assert manager.list_models(store, "default") == []
    assert not store.blobs.exists(made["digest"])
