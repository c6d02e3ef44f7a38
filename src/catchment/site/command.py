"""From an entry and a job's parameters to the command line of a script."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from catchment.errors import SiteError
from catchment.site.entries import EntryPart
from catchment.wire.messages import Scalar

_PYTHON = re.compile(r"python(3(\.\d+)?)?")


@dataclass(frozen=True)
class Command:
    """A command line, and the Python script in it where this interpreter runs one ("" otherwise)."""

    argv: tuple[str, ...]
    script: str = ""

    @property
    def is_python(self) -> bool:
        """Whether it is this interpreter that runs."""
        return self.argv[0] == sys.executable


def arguments(params: Mapping[str, Scalar], parameters: Mapping[str, Scalar]) -> list[str]:
    """The entry's params, overridden and followed by the job's parameters, as arguments.

    Keys stand as they are; a null is a bare key; numbers keep their type: 2 is "2", 2.0 is "2.0".
    """
    line = []
    for key, value in {**params, **parameters}.items():
        line.append(key)
        if value is not None:
            line.append(str(value))
    return line


def build(part: EntryPart, parameters: Mapping[str, Scalar], folder: Path, path: str) -> Command:
    """The command line that is run in `folder`; no shell reads it.

    Args:
        part: how the work is run.
        parameters: the job's.
        folder: where the script is.
        path: the PATH that programs are looked for on.

    Raises:
        SiteError: the folder, the script or the program is not there.
    """
    words = _words(part.command)
    line = [*words, part.entry, *arguments(part.params or {}, parameters)]
    if any("\0" in word for word in line):
        raise SiteError("the command line holds a NUL character")
    if not folder.is_dir():
        raise SiteError(f"script_path {folder} is not there")
    plain = len(words) == 1
    script = (folder / part.entry).resolve()
    if plain and not script.is_file():
        raise SiteError(f"entry {part.entry!r} is no file in {folder.name}")
    if words[0] == sys.executable or _PYTHON.fullmatch(words[0]):
        return Command((sys.executable, *line[1:]), str(script) if plain else "")
    relative = os.sep in words[0] and not os.path.isabs(words[0])  # noqa: PTH117
    if shutil.which(str(folder / words[0]) if relative else words[0], path=path) is None:
        raise SiteError(f"command {words[0]!r} is no program of this site")
    return Command(tuple(line))


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SiteError(f"command {command!r} cannot be read: {error}") from error
    if not words:
        raise SiteError("command is empty")
    return words
