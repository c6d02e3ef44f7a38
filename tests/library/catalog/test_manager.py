"""Creating, finding, updating and deleting versions of models."""

from __future__ import annotations

import re
from typing import Any

import pytest

from catchment.catalog import manager
from catchment.errors import AlreadyExists, InvalidField, NotFound, WrongState
from catchment.jobs import lifecycle, namespaces
from catchment.store import Store
from tests.library.catalog.conftest import ANNA, Make, settle
from tests.thread_sites import job


def test_a_new_version_waits_for_its_bytes_and_is_found_by_name_and_id(store: Store, create: Make) -> None:
    made = create(file_name="net.pt", description="first")
    assert (made["state"], made["progress"], made["error_msg"]) == ("unready", 0, None)
    assert made["storage_info"] == ["default", "model-versions/net/v1/net.pt"]
    assert made["version_info"]["version"] == "v1"
    assert made["version_info"]["description"] == "first"
    assert manager.get_by_id(store, made["id"]) == made
    assert manager.get_versions(store, "default", "net", None) == [made]
    assert manager.get_versions(store, "default", "net", "v1") == [made]


def test_versions_without_a_name_are_counted_as_the_original_program_does(create: Make) -> None:
    assert [create(version=None)["version_info"]["version"] for _ in range(3)] == ["V0", "V1", "V2"]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": "Net"}),
        ("name", {"name": "../net"}),
        ("name", {"name": ""}),
        ("version", {"version": "-1"}),
        ("version", {"version": "a b"}),
        ("version", {"version": "v" * 129}),
        ("version", {"version": "checkpoint_v1"}),
        ("runtime", {"runtime": ""}),
        ("runtime", {"runtime": None}),
        ("file_name", {"file_name": "a/b"}),
        ("file_name", {"file_name": ".."}),
        ("file_name", {"file_name": "net.pt", "model_path": "net.pt"}),
        ("model_path", {"model_path": "../net.pt"}),
        ("model_path", {"model_path": "other:net.pt"}),
        ("namespace", {"namespace": "other"}),
        ("state", {"state": "ready"}),
        ("state", {"state": "done"}),
        ("progress", {"progress": 101}),
        ("colour", {"colour": "blue"}),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(
    store: Store, field: str, changes: dict[str, Any]
) -> None:
    body = {"name": "net", "version": "v1", "runtime": "pytorch", **changes}
    body = {key: value for key, value in body.items() if value is not None}
    with pytest.raises(InvalidField) as refused:
        manager.create(store, "default", body, ANNA)
    assert refused.value.field == field
    assert manager.list_models(store, "default") == []


def test_what_get_returned_can_be_sent_back(store: Store, create: Make) -> None:
    made = create(file_name="net.pt")
    again = {key: value for key, value in made.items() if value is not None and key != "name"}
    del again["version_info"]
    sent = manager.create(store, "default", {**again, "name": "other", "version": "v1"}, ANNA)
    assert sent["id"] != made["id"]


def test_a_version_that_is_there_is_refused_and_stays_as_it_is(store: Store, create: Make) -> None:
    made = create()
    with pytest.raises(AlreadyExists, match="'v1'"):
        create(description="another")
    assert manager.list_models(store, "default") == [made]


def test_an_unknown_namespace_is_not_found_by_any_operation(store: Store) -> None:
    body = {"name": "net", "version": "v1", "runtime": "pytorch"}
    for ask in (
        lambda: manager.create(store, "nowhere", body, ANNA),
        lambda: manager.list_models(store, "nowhere"),
        lambda: manager.get_versions(store, "nowhere", "net", None),
        lambda: manager.update_version(store, "nowhere", "net", "v1", {"description": ""}, ANNA),
        lambda: manager.delete(store, "nowhere", "net", None, ANNA),
    ):
        with pytest.raises(NotFound):
            ask()


def test_pages_of_the_list_are_its_parts_in_order(store: Store, create: Make) -> None:
    for name, version in (("b", "v2"), ("a", "v1"), ("b", "v1")):
        create(name, version)
    listed = manager.list_models(store, "default")
    assert [(m["name"], m["version_info"]["version"]) for m in listed] == [
        ("a", "v1"),
        ("b", "v2"),
        ("b", "v1"),
    ]
    assert manager.list_models(store, "default", offset=1, limit=1) == listed[1:2]


