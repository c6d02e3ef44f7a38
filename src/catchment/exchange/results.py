"""How a work ended, as its site says; what it is worth is decided by the round."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from catchment import faults
from catchment.errors import NotFound, TransferError
from catchment.exchange import transfer
from catchment.exchange.storable import storable
from catchment.jobs import log
from catchment.jobs.privacy import shows_sites
from catchment.jobs.rows import spec_of, topic
from catchment.jobs.states import AT_SITE, WorkState
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, works
from catchment.wire.messages import Blob, ResultAnswer, WorkResult

GIVEN = (WorkState.DELIVERED, WorkState.ADMITTED, WorkState.REJECTED, WorkState.FAILED)


def finish_work(
    store: Store, site: str, work_id: str, result: WorkResult, *, secured: bool = False
) -> ResultAnswer:
    """Take a result. Sent twice it counts once; sent too late it is answered and counts for nothing.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs a connection with mutual TLS.
        TransferError: the update or the files that the result names have not arrived.
    """
    parts: tuple[tuple[transfer.Part, Blob | None], ...] = (
        ("update", result.update),
        ("files", result.files),
    )
    for part, blob in parts:
        if result.status == "done" and blob is not None:
            transfer.keep_arrived(store, site, work_id, part, blob, secured=secured)

    def step(tx: Transaction) -> ResultAnswer:
        mine = (works.c.id == work_id) & (works.c.site == site)
        uid = tx.execute(select(works.c.job_uid).where(mine)).scalar()
        if uid is not None:
            log.lock(tx, uid)
        work = tx.execute(select(works).where(mine).with_for_update()).first()
        if work is None:
            raise NotFound(f"site {site!r} has no work {work_id!r}")
        transfer.require_secured(work, secured)
        if work.state in GIVEN:
            return ResultAnswer(accepted=True, reason="this result was given before")
        if work.state not in AT_SITE:
            return ResultAnswer(accepted=False, reason=work.reason or f"the work is {work.state}")
        if result.status == "done" and result.update is not None and work.update != result.update.digest:
            raise TransferError(f"update {result.update.digest} has not arrived; upload it first")
        if result.status == "done" and result.files is not None and work.files != result.files.digest:
            raise TransferError(f"files {result.files.digest} have not arrived; upload them first")
        values = _values(result, tx.now)
        job = tx.execute(select(jobs).where(jobs.c.uid == work.job_uid)).first()
        shown = job is None or shows_sites(spec_of(job))
        if not shown:
            values["log_tail"] = ""  # a script may print anything, and the site alone may read it
        tx.execute(update(works).where(works.c.id == work_id).values(**values))
        log.write(tx, work.job_uid, *_told(work, result, values, shown=shown))
        tx.notify(topic(work.job_uid))
        return ResultAnswer(accepted=True)

    answer = store.db.write(step)
    faults.reach("after_result")
    return answer


def _values(result: WorkResult, now: float) -> dict[str, Any]:
    done = result.status == "done"
    return {
        "state": WorkState.DELIVERED if done else WorkState.FAILED,
        "reason": storable(result.reason) if result.reason or done else "the site gave no reason",
        "metrics": storable(result.metrics),
        "parameters": storable(result.parameters),
        "log_tail": storable(result.log_tail),
        "seconds": result.seconds,
        "finished_at": now,
    }


def _told(work: Row[Any], result: WorkResult, values: dict[str, Any], *, shown: bool) -> list[log.Line]:
    """What the job's log says of a result: the end of the script's output, and what became of it."""
    level: log.Level = "info" if result.status == "done" else "error"
    lines = log.tail(values["log_tail"], level=level, source=work.site, run=work.run, round_number=work.round)
    done = "trained" if work.kind == "train" else "evaluated"
    words = f"{work.kind} failed: {values['reason']}"
    if result.status == "done":
        numbers = (log.numbers(values["metrics"]) or "no metrics") if shown else "its metrics are not shown"
        words = f"{done} in {result.seconds:.2f} s: {numbers}"
    return [*lines, log.Line(words, level, work.site, work.run, work.round)]
