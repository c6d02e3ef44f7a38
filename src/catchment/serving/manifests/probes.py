"""How Kubernetes asks a model's container whether it loads, serves and lives."""

from __future__ import annotations

import math
from typing import Any

from catchment.serving.manifests.runtimes import Runtime

PERIOD_S = 5
_PATIENCE: dict[str, Any] = {"timeoutSeconds": 5, "failureThreshold": 5}
"""As the original's containers have it."""


def of_runtime(runtime: Runtime, model: str, start_timeout_s: int) -> dict[str, Any]:
    """Startup waits for the model, readiness follows it, liveness asks only whether the server answers."""

    def get(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path.format(model=model), "port": "http", "scheme": "HTTP"}}

    loading = {"timeoutSeconds": 5, "periodSeconds": PERIOD_S}
    return {
        "startupProbe": {
            **get(runtime.ready),
            **loading,
            "failureThreshold": math.ceil(start_timeout_s / PERIOD_S),
        },
        "readinessProbe": {**get(runtime.ready), **_PATIENCE, "periodSeconds": PERIOD_S},
        "livenessProbe": {**get(runtime.live), **_PATIENCE, "periodSeconds": 10},
    }


def of_custom() -> dict[str, Any]:
    """An image that nothing is known of lives while it runs programs, as the original has it."""
    probe = {"exec": {"command": ["ls", "/"]}, **_PATIENCE, "periodSeconds": 10}
    return {"readinessProbe": probe, "livenessProbe": dict(probe)}
