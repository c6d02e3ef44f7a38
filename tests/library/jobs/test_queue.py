"""The queue of jobs beyond the configured parallelism."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.errors import WrongState
from catchment.jobs import lifecycle, namespaces, rows
from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.thread_sites import INITIAL, job


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[Store]:
    settings = Settings(
        home=tmp_path / "home",
        database_url=database_url,
        max_running_jobs=3,
        max_running_jobs_per_namespace=2,
    )
    migrate(settings)
    opened = open_store(settings)
    write_tensors(tmp_path / "init.safetensors", INITIAL)
    for namespace in ("default", "other"):
        namespaces.create(opened, namespace)
        opened.files.write_file(namespace, "models/init.safetensors", tmp_path / "init.safetensors")
    yield opened
    opened.close()


def create(store: Store, namespace: str, *names: str) -> None:
    for name in names:
        lifecycle.create_job(store, namespace, job(id=name))


def start(store: Store, namespace: str, *names: str) -> list[bool]:
    return [lifecycle.request_start(store, namespace, name) is not None for name in names]


def status(store: Store, namespace: str, name: str) -> tuple[str, str]:
    shown = lifecycle.get_job(store, namespace, name)["status"]
    return shown["state"], shown["reason"]


def finish(store: Store, namespace: str, name: str) -> None:
    def step(tx):
        rows.end(tx, rows.require(tx, namespace, name).uid, rows.JobState.FINISHED, progress=100)

    store.db.write(step)


def test_jobs_beyond_the_namespaces_limit_wait_with_a_reason_and_keep_no_other_namespace_waiting(store):
    create(store, "default", "a", "b", "c")
    create(store, "other", "d", "e")
    assert start(store, "default", "a", "b", "c") == [True, True, False]
    assert status(store, "default", "c") == (
        "QUEUED",
        "waits for a free place: 2 jobs of the namespace run, at most 2 at a time",
    )
    assert start(store, "other", "d", "e") == [True, False]
    assert status(store, "other", "e")[1] == "waits for a free place: 3 jobs run, at most 3 at a time"


def test_who_has_waited_longest_starts_first(store):
    create(store, "default", "a", "b", "c", "d")
    start(store, "default", "a", "b", "c", "d")
    assert lifecycle.start_queued(store) == []
    finish(store, "default", "a")
    create(store, "default", "late")
    assert start(store, "default", "late") == [False]
    assert [started.job_id for started in lifecycle.start_queued(store)] == ["c"]
    assert status(store, "default", "c")[0] == "STARTING"
    assert status(store, "default", "d")[0] == "QUEUED"


def test_a_job_that_waits_for_sites_holds_no_place(store):
    create(store, "default", "a", "b", "c")
    start(store, "default", "a", "b", "c")

    def lack_sites(tx):
        rows.change(tx, rows.require(tx, "default", "a").uid, waits_for_sites=True)

    store.db.write(lack_sites)
    assert [started.job_id for started in lifecycle.start_queued(store)] == ["c"]


def test_a_waiting_job_can_be_stopped_and_is_not_started_any_more(store):
    create(store, "default", "a", "b", "c")
    start(store, "default", "a", "b", "c")
    lifecycle.request_stop(store, "default", "c")
    assert status(store, "default", "c") == ("STOPPED", "")
    finish(store, "default", "a")
    assert lifecycle.start_queued(store) == []


def test_a_finished_job_that_waits_begins_a_new_run(store):
    create(store, "default", "a", "b", "c")
    start(store, "default", "a", "b")
    finish(store, "default", "a")
    start(store, "default", "c")
    assert start(store, "default", "a") == [False]
    assert status(store, "default", "a")[0] == "QUEUED"
    finish(store, "default", "b")
    (again,) = lifecycle.start_queued(store)
    assert (again.job_id, again.run, again.resume) == ("a", 2, False)


def test_fresh_starts_over_and_is_refused_while_the_job_runs(store):
    create(store, "default", "a")
    start(store, "default", "a")
    with pytest.raises(WrongState, match="stop it before it can start over"):
        lifecycle.request_start(store, "default", "a", fresh=True)

    def fail(tx):
        rows.end(tx, rows.require(tx, "default", "a").uid, rows.JobState.FAILED, "broken")

    store.db.write(fail)
    begun = lifecycle.request_start(store, "default", "a")
    assert begun is not None
    assert begun.run == 1
    store.db.write(fail)
    over = lifecycle.request_start(store, "default", "a", fresh=True)
    assert over is not None
    assert over.run == 2


def test_a_job_that_cannot_begin_fails_with_the_reason_and_keeps_nobody_waiting(store):
    create(store, "default", "a", "b", "c", "d")
    start(store, "default", "a", "b", "c", "d")
    outside = store.settings.home / "elsewhere"
    outside.mkdir()
    (store.settings.home / "namespaces" / "default" / "out").symlink_to(outside)
    for name in "ab":
        finish(store, "default", name)
    lifecycle.start_queued(store)
    state, reason = status(store, "default", "c")
    assert state == "FAILED"
    assert "the job cannot begin" in reason
    assert "symbolic link" in reason
    assert status(store, "default", "d")[0] == "FAILED"
