"""Reads Dockerfiles: stages with their instructions, as far as ours use the language."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}


@dataclass
class Stage:
    """One stage.

    Attributes:
        base: what it begins from: an image, or another stage's name.
        instructions: name and text, in order.
    """

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The texts of an instruction."""
        return [text for each, text in self.instructions if each == name]


def read(path: Path) -> dict[str, Stage]:
    """The stages by name.

    Raises:
        ValueError: there is an instruction that is not known here.
    """
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in _logical_lines(path.read_text()):
        name, _, text = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"{path}: {name} is not used here: {line[:60]}")
        if name == "FROM":
            found = re.fullmatch(r"(\S+) AS ([a-z][a-z0-9-]*)", text)
            if found is None:
                raise ValueError(f"{path}: each stage has a name: FROM {text}")
            current = stages[found.group(2)] = Stage(found.group(2), found.group(1))
        elif current is not None:
            current.instructions.append((name, text.strip()))
    return stages


def _logical_lines(text: str) -> list[str]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line.strip() for line in re.sub(r"\\\n", "", kept).splitlines() if line.strip()]


def ancestry(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those that it is made from, the first one last."""
    found = [stages[name]]
    while found[-1].base in stages:
        found.append(stages[found[-1].base])
    return found
