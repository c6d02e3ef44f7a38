"""Retraining over REST: what is refused and how, what the launcher is asked for, one run for one key."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from catchment.errors import Unreachable
from tests.api.serving import InProcess, RecordingLauncher

RUNS = "/api/v1/namespaces/default/retrain"


@pytest.fixture
def plan(api: InProcess, job: Any) -> dict[str, Any]:
    """A plan that registers only; its template is there."""
    answer = api("POST", "/api/v1/namespaces/default/jobs", json=job())
    assert answer.status_code == 201
    return {"job": {"template": "digits", "rounds": 2}, "register_as": {"name": "digits"}, "convert": None}


@pytest.fixture
def launcher() -> RecordingLauncher:
    class Uuids(RecordingLauncher):
        """Runs have ids of their own, as Prefect's have; one for each key."""

        def run_of(self, start: Any) -> str:
            return str(uuid5(NAMESPACE_URL, start.key))

    return Uuids()


def test_a_plan_becomes_a_flow_run_whose_state_is_at_location(api, launcher, plan):
    answer = api("POST", RUNS, json=plan)
    assert answer.status_code == 202, answer.text
    (start,) = launcher.launched
    assert (start.deployment, start.namespace, start.run_name) == (
        "retrain/retrain",
        "default",
        "retrain digits",
    )
    assert start.parameters == {"plan": {**plan, "namespace": "default"}}
    shown = api("GET", answer.headers["Location"]).json()
    assert (shown["state"], shown["steps"], shown["plan"]) == ("waiting", {}, plan)
    assert api("PUT", answer.headers["Location"] + ":stop").status_code == 204
    assert api("GET", answer.headers["Location"]).json()["state"] == "cancelled"


def test_one_key_makes_one_run_and_takes_no_other_plan(api, plan):
    header = {"Idempotency-Key": "nightly 2026-01-31"}
    first = api("POST", RUNS, json=plan, headers=header)
    assert api("POST", RUNS, json=plan, headers=header).json()["id"] == first.json()["id"]
    assert api("POST", RUNS, json=plan).json()["id"] != first.json()["id"]
    other = {**plan, "job": {"template": "digits", "rounds": 3}}
    refused = api("POST", RUNS, json=other, headers=header)
    assert (refused.status_code, refused.json()["error"]) == (409, "WrongState")
    assert (
        api("POST", RUNS, json=plan, headers={"Idempotency-Key": "x" * 256}).json()["field"]
        == "Idempotency-Key"
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rounds": 3}, "rounds"),
        ({"job": {"template": "none"}}, "job.template"),
        ({"job": {"template": "digits", "epochs": 3}}, "job.epochs"),
        ({"job": {"spec": {"runtime": "pytorch"}}}, "output"),
        ({"convert": {}}, "convert.graph"),
        ({"convert": {"graph": "default/none:v1"}}, "convert.graph"),
        ({"convert": {"graph": "none"}}, "convert.graph"),
        ({"convert": {"options": {"operation": "shrink"}}}, "convert.options.operation"),
        ({"convert": {"to": "SavedModel"}}, "convert.to"),
    ],
)
def test_what_is_wrong_is_named_in_problem_details(api, launcher, plan, changes, field):
    answer = api("POST", RUNS, json={**plan, **changes})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field
    assert launcher.launched == []


def test_what_is_not_there_is_404_and_a_prefect_that_is_away_503(api, launcher, plan):
    assert api("POST", RUNS.replace("default", "nowhere"), json=plan).status_code == 404
    run = api("POST", RUNS, json=plan).json()["id"]
    assert api("GET", f"/api/v1/namespaces/other/retrain/{run}").status_code == 404
    assert api("GET", f"{RUNS}/none").status_code == 404
    assert api("PUT", f"{RUNS}/none:stop").status_code == 404
    launcher.failure = Unreachable("Prefect does not answer")
    assert api("POST", RUNS, json=plan).status_code == 503
