"""Health, readiness, namespaces, sites, version; and the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api import openapi, schemas
from catchment import __version__
from catchment.errors import Unreachable
from catchment.jobs import namespaces
from tests.api.serving import InProcess, RecordingLauncher
from tests.conftest import wait_until


def test_health_is_the_documents_word(api: InProcess) -> None:
    answer = api("GET", "/api/v1/health")
    assert (answer.status_code, answer.text) == (200, '"OK"')


def test_ready_when_store_prefect_and_supervisor_are(api: InProcess) -> None:
    answer = api("GET", "/readyz")
    assert answer.status_code == 200
    assert schemas.Ready.model_validate_json(answer.content).ready
    assert answer.json()["reasons"] == {"store": None, "prefect": None, "supervisor": None}


def test_not_ready_says_why(
    api: InProcess, launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.failure = Unreachable("Prefect does not answer")
    answer = api("GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == {
        "store": None,
        "prefect": "Prefect does not answer",
        "supervisor": None,
    }

    def fails(*_: Any) -> None:
        raise Unreachable("the database does not answer")

    monkeypatch.setattr(namespaces, "list_all", fails)
    assert api("GET", "/readyz").json()["reasons"]["store"] == "the database does not answer"


def test_a_failing_supervisor_goes_on_and_is_shown(api: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from api import supervision

    def fails(*_: Any) -> None:
        raise RuntimeError("no idea")

    def reason() -> Any:
        return api("GET", "/readyz").json()["reasons"]["supervisor"]

    with monkeypatch.context() as broken:
        broken.setattr(supervision, "supervise_once", fails)
        api.context.supervisor.wake()
        wait_until(lambda: "no idea" in (reason() or ""), timeout_s=10, what="the failure to be shown")
    api.context.supervisor.wake()
    wait_until(lambda: reason() is None, timeout_s=10, what="the supervisor to recover")


def test_namespaces_are_made_shown_and_removed(api: InProcess) -> None:
    made = api("PUT", "/api/v1/namespaces/trials")
    assert made.status_code == 201
    schemas.Namespace.model_validate_json(made.content)
    assert api("PUT", "/api/v1/namespaces/trials").status_code == 200
    assert api("GET", "/api/v1/namespaces/trials").json() == made.json()
    listed = schemas.NamespaceList.model_validate_json(api("GET", "/api/v1/namespaces").content)
    assert [each.name for each in listed.namespaces] == ["default", "trials"]
    assert api("DELETE", "/api/v1/namespaces/trials").status_code == 204
    assert api("GET", "/api/v1/namespaces/trials").status_code == 404


def test_a_namespace_with_jobs_stays(api: InProcess, job: Any) -> None:
    api("PUT", "/api/v1/namespaces/trials")
    (api.store.settings.home / "namespaces/trials/initial.safetensors").write_bytes(
        (api.store.settings.home / "namespaces/default/initial.safetensors").read_bytes()
    )
    assert api("POST", "/api/v1/namespaces/trials/jobs", json=job()).status_code == 201
    answer = api("DELETE", "/api/v1/namespaces/trials")
    assert answer.status_code == 409
    assert "digits" in answer.json()["detail"]


def test_version_and_sites_are_as_described(api: InProcess) -> None:
    version = schemas.Version.model_validate_json(api("GET", "/api/v1/version").content)
    assert version.version == __version__
    registration = {"session": "session-1", "address": "10.0.0.1:55051", "runtimes": ["pytorch"]}
    api("POST", "/exchange/v1/sites/site-1/register", json=registration)
    (site,) = schemas.SiteList.model_validate_json(api("GET", "/api/v1/sites").content).sites
    assert (site.name, site.address, site.online) == ("site-1", "10.0.0.1:55051", True)


def test_the_committed_openapi_document_is_current() -> None:
    assert openapi.main(["--check"]) == 0, "run 'python -m api.openapi'"


def test_the_served_document_describes_every_documented_operation(api: InProcess) -> None:
    document = api("GET", "/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    jobs, one = "/api/v1/namespaces/{namespace}/jobs", "/api/v1/namespaces/{namespace}/jobs/{job_id}"
    documented = {
        (jobs, "post"): {"201": "HttpResponse", "403": "HttpResponse", "500": "HttpResponse"},
        (jobs, "get"): {"200": "JobList", "500": "HttpResponse"},
        (one, "get"): {"200": "Job", "404": "HttpResponse", "500": "HttpResponse"},
        (one, "put"): {"200": "HttpResponse", "403": "HttpResponse", "500": "HttpResponse"},
        (one, "delete"): {"200": "HttpResponse", "500": "HttpResponse"},
        (f"{one}:start", "put"): {"200": "HttpResponse", "403": "HttpResponse", "500": "HttpResponse"},
        (f"{one}:stop", "put"): {"200": "HttpResponse", "403": "HttpResponse", "500": "HttpResponse"},
    }
    for (path, verb), answers in documented.items():
        operation = document["paths"][path][verb]
        for code, model in answers.items():
            schema = operation["responses"][code]["content"]["application/json"]["schema"]
            assert schema == {"$ref": f"#/components/schemas/{model}"}
    for path, verb in ((jobs, "post"), (one, "put")):
        body = document["paths"][path][verb]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/Job"}
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert "catchment__" not in text
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for inner in node.values() for found in _references(inner)]
    return [found for inner in node for found in _references(inner)] if isinstance(node, list) else []
