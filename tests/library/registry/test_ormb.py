"""ORMB artifacts against vectors that were written out by hand from what the original client makes."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from catchment.errors import BadArtifact, DigestMismatch, FormatMismatch
from catchment.models.config import ModelConfig, Signature, Tensor
from catchment.models.files import ModelFile
from catchment.models.folders import read_folder
from catchment.models.spans import BytesSource
from catchment.registry.ormb import CONFIG_TYPE, make_artifact, read_artifact
from catchment.registry.stored_layer import StoredLayer

CONFIG = (
    b'{"author":"Mia","created":"2021-03-09T09:38:13Z","format":"ONNX","framework":"ONNX",'
    b'"signature":{"inputs":[{"name":"x","size":[-1,4],"dType":"float32"}]},'
    b'"directoryStructure":["model/m.onnx"]}'
)
# sha256sum of the bytes above, by coreutils
CONFIG_DIGEST = "sha256:b2562b5e954a2e8be4811ca0a2204accfd9cdc72af1a61a7f484002b11d0cd86"
LAYER_DIGEST = "sha256:" + "0123456789abcdef" * 4
MANIFEST = (
    b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.caicloud.model.config.v1alpha1+json",'
    b'"digest":"' + CONFIG_DIGEST.encode() + b'","size":192},'
    b'"layers":[{"mediaType":"application/tar+gzip","digest":"' + LAYER_DIGEST.encode() + b'","size":300}]}'
)
MANIFEST_DIGEST = "sha256:afa43bf5c9778e0a7cc4c6b12bee24962c2e6ed335cf008af6658d4b52d6bf11"
MODEL = ModelConfig(
    author="Mia",
    created="2021-03-09T09:38:13Z",
    format="ONNX",
    framework="ONNX",
    signature=Signature(inputs=(Tensor(name="x", size=(-1, 4), d_type="float32"),)),
)
FILES = [ModelFile("model/m.onnx", 3, BytesSource(b"abc"))]


def test_config_and_manifest_have_the_originals_bytes() -> None:
    artifact = make_artifact(MODEL, FILES, LAYER_DIGEST, 300)
    assert artifact.config_blob == CONFIG
    assert artifact.manifest == MANIFEST
    assert artifact.digest == MANIFEST_DIGEST


def test_what_was_made_is_read_again() -> None:
    artifact = make_artifact(MODEL, FILES, LAYER_DIGEST, 300)
    assert read_artifact(artifact.manifest, artifact.config_blob) == artifact
    assert artifact.config.directory_structure == ("model/m.onnx",)


def test_the_artifact_of_a_stored_layer_never_changes() -> None:
    """The whole way from a file to a manifest; the digest must stay this one in every later version."""
    layer = StoredLayer(FILES)
    assert (
        make_artifact(MODEL, FILES, layer.digest(), layer.size).digest
        == "sha256:317e054d49f10a9c52da51aa63cf6b5a47517fd2cd5d5c0d914aa4a947a23f2d"
    )


@pytest.mark.parametrize(
    "changed",
    [
        MANIFEST.replace(b"{", b'{"mediaType":"application/vnd.oci.image.manifest.v1+json",', 1),
        MANIFEST[:-1] + b',"annotations":{"a":"b"}}',
        MANIFEST.replace(b'"size":300', b'"size":300,"annotations":{"org.opencontainers.image.title":"x"}'),
    ],
)
def test_manifests_that_say_more_are_read(changed: bytes) -> None:
    artifact = read_artifact(changed, CONFIG)
    assert (artifact.layer.digest, artifact.layer.size) == (LAYER_DIGEST, 300)
    assert artifact.config.author == "Mia"


SECOND = MANIFEST[MANIFEST.index(b"[{") + 1 : -2]
OCI_LAYER = b"application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (MANIFEST.replace(b"application/tar+gzip", OCI_LAYER), "the layer is application/vnd.oci"),
        (MANIFEST.replace(b"v1alpha1", b"v1"), "the config is application/vnd.caicloud.model.config.v1"),
        (
            MANIFEST.replace(b'"layers":[', b'"layers":[' + MANIFEST[MANIFEST.index(b"[{") + 1 : -2] + b","),
            "2 layers",
        ),
        (MANIFEST[: MANIFEST.index(b"[")] + b"[]}", "0 layers"),
        (MANIFEST[: MANIFEST.index(b"[")] + b"{}}", "layers: must be a list"),
        (MANIFEST.replace(b'"size":300', b'"size":-1'), r"layers\[0\].size"),
        (MANIFEST.replace(b'"size":300', b'"size":1e3'), r"layers\[0\].size"),
        (MANIFEST.replace(b'f","size":300', b'x","size":300'), r"layers\[0\].digest"),
        (MANIFEST.replace(b'"schemaVersion":2', b'"schemaVersion":1'), "schemaVersion"),
        (MANIFEST.replace(b"{", b'{"mediaType":"text/html",', 1), "text/html"),
        (b"<html>", "no JSON"),
        (b"[]", "object"),
    ],
)
def test_other_manifests_are_refused_with_the_reason(changed: bytes, said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        read_artifact(changed, CONFIG)


def test_a_config_that_is_not_the_one_named_is_refused() -> None:
    with pytest.raises(DigestMismatch):
        read_artifact(MANIFEST, CONFIG.replace(b"Mia", b"Eve"))


DESCRIBED = b"author: Mia\nformat: onnx\n"


def write(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_users_folder_becomes_an_artifact_and_stays_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, ormbfile_DOT_yaml=DESCRIBED, model__m_DOT_onnx=b"abc", model__v__w=b"d")
    config, files = read_folder(tmp_path)
    assert (config.author, config.format, config.framework) == ("Mia", "ONNX", "ONNX")
    layer = StoredLayer(files)
    artifact = make_artifact(config, files, layer.digest(), layer.size)
    assert artifact.config.directory_structure == ("model/m.onnx", "model/v/w")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(b"".join(layer.read())))) as tar:
        assert tar.getnames() == ["model/m.onnx", "model/v/w"]
    assert (tmp_path / "ormbfile.yaml").read_bytes() == DESCRIBED
    assert CONFIG_TYPE in artifact.manifest.decode()


def test_without_a_description_the_files_say_the_format_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, model__m_DOT_h5=b"abc")
    config, _ = read_folder(tmp_path)
    assert config == ModelConfig(format="H5", framework="Keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_folders_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match="no folder model/"):
        read_folder(tmp_path)
    write(tmp_path, ormbfile_DOT_yaml=b"format: ONNX", model__m_DOT_h5=b"abc")
    with pytest.raises(FormatMismatch, match=r"needs \*.onnx at the top of model/; there is m.h5"):
        read_folder(tmp_path)
