"""The registry that Catchment is itself: pushes and pulls by plain requests to the process that users run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.registry_client import (
    MANIFEST_TYPE,
    ORMB_CONFIG,
    ORMB_LAYER,
    Answer,
    Artifact,
    Client,
    described,
    digest_of,
    modelpack,
    ormb,
    unpacked,
)
from tests.api.serving import ApiProcess, api_process
from tests.conftest import free_port

REPOSITORY = "default/net"
MODELS = "/api/v1/namespaces/default/models"
NET = {"model/net.onnx": b"weights" * 1000, "model/labels/classes.txt": b"cat\ndog\n"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Iterator[ApiProcess]:
    home = Path(shutil.copytree(migrated_home, tmp_path_factory.mktemp("oci") / "home"))
    with api_process(home, free_port()) as running:
        yield running


@pytest.fixture
def client(served: ApiProcess) -> Client:
    return Client(served.url)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of this test's own."""
    return f"default/m{digest_of(request.node.nodeid.encode())[7:17]}"


def name_of(repository: str) -> str:
    return repository.partition("/")[2]


def models(client: Client, repository: str) -> list[dict[str, Any]]:
    answer = client("GET", f"{MODELS}/{name_of(repository)}")
    found: list[dict[str, Any]] = answer.json().get("models", [])
    return found


def refused(answer: Answer, status: int, code: str, *words: str) -> None:
    assert (answer.status, answer.code()) == (status, code), answer.body
    for word in words:
        assert word in answer.body.decode(), answer.body


def uploaded(client: Client, name: str, file_name: str, data: bytes, **more: str) -> dict[str, Any]:
    """A version that comes through the model manager."""
    body = {"name": name, "version": "v1", "runtime": "pytorch", "file_name": file_name, **more}
    made = client("POST", MODELS, json.dumps(body), Content_Type="application/json")
    assert made.status == 201, made.body
    sent = client("PUT", f"/api/v1/models/content?model_id={made.json()['id']}", data)
    assert sent.status == 200, sent.body
    found: dict[str, Any] = sent.json()
    return found


def test_the_registry_says_what_it_is(client: Client) -> None:
    for path in ("/v2/", "/v2"):
        answer = client("GET", path)
        assert (answer.status, answer.json()) == (200, {})
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_a_model_that_is_pushed_as_the_original_pushes_is_pulled_as_the_original_pulls(
    client: Client, repository: str
) -> None:
    artifact = ormb(NET, description="a cat or a dog", author="anna")
    for blob in artifact.blobs:
        assert client("HEAD", f"/v2/{repository}/blobs/{digest_of(blob)}").status == 404
    put = client.push(repository, "v1", artifact)
    assert (put.status, put.headers["docker-content-digest"]) == (201, artifact.digest), put.body
    head = client("HEAD", f"/v2/{repository}/manifests/v1")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == MANIFEST_TYPE
    assert head.headers["content-length"] == str(len(artifact.manifest))
    digest = head.headers["docker-content-digest"]
    got = client("GET", f"/v2/{repository}/manifests/{digest}")
    assert (got.body, got.headers["docker-content-digest"]) == (artifact.manifest, artifact.digest)
    for blob in artifact.blobs:
        answer = client("GET", f"/v2/{repository}/blobs/{digest_of(blob)}")
        assert (answer.status, answer.body) == (200, blob)
        assert answer.headers["docker-content-digest"] == digest_of(blob)


def test_a_pushed_model_is_a_version_for_everybody(client: Client, repository: str) -> None:
    client.push(repository, "v1", ormb(NET, description="a cat or a dog"))
    (version,) = models(client, repository)
    assert (version["state"], version["format"], version["runtime"]) == ("ready", "ONNX", "onnx")
    assert version["version_info"]["description"] == "a cat or a dog"
    assert version["size_bytes"] == sum(map(len, NET.values()))
    for name, data in NET.items():
        path = f"/api/v1/models/content?model_id={version['id']}&file={name.removeprefix('model/')}"
        answer = client("GET", path)
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["etag"] == f'"{digest_of(data)}"'
        assert client("GET", path, Range="bytes=2-4").body == data[2:5]
    told = client("GET", f"/api/v1/models/lineage?model_id={version['id']}").json()
    assert told["made_from"]["kind"] == "push"
    assert "push" in [event["action"] for event in told["events"]]


