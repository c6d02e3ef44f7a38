"""All conversations of secure aggregation that the site is in, and what may leave it under them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from catchment.errors import PolicyRefused, SiteError
from catchment.site.secure import SecureSession
from catchment.site.work import Work
from catchment.wire.messages import WorkOrder, WorkResult
from catchment.wire.task import UPDATE, WEIGHTS

_LAST_WORDS = re.compile(r"(ended with exit code \d+): .*", re.DOTALL)
_KEPT = r"\1; its output stays at the site (an agent with --send-logs sends it)"


class SecureSessions:
    """Begins a conversation with each work that asks for it, and masks the work's result.

    Args:
        open_session: for an order.
        send_logs: whether the output of scripts may leave the site under secure aggregation.
        required: refuse trainings whose update would leave the site unmasked.
    """

    def __init__(
        self, open_session: Callable[[WorkOrder], SecureSession], *, send_logs: bool, required: bool
    ) -> None:
        self._open_session = open_session
        self._send_logs = send_logs
        self._required = required
        self._lock = threading.Lock()
        self._sessions: dict[str, SecureSession] = {}

    def begin(self, order: WorkOrder) -> None:
        """Start to agree keys for a work, where it asks for that."""
        if order.secure is None or order.kind != "train":
            return
        with self._lock:
            for work_id in [key for key, session in self._sessions.items() if session.is_over]:
                del self._sessions[work_id]
            if order.work_id in self._sessions:
                return
            session = self._sessions[order.work_id] = self._open_session(order)
        session.start()

    def check(self, order: WorkOrder) -> None:
        """Pass when the work's update may leave the site the way that the order says.

        Raises:
            PolicyRefused: this site sends masked updates only.
        """
        if self._required and order.kind == "train" and order.secure is None:
            raise PolicyRefused("this site takes part in jobs with secure_algorithm SSA only")

    def finish(self, work: Work, result: WorkResult) -> WorkResult:
        """A work's result as it may leave the site: masked, and without what would tell of the site alone.

        Raises:
            SiteError, ProtocolRefused, BadTensors: the update cannot or must not be masked.
        """
        order = work.order
        if order.secure is None:
            return result
        changed: dict[str, object] = {"parameters": {}}
        if not self._send_logs:
            changed["log_tail"] = ""
            changed["reason"] = _LAST_WORDS.sub(_KEPT, result.reason)
        if order.kind == "train":
            changed["metrics"] = {}
            if result.status == "done":
                changed["update"] = self._session(order).mask(
                    work.task_folder, UPDATE, WEIGHTS, result.metrics, work.remaining_s()
                )
        return result.model_copy(update=changed)

    def drop(self, work_id: str) -> None:
        """Nobody wants the work any more; the conversation about an update that was masked goes on."""
        with self._lock:
            session = self._sessions.get(work_id)
        if session is not None:
            session.call_off()

    def stop(self) -> None:
        """End all conversations."""
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.stop()

    def _session(self, order: WorkOrder) -> SecureSession:
        with self._lock:
            session = self._sessions.get(order.work_id)
        if session is None:
            raise SiteError("secure aggregation: the conversation of this work is over")
        return session
