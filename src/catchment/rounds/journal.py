"""The round journal: attempts at rounds and the works of their sites, as rows."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select, update

from catchment.errors import NotFound, RoundFailed
from catchment.exchange.sites import is_online
from catchment.jobs import log
from catchment.jobs.privacy import shows_sites, site_privacy
from catchment.jobs.rows import site_topic, spec_of
from catchment.jobs.secure import is_secure, secure_order
from catchment.jobs.spec import Job
from catchment.jobs.states import RoundState, WorkState
from catchment.rounds.claim import Claim
from catchment.rounds.cohort import Candidate, site_seed
from catchment.rounds.orders import algorithms, newest_counted
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import prepared_files, rounds, sites, works
from catchment.strategies.plan import keeps_client_state
from catchment.wire.messages import Registration, Resource, WorkOrder


def latest_attempt(tx: Transaction, claim: Claim, number: int) -> Row[Any] | None:
    """The newest attempt at a round."""
    return tx.execute(
        select(rounds).where(_is_round(claim, number)).order_by(rounds.c.attempt.desc()).limit(1)
    ).first()


def failed_attempts(tx: Transaction, claim: Claim, number: int) -> list[Row[Any]]:
    """Attempts at a round that ended below the threshold, oldest first."""
    statement = select(rounds).where(_is_round(claim, number), rounds.c.state == RoundState.FAILED)
    return list(tx.execute(statement.order_by(rounds.c.attempt)))


def last_committed(tx: Transaction, uid: str, run: int) -> Row[Any] | None:
    """The newest committed round of a run."""
    return tx.execute(
        select(rounds)
        .where(rounds.c.job_uid == uid, rounds.c.run == run, rounds.c.state == RoundState.COMMITTED)
        .order_by(rounds.c.number.desc())
        .limit(1)
    ).first()


def committed(tx: Transaction, claim: Claim, number: int) -> Row[Any]:
    """A committed round. Raises NotFound."""
    row = tx.execute(
        select(rounds).where(_is_round(claim, number), rounds.c.state == RoundState.COMMITTED)
    ).first()
    if row is None:
        raise NotFound(f"round {number} of job {claim.job_id!r} is not committed")
    return row


def _is_round(claim: Claim, number: int) -> Any:
    return (rounds.c.job_uid == claim.uid) & (rounds.c.run == claim.run) & (rounds.c.number == number)


def change_round(tx: Transaction, row: Row[Any], **values: Any) -> None:
    """Set columns of one attempt."""
    tx.execute(
        update(rounds)
        .where(
            rounds.c.job_uid == row.job_uid,
            rounds.c.run == row.run,
            rounds.c.number == row.number,
            rounds.c.attempt == row.attempt,
        )
        .values(**values)
    )


def open_attempt(
    tx: Transaction,
    claim: Claim,
    number: int,
    attempt: int,
    cohort: Sequence[str],
    weights: str,
    rule: str,
    state: str | None = None,
    privacy: dict[str, Any] | None = None,
) -> None:
    """Write down a selected cohort, and the weights and the strategy's state that the attempt begins with."""
    tx.execute(
        insert(rounds).values(
            job_uid=claim.uid,
            run=claim.run,
            number=number,
            attempt=attempt,
            state=RoundState.SELECTED,
            rule=rule,
            cohort=list(cohort),
            weights=weights,
            state_before=state,
            privacy=privacy,
            selected_at=tx.now,
        )
    )
    tried = f", attempt {attempt + 1}" if attempt else ""
    told = f"cohort of {len(cohort)}{tried}: {', '.join(cohort)} ({rule})"
    log.write(tx, claim.uid, log.Line(told, run=claim.run, round=number))


_WITHOUT_ORDER = [column for column in works.c if column.name not in ("order", "log_tail")]
"""What rounds look at, again and again; what a site was told, and what it printed, is most of a row."""


def works_of(tx: Transaction, claim: Claim, number: int, attempt: int, kind: str) -> list[Row[Any]]:
    """The works of one attempt without their orders and logs, in the order of their sites' names."""
    statement = select(*_WITHOUT_ORDER).where(
        works.c.job_uid == claim.uid,
        works.c.run == claim.run,
        works.c.round == number,
        works.c.attempt == attempt,
        works.c.kind == kind,
    )
    return list(tx.execute(statement.order_by(works.c.site)))


