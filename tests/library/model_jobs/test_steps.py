"""Extractions and conversions from pull to push: what they find, make, refuse, and do not repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from catchment.catalog import content
from catchment.catalog import manager as catalog
from catchment.errors import ConversionFailed, JobStopped, WrongState
from catchment.faults import FOLDER_VARIABLE
from catchment.model_jobs import local, manager, pods, pushing, steps, working
from catchment.model_jobs.claim import claim
from catchment.model_jobs.manager import work_folder
from catchment.runs.logs import Selection
from catchment.store import Store
from catchment.store.schema import model_jobs
from tests.library.model_jobs.conftest import ANNA, body, small_onnx, upload, work


def version(store: Store, name: str, tag: str) -> dict[str, Any]:
    (found,) = catalog.get_versions(store, "default", name, tag)
    return found


def reasons(store: Store, name: str = "job") -> list[str]:
    return [each["reason"] for each in manager.events(store, "default", name, start=0, limit=None)["items"]]


def test_an_extraction_tells_the_version_its_signature(store: Store, onnx_model: dict[str, Any]) -> None:
    manager.create(store, "default", body(extraction={"format": "ONNX"}), ANNA)
    found = work(store)
    assert found["status"]["phase"] == "Succeeded"
    assert found["status"]["message"] == "modelJob run successfully"
    signature = found["status"]["steps"]["extract"]["signature"]
    assert signature["inputs"] == [{"name": "x", "size": [-1, 4], "dType": "float32"}]
    assert signature["layers"] == {"Gemm": 1, "Relu": 1}
    assert reasons(store) == ["Pending", "StartRunning", "Pulled", "Extracted", "Pushed", "Succeeded"]
    after = version(store, "net", "v1")
    assert after["id"] == onnx_model["id"] == found["status"]["resultModelID"]
    assert (after["digest"], after["format"]) == (onnx_model["digest"], "ONNX")
    assert after["signature"]["outputs"] == [{"name": "y", "size": [-1, 3], "dType": "float32"}]
    assert not work_folder(store, found["metadata"]["uid"]).exists()


def test_an_extraction_with_another_tag_leaves_the_source_as_it_was(
    store: Store, onnx_model: dict[str, Any]
) -> None:
    spec = {"extraction": {}, "desiredTag": "harbor.example.com/default/described:v2"}
    manager.create(store, "default", body(**spec), ANNA)
    assert work(store)["status"]["phase"] == "Succeeded"
    made = version(store, "described", "v2")
    assert made["digest"] == onnx_model["digest"]
    assert made["signature"]["inputs"]
    assert version(store, "net", "v1") == onnx_model
    told = catalog.lineage(store, made["id"])
    assert [each["id"] for each in told["ancestors"]] == [onnx_model["id"]]


def conversion(to: str = "ONNX", tag: str = "default/net:v2", **more: Any) -> dict[str, Any]:
    pair = {"mmdnn": {"from": "ONNX", "to": to}, **more.pop("conversion", {})}
    return body(conversion=pair, desiredTag=tag, **more)


def test_a_conversion_makes_a_version_that_passed_the_gate(store: Store, onnx_model: dict[str, Any]) -> None:
    options = {"operation": "opset", "opset": 18}
    manager.create(store, "default", conversion(conversion={"options": options}), ANNA)
    found = work(store)
    assert found["status"]["phase"] == "Succeeded", found["status"]["message"]
    wanted = [
        "Pending",
        "StartRunning",
        "Pulled",
        "Converted",
        "Verified",
        "Extracted",
        "Pushed",
        "Succeeded",
    ]
    assert reasons(store) == wanted
    report = found["status"]["steps"]["convert"]["report"]
    assert report["passed"]
    assert max(output["max_abs"] for output in report["outputs"]) <= 1e-5
    made = version(store, "net", "v2")
    assert (made["state"], made["format"]) == ("ready", "ONNX")
    assert made["digest"] != onnx_model["digest"]
    assert made["equivalence"] == report
    assert version(store, "net", "v1") == onnx_model
    with content.opened(store, content.file_of(store, made["id"], None)) as path:
        assert path.suffix == ".onnx"
    with store.files.fetched(*made["storage_info"]) as shown:
        assert shown.samefile(store.blobs.local_path(made["digest"]))


def test_a_conversion_to_its_own_tag_takes_the_sources_place(
    store: Store, onnx_model: dict[str, Any]
) -> None:
    spec = conversion(tag="default/net:v1", extraction={"format": "ONNX"})
    spec["spec"]["conversion"]["options"] = {"operation": "opset", "opset": 18}
    manager.create(store, "default", spec, ANNA)
    assert work(store)["status"]["phase"] == "Succeeded"
    after = version(store, "net", "v1")
    assert after["id"] == onnx_model["id"]
    assert after["digest"] != onnx_model["digest"]
    assert not store.blobs.exists(onnx_model["digest"])
    told = catalog.lineage(store, after["id"])["made_from"]
    assert told["replaced"]["digest"] == onnx_model["digest"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "default/other:v1", "extraction": {}}, "failed to pull model"),
        ({"extraction": {"format": "H5"}}, "H5"),
        ({"extraction": {"format": "ONNX"}, "desiredTag": "nowhere/net:v2"}, "namespace 'nowhere'"),
        ({"extraction": {"format": "ONNX"}, "desiredTag": "default/net:v9"}, "is there already"),
    ],
)
def test_what_cannot_be_done_fails_with_words_and_leaves_the_source_alone(
    store: Store, onnx_model: dict[str, Any], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    upload(store, "v9", small_onnx(tmp_path / "other.onnx"))
    manager.create(store, "default", body(**changes), ANNA)
    found = work(store)
    assert found["status"]["phase"] == "Failed"
    assert words in found["status"]["message"]
    assert reasons(store)[-1] == "Failed"
    assert version(store, "net", "v1") == onnx_model


def test_damaged_files_fail_the_job_and_not_the_coordinator(store: Store, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\xff" * 1000)
    damaged = upload(store, "v1", tmp_path / "net.onnx")
    manager.create(store, "default", body(extraction={"format": "ONNX"}), ANNA)
    assert work(store)["status"]["phase"] == "Failed"
    assert version(store, "net", "v1") == damaged


def test_what_a_converter_printed_before_it_broke_is_in_the_jobs_log(
    store: Store, onnx_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ConversionFailed("base: it ended with exit code 1 and without a result", "one\nMemoryError")

    manager.create(store, "default", conversion(), ANNA)
    monkeypatch.setattr(working, "work", breaks)
    assert work(store)["status"]["phase"] == "Failed"
    found = pods.log_details(store, "default", "job", None, Selection())
    assert found is not None
    assert [line["content"] for line in found["logs"]][-3:] == [
        "one",
        "MemoryError",
        "Failed: base: it ended with exit code 1 and without a result",
    ]


def test_a_finished_step_is_not_repeated(
    store: Store, onnx_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create(store, "default", body(extraction={"format": "ONNX"}), ANNA)
    first = claim(store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(store, first)
    steps.extract(store, first)
    # As the supervisor leaves a job whose process was lost.
    store.db.write(lambda tx: tx.execute(update(model_jobs).values(phase="Pending")))

    def never(*_: object) -> None:
        raise AssertionError("it was extracted before")

    with monkeypatch.context() as patched:
        patched.setattr(local, "run_extraction", never)
        assert work(store, attempt=2)["status"]["phase"] == "Succeeded"
    assert reasons(store).count("Extracted") == 1
    assert [each for each in reasons(store) if each in ("StartRunning", "Resumed")] == [
        "StartRunning",
        "Resumed",
    ]


SCRIPT = """
import sys
from catchment.settings import Settings
from catchment.store import open_store
from tests.library.model_jobs.conftest import work
work(open_store(Settings(home=sys.argv[1], database_url=sys.argv[2], cache_dir=sys.argv[3], job_lease_s=2.0)))
"""


@pytest.mark.parametrize(
    "point", ["after_pull", "after_convert", "after_verify", "after_extract", "after_push"]
)
def test_a_killed_process_is_gone_on_from_at_every_step(
    store: Store, onnx_model: dict[str, Any], tmp_path: Path, point: str
) -> None:
    armed = tmp_path / "faults"
    armed.mkdir()
    (armed / point).touch()
    manager.create(store, "default", conversion(conversion={"options": {"operation": "slim"}}), ANNA)
    settings = store.settings
    arguments = [str(settings.home), settings.effective_database_url, str(settings.effective_cache_dir)]
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={**os.environ, FOLDER_VARIABLE: str(armed), "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
    )
    assert killed.returncode == -9
    assert manager.get(store, "default", "job")["status"]["phase"] == "Running"
    assert work(store, attempt=2)["status"]["phase"] == "Succeeded"
    assert reasons(store).count("Converted") == 1
    assert version(store, "net", "v2")["state"] == "ready"


def test_a_push_that_broke_off_behind_its_transaction_is_not_held_against_itself(
    store: Store, onnx_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create(store, "default", body(extraction={}, desiredTag="default/net:v2"), ANNA)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pushing, "_show", full)
        with pytest.raises(OSError, match="No space"):
            work(store)
    ended = work(store, attempt=2)
    assert ended["status"]["phase"] == "Succeeded", ended["status"]["message"]
    pushed = {"modelID": version(store, "net", "v2")["id"], "reference": "default/net:v2"}
    assert ended["status"]["steps"]["push"] == pushed
    assert reasons(store).count("Pushed") == 1


def test_a_stopped_job_ends_as_failed_with_that_message(store: Store, onnx_model: dict[str, Any]) -> None:
    manager.create(store, "default", body(extraction={}), ANNA)
    held = claim(store, "default", "job", flow_run_id="run", attempt=1)
    manager.request_stop_of_run(store, "run")
    with pytest.raises(JobStopped):
        steps.pull(store, held)
    steps.stop(store, held)
    status = manager.get(store, "default", "job")["status"]
    assert (status["phase"], status["message"]) == ("Failed", "stopped")


def test_a_version_that_a_job_reads_is_not_deleted(store: Store, onnx_model: dict[str, Any]) -> None:
    manager.create(store, "default", body(extraction={}), ANNA)
    held = claim(store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(store, held)
    with pytest.raises(WrongState, match="is read by ModelJob 'job'"):
        catalog.delete_by_id(store, onnx_model["id"], ANNA)
    steps.fail(store, held, ValueError("enough"))
    catalog.delete_by_id(store, onnx_model["id"], ANNA)


def test_a_deleted_job_leaves_nothing_but_what_it_pushed(store: Store, onnx_model: dict[str, Any]) -> None:
    manager.create(store, "default", conversion(conversion={"options": {"operation": "slim"}}), ANNA)
    work(store)
    made = version(store, "net", "v2")
    manager.request_delete(store, "default", "job")
    assert store.db.read(lambda tx: tx.execute(model_jobs.select()).all()) == []
    assert version(store, "net", "v2") == made
    with content.opened(store, content.file_of(store, made["id"], None)) as path:
        assert path.stat().st_size == made["size_bytes"]


def test_a_lease_that_lapsed_lets_another_run_work(store: Store, onnx_model: dict[str, Any]) -> None:
    manager.create(store, "default", body(extraction={}), ANNA)
    claim(store, "default", "job", flow_run_id="lost", attempt=1)
    store.db.write(lambda tx: tx.execute(update(model_jobs).values(lease_until=0.0)))
    assert work(store)["status"]["phase"] == "Succeeded"