def test_an_update_changes_the_description_and_says_so_in_the_audit(store: Store, create: Make) -> None:
    made = create(description="old")
    changed = manager.update_by_id(store, made["id"], {"description": "new"}, ANNA)
    assert changed["version_info"]["description"] == "new"
    (created, updated) = manager.lineage(store, made["id"])["events"]
    assert (created["action"], updated["action"]) == ("create", "update")
    assert (updated["actor"], updated["claimed"]) == (ANNA.login, ANNA.claimed)
    assert updated["detail"] == {"description": "new"}


@pytest.mark.parametrize(
    "body",
    [{}, {"state": "deleting"}, {"progress": -1}, {"progress": "50"}, {"name": "other"}, [], {"digest": "x"}],
)
def test_an_update_that_changes_nothing_or_something_fixed_is_refused(
    store: Store, create: Make, body: object
) -> None:
    made = create()
    with pytest.raises(InvalidField):
        manager.update_by_id(store, made["id"], body, ANNA)


def test_an_update_without_a_version_is_refused(store: Store, create: Make) -> None:
    create()
    with pytest.raises(InvalidField, match="version: is required"):
        manager.update_version(store, "default", "net", None, {"description": "x"}, ANNA)


def test_a_ready_version_keeps_its_state_whatever_is_reported(store: Store, copied: Make) -> None:
    made = copied()
    for body in ({"progress": 50}, {"state": "error"}, {"state": "unready", "progress": 1}):
        with pytest.raises(WrongState):
            manager.update_by_id(store, made["id"], body, ANNA)
    assert manager.update_by_id(store, made["id"], {"state": "success"}, ANNA)["state"] == "ready"


def test_deleting_a_model_deletes_its_versions_their_files_and_their_bytes(
    store: Store, copied: Make
) -> None:
    one, two = copied(version="v1"), copied(version="v2")
    assert one["digest"] == two["digest"]
    manager.delete(store, "default", "net", "v1", ANNA)
    assert store.blobs.exists(one["digest"])
    assert not store.files.is_folder("default", "model-versions/net/v1")
    manager.delete_by_id(store, two["id"], ANNA)
    assert not store.blobs.exists(one["digest"])
    with pytest.raises(NotFound):
        manager.get_versions(store, "default", "net", None)
    with pytest.raises(NotFound):
        manager.delete(store, "default", "net", None, ANNA)


def test_what_was_done_to_a_version_is_told_also_when_it_is_gone(store: Store, copied: Make) -> None:
    made = copied()
    manager.note_download(store, made["id"], ANNA)
    manager.delete_by_id(store, made["id"], ANNA)
    told = manager.lineage(store, made["id"])
    assert [event["action"] for event in told["events"]] == ["create", "ready", "download", "delete"]
    assert told["events"][-1]["detail"] == {"digest": made["digest"]}
    with pytest.raises(NotFound):
        manager.lineage(store, "0" * 32)


def test_a_version_that_a_busy_job_begins_with_is_not_deleted(store: Store, copied: Make) -> None:
    made = copied()
    other = copied(version="v2")
    lifecycle.create_job(store, "default", {**job(model_id=made["id"]), "model_path": None})
    lifecycle.request_start(store, "default", job()["id"])
    with pytest.raises(WrongState, match=re.escape(f"used by job {job()['id']!r}, which is STARTING")):
        manager.delete(store, "default", "net", None, ANNA)
    assert len(manager.get_versions(store, "default", "net", None)) == 2
    manager.delete_by_id(store, other["id"], ANNA)


def test_a_namespace_with_models_is_not_deleted(store: Store) -> None:
    namespaces.create(store, "lab")
    body = {"name": "net", "version": "v1", "runtime": "pytorch"}
    made = manager.create(store, "lab", body, ANNA)
    with pytest.raises(Exception, match="still has models, 'net'"):
        namespaces.delete(store, "lab")
    manager.delete_by_id(store, made["id"], ANNA)
    settle(store)
    namespaces.delete(store, "lab")
