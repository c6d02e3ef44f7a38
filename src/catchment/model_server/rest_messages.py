"""Bodies of REST: JSON, and JSON followed by the raw bytes of tensors (the binary tensor extension)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from catchment.errors import InvalidField
from catchment.model_server.json_values import from_values, to_values
from catchment.model_server.tensors import (
    InferRequest,
    Tensor,
    TensorSpec,
    check_fits,
    check_shape,
    find_datatype,
    from_bytes,
    to_bytes,
)

REFUSED_PARAMETERS = frozenset({"shared_memory_region", "classification"})
"""To ignore these would give another answer than the client asked for."""
_REQUEST = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_INPUT = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT = frozenset({"name", "parameters", "shape", "datatype", "data"})


def read_request(
    body: bytes, json_length: str | None, inputs: Sequence[TensorSpec], outputs: Sequence[str]
) -> InferRequest:
    """The request that a body states, checked against the model.

    Args:
        body: all of it.
        json_length: the header Inference-Header-Content-Length, where it is there.
        inputs: what the model asks for.
        outputs: what it can give.

    Raises:
        InvalidField: names what is wrong.
    """
    head, rest = _split(body, json_length)
    document = _object(_parse(head), "body", _REQUEST)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise InvalidField("id", "must be a string")
    tensors: dict[str, Tensor] = {}
    at = 0
    for index, each in enumerate(_list(document.get("inputs"), "inputs")):
        tensor, at = _read_input(_object(each, f"inputs.{index}", _INPUT), f"inputs.{index}", rest, at)
        if tensor.name in tensors:
            raise InvalidField(f"inputs.{index}.name", f"{tensor.name!r:.200} is given twice")
        tensors[tensor.name] = tensor
    if at != len(rest):
        raise InvalidField("body", f"has {len(rest) - at} bytes that belong to no input")
    check_fits(tensors, inputs)
    wanted, binary = _read_outputs(document, outputs)
    return InferRequest(tensors, wanted, identity, binary)


def _split(body: bytes, json_length: str | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if json_length is None:
        return view, view[len(view) :]
    if not (json_length.isascii() and json_length.isdigit() and len(json_length) <= 12):
        raise InvalidField("Inference-Header-Content-Length", "must be a number of bytes")
    length = int(json_length)
    if length > len(view):
        raise InvalidField(
            "Inference-Header-Content-Length", f"is {length}, but the body has {len(view)} bytes"
        )
    return view[:length], view[length:]


def _parse(head: memoryview) -> object:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise InvalidField("body", f"is no JSON: {error}") from None


def _read_input(given: dict[str, Any], where: str, rest: memoryview, at: int) -> tuple[Tensor, int]:
    name = given.get("name")
    if not isinstance(name, str):
        raise InvalidField(f"{where}.name", "must be a string")
    datatype = find_datatype(given.get("datatype"), where)
    shape = check_shape(given.get("shape"), where)
    size = _parameters(given, where).get("binary_data_size")
    if size is None:
        return Tensor(name, datatype, from_values(given.get("data"), datatype, shape, where)), at
    if "data" in given:
        raise InvalidField(f"{where}.data", "must not be there beside binary_data_size")
    if type(size) is not int or size < 0 or at + size > len(rest):
        problem = f"must be a number of bytes; {len(rest) - at} are left in the body"
        raise InvalidField(f"{where}.parameters.binary_data_size", problem)
    return Tensor(name, datatype, from_bytes(rest[at : at + size], datatype, shape, where)), at + size


def _read_outputs(document: dict[str, Any], known: Sequence[str]) -> tuple[Sequence[str], frozenset[str]]:
    binary_all = _flag(_parameters(document, "body"), "binary_data_output", "parameters", default=False)
    asked = _list(document.get("outputs") or [], "outputs")
    if not asked:
        return known, frozenset(known if binary_all else ())
    wanted: list[str] = []
    binary: set[str] = set()
    for index, each in enumerate(asked):
        where = f"outputs.{index}"
        given = _object(each, where, _OUTPUT)
        name = given.get("name")
        check_output(name, known, wanted, where)
        wanted.append(str(name))
        if _flag(_parameters(given, where), "binary_data", f"{where}.parameters", default=binary_all):
            binary.add(str(name))
    return wanted, frozenset(binary)


def check_output(name: object, known: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Refuse an output that the model has not, or that is asked for twice. Raises InvalidField."""
    if name not in known:
        raise InvalidField(f"{where}.name", f"must be one of {', '.join(map(repr, known))}")
    if name in wanted:
        raise InvalidField(f"{where}.name", f"{name!r} is asked for twice")


def _object(value: object, where: str, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidField(where, "must be an object")
    strange = value.keys() - known
    if strange:
        raise InvalidField(
            where, f"must not hold {min(strange)!r:.200}; known are {', '.join(sorted(known))}"
        )
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidField(where, "must be a list")
    return value


def _parameters(given: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidField(f"{where}.parameters", "must be an object")
    refuse_parameters(parameters, where)
    return parameters


def refuse_parameters(parameters: Mapping[str, Any], where: str) -> None:
    """Raises InvalidField for a parameter that would change the answer and is not supported here."""
    for name in REFUSED_PARAMETERS & parameters.keys():
        raise InvalidField(f"{where}.parameters.{name}", "is not supported by this server")


def _flag(parameters: dict[str, Any], name: str, where: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidField(f"{where}.{name}", "must be true or false")
    return value


def write_reply(
    name: str, version: str, request: InferRequest, tensors: Sequence[Tensor]
) -> tuple[bytes, int | None]:
    """A reply's body, and how much of it is JSON where raw bytes follow.

    Raises:
        InvalidField: a value that JSON cannot carry.
    """
    raw: list[bytes] = []
    outputs = []
    for tensor in tensors:
        described: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.name,
            "shape": tensor.array.shape,
        }
        if tensor.name in request.binary:
            raw.append(to_bytes(tensor))
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            described["data"] = to_values(tensor)
        outputs.append(described)
    document: dict[str, Any] = {"model_name": name, "model_version": version}
    if request.id:
        document["id"] = request.id
    head = orjson.dumps({**document, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *raw)), len(head)) if raw else (head, None)
