"""Which backends are there on this machine, and what they convert; nothing is built by asking."""

from __future__ import annotations

from typing import Any

from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.routes import ROUTES, formats_of


def backends(environments: Environments) -> list[dict[str, Any]]:
    """Each backend with its pairs of formats, the sources that it runs to compare with, and its state.

    `reason` says why a backend is not available, or what its first use will do.
    """
    found = []
    for name, backend in BACKENDS.items():
        status = environments.status(backend)
        compares = {route.source for route in ROUTES.values() if name in route.references}
        found.append(
            {
                "name": name,
                "about": status.about,
                "python": status.python,
                "packages": backend.pins() if backend.lock.is_file() else {},
                "available": status.available,
                "built": status.built,
                "reason": status.reason,
                "converts": [{"from": start, "to": end} for start, end in formats_of(name)],
                "compares": sorted(compares),
            }
        )
    return found
