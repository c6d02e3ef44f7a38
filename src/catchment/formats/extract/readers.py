"""Which reader reads which format. A reader is imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, shown
from catchment.formats.protobuf import Broken

READERS = {
    "SavedModel": "savedmodel",
    "ONNX": "onnx",
    "GraphDef": "graphdef",
    "H5": "keras",
    "Keras": "keras",
    "TorchScript": "torchscript",
    "ExportedProgram": "exported_program",
    "StateDict": "state_dict",
    "Safetensors": "safetensors",
    "CaffeModel": "caffe",
    "NetDef": "netdef",
    "MXNetParams": "mxnet",
    "PMML": "pmml",
    "MLflow": "mlflow",
    "XGBoost": "xgboost",
    "LightGBM": "lightgbm",
    "SKLearn": "sklearn",
    "TensorRT": "tensorrt",
}
"""Format -> the module of this package whose `read(folder)` reads it."""

_SPELLINGS = {name.lower(): name for name in READERS}


def named(format_name: str) -> str:
    """The format as it is spelled here, however its letters are cased.

    Raises:
        ExtractionFailed: it cannot be extracted.
    """
    found = _SPELLINGS.get(format_name.strip().lower())
    if found is None:
        raise ExtractionFailed(
            f"the format {shown(format_name)} cannot be extracted; possible are {', '.join(READERS)}"
        )
    return found


def extract(folder: Path, format_name: str) -> Extracted:
    """What the model in `folder` says of itself. Of a stranger's model use `running.run_extraction`.

    Args:
        folder: holds the model's files, as `model/` of an ORMB artifact does.
        format_name: one of READERS.

    Raises:
        ExtractionFailed: the files are not of that format, damaged, or made to do harm.
    """
    wanted = named(format_name)
    module = importlib.import_module(f"catchment.formats.extract.{READERS[wanted]}")
    read: Callable[[ModelFolder], Extracted] = module.read
    files = ModelFolder(folder)
    try:
        found = read(files)
    except Broken as problem:
        raise ExtractionFailed(f"the file is damaged or cut off: {problem}") from problem
    return replace(found, format=wanted, size_bytes=files.size_bytes)
