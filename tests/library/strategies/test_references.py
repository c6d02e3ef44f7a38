"""Every strategy against an independent float64 reference of its formula, over several rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.models.tensors import read_tensors
from catchment.strategies.base import Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.fedavgm import FedAvgM
from catchment.strategies.fedbuff import FedBuff
from catchment.strategies.feddc import FedDC
from catchment.strategies.fednova import FedNova
from catchment.strategies.fedopt import FedAdagrad, FedAdam, FedYogi
from catchment.strategies.geometric_median import GeometricMedian
from catchment.strategies.krum import Krum, MultiKrum
from catchment.strategies.median import Median
from catchment.strategies.norm_clipping import NormClipping
from catchment.strategies.scaffold import Scaffold
from catchment.strategies.trimmed_mean import TrimmedMean
from tests.strategy_rounds import Arrays, aggregate

SETTINGS = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPES: dict[str, tuple[int, ...]] = {"layer.w": (2, 3), "scale": (), "none": (0, 4), "bias": (5,)}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
Vector = np.ndarray
Reference = Callable[["Case"], Vector]


def flat(tensors: Arrays, prefix: str = "") -> Vector:
    """The float tensors of SHAPES as one vector."""
    return np.concatenate([np.asarray(tensors[prefix + name], np.float64).reshape(-1) for name in SHAPES])


def shaped(vector: Vector, prefix: str = "") -> Arrays:
    """A vector as the tensors of SHAPES."""
    tensors, start = {}, 0
    for name, shape in SHAPES.items():
        tensors[prefix + name] = np.array(vector[start : start + math.prod(shape)]).reshape(shape)
        start += math.prod(shape)
    return tensors


class Case:
    """Random rounds of a small problem: updates D, changes of controls d, samples n, steps tau."""

    def __init__(self, seed: int, clients: int, num_rounds: int = 3) -> None:
        random = np.random.default_rng(seed)
        self.weights = random.normal(size=SIZE)
        self.learning_rate = float(random.uniform(0.3, 1.5))
        self.population = clients + int(random.integers(0, 4))
        self.samples = random.integers(1, 1000, size=clients)
        self.rounds = [
            {
                "D": random.normal(size=(clients, SIZE)) * 10.0 ** random.integers(-2, 3, size=(clients, 1)),
                "d": random.normal(size=(clients, SIZE)),
                "tau": random.integers(1, 50, size=clients),
            }
            for _ in range(num_rounds)
        ]

    @property
    def shares(self) -> Vector:
        return self.samples / self.samples.sum()

    def known(self) -> dict[str, int]:
        return {f"site-{k:02d}": int(n) for k, n in enumerate(self.samples)}


def run(folder: Path, strategy: Strategy, case: Case, extra: str = "") -> tuple[Vector, Arrays]:
    """The weights after all rounds, and the strategy's last state."""
    weights, state = {**shaped(case.weights), "count": np.array(0)}, {}
    for number, made in enumerate(case.rounds):
        updates = []
        for k, n in enumerate(case.samples):
            tensors = {**shaped(made["D"][k]), "count": np.array(k)}
            if extra == "control":
                tensors |= shaped(made["d"][k], "@control/")
            if extra == "steps":
                tensors["@num_steps"] = made["tau"][k : k + 1].astype(np.float64)
            updates.append((int(n), tensors))
        path, outcome = aggregate(
            folder,
            strategy,
            weights,
            updates,
            state=state or None,
            round_number=number + 1,
            learning_rate=case.learning_rate,
            population=case.population,
            samples=case.known(),
        )
        weights, state = read_tensors(path), outcome.state
    return flat(weights), state


def assert_close(found: Vector, wanted: Vector) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(wanted).max())))


# References: plain vectors, one client at a time.


