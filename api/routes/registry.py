"""The registry's documented operations: upload and download of model versions."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import schemas
from api.bodies import parse, small_body
from api.deps import ActorDep, ContextDep, StoreDep, User
from api.errors import face
from api.multipart import StreamedForm
from api.transfer import MadeResponse, drain, pieces
from api.uploading import Part, announced_part
from catchment.catalog import comparing, manager, zips
from catchment.catalog.audit import Actor
from catchment.catalog.zips import Chunk, Place
from catchment.errors import CatchmentError, InvalidField
from catchment.model_jobs.automatic import extract_uploaded

VERSION = "/api/v1alpha1/projects/{projectName}/models/{modelName}/versions/{versionName}"
FAILS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.RegistryError, "description": "The request, or what is in the zip."},
    401: {"model": schemas.RegistryError, "description": "Tokens are required, and this is none."},
    404: {"model": schemas.RegistryError, "description": "There is no such project, model or version."},
    409: {"model": schemas.RegistryError, "description": "The version is there, or is being uploaded."},
    500: {"model": schemas.RegistryError, "description": "Internal server error."},
    503: {"model": schemas.RegistryError, "description": "The store does not answer."},
}
LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": schemas.RegistryError, "description": "The body has more bytes than are taken."}
}
"""Where a body is taken that is not streamed."""
_CLAIM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


async def claimed(request: Request, actor: ActorDep) -> Actor:
    """Who asks; X-Tenant and X-User are required here. They are names of nothing in the file system."""
    for name in ("X-Tenant", "X-User"):
        if not _CLAIM.fullmatch(request.headers.get(name, "")):
            raise InvalidField(
                name, "is required: 1 to 128 letters, digits and '._@:-', a letter or digit first"
            )
    return actor


def named(
    project: Annotated[str, Path(alias="projectName")],
    model: Annotated[str, Path(alias="modelName")],
    version: Annotated[str, Path(alias="versionName")],
) -> Place:
    """The version that a path names."""
    return Place(project, model, version)


router = APIRouter(tags=["registry"], dependencies=[User])
Claimed = Annotated[Actor, Depends(claimed)]
Named = Annotated[Place, Depends(named)]
HEADERS = [
    {"name": name, "in": "header", "required": True, "schema": {"type": "string"}, "description": words}
    for name, words in (("X-Tenant", "Id of the tenant."), ("X-User", "Id of who asks."))
]
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "A zip with one folder at its top, or the part of it that Content-Range names.",
        },
        "model": {
            "type": "string",
            "description": "JSON: description, format, framework, inputs, outputs and further fields of an "
            "ormbfile.yaml. Without a format the files say it.",
        },
    },
}


@router.post(
    VERSION + "/upload",
    status_code=201,
    response_class=Response,
    responses=FAILS,
    openapi_extra={
        "parameters": [
            *HEADERS,
            {
                "name": "Content-Range",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "bytes FROM-TO/TOTAL of the zip; FROM 0 begins the upload anew.",
            },
        ],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
    },
)
@face("registry")
async def upload_version(here: ContextDep, actor: Claimed, place: Named, request: Request) -> Response:
    """Upload a version as a zip, whole or chunk by chunk; it is there when the last chunk is answered.

    A ModelJob that reads its signature follows by itself.
    """
    store = here.store
    arriving = request.stream()
    try:
        form = StreamedForm(arriving, request.headers.get("content-type", ""))
        part = announced_part(request, of_body=False) if "content-range" in request.headers else None
        whole = part or Part(0, store.settings.max_model_bytes, store.settings.max_model_bytes, None)
        ready = await zips.receive(
            store,
            place,
            actor,
            None if part is None else Chunk(part.start, part.stop, part.total),
            pieces(form.file(), whole),
            lambda: zips.described_by(form.fields.get("model")),
        )
    except CatchmentError:
        await drain(arriving)
        raise
    if ready:
        await run_in_threadpool(extract_uploaded, store, place, actor)
        here.supervisor.wake()
    return Response(status_code=201)


@router.post(
    VERSION + "/download",
    response_class=Response,
    responses={**FAILS, 200: {"description": "The zip.", "content": {"application/octet-stream": {}}}},
    openapi_extra={"parameters": HEADERS},
)
@face("registry")
async def download_version(store: StoreDep, actor: Claimed, place: Named, request: Request) -> Response:
    """A version as a zip: `<version>/ormbfile.yaml` and `<version>/model/...`. A body is not looked at."""
    await drain(request.stream())
    zipped, row = await run_in_threadpool(zips.version_as_zip, store, place)
    await run_in_threadpool(partial(manager.note_download, store, row.id, actor))
    name = {"Content-Disposition": f'attachment; filename="{row.version}.zip"'}
    return MadeResponse(zipped, zips.zip_tag(row), "application/octet-stream", name)


COMPARED = {
    "requestBody": {
        "required": False,
        "description": "The versions, for clients that can send a body with a GET; others use `model`.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Compared"}}},
    }
}
Wanted = Annotated[
    list[str] | None, Query(alias="model", description="project/name:tag; given once for each version.")
]
Page = Annotated[int, Query(ge=0, le=2**31 - 1)]


async def compared(request: Request, model: Wanted = None) -> list[comparing.Named]:
    """The versions that a request names, in its body or its query."""
    raw = await small_body(request)
    return comparing.named(parse(raw, strict_text=True) if raw.strip() else None, model or [])


ComparedDep = Annotated[list[comparing.Named], Depends(compared)]


@router.get(
    "/api/v1alpha1/comparisons",
    response_model=schemas.Comparison,
    responses={**FAILS, **LARGE},
    openapi_extra=COMPARED,
)
@face("registry")
def list_comparisons(
    store: StoreDep, wanted: ComparedDep, start: Page = 0, limit: Page | None = None
) -> JSONResponse:
    """What versions say of themselves, side by side; unknown ones are left out."""
    found = [
        {"metadata": config.written(), "path": named.path}
        for named, config in comparing.compare(store, wanted)
    ]
    page = found[start:] if limit is None else found[start : start + limit]
    return JSONResponse({"metadata": {"totalItems": len(found)}, "items": page})


@router.get(
    "/api/v1alpha1/comparativedocument",
    response_class=Response,
    responses={**FAILS, **LARGE, 200: {"description": "CSV.", "content": {"application/octet-stream": {}}}},
    openapi_extra=COMPARED,
)
@face("registry")
def comparison_document(store: StoreDep, wanted: ComparedDep) -> Response:
    """The same as a table: CSV, a column for each version."""
    table = comparing.as_csv(comparing.compare(store, wanted))
    name = {"Content-Disposition": f'attachment; filename="{int(time.time())}.csv"'}
    return Response(table, media_type="application/octet-stream", headers=name)
