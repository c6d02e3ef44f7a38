"""FedProx with PyTorch against its formula in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from tests.library.sdk.regression import (
    BATCHES,
    START,
    MakeTask,
    X,
    Y,
    assert_close,
    each,
    gradient,
    prox,
    train,
    values,
)


def test_fedprox_is_its_formula(model: Any) -> None:
    linear = model(**prox(mu=0.3, learning_rate=0.1))
    train(linear, fl.create_optimizer(params=linear.parameters()))
    w = START
    for batch in BATCHES:
        w = each(lambda v, g, v0: v - 0.1 * (g + 0.3 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_the_pull_comes_before_momentum_and_beside_weight_decay(model: Any) -> None:
    linear = model(**prox(mu=0.3, learning_rate=0.1))
    train(linear, fl.create_optimizer(momentum=0.9, weight_decay=0.01))
    w, velocity = START, None
    for batch in BATCHES:
        step = each(lambda v, g, v0: g + 0.3 * (v - v0) + 0.01 * v, w, gradient(w, X[batch], Y[batch]), START)
        velocity = step if velocity is None else each(lambda old, new: 0.9 * old + new, velocity, step)
        w = each(lambda v, s: v - 0.1 * s, w, velocity)
    assert_close(values(linear), w)


@pytest.mark.parametrize(
    ("base", "further"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, {"betas": (0.8, 0.99)}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_without_a_pull_fedprox_is_the_plain_optimizer_bit_by_bit(
    model: Any, base: Any, further: Any
) -> None:
    plain = model(**prox(learning_rate=0.05))
    train(plain, base(plain.parameters(), lr=0.05, **further))
    pulled = torch.nn.Linear(3, 1).double()
    fl.load_weights(pulled)
    made = fl.create_optimizer(params=pulled.parameters(), mu=0, optimizer=base, **further)
    assert isinstance(made, base)
    train(pulled, made)
    for one, other in zip(plain.parameters(), pulled.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_pull_is_towards_the_rounds_weights_whenever_the_optimizer_is_made(model: Any) -> None:
    linear = model(**prox(mu=0.5, learning_rate=0.1))
    for _ in range(3):  # once an epoch
        train(linear, fl.create_optimizer(params=linear.parameters()), BATCHES[:2])
    w = START
    for batch in BATCHES:
        w = each(lambda v, g, v0: v - 0.1 * (g + 0.5 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_gradients_are_the_scripts_own_after_a_step(model: Any) -> None:
    linear = model(**prox(mu=10.0))
    optimizer = fl.create_optimizer()
    train(linear, optimizer, BATCHES[:1])
    before = linear.weight.grad.clone()
    optimizer.step()
    assert torch.equal(linear.weight.grad, before)


def test_a_closure_is_pulled_too(model: Any) -> None:
    linear = model(**prox(mu=0.3))
    optimizer = fl.create_optimizer(optimizer=torch.optim.LBFGS, learning_rate=0.2, tolerance_change=0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(linear(torch.from_numpy(X)), torch.from_numpy(Y))
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    w = values(linear)
    # At the minimum of the pulled loss its gradient vanishes.
    assert_close(
        each(lambda g, v, v0: np.round(g + 0.3 * (v - v0), 5) + 0.0, gradient(w), w, START),
        each(np.zeros_like, START),
    )


def test_jobs_parameters_defaults_and_arguments(model: Any) -> None:
    linear = model(**prox())
    assert fl.create_optimizer().param_groups[0]["lr"] == 0.01
    assert fl.create_optimizer(lr=0.5).param_groups[0]["lr"] == 0.5
    train(linear, fl.create_optimizer(), BATCHES[:2])
    w = START
    for batch in BATCHES[:2]:
        w = each(lambda v, g, v0: v - 0.01 * (g + 0.6 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_the_originals_argument_serves_for_parameters_of_another_model(model: Any) -> None:
    linear = model(**prox(mu=1.0, learning_rate=0.1))
    further = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    origins = [*(item.detach().clone() for item in linear.parameters()), torch.zeros(2, dtype=torch.float64)]
    optimizer = fl.create_optimizer(params=[*linear.parameters(), further], origin_trainable_weights=origins)
    (further * 3).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(further.detach().numpy(), 1 - 0.1 * (3 + 1))
    with pytest.raises(SdkError, match="holds 1 tensors, the optimizer has 3"):
        fl.create_optimizer(params=[*linear.parameters(), further], origin_trainable_weights=origins[:1])


@pytest.mark.parametrize("value", [-0.1, float("nan"), "much", True])
def test_a_pull_that_is_no_number_is_refused(model: Any, value: Any) -> None:
    model(**prox())
    with pytest.raises(SdkError, match="mu must be a number >= 0"):
        fl.create_optimizer(mu=value)


def test_the_weights_must_be_loaded_first(make_task: MakeTask) -> None:
    make_task(START, **prox())
    linear = torch.nn.Linear(3, 1).double()
    with pytest.raises(SdkError, match=r"call fl\.load_weights\(model\) first"):
        fl.create_optimizer(params=linear.parameters())
    fl.load_weights(linear)
    with pytest.raises(SdkError, match="no parameter of the optimizer is one of the model"):
        fl.create_optimizer(params=torch.nn.Linear(3, 1).parameters())


def test_sparse_gradients_are_refused(make_task: MakeTask) -> None:
    make_task({"weight": np.zeros((4, 2), np.float32)}, **prox())
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    fl.load_weights(embedding)
    optimizer = fl.create_optimizer()
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(SdkError, match="sparse"):
        optimizer.step()
