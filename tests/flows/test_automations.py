"""The schedules of prefect.yaml and the examples of automations, by a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleUpdate

from flows.deploy import register
from tests.conftest import ROOT, wait_until

AUTOMATIONS = ROOT / "deployments" / "automations"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        register(opened)
        yield opened


def test_schedules_are_registered_off_and_stay_as_somebody_has_set_them(client):
    found = client.read_deployment_by_name("retrain/retrain")
    (weekly,) = found.schedules
    assert (weekly.slug, weekly.active, weekly.schedule.cron) == ("weekly", False, "0 3 * * 0")
    assert [each.slug for each in client.read_deployment_by_name("maintain/maintain").schedules] == [
        "nightly"
    ]
    assert client.read_deployment_by_name("federate/federate").schedules == []
    plan = {"job": {"template": "digits"}, "register_as": {"name": "digits"}, "convert": None}
    change = DeploymentScheduleUpdate(active=True, parameters={"plan": plan})
    answer = client._client.patch(
        f"/deployments/{found.id}/schedules/{weekly.id}",
        json=change.model_dump(mode="json", exclude_unset=True),
    )
    assert answer.status_code == 204
    try:
        register(client)
        (again,) = client.read_deployment_by_name("retrain/retrain").schedules
        assert (again.slug, again.active, again.parameters) == ("weekly", True, {"plan": plan})
    finally:
        client.delete_deployment(found.id)
        register(client)
    (new,) = client.read_deployment_by_name("retrain/retrain").schedules
    assert not new.active


def test_the_form_of_a_plan_has_its_bounds(client):
    schema = client.read_deployment_by_name("retrain/retrain").parameter_openapi_schema
    assert schema["required"] == ["plan"]
    definitions = schema["definitions"]
    assert set(definitions["RetrainPlan"]["required"]) == {"job", "register_as"}
    assert definitions["RetrainGate"]["properties"]["margin"]["minimum"] == 0
    (rounds,) = [
        each
        for each in definitions["RetrainJob"]["properties"]["rounds"]["anyOf"]
        if each["type"] == "integer"
    ]
    assert rounds["minimum"] == 1
    assert definitions["RegisterAs"]["properties"]["version"]["enum"] == ["time", "count"]
    maintain = client.read_deployment_by_name("maintain/maintain").parameter_openapi_schema
    assert maintain["definitions"]["MaintainPlan"]["properties"]["grace_s"]["minimum"] == 3600


@pytest.mark.parametrize("name", sorted(path.name for path in AUTOMATIONS.glob("*.yaml")))
def test_each_example_is_taken_by_prefects_own_command(client, prefect_server, tmp_path: Path, name: str):
    deployment = client.read_deployment_by_name("retrain/retrain")
    text = (AUTOMATIONS / name).read_text()
    (tmp_path / name).write_text(
        text.replace(NOBODY, str(deployment.id)) if "deployment_id" in text else text
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "automation",
            "create",
            "--from-file",
            str(tmp_path / name),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = automation(prefect_server, yaml.safe_load(text)["name"])
    try:
        assert made["enabled"]
        if "deployment_id" in text:
            _check_that_it_fires(prefect_server, made)
    finally:
        httpx.delete(f"{prefect_server}/automations/{made['id']}")


def automation(url: str, name: str) -> dict[str, Any]:
    found = httpx.post(f"{url}/automations/filter", json={"automations": {"name": {"any_": [name]}}}).json()
    (made,) = found
    return made


def _check_that_it_fires(url: str, made: dict[str, Any]) -> None:
    """The event of the documentation makes one flow run with the example's plan."""
    code = (ROOT / "docs" / "retraining.md").read_text().split("```python\n")[1].split("```")[0]

    def runs() -> list[dict[str, Any]]:
        (action,) = made["actions"]
        asked = {"flow_runs": {"deployment_id": {"any_": [action["deployment_id"]]}}}
        return list(httpx.post(f"{url}/flow_runs/filter", json=asked).json())

    assert runs() == []
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    try:
        (run,) = wait_until(runs, timeout_s=60, what="the automation's run")
        assert run["parameters"] == made["actions"][0]["parameters"]
        assert json.dumps(run["parameters"]).count("digits") == 3
    finally:
        for each in runs():
            httpx.delete(f"{url}/flow_runs/{each['id']}")
