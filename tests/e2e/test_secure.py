"""Secure aggregation as users have it: real sites, the real flow, and kills in the middle of the protocol."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.models.tensors import read_tensors
from tests.conftest import wait_until
from tests.e2e.conftest import System, end_group

THREE = {"client_num": 3, "threshold_client_num": 2, "max_round_num": 2, "round_timeout": 40}


@pytest.fixture(scope="module")
def third(system: System) -> str:
    """A third site beside the two of `catchment up`."""
    system.add_site("secure-3")
    return "secure-3"


def secure_job(system: System, job_id: str, third: str, **changes: Any) -> str:
    hyper = {**THREE, **changes.pop("hyper_parameters", {})}
    return system.start(
        id=job_id,
        output=f"small/{job_id}",
        clients=f"site-1,site-2,{third}",
        secure_algorithm={"type": "SSA", **changes.pop("secure_algorithm", {})},
        hyper_parameters=hyper,
        **changes,
    )


def final_weights(system: System, job_id: str) -> dict[str, np.ndarray]:
    checkpoints = system.job(job_id)["checkpoints"]
    folder = system.home / "namespaces" / "default"
    return read_tensors(folder / list(checkpoints.values())[-1]["path"])


def assert_moved_by(system: System, job_id: str, rounds: int) -> None:
    """Every site adds one to each weight, so each round moves the mean by one, but for quantisation."""
    for array in final_weights(system, job_id).values():
        np.testing.assert_allclose(array, rounds, atol=rounds * 3e-5)


def test_a_job_runs_masked_from_end_to_end(system: System, third: str) -> None:
    job_id = secure_job(system, "masked", third)
    shown = system.wait_for(job_id, timeout_s=120)
    assert shown["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
    assert_moved_by(system, job_id, 2)
    for report in system.rounds(job_id):
        assert report["training_metrics"] == {"sample_num": 30}
        assert {site["outcome"] for site in report["sites"]} == {"admitted"}
        assert all("loss" not in str(site) for site in report["sites"])


def test_sites_noise_together_before_they_mask(system: System, third: str) -> None:
    noise = {"noise_multiplier": 2.0, "clip_norm": 0.5, "epsilon_budget": 4.1}
    job_id = secure_job(
        system, "masked-noise", third, secure_algorithm=noise, hyper_parameters={"max_round_num": 9}
    )
    shown = system.wait_for(job_id, timeout_s=120)
    assert shown["status"]["state"] == "FINISHED"
    assert "allows no further round" in shown["status"]["reason"]
    assert 0 < shown["privacy"]["epsilon"] <= 4.1
    assert shown["privacy"]["epsilon_to_coordinator"] == shown["privacy"]["epsilon"]
    assert "adds discrete noise before it masks" in shown["privacy"]["guarantee"]
    (report, *_) = system.rounds(job_id)
    assert report["training_metrics"] == {}
    assert report["privacy"]["placement"] == "shared"


@pytest.mark.parametrize("point", ["after_shares", "after_survivors", "after_request"])
def test_a_killed_coordinator_goes_on_with_the_same_attempt(system: System, third: str, point: str) -> None:
    fault: Path = system.fault_folder / point
    fault.write_text("")
    job_id = secure_job(system, point.replace("_", "-"), third)
    shown = system.wait_for(job_id, timeout_s=90)
    assert not fault.exists()
    assert shown["status"]["state"] == "FINISHED"
    assert_moved_by(system, job_id, 2)
    assert [(report["round"], report["attempt"]) for report in system.rounds(job_id)] == [(1, 0), (2, 0)]


def test_a_site_that_dies_while_the_others_train_is_left_out_of_the_sum(system: System) -> None:
    victim = system.add_site("secure-victim")
    works = system.home / "more" / "secure-victim" / "home" / "work"
    job_id = secure_job(
        system,
        "secure-dead",
        "secure-victim",
        parameters={"--mode": "hang", "--only": "secure-victim", "--round": 1},
        hyper_parameters={"max_round_num": 1},
    )
    wait_until(lambda: list(works.glob("*/task/tmp/hanging")), timeout_s=40, what="the site to train")
    end_group(victim, signal.SIGKILL)
    assert system.wait_for(job_id, timeout_s=60)["status"]["state"] == "FINISHED"
    (report,) = system.rounds(job_id)
    outcomes = {site["site"]: site["outcome"] for site in report["sites"]}
    assert outcomes == {"site-1": "admitted", "site-2": "admitted", "secure-victim": "lost"}
    assert report["training_metrics"] == {"sample_num": 20}
    assert_moved_by(system, job_id, 1)
