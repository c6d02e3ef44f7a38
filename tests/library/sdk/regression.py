"""A linear regression in float64 that the algorithms of the SDK train, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catchment.models.tensors import read_tensors

MakeTask = Callable[..., Any]
Weights = dict[str, np.ndarray]

START: Weights = {"weight": np.array([[0.5, -1.25, 2.0]]), "bias": np.array([0.25])}
CONTROL: Weights = {"weight": np.array([[0.1, -0.2, 0.3]]), "bias": np.array([-0.4])}
OWN: Weights = {"weight": np.array([[-0.05, 0.15, 0.02]]), "bias": np.array([0.07])}
DRIFT: Weights = {"weight": np.array([[0.3, 0.1, -0.2]]), "bias": np.array([0.05])}
X = np.array([[1.0, 2.0, -1.0], [0.5, -0.3, 0.8], [-1.2, 0.4, 0.1], [0.9, 1.1, -0.6]])
Y = np.array([[0.3], [1.2], [-0.7], [0.1]])
BATCHES = [slice(0, 2), slice(2, 4)] * 3
SCAFFOLD = {"name": "scaffold", "params": {"learning_rate": 0.1}}


def gradient(w: Weights, x: np.ndarray = X, y: np.ndarray = Y) -> Weights:
    """Of the mean squared error of a linear model."""
    error = x @ w["weight"].T + w["bias"] - y
    return {"weight": 2 * error.T @ x / len(x), "bias": 2 * error.mean(axis=0)}


def each(function: Callable[..., np.ndarray], *trees: Weights) -> Weights:
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


FEDDC = {"name": "feddc", "params": {"alpha": 0.5, "lr": 0.1}}


def prox(**params: Any) -> dict[str, Any]:
    return {"optimizer": {"name": "fedprox", "params": params}}


def named(mark: str, tree: Weights) -> Weights:
    return {f"@{mark}/{name}": value for name, value in tree.items()}


def train(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[slice] = BATCHES,
    loss_of: Any = None,
    scheduler: Any = None,
) -> None:
    loss_of = loss_of or torch.nn.functional.mse_loss
    for batch in batches:
        optimizer.zero_grad()
        loss_of(module(torch.from_numpy(X[batch])), torch.from_numpy(Y[batch])).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def values(module: torch.nn.Module) -> Weights:
    return {name: item.detach().numpy().copy() for name, item in module.named_parameters()}


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12)


def update_of(folder: Path) -> Weights:
    return read_tensors(folder / "update.safetensors")


def kept_of(folder: Path) -> Weights:
    return read_tensors(folder / "next_client_state.safetensors")
