"""What sites keep from one round of a job to the next: control variates, personal layers, residuals.

```text
<home>/states/<key of namespace and job>/<run>/<order of keeping>-<work id>/
  client_state.safetensors   what the script kept; only the script can read meaning into it
  residual.safetensors       what the compression of the update left out
```

A state is kept under the id of the work that made it. The coordinator decides which one counts: an order
names the site's last work that was part of a committed round, so the state of a late, failed or rejected work
is never used. States older than the one named are removed then; those of jobs that the site has not heard of
for 30 days, and the oldest above a limit of bytes, when a new one is kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from catchment.site.home import folder_name, sync_folder
from catchment.wire.messages import WorkOrder

logger = logging.getLogger(__name__)

RESIDUAL = "residual.safetensors"
KEPT_S = 30 * 86400.0
MAX_BYTES = 50_000_000_000


class ClientStates:
    """The states of one site. Safe to use from several threads of one agent.

    Args:
        folder: survives restarts.
        kept_s: how long the states of a job are kept that nothing more is heard of.
        max_bytes: of all states together; the newest state of all stays in any case.
    """

    def __init__(self, folder: Path, kept_s: float = KEPT_S, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._kept_s = kept_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def take(self, order: WorkOrder, targets: Mapping[str, Path]) -> bool:
        """Copy what was kept of the work that the order names, and remove what is older.

        Args:
            order: of a new work.
            targets: name of a kept file -> where its copy goes; files that were not kept are passed over.

        Returns:
            Whether the site holds that work's state; False also where the order names none.
        """
        if order.client_state is None:
            return False
        wanted = folder_name(order.client_state)
        with self._lock:
            run = self._run(order)
            found = next((path for path in _states(run) if _work_of(path) == wanted), None)
            if found is None:
                return False
            for name, target in targets.items():
                if (found / name).exists():
                    shutil.copyfile(found / name, target)
                    target.chmod(0o444)
            os.utime(run)
            self._remove_superseded(run, found)
            return True

    def keep(self, order: WorkOrder, files: Mapping[str, Path]) -> None:
        """Move files of a finished work into the site's keeping; they are durable when this returns.

        Raises:
            OSError: they cannot be written.
        """
        with self._lock:
            run = self._run(order)
            run.mkdir(parents=True, exist_ok=True)
            for path in run.iterdir():
                if path.name.startswith(".") or _work_of(path) == folder_name(order.work_id):
                    shutil.rmtree(path)  # half written, or of an earlier run of this same work
            last = max((int(path.name.partition("-")[0]) for path in _states(run)), default=0)
            target = run / f"{last + 1:08}-{folder_name(order.work_id)}"
            staged = run / f".{target.name}"
            staged.mkdir()
            for name, path in files.items():
                shutil.move(path, staged / name)
                with (staged / name).open("rb") as file:
                    os.fsync(file.fileno())
            sync_folder(staged)
            staged.rename(target)
            for folder in (run, run.parent, self._folder):
                sync_folder(folder)
            self._make_room(target)

    def _run(self, order: WorkOrder) -> Path:
        job = f"{order.namespace}/{order.job_id}"
        return self._folder / hashlib.sha256(job.encode()).hexdigest()[:40] / f"{order.run:08}"

    def _remove_superseded(self, run: Path, named: Path) -> None:
        for path in _states(run):
            if path.name < named.name:
                shutil.rmtree(path, ignore_errors=True)
        for earlier in run.parent.iterdir():
            if earlier.name < run.name:
                shutil.rmtree(earlier, ignore_errors=True)

    def _make_room(self, newest: Path) -> None:
        """Remove what is too old; then the states of the runs that were quiet for longest, until it fits."""
        runs = [(run.stat().st_mtime, run) for run in self._folder.glob("*/*")]
        for touched, run in runs:
            if time.time() - touched > self._kept_s:
                logger.info("state of a quiet job is removed folder=%s", run)
                shutil.rmtree(run, ignore_errors=True)
        states = [path for _, run in sorted(runs) if run.exists() for path in _states(run)]
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in states}
        total = sum(sizes.values())
        for path in states:
            if total > self._max_bytes and path != newest:
                logger.warning("state is removed for want of room folder=%s", path)
                shutil.rmtree(path, ignore_errors=True)
                total -= sizes[path]
        for job in self._folder.iterdir():
            if not any(job.iterdir()):
                job.rmdir()


def _states(run: Path) -> list[Path]:
    """Whole states of a run, oldest first."""
    if not run.is_dir():
        return []
    return sorted(path for path in run.iterdir() if not path.name.startswith("."))


def _work_of(path: Path) -> str:
    return path.name.partition("-")[2]
