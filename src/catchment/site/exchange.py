"""The site's half of the exchange protocol (`catchment.wire.messages`) over HTTP/1.1."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Literal, NoReturn, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from catchment.errors import (
    CatchmentError,
    Forbidden,
    NotFound,
    OffsetMismatch,
    ProtocolRefused,
    Refused,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.observe import trace
from catchment.observe.site import SiteFigures
from catchment.site.http import CHUNK, Body, Connection, Endpoint
from catchment.wire.messages import (
    ACCEPTS,
    Blob,
    Leave,
    PollAnswer,
    PollRequest,
    Registered,
    Registration,
    ResultAnswer,
    WorkResult,
)

M = TypeVar("M", bound=BaseModel)
Part = Literal["update", "files"]
"""What is uploaded beside a result: the client update, the archive of the script's files."""

_ANSWER_S = 30.0
_TRANSFER_S = 60.0
_MAX_ANSWER_BYTES = 64 * 2**20


class NotRegisteredError(NotFound):
    """The coordinator does not know this site (any more): 410."""


class Exchange:
    """The operations of the protocol on one connection; used by one thread, `abort` by any.

    All of them raise Unreachable (try again later), Unauthorized, Forbidden, NotFound, NotRegisteredError
    or Refused (the request is wrong and stays so).
    """

    def __init__(self, endpoint: Endpoint, site: str, figures: SiteFigures | None = None) -> None:
        self._connection = Connection(endpoint)
        self._moved = (figures or SiteFigures()).moved
        self._base = f"/exchange/v1/sites/{quote(site, safe='')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register(self, registration: Registration) -> Registered:
        """Introduce the site."""
        return self._post("/register", registration, Registered)

    def poll(self, request: PollRequest) -> PollAnswer:
        """Show a sign of life; wait for work and cancellations up to `request.wait_s`."""
        known = {ACCEPTS: "traceparent"}
        return self._post("/poll", request, PollAnswer, _ANSWER_S + request.wait_s, more=known)

    def leave(self, session: str, timeout_s: float) -> None:
        """Say goodbye for a session; NotRegisteredError when the site has a newer one."""
        body = Leave(session=session).model_dump_json().encode()
        response = self._send("POST", "/leave", body, {"Content-Type": "application/json"}, timeout_s)
        if response.status >= 300:
            self._refuse(response)
        self._read(response)

    def read_blob(self, blob: Blob, offset: int) -> Iterator[memoryview]:
        """A blob's bytes from `offset` on, in pieces that are valid until the next one is taken.

        Raises:
            OffsetMismatch: the server does not begin there but at the offset that the error carries.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._send("GET", f"/blobs/{blob.digest}", headers=headers, timeout_s=_TRANSFER_S)
        if offset and response.status in (200, 416):
            self._connection.close()
            raise OffsetMismatch(0, offset)
        if response.status not in (200, 206):
            self._refuse(response)
        buffer = memoryview(bytearray(CHUNK))
        try:
            while count := response.readinto(buffer):
                self._moved.add("down", by=count)
                yield buffer[:count]
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"the download broke off: {error}") from error
        finally:
            if not response.isclosed():
                self._connection.close()

    def upload_offset(self, work_id: str, part: Part) -> int:
        """How many bytes of a part of the work's result the server has."""
        return _offset(self._answer("HEAD", f"/work/{quote(work_id, safe='')}/{part}"))

    def put_chunk(self, work_id: str, part: Part, blob: Blob, chunk: Body, offset: int) -> int:
        """Send a chunk of the update or of the files; return how many bytes the server has now.

        Raises:
            OffsetMismatch: the server wants to go on at another offset.
            TransferError: the whole arrived damaged; the upload begins anew.
        """
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {offset}-{offset + len(chunk) - 1}/{blob.size_bytes}",
            "Update-Digest": blob.digest,
        }
        path = f"/work/{quote(work_id, safe='')}/{part}"
        response = self._send("PUT", path, chunk, headers, _TRANSFER_S)
        if response.status == 409 and response.getheader("Upload-Offset") is not None:
            self._read(response)
            raise OffsetMismatch(_offset(response), offset)
        if response.status >= 300:
            self._refuse(response)
        self._read(response)
        self._moved.add("up", by=len(chunk))
        return _offset(response)

    def send_result(self, work_id: str, result: WorkResult) -> ResultAnswer:
        """Tell how a work ended.

        Raises:
            TransferError: the update that it names is not there (any more); upload it again.
        """
        path = f"/work/{quote(work_id, safe='')}/result"
        return self._post(path, result, ResultAnswer, conflict=TransferError)

    def say_secure(self, work_id: str, step: str, body: bytes) -> None:
        """Send a message of secure aggregation.

        Raises:
            ProtocolRefused: the coordinator does not take it, or the attempt is over.
        """
        headers = {"Content-Type": "application/json"}
        response = self._send("POST", _secagg(work_id, step), body, headers)
        if response.status >= 300:
            self._refuse(response, ProtocolRefused)
        self._read(response)

    def ask_secure(self, work_id: str, step: str, wait_s: float) -> bytes:
        """A message of secure aggregation for this site, b"" when there is none within `wait_s`.

        Raises:
            ProtocolRefused: the attempt is over, or goes on without this site.
        """
        path = f"{_secagg(work_id, step)}?wait_s={wait_s:.3f}"
        response = self._send("GET", path, timeout_s=_ANSWER_S + wait_s)
        if response.status >= 300:
            self._refuse(response, ProtocolRefused)
        return self._read(response)

    def abort(self) -> None:
        """Wake up the thread that waits for an answer, with Unreachable; so ends every call until `rearm`."""
        self._connection.abort()

    def rearm(self) -> None:
        """Allow calls again after an abort."""
        self._connection.rearm()

    @property
    def aborted(self) -> bool:
        """Whether calls end at once."""
        return self._connection.aborted

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(
        self,
        path: str,
        body: BaseModel,
        answer: type[M],
        timeout_s: float = _ANSWER_S,
        conflict: type[CatchmentError] = Refused,
        more: Mapping[str, str] | None = None,
    ) -> M:
        headers = {"Content-Type": "application/json", "Accept": "application/json", **(more or {})}
        sent = body.model_dump_json().encode()
        response = self._send("POST", path, sent, headers, timeout_s)
        if response.status >= 300:
            self._refuse(response, conflict)
        received = self._read(response)
        try:
            return answer.model_validate_json(received)
        except ValidationError as error:
            raise Unreachable(f"the server's answer to {path} makes no sense: {error}") from error

    def _answer(self, method: str, path: str, *, timeout_s: float = _ANSWER_S) -> http.client.HTTPResponse:
        response = self._send(method, path, timeout_s=timeout_s)
        if response.status >= 300:
            self._refuse(response)
        self._read(response)
        return response

    def _send(
        self,
        method: str,
        path: str,
        body: Body = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _ANSWER_S,
    ) -> http.client.HTTPResponse:
        if (here := trace.current()) is not None:
            headers = {**(headers or {}), "traceparent": here.traceparent}
        return self._connection.request(method, self._base + path, body, headers, timeout_s=timeout_s)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            data = response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"the answer broke off: {error}") from error
        if not response.isclosed():
            self._connection.close()
        return data

    def _refuse(
        self, response: http.client.HTTPResponse, conflict: type[CatchmentError] = Refused
    ) -> NoReturn:
        """Raise the error that a status stands for, 409 as `conflict`, with the problem detail's words."""
        words = f"{response.status} {_detail(self._read(response)) or response.reason}"
        if response.status == 409:
            raise conflict(words)
        raise _ERRORS.get(response.status, Unreachable if response.status >= 500 else Refused)(words)


_ERRORS: dict[int, type[CatchmentError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Unreachable,
    410: NotRegisteredError,
    422: TransferError,
    429: Unreachable,
}


def _secagg(work_id: str, step: str) -> str:
    return f"/work/{quote(work_id, safe='')}/secagg/{step}"


def _offset(response: http.client.HTTPResponse) -> int:
    value = response.getheader("Upload-Offset", "")
    if not value.isdecimal():
        raise Unreachable(f"the server tells no Upload-Offset: {value!r}")
    return int(value)


def _detail(body: bytes) -> str:
    """The sentence of an RFC 9457 problem detail, "" when the body is none."""
    try:
        problem = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(problem, dict):
        return ""
    return str(problem.get("detail") or problem.get("title") or "")[:500]
