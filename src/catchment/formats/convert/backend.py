"""What can convert: a backend is a name, an interpreter's version, a lock file and an entry."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent / "backends"
BASE = "base"

Builder = Literal["own", "uv", "pip"]


@dataclass(frozen=True)
class Backend:
    """One converter.

    Attributes:
        name: also of its folder in `backends/`, which holds `requirements.lock` and `entry.py`.
        builder: "own": Catchment's own environment, and no other; "uv"; "pip": also where uv is there, for
            uv does not know what pip's own configuration names (the CPU builds of PyTorch).
        python: version of the interpreter that the lock was made for.
        about: what it is, for people.
        watch_mb: memory that its framework takes before any model is opened.
    """

    name: str
    builder: Builder
    python: str
    about: str
    watch_mb: int = 0
    folder: Path = FOLDER

    @property
    def lock(self) -> Path:
        """Every package with its version, and with its hashes where they are known."""
        return self.folder / self.name / "requirements.lock"

    def pins(self) -> dict[str, str]:
        """Package -> version, as the lock has them."""
        found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", self.lock.read_text(), re.MULTILINE)
        return {name.lower().replace("_", "-"): version for name, version in found}

    def lacking_here(self) -> list[str]:
        """The pins that this process's own environment does not satisfy, in words."""
        if f"{sys.version_info[0]}.{sys.version_info[1]}" != self.python and self.builder != "own":
            return [f"Python {self.python}"]
        return [
            f"{name} {version}"
            for name, version in self.pins().items()
            if not _has(name, version, self.builder)
        ]


def _has(name: str, version: str, builder: Builder) -> bool:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    # Catchment's own environment has its own lock: there, newer ones are as good.
    return builder == "own" or found.partition("+")[0] == version


BACKENDS = {
    each.name: each
    for each in (
        Backend(BASE, "own", "3.11", "Catchment's own maps of operators, ONNX tools, safetensors", 100),
        Backend("torch", "pip", "3.11", "torch.onnx", 400),
        Backend("tensorflow", "uv", "3.11", "Keras and tf2onnx", 600),
        Backend("sklearn", "uv", "3.11", "skl2onnx, and onnxmltools for XGBoost and LightGBM", 250),
        Backend("mxnet", "uv", "3.11", "MXNet's own exporter; also what MXNet models are compared with", 250),
        Backend("mmdnn", "uv", "3.11", "MMdnn, for Caffe", 150),
        Backend("opencv", "uv", "3.11", "runs Caffe models, to compare with; converts nothing", 150),
    )
}
