"""Entry files: how a task entry, or a job's sent scripts, is trained and evaluated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catchment.errors import SiteError
from catchment.wire.messages import Scalar, WorkKind

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class EntryPart(BaseModel):
    """How one kind of work is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[str, Field(min_length=1)] = "python3"
    entry: Annotated[str, Field(min_length=1, description="The script, relative to script_path.")]
    params: dict[str, Scalar] | None = None
    timeout: Annotated[float, Field(gt=0, description="minutes")] = 180.0


class EntryFile(BaseModel):
    """The content of an entry file; each part is needed only for works of its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    script_path: Annotated[str, Field(min_length=1)] | None = None
    train: EntryPart | None = None
    evaluate: EntryPart | None = None


class Entry:
    """An entry file that was read, with its scripts' folder found."""

    def __init__(self, path: Path, content: EntryFile) -> None:
        self.path = path
        self.content = content
        self.folder = (path.parent / (content.script_path or ".")).resolve()

    @classmethod
    def read(cls, path: Path) -> Entry:
        """The entry at `path`.

        Raises:
            SiteError: it cannot be read, or is not of the form; names the file and the field.
        """
        try:
            content = EntryFile.model_validate_json(path.read_bytes())
        except OSError as error:
            raise SiteError(f"cannot read {path.name}: {error.strerror}") from error
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
                for item in error.errors()[:5]
            )
            raise SiteError(f"{path.name}: {problems}") from error
        return cls(path, content)

    def part(self, kind: WorkKind) -> EntryPart:
        """How this kind of work is run.

        Raises:
            SiteError: the file says nothing about it.
        """
        part = self.content.train if kind == "train" else self.content.evaluate
        if part is None:
            there = [name for name in ("train", "evaluate") if getattr(self.content, name) is not None]
            known = ", ".join(there) or "neither part"
            raise SiteError(f"{self.path.name} has no part '{kind}'; it has {known}")
        return part


class Entries:
    """The folder of a site's task entries: `<name>.json` each."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """Names of all entries that are there now, in order."""
        if self._folder is None:
            return ()
        return tuple(sorted(path.stem for path in self._folder.glob("*.json") if _PLAIN.fullmatch(path.stem)))

    def find(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            SiteError: there is none, or it cannot be used.
        """
        if self._folder is None or name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise SiteError(f"this site has no task entry {name!r}; it has: {known}")
        return Entry.read(self._folder / f"{name}.json")


def read_sent(folder: Path, config_file: str) -> Entry:
    """The entry file of sent scripts, which must stay inside their folder.

    Raises:
        SiteError: no such file, or it leads elsewhere.
    """
    root = folder.resolve()
    path = (root / config_file).resolve()
    if not path.is_relative_to(root):
        raise SiteError(f"scripts.config_file {config_file!r} leads out of the sent folder")
    if not path.is_file():
        raise SiteError(f"scripts.config_file {config_file!r} is not among the sent scripts")
    entry = Entry.read(path)
    if not entry.folder.is_relative_to(root):
        raise SiteError(f"{config_file}: script_path leads out of the sent folder")
    return entry
