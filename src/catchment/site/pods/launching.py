"""Starts scripts as Jobs and waits for them, as `launch` does with processes of the agent's own machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from catchment.errors import CatchmentError, SiteError, Unreachable
from catchment.site import environment
from catchment.site.config import SiteConfig
from catchment.site.home import Home
from catchment.site.launch_file import Launch, Outcome
from catchment.site.pods.access import ClusterAccess, Jobs
from catchment.site.pods.inside import LAUNCH, LOG, OUTCOME
from catchment.site.pods.template import PodTemplate, Seen, gpus
from catchment.wire.task import CLIENT_STATE, STATE, TASK_VARIABLE, WEIGHTS, TaskFile

logger = logging.getLogger(__name__)

START_S = 600.0
"""So long a pod may wait for a node and its image."""
_LOOK_S = 0.5
_LATE_S = 15.0
"""The keeper in the pod ends a script at its time; so much later the agent does."""
_CREATE_S = 30.0
_FOLDER = "pod"
_MOST_BYTES = 64 * 1024
_SITE = "catchment.io/site"


class PodRunning:
    """A script that runs in a pod; `wait` for it, or `stop` it from any thread."""

    warm = False

    def __init__(
        self, jobs: Jobs, name: str, launch: Launch, folder: Path, log: Path, log_bytes: int
    ) -> None:
        self._jobs = jobs
        self._name = name
        self._launch = launch
        self._folder = folder
        self._log = log
        self._log_bytes = log_bytes
        self._asked = threading.Event()
        self._grace_s = launch.grace_s

    def wait(self) -> Outcome:
        """Wait for the end of the pod.

        Raises:
            SiteError: the cluster did not start it in time, or took it away; says why.
        """
        try:
            outcome = self._watch()
        finally:
            self._copy_log()
            self._remove()
        return outcome

    def stop(self, grace_s: float) -> None:
        """Have the pod ended. Safe to repeat."""
        self._grace_s = grace_s
        self._asked.set()

    def _watch(self) -> Outcome:
        begun = time.monotonic()
        ends = begun + self._launch.timeout_s + self._launch.grace_s + _LATE_S
        starts = begun + min(START_S, self._launch.timeout_s)
        pod: dict[str, Any] | None = None
        while True:
            asked = self._asked.wait(_LOOK_S)
            now = time.monotonic()
            if asked or now > ends:
                self._remove()
                return Outcome("stopped" if asked else "timed_out", seconds=now - begun)
            try:
                pod = self._jobs.pod(self._name)
            except Unreachable as error:
                logger.warning("cluster does not answer job=%s why=%r", self._name, str(error))
                continue
            phase = _phase(pod)
            if phase in ("Succeeded", "Failed"):
                return self._outcome(pod or {}, now - begun)
            if phase != "Running" and now > starts:
                raise SiteError(f"the cluster did not start the script's pod in time: {_why(pod)}")

    def _outcome(self, pod: dict[str, Any], seconds: float) -> Outcome:
        """How the script ended: by its keeper's words, or by the cluster's where it was killed itself."""
        told = _small_file(self._folder / OUTCOME)
        if told:
            try:
                return Outcome(**json.loads(told))
            except (ValueError, TypeError) as error:
                raise SiteError(f"the script's pod left no outcome that can be read: {error}") from error
        if _killed_for_memory(pod):
            return Outcome("memory", used_mb=self._launch.limits.memory_mb, seconds=seconds)
        raise SiteError(f"the script's pod ended before the script did: {_why(pod)}")

    def _copy_log(self) -> None:
        """The pod's output, where the agent keeps output; a script may have put anything in its place."""
        try:
            descriptor = os.open(self._folder / LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            self._log.touch()
            return
        with os.fdopen(descriptor, "rb") as source:
            self._log.write_bytes(source.read(2 * self._log_bytes))

    def _remove(self) -> None:
        try:
            self._jobs.delete(self._name)
        except (CatchmentError, OSError) as error:
            # Kubernetes removes it ten minutes after its end; the next agent all that run.
            logger.warning("job stays for now job=%s why=%r", self._name, str(error))


class PodLauncher:
    """Starts scripts in pods.

    Args:
        jobs: the cluster.
        template: of the pods.
        site: the agent's name, by which it knows its Jobs.
    """

    def __init__(self, jobs: Jobs, template: PodTemplate, site: str) -> None:
        self._jobs = jobs
        self._template = template
        self._labels = {_SITE: site}

    def remove_all(self) -> None:
        """Delete what an earlier agent of this site has left: its works begin anew."""
        for name in self._jobs.named(self._labels):
            logger.info("job of an earlier agent is removed job=%s", name)
            self._jobs.delete(name)

    def preload(self, runtime: str) -> None:
        """Nothing: each pod begins with its own interpreter."""

    def start(self, launch: Launch, *, runtime: str, log: Path, log_bytes: int) -> PodRunning:
        """Start a script; its output goes to `log` when it has ended.

        Raises:
            SiteError: the cluster refuses the Job.
            Unreachable: it does not answer for half a minute.
        """
        folder = log.parent / _FOLDER
        folder.mkdir(exist_ok=True)
        for name in (OUTCOME, LOG):
            (folder / name).unlink(missing_ok=True)
        launch = replace(launch, env=_own_gpus(launch), script="", sandbox=None)
        words = {"launch": json.loads(launch.to_json()), "log_bytes": log_bytes}
        (folder / LAUNCH).write_text(json.dumps(words))
        # Each start has a name of its own: a Job that is being deleted still has its.
        name = f"catchment-{hashlib.sha256(str(log).encode()).hexdigest()[:12]}-{secrets.token_hex(4)}"
        command = environment.python_command("-m", "catchment.site.pods.inside", str(folder))
        labels = {**self._labels, "catchment.io/runtime": runtime}
        self._create(self._template.job(name, labels, launch, seen(launch, folder), command))
        return PodRunning(self._jobs, name, launch, folder, log, log_bytes)

    def close(self) -> None:
        """Nothing stays with the agent."""

    def _create(self, manifest: dict[str, Any]) -> None:
        deadline = time.monotonic() + _CREATE_S
        while True:
            try:
                return self._jobs.create(manifest)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)


