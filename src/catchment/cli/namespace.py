"""`catchment namespace`: create, list, delete."""

from __future__ import annotations

import click

from catchment.cli.options import Remote, server_options
from catchment.cli.output import print_json, print_table

name_argument = click.argument("name", metavar="NAME")


@click.group()
def namespace() -> None:
    """Create, list and delete namespaces."""


@namespace.command()
@name_argument
@server_options
def create(name: str, remote: Remote) -> None:
    """Create a namespace; fine when it is there."""
    with remote.connect() as client:
        client.create_namespace(name)
        found = client.get_namespace(name)
    if remote.as_json:
        print_json({"name": found.name, "create_time": found.create_time})
    else:
        click.echo(f"namespace {found.name} is there")


@namespace.command("list")
@server_options
def list_(remote: Remote) -> None:
    """List all namespaces."""
    with remote.connect() as client:
        found = client.list_namespaces()
    if remote.as_json:
        print_json({"namespaces": [{"name": one.name, "create_time": one.create_time} for one in found]})
    else:
        print_table(("name", "created"), [(one.name, one.create_time) for one in found], "no namespaces")


@namespace.command()
@name_argument
@server_options
def delete(name: str, remote: Remote) -> None:
    """Delete a namespace; refused while it has jobs."""
    with remote.connect() as client:
        client.delete_namespace(name)
    if remote.as_json:
        print_json({"name": name, "deleted": True})
    else:
        click.echo(f"namespace {name} deleted")
