"""`catchment job`: create, update, start, stop, get, list, delete, watch."""

from __future__ import annotations

import json
from typing import Any, TextIO

import click

from catchment.cli.exits import FAILED
from catchment.cli.logs import logs
from catchment.cli.options import Remote, namespace_option, server_options
from catchment.cli.output import print_fields, print_json, print_table
from catchment.client import Client, Job
from catchment.errors import Refused

job_id_argument = click.argument("job_id", metavar="ID")
file_option = click.option(
    "-f",
    "--file",
    "source",
    type=click.File("r", encoding="utf-8"),
    required=True,
    help="The job as JSON; '-' reads stdin.",
)


@click.group()
def job() -> None:
    """Create, start, follow and stop federated jobs."""


@job.command()
@file_option
@click.option("--start", is_flag=True, help="Start it at once.")
@namespace_option
@server_options
def create(source: TextIO, start: bool, namespace: str, remote: Remote) -> None:
    """Create a job from a JSON file."""
    document = _read(source)
    with remote.connect() as client:
        client.create_job(namespace, document, start=start)
        _report(client, namespace, str(document.get("id")), "started" if start else "created", remote.as_json)


@job.command()
@job_id_argument
@file_option
@namespace_option
@server_options
def update(job_id: str, source: TextIO, namespace: str, remote: Remote) -> None:
    """Replace a job's specification; refused while it runs."""
    document = _read(source)
    with remote.connect() as client:
        client.update_job(namespace, job_id, document)
        _report(client, namespace, job_id, "updated", remote.as_json)


@job.command()
@job_id_argument
@click.option("--fresh", is_flag=True, help="Start over from the initial weights, in a new run.")
@namespace_option
@server_options
def start(job_id: str, fresh: bool, namespace: str, remote: Remote) -> None:
    """Start a job; after a failure or a stop it goes on with the round after the last committed one."""
    with remote.connect() as client:
        client.start_job(namespace, job_id, fresh=fresh)
        _report(client, namespace, job_id, "started", remote.as_json)


@job.command()
@job_id_argument
@namespace_option
@server_options
def stop(job_id: str, namespace: str, remote: Remote) -> None:
    """Stop a job; its rounds so far are kept."""
    with remote.connect() as client:
        client.stop_job(namespace, job_id)
        _report(client, namespace, job_id, "asked to stop", remote.as_json)


@job.command()
@job_id_argument
@namespace_option
@server_options
def get(job_id: str, namespace: str, remote: Remote) -> None:
    """Show a job."""
    with remote.connect() as client:
        found = client.get_job(namespace, job_id)
        if remote.as_json:
            print_json(found.document)
            return
        page = client.version().run_page(found.flow_run_id)
    print_fields(_fields(found, page))
    if found.checkpoints:
        rows = [(point.id, _number(point.accuracy), point.path) for point in found.checkpoints]
        click.echo()
        print_table(("checkpoint", "accuracy", "path"), rows, "")


@job.command("list")
@click.option("--state", help="Only jobs in this state, for instance RUNNING.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many jobs; all without it.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Skip so many jobs first.")
@namespace_option
@server_options
def list_(state: str | None, limit: int | None, offset: int, namespace: str, remote: Remote) -> None:
    """List the jobs of a namespace."""
    with remote.connect() as client:
        jobs = client.list_jobs(namespace, state=state and state.upper(), offset=offset, limit=limit)
    if remote.as_json:
        print_json({"jobs": [found.document for found in jobs]})
        return
    rows = [
        (found.id, found.state, f"{found.progress} %", str(found.run or ""), found.create_time, found.reason)
        for found in jobs
    ]
    print_table(("id", "state", "progress", "run", "created", "reason"), rows, "no jobs")


@job.command()
@job_id_argument
@namespace_option
@server_options
def delete(job_id: str, namespace: str, remote: Remote) -> None:
    """Stop a job if it runs, and remove it with all that it made; fine when it is not there."""
    with remote.connect() as client:
        client.delete_job(namespace, job_id)
    if remote.as_json:
        print_json({"namespace": namespace, "id": job_id, "deleted": True})
    else:
        click.echo(f"{namespace}/{job_id} deleted")


@job.command()
@job_id_argument
@click.option(
    "--tolerate-outage",
    "outage_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds that the server may be away before the watch gives up.",
)
@namespace_option
@server_options
@click.pass_context
def watch(ctx: click.Context, job_id: str, outage_s: float, namespace: str, remote: Remote) -> None:
    """Follow a job until it ends: a line for each round, and how far it is.

    The exit code is 0 for a job that ends FINISHED and 1 for FAILED or STOPPED.
    """
    from catchment.cli.watching import follow

    with remote.connect() as client:
        ended = follow(client, namespace, job_id, as_json=remote.as_json, tolerate_outage_s=outage_s)
    if ended.state != "FINISHED":
        ctx.exit(FAILED)


job.add_command(logs)


def _read(source: TextIO) -> dict[str, Any]:
    try:
        document = json.load(source)
    except ValueError as error:
        raise Refused(f"{source.name} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(f"{source.name} must hold one JSON object")
    return document


def _report(client: Client, namespace: str, job_id: str, done: str, as_json: bool) -> None:
    found = client.get_job(namespace, job_id)
    if as_json:
        print_json(found.document)
    else:
        click.echo(f"{namespace}/{job_id} {done}; state {found.state}")


def _fields(found: Job, page: str) -> dict[str, str]:
    fields = {
        "job": f"{found.namespace}/{found.id}",
        "description": str(found.document.get("description") or ""),
        "state": found.state,
        "reason": found.reason,
        "progress": f"{found.progress} %",
        "run": str(found.run or ""),
        "created": found.create_time,
        "started": found.start_time or "",
        "finished": found.finish_time or "",
        "epsilon": _epsilon(found.document.get("privacy")),
        "privacy": str((found.document.get("privacy") or {}).get("guarantee", "")),
        "flow run": page or found.flow_run_id or "",
    }
    return {name: value for name, value in fields.items() if value}


def _epsilon(privacy: dict[str, Any] | None) -> str:
    if privacy is None:
        return ""
    spent, budget = privacy.get("epsilon"), privacy.get("epsilon_budget")
    of = f" of {budget:g}" if budget is not None else ""
    return f"{'infinite' if spent is None else f'{spent:.4g}'}{of} (delta {privacy.get('delta')})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
