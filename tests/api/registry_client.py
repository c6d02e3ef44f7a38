"""A registry's client of plain requests, and artifacts made by hand, as the original's are."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ORMB_CONFIG = "application/vnd.caicloud.model.config.v1alpha1+json"
ORMB_LAYER = "application/tar+gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def code(self) -> str:
        """The code of the specification's error body."""
        (error,) = self.json()["errors"]
        assert error["message"]
        return str(error["code"])


@dataclass
class Client:
    """One request, one connection; nothing is followed, nothing tried again."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, self.headers | named)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes) -> str:
        """As the original does: HEAD, POST, one PUT."""
        digest = digest_of(data)
        if self("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
            return digest
        begun = self("POST", f"/v2/{repository}/blobs/uploads/", b"")
        assert begun.status == 202, begun.body
        place = begun.headers["location"].removeprefix(self.url)
        kept = self("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
        assert kept.status == 201, kept.body
        assert kept.headers["docker-content-digest"] == digest
        return digest

    def push(self, repository: str, tag: str, artifact: Artifact) -> Answer:
        """Blobs, then HEAD and PUT of the manifest."""
        for blob in artifact.blobs:
            self.push_blob(repository, blob)
        self("HEAD", f"/v2/{repository}/manifests/{tag}")
        return self.put_manifest(repository, tag, artifact.manifest)

    def put_manifest(self, repository: str, reference: str, manifest: bytes) -> Answer:
        return self("PUT", f"/v2/{repository}/manifests/{reference}", manifest, Content_Type=MANIFEST_TYPE)


@dataclass(frozen=True)
class Artifact:
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def layer(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def described(media_type: str, data: bytes, **annotations: str) -> dict[str, Any]:
    value: dict[str, Any] = {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
    return value | ({"annotations": annotations} if annotations else {})


def ormb(files: dict[str, bytes], **config: Any) -> Artifact:
    """An ORMB artifact of files named `model/...`."""
    told = {"created": "2021-03-09T09:38:13Z", "format": "ONNX", "framework": "ONNX", **config}
    config_blob, packed = json.dumps(told, separators=(",", ":")).encode(), layer(files)
    manifest = {
        "schemaVersion": 2,
        "config": described(ORMB_CONFIG, config_blob),
        "layers": [described(ORMB_LAYER, packed)],
    }
    return Artifact(json.dumps(manifest).encode(), (config_blob, packed))


def modelpack(files: dict[str, bytes]) -> Artifact:
    """A ModelPack of raw files."""
    config_blob = (
        b'{"descriptor":{"authors":["anna"]},"modelfs":{"type":"layers"},"config":{"format":"ONNX"}}'
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "config": described("application/vnd.cncf.model.config.v1+json", config_blob),
        "layers": [
            described("application/vnd.cncf.model.weight.v1.raw", data, **{"org.cncf.model.filepath": name})
            for name, data in files.items()
        ],
    }
    return Artifact(json.dumps(manifest).encode(), (config_blob, *files.values()))


def unpacked(packed: bytes) -> dict[str, bytes]:
    """The files of a layer, by a reader that is not ours."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as tar:
        found: dict[str, bytes] = {}
        for member in tar.getmembers():
            opened = tar.extractfile(member)
            assert opened is not None
            found[member.name] = opened.read()
        return found
