"""Differential privacy under secure aggregation: the sites noise together, and nobody sees less noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.errors import InvalidField
from catchment.jobs import lifecycle
from catchment.models.signature import update_signature
from catchment.models.tensors import TensorFile, write_tensors
from catchment.privacy.accountant import Release, cost
from catchment.privacy.noise import NoiseSource
from catchment.rounds import commit, prepare, privacy, run
from catchment.secagg import noised
from catchment.secagg.noised import NoisedLayout
from catchment.store import Store
from catchment.wire.messages import WorkOrder
from catchment.wire.secagg import SharedNoise
from tests.runs import begin
from tests.secure_rounds import attempted, committed_weights, quick, ssa
from tests.secure_sites import SecureSite

MakeSecure = Callable[..., SecureSite]
LARGE = 100_000
DELTA = 1e-5


@pytest.fixture
def store(store: Store) -> Store:
    return quick(store)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, list[np.ndarray]]:
    """What noise was drawn, by source: the true one, remembered."""
    found: dict[bytes, list[np.ndarray]] = {}

    class Recorded(NoiseSource):
        def discrete_gaussian(self, size: int, std: float) -> np.ndarray:
            steps = super().discrete_gaussian(size, std)
            found.setdefault(id(self).to_bytes(8, "big"), []).append(steps.copy())
            keep.append(self)  # so that no other source gets its id
            return steps

    keep: list[Recorded] = []
    monkeypatch.setattr(noised, "NoiseSource", Recorded)
    return found


def private(sites: int = 3, threshold: int = 2, rounds: int = 1, **fields: Any) -> dict[str, Any]:
    more = {key: fields.pop(key) for key in ("optimizer", "strategy", "random_client") if key in fields}
    algorithm = {"noise_multiplier": 1.0, "clip_norm": 1.0, **fields}
    return ssa(sites, threshold, rounds, secure_algorithm=algorithm, **more)


def moves(by: float) -> Callable[..., Any]:
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update = {"w": np.full_like(weights["w"], by), "steps": weights["steps"] + order.round}
        return update, {"sample_num": 10, "loss": by}

    return train


def large_model(store: Store) -> None:
    path = store.settings.home / "namespaces/default/models/init.safetensors"
    path.unlink()
    write_tensors(path, {"w": np.zeros(LARGE, np.float32), "steps": np.array(5)})


def record(store: Store, number: int = 1) -> dict[str, Any]:
    found = lifecycle.job_rounds(store, "default", "j")[number - 1]["privacy"]
    assert isinstance(found, dict)
    return found


def plain_sum(
    sites: list[SecureSite],
    drawn: dict[bytes, list[np.ndarray]],
    noise: SharedNoise,
    parties: int,
    folder: Path,
) -> np.ndarray:
    """The sum of rounded updates in the open, and the noise that was drawn, in the updates' unit."""
    total = np.zeros(6, np.int64)
    for site in sites:
        (update,) = site.plain.values()
        write_tensors(folder / f"plain-{site.name}", update)
        with TensorFile.open(folder / f"plain-{site.name}") as file:
            layout = NoisedLayout(update_signature(file.signature), noise, parties)
            total += np.rint(file.block("w", 0, 6, np.float64) * layout._factor(file)).astype(np.int64)
    for steps in drawn.values():
        total += steps[0]
    return total / layout.quantiser.scale


@pytest.mark.parametrize("mode", ["doublemask", "onemask"])
def test_the_new_weights_are_those_of_the_plain_rounded_and_noised_sum(
    store: Store, secure_site: MakeSecure, tmp_path: Path, drawn: dict[bytes, list[np.ndarray]], mode: str
) -> None:
    sites = [secure_site(name) for name in "abc"]
    claim = begin(store, private(3, 3, mode=mode, clip_norm=0.2))
    assert attempted(store, claim).enough
    new = committed_weights(store, commit.aggregate_and_commit(store, claim, 1))
    noise = SharedNoise(clip_norm=0.2, noise_multiplier=1.0, sharers=3)
    assert len(drawn) == 3
    expected = (plain_sum(sites, drawn, noise, 3, tmp_path) * (1.0 / 3)).astype(np.float32)
    np.testing.assert_array_equal(new["w"].reshape(-1), expected)
    assert new["steps"] == 0


def test_the_report_says_who_noised_and_what_it_cost(store: Store, secure_site: MakeSecure) -> None:
    for name in "abc":
        secure_site(name)
    claim = begin(store, private(3, 3, noise_multiplier=2.0))
    attempted(store, claim)
    commit.aggregate_and_commit(store, claim, 1)
    told = record(store)
    assert told["epsilon"] == cost([Release(2.0, discrete=True)], DELTA).epsilon
    assert told["epsilon_to_coordinator"] == told["epsilon"]
    assert (told["placement"], told["accountant"], told["denominator"]) == ("shared", "RDP", 3)
    assert told["noise_std"] == pytest.approx(2.0)
    assert told["clipped_share"] is None
    less = cost([Release(2.0 * (2 / 3) ** 0.5, discrete=True)], DELTA).epsilon
    for words in ("adds discrete noise before it masks", "3 sites the whole", f"epsilon is {less:.4g}"):
        assert words in told["guarantee"]
    shown = lifecycle.get_job(store, "default", "j")["privacy"]
    assert shown["epsilon"] == told["epsilon"]
    report = run.round_report(store, claim, 1)
    assert report["training_metrics"] == {}  # not even how many samples there were