def publish_works(
    store: Store,
    tx: Transaction,
    job_row: Row[Any],
    *,
    kind: str,
    number: int,
    attempt: int,
    cohort: Sequence[str],
    weights: str,
    deadline: float,
    state: str | None = None,
) -> None:
    """Offer one work to each site of a cohort; their agents hear of it when the transaction commits."""
    job = spec_of(job_row)
    shared = {
        "kind": kind,
        "namespace": job_row.namespace,
        "job_id": job_row.id,
        "run": job_row.run,
        "round": number,
        "attempt": attempt,
        "runtime": job.runtime,
        "weights": {"digest": weights, "size_bytes": store.blobs.size(weights)},
        "task_entry": job.task_entry,
        "scripts": job_row.sent_scripts,
        "parameters": dict(job.parameters),
        "datasets": job.dataset_names,
        "resource": Resource(**job.resource.model_dump()).model_dump(),
        "files_wanted": kind == "train" and "aggregate" in job.extender_functions and shows_sites(job),
        **algorithms(job),
        "privacy": site_privacy(job) if kind == "train" else None,
        "secure": _secure(job, job_row, number, attempt, cohort) if kind == "train" else None,
        "state": {"digest": state, "size_bytes": store.blobs.size(state)} if state else None,
        **_prepared(tx, job_row, job, number, attempt, kind),
    }
    values = []
    kept = newest_counted(tx, job_row.uid, job_row.run) if keeps_client_state(job) else {}
    if cohort:  # once: sites' orders differ in a number and in an id of ours
        WorkOrder.model_validate({**shared, "work_id": "-", "timeout_s": 0, "seed": 0, "client_state": None})
    for site in cohort:
        before = kept[site].id if site in kept else None
        order = {**shared, "seed": site_seed(job.seed or 0, number, site), "client_state": before}
        values.append(
            {
                "id": uuid.uuid4().hex,
                "job_uid": job_row.uid,
                "run": job_row.run,
                "round": number,
                "attempt": attempt,
                "kind": kind,
                "site": site,
                "state": WorkState.OFFERED,
                "order": order,
                "deadline": deadline,
                "created_at": tx.now,
                "secured": job.ssl is not None,
            }
        )
    if values:
        tx.execute(insert(works), values)
    tx.notify(*(site_topic(site) for site in cohort))


def _secure(
    job: Job, job_row: Row[Any], number: int, attempt: int, cohort: Sequence[str]
) -> dict[str, Any] | None:
    """What orders say of secure aggregation. No other attempt of any job has the same session."""
    if not is_secure(job):
        return None
    return secure_order(job, f"{job_row.uid}/{job_row.run}/{number}/{attempt}", cohort)


PARAMETERS_OF = {"train": rounds.c.training_parameters, "evaluate": rounds.c.evaluation_parameters}
"""Where the parameters are that the broadcast function returned for each kind of work."""


def _prepared(
    tx: Transaction, job_row: Row[Any], job: Job, number: int, attempt: int, kind: str
) -> dict[str, Any]:
    """What the broadcast function made for these works, as an order has it; {} without such a function."""
    if "broadcast" not in job.extender_functions:
        return {}
    (parameters,) = tx.execute(
        select(PARAMETERS_OF[kind]).where(
            rounds.c.job_uid == job_row.uid,
            rounds.c.run == job_row.run,
            rounds.c.number == number,
            rounds.c.attempt == attempt,
        )
    ).one()
    if parameters is None:
        raise RoundFailed(f"round {number} of job {job_row.id!r} cannot be published before its broadcast")
    files = tx.execute(
        select(prepared_files).where(
            prepared_files.c.job_uid == job_row.uid,
            prepared_files.c.run == job_row.run,
            prepared_files.c.round == number,
            prepared_files.c.attempt == attempt,
            prepared_files.c.kind == kind,
        )
    )
    prepared = {row.name: {"digest": row.digest, "size_bytes": row.size_bytes} for row in files}
    return {"prepared": prepared, "prepared_parameters": parameters}


def end_work(tx: Transaction, work_id: str, state: WorkState, reason: str = "", **values: Any) -> None:
    """Set how a work ended."""
    tx.execute(update(works).where(works.c.id == work_id).values(state=state, reason=reason, **values))


def end_works(tx: Transaction, ended: Sequence[tuple[str, WorkState, str, int | None]]) -> None:
    """Set how several works ended: id, state, reason, number of samples."""
    statement = update(works).where(works.c.id == bindparam("work_id"))
    names = ("work_id", "state", "reason", "num_samples")
    tx.execute(statement, [dict(zip(names, values, strict=True)) for values in ended])


def take_back(tx: Transaction, open_works: Sequence[Row[Any]], reason: str) -> None:
    """Tell sites that nobody waits for these works any more."""
    for work in open_works:
        end_work(tx, work.id, WorkState.LATE, reason, finished_at=tx.now)
    tx.notify(*(site_topic(work.site) for work in open_works))


def candidates(store: Store, tx: Transaction, uid: str) -> list[Candidate]:
    """All sites that a job could use: its simulated clients where it has such, else all real sites."""
    lease_s = store.settings.site_lease_s
    found = tx.execute(select(sites).where(sites.c.simulates == uid).order_by(sites.c.name)).all()
    if not found:
        found = tx.execute(select(sites).where(sites.c.simulates.is_(None)).order_by(sites.c.name)).all()
    return [
        Candidate(
            row.name,
            is_online(tx, row, lease_s),
            _registration(json.dumps(row.registration)),
            row.certificate,
        )
        for row in found
    ]


@functools.lru_cache(maxsize=1024)
def _registration(text: str) -> Registration:
    """Parsed once: sites seldom change, and simulated clients are all alike."""
    return Registration.model_validate_json(text)


def times_trained(tx: Transaction, claim: Claim) -> dict[str, int]:
    """How often each site's update was admitted in this run."""
    statement = (
        select(works.c.site, func.count())
        .where(
            works.c.job_uid == claim.uid,
            works.c.run == claim.run,
            works.c.kind == "train",
            works.c.state == WorkState.ADMITTED,
        )
        .group_by(works.c.site)
    )
    return {site: count for site, count in tx.execute(statement)}  # noqa: C416 - rows are no plain pairs
