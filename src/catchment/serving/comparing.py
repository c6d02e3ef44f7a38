"""Whether a new version does as well as the stable one, by what was seen while both answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catchment.serving.figures import Figures
from catchment.serving.spec import Canary, Metric

FEWEST = 10
"""With fewer requests a share of errors, or a median, says nothing; a single failed probe does."""


@dataclass(frozen=True)
class Probed:
    """What a rollout's own inferences gave: their times in seconds, and how many failed."""

    seconds: tuple[float, ...] = ()
    errors: int = 0

    @property
    def asked(self) -> int:
        """How many there were."""
        return len(self.seconds) + self.errors

    @property
    def p50_s(self) -> float:
        """Their median; 0 without any."""
        return sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0


@dataclass(frozen=True)
class Seen:
    """What was seen of one side: of its traffic, and of the rollout's own inferences."""

    live: Figures
    probed: Probed

    @property
    def requests(self) -> int:
        """All of them."""
        return self.live.requests + self.probed.asked

    @property
    def error_rate(self) -> float:
        """The share of them that failed."""
        return (self.live.errors + self.probed.errors) / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Verdict:
    """What is against the new version, in words; nothing: it may go on. `facts` are for people to look at."""

    against: tuple[str, ...]
    facts: dict[str, Any]


def judge(canary: Canary, stable: Seen, new: Seen) -> Verdict:
    """Compare what was seen of both in one step.

    Latencies are compared like with like: traffic with traffic where both had enough of it, else the
    rollout's own inferences.
    """
    against: list[str] = []
    allowed = stable.error_rate + canary.max_error_rate_increase
    judged = new.requests >= FEWEST or new.probed.errors
    if judged and new.error_rate > allowed:
        against.append(
            f"{new.error_rate:.1%} of its requests failed, of the stable version's {stable.error_rate:.1%}"
        )
    old_s, new_s, of = _medians(stable, new)
    if old_s and new_s > old_s * canary.max_latency_ratio + canary.latency_slack_ms / 1e3:
        against.append(
            f"its median of {of} is {new_s * 1e3:.1f} ms, the stable version's {old_s * 1e3:.1f} ms"
        )
    compared, disagreed = new.live.compared, new.live.disagreed
    if compared >= canary.min_compared and disagreed / compared > canary.max_disagreement:
        against.append(f"it answered {disagreed} of {compared} mirrored requests otherwise")
    facts = {
        "requests": {"stable": stable.live.requests, "new": new.live.requests},
        "probes": {"stable": stable.probed.asked, "new": new.probed.asked},
        "error_rate": {"stable": round(stable.error_rate, 5), "new": round(new.error_rate, 5)},
        "median_ms": {"stable": round(old_s * 1e3, 3), "new": round(new_s * 1e3, 3), "of": of},
        "mirrored": {"compared": compared, "disagreed": disagreed},
    }
    return Verdict(tuple(against), facts)


def _medians(stable: Seen, new: Seen) -> tuple[float, float, str]:
    if stable.live.requests >= FEWEST and new.live.requests >= FEWEST:
        return stable.live.p50_s, new.live.p50_s, "traffic"
    return stable.probed.p50_s, new.probed.p50_s, "probes"


def worse(metric: Metric, stable: float, new: float) -> bool:
    """Whether a metric is worse than the stable version's by more than its margin."""
    lead = new - stable if metric.higher_is_better else stable - new
    return lead < -metric.margin
