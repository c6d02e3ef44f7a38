"""Models as zips: what people upload, file by file, and what they download, which need never be built.

An upload holds one folder, of any name, whose content is the model. A download holds the version's folder
with `ormbfile.yaml` and `model/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from catchment import archives
from catchment.errors import BadArtifact
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.files import MODEL_FOLDER, Limits, ModelFile, Names, plain_name
from catchment.models.spans import BytesSource
from catchment.models.stored_zip import StoredZip

# A Mac puts its own notes about files there, beside what was packed.
_IGNORED = ("__MACOSX",)


@dataclass(frozen=True)
class Uploaded:
    """A file of an uploaded zip; to be read before the next one is asked for.

    Attributes:
        name: below `model/`, plain.
        size: bytes.
        mode: permission bits.
    """

    name: str
    size: int
    mode: int
    _member: archives.Member = field(repr=False)
    mtime: int = 0
    """Zips know local times of an unknown zone; none is better than a wrong one."""

    def read(self) -> Iterator[bytes]:
        """Its bytes, a MiB at most at once.

        Raises:
            BadArtifact: they are damaged.
        """
        return self._member.read()


def read_zip(archive: Path, limits: Limits | None = None) -> Iterator[Uploaded]:
    """The model's files of an uploaded zip, in its order.

    When the iteration ends by itself, all files were found whole.

    Raises:
        BadArtifact: the zip is damaged, encrypted or a bomb; does not have exactly one folder at its top; or
            holds links, names that lead out, a name twice, or more than the limits.
    """
    limits = limits or Limits()
    content = archives.Content(
        "the zip's files",
        BadArtifact,
        max_files=limits.max_files,
        max_bytes=limits.max_bytes,
        max_ratio=limits.max_ratio,
        free_bytes=limits.free_bytes,
    )
    top, names, count = "", Names(), 0
    for member in archives.members(archive, content):
        name = plain_name(member.name)
        first, slash, inside = name.partition("/")
        if first in _IGNORED and slash:
            continue
        if not slash:
            raise BadArtifact(
                f"the zip holds the file {name!a} at its top; pack one folder with the model's files in it"
            )
        if top and first != top:
            raise BadArtifact(
                f"the zip holds {top!a} and {first!a} at its top; pack one folder with the model's files"
            )
        top, count = first, count + 1
        names.add(inside)
        yield Uploaded(f"{MODEL_FOLDER}/{inside}", member.size, 0o755 if member.executable else 0o644, member)
    if not count:
        raise BadArtifact("the zip holds no file; pack one folder with the model's files in it")


def version_zip(version: str, config: ModelConfig, files: list[ModelFile]) -> StoredZip:
    """What a download of a version is: `<version>/ormbfile.yaml` and the files below `<version>/`.

    Args:
        version: names the top folder.
        config: becomes ormbfile.yaml.
        files: named `model/...`.
    """
    described = config.to_yaml()
    return StoredZip(
        [
            ModelFile(f"{version}/{ORMBFILE}", len(described), BytesSource(described)),
            *(replace(file, name=f"{version}/{file.name}") for file in files),
        ]
    )