def pod_launcher(config: SiteConfig, home: Home) -> PodLauncher:
    """The launcher that a configuration asks for; what an earlier agent's Jobs still run is ended.

    Raises:
        SetupError: the template or the way to the cluster cannot be used.
        SiteError: the agent may not manage Jobs.
        Unreachable: the cluster does not answer.
    """
    pods = config.pods
    assert pods is not None  # noqa: S101 - the caller looked
    template = PodTemplate.read(pods.template, home.folder)
    launcher = PodLauncher(Jobs(ClusterAccess.of_this_pod(pods.access)), template, config.name)
    launcher.remove_all()
    return launcher


def seen(launch: Launch, folder: Path) -> Seen:
    """What the pod of a script is shown of the agent's disk.

    Args:
        launch: names the task file.
        folder: that it shares with the agent, beside the task folder.
    """
    task_file = Path(launch.env[TASK_VARIABLE])
    task = task_file.parent
    fixed = [task / name for name in (task_file.name, WEIGHTS, STATE, CLIENT_STATE)]
    scripts = folder.parent / "scripts"
    datasets = {Path(path) for path in TaskFile.read(task_file).datasets.values()}
    return Seen(
        written=(task, folder, *((scripts,) if scripts.is_dir() else ())),
        read=tuple(path for path in fixed if path.is_file()),
        datasets=tuple(sorted(datasets)),
    )


def _own_gpus(launch: Launch) -> dict[str, str]:
    """The environment with the GPUs of the pod, which are counted from 0 in each."""
    count = gpus(launch)
    return {**launch.env, "CUDA_VISIBLE_DEVICES": ",".join(str(number) for number in range(count))}


def _phase(pod: dict[str, Any] | None) -> str:
    return str((pod or {}).get("status", {}).get("phase", "Pending"))


def _container_state(pod: dict[str, Any] | None) -> dict[str, Any]:
    statuses = (pod or {}).get("status", {}).get("containerStatuses") or [{}]
    return dict(statuses[0].get("state") or {})


def _killed_for_memory(pod: dict[str, Any]) -> bool:
    return bool(_container_state(pod).get("terminated", {}).get("reason") == "OOMKilled")


def _why(pod: dict[str, Any] | None) -> str:
    """What the cluster says of a pod, most telling first."""
    if pod is None:
        return "there is no pod; the Job's events say why (kubectl describe job)"
    status = pod.get("status", {})
    state = _container_state(pod)
    told = [state.get(part, {}) for part in ("waiting", "terminated")] + [status]
    told += [each for each in status.get("conditions") or [] if each.get("status") == "False"]
    words = [": ".join(str(each[key]) for key in ("reason", "message") if each.get(key)) for each in told]
    return "; ".join(word for word in words if word)[:500] or f"its phase is {_phase(pod)}"


def _small_file(path: Path) -> bytes:
    """The beginning of a file that a script could have made; empty when it is no plain one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MOST_BYTES)
