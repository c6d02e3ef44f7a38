"""What the papers promise, on fewer rounds than `make bench` makes: one seed, each algorithm's whole way."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.federation import (
    FEDAVG,
    FEDDC,
    FEDPROX,
    SCAFFOLD,
    Local,
    Plan,
    Rule,
    Run,
    SdkClients,
    federate,
)
from benchmarks.synthetic import Problem, digits, pooled, synthetic

ROUNDS, LAST = 40, 20
LOCAL = Local(rate=0.01, epochs=20, batch=10)

Runs = Callable[[Rule, float], Run]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Synthetic(1,1), first seed."""
    return synthetic(1, 1, 1)


@pytest.fixture(scope="module")
def runs(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Rule and share of stragglers -> its run; each is made once."""
    folder = tmp_path_factory.mktemp("rounds")

    @lru_cache
    def run(rule: Rule, stragglers: float) -> Run:
        return federate(problem, rule, LOCAL, Plan(10, stragglers, seed=1), ROUNDS, folder)

    return run


@pytest.mark.parametrize(("seed", "size"), [(1, 7799), (2, 8908), (3, 7308)])
def test_the_data_are_those_of_the_released_generator(seed: int, size: int) -> None:
    made = synthetic(1, 1, seed)
    assert len(pooled(made.clients)) == size
    assert len(made.clients) == 30


@pytest.mark.parametrize("rule", [FEDAVG, FEDPROX, SCAFFOLD, FEDDC], ids=lambda rule: rule.name)
def test_the_sdk_trains_as_the_formulas_say(problem: Problem, tmp_path: Path, rule: Rule) -> None:
    local, plan = Local(rate=0.01, epochs=2, batch=10), Plan(10)
    formula = federate(problem, rule, local, plan, 2, tmp_path)
    clients = SdkClients(rule, local, problem.classes, tmp_path)
    trained = federate(problem, rule, local, plan, 2, tmp_path, clients=clients)
    for name, wanted in formula.weights.items():
        np.testing.assert_allclose(trained.weights[name], wanted, rtol=0, atol=1e-12)


def test_fedprox_learns_from_stragglers_where_fedavg_loses_them(runs: Runs) -> None:
    prox, average = runs(FEDPROX, 0.9), runs(FEDAVG, 0.9)
    found = prox.last(prox.accuracy, LAST)
    assert found > 0.72
    assert found > average.last(average.accuracy, LAST) + 0.15


def test_stragglers_cost_fedprox_nothing(runs: Runs) -> None:
    with_them, without = runs(FEDPROX, 0.9), runs(FEDPROX, 0.0)
    assert with_them.last(with_them.accuracy, LAST) == pytest.approx(
        without.last(without.accuracy, LAST), abs=0.02
    )


def test_feddc_has_the_lowest_loss(runs: Runs) -> None:
    found = runs(FEDDC, 0.0)
    others = [runs(rule, 0.0) for rule in (FEDAVG, FEDPROX, SCAFFOLD)]
    assert found.last(found.loss, LAST) < 0.8 * min(run.last(run.loss, LAST) for run in others)


def test_scaffold_needs_about_half_of_fedavgs_rounds_under_label_skew(tmp_path: Path) -> None:
    local, plan = Local(rate=1.0, epochs=5, batch=15), Plan(4, seed=1)
    firsts = {
        rule.name: federate(digits(1, 0.0), rule, local, plan, 45, tmp_path).first_at(0.90)
        for rule in (FEDAVG, SCAFFOLD)
    }
    assert firsts["fedavg"] is not None
    assert firsts["scaffold"] is not None
    assert firsts["scaffold"] <= 0.6 * firsts["fedavg"]
