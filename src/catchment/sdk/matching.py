"""Which tensor of a model is which of the round's weights."""

from __future__ import annotations

from catchment.errors import SdkError
from catchment.models.signature import Signature, TensorInfo
from catchment.models.updates import signature_problems
from catchment.sdk.frameworks import LiveModel


def aligned(live: LiveModel, weights: Signature) -> dict[str, str]:
    """Name in the round's weights -> name in the model, for all of them.

    Raises:
        SdkError: tensors are missing, left over, or of another shape or kind.
    """
    names = live.align(weights)
    model_names = {own: name for name, own in names.items()}
    found = {model_names.get(own, own): _as_kind(info) for own, info in live.signature.items()}
    problems = signature_problems(found, {name: _as_kind(info) for name, info in weights.items()})
    if problems:
        raise SdkError("the model differs from the round's weights: " + "; ".join(problems))
    return names


def _as_kind(info: TensorInfo) -> TensorInfo:
    """A model may train in another precision than the weights have, not in another kind of number."""
    return TensorInfo("F64" if info.is_float else "BOOL" if info.dtype == "BOOL" else "I64", info.shape)
