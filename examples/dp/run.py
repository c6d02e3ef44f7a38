"""What client-level privacy costs in accuracy: 240 clients with six digits each, here on one machine.

The arithmetic is Catchment's own: each client's update goes through the clipping, the noise and the strategy
that a coordinator runs it through, and the accountant counts the rounds. `job.json` beside this file asks a
running system for the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catchment.models.signature import Array, info_of
from catchment.privacy.aggregation import PrivateSum
from catchment.privacy.plan import Plan, Selection
from catchment.strategies.base import ClientUpdate, Context
from catchment.strategies.fedavg import FedAvg

Floats = NDArray[np.float64]
CLIENTS, DIGITS_EACH, CLIP_NORM, DELTA = 240, 6, 0.5, 1e-5
MULTIPLIERS = (0.0, 4.0, 8.0, 16.0, 32.0)


def main() -> None:
    """Train once for each noise multiplier; print the table, save the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("demo-output/dp.png"))
    options = parser.parse_args()
    parts, test = digits()
    print(f"{CLIENTS} clients in each of {options.rounds} rounds, clip_norm {CLIP_NORM}, delta {DELTA:g}\n")
    print("noise_multiplier  noise on the mean  epsilon  accuracy")
    curves = {}
    for multiplier in MULTIPLIERS:
        plan = Plan(multiplier, clip_norm=CLIP_NORM, delta=DELTA, cohort=CLIENTS, threshold=CLIENTS)
        accuracies, epsilons = train(plan, parts, test, options.rounds)
        curves[multiplier] = (epsilons, accuracies)
        noise = multiplier * CLIP_NORM / CLIENTS
        print(f"{multiplier:16g}  {noise:17.4f}  {epsilons[-1]:7.3g}  {accuracies[-1]:8.3f}")
    print(f"\nplot {save_plot(curves, options.output)}")


def digits() -> tuple[list[tuple[Floats, Array]], tuple[Floats, Array]]:
    """The clients' digits and those for testing, as pictures [n, 64] and labels [n]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x, y = bunch.data[order] / 16.0, bunch.target[order]
    held = CLIENTS * DIGITS_EACH
    parts = [(x[i : i + DIGITS_EACH], y[i : i + DIGITS_EACH]) for i in range(0, held, DIGITS_EACH)]
    return parts, (x[held:], y[held:])


def train(
    plan: Plan, parts: list[tuple[Floats, Array]], test: tuple[Floats, Array], rounds: int
) -> tuple[list[float], list[float]]:
    """Accuracy and epsilon after each round."""
    weights = {"weight": np.zeros((64, 10)), "bias": np.zeros(10)}
    strategy = FedAvg(weighting="uniform")
    accuracies, epsilons = [], []
    releases = [plan.release(Selection(CLIENTS, CLIENTS))] * rounds
    for number in range(1, rounds + 1):
        cohort = Cohort([local_update(weights, x, y) for x, y in parts])
        new = Arrays({})
        PrivateSum(strategy, plan, plan.clip_norm).aggregate(cohort, Arrays(weights), Context(number), new)
        weights = {name: new.arrays[name].reshape(weights[name].shape) for name in weights}
        scores = test[0] @ weights["weight"] + weights["bias"]
        accuracies.append(float((scores.argmax(axis=1) == test[1]).mean()))
        epsilons.append(plan.spent(releases[:number]).epsilon)
    return accuracies, epsilons


def local_update(weights: dict[str, Floats], x: Floats, y: Array, steps: int = 10) -> dict[str, Floats]:
    """What some steps of softmax regression on a client's digits change."""
    weight, bias = weights["weight"].copy(), weights["bias"].copy()
    wanted = np.eye(10)[y]
    for _ in range(steps):
        scores = x @ weight + bias
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = (shares / shares.sum(axis=1, keepdims=True) - wanted) / len(y)
        weight -= 0.1 * x.T @ error
        bias -= 0.1 * error.sum(axis=0)
    return {"weight": weight - weights["weight"], "bias": bias - weights["bias"]}


class Arrays:
    """Arrays in memory where a coordinator has files: read by name and block, written in order."""

    def __init__(self, arrays: dict[str, Floats]) -> None:
        self.arrays = arrays
        self.signature = {name: info_of(name, array) for name, array in arrays.items()}

    def array(self, name: str) -> Array:
        return self.arrays[name]

    def block(self, name: str, start: int, stop: int, dtype: object = None) -> Array:
        return self.arrays[name].reshape(-1)[start:stop]

    def write(self, name: str, array: Array) -> None:
        self.write_block(name, array.reshape(-1))

    def write_block(self, name: str, block: Array) -> None:
        self.arrays[name] = np.append(self.arrays.get(name, np.empty(0)), block)


class Cohort:
    """The clients' updates, a few at a time."""

    def __init__(self, updates: list[dict[str, Floats]]) -> None:
        self.updates = [
            ClientUpdate(f"client-{number:03d}", DIGITS_EACH, Arrays(update))
            for number, update in enumerate(updates)
        ]

    def batches(self) -> Iterator[Sequence[ClientUpdate]]:
        for start in range(0, len(self.updates), 8):
            yield self.updates[start : start + 8]


def save_plot(curves: dict[float, tuple[list[float], list[float]]], path: Path) -> Path:
    """Accuracy over rounds, and over the epsilon that they cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for number, (multiplier, (epsilons, accuracies)) in enumerate(curves.items()):
        look = {"color": f"C{number}", "label": f"noise_multiplier {multiplier:g}"}
        left.plot(range(1, len(accuracies) + 1), accuracies, **look)
        if np.isfinite(epsilons).all():
            right.plot(epsilons, accuracies, **look)
    left.set(xlabel="round", ylabel="test accuracy", ylim=(0, 1))
    right.set(xlabel=f"epsilon (delta {DELTA:g})", xscale="log")
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
