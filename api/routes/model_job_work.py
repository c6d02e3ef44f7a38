"""What the pods of ModelJobs ask the API: their task, its files, and a place for what they made."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.bodies import parse
from api.deps import ContextDep, StoreDep
from api.errors import face
from api.transfer import BlobResponse, pieces
from api.uploading import announced_part
from catchment.catalog import content
from catchment.catalog.content import Arrived
from catchment.catalog.rows import VersionFile
from catchment.errors import Forbidden, InvalidField, NotFound, TooLarge
from catchment.model_jobs.kubernetes import delivery
from catchment.store.receiving import StagedUpload

ONE = "/api/v1/modeljob-work/{uid}/{step}"
MAX_OUTCOME_BYTES = 16 << 20


async def own_work(request: Request, here: ContextDep, uid: str, step: str) -> None:
    """A dependency that lets a pod at the one step that its token was made for; without a login too."""
    caller = await here.tokens.identity(request.headers.get("authorization"))
    if caller.role != "worker" or caller.site != f"{uid}/{step}":
        raise Forbidden("this token is not good for this step of this ModelJob")


router = APIRouter(tags=["modeljobs"], dependencies=[Depends(own_work)], include_in_schema=False)


@router.get(ONE)
@face("own")
def get_assignment(store: StoreDep, uid: str, step: str) -> JSONResponse:
    """The task of a pod, and the files that it needs."""
    task, files = delivery.assignment(store, uid, step)
    named = [{"path": each.path, "digest": each.digest, "sizeBytes": each.size_bytes} for each in files]
    return JSONResponse({"task": task.to_json(), "files": named})


@router.get(ONE + "/files/{number}")
@face("own")
def get_file(store: StoreDep, uid: str, step: str, number: int) -> Response:
    """One of those files."""
    files = delivery.assignment(store, uid, step)[1]
    if not 0 <= number < len(files):
        raise NotFound(f"the step has {len(files)} files, and no number {number}")
    with ExitStack() as opened:
        path = opened.enter_context(content.opened(store, files[number]))
        later = opened.pop_all()
    return BlobResponse(path, files[number].size_bytes, files[number].digest, over=later.close)


@router.put(ONE + "/files", status_code=204)
@face("own")
async def put_file(
    request: Request, store: StoreDep, uid: str, step: str, path: Annotated[str, Query(max_length=900)]
) -> Response:
    """Take one file of a conversion's result, whole."""
    part = announced_part(request)
    if part.digest is None or part.start or part.stop != part.total:
        raise InvalidField("digest", "is required, and the file as a whole")
    if part.total > store.settings.max_model_bytes:
        raise TooLarge(f"a model may have {store.settings.max_model_bytes} bytes")
    await run_in_threadpool(delivery.assignment, store, uid, step)
    staged = delivery.staging_file(store, uid)
    upload = StagedUpload(staged)
    try:
        await upload.append(pieces(request.stream(), part), start=0, total=part.total)
        await run_in_threadpool(upload.finish, part.digest)
        arrived = Arrived(VersionFile(path, part.digest, part.total), staged)
        await run_in_threadpool(delivery.keep_file, store, uid, step, path, arrived)
    finally:
        await run_in_threadpool(staged.unlink, missing_ok=True)
    return Response(status_code=204)


async def outcome_body(request: Request) -> object:
    """The body's JSON. Raises InvalidField, TooLarge."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_OUTCOME_BYTES:
            raise TooLarge(f"an outcome may have {MAX_OUTCOME_BYTES} bytes")
    return await run_in_threadpool(parse, bytes(data))


@router.post(ONE + "/outcome", status_code=204)
@face("own")
def post_outcome(
    store: StoreDep, uid: str, step: str, body: Annotated[object, Depends(outcome_body)]
) -> Response:
    """Take what the step has found, or why it failed."""
    if not isinstance(body, dict):
        raise InvalidField("outcome", "must be an object with found or problem")
    delivery.deliver(store, uid, step, body)
    return Response(status_code=204)
