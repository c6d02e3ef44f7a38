"""Jobs that ask for secure aggregation and differential privacy at once: what is taken, what refused."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.jobs.privacy import plan_of, site_privacy
from catchment.jobs.secure import secure_order, warnings_of
from catchment.jobs.spec import Job, parse_job
from catchment.privacy.accountant import Release
from catchment.privacy.plan import Selection
from catchment.strategies.plan import strategy_of
from tests.thread_sites import job


def both(**fields: Any) -> dict[str, Any]:
    changes = {
        key: fields.pop(key) for key in ("optimizer", "loss", "strategy", "extenders") if key in fields
    }
    hyper = {"client_num": 4, "threshold_client_num": 3}
    algorithm = {"type": "SSA", "noise_multiplier": 1.5, "clip_norm": 2.0, **fields}
    return job(secure_algorithm=algorithm, hyper_parameters=hyper, **changes)


def parsed(**fields: Any) -> Job:
    return parse_job(both(**fields))


def refused(**fields: Any) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        parsed(**fields)
    return caught.value


def test_the_sites_share_the_noise_and_the_coordinator_adds_none() -> None:
    plan = plan_of(parsed(delta=1e-6, epsilon_budget=5.0))
    assert plan is not None
    assert (plan.placement, plan.threshold, plan.cohort) == ("shared", 3, 4)
    assert (plan.delta, plan.epsilon_budget) == (1e-6, 5.0)
    assert plan.sum_std(2.0, [1.0]) == 0.0
    assert site_privacy(parsed()) is None  # noise comes with the mask, not before


def test_the_order_says_what_each_site_has_to_do() -> None:
    order = secure_order(parsed(threshold=2), "session", ["b", "a"])
    assert order["noise"] == {"clip_norm": 2.0, "noise_multiplier": 1.5, "sharers": 2}
    assert order["by_samples"] is False
    assert secure_order(parse_job(job(secure_algorithm={"type": "SSA"})), "session", "ab")["noise"] is None


def test_fewer_shares_that_unmask_mean_more_noise_from_each_site() -> None:
    """A dishonest coordinator may unmask the sum of `threshold` sites, so these must bring all of it."""
    plan = plan_of(parsed(threshold=2))
    assert plan is not None
    assert plan.threshold == 2


def test_all_sites_count_alike() -> None:
    assert strategy_of(parsed()).weighting == "uniform"  # type: ignore[attr-defined]


def test_sampling_does_not_count() -> None:
    plan = plan_of(parsed())
    assert plan is not None
    assert plan.release(Selection(4, 100, uniform=True)) == Release(1.5, discrete=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clip_norm": None}, "clip_norm is required where noise_multiplier is used with type SSA"),
        ({"noise_multiplier": None}, "clip_norm cannot be used with type SSA without noise_multiplier"),
        ({"placement": "site"}, "placement cannot be used with type SSA"),
        ({"adding_same_noise": True}, "adding_same_noise cannot be used with type SSA"),
        ({"adaptive_clipping": {}}, "adaptive_clipping cannot be used with type SSA"),
        ({"clip_value": 1.0}, "clip_value cannot be used with noise_multiplier"),
        ({"sample_cap": 10}, "sample_cap cannot be used with noise_multiplier"),
        ({"noise_multiplier": 1e-9}, "and discrete noise needs 8"),
        ({"noise_multiplier": 1e9}, "in 32 bits clip_norm is 0 steps"),
        ({"noise_multiplier": 0, "epsilon_budget": 1.0}, "cannot be kept: epsilon is infinite"),
        ({"optimizer": {"name": "scaffold"}}, "sums up over all rounds"),
        ({"loss": {"name": "feddc"}}, "sums up over all rounds"),
        ({"strategy": {"name": "median"}}, "looks at single updates"),
        ({"extenders": {"script_path": "x", "entry": "y.py", "aggregate": "f"}}, "reads single updates"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(fields: dict[str, Any], words: str) -> None:
    assert words in str(refused(**fields))


def test_noise_of_nothing_is_warned_about() -> None:
    assert any("noise_multiplier is 0" in words for words in warnings_of(parsed(noise_multiplier=0)))
