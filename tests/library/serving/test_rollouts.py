"""Rollouts on this machine: real model servers, real weights, and everything back where it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from catchment import faults
from catchment.errors import InvalidField, WrongState
from catchment.serving import deciding, manager, undoing
from catchment.serving.backends import open_backend
from catchment.serving.claim import RolloutClaim
from catchment.serving.reporting import page, report
from catchment.serving.rows import key_of
from tests.library.serving.conftest import ANNA, QUICK, Serving, classifier


@pytest.fixture(scope="module")
def versions(serving: Serving) -> dict[str, str]:
    """Versions of one model: two good ones, one that cannot be loaded, one that answers nonsense."""
    made = {
        "v1": classifier(1),
        "v2": classifier(2),
        "broken": classifier(0, broken=True),
        "nan": classifier(0, nan=True),
    }
    return {name: serving.version(name, data) for name, data in made.items()}


def routed(serving: Serving, name: str) -> dict[str, int]:
    row = serving.row(name)
    return open_backend(serving.store, row.backend).routed(key_of(row))


def claim_of(serving: Serving, name: str) -> RolloutClaim:
    """As the flow of the newest rollout has it."""
    row = serving.row(name)
    return RolloutClaim(row.uid, row.namespace, row.name, row.last_rollout, "run")


def keys(serving: Serving, name: str) -> set[str]:
    """The workloads that the backend runs, or is to run."""
    row = serving.row(name)
    pods = open_backend(serving.store, row.backend).pods(key_of(row))
    return {pod["metadata"]["labels"]["catchment.io/workload"] for pod in pods}


def test_a_serving_s_life(serving: Serving, versions: dict[str, str]) -> None:
    serving.create("digits", "v1")
    assert serving.get("digits")["status"]["state"] == "Creating"
    shown = serving.roll("digits")
    status = shown["status"]
    assert (status["state"], status["replicas"]) == ("Available", 1)
    assert status["traffic"] == {"digits-default-r1": 100}
    assert status["address"]["url"] == "http://api/seldon/default/digits/v2/models/digits"
    assert status["models"][0]["digest"] == serving.digest(versions["v1"])
    assert status["rollout"]["phase"] == "Promoted"

    serving.update("digits", "v2")
    status = serving.roll("digits")["status"]
    assert status["models"][0]["reference"] == "default/net:v2"
    assert status["traffic"] == {"digits-default-r2": 100}
    # What was there before drains now, and is not counted.
    assert (status["replicas"], list(status["deploymentStatus"])) == (1, ["digits-default-r2"])
    found = status["rollout"]["steps"]
    assert {"shift-5", "shift-25", "shift-50"} < found.keys()
    assert found["shift-5"]["probes"] == {"stable": 4, "new": 4}
    told = page("default/digits", report(serving.store, claim_of(serving, "digits")))
    assert told.startswith("# default/digits, rollout 2: Promoted\n\ndefault/net:v2 takes the traffic")
    assert f"| before | default | default/net:v1 | `{serving.digest(versions['v1'])}` |" in told
    assert f"| new | default | default/net:v2 | `{serving.digest(versions['v2'])}` |" in told
    assert "| 25 % | 0 / 0 | 4 / 4 | 0.0 / 0.0 |" in told

    deciding.rollback(serving.store, "default", "digits", None, ANNA)
    shown = serving.roll("digits")
    assert shown["status"]["traffic"] == {"digits-default-r1": 100}
    assert shown["status"]["models"][0]["digest"] == serving.digest(versions["v1"])
    assert shown["spec"]["predictors"][0]["graph"]["modelUri"] == "default/net:v1"
    with pytest.raises(WrongState, match="has no earlier state: rollout 1 was its first"):
        deciding.rollback(serving.store, "default", "digits", None, ANNA)

    assert serving.reasons("digits")[:6] == [
        *("Created", "Pending", "RolloutStarted", "Resolved", "Applied", "Ready")
    ]
    serving.remove("digits")


def test_a_rollback_returns_to_what_served_before_and_never_to_what_was_left(
    serving: Serving, versions: dict[str, str]
) -> None:
    serving.create("back", "v1")
    serving.roll("back")
    serving.update("back", "v2")
    serving.roll("back")
    deciding.rollback(serving.store, "default", "back", None, ANNA)
    serving.roll("back")
    serving.update("back", "v2", replicas=2)
    serving.roll("back")
    deciding.rollback(serving.store, "default", "back", None, ANNA)
    status = serving.roll("back")["status"]
    assert (status["rollout"]["to"], status["models"][0]["reference"]) == (1, "default/net:v1")
    serving.remove("back")


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("broken", "cannot run"),
        ("nan", "holds NaN or infinity"),
        ("missing", "has no version 'missing'"),
    ],
)
def test_a_version_that_cannot_serve_leaves_the_stable_one_as_it_was(
    serving: Serving, versions: dict[str, str], version: str, why: str
) -> None:
    name = f"keeps-{version}"
    serving.create(name, "v1")
    before = serving.roll(name)
    serving.update(name, version)
    after = serving.roll(name)
    assert after["status"]["rollout"]["phase"] == "RolledBack"
    assert why in after["status"]["rollout"]["message"]
    assert (after["status"]["state"], after["status"]["replicas"]) == ("Available", 1)
    assert after["status"]["traffic"] == before["status"]["traffic"]
    assert after["spec"] == before["spec"]
    assert routed(serving, name) == {f"{name}-default-r1": 100}
    assert serving.row(name).rolling is None


def test_what_goes_back_takes_all_that_was_said_with_it(serving: Serving, versions: dict[str, str]) -> None:
    serving.create("said", "v1", labels={"team": "a"}, backend="local")
    serving.roll("said")
    serving.update("said", "v1", labels={"team": "b"}, canary={**QUICK, "min_requests": 7})
    assert serving.row("said").rolling is None, "what runs is the same"
    before, spec = serving.get("said"), serving.row("said").spec
    serving.update("said", "broken", labels={"team": "c"}, canary=QUICK, server={"queue": 9})
    read_meanwhile = serving.get("said")
    after = serving.roll("said")
    assert after["status"]["rollout"]["phase"] == "RolledBack"
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {"team": "b"}
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert serving.row("said").spec == spec
    with pytest.raises(WrongState, match="was changed since"):
        manager.update(serving.store, "default", "said", read_meanwhile, ANNA)
    serving.remove("said")


def test_a_first_version_that_cannot_run_fails_the_serving(
    serving: Serving, versions: dict[str, str]
) -> None:
    serving.create("hopeless", "broken")
    status = serving.roll("hopeless")["status"]
    assert (status["state"], status["rollout"]["phase"]) == ("Failed", "Failed")
    assert "cannot run" in status["description"]
    assert status["traffic"] == {}
    serving.update("hopeless", "v1")
    assert serving.roll("hopeless")["status"]["state"] == "Available"


def test_a_worse_metric_is_refused_before_anything_is_started(serving: Serving) -> None:
    def measured(value: str) -> dict[str, Any]:
        return {"metrics": {"evaluation": [{"name": "accuracy", "value": value}]}}

    serving.version("good", classifier(3), **measured("0.95"))
    serving.version("bad", classifier(4), **measured("0.90"))
    serving.create("measured", "good")
    serving.roll("measured")
    serving.update("measured", "bad", canary={**QUICK, "metric": {"name": "accuracy", "margin": 0.01}})
    status = serving.roll("measured")["status"]
    assert status["rollout"]["phase"] == "RolledBack"
    assert "accuracy of default/net:bad is 0.9, of the stable version 0.95" in status["description"]
    assert keys(serving, "measured") == {"measured-default-r1"}


def test_two_rollouts_of_one_serving_do_not_go_at_once(serving: Serving, versions: dict[str, str]) -> None:
    serving.create("one", "v1")
    with pytest.raises(WrongState, match="rollout 1 of serving 'one' is under way"):
        serving.update("one", "v2")
    serving.roll("one")
    stale = serving.get("one")
    serving.update("one", "v2")
    serving.roll("one")
    with pytest.raises(WrongState, match="was changed since: its resourceVersion is now 2"):
        manager.update(serving.store, "default", "one", stale, ANNA)
    with pytest.raises(InvalidField, match="cannot be changed; make another serving"):
        serving.update("one", "v1", backend="seldon")


def test_a_change_that_names_no_backend_leaves_it(serving: Serving) -> None:
    body = {"name": "elsewhere", "model": "default/net:v1", "canary": QUICK}
    manager.create(serving.store, "default", {**body, "backend": "kserve"}, ANNA)
    with pytest.raises(WrongState, match="rollout 1 of serving 'elsewhere' is under way"):
        manager.update(serving.store, "default", "elsewhere", body, ANNA)
    manager.purge_serving(serving.store, serving.row("elsewhere").uid)


def test_a_rollout_that_waits_for_a_person(serving: Serving, versions: dict[str, str]) -> None:
    asks = {**QUICK, "approval": True}
    serving.create("asked", "v1", canary=asks)
    assert serving.roll("asked")["status"]["state"] == "Available", "a first rollout asks nobody"
    serving.update("asked", "v2", canary=asks)
    status = serving.roll("asked")["status"]
    assert (status["rollout"]["phase"], status["rollout"]["approval"]) == ("AwaitingApproval", "asked")
    assert status["traffic"] == {"asked-default-r1": 95, "asked-default-r2": 5}
    deciding.decide(serving.store, "default", "asked", True, ANNA)
    status = serving.roll("asked", attempt=2)["status"]
    assert (status["rollout"]["phase"], status["rollout"]["approvedBy"]) == ("Promoted", ANNA.login)
    with pytest.raises(WrongState, match="waits for approval"):
        deciding.decide(serving.store, "default", "asked", False, ANNA)


def test_a_stopped_rollout_goes_back(serving: Serving, versions: dict[str, str]) -> None:
    serving.create("halted", "v1")
    serving.roll("halted")
    serving.update("halted", "v2", canary={**QUICK, "approval": True})
    serving.roll("halted")
    deciding.rollback(serving.store, "default", "halted", None, ANNA)
    with pytest.raises(WrongState, match="is stopping: rollback was asked for"):
        deciding.decide(serving.store, "default", "halted", True, ANNA)
    from catchment.serving.supervise import Rollouts

    (row,) = [
        each for each in serving.store.db.read(lambda tx: list(Rollouts().busy(tx))) if each.name == "halted"
    ]
    Rollouts().finish_stop(serving.store, row)
    status = serving.get("halted")["status"]
    assert status["rollout"]["phase"] == "RolledBack"
    assert routed(serving, "halted") == {"halted-default-r1": 100}


def test_a_flow_that_stood_still_leads_no_traffic_to_what_was_removed(
    serving: Serving, versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has proved its lease, stands still, and sets the route after somebody has put all back."""
    serving.create("frozen", "v1")
    serving.roll("frozen")
    serving.update("frozen", "v2")
    row = serving.row("frozen")
    route, stood = undoing.route, []

    def late(*arguments: Any) -> None:
        if not stood:
            stood.append(True)
            undoing.undo(serving.store, row.uid, 2, "its flow was lost")
        route(*arguments)

    monkeypatch.setattr(undoing, "route", late)
    status = serving.roll("frozen")["status"]
    assert (status["rollout"]["phase"], status["rollout"]["message"]) == ("RolledBack", "its flow was lost")
    assert routed(serving, "frozen") == {"frozen-default-r1": 100}
    assert stood
    serving.remove("frozen")


