"""GET /metrics: what this process has done, and what the store holds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import catchment
from api.caretaking import Caretaker
from api.errors import METHODS
from api.supervision import Supervisor
from catchment.errors import CatchmentError
from catchment.observe import trace
from catchment.observe.process import add_process, disk_of
from catchment.observe.registry import Family, Registry
from catchment.observe.stored import StoreFigures
from catchment.store import Store

KEEP_S = 5.0
"""The store is asked at most so often, however many ask here."""
ANSWERS_S = 4.0
"""A store that does not answer for so long is left out of the answer."""
UNMATCHED = "unmatched"
"""In the place of a route, for paths that have none: what people try must not become labels."""


class ApiFigures:
    """What the API's process counts; made before the application, since middleware counts.

    Attributes:
        registry: its metrics.
        parts: give the text of what else runs in this process.
    """

    def __init__(self) -> None:
        self.registry = registry = Registry()
        self.parts: list[Callable[[], str]] = []
        built = registry.gauge(
            "catchment_build_info", "Always 1; its labels say what runs.", "part", "version"
        )
        built.set(1, "api", catchment.__version__)
        self.requests = registry.counter(
            "catchment_api_requests_total", "Requests answered, by route.", "method", "route", "code"
        )
        self.seconds = registry.histogram(
            "catchment_api_request_seconds", "From a request's head to the end of its answer.", "route"
        )
        self.received = registry.counter(
            "catchment_api_received_bytes_total", "Bytes of requests' bodies, by route.", "route"
        )
        self.sent = registry.counter(
            "catchment_api_sent_bytes_total", "Bytes of answers' bodies, by route.", "route"
        )
        self.open = registry.gauge("catchment_api_open_requests", "Requests that have no whole answer yet.")
        self.errors = registry.counter(
            "catchment_metrics_errors_total", "Looks at the store for these figures that failed."
        )
        self.store_up = registry.gauge("catchment_store_up", "1 while the store answers.")
        add_process(registry)


class Counted:
    """Middleware that counts requests by the template of their route, and traces those that are traced."""

    def __init__(self, app: ASGIApp, figures: ApiFigures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif trace.is_on() and (caller := _caller(scope)) is not None:
            with trace.span("request", parent=caller, kind="server") as here:
                code = await self._count(scope, receive, send)
                here.renamed(f"{scope['method']} {_route(scope)}")
                here.note(code=code)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> int:
        figures, began = self._figures, time.perf_counter()
        status = received = sent = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            if body := message.get("body"):
                received += len(body)
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif body := message.get("body"):
                sent += len(body)
            await send(message)

        figures.open.add()
        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            figures.open.add(by=-1)
            route, method = _route(scope), scope["method"]
            figures.requests.add(method if method in METHODS else "other", route, str(status or "none"))
            figures.seconds.add(time.perf_counter() - began, route)
            if received:
                figures.received.add(route, by=received)
            if sent:
                figures.sent.add(route, by=sent)
        return status


def _route(scope: Scope) -> str:
    """The template that the request's path was matched to; there are as many as the code has."""
    route = scope.get("route")
    return str(getattr(route, "path", UNMATCHED))


def _caller(scope: Scope) -> trace.Place | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return trace.read(value.decode("latin-1"))
    return None


class Scrape:
    """The whole text for GET /metrics.

    Args:
        figures: of the process.
        store: whose content is told, too.
        supervisor: its health is told.
        caretaker: likewise.

    Attributes:
        parts: what else runs in this process appends what gives its text (observe.registry.samples_text).
    """

    def __init__(
        self, figures: ApiFigures, store: Store, supervisor: Supervisor, caretaker: Caretaker
    ) -> None:
        self._figures = figures
        self.parts = figures.parts
        self._stored = StoreFigures(store)
        self._lock = threading.Lock()
        self._text, self._until = "", 0.0
        self._looking: asyncio.Future[str] | None = None
        registry = figures.registry
        registry.now(
            "catchment_supervisor_up",
            "1 while the supervisor's looks at the jobs succeed.",
            lambda: supervisor.failure is None,
        )
        registry.now(
            "catchment_caretaker_threads", "Threads that look after model versions.", lambda: caretaker.alive
        )
        failed = Family(
            "catchment_caretaker_failures_total", "counter", "Looks of the caretaker that failed."
        )
        registry.measured(failed, lambda: {(): float(caretaker.failures)})
        pool = Family(
            "catchment_database_connections", "gauge", "Connections to the store's database.", ("state",)
        )
        registry.measured(pool, lambda: store.db.connections)
        disk_of(registry, store.settings.home)

    @property
    def families(self) -> list[Family]:
        """What the store's figures are, beside those of the process."""
        return self._stored.registry.families

    async def text(self) -> str:
        """All series; those of the store are left out while it does not answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._look))
        try:
            stored = await asyncio.wait_for(asyncio.shield(self._looking), ANSWERS_S)
        except (TimeoutError, CatchmentError):
            stored = ""
            self._figures.errors.add()
        self._figures.store_up.set(bool(stored))
        return self._figures.registry.text() + stored + "".join(part() for part in self._figures.parts)

    def _look(self) -> str:
        with self._lock:
            if time.monotonic() >= self._until:
                self._text = self._stored.look()
                self._until = time.monotonic() + KEEP_S
            return self._text
