"""A small registry in memory that fails as it is told: late, halfway, wrongly, or elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.registry_servers import http_server


@dataclass
class Fault:
    """What happens to requests that fit, so many times.

    Attributes:
        method: of the request.
        path: regular expression that is searched in the path.
        times: how often; then it passes.
        status: answered instead; 0: the request is worked on.
        headers: of that answer.
        body: of that answer.
        cut_answer: the connection breaks after so many bytes of the answer's body.
        cut_request: the connection breaks after so many bytes of the request's body, which are kept.
        lose_answer: the request is worked on, and then the connection breaks.
        damage: a byte of the answer's body is another one.
        hang: nothing is answered until the test is over.
        more: headers to set in the real answer; None takes a header away.
    """

    method: str
    path: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_answer: int | None = None
    cut_request: int | None = None
    lose_answer: bool = False
    damage: bool = False
    hang: bool = False
    more: dict[str, str | None] = field(default_factory=dict)


@dataclass
class FaultyRegistry:
    """What it holds, what it was asked, and what will go wrong.

    Attributes:
        ranges: whether it knows Range.
        resumes: whether it knows how much of an upload it has.
    """

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: int = 0
    ranges: bool = True
    resumes: bool = True
    over: threading.Event = field(default_factory=threading.Event)

    def next_fault(self, method: str, path: str) -> Fault:
        """The fault for a request; one without any effect where there is none."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return Fault(method, path)

    def asked(self, method: str, path: str = "") -> list[dict[str, str]]:
        """Headers of the requests of a method whose path has `path` in it."""
        return [headers for one, its, headers in self.requests if one == method and path in its]


@contextlib.contextmanager
def faulty_registry() -> Iterator[FaultyRegistry]:
    """One for the time of a `with` block."""
    registry = FaultyRegistry()

    class Handler(_Handler):
        state = registry

    with http_server(Handler) as port:
        registry.host = f"127.0.0.1:{port}"
        try:
            yield registry
        finally:
            registry.over.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FaultyRegistry
    fault: Fault

    def handle_any(self) -> None:
        state = self.state
        path = urlsplit(self.path).path
        state.requests.append((self.command, self.path, dict(self.headers)))
        self.fault = state.next_fault(self.command, self.path)
        if self.fault.hang:
            state.over.wait(60)
            self._break()
        elif self.fault.status:
            self._body()
            self.answer(self.fault.status, self.fault.body, self.fault.headers)
        elif path == "/v2/":
            self.answer(200, b"{}")
        elif "/blobs/uploads/" in path:
            self._upload(path)
        elif found := re.fullmatch(r"/v2/(.+)/(blobs|manifests)/([^/]+)", path):
            getattr(self, f"_{found[2]}")(found[1], found[3])
        else:
            self.answer(404, b"no such page")

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _blobs(self, _repository: str, digest: str) -> None:
        data = self.state.blobs.get(digest)
        if data is None:
            self.refuse(404, "BLOB_UNKNOWN")
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found and self.state.ranges:
            start = int(found[1])
            told = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            self.answer(206, data[start:], told)
        else:
            self.answer(200, data, {"Docker-Content-Digest": digest})

    def _manifests(self, repository: str, reference: str) -> None:
        if self.command == "PUT":
            data = self._body()
            digest = _digest(data)
            for name in (reference, digest):
                self.state.manifests[repository, name] = (data, self.headers["Content-Type"])
            self.answer(201, b"", {"Docker-Content-Digest": digest})
        elif found := self.state.manifests.get((repository, reference)):
            self.answer(200, found[0], {"Content-Type": found[1], "Docker-Content-Digest": _digest(found[0])})
        else:
            self.refuse(404, "MANIFEST_UNKNOWN")

    def _upload(self, path: str) -> None:
        state, (base, _, upload) = self.state, path.rpartition("/")
        if self.command == "POST":
            upload = secrets.token_hex(8)
            state.uploads[upload] = b""
            self.answer(202, b"", {"Location": f"{base}/{upload}?state=1"})
            return
        if upload not in state.uploads:
            self._body()
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "GET":
            if state.resumes:
                self._told(204, path, upload)
            else:
                self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        state.uploads[upload] += self._body()
        if self.fault.cut_request is None:
            self._received(path, upload)

    def _received(self, path: str, upload: str) -> None:
        state = self.state
        if self.command == "PATCH":
            self._told(202, path, upload)
            return
        data = state.uploads.pop(upload)
        (wanted,) = parse_qs(urlsplit(self.path).query)["digest"]
        if _digest(data) != wanted:
            self.refuse(400, "DIGEST_INVALID")
            return
        state.blobs[wanted] = data
        self.answer(201, b"", {"Docker-Content-Digest": wanted})

    def _told(self, status: int, path: str, upload: str) -> None:
        last = max(0, len(self.state.uploads[upload]) - 1)
        self.answer(status, b"", {"Location": f"{path}?state=2", "Range": f"0-{last}"})

    def _body(self) -> bytes:
        size = int(self.headers.get("Content-Length") or 0)
        cut = self.fault.cut_request
        data = self.rfile.read(size if cut is None else min(cut, size))
        self.state.received += len(data)
        if cut is not None:
            self._break()
        return data

    def refuse(self, status: int, code: str) -> None:
        """An error as the specification writes it."""
        self.answer(status, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode())

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """An answer, with what the fault makes of it."""
        fault = self.fault
        if fault.lose_answer:
            self._break()
            return
        told = {"Content-Length": str(len(body)), **(headers or {}), **fault.more}
        if status == 204:
            del told["Content-Length"]
        self.send_response(status)
        for name, value in told.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.damage:
            body = bytes([body[0] ^ 1]) + body[1:]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body if fault.cut_answer is None else body[: fault.cut_answer])
            if fault.cut_answer is not None:
                self._break()

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
