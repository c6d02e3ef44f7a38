"""A blob on its way to a registry: one streaming PUT, after a fault what is missing, where that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from catchment.errors import (
    CatchmentError,
    Forbidden,
    NotFound,
    Refused,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.registry.answers import PASSING, lost
from catchment.registry.auth import Scopes, repository_scope
from catchment.registry.backend import Chunk, Progress, Source
from catchment.registry.patience import Trials, retry_after_s
from catchment.registry.session import Session
from catchment.registry.transport import LOST, Answer, Body

ANSWER_S = 600.0
"""How long a registry may take to check and move a blob once it has all of it."""
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass
class Upload:
    """One blob's way up. `location` is empty before the registry has given one, `offset` what it has."""

    session: Session
    repository: str
    digest: str
    size: int
    source: Source
    progress: Progress | None = None
    location: str = ""
    offset: int = 0

    def __post_init__(self) -> None:
        self._scopes = repository_scope(self.repository, "pull", "push")
        self._what = f"pushing blob {self.digest} to {self.repository}"

    def run(self, mount_from: str = "") -> None:
        """Send it, from another repository of the same registry where that goes.

        Raises:
            TransferError: the source gives other bytes than announced.
            RateLimited, Unreachable: the registry fails for longer than there is patience.
        """
        trials = Trials(self.session.patience)
        best = 0
        if mount_from and self._mounted(mount_from):
            self._tell(self.size)
            return
        while True:
            error, wait_s = self._try()
            if error is None:
                self._tell(self.size)
                return
            if self.offset > best:
                best = self.offset
                trials.progressed()
            trials.failed(error, wait_s)
            if self._is_there():
                self._tell(self.size)
                return
            self._ask_offset()

    def _try(self) -> tuple[CatchmentError | None, float | None]:
        """Send what is missing. None when it is done, else a fault that may pass, and how long to wait."""
        try:
            answer = self._send()
        except LOST as fault:
            return lost(fault, self.session.host), None
        if answer.status == 201:
            answer.read()
            return None, None
        if answer.status == 401 and self.session.challenged(answer, self._scopes):
            # The token expired between POST and PUT; the next try has a new one.
            return self.session.error(answer, self._what), 0.0
        error = self.session.error(answer, self._what)
        if answer.status in PASSING or answer.status in (404, 416):
            if answer.status == 404:
                self.location = ""
            return error, retry_after_s(answer.header("Retry-After"))
        raise error

    def _send(self) -> Answer:
        if not self.location:
            self._start()
        if 0 < self.offset < self.size:
            first = f"{self.offset}-{self.size - 1}"
            answer = self._put("PATCH", self.location, self._body(), {"Content-Range": first})
            if answer.status not in (201, 202):
                return answer
            self.location = self.session.absolute(answer.header("Location") or self.location)
            answer.read()
            self.offset = self.size
        return self._put("PUT", self._final(), self._body() if self.offset < self.size else b"", {})

    def _put(self, method: str, url: str, body: Body | bytes, more: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/octet-stream", **more}
        try:
            return self.session.once(method, url, self._scopes, headers=headers, body=body, answer_s=ANSWER_S)
        finally:
            if isinstance(body, Body):
                body.chunks.close()  # type: ignore[attr-defined]

    def _body(self) -> Body:
        return Body(self._chunks(self.offset), self.size - self.offset)

    def _chunks(self, start: int) -> Iterator[Chunk]:
        done = start
        with self.source(start) as chunks:
            for chunk in chunks:
                yield chunk
                done += len(chunk)
                self._tell(min(done, self.size))

    def _mounted(self, mount_from: str) -> bool:
        """Whether the registry has the blob elsewhere and needs no bytes; if not, an upload may be open."""
        query = f"?mount={quote(self.digest, safe='')}&from={quote(mount_from, safe='')}"
        try:
            return self._start(query, repository_scope(mount_from, "pull"))
        except (Unauthorized, Forbidden, NotFound, Refused):
            return False

    def _start(self, query: str = "", more: Scopes = ()) -> bool:
        """Begin an upload; True when there is nothing to send."""
        path, scopes = f"/v2/{self.repository}/blobs/uploads/{query}", self._scopes + more
        answer = self.session.request("POST", path, scopes, self._what, accept=(201, 202))
        self.offset = 0
        if answer.status == 201:
            return True
        if not answer.header("Location"):
            raise Unreachable(f"{self.session.host}: {self._what}: the answer has no Location")
        self.location = self.session.absolute(answer.header("Location"))
        return False

    def _final(self) -> str:
        sign = "&" if urlsplit(self.location).query else "?"
        return f"{self.location}{sign}digest={quote(self.digest, safe='')}"

    def _is_there(self) -> bool:
        """Whether the registry has it after all, and only its answer was lost."""
        path = f"/v2/{self.repository}/blobs/{self.digest}"
        answer = self.session.request("HEAD", path, self._scopes, self._what, accept=(200, 404))
        return answer.status == 200

    def _ask_offset(self) -> None:
        """How much has arrived. A registry that does not know, as many do after a fault, gets all anew."""
        location, self.location, self.offset = self.location, "", 0
        if not location:
            return
        try:
            answer = self.session.request("GET", location, self._scopes, self._what, accept=(204, 202))
        except (NotFound, Refused, TransferError):
            return
        found = _RANGE.fullmatch(answer.header("Range").strip())
        if not found:
            return
        stored = int(found[1]) + 1 if int(found[1]) else 0
        if stored <= self.size:
            self.location = self.session.absolute(answer.header("Location") or location)
            self.offset = stored

    def _tell(self, done: int) -> None:
        if self.progress:
            self.progress(done)
