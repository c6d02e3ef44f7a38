"""FedDC: clients keep track of their drift from the global weights, and the server adds it back."""

from __future__ import annotations

import math

import numpy as np

from catchment.models.interfaces import Sink, Tensors
from catchment.models.updates import blocks
from catchment.strategies import sums as summing
from catchment.strategies.base import Context, LinearStrategy, Outcome, mean_of
from catchment.strategies.scaffold import Control
from catchment.strategies.sums import Sums
from catchment.strategies.vectors import CONTROL
from catchment.strategies.writing import Floats, State, write_changed

DRIFT = "@drift/"
DRIFT_NORM, GROWTH = "@drift_norm", "@drift_growth"
GROWING_ROUNDS = 10


class FedDC(LinearStrategy):
    """FedDC's server (Gao et al. 2022), with sample weights.

    A client keeps its drift, `h_k' = h_k + D_k`, and SCAFFOLD's control variate c_k. With p_k a client's
    share of all samples and q_k its share of the round's:
    `h' = h + sum_S(p_k * D_k)`, which is `sum_k(p_k * h_k)` without anything sent for it;
    `w' = sum_S(q_k * w_k) + h'`, damped by the learning rate: `w' = w + learning_rate * (mean(D_k) + h')`;
    `c' = c + sum_S(p_k * d_k)`.

    Tensors that no client trains have no drift, as they have none at the clients: a running mean that moves
    on would be pushed further each round. They are told by their control variates, which stay zero.

    Where the penalty alpha is too weak for the steps taken, h grows without bound. A norm of h that grows
    ten rounds in a row is said in the job's log.
    """

    name = "feddc"
    stateful_clients = True
    plain_sgd = True
    broadcasts_state = True
    counts_everybody = True

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the state is c, h and for how long h grows."""
        mean = mean_of(sums)
        state = State(context.state, weights.signature, CONTROL, DRIFT)
        means = Control(sums, context, state, self.weighting)
        trained = {
            name
            for name, info in weights.signature.items()
            if info.is_float and _is_trained(name, sums, state)
        }
        squares = 0.0

        def change(name: str, start: int, stop: int) -> Floats:
            nonlocal squares
            if name not in trained:
                return context.learning_rate * mean(name, start, stop)
            means.move(name, start, stop)
            drift = means.mean(DRIFT + name, name, start, stop)
            squares += float(np.dot(drift, drift))
            return context.learning_rate * (mean(name, start, stop) + drift)

        write_changed(weights, sums.others, writer, change)
        norm = math.sqrt(squares)
        grown = state.number(GROWTH) + 1 if norm > state.number(DRIFT_NORM) else 0.0
        state.keep_number(DRIFT_NORM, norm)
        state.keep_number(GROWTH, grown)
        return Outcome(state.arrays, {"drift_norm": norm}, _warnings(norm, int(grown)))


def _is_trained(name: str, sums: Sums, state: State) -> bool:
    """Whether a client has trained the tensor, in this round or before; one block mostly tells."""
    control = CONTROL + name
    return any(
        state.block(control, start, stop).any() or sums.block(control, start, stop).any()
        for start, stop in blocks(state.arrays[control].size, summing.BLOCK_ELEMENTS)
    )


def _warnings(norm: float, grown: int) -> tuple[str, ...]:
    if not grown or grown % GROWING_ROUNDS:
        return ()
    return (
        f"the clients' mean drift has grown for {grown} rounds, its norm is {norm:.4g}: "
        "FedDC may diverge; a larger loss.params.alpha or more local steps help",
    )
