"""What a job's DP fields amount to: what is done to its sums, and what that guarantees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from catchment.privacy.accountant import Cost, Release, cost
from catchment.privacy.clipping import AdaptiveClip
from catchment.wire.messages import SitePrivacy

DEFAULT_DELTA = 1e-5


@dataclass(frozen=True)
class Selection:
    """How a round's cohort came about.

    Attributes:
        chosen: sites selected, redundancy included.
        population: sites that they were selected from.
        uniform: whether each set of that size was equally likely, by randomness that nobody can foresee.
    """

    chosen: int
    population: int
    uniform: bool = False


@dataclass(frozen=True)
class Plan:
    """The DP part of a job.

    Attributes:
        noise_multiplier: std of the sum's noise over `clip_norm`; without that, the variance of the noise
            on each client's update.
        clip_norm: largest L2 norm of one client's update; None: no clipping. With `adaptive` the first
            round's.
        same_noise: one draw for each tensor instead of one for each element.
        delta: of the guarantee.
        placement: who clips and noises: the coordinator (`central`), each site (`site`), or the sites
            together, each with a share of discrete noise under its mask (`shared`, secagg.noised).
        cohort: the fixed number that clipped sums are divided by, client_num.
        threshold: so many sites bring the whole noise: the fewest updates that a committed round has, or of
            `shared` the fewest that the sites let be summed.
        epsilon_budget: the most that the run may cost; None: no limit.
        adaptive: how the clipping norm follows the norms of the updates.
    """

    noise_multiplier: float
    clip_norm: float | None = None
    same_noise: bool = False
    delta: float = DEFAULT_DELTA
    placement: Literal["central", "site", "shared"] = "central"
    cohort: int = 1
    threshold: int = 1
    epsilon_budget: float | None = None
    adaptive: AdaptiveClip | None = None

    @property
    def missing(self) -> str:
        """Why there is no guarantee; empty when there is one."""
        if self.clip_norm is None:
            return "clip_norm is not set, so one site may change the sum by any amount"
        if self.same_noise:
            return "adding_same_noise leaves the differences inside each tensor as they are"
        if self.noise_multiplier == 0.0:
            return "noise_multiplier is 0, so no noise is added"
        return ""

    @property
    def sum_multiplier(self) -> float:
        """Noise multiplier of the sum alone; above the job's where a noised count is released too."""
        return self.adaptive.sum_multiplier(self.noise_multiplier) if self.adaptive else self.noise_multiplier

    def sum_std(self, clip_norm: float | None, weights: Iterable[float] = ()) -> float:
        """Std of the noise that the coordinator adds to each element of the sum.

        Args:
            clip_norm: the round's.
            weights: of the updates in the sum; they count where there is no clipping, so that each
                update's noise has the variance `noise_multiplier`, as the document has it.
        """
        if self.placement != "central":
            return 0.0
        if clip_norm is None:
            return math.sqrt(self.noise_multiplier * math.fsum(weight * weight for weight in weights))
        return self.sum_multiplier * clip_norm

    def for_site(self) -> SitePrivacy | None:
        """What each site does to its update; None when the coordinator does it.

        The sites share the noise: `threshold` of them, the fewest that a round is committed with, bring
        the sum's `(noise_multiplier * clip_norm)^2` together.
        """
        if self.placement != "site":
            return None
        if self.clip_norm is None:
            std = math.sqrt(self.noise_multiplier)
        else:
            std = self.noise_multiplier * self.clip_norm / math.sqrt(self.threshold)
        return SitePrivacy(clip_norm=self.clip_norm, noise_std=std, same_noise=self.same_noise)

    def release(self, selection: Selection) -> Release:
        """What the accountant counts for a round.

        Only a uniform choice by unforeseeable draws amplifies; of discrete noise none is counted on.
        """
        if self.placement == "shared":
            return Release(self.noise_multiplier, discrete=True)
        if selection.uniform and selection.chosen < selection.population:
            return Release(self.noise_multiplier, "fixed_size", selection.chosen, selection.population)
        return Release(self.noise_multiplier)

    def spent(self, releases: Iterable[Release], *, sent: int | None = None) -> Spent:
        """What a job has cost.

        Args:
            releases: its committed rounds.
            sent: rounds that its sites trained for, committed or not: what the coordinator has seen.
        """
        told = list(releases)
        if self.missing:
            return Spent(math.inf, self.delta, "none", math.inf, math.inf, f"no guarantee: {self.missing}")
        total = cost(told, self.delta)
        attempts = len(told) if sent is None else sent
        seen = math.inf if self.placement == "central" else self._seen(attempts)
        words = self._words(total, len(told))
        return Spent(total.epsilon, self.delta, total.accountant, total.rdp, seen, words)

    def _seen(self, attempts: int) -> float:
        """Epsilon towards a coordinator that keeps what it receives of so many attempts."""
        shared = self.placement == "shared"  # the sum of all shares is all that it can unmask
        multiplier = self.noise_multiplier / (1.0 if shared else math.sqrt(self.threshold))
        return cost([Release(multiplier, discrete=shared)] * attempts, self.delta).epsilon

    def _words(self, total: Cost, rounds: int) -> str:
        who = (
            "holds towards whoever does not learn which sites took part (readers of the job do)"
            if total.sampled
            else "holds whoever took part in which round"
        )
        return (
            f"client-level (epsilon {total.epsilon:.4g}, delta {self.delta:g}) over {rounds} rounds: how "
            f"much the models may tell of whether one site's updates are in them; {who}; "
            f"{self._trusted(rounds)}; metrics are not covered"
        )

    def _trusted(self, rounds: int) -> str:
        if self.placement == "central":
            return "the coordinator sees the updates as they are"
        if self.placement == "site":
            return "the coordinator sees each update with its own share of the noise only"
        knowing = self.noise_multiplier * math.sqrt((self.threshold - 1) / self.threshold)
        less = cost([Release(knowing, discrete=True)] * rounds, self.delta).epsilon
        return (
            f"each site adds discrete noise before it masks, {self.threshold} sites the whole of it, and the "
            "coordinator sees noised sums only; it assumes that sites noise as asked, and towards a site, "
            f"which knows its own share, epsilon is {less:.4g}; sites that pool what they know take away a "
            "share each"
        )

    def within_budget(self, spent: Spent) -> bool:
        """Whether the job may cost that much."""
        return self.epsilon_budget is None or spent.epsilon <= self.epsilon_budget


@dataclass(frozen=True)
class Spent:
    """The price of a run so far.

    Attributes:
        epsilon: towards those who see the models; infinite without a guarantee.
        delta: of the guarantee.
        accountant: what computed it.
        rdp: the cross-check.
        epsilon_to_coordinator: towards a coordinator that keeps what it receives; infinite when it
            receives updates as they are.
        words: the guarantee, or why there is none, in a sentence.
    """

    epsilon: float
    delta: float
    accountant: str
    rdp: float
    epsilon_to_coordinator: float
    words: str

    def as_json(self) -> dict[str, Any]:
        """For reports; null stands for infinity, which JSON lacks, and the words say so."""
        return {
            "epsilon": finite_or_none(self.epsilon),
            "delta": self.delta,
            "accountant": self.accountant,
            "rdp_epsilon": finite_or_none(self.rdp),
            "epsilon_to_coordinator": finite_or_none(self.epsilon_to_coordinator),
            "guarantee": self.words,
        }


def finite_or_none(value: float) -> float | None:
    """The value, or None for what JSON cannot show."""
    return value if math.isfinite(value) else None
