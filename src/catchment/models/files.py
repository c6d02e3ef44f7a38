"""The files of a model version: their names, and where their bytes are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from isal import isal_zlib

from catchment.errors import BadArtifact
from catchment.models.spans import FileSource, Source

MODEL_FOLDER = "model"
"""Top folder of a model's files in a layer and in a zip."""
_MAX_NAME_BYTES = 4096
_MAX_PART_BYTES = 255
_MAX_DEPTH = 64


@dataclass(frozen=True)
class ModelFile:
    """A file of a model version.

    Attributes:
        name: relative to the version's folder, with slashes, such as `model/weights.onnx`.
        size: bytes.
        source: gives them.
        digest: `sha256:<hex>` where it is known.
        crc32: of the content, where it is known; saves a pass over the file.
        mode: permission bits.
        mtime: seconds since 1970.
    """

    name: str
    size: int
    source: Source
    digest: str = ""
    crc32: int | None = None
    mode: int = 0o644
    mtime: int = 0


@dataclass(frozen=True)
class Limits:
    """What an archive of unknown origin may unfold to.

    Attributes:
        max_files: entries, folders counted.
        max_bytes: of all files together.
        max_ratio: unpacked to packed bytes, looked at once `free_bytes` are unpacked: weights that are still
            zero are packed a thousandfold.
        free_bytes: so much may come out of however little.
    """

    max_files: int = 20_000
    max_bytes: int = 100 * 2**30
    max_ratio: float = 200.0
    free_bytes: int = 2**28

    def check_ratio(self, packed: int, unpacked: int, what: str) -> None:
        """Raises BadArtifact when so few bytes may not unfold to so many."""
        if unpacked > max(self.free_bytes, self.max_ratio * packed):
            raise BadArtifact(f"{what} unfolds to more than {self.max_ratio:g} times its size, as bombs do")


def plain_name(name: str) -> str:
    """The name without `./`, leading and doubled slashes, which are harmless.

    Raises:
        BadArtifact: it leads out of its folder, or no file system of ours can hold it.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    shown = ascii(name[:200])
    if not parts or ".." in parts:
        raise BadArtifact(f"the file name {shown} leads out of the model's folder")
    if "\\" in name or any(ord(char) < 32 or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in name):
        raise BadArtifact(f"the file name {shown} holds a backslash, a control character or no Unicode")
    if len(parts) > _MAX_DEPTH:
        raise BadArtifact(f"the file name {shown}... goes more than {_MAX_DEPTH} folders deep")
    if max(len(part.encode()) for part in parts) > _MAX_PART_BYTES or len(name.encode()) > _MAX_NAME_BYTES:
        raise BadArtifact(f"the file name {shown}... is longer than {_MAX_PART_BYTES} bytes a part allow")
    return "/".join(parts)


class Names:
    """The names met so far in an archive; no name twice, and no file that is also a folder."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str, *, folder: bool = False) -> None:
        """Take a plain name in.

        Raises:
            BadArtifact: a file of that name is there, or a folder where a file should be.
        """
        parts = name.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts) + folder)}
        clash = name in self._files or not above.isdisjoint(self._files)
        if clash or (not folder and name in self._folders):
            raise BadArtifact(f"{name!a} is there twice")
        self._folders |= above
        if not folder:
            self._files.add(name)


def version_digest(digests: Mapping[str, str]) -> str:
    """The digest of a model version, from its files' by their names below `model/`.

    It is that of the one file, or of the list of all names and digests as compact JSON.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    packed = json.dumps(sorted(map(list, digests.items())), separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(packed.encode()).hexdigest()}"


def with_checksums(file: ModelFile) -> ModelFile:
    """The file with its digest and CRC-32: one pass over it."""
    sha, crc = hashlib.sha256(), 0
    for piece in file.source.read(0, file.size):
        sha.update(piece)
        crc = isal_zlib.crc32(piece, crc)
    return replace(file, digest=f"sha256:{sha.hexdigest()}", crc32=crc)


def in_order(files: Iterable[ModelFile]) -> list[ModelFile]:
    """The files as a walk through their folders meets them, which is how the original orders a layer."""
    return sorted(files, key=lambda file: file.name.split("/"))


def files_of(folder: Path, *, top: str = MODEL_FOLDER) -> list[ModelFile]:
    """The regular files below `folder`, named below `top`, in order.

    Raises:
        BadArtifact: a link, device or socket is among them, or a name that cannot travel.
    """
    found: list[ModelFile] = []
    for root, folders, names in os.walk(folder, onerror=_unreadable):
        for name in (*names, *folders):
            path = Path(root, name)
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode):
                continue
            if not stat.S_ISREG(about.st_mode):
                raise BadArtifact(f"{path} is no regular file (a link?); put the file itself there")
            inside = plain_name(f"{top}/{path.relative_to(folder).as_posix()}")
            mode, mtime = stat.S_IMODE(about.st_mode) & 0o777, round(about.st_mtime)
            found.append(ModelFile(inside, about.st_size, FileSource(path), mode=mode, mtime=mtime))
    return in_order(found)


def _unreadable(error: OSError) -> None:
    raise BadArtifact(f"{error.filename} cannot be read: {error.strerror}") from error
