"""The registry's documented operations on pods: what ModelJobs and servings run in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from api import schemas
from api.deps import StoreDep, User
from api.errors import face
from api.routes.model_jobs import NAMESPACE
from api.routes.registry import FAILS
from catchment import pods
from catchment.runs.logs import Selection

PODS = NAMESPACE + "/pods"

router = APIRouter(tags=["pods"], dependencies=[User])
Pod = Annotated[str, Path(alias="podID")]


@router.get(PODS, response_model=schemas.PodList, responses=FAILS)
@face("registry")
def list_pods(
    store: StoreDep,
    namespace: str,
    filter_by: Annotated[str, Query(alias="filterBy", description="label=value, such as job-name=x.")] = "",
) -> JSONResponse:
    """What runs for the namespace's ModelJobs and servings, as a Kubernetes PodList."""
    return JSONResponse(pods.list_pods(store, namespace, filter_by))


def selection(
    timestamp: Annotated[str, Query(alias="reftimestamp")] = "newest",
    line_num: Annotated[str, Query(alias="reflineNum")] = "0",
    offset_from: Annotated[str, Query(alias="offsetFrom")] = "",
    offset_to: Annotated[str, Query(alias="offsetTo")] = "",
    position: Annotated[str, Query(alias="logFilePosition")] = "end",
    _previous: Annotated[str, Query(alias="userPreviousLogs")] = "",
) -> Selection:
    """Which lines are wanted; the last hundred unless both offsets are whole numbers."""
    offsets = [_whole(offset_from), _whole(offset_to)]
    if None in offsets:
        return Selection()
    return Selection(
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
    wanted: Annotated[Selection, Depends(selection)],
    container: Annotated[str | None, Query(alias="containerID")] = None,
) -> JSONResponse:
    """A part of the log of a ModelJob or a model server, as the Kubernetes dashboard shows logs."""
    details: dict[str, Any] = pods.log_details(store, namespace, pod, container, wanted)
    return JSONResponse(details)
