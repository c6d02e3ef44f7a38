"""`catchment serving`: create, list, get, update, delete, follow, approve, roll back and ask servings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from catchment.cli import serving_bodies as bodies
from catchment.cli.documents import read_object
from catchment.cli.options import Remote, name_argument, namespace_option, server_options, timeout_option
from catchment.cli.output import print_events, print_fields, print_json, print_table, say
from catchment.cli.serving_host import serving_host
from catchment.cli.serving_predict import predict
from catchment.client.servings import Serving

F = TypeVar("F", bound=Callable[..., Any])
file_option = click.option(
    "-f",
    "--file",
    "source",
    type=click.File("r", encoding="utf-8"),
    help="A SeldonDeployment or the short form, as JSON or YAML; '-' reads stdin.",
)


def short_options(command: F) -> F:
    """--model, --replicas and the rest of the short form."""
    for option in reversed(bodies.OPTIONS):
        command = option(command)
    return command


@click.group()
def serving() -> None:
    """Bring model versions into production, watch them, roll them back, ask them."""


@serving.command()
@click.argument("name", metavar="[NAME]", required=False)
@file_option
@short_options
@namespace_option
@server_options
def create(name: str | None, source: TextIO | None, namespace: str, remote: Remote, **short: Any) -> None:
    """Create a serving from a file, or of NAME and --model."""
    body = bodies.composed(name, read_object(source, "the serving") if source else None, short)
    with remote.connect() as client:
        made = client.servings.create(body, namespace=namespace)
        _report(client.servings.get(made, namespace=namespace), remote.as_json)


@serving.command()
@name_argument
@file_option
@short_options
@namespace_option
@server_options
def update(name: str, source: TextIO | None, namespace: str, remote: Remote, **short: Any) -> None:
    """Change what the options say of a serving and leave the rest, or replace it by a file.

    Another model, or anything else that runs, is rolled out step by step.
    """
    document = bodies.alone(read_object(source, "the serving"), short) if source else None
    with remote.connect() as client:
        body = document or bodies.changed(client.servings.get(name, namespace=namespace).document, short)
        _report(client.servings.update(name, body, namespace=namespace), remote.as_json)


@serving.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@namespace_option
@server_options
def list_(limit: int | None, namespace: str, remote: Remote) -> None:
    """List the servings of the namespace."""
    with remote.connect() as client:
        found = client.servings.list(namespace=namespace, limit=limit)
    if remote.as_json:
        print_json({"items": [dict(each.document) for each in found]})
        return
    rows = [
        (each.name, each.state, str(each.replicas), ", ".join(each.models), each.rollout.get("phase", ""))
        for each in found
    ]
    print_table(("name", "state", "replicas", "models", "rollout"), rows, "no servings")


@serving.command()
@name_argument
@namespace_option
@server_options
def get(name: str, namespace: str, remote: Remote) -> None:
    """Show a serving, its traffic and its newest rollout."""
    with remote.connect() as client:
        _report(client.servings.get(name, namespace=namespace), remote.as_json)


@serving.command()
@name_argument
@namespace_option
@server_options
def delete(name: str, namespace: str, remote: Remote) -> None:
    """Take a serving out of service and remove it."""
    with remote.connect() as client:
        client.servings.delete(name, namespace=namespace)
    if remote.as_json:
        print_json({"name": name, "deleted": True})
    else:
        click.echo(f"serving {name} is being deleted")


@serving.command()
@name_argument
@namespace_option
@server_options
def events(name: str, namespace: str, remote: Remote) -> None:
    """List what happened to a serving, oldest first."""
    with remote.connect() as client:
        found = client.servings.events(name, namespace=namespace)
    print_events(found, remote.as_json)


@serving.command()
@name_argument
@namespace_option
@server_options
def rollouts(name: str, namespace: str, remote: Remote) -> None:
    """List a serving's rollouts, newest first."""
    with remote.connect() as client:
        found = client.servings.rollouts(name, namespace=namespace)
    if remote.as_json:
        print_json({"items": found})
        return
    rows = [
        (
            str(each["number"]),
            each["kind"] if each["kind"] == "rollout" else f"back to {each['to']}",
            each["phase"],
            ", ".join(one["reference"] for one in each.get("models") or ()),
            each["message"],
        )
        for each in found
    ]
    print_table(("number", "kind", "phase", "models", "message"), rows, "no rollouts")


