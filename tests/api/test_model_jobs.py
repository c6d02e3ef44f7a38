"""The documented operations on ModelJobs, as a plain HTTP client sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from api import schemas
from catchment.formats.convert import builder
from catchment.formats.convert.backend import BACKENDS, Backend
from catchment.model_jobs import rows
from tests.api.serving import InProcess, RecordingLauncher
from tests.api.test_registry import ONNX, packed, refused, upload
from tests.conftest import wait_until
from tests.library.model_jobs.test_spec import EXAMPLE

JOBS = "/api/v1alpha1/namespaces/default/modeljobs"
PODS = "/api/v1alpha1/namespaces/default/pods"
SPEC = {"model": "default/net:v1", "extraction": {"format": "ONNX"}}


def create(api: InProcess, name: str, **changes: Any) -> httpx.Response:
    return api("POST", JOBS, json={"metadata": {"name": name, **changes}, "spec": SPEC})


def test_a_model_job_is_created_launched_shown_and_deleted(
    api: InProcess, launcher: RecordingLauncher
) -> None:
    answer = create(api, "job")
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["location"] == f"{JOBS}/job"
    wait_until(lambda: launcher.launched, timeout_s=10, what="the launch")
    (start,) = launcher.launched
    assert (start.deployment, start.parameters) == (
        "model_job/model_job",
        {"namespace": "default", "name": "job"},
    )
    shown = api("GET", f"{JOBS}/job")
    assert shown.status_code == 200
    found = shown.json()
    assert (found["apiVersion"], found["kind"]) == ("kleveross.io/v1alpha1", "ModelJob")
    assert found["metadata"]["namespace"] == "default"
    assert found["spec"] == SPEC
    assert found["status"]["phase"] == "Pending"
    gone = api("DELETE", f"{JOBS}/job")
    assert (gone.status_code, gone.content) == (204, b"")
    wait_until(lambda: api("GET", f"{JOBS}/job").status_code == 404, timeout_s=20, what="the deletion")


def test_errors_have_the_codes_and_the_shape_of_the_registry(api: InProcess) -> None:
    create(api, "job")
    refused(create(api, "job"), 409, "exists already")
    refused(create(api, "Job"), 400, "metadata.name")
    refused(create(api, "other", namespace="elsewhere"), 400, "metadata.namespace")
    refused(api("POST", JOBS, content=b"{"), 400, "body")
    refused(api("POST", JOBS, json={}), 400, "spec")
    refused(api("POST", JOBS.replace("default", "nowhere"), json={"spec": SPEC}), 404, "nowhere")
    refused(api("GET", f"{JOBS}/nothing"), 404)
    refused(api("DELETE", f"{JOBS}/nothing"), 404)
    refused(api("GET", f"{JOBS}/nothing/events"), 404)
    refused(api("GET", JOBS, params={"start": "-1"}), 400, "start")
    refused(api("GET", JOBS, params={"limit": "x"}), 400, "limit")
    refused(api("PUT", f"{JOBS}/job"), 405)


def test_the_documents_example_is_accepted_as_printed(api: InProcess) -> None:
    api("PUT", "/api/v1/namespaces/kube-system")
    path = JOBS.replace("default", "kube-system")
    answer = api("POST", path, content=EXAMPLE.encode(), headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    found = api("GET", f"{path}/modeljob-graphdef-extract").json()
    assert found["spec"]["conversion"]["mmdnn"] == {"from": "MXNETParams", "to": "ONNX"}


def test_lists_are_pages_by_name_and_can_be_filtered(api: InProcess) -> None:
    for name in ("c", "a", "b"):
        create(api, name)
    labels = {"team": "x"}
    create(api, "d", labels=labels)
    pair = {"mmdnn": {"from": "H5", "to": "ONNX"}}
    convert = {"model": "default/net:v1", "conversion": pair, "desiredTag": "default/net:v2"}
    api("POST", JOBS, json={"metadata": {"name": "e"}, "spec": convert})

    def names(**params: str) -> list[str]:
        found = api("GET", JOBS, params=params).json()
        return [item["metadata"]["name"] for item in found["items"]]

    assert names() == ["a", "b", "c", "d", "e"]
    assert names(start="1", limit="2") == ["b", "c"]
    assert names(start="9") == []
    assert names(limit="0") == []
    assert names(filter="extract") == names(filter="modeljob/extract") == ["a", "b", "c", "d"]
    assert names(filter="modeljob/convert") == ["e"]
    assert names(filter="team") == []
    assert api("GET", JOBS, params={"limit": "1"}).json()["metadata"] == {"totalItems": 5}


def test_events_are_those_of_kubernetes(api: InProcess) -> None:
    create(api, "job")
    found = api("GET", f"{JOBS}/job/events").json()
    assert found["metadata"]["totalItems"] >= 1
    first = found["items"][0]
    assert first["reason"] == "Pending"
    assert first["involvedObject"]["name"] == "job"
    assert {
        "metadata",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
    } <= first.keys()
    digits = first["eventTime"].removesuffix("Z").rpartition(".")[2]
    assert len(digits) == 6, "Kubernetes' own client reads a MicroTime of six digits only"
    assert api("GET", f"{JOBS}/job/events", params={"limit": "0"}).json()["items"] == []


def test_an_upload_is_followed_by_an_extraction(api: InProcess, launcher: RecordingLauncher) -> None:
    upload(api, "v1_a", packed(ONNX))
    upload(api, "others", packed({"net/readme.md": b"x"}))
    (found,) = api("GET", JOBS).json()["items"]
    assert found["metadata"]["name"].startswith("modeljob-default-net-v1-a-")
    assert found["metadata"]["labels"] == {"modeljob/extract": "true"}
    assert found["spec"] == {"model": "default/net:v1_a", "extraction": {"format": "ONNX"}}
    wait_until(lambda: launcher.launched, timeout_s=10, what="the launch")


def test_pods_and_their_logs_have_the_dashboards_shape(api: InProcess) -> None:
    create(api, "job")
    create(api, "other")
    uid = api("GET", f"{JOBS}/job").json()["metadata"]["uid"]
    lines = [f"line {number}" for number in range(250)]
    for text in lines:
        api.store.db.write(lambda tx, text=text: rows.line(tx, uid, text))
    pods = api("GET", PODS, params={"filterBy": "job-name:job"}).json()["items"]
    assert [pod["metadata"]["name"] for pod in pods] == ["job"]
    assert len(api("GET", PODS).json()["items"]) == 2
    refused(api("GET", PODS, params={"filterBy": "nonsense"}), 400, "filterBy")
    found = api("GET", f"{PODS}/job/logs").json()
    assert [each["content"] for each in found["logs"]] == lines[-100:]
    assert found["info"]["podName"] == "job"
    assert found["info"]["truncated"] is False
    around = {
        "reftimestamp": found["selection"]["referencePoint"]["timestamp"],
        "reflineNum": str(found["selection"]["referencePoint"]["lineNum"]),
        "offsetFrom": str(found["selection"]["offsetFrom"]),
        "offsetTo": str(found["selection"]["offsetTo"]),
        "logFilePosition": "end",
    }
    assert api("GET", f"{PODS}/job/logs", params=around).json() == found
    oldest = {"reftimestamp": "oldest", "offsetFrom": "0", "offsetTo": "5", "logFilePosition": "beginning"}
    first = api("GET", f"{PODS}/job/logs", params=oldest).json()["logs"]
    assert [each["content"] for each in first] == lines[:5]
    unknown = {"reftimestamp": "2001-01-01T00:00:00Z", "offsetFrom": "0", "offsetTo": "5"}
    assert api("GET", f"{PODS}/job/logs", params=unknown).json()["logs"] == []
    refused(api("GET", f"{PODS}/nothing/logs"), 404)
    refused(api("GET", f"{PODS}/job/logs", params={"containerID": "x"}), 404)
    assert api("GET", f"{PODS}/other/logs").json()["logs"] == []


@pytest.mark.parametrize("when", ["before it was launched", "after"])
def test_a_deleted_job_is_cancelled_in_prefect(
    api: InProcess, launcher: RecordingLauncher, when: str
) -> None:
    create(api, "job")
    if when == "after":
        wait_until(lambda: launcher.launched, timeout_s=10, what="the launch")
        wait_until(
            lambda: api("GET", f"{JOBS}/job").json()["status"].get("flowRunID"), timeout_s=10, what="the run"
        )
    api("DELETE", f"{JOBS}/job")
    wait_until(lambda: api("GET", f"{JOBS}/job").status_code == 404, timeout_s=20, what="the deletion")
    assert len(launcher.cancelled) == len(launcher.launched)


def test_backends_are_listed_with_their_state_and_none_is_built(
    api: InProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(BACKENDS, "old", Backend("old", "uv", "2.7", "one without a lock", folder=tmp_path))
    monkeypatch.setattr(builder, "interpreter", lambda version: None)
    answer = api("GET", "/api/v1/conversion/backends")
    assert answer.status_code == 200, answer.text
    schemas.ConversionBackends.model_validate(answer.json())
    found = {each["name"]: each for each in answer.json()["backends"]}
    assert set(found) == set(BACKENDS)
    assert (found["base"]["available"], found["base"]["built"], found["base"]["reason"]) == (True, True, "")
    assert found["mmdnn"]["available"] is False
    assert found["mmdnn"]["reason"] == "there is no Python 3.11 on this machine"
    assert found["mmdnn"]["converts"] == [{"from": "CaffeModel", "to": "ONNX"}]
    assert found["mmdnn"]["packages"]["mmdnn"]
    assert found["opencv"]["compares"] == ["CaffeModel"]
    assert found["old"]["reason"] == "its lock requirements.lock is not there"
    assert not api.store.settings.effective_environments_dir.exists()
    problem = api("POST", "/api/v1/conversion/backends")
    assert problem.status_code == 405
    assert problem.json()["title"]
