"""One work in the site's hands: its order on disk, its deadline, and how it is called off."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from catchment.errors import SiteError
from catchment.observe import trace
from catchment.site.home import folder_name, write_durably
from catchment.site.launch import Script
from catchment.site.update_pipeline import MADE_BESIDE
from catchment.wire.messages import Message, WorkOrder
from catchment.wire.task import OUTPUT_LOG

_ORDER = "order.json"


class WorkCancelledError(SiteError):
    """Nobody wants the work any more; it ends without a result."""


class _Held(Message):
    order: WorkOrder
    received_at: float


class Work:
    """A work that the site has taken on. `cancel` may be called from any thread.

    Attributes:
        remark: what the agent has to say of it, before the script's output.
    """

    def __init__(self, folder: Path, order: WorkOrder, received_at: float) -> None:
        self.folder = folder
        self.order = order
        self.received_at = received_at
        # The clock is asked once: should it jump while the script runs, the deadline stays where it is.
        left_s = min(received_at + order.timeout_s - time.time(), order.timeout_s)
        self._ends = time.monotonic() + left_s
        self.log: Path | None = None
        self.remark = ""
        self.cancelled = threading.Event()
        self._grace_s = 3.0
        self._lock = threading.Lock()
        self._running: Script | None = None

    @classmethod
    def accept(cls, parent: Path, order: WorkOrder) -> Work:
        """Take an order on: it is on disk when this returns."""
        work = cls(parent / folder_name(order.work_id), order, time.time())
        work.folder.mkdir(exist_ok=True)
        held = _Held(order=order, received_at=work.received_at)
        write_durably(work.folder / _ORDER, held.model_dump_json().encode())
        return work

    @classmethod
    def read(cls, folder: Path) -> Work:
        """The work that an earlier agent took on.

        Raises:
            OSError, ValueError: there is no whole order in the folder.
        """
        held = _Held.model_validate_json((folder / _ORDER).read_bytes())
        return cls(folder, held.order, held.received_at)

    @property
    def task_folder(self) -> Path:
        """Where the script finds its task."""
        return self.folder / "task"

    @property
    def output(self) -> Path:
        """What the script prints; beside its task folder, where no script can put something else."""
        return self.folder / OUTPUT_LOG

    @property
    def place(self) -> trace.Place | None:
        """Its span in the trace that the order names; None where it names none."""
        parent = trace.read(self.order.traceparent)
        return parent.below("work", self.order.work_id) if parent is not None else None

    @property
    def facts(self) -> dict[str, trace.Attribute]:
        """What its span says."""
        order = self.order
        return {"work": order.work_id, "job_id": order.job_id, "round": order.round, "attempt": order.attempt}

    @property
    def words(self) -> str:
        """The work as log lines name it."""
        order = self.order
        return f"work={order.work_id} job={order.job_id} round={order.round} kind={order.kind}"

    def remaining_s(self) -> float:
        """Seconds until the round's deadline."""
        return self._ends - time.monotonic()

    def clear(self) -> None:
        """Remove what an earlier, interrupted run of this work left behind."""
        for name in ("task", "scripts", "out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in MADE_BESIDE:
            (self.folder / name).unlink(missing_ok=True)
        self.output.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the work's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def attach(self, running: Script) -> None:
        """Let `cancel` reach a script that was just started."""
        with self._lock:
            self._running = running
            late = self.cancelled.is_set()
        if late:
            running.stop(self._grace_s)

    def cancel(self, grace_s: float = 3.0) -> None:
        """Call the work off: a running script gets SIGTERM, `grace_s` seconds, SIGKILL."""
        with self._lock:
            self._grace_s = grace_s
            self.cancelled.set()
            running = self._running
        if running is not None:
            running.stop(grace_s)

    def check(self) -> None:
        """Pass while the work is wanted.

        Raises:
            WorkCancelledError: it is not.
        """
        if self.cancelled.is_set():
            raise WorkCancelledError(f"work {self.order.work_id} was called off")
