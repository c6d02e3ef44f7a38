"""Kill -9 at named points of a round, and of each part: no committed round and no bit is lost."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from catchment.stack.service import LONGEST_PAUSE_S
from tests.conftest import WEIGHTS_AFTER_KILLS, wait_until
from tests.e2e.conftest import LEASE_S, System, flow_runs, processes_with
from tests.e2e.test_extenders import extended_job, write_files

RETURNS_S = 30
"""A part that was started again serves after so long, on a busy machine."""
RECOVERED_S = LONGEST_PAUSE_S + RETURNS_S + 60
"""A disturbed job has finished within 60 s of the part's return; who dies often is started after a pause."""
OF_A_PLAIN_JOB = [
    *("after_select", "after_publish", "after_admission", "mid_aggregate", "before_commit", "mid_commit"),
    *("after_commit", "mid_checkpoint", "before_finish"),
    *("mid_upload", "after_result"),
    *("site_after_download", "site_after_training", "site_mid_upload"),
]
OF_AN_EXTENDED_JOB = [
    *("after_select", "in_broadcast", "mid_broadcast", "after_broadcast", "after_publish", "in_aggregate"),
    *("before_commit", "mid_commit", "after_commit", "in_finish", "mid_finish", "after_finish"),
]
POINTS = [
    *(("plain", point) for point in OF_A_PLAIN_JOB),
    *(("extended", point) for point in OF_AN_EXTENDED_JOB),
]
PARTS = ["flows.runner", "-m api", "prefect server", "site start --name site-2"]
IN_THE_SUITE = {
    *(("plain", point) for point in ("after_publish", "mid_aggregate", "mid_commit", "after_commit")),
    *(("plain", point) for point in ("mid_upload", "after_result", "site_after_training", "site_mid_upload")),
    *(("extended", point) for point in ("mid_broadcast", "in_aggregate", "mid_finish")),
}
Compare = Callable[[str, str, str], None]


def body_of(system: System, kind: str) -> dict[str, Any]:
    """What distinguishes a job with the three functions from a plain one."""
    if kind == "plain":
        return {"parameters": {"--mode": "brisk"}}
    write_files(system)
    return extended_job(broadcast="prepare", aggregate="median", finish="report")


def run_job(system: System, kind: str, job_id: str, disturb: Callable[[], None] = lambda: None) -> str:
    """A job of three rounds that is disturbed after its start; its id once it has finished."""
    system.start(id=job_id, hyper_parameters={"round_timeout": 60}, **body_of(system, kind))
    disturb()
    shown = system.wait_for(job_id, timeout_s=RECOVERED_S)
    assert shown["status"]["state"] == "FINISHED", shown["status"]
    committed = [report["round"] for report in system.rounds(job_id) if report["state"] == "committed"]
    assert committed == [1, 2, 3]
    return job_id


def final_weights(system: System, job_id: str) -> str:
    """Digest of a finished job's last checkpoint."""
    from catchment.models.tensors import file_digest

    checkpoint = list(system.job(job_id)["checkpoints"].values())[-1]
    return file_digest(system.home / "namespaces" / "default" / checkpoint["path"])


@pytest.fixture(scope="session")
def undisturbed(system: System) -> dict[str, str]:
    """Digests of the final weights of jobs that nobody disturbs, by kind."""
    return {
        kind: final_weights(system, run_job(system, kind, f"calm-{kind}")) for kind in ("plain", "extended")
    }


@pytest.fixture
def compare(
    system: System, undisturbed: dict[str, str], record_property: Callable[[str, object], None]
) -> Compare:
    """Compares a disturbed job's final weights with the undisturbed one's, and prints both."""

    def same(what: str, kind: str, job_id: str) -> None:
        digest = final_weights(system, job_id)
        sign = "=" if digest == undisturbed[kind] else "IS NOT"
        told = f"{what} ({kind}): {digest} {sign} {undisturbed[kind]} (undisturbed)"
        print(told)
        record_property(WEIGHTS_AFTER_KILLS, told)
        assert digest == undisturbed[kind]

    return same


def points() -> list[object]:
    """All points; those that only `make chaos` takes bear its mark."""
    return [
        pytest.param(*each, marks=() if each in IN_THE_SUITE else pytest.mark.chaos, id=":".join(each))
        for each in POINTS
    ]


