"""`catchment serving host`: this machine's model servers, outside of `catchment up`."""

from __future__ import annotations

from pathlib import Path

import click

from catchment.cli.options import database_option, home_option


@click.command("host")
@home_option
@database_option
@click.option(
    "--stop-s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="At SIGTERM the model servers have so many seconds to answer what they have begun.",
)
def serving_host(home: Path, database_url: str, stop_s: float) -> None:
    """Keep the local servings' model servers running, in the foreground.

    'catchment up' runs one of its own; a second one waits until the first has ended.
    """
    from catchment.observe import logs
    from catchment.serving.host.serve import run_host
    from catchment.stack.home import store_settings

    logs.configure(logs.wanted(), "host")
    with store_settings(home, database_url) as settings:
        run_host(settings, Path.cwd(), stop_s=stop_s)
