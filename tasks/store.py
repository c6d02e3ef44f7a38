"""The process's store, opened once from the environment's settings."""

from __future__ import annotations

import functools

from catchment.observe import export, logs
from catchment.settings import Settings
from catchment.store import Store, open_store


@functools.cache
def process_store() -> Store:
    """The store that this process's tasks share; with the first look at it the process begins to trace."""
    settings = Settings()
    logs.take_over(settings.log_format, "flow")
    export.configure("flow", settings.otlp_endpoint)
    return open_store(settings)
