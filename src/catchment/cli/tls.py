"""`catchment tls`: a certificate authority of one's own, and the certificates that it signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from catchment.cli.output import say
from catchment.errors import SetupError

if TYPE_CHECKING:
    from catchment.tls.authority import Authority, Pair

folder_option = click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the authority.",
)


@click.group()
def tls() -> None:
    """Make certificates: an authority, the API's, and one for each site."""


@tls.command()
@folder_option
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Name or address that the API is reached by; repeat it.",
)
@click.option(
    "--site", "sites", multiple=True, metavar="NAME", help="Site to make a certificate for; repeat it."
)
def init(folder: Path, names: tuple[str, ...], sites: tuple[str, ...]) -> None:
    """Make an authority with the API's certificate; one that is there is never replaced."""
    authority = _authority(folder)
    authority.create(names, sites)
    say(f"authority: {authority.ca.certificate} (its key signs: keep {authority.ca.key} away from everybody)")
    _tell("API", authority.server)
    for name in sites:
        _tell(f"site {name}", authority.site(name))


@tls.command()
@folder_option
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def site(folder: Path, names: tuple[str, ...]) -> None:
    """Make certificates for further sites."""
    authority = _authority(folder)
    for name in names:
        _tell(f"site {name}", authority.add_site(name))


@tls.command()
@folder_option
@click.option("--server", is_flag=True, help="Renew the API's certificate; it keeps its names.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="Further name of the API, with --server."
)
@click.option(
    "--site", "sites", multiple=True, metavar="NAME", help="Site whose certificate to renew; repeat it."
)
def renew(folder: Path, server: bool, names: tuple[str, ...], sites: tuple[str, ...]) -> None:
    """Replace keys and certificates; a running API and running sites take them up by themselves."""
    if not server and not sites:
        raise click.UsageError("say what to renew: --server, or --site NAME")
    if names and not server:
        raise click.UsageError("--name needs --server")
    authority = _authority(folder)
    if server:
        _tell("API", authority.renew_server(names))
    for name in sites:
        _tell(f"site {name}", authority.renew_site(name))


def _authority(folder: Path) -> Authority:
    try:
        from catchment.tls.authority import Authority
    except ImportError as error:
        raise SetupError(
            "the package 'cryptography' is not installed (extras 'server' and 'site')"
        ) from error
    return Authority(folder)


def _tell(whose: str, pair: Pair) -> None:
    say(f"{whose}: {pair.certificate} {pair.key}")
