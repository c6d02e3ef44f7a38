"""`catchment modeljob`: create, list, get, delete, logs, events, wait, backends."""

from __future__ import annotations

from typing import BinaryIO

import click

from catchment.cli.exits import FAILED
from catchment.cli.options import Remote, name_argument, namespace_option, server_options, timeout_option
from catchment.cli.output import print_events, print_fields, print_json, print_table, say
from catchment.client.model_job import ModelJob


@click.group()
def modeljob() -> None:
    """Read signatures of models, and convert them to other formats."""


@modeljob.command()
@click.option(
    "-f",
    "--file",
    "source",
    type=click.File("rb"),
    required=True,
    help="The ModelJob as YAML or JSON; '-' reads stdin.",
)
@namespace_option
@server_options
def create(source: BinaryIO, namespace: str, remote: Remote) -> None:
    """Create a ModelJob from a file."""
    with remote.connect() as client:
        name = client.model_jobs.create(source.read(), namespace=namespace)
        found = client.model_jobs.get(name, namespace=namespace)
    if remote.as_json:
        print_json(dict(found.document))
    else:
        click.echo(f"{namespace}/{name} created; phase {found.phase}")


@modeljob.command("list")
@click.option("--label", help='A label that must be "true"; extract, convert for short.')
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; all without it.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Skip so many first.")
@namespace_option
@server_options
def list_(label: str | None, limit: int | None, offset: int, namespace: str, remote: Remote) -> None:
    """List the ModelJobs of a namespace, by name."""
    with remote.connect() as client:
        found = client.model_jobs.list(namespace=namespace, label=label, offset=offset, limit=limit)
    if remote.as_json:
        print_json({"items": [each.document for each in found]})
        return
    rows = [(each.name, each.phase, each.kind, each.model, each.target, each.message) for each in found]
    print_table(("name", "phase", "does", "model", "target", "message"), rows, "no ModelJobs")


@modeljob.command()
@name_argument
@namespace_option
@server_options
def get(name: str, namespace: str, remote: Remote) -> None:
    """Show a ModelJob, and what its conversion was found to be worth."""
    with remote.connect() as client:
        found = client.model_jobs.get(name, namespace=namespace)
    _report(found, remote.as_json)


@modeljob.command()
@name_argument
@namespace_option
@server_options
def delete(name: str, namespace: str, remote: Remote) -> None:
    """Stop a ModelJob if it runs, and remove it; what it has pushed stays."""
    with remote.connect() as client:
        client.model_jobs.delete(name, namespace=namespace)
    if remote.as_json:
        print_json({"namespace": namespace, "name": name, "deleted": True})
    else:
        click.echo(f"{namespace}/{name} deleted")


@modeljob.command()
@name_argument
@namespace_option
@server_options
def logs(name: str, namespace: str, remote: Remote) -> None:
    """Show the last lines of a ModelJob's log, newest last."""
    with remote.connect() as client:
        lines = client.model_jobs.logs(name, namespace=namespace)
    if remote.as_json:
        print_json({"logs": lines})
        return
    for line in lines:
        click.echo(f"{line['timestamp']}  {line['content']}")


@modeljob.command()
@name_argument
@namespace_option
@server_options
def events(name: str, namespace: str, remote: Remote) -> None:
    """Show what has happened to a ModelJob, oldest first."""
    with remote.connect() as client:
        found = client.model_jobs.events(name, namespace=namespace)
    print_events(found, remote.as_json)


@modeljob.command()
@name_argument
@timeout_option(600.0, "Seconds to wait at most.")
@namespace_option
@server_options
@click.pass_context
def wait(ctx: click.Context, name: str, timeout_s: float, namespace: str, remote: Remote) -> None:
    """Wait until a ModelJob has ended.

    The exit code is 0 when it ends Succeeded, and 1 when it fails or has not ended in time.
    """

    def changed(found: ModelJob) -> None:
        say(f"{found.phase}: {found.message}")

    with remote.connect() as client:
        told = None if remote.as_json else changed
        ended = client.model_jobs.wait(name, namespace=namespace, timeout_s=timeout_s, changed=told)
    _report(ended, remote.as_json)
    if not ended.ended:
        say(f"{namespace}/{name} has not ended in {timeout_s:g} s")
    if ended.phase != "Succeeded":
        ctx.exit(FAILED)


@modeljob.command()
@server_options
def backends(remote: Remote) -> None:
    """Show what converts models at the server, and whether it is available there."""
    with remote.connect() as client:
        found = client.model_jobs.backends()
    if remote.as_json:
        print_json({"backends": found})
        return
    rows = [
        (
            each["name"],
            "yes" if each["available"] else "no",
            each["reason"],
            ", ".join(f"{pair['from']} to {pair['to']}" for pair in each["converts"]),
        )
        for each in found
    ]
    print_table(("backend", "available", "reason", "converts"), rows, "no backends")


def _report(found: ModelJob, as_json: bool) -> None:
    if as_json:
        print_json(dict(found.document))
        return
    fields = {
        "modeljob": f"{found.namespace}/{found.name}",
        "does": found.kind,
        "model": found.model,
        "target": found.target,
        "phase": found.phase,
        "message": found.message,
        "created": found.create_time,
        "started": found.start_time,
        "finished": found.finish_time,
        "result": found.result_id,
    }
    converted = ((found.document["status"].get("steps") or {}).get("convert") or {}).get("report")
    if converted:
        worst = max((each["max_abs"] for each in converted["outputs"]), default=None)
        fields["backend"] = converted["backend"]
        fields["compared"] = converted["reference"] or "with nothing"
        fields["error"] = "" if worst is None else f"{worst:.3g} at most"
    print_fields(fields)
