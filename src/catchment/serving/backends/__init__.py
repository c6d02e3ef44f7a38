"""What runs workloads: model servers of this machine, or a cluster."""

from __future__ import annotations

import functools

from catchment.errors import InvalidField
from catchment.serving.workload import Backend
from catchment.settings import Settings
from catchment.store import Store

NAMES = ("local", "kubernetes", "kserve", "seldon")


def open_backend(store: Store, name: str = "") -> Backend:
    """The backend of this name; empty: the one of CATCHMENT_SERVING_BACKEND.

    Raises:
        InvalidField: there is none of this name.
        SetupError: no cluster is known, or the settings do not fit the backend.
    """
    name = name or store.settings.serving_backend
    if name not in NAMES:
        raise InvalidField("backend", f"{name[:60]!r} is not known; known are {', '.join(NAMES)}")
    if name == "local":
        from catchment.serving.backends.local import LocalBackend

        return LocalBackend(store)
    return _on_cluster(store.settings, name)


@functools.lru_cache(maxsize=8)
def _on_cluster(settings: Settings, name: str) -> Backend:
    """Kept, since its connections are: every look at a serving opens a backend."""
    from catchment.kubernetes.client import Cluster
    from catchment.serving.asking import verify
    from catchment.serving.backends.kserve import KServeBackend
    from catchment.serving.backends.kubernetes import KubernetesBackend
    from catchment.serving.backends.seldon import SeldonBackend

    cluster = Cluster(settings)
    if name == "kserve":
        return KServeBackend(settings, cluster)
    if name == "seldon":
        return SeldonBackend(settings, cluster)
    return KubernetesBackend(settings, cluster, verify=verify)