def fedavg(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        w = w + case.learning_rate * sum(p * D for p, D in zip(case.shares, made["D"], strict=True))
    return w


def fedavg_uniform(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        w = w + case.learning_rate * np.mean(made["D"], axis=0)
    return w


def fedavgm(case: Case) -> Vector:
    w, m = case.weights, np.zeros(SIZE)
    for made in case.rounds:
        m = 0.7 * m + case.shares @ made["D"]
        w = w + case.learning_rate * m
    return w


def fedopt(second: Callable[[Vector, Vector], Vector], beta1: float) -> Reference:
    def reference(case: Case) -> Vector:
        w, m, v = case.weights, np.zeros(SIZE), np.full(SIZE, 0.01**2)
        for made in case.rounds:
            D = case.shares @ made["D"]
            m = beta1 * m + (1 - beta1) * D
            v = second(v, D)
            w = w + case.learning_rate * 0.3 * m / (np.sqrt(v) + 0.01)
        return w

    return reference


def median(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        ordered = np.sort(made["D"], axis=0)
        n = len(ordered)
        w = w + case.learning_rate * (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return w


def trimmed_mean(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        n = len(made["D"])
        cut = min(math.ceil(round(0.3 * n, 6)), (n - 1) // 2)
        change = [math.fsum(sorted(made["D"][:, i])[cut : n - cut]) / (n - 2 * cut) for i in range(SIZE)]
        w = w + case.learning_rate * np.array(change)
    return w


def krum_scores(updates: Vector, f: int) -> list[float]:
    n = len(updates)
    return [
        math.fsum(sorted(math.fsum((updates[i] - updates[j]) ** 2) for j in range(n) if j != i)[: n - f - 2])
        for i in range(n)
    ]


def krum(keep: Callable[[int, int], int]) -> Reference:
    def reference(case: Case) -> Vector:
        w = case.weights
        for made in case.rounds:
            n = len(made["D"])
            f = (n - 3) // 2
            found = krum_scores(made["D"], f)
            best = sorted(range(n), key=lambda i: found[i])[: keep(n, f)]
            w = w + case.learning_rate * np.mean(made["D"][best], axis=0)
        return w

    return reference


def norm_clipping(limit: float | None, weights: Callable[[Case], Vector]) -> Reference:
    def reference(case: Case) -> Vector:
        w, shares = case.weights, weights(case)
        for made in case.rounds:
            lengths = [math.sqrt(math.fsum(D * D)) for D in made["D"]]
            S = limit or float(np.median(lengths))
            w = w + case.learning_rate * sum(
                p * D * min(1.0, S / length) for p, D, length in zip(shares, made["D"], lengths, strict=True)
            )
        return w

    return reference


def geometric_median(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        z = np.mean(made["D"], axis=0)
        for _ in range(7):
            a = np.array([1 / max(1e-6, math.sqrt(math.fsum((D - z) ** 2))) for D in made["D"]])
            z = (a / a.sum()) @ made["D"]
        w = w + case.learning_rate * z
    return w


def fednova(case: Case) -> Vector:
    w = case.weights
    for made in case.rounds:
        d = sum(p * D / tau for p, D, tau in zip(case.shares, made["D"], made["tau"], strict=True))
        w = w + case.learning_rate * float(case.shares @ made["tau"]) * d
    return w


def alike(case: Case) -> Vector:
    return np.full(len(case.samples), 1 / len(case.samples))


PLAIN: dict[str, tuple[Strategy, Reference]] = {
    "fedavg": (FedAvg(), fedavg),
    "fedavg uniform": (FedAvg(weighting="uniform"), fedavg_uniform),
    "fedavgm": (FedAvgM(momentum=0.7), fedavgm),
    "fedadam": (
        FedAdam(eta=0.3, tau=0.01, beta1=0.8, beta2=0.95),
        fedopt(lambda v, d: 0.95 * v + 0.05 * d**2, 0.8),
    ),
    "fedyogi": (
        FedYogi(eta=0.3, tau=0.01, beta1=0.8, beta2=0.95),
        fedopt(lambda v, d: v - 0.05 * d**2 * np.sign(v - d**2), 0.8),
    ),
    "fedadagrad": (FedAdagrad(eta=0.3, tau=0.01), fedopt(lambda v, d: v + d**2, 0.0)),
    "median": (Median(), median),
    "trimmed mean": (TrimmedMean(trim=0.3), trimmed_mean),
    "krum": (Krum(), krum(lambda n, f: 1)),
    "multi-krum": (MultiKrum(), krum(lambda n, f: n - f)),
    "multi-krum of two": (MultiKrum(keep=2), krum(lambda n, f: 2)),
    "norm clipping": (NormClipping(clip_norm=2.0), norm_clipping(2.0, alike)),
    "norm clipping at the median": (NormClipping(), norm_clipping(None, alike)),
    "norm clipping by samples": (
        NormClipping(clip_norm=2.0, weighting="samples"),
        norm_clipping(2.0, lambda case: case.shares),
    ),
    "geometric median": (GeometricMedian(iterations=7), geometric_median),
}


@pytest.mark.parametrize("name", PLAIN)
@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(3, 9))
@SETTINGS
def test_the_formula(tmp_path: Path, name: str, seed: int, clients: int) -> None:
    strategy, reference = PLAIN[name]
    case = Case(seed, clients)
    assert_close(run(tmp_path, strategy, case)[0], reference(case))


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 6))
@SETTINGS
def test_fednova(tmp_path: Path, seed: int, clients: int) -> None:
    case = Case(seed, clients)
    assert_close(run(tmp_path, FedNova(), case, "steps")[0], fednova(case))


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 6))
@SETTINGS
def test_scaffold_of_the_paper(tmp_path: Path, seed: int, clients: int) -> None:
    case = Case(seed, clients)
    weights, state = run(tmp_path, Scaffold(), case, "control")
    assert_close(weights, fedavg_uniform(case))
    c = sum(made["d"].sum(axis=0) for made in case.rounds) / case.population
    assert_close(flat(state, "@control/"), c)


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 6))
@SETTINGS
def test_scaffold_by_samples(tmp_path: Path, seed: int, clients: int) -> None:
    case = Case(seed, clients)
    weights, state = run(tmp_path, Scaffold(weighting="samples"), case, "control")
    assert_close(weights, fedavg(case))
    # Sites that nobody knows yet count as much as the others' mean.
    total = case.samples.sum() * case.population / clients
    c = sum(case.samples @ made["d"] for made in case.rounds) / total
    assert_close(flat(state, "@control/"), c)


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 6))
@SETTINGS
def test_feddc(tmp_path: Path, seed: int, clients: int) -> None:
    case = Case(seed, clients)
    weights, state = run(tmp_path, FedDC(), case, "control")
    total = case.samples.sum() * case.population / clients
    w, drifts, c = case.weights, np.zeros((clients, SIZE)), np.zeros(SIZE)
    for made in case.rounds:
        trained = w + made["D"]
        drifts = drifts + made["D"]
        c = c + case.samples @ made["d"] / total
        target = case.shares @ trained + case.samples @ drifts / total
        w = w + case.learning_rate * (target - w)
    assert_close(weights, w)
    assert_close(flat(state, "@control/"), c)
    assert_close(flat(state, "@drift/"), case.samples @ drifts / total)


