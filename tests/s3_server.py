"""A real S3 server (moto) as a process of its own, which tests can hold up like a server that hangs."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import answers, free_port, wait_until

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class S3Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def hang(self) -> None:
        """Connections are taken, answers do not come, and no error does either."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Answer again, also what was asked meanwhile."""
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server for the time of a `with` block; credentials for it are in the environment meanwhile."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = S3Server(
            url,
            subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            ),
        )
        try:
            wait_until(lambda: answers(f"{url}/moto-api/data.json"), timeout_s=60, what="the moto server")
            yield server
        finally:
            server.wake()
            server.process.terminate()
            try:
                server.process.wait(10)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait(10)


def new_bucket(endpoint: str) -> str:
    """An empty bucket's name."""
    import boto3

    name = f"test-{secrets.token_hex(6)}"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=name)
    client.close()
    return name


class Proxy:
    """Stands before an S3 server and answers in its place when `answer` says so.

    Attributes:
        answer: status for a request, given its method, path and how often that was asked before; 0 lets it
            through, None hangs until the test is over.
        requests: what was asked.
    """

    def __init__(self, target: str) -> None:
        self.answer: Callable[[str, str, int], int | None] = lambda _method, _path, _before: 0
        self.requests: list[tuple[str, str]] = []
        self.over = threading.Event()
        proxy, host = self, target.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = (self.command, self.path.partition("?")[0])
                status = proxy.answer(*asked, proxy.requests.count(asked))
                proxy.requests.append(asked)
                if status is None:
                    proxy.over.wait(60)
                    self.close_connection = True
                elif status:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.forward(body)

            def forward(self, body: bytes) -> None:
                connection = http.client.HTTPConnection(host, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                connection.close()

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server and all that hangs."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
