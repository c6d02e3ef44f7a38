"""FedProx, SCAFFOLD and FedDC for Keras 3 on its torch backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, TensorInfo
from catchment.sdk.algorithms import OptimizerWish
from catchment.sdk.client_state import DRIFT, States, states
from catchment.sdk.session import LossTerms, Session, Steps
from catchment.wire.task import WEIGHTS


def optimizer(session: Session, wish: OptimizerWish) -> Any:
    """A Keras optimizer whose update step is changed, and counted.

    Raises:
        SdkError: another backend than torch, or SCAFFOLD on another optimizer than plain SGD.
    """
    _check_backend()
    base = wish.base or keras.optimizers.SGD
    if wish.name == "scaffold":
        if base is not keras.optimizers.SGD or wish.further.get("momentum"):
            raise SdkError("SCAFFOLD works with plain SGD only: no other optimizer, no momentum")
        if session.wants_gradients:
            raise SdkError("SCAFFOLD's option 1 is for PyTorch; Keras has option 2")
    made = base(learning_rate=wish.learning_rate, **wish.further)
    StepChange(made, session, wish)
    return made


class StepChange:
    """Stands before an optimizer's update step, behind clipping: gradients change and steps are counted."""

    def __init__(self, optimizer: Any, session: Session, wish: OptimizerWish) -> None:
        self._session = session
        self._steps: dict[tuple[int, ...], Steps] = {}
        self._update: Callable[..., None] = optimizer._backend_update_step
        self._mu = wish.mu if wish.name == "fedprox" else 0.0
        self._fixed: dict[int, Any] = {}
        if self._mu > 0:
            self._fixed = fixed_of(session, wish.model, _weights)
        elif wish.name == "scaffold":
            self._fixed = fixed_of(session, wish.model, _shift)
        optimizer._backend_update_step = self

    def __call__(self, grads: list[Any], variables: list[Any], learning_rate: Any) -> None:
        """One step."""
        changed = [self._changed(*pair) for pair in zip(grads, variables, strict=True)]
        self._update(changed, variables, learning_rate)
        key = tuple(map(id, variables))
        if key not in self._steps:
            self._steps[key] = self._session.group(variables)
            if not self._steps[key].names:
                raise SdkError("the optimizer trains another model than fl.load_weights loaded")
        self._steps[key].made(float(learning_rate))

    def _changed(self, gradient: Any, variable: Any) -> Any:
        fixed = self._fixed.get(id(variable))
        if fixed is None:
            return gradient
        fixed = fixed.to(gradient.device)
        if self._mu > 0:
            return gradient + self._mu * (variable.value.detach() - fixed)
        return gradient + fixed


def feddc(session: Session, model: Any, origin: Any, terms: LossTerms) -> Any:
    """The loss, with w^t, h_k, c and c_k of the session's task.

    Raises:
        SdkError: another backend than torch, or a job whose strategy is not FedDC.
    """
    _check_backend()
    if session.algorithm != "feddc":
        raise SdkError("FedDC's loss needs a job whose strategy is FedDC")
    variables = [variable for variable in model.trainable_variables if session.names_of(variable)]
    centres = fixed_of(session, model, _centre)
    shifts = fixed_of(session, model, _shift)
    pulls = [(one, centres[id(one)], shifts.get(id(one))) for one in variables if id(one) in centres]
    return FedDCLoss(keras.losses.get(origin or "categorical_crossentropy"), pulls, terms)


class FedDCLoss(keras.losses.Loss):  # type: ignore[misc]  # mypy does not read keras
    """`f(...) + alpha/2 * |w - (w^t - h_k)|^2 + <w, c - c_k>` (Gao et al. 2022), for one client and round."""

    def __init__(self, origin: Any, pulls: list[tuple[Any, Any, Any]], terms: LossTerms) -> None:
        super().__init__(name="feddc")
        self._origin = origin
        self._pulls = pulls
        self._terms = terms

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The whole loss; the mean of f over the batch where f gives one number a sample."""
        import torch

        if isinstance(self._origin, keras.losses.Loss):
            loss = self._origin(y_true, y_pred, sample_weight)
        else:
            loss = self._origin(y_true, y_pred)
            loss = keras.ops.mean(loss if sample_weight is None else loss * sample_weight)
        if torch.is_grad_enabled():
            self._terms.calls += 1
        for variable, centre, shift in self._pulls:
            value = variable.value
            loss = loss + (value - centre.to(value.device)).square().sum() * (self._terms.alpha / 2)
            if shift is not None:
                loss = loss + (value * shift.to(value.device)).sum()
        return loss


Fixed = Callable[[TensorFile, States, str, TensorInfo], Array | None]


def fixed_of(session: Session, model: Any, fixed: Fixed) -> dict[int, Any]:
    """id of a shared variable -> what the round fixes of it, as a tensor like the variable's value."""
    from catchment.sdk.torch_optimizers import like

    found_of = {}
    with (
        TensorFile.open(session.folder / WEIGHTS, copy_on_write=True) as weights,
        states(session.folder) as found,
    ):
        shared = frozenset(session.parts(weights.signature).shared)
        for variable in model.trainable_variables:
            names = session.names_of(variable)
            if names and names[0] in shared:
                array = fixed(weights, found, names[0], weights.signature[names[0]])
                if array is not None:
                    found_of[id(variable)] = like(array, variable.value)
    return found_of


def _weights(weights: TensorFile, found: States, name: str, info: TensorInfo) -> Array:
    return weights.values(name)


def _shift(weights: TensorFile, found: States, name: str, info: TensorInfo) -> Array | None:
    return found.control_shift(name, info)


def _centre(weights: TensorFile, found: States, name: str, info: TensorInfo) -> Array:
    centre: Array = weights.values(name) - found.own.values(DRIFT + name, info)
    return centre


def _check_backend() -> None:
    if keras.backend.backend() != "torch":
        raise SdkError(
            f"FedProx, SCAFFOLD, FedDC and counted steps need Keras' torch backend, not "
            f"{keras.backend.backend()}; set KERAS_BACKEND=torch"
        )
