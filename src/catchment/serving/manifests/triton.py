"""Triton's `config.pbtxt` from a model's stored signature.

The fields are those of NVIDIA's `model_config.proto`, written in protobuf's text form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catchment.errors import InvalidField

PLATFORMS: Mapping[str, str] = {
    "ONNX": "onnxruntime_onnx",
    "SavedModel": "tensorflow_savedmodel",
    "TorchScript": "pytorch_libtorch",
    "GraphDef": "tensorflow_graphdef",
    "NetDef": "caffe2_netdef",
    "TensorRT": "tensorrt_plan",
}
DATA_TYPES: Mapping[str, str] = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "string": "TYPE_STRING",
    # numpy's name of strings, and what people write for it.
    "object": "TYPE_STRING",
    "bytes": "TYPE_STRING",
    "str": "TYPE_STRING",
}
"""A signature's dType -> Triton's; every type that a tensor of the protocol can have."""
Tensors = Sequence[Mapping[str, Any]]


def config_pbtxt(name: str, format_name: str, inputs: Tensors, outputs: Tensors) -> str:
    """The text of a model's config.

    Sizes are whole shapes, so the model is said to batch nothing by itself (max_batch_size 0).

    Args:
        name: of the model, which is its folder's too.
        format_name: as `models.formats` spells it.
        inputs, outputs: `{"name", "dType", "size"}`; -1 is an open dimension.

    Raises:
        InvalidField: Triton has no platform for the format, a tensor has no name, a type that Triton lacks or
            a dimension that is none, or there is no signature.
    """
    platform = PLATFORMS.get(format_name)
    if platform is None:
        raise InvalidField("format", f"Triton serves {', '.join(PLATFORMS)}, not {format_name}")
    if format_name == "TorchScript":
        _check_numbered(outputs)
    lines = [f"name: {_quoted(name)}", f"platform: {_quoted(platform)}", "max_batch_size: 0"]
    for kind, field, tensors in (("input", "inputs", inputs), ("output", "outputs", outputs)):
        if not tensors:
            raise InvalidField(
                f"signature.{field}", "is empty; extract the model's signature, or register one"
            )
        for number, tensor in enumerate(tensors):
            lines += _tensor(kind, tensor, f"signature.{field}[{number}]")
    return "\n".join(lines) + "\n"


def data_type(name: object, field: str) -> str:
    """Triton's name of a dType. Raises InvalidField for one that it has not."""
    found = DATA_TYPES.get(str(name).lower())
    if found is None:
        raise InvalidField(
            field, f"Triton has no type for {str(name)[:40]!r}; it has {', '.join(DATA_TYPES)}"
        )
    return found


def _tensor(kind: str, tensor: Mapping[str, Any], field: str) -> list[str]:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidField(f"{field}.name", "is empty; Triton knows tensors by their names")
    dims = _dims(tensor.get("size") or (), f"{field}.size")
    # A scalar has no dimension, which Triton refuses to read: it is said to be a vector of one.
    shape = [f"  dims: [ {dims or 1} ]"] + ([] if dims else ["  reshape { shape: [ ] }"])
    kinds = data_type(tensor.get("dType"), f"{field}.dType")
    return [f"{kind} {{", f"  name: {_quoted(name)}", f"  data_type: {kinds}", *shape, "}"]


def _dims(size: Sequence[Any], field: str) -> str:
    for each in size:
        if isinstance(each, bool) or not isinstance(each, int) or (each < 1 and each != -1):
            raise InvalidField(field, f"{each!r} is no dimension: at least 1, or -1 for an open one")
    return ", ".join(map(str, size))


def _check_numbered(outputs: Tensors) -> None:
    """TorchScript has no names for what a model returns, so Triton takes the number after two underscores.

    Raises:
        InvalidField: a name has none. Another name would be no help: clients ask by the signature's.
    """
    for place, each in enumerate(outputs):
        if not _ends_in_number(str(each.get("name", ""))):
            raise InvalidField(
                f"signature.outputs[{place}].name",
                f"{str(each.get('name'))[:60]!r} must end in its number for Triton to serve it, such as "
                f"OUTPUT__{place}; or convert the model to ONNX",
            )


def _ends_in_number(name: str) -> bool:
    head, found, number = name.rpartition("__")
    return bool(head and found) and number.isascii() and number.isdecimal()


def _quoted(text: str) -> str:
    """A string of protobuf's text form; what is not printable ASCII goes as the bytes of its UTF-8."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if " " <= char <= "~" else "".join(f"\\{byte:03o}" for byte in char.encode())
