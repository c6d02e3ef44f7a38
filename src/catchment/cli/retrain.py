"""`catchment retrain`: start a retraining, see how it goes, wait for it, stop it."""

from __future__ import annotations

from typing import Any, TextIO

import click

from catchment.cli.documents import read_object
from catchment.cli.exits import FAILED
from catchment.cli.options import Remote, namespace_option, server_options, timeout_option
from catchment.cli.output import print_fields, print_json
from catchment.errors import Refused

run_argument = click.argument("run", metavar="RUN")
patience_option = timeout_option(86_400.0, "Give up after so many seconds; the run goes on.")


@click.group()
def retrain() -> None:
    """Train a model again, and roll it out if it is better than the one that serves."""


@retrain.command()
@click.option(
    "-f",
    "--file",
    "source",
    type=click.File("r", encoding="utf-8"),
    help="The plan as JSON or YAML; '-' reads stdin.",
)
@click.option("--template", help="Id of the job whose specification is copied.")
@click.option("--rounds", type=click.IntRange(min=1), help="Instead of the specification's max_round_num.")
@click.option("--name", help="Model to register the result as.")
@click.option("--graph", help="ONNX version whose graph takes the weights; by default the one that serves.")
@click.option("--metric", help="That must be better; by default accuracy.")
@click.option("--margin", type=click.FloatRange(min=0), help="By how much at least.")
@click.option("--lower-is-better", is_flag=True, help="As of a loss.")
@click.option("--serving", help="Where it goes; without it the result is registered only.")
@click.option("--no-convert", is_flag=True, help="Register the weights and make nothing of them.")
@click.option("--key", help="Idempotency key: the same key and plan again give the same run.")
@click.option("--wait", "waits", is_flag=True, help="Wait for its end; exit code 1 when it fails.")
@patience_option
@namespace_option
@server_options
@click.pass_context
def start(
    ctx: click.Context,
    /,
    source: TextIO | None,
    key: str | None,
    waits: bool,
    timeout_s: float,
    namespace: str,
    remote: Remote,
    **short: Any,
) -> None:
    """Start a retraining from a file, or of --template and --name."""
    plan = _plan(read_object(source, "the plan") if source else None, short)
    with remote.connect() as client:
        run = client.retraining.start(plan, namespace=namespace, key=key)
        found = (
            client.retraining.wait(run, namespace=namespace, timeout_s=timeout_s)
            if waits
            else client.retraining.get(run, namespace=namespace)
        )
    _report(found, remote.as_json)
    if waits and found["state"] != "completed":
        ctx.exit(FAILED)


@retrain.command()
@run_argument
@namespace_option
@server_options
def get(run: str, namespace: str, remote: Remote) -> None:
    """Show how a run goes, and what it has made."""
    with remote.connect() as client:
        _report(client.retraining.get(run, namespace=namespace), remote.as_json)


@retrain.command()
@run_argument
@patience_option
@namespace_option
@server_options
@click.pass_context
def wait(ctx: click.Context, run: str, timeout_s: float, namespace: str, remote: Remote) -> None:
    """Wait for a run's end; exit code 1 when it failed or was stopped."""
    with remote.connect() as client:
        found = client.retraining.wait(run, namespace=namespace, timeout_s=timeout_s)
    _report(found, remote.as_json)
    if found["state"] != "completed":
        ctx.exit(FAILED)


@retrain.command()
@run_argument
@namespace_option
@server_options
def stop(run: str, namespace: str, remote: Remote) -> None:
    """Stop a run, and its job, ModelJob or rollout."""
    with remote.connect() as client:
        client.retraining.stop(run, namespace=namespace)
    print_json({"id": run, "stopping": True}) if remote.as_json else click.echo(f"run {run} is asked to stop")


def _plan(document: dict[str, Any] | None, short: dict[str, Any]) -> dict[str, Any]:
    """The body to send: the document as it stands, or the plan of the options."""
    given = {key: value for key, value in short.items() if value not in (None, False)}
    if document is not None:
        if given:
            options = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(given))
            raise Refused(f"give -f FILE or {options}, not both; the file can say all of them")
        return document
    if "template" not in given or "name" not in given:
        raise Refused(
            "--template and --name are required, such as --template digits --name digits; or -f FILE"
        )
    job = {key: given[key] for key in ("template", "rounds") if key in given}
    gate: dict[str, Any] = {key: given[key] for key in ("metric", "margin") if key in given}
    gate |= {"higher_is_better": False} if "lower_is_better" in given else {}
    plan: dict[str, Any] = {"job": job, "register_as": {"name": given["name"]}, "gate": gate}
    if "no_convert" in given:
        plan["convert"] = None
    elif "graph" in given:
        plan["convert"] = {"graph": given["graph"]}
    if "serving" in given:
        plan["serving"] = {"name": given["serving"]}
    return plan


def _report(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    steps = found["steps"]
    job, work, rollout = (steps.get(part) or {} for part in ("job", "model_job", "rollout"))
    fields = {
        "run": found["id"],
        "state": f"{found['state']}: {found['message']}" if found["message"] else found["state"],
        "job": f"{job['id']} {job['state']}, {job['progress']} %" if job else "",
        "version": steps.get("version") or "",
        "ModelJob": f"{work['name']} {work['phase']}: {work['message']}" if work else "",
        "served": steps.get("served") or "",
        "rollout": f"{rollout['number']} of {rollout['serving']} {rollout['phase']}" if rollout else "",
    }
    print_fields({name: value for name, value in fields.items() if value})
