"""The documented operations on models, and their bytes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from api import schemas
from api.bodies import job_body
from api.deps import ActorDep, StoreDep, User
from api.errors import face
from api.transfer import BlobResponse, drain, pieces
from api.uploading import announced_part
from catchment.catalog import content, manager, signed, uploads
from catchment.errors import CatchmentError

FAILS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.HttpResponse, "description": "Refused; the reason names the field."},
    401: {"model": schemas.HttpResponse, "description": "Tokens are required, and this is none."},
    404: {"model": schemas.HttpResponse, "description": "There is no such model or namespace."},
    500: {"model": schemas.HttpResponse, "description": "Internal server error."},
    503: {"model": schemas.HttpResponse, "description": "The store does not answer."},
}
LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": schemas.HttpResponse, "description": "The body has more bytes than are taken."}
}
OF_NAMESPACE = "/api/v1/namespaces/{namespace}/models"
ONE = OF_NAMESPACE + "/{model_name}"
BY_ID = "/api/v1/models"

router = APIRouter(tags=["models"], dependencies=[User])
Body = Annotated[object, Depends(job_body)]
Page = Annotated[int, Query(ge=0, le=2**31 - 1)]
ModelId = Annotated[str, Query(description="The id that the creation answered.")]


def takes(name: str) -> dict[str, Any]:
    """The OpenAPI description of a JSON body."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    OF_NAMESPACE,
    status_code=201,
    response_model=schemas.ModelDetail,
    responses=FAILS,
    openapi_extra=takes("NewModel"),
)
@face("model")
def create_model(store: StoreDep, actor: ActorDep, namespace: str, body: Body) -> JSONResponse:
    """Create a version of a model: unready until its bytes are there.

    With `model_path` they are copied from the namespace's folder, with `file_name` they are waited for.
    """
    return JSONResponse(manager.create(store, namespace, body, actor), 201)


@router.get(OF_NAMESPACE, response_model=schemas.ModelList, responses=FAILS)
@face("models")
def list_models(store: StoreDep, namespace: str, offset: Page = 0, limit: Page | None = None) -> JSONResponse:
    """All versions of all models of a namespace, by name, then oldest first."""
    return JSONResponse({"models": manager.list_models(store, namespace, offset=offset, limit=limit)})


@router.get(ONE, response_model=schemas.ModelList, responses=FAILS)
@face("models")
def get_model(store: StoreDep, namespace: str, model_name: str, version: str | None = None) -> JSONResponse:
    """A model's versions, oldest first, or one of them."""
    return JSONResponse({"models": manager.get_versions(store, namespace, model_name, version)})


@router.put(
    ONE, response_model=schemas.ModelDetail, responses={**FAILS, **LARGE}, openapi_extra=takes("Change")
)
@face("models")
def update_model(
    store: StoreDep,
    actor: ActorDep,
    namespace: str,
    model_name: str,
    body: Body,
    version: str | None = None,
) -> JSONResponse:
    """Change a version's description, or report about an upload that goes past Catchment."""
    return JSONResponse(manager.update_version(store, namespace, model_name, version, body, actor))


@router.delete(ONE, response_class=Response, responses=FAILS)
@face("models")
def delete_model(
    store: StoreDep, actor: ActorDep, namespace: str, model_name: str, version: str | None = None
) -> Response:
    """Delete a version, or without one all versions; refused as a whole while one of them is in use."""
    manager.delete(store, namespace, model_name, version, actor)
    return Response(status_code=200)


@router.get(BY_ID, response_model=schemas.ModelDetail, responses=FAILS)
@face("models")
def get_model_by_id(store: StoreDep, model_id: ModelId) -> JSONResponse:
    """A version by its id."""
    return JSONResponse(manager.get_by_id(store, model_id))


@router.put(
    BY_ID, response_model=schemas.ModelDetail, responses={**FAILS, **LARGE}, openapi_extra=takes("Change")
)
@face("models")
def update_model_by_id(store: StoreDep, actor: ActorDep, model_id: ModelId, body: Body) -> JSONResponse:
    """As the update by name."""
    return JSONResponse(manager.update_by_id(store, model_id, body, actor))


@router.delete(BY_ID, response_class=Response, responses=FAILS)
@face("models")
def delete_model_by_id(store: StoreDep, actor: ActorDep, model_id: ModelId) -> Response:
    """Delete one version."""
    manager.delete_by_id(store, model_id, actor)
    return Response(status_code=200)


