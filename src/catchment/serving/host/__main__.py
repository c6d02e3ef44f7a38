"""`python -m catchment.serving.host`: keep this machine's model servers running, until a signal."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from catchment.errors import CatchmentError
from catchment.serving.host.serve import run_host
from catchment.settings import Settings


@click.command()
@click.option(
    "--stop-s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="At SIGTERM the model servers have so many seconds to answer what they have begun.",
)
@click.option("--guard", type=int, hidden=True, help="Descriptor of the pipe to the guard of 'catchment up'.")
def main(stop_s: float, guard: int | None) -> None:
    """Keep the model servers of this machine running as the store says. Settings come from CATCHMENT_*."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("catchment").setLevel(logging.INFO)
    try:
        run_host(Settings(), Path.cwd(), stop_s=stop_s, guard=guard)
    except CatchmentError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
