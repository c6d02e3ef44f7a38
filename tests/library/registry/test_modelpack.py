"""ModelPack artifacts: to the byte what the specification says, and read as other tools write them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import BadArtifact, CatchmentError, DigestMismatch
from catchment.models.config import ModelConfig, Origin, Repository
from catchment.models.files import ModelFile
from catchment.models.spans import BytesSource
from catchment.registry.modelpack import make_artifact, model_name, pack_files, read_artifact
from catchment.registry.modelpack_layers import role_of


def made(name: str, data: bytes) -> ModelFile:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return ModelFile(name, len(data), BytesSource(data), digest=digest, mtime=1)


MODEL = ModelConfig(
    author="Mia",
    created="2021-03-09T09:38:13Z",
    description="a & b",
    format="ONNX",
    training=Origin(git=Repository(repository="https://x/y", revision="abc")),
)
# printf abc | sha256sum
ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_config_and_manifest_to_the_byte() -> None:
    """Fields in the order of the specification's own types, a file's layer with the file's digest."""
    artifact = make_artifact(MODEL, [made("m.onnx", b"abc")], name="digits", version="v1")
    config = (
        '{"descriptor":{"createdAt":"2021-03-09T09:38:13Z","authors":["Mia"],"name":"digits",'
        '"sourceURL":"https://x/y","version":"v1","revision":"abc","description":"a \\u0026 b"},'
        f'"modelfs":{{"type":"layers","diffIds":["{ABC}"]}},"config":{{"format":"ONNX"}}}}'
    ).encode()
    assert artifact.config_blob == config
    metadata = (
        '{"name":"m.onnx","mode":420,"uid":0,"gid":0,"size":3,"mtime":"1970-01-01T00:00:01Z","typeflag":48}'
    )
    assert (
        artifact.manifest
        == (
            '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
            '"artifactType":"application/vnd.cncf.model.manifest.v1+json",'
            '"config":{"mediaType":"application/vnd.cncf.model.config.v1+json",'
            f'"digest":"sha256:{hashlib.sha256(config).hexdigest()}","size":{len(config)}}},'
            '"layers":[{"mediaType":"application/vnd.cncf.model.weight.v1.raw",'
            f'"digest":"{ABC}","size":3,"annotations":{{"org.cncf.model.file.metadata+json":{json.dumps(metadata)},'
            '"org.cncf.model.filepath":"m.onnx"}}]}'
        ).encode()
    )


def test_what_was_made_is_read_again_with_all_that_the_config_said() -> None:
    files = pack_files(MODEL, [made("model/m.onnx", b"abc"), made("model/sub/README.md", b"")])
    artifact = make_artifact(MODEL, files)
    found = read_artifact(artifact.manifest, artifact.config_blob)
    assert found.config == MODEL
    assert [(layer.path, layer.role, layer.packing, layer.mode) for layer in found.layers] == [
        ("ormbfile.yaml", "weight.config", None, 0o644),
        ("m.onnx", "weight", None, 0o644),
        ("sub/README.md", "doc", None, 0o644),
    ]
    assert (found.layers[1].mtime, found.layers[1].blob.digest) == (1, ABC)
    assert b"".join(files[0].source.read(0, files[0].size)) == MODEL.to_yaml()
    assert [model_name(layer.path) for layer in found.layers] == [
        "ormbfile.yaml",
        "model/m.onnx",
        "model/sub/README.md",
    ]


def test_files_that_cannot_become_layers_are_refused() -> None:
    undigested = ModelFile("model/a", 0, BytesSource(b""))
    for file in (made("m.onnx", b""), made("model/ormbfile.yaml", b""), undigested):
        with pytest.raises(BadArtifact, match="no file of a model"):
            pack_files(MODEL, [file])


def test_more_files_than_a_manifest_can_name_are_refused() -> None:
    with pytest.raises(BadArtifact, match="12000 files are too many for one manifest"):
        make_artifact(MODEL, [made(f"{number:05}", b"") for number in range(12_000)])


def manifest(
    layers: list[dict[str, Any]], config: bytes = b'{"descriptor":{}}', org: str = "cncf"
) -> tuple[bytes, bytes]:
    described = {
        "mediaType": f"application/vnd.{org}.model.config.v1+json",
        "digest": f"sha256:{hashlib.sha256(config).hexdigest()}",
        "size": len(config),
    }
    return json.dumps({"schemaVersion": 2, "config": described, "layers": layers}).encode(), config


def layer(kind: str, path: str = "a", org: str = "cncf", key: str = "filepath") -> dict[str, Any]:
    name = key if "." in key else f"org.{org}.model.{key}"
    annotations = {"annotations": {name: path}} if path else {}
    return {"mediaType": f"application/vnd.{org}.model.{kind}", "digest": ABC, "size": 3, **annotations}


