"""What runs model servers: this machine, or a cluster in one of several ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catchment.errors import InvalidField

if TYPE_CHECKING:
    from catchment.serving.workload import Backend
    from catchment.store import Store


def open_backend(store: Store, name: str) -> Backend:
    """The backend of this name.

    Raises:
        InvalidField: there is none.
        SetupError: what it needs is not installed, or not configured.
    """
    match name:
        case "local":
            from catchment.serving.backends.local import LocalBackend

            return LocalBackend(store)
    raise InvalidField("backend", f"{name!r} is none of local, kubernetes, kserve, seldon")
