"""Simulated clients: from an order to a result, in this process, by the rules of a site's agent."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from catchment.errors import CatchmentError, SiteError
from catchment.simulation import script
from catchment.simulation.data import DataParts
from catchment.site import command, limits, task_folder
from catchment.site.archive import unpack
from catchment.site.client_states import RESIDUAL, ClientStates
from catchment.site.entries import Entry, EntryPart, read_sent
from catchment.site.update_pipeline import needed_names
from catchment.site.warm import PRELOAD
from catchment.store import Store
from catchment.store.blobs import keep_staged
from catchment.wire.messages import Blob, Runtime, SentScripts, WorkOrder, WorkResult
from catchment.wire.task import CLIENT_STATE, FILES, PREPARED, STATE, TASK_VARIABLE, UPDATE, WEIGHTS

MAX_REASON = 2000
KEPT_BLOBS = 3
"""Shared copies of weights and the like that stay beside a new one."""
FAILURE_TAIL, SUCCESS_TAIL = 8000, 2000


class Clients:
    """Runs works one after the other. Keep one for a process: it unpacks each set of scripts once."""

    def __init__(self, store: Store, scratch: Path) -> None:
        self._store = store
        self._scratch = scratch
        self._states = states_folder(store)
        self._entries: dict[str, Entry] = {}
        self._commands: dict[str, command.Command] = {}

    def run(self, site: str, order: WorkOrder, data: DataParts) -> WorkResult:
        """Do a work; whatever goes wrong with it becomes a failed result with a reason."""
        started, output = time.time(), script.Tail(script.MAX_OUTPUT)
        folder = self._scratch / order.work_id
        folder.mkdir()
        try:
            done = self._run(site, order, data, folder, output)
            if done.kept:
                ClientStates(self._states / site).keep(order, done.kept)
            result = WorkResult(
                status="done",
                update=done.update,
                metrics=done.metrics,
                files=done.files,
                parameters=done.parameters,
                log_tail=output.text()[-SUCCESS_TAIL:],
            )
        except (CatchmentError, OSError) as error:
            reason = (str(error) or type(error).__name__)[:MAX_REASON]
            result = WorkResult(status="failed", reason=reason, log_tail=output.text()[-FAILURE_TAIL:])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return result.model_copy(update={"started_at": started, "seconds": max(0.0, time.time() - started)})

    def _run(
        self, site: str, order: WorkOrder, data: DataParts, folder: Path, output: script.Tail
    ) -> task_folder.Committed:
        _preload(order.runtime)
        entry = self._entry(order)
        part = entry.part(order.kind)
        line = self._command(entry, part, order)
        task = folder / "task"
        task_file = task_folder.prepare(task, order, data.of(site, order.datasets))
        self._take_state(site, order, folder, output)
        self._fetch(order.weights, task / WEIGHTS)
        if order.state is not None:
            self._fetch(order.state, task / STATE)
        for name, blob in order.prepared.items():
            self._fetch(blob, task / PREPARED / name)
        call = script.Call(
            script=Path(line.script),
            arguments=line.argv[2:],
            folder=entry.folder,
            environment=self._environment(order, task_file, task),
            seed=order.seed,
            timeout_s=min(part.timeout * 60, order.timeout_s),
        )
        script.run(call, output)
        done = task_folder.committed(folder, task, order)
        self._keep(done.update, task / UPDATE)
        self._keep(done.files, task / FILES)
        return done

    def _command(self, entry: Entry, part: EntryPart, order: WorkOrder) -> command.Command:
        """The script's command line, which is the same for all clients of a round."""
        key = f"{entry.path} {order.kind} {order.parameters}"
        if key not in self._commands:
            path = os.environ.get("PATH", os.defpath)
            line = command.build(part, order.parameters, entry.folder, path)
            if not line.script:
                raise SiteError(
                    f"a simulation runs Python scripts only, and the entry's command is {part.command!r}"
                )
            self._commands = {key: line}
        return self._commands[key]

    def _take_state(self, site: str, order: WorkOrder, folder: Path, output: script.Tail) -> None:
        """Put before the script what the client kept of the work that the order names."""
        places = {CLIENT_STATE: folder / "task" / CLIENT_STATE, RESIDUAL: folder / RESIDUAL}
        wanted = {name: places[name] for name in needed_names(order)}
        if order.client_state is None or not wanted:
            return
        if not ClientStates(self._states / site).take(order, wanted):
            output.write(f"[site] warning: nothing is kept here of work {order.client_state}\n")

    def _environment(self, order: WorkOrder, task_file: Path, folder: Path) -> Mapping[str, str]:
        return {
            **limits.thread_variables(1),
            **({"KERAS_BACKEND": "torch"} if order.runtime == "keras" else {}),
            "TMPDIR": str(folder / "tmp"),
            TASK_VARIABLE: str(task_file),
        }

    def _entry(self, order: WorkOrder) -> Entry:
        if order.scripts is None:
            raise SiteError(
                "a simulated client has no task entries: give the job scripts instead of task_entry"
            )
        return self._sent(order.scripts)

    def _sent(self, scripts: SentScripts) -> Entry:
        key = f"{scripts.archive.digest}/{scripts.config_file}"
        if key not in self._entries:
            parent = Path(tempfile.mkdtemp(prefix="scripts-", dir=self._scratch))
            archive = parent / ".archive.zip"
            self._fetch(scripts.archive, archive)
            unpack(archive, parent / scripts.folder)
            self._entries[key] = read_sent(parent / scripts.folder, scripts.config_file)
        return self._entries[key]

    def _fetch(self, blob: Blob, target: Path) -> None:
        """The blob's bytes at `target`, as a link to one copy that all clients share."""
        shared = self._scratch / f"blob-{blob.digest.rpartition(':')[2]}"
        if not shared.exists():
            for old in sorted(self._scratch.glob("blob-*"), key=lambda path: path.stat().st_mtime)[
                :-KEPT_BLOBS
            ]:
                old.unlink()
            shutil.copyfile(self._store.blobs.local_path(blob.digest), shared)
            shared.chmod(0o444)
        os.link(shared, target)

    def _keep(self, blob: Blob | None, path: Path) -> None:
        if blob is None:
            return
        # From memory to a disk: copied by the store, and only bytes that it does not have yet.
        keep_staged(self._store.blobs, path, digest=blob.digest, durable=False)


def states_folder(store: Store) -> Path:
    """Where this machine keeps what simulated clients keep from round to round."""
    return store.settings.home / "simulation"


@functools.cache
def _preload(runtime: Runtime) -> None:
    """Import the framework before the first script does: only what is there already can be seeded."""
    for name in PRELOAD[runtime]:
        importlib.import_module(name)
    importlib.import_module("numpy")
    if "torch" in sys.modules:
        importlib.import_module("torch").set_num_threads(1)


@contextmanager
def scratch_folder(store: Store) -> Iterator[Path]:
    """A folder for task folders, in memory where the system has such a place; gone afterwards."""
    memory = Path("/dev/shm")  # noqa: S108 - ours alone: mkdtemp makes it so
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else store.blobs.staging_folder
    with suppress(OSError):
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="catchment-simulation-", dir=parent) as folder:
        yield Path(folder)
