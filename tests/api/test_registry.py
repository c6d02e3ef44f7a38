"""Upload and download of the registry's API, as a plain HTTP client does them."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import stat
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.api.serving import InProcess, api_process
from tests.conftest import free_port

BASE = "/api/v1alpha1/projects/default/models/net/versions/"
WHO = {"X-Tenant": "lab", "X-User": "anna"}
ONNX = {"net/model.onnx": b"onnx" * 5000, "net/labels.txt": b"one\ntwo\n"}


def packed(files: dict[str, bytes], **more: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **more) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def upload(
    api: InProcess,
    version: str,
    data: bytes | None,
    model: object = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    fields = {} if model is None else {"model": model if isinstance(model, str) else json.dumps(model)}
    files = {} if data is None else {"file": ("net.zip", data)}
    return api(
        "POST",
        BASE + version + "/upload",
        data=fields,
        files=files or None,
        headers={**WHO, **(headers or {})},
    )


def download(api: InProcess, version: str, **more: Any) -> httpx.Response:
    return api("POST", BASE + version + "/download", headers=WHO, **more)


def refused(answer: httpx.Response, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"message", "reason"}
    assert words in answer.json()["message"]


def versions(api: InProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api("GET", "/api/v1/namespaces/default/models").json()["models"]
    return found


def test_a_zip_becomes_a_version_that_both_faces_show(api: InProcess) -> None:
    model = {
        "modelName": "ignored",
        "description": "of the spring",
        "format": "ONNX",
        "inputs": [{"name": "x", "size": [-1, 64], "dType": "float32"}],
    }
    answer = upload(api, "v1", packed(ONNX), model)
    assert (answer.status_code, answer.content) == (201, b"")
    (found,) = versions(api)
    assert (found["name"], found["version_info"]["version"]) == ("net", "v1")
    assert (found["state"], found["format"], found["runtime"]) == ("ready", "ONNX", "onnx")
    assert found["version_info"]["description"] == "of the spring"
    zipped = download(api, "v1")
    assert zipped.status_code == 200
    assert zipped.headers["content-type"] == "application/octet-stream"
    assert zipped.headers["content-disposition"] == 'attachment; filename="v1.zip"'
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "v1/model/labels.txt",
            "v1/model/model.onnx",
            "v1/ormbfile.yaml",
        ]
        assert archive.read("v1/model/model.onnx") == ONNX["net/model.onnx"]
        described = yaml.safe_load(archive.read("v1/ormbfile.yaml"))
    assert described["format"] == "ONNX"
    assert described["signature"]["inputs"] == [{"name": "x", "size": [-1, 64], "dType": "float32"}]
    part = download(api, "v1")
    assert part.content == zipped.content, "the same bytes each time"
    ranged = api("POST", BASE + "v1/download", headers={**WHO, "Range": "bytes=100-199"})
    assert (ranged.status_code, ranged.content) == (206, zipped.content[100:200])
    params = {"model_id": found["id"], "file": "model.onnx"}
    assert api("GET", "/api/v1/models/content", params=params).content == ONNX["net/model.onnx"]


def test_a_model_of_the_other_face_is_downloaded_as_a_zip_too(api: InProcess) -> None:
    body = {"name": "net", "version": "v1", "runtime": "pytorch", "file_name": "net.pt"}
    made = api("POST", "/api/v1/namespaces/default/models", json=body).json()
    refused(download(api, "v1"), 409, "unready")
    api("PUT", "/api/v1/models/content", params={"model_id": made["id"]}, content=b"weights")
    for how in ({}, {"json": {}}, {"content": b"", "headers": {}}):
        how.pop("headers", None)
        with zipfile.ZipFile(io.BytesIO(download(api, "v1", **how).content)) as archive:
            assert archive.read("v1/model/net.pt") == b"weights"


def test_a_zip_comes_in_chunks_and_an_upload_can_begin_anew(api: InProcess) -> None:
    data = packed(ONNX)

    def send(start: int, stop: int) -> httpx.Response:
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        return upload(api, "v1", data[start:stop], {"format": "onnx"}, span)

    refused(send(100, 200), 409, " 0 bytes are stored")
    assert send(0, 100).status_code == 201
    assert send(0, 150).status_code == 201
    refused(send(100, 200), 409, " 150 bytes are stored")
    refused(download(api, "v1"), 409)
    assert send(150, len(data)).status_code == 201
    assert download(api, "v1").status_code == 200
    refused(send(0, 100), 409, "is there already")


def test_two_uploads_of_one_version_do_not_mix(api: InProcess) -> None:
    data = packed(ONNX)
    first = {"Content-Range": f"bytes 0-99/{len(data)}"}
    assert upload(api, "v1", data[:100], headers=first).status_code == 201
    other = upload(api, "v1", data[:100], headers={**first, "X-User": "bert"})
    refused(other, 409, "by somebody else")
    rest = {"Content-Range": f"bytes 100-{len(data) - 1}/{len(data)}"}
    assert upload(api, "v1", data[100:], headers=rest).status_code == 201


def link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("net/model.onnx")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "model", "words"),
    [
        (b"no zip", None, "zip"),
        (packed({"model.onnx": b"x"}), None, "one folder"),
        (packed({"a/model.onnx": b"x", "b/c": b"x"}), None, "'a' and 'b' at its top"),
        (packed({"net/../../evil.onnx": b"x"}), None, "no plain relative path"),
        (link(), None, "neither a file nor a folder"),
        (packed(ONNX)[:-30], None, ""),
        (packed({"net/zeros.onnx": bytes(300_000_000)}, compression=zipfile.ZIP_DEFLATED), None, "bombs"),
        (packed({"net/a.txt": b"x"}), {"format": "ONNX"}, "an ONNX model needs *.onnx"),
        (packed({"net/a.caffemodel": b"x"}), {"format": "CaffeModel"}, "*.prototxt"),
        (packed({"net/a.onnx": b"x", "net/b.h5": b"x"}), None, "say which"),
        (packed(ONNX), {"format": "Nonsense"}, "is not known"),
        (packed(ONNX), "{", "model: "),
        (packed(ONNX), {"inputs": "x"}, "inputs"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_what_is_in_the_zip_is_held_against_its_format_and_refused_with_words(
    api: InProcess, data: bytes, model: object, words: str
) -> None:
    refused(upload(api, "v1", data, model), 400, words)
    (found,) = versions(api)
    assert found["state"] == "error"
    assert words.split(":", maxsplit=1)[0] in found["error_msg"]
    assert upload(api, "v1", packed(ONNX)).status_code == 201, "it can be uploaded again"
    assert not list(api.store.blobs.staging_folder.iterdir())


@pytest.mark.parametrize("name", ["X-Tenant", "X-User"])
@pytest.mark.parametrize("value", [None, "", "../..", "a/b", "a" * 129])
def test_who_asks_must_be_said_in_a_form_that_is_no_path(
    api: InProcess, name: str, value: str | None
) -> None:
    headers = {key: text for key, text in {**WHO, name: value}.items() if text is not None}
    for what in ("upload", "download"):
        answer = api("POST", f"{BASE}v1/{what}", headers=headers, files={"file": ("x", packed(ONNX))})
        refused(answer, 400, f"{name}:")
    assert versions(api) == []


def test_wrong_names_forms_and_ranges_are_refused(api: InProcess) -> None:
    data = packed(ONNX)
    refused(upload(api, "-v1", data), 400, "versionName")
    refused(upload(api, "checkpoint_v1", data), 400, "versionName")
    refused(api("POST", BASE.replace("net", "Net") + "v1/upload", headers=WHO), 400, "modelName")
    refused(api("POST", BASE.replace("default", "nowhere") + "v1/upload", headers=WHO), 400, "Content-Type")
    form = {"file": ("x", data)}
    refused(api("POST", BASE.replace("default", "nowhere") + "v1/upload", headers=WHO, files=form), 404)
    refused(api("POST", BASE + "v1/upload", headers=WHO, content=b"x"), 400, "Content-Type")
    refused(upload(api, "v1", None, {"format": "ONNX"}), 400)
    refused(upload(api, "v1", data, headers={"Content-Range": "bytes 0/10"}), 400, "Content-Range")
    refused(upload(api, "v1", data, headers={"Content-Range": "bytes 0-9/20"}), 400, "Content-Range")
    refused(download(api, "v9"), 404)
    refused(api("GET", BASE + "v1/upload", headers=WHO), 405)
    refused(api("GET", "/api/v1alpha1/nothing"), 404)
    assert [v["state"] for v in versions(api)] in ([], ["unready"], ["error"])


def test_an_upload_that_is_larger_than_allowed_is_refused(api: InProcess) -> None:
    small = api.store.settings.model_copy(update={"max_model_bytes": 1000})
    object.__setattr__(api.store, "settings", small)
    data = packed(ONNX)
    refused(upload(api, "v1", data, headers={"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}), 400)
    refused(upload(api, "v2", data), 400)


def test_a_server_that_is_killed_over_a_zip_takes_it_again(home: Path, tmp_path: Path) -> None:
    data, port = packed(ONNX), free_port()
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "before_ready").touch()
    boundary = "xxxx"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    body = head + data + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        **WHO,
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}",
    }
    with ExitStack() as ends:
        running = ends.enter_context(api_process(home, port, CATCHMENT_FAULT_DIR=str(faults)))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", BASE + "v1/upload", body, headers)
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.getresponse()
        assert running.process.wait(20) == -9
        ends.enter_context(api_process(home, port))
        again = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        again.request("GET", "/api/v1/namespaces/default/models")
        (found,) = json.loads(again.getresponse().read())["models"]
        assert found["state"] == "unready"
        again.request("POST", BASE + "v1/upload", body, headers)
        answer = again.getresponse()
        assert (answer.status, answer.read()) == (201, b"")
        again.request("GET", f"/api/v1/models?model_id={found['id']}")
        ready = json.loads(again.getresponse().read())
        again.close()
    assert ready["state"] == "ready"
    digest = hashlib.sha256(ONNX["net/model.onnx"]).hexdigest()
    assert (home / "blobs" / "sha256" / digest[:2] / digest[2:]).exists()


SPRING = {"format": "ONNX", "author": "anna", "inputs": [{"name": "x", "size": [-1, 64], "dType": "float32"}]}


@pytest.mark.parametrize("as_body", [True, False], ids=["body", "query"])
def test_versions_are_compared_side_by_side(api: InProcess, as_body: bool) -> None:
    upload(api, "v1", packed(ONNX), SPRING)
    upload(api, "v2", packed({"net/a.h5": b"x"}))
    tags = ("v1", "v2", "v3")
    request: dict[str, Any] = (
        {"json": {"models": [{"name": "net", "project": "default", "tag": tag} for tag in tags]}}
        if as_body
        else {"params": {"model": [f"default/net:{tag}" for tag in tags]}}
    )
    answer = api("GET", "/api/v1alpha1/comparisons", **request)
    assert answer.status_code == 200
    found = answer.json()
    assert found["metadata"] == {"totalItems": 2}
    assert [item["path"] for item in found["items"]] == ["default/net:v1", "default/net:v2"]
    first = found["items"][0]["metadata"]
    assert (first["author"], first["format"]) == ("anna", "ONNX")
    assert first["signature"]["inputs"][0]["name"] == "x"
    table = api("GET", "/api/v1alpha1/comparativedocument", **request)
    assert table.content.startswith(b"\xef\xbb\xbf")
    assert table.headers["content-disposition"].endswith('.csv"')
    lines = list(csv.reader(io.StringIO(table.content[3:].decode())))
    assert [line[0] for line in lines] == [
        "Basic Info",
        "Model Name",
        "Model Source",
        "Model Framework",
        "Model Format",
        "Model Inputs",
        "Model Outputs",
    ]
    assert lines[1][1:] == ["default/net:v1", "default/net:v2"]
    assert lines[4][1:] == ["ONNX", "H5"]
    assert json.loads(lines[5][1])[0]["dType"] == "float32"
    assert lines[5][2] == "-"


def test_a_comparison_of_nothing_or_of_nonsense_is_refused(api: InProcess) -> None:
    for request in (
        {},
        {"json": {}},
        {"json": {"models": [{"name": "net"}]}},
        {"params": {"model": "net:v1"}},
        {"params": {"model": "default/NET:v1"}},
        {"content": b"{"},
        {"params": {"model": "default/net:v1", "start": "-1"}},
    ):
        refused(api("GET", "/api/v1alpha1/comparisons", **request), 400)


def test_a_cell_is_no_formula(api: InProcess) -> None:
    upload(api, "v1", packed(ONNX), {**SPRING, "author": "=1+1"})
    table = api("GET", "/api/v1alpha1/comparativedocument", params={"model": "default/net:v1"})
    assert "'=1+1" in table.text
