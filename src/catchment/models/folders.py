"""A model's folder as people keep it: `ormbfile.yaml` beside `model/`."""

from __future__ import annotations

from pathlib import Path

from catchment.errors import BadArtifact
from catchment.models import config as configs
from catchment.models import documents, formats
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.files import MODEL_FOLDER, ModelFile, files_of


def read_folder(folder: Path, format_name: str = "") -> tuple[ModelConfig, list[ModelFile]]:
    """The config and the files of a model's folder, checked against its format.

    Without an ormbfile.yaml, or without a format in it, the files say the format. Nothing is written.

    Args:
        folder: holds `model/`.
        format_name: goes before the format that ormbfile.yaml names.

    Raises:
        BadArtifact: there is no `model/`, or something in it cannot travel.
        FormatMismatch: the files are not what the format asks for.
    """
    if not (folder / MODEL_FOLDER).is_dir():
        raise BadArtifact(f"{folder} holds no folder {MODEL_FOLDER}/ with the model's files")
    described = folder / ORMBFILE
    config = ModelConfig()
    if described.is_file():
        with described.open("rb") as file:
            config = configs.from_yaml(file.read(documents.MAX_YAML_BYTES + 1))
    if format_name:
        config = config.model_copy(update={"format": format_name})
    files = files_of(folder / MODEL_FOLDER)
    return with_format(config, files), files


def with_format(config: ModelConfig, files: list[ModelFile]) -> ModelConfig:
    """The config with its format as the table spells it, or the one that the files are.

    Raises:
        FormatMismatch: the files are not what the format asks for, or could be several where none is named.
    """
    names = [inside for file in files if (inside := inside_model(file.name))]
    found = formats.check(config.format, names) if config.format else formats.infer(names)
    changes = {"format": found.name}
    if not config.framework and found.framework:
        changes["framework"] = found.framework
    return config.model_copy(update=changes)


def inside_model(name: str) -> str:
    """The name relative to `model/`; empty for a file that lies elsewhere."""
    top, _, inside = name.partition("/")
    return inside if top == MODEL_FOLDER else ""
