"""The agent's HTTP connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from catchment.site.http import Connection, Endpoint


class Closing(BaseHTTPRequestHandler):
    """Answers each request and closes the connection, as some proxies do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def closing_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Closing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_connection_that_the_server_closed_is_opened_again(closing_server):
    connection = Connection(Endpoint(closing_server))
    for _ in range(3):
        with connection.request("GET", "/", timeout_s=5) as answer:
            assert answer.status == 200
            assert answer.read() == b"ok"
    connection.close()
