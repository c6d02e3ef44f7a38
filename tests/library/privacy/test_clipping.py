import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.models.tensors import TensorFile, write_tensors
from catchment.privacy.clipping import AdaptiveClip, clip_factor, update_norm
from catchment.privacy.noise import NoiseSource

NORMS = st.floats(0.0, 1e300)


def norm_of(path, **tensors):
    write_tensors(path, tensors)
    with TensorFile.open(path) as file:
        return update_norm(file)


def test_the_norm_is_of_all_float_tensors_together(tmp_path):
    # Batch normalisation's running statistics are tensors like others; counters are not floats.
    found = norm_of(
        tmp_path / "update.safetensors",
        **{
            "layer.weight": np.full((2, 2), 3.0, np.float32),
            "bn.running_var": np.array([4.0], np.float64),
            "bn.num_batches_tracked": np.array(10**12),
            "@control/layer.weight": np.full(3, 2.0, np.float16),
        },
    )
    assert found == pytest.approx(math.sqrt(4 * 9 + 16 + 3 * 4))


def test_the_norm_is_the_same_across_blocks(tmp_path):
    values = np.random.default_rng(1).normal(size=300_001).astype(np.float32)
    expected = float(np.linalg.norm(values.astype(np.float64)))
    assert norm_of(tmp_path / "update.safetensors", w=values) == pytest.approx(expected, rel=1e-12)


def test_no_float_tensors_have_norm_0(tmp_path):
    path = tmp_path / "update.safetensors"
    assert norm_of(path, empty=np.zeros((0, 3), np.float32), count=np.array([5])) == 0.0


def test_a_norm_beyond_doubles_takes_the_whole_update_away(tmp_path):
    norm = norm_of(tmp_path / "update.safetensors", w=np.array([1e200, 1e200]))
    assert norm == math.inf
    assert clip_factor(norm, 1.0) == 0.0


@given(NORMS, st.floats(1e-6, 1e6))
def test_a_clipped_norm_is_at_most_the_bound(norm, bound):
    factor = clip_factor(norm, bound)
    assert 0.0 <= factor <= 1.0
    assert norm * factor <= bound
    assert norm <= bound or norm * factor == pytest.approx(bound, rel=1e-8)


@given(NORMS)
def test_without_a_bound_nothing_is_clipped(norm):
    assert clip_factor(norm, None) == 1.0


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5), min_size=1, max_size=6),
    st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5),
    st.floats(0.01, 100),
)
@settings(deadline=None)
def test_one_client_changes_the_clipped_sum_by_at_most_the_bound(updates, other, bound):
    def clipped(values):
        array = np.array(values)
        return array * clip_factor(float(np.linalg.norm(array)), bound)

    total = sum(clipped(update) for update in updates)
    without = total - clipped(updates[0])
    rounding = 1e-9 * max(1.0, bound) * len(updates)
    assert np.linalg.norm(total - without) <= bound + rounding
    assert np.linalg.norm(total - (without + clipped(other))) <= 2 * bound + rounding


@given(st.floats(0.1, 10), st.floats(0.01, 10), st.floats(0.1, 20))
def test_sum_and_count_together_cost_what_the_multiplier_says(z, norm, extra):
    adaptive = AdaptiveClip(quantile=0.5, rate=0.2, count_noise=z / 2 + extra)
    together = adaptive.sum_multiplier(z) ** -2 + (2 * adaptive.count_noise) ** -2
    assert together == pytest.approx(z**-2, rel=1e-9)


def test_a_count_that_costs_more_than_the_whole_is_refused():
    with pytest.raises(ValueError, match="count_noise must be above half of noise_multiplier, 1, got 1"):
        AdaptiveClip(quantile=0.5, rate=0.2, count_noise=1.0).sum_multiplier(2.0)


def test_the_norm_follows_the_quantile():
    # 200 clients with norms 1..200: half of them lie below 100.
    adaptive, source, norm = AdaptiveClip(quantile=0.5, rate=0.2, count_noise=10.0), NoiseSource(), 1.0
    seen = []
    for number in range(150):
        share = adaptive.noised_share(min(200, int(norm)), 200, 200, source)
        norm = adaptive.next_norm(norm, share)
        if number >= 75:
            seen.append(norm)
    assert np.mean(seen) == pytest.approx(100, rel=0.1)


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_noised_share_is_a_share(unclipped, cohort):
    adaptive = AdaptiveClip(quantile=0.5, rate=0.2, count_noise=3.0)
    assert 0.0 <= adaptive.noised_share(min(unclipped, cohort), cohort, cohort, NoiseSource()) <= 1.0
