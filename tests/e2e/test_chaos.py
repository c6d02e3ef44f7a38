"""Kill -9 at named points of a round, and of each part: no committed round and no bit is lost."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from tests.e2e.conftest import System, processes_with

IN_THE_FLOW = [
    "after_select",
    "after_publish",
    "after_admission",
    "mid_aggregate",
    "before_commit",
    "mid_commit",
    "after_commit",
    "mid_checkpoint",
    "before_finish",
]
IN_THE_API = ["mid_upload", "after_result"]
AT_A_SITE = ["site_after_download", "site_after_training", "site_mid_upload"]
PARTS = ["flows.runner", "-m api", "prefect server", "site start --name site-2"]
IN_THE_SUITE = [
    "after_publish",
    "mid_aggregate",
    "mid_commit",
    "after_commit",
    "mid_upload",
    "after_result",
    "site_after_training",
    "site_mid_upload",
]


@pytest.fixture(scope="session")
def undisturbed(system: System) -> str:
    """Digest of the final weights of the job that nobody disturbs."""
    return final_weights(system, run_job(system, "calm"))


def run_job(system: System, job_id: str, disturb: Callable[[], None] = lambda: None) -> str:
    """A job of three rounds with a disturbance after its first commit; its id once it has finished."""
    system.start(id=job_id, hyper_parameters={"round_timeout": 60}, parameters={"--mode": "brisk"})
    disturb()
    shown = system.wait_for(job_id, timeout_s=90)
    assert shown["status"]["state"] == "FINISHED", shown["status"]
    committed = [report["round"] for report in system.rounds(job_id) if report["state"] == "committed"]
    assert committed == [1, 2, 3]
    return job_id


def final_weights(system: System, job_id: str) -> str:
    """Digest of a finished job's last checkpoint."""
    from catchment.models.tensors import file_digest

    checkpoint = list(system.job(job_id)["checkpoints"].values())[-1]
    return file_digest(system.home / "namespaces" / "default" / checkpoint["path"])


def points() -> list[object]:
    """All points; those that only `make chaos` takes bear its mark."""
    return [
        point if point in IN_THE_SUITE else pytest.param(point, marks=pytest.mark.chaos)
        for point in [*IN_THE_FLOW, *IN_THE_API, *AT_A_SITE]
    ]


@pytest.mark.parametrize("point", points())
def test_a_kill_at_a_named_point_changes_no_bit_of_the_result(system, undisturbed, point):
    armed = system.fault_folder / point
    job_id = run_job(system, f"kill-{point.replace('_', '-')}", armed.touch)
    assert not armed.exists(), "the point was never reached"
    digest = final_weights(system, job_id)
    print(f"killed {point}: {digest}")
    assert digest == undisturbed


def kill_part(system: System, command: str) -> None:
    """kill -9 the processes of one part of the stack, by words side by side in its command line."""
    command = command.replace(" ", "\0")
    # Only this system's: other tests beside this one have a Prefect server of their own.
    wait_until(lambda: processes_with(command, below=system.pid), timeout_s=20, what=command)
    for pid in processes_with(command, below=system.pid):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back_and_the_job_goes_on(system, undisturbed, part):
    def disturb() -> None:
        wait_until(
            lambda: any(report["state"] == "committed" for report in system.rounds(job_id)),
            timeout_s=40,
            what="a committed round",
        )
        kill_part(system, part)

    job_id = f"part-{part.split()[0].strip('-').replace('.', '-')}"
    run_job(system, job_id, disturb)
    assert final_weights(system, job_id) == undisturbed


def test_cut_database_connections_are_made_anew(system, undisturbed):
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

    run_job(system, "cut", disturb)
    assert final_weights(system, "cut") == undisturbed


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_random_kills_for_a_bounded_time_lose_nothing(system, undisturbed):
    seed = int(os.environ.get("CHAOS_SEED", str(secrets.randbits(32))))
    seconds = float(os.environ.get("CHAOS_SECONDS", "300"))
    print(f"\nCHAOS_SEED={seed}")
    chance = random.Random(seed)
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        number += 1
        point, part = chance.choice([*IN_THE_FLOW, *IN_THE_API, *AT_A_SITE]), chance.choice(PARTS)
        delay_s = chance.uniform(0, 6)
        over = threading.Event()

        def disturb(point=point, part=part, delay_s=delay_s, over=over) -> None:
            (system.fault_folder / point).touch()
            over.wait(delay_s)
            kill_part(system, part)

        run_job(system, f"chaos-{seed % 10000}-{number}", disturb)
        digest = final_weights(system, f"chaos-{seed % 10000}-{number}")
        print(f"{number}: {point}, {part!r} after {delay_s:.1f} s: {digest}")
        (system.fault_folder / point).unlink(missing_ok=True)
        assert digest == undisturbed