def test_where_a_site_joins_the_control_stays_the_mean_of_all_sites(tmp_path: Path) -> None:
    weights = {"w": np.zeros(2)}
    update = {"w": np.ones(2), "@control/w": np.array([2.0, 4.0])}
    _, outcome = aggregate(tmp_path, Scaffold(), weights, [(1, update)], population=2)
    _, outcome = aggregate(tmp_path, Scaffold(), weights, [(1, update)], population=4, state=outcome.state)
    np.testing.assert_allclose(outcome.state["@control/w"], [1.0, 2.0])


def test_the_geometric_median_is_where_no_step_lowers_the_sum_of_distances(tmp_path: Path) -> None:
    case = Case(5, 7, num_rounds=1)
    case.learning_rate = 1.0
    D = case.rounds[0]["D"]
    found = run(tmp_path, GeometricMedian(iterations=1000), case)[0] - case.weights

    def length(point: Vector) -> float:
        return float(np.linalg.norm(D - point, axis=1).sum())

    random = np.random.default_rng(0)
    steps = [random.normal(size=SIZE) * 1e-3 for _ in range(50)]
    assert all(length(found) <= length(found + step) + 1e-9 for step in steps)


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 6))
@SETTINGS
def test_fedbuff(tmp_path: Path, seed: int, clients: int) -> None:
    case = Case(seed, clients, num_rounds=1)
    behind = np.random.default_rng(seed).integers(0, 9, size=clients)
    updates = [(int(n), shaped(D)) for n, D in zip(case.samples, case.rounds[0]["D"], strict=True)]
    path, _ = aggregate(
        tmp_path,
        FedBuff(),
        shaped(case.weights),
        updates,
        learning_rate=case.learning_rate,
        staleness={f"site-{k:02d}": int(s) for k, s in enumerate(behind)},
    )
    change = sum(D / math.sqrt(1 + s) for D, s in zip(case.rounds[0]["D"], behind, strict=True))
    assert_close(flat(read_tensors(path)), case.weights + case.learning_rate / clients * change)


def test_equal_steps_make_fednova_fedavg(tmp_path: Path) -> None:
    case = Case(11, 4)
    for made in case.rounds:
        made["tau"][:] = 7
    assert_close(run(tmp_path, FedNova(), case, "steps")[0], fedavg(case))
