"""`catchment sites`: who has registered."""

from __future__ import annotations

import click

from catchment.cli.options import Remote, server_options
from catchment.cli.output import print_json, print_table
from catchment.client import Site


@click.command()
@server_options
def sites(remote: Remote) -> None:
    """Show the sites that have registered."""
    with remote.connect() as client:
        found = client.list_sites()
    if remote.as_json:
        print_json({"sites": [site.document for site in found]})
        return
    rows = [
        (
            site.name,
            site.address,
            _state(site),
            str(site.working),
            ", ".join(site.runtimes),
            ", ".join(site.datasets),
            ", ".join(site.entries),
            site.last_seen or "",
        )
        for site in found
    ]
    headings = ("site", "address", "state", "working", "runtimes", "data sets", "entries", "last seen")
    print_table(headings, rows, "no site has registered yet")


def _state(site: Site) -> str:
    """Whether it is there, and whether its certificate has proven who it is."""
    if not site.online:
        return "offline"
    return "online, mutual TLS" if site.document.get("mutual_tls") else "online"
