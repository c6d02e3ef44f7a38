"""Topics of signals about servings; whoever writes such rows notifies in the same transaction."""

from __future__ import annotations

ROUTES = "serving-routes"
"""Weights of a serving, the number of its rollout, or the serving itself."""
WORKLOADS = "serving-workloads"
"""What hosts are to run."""
ENDPOINTS = "serving-endpoints"
"""Where workloads answer."""
HOST_READY = "serving host ready"
"""In the log of a host that has begun its work, or waits for another to end."""
