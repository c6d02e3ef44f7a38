"""The root of the `catchment` command."""

from __future__ import annotations

import click

from catchment import __version__
from catchment.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "up": LazyCommand("catchment.cli.up", "up", "Run the whole system on this machine."),
    "simulate": LazyCommand("catchment.cli.simulate", "simulate", "Run a job with simulated clients."),
    "site": LazyCommand(
        "catchment.cli.site", "site", "Run a site: the place where data stay and training happens."
    ),
    "tls": LazyCommand("catchment.cli.tls", "tls", "Make certificates for the API and the sites."),
    "job": LazyCommand("catchment.cli.job", "job", "Create, start, follow and stop federated jobs."),
    "model": LazyCommand("catchment.cli.model", "model", "Upload, download and look at versions of models."),
    "modeljob": LazyCommand(
        "catchment.cli.modeljob", "modeljob", "Read signatures of models, and convert them."
    ),
    "serving": LazyCommand("catchment.cli.serving", "serving", "Roll models out, watch and ask them."),
    "retrain": LazyCommand("catchment.cli.retrain", "retrain", "Train again, and roll out what is better."),
    "registry": LazyCommand(
        "catchment.cli.registry", "registry", "Look into registries of models, and copy artifacts."
    ),
    "namespace": LazyCommand("catchment.cli.namespace", "namespace", "Create, list and delete namespaces."),
    "sites": LazyCommand("catchment.cli.sites", "sites", "Show the sites that have registered."),
    "token": LazyCommand("catchment.cli.token", "token", "Create, list and revoke bearer tokens."),
    "store": LazyCommand("catchment.cli.store", "store", "Look after the store's database."),
    "version": LazyCommand("catchment.cli.version", "version", "Show the versions here and at the server."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="catchment")
def catchment() -> None:
    """Federated learning across sites that may not share their data.

    \b
    Exit codes: 0 fine; 1 refused or failed, also a watched job that ended FAILED or STOPPED;
    2 wrong usage; 3 not found; 4 the server does not answer; 130 interrupted with Ctrl-C.
    """


def main() -> None:
    """Entry of the installed command."""
    catchment()
