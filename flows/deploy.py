"""Registers the deployments of `prefect.yaml`, as `prefect deploy --all` does, in a warm process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

PROJECT = Path(__file__).resolve().parent.parent


def register(client: SyncPrefectClient, pool: str | None = None) -> list[str]:
    """Create or renew each deployment and its work pool; their names as `flow/deployment`.

    Args:
        client: of the Prefect server.
        pool: work pool to use instead of the file's.
    """
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    names = []
    for deployment in described["deployments"]:
        pool_name = pool or deployment["work_pool"]["name"]
        ensure_pool(client, pool_name)
        flow = load(deployment["entrypoint"])
        client.create_deployment(
            flow_id=client.create_flow(flow),
            name=deployment["name"],
            work_pool_name=pool_name,
            description=deployment.get("description"),
            tags=deployment.get("tags"),
            parameters=deployment.get("parameters"),
            entrypoint=deployment["entrypoint"],
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}],
            schedules=_schedules(client, f"{flow.name}/{deployment['name']}", deployment),
            parameter_openapi_schema=_schema(flow),
            enforce_parameter_schema=True,
        )
        names.append(f"{flow.name}/{deployment['name']}")
    return names


def _schedules(
    client: SyncPrefectClient, name: str, described: dict[str, Any]
) -> list[DeploymentScheduleCreate]:
    """The deployment's schedules: those that it has, as somebody may have set them, and the file's new ones.

    Whoever renews a deployment replaces its schedules, so that what is there must be sent again.
    """
    try:
        there = client.read_deployment_by_name(name).schedules
    except ObjectNotFound:
        there = []
    kept = {"schedule", "active", "max_scheduled_runs", "parameters", "slug"}
    found = [DeploymentScheduleCreate.model_validate(each.model_dump(include=kept)) for each in there]
    known = {each.slug for each in found}
    return found + [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=each["cron"], timezone=each.get("timezone")),
            active=each.get("active", True),
            parameters=each.get("parameters", {}),
            slug=each["slug"],
        )
        for each in described.get("schedules", [])
        if each["slug"] not in known
    ]


def _schema(flow: Flow[Any, Any]) -> dict[str, Any]:
    """The form that the Prefect UI shows for a run's parameters."""
    schema = parameter_schema(flow).model_dump_for_openapi()
    return {key: value for key, value in schema.items() if value or key != "definitions"}


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """Make the work pool unless it is there."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def load(entrypoint: str) -> Flow[Any, Any]:
    """The flow that a module entrypoint such as `flows.federate.federate` names."""
    module, _, name = entrypoint.rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow)  # noqa: S101 - prefect.yaml is ours
    return flow
