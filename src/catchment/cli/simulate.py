"""`catchment simulate`: a job with thousands of clients on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from catchment.cli.output import say
from catchment.stack.options import StackOptions


@click.command()
@click.argument("job", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--clients", type=click.IntRange(1, 100_000), required=True, help="How many clients to simulate."
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the job's paths start from; by default the folder of JOB.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="NAME=PATTERN",
    help="Parts of a data set, such as digits='parts/*.npz', dealt to the clients in turn.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep database, results and logs here, to go on after a stop; by default a temporary folder.",
)
@click.option(
    "--prefect-port", type=click.IntRange(0, 65535), default=0, help="Port of the Prefect UI (free)."
)
@click.option("--workers", type=click.IntRange(1), help="Chunks of clients at a time; one for each core.")
@click.option("--sqlite", is_flag=True, help="Keep a new home's data in SQLite instead of PostgreSQL.")
@click.option("--fresh", is_flag=True, help="Begin a new run where the home knows the job already.")
def simulate(
    job: Path,
    clients: int,
    root: Path | None,
    data: tuple[str, ...],
    home: Path | None,
    prefect_port: int,
    workers: int | None,
    sqlite: bool,
    fresh: bool,
) -> None:
    """Run JOB, a job's JSON file, with simulated clients, in the foreground.

    Strategies, privacy, scripts and rounds are those of deployed sites; only the sites are simulated. Each
    round's report is printed on stdout as a line of JSON, then the checkpoints.
    """
    from catchment.stack.simulation import run_simulation

    if workers:
        os.environ["CATCHMENT_SIMULATION_WORKERS"] = str(workers)
    arguments = [str(job.absolute()), "--clients", str(clients)]
    arguments += ["--root", str((root or job.parent).absolute())]
    for given in data:
        arguments += ["--data", _absolute(given)]
    arguments += ["--fresh"] if fresh else []
    with tempfile.TemporaryDirectory(prefix="catchment-simulation-") as temporary:
        options = StackOptions(
            home=home or Path(temporary) / "home", sites=0, prefect_port=prefect_port, sqlite=sqlite
        )
        code = run_simulation(options, arguments, say=say)
    sys.exit(code)


def _absolute(given: str) -> str:
    name, equals, pattern = given.partition("=")
    if not (name and equals and pattern):
        raise click.UsageError(f"--data {given!r} is not NAME=PATTERN")
    return f"{name}={Path(pattern).expanduser().absolute()}"
