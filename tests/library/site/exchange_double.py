"""A small coordinator for tests: the exchange protocol over real HTTP, and switches for what goes wrong."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from catchment.wire.messages import (
    PROTOCOL,
    Blob,
    Cancel,
    Leave,
    PollAnswer,
    PollRequest,
    Registered,
    Registration,
    ResultAnswer,
    WorkOrder,
    WorkResult,
)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ExchangeDouble:
    """Holds works, blobs, uploads and results of one coordinator; serves them on a loopback port."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.changed = threading.Condition()
        self.blobs: dict[str, bytes] = {}
        self.blob_requests: list[tuple[str, str]] = []
        self.registrations: list[Registration] = []
        self.sessions: set[str] = set()
        self.left = 0
        self.polls: list[PollRequest] = []
        self.orders: dict[str, WorkOrder] = {}
        self.given: list[str] = []
        self.cancels: dict[str, str] = {}
        self.uploads: dict[str, bytearray] = {}
        self.upload_requests: list[tuple[str, str]] = []
        self.results: dict[str, WorkResult] = {}
        self.break_upload_after = -1  # bytes of a chunk after which the connection is cut, once
        self.break_blob_after = -1
        self.refuse: dict[str, tuple[int, str]] = {}  # "METHOD /end/of/path" -> status, detail
        self.refused: list[str] = []
        self.poll_s = 5.0
        self.closed = False
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self, port: int = 0) -> None:
        double = self

        class Handler(_Handler):
            exchange = double

        self.closed = False
        self._server = _Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            with self.changed:
                self.closed = True
                self.changed.notify_all()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_blob(self, data: bytes) -> Blob:
        blob = Blob(digest=digest_of(data), size_bytes=len(data))
        self.blobs[blob.digest] = data
        return blob

    def publish(self, order: WorkOrder) -> WorkOrder:
        with self.changed:
            self.orders[order.work_id] = order
            self.changed.notify_all()
        return order

    def cancel(self, work_id: str, reason: str = "the job was stopped") -> None:
        with self.changed:
            self.cancels[work_id] = reason
            self.changed.notify_all()

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Wait until `condition()` is true; looked at when something happens here, and now and then."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not (found := condition()):
                assert time.monotonic() < deadline, f"not within {timeout_s} s; results: {self.results}"
                self.changed.wait(0.05)
            return found

    def result(self, work_id: str, timeout_s: float = 20.0) -> WorkResult:
        result = self.until(lambda: self.results.get(work_id), timeout_s)
        assert isinstance(result, WorkResult)
        return result

    def answer_poll(self, request: PollRequest) -> PollAnswer:
        """Work that fits, sent again while the site does not hold it, and cancellations of what it holds."""
        deadline = time.monotonic() + request.wait_s
        with self.changed:
            self.polls.append(request)
            self.changed.notify_all()
            while True:
                cancels = tuple(
                    Cancel(work_id=work_id, reason=reason)
                    for work_id, reason in self.cancels.items()
                    if work_id in request.holding
                )
                wanted = [
                    order
                    for work_id, order in self.orders.items()
                    if work_id not in request.holding
                    and work_id not in self.results
                    and work_id not in self.cancels
                ][: request.free]
                left = deadline - time.monotonic()
                if wanted or cancels or left <= 0 or self.closed:
                    self.given += [order.work_id for order in wanted]
                    return PollAnswer(work=tuple(wanted), cancel=cancels)
                self.changed.wait(left)


