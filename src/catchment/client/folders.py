"""A model's folder up as a zip that is never built, and down as one that is unpacked aside."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from catchment.client.connection import Connection, answered_error
from catchment.client.transfers import PART_BYTES, Patience, Progress, append_rest
from catchment.errors import BadArtifact, CatchmentError, DigestMismatch, Refused, Unreachable
from catchment.models import go_json
from catchment.models.aside import appear, check_free, workplace, writing
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.files import Limits, ModelFile, files_of, version_digest, with_checksums
from catchment.models.folders import inside_model
from catchment.models.stored_zip import StoredZip
from catchment.models.unfolding import Tree
from catchment.models.zips import read_zip

PATIENT_BYTES_PER_S = 20_000_000
"""The server unpacks a zip before it answers the last part; so slow it may be."""
_WAIT_S = 120.0


def claims(tenant: str, user: str) -> dict[str, str]:
    """The headers that say for whom a request is; by default the login name of this process.

    Raises:
        Refused: it has none.
    """
    try:
        login = re.sub(r"[^A-Za-z0-9._@:-]", "-", getpass.getuser()).lstrip("._@:-")[:128]
    except (KeyError, OSError):
        login = ""
    if not login and not (tenant and user):
        raise Refused("this process has no login name; say for whom it is: a tenant and a user")
    return {"X-Tenant": tenant or login, "X-User": user or login}


def digest_of(files: list[ModelFile]) -> str:
    """The digest of a version with these files, whose own are known."""
    return version_digest({inside_model(file.name): file.digest for file in files})


class Upload:
    """A zip on its way to the registry's upload, in parts; what the server has is not sent again.

    Args:
        connection: to the server.
        path: of the operation.
        name: of the folder in the zip.
        config: what the model says of itself.
        files: named `model/...`, with their CRC-32.
        headers: `claims`.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        name: str,
        config: ModelConfig,
        files: list[ModelFile],
        headers: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._path = path
        self._headers = headers
        self._zip = StoredZip([replace(file, name=f"{name}/{inside_model(file.name)}") for file in files])
        boundary = secrets.token_hex(16)
        self._type = f"multipart/form-data; boundary={boundary}"
        self._before = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n'.encode()
            + go_json.encode(config.written())
            + f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="model.zip"\r\n'
            "Content-Type: application/zip\r\n\r\n".encode()
        )
        self._after = f"\r\n--{boundary}--\r\n".encode()

    def run(self, progress: Progress) -> None:
        """Send it all.

        Raises:
            Refused: the server does not take it, and why.
            Unreachable: it does not come back.
        """
        total, patience = self._zip.size, Patience()
        self._connection.allow(_WAIT_S + total / PATIENT_BYTES_PER_S)
        stored = self._stored(patience)
        resumed = stored > 0
        while stored < total:
            stop = min(total, stored + PART_BYTES)
            try:
                status, found, content = self._send(stored, stop)
            except Unreachable:
                patience.lose()
                stored = self._stored(patience)
                continue
            if status < 300:
                patience.gain()
                stored = stop
                progress(stored, total)
            elif _kind(content) == "BadArtifact" and resumed:
                resumed, stored = False, 0  # what the server had was the beginning of another zip
            else:
                patience.lose()
                stored = self._expected(status, found, content, patience)

    def _stored(self, patience: Patience) -> int:
        """How much the server has: it says so when it is sent a part that it does not wait for."""
        total = self._zip.size
        while True:
            try:
                status, found, content = self._send(total - 1, total)
            except Unreachable:
                patience.lose()
                continue
            return total if status < 300 else self._expected(status, found, content, patience)

    def _expected(self, status: int, found: Mapping[str, str], content: bytes, patience: Patience) -> int:
        """Where to go on after a refusal that says so; others are raised."""
        if status == 409 and "upload-offset" in found:
            return int(found["upload-offset"])
        if _kind(content) == "TransferError":  # the server still works on the request that broke off
            patience.lose()
            return self._stored(patience)
        raise answered_error(status, content, "the upload")

    def _send(self, start: int, stop: int) -> tuple[int, Mapping[str, str], bytes]:
        headers = {
            **self._headers,
            "Content-Type": self._type,
            "Content-Range": f"bytes {start}-{stop - 1}/{self._zip.size}",
            "Content-Length": str(len(self._before) + stop - start + len(self._after)),
        }
        return self._connection.send("POST", self._path, self._body(start, stop), headers)

    def _body(self, start: int, stop: int) -> Iterator[bytes]:
        yield self._before
        yield from self._zip.read(start, stop)
        yield self._after


def _kind(content: bytes) -> str:
    """The kind of error that an answer of the registry's operations names."""
    try:
        document: Any = json.loads(content)
        return str(document["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def download(
    connect: Callable[[], Connection],
    path: str,
    folder: Path,
    digest: str,
    headers: Mapping[str, str],
    progress: Progress,
) -> Path:
    """Fetch a version's zip and unpack it to a folder, which appears when all of it is right.

    Args:
        connect: opens a connection.
        path: of the registry's download.
        folder: must not be there, or be empty.
        digest: of the version.
        headers: `claims`.
        progress: told the zip's bytes done and in all.

    Returns:
        The folder.

    Raises:
        AlreadyExists, Refused: the folder cannot be made there.
        BadArtifact: the zip holds what is not safe, or is damaged.
        DigestMismatch: its files are not the version's.
        Unreachable: the server does not come back, or the disk is full.
    """
    folder = folder.resolve()
    check_free(folder)
    connection = connect()
    try:
        tag, size = _announced(connection, path, headers)
        with workplace(folder, hashlib.sha256(tag.encode()).hexdigest()[:16]) as work:
            archive = work / "zip"
            with archive.open("ab") as file, writing(work):
                append_rest(
                    *(connection, path, tag, file.tell(), size, file.write, progress),
                    method="POST",
                    headers=headers,
                )
            with writing(work):
                _unpack(archive, work / "tree", digest)
                appear(work / "tree", folder)
    finally:
        connection.close()
    return folder


def _announced(connection: Connection, path: str, headers: Mapping[str, str]) -> tuple[str, int]:
    """ETag and size of the zip."""
    with connection.receiving(path, {**headers, "Range": "bytes=0-0"}, method="POST") as answer:
        tag, told = answer.getheader("ETag", ""), answer.getheader("Content-Range", "")
        found = re.fullmatch(r"bytes 0-0/([0-9]{1,18})", told)
        if answer.status != 206 or found is None or not tag:
            raise CatchmentError("the server gives no ranges of a version's zip; is that a Catchment server?")
        return tag, int(found[1])


def _unpack(archive: Path, target: Path, digest: str) -> None:
    tree, now = Tree(target, Limits()), int(time.time())
    for each in read_zip(archive):
        name = inside_model(each.name)
        if name != ORMBFILE and not inside_model(name):
            raise BadArtifact(f"the version's zip holds {name!a} beside {ORMBFILE} and model/")
        tree.add(replace(each, mtime=now), name)
    tree.finish(ModelConfig())
    actual = digest_of([with_checksums(file) for file in files_of(target / "model")])
    if actual != digest:
        raise DigestMismatch(digest, actual)
