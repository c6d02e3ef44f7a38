"""Jobs and rounds as the API shows them."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Row, select

from catchment.jobs import namespaces, rows, spent
from catchment.jobs.privacy import shows_sites
from catchment.jobs.states import RoundState
from catchment.jobs.times import rfc3339, rfc3339_or_none
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints, jobs, rounds, works

T = TypeVar("T")


def job_view(
    row: Row[Any], checkpoint_list: dict[str, Any], privacy: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The document's Job: what was sent with defaults filled in, and what the server knows."""
    return {
        **row.spec,
        "namespace": row.namespace,
        "create_time": rfc3339(row.created_at),
        "start_time": rfc3339_or_none(row.started_at),
        "finish_time": rfc3339_or_none(row.finished_at),
        "status": {"state": row.state, "reason": row.reason, "progress": row.progress},
        "checkpoints": checkpoint_list,
        "run": row.run,
        "flow_run_id": row.flow_run_id,
        **({"privacy": privacy} if privacy is not None else {}),
    }


def one_view(tx: Transaction, row: Row[Any]) -> dict[str, Any]:
    """A single job."""
    return _views(tx, [row])[0]


def _views(tx: Transaction, page: list[Row[Any]]) -> list[dict[str, Any]]:
    uids = [row.uid for row in page]
    # One statement over the namespace beats ten thousand ids in one IN list.
    lists = {uid: found for part in _parts(uids) for uid, found in checkpoints_of(tx, part).items()}
    private = [(row, rows.spec_of(row)) for row in page if "secure_algorithm" in row.spec]
    costs = {uid: found for part in _parts(private) for uid, found in spent.privacy_views(tx, part).items()}
    return [job_view(row, lists.get(row.uid, {}), costs.get(row.uid)) for row in page]


def checkpoints_of(tx: Transaction, uids: list[str]) -> dict[str, dict[str, Any]]:
    """The document's CheckpointsList of each job; accuracy is null where no site reported one."""
    found = tx.execute(
        select(checkpoints).where(checkpoints.c.job_uid.in_(uids)).order_by(checkpoints.c.number)
    )
    lists: dict[str, dict[str, Any]] = {}
    for row in found:
        lists.setdefault(row.job_uid, {})[f"checkpoint_v{row.number}"] = {
            "accuracy": row.accuracy,
            "path": row.path,
        }
    return lists


def list_view(
    tx: Transaction, namespace: str, state: str | None, offset: int, limit: int | None
) -> list[dict[str, Any]]:
    """A page of a namespace's jobs, oldest first."""
    namespaces.require(tx, namespace)
    statement = select(jobs).where(jobs.c.namespace == namespace)
    if state is not None:
        statement = statement.where(jobs.c.state == state)
    page = tx.execute(statement.order_by(jobs.c.created_at, jobs.c.uid).offset(offset).limit(limit)).all()
    return _views(tx, list(page))


def _parts(items: list[T], size: int = 500) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def rounds_view(tx: Transaction, uid: str, run: int, number: int | None = None) -> list[dict[str, Any]]:
    """Each attempt at each round (or at one), with what every site did.

    Under a secure algorithm without its sample numbers and metrics: those are the site's own data.
    """
    shown = shows_sites(rows.spec_of(rows.by_uid(tx, uid)))
    mine = [
        (rounds.c.job_uid == uid) & (rounds.c.run == run),
        (works.c.job_uid == uid) & (works.c.run == run),
    ]
    if number is not None:
        mine = [mine[0] & (rounds.c.number == number), mine[1] & (works.c.round == number)]
    found = tx.execute(select(rounds).where(mine[0]).order_by(rounds.c.number, rounds.c.attempt)).all()
    outcomes: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for work in tx.execute(select(works).where(mine[1]).order_by(works.c.site)):
        outcomes.setdefault((work.round, work.attempt, work.kind), []).append(_outcome(work, shown=shown))
    return [
        round_view(
            row,
            outcomes.get((row.number, row.attempt, "train"), []),
            outcomes.get((row.number, row.attempt, "evaluate"), []),
        )
        for row in found
    ]


def round_view(
    row: Row[Any], training: list[dict[str, Any]], evaluation: list[dict[str, Any]]
) -> dict[str, Any]:
    """One attempt's report."""
    ended = row.committed_at or (row.collected_at if row.state == RoundState.FAILED else None)
    return {
        "run": row.run,
        "round": row.number,
        "attempt": row.attempt,
        "state": row.state,
        "reason": row.reason,
        "rule": row.rule,
        "cohort": row.cohort,
        "started_at": rfc3339(row.published_at or row.selected_at),
        "seconds": _between(row.published_at or row.selected_at, ended),
        "phases": {
            "publish": _between(row.selected_at, row.published_at),
            "collect": _between(row.published_at, row.collected_at),
            "aggregate": _between(row.collected_at, row.committed_at),
            "evaluate": _between(row.committed_at, row.evaluated_at),
        },
        "strategy": row.strategy,
        "training_metrics": row.training_metrics,
        "metrics": row.metrics,
        "privacy": row.privacy,
        "sites": training,
        "evaluation": evaluation,
    }


def _outcome(work: Row[Any], *, shown: bool) -> dict[str, Any]:
    return {
        "site": work.site,
        "outcome": work.state,
        "reason": work.reason,
        "num_samples": work.num_samples if shown else None,
        "seconds": round(work.seconds, 3),
        "bytes": work.update_bytes + work.files_bytes,
        "metrics": work.metrics if shown else None,
    }


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