@pytest.mark.parametrize("org", ["cncf", "cnai"])
@pytest.mark.parametrize(
    ("kind", "role", "packing"),
    [
        ("weight.v1.raw", "weight", None),
        ("weight.v1", "weight", None),
        ("weight.v1.safetensors", "weight", None),
        ("weight.v1.tar", "weight", "tar"),
        ("weight.config.v1.tar+gzip", "weight.config", "gzip"),
        ("doc.v1.tar+zstd", "doc", "zstd"),
        ("code.v1.raw", "code", None),
        ("dataset.v1.tar", "dataset", "tar"),
        ("layer.v1.tar+gzip", "weight", "gzip"),
    ],
)
def test_layers_of_other_tools_are_read(org: str, kind: str, role: str, packing: str | None) -> None:
    found = read_artifact(*manifest([layer(kind, "sub/a", org)], org=org))
    assert [(each.role, each.packing, each.path) for each in found.layers] == [(role, packing, "sub/a")]


def test_a_title_names_a_file_and_an_archive_needs_no_name() -> None:
    found = read_artifact(*manifest([layer("weight.v1.raw", "t", key="org.opencontainers.image.title")]))
    assert found.layers[0].path == "t"
    assert read_artifact(*manifest([layer("weight.v1.tar", "")])).layers[0].packing == "tar"


@pytest.mark.parametrize(
    ("told", "mode", "mtime"),
    [
        ('{"mode":493,"mtime":"1970-01-01T08:00:01.123456789+08:00"}', 0o755, 1),
        ('{"mode":"x","mtime":"yesterday"}', 0o644, 0),
        ("{}", 0o644, 0),
    ],
)
def test_what_is_said_of_a_file_is_taken_where_it_makes_sense(told: str, mode: int, mtime: int) -> None:
    described = layer("weight.v1.raw")
    described["annotations"]["org.cncf.model.file.metadata+json"] = told
    (found,) = read_artifact(*manifest([described])).layers
    assert (found.mode, found.mtime) == (mode, mtime)


def test_the_older_draft_of_the_config_is_read() -> None:
    config = (
        b'{"descriptor":{"authors":["a","b"],"title":"T","createdAt":"2025-01-01T00:00:00Z","family":"f"},'
        b'"config":{"format":"pytorch","capabilities":{"reasoning":true}},'
        b'"modelfs":{"type":"layers","diff_ids":["sha256:1"]}}'
    )
    found = read_artifact(*manifest([layer("weight.v1.raw")], config)).config
    assert (found.author, found.description, found.format, found.created) == (
        "a, b",
        "T",
        "pytorch",
        "2025-01-01T00:00:00Z",
    )


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (manifest([layer("weight.v1.raw", "")]), "no annotation org.cncf.model.filepath names it"),
        (manifest([layer("weight.v1.raw", "../x")]), "leads out"),
        (manifest([layer("strange.v1.raw")]), "no media type of ModelPack"),
        (manifest([]), "no layer"),
        (manifest([layer("weight.v1.raw")], b"[]"), "object"),
        (manifest([layer("weight.v1.raw")], b'{"descriptor":1}'), "descriptor: must be an object"),
        (manifest([layer("weight.v1.raw")], b'{"descriptor":{"authors":"a"}}'), "authors: must be a list"),
        (manifest([layer("weight.v1.raw")], b'{"descriptor":{"createdAt":"today"}}'), "created"),
        (manifest([layer("weight.v1.raw")], org="docker"), "the config is application/vnd.docker"),
    ],
)
def test_other_artifacts_are_refused_with_the_reason(parts: tuple[bytes, bytes], said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        read_artifact(*parts)


def test_a_config_that_is_not_the_one_named_is_refused() -> None:
    with pytest.raises(DigestMismatch):
        read_artifact(manifest([layer("weight.v1.raw")])[0], b"{}")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.safetensors", "weight"),
        ("saved_model.pb", "weight"),
        ("config.json", "weight.config"),
        ("sub/tokenizer.model", "weight.config"),
        ("merges.txt", "weight.config"),
        ("LICENSE", "doc"),
        ("sub/README.md", "doc"),
        ("modeling.py", "code"),
        ("m.txt", "weight"),
    ],
)
def test_a_files_role_goes_by_its_name(name: str, role: str) -> None:
    assert role_of(name) == role


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_artifact_is_read_or_refused(data: st.DataObject) -> None:
    artifact = make_artifact(MODEL, pack_files(MODEL, [made("model/m.onnx", b"abc")]))
    config = mutated(data, artifact.config_blob) if data.draw(st.booleans()) else artifact.config_blob
    changed = artifact.manifest.replace(
        hashlib.sha256(artifact.config_blob).hexdigest().encode(), hashlib.sha256(config).hexdigest().encode()
    )
    try:
        found = read_artifact(mutated(data, changed), config)
    except CatchmentError:
        return
    assert all(not each.path.startswith("/") and ".." not in each.path.split("/") for each in found.layers)


def mutated(data: st.DataObject, document: bytes) -> bytes:
    changed = bytearray(document)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(changed)))
        changed[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    return bytes(changed)
