"""`catchment retrain`: the plan that options make, what is printed, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.library.client.server import TableServer

Command = Callable[..., Result]
RUNS = "/api/v1/namespaces/default/retrain"


def shown(state: str, message: str = "", **steps: Any) -> dict[str, Any]:
    return {"id": "r1", "namespace": "default", "state": state, "message": message, "steps": steps}


def test_options_make_the_plan_and_the_end_the_exit_code(command: Command, server: TableServer):
    done = {"id": "retrain-1", "state": "FINISHED", "progress": 100, "reason": ""}
    kept = shown("completed", "kept: accuracy 0.93 < 0.95 + 0.01", job=done, version="default/m:v1")
    server.answers[f"POST {RUNS}"] = (202, shown("waiting"))
    server.answers[f"GET {RUNS}/r1"] = [(200, shown("running")), (200, kept)]
    options = ("--rounds", "5", "--margin", "0.01", "--metric", "loss", "--lower-is-better", "--serving", "m")
    result = command("retrain", "start", "--template", "t", "--name", "m", *options, "--key", "k", "--wait")
    assert result.exit_code == 0, result.stderr
    assert "state    completed: kept: accuracy 0.93 < 0.95 + 0.01" in result.stdout
    assert "job      retrain-1 FINISHED, 100 %" in result.stdout
    line, plan, headers = server.asked[0]
    assert (line, headers["Idempotency-Key"]) == (f"POST {RUNS}", "k")
    assert plan == {
        "job": {"template": "t", "rounds": 5},
        "register_as": {"name": "m"},
        "gate": {"metric": "loss", "margin": 0.01, "higher_is_better": False},
        "serving": {"name": "m"},
    }
    server.answers[f"GET {RUNS}/r1"] = (200, shown("failed", "job retrain-1 failed"))
    assert command("retrain", "wait", "r1").exit_code == 1
    server.answers[f"GET {RUNS}/r1"] = (200, shown("running"))
    late = command("retrain", "wait", "r1", "--timeout", "0")
    assert (late.exit_code, "goes on after 0 s: running" in late.stderr) == (4, True)
    assert json.loads(command("retrain", "get", "r1", "--json").stdout)["state"] == "running"
    server.answers[f"PUT {RUNS}/r1:stop"] = (204, b"")
    assert "asked to stop" in command("retrain", "stop", "r1").stdout


def test_what_is_missing_or_too_much_is_said(command: Command, server: TableServer, tmp_path: Path):
    (tmp_path / "plan.yaml").write_text("job: {template: t}\nregister_as: {name: m}\n")
    assert "--template and --name are required" in command("retrain", "start", "--name", "m").stderr
    both = command("retrain", "start", "-f", str(tmp_path / "plan.yaml"), "--name", "m")
    assert "give -f FILE or --name, not both" in both.stderr
    server.answers[f"POST {RUNS}"] = (
        400,
        {"detail": "job.template: there is no job 't'", "field": "job.template"},
    )
    refused = command("retrain", "start", "-f", str(tmp_path / "plan.yaml"))
    assert (refused.exit_code, refused.stderr) == (1, "Error: job.template: there is no job 't'\n")
    assert server.asked[0][1] == {"job": {"template": "t"}, "register_as": {"name": "m"}}
