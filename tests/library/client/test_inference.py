"""Files of numbers become requests of the Open Inference Protocol, and its answers arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.client import Client
from catchment.client.inference import arrays_of, read_numbers, request_of
from catchment.errors import InvalidField, Refused, RolloutFailed
from tests.library.client.server import TableServer

MODEL = "/seldon/default/digits/v2/models/digits"
METADATA = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2, 2]}], "outputs": []}


def metadata(datatype: str, *shape: int, more: int = 0) -> dict[str, Any]:
    inputs = [
        {"name": f"x{number or ''}", "datatype": datatype, "shape": shape} for number in range(more + 1)
    ]
    return {"inputs": inputs}


def test_rows_take_the_models_shape_and_dtype():
    body, head = request_of(np.arange(8.0).reshape(2, 4), METADATA)
    (told,) = json.loads(body[:head])["inputs"]
    assert (told["name"], told["datatype"], told["shape"]) == ("x", "FP32", [2, 2, 2])
    assert told["parameters"] == {"binary_data_size": 32}
    assert len(body) == head + 32
    assert np.array_equal(np.frombuffer(body[head:], "<f4"), np.arange(8))


@pytest.mark.parametrize(
    ("values", "model", "name", "sentence"),
    [
        (np.zeros((2, 3)), METADATA, None, r"x: takes the shape \[-1, 2, 2\], the file has \[2, 3\]"),
        (
            np.array([[1.5]]),
            metadata("INT64", -1, 1),
            None,
            "takes INT64, and the file has numbers that are none",
        ),
        (np.array([[300]]), metadata("UINT8", -1, 1), None, "takes UINT8"),
        (np.array([[1]]), metadata("BYTES", -1, 1), None, "no plain number"),
        (np.array([[1]]), metadata("FP32", -1, 1, more=1), None, "several inputs, name one; it has x, x1"),
        (np.array([[1]]), metadata("FP32", -1, 1), "y", "no input 'y'; it has x"),
    ],
)
def test_what_does_not_fit_is_said(values, model, name, sentence):
    with pytest.raises(InvalidField, match=sentence):
        request_of(values, model, name)


def test_files_that_hold_no_numbers_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    np.save(tmp_path / "b.npy", np.array([{"no": "pickles"}]), allow_pickle=True)
    (tmp_path / "c.txt").write_text("1")
    for name in ("a.csv", "b.npy", "c.txt"):
        with pytest.raises(Refused, match=name):
            read_numbers(tmp_path / name)


def test_outputs_are_arrays():
    answer = {"outputs": [{"name": "y", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    assert arrays_of(answer)["y"].tolist() == [[1, 2], [3, 4]]


def serving_document(state: str, phase: str) -> dict[str, Any]:
    rollout = {"number": 2, "kind": "rollout", "phase": phase, "message": "because"}
    status = {"state": state, "description": "", "replicas": 1, "address": {"url": "u"}, "rollout": rollout}
    return {"metadata": {"name": "digits", "namespace": "default"}, "spec": {}, "status": status}


def test_waiting_ends_with_the_rollout(server: TableServer, client: Client):
    path = "GET /api/v1alpha1/namespaces/default/servings/digits"
    waits, done = serving_document("Available", "Running"), serving_document("Available", "Promoted")
    server.answers[path] = [(200, waits), (200, waits), (200, done)]
    assert client.servings.wait("digits", timeout_s=10).rollout["phase"] == "Promoted"
    server.answers[path] = (200, serving_document("Available", "RolledBack"))
    with pytest.raises(RolloutFailed, match="rollout 2 of digits is RolledBack: because"):
        client.servings.wait("digits", timeout_s=10)
    server.answers[path] = (200, serving_document("Available", "AwaitingApproval"))
    assert client.servings.wait("digits", timeout_s=10, approval=True).rollout["number"] == 2


def test_pods_and_logs_are_asked_for_by_the_servings_label(server: TableServer, client: Client):
    base = "/api/v1alpha1/namespaces/default/pods"
    pods = {"items": [{"metadata": {"name": "digits-1"}}]}
    server.answers[f"GET {base}?filterBy=catchment.io%2Fserving%3Ddigits"] = (200, pods)
    lines = {"logs": [{"timestamp": "t", "content": "hello"}]}
    server.answers[f"GET {base}/digits-1/logs?offsetFrom=-9&offsetTo=1"] = (200, lines)
    assert [each["metadata"]["name"] for each in client.servings.pods("digits")] == ["digits-1"]
    assert client.servings.logs("digits-1", tail=10) == lines["logs"]
