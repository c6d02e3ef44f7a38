"""Following a job's log to its end, across outages of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType

from catchment.client.client import Client
from catchment.client.events import EventStream, LogEnd, LogLine
from catchment.client.results import Outage
from catchment.errors import CatchmentError, Unreachable

PAUSE_S = 1.0


def follow_logs(
    client: Client,
    namespace: str,
    job_id: str,
    *,
    after: int = 0,
    round_number: int | None = None,
    site: str | None = None,
    tolerate_outage_s: float = 60.0,
    stop: threading.Event | None = None,
) -> Iterator[LogLine | LogEnd | Outage]:
    """Lines after a number, each once, then new ones; the last event is a LogEnd, unless `stop` is set.

    Raises:
        NotFound: there is no such job.
        Unreachable: the server does not answer at first, or was away for longer than tolerated.
    """
    stop = stop or threading.Event()
    lost_at: float | None = None
    connected = False
    while not stop.is_set():
        stream = client.log_events(namespace, job_id, after=after, round_number=round_number, site=site)
        try:
            for event in stream:
                if lost_at is not None:
                    yield Outage(None, time.monotonic() - lost_at)
                    lost_at = None
                yield event
                if isinstance(event, LogEnd):
                    return
        except Unreachable as error:
            now = time.monotonic()
            lost_at = lost_at if lost_at is not None and not stream.connected else now
            connected = connected or stream.connected
            if not connected or now - lost_at >= tolerate_outage_s:
                raise
            yield Outage(str(error), now - lost_at)
            stop.wait(PAUSE_S)
        after = stream.after


class LogWatch:
    """Knows from a thread of its own when something new stands in a job's log; a context manager."""

    def __init__(self, client: Client, namespace: str, job_id: str) -> None:
        self._client, self._namespace, self._job_id = client, namespace, job_id
        self._changed = threading.Event()
        self._over = threading.Event()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._listen, name="log-watch", daemon=True)
        self.works = False
        """Whether the server tells; otherwise one has to ask."""

    def __enter__(self) -> LogWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._stream is not None:
            self._stream.abort()
        self._thread.join(timeout=1.0)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is something new, at most so long; whether there is."""
        changed = self._changed.wait(timeout_s)
        self._changed.clear()
        return changed

    def _listen(self) -> None:
        after = 0
        while not self._over.is_set():
            self._stream = self._client.log_events(self._namespace, self._job_id, after=after)
            try:
                for event in self._stream:
                    self.works = True
                    self._changed.set()
                    if isinstance(event, LogEnd):
                        return
            except Unreachable:
                self.works = False
            except CatchmentError:
                self.works = False
                return  # whoever watches asks the server as well, and hears it from there
            after = self._stream.after
            self._over.wait(PAUSE_S)
