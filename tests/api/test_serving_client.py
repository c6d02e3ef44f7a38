"""Servings through the client and the command, against the API as users run it, without flow runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catchment.client import Client
from catchment.errors import NotFound, Refused, RolloutFailed
from tests.api.serving import ApiProcess, api_process
from tests.conftest import free_port


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port()) as started:
        yield started


@pytest.fixture
def run(running: ApiProcess) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `catchment serving ARGUMENTS`."""

    def command(*arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "catchment.cli", "serving", *arguments, "--server", running.url],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return command


def test_a_serving_is_made_of_options_shown_and_changed_no_more_while_it_is_rolled_out(running, run):
    options = ("--replicas", "2", "--canary-steps", "10,50", "--step-seconds", "1", "--approval")
    made = run("create", "digits", "--model", "default/digits:v1", *options)
    assert "rollout   1 Pending" in made.stdout
    shown = json.loads(run("get", "digits", "--json").stdout)
    (predictor,) = shown["spec"]["predictors"]
    assert (predictor["graph"]["modelUri"], predictor["replicas"]) == ("default/digits:v1", 2)
    canary = json.loads(shown["metadata"]["annotations"]["catchment.io/canary"])
    assert canary == {"steps": [10, 50, 100], "step_s": 1.0, "approval": True}
    assert "digits" in run("list").stdout
    assert "Created" in run("events", "digits").stdout
    assert "Pending" in run("rollouts", "digits").stdout
    refused = run("update", "digits", "--model", "default/digits:v2", code=1)
    assert "rollout 1 of serving 'digits' is under way" in refused.stderr
    assert "waits for approval" in run("approve", "digits", code=1).stderr
    assert "waits for approval" in run("reject", "digits", code=1).stderr
    waited = run("wait", "digits", "--timeout", "0.2", code=1).stderr
    assert "not ready after 0.2 s; its rollout is Pending" in waited
    assert "Pending" in run("stop", "digits").stdout
    run("delete", "digits")
    with Client(running.url) as client, pytest.raises((NotFound, RolloutFailed)):
        client.servings.wait("digits", timeout_s=0.2)


def test_a_serving_is_made_of_a_file_in_either_form_and_notation(run):
    graph = {"name": "net", "type": "MODEL", "modelUri": "default/net:v1"}
    predictors = [{"name": "main", "graph": graph, "replicas": 1}]
    seldon = {"metadata": {"name": "seldon"}, "spec": {"predictors": predictors}}
    run("create", "-f", "-", stdin=json.dumps(seldon))
    run("create", "-f", "-", stdin="name: short\nmodel: default/net:v1\ncanary: {steps: [50]}\n")
    items = json.loads(run("list", "--json").stdout)["items"]
    assert [each["metadata"]["name"] for each in items] == ["seldon", "short"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (("create",), "", "NAME is required, or -f FILE"),
        (("create", "a"), "", "--model is required, such as"),
        (("create", "a", "--model", "default/a:v1", "-f", "-"), "{}", "not both"),
        (("create", "a", "--model", "default/a"), "", "must name a version by its tag"),
        (("create", "-f", "-"), "- a", "must be an object"),
        (("create", "-f", "-"), '{"name": "a", "modle": "x"}', "modle"),
        (("create", "a", "--model", "default/a:v1", "--canary-steps", "50,5"), "", "steps must grow"),
        (("get", "none"), "", "serving 'none' does not exist"),
        (("rollback", "none"), "", "serving 'none' does not exist"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, stdin, sentence):
    code = 3 if "none" in arguments else 1
    assert sentence in run(*arguments, code=code, stdin=stdin).stderr


def test_the_client_says_the_servers_reasons(running):
    with Client(running.url) as client:
        with pytest.raises(NotFound, match="does not exist"):
            client.servings.get("none")
        assert client.servings.create({"name": "a", "model": "default/a:v1"}) == "a"
        with pytest.raises(Refused, match="exists already"):
            client.servings.create({"name": "a", "model": "default/a:v1"})
        found = client.servings.get("a")
        assert (found.state, found.settled, found.models) == ("Creating", False, ())
        with pytest.raises(Refused, match="roll it back first, without a number"):
            client.servings.rollback("a", to=1)
        assert client.servings.rollback("a").rollout["message"].startswith("rollback was asked for")
        assert [each["number"] for each in client.servings.rollouts("a", limit=5)] == [1]
        with pytest.raises(RolloutFailed, match="not ready after 0"):
            client.servings.wait("a", timeout_s=0)