class Killed(BaseException):
    """Stands for SIGKILL at a named point."""


def test_what_has_taken_the_traffic_is_not_stopped_with_a_word_that_does_nothing(
    serving: Serving, versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(here: str) -> None:
        if here == "after_promote":
            raise Killed

    serving.create("late", "v1")
    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", reach)
        with pytest.raises(Killed):
            serving.roll("late")
    with pytest.raises(WrongState, match="rollout 1 of serving 'late' has taken all of the traffic"):
        deciding.rollback(serving.store, "default", "late", None, ANNA)
    with pytest.raises(WrongState, match="roll it back when it has ended"):
        deciding.stop_rollout(serving.store, "default", "late", ANNA)
    assert serving.roll("late", attempt=2)["status"]["rollout"]["phase"] == "Promoted"
    serving.remove("late")


POINTS = ("after_resolve", "after_apply", "after_ready", "after_smoke", "after_shift", "after_promote")


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_flow_goes_on_where_it_was(
    serving: Serving, versions: dict[str, str], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = point.replace("_", "-")
    serving.create(name, "v1")
    serving.roll(name)
    serving.update(name, "v2")

    def reach(here: str) -> None:
        if here == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", reach)
        with pytest.raises(Killed):
            serving.roll(name)
    status = serving.roll(name, attempt=2)["status"]
    assert status["rollout"]["phase"] == "Promoted"
    assert status["traffic"] == {f"{name}-default-r2": 100}
    told = [each for each in serving.reasons(name) if each in ("Resolved", "SmokePassed")]
    assert told == ["Resolved", "SmokePassed"] * 2, "a finished step is not repeated"
    serving.remove(name)
