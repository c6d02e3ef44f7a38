"""Inferences from and to gRPC messages: values in typed fields, or raw bytes beside the tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from catchment.errors import InvalidField
from catchment.model_server.datatypes import Array, Datatype
from catchment.model_server.grpc_messages import CLASSES
from catchment.model_server.rest_messages import check_output, refuse_parameters
from catchment.model_server.tensors import (
    InferRequest,
    Tensor,
    TensorSpec,
    check_fits,
    check_shape,
    find_datatype,
    from_bytes,
    text,
    to_bytes,
)


def read_request(message: Any, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> InferRequest:
    """The request that a ModelInferRequest states, checked against the model.

    Raises:
        InvalidField: names what is wrong.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidField("raw_input_contents", f"has {len(raw)} parts for {len(message.inputs)} inputs")
    refuse_parameters(message.parameters, "request")
    tensors: dict[str, Tensor] = {}
    for index, each in enumerate(message.inputs):
        if each.name in tensors:
            raise InvalidField(f"inputs.{index}.name", f"{each.name!r:.200} is given twice")
        tensors[each.name] = _read_input(each, raw[index] if raw else None, f"inputs.{index}")
    check_fits(tensors, inputs)
    return InferRequest(tensors, _read_outputs(message, outputs), message.id)


def _read_input(given: Any, raw: bytes | None, where: str) -> Tensor:
    datatype = find_datatype(given.datatype, where)
    shape = check_shape(tuple(given.shape), where)
    refuse_parameters(given.parameters, where)
    if raw is not None:
        if given.HasField("contents"):
            raise InvalidField(f"{where}.contents", "must not be there beside raw_input_contents")
        return Tensor(given.name, datatype, from_bytes(raw, datatype, shape, where))
    return Tensor(given.name, datatype, _from_contents(given.contents, datatype, shape, where))


def _from_contents(contents: Any, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    if datatype.contents is None:
        raise InvalidField(f"{where}.contents", f"{datatype.name} must come in raw_input_contents")
    strange = [field.name for field, _ in contents.ListFields() if field.name != datatype.contents]
    if strange:
        raise InvalidField(f"{where}.contents", f"{datatype.name} must be in {datatype.contents}")
    values = getattr(contents, datatype.contents)
    if len(values) != math.prod(shape):
        problem = f"has {len(values)} values, shape {list(shape)} {math.prod(shape)}"
        raise InvalidField(f"{where}.contents", problem)
    if datatype.kind == "bytes":
        array = np.empty(len(values), object)
        array[:] = [text(each, f"{where}.contents") for each in values]
        return array.reshape(shape)
    try:
        return np.array(values, datatype.carrier).reshape(shape)
    except OverflowError:
        raise InvalidField(f"{where}.contents", f"holds a number that does not fit {datatype.name}") from None


def _read_outputs(message: Any, known: Sequence[str]) -> Sequence[str]:
    wanted: list[str] = []
    for index, each in enumerate(message.outputs):
        check_output(each.name, known, wanted, f"outputs.{index}")
        refuse_parameters(each.parameters, f"outputs.{index}")
        wanted.append(each.name)
    return wanted or known


def write_reply(name: str, version: str, request: InferRequest, tensors: Sequence[Tensor]) -> Any:
    """The ModelInferResponse; values always go as raw bytes, as Triton's and KServe's do."""
    reply = CLASSES["ModelInferResponse"](model_name=name, model_version=version, id=request.id)
    for tensor in tensors:
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=tensor.array.shape)
        reply.raw_output_contents.append(to_bytes(tensor))
    return reply
