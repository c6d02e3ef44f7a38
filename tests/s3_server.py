"""A real S3 server (moto) as a process of its own, which tests can hold up like a server that hangs."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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
