"""One work's life at the site: check, fetch, prepare, run, read what was committed."""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from catchment.errors import CatchmentError, SiteError
from catchment.observe import trace
from catchment.observe.site import SiteFigures
from catchment.site import command, environment, limits, task_folder
from catchment.site.archive import unpack
from catchment.site.cgroups import Cgroups
from catchment.site.client_states import RESIDUAL, ClientStates
from catchment.site.config import SiteConfig
from catchment.site.entries import Entries, Entry, EntryPart, read_sent
from catchment.site.fetching import Fetch
from catchment.site.home import Home, folder_name
from catchment.site.isolation import Isolator
from catchment.site.launch import Executor
from catchment.site.launch_file import Launch, Outcome
from catchment.site.output import tail
from catchment.site.placement import Place
from catchment.site.policy import chosen_datasets
from catchment.site.ranks import RANK_VARIABLES, rank_variables
from catchment.site.update_pipeline import needed_names
from catchment.site.verdict import check_ended_well
from catchment.site.work import Work, WorkCancelledError
from catchment.wire.messages import SentScripts, WorkOrder, WorkResult
from catchment.wire.task import CLIENT_STATE, PREPARED, STATE, TASK_VARIABLE, WEIGHTS

logger = logging.getLogger(__name__)

_FAILURE_TAIL = 8000
_SUCCESS_TAIL = 2000
_MAX_REASON = 2000


