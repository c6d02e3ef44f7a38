"""The registry's documented operations on ModelJobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import schemas
from api.bodies import small_body
from api.deps import ActorDep, ContextDep, StoreDep, User
from api.errors import face
from api.routes.registry import FAILS, LARGE
from catchment.formats.convert import listing
from catchment.formats.convert.environments import Environments
from catchment.model_jobs import manager
from catchment.model_jobs.body import read_body

NAMESPACE = "/api/v1alpha1/namespaces/{namespace}"
JOBS = NAMESPACE + "/modeljobs"
ONE = JOBS + "/{modeljobID}"

router = APIRouter(tags=["modeljobs"], dependencies=[User])
Page = Annotated[int, Query(ge=0, le=2**31 - 1)]
Name = Annotated[str, Path(alias="modeljobID")]


async def tree(request: Request) -> object:
    """The body's JSON or YAML. Raises InvalidField, TooLarge."""
    raw = await small_body(request)
    return await run_in_threadpool(read_body, raw, request.headers.get("content-type", ""))


Body = Annotated[object, Depends(tree)]
SENT = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/ModelJob"}}
            for kind in ("application/json", "application/yaml")
        },
    }
}


@router.post(JOBS, status_code=201, response_class=Response, responses={**FAILS, **LARGE}, openapi_extra=SENT)
@face("registry")
def create_model_job(here: ContextDep, actor: ActorDep, namespace: str, body: Body) -> Response:
    """Create a ModelJob; its name is in Location."""
    name = manager.create(here.store, namespace, body, actor)
    here.supervisor.wake()
    location = f"{JOBS.format(namespace=namespace)}/{name}"
    return Response(status_code=201, headers={"Location": location})


@router.get(JOBS, response_model=schemas.ModelJobList, responses=FAILS)
@face("registry")
def list_model_jobs(
    store: StoreDep,
    namespace: str,
    label: Annotated[
        str | None,
        Query(alias="filter", description='A label that must be "true"; extract, convert for short.'),
    ] = None,
    start: Page = 0,
    limit: Page | None = None,
) -> JSONResponse:
    """The ModelJobs of a namespace, by name."""
    return JSONResponse(manager.list_page(store, namespace, label=label, start=start, limit=limit))


@router.get(ONE, response_model=schemas.ModelJob, responses=FAILS)
@face("registry")
def get_model_job(store: StoreDep, namespace: str, name: Name) -> JSONResponse:
    """A ModelJob with its phase, and what its steps have found."""
    return JSONResponse(manager.get(store, namespace, name))


@router.delete(ONE, status_code=204, response_class=Response, responses=FAILS)
@face("registry")
def delete_model_job(here: ContextDep, namespace: str, name: Name) -> Response:
    """Stop a ModelJob and remove it; what it has pushed stays."""
    manager.request_delete(here.store, namespace, name)
    here.supervisor.wake()
    return Response(status_code=204)


@router.get(ONE + "/events", response_model=schemas.EventList, responses=FAILS)
@face("registry")
def list_model_job_events(
    store: StoreDep,
    namespace: str,
    name: Name,
    start: Page = 0,
    limit: Page | None = None,
) -> JSONResponse:
    """A ModelJob's events, oldest first: one for each transition and each step."""
    return JSONResponse(manager.events(store, namespace, name, start=start, limit=limit))


@router.get("/api/v1/conversion/backends", response_model=schemas.ConversionBackends)
@face("own")
def list_conversion_backends(here: ContextDep) -> JSONResponse:
    """What converts models, and whether it is available on the API's machine; nothing is built by asking."""
    environments = Environments(here.settings.effective_environments_dir)
    return JSONResponse({"backends": listing.backends(environments)})
