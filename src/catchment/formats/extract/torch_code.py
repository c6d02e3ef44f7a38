"""The code of a TorchScript archive as text: what its classes declare. It is never compiled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.pickles import Global
from catchment.formats.extract.zips import Archive

MAX_CODE_BYTES = 32 * 2**20
_NAMES = re.compile(r'"([^"\n]*)"')


@dataclass(frozen=True)
class Class:
    """What one class declares.

    Attributes:
        name: without its module.
        parameters: names of attributes that are learned.
        arguments: of `forward`, without self; None where there is no such method.
        returns: its type.
        runs_at_load: whether PyTorch would run a method of it when the archive is loaded.
    """

    name: str
    parameters: frozenset[str] = frozenset()
    arguments: list[dict[str, str]] | None = None
    returns: str = ""
    runs_at_load: bool = False


class Code:
    """The source files of one archive, read when a class of theirs is asked for."""

    def __init__(self, archive: Archive, entries: dict[str, str]) -> None:
        self._archive = archive
        self._entries = entries
        self._files: dict[str, dict[str, str]] = {}
        self._classes: dict[Any, Class] = {}
        self._left = MAX_CODE_BYTES

    def of(self, found: Global) -> Class:
        """What the class of this name declares; only its name where the archive does not hold its source."""
        if found not in self._classes:
            source = self._file(found.module).get(found.name, "")
            self._classes[found] = _declared(found.name, source)
        return self._classes[found]

    def _file(self, module: str) -> dict[str, str]:
        """Class -> source, of one module."""
        path = f"code/{module.replace('.', '/')}.py"
        if path not in self._files:
            source = ""
            if path in self._entries:
                content = self._archive.content(self._entries[path], self._left)
                self._left -= len(content)
                source = content.decode("utf-8", "replace")
            parts = re.split(r"^class (\w+)\(", source, flags=re.MULTILINE)
            self._files[path] = dict(zip(parts[1::2], parts[2::2], strict=True))
        return self._files[path]


def _declared(name: str, source: str) -> Class:
    listed = re.search(r"^  __parameters__ = \[([^\]\n]*)\]", source, re.MULTILINE)
    parameters = frozenset(_NAMES.findall(listed[1])) if listed else frozenset()
    forward = re.search(r"^  def forward\(", source, re.MULTILINE)
    runs = "def __setstate__(" in source
    if forward is None:
        return Class(name, parameters, runs_at_load=runs)
    inside, rest = _until_closed(source[forward.end() :])
    returned = re.match(r"\s*->\s*(.*?):\s*$", rest, re.MULTILINE)
    arguments = [_argument(each) for each in _split(inside)[1:]]
    return Class(name, parameters, arguments, returned[1] if returned else "", runs)


def _argument(text: str) -> dict[str, str]:
    """`name: type=default` in parts."""
    name, _, kind = text.partition(":")
    kind, equals, default = kind.partition("=")
    found = {"name": name.strip(), "type": kind.strip()}
    return {**found, "default": default.strip()} if equals else found


def _until_closed(text: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes, and what behind it."""
    depth = 1
    for at in re.finditer(r"[()\[\]]", text):
        depth += 1 if at[0] in "([" else -1
        if depth == 0:
            return text[: at.start()], text[at.end() :]
    raise ExtractionFailed("the archive's code is damaged: a parenthesis is not closed")


def _split(text: str) -> list[str]:
    """Parts between commas that are in no brackets."""
    parts, depth = [""], 0
    for piece in re.split(r"([()\[\],])", text):
        depth += (piece in ("(", "[")) - (piece in (")", "]"))
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]
