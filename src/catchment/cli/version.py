"""`catchment version`: what runs here and at the server."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from catchment import __version__
from catchment.cli.options import connect, server_options
from catchment.cli.output import print_fields, print_json
from catchment.errors import CatchmentError


@click.command()
@server_options
def version(server: str, token_file: Path | None, as_json: bool) -> None:
    """Show the versions here and at the server; a server that does not answer is no error."""
    fields = {"catchment": __version__, "python": platform.python_version()}
    try:
        with connect(server, token_file) as client:
            there: str | None = client.version().version
            note = ""
    except CatchmentError as error:
        there, note = None, str(error)
    if as_json:
        print_json({**fields, "server": server, "server_version": there})
    else:
        print_fields({**fields, "server": f"{server} runs {there}" if there else note})
