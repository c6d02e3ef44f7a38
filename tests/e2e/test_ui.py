"""The Prefect UI in a real browser: it reaches its API and shows the job's run."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.mark.needs("chromium")
def test_a_browser_sees_the_jobs_run_with_its_rounds(system, tmp_path):
    job_id = system.start(id="shown", hyper_parameters={"max_round_num": 2})
    run_id = system.wait_for(job_id)["flow_run_id"]
    page = subprocess.run(
        [
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom"),
            f"{system.prefect_url}/runs/flow-run/{run_id}",
        ],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "shown" in page
    assert "Completed" in page
    assert "Can't connect" not in page
