"""scikit-learn: .skops files are read by their schema, of .joblib files classes alone are told."""

from __future__ import annotations

from catchment.formats.extract import joblib_file, skops_file
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted


def read(folder: ModelFolder) -> Extracted:
    """What the one *.skops or *.joblib file says."""
    name = folder.one("*.skops", "*.joblib")
    return (
        skops_file.read(folder, name) if name.lower().endswith(".skops") else joblib_file.read(folder, name)
    )
