"""What happens when sites, scripts and processes fail while a job runs."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import wait_until
from tests.e2e.conftest import LEASE_S, end_group, flow_runs, processes_with


@pytest.mark.parametrize(("threshold", "state"), [(2, "FINISHED"), (3, "FAILED")])
def test_killing_one_of_three_sites_in_mid_round(system, threshold, state):
    name = f"victim-{threshold}"
    victim = system.add_site(name)
    works = system.home / "more" / name / "home" / "work"
    job_id = system.start(
        id=f"killed-{threshold}",
        clients=f"site-1,site-2,{name}",
        parameters={"--mode": "hang", "--only": name, "--round": 2},
        hyper_parameters={"client_num": 3, "threshold_client_num": threshold, "round_timeout": 20},
    )
    hanging = "*/task/tmp/hanging"  # a sent script can write nowhere else
    wait_until(lambda: list(works.glob(hanging)), timeout_s=40, what="the site to train in round 2")
    end_group(victim, signal.SIGKILL)
    shown = system.wait_for(job_id, timeout_s=60)
    assert shown["status"]["state"] == state
    outcomes = {
        site["site"]: site
        for report in system.rounds(job_id)
        if report["round"] == 2 and report["attempt"] == 0
        for site in report["sites"]
    }
    assert outcomes[name]["outcome"] == "lost"
    if state == "FAILED":
        assert "3 sites" in shown["status"]["reason"]
        assert name in shown["status"]["reason"]


def test_stop_ends_the_job_and_its_training_processes_within_ten_seconds(system, timed):
    job_id = system.start(id="halt", parameters={"--mode": "hang", "--round": 2})
    wait_until(
        lambda: len(processes_with("catchment-test-hang")) == 2, timeout_s=40, what="both sites to hang"
    )
    begun = timed()
    with system.http() as http:
        assert http.put(f"{system.job_path(job_id)}:stop").status_code == 200
    system.wait_for(job_id, "STOPPED", timeout_s=10)
    left = max(0.1, 10 - (timed() - begun))
    wait_until(
        lambda: not processes_with("catchment-test-hang"), timeout_s=left, what="the training processes' end"
    )
    with system.http() as http:
        changed = {**system.job(job_id), "parameters": {}}
        assert http.put(system.job_path(job_id), json=changed).status_code == 200
        assert http.put(f"{system.job_path(job_id)}:start").status_code == 200
    shown = system.wait_for(job_id)
    assert shown["status"]["state"] == "FINISHED"
    assert shown["run"] == 1
    states = [(report["round"], report["state"]) for report in system.rounds(job_id)]
    assert states == [(1, "committed"), (2, "abandoned"), (2, "committed"), (3, "committed")]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("exit", "the disk is on fire"), ("empty", "sample_num"), ("hang", "round_timeout")],
)
def test_a_bad_site_costs_its_own_update_and_is_named(system, mode, reason):
    job_id = system.start(
        id=f"bad-{mode}",
        parameters={"--mode": mode, "--only": "site-2"},
        hyper_parameters={"max_round_num": 1, "threshold_client_num": 1, "round_timeout": 8},
    )
    assert system.wait_for(job_id)["status"]["state"] == "FINISHED"
    outcomes = {site["site"]: site for site in system.rounds(job_id)[0]["sites"]}
    assert outcomes["site-1"]["outcome"] == "admitted"
    assert outcomes["site-2"]["outcome"] in {"failed", "rejected", "late"}
    assert reason in outcomes["site-2"]["reason"]


def test_a_script_that_prints_a_hundred_megabytes_costs_no_disk(system):
    job_id = system.start(
        id="shout",
        parameters={"--mode": "shout", "--only": "site-1"},
        hyper_parameters={"max_round_num": 1},
    )
    assert system.wait_for(job_id)["status"]["state"] == "FINISHED"
    logs = system.home / "sites" / "site-1" / "logs"
    assert max(path.stat().st_size for path in logs.rglob("*") if path.is_file()) < 40e6


def test_a_killed_flow_process_is_resumed_and_no_committed_round_is_lost(system):
    job_id = system.start(id="resumed", parameters={"--mode": "slow"})
    wait_until(
        lambda: any(report["state"] == "committed" for report in system.rounds(job_id)),
        timeout_s=40,
        what="a committed round",
    )
    lost = flow_runs(system)
    assert lost
    for pid in lost:
        os.kill(pid, signal.SIGKILL)
    shown = system.wait_for(job_id, timeout_s=60)
    assert shown["status"]["state"] == "FINISHED"
    assert [report["round"] for report in system.rounds(job_id) if report["state"] == "committed"] == [
        1,
        2,
        3,
    ]


def test_too_few_sites_are_explained_while_waiting_and_then_fail_the_job(system):
    job_id = system.start(
        id="lonely",
        clients="site-1,nobody",
        hyper_parameters={"client_num": 2, "threshold_client_num": 1, "round_timeout": 3},
    )
    shown = system.wait_for(job_id)
    assert shown["status"]["state"] == "FAILED"
    assert "round 1 waits for 2 sites that fit, 1 there: site-1" in shown["status"]["reason"]
    assert "nobody" in shown["status"]["reason"]


def test_two_jobs_at_once_on_the_same_sites(system):
    jobs = [
        system.start(id=f"pair-{name}", parameters={"--mode": "slow"}, hyper_parameters={"max_round_num": 2})
        for name in "ab"
    ]
    seen = [system.wait_for(job_id, "RUNNING")["status"]["state"] for job_id in jobs]
    assert seen == ["RUNNING", "RUNNING"]
    assert [system.wait_for(job_id)["status"]["state"] for job_id in jobs] == ["FINISHED", "FINISHED"]


def test_a_site_with_one_place_takes_two_jobs_in_turn(system):
    single = system.add_site("single", parallelism=1)
    jobs = [
        system.start(
            id=f"turn-{name}",
            clients="single",
            parameters={"--mode": "slow"},
            hyper_parameters={"client_num": 1, "threshold_client_num": 1, "max_round_num": 2},
        )
        for name in "ab"
    ]
    assert [system.wait_for(job_id)["status"]["state"] for job_id in jobs] == ["FINISHED", "FINISHED"]
    end_group(single)
    wait_until(lambda: not system.is_online("single"), timeout_s=LEASE_S * 3, what="the site to leave")
