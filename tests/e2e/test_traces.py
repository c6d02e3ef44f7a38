"""One trace from the request that makes a job to its training at the sites, across real processes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from catchment.observe import trace
from tests.conftest import ROOT, users_environment, wait_until
from tests.e2e.conftest import System, _make_small_job_files, end_group, flow_runs, small_job
from tests.library.model_jobs.conftest import small_onnx
from tests.otlp import Collector, Received, collector

CALLER = trace.Place("ab" * 16, "cd" * 8)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Collector]]:
    home = tmp_path_factory.mktemp("traced") / "home"
    with collector() as received, observed_system(home, received.url) as system:
        yield system, received


@contextmanager
def observed_system(home: Path, endpoint: str) -> Iterator[System]:
    """`catchment up` with two sites, traces and JSON logs."""
    with home.with_name("up.log").open("wb") as log:
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "catchment.cli", "up", "--home", str(home), "--sqlite"),
                *("--api-port", "0", "--prefect-port", "0", "--sites", "2"),
            ],
            cwd=ROOT,
            env=users_environment(
                CATCHMENT_OTLP_ENDPOINT=endpoint,
                CATCHMENT_LOG_FORMAT="json",
                CATCHMENT_JOB_LEASE_S="3",
                CATCHMENT_SUPERVISE_S="0.5",
            ),
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert up.stdout is not None
        try:
            line = up.stdout.readline().decode()
            assert line.startswith("ready http://"), home.with_name("up.log").read_text()
            _make_small_job_files(home / "namespaces" / "default" / "small")
            yield System(home, line.split()[1], "", up.pid, home)
        finally:
            code = end_group(up, timeout_s=30)
            up.stdout.close()
    assert code == 0


def ran(system: System, received: Collector, job_id: str) -> None:
    """Run a job of two rounds, and wait until its spans have arrived."""
    path = "/api/v1/namespaces/default/jobs?start=true"
    body = json.loads(json.dumps(_job(job_id)))
    answer = httpx.post(system.url + path, json=body, headers={"traceparent": CALLER.traceparent}, timeout=30)
    assert answer.status_code == 201, answer.text
    assert system.wait_for(job_id)["status"]["state"] == "FINISHED"

    def whole() -> bool:
        (created,) = of_job(received, "create job", job_id) or [None]
        arrived = [span.name for span in received.spans if created and span.trace_id == created.trace_id]
        return "federate" in arrived and arrived.count("upload") == arrived.count("train") * 2 == 8

    wait_until(whole, timeout_s=30, what=f"the spans of {job_id}: {sorted({s.name for s in received.spans})}")


def _job(job_id: str) -> dict[str, Any]:
    return small_job(id=job_id, hyper_parameters={"max_round_num": 2})


def of_job(received: Collector, name: str, job_id: str) -> list[Received]:
    return [span for span in received.named(name) if span.attributes.get("catchment.job_id") == job_id]


def test_a_job_is_one_trace_from_its_request_to_the_sites_scripts(traced: tuple[System, Collector]) -> None:
    system, received = traced
    ran(system, received, "traced")
    (created,) = of_job(received, "create job", "traced")
    mine = [span for span in received.spans if span.trace_id == created.trace_id]
    by_id = {span.span_id: span for span in mine}
    assert len(by_id) == len(mine), "no span arrives twice"
    assert created.parent_id == ""
    assert created.links == (CALLER.trace_id,), "the caller's own trace is linked"

    def above(span: Received) -> list[tuple[str, str]]:
        return [(span.service, span.name), *(above(by_id[span.parent_id]) if span.parent_id else ())]

    top = [("catchment-flow", "round"), ("catchment-flow", "federate"), ("catchment-api", "create job")]
    scripts = [span for span in mine if span.name == "script"]
    chains = [above(span) for span in scripts]
    for kind in ("train", "evaluate"):
        chain = [("catchment-site", "script"), ("catchment-site", kind), *top]
        assert chains.count(chain) == 4, "two sites, two rounds"
    assert above(mine_named(mine, "aggregate and commit")[0]) == [
        ("catchment-flow", "aggregate and commit"),
        *top,
    ]
    for name in ("download", "upload", "check update"):
        assert {tuple(above(span)[1:2]) for span in mine_named(mine, name)} == {
            (("catchment-site", "train"),),
            (("catchment-site", "evaluate"),),
        }
    result = "POST /exchange/v1/sites/{site}/work/{work_id}/result"
    assert {above(span)[1] for span in mine_named(mine, result)} == {("catchment-site", "upload")}
    assert [span.attributes["catchment.round"] for span in sorted_by_time(mine_named(mine, "round"))] == [
        1,
        2,
    ]
    assert {span.service for span in mine} == {"catchment-api", "catchment-flow", "catchment-site"}


def mine_named(spans: list[Received], name: str) -> list[Received]:
    found = [span for span in spans if span.name == name]
    assert found, f"there is no span {name!r}"
    return found


def sorted_by_time(spans: list[Received]) -> list[Received]:
    return sorted(spans, key=lambda span: span.began_ns)


def test_a_rounds_span_holds_the_scripts_of_its_sites_in_time(traced: tuple[System, Collector]) -> None:
    system, received = traced
    ran(system, received, "timed")
    (created,) = of_job(received, "create job", "timed")
    mine = {span.span_id: span for span in received.spans if span.trace_id == created.trace_id}
    trainings = [span for span in mine.values() if span.name == "train"]
    assert len(trainings) == 4
    for training in trainings:
        within = mine[training.parent_id]
        assert within.began_ns <= training.began_ns <= training.ended_ns <= within.ended_ns


def test_a_run_that_is_killed_goes_on_in_its_trace(traced: tuple[System, Collector]) -> None:
    system, received = traced
    parameters = {"parameters": {"--mode": "slow"}, "hyper_parameters": {"max_round_num": 3}}
    system.start(id="killed", **parameters)

    def one_round() -> Received | None:
        (created,) = of_job(received, "create job", "killed") or [None]
        mine = [span for span in received.named("round") if created and span.trace_id == created.trace_id]
        return created if mine else None

    created = wait_until(one_round, timeout_s=60, what="the span of a round")
    assert isinstance(created, Received)
    (flow,) = flow_runs(system)
    os.kill(flow, signal.SIGKILL)
    assert system.wait_for("killed", timeout_s=90)["status"]["state"] == "FINISHED"
    wait_until(lambda: of_job(received, "federate", "killed"), timeout_s=30, what="the span of the run")
    (run,) = of_job(received, "federate", "killed")
    assert (run.trace_id, run.parent_id) == (created.trace_id, created.span_id)
    found = [span for span in received.named("round") if span.trace_id == run.trace_id]
    assert {span.parent_id for span in found} == {run.span_id}, "whichever process recorded it"
    assert sorted(span.attributes["catchment.round"] for span in found) == [1, 2, 3]
    assert run.began_ns <= min(span.began_ns for span in found if span.attributes["catchment.round"] > 1)


def test_a_model_job_is_a_trace_of_its_steps(traced: tuple[System, Collector], tmp_path: Path) -> None:
    system, received = traced
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(small_onnx(tmp_path / "model.onnx"), "small/model.onnx")
    path = "/api/v1alpha1/projects/default/models/traced/versions/v1/upload"
    files, who = {"file": ("x.zip", zipped.getvalue())}, {"X-Tenant": "lab", "X-User": "anna"}
    answer = httpx.post(system.url + path, files=files, headers=who, timeout=30)
    assert answer.status_code == 201, answer.text
    wait_until(lambda: received.named("model_job"), timeout_s=90, what="the span of the ModelJob")
    (run,) = received.named("model_job")
    mine = [span for span in received.spans if span.trace_id == run.trace_id]
    (created,) = [span for span in mine if span.name == "create ModelJob"]
    assert run.parent_id == created.span_id
    steps = {span.name for span in mine if span.parent_id == run.span_id}
    assert {"pull", "extract", "push", "succeed"} <= steps


def test_log_lines_of_all_processes_are_json_with_what_they_are_about(
    traced: tuple[System, Collector],
) -> None:
    system, received = traced
    ran(system, received, "logged")
    (created,) = of_job(received, "create job", "logged")
    site = [json.loads(line) for line in (system.home / "logs" / "site-1.log").read_text().splitlines()]
    about = [
        line for line in site if line.get("job") == "logged" and line["message"].startswith("script ended")
    ]
    assert {line["trace_id"] for line in about} == {created.trace_id}
    assert {line["round"] for line in about} == {1, 2}
    assert {line["site"] for line in about} == {"site-1"}
    for name in ("api", "runner"):
        lines = (system.home / "logs" / f"{name}.log").read_text().splitlines()
        parsed = [json.loads(line) for line in lines if line != "runner ready"]
        assert parsed, name
        assert {line["part"] for line in parsed} <= {name, "flow"}


def test_figures_tell_of_the_rounds_and_of_the_sites(traced: tuple[System, Collector]) -> None:
    system, received = traced
    scraped(system)  # counts from here on
    ran(system, received, "counted")
    wait_until(
        lambda: scraped(system).get(("catchment_rounds_total", "committed"), 0) >= 2,
        timeout_s=30,
        what="two committed rounds in /metrics",
    )
    values = scraped(system)
    assert values["catchment_jobs", "FINISHED"] >= 1
    assert values["catchment_sites", "online"] == 2
    assert values["catchment_round_works_total", "admitted"] >= 4
    assert values["catchment_store_up",] == 1
    uploads = values["catchment_api_received_bytes_total", "/exchange/v1/sites/{site}/work/{work_id}/update"]
    assert uploads > 0


def scraped(system: System) -> dict[tuple[str, ...], float]:
    """Name and label values -> value, read by Prometheus' own parser."""
    text = httpx.get(f"{system.url}/metrics", timeout=30).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
