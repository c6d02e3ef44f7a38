"""A blob on its way from a registry: goes on where a connection broke, and is checked at the end."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator

from catchment.errors import DigestMismatch, TransferError
from catchment.registry.answers import lost
from catchment.registry.auth import repository_scope
from catchment.registry.backend import CHUNK_BYTES, Chunk
from catchment.registry.hashing import HashBeside
from catchment.registry.patience import Trials
from catchment.registry.session import Session
from catchment.registry.transport import LOST, Answer

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RemoteBlob:
    """A blob's bytes from an offset on."""

    def __init__(self, session: Session, repository: str, digest: str, start: int, *, check: bool) -> None:
        """Ask for the blob.

        Raises:
            NotFound: there is none.
            TransferError: it has no byte `start`.
        """
        self._session = session
        self._scopes = repository_scope(repository, "pull")
        self._path = f"/v2/{repository}/blobs/{digest}"
        self._what = f"blob {digest} of {repository}"
        self._digest = digest
        self._check = check and not start
        self._start = start
        self.size = -1
        self._answer: Answer | None = None
        if start:
            self.size = blob_size(session, repository, digest)
            if start > self.size:
                raise TransferError(f"{digest} has {self.size} bytes and cannot be read from byte {start}")
        if start != self.size:
            self._answer = self._open(start)

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks, each valid until the next one."""
        if not self._check:
            yield from self._chunks()
            return
        with HashBeside() as sha256:
            for chunk in self._chunks():
                sha256.update(chunk)
                yield chunk
            if (actual := sha256.digest()) != self._digest:
                raise DigestMismatch(self._digest, actual)

    def _chunks(self) -> Iterator[memoryview]:
        """The chunks, in two buffers by turns: one may still be hashed while the other is filled."""
        trials = Trials(self._session.patience)
        size = min(CHUNK_BYTES, max(1, self.size - self._start))
        buffer, other = (memoryview(bytearray(size)) for _ in range(2))
        done = self._start
        while done < self.size:
            count = self._read(buffer, done, trials)
            if count:
                trials.progressed()
                done += count
                yield buffer[:count]
                buffer, other = other, buffer

    def close(self) -> None:
        """Give the connection back, or break it off."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _read(self, buffer: memoryview, done: int, trials: Trials) -> int:
        """The next bytes; 0 when the connection broke and a new one is open."""
        try:
            answer = self._answer or self._open(done)
            self._answer = answer
            if count := answer.readinto(buffer[: self.size - done]):
                return count
            raise http.client.IncompleteRead(b"", self.size - done)
        except LOST as error:
            self.close()
            trials.failed(lost(error, self._session.host))
            return 0

    def _open(self, start: int) -> Answer:
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._session.open(
            "GET", self._path, self._scopes, self._what, headers=headers, accept=(200, 206)
        )
        try:
            self._know(self._announced(answer, start))
            if answer.status == 200:
                _skip(answer, start)
        except BaseException:
            answer.close()
            raise
        return answer

    def _know(self, size: int) -> None:
        if self.size < 0:
            self.size = size if size >= 0 else self._asked_size()
        elif size not in (-1, self.size):
            raise TransferError(f"{self._what} had {self.size} bytes and now has {size}")

    def _announced(self, answer: Answer, start: int) -> int:
        """Bytes of the whole blob as the answer says; -1 when it does not."""
        if answer.status == 200:
            return -1 if answer.length is None else answer.length
        found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
        if not found or int(found[1]) != start:
            raise TransferError(
                f"{self._what}: bytes from {start} were asked for, the answer holds "
                f"{answer.header('Content-Range')!r}"
            )
        return -1 if found[3] == "*" else int(found[3])

    def _asked_size(self) -> int:
        repository = self._path.removeprefix("/v2/").rpartition("/blobs/")[0]
        return blob_size(self._session, repository, self._digest)


def blob_size(session: Session, repository: str, digest: str) -> int:
    """Bytes of a blob. Raises NotFound, TransferError when the registry does not say it."""
    what = f"blob {digest} of {repository}"
    answer = session.request(
        "HEAD", f"/v2/{repository}/blobs/{digest}", repository_scope(repository, "pull"), what
    )
    if answer.length is None:
        raise TransferError(f"{session.host} does not say how many bytes {what} has")
    return answer.length


def _skip(answer: Answer, count: int) -> None:
    """Throw away what a server sends that does not know ranges."""
    buffer = memoryview(bytearray(min(count, CHUNK_BYTES)))
    while count:
        got = answer.readinto(buffer[: min(count, len(buffer))])
        if not got:
            raise http.client.IncompleteRead(b"", count)
        count -= got
