"""Tensors in a PyTorch pickle that was taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.pickles import Call, Global, Persistent, refusal
from catchment.formats.extract.result import sizes

MAX_PICKLE_BYTES = 64 * 2**20

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "UntypedStorage": "uint8",
}
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_OTHERS = ("_rebuild_sparse_tensor", "_rebuild_device_tensor_from_numpy", "_rebuild_meta_tensor_no_storage")
_UTILS = "torch._utils"
_SAVE_AGAIN = "save the weights alone: torch.save(model.state_dict(), path)"

Spec = tuple[str, tuple[int, ...]]
"""Dtype and shape."""


def check(found: Global) -> None:
    """Let pass what tensors are made of.

    Raises:
        ExtractionFailed: it is something else.
    """
    if not is_of_tensors(found):
        raise refusal(found, _SAVE_AGAIN)


def is_of_tensors(found: Global) -> bool:
    """Whether tensors and the dicts around them need this global."""
    if found.module == "torch":
        # Storages, and types such as torch.float8_e5m2, torch.Size, torch.per_tensor_affine.
        return found.name in _STORAGES or found.name in ("Size", "device") or _is_dtype(found.name)
    if found.module == _UTILS:
        return found.name in (*_TENSORS, *_PARAMETERS, *_OTHERS)
    return str(found) in (
        "collections.OrderedDict",
        "torch.storage.UntypedStorage",
        "torch.serialization._get_layout",
    )


def _is_dtype(name: str) -> bool:
    kinds = (
        "float",
        "bfloat",
        "int",
        "uint",
        "complex",
        "bool",
        "qint",
        "quint",
        "per_tensor",
        "per_channel",
    )
    return name.startswith(kinds)


def tensor(value: Any) -> Spec | None:
    """Dtype and shape when the value is a tensor, else None.

    Raises:
        ExtractionFailed: it is made like a tensor, of something that is none.
    """
    if (
        not isinstance(value, Call)
        or not isinstance(value.function, Global)
        or value.function.module != _UTILS
    ):
        return None
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    if value.function.name in _PARAMETERS:
        return tensor(arguments[0]) if arguments else None
    if value.function.name not in _TENSORS or len(arguments) < 4:
        return None
    named = [each for each in arguments[4:] if isinstance(each, Global) and _is_dtype(each.name)]
    dtype = named[0].name if named and value.function.name == "_rebuild_tensor_v3" else _dtype(arguments[0])
    shape = sizes(arguments[2], "a tensor")
    if min(shape, default=0) < 0:
        raise ExtractionFailed(f"a tensor of the shape {list(shape)} cannot be")
    return dtype, shape


def _dtype(storage: Any) -> str:
    """Of a reference ("storage", type, key, location, number of elements)."""
    parts = storage.id if isinstance(storage, Persistent) else None
    if not isinstance(parts, tuple) or len(parts) < 5 or not isinstance(parts[1], Global):
        raise ExtractionFailed("a tensor refers to something that is no storage")
    return _STORAGES.get(parts[1].name, "")


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The named values inside a dict, list or object; none for all else."""
    if isinstance(value, Call):
        value = value.entries or value.state
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield str(index), item


def tensors(root: Any, max_tensors: int = 200_000) -> dict[str, Spec]:
    """All tensors below a value, named by the way to them, in order; each container is entered once."""
    found: dict[str, Spec] = {}
    entered: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        name, value = waiting.pop()
        spec = tensor(value)
        if spec is not None:
            found[name] = spec
            if len(found) > max_tensors:
                raise ExtractionFailed(f"the file holds more than {max_tensors} tensors")
        elif isinstance(value, (Call, dict, list, tuple)) and id(value) not in entered:
            entered.add(id(value))
            inner = [(f"{name}.{key}" if name else key, item) for key, item in members(value)]
            waiting += reversed(inner)
    return found
