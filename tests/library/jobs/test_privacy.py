"""The DP fields of a job: what they mean, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.jobs.privacy import keeps_metrics, plan_of, shows_sites, site_privacy
from catchment.jobs.spec import Job, parse_job
from catchment.privacy.plan import DEFAULT_DELTA
from tests.thread_sites import job


def private(hyper: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    algorithm = {"type": "DP", "noise_multiplier": 1.0, **fields}
    return job(secure_algorithm=algorithm, hyper_parameters=hyper or {})


def refused(body: dict[str, Any]) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        parse_job(body)
    return caught.value


def parsed(**fields: Any) -> Job:
    return parse_job(private(**fields))


def test_defaults() -> None:
    plan = plan_of(parsed(clip_norm=2.0))
    assert plan is not None
    assert (plan.delta, plan.placement, plan.same_noise) == (DEFAULT_DELTA, "central", False)
    assert (plan.cohort, plan.threshold) == (2, 2)
    assert plan.sum_std(2.0) == 2.0
    assert not plan.missing


def test_no_secure_algorithm_is_no_plan() -> None:
    plain = parse_job(job())
    assert plan_of(plain) is None
    assert site_privacy(plain) is None
    assert shows_sites(plain)
    assert keeps_metrics(plain)


def test_the_type_is_read_in_any_case() -> None:
    assert plan_of(parsed(type="dp")) is not None


def test_single_sites_are_not_shown() -> None:
    assert not shows_sites(parsed())
    assert keeps_metrics(parsed())
    assert not keeps_metrics(parsed(metrics="none"))


def test_the_sites_share_of_the_noise_is_for_the_threshold() -> None:
    hyper = {"client_num": 8, "threshold_client_num": 4}
    order = site_privacy(parse_job(private(hyper, clip_norm=3.0, placement="site")))
    assert order == {"clip_norm": 3.0, "noise_std": 1.5, "same_noise": False}


@pytest.mark.parametrize("multiplier", [0, 0.0, 1e-9, 1e9, 5])
def test_any_multiplier_from_0_is_taken(multiplier: float) -> None:
    assert plan_of(parsed(noise_multiplier=multiplier)) is not None


@pytest.mark.parametrize("multiplier", [-1, -1e-9, math.nan, math.inf, "1", True, None])
def test_no_other_multiplier_is(multiplier: Any) -> None:
    assert refused(private(noise_multiplier=multiplier)).field.startswith("secure_algorithm")


@pytest.mark.parametrize("clip_norm", [0, -1, math.nan, math.inf, True])
def test_a_clipping_norm_is_a_positive_number(clip_norm: Any) -> None:
    assert refused(private(clip_norm=clip_norm)).field == "secure_algorithm.clip_norm"


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan])
def test_delta_lies_between_0_and_1(delta: Any) -> None:
    assert refused(private(clip_norm=1.0, delta=delta)).field == "secure_algorithm.delta"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "clip_norm is not set"),
        ({"clip_norm": 1.0, "adding_same_noise": True}, "adding_same_noise"),
        ({"clip_norm": 1.0, "noise_multiplier": 0}, "noise_multiplier is 0"),
    ],
)
def test_a_budget_needs_a_guarantee(fields: dict[str, Any], why: str) -> None:
    error = refused(private(epsilon_budget=8.0, **fields))
    assert error.field == "secure_algorithm.epsilon_budget"
    assert why in str(error)


def test_adaptive_clipping_has_defaults_that_leave_the_cost_as_it_is() -> None:
    plan = plan_of(parsed(clip_norm=1.0, adaptive_clipping={}))
    assert plan is not None
    assert plan.adaptive is not None
    assert (plan.adaptive.quantile, plan.adaptive.rate, plan.adaptive.count_noise) == (0.5, 0.2, 1.0)
    assert plan.sum_multiplier == pytest.approx(2 / math.sqrt(3))


def test_large_cohorts_count_with_a_twentieth_of_noise() -> None:
    hyper = {"client_num": 200, "threshold_client_num": 100}
    plan = plan_of(parse_job(private(hyper, clip_norm=1.0, adaptive_clipping={})))
    assert plan is not None
    assert plan.adaptive is not None
    assert plan.adaptive.count_noise == 10.0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"adaptive_clipping": {}}, "secure_algorithm.adaptive_clipping"),
        (
            {"clip_norm": 1.0, "placement": "site", "adaptive_clipping": {}},
            "secure_algorithm.adaptive_clipping",
        ),
        (
            {"clip_norm": 1.0, "adaptive_clipping": {"count_noise": 0.5}},
            "secure_algorithm.adaptive_clipping.count_noise",
        ),
        (
            {"clip_norm": 1.0, "adaptive_clipping": {"quantile": 1.0}},
            "secure_algorithm.adaptive_clipping.quantile",
        ),
    ],
)
def test_adaptive_clipping_that_cannot_be_is_refused(fields: dict[str, Any], field: str) -> None:
    assert refused(private(**fields)).field == field


@pytest.mark.parametrize(
    "name", ["median", "trimmed_mean", "krum", "geometric_median", "norm_clipping", "fednova", "fedbuff"]
)
def test_rules_that_look_at_single_updates_are_refused(name: str) -> None:
    error = refused({**private(clip_norm=1.0), "strategy": {"name": name}})
    assert error.field == "strategy.name"
    assert "single updates" in str(error)


def test_what_get_shows_can_be_sent_back() -> None:
    assert parse_job({**private(clip_norm=1.0), "privacy": {"epsilon": 1.0}}) == parsed(clip_norm=1.0)
