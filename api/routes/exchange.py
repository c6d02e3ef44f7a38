"""The exchange: what sites dial out to (catchment.wire.messages)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api import schemas
from api.bodies import message, raw_message
from api.deps import CertificateDep, ContextDep, OwnSite, SecuredDep, StoreDep
from api.errors import face
from api.transfer import BlobResponse, announced, drain, pieces
from api.waiting import while_wanted
from catchment.errors import CatchmentError
from catchment.exchange import results, secure, sites, transfer
from catchment.store import Store
from catchment.wire.messages import (
    ACCEPTS,
    Leave,
    Message,
    PollAnswer,
    PollRequest,
    Registered,
    Registration,
    ResultAnswer,
    SiteName,
    WorkResult,
)

ONE = "/exchange/v1/sites/{site}"
BLOB = ONE + "/blobs/{digest}"
WORK = ONE + "/work/{work_id}"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": words}
    for code, words in {
        400: "The message is malformed.",
        401: "A token is required.",
        403: "The token, or the work, belongs to another site.",
        404: "The site has no such work.",
        409: "It does not fit what is there.",
        410: "The site is not registered (any more).",
        413: "The message has more bytes than are taken.",
        416: "The range lies outside the blob.",
        422: "The bytes do not have the announced digest; the upload begins anew.",
        429: "Another request is sending this update; try again.",
    }.items()
}
OFFSET = {"Upload-Offset": {"description": "Bytes stored so far.", "schema": {"type": "integer"}}}

router = APIRouter(
    tags=["exchange"],
    dependencies=[OwnSite],
    responses={code: PROBLEMS[code] for code in (400, 401, 403)},
)


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Further error answers of one operation."""
    return {code: PROBLEMS[code] for code in codes}


def takes(model: type[Message], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI words for a body that `bodies.message` reads."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def said(answer: Message) -> Response:
    """A message as an answer."""
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    ONE + "/register", response_model=Registered, openapi_extra=takes(Registration), responses=problems(413)
)
@face("register")
def register_site(
    store: StoreDep,
    site: SiteName,
    body: Annotated[Registration, Depends(message(Registration))],
    certificate: CertificateDep,
) -> Response:
    """Introduce a site."""
    return said(sites.register(store, site, body, certificate))


@router.post(
    ONE + "/poll", response_model=PollAnswer, openapi_extra=takes(PollRequest), responses=problems(410, 413)
)
@face("poll")
async def poll_site(
    here: ContextDep,
    request: Request,
    site: str,
    body: Annotated[PollRequest, Depends(message(PollRequest))],
    secured: SecuredDep,
) -> Response:
    """A sign of life, held open until there is work, something to cancel, or nothing within `wait_s`."""
    polling = sites.poll(here.store, site, body, secured=secured)
    answer = await while_wanted(polling, request.receive, here.closing) or PollAnswer()
    if answer.work and "traceparent" not in request.headers.get(ACCEPTS, ""):
        text = answer.model_dump_json(exclude={"work": {"__all__": {"traceparent"}}})
        return Response(text, media_type="application/json")
    return said(answer)


@router.post(
    ONE + "/leave", status_code=204, openapi_extra=takes(Leave, required=False), responses=problems(410, 413)
)
@face("poll")
def leave_site(
    store: StoreDep, site: str, body: Annotated[Leave, Depends(message(Leave, empty=b"{}"))]
) -> Response:
    """Say goodbye: open work of the site is lost at once, unless a newer agent has registered since."""
    sites.leave(store, site, body.session)
    return Response(status_code=204)


@router.get(
    BLOB,
    response_class=Response,
    responses={
        200: {
            "content": {"application/octet-stream": {}},
            "description": "The blob; its ETag is the digest.",
        },
        206: {"content": {"application/octet-stream": {}}, "description": "The range that was asked for."},
        304: {"description": "The caller has it already."},
        **problems(404, 416),
    },
)
@router.head(BLOB, include_in_schema=False)
@face("exchange")
def fetch_blob(store: StoreDep, site: str, digest: str, secured: SecuredDep) -> Response:
    """Bytes that an open work of the site refers to; one range of them where `Range` asks for it."""
    path, size = transfer.site_blob(store, site, digest, secured=secured)
    return BlobResponse(path, size, digest)


OFFSET_ASKED: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"description": "How far the upload is.", "headers": OFFSET}, **problems(404)},
}


