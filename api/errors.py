"""Errors as HTTP answers: one table of status codes for each face of the API.

The documented operations answer errors as the document's HttpResponse, everything else as RFC 9457
problem details. A route says with `@face` which it is; a path without a route goes by its prefix.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import oci_face as oci
from catchment.errors import (
    AlreadyExists,
    BadArtifact,
    BadTensors,
    CatchmentError,
    DigestMismatch,
    Forbidden,
    InvalidField,
    NotFound,
    OffsetMismatch,
    ProtocolRefused,
    Refused,
    TooLarge,
    TransferError,
    Unauthorized,
    Unreachable,
    WrongState,
)

log = logging.getLogger(__name__)
Face = Literal[
    "read", "change", "model", "models", "registry", "own", "exchange", "register", "poll", "upload", "oci"
]
Table = Mapping[type[CatchmentError], int]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_READ: Table = {CatchmentError: 500, NotFound: 404, Refused: 403, Forbidden: 403, Unauthorized: 401}
_OWN: Table = {
    CatchmentError: 500,
    NotFound: 404,
    Refused: 409,
    InvalidField: 400,
    TooLarge: 413,
    BadArtifact: 400,
    Forbidden: 403,
    Unauthorized: 401,
    TransferError: 409,
    ProtocolRefused: 409,
    OffsetMismatch: 409,
    DigestMismatch: 422,
    Unreachable: 503,
}
_MODELS: Table = {
    **_OWN,
    Refused: 400,
    DigestMismatch: 400,
    BadTensors: 400,
    BadArtifact: 400,
}
STATUS: Mapping[Face, Table] = {
    # The document knows 403 for everything that is wrong with a change, an unknown job included.
    "read": _READ,
    "change": {**_READ, NotFound: 403},
    # The document knows 400 for whatever is wrong with a new model.
    "model": {**_MODELS, TooLarge: 400},
    # The documents' model manager and registry: what is wrong with a request is 400, a duplicate included.
    "models": _MODELS,
    "registry": {**_MODELS, AlreadyExists: 409, WrongState: 409},
    "own": _OWN,
    "exchange": _OWN,
    "register": {**_OWN, Refused: 400},
    # The site registers again when its poll is gone, and sends again when its upload came too early.
    "poll": {**_OWN, NotFound: 410},
    "upload": {**_OWN, TransferError: 429},
    # The distribution specification's registry.
    "oci": {**_OWN, OffsetMismatch: 416, DigestMismatch: 400, TransferError: 400},
}
"""Status codes by face; the nearest class of an error's ancestry decides."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def face(name: Face) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint with the table that its errors are answered by."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.face = name  # type: ignore[attr-defined]
        return endpoint

    return mark


def install(app: FastAPI) -> None:
    """Make `app` answer every error in the words of its face; nothing of FastAPI's own shapes is left."""
    app.add_exception_handler(CatchmentError, _answer_catchment)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def answer(
    scope: Scope, status: int, reason: str, *, headers: Mapping[str, str] | None = None, **facts: Any
) -> JSONResponse:
    """An error's answer in the shape of the face that the request is for."""
    of = _face_of(scope)
    if of in ("read", "change", "model", "models"):
        return JSONResponse({"state": "FAILED", "reason": reason}, status, headers)
    if of == "registry":
        kind = str(facts.get("error", HTTPStatus(status).phrase.replace(" ", "")))
        return JSONResponse({"message": reason, "reason": kind}, status, headers)
    if of == "oci":
        return oci.body(scope, status, reason, headers, facts)
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": reason}
    return JSONResponse({**problem, **facts}, status, headers, media_type="application/problem+json")


def status_of(error: CatchmentError, table: Table) -> int:
    """The table's status for the nearest class in the error's ancestry."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def _face_of(scope: Scope) -> Face:
    marked: Face | None = getattr(scope.get("endpoint"), "face", None)
    if marked is None and scope["path"].startswith("/api/v1alpha1/"):
        return "registry"
    if marked is None and oci.is_registry(scope["path"]):
        return "oci"
    if marked == "read" or (marked is None and scope["path"].startswith("/api/")):
        return "read" if scope["method"] in ("GET", "HEAD") else "change"
    return marked or "own"


async def _answer_catchment(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CatchmentError)  # noqa: S101 - registered for this class alone
    status = status_of(error, STATUS[_face_of(request.scope)])
    facts: dict[str, Any] = {"error": type(error).__name__}
    headers: dict[str, str] = {}
    if isinstance(error, InvalidField):
        facts["field"] = error.field
    if isinstance(error, OffsetMismatch):
        facts["offset"] = error.offset
        headers |= {"Upload-Offset": str(error.offset), "Range": oci.upload_range(error.offset)}
    if status == 401:
        headers["WWW-Authenticate"] = oci.CHALLENGE if oci.is_registry(request.url.path) else "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = "1"
    if status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return answer(request.scope, status, str(error), headers=headers, **facts)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """A path or query parameter of the wrong form, named."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return await _answer_catchment(request, InvalidField(name, f"{first['msg']}, got {first.get('input')!r}"))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and wrong verbs."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    path = request.url.path
    if error.status_code != 405:
        reason = f"there is nothing at {path}" if error.status_code == 404 else str(error.detail)
        return answer(request.scope, error.status_code, reason, headers=error.headers)
    allowed = ", ".join(_allowed(request))
    reason = f"{request.method} is not possible on {path}, only {allowed}"
    return answer(request.scope, 405, reason, headers={"Allow": allowed})


def _allowed(request: Request) -> list[str]:
    def matches(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    return [method for method in METHODS if matches(method)]


class LastResort:
    """Outermost middleware: what nobody foresaw is logged with its traceback and answered without one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            log.debug("%s %s: the client went away", scope["method"], scope["path"])
        except Exception:  # the edge of the process
            mark = secrets.token_hex(4)
            log.exception("%s %s failed, incident %s", scope["method"], scope["path"], mark)
            if not started:
                reason = f"internal error, incident {mark} in the server's log"
                await answer(scope, 500, reason)(scope, receive, send)
