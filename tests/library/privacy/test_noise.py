import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from catchment.privacy.noise import NoiseSource, add_gaussian, grid

DRAWS = 1_000_000
FALSE_ALARM = 1e-7
"""How seldom a statistical test of good noise may fail."""


@pytest.fixture(scope="module")
def draws():
    return NoiseSource().gaussian(DRAWS, 3.0)


def test_std_is_within_half_a_percent(draws):
    # The std of a million draws has a relative error of 0.07 %, so 0.5 % is seven of those.
    assert draws.std() == pytest.approx(3.0, rel=0.005)
    assert abs(draws.mean()) < 6 * 3.0 / math.sqrt(DRAWS)


def test_draws_are_normally_distributed(draws):
    assert stats.kstest(draws / 3.0, "norm").pvalue > FALSE_ALARM


def test_both_tails_are_there(draws):
    for sign in (1, -1):
        beyond = int((sign * draws > 4.0 * 3.0).sum())
        expected = DRAWS * stats.norm.sf(4.0)
        assert abs(beyond - expected) < 6 * math.sqrt(expected)


def test_draws_are_independent_of_their_neighbours(draws):
    for lag in (1, 2, 1 << 14, 1 << 15):
        assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 6 / math.sqrt(DRAWS - lag)


def test_two_sources_never_agree():
    assert not np.array_equal(NoiseSource().gaussian(100, 1.0), NoiseSource().gaussian(100, 1.0))


def test_one_source_never_repeats_itself():
    source = NoiseSource()
    assert not np.array_equal(source.gaussian(100, 1.0), source.gaussian(100, 1.0))


@given(st.integers(0, 100_000), st.floats(1e-300, 1e300))
@settings(max_examples=50, deadline=None)
def test_any_number_of_any_size(size, std):
    draws = NoiseSource().gaussian(size, std)
    assert draws.shape == (size,)
    assert np.isfinite(draws).all()
    assert (np.abs(draws) <= 8.7 * std).all()


@given(st.floats(1e-30, 1e30))
def test_noise_lies_on_its_grid(std):
    step = grid(std)
    assert math.frexp(step)[0] == 0.5
    assert 2.0**-33 < step / std <= 2.0**-32
    counted = NoiseSource().gaussian(1000, std) / step
    assert (counted == np.rint(counted)).all()


def test_the_noised_sum_lies_on_the_grid():
    values = np.random.default_rng(1).normal(size=100_001)
    before = values.copy()
    add_gaussian(NoiseSource(), values, 0.5)
    counted = values / grid(0.5)
    assert (counted == np.rint(counted)).all()
    assert (values - before).std() == pytest.approx(0.5, rel=0.03)


def test_same_noise_is_one_draw_a_tensor():
    values = np.zeros(100_000)
    add_gaussian(NoiseSource(), values, 1.0, same=True)
    assert values[0] != 0.0
    assert (values == values[0]).all()


def test_no_noise_changes_no_bit():
    values = np.array([0.1, 1e-300, 7.0])
    add_gaussian(NoiseSource(), values, 0.0)
    assert values.tolist() == [0.1, 1e-300, 7.0]


@pytest.mark.parametrize("std", [0.3, 1.0, 7.5, 1e6])
def test_discrete_gaussian_has_its_distribution(std):
    size = 200_000
    drawn = NoiseSource().discrete_gaussian(size, std)
    assert drawn.dtype == np.int64
    reach = np.arange(-math.ceil(12 * std), math.ceil(12 * std) + 1) if std < 100 else None
    if reach is None:  # far above the integers' spacing it is the normal distribution
        assert stats.kstest(drawn / std, "norm").pvalue > FALSE_ALARM
        return
    exact = np.exp(-(reach.astype(float) ** 2) / (2 * std * std))
    expected = size * exact / exact.sum()
    found = np.array([(drawn == y).sum() for y in reach])
    common = expected >= 10
    rest = size - found[common].sum(), size - expected[common].sum()
    observed = np.append(found[common], rest[0])
    wanted = np.append(expected[common], rest[1])
    if wanted[-1] < 5:
        assert observed[-1] <= 40
        observed, wanted = observed[:-1], wanted[:-1]
    chi = float(((observed - wanted) ** 2 / wanted).sum())
    assert stats.chi2.sf(chi, observed.size - 1) > FALSE_ALARM


def test_a_sum_of_discrete_shares_has_the_whole_variance():
    source, shares = NoiseSource(), 10
    total = sum(source.discrete_gaussian(100_000, 1000 / math.sqrt(shares)) for _ in range(shares))
    assert total.std() == pytest.approx(1000, rel=0.015)


def test_discrete_noise_of_std_zero_is_none():
    assert not NoiseSource().discrete_gaussian(10, 0.0).any()


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf, 2.0**40])
def test_discrete_noise_out_of_reach_is_refused(std):
    with pytest.raises(ValueError, match="std"):
        NoiseSource().discrete_gaussian(10, std)


def test_uniforms_are_never_0_or_1():
    drawn = NoiseSource().uniforms(1_000_000)
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0
    assert stats.kstest(drawn, "uniform").pvalue > FALSE_ALARM


def test_a_source_refuses_to_work_in_a_forked_child():
    source = NoiseSource()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        try:
            source.gaussian(1, 1.0)
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
