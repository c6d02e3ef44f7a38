"""Two clients whose optima differ: where each algorithm comes to rest, with its clients' arithmetic.

The pair is `f1 = m x^2 + G x` and `f2 = -G x`, so the optimum of their mean is 0 (Karimireddy et al. 2020).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.models.tensors import read_tensors
from catchment.strategies.base import Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.feddc import FedDC
from catchment.strategies.fednova import FedNova
from catchment.strategies.scaffold import Scaffold
from tests.strategy_rounds import aggregate

M, STEP, ROUNDS = 1.0, 0.3, 120


def gradient(client: int, x: float, size: float) -> float:
    return 2 * M * x + size if client == 0 else -size


def rests_at(folder: Path, strategy: Strategy, local: Any, rounds: int = ROUNDS) -> float:
    """The weight after many rounds in which both clients take part."""
    weights: dict[str, np.ndarray] = {"x": np.array([0.7])}
    outcome = None
    for number in range(rounds):
        state = outcome.state if outcome else {}
        updates = [(1, local(client, float(weights["x"][0]), state)) for client in (0, 1)]
        path, outcome = aggregate(
            folder,
            strategy,
            weights,
            updates,
            state=state or None,
            round_number=number + 1,
            population=2,
            samples={"site-00": 1, "site-01": 1},
        )
        weights = read_tensors(path)
    return float(weights["x"][0])


class Control:
    """A client's side of SCAFFOLD (option II) and of FedDC (with a penalty alpha > 0)."""

    def __init__(self, size: float, steps: int, alpha: float = 0.0) -> None:
        self.size, self.steps, self.alpha = size, steps, alpha
        self.control, self.drift = [0.0, 0.0], [0.0, 0.0]

    def __call__(self, client: int, start: float, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        c = float(state["@control/x"][0]) if state else 0.0
        x = start
        for _ in range(self.steps):
            step = gradient(client, x, self.size) - self.control[client] + c
            x -= STEP * (step + self.alpha * (x - start + self.drift[client]))
        after = self.control[client] - c + (start - x) / (self.steps * STEP)
        change, self.control[client] = after - self.control[client], after
        self.drift[client] += x - start
        return {"x": np.array([x - start]), "@control/x": np.array([change])}


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
def test_fedavg_rests_at_its_known_fixed_point(tmp_path: Path, steps: int, size: float) -> None:
    def local(client: int, start: float, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = start
        for _ in range(steps):
            x -= STEP * gradient(client, x, size)
        return {"x": np.array([x - start])}

    wanted = steps * STEP * size / (1 - (1 - 2 * M * STEP) ** steps) - size / (2 * M)
    assert rests_at(tmp_path, FedAvg(), local) == pytest.approx(wanted, rel=1e-9, abs=1e-9 * size)


@pytest.mark.parametrize("weighting", ["uniform", "samples"])
@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_scaffold_rests_at_the_optimum(tmp_path: Path, steps: int, size: float, weighting: str) -> None:
    found = rests_at(tmp_path, Scaffold(weighting=weighting), Control(size, steps))
    assert abs(found) < 1e-9 * size


@pytest.mark.parametrize("steps", [2, 10])
def test_feddc_rests_at_the_optimum(tmp_path: Path, steps: int) -> None:
    found = rests_at(tmp_path, FedDC(), Control(1.0, steps, alpha=1.0), rounds=300)
    assert abs(found) < 1e-9


def test_fednova_rests_nearer_to_the_optimum_where_clients_make_unequal_steps(tmp_path: Path) -> None:
    def local(client: int, start: float, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x, steps = start, (1, 8)[client]
        for _ in range(steps):
            x -= 0.01 * gradient(client, x, 1.0)
        sent = {"x": np.array([x - start])}
        return {**sent, "@num_steps": np.array([float(steps)])} if nova else sent

    nova = True
    normalized = rests_at(tmp_path, FedNova(), local, rounds=600)
    nova = False
    plain = rests_at(tmp_path, FedAvg(), local, rounds=600)
    assert abs(normalized) < 0.01
    assert abs(plain) > 1.0
