"""`catchment token`: bearer tokens, made in the store itself by whoever may read and write it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catchment.cli.options import database_option, home_option, json_option
from catchment.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from catchment.store import Store


@click.group()
def token() -> None:
    """Create, list and revoke bearer tokens, on the machine that holds the store."""


@token.command()
@click.option(
    "--role",
    type=click.Choice(["admin", "user", "site"]),
    required=True,
    help="admin: everything; user: jobs; site: one site's own exchange.",
)
@click.option("--site", help="Name of the site that a site's token is for.")
@click.option("--description", default="", help="What the token is for.")
@home_option
@database_option
@json_option
def create(
    role: str, site: str | None, description: str, home: Path, database_url: str, as_json: bool
) -> None:
    """Create a token and print it, this once: the store keeps a hash only."""
    from catchment.access import create_token

    with _store(home, database_url) as store:
        made = create_token(store, role, site=site, description=description)
    if as_json:
        print_json({"token": made, "role": role, "site": site})
    else:
        click.echo(made)
        say("keep it in a file that only you can read; it cannot be shown again")


@token.command("list")
@home_option
@database_option
@json_option
def list_(home: Path, database_url: str, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    from catchment.access import list_tokens

    with _store(home, database_url) as store:
        found = list_tokens(store)
    if as_json:
        print_json({"tokens": found})
        return
    keys = ("id", "role", "site", "description", "create_time", "revoke_time")
    rows = [[str(item.get(key) or "") for key in keys] for item in found]
    print_table(("id", "role", "site", "description", "created", "revoked"), rows, "no tokens")


@token.command()
@click.argument("token_id", metavar="ID")
@home_option
@database_option
@json_option
def revoke(token_id: str, home: Path, database_url: str, as_json: bool) -> None:
    """Make a token useless at once; ID is the middle part of the token, as `list` shows it."""
    from catchment.access import revoke_token

    with _store(home, database_url) as store:
        revoke_token(store, token_id)
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        click.echo(f"token {token_id} revoked")


@contextlib.contextmanager
def _store(home: Path, database_url: str) -> Iterator[Store]:
    """The store, brought to this version's schema first: tokens are made before the first `up`, too."""
    from catchment.stack.home import store_settings
    from catchment.store import migrate, open_store

    with store_settings(home, database_url) as settings:
        migrate(settings)
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()
