"""The interface of aggregation rules.

A strategy is arithmetic: it gets a round's updates, the weights and the state that the round began with, and
writes new weights. It knows no store. Two kinds exist:

* Linear ones need the weighted sum of the updates and nothing else of them. They stream: the memory is one
  model, whatever the cohort. Differential privacy and secure aggregation go around them: both fill or
  change the `Sums` between `begin` and `finish`.
* All others look at every update, blockwise, so that the memory is one block times the cohort.

Updates come in the order of their sites' names, so arrival order changes no bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from catchment.errors import BadTensors
from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Array
from catchment.strategies.sums import ClientUpdate, Sums
from catchment.strategies.vectors import sent_signature
from catchment.strategies.writing import Floats

Weighting = Literal["samples", "uniform"]


class Cohort(Protocol):
    """A round's admitted updates, in the order of their sites' names."""

    def __len__(self) -> int:
        """How many there are."""

    def batches(self) -> Iterator[Sequence[ClientUpdate]]:
        """A few at a time; each batch is closed before the next one is opened."""

    def opened(self) -> AbstractContextManager[Sequence[ClientUpdate]]:
        """All of them."""


@dataclass(frozen=True)
class Context:
    """What a strategy knows of its round besides weights and updates.

    Attributes:
        round_number: from 1.
        learning_rate: hyper_parameters.learning_rate, the server's step.
        population: number of sites that the job may use, whether or not they take part; SCAFFOLD's N.
        samples: sample numbers of all sites of this run that were admitted so far, this round included.
        state: arrays that the strategy left in the round before; None in the first.
        staleness: of FedBuff, how many rounds were committed since each site's update began.
    """

    round_number: int = 1
    learning_rate: float = 1.0
    population: int = 1
    samples: Mapping[str, int] = field(default_factory=dict)
    state: Tensors | None = None
    staleness: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a strategy leaves besides the new weights.

    Attributes:
        state: named arrays for the next round; {} for strategies without a state.
        metrics: what the round's report says of the aggregation, as JSON.
        warnings: sentences for the job's log.
    """

    state: dict[str, Array] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class StrategyParams(BaseModel):
    """Parameters that every strategy has: which tensors are shared (strategies.vectors.partition)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    shared: list[str] = ["*"]
    local: list[str] = []


class Strategy(ABC):
    """How client updates become new global weights.

    Attributes:
        name: as a job's `strategy.name` has it.
        linear: whether the weighted sum of updates is all that it needs, so that noise or masks may be
            put around it.
        stateful_clients: whether its clients keep a state from round to round.
        plain_sgd: whether its formula holds for plain SGD at the clients only.
        broadcasts_state: whether the clients get the state with the weights.
        counts_everybody: whether it asks what all sites of the job weigh, those that take no part included:
            `Context.population` and `Context.samples` are filled in for it alone.
    """

    name: ClassVar[str]
    linear: ClassVar[bool] = False
    stateful_clients: ClassVar[bool] = False
    plain_sgd: ClassVar[bool] = False
    broadcasts_state: ClassVar[bool] = False
    counts_everybody: ClassVar[bool] = False

    class Params(StrategyParams):
        """Its parameters, as a job's `strategy.params` has them."""

    params: StrategyParams

    def __init__(self, **params: Any) -> None:
        self.params = self.Params(**params)

    @abstractmethod
    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new global weights, in the order of the signature of `weights`.

        All tensors are written, or it raises and nothing has changed.

        Raises:
            BadTensors: the result would not be finite, or nothing took part.
        """

    def check(self, update: Tensors) -> None:  # noqa: B027 - most have nothing to check
        """Check what is particular to the strategy's own vectors of an update; nothing for most.

        Raises:
            BadTensors: the update must not take part.
        """


class LinearStrategy(Strategy):
    """A strategy that needs the weighted sum of the updates alone."""

    linear = True
    weighting: Weighting = "samples"

    def begin(self, weights: Tensors, context: Context) -> Sums:
        """Empty sums, also of the vectors that its clients send besides."""
        return Sums(sent_signature(weights.signature, algorithm=self.name))

    def weight(self, update: ClientUpdate) -> float:
        """What the update counts."""
        return float(update.num_samples) if self.weighting == "samples" else 1.0

    def accumulate(self, sums: Sums, updates: Sequence[ClientUpdate]) -> None:
        """Add some updates to the running sums."""
        sums.add(updates, [self.weight(update) for update in updates])

    @abstractmethod
    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new global weights; means are sums divided by `sums.total_weight`.

        Raises:
            BadTensors: the result would not be finite, or nothing took part.
        """

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Stream the updates through the sums; the last batch is added while the result is written."""
        sums, left = self.begin(weights, context), len(cohort)
        for updates in cohort.batches():
            self.accumulate(sums, updates)
            left -= len(updates)
            if left <= 0:
                return self.finish(sums, weights, context, writer)
            sums.settle()
        return self.finish(sums, weights, context, writer)


def mean_step(sums: Sums, context: Context) -> float:
    """What a sum is multiplied by to become the server's step: learning_rate / total weight.

    Raises:
        BadTensors: nothing took part.
    """
    if not sums.total_weight > 0:
        raise BadTensors("no samples took part in the round; the weights stay as they are")
    return context.learning_rate / sums.total_weight


def mean_of(sums: Sums) -> Callable[[str, int, int], Floats]:
    """The mean update, as a function that gives blocks of it: name, start, stop -> float64.

    Raises:
        BadTensors: nothing took part.
    """
    share = mean_step(sums, Context())
    return lambda name, start, stop: sums.block(name, start, stop) * share


def everybody(sums: Sums, context: Context, weighting: Weighting) -> float:
    """The weight that all sites of the job would have together, in the unit of the sums.

    Sites whose number of samples nobody knows yet count as much as the others' mean.
    """
    population = max(context.population, sums.num_updates, 1)
    if weighting == "uniform":
        return float(population)
    known = context.samples
    if not known:
        return sums.total_weight * population / max(sums.num_updates, 1)
    return sum(known.values()) * max(population / len(known), 1.0)
