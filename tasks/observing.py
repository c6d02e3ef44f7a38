"""What flows and tasks tell of themselves: the spans of a run, and what its log lines are about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect.runtime import flow_run

from catchment.observe import logs, trace
from catchment.observe.trace import Nothing, Span
from catchment.rounds.claim import Claim


@contextlib.contextmanager
def observed(name: str, claim: Any, number: int | None = None) -> Iterator[Span | Nothing]:
    """A step: a span below the one around it, and what its log lines are about.

    Args:
        name: of the step.
        claim: of a job, a ModelJob or a rollout.
        number: of the round, where it has one.
    """
    about = _about(claim) | ({"round": number} if number is not None else {})
    told = {"round": number} if number is not None else {}
    with logs.about(**about), trace.span(name, job=subject(claim), **told) as here:
        yield here


@contextlib.contextmanager
def observed_run(name: str, claim: Any) -> Iterator[Span | Nothing]:
    """A flow run. One that is resumed is the same span, which whoever ends it records.

    A run that is put aside, and goes on in another process, must `drop` the span.
    """
    run_id, of = str(flow_run.id), subject(claim)
    about = _about(claim)
    told = {"flow_run": run_id, "job_id": about["job"], "namespace": claim.namespace}
    span = trace.span(name, place=trace.of_flow(of, run_id), parent=trace.of(of), **told)
    if span.recorded:
        span.began(_first_begun())
    with logs.about(run_id=run_id, **about), span:
        yield span


@contextlib.contextmanager
def observed_round(claim: Claim, number: int, began: float | None) -> Iterator[Span | Nothing]:
    """A round: its span has an id that sites are told before it begins here.

    Args:
        claim: of the job.
        number: of the round.
        began: when its cohort was selected, perhaps by the commit of the round before; None: not yet.
    """
    place = trace.of_round(claim.uid, claim.run, number)
    parent = trace.of_flow(claim.uid, claim.owner.rpartition(":")[0])
    span = trace.span("round", place=place, parent=parent, run=claim.run, round=number)
    span.began(began)
    with logs.about(round=number), span:
        yield span


def subject(claim: Any) -> str:
    """What a claim's trace is that of: the job, the ModelJob, one rollout of a serving."""
    number = getattr(claim, "number", None)
    return str(claim.uid) if number is None else trace.subject(claim.uid, number)


def _about(claim: Any) -> dict[str, Any]:
    name = claim.job_id if isinstance(claim, Claim) else claim.name
    return {"job": name, "namespace": claim.namespace}


def _first_begun() -> float | None:
    """When the flow run began for the first time."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    began = context.flow_run.start_time if context is not None and context.flow_run is not None else None
    return began.timestamp() if began is not None else None
