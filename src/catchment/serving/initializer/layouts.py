"""A fetched model's files as a runtime wants them; files are moved, never copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catchment.errors import BadArtifact
from catchment.models.config import ORMBFILE
from catchment.models.files import MODEL_FOLDER
from catchment.serving.manifests.mlserver import model_settings
from catchment.serving.manifests.runtimes import Layout
from catchment.serving.manifests.triton import config_pbtxt

TRITON_FILES: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "ONNX": ((("*.onnx",), "model.onnx"),),
    "TorchScript": ((("*.pt",), "model.pt"),),
    "GraphDef": ((("*.graphdef",), "model.graphdef"),),
    "NetDef": ((("predict_net.pb",), "model.netdef"), (("init_net.pb",), "init_model.netdef")),
    "TensorRT": ((("*.plan", "*.engine"), "model.plan"),),
}
"""Format -> (patterns, the name that Triton looks for); other files keep theirs, such as external weights."""
MLSERVER_FILES: Mapping[str, tuple[str, ...]] = {
    "SKLearn": ("*.joblib",),
    "XGBoost": ("*.ubj", "*.json", "*.bst", "*.xgboost"),
}
"""The file that MLServer is told of; other formats are told of by their folder."""


@dataclass(frozen=True)
class Description:
    """What is known of the model.

    Attributes:
        name: in addresses.
        version: in addresses; empty: none.
        format: as `models.formats` spells it.
        inputs, outputs: the signature's tensors.
        mllib_format: for MLlib, which kind of model it is.
    """

    name: str
    version: str
    format: str
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    mllib_format: str = ""


def arrange(pulled: Path, target: Path, layout: Layout, model: Description) -> None:
    """Move a pulled model's files to where the runtime looks for them.

    Args:
        pulled: holds `model/` and perhaps `ormbfile.yaml`, in the same file system as `target`.
        target: an existing folder.
        layout: of the runtime.
        model: what is known of it.

    Raises:
        BadArtifact: a file that the runtime needs is not there, or there are several.
        InvalidField: the signature cannot be said in the runtime's terms.
    """
    if layout in ("triton", "triton-repository"):
        place = target / model.name if layout == "triton-repository" else target
        _for_triton(pulled / MODEL_FOLDER, place, model)
    elif layout == "mlserver":
        _for_mlserver(pulled / MODEL_FOLDER, target, model)
    else:
        for name in (MODEL_FOLDER, ORMBFILE):
            if (pulled / name).exists():
                (pulled / name).rename(target / name)


def _for_triton(files: Path, place: Path, model: Description) -> None:
    config = config_pbtxt(model.name, model.format, model.inputs, model.outputs)
    renamed = {
        _one(files, patterns, model.format): name for patterns, name in TRITON_FILES.get(model.format, ())
    }
    place.mkdir(exist_ok=True)
    if model.format == "SavedModel":  # whole: its assets belong to it
        (place / "1").mkdir()
        files.rename(place / "1" / "model.savedmodel")
    else:
        for file, name in renamed.items():
            if file.name != name and (files / name).exists():
                raise BadArtifact(
                    f"{name} is the name that {file.name} needs for Triton, and is there already"
                )
            file.rename(files / name)
        files.rename(place / "1")
    (place / "config.pbtxt").write_text(config)


def _for_mlserver(files: Path, target: Path, model: Description) -> None:
    patterns = MLSERVER_FILES.get(model.format)
    inside = f"/{_one(files, patterns, model.format).name}" if patterns else ""
    settings = model_settings(
        model.name,
        model.format,
        f"./{MODEL_FOLDER}{inside}",
        model.version,
        inputs=model.inputs,
        outputs=model.outputs,
    )
    if model.mllib_format:
        settings["parameters"]["format"] = model.mllib_format
    files.rename(target / MODEL_FOLDER)
    (target / "model-settings.json").write_text(json.dumps(settings, indent=2) + "\n")


def _one(folder: Path, patterns: tuple[str, ...], format_name: str) -> Path:
    found = sorted({each for pattern in patterns for each in folder.glob(pattern)})
    if len(found) != 1:
        there = ", ".join(sorted(each.name for each in found or folder.iterdir())[:12]) or "nothing"
        raise BadArtifact(
            f"the runtime of {format_name} loads one file {' or '.join(patterns)} of model/; there is {there}"
        )
    return found[0]
