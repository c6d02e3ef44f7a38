"""Krum and multi-Krum: the updates that lie closest to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from catchment.errors import BadTensors
from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Cohort, Context, Outcome, Strategy, StrategyParams
from catchment.strategies.robust import float_blocks, lower_medians, some
from catchment.strategies.sums import ClientUpdate, Sums
from catchment.strategies.writing import Floats, write_changed

PAIR_ELEMENTS = 1 << 13
"""Two rows of so many elements and their difference stay in the first-level cache's reach."""


class MultiKrum(Strategy):
    """Multi-Krum (Blanchard et al. 2017).

    An update's score is the sum of its squared distances to the `n - f - 2` updates nearest to it, where f
    of the n clients may be hostile and `n >= 2 f + 3`. The `keep` updates of the lowest scores are averaged,
    each alike: `w' = w + learning_rate * mean(D_kept)`. Of equal scores the first by site's name is taken.
    The work grows with the square of the cohort.
    """

    name = "multi_krum"

    class Params(StrategyParams):
        """`malicious` is f, by default as many as n allows; `keep` is by default n - f."""

        malicious: Annotated[int, Field(ge=0)] | None = None
        keep: Annotated[int, Field(ge=1)] | None = None

    params: Params

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the metrics name who was kept and who was not."""
        with cohort.opened() as found:
            updates = some(found)
            malicious = tolerated(len(updates), self.params.malicious)
            order = np.argsort(scores(distances(updates, weights), malicious), kind="stable")
            kept = [updates[index] for index in sorted(order[: self._keep(len(updates), malicious)])]
            sums = Sums(weights.signature)
            sums.add(kept, [1.0] * len(kept))
            step = context.learning_rate / len(kept)
            write_changed(
                weights,
                lower_medians(kept, weights.signature),
                writer,
                lambda name, start, stop: sums.block(name, start, stop) * step,
            )
        names = [update.site for update in kept]
        rejected = [update.site for update in updates if update.site not in names]
        return Outcome(metrics={"selected": names, "rejected": rejected, "malicious": malicious})

    def _keep(self, num_updates: int, malicious: int) -> int:
        return min(self.params.keep or num_updates - malicious, num_updates)


class Krum(MultiKrum):
    """Krum (Blanchard et al. 2017): multi-Krum that keeps the single update of the lowest score."""

    name = "krum"

    class Params(StrategyParams):
        """`malicious` is f, by default as many as n allows."""

        malicious: Annotated[int, Field(ge=0)] | None = None

    def _keep(self, num_updates: int, malicious: int) -> int:
        return 1


def tolerated(num_updates: int, malicious: int | None) -> int:
    """f for a round of so many updates.

    Raises:
        BadTensors: there are too few updates for it.
    """
    most = (num_updates - 3) // 2
    if most < 0 or (malicious or 0) > most:
        wanted = malicious or 0
        raise BadTensors(
            f"{num_updates} updates took part, {2 * wanted + 3} are needed to tell {wanted} bad ones apart"
        )
    return most if malicious is None else malicious


def distances(updates: Sequence[ClientUpdate], weights: Tensors) -> Floats:
    """Squared distances of all pairs of updates over all float tensors, blockwise.

    From differences: the shorter way over scalar products loses small distances of long vectors.
    """
    count = len(updates)
    squares, difference = np.zeros((count, count)), np.empty(PAIR_ELEMENTS)
    with np.errstate(over="ignore"):
        for rows in float_blocks(updates, weights):
            for start in range(0, rows.shape[1], PAIR_ELEMENTS):
                _add_pairs(squares, rows[:, start : start + PAIR_ELEMENTS], difference)
    return squares + squares.T


def _add_pairs(squares: Floats, rows: Floats, difference: Floats) -> None:
    part = difference[: rows.shape[1]]
    for one in range(1, len(rows)):
        for other in range(one):
            np.subtract(rows[one], rows[other], out=part)
            squares[one, other] += np.dot(part, part)


def scores(squares: Floats, malicious: int) -> Floats:
    """Each update's sum of squared distances to its `n - malicious - 2` nearest others."""
    count = len(squares)
    others = np.sort(squares[~np.eye(count, dtype=bool)].reshape(count, count - 1), axis=1)
    nearest: Floats = others[:, : count - malicious - 2].sum(axis=1)
    return nearest
