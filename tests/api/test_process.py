"""The process that users run: real sockets, real signals, bodies that never fill its memory."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import launch
from api.__main__ import check_setup
from api.listening import Listening
from catchment.access import create_token
from catchment.errors import SetupError
from catchment.settings import Settings
from catchment.store import open_store
from tests.api.orders import REGISTRATION, digest_of, offer_work
from tests.api.serving import ROOT, ApiProcess, api_environment, api_process
from tests.conftest import free_port, wait_until

JOBS = "/api/v1/namespaces/default/jobs"
SITE = "/exchange/v1/sites/site-1"
MIB = 1 << 20


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port()) as process:
        yield process


@pytest.fixture
def http_client(running: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


def test_a_job_lives_over_http(http_client: httpx.Client, job: Callable[..., dict[str, Any]]) -> None:
    def state() -> Any:
        return http_client.get(f"{JOBS}/digits").json()["status"]["state"]

    assert http_client.get("/api/v1/health").json() == "OK"
    assert http_client.post(JOBS, json=job()).json() == {"state": "SUCCESSFUL"}
    assert http_client.put(f"{JOBS}/digits", json=job(description="again")).status_code == 200
    assert http_client.put(f"{JOBS}/digits:start").status_code == 200
    shown = http_client.get(f"{JOBS}/digits").json()["status"]
    assert shown["state"] == "STARTING"
    assert "Prefect does not answer" in shown["reason"]
    assert http_client.get("/readyz").status_code == 503
    assert http_client.put(f"{JOBS}/digits:stop").status_code == 200
    wait_until(lambda: state() == "STOPPED", timeout_s=20, what="the job to stop")
    assert [each["id"] for each in http_client.get(JOBS).json()["jobs"]] == ["digits"]
    assert http_client.delete(f"{JOBS}/digits").status_code == 200
    wait_until(
        lambda: http_client.get(f"{JOBS}/digits").status_code == 404, timeout_s=20, what="the job to be gone"
    )


def test_large_bodies_pass_through_without_filling_memory(
    home: Path, running: ApiProcess, http_client: httpx.Client
) -> None:
    data = os.urandom(MIB) * 192
    store = open_store(Settings(home=home))
    try:
        digest = offer_work(store, "site-1", "w1", data)
    finally:
        store.close()
    http_client.post(f"{SITE}/register", json=REGISTRATION)
    before = running.rss_mib()
    half = len(data) // 2
    for start, stop in ((0, half), (half, len(data))):
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}", "Update-Digest": digest_of(data)}
        answer = _put(running, f"{SITE}/work/w1/update", data[start:stop], headers)
        assert answer == (204, str(stop))
    received = http_client.get(f"{SITE}/blobs/{digest}", headers={"Range": f"bytes={half}-"})
    assert received.status_code == 206
    assert received.content == data[half:]
    assert http_client.get(f"{SITE}/blobs/{digest}").content == data
    assert running.rss_mib() - before < 64


def _put(running: ApiProcess, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
    host = running.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("PUT", path, body=memoryview(body), headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Upload-Offset")
    finally:
        connection.close()


def test_what_arrived_before_a_connection_broke_is_kept(home: Path, running: ApiProcess) -> None:
    data = os.urandom(8 * MIB)
    store = open_store(Settings(home=home))
    try:
        offer_work(store, "site-1", "w1", b"weights")
    finally:
        store.close()
    host, port = running.url.removeprefix("http://").split(":")
    head = (
        f"PUT {SITE}/work/w1/update HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n"
        f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\nUpdate-Digest: {digest_of(data)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + data[: 5 * MIB])
    with httpx.Client(base_url=running.url, timeout=20) as client:

        def stored() -> int:
            return int(client.head(f"{SITE}/work/w1/update").headers["upload-offset"])

        wait_until(lambda: stored() >= 4 * MIB, timeout_s=20, what="the first megabytes to be kept")

        def goes_on() -> bool:
            start = stored()
            headers = {
                "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}",
                "Update-Digest": digest_of(data),
            }
            return (
                client.put(f"{SITE}/work/w1/update", content=data[start:], headers=headers).status_code == 204
            )

        wait_until(goes_on, timeout_s=20, what="the rest to be taken")
        assert stored() == len(data)


def test_a_refused_chunk_hears_why_and_keeps_its_connection(home: Path, running: ApiProcess) -> None:
    store = open_store(Settings(home=home))
    try:
        offer_work(store, "site-1", "w1", b"weights")
    finally:
        store.close()
    part = bytes(8 * MIB)
    headers = {
        "Content-Range": f"bytes {MIB}-{MIB + len(part) - 1}/{64 * MIB}",
        "Update-Digest": digest_of(b"any"),
    }
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    try:
        for _ in range(3):
            connection.request("PUT", f"{SITE}/work/w1/update", body=part, headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.getheader("Upload-Offset")) == (409, "0")
            assert not answer.will_close
    finally:
        connection.close()


def test_sigterm_answers_open_polls_and_ends_soon(running: ApiProcess, http_client: httpx.Client) -> None:
    http_client.post(f"{SITE}/register", json=REGISTRATION)
    body = {"session": "session-1", "free": 1, "wait_s": 30}

    def poll() -> httpx.Response:
        return httpx.post(f"{running.url}{SITE}/poll", json=body, timeout=40)

    with ThreadPoolExecutor(5) as threads:
        polls = [threads.submit(poll) for _ in range(5)]
        wait_until(lambda: _open_requests(running) >= 5, timeout_s=10, what="the polls to be open")
        code, seconds = running.terminate(10)
        answers = [each.result() for each in polls]
    assert code == 0
    assert seconds < 5
    assert [(each.status_code, each.json()) for each in answers] == [(200, {"work": [], "cancel": []})] * 5


def _open_requests(running: ApiProcess) -> int:
    """How many requests the process has begun and not answered, beside the one that asks."""
    text = httpx.get(f"{running.url}/metrics", timeout=10).text
    (line,) = [each for each in text.splitlines() if each.startswith("catchment_api_open_requests ")]
    return round(float(line.split()[1])) - 1


def test_sigterm_ends_in_time_even_when_an_upload_hangs(home: Path, running: ApiProcess) -> None:
    store = open_store(Settings(home=home))
    try:
        offer_work(store, "site-1", "w1", b"weights")
    finally:
        store.close()
    host, port = running.url.removeprefix("http://").split(":")
    head = (
        f"PUT {SITE}/work/w1/update HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n"
        f"Content-Range: bytes 0-999/1000\r\nUpdate-Digest: sha256:{'0' * 64}\r\n\r\nfew bytes"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        wait_until(lambda: _open_requests(running) >= 1, timeout_s=10, what="the upload to be open")
        code, seconds = running.terminate(10)
    assert code == 0
    assert seconds < 6


def test_a_poll_ends_when_its_site_goes_away(running: ApiProcess, http_client: httpx.Client) -> None:
    http_client.post(f"{SITE}/register", json=REGISTRATION)
    before = _open_requests(running)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{running.url}{SITE}/poll", json={"session": "session-1", "free": 1, "wait_s": 30}, timeout=0.5
        )
    wait_until(lambda: _open_requests(running) <= before, timeout_s=5, what="the poll to be given up")


def test_a_refusal_is_one_sentence_and_exit_code_2(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "--host", "0.0.0.0", "--port", str(free_port())],
        cwd=ROOT,
        env=api_environment(home),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"CATCHMENT_AUTH=tokens" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_refuses_what_is_unsafe_or_cannot_work(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(launch, "check_configured", lambda: None)
    check_setup(Settings(home=home), Listening("localhost", port))
    with pytest.raises(SetupError, match="so a login is needed"):
        check_setup(Settings(home=home), Listening("0.0.0.0", port, insecure_http=True))
    with pytest.raises(SetupError, match="without TLS tokens and models travel in plain text"):
        check_setup(Settings(home=home, auth="tokens"), Listening("0.0.0.0", port))
    with pytest.raises(SetupError, match="no admin token"):
        check_setup(Settings(home=home, auth="tokens"), Listening("0.0.0.0", port, insecure_http=True))
    with pytest.raises(SetupError, match="migrate"):
        check_setup(Settings(home=tmp_path / "empty"), Listening("127.0.0.1", port))
    with pytest.raises(SetupError, match="need each other"):
        check_setup(Settings(home=home), Listening("127.0.0.1", port, tls_cert=tmp_path / "cert"))
    with pytest.raises(SetupError, match="--tls-client-ca needs"):
        check_setup(Settings(home=home), Listening("127.0.0.1", port, tls_client_ca=tmp_path / "ca"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SetupError, match="in use"):
            check_setup(Settings(home=home), Listening("127.0.0.1", taken.getsockname()[1]))


def test_with_an_admin_token_it_serves_other_machines(home: Path) -> None:
    store = open_store(Settings(home=home))
    try:
        token = create_token(store, "admin")
    finally:
        store.close()
    with api_process(home, free_port(), CATCHMENT_AUTH="tokens") as running:
        assert httpx.get(f"{running.url}/api/v1/version", timeout=20).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{running.url}/api/v1/version", headers=headers, timeout=20).status_code == 200
        assert "bearer tokens" in running.log.read_text()


def test_many_clients_at_once_are_all_answered(running: ApiProcess, http_client: httpx.Client) -> None:
    http_client.post(f"{SITE}/register", json=REGISTRATION)
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            httpx.post(f"{running.url}{SITE}/poll", json={"session": "session-1", "free": 1, "wait_s": 1})

    with ThreadPoolExecutor(20) as threads:
        polls = [threads.submit(poll) for _ in range(20)]
        began = time.monotonic()
        for _ in range(50):
            assert http_client.get(JOBS).status_code == 200
        taken = time.monotonic() - began
        stop.set()
        for each in polls:
            each.result()
    assert taken < 30
