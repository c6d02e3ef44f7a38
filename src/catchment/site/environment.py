"""The environment of scripts and of the processes that start them."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

import catchment

_OURS = ("CATCHMENT_", "PREFECT_")


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy without our own variables, which may hold tokens and addresses that are no script's business."""
    return {name: value for name, value in environ.items() if not name.startswith(_OURS)}


def with_python_path(environ: Mapping[str, str], *folders: str) -> dict[str, str]:
    """A copy whose PYTHONPATH begins with the folders, and from which `catchment` can be imported."""
    root = str(Path(catchment.__file__).resolve().parent.parent)
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    entries = [*folders, *environ.get("PYTHONPATH", "").split(os.pathsep)]
    if root not in installed and root not in entries:
        entries.append(root)
    return {**environ, "PYTHONPATH": os.pathsep.join(entry for entry in entries if entry)}


def python_command(*arguments: str) -> list[str]:
    """Command line of this interpreter that never imports from the current folder."""
    return [sys.executable, "-P", *arguments]