@router.get(BY_ID + "/lineage", response_model=schemas.Lineage, responses=FAILS)
@face("models")
def get_lineage(store: StoreDep, model_id: ModelId) -> JSONResponse:
    """Where a version came from, what was made from it, who did what to it; also when it is gone."""
    return JSONResponse(manager.lineage(store, model_id))


UPLOAD = {
    "parameters": [
        {
            "name": name,
            "in": place,
            "required": False,
            "schema": {"type": "string"},
            "description": words,
        }
        for name, place, words in (
            ("Content-Range", "header", "bytes FIRST-LAST/TOTAL; without it the body is the whole file."),
            ("Repr-Digest", "header", "sha-256=:<base64>: of the whole file (RFC 9530)."),
            ("digest", "query", "The same as sha256:<64 hexadecimal digits>."),
        )
    ],
    "requestBody": {"required": True, "content": {"application/octet-stream": {}}},
}
STORED = {"Upload-Offset": {"schema": {"type": "integer"}, "description": "Bytes that are stored."}}


@router.put(
    BY_ID + "/content",
    response_model=schemas.ModelDetail,
    responses={
        **FAILS,
        200: {"description": "All is there, and the version is ready.", "headers": STORED},
        202: {"model": schemas.ModelDetail, "description": "More is waited for.", "headers": STORED},
        409: {
            "model": schemas.HttpResponse,
            "description": "The part does not continue what is stored, or two requests send at once.",
            "headers": STORED,
        },
    },
    openapi_extra=UPLOAD,
)
@face("models")
async def put_content(
    store: StoreDep,
    actor: ActorDep,
    request: Request,
    model_id: ModelId,
    file_name: Annotated[str | None, Query(description="For a version that was created without one.")] = None,
) -> JSONResponse:
    """Send a version's file, whole or in parts one after another; the last one makes it ready."""
    arriving = request.stream()
    try:
        part = announced_part(request)
        detail, stored = await uploads.receive(
            store,
            model_id,
            actor,
            start=part.start,
            total=part.total,
            digest=part.digest,
            pieces=pieces(arriving, part),
            file_name=file_name,
        )
    except CatchmentError:
        await drain(arriving)
        raise
    return JSONResponse(detail, 200 if stored == part.total else 202, {"Upload-Offset": str(stored)})


@router.head(BY_ID + "/content", response_class=Response, responses=FAILS)
@face("models")
def content_offset(store: StoreDep, model_id: ModelId) -> Response:
    """How many bytes of an upload are stored."""
    stored = uploads.offset(store, model_id)
    return Response(headers={"Upload-Offset": str(stored), "Cache-Control": "no-store"})


@router.get(
    BY_ID + "/content",
    response_class=Response,
    responses={
        **FAILS,
        200: {"description": "The bytes.", "content": {"application/octet-stream": {}}},
        206: {"description": "The asked part of them.", "content": {"application/octet-stream": {}}},
    },
)
@face("models")
def get_content(
    store: StoreDep,
    actor: ActorDep,
    model_id: ModelId,
    file: Annotated[str | None, Query(description="Path of one of several files.")] = None,
) -> Response:
    """The bytes of a ready version's file, with ranges; its ETag is their digest."""
    found = content.file_of(store, model_id, file)
    manager.note_download(store, model_id, actor)
    unpacked = ExitStack()
    path = unpacked.enter_context(content.opened(store, found))
    return BlobResponse(path, found.size_bytes, found.digest, over=unpacked.close)


@router.post(BY_ID + "/upload-url", response_model=schemas.SignedAddress, responses=FAILS)
@face("models")
def upload_url(store: StoreDep, actor: ActorDep, model_id: ModelId) -> JSONResponse:
    """An address to PUT the version's file to, straight into S3; then update with `progress` 100."""
    return JSONResponse(signed.upload_address(store, model_id, actor), headers={"Cache-Control": "no-store"})


@router.post(BY_ID + "/download-url", response_model=schemas.SignedAddress, responses=FAILS)
@face("models")
def download_url(
    store: StoreDep, actor: ActorDep, model_id: ModelId, file: str | None = None
) -> JSONResponse:
    """An address to fetch a ready version's file from, straight from S3."""
    address = signed.download_address(store, model_id, file, actor)
    return JSONResponse(address, headers={"Cache-Control": "no-store"})
