"""What commands print: JSON for scripts, tables for people, plain text where nobody looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

STATE_COLOURS = {
    "QUEUED": "white",
    "STARTING": "cyan",
    "RUNNING": "cyan",
    "FINISHED": "green",
    "FAILED": "red",
    "STOPPING": "yellow",
    "STOPPED": "yellow",
    "DELETING": "yellow",
    "Pending": "white",
    "Running": "cyan",
    "Succeeded": "green",
    "Failed": "red",
    "Deleting": "yellow",
}


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One JSON document on one line, written out at once."""
    click.echo(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """A table: drawn on a terminal, columns aligned with blanks otherwise; `empty` on stderr without rows."""
    if not rows:
        click.echo(empty, err=True)
        return
    if not is_terminal():
        widths = [max(len(line[column]) for line in [headings, *rows]) for column in range(len(headings))]
        for line in [[heading.upper() for heading in headings], *rows]:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)


def print_events(found: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """What happened to something, oldest first, as the API tells of it."""
    if as_json:
        print_json({"items": found})
        return
    rows = [(each["eventTime"], each["type"], each["reason"], each["message"]) for each in found]
    print_table(("time", "type", "reason", "message"), rows, "no events")


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and values, one a line, values aligned."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        shown = click.style(value, fg=STATE_COLOURS.get(value)) if value in STATE_COLOURS else value
        click.echo(f"{name.ljust(width)}  {shown}")


def say(sentence: str) -> None:
    """A sentence on stderr."""
    click.echo(sentence, err=True)
