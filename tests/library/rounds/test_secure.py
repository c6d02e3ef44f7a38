"""Rounds under secure aggregation: the coordinator's weights are those of the plain quantised sum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from catchment.errors import RoundFailed
from catchment.exchange import secure_messages
from catchment.jobs import lifecycle
from catchment.models.signature import update_signature
from catchment.models.tensors import TensorFile, write_tensors
from catchment.rounds import collect, commit, prepare, run, secure
from catchment.rounds import select as selecting
from catchment.rounds.claim import Claim
from catchment.secagg.quantise import Quantiser
from catchment.secagg.vector import Layout
from catchment.store import Store
from catchment.store.schema import secagg_messages, works
from catchment.wire.messages import WorkOrder, WorkResult
from tests.conftest import wait_until
from tests.runs import begin
from tests.secure_rounds import attempted, committed_weights, lines, quick, samples_of, ssa, trains_as
from tests.secure_sites import SecureSite

NAMES = "abcd"
MakeSecure = Callable[..., SecureSite]


@pytest.fixture
def store(store: Store) -> Store:
    return quick(store)


def expected_weights(
    store: Store, sites: list[SecureSite], before: dict[str, np.ndarray], folder: Path, parties: int
) -> dict[str, np.ndarray]:
    """What the plain quantised sum of the sites' updates gives, added up in the open."""
    write_tensors(folder / "before", before)
    with TensorFile.open(folder / "before") as weights:
        layout = Layout(update_signature(weights.signature), Quantiser(8.0, parties), sample_cap=10_000)
        total = np.zeros(layout.num_words, np.uint32)
        for site in sites:
            (update,) = site.plain.values()
            write_tensors(folder / f"plain-{site.name}", update)
            with TensorFile.open(folder / f"plain-{site.name}") as file:
                total += layout.encode(file, weights, samples_of(site.name))
        found = layout.decode(total)
    mean = found.floats["w"] * (1.0 / found.num_samples)
    steps = before["steps"] + np.rint(found.integers["steps"] / found.num_sites).astype(np.int64)
    return {
        "w": (before["w"].reshape(-1) + mean).astype(np.float32).reshape(2, 3),
        "steps": steps.reshape(()),
    }


@pytest.mark.parametrize("mode", ["doublemask", "onemask"])
def test_the_new_weights_are_those_of_the_plain_quantised_sum(
    store: Store, secure_site: MakeSecure, tmp_path: Path, mode: str
) -> None:
    sites = [secure_site(name) for name in "abc"]
    claim = begin(store, ssa(secure_algorithm={"mode": mode}))
    before = committed_weights(store, prepare.prepare_run(store, claim))
    assert attempted(store, claim).enough
    digest = commit.aggregate_and_commit(store, claim, 1)
    expected = expected_weights(store, sites, before, tmp_path, 3)
    for name, array in committed_weights(store, digest).items():
        np.testing.assert_array_equal(array, expected[name])
    report = lifecycle.job_rounds(store, "default", "j")[0]
    assert report["metrics"] is None or "loss" not in str(report.get("training_metrics"))


@pytest.mark.parametrize(
    ("step", "alive"),
    [
        ("advertise", "abc"),
        ("shares", "abc"),
        ("mask", "abc"),
        ("confirmation", "abcd"),
        ("unmasking", "abcd"),
    ],
)
def test_a_site_that_drops_at_a_step_costs_its_own_part_only(
    store: Store, secure_site: MakeSecure, tmp_path: Path, step: str, alive: str
) -> None:
    sites = {name: secure_site(name, drops_at=step if name == "d" else "") for name in NAMES}
    claim = begin(store, ssa(4, 3))
    before = committed_weights(store, prepare.prepare_run(store, claim))
    assert attempted(store, claim).enough
    digest = commit.aggregate_and_commit(store, claim, 1)
    expected = expected_weights(store, [sites[name] for name in alive], before, tmp_path, 4)
    np.testing.assert_array_equal(committed_weights(store, digest)["w"], expected["w"])


@pytest.mark.parametrize("step", ["advertise", "shares", "mask", "confirmation", "unmasking"])
def test_too_few_left_fail_the_attempt_with_a_reason_and_nothing_is_committed(
    store: Store, secure_site: MakeSecure, step: str
) -> None:
    for name in "abc":
        secure_site(name, drops_at=step if name != "a" else "")
    claim = begin(store, ssa(3, 2))
    prepare.prepare_run(store, claim)
    failed = attempted(store, claim)
    assert not failed.enough
    assert failed.reason
    with pytest.raises(RoundFailed):
        commit.aggregate_and_commit(store, claim, 1)


def test_onemask_fails_when_one_is_missing_and_the_next_attempt_has_fresh_keys(
    store: Store, secure_site: MakeSecure
) -> None:
    sites = [secure_site("a"), secure_site("b"), secure_site("c", train=failing_once(store))]
    claim = begin(store, ssa(3, 2, secure_algorithm={"mode": "onemask"}))
    prepare.prepare_run(store, claim)
    first = attempted(store, claim)
    assert not first.enough
    assert "c sent no masked vector" in first.reason
    keys = keys_of(store, claim, 0)
    assert attempted(store, claim).enough
    assert not keys & keys_of(store, claim, 1)
    assert {order.secure.plan.session for site in sites for order in site.seen if order.secure} == {
        f"{claim.uid}/1/1/0",
        f"{claim.uid}/1/1/1",
    }
    commit.aggregate_and_commit(store, claim, 1)


