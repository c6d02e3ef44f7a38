"""`catchment registry`: login, logout, list, inspect, copy; for image layouts and registries alike."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from catchment.cli.output import print_fields, print_json, print_table, say
from catchment.cli.registry_access import NAMES, access_options, open_access
from catchment.cli.registry_folders import pull, push
from catchment.cli.transferring import shown_transfer
from catchment.errors import Refused

if TYPE_CHECKING:
    from catchment.registry.artifacts import Descriptor
    from catchment.registry.backend import ArtifactEntry


@click.group()
def registry() -> None:
    """Push, pull, list, inspect and copy models in registries and image layouts."""


registry.add_command(push)
registry.add_command(pull)


@registry.command()
@click.argument("host", metavar="HOST")
@click.option("-u", "--username", required=True, help="Who logs in; a robot account of Harbor, for example.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin instead of asking for it.")
@access_options
def login(host: str, username: str, password_stdin: bool, as_json: bool) -> None:
    """Check a login at HOST, and keep it for the other commands."""
    from dataclasses import replace

    from catchment.registry.credentials import Credentials
    from catchment.registry.opening import Access

    password = (
        sys.stdin.readline().rstrip("\r\n") if password_stdin else click.prompt("Password", hide_input=True)
    )
    access = open_access()
    made = Credentials(username, password)
    client = Access.remote(replace(access, credentials=None), host, made)
    client.ping()
    client.close()
    assert access.credentials is not None  # noqa: S101 - open_access gives it
    access.credentials.store(host, made)
    if as_json:
        print_json({"host": client.name, "username": username})
    else:
        say(f"logged in at {client.name} as {username}")


@registry.command()
@click.argument("host", metavar="HOST")
@access_options
def logout(host: str, as_json: bool) -> None:
    """Forget the login at HOST; fine when there is none."""
    access = open_access()
    assert access.credentials is not None  # noqa: S101 - open_access gives it
    had = access.credentials.remove(host)
    if as_json:
        print_json({"host": host, "removed": had})
    else:
        say(f"the login at {host} is forgotten" if had else f"there was no login at {host}")


@registry.command("list")
@click.argument("where", metavar="WHERE")
@access_options
def list_(where: str, as_json: bool) -> None:
    """List repositories or artifacts.

    WHERE is HOST, HOST/project, HOST/project/name, or oci:FOLDER with :project or :project/name.
    """
    from catchment.registry.opening import open_for_listing, parse_listing

    place = parse_listing(where, field="WHERE")
    opened = open_for_listing(place, open_access())
    try:
        if place.repository:
            _show_artifacts(opened.artifacts(place.repository), as_json)
            return
        names = opened.repositories(place.project)
    finally:
        opened.close()
    if as_json:
        print_json({"repositories": names})
    else:
        print_table(("repository",), [(name,) for name in names], "no repositories")


def _show_artifacts(found: list[ArtifactEntry], as_json: bool) -> None:
    if as_json:
        print_json({"artifacts": [_entry(one) for one in found]})
        return
    rows = [
        (", ".join(one.tags), one.digest, str(one.size), one.artifact_type, str(one.pushed or ""))
        for one in found
    ]
    print_table(("tags", "digest", "bytes", "type", "pushed"), rows, "no artifacts")


def _entry(one: ArtifactEntry) -> dict[str, Any]:
    return {
        "repository": one.repository,
        "digest": one.digest,
        "tags": list(one.tags),
        "media_type": one.media_type,
        "artifact_type": one.artifact_type,
        "size": one.size,
        "pushed": one.pushed.isoformat() if one.pushed else None,
    }


@registry.command()
@click.argument("artifact", metavar="ARTIFACT")
@access_options
def inspect(artifact: str, as_json: bool) -> None:
    """Show what an artifact consists of, and what refers to it.

    ARTIFACT is HOST/project/name[:tag][@digest] or oci:FOLDER:project/name[:tag][@digest].
    """
    from catchment.registry.artifacts import Manifest
    from catchment.registry.opening import parse_location

    location = parse_location(artifact, field="ARTIFACT")
    if location.reference is None:
        raise Refused(f"{artifact} names a layout, no artifact: {NAMES}")
    opened = location.open(open_access())
    try:
        repository = location.reference.repository
        stored = opened.get_manifest(repository, location.reference.target)
        referrers = opened.referrers(repository, stored.digest)
    finally:
        opened.close()
    parsed = stored.parsed()
    if isinstance(parsed, Manifest):
        parts = [("config", parsed.config), *(("layer", layer) for layer in parsed.layers)]
    else:
        parts = [("manifest", each) for each in parsed.manifests]
    parts += [("referrer", each) for each in referrers]
    facts: dict[str, Any] = {
        "repository": repository,
        "digest": stored.digest,
        "media_type": stored.media_type,
    }
    facts |= {"artifact_type": parsed.artifact_type, "annotations": dict(parsed.annotations)}
    if as_json:
        print_json({**facts, "parts": [{"part": kind, **part.to_json()} for kind, part in parts]})
        return
    shown = {**facts, "annotations": ", ".join(f"{key}={text}" for key, text in facts["annotations"].items())}
    print_fields({key: value for key, value in shown.items() if value})
    print_table(("part", "digest", "bytes", "type"), [_part(kind, part) for kind, part in parts], "no parts")


def _part(kind: str, part: Descriptor) -> tuple[str, str, str, str]:
    return kind, part.digest, str(part.size), part.artifact_type or part.media_type


@registry.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--referrers", is_flag=True, help="Copy what refers to it, too: signatures, for example.")
@click.option(
    "--threads", type=click.IntRange(1, 16), default=3, show_default=True, help="Blobs that travel at a time."
)
@access_options
def copy(source: str, target: str, referrers: bool, threads: int, as_json: bool) -> None:
    """Copy an artifact, byte for byte; what TARGET has is skipped, so a copy that broke off goes on.

    Both are HOST/project/name[:tag][@digest] or oci:FOLDER[:project/name[:tag]]; a TARGET without a name or
    tag takes those of SOURCE.
    """
    from catchment.registry.copying import Place, copy_artifact
    from catchment.registry.opening import parse_location

    origin, goal = (
        parse_location(text, field=name) for text, name in ((source, "SOURCE"), (target, "TARGET"))
    )
    if origin.reference is None:
        raise Refused(f"{source} names a layout, no artifact: {NAMES}")
    to = goal.reference or origin.reference
    if to.digest and goal.reference:
        raise Refused(f"{target}: a copy has the digest of its source; give a tag instead")
    tag = to.tag or (
        "" if origin.reference.digest and not origin.reference.tag else origin.reference.tag or "latest"
    )
    access = open_access()
    from_registry = origin.open(access)
    same = (origin.folder, origin.reference.host) == (goal.folder, to.host if goal.folder is None else "")
    to_registry = from_registry if same else goal.open(access, new=True)
    try:
        with shown_transfer(f"copying {origin.reference}", quiet=as_json) as progress:
            made = copy_artifact(
                Place(from_registry, origin.reference.repository),
                origin.reference.target,
                Place(to_registry, to.repository),
                tag,
                referrers=referrers,
                threads=threads,
                progress=progress,
            )
    finally:
        from_registry.close()
        to_registry.close()
    if as_json:
        print_json({"repository": to.repository, "tag": tag, "digest": made.digest})
    else:
        click.echo(f"{to_registry.name} {to.repository}{':' + tag if tag else ''} {made.digest}")
