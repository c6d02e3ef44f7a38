"""What a rollout asks a model server itself, and what it makes of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InferenceFailed, Unreachable
from catchment.serving.asking import DATATYPES, Answer, Asker, differences, problems, sample
from catchment.serving.workload import Endpoint, ServedModel
from tests.conftest import free_port
from tests.model_servers import linear, serving


def model(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> ServedModel:
    return ServedModel("id", "default/net:v1", "sha256:0", "ONNX", tuple(inputs), tuple(outputs), 1)


X = {"name": "a", "dType": "float32", "size": [-1, 3]}
LINEAR = model([X, {**X, "name": "b"}], [{**X, "name": "sum"}, {**X, "name": "product"}])


def test_a_model_server_answers_what_was_made_of_the_signature(tmp_path: Path) -> None:
    with serving(linear(tmp_path / "model"), tmp_path / "log") as server:
        endpoint = Endpoint(f"http://127.0.0.1:{server.http}", "", "m")
        with Asker(endpoint, 10) as asker:
            assert differences(LINEAR, asker.metadata()) == []
            answer = asker.infer(sample(LINEAR, np.random.default_rng(1), {}))
            assert problems(LINEAR, answer) == []
            with pytest.raises(InferenceFailed, match="answers 400"):
                asker.infer([{"name": "a", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}])
            other = model([{**X, "size": [-1, 4]}], [{**X, "name": "sum", "dType": "int64"}])
            said = differences(other, asker.metadata())
    assert said == [
        "inputs are ['a', 'b'], the signature has ['a']",
        "outputs are ['product', 'sum'], the signature has ['sum']",
    ]
    with Asker(endpoint, 1) as asker, pytest.raises(Unreachable, match="does not answer"):
        asker.metadata()


def test_types_and_shapes_that_differ_are_named() -> None:
    served = {"inputs": [{"name": "a", "datatype": "INT64", "shape": [1, 4]}], "outputs": []}
    assert differences(model([X], []), served) == [
        "inputs 'a' is INT64, the signature says FP32",
        "inputs 'a' has the shape [1, 4], the signature says [-1, 3]",
    ]


@given(
    dtype=st.sampled_from(sorted(DATATYPES)),
    size=st.lists(st.integers(-1, 4), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_made_up_inputs_fit_their_signature(dtype: str, size: list[int], seed: int) -> None:
    (tensor,) = sample(
        model([{"name": "x", "dType": dtype, "size": size}], []), np.random.default_rng(seed), {}
    )
    assert tensor["datatype"] == DATATYPES[dtype]
    assert len(tensor["data"]) == int(np.prod(tensor["shape"]))
    assert all(made == given for made, given in zip(tensor["shape"], size, strict=False) if given >= 0)
    json.dumps(tensor, allow_nan=False)


def test_the_servers_bounds_say_how_large_open_dimensions_are() -> None:
    (first, _) = sample(LINEAR, np.random.default_rng(0), {"smoke_shapes": {"a": [5, 3]}})
    assert first["shape"] == [5, 3]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([], "output 'y' is missing"),
        ([{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": []}], "is empty"),
        (
            [{"name": "y", "datatype": "FP64", "shape": [1, 3], "data": [1]}],
            "is FP64, the signature says FP32",
        ),
        ([{"name": "y", "datatype": "FP32", "shape": [3], "data": [1]}], "has the shape [3]"),
        (
            [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1.0, float("inf"), 0.0]}],
            "no finite number",
        ),
    ],
)
def test_answers_that_are_no_good_are_told_why(outputs: list[dict[str, Any]], words: str) -> None:
    wanted = model([], [{"name": "y", "dType": "float32", "size": [-1, 3]}])
    assert any(words in problem for problem in problems(wanted, Answer(outputs, 0.1)))


class _Nonsense(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = b"[1]" if "list" in self.path else b"{"
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Not."""


@pytest.fixture
def nonsense() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", free_port()), _Nonsense)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(("name", "words"), [("list", "is no object"), ("m", "is no JSON")])
def test_what_is_no_answer_of_the_protocol_is_refused(nonsense: str, name: str, words: str) -> None:
    with Asker(Endpoint(nonsense, "", name), 5) as asker, pytest.raises(InferenceFailed, match=words):
        asker.metadata()