class Runner:
    """Runs works one by one; safe to call from several threads."""

    def __init__(
        self,
        config: SiteConfig,
        home: Home,
        launcher: Executor,
        fetch: Fetch,
        cgroups: Cgroups | None = None,
        isolator: Isolator | None = None,
        figures: SiteFigures | None = None,
    ) -> None:
        self._config = config
        self._home = home
        self._launcher = launcher
        self._fetch = fetch
        self._entries = Entries(config.entries)
        self._cgroups = cgroups
        self._isolator = isolator or Isolator()
        self._states = ClientStates(home.states)
        self._figures = figures or SiteFigures()

    def run(self, work: Work, place: Place, *, dry_run: bool = False) -> WorkResult:
        """Do the work; whatever goes wrong at the site becomes a failed result with a reason.

        Raises:
            WorkCancelledError: nobody wants the result any more.
        """
        started = time.time()
        work.clear()
        log = work.output
        try:
            done = self._run(work, place, dry_run)
            if done.kept:
                self._states.keep(work.order, done.kept)
            result = WorkResult(
                status="done",
                update=done.update,
                metrics=done.metrics,
                files=done.files,
                parameters=done.parameters,
                log_tail=work.remark + tail(log, _SUCCESS_TAIL),
            )
        except WorkCancelledError:
            raise
        except (CatchmentError, OSError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("work failed %s reason=%r", work.words, reason)
            result = failed(reason, work.remark + tail(log, _FAILURE_TAIL))
        return result.model_copy(update={"started_at": started, "seconds": max(0.0, time.time() - started)})

    def _run(self, work: Work, place: Place, dry_run: bool) -> task_folder.Committed:
        order = work.order
        if order.runtime not in self._config.runtimes:
            known = ", ".join(self._config.runtimes) or "none"
            raise SiteError(f"this site has no runtime {order.runtime}; it has: {known}")
        self._launcher.preload(order.runtime)
        datasets = chosen_datasets(order.datasets, self._config.datasets)
        part, line, folder = self._command(work)
        task_file = task_folder.prepare(work.task_folder, order, datasets, dry_run=dry_run)
        self._take_state(work)
        self._download(work)
        timeout_s = min(part.timeout * 60, work.remaining_s())
        if timeout_s <= 0:
            raise SiteError("the round's deadline passed before the script could start")
        # Keras chooses its device when it is imported: a fork server's has none but the processor.
        script_limits = self._limits(order, place, work.task_folder / WEIGHTS)
        launch = Launch(
            argv=line.argv,
            script="" if order.runtime == "keras" and order.resource.gpu else line.script,
            cwd=str(folder),
            env=self._environment(work, place, task_file, folder, python=line.is_python),
            rank_env=rank_variables(order.resource.worker_num),
            timeout_s=timeout_s,
            limits=script_limits,
            sandbox=self._isolator.sandbox_for(work, folder, datasets.values(), script_limits.memory_mb),
        )
        with trace.span("script", entry=part.entry) as here:
            outcome = self._limited(work, launch)
            here.note(ending=outcome.ending, code=outcome.code, peak_mb=outcome.peak_mb)
        self._figures.script_seconds.add(outcome.seconds, order.kind)
        check_ended_well(outcome, part.entry, launch, work.output)
        with trace.span("check update"):
            return task_folder.committed(work.folder, work.task_folder, order)

    def _download(self, work: Work) -> None:
        """What the order names by digest, into the task folder."""
        order = work.order
        wanted = [(order.weights, WEIGHTS), *([(order.state, STATE)] if order.state else [])]
        wanted += [(blob, f"{PREPARED}/{name}") for name, blob in order.prepared.items()]
        with trace.span("download", size_bytes=sum(blob.size_bytes for blob, _ in wanted)):
            for blob, name in wanted:
                self._fetch(work, blob, work.task_folder / name)

    def _take_state(self, work: Work) -> None:
        """Put before the script what the site kept of the work that the order names."""
        places = {CLIENT_STATE: work.task_folder / CLIENT_STATE, RESIDUAL: work.folder / RESIDUAL}
        wanted = {name: places[name] for name in needed_names(work.order)}
        earlier = work.order.client_state
        if earlier is None or not wanted or self._states.take(work.order, wanted):
            return
        logger.warning("client state is lost %s earlier=%s", work.words, earlier)
        work.remark = (
            f"[site] warning: nothing is kept here of work {earlier}, which this one should go on from; "
            "the site's part of the algorithm begins anew\n"
        )

    def _command(self, work: Work) -> tuple[EntryPart, command.Command, Path]:
        order = work.order
        if order.scripts is not None:
            entry = self._sent(work, order.scripts)
        elif order.task_entry is not None:
            entry = self._entries.find(order.task_entry)
        else:
            raise SiteError("the work names neither a task_entry nor scripts")
        part = entry.part(order.kind)
        path = os.environ.get("PATH", os.defpath)
        return part, command.build(part, order.parameters, entry.folder, path), entry.folder

    def _sent(self, work: Work, scripts: SentScripts) -> Entry:
        self._config.policy.check_scripts(scripts.archive.digest)
        name = scripts.folder
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise SiteError(f"{name!r} is no name for the folder of sent scripts")
        folder = work.folder / "scripts"
        folder.mkdir()
        archive = folder / ".archive.zip"
        self._fetch(work, scripts.archive, archive)
        unpack(archive, folder / name)
        archive.unlink()
        return read_sent(folder / name, scripts.config_file)

    def _limited(self, work: Work, launch: Launch) -> Outcome:
        """Run in a control group of its own, where the site has them."""
        if self._cgroups is None:
            return self._launched(work, launch)
        memory_mb = launch.limits.memory_mb
        group = self._cgroups.create(folder_name(work.order.work_id), work.order.resource, memory_mb)
        try:
            limits_there = replace(launch.limits, cgroup=str(group.folder))
            outcome = self._launched(work, replace(launch, limits=limits_there))
            if outcome.code and group.killed_for_memory():
                return replace(outcome, ending="memory", used_mb=max(memory_mb, outcome.used_mb))
            return outcome
        finally:
            group.remove()

    def _launched(self, work: Work, launch: Launch) -> Outcome:
        work.check()
        running = self._launcher.start(
            launch,
            runtime=work.order.runtime,
            log=work.output,
            log_bytes=self._config.log_bytes,
        )
        work.attach(running)
        logger.info("script started %s warm=%s", work.words, running.warm)
        outcome = running.wait()
        logger.info(
            "script ended %s ending=%s code=%d seconds=%.3f peak_mb=%d",
            work.words,
            outcome.ending,
            outcome.code,
            outcome.seconds,
            outcome.peak_mb,
        )
        self._keep_log(work)
        work.check()
        return outcome

    def _keep_log(self, work: Work) -> None:
        order = work.order
        kept = self._home.log_file(order.job_id, str(order.round), order.kind, order.work_id)
        shutil.copyfile(work.output, kept)
        self._home.tidy_logs()

    def _environment(
        self, work: Work, place: Place, task_file: Path, folder: Path, *, python: bool
    ) -> dict[str, str]:
        order, own_tmp = work.order, self._isolator.temporary_folder(work)
        env = environment.cleaned(os.environ)
        if self._isolator.applies_to(work):
            env = environment.isolated(env, own_tmp)
        for name in RANK_VARIABLES:
            env.pop(name, None)
        if python:
            env = environment.with_python_path(env, str(folder))
            env["PYTHONUNBUFFERED"] = "1"  # so that the output of a script that is killed is not lost
        if order.runtime == "keras":
            env.setdefault("KERAS_BACKEND", "torch")
        return {
            **env,
            **limits.thread_variables(self._threads(order)),
            "CUDA_VISIBLE_DEVICES": ",".join(place.gpus),
            "TMPDIR": own_tmp,
            TASK_VARIABLE: str(task_file),
        }

    def _threads(self, order: WorkOrder) -> int:
        return max(1, int(min(order.resource.cpu, self._config.resources.cpu)))

    def _limits(self, order: WorkOrder, place: Place, weights: Path) -> limits.Limits:
        memory_mb = min(order.resource.memory, self._config.resources.memory_mb)
        return limits.Limits(
            memory_mb=memory_mb,
            data_mb=limits.data_limit_mb(memory_mb, order.resource.gpu),
            file_mb=limits.file_limit_mb(weights.stat().st_size),
            threads=self._threads(order),
            cores=place.cores if self._config.pin_cpus else (),
        )


def failed(reason: str, log_tail: str = "") -> WorkResult:
    """A result that says why there is none."""
    return WorkResult(status="failed", reason=reason[:_MAX_REASON], log_tail=log_tail)
