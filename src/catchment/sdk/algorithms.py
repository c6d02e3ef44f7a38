"""Optimizers and losses that a job asks its scripts to use."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catchment.errors import SdkError
from catchment.sdk.plain import plain
from catchment.sdk.session import LossTerms, known_model, session

DEFAULT_MU = 0.6
DEFAULT_ALPHA = 0.1
DEFAULT_LEARNING_RATE = 0.01


@dataclass(frozen=True)
class OptimizerWish:
    """What an optimizer is made of, once job and script have had their say.

    Attributes:
        name: fedprox, scaffold, or "" for a plain optimizer whose steps are counted.
        model: the model that it trains.
        params: what it optimizes; None for all parameters of the model.
        learning_rate: a number, or what the framework takes in its place.
        mu: FedProx's.
        base: the framework's optimizer class; None for SGD.
        origin: w^t as the script gave it, for parameters that are not the model's.
        further: arguments of the class.
    """

    name: str
    model: Any
    params: Any
    learning_rate: Any
    mu: float
    base: Any
    origin: Any
    further: Mapping[str, Any]


def create_optimizer(
    *,
    params: Any = None,
    model: Any = None,
    optimizer: Any = None,
    learning_rate: float | None = None,
    lr: float | None = None,
    mu: float | None = None,
    batch_size: int | None = None,
    sample_num: int | None = None,
    option: int | None = None,
    origin_trainable_weights: Any = None,
    **kwargs: Any,
) -> Any:
    """The optimizer that the job configures; None, with a warning, where it configures none.

    Call `load_weights` first. The arguments win over the job's `optimizer.params`.

    * FedProx (Li et al. 2020) adds `mu * (w - w^t)` to the gradient before momentum and weight decay.
    * SCAFFOLD (Karimireddy et al. 2020) makes the step `w - lr * (g - c_k + c)`; plain SGD only. With
      `option=1` call `optimizer.full_gradient(closure)` before the first step.
    * Under a FedNova or FedDC job it is a plain optimizer whose steps are counted.

    Args:
        params: parameters or parameter groups (PyTorch); by default all of the model's.
        model: the model; by default what was loaded last.
        optimizer: class of the framework's optimizer beneath, such as `torch.optim.Adam`; default SGD.
        learning_rate: default 0.01; also `lr`.
        mu: FedProx's, default 0.6.
        batch_size: with `sample_num`: SCAFFOLD compares what they give with the steps that were made.
        sample_num: samples that are trained on, times epochs.
        option: SCAFFOLD's, 1 or 2; default 2.
        origin_trainable_weights: w^t for parameters that are not the loaded model's. The round's weights
            are known, so that scripts for the original need not change and new ones need not give it.
        kwargs: further arguments of the framework's class.

    Raises:
        SdkError: outside of a task, before `load_weights`, or arguments with which it cannot work.
    """
    here = session()
    wanted = here.task.optimizer
    name, given = (wanted.name.lower(), wanted.params) if wanted else (here.algorithm or "", {})
    if wanted and name not in ("fedprox", "scaffold"):
        warnings.warn(f"the optimizer '{wanted.name}' is not known; the script uses its own", stacklevel=2)
        return None
    if not name:
        warnings.warn("the job configures no optimizer; the script uses its own", stacklevel=2)
        return None
    if name == "scaffold":
        here.expected_steps = _num_steps(
            _first(sample_num, given.get("sample_num")), _first(batch_size, given.get("batch_size"))
        )
        here.wants_gradients = _is_option_1(_first(option, given.get("option"), 2))
    wish = OptimizerWish(
        name=name,
        model=known_model(here, model),
        params=params,
        learning_rate=_first(learning_rate, lr, given.get("learning_rate"), DEFAULT_LEARNING_RATE),
        mu=_number("mu", _first(mu, given.get("mu"), DEFAULT_MU)),
        base=optimizer,
        origin=origin_trainable_weights,
        further=kwargs,
    )
    module = "keras_algorithms" if here.task.runtime == "keras" else "torch_optimizers"
    return importlib.import_module(f"catchment.sdk.{module}").optimizer(here, wish)


def create_loss(
    *,
    train_model: Any = None,
    origin_loss_func: Any = None,
    alpha: float | None = None,
    sample_num: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    epoch: int | None = None,
    **kwargs: Any,
) -> Any:
    """The loss that the job configures; None, with a warning, where it configures none.

    FedDC (Gao et al. 2022): `f + alpha/2 * |w - (w^t - h_k)|^2 + <w, c - c_k>`, with the client's drift h_k
    and SCAFFOLD's control variates, once a call. `commit_weights` finds it by itself. Learning rate and
    number of steps are those of `create_optimizer`'s optimizer where the script uses one; otherwise `lr`
    must be given, here or in the job. The arguments win over the job's `loss.params`.

    Args:
        train_model: the model, with the round's weights; by default what `load_weights` loaded last.
        origin_loss_func: f; by default cross entropy (Keras: categorical).
        alpha: weight of the penalty, default 0.1.
        sample_num: samples that are trained on.
        batch_size: with `sample_num` and `epoch`: the number of steps; otherwise they are counted.
        lr: learning rate of the script's optimizer.
        epoch: epochs, default 1.
        kwargs: further arguments of the original; none has an effect.

    Raises:
        SdkError: outside of a task, before `load_weights`, or arguments with which it cannot work.
    """
    here = session()
    wanted = here.task.loss
    if wanted is None or wanted.name.lower() != "feddc":
        told = f"the loss '{wanted.name}' is not known" if wanted else "the job configures no loss"
        warnings.warn(f"{told}; the script uses its own", stacklevel=2)
        return None
    terms = wanted.params
    here.loss = LossTerms(
        alpha=_number("alpha", _first(alpha, terms.get("alpha"), DEFAULT_ALPHA)),
        num_steps=_num_steps(
            _first(sample_num, terms.get("sample_num")),
            _first(batch_size, terms.get("batch_size")),
            _first(epoch, terms.get("epoch"), 1),
        ),
        learning_rate=None if (rate := _first(lr, terms.get("lr"))) is None else _number("lr", rate),
    )
    module = "keras_algorithms" if here.task.runtime == "keras" else "torch_losses"
    made = importlib.import_module(f"catchment.sdk.{module}")
    return made.feddc(here, known_model(here, train_model), origin_loss_func, here.loss)


def feddc_loss(
    model: Any,
    origin_loss_func: Any = None,
    sample_num: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    epoch: int | None = None,
    alpha: float | None = None,
    **kwargs: Any,
) -> Any:
    """FedDC's loss, as `create_loss` gives it; the name and the order of arguments that the original has."""
    return create_loss(
        train_model=model,
        origin_loss_func=origin_loss_func,
        alpha=alpha,
        sample_num=sample_num,
        batch_size=batch_size,
        lr=lr,
        epoch=epoch,
        **kwargs,
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(name: str, value: Any) -> float:
    number = plain(name, value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise SdkError(f"{name} must be a number >= 0, not {value!r}")
    return float(number)


def _num_steps(sample_num: Any, batch_size: Any, epoch: Any = 1) -> int | None:
    if sample_num is None or batch_size is None:
        return None
    for name, value in (("sample_num", sample_num), ("batch_size", batch_size), ("epoch", epoch)):
        if _number(name, value) < 1:
            raise SdkError(f"{name} must be at least 1, not {value!r}")
    return int(epoch) * math.ceil(float(sample_num) / float(batch_size))


def _is_option_1(option: Any) -> bool:
    if option in (1, "1", "I"):
        return True
    if option in (2, "2", "II"):
        return False
    raise SdkError(f"SCAFFOLD has the options 1 and 2, not {option!r}")