def test_a_version_of_the_model_manager_is_pulled_as_ormb(client: Client, repository: str) -> None:
    data = os.urandom(300_000)
    version = uploaded(client, name_of(repository), "net.onnx", data, description="sent")
    head = client("HEAD", f"/v2/{repository}/manifests/v1")
    assert head.status == 200
    got = client("GET", f"/v2/{repository}/manifests/{head.headers['docker-content-digest']}")
    assert digest_of(got.body) == head.headers["docker-content-digest"]
    manifest = got.json()
    assert (manifest["config"]["mediaType"], len(manifest["layers"])) == (ORMB_CONFIG, 1)
    (named,) = manifest["layers"]
    assert named["mediaType"] == ORMB_LAYER
    config = client("GET", f"/v2/{repository}/blobs/{manifest['config']['digest']}").json()
    assert (config["description"], config["directoryStructure"]) == ("sent", ["model/net.onnx"])
    layer = client("GET", f"/v2/{repository}/blobs/{named['digest']}")
    assert (len(layer.body), digest_of(layer.body)) == (named["size"], named["digest"])
    assert unpacked(layer.body) == {"model/net.onnx": data}
    assert digest_of(unpacked(layer.body)["model/net.onnx"]) == version["digest"]


def test_any_range_of_a_made_layer_is_the_same_range_of_the_whole(client: Client, repository: str) -> None:
    uploaded(client, name_of(repository), "net.pt", os.urandom(200_000))
    manifest = client("GET", f"/v2/{repository}/manifests/v1").json()
    path = f"/v2/{repository}/blobs/{manifest['layers'][0]['digest']}"
    whole = client("GET", path).body
    size = len(whole)
    for start, stop in ((0, 1), (0, 10), (9, 700), (65_000, 66_000), (size - 9, size), (size - 1, size)):
        part = client("GET", path, Range=f"bytes={start}-{stop - 1}")
        assert (part.status, part.body) == (206, whole[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    refused(client("GET", path, Range=f"bytes={size}-"), 416, "UNSUPPORTED")


def test_an_artifact_of_ours_under_another_tag_needs_no_new_bytes(
    client: Client, repository: str, served: ApiProcess
) -> None:
    uploaded(client, name_of(repository), "net.pt", os.urandom(100_000))
    manifest = client("GET", f"/v2/{repository}/manifests/v1")
    put = client.put_manifest(repository, "stable", manifest.body)
    assert put.status == 201, put.body
    layer = manifest.json()["layers"][0]["digest"]
    assert not list((served.log.parent / "blobs").rglob(layer[9:])), "it is made, not stored"
    first, second = models(client, repository)
    assert first["digest"] == second["digest"]
    assert client("DELETE", f"{MODELS}/{name_of(repository)}?version=v1").status == 200
    assert digest_of(client("GET", f"/v2/{repository}/blobs/{layer}").body) == layer
    assert client("DELETE", f"/v2/{repository}/manifests/stable").status == 202
    assert client("HEAD", f"/v2/{repository}/blobs/{layer}").status == 404


def test_a_changed_description_makes_another_artifact_and_keeps_the_one_before(
    client: Client, repository: str
) -> None:
    uploaded(client, name_of(repository), "net.pt", b"weights")
    before = client("GET", f"/v2/{repository}/manifests/v1")
    path = f"{MODELS}/{name_of(repository)}?version=v1"
    changed = client("PUT", path, '{"description": "better"}', Content_Type="application/json")
    assert changed.status == 200
    after = client("GET", f"/v2/{repository}/manifests/v1")
    assert after.body != before.body
    assert after.json()["layers"] == before.json()["layers"]
    again = client("GET", f"/v2/{repository}/manifests/{before.headers['docker-content-digest']}")
    assert again.body == before.body
    assert client("HEAD", f"/v2/{repository}/blobs/{before.json()['config']['digest']}").status == 200


def test_a_modelpack_of_raw_files_is_a_version_whose_files_are_its_layers(
    client: Client, repository: str, served: ApiProcess
) -> None:
    files = {"net.onnx": os.urandom(50_000), "conf/a.json": b"{}", "ormbfile.yaml": b"description: told\n"}
    artifact = modelpack(files)
    assert client.push(repository, "v1", artifact).status == 201
    assert client("GET", f"/v2/{repository}/manifests/v1").body == artifact.manifest
    (version,) = models(client, repository)
    assert (version["version_info"]["description"], version["format"]) == ("told", "ONNX")
    content = f"/api/v1/models/content?model_id={version['id']}&file="
    assert client("GET", f"{content}conf/a.json").body == b"{}"
    assert client("GET", f"{content}net.onnx").body == files["net.onnx"]
    stored = list((served.log.parent / "blobs").rglob(digest_of(files["net.onnx"])[9:]))
    assert len(stored) == 1, "bytes are held once"


def test_a_file_that_another_version_has_is_not_sent_again(client: Client, repository: str) -> None:
    data = os.urandom(10_000)
    uploaded(client, name_of(repository), "net.onnx", data)
    assert client("HEAD", f"/v2/{repository}/blobs/{digest_of(data)}").status == 200
    artifact = modelpack({"net.onnx": data})
    client.push_blob(repository, artifact.blobs[0])
    assert client.put_manifest(repository, "packed", artifact.manifest).status == 201
    assert client("DELETE", f"{MODELS}/{name_of(repository)}?version=v1").status == 200
    assert client("GET", f"/v2/{repository}/blobs/{digest_of(data)}").body == data


def test_uploads_go_in_parts_and_are_asked_about_and_given_up(client: Client, repository: str) -> None:
    data = os.urandom(100_000)
    place = client("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["location"]
    empty = client("GET", place)
    assert (empty.status, empty.headers["range"]) == (204, "0-0")
    first = client("PATCH", place, data[:40_000], Content_Range="0-39999")
    assert (first.status, first.headers["range"]) == (202, "0-39999")
    wrong = client("PATCH", place, data[:10], Content_Range="0-9")
    refused(wrong, 416, "BLOB_UPLOAD_INVALID")
    assert wrong.headers["range"] == "0-39999"
    # Chunked, without a word about its place or its length, as Docker's and skopeo's come.
    second = client("PATCH", place, iter([data[40_000:60_000], data[60_000:90_000]]))
    assert second.headers["range"] == "0-89999"
    assert client("GET", place).headers["range"] == "0-89999"
    done = client("PUT", f"{place}?digest={digest_of(data)}", data[90_000:], Content_Range="90000-99999")
    assert done.status == 201, done.body
    assert client("GET", done.headers["location"]).body == data
    refused(client("GET", place), 404, "BLOB_UPLOAD_UNKNOWN")
    other = client("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["location"]
    refused(client("GET", other.replace(repository, "default/other")), 404, "BLOB_UPLOAD_UNKNOWN")
    assert client("DELETE", other).status == 204
    refused(client("PATCH", other, b"x"), 404, "BLOB_UPLOAD_UNKNOWN")


def test_one_request_brings_a_blob_and_none_mounts_it(client: Client, repository: str) -> None:
    data = os.urandom(5000)
    whole = client("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(data)}", data)
    assert (whole.status, client("GET", whole.headers["location"]).body) == (201, data)
    wrong = client("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(b'x')}", data)
    refused(wrong, 400, "DIGEST_INVALID")
    query = f"?mount={digest_of(data)}&from={repository}"
    mounted = client("POST", f"/v2/{repository}-2/blobs/uploads/{query}", b"")
    assert mounted.status == 201
    assert client("GET", mounted.headers["location"]).body == data
    unknown = client(
        "POST", f"/v2/{repository}-2/blobs/uploads/?mount={digest_of(b'x')}&from={repository}", b""
    )
    assert unknown.status == 202
    assert client("GET", unknown.headers["location"]).status == 204


def test_a_blob_with_another_digest_is_refused(client: Client, repository: str) -> None:
    place = client("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["location"]
    refused(client("PUT", f"{place}?digest={digest_of(b'right')}", b"wrong"), 400, "DIGEST_INVALID")
    refused(client("PUT", f"{place}?digest=md5:abc", b"wrong"), 400, "DIGEST_INVALID")
    assert client("HEAD", f"/v2/{repository}/blobs/{digest_of(b'wrong')}").status == 404


def test_names_that_are_not_there_are_told_apart(client: Client, repository: str) -> None:
    digest = digest_of(b"nothing")
    refused(client("GET", "/v2/nowhere/net/tags/list"), 404, "NAME_UNKNOWN", "nowhere")
    refused(client("POST", "/v2/nowhere/net/blobs/uploads/", b""), 404, "NAME_UNKNOWN")
    refused(client("GET", "/v2/nowhere/net/manifests/v1"), 404, "NAME_UNKNOWN")
    refused(client("GET", "/v2/default/Net/manifests/v1"), 400, "NAME_INVALID")
    refused(client("GET", f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")
    refused(client("GET", f"/v2/{repository}/manifests/v1"), 404, "MANIFEST_UNKNOWN")
    refused(client("GET", f"/v2/{repository}/manifests/{digest}"), 404, "MANIFEST_UNKNOWN")
    refused(client("GET", f"/v2/{repository}/manifests/sha256:12"), 400, "DIGEST_INVALID")
    refused(client("GET", f"/v2/{repository}/manifests/-v"), 400, "TAG_INVALID")
    refused(client("GET", f"/v2/{repository}/blobs/{digest}"), 404, "BLOB_UNKNOWN")
    refused(client("GET", f"/v2/{repository}/blobs/uploads/x"), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(client("GET", "/v2/default/team/net/manifests/v1"), 404, "MANIFEST_UNKNOWN", "namespace")
    refused(client("DELETE", f"/v2/{repository}/blobs/{digest}"), 405, "UNSUPPORTED")
    refused(client("PATCH", f"/v2/{repository}/manifests/v1", b""), 405, "UNSUPPORTED")


def test_a_slash_too_many_is_led_to_the_path_without(client: Client, repository: str) -> None:
    answer = client("GET", f"/v2/{repository}/tags/list/?n=3")
    assert (answer.status, answer.headers["location"]) == (307, f"/v2/{repository}/tags/list?n=3")


def test_what_is_no_model_is_refused_with_words(client: Client, repository: str) -> None:
    image = described("application/vnd.oci.image.config.v1+json", b"{}")
    client.push_blob(repository, b"{}")
    manifest = json.dumps({"schemaVersion": 2, "config": image, "layers": []}).encode()
    refused(client.put_manifest(repository, "v1", manifest), 400, "MANIFEST_INVALID", "ModelPack")
    index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}).encode()
    refused(client.put_manifest(repository, "v1", index), 400, "MANIFEST_INVALID")
    refused(client.put_manifest(repository, "v1", b"{"), 400, "MANIFEST_INVALID")
    refused(client.put_manifest(repository, "v1", b" " * (5 << 20)), 413, "MANIFEST_INVALID", "4194304 bytes")
    artifact = ormb(NET)
    refused(client.put_manifest(repository, "v1", artifact.manifest), 404, "MANIFEST_BLOB_UNKNOWN")
    for blob in artifact.blobs:
        client.push_blob(repository, blob)
    refused(
        client.put_manifest(repository, artifact.digest, artifact.manifest), 400, "MANIFEST_INVALID", "tag"
    )
    refused(client.put_manifest(repository, digest_of(b""), artifact.manifest), 400, "DIGEST_INVALID")
    refused(client.put_manifest(repository, "checkpoint_v1", artifact.manifest), 409, "DENIED")
    lying = artifact.manifest.replace(b'"size": ', b'"size": 1')
    refused(client.put_manifest(repository, "v1", lying), 400, "MANIFEST_INVALID", "bytes")
    assert models(client, repository) == []


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"model/../../evil": b"x"}, "leads out"),
        ({"other/net.onnx": b"x"}, "no file below model"),
        ({"model/a": b"x", "model/a/b": b"y"}, "twice"),
    ],
)
def test_unsafe_layers_become_no_version(
    client: Client, repository: str, files: dict[str, bytes], word: str
) -> None:
    refused(client.push(repository, "v1", ormb(files)), 400, "MANIFEST_INVALID", word)
    assert models(client, repository) == []


def test_a_damaged_layer_becomes_no_version(client: Client, repository: str) -> None:
    config, packed = ormb(NET).blobs
    cut = packed[:-20]
    manifest = {
        "schemaVersion": 2,
        "config": described(ORMB_CONFIG, config),
        "layers": [described(ORMB_LAYER, cut)],
    }
    artifact = Artifact(json.dumps(manifest).encode(), (config, cut))
    refused(client.push(repository, "v1", artifact), 400, "MANIFEST_INVALID", "cut off")
    assert models(client, repository) == []


def test_the_same_push_again_changes_nothing_and_another_one_moves_the_tag(
    client: Client, repository: str
) -> None:
    one, two = ormb(NET), ormb({"model/net.onnx": b"better"})
    client.push(repository, "v1", one)
    (before,) = models(client, repository)
    assert client.push(repository, "v1", one).status == 201
    assert models(client, repository) == [before]
    assert client.push(repository, "v1", two).status == 201
    (after,) = models(client, repository)
    assert after["id"] != before["id"], "an id never changes its bytes"
    refused(client("GET", f"/v2/{repository}/manifests/{one.digest}"), 404, "MANIFEST_UNKNOWN")
    assert client("HEAD", f"/v2/{repository}/blobs/{digest_of(one.blobs[1])}").status == 404
    old = client("GET", f"/api/v1/models/lineage?model_id={before['id']}").json()["events"][-1]
    assert (old["action"], old["detail"]["replaced_by"]) == ("delete", two.digest)
    new = client("GET", f"/api/v1/models/lineage?model_id={after['id']}").json()["events"][-1]
    assert (new["action"], new["detail"]["replaced"]) == ("push", before["id"])


def test_a_version_that_came_another_way_is_not_pushed_over(client: Client, repository: str) -> None:
    version = uploaded(client, name_of(repository), "net.onnx", b"weights")
    refused(client.push(repository, "v1", ormb(NET)), 409, "DENIED", "another tag")
    assert models(client, repository) == [version]


def test_equal_parts_of_two_versions_stay_until_the_last_is_deleted(client: Client, repository: str) -> None:
    one, two = ormb(NET), ormb(NET, description="other words")
    for tag, artifact in (("one", one), ("two", two)):
        assert client.push(repository, tag, artifact).status == 201
    layer = f"/v2/{repository}/blobs/{digest_of(one.blobs[1])}"
    for first, tag in ((two, "two"), (one, "one")):
        assert client("GET", layer).status == 200
        assert client("DELETE", f"/v2/{repository}/manifests/{first.digest}").status == 202
        refused(client("GET", f"/v2/{repository}/manifests/{tag}"), 404, "MANIFEST_UNKNOWN")
    refused(client("GET", layer), 404, "BLOB_UNKNOWN")
    refused(client("DELETE", f"/v2/{repository}/manifests/one"), 404, "MANIFEST_UNKNOWN")


def test_tags_and_repositories_are_listed_in_pages(client: Client, repository: str) -> None:
    artifact = ormb(NET)
    for tag in ("v3", "v1", "v2", "latest"):
        assert client.push(repository, tag, artifact).status == 201
    path = f"/v2/{repository}/tags/list"
    assert client("GET", path).json() == {"name": repository, "tags": ["latest", "v1", "v2", "v3"]}
    found, following = [], f"{path}?n=3"
    while following:
        page = client("GET", following)
        found.append(page.json()["tags"])
        following = page.headers.get("link", "").partition(">")[0].lstrip("<")
    assert found == [["latest", "v1", "v2"], ["v3"]]
    assert client("GET", f"{path}?n=0").json()["tags"] == []
    assert client("GET", f"{path}?last=v1").json()["tags"] == ["v2", "v3"]
    refused(client("GET", f"{path}?n=x"), 400, "UNSUPPORTED", "n:")
    assert repository in client("GET", "/v2/_catalog").json()["repositories"]
    assert len(client("GET", "/v2/_catalog?n=1").json()["repositories"]) == 1


def test_what_is_attached_to_a_model_is_listed_and_goes_with_it(client: Client, repository: str) -> None:
    artifact, signature = ormb(NET), b"signed"
    client.push(repository, "v1", artifact)
    subject = described(MANIFEST_TYPE, artifact.manifest)
    config = described("application/vnd.oci.empty.v1+json", b"{}")
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/vnd.example.signature",
        "config": config,
        "layers": [described("application/vnd.example.bytes", signature)],
        "subject": subject,
        "annotations": {"by": "anna"},
    }
    manifest = json.dumps(value).encode()
    for blob in (b"{}", signature):
        client.push_blob(repository, blob)
    put = client.put_manifest(repository, digest_of(manifest), manifest)
    assert (put.status, put.headers["oci-subject"]) == (201, artifact.digest), put.body
    path = f"/v2/{repository}/referrers/{artifact.digest}"
    listed = client("GET", path)
    assert listed.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = listed.json()["manifests"]
    assert entry == {
        "mediaType": MANIFEST_TYPE,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "artifactType": "application/vnd.example.signature",
        "annotations": {"by": "anna"},
    }
    filtered = client("GET", f"{path}?artifactType=other")
    assert (filtered.json()["manifests"], filtered.headers["oci-filters-applied"]) == ([], "artifactType")
    assert client("GET", f"/v2/{repository}/manifests/{digest_of(manifest)}").body == manifest
    assert client("GET", f"/v2/{repository}/tags/list").json()["tags"] == ["v1"]
    nowhere = json.dumps(value | {"subject": described(MANIFEST_TYPE, b"nothing")}).encode()
    refused(client.put_manifest(repository, digest_of(nowhere), nowhere), 404, "MANIFEST_UNKNOWN")
    assert client("DELETE", f"/v2/{repository}/manifests/{artifact.digest}").status == 202
    refused(client("GET", f"/v2/{repository}/manifests/{digest_of(manifest)}"), 404, "MANIFEST_UNKNOWN")
    assert client("GET", path).json()["manifests"] == []


def test_two_pushes_of_one_tag_leave_one_whole_version(client: Client, repository: str) -> None:
    artifacts = [ormb({"model/net.onnx": bytes([number]) * 5000}) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: client.push(repository, "v1", each), artifacts))
    assert {answer.status for answer in answers} == {201}, [answer.body for answer in answers]
    (version,) = models(client, repository)
    pulled = client("GET", f"/v2/{repository}/manifests/v1")
    (kept,) = [each for each in artifacts if each.manifest == pulled.body]
    layer = client("GET", f"/v2/{repository}/blobs/{digest_of(kept.blobs[1])}").body
    assert digest_of(unpacked(layer)["model/net.onnx"]) == version["digest"]


