"""What an agent is told at its start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from catchment.errors import SetupError
from catchment.site.http import Endpoint
from catchment.site.policy import IsolationMode, Policy
from catchment.wire.messages import Digest, Runtime, SiteResources

MB = 1_000_000


@dataclass(frozen=True)
class PodConfig:
    """Trainings are pods of the cluster that the agent runs in.

    Attributes:
        template: YAML file of a pod template.
        access: folder with `token`, `ca.crt` and `namespace`; None: where Kubernetes mounts it.
    """

    template: Path
    access: Path | None = None


@dataclass(frozen=True)
class SiteConfig:
    """One site's agent.

    Attributes:
        address: label that a job's `clients` may name the site by.
        datasets: name -> absolute path.
        entries: folder of `<task entry>.json` files, None for none.
        max_task_parallelism: works at a time; -1: no limit.
        pin_cpus: bind each work to cores of its own.
        cache_bytes: size of the cache of downloaded blobs.
        log_bytes: how much of a script's output is kept.
        warm: start scripts from fork servers.
        isolation: "auto" isolates sent scripts as far as this host allows, "require" refuses those that
            cannot be isolated, "off" isolates none.
        isolate_entries: treat the site's own entries like sent scripts.
        visible: further paths that isolated scripts may read.
        secure_minimum: the site takes part in no secure sum of fewer sites.
        require_secure: it trains only where its update leaves it masked.
        send_logs: the output of scripts may leave the site under secure aggregation.
        identities: site name -> fingerprint of the identities to believe; None: those met first.
        metrics_port: where figures are served on loopback, 0: at a free port; None: nowhere.
        pods: where trainings run as pods; None: beside the agent.
        secrets: files that no isolated script may read, wherever they lie.
    """

    name: str
    endpoint: Endpoint
    home: Path
    address: str
    datasets: Mapping[str, Path] = field(default_factory=dict)
    entries: Path | None = None
    policy: Policy = field(default_factory=Policy)
    max_task_parallelism: int = 1
    runtimes: tuple[Runtime, ...] = ()
    resources: SiteResources = field(default_factory=SiteResources)
    pin_cpus: bool = False
    cache_bytes: int = 4096 * MB
    log_bytes: int = 16 * MB
    warm: bool = True
    isolation: IsolationMode = "auto"
    isolate_entries: bool = False
    visible: tuple[Path, ...] = ()
    secrets: tuple[Path, ...] = ()
    secure_minimum: int = 2
    require_secure: bool = False
    send_logs: bool = False
    identities: Mapping[str, str] | None = None
    metrics_port: int | None = None
    pods: PodConfig | None = None

    @property
    def may_isolate(self) -> bool:
        """Whether there is anything that would be isolated."""
        return self.isolation != "off" and (self.isolate_entries or self.policy.allow_scripts != "never")


def read_datasets(path: Path) -> dict[str, Path]:
    """The data sets of a JSON file, name -> path; relative paths begin at the file's folder.

    Raises:
        SetupError: the file is not of that form, or a data set is not there or not readable; names it.
    """
    try:
        content = TypeAdapter(dict[str, str]).validate_python(json.loads(path.read_bytes()), strict=True)
    except (OSError, ValueError) as error:
        words = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise SetupError(f"{path} must be a JSON object of data set names and paths: {words}") from error
    datasets = {}
    for name, value in content.items():
        target = (path.absolute().parent / Path(value).expanduser()).resolve()
        if not name or "," in name or name != name.strip():
            raise SetupError(f"{path}: {name!r} is no name for a data set (it stands in comma lists)")
        if not target.exists():
            raise SetupError(f"{path}: data set {name!r}: {target} does not exist")
        if not os.access(target, os.R_OK | (os.X_OK if target.is_dir() else 0)):
            raise SetupError(f"{path}: data set {name!r}: {target} is not readable")
        datasets[name] = target
    return datasets


def read_listed(path: Path) -> frozenset[str]:
    """Digests of the sent scripts that may run: one a line, what follows `#` is a comment.

    Raises:
        SetupError: the file cannot be read, or a line is no digest; names the line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read {path}: {error}") from error
    digests = set()
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            digests.add(TypeAdapter(Digest).validate_python(word))
        except ValidationError as error:
            raise SetupError(
                f"{path}, line {number}: {word!r} is no digest (sha256: and 64 hex digits)"
            ) from error
    return frozenset(digests)


def read_token(path: Path) -> str:
    """The bearer token in a file.

    Raises:
        SetupError: the file cannot be read, or holds none.
    """
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read the token in {path}: {error}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SetupError(f"{path} holds no token (one line of printable characters)")
    return token
