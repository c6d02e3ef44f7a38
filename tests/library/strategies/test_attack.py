"""Four of twenty clients flip their update and send five times as much of it, on real digits."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from catchment.strategies.base import Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.geometric_median import GeometricMedian
from catchment.strategies.krum import Krum, MultiKrum
from catchment.strategies.median import Median
from catchment.strategies.norm_clipping import NormClipping
from catchment.strategies.trimmed_mean import TrimmedMean
from tests.strategy_rounds import Arrays, aggregate

CLIENTS, HOSTILE, ROUNDS, EPOCHS = 20, 4, 25, 5


@lru_cache
def data() -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    """Each client's samples, and the samples that nobody trains on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order] / 16.0, labels[order]
    train = [(images[k:1440:CLIENTS], labels[k:1440:CLIENTS]) for k in range(CLIENTS)]
    return train, (images[1440:], labels[1440:])


def scores(weights: Arrays, images: np.ndarray) -> np.ndarray:
    return images @ weights["w"] + weights["b"]


def trained(weights: Arrays, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """The update of a client: softmax regression, full batches."""
    local = {name: array.astype(np.float64) for name, array in weights.items()}
    for _ in range(EPOCHS):
        logits = scores(local, images)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(len(labels)), labels] -= 1
        local["w"] -= 1.0 * images.T @ chances / len(labels)
        local["b"] -= 1.0 * chances.mean(axis=0)
    return {name: (local[name] - weights[name]).astype(np.float32) for name in weights}


def accuracy_under_attack(folder: Path, strategy: Strategy) -> float:
    train, (images, labels) = data()
    weights = {"w": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}
    for _ in range(ROUNDS):
        updates = [(len(own[1]), trained(weights, *own)) for own in train]
        for k in range(HOSTILE):
            updates[k] = (updates[k][0], {name: -5 * array for name, array in updates[k][1].items()})
        weights = load_file(aggregate(folder, strategy, weights, updates)[0])
    return float((scores(weights, images).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(
    ("strategy", "least"),
    [
        (MultiKrum(malicious=HOSTILE), 0.92),
        (MultiKrum(), 0.92),
        (Median(), 0.90),
        (TrimmedMean(trim=0.2), 0.90),
        (GeometricMedian(), 0.88),
        (Krum(malicious=HOSTILE), 0.85),
        (NormClipping(), 0.80),
    ],
    ids=["multi-krum", "multi-krum by default", "median", "trimmed", "geometric", "krum", "clipping"],
)
def test_robust_rules_learn_all_the_same(tmp_path: Path, strategy: Strategy, least: float) -> None:
    assert accuracy_under_attack(tmp_path, strategy) >= least


def test_the_mean_collapses(tmp_path: Path) -> None:
    assert accuracy_under_attack(tmp_path, FedAvg()) < 0.3
