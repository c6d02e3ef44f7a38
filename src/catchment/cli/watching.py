"""Showing a watched job: a progress bar and a line for each round, plain lines, or JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import click

from catchment.cli.output import is_terminal, print_json_line, say
from catchment.client import Client, Job, JobChanged, Outage, Round, RoundDone, WatchEvent, watch
from catchment.errors import NotFound

HINT_STATES = {"QUEUED": "it was not started yet: catchment job start {job}"}


class Screen(Protocol):
    """Where events of a watch are shown."""

    def show(self, event: WatchEvent) -> None:
        """Show one event."""


def follow(
    client: Client, namespace: str, job_id: str, *, as_json: bool = False, tolerate_outage_s: float = 60.0
) -> Job:
    """Show the job until it ends; returns it as it ended.

    Raises:
        NotFound: there is no such job, or it was deleted while it was watched.
        Unreachable: the server was away for longer than tolerated.
    """
    last: Job | None = None
    with _screen(as_json) as screen:
        for event in watch(client, namespace, job_id, tolerate_outage_s=tolerate_outage_s, live=True):
            screen.show(event)
            if isinstance(event, JobChanged):
                last = event.job
    if last is None or not last.ended:
        raise NotFound(f"job {namespace}/{job_id} is gone")
    return last


@contextmanager
def _screen(as_json: bool) -> Iterator[Screen]:
    if as_json:
        yield JsonLines()
    elif is_terminal():
        with live() as screen:
            yield screen
    else:
        yield PlainLines()


class JsonLines:
    """One object a line on stdout: `event` is job, round, outage, and in the end `end`."""

    def show(self, event: WatchEvent) -> None:
        """Print the event."""
        match event:
            case JobChanged(job):
                status = {"state": job.state, "reason": job.reason, "progress": job.progress, "run": job.run}
                print_json_line({"event": "job", "namespace": job.namespace, "id": job.id, **status})
                if job.ended:
                    print_json_line({"event": "end", "job": job.document})
            case RoundDone(one):
                print_json_line({"event": "round", **one.document})
            case Outage(reason, seconds):
                print_json_line({"event": "outage", "reason": reason, "seconds": round(seconds, 3)})


class PlainLines:
    """A line for each round and each change of state."""

    def __init__(self) -> None:
        self._state = ""
        self._away = False

    def show(self, event: WatchEvent) -> None:
        """Print the event, if there is something to say."""
        match event:
            case JobChanged(job):
                if job.state != self._state:
                    self._state = job.state
                    self._line(job_line(job))
            case RoundDone(one):
                self._line(round_line(one))
            case Outage(reason, seconds):
                self._outage(reason, seconds)

    def _outage(self, reason: str | None, seconds: float) -> None:
        if reason is None:
            say(f"the server answers again after {seconds:.0f} s")
        elif not self._away:
            say(f"{reason}; trying again")
        self._away = reason is not None

    def _line(self, text: str) -> None:
        click.echo(text)
        sys.stdout.flush()


@contextmanager
def live() -> Iterator[Screen]:
    """Lines as they come above a progress bar; the bar goes when the context ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
    )
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task("waiting", total=100)

    class Live(PlainLines):
        """Plain lines in colour, and the bar."""

        def show(self, event: WatchEvent) -> None:
            super().show(event)
            if isinstance(event, JobChanged):
                job = event.job
                bar.update(task, description=f"{job.id} {job.state}", completed=job.progress)

        def _outage(self, reason: str | None, seconds: float) -> None:
            away = "the server answers again" if reason is None else f"server away for {seconds:.0f} s"
            bar.update(task, description=away)

        def _line(self, text: str) -> None:
            console.print(Text.from_ansi(text))

    with bar:
        yield Live()


def job_line(job: Job) -> str:
    """The job's state in one line."""
    colours = {"FINISHED": "green", "FAILED": "red", "STOPPED": "yellow"}
    state = click.style(job.state, fg=colours.get(job.state, "cyan"), bold=True)
    reason = f": {job.reason}" if job.reason else ""
    hint = HINT_STATES.get(job.state, "").format(job=f"{job.id} -n {job.namespace}")
    return f"{job.namespace}/{job.id} {state}{reason}" + (f"; {hint}" if hint else "")


def round_line(one: Round) -> str:
    """A round in one line: accuracy and loss, who took part, seconds, and what went wrong where."""
    counted = [outcome.site for outcome in one.sites if outcome.counted]
    others = [
        f"{found.site} {found.outcome}" + _because(found.reason) for found in one.sites if not found.counted
    ]
    parts = [
        click.style(f"round {one.number:>3}", bold=True),
        *([f"attempt {one.attempt + 1}"] if one.attempt else []),
        *_metrics(one.metrics),
        *([f"from {', '.join(counted)}"] if counted else []),
        *(click.style(other, fg="yellow") for other in others),
        *([f"{one.seconds:.2f} s"] if one.seconds is not None else []),
    ]
    if one.state != "committed":
        parts.insert(1, click.style(one.state, fg="red") + _because(one.reason))
    return "  ".join(parts)


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    shown = [(name, metrics.get(name)) for name in ("accuracy", "loss")]
    return [f"{name} {value:.4f}" for name, value in shown if isinstance(value, int | float)]


def _because(reason: str) -> str:
    lines = reason.strip().splitlines()
    return f" ({lines[0][:160]})" if lines else ""
