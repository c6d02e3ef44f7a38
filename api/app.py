"""The application: routes, middleware, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from api import errors, openapi
from api.access import LoopbackOnly, Tokens
from api.caretaking import Caretaker
from api.deps import Context
from api.figures import ApiFigures, Counted, Scrape
from api.gateway import Gateway
from api.passthrough import Registry
from api.readiness import Readiness
from api.routes import (
    exchange,
    jobs,
    logs,
    model_job_work,
    model_jobs,
    models,
    namespaces,
    oci,
    passthrough,
    pods,
    registry,
    retraining,
    servings,
    system,
)
from api.serving_watch import ServingWatch
from api.supervision import Supervisor
from catchment import __version__
from catchment.catalog.artifacts import Describing
from catchment.jobs.launcher import RunsLauncher
from catchment.observe import trace
from catchment.observe.registry import samples_text
from catchment.serving.gateway.addresses import is_gateway
from catchment.settings import Settings
from catchment.store import open_store

THREADS = 24
"""Requests worked on at once; with the exchange's own threads no more than the database pool's 32."""
LAST_SPANS_S = 1.0


class Api(FastAPI):
    """The application; what is for servings never enters its machinery, which costs more than the gateway."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and is_gateway(scope["path"]):
            await self.state.context.gateway.answer(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None, launcher: RunsLauncher | None = None) -> FastAPI:
    """The API over the store that the settings name.

    Args:
        settings: read from the environment when left out.
        launcher: makes flow runs; Prefect's when left out.
    """
    settings = settings or Settings()
    app = Api(
        title="Catchment",
        version=__version__,
        summary="Federated learning jobs, and the exchange that sites dial out to.",
        lifespan=_lifespan(settings, launcher),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        separate_input_output_schemas=False,
    )
    if settings.auth == "loopback":
        app.add_middleware(LoopbackOnly)
    app.add_middleware(errors.LastResort)
    app.state.figures = figures = ApiFigures()
    app.add_middleware(Counted, figures=figures)
    errors.install(app)
    artifacts = passthrough if settings.registry_url else oci
    for part in (
        *(jobs, logs, models, registry, model_jobs, model_job_work, servings, retraining, pods),
        *(namespaces, system, exchange, artifacts),
    ):
        app.include_router(part.router)
    openapi.install(app)
    return app


def _lifespan(
    settings: Settings, launcher: RunsLauncher | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ends = ExitStack()
        closing = asyncio.Event()
        current_default_thread_limiter().total_tokens = THREADS
        try:
            figures = app.state.figures
            app.state.context = await asyncio.to_thread(_open, settings, launcher, closing, figures, ends)
            app.state.context.gateway.start()
            yield
        finally:
            closing.set()
            await _close(getattr(app.state, "context", None))
            await asyncio.to_thread(ends.close)
            await asyncio.to_thread(trace.flush, LAST_SPANS_S)

    return lifespan


async def _close(context: Context | None) -> None:
    """End what only the event loop can end."""
    if context is not None:
        await context.gateway.close()
    if context is not None and context.registry is not None:
        await context.registry.close()


def _open(
    settings: Settings,
    launcher: RunsLauncher | None,
    closing: asyncio.Event,
    figures: ApiFigures,
    ends: ExitStack,
) -> Context:
    """What the process works with; `ends` takes what closes it again."""
    store = open_store(settings)
    ends.callback(store.close)
    if launcher is None:
        # Imported here: describing or testing the API needs no Prefect.
        from api.launch import PrefectLauncher

        launcher = prefect = PrefectLauncher(store)
        ends.callback(prefect.close)
    supervisor = Supervisor(store, launcher)
    supervisor.start()
    ends.callback(supervisor.stop)
    caretaker = Caretaker(store)
    caretaker.start()
    ends.callback(caretaker.stop)
    watch = ServingWatch(store)
    watch.start()
    ends.callback(watch.stop)
    tokens = Tokens(store)
    gateway = Gateway(store, settings, tokens, random.Random())  # noqa: S311 - traffic is no secret
    figures.parts.append(lambda: samples_text(gateway.samples()))
    return Context(
        settings=settings,
        store=store,
        launcher=launcher,
        supervisor=supervisor,
        tokens=tokens,
        readiness=Readiness(store, launcher, supervisor),
        closing=closing,
        caretaker=caretaker,
        describing=Describing(),
        gateway=gateway,
        scrape=Scrape(figures, store, supervisor, caretaker),
        registry=Registry(settings) if settings.registry_url else None,
    )


def _operation_id(route: APIRoute) -> str:
    return route.name
