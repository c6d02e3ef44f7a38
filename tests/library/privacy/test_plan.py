import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.privacy.accountant import Release
from catchment.privacy.clipping import AdaptiveClip
from catchment.privacy.plan import Plan, Selection


def test_with_a_clip_the_multiplier_scales_it():
    assert Plan(2.0, clip_norm=0.5).sum_std(0.5, [1.0] * 7) == 1.0


def test_without_a_clip_it_is_the_variance_on_each_update():
    assert Plan(0.25).sum_std(None, [1.0]) == 0.5
    assert Plan(0.25).sum_std(None, [3.0, 4.0]) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan(1.0), "clip_norm is not set"),
        (Plan(1.0, clip_norm=1.0, same_noise=True), "adding_same_noise"),
        (Plan(0.0, clip_norm=1.0), "noise_multiplier is 0"),
    ],
)
def test_no_guarantee_is_said_and_epsilon_is_infinite(plan, why):
    spent = plan.spent([plan.release(Selection(3, 3))])
    assert spent.epsilon == math.inf
    assert spent.words.startswith("no guarantee: ")
    assert why in spent.words
    assert json.loads(json.dumps(spent.as_json(), allow_nan=False))["epsilon"] is None


@given(st.integers(1, 50), st.integers(0, 50), st.floats(0.1, 10), st.floats(0.01, 10))
def test_sites_together_bring_at_least_the_sums_noise(threshold, more, multiplier, clip_norm):
    plan = Plan(multiplier, clip_norm=clip_norm, placement="site", threshold=threshold)
    share = plan.for_site()
    assert share is not None
    assert share.clip_norm == clip_norm
    total = math.sqrt((threshold + more) * share.noise_std**2)
    assert total >= multiplier * clip_norm * (1 - 1e-12)
    assert plan.sum_std(clip_norm, [1.0]) == 0.0


def test_a_site_without_a_clip_adds_the_documents_variance():
    share = Plan(0.04, placement="site", threshold=5).for_site()
    assert share is not None
    assert share.clip_norm is None
    assert share.noise_std == pytest.approx(0.2)


def test_central_asks_nothing_of_the_sites():
    assert Plan(1.0, clip_norm=1.0).for_site() is None


def test_only_an_unforeseeable_uniform_choice_amplifies():
    plan = Plan(1.0, clip_norm=1.0)
    assert plan.release(Selection(10, 100, uniform=True)) == Release(1.0, "fixed_size", 10, 100)
    assert plan.release(Selection(10, 100)) == Release(1.0)
    assert plan.release(Selection(10, 10, uniform=True)) == Release(1.0)


def test_each_round_costs_more():
    plan = Plan(2.0, clip_norm=1.0, epsilon_budget=3.0)
    costs = [plan.spent([Release(2.0)] * rounds) for rounds in (1, 5, 20)]
    assert sorted(cost.epsilon for cost in costs) == [cost.epsilon for cost in costs]
    assert [plan.within_budget(cost) for cost in costs] == [True, False, False]


def test_the_coordinator_of_noising_sites_learns_more_than_the_models_tell():
    central = Plan(2.0, clip_norm=1.0, threshold=4).spent([Release(2.0)])
    at_sites = Plan(2.0, clip_norm=1.0, threshold=4, placement="site").spent([Release(2.0)])
    assert central.epsilon == at_sites.epsilon
    assert central.epsilon_to_coordinator == math.inf
    assert at_sites.epsilon < at_sites.epsilon_to_coordinator < math.inf


def test_adaptive_clipping_takes_more_noise_for_the_same_cost():
    plan = Plan(1.0, clip_norm=1.0, adaptive=AdaptiveClip(0.5, 0.2, 1.0))
    assert plan.sum_std(2.0) == pytest.approx(2 * (1 - 0.25) ** -0.5)
    assert plan.release(Selection(3, 3)) == Release(1.0)


def test_the_words_name_the_numbers_and_what_is_not_covered():
    words = Plan(2.0, clip_norm=1.0).spent([Release(2.0)] * 3).words
    assert "delta 1e-05" in words
    assert "3 rounds" in words
    assert "metrics are not covered" in words
