"""Aggregation over the store: what it writes, and that a failure leaves nothing."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import BadTensors, NotFound, Unreachable
from catchment.jobs.spec import parse_job
from catchment.models.tensors import read_tensors, write_tensors
from catchment.rounds import aggregation
from catchment.store.blobs import FolderBlobs, keep_staged, new_staged_file
from catchment.strategies.base import Context
from tests.thread_sites import job


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """As much of a store as aggregation looks at."""
    return SimpleNamespace(blobs=FolderBlobs(tmp_path / "blobs"))


def put(store: Any, **tensors: Any) -> str:
    staged = new_staged_file(store.blobs)
    write_tensors(staged, tensors)
    return keep_staged(store.blobs, staged)


def work(store: Any, site: str, num_samples: int, value: float) -> Any:
    update = put(store, w=np.full(4, value, np.float32))
    return SimpleNamespace(site=site, num_samples=num_samples, update=update)


def aggregate(store: Any, weights: str, works: list[Any]) -> str:
    """The digest of FedAvg's new weights."""
    return aggregation.aggregate(store, parse_job(job()), Context(), weights, None, works).weights


def staged(store: Any) -> list[Path]:
    return list(store.blobs.staging_folder.iterdir())


def test_new_weights_are_a_blob_of_their_own(store: Any) -> None:
    weights = put(store, w=np.zeros(4, np.float32))
    works = [work(store, "a", 1, 4.0), work(store, "b", 3, 0.0)]
    digest = aggregate(store, weights, works)
    np.testing.assert_array_equal(read_tensors(store.blobs.local_path(digest))["w"], np.ones(4, np.float32))
    assert aggregate(store, weights, works[::-1]) == digest
    assert staged(store) == []
    assert store.blobs.exists(weights)


MIXED = [(7, 1e-8), (11, 1e8), (1, -1e8), (1000, 3.3333333), (3, -1e-3), (999_999, 1e-12)]


@given(st.permutations(range(len(MIXED))), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arrival_order_changes_no_bit(store: Any, arrival: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = put(store, w=random.normal(size=50), n=np.array(0))
    works = [
        SimpleNamespace(
            site=f"site-{index}",
            num_samples=num_samples,
            update=put(store, w=random.normal(size=50) * scale, n=np.array(index)),
        )
        for index, (num_samples, scale) in enumerate(MIXED)
    ]
    digest = aggregate(store, weights, works)
    assert aggregate(store, weights, [works[index] for index in arrival]) == digest


def test_what_cannot_be_aggregated_leaves_nothing_behind(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = put(store, w=np.full(4, 3e38, np.float32))
    huge, lost = (
        work(store, "a", 1, 3e38),
        SimpleNamespace(site="b", num_samples=1, update="sha256:" + "0" * 64),
    )
    before = sorted(store.blobs.root.rglob("*"))
    with pytest.raises(BadTensors):
        aggregate(store, weights, [huge])
    with pytest.raises(NotFound):
        aggregate(store, weights, [huge, lost])
    with pytest.raises(BadTensors, match="no samples"):
        aggregate(store, weights, [])

    def away(source: Path, digest: str, *, durable: bool = True) -> None:
        raise Unreachable("the storage does not answer")

    small = work(store, "c", 1, 1.0)
    monkeypatch.setattr(store.blobs, "put_file", away)
    with pytest.raises(Unreachable):
        aggregate(store, weights, [small])
    assert staged(store) == []
    assert set(before) <= set(store.blobs.root.rglob("*"))


def test_a_large_cohort_needs_few_open_files(store: Any) -> None:
    """Every mapped file holds a descriptor of its own, and a process has a thousand by default."""
    weights = put(store, w=np.zeros(4, np.float32))
    works = [work(store, f"site-{index:03d}", 1, float(index)) for index in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 40, hard))
    try:
        digest = aggregate(store, weights, works)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(
        read_tensors(store.blobs.local_path(digest))["w"], np.full(4, 49.5, np.float32)
    )
