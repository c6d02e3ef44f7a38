"""Following a job until it ends: asking again when its log says that there is news, or after a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from catchment.client.client import Client
from catchment.client.following import LogWatch
from catchment.client.results import Job, Outage, Round
from catchment.errors import Unreachable

SHORTEST_PAUSE_S = 0.4
LONGEST_PAUSE_S = 1.0
LONGEST_OUTAGE_PAUSE_S = 5.0
TOLD_PAUSE_S = 5.0
"""Where the server tells of news, it is asked so seldom without any."""


@dataclass(frozen=True)
class JobChanged:
    """State, reason or progress of the job is another one; the first event of every watch."""

    job: Job


@dataclass(frozen=True)
class RoundDone:
    """One attempt at a round is over: committed, with its evaluation where one was due, or failed."""

    round: Round


WatchEvent = JobChanged | RoundDone | Outage


def watch(
    client: Client,
    namespace: str,
    job_id: str,
    *,
    tolerate_outage_s: float = 60.0,
    stop: threading.Event | None = None,
    live: bool = False,
) -> Iterator[WatchEvent]:
    """Events of the job from its first round on, until it has ended or `stop` is set.

    The last event is always a JobChanged with a job that has `ended`, unless `stop` was set.

    Args:
        client: reaches the server.
        namespace: of the job.
        job_id: of the job.
        tolerate_outage_s: how long the server may be away before the watch gives up.
        stop: ends the watch early, from another thread.
        live: listen to the job's log, and ask when it says something, instead of at short intervals.

    Raises:
        NotFound: there is no such job, or it was deleted meanwhile.
        Unreachable: the server does not answer at first, or was away for longer than tolerated.
    """
    stop = stop or threading.Event()
    if not live:
        yield from _watch(client, namespace, job_id, tolerate_outage_s, stop, None)
        return
    with LogWatch(client, namespace, job_id) as news:
        yield from _watch(client, namespace, job_id, tolerate_outage_s, stop, news)


def _watch(
    client: Client,
    namespace: str,
    job_id: str,
    tolerate_outage_s: float,
    stop: threading.Event,
    news: LogWatch | None,
) -> Iterator[WatchEvent]:
    seen = _Seen()
    pause_s = SHORTEST_PAUSE_S
    lost_at: float | None = None
    while not stop.is_set():
        try:
            job = client.get_job(namespace, job_id)
            rounds = client.rounds(namespace, job_id, run=job.run) if job.run else []
        except Unreachable as error:
            now = time.monotonic()
            lost_at = lost_at or now
            if not seen.shown or now - lost_at >= tolerate_outage_s:
                raise
            yield Outage(str(error), now - lost_at)
            pause_s = min(pause_s * 1.5, LONGEST_OUTAGE_PAUSE_S)
        else:
            if lost_at is not None:
                yield Outage(None, time.monotonic() - lost_at)
                lost_at = None
            events = list(seen.news(job, rounds))
            yield from events
            if job.ended:
                return
            pause_s = SHORTEST_PAUSE_S if events else min(pause_s * 1.2, LONGEST_PAUSE_S)
        _pause(pause_s, stop, news if lost_at is None else None)


def _pause(pause_s: float, stop: threading.Event, news: LogWatch | None) -> None:
    """Wait before the next question: until there is news, where somebody tells."""
    if news is None or not news.works:
        stop.wait(pause_s)
        return
    deadline = time.monotonic() + TOLD_PAUSE_S
    while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        if news.wait(min(left, SHORTEST_PAUSE_S)):
            return


@dataclass
class _Seen:
    """What was told already."""

    shown: tuple[object, ...] = ()
    rounds: set[tuple[int, int, int]] = field(default_factory=set)

    def news(self, job: Job, rounds: list[Round]) -> Iterator[WatchEvent]:
        """What is new; rounds come before the job's end, so that the end is always last."""
        shown = (job.state, job.reason, job.progress, job.run)
        changed = shown != self.shown
        self.shown = shown
        if changed and not job.ended:
            yield JobChanged(job)
        committed = max((one.number for one in rounds if one.state == "committed"), default=0)
        for one in rounds:
            key = (one.run, one.number, one.attempt)
            if key not in self.rounds and _is_done(one, job, committed):
                self.rounds.add(key)
                yield RoundDone(one)
        if changed and job.ended:
            yield JobChanged(job)


def _is_done(one: Round, job: Job, committed: int) -> bool:
    """A committed round counts as done once its evaluation is over, or will not come."""
    if one.state in {"failed", "abandoned"}:
        return True
    if one.state != "committed":
        return False
    # Evaluations come in order, so a later round behind the next one says that this one's is over, too.
    over = one.evaluation_seconds is not None or committed >= one.number + 2
    return job.ended or over or not _evaluation_is_due(one, job)


def _evaluation_is_due(one: Round, job: Job) -> bool:
    """As the document says: every evaluate_interval rounds, before each save, and after the last round."""
    hyper = job.document.get("hyper_parameters") or {}
    defaults = {"evaluate_interval": 2, "save_interval": 5}
    intervals = [int(hyper.get(name) or default) for name, default in defaults.items()]
    last = one.number == int(hyper.get("max_round_num") or 10)
    return last or any(one.number % interval == 0 for interval in intervals)
