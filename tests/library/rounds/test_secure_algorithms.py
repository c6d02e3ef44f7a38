"""SCAFFOLD and FedDC under secure aggregation: masked runs are those of the plain quantised sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from catchment.errors import InvalidField
from catchment.jobs.spec import parse_job
from catchment.models.tensors import TensorFile, read_tensors, write_tensors
from catchment.rounds import commit
from catchment.secagg.quantise import Quantiser
from catchment.secagg.vector import Layout, VectorSum
from catchment.store import Store
from catchment.store.schema import rounds
from catchment.wire.messages import WorkOrder
from tests.runs import begin
from tests.secure_rounds import attempted, committed_weights, quick, samples_of, ssa
from tests.secure_sites import SecureSite

MakeSecure = Callable[..., SecureSite]
SHAPE = (2, 3)
SCAFFOLD = {"optimizer": {"name": "scaffold", "params": {"learning_rate": 0.1}}}
FEDDC = {"loss": {"name": "feddc", "params": {"alpha": 0.1, "lr": 0.1}}}


@pytest.fixture
def store(store: Store) -> Store:
    return quick(store)


def trains_as(name: str) -> Callable[..., Any]:
    """A training with a control variate, different from site to site and from round to round."""

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        generator = np.random.default_rng([ord(name), order.round])
        update = {
            "w": generator.normal(0, 0.1, SHAPE).astype(np.float32),
            "steps": weights["steps"] + order.round,
            "@control/w": generator.normal(0, 1.0, SHAPE).astype(np.float32),
        }
        return update, {"sample_num": samples_of(name)}

    return train


def quantised_sum(
    sites: list[SecureSite], number: int, before: dict[str, np.ndarray], folder: Path, *, by_samples: bool
) -> VectorSum:
    """The sum of the sites' quantised updates of a round, added up in the open."""
    write_tensors(folder / "before", before)
    total: Any = 0
    for site in sites:
        order = next(order for order in site.seen if order.kind == "train" and order.round == number)
        write_tensors(folder / "plain", site.plain[order.work_id])
        with TensorFile.open(folder / "before") as weights, TensorFile.open(folder / "plain") as update:
            layout = Layout(
                update.signature, Quantiser(8.0, len(sites)), sample_cap=10_000, by_samples=by_samples
            )
            total = total + layout.encode(update, weights, samples_of(site.name))
    return layout.decode(total)


@dataclass
class Reference:
    """The servers' formulas in doubles, as the papers have them, over all sites of the job."""

    w: np.ndarray = field(default_factory=lambda: np.zeros(6, np.float32))
    control: np.ndarray = field(default_factory=lambda: np.zeros(6))
    drift: np.ndarray = field(default_factory=lambda: np.zeros(6))

    def scaffold(self, found: VectorSum) -> None:
        mean = found.floats["w"] / found.num_sites
        self.w = (self.w + mean).astype(np.float32)
        self.control = self.control + found.floats["@control/w"] / found.num_sites

    def feddc(self, found: VectorSum) -> None:
        mean = found.floats["w"] / found.num_samples
        self.drift = self.drift + mean
        self.control = self.control + found.floats["@control/w"] / found.num_samples
        self.w = (self.w + mean + self.drift).astype(np.float32)


def states(store: Store) -> list[Any]:
    return store.db.read(lambda tx: tx.execute(select(rounds).order_by(rounds.c.number)).all())


@pytest.mark.parametrize("mode", ["doublemask", "onemask"])
@pytest.mark.parametrize(
    ("algorithm", "formula", "by_samples"),
    [(SCAFFOLD, Reference.scaffold, False), (FEDDC, Reference.feddc, True)],
    ids=["scaffold", "feddc"],
)
def test_a_masked_run_is_that_of_the_plain_quantised_sums(
    store: Store,
    secure_site: MakeSecure,
    tmp_path: Path,
    algorithm: dict[str, Any],
    formula: Callable[[Reference, VectorSum], None],
    by_samples: bool,
    mode: str,
) -> None:
    sites = [secure_site(name, train=trains_as(name)) for name in "abc"]
    claim = begin(store, ssa(3, 3, rounds=3, secure_algorithm={"mode": mode}, **algorithm))
    expected, before = Reference(), {"w": np.zeros(SHAPE, np.float32), "steps": np.array(0)}
    for number in (1, 2, 3):
        assert attempted(store, claim, number).enough
        digest = commit.aggregate_and_commit(store, claim, number)
        formula(expected, quantised_sum(sites, number, before, tmp_path, by_samples=by_samples))
        before = committed_weights(store, digest)
        # One unit in the last place: the formulas divide where the code multiplies.
        np.testing.assert_array_max_ulp(before["w"].reshape(-1), expected.w, 1)
    state = read_tensors(store.blobs.local_path(states(store)[-1].new_state))
    np.testing.assert_allclose(state["@control/w"].reshape(-1), expected.control, rtol=1e-6, atol=1e-8)
    if by_samples:
        np.testing.assert_allclose(state["@drift/w"].reshape(-1), expected.drift, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("algorithm", [SCAFFOLD, FEDDC], ids=["scaffold", "feddc"])
def test_a_site_that_drops_goes_on_from_its_last_counted_state(
    store: Store, secure_site: MakeSecure, algorithm: dict[str, Any]
) -> None:
    sites = {name: secure_site(name, train=trains_as(name)) for name in "abc"}
    claim = begin(store, ssa(3, 2, rounds=3, **algorithm))
    for number in (1, 2, 3):
        sites["c"].drops_at = "mask" if number == 2 else ""
        assert attempted(store, claim, number).admitted == (2 if number == 2 else 3)
        commit.aggregate_and_commit(store, claim, number)
    orders = {name: [order for order in site.seen if order.kind == "train"] for name, site in sites.items()}
    assert [order.client_state for order in orders["a"]] == [None, *(o.work_id for o in orders["a"][:2])]
    first = orders["c"][0].work_id
    assert [order.client_state for order in orders["c"]] == [None, first, first]


@pytest.mark.parametrize("algorithm", [SCAFFOLD, FEDDC], ids=["scaffold", "feddc"])
@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"compression": {"type": "int8"}}, "compression", "masked numbers cannot be compressed"),
        (
            {"extenders": {"script_path": "x", "entry": "y.py", "aggregate": "f"}},
            "extenders.aggregate",
            "reads single updates",
        ),
        (
            {"secure_algorithm": {"noise_multiplier": 1.0, "clip_norm": 1.0}},
            "secure_algorithm.noise_multiplier",
            "the noise would never fade",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_submit(
    algorithm: dict[str, Any], more: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        parse_job(ssa(3, 2, **algorithm, **more))
    assert caught.value.field == field