@serving.command()
@name_argument
@click.option("--pod", help="Only this model server's; by default all, one after the other.")
@click.option(
    "--tail", type=click.IntRange(1, 5000), default=100, show_default=True, help="So many lines of each."
)
@namespace_option
@server_options
def logs(name: str, pod: str | None, tail: int, namespace: str, remote: Remote) -> None:
    """Show the last lines of its model servers' logs."""
    with remote.connect() as client:
        servings = client.servings
        servings.get(name, namespace=namespace)  # a name that is none is said to be so
        pods = (
            [pod] if pod else [each["metadata"]["name"] for each in servings.pods(name, namespace=namespace)]
        )
        found = {each: servings.logs(each, namespace=namespace, tail=tail) for each in pods}
    if remote.as_json:
        print_json(found)
        return
    if not found:
        say(f"serving {name} has no model servers just now; see: catchment serving events {name}")
    for each, lines in found.items():
        for line in lines:
            click.echo(f"{line['timestamp']}  {each}  {line['content']}")


@serving.command()
@name_argument
@timeout_option(600.0, "Give up after so many seconds.")
@click.option("--approval", is_flag=True, help="Come back also when the rollout waits for approval.")
@namespace_option
@server_options
def wait(name: str, timeout_s: float, approval: bool, namespace: str, remote: Remote) -> None:
    """Wait until its rollout is over; exit code 1 when it was rolled back or failed."""
    with remote.connect() as client:
        found = client.servings.wait(name, namespace=namespace, timeout_s=timeout_s, approval=approval)
    _report(found, remote.as_json)


@serving.command()
@name_argument
@click.option("--to", type=click.IntRange(min=1), help="Number of a rollout; by default the one before.")
@namespace_option
@server_options
def rollback(name: str, to: int | None, namespace: str, remote: Remote) -> None:
    """End the rollout under way, or return to the state of an earlier one."""
    with remote.connect() as client:
        _report(client.servings.rollback(name, to=to, namespace=namespace), remote.as_json)


@serving.command()
@name_argument
@namespace_option
@server_options
def approve(name: str, namespace: str, remote: Remote) -> None:
    """Let the rollout that waits for approval go on."""
    with remote.connect() as client:
        _report(client.servings.approve(name, namespace=namespace), remote.as_json)


@serving.command()
@name_argument
@namespace_option
@server_options
def reject(name: str, namespace: str, remote: Remote) -> None:
    """Roll back the rollout that waits for approval."""
    with remote.connect() as client:
        _report(client.servings.reject(name, namespace=namespace), remote.as_json)


@serving.command()
@name_argument
@namespace_option
@server_options
def stop(name: str, namespace: str, remote: Remote) -> None:
    """Stop the rollout that is under way; it is rolled back."""
    with remote.connect() as client:
        _report(client.servings.stop(name, namespace=namespace), remote.as_json)


serving.add_command(predict)
serving.add_command(serving_host)


def _report(found: Serving, as_json: bool) -> None:
    if as_json:
        print_json(dict(found.document))
        return
    rollout = found.rollout
    told = f"{rollout['number']} {rollout['phase']}: {rollout['message']}" if rollout else "none"
    print_fields(
        {
            "serving": f"{found.namespace}/{found.name}",
            "state": f"{found.state}: {found.description}" if found.description else found.state,
            "models": ", ".join(found.models) or "none yet",
            "traffic": ", ".join(f"{key} {share} %" for key, share in found.traffic.items()) or "none yet",
            "replicas": str(found.replicas),
            "rollout": told,
            "address": found.address,
        }
    )
