"""The registry: OCI distribution over the store. A model is a repository, a version one of its tags."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.deps import ActorDep, Context, ContextDep, StoreDep, User
from api.errors import answer, face
from api.oci_face import UNKNOWN, upload_range
from api.transfer import BlobResponse, MadeResponse, drain, pieces
from api.uploading import DIGEST, Part
from catchment.catalog import artifacts, blob_uploads, pushing, repositories
from catchment.catalog.pushed import MAX_MANIFEST_BYTES
from catchment.catalog.repositories import FoundManifest
from catchment.catalog.spec import check_version
from catchment.errors import CatchmentError, InvalidField, NotFound, TooLarge
from catchment.store import Store

ONE = "/v2/{namespace}/{name}"
MANIFEST = ONE + "/manifests/{reference}"
BLOB = ONE + "/blobs/{digest}"
UPLOADS = ONE + "/blobs/uploads"
UPLOAD = UPLOADS + "/{upload_id}"
MOST_AT_ONCE = 1000
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_PART = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?")

# Not in the API's own document: the distribution specification describes these.
router = APIRouter(tags=["registry"], dependencies=[User], include_in_schema=False)


async def repository(request: Request, store: StoreDep, namespace: str, name: str) -> tuple[str, str]:
    """Namespace and name of the path's repository; the namespace is there. Raises InvalidField, NotFound."""
    request.scope[UNKNOWN] = "NAME_UNKNOWN"
    await run_in_threadpool(repositories.require, store, namespace, name)
    del request.scope[UNKNOWN]
    return namespace, name


RepositoryDep = Annotated[tuple[str, str], Depends(repository)]
Last = Annotated[str, Query(max_length=400)]
Most = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


