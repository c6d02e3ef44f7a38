"""What the noise of all rounds together is worth: (epsilon, delta) by Google's dp-accounting."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Sampling = Literal["all", "fixed_size", "poisson"]


@dataclass(frozen=True, order=True)
class Release:
    """One noised sum.

    Attributes:
        noise_multiplier: std of the sum's noise over the most that one client can add to the sum (z).
        sampling: how clients were chosen. `all`: no randomness is counted on, each may be in each round;
            `fixed_size`: `chosen` of `population` without replacement, uniformly; `poisson`: each by itself
            with probability `chosen / population`.
        chosen: clients selected (with redundancy, all of them); for `poisson` their expected number.
        population: clients that the choice was made among.
        discrete: a sum of discrete Gaussians. Its Renyi curve is bounded by the Gaussian's, its exact epsilon
            is not.
    """

    noise_multiplier: float
    sampling: Sampling = "all"
    chosen: float = 1
    population: int = 1
    discrete: bool = False


@dataclass(frozen=True)
class Cost:
    """The price of some releases.

    Attributes:
        epsilon: the lowest bound that holds; infinite where there is none.
        accountant: what it was computed by: `exact`, `PLD`, `RDP`, or `none`.
        rdp: the Renyi accountant's bound for the same releases, as a cross-check.
        sampled: whether it counts on the choice of clients being unknown.
    """

    epsilon: float
    accountant: str
    rdp: float
    sampled: bool = False


def cost(releases: Iterable[Release], delta: float) -> Cost:
    """Epsilon of the releases at `delta`, when one client's part is taken out of all of them (or put in).

    * Without sampling, all releases together are one Gaussian mechanism of noise `(sum z^-2)^(-1/2)`, whose
      epsilon is known exactly (Balle and Wang 2018).
    * Poisson sampling is composed as privacy loss distributions (PLD); RDP bounds the same from above.
    * For sampling of a fixed size there is only an RDP bound (Wang, Balle, Kasiviswanathan 2019), for the
      relation "replace one client", where a clipped sum moves by twice the clipping norm; z counts half. A
      client whose part is zero being as good as an absent one, the bound holds for "take out" too, and the
      lower of it and the bound without sampling is reported.

    * With a sum of discrete Gaussians among them, all are counted by their Renyi curves (Canonne,
      Kamath, Steinke 2020), which compose as those of Gaussians.

    Cached: the same releases cost nothing the second time.

    Raises:
        ValueError: delta is not between 0 and 1, or Poisson sampling is mixed with what it cannot be.
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be between 0 and 1, got {delta!r}")
    return _cost(tuple(sorted(Counter(releases).items())), delta)


@functools.lru_cache(maxsize=4096)
def _cost(counted: tuple[tuple[Release, int], ...], delta: float) -> Cost:
    kinds = {release.sampling for release, _ in counted}
    if {"poisson", "fixed_size"} <= kinds:
        raise ValueError("Poisson and fixed-size sampling cannot be accounted for together")
    discrete = any(release.discrete for release, _ in counted)
    if discrete and "poisson" in kinds:
        raise ValueError("Poisson sampling and discrete noise cannot be accounted for together")
    if not counted:
        return Cost(0.0, "exact", 0.0)
    if any(release.noise_multiplier <= 0.0 for release, _ in counted):
        return Cost(math.inf, "none", math.inf)
    if "poisson" in kinds:
        return _poisson(counted, delta)
    import dp_accounting as dp

    merged = sum(count * release.noise_multiplier**-2 for release, count in counted) ** -0.5
    bound = _rdp([(dp.GaussianDpEvent(merged), 1)], delta)
    every, by = (bound, "RDP") if discrete else (float(dp.get_epsilon_gaussian(merged, delta)), "exact")
    if "fixed_size" not in kinds:
        return Cost(every, by, bound)
    events = [(_without_replacement(release), count) for release, count in counted]
    sampled = _rdp(events, delta, replace=True)
    return Cost(sampled, "RDP", sampled, sampled=True) if sampled < every else Cost(every, by, sampled)


def _poisson(counted: tuple[tuple[Release, int], ...], delta: float) -> Cost:
    import dp_accounting as dp
    from dp_accounting import pld

    events = [(_poisson_event(release), count) for release, count in counted]
    accountant = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event, count in events:
        accountant.compose(event, count)
    tight, rdp = float(accountant.get_epsilon(delta)), _rdp(events, delta)
    return Cost(tight, "PLD", rdp) if tight <= rdp else Cost(rdp, "RDP", rdp)


def _poisson_event(release: Release) -> Any:
    import dp_accounting as dp

    gaussian = dp.GaussianDpEvent(release.noise_multiplier)
    if release.sampling == "all" or release.chosen >= release.population:
        return gaussian
    return dp.PoissonSampledDpEvent(release.chosen / release.population, gaussian)


def _without_replacement(release: Release) -> Any:
    import dp_accounting as dp

    gaussian = dp.GaussianDpEvent(release.noise_multiplier / 2.0)  # replaced, not taken out: twice the change
    if release.sampling == "all" or release.chosen >= release.population:
        return gaussian
    return dp.SampledWithoutReplacementDpEvent(release.population, int(release.chosen), gaussian)


def _rdp(events: list[tuple[Any, int]], delta: float, *, replace: bool = False) -> float:
    import dp_accounting as dp
    from dp_accounting import rdp

    relation = dp.NeighboringRelation
    accountant = rdp.RdpAccountant(
        neighboring_relation=relation.REPLACE_ONE if replace else relation.ADD_OR_REMOVE_ONE
    )
    for event, count in events:
        accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))
