"""The part of a kubelet that an API server asks for logs, over HTTPS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.kubernetes_double.logs import Logs
from tests.kubernetes_double.objects import Object
from tests.kubernetes_double.problems import Problem, note_error


class LogServer(ThreadingHTTPServer):
    """Answers `/containerLogs/NAMESPACE/POD/CONTAINER`.

    Args:
        logs: that it answers with.
        pod: (namespace, name) -> the pod.
        certificate, key: of the server; nobody checks them, as in most clusters.
        broken: takes what it should not have met.
    """

    daemon_threads = True

    def __init__(
        self,
        logs: Logs,
        pod: Callable[[str, str], Object],
        certificate: Path,
        key: Path,
        broken: list[BaseException],
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.logs, self.pod, self.broken = logs, pod, broken
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._answering = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.server_address[1])

    def begin(self) -> None:
        """Answer from now on."""
        self._answering.start()

    def end(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()
        self._answering.join(10)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; what else ends a handler is one of the tests'."""
        note_error(self.broken)


class _Handler(BaseHTTPRequestHandler):
    server: LogServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        """A container's log, or the kubelet's words why there is none."""
        address = urlsplit(self.path)
        _, _, namespace, pod, container = unquote(address.path).split("/")
        query = dict(parse_qsl(address.query)) | {"container": container}
        try:
            code, text = 200, self.server.logs.read(self.server.pod(namespace, pod), query)
        except Problem as problem:
            code, text = problem.code, problem.message
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
