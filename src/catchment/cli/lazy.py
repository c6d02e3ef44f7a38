"""A group whose commands are imported when they are used, so that `--help` answers at once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from catchment.cli.exits import exit_code
from catchment.errors import CatchmentError


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, and its one line in the list of commands."""

    module: str
    name: str
    help: str

    def load(self) -> click.Command:
        """Import the command."""
        command = getattr(importlib.import_module(self.module), self.name)
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake in our own table
        return command


class LazyGroup(click.Group):
    """The root group: imports lazily, and turns our errors into one sentence and an exit code."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None for an unknown name."""
        found = self.lazy.get(cmd_name)
        return found.load() if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing one of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it with one sentence on stderr."""
        try:
            return super().invoke(ctx)
        except CatchmentError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