def _upload(path: list[str]) -> str:
    """An update goes by its work's id, the files by that and `/files`."""
    return path[1] if path[2] == "update" else "/".join(path[1:])


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what these tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    exchange: ExchangeDouble

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def problem(self, status: int, detail: str, **headers: str) -> None:
        body = json.dumps({"title": "refused", "status": status, "detail": detail}).encode()
        self.answer(status, body, Content_Type="application/problem+json", **headers)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def path_of(self) -> list[str] | None:
        """The path below the site, or None when the request was answered already."""
        parts = [unquote(part) for part in self.path.split("/")]
        assert parts[:4] == ["", "exchange", "v1", "sites"], self.path
        exchange = self.exchange
        for request, (status, detail) in list(exchange.refuse.items()):
            method, end = request.split()
            if self.command == method and self.path.endswith(end):
                self.body()
                self.problem(status, detail)
                with exchange.changed:
                    exchange.refused.append(request)
                    exchange.changed.notify_all()
                return None
        if exchange.token and self.headers.get("Authorization") != f"Bearer {exchange.token}":
            self.body()
            self.problem(401, "no such token")
            return None
        if parts[5] not in ("register", "leave") and not exchange.sessions:
            self.body()
            self.problem(410, "this site is not registered")
            return None
        return parts[5:]

    def do_POST(self) -> None:
        path = self.path_of()
        if path is None:
            return
        exchange, body = self.exchange, self.body()
        if path == ["register"]:
            registration = Registration.model_validate_json(body)
            if registration.protocol != PROTOCOL:
                self.problem(400, "another protocol")
                return
            with exchange.changed:
                exchange.registrations.append(registration)
                exchange.sessions = {registration.session}
                exchange.changed.notify_all()
            self.json(Registered(lease_s=30, poll_s=exchange.poll_s))
            return
        if path == ["leave"]:
            with exchange.changed:
                assert Leave.model_validate_json(body).session in exchange.sessions
                exchange.left += 1
                exchange.changed.notify_all()
            self.answer(204)
            return
        if path == ["poll"]:
            self.json(exchange.answer_poll(PollRequest.model_validate_json(body)))
            return
        self.take_result(path[1], WorkResult.model_validate_json(body))

    def take_result(self, work_id: str, result: WorkResult) -> None:
        exchange = self.exchange
        with exchange.changed:
            known = work_id in exchange.orders and work_id not in exchange.cancels
            complete = all(
                blob is None or digest_of(bytes(exchange.uploads.get(key, b""))) == blob.digest
                for key, blob in ((work_id, result.update), (f"{work_id}/files", result.files))
            )
            if known and complete:
                exchange.results.setdefault(work_id, result)
            exchange.changed.notify_all()
        if not known:
            self.problem(404, "no such work")
            return
        self.json(ResultAnswer(accepted=complete, reason="" if complete else "the update is not here"))

    def json(self, message: Any) -> None:
        self.answer(200, message.model_dump_json().encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        path = self.path_of()
        if path is None:
            return
        exchange, span = self.exchange, self.headers.get("Range", "")
        with exchange.changed:
            exchange.blob_requests.append((path[1], span))
            exchange.changed.notify_all()
            cut, exchange.break_blob_after = exchange.break_blob_after, -1
        data = exchange.blobs.get(path[1])
        if data is None:
            self.problem(404, "no such blob")
            return
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if start >= len(data) and span:
            self.answer(416)
            return
        self.send_response(206 if span else 200)
        self.send_header("ETag", f'"{path[1]}"')
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if cut < 0 else data[start : start + cut])
        self.close_connection = cut >= 0

    def do_HEAD(self) -> None:
        path = self.path_of()
        if path is None:
            return
        if path[1] not in self.exchange.orders:
            self.problem(404, "no such work")
            return
        self.answer(200, Upload_Offset=str(len(self.exchange.uploads.get(_upload(path), b""))))

    def do_PUT(self) -> None:
        path = self.path_of()
        if path is None:
            return
        exchange, work_id = self.exchange, _upload(path)
        span = self.headers["Content-Range"]
        start = int(span.removeprefix("bytes ").partition("-")[0])
        length = int(self.headers["Content-Length"])
        with exchange.changed:
            stored = exchange.uploads.setdefault(work_id, bytearray())
            exchange.upload_requests.append((work_id, span))
            cut, exchange.break_upload_after = exchange.break_upload_after, -1
        if cut >= 0:
            stored += self.rfile.read(cut)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if start != len(stored):
            self.problem(409, "go on where we are", Upload_Offset=str(len(stored)))
            return
        with exchange.changed:
            stored += body
            exchange.changed.notify_all()
        self.answer(200, Upload_Offset=str(len(stored)))