@router.get("/v2/")
@router.get("/v2")
@face("oci")
async def api_version() -> Response:
    """Say that this is a registry, to whom it lets in."""
    return JSONResponse({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


@router.get("/v2/_catalog")
@face("oci")
def list_repositories(store: StoreDep, n: Most = None, last: Last = "") -> Response:
    """The repositories with a tag, in order."""
    return _page("repositories", repositories.catalog(store), n, last, "/v2/_catalog", {})


@router.get(ONE + "/tags/list")
@face("oci")
def list_tags(store: StoreDep, of: RepositoryDep, n: Most = None, last: Last = "") -> Response:
    """The versions of a model that are ready, in order."""
    found, path = repositories.tags(store, *of), f"/v2/{'/'.join(of)}/tags/list"
    return _page("tags", found, n, last, path, {"name": "/".join(of)})


def _page(key: str, names: list[str], n: int | None, last: str, path: str, more: dict[str, Any]) -> Response:
    most = MOST_AT_ONCE if n is None else min(n, MOST_AT_ONCE)
    left = [name for name in names if name > last]
    headers = {}
    if most and len(left) > most:
        headers["Link"] = f'<{path}?n={most}&last={quote(left[most - 1], safe="")}>; rel="next"'
    return JSONResponse({**more, key: left[:most]}, headers=headers)


@router.head(MANIFEST)
@router.get(MANIFEST)
@face("oci")
async def get_manifest(
    here: ContextDep, actor: ActorDep, request: Request, of: RepositoryDep, reference: str
) -> Response:
    """The manifest of a tag or digest. What came as files is described when it is first asked for."""
    found = await _manifest(here, of, reference)
    headers = {
        "Content-Type": found.media_type,
        "Content-Length": str(len(found.data)),
        "Docker-Content-Digest": found.digest,
        "ETag": f'"{found.digest}"',
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    await run_in_threadpool(repositories.note_pull, here.store, found, actor)
    return Response(found.data, headers=headers)


async def _manifest(here: Context, of: tuple[str, str], reference: str) -> FoundManifest:
    if ":" in reference:
        return await run_in_threadpool(repositories.manifest_by_digest, here.store, *of, _digest(reference))
    tag = check_version(reference, "tag")
    row = await run_in_threadpool(repositories.version_of_tag, here.store, *of, tag)
    if artifacts.is_described(row):
        row = await run_in_threadpool(artifacts.describe, here.store, row.id)
    else:
        # Who asked may go away; what is learnt meanwhile stays.
        row = await asyncio.shield(asyncio.wrap_future(here.describing.begin(here.store, row.id)))
    return await run_in_threadpool(repositories.manifest_of, here.store, row)


@router.put(MANIFEST)
@face("oci")
async def put_manifest(
    store: StoreDep, actor: ActorDep, request: Request, of: RepositoryDep, reference: str
) -> Response:
    """Make an artifact a version under its tag."""
    data = await manifest_body(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    target = _digest(reference) if ":" in reference else reference
    put = await run_in_threadpool(pushing.put_manifest, store, of, target, data, media_type, actor)
    headers = {"Location": f"/v2/{'/'.join(of)}/manifests/{put.digest}", "Docker-Content-Digest": put.digest}
    if put.subject is not None:
        headers["OCI-Subject"] = put.subject
    return Response(status_code=201, headers=headers)


async def manifest_body(request: Request) -> bytes:
    """The manifest that a request brings. Raises TooLarge."""
    data, size = bytearray(), 0
    announced = Part(0, 16 * MAX_MANIFEST_BYTES, 16 * MAX_MANIFEST_BYTES, None)
    async for piece in pieces(request.stream(), announced):
        size += len(piece)
        if size <= MAX_MANIFEST_BYTES:
            data += piece
    if size > MAX_MANIFEST_BYTES:
        raise TooLarge(
            f"the manifest has more than {MAX_MANIFEST_BYTES} bytes, which is the most that is taken"
        )
    return bytes(data)


@router.delete(MANIFEST)
@face("oci")
def delete_manifest(store: StoreDep, actor: ActorDep, of: RepositoryDep, reference: str) -> Response:
    """Delete a version by its tag, all versions with a manifest by its digest, or what is attached."""
    pushing.delete_manifest(store, of, _digest(reference) if ":" in reference else reference, actor)
    return Response(status_code=202)


@router.get(ONE + "/referrers/{digest}")
@face("oci")
def list_referrers(
    store: StoreDep,
    of: RepositoryDep,
    digest: str,
    artifact_type: Annotated[str | None, Query(alias="artifactType")] = None,
) -> Response:
    """An index of what is attached to a manifest."""
    found = repositories.referrers(store, *of, _digest(digest))
    headers = {}
    if artifact_type is not None:
        found = [each for each in found if each["artifactType"] == artifact_type]
        headers["OCI-Filters-Applied"] = "artifactType"
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": found}
    return Response(json.dumps(index), media_type=INDEX_TYPE, headers=headers)


@router.post(UPLOADS + "/")
@router.post(UPLOADS)
@face("oci")
async def begin_upload(
    store: StoreDep,
    request: Request,
    of: RepositoryDep,
    digest: str | None = None,
    mount: str | None = None,
    source: Annotated[str | None, Query(alias="from")] = None,
) -> Response:
    """Begin an upload; with `digest` the body is the whole blob, with `mount` another repository has it."""
    if mount is not None and source is not None and source.count("/") == 1:
        namespace, _, name = source.partition("/")
        if await run_in_threadpool(blob_uploads.mount, store, of, _digest(mount), (namespace, name)):
            return _kept(of, mount)
    if digest is not None:
        _digest(digest)
    upload_id = await run_in_threadpool(blob_uploads.begin, store, *of)
    if digest is None:
        return _accepted(of, upload_id, 0)
    try:
        await _finish(store, request, of, upload_id, digest)
    except CatchmentError:
        await run_in_threadpool(_forget, store, of, upload_id)
        raise
    return _kept(of, digest)


def _forget(store: Store, of: tuple[str, str], upload_id: str) -> None:
    """Remove an upload that nobody can go on with, since nobody was told its name."""
    try:
        blob_uploads.discard(store, *of, upload_id)
    except NotFound:
        return


@router.patch(UPLOAD)
@face("oci")
async def send_part(store: StoreDep, request: Request, of: RepositoryDep, upload_id: str) -> Response:
    """Add bytes to an upload."""
    arriving = request.stream()
    try:
        start, length = _announced(request)
        body = pieces(arriving, _part(store, length))
        stored = await blob_uploads.append(store, of, upload_id, body, start=start, length=length)
    except CatchmentError:
        await drain(arriving)
        raise
    return _accepted(of, upload_id, stored)


@router.put(UPLOAD)
@face("oci")
async def finish_upload(
    store: StoreDep, request: Request, of: RepositoryDep, upload_id: str, digest: str | None = None
) -> Response:
    """Add the last bytes, which may be all of them, and keep the blob."""
    if digest is None:
        raise InvalidField("digest", "is required: ?digest=sha256:<64 hexadecimal digits>")
    await _finish(store, request, of, upload_id, _digest(digest))
    return _kept(of, digest)


async def _finish(store: Store, request: Request, of: tuple[str, str], upload_id: str, digest: str) -> None:
    arriving = request.stream()
    try:
        start, length = _announced(request)
        body = pieces(arriving, _part(store, length))
        await blob_uploads.finish(store, of, upload_id, digest, body, start=start, length=length)
    except CatchmentError:
        await drain(arriving)
        raise


@router.get(UPLOAD)
@router.head(UPLOAD)
@face("oci")
def upload_state(store: StoreDep, of: RepositoryDep, upload_id: str) -> Response:
    """How much of an upload is stored."""
    answer = _accepted(of, upload_id, blob_uploads.offset(store, *of, upload_id))
    answer.status_code = 204
    return answer


@router.delete(UPLOAD)
@face("oci")
def end_upload(store: StoreDep, of: RepositoryDep, upload_id: str) -> Response:
    """Forget an upload."""
    blob_uploads.discard(store, *of, upload_id)
    return Response(status_code=204)


@router.head(BLOB)
@router.get(BLOB)
@face("oci")
def get_blob(store: StoreDep, request: Request, of: RepositoryDep, digest: str) -> Response:
    """A blob's bytes, whole or in part. The layer of what came as files is made while it is sent."""
    found = repositories.find_blob(store, *of, _digest(digest))
    if request.method == "HEAD":
        blob_uploads.touch(store, of, digest)
    named = {"Docker-Content-Digest": digest}
    if isinstance(found.bytes_of, Path):
        return BlobResponse(found.bytes_of, found.size, digest, more=named)
    return MadeResponse(found.bytes_of, digest, "application/octet-stream", named)


@router.api_route("/v2/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@face("oci")
async def nothing(request: Request, path: str) -> Response:
    """What is none of the registry's paths, or one of them with a slash behind it."""
    if path.endswith("/"):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/v2/{quote(path.rstrip('/'), safe='/:@')}{query}", 307)
    routes = (route for route in router.routes if isinstance(route, APIRoute) and route.endpoint != nothing)
    allowed = {each for route in routes if route.path_regex.match(f"/v2/{path}") for each in route.methods}
    if allowed:
        words = f"{request.method} is not possible on /v2/{path}"
        return answer(request.scope, 405, words, headers={"Allow": ", ".join(sorted(allowed))})
    raise NotFound(f"there is nothing at /v2/{path}; repositories are called <namespace>/<model's name>")


def _accepted(of: tuple[str, str], upload_id: str, stored: int) -> Response:
    headers = {
        "Location": f"/v2/{'/'.join(of)}/blobs/uploads/{upload_id}",
        "Range": upload_range(stored),
        "Docker-Upload-UUID": upload_id,
    }
    return Response(status_code=202, headers=headers)


def _kept(of: tuple[str, str], digest: str) -> Response:
    headers = {"Location": f"/v2/{'/'.join(of)}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


def _digest(text: str) -> str:
    if not DIGEST.fullmatch(text):
        raise InvalidField("digest", f"{text[:100]!r} is none of the form sha256:<64 hexadecimal digits>")
    return text


def _announced(request: Request) -> tuple[int | None, int | None]:
    """Offset and number of the bytes that are sent, where the headers say it. Raises InvalidField."""
    text, told = request.headers.get("content-length", ""), request.headers.get("content-range")
    length = int(text) if text.isdecimal() and len(text) < 19 else None
    if told is None:
        return None, length
    found = _PART.fullmatch(told.strip())
    if found is None or int(found[2]) < int(found[1]):
        raise InvalidField("Content-Range", f"must be FIRST-LAST, got {told[:80]!r}")
    announced = int(found[2]) + 1 - int(found[1])
    if length is not None and length != announced:
        raise InvalidField("size", f"Content-Range announces {announced} bytes, Content-Length {length}")
    return int(found[1]), announced


def _part(store: Store, length: int | None) -> Part:
    most = store.settings.max_model_bytes + 1 if length is None else length
    return Part(0, most, most, None)
