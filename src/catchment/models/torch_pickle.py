"""A restricted reader of the pickle in a PyTorch file: it makes dicts and tensors, and calls nothing else."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from catchment.errors import BadTensors, UnsafeFile

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "UntypedStorage": "U8",
}
_DTYPES = {"uint16": "U16", "uint32": "U32", "uint64": "U64"}

_UNSUPPORTED = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors; store them with .to_dense()",
    "torch._utils._rebuild_qtensor": "quantised tensors; store them with .dequantize()",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors on the device 'meta', which have no values",
}
_UNSUPPORTED_STORAGES = ("Complex", "QInt", "QUInt", "Float8")

_HOSTILE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
    MemoryError,
    RecursionError,
    struct.error,
)
"""What the pickle machine raises on a stream that is damaged or made to break it."""


@dataclass(frozen=True, slots=True)
class StorageRef:
    """Values of one storage, still in the file: `key` names the archive's entry."""

    key: str
    dtype: str
    num_elements: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A view of a storage, offset and strides in elements."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that is only ever an argument: a storage type or a dtype."""

    dtype: str
    untyped: bool = False


class _Builder:
    """A global that a stream may call. It has no state, so a stream cannot change what it does."""

    __slots__ = ()


class _RebuildTensor(_Builder):
    def __call__(
        self,
        storage: StorageRef,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *rest: Any,
    ) -> TensorRef:
        _requires_grad, _hooks, *metadata = rest
        return _tensor(storage, storage.dtype, (offset, shape, strides), metadata)


class _RebuildTensorOfDtype(_Builder):
    def __call__(
        self,
        storage: StorageRef,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *rest: Any,
    ) -> TensorRef:
        _requires_grad, _hooks, dtype, *metadata = rest
        return _tensor(storage, dtype.dtype, (offset, shape, strides), metadata)


class _RebuildParameter(_Builder):
    def __call__(
        self, data: TensorRef, _requires_grad: bool = True, _hooks: Any = None, _state: Any = None
    ) -> TensorRef:
        if not isinstance(data, TensorRef):
            raise BadTensors("a parameter without a tensor")
        return data


_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _RebuildTensor(),
    "torch._utils._rebuild_tensor_v3": _RebuildTensorOfDtype(),
    "torch._utils._rebuild_parameter": _RebuildParameter(),
    "torch._utils._rebuild_parameter_with_state": _RebuildParameter(),
    "torch.storage.UntypedStorage": _Name("U8", untyped=True),
    **{f"torch.{name}": _Name(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": _Name(dtype) for name, dtype in _DTYPES.items()},
}


def load_structure(stream: bytes) -> Any:
    """The dicts, lists and plain values of a PyTorch pickle, with a TensorRef for each tensor.

    Raises:
        UnsafeFile: the stream names a global that is not needed for tensors; the message names it.
        BadTensors: the stream is damaged, or holds tensors of a kind that cannot be trained in a federation.
    """
    try:
        return _Restricted(io.BytesIO(stream), encoding="utf-8").load()
    except _HOSTILE as error:
        raise BadTensors(f"the pickle inside is damaged ({type(error).__name__}: {error})") from None


# The machine in Python, not the one in C: the latter allocates whatever memo index a stream names.
class _Restricted(pickle._Unpickler):
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in _GLOBALS:
            raise _refusal(wanted)
        return _GLOBALS[wanted]

    def persistent_load(self, saved_id: Any) -> StorageRef:
        kind, storage_type, key, _location, num_elements = saved_id
        if kind != "storage" or not isinstance(storage_type, _Name) or not isinstance(key, str):
            raise BadTensors("the pickle inside refers to something that is no storage")
        if type(num_elements) is not int or num_elements < 0:
            raise BadTensors(f"storage {key}: a size of {num_elements}")
        return StorageRef(key, storage_type.dtype, num_elements)

    def get_extension(self, code: int) -> NoReturn:
        raise UnsafeFile(f"the file wants to load the registered extension {code}")

    def load_build(self) -> None:
        """Drop the state that a stream gives to an object: of a state dict it is its `_metadata`.

        The machine's own way would call the object's `__setstate__`, with which a stream could
        change the entries of _GLOBALS for all files that are read later.
        """
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            raise UnsafeFile("the file wants to set the state of an object that is no state dict")

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}


def _refusal(wanted: str) -> BadTensors:
    if wanted in _UNSUPPORTED:
        return BadTensors(f"the file holds {_UNSUPPORTED[wanted]}")
    if wanted.startswith(tuple(f"torch.{kind}" for kind in _UNSUPPORTED_STORAGES)) or (
        wanted.startswith(("torch.float8", "torch.complex", "torch.q"))
    ):
        return BadTensors(f"the file holds tensors of a dtype that is not supported ({wanted})")
    return UnsafeFile(
        f"loading the file would run '{wanted}', which Catchment never does; "
        "save the weights alone: torch.save(model.state_dict(), path)"
    )


def _tensor(
    storage: StorageRef,
    dtype: str,
    layout: tuple[int, tuple[int, ...], tuple[int, ...]],
    metadata: list[Any],
) -> TensorRef:
    offset, shape, strides = layout
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, StorageRef) or any(
        type(number) is not int or number < 0 for number in numbers
    ):
        raise BadTensors("a tensor whose storage, offset, shape or strides are no such thing")
    if len(shape) != len(strides):
        raise BadTensors(f"a tensor with {len(shape)} dimensions and {len(strides)} strides")
    if any(metadata):
        raise BadTensors("tensors with pending conjugation or negation; store them with .resolve_neg()")
    return TensorRef(storage, dtype, offset, tuple(shape), tuple(strides))
