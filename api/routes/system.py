"""The system itself: is it there, is it ready, what is it, and which sites does it know."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from api import schemas
from api.deps import ContextDep, StoreDep, User, identity, only
from api.errors import face
from catchment import __version__
from catchment.exchange import sites
from catchment.observe.registry import CONTENT_TYPE
from catchment.wire.messages import PROTOCOL

router = APIRouter(tags=["system"])


@router.get("/api/v1/health", response_model=str)
@face("read")
async def health() -> JSONResponse:
    """ "OK" as long as the process answers."""
    return JSONResponse("OK")


@router.get(
    "/readyz",
    response_model=schemas.Ready,
    responses={503: {"model": schemas.Ready, "description": "Something is not ready; the reasons say what."}},
)
@face("own")
async def readyz(here: ContextDep) -> JSONResponse:
    """Whether the store, Prefect and the supervisor answer."""
    reasons = await here.readiness.reasons()
    ready = not any(reasons.values())
    return JSONResponse({"ready": ready, "reasons": reasons}, 200 if ready else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "Figures in Prometheus' text format."},
        401: {"model": schemas.Problem, "description": "A token is required."},
        403: {"model": schemas.Problem, "description": "A site's token is not good for this."},
    },
)
@face("own")
async def metrics(here: ContextDep, request: Request) -> Response:
    """Figures of this process, and of what the store holds."""
    if here.settings.metrics_access == "login":
        await only("admin", "user")(await identity(request))
    return Response(await here.scrape.text(), media_type=CONTENT_TYPE)


@router.get("/api/v1/version", dependencies=[User], response_model=schemas.Version)
@face("own")
async def version(here: ContextDep) -> JSONResponse:
    """What runs here, and where its flow runs can be watched."""
    return JSONResponse(
        {
            "version": __version__,
            "protocol": PROTOCOL,
            "auth": here.settings.auth,
            "prefect_ui": here.settings.prefect_ui_url,
        }
    )


@router.get("/api/v1/sites", dependencies=[User], response_model=schemas.SiteList)
@face("own")
def list_sites(store: StoreDep) -> JSONResponse:
    """All sites that ever registered, by name."""
    return JSONResponse({"sites": sites.list_sites(store)})
