"""The documented operations on servings, as a plain HTTP client sees them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import yaml

from tests.api.serving import InProcess, RecordingLauncher
from tests.api.test_registry import refused
from tests.conftest import wait_until
from tests.library.serving.test_spec import seldon

SERVINGS = "/api/v1alpha1/namespaces/default/servings"


def create(api: InProcess, name: str = "digits", **changes: Any) -> httpx.Response:
    return api("POST", SERVINGS, json={**seldon(), "metadata": {"name": name, **changes}})


def test_a_serving_is_created_launched_shown_and_deleted(api: InProcess, launcher: RecordingLauncher) -> None:
    answer = create(api, labels={"team": "vision"})
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["location"] == f"{SERVINGS}/digits"
    wait_until(lambda: launcher.launched, timeout_s=10, what="the launch")
    (start,) = launcher.launched
    assert (start.deployment, start.parameters) == (
        "rollout/rollout",
        {"namespace": "default", "name": "digits", "number": 1},
    )
    found = api("GET", f"{SERVINGS}/digits").json()
    assert (found["apiVersion"], found["kind"]) == ("machinelearning.seldon.io/v1", "SeldonDeployment")
    assert found["spec"] == seldon()["spec"]
    assert found["metadata"]["labels"] == {"team": "vision"}
    status = found["status"]
    assert (status["state"], status["replicas"], status["traffic"]) == ("Creating", 0, {})
    assert status["address"]["url"] == "http://127.0.0.1/seldon/default/digits/v2/models/digits"
    assert status["rollout"]["phase"] == "Pending"
    gone = api("DELETE", f"{SERVINGS}/digits")
    assert (gone.status_code, gone.content) == (204, b"")
    wait_until(lambda: api("GET", f"{SERVINGS}/digits").status_code == 404, timeout_s=20, what="the deletion")
    assert launcher.cancelled == [f"run-of-{start.key}"]


def test_yaml_and_the_short_form_are_taken_too(api: InProcess) -> None:
    body = {"name": "short", "model": "default/net:v1", "replicas": 2, "canary": {"steps": [10]}}
    answer = api("POST", SERVINGS, content=yaml.safe_dump(body), headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    found = api("GET", f"{SERVINGS}/short").json()
    (predictor,) = found["spec"]["predictors"]
    assert (predictor["replicas"], predictor["graph"]["modelUri"]) == (2, "default/net:v1")
    assert found["metadata"]["annotations"] == {"catchment.io/canary": '{"steps": [10, 100]}'}


def test_errors_have_the_codes_and_the_shape_of_the_registry(api: InProcess) -> None:
    create(api)
    one = f"{SERVINGS}/digits"
    refused(create(api), 409, "exists already")
    refused(create(api, "Digits"), 400, "metadata.name")
    refused(create(api, "other", namespace="elsewhere"), 400, "metadata.namespace")
    refused(api("POST", SERVINGS, content=b"{"), 400, "body")
    refused(api("POST", SERVINGS, json={"name": "x"}), 400, "model")
    refused(api("POST", SERVINGS.replace("default", "nowhere"), json=seldon_of("nowhere")), 404, "nowhere")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/rollouts")):
        refused(api(method, f"{SERVINGS}/nothing{path}"), 404)
    refused(api("PUT", f"{SERVINGS}/nothing", json={"model": "default/net:v1"}), 404)
    refused(
        api("PUT", one, json={"model": "default/net:v1"}), 409, "rollout 1 of serving 'digits' is under way"
    )
    refused(api("PUT", one, json={"name": "other", "model": "default/net:v1"}), 400, "the path names")
    refused(api("PUT", f"{one}:approve"), 409, "waits for approval")
    refused(api("PUT", f"{one}:reject"), 409, "waits for approval")
    refused(api("PUT", f"{one}:rollback", params={"to": "x"}), 400, "to")
    refused(api("GET", SERVINGS, params={"start": "-1"}), 400, "start")


def seldon_of(namespace: str) -> dict[str, Any]:
    return {**seldon(), "metadata": {"name": "digits", "namespace": namespace}}


def test_servings_are_listed_by_name_in_pages(api: InProcess) -> None:
    for name in ("b", "c", "a"):
        create(api, name)
    page = api("GET", SERVINGS, params={"start": 1, "limit": 1}).json()
    assert page["metadata"] == {"totalItems": 3}
    assert [item["metadata"]["name"] for item in page["items"]] == ["b"]
    # What the original's page sends and its server ignores.
    assert len(api("GET", SERVINGS, params={"page": 1, "page_size": 2}).json()["items"]) == 3


def test_each_transition_is_an_event(api: InProcess) -> None:
    create(api)
    page = api("GET", f"{SERVINGS}/digits/events").json()
    assert [event["reason"] for event in page["items"]][:2] == ["Created", "Pending"]
    event = page["items"][0]
    assert event["involvedObject"]["kind"] == "SeldonDeployment"
    assert event["type"] == "Normal"


def test_a_rollout_that_has_not_begun_can_be_stopped(api: InProcess) -> None:
    create(api)
    assert api("PUT", f"{SERVINGS}/digits:stop").status_code == 200

    def ended() -> bool:
        status = api("GET", f"{SERVINGS}/digits").json()["status"]
        return bool(status["rollout"]["phase"] == "Failed")

    wait_until(ended, timeout_s=20, what="the end of the rollout")
    status = api("GET", f"{SERVINGS}/digits").json()["status"]
    assert (status["state"], status["description"]) == ("Failed", "stop was asked for by local")
    assert api("PUT", f"{SERVINGS}/digits", json={"model": "default/net:v2"}).status_code == 200
    numbers = [each["number"] for each in api("GET", f"{SERVINGS}/digits/rollouts").json()["items"]]
    assert numbers == [2, 1]


@pytest.mark.parametrize("filter_by", ["", "seldon-app:digits-digits"])
def test_a_serving_without_model_servers_has_no_pods(api: InProcess, filter_by: str) -> None:
    create(api)
    found = api("GET", SERVINGS.replace("servings", "pods"), params={"filterBy": filter_by}).json()
    assert found["items"] == []
