"""`catchment model`: create, push, pull, list, get, update, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from catchment.cli.options import Remote, namespace_option, server_options
from catchment.cli.output import print_fields, print_json, print_table
from catchment.cli.transferring import shown_transfer
from catchment.client.model_version import ModelVersion
from catchment.errors import Refused

F = TypeVar("F", bound=Callable[..., Any])

name_argument = click.argument("name", metavar="NAME")
version_argument = click.argument("version", metavar="VERSION")
description_option = click.option("--description", default="", help="What the version is, in words.")
runtime_option = click.option(
    "--runtime", required=True, help="Such as pytorch, keras or onnx; jobs train the first two."
)


def claim_options(command: F) -> F:
    """--tenant and --user."""
    tenant = click.option("--tenant", default="", help="For whom, in the audit; by default the login name.")
    user = click.option("--user", default="", help="Who, in the audit; by default the login name.")
    return tenant(user(command))


@click.group()
def model() -> None:
    """Create, upload, download and look at versions of models."""


@model.command()
@name_argument
@version_argument
@runtime_option
@click.option("--model-path", help="Copy the bytes from this path in the namespace's folder.")
@click.option("--file-name", help="Wait for a file of this name: by push, or put into the storage.")
@description_option
@namespace_option
@server_options
def create(
    name: str,
    version: str,
    runtime: str,
    model_path: str | None,
    file_name: str | None,
    description: str,
    namespace: str,
    remote: Remote,
) -> None:
    """Create a version without sending bytes."""
    with remote.connect() as client:
        made = client.models.create(
            name,
            version,
            runtime,
            namespace=namespace,
            model_path=model_path,
            file_name=file_name,
            description=description,
        )
    _report(made, remote.as_json)


@model.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="SOURCE")
@name_argument
@version_argument
@click.option("--runtime", default="", help="Of a file, such as pytorch, keras or onnx.")
@click.option("--format", "format_name", default="", help="Of a folder, such as ONNX; else ormbfile.yaml's.")
@description_option
@claim_options
@namespace_option
@server_options
def push(
    source: Path,
    name: str,
    version: str,
    runtime: str,
    format_name: str,
    description: str,
    tenant: str,
    user: str,
    namespace: str,
    remote: Remote,
) -> None:
    """Upload a file, or a folder with model/, as a new version; goes on with an upload that broke off."""
    with remote.connect() as client, shown_transfer(f"{name} {version}", remote.as_json) as told:
        made = client.models.push(
            source,
            name,
            version,
            runtime,
            namespace=namespace,
            description=description,
            format=format_name,
            tenant=tenant,
            user=user,
            progress=told,
        )
    _report(made, remote.as_json)


@model.command()
@name_argument
@version_argument
@click.argument("target", type=click.Path(path_type=Path), default=Path(), metavar="[TARGET]")
@claim_options
@namespace_option
@server_options
def pull(
    name: str, version: str, target: Path, tenant: str, user: str, namespace: str, remote: Remote
) -> None:
    """Download a version to a path or into a folder; goes on with a download that broke off."""
    with remote.connect() as client, shown_transfer(f"{name} {version}", remote.as_json) as told:
        models = client.models
        path = models.pull(
            name, version, target, namespace=namespace, tenant=tenant, user=user, progress=told
        )
    if remote.as_json:
        print_json({"path": str(path)})
    else:
        click.echo(str(path))


@model.command("list")
@click.argument("name", metavar="[NAME]", required=False)
@namespace_option
@server_options
def list_(name: str | None, namespace: str, remote: Remote) -> None:
    """List the versions of a model, or of all models of the namespace."""
    with remote.connect() as client:
        models = client.models
        found = models.versions(name, namespace=namespace) if name else models.list(namespace=namespace)
    if remote.as_json:
        print_json({"models": [dict(each.document) for each in found]})
        return
    headings = ("name", "version", "runtime", "state", "MB", "id")
    rows = [(m.name, m.version, m.runtime, m.state, f"{m.size_bytes / 1e6:.1f}", m.id) for m in found]
    print_table(headings, rows, "no models")


@model.command()
@name_argument
@version_argument
@namespace_option
@server_options
def get(name: str, version: str, namespace: str, remote: Remote) -> None:
    """Show a version, and where it came from."""
    with remote.connect() as client:
        found = client.models.get(name, version, namespace=namespace)
        lineage = client.models.lineage(found.id)
    if remote.as_json:
        print_json({**found.document, "lineage": lineage})
        return
    _report(found, as_json=False)
    rows = [(e["time"], e["action"], e["actor"], e["claimed"]) for e in lineage["events"]]
    click.echo()
    print_table(("time", "action", "by", "claimed"), rows, "")


@model.command()
@name_argument
@version_argument
@click.option("--description", help="What the version is, in words.")
@click.option("--progress", type=click.IntRange(0, 100), help="Of an upload that goes another way.")
@click.option("--state", type=click.Choice(("unready", "ready", "error")), help="Of such an upload.")
@namespace_option
@server_options
def update(
    name: str,
    version: str,
    description: str | None,
    progress: int | None,
    state: str | None,
    namespace: str,
    remote: Remote,
) -> None:
    """Change a version's description, or report about an upload that goes past Catchment."""
    given = {"description": description, "progress": progress, "state": state}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise Refused("nothing changes; give --description, --progress or --state")
    with remote.connect() as client:
        found = client.models.get(name, version, namespace=namespace)
        changed = client.models.update(found.id, **changes)
    _report(changed, remote.as_json)


@model.command()
@name_argument
@click.argument("version", metavar="[VERSION]", required=False)
@click.option("--all", "every", is_flag=True, help="All versions of the model.")
@namespace_option
@server_options
def delete(name: str, version: str | None, every: bool, namespace: str, remote: Remote) -> None:
    """Delete a version, or with --all the whole model; refused while it is in use."""
    if (version is None) != every:
        raise Refused("give a version, or --all")
    with remote.connect() as client:
        client.models.delete(name, version, namespace=namespace)
    what = f"model {name}" if every else f"version {version} of model {name}"
    if remote.as_json:
        print_json({"name": name, "version": version, "deleted": True})
    else:
        click.echo(f"{what} deleted")


def _report(found: ModelVersion, as_json: bool) -> None:
    if as_json:
        print_json(dict(found.document))
        return
    print_fields(
        {
            "model": f"{found.name} {found.version}",
            "id": found.id,
            "state": f"{found.state}: {found.error}" if found.error else found.state,
            "progress": f"{found.progress} %",
            "runtime": found.runtime,
            "bytes": str(found.size_bytes),
            "digest": found.digest or "",
            "storage": "/".join(found.storage_info),
            "description": found.description,
        }
    )
