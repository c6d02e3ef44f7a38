"""`catchment job`, `namespace`, `sites` and `version` against a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.library.client.server import TableServer, job_document, round_document

Command = Callable[..., Result]
OK = (200, {"state": "SUCCESSFUL"})
JOBS = "/api/v1/namespaces/default/jobs"
JOB = f"{JOBS}/digits"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from catchment.client import watching

    for name in ("SHORTEST_PAUSE_S", "LONGEST_PAUSE_S", "LONGEST_OUTAGE_PAUSE_S"):
        monkeypatch.setattr(watching, name, 0.01)


@pytest.fixture(autouse=True)
def usual_answers(server: TableServer) -> None:
    server.answers |= {
        f"GET {JOB}": (200, job_document("QUEUED")),
        f"PUT {JOB}": OK,
        f"PUT {JOB}:start": OK,
        f"PUT {JOB}:stop": OK,
        f"DELETE {JOB}": OK,
        f"POST {JOBS}": (201, {"state": "SUCCESSFUL"}),
        f"POST {JOBS}?start=true": (201, {"state": "SUCCESSFUL"}),
        "GET /api/v1/version": (200, {"version": "9.9", "prefect_ui": "http://ui"}),
    }


def test_a_job_is_created_from_stdin(command: Command, server: TableServer) -> None:
    result = command("job", "create", "-f", "-", stdin='{"id": "digits"}')
    assert (result.exit_code, result.stdout) == (0, "default/digits created; state QUEUED\n")
    assert server.asked[0][:2] == (f"POST {JOBS}", {"id": "digits"})


def test_a_job_is_created_from_a_file_and_started(
    command: Command, server: TableServer, tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text('{"id": "digits"}')
    result = command("job", "create", "--start", "--json", "-f", str(tmp_path / "job.json"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] == "digits"
    assert server.lines()[0] == f"POST {JOBS}?start=true"


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "is no JSON"), ("[]", "must hold one JSON object"), ("", "is no JSON")]
)
def test_what_is_no_job_is_refused_before_it_is_sent(
    command: Command, server: TableServer, text: str, problem: str
) -> None:
    result = command("job", "create", "-f", "-", stdin=text)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert not server.asked


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("start", "digits"), f"PUT {JOB}:start"),
        (("stop", "digits"), f"PUT {JOB}:stop"),
        (("delete", "digits"), f"DELETE {JOB}"),
    ],
)
def test_each_change_asks_for_its_path(
    command: Command, server: TableServer, arguments: tuple[str, ...], line: str
) -> None:
    plain, as_json = command("job", *arguments), command("job", *arguments, "--json")
    assert plain.exit_code == as_json.exit_code == 0
    assert plain.stdout.startswith("default/digits ")
    assert json.loads(as_json.stdout)["id"] == "digits"
    assert server.lines()[0] == line


def test_an_update_replaces_the_specification(command: Command, server: TableServer) -> None:
    assert command("job", "update", "digits", "-f", "-", stdin='{"id": "digits"}').exit_code == 0
    assert server.asked[0][:2] == (f"PUT {JOB}", {"id": "digits"})


def test_a_job_is_shown_with_its_checkpoints_and_its_page(command: Command, server: TableServer) -> None:
    server.answers[f"GET {JOB}"] = (200, job_document("FAILED", reason="a site is gone"))
    shown = command("job", "get", "digits").stdout
    assert re.search(r"state +FAILED\nreason +a site is gone", shown)
    assert "http://ui/runs/flow-run/f-1" in shown
    assert re.search(r"checkpoint_v2 +0\.5000 +o/2\ncheckpoint_v10 +o/10", shown)


@pytest.mark.parametrize(
    ("epsilon", "budget", "told"), [(1.25, 8.0, "1.25 of 8"), (1.25, None, "1.25"), (None, None, "infinite")]
)
def test_a_private_job_is_shown_with_what_it_has_cost(
    command: Command, server: TableServer, epsilon: float | None, budget: float | None, told: str
) -> None:
    privacy = {"epsilon": epsilon, "delta": 1e-5, "epsilon_budget": budget, "guarantee": "the words"}
    server.answers[f"GET {JOB}"] = (200, {**job_document("RUNNING"), "privacy": privacy})
    shown = command("job", "get", "digits").stdout
    assert re.search(rf"epsilon +{told} \(delta 1e-05\)\nprivacy +the words", shown)


def test_jobs_are_listed(command: Command, server: TableServer) -> None:
    server.answers[f"GET {JOBS}?state=RUNNING&limit=2"] = (200, {"jobs": [job_document(progress=40)]})
    arguments = ("job", "list", "--state", "running", "--limit", "2")
    assert command(*arguments).stdout.splitlines()[1].split()[:3] == ["digits", "RUNNING", "40"]
    assert len(json.loads(command(*arguments, "--json").stdout)["jobs"]) == 1


def test_an_empty_list_is_no_output(command: Command, server: TableServer) -> None:
    server.answers[f"GET {JOBS}"] = (200, {"jobs": []})
    result = command("job", "list")
    assert (result.stdout, result.stderr) == ("", "no jobs\n")


def test_another_namespace_is_used_where_asked_for(command: Command, server: TableServer) -> None:
    command("job", "get", "digits", "-n", "lab")
    assert server.lines() == ["GET /api/v1/namespaces/lab/jobs/digits"]


@pytest.mark.parametrize(("state", "code"), [("FINISHED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_a_watch_ends_with_the_job_and_says_how_by_its_code(
    command: Command, server: TableServer, state: str, code: int
) -> None:
    server.answers[f"GET {JOB}"] = [(200, job_document()), (200, job_document(state, reason="because"))]
    rounds = [
        round_document(1),
        round_document(2, evaluated=True),
        round_document(3, "failed", reason="too few"),
    ]
    server.answers[f"GET {JOB}/rounds?run=1"] = (200, {"rounds": rounds})
    result = command("job", "watch", "digits")
    assert result.exit_code == code
    assert result.stdout.splitlines() == [
        "default/digits RUNNING",
        "round   1  from site-1  site-2 failed (exit code 1)  1.25 s",
        "round   2  accuracy 0.9000  loss 0.2500  from site-1  site-2 failed (exit code 1)  1.25 s",
        "round   3  failed (too few)  from site-1  site-2 failed (exit code 1)  1.25 s",
        f"default/digits {state}: because",
    ]


def test_a_watch_for_scripts_is_one_object_a_line(command: Command, server: TableServer) -> None:
    away = (503, {"detail": "away"})
    server.answers[f"GET {JOB}"] = [(200, job_document()), away, (200, job_document("FINISHED"))]
    server.answers[f"GET {JOB}/rounds?run=1"] = (200, {"rounds": [round_document(1)]})
    events = [json.loads(line) for line in command("job", "watch", "digits", "--json").stdout.splitlines()]
    assert [event["event"] for event in events] == ["job", "round", "outage", "outage", "job", "end"]
    assert events[1]["sites"][0]["site"] == "site-1"
    assert events[-1]["job"]["status"]["state"] == "FINISHED"


def test_a_job_that_was_not_started_says_how(command: Command, server: TableServer) -> None:
    server.answers[f"GET {JOB}"] = [(200, job_document("QUEUED", run=0)), (404, {"reason": "gone"})]
    result = command("job", "watch", "digits")
    assert "catchment job start digits -n default" in result.stdout
    assert result.exit_code == 3


def test_sites_and_namespaces_are_tables(command: Command, server: TableServer) -> None:
    site = {
        "name": "a",
        "address": "127.0.0.1:1",
        "online": False,
        "runtimes": ["pytorch"],
        "datasets": ["d", "e"],
    }
    server.answers["GET /api/v1/sites"] = (200, {"sites": [site]})
    server.answers["GET /api/v1/namespaces"] = (200, {"namespaces": [{"name": "lab", "create_time": "now"}]})
    assert re.search(r"a +127\.0\.0\.1:1 +offline +0 +pytorch +d, e", command("sites").stdout)
    assert re.search(r"NAME +CREATED\nlab +now", command("namespace", "list").stdout)
    assert json.loads(command("sites", "--json").stdout) == {"sites": [site]}


def test_namespaces_come_and_go(command: Command, server: TableServer) -> None:
    lab = (201, {"name": "lab", "create_time": "now"})
    server.answers |= {f"{method} /api/v1/namespaces/lab": lab for method in ("PUT", "GET", "DELETE")}
    assert command("namespace", "create", "lab").stdout == "namespace lab is there\n"
    assert json.loads(command("namespace", "create", "lab", "--json").stdout)["name"] == "lab"
    assert command("namespace", "delete", "lab").stdout == "namespace lab deleted\n"


def test_version_shows_both_sides(command: Command, server: TableServer) -> None:
    from catchment import __version__

    assert f"{server.url} runs 9.9" in command("version").stdout
    assert json.loads(command("version", "--json").stdout)["catchment"] == __version__
    away = command("version", "--server", "http://127.0.0.1:9")
    assert away.exit_code == 0
    assert "does not answer" in away.stdout
