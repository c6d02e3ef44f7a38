"""Whether a new version does as well as the stable one."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.serving.comparing import Probed, Seen, judge, worse
from catchment.serving.figures import BUCKETS_S, Figures, bucket_of
from catchment.serving.spec import Canary, Metric

CANARY = Canary()


def live(
    requests: int, *, errors: int = 0, seconds: float = 0.01, compared: int = 0, disagreed: int = 0
) -> Any:
    buckets = [0] * (len(BUCKETS_S) + 1)
    buckets[bucket_of(seconds)] = requests
    return Figures(requests, errors, requests * seconds, tuple(buckets), compared, disagreed)


def seen(*figures: Figures, probed: Probed | None = None) -> Seen:
    return Seen(figures[0] if figures else Figures(), probed or Probed())


def test_an_equal_version_may_go_on() -> None:
    verdict = judge(CANARY, seen(live(1000)), seen(live(50)))
    assert verdict.against == ()
    assert verdict.facts["requests"] == {"stable": 1000, "new": 50}
    assert verdict.facts["median_ms"]["of"] == "traffic"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (seen(live(100, errors=5)), "5.0% of its requests failed"),
        (seen(live(100, seconds=0.2)), "its median of traffic is"),
        (seen(live(100, compared=40, disagreed=30)), "answered 30 of 40 mirrored requests otherwise"),
        (seen(probed=Probed(errors=1)), "100.0% of its requests failed"),
    ],
)
def test_a_worse_one_is_told_why(new: Seen, words: str) -> None:
    (against,) = judge(CANARY, seen(live(1000)), new).against
    assert words in against


def test_errors_that_the_stable_version_has_too_are_not_the_new_ones() -> None:
    assert judge(CANARY, seen(live(1000, errors=100)), seen(live(100, errors=10))).against == ()


def test_too_little_is_no_ground() -> None:
    few = seen(live(3, errors=1, seconds=2.0, compared=3, disagreed=3))
    assert judge(CANARY, seen(live(1000)), few).against == ()


def test_without_traffic_the_rollouts_own_inferences_are_compared() -> None:
    old, slow = Probed((0.001,) * 9), Probed((0.5,) * 9)
    (against,) = judge(CANARY, seen(probed=old), seen(probed=slow)).against
    assert "its median of probes is 500.0 ms, the stable version's 1.0 ms" in against


def test_a_metric_may_be_worse_within_its_margin() -> None:
    accuracy, loss = Metric(name="accuracy", margin=0.01), Metric(name="loss", higher_is_better=False)
    assert not worse(accuracy, 0.95, 0.945)
    assert worse(accuracy, 0.95, 0.93)
    assert not worse(loss, 0.5, 0.4)
    assert worse(loss, 0.4, 0.5)
