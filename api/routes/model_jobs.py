"""The registry's documented operations on ModelJobs, and the pods that they are to its clients."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import schemas
from api.bodies import small_body
from api.deps import ActorDep, ContextDep, StoreDep, User
from api.errors import face
from api.routes.registry import FAILS
from catchment.formats.convert import listing
from catchment.formats.convert.environments import Environments
from catchment.model_jobs import manager, pods, spec

NAMESPACE = "/api/v1alpha1/namespaces/{namespace}"
JOBS = NAMESPACE + "/modeljobs"
ONE = JOBS + "/{modeljobID}"
PODS = NAMESPACE + "/pods"

router = APIRouter(tags=["modeljobs"], dependencies=[User])
Page = Annotated[int, Query(ge=0, le=2**31 - 1)]
Name = Annotated[str, Path(alias="modeljobID")]
Pod = Annotated[str, Path(alias="podID")]


async def tree(request: Request) -> object:
    """The body's JSON or YAML. Raises InvalidField."""
    raw = await small_body(request)
    return await run_in_threadpool(spec.read_body, raw, request.headers.get("content-type", ""))


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


@router.post(JOBS, status_code=201, response_class=Response, responses=FAILS, openapi_extra=SENT)
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


@router.get(PODS, response_model=schemas.PodList, responses=FAILS)
@face("registry")
def list_pods(
    store: StoreDep,
    namespace: str,
    filter_by: Annotated[str, Query(alias="filterBy", description="label=value, such as job-name=x.")] = "",
) -> JSONResponse:
    """What the namespace's ModelJobs run in, as a Kubernetes PodList."""
    return JSONResponse(pods.list_pods(store, namespace, filter_by))


def selection(
    timestamp: Annotated[str, Query(alias="reftimestamp")] = "newest",
    line_num: Annotated[str, Query(alias="reflineNum")] = "0",
    offset_from: Annotated[str, Query(alias="offsetFrom")] = "",
    offset_to: Annotated[str, Query(alias="offsetTo")] = "",
    position: Annotated[str, Query(alias="logFilePosition")] = "end",
    _previous: Annotated[str, Query(alias="userPreviousLogs")] = "",
) -> pods.Selection:
    """Which lines are wanted; the last hundred unless both offsets are whole numbers."""
    offsets = [_whole(offset_from), _whole(offset_to)]
    if None in offsets:
        return pods.Selection()
    return pods.Selection(
        timestamp,
        _whole(line_num) or 0,
        int(offsets[0] or 0),
        int(offsets[1] or 0),
        "beginning" if position == "beginning" else "end",
    )


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


@router.get(PODS + "/{podID}/logs", response_model=schemas.LogDetails, responses=FAILS)
@face("registry")
def get_pod_logs(
    store: StoreDep,
    namespace: str,
    pod: Pod,
    wanted: Annotated[pods.Selection, Depends(selection)],
    container: Annotated[str | None, Query(alias="containerID")] = None,
) -> JSONResponse:
    """A part of the log of what a ModelJob runs in, as the Kubernetes dashboard shows logs."""
    details: dict[str, Any] = pods.log_details(store, namespace, pod, container, wanted)
    return JSONResponse(details)
