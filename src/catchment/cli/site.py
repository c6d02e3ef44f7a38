"""`catchment site`: the agent of a site, and one local round for people who write scripts."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any, get_args

import click
from pydantic import Field, TypeAdapter, ValidationError

from catchment.errors import CatchmentError, SetupError, SiteError, Unreachable
from catchment.hosts import PLAIN_TEXT_REFUSED, exposes_token
from catchment.observe import export, logs
from catchment.observe.logs import LogFormat
from catchment.sdk import local_round
from catchment.sdk.dry_run import summary
from catchment.site import command
from catchment.site.agent import Agent
from catchment.site.config import MB, PodConfig, SiteConfig, read_datasets, read_listed, read_token
from catchment.site.entries import Entry
from catchment.site.hardware import detected_resources, installed_runtimes
from catchment.site.http import Endpoint
from catchment.site.identity import read_identities
from catchment.site.policy import AllowScripts, IsolationMode, Policy
from catchment.stopping import on_stop_signals
from catchment.tls.contexts import reloading_client_context
from catchment.wire.messages import Runtime, SiteName, SiteResources

FILE = click.Path(path_type=Path, dir_okay=False)
Address = Annotated[str, Field(pattern=r"^[^\s,]{1,255}$")]
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def site() -> None:
    """Run a site: its agent, or one round of a script on this machine."""


@site.command()
@click.option("--name", required=True, help="Unique name of the site.")
@click.option(
    "--server", required=True, metavar="URL", help="Address of the coordinator, http(s)://host:port."
)
@click.option("--home", required=True, type=FOLDER, help="Folder of this agent alone.")
@click.option("--address", metavar="IP:PORT", help="Label for a job's `clients`; default: the name.")
@click.option("--datasets", type=FILE, help="JSON file: data set name -> path.")
@click.option("--entries", type=FOLDER, help="Folder of task entries, <name>.json each.")
@click.option(
    "--allow-scripts",
    type=click.Choice(get_args(AllowScripts)),
    default="never",
    show_default=True,
    help="Whether scripts that a coordinator sends are run.",
)
@click.option("--allowed-scripts", type=FILE, help="Digests for --allow-scripts listed, one a line.")
@click.option("--token-file", type=FILE, help="File with the site's bearer token.")
@click.option("--ca-file", type=FILE, help="Certificates that the server's is checked against (PEM).")
@click.option("--client-cert", type=FILE, help="The site's own certificate (PEM), for mutual TLS.")
@click.option("--client-key", type=FILE, help="The key of --client-cert.")
@click.option(
    "--insecure-http", is_flag=True, help="Send the token to another machine without TLS, in plain text."
)
@click.option(
    "--max-task-parallelism",
    type=click.IntRange(min=-1),
    default=1,
    show_default=True,
    help="Works at a time; -1: no limit.",
)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(get_args(Runtime)),
    help="Framework that scripts may use; repeat it. Default: those installed.",
)
@click.option("--cpu", type=click.FloatRange(min=0, min_open=True), help="Cores to offer; default: detected.")
@click.option("--memory-mb", type=click.IntRange(min=1), help="Memory to offer; default: detected.")
@click.option("--gpu", type=click.IntRange(min=0), help="GPUs to offer; default: detected.")
@click.option(
    "--executor",
    type=click.Choice(["local", "kubernetes"]),
    default="local",
    show_default=True,
    help="Run scripts beside the agent, or each as a pod of the cluster that the agent is in.",
)
@click.option("--pod-template", type=FILE, help="YAML file of the pods for --executor kubernetes.")
@click.option(
    "--cluster-access",
    type=FOLDER,
    help="Folder with token, ca.crt and namespace; default: where Kubernetes mounts it.",
)
@click.option("--pin-cpus", is_flag=True, help="Bind each work to cores of its own.")
@click.option(
    "--cache-mb", type=click.IntRange(min=0), default=4096, show_default=True, help="Cache of downloads."
)
@click.option(
    "--log-mb", type=click.IntRange(min=1), default=16, show_default=True, help="Kept output of a script."
)
@click.option("--warm/--cold", default=True, show_default=True, help="Keep the frameworks loaded.")
@click.option(
    "--isolation",
    type=click.Choice(get_args(IsolationMode)),
    default="auto",
    show_default=True,
    help="Isolate sent scripts as far as this host allows, refuse those that cannot be, or isolate none.",
)
@click.option("--isolate-entries", is_flag=True, help="Isolate the site's own entries, too.")
@click.option(
    "--visible",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Further path that isolated scripts may read; repeat it.",
)
@click.option(
    "--secure-minimum",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="Take part in no secure sum of fewer sites.",
)
@click.option("--require-secure", is_flag=True, help="Train only where the update leaves the site masked.")
@click.option(
    "--identities", type=FILE, help="JSON file: site -> fingerprint of its identity; others are refused."
)
@click.option("--send-logs", is_flag=True, help="Send scripts' output under secure aggregation, too.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve figures for Prometheus at this port of 127.0.0.1; 0: a free one.",
)
@click.option(
    "--log-format",
    type=click.Choice(get_args(LogFormat)),
    default="text",
    show_default=True,
    envvar="CATCHMENT_LOG_FORMAT",
    help="Plain log lines, or one JSON object a line.",
)
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    default="",
    envvar="CATCHMENT_OTLP_ENDPOINT",
    help="OpenTelemetry collector for traces; default: as OTEL_EXPORTER_OTLP_ENDPOINT says, or none.",
)
@click.option("--verbose", is_flag=True, help="Log more.")
def start(**options: Any) -> None:
    """Run the site's agent until SIGINT or SIGTERM.

    Exit codes: 0 stopped, 2 wrong options, 3 the coordinator does not let the site in, 4 it refuses
    this agent's protocol.
    """
    logs.configure(
        options["log_format"],
        "site",
        level=logging.DEBUG if options["verbose"] else logging.INFO,
        text="%(asctime)s %(levelname)s %(message)s",
        site=options["name"],
    )
    try:
        export.configure("site", options["otlp_endpoint"])
        agent = Agent(_config(**options))
        on_stop_signals(agent.stop)
        code = agent.run()
    except SetupError as error:
        raise click.UsageError(str(error)) from error
    except (SiteError, Unreachable) as error:
        raise click.ClickException(str(error)) from error
    # Threads that a slow server or disk still holds must not delay the end.
    logging.shutdown()
    os._exit(code)


def _config(**options: Any) -> SiteConfig:
    """The agent's configuration from the command's options.

    Raises:
        SetupError: one of them cannot be used; says which.
    """
    name = _checked(SiteName, "--name", options["name"])
    address = options["address"] or name
    _checked(Address, "--address", address)
    entries: Path | None = options["entries"]
    if entries is not None and not entries.is_dir():
        raise SetupError(f"--entries {entries} is no folder")
    allowed: Path | None = options["allowed_scripts"]
    if (options["allow_scripts"] == "listed") != (allowed is not None):
        raise SetupError("--allow-scripts listed and --allowed-scripts FILE need each other")
    if options["max_task_parallelism"] == 0:
        raise SetupError("--max-task-parallelism 0 would never run anything")
    pods = _pods(options)
    return SiteConfig(
        name=name,
        endpoint=_endpoint(options),
        home=options["home"],
        address=address,
        datasets=read_datasets(options["datasets"]) if options["datasets"] else {},
        entries=entries.absolute() if entries else None,
        policy=Policy(options["allow_scripts"], read_listed(allowed) if allowed else frozenset()),
        max_task_parallelism=options["max_task_parallelism"],
        runtimes=_runtimes(options["runtimes"]),
        resources=_resources(options["cpu"], options["memory_mb"], options["gpu"], pods),
        pin_cpus=options["pin_cpus"],
        cache_bytes=options["cache_mb"] * MB,
        log_bytes=options["log_mb"] * MB,
        warm=options["warm"],
        isolation=options["isolation"],
        isolate_entries=options["isolate_entries"],
        secure_minimum=options["secure_minimum"],
        require_secure=options["require_secure"],
        send_logs=options["send_logs"],
        metrics_port=options["metrics_port"],
        identities=read_identities(options["identities"]) if options["identities"] else None,
        visible=tuple(path.absolute() for path in options["visible"]),
        pods=pods,
        secrets=tuple(options[name] for name in ("token_file", "client_cert", "client_key") if options[name]),
    )


def _endpoint(options: dict[str, Any]) -> Endpoint:
    certificate, key, ca_file = (options[name] for name in ("client_cert", "client_key", "ca_file"))
    if (certificate is None) != (key is None):
        raise SetupError("--client-cert and --client-key need each other")
    endpoint = Endpoint(
        url=options["server"].rstrip("/"),
        token=read_token(options["token_file"]) if options["token_file"] else "",
        tls=reloading_client_context(ca_file, certificate, key) if ca_file or certificate else None,
    )
    if endpoint.parts().scheme == "http":
        if certificate is not None:
            raise SetupError("--client-cert needs a --server at https://; over http nobody asks for it")
        if endpoint.token and exposes_token(endpoint.url) and not options["insecure_http"]:
            raise SetupError(PLAIN_TEXT_REFUSED.format(url=endpoint.url))
    return endpoint


def _checked(kind: Any, option: str, value: str) -> str:
    try:
        return str(TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        raise SetupError(f"{option} {value!r}: {error.errors()[0]['msg']}") from error


def _runtimes(chosen: tuple[Runtime, ...]) -> tuple[Runtime, ...]:
    installed = installed_runtimes()
    missing = [runtime for runtime in chosen if runtime not in installed]
    if missing:
        raise SetupError(f"--runtime {missing[0]}: its framework is not installed here")
    return tuple(dict.fromkeys(chosen)) or installed


def _pods(options: dict[str, Any]) -> PodConfig | None:
    """Where trainings run as pods, else None."""
    template = options["pod_template"]
    if (options["executor"] == "kubernetes") != (template is not None):
        raise SetupError("--executor kubernetes and --pod-template FILE need each other")
    if template is None:
        return None
    if options["pin_cpus"]:
        raise SetupError("--pin-cpus binds to cores of this machine; pods run on any")
    if options["cpu"] is None or options["memory_mb"] is None:
        raise SetupError("--executor kubernetes needs --cpu and --memory-mb: what one of its pods may use")
    return PodConfig(template, options["cluster_access"])


def _resources(
    cpu: float | None, memory_mb: int | None, gpu: int | None, pods: PodConfig | None
) -> SiteResources:
    found = detected_resources()
    if pods is None and gpu is not None and gpu > found.gpu:
        raise SetupError(f"--gpu {gpu}: this machine shows {found.gpu}")
    offered = 0 if pods is not None else found.gpu
    return SiteResources(
        cpu=cpu or found.cpu, memory_mb=memory_mb or found.memory_mb, gpu=offered if gpu is None else gpu
    )


@site.command("dry-run")
@click.option("--script", type=FILE, help="The training script.")
@click.option("--entry", type=FILE, help="A task entry's file, instead of --script.")
@click.option("--weights", required=True, type=FILE, help="Initial model file.")
@click.option(
    "--runtime", required=True, type=click.Choice(get_args(Runtime)), help="The script's framework."
)
@click.option("--datasets", type=FILE, help="JSON file: data set name -> path.")
@click.option("--evaluate", is_flag=True, help="Try the evaluation instead of the training.")
@click.option("--seed", type=int, default=0, show_default=True, help="What fl.seed() gives.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds; default: three hours.")
@click.option("--strategy", metavar="NAME|JSON", help="The job's strategy: its name, or name and params.")
@click.option("--optimizer", metavar="NAME|JSON", help="The job's optimizer, likewise.")
@click.option("--loss", metavar="NAME|JSON", help="The job's loss, likewise.")
@click.option("--keep", type=FOLDER, help="Keep the task folder here; must be new or empty.")
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENT...]")
def dry_run(**options: Any) -> None:
    """Run one local round of a script, without a coordinator, and check what it commits.

    What follows two dashes is the script's command line, after the params of its entry.
    """
    try:
        script, arguments = _script(options["script"], options["entry"], evaluate=options["evaluate"])
        wanted = local_round.DryRun(
            script=script,
            weights=options["weights"],
            runtime=options["runtime"],
            datasets=read_datasets(options["datasets"]) if options["datasets"] else {},
            evaluate=options["evaluate"],
            arguments=[*arguments, *options["arguments"]],
            seed=options["seed"],
            timeout_s=options["timeout"] or local_round.DEFAULT_TIMEOUT_S,
            strategy=local_round.algorithm(options["strategy"]),
            optimizer=local_round.algorithm(options["optimizer"]),
            loss=local_round.algorithm(options["loss"]),
        )
        report = local_round.run(wanted, options["keep"])
    except (CatchmentError, OSError) as error:
        raise click.ClickException(f"dry run failed: {error}") from error
    click.echo(summary(report))


def _script(script: Path | None, entry: Path | None, *, evaluate: bool) -> tuple[Path, list[str]]:
    """The script to try, and the arguments that its entry gives it."""
    if (script is None) == (entry is None):
        raise click.UsageError("give one of --script and --entry")
    if entry is None:
        return Path(script or ""), []
    found = Entry.read(entry)
    part = found.part("evaluate" if evaluate else "train")
    line = command.build(part, {}, found.folder, os.environ.get("PATH", os.defpath))
    if not line.script:
        raise click.UsageError(f"{entry}: only plain Python commands can be tried, not {part.command!r}")
    return Path(line.script), list(line.argv[2:])