@router.head(WORK + "/update", **OFFSET_ASKED)
@face("exchange")
def update_offset(store: StoreDep, site: str, work_id: str, secured: SecuredDep) -> Response:
    """How many bytes of the work's update are stored."""
    return _offset(store, site, work_id, "update", secured)


@router.head(WORK + "/files", **OFFSET_ASKED)
@face("exchange")
def files_offset(store: StoreDep, site: str, work_id: str, secured: SecuredDep) -> Response:
    """How many bytes of the archive of the script's files are stored."""
    return _offset(store, site, work_id, "files", secured)


def _offset(store: Store, site: str, work_id: str, part: transfer.Part, secured: bool) -> Response:
    offset = transfer.upload_offset(store, site, work_id, part, secured=secured)
    return Response(headers={"Upload-Offset": str(offset), "Cache-Control": "no-store"})


CHUNK: dict[str, Any] = {
    "status_code": 204,
    "openapi_extra": {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": words,
            }
            for name, words in (
                ("Content-Range", "bytes FIRST-LAST/TOTAL"),
                ("Update-Digest", "sha256:<64 hexadecimal digits> of the whole update or archive"),
            )
        ],
        "requestBody": {"required": True, "content": {"application/octet-stream": {}}},
    },
    "responses": {
        204: {"description": "The chunk is stored.", "headers": OFFSET},
        **problems(404, 422, 429),
        409: {**PROBLEMS[409], "headers": OFFSET},
    },
}


@router.put(WORK + "/update", **CHUNK)
@face("upload")
async def upload_chunk(
    store: StoreDep, request: Request, site: str, work_id: str, secured: SecuredDep
) -> Response:
    """Append a chunk to the work's update; the last one completes it."""
    return await _received(store, request, site, work_id, "update", secured)


@router.put(WORK + "/files", **CHUNK)
@face("upload")
async def upload_files_chunk(
    store: StoreDep, request: Request, site: str, work_id: str, secured: SecuredDep
) -> Response:
    """Append a chunk to the archive of what the work's script handed over with put_file."""
    return await _received(store, request, site, work_id, "files", secured)


async def _received(
    store: Store, request: Request, site: str, work_id: str, part: transfer.Part, secured: bool
) -> Response:
    arriving = request.stream()
    try:
        chunk = announced(request)
        stored = await transfer.receive(
            store,
            site,
            work_id,
            start=chunk.start,
            total=chunk.total,
            digest=str(chunk.digest),
            chunks=pieces(arriving, chunk),
            secured=secured,
            part=part,
        )
    except CatchmentError:
        await drain(arriving)
        raise
    return Response(status_code=204, headers={"Upload-Offset": str(stored)})


SECAGG = WORK + "/secagg/{step}"
TOLD: dict[int | str, dict[str, Any]] = {
    200: {"description": "The message.", "content": {"application/json": {"schema": {"type": "object"}}}},
    204: {"description": "There is none yet; ask again."},
    **problems(404, 409),
}


@router.post(
    SECAGG,
    status_code=204,
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    },
    responses=problems(404, 409, 413),
)
@face("exchange")
def say_secure(
    store: StoreDep,
    site: str,
    work_id: str,
    step: str,
    body: Annotated[bytes, Depends(raw_message)],
    secured: SecuredDep,
) -> Response:
    """A site's message of secure aggregation; sent twice it counts once."""
    secure.say(store, site, work_id, step, body, secured=secured)
    return Response(status_code=204)


@router.get(SECAGG, response_class=Response, responses=TOLD)
@face("exchange")
async def tell_secure(
    here: ContextDep,
    request: Request,
    site: str,
    work_id: str,
    step: str,
    secured: SecuredDep,
    wait_s: float = 0.0,
) -> Response:
    """What secure aggregation has to tell a site; held open until there is something, or for `wait_s`."""
    waiting = secure.told(here.store, site, work_id, step, wait_s, secured=secured)
    body = await while_wanted(waiting, request.receive, here.closing)
    return Response(status_code=204) if body is None else Response(body, media_type="application/json")


@router.post(
    WORK + "/result",
    response_model=ResultAnswer,
    openapi_extra=takes(WorkResult),
    responses=problems(404, 409, 413),
)
@face("exchange")
def finish_work(
    store: StoreDep,
    site: str,
    work_id: str,
    body: Annotated[WorkResult, Depends(message(WorkResult))],
    secured: SecuredDep,
) -> Response:
    """How a work ended; sent twice it counts once."""
    return said(results.finish_work(store, site, work_id, body, secured=secured))
