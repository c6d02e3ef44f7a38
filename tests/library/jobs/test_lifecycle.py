"""Every operation in every state, and what users see of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import insert

from catchment.errors import AlreadyExists, InvalidField, NotFound, Refused, WrongState
from catchment.jobs import by_flow_run, lifecycle, namespaces
from catchment.jobs.states import BUSY, JobState
from catchment.store import Store
from catchment.store.schema import checkpoints, jobs
from tests.library.jobs.doubles import change, make, row
from tests.library.store.fresh import BOTH, Clock
from tests.thread_sites import job

S = JobState


def create(store: Store, **changes: Any) -> None:
    lifecycle.create_job(store, "default", job(**changes))


def shown(store: Store, job_id: str = "j") -> dict[str, Any]:
    return lifecycle.get_job(store, "default", job_id)


def saved(store: Store, number: int, path: str, accuracy: float | None = 0.5) -> None:
    """A checkpoint of job j."""
    values = {
        "job_uid": row(store).uid,
        "number": number,
        "run": 1,
        "round": number,
        "path": path,
        "digest": "sha256:" + "0" * 64,
        "accuracy": accuracy,
        "created_at": 0.0,
    }
    store.db.write(lambda tx: tx.execute(insert(checkpoints).values(**values)))


# Each state and each operation: the state afterwards, or why not

START = {
    S.QUEUED: S.STARTING,
    S.STARTING: S.STARTING,
    S.RUNNING: S.RUNNING,
    S.FINISHED: S.STARTING,
    S.FAILED: S.STARTING,
    S.STOPPING: WrongState,
    S.STOPPED: S.STARTING,
    S.DELETING: WrongState,
}
STOP = {
    S.QUEUED: S.STOPPED,
    S.STARTING: S.STOPPING,
    S.RUNNING: S.STOPPING,
    S.FINISHED: WrongState,
    S.FAILED: S.STOPPED,
    S.STOPPING: S.STOPPING,
    S.STOPPED: S.STOPPED,
    S.DELETING: WrongState,
}
UPDATE = {state: WrongState if state in BUSY else state for state in S}
DELETE = {state: S.DELETING if state in BUSY else None for state in S}
TABLE = [
    pytest.param(operation, state, after, id=f"{name}-{state}")
    for name, operation, outcomes in (
        ("start", lambda store: lifecycle.request_start(store, "default", "j"), START),
        ("stop", lambda store: lifecycle.request_stop(store, "default", "j"), STOP),
        ("update", lambda store: lifecycle.update_job(store, "default", "j", job(description="new")), UPDATE),
        ("delete", lambda store: lifecycle.request_delete(store, "default", "j"), DELETE),
        ("get", shown, {state: state for state in S}),
    )
    for state, after in outcomes.items()
]


@pytest.mark.parametrize(("operation", "state", "after"), TABLE)
def test_every_operation_in_every_state(store: Store, operation: Any, state: S, after: Any) -> None:
    made = make(store, state)
    if isinstance(after, type):
        with pytest.raises(after, match=f"job 'j' is {state}"):
            operation(store)
        assert row(store) == made, "a refused operation changes nothing"
        return
    operation(store)
    assert (row(store).state if row(store) else None) == after


# Create


@BOTH
def test_a_created_job_is_queued_and_shown_with_defaults(store: Store) -> None:
    create(store, description="ten digits", parameters={"--lr": 0.1, "-v": None, "--n": 1})
    made = shown(store)
    assert made["status"] == {"state": "QUEUED", "reason": "", "progress": 0}
    assert made["create_time"] == "2023-11-14T22:13:20.000Z"
    assert (made["start_time"], made["finish_time"], made["flow_run_id"]) == (None, None, None)
    assert (made["run"], made["checkpoints"], made["namespace"]) == (0, {}, "default")
    assert made["hyper_parameters"]["round_timeout"] == 3600
    assert made["resource"] == {"worker_num": 1, "cpu": 1.0, "gpu": 0, "memory": 1000}
    assert list(made["parameters"].items()) == [("--lr", 0.1), ("-v", None), ("--n", 1)]
    assert made["description"] == "ten digits"


@BOTH
def test_text_of_any_kind_survives_the_store(store: Store) -> None:
    create(
        store, description="NUL \x00, tab \t, ä, \U0001f600", parameters={"--größe": "ä\n", "--n": 10**300}
    )
    assert shown(store)["description"] == "NUL \x00, tab \t, ä, \U0001f600"
    assert shown(store)["parameters"] == {"--größe": "ä\n", "--n": 10**300}


@BOTH
def test_a_second_job_of_that_id_is_refused(store: Store) -> None:
    create(store)
    with pytest.raises(AlreadyExists, match="job 'j' already exists in namespace 'default'"):
        create(store, description="another")
    assert "description" not in shown(store)
    namespaces.create(store, "other")
    store.files.write_bytes("other", "models/init.safetensors", b"x")
    lifecycle.create_job(store, "other", job())


@BOTH
def test_created_by_many_at_once_it_exists_once(store: Store) -> None:
    def attempt(_: int) -> bool:
        try:
            create(store)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]
    assert len(lifecycle.list_jobs(store, "default")) == 1


def test_a_seed_is_drawn_where_none_is_given(store: Store) -> None:
    create(store, id="given", seed=7)
    for job_id in ("a", "b"):
        body = job(id=job_id)
        body.pop("seed")
        lifecycle.create_job(store, "default", body)
    seeds = [shown(store, job_id)["seed"] for job_id in ("given", "a", "b")]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**48 for seed in seeds)


# References

REFERENCES = [
    ("model_path", {"model_path": "models/missing.pt"}, "no file 'models/missing.pt'"),
    ("model_path", {"model_path": "models/init.bin"}, "must end in one of"),
    ("model_path", {"model_path": "models"}, "must end in one of"),
    ("model_path", {"model_path": "../other/init.pt"}, "relative to the namespace's folder"),
    ("model_path", {"model_path": "/etc/passwd.pt"}, "relative to the namespace's folder"),
    ("model_path", {"model_path": "models\\init.pt"}, "relative to the namespace's folder"),
    ("output", {"output": "../out"}, "relative to the namespace's folder"),
    ("output", {"output": "/tmp/out"}, "relative to the namespace's folder"),
    ("output", {"output": "."}, "relative to the namespace's folder"),
    ("output", {"output": "~/out"}, "relative to the namespace's folder"),
    ("output", {"output": "a/" * 1000}, "bytes long"),
    ("output", {"output": "models/init.safetensors"}, "is a file"),
    ("output", {"output": "models/init.safetensors/below/that"}, "is a file"),
    ("checkpoint_id", {"checkpoint_id": "checkpoint_v1"}, "it has none yet"),
    ("scripts.path", {"scripts": {"path": "../s", "config_file": "c.json"}}, "relative to"),
    ("scripts.config_file", {"scripts": {"path": "s", "config_file": "../c.json"}}, "relative to"),
    ("scripts.config_file", {"scripts": {"path": "s", "config_file": "c.json"}}, "no file 'c.json'"),
    ("scripts.config_file", {"scripts": {"path": "missing", "config_file": "c.json"}}, "no file 'c.json'"),
    ("scripts.config_file", {"scripts": {"path": "s", "config_file": "lib"}}, "no file 'lib'"),
]


@pytest.mark.parametrize(("field", "changes", "words"), REFERENCES, ids=[str(c) for _, c, _ in REFERENCES])
def test_what_a_job_refers_to_must_be_there(store: Store, field: str, changes: Any, words: str) -> None:
    store.files.write_bytes("default", "s/lib/a.py", b"x")
    store.files.write_bytes("default", "models/init.bin", b"x")
    body = job(**changes)
    if "scripts" in changes:
        body.pop("task_entry")
    with pytest.raises(InvalidField) as raised:
        lifecycle.create_job(store, "default", body)
    assert raised.value.field == field
    assert words in raised.value.problem
    assert lifecycle.list_jobs(store, "default") == []


@pytest.mark.parametrize("field", ["model_path", "output"])
def test_a_link_out_of_the_namespace_is_refused_by_field(store: Store, tmp_path: Any, field: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "init.pt").write_bytes(b"x")
    (store.settings.home / "namespaces" / "default" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidField) as raised:
        create(store, **{field: "link/init.pt"})
    assert raised.value.field == field


def test_references_that_are_there_are_fine(store: Store) -> None:
    store.files.write_bytes("default", "s/lib/c.json", b"{}")
    store.files.write_bytes("default", "models/OLD.PT", b"x")
    body = job(id="scripts", scripts={"path": "s/", "config_file": "lib/c.json"})
    body.pop("task_entry")
    lifecycle.create_job(store, "default", body)
    create(store, id="upper", model_path="./models//OLD.PT")
    create(store, id="deep", output="a/b/c/")


def test_an_unknown_namespace_is_not_found(store: Store) -> None:
    for operation in (
        lambda: lifecycle.create_job(store, "nowhere", job()),
        lambda: lifecycle.update_job(store, "nowhere", "j", job()),
        lambda: lifecycle.get_job(store, "nowhere", "j"),
        lambda: lifecycle.request_start(store, "nowhere", "j"),
        lambda: lifecycle.request_stop(store, "nowhere", "j"),
        lambda: lifecycle.list_jobs(store, "nowhere"),
        lambda: lifecycle.job_rounds(store, "nowhere", "j"),
    ):
        with pytest.raises(NotFound, match="nowhere"):
            operation()
    lifecycle.request_delete(store, "nowhere", "j")


@BOTH
@pytest.mark.parametrize("job_id", ["missing", "J", "", "../j", "j ", "a\x00b", "x" * 10_000])
def test_a_job_that_is_not_there(store: Store, job_id: str) -> None:
    create(store)
    for operation in (
        lifecycle.get_job,
        lifecycle.request_start,
        lifecycle.request_stop,
        lifecycle.job_rounds,
    ):
        with pytest.raises(NotFound):
            operation(store, "default", job_id)
    assert row(store).state == S.QUEUED


def test_deleting_what_is_not_there_is_fine(store: Store) -> None:
    lifecycle.request_delete(store, "default", "missing")


# Update


def test_an_update_replaces_the_specification_and_keeps_the_seed(store: Store) -> None:
    body = job(description="first", parameters={"a": 1})
    body.pop("seed")
    lifecycle.create_job(store, "default", body)
    seed = shown(store)["seed"]
    body = job(hyper_parameters={"max_round_num": 7})
    body.pop("seed")
    lifecycle.update_job(store, "default", "j", body)
    made = shown(store)
    assert (made["seed"], made["parameters"]) == (seed, {})
    assert "description" not in made
    assert made["hyper_parameters"]["max_round_num"] == 7
    lifecycle.update_job(store, "default", "j", job(seed=99))
    assert shown(store)["seed"] == 99


@BOTH
def test_what_get_shows_can_be_put_back(store: Store) -> None:
    make(store, S.FAILED, reason="something", progress=30)
    change(store, spec={**row(store).spec, "clients": "a,b", "parameters": {"-v": None, "--x": 1.0}})
    before = shown(store)
    lifecycle.update_job(store, "default", "j", before)
    assert shown(store) == before


def test_an_update_of_another_id_is_refused(store: Store) -> None:
    create(store)
    with pytest.raises(InvalidField, match="is 'k', the path says 'j'"):
        lifecycle.update_job(store, "default", "j", job(id="k"))
    with pytest.raises(NotFound):
        lifecycle.update_job(store, "default", "k", job(id="k"))
    with pytest.raises(Refused):
        lifecycle.update_job(store, "default", "j", job(runtime="jax"))


def test_an_update_may_name_a_checkpoint_of_the_job(store: Store) -> None:
    make(store, S.FINISHED)
    saved(store, 1, "out/j_V1/checkpoints/checkpoint_v1/checkpoint_3.safetensors")
    lifecycle.update_job(store, "default", "j", job(checkpoint_id="checkpoint_v1"))
    with pytest.raises(
        InvalidField, match="it has checkpoint_v1, and no model has this id; to begin from another job's"
    ):
        lifecycle.update_job(store, "default", "j", job(checkpoint_id="checkpoint_v2"))


# Start and stop


@BOTH
def test_starting_twice_is_one_start(store: Store) -> None:
    create(store)
    with ThreadPoolExecutor(4) as pool:
        starts = list(pool.map(lambda _: lifecycle.request_start(store, "default", "j"), range(4)))
    assert len({start.key for start in starts if start}) == 1
    start = starts[0]
    assert start is not None
    assert (start.namespace, start.job_id, start.run, start.resume) == ("default", "j", 1, False)
    change(store, state=S.RUNNING)
    assert lifecycle.request_start(store, "default", "j") is None


@pytest.mark.parametrize("state", [S.FAILED, S.STOPPED])
def test_after_a_failure_or_stop_the_run_goes_on(store: Store, clock: Clock, state: S) -> None:
    first = lifecycle.request_start(store, "default", make(store).id)
    change(store, state=state, progress=40, reason="why", resumes=3, finished_at=clock(), flow_run_id="old")
    clock.forward(60)
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    assert first is not None
    assert (start.run, start.resume) == (1, True)
    assert start.key != first.key
    made = shown(store)
    assert made["status"] == {"state": "STARTING", "reason": "", "progress": 40}
    assert (made["start_time"], made["finish_time"]) == ("2023-11-14T22:14:20.000Z", None)
    assert made["flow_run_id"] is None, "the new start has no flow run yet"
    assert row(store).resumes == 0


def test_after_finished_or_with_another_model_a_new_run_begins(store: Store) -> None:
    make(store, S.FINISHED, progress=100)
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    assert (start.run, start.resume, shown(store)["status"]["progress"]) == (2, False, 0)
    change(store, state=S.FAILED, progress=50)
    store.files.write_bytes("default", "models/other.pt", b"x")
    lifecycle.update_job(store, "default", "j", job(model_path="models/other.pt"))
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    assert (start.run, start.resume) == (3, False)
    assert row(store).run_folders == ["out/j_V1", "out/j_V2", "out/j_V3"]


def test_a_run_never_writes_into_a_folder_that_is_there(store: Store) -> None:
    for name in ("j_V1", "j_V2", "j_V4"):
        store.files.write_bytes("default", f"out/{name}/metrics.json", b"somebody's")
    create(store)
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    assert start.run == 3
    assert row(store).run_folders == ["out/j_V3"]


def test_a_stop_tells_the_sites_at_once(store: Store) -> None:
    make(store, S.RUNNING)
    uid = row(store).uid
    ticket = store.db.signals.ticket(f"job:{uid}")
    lifecycle.request_stop(store, "default", "j")
    assert store.db.signals.wait(ticket, 0.0)
    assert row(store).stop_requested
    assert shown(store)["status"]["reason"] == "stop was asked for"


def test_a_run_cancelled_in_prefect_stops_its_job(store: Store) -> None:
    make(store, S.RUNNING)
    by_flow_run.request_stop(store, "unknown run")
    assert row(store).state == S.RUNNING
    by_flow_run.request_stop(store, "flow-j")
    assert row(store).state == S.STOPPING
    change(store, state=S.FINISHED)
    by_flow_run.request_stop(store, "flow-j")
    assert row(store).state == S.FINISHED


# Lists


def many(store: Store, number: int, *, states: tuple[str, ...] = ("QUEUED",)) -> None:
    create(store)
    template = row(store)._mapping
    values = [
        {
            **template,
            "uid": f"{index:032d}",
            "id": f"job-{index:05d}",
            "spec": {**template["spec"], "id": f"job-{index:05d}"},
            "state": states[index % len(states)],
            "created_at": template["created_at"] + 1 + index,
        }
        for index in range(number - 1)
    ]
    store.db.write(lambda tx: tx.execute(insert(jobs), values))


@BOTH
def test_a_list_is_paged_and_filtered_oldest_first(store: Store) -> None:
    many(store, 25, states=("QUEUED", "RUNNING"))
    saved(store, 1, "p1", 0.25)
    saved(store, 2, "p2", None)
    everything = lifecycle.list_jobs(store, "default")
    assert [each["id"] for each in everything] == ["j", *(f"job-{index:05d}" for index in range(24))]
    assert everything[0] == shown(store)
    assert everything[0]["checkpoints"] == {
        "checkpoint_v1": {"accuracy": 0.25, "path": "p1"},
        "checkpoint_v2": {"accuracy": None, "path": "p2"},
    }
    for offset, limit in ((0, 10), (10, 10), (20, 10), (24, 1), (25, 5), (0, 0), (3, None), (1000, 1)):
        page = lifecycle.list_jobs(store, "default", offset=offset, limit=limit)
        assert page == everything[offset : None if limit is None else offset + limit]
    running = lifecycle.list_jobs(store, "default", state="RUNNING", offset=2, limit=3)
    assert [each["id"] for each in running] == ["job-00005", "job-00007", "job-00009"]
    assert lifecycle.list_jobs(store, "default", state="FAILED") == []


def test_a_list_asked_for_wrongly_names_the_field(store: Store) -> None:
    for field, wrong in (("state", "Running"), ("state", ""), ("offset", -1), ("limit", -1)):
        with pytest.raises(InvalidField) as raised:
            lifecycle.list_jobs(store, "default", **{field: wrong})
        assert raised.value.field == field


@BOTH
def test_ten_thousand_jobs_are_listed_fast(store: Store) -> None:
    many(store, 10_000, states=("QUEUED", "FINISHED"))
    for arguments, limit_s in (
        ({"limit": 50}, 0.5),
        ({"offset": 9_900, "limit": 50}, 0.5),
        ({"state": "FINISHED", "offset": 2_000, "limit": 50}, 0.5),
        ({}, 5.0),
    ):
        begun = time.monotonic()
        page = lifecycle.list_jobs(store, "default", **arguments)
        assert time.monotonic() - begun < limit_s
        assert len(page) == arguments.get("limit", 10_000)
