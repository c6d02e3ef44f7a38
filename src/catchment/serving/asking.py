"""A rollout's own inferences: is what answers the model that was meant, and does it answer well?"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from catchment.errors import CatchmentError, InferenceFailed, RolloutFailed, Unreachable
from catchment.serving.workload import Endpoint, ServedModel, Workload

DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    "object": "BYTES",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
"""The protocol's names of the signature's types."""
SHOWN = 300
ANSWERS_S = 30.0
NOT_ASKED = frozenset({"PMML"})
"""Formats whose runtime on clusters speaks another protocol."""
OTHER_NAMES = frozenset({"SKLearn", "XGBoost", "LightGBM", "MLflow", "MLlib"})
"""Formats whose runtime on clusters has names of its own for what goes in and comes out."""


@dataclass(frozen=True)
class Answer:
    """One inference's outputs, as the protocol writes them, and how long it took."""

    outputs: Sequence[Mapping[str, Any]]
    seconds: float


class Asker:
    """A connection to one model server; used by one thread.

    Raises Unreachable where nothing answers, and InferenceFailed where the answer is an error.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        parts = urlsplit(endpoint.http)
        self._path = f"{parts.path.rstrip('/')}/v2/models/{quote(endpoint.model, safe='')}"
        self._where = endpoint.http
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def metadata(self) -> dict[str, Any]:
        """The model's own word on its inputs and outputs."""
        return self._ask("GET", self._path, None)

    def infer(self, inputs: Sequence[Mapping[str, Any]]) -> Answer:
        """One inference."""
        body = json.dumps({"inputs": list(inputs)}).encode()
        began = time.perf_counter()
        found = self._ask("POST", f"{self._path}/infer", body)
        return Answer(found.get("outputs") or (), time.perf_counter() - began)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            reply = self._connection.getresponse()
            said = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"the model server at {self._where} does not answer: {error}") from error
        if reply.status != 200:
            words = said[:SHOWN].decode(errors="replace")
            raise InferenceFailed(f"the model server answers {reply.status}: {words}")
        try:
            found = json.loads(said)
        except ValueError as error:
            raise InferenceFailed("the model server's answer is no JSON") from error
        if not isinstance(found, dict):
            raise InferenceFailed("the model server's answer is no object")
        return found


def is_asked(workload: Workload) -> bool:
    """Whether the workload's model servers speak the protocol, as far as can be known."""
    containers = workload.pod.get("containers") or [{}]
    return workload.model.format not in NOT_ASKED and not containers[0].get("image")


def verify(workload: Workload, endpoint: Endpoint) -> float:
    """One inference of a model server, made of the stored signature; how long it took, in seconds.

    Raises:
        RolloutFailed: what answers is another model, or answers nonsense.
        Unreachable: nothing answers.
    """
    model = workload.model
    generator = np.random.default_rng(workload.revision)
    with Asker(endpoint, ANSWERS_S) as asker:
        named = model.format not in OTHER_NAMES
        wrong = differences(model, asker.metadata()) if named else []
        if not wrong:
            try:
                answer = asker.infer(sample(model, generator, workload.server))
            except Unreachable:
                raise
            except CatchmentError as error:
                raise RolloutFailed(f"{workload.key} failed its smoke inference: {error}") from error
            wrong = problems(model, answer) if named else nonsense(answer)
    if wrong:
        raise RolloutFailed(f"{workload.key} is not what its signature says: {'; '.join(wrong)}")
    return answer.seconds


def differences(model: ServedModel, metadata: Mapping[str, Any]) -> list[str]:
    """How what a server says of its model differs from the stored signature; nothing when it does not."""
    found = []
    for side in ("inputs", "outputs"):
        served = {each.get("name"): each for each in metadata.get(side) or ()}
        stored = {each["name"]: each for each in getattr(model, side)}
        if served.keys() != stored.keys():
            found.append(f"{side} are {sorted(map(str, served))}, the signature has {sorted(stored)}")
            continue
        for name, tensor in stored.items():
            found += _different(f"{side} {name!r}", tensor, served[name])
    return found


def _different(named: str, stored: Mapping[str, Any], served: Mapping[str, Any]) -> list[str]:
    found = []
    wanted = DATATYPES.get(str(stored.get("dType")))
    if wanted is not None and served.get("datatype") != wanted:
        found.append(f"{named} is {served.get('datatype')}, the signature says {wanted}")
    sizes, shape = list(stored.get("size") or ()), list(served.get("shape") or ())
    if sizes and shape and not _fit(sizes, shape):
        found.append(f"{named} has the shape {shape}, the signature says {sizes}")
    return found


def _fit(sizes: Sequence[int], shape: Sequence[int]) -> bool:
    return len(sizes) == len(shape) and all(
        one == other or -1 in (one, other) for one, other in zip(sizes, shape, strict=True)
    )


def sample(
    model: ServedModel, generator: np.random.Generator, server: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Inputs that fit the signature: numbers in [0, 1), indices 0 and 1, short texts.

    Args:
        model: with its signature.
        generator: of the numbers.
        server: bounds of the model server; its `smoke_shapes` fill open dimensions, which are 1 otherwise.
    """
    shapes = server.get("smoke_shapes") or {}
    return [_tensor(each, shapes.get(each["name"]), generator) for each in model.inputs]


def _tensor(
    stored: Mapping[str, Any], shape: Sequence[int] | None, generator: np.random.Generator
) -> dict[str, Any]:
    sizes = [int(size) if size >= 0 else 1 for size in stored.get("size") or (1,)]
    sizes = list(shape) if shape is not None else sizes
    datatype = DATATYPES.get(str(stored.get("dType")), "FP32")
    count = math.prod(sizes)
    data: list[Any]
    if datatype == "BYTES":
        data = ["a"] * count
    elif datatype == "BOOL":
        data = [bool(each) for each in generator.integers(0, 2, count)]
    elif "INT" in datatype:
        data = [int(each) for each in generator.integers(0, 2, count)]
    else:
        data = [round(float(each), 4) for each in generator.random(count)]
    return {"name": stored["name"], "datatype": datatype, "shape": sizes, "data": data}


def problems(model: ServedModel, answer: Answer) -> list[str]:
    """What is wrong with an answer: outputs that are missing, of another form, or no numbers."""
    given = {each.get("name"): each for each in answer.outputs}
    found = [f"output {each['name']!r} is missing" for each in model.outputs if each["name"] not in given]
    for each in model.outputs:
        output = given.get(each["name"])
        if output is None:
            continue
        found += _different(f"output {each['name']!r}", each, output)
    return found + nonsense(answer)


def nonsense(answer: Answer) -> list[str]:
    """What is wrong with an answer whatever the model: no outputs, or such without finite numbers."""
    found = [] if answer.outputs else ["it answers no outputs"]
    for output in answer.outputs:
        values = output.get("data") or ()
        if not values:
            found.append(f"output {output.get('name')!r} is empty")
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            found.append(f"output {output.get('name')!r} holds what is no finite number")
    return found
