"""The objects of a step: valid by the official schemas, as strict as Pod Security asks, as they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from catchment.errors import ConversionFailed, SetupError
from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.routes import ROUTES
from catchment.model_jobs.kubernetes import manifests
from catchment.model_jobs.kubernetes.executor import KubernetesExecutor
from catchment.model_jobs.kubernetes.images import EXTRACTION, HELD, image_of
from catchment.model_jobs.kubernetes.manifests import StepJob
from catchment.model_jobs.working import Task
from catchment.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = Settings(
    model_job_image="registry.example.com/catchment-{backend}:1.0",
    model_job_api_url="http://catchment-api.catchment.svc:8080",
)
WORK = StepJob("0123456789abcdef0123456789abcdef", "convert", "default/digits-to-onnx", "torch")
TOKEN = "catchment_0123456789abcdef_secret"


def objects() -> list[dict[str, Any]]:
    owner = "11111111-2222-3333-4444-555555555555"
    return [manifests.job(WORK, SETTINGS), manifests.secret(WORK, TOKEN, owner)]


@pytest.mark.parametrize("version", ["1.29", "1.31", "1.34", "1.37"])
def test_they_are_valid_in_every_supported_version(version: str) -> None:
    for each in objects():
        kubernetes_validate.validate(each, version, strict=True)


def test_they_are_what_they_were() -> None:
    """CATCHMENT_WRITE_GOLDEN=1 writes them anew, for a look at the difference."""
    made = yaml.safe_dump_all(objects(), sort_keys=True)
    path = GOLDEN / "convert.yaml"
    if os.environ.get("CATCHMENT_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert path.read_text() == made


def test_the_pod_is_restricted_as_pod_security_asks() -> None:
    pod = objects()[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) - {"name"} <= {"emptyDir", "secret"} for volume in pod["volumes"])
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}


def test_the_token_is_named_and_not_written_and_the_executor_cannot_reach_it() -> None:
    job = objects()[0]
    assert TOKEN not in yaml.safe_dump(job)
    pod = job["spec"]["template"]["spec"]
    executor = pod["initContainers"][1]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in executor["volumeMounts"]}
    assert mounts == {"input": True, "output": False, "tmp-executor": False}
    assert SETTINGS.model_job_api_url not in yaml.safe_dump(executor)
    publisher = {
        mount["name"]: mount.get("readOnly", False) for mount in pod["containers"][0]["volumeMounts"]
    }
    assert publisher == {"output": True, "token": True, "tmp-publisher": False}


def test_no_second_pod_is_made_and_nothing_lasts_for_ever() -> None:
    spec = manifests.job(
        WORK, SETTINGS.model_copy(update={"model_job_time_s": 50.0, "model_job_start_s": 10.0})
    )["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 60)
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_names_are_the_same_for_a_resumed_run_and_fit_labels() -> None:
    again = StepJob(WORK.uid, WORK.step, "another/title", "base")
    assert again.name == WORK.name
    assert all(len(StepJob(WORK.uid, step, "", "").name) <= 63 for step in ("extract", "convert", "verify"))


@pytest.mark.parametrize("pair", ROUTES, ids="-".join)
def test_each_route_has_an_image_with_all_that_it_may_use(pair: tuple[str, str]) -> None:
    route = ROUTES[pair]
    image = image_of(Task("convert", *pair))
    assert {*route.backends, *route.references, route.runtime} <= set(HELD[image])


def test_each_backend_has_an_image_and_reading_has_one_without_any() -> None:
    assert set(HELD) == set(BACKENDS)
    assert image_of(Task("extract", "ONNX")) == EXTRACTION
    assert image_of(Task("convert", "TorchScript", "ONNX")) == "torch"
    assert image_of(Task("convert", "CaffeModel", "NetDef")) == "opencv"
    assert image_of(Task("convert", "CaffeModel", "ONNX")) == "mmdnn"
    with pytest.raises(ConversionFailed):
        image_of(Task("convert", "PMML", "ONNX"))


@pytest.mark.parametrize("name", ["model_job_image", "model_job_api_url"])
def test_what_is_not_configured_is_named(name: str) -> None:
    with pytest.raises(SetupError, match=f"CATCHMENT_{name.upper()}"):
        KubernetesExecutor.configured(SETTINGS.model_copy(update={name: ""}))


def test_an_image_without_a_place_for_the_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="model_job_image"):
        Settings(model_job_image="registry.example.com/catchment:1.0")
