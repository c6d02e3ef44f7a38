"""What serving hosts and gateways wake each other with, through the store's signals."""

from __future__ import annotations

TOPIC = "serving-workloads"
"""There is something to start, to scale or to end: heard by serving hosts."""
ROUTES = "serving-routes"
"""Weights have changed, or a model server became ready or leaves: heard by gateways, and by who waits."""
