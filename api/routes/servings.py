"""The registry's documented operations on servings, and Catchment's own on their rollouts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from api import schemas, serving_schemas
from api.deps import ActorDep, Context, ContextDep, StoreDep, User
from api.errors import face
from api.routes.model_jobs import NAMESPACE, Body, Page
from api.routes.registry import FAILS, LARGE
from catchment.serving import deciding, manager

SERVINGS = NAMESPACE + "/servings"
ONE = SERVINGS + "/{servingID}"

router = APIRouter(tags=["servings"], dependencies=[User])
Name = Annotated[str, Path(alias="servingID")]
SENT = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/Serving"}}
            for kind in ("application/json", "application/yaml")
        },
    }
}


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _now(here: Context, request: Request, namespace: str, name: str) -> JSONResponse:
    """The serving as it is now; the supervisor is told that there may be something to do."""
    here.supervisor.wake()
    return JSONResponse(manager.get(here.store, namespace, name, _base(request)))


@router.post(
    SERVINGS, status_code=201, response_class=Response, responses={**FAILS, **LARGE}, openapi_extra=SENT
)
@face("registry")
def create_serving(here: ContextDep, actor: ActorDep, namespace: str, body: Body) -> Response:
    """Create a serving: a SeldonDeployment, or the short form. Its name is in Location."""
    name = manager.create(here.store, namespace, body, actor)
    here.supervisor.wake()
    location = f"{SERVINGS.format(namespace=namespace)}/{name}"
    return Response(status_code=201, headers={"Location": location})


@router.get(SERVINGS, response_model=serving_schemas.ServingList, responses=FAILS)
@face("registry")
def list_servings(
    request: Request, store: StoreDep, namespace: str, start: Page = 0, limit: Page | None = None
) -> JSONResponse:
    """The servings of a namespace, by name."""
    found = manager.list_page(store, namespace, start=start, limit=limit, base_url=_base(request))
    return JSONResponse(found)


@router.get(ONE, response_model=serving_schemas.Serving, responses=FAILS)
@face("registry")
def get_serving(request: Request, store: StoreDep, namespace: str, name: Name) -> JSONResponse:
    """A serving with its state, its traffic, and its newest rollout."""
    return JSONResponse(manager.get(store, namespace, name, _base(request)))


@router.delete(ONE, status_code=204, response_class=Response, responses=FAILS)
@face("registry")
def delete_serving(here: ContextDep, namespace: str, name: Name) -> Response:
    """Take a serving out of service and remove it."""
    manager.request_delete(here.store, namespace, name)
    here.supervisor.wake()
    return Response(status_code=204)


@router.get(ONE + "/events", response_model=schemas.EventList, responses=FAILS)
@face("registry")
def list_serving_events(
    store: StoreDep, namespace: str, name: Name, start: Page = 0, limit: Page | None = None
) -> JSONResponse:
    """A serving's events, oldest first: one for each transition and each step of its rollouts."""
    return JSONResponse(manager.events(store, namespace, name, start=start, limit=limit))


@router.get(ONE + "/rollouts", response_model=serving_schemas.RolloutList, responses=FAILS)
@face("registry")
def list_rollouts(
    store: StoreDep, namespace: str, name: Name, start: Page = 0, limit: Page | None = None
) -> JSONResponse:
    """A serving's rollouts, newest first, with what their steps have found."""
    return JSONResponse(manager.rollouts(store, namespace, name, start=start, limit=limit))


@router.put(ONE + ":rollback", response_model=serving_schemas.Serving, responses=FAILS)
@face("registry")
def roll_back(
    request: Request,
    here: ContextDep,
    actor: ActorDep,
    namespace: str,
    name: Name,
    to: Annotated[int | None, Query(ge=1, description="Number of a rollout; the one before.")] = None,
) -> JSONResponse:
    """Go back: end the rollout under way, or return to the state of an earlier one, to the digest."""
    deciding.rollback(here.store, namespace, name, to, actor)
    return _now(here, request, namespace, name)


@router.put(ONE + ":approve", response_model=serving_schemas.Serving, responses=FAILS)
@face("registry")
def approve_rollout(
    request: Request, here: ContextDep, actor: ActorDep, namespace: str, name: Name
) -> JSONResponse:
    """Let the rollout that waits for approval go on."""
    deciding.decide(here.store, namespace, name, True, actor)
    return _now(here, request, namespace, name)


@router.put(ONE + ":reject", response_model=serving_schemas.Serving, responses=FAILS)
@face("registry")
def reject_rollout(
    request: Request, here: ContextDep, actor: ActorDep, namespace: str, name: Name
) -> JSONResponse:
    """Roll back the rollout that waits for approval."""
    deciding.decide(here.store, namespace, name, False, actor)
    return _now(here, request, namespace, name)


@router.put(ONE + ":stop", response_model=serving_schemas.Serving, responses=FAILS)
@face("registry")
def stop_rollout(
    request: Request, here: ContextDep, actor: ActorDep, namespace: str, name: Name
) -> JSONResponse:
    """Stop the rollout that is under way; it is rolled back."""
    deciding.stop_rollout(here.store, namespace, name, actor)
    return _now(here, request, namespace, name)


# After the others: its pattern fits their paths too.
@router.put(ONE, response_model=serving_schemas.Serving, responses={**FAILS, **LARGE}, openapi_extra=SENT)
@face("registry")
def update_serving(
    request: Request, here: ContextDep, actor: ActorDep, namespace: str, name: Name, body: Body
) -> JSONResponse:
    """Change a serving: what runs is rolled out step by step. 409 while a rollout is under way."""
    manager.update(here.store, namespace, name, body, actor)
    return _now(here, request, namespace, name)
