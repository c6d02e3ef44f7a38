"""FedDC's drift: of which tensors the coordinator keeps one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.models.tensors import read_tensors
from catchment.strategies import sums
from catchment.strategies.feddc import FedDC
from tests.strategy_rounds import Arrays, aggregate

SHARES = np.array([0.25, 0.75])
KNOWN = {"site-00": 1, "site-01": 3}


def rounds(folder: Path, changes: list[list[Arrays]]) -> tuple[Arrays, Arrays]:
    """Weights and state after rounds of two sites, from weights of zero."""
    names = [name for name in changes[0][0] if not name.startswith("@")]
    weights: Arrays = {name: np.zeros_like(changes[0][0][name]) for name in names}
    state: Arrays = {}
    for updates in changes:
        path, outcome = aggregate(
            folder,
            FedDC(),
            weights,
            list(zip(KNOWN.values(), updates, strict=True)),
            state=state or None,
            population=2,
            samples=KNOWN,
        )
        weights, state = read_tensors(path), outcome.state
    return weights, state


def update(random: np.random.Generator, *, trained: bool = True) -> Arrays:
    """A weight, and a statistic that moves without a control variate."""
    sent = {"weight": random.normal(size=11), "mean": random.normal(size=11)}
    control = random.normal(size=11) if trained else np.zeros(11)
    return {**sent, "@control/weight": control, "@control/mean": np.zeros(11)}


def moved(changes: list[list[Arrays]], name: str) -> np.ndarray:
    return np.array([SHARES @ [one[name] for one in updates] for updates in changes])


def test_statistics_follow_the_mean_and_weights_the_drift_too(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    changes = [[update(random), update(random)] for _ in range(5)]
    weights, state = rounds(tmp_path, changes)
    np.testing.assert_allclose(weights["mean"], moved(changes, "mean").sum(axis=0), rtol=1e-9)
    assert not state["@drift/mean"].any()
    means = moved(changes, "weight")
    wanted = means.sum(axis=0) + means.cumsum(axis=0).sum(axis=0)
    np.testing.assert_allclose(weights["weight"], wanted, rtol=1e-9)


def test_a_trained_tensor_keeps_its_drift_in_a_round_without_a_change_of_controls(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    changes = [
        [update(random), update(random)],
        [update(random, trained=False), update(random, trained=False)],
    ]
    weights, state = rounds(tmp_path, changes)
    means = moved(changes, "weight")
    np.testing.assert_allclose(state["@drift/weight"], means.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(weights["weight"], 3 * means[0] + 2 * means[1], rtol=1e-9)


def test_one_element_of_a_late_block_makes_a_tensor_a_trained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "BLOCK_ELEMENTS", 4)
    random = np.random.default_rng(3)
    updates = [update(random, trained=False), update(random, trained=False)]
    updates[1]["@control/weight"][-1] = 1e-12
    _, state = rounds(tmp_path, [updates])
    np.testing.assert_allclose(state["@drift/weight"], moved([updates], "weight")[0], rtol=1e-9)
