"""Namespaces: Catchment's own, where the original left them implicit."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from api import schemas
from api.deps import Admin, StoreDep, User
from api.errors import face
from catchment.jobs import namespaces

ALL = "/api/v1/namespaces"
ONE = ALL + "/{namespace}"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": words}
    for code, words in {
        400: "The name is no valid one.",
        403: "The token's role may not do this.",
        404: "There is no such namespace.",
        409: "It is in use.",
    }.items()
}

router = APIRouter(tags=["namespaces"])


@router.put(
    ONE,
    dependencies=[Admin],
    response_model=schemas.Namespace,
    status_code=201,
    responses={200: {"model": schemas.Namespace, "description": "It was there already."}, 400: PROBLEMS[400]},
)
@face("own")
def create_namespace(store: StoreDep, namespace: str) -> JSONResponse:
    """Make a namespace; fine when it is there already."""
    made = namespaces.create(store, namespace)
    return JSONResponse(namespaces.get(store, namespace), 201 if made else 200)


@router.get(ALL, dependencies=[User], response_model=schemas.NamespaceList)
@face("own")
def list_namespaces(store: StoreDep) -> JSONResponse:
    """All namespaces, by name."""
    return JSONResponse({"namespaces": namespaces.list_all(store)})


@router.get(ONE, dependencies=[User], response_model=schemas.Namespace, responses={404: PROBLEMS[404]})
@face("own")
def get_namespace(store: StoreDep, namespace: str) -> JSONResponse:
    """One namespace."""
    return JSONResponse(namespaces.get(store, namespace))


@router.delete(
    ONE, dependencies=[Admin], status_code=204, responses={code: PROBLEMS[code] for code in (403, 404, 409)}
)
@face("own")
def delete_namespace(store: StoreDep, namespace: str) -> Response:
    """Remove an empty namespace."""
    namespaces.delete(store, namespace)
    return Response(status_code=204)
