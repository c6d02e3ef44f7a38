"""What the algorithms reach: the FedProx paper's synthetic data, skewed digits, and hostile clients.

    python benchmarks/algorithms.py [--seeds 1 2 3] [--rounds 200] [--json]

The coordinator's half is the product's strategies over tensor files. Long runs have clients in numpy; that
these do what the SDK's optimizers and losses do is measured first. Every figure stands beside what it should
reach, in JSON under `floor`: at 200 rounds and three seeds, that is. About five minutes of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Matrices of ten rows: more threads only wait for each other. Set before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402

from benchmarks.federation import (  # noqa: E402
    FEDAVG,
    FEDDC,
    FEDPROX,
    SCAFFOLD,
    Local,
    Plan,
    Rule,
    SdkClients,
    federate,
)
from benchmarks.synthetic import Problem, digits, synthetic  # noqa: E402
from benchmarks.table import Line  # noqa: E402
from catchment.strategies.fedavg import FedAvg  # noqa: E402
from catchment.strategies.krum import MultiKrum  # noqa: E402
from catchment.strategies.median import Median  # noqa: E402
from tests.strategy_rounds import Arrays  # noqa: E402

SYNTHETIC = Local(rate=0.01, epochs=20, batch=10)
SKEWED = Local(rate=1.0, epochs=5, batch=15)
FULL_BATCH = Local(rate=1.0, epochs=5, batch=72)
CASES = (
    # stragglers, rule, accuracy to reach
    (0.0, FEDAVG, None),
    (0.0, FEDPROX, 0.862),
    (0.0, SCAFFOLD, None),
    (0.0, FEDDC, None),
    (0.5, FEDAVG, None),
    (0.5, FEDPROX, 0.862),
    (0.9, FEDAVG, None),
    (0.9, FEDPROX, 0.862),
)
SDK_ROUNDS, DIGITS_ROUNDS, ATTACK_ROUNDS = 3, 80, 25
HOSTILE = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of data and batches")
    parser.add_argument("--rounds", type=int, default=200, help="of the synthetic data")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as name:
        folder = Path(name)
        for lines in (
            agreement(folder),
            label_skew(folder, options.seeds),
            hostile(folder, options.seeds),
            stragglers(folder, options.seeds, options.rounds),
        ):
            for line in lines:
                print(json.dumps(vars(line)) if options.json else row(line), flush=True)


def row(line: Line) -> str:
    """One line of the table."""
    reach = f"   reach {line.floor:.4g}" if line.floor is not None else ""
    return f"{line.workload:12} {line.metric:58} {line.value:9.4g} {line.unit:8}{reach}"


def agreement(folder: Path) -> Iterator[Line]:
    """The SDK's clients beside those in numpy: how far the weights of both are apart."""
    cases: list[tuple[str, Problem, Local, Plan, int]] = [
        ("synthetic", synthetic(1, 1, 1), SYNTHETIC, Plan(10), SDK_ROUNDS),
        ("digits", digits(1, 0.0), SKEWED, Plan(4), 20),
    ]
    for name, problem, local, plan, rounds in cases:
        for rule in (FEDAVG, FEDPROX, SCAFFOLD, FEDDC):
            found = federate(problem, rule, local, plan, rounds, folder)
            with tempfile.TemporaryDirectory(dir=folder) as tasks:
                clients = SdkClients(rule, local, problem.classes, Path(tasks))
                wanted = federate(problem, rule, local, plan, rounds, folder, clients=clients)
            apart = max(float(np.abs(wanted.weights[n] - found.weights[n]).max()) for n in found.weights)
            yield Line(
                name, f"{rule.name}: SDK and numpy apart after {rounds} rounds", apart, 1e-12, "weight"
            )


def label_skew(folder: Path, seeds: list[int]) -> Iterator[Line]:
    """Digits sorted by label among 20 clients, 4 of them a round: rounds to 0.90."""
    needed: dict[str, float] = {}
    for rule in (FEDAVG, SCAFFOLD):
        firsts = []
        for seed in seeds:
            run = federate(digits(seed, 0.0), rule, SKEWED, Plan(4, seed=seed), DIGITS_ROUNDS, folder)
            firsts.append(run.first_at(0.90) or DIGITS_ROUNDS)
        needed[rule.name] = float(np.mean(firsts))
        yield Line("digits", f"{rule.name}: rounds to 0.90, label skew", needed[rule.name], None, "rounds")
    yield Line("digits", "scaffold's rounds / fedavg's", needed["scaffold"] / needed["fedavg"], 0.5, "")


def hostile(folder: Path, seeds: list[int]) -> Iterator[Line]:
    """4 of 20 clients flip their update and send it fivefold."""

    def flipped(client: int, update: Arrays) -> Arrays:
        return {name: -5 * array for name, array in update.items()} if client < HOSTILE else update

    rules = (
        ("multi-Krum", lambda: MultiKrum(malicious=HOSTILE), 0.92),
        ("median", Median, 0.90),
        ("mean", FedAvg, None),
    )
    for similarity in (1.0, 0.5, 0.1):
        for name, strategy, reach in rules:
            found = []
            for seed in seeds:
                problem, rule = digits(seed, similarity), Rule("fedavg", strategy)
                run = federate(
                    problem, rule, FULL_BATCH, Plan(20, seed=seed), ATTACK_ROUNDS, folder, attack=flipped
                )
                found.append(run.accuracy[-1])
            metric = f"{name}: accuracy under attack, {similarity:.0%} similar clients"
            yield Line("hostile", metric, float(np.mean(found)), reach if similarity == 1 else None, "")


def stragglers(folder: Path, seeds: list[int], rounds: int) -> Iterator[Line]:
    """Synthetic(1,1): 10 of 30 devices, means over the last 50 rounds and all seeds."""
    accuracy: dict[tuple[float, str], float] = {}
    loss: dict[str, float] = {}
    for late, rule, reach in CASES:
        runs = [
            federate(synthetic(1, 1, seed), rule, SYNTHETIC, Plan(10, late, seed), rounds, folder)
            for seed in seeds
        ]
        said = f"{rule.name}: {{}}, {late:.0%} stragglers"
        found = accuracy[late, rule.name] = float(np.mean([run.last(run.accuracy) for run in runs]))
        yield Line("synthetic", said.format("accuracy"), found, reach, "")
        lost = float(np.mean([run.last(run.loss) for run in runs]))
        if late == 0:
            loss[rule.name] = lost
        yield Line("synthetic", said.format("loss"), lost, None, "")
    ahead = 100 * (accuracy[0.9, "fedprox"] - accuracy[0.9, "fedavg"])
    yield Line("synthetic", "fedprox over fedavg, 90% stragglers", ahead, 5.0, "points")
    lowest = min(value for name, value in loss.items() if name != "feddc")
    yield Line("synthetic", "feddc's loss beside the lowest of the others", loss["feddc"], lowest, "")


if __name__ == "__main__":
    main()
