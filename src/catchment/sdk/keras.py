"""Keras 3 models, by the paths of their weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from catchment.errors import SdkError
from catchment.models.signature import Array, Signature, TensorInfo

_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


class KerasModel:
    """A Keras 3 model on any backend; its tensors are `model.weights`, named by `variable.path`.

    Keras counts neither states of random generators nor those of metrics as weights: a site keeps its own.

    Attributes:
        signature: names, dtypes and shapes in the order of `model.weights`.
    """

    def __init__(self, model: Any) -> None:
        if not model.built or not model.weights:
            raise SdkError(
                f"the Keras model '{model.name}' has no weights yet; begin it with keras.Input, "
                "call model.build(input_shape), or call it on a batch first"
            )
        self._variables: dict[str, Any] = {}
        for variable in model.weights:
            if variable.path in self._variables:
                raise SdkError(f"two weights of the model are named '{variable.path}'; name the layers apart")
            self._variables[variable.path] = variable
        self.signature: Signature = {path: _info(path, item) for path, item in self._variables.items()}

    def parameters(self) -> Iterable[tuple[str, Any]]:
        """The variables that an optimizer may train."""
        return [(path, variable) for path, variable in self._variables.items() if variable.trainable]

    def align(self, names: Iterable[str]) -> dict[str, str]:
        """Names match where they are equal, or where one only has more scopes in front.

        How a model was made decides whether Keras puts the name of a surrounding Sequential there:
        `sequential/dense/kernel` becomes `dense/kernel` when the same model is loaded from a file.
        """
        wanted = list(names)
        matched = {name: name for name in wanted if name in self._variables}
        own_by_end: dict[str, list[str]] = defaultdict(list)
        for own in self._variables.keys() - matched.keys():
            own_by_end[_end(own)].append(own)
        pairs = {
            name: [own for own in own_by_end[_end(name)] if _same_end(name, own)]
            for name in wanted
            if name not in matched
        }
        uses = [own for candidates in pairs.values() for own in candidates]
        for name, candidates in pairs.items():
            # Only what is unambiguous in both directions.
            if len(candidates) == 1 and uses.count(candidates[0]) == 1:
                matched[name] = candidates[0]
        return matched

    def read(self, name: str) -> Array:
        """The variable's values."""
        value = self._variables[name].value
        halved = self.signature[name].dtype in ("F16", "BF16")
        if keras.backend.backend() == "torch":  # a view, where Keras' own conversion copies
            array: Array = (value.detach().float() if halved else value.detach()).cpu().numpy()
            return array
        array = np.asarray(keras.ops.convert_to_numpy(value))
        return array.astype(np.float32) if halved else array

    def assign(self, values: Mapping[str, Array]) -> None:
        """Assign the arrays to the variables."""
        for name, array in values.items():
            self._variables[name].assign(np.require(array, requirements=["ALIGNED", "WRITEABLE"]))


def _info(path: str, variable: Any) -> TensorInfo:
    dtype = _DTYPES.get(str(variable.dtype))
    if dtype is None:
        raise SdkError(f"weight '{path}' is {variable.dtype}; only plain numbers can be federated")
    return TensorInfo(dtype, tuple(variable.shape))


def _end(path: str) -> str:
    """The layer's and the variable's name."""
    return "/".join(path.split("/")[-2:])


def _same_end(one: str, other: str) -> bool:
    return one.endswith(f"/{other}") or other.endswith(f"/{one}")