def test_a_job_begins_with_a_pushed_model(client: Client, served: ApiProcess, repository: str) -> None:
    weights = (served.log.parent / "namespaces" / "default" / "initial.safetensors").read_bytes()
    artifact = ormb({"model/w.safetensors": weights}, format="Safetensors", framework="PyTorch")
    assert client.push(repository, "v1", artifact).status == 201
    (version,) = models(client, repository)
    assert version["runtime"] == "pytorch"
    job = {"id": name_of(repository), "runtime": "pytorch", "model_id": version["id"], "output": "results"}
    body = json.dumps({**job, "task_entry": "digits"})
    made = client("POST", "/api/v1/namespaces/default/jobs", body, Content_Type="application/json")
    assert made.status in (200, 201), made.body
    content = client("GET", f"/api/v1/models/content?model_id={version['id']}")
    assert content.body == weights


@pytest.mark.needs("skopeo")
def test_skopeo_copies_models_in_and_out_without_a_change(
    client: Client, served: ApiProcess, repository: str, tmp_path: Path
) -> None:
    def skopeo(*arguments: str) -> str:
        command = ["skopeo", "--insecure-policy", "--tmpdir", str(tmp_path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    host = served.url.removeprefix("http://")
    data = os.urandom(100_000)
    uploaded(client, name_of(repository), "net.pt", data)
    ours = client("GET", f"/v2/{repository}/manifests/v1")
    source, layout = f"docker://{host}/{repository}:v1", f"oci:{tmp_path / 'layout'}:v1"
    skopeo("copy", "--src-tls-verify=false", source, layout)
    target = f"docker://{host}/{repository}-copy:v1"
    skopeo("copy", "--dest-tls-verify=false", layout, target)
    copied = client("GET", f"/v2/{repository}-copy/manifests/v1")
    assert copied.headers["docker-content-digest"] == ours.headers["docker-content-digest"]
    raw = skopeo("inspect", "--raw", "--tls-verify=false", target)
    assert raw.encode() == ours.body
    assert '"v1"' in skopeo("list-tags", "--tls-verify=false", f"docker://{host}/{repository}-copy")
    (version,) = models(client, f"{repository}-copy")
    assert client("GET", f"/api/v1/models/content?model_id={version['id']}").body == data
    blob = next(iter((tmp_path / "layout" / "blobs" / "sha256").glob(ours.json()["layers"][0]["digest"][7:])))
    assert gzip.decompress(blob.read_bytes())
