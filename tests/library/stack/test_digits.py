"""The data set of the local sites: real, disjoint, uneven, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.stack.digits import deal, ensure_digits, hold_out, split_by_dirichlet

labels = st.lists(st.integers(0, 9), min_size=40, max_size=300).map(lambda found: np.array(found, np.int64))
seeds = st.integers(0, 2**32 - 1)


@given(labels, st.integers(1, 40), st.floats(0.05, 100), seeds)
def test_a_split_loses_and_doubles_nothing_and_leaves_nobody_out(y, parts, alpha, seed) -> None:
    split = split_by_dirichlet(y, parts, alpha, np.random.default_rng(seed))
    assert len(split) == parts
    assert all(len(part) for part in split)
    assert sorted(np.concatenate(split)) == list(range(len(y)))


@given(labels, seeds)
def test_every_label_is_held_out_in_the_same_share(y, seed) -> None:
    train, test = hold_out(y, 0.2, np.random.default_rng(seed))
    assert sorted(np.concatenate([train, test])) == list(range(len(y)))
    for label in np.unique(y):
        assert abs((y[test] == label).sum() - 0.2 * (y == label).sum()) <= 1


@given(labels, st.integers(1, 20))
def test_test_parts_are_disjoint_and_even(y, parts) -> None:
    dealt = deal(y, parts)
    assert sorted(np.concatenate(dealt)) == list(range(len(y)))
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


def test_more_parts_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 samples cannot be split into 4"):
        split_by_dirichlet(np.zeros(3, np.int64), 4, 0.5, np.random.default_rng(0))


def test_the_files_are_as_promised(tmp_path: Path) -> None:
    homes = [tmp_path / str(index) for index in range(3)]
    ensure_digits(homes)
    parts = [dict(np.load(home / f"{part}.npz")) for home in homes for part in ("train", "test")]
    for part in parts:
        assert part["x"].dtype == np.float32
        assert part["x"].shape == (len(part["y"]), 64)
        assert part["y"].dtype == np.int64
        assert part["x"].min() >= 0
        assert part["x"].max() <= 1
    assert sum(len(part["y"]) for part in parts) == 1797
    pictures = np.concatenate([part["x"] for part in parts])
    assert len(np.unique(pictures, axis=0)) == 1797


def test_the_split_is_uneven_and_always_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ensure_digits([tmp_path / name / str(index) for index in range(3)])
    one, two = ((tmp_path / name / "0" / "train.npz").read_bytes() for name in ("one", "two"))
    assert one == two
    counts = [
        np.bincount(np.load(tmp_path / "one" / str(index) / "train.npz")["y"], minlength=10)
        for index in range(3)
    ]
    shares = np.array([count / count.sum() for count in counts])
    assert np.abs(shares - shares.mean(axis=0)).sum(axis=1).max() > 0.5


def test_another_number_of_sites_makes_another_split(tmp_path: Path) -> None:
    ensure_digits([tmp_path / "0"])
    alone = len(np.load(tmp_path / "0" / "test.npz")["y"])
    ensure_digits([tmp_path / "0", tmp_path / "1"])
    assert len(np.load(tmp_path / "0" / "test.npz")["y"]) == alone // 2 + alone % 2


def test_a_split_that_is_there_is_left_alone(tmp_path: Path) -> None:
    ensure_digits([tmp_path])
    before = (tmp_path / "train.npz").stat().st_mtime_ns
    ensure_digits([tmp_path])
    assert (tmp_path / "train.npz").stat().st_mtime_ns == before
