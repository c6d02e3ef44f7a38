"""A job's log: pages as JSON, or, for whoever accepts `text/event-stream`, lines as they come."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import schemas
from api.deps import ContextDep, User
from api.errors import face
from api.routes.jobs import ONE, PROBLEM
from api.streaming import LogStream
from catchment.errors import InvalidField
from catchment.jobs import log
from catchment.wire.messages import SiteName

MAX_NUMBER = 2**31 - 1
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of lines; or a stream of events `line` (data: a line, id: its number) and in "
        "the end `end` (data: `state` and `reason` of the job; `state` null: it was deleted).",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

router = APIRouter(tags=["jobs"], dependencies=[User])


@router.get(ONE + "/logs", response_model=schemas.LogPage, responses={**PROBLEM, **EVENTS})
@face("own")
async def job_logs(
    here: ContextDep,
    request: Request,
    namespace: str,
    job_id: str,
    after: Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="Only lines after this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=log.MAX_LINES)] = log.PAGE,
    round: Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="Only lines about it.")] = None,
    site: Annotated[
        SiteName | None, Query(description="Only lines of this site; `coordinator`: of none.")
    ] = None,
) -> Response:
    """What happened in a job, newest line last.

    Without `after` the newest lines, else the next ones. With `Accept: text/event-stream` the lines go on
    until the job rests; `Last-Event-ID` takes the place of `after`.
    """
    uid = await run_in_threadpool(log.uid_of, here.store, namespace, job_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        return LogStream(here, request, uid, _last_seen(request, after), round, site)
    page = await run_in_threadpool(
        log.read, here.store, uid, after=after, limit=limit, round_number=round, source=site
    )
    return JSONResponse({"lines": page.lines, "next": page.next, "more": page.more})


def _last_seen(request: Request, after: int | None) -> int:
    """The line after which the stream goes on.

    Raises:
        InvalidField: Last-Event-ID is no number of a line.
    """
    given = request.headers.get("last-event-id", "")
    if not given:
        return after or 0
    if not (given.isascii() and given.isdigit()) or int(given) > MAX_NUMBER:
        raise InvalidField("Last-Event-ID", f"must be the number of a line, got {given!r}")
    return int(given)
