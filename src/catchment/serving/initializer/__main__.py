"""`python -m catchment.serving.initializer SOURCE FOLDER`: what a serving's init container runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from catchment.errors import CatchmentError, Refused, Unreachable
from catchment.registry.credentials import CredentialsFile
from catchment.registry.opening import Access
from catchment.serving.initializer.fetching import install
from catchment.serving.initializer.sources import parse_source

AGAIN, HOPELESS = 1, 3
"""Exit codes: the next try may do, or none will."""


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
def main(source: str, folder: Path) -> None:
    """Fetch a model by its digest into FOLDER, laid out for its runtime.

    SOURCE is catchment://HOST/project/name:version?digest=sha256:...&layout=...&name=...; the registry's
    login comes from CATCHMENT_REGISTRY_HOST, _USERNAME and _PASSWORD, the signature from FORMAT, INPUTS and
    OUTPUTS.

    \b
    Exit codes: 0 it is there; 1 the registry did not answer, or the like; 2 wrong usage;
    3 trying again is of no use: another digest, no such model, no permission.
    """
    try:
        done = install(parse_source(source), folder, _access(), os.environ)
    except CatchmentError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        known = isinstance(error, Unreachable) or type(error) is Refused
        sys.exit(AGAIN if known else HOPELESS)
    except OSError as error:
        click.echo(f"{folder} cannot be written: {error.strerror or error}", err=True)
        sys.exit(AGAIN)
    click.echo(f"{folder} has {source}" if done else f"{folder} had {source} already")


def _access() -> Access:
    ca_file = os.environ.get("CATCHMENT_INITIALIZER_CA_FILE")
    return Access(
        # Logins of a person's file have no business in a pod: only the environment's.
        CredentialsFile(Path(os.devnull).with_name("no-logins")),
        Path(ca_file) if ca_file else None,
        insecure_http=os.environ.get("CATCHMENT_INITIALIZER_INSECURE_HTTP") == "1",
    )


if __name__ == "__main__":
    main()
