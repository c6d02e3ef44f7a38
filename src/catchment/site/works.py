"""All works that the site holds: how many run at a time, and how they are called off."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable

from catchment.errors import BadTensors, ProtocolRefused, SiteError
from catchment.observe import logs, trace
from catchment.observe.site import SiteFigures
from catchment.site.home import Home
from catchment.site.outbox import Outbox
from catchment.site.placement import Place, Places
from catchment.site.runner import Runner, failed
from catchment.site.secure_sessions import SecureSessions
from catchment.site.work import Work, WorkCancelledError
from catchment.wire.messages import WorkOrder, WorkResult

logger = logging.getLogger(__name__)

_UNLIMITED = 64
"""So many works are asked for at a time when the site sets no limit."""


class Works:
    """Runs each work in a thread of its own, at most `parallelism` at a time (-1: no limit)."""

    def __init__(
        self,
        home: Home,
        runner: Runner,
        outbox: Outbox,
        places: Places,
        sessions: SecureSessions,
        parallelism: int,
        on_free: Callable[[], object],
        figures: SiteFigures | None = None,
    ) -> None:
        self._home = home
        self._runner = runner
        self._outbox = outbox
        self._places = places
        self._sessions = sessions
        self._slots = _UNLIMITED if parallelism == -1 else parallelism
        self._on_free = on_free
        self._figures = figures or SiteFigures()
        self._changed = threading.Condition()
        self._held: dict[str, Work] = {}
        self._running = 0
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = False

    def recover(self) -> list[Work]:
        """Works that an earlier agent took on; `begin` them once the coordinator has had its say."""
        delivered = self._outbox.ids()
        recovered = []
        for folder in sorted(self._home.work.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            try:
                work = Work.read(folder)
            except (OSError, ValueError) as error:
                logger.warning("folder holds no whole order folder=%s error=%r", folder.name, str(error))
                shutil.rmtree(folder, ignore_errors=True)
                continue
            if work.order.work_id in delivered:
                work.discard()
                continue
            self._held[work.order.work_id] = work
            recovered.append(work)
        return recovered

    def free(self) -> int:
        """How many more works can begin now."""
        with self._changed:
            return 0 if self._stopping else max(0, self._slots - len(self._held))

    def holding(self) -> tuple[str, ...]:
        """Ids of all works that are not delivered, those in the outbox included, those called off not."""
        with self._changed:
            # The outbox second: a work that moves there in between is then seen twice and not missed.
            held = [work_id for work_id, work in self._held.items() if not work.cancelled.is_set()]
        return tuple(dict.fromkeys((*held, *self._outbox.ids())))

    def accept(self, order: WorkOrder) -> bool:
        """Take an order on and begin; False for one that is here already.

        Raises:
            OSError: it cannot be written down.
        """
        with self._changed:
            known = order.work_id in self._held
        if known or order.work_id in self._outbox.ids():
            return False
        work = Work.accept(self._home.work, order)
        with self._changed:
            self._held[order.work_id] = work
        logger.info("work accepted %s timeout_s=%.0f", work.words, order.timeout_s)
        self.begin(work)
        return True

    def begin(self, work: Work) -> None:
        """Start the work's thread, unless it was called off."""
        with self._changed:
            if self._stopping or work.order.work_id not in self._held:
                return
            thread = threading.Thread(target=self._live, args=(work,), name=work.order.work_id, daemon=True)
            self._threads[work.order.work_id] = thread
        self._sessions.begin(work.order)
        thread.start()

    def cancel(self, work_id: str, reason: str) -> bool:
        """Stop a work and forget it; False when it is not here, or was called off before."""
        with self._changed:
            work = self._held.get(work_id)
            started = work_id in self._threads
            if work is not None and work.cancelled.is_set():
                return False
            if work is not None:
                work.cancel()
                self._changed.notify_all()
        if work is not None and not started:
            self._forget(work)
        self._sessions.drop(work_id)
        known = self._outbox.drop(work_id) or work is not None
        if known:
            logger.info("work called off work=%s reason=%r", work_id, reason)
        return known

    def stop(self, grace_s: float, timeout_s: float) -> None:
        """Kill what runs. The orders stay on disk: the next agent asks whether they are still wanted."""
        with self._changed:
            self._stopping = True
            threads = list(self._threads.values())
            for work in self._held.values():
                work.cancel(grace_s)
            self._changed.notify_all()
        self._sessions.stop()
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _live(self, work: Work) -> None:
        """The work's thread, from the wait for a slot to the outbox."""
        order = work.order
        with (
            logs.about(job=order.job_id, namespace=order.namespace, round=order.round, work=order.work_id),
            trace.span(order.kind, place=work.place, parent=trace.read(order.traceparent)) as here,
        ):
            here.note(**work.facts)
            self._lived(work)

    def _lived(self, work: Work) -> None:
        try:
            place = self._place(work)
            try:
                self._finish(work, place)
            finally:
                with self._changed:
                    self._running -= 1
                    self._places.give_back(place)
                    self._changed.notify_all()
        except WorkCancelledError:
            if self._stopping:
                return  # the order stays on disk for the next agent
            self._figures.works.add(work.order.kind, "cancelled")
        except OSError:
            logger.exception("result cannot be kept %s", work.words)
        self._forget(work)

    def _place(self, work: Work) -> Place:
        """Wait for a free slot and the GPUs that the work needs.

        Raises:
            WorkCancelledError: it was called off while it waited.
        """
        resource = work.order.resource
        with self._changed:
            while True:
                work.check()
                place = self._places.take(resource) if self._running < self._slots else None
                if place is not None:
                    self._running += 1
                    return place
                self._changed.wait()

    def _finish(self, work: Work, place: Place) -> None:
        """Run the work and put its result into the outbox.

        Raises:
            WorkCancelledError: nobody wants the result.
            OSError: the outbox cannot be written.
        """
        try:
            self._places.check(work.order.resource)
            self._sessions.check(work.order)
            result = self._runner.run(work, place)
            if work.order.secure is not None:
                with trace.span("mask"):
                    result = self._sessions.finish(work, result)
            work.check()
            self._put(work, result)
        except WorkCancelledError:
            raise
        except (SiteError, ProtocolRefused, BadTensors) as error:
            self._sessions.drop(work.order.work_id)
            self._put(work, failed(str(error)))
        except Exception as error:
            # The edge of the work's thread: whatever it is, the coordinator must hear of it.
            logger.exception("work failed in the agent %s", work.words)
            self._put(work, failed(f"the site's agent failed: {type(error).__name__}: {error}"))

    def _put(self, work: Work, result: WorkResult) -> None:
        """Into the outbox, and into the figures."""
        self._outbox.put(work, result)
        self._figures.works.add(work.order.kind, result.status)
        self._figures.work_seconds.add(time.time() - work.received_at, work.order.kind)

    def _forget(self, work: Work) -> None:
        with self._changed:
            self._held.pop(work.order.work_id, None)
            self._threads.pop(work.order.work_id, None)
            self._changed.notify_all()
        work.discard()
        self._on_free()
