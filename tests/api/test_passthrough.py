"""A configured registry answers /v2 and Harbor's paths: docker-registry, and a double that tells all."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from catchment.access import create_token
from catchment.settings import Settings
from catchment.store import open_store
from tests.api.registry_client import MANIFEST_TYPE, Client, described, digest_of, modelpack, ormb
from tests.api.serving import ApiProcess, RecordingLauncher, api_process, in_process
from tests.conftest import free_port, wait_until

NET = {"model/net.onnx": b"weights" * 1000}
MODELS = "/api/v1/namespaces/default/models"
USER, PASSWORD = "robot$train", "s3cret:with/signs"
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextmanager
def docker_registry(folder: Path, *, login: bool = False) -> Iterator[str]:
    """A running docker-registry; its host and port."""
    folder.mkdir(parents=True)
    host = f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "of these tests"},
    }
    if login:
        command = ["htpasswd", "-Bbn", USER, PASSWORD]
        entry = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (folder / "htpasswd").write_text(entry)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: _answers(host), timeout_s=30, what="docker-registry")
            yield host
        finally:
            process.kill()
            process.wait(10)


def _answers(host: str) -> bool:
    try:
        return Client(f"http://{host}")("GET", "/v2/").status in (200, 401)
    except OSError:
        return False


@contextmanager
def serving(folder: Path, migrated_home: Path, registry: str, **environment: str) -> Iterator[ApiProcess]:
    home = Path(shutil.copytree(migrated_home, folder / "home"))
    more = {"CATCHMENT_REGISTRY_URL": f"http://{registry}", **environment}
    with api_process(home, free_port(), **more) as running:
        yield running


def version(client: Client, name: str) -> dict[str, Any]:
    (found,) = client("GET", f"{MODELS}/{name}").json()["models"]
    return dict(found)


pytestmark = pytest.mark.needs("docker-registry")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("behind") / "registry") as host:
        yield host


@pytest.fixture(scope="module")
def running(
    behind: str, tmp_path_factory: pytest.TempPathFactory, migrated_home: Path
) -> Iterator[ApiProcess]:
    with serving(tmp_path_factory.mktemp("passing"), migrated_home, behind) as process:
        yield process


@pytest.fixture
def client(running: ApiProcess) -> Client:
    return Client(running.url)


@pytest.mark.parametrize(
    ("name", "artifact"), [("net", ormb(NET)), ("packed", modelpack({"net.onnx": b"weights"}))]
)
def test_what_is_pushed_through_is_at_the_registry_and_a_version_here(
    client: Client, behind: str, name: str, artifact: Any
) -> None:
    put = client.push(f"default/{name}", "v1", artifact)
    assert (put.status, put.headers["docker-content-digest"]) == (201, artifact.digest), put.body
    there = Client(f"http://{behind}")("GET", f"/v2/default/{name}/manifests/v1", Accept=MANIFEST_TYPE)
    assert there.body == artifact.manifest
    back = client("GET", f"/v2/default/{name}/manifests/v1", Accept=MANIFEST_TYPE)
    assert (back.body, back.headers["content-type"]) == (artifact.manifest, MANIFEST_TYPE)
    blob = client("GET", f"/v2/default/{name}/blobs/{digest_of(artifact.blobs[1])}", Range="bytes=1-3")
    assert (blob.status, blob.body) == (206, artifact.blobs[1][1:4])
    found = version(client, name)
    assert (found["state"], found["digest"], found["format"]) == ("ready", artifact.digest, "ONNX")
    told = client("GET", f"/api/v1/models/lineage?model_id={found['id']}").json()["made_from"]
    assert (told["kind"], told["registry"]) == ("push", behind)
    content = client("GET", f"/api/v1/models/content?model_id={found['id']}")
    assert (content.status, behind in content.json()["reason"]) == (400, True)


def test_a_tag_that_moves_there_moves_here(client: Client) -> None:
    first, second = ormb(NET), ormb({"model/net.onnx": b"better"})
    client.push("default/moving", "v1", first)
    before = version(client, "moving")
    client.push("default/moving", "v1", first)
    assert version(client, "moving") == before
    assert client.push("default/moving", "v1", second).status == 201
    after = version(client, "moving")
    assert (after["digest"], after["id"] != before["id"]) == (second.digest, True)


def test_a_push_that_is_no_model_of_ours_succeeds_and_is_no_version(
    client: Client, running: ApiProcess
) -> None:
    client.push_blob("other/image", b"{}")
    image = described("application/vnd.oci.image.config.v1+json", b"{}")
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": image, "layers": []}
    ).encode()
    assert client.put_manifest("other/image", "v1", manifest).status == 201
    assert client.push("nowhere/net", "v1", ormb(NET)).status == 201
    assert client.push("default/team/net", "v1", ormb(NET)).status == 201
    log = running.log.read_text()
    assert log.count("is no version here") == 3, log


def test_places_at_the_registry_are_places_here(client: Client, running: ApiProcess) -> None:
    begun = client("POST", "/v2/default/net/blobs/uploads/", b"")
    assert begun.headers["location"].startswith(f"{running.url}/v2/default/net/blobs/uploads/")


def test_large_blobs_pass_both_ways_without_filling_memory(client: Client, running: ApiProcess) -> None:
    data = os.urandom(1 << 20) * 96
    before = running.rss_mib()
    client.push_blob("default/large", data)
    assert client("GET", f"/v2/default/large/blobs/{digest_of(data)}").body == data
    assert running.rss_mib() - before < 64


def test_a_large_body_that_the_registry_refuses_is_answered(client: Client) -> None:
    path = f"/v2/default/net/blobs/uploads/0b3b1a3e-0000-4000-8000-000000000000?digest={digest_of(b'')}"
    answer = client("PUT", path, bytes(20 << 20))
    assert (answer.status, answer.code()) == (404, "BLOB_UPLOAD_INVALID")


@pytest.mark.needs("htpasswd")
def test_the_login_is_the_callers_own_and_the_token_travels_beside_it(
    tmp_path: Path, migrated_home: Path
) -> None:
    with_admin = Path(shutil.copytree(migrated_home, tmp_path / "with-admin"))
    store = open_store(Settings(home=with_admin))
    create_token(store, "admin")
    store.close()
    with (
        docker_registry(tmp_path / "registry", login=True) as behind,
        serving(tmp_path, with_admin, behind, CATCHMENT_AUTH="tokens") as running,
    ):
        store = open_store(Settings(home=running.log.parent))
        token = create_token(store, "user")
        store.close()
        own = {"X-Catchment-Token": token}
        for headers in ({}, {"Authorization": LOGIN}, {"X-Catchment-Token": "catchment_x"}):
            answer = Client(running.url, headers)("GET", "/v2/")
            assert (answer.status, answer.code()) == (403, "DENIED"), answer.body
            assert b"X-Catchment-Token" in answer.body
        asked = Client(running.url, own)("GET", "/v2/")
        assert (asked.status, asked.headers["www-authenticate"]) == (401, 'Basic realm="tests"')
        both = Client(running.url, own | {"Authorization": LOGIN})
        assert both("GET", "/v2/").status == 200
        assert both.push("default/net", "v1", ormb(NET)).status == 201
        user = Client(running.url, {"Authorization": f"Bearer {token}"})
        found = version(user, "net")
        events = user("GET", f"/api/v1/models/lineage?model_id={found['id']}").json()["events"]
        assert {event["actor"] for event in events} == {f"user token {token.split('_')[1]}"}
        assert PASSWORD not in running.log.read_text()


class Double(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/c/slow"):
            time.sleep(0.01)
        body = json.dumps(
            {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        ).encode()
        own = self.headers["Host"]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/odd")
        self.send_header("Set-Cookie", "sid=1")
        self.send_header("Set-Cookie", "other=2")
        self.send_header("Keep-Alive", "timeout=5")
        self.send_header("X-Hop", "1")
        self.send_header("Connection", "keep-alive, X-Hop")
        self.send_header("Location", f"http://{own}/service/token?x=1")
        self.send_header(
            "WWW-Authenticate", 'Bearer realm="https://harbor.example/service/token",service="h"'
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Iterator[ApiProcess]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    folder = tmp_path_factory.mktemp("doubled")
    aliases = {"CATCHMENT_REGISTRY_ALIASES": "harbor.example, other.example:8443"}
    try:
        with serving(folder, migrated_home, f"127.0.0.1:{server.server_port}", **aliases) as process:
            yield process
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/_catalog?n=3&last=a%2Fb",
        "/api/v2.0/projects/p/repositories/a%252Fb/artifacts?q=tags%3Dv1",
        "/service/token?scope=repository:a/b:pull",
        "/c/login",
    ],
)
def test_paths_and_headers_arrive_as_they_were_sent(doubled: ApiProcess, path: str) -> None:
    client = Client(doubled.url, {"Authorization": "Bearer of-mine", "X-Catchment-Token": "t", "X-More": "m"})
    answer = client("GET", path)
    saw = answer.json()
    assert saw["path"] == path
    assert saw["headers"]["authorization"] == "Bearer of-mine"
    assert saw["headers"]["x-more"] == "m"
    assert "x-catchment-token" not in saw["headers"]
    assert saw["headers"]["x-forwarded-host"] == doubled.url.removeprefix("http://")
    assert answer.headers["content-type"] == "text/odd"
    assert ("set-cookie" in answer.headers) == path.startswith("/c/")
    assert not {"x-hop", "keep-alive"} & set(answer.headers)
    assert answer.headers["location"] == f"{doubled.url}/service/token?x=1"
    assert answer.headers["www-authenticate"] == f'Bearer realm="{doubled.url}/service/token",service="h"'


def test_without_authorization_none_is_added(doubled: ApiProcess) -> None:
    assert "authorization" not in Client(doubled.url)("GET", "/v2/").json()["headers"]


def test_paths_that_lead_elsewhere_and_slashes_too_many_do_not_pass(doubled: ApiProcess) -> None:
    client = Client(doubled.url)
    for path in ("/v2/../admin", "/v2/%2e%2e/admin", "/c/a/.%2E/b"):
        assert client("GET", path).status in (400, 404)
    answer = client("GET", "/v2/a/tags/list/?n=1")
    assert (answer.status, answer.headers["location"]) == (307, "/v2/a/tags/list?n=1")
    assert client("GET", "/v2/").json()["path"] == "/v2/"


def test_a_registry_that_is_away_is_502_in_words(tmp_path: Path, migrated_home: Path) -> None:
    with serving(tmp_path, migrated_home, f"127.0.0.1:{free_port()}") as running:
        client = Client(running.url)
        for answer in (
            client("GET", "/v2/"),
            client("PUT", "/v2/a/b/blobs/uploads/1?digest=x", bytes(5 << 20)),
            client.put_manifest("default/net", "v1", ormb(NET).manifest),
        ):
            assert (answer.status, answer.code()) == (502, "UNAVAILABLE"), answer.body
        assert client("GET", "/api/v1/health").status == 200


def test_a_registry_that_is_silent_is_504_in_words(
    home: Path, launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.passthrough.SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with in_process(Settings(home=home, registry_url=url, supervise_s=3600), launcher) as api:
            answer = api("GET", "/v2/")
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (504, "UNAVAILABLE")
            assert "in time" in answer.text


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    for wrong in ("harbor.example", "ftp://harbor.example", "https://user:pw@harbor.example", "https://a/b"):
        with pytest.raises(ValidationError, match="registry_url"):
            Settings(registry_url=wrong)
