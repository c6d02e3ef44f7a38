"""PyTorch modules, by their state dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from catchment.errors import SdkError
from catchment.models.signature import Array, Signature, TensorInfo

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def unwrapped(model: Any) -> Any:
    """The module inside DataParallel, DistributedDataParallel or torch.compile's wrapper, else `model`."""
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    if isinstance(model, wrappers):
        return model.module
    if type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod"):
        return model._orig_mod
    return model


class TorchModel:
    """A torch module; its tensors are those of `state_dict()`, so without non-persistent buffers.

    Attributes:
        signature: names, dtypes and shapes in the state dict's order.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._state: dict[str, Any] = module.state_dict()
        self.signature: Signature = {name: _info(name, tensor) for name, tensor in self._state.items()}

    def parameters(self) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The module's parameters that are in its state dict."""
        named: Iterable[tuple[str, torch.nn.Parameter]] = self._module.named_parameters(
            remove_duplicate=False
        )
        return [(name, parameter) for name, parameter in named if name in self.signature]

    def align(self, names: Iterable[str]) -> dict[str, str]:
        """Names of a state dict mean the same everywhere."""
        return {name: name for name in names if name in self.signature}

    def read(self, name: str) -> Array:
        """The tensor's values on the CPU."""
        tensor = self._state[name].detach().resolve_conj().resolve_neg().cpu()
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor = tensor.float()
        array: Array = tensor.numpy()
        return array

    def assign(self, values: Mapping[str, Array]) -> None:
        """Load the arrays as a state dict, strictly, so that hooks of the module are honoured."""
        self._module.load_state_dict({name: _tensor(array) for name, array in values.items()})


def _info(name: str, tensor: Any) -> TensorInfo:
    if not isinstance(tensor, torch.Tensor):
        raise SdkError(f"'{name}' of the state dict is a {type(tensor).__name__}, not a tensor")
    if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
        raise SdkError(f"tensor '{name}' has no values yet; call the module on a batch first")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in _DTYPES:
        kind = "quantised" if tensor.is_quantized else f"{tensor.layout} {tensor.dtype}"
        raise SdkError(f"tensor '{name}' is {kind}; only dense tensors of plain numbers can be federated")
    return TensorInfo(_DTYPES[tensor.dtype], tuple(tensor.shape))


def _tensor(array: Array) -> torch.Tensor:
    # torch takes aligned memory only; in a file a tensor may begin anywhere.
    return torch.from_numpy(np.require(array, requirements=["ALIGNED", "WRITEABLE"]))
