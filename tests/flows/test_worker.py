"""The deployments of prefect.yaml under Prefect's own tools: `prefect deploy` and a process worker."""

from __future__ import annotations

import os
import subprocess
import sys

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client

from api.launch import PrefectLauncher
from catchment.jobs import lifecycle, supervise
from flows.deploy import register
from tests.conftest import ROOT, wait_until
from tests.e2e.conftest import end_group
from tests.thread_sites import job

DEPLOYED = ("entrypoint", "pull_steps", "work_pool_name", "tags", "parameters", "parameter_openapi_schema")


def prefect(*arguments: str) -> None:
    """Run Prefect's command line in the checkout, as the head of prefect.yaml says."""
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env={**os.environ, "PWD": str(ROOT)},
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )


def shown(client: SyncPrefectClient, name: str) -> dict[str, object]:
    """What of a deployment decides how it runs."""
    return client.read_deployment_by_name(name).model_dump(include=set(DEPLOYED))


def test_a_process_worker_runs_what_prefect_deploy_registered(flow_store, make_site):
    make_site("a")
    make_site("b")
    with get_client(sync_client=True) as client:
        names = register(client)
        ours = {name: shown(client, name) for name in names}
        prefect("deploy", "--all")
        theirs = {name: shown(client, name) for name in names}
    for name in names:
        for field in DEPLOYED:
            assert theirs[name][field] == ours[name][field], field
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert len(names) == len(described)

    lifecycle.create_job(flow_store, "default", job(id="worked"))
    launcher = PrefectLauncher(flow_store)
    start = lifecycle.request_start(flow_store, "default", "worked")
    assert start is not None
    supervise.launch(flow_store, launcher, start)
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "catchment", "--run-once"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: lifecycle.get_job(flow_store, "default", "worked")["status"]["state"] == "FINISHED",
            timeout_s=120,
            what="the worker to finish the job",
        )
    finally:
        end_group(worker, timeout_s=40)
        launcher.close()