def failing_once(store: Store) -> Callable[..., Any]:
    """A training that fails the first time, when the keys are agreed."""
    tries: list[int] = []

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        tries.append(order.attempt)
        if len(tries) == 1:
            assert order.secure is not None
            uid = order.secure.plan.session.split("/")[0]
            of = secure_messages.Attempt(uid, 1, 1, 0)
            roster = lambda: store.db.read(lambda tx: secure_messages.get(tx, of, "roster"))  # noqa: E731
            wait_until(roster, timeout_s=10, what="the roster")
            return WorkResult(status="failed", reason="out of memory")
        return trains_as("c")(order, weights)

    return train


def keys_of(store: Store, claim: Claim, attempt: int) -> set[str]:
    of = secure_messages.Attempt(claim.uid, 1, 1, attempt)
    found = store.db.read(lambda tx: secure_messages.all_of(tx, of, "advertise"))
    assert found
    return {json.loads(body)["mask_key"] for body in found.values()}


def test_every_step_may_be_run_twice(store: Store, secure_site: MakeSecure) -> None:
    for name in "abc":
        secure_site(name)
    claim = begin(store, ssa())
    prepare.prepare_run(store, claim)
    selecting.select_cohort(store, claim, 1)
    selecting.publish_work(store, claim, 1)
    assert {secure.agree_keys(store, claim, 1) for _ in range(2)} == {3}
    for _ in range(2):
        assert collect.collect_updates(store, claim, 1).admitted == 3
    for _ in range(2):
        assert secure.unmask(store, claim, 1).enough
    assert len({commit.aggregate_and_commit(store, claim, 1) for _ in range(2)}) == 1
    assert secure.unmask(store, claim, 1).enough


def test_after_the_commit_no_key_share_or_masked_update_is_left(
    store: Store, secure_site: MakeSecure
) -> None:
    for name in "abc":
        secure_site(name)
    claim = begin(store, ssa())
    prepare.prepare_run(store, claim)
    attempted(store, claim)
    commit.aggregate_and_commit(store, claim, 1)
    count = store.db.read(lambda tx: tx.execute(select(func.count()).select_from(secagg_messages)).scalar())
    left = store.db.read(
        lambda tx: tx.execute(select(works.c.update).where(works.c.kind == "train")).scalars().all()
    )
    assert count == 0
    assert set(left) == {None}


def test_the_coordinator_keeps_no_metric_and_no_sample_number_of_a_single_site(
    store: Store, secure_site: MakeSecure
) -> None:
    for name in "abc":
        secure_site(name)
    claim = begin(store, ssa())
    prepare.prepare_run(store, claim)
    attempted(store, claim)
    commit.aggregate_and_commit(store, claim, 1)
    found = store.db.read(lambda tx: tx.execute(select(works).where(works.c.kind == "train")).all())
    assert {work.num_samples for work in found} == {None}
    assert all(not work.metrics for work in found)
    report = run.round_report(store, claim, 1)
    assert report["training_metrics"] == {"sample_num": 60}


def test_a_site_below_its_own_minimum_takes_no_part(store: Store, secure_site: MakeSecure) -> None:
    for name in "abc":
        secure_site(name, minimum=4 if name == "c" else 2)
    claim = begin(store, ssa())
    prepare.prepare_run(store, claim)
    assert attempted(store, claim).admitted == 2
    assert "takes part with at least 4" in str(reasons(store, claim))


def reasons(store: Store, claim: Claim) -> list[str]:
    statement = select(works.c.reason).where(works.c.job_uid == claim.uid)
    return list(store.db.read(lambda tx: tx.execute(statement).scalars().all()))


def test_sums_that_clip_or_cap_say_so(store: Store, secure_site: MakeSecure) -> None:
    for name in "abc":
        secure_site(name)
    claim = begin(store, ssa(secure_algorithm={"clip_value": 0.01, "sample_cap": 15}))
    prepare.prepare_run(store, claim)
    attempted(store, claim)
    commit.aggregate_and_commit(store, claim, 1)
    told = lines(store, claim)
    assert "values of the sites' updates were clipped" in told
    assert "2 of 3 sites have more samples than secure_algorithm.sample_cap" in told


def test_rounds_go_on_with_client_states_of_none_and_published_ahead(
    store: Store, secure_site: MakeSecure
) -> None:
    for name in "abc":
        secure_site(name)
    described = ssa(optimizer={"name": "fedprox"})
    described["hyper_parameters"]["max_round_num"] = 3
    claim = begin(store, described)
    prepare.prepare_run(store, claim)
    for number in (1, 2, 3):
        assert attempted(store, claim, number).enough
        commit.aggregate_and_commit(store, claim, number)


def test_a_stopped_round_ends_its_sites_conversations(store: Store, secure_site: MakeSecure) -> None:
    sites = [secure_site(name, drops_at="shares" if name == "c" else "") for name in "abc"]
    claim = begin(store, ssa())
    prepare.prepare_run(store, claim)
    selecting.select_cohort(store, claim, 1)
    selecting.publish_work(store, claim, 1)
    lifecycle.request_stop(store, "default", "j")
    run.stop_run(store, claim)
    for site in sites[:2]:
        for session in site.sessions:
            session._thread.join(20)
            assert session.is_over
