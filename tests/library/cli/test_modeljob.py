"""`catchment modeljob` against a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from catchment.client import model_jobs as module
from tests.library.client.server import TableServer, model_job_document

Command = Callable[..., Result]
JOBS = "/api/v1alpha1/namespaces/default/modeljobs"
JOB = f"{JOBS}/slims"
LOGS = "/api/v1alpha1/namespaces/default/pods/slims/logs?reftimestamp=newest&offsetFrom=-5000&offsetTo=1"
REPORT = {"backend": "tensorflow", "reference": "tensorflow", "outputs": [{"max_abs": 1.5e-7}]}


@pytest.fixture(autouse=True)
def usual_answers(server: TableServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    ended = model_job_document("Succeeded", "done", steps={"convert": {"report": REPORT}})
    server.answers |= {
        f"POST {JOBS}": (201, b""),
        f"GET {JOBS}": (200, {"metadata": {"totalItems": 1}, "items": [ended]}),
        f"GET {JOB}": (200, ended),
        f"DELETE {JOB}": (204, b""),
    }
    server.headers[f"POST {JOBS}"] = {"Location": JOB}


def test_one_is_created_from_a_file_or_stdin(command: Command, server: TableServer, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"spec": {}}')
    result = command("modeljob", "create", "-f", str(tmp_path / "job.json"))
    assert (result.exit_code, result.stdout) == (0, "default/slims created; phase Succeeded\n")
    assert server.asked[0][1] == {"spec": {}}
    shown = command("modeljob", "create", "--json", "-f", "-", stdin='{"spec": {}}').stdout
    assert json.loads(shown)["metadata"]["name"] == "slims"


def test_one_is_shown_with_what_its_conversion_is_worth(command: Command) -> None:
    shown = command("modeljob", "get", "slims").stdout
    assert re.search(r"does +H5 to ONNX\nmodel +default/net:v1\ntarget +default/net:v2", shown)
    assert re.search(r"backend +tensorflow\ncompared +tensorflow\nerror +1.5e-07 at most", shown)
    assert command("modeljob", "get", "other").exit_code == 3


def test_they_are_listed_and_deleted(command: Command, server: TableServer) -> None:
    server.answers[f"GET {JOBS}?filter=convert&start=1&limit=2"] = server.answers[f"GET {JOBS}"]
    asked = ("modeljob", "list", "--label", "convert", "--limit", "2", "--offset", "1")
    assert command(*asked).stdout.splitlines()[1].split()[:2] == ["slims", "Succeeded"]
    assert len(json.loads(command("modeljob", "list", "--json").stdout)["items"]) == 1
    assert command("modeljob", "delete", "slims").stdout == "default/slims deleted\n"
    assert json.loads(command("modeljob", "delete", "slims", "--json").stdout)["deleted"]


def test_events_and_logs_are_shown_oldest_first(command: Command, server: TableServer) -> None:
    event = {"eventTime": "2026", "type": "Normal", "reason": "Pulled", "message": "pulled H5"}
    server.answers[f"GET {JOB}/events"] = (200, {"items": [event]})
    server.answers[f"GET {LOGS}"] = (200, {"logs": [{"timestamp": "2026", "content": "a line"}]})
    assert command("modeljob", "events", "slims").stdout.splitlines()[1].split() == [
        *("2026", "Normal", "Pulled", "pulled", "H5")
    ]
    assert json.loads(command("modeljob", "events", "slims", "--json").stdout) == {"items": [event]}
    assert command("modeljob", "logs", "slims").stdout == "2026  a line\n"
    assert json.loads(command("modeljob", "logs", "slims", "--json").stdout)["logs"][0]["content"] == "a line"


def test_waiting_says_by_its_code_how_it_ended(command: Command, server: TableServer) -> None:
    assert command("modeljob", "wait", "slims").exit_code == 0
    server.answers[f"GET {JOB}"] = (200, model_job_document("Failed", "the file is damaged"))
    failed = command("modeljob", "wait", "slims")
    assert failed.exit_code == 1
    assert failed.stderr == "Failed: the file is damaged\n"
    server.answers[f"GET {JOB}"] = (200, model_job_document("Running"))
    late = command("modeljob", "wait", "slims", "--timeout", "0", "--json")
    assert late.exit_code == 1
    assert late.stderr == "default/slims has not ended in 0 s\n"
    assert json.loads(late.stdout)["status"]["phase"] == "Running"


def test_backends_are_shown_with_the_reason_why_one_is_not_there(
    command: Command, server: TableServer
) -> None:
    pairs = [{"from": "MXNetParams", "to": "ONNX"}]
    mxnet = {"name": "mxnet", "available": False, "reason": "there is no Python 3.11", "converts": pairs}
    server.answers["GET /api/v1/conversion/backends"] = (200, {"backends": [mxnet]})
    assert "there is no Python 3.11  MXNetParams to ONNX" in command("modeljob", "backends").stdout
    assert json.loads(command("modeljob", "backends", "--json").stdout) == {"backends": [mxnet]}
