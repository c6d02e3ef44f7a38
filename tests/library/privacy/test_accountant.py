import math

import pytest

from catchment.privacy.accountant import Release, cost

TABLE = [
    (1.0, 0.01, 200, 1e-5, 1.3401, 0.9125),
    (1.0, 0.01, 1000, 1e-5, 2.1014, 1.8282),
    (1.0, 0.1, 100, 1e-5, 7.9039, 7.0466),
    (1.1, 256 / 60000, 14040, 1e-5, 2.5944, 2.3796),
    (1.0, 5000 / 763430, 5000, 1e-9, 4.1833, 3.8988),
    (0.8, 0.02, 500, 1e-6, 6.1645, 5.4403),
    (4.0, 1 / 3, 200, 1e-5, 5.9554, 5.4882),
    (5.0, 1.0, 10, 1e-5, 2.8137, 2.5944),
    (10.0, 1.0, 200, 1e-5, 7.0774, 6.5730),
    (1.0, 1.0, 10, 1e-5, 19.0536, 17.8566),
]
"""(z, q, rounds, delta, RDP, PLD), computed apart from this code."""


def poisson(z, q):
    return Release(z, "poisson", q * 1_000_000, 1_000_000) if q < 1 else Release(z)


@pytest.mark.parametrize(("z", "q", "rounds", "delta", "rdp", "pld"), TABLE)
def test_epsilon_of_known_settings(z, q, rounds, delta, rdp, pld):
    found = cost([poisson(z, q)] * rounds, delta)
    assert found.epsilon == pytest.approx(pld, rel=0.002)
    assert found.rdp == pytest.approx(rdp, rel=0.002)


@pytest.mark.parametrize(("z", "rounds"), [(5.0, 10), (1.0, 10), (2.0, 3)])
def test_the_exact_epsilon_is_what_privacy_loss_distributions_give(z, rounds):
    import dp_accounting as dp
    from dp_accounting import pld

    accountant = pld.PLDAccountant()
    accountant.compose(dp.GaussianDpEvent(z), rounds)
    assert cost([Release(z)] * rounds, 1e-5).epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=5e-4)


def test_sampling_without_replacement_counts_twice_the_clipping_norm():
    # 3.576 is the published bound for std = change; with std = clip_norm the change is twice as large.
    assert cost([Release(2.0, "fixed_size", 10, 1000)] * 1000, 1e-5).epsilon == pytest.approx(
        3.5761, rel=2e-3
    )


def test_a_choice_of_nearly_all_costs_no_more_than_taking_all():
    every = cost([Release(1.0)] * 10, 1e-5).epsilon
    chosen = cost([Release(1.0, "fixed_size", 9, 10)] * 10, 1e-5)
    assert chosen.epsilon == every
    assert chosen.accountant == "exact"


def test_rounds_of_both_kinds_are_counted_together():
    sampled = [Release(2.0, "fixed_size", 10, 1000)] * 100
    both = cost([*sampled, Release(2.0)], 1e-5).epsilon
    assert cost(sampled, 1e-5).epsilon < both < cost([Release(2.0)] * 101, 1e-5).epsilon


def test_order_changes_nothing():
    releases = [Release(1.0), Release(2.0), Release(1.0)]
    assert cost(releases, 1e-5) == cost(releases[::-1], 1e-5)


def test_no_release_costs_nothing():
    assert cost([], 1e-5).epsilon == 0.0


def test_without_noise_epsilon_is_infinite():
    assert cost([Release(1.0), Release(0.0)], 1e-5).epsilon == math.inf


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_must_lie_between_0_and_1(delta):
    with pytest.raises(ValueError, match="delta"):
        cost([Release(1.0)], delta)


def test_poisson_and_fixed_size_do_not_mix():
    with pytest.raises(ValueError, match="together"):
        cost([Release(1.0, "poisson", 1, 10), Release(1.0, "fixed_size", 1, 10)], 1e-5)


def test_discrete_noise_is_counted_by_its_renyi_curve():
    found = cost([Release(5.0, discrete=True)] * 10, 1e-5)
    assert found.accountant == "RDP"
    assert not found.sampled
    assert found.epsilon == pytest.approx(2.8137, rel=0.002)
    assert found.epsilon > cost([Release(5.0)] * 10, 1e-5).epsilon


def test_discrete_noise_after_sampled_rounds_is_counted_with_them():
    sampled = [Release(2.0, "fixed_size", 10, 1000)] * 100
    both = cost([*sampled, Release(2.0, discrete=True)], 1e-5)
    assert both.sampled
    assert cost(sampled, 1e-5).epsilon < both.epsilon


def test_poisson_and_discrete_noise_do_not_mix():
    with pytest.raises(ValueError, match="together"):
        cost([Release(1.0, "poisson", 1, 10), Release(1.0, discrete=True)], 1e-5)
