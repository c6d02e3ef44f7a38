"""Retraining: Catchment's own operations on runs of the flow `retrain`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse, Response

from api import retraining_schemas, schemas
from api.bodies import job_body
from api.deps import ContextDep, User
from api.errors import face
from catchment.errors import InvalidField
from catchment.retraining import runs

RUNS = "/api/v1/namespaces/{namespace}/retrain"
ONE = RUNS + "/{run}"
KEY_CHARACTERS = 255
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": words}
    for code, words in {
        400: "A field is wrong; `field` names it.",
        404: "There is no such namespace or run.",
        409: "The Idempotency-Key was used for another plan.",
        413: "The plan has more bytes than are taken.",
        503: "Prefect does not answer.",
    }.items()
}
SENT = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RetrainPlan"}}},
    }
}

router = APIRouter(tags=["retraining"], dependencies=[User])
Body = Annotated[object, Depends(job_body)]
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", description="The same key and plan again give the same run.")
]


@router.post(
    RUNS,
    status_code=202,
    response_model=retraining_schemas.RetrainRun,
    responses=PROBLEMS,
    openapi_extra=SENT,
)
@face("own")
def start_retraining(here: ContextDep, namespace: str, body: Body, key: Key = None) -> JSONResponse:
    """Train a model again, and roll it out if it is better than what serves. Its state is at Location."""
    if key is not None and not (0 < len(key) <= KEY_CHARACTERS and key.isprintable()):
        raise InvalidField("Idempotency-Key", f"must be 1 to {KEY_CHARACTERS} printable characters")
    found = runs.start(here.store, here.launcher, namespace, body, key)
    location = f"{RUNS.format(namespace=namespace)}/{found['id']}"
    return JSONResponse(found, 202, {"Location": location})


@router.get(
    ONE, response_model=retraining_schemas.RetrainRun, responses={code: PROBLEMS[code] for code in (404, 503)}
)
@face("own")
def get_retraining(here: ContextDep, namespace: str, run: str) -> JSONResponse:
    """How a run goes, or went, and what it has made."""
    return JSONResponse(runs.get(here.store, here.launcher, namespace, run))


@router.put(
    ONE + ":stop",
    status_code=204,
    response_class=Response,
    responses={code: PROBLEMS[code] for code in (404, 503)},
)
@face("own")
def stop_retraining(here: ContextDep, namespace: str, run: str) -> Response:
    """Stop a run, and its job, ModelJob or rollout; one that has ended stays as it is."""
    runs.stop(here.store, here.launcher, namespace, run)
    here.supervisor.wake()
    return Response(status_code=204)
