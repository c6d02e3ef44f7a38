"""The registry that is configured: its own paths and Harbor's are passed on to it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from urllib.parse import quote

import aiohttp
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from api.deps import ActorDep, Context, ContextDep, User
from api.errors import answer, face
from api.passthrough import PassedOn, Registry
from api.routes.oci import manifest_body
from api.transfer import DRAIN_S, drain, pieces
from api.uploading import Part
from catchment.catalog import pushed, remote
from catchment.catalog.audit import Actor
from catchment.errors import BadArtifact, CatchmentError

log = logging.getLogger(__name__)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_MANIFEST = re.compile(r"/v2/(?P<repository>[^?]+)/manifests/(?P<reference>[^/?]+)")
_UPLOADS = re.compile(r"/v2/.+/blobs/uploads/")

router = APIRouter(tags=["registry"], dependencies=[User], include_in_schema=False)


@router.api_route("/v2", methods=METHODS)
@router.api_route("/v2/{path:path}", methods=METHODS)
@router.api_route("/api/v2.0/{path:path}", methods=METHODS)
@router.api_route("/service/{path:path}", methods=METHODS)
@router.api_route("/c/{path:path}", methods=METHODS)
@face("oci")
async def pass_on(here: ContextDep, actor: ActorDep, request: Request) -> Response:
    """Ask the registry, with the caller's login; a manifest that it takes becomes a version here, too."""
    path = _path(request)
    if path.endswith("/") and path != "/v2/" and not _UPLOADS.fullmatch(path):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(path.rstrip("/") + query, 307)
    found = _MANIFEST.fullmatch(path) if request.method == "PUT" else None
    manifest = await manifest_body(request) if found else None
    assert here.registry is not None  # noqa: S101 - these routes are there only with one
    return Passing(here, here.registry, request, path, manifest, actor)


class Passing(Response):
    """An answer that is asked for when it is sent, so that the connection to the registry ends with it."""

    def __init__(
        self,
        here: Context,
        registry: Registry,
        request: Request,
        path: str,
        manifest: bytes | None,
        actor: Actor,
    ) -> None:
        super().__init__()
        self._here = here
        self._registry = registry
        self._request = request
        self._path = path
        self._manifest = manifest
        self._actor = actor
        self._over: asyncio.Event | None = None
        """Set once nobody reads the request's body any more; None while nobody has begun to."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and the answer back."""
        async with AsyncExitStack() as open_:
            try:
                found = await open_.enter_async_context(self._asked())
            except (TimeoutError, aiohttp.ServerTimeoutError):
                await self._refuse(504, "does not answer in time", scope, receive, send)
                return
            except (aiohttp.ClientError, OSError) as error:
                await self._refuse(502, f"cannot be asked: {error}", scope, receive, send)
                return
            if self._manifest is not None and found.status == 201:
                await self._record(self._manifest)
            if found.status >= 400 and self._manifest is None and _has_body(self._request):
                await self._read_rest()
            headers = self._registry.back(self._request, found.headers)
            await PassedOn(found, headers)(scope, receive, send)

    def _asked(self) -> aiohttp.client._RequestContextManager:  # type: ignore[name-defined]
        query = f"?{self._request.url.query}" if self._request.url.query else ""
        headers = self._registry.towards(self._request)
        body: AsyncIterator[bytes] | bytes | None = self._manifest
        if body is None and _has_body(self._request):
            body = self._body()
        return self._registry.ask(self._request.method, self._path + query, headers, body)

    async def _body(self) -> AsyncIterator[bytes]:
        self._over = asyncio.Event()
        try:
            async for piece in pieces(self._request.stream(), Part(0, 2**62, 2**62, None)):
                yield bytes(piece)
        finally:
            self._over.set()

    async def _read_rest(self) -> None:
        """Let the caller send to the end what was refused before: cut off he would not see the refusal."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                if self._over is not None:
                    await self._over.wait()
        # A new iterator: the one that was passed on ended when sending it did.
        with suppress(RuntimeError):  # all of it has been read
            await drain(self._request.stream())

    async def _refuse(self, status: int, words: str, scope: Scope, receive: Receive, send: Send) -> None:
        log.warning("the registry %s %s", self._registry.host, words)
        if self._manifest is None and _has_body(self._request):
            await self._read_rest()
        await answer(scope, status, f"the registry {self._registry.host} {words}")(scope, receive, send)

    async def _record(self, data: bytes) -> None:
        """Make a version of what was pushed. The push is done, whatever becomes of this."""
        found = _MANIFEST.fullmatch(self._path)
        if found is None or ":" in found["reference"] or "%3A" in found["reference"].upper():
            return
        repository, tag = found["repository"], found["reference"]
        try:
            media_type = self._request.headers.get("content-type", "").partition(";")[0].strip()
            manifest = pushed.read_manifest(data, media_type)
            pushed.require_model(manifest)
            authorization = self._request.headers.get("authorization")
            config = await self._registry.blob(repository, manifest.parts.config.digest, authorization)
            keeps = self._registry.host
            await asyncio.to_thread(
                remote.record, self._here.store, repository, tag, manifest, config, keeps, self._actor
            )
        except CatchmentError as error:
            log.warning("repository=%s tag=%s was pushed, but is no version here: %s", repository, tag, error)


def _path(request: Request) -> str:
    """The path as it was sent. Raises BadArtifact for one that leads elsewhere."""
    raw = request.scope.get("raw_path") or quote(request.url.path, safe="/:@!$&'()*+,;=~").encode()
    path = raw.decode("latin-1").partition("?")[0]
    if any(part.lower().replace("%2e", ".") == ".." for part in path.split("/")):
        raise BadArtifact("a path with '..' is not passed on")
    return path


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or (length.isdecimal() and int(length) > 0)
