"""The sum of a round's masked updates, as the sums that a linear strategy finishes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row

from catchment.errors import SecureSumFailed
from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Signature
from catchment.models.tensors import TensorFile
from catchment.rounds.secure import seeds_of
from catchment.rounds.secure_layout import round_layout
from catchment.secagg.masks import add_into
from catchment.secagg.quantise import Words
from catchment.secagg.vector import VectorSum
from catchment.store import Store
from catchment.strategies.base import Cohort, Context, LinearStrategy, Outcome, Strategy
from catchment.strategies.sums import Sums
from catchment.wire.secagg import MASKED


class SummedStrategy(Strategy):
    """A linear strategy that finishes from a sum which is there already; it sees no update.

    Args:
        inner: the strategy.
        found: the sum.
        divisor: what sums are divided by for a mean, in place of the number of sites, where updates are
            noised; integers, which cannot be, then keep the round's values.
    """

    def __init__(self, inner: LinearStrategy, found: VectorSum, divisor: int | None = None) -> None:
        self.name, self.params = inner.name, inner.params  # type: ignore[misc]
        self._inner, self._found, self._divisor = inner, found, divisor

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Fill the strategy's sums, then let it finish."""
        sums = self._inner.begin(weights, context)
        fill(sums, self._found, weights, by_samples=self._inner.weighting == "samples")
        if self._divisor is not None:
            sums.total_weight = float(self._divisor)
        return self._inner.finish(sums, weights, context, writer)


def fill(sums: Sums, found: VectorSum, weights: Tensors, *, by_samples: bool) -> None:
    """Put a secure sum into a strategy's empty sums.

    Integer and boolean tensors move by their mean difference, rounded; a sum has no largest value.
    """
    for name, total in found.floats.items():
        sums.floats[name] = total
    for name, total in found.integers.items():
        before = weights.array(name)
        mean = np.rint(total / found.num_sites).astype(np.int64)
        moved = before.reshape(-1).astype(np.int64) + mean
        sums.others[name] = moved.astype(before.dtype).reshape(before.shape)
    sums.num_samples, sums.num_updates = found.num_samples, found.num_sites
    sums.total_weight = float(found.num_samples if by_samples else found.num_sites)


def secure_warnings(found: VectorSum) -> tuple[str, ...]:
    """What the sum says of clip and cap, for the job's log."""
    told = []
    if found.clipped:
        told.append(
            f"{found.clipped} values of the sites' updates were clipped; raise secure_algorithm.clip_value"
        )
    if found.capped:
        told.append(
            f"{found.capped} of {found.num_sites} sites have more samples than secure_algorithm.sample_cap "
            "and counted less than they should; raise it"
        )
    return tuple(told)


def unmasked_sum(
    store: Store, row: Row[Any], attempt: Row[Any], admitted: Sequence[Row[Any]], weights: Signature
) -> VectorSum:
    """Add the masked updates, take off what masks are left, and read the sum.

    Raises:
        SecureSumFailed: the shares do not fit, or somebody sent something else than a masked update.
    """
    layout = round_layout(row, attempt, weights)
    seeds = store.db.read(lambda tx: seeds_of(tx, row, attempt))
    total: Words = np.zeros(layout.num_words, np.uint32)
    for work in admitted:
        with TensorFile.open(store.blobs.local_path(work.update)) as file:
            add_into(total, file.array(MASKED))
    seeds.unmask(total)
    found = layout.decode(total)
    if found.num_sites != len(admitted):
        raise SecureSumFailed(
            "the sum makes no sense: a site masked something else than its update, or with other masks"
        )
    return found
