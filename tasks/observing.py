"""What flows and tasks tell of themselves: the spans of a run, and what its log lines are about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect.runtime import flow_run

from catchment.model_jobs.claim import ModelJobClaim
from catchment.observe import logs, trace
from catchment.rounds.claim import Claim


@contextlib.contextmanager
def observed(name: str, claim: Claim | ModelJobClaim, number: int | None = None) -> Iterator[None]:
    """A step: a span of the job's trace, with the job in its log lines; below the span around it."""
    about = {"job": claim.job_id if isinstance(claim, Claim) else claim.name, "namespace": claim.namespace}
    if number is not None:
        about["round"] = number
    with logs.about(**about), trace.span(name, job=claim.uid, **({"round": number} if number else {})):
        yield


@contextlib.contextmanager
def observed_run(name: str, claim: Claim | ModelJobClaim) -> Iterator[None]:
    """A flow run of a job. One that is resumed is the same span, which whoever ends it records."""
    run_id = str(flow_run.id)
    about = {"job": claim.job_id if isinstance(claim, Claim) else claim.name, "namespace": claim.namespace}
    first = trace.of(claim.uid)
    place = trace.of_flow(claim.uid, run_id)
    told = {"flow_run": run_id, "job_id": about["job"], "namespace": claim.namespace}
    span = trace.span(name, place=place, parent=first, **told)
    if span.recorded and (began := _first_begun()) is not None:
        span.began(began)
    with logs.about(run_id=run_id, **about), span:
        yield


@contextlib.contextmanager
def observed_round(claim: Claim, number: int, began: float | None) -> Iterator[None]:
    """A round: its span has an id that sites are told before it begins here.

    Args:
        claim: of the job.
        number: of the round.
        began: when its cohort was selected, perhaps by the commit of the round before; None: not yet.
    """
    place = trace.of_round(claim.uid, claim.run, number)
    parent = trace.of_flow(claim.uid, claim.owner.rpartition(":")[0])
    span = trace.span("round", place=place, parent=parent, job=claim.uid, run=claim.run, round=number)
    span.began(began)
    with logs.about(round=number), span:
        yield


def _first_begun() -> float | None:
    """When the flow run began for the first time."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    began = context.flow_run.start_time if context is not None and context.flow_run is not None else None
    return began.timestamp() if began is not None else None
