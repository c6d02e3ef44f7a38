"""`prefect --no-prompt deploy --all` from the one prefect.yaml, for pools of processes and of pods."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values

from tests.conftest import ROOT
from tests.deployments.restrictions import check_bounded, check_restricted
from tests.deployments.test_kubernetes import KUBERNETES_VERSION
from tests.flows.test_worker import prefect

FILE = ROOT / "prefect.yaml"
POOL = "catchment"


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of a server that has no pool of our name, before and afterwards."""
    with get_client(sync_client=True) as opened:
        remove_pool(opened)
        yield opened
        remove_pool(opened)


def remove_pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        return
    client.delete_work_pool(POOL)


def described(kind: str) -> list[str]:
    """The command of prefect.yaml's head that makes a pool of this type."""
    (line,) = re.findall(
        rf"^#\s+prefect (work-pool create .*--type {kind}.*)$", FILE.read_text(), re.MULTILINE
    )
    return shlex.split(line)


@pytest.mark.parametrize("kind", ["process", "kubernetes"])
def test_all_deployments_go_to_a_pool_of_either_type(client: SyncPrefectClient, kind: str) -> None:
    prefect(*described(kind))
    assert client.read_work_pool(POOL).type == kind
    prefect("deploy", "--all")
    for deployment in yaml.safe_load(FILE.read_text())["deployments"]:
        flow = deployment["entrypoint"].rpartition(".")[2]
        found = client.read_deployment_by_name(f"{flow}/{deployment['name']}")
        assert found.work_pool_name == POOL
        assert found.entrypoint == deployment["entrypoint"]


def test_pods_of_flow_runs_are_restricted_and_valid(client: SyncPrefectClient) -> None:
    prefect(*described("kubernetes"))
    template = client.read_work_pool(POOL).base_job_template
    job = rendered(
        template, name="run", command=["prefect", "flow-run", "execute"], env=[], labels={"a": "b"}
    )
    kubernetes_validate.validate(job, KUBERNETES_VERSION, strict=True)
    check_restricted(job)
    check_bounded(job)
    assert "{{" not in json.dumps(job)


def rendered(template: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The Job of a template, filled in as a worker does: what a run brings, else the variable's default."""
    variables = template["variables"]["properties"]
    defaults = {name: each["default"] for name, each in variables.items() if "default" in each}
    return dict(apply_values(template["job_configuration"]["job_manifest"], {**defaults, **given}))
