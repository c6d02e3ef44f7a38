"""Namespaces are made, listed and removed on purpose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from catchment.errors import InvalidField, NotFound, Refused
from catchment.jobs import lifecycle, namespaces
from catchment.store import Store
from tests.library.store.fresh import BOTH
from tests.thread_sites import job


@BOTH
def test_a_namespace_is_made_once(store: Store) -> None:
    assert namespaces.create(store, "team-a")
    assert not namespaces.create(store, "team-a")
    assert namespaces.get(store, "team-a") == {"name": "team-a", "create_time": "2023-11-14T22:13:20.000Z"}
    assert [each["name"] for each in namespaces.list_all(store)] == ["default", "team-a"]
    assert (store.settings.home / "namespaces" / "team-a").is_dir()


@BOTH
def test_made_by_many_at_once_one_of_them_made_it(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: namespaces.create(store, "new"), range(6)))
    assert made.count(True) == 1


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", "a_b", "a/b", "..", ".", "a b", "a\n", "ä", "a" * 64, "a\x00"]
)
def test_a_name_that_is_none_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidField) as raised:
        namespaces.create(store, name)
    assert raised.value.field == "namespace"
    assert len(namespaces.list_all(store)) == 1


@BOTH
def test_an_empty_namespace_is_removed_with_its_folder(store: Store) -> None:
    namespaces.create(store, "gone")
    store.files.write_bytes("gone", "models/x", b"x")
    namespaces.delete(store, "gone")
    assert not (store.settings.home / "namespaces" / "gone").exists()
    with pytest.raises(NotFound):
        namespaces.get(store, "gone")
    with pytest.raises(NotFound):
        namespaces.delete(store, "gone")
    assert namespaces.create(store, "gone")


def test_one_with_jobs_and_the_default_stay(store: Store) -> None:
    namespaces.create(store, "busy")
    store.files.write_bytes("busy", "models/init.safetensors", b"x")
    lifecycle.create_job(store, "busy", job())
    with pytest.raises(Refused, match="still has jobs, 'j' for one"):
        namespaces.delete(store, "busy")
    assert store.files.is_file("busy", "models/init.safetensors")
    with pytest.raises(Refused, match="cannot be deleted"):
        namespaces.delete(store, "default")
    lifecycle.request_delete(store, "busy", "j")
    namespaces.delete(store, "busy")


@BOTH
def test_names_with_nul_are_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        namespaces.get(store, "a\x00b")
    with pytest.raises(NotFound):
        namespaces.delete(store, "a\x00b")
