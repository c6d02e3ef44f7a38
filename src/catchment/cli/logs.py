"""`catchment job logs`: what happened in a job, and what its scripts printed last."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from catchment.cli.options import Remote, namespace_option, server_options
from catchment.cli.output import print_json_line, say
from catchment.client import Client, LogEnd, LogLine, Outage, follow_logs

COLOURS = {"warning": "yellow", "error": "red"}
DEFAULT_TAIL = 1000


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--round", "round_number", type=click.IntRange(min=1), help="Only lines about this round.")
@click.option("--site", help="Only what this site's scripts printed; 'coordinator': nothing of sites.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option(
    "--tail",
    type=click.IntRange(min=0, max=10_000),
    default=DEFAULT_TAIL,
    show_default=True,
    help="At most so many lines, the newest.",
)
@namespace_option
@server_options
def logs(
    job_id: str,
    round_number: int | None,
    site: str | None,
    follow: bool,
    tail: int,
    namespace: str,
    remote: Remote,
) -> None:
    """Show a job's log, newest line last."""
    with remote.connect() as client:
        page = client.job_logs(namespace, job_id, limit=max(1, tail), round_number=round_number, site=site)
        for line in page.lines if tail else ():
            _show(line, remote.as_json)
        if follow:
            for line in _new_lines(client, namespace, job_id, page.next, round_number, site):
                _show(line, remote.as_json)


def _new_lines(
    client: Client, namespace: str, job_id: str, after: int, round_number: int | None, site: str | None
) -> Iterator[LogLine]:
    away = False
    for event in follow_logs(client, namespace, job_id, after=after, round_number=round_number, site=site):
        match event:
            case LogLine():
                yield event
            case LogEnd(state=None):
                say(f"job {namespace}/{job_id} was deleted")
            case Outage(reason, seconds):
                if reason is None:
                    say(f"the server answers again after {seconds:.0f} s")
                elif not away:
                    say(f"{reason}; trying again")
                away = reason is not None


def _show(line: LogLine, as_json: bool) -> None:
    if as_json:
        print_json_line(line.document)
        return
    about = f"round {line.round:>3}" if line.round is not None else " " * 9
    level = "" if line.level == "info" else f"{line.level}: "
    click.echo(
        f"{line.at}  {about}  {line.source}  {click.style(level + line.text, fg=COLOURS.get(line.level))}"
    )
    sys.stdout.flush()
