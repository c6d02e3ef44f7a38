"""The documented operations on jobs, and the report of their rounds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from starlette.convertors import StringConvertor, register_url_convertor

from api import schemas
from api.bodies import job_body
from api.deps import Context, ContextDep, StoreDep, User
from api.errors import face
from catchment.errors import NotFound
from catchment.jobs import lifecycle
from catchment.jobs.states import JobState
from catchment.jobs.supervise import launch

SUCCESSFUL = {"state": "SUCCESSFUL"}
REFUSED: dict[int | str, dict[str, Any]] = {
    403: {"model": schemas.HttpResponse, "description": "Refused; the reason names the field."}
}
FAILS: dict[int | str, dict[str, Any]] = {
    401: {"model": schemas.HttpResponse, "description": "Tokens are required, and this is none."},
    500: {"model": schemas.HttpResponse, "description": "Internal server error."},
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": schemas.HttpResponse, "description": "There is no such job or namespace."}
}
PROBLEM: dict[int | str, dict[str, Any]] = {
    404: {"model": schemas.Problem, "description": "There is no such job."}
}
JOB = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
    }
}
JOBS = "/api/v1/namespaces/{namespace}/jobs"
ONE = JOBS + "/{job_id:job_id}"


class JobSegment(StringConvertor):
    """A job's id in a path: what follows a colon is an operation on the job."""

    regex = "[^/:]+"


register_url_convertor("job_id", JobSegment())

router = APIRouter(tags=["jobs"], dependencies=[User])
Body = Annotated[object, Depends(job_body)]
Page = Annotated[int, Query(ge=0, le=2**31 - 1)]


@router.post(
    JOBS,
    status_code=201,
    response_model=schemas.HttpResponse,
    responses={**REFUSED, **FAILS},
    openapi_extra=JOB,
)
@face("change")
def create_job(here: ContextDep, namespace: str, body: Body, start: bool = False) -> JSONResponse:
    """Create a job; with `start=true` start it too."""
    lifecycle.create_job(here.store, namespace, body)
    if start and isinstance(body, dict):
        _start(here, namespace, body["id"])
    return JSONResponse(SUCCESSFUL, 201)


@router.get(JOBS, response_model=schemas.JobList, responses=FAILS)
@face("read")
def list_jobs(
    store: StoreDep,
    namespace: str,
    state: JobState | None = None,
    offset: Page = 0,
    limit: Page | None = None,
) -> JSONResponse:
    """The jobs of a namespace, oldest first; empty for a namespace that does not exist."""
    try:
        jobs = lifecycle.list_jobs(store, namespace, state=state, offset=offset, limit=limit)
    except NotFound:  # the document has no error for it
        jobs = []
    return JSONResponse({"jobs": jobs})


@router.get(ONE, response_model=schemas.Job, responses={**MISSING, **FAILS})
@face("read")
def get_job(store: StoreDep, namespace: str, job_id: str) -> JSONResponse:
    """A job with its status and checkpoints."""
    return JSONResponse(lifecycle.get_job(store, namespace, job_id))


@router.put(ONE, response_model=schemas.HttpResponse, responses={**REFUSED, **FAILS}, openapi_extra=JOB)
@face("change")
def update_job(store: StoreDep, namespace: str, job_id: str, body: Body) -> JSONResponse:
    """Replace a job's specification; refused while it runs."""
    lifecycle.update_job(store, namespace, job_id, body)
    return JSONResponse(SUCCESSFUL)


@router.delete(ONE, response_model=schemas.HttpResponse, responses=FAILS)
@face("change")
def delete_job(here: ContextDep, namespace: str, job_id: str) -> JSONResponse:
    """Stop a job and remove it with all that it made; fine when it is not there."""
    lifecycle.request_delete(here.store, namespace, job_id)
    here.supervisor.wake()
    return JSONResponse(SUCCESSFUL)


@router.put(ONE + ":start", response_model=schemas.HttpResponse, responses={**REFUSED, **FAILS})
@face("change")
def start_job(here: ContextDep, namespace: str, job_id: str, fresh: bool = False) -> JSONResponse:
    """Start a job: after a failure or stop at its last committed round, with `fresh=true` from the beginning.

    Nothing happens when it runs already.
    """
    _start(here, namespace, job_id, fresh=fresh)
    return JSONResponse(SUCCESSFUL)


@router.put(ONE + ":stop", response_model=schemas.HttpResponse, responses={**REFUSED, **FAILS})
@face("change")
def stop_job(here: ContextDep, namespace: str, job_id: str) -> JSONResponse:
    """Ask a job to stop; it is STOPPED a moment later."""
    lifecycle.request_stop(here.store, namespace, job_id)
    here.supervisor.wake()
    return JSONResponse(SUCCESSFUL)


@router.get(ONE + "/rounds", response_model=schemas.RoundList, responses=PROBLEM)
@face("own")
def list_rounds(store: StoreDep, namespace: str, job_id: str, run: Page | None = None) -> JSONResponse:
    """What happened in each round of a run: times, metrics, and every site's outcome."""
    return JSONResponse({"rounds": lifecycle.job_rounds(store, namespace, job_id, run=run)})


def _start(here: Context, namespace: str, job_id: str, *, fresh: bool = False) -> None:
    """Start, and make the flow run at once; where Prefect does not answer, the supervisor goes on trying."""
    start = lifecycle.request_start(here.store, namespace, job_id, fresh=fresh)
    if start is not None:
        launch(here.store, here.launcher, start)
