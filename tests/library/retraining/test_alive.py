"""One process drives a retraining, and its death is noticed by its lock alone; on both kinds of database."""

from __future__ import annotations

import subprocess
import sys
from uuid import uuid4

import pytest

from catchment.errors import InvalidField, LeaseLost
from catchment.retraining import alive, runs
from catchment.store import Store
from tests.api.serving import RecordingLauncher
from tests.conftest import ROOT, wait_until

HOLDS = """
import sys, time
from catchment.retraining import alive
from catchment.settings import Settings
from catchment.store import open_store
store = open_store(Settings(home=sys.argv[1], database_url=sys.argv[2]))
with alive.driven(store, sys.argv[3]):
    print("holds", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_nothing(store: Store):
    run = str(uuid4())
    settings = store.settings
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(settings.home), settings.effective_database_url, run],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}/src", "PATH": "/usr/bin:/bin"},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"holds\n"
        assert alive.is_driven(store, run)
        assert not alive.is_driven(store, str(uuid4()))
        with pytest.raises(LeaseLost, match="another process drives"), alive.driven(store, run):
            pass
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    wait_until(lambda: not alive.is_driven(store, run), timeout_s=20, what="the lock to go with its process")
    with alive.driven(store, run):
        assert alive.is_driven(store, run)
    with pytest.raises(InvalidField, match="no id"):
        alive.is_driven(store, "none")


def test_lost_runs_go_on_and_others_are_left_alone(store: Store):
    from catchment.jobs.launcher import RunSeen

    ids = {name: str(uuid4()) for name in ("crashed", "lost", "begins", "driven", "often")}

    class Prefect(RecordingLauncher):
        resumed: list[str]

        def unfinished(self, deployment: str, newest_s: float) -> list[RunSeen]:
            assert deployment == "retrain/retrain"
            seen = {"crashed": ("crashed", 1, 0), "lost": ("running", 1, 60), "begins": ("running", 1, 3)}
            seen |= {"driven": ("running", 1, 60), "often": ("crashed", 99, 60)}
            return [RunSeen(ids[name], s, "", {}, n, since) for name, (s, n, since) in seen.items()]

        def resume(self, flow_run_id: str) -> None:
            self.resumed.append(flow_run_id)

    launcher = Prefect()
    launcher.resumed = []
    with alive.driven(store, ids["driven"]):
        runs.look_after(store, launcher)
    assert launcher.resumed == [ids["crashed"], ids["lost"]]
