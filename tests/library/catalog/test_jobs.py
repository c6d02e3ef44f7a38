"""Jobs begin with versions, their checkpoints are versions, and their results become versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.catalog import content, manager
from catchment.errors import InvalidField, NotFound
from catchment.jobs import lifecycle, namespaces
from catchment.models.tensors import read_tensors
from catchment.rounds import prepare
from catchment.rounds.claim import claim_job
from catchment.store import Store
from tests.library.catalog.conftest import ANNA, Make, put, settle
from tests.runs import begin, drive
from tests.thread_sites import Site, job

TWO_ROUNDS = {
    "client_num": 1,
    "threshold_client_num": 1,
    "max_round_num": 2,
    "save_interval": 1,
    "evaluate_interval": 1,
}


def body(**changes: Any) -> dict[str, Any]:
    """A job of two rounds that begins with what is given."""
    made = job(hyper_parameters=TWO_ROUNDS, **changes)
    return {key: value for key, value in made.items() if value is not None}


def weights_of(store: Store, model: dict[str, Any]) -> dict[str, np.ndarray]:
    with content.opened(store, content.file_of(store, model["id"], None)) as path:
        return read_tensors(path)


def versions(store: Store, name: str) -> list[dict[str, Any]]:
    return manager.get_versions(store, "default", name, None)


def test_every_checkpoint_is_a_version_of_a_model_that_bears_the_jobs_id(
    store: Store, make_site: Callable[..., Site]
) -> None:
    make_site("a")
    drive(store, begin(store, body()))
    first, second = versions(store, job()["id"])
    assert [v["version_info"]["version"] for v in (first, second)] == ["checkpoint_v1", "checkpoint_v2"]
    assert (first["state"], first["runtime"], first["format"]) == ("ready", "pytorch", "Safetensors")
    paths = [c["path"] for c in lifecycle.get_job(store, "default", job()["id"])["checkpoints"].values()]
    for version, path in zip((first, second), paths, strict=True):
        with store.files.fetched("default", path) as saved:
            for name, values in read_tensors(saved).items():
                np.testing.assert_array_equal(weights_of(store, version)[name], values)
    told = manager.lineage(store, second["id"])["made_from"]
    assert told["job"] == {"namespace": "default", "id": job()["id"], "run": 1, "round": 2}
    assert (told["kind"], told["sites"]) == ("checkpoint", ["a"])


def test_a_job_begins_with_the_version_that_model_id_names(
    store: Store, copied: Make, make_site: Callable[..., Site]
) -> None:
    made = copied()
    make_site("a")
    summary = drive(store, begin(store, body(model_id=made["id"], model_path=None)))
    np.testing.assert_array_equal(read_tensors(store.blobs.local_path(summary["weights"]))["w"], 2)
    told = manager.lineage(store, made["id"])
    assert {child["version"] for child in told["descendants"]} == {"checkpoint_v1", "checkpoint_v2"}
    assert manager.lineage(store, versions(store, job()["id"])[0]["id"])["ancestors"][0]["id"] == made["id"]


def test_another_jobs_checkpoint_goes_on_by_its_id(store: Store, make_site: Callable[..., Site]) -> None:
    make_site("a")
    drive(store, begin(store, body()))
    (first, _) = versions(store, job()["id"])
    summary = drive(store, begin(store, body(id="second", checkpoint_id=first["id"], model_path=None)))
    np.testing.assert_array_equal(read_tensors(store.blobs.local_path(summary["weights"]))["w"], 3)


@pytest.mark.parametrize(
    ("field", "words"),
    [("model_id", "there is no model"), ("checkpoint_id", "no model has this id")],
)
def test_a_source_that_does_not_exist_is_refused_by_field(store: Store, field: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        lifecycle.create_job(store, "default", body(model_path=None, **{field: "0" * 32}))


def test_only_a_ready_version_of_the_right_runtime_with_weights_can_be_trained(
    store: Store, create: Make, copied: Make, tmp_path: Path
) -> None:
    unready = create(version="unready", file_name="net.pt")
    keras = copied(version="keras", runtime="keras")
    other = create(version="other", file_name="net.onnx")
    put(store, other, b"onnx", tmp_path)
    manager.update_by_id(store, other["id"], {"progress": 100}, ANNA)
    settle(store)
    for model, words in (
        (unready, "is unready, not ready"),
        (keras, "of runtime 'keras', the job of 'pytorch'"),
        (other, "holds net.onnx; a job needs"),
    ):
        with pytest.raises(InvalidField, match=words) as refused:
            lifecycle.create_job(store, "default", body(model_id=model["id"], model_path=None))
        assert refused.value.field == "model_id"


def test_a_version_of_another_namespace_is_not_used(store: Store, copied: Make) -> None:
    made = copied()
    namespaces.create(store, "lab")
    with pytest.raises(InvalidField, match="is in namespace 'default', the job in 'lab'"):
        lifecycle.create_job(store, "lab", body(model_id=made["id"], model_path=None))


def test_a_model_that_is_no_checkpoint_is_not_taken_as_one(store: Store, copied: Make) -> None:
    made = copied()
    with pytest.raises(InvalidField, match="give it as model_id"):
        lifecycle.create_job(store, "default", body(checkpoint_id=made["id"], model_path=None))


@pytest.mark.parametrize(("which", "value"), [("final", 2.0), ("best", 1.0)])
def test_a_result_is_registered_when_the_job_is_finished(
    store: Store, make_site: Callable[..., Site], which: str, value: float
) -> None:
    def worse_each_time(_: Any, weights: dict[str, np.ndarray]) -> Any:
        return {}, {"accuracy": 1.0 - float(weights["w"][0, 0]) / 10, "sample_num": 10}

    make_site("a", evaluate=worse_each_time)
    register = {"name": "digits", "version": "v1", "checkpoint": which, "description": "of the spring"}
    drive(store, begin(store, body(register=register)))
    (found,) = versions(store, "digits")
    assert (found["state"], found["version_info"]["version"]) == ("ready", "v1")
    assert found["version_info"]["description"] == "of the spring"
    np.testing.assert_array_equal(weights_of(store, found)["w"], value)
    with store.files.fetched(*found["storage_info"]) as shown:
        assert shown.samefile(store.blobs.local_path(found["digest"]))
    told = manager.lineage(store, found["id"])
    assert told["made_from"]["kind"] == "job"
    assert told["ancestors"][0]["name"] == job()["id"]


def test_a_job_that_runs_again_registers_a_version_of_its_own(
    store: Store, make_site: Callable[..., Site]
) -> None:
    make_site("a")
    drive(store, begin(store, body(register={"name": "digits", "version": "v1"})))
    start = lifecycle.request_start(store, "default", job()["id"])
    assert start is not None
    lifecycle.launched(store, start.uid, "flow-run")
    claim = claim_job(store, "default", job()["id"], flow_run_id="flow-run", attempt=1)
    prepare.prepare_run(store, claim)
    drive(store, claim)
    assert [v["version_info"]["version"] for v in versions(store, "digits")] == ["v1", "v1-run2"]


def test_a_version_that_another_made_is_not_registered_over(store: Store, copied: Make) -> None:
    copied(name="digits", version="v1")
    with pytest.raises(InvalidField, match="has a version 'v1' already") as refused:
        lifecycle.create_job(store, "default", body(register={"name": "digits", "version": "v1"}))
    assert refused.value.field == "register.version"


def test_a_deleted_job_takes_its_checkpoints_and_leaves_what_it_registered(
    store: Store, make_site: Callable[..., Site]
) -> None:
    make_site("a")
    drive(store, begin(store, body(register={"name": "digits"})))
    (registered,) = versions(store, "digits")
    lifecycle.request_delete(store, "default", job()["id"])
    assert manager.list_models(store, "default") == [registered]
    assert registered["version_info"]["version"] == "run1"
    np.testing.assert_array_equal(weights_of(store, registered)["w"], 2)


def test_a_deleted_checkpoint_is_gone_from_the_job_too(store: Store, make_site: Callable[..., Site]) -> None:
    make_site("a")
    drive(store, begin(store, body()))
    first, second = versions(store, job()["id"])
    path = lifecycle.get_job(store, "default", job()["id"])["checkpoints"]["checkpoint_v1"]["path"]
    manager.delete_by_id(store, first["id"], ANNA)
    assert list(lifecycle.get_job(store, "default", job()["id"])["checkpoints"]) == ["checkpoint_v2"]
    assert not store.files.is_file("default", path)
    with pytest.raises(NotFound):
        manager.get_by_id(store, first["id"])
    assert manager.get_by_id(store, second["id"]) == second
