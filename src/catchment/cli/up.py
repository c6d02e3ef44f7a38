"""`catchment up`: the whole system on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from catchment.cli.options import database_option, home_option
from catchment.cli.output import say
from catchment.stack.options import MAX_SITES, StackOptions

port = click.IntRange(0, 65535)


@click.command()
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the API listens on.")
@click.option(
    "--api-port", type=port, default=8080, show_default=True, help="Port of the API; 0 takes a free one."
)
@click.option(
    "--prefect-port",
    type=port,
    default=4200,
    show_default=True,
    help="Port of the Prefect server, on loopback; 0 takes a free one.",
)
@click.option(
    "--sites",
    type=click.IntRange(0, MAX_SITES),
    default=3,
    show_default=True,
    help="How many local sites to start.",
)
@click.option("--sqlite", is_flag=True, help="Keep a new home's data in SQLite instead of PostgreSQL.")
@database_option
@click.option(
    "--storage-url",
    default="",
    envvar="CATCHMENT_STORAGE_URL",
    help="fsspec URL for blobs and namespaces, such as s3://BUCKET, instead of the home folder.",
)
@click.option(
    "--tls",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Serve HTTPS with the certificates in this folder ('catchment tls init' makes it).",
)
@click.option(
    "--insecure-http", is_flag=True, help="Serve other machines without TLS: tokens travel in plain text."
)
def up(
    home: Path,
    host: str,
    api_port: int,
    prefect_port: int,
    sites: int,
    sqlite: bool,
    database_url: str,
    storage_url: str,
    tls: Path | None,
    insecure_http: bool,
) -> None:
    """Run the whole system on this machine, in the foreground.

    When everything answers, `ready http(s)://HOST:PORT` is printed on stdout. Ctrl-C (or SIGTERM) stops
    all of it; that is no error, the exit code is 0.
    """
    from catchment.stack.up import run_up

    if sqlite and database_url:
        raise click.UsageError("--sqlite and --database-url exclude each other")
    options = StackOptions(
        home=home,
        host=host,
        api_port=api_port,
        prefect_port=prefect_port,
        sites=sites,
        sqlite=sqlite,
        database_url=database_url,
        storage_url=storage_url,
        tls=tls.expanduser().absolute() if tls else None,
        insecure_http=insecure_http,
    )
    run_up(options, say=say, announce=_announce)


def _announce(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
