"""A job's log: what the coordinator did and decided, and the ends of what the sites' scripts printed.

Lines are numbered from 1 without gaps, in the order in which they became visible: the number is drawn with
a lock on the job's row. So whoever has seen line n misses nothing by asking for the lines after n.
A job keeps its newest MAX_LINES. Lock the job before its works, as everybody does who writes here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, insert, select, update

from catchment.jobs import rows
from catchment.jobs.states import BUSY, JobState
from catchment.jobs.times import rfc3339
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import job_logs, jobs

Level = Literal["info", "warning", "error"]
COORDINATOR = "coordinator"
MAX_LINES = 10_000
MAX_CHARACTERS = 2000
"""Of one line; what is longer is cut."""
PAGE = 1000
TAIL_LINES = 5
"""So many last lines of a script that ended well are kept; of one that failed all that its site sent."""
_TOKEN = re.compile(r"catchment_[0-9a-f]{16}_[\w-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""What no line may hold: ends of lines, NUL, escape sequences of terminals, halves of characters."""


@dataclass(frozen=True)
class Line:
    """One line to be written.

    Attributes:
        source: COORDINATOR, or the name of the site that it comes from.
        run, round: what it is about; 0 and None: the job as a whole.
    """

    text: str
    level: Level = "info"
    source: str = COORDINATOR
    run: int = 0
    round: int | None = None


@dataclass(frozen=True)
class Page:
    """Some lines of a log, newest last, as the API shows them.

    Attributes:
        next: the number to ask for lines after.
        more: whether there are more lines already.
        state: of the job when it was looked at; None: the job is gone.
        reason: the job's.
    """

    lines: tuple[dict[str, Any], ...]
    next: int
    more: bool
    state: JobState | None
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether no further line comes by itself: the job rests, or is gone."""
        return not self.more and self.state not in (*BUSY, JobState.QUEUED)


def write(tx: Transaction, uid: str, *lines: Line) -> None:
    """Add lines to a job's log; nothing happens for a job that is gone. Watchers hear of it."""
    if not lines:
        return
    counted = update(jobs).where(jobs.c.uid == uid).values(log_lines=jobs.c.log_lines + len(lines))
    last = tx.execute(counted.returning(jobs.c.log_lines)).scalar()
    if last is None:
        return
    first = last - len(lines) + 1
    values = [
        {
            "job_uid": uid,
            "number": number,
            "at": tx.now,
            "level": line.level,
            "source": line.source,
            "run": line.run,
            "round": line.round,
            "text": clean(line.text),
        }
        for number, line in enumerate(lines, first)
    ]
    tx.execute(insert(job_logs), values)
    if last > MAX_LINES:
        old = (job_logs.c.job_uid == uid) & (job_logs.c.number <= last - MAX_LINES)
        tx.execute(delete(job_logs).where(old))
    tx.notify(rows.topic(uid))


def lock(tx: Transaction, uid: str) -> None:
    """Lock the job's row, for those who go on to lock works and then write here."""
    tx.execute(select(jobs.c.uid).where(jobs.c.uid == uid).with_for_update())


def clean(text: str) -> str:
    """The text as one line of bounded length, without what looks like one of our tokens."""
    line = _CONTROL.sub(" ", _TOKEN.sub("catchment_***", text)).rstrip()
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def tail(text: str, *, level: Level, source: str, run: int, round_number: int) -> list[Line]:
    """The end of a script's output as lines: a few after a success, all of it after a failure."""
    # A progress bar writes one line again and again; what it ended with is what counts.
    printed = [part.rpartition("\r")[2] for part in text.replace("\r\n", "\n").split("\n")]
    kept = [part for part in printed if part.strip()]
    if level == "info":
        kept = kept[-TAIL_LINES:]
    return [Line(part, level, source, run, round_number) for part in kept]


def numbers(metrics: Mapping[str, Any] | None) -> str:
    """Metrics in words: "accuracy 0.9123, loss 0.25, 120 samples"; "" without any."""
    found = dict(metrics or {})
    samples = found.pop("sample_num", None)
    told = [
        f"{name} {value:.4g}"
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ][:8]
    return ", ".join([*told, *([f"{samples} samples"] if samples is not None else [])])


def uid_of(store: Store, namespace: str, job_id: str) -> str:
    """Identity of the job that has this id now. Raises NotFound."""
    return str(store.db.read(lambda tx: rows.require(tx, namespace, job_id).uid))


def read(
    store: Store,
    uid: str,
    *,
    after: int | None = None,
    limit: int = PAGE,
    round_number: int | None = None,
    source: str | None = None,
) -> Page:
    """Lines of a job, newest last.

    Args:
        store: holds them.
        uid: of the job.
        after: the oldest lines with higher numbers; None: the newest lines.
        limit: at most so many lines.
        round_number: only lines about this round.
        source: only lines of this site, or of COORDINATOR.
    """
    wanted = job_logs.c.job_uid == uid
    if after is not None:
        wanted &= job_logs.c.number > after
    if round_number is not None:
        wanted &= job_logs.c.round == round_number
    if source is not None:
        wanted &= job_logs.c.source == source
    order = job_logs.c.number.desc() if after is None else job_logs.c.number
    statement = select(job_logs).where(wanted).order_by(order).limit(limit + 1)

    def step(tx: Transaction) -> Page:
        job = tx.execute(
            select(jobs.c.state, jobs.c.reason, jobs.c.log_lines).where(jobs.c.uid == uid)
        ).first()
        if job is None:
            return Page((), after or 0, False, None)
        found = tx.execute(statement).all()
        more = after is not None and len(found) > limit
        shown = found[:limit] if after is not None else found[:limit][::-1]
        # Lines that a filter leaves out need not be looked at again.
        last = shown[-1].number if more else max(after or 0, job.log_lines)
        return Page(tuple(map(_view, shown)), last, more, JobState(job.state), job.reason)

    return store.db.read(step)


def _view(row: Any) -> dict[str, Any]:
    return {
        "number": row.number,
        "at": rfc3339(row.at),
        "level": row.level,
        "source": row.source,
        "run": row.run or None,
        "round": row.round,
        "text": row.text,
    }