@pytest.mark.parametrize(("kind", "point"), points())
def test_a_kill_at_a_named_point_changes_no_bit_of_the_result(system, compare, kind, point):
    armed = system.fault_folder / point

    def disturb() -> None:
        wait_until(lambda: not armed.exists(), timeout_s=40, what=f"somebody to reach {point}")

    armed.touch()
    job_id = run_job(system, kind, f"kill-{kind}-{point.replace('_', '-')}", disturb)
    compare(f"killed at {point}", kind, job_id)
    assert_no_function_runs(system)


def assert_no_function_runs(system: System) -> None:
    """No process of a job's extenders is left, and none of their folders."""
    # The one that was running is killed with its flow process, and takes a moment for that.
    wait_until(lambda: not processes_with("extenders/child.py"), timeout_s=10, what="the functions' end")
    assert not list((system.home / "blobs").glob("*/extender-*"))


def test_a_flow_killed_while_a_function_runs_leaves_nothing_of_it_and_goes_on(system, compare):
    write_files(system)
    job_id, mark = "lingering", "catchment-test-linger"

    def disturb() -> None:
        wait_until(lambda: processes_with(mark), timeout_s=40, what="the function's own process")
        for pid in flow_runs(system):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not processes_with(mark), timeout_s=10, what="the end of the function's process")

    system.start(id=job_id, **extended_job(broadcast="prepare", aggregate="linger_once", finish="report"))
    disturb()
    assert system.wait_for(job_id, timeout_s=RECOVERED_S)["status"]["state"] == "FINISHED"
    compare("flow killed in aggregate", "extended", job_id)
    assert_no_function_runs(system)


def kill_part(system: System, command: str) -> None:
    """kill -9 the processes of one part of the stack, by words side by side in its command line."""
    command = command.replace(" ", "\0")
    # Only this system's: other tests beside this one have a Prefect server of their own.
    wait_until(
        lambda: processes_with(command, below=system.pid), timeout_s=LONGEST_PAUSE_S + 20, what=command
    )
    for pid in processes_with(command, below=system.pid):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back_and_the_job_goes_on(system, compare, part):
    def disturb() -> None:
        wait_until(
            lambda: any(report["state"] == "committed" for report in system.rounds(job_id)),
            timeout_s=40,
            what="a committed round",
        )
        kill_part(system, part)

    job_id = f"part-{part.split()[0].strip('-').replace('.', '-')}"
    run_job(system, "plain", job_id, disturb)
    compare(f"killed {part}", "plain", job_id)


def test_cut_database_connections_are_made_anew(system, compare):
    import psycopg

    from catchment.stack.postgres import running_url

    url = running_url(system.home / "postgres", "catchment")
    assert url is not None

    def disturb() -> None:
        wait_until(lambda: system.rounds("cut"), timeout_s=20, what="a round")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = 'catchment' AND pid <> pg_backend_pid()"
            )

    run_job(system, "plain", "cut", disturb)
    compare("database connections cut", "plain", "cut")


def test_an_api_that_is_away_for_longer_than_a_lease_costs_no_site_its_work(system, compare):
    """Nobody is heard meanwhile, which says nothing about the sites."""

    def disturb() -> None:
        wait_until(
            lambda: any(report["state"] == "open" for report in system.rounds("outage")),
            timeout_s=40,
            what="an open round",
        )
        gone = time.monotonic() + 2.5 * LEASE_S
        while time.monotonic() < gone:
            for pid in processes_with("-m\0api", below=system.pid):
                os.kill(pid, signal.SIGKILL)
            over.wait(0.2)

    over = threading.Event()
    run_job(system, "plain", "outage", disturb)
    compare("API away for two and a half leases", "plain", "outage")
    assert {report["attempt"] for report in system.rounds("outage")} == {0}


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_random_kills_for_a_bounded_time_lose_nothing(system, compare):
    seed = int(os.environ.get("CHAOS_SEED", str(secrets.randbits(32))))
    seconds = float(os.environ.get("CHAOS_SECONDS", "300"))
    print(f"\nCHAOS_SEED={seed}")
    chance = random.Random(seed)
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        number += 1
        kind, point = chance.choice(POINTS)
        part, delay_s = chance.choice(PARTS), chance.uniform(0, 6)
        armed = system.fault_folder / point
        over = threading.Event()

        def disturb(part=part, delay_s=delay_s, over=over, armed=armed) -> None:
            armed.touch()
            over.wait(delay_s)
            kill_part(system, part)

        job_id = run_job(system, kind, f"chaos-{seed % 10000}-{number}", disturb)
        reached = "" if armed.exists() else f"at {point} and "
        compare(f"{number}. killed {reached}{part!r} after {delay_s:.1f} s", kind, job_id)
        armed.unlink(missing_ok=True)
        assert_no_function_runs(system)
