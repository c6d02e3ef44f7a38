"""Where flows, tasks and api are: the checkout that holds prefect.yaml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from catchment.errors import SetupError

MARK = "prefect.yaml"
VARIABLE = "CATCHMENT_PROJECT"


def find_project(start: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The project's folder: CATCHMENT_PROJECT, else `start` or above it, else the checkout of this package.

    Raises:
        SetupError: there is none; says how to get one.
    """
    given = environment.get(VARIABLE)
    if given:
        folder = Path(given).expanduser().absolute()
        if _is_project(folder):
            return folder
        raise SetupError(f"{VARIABLE} is {given}, but there is no {MARK} beside folders api and flows")
    for folder in (start.absolute(), *start.absolute().parents, *Path(__file__).resolve().parents):
        if _is_project(folder):
            return folder
    raise SetupError(
        f"no {MARK} here or above: 'catchment up' runs the api and flows of a checkout of Catchment; "
        f"change into it, or name it in {VARIABLE}"
    )


def _is_project(folder: Path) -> bool:
    return (folder / MARK).is_file() and (folder / "api").is_dir() and (folder / "flows").is_dir()
