"""`catchment store`: the database's schema."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from catchment.cli.options import database_option, home_option, json_option
from catchment.cli.output import print_json
from catchment.errors import NotFound


@click.group()
def store() -> None:
    """Look after the store's database."""


@store.command()
@home_option
@database_option
@json_option
def migrate(home: Path, database_url: str, as_json: bool) -> None:
    """Bring the database to this version's schema; safe to repeat. `catchment up` does it by itself."""
    from catchment.stack.home import store_settings
    from catchment.store import migrate as migrate_store

    with store_settings(home, database_url) as settings:
        migrate_store(settings)
    if as_json:
        print_json({"migrated": True})
    else:
        click.echo("the store's database has this version's schema")


@store.command("forget-identity")
@click.argument("site")
@home_option
@database_option
def forget_identity(site: str, home: Path, database_url: str) -> None:
    """Let SITE register with a new identity key, after its people have confirmed that they made one."""
    from catchment.exchange.sites import forget_identity as forget
    from catchment.stack.home import store_settings
    from catchment.store import open_store

    with store_settings(home, database_url) as settings, contextlib.closing(open_store(settings)) as opened:
        try:
            forget(opened, site)
        except NotFound as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"{site} may register with a new identity key")
