"""The budget of a private job when the coordinator's process is killed: nothing forgotten, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment import faults
from catchment.jobs import lifecycle
from catchment.privacy.accountant import Release, cost
from catchment.rounds import collect, commit, prepare, privacy, run, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store
from catchment.wire.messages import WorkOrder
from tests.runs import begin
from tests.secure_rounds import attempted, committed_weights, quick, ssa
from tests.thread_sites import job

COMMIT = """
import sys
from pathlib import Path
from catchment.rounds import commit
from catchment.rounds.claim import claim_job
from catchment.settings import Settings
from catchment.store import open_store

home, url, attempt, number = sys.argv[1:]
store = open_store(Settings(home=Path(home), database_url=url))
claim = claim_job(store, "default", "j", flow_run_id="flow-run", attempt=int(attempt))
print(commit.aggregate_and_commit(store, claim, int(number)))
"""
Z = 2.0


def central(epsilon_budget: float, placement: str = "central") -> dict[str, Any]:
    hyper = {"max_round_num": 9, "client_num": 2, "threshold_client_num": 2, "evaluate_interval": 9}
    algorithm = {"type": "DP", "noise_multiplier": Z, "clip_norm": 1.0, "placement": placement}
    return job(secure_algorithm={**algorithm, "epsilon_budget": epsilon_budget}, hyper_parameters=hyper)


def at_sites(epsilon_budget: float) -> dict[str, Any]:
    return central(epsilon_budget, "site")


def shared(epsilon_budget: float) -> dict[str, Any]:
    fields = {"noise_multiplier": Z, "clip_norm": 1.0, "epsilon_budget": epsilon_budget}
    return ssa(2, 2, 9, secure_algorithm=fields)


def moves(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
    return {"w": np.ones_like(weights["w"]), "steps": weights["steps"]}, {"sample_num": 10}


@pytest.fixture
def store(store: Store) -> Store:
    return quick(store)


class Coordinator:
    """Flow processes of one job, each taking over from the one before."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.faults, self.attempt = store, folder / "faults", 1
        self.faults.mkdir()

    def claim(self) -> Claim:
        self.attempt += 1
        claim = claim_job(self.store, "default", "j", flow_run_id="flow-run", attempt=self.attempt)
        prepare.prepare_run(self.store, claim)
        return claim

    def collected(self, number: int, *, masked: bool) -> None:
        """A round up to its commit."""
        claim = self.claim()
        if masked:
            assert attempted(self.store, claim, number).enough
            return
        select.select_cohort(self.store, claim, number)
        select.publish_work(self.store, claim, number)
        assert collect.collect_updates(self.store, claim, number).enough

    def commit(self, number: int, killed_at: str = "") -> str:
        """Aggregate and commit in a process of its own; the new weights' digest, "" when it was killed."""
        if killed_at:
            (self.faults / killed_at).touch()
        self.attempt += 1
        settings = self.store.settings
        arguments = [str(settings.home), str(settings.database_url), str(self.attempt), str(number)]
        done = subprocess.run(
            [sys.executable, "-c", COMMIT, *arguments],
            check=False,
            env={**os.environ, faults.FOLDER_VARIABLE: str(self.faults)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == (-signal.SIGKILL if killed_at else 0), done.stderr
        return done.stdout.strip()


def spent(store: Store) -> Any:
    return lifecycle.get_job(store, "default", "j")["privacy"]["epsilon"]


def committed(store: Store) -> list[int]:
    reports = lifecycle.job_rounds(store, "default", "j")
    return [report["round"] for report in reports if report["state"] == "committed"]


@pytest.mark.parametrize(
    ("make_job", "point"),
    [
        (central, "before_commit"),
        (central, "mid_commit"),
        (central, "after_commit"),
        (at_sites, "before_commit"),
        (shared, "before_commit"),
    ],
)
def test_a_kill_between_noise_and_commit_costs_the_budget_once(
    store: Store,
    tmp_path: Path,
    make_site: Callable[..., Any],
    secure_site: Callable[..., Any],
    make_job: Callable[[float], dict[str, Any]],
    point: str,
) -> None:
    masked = make_job is shared
    for name in "ab":
        (secure_site if masked else make_site)(name, train=moves)
    price = [cost([Release(Z, discrete=masked)] * rounds, 1e-5).epsilon for rounds in range(4)]
    begin(store, make_job(price[2] * 1.01))
    coordinator = Coordinator(store, tmp_path)
    for number in (1, 2):
        coordinator.collected(number, masked=masked)
        assert coordinator.commit(number, killed_at=point) == ""
        released = number if point == "after_commit" else number - 1
        assert committed(store) == list(range(1, released + 1))
        assert spent(store) == pytest.approx(price[released])
        digest = coordinator.commit(number)
        assert commit.aggregate_and_commit(store, coordinator.claim(), number) == digest
        assert committed(store) == list(range(1, number + 1))
        assert spent(store) == pytest.approx(price[number])
        assert committed_weights(store, digest)["w"].any()
    claim = coordinator.claim()
    reason = privacy.budget_spent(store, claim, 3)
    assert "allows no further round" in reason
    run.finish_run(store, claim, reason)
    assert lifecycle.get_job(store, "default", "j")["status"]["state"] == "FINISHED"
