"""`catchment version`: what runs here and at the server."""

from __future__ import annotations

import platform

import click

from catchment import __version__
from catchment.cli.options import Remote, server_options
from catchment.cli.output import print_fields, print_json
from catchment.errors import CatchmentError


@click.command()
@server_options
def version(remote: Remote) -> None:
    """Show the versions here and at the server; a server that does not answer is no error."""
    fields = {"catchment": __version__, "python": platform.python_version()}
    try:
        with remote.connect() as client:
            there: str | None = client.version().version
            note = ""
    except CatchmentError as error:
        there, note = None, str(error)
    if remote.as_json:
        print_json({**fields, "server": remote.server, "server_version": there})
    else:
        print_fields({**fields, "server": f"{remote.server} runs {there}" if there else note})
