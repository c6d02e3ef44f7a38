"""Folders of models for the readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.formats.extract.readers import extract
from catchment.formats.extract.result import Extracted

Reader = Callable[..., Extracted]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Write files, `read("ONNX", {"model.onnx": content})`, and extract in this process."""

    def extracted(format_name: str, files: dict[str, bytes | str]) -> Extracted:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return extract(folder, format_name)

    return extracted
