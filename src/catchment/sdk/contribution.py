"""What an algorithm adds to a client's update and to what the client keeps: one formula a class."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catchment.errors import SdkError
from catchment.models.signature import Array, TensorInfo
from catchment.sdk.client_state import States
from catchment.sdk.session import Session
from catchment.strategies.vectors import CONTROL

logger = logging.getLogger("catchment.sdk")

Floats = NDArray[np.float64]


class ControlRule(Protocol):
    """How much a client's control variate changes in a round: c_k' - c_k."""

    def trains(self, name: str) -> bool:
        """Whether the tensor was trained; the control variate of others stays zero."""

    def change(self, name: str, info: TensorInfo, start: int, stop: int, moved: Array) -> Floats:
        """Elements `start` to `stop` of the change; `moved` is w_k - w^t there."""


class FullGradient:
    """Option I: c_k' is the gradient of the client's loss at the round's weights."""

    def __init__(self, states: States, gradients: dict[str, Array]) -> None:
        self._states, self._gradients = states, gradients

    def trains(self, name: str) -> bool:
        """Whether there is a gradient of the tensor."""
        return name in self._gradients

    def change(self, name: str, info: TensorInfo, start: int, stop: int, moved: Array) -> Floats:
        """grad f_k(w^t) - c_k."""
        gradient = self._gradients[name].reshape(-1)[start:stop].astype(np.float64)
        return gradient - self._states.own.block(CONTROL + name, info, start, stop)


class MeanGradient:
    """Option II: c_k' = c_k - c + (w^t - w_k) / (sum of the learning rates of the steps made)."""

    def __init__(self, states: States, rates: dict[str, float]) -> None:
        self._states, self._rates = states, rates

    def trains(self, name: str) -> bool:
        """Whether steps were made on the tensor."""
        return self._rates.get(name, 0.0) > 0

    def change(self, name: str, info: TensorInfo, start: int, stop: int, moved: Array) -> Floats:
        """(w^t - w_k) / sum of learning rates - c."""
        control = self._states.everybody.block(CONTROL + name, info, start, stop)
        mean: Floats = np.divide(moved, -self._rates[name], dtype=np.float64)
        return mean - control


def control_rule(session: Session, states: States) -> ControlRule:
    """The rule of the session's algorithm.

    Raises:
        SdkError: the script did not do what the algorithm needs; says what.
    """
    if session.algorithm == "feddc":
        return MeanGradient(states, _feddc_rates(session))
    if session.num_steps == 0:
        raise SdkError(
            "SCAFFOLD needs the steps of its own optimizer, and none was made: "
            "train with optimizer = fl.create_optimizer(...)"
        )
    _compare(session.num_steps, session.expected_steps)
    if not session.wants_gradients:
        return MeanGradient(states, rates_of(session))
    if not session.gradients:
        raise SdkError(
            "SCAFFOLD's option I needs the gradient at the round's weights: call "
            "optimizer.full_gradient(closure) before the first step, or use option II"
        )
    return FullGradient(states, session.gradients)


def rates_of(session: Session) -> dict[str, float]:
    """Name -> sum of the learning rates of all steps that were made on the tensor."""
    rates: dict[str, float] = {}
    for steps in session.steps:
        for name in steps.names:
            rates[name] = rates.get(name, 0.0) + steps.rates
    return rates


def _feddc_rates(session: Session) -> dict[str, float]:
    loss = session.loss
    if loss is None:
        raise SdkError("FedDC needs its own loss: train with loss = fl.create_loss(train_model=model, ...)")
    if session.num_steps:
        _compare(session.num_steps, loss.num_steps)
        rates = rates_of(session)
    elif loss.learning_rate is None:
        raise SdkError(
            "FedDC needs the learning rate: give create_loss lr=..., or train with fl.create_optimizer(...)"
        )
    else:
        num_steps = loss.num_steps or loss.calls
        _compare(loss.calls, loss.num_steps)
        rates = dict.fromkeys(session.trained, num_steps * loss.learning_rate)
    pull = max(rates.values(), default=0.0) * loss.alpha
    if pull == 0:
        raise SdkError("FedDC's loss was never computed for training: train with what fl.create_loss gave")
    if pull < 0.1:
        logger.warning(
            "FedDC may diverge: learning rate * steps * alpha is %.3g at this site, it should be at least "
            "0.1; a larger alpha (loss.params.alpha) or more local steps help",
            pull,
        )
    return rates


def _compare(made: int, expected: int | None) -> None:
    if expected is not None and abs(made - expected) > 1:
        logger.warning(
            "%d steps were made, sample_num and batch_size say %d; the steps that were made count",
            made,
            expected,
        )
