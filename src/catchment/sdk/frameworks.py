"""What the SDK needs of a framework's model, and which framework a model is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from catchment.errors import SdkError
from catchment.models.signature import Array, Signature


class LiveModel(Protocol):
    """A model in this process."""

    @property
    def signature(self) -> Signature:
        """Its tensors, under its own names."""

    def parameters(self) -> Iterable[tuple[str, Any]]:
        """The model's own name -> the framework's object, for what optimizers work on; tied ones repeat."""

    def align(self, names: Iterable[str]) -> dict[str, str]:
        """Name in a tensor file -> the model's own name, for all names that the model has."""

    def read(self, name: str) -> Array:
        """The values of a tensor in its shape; float32 for float16 and bfloat16. May be a view."""

    def assign(self, values: Mapping[str, Array]) -> None:
        """Set all tensors, in place, from arrays under the model's own names."""


def live_model(model: Any) -> LiveModel:
    """`model` behind the one interface; imports its framework and no other.

    Raises:
        SdkError: it is neither a torch module nor a Keras 3 model, or cannot be federated.
    """
    # Keras first: on its torch backend a Keras model is a torch module as well.
    if _is_a(model, "keras", "Model"):
        from catchment.sdk.keras import KerasModel

        return KerasModel(model)
    if _is_a(model, "torch", "Module"):
        from catchment.sdk.pytorch import TorchModel, unwrapped

        inner = unwrapped(model)
        return TorchModel(inner) if inner is model else live_model(inner)
    given = f"{type(model).__module__}.{type(model).__name__}"
    raise SdkError(f"a model must be a torch.nn.Module or a keras.Model, not a {given}")


def _is_a(model: Any, package: str, name: str) -> bool:
    return any(
        base.__name__ == name and base.__module__.split(".")[0] == package for base in type(model).__mro__
    )
