"""What a gateway process counts: figures of workloads on their way into the store, and its own counters."""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple

from catchment.errors import CatchmentError
from catchment.serving import figures
from catchment.serving.figures import BUCKETS_S, Figures, bucket_of
from catchment.serving.gateway.table import Place
from catchment.store import Store

log = logging.getLogger(__name__)
FLUSH_S = 1.0
_REQUESTS, _ERRORS, _COMPARED, _DISAGREED = range(4)


class Sample(NamedTuple):
    """One value for /metrics.

    Attributes:
        name: `catchment_gateway_...`.
        described: the series' help.
        labels: by name.
    """

    name: str
    kind: Literal["counter", "gauge"]
    described: str
    labels: dict[str, str]
    value: float


class _Sums:
    """Figures of one workload that grow."""

    __slots__ = ("buckets", "counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0, 0, 0, 0]
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def figures(self) -> Figures:
        """As they are now."""
        requests, errors, compared, disagreed = self.counts
        return Figures(requests, errors, self.seconds, tuple(self.buckets), compared, disagreed)


class Counting:
    """Counts of one process; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: dict[tuple[str, str], _Sums] = {}
        self._kept: dict[tuple[str, str], Figures] = {}
        self._answered: Counter[tuple[str, str, str, int]] = Counter()
        self._seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._events: Counter[str] = Counter()
        self.in_flight = 0

    def answered(self, name: tuple[str, str], place: Place, status: int, seconds: float) -> None:
        """A server has answered an inference of the serving `name` (namespace, name)."""
        with self._lock:
            sums = self._sums(place)
            sums.counts[_REQUESTS] += 1
            if status >= 500:
                sums.counts[_ERRORS] += 1
            sums.seconds += seconds
            sums.buckets[bucket_of(seconds)] += 1
            self._answered[(*name, place.key, status)] += 1
            self._seconds[(*name, place.key)] += seconds

    def broke(self, name: tuple[str, str], place: Place, seconds: float) -> None:
        """A server that had an inference did not answer it; status 0 among the counters."""
        with self._lock:
            sums = self._sums(place)
            sums.counts[_REQUESTS] += 1
            sums.counts[_ERRORS] += 1
            sums.seconds += seconds
            sums.buckets[bucket_of(seconds)] += 1
            self._answered[(*name, place.key, 0)] += 1

    def compared(self, uid: str, canary: str, *, agreed: bool) -> None:
        """Two versions were asked the same."""
        with self._lock:
            counts = self._new.setdefault((uid, canary), _Sums()).counts
            counts[_COMPARED] += 1
            counts[_DISAGREED] += not agreed
            self._events["mirrored"] += 1

    def event(self, name: Literal["retried", "refused", "unavailable", "timed_out", "client_gone"]) -> None:
        """Something happened that the counters show."""
        with self._lock:
            self._events[name] += 1

    def take(self) -> dict[tuple[str, str], Figures]:
        """What is new since the last time, by (uid, key), together with what was given back."""
        with self._lock:
            new, self._new = self._new, {}
            kept, self._kept = self._kept, {}
        for which, sums in new.items():
            kept[which] = kept.get(which, Figures()) + sums.figures()
        return kept

    def give_back(self, taken: dict[tuple[str, str], Figures]) -> None:
        """What was taken could not be written; it comes with the next."""
        with self._lock:
            for which, one in taken.items():
                self._kept[which] = self._kept.get(which, Figures()) + one

    def samples(self) -> Iterator[Sample]:
        """Everything for /metrics."""
        with self._lock:
            answered, seconds, events = dict(self._answered), dict(self._seconds), dict(self._events)
        yield Sample(
            "catchment_gateway_in_flight", "gauge", "Requests that have no answer yet.", {}, self.in_flight
        )
        for (namespace, serving, key, status), count in sorted(answered.items()):
            labels = {"namespace": namespace, "serving": serving, "workload": key, "code": str(status)}
            described = "Inferences by workload and status; 0: no answer came."
            yield Sample("catchment_gateway_requests_total", "counter", described, labels, count)
        for (namespace, serving, key), total in sorted(seconds.items()):
            labels = {"namespace": namespace, "serving": serving, "workload": key}
            described = "Seconds until the heads of answers, all together."
            yield Sample("catchment_gateway_request_seconds_total", "counter", described, labels, total)
        for event, count in sorted(events.items()):
            described = "What else happened: retried, mirrored, unavailable, ..."
            yield Sample("catchment_gateway_events_total", "counter", described, {"event": event}, count)

    def _sums(self, place: Place) -> _Sums:
        which = place.uid, place.key
        sums = self._new.get(which)
        if sums is None:
            sums = self._new[which] = _Sums()
        return sums


class FiguresWriter:
    """A thread that writes what was counted into the store, each second in which something was.

    Args:
        store: the process's.
        counting: what to write.
        gateway: names the writer; processes of one name share rows.
    """

    def __init__(self, store: Store, counting: Counting, gateway: str = "") -> None:
        self._store = store
        self._counting = counting
        self._gateway = (gateway or socket.gethostname())[:64]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving-figures", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        self._thread.join(5)

    def flush(self) -> None:
        """Write now. What cannot be written is kept for the next time."""
        taken = self._counting.take()
        if not taken:
            return
        try:
            self._store.db.write(lambda tx: figures.add(tx, self._gateway, taken))
        except CatchmentError as error:
            self._counting.give_back(taken)
            log.warning("figures of servings are not written yet: %s", error)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._stop.wait(FLUSH_S)
            try:
                self.flush()
            except Exception:  # the edge of a thread that must not end
                log.exception("figures of servings")