def test_a_site_that_drops_takes_its_noise_with_it_and_enough_is_left(
    store: Store, secure_site: MakeSecure
) -> None:
    large_model(store)
    for name in "abcd":
        secure_site(name, train=moves(0.0), drops_at="mask" if name == "d" else "")
    claim = begin(store, private(4, 3, noise_multiplier=3.0, clip_norm=0.5))
    assert attempted(store, claim).enough
    new = committed_weights(store, commit.aggregate_and_commit(store, claim, 1))["w"]
    # Three of four bring all of it; the mean is over client_num. Its std has an error of 0.22 %.
    assert new.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.014)
    assert abs(new.mean()) < 6 * new.std() / np.sqrt(LARGE)
    assert record(store)["noise_std"] == pytest.approx(1.5)
    assert record(store)["epsilon"] == cost([Release(3.0, discrete=True)], DELTA).epsilon


def test_more_sites_than_the_noise_needs_bring_more_of_it(store: Store, secure_site: MakeSecure) -> None:
    large_model(store)
    for name in "abcd":
        secure_site(name, train=moves(0.0))
    claim = begin(store, private(4, 2, noise_multiplier=3.0, clip_norm=0.5))
    assert attempted(store, claim).enough
    new = committed_weights(store, commit.aggregate_and_commit(store, claim, 1))["w"]
    assert new.std() == pytest.approx(3.0 * 0.5 * np.sqrt(2) / 4, rel=0.014)
    assert record(store)["noise_std"] == pytest.approx(1.5 * np.sqrt(2))


def test_each_update_is_clipped_and_counts_alike(store: Store, secure_site: MakeSecure) -> None:
    secure_site("a", train=moves(100.0))
    secure_site("b", train=moves(0.1))
    claim = begin(store, private(2, 2, noise_multiplier=0.0))
    attempted(store, claim)
    new = committed_weights(store, commit.aggregate_and_commit(store, claim, 1))["w"]
    np.testing.assert_allclose(new, (1 / np.sqrt(6) + 0.1) / 2, rtol=1e-6)
    assert record(store)["epsilon"] is None
    assert record(store)["guarantee"].startswith("no guarantee: noise_multiplier is 0")


def test_random_cohorts_are_not_counted_on(store: Store, secure_site: MakeSecure) -> None:
    for name in "abcd":
        secure_site(name)
    claim = begin(store, private(2, 2, random_client=True))
    attempted(store, claim)
    commit.aggregate_and_commit(store, claim, 1)
    assert record(store)["epsilon"] == cost([Release(1.0, discrete=True)], DELTA).epsilon
    assert "whoever took part" in record(store)["guarantee"]


def test_a_run_ends_before_the_round_that_would_break_its_budget(
    store: Store, secure_site: MakeSecure
) -> None:
    for name in "abc":
        secure_site(name)
    budget = cost([Release(2.0, discrete=True)] * 2, DELTA).epsilon * 1.01
    claim = begin(store, private(3, 3, rounds=9, noise_multiplier=2.0, epsilon_budget=budget))
    for number in (1, 2):
        assert privacy.budget_spent(store, claim, number) == ""
        assert attempted(store, claim, number).enough
        commit.aggregate_and_commit(store, claim, number)
    reason = privacy.budget_spent(store, claim, 3)
    assert "allows no further round" in reason
    run.finish_run(store, claim, reason)
    assert lifecycle.get_job(store, "default", "j")["status"]["state"] == "FINISHED"


def test_a_sum_that_is_added_up_again_is_the_same_release(
    store: Store, secure_site: MakeSecure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise is in the masked updates, so a lost process costs neither privacy nor new noise."""
    for name in "abc":
        secure_site(name)
    claim = begin(store, private(3, 3))
    attempted(store, claim)
    made = []
    inner = commit.aggregate_round

    def dies(*args: Any) -> Any:
        made.append(inner(*args).weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(commit, "aggregate_round", dies)
    with pytest.raises(KeyboardInterrupt):
        commit.aggregate_and_commit(store, claim, 1)
    monkeypatch.undo()
    assert commit.aggregate_and_commit(store, claim, 1) == made[0]
    assert record(store)["epsilon"] == cost([Release(1.0, discrete=True)], DELTA).epsilon


def test_a_model_too_large_for_its_grid_fails_the_start_with_the_numbers(store: Store) -> None:
    large_model(store)
    with pytest.raises(InvalidField, match=r"noise_multiplier: in 32 bits clip_norm is \d+ steps"):
        begin(store, private(3, 3, noise_multiplier=1e6))


def test_a_failed_attempt_is_seen_by_the_coordinator_and_released_to_nobody(
    store: Store, secure_site: MakeSecure
) -> None:
    tries: list[int] = []

    def fails_first(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        tries.append(order.attempt)
        if len(tries) == 1:
            return {"w": np.full_like(weights["w"], np.nan), "steps": weights["steps"]}, {"sample_num": 1}
        return moves(0.1)(order, weights)

    secure_site("a")
    secure_site("b", train=fails_first)
    claim = begin(store, private(2, 2))
    prepare.prepare_run(store, claim)
    assert not attempted(store, claim).enough
    assert attempted(store, claim).enough
    commit.aggregate_and_commit(store, claim, 1)
    once = cost([Release(1.0, discrete=True)], DELTA).epsilon
    committed = record(store, 2)
    assert committed["epsilon"] == once
    assert committed["epsilon_to_coordinator"] == cost([Release(1.0, discrete=True)] * 2, DELTA).epsilon
