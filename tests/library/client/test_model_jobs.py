"""The client's ModelJobs against a table of answers: names, documents, waiting."""

from __future__ import annotations

import pytest

from catchment.client import Client, ModelJob
from catchment.client import model_jobs as module
from catchment.errors import Refused, Unreachable
from tests.library.client.server import TableServer, model_job_document

JOBS = "/api/v1alpha1/namespaces/default/modeljobs"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)


def test_the_server_says_what_a_new_one_is_called(client: Client, server: TableServer) -> None:
    server.answers[f"POST {JOBS}"] = (201, b"")
    with pytest.raises(Unreachable, match="does not say"):
        client.model_jobs.create({"spec": {}})
    server.headers[f"POST {JOBS}"] = {"Location": f"{JOBS}/modeljob-1"}
    assert client.model_jobs.create({"spec": {}}) == "modeljob-1"
    assert client.model_jobs.create(b'{"spec": {}}') == "modeljob-1"
    kinds = [headers["Content-Type"] for _, _, headers in server.asked]
    assert kinds == ["application/json", "application/json", "application/yaml"]


def test_a_refusal_has_the_servers_words(client: Client, server: TableServer) -> None:
    server.answers[f"POST {JOBS}"] = (409, {"message": "exists already", "reason": "AlreadyExists"})
    with pytest.raises(Refused, match="exists already"):
        client.model_jobs.create({})
    with pytest.raises(Refused, match="is no name"):
        client.model_jobs.get("..")


def test_waiting_ends_with_the_job_and_tells_each_change_once(client: Client, server: TableServer) -> None:
    ended = model_job_document("Succeeded", "done", resultModelID="m2", steps={"pull": {}})
    states = [model_job_document(), model_job_document("Running", "at it"), ended]
    server.answers[f"GET {JOBS}/slims"] = [(200, each) for each in (*states[:2], states[1], states[2])]
    told: list[ModelJob] = []
    found = client.model_jobs.wait("slims", timeout_s=20, changed=told.append)
    assert [each.phase for each in told] == ["Pending", "Running", "Succeeded"]
    assert (found.ended, found.result_id, found.kind) == (True, "m2", "H5 to ONNX")
    assert found.document == ended


def test_waiting_has_an_end_when_the_job_has_none(client: Client, server: TableServer) -> None:
    server.answers[f"GET {JOBS}/slims"] = (200, model_job_document("Running"))
    found = client.model_jobs.wait("slims", timeout_s=0.1)
    assert (found.phase, found.ended) == ("Running", False)


def test_an_answer_of_another_server_is_no_model_job(client: Client, server: TableServer) -> None:
    server.answers[f"GET {JOBS}/slims"] = (200, {"kind": "ModelJob"})
    with pytest.raises(Unreachable):
        client.model_jobs.get("slims")
