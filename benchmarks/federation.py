"""Softmax regression in federated rounds: the coordinator's strategies, and clients in numpy or with the SDK.

The coordinator's half is the product's: each round goes through `catchment.strategies` over tensor files.
The clients' half exists twice, with the same samples in the same order: `NumpyClients` is one formula for
all algorithms, fast enough for long runs; `SdkClients` trains with what a script uses, in task folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.synthetic import Problem, Samples, pooled
from catchment.models.tensors import read_tensors
from catchment.strategies.base import Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.feddc import FedDC
from catchment.strategies.scaffold import Scaffold
from catchment.wire.messages import Algorithm
from catchment.wire.task import (
    CLIENT_STATE,
    NEXT_CLIENT_STATE,
    STATE,
    TASK_VARIABLE,
    UPDATE,
    WEIGHTS,
    TaskFile,
)
from tests.strategy_rounds import Arrays, aggregate, write


@dataclass(frozen=True)
class Rule:
    """A federated algorithm.

    Attributes:
        name: of the algorithm at the clients.
        strategy: makes the coordinator's half.
        pull: mu of FedProx, alpha of FedDC.
        takes_partial: whether a straggler's unfinished work counts.
    """

    name: str
    strategy: Callable[[], Strategy] = FedAvg
    pull: float = 0.0
    takes_partial: bool = False

    @property
    def has_controls(self) -> bool:
        """Whether its clients keep control variates."""
        return self.name in ("scaffold", "feddc")


FEDAVG = Rule("fedavg")
FEDPROX = Rule("fedprox", pull=1.0, takes_partial=True)
SCAFFOLD = Rule("scaffold", Scaffold)
FEDDC = Rule("feddc", FedDC, pull=0.1)


@dataclass(frozen=True)
class Local:
    """How clients train: plain SGD.

    Attributes:
        rate: learning rate.
        epochs: of those that are no stragglers.
        batch: samples a step; the last of an epoch may be smaller.
    """

    rate: float
    epochs: int
    batch: int


@dataclass(frozen=True)
class Work:
    """One client's part of a round."""

    client: int
    samples: Samples
    epochs: int
    seed: tuple[int, ...]

    def orders(self) -> Iterator[np.ndarray]:
        """The order of the samples in each epoch."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            yield random.permutation(len(self.samples))


class Clients(Protocol):
    """All clients of a problem, with what they keep from round to round."""

    def update(self, work: Work, weights: Arrays, state: Arrays) -> Arrays:
        """What the client sends after its work."""


class NumpyClients:
    """Every algorithm here is a case of one step, `w - rate * (g + pull * (w - centre) + c - c_k)`."""

    def __init__(self, rule: Rule, local: Local, classes: int) -> None:
        self._rule, self._local, self._classes = rule, local, classes
        self._control: dict[int, np.ndarray] = {}
        self._drift: dict[int, np.ndarray] = {}

    def update(self, work: Work, weights: Arrays, state: Arrays) -> Arrays:
        """What the client sends."""
        start = _joined(weights)
        if not self._rule.has_controls:
            moved, _ = self._moved(work, start, start, 0.0)
            return _parted(moved)
        everybody = _joined(state, "@control/") if state else np.zeros_like(start)
        own = self._control.get(work.client, np.zeros_like(start))
        drift = self._drift.get(work.client, 0.0) if self._rule.name == "feddc" else 0.0
        moved, steps = self._moved(work, start, start - drift, everybody - own)
        change = -moved / (steps * self._local.rate) - everybody
        self._control[work.client] = own + change
        self._drift[work.client] = drift + moved
        return {**_parted(moved), **_parted(change, "@control/")}

    def _moved(
        self, work: Work, start: np.ndarray, centre: np.ndarray, shift: np.ndarray | float
    ) -> tuple[np.ndarray, int]:
        """w_k - w^t, and the number of steps."""
        rate, size, pull = self._local.rate, self._local.batch, self._rule.pull
        inputs = np.column_stack([work.samples.inputs, np.ones(len(work.samples))])
        wanted = np.eye(self._classes)[work.samples.labels]
        constant, kept = rate * (shift - pull * centre), 1 - rate * pull
        is_plain = not np.any(constant)
        w, steps = start.copy(), 0
        for order in work.orders():
            x, y = inputs[order], wanted[order]
            for first in range(0, len(order), size):
                some = x[first : first + size]
                chances = some @ w
                chances -= chances.max(axis=1, keepdims=True)
                np.exp(chances, out=chances)
                chances /= chances.sum(axis=1, keepdims=True)
                chances -= y[first : first + size]
                step = some.T @ chances
                step *= rate / len(some)
                if kept != 1:
                    w *= kept
                if not is_plain:
                    w -= constant
                w -= step
                steps += 1
        return w - start, steps


class SdkClients:
    """The same with torch and the SDK, as a training script at a site has them: one task folder a work."""

    def __init__(self, rule: Rule, local: Local, classes: int, folder: Path) -> None:
        self._rule, self._local, self._classes, self._folder = rule, local, classes, folder

    def update(self, work: Work, weights: Arrays, state: Arrays) -> Arrays:
        """What the client sends. The process is in no task afterwards."""
        task = self._begin(work, weights, state)
        before = os.environ.get(TASK_VARIABLE)
        os.environ[TASK_VARIABLE] = str(task / "task.json")
        try:
            self._script(work)
        finally:
            if before is None:
                del os.environ[TASK_VARIABLE]
            else:
                os.environ[TASK_VARIABLE] = before
        kept = task / NEXT_CLIENT_STATE
        if kept.exists():
            kept.replace(self._kept(work.client))
        return read_tensors(task / UPDATE)

    def _kept(self, client: int) -> Path:
        return self._folder / f"kept-{client}.safetensors"

    def _begin(self, work: Work, weights: Arrays, state: Arrays) -> Path:
        task = self._folder / "-".join(map(str, ("task", *work.seed)))
        shutil.rmtree(task, ignore_errors=True)
        (task / "result").mkdir(parents=True)
        write(task / WEIGHTS, weights)
        if state:
            write(task / STATE, state)
        if self._kept(work.client).exists():
            shutil.copy(self._kept(work.client), task / CLIENT_STATE)
        rule, chosen = self._rule, {}
        if rule.name in ("fedprox", "scaffold"):
            chosen["optimizer"] = Algorithm(name=rule.name, params={"mu": rule.pull} if rule.pull else {})
        if rule.name == "feddc":
            chosen["loss"] = Algorithm(name="feddc", params={"alpha": rule.pull})
        content = TaskFile(
            kind="train", namespace="default", job_id="evidence", run=1, round=work.seed[-2] + 1,
            runtime="pytorch", seed=0, **chosen,
        )  # fmt: skip
        (task / "task.json").write_text(content.model_dump_json(), encoding="utf-8")
        return task

    def _script(self, work: Work) -> None:
        """What a person would write as train.py."""
        import torch

        import catchment.sdk as fl

        inputs = torch.from_numpy(work.samples.inputs)
        labels = torch.from_numpy(work.samples.labels)
        model = torch.nn.Linear(inputs.shape[1], self._classes).double()
        fl.load_weights(model)
        loss: Any = torch.nn.CrossEntropyLoss()
        if self._rule.name == "feddc":
            loss = fl.create_loss(train_model=model, lr=self._local.rate)
        if self._rule.name in ("fedprox", "scaffold"):
            optimizer = fl.create_optimizer(model=model, lr=self._local.rate)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=self._local.rate)
        for order in work.orders():
            for some in torch.from_numpy(order).split(self._local.batch):
                optimizer.zero_grad()
                loss(model(inputs[some]), labels[some]).backward()
                optimizer.step()
        fl.commit({"sample_num": len(work.samples)}, model)


@dataclass(frozen=True)
class Plan:
    """Who takes part in a round: the same clients for every algorithm.

    Attributes:
        cohort: clients a round, drawn without replacement.
        stragglers: share of the cohort that makes fewer epochs, 1 to epochs - 1, than it should.
        seed: of the order of samples; the choice of clients hangs on the round alone, as in FedProx' code.
    """

    cohort: int
    stragglers: float = 0.0
    seed: int = 0

    def works(self, problem: Problem, rule: Rule, local: Local, number: int) -> list[Work]:
        """The works of a round, from 0, in the order of the clients."""
        random = np.random.RandomState(number)
        chosen = random.choice(len(problem.clients), self.cohort, replace=False)
        timely = random.choice(chosen, round(self.cohort * (1 - self.stragglers)), replace=False)
        works = []
        for client in map(int, chosen):
            epochs = local.epochs
            if client not in timely:
                epochs = int(random.randint(1, local.epochs))
                if not rule.takes_partial:
                    continue
            works.append(Work(client, problem.clients[client], epochs, (self.seed, number, client)))
        return sorted(works, key=lambda work: work.client)


Attack = Callable[[int, Arrays], Arrays]
"""Client and its update -> what it sends."""


@dataclass
class Run:
    """What a federation did, round by round.

    Attributes:
        weights: after the last round.
        accuracy: on the test samples, after each round.
        loss: on all training samples, after each round.
    """

    weights: Arrays
    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def last(self, values: list[float], rounds: int = 50) -> float:
        """Mean of the last rounds."""
        return float(np.mean(values[-rounds:]))

    def first_at(self, accuracy: float) -> int | None:
        """The first round, from 1, with that accuracy; None for never."""
        return next((n for n, value in enumerate(self.accuracy, 1) if value >= accuracy), None)


def federate(
    problem: Problem,
    rule: Rule,
    local: Local,
    plan: Plan,
    rounds: int,
    folder: Path,
    *,
    clients: Clients | None = None,
    attack: Attack = lambda client, update: update,
) -> Run:
    """Train from zero.

    Args:
        problem: samples.
        rule: the algorithm.
        local: the clients' training.
        plan: who takes part.
        rounds: how many.
        folder: for files of a round.
        clients: by default those in numpy.
        attack: what becomes of an update on its way.
    """
    clients = clients or NumpyClients(rule, local, problem.classes)
    strategy, everybody = rule.strategy(), pooled(problem.clients)
    size = everybody.inputs.shape[1]
    run = Run({"weight": np.zeros((problem.classes, size)), "bias": np.zeros(problem.classes)})
    state: Arrays = {}
    known: dict[str, int] = {}
    for number in range(rounds):
        works = plan.works(problem, rule, local, number)
        known |= {f"client-{work.client:02d}": len(work.samples) for work in works}
        updates = [
            (len(work.samples), attack(work.client, clients.update(work, run.weights, state)))
            for work in works
        ]
        path, outcome = aggregate(
            folder, strategy, run.weights, updates, state=state or None, batch=len(updates),
            round_number=number + 1, population=len(problem.clients), samples=known,
        )  # fmt: skip
        run.weights, state = read_tensors(path), outcome.state
        run.accuracy.append(measure(run.weights, problem.test)[0])
        run.loss.append(measure(run.weights, everybody)[1])
    return run


def measure(weights: Mapping[str, np.ndarray], samples: Samples) -> tuple[float, float]:
    """Accuracy and mean cross entropy."""
    scores = samples.inputs @ weights["weight"].T + weights["bias"]
    scores -= scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(samples)), samples.labels]
    loss = np.log(np.exp(scores).sum(axis=1)) - right
    return float((scores.argmax(axis=1) == samples.labels).mean()), float(loss.mean())


def _joined(tensors: Arrays, prefix: str = "") -> np.ndarray:
    """Weight and bias as one matrix, inputs and a constant one x classes."""
    return np.vstack([tensors[prefix + "weight"].T, tensors[prefix + "bias"]])


def _parted(matrix: np.ndarray, prefix: str = "") -> Arrays:
    return {prefix + "weight": np.ascontiguousarray(matrix[:-1].T), prefix + "bias": matrix[-1].copy()}
