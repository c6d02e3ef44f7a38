"""FedNova: clients that make different numbers of steps are brought to one length before the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from catchment.errors import BadTensors
from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Signature
from catchment.strategies.base import Context, LinearStrategy, Outcome, mean_step
from catchment.strategies.sums import ClientUpdate, Sums
from catchment.strategies.vectors import NUM_STEPS, sent_signature
from catchment.strategies.writing import write_changed

MAX_STEPS = 2**40


class NovaSums(Sums):
    """Sums of `n_k * D_k / tau_k`, and of `n_k * tau_k`."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self.samples_times_steps = 0.0


class FedNova(LinearStrategy):
    """Normalized averaging (Wang et al. 2020) for plain SGD at the clients.

    With tau_k the optimizer steps that client k made and p_k its share of the round's samples:
    `w' = w + learning_rate * tau * sum_k(p_k * D_k / tau_k)`, `tau = sum_k(p_k * tau_k)`.
    Equal numbers of steps make it FedAvg.
    """

    name = "fednova"
    linear = False  # a client's steps decide what its update counts, so no sum of updates alone will do
    plain_sgd = True

    def check(self, update: Tensors) -> None:
        """Check that the number of steps is one."""
        steps = _steps(update)
        if not (math.isfinite(steps) and steps == math.floor(steps) and 1 <= steps <= MAX_STEPS):
            raise BadTensors(f"{NUM_STEPS} is {steps:g}, it must be a whole number between 1 and {MAX_STEPS}")

    def begin(self, weights: Tensors, context: Context) -> NovaSums:
        """Empty sums."""
        return NovaSums(sent_signature(weights.signature, algorithm=self.name))

    def weight(self, update: ClientUpdate) -> float:
        """Samples a step."""
        return update.num_samples / _steps(update.tensors)

    def accumulate(self, sums: Sums, updates: Sequence[ClientUpdate]) -> None:
        """Add updates, and what the mean number of steps is made of."""
        if not isinstance(sums, NovaSums):
            raise TypeError("FedNova adds to the sums that its `begin` made")
        super().accumulate(sums, updates)
        for update in updates:
            sums.samples_times_steps += update.num_samples * _steps(update.tensors)

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights."""
        if not isinstance(sums, NovaSums):
            raise TypeError("FedNova adds to the sums that its `begin` made")
        mean_step(sums, context)
        mean_steps = sums.samples_times_steps / sums.num_samples
        step = context.learning_rate * mean_steps / sums.num_samples
        write_changed(
            weights, sums.others, writer, lambda name, start, stop: sums.block(name, start, stop) * step
        )
        return Outcome(metrics={"mean_steps": mean_steps})


def _steps(update: Tensors) -> float:
    return float(update.block(NUM_STEPS, 0, 1)[0])
