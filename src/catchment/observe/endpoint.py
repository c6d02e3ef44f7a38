"""A small server on loopback for the figures of a process that serves nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from catchment.errors import SetupError
from catchment.hosts import is_loopback
from catchment.observe.registry import CONTENT_TYPE

HOST = "127.0.0.1"
REQUEST_S = 5.0
"""Whoever connects has so long to ask."""


class Endpoint:
    """GET /metrics at 127.0.0.1, from threads of its own, until it is closed.

    Args:
        port: 0 for a free one.
        text: the figures now.

    Raises:
        SetupError: the port is taken.
    """

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        try:
            self._server = _Server((HOST, port), _handler(text))
        except OSError as error:
            raise SetupError(f"figures cannot be served at {HOST}:{port}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


def _handler(text: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET /metrics and nothing else."""

        timeout = REQUEST_S
        server_version = "catchment"
        sys_version = ""

        def do_GET(self) -> None:
            """The figures, for programs of this machine that call it by a loopback name."""
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if not is_loopback(host.strip("[]")):
                self._say(403, "text/plain", "only this machine's own programs may ask\n")
            elif self.path != "/metrics":
                self._say(404, "text/plain", "there is /metrics only\n")
            else:
                self._say(200, CONTENT_TYPE, text())

        def log_message(self, format: str, *args: object) -> None:
            """No line for each request."""

        def _say(self, status: int, kind: str, words: str) -> None:
            body = words.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
